"""Does a score still mean what it meant? A test of P(label | score) against the baseline, wherever along the scores.

A changed rule that turns labels round among the middling scores alone may leave accuracy as it was, and ROC-AUC nearly
so; the share of positives among these scores shows it.  Calibration drift is the field's name for it (Davis et al.,
"Calibration drift in regression and machine learning models for acute kidney injury", JAMIA 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy

from detectors.calibration import Calibrator, isotonic
from detectors.effective_size import MIN_WINDOWS, of_deviations
from detectors.intervals import wilson
from detectors.null_law import NullLaw
from detectors.profiles import FloatArray, IntArray
from detectors.score_labels import ScoreLabels
from detectors.statistic import probability

Part = Literal["stretch", "shift", "slope"]

MAX_GROUPS = 10
CELLS = 60
_INFORMATION = 3.0
"""Σ p (1 - p) of a window's labels that each group of scores should hold."""
_EXACT_BELOW = 50.0
"""Up to this variance of a count its own law is taken, beyond it the normal one."""
MIN_REFERENCE = 100
"""Labels of the reference below which nothing is compared."""


@dataclass(frozen=True)
class Stretch:
    """One group of neighbouring scores: the share of positives that the baseline leads to expect, and the one seen."""

    low: float
    high: float
    expected: float
    observed: float
    n: int

    def describe(self) -> dict[str, Any]:
        """Plain data, with the 95 % interval of the observed share."""
        span = wilson(self.observed * self.n, self.n)
        return {
            "scores": [self.low, self.high],
            "expected": self.expected,
            "observed": self.observed,
            "n": self.n,
            "interval": [span.low, span.high],
        }


@dataclass(frozen=True, eq=False)
class CalibrationDrift:
    """How far P(label | score) has moved, and how surely.

    Parameters
    ----------
    value, low, high
        Root mean square change of the share of positives at a score, freed of what chance adds, and its 95 % interval.
    p_value
        Of the surest part, times their number.
    part
        ``stretch`` (the share of positives in some run of neighbouring scores, at most all of them), ``shift`` (the
        score from which on positives are likely has moved) or ``slope`` (scores tell less, or more, than they did).
    where
        The run of scores that moved most surely.
    groups
        All groups of scores.
    n_outside
        Labels at scores beyond those of the reference: nothing is known of these, and they take no part.
    n_windows
        Windows that showed how far shares wander without change; 0 where labels are taken to be independent.
    overdispersion
        By how much more the run's share varies between these windows than independent labels do, as a variance ratio.
    """

    value: float
    low: float
    high: float
    p_value: float
    part: Part
    parts: dict[Part, float]
    where: Stretch
    groups: tuple[Stretch, ...]
    n_reference: int
    n_current: int
    n_outside: int
    n_windows: int
    overdispersion: float
    error: float
    """Standard error of a change of all shares by the same."""
    alike: float
    """Correlation of this window's deviation with that of the next: both are held against the same reference."""
    freedom: float

    def smallest_detectable(self, alpha: float) -> float:
        """The root mean square change, all of it one way, that four of five such windows or more show at ``alpha``."""
        tail = alpha / len(self.parts) / 2 / len(self.groups)
        critical = -_quantile(tail, self.freedom)
        return float((critical + 0.8416) * self.error)

    def describe(self) -> dict[str, Any]:
        """What it rests on, for people and for JSON."""
        told: dict[str, Any] = {
            "part": self.part,
            "part_p_values": dict(self.parts),
            "where": self.where.describe(),
            "groups": [group.describe() for group in self.groups],
            "baseline_windows": self.n_windows,
            "overdispersion": round(self.overdispersion, 4),
        }
        if self.n_outside:
            told["n_outside"] = self.n_outside
        if not self.n_windows:
            told["assumes"] = "labels are independent: too few windows show how much they are not"
        return told


@dataclass(frozen=True, eq=False)
class _Labelled:
    """Labels at increasing scores: where there is no score, the decision stands for it (0 or 1)."""

    x: FloatArray
    positives: IntArray
    negatives: IntArray

    @classmethod
    def of(cls, counts: ScoreLabels, *, decisions: bool) -> _Labelled:
        if decisions:
            return cls(np.array([0.0, 1.0]), counts.no_score[1, :2], counts.no_score[0, :2])
        positives, negatives = counts.positives.sum(axis=1), counts.negatives.sum(axis=1)
        held = (positives + negatives > 0) & np.isfinite(counts.scores)
        return cls(counts.scores[held], positives[held], negatives[held])

    @property
    def n(self) -> int:
        return int(self.positives.sum() + self.negatives.sum())


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


