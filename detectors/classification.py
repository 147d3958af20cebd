"""How good the decisions and the scores were, from counts of score by label: no row is read twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from detectors.intervals import (
    Interval,
    f_interval,
    mean_interval,
    roc_area,
    roc_area_interval,
    wilson,
)
from detectors.profiles import FloatArray, IntArray
from detectors.score_labels import (
    POSITIVE,
    Confusion,
    ScoreLabelCounter,
    ScoreLabels,
    empty,
    from_bytes,
    merge,
    merge_all,
    to_bytes,
)

__all__ = [
    "HIGHER_IS_WORSE",
    "METRICS",
    "Confusion",
    "Measure",
    "PrecisionRecall",
    "Reliability",
    "ScoreLabelCounter",
    "ScoreLabels",
    "Tally",
    "ThresholdRow",
    "empty",
    "from_bytes",
    "merge",
    "merge_all",
    "performance",
    "precision_recall_curve",
    "reliability_curve",
    "threshold_table",
    "to_bytes",
]


@dataclass(frozen=True)
class Measure:
    """A number with its interval, or the reason why there is none.

    ``n`` is the number of predictions that the value rests on (its denominator).  When ``value`` is ``None`` then so
    are ``low`` and ``high``, and ``reason`` is one of ``no_predictions``, ``no_labels``, ``no_positives``,
    ``no_negatives``, ``one_class``, ``no_decisions``, ``no_predicted_positives``, ``no_scores``,
    ``scores_not_probabilities``, ``constant_scores`` (all are equal, and order nothing); or ``never_labelled``, where a
    part of the predictions can have no label: then ``bounds`` are what the value can be whatever those labels were
    and ``chance`` the bounds with the sampling error of the labels on either side (see ``detectors/bounds.py``).
    ``rate`` is the interval of the rate behind a corrected value, where it is not that of a simple share of ``n``.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str | None = None
    bounds: tuple[float, float] | None = None
    chance: tuple[float, float] | None = None
    rate: tuple[float, float] | None = None


def _undefined(reason: str, n: int = 0) -> Measure:
    return Measure(None, n=n, reason=reason)


def _measured(value: float, interval: Interval, n: int) -> Measure:
    return Measure(float(value), float(interval.low), float(interval.high), n)


@dataclass(frozen=True, eq=False)
class Tally:
    """What the measures need, added up once: labelled counts by score, and the confusion of the decisions taken."""

    counts: ScoreLabels
    confusion: Confusion
    positives: IntArray
    negatives: IntArray
    beta: float
    level: float

    @property
    def n_pos(self) -> int:
        return int(self.positives.sum())

    @property
    def n_neg(self) -> int:
        return int(self.negatives.sum())


def _share(part: int, whole: int, tally: Tally, reason: str) -> Measure:
    if whole == 0:
        return _undefined(_why_nothing(tally) or reason)
    return _measured(part / whole, wilson(part, whole, level=tally.level), whole)


def _why_nothing(tally: Tally) -> str | None:
    """The reason that precedes all others: no predictions, no labels, or labels without any known decision."""
    if tally.counts.n == 0:
        return "no_predictions"
    if tally.counts.n_labelled == 0:
        return "no_labels"
    return "no_decisions" if tally.confusion.n == 0 else None


def precision(tally: Tally) -> Measure:
    """Of the predictions decided positive, the share that came true: ``tp / (tp + fp)``."""
    c = tally.confusion
    return _share(c.tp, c.tp + c.fp, tally, "no_predicted_positives")


def recall(tally: Tally) -> Measure:
    """Of what came true, the share that had been decided positive: ``tp / (tp + fn)``."""
    c = tally.confusion
    return _share(c.tp, c.tp + c.fn, tally, "no_positives")


def specificity(tally: Tally) -> Measure:
    """Of what did not come true, the share that had been decided negative: ``tn / (tn + fp)``."""
    c = tally.confusion
    return _share(c.tn, c.tn + c.fp, tally, "no_negatives")


