"""Intervals of a mean that are valid at every look, as a function of sums that add up.

References
----------
Hall, On the removal of skewness by transformation, 1992 (how much a skewed mean is off).
Howard, Ramdas, McAuliffe, Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences, 2021.
Fan, Grama, Liu, Exponential inequalities for martingales with applications, 2015 (the inequality behind it).
Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, Time-uniform central limit theory and asymptotic confidence sequences,
2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from detectors.profiles import FloatArray

_TUNED_AT = 100.0
"""Squared differences (for decisions: requests decided otherwise) at which the exact interval is at its best."""
_TUNED_AT_N = 1000.0
FEWEST_UNBOUNDED = 300
"""Of differences without a bound, fewer say nothing: what is rare and large has not been seen yet."""


@dataclass(frozen=True)
class Sums:
    """Sums of differences, challenger less champion; they merge by addition.

    Parameters
    ----------
    bound
        No difference is larger than this in size; ``None`` where there is no such bound.
    cubes
        Sum of third powers, which tell how skewed differences without a bound are.
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    bound: float | None = 1.0
    cubes: float = 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    def merge(self, other: Sums) -> Sums:
        bounds = (self.bound, other.bound)
        bound = None if None in bounds else max(b for b in bounds if b is not None)
        squares, cubes = self.squares + other.squares, self.cubes + other.cubes
        return Sums(self.n + other.n, self.total + other.total, squares, bound, cubes)


def sums_of(differences: FloatArray, *, bound: float | None) -> Sums:
    """Sums of one window's differences; missing ones (NaN) are left out."""
    known = differences[~np.isnan(differences)]
    squares = known * known
    return Sums(len(known), float(known.sum()), float(squares.sum()), bound, float((squares * known).sum()))


def interval(sums: Sums, *, level: float) -> tuple[float, float]:
    if sums.bound is not None:
        return exact_interval(sums, level=level)
    if sums.n < FEWEST_UNBOUNDED:
        return -math.inf, math.inf
    mean = sums.total / sums.n
    variance = max(0.0, sums.squares / sums.n - mean**2)
    third = sums.cubes / sums.n - 3 * mean * sums.squares / sums.n + 2 * mean**3
    skewness = third / variance**1.5 if variance > 0 else 0.0
    return asymptotic_interval(mean, variance, sums.n, skewness=skewness, level=level)


def exact_interval(sums: Sums, *, level: float = 0.95) -> tuple[float, float]:
    """A confidence sequence for the mean difference: with probability ``level`` it holds at all looks at once.

    For differences ``d`` in ``[−B, B]``, ``exp(λ (d − μ)/B − ψ(λ) d²/B²)`` with ``ψ(λ) = −log(1 − λ) − λ`` has an
    expectation of at most 1 for every ``λ`` in [0, 1), so its product over requests is a test supermartingale, and so
    is its mixture over ``λ`` by a gamma law.  The interval is where neither side's mixture has reached ``2 / α``.

    Parameters
    ----------
    sums
        ``n``, sum and sum of squares so far, with their ``bound``.

    Notes
    -----
    Nothing is supposed but the bound: not that requests are alike or independent, nor that there are many.  What is
    covered is the average, over the requests so far, of each one's expected difference given those before it.  It
    depends on the sums alone, so the order in which windows are added up does not matter.
    """
    if not sums.n or sums.bound is None:
        return -math.inf, math.inf
    v = sums.squares / sums.bound**2
    half = sums.bound * _gamma_exponential(v, alpha=(1 - level) / 2) / sums.n
    mean = sums.total / sums.n
    return max(mean - half, -sums.bound), min(mean + half, sums.bound)


def _gamma_exponential(v: float, *, alpha: float) -> float:
    """How far a sum of differences of size at most 1 may stray at the time when their squares add up to ``v``."""
    from scipy.optimize import brentq  # noqa: PLC0415 - 13 MB, only for those who compare versions
    from scipy.special import gammainc, gammaln  # noqa: PLC0415

    rho = _TUNED_AT / (2 * math.log(1 / (2 * alpha)) + math.log1p(2 * math.log(1 / (2 * alpha))))
    constant = rho * math.log(rho) - gammaln(rho) - math.log(gammainc(rho, rho))
    shape = v + rho

    def log_mixture(s: float) -> float:
        at = s + v + rho
        return float(
            constant + gammaln(shape) + math.log(max(gammainc(shape, at), 1e-300)) - shape * math.log(at) + s + v
        )

    goal = math.log(1 / alpha)
    upper = 10.0 + 10.0 * math.sqrt(v + 1)
    while log_mixture(upper) < goal:
        upper *= 2
    return float(brentq(lambda s: log_mixture(s) - goal, 0.0, upper, xtol=1e-9 * max(1.0, upper)))


def asymptotic_interval(
    mean: float, variance: float, n: int, *, skewness: float = 0.0, level: float = 0.95
) -> tuple[float, float]:
    """An asymptotic confidence sequence: as :func:`exact_interval`, for means without a bound and for ratios.

    ``mean ± σ √(2 (nρ² + 1) / (n²ρ²) · log(√(nρ² + 1) / α))``

    Parameters
    ----------
    skewness
        Of the differences.  The end on the side of the long tail is moved out by Hall's
        ``skewness (2 z² + 1) / (6 √n)`` standard errors, ``z`` being the half width in these: a large difference that
        is rare has been seen too seldom more often than too often.

    Notes
    -----
    It supposes that the mean of ``n`` requests is close to normal by the first look, as a usual interval does.
    """
    if n < 2:
        return -math.inf, math.inf
    alpha = 1 - level
    rho2 = (2 * math.log(1 / alpha) + math.log1p(2 * math.log(1 / alpha))) / _TUNED_AT_N
    grown = n * rho2 + 1
    spread = 2 * grown / (n * rho2) * math.log(math.sqrt(grown) / alpha)
    error = math.sqrt(variance / n)
    half, bent = error * math.sqrt(spread), error * skewness * (2 * spread + 1) / (6 * math.sqrt(n))
    return mean - half + min(bent, 0.0), mean + half + max(bent, 0.0)