class CalibrationBaseline:
    """What scores meant in the reference, ready to be compared with many windows.

    Parameters
    ----------
    reference
        Labelled scores of the reference.  Where no score has a label, the decisions take their place.
    windows
        The windows that the reference is the sum of, oldest first: each held against the others shows how far shares
        wander without change.  With fewer than eight labels are taken to be independent.

    Raises
    ------
    ValueError
        The reference has fewer than 100 labels, or labels of one class only.
    """

    def __init__(self, reference: ScoreLabels, windows: Sequence[ScoreLabels] = ()) -> None:
        self._decisions = not (reference.positives.any() or reference.negatives.any())
        known = _Labelled.of(reference, decisions=self._decisions)
        if known.n < MIN_REFERENCE or not (known.positives.any() and known.negatives.any()):
            raise ValueError(f"{known.n} labels of the reference do not say what a score means")
        self._low, self._high = float(known.x[0]), float(known.x[-1])
        self._map: Calibrator = isotonic(known.x, known.positives, known.negatives)
        # Half of the cells follow the labels, half the doubt (p (1 - p)) that is left: where scores are sharp nearly
        # all of it lies between the two heaps of sure ones.
        weight = known.positives + known.negatives
        p = self._map.probability(known.x)
        doubt = weight * (p * (1 - p) + 1e-9)
        reached = np.cumsum(doubt) / doubt.sum() + np.cumsum(weight) / weight.sum()
        places = np.searchsorted(reached / 2, np.arange(1, CELLS) / CELLS)
        self._cuts = np.unique(known.x[np.minimum(places, len(known.x) - 1)])
        self._reference = self._tally(known)
        self.n = known.n
        self._windows = self._tallies(windows)
        self._inside = True

    @property
    def n_windows(self) -> int:
        """Windows that show how far shares wander."""
        return len(self._windows)

    def beside(self, windows: Sequence[ScoreLabels]) -> CalibrationBaseline:
        """The same reference, with windows of another time to show how far shares wander."""
        other = copy(self)
        other._windows, other._inside = self._tallies(windows), False
        return other

    def _tallies(self, windows: Sequence[ScoreLabels]) -> list[Tally]:
        told = [self.tally(each) for each in windows]
        return [each for each in told if each.n.sum() >= 1]

    @cached_property
    def _share(self) -> FloatArray:
        """Share of positives in each cell of the reference, drawn a little to the middle."""
        return (self._reference.positives + 0.5) / (self._reference.n + 1)

    def tally(self, counts: ScoreLabels) -> Tally:
        """The labels of a window by cell: all that :meth:`compare` needs of them."""
        return self._tally(_Labelled.of(counts, decisions=self._decisions))

    def _tally(self, known: _Labelled) -> Tally:
        # Scores increase: each cell is a stretch of them, and the outermost ones end where the reference does.
        first = int(np.searchsorted(known.x, self._low, side="left"))
        last = int(np.searchsorted(known.x, self._high, side="right"))
        ends = np.clip(np.searchsorted(known.x, self._cuts, side="right"), first, last)
        borders = np.concatenate([[first], ends, [last]])
        weight = known.positives + known.negatives
        n, k, m = (
            np.diff(np.concatenate([[0.0], np.cumsum(each)])[borders])
            for each in (weight, known.positives, weight * self._map.probability(known.x))
        )
        return Tally(n, k, m, int(weight.sum() - n.sum()))

    def compare(self, current: ScoreLabels | Tally, *, windows: int = 1) -> CalibrationDrift | None:
        """Is P(label | score) what it was?

        Scores are cut into at most ten groups that hold as much doubt each, Σ p (1 - p).  In a group the positives are
        compared with those that the reference would have had at the window's scores: its own cells of scores, weighted
        by the window, and moved along its isotonic map within a cell.  So it does not matter how scores are spread.
        Three parts are looked at, and Bonferroni's bound over them is the answer:

        - *stretch*: the largest standardised sum of the deviations over a run of neighbouring groups, each run by the
          exact (beta-binomial, mid-p) law of its count where it is small; the bound over all runs is Hunter and
          Worsley's, since runs overlap;
        - *shift*: as if every score had been a little higher, or lower: Σ c (observed - expected) with c the slope of
          the reference's share p along the normal ranks of the scores, over p (1 - p).  A decision boundary that moves
          through the features does this to a score that was learned before, and where p rises steeply the one sum says
          so more surely than the best of many runs;
        - *slope*: the same with c the log odds less their mean: scores that tell less than they did, which for scores
          that were as often too high as too low no run may show.

        Parameters
        ----------
        windows
            Successive windows that ``current`` is the sum of.

        Returns
        -------
        ``None`` where no label lies at a score of the reference.

        Notes
        -----
        The null hypothesis is that given its score a label is as likely to be positive as in the reference.  It is of
        the labels that are there: which of them land first must not depend on the class.  A change that leaves the
        share of positives at each score as it was does not show.

        How far shares vary between the windows is estimated from the covariance of the groups' deviations, drawn to
        that of independent labels as far as it may be noise (Ledoit & Wolf; the noise by Bai & Saranadasa), never
        below it, and the tail is Student's.
        """
        seen = current if isinstance(current, Tally) else self.tally(current)
        held = (seen.n > 0) & (self._reference.n > 0)
        if not held.any():
            return None
        group = self._groups(seen)
        now = _deviations(seen, self._reference, group)
        wander = self._wander(group, float(now.n.sum()) / windows)
        runs = _runs(now, wander, n_windows=windows)
        shift, slope = self._steepness(group), _log_odds(now)
        parts: dict[Part, float] = {
            "stretch": runs.p_value,
            "shift": _sum_test(now, wander, shift, n_windows=windows),
            "slope": _sum_test(now, wander, slope, n_windows=windows),
        }
        part = min(parts, key=lambda name: parts[name])
        law = _law(now, wander, n_windows=windows)
        total = float(now.n.sum())
        distance = float((now.n * now.change**2).sum()) / total
        effect = distance - law.mean
        low, high = law.interval(effect)
        told = [self._stretch(now, group, at, at + 1) for at in range(len(now.n))]
        variance = float(now.variance.sum()) * wander.ratio(np.ones(len(now.n)), now, windows)
        shared = float((now.variance * (1 - now.own)).sum() / now.variance.sum())
        return CalibrationDrift(
            value=math.sqrt(max(effect, 0.0)),
            low=math.sqrt(low),
            high=math.sqrt(high),
            p_value=probability(min(1.0, len(parts) * parts[part])),
            part=part,
            parts=parts,
            where=self._stretch(now, group, *runs.where),
            groups=tuple(told),
            n_reference=self.n,
            n_current=int(total),
            n_outside=seen.outside,
            n_windows=wander.n_windows,
            overdispersion=runs.ratio,
            error=math.sqrt(variance) / total,
            alike=shared,
            freedom=wander.freedom,
        )

    def _groups(self, seen: Tally) -> IntArray:
        """The group of each cell, shape ``(C,)``: fewer groups where the window's labels leave little doubt."""
        doubt = self._share * (1 - self._share)
        n_groups = int(np.clip(float((seen.n * doubt).sum()) / _INFORMATION, 2, MAX_GROUPS))
        weight = self._reference.n * doubt
        # A cell that the reference leaves empty (beyond its last score) belongs to the one before.
        middle = np.maximum.accumulate(np.where(weight > 0, np.cumsum(weight) - weight / 2, 0.0)) / weight.sum()
        return np.unique(np.minimum((middle * n_groups).astype(np.int64), n_groups - 1), return_inverse=True)[1]

    def _steepness(self, group: IntArray) -> FloatArray:
        """How fast the log odds rise along the reference's scores, by normal ranks, shape ``(G,)``."""
        size = int(group.max()) + 1
        n, k = (_sums(group, each, size) for each in (self._reference.n, self._reference.positives))
        if size < 2:
            return np.zeros(size)
        share = (k + 0.5) / (n + 1)
        rank = scipy.special.ndtri((np.cumsum(n) - n / 2) / n.sum())
        return np.asarray(np.gradient(share, rank) / (share * (1 - share)))

    def _wander(self, group: IntArray, rows: float) -> _Wander:
        """How far the groups' shares vary between windows of about ``rows`` labels."""
        size = int(group.max()) + 1
        if len(self._windows) < MIN_WINDOWS:
            return _Wander(np.eye(size), np.eye(size), math.inf, rows, 1.0, 0)
        moved = []
        for each in self._windows:
            other = self._reference - each if self._inside else self._reference
            found = _deviations(each, other, group)
            moved.append(found.total / np.sqrt(found.variance))
        usual = float(np.mean([each.n.sum() for each in self._windows]))
        return _Wander.of(np.stack(moved), rows=usual)

    def _stretch(self, now: _Deviations, group: IntArray, first: int, last: int) -> Stretch:
        mine = np.flatnonzero((group >= first) & (group < last))
        edges = np.concatenate([[self._low], self._cuts, [self._high]])
        n, k = now.n[first:last].sum(), now.positives[first:last].sum()
        expected = float(now.expected[first:last].sum())
        span = float(edges[mine[0]]), float(edges[mine[-1] + 1])
        return Stretch(*span, expected / max(n, 1.0), float(k) / max(n, 1.0), int(n))


