"""How good predicted classes are before their labels are in: the matrix to be expected by calibrated probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from detectors.calibration import CalibrationError, Calibrator, fit
from detectors.class_counts import ClassCounts
from detectors.classification import Measure
from detectors.multiclass import AS_ACCURACY, AVERAGES, OF_DECISIONS, Matrix, bounded
from detectors.profiles import FloatArray, IntArray


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
        """Take in one batch, given as to ``ClassCounter``.  Rows lacking a probability or a class take no part."""
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
        if name in AS_ACCURACY:
            slope = np.zeros_like(found.cells)
            size = len(found.names)
            slope[np.arange(size), np.arange(size)] = 1 / found.n
            value: float = (float(found.right.sum()) + found.hits) / found.n
        else:
            told = AVERAGES[name](found)
            if isinstance(told, str):
                return Measure(None, n=self._n, reason=told)
            value, slope = told
        by_class = slope[np.ix_(to, to)]  # slope by (true, predicted) among the classes as they were counted
        if name in AS_ACCURACY:
            by_class = np.eye(len(to)) / found.n
        variance = float((self._cells * by_class**2).sum())
        if self._second is not None:
            variance -= float(np.einsum("cp,pcd,dp->", by_class, self._second, by_class))
        return bounded(value, max(variance, 0.0), self._n, level=level)
