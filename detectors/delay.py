"""What the labels that have landed say about all of them, when *which* label lands first is not random.

A fraud is confirmed in days, its absence after months; so the labels of a young window are nearly all positive.  The
delay law F_y(a) = P(landed by age a | class y) is learned from older windows, per stratum of predictions where the data
allow, and corrects for that; where a class could not have been observed yet there is no answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from detectors.delay_counts import DelayCounts, merge
from detectors.profiles import FloatArray, IntArray

MIN_COMPLETENESS = 0.02
"""Below this share of a class having landed, a label of it would stand for more than 50 others: no answer."""
MIN_LABELS = 30
"""Labels of a class from which its law may be learned."""
POOLING = 300
"""A stratum's own law weighs ``n / (n + POOLING)`` against that of its class, n being its labels of that class."""


class Completeness(NamedTuple):
    """The share of a class that has landed by an age, and the variance of its logarithm."""

    share: float
    log_variance: float


class Past(NamedTuple):
    """An earlier window, and the log pace that the windows around it let expect of either class."""

    counts: DelayCounts
    pace: tuple[float, float]


@dataclass(frozen=True, eq=False)
class DelayLaw:
    """F_y(a) at the ends of the age bins: ``share`` and the variance of its logarithm, both ``(K, 2, D + 1)``.

    Parameters
    ----------
    n
        Labels of either class that it was learned from.
    odds
        Log-odds of a positive in each stratum of the past, shape ``(K,)``; only their differences are used.
    never
        The usual share of predictions that never get a label, and the standard deviation of its log-odds over windows.
    pace
        For either class, the log pace of labels expected of the window in question: 0.1 is everything landing a tenth
        sooner than in the windows learned from, on the whole.
    clock
        For either class, the standard deviation of a window's log pace around that.
    past
        Of the windows learned from, those that every label has had the time to land of.
    """

    edges: FloatArray
    share: FloatArray
    log_variance: FloatArray
    n: tuple[int, int]
    odds: FloatArray | None = None
    never: tuple[float, float] = (0.0, 0.0)
    pace: tuple[float, float] = (0.0, 0.0)
    clock: tuple[float, float] = (0.0, 0.0)
    past: tuple[Past, ...] = ()

    def at(self, ages: FloatArray, *, pace: Sequence[float] | FloatArray | None = None) -> FloatArray:
        """F at each age, shape ``(G, K, 2)``, where labels come ``e^pace`` times as fast as learned.

        ``pace`` is by default that expected of the window in question.
        """
        pace = self.pace if pace is None else pace
        found = np.empty((len(ages), self.share.shape[0], 2))
        for label in (0, 1):
            moved = ages * math.exp(pace[label])
            place = np.clip(np.searchsorted(self.edges, moved, side="right") - 1, 0, len(self.edges) - 2)
            width = self.edges[place + 1] - self.edges[place]
            part = np.clip((moved - self.edges[place]) / width, 0.0, 1.0)
            low, high = self.share[:, label, place], self.share[:, label, place + 1]
            found[:, :, label] = (low + (high - low) * part).T
        return found

    def completeness(self, age: float, label: int, stratum: int = 0) -> Completeness:
        """The share of class ``label`` that has landed by ``age`` seconds; linear inside a bin."""
        share = float(np.interp(age, self.edges, self.share[stratum, label]))
        return Completeness(share, float(np.interp(age, self.edges, self.log_variance[stratum, label])))


