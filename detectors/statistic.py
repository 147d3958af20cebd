"""What a detector answers, and the bins and tests that several detectors share."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import scipy

from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    ColumnProfile,
    ColumnSpec,
    FloatArray,
    IntArray,
    NumericProfile,
    NumericSpec,
    ProfileError,
    common_edges,
    project,
    restrict,
)

Kind = Literal["value", "unseen", "missing"]

MIN_EXPECTED = 5.0
"""A bin is pooled with others until this many rows are expected in both samples (Cochran's rule)."""


@dataclass(frozen=True)
class Statistic:
    """One number that compares two profiles.

    ``value`` is ``None`` where the number is not defined, and ``detail["reason"]`` says why.  ``p_value`` is the
    probability, if nothing has changed, of a difference at least this large; never 0 (at least 2e-308).  ``detail``
    is plain data, fit for JSON.
    """

    value: float | None
    p_value: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Bins:
    """Rows of both sides in the bins that PSI, Jensen–Shannon, χ² and L∞ look at.

    Parameters
    ----------
    reference, current
        Rows in each bin, shape ``(B,)``; values first, then (categorical only) unseen, then missing.
    kinds
        What each bin holds, length ``B``.
    """

    reference: IntArray
    current: IntArray
    kinds: list[Kind]

    def shares(self) -> tuple[FloatArray, FloatArray]:
        return self.reference / self.reference.sum(), self.current / self.current.sum()


def undefined(reason: str, **detail: Any) -> Statistic:
    return Statistic(None, detail={"reason": reason, **detail})


def empty_side(reference: ColumnProfile, current: ColumnProfile) -> str | None:
    """Why nothing can be compared, or ``None`` if it can."""
    if not reference.n:
        return "the reference has no rows"
    return None if current.n else "the window has no rows"


def numeric_pair(
    spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile
) -> tuple[NumericSpec, NumericProfile, NumericProfile]:
    """The three arguments of a detector that needs numbers, checked.

    Raises
    ------
    ProfileError
        One of them is of a categorical column, or a profile was counted over another spec.
    """
    if not (
        isinstance(spec, NumericSpec) and isinstance(reference, NumericProfile) and isinstance(current, NumericProfile)
    ):
        raise ProfileError("this comparison needs a numeric column, and numeric profiles on both sides")
    if {len(reference.cells), len(current.cells)} != {spec.n_cells}:
        raise ProfileError("the profiles were counted over other edges than the spec's")
    kept = common_edges((reference, current))
    if kept is None:
        return spec, reference, current
    coarse = restrict(spec, kept)  # one side was thinned for the store: only the edges it has kept are compared
    return coarse, project(spec, reference, onto=coarse), project(spec, current, onto=coarse)


def bins_of(spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile) -> Bins:
    """Rows of both sides in the spec's bins, with bins of their own for never-seen and for missing values.

    Raises
    ------
    ProfileError
        The profiles were counted over another spec.
    """
    if isinstance(spec, CategoricalSpec):
        if not (isinstance(reference, CategoricalProfile) and isinstance(current, CategoricalProfile)):
            raise ProfileError("a categorical column needs categorical profiles on both sides")
        if {len(reference.counts), len(current.counts)} != {len(spec.categories)}:
            raise ProfileError("the profiles were counted over other categories than the spec's")
        kinds: list[Kind] = ["value"] * len(spec.categories)
        return Bins(
            binned(spec, reference),
            binned(spec, current),
            [*kinds, "unseen", "missing"],
        )
    spec, reference, current = numeric_pair(spec, reference, current)
    kinds = ["value"] * (len(spec.bins) - 1)
    return Bins(binned(spec, reference), binned(spec, current), [*kinds, "missing"])


def binned(spec: ColumnSpec, profile: ColumnProfile) -> IntArray:
    """Rows of one profile, which was counted over ``spec``, in the bins of :func:`bins_of`."""
    if isinstance(spec, NumericSpec) and isinstance(profile, NumericProfile):
        counts = np.empty(len(spec.bins), dtype=np.int64)
        np.add.reduceat(profile.cells, spec.bins[:-1], out=counts[:-1])  # thinning keeps the edges of bins
        counts[-1] = profile.missing
        return counts
    if isinstance(spec, CategoricalSpec) and isinstance(profile, CategoricalProfile):
        return np.append(profile.counts, [profile.unseen, profile.missing])
    raise ProfileError("a column's spec and its profile are of different types")


# --- is it chance? --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChiSquare:
    """Pearson's two-sample χ²: ``statistic``, degrees of freedom ``df``, ``p_value`` (``None`` without freedom)."""

    statistic: float
    df: int
    p_value: float | None


def two_sample_chi2(reference: IntArray, current: IntArray) -> ChiSquare:
    """Could two columns of counts come from one distribution?

    χ² = Σ (m·r − n·c)² / (n·m·(r + c)) over bins with rows, with ``n = Σ r``, ``m = Σ c``; degrees of freedom are the
    bins less one.  Both sides are samples: a reference of finite size is not taken as the truth.

    Parameters
    ----------
    reference, current
        Rows in each bin, same shape; bins that are empty on both sides do not count.
    """
    total = reference + current
    filled = total > 0
    n, m = float(reference.sum()), float(current.sum())
    df = int(filled.sum()) - 1
    if df < 1 or not n or not m:
        return ChiSquare(0.0, max(df, 0), None)
    gap = reference[filled] / n - current[filled] / m
    statistic = float(np.sum(gap * gap / total[filled]) * n * m)
    return ChiSquare(statistic, df, probability(float(scipy.special.chdtrc(df, statistic))))


def probability(value: float) -> float:
    """A p-value is never 0: what underflows becomes the smallest normal float."""
    return min(1.0, max(value, sys.float_info.min))


def change_test(
    spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile, *, min_expected: float = MIN_EXPECTED
) -> ChiSquare:
    """Is the difference in the bins of two profiles more than chance? Valid for sparse bins, too.

    Bins with fewer than ``min_expected`` expected rows on either side are pooled before the two-sample χ²: neighbours
    of a numeric column, the rarest categories of a categorical one.  Which are pooled depends on the total of both
    sides only, never on their difference, so the test stays valid.

    Notes
    -----
    Which values are *never seen* was decided by the reference's own luck, so as one bin they "drift" in every column
    with many categories.  They are therefore pooled with the known categories that are as rare; a new value too
    frequent for that to be chance is a bin of its own.  Drift-free windows with p < 0.01, simulated (reference and
    window of 430 and 9000 rows, either way; equal or 1/k shares; 200 or all categories kept): 42 categories 1.0–1.4 %
    (one bin of unseen: 1.0–1.8 %); 1000 categories 0–1.8 % (one bin of unseen: up to 100 %).
    """
    if isinstance(spec, CategoricalSpec):
        if not (isinstance(reference, CategoricalProfile) and isinstance(current, CategoricalProfile)):
            raise ProfileError("a categorical column needs categorical profiles on both sides")
        sides = _categorical_columns(spec, reference, current)
    else:
        bins = bins_of(spec, reference, current)
        sides = np.stack([bins.reference, bins.current])
    n, m = int(sides[0].sum()), int(sides[1].sum())
    if not n or not m:
        return ChiSquare(0.0, 0, None)
    enough = min_expected * (n + m) / min(n, m)
    pooled = _pool(sides, enough)
    return two_sample_chi2(pooled[0], pooled[1])


def _categorical_columns(spec: CategoricalSpec, reference: CategoricalProfile, current: CategoricalProfile) -> IntArray:
    """Bins of a categorical test, rarest first, shape ``(2, B)``.

    Where there are never-seen values, the first bin holds them and all categories that are not safely too frequent to
    have been never-seen themselves: fewer than ``c + 3 √c + 7`` reference rows expected, with ``c`` the reference rows
    of the rarest category if the reference has been cut off there, else 0.  Equal totals are in the order of names:
    the spec's own order depends on the reference's counts, and would sort its luck into the bins.
    """
    sides = (reference, current)
    names = sorted({name for side in sides for name in side.heavy_unseen})
    new = [[side.heavy_unseen.get(name, 0) for name in names] for side in sides]
    known = [np.append(side.counts, side.missing) for side in sides]
    columns = np.concatenate([known, np.array(new, dtype=np.int64).reshape(2, len(names))], axis=1)
    spelled = np.array([*spec.categories, "", *names], dtype=object)
    columns = columns[:, np.lexsort((np.argsort(np.argsort(spelled, kind="stable")), columns.sum(axis=0)))]
    if not reference.unseen and not current.unseen:
        return columns
    cut = float(reference.counts.min()) if reference.unseen and len(reference.counts) else 0.0
    enough = (cut + 3 * cut**0.5 + 7) * (reference.n + current.n) / reference.n
    rare = columns.sum(axis=0) <= enough
    named = np.array([sum(row) for row in new])
    rest = np.array([reference.unseen, current.unseen]) - named + columns[:, rare].sum(axis=1)
    return np.concatenate([rest[:, np.newaxis], columns[:, ~rare]], axis=1)


def _pool(sides: IntArray, enough: float) -> IntArray:
    """Pool neighbouring columns of ``sides``, shape ``(2, B)``, until each has a total of at least ``enough``."""
    totals = sides.sum(axis=0)
    if len(totals) and totals.min() >= max(enough, 1):
        return sides
    group = np.empty(len(totals), dtype=np.int64)
    number, held = 0, 0
    for place, total in enumerate(totals.tolist()):
        group[place] = number
        held += total
        if held >= enough:
            number, held = number + 1, 0
    if held and number:
        group[group == number] = number - 1
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.add.reduceat(sides, starts, axis=1)
