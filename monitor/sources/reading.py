"""What is asked about a model's data, answered once for every kind of storage."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detectors.profiles import ColumnSpec, NumericProfile, NumericSpec
from monitor.config import (
    FileBaseline,
    ImportanceTable,
    ModelConfig,
    QueryBaseline,
    TableBaseline,
    TimeColumn,
)
from monitor.models import DECISION, SCORE, Job, Roles, Window
from monitor.sources import joining, normal, times, versions
from monitor.sources.errors import PermanentSourceError, missing
from monitor.sources.prefetch import prefetch
from monitor.sources.roles import from_json, own_labels, resolve, spelled_out
from monitor.sources.shapes import (
    BAD_TIMES,
    CLASS_SCORES,
    ENTITY,
    LABEL,
    LABEL_TIME,
    NEVER,
    TIME,
    VERSION,
    ColumnInfo,
    Extent,
    Join,
    Pairs,
    Read,
    Relation,
    Scan,
    Scanner,
    Span,
    TimeForm,
    Work,
)
from monitor.sources.shaping import Shape, ShapedWork, as_feature, column_of
from monitor.sources.unmatched import Drawn, Unmatched

_ALWAYS = (datetime(1970, 1, 1, tzinfo=times.UTC), datetime(2100, 1, 1, tzinfo=times.UTC))
"""The window that is bound to a query which is asked for all of its rows."""
_TICK = timedelta(microseconds=1)
_KEY_CHUNK = 500


class InputStream:
    """The record batches of one read, fetched ahead in a thread; iterate once.

    Where the rows lie on a cluster, :meth:`each_part` does a work there instead.  ``duplicates`` counts rows replaced
    by a later one of the same key; ``bad_times`` rows whose time did not read, known once the stream has ended.
    """

    def __init__(
        self,
        make: Callable[[InputStream], Iterator[pa.RecordBatch]],
        *,
        duplicates: int = 0,
        spread: Callable[[Work], Iterator[tuple[str, bytes]]] | None = None,
    ) -> None:
        self._make = make
        self._spread = spread
        self.duplicates = duplicates
        self.bad_times = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return prefetch(self._make(self))

    @property
    def is_spread(self) -> bool:
        """Whether the rows lie on a cluster that can do the work itself (see :meth:`each_part`)."""
        return self._spread is not None

    def each_part(self, work: Work) -> Iterator[tuple[str, bytes]]:
        """Do ``work`` to each part of the rows where it lies, and give what the parts leave, in any order."""
        if self._spread is None:
            raise ValueError("these rows are not spread over a cluster: iterate over them")
        for key, blob in self._spread(work):
            if key == BAD_TIMES:
                self.bad_times += int.from_bytes(blob, "little")
            else:
                yield key, blob


class LabelStream(InputStream):
    """Batches of predictions with their labels; the counts are complete once the stream has ended.

    ``contradictions`` counts keys with differing labels, ``before_prediction`` labels that landed before their
    prediction, ``despite`` labels of predictions that could not have had one, and ``n_known`` all labels of these
    predictions in a table of their own, several of one prediction among them.
    """

    contradictions = 0
    before_prediction = 0
    n_known = 0
    despite = 0


class Source:
    """A source of logged data; see the methods. Nothing is ever written to it."""

    def __init__(
        self,
        scanner: Scanner,
        *,
        zone: str,
        others: Callable[[str], Source] | None = None,
        read_file: Callable[[Any], tuple[Scanner, Relation]] | None = None,
    ) -> None:
        self._scanner = scanner
        self._zone = zone
        self._others = others
        self._read_file = read_file
        self._described: dict[tuple[Relation, bool], dict[str, ColumnInfo]] = {}
        self._forms: dict[tuple[Relation, str, str, str | None], TimeForm] = {}
        self.helpers: dict[str, Source] = {}
        """Other sources that were opened for this one's models."""

    # --- what is there ---------------------------------------------------------------------------

    def columns(self, table: str) -> list[ColumnInfo]:
        """List a table's columns with what a sample of its rows shows."""
        return self._scanner.describe(Relation(table=table))

    def tables(self) -> list[str]:
        """Names of the tables that lie beside each other here; empty where that is not cheap to say."""
        return self._scanner.tables()

    def roles(self, model: ModelConfig) -> Roles:
        """Resolve what each column of a model is for; looks at the database anew."""
        self._described.clear()
        self._forms.clear()
        here = self._infos(_relation(model))
        where = f"{self._scanner.where}, {_relation(model).name}"
        features: Sequence[ColumnInfo] | None = None
        if model.features.from_:
            if model.features.from_ not in here:
                raise missing("column", model.features.from_, among=here, where=where)
            rows = [normal.flatten(v) for v in here[model.features.from_].values]
            features = from_json(rows, where=where, column=model.features.from_)
        elif model.features.table:
            features = list(self._infos(Relation(table=model.features.table)).values())
            self._check_names(model.features.key or model.key or [], Relation(table=model.features.table))
        return resolve(list(here.values()), model, features=features, where=where)

    def _infos(self, relation: Relation) -> dict[str, ColumnInfo]:
        key = (relation, True)
        if key not in self._described:
            self._described[key] = {info.name: info for info in self._scanner.describe(relation)}
        return self._described[key]

    def _check_names(self, names: Iterable[str], relation: Relation) -> None:
        infos = self._infos(relation)
        for name in names:
            if name not in infos:
                raise missing("column", name, among=infos, where=f"{self._scanner.where}, {relation.name}")

    def _form(self, relation: Relation, spec: TimeColumn) -> TimeForm:
        self._check_names([spec.column], relation)
        info = self._infos(relation)[spec.column]
        known = relation, spec.column, spec.unit, spec.zone
        if known not in self._forms:
            where = f"{self._scanner.where}, {relation.name}"
            self._forms[known] = times.time_form(info, spec, zone=self._zone, where=where)
        return self._forms[known]

    # --- inputs ----------------------------------------------------------------------------------

    def read_inputs(
        self,
        model: ModelConfig,
        roles: Roles,
        window: Window | None,
        *,
        now: datetime,
        columns: Sequence[str] | None = None,
    ) -> InputStream:
        """Stream a window's rows (or all rows before `now`): features, segments, time, score, decision, version.

        The last row of each key counts; how many others there were is in ``duplicates``.
        """
        model = spelled_out(model, roles)
        features = {n: k for n, k in roles.features.items() if columns is None or n in columns}
        relation = _relation(model)
        scan, duplicates = self._prediction_scan(model, roles, window, now=now, features=features)
        self._check_names([relation_column for relation_column in roles.segments if not model.features.table], relation)
        return self._stream(scan, self._shape(model, roles, features, span=scan.span), duplicates=duplicates)

    def _stream(self, scan: Scan, shape: Shape, *, duplicates: int = 0) -> InputStream:
        spread = self._scanner.spread

        def batches(stream: InputStream) -> Iterator[pa.RecordBatch]:
            for raw in self._scanner.scan(scan):
                batch, bad_times = shape.rows(raw)
                stream.bad_times += bad_times
                yield batch

        there = None if spread is None else lambda work: spread(scan, ShapedWork(shape, work))
        return InputStream(batches, duplicates=duplicates, spread=there)

    def count_there(
        self, model: ModelConfig, roles: Roles, window: Window, specs: Mapping[str, ColumnSpec], *, now: datetime
    ) -> dict[str, NumericProfile]:
        """Count numeric features inside the database, where `push_down` asks for it and it can; else nothing is there.

        The columns that are counted here need not be read.
        """
        model = spelled_out(model, roles)
        numeric = {n: s for n, s in specs.items() if isinstance(s, NumericSpec) and n in roles.features}
        form = self._form(_relation(model), model.time)
        exact = form.form in ("aware", "epoch") or (form.zone == "UTC" and form.form == "naive")
        if not numeric or not exact or roles.segments or model.features.from_ or not self._scanner.pushes_down:
            return {}
        scan, _ = self._prediction_scan(model, roles, window, now=now, features=dict.fromkeys(numeric, "numeric"))
        return self._scanner.count_numbers(scan, numeric)

    def _prediction_scan(
        self,
        model: ModelConfig,
        roles: Roles,
        window: Window | None,
        *,
        now: datetime,
        features: dict[str, str],
        look: bool = True,
    ) -> tuple[Scan, int]:
        """What is read of the predictions, and how many rows others replace, where one is to ``look`` for them."""
        relation = _relation(model)
        infos = self._infos(relation)
        span = self._window_span(model, relation, window, now=now)
        reads = self._role_reads(model, roles, infos, span.time)
        join = self._feature_join(model, features, reads) if model.features.table else None
        if model.features.from_:
            reads["__json__"] = Read(model.features.from_, "raw", infos[model.features.from_])
        elif join is None:
            for name in dict.fromkeys([*features, *roles.segments]):
                reads[name] = _feature_read(infos, name, features.get(name, "categorical"), self._scanner, relation)
        only = versions.champion_only(model, infos)
        scan = Scan(relation, reads, span=span, join=join, window=_pair(window, now), only=only)
        unsure = look and self._needs_dedupe(model, infos)
        duplicates = self._scanner.duplicates(scan, model.key or ()) if unsure else 0
        return (replace(scan, dedupe=tuple(model.key or ())) if duplicates else scan), duplicates

    def _needs_dedupe(self, model: ModelConfig, infos: dict[str, ColumnInfo]) -> bool:
        return bool(model.key) and not any(infos[k].unique for k in model.key or [] if k in infos)

    def _window_span(self, model: ModelConfig, relation: Relation, window: Window | None, *, now: datetime) -> Span:
        form = self._form(relation, model.time)
        known = now + _TICK
        return Span(form, window.start, min(window.end, known)) if window else Span(form, None, known)

    def _role_reads(
        self, model: ModelConfig, roles: Roles, infos: dict[str, ColumnInfo], form: TimeForm
    ) -> dict[str, Read]:
        reads = {TIME: Read(roles.time, "time", infos[roles.time], time=form)}
        for name, column, how in (
            (SCORE, roles.score, "number"),
            (DECISION, roles.decision, "text"),
            (VERSION, roles.version, "text"),
        ):
            if column is not None:
                if column not in infos:
                    raise missing(
                        "column", column, among=infos, where=f"{self._scanner.where}, {_relation(model).name}"
                    )
                info = infos[column]
                flags = how == "text" and info.kind == "bool"
                reads[name] = Read(column, "bool" if flags else how, info)  # type: ignore[arg-type]
        reads |= self._entity_reads(model, infos)
        return reads

    def _entity_reads(self, model: ModelConfig, infos: dict[str, ColumnInfo]) -> dict[str, Read]:
        """The columns of the model's entity, where the relation has all of them."""
        names = model.entity or []
        return {f"{ENTITY}{at}": _raw_read(infos[n]) for at, n in enumerate(names) if set(names) <= set(infos)}

    def _feature_join(self, model: ModelConfig, features: dict[str, str], reads: dict[str, Read]) -> Join:
        other = Relation(table=model.features.table)
        infos = self._infos(other)
        key = tuple(model.features.key or model.key or ())
        left = tuple(model.key or model.features.key or ())
        if not key or len(left) != len(key):
            raise PermanentSourceError(
                f"{self._scanner.where}: `features.table` needs a `key` that both tables have", reason="key_missing"
            )
        own = self._infos(_relation(model))
        for name, kind in features.items():
            reads[name] = replace(_feature_read(infos, name, kind, self._scanner, other), joined=True)
        for name in model.segments:
            if name not in reads:
                source, joined = (own, False) if name in own else (infos, True)
                read = _feature_read(source, name, "categorical", self._scanner, other)
                reads[name] = replace(read, joined=joined)
        dated = [n for n, i in infos.items() if i.kind in ("time", "date")]
        newest = model.time.column if model.time.column in infos else (dated[0] if dated else None)
        several = not (len(key) == 1 and infos[key[0]].unique)
        return Join(other, left, key, newest_by=newest, dedupe=several)

    def _shape(self, model: ModelConfig, roles: Roles, features: dict[str, str], *, span: Span | None) -> Shape:
        infos = self._infos(Relation(table=model.features.table) if model.features.table else _relation(model))
        decision = self._infos(_relation(model)).get(roles.decision or "")
        return Shape(
            features,
            tuple(roles.segments),
            {name: infos[name].kind for name in [*features, *roles.segments] if name in infos},
            decision=decision.kind if decision is not None else "text",
            threshold=model.threshold if _task(model) == "binary" else None,
            positive=model.positive,
            classes=_task(model) == "multiclass",
            span=span,
        )

    # --- labels ----------------------------------------------------------------------------------

    def read_labels(self, model: ModelConfig, roles: Roles, window: Window, *, now: datetime) -> LabelStream:
        """Stream one row for each prediction of the window, with its label as it was known at `now`.

        Predictions are held in memory by key (narrow columns, some millions of rows at once), and labels in a table of
        their own stream past them.
        """
        model = spelled_out(model, roles)
        if model.labels is None:
            return LabelStream(lambda _: iter(()))
        own = own_labels(model)
        # Keys that are held for the labels show by themselves whether some are alike.
        look = own or not self._scanner.exact_keys
        scan, duplicates = self._prediction_scan(model, roles, window, now=now, features={}, look=look)
        infos = self._infos(_relation(model))
        if own:
            self._check_names([model.labels.label], _relation(model))
            scan.reads[LABEL] = label_read(infos[model.labels.label], model)
            if model.labels.time is not None:
                form = self._form(_relation(model), model.labels.time)
                scan.reads[LABEL_TIME] = Read(form.column, "time", infos[form.column], time=form)
        elif not model.key:
            raise PermanentSourceError(
                f"{self._scanner.where}: labels in a table of their own need the model's `key`", reason="key_missing"
            )
        else:
            self._check_names(model.key, _relation(model))
            for at, name in enumerate(model.key):
                scan.reads[f"__key{at}__"] = key_read(infos[name])
        condition = model.labels.only_when
        if condition is not None and condition.column is not None:
            self._check_names([condition.column], _relation(model))
            scan.reads[NEVER] = _raw_read(infos[condition.column])
        self._check_names(model.labels.scores.values(), _relation(model))
        for name, column in model.labels.scores.items():
            scan.reads[f"{CLASS_SCORES}{name}"] = Read(column, "number", infos[column])

        def batches(stream: InputStream) -> Iterator[pa.RecordBatch]:
            assert isinstance(stream, LabelStream)  # noqa: S101 - made so below
            unsure = not look and self._needs_dedupe(model, infos)
            rows = self._labelled_rows(model, roles, scan, window=window, now=now, stream=stream, unsure=unsure)
            for raw, found in rows:
                yield with_class_scores(found, raw)

        return LabelStream(batches, duplicates=duplicates)

    def _labelled_rows(
        self,
        model: ModelConfig,
        roles: Roles,
        scan: Scan,
        *,
        window: Window,
        now: datetime,
        stream: LabelStream,
        unsure: bool = False,
    ) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        """The raw rows of a scan, and what they come to with their labels; ``unsure`` whether keys repeat."""
        if not own_labels(model):
            yield from joining.with_labels(
                self, model, roles, scan, window=window, now=now, stream=stream, unsure=unsure
            )
            return
        shape = self._shape(model, roles, {}, span=scan.span)
        for raw in joining.gathered(self._scanner.scan(scan)):
            kept, moments, _ = shape.cut(raw)
            told = self._own_truth(kept, model, now=now)
            shaped = shape.shaped(kept, moments)
            yield kept, self._labelled(kept, shaped, model, told, window=window, now=now, stream=stream)

    def label_values(self, model: ModelConfig) -> tuple[str, tuple[Any, ...]]:
        """Name the column with the labels, and give what the first rows hold there; missing values are left out.

        Where these are all the same the least and the greatest of all rows follow: labels may lie in the order in which
        they landed, those of one class first.
        """
        labels = model.labels
        if labels is None:
            return "", ()
        source, relation = self, _relation(model)
        if not own_labels(model):
            source, relation = self._other(labels.source), Relation(table=labels.table, query=labels.query)
        source._check_names([labels.label], relation)
        info = source._infos(relation)[labels.label]
        ends: tuple[Any, ...] = ()
        if info.kind in ("text", "numeric") and len({str(value) for value in info.values}) == 1:
            scan = Scan(relation, {}, window=_ALWAYS)
            ends = tuple(each for each in source._scanner.aggregate(scan, time=labels.label)[1:] if each is not None)
        return f"column {labels.label!r} of {relation.name}", (*info.values, *ends)

    def values(self, model: ModelConfig, column: str) -> tuple[str, tuple[Any, ...]]:
        """The same for a column of the predictions."""
        self._check_names([column], _relation(model))
        return f"column {column!r} of {_relation(model).name}", self._infos(_relation(model))[column].values

    def newest_landing(self, model: ModelConfig, *, now: datetime) -> datetime | None:
        """When the newest label of any prediction landed, as of `now`; ``None`` where labels carry no time."""
        labels = model.labels
        if labels is None or labels.time is None:
            return None
        source = self if own_labels(model) else self._other(labels.source)
        relation = _relation(model) if own_labels(model) else Relation(table=labels.table, query=labels.query)
        form = source._form(relation, labels.time)
        span = Span(form, None, now + _TICK)
        always = (datetime(1970, 1, 1, tzinfo=times.UTC), now + _TICK)
        scan = Scan(relation, {}, upto=span, window=always)
        _, _, last = source._scanner.aggregate(scan, time=form.column)
        moments = times.to_utc(normal.any_column([last]), form).to_pylist()
        return moments[0] if moments else None

    def finds_by_key(self, model: ModelConfig) -> bool:
        """Whether a prediction is found by its key without reading all of its time: a column of it is unique."""
        return bool(model.key) and not self._needs_dedupe(model, self._infos(_relation(model)))

    def unmatched_labels(
        self, model: ModelConfig, window: Window, *, reach: timedelta, now: datetime
    ) -> Unmatched | None:
        """Look up some of the labels that landed in a window: how many ids has no prediction, how old are the others?

        Predictions are looked for from ``reach`` before the window on, whatever the model's `where` keeps of them.
        ``None`` where labels lie with the predictions, or carry no time.
        """
        labels = model.labels
        if labels is None or labels.time is None or own_labels(model) or not model.key:
            return None
        source, relation = self._other(labels.source), Relation(table=labels.table, query=labels.query)
        form, infos = source._form(relation, labels.time), source._infos(relation)
        names = tuple(labels.key or model.key)
        source._check_names([*names, labels.label], relation)
        span = Span(form, window.start, min(window.end, now + _TICK))
        reads = {f"__key{at}__": _raw_read(infos[name]) for at, name in enumerate(names)}
        ids = list(reads)
        reads |= {
            LABEL: label_read(infos[labels.label], model),
            LABEL_TIME: Read(form.column, "time", infos[form.column], time=form),
        }
        drawn_ids = Drawn()
        for raw in source._scanner.scan(Scan(relation, reads, upto=span, window=(window.start, now))):
            landed = times.to_utc(column_of(raw, LABEL_TIME), form)
            kept = pc.and_(pc.fill_null(times.inside(landed, span), False), pc.is_valid(column_of(raw, LABEL)))
            drawn_ids.add([column_of(raw, name).filter(kept) for name in ids], landed.filter(kept))
        since, here = window.start - reach, Relation(table=model.table, query=model.query)
        own = [self._infos(here)[name] for name in model.key]
        known = {f"__key{at}__": _raw_read(info) for at, info in enumerate(own)}
        wanted = [each for each in (_fitted(item, own) for item in drawn_ids.ids) if None not in each]
        n_missing, ages = drawn_ids.looked_up([])
        if wanted:
            made = self._form(here, model.time)
            moment = Read(made.column, "time", self._infos(here)[made.column], time=made)
            scan = Scan(
                here,
                {TIME: moment, **known},
                span=Span(made, since, now + _TICK),
                keys=(tuple(model.key), wanted),
                window=(since, now + _TICK),
            )
            n_missing, ages = drawn_ids.looked_up(
                (_tuples(raw, list(known)), times.to_utc(column_of(raw, TIME), made).to_pylist())
                for raw in self._scanner.scan(scan)
            )
        return Unmatched(drawn_ids.n_rows, len(drawn_ids.ids), n_missing, since, ages)

    def _known_labels(self, raw: pa.RecordBatch, scan: Scan, model: ModelConfig) -> tuple[pa.Array, pa.Array]:
        """What rows of the labels' table say, and when it landed."""
        read = scan.reads.get(LABEL_TIME)
        moments = pa.nulls(raw.num_rows, times.UTC_US)
        if read is not None and read.time is not None:
            moments = times.to_utc(column_of(raw, LABEL_TIME), read.time)
        return _truth(column_of(raw, LABEL), scan.reads[LABEL].info, model), moments

    def _label_scan(self, model: ModelConfig, predictions: Scan, *, now: datetime) -> tuple[Source, Scan, pa.DataType]:
        """Where the labels are, what is read there, and of which type they will be."""
        labels = model.labels
        if labels is None:
            raise ValueError("the model has no labels")
        source = self._other(labels.source)
        relation = Relation(table=labels.table, query=labels.query)
        key = tuple(labels.key or model.key or ())
        source._check_names([*key, labels.label], relation)
        infos = source._infos(relation)
        reads = {f"__key{at}__": key_read(infos[name]) for at, name in enumerate(key)}
        reads[LABEL] = label_read(infos[labels.label], model)
        upto = None
        if labels.time is not None:
            form = source._form(relation, labels.time)
            reads[LABEL_TIME] = Read(form.column, "time", infos[form.column], time=form)
            upto = Span(form, None, now + _TICK)
        among = (key, predictions, tuple(model.key or ())) if source is self else None
        start = predictions.window[0] if predictions.window else None
        known = (start, now) if start else predictions.window
        scan = Scan(relation, reads, upto=upto, among=among, window=known)
        return source, scan, _LABEL_TYPES[_task(model)]

    def _labelled(
        self,
        raw: pa.RecordBatch,
        shaped: pa.RecordBatch,
        model: ModelConfig,
        told: tuple[pa.Array, pa.Array],
        *,
        window: Window,
        now: datetime,
        stream: LabelStream,
    ) -> pa.RecordBatch:
        if model.labels is None:
            raise ValueError("the model has no labels")
        moments = column_of(shaped, TIME)
        truth, landed = told
        stream.before_prediction += int(pc.sum(pc.less(landed, moments)).as_py() or 0)
        never = self._never_labelled(raw, shaped, model)
        if never is not None:
            stream.despite += int(pc.sum(pc.and_(never, pc.is_valid(truth))).as_py() or 0)
            never = pc.and_(never, pc.is_null(truth))
        if model.labels.absent_means is not None and now >= window.end + model.labels.delay:
            filled = pc.fill_null(truth, _absent(model))
            truth = filled if never is None else pc.if_else(never, pa.scalar(None, truth.type), filled)
        arrays, names = [*shaped.columns, truth, landed], [*shaped.schema.names, LABEL, LABEL_TIME]
        if never is not None:
            arrays, names = [*arrays, never], [*names, NEVER]
        return pa.RecordBatch.from_arrays(arrays, names=names)

    def _never_labelled(self, raw: pa.RecordBatch, shaped: pa.RecordBatch, model: ModelConfig) -> pa.Array | None:
        """Which predictions can have no label, as far as their decision or column says so; ``None``: not configured."""
        condition = None if model.labels is None else model.labels.only_when
        if condition is None:
            return None
        if condition.column is not None:
            info = self._infos(_relation(model))[condition.column]
            values = column_of(raw, NEVER)
            met = normal.to_truth(normal.to_flags(values) if info.kind == "bool" else values, condition.is_)
        elif DECISION in shaped.schema.names:
            decided = pc.not_equal(normal.to_float(column_of(shaped, DECISION)), 0.0)
            met = decided if condition.decision == "positive" else pc.invert(decided)
        else:
            raise PermanentSourceError(
                f"{self._scanner.where}: labels.only_when needs the model's decision: a `prediction`, or a `score` "
                "with a `threshold`",
                reason="decision_missing",
            )
        return pc.fill_null(pc.invert(met), False)

    def _own_truth(self, raw: pa.RecordBatch, model: ModelConfig, *, now: datetime) -> tuple[pa.Array, pa.Array]:
        labels = model.labels
        if labels is None:
            raise ValueError("the model has no labels")
        info = self._infos(_relation(model))[labels.label]
        truth = _truth(column_of(raw, LABEL), info, model)
        if labels.time is None:
            return truth, pa.nulls(len(truth), times.UTC_US)
        form = self._form(_relation(model), labels.time)
        landed = times.to_utc(column_of(raw, LABEL_TIME), form)
        known = times.inside(landed, Span(form, None, now + _TICK))
        return pc.if_else(known, truth, pa.scalar(None, truth.type)), pc.if_else(
            known, landed, pa.scalar(None, landed.type)
        )

    def _other(self, name: str | None) -> Source:
        if name is None:
            return self
        if self._others is None:
            raise PermanentSourceError(
                f"{self._scanner.where}: source {name!r} is not known here", reason="source_missing"
            )
        return self._others(name)

    # --- skew ------------------------------------------------------------------------------------

    def read_pairs(self, model: ModelConfig, roles: Roles, window: Window, *, now: datetime) -> Pairs:
        """Fetch online and offline rows of a seeded sample of the window's requests.

        The sample is the n smallest keyed hashes: the same requests whatever the order of the rows.
        """
        model = spelled_out(model, roles)
        if model.skew is None or not model.key:
            raise PermanentSourceError(f"{self._scanner.where}: skew needs the model's `key`", reason="key_missing")
        own_key = tuple(model.key)
        self._check_names(own_key, _relation(model))
        offline = model.skew.offline
        far = self._other(offline.source)
        relation = Relation(table=offline.table, query=offline.query)
        far_key = tuple(offline.key or own_key)
        far._check_names(far_key, relation)
        features = self._shared(model, roles, far._infos(relation))
        entity = far_key if all(k in self._infos(_relation(model)) for k in far_key) else own_key
        n_window, picked = self._pick(model, roles, window, now=now, key=own_key)
        online, moments, entities = self._online(
            model, roles, window, now=now, keys=picked, features=features, entity=entity
        )
        found, duplicates = self._offline(
            model, far, relation, far_key, entities, moments, features, now=now, window=window
        )
        rows = [found.get(at) for at in range(online.num_rows)]
        matched = np.array([row is not None for row in rows], dtype=bool)
        columns = {
            name: normal.from_python([None if row is None else row[name] for row in rows], kind)
            for name, kind in features.items()
        }
        return Pairs(online, pa.table(columns), matched, n_window, online.num_rows, duplicates)

    def _shared(self, model: ModelConfig, roles: Roles, far: dict[str, ColumnInfo]) -> dict[str, str]:
        if model.skew is None:
            return {}
        names = model.skew.features or list(roles.features)
        renamed = model.skew.offline.columns
        for name in names:
            column = renamed.get(name, name)
            if column not in far and (model.skew.features or name in renamed):
                raise missing("column", column, among=far, where=f"{self._scanner.where}, the offline values")
        return {n: roles.features[n] for n in names if n in roles.features and renamed.get(n, n) in far}

    def _pick(
        self, model: ModelConfig, roles: Roles, window: Window, *, now: datetime, key: tuple[str, ...]
    ) -> tuple[int, list[tuple[Any, ...]]]:
        if model.skew is None:
            return 0, []
        scan, _ = self._prediction_scan(model, roles, window, now=now, features={})
        infos = self._infos(_relation(model))
        reads = {TIME: scan.reads[TIME], **{f"__key{i}__": _raw_read(infos[n]) for i, n in enumerate(key)}}
        scan = replace(scan, reads=reads, join=None)
        seed = str(model.skew.seed).encode()
        heap: list[tuple[int, tuple[Any, ...]]] = []
        n_window = 0
        for raw in self._scanner.scan(scan):
            keep = times.inside(times.to_utc(column_of(raw, TIME), scan.span.time), scan.span)  # type: ignore[union-attr, arg-type]
            columns = [column_of(raw, f"__key{i}__").filter(keep).to_pylist() for i in range(len(key))]
            for values in zip(*columns, strict=True):
                n_window += 1
                if any(v is None for v in values):
                    continue
                text = "\x1f".join(normal.canonical(v) for v in values)
                rank = -int.from_bytes(
                    hashlib.blake2b(text.encode("utf-8", "replace"), key=seed[:64], digest_size=8).digest()
                )
                if len(heap) < model.skew.sample:
                    heapq.heappush(heap, (rank, values))
                elif rank > heap[0][0]:
                    heapq.heapreplace(heap, (rank, values))
        return n_window, [values for _, values in sorted(heap, key=lambda item: -item[0])]

    def _online(
        self,
        model: ModelConfig,
        roles: Roles,
        window: Window,
        *,
        now: datetime,
        keys: Sequence[tuple[Any, ...]],
        features: dict[str, str],
        entity: tuple[str, ...],
    ) -> tuple[pa.Table, list[datetime], list[tuple[Any, ...]]]:
        scan, _ = self._prediction_scan(model, roles, window, now=now, features=features)
        infos = self._infos(_relation(model))
        shape = self._shape(model, replace(roles, segments=()), features, span=scan.span)
        for i, name in enumerate(entity):
            scan.reads[f"__key{i}__"] = _raw_read(infos[name])
        parts: list[pa.RecordBatch] = []
        entities: list[tuple[Any, ...]] = []
        for chunk in _chunks(keys):
            for raw in self._scanner.scan(replace(scan, keys=(tuple(model.key or ()), chunk))):
                keep = times.inside(times.to_utc(column_of(raw, TIME), scan.span.time), scan.span)  # type: ignore[union-attr, arg-type]
                kept = raw.filter(keep)
                parts.append(shape.rows(kept)[0])
                entities += zip(*(column_of(kept, f"__key{i}__").to_pylist() for i in range(len(entity))), strict=True)
        if not parts:
            return pa.table({n: normal.from_python([], k) for n, k in features.items()}), [], []
        table = pa.Table.from_batches(parts)
        order = sorted(range(len(entities)), key=lambda at: [normal.canonical(v) for v in entities[at]])
        table = table.take(pa.array(order, pa.int64()))
        return table.select(list(features)), table.column(TIME).to_pylist(), [entities[at] for at in order]

    def _offline(  # noqa: PLR0917
        self,
        model: ModelConfig,
        far: Source,
        relation: Relation,
        key: tuple[str, ...],
        entities: Sequence[tuple[Any, ...]],
        moments: Sequence[datetime],
        features: dict[str, str],
        *,
        now: datetime,
        window: Window,
    ) -> tuple[dict[int, dict[str, Any]], int]:
        """Find each online row's offline row: the latest known at `now` (exact), or at the online time (as-of)."""
        if model.skew is None:
            return {}, 0
        offline = model.skew.offline
        infos = far._infos(relation)
        reads = {f"__key{i}__": _raw_read(infos[name]) for i, name in enumerate(key)}
        for name, kind in features.items():
            column = offline.columns.get(name, name)
            reads[name] = _feature_read(infos, column, kind, far._scanner, relation)
        upto = None
        if offline.time is not None:
            form = far._form(relation, offline.time)
            reads[TIME] = Read(form.column, "time", infos[form.column], time=form)
            upto = Span(form, None, now + _TICK)
        by_key: dict[tuple[str, ...], list[tuple[datetime | None, dict[str, Any]]]] = {}
        wanted = list(dict.fromkeys(entities))
        for chunk in _chunks(wanted):
            typed = [tuple(_fit(v, infos[k]) for v, k in zip(item, key, strict=True)) for item in chunk]
            scan = Scan(relation, reads, upto=upto, keys=(key, typed), window=(window.start, window.end))
            for raw in far._scanner.scan(scan):
                _collect(raw, scan, key=key, features=features, infos=infos, renamed=offline.columns, into=by_key)
        return _match(entities, moments, by_key, asof=model.skew.join == "asof")

    # --- baselines and the rest ------------------------------------------------------------------

    def read_relation(self, model: ModelConfig, roles: Roles, *, now: datetime | None = None) -> InputStream:  # noqa: ARG002
        """Stream the rows of a baseline that is a table, a query or a file: what it has of the model's columns."""
        config = model.baseline
        source: Source = self
        if isinstance(config, TableBaseline):
            source, relation = self._other(config.source), Relation(table=config.table, where=config.where)
        elif isinstance(config, QueryBaseline):
            source, relation = self._other(config.source), Relation(query=config.query)
        elif isinstance(config, FileBaseline):
            if self._read_file is None:
                raise PermanentSourceError(f"{self._scanner.where}: files cannot be read here", reason="file_missing")
            scanner, relation = self._read_file(config.file)
            source = Source(scanner, zone=self._zone)
        else:
            raise ValueError("a baseline of the model's own rows is read with read_inputs")
        return source._stream_relation(model, roles, relation)

    def _stream_relation(self, model: ModelConfig, roles: Roles, relation: Relation) -> InputStream:
        infos = self._infos(relation)
        features = {n: k for n, k in roles.features.items() if n in infos}
        if not features and not (roles.score and roles.score in infos) and model.features.from_ not in infos:
            near = missing("column", next(iter(roles.features), "?"), among=infos,
                           where=f"{self._scanner.where}, {relation.name} (baseline)")  # fmt: skip
            raise near
        reads = {n: _feature_read(infos, n, k, self._scanner, relation) for n, k in features.items()}
        for name in roles.segments:
            if name in infos and name not in reads:
                reads[name] = _feature_read(infos, name, "categorical", self._scanner, relation)
        for name, column, how in ((SCORE, roles.score, "number"), (DECISION, roles.decision, "text"),
                                  (VERSION, roles.version, "text")):  # fmt: skip
            if column in infos:
                flags = how == "text" and infos[column].kind == "bool"
                reads[name] = Read(column, "bool" if flags else how, infos[column])  # type: ignore[arg-type]
        reads |= self._entity_reads(model, infos)
        if model.features.from_ in infos and not features:
            features = dict(roles.features)
            reads["__json__"] = Read(model.features.from_, "raw", infos[model.features.from_])
        shape = Shape(
            features,
            tuple(name for name in roles.segments if name in reads),
            {n: infos[n].kind for n in reads if n in infos},
            decision=infos[roles.decision].kind if roles.decision in infos else "text",
            threshold=model.threshold if _task(model) == "binary" else None,
            positive=model.positive,
            classes=_task(model) == "multiclass",
        )
        return self._stream(Scan(relation, reads), shape)

    def read_importance(self, table: ImportanceTable) -> dict[str, float]:
        """Read feature weights by name; the first of a repeated name counts, missing weights are left out."""
        source = self._other(table.source)
        relation = Relation(table=table.table)
        source._check_names([table.feature, table.weight], relation)
        infos = source._infos(relation)
        reads = {
            "f": Read(table.feature, "text", infos[table.feature]),
            "w": Read(table.weight, "number", infos[table.weight]),
        }
        weights: dict[str, float] = {}
        for raw in source._scanner.scan(Scan(relation, reads)):
            names = normal.to_text(column_of(raw, "f")).cast(pa.string()).to_pylist()
            for name, weight in zip(names, normal.to_float(column_of(raw, "w")).to_pylist(), strict=True):
                if name is not None and weight is not None and np.isfinite(weight):
                    weights.setdefault(name, weight)
        return weights

    def fingerprints(
        self, model: ModelConfig, roles: Roles, windows: Sequence[Window], *, job: Job, now: datetime
    ) -> dict[Window, str]:
        """Tell cheaply whether windows' rows are those of last time; for labels that lie with them, these too.

        In a database one statement tells of all windows, or three where there are such labels.
        """
        windows = sorted(windows)
        if not windows:
            return {}
        model = spelled_out(model, roles)
        relation = _relation(model)
        spans = [self._window_span(model, relation, window, now=now) for window in windows]
        # Versions are compared as labels land, or else with the inputs: then every version's rows matter.
        compares = job is Job.LABELS or (job is Job.INPUTS and model.labels is None)
        only = None if compares else versions.champion_only(model, self._infos(relation))
        scan = Scan(relation, {}, window=(windows[0].start, windows[-1].end), only=only)
        told: list[list[Any]] = [[*each] for each in self._scanner.aggregate_each(scan, spans, time=roles.time)]
        if job is Job.LABELS and model.labels is not None and own_labels(model):
            asked = [(scan, model.labels.label)]
            if model.labels.time is not None:
                upto = Span(self._form(relation, model.labels.time), None, now + _TICK)
                asked.append((replace(scan, upto=upto), model.labels.time.column))
            for each, column in asked:
                found = self._scanner.aggregate_each(each, spans, time=column)
                told = [[*one, *more] for one, more in zip(told, found, strict=True)]
        return {window: _digest(each) for window, each in zip(windows, told, strict=True)}

    def label_table(self, model: ModelConfig, *, now: datetime) -> Extent | None:
        """How many labels the table of labels holds as of `now`, and when the first and last landed.

        As the storage tells it.  ``None`` where labels lie with the predictions.  Where labels carry no time it is of
        what they say.
        """
        labels = model.labels
        if labels is None or own_labels(model):
            return None
        source, relation = self._other(labels.source), Relation(table=labels.table, query=labels.query)
        upto, column = None, labels.label
        if labels.time is not None:
            form = source._form(relation, labels.time)
            upto, column = Span(form, None, now + _TICK), form.column
        source._check_names([column], relation)
        always = (datetime(1970, 1, 1, tzinfo=times.UTC), now + _TICK)
        return source._scanner.aggregate(Scan(relation, {}, upto=upto, window=always), time=column)

    def which_landed(
        self, model: ModelConfig, roles: Roles, windows: Sequence[Window], *, since: datetime, now: datetime
    ) -> set[Window]:
        """The windows of whose predictions labels in a table of their own landed after `since`, and by `now`."""
        return joining.which_landed(self, spelled_out(model, roles), windows, since=since, now=now)

    def n_landed(
        self, model: ModelConfig, roles: Roles, windows: Sequence[Window], *, now: datetime
    ) -> dict[Window, int]:
        """How many labels of windows' predictions were known at `now`: ``n_known`` of a read of them."""
        return joining.n_landed(self, spelled_out(model, roles), windows, now=now)

    def _key_scan(self, model: ModelConfig, span: Window, *, now: datetime) -> Scan:
        """Times and keys of the predictions in a span."""
        relation = _relation(model)
        infos, cut = self._infos(relation), self._window_span(model, relation, span, now=now)
        reads = {TIME: Read(cut.time.column, "time", infos[cut.time.column], time=cut.time)}
        reads |= {f"__key{at}__": key_read(infos[name]) for at, name in enumerate(model.key or [])}
        # Of all versions: they are compared as labels land.
        return Scan(relation, reads, span=cut, window=_pair(span, now))

    def extent(self, model: ModelConfig, roles: Roles) -> tuple[datetime, datetime] | None:
        """Give the earliest and latest event time, or ``None`` when there are no rows (or none with a time)."""
        relation = _relation(model)
        form = self._form(relation, model.time)
        span = Span(form, *_ALWAYS)
        _, first, last = self._scanner.aggregate(Scan(relation, {}, span=span, window=_ALWAYS), time=roles.time)
        moments = times.to_utc(normal.any_column([first, last]), form).to_pylist()
        return (moments[0], moments[1]) if moments[0] is not None and moments[1] is not None else None

    def unread_time(self, model: ModelConfig) -> str | None:
        """A value of the time column, where none of the first rows reads as a time; ``None`` where one does."""
        relation = _relation(model)
        form = self._form(relation, model.time)
        values = list(self._infos(relation)[form.column].values)
        if not values or times.to_utc(normal.any_column(values), form).null_count < len(values):
            return None
        return str(values[0])

    def sample(
        self,
        model: ModelConfig,
        roles: Roles,
        window: Window,
        *,
        columns: Sequence[str],
        rows: int,
        seed: int,
        now: datetime,
    ) -> pa.Table:
        """Draw up to `rows` of a window's rows, evenly and reproducibly, in bounded memory."""
        return drawn(self.read_inputs(model, roles, window, now=now, columns=columns), rows=rows, seed=seed)

    def probe(self) -> list[str]:
        """Connect, and say what answers and with which rights."""
        return self._scanner.probe()

    def cancel(self) -> None:
        """End every read that is under way, here and in the sources of labels and offline values; any thread may."""
        for scanner in self._scanners():
            scanner.cancel()

    def close(self) -> None:
        for scanner in self._scanners():
            scanner.close()

    def _scanners(self) -> list[Scanner]:
        return [self._scanner, *(other._scanner for other in list(self.helpers.values()))]


