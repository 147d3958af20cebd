"""How good predicted classes were: per class, macro, micro and weighted, from counts of labelled predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detectors.class_counts import ClassCounts
from detectors.classification import Measure
from detectors.intervals import f_interval, mean_interval, roc_area, roc_area_interval, wilson
from detectors.profiles import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Matrix:
    """True by predicted class, of labelled predictions with a predicted class; expected counts are welcome.

    Parameters
    ----------
    names
        The classes that are told one by one, m of them.
    cells
        Shape ``(m + 1, m + 1)``: rows are the true class, columns the predicted one, all other classes last.
    hits
        Right ones among the others.
    n_predicted
        Predictions with a predicted class, labelled or not, in each column, shape ``(m + 1,)``.
    """

    names: tuple[str, ...]
    cells: FloatArray
    hits: float
    n_predicted: FloatArray

    @property
    def n(self) -> float:
        return float(self.cells.sum())

    @property
    def true(self) -> FloatArray:
        return np.asarray(self.cells.sum(axis=1)[:-1])

    @property
    def said(self) -> FloatArray:
        return np.asarray(self.cells.sum(axis=0)[:-1])

    @property
    def right(self) -> FloatArray:
        return np.asarray(np.diag(self.cells)[:-1])


def matrix(
    counts: ClassCounts,
    *,
    min_rows: int = 0,
    names: Sequence[str] | None = None,
    table: FloatArray | None = None,
) -> Matrix:
    """The confusion matrix, in which classes with fewer than ``min_rows`` rows stand with the others.

    A row counts once for each of its two classes.  With ``names`` these classes are told one by one, however rare.
    """
    whole = counts.table() if table is None else table
    by_class = whole[:-1, :].sum(axis=1) + whole[:, :-1].sum(axis=0)
    by_class -= np.diag(whole)[:-1]
    named = [
        at
        for at, name in enumerate(counts.classes)
        if (by_class[at] >= max(min_rows, 1) if names is None else name in names)
    ]
    rest = [at for at in range(counts.size + 1) if at not in set(named)]
    known = whole[:-1, :-1]
    size = len(named)
    cells = np.zeros((size + 1, size + 1))
    cells[:size, :size] = known[np.ix_(named, named)]
    cells[:size, size] = known[np.ix_(named, rest)].sum(axis=1)
    cells[size, :size] = known[np.ix_(rest, named)].sum(axis=0)
    cells[size, size] = known[np.ix_(rest, rest)].sum()
    hits = sum(float(known[at, at]) for at in rest if at < counts.size)
    share = counts.other_hits / max(float(counts.table()[counts.size, counts.size]), 1.0)
    hits += share * float(known[counts.size, counts.size])
    said = whole[:, :-1].sum(axis=0)
    n_predicted = np.append(said[named], said[rest].sum())
    return Matrix(tuple(counts.classes[at] for at in named), cells, hits, n_predicted)


@dataclass(frozen=True)
class ClassMeasures:
    """What one class shows: labels of it, predictions of it among the labelled, and its measures."""

    name: str
    n_true: int
    n_predicted: int
    precision: Measure
    recall: Measure
    f1: Measure


def per_class(found: Matrix, *, level: float = 0.95) -> list[ClassMeasures]:
    """Precision, recall and F1 of each class that is told one by one, each undefined where it has no denominator."""
    told = []
    for name, tp, true, said in zip(found.names, found.right, found.true, found.said, strict=True):
        p = _share(tp, said, "no_predictions_of_the_class", level=level)
        r = _share(tp, true, "no_labels_of_the_class", level=level)
        reason = r.reason or p.reason
        n = round(true + said - tp)
        f1 = Measure(None, n=n, reason=reason)
        if reason is None:
            low, high = f_interval(round(tp), round(said - tp), round(true - tp), beta=1.0, level=level)
            f1 = Measure(float(2 * tp / (true + said)), low, high, n)
        told.append(ClassMeasures(name, round(true), round(said), p, r, f1))
    return told


def _share(part: float, whole: float, reason: str, *, level: float) -> Measure:
    if whole <= 0:
        return Measure(None, reason=reason)
    low, high = wilson(part, whole, level=level)
    return Measure(float(part / whole), low, high, round(whole))


def _averages(kind: str) -> Callable[[Matrix], tuple[float, FloatArray] | str]:
    """``macro_precision`` and the like: the value and its derivative by each cell, or why there is none."""
    how, _, what = kind.partition("_")

    def value(m: Matrix) -> tuple[float, FloatArray] | str:
        size = len(m.names)
        if size == 0:
            return "no_class_with_enough_rows"
        weighty = how == "weighted"
        need = m.true > 0 if weighty else np.ones(size, bool)
        if not need.any() or (what != "precision" and not m.true[need].all()):
            return "no_labels_of_a_class"
        if what != "recall" and not m.said[need].all():
            return "no_predictions_of_a_class"
        weight = m.true / m.true.sum() if weighty else np.full(size, 1 / size)
        bottom = {"precision": m.said, "recall": m.true, "f1": (m.true + m.said) / 2}[what]
        bottom = np.where(bottom > 0, bottom, 1.0)
        each = m.right / bottom
        slope = np.zeros_like(m.cells)
        pull = weight * m.right / bottom**2
        if what in ("recall", "f1"):
            slope[:size, :] -= (pull * (1.0 if what == "recall" else 0.5))[:, None]
        if what in ("precision", "f1"):
            slope[:, :size] -= (pull * (1.0 if what == "precision" else 0.5))[None, :]
        slope[np.arange(size), np.arange(size)] += weight / bottom
        total = float(weight @ each)
        if weighty:
            slope[:size, :] += ((each - total) / m.true.sum())[:, None]
        return total, slope

    return value


AVERAGES = {
    f"{how}_{what}": _averages(f"{how}_{what}")
    for how in ("macro", "weighted")
    for what in ("precision", "recall", "f1")
}
AS_ACCURACY = ("accuracy", "micro_precision", "micro_recall", "micro_f1")
"""With one class predicted and one true, these are one number."""
OF_DECISIONS = (*AS_ACCURACY, *AVERAGES)
METRICS = (*OF_DECISIONS, "macro_roc_auc", "log_loss")
CORRECTABLE = (*OF_DECISIONS, "log_loss")
"""The metrics that have a corrected value: for areas, labels would have to be kept by score and landing time."""


def performance(
    counts: ClassCounts,
    metrics: Sequence[str] = METRICS,
    *,
    min_rows: int = 0,
    names: Sequence[str] | None = None,
    level: float = 0.95,
) -> dict[str, Measure]:
    """How good were the labelled predictions?  One measure for each name in ``metrics``.

    ``accuracy`` counts all classes.  Averages are over the classes with at least ``min_rows`` rows (or over ``names``,
    so that two windows can be compared), as scikit-learn has them, but undefined where a class has no labels (recall,
    F1) or no predictions (precision, F1): that is no 0.
    Intervals are Wilson's, of averages with the sample size that the multinomial delta method gives.

    Where a value is ``None`` the reason is ``no_predictions``, ``no_labels``, ``no_predicted_classes``,
    ``no_class_with_enough_rows``, ``no_labels_of_a_class``, ``no_predictions_of_a_class``, ``one_class``,
    ``constant_scores``, or ``no_probabilities``.

    Raises
    ------
    ValueError
        A name is not in ``METRICS``.

    References
    ----------
    K. Takahashi et al., "Confidence interval for micro-averaged F1 and macro-averaged F1 scores", Appl. Intell. 2022.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ValueError(f"unknown metrics {unknown}; known are {sorted(METRICS)}")
    nothing = "no_predictions" if counts.n == 0 else "no_labels" if counts.n_labelled == 0 else None
    if nothing:
        return {name: Measure(None, reason=nothing) for name in metrics}
    found = matrix(counts, min_rows=min_rows, names=names)
    if names is not None and set(names) - set(found.names):
        found = _with_absent(found, names)
    return {name: _measure(found, counts, name, level=level) for name in metrics}


