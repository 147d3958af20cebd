"""Two versions of a model on the same requests: paired differences, and an interval that may be looked at every day.

A challenger that shadows the champion scores the same requests, so that most of what varies (which requests came)
cancels in the difference of their losses.  What is kept of a window are a few sums, which add up over windows; every
interval is a function of the sums so far.  Requests that can never be labelled enter as what they could make of the
difference at worst and at best: where both versions say the same of one, nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from detectors.confidence_sequences import Sums, asymptotic_interval, interval
from detectors.pair_counts import HIGH, LOW, NEGATIVE, NEVER, POSITIVE, UNKNOWN, PairCounts
from detectors.profiles import FloatArray, IntArray


@dataclass(frozen=True)
class Difference:
    """Challenger less champion, with an interval that is valid at every look; ``value`` ``None``: see ``reason``.

    ``exact`` says that the interval supposes nothing but the bound; else it is asymptotic.  ``bounds`` are the least
    and the most the difference can be whatever the labels that can never be; ``low`` and ``high`` then hold it at every
    look, or are ``None`` where nothing is offered.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    exact: bool = True
    reason: str = ""
    bounds: tuple[float, float] | None = None


SMALLER_IS_BETTER = frozenset({"error", "brier", "log_loss", "absolute_error", "squared_error"})
DIFFERENCES = ("error", "brier", "log_loss", "precision", "recall", "value")
_NOTHING = {"error": "no_decisions", "absolute_error": "no_predictions", "squared_error": "no_predictions"}


def difference(  # noqa: PLR0911 - one line for each thing that can be missing
    counts: PairCounts, metric: str, *, worth: Mapping[str, float] | None = None, level: float = 0.95
) -> Difference:
    """How much better or worse the challenger is than the champion on the requests counted so far.

    Parameters
    ----------
    metric
        One of :data:`DIFFERENCES`, or any loss whose sums the counts hold.
    worth
        What ``tp``, ``fp``, ``fn`` and ``tn`` are worth; needed for ``value``.
    level
        Share of all sequences of looks whose every interval holds the truth.
    """
    if not counts.n_labelled:
        return Difference(None, reason="no_labels" if counts.n else "no_pairs")
    decided = counts.table[:UNKNOWN, :UNKNOWN, :UNKNOWN]
    never = counts.table[NEVER, :UNKNOWN, :UNKNOWN]
    if metric in ("precision", "recall") and never.any():
        bounds = (_precision_bounds if metric == "precision" else _recall_bounds)(decided, never)
        n = int(decided.sum() + never.sum())
        return Difference(None, n=n, reason="never_labelled" if bounds else "no_positive_decisions", bounds=bounds)
    if metric == "precision":
        return _precision(decided, level=level)
    if metric in counts.sums:
        return _of_losses(counts.sums, metric, level=level)
    if metric not in ("error", "recall", "value"):
        return Difference(None, reason="scores_are_no_probabilities" if metric in DIFFERENCES else "not_counted")
    if not decided.sum():
        return Difference(None, reason="no_decisions")
    return _between(*_of_decisions(decided, never, metric, worth or {}), level=level)


def _of_losses(sums: Mapping[str, Sums], metric: str, *, level: float) -> Difference:
    known = sums[metric]
    if not known.n:
        return Difference(None, reason=_NOTHING.get(metric, "scores_are_no_probabilities"))
    ends = [known.merge(sums.get(metric + end, Sums(bound=known.bound))) for end in (LOW, HIGH)]
    return _between(ends[0], ends[1], level=level)


def _gains(metric: str, worth: Mapping[str, float]) -> FloatArray:
    """What a request adds to the difference by its label and both decisions, shape ``(2, 2, 2)``."""
    gains = np.zeros((2, 2, 2))
    for label in (0, 1):
        for first in (0, 1):
            for second in (0, 1):
                if metric == "error":
                    gains[label, first, second] = (second != label) - float(first != label)
                elif metric == "recall":
                    gains[label, first, second] = second - first
                else:
                    told = [float(worth.get(_OUTCOMES[label, each], 0.0)) for each in (first, second)]
                    gains[label, first, second] = told[1] - told[0]
    return gains


def _of_decisions(decided: IntArray, never: IntArray, metric: str, worth: Mapping[str, float]) -> tuple[Sums, Sums]:
    """Sums of what follows from label and decision alone, at the least and at the most of what is not known.

    ``decided`` has the shape (label, champion, challenger), ``never`` that of the requests that can never be labelled.
    """
    gains = _gains(metric, worth)
    bound = float(np.abs(gains).max()) or 1.0
    known = _summed(decided[1:], gains[1:], bound) if metric == "recall" else _summed(decided, gains, bound)
    if metric == "recall":
        return known, known
    least, most = (known.merge(_summed(never, each, bound)) for each in (gains.min(axis=0), gains.max(axis=0)))
    return least, most


