"""Do labels land later than they used to?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from detectors.completeness import MIN_GROUPS, Ahead
from detectors.delay import MIN_COMPLETENESS, MIN_LABELS, DelayLaw
from detectors.delay_counts import DelayCounts
from detectors.profiles import FloatArray

SURE = 1e-4
"""Labels count as later than before when chance alone is less likely than this."""
FEW = 10
"""With fewer labels of a class in a stretch nothing is said of their delay."""
MIN_CELL = 50
"""Labels of one class and stratum in the usual stretch, with which they are looked at by themselves."""
ALONE = 0.25
"""Fewer labels by an age are later ones when those of each class are fewer, by at least this part of it in log-odds:
else it is their mix that has changed."""
BEYOND = math.log((1 - MIN_COMPLETENESS) / MIN_COMPLETENESS)
"""Log-odds of having landed beyond which there is no difference."""
STEADY = 0.5
"""Mean delays of what has landed differ less between weeks than the odds of having landed do: by about this."""
TELLING = 0.2
"""Where everything twice as slow would change the mean delay of what has landed by less (its logarithm), it does not
tell the pace: then the factor is that of the mean delays, which is too small if labels are still to come."""
FLAT = 3.0
"""By at most so many times the logarithm of the mean delay's change labels are slower: where its curve is flat, a pace
that explains the change may be anything."""
PACES = np.linspace(-2, 2, 41)


@dataclass(frozen=True)
class DelayChange:
    """How much longer labels of recent predictions take than before: a factor with its interval and p-value.

    ``label`` is the class that it is about, and ``stratum`` the stratum of predictions; ``None`` is all together.
    ``creeps`` if they take longer from stretch to stretch, and not since one of them.
    """

    factor: float
    low: float
    high: float
    p_value: float
    label: int | None
    n: int
    stratum: int | None = None
    creeps: bool = False


@dataclass(frozen=True, eq=False)
class Stretches:
    """Stretches of windows, oldest first and the one in question last, each as it was known at the same ages.

    Parameters
    ----------
    labels, total, squares
        How many labels of each stratum and class had landed, and the sums of their delays (seconds) and of the squares
        of these: shape ``(S, K, 2)``.
    predictions
        Shape ``(S, K)``.
    noise
        By how much chance varies more than in a plain sum of windows, shape ``(S,)``: windows of earlier stretches are
        weighted as their volumes are in the last one, or a sudden growth would make its labels look younger.
    ages, landed
        The ages of the windows of the last stretch, and how many labels of either class each shows: ``(M,)``,
        ``(M, 2)``.
    """

    labels: FloatArray
    total: FloatArray
    squares: FloatArray
    predictions: FloatArray
    noise: FloatArray
    ages: FloatArray
    landed: FloatArray


class Landings:
    """What windows show of their labels' delays at any age: put together once, and read for many stretches."""

    def __init__(self, windows: Sequence[DelayCounts], *, by_stratum: bool = False) -> None:
        self.edges = windows[0].edges
        whole = not by_stratum
        landed = np.stack([each.landed.sum(axis=0, keepdims=True) if whole else each.landed for each in windows])
        middle = (self.edges[1:] + self.edges[:-1]) / 2
        empty = np.zeros((*landed.shape[:3], 1))
        self._labels, self._total, self._squares = (
            np.concatenate([empty, np.cumsum(landed * weight, axis=3)], axis=3)
            for weight in (np.ones_like(middle), middle, middle**2)
        )
        predictions = np.stack([each.predictions for each in windows])
        self._predictions = predictions.sum(axis=1, keepdims=True) if whole else predictions

    def stretches(self, places: Sequence[npt.NDArray[np.int64]], ages: FloatArray) -> Stretches:
        """The windows at ``places`` of each stretch, its m-th as it was known when all of it was ``ages[m]`` old.

        An age below 0 leaves the window out, of every stretch; so does a place below 0.
        """
        over = np.searchsorted(self.edges[1:], ages, side="right")
        chosen = np.stack(places)
        held = (ages >= 0) & (chosen >= 0)
        volume = np.where(held, self._predictions.sum(axis=1)[chosen], 0.0)
        usual = volume / np.maximum(volume.sum(axis=1, keepdims=True), 1.0)
        weight = np.divide(usual[-1], usual, out=np.zeros_like(usual), where=usual > 0)
        part = np.maximum((weight * volume).sum(axis=1), 1e-9)
        labels, total, squares = (
            np.einsum("sm,smkc->skc", weight, each[chosen, :, :, over])
            for each in (self._labels, self._total, self._squares)
        )
        return Stretches(
            labels,
            total,
            squares,
            np.einsum("sm,smk->sk", weight, self._predictions[chosen].astype(float)),
            np.maximum((weight**2 * volume).sum(axis=1) / part, 1.0),
            self.edges[over],
            self._labels[chosen[-1], :, :, over].sum(axis=1) * held[-1][:, None],
        )


