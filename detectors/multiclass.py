"""Which class was predicted and which came true, as counts: per class, macro, micro and weighted, and before labels.

Windows add up.  At most ``MAX_CLASSES`` classes are counted by name, the most frequent ones; the rest are together.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np

from detectors import score_labels
from detectors.calibration import CalibrationError, Calibrator, fit
from detectors.classification import Measure
from detectors.development import MIN_COMPLETENESS, developed, landed_by, landing_bins
from detectors.intervals import f_interval, mean_interval, roc_area, roc_area_interval, wilson
from detectors.profiles import FloatArray, IntArray, ProfileError
from detectors.score_labels import ScoreLabelCounter, ScoreLabels

MAX_CLASSES = 100
_HEADER = struct.Struct("<4sBI")
_MAGIC = b"CLSS"
_VERSION = 2
_G = 1 << 13
_OTHER, _NONE = _G - 2, _G - 1
"""Numbers of "a class beyond those counted by name" and of "no label" or "no predicted class" while counting."""
MIN_LABELS = 30
"""Labels of a class from which its own delay may be learned; one with fewer leans on that of all."""


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """How often each class was predicted and came true; of several groups of predictions the counts add up.

    Parameters
    ----------
    classes
        Names in order, at most ``MAX_CLASSES``.  K is their number; place K stands for all other classes together and
        K + 1 for "none": not labelled, or nothing predicted.
    cells
        Rows of (landing bin, true class, predicted class, count), shape ``(M, 4)``; unlabelled predictions are in the
        bin after the last one.
    other_hits
        Labelled predictions that were right although their class is among the others.
    edges
        Landing times after the window's end, in seconds; see :func:`detectors.development.landing_bins`.
    probabilities
        Class → its predicted probability by "is it that class" and "was it predicted".
    loss
        Labelled predictions whose class has a probability, Σ and Σ² of its negative logarithm.
    """

    classes: tuple[str, ...]
    cells: IntArray
    other_hits: int
    edges: FloatArray
    probabilities: Mapping[str, ScoreLabels] = field(default_factory=dict)
    loss: tuple[int, float, float] = (0, 0.0, 0.0)
    loss_by_age: FloatArray | None = None
    """For each landing bin so many of these labels, and Σ of their negative logarithm, ``(A + 1, 2)``."""

    @property
    def size(self) -> int:
        return len(self.classes)

    @property
    def n(self) -> int:
        """Predictions, labelled or not."""
        return int(self.cells[:, 3].sum())

    @property
    def n_labelled(self) -> int:
        return int(self.cells[self.cells[:, 1] <= self.size, 3].sum())

    @property
    def label_coverage(self) -> float | None:
        """The share of predictions whose label has landed; ``None`` without predictions."""
        return self.n_labelled / self.n if self.n else None

    def table(self, part: FloatArray | None = None) -> FloatArray:
        """Counts by true and predicted class, "others" and "none" last, shape ``(K + 2, K + 2)``.

        With ``part`` (the part of each landing bin to be counted, shape ``(A + 1,)``) of the labels landed by then.
        """
        size = self.size + 2
        weight = self.cells[:, 3].astype(float)
        true = self.cells[:, 1]
        found = np.zeros((size, size))
        if part is not None:
            known = true <= self.size
            seen = np.where(known, np.append(part, 1.0)[self.cells[:, 0]], 1.0)
            # What has not landed yet is a prediction without a label.
            np.add.at(found, (np.full(len(true), size - 1), self.cells[:, 2]), weight * (1 - seen))
            weight = weight * seen
        np.add.at(found, (true, self.cells[:, 2]), weight)
        return found

    def coarsen(self, max_scores: int = 500) -> ClassCounts:
        """The same counts with at most so many distinct probabilities a class, for keeping."""
        kept = {name: counts.coarsen(max_scores) for name, counts in self.probabilities.items()}
        return replace(self, probabilities=kept)


def empty(edges: FloatArray) -> ClassCounts:
    """The counts of no predictions: the neutral element of :func:`merge`."""
    return ClassCounts((), np.zeros((0, 4), np.int64), 0, edges)


class ClassCounter:
    """Counts predicted and true classes batch by batch; the order of rows and batches does not matter."""

    def __init__(self, edges: FloatArray, probabilities: Sequence[str] = ()) -> None:
        self._edges = edges
        self._places: dict[str, int] = {}
        self._cells: dict[int, int] = {}
        buffer = max(2**19 // max(len(probabilities), 1), 4096)
        self._probabilities = {name: ScoreLabelCounter(buffer_rows=buffer) for name in probabilities}
        self._loss = (0, 0.0, 0.0)
        self._loss_by_age = np.zeros((len(edges) + 1, 2))

    def update(
        self,
        names: Sequence[str],
        labels: IntArray,
        predicted: IntArray,
        landed: FloatArray,
        probabilities: Mapping[str, FloatArray] | None = None,
    ) -> None:
        """Count one batch.

        Parameters
        ----------
        names
            Classes that occur in the batch.
        labels, predicted
            Places in ``names``, -1 for none, shape ``(n,)``.
        landed
            When each label landed, in seconds after the end of the window; NaN where that is not known.
        probabilities
            Class → its predicted probability, shape ``(n,)``, NaN for none.
        """
        place = np.array([*(self._place(name) for name in names), _NONE], dtype=np.int64)
        true, said = place[labels], place[predicted]
        bins = np.where(true == _NONE, len(self._edges) + 1, landing_bins(landed, self._edges))
        keys, counts = np.unique((bins * _G + true) * _G + said, return_counts=True)
        for key, n in zip(keys.tolist(), counts.tolist(), strict=True):
            self._cells[key] = self._cells.get(key, 0) + n
        given = np.full(len(true), np.nan)
        for name, values in (probabilities or {}).items():
            mine = self._places.get(name, -1)
            is_it = np.where(true == _NONE, np.nan, (true == mine).astype(float))
            was_it = np.where(said == _NONE, np.nan, (said == mine).astype(float))
            self._probabilities[name].update(values, was_it, is_it)
            given = np.where(true == mine, values, given)
        held = given[np.isfinite(given)]
        loss = -np.log(np.clip(held, np.finfo(np.float64).eps, 1.0))
        when = bins[np.isfinite(given)]
        for column, weights in enumerate((None, loss)):
            self._loss_by_age[:, column] += np.bincount(when, weights=weights, minlength=len(self._edges) + 1)
        self._loss = tuple(
            map(sum, zip(self._loss, (len(held), float(loss.sum()), float((loss * loss).sum())), strict=True))
        )  # type: ignore[assignment]

    def _place(self, name: str) -> int:
        if name not in self._places and len(self._places) >= _OTHER:
            return _OTHER  # free text, or numbers: a class each
        return self._places.setdefault(name, len(self._places))

    def counts(self) -> ClassCounts:
        """What has been counted so far."""
        keys = np.array(list(self._cells), dtype=np.int64)
        counts = np.array(list(self._cells.values()), dtype=np.int64)
        cells = np.stack([keys // (_G * _G), keys // _G % _G, keys % _G, counts], axis=1).reshape(-1, 4)
        found = _pooled(list(self._places), cells, 0, self._edges)
        told = {name: counter.counts() for name, counter in self._probabilities.items()}
        return replace(found, probabilities=told, loss=self._loss, loss_by_age=self._loss_by_age)


def _pooled(names: Sequence[str], cells: IntArray, hits: int, edges: FloatArray) -> ClassCounts:
    """Cells over ``names`` (``_OTHER`` and ``_NONE`` beyond them) on the most frequent classes, in order of name."""
    weight = np.zeros(_G, np.int64)
    for column in (1, 2):
        np.add.at(weight, cells[:, column], cells[:, 3])
    ranked = sorted(range(len(names)), key=lambda at: (-int(weight[at]), names[at]))[:MAX_CLASSES]
    kept = sorted((names[at], at) for at in ranked if weight[at])
    size = len(kept)
    to = np.full(_G, size, np.int64)
    to[_NONE] = size + 1
    for place, (_, at) in enumerate(kept):
        to[at] = place
    true, said = cells[:, 1], cells[:, 2]
    alike = (true == said) & (true < _OTHER) & (to[true] == size)
    hits += int(cells[alike, 3].sum())
    moved = np.stack([cells[:, 0], to[true], to[said]], axis=1)
    distinct, inverse = np.unique(moved, axis=0, return_inverse=True)
    counts = np.zeros(len(distinct), np.int64)
    np.add.at(counts, inverse.reshape(-1), cells[:, 3])
    together = np.concatenate([distinct, counts[:, None]], axis=1)
    return ClassCounts(tuple(name for name, _ in kept), together, hits, edges)


def merge(first: ClassCounts, second: ClassCounts) -> ClassCounts:
    """The counts of the predictions of both; exact while both together have no more than ``MAX_CLASSES`` classes.

    Raises
    ------
    ProfileError
        The two were counted over different landing bins.
    """
    if not np.array_equal(first.edges, second.edges):
        raise ProfileError("classes were counted over different landing bins")
    names = sorted({*first.classes, *second.classes})
    parts = []
    for counts in (first, second):
        to = np.array([*(names.index(name) for name in counts.classes), _OTHER, _NONE], dtype=np.int64)
        parts.append(np.stack([counts.cells[:, 0], to[counts.cells[:, 1]], to[counts.cells[:, 2]],
                               counts.cells[:, 3]], axis=1))  # fmt: skip
    found = _pooled(names, np.concatenate(parts), first.other_hits + second.other_hits, first.edges)
    told = {
        name: score_labels.merge_all(c.probabilities[name] for c in (first, second) if name in c.probabilities)
        for name in sorted({*first.probabilities, *second.probabilities})
    }
    loss = tuple(a + b for a, b in zip(first.loss, second.loss, strict=True))
    by_age = [counts.loss_by_age for counts in (first, second) if counts.loss_by_age is not None]
    together = np.add.reduce(by_age) if by_age else None
    return replace(found, probabilities=told, loss=loss, loss_by_age=together)  # type: ignore[arg-type]


def merge_all(parts: Iterable[ClassCounts], edges: FloatArray) -> ClassCounts:
    """The counts of all parts; of none, the empty counts."""
    return reduce(merge, parts, empty(edges))


# --- measures --------------------------------------------------------------------------------------


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


_AVERAGES = {
    f"{how}_{what}": _averages(f"{how}_{what}")
    for how in ("macro", "weighted")
    for what in ("precision", "recall", "f1")
}
_AS_ACCURACY = ("accuracy", "micro_precision", "micro_recall", "micro_f1")
"""With one class predicted and one true, these are one number."""
OF_DECISIONS = (*_AS_ACCURACY, *_AVERAGES)
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
        return _log_loss(counts, level=level)
    if name == "macro_roc_auc":
        return _macro_roc_auc(counts, found.names, level=level)
    n = round(found.n)
    if n == 0:
        return Measure(None, reason="no_predicted_classes")
    if name in _AS_ACCURACY:
        return _share(float(found.right.sum()) + found.hits, found.n, "no_predicted_classes", level=level)
    told = _AVERAGES[name](found)
    if isinstance(told, str):
        return Measure(None, n=n, reason=told)
    # Half a miss and half a hit more of each class: a class without a miss still has a spread.
    size = len(found.names)
    softer = found.cells.copy()
    softer[:size, :size] += 0.5 / max(size - 1, 1)
    softer[np.arange(size), np.arange(size)] += 0.5 - 0.5 / max(size - 1, 1)
    smooth = _AVERAGES[name](replace(found, cells=softer))
    slope = told[1] if isinstance(smooth, str) else smooth[1]
    variance = float((softer * slope**2).sum()) - float((softer * slope).sum()) ** 2 / float(softer.sum())
    return _bounded(told[0], variance, n, level=level)


def _bounded(value: float, variance: float, n: int, *, level: float) -> Measure:
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


def _log_loss(counts: ClassCounts, *, level: float) -> Measure:
    """The mean negative logarithm of the probability given to the true class, at least 2.2e-16."""
    n, total, squares = counts.loss
    if n == 0:
        return Measure(None, reason="no_probabilities")
    mean = total / n
    low, high = mean_interval(mean, max(squares / n - mean**2, 0.0) * n / max(n - 1, 1), n, level=level)
    return Measure(mean, max(low, 0.0), high, n) if math.isfinite(high) else Measure(mean, n=n)


# --- before labels ---------------------------------------------------------------------------------


def calibrators(reference: ClassCounts) -> dict[str, Calibrator]:
    """For each class what its probability meant in the reference; empty where one of them cannot be told."""
    found = {}
    for name, counts in reference.probabilities.items():
        try:
            found[name] = fit(counts)
        except CalibrationError:
            return {}
    return found


_WIDEST = 30
"""Up to so many classes the covariance of a row's classes is kept; beyond, intervals are a little too wide."""


