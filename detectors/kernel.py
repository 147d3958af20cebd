"""Counting: rows of one column go in, batch by batch, and a profile comes out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    FloatArray,
    IntArray,
    NumericProfile,
    NumericSpec,
    heaviest,
    merge_moments,
)

_MAX_UNSEEN = 4096
_MAX_TEXT = 200


class Placed(NamedTuple):
    """Where each row of a batch lies, as :meth:`NumericCounter.update_rows` found it.

    ``rows`` are the row numbers by value, those of missing values last; ``values`` are the others in that order, and
    ``cells`` how many of them each cell holds, shape ``(n_cells,)``.  ``finite`` is the span of the finite values in
    ``values``, and ``tails`` are those of the finite values in the lowest and in the highest cell.
    """

    rows: IntArray
    values: FloatArray
    cells: IntArray
    finite: tuple[int, int]
    tails: tuple[tuple[int, int], tuple[int, int]]


def sort_rows(values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Row numbers by value, those of NaN last, and the values in that order without NaN.

    The lowest bits of each value give way to its row number, and the two are sorted as one integer: half the time of
    ``np.argsort``, which is left to batches in which values differ in no other bits.

    Parameters
    ----------
    values
        Shape ``(rows,)``, contiguous.  Not changed.
    """
    bits = values.view(np.int64)
    low = (1 << max(0, len(values) - 1).bit_length()) - 1
    keys = bits >> 63
    keys &= _LARGEST
    keys ^= bits  # negative floats are in reverse as integers
    gone = np.isnan(values)
    n_present = len(values) - int(np.count_nonzero(gone))
    if n_present < len(values):
        keys[gone] = _LARGEST
    keys &= ~low
    keys |= np.arange(len(values))
    keys.sort()
    keys &= low
    in_order = values.take(keys[:n_present])
    if not (in_order[1:] >= in_order[:-1]).all():
        keys = np.argsort(values)
        in_order = values.take(keys[:n_present])
    return keys, in_order


_LARGEST = np.iinfo(np.int64).max