def delay_change(
    looks: Sequence[Stretches], law: DelayLaw, *, by_stratum: bool = False, level: float = 0.95
) -> DelayChange | None:
    """Do labels land later (or sooner) than they did?  Of each class, of each stratum, and of all; the surest change.

    Of each class it is the mean delay of the labels that have landed, given that they have; of all labels, the share of
    the predictions that has one.  Either is asked whether the last stretch is as the ones before let expect, which show
    how much they differ beyond chance, and wander (:class:`detectors.completeness.Ahead`); and whether there is a trend
    from each stretch to the next, which no stretch by itself would show.  P-values are multiplied by how many there
    are.  ``None`` with too few labels, or stretches.

    Parameters
    ----------
    looks
        Stretches that follow each other: the last one ends now, in another look some weeks ago, when more of its labels
        are in.
    law
        That of all strata together, from which follows by how much labels are slower if fewer have landed.
    by_stratum
        Whether each stratum is looked at by itself as well.

    Notes
    -----
    The trend is told by the increments from stretch to stretch (t-test of their mean): where delays only wander, as a
    random walk does, it is exact, and where stretches differ by chance it errs on the side of silence.
    """
    found = [each for look in looks for each in _asked(look, law, by_stratum=by_stratum)]
    told: list[DelayChange] = []
    for each in sorted(found, key=lambda one: one.p_value):
        p_value = min(1.0, len(found) * each.p_value)
        if told and p_value > SURE:
            break
        told.append(each.told(law, p_value, level))
    sure = [each for each in told if each.p_value <= SURE]
    return max(sure, key=_least, default=told[0] if told else None)


def _least(change: DelayChange) -> float:
    """The change that the interval allows at least."""
    return max(math.log(change.low), -math.log(change.high))


class _Whose(NamedTuple):
    """The labels that a question is about, and how many of them there are."""

    label: int | None
    stratum: int | None
    n: int


@dataclass(frozen=True)
class _Asked:
    """One question asked of one look: how unlikely what it shows is without change."""

    look: Stretches
    value: float
    chance: float
    expected: Ahead
    p_value: float
    whose: _Whose
    creeps: bool

    def told(self, law: DelayLaw, p_value: float, level: float) -> DelayChange:
        """The same as a factor."""
        usual = [self.expected.quantile(share, self.chance) for share in (0.5, (1 - level) / 2, (1 + level) / 2)]
        if self.whose.label is None:
            # Where the curve is flat a share belongs to many ages: a standard error nearer, so that it is the nearest.
            error = math.sqrt(self.chance)
            nearer = (min(max(each, self.value - error), self.value + error) for each in usual)
            factor, low, high = (_log_factor(law, now, each) for now, each in zip(nearer, usual, strict=True))
        else:
            means = np.log(_mean_delays(self.look, law, self.whose.label))
            longer = [self.value - each for each in usual]
            middle = len(PACES) // 2
            if means[middle - 7] - means[middle] < TELLING or not means[-1] < self.value < means[0]:
                factor, high, low = longer
            else:
                at, *usual_at = (float(np.interp(-each, -means, PACES)) for each in (self.value, *usual))
                bounds = [sorted((0.0, FLAT * each)) for each in longer]
                paces = (each - at for each in usual_at)
                factor, high, low = (
                    min(max(pace, least), most) for pace, (least, most) in zip(paces, bounds, strict=True)
                )
        factor, low, high = (math.exp(each) for each in (factor, low, high))
        label, stratum, n = self.whose
        return DelayChange(factor, low, high, p_value, label, n, stratum, self.creeps)