class Expected:
    """The confusion matrix to be expected of predictions, batch by batch: which class, by calibrated probabilities.

    Each probability is mapped by its class's calibrator, and a row's are divided by their sum.

    References
    ----------
    NannyML 0.13, "Confidence-based performance estimation", multiclass.
    """

    def __init__(self, known: Mapping[str, Calibrator]) -> None:
        self.classes = tuple(sorted(known))
        self._known = known
        size = len(self.classes)
        self._cells = np.zeros((size, size))
        self._second = np.zeros((size, size, size)) if size <= _WIDEST else None
        self._n = 0

    def update(self, names: Sequence[str], predicted: IntArray, probabilities: Mapping[str, FloatArray]) -> None:
        """Take in one batch; see :meth:`ClassCounter.update`.  Rows lacking a probability or a class take no part."""
        if any(name not in probabilities for name in self.classes):
            return
        raw = np.stack([self._known[name].probability(probabilities[name]) for name in self.classes], axis=1)
        total = raw.sum(axis=1, keepdims=True)
        mapped = np.divide(raw, total, out=np.full_like(raw, 1 / raw.shape[1]), where=total != 0)
        place = {name: at for at, name in enumerate(self.classes)}
        said = np.array([*(place.get(name, -1) for name in names), -1], dtype=np.int64)[predicted]
        good = np.isfinite(mapped).all(axis=1) & (said >= 0)
        self._n += int(good.sum())
        for at in np.unique(said[good]).tolist():
            mine = mapped[good & (said == at)]
            self._cells[:, at] += mine.sum(axis=0)
            if self._second is not None:
                self._second[at] += mine.T @ mine

    def performance(
        self, metrics: Sequence[str], *, names: Sequence[str] | None = None, level: float = 0.95
    ) -> dict[str, Measure]:
        """The measures that the expected matrix gives, for each of ``metrics`` that is one of decisions.

        ``names`` are the classes that averages are over (default: all that have a probability).  The interval holds
        the *realized* value while probabilities mean what they meant in the reference.
        """
        wanted = [name for name in metrics if name in OF_DECISIONS]
        if not self._n:
            return {name: Measure(None, reason="no_probabilities") for name in wanted}
        named = [at for at, name in enumerate(self.classes) if names is None or name in names]
        rest = [at for at in range(len(self.classes)) if at not in set(named)]
        order = named + rest
        size = len(named)
        cells = np.zeros((size + 1, size + 1))
        to = np.array([min(place, size) for place in range(len(order))])
        np.add.at(cells, (to[:, None], to[None, :]), self._cells[np.ix_(order, order)])
        hits = float(np.diag(self._cells)[rest].sum())
        found = Matrix(tuple(self.classes[at] for at in named), cells, hits, cells.sum(axis=0))
        back = np.zeros(len(order), np.int64)
        back[order] = to
        return {name: self._one(found, name, back, level=level) for name in wanted}

    def _one(self, found: Matrix, name: str, to: IntArray, *, level: float) -> Measure:
        if name in _AS_ACCURACY:
            slope = np.zeros_like(found.cells)
            size = len(found.names)
            slope[np.arange(size), np.arange(size)] = 1 / found.n
            value: float = (float(found.right.sum()) + found.hits) / found.n
        else:
            told = _AVERAGES[name](found)
            if isinstance(told, str):
                return Measure(None, n=self._n, reason=told)
            value, slope = told
        by_class = slope[np.ix_(to, to)]  # slope by (true, predicted) among the classes as they were counted
        if name in _AS_ACCURACY:
            by_class = np.eye(len(to)) / found.n
        variance = float((self._cells * by_class**2).sum())
        if self._second is not None:
            variance -= float(np.einsum("cp,pcd,dp->", by_class, self._second, by_class))
        return _bounded(value, max(variance, 0.0), self._n, level=level)


