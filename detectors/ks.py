"""Kolmogorov–Smirnov: by how much do two distribution functions differ at most?"""

from __future__ import annotations

import math

import numpy as np
import scipy

from detectors.profiles import ColumnProfile, ColumnSpec, FloatArray, NumericProfile
from detectors.statistic import Statistic, numeric_pair, probability, undefined

_EXACT_EQUAL = 10_000
_EXACT_ROWS = 2_000


def ks(spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """By how many points do the shares of rows at or below some value differ at most?

    D = sup |F(x) − G(x)|, taken over all edges, just before and on each.  Missing values take no part; infinite ones
    do.

    Returns
    -------
    Statistic
        ``value`` is D. ``detail["error_bound"]``: the true D is at most this much larger (0 when one side has no
        values between edges, as a reference with ``spec.exact``). ``d_plus`` / ``d_minus``: the largest differences
        with ``current`` shifted up / down. ``at``: the edge where D is attained (``None`` beyond the outermost).
        ``n_edges``: at how many edges the two were compared; ``counts``: whether these are all (``"as counted"``) or
        those that a profile thinned for the store has kept (``"as stored"``).
        ``p_value``: exact for small samples, else Kolmogorov's law at n·m/(n + m).

    Raises
    ------
    ProfileError
        The column is not numeric.

    Notes
    -----
    With ties the p-value is conservative (too large).  Values within ``spec.slack`` of a heavy value count as it.

    References
    ----------
    Hodges, "The significance probability of the Smirnov two-sample test", Arkiv för Matematik, 1958.
    """
    numeric, reference, current = numeric_pair(spec, reference, current)
    n, m = reference.n - reference.missing, current.n - current.missing
    if not n or not m:
        return undefined(f"the {'window' if n else 'reference'} has no values")
    gap = gaps(reference, current)
    place = int(np.argmax(np.abs(gap)))
    distance = float(abs(gap[place]))
    detail = {
        "d_plus": max(0.0, float(gap.max())),
        "d_minus": max(0.0, float(-gap.min())),
        "at": float(numeric.edges[place // 2]) if place // 2 < len(numeric.edges) else None,
        "error_bound": _error_bound(reference, current, n=n, m=m, distance=distance),
        "n_edges": len(numeric.edges),
        "counts": "as counted" if numeric is spec else "as stored",
    }
    return Statistic(distance, ks_p_value(distance, n, m=m), detail)


def gaps(reference: NumericProfile, current: NumericProfile) -> FloatArray:
    """F − G after each cell, shape ``(2 E + 1,)``; both sides have values."""
    n, m = (side.n - side.missing for side in (reference, current))
    return np.asarray(np.cumsum(reference.cells) / n - np.cumsum(current.cells) / m)


def _error_bound(reference: NumericProfile, current: NumericProfile, *, n: int, m: int, distance: float) -> float:
    """How much larger than at the edges the difference can be inside an interval, wherever its values lie.

    Inside, F is at most its value at the right end, and G at least its value at the left end.
    """
    p, q = reference.cells[0::2] / n, current.cells[0::2] / m
    after = (np.cumsum(reference.cells) / n - np.cumsum(current.cells) / m)[0::2]
    before = after - p + q
    largest = float(np.maximum(before + p, q - before).max())
    excess = largest - distance
    return excess if excess > 1e-12 else 0.0


def ks_p_value(distance: float, n: int, *, m: int) -> float:
    """The probability of a difference of at least ``distance`` between two samples of one continuous distribution.

    Parameters
    ----------
    n, m
        Rows of either side.  The law is exact for equal sizes up to 10,000 and for up to 2000 rows in all; beyond, it
        is Kolmogorov's at the effective size n·m/(n + m), with Vrbik's correction for a finite size: what
        ``scipy.stats.kstwo`` gives, to 0.2 % of p wherever p > 1e-4, in a thousandth of the time.

    References
    ----------
    Vrbik, "Small-sample corrections to Kolmogorov–Smirnov test statistic", Pioneer J. Theor. Appl. Stat., 2018.
    """
    steps = round(distance * (n // math.gcd(n, m)) * m)
    if steps == 0:
        return 1.0
    if n == m and n <= _EXACT_EQUAL:
        return probability(_outside_square(n, steps))
    if n + m <= _EXACT_ROWS:
        return probability(_outside_strip(n, m, steps=steps))
    size = round(n * m / (n + m))
    x = math.sqrt(size) * distance
    if x * x >= 2.2 and size <= _EXACT_ROWS:
        return probability(2 * float(scipy.special.smirnov(size, distance)))
    return probability(float(scipy.special.kolmogorov(x + 1 / (6 * math.sqrt(size)) + (x - 1) / (4 * size))))


def _outside_square(n: int, steps: int) -> float:
    """Share of lattice paths from (0, 0) to (n, n) that leave |x − y| < steps: an alternating sum by reflection."""
    share = 0.0
    for k in range(n // steps, -1, -1):
        j = np.arange(steps)
        with np.errstate(under="ignore"):
            term = float(np.prod((n - k * steps - j) / (n + k * steps + j + 1)))
        share = term * (1.0 - share)
    return 2 * share


def _outside_strip(n: int, m: int, *, steps: int) -> float:
    """Share of lattice paths from (0, 0) to (n, m) that leave |x/n − y/m| < steps / lcm(n, m).

    ``outside[x]`` is the share among the paths to (x, k − x); k runs over the diagonals.
    """
    n, m = min(n, m), max(n, m)
    divisor = math.gcd(n, m)
    x = np.arange(n + 1)
    slope = x * (m // divisor + n // divisor)
    outside = np.ones(n + 2)
    outside[1] = 0.0  # shifted by one: outside[0] stands for x = -1
    for k in range(1, n + m + 1):
        step = (outside[:-1] * x + outside[1:] * (k - x)) / k
        beyond = (np.abs(slope - k * (n // divisor)) >= steps) | (x > k)
        outside[1:] = np.where(beyond, 1.0, step)
    return float(outside[-1])