def _with_absent(found: Matrix, names: Sequence[str]) -> Matrix:
    """The same matrix with classes that do not occur: averages over them are then undefined."""
    absent = [name for name in names if name not in found.names]
    size = len(found.names)
    order = [*range(size), *([size + 1] * len(absent)), size]
    cells = np.zeros((size + 2, size + 2))
    cells[: size + 1, : size + 1] = found.cells
    said = np.append(found.n_predicted, 0.0)
    return Matrix((*found.names, *absent), cells[np.ix_(order, order)], found.hits, said[order])


def _measure(found: Matrix, counts: ClassCounts, name: str, *, level: float) -> Measure:
    if name == "log_loss":
        return log_loss(counts, level=level)
    if name == "macro_roc_auc":
        return _macro_roc_auc(counts, found.names, level=level)
    n = round(found.n)
    if n == 0:
        return Measure(None, reason="no_predicted_classes")
    if name in AS_ACCURACY:
        return _share(float(found.right.sum()) + found.hits, found.n, "no_predicted_classes", level=level)
    told = AVERAGES[name](found)
    if isinstance(told, str):
        return Measure(None, n=n, reason=told)
    # Half a miss and half a hit more of each class: a class without a miss still has a spread.
    size = len(found.names)
    softer = found.cells.copy()
    softer[:size, :size] += 0.5 / max(size - 1, 1)
    softer[np.arange(size), np.arange(size)] += 0.5 - 0.5 / max(size - 1, 1)
    smooth = AVERAGES[name](replace(found, cells=softer))
    slope = told[1] if isinstance(smooth, str) else smooth[1]
    variance = float((softer * slope**2).sum()) - float((softer * slope).sum()) ** 2 / float(softer.sum())
    return bounded(told[0], variance, n, level=level)