# --- while labels land -----------------------------------------------------------------------------


def corrected(
    counts: ClassCounts,
    past: Sequence[ClassCounts],
    *,
    age: float,
    metrics: Sequence[str],
    min_rows: int = 0,
    level: float = 0.95,
) -> dict[str, Measure]:
    """Where will each metric be once all labels are in?

    The share F_y of class y that has landed by this age is learned from matured windows.  Of the predictions of a class
    that have no label yet, so many are of class y as the labels seen and F_y make most likely.  How far this was off in
    each of the matured windows at the same age, each by the law of the others, gives the interval.  The log loss goes
    on as it did in past windows from this age.

    Parameters
    ----------
    past
        Matured windows, with the landing times of their labels, over the same bins.
    age
        Seconds since the end of the window.

    Returns
    -------
    A measure for each of ``metrics`` that is in ``CORRECTABLE``; with reason ``no_delay_law`` where too few windows
    have matured or labels carry no time, and ``not_identifiable`` where next to none of a class can have landed.
    """
    asked = [name for name in metrics if name in CORRECTABLE]
    wanted = [name for name in asked if name in OF_DECISIONS]
    nothing = "no_predictions" if counts.n == 0 else "no_labels" if counts.n_labelled == 0 else None
    if nothing:
        return {name: Measure(None, reason=nothing) for name in asked}
    part = landed_by(age, counts.edges)
    timed = [each for each in past if _timed(each)]
    if not timed:
        return {name: Measure(None, n=counts.n, reason="no_delay_law") for name in asked}
    names = sorted({name for each in (*timed, counts) for name in each.classes})
    early, late = (np.array([_by_class(each, names, p) for each in timed]) for p in (part, None))
    labels, landed = late.sum(axis=0), early.sum(axis=0)
    law, rare = _law(landed, labels), labels < MIN_LABELS
    if (law[~rare] < MIN_COMPLETENESS).any() or law[rare].min(initial=1.0) < MIN_COMPLETENESS:
        return {name: Measure(None, n=counts.n, reason="not_identifiable") for name in asked}
    never = 1 - sum(each.n_labelled for each in timed) / max(sum(each.n for each in timed), 1)
    found = _completed(counts, counts.table(), names, law, never, min_rows=min_rows)
    then = []
    for place, each in enumerate(timed):
        others = _law(landed - early[place], labels - late[place])
        then.append(
            (_completed(each, each.table(part), names, others, never, min_rows=min_rows),
             matrix(each, min_rows=min_rows))
        )  # fmt: skip
    thin = float(early.sum()) / len(timed) / max(counts.n_labelled, 1)
    told = {}
    for name in wanted:
        value = _plain(found, name)
        if isinstance(value, str):
            told[name] = Measure(None, n=counts.n, reason=value)
            continue
        seen = [(_plain(before, name), _plain(after, name)) for before, after in then]
        pairs = [(a, b) for a, b in seen if not isinstance(a, str) and not isinstance(b, str)]
        told[name] = developed(value, pairs, scale="logit", n=round(found.n), thin=thin, level=level)
    if "log_loss" in asked:
        told["log_loss"] = _corrected_loss(counts, timed, part, thin=thin, level=level)
    return told