# --- deviations ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Deviations:
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


def _sums(place: IntArray, values: FloatArray | IntArray, size: int) -> FloatArray:
    return np.bincount(place, weights=values, minlength=size).astype(np.float64)


def _deviations(seen: Tally, reference: Tally, group: IntArray) -> _Deviations:
    """What a window shows in each group, against the reference at the same scores."""
    size = int(group.max()) + 1
    held = (seen.n > 0) & (reference.n > 0)
    n, base = np.where(held, seen.n, 0.0), np.maximum(reference.n, 1.0)
    shift = np.where(held, seen.mapped / np.maximum(seen.n, 1.0) - reference.mapped / base, 0.0)
    share = np.clip(reference.positives / base + shift, 0.0, 1.0)
    sums = [_sums(group, each, size) for each in (n, np.where(held, seen.positives, 0.0), n * share, n * n / base)]
    worth = np.divide(sums[0] ** 2, sums[3], out=np.full(size, np.inf), where=sums[3] > 0)
    return _Deviations(sums[0], sums[1], sums[2], np.where(np.isfinite(worth), worth, reference.n.sum()))


@dataclass(frozen=True, eq=False)
class _Wander:
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
    def of(cls, moved: FloatArray, *, rows: float) -> _Wander:
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

    def ratio(self, weights: FloatArray, now: _Deviations, n_windows: int, *, single: bool = False) -> float:
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
class _Runs:
    """The run of groups ``[first, last)`` that moved most surely."""

    where: tuple[int, int]
    p_value: float
    ratio: float


