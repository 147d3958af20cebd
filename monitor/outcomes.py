"""Labels that are numbers or classes: one window's predictions with them counted, and what they say so far.

The same three curves as for labels that are true or false (`monitor/performance.py`), from other counts: realized,
corrected by how past windows went on from the same age, and for classes with probabilities what is to be expected
before labels.  Nothing is expected of numbers: a predicted number does not say how far off it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors import class_counts, corrected_classes, expected_classes, multiclass, regression
from detectors.calibration import Calibrator
from detectors.class_counts import ClassCounter, ClassCounts
from detectors.classification import Measure
from detectors.delay_counts import DelayCounts, age_edges, count_delays
from detectors.delay_counts import merge as merge_delays
from detectors.development import MIN_WINDOWS
from detectors.expected_classes import Expected
from detectors.posterior import Landed
from detectors.profiles import FloatArray
from detectors.regression import Errors
from monitor import baselines, counting, label_counting, label_reference
from monitor import labels as late
from monitor import performance as judging
from monitor.checks import Scope
from monitor.config import ModelConfig
from monitor.label_tasks import column_of, label_name
from monitor.models import DECISION, SCORE, Baseline, Result, Roles, StoredProfile, Window
from monitor.sources import Source
from monitor.store import ALL, Store

OUTCOMES = "__outcomes__"
REFERENCE_OUTCOMES = "__reference_outcomes__"
"""Counts of the reference rows of each segment; those of all rows are kept by window."""
CLASS_SCORES = "__p__"
BINS = 60
MOST_WINDOWS = 60
"""Matured windows, the newest, that show how a number goes on while labels land."""
ENOUGH = 30
"""Labels of a segment in a window from which it may be told how the segment's own numbers go on."""
SHOWN_CLASSES = 12
"""Classes of the confusion matrix that is kept with a result."""
Outcomes = Errors | ClassCounts


# --- counting --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """What one pass leaves behind; key ``None`` is all rows."""

    outcomes: dict[str | None, Outcomes]
    expected: dict[str | None, Expected]
    delays: DelayCounts
    n_rows: int
    notes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Rows:
    """One batch: places in ``names`` of classes, or numbers; landing in seconds after the window's end."""

    names: Sequence[str]
    labels: npt.NDArray[Any]
    predicted: npt.NDArray[Any]
    landed: FloatArray
    probabilities: Mapping[str, FloatArray]

    def take(self, rows: npt.NDArray[Any]) -> _Rows:
        told = {name: values[rows] for name, values in self.probabilities.items()}
        return _Rows(self.names, self.labels[rows], self.predicted[rows], self.landed[rows], told)


class _Numbers:
    """The sums of all rows, or of those of one segment value."""

    def __init__(self, edges: FloatArray) -> None:
        self._edges, self._total = edges, regression.empty(edges)

    def update(self, rows: _Rows) -> None:
        found = regression.count(rows.predicted, rows.labels, rows.landed, edges=self._edges)
        self._total = regression.merge(self._total, found)

    def counts(self) -> Outcomes:
        return self._total


class _Classes:
    """The counts of all rows, or of those of one segment value, and what to expect of them."""

    def __init__(self, edges: FloatArray, scored: Sequence[str], known: Mapping[str, Calibrator]) -> None:
        self._counter = ClassCounter(edges, scored)
        self.expected = Expected(known) if known else None

    def update(self, rows: _Rows) -> None:
        self._counter.update(rows.names, rows.labels, rows.predicted, rows.landed, rows.probabilities)
        if self.expected is not None:
            self.expected.update(rows.names, rows.predicted, rows.probabilities)

    def counts(self) -> Outcomes:
        return self._counter.counts()


def landing_edges(model: ModelConfig) -> FloatArray:
    """Landing times after a window's end up to maturity, finer where labels are young; the same for all windows."""
    delay = model.labels.delay if model.labels is not None else timedelta(0)
    return age_edges(max(delay.total_seconds(), 1.0), BINS)


