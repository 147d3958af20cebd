"""Does a score still mean what it meant? A test of P(label | score) against the baseline, wherever along the scores.

A changed rule that turns labels round among the middling scores alone may leave accuracy as it was, and ROC-AUC nearly
so; the share of positives among these scores shows it.  Calibration drift is the field's name for it (Davis et al.,
"Calibration drift in regression and machine learning models for acute kidney injury", JAMIA 2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy

from detectors.calibration import Calibrator, isotonic
from detectors.calibration_deviations import (
    Deviations,
    Tally,
    Wander,
    cox_slope,
    deviations_of,
    law_of_squares,
    quantile_of,
    sum_test,
    sums_by,
    surest_run,
)
from detectors.effective_size import MIN_WINDOWS
from detectors.intervals import wilson
from detectors.profiles import FloatArray, IntArray
from detectors.score_labels import ScoreLabels
from detectors.statistic import probability

Part = Literal["stretch", "shift", "slope"]
MAX_GROUPS = 10
CELLS = 60
_INFORMATION = 3.0
"""Σ p (1 - p) of a window's labels that each group of scores should hold."""
MIN_REFERENCE = 100
"""Labels of the reference below which nothing is compared."""


@dataclass(frozen=True)
class Stretch:
    """One group of neighbouring scores: the share of positives that the baseline leads to expect, and the one seen."""

    low: float
    high: float
    expected: float
    observed: float
    n: int

    def describe(self) -> dict[str, Any]:
        """Plain data, with the 95 % interval of the observed share."""
        span = wilson(self.observed * self.n, self.n)
        return {
            "scores": [self.low, self.high],
            "expected": self.expected,
            "observed": self.observed,
            "n": self.n,
            "interval": [span.low, span.high],
        }


@dataclass(frozen=True, eq=False)
class CalibrationDrift:
    """How far P(label | score) has moved, and how surely.

    Parameters
    ----------
    value, low, high
        Root mean square change of the share of positives at a score, freed of what chance adds, and its 95 % interval.
    p_value
        Of the surest part, times their number.
    part
        ``stretch`` (the share of positives in some run of neighbouring scores, at most all of them), ``shift`` (the
        score from which on positives are likely has moved) or ``slope`` (scores tell less, or more, than they did).
    where
        The run of scores that moved most surely.
    groups
        All groups of scores.
    n_outside
        Labels at scores beyond those of the reference: nothing is known of these, and they take no part.
    n_windows
        Windows that showed how far shares wander without change; 0 where labels are taken to be independent.
    overdispersion
        By how much more the run's share varies between these windows than independent labels do, as a variance ratio.
    """

    value: float
    low: float
    high: float
    p_value: float
    part: Part
    parts: dict[Part, float]
    where: Stretch
    groups: tuple[Stretch, ...]
    n_reference: int
    n_current: int
    n_outside: int
    n_windows: int
    overdispersion: float
    error: float
    """Standard error of a change of all shares by the same."""
    alike: float
    """Correlation of this window's deviation with that of the next: both are held against the same reference."""
    freedom: float

    def smallest_detectable(self, alpha: float) -> float:
        """The root mean square change, all of it one way, that four of five such windows or more show at ``alpha``."""
        tail = alpha / len(self.parts) / 2 / len(self.groups)
        critical = -quantile_of(tail, self.freedom)
        return float((critical + 0.8416) * self.error)

    def describe(self) -> dict[str, Any]:
        """What it rests on, for people and for JSON."""
        told: dict[str, Any] = {
            "part": self.part,
            "part_p_values": dict(self.parts),
            "where": self.where.describe(),
            "groups": [group.describe() for group in self.groups],
            "baseline_windows": self.n_windows,
            "overdispersion": round(self.overdispersion, 4),
        }
        if self.n_outside:
            told["n_outside"] = self.n_outside
        if not self.n_windows:
            told["assumes"] = "labels are independent: too few windows show how much they are not"
        return told


@dataclass(frozen=True, eq=False)
class _Labelled:
    """Labels at increasing scores: where there is no score, the decision stands for it (0 or 1)."""

    x: FloatArray
    positives: IntArray
    negatives: IntArray

    @classmethod
    def of(cls, counts: ScoreLabels, *, decisions: bool) -> _Labelled:
        if decisions:
            return cls(np.array([0.0, 1.0]), counts.no_score[1, :2], counts.no_score[0, :2])
        positives, negatives = counts.positives.sum(axis=1), counts.negatives.sum(axis=1)
        held = (positives + negatives > 0) & np.isfinite(counts.scores)
        return cls(counts.scores[held], positives[held], negatives[held])

    @property
    def n(self) -> int:
        return int(self.positives.sum() + self.negatives.sum())


