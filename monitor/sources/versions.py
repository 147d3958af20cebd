"""Rows of several versions of a model: the champion's alone, or all of them beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from monitor.config import CompareConfig, FeatureConfig, LabelConfig, ModelConfig
from monitor.models import DECISION, Roles, Window
from monitor.sources import normal
from monitor.sources.roles import by_rows, own_labels, spelled_out
from monitor.sources.shapes import CLASS_SCORES, LABEL, LABEL_TIME, NEVER, TIME, VERSION, ColumnInfo, Read, Scan

if TYPE_CHECKING:
    from monitor.sources.reading import InputStream, LabelStream, Source

KEY = "__key__"


@dataclass(frozen=True)
class VersionRows:
    """How many rows a version has in a span, how many of them with a decision, and its first."""

    n_rows: int
    n_decided: int
    first: datetime


def champion_only(model: ModelConfig, infos: Mapping[str, ColumnInfo]) -> tuple[str, tuple[Any, ...]] | None:
    """The condition that picks the champion's rows out of all; ``None`` where every row is the champion's."""
    if not by_rows(model) or model.compare is None or model.compare.champion is None:
        return None
    return _picked(model, infos, [model.compare.champion])


def _picked(
    model: ModelConfig, infos: Mapping[str, ColumnInfo], names: list[str]
) -> tuple[str, tuple[Any, ...]] | None:
    column = model.model_version
    if column is None or column not in infos:
        return None
    return column, tuple(_fit(name, infos[column]) for name in names)


def _fit(name: str, info: ColumnInfo) -> Any:
    """A version's name in the type of its column; what is no number matches no number."""
    if info.kind != "numeric":
        return name
    try:
        return int(name)
    except ValueError:
        pass
    try:
        return float(name)
    except ValueError:
        return None


def shadow_name(version: str, role: str) -> str:
    """The column of a batch that holds what a shadow version said."""
    return f"__shadow_{role}__{version}"


def seen(source: Source, model: ModelConfig, roles: Roles, window: Window, *, now: datetime) -> dict[str, VersionRows]:
    """Which versions have rows in a span; a decision column that is empty for shadow rows tells who decided."""
    plain = spelled_out(model, roles).model_copy(update={"compare": None, "features": FeatureConfig(), "key": None})
    if roles.decision is None:
        plain = plain.model_copy(update={"threshold": None})
    found: dict[str, VersionRows] = {}
    bare = replace(roles, segments=(), guessed={}, champion=None)
    for batch in source.read_inputs(plain, bare, window, now=now, columns=[]):
        names = batch.column(VERSION)
        has = pc.is_valid(batch.column(DECISION)) if roles.decision is not None else pc.is_valid(names)
        table = pa.table({"v": names, "d": has.cast(pa.int64()), "t": batch.column(TIME)})
        for row in table.group_by("v").aggregate([("d", "sum"), ("d", "count"), ("t", "min")]).to_pylist():
            if row["v"] is None:
                continue
            here = VersionRows(row["d_count"], row["d_sum"], row["t_min"])
            old = found.get(row["v"], VersionRows(0, 0, here.first))
            found[row["v"]] = VersionRows(
                old.n_rows + here.n_rows, old.n_decided + here.n_decided, min(old.first, here.first)
            )
    return found


def read(source: Source, model: ModelConfig, roles: Roles, window: Window, *, now: datetime) -> LabelStream:
    """Stream one row for each request and version of a window: key, version, score, decision, label as of ``now``.

    Of several classes there is the probability of each, too. The last row of each key and version counts. Where shadow
    versions have columns of their own, a row holds these beside the champion's (see :func:`shadow_name`), and there is
    no key.
    """
    from monitor.sources.reading import LabelStream, with_class_scores  # noqa: PLC0415 - it builds on this module

    model = spelled_out(model, roles)
    rows = by_rows(model)
    roles = replace(roles, segments=())
    scan, duplicates = _scan(source, model, roles, window, now=now)

    def batches(stream: InputStream) -> Iterator[pa.RecordBatch]:
        assert isinstance(stream, LabelStream)  # noqa: S101 - made so below
        if model.labels is not None:
            found = source._labelled_rows(model, roles, scan, window=window, now=now, stream=stream)
        else:
            found = _bare(source, model, roles, scan)
        for raw, shaped in found:
            yield _beside(raw, with_class_scores(shaped, raw), model, source._infos(scan.relation), rows=rows)

    return LabelStream(batches, duplicates=duplicates)


