"""How the relation of scores and labels has changed: their share, what a score means, and how each class is scored.

Three questions on the same counts tell three causes apart.  In a changed world P(y | score) holds; when only the share
of classes moves P(score | y) holds; a changed rule leaves neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.class_counts import ClassCounts
from detectors.intervals import z_value
from detectors.profiles import FloatArray, IntArray
from detectors.regression import Errors
from detectors.score_labels import ScoreLabels

GROUPS = 10
MIN_LABELS = 100
MIN_ROW = 20


@dataclass(frozen=True)
class LabelChange:
    """A change and its interval; 0 when nothing has changed."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def prevalence_change(reference: ScoreLabels, current: ScoreLabels, *, level: float = 0.999) -> LabelChange | None:
    """By how much has the share of positive labels changed?  ``None`` with fewer than 100 labels on a side."""
    sides = [
        (float(side.positives.sum()), float(side.positives.sum() + side.negatives.sum()))
        for side in (reference, current)
    ]
    if min(n for _, n in sides) < MIN_LABELS:
        return None
    (k, n), (k_now, n_now) = sides
    p, p_now = k / n, k_now / n_now
    half = z_value(level) * math.sqrt(p * (1 - p) / n + p_now * (1 - p_now) / n_now + 0.25 / min(n, n_now) ** 2)
    return LabelChange(p_now - p, p_now - p - half, p_now - p + half)


def meaning_change(
    reference: ScoreLabels, current: ScoreLabels, *, groups: int = GROUPS, level: float = 0.999
) -> LabelChange | None:
    """Does a score still mean what it meant?  The change of P(y | score) in the group of scores where it is surest.

    Scores are cut into groups of equal size in the reference; within each the share of positives is compared, after
    taking away what the reference's own slope explains by scores that moved within the group.  The interval is
    simultaneous over the groups (Šidák).

    Returns
    -------
    ``None`` with fewer than 100 labels on a side, or without a group that holds 20 on both.
    """
    (x, pos, neg), (x_now, pos_now, neg_now) = _labelled(reference), _labelled(current)
    if min((pos + neg).sum(), (pos_now + neg_now).sum()) < MIN_LABELS:
        return None
    cuts = _quantiles(x, pos + neg, groups)
    slope = _slope(x, pos, neg)
    before = _grouped(x, pos, neg, cuts)
    after = _grouped(x_now, pos_now, neg_now, cuts)
    held = (before[0] >= MIN_ROW) & (after[0] >= MIN_ROW)
    if not held.any():
        return None
    n, p, centre = (side[held] for side in before)
    n_now, p_now, centre_now = (side[held] for side in after)
    gap = (p_now - p) - slope * (centre_now - centre)
    pooled = (n * p + n_now * p_now + 1) / (n + n_now + 2)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / n_now))
    z = z_value(level ** (1 / int(held.sum())))
    surest = int(np.argmax(np.abs(gap) / error))
    half = z * float(error[surest])
    return LabelChange(float(gap[surest]), float(gap[surest]) - half, float(gap[surest]) + half)


def within_class_change(reference: ScoreLabels, current: ScoreLabels, *, level: float = 0.999) -> LabelChange | None:
    """Is each class still scored as it was?  P(score now > score then | class) − ½, of the class where it is surest.

    Ties count half.  The variance is Bamber's bound for equal distributions, (n + m + 1) / (12 n m), which ties only
    lower; the interval is simultaneous over the two classes.

    Returns
    -------
    ``None`` when a class has fewer than 20 labels on a side.
    """
    (x, pos, neg), (x_now, pos_now, neg_now) = _labelled(reference), _labelled(current)
    found = []
    for then, now in ((pos, pos_now), (neg, neg_now)):
        n, m = float(then.sum()), float(now.sum())
        if min(n, m) < MIN_ROW:
            return None
        scores = np.union1d(x, x_now)
        a, b = np.zeros(len(scores)), np.zeros(len(scores))
        np.add.at(a, np.searchsorted(scores, x), then)
        np.add.at(b, np.searchsorted(scores, x_now), now)
        value = float(np.sum(b * (np.cumsum(a) - a / 2))) / (n * m) - 0.5
        found.append((value, math.sqrt((n + m + 1) / (12 * n * m))))
    value, error = max(found, key=lambda pair: abs(pair[0]) / pair[1])
    half = z_value(math.sqrt(level)) * error
    return LabelChange(value, value - half, value + half)