def _grid(model: ModelConfig, window: Window) -> _OneStratum:
    delay = model.labels.delay if model.labels is not None else timedelta(0)
    return _OneStratum(age_edges((delay + window.length).total_seconds()), np.zeros(0), delay.total_seconds())


def count(
    stream: Iterable[pa.RecordBatch],
    model: ModelConfig,
    *,
    window: Window,
    now: datetime,
    segments: Mapping[str, Sequence[str]] | None = None,
    known: Mapping[str, Calibrator] | None = None,
    pieces: int = 1,
) -> tuple[Counted, list[Outcomes]]:
    """Count a window's predictions with their labels as of ``now``, in one pass.

    Also returns the counts of ``pieces`` equal parts of the window, each with its own end: what a long stretch says
    window by window.
    """
    made = _Maker(model, known or {})
    parts: dict[str | None, _Numbers | _Classes] = {None: made()}
    split = [made() for _ in range(pieces)] if pieces > 1 else []
    split_by = {column: frozenset(values) for column, values in (segments or {}).items()}
    grid = _grid(model, window)
    delays = [count_delays([], [], [], edges=grid.edges, mature=grid.mature)]
    start, length, n_rows = window.start.timestamp(), window.length.total_seconds() / pieces, 0
    for batch in stream:
        times, landed = label_counting.seconds(batch, counting.TIME), label_counting.seconds(batch, "__label_time__")
        rows = made.rows(batch, landed - window.end.timestamp())
        n_rows += batch.num_rows
        parts[None].update(rows)
        for column, values in split_by.items():
            if column in batch.schema.names:
                for value, picked in counting.split_rows(batch, column, values):
                    parts.setdefault(f"{column}={value}", made()).update(rows.take(picked))
        place = np.clip(((times - start) / length).astype(np.int64), 0, pieces - 1)
        for at, piece in enumerate(split):
            mine = rows.take(place == at)
            piece.update(replace(mine, landed=mine.landed + (pieces - 1 - at) * length))
        truth = np.where(made.is_labelled(rows), 0.0, np.nan)
        ages = now.timestamp() - times
        delays.append(
            count_delays(landed - times, truth, ages, edges=grid.edges, mature=grid.mature, as_of=now.timestamp())
        )
    counted = Counted(
        {name: part.counts() for name, part in parts.items()},
        {name: part.expected for name, part in parts.items() if isinstance(part, _Classes) and part.expected},
        reduce(merge_delays, delays),
        n_rows,
        {name: int(getattr(stream, name, 0) or 0) for name in label_counting.ODDITIES if getattr(stream, name, 0)},
    )
    return counted, [piece.counts() for piece in split] or [counted.outcomes[None]]


class _Maker:
    """Makes counters for labels of one kind, and batches into what they count."""

    def __init__(self, model: ModelConfig, known: Mapping[str, Calibrator]) -> None:
        labels = model.labels
        self.numbers = labels is not None and labels.task == "regression"
        self._edges, self._known = landing_edges(model), known
        self._scored = [] if labels is None else [str(name) for name in labels.scores]

    def __call__(self) -> _Numbers | _Classes:
        return _Numbers(self._edges) if self.numbers else _Classes(self._edges, self._scored, self._known)

    def rows(self, batch: pa.RecordBatch, landed: FloatArray) -> _Rows:
        names = batch.schema.names
        if self.numbers:
            nothing = np.full(batch.num_rows, np.nan)
            predicted = counting.floats(batch.column(SCORE)) if SCORE in names else nothing
            return _Rows((), counting.floats(batch.column(counting.LABEL)), predicted, landed, {})
        places: dict[str, int] = {}
        labels = coded(batch.column(counting.LABEL), places)
        predicted = coded(batch.column(DECISION), places) if DECISION in names else np.full(len(labels), -1)
        told = {name: counting.floats(batch.column(f"{CLASS_SCORES}{name}")) for name in self._scored}
        return _Rows(list(places), labels, predicted, landed, told)

    def is_labelled(self, rows: _Rows) -> npt.NDArray[np.bool_]:
        return np.isfinite(rows.labels) if self.numbers else rows.labels >= 0