def _summed(counts: IntArray, gains: FloatArray, bound: float) -> Sums:
    return Sums(int(counts.sum()), float((counts * gains).sum()), float((counts * gains**2).sum()), bound)


_OUTCOMES = {(1, 1): "tp", (0, 1): "fp", (1, 0): "fn", (0, 0): "tn"}


def discordant(counts: PairCounts) -> tuple[int, int]:
    """Labelled requests that only the challenger got right, and that only the champion did (McNemar's two cells)."""
    if "error" in counts.sums:
        error = counts.sums["error"]
        return round((error.squares - error.total) / 2), round((error.squares + error.total) / 2)
    t = counts.table
    return (
        int(t[POSITIVE, NEGATIVE, POSITIVE] + t[NEGATIVE, POSITIVE, NEGATIVE]),
        int(t[POSITIVE, POSITIVE, NEGATIVE] + t[NEGATIVE, NEGATIVE, POSITIVE]),
    )


def _recall_bounds(decided: IntArray, never: IntArray) -> tuple[float, float] | None:
    """The least and the most that recall can differ by, whichever of the ``never`` labelled are positives."""
    highest = _most_recall(decided[1], never)
    lowest = _most_recall(decided[1].T, never.T)
    return None if highest is None or lowest is None else (-lowest, highest)


def _most_recall(positives: IntArray, never: IntArray) -> float | None:
    """Positives among those that only the challenger flags help it; ones on which both agree only dilute a loss."""
    gain = int(positives[0, 1] + never[0, 1] - positives[1, 0])
    n = int(positives.sum() + never[0, 1])
    if gain < 0:
        n += int(never[0, 0] + never[1, 1])
    return gain / n if n else None


def _precision_bounds(decided: IntArray, never: IntArray) -> tuple[float, float] | None:
    """The least and the most that precision can differ by: linear in how many of each cell are positives."""
    every = decided.sum(axis=0) + never
    n = [int(every[1].sum()), int(every[:, 1].sum())]
    if not all(n):
        return None
    known = float(decided[1][:, 1].sum() / n[1] - decided[1][1].sum() / n[0])
    pulls = [(never[0, 1], 1 / n[1]), (never[1, 0], -1 / n[0]), (never[1, 1], 1 / n[1] - 1 / n[0])]
    low = known + sum(float(count) * min(pull, 0.0) for count, pull in pulls)
    high = known + sum(float(count) * max(pull, 0.0) for count, pull in pulls)
    return max(low, -1.0), min(high, 1.0)


def _precision(decided: IntArray, *, level: float) -> Difference:
    """Difference of two shares of different requests: linear in each request to first order, so asymptotic.

    A request that neither calls positive does not matter; the others each move it by
    ``b (y − p_b) / P(b) − a (y − p_a) / P(a)``.
    """
    flagged = decided.astype(np.float64).copy()
    flagged[:, 0, 0] = 0
    n = float(flagged.sum())
    first, second = flagged[:, 1, :].sum(axis=1), flagged[:, :, 1].sum(axis=1)
    if not first.sum() or not second.sum():
        return Difference(None, reason="no_positive_decisions")
    p = [float(side[1] / side.sum()) for side in (first, second)]
    share = [float(side.sum()) / n for side in (first, second)]
    label, a, b = np.indices((2, 2, 2))
    pull = b * (label - p[1]) / share[1] - a * (label - p[0]) / share[0]
    variance = float((flagged * pull**2).sum()) / n
    low, high = asymptotic_interval(p[1] - p[0], variance, int(n), level=level)
    return Difference(p[1] - p[0], max(low, -1.0), min(high, 1.0), int(n), exact=False)


def _between(least: Sums, most: Sums, *, level: float) -> Difference:
    """A point where both ends are one; else bounds, with an interval that holds them and what lies between.

    Each request's difference lies between what it adds to ``least`` and to ``most``, so that the lower end of the one
    sequence and the upper end of the other hold the truth at all looks, too.
    """
    if not most.n:
        return Difference(None, reason="no_positives")
    low, high = interval(least, level=level)[0], interval(most, level=level)[1]
    exact = most.bound is not None
    if math.isclose(least.total, most.total, abs_tol=1e-12):
        return Difference(most.total / most.n, low, high, most.n, exact)
    ends = (least.total / least.n, most.total / most.n)
    return Difference(None, low, high, most.n, exact, reason="never_labelled", bounds=ends)