def within_class_shape(
    reference: ScoreLabels, current: ScoreLabels, *, groups: int = GROUPS, level: float = 0.999
) -> LabelChange | None:
    """Are the scores of each class spread as they were?  Σ (p - q)² / p̄ over groups, of the class where it is surest.

    Sees what a rank does not: positives that become frequent among middling scores.  The value is freed of what chance
    adds; the interval is that of no change (Pearson's χ² of two samples), shifted to the value.

    Returns
    -------
    ``None`` when a class has fewer than 20 labels on a side.
    """
    (x, pos, neg), (x_now, pos_now, neg_now) = _labelled(reference), _labelled(current)
    cuts = _quantiles(x, pos + neg, groups) if len(x) else x
    z, found = z_value(math.sqrt(level)), []
    for then, now in ((pos, pos_now), (neg, neg_now)):
        sides = [
            np.bincount(np.searchsorted(cuts, at, side="left"), weights=weight, minlength=len(cuts) + 1)
            for at, weight in ((x, then), (x_now, now))
        ]
        n, m = (float(side.sum()) for side in sides)
        if min(n, m) < MIN_ROW:
            return None
        pooled = (sides[0] + sides[1]) / (n + m)
        held = pooled > 0
        distance = float(np.sum((sides[0] / n - sides[1] / m)[held] ** 2 / pooled[held]))
        free, size = int(held.sum()) - 1, 1 / (1 / n + 1 / m)
        found.append((distance - free / size, z * math.sqrt(2 * max(free, 1)) / size))
    value, half = max(found, key=lambda pair: pair[0] / pair[1])
    return LabelChange(value, value - half, value + half)


def scores_follow_labels(reference: ScoreLabels, current: ScoreLabels) -> float | None:
    """Have scores moved as another share of positives alone would have moved them, rather than not at all?

    P(score now > score then) - ½ is then Δπ (AUC - ½), with the reference's AUC.  In a changed rule scores stay where
    they were, as they know of inputs only.

    Returns
    -------
    The logarithm of the likelihood ratio, positive where they have moved so; ``None`` with fewer than 100 labels on a
    side, or without both classes.
    """
    (x, pos, neg), (x_now, pos_now, neg_now) = _labelled(reference), _labelled(current)
    n, m = float((pos + neg).sum()), float((pos_now + neg_now).sum())
    if min(n, m) < MIN_LABELS or min(pos.sum(), neg.sum()) == 0:
        return None
    area = float(np.sum(pos * (np.cumsum(neg) - neg / 2))) / (float(pos.sum()) * float(neg.sum()))
    implied = (float(pos_now.sum()) / m - float(pos.sum()) / n) * (area - 0.5)
    scores = np.union1d(x, x_now)
    then, now = np.zeros(len(scores)), np.zeros(len(scores))
    np.add.at(then, np.searchsorted(scores, x), pos + neg)
    np.add.at(now, np.searchsorted(scores, x_now), pos_now + neg_now)
    moved = float(np.sum(now * (np.cumsum(then) - then / 2))) / (n * m) - 0.5
    return (moved**2 - (moved - implied) ** 2) * 6 * n * m / (n + m + 1)


def share_change(reference: FloatArray, current: FloatArray, *, level: float = 0.999) -> LabelChange | None:
    """How do the shares of the columns given the row differ, where it is surest?  Tables of counts, shape ``(R, C)``.

    The interval is simultaneous over the cells (Šidák).  ``None`` with fewer than 100 counts on a side, or without a
    row that holds 20 on both.
    """
    n, n_now = reference.sum(axis=1), current.sum(axis=1)
    held = (n >= MIN_ROW) & (n_now >= MIN_ROW)
    if min(n.sum(), n_now.sum()) < MIN_LABELS or not held.any():
        return None
    (k, n), (k_now, n_now) = ((side[held], side[held].sum(axis=1, keepdims=True)) for side in (reference, current))
    gap = k_now / n_now - k / n
    pooled = (k + k_now + 1) / (n + n_now + 2)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / n_now))
    surest = np.unravel_index(int(np.argmax(np.abs(gap) / error)), gap.shape)
    value, half = float(gap[surest]), z_value(level ** (1 / gap.size)) * float(error[surest])
    return LabelChange(value, value - half, value + half)


