"""How sure a share, an area or a difference of two of them is, in closed form: no resampling, no seed."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy

from detectors.profiles import IntArray


class Interval(NamedTuple):
    """Both ends belong to the interval."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


class Area(NamedTuple):
    """The area under the ROC curve and the variance of its estimate (``nan`` where one class is absent)."""

    value: float
    variance: float


@lru_cache(maxsize=256)
def z_value(level: float) -> float:
    """The two-sided normal quantile of a confidence level in ``(0, 1)``; 1.96 for 0.95."""
    if not 0 < level < 1:
        raise ValueError(f"a confidence level lies between 0 and 1, found {level!r}")
    return float(scipy.special.ndtri(0.5 + level / 2))


def wilson(successes: float, n: float, *, level: float = 0.95) -> Interval:
    """Between which shares does the true one lie, after ``successes`` of ``n``?

    The score interval ``(p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)`` with ``p = successes / n``.  It stays in
    [0, 1] and keeps its level for shares near 0 and 1.

    Parameters
    ----------
    successes, n
        Counts; fractional ones (weights scaled to an effective sample size) are welcome.  ``n = 0`` gives (0, 1):
        nothing is known.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    Examples
    --------
    >>> low, high = wilson(0, 10)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.278)
    """
    if n < 0 or not -1e-9 <= successes <= n + 1e-9:
        raise ValueError(f"{successes} successes of {n} is impossible")
    if n == 0:
        return Interval(0.0, 1.0)
    z2 = z_value(level) ** 2
    p = min(max(successes / n, 0.0), 1.0)
    centre = p + z2 / (2 * n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n)))
    low = 0.0 if p == 0 else (centre - half) / (1 + z2 / n)
    high = 1.0 if p == 1 else (centre + half) / (1 + z2 / n)
    return Interval(min(max(low, 0.0), p), max(min(high, 1.0), p))


def logit_normal(value: float, variance: float, *, level: float = 0.95) -> Interval:
    """An interval inside (0, 1) for a measure in (0, 1) with the given variance, symmetric on the logit scale."""
    if not 0 < value < 1:
        raise ValueError(f"the logit scale needs a value strictly between 0 and 1, found {value}")
    centre = math.log(value / (1 - value))
    half = z_value(level) * math.sqrt(variance) / (value * (1 - value))
    return Interval(_expit(centre - half), _expit(centre + half))


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def difference(first: float, first_interval: Interval, second: float, second_interval: Interval) -> Interval:
    """The interval of ``second - first`` from the intervals of two independent estimates.

    ``low = d - √((second - second.low)² + (first.high - first)²)`` and mirrored for ``high``: the method of variance
    estimates recovery, which inherits the asymmetry of its parts (of two Wilson intervals: Newcombe's method 10).

    References
    ----------
    R. G. Newcombe, "Interval estimation for the difference between independent proportions", Stat. Med. 1998;
    G. Y. Zou & A. Donner, "Construction of confidence limits about effect measures", Stat. Med. 2008.
    """
    change = second - first
    low = change - math.hypot(second - second_interval.low, first_interval.high - first)
    high = change + math.hypot(second_interval.high - second, first - first_interval.low)
    return Interval(low, high)


def two_share_p_value(first: tuple[int, int], second: tuple[int, int]) -> float:
    """How likely is a difference this large between two shares ``(successes, n)`` that are truly equal?

    The pooled two-sided z test where all four expected counts are at least 5; otherwise Fisher's exact test, which
    does not rely on large samples.
    """
    (x1, n1), (x2, n2) = first, second
    if min(n1, n2) <= 0 or not (0 <= x1 <= n1 and 0 <= x2 <= n2):
        raise ValueError(f"two shares need counts out of something, found {first} and {second}")
    pooled = (x1 + x2) / (n1 + n2)
    if min(n1, n2) * min(pooled, 1 - pooled) < 5:
        return _fisher(x1, n1, x2, n2)
    spread = math.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n2))
    return float(2 * scipy.special.ndtr(-abs(x2 / n2 - x1 / n1) / spread))


