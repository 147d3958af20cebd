"""A profile is the small, mergeable set of counts that one window of one column leaves behind.

Everything the service says is a pure function of profiles: they are counted over *edges* that are frozen in the
baseline, so two profiles of the same column always line up cell by cell, and adding them gives the profile of the
union of their rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class ProfileError(ValueError):
    """Two things that do not belong together were compared or merged."""


@dataclass(frozen=True, eq=False)
class NumericSpec:
    """Where the cells of a numeric column lie; frozen with the baseline.

    Parameters
    ----------
    edges
        Strictly increasing finite values, shape ``(E,)``, ``E >= 1``.  They cut the line into ``2 E + 1`` cells, in
        order: below ``edges[0]``, exactly on ``edges[0]``, between ``edges[0]`` and ``edges[1]``, … above
        ``edges[-1]``.  Cell ``2 i + 1`` is "on edge i", cell ``2 i`` is the open interval before it.
    slack
        Half-widths, shape ``(E,)``, ``>= 0``: a value within ``slack[i]`` of ``edges[i]`` counts as on it.  Non-zero
        only for heavy reference values (atoms), so that a float32 round trip does not move them off their edge.
    bins
        PSI bins as increasing cell offsets, shape ``(B + 1,)``, from ``0`` to ``2 E + 1``: bin ``b`` is the cells
        ``bins[b] … bins[b + 1] - 1``.
    exact
        All distinct reference values are edges, so KS is exact and not bounded.
    """

    edges: FloatArray
    slack: FloatArray
    bins: IntArray
    exact: bool = False

    @property
    def n_cells(self) -> int:
        return 2 * len(self.edges) + 1


@dataclass(frozen=True, eq=False)
class CategoricalSpec:
    """The categories a column had in the baseline, heaviest first; all others count as *unseen*."""

    categories: tuple[str, ...]


ColumnSpec = NumericSpec | CategoricalSpec


@dataclass(frozen=True, eq=False)
class NumericProfile:
    """Counts of one numeric column over the cells of its :class:`NumericSpec`.

    ``cells`` has shape ``(2 E + 1,)`` and sums to ``n - missing``; plus and minus infinity are in the outer cells and
    counted apart.  ``missing`` is NULL and NaN together.  ``mean`` and ``m2`` (sum of squared deviations from the mean,
    merged by Chan's formula) are of the finite values; ``low_sum`` and ``high_sum`` are sums of the finite values in
    the two outer cells.  ``minimum`` / ``maximum`` are of finite values; all of these are NaN when there are none.
    """

    n: int
    missing: int
    pos_inf: int
    neg_inf: int
    cells: IntArray
    minimum: float
    maximum: float
    mean: float
    m2: float
    low_sum: float
    high_sum: float

    @property
    def n_finite(self) -> int:
        return self.n - self.missing - self.pos_inf - self.neg_inf


@dataclass(frozen=True, eq=False)
class CategoricalProfile:
    """Counts of the baseline's categories, of never-seen values, and of missing ones.

    ``counts`` has shape ``(K,)``; ``counts.sum() + unseen + missing == n``.  ``heavy_unseen`` maps the heaviest new
    values to a lower bound of their count (space-saving summary of bounded size).
    """

    n: int
    missing: int
    unseen: int
    counts: IntArray
    heavy_unseen: dict[str, int] = field(default_factory=dict)


ColumnProfile = NumericProfile | CategoricalProfile


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a baseline: its spec, and the reference profile counted over it."""

    name: str
    spec: ColumnSpec
    reference: ColumnProfile

    def with_reference(self, reference: ColumnProfile) -> Column:
        return replace(self, reference=reference)