def learn(
    counts: DelayCounts,
    *,
    windows: Sequence[DelayCounts] = (),
    times: Sequence[float] | None = None,
    target: float = 0.0,
) -> DelayLaw:
    """Learn the delay law from predictions of any age.

    A young prediction shows only its short delays, which would make delays look short; so time is run backwards:
    ``g(d) = landed(d) / at_risk(d)`` is the probability that a label which landed by the end of bin d landed in it, and
    ``F(a) = Π_{d > a} (1 - g(d))``, a Kaplan–Meier estimator in reverse, with Greenwood's variance of ``log F``.  The
    law of a stratum is drawn towards that of its class as far as its own labels are few (``POOLING``).

    Parameters
    ----------
    counts
        Those of all predictions to learn from.
    windows
        The same, window by window: how much windows differ beyond chance becomes ``never``, ``pace`` and ``clock``.
    times, target
        When each of ``windows`` was, and when the window in question is, in days; by default windows follow each other
        day by day, and what is in question is a stretch of whole weeks after them.  With times, a weekday whose labels
        come at a pace of their own is learned from windows of that weekday.

    Notes
    -----
    F is of labels that land within the largest age for which there are data: it is 1 there.  A class without any
    label has F = 0 at all ages: it has never been observed.

    References
    ----------
    S. W. Lagakos, L. M. Barraj & V. De Gruttola, "Nonparametric analysis of truncated survival data, with application
    to AIDS", Biometrika 1988; J. F. Lawless, "Adjustments for reporting delays", Can. J. Statist. 1994.
    """
    law = _law(counts)
    if not windows:
        ripe, labelled = int(counts.ripe.sum()), int(counts.ripe_labelled.sum())
        missing = 1 - labelled / ripe if ripe else 0.0
        error = 1 / math.sqrt(max(ripe * missing * (1 - missing), 1.0))
        return replace(law, never=(missing, error))
    when = np.arange(-len(windows), 0.0) if times is None else np.asarray(times, dtype=np.float64)
    away, never = when - target, _never(windows)
    same = np.ones(len(windows), bool) if times is None else _same_weekday(law, windows, away)
    if not same.all():
        windows = [each for each, held in zip(windows, same, strict=True) if held]
        away = away[same] / 7  # a week is to such windows what a day is to others
        law = replace(_law(reduce(merge, windows)), odds=law.odds)
    weekly = times is None
    no, yes = (_expected_pace(law, windows, away, label, weekly=weekly) for label in (0, 1))
    return replace(
        law,
        never=never,
        pace=(no.level, yes.level),
        clock=(no.spread, yes.spread),
        past=tuple(
            Past(each, (float(no.then[place]), float(yes.then[place])))
            for place, each in enumerate(windows)
            if 0 < each.predictions.sum() == each.ripe.sum()
        ),
    )


def _law(counts: DelayCounts) -> DelayLaw:
    """The law of all that was counted, per stratum and class."""
    n_strata = counts.landed.shape[0]
    whole, whole_variance = _reversed_product(counts.landed.sum(axis=0), counts.at_risk.sum(axis=0))
    share, variance = np.repeat(whole[None], n_strata, axis=0), np.repeat(whole_variance[None], n_strata, axis=0)
    for stratum in range(n_strata) if n_strata > 1 else ():
        own, own_variance = _reversed_product(counts.landed[stratum], counts.at_risk[stratum])
        n = counts.landed[stratum].sum(axis=1).astype(float)[:, None]
        weight = np.where(n > 0, n / (n + POOLING), 0.0)
        share[stratum] = weight * own + (1 - weight) * whole
        variance[stratum] = weight**2 * own_variance + (1 - weight) ** 2 * whole_variance
    sizes = (int(counts.n[0]), int(counts.n[1]))
    totals = counts.landed.sum(axis=2) + 5 * (counts.n + 1) / (counts.n.sum() + 2)
    return DelayLaw(counts.edges, share, variance, sizes, np.log(totals[:, 1] / totals[:, 0]))


def _reversed_product(landed: IntArray, at_risk: IntArray) -> tuple[FloatArray, FloatArray]:
    """F and the variance of its logarithm for both classes, shape ``(2, D + 1)``, from counts of shape ``(2, D)``."""
    n_bins = landed.shape[1]
    share, log_variance = np.zeros((2, n_bins + 1)), np.zeros((2, n_bins + 1))
    for label in (0, 1):
        events, risk = landed[label].astype(float), at_risk[label].astype(float)
        if not risk.any():
            continue
        hazard = np.divide(events, risk, out=np.zeros(n_bins), where=risk > 0)
        spread = np.divide(events, risk * (risk - events), out=np.zeros(n_bins), where=risk > events)
        share[label, -1] = 1.0
        share[label, :-1] = np.cumprod((1 - hazard)[::-1])[::-1]
        log_variance[label, :-1] = np.cumsum(spread[::-1])[::-1]
        # That no label came later than an age does not mean that none can: as if one more had.
        later = np.cumsum(events[::-1])[::-1]
        watched = np.cumsum(risk[::-1])[::-1] / np.arange(n_bins, 0, -1)
        log_variance[label, :-1] = np.maximum(log_variance[label, :-1], (later + 1) / np.maximum(watched, 1.0) ** 2)
    return share, log_variance