def _fisher(x1: int, n1: int, x2: int, n2: int) -> float:
    """Fisher's exact test, two-sided: the tables with the same margins that are no likelier than this one."""
    hits = x1 + x2
    x = np.arange(max(0, hits - n2), min(n1, hits) + 1)
    gammaln = scipy.special.gammaln
    ways = [gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) for n, k in ((n1, x), (n2, hits - x))]
    logs = ways[0] + ways[1]
    shares = np.exp(logs - logs.max())
    as_rare = shares <= shares[x1 - x[0]] * (1 + 1e-7)  # equal ones differ by rounding
    return min(1.0, float(shares[as_rare].sum() / shares.sum()))


def roc_area(positives: IntArray, negatives: IntArray) -> Area:
    """How likely does a positive score higher than a negative, ties counting one half, and how sure is that?

    Parameters
    ----------
    positives, negatives
        Counts at the same increasing distinct scores, shape ``(S,)``.

    Notes
    -----
    The area is Mann–Whitney's U over the number of pairs, from whole numbers only.  The variance is DeLong's: the
    variance over the positives of the share of negatives below each, plus the same the other way round.  With fewer
    than two of a class it is Hanley and McNeil's, which needs no spread within the class.

    References
    ----------
    E. R. DeLong, D. M. DeLong & D. L. Clarke-Pearson, Biometrics 1988; J. A. Hanley & B. J. McNeil, Radiology 1982.
    """
    n_pos, n_neg = int(positives.sum()), int(negatives.sum())
    if n_pos == 0 or n_neg == 0:
        return Area(math.nan, math.nan)
    # Twice the counts keeps the half of a tie whole, so that the sum does not depend on the order of addition.
    negatives_below = 2 * np.cumsum(negatives) - negatives
    positives_above = 2 * (n_pos - np.cumsum(positives)) + positives
    area = int(np.dot(positives, negatives_below)) / (2 * n_pos * n_neg)
    if n_pos == 1 or n_neg == 1:
        return Area(area, _hanley_mcneil(area, n_pos, n_neg))
    of_positives = negatives_below / (2 * n_neg) - area
    of_negatives = positives_above / (2 * n_pos) - area
    variance = float(np.sum(positives * of_positives**2)) / (n_pos - 1) / n_pos
    variance += float(np.sum(negatives * of_negatives**2)) / (n_neg - 1) / n_neg
    return Area(area, variance)


def _hanley_mcneil(area: float, n_pos: int, n_neg: int) -> float:
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (n_pos - 1) * (q1 - area**2) + (n_neg - 1) * (q2 - area**2)
    return max(spread, 0.0) / (n_pos * n_neg)


def roc_area_interval(area: Area, n_pos: int, n_neg: int, *, level: float = 0.95) -> Interval:
    """The interval of an area on the logit scale.

    Where the sample separates the classes perfectly (or perfectly wrongly) its variance is 0 and says nothing; then
    the interval is Wilson's for as many trials as the rarer class has members.
    """
    if area.variance > 0 and 0 < area.value < 1:
        return logit_normal(area.value, area.variance, level=level)
    n = min(n_pos, n_neg)
    return wilson(area.value * n, n, level=level)


def f_interval(tp: int, fp: int, fn: int, *, beta: float, level: float = 0.95) -> Interval:
    """The interval of ``F_β = (1 + β²) tp / ((1 + β²) tp + β² fn + fp)``.

    Wilson's, with the effective sample size that the multinomial delta method gives the odds of ``F_β``.  For β = 1
    and at the ends 0 and 1 this is the Wilson interval of ``tp / (tp + fp + fn)`` carried over to F1.

    References
    ----------
    K. Takahashi et al., "Confidence interval for micro-averaged F1 and macro-averaged F1 scores", Appl. Intell. 2022.
    """
    b2 = beta * beta
    errors = b2 * fn + fp
    if tp + errors == 0:
        return Interval(0.0, 1.0)
    spread = (b2 * b2 * fn + fp) / errors if errors else max(1.0, b2)
    n_effective = ((1 + b2) * tp + errors) ** 2 / ((1 + b2) * (errors + tp * spread))
    value = (1 + b2) * tp / ((1 + b2) * tp + errors)
    return wilson(value * n_effective, n_effective, level=level)


def mean_interval(mean: float, variance: float, n: int, *, level: float = 0.95) -> Interval:
    """The normal interval of a mean of ``n`` values whose variance is ``variance``; everything for fewer than two."""
    if n < 2:
        return Interval(-math.inf, math.inf)
    half = z_value(level) * math.sqrt(variance / n)
    return Interval(mean - half, mean + half)
