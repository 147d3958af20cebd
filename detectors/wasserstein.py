"""Wasserstein distance: how far must rows be moved to turn one sample into the other?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from detectors.ks import gaps, ks_p_value
from detectors.profiles import ColumnProfile, ColumnSpec, FloatArray, NumericProfile, NumericSpec
from detectors.statistic import Statistic, numeric_pair, undefined


def wasserstein(spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """By how many standard deviations of the reference have values moved, on average?

    W₁ / σ with W₁ = ∫ |F(x) − G(x)| dx and σ the standard deviation of the reference (``ddof = 0``), over finite
    values.  Inside an interval values are taken to lie evenly; beyond the outermost edges, at their mean.

    Returns
    -------
    Statistic
        ``value``: dimensionless; undefined where the reference is constant. ``detail["w1"]``: the distance in the
        column's own unit; ``detail["sigma"]``.  Both rounded to 9 digits, so that the order of batches does not show.
        ``detail["counts"]``: as for KS, whether all edges were compared or those that a stored profile has kept.
        ``p_value``: that of the KS test of the same counts (the same null hypothesis: one distribution).

    Raises
    ------
    ProfileError
        The column is not numeric.

    Notes
    -----
    One wild value in the reference inflates σ, and hides what follows.
    """
    numeric, reference, current = numeric_pair(spec, reference, current)
    if not reference.n_finite or not current.n_finite:
        return undefined(f"the {'window' if reference.n_finite else 'reference'} has no finite values")
    distance = wasserstein_1(numeric, reference, current=current)
    sigma = math.sqrt(reference.m2 / reference.n_finite) if math.isfinite(reference.m2) else math.inf
    if not math.isfinite(distance) or not math.isfinite(sigma):
        return undefined("the values are too large for a distance")
    counts = "as counted" if numeric is spec else "as stored"
    detail: dict[str, Any] = {"w1": _rounded(distance), "sigma": _rounded(sigma), "counts": counts}
    if sigma == 0:
        return undefined("the reference is constant: there is no standard deviation to measure in", **detail)
    apart = float(np.abs(gaps(reference, current)).max())
    p_value = ks_p_value(apart, reference.n - reference.missing, m=current.n - current.missing)
    return Statistic(_rounded(distance / sigma), p_value, detail)


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")


def wasserstein_1(spec: NumericSpec, reference: NumericProfile, *, current: NumericProfile) -> float:
    """∫ |F(x) − G(x)| dx in the column's unit; infinite where it is beyond the largest float."""
    sides = [_finite_shares(profile) for profile in (reference, current)]
    gap = np.cumsum(sides[0] - sides[1])
    tails = [_tail_means(spec, profile) for profile in (reference, current)]
    scale = max(1e-300, float(np.abs(spec.edges).max()), *(abs(mean) for pair in tails for mean in pair))
    if not math.isfinite(scale):
        return math.inf
    edges = spec.edges / scale
    inner = np.abs(gap[1:-2:2]) + np.abs(gap[2:-1:2])
    crossing = gap[1:-2:2] * gap[2:-1:2] < 0
    if crossing.any():  # the two functions cross inside the interval: two triangles, not a trapezium
        a, b = np.abs(gap[1:-2:2][crossing]), np.abs(gap[2:-1:2][crossing])
        inner[crossing] = (a * a + b * b) / (a + b)
    total = float(np.diff(edges) @ inner) / 2
    for end, cell, edge in ((0, 0, edges[0]), (1, -1, edges[-1])):
        means = [tails[side][end] / scale for side in (0, 1)]
        total += _tail(sides[0][cell], sides[1][cell], *(abs(mean - edge) for mean in means))
    return total * scale


def _tail(p: float, q: float, reach_p: float, reach_q: float) -> float:
    """∫ of the difference beyond an outermost edge, with shares at a point each, at these distances from the edge."""
    near, far = sorted((reach_p, reach_q))
    return abs(p - q) * near + (p if reach_p > reach_q else q) * (far - near)


def _finite_shares(profile: NumericProfile) -> FloatArray:
    cells = profile.cells.astype(np.float64)
    cells[0] -= profile.neg_inf
    cells[-1] -= profile.pos_inf
    return cells / profile.n_finite


def _tail_means(spec: NumericSpec, profile: NumericProfile) -> tuple[float, float]:
    """Mean of the finite values below the first and above the last edge; the edge itself where there are none."""
    n_low = int(profile.cells[0]) - profile.neg_inf
    n_high = int(profile.cells[-1]) - profile.pos_inf
    low = profile.low_sum / n_low if n_low else float(spec.edges[0])
    high = profile.high_sum / n_high if n_high else float(spec.edges[-1])
    return low, high
