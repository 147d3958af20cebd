"""What performance to expect before any label: calibrated scores give the expected confusion matrix (CBPE).

Valid while what a score means, P(y | score), is as in the reference; the gap between realized and estimated is
therefore the part of a change that the inputs do not explain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from detectors.classification import Measure
from detectors.intervals import z_value
from detectors.profiles import FloatArray, IntArray
from detectors.score_labels import ScoreLabels


@dataclass(frozen=True, eq=False)
class Calibrator:
    """A non-decreasing map from score to probability.

    ``kind`` is ``"raw"`` (the score is the probability) or ``"isotonic"``: linear between the points
    (``scores``, ``probabilities``), both shape ``(K,)``, and constant beyond them.
    """

    kind: Literal["raw", "isotonic"]
    scores: FloatArray
    probabilities: FloatArray

    def probability(self, scores: FloatArray) -> FloatArray:
        """The probability of a positive at each score, shape as ``scores``."""
        if self.kind == "raw":
            return np.clip(scores, 0.0, 1.0)
        return np.interp(scores, self.scores, self.probabilities)


class CalibrationError(ValueError):
    """The reference cannot say what a score means; the message names the reason."""


def fit(reference: ScoreLabels, *, splits: int = 10, seed: int = 42) -> Calibrator:
    """Learn P(y | score) from labelled reference counts.

    Isotonic regression of the labels on the score, but only where it helps: in ``splits`` random splits by class (90 %
    to learn from, 10 % to look at) it must lower the mean expected calibration error by more than two standard errors
    over the splits (NannyML asks for any gain at all, which scores that are already calibrated show half of the time).
    Otherwise the raw score is used; scores that are no probabilities are always mapped.

    Raises
    ------
    CalibrationError
        The reference holds no labelled scores, or labels of one class only.

    References
    ----------
    NannyML 0.13, "Confidence-based performance estimation"; B. Zadrozny & C. Elkan, "Transforming classifier scores
    into accurate multiclass probability estimates", KDD 2002.
    """
    positives, negatives = reference.positives.sum(axis=1), reference.negatives.sum(axis=1)
    finite = np.isfinite(reference.scores)
    if not (positives[finite].any() and negatives[finite].any()):
        raise CalibrationError("the reference needs scores labelled with both classes to say what a score means")
    raw = Calibrator("raw", np.zeros(0), np.zeros(0))
    mapped = isotonic(reference.scores, positives, negatives)
    if reference.low < 0 or reference.high > 1:
        return mapped
    gains = _held_out_gains(reference.scores, positives, negatives, splits=splits, seed=seed)
    needed = 2 * float(np.std(gains, ddof=1)) / math.sqrt(splits)
    return mapped if float(np.mean(gains)) > needed else raw


def isotonic(scores: FloatArray, positives: IntArray, negatives: IntArray) -> Calibrator:
    """The share of positives as a non-decreasing function of the score, by least squares; counts of shape ``(S,)``."""
    weight = positives + negatives
    held = (weight > 0) & np.isfinite(scores)
    x, w = scores[held], weight[held].astype(np.float64)
    shares, starts = _rising(positives[held] / w, w)
    # Within a block the map is flat: its two ends are enough.
    ends = np.append(starts[1:], len(x)) - 1
    keep, where = np.unique(np.concatenate([starts, ends]), return_index=True)
    return Calibrator("isotonic", x[keep], np.clip(np.concatenate([shares, shares])[where], 0.0, 1.0))


def _rising(values: FloatArray, weights: FloatArray) -> tuple[FloatArray, IntArray]:
    """Height and first place of each of the rising steps that fit ``values`` best, by pooling adjacent violators."""
    heights: list[float] = []
    masses: list[float] = []
    starts: list[int] = []
    for place, pair in enumerate(zip(values.tolist(), weights.tolist(), strict=True)):
        height, mass = pair
        start = place
        while heights and heights[-1] >= height:
            whole = masses[-1] + mass
            height = (heights.pop() * masses.pop() + height * mass) / whole
            mass, start = whole, starts.pop()
        heights.append(height)
        masses.append(mass)
        starts.append(start)
    return np.array(heights), np.array(starts, dtype=np.int64)


def _held_out_gains(
    scores: FloatArray, positives: IntArray, negatives: IntArray, *, splits: int, seed: int
) -> FloatArray:
    """By how much the map lowers the calibration error of rows that it did not see; shape ``(splits,)``."""
    rng = np.random.default_rng(seed)
    gains = np.zeros(splits)
    n_pos, n_neg = int(positives.sum()), int(negatives.sum())
    if min(n_pos, n_neg) < 2:
        return gains
    for split in range(splits):
        pos = rng.multivariate_hypergeometric(positives, max(round(0.1 * n_pos), 1), method="marginals")
        neg = rng.multivariate_hypergeometric(negatives, max(round(0.1 * n_neg), 1), method="marginals")
        mapped = isotonic(scores, positives - pos, negatives - neg).probability(scores)
        gains[split] = _calibration_error(scores, pos, neg) - _calibration_error(mapped, pos, neg)
    return gains


def _calibration_error(probability: FloatArray, positives: IntArray, negatives: IntArray) -> float:
    weight = positives + negatives
    place = np.searchsorted(np.linspace(0.0, 1.0, 11)[1:-1], probability)
    gap = np.bincount(place, weights=positives - weight * probability, minlength=10)
    return float(np.abs(gap).sum() / weight.sum())


def estimate(counts: ScoreLabels, calibrator: Calibrator, *, level: float = 0.95) -> dict[str, Measure]:
    """Which performance do the scores and decisions of a window promise, labels or not?

    With ``p`` the calibrated probability and ``ŷ`` the decision taken: ``precision = Σ p[ŷ=1] / Σ 1[ŷ=1]``,
    ``recall = Σ p[ŷ=1] / Σ p``, accuracy, specificity and F1 likewise; ROC-AUC is that of the raw scores when each
    counts as a positive to the share ``p`` and as a negative to ``1 - p``.

    Returns
    -------
    ``precision``, ``recall``, ``f1``, ``specificity``, ``accuracy``, ``roc_auc``.  The interval holds the *realized*
    value with probability ``level`` if P(y | score) is as in the reference (each label a coin of its own, by the delta
    method); the uncertainty of the map itself is not in it.
    """
    weight = counts.positives + counts.negatives + counts.unlabelled
    p = calibrator.probability(counts.scores)
    sums = _Sums(
        yes=int(weight[:, 1].sum()),
        no=int(weight[:, 0].sum()),
        hits=float(np.sum(p * weight[:, 1])),
        lost=float(np.sum(p * weight[:, 0])),
        var_yes=float(np.sum(p * (1 - p) * weight[:, 1])),
        var_no=float(np.sum(p * (1 - p) * weight[:, 0])),
    )
    measures = _of_decisions(sums, level=level)
    measures["roc_auc"] = _area(p, weight.sum(axis=1), level=level)
    return measures


@dataclass(frozen=True)
class _Sums:
    """Positive and negative decisions, expected positives among each, and the variances of these."""

    yes: int
    no: int
    hits: float
    lost: float
    var_yes: float
    var_no: float


def _of_decisions(s: _Sums, *, level: float) -> dict[str, Measure]:
    tn, fp, n = s.no - s.lost, s.yes - s.hits, s.yes + s.no
    true, predicted = s.hits + s.lost, s.yes
    nothing = "no_predictions" if n == 0 else None

    def ratio(top: float, bottom: float, slopes: tuple[float, float], reason: str) -> Measure:
        """``slopes``: the derivatives by expected positives among positive and among negative decisions."""
        if nothing or bottom <= 0:
            return Measure(None, n=n, reason=nothing or reason)
        variance = slopes[0] ** 2 * s.var_yes + slopes[1] ** 2 * s.var_no
        return _bounded(top / bottom, variance, n, level=level)

    def over(top: float, bottom: float) -> float:
        return top / bottom if bottom > 0 else 0.0

    f_bottom = predicted + true
    return {
        "precision": ratio(s.hits, predicted, (over(1, predicted), 0.0), "no_predicted_positives"),
        "recall": ratio(s.hits, true, (over(s.lost, true**2), -over(s.hits, true**2)), "no_positives"),
        "specificity": ratio(tn, n - true, (over(tn, (n - true) ** 2), -over(fp, (n - true) ** 2)), "no_negatives"),
        "accuracy": ratio(s.hits + tn, n, (over(1, n), -over(1, n)), "no_predictions"),
        "f1": ratio(
            2 * s.hits,
            f_bottom if predicted and true > 0 else 0.0,
            (2 * over(predicted + s.lost, f_bottom**2), -2 * over(s.hits, f_bottom**2)),
            "no_predicted_positives" if not predicted else "no_positives",
        ),
    }


def _bounded(value: float, variance: float, n: int, *, level: float) -> Measure:
    half = z_value(level) * math.sqrt(max(variance, 0.0))
    return Measure(value, max(value - half, 0.0), min(value + half, 1.0), n)


def _area(p: FloatArray, weight: IntArray, *, level: float) -> Measure:
    pos, neg = p * weight, (1 - p) * weight
    n_pos, n_neg, n = float(pos.sum()), float(neg.sum()), int(weight.sum())
    if n == 0 or n_pos <= 0 or n_neg <= 0:
        return Measure(None, n=n, reason="no_predictions" if n == 0 else "one_class")
    if np.ptp(p[weight > 0]) == 0:
        return Measure(None, n=n, reason="constant_scores")
    below = np.cumsum(neg) - neg / 2
    above = n_pos - np.cumsum(pos) + pos / 2
    value = float(np.sum(pos * below)) / (n_pos * n_neg)
    # How the area moves with one label more of a positive at each score.
    slope = (below - above) / (n_pos * n_neg) - value * (1 / n_pos - 1 / n_neg)
    return _bounded(value, float(np.sum(weight * p * (1 - p) * slope**2)), n, level=level)


@dataclass(frozen=True)
class CalibrationChange:
    """Realized less expected share of positives among the labelled scores, with its interval."""

    value: float
    low: float
    high: float
    n: int


def calibration_change(counts: ScoreLabels, calibrator: Calibrator, *, level: float = 0.95) -> CalibrationChange | None:
    """Do scores still mean what they meant?  ``None`` without labelled scores.

    The mean of ``y - p`` over labelled predictions; 0 is expected while P(y | score) holds, whatever the inputs do.
    It assumes that labels land at random given the score.
    """
    pos, neg = counts.positives.sum(axis=1), counts.negatives.sum(axis=1)
    n = int(pos.sum() + neg.sum())
    if n == 0:
        return None
    p = calibrator.probability(counts.scores)
    value = float(np.sum(pos * (1 - p) - neg * p)) / n
    half = z_value(level) * math.sqrt(float(np.sum((pos + neg) * p * (1 - p)))) / n
    return CalibrationChange(value, value - half, value + half, n)