def bounded(value: float, variance: float, n: int, *, level: float) -> Measure:
    """Wilson's interval with the sample size that the variance is worth."""
    inside = min(max(value, 0.5 / n), 1 - 0.5 / n)
    effective = inside * (1 - inside) / max(variance, 1e-15)
    low, high = wilson(min(max(value, 0.0), 1.0) * effective, effective, level=level)
    return Measure(min(max(value, 0.0), 1.0), low, high, n)


def _why_no_area(positives: IntArray, negatives: IntArray) -> str | None:
    if not positives.any():
        return "no_labels_of_a_class"
    if not negatives.any():
        return "one_class"
    return "constant_scores" if np.count_nonzero(positives + negatives) == 1 else None


def _macro_roc_auc(counts: ClassCounts, names: Sequence[str], *, level: float) -> Measure:
    """The mean over classes of one class against the rest.

    Its interval takes the areas of different classes as moving together: wide enough, and often wider.
    """
    if not any(len(each.scores) for each in counts.probabilities.values()):
        return Measure(None, reason="no_probabilities")
    areas, halves, n = [], [], 0
    for name in names:
        each = counts.probabilities.get(name)
        if each is None:
            return Measure(None, reason="no_probabilities")
        pos, neg = each.positives.sum(axis=1), each.negatives.sum(axis=1)
        if reason := _why_no_area(pos, neg):
            return Measure(None, reason=reason)
        area = roc_area(pos, neg)
        low, high = roc_area_interval(area, int(pos.sum()), int(neg.sum()), level=level)
        areas.append(area.value)
        halves.append((area.value - low, high - area.value))
        n = max(n, int(pos.sum() + neg.sum()))
    if not areas:
        return Measure(None, reason="no_class_with_enough_rows")
    value = float(np.mean(areas))
    down, up = np.mean(halves, axis=0).tolist()
    return Measure(value, max(value - down, 0.0), min(value + up, 1.0), n)


def log_loss(counts: ClassCounts, *, level: float) -> Measure:
    """The mean negative logarithm of the probability given to the true class, at least 2.2e-16."""
    n, total, squares = counts.loss
    if n == 0:
        return Measure(None, reason="no_probabilities")
    mean = total / n
    low, high = mean_interval(mean, max(squares / n - mean**2, 0.0) * n / max(n - 1, 1), n, level=level)
    return Measure(mean, max(low, 0.0), high, n) if math.isfinite(high) else Measure(mean, n=n)
