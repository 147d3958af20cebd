"""How complete will labels, or any late reports, be by an age, going by how complete earlier groups were by then?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from detectors.profiles import FloatArray

MIN_GROUPS = 4
"""With fewer earlier groups nothing is known of how much groups differ."""


class Forecast(NamedTuple):
    """A share, and the interval that holds it."""

    value: float
    low: float
    high: float


def completeness_ahead(
    past: Sequence[tuple[float, float]],
    *,
    n: float | None = None,
    times: Sequence[float] | None = None,
    target: float | None = None,
    level: float = 0.95,
) -> Forecast:
    """Which share of the next group will have landed by the age at which the earlier groups are looked at?

    Groups differ beyond chance, wander, and have trends, and a handful of them does not say by how much.  So the
    log-odds of group t's completeness are ``y_t = m_t + e_t``, ``m_t = m_{t-1} + d + w_t`` (a local level with a
    slope), and the answer is averaged over the standard deviations of e, w and d by how well each explains the earlier
    groups (Kalman filter on a grid).  Chance among the ``n`` of the next group comes on top.

    Parameters
    ----------
    past
        ``(landed by that age, landed in the end)`` of each earlier group, oldest first, at least ``MIN_GROUPS``.
    n
        Labels that the group in question will have; by default as many as earlier groups had (their median).
    times, target
        When each earlier group was, increasing, and when the one in question is, in groups; by default one follows the
        other, and the one in question is next.
    level
        The share of such groups whose completeness the interval holds.

    Raises
    ------
    ValueError
        There are fewer than ``MIN_GROUPS`` earlier groups, or one of them holds nothing.

    References
    ----------
    M. West & J. Harrison, "Bayesian Forecasting and Dynamic Models", 1997; A. Gelman, "Prior distributions for variance
    parameters in hierarchical models", Bayesian Analysis 2006 (the half-Cauchy priors).
    """
    if len(past) < MIN_GROUPS:
        raise ValueError(f"{MIN_GROUPS} earlier groups are needed to know how much they differ, found {len(past)}")
    part, whole = np.array(past, dtype=np.float64).T
    if (whole <= 0).any():
        raise ValueError("an earlier group without any label says nothing of completeness")
    when = np.arange(len(past), dtype=np.float64) if times is None else np.asarray(times, dtype=np.float64)
    ahead = (float(when[-1]) + 1.0 if target is None else target) - when[-1]
    odds = np.log((part + 0.5) / (whole - part + 0.5))
    chance = 1 / (part + 0.5) + 1 / (whole - part + 0.5)
    centre, spread, weight = _forecast(odds, chance, np.diff(when), ahead, scales=(_GROUPS, _STEPS))
    size = max(round(float(np.median(whole)) if n is None else n), 1)
    return _quantiles(centre, spread, weight, size, level=level)


@dataclass(frozen=True, eq=False)
class Ahead:
    """What to expect of a value: a mixture of normals with these means, standard deviations and weights."""

    centre: FloatArray
    spread: FloatArray
    weight: FloatArray

    @classmethod
    def of_next(
        cls, values: npt.ArrayLike, variances: npt.ArrayLike, *, unlike: float = 1.0, steps: float = 1.0
    ) -> Ahead:
        """What earlier groups, oldest first and one after the other, let expect of the one ``steps`` after the last.

        Of each a value, such as log-odds or a log pace, and the variance that it has by chance; the law is that of
        :func:`completeness_ahead` without a trend, and for groups that are more alike: ``unlike`` times ``_ALIKE``.
        """
        value = np.asarray(values, dtype=np.float64)
        variance, gaps = np.asarray(variances, dtype=np.float64), np.ones(len(value) - 1)
        scales, middle = (unlike * _ALIKE[0], unlike * _ALIKE[1]), float(value.mean())
        centre, spread, weight = _forecast(
            value - middle, variance, gaps, steps, scales=scales, df=_ALIKE_DF, trend=False
        )
        return cls(centre + middle, spread, weight)

    def below(self, value: float, variance: float) -> float:
        """The probability that the next value, which has this variance by chance, is below ``value``."""
        spread = np.sqrt(self.spread**2 + variance)
        return float(scipy.special.ndtr((value - self.centre) / spread) @ self.weight)

    def p_value(self, value: float, variance: float) -> float:
        """How likely a next value at least as far out is, on either side."""
        away = (value - self.centre) / np.sqrt(self.spread**2 + variance)
        return min(1.0, 2 * min(float(scipy.special.ndtr(side) @ self.weight) for side in (away, -away)))

    def quantile(self, share: float, variance: float) -> float:
        """The value below which the next one is with probability ``share``."""
        spread = np.sqrt(self.spread**2 + variance)
        low, high = float((self.centre - 8 * spread).min()), float((self.centre + 8 * spread).max())
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if self.below(middle, variance) >= share else (middle, high)
        return high


# --- the law of groups -------------------------------------------------------------------------------

_SPREADS = np.array([0.01, 0.02, 0.04, 0.08, 0.14, 0.22, 0.32, 0.45, 0.65, 0.9, 1.3, 2.0, 3.2, 5.0])
_BOUNDS = np.concatenate([[0.0], np.sqrt(_SPREADS[:-1] * _SPREADS[1:]), [np.inf]])
_SLOPES = np.array([0.0, 0.01, 0.03, 0.1])
_OF_SLOPES = np.array([0.55, 0.15, 0.15, 0.15])
_GROUPS, _STEPS = 0.5, 0.3
"""Scales of the half-Cauchy priors: that odds differ between groups by a factor of e^0.5, and move by e^0.3 a group, is
nothing unheard of."""
_ALIKE = (0.1, 0.05)
_ALIKE_DF = 4.0
"""The same of weeks of one log at the same age, and half-t: that odds differ by e^0.5 is rare, and no wonder."""


def _half_t(scale: float, df: float) -> FloatArray:
    """The prior mass of each of ``_SPREADS``, as the middles of spans: Student's, without its negative half."""
    return np.asarray(np.diff(2 * scipy.special.stdtr(df, _BOUNDS / scale)), dtype=np.float64)


