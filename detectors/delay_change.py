"""Do labels land later than they used to, and have they stopped?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detectors.completeness import MIN_GROUPS, Ahead
from detectors.delay import MIN_COMPLETENESS, MIN_LABELS, PACES, DelayLaw, mean_delays
from detectors.delay_counts import DelayCounts
from detectors.profiles import FloatArray


@dataclass(frozen=True)
class DelayChange:
    """How much longer labels of recent windows take than before: a factor with its interval and p-value.

    ``label`` is the class that it is about; ``None`` is all labels together.
    """

    factor: float
    low: float
    high: float
    p_value: float
    label: int | None
    n: int


LOOKS = 3
"""Each class and all labels together are looked at, so p-values are multiplied by this."""
ALONE = 0.25
"""Fewer labels by an age are later ones when those of each class are fewer, by at least this part of it in log-odds:
else it is their mix that has changed."""


STEADY = 0.5
"""Mean delays of what has landed differ less between weeks than the odds of having landed do: by about this."""
FEW = 10
"""With fewer labels of a class in a stretch nothing is said of their delay."""


def delay_change(
    recent: DelayCounts, law: DelayLaw, *, earlier: Sequence[DelayCounts] = (), level: float = 0.95
) -> DelayChange | None:
    """Do labels land later (or sooner) than they did?  Of each class, and of all; the surest change of them.

    Of each class it is the mean delay of the labels that have landed, given that they have; of all labels, the share of
    the predictions that has one.  Either is held against ``earlier`` stretches, which show how much they differ beyond
    chance, and wander (:class:`detectors.completeness.Ahead`); with fewer than ``MIN_GROUPS`` of them, the mean delay
    is held against the law and how much its windows differ (``law.clock``).  ``None`` with too few labels.

    Parameters
    ----------
    earlier
        Stretches as long as the recent one, oldest first, each as it was known when it was as young as that is now:
        whatever depends on the age, or on the day of the week, is then the same on both sides.

    Notes
    -----
    Where labels come in batches, those of a stretch that one batch has reached say nothing of their pace: they all came
    with it.  How many of the predictions it brought a label for does.
    """
    found = [_of_class(recent, law, earlier, label, level) for label in (0, 1)]
    found.append(_of_all(recent, law, earlier, level))
    return min((each for each in found if each is not None), key=_surest, default=None)


def _surest(change: DelayChange) -> tuple[float, float]:
    """By p-value; below what a float can tell apart, by the change that the interval allows at least."""
    return max(change.p_value, 1e-12), -max(math.log(change.low), -math.log(change.high))


def _of_class(
    recent: DelayCounts, law: DelayLaw, earlier: Sequence[DelayCounts], label: int, level: float
) -> DelayChange | None:
    now, n = _mean_delay(recent, label), int(recent.n[label])
    if now is None or law.n[label] < MIN_LABELS:
        return None
    means = np.log(mean_delays(recent, law, label))
    chance = now[1]
    if len(earlier) >= MIN_GROUPS:
        past = [one for one in (_mean_delay(each, label) for each in earlier) if one is not None]
        if len(past) < MIN_GROUPS:
            return None
        ahead = Ahead.of_next(*zip(*past, strict=True), unlike=STEADY)
    else:
        usual, sooner = (float(np.interp(pace, PACES, means)) for pace in (0.0, law.clock[label]))
        ahead = Ahead(np.array([usual]), np.array([usual - sooner]), np.ones(1))
        chance *= 1 + min(1.0, n / law.n[label])
    bounds = [ahead.quantile(share, chance) for share in (0.5, (1 - level) / 2, (1 + level) / 2)]
    at, *usual_at = (float(np.interp(-each, -means, PACES)) for each in (now[0], *bounds))
    factor, high, low = (math.exp(each - at) for each in usual_at)
    return DelayChange(factor, low, high, min(1.0, LOOKS * ahead.p_value(now[0], chance)), label, n)


def _mean_delay(counts: DelayCounts, label: int) -> tuple[float, float] | None:
    """The logarithm of the mean delay of a class's labels, in seconds, and its variance; ``None`` with few."""
    events = counts.landed[:, label].sum(axis=0).astype(float)
    n = float(events.sum())
    if n < FEW:
        return None
    middle = (counts.edges[1:] + counts.edges[:-1]) / 2
    mean = float(events @ middle / n)
    return math.log(mean), float(events @ (middle - mean) ** 2) / (n * mean) ** 2 + 1e-6