class NumericCounter:
    """Counts a numeric column over the cells of ``spec``.

    Each batch is sorted, and the *edges* are searched in it: about 4 ns a value, ten times faster than searching the
    values in the edges.  Counts do not depend on the order of rows nor on how they are split into batches; moments
    do not beyond rounding.
    """

    def __init__(self, spec: NumericSpec) -> None:
        heavy = bool(spec.slack.any())
        self._low = spec.edges - spec.slack if heavy else spec.edges
        self._high = spec.edges + spec.slack if heavy else spec.edges
        self._below = np.zeros(len(spec.edges), dtype=np.int64)
        self._up_to = np.zeros(len(spec.edges), dtype=np.int64)
        self._n = 0
        self._missing = 0
        self._pos_inf = 0
        self._neg_inf = 0
        self._minimum = math.inf
        self._maximum = -math.inf
        self._moments = (0, math.nan, math.nan)
        self._low_sum = 0.0
        self._high_sum = 0.0

    def update(self, values: npt.ArrayLike, *, missing: int = 0) -> None:
        """Count one batch.

        Parameters
        ----------
        values
            Anything that NumPy reads as float64, one-dimensional; NaN is missing.  Integers beyond 2**53 are rounded,
            as the edges were.  Batches of some 10,000 to 100,000 values are fastest.  Not changed.
        missing
            Further missing values that are not in ``values`` (a source that has set NULLs aside).
        """
        batch = np.array(values, dtype=np.float64).reshape(-1)
        batch.sort()
        n = len(batch) + missing
        if len(batch) and math.isnan(batch[-1]):  # NumPy sorts NaN to the end
            batch = batch[: int(batch.searchsorted(math.nan))]
        self._add(batch, n)

    def update_rows(self, values: FloatArray) -> Placed:
        """Count one batch, as :meth:`update` does, and tell where each row lies: for counting by segment.

        Parameters
        ----------
        values
            Shape ``(rows,)``, contiguous; NaN is missing.  Not changed.
        """
        rows, batch = sort_rows(values)
        bounds = self._add(batch, len(values))
        first, last = _finite(batch)
        tails = (first, max(first, int(bounds[1]))), (min(int(bounds[-2]), last), last)
        return Placed(rows, batch, np.diff(bounds), (first, last), tails)

    def _add(self, batch: FloatArray, n: int) -> IntArray:
        """Count a sorted batch without NaN, of ``n`` rows with those missing; answers where each cell starts in it."""
        self._n += n
        self._missing += n - len(batch)
        if not len(batch):
            return np.zeros(2 * len(self._low) + 2, dtype=np.int64)
        below, up_to = self._search(batch)
        self._below += below
        self._up_to += up_to
        self._measure(batch, int(below[0]), int(up_to[-1]))
        return _bounds(below, up_to, len(batch))

    def _search(self, batch: npt.NDArray[np.float64]) -> tuple[IntArray, IntArray]:
        """How many values of the sorted ``batch`` are below each edge, and below or on it."""
        below = batch.searchsorted(self._low)
        # Only edges that some value lies on need a second search; in continuous columns those are few.
        hit = np.flatnonzero(batch.take(below, mode="clip") <= self._high)
        if len(hit) == len(below):
            return below, batch.searchsorted(self._high, side="right")
        up_to = below.copy()
        up_to[hit] = batch.searchsorted(self._high[hit], side="right")
        return below, up_to

    def _measure(self, batch: npt.NDArray[np.float64], n_low: int, n_not_high: int) -> None:
        """Infinities, moments and tail sums of a sorted batch without NaN."""
        first, last = _finite(batch)
        self._neg_inf += first
        self._pos_inf += len(batch) - last
        finite = batch[first:last]
        if not len(finite):
            return
        self._minimum = min(self._minimum, float(finite[0]) + 0.0)  # + 0.0: never -0.0
        self._maximum = max(self._maximum, float(finite[-1]) + 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(finite.sum()) / len(finite)
            if not math.isfinite(mean):
                mean = float((finite / len(finite)).sum())
            deviations = finite - mean
            m2 = float(np.einsum("i,i->", deviations, deviations))  # not a dot product: BLAS would start threads
            self._low_sum += float(batch[first : max(first, n_low)].sum())
            self._high_sum += float(batch[min(n_not_high, last) : last].sum())
        self._moments = merge_moments(self._moments, (len(finite), mean, m2))

    def profile(self) -> NumericProfile:
        """What has been counted so far; further updates do not change it."""
        bounds = _bounds(self._below, self._up_to, self._n - self._missing)
        n_finite, mean, m2 = self._moments
        return NumericProfile(
            n=self._n,
            missing=self._missing,
            pos_inf=self._pos_inf,
            neg_inf=self._neg_inf,
            cells=np.diff(bounds),
            minimum=self._minimum if n_finite else math.nan,
            maximum=self._maximum if n_finite else math.nan,
            mean=mean,
            m2=m2,
            low_sum=self._low_sum,
            high_sum=self._high_sum,
        )


def _finite(batch: FloatArray) -> tuple[int, int]:
    """The span of the finite values of a sorted batch."""
    first, last = 0, len(batch)
    if last and batch[0] == -math.inf:
        first = int(batch.searchsorted(-math.inf, side="right"))
    if last and batch[-1] == math.inf:
        last = int(batch.searchsorted(math.inf))
    return first, last


def _bounds(below: IntArray, up_to: IntArray, n_present: int) -> IntArray:
    """Where each cell starts among the sorted values, and where the last one ends, shape ``(n_cells + 1,)``."""
    bounds = np.empty(2 * len(below) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, n_present
    bounds[1:-1:2], bounds[2:-1:2] = below, up_to
    return bounds


class CategoricalCounter:
    """Counts a categorical column over the categories of ``spec``.

    Memory is bounded: of never-seen values, the ``4096`` heaviest at any time are remembered by name, and the profile
    keeps the heaviest of these; how many rows were unseen is always exact.
    """

    def __init__(self, spec: CategoricalSpec) -> None:
        self._places = {category: place for place, category in enumerate(spec.categories)}
        self._counts = np.zeros(len(spec.categories) + 1, dtype=np.int64)  # the last place is nobody's
        self._missing = 0
        self._unseen = 0
        self._new: dict[str, int] = {}

    def update(self, values: Iterable[str | None], counts: npt.ArrayLike | None = None, *, missing: int = 0) -> None:
        """Count one batch.

        Parameters
        ----------
        values
            Distinct values with their ``counts``, or rows if ``counts`` is not given; ``None`` is missing.  The empty
            string is a value.
        counts
            Rows of each value, same length as ``values``.
        missing
            Further missing rows that are not in ``values``.
        """
        if counts is None:
            tally = Counter(values)
            values, counts = list(tally), list(tally.values())
        values = values if isinstance(values, list) else list(values)
        self.update_at(self.places(values), counts, values, missing=missing)

    def places(self, values: Sequence[str | None]) -> IntArray:
        """Where each of ``values`` is counted, shape ``(len(values),)``: worth keeping while a dictionary stays."""
        nobody = len(self._places)
        return np.array([self._places.get(value, nobody) for value in values], dtype=np.int64)  # type: ignore[arg-type]

    def update_at(
        self, places: IntArray, counts: npt.ArrayLike, values: Sequence[str | None], *, missing: int = 0
    ) -> None:
        """As :meth:`update` with ``counts``, where the :meth:`places` of ``values`` are known already."""
        numbers = np.asarray(counts, dtype=np.int64)
        if len(numbers) != len(places):
            raise ValueError(f"{len(places)} values with {len(numbers)} counts")
        self._missing += missing
        np.add.at(self._counts, places, numbers)
        if not self._counts[-1]:
            return
        self._counts[-1] = 0
        for at in np.flatnonzero((places == len(self._places)) & (numbers != 0)):
            self._add_new(values[int(at)], int(numbers[at]))
        if len(self._new) > 2 * _MAX_UNSEEN:
            ranked = sorted(self._new.items(), key=lambda item: (-item[1], item[0]))
            self._new = dict(ranked[:_MAX_UNSEEN])

    def _add_new(self, value: str | None, count: int) -> None:
        if value is None:
            self._missing += count
            return
        self._unseen += count
        name = value if len(value) <= _MAX_TEXT else value[: _MAX_TEXT - 1] + "…"
        self._new[name] = self._new.get(name, 0) + count

    def profile(self) -> CategoricalProfile:
        """What has been counted so far; further updates do not change it."""
        counts = self._counts[:-1].copy()
        n = int(counts.sum()) + self._unseen + self._missing
        return CategoricalProfile(n, self._missing, self._unseen, counts, heaviest(self._new))
