"""Are values beyond the baseline's range more than chance?  The range of a column that wanders grows by itself.

The largest of all rows is a record, and records fall.  Where rows are independent, k rows of a window beyond all of a
long baseline are next to impossible.  Where each day has a level of its own, or the end of one day is the beginning of
the next (a mean over the last 24 hours), one unusual day carries all its rows with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from detectors.effective_size import MIN_WINDOWS, Entities, measure, of_deviations
from detectors.profiles import FloatArray, IntArray, NumericProfile, NumericSpec

_LUCK = 0.05
"""Windows that wandered less than they usually do are allowed for: the true design effect is beyond the one that is
used in at most this share of cases."""


@dataclass(frozen=True)
class Beyond:
    """How likely rows beyond the range are without change, and how alike the tails of successive windows are."""

    p_value: float
    alike: float = 0.0


def beyond_range(
    spec: NumericSpec,
    reference: NumericProfile,
    current: NumericProfile,
    *,
    bins: IntArray,
    windows: Sequence[NumericProfile],
    entities: Entities | None = None,
) -> Beyond | None:
    """How likely are as many rows beyond the outermost edges, as far beyond, if the windows are as they ever were?

    Two answers are given for each end, and the smaller one, twice, counts (Bonferroni):

    - *rows*: k rows of a window of n are all beyond m others with probability (n / (n + m))ᵏ if rows are
      exchangeable.  Rows that come together count as fewer: k over the design effect of the outermost bin;
    - *distance*: a new window's tail is beyond the k-th furthest of W windows in k + 1 of W + 1 cases, and beyond that
      by more than y with probability (1 + y / s)⁻ᵏ, s the sum of the k excesses: exponential with an estimated mean.
      It needs no more of the rows than that windows are alike, and finds what is far out of any day's reach.

    Parameters
    ----------
    bins
        Rows in the bins of the windows (or groups of entities) that show how rows come together, shape ``(W, B)``,
        the last bin for missing values, in the order of time.
    windows
        Counts of the baseline's windows, oldest first.
    entities
        The rows of ``bins`` are of groups of entities.

    Returns
    -------
    ``None`` where no row is beyond, or nothing is known of how rows come together.

    References
    ----------
    Davison & Smith, "Models for exceedances over high thresholds", JRSS B 1990.
    """
    windows = [window for window in windows if window.n_finite]
    sides = []
    for high in (False, True):
        end = _End(spec, high)
        k = int(current.cells[end.cell])
        if k:
            by_rows = _by_rows(bins, end.bin, k=k, n=current.n, m=reference.n, entities=entities)
            by_distance = _by_distance(end, windows, current, share=k / (current.n - current.missing))
            sides += [one for one in (by_rows, by_distance) if one is not None]
    if not sides:
        return None
    return Beyond(min(1.0, 4 * min(one.p_value for one in sides)), max(one.alike for one in sides))


@dataclass(frozen=True)
class _End:
    """One end of a column's range; what lies further out is larger, at either end."""

    spec: NumericSpec
    high: bool

    @property
    def cell(self) -> int:
        return -1 if self.high else 0

    @property
    def bin(self) -> int:
        return -2 if self.high else 0

    def outer(self, profile: NumericProfile) -> tuple[int, float, float]:
        """Finite values beyond the end: how many, their sum, and the furthest."""
        sign, infinite = (1.0, profile.pos_inf) if self.high else (-1.0, profile.neg_inf)
        total, furthest = (profile.high_sum, profile.maximum) if self.high else (profile.low_sum, profile.minimum)
        return int(profile.cells[self.cell]) - infinite, sign * total, sign * furthest

    @property
    def edge(self) -> float:
        return float(self.spec.edges[-1] if self.high else -self.spec.edges[0])

    def tail(self, profile: NumericProfile, share: float) -> float:
        """Where the outermost ``share`` of a window's values begins, to the cell."""
        cells = profile.cells[::-1] if self.high else profile.cells
        edges = self.spec.edges[::-1] if self.high else -self.spec.edges
        place = int(np.searchsorted(np.cumsum(cells), share * cells.sum()))
        if place == 0:
            n, total, _ = self.outer(profile)
            return total / n if n and math.isfinite(total) else self.edge
        inner = min(place // 2, len(edges) - 1)
        return float(edges[(place - 1) // 2] + edges[inner]) / 2


def _by_rows(bins: IntArray, at: int, *, k: int, n: int, m: int, entities: Entities | None) -> Beyond | None:
    if not len(bins):
        return None
    hits = bins[:, at]
    known = measure(np.stack([hits, bins[:, :-1].sum(axis=1) - hits], axis=1), entities=entities)
    if not known.n_windows:
        return None
    if not known.can_tell:
        return Beyond(1.0)
    surely = known.df / float(scipy.special.chdtri(known.df, 1 - _LUCK))
    effect = n * known.spread(n) * known.memory * surely
    return Beyond(float((n / (n + m)) ** (k / effect)), known.first_lag)


def _by_distance(
    end: _End, windows: Sequence[NumericProfile], current: NumericProfile, *, share: float
) -> Beyond | None:
    if len(windows) < MIN_WINDOWS:
        return None
    # Half of the rows beyond are further out than the tail that begins at half their share; one wild value is not.
    tails = np.array([end.tail(window, share / 2) for window in windows])
    n, total, furthest = end.outer(current)
    now = math.inf if not n else (total - furthest) / (n - 1) if n > 1 else end.edge
    memory, alike = _memory(tails)
    ordered = np.sort(tails)[::-1]
    furthest_k = max(3, len(tails) // 4)
    start = float(ordered[furthest_k])
    excesses = ordered[:furthest_k] - start
    if not excesses.any() or math.isnan(now):  # every tail begins at one value: nothing is known of distances
        return Beyond(1.0, alike)
    if now <= start:
        return Beyond(1.0, alike)
    k = max(1.0, float((excesses > 0).sum()) / memory)
    mean = float(excesses.sum()) / int((excesses > 0).sum())
    reached = (k + 1) / (len(tails) / memory + 1)
    return Beyond(min(1.0, reached) * (1 + (now - start) / (k * mean)) ** -k, alike)


def _memory(values: FloatArray) -> tuple[float, float]:
    """Windows that are worth an independent one, and how alike neighbours are."""
    moved = values - values.mean()
    if not moved.any():
        return 1.0, 0.0
    known = of_deviations(moved[:, np.newaxis], 1, rows=1.0)
    return known.memory, known.first_lag
