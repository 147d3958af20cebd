"""The story of one window's labels: what has landed, what it says already, and whether labels come as they used to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors import corrected as correcting
from detectors.bounds import (
    corrected_scores_with_never_labelled,
    corrected_value_bounds,
    corrected_with_never_labelled,
    thresholds_with_never_labelled,
    value_bounds,
    with_never_labelled,
)
from detectors.calibration import CalibrationError, Calibrator, estimate, fit
from detectors.calibration_drift import CalibrationBaseline
from detectors.classification import HIGHER_IS_WORSE, Measure, performance
from detectors.corrected import CORRECTABLE, mean_worth
from detectors.corrected_scores import SCORE_METRICS, Expected, expect, pooled, score_measures
from detectors.corrected_tables import Tables, corrected_tables
from detectors.delay import DelayLaw, learn
from detectors.delay_counts import DelayCounts, age_edges, count_delays, count_states, merge
from detectors.display import quantile
from detectors.effective_size import MIN_WINDOWS
from detectors.posterior import Fit, Landed
from detectors.profiles import NumericProfile, NumericSpec
from detectors.score_labels import ScoreLabelCounter, ScoreLabels, empty
from detectors.score_labels import merge as merge_scores
from detectors.score_labels import merge_all as merge_labels
from detectors.segment_delay import of_segment
from monitor import baselines, counting
from monitor import calibration_drift as meaning
from monitor import performance as judging
from monitor.checks import Scope
from monitor.config import ModelConfig, RollingBaseline
from monitor.delay_history import History, history
from monitor.delays import METRICS as FINDINGS
from monitor.delays import OUTAGE, delay_findings, labels_expected, looked_back
from monitor.label_tasks import column_of, label_name
from monitor.models import DECISION, SCORE, Baseline, Check, Result, Roles, StoredProfile, Verdict, Window
from monitor.sources import LABEL_TIME, NEVER, Source
from monitor.store import ALL, Store

LABELS = "__labels__"
DELAYS = "__delays__"
REFERENCE_LABELS = "__reference_labels__"
NEVER_LABELLED = "__never_labelled__"
REFERENCE_NEVER = "__reference_never__"
REFERENCE_WINDOWS = "__reference_windows__"
"""Scores and labels of the reference rows by window, roughly: how far what a score means varies without change."""
MEMORY = timedelta(days=28)
"""Windows whose labels matured within this time teach the delay law, and at least ``MEMORY_WINDOWS`` of them."""
MEMORY_WINDOWS = 8
SLOTS = 24
"""Groups of predictions of about one age in a window."""
ENOUGH = 500
"""Labels of either class in the windows of ``MEMORY``, below which older ones are asked as well."""
PARTS = 12
"""Parts of a window that are strata where there is no score."""
MOST_PROFILES = 3000
"""Counts of segments that are merged into a baseline of labels: of the newest windows, where these are many."""
ROUGH = 200
"""Distinct scores of a window of the reference that are kept."""
ODDITIES = ("contradictions", "before_prediction", "despite", "duplicates")
"""What a stream of labels counts beside them."""
_STRATA_AT = (0.5, 0.8, 0.95)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# --- counting --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """Over which ages and strata the labels of a model are counted; the same for all of its windows.

    A stratum is a decision (no, yes, not known) and a span of scores; ``score_edges`` of shape ``(E,)`` make ``E + 1``
    spans, and one more holds the predictions without a score.  Where there is no score at all, a stratum is a part of
    the window instead: what happens late in it may differ, and is labelled last.  A prediction without a label is taken
    to stay without from the age ``mature`` (seconds) on.
    """

    edges: npt.NDArray[np.float64]
    score_edges: npt.NDArray[np.float64]
    mature: float

    @property
    def n_spans(self) -> int:
        return len(self.score_edges) + 2 if len(self.score_edges) else PARTS

    @property
    def n_strata(self) -> int:
        return 3 * self.n_spans

    @property
    def decisions(self) -> npt.NDArray[np.int64]:
        return np.repeat(np.arange(3), self.n_spans)

    @property
    def names(self) -> list[str]:
        """What predictions of each stratum have; nothing where strata are parts of the window."""
        if not len(self.score_edges):
            return []
        cuts = [f"{cut:.3g}" for cut in self.score_edges]
        spans = [f"a score below {cuts[0]}", *(f"a score from {a} to {b}" for a, b in pairwise(cuts))]
        spans += [f"a score from {cuts[-1]} on", "no score"]
        return [f"{span}{decided}" for decided in (", decision no", ", decision yes", "") for span in spans]

    def strata(
        self, scores: npt.NDArray[np.float64], decisions: npt.NDArray[np.int8], slots: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int32]:
        """The stratum of each row; decisions are 0, 1 and 2: no, yes, not known."""
        if not len(self.score_edges):
            span = slots * np.int32(PARTS) // np.int32(SLOTS)
        else:
            above = np.zeros(len(scores), np.int8)
            for edge in self.score_edges:  # few: faster than a search
                above += (scores >= edge).view(np.int8)
            absent = np.isnan(scores)
            if absent.any():
                above[absent] = self.n_spans - 1
            span = above.astype(np.int32)
        span += decisions.astype(np.int32) * np.int32(self.n_spans)
        return span

    def strata_of(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """The stratum of each score with each decision, shape ``(S, 3)``.

        Where scores are not cut it is the decision alone: strata are parts of the window then.
        """
        if not len(self.score_edges):
            return np.repeat(np.arange(3)[None], len(scores), axis=0)
        span = np.searchsorted(self.score_edges, scores, side="right")
        return np.asarray(np.arange(3)[None] * self.n_spans + span[:, None], dtype=np.int64)


def grid_of(model: ModelConfig, baseline: Baseline | None, window: Window) -> Grid:
    """Ages up to maturity, and scores cut at the baseline's quantiles and at the decision threshold."""
    delay = model.labels.delay if model.labels is not None else timedelta(0)
    cuts = [] if model.threshold is None else [float(model.threshold)]
    column = None if baseline is None else baseline.columns.get(SCORE)
    if column is not None and isinstance(column.spec, NumericSpec) and isinstance(column.reference, NumericProfile):
        found = [quantile(column.spec, column.reference, q) for q in _STRATA_AT]
        cuts += [float(each) for each in found if each is not None]
    horizon = (delay + window.length).total_seconds()
    return Grid(age_edges(horizon), np.unique(np.array(cuts, dtype=np.float64)), delay.total_seconds())


