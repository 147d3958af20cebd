"""One pass over a window's labels, as counts: by score, by when they landed, and of those that never can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.delay_counts import DelayCounts, age_edges, count_delays, count_states, merge
from detectors.display import quantile
from detectors.posterior import Landed
from detectors.profiles import NumericProfile, NumericSpec
from detectors.score_labels import ScoreLabelCounter, ScoreLabels
from monitor import counting
from monitor.config import ModelConfig
from monitor.models import DECISION, SCORE, Baseline, Window
from monitor.sources import LABEL_TIME, NEVER

LABELS = "__labels__"
DELAYS = "__delays__"
NEVER_LABELLED = "__never_labelled__"
SLOTS = 24
"""Groups of predictions of about one age in a window."""
PARTS = 12
"""Parts of a window that are strata where there is no score."""
ODDITIES = ("contradictions", "before_prediction", "despite", "duplicates")
"""What a stream of labels counts beside them."""
_STRATA_AT = (0.5, 0.8, 0.95)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    empty = no_delays(grid)
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


def no_delays(grid: Grid) -> DelayCounts:
    """The counts of no label over the ages and strata of a grid."""
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
