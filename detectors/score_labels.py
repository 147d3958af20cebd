"""Score by label by decision, as counts: bounded, mergeable, and exact for the decisions that were taken.

The decision taken is kept beside the score, so that the confusion matrix is the one that happened, whatever the
threshold was at the time; any other threshold can be tried on the same counts.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.profiles import FloatArray, IntArray, ProfileError

MAX_SCORES = 2**20
NEGATIVE, POSITIVE, UNKNOWN = 0, 1, 2
_HEADER = struct.Struct("<4sBBhQdd")
_MAGIC = b"SLAB"
_VERSION = 1


@dataclass(frozen=True)
class Confusion:
    """Counts of labelled predictions by what was decided and what came true."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def n(self) -> int:
        return self.tp + self.fp + self.fn + self.tn


@dataclass(frozen=True, eq=False)
class ScoreLabels:
    """How often each score came with each label and each decision.

    Parameters
    ----------
    scores
        Increasing distinct scores, shape ``(S,)``; infinities are allowed, NaN is not.
    positives, negatives, unlabelled
        Counts at each score, shape ``(S, 3)``; the columns are the decision: negative, positive, not known.
    no_score
        Counts of predictions without a score, shape ``(3, 3)``: rows are the label (negative, positive, not known),
        columns the decision as above.
    low, high
        The extreme scores before any rounding; NaN when there are none.
    grid
        ``None``, or the exponent ``k`` of the cells of width ``2^k`` that scores were rounded into because there were
        too many distinct ones.
    exact
        Whether each score stands for itself; false after rounding or :meth:`coarsen`.
    """

    scores: FloatArray
    positives: IntArray
    negatives: IntArray
    unlabelled: IntArray
    no_score: IntArray
    low: float = math.nan
    high: float = math.nan
    grid: int | None = None
    exact: bool = True

    @property
    def n(self) -> int:
        """Predictions, labelled or not, with a score or without."""
        return self.n_labelled + int(self.unlabelled.sum() + self.no_score[UNKNOWN].sum())

    @property
    def n_labelled(self) -> int:
        return self.n_positive + self.n_negative

    @property
    def n_positive(self) -> int:
        return int(self.positives.sum() + self.no_score[POSITIVE].sum())

    @property
    def n_negative(self) -> int:
        return int(self.negatives.sum() + self.no_score[NEGATIVE].sum())

    @property
    def label_coverage(self) -> float | None:
        """The share of predictions whose label has landed; ``None`` without predictions."""
        return self.n_labelled / self.n if self.n else None

    @property
    def n_decided(self) -> int:
        """Predictions whose decision is known, labelled or not."""
        return int(self.decisions()[:2].sum())

    def decisions(self) -> IntArray:
        """Counts of negative, positive and unknown decisions, shape ``(3,)``, over all predictions."""
        with_score = (self.positives + self.negatives + self.unlabelled).sum(axis=0)
        return np.asarray(with_score + self.no_score.sum(axis=0), dtype=np.int64)

    def confusion(self, threshold: float | None = None) -> Confusion:
        """The confusion matrix of the decisions taken, or of ``score >= threshold`` had that been the rule.

        Predictions without a label, and without a decision (with a threshold: without a score), are left out.
        """
        if threshold is None:
            pos = self.positives.sum(axis=0) + self.no_score[POSITIVE]
            neg = self.negatives.sum(axis=0) + self.no_score[NEGATIVE]
            return Confusion(tp=int(pos[1]), fp=int(neg[1]), fn=int(pos[0]), tn=int(neg[0]))
        cut = int(np.searchsorted(self.scores, threshold, side="left"))
        return Confusion(
            tp=int(self.positives[cut:].sum()),
            fp=int(self.negatives[cut:].sum()),
            fn=int(self.positives[:cut].sum()),
            tn=int(self.negatives[:cut].sum()),
        )

    def coarsen(self, max_scores: int = 2000) -> ScoreLabels:
        """The same counts on at most ``max_scores`` scores, for keeping.

        Neighbouring scores are grouped to about equal numbers of predictions and stand at their mean.  The confusion
        of the decisions taken stays exact; areas move by less than ``1 / max_scores``.
        """
        if max_scores < 1:
            raise ValueError(f"at least one score must be kept, found max_scores={max_scores}")
        if len(self.scores) <= max_scores:
            return self
        table = table_of(self)
        weight = table.sum(axis=1)
        # Ends of groups by cumulated mass; the mid-mass rule keeps the number of groups at most max_scores.
        middle = np.cumsum(weight) - weight / 2
        group = np.minimum((middle * max_scores / weight.sum()).astype(np.int64), max_scores - 1)
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        finite = np.where(np.isfinite(self.scores), self.scores, np.clip(self.scores, *_finite_range(self.scores)))
        sums = np.add.reduceat(finite * weight, starts) / np.add.reduceat(weight, starts)
        ends = np.append(starts[1:], len(self.scores)) - 1
        means = np.clip(sums, finite[starts], finite[ends])
        alone = starts == ends
        means[alone] = self.scores[starts[alone]]
        return _from_table(
            means,
            np.add.reduceat(table, starts, axis=0),
            self.no_score,
            bounds=(self.low, self.high),
            grid=self.grid,
            exact=False,
        )


