"""What a broken feed does to a column and the world does not: another unit, or one value in the place of many."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from detectors.profiles import FloatArray, NumericProfile, NumericSpec

UNITS = (
    *(10.0**power for power in (-9, -6, -3, -2, -1, 1, 2, 3, 6, 9)),
    2.54, 1 / 2.54, 0.3048, 1 / 0.3048, 1.609344, 1 / 1.609344, 0.45359, 1 / 0.45359, 1.8, 1 / 1.8,
    7.0, 1 / 7, 12.0, 1 / 12, 24.0, 1 / 24, 60.0, 1 / 60, 3600.0, 1 / 3600, 86400.0, 1 / 86400, 1024.0, 1 / 1024,
)  # fmt: skip
"""Factors between units in use: decimal, inches, feet, miles, pounds, degrees, and of time and bytes."""
_NEAR = 0.04
_MIN_ROWS = 50


def unit_change(reference: NumericProfile, current: NumericProfile) -> float | None:
    """The factor of :data:`UNITS` by which all values seem to have been multiplied, or ``None``.

    Mean and standard deviation must have changed by the same factor, to 10 %, and that must be one of the list, to
    4 % or three standard errors of the two.  Columns whose mean is near 0 have no such factor.
    """
    if min(reference.n_finite, current.n_finite) < _MIN_ROWS:
        return None
    sides = [(side.mean, math.sqrt(max(side.m2, 0.0) / side.n_finite)) for side in (reference, current)]
    (mean, spread), (mean_now, spread_now) = sides
    if not spread or not spread_now or mean * mean_now <= 0 or abs(mean) < 0.05 * spread:
        return None
    by_mean, by_spread = mean_now / mean, spread_now / spread
    error = (spread / abs(mean)) * math.sqrt(1 / reference.n_finite + 1 / current.n_finite)
    if abs(math.log(by_spread / by_mean)) > 0.1 + 3 * error:
        return None
    nearest = min(UNITS, key=lambda unit: abs(math.log(by_mean / unit)))
    return nearest if abs(math.log(by_mean / nearest)) <= max(_NEAR, min(3 * error, 0.08)) else None


@dataclass(frozen=True)
class Spike:
    """One value that has taken the place of others: it, and the share of rows that it gained."""

    value: float
    gained: float


def spike(
    spec: NumericSpec, reference: NumericProfile, current: NumericProfile, *, at_least: float = 0.05
) -> Spike | None:
    """The single value that replaces a share of all values alike, as a default does, or ``None``.

    It must gain ``at_least`` of the rows, and the other values must be distributed as before: PSI of the rest, over
    the spec's bins, below 0.05.  A value beyond the reference's range is seen if it is the only one there.
    """
    n, m = reference.n - reference.missing, current.n - current.missing
    if min(n, m) < _MIN_ROWS:
        return None
    gains = current.cells / m - reference.cells / n
    gains[2:-1:2] = 0.0  # an interval holds many values
    place = int(np.argmax(gains))
    gained = float(gains[place])
    value = _single_value(spec, current, place)
    if gained < at_least or value is None:
        return None
    rest = []
    for side in (reference, current):
        cells = side.cells.astype(np.float64)
        cells[place] = 0.0
        rest.append(np.add.reduceat(cells, spec.bins[:-1]))
    return Spike(value, gained) if _distance(*rest) < 0.05 else None


def _single_value(spec: NumericSpec, current: NumericProfile, place: int) -> float | None:
    if place % 2:
        return float(spec.edges[place // 2])
    low = place == 0
    count = int(current.cells[place]) - (current.neg_inf if low else current.pos_inf)
    end, total = (current.minimum, current.low_sum) if low else (current.maximum, current.high_sum)
    alone = count > 0 and math.isclose(total / count, end, rel_tol=1e-9, abs_tol=1e-12)
    return end if alone else None


def _distance(before: FloatArray, after: FloatArray) -> float:
    if not before.sum() or not after.sum():
        return 0.0
    p, q = (np.maximum(side / side.sum(), 1e-4) for side in (before, after))
    return float(np.sum((q - p) * np.log(q / p)))