def drawn(batches: Iterable[pa.RecordBatch], *, rows: int, seed: int) -> pa.Table:
    """Up to `rows` rows of a stream, each as likely as any other, the same for the same stream and seed."""
    rng = np.random.default_rng(seed)
    kept: pa.Table | None = None
    ranks = np.empty(0)
    for batch in batches:
        fresh = pa.Table.from_batches([batch])
        kept = fresh if kept is None else pa.concat_tables([kept, fresh])
        ranks = np.concatenate([ranks, rng.random(batch.num_rows)])
        if len(ranks) > rows:
            best = np.sort(np.argpartition(ranks, rows)[:rows])
            kept, ranks = kept.take(pa.array(best)), ranks[best]
    return kept if kept is not None else pa.table({})


def _digest(told: Sequence[Any]) -> str:
    return hashlib.blake2b(json.dumps(told, default=str).encode(), digest_size=8).hexdigest()


_LABEL_TYPES = {"binary": pa.bool_(), "multiclass": pa.string(), "regression": pa.float64()}


def _task(model: ModelConfig) -> str:
    return "binary" if model.labels is None else model.labels.task


def _decided(values: pa.Array, model: ModelConfig) -> pa.Array:
    """Decisions as true and false, or the predicted classes."""
    return normal.to_classes(values) if _task(model) == "multiclass" else normal.to_truth(values, model.positive)