def _asked(look: Stretches, law: DelayLaw, *, by_stratum: bool) -> list[_Asked]:
    known = [label for label in (0, 1) if law.n[label] >= MIN_LABELS]
    found = _of_all(look, None) + [each for label in known for each in _of_labels(look, label, None)]
    usual = look.labels[:-1].mean(axis=0)
    strata = np.flatnonzero(usual.sum(axis=1) >= MIN_CELL).tolist() if by_stratum else []
    for stratum in strata if len(strata) > 1 else []:
        found += _of_all(look, stratum)
        found += [
            each for label in known if usual[stratum, label] >= MIN_CELL for each in _of_labels(look, label, stratum)
        ]
    return found


def _chosen(stratum: int | None) -> slice:
    return slice(None) if stratum is None else slice(stratum, stratum + 1)


def _of_labels(look: Stretches, label: int, stratum: int | None) -> list[_Asked]:
    """Of the mean delay of the labels of one class."""
    chosen = _chosen(stratum)
    n, total, squares = (each[:, chosen, label].sum(axis=1) for each in (look.labels, look.total, look.squares))
    held = n >= FEW
    if not held[-1] or held.sum() <= MIN_GROUPS or _is_contrary(look, chosen, label):
        return []
    n, mean = n[held], total[held] / n[held]
    chance = look.noise[held] * np.maximum(squares[held] / n - mean**2, 0.0) / (n * mean**2) + 1e-6
    return _both_ways(look, np.log(mean), chance, _Whose(label, stratum, int(n[-1])), unlike=STEADY)


def _is_contrary(look: Stretches, chosen: slice, label: int) -> bool:
    """Whether labels that are missing, or are more than usual, could be all there is to a change of the mean delay.

    Where the slow half of the labels is slower still, those that have landed are the fast ones: their mean delay falls,
    and they are fewer.  So it is asked what it would be with the missing ones, had they come last.
    """
    n, total = (each[:, chosen, label].sum(axis=1) for each in (look.labels, look.total))
    whole, oldest = look.predictions[:, chosen].sum(axis=1), float(look.ages.max())
    usual_n = n[:-1].sum() / max(whole[:-1].sum(), 1.0) * whole[-1]
    usual, now = total[:-1].sum() / max(n[:-1].sum(), 1.0), total[-1] / n[-1]
    chance = 2 * math.sqrt(look.noise[-1] * n[-1])
    if now < usual:
        missing = max(usual_n - n[-1] + chance, 0.0)
        return bool((total[-1] + missing * oldest) / (n[-1] + missing) >= usual)
    more = min(max(n[-1] - usual_n + chance, 0.0), n[-1] - 1)
    return bool((total[-1] - more * oldest) / (n[-1] - more) <= usual)


def _of_all(look: Stretches, stratum: int | None) -> list[_Asked]:
    """Of the share of predictions that has a label."""
    chosen = _chosen(stratum)
    part, whole = look.labels[:, chosen].sum(axis=(1, 2)), look.predictions[:, chosen].sum(axis=1)
    held = whole > 0
    if not held[-1] or held.sum() <= MIN_GROUPS:
        return []
    # A stretch that no batch has reached is a silence, and one that is all but complete has no pace.
    odds = np.clip(_log_odds(part[held], whole[held]), -BEYOND, BEYOND)
    chance = look.noise[held] * (1 / (part[held] + 0.5) + 1 / (np.maximum(whole[held] - part[held], 0) + 0.5))
    # Where no batch had come yet in some earlier stretch, the share says when one comes, and not how fast labels are.
    if (odds[:-1] <= -BEYOND).any():
        return []
    found = _both_ways(look, odds, chance, _Whose(None, stratum, int(part[-1])))
    usual = (float(each.expected.centre @ each.expected.weight) for each in found)
    return [each for each, at in zip(found, usual, strict=True) if _all_alike(look, chosen, each.value - at)]


def _log_odds(part: npt.ArrayLike, whole: npt.ArrayLike) -> FloatArray:
    some, every = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.asarray(np.log((some + 0.5) / (np.maximum(every - some, 0) + 0.5)))