@dataclass(frozen=True, eq=False)
class ClassTables:
    """True by predicted class of two sides over the same classes, those beyond them last; shape ``(m + 1, m + 1)``."""

    reference: FloatArray
    current: FloatArray

    @classmethod
    def of(cls, reference: ClassCounts, current: ClassCounts) -> ClassTables:
        names = sorted({*reference.classes, *current.classes})
        return cls(_table(reference, names), _table(current, names))

    def prevalence_change(self) -> LabelChange | None:
        """The change of the share of a class among the labels."""
        return share_change(self.reference.sum(axis=1)[None], self.current.sum(axis=1)[None])

    def meaning_change(self) -> LabelChange | None:
        """The change of P(class | predicted class)."""
        return share_change(self.reference.T, self.current.T)

    def within_class_change(self) -> LabelChange | None:
        """The change of P(predicted class | class)."""
        return share_change(self.reference, self.current)


def _table(counts: ClassCounts, names: Sequence[str]) -> FloatArray:
    place = [*(names.index(name) for name in counts.classes), len(names)]
    found = np.zeros((len(names) + 1, len(names) + 1))
    np.add.at(found, np.ix_(place, place), counts.table()[:-1, :-1])
    return found


def error_change(reference: Errors, current: Errors, *, groups: int = GROUPS) -> LabelChange | None:
    """The change of the share of predictions whose error lies between two of the reference's quantiles.

    What a predicted number means: how far off, and to which side, the truth lies.  Errors that depend on what is
    predicted move with the predictions, too.
    """
    total = reference.cell_counts.sum()
    if not total:
        return None
    reached = np.searchsorted(np.cumsum(reference.cell_counts) / total, np.arange(1, groups) / groups)
    cuts = np.unique(reference.cells[np.minimum(reached, len(reference.cells) - 1)])
    sides = [
        np.bincount(np.searchsorted(cuts, side.cells), weights=side.cell_counts, minlength=len(cuts) + 1)[None]
        for side in (reference, current)
    ]
    return share_change(*(side.astype(np.float64) for side in sides))


def _labelled(counts: ScoreLabels) -> tuple[FloatArray, IntArray, IntArray]:
    pos, neg = counts.positives.sum(axis=1), counts.negatives.sum(axis=1)
    held = (pos + neg > 0) & np.isfinite(counts.scores)
    return counts.scores[held], pos[held], neg[held]


def _quantiles(x: FloatArray, weight: IntArray, groups: int) -> FloatArray:
    reached = np.cumsum(weight) / weight.sum()
    places = np.searchsorted(reached, np.arange(1, groups) / groups)
    return np.unique(x[np.minimum(places, len(x) - 1)])


def _grouped(
    x: FloatArray, pos: IntArray, neg: IntArray, cuts: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Labels, share of positives, and mean score of each group."""
    place = np.searchsorted(cuts, x, side="left")
    size = len(cuts) + 1
    n: FloatArray = np.bincount(place, weights=pos + neg, minlength=size).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.bincount(place, weights=pos, minlength=size) / n
        centre = np.bincount(place, weights=x * (pos + neg), minlength=size) / n
    return n, share, centre


def _slope(x: FloatArray, pos: IntArray, neg: IntArray) -> float:
    """Least-squares slope of the label on the score."""
    weight = (pos + neg).astype(np.float64)
    middle = float(np.average(x, weights=weight))
    spread = float(np.sum(weight * (x - middle) ** 2))
    return float(np.sum((x - middle) * pos)) / spread if spread > 0 else 0.0