def _finite_range(scores: FloatArray) -> tuple[float, float]:
    finite = scores[np.isfinite(scores)]
    return (float(finite[0]), float(finite[-1])) if len(finite) else (0.0, 0.0)


def table_of(counts: ScoreLabels) -> IntArray:
    """One row for each score, shape ``(S, 9)``: three decisions for each of negative, positive, unlabelled."""
    return np.hstack([counts.negatives, counts.positives, counts.unlabelled])


def _from_table(
    scores: FloatArray,
    table: IntArray,
    no_score: IntArray,
    *,
    bounds: tuple[float, float],
    grid: int | None,
    exact: bool,
) -> ScoreLabels:
    return ScoreLabels(
        scores=scores,
        negatives=table[:, 0:3],
        positives=table[:, 3:6],
        unlabelled=table[:, 6:9],
        no_score=no_score,
        low=bounds[0],
        high=bounds[1],
        grid=grid,
        exact=exact,
    )


def empty() -> ScoreLabels:
    """The counts of no predictions: the neutral element of :func:`merge`."""
    none = np.zeros((0, 9), dtype=np.int64)
    return _from_table(
        np.zeros(0), none, np.zeros((3, 3), dtype=np.int64), bounds=(math.nan, math.nan), grid=None, exact=True
    )


def merge(first: ScoreLabels, second: ScoreLabels) -> ScoreLabels:
    """The counts of the predictions of both; the order of merging does not matter."""
    for one, other in ((first, second), (second, first)):
        if not len(one.scores):
            return replace(other, no_score=first.no_score + second.no_score)
    bounds = (_least(first.low, second.low), _most(first.high, second.high))
    grids = [one.grid for one in (first, second) if one.grid is not None]
    grid = max(grids) if grids else None
    if grid is not None:
        first, second = (_on_grid(one, grid, bounds) for one in (first, second))
    scores, table = _union(first, second)
    return _bounded(
        _from_table(
            scores,
            table,
            first.no_score + second.no_score,
            bounds=bounds,
            grid=grid,
            exact=first.exact and second.exact,
        )
    )


def merge_all(parts: Iterable[ScoreLabels]) -> ScoreLabels:
    """The counts of all parts; of none, the empty counts."""
    total = empty()
    for part in parts:
        total = merge(total, part)
    return total


def _least(first: float, second: float) -> float:
    return float(np.fmin(first, second))


def _most(first: float, second: float) -> float:
    return float(np.fmax(first, second))


def _union(first: ScoreLabels, second: ScoreLabels) -> tuple[FloatArray, IntArray]:
    """The distinct scores of both, and their rows added up; each side is distinct and in order."""
    scores = _distinct(np.sort(np.concatenate([first.scores, second.scores]), kind="stable"))
    table = np.zeros((9, len(scores)), np.int64)  # column by column: what no row has is never touched
    for one in (first, second):
        rows = np.searchsorted(scores, one.scores)
        parts = (part[:, at] for part in (one.negatives, one.positives, one.unlabelled) for at in range(3))
        for column, part in zip(table, parts, strict=True):
            if part.any():
                column[rows] += part
    return scores, table.T


def _on_grid(counts: ScoreLabels, grid: int, bounds: tuple[float, float]) -> ScoreLabels:
    """The counts on the cells of a grid, between other extremes."""
    scores = _to_grid(counts.scores, grid, bounds)
    fresh = np.flatnonzero(np.concatenate([[True], scores[1:] != scores[:-1]]))
    if len(fresh) < len(scores):
        parts = (
            np.add.reduceat(part, fresh, axis=0) for part in (counts.negatives, counts.positives, counts.unlabelled)
        )
        negatives, positives, unlabelled = parts
        counts = replace(counts, negatives=negatives, positives=positives, unlabelled=unlabelled)
    return replace(counts, scores=scores[fresh], low=bounds[0], high=bounds[1], grid=grid)


