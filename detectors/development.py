"""How a number develops while labels land: what past windows showed at the same age against what they ended at.

For labels that are numbers or classes.  It asks nothing of *why* labels land late; it supposes that the windows of late
went through their labels as this one does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy

from detectors.classification import Measure
from detectors.profiles import FloatArray, IntArray

MIN_WINDOWS = 8
"""Matured windows from which it may be told how a number develops."""
MIN_COMPLETENESS = 0.02
"""Below this share of the labels having landed they do not stand for the others: no answer."""
Scale = Literal["plain", "log", "logit"]


def landing_bins(landed: npt.ArrayLike, edges: FloatArray) -> IntArray:
    """The bin of each landing time, given in seconds after its window's end, shape ``(n,)``.

    Bin 0 is "by the window's end", bin ``i`` is ``(edges[i - 1], edges[i]]``, and the last, ``len(edges)``, is later or
    not known (NaN).  ``edges`` increase from 0, shape ``(A,)``.
    """
    times = np.asarray(landed, dtype=np.float64)
    return np.where(np.isnan(times), len(edges), np.searchsorted(edges, times, side="left")).astype(np.int64)


def landed_by(age: float, edges: FloatArray) -> FloatArray:
    """The part of each bin that is over at an age after the window's end (seconds), shape ``(A + 1,)``."""
    part = np.zeros(len(edges) + 1)
    part[0] = 1.0
    width = np.diff(edges)
    part[1:-1] = np.clip((age - edges[:-1]) / np.where(width > 0, width, 1.0), 0.0, 1.0)
    return part


def developed(
    value: float,
    past: Sequence[tuple[float, float]],
    *,
    scale: Scale,
    n: int,
    thin: float = 1.0,
    level: float = 0.95,
) -> Measure:
    """Where will a number end that stands at ``value`` now?

    On the given scale, the value moves by the mean of what past windows moved from the same age on; the interval is
    Student's for one window more, so it holds both chance and whatever made windows differ.

    Parameters
    ----------
    past
        For each matured window what was seen of it at this age, and what it ended at.
    scale
        ``log`` for what is positive and multiplies, ``logit`` for shares, ``plain`` for what adds.
    thin
        How many times as many labels past windows had at this age: fewer labels vary more.
    """
    pairs = [(_to(early, scale, n), _to(late, scale, n)) for early, late in past]
    moved = np.array([late - early for early, late in pairs if math.isfinite(early) and math.isfinite(late)])
    start = _to(value, scale, n)
    if len(moved) < MIN_WINDOWS or not math.isfinite(start):
        return Measure(None, n=n, reason="no_delay_law")
    middle = start + float(moved.mean())
    spread = float(moved.std(ddof=1)) * math.sqrt((1 + 1 / len(moved)) * max(thin, 1.0))
    half = float(scipy.special.stdtrit(len(moved) - 1, 0.5 + level / 2)) * spread
    low, high = (_from(each, scale) for each in (middle - half, middle + half))
    return Measure(_from(middle, scale), low, high, n)


def _to(value: float, scale: Scale, n: int) -> float:
    if scale == "plain":
        return value
    if scale == "log":
        return math.log(value) if value > 0 else -math.inf
    inside = min(max(value, 0.5 / max(n, 1)), 1 - 0.5 / max(n, 1))
    return math.log(inside / (1 - inside))


def _from(value: float, scale: Scale) -> float:
    if scale == "plain":
        return value
    if scale == "log":
        return math.exp(min(value, 700.0))
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