def _runs(now: _Deviations, wander: _Wander, *, n_windows: int) -> _Runs:
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
    return _Runs(worst, min(1.0, 2 * _any_of(runs, now.variance, tail)), ratio)


def _normal_score(now: _Deviations, first: int, last: int) -> float:
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


def _log_odds(now: _Deviations) -> FloatArray:
    """The log odds of what is expected, less their mean: a sum with these is the score test of Cox's slope."""
    share = np.clip((now.expected + 0.5) / (now.n + 1), 1e-6, 1 - 1e-6)
    odds = np.log(share / (1 - share))
    return np.asarray(odds - np.average(odds, weights=now.variance))


def _sum_test(now: _Deviations, wander: _Wander, weights: FloatArray, *, n_windows: int) -> float:
    """The p-value of a weighted sum of the deviations."""
    variance = float((weights * weights * now.variance).sum())
    if variance <= 1e-9:
        return 1.0
    more = wander.ratio(weights, now, n_windows, single=True)
    # Where labels leave nearly no doubt, a sum of few of them is not normal: its error is taken as that of one label.
    least = float(np.abs(weights).max()) ** 2
    found = abs(float((weights * now.total).sum())) / math.sqrt(max(variance, least) * more)
    return 2 * _tail(found, wander.freedom)


def _law(now: _Deviations, wander: _Wander, *, n_windows: int) -> NullLaw:
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


def _quantile(tail: float, freedom: float) -> float:
    if math.isinf(freedom):
        return float(scipy.special.ndtri(tail))
    return float(scipy.special.stdtrit(freedom, tail))