def accuracy(tally: Tally) -> Measure:
    """The share of labelled decisions that were right: ``(tp + tn) / n``."""
    c = tally.confusion
    return _share(c.tp + c.tn, c.n, tally, "no_labels")


def f_beta(tally: Tally, beta: float) -> Measure:
    """The harmonic mean of precision and recall in which recall weighs β times as much.

    Defined where both are; so a window without a single positive decision has no F, rather than a 0 that would mean
    "all of them wrong".
    """
    c = tally.confusion
    n = c.tp + c.fp + c.fn
    for side in (recall(tally), precision(tally)):
        if side.reason is not None:
            return _undefined(side.reason, n)
    b2 = beta * beta
    value = (1 + b2) * c.tp / ((1 + b2) * c.tp + b2 * c.fn + c.fp)
    return _measured(value, f_interval(c.tp, c.fp, c.fn, beta=beta, level=tally.level), n)


def f1(tally: Tally) -> Measure:
    """F-beta with equal weights."""
    return f_beta(tally, 1.0)


def fbeta(tally: Tally) -> Measure:
    """F-beta with the weight that was asked for."""
    return f_beta(tally, tally.beta)


def positive_rate(tally: Tally) -> Measure:
    """The share of all decisions that were positive, labelled or not."""
    decided = tally.counts.n_decided
    if decided == 0:
        return _undefined("no_decisions" if tally.counts.n else "no_predictions")
    part = int(tally.counts.decisions()[POSITIVE])
    return _measured(part / decided, wilson(part, decided, level=tally.level), decided)


def prevalence(tally: Tally) -> Measure:
    """The share of positives among all labels that have landed."""
    n = tally.counts.n_labelled
    if n == 0:
        return _undefined("no_labels" if tally.counts.n else "no_predictions")
    part = tally.counts.n_positive
    return _measured(part / n, wilson(part, n, level=tally.level), n)


def _why_no_scores(tally: Tally) -> str | None:
    if tally.counts.n == 0:
        return "no_predictions"
    if tally.counts.n_labelled == 0:
        return "no_labels"
    return "no_scores" if tally.n_pos + tally.n_neg == 0 else None


def _why_no_order(tally: Tally) -> str | None:
    """Equal scores order nothing: one half, or the share of positives, would be a convention and no measurement."""
    return "constant_scores" if np.count_nonzero(tally.positives + tally.negatives) == 1 else None


def roc_auc(tally: Tally) -> Measure:
    """How likely a positive scores higher than a negative; ties count one half.  DeLong's interval, on the logit."""
    n = tally.n_pos + tally.n_neg
    reason = _why_no_scores(tally) or ("one_class" if not (tally.n_pos and tally.n_neg) else _why_no_order(tally))
    if reason:
        return _undefined(reason, n)
    area = roc_area(tally.positives, tally.negatives)
    return _measured(area.value, roc_area_interval(area, tally.n_pos, tally.n_neg, level=tally.level), n)


def pr_auc(tally: Tally) -> Measure:
    """Average precision: ``Σ (R_i - R_{i-1}) P_i`` over falling thresholds, as scikit-learn defines it.

    Its interval is Wilson's with as many trials as there are positives (the score form of the logit interval that
    K. Boyd, K. H. Eng & C. D. Page, "Area under the precision-recall curve", ECML 2013, recommend).
    """
    reason = _why_no_scores(tally) or ("no_positives" if not tally.n_pos else _why_no_order(tally))
    if reason:
        return _undefined(reason, tally.n_pos + tally.n_neg)
    curve = precision_recall_curve(tally.positives, tally.negatives)
    value = min(float(np.sum(curve.precision * np.diff(curve.recall, prepend=0.0))), 1.0)
    return _measured(value, wilson(value * tally.n_pos, tally.n_pos, level=tally.level), tally.n_pos + tally.n_neg)


def _why_no_probabilities(tally: Tally) -> str | None:
    outside = len(tally.counts.scores) and (tally.counts.low < 0 or tally.counts.high > 1)
    return _why_no_scores(tally) or ("scores_not_probabilities" if outside else None)


