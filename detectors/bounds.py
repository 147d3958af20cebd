"""What performance can be where some predictions never get a label: bounds that hold whatever those labels would be.

A loan that is refused shows no default. Of such predictions nothing is known but the decision and the score; so a
metric that they enter is known only to lie between what it would be were all their labels the worst, and the best.
Where they do not enter (the precision of positive decisions, when only negative ones go unlabelled) it is a point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.classification import Measure, ThresholdRow, performance, threshold_table
from detectors.corrected import expected_counts
from detectors.corrected_scores import Expected, bin_edges, gap_draws
from detectors.intervals import z_value
from detectors.posterior import Fit
from detectors.profiles import FloatArray, IntArray
from detectors.score_labels import Confusion, ScoreLabels, merge

NEVER = "never_labelled"
"""The reason of a measure that has bounds and no value."""

Cells = tuple[float, float, float, float]
"""Counts of tp, fp, fn and tn."""
_Rule = Callable[[float, float, float, float], tuple[float, float]]


@dataclass(frozen=True)
class _Ratio:
    """A metric of the cells, as top and bottom, and which labels of the never labelled make it least.

    ``least`` is the class of never labelled positive decisions, then of negative ones, in the worst case; the best
    case is the other way round.
    """

    rule: _Rule
    least: tuple[int, int]
    uses: tuple[bool, bool]
    undefined: str

    def at(self, cells: Sequence[float], never: Sequence[float], *, best: bool) -> float | None:
        tp, fp, fn, tn = cells
        yes, no = (1 - each if best else each for each in self.least)
        top, bottom = self.rule(
            tp + never[1] * yes, fp + never[1] * (1 - yes), fn + never[0] * no, tn + never[0] * (1 - no)
        )
        return top / bottom if bottom > 0 else None


def _f(beta: float) -> _Rule:
    b2 = beta * beta

    def rule(tp: float, fp: float, fn: float, _: float) -> tuple[float, float]:
        defined = tp + fp > 0 and tp + fn > 0
        return (1 + b2) * tp, ((1 + b2) * tp + b2 * fn + fp) if defined else 0.0

    return rule


def _ratios(beta: float) -> dict[str, _Ratio]:
    both = (True, True)
    return {
        "precision": _Ratio(lambda tp, fp, _fn, _tn: (tp, tp + fp), (0, 0), (False, True), "no_predicted_positives"),
        "recall": _Ratio(lambda tp, _fp, fn, _tn: (tp, tp + fn), (0, 1), both, "no_positives"),
        "specificity": _Ratio(lambda _tp, fp, _fn, tn: (tn, tn + fp), (0, 1), both, "no_negatives"),
        "accuracy": _Ratio(lambda tp, fp, fn, tn: (tp + tn, tp + fp + fn + tn), (0, 1), both, "no_labels"),
        "f1": _Ratio(_f(1.0), (0, 1), both, "no_positives"),
        "fbeta": _Ratio(_f(beta), (0, 1), both, "no_positives"),
    }


def with_never_labelled(
    measures: Mapping[str, Measure],
    counts: ScoreLabels,
    never: ScoreLabels,
    *,
    beta: float = 2.0,
    threshold: float | None = None,
    level: float = 0.95,
) -> dict[str, Measure]:
    """The realized measures of all predictions, of which ``never`` can have no label.

    Labels that have landed stand for those of the same decision that can still land.

    Parameters
    ----------
    measures
        The measures of ``counts`` alone, by name.
    counts
        The predictions that can be labelled.
    never
        Those that cannot; their labels, if any, are not looked at.
    threshold
        The decisions are those of this threshold; default: those that were taken.

    Returns
    -------
    Each measure as it is where it is identified; else without a value, with reason ``never_labelled`` and ``bounds``.
    Of PR-AUC no bounds are worked out: ``never_labelled`` alone.

    References
    ----------
    C. F. Manski, "Partial Identification of Probability Distributions", 2003.
    """
    if not never.n:
        return dict(measures)
    cells, sizes = _scaled(counts, threshold)
    unlabelled = _decided(never, threshold)
    # A decision of which no label has landed says as little: what it could be is within the bounds.
    unseen = tuple(0.0 if n else size for n, size in zip(sizes, _decided(counts, threshold), strict=True))
    told: dict[str, Measure] = {}
    for name, measure in measures.items():
        ratio = _ratios(beta).get(name)
        if name == "positive_rate":
            told[name] = performance(merge(counts, never), [name], level=level)[name]
        elif name == "prevalence":
            told[name] = _prevalence(measure, counts, never, level=level)
        elif ratio is not None:
            told[name] = _bounded(ratio, measure, cells, unlabelled, unseen=unseen, labelled=sizes, level=level)
        elif name in _OF_SCORES:
            told[name] = _of_scores(name, measure, counts, never)
        else:
            told[name] = Measure(None, n=measure.n, reason=NEVER)
    return told


def corrected_with_never_labelled(
    measures: Mapping[str, Measure], found: Fit | str, never: ScoreLabels, *, beta: float = 2.0, level: float = 0.95
) -> dict[str, Measure]:
    """The same for the corrected measures of the predictions that can be labelled, whose fit is ``found``.

    Those of the score are told by :func:`corrected_scores_with_never_labelled`.
    """
    if not never.n or isinstance(found, str):
        return dict(measures)
    unlabelled, told = _decided(never, None), {}
    for name, measure in measures.items():
        ratio = _ratios(beta).get(name)
        if ratio is None:
            told[name] = Measure(None, n=measure.n, reason=NEVER)
            continue
        if not _enters(ratio, unlabelled):
            told[name] = measure
            continue
        ends = [_by_delta(found, ratio, unlabelled, best=best) for best in (False, True)]
        told[name] = _from_ends(ends, n=measure.n, undefined=ratio.undefined, level=level)
    return told


_AT_A_THRESHOLD = ("precision", "recall", "f1", "specificity")


def thresholds_with_never_labelled(
    rows: Sequence[ThresholdRow],
    counts: ScoreLabels,
    never: ScoreLabels,
    *,
    table: Expected | None = None,
    level: float = 0.95,
) -> list[ThresholdRow]:
    """What other thresholds would have given of all predictions, of which ``never`` can have no label.

    ``rows`` are of ``counts``, the predictions that can be labelled; or of ``table``, what is to be expected of them.
    """
    if not never.n:
        return list(rows)
    everybody = merge(counts, never)
    told = []
    for row in rows:
        measures = {name: getattr(row, name) for name in _AT_A_THRESHOLD}
        if table is None:
            measures = with_never_labelled(measures, counts, never, threshold=row.threshold, level=level)
        else:
            measures = _expected_with_never_labelled(measures, table, never, row.threshold, level=level)
        rate = threshold_table(everybody, [row.threshold], level=level)[0].positive_rate
        told.append(ThresholdRow(row.threshold, row.confusion, **measures, positive_rate=rate))
    return told


def _expected_with_never_labelled(
    measures: Mapping[str, Measure], table: Expected, never: ScoreLabels, threshold: float, *, level: float
) -> dict[str, Measure]:
    above = (table.scores >= threshold).astype(float)
    sides = np.array([1 - above, above])
    positives, negatives = sides @ table.positives, sides @ table.negatives
    unlabelled = _decided(never, threshold)
    spread = table.spread(sides)

    def value(ratio: _Ratio, more: FloatArray, *, best: bool) -> float | None:
        """With so many more positives below the threshold, and above it."""
        p, n = positives + more, negatives - more
        return ratio.at((p[1], n[1], p[0], n[0]), unlabelled, best=best)

    told = {}
    for name, measure in measures.items():
        ratio = _ratios(1.0)[name]
        unseen = measure.value is None and measure.reason != "no_predicted_positives"
        if unseen or not _enters(ratio, unlabelled):
            told[name] = measure
            continue
        ends = []
        for best in (False, True):
            slope, step = np.zeros(2), 1e-3
            for side in (0, 1):
                up, down = (value(ratio, sign * step * np.eye(2)[side], best=best) for sign in (1, -1))
                slope[side] = 0.0 if up is None or down is None else (up - down) / (2 * step)
            ends.append((value(ratio, np.zeros(2), best=best), float(slope @ spread @ slope)))
        told[name] = _from_ends(ends, n=measure.n, undefined=ratio.undefined, level=level)
    return told


def _enters(ratio: _Ratio, never: Sequence[float]) -> bool:
    return any(used and n > 0 for used, n in zip(ratio.uses, never, strict=True))


def _by_delta(found: Fit, ratio: _Ratio, never: Sequence[float], *, best: bool) -> tuple[float | None, float]:
    def value(share: FloatArray) -> float | None:
        counts = expected_counts(found, share)
        return ratio.at((counts.tp, counts.fp, counts.fn, counts.tn), never, best=best)

    centre = value(found.share)
    slope, step = np.zeros(len(found.share)), 1e-4
    for k in np.flatnonzero(found.expected > 0):
        move = np.zeros(len(slope))
        move[k] = step
        up, down = value(found.share + move), value(found.share - move)
        slope[k] = 0.0 if up is None or down is None else (up - down) / (2 * step)
    return centre, float(slope @ found.covariance @ slope)


def _scaled(counts: ScoreLabels, threshold: float | None) -> tuple[Cells, tuple[int, int]]:
    """Confusion counts blown up to all that can be labelled, by decision; and how many are labelled of each decision.

    Decisions are negative, then positive.
    """
    matrix: Confusion = counts.confusion(threshold)
    labelled = (matrix.fn + matrix.tn, matrix.tp + matrix.fp)
    sizes = _decided(counts, threshold)
    grown = [size / n if n else 1.0 for size, n in zip(sizes, labelled, strict=True)]
    return (matrix.tp * grown[1], matrix.fp * grown[1], matrix.fn * grown[0], matrix.tn * grown[0]), labelled


def _decided(counts: ScoreLabels, threshold: float | None) -> tuple[float, float]:
    """Predictions decided negative, and positive."""
    if threshold is None:
        no, yes = counts.decisions()[:2]
        return float(no), float(yes)
    weight = (counts.positives + counts.negatives + counts.unlabelled).sum(axis=1)
    cut = int(np.searchsorted(counts.scores, threshold, side="left"))
    return float(weight[:cut].sum()), float(weight[cut:].sum())


def _bounded(
    ratio: _Ratio,
    measure: Measure,
    cells: Cells,
    never: Sequence[float],
    *,
    labelled: tuple[int, int],
    level: float,
    unseen: Sequence[float] = (0.0, 0.0),
) -> Measure:
    if not _enters(ratio, never):
        return measure
    never = [n + more for n, more in zip(never, unseen, strict=True)]
    if not sum(labelled):
        return Measure(None, n=measure.n, reason=measure.reason or "no_labels")
    ends = [
        (ratio.at(cells, never, best=best), _variance(ratio, cells, never, labelled, best=best))
        for best in (False, True)
    ]
    return _from_ends(ends, n=measure.n, undefined=measure.reason or ratio.undefined, level=level)


def _prevalence(measure: Measure, counts: ScoreLabels, never: ScoreLabels, *, level: float) -> Measure:
    """The share of positives, whatever was decided: the same sum as precision, over all predictions."""
    if measure.value is None:
        return measure
    cells = (counts.n * measure.value, counts.n * (1 - measure.value), 0.0, 0.0)
    unlabelled, labelled = (0.0, float(never.n)), (0, counts.n_labelled)
    return _bounded(_ratios(1.0)["precision"], measure, cells, unlabelled, labelled=labelled, level=level)


def _variance(ratio: _Ratio, cells: Cells, never: Sequence[float], labelled: tuple[int, int], *, best: bool) -> float:
    """Of the value at one end, by the delta method: three shares vary, each as a coin thrown so often.

    What came true of the negative and of the positive decisions, as often as they are labelled; and which decision was
    taken, as often as one was.  A share of 0 or 1 is taken half a throw inside, where it still has a spread.
    """
    tp, fp, fn, tn = cells
    yes, no = tp + fp, fn + tn
    size = yes + no
    throws = (labelled[1], labelled[0], size)
    shares = [part / whole if whole else 0.0 for part, whole in ((tp, yes), (fn, no), (yes, size))]

    def at(shares: Sequence[float]) -> float | None:
        of_yes, of_no, positive = shares
        many, rest = size * positive, size * (1 - positive)
        return ratio.at((many * of_yes, many * (1 - of_yes), rest * of_no, rest * (1 - of_no)), never, best=best)

    variance, step = 0.0, 1e-4
    for place, n in enumerate(throws):
        if n <= 1:
            continue
        inside = list(shares)
        inside[place] = share = min(max(shares[place], 0.5 / n), 1 - 0.5 / n)
        up, down = (at([*inside[:place], share + sign * step, *inside[place + 1 :]]) for sign in (1, -1))
        if up is not None and down is not None:
            variance += ((up - down) / (2 * step)) ** 2 * share * (1 - share) / n
    return variance


def _from_ends(ends: Sequence[tuple[float | None, float]], *, n: int, undefined: str, level: float) -> Measure:
    (low, low_variance), (high, high_variance) = ends
    if low is None or high is None:
        return Measure(None, n=n, reason=undefined)
    z = z_value(level)
    chance = (max(low - z * math.sqrt(low_variance), 0.0), min(high + z * math.sqrt(high_variance), 1.0))
    return _bounds(low, high, chance, n=n)


def _bounds(low: float, high: float, chance: tuple[float, float], *, n: int) -> Measure:
    return Measure(None, n=n, reason=NEVER, bounds=(low, high), chance=(min(chance[0], low), max(chance[1], high)))


# --- metrics of the score ---------------------------------------------------------------------------


def _of_scores(name: str, measure: Measure, counts: ScoreLabels, never: ScoreLabels) -> Measure:
    unlabelled = never.positives + never.negatives + never.unlabelled
    if not unlabelled.any():
        return measure
    if measure.reason not in (None, "one_class", "constant_scores"):
        return measure
    outside = bool(len(never.scores)) and (never.low < 0 or never.high > 1)
    if outside and name != "roc_auc":
        return Measure(None, n=measure.n, reason="scores_not_probabilities")
    table = _Table.of(counts, never)
    if measure.reason == "constant_scores" and np.count_nonzero(table.positives + table.negatives + table.never) == 1:
        return measure
    low, high = _OF_SCORES[name](table)
    if low is None or high is None:
        return Measure(None, n=measure.n, reason=measure.reason or "one_class")
    chance = (low, high)
    if measure.value is not None and measure.low is not None and measure.high is not None:
        # The never labelled do not vary: chance moves an end by at most what it moves the labelled part.
        chance = (max(low - (measure.value - measure.low), 0.0), high + (measure.high - measure.value))
    if name in ("roc_auc", "ece", "brier"):
        chance = (chance[0], min(chance[1], 1.0))
    return _bounds(low, high, chance, n=measure.n)


@dataclass(frozen=True, eq=False)
class _Table:
    """Positives, negatives and never labelled at the same increasing scores; all of shape ``(S,)``.

    Positives and negatives are blown up to all that can be labelled.
    """

    scores: FloatArray
    positives: FloatArray
    negatives: FloatArray
    never: FloatArray

    @classmethod
    def of(cls, counts: ScoreLabels, never: ScoreLabels) -> _Table:
        scores = np.union1d(counts.scores, never.scores)
        positives, negatives, unlabelled = (np.zeros(len(scores)) for _ in range(3))
        at, there = np.searchsorted(scores, counts.scores), np.searchsorted(scores, never.scores)
        pos, neg = counts.positives.sum(axis=1), counts.negatives.sum(axis=1)
        size = pos.sum() + neg.sum() + counts.unlabelled.sum()
        grown = size / max(int(pos.sum() + neg.sum()), 1)
        positives[at], negatives[at] = pos * grown, neg * grown
        unlabelled[there] = (never.positives + never.negatives + never.unlabelled).sum(axis=1)
        return cls(scores, positives, negatives, unlabelled)


def _area_bounds(table: _Table) -> tuple[float | None, float | None]:
    best = _best_area(table.positives, table.negatives, table.never)
    worst = _best_area(table.positives[::-1], table.negatives[::-1], table.never[::-1])
    return (None if worst is None else 1 - worst[0]), (None if best is None else best[0])


MOST_SINGLE = 2_000_000
"""Up to so many never labelled predictions are labelled one by one in the search for the best area."""


def _best_area(positives: FloatArray, negatives: FloatArray, never: FloatArray) -> tuple[float, FloatArray] | None:
    """The largest area over all labels of ``never``, and how many of them are positive at each score then.

    For any number of positives among them, those that score highest give the largest.
    Swapping a positive for a negative that scores higher never lowers the area; so it is enough to try each number.
    """
    step = max(1.0, float(never.sum()) / MOST_SINGLE)
    units = np.repeat(np.arange(len(never))[::-1], np.ceil(never[::-1] / step).astype(np.int64))
    size = np.ones(len(units))
    if step > 1:
        share = never / np.maximum(np.ceil(never / step), 1)
        size = share[units]
    total_neg = negatives + never
    below = np.cumsum(total_neg) - total_neg
    above = (positives + never).sum() - np.cumsum(positives + never)
    start = float(np.sum(positives * (below + total_neg / 2)))
    # Units of one score follow each other: how much of that score has been made positive before this one.
    first = np.concatenate([[True], units[1:] != units[:-1]]) if len(units) else np.zeros(0, bool)
    done = np.cumsum(size) - size
    before = done - np.maximum.accumulate(np.where(first, done, 0.0)) if len(units) else done
    tied_neg, tied_pos = total_neg[units] - before, positives[units] + before
    gain = size * (below[units] + (tied_neg - size) / 2 - above[units] - tied_pos / 2)
    pairs = start + np.concatenate([[0.0], np.cumsum(gain)])
    made = np.concatenate([[0.0], np.cumsum(size)])
    n_pos, n_neg = positives.sum() + made, total_neg.sum() - made
    good = (n_pos > 1e-9) & (n_neg > 1e-9)
    if not good.any():
        return None
    areas = np.where(good, pairs / np.where(good, n_pos * n_neg, 1.0), -1.0)
    most = int(np.argmax(areas))
    made_positive = np.bincount(units[:most], weights=size[:most], minlength=len(never))
    return min(float(areas[most]), 1.0), made_positive.astype(np.float64)


def _loss_bounds(of_positive: FloatArray, of_negative: FloatArray, table: _Table) -> tuple[float, float]:
    n = float(table.positives.sum() + table.negatives.sum() + table.never.sum())
    known = float(np.sum(table.positives * of_positive + table.negatives * of_negative))
    least = float(np.sum(table.never * np.minimum(of_positive, of_negative)))
    most = float(np.sum(table.never * np.maximum(of_positive, of_negative)))
    return (known + least) / n, (known + most) / n


def _brier_bounds(table: _Table) -> tuple[float, float]:
    return _loss_bounds((1 - table.scores) ** 2, table.scores**2, table)


def _log_loss_bounds(table: _Table) -> tuple[float, float]:
    tiny = np.finfo(np.float64).eps
    p = np.clip(table.scores, tiny, 1 - tiny)
    return _loss_bounds(-np.log(p), -np.log1p(-p), table)


def _ece_bounds(table: _Table) -> tuple[float, float]:
    """Bin by bin: the sum of what came true lies between that of the labelled, and that plus all never labelled."""
    place = np.searchsorted(np.linspace(0.0, 1.0, 11)[1:-1], table.scores)
    weight = table.positives + table.negatives + table.never
    gap = np.bincount(place, weights=table.positives - weight * table.scores, minlength=10)
    room = np.bincount(place, weights=table.never, minlength=10)
    least = np.maximum(np.maximum(gap, -(gap + room)), 0.0)
    most = np.maximum(np.abs(gap), np.abs(gap + room))
    return float(least.sum() / weight.sum()), float(most.sum() / weight.sum())


_OF_SCORES: Mapping[str, Callable[[_Table], tuple[float | None, float | None]]] = {
    "roc_auc": _area_bounds,
    "brier": _brier_bounds,
    "log_loss": _log_loss_bounds,
    "ece": _ece_bounds,
}


def corrected_scores_with_never_labelled(
    measures: Mapping[str, Measure],
    table: Expected | str,
    never: ScoreLabels,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Measure]:
    """The same for the corrected metrics of the score, from the counts to be expected of those that can be labelled.

    Of PR-AUC no bounds are worked out: ``never_labelled`` alone.
    """
    unlabelled = never.positives + never.negatives + never.unlabelled
    if not unlabelled.any() or isinstance(table, str):
        return dict(measures)
    outside = never.low < 0 or never.high > 1
    told = {}
    for name, measure in measures.items():
        if measure.value is None:
            told[name] = measure
        elif name == "roc_auc":
            told[name] = _expected_area(measure, table, never, level=level)
        elif name in ("brier", "log_loss", "ece") and outside:
            told[name] = Measure(None, n=measure.n, reason="scores_not_probabilities")
        elif name in ("brier", "log_loss"):
            told[name] = _expected_loss(name, measure, table, never)
        elif name == "ece":
            told[name] = _expected_ece(measure, table, never, level=level, seed=seed)
        else:
            told[name] = Measure(None, n=measure.n, reason=NEVER)
    return told


def _expected_table(table: Expected, never: ScoreLabels) -> tuple[_Table, IntArray]:
    """Both on the same scores, and where those of ``table`` are among them."""
    scores = np.union1d(table.scores, never.scores)
    at, there = np.searchsorted(scores, table.scores), np.searchsorted(scores, never.scores)
    positives, negatives, unlabelled = (np.zeros(len(scores)) for _ in range(3))
    positives[at], negatives[at] = table.positives, table.negatives
    unlabelled[there] = (never.positives + never.negatives + never.unlabelled).sum(axis=1)
    return _Table(scores, positives, negatives, unlabelled), at


def _expected_area(measure: Measure, table: Expected, never: ScoreLabels, *, level: float) -> Measure:
    """By the delta method at the labels that give either end: near it they stay the best, or the worst."""
    whole, at = _expected_table(table, never)
    ends: list[tuple[float | None, float]] = []
    for flip in (True, False):
        turn = slice(None, None, -1 if flip else 1)
        found = _best_area(whole.positives[turn], whole.negatives[turn], whole.never[turn])
        if found is None:
            return Measure(None, n=measure.n, reason="one_class")
        area, made = (1 - found[0] if flip else found[0]), found[1][turn]
        pos, neg = whole.positives + made, whole.negatives + whole.never - made
        n_pos, n_neg = float(pos.sum()), float(neg.sum())
        below = (np.cumsum(neg) - neg / 2) / n_neg
        above = (n_pos - np.cumsum(pos) + pos / 2) / n_pos
        of_positive, of_negative = (below - area) / n_pos, (above - area) / n_neg
        variance = float(table.spread((of_positive - of_negative)[None, at])[0, 0])
        # And the sampling error of those that can be labelled.
        variance += float(whole.positives @ of_positive**2 + whole.negatives @ of_negative**2)
        ends.append((area, variance))
    return _from_ends(ends, n=measure.n, undefined="one_class", level=level)


def _expected_loss(name: str, measure: Measure, table: Expected, never: ScoreLabels) -> Measure:
    whole, _ = _expected_table(table, never)
    low, high = (_brier_bounds if name == "brier" else _log_loss_bounds)(whole)
    rate, value = measure.rate or (measure.low, measure.high), measure.value
    if value is None or rate[0] is None or rate[1] is None:
        return measure
    part = table.size / (table.size + float(whole.never.sum()))
    chance = (max(low - part * (value - rate[0]), 0.0), high + part * (rate[1] - value))
    return _bounds(low, high, (chance[0], min(chance[1], 1.0) if name == "brier" else chance[1]), n=measure.n)


def _expected_ece(measure: Measure, table: Expected, never: ScoreLabels, *, level: float, seed: int) -> Measure:
    """Of draws of what the gaps will be: in each, the least and the most that the never labelled make of them."""
    kept, draws, sampling = gap_draws(table, seed)
    weight = (never.positives + never.negatives + never.unlabelled).sum(axis=1)
    place = np.searchsorted(bin_edges(), never.scores)
    size = len(bin_edges()) + 1
    room, mass = (np.bincount(place, weights=each, minlength=size) for each in (weight, weight * never.scores))
    n = table.size + float(weight.sum())
    gap = np.zeros((len(draws), size))
    gap[:, kept] = draws * table.size
    gap -= mass
    least = np.maximum(np.maximum(gap, -(gap + room)), 0.0).sum(axis=1) / n
    most = np.maximum(np.abs(gap), np.abs(gap + room)).sum(axis=1) / n
    half = z_value(level) * math.sqrt(sampling) * table.size / n
    low, high = float(least.mean()), float(most.mean())
    ends = float(np.quantile(least, (1 - level) / 2)), float(np.quantile(most, (1 + level) / 2))
    chance = (max(low - math.hypot(low - ends[0], half), 0.0), min(high + math.hypot(ends[1] - high, half), 1.0))
    return _bounds(low, high, chance, n=measure.n)


# --- worth ------------------------------------------------------------------------------------------


def corrected_value_bounds(measure: Measure, never: ScoreLabels, worth: Mapping[Any, float]) -> Measure:
    """The corrected mean worth of a decision, over all predictions; ``measure`` is of those that can be labelled."""
    unlabelled = _decided(never, None)
    if not sum(unlabelled) or measure.value is None or measure.rate is None:
        return measure
    n = measure.n + sum(unlabelled)
    ends = [(measure.n * measure.value + _unknown_worth(unlabelled, worth, pick=pick)) / n for pick in (min, max)]
    below, above = measure.value - measure.rate[0], measure.rate[1] - measure.value
    chance = (ends[0] - below * measure.n / n, ends[1] + above * measure.n / n)
    return _bounds(ends[0], ends[1], chance, n=measure.n)


def _unknown_worth(
    never: Sequence[float], worth: Mapping[Any, float], *, pick: Callable[[float, float], float]
) -> float:
    """What never labelled decisions, negative and positive ones, are worth together at the least, or the most."""
    of_positive = pick(float(worth.get("tp", 0.0)), float(worth.get("fp", 0.0)))
    return never[1] * of_positive + never[0] * pick(float(worth.get("fn", 0.0)), float(worth.get("tn", 0.0)))


def value_bounds(measure: Measure, counts: ScoreLabels, never: ScoreLabels, worth: Mapping[Any, float]) -> Measure:
    """The mean worth of a decision over all predictions, as bounds where some have no label ever."""
    unlabelled = _decided(never, None)
    if not sum(unlabelled) or measure.value is None:
        return measure
    cells, _ = _scaled(counts, None)
    outcomes = ("tp", "fp", "fn", "tn")
    known = sum(n * float(worth.get(name, 0.0)) for n, name in zip(cells, outcomes, strict=True))
    n = sum(cells) + sum(unlabelled)
    ends = [(known + _unknown_worth(unlabelled, worth, pick=pick)) / n for pick in (min, max)]
    half = ((measure.high or measure.value) - measure.value) * sum(cells) / n
    return _bounds(ends[0], ends[1], (ends[0] - half, ends[1] + half), n=measure.n)
