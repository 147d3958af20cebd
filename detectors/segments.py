"""Counting by segment: rows of one column go in with the segment of each, and a profile of each segment comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.kernel import CategoricalCounter, Placed
from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    FloatArray,
    IntArray,
    NumericProfile,
    NumericSpec,
    merge_moments,
)


class Segments(NamedTuple):
    """In which segment each row of a batch is: the same for all columns, so worked out once.

    ``codes`` has shape ``(rows,)``: segments are numbered from 1, and 0 is a row of none.  ``sizes`` has shape
    ``(segments + 1,)``, the rows of each code; ``rows`` are the row numbers of code 0, then those of code 1, ….
    """

    codes: IntArray
    sizes: IntArray
    rows: IntArray

    @property
    def n_segments(self) -> int:
        return len(self.sizes) - 1


def in_segments(codes: npt.ArrayLike, n_segments: int) -> Segments:
    """Take the segment of each row, ``0 … n_segments``, and see to what all columns need of it."""
    numbers = np.asarray(codes, dtype=np.int64)
    small = numbers.astype(np.min_scalar_type(n_segments))  # up to 16 bits are sorted digit by digit
    return Segments(numbers, np.bincount(numbers, minlength=n_segments + 1), np.argsort(small, kind="stable"))


class SegmentedNumericCounter:
    """Counts a numeric column by segment, over the cells of ``spec``.

    The batch is sorted, and its edges are searched, once for all rows: see :meth:`NumericCounter.update_rows`.  What is
    left to do by segment is one table of how often each segment meets each cell.  Counts are those of a
    :class:`NumericCounter` that sees the rows of one segment; moments are so to rounding.
    """

    def __init__(self, spec: NumericSpec) -> None:
        self._cells = np.zeros((1, spec.n_cells), dtype=np.int64)  # the first row is of no segment
        self._sizes = np.zeros((0, 4), dtype=np.int64)  # rows, missing, plus infinity, minus infinity
        self._ends = np.zeros((0, 2))  # minimum, maximum
        self._tails = np.zeros((0, 2))  # sums of the finite values in the lowest and in the highest cell
        self._moments: list[tuple[int, float, float]] = []

    def update(self, values: FloatArray, placed: Placed, segments: Segments) -> None:
        """Count one batch.

        Parameters
        ----------
        values
            The batch as it was given to :meth:`NumericCounter.update_rows`, shape ``(rows,)``.
        placed
            What that answered.
        segments
            The segment of each row.  There may be more of them from one batch to the next, never fewer.
        """
        self._grow(segments.n_segments)
        codes = segments.codes.take(placed.rows)
        n_present = len(placed.values)
        self._sizes[:, 0] += segments.sizes[1:]
        if n_present < len(codes):
            self._sizes[:, 1] += self._by_segment(codes[n_present:])
            codes = codes[:n_present]
        if not n_present:
            return
        first, last = placed.finite
        if last < n_present:
            self._sizes[:, 2] += self._by_segment(codes[last:])
        if first:
            self._sizes[:, 3] += self._by_segment(codes[:first])
        for side, (start, end) in enumerate(placed.tails):
            if start < end:
                part = placed.values[start:end]
                self._tails[:, side] += np.bincount(codes[start:end], part, minlength=len(self._tails) + 1)[1:]
        self._count(codes, placed.cells)
        self._measure(values, segments, all_finite=last - first == len(values))

    def _grow(self, n_segments: int) -> None:
        more = n_segments - len(self._sizes)
        if more > 0:
            self._cells = np.concatenate([self._cells, np.zeros((more, self._cells.shape[1]), dtype=np.int64)])
            self._sizes = np.concatenate([self._sizes, np.zeros((more, 4), dtype=np.int64)])
            self._ends = np.concatenate([self._ends, np.tile([math.inf, -math.inf], (more, 1))])
            self._tails = np.concatenate([self._tails, np.zeros((more, 2))])
            self._moments += [(0, math.nan, math.nan)] * more

    def _by_segment(self, codes: IntArray) -> IntArray:
        return np.bincount(codes, minlength=len(self._sizes) + 1)[1:]

    def _count(self, codes: IntArray, cells: IntArray) -> None:
        """Add the rows of each segment in each cell; ``codes`` are in the order of cells, and used up."""
        n_cells = self._cells.shape[1]
        codes *= n_cells
        codes += np.repeat(np.arange(n_cells), cells)
        np.add.at(self._cells.reshape(-1), codes, 1)  # faster than adding np.bincount, also where cells are few

    def _measure(self, values: FloatArray, segments: Segments, *, all_finite: bool) -> None:
        """Lowest and highest finite value, and moments, of each segment."""
        rows, sizes = segments.rows[segments.sizes[0] :], segments.sizes[1:]
        together = values.take(rows)
        if not all_finite:
            kept = np.flatnonzero(np.isfinite(together))
            ends = np.searchsorted(kept, np.cumsum(sizes))
            together, sizes = together.take(kept), np.diff(ends, prepend=0)
        found = np.flatnonzero(sizes)
        if not len(found):
            return
        sizes = sizes[found]
        starts = np.cumsum(sizes) - sizes
        low, high = np.minimum.reduceat(together, starts), np.maximum.reduceat(together, starts)
        self._ends[found, 0] = np.minimum(self._ends[found, 0], low) + 0.0  # + 0.0: never -0.0
        self._ends[found, 1] = np.maximum(self._ends[found, 1], high) + 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            means = np.add.reduceat(together, starts) / sizes
            beyond = ~np.isfinite(means)
            if beyond.any():
                means[beyond] = np.add.reduceat(together / np.repeat(sizes, sizes), starts)[beyond]
            together -= np.repeat(means, sizes)
            together *= together
            squares = np.add.reduceat(together, starts)
        for segment, *moments in zip(found.tolist(), sizes.tolist(), means.tolist(), squares.tolist(), strict=True):
            n, mean, m2 = moments
            self._moments[segment] = merge_moments(self._moments[segment], (n, mean, m2))

    def profiles(self) -> list[NumericProfile]:
        """What has been counted of each segment, in the order of their numbers: a last word, for memory's sake.

        The cells are those that were counted in and not copies, so that a further update would change them.
        """
        answer = []
        for segment, (n_finite, mean, m2) in enumerate(self._moments):
            n, missing, pos_inf, neg_inf = self._sizes[segment].tolist()
            minimum, maximum = self._ends[segment].tolist() if n_finite else (math.nan, math.nan)
            low_sum, high_sum = self._tails[segment].tolist()
            cells = self._cells[segment + 1]
            answer.append(
                NumericProfile(n, missing, pos_inf, neg_inf, cells, minimum, maximum, mean, m2, low_sum, high_sum)
            )
        return answer


class SegmentedCategoricalCounter:
    """Counts a categorical column by segment, over the categories of ``spec``."""

    def __init__(self, spec: CategoricalSpec) -> None:
        self._spec = spec
        self._counters: list[CategoricalCounter] = []

    def update(self, places: IntArray, counts: IntArray, values: Sequence[str | None]) -> None:
        """Count one batch.

        Parameters
        ----------
        places
            :meth:`CategoricalCounter.places` of ``values``.
        counts
            Rows of each segment and value, shape ``(segments + 1, len(values) + 1)``: the first row is of no segment,
            the last column is missing.
        values
            Distinct values.
        """
        while len(self._counters) < len(counts) - 1:
            self._counters.append(CategoricalCounter(self._spec))
        for counter, row in zip(self._counters, counts[1:], strict=True):
            if row.any():
                counter.update_at(places, row[:-1], values, missing=int(row[-1]))

    def profiles(self) -> list[CategoricalProfile]:
        """What has been counted so far of each segment, in the order of their numbers."""
        return [counter.profile() for counter in self._counters]


def cross_counts(codes: npt.NDArray[np.integer[Any]], n_codes: int, segments: Segments) -> IntArray:
    """How often each segment meets each of ``0 … n_codes - 1``, shape ``(segments + 1, n_codes)``."""
    shape = len(segments.sizes), n_codes
    keys = segments.codes * n_codes
    keys += codes
    return np.bincount(keys, minlength=shape[0] * shape[1]).reshape(shape)