def _mean_loss(tally: Tally, of_positive: FloatArray, of_negative: FloatArray) -> Measure:
    """The mean over labelled predictions of a loss given for either label at each score."""
    n = tally.n_pos + tally.n_neg
    value = float(np.sum(tally.positives * of_positive + tally.negatives * of_negative)) / n
    squares = tally.positives * (of_positive - value) ** 2 + tally.negatives * (of_negative - value) ** 2
    variance = float(np.sum(squares)) / (n - 1) if n > 1 else math.inf
    low, high = mean_interval(value, variance, n, level=tally.level)
    top = float(max(of_positive.max(), of_negative.max()))
    return _measured(value, Interval(max(low, 0.0), min(high, max(top, value))), n)


def brier(tally: Tally) -> Measure:
    """The mean squared distance of the score, read as a probability, from the label (0 or 1)."""
    reason = _why_no_probabilities(tally)
    if reason:
        return _undefined(reason, tally.n_pos + tally.n_neg)
    p = tally.counts.scores
    return _mean_loss(tally, (1 - p) ** 2, p**2)


def log_loss(tally: Tally) -> Measure:
    """The mean negative logarithm of the probability given to what came true, at least 2.2e-16 (as scikit-learn)."""
    reason = _why_no_probabilities(tally)
    if reason:
        return _undefined(reason, tally.n_pos + tally.n_neg)
    tiny = np.finfo(np.float64).eps
    p = np.clip(tally.counts.scores, tiny, 1 - tiny)
    return _mean_loss(tally, -np.log(p), -np.log1p(-p))


@dataclass(frozen=True, eq=False)
class Reliability:
    """What the scores promised and what came true, in bins of the score; empty bins are left out.

    ``predicted`` is the mean score and ``observed`` the share of positives in each bin, ``n`` its labelled
    predictions; ``low`` and ``high`` are Wilson's bounds of ``observed``.  All of shape ``(B',)``.
    """

    predicted: FloatArray
    observed: FloatArray
    n: IntArray
    low: FloatArray
    high: FloatArray


def reliability_curve(
    counts: ScoreLabels, bins: int = 10, *, equal_mass: bool = False, level: float = 0.95
) -> Reliability:
    """Observed share of positives against the mean score, in ``bins`` bins.

    Bins are of equal width on [0, 1] and closed on the right, as in scikit-learn's ``calibration_curve``; with
    ``equal_mass`` they hold about equal numbers of labelled predictions instead (a score is never split).
    """
    pos, neg = counts.positives.sum(axis=1), counts.negatives.sum(axis=1)
    weight = pos + neg
    if equal_mass:
        middle = np.cumsum(weight) - weight / 2
        place = np.minimum((middle * bins / max(int(weight.sum()), 1)).astype(np.int64), bins - 1)
    else:
        place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], counts.scores)
    n = np.bincount(place, weights=weight, minlength=bins)
    hits = np.bincount(place, weights=pos, minlength=bins)
    mass = np.bincount(place, weights=weight * np.where(weight > 0, counts.scores, 0.0), minlength=bins)
    held = n > 0
    n, hits, mass = n[held], hits[held], mass[held]
    bounds = [wilson(float(x), float(total), level=level) for x, total in zip(hits, n, strict=True)]
    return Reliability(
        predicted=mass / n,
        observed=hits / n,
        n=n.astype(np.int64),
        low=np.array([bound.low for bound in bounds]),
        high=np.array([bound.high for bound in bounds]),
    )