def _both_ways(
    look: Stretches, value: FloatArray, chance: FloatArray, whose: _Whose, *, unlike: float = 1.0
) -> list[_Asked]:
    """Whether the last value is as the others let expect, and whether there is a trend in them all."""
    now, spread, found = float(value[-1]), float(chance[-1]), []
    # A change in the stretches just before would teach what is usual.
    for left_out in (1, LEFT_OUT):
        last = max(len(value) - 1 - left_out, MIN_GROUPS)
        if left_out == LEFT_OUT and last < MIN_TREND:
            continue
        ahead = Ahead.of_next(value[:last], chance[:last], unlike=unlike, steps=float(len(value) - last))
        p_value = ahead.p_value(now, spread)
        found.append(_Asked(look, now, spread, ahead, p_value, whose, creeps=False))
    if len(value) >= MIN_TREND:
        first = len(value) // 3
        of_walk = float(np.var(np.diff(value), ddof=1))
        error = math.sqrt(max(of_walk, (chance[0] + chance[-1]) / (len(value) - 1)) / (len(value) - 1))
        p_value = 2 * float(scipy.special.stdtr(len(value) - 2, -abs(value[-1] - value[0]) / (len(value) - 1) / error))
        before = Ahead(value[:first].mean(keepdims=True), np.sqrt([of_walk + chance[:first].mean()]), np.ones(1))
        found.append(_Asked(look, now, spread, before, p_value, whose, creeps=True))
    return found


LEFT_OUT = 4
"""So many stretches before the last one are left out of what is usual, as well as one: to see what has come slowly."""
MIN_TREND = 8
"""Fewer stretches do not tell a trend from a walk."""


def _all_alike(look: Stretches, chosen: slice, change: float) -> bool:
    """Whether each class has moved the way that all labels have, or no more than by chance against it."""
    labels, whole = look.labels[:, chosen].sum(axis=1), look.predictions[:, chosen].sum(axis=1)
    for label in (0, 1):
        usual = float(labels[:-1, label].sum())
        moved = float(_log_odds(labels[-1, label], whole[-1]) - _log_odds(usual, whole[:-1].sum()))
        chance = 2 * math.sqrt(look.noise[-1] / (labels[-1, label] + 0.5))
        if usual >= MIN_LABELS and moved * math.copysign(1, change) + chance < ALONE * abs(change):
            return False
    return True


def _mean_delays(look: Stretches, law: DelayLaw, label: int) -> FloatArray:
    """The mean delay that the labels of a class should have at each of ``PACES``, in seconds; decreasing.

    Of a label of a prediction aged t that has landed, the law expects a delay of ``t - ∫ F(x) dx / F(t)``, x from 0 to
    t; the ages are those of the predictions whose labels these are.
    """
    share = np.interp(law.edges * np.exp(PACES)[:, None], law.edges, law.share[:, label].mean(axis=0))
    area = np.cumsum((share[:, 1:] + share[:, :-1]) / 2 * np.diff(law.edges), axis=1)
    expected = law.edges[1:] - np.divide(area, share[:, 1:], out=np.zeros_like(area), where=share[:, 1:] > 0)
    place = np.clip(np.searchsorted(law.edges, look.ages) - 1, 0, len(law.edges) - 2)
    weight = look.landed[:, label] / max(float(look.landed[:, label].sum()), 1.0)
    return np.asarray(np.minimum.accumulate(np.maximum(expected[:, place] @ weight, 1.0)))


def _log_factor(law: DelayLaw, now: float, usual: float) -> float:
    """By how much longer labels take, if their share among the predictions is ``now`` and not ``usual`` (log-odds).

    On the curve of all labels, at the age at which that share is usual.
    """
    weight = np.array(law.n) / max(sum(law.n), 1)
    curve = (law.share.mean(axis=0) * weight[:, None]).sum(axis=0)
    most = 1 - law.never[0]
    first, second = (
        max(float(np.interp(1 / (1 + math.exp(-odds)) / most, curve, law.edges)), law.edges[1]) for odds in (now, usual)
    )
    return float(np.clip(math.log(second / first), -2, 2))