def _corrected_loss(
    counts: ClassCounts, past: Sequence[ClassCounts], part: FloatArray, *, thin: float, level: float
) -> Measure:
    """Where the log loss goes, as it went in past windows from this age on."""
    now = _log_loss(counts, level=level)
    if now.value is None:
        return now
    pairs = []
    for each in past:
        n, total = (0.0, 0.0) if each.loss_by_age is None else (part @ each.loss_by_age).tolist()
        if n > 0:
            pairs.append((total / n, each.loss[1] / each.loss[0]))
    return developed(now.value, pairs, scale="log", n=now.n, thin=thin, level=level)


def _timed(counts: ClassCounts) -> bool:
    return bool((counts.cells[:, 0] < len(counts.edges)).any())


def _by_class(counts: ClassCounts, names: Sequence[str], part: FloatArray | None) -> FloatArray:
    """Labels of each class, other classes last."""
    found = np.zeros(len(names) + 1)
    to = [*(names.index(name) for name in counts.classes), len(names)]
    np.add.at(found, to, counts.table(part)[:-1].sum(axis=1))
    return found


def _law(seen: FloatArray, labels: FloatArray) -> FloatArray:
    """The share of each class that has landed; of a class with few labels drawn to that of all."""
    overall = float(seen.sum()) / max(float(labels.sum()), 1.0)
    return np.asarray(np.clip((seen + MIN_LABELS / 3 * overall) / (labels + MIN_LABELS / 3), 1e-6, 1.0))