def _of_all(recent: DelayCounts, law: DelayLaw, earlier: Sequence[DelayCounts], level: float) -> DelayChange | None:
    past = [_landed(each) for each in earlier]
    past = [each for each in past if each.whole > 0]
    now = _landed(recent)
    if len(past) < MIN_GROUPS or now.whole <= 0 or np.mean([each.odds for each in past]) < _odds(MIN_COMPLETENESS):
        return None
    ahead = Ahead.of_next([each.odds for each in past], [each.chance for each in past])
    centre, low, high = (ahead.quantile(share, now.chance) for share in (0.5, (1 - level) / 2, (1 + level) / 2))
    if not _all_alike(recent, earlier, now.odds - centre):
        return None
    slower = [_log_factor(law, now.odds, each) for each in (centre, low, high)]
    factor, least, most = (math.exp(each) for each in slower)
    return DelayChange(
        factor, least, most, min(1.0, LOOKS * ahead.p_value(now.odds, now.chance)), None, round(now.part)
    )


class _Landed(NamedTuple):
    part: float
    whole: float

    @property
    def odds(self) -> float:
        return math.log((self.part + 0.5) / (self.whole - self.part + 0.5))

    @property
    def chance(self) -> float:
        return 1 / (self.part + 0.5) + 1 / (self.whole - self.part + 0.5)


def _odds(share: float) -> float:
    return math.log(share / (1 - share))


def _landed(counts: DelayCounts, label: int | None = None) -> _Landed:
    part = counts.landed if label is None else counts.landed[:, label]
    whole = float(counts.predictions.sum())
    return _Landed(min(float(part.sum()), whole), whole)


def _all_alike(recent: DelayCounts, earlier: Sequence[DelayCounts], change: float) -> bool:
    """Whether each class has moved the way that all labels have."""
    for label in (0, 1):
        now, past = _landed(recent, label), [_landed(each, label) for each in earlier]
        usual = _Landed(sum(each.part for each in past), sum(each.whole for each in past))
        if usual.part >= MIN_LABELS and (now.odds - usual.odds) * math.copysign(1, change) < ALONE * abs(change):
            return False
    return True


def _log_factor(law: DelayLaw, now: float, usual: float) -> float:
    """By how much longer labels take, if their share among the predictions is ``now`` and not ``usual`` (log-odds).

    On the curve of all labels, at the age at which that share is usual.
    """
    weight = np.array(law.n) / max(sum(law.n), 1)
    curve = (law.share.mean(axis=0) * weight[:, None]).sum(axis=0)
    most = 1 - law.never[0]
    first, second = (
        max(float(np.interp(1 / (1 + math.exp(-odds)) / most, curve, law.edges)), law.edges[1]) for odds in (now, usual)
    )
    return float(np.clip(math.log(second / first), -2, 2))


@dataclass(frozen=True)
class Silence:
    """Labels that should have landed since the last one did, and how likely it is that none has."""

    expected: float
    p_value: float


def silence(ages: FloatArray, pending: FloatArray, law: DelayLaw, *, since: float, share_positive: float) -> Silence:
    """Have labels stopped?  Counts the labels that the law expects in the last ``since`` seconds.

    Parameters
    ----------
    ages, pending
        Age as of now of groups of predictions (seconds), and how many predictions each holds; shape ``(G,)``.
    share_positive
        The share of positives among labels.

    Notes
    -----
    The p-value is Poisson's for zero arrivals, ``exp(-expected)``; labels that land in batches need the caller to ask
    only when ``since`` is beyond the usual gap.
    """
    now, then = law.at(ages), law.at(np.maximum(ages - since, 0.0))
    fresh = np.clip(now - then, 0.0, 1.0).mean(axis=1)
    mix = np.array([1 - share_positive, share_positive])
    expected = float(np.sum(pending * (fresh @ mix))) * (1 - law.never[0])
    return Silence(expected, math.exp(-expected))