@dataclass(frozen=True)
class Counted:
    """What one pass over a window's predictions and labels leaves behind; key ``None`` is all rows.

    ``never`` are the predictions that can never be labelled; ``scores``, ``landed`` and ``delays`` are of the others.
    ``segment_delays`` are the delays of each segment, in one stratum.
    """

    scores: dict[str | None, ScoreLabels]
    landed: dict[str | None, Landed]
    delays: DelayCounts
    newest: datetime | None
    never: dict[str | None, ScoreLabels] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    segment_delays: dict[str, DelayCounts] = field(default_factory=dict)
    pieces: Sequence[ScoreLabels] = ()
    """The scores and labels of the parts that a long stretch was counted in."""
    n_known: int = 0
    """Labels of these predictions that a table of their own held, several of one prediction among them."""


class _Part:
    """The counters of all rows, or of those of one segment value."""

    def __init__(self, grid: Grid) -> None:
        self.scores, self.never = ScoreLabelCounter(), ScoreLabelCounter()
        self.predictions = np.zeros((SLOTS, grid.n_strata), np.int64)
        self.labels = np.zeros((SLOTS, grid.n_strata, 2), np.int64)

    def update(self, rows: _Rows) -> None:
        if rows.never is not None:
            apart = rows.take(np.flatnonzero(rows.never))
            self.never.update_codes(apart.scores, apart.codes)
            rows = rows.labellable()
        self.scores.update_codes(rows.scores, rows.codes)
        cell = rows.slots * np.int32(self.predictions.shape[1]) + rows.strata
        cell *= np.int32(3)
        cell += rows.labels
        found = np.bincount(cell, minlength=3 * self.predictions.size).reshape(*self.predictions.shape, 3)
        self.predictions += found.sum(axis=2)
        self.labels += found[:, :, :2]


_BLOCK = 1 << 15
"""Rows at once: what is made of them stays in the processor's cache."""


@dataclass(frozen=True)
class _Rows:
    """Some rows as arrays of one length.

    Decisions and labels are 0, 1 and 2: no, yes, not known.  Times are in microseconds since 1970; ``delays`` in
    seconds from the prediction to its label, NaN where none has landed or it is not known when.  ``never`` marks
    predictions that can have no label; ``None``: there are none.
    """

    scores: npt.NDArray[np.float64]
    decisions: npt.NDArray[np.int8]
    labels: npt.NDArray[np.int8]
    times: npt.NDArray[np.int64]
    delays: npt.NDArray[np.float64]
    slots: npt.NDArray[np.int32]
    strata: npt.NDArray[np.int32]
    never: npt.NDArray[np.bool_] | None = None
    newest: int = 0
    """When the last of the labels landed; 0 where that is not known."""

    @property
    def codes(self) -> npt.NDArray[np.int8]:
        """Label and decision in one number, as :meth:`ScoreLabelCounter.update_codes` takes them."""
        return self.labels * np.int8(3) + self.decisions

    def take(self, places: npt.NDArray[np.int64]) -> _Rows:
        """Some of the rows."""
        told: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        arrays = {name: part.take(places) for name, part in told.items() if isinstance(part, np.ndarray)}
        return _Rows(**(told | arrays))

    def labellable(self) -> _Rows:
        """The rows that can have a label."""
        return self if self.never is None else replace(self.take(np.flatnonzero(~self.never)), never=None)