def _bare(
    source: Source, model: ModelConfig, roles: Roles, scan: Scan
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """The rows of a scan as they are, and shaped, where there are no labels."""
    shape = source._shape(model, roles, {}, span=scan.span)
    for raw in source._scanner.scan(scan):
        kept, moments, _ = shape.cut(raw)
        yield kept, shape.shaped(kept, moments)


def _scan(source: Source, model: ModelConfig, roles: Roles, window: Window, *, now: datetime) -> tuple[Scan, int]:
    """All rows of the versions that are compared, with what tells them apart."""
    compare = model.compare
    if compare is None:
        raise ValueError("the model has no `compare`")
    plain: dict[str, Any] = {"compare": None, "features": FeatureConfig()}
    if by_rows(model):
        plain["key"] = [*(model.key or []), str(model.model_version)]
    scan, duplicates = source._prediction_scan(model.model_copy(update=plain), roles, window, now=now, features={})
    infos = source._infos(scan.relation)
    if by_rows(model):
        source._check_names(model.key or [], scan.relation)
        if compare.champion is not None and compare.challengers:
            scan = replace(scan, only=_picked(model, infos, [compare.champion, *compare.challengers]))
    if by_rows(model) or (model.labels is not None and not own_labels(model)):
        for at, name in enumerate(model.key or []):
            scan.reads[f"__key{at}__"] = _plain_read(infos[name])
    _read_shadows(source, compare, scan, infos)
    if model.labels is not None:
        _read_labels(source, model, model.labels, scan, infos)
    return scan, duplicates


def _read_shadows(source: Source, compare: CompareConfig, scan: Scan, infos: Mapping[str, ColumnInfo]) -> None:
    for version, columns in compare.shadow.items():
        named = [each for each in (columns.score, columns.prediction, *columns.scores.values()) if each]
        source._check_names(named, scan.relation)
        for name, column in columns.scores.items():
            scan.reads[shadow_name(version, f"{CLASS_SCORES}{name}")] = Read(column, "number", infos[column])
        if columns.score is not None:
            scan.reads[shadow_name(version, "score")] = Read(columns.score, "number", infos[columns.score])
        if columns.prediction is not None:
            scan.reads[shadow_name(version, "decision")] = _plain_read(infos[columns.prediction])


def _read_labels(
    source: Source, model: ModelConfig, labels: LabelConfig, scan: Scan, infos: Mapping[str, ColumnInfo]
) -> None:
    """What of the labels lies in the predictions' own rows."""
    from monitor.sources.reading import label_read  # noqa: PLC0415 - it builds on this module

    if own_labels(model):
        source._check_names([labels.label], scan.relation)
        scan.reads[LABEL] = label_read(infos[labels.label], model)
        if labels.time is not None:
            form = source._form(scan.relation, labels.time)
            scan.reads[LABEL_TIME] = Read(form.column, "time", infos[form.column], time=form)
    condition = labels.only_when
    if condition is not None and condition.column is not None:
        source._check_names([condition.column], scan.relation)
        scan.reads[NEVER] = _plain_read(infos[condition.column])
    source._check_names(labels.scores.values(), scan.relation)
    for name, column in labels.scores.items():
        scan.reads[f"{CLASS_SCORES}{name}"] = Read(column, "number", infos[column])


def _plain_read(info: ColumnInfo) -> Read:
    return Read(info.name, "bool" if info.kind == "bool" else "text", info)


def _beside(
    raw: pa.RecordBatch, shaped: pa.RecordBatch, model: ModelConfig, infos: Mapping[str, ColumnInfo], *, rows: bool
) -> pa.RecordBatch:
    """The shaped rows with their key, or with what the shadow versions said of them."""
    arrays = dict(zip(shaped.schema.names, shaped.columns, strict=True))
    if rows:
        parts = [normal.whole_text(normal.storage(raw.column(f"__key{i}__"))) for i in range(len(model.key or []))]
        arrays[KEY] = parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "\x1f")
    for version, columns in (model.compare.shadow if model.compare is not None else {}).items():
        for name in [shadow_name(version, "score")] if columns.score is not None else []:
            arrays[name] = normal.to_float(normal.storage(raw.column(name)))
        for name in [shadow_name(version, f"{CLASS_SCORES}{each}") for each in columns.scores]:
            arrays[name] = normal.to_float(normal.storage(raw.column(name)))
        name = shadow_name(version, "decision")
        if columns.prediction is not None:
            values = normal.storage(raw.column(name))
            flags = normal.to_flags(values) if infos[columns.prediction].kind == "bool" else values
            classes = model.labels is not None and model.labels.task == "multiclass"
            arrays[name] = normal.to_classes(flags) if classes else normal.to_truth(flags, model.positive)
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