@cache
def _grid(scales: tuple[float, float], df: float, trend: bool) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """The variances between groups, of a step, and of the slope at each point, and the logarithm of its prior mass."""
    possible, of_slopes = (_SLOPES, _OF_SLOPES) if trend else (np.zeros(1), np.ones(1))
    groups, steps, slopes = (part.ravel() for part in np.meshgrid(_SPREADS**2, _SPREADS**2, possible**2, indexing="ij"))
    of_groups, of_steps = (_half_t(scale, df) for scale in scales)
    prior = of_groups[:, None, None] * of_steps[None, :, None] * of_slopes
    return groups, steps, slopes, np.log(np.maximum(prior, 1e-300)).ravel()


def _forecast(
    odds: FloatArray,
    chance: FloatArray,
    gaps: FloatArray,
    ahead: float,
    *,
    scales: tuple[float, float],
    df: float = 1.0,
    trend: bool = True,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean and standard deviation of the next log-odds at each point of the grid, and the point's weight."""
    groups, steps, slopes, prior = _grid(scales, df, trend)
    log_weight = prior.copy()
    level, slope = np.zeros_like(groups), np.zeros_like(groups)
    of_level, of_both, of_slope = np.full_like(groups, 9.0), np.zeros_like(groups), slopes.copy()

    def move(by: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        return (
            level + by * slope,
            of_level + 2 * by * of_both + by**2 * of_slope + abs(by) * steps,
            of_both + by * of_slope,
        )

    for place, value in enumerate(odds):
        if place:
            level, of_level, of_both = move(float(gaps[place - 1]))
        variance = of_level + groups + chance[place]
        surprise = value - level
        log_weight -= 0.5 * (np.log(variance) + surprise**2 / variance)
        gain, gain_of_slope = of_level / variance, of_both / variance
        level, slope = level + gain * surprise, slope + gain_of_slope * surprise
        of_level, of_both, of_slope = (
            of_level - gain * of_level,
            of_both - gain * of_both,
            of_slope - gain_of_slope * of_both,
        )
    level, of_level, _ = move(ahead)
    weight = np.exp(log_weight - log_weight.max())
    held = weight > 1e-6 * weight.sum()
    return level[held], np.sqrt(of_level + groups)[held], weight[held] / weight[held].sum()


def _quantiles(centre: FloatArray, spread: FloatArray, weight: FloatArray, n: int, *, level: float) -> Forecast:
    """Quantiles of ``Binomial(n, p) / n``, where the log-odds of p are the mixture of normals."""
    low, high = max(float((centre - 6 * spread).min()), -30.0), min(float((centre + 6 * spread).max()), 30.0)
    grid = np.linspace(low, high, 601)
    below = scipy.special.ndtr((grid[:, None] - centre) / spread) @ weight
    mass = np.diff(below) / (below[-1] - below[0])
    p = scipy.special.expit((grid[1:] + grid[:-1]) / 2)

    def quantile(share: float) -> float:
        under, over = -1, n
        while over - under > 1:
            middle = (under + over) // 2
            if float(mass @ scipy.special.bdtr(middle, n, p)) >= share:
                over = middle
            else:
                under = middle
        return over / n

    return Forecast(quantile(0.5), quantile((1 - level) / 2), quantile((1 + level) / 2))
