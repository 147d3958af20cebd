"""How far labels lie from what scores meant, group by group along the scores, and what chance makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from detectors.effective_size import of_deviations
from detectors.null_law import NullLaw
from detectors.profiles import FloatArray, IntArray

_EXACT_BELOW = 50.0
"""Up to this variance of a count its own law is taken, beyond it the normal one."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Labels in each cell of a baseline's scores; those of several windows add up.

    Parameters
    ----------
    n, positives
        Labels, and positive ones, shape ``(C,)``.
    mapped
        Σ of what the baseline's isotonic map gives at the scores.
    outside
        Labels at scores beyond those of the baseline.
    """

    n: FloatArray
    positives: FloatArray
    mapped: FloatArray
    outside: int = 0

    def __sub__(self, other: Tally) -> Tally:
        return Tally(self.n - other.n, self.positives - other.positives, self.mapped - other.mapped)

    def __add__(self, other: Tally) -> Tally:
        outside = self.outside + other.outside
        return Tally(self.n + other.n, self.positives + other.positives, self.mapped + other.mapped, outside)


@dataclass(frozen=True, eq=False)
class Deviations:
    """Labels, positives and expected positives of each group, shape ``(G,)``.

    ``worth``: so many labels of the reference, as the window weighs them, stand behind what is expected.
    """

    n: FloatArray
    positives: FloatArray
    expected: FloatArray
    worth: FloatArray

    @property
    def total(self) -> FloatArray:
        return self.positives - self.expected

    @cached_property
    def own(self) -> FloatArray:
        """The part of the variance that is the window's own, and not the reference's."""
        return self.worth / (self.worth + self.n)

    @cached_property
    def variance(self) -> FloatArray:
        """Variance of ``total`` for independent labels that the window and the reference have in common."""
        known = self.n + self.worth
        share = (self.expected / np.maximum(self.n, 1) * known + 0.5) / (known + 1)
        return np.maximum(self.n, 1e-9) * share * (1 - share) / self.own

    @property
    def change(self) -> FloatArray:
        """Observed less expected share."""
        return np.divide(self.total, self.n, out=np.zeros_like(self.total), where=self.n > 0)


def sums_by(place: IntArray, values: FloatArray | IntArray, size: int) -> FloatArray:
    """Sums of ``values`` by place, shape ``(size,)``."""
    return np.bincount(place, weights=values, minlength=size).astype(np.float64)


def deviations_of(seen: Tally, reference: Tally, group: IntArray) -> Deviations:
    """What a window shows in each group, against the reference at the same scores."""
    size = int(group.max()) + 1
    held = (seen.n > 0) & (reference.n > 0)
    n, base = np.where(held, seen.n, 0.0), np.maximum(reference.n, 1.0)
    shift = np.where(held, seen.mapped / np.maximum(seen.n, 1.0) - reference.mapped / base, 0.0)
    share = np.clip(reference.positives / base + shift, 0.0, 1.0)
    sums = [sums_by(group, each, size) for each in (n, np.where(held, seen.positives, 0.0), n * share, n * n / base)]
    worth = np.divide(sums[0] ** 2, sums[3], out=np.full(size, np.inf), where=sums[3] > 0)
    return Deviations(sums[0], sums[1], sums[2], np.where(np.isfinite(worth), worth, reference.n.sum()))


@dataclass(frozen=True, eq=False)
class Wander:
    """Covariance of the groups' standardised deviations without change, shape ``(G, G)``, and how well it is known.

    ``found`` is as the windows show it, ``covariance`` drawn to that of independent labels.  ``rows``: labels of a
    usual window; ``memory``: successive windows that are worth one.
    """

    found: FloatArray
    covariance: FloatArray
    freedom: float
    rows: float
    memory: float
    n_windows: int

    @classmethod
    def of(cls, moved: FloatArray, *, rows: float) -> Wander:
        """From standardised deviations of shape ``(W, G)``, in the order of time."""
        n_windows, size = moved.shape
        found = moved.T @ moved / n_windows
        mean = float(np.trace(found)) / size
        memory = of_deviations(moved, size, rows=rows).memory
        worth = max(n_windows / memory - 1, 2.0)
        second = float((found * found).sum())
        # What is left of Σ λ² once the noise of the estimate is taken off, beyond that of equal eigenvalues.
        cleared = worth * worth / ((worth - 1) * (worth + 2)) * (second - (mean * size) ** 2 / worth)
        even = size * mean * mean
        kept = math.sqrt(min(1.0, max(0.0, cleared - even) / max(second - even, 1e-12)))
        drawn = kept * found + (1 - kept) * mean * np.eye(size)
        freedom = 1 / (kept * kept / worth + (1 - kept) ** 2 / (worth * size))
        return cls(found, drawn, freedom, rows, memory, n_windows)

    def ratio(self, weights: FloatArray, now: Deviations, n_windows: int, *, single: bool = False) -> float:
        """By how much a weighted sum of deviations varies more than it would with independent labels; at least 1.

        The excess may lie within windows or between them.  It is taken to fall with labels only up to a usual window,
        and then with the number of windows less their memory.  Of a ``single`` sum, which is not the one of many that
        the windows happen to show as steady, the windows' own word counts where it is the larger.
        """
        spread = weights * np.sqrt(now.variance)
        plain = float(spread @ spread)
        if plain <= 0:
            return 1.0
        found = [self.covariance, self.found] if single else [self.covariance]
        excess = max(0.0, max(float(spread @ each @ spread) for each in found) / plain - 1)
        each = float(now.n.sum()) / n_windows
        return 1 + excess * max(1.0, each / self.rows) * min(self.memory, n_windows)


@dataclass(frozen=True)
class Run:
    """The run of groups ``[first, last)`` that moved most surely."""

    where: tuple[int, int]
    p_value: float
    ratio: float


def surest_run(now: Deviations, wander: Wander, *, n_windows: int) -> Run:
    """The run of neighbouring groups that moved most surely; its p-value knows that any of them could have been it."""
    size = len(now.n)
    runs = [(first, last) for first in range(size) for last in range(first + 1, size + 1)]
    surest, worst, ratio = 0.0, runs[-1], 1.0
    for first, last in runs:
        inside = np.zeros(size)
        inside[first:last] = 1.0
        more = wander.ratio(inside, now, n_windows)
        found = abs(_normal_score(now, first, last)) / math.sqrt(more)
        if found > surest:
            surest, worst, ratio = found, (first, last), more
    tail = _tail(surest, wander.freedom)
    return Run(worst, min(1.0, 2 * _any_of(runs, now.variance, tail)), ratio)


def _normal_score(now: Deviations, first: int, last: int) -> float:
    """The deviation of a run of groups as a normal score, by the law of its count where that is small.

    Given the reference the count is beta-binomial (with Jeffreys' prior); the mid-p value keeps its level on average.
    """
    n, positives = now.n[first:last].sum(), now.positives[first:last].sum()
    variance = float(now.variance[first:last].sum())
    if n < 1:
        return 0.0
    if variance > _EXACT_BELOW:
        return float(now.total[first:last].sum()) / math.sqrt(variance)
    p = float(now.expected[first:last].sum() / n)
    worth = float(n * n / (now.n[first:last] ** 2 / now.worth[first:last]).sum())
    return _mid_score(round(positives), round(n), p, worth)


def _mid_score(k: int, n: int, p: float, worth: float) -> float:
    """Normal score of ``k`` of ``n``, where the share ``p`` is known from ``worth`` others."""
    if p > 0.5:  # the rarer kind is counted, so that few terms are summed
        return -_mid_score(n - k, n, 1 - p, worth)
    a, b = p * worth + 0.5, (1 - p) * worth + 0.5
    mean = n * a / (a + b)
    if k <= mean:
        mass = _beta_binomial(np.arange(k + 1), n, a, b)
        return float(scipy.special.ndtri(max(float(mass[:-1].sum() + mass[-1] / 2), 1e-300)))
    # Terms of the upper tail fall at least as fast as a geometric series once beyond the mean; few are needed.
    mass = _beta_binomial(np.arange(k, min(n, k + 2000) + 1), n, a, b)
    return -float(scipy.special.ndtri(max(float(mass[1:].sum() + mass[0] / 2), 1e-300)))


def _beta_binomial(k: IntArray, n: int, a: float, b: float) -> FloatArray:
    log = scipy.special.gammaln
    ways = log(n + 1) - log(k + 1) - log(n - k + 1)
    return np.asarray(np.exp(ways + scipy.special.betaln(k + a, n - k + b) - scipy.special.betaln(a, b)))


def _any_of(runs: Sequence[tuple[int, int]], variance: FloatArray, tail: float) -> float:
    """At most how likely is it that any run lies beyond what each exceeds with probability ``tail``?

    Hunter and Worsley's bound, Σ P(one) − Σ P(both ends) over the edges of the heaviest tree, here of runs that differ
    by one group.
    """
    if tail >= 0.25:
        return 0.5
    reached = np.concatenate([[0.0], np.cumsum(variance)])
    height = -float(scipy.special.ndtri(tail))
    saved = 0.0
    for first, last in runs:
        mine = reached[last] - reached[first]
        larger = [pair for pair in ((first - 1, last), (first, last + 1)) if pair[0] >= 0 and pair[1] <= len(variance)]
        if larger:
            whole = min(reached[j] - reached[i] for i, j in larger)
            saved += _both(height, tail, math.sqrt(mine / whole) if whole > 0 else 1.0)
    return min(0.5, len(runs) * tail - saved)


def _both(height: float, tail: float, rho: float) -> float:
    """P(X > h, Y > h) of two standard normal variables with correlation ``rho`` (Owen's T)."""
    slope = math.sqrt((1 - min(rho, 1.0)) / (1 + rho))
    return max(tail * tail, tail - 2 * float(scipy.special.owens_t(height, slope)))


def cox_slope(now: Deviations) -> FloatArray:
    """The log odds of what is expected, less their mean: a sum with these is the score test of Cox's slope."""
    share = np.clip((now.expected + 0.5) / (now.n + 1), 1e-6, 1 - 1e-6)
    odds = np.log(share / (1 - share))
    return np.asarray(odds - np.average(odds, weights=now.variance))


def sum_test(now: Deviations, wander: Wander, weights: FloatArray, *, n_windows: int) -> float:
    """The p-value of a weighted sum of the deviations."""
    variance = float((weights * weights * now.variance).sum())
    if variance <= 1e-9:
        return 1.0
    more = wander.ratio(weights, now, n_windows, single=True)
    # Where labels leave nearly no doubt, a sum of few of them is not normal: its error is taken as that of one label.
    least = float(np.abs(weights).max()) ** 2
    found = abs(float((weights * now.total).sum())) / math.sqrt(max(variance, least) * more)
    return 2 * _tail(found, wander.freedom)


def law_of_squares(now: Deviations, wander: Wander, *, n_windows: int) -> NullLaw:
    """The law of Σ w (observed − expected)² without change, w the groups' shares of the labels."""
    total = float(now.n.sum())
    spectrum = []
    for at in range(len(now.n)):
        alone = np.zeros(len(now.n))
        alone[at] = 1.0
        n = max(float(now.n[at]), 1.0)
        spectrum.append(float(now.variance[at]) * wander.ratio(alone, now, n_windows) / n / total)
    return NullLaw(np.maximum(np.array(spectrum), 1e-12), wander.freedom)


def _tail(height: float, freedom: float) -> float:
    if math.isinf(freedom):
        return float(scipy.special.ndtr(-height))
    return float(scipy.special.stdtr(freedom, -height))


def quantile_of(tail: float, freedom: float) -> float:
    """What Student's t with so much freedom, or a normal variable, falls below with probability ``tail``."""
    if math.isinf(freedom):
        return float(scipy.special.ndtri(tail))
    return float(scipy.special.stdtrit(freedom, tail))