def _truth(values: pa.Array, info: ColumnInfo, model: ModelConfig) -> pa.Array:
    """Labels as true and false, as classes, or as numbers; null where there is none."""
    if _task(model) == "regression":
        numbers = normal.to_float(values)
        return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))
    spelled = normal.to_flags(values) if info.kind == "bool" else values
    return _decided(spelled, model)


def _absent(model: ModelConfig) -> Any:
    """The label that the lack of one means."""
    told = None if model.labels is None else model.labels.absent_means
    if _task(model) == "binary":
        return normal.canonical(told) == normal.canonical(model.positive)
    made = normal.from_python([told], "numeric" if _task(model) == "regression" else "categorical")
    return made[0].as_py() if _task(model) == "regression" else normal.to_classes(made)[0].as_py()


def with_class_scores(batch: pa.RecordBatch, raw: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with the probabilities of classes that its raw rows hold."""
    names = [name for name in raw.schema.names if name.startswith(CLASS_SCORES)]
    arrays = [*batch.columns, *(normal.to_float(column_of(raw, name)) for name in names)]
    return pa.RecordBatch.from_arrays(arrays, names=[*batch.schema.names, *names]) if names else batch


def _relation(model: ModelConfig) -> Relation:
    return Relation(table=model.table, query=model.query, where=model.where)


def _pair(window: Window | None, now: datetime) -> tuple[datetime, datetime]:
    return (window.start, window.end) if window else (datetime(1970, 1, 1, tzinfo=times.UTC), now + _TICK)


def _raw_read(info: ColumnInfo) -> Read:
    """Keys and labels: numbers as numbers, the rest as text."""
    if info.kind == "bool":
        return Read(info.name, "bool", info)
    return Read(info.name, "text", info)


def key_read(info: ColumnInfo) -> Read:
    """How a key is read that others are compared with."""
    return Read(info.name, "whole", info) if info.is_integer else _raw_read(info)


def label_read(info: ColumnInfo, model: ModelConfig) -> Read:
    """How a label is read: a number of a regression exactly."""
    exact = _task(model) == "regression" and info.kind == "numeric"
    return Read(info.name, "number", info) if exact else key_read(info)


def _feature_read(infos: dict[str, ColumnInfo], name: str, kind: str, scanner: Scanner, relation: Relation) -> Read:
    if name not in infos:
        raise missing("column", name, among=infos, where=f"{scanner.where}, {relation.name}")
    info = infos[name]
    if kind == "numeric":
        return Read(name, "number", info)
    return Read(name, "bool" if info.kind == "bool" else "text", info)


def _tuples(batch: pa.RecordBatch, names: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(column_of(batch, name).to_pylist() for name in names), strict=True))


def _fitted(values: tuple[Any, ...], infos: Sequence[ColumnInfo]) -> tuple[Any, ...]:
    """An id spelled as the columns are that it is looked up in."""
    return tuple(
        normal.canonical(value) if info.kind == "text" and not isinstance(value, str) else _fit(value, info)
        for value, info in zip(values, infos, strict=True)
    )


def _chunks(keys: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    for at in range(0, len(keys), _KEY_CHUNK):
        yield keys[at : at + _KEY_CHUNK]


def _fit(value: Any, info: ColumnInfo) -> Any:
    """Spell a key value in the type of the column it is compared with."""
    if info.kind == "numeric" and isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return float(value) if normal.canonical(value) != value else None
    return str(value) if info.kind == "text" else value


def _collect(
    raw: pa.RecordBatch,
    scan: Scan,
    *,
    key: tuple[str, ...],
    features: dict[str, str],
    infos: dict[str, ColumnInfo],
    renamed: dict[str, str],
    into: dict[tuple[str, ...], list[tuple[datetime | None, dict[str, Any]]]],
) -> None:
    columns = {
        name: as_feature(column_of(raw, name), kind, infos[renamed.get(name, name)].kind).to_pylist()
        for name, kind in features.items()
    }
    form = scan.upto.time if scan.upto else None
    moments: list[datetime | None] = [None] * raw.num_rows
    if form is not None and scan.upto is not None:
        landed = times.to_utc(column_of(raw, TIME), form)
        known = times.inside(landed, scan.upto).to_pylist()
        moments = landed.to_pylist()
    keys = [column_of(raw, f"__key{i}__").to_pylist() for i in range(len(key))]
    for at, parts in enumerate(zip(*keys, strict=True)):
        if form is not None and not known[at]:
            continue
        row = {name: values[at] for name, values in columns.items()}
        into.setdefault(tuple(normal.canonical(v) for v in parts), []).append((moments[at], row))


def _match(
    entities: Sequence[tuple[Any, ...]],
    moments: Sequence[datetime],
    by_key: dict[tuple[str, ...], list[tuple[datetime | None, dict[str, Any]]]],
    *,
    asof: bool,
) -> tuple[dict[int, dict[str, Any]], int]:
    found: dict[int, dict[str, Any]] = {}
    floor = datetime.min.replace(tzinfo=times.UTC)
    for rows in by_key.values():
        rows.sort(key=lambda item: item[0] or floor)
    duplicates = 0 if asof else sum(len(rows) - 1 for rows in by_key.values())
    for at, (entity, moment) in enumerate(zip(entities, moments, strict=True)):
        rows = by_key.get(tuple(normal.canonical(v) for v in entity), [])
        if asof:
            rows = [item for item in rows if item[0] is None or item[0] <= moment]
            duplicates += sum(item[0] == rows[-1][0] for item in rows[:-1])
        if rows:
            found[at] = rows[-1][1]
    return found, duplicates