def _never(windows: Sequence[DelayCounts]) -> tuple[float, float]:
    """The usual share of ripe predictions without a label, and how far windows' log-odds of it differ beyond chance.

    Log-odds, because such shares are small on most days and many times that on a few.
    """
    ripe = np.array([float(each.ripe.sum()) for each in windows])
    held = ripe > 0
    missing = ripe[held] - np.array([float(each.ripe_labelled.sum()) for each in windows])[held]
    if not missing.sum():
        return 0.0, 0.0
    odds = np.log((missing + 0.5) / (ripe[held] - missing + 0.5))
    variance = 1 / (missing + 0.5) + 1 / (ripe[held] - missing + 0.5)
    excess, weight = 0.0, 1 / variance
    for _ in range(8):
        weight = 1 / (variance + excess)
        mean = float(np.average(odds, weights=weight))
        excess = max(float(np.average((odds - mean) ** 2 - variance, weights=weight)), 0.0)
    return 1 / (1 + math.exp(-mean)), math.sqrt(excess + 1 / float(weight.sum()))


MEMORY = 14.0
"""Days over which what windows say about the pace of the one in question fades to ``1/e``."""


def _same_weekday(law: DelayLaw, windows: Sequence[DelayCounts], away: FloatArray) -> npt.NDArray[np.bool_]:
    """Which windows to learn from: those of the weekday in question where weekdays differ beyond doubt, else all.

    Labels that are delivered once a week, or not on Sundays, give each weekday a law of its own.
    """
    everyone, weekday = np.ones(len(windows), bool), np.floor(away + 0.5).astype(np.int64) % 7
    same: npt.NDArray[np.bool_] = np.equal(weekday, 0)
    n = [sum(int(each.n[label]) for each, held in zip(windows, same, strict=True) if held) for label in (0, 1)]
    if same.sum() < MIN_WEEKS or min(n) < POOLING or len(np.unique(weekday)) < 2:
        return everyone
    for label in (0, 1):
        found = [pace_of(each, law, label) for each in windows]
        known = np.array([each is not None for each in found])
        value, variance = np.array([each for each in found if each is not None]).reshape(-1, 2).T
        if _weekdays_differ(value, variance, weekday[known]):
            return same
    return everyone


def _weekdays_differ(value: FloatArray, variance: FloatArray, weekday: IntArray) -> bool:
    """Whether paces of the same weekday are alike, and those of others are not, beyond doubt."""
    weight = 1 / (variance + 1e-6)
    days = [weekday == day for day in np.unique(weekday)]
    free = len(value) - len(days)
    if len(days) < 2 or free < 7:
        return False
    within = sum(_around(value[day], weight[day]) for day in days)
    between = _around(value, weight) - within
    statistic = between / (len(days) - 1) / max(within / free, 1.0)
    return float(scipy.special.fdtrc(len(days) - 1, free, statistic)) < WEEKLY


def _around(value: FloatArray, weight: FloatArray) -> float:
    return float(np.sum(weight * (value - np.average(value, weights=weight)) ** 2))


MIN_WEEKS = 4
"""Windows of a weekday from which its own law may be learned."""
WEEKLY = 1e-6
"""Weekdays have laws of their own when chance alone would make their paces differ as much this rarely."""


class _Pace(NamedTuple):
    """The log pace expected of a window, its standard deviation, and the one expected of each window learned from."""

    level: float
    spread: float
    then: FloatArray


def _expected_pace(
    law: DelayLaw, windows: Sequence[DelayCounts], away: FloatArray, label: int, *, weekly: bool
) -> _Pace:
    """The log pace expected of a window, from those of the windows around it.

    Their mean, weighed by closeness in time; where all windows together show a trend beyond doubt, so that labels come
    later from day to day, a line takes the mean's place.  The standard deviation is that of the level found, and of
    what windows differ from it beyond chance; with ``weekly``, from others of their weekday, where weekdays differ.
    """
    found = [pace_of(each, law, label) for each in windows]
    known = [place for place, each in enumerate(found) if each is not None]
    if len(known) < 4:
        return _Pace(0.0, 0.0, np.zeros(len(windows)))
    value, variance = np.array([found[place] for place in known]).T
    when = away[known]
    weekday = np.floor(when + 0.5).astype(np.int64) % 7
    of_day = np.zeros(7)
    if weekly and _weekdays_differ(value, variance, weekday):
        usual = np.average(value, weights=1 / variance)
        for day in np.unique(weekday):
            of_day[day] = np.average(value[weekday == day], weights=1 / variance[weekday == day]) - usual
        value = value - of_day[weekday]
    design = np.stack([np.ones_like(when), when / MEMORY], axis=1)
    overall = _line(design, value, variance, np.ones_like(when))
    trend = abs(overall.level[1]) > TREND * math.sqrt(overall.error[1])
    near = _line(design if trend else design[:, :1], value, variance, np.exp(-np.abs(when) / MEMORY))
    then = _smoothed(value, 1 / (variance + near.excess + 1e-6), when, away, trend=trend)
    then += of_day[np.floor(away + 0.5).astype(np.int64) % 7]
    return _Pace(float(np.clip(near.level[0], -2, 2)), math.sqrt(near.excess + near.error[0]), np.clip(then, -2, 2))


