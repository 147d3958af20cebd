"""Do labels land later than they used to, and have they stopped?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from detectors.delay import MIN_LABELS, DelayLaw, pace_of
from detectors.delay_counts import DelayCounts
from detectors.profiles import FloatArray


@dataclass(frozen=True)
class DelayChange:
    """How much longer labels of recent windows take than the law says: a factor with its interval and p-value."""

    factor: float
    low: float
    high: float
    p_value: float
    label: int
    n: int


OPTIMISM = 2.5
"""By how much the variance of a pace is larger than its information says, the law being learned itself: simulated."""
BELIEF = 6
"""How many earlier stretches that belief is worth, beside those that show how much stretches differ."""


def delay_change(
    recent: DelayCounts, law: DelayLaw, *, earlier: Sequence[DelayCounts] = (), level: float = 0.95
) -> DelayChange | None:
    """Do labels land later (or sooner) than they did when the law was learned?  The class that moved most, at least.

    The log pace of each class against that of ``earlier`` stretches, judged against chance and against how much these
    differ (Student's t); with fewer than three of them, against the law and how much its windows differ
    (``law.clock``).  Two classes are looked at, so the p-value is doubled.  ``None`` with too few labels of either.

    Parameters
    ----------
    earlier
        Stretches as long as the recent one, each as it was known when it was as young as that is now: whatever depends
        on the age, or on the day of the week, is then the same on both sides.
    """
    found = []
    for label in (0, 1):
        pace = pace_of(recent, law, label)
        if pace is None or law.n[label] < MIN_LABELS:
            continue
        past = [one[0] for one in (pace_of(each, law, label) for each in earlier) if one is not None]
        if len(past) >= 3:
            free, centre = BELIEF + len(past) - 1, float(np.mean(past))
            variance = (BELIEF * OPTIMISM * pace[1] + float(np.sum(np.square(np.array(past) - centre)))) / free
            variance *= 1 + 1 / len(past)
        else:
            free, centre = 1000, law.pace[label]
            variance = OPTIMISM * pace[1] * (1 + min(1.0, recent.n[label] / law.n[label])) + law.clock[label] ** 2
        spread, value = math.sqrt(variance), pace[0] - centre
        half = float(scipy.special.stdtrit(free, 0.5 + level / 2)) * spread
        p_value = min(1.0, 4 * float(scipy.special.stdtr(free, -abs(value) / spread)))
        low, high = math.exp(-value - half), math.exp(-value + half)
        found.append(DelayChange(math.exp(-value), low, high, p_value, label, int(recent.n[label])))
    return max(found, key=_least, default=None)


def _least(change: DelayChange) -> tuple[float, float]:
    """The change that its interval allows at least; below zero where that is none."""
    return max(math.log(change.low), -math.log(change.high)), -change.p_value


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