class CalibrationBaseline:
    """What scores meant in the reference, ready to be compared with many windows.

    Parameters
    ----------
    reference
        Labelled scores of the reference.  Where no score has a label, the decisions take their place.
    windows
        The windows that the reference is the sum of, oldest first: each held against the others shows how far shares
        wander without change.  With fewer than eight labels are taken to be independent.

    Raises
    ------
    ValueError
        The reference has fewer than 100 labels, or labels of one class only.
    """

    def __init__(self, reference: ScoreLabels, windows: Sequence[ScoreLabels] = ()) -> None:
        self._decisions = not (reference.positives.any() or reference.negatives.any())
        known = _Labelled.of(reference, decisions=self._decisions)
        if known.n < MIN_REFERENCE or not (known.positives.any() and known.negatives.any()):
            raise ValueError(f"{known.n} labels of the reference do not say what a score means")
        self._low, self._high = float(known.x[0]), float(known.x[-1])
        self._map: Calibrator = isotonic(known.x, known.positives, known.negatives)
        # Half of the cells follow the labels, half the doubt (p (1 - p)) that is left: where scores are sharp nearly
        # all of it lies between the two heaps of sure ones.
        weight = known.positives + known.negatives
        p = self._map.probability(known.x)
        doubt = weight * (p * (1 - p) + 1e-9)
        reached = np.cumsum(doubt) / doubt.sum() + np.cumsum(weight) / weight.sum()
        places = np.searchsorted(reached / 2, np.arange(1, CELLS) / CELLS)
        self._cuts = np.unique(known.x[np.minimum(places, len(known.x) - 1)])
        self._reference = self._tally(known)
        self.n = known.n
        self._windows = self._tallies(windows)
        self._inside = True

    @property
    def n_windows(self) -> int:
        """Windows that show how far shares wander."""
        return len(self._windows)

    def beside(self, windows: Sequence[ScoreLabels]) -> CalibrationBaseline:
        """The same reference, with windows of another time to show how far shares wander."""
        other = copy(self)
        other._windows, other._inside = self._tallies(windows), False
        return other

    def _tallies(self, windows: Sequence[ScoreLabels]) -> list[Tally]:
        told = [self.tally(each) for each in windows]
        return [each for each in told if each.n.sum() >= 1]

    @cached_property
    def _share(self) -> FloatArray:
        """Share of positives in each cell of the reference, drawn a little to the middle."""
        return (self._reference.positives + 0.5) / (self._reference.n + 1)

    def tally(self, counts: ScoreLabels) -> Tally:
        """The labels of a window by cell: all that :meth:`compare` needs of them."""
        return self._tally(_Labelled.of(counts, decisions=self._decisions))

    def _tally(self, known: _Labelled) -> Tally:
        # Scores increase: each cell is a stretch of them, and the outermost ones end where the reference does.
        first = int(np.searchsorted(known.x, self._low, side="left"))
        last = int(np.searchsorted(known.x, self._high, side="right"))
        ends = np.clip(np.searchsorted(known.x, self._cuts, side="right"), first, last)
        borders = np.concatenate([[first], ends, [last]])
        weight = known.positives + known.negatives
        n, k, m = (
            np.diff(np.concatenate([[0.0], np.cumsum(each)])[borders])
            for each in (weight, known.positives, weight * self._map.probability(known.x))
        )
        return Tally(n, k, m, int(weight.sum() - n.sum()))

    def compare(self, current: ScoreLabels | Tally, *, windows: int = 1) -> CalibrationDrift | None:
        """Is P(label | score) what it was?

        Scores are cut into at most ten groups that hold as much doubt each, Σ p (1 - p).  In a group the positives are
        compared with those that the reference would have had at the window's scores: its own cells of scores, weighted
        by the window, and moved along its isotonic map within a cell.  So it does not matter how scores are spread.
        Three parts are looked at, and Bonferroni's bound over them is the answer:

        - *stretch*: the largest standardised sum of the deviations over a run of neighbouring groups, each run by the
          exact (beta-binomial, mid-p) law of its count where it is small; the bound over all runs is Hunter and
          Worsley's, since runs overlap;
        - *shift*: as if every score had been a little higher, or lower: Σ c (observed - expected) with c the slope of
          the reference's share p along the normal ranks of the scores, over p (1 - p).  A decision boundary that moves
          through the features does this to a score that was learned before, and where p rises steeply the one sum says
          so more surely than the best of many runs;
        - *slope*: the same with c the log odds less their mean: scores that tell less than they did, which for scores
          that were as often too high as too low no run may show.

        Parameters
        ----------
        windows
            Successive windows that ``current`` is the sum of.

        Returns
        -------
        ``None`` where no label lies at a score of the reference.

        Notes
        -----
        The null hypothesis is that given its score a label is as likely to be positive as in the reference.  It is of
        the labels that are there: which of them land first must not depend on the class.  A change that leaves the
        share of positives at each score as it was does not show.

        How far shares vary between the windows is estimated from the covariance of the groups' deviations, drawn to
        that of independent labels as far as it may be noise (Ledoit & Wolf; the noise by Bai & Saranadasa), never
        below it, and the tail is Student's.
        """
        seen = current if isinstance(current, Tally) else self.tally(current)
        held = (seen.n > 0) & (self._reference.n > 0)
        if not held.any():
            return None
        group = self._groups(seen)
        now = deviations_of(seen, self._reference, group)
        wander = self._wander(group, float(now.n.sum()) / windows)
        runs = surest_run(now, wander, n_windows=windows)
        shift, slope = self._steepness(group), cox_slope(now)
        parts: dict[Part, float] = {
            "stretch": runs.p_value,
            "shift": sum_test(now, wander, shift, n_windows=windows),
            "slope": sum_test(now, wander, slope, n_windows=windows),
        }
        part = min(parts, key=lambda name: parts[name])
        law = law_of_squares(now, wander, n_windows=windows)
        total = float(now.n.sum())
        distance = float((now.n * now.change**2).sum()) / total
        effect = distance - law.mean
        low, high = law.interval(effect)
        told = [self._stretch(now, group, at, at + 1) for at in range(len(now.n))]
        variance = float(now.variance.sum()) * wander.ratio(np.ones(len(now.n)), now, windows)
        shared = float((now.variance * (1 - now.own)).sum() / now.variance.sum())
        return CalibrationDrift(
            value=math.sqrt(max(effect, 0.0)),
            low=math.sqrt(low),
            high=math.sqrt(high),
            p_value=probability(min(1.0, len(parts) * parts[part])),
            part=part,
            parts=parts,
            where=self._stretch(now, group, *runs.where),
            groups=tuple(told),
            n_reference=self.n,
            n_current=int(total),
            n_outside=seen.outside,
            n_windows=wander.n_windows,
            overdispersion=runs.ratio,
            error=math.sqrt(variance) / total,
            alike=shared,
            freedom=wander.freedom,
        )

    def _groups(self, seen: Tally) -> IntArray:
        """The group of each cell, shape ``(C,)``: fewer groups where the window's labels leave little doubt."""
        doubt = self._share * (1 - self._share)
        n_groups = int(np.clip(float((seen.n * doubt).sum()) / _INFORMATION, 2, MAX_GROUPS))
        weight = self._reference.n * doubt
        # A cell that the reference leaves empty (beyond its last score) belongs to the one before.
        middle = np.maximum.accumulate(np.where(weight > 0, np.cumsum(weight) - weight / 2, 0.0)) / weight.sum()
        return np.unique(np.minimum((middle * n_groups).astype(np.int64), n_groups - 1), return_inverse=True)[1]

    def _steepness(self, group: IntArray) -> FloatArray:
        """How fast the log odds rise along the reference's scores, by normal ranks, shape ``(G,)``."""
        size = int(group.max()) + 1
        n, k = (sums_by(group, each, size) for each in (self._reference.n, self._reference.positives))
        if size < 2:
            return np.zeros(size)
        share = (k + 0.5) / (n + 1)
        rank = scipy.special.ndtri((np.cumsum(n) - n / 2) / n.sum())
        return np.asarray(np.gradient(share, rank) / (share * (1 - share)))

    def _wander(self, group: IntArray, rows: float) -> Wander:
        """How far the groups' shares vary between windows of about ``rows`` labels."""
        size = int(group.max()) + 1
        if len(self._windows) < MIN_WINDOWS:
            return Wander(np.eye(size), np.eye(size), math.inf, rows, 1.0, 0)
        moved = []
        for each in self._windows:
            other = self._reference - each if self._inside else self._reference
            found = deviations_of(each, other, group)
            moved.append(found.total / np.sqrt(found.variance))
        usual = float(np.mean([each.n.sum() for each in self._windows]))
        return Wander.of(np.stack(moved), rows=usual)

    def _stretch(self, now: Deviations, group: IntArray, first: int, last: int) -> Stretch:
        mine = np.flatnonzero((group >= first) & (group < last))
        edges = np.concatenate([[self._low], self._cuts, [self._high]])
        n, k = now.n[first:last].sum(), now.positives[first:last].sum()
        expected = float(now.expected[first:last].sum())
        span = float(edges[mine[0]]), float(edges[mine[-1] + 1])
        return Stretch(*span, expected / max(n, 1.0), float(k) / max(n, 1.0), int(n))