def coded(column: Any, places: dict[str, int]) -> npt.NDArray[np.int64]:
    """Each row's class as its place among the names; -1 for none."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    to = [places.setdefault(name, len(places)) if name is not None else -1 for name in coded.dictionary.to_pylist()]
    codes = coded.indices.fill_null(len(to)).to_numpy(zero_copy_only=False)
    return np.asarray(np.array([*to, -1], dtype=np.int64)[codes])


# --- what is known beside the window ---------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What the labels of the baseline say, of all rows and of each segment."""

    counts: Outcomes
    calibrators: Mapping[str, Calibrator]
    segments: Mapping[str, Outcomes] = field(default_factory=dict)


_known: WeakKeyDictionary[Store, dict[tuple[object, ...], Reference | None]] = WeakKeyDictionary()


def reference(
    scope: Scope, baseline: Baseline | None, *, store: Store, source: Source, roles: Roles, now: datetime
) -> Reference | None:
    """Performance on the reference rows; ``None`` where the baseline has no times or too few labels.

    Kept as counts window by window once labels are mature; until then read again once a day.
    """
    model = scope.model
    span = None if baseline is None else label_reference.labelled_span(baseline, model, scope.window)
    if baseline is None or span is None or model.labels is None:
        return None
    final = now >= span.end + model.labels.delay
    cache = _known.setdefault(store, {})
    mark = "final" if final else now.date()
    key = (scope.name, label_name(model), baseline.id, span, mark, model.labels.task, *model.performance.computed())
    if key not in cache:
        if len(cache) > 256:
            cache.clear()
        segments = baselines.named_segments(baseline)
        found = _reference_counts(
            scope, span, store=store, source=source, roles=roles, now=now, final=final, baseline=baseline
        )
        counts = found[None]
        meant = expected_classes.calibrators(counts) if isinstance(counts, ClassCounts) else {}
        theirs = {name: found[name] if name in found else _together([], model) for name in segments}
        known = Reference(counts, meant, theirs)
        cache[key] = None if counts.n_labelled < model.performance.min_labels else known
    return cache[key]


def _reference_counts(
    scope: Scope,
    span: Window,
    *,
    store: Store,
    source: Source,
    roles: Roles,
    now: datetime,
    final: bool,
    baseline: Baseline,
) -> Mapping[str | None, Outcomes]:
    """The counts of the reference rows, and of each segment's, from the store where they are kept, else read."""
    model, column = scope.model, column_of(scope.model, OUTCOMES)
    named = baselines.named_segments(baseline)
    kept = {w: counts for w, counts in _kept(store, scope, span.start, span.end) if w.length <= span.length}
    if final and sum((w.length for w in kept), timedelta(0)) >= 0.9 * span.length:
        return {None: _together(list(kept.values()), model)} | _kept_segments(store, scope, span, list(kept), named)
    pieces = max(1, round(span.length / scope.window.length))
    stream = source.read_labels(model, roles, span, now=now)
    segments = baselines.known_segments(baseline)
    counted, split = count(stream, model, window=span, now=now, pieces=pieces, segments=segments)
    length = span.length / pieces
    cuts = [Window(span.start + at * length, span.start + (at + 1) * length) for at in range(pieces)]
    if final:
        fresh = [StoredProfile(scope.name, cut, column, _thin(part)) for cut, part in zip(cuts, split, strict=True)]
        fresh = [each for each in fresh if each.window not in kept]
        theirs = {name: counts for name, counts in counted.outcomes.items() if name is not None}
        fresh += [
            StoredProfile(scope.name, span, column_of(model, REFERENCE_OUTCOMES), _thin(counts), name)
            for name, counts in theirs.items()
        ]
        store.save_profiles(fresh)
    return counted.outcomes


