"""Have labels stopped?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from detectors.delay import DelayLaw
from detectors.profiles import FloatArray


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
