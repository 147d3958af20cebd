"""What other thresholds will have given, and what scores will turn out to have promised, once all labels are in.

Labels that have landed are no fair sample; so a table of thresholds made from them alone is as wrong as the precision
so far.  Here it is made from the counts to be expected (:func:`detectors.corrected_scores.expect`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.classification import Measure, Reliability, ThresholdRow, threshold_table
from detectors.corrected import CELLS, expected_counts
from detectors.corrected_scores import Expected, bin_edges
from detectors.intervals import Interval, wilson, z_value
from detectors.posterior import Fit
from detectors.profiles import FloatArray
from detectors.score_labels import Confusion, ScoreLabels

_FEW = 2.0
"""Where a count is known to within fewer than these (a standard deviation), its interval ends at whole predictions."""


def corrected_thresholds(
    table: Expected,
    counts: ScoreLabels,
    thresholds: Sequence[float],
    *,
    absent: int | None = None,
    level: float = 0.95,
) -> list[ThresholdRow]:
    """What will each of these thresholds have given, once all labels are in?

    Parameters
    ----------
    table
        The expected counts, with each of ``thresholds`` kept apart.
    counts
        The predictions as of now; those without a score do not take part.
    absent
        The class that the lack of a label will mean once the window is mature: it need not have been seen.

    Returns
    -------
    A row for each threshold, with the expected confusion counts, rounded.  Intervals hold the *eventual* value with
    probability ``level``; that of ``positive_rate``, which needs no label, is of the rate behind it.

    Notes
    -----
    By the delta method, each measure being a ratio of sums of positives and negatives above and below the threshold.
    """
    seen = (int(counts.negatives.sum()) > 0 or absent == 0, int(counts.positives.sum()) > 0 or absent == 1)
    plain = threshold_table(counts, thresholds, level=level)
    return [_row(row, table, seen, level=level) for row in plain]


def _row(row: ThresholdRow, table: Expected, seen: tuple[bool, bool], *, level: float) -> ThresholdRow:
    above = (table.scores >= row.threshold).astype(float)
    below = 1 - above
    tp, fn = float(table.positives @ above), float(table.positives @ below)
    fp, tn = float(table.negatives @ above), float(table.negatives @ below)

    def ratio(top: float, bottom: float, gradients: tuple[FloatArray, FloatArray], reason: str) -> Measure:
        return _ratio(table, top, bottom, gradients, reason=reason, level=level)

    none = np.zeros(len(above))
    whole = np.ones(len(above))
    no_positives, no_negatives = (Measure(None, n=round(tp + fp), reason=each) for each in _UNSEEN)
    precision = ratio(tp, tp + fp, (above, none), "no_predicted_positives")
    f1 = ratio(2 * tp, 2 * tp + fp + fn, (2 * above, whole), "no_positives")
    return ThresholdRow(
        threshold=row.threshold,
        confusion=Confusion(*(round(each) for each in (tp, fp, fn, tn))),
        precision=precision,
        recall=ratio(tp, tp + fn, (above, whole), "no_positives") if seen[1] else no_positives,
        f1=no_positives if not seen[1] else precision if precision.value is None else f1,
        specificity=ratio(tn, tn + fp, (-below, -whole), "no_negatives") if seen[0] else no_negatives,
        positive_rate=row.positive_rate,
    )


_UNSEEN = ("no_positives", "no_negatives")


def _ratio(
    table: Expected,
    top: float,
    bottom: float,
    gradients: tuple[FloatArray, FloatArray],
    *,
    reason: str,
    level: float,
) -> Measure:
    """``top / bottom``, whose gradients by the positives at each score are given."""
    if bottom <= 1e-9:
        return Measure(None, reason=reason)
    value = min(max(top / bottom, 0.0), 1.0)
    slope = (gradients[0] - value * gradients[1]) / bottom
    variance = float(table.spread(slope[None])[0, 0])
    low, high = between(value, variance, bottom, level=level)
    return Measure(value, low, high, max(round(bottom), 1))


def between(value: float, variance: float, n: float, *, level: float = 0.95) -> Interval:
    """An interval for an eventual share of ``n``, of this variance: Wilson's, with the sample size that it is worth.

    The eventual share is a count of predictions over ``n``.  Where hardly any of them is unsure, the interval is at
    least the normal one, and ends at whole predictions: of one prediction that may be positive both ends are possible.
    """
    if variance <= 1e-15:
        return Interval(value, value)
    inside = min(max(value, 0.5 / max(n, 1.0)), 1 - 0.5 / max(n, 1.0))
    effective = inside * (1 - inside) / variance
    low, high = wilson(value * effective, effective, level=level)
    spread = math.sqrt(variance)
    if spread * n < _FEW:
        half = z_value(level) * spread
        low = math.floor(n * min(low, value - half) + 1e-9) / n
        high = math.ceil(n * max(high, value + half) - 1e-9) / n
    return Interval(max(low, 0.0), min(high, 1.0))


def corrected_reliability(table: Expected, *, level: float = 0.95) -> Reliability:
    """What share of positives will there have been in ten bins of the score, once all labels are in?

    The bins are those of :func:`detectors.classification.reliability_curve`; ``n`` are the labels to be expected in
    each, and ``low`` and ``high`` hold the *eventual* share with probability ``level``.
    """
    place = np.searchsorted(bin_edges(), table.scores)
    inside = (place[None] == np.arange(len(bin_edges()) + 1)[:, None]).astype(float)
    size = inside @ table.total
    held = size >= 0.5
    inside, size = inside[held], size[held]
    observed = np.clip(inside @ table.positives / size, 0.0, 1.0)
    variance = np.diag(table.spread(inside / size[:, None])) if len(size) else np.zeros(0)
    bounds = [
        between(value, spread, n, level=level)
        for value, spread, n in zip(observed.tolist(), variance.tolist(), size.tolist(), strict=True)
    ]
    return Reliability(
        predicted=inside @ (table.total * table.scores) / size,
        observed=observed,
        n=np.round(size).astype(np.int64),
        low=np.array([bound.low for bound in bounds]),
        high=np.array([bound.high for bound in bounds]),
    )


def corrected_confusion(found: Fit, *, level: float = 0.95) -> dict[str, Measure]:
    """How many of the decisions taken will turn out right and wrong, of each kind, once all labels are in?

    Of ``tp``, ``fp``, ``fn`` and ``tn`` the number to be expected, with an interval of the eventual one.
    """
    told = {}
    cells = expected_counts(found, found.share)
    for name in CELLS:
        value = float(getattr(cells, name))
        size = found.expected * (found.decisions == (1 if name in ("tp", "fp") else 0))
        n = float(size.sum())
        if n <= 1e-9:
            told[name] = Measure(0.0, 0.0, 0.0, 0)
            continue
        low, high = between(value / n, float(size @ found.covariance @ size) / n**2, n, level=level)
        told[name] = Measure(value, low * n, high * n, round(n))
    return told


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of one window once all labels are in; ``reliability`` only where scores are probabilities."""

    thresholds: Sequence[ThresholdRow]
    reliability: Reliability | None
    confusion: Mapping[str, Measure]


def corrected_tables(
    table: Expected | str,
    found: Fit | str,
    counts: ScoreLabels,
    thresholds: Sequence[float],
    *,
    absent: int | None = None,
    level: float = 0.95,
) -> Tables | str:
    """All of them; a reason where nothing can be known."""
    if isinstance(found, str):
        return found
    if isinstance(table, str):
        return table
    probable = counts.low >= 0 and counts.high <= 1
    return Tables(
        corrected_thresholds(table, counts, thresholds, absent=absent, level=level),
        corrected_reliability(table, level=level) if probable else None,
        corrected_confusion(found, level=level),
    )
