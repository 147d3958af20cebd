"""When the labels of one segment land: the law of all predictions, moved to what the segment's own labels show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import NamedTuple

import numpy as np

from detectors.delay import POOLING, DelayLaw, learn
from detectors.delay_counts import DelayCounts, merge
from detectors.profiles import FloatArray

APART = 0.25
"""By how much the log pace of a segment's labels may differ from that of all, as long as they have not shown it."""
NEVER_APART = 1.0
"""The same for the log-odds of never getting a label."""


class SegmentLaw(NamedTuple):
    """The law of a segment, and how much of it is its own, in [0, 1]; the least of both classes."""

    law: DelayLaw
    own: float


def of_segment(law: DelayLaw, windows: Sequence[DelayCounts], *, weights: FloatArray) -> SegmentLaw:
    """The law of one segment, from that of all predictions and from the segment's own delays.

    With n labels of a class in the past, the segment's own F counts for ``n / (n + POOLING)`` and that of all for the
    rest; where the two differ at an age, the F of each stratum is raised to the power that carries one to the other.
    What the segment has not shown itself goes into the interval (``APART``).  What windows of all predictions were off
    by (``law.past``) says nothing of a law that was moved.

    Parameters
    ----------
    law
        Of all predictions, in K strata.
    windows
        Delays in the segment, window by window, in one stratum, over the same ages; may be empty.
    weights
        How the segment's predictions of either class are spread over the strata, shape ``(K, 2)``.
    """
    never = _never(law, windows)
    if not windows:
        return SegmentLaw(replace(law, never=never, clock=_wider(law, (0.0, 0.0)), past=()), 0.0)
    own = learn(reduce(merge, windows))
    share, variance = law.share.copy(), law.log_variance.copy()
    part = (own.n[0] / (own.n[0] + POOLING), own.n[1] / (own.n[1] + POOLING))
    for label, w in enumerate(part):
        spread = weights[:, label] + 1e-9
        of_all = np.average(law.share[:, label], axis=0, weights=spread)
        blended = w * own.share[0, label] + (1 - w) * of_all
        logs = np.log(np.clip(np.stack([blended, of_all]), 1e-12, 1.0))
        power = np.divide(logs[0], logs[1], out=np.ones_like(blended), where=logs[1] < -1e-9)
        moved = law.share[:, label] ** power
        share[:, label] = np.where(law.share[:, label] > 0, np.maximum.accumulate(np.minimum(moved, 1.0), axis=1), 0.0)
        # Where all labels used to have landed and the segment's have not, there is no power that says so.
        share[:, label] = np.where(logs[1] >= -1e-9, np.minimum(share[:, label], blended), share[:, label])
        variance[:, label] = w**2 * own.log_variance[0, label] + (1 - w) ** 2 * law.log_variance[:, label]
    moved_law = replace(law, share=share, log_variance=variance, never=never, clock=_wider(law, part), past=())
    return SegmentLaw(moved_law, min(part))


def _wider(law: DelayLaw, part: tuple[float, float]) -> tuple[float, float]:
    negative, positive = (math.hypot(law.clock[label], (1 - part[label]) * APART) for label in (0, 1))
    return negative, positive


def _never(law: DelayLaw, windows: Sequence[DelayCounts]) -> tuple[float, float]:
    """The share without a label, drawn to that of all predictions as far as few of the segment are ripe."""
    mean, spread = law.never
    if mean <= 1e-9:
        return law.never
    odds, doubt = math.log(mean / (1 - mean)), NEVER_APART**2
    ripe = sum(int(each.ripe.sum()) for each in windows)
    missing = ripe - sum(int(each.ripe_labelled.sum()) for each in windows)
    if ripe:
        seen, noise = (
            math.log((missing + 0.5) / (ripe - missing + 0.5)),
            1 / (missing + 0.5) + 1 / (ripe - missing + 0.5),
        )
        odds, doubt = (odds / doubt + seen / noise) / (1 / doubt + 1 / noise), 1 / (1 / doubt + 1 / noise)
    return 1 / (1 + math.exp(-odds)), math.hypot(spread, math.sqrt(doubt))
