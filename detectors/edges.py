"""Choosing what to count over: the reference decides, once, and the baseline freezes it."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from detectors.profiles import CategoricalSpec, FloatArray, IntArray, NumericSpec, no_slack

N_QUANTILES = 2200
"""Edges of a column with too many distinct values to make each of them an edge; fewer where few values are held."""
_FEWEST_QUANTILES = 512
HEAVY = 0.005
"""A value of this share of the reference counts as heavy: a float32 round trip must not move it off its edge."""
_FLOAT32 = 2.0**-22
"""Relative slack: four times the error of rounding to float32."""


class EdgeBuilder:
    """Learns the edges of a numeric column from the reference, in bounded memory.

    Distinct values and their counts are held, sorted.  Beyond four times ``max_distinct`` of them, neighbouring light
    values are merged into the highest of their group: ranks at the values that stay are exact at that moment, heavy
    values are never merged, and the result depends on nothing but the values and their order.

    Parameters
    ----------
    bins
        PSI bins: the reference's quantiles at ``1 / bins, 2 / bins …``, as intervals ``(a, b]``, the outer ones open.
    max_distinct
        Up to this many distinct values, each becomes an edge, and KS is exact; beyond, 2200 quantiles do (as many as
        this, but at least 512, where it is less).
    decision_edges
        Values that are edges whatever the data are, e.g. the decision threshold of a score.  Not finite: ignored.
    """

    def __init__(self, bins: int = 10, max_distinct: int = 20_000, *, decision_edges: Iterable[float] = ()) -> None:
        self._bins = bins
        self._max_distinct = max_distinct
        self._decision = tuple(sorted({float(edge) + 0.0 for edge in decision_edges if math.isfinite(edge)}))
        self._values: FloatArray = np.empty(0)
        self._counts: IntArray = np.empty(0, dtype=np.int64)
        self._waiting: list[FloatArray] = []
        self._compacted = False

    def update(self, values: npt.ArrayLike) -> None:
        """Take in one batch of the reference; missing (NaN) and infinite values do not shape edges."""
        batch = np.asarray(values, dtype=np.float64).reshape(-1)
        self._waiting.append(batch[np.isfinite(batch)] + 0.0)  # -0.0 is 0.0
        if sum(len(part) for part in self._waiting) >= 2 * self._max_distinct:
            self._take_in()

    def state(self) -> bytes:
        """All that was learned so far, for another builder's :meth:`add`."""
        self._take_in()
        return zlib.compress(bytes([self._compacted]) + self._values.tobytes() + self._counts.tobytes(), 1)

    def add(self, state: bytes) -> None:
        """Take in what another builder learned from other rows, as :meth:`state` told it."""
        told = zlib.decompress(state)
        size = (len(told) - 1) // 16
        self._take_in()
        self._compacted = self._compacted or bool(told[0])
        values = np.frombuffer(told, dtype=np.float64, count=size, offset=1)
        self._insert(values, np.frombuffer(told, dtype=np.int64, offset=1 + 8 * size))

    def _take_in(self) -> None:
        """Merge the batches that wait into the sorted distinct values."""
        if not self._waiting:
            return
        waiting, self._waiting = np.concatenate(self._waiting), []
        self._insert(*np.unique(waiting, return_counts=True))

    def _insert(self, new_values: FloatArray, new_counts: IntArray) -> None:
        both, counts = np.concatenate([self._values, new_values]), np.concatenate([self._counts, new_counts])
        order = np.argsort(both, kind="stable")  # two sorted runs: linear
        both, counts = both[order], counts[order]
        first = np.ones(len(both), dtype=bool)
        first[1:] = both[1:] != both[:-1]
        self._values = both[first]
        self._counts = np.add.reduceat(counts, np.flatnonzero(first)) if len(both) else counts
        if len(self._values) > 4 * self._max_distinct:
            self._compact(2 * self._max_distinct)

    def _compact(self, size: int) -> None:
        """Merge neighbours until about ``size`` values are left; the lowest and all heavy values stay themselves."""
        fair = self._counts.sum() / size
        heavy = self._counts >= fair
        group = np.floor(np.cumsum(np.where(heavy, 0, self._counts)) / fair)
        ends = np.empty(len(heavy), dtype=bool)
        ends[-1] = True
        ends[:-1] = (group[1:] != group[:-1]) | heavy[:-1] | heavy[1:]
        ends[0] = True
        last = np.flatnonzero(ends)
        self._counts = np.add.reduceat(self._counts, np.concatenate([[0], last[:-1] + 1]))
        self._values = self._values[last]
        self._compacted = True

    def spec(self) -> NumericSpec | None:
        """The edges; ``None`` if the reference had no finite value."""
        self._take_in()
        if not len(self._values):
            return None
        exact = not self._compacted and len(self._values) <= self._max_distinct
        base = self._values if exact else self._quantile_values()
        cuts = self._cuts()
        interpolated = [edge for edge, _ in cuts]
        edges = np.unique(np.concatenate([base, interpolated, self._decision]))
        bounds = {0, 2 * len(edges) + 1}
        for edge, after in cuts:
            bounds.add(2 * int(np.searchsorted(edges, edge)) + 1 + after)
        for atom in self._values[self._counts * self._bins >= self._counts.sum()]:
            place = 2 * int(np.searchsorted(edges, atom))
            bounds |= {place + 1, place + 2}
        slack = self._slack(edges)
        return NumericSpec(edges, slack, np.array(sorted(bounds)), exact=exact, decision=self._decision)

    def _quantile_values(self) -> FloatArray:
        """Reference values at evenly spaced ranks, with the lowest, the highest, and every atom and heavy value."""
        cumulative = np.cumsum(self._counts)
        n_quantiles = max(_FEWEST_QUANTILES, min(N_QUANTILES, self._max_distinct))
        n = int(cumulative[-1])
        # The outermost intervals are wide where tails are long: halved again and again, they hold no distance.
        ends = 2 ** np.arange(max(1, n // n_quantiles).bit_length())
        ranks = np.concatenate([np.linspace(1, n, n_quantiles), ends, n + 1 - ends])
        chosen = np.searchsorted(cumulative, ranks)
        heavy = np.flatnonzero(self._counts >= HEAVY * n)
        return self._values[np.union1d(chosen, heavy)]

    def _cuts(self) -> list[tuple[float, bool]]:
        """Between which PSI bins the line is cut: ``(edge, True)`` just after an edge, ``(edge, False)`` just before.

        The cuts are after the linearly interpolated quantiles, as ``np.quantile`` gives them.  One that falls within
        float32 rounding of a heavy value is moved to that side of the value which it is on, so that the value stays
        in its bin whatever its last bits are.
        """
        cumulative = np.cumsum(self._counts)
        n = int(cumulative[-1])
        cuts: list[tuple[float, bool]] = []
        for fraction in np.linspace(0, 1, self._bins + 1)[1:-1]:
            position = float(fraction) * (n - 1)  # Python's floats overflow without a word
            lower, upper = np.searchsorted(cumulative, [math.floor(position), math.ceil(position)], side="right")
            edge = _between(float(self._values[lower]), float(self._values[upper]), position - math.floor(position))
            cut = (edge, True)
            for place in (int(lower), int(upper)):
                value = float(self._values[place])
                near = abs(edge - value) <= _FLOAT32 * abs(value)
                if near and self._counts[place] >= HEAVY * n:
                    cut = (value, edge >= value)
            cuts.append(cut)
        return cuts

    def _slack(self, edges: FloatArray) -> FloatArray:
        place = np.searchsorted(self._values, edges).clip(max=len(self._values) - 1)
        mass = np.where(self._values[place] == edges, self._counts[place], 0)
        heavy = (mass >= HEAVY * self._counts.sum()) & ~np.isin(edges, self._decision)
        with np.errstate(over="ignore"):
            gaps = np.concatenate([[np.inf], np.diff(edges), [np.inf]])
        room = np.minimum(gaps[:-1], gaps[1:]) / 3
        if not heavy.any():
            return no_slack(len(edges))
        return np.where(heavy, np.minimum(_FLOAT32 * np.abs(edges), room), 0.0)


def _between(a: float, b: float, t: float) -> float:
    """Linear interpolation with the rounding of ``np.quantile``; ``b - a`` may overflow."""
    width = b - a
    if not math.isfinite(width):
        return a * (1 - t) + b * t
    return b - width * (1 - t) if t >= 0.5 else a + width * t


class CategoryBuilder:
    """Learns the categories of a column from the reference, in bounded memory.

    Counts are exact, and independent of the order of rows, while at most ``capacity`` distinct values exist; beyond,
    the lightest are forgotten, which no category that is heavy enough to be kept suffers from in practice.

    Parameters
    ----------
    max_categories
        The heaviest this many become categories; the rest of the reference counts as unseen, like the rest of any
        later window.
    """

    def __init__(self, max_categories: int = 200, *, capacity: int = 20_000) -> None:
        self._max_categories = max_categories
        self._capacity = max(capacity, 4 * max_categories)
        self._counts: dict[str, int] = {}

    def update(self, values: Iterable[str | None], counts: Iterable[int] | None = None) -> None:
        """Take in distinct values with their counts, or rows if ``counts`` is not given; ``None`` is missing."""
        if counts is None:
            for value in values:
                if value is not None:
                    self._counts[value] = self._counts.get(value, 0) + 1
        else:
            for value, count in zip(values, counts, strict=True):
                if value is not None and count:
                    self._counts[value] = self._counts.get(value, 0) + int(count)
        if len(self._counts) > 2 * self._capacity:
            self._counts = dict(self._ranked()[: self._capacity])

    def state(self) -> bytes:
        """All that was learned so far, for another builder's :meth:`add`."""
        return zlib.compress(json.dumps(self._counts).encode(), 1)

    def add(self, state: bytes) -> None:
        """Take in what another builder learned from other rows, as :meth:`state` told it."""
        told: dict[str, int] = json.loads(zlib.decompress(state))
        self.update(told.keys(), told.values())

    def _ranked(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))

    def spec(self) -> CategoricalSpec | None:
        """The categories, heaviest first; ``None`` if the reference had no value at all."""
        if not self._counts:
            return None
        return CategoricalSpec(tuple(value for value, _ in self._ranked()[: self._max_categories]))
