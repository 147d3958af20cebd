"""Since when has a series been different?  An interval of windows that holds the onset, from counts or from values.

The onset may lie anywhere within a window, so the window of the onset is a mixture of before and after.  Every window
is weighed as the one (Bayes, all equally likely beforehand), and the shortest run of windows that holds the onset with
the wanted probability is the answer: one window where the change is plain, more where it is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy

from detectors.profiles import FloatArray, IntArray

_MIXTURES = np.concatenate([[0.0], (np.arange(16) + 0.5) / 16])
"""Shares of the onset's window that lie before it: none, and midpoints of an even grid on (0, 1)."""
_WEIGHTS = np.concatenate([[0.5], np.full(16, 0.5 / 16)])
"""How likely each is beforehand: releases and feeds change where a window begins as often as anywhere within it."""
_WIDE = 20.0
"""Prior standard deviation of a level, in units of the values' own spread: wide enough not to matter."""


@dataclass(frozen=True)
class ChangePoint:
    """Windows ``first`` … ``last`` (positions, both included) hold the onset with probability ``confidence``.

    ``best`` is the likeliest of them.  ``evidence`` is the log of how much better a change explains the series than
    none: above 3 is strong, below 1 is next to nothing.
    """

    first: int
    last: int
    best: int
    confidence: float
    evidence: float

    @property
    def width(self) -> int:
        """How many windows the interval spans."""
        return self.last - self.first + 1


def dispersion(windows: IntArray) -> float:
    """How much more the shares of bins vary between windows than independent rows would; at least 1.

    φ = Σ (c − e)² / e / ((W − 1)(B − 1)) over ``windows``, shape ``(W, B)``, with ``e`` the counts expected from the
    shares of all windows together.  Rows divided by φ count as independent ones (Rao–Scott, first order).

    Parameters
    ----------
    windows
        Rows in each bin of each window; windows without rows and bins without rows do not count.  With fewer than two
        windows or bins left nothing can be said, and the answer is 1.

    References
    ----------
    Rao & Scott, "On chi-squared tests for multiway contingency tables with cell proportions estimated from survey
    data", Ann. Statist. 1984.
    """
    held = windows[windows.sum(axis=1) > 0]
    held = held[:, held.sum(axis=0) > 0]
    n_windows, n_bins = held.shape
    if n_windows < 2 or n_bins < 2:
        return 1.0
    expected = held.sum(axis=1, keepdims=True) * (held.sum(axis=0) / held.sum())
    excess = float(np.sum((held - expected) ** 2 / expected))
    return max(1.0, excess / float((n_windows - 1) * (n_bins - 1)))


def onset_of_counts(
    windows: IntArray, reference: IntArray, *, spread: float = 1.0, level: float = 0.95
) -> ChangePoint | None:
    """In which window did the shares of bins begin to differ from what they were?

    Before the onset rows fall into bins as in the reference and the windows before, after it as in the windows after:
    two Dirichlet–multinomial laws whose parameters are integrated out, and a mixture of both in the onset's window.

    Parameters
    ----------
    windows
        Rows in each bin of each window, oldest first, shape ``(T, B)``.
    reference
        Rows of the baseline in the same bins, shape ``(B,)``; it counts for at most as much as an average window, so
        that a baseline of long ago does not outweigh the windows just before.
    spread
        Overdispersion, see :func:`dispersion`: counts are divided by it.
    level
        Probability that the interval must reach.

    Returns
    -------
    ``None`` where there is nothing to compare: no windows, no rows, or no reference.

    Notes
    -----
    One change is assumed, and that it is abrupt: a slow drift has its interval where it became plain.

    References
    ----------
    Barry & Hartigan, "A Bayesian analysis for change point problems", JASA 1993.
    """
    filled = np.flatnonzero(windows.sum(axis=1) > 0)
    if not len(filled) or not reference.sum():
        return None
    counts = windows[filled] / spread
    prior = 0.5 + reference * min(1.0, float(np.mean(counts.sum(axis=1))) / reference.sum())
    flat = np.full(counts.shape[1], 0.5)
    before = np.vstack([np.zeros(counts.shape[1]), np.cumsum(counts, axis=0)])
    after = before[-1] - before
    last = len(counts) - 1
    scores = np.array(
        [
            _dirichlet(before[k], prior)
            + (
                _dirichlet(counts[k], flat)
                if k == last
                else _dirichlet(after[k + 1], flat) + _mixed(counts[k], prior + before[k], flat + after[k + 1])
            )
            for k in range(len(counts))
        ]
    )
    return _interval(scores, _dirichlet(before[-1], prior), places=filled, level=level)