def _distinct(ordered: FloatArray) -> FloatArray:
    return ordered[_starts(ordered)]


def _starts(ordered: npt.NDArray[Any]) -> IntArray:
    """Where runs of equal values begin."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _to_grid(scores: FloatArray, exponent: int, bounds: tuple[float, float]) -> FloatArray:
    """Move each score to the middle of its cell ``[i 2^k, (i + 1) 2^k)``, but not beyond the extreme scores.

    The cells of exponent ``k + 1`` are unions of cells of exponent ``k``, and each stand-in lies in its own cell; so
    rounding in several steps ends where rounding once would, and merging stays associative.
    """
    width = math.ldexp(1.0, exponent)
    finite = np.isfinite(scores)
    moved = scores.copy()
    some = scores if finite.all() else scores[finite]
    cells = _cells(some, exponent)
    if cells is None:
        rest = np.fmod(some, width)
        rest[rest < 0] += width
        cells = some - rest
    else:
        cells *= width
    cells += width / 2
    moved[finite] = np.clip(cells, *bounds)
    return moved


def _cells(scores: FloatArray, exponent: int) -> FloatArray | None:
    """The number of the cell of each finite score; ``None`` where that may be no float."""
    if not len(scores):
        return scores.copy()
    if abs(exponent) > _PLAIN or max(-scores.min(), scores.max(), 1.0) > 2.0**_PLAIN:
        return None
    found = scores * math.ldexp(1.0, -exponent)
    return np.floor(found, out=found)


_PLAIN = 400
"""Numbers of up to so many bits before the point, and cells of as few or as many, can be divided by each other."""


def _n_cells(counts: ScoreLabels, exponent: int) -> int:
    """How many different scores are left on a grid."""
    finite = np.isfinite(counts.scores)
    some = counts.scores if finite.all() else counts.scores[finite]
    cells = _cells(some, exponent)
    if cells is None:
        cells = _to_grid(some, exponent, (counts.low, counts.high))
    return len(counts.scores) - len(some) + min(1, len(some)) + int(np.count_nonzero(cells[1:] != cells[:-1]))


def _bounded(counts: ScoreLabels, limit: int = MAX_SCORES) -> ScoreLabels:
    """Round onto the finest power-of-two grid that leaves at most ``limit`` distinct scores, if there are more."""
    if len(counts.scores) <= limit:
        return counts
    fine, coarse = (-1074 if counts.grid is None else counts.grid), 1023
    low, high = _finite_range(counts.scores)
    spread = high - low
    if limit > 8 and 0 < spread < math.inf:  # so wide a grid is wide enough, and mostly not much too wide
        guess = min(max(math.frexp(spread / (limit - 4))[1], fine), coarse)
        step = 1
        while guess > fine and _n_cells(counts, guess) <= limit:
            coarse, guess, step = guess, max(fine, guess - step), 2 * step
        fine = guess + 1 if guess > fine else fine
    while fine < coarse:
        middle = (fine + coarse) // 2
        if _n_cells(counts, middle) <= limit:
            coarse = middle
        else:
            fine = middle + 1
    return replace(_on_grid(counts, fine, (counts.low, counts.high)), exact=False)


class ScoreLabelCounter:
    """Counts scores, decisions and labels batch by batch, in bounded memory.

    The counts do not depend on the order of the rows nor on how they were cut into batches.

    Parameters
    ----------
    max_scores
        Distinct scores that are kept; more are rounded into cells of equal width.
    """

    def __init__(self, *, buffer_rows: int = 2**20, max_scores: int = MAX_SCORES) -> None:
        self._counts = empty()
        self._max_scores = max_scores
        self._pending: list[tuple[FloatArray, npt.NDArray[np.int8]]] = []
        self._pending_rows = 0
        self._buffer_rows = buffer_rows

    def update(self, scores: npt.ArrayLike, decisions: npt.ArrayLike | None, labels: npt.ArrayLike | None) -> None:
        """Count one batch.

        Parameters
        ----------
        scores
            Shape ``(n,)``; NaN is a prediction without a score.
        decisions, labels
            Shape ``(n,)``, bool or number; NaN (or ``None`` for the whole array) is "not known" and "not labelled".
            Any number other than 0 is positive.
        """
        score = np.asarray(scores, dtype=np.float64)
        self.update_codes(
            score, 3 * _states(labels, len(score), "labels") + _states(decisions, len(score), "decisions")
        )

    def update_codes(self, scores: FloatArray, codes: npt.NDArray[np.int8]) -> None:
        """Count one batch of scores with ``3 * label + decision``, each 0, 1 or 2: negative, positive, not known."""
        score = scores + 0.0  # -0.0 and 0.0 are the same score
        self._pending.append((score, codes))
        self._pending_rows += len(score)
        if self._pending_rows >= self._buffer_rows:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        score = np.concatenate([part for part, _ in self._pending])
        code = np.concatenate([part for _, part in self._pending])
        self._pending, self._pending_rows = [], 0
        self._counts = _bounded(merge(self._counts, _count_rows(score, code)), self._max_scores)

    def counts(self) -> ScoreLabels:
        """What has been counted so far."""
        self._flush()
        return self._counts


def _states(values: npt.ArrayLike | None, n: int, what: str) -> npt.NDArray[np.int8]:
    if values is None:
        return np.full(n, UNKNOWN, dtype=np.int8)
    number = np.asarray(values, dtype=np.float64)
    if number.shape != (n,):
        raise ValueError(f"{n} scores came with {what} of shape {number.shape}")
    # NaN is not 0, and one more: UNKNOWN.
    return np.asarray((number != 0).view(np.int8) + np.isnan(number).view(np.int8), dtype=np.int8)


def _count_rows(score: FloatArray, code: npt.NDArray[np.int8]) -> ScoreLabels:
    # The code is 3 * (negative, positive, unlabelled) + decision: the column order of the table.
    absent = np.isnan(score)
    no_score = np.bincount(code[absent], minlength=9).reshape(3, 3).astype(np.int64)
    if absent.any():
        score, code = score[~absent], code[~absent]
    if not len(score):
        none = empty()
        return _from_table(none.scores, table_of(none), no_score, bounds=(none.low, none.high), grid=None, exact=True)
    found = _by_score(score, code)
    if found is None:
        ordered = np.sort(score)
        fresh = ordered[1:] != ordered[:-1]
        distinct = ordered if fresh.all() else ordered[np.concatenate([[True], fresh])]
        cell = _codes_in_order(score, code, fresh, rising=ordered[0] >= 0)
        if cell is None:
            found = distinct, _by_code(score, code, distinct)
        else:
            cell *= len(distinct)
            cell[1:] += np.cumsum(fresh)
            found = distinct, np.bincount(cell, minlength=9 * len(distinct)).reshape(9, -1).T
    distinct, table = found
    bounds = (float(distinct[0]), float(distinct[-1]))
    return _bounded(_from_table(distinct, table, no_score, bounds=bounds, grid=None, exact=True))


def _by_score(score: FloatArray, code: npt.NDArray[np.int8]) -> tuple[FloatArray, IntArray] | None:
    """The distinct scores, and how often each comes with each code: shapes ``(S,)`` and ``(S, 9)``.

    Numbers alone sort several times faster than numbers with something beside them.  Scores that are 0, or above 2^-255
    and below 2, have their first four bits in common, whose place the code can take: one sort orders both.  ``None``
    where there are other scores.
    """
    packed = score.view(np.uint64)
    if packed.max() >= _FIRST + _SPAN:  # a sign counts as much: negative numbers are above, too
        return None
    low = packed <= _FIRST
    if low.any() and packed[low].any():
        return None
    packed = np.maximum(packed, _FIRST)
    packed -= _FIRST
    packed <<= np.uint64(4)
    packed |= code.view(np.uint8)
    packed.sort()
    counts = np.ones(1, np.int64)
    several = packed[1:] == packed[:-1]
    if several.any():
        starts = np.flatnonzero(np.concatenate([[True], ~several]))
        counts, packed = np.diff(starts, append=len(packed)), packed[starts]
    fresh = np.concatenate([[True], (packed[1:] ^ packed[:-1]) > np.uint64(15)])
    distinct = packed if fresh.all() else packed[fresh]
    # One column after the other in memory: what no row has is never touched.
    table = np.zeros((9, len(distinct)), np.int64)
    first = 0
    for at in range(0, len(packed), _BLOCK):
        cell = np.arange(first, first + len(fresh[at : at + _BLOCK]))
        if distinct is not packed:
            cell = np.cumsum(fresh[at : at + _BLOCK]) + (first - 1)
        first = int(cell[-1]) + 1
        cell += (packed[at : at + _BLOCK] & np.uint64(15)).view(np.int64) * len(distinct)
        table.reshape(-1)[cell] = counts[at : at + _BLOCK] if len(counts) > 1 else counts
    distinct >>= np.uint64(4)
    distinct += _FIRST
    distinct[:1] *= distinct[:1] > _FIRST  # 0 is the least of them
    return distinct.view(np.float64), table.T


_BLOCK = 1 << 14
_FIRST, _SPAN = np.uint64(3 << 60), np.uint64(1 << 60)
"""The bits of 2^-255 as a float, and how far the numbers go that begin with the same four."""


def _codes_in_order(
    score: FloatArray, code: npt.NDArray[np.int8], fresh: npt.NDArray[np.bool_], *, rising: bool
) -> IntArray | None:
    """The codes of the rows in the order of their scores; ``fresh`` marks where these differ from the one before.

    The code takes the place of the last four bits of its score.  ``None`` where two different scores are alike without
    these.  ``rising`` says that no score is below 0.
    """
    packed = score.view(np.uint64) & ~np.uint64(15)
    if not rising:  # as numbers in the order of the scores
        packed ^= np.where(packed >> np.uint64(63), ~np.uint64(15), np.uint64(1 << 63))
    packed |= code.view(np.uint8)
    packed.sort()
    if not np.array_equal((packed[1:] ^ packed[:-1]) > np.uint64(15), fresh):
        return None
    packed &= np.uint64(15)
    return packed.view(np.int64)


def _by_code(score: FloatArray, code: npt.NDArray[np.int8], distinct: FloatArray) -> IntArray:
    """How often each of the distinct scores comes with each code, shape ``(S, 9)``."""
    table = np.zeros((len(distinct), 9), np.int64)
    for column in range(9):
        own = np.sort(score[code == column])
        if len(own):
            starts = _starts(own)
            table[np.searchsorted(distinct, own[starts]), column] = np.diff(starts, append=len(own))
    return table


def to_bytes(counts: ScoreLabels) -> bytes:
    """Pack for storage; :func:`from_bytes` gives the same counts back, on any machine."""
    header = _HEADER.pack(
        _MAGIC,
        _VERSION,
        int(counts.exact) | 2 * (counts.grid is not None),
        counts.grid or 0,
        len(counts.scores),
        counts.low,
        counts.high,
    )
    table = table_of(counts)
    width = next(w for w in (1, 2, 4, 8) if int(table.max(initial=0)) < 1 << (8 * w - (w == 8)))
    body = b"".join(
        [
            counts.no_score.astype("<i8").tobytes(),
            bytes([width]),
            counts.scores.astype("<f8").tobytes(),
            table.T.astype(f"<u{width}").tobytes(),
        ]
    )
    return header + zlib.compress(body, 6)


def from_bytes(blob: bytes) -> ScoreLabels:
    """Unpack what :func:`to_bytes` packed.

    Raises
    ------
    ProfileError
        The bytes are damaged, of something else, or of a newer version.
    """
    try:
        magic, version, flags, grid, n, low, high = _HEADER.unpack_from(blob)
        if magic != _MAGIC or version != _VERSION:
            raise ProfileError(f"expected score × label counts of version {_VERSION}, found {magic!r} {version}")
        body = zlib.decompress(blob[_HEADER.size :])
        no_score = np.frombuffer(body, dtype="<i8", count=9).reshape(3, 3).astype(np.int64)
        width = body[72]
        scores = np.frombuffer(body, dtype="<f8", count=n, offset=73).astype(np.float64)
        cells = np.frombuffer(body, dtype=f"<u{width}", count=9 * n, offset=73 + 8 * n)
    except (struct.error, zlib.error, ValueError, IndexError, TypeError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f"these {len(blob)} bytes are not score × label counts: {error}") from error
    return _from_table(
        scores,
        np.ascontiguousarray(cells.reshape(9, n).T.astype(np.int64)),
        no_score,
        bounds=(low, high),
        grid=grid if flags & 2 else None,
        exact=bool(flags & 1),
    )