def _kept_segments(
    store: Store, scope: Scope, span: Window, windows: Sequence[Window], named: Sequence[str]
) -> dict[str | None, Outcomes]:
    """The counts of the segments: as they were read with the reference rows, else of its newest windows together."""
    if not named:
        return {}
    whole = _stored(store, scope, span.start, span.end, column=REFERENCE_OUTCOMES, by_segment=True)
    found: dict[str | None, Outcomes] = {each.segment: counts for each, counts in whole if each.window == span}
    if found:
        return found
    newest = sorted(windows)[-max(label_reference.MOST_PROFILES // len(named), 1) :]
    parts: dict[str | None, list[Outcomes]] = {}
    for each, counts in _stored(store, scope, newest[0].start, span.end, by_segment=True):
        if each.segment in named:
            parts.setdefault(each.segment, []).append(counts)
    return {name: _together(counts, scope.model) for name, counts in parts.items()}


def _kept(store: Store, scope: Scope, start: datetime, end: datetime) -> list[tuple[Window, Outcomes]]:
    """The stored counts of windows in a span, over the landing bins of now and of this kind of label."""
    return [(each.window, counts) for each, counts in _stored(store, scope, start, end)]


def _stored(
    store: Store, scope: Scope, start: datetime, end: datetime, *, column: str = "", by_segment: bool = False
) -> list[tuple[StoredProfile, Outcomes]]:
    labels = scope.model.labels
    wanted = Errors if labels is not None and labels.task == "regression" else ClassCounts
    edges = landing_edges(scope.model)
    segment = ALL if by_segment else None
    asked = column_of(scope.model, column or OUTCOMES)
    found = store.profiles(scope.name, start=start, end=end, columns=[asked], segment=segment)
    return [
        (each, each.profile)
        for each in found
        if isinstance(each.profile, wanted) and np.array_equal(each.profile.edges, edges)
    ]


def _together(parts: Sequence[Outcomes], model: ModelConfig) -> Outcomes:
    edges = landing_edges(model)
    if model.labels is not None and model.labels.task == "regression":
        return regression.merge_all((part for part in parts if isinstance(part, Errors)), edges)
    return class_counts.merge_all((part for part in parts if isinstance(part, ClassCounts)), edges)


def matured(scope: Scope, store: Store, *, now: datetime) -> list[Outcomes]:
    """Windows of about the same length whose labels are complete: how this one will go on."""
    window, delay = scope.window, timedelta(0) if scope.model.labels is None else scope.model.labels.delay
    for memory in (late.MEMORY, 20 * late.MEMORY):
        found = [
            (each, counts)
            for each, counts in _kept(store, scope, window.start - delay - memory, now)
            if each.end + delay <= now and abs(each.length / window.length - 1) < 0.1 and each != window
        ]
        if len(found) >= MIN_WINDOWS:
            break
    return [counts for _, counts in found[-MOST_WINDOWS:] if counts.n_labelled]


def matured_segments(scope: Scope, store: Store, *, now: datetime) -> dict[str, list[Outcomes]]:
    """The same of each segment, where enough windows of it have labels to speak of."""
    window, delay = scope.window, timedelta(0) if scope.model.labels is None else scope.model.labels.delay
    found: dict[str, list[Outcomes]] = {}
    for each, counts in _stored(store, scope, window.start - delay - late.MEMORY, now, by_segment=True):
        alike = abs(each.window.length / window.length - 1) < 0.1 and each.window != window
        if each.segment is not None and alike and each.window.end + delay <= now and counts.n_labelled >= ENOUGH:
            found.setdefault(each.segment, []).append(counts)
    return {segment: counts for segment, counts in found.items() if len(counts) >= MIN_WINDOWS}


# --- the story -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Told:
    """All that one label of one window shows."""

    results: list[Result]
    profiles: list[StoredProfile]
    n_rows: int
    n_known: int = 0
    """Labels of the window's predictions that a table of their own held, as :class:`LabelStream` counts them."""


def look(
    scope: Scope,
    *,
    source: Source,
    roles: Roles,
    baseline: Baseline | None,
    store: Store,
    mature: bool,
    now: datetime,
) -> Told:
    """Count one label of one window as of ``now``, judge what it says, and whether labels come as they used to."""
    model, window = scope.model, scope.window
    known = reference(scope, baseline, store=store, source=source, roles=roles, now=now)
    stream = source.read_labels(model, roles, window, now=now)
    segments = baselines.known_segments(baseline)
    calibrators = {} if known is None else known.calibrators
    counted, _ = count(stream, model, window=window, now=now, segments=segments, known=calibrators)
    newest = source.newest_landing(model, now=now) if scope.revision == 0 else None
    past = [] if mature else matured(scope, store, now=now)
    own = {} if mature or len(counted.outcomes) < 2 else matured_segments(scope, store, now=now)
    results: list[Result] = []
    for segment, counts in counted.outcomes.items():
        windows = past if segment is None else own.get(segment, past)
        curves = _curves(scope, counts, counted.expected.get(segment), known, windows, mature=mature, now=now,
                         segment=segment, n_segments=len(counted.outcomes) - 1)  # fmt: skip
        if segment is not None and curves.corrected:
            curves = replace(curves, law="segment" if segment in own else "model")
        if segment is None:
            odd = {"labels": counted.notes} if counted.notes else {}
            curves = replace(curves, notes=odd | tables(scope, counts))
        results += judging.results(scope, curves, segment=segment)
    grid = _grid(model, window)
    lateness = late.lateness(store, scope.name, model, baseline=baseline, window=window, now=now, grid=grid)
    results = [_said(counted.outcomes, each) for each in results]
    results += late.findings(scope, _landed(counted), lateness, grid=grid, store=store, newest=newest, now=now)
    column = column_of(model, OUTCOMES)
    kept = [StoredProfile(scope.name, window, column, _thin(c), segment) for segment, c in counted.outcomes.items()]
    kept.append(StoredProfile(scope.name, window, column_of(model, label_counting.DELAYS), counted.delays))
    return Told(results, kept, counted.n_rows, stream.n_known)


@dataclass(frozen=True)
class _OneStratum(label_counting.Grid):
    """Delays counted for all predictions together."""

    @property
    def n_strata(self) -> int:
        return 1


def _landed(counted: Counted) -> Landed:
    predictions = np.array([[counted.n_rows]])
    return Landed(np.zeros(1), predictions, np.zeros((1, 1, 2), np.int64), np.full(1, 2))


def _thin(counts: Outcomes) -> Outcomes:
    return counts.coarsen() if isinstance(counts, ClassCounts) else counts


def measured(scope: Scope, counts: Outcomes, *, names: Sequence[str] | None = None) -> dict[str, Measure]:
    """Each metric on the labels that have landed; averages over the classes ``names``, or over those not rare."""
    metrics = scope.model.performance.computed()
    if isinstance(counts, Errors):
        return regression.performance(counts, metrics)
    return multiclass.performance(counts, metrics, min_rows=scope.min_category_rows, names=names)


def _curves(
    scope: Scope,
    counts: Outcomes,
    expected: Expected | None,
    known: Reference | None,
    past: Sequence[Outcomes],
    *,
    mature: bool,
    now: datetime,
    segment: str | None,
    n_segments: int,
) -> judging.Curves:
    whole = segment is None
    metrics, low = scope.model.performance.computed(), scope.min_category_rows
    realized = measured(scope, counts)
    age = (now - scope.window.end).total_seconds()
    found: dict[str, Measure] = {}
    promised: dict[str, Measure] = {}
    names: Sequence[str] | None = None
    small = not whole and counts.n < max(low, 1)
    complete = mature or small or (counts.label_coverage or 0.0) >= judging.NEARLY_ALL
    if isinstance(counts, Errors):
        if not complete:
            windows = [each for each in past if isinstance(each, Errors)]
            found = regression.corrected(counts, windows, age=age, metrics=metrics)
    else:
        if not complete:
            windows_of_classes = [each for each in past if isinstance(each, ClassCounts)]
            found = corrected_classes.corrected(counts, windows_of_classes, age=age, metrics=metrics, min_rows=low)
        # The baseline's averages are over the classes of the window: a rare one comes and goes.
        names = multiclass.matrix(counts, min_rows=low).names
        if expected is not None:
            promised = expected.performance(metrics, names=names)
    if not complete:
        found = {name: found.get(name, NOT_CORRECTED) for name in metrics}
    before: Outcomes | None = None
    if known is not None:
        before = known.counts if segment is None else known.segments.get(segment)
    few = None
    if before is not None and before.n_labelled < scope.model.performance.min_labels:
        few = before.n_labelled
        before = None
    return judging.Curves(
        realized=realized,
        corrected=found,
        estimated=promised,
        reference=None if before is None else measured(scope, before, names=names),
        few=few,
        n_segments=0 if whole else n_segments,
        n_labelled=counts.n_labelled,
        n_rows=counts.n,
        mature=mature,
        age_days=age / 86400,
        widest=_widest(realized) if isinstance(counts, ClassCounts) else _widest_errors(counts),
    )


def _widest(realized: Mapping[str, Measure]) -> dict[str, float]:
    """A corrected loss may decide when it is known to within half of what it is on the labels so far."""
    found = realized.get("log_loss")
    return {} if found is None or found.value is None else {"log_loss": 0.5 * found.value}


def _widest_errors(counts: Errors) -> dict[str, float]:
    """A corrected error may decide when it is known to within half of itself; a bias, to within half the mean error."""
    found = regression.performance(counts, regression.CORRECTABLE)
    size = {name: each.value for name, each in found.items() if each.value is not None}
    return {name: 0.5 * (size.get("mae", 0.0) if name == "bias" else value) for name, value in size.items()}


NOT_CORRECTED = Measure(None, reason="not_corrected")
"""Of R², the median and areas: sums by landing time do not give them."""
NOT_OFFERED = "not_offered_for_regression"


def _said(counts: Mapping[str | None, Outcomes], result: Result) -> Result:
    """Which label a row is of, and what is not there."""
    detail, mine = dict(result.detail), counts.get(result.segment)
    if isinstance(mine, Errors) and result.kind == "realized":
        detail["estimated"] = NOT_OFFERED
        if result.metric == "mape":
            detail["n_left_out"] = mine.n_labelled - mine.n_nonzero
    return replace(result, detail=detail)


# --- tables ----------------------------------------------------------------------------------------


def tables(scope: Scope, counts: Outcomes) -> dict[str, Any]:
    """How errors are spread, or each class and the confusion matrix; rare classes are not named."""
    if not counts.n_labelled:
        return {}
    if isinstance(counts, Errors):
        told: dict[str, Any] = {f"p{round(100 * q):02d}": counts.quantile(q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
        return {"errors": told, "n_unpredicted": counts.n_unpredicted}
    found = multiclass.matrix(counts, min_rows=scope.min_category_rows)
    rows: list[dict[str, Any]] = [
        {"class": each.name, "n_labels": each.n_true, "n_predicted": each.n_predicted}
        | {name: _triple(getattr(each, name)) for name in ("precision", "recall", "f1")}
        for each in multiclass.per_class(found)
    ]
    rows.sort(key=lambda row: (-row["n_labels"], row["class"]))
    told = {"classes": rows, "n_other_classes": round(float(found.cells[-1].sum()))}
    if len(found.names) <= SHOWN_CLASSES:
        cells = [[round(float(cell)) for cell in row] for row in found.cells]
        told["confusion_matrix"] = {"classes": [*found.names, None], "cells": cells}
    return told


def _triple(measure: Measure) -> list[float | None] | dict[str, str | None]:
    if measure.value is None:
        return {"reason": measure.reason}
    return [measure.value, measure.low, measure.high]


def of_label(model: ModelConfig, results: Sequence[Result]) -> list[Result]:
    """The results of a further label carry its name as their feature."""
    name = label_name(model)
    if name is None:
        return list(results)
    return [
        replace(each, feature=name, detail={**each.detail, "label": name}) if each.feature is None else each
        for each in results
    ]