_ROUNDS = 300


def _completed(
    counts: ClassCounts, table: FloatArray, names: Sequence[str], law: FloatArray, never: float, *, min_rows: int
) -> Matrix:
    """The confusion matrix with the labels that are still out, by the EM algorithm for each predicted class."""
    share = law[[*(names.index(name) for name in counts.classes), len(names)]][:, None]
    seen = table[:-1, :]
    out = np.maximum(table.sum(axis=0) * (1 - never) - seen.sum(axis=0), 0.0)
    odds = seen / share
    # Where nothing of a predicted class has landed, the classes of all others are the best guess.
    odds = odds + 1e-3 * (odds.sum(axis=1, keepdims=True) + 1e-9) / max(float(odds.sum()), 1e-9)
    full = seen
    for _ in range(_ROUNDS):
        rate = odds / np.maximum(odds.sum(axis=0), 1e-12)
        missing = rate * (1 - share)
        full = seen + out * missing / np.maximum(missing.sum(axis=0), 1e-12)
        if np.abs(full - odds).max(initial=0.0) < 1e-6 * max(float(full.max(initial=0.0)), 1.0):
            break
        odds = full
    whole = np.concatenate([full, np.zeros((1, full.shape[1]))])
    return matrix(counts, min_rows=min_rows, table=whole)