def _dirichlet(counts: FloatArray, weight: FloatArray) -> float:
    """Log-probability of counts when the shares are Dirichlet with ``weight``; without the multinomial factor."""
    total = float(np.sum(scipy.special.gammaln(weight + counts) - scipy.special.gammaln(weight)))
    return total + float(scipy.special.gammaln(weight.sum()) - scipy.special.gammaln(weight.sum() + counts.sum()))


def _mixed(counts: FloatArray, before: FloatArray, after: FloatArray) -> float:
    """Log-probability of counts of which an unknown share is as before, and the rest as after."""
    n_before, n_after = before.sum(), after.sum()
    told = []
    for share in _MIXTURES:
        shares = share * before / n_before + (1 - share) * after / n_after
        sure = 1 / (share**2 / n_before + (1 - share) ** 2 / n_after)
        told.append(_dirichlet(counts, shares * sure))
    return float(scipy.special.logsumexp(told, b=_WEIGHTS))


def onset_of_values(values: FloatArray, errors: FloatArray, *, level: float = 0.95) -> ChangePoint | None:
    """In which window did a number begin to differ from what it was?

    Before and after the onset the values scatter about two unknown levels, in its window about a mixture of both.

    Parameters
    ----------
    values
        One number for each window, oldest first, shape ``(T,)``; windows with NaN do not count.
    errors
        Standard error of each, same shape, ``> 0``.  Where the first half scatters by more than that, by itself,
        errors are taken as that much larger.
    level
        Probability that the interval must reach.

    Returns
    -------
    ``None`` with fewer than two values.
    """
    held = np.flatnonzero(np.isfinite(values) & np.isfinite(errors) & (errors > 0))
    if len(held) < 2:
        return None
    x, variance = values[held], errors[held] ** 2
    half = len(x) // 2
    if half >= 3:
        middle = np.average(x[:half], weights=1 / variance[:half])
        variance = variance * max(1.0, float(np.sum((x[:half] - middle) ** 2 / variance[:half])) / (half - 1))
    wide = (_WIDE * (float(np.std(x)) + math.sqrt(float(np.mean(variance))))) ** 2
    centre = float(np.mean(x))
    scores = np.array([_levels(x - centre, variance, place=k, wide=wide) for k in range(len(x))])
    none, _, _ = _level(x - centre, variance, wide=wide)
    return _interval(scores, none, places=held, level=level)


def _levels(x: FloatArray, variance: FloatArray, *, place: int, wide: float) -> float:
    told, low, low_variance = _level(x[:place], variance[:place], wide=wide)
    if place == len(x) - 1:
        return told + _level(x[place:], variance[place:], wide=wide)[0]
    rest, high, high_variance = _level(x[place + 1 :], variance[place + 1 :], wide=wide)
    mean = _MIXTURES * low + (1 - _MIXTURES) * high
    width = variance[place] + _MIXTURES**2 * low_variance + (1 - _MIXTURES) ** 2 * high_variance
    density = -0.5 * (np.log(2 * math.pi * width) + (x[place] - mean) ** 2 / width)
    return told + rest + float(scipy.special.logsumexp(density, b=_WEIGHTS))


def _level(x: FloatArray, variance: FloatArray, *, wide: float) -> tuple[float, float, float]:
    """Log-density of values about one unknown level (normal, mean 0, variance ``wide``), its mean and variance."""
    precision = 1 / wide + float(np.sum(1 / variance))
    mean = float(np.sum(x / variance)) / precision
    fit = float(np.sum(x**2 / variance)) - mean * mean * precision
    density = -0.5 * (float(np.sum(np.log(2 * math.pi * variance))) + math.log(wide * precision) + fit)
    return density, mean, 1 / precision


def _interval(scores: FloatArray, none: float, *, places: IntArray, level: float) -> ChangePoint:
    """The shortest run of windows that holds ``level`` of the probability; of equal ones the likelier."""
    mass = np.exp(scores - scipy.special.logsumexp(scores))
    total = np.concatenate([[0.0], np.cumsum(mass)])
    for width in range(1, len(mass) + 1):
        held = total[width:] - total[:-width]
        start = int(np.argmax(held))
        if held[start] >= level or width == len(mass):
            break
    evidence = float(scipy.special.logsumexp(scores)) - math.log(len(scores)) - none
    first, last, best = places[start], places[start + width - 1], places[int(np.argmax(mass))]
    return ChangePoint(int(first), int(last), int(best), min(1.0, float(held[start])), evidence)