def _smoothed(value: FloatArray, weight: FloatArray, when: FloatArray, at: FloatArray, *, trend: bool) -> FloatArray:
    """What the values around each of the times ``at`` let expect there: the value at that very time is left out."""
    away = (when[None] - at[:, None]) / MEMORY
    near = weight * np.exp(-np.abs(away)) * (away != 0)
    zeroth, first, second = (np.sum(near * away**power, axis=1) for power in range(3))
    of_value, of_both = near @ value, (near * away) @ value
    mean: FloatArray = of_value / zeroth
    return (second * of_value - first * of_both) / (second * zeroth - first**2) if trend else mean


TREND = 5.0
"""A trend counts when it is this many standard errors from none: windows of one batch of labels are alike."""


class _Line(NamedTuple):
    level: FloatArray
    error: FloatArray
    excess: float


def _inverse(matrix: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _line(design: FloatArray, value: FloatArray, variance: FloatArray, near: FloatArray) -> _Line:
    """Weighted least squares with a variance between windows beyond that of each, found by moments in a few rounds."""
    level: FloatArray = np.zeros(design.shape[1])
    normal: FloatArray = np.eye(design.shape[1])
    excess, weight = 0.0, near
    for _ in range(4):
        weight = near / (variance + excess + 1e-6)
        normal = _inverse(design.T @ (design * weight[:, None]) + 1e-9 * np.eye(design.shape[1]))
        level = normal @ (design.T @ (weight * value))
        rest = value - design @ level
        # A few windows far off, such as the youngest of a weekly batch, must not widen what is said of all.
        far = rest**2 / (variance + excess + 1e-6)
        weight = weight / (1 + far / 4)
        excess = max(float(np.average(rest**2 - variance, weights=weight)), 0.0)
    spread = weight**2 * (variance + excess)
    error = np.diag(normal @ (design.T @ (design * spread[:, None])) @ normal)
    return _Line(level, error, excess)


def pace_of(counts: DelayCounts, law: DelayLaw, label: int) -> tuple[float, float] | None:
    """How fast the labels of one class came against the law: log pace and its variance; ``None`` with too few.

    Fisher scoring of the law's own conditional likelihood: each label at risk in bin d landed in it with probability
    ``g(d)``, and a faster clock moves F to ``F(a e^pace)``.
    """
    share = law.share[:, label].mean(axis=0) if law.share.shape[0] == 1 else _pooled_share(law, counts, label)
    events = counts.landed[:, label].sum(axis=0).astype(float)
    risk = counts.at_risk[:, label].sum(axis=0).astype(float)
    if events.sum() < 10:
        return None
    step, pace, information = 0.05, 0.0, 0.0
    for _ in range(6):
        hazard = _hazard(share, law.edges, pace)
        slope = (_hazard(share, law.edges, pace + step) - _hazard(share, law.edges, pace - step)) / (2 * step)
        usable = (hazard > 1e-9) & (hazard < 1 - 1e-9) & (risk > 0)
        noise = hazard[usable] * (1 - hazard[usable])
        information = float(np.sum(risk[usable] * slope[usable] ** 2 / noise))
        if information <= 0:
            return None
        score = float(np.sum((events[usable] - risk[usable] * hazard[usable]) * slope[usable] / noise))
        change = float(np.clip(score / information, -0.5, 0.5))
        pace = float(np.clip(pace + change, -2, 2))
        if abs(change) < 1e-3:
            break
    return pace, 1 / information


def _pooled_share(law: DelayLaw, counts: DelayCounts, label: int) -> FloatArray:
    weight = counts.landed[:, label].sum(axis=1).astype(float) + 1e-9
    return np.asarray(np.average(law.share[:, label], axis=0, weights=weight))


def _hazard(share: FloatArray, edges: FloatArray, pace: float) -> FloatArray:
    moved = np.interp(edges * math.exp(pace), edges, share)
    return np.divide(moved[1:] - moved[:-1], moved[1:], out=np.zeros(len(edges) - 1), where=moved[1:] > 0)