def ece(tally: Tally) -> Measure:
    """Expected calibration error: ``Σ n_b / n · |observed_b - predicted_b|`` over ten bins of equal width.

    Notes
    -----
    Chance alone makes it positive (about ``√(bins / n)`` times the spread of the labels), so compare it with a
    baseline of about as many labels.  The interval is normal, from the binomial spread of each bin, cut at 0; the share
    of a bin is taken a little to the middle for it ((k + 1) / (n + 2)), as none of 300 is no certainty.
    """
    reason = _why_no_probabilities(tally)
    n = tally.n_pos + tally.n_neg
    if reason:
        return _undefined(reason, n)
    curve = reliability_curve(tally.counts)
    weight = curve.n / n
    value = float(np.sum(weight * np.abs(curve.observed - curve.predicted)))
    share = (curve.observed * curve.n + 1) / (curve.n + 2)
    variance = float(np.sum(weight**2 * share * (1 - share) / curve.n))
    low, high = mean_interval(value, variance * n, n, level=tally.level)
    return _measured(value, Interval(max(low, 0.0), min(high, 1.0)), n)


METRICS: dict[str, Callable[[Tally], Measure]] = {
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "fbeta": fbeta,
    "accuracy": accuracy,
    "specificity": specificity,
    "roc_auc": roc_auc,
    "pr_auc": pr_auc,
    "brier": brier,
    "log_loss": log_loss,
    "ece": ece,
    "positive_rate": positive_rate,
    "prevalence": prevalence,
}

HIGHER_IS_WORSE = frozenset({"brier", "log_loss", "ece"})
"""Metrics that measure an error; of the rest, more is better (or neither, for the two rates)."""


def performance(
    counts: ScoreLabels, metrics: Sequence[str] = tuple(METRICS), *, beta: float = 2.0, level: float = 0.95
) -> dict[str, Measure]:
    """How good were the labelled predictions?  One measure for each name in ``metrics``.

    Raises
    ------
    ValueError
        A name is not in ``METRICS``, or ``beta`` is not positive.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metrics {unknown}; known are {sorted(METRICS)}")
    if not beta > 0:
        raise ValueError(f"beta must be positive, found {beta}")
    tally = _tally(counts, counts.confusion(), beta=beta, level=level)
    return {name: METRICS[name](tally) for name in metrics}


def _tally(counts: ScoreLabels, confusion: Confusion, *, beta: float = 1.0, level: float = 0.95) -> Tally:
    return Tally(counts, confusion, counts.positives.sum(axis=1), counts.negatives.sum(axis=1), beta, level)


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision and recall at each distinct score as the threshold, highest threshold first; recall increases."""

    precision: FloatArray
    recall: FloatArray


def precision_recall_curve(positives: IntArray, negatives: IntArray) -> PrecisionRecall:
    """The curve from counts at increasing distinct scores; scores without a label are passed over.

    ``positives`` must hold at least one.
    """
    labelled = positives + negatives > 0
    tp = np.cumsum(positives[labelled][::-1])
    fp = np.cumsum(negatives[labelled][::-1])
    return PrecisionRecall(precision=tp / (tp + fp), recall=tp / tp[-1])


@dataclass(frozen=True)
class ThresholdRow:
    """What the rule ``score >= threshold`` would have given."""

    threshold: float
    confusion: Confusion
    precision: Measure
    recall: Measure
    f1: Measure
    specificity: Measure
    positive_rate: Measure


def threshold_table(counts: ScoreLabels, thresholds: Sequence[float], *, level: float = 0.95) -> list[ThresholdRow]:
    """What would each of these thresholds have given?  Predictions without a score do not take part."""
    weight = (counts.positives + counts.negatives + counts.unlabelled).sum(axis=1)
    scored = int(weight.sum())
    rows = []
    for threshold in thresholds:
        tally = _tally(counts, counts.confusion(threshold), level=level)
        above = int(weight[np.searchsorted(counts.scores, threshold, side="left") :].sum())
        rate = _measured(above / scored, wilson(above, scored, level=level), scored) if scored else None
        rows.append(
            ThresholdRow(
                threshold=float(threshold),
                confusion=tally.confusion,
                precision=precision(tally),
                recall=recall(tally),
                f1=f1(tally),
                specificity=specificity(tally),
                positive_rate=rate or _undefined("no_scores" if counts.n else "no_predictions"),
            )
        )
    return rows