def count(
    stream: Iterable[pa.RecordBatch],
    *,
    window: Window,
    now: datetime,
    grid: Grid,
    segments: Mapping[str, Sequence[str]] | None = None,
    pieces: int = 1,
) -> tuple[Counted, list[DelayCounts]]:
    """Count a window's predictions with their labels as of ``now``, in one pass.

    Also returns the delays of ``pieces`` equal parts of the window, in order: what a long stretch says window by
    window.
    """
    known = {column: frozenset(values) for column, values in (segments or {}).items()}
    parts: dict[str | None, _Part] = {None: _Part(grid)}
    delays: list[DelayCounts | None] = [None] * pieces
    of_segments: dict[str, DelayCounts] = {}
    newest = 0
    split = [ScoreLabelCounter(buffer_rows=2**13, max_scores=2**12) for _ in range(pieces)] if pieces > 1 else []
    for batch in stream:
        for at in range(0, batch.num_rows, _BLOCK):
            block = batch.slice(at, _BLOCK)
            rows = _rows(block, window=window, grid=grid)
            newest = max(newest, rows.newest)
            parts[None].update(rows)
            for column, values in known.items():
                if column in block.schema.names:
                    for value, picked in counting.split_rows(block, column, values):
                        name, mine = f"{column}={value}", rows.take(picked)
                        parts.setdefault(name, _Part(grid)).update(mine)
                        found = _delays_of(mine, now=now, grid=grid)
                        of_segments[name] = merge(of_segments[name], found) if name in of_segments else found
            rows = rows.labellable()
            _count_pieces(delays, rows, window=window, now=now, grid=grid)
            _split_scores(split, rows, window=window)
    empty = _no_delays(grid)
    told = [empty if each is None else each for each in delays]
    ages = _slot_ages(window, now)
    counted = Counted(
        {name: part.scores.counts() for name, part in parts.items()},
        {name: Landed(ages, part.predictions, part.labels, grid.decisions) for name, part in parts.items()},
        reduce(merge, told),
        _EPOCH + timedelta(microseconds=newest) if newest else None,
        {name: part.never.counts() for name, part in parts.items()},
        {name: int(getattr(stream, name, 0) or 0) for name in ODDITIES if getattr(stream, name, 0)},
        of_segments,
        [part.counts() for part in split],
        int(getattr(stream, "n_known", 0)),
    )
    return counted, told


def _delays_of(rows: _Rows, *, now: datetime, grid: Grid) -> DelayCounts:
    """The delays of one segment's rows, of all strata together."""
    return _delays(rows.labellable(), now=now, grid=grid, n_strata=1)