def _plain(found: Matrix, name: str) -> float | str:
    if found.n <= 0:
        return "no_predicted_classes"
    if name in _AS_ACCURACY:
        return (float(found.right.sum()) + found.hits) / found.n
    told = _AVERAGES[name](found)
    return told if isinstance(told, str) else told[0]


# --- storage ---------------------------------------------------------------------------------------


def to_bytes(counts: ClassCounts) -> bytes:
    """Pack for storage; :func:`from_bytes` gives the same counts back, on any machine."""
    blobs = {name: score_labels.to_bytes(each) for name, each in counts.probabilities.items()}
    head = {
        "classes": counts.classes,
        "other_hits": counts.other_hits,
        "loss": counts.loss,
        "loss_by_age": None if counts.loss_by_age is None else counts.loss_by_age.tolist(),
        "edges": counts.edges.tolist(),
        "cells": len(counts.cells),
        "probabilities": {name: len(blob) for name, blob in blobs.items()},
    }
    text = json.dumps(head, allow_nan=False).encode()
    body = zlib.compress(text + counts.cells.T.astype("<i8").tobytes(), 6)
    return _HEADER.pack(_MAGIC, _VERSION, len(text)) + struct.pack("<I", len(body)) + body + b"".join(blobs.values())


def from_bytes(blob: bytes) -> ClassCounts:
    """Unpack what :func:`to_bytes` packed.

    Raises
    ------
    ProfileError
        The bytes are damaged, of something else, or of a newer version.
    """
    try:
        magic, version, n_text = _HEADER.unpack_from(blob)
        if magic != _MAGIC or version != _VERSION:
            raise ProfileError(f"expected counts of classes of version {_VERSION}, found {magic!r} {version}")
        (n_body,) = struct.unpack_from("<I", blob, _HEADER.size)
        at = _HEADER.size + 4
        body = zlib.decompress(blob[at : at + n_body])
        head = json.loads(body[:n_text])
        cells = np.frombuffer(body, "<i8", 4 * head["cells"], n_text).reshape(4, -1).T.astype(np.int64)
        at += n_body
        told = {}
        for name, length in head["probabilities"].items():
            told[name] = score_labels.from_bytes(blob[at : at + length])
            at += length
    except (struct.error, zlib.error, ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f"these {len(blob)} bytes are not counts of classes: {error}") from error
    return ClassCounts(
        tuple(head["classes"]),
        np.ascontiguousarray(cells),
        int(head["other_hits"]),
        np.array(head["edges"], dtype=np.float64),
        told,
        tuple(head["loss"]),
        None if head["loss_by_age"] is None else np.array(head["loss_by_age"], dtype=np.float64),
    )