def _split_scores(split: Sequence[ScoreLabelCounter], rows: _Rows, *, window: Window) -> None:
    """Count each row in its own of so many equal parts of the window."""
    if not split:
        return
    place = _part_of(rows.times, window, len(split))
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[order], np.arange(len(split) + 1))
    for piece, first, last in zip(split, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        if last > first:
            mine = rows.take(order[first:last])
            piece.update_codes(mine.scores, mine.codes)


def _count_pieces(delays: list[DelayCounts | None], rows: _Rows, *, window: Window, now: datetime, grid: Grid) -> None:
    place = _part_of(rows.times, window, len(delays)) if len(delays) > 1 else np.zeros(min(1, len(rows.times)), int)
    for piece in np.flatnonzero(np.bincount(place, minlength=len(delays))).tolist():
        mine = rows if len(delays) == 1 else rows.take(np.flatnonzero(place == piece))
        found = _delays(mine, now=now, grid=grid, n_strata=grid.n_strata)
        before = delays[piece]
        delays[piece] = found if before is None else merge(before, found)


def _delays(rows: _Rows, *, now: datetime, grid: Grid, n_strata: int) -> DelayCounts:
    return count_states(
        rows.delays,
        rows.labels,
        (_micros(now) - rows.times) / 1e6,
        edges=grid.edges,
        strata=rows.strata if n_strata > 1 else None,
        n_strata=n_strata,
        mature=grid.mature,
        as_of=now.timestamp(),
    )


def _no_delays(grid: Grid) -> DelayCounts:
    return count_delays([], [], [], edges=grid.edges, n_strata=grid.n_strata, mature=grid.mature)


def _rows(batch: pa.RecordBatch, *, window: Window, grid: Grid) -> _Rows:
    names, n = batch.schema.names, batch.num_rows
    scores = counting.floats(batch.column(SCORE)) if SCORE in names else np.full(n, np.nan)
    decisions = counting.states(batch.column(DECISION)) if DECISION in names else np.full(n, 2, np.int8)
    labels = counting.states(batch.column(counting.LABEL))
    times, _ = counting.micros(batch.column(counting.TIME))
    delays, newest = np.full(n, np.nan), 0
    if LABEL_TIME in names:
        landed, known = counting.micros(batch.column(LABEL_TIME))
        delays = (landed - times) / 1e6
        if known is not None:
            delays, landed = np.where(known, delays, np.nan), np.where(known, landed, 0)
        newest = int(landed.max(initial=0))
    slots = _part_of(times, window, SLOTS)
    never = None
    if NEVER in names:
        told = np.asarray(batch.column(NEVER).to_numpy(zero_copy_only=False), dtype=bool)
        never = told if told.any() else None
    return _Rows(scores, decisions, labels, times, delays, slots, grid.strata(scores, decisions, slots), never, newest)


def _part_of(times: npt.NDArray[np.int64], window: Window, n_parts: int) -> npt.NDArray[np.int32]:
    """In which of so many equal parts of the window each time lies; what lies outside is in the nearest."""
    ticks = window.length // timedelta(microseconds=1)
    part = times - _micros(window.start)
    part *= n_parts
    part //= ticks
    found = part.astype(np.int32)
    return np.clip(found, 0, n_parts - 1, out=found)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def seconds(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.float64]:
    """A column of times in seconds since 1970; NaN where there is none."""
    if name not in batch.schema.names:
        return np.full(batch.num_rows, np.nan)
    ticks = pc.cast(pc.cast(batch.column(name), pa.timestamp("us", "UTC")), pa.int64())
    found: npt.NDArray[np.float64] = pc.fill_null(ticks, 0).to_numpy(zero_copy_only=False) / 1e6
    if ticks.null_count:
        found[pc.is_null(ticks).to_numpy(zero_copy_only=False)] = np.nan
    return found


def _slot_ages(window: Window, now: datetime) -> npt.NDArray[np.float64]:
    middle = window.start.timestamp() + (np.arange(SLOTS) + 0.5) / SLOTS * window.length.total_seconds()
    return np.maximum(now.timestamp() - middle, 0.0)


# --- what is known beside the window ---------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """What the labels of the baseline say: performance to compare with, and what a score means.

    ``segments`` holds performance of each segment that has enough labels, ``few`` how many labels the others have.
    """

    measures: Mapping[str, Measure]
    calibrator: Calibrator | None
    scores: CalibrationBaseline | None = None
    segments: Mapping[str, Mapping[str, Measure]] = field(default_factory=dict)
    few: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[int, int] = (0, 0)
    """How many labels are negative, and how many positive."""


_known: WeakKeyDictionary[Store, dict[tuple[object, ...], Reference | None]] = WeakKeyDictionary()


def reference(
    store: Store,
    name: str,
    model: ModelConfig,
    *,
    roles: Roles,
    source: Source,
    window: Window,
    now: datetime,
    grid: Grid,
) -> Reference | None:
    """Performance and calibration of the reference rows; ``None`` where the baseline has no times or no labels.

    The counts are kept in the store once they are final; while labels of the reference rows still land, they are read
    again once a day.
    """
    baseline = store.baseline(name)
    span = None if baseline is None else labelled_span(baseline, model, window)
    if baseline is None or span is None or model.labels is None:
        return None
    final = now >= span.end + model.labels.delay
    cache = _known.setdefault(store, {})
    key = (
        name, label_name(model), baseline.id, span, "final" if final else now.date(), str(model.labels.only_when),
        str(model.performance.value), model.performance.beta, *model.performance.metrics,
    )  # fmt: skip
    if key not in cache:
        asked: dict[str, Any] = {"roles": roles, "source": source, "span": span, "window": window}
        counted = _reference_counts(store, name, model, **asked, now=now, grid=grid, final=final, baseline=baseline)
        if len(cache) > 256:
            cache.clear()
        cache[key] = _summed_up(counted, model)
    return cache[key]


def labelled_span(baseline: Baseline, model: ModelConfig, window: Window) -> Window | None:
    """The reference rows; for a rolling baseline moved back by the label delay, so that its labels are mature."""
    if isinstance(model.baseline, RollingBaseline) and model.labels is not None:
        start = window.start - model.labels.delay - model.baseline.rolling
        return Window(start, start + model.baseline.rolling)
    return baseline.window


@dataclass(frozen=True)
class Reckoned:
    """The reference rows that can be labelled, those that never can, and the former by window, oldest first.

    ``segments`` holds the first two of each segment.
    """

    scores: ScoreLabels
    never: ScoreLabels
    windows: Sequence[ScoreLabels] = ()
    segments: Mapping[str, tuple[ScoreLabels, ScoreLabels]] = field(default_factory=dict)


def _summed_up(found: Reckoned, model: ModelConfig) -> Reference | None:
    counts, never = found.scores, found.never
    if counts.n_labelled < model.performance.min_labels:
        return None
    try:
        calibrator = fit(counts)
    except CalibrationError:
        calibrator = None
    scores = meaning.baseline_of(counts, found.windows) if model.performance.watches_scores else None
    least = model.performance.min_labels
    return Reference(
        _performance_of(model, counts, never),
        calibrator,
        scores,
        {name: _performance_of(model, *each) for name, each in found.segments.items() if each[0].n_labelled >= least},
        {name: each[0].n_labelled for name, each in found.segments.items() if each[0].n_labelled < least},
        (counts.n_negative, counts.n_positive),
    )


def _performance_of(model: ModelConfig, counts: ScoreLabels, never: ScoreLabels) -> dict[str, Measure]:
    """The realized metrics, with the bounds of those that the never labelled enter."""
    beta, worth = model.performance.beta, model.performance.value
    measures = performance(counts, metrics=metrics_of(model), beta=beta)
    told = with_never_labelled(measures, counts, never, beta=beta)
    if worth:
        told["value"] = value_bounds(judging.business_value(counts, worth), counts, never, worth)
    return told


def metrics_of(model: ModelConfig) -> list[str]:
    return model.performance.computed()


def _reference_counts(
    store: Store,
    name: str,
    model: ModelConfig,
    *,
    roles: Roles,
    source: Source,
    span: Window,
    window: Window,
    now: datetime,
    grid: Grid,
    final: bool,
    baseline: Baseline,
) -> Reckoned:
    """The counts of the reference rows, from the store where they are kept, else read."""
    named = baselines.named_segments(baseline)
    kept = kept_reference(store, name, model, span, complete=final, segments=named)
    if kept is not None:
        return kept
    pieces = max(1, round(span.length / window.length))
    counted, delays = count(
        source.read_labels(model, roles, span, now=now),
        window=span,
        now=now,
        grid=grid,
        segments=baselines.known_segments(baseline),
        pieces=pieces,
    )
    length = span.length / pieces
    cuts = [Window(span.start + place * length, span.start + (place + 1) * length) for place in range(pieces)]
    taken = {
        each.window for each in store.profiles(name, start=span.start, end=span.end, columns=[column_of(model, LABELS)])
    }
    fresh = [
        StoredProfile(name, cut, column_of(model, DELAYS), each)
        for cut, each in zip(cuts, delays, strict=True)
        if cut not in taken and each.landed.any()
    ]
    scores = counted.scores[None]
    never = counted.never[None]
    by_segment = {each: (counted.scores.get(each, empty()), counted.never.get(each, empty())) for each in named}
    by_window = [(cut, part) for cut, part in zip(cuts, counted.pieces or [scores], strict=True) if part.n_labelled]
    if final:
        apart = model.labels is not None and model.labels.only_when is not None
        fresh.append(StoredProfile(name, span, column_of(model, REFERENCE_LABELS), scores.coarsen(20_000)))
        fresh += [StoredProfile(name, span, column_of(model, REFERENCE_NEVER), never.coarsen())] if apart else []
        column = column_of(model, REFERENCE_WINDOWS)
        fresh += [StoredProfile(name, cut, column, part.coarsen(ROUGH)) for cut, part in by_window]
        for segment, (theirs, refused) in by_segment.items():
            fresh.append(StoredProfile(name, span, column_of(model, REFERENCE_LABELS), theirs.coarsen(), segment))
            if apart:
                fresh.append(StoredProfile(name, span, column_of(model, REFERENCE_NEVER), refused.coarsen(), segment))
    store.save_profiles(fresh)
    return Reckoned(scores, never, [part for _, part in by_window], by_segment)


def kept_reference(
    store: Store,
    name: str,
    model: ModelConfig,
    span: Window,
    *,
    complete: bool,
    segments: Sequence[str] = (),
) -> Reckoned | None:
    """The counts of the reference rows as they are stored, whole or, where labels are ``complete``, by window.

    With those of ``segments``, if any are asked for.
    """
    apart = model.labels is not None and model.labels.only_when is not None
    labels, together = column_of(model, LABELS), column_of(model, REFERENCE_LABELS)
    nevers, nevers_together = column_of(model, NEVER_LABELLED), column_of(model, REFERENCE_NEVER)
    by_window = column_of(model, REFERENCE_WINDOWS)
    columns = [together, labels, by_window, *([nevers_together, nevers] if apart else [])]
    pairs = {labels: nevers, together: nevers_together} if apart else {}
    kept = _apart(store.profiles(name, start=span.start, end=span.end, columns=columns), pairs)
    single = [each for each in kept if each.column == labels]
    whole = {each.column: _scores(each) for each in kept if each.window == span}
    if together in whole:
        theirs = store.profiles(name, start=span.start, end=span.end, columns=[together, nevers_together], segment=ALL)
        found = {(each.column, each.segment): _scores(each) for each in theirs if each.window == span}
        if any((together, segment) not in found for segment in segments):
            return None
        windows = [_scores(each) for each in kept if each.column == by_window] or [_scores(each) for each in single]
        by_segment = {each: (found[together, each], found.get((nevers_together, each), empty())) for each in segments}
        return Reckoned(whole[together], whole.get(nevers_together, empty()), windows, by_segment)
    covered = sum((each.window.length for each in single), timedelta(0))
    if not complete or covered < 0.9 * span.length:
        return None
    windows = [_scores(each) for each in single]
    never = merge_labels(_scores(each) for each in kept if each.column == nevers)
    if not segments:
        return Reckoned(merge_labels(windows), never, windows)
    newest = sorted(each.window.start for each in single)[-max(MOST_PROFILES // len(segments), 1) :]
    theirs = _apart(store.profiles(name, start=newest[0], end=span.end, columns=columns, segment=ALL), pairs)
    split_by = {each.segment.partition("=")[0] for each in theirs if each.segment is not None}
    if not split_by.issuperset(each.partition("=")[0] for each in segments) and not isinstance(
        model.baseline, RollingBaseline
    ):
        return None  # counted before this column was one of the segments
    by_segment = {each: (_merged(theirs, labels, each), _merged(theirs, nevers, each)) for each in segments}
    return Reckoned(merge_labels(windows), never, windows, by_segment)


def _apart(kept: Sequence[StoredProfile], pairs: Mapping[str, str]) -> list[StoredProfile]:
    """The counts of labels; without those from before the condition was configured, which hold both together."""
    found = [each for each in kept if isinstance(each.profile, ScoreLabels)]
    split = {(each.window, each.column, each.segment) for each in found}
    return [
        each for each in found if each.column not in pairs or (each.window, pairs[each.column], each.segment) in split
    ]


def _merged(kept: Sequence[StoredProfile], column: str, segment: str) -> ScoreLabels:
    return merge_labels(_scores(each) for each in kept if each.column == column and each.segment == segment)


def _scores(kept: StoredProfile) -> ScoreLabels:
    if not isinstance(kept.profile, ScoreLabels):
        raise TypeError(f"{kept.column} of {kept.window.start} holds no label counts")
    return kept.profile


@dataclass(frozen=True)
class Lateness:
    """The delay law for one window, and the windows that it was learned from, oldest first."""

    law: DelayLaw
    windows: Sequence[tuple[Window, DelayCounts]]
    of: str = "model"
    """Of a segment: whose delays most of the law is, the ``model``'s or the ``segment``'s own."""


def lateness(
    store: Store, name: str, model: ModelConfig, *, baseline: Baseline | None, window: Window, now: datetime, grid: Grid
) -> Lateness | None:
    """The delay law as the labels of the other windows show it; ``None`` before any label has shown its delay.

    Learned from the windows that matured within ``MEMORY`` and those since; from older ones too where these are few.
    """
    first, column = _first_taught(model, window), column_of(model, DELAYS)
    asked: dict[str, Any] = {"now": now, "alike": _no_delays(grid), "leave_out": window}
    found = history(store, name, column, start=first, **asked).get(None)
    if (found is None or _fewest(found) < ENOUGH) and baseline is not None and baseline.window is not None:
        found = history(store, name, column, start=min(baseline.window.start, first), **asked).get(None)
    if found is None:
        return None
    counts = [each for _, each in found.windows]
    return Lateness(learn(reduce(merge, counts), windows=counts, times=found.away), found.windows)


def _first_taught(model: ModelConfig, window: Window) -> datetime:
    delay = model.labels.delay if model.labels is not None else timedelta(0)
    return window.start - delay - max(MEMORY, MEMORY_WINDOWS * window.length)


def delays_of_segments(
    store: Store, name: str, model: ModelConfig, *, window: Window, now: datetime, grid: Grid
) -> dict[str, list[DelayCounts]]:
    """The delays that each segment has shown in the other windows, oldest first."""
    alike = count_delays([], [], [], edges=grid.edges, mature=grid.mature)
    start, column = _first_taught(model, window), column_of(model, DELAYS)
    found = history(store, name, column, start=start, now=now, alike=alike, leave_out=window, segment=ALL)
    return {whose: [each for _, each in told.windows] for whose, told in found.items() if whose is not None}


def _fewest(found: History) -> int:
    return int(min(sum(int(each.n[label]) for _, each in found.windows) for label in (0, 1)))


# --- the story -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """All that a window's labels are read against."""

    grid: Grid
    reference: Reference | None
    lateness: Lateness | None
    newest_landing: datetime | None = None
    segments: Mapping[str, Sequence[DelayCounts]] = field(default_factory=dict)
    """What delays each segment has shown."""

    def of_segment(self, segment: str, landed: Landed) -> Known:
        """The same for one segment: with the delay law as its own labels show it, as far as they do."""
        if self.lateness is None:
            return self
        weights = landed.labels.sum(axis=0) + 1e-3 * landed.predictions.sum(axis=0)[:, None]
        found = of_segment(self.lateness.law, self.segments.get(segment, ()), weights=weights)
        whose = "segment" if found.own >= 0.5 else "model"
        return replace(self, lateness=replace(self.lateness, law=found.law, of=whose))


def count_window(
    source: Source,
    model: ModelConfig,
    roles: Roles,
    window: Window,
    *,
    baseline: Baseline | None,
    now: datetime,
    grid: Grid,
) -> Counted:
    """Read and count one window's labels as of ``now``."""
    stream = source.read_labels(model, roles, window, now=now)
    return count(stream, window=window, now=now, grid=grid, segments=baselines.known_segments(baseline))[0]


def judge(scope: Scope, counted: Counted, known: Known, *, store: Store, mature: bool, now: datetime) -> list[Result]:
    """Three curves for all rows and each segment, and whether labels come as they used to."""
    age_days = (now - scope.window.end).total_seconds() / 86400
    expected = None
    # Where no label comes to mean one, all count once labels are mature.
    awaited = not mature and absent_class(scope.model) is None
    if scope.model.labels is not None and known.lateness is not None and awaited:
        due = scope.window.end + scope.model.labels.delay
        expected = labels_expected(counted.landed[None], known.lateness.windows, scope.window, now=now, due=due)
    results: list[Result] = []
    alone = only_one_class(scope.model, counted.scores[None], known)
    for segment, scores in counted.scores.items():
        never = counted.never.get(segment) or empty()
        complete = mature or (scores.label_coverage or 0.0) >= judging.NEARLY_ALL
        # Segments that are too small to be named are not worth the work.
        small = segment is not None and scores.n < max(scope.min_category_rows, 1)
        landed = None if complete or small else counted.landed[segment]
        mine = known
        if segment is not None and landed is not None:
            landed = _coarse(landed)
            mine = known.of_segment(segment, landed)
        curves, tables = _curves(scope.model, scores, never, landed, mine, segment=segment)
        notes: dict[str, Any] = {}
        if segment is None:
            odd = counted.notes | ({"never_labelled": never.n} if never.n else {})
            notes = {"labels": odd} if odd else {}
            notes |= judging.meaning_of_scores(scores, known.reference.calibrator if known.reference else None)
            notes |= judging.tables(scores, scope.model.performance.thresholds, never=never, corrected=tables)
        results += judging.results(
            scope,
            judging.Curves(
                **curves,
                n_labelled=scores.n_labelled,
                n_rows=scores.n,
                n_never=never.n,
                n_segments=0 if segment is None else len(counted.scores) - 1,
                mature=mature,
                age_days=age_days,
                notes=notes,
                expected=expected if segment is None else None,
                one_class=alone,
            ),
            segment=segment,
        )
    meant = None if known.reference is None else known.reference.scores
    results += scores_again(scope, counted.scores[None], meant, store=store, mature=mature, now=now)
    return results + _findings(scope, counted, known, store=store, now=now)


def only_one_class(model: ModelConfig, scores: ScoreLabels, known: Known) -> str:
    """Why labels say nothing of the decisions: there has only ever been one class of them; empty where there were both.

    A log of frauds alone, without ``absent_means``, has a precision of 1; labels that are spelled otherwise than
    ``positive`` have one of 0.
    """
    n = np.array([scores.n_negative, scores.n_positive], np.int64)
    if known.reference is not None:
        n += known.reference.classes
    if known.lateness is not None:
        n += sum((np.asarray(each.n) for _, each in known.lateness.windows), np.zeros(2, np.int64))
    if absent_class(model) is not None or n.all() or n.sum() < model.performance.min_labels:
        return ""
    if not n[1]:
        return f"of {n[0]:,} labels none is `positive: {model.positive}`: are they spelled so?"
    hint = ""
    if (scores.label_coverage or 0.0) < judging.NEARLY_ALL:
        hint = "; where a prediction without a label is a negative, say so with `labels.absent_means`"
    return f"all of {n[1]:,} labels are `positive: {model.positive}`{hint}"


def scores_again(
    scope: Scope,
    scores: ScoreLabels,
    baseline: CalibrationBaseline | None,
    *,
    store: Store,
    mature: bool,
    now: datetime,
) -> list[Result]:
    """Whether what a score means is as in the baseline, in this window and in the last ones together."""
    if baseline is None:
        return []
    column, window = column_of(scope.model, LABELS), scope.window
    few = baseline.n_windows < MIN_WINDOWS
    start = window.start - (meaning.HISTORY if few else max(meaning.SPANS)) * window.length
    kept = store.profiles(scope.name, start=start, end=window.start, columns=[column])
    before = meaning.fair_ones(kept, scope.model, now=now)
    if few:
        told = store.results(scope.name, check=Check.PERFORMANCE, start=start, end=window.start)
        bad = {r.window for r in told if r.metric in meaning.METRICS and r.verdict is Verdict.ALERT}
        baseline = baseline.beside([counts for each, counts in before if each not in bad])
    age = (now - window.end).total_seconds() / 86400
    recent = [counts for _, counts in before][-max(meaning.SPANS) :]
    return meaning.judge(scope, meaning.Labelled(scores, mature, age), baseline, recent)


def _coarse(landed: Landed, step: int = 4) -> Landed:
    """The same predictions in fewer groups of age: those of a segment are too few to tell more, and there are many."""
    starts = np.arange(0, len(landed.ages), step)
    ages = np.add.reduceat(landed.ages, starts) / np.diff(starts, append=len(landed.ages))
    predictions, labels = (np.add.reduceat(each, starts, axis=0) for each in (landed.predictions, landed.labels))
    return Landed(ages, predictions, labels, landed.decisions)


def _findings(scope: Scope, counted: Counted, known: Known, *, store: Store, now: datetime) -> list[Result]:
    late = known.lateness
    return findings(
        scope, counted.landed[None], late, grid=known.grid, store=store, newest=known.newest_landing, now=now
    )


def findings(
    scope: Scope,
    landed: Landed,
    late: Lateness | None,
    *,
    grid: Grid,
    store: Store,
    newest: datetime | None,
    now: datetime,
) -> list[Result]:
    """Whether labels come as they used to, said once, when the window is first looked at: it is about that moment.

    Nothing is said of a window from before the log began.
    """
    begun = late is not None and any(
        each.start < scope.window.end and counts.predictions.any() for each, counts in late.windows
    )
    if not begun and not landed.predictions.any():
        return []
    feature = column_of(scope.model, LABELS)
    if scope.revision:
        stored = store.results(scope.name, feature=feature, start=scope.window.start, end=scope.window.end)
        return [
            replace(each, revision=scope.revision)
            for each in stored
            if each.metric in FINDINGS and each.window == scope.window
        ]
    window, delay = scope.window, timedelta(0) if scope.model.labels is None else scope.model.labels.delay
    start = window.start - looked_back(window.length, delay)
    earlier = max(start, window.start - MOST_LOOKS * window.length)
    seen = history(
        store, scope.name, column_of(scope.model, DELAYS), start=start, now=now, alike=_no_delays(grid),
        leave_out=window, step=max(1, timedelta(days=1) // window.length),
    ).get(None)  # fmt: skip
    found = delay_findings(
        scope,
        None if late is None else late.law,
        [] if seen is None else seen.windows,
        newest=newest,
        now=now,
        history=store.results(scope.name, metric=OUTAGE, feature=feature, start=earlier, end=window.start),
        strata=grid.names,
    )
    return [replace(each, feature=feature) for each in found]


MOST_LOOKS = 400
"""Windows at most whose looks for an outage say what is usual."""


def _curves(
    model: ModelConfig,
    scores: ScoreLabels,
    never: ScoreLabels,
    landed: Landed | None,
    known: Known,
    *,
    segment: str | None,
) -> tuple[dict[str, Any], Tables | str | None]:
    """Realized, corrected and estimated; nothing is corrected without ``landed``: labels that are complete need it
    not.  And of all rows the corrected tables."""
    limits, metrics, whole = model.performance, metrics_of(model), segment is None
    told: dict[str, Any] = {"realized": _performance_of(model, scores, never)}
    told["corrected"], tables = {}, None
    if landed is not None:
        told["corrected"], tables = _corrected(model, scores, never, landed, known, whole=whole)
        told["widest"] = _widest(told["corrected"]) | _widest_worth(limits.value)
        told["law"] = "" if whole or known.lateness is None else known.lateness.of
    if known.reference is not None and known.reference.calibrator is not None:
        # Learned from labels alone: of the never labelled it holds where their scores mean the same.
        promised = estimate(merge_scores(scores, never) if never.n else scores, known.reference.calibrator)
        told["estimated"] = {name: promised[name] for name in metrics if name in promised}
    if known.reference is not None:
        told["reference"] = known.reference.measures if segment is None else known.reference.segments.get(segment)
        told["few"] = None if segment is None else known.reference.few.get(segment)
    return told, tables


def _corrected(
    model: ModelConfig, scores: ScoreLabels, never: ScoreLabels, landed: Landed, known: Known, *, whole: bool
) -> tuple[dict[str, Measure], Tables | str | None]:
    """Where each metric will be once all labels are in, by the delay law, and of all rows the tables; a reason where
    that cannot be known."""
    absent, beta = absent_class(model), model.performance.beta
    found: Fit | str = "no_delay_law"
    if not whole and scores.n_labelled < model.performance.min_labels:
        found = "too_few_labels"  # it would decide nothing
    elif known.lateness is not None:
        found = correcting.fit(landed, known.lateness.law, absent=absent)
    asked = [name for name in metrics_of(model) if name in CORRECTABLE]
    if isinstance(found, str):
        told = {name: Measure(None, n=scores.n, reason=found) for name in asked}
    else:
        told = {name: correcting.measure(found, name, beta=beta) for name in asked}
    worth = {str(outcome): each for outcome, each in model.performance.value.items()}
    if worth:
        told["value"] = Measure(None, n=scores.n, reason=found) if isinstance(found, str) else mean_worth(found, worth)
    of_scores, strata = found, known.grid.strata_of(scores.scores)
    if not len(known.grid.score_edges) and not isinstance(found, str):
        # Strata are parts of the window there, which scores say nothing of: all of one decision are one.
        of_scores = pooled(found, known.grid.decisions)
    thresholds = model.performance.thresholds if whole else []
    calibrator = None if known.reference is None else known.reference.calibrator
    table = expect(scores, of_scores, strata, calibrator=calibrator, thresholds=thresholds)
    told |= score_measures(table, scores, metrics=metrics_of(model), absent=absent)
    tables = corrected_tables(table, of_scores, scores, thresholds, absent=absent) if whole else None
    if not never.n:
        return told, tables
    if isinstance(tables, Tables) and isinstance(table, Expected):
        rows = thresholds_with_never_labelled(tables.thresholds, scores, never, table=table)
        tables = replace(tables, thresholds=rows)
    apart = corrected_scores_with_never_labelled(
        {name: told.pop(name) for name in SCORE_METRICS if name in told}, table, never
    )
    if "value" in told:
        apart["value"] = corrected_value_bounds(told.pop("value"), never, worth)
    return corrected_with_never_labelled(told, found, never, beta=beta) | apart, tables


def _widest(corrected: Mapping[str, Measure]) -> dict[str, float]:
    """A corrected error of the scores may decide when it is known to within half of itself, or to two points."""
    return {
        name: max(0.5 * found.value, 0.02)
        for name, found in corrected.items()
        if name in HIGHER_IS_WORSE and found.value is not None
    }


def _widest_worth(worth: Mapping[Any, float]) -> dict[str, float]:
    """The mean worth of a decision: to within a tenth of what outcomes differ by."""
    each = [0.0, *worth.values()]
    return {"value": 0.1 * (max(each) - min(each))} if worth else {}


def absent_class(model: ModelConfig) -> int | None:
    """The class that the lack of a label will mean, where the config says so."""
    if model.labels is None or model.labels.absent_means is None:
        return None
    return int(str(model.labels.absent_means).lower() == str(model.positive).lower())


def profiles(name: str, model: ModelConfig, window: Window, counted: Counted) -> list[StoredProfile]:
    """What of a window's labels is kept, apart from it the predictions that can never be labelled."""
    column = column_of(model, LABELS)
    kept = [
        StoredProfile(name, window, column, scores.coarsen(), segment) for segment, scores in counted.scores.items()
    ]
    if model.labels is not None and model.labels.only_when is not None:
        column = column_of(model, NEVER_LABELLED)
        kept += [StoredProfile(name, window, column, never.coarsen(), each) for each, never in counted.never.items()]
    delays = [(None, counted.delays), *counted.segment_delays.items()]
    return [*kept, *(StoredProfile(name, window, column_of(model, DELAYS), each, segment) for segment, each in delays)]
