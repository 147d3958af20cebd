"""What the labels that have landed say about all of them, when *which* label lands first is not random.

A fraud is confirmed in days, its absence after months; so the labels of a young window are nearly all positive.  The
delay law F_y(a) = P(landed by age a | class y) is learned from older windows, per stratum of predictions where the data
allow, and corrects for that; where a class could not have been observed yet there is no answer.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy

from detectors.profiles import FloatArray, IntArray, ProfileError

MIN_COMPLETENESS = 0.02
"""Below this share of a class having landed, a label of it would stand for more than 50 others: no answer."""
MIN_LABELS = 30
"""Labels of a class from which its law may be learned."""
POOLING = 300
"""A stratum's own law weighs ``n / (n + POOLING)`` against that of its class, n being its labels of that class."""

_HEADER = struct.Struct("<4sBHIdd")
_MAGIC = b"DLAY"
_VERSION = 2


@dataclass(frozen=True, eq=False)
class DelayCounts:
    """Sufficient counts of label delays in K strata of predictions; those of several groups of predictions add up.

    Parameters
    ----------
    edges
        Increasing ages in seconds, shape ``(D + 1,)``, from 0; bin ``d`` is ``(edges[d], edges[d + 1]]`` (bin 0 with
        its left end).  What lands later than the last edge is not part of the law.
    landed
        Labels of class y with a delay in bin d, of predictions old enough for the bin to be over: ``(K, 2, D)``.
    at_risk
        Of the same predictions, labels of class y with a delay in bin d or before: shape ``(K, 2, D)``.
    ripe, ripe_labelled
        Predictions at least ``mature`` old, and how many of them have a label: shape ``(K,)``.
    mature
        The age in seconds at which a prediction without a label is taken to stay without.
    as_of
        When they were counted, in seconds since 1970; 0 where that does not matter.
    """

    edges: FloatArray
    landed: IntArray
    at_risk: IntArray
    ripe: IntArray
    ripe_labelled: IntArray
    mature: float = 0.0
    as_of: float = 0.0

    @property
    def n(self) -> IntArray:
        """Labels that the law of each class rests on, shape ``(2,)``."""
        return np.asarray(self.landed.sum(axis=(0, 2)), dtype=np.int64)


def age_edges(horizon: float, bins: int = 120) -> FloatArray:
    """Ages up to ``horizon`` seconds, finer where labels are young: ``horizon (i / bins)²``."""
    return np.asarray(horizon * (np.arange(bins + 1) / bins) ** 2, dtype=np.float64)


def count_delays(
    delays: npt.ArrayLike,
    labels: npt.ArrayLike,
    ages: npt.ArrayLike,
    *,
    edges: FloatArray,
    strata: npt.ArrayLike | None = None,
    n_strata: int = 1,
    mature: float | None = None,
    as_of: float = 0.0,
) -> DelayCounts:
    """Count delays of labels that have landed.

    Parameters
    ----------
    delays
        Landing time less prediction time in seconds, shape ``(n,)``; NaN where no label has landed, or where it is not
        known when.  Negative delays count as 0.
    labels
        0 or 1 (bool), shape ``(n,)``; NaN where no label has landed.
    ages
        Age of each prediction as of now, in seconds, shape ``(n,)``.
    strata
        Number of each prediction's stratum, below ``n_strata``, shape ``(n,)``; absent: all in stratum 0.
    mature, as_of
        As in :class:`DelayCounts`; ``mature`` is by default the last edge.
    """
    delay, label, age = (np.asarray(part, dtype=np.float64) for part in (delays, labels, ages))
    if not delay.shape == label.shape == age.shape:
        raise ValueError(f"delays, labels and ages differ in shape: {delay.shape}, {label.shape}, {age.shape}")
    stratum = np.zeros(delay.shape, np.int64) if strata is None else np.asarray(strata, dtype=np.int64)
    n_bins = len(edges) - 1
    known = ~np.isnan(label)
    held = np.flatnonzero(known & (delay <= age) & (delay <= edges[-1]))  # NaN is in no order
    place = places(edges[1:], np.maximum(delay.take(held), 0.0), side="left")
    over = places(edges[1:], age.take(held), side="right")  # this many bins are over
    first = (2 * stratum.take(held) + (label.take(held) != 0)) * (n_bins + 1)
    inside = place < over
    if not inside.all():
        first, place, over = first[inside], place[inside], over[inside]
    # Each label is in its own bin's events, and at risk in every bin from its own to the last that is over.
    begun, ended = (
        np.bincount(first + bins, minlength=2 * n_strata * (n_bins + 1)).reshape(n_strata, 2, n_bins + 1)
        for bins in (place, over)
    )
    landed, at_risk = begun[:, :, :-1].astype(np.int64), (begun - ended).astype(np.int64)
    mature = float(edges[-1]) if mature is None else mature
    ripe = age >= mature
    return DelayCounts(
        np.asarray(edges, dtype=np.float64),
        landed,
        np.cumsum(at_risk, axis=2)[:, :, :-1],
        np.bincount(stratum[ripe], minlength=n_strata).astype(np.int64),
        np.bincount(stratum[ripe & known], minlength=n_strata).astype(np.int64),
        mature,
        as_of,
    )


def places(edges: FloatArray, values: FloatArray, *, side: Literal["left", "right"]) -> IntArray:
    """What ``np.searchsorted`` gives, for values from 0 to infinity, and several times faster where these are many.

    A value lies in one of equal cells; all edges of lower cells are below it, and only those of its own are compared.
    """
    if len(values) < _WORTH or not len(edges) or not 1e-9 < edges[-1] < np.inf or edges[0] < 0:
        return np.searchsorted(edges, values, side=side)
    scale = _CELLS / edges[-1]
    cells = (edges * scale).astype(np.int64)  # in the order of the edges, as those of the values are
    per_cell = np.bincount(cells, minlength=_CELLS + 2)
    if per_cell.max() > _COMPARED:
        return np.searchsorted(edges, values, side=side)
    below = np.cumsum(per_cell) - per_cell
    found = below.take((np.minimum(values, edges[-1]) * scale).astype(np.int64))
    further, passed = np.append(edges, np.nan), np.less if side == "left" else np.less_equal
    for _ in range(per_cell.max()):
        found += passed(further.take(found), values)
    return np.asarray(found, dtype=np.int64)


_WORTH, _CELLS, _COMPARED = 4096, 1 << 16, 4


def known_by(counts: DelayCounts, age: float) -> DelayCounts:
    """What of these counts was known already when their youngest prediction was ``age`` seconds old.

    Bins that were not over by then for every prediction are left out; and so are ripe predictions, if not all were.
    A label that was corrected since counts as it does now.
    """
    over = counts.edges[1:] <= age
    ripe = counts.mature <= age
    return replace(
        counts,
        landed=counts.landed * over,
        at_risk=counts.at_risk * over,
        ripe=counts.ripe * ripe,
        ripe_labelled=counts.ripe_labelled * ripe,
    )


def fits(first: DelayCounts, second: DelayCounts) -> bool:
    """Whether two counts are over the same ages and strata."""
    alike = first.landed.shape == second.landed.shape and first.mature == second.mature
    return alike and np.array_equal(first.edges, second.edges)


def merge(first: DelayCounts, second: DelayCounts) -> DelayCounts:
    """The counts of the predictions of both.

    Raises
    ------
    ProfileError
        The two were counted over different ages or strata.
    """
    if not fits(first, second):
        raise ProfileError("label delays were counted over different age bins or strata")
    return DelayCounts(
        first.edges,
        first.landed + second.landed,
        first.at_risk + second.at_risk,
        first.ripe + second.ripe,
        first.ripe_labelled + second.ripe_labelled,
        first.mature,
        max(first.as_of, second.as_of),
    )


def to_bytes(counts: DelayCounts) -> bytes:
    """Pack for storage; :func:`from_bytes` gives the same counts back, on any machine."""
    n_strata, _, n_bins = counts.landed.shape
    whole = np.concatenate([
        counts.landed.ravel(), counts.at_risk.ravel(), counts.ripe, counts.ripe_labelled
    ])  # fmt: skip
    body = counts.edges.astype("<f8").tobytes() + whole.astype("<i8").tobytes()
    header = _HEADER.pack(_MAGIC, _VERSION, n_strata, n_bins, counts.mature, counts.as_of)
    return header + zlib.compress(body, 6)


def from_bytes(blob: bytes) -> DelayCounts:
    """Unpack what :func:`to_bytes` packed.

    Raises
    ------
    ProfileError
        The bytes are damaged, of something else, or of a newer version.
    """
    try:
        magic, version, n_strata, n_bins, mature, as_of = _HEADER.unpack_from(blob)
        if magic != _MAGIC or version != _VERSION:
            raise ProfileError(f"expected label delays of version {_VERSION}, found {magic!r} {version}")
        body = zlib.decompress(blob[_HEADER.size :])
        edges = np.frombuffer(body, "<f8", n_bins + 1).astype(np.float64)
        cells = 2 * n_strata * n_bins
        whole = np.frombuffer(body, "<i8", 2 * cells + 2 * n_strata, 8 * (n_bins + 1)).astype(np.int64)
    except (struct.error, zlib.error, ValueError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f"these {len(blob)} bytes are not label delays: {error}") from error
    shape = (n_strata, 2, n_bins)
    return DelayCounts(
        edges,
        whole[:cells].reshape(shape),
        whole[cells : 2 * cells].reshape(shape),
        whole[2 * cells : 2 * cells + n_strata],
        whole[2 * cells + n_strata :],
        mature,
        as_of,
    )


# --- the law ---------------------------------------------------------------------------------------


class Completeness(NamedTuple):
    """The share of a class that has landed by an age, and the variance of its logarithm."""

    share: float
    log_variance: float


@dataclass(frozen=True, eq=False)
class DelayLaw:
    """F_y(a) at the ends of the age bins: ``share`` and the variance of its logarithm, both ``(K, 2, D + 1)``.

    Parameters
    ----------
    n
        Labels of either class that it was learned from.
    odds
        Log-odds of a positive in each stratum of the past, shape ``(K,)``; only their differences are used.
    never
        The usual share of predictions that never get a label, and the standard deviation of its log-odds over windows.
    pace
        For either class, the log pace of labels expected of the window in question: 0.1 is everything landing a tenth
        sooner than in the windows learned from, on the whole.
    clock
        For either class, the standard deviation of a window's log pace around that.
    """

    edges: FloatArray
    share: FloatArray
    log_variance: FloatArray
    n: tuple[int, int]
    odds: FloatArray | None = None
    never: tuple[float, float] = (0.0, 0.0)
    pace: tuple[float, float] = (0.0, 0.0)
    clock: tuple[float, float] = (0.0, 0.0)

    def at(self, ages: FloatArray, *, pace: Sequence[float] | FloatArray | None = None) -> FloatArray:
        """F at each age, shape ``(G, K, 2)``, where labels come ``e^pace`` times as fast as learned.

        ``pace`` is by default that expected of the window in question.
        """
        pace = self.pace if pace is None else pace
        found = np.empty((len(ages), self.share.shape[0], 2))
        for label in (0, 1):
            moved = ages * math.exp(pace[label])
            place = np.clip(np.searchsorted(self.edges, moved, side="right") - 1, 0, len(self.edges) - 2)
            width = self.edges[place + 1] - self.edges[place]
            part = np.clip((moved - self.edges[place]) / width, 0.0, 1.0)
            low, high = self.share[:, label, place], self.share[:, label, place + 1]
            found[:, :, label] = (low + (high - low) * part).T
        return found

    def completeness(self, age: float, label: int, stratum: int = 0) -> Completeness:
        """The share of class ``label`` that has landed by ``age`` seconds; linear inside a bin."""
        share = float(np.interp(age, self.edges, self.share[stratum, label]))
        return Completeness(share, float(np.interp(age, self.edges, self.log_variance[stratum, label])))


def learn(
    counts: DelayCounts,
    *,
    windows: Sequence[DelayCounts] = (),
    times: Sequence[float] | None = None,
    target: float = 0.0,
) -> DelayLaw:
    """Learn the delay law from predictions of any age.

    A young prediction shows only its short delays, which would make delays look short; so time is run backwards:
    ``g(d) = landed(d) / at_risk(d)`` is the probability that a label which landed by the end of bin d landed in it, and
    ``F(a) = Π_{d > a} (1 - g(d))``, a Kaplan–Meier estimator in reverse, with Greenwood's variance of ``log F``.  The
    law of a stratum is drawn towards that of its class as far as its own labels are few (``POOLING``).

    Parameters
    ----------
    counts
        Those of all predictions to learn from.
    windows
        The same, window by window: how much windows differ beyond chance becomes ``never``, ``pace`` and ``clock``.
    times, target
        When each of ``windows`` was, and when the window in question is, in days; by default windows follow each other
        day by day, and what is in question is a stretch of whole weeks after them.  With times, a weekday whose labels
        come at a pace of their own is learned from windows of that weekday.

    Notes
    -----
    F is of labels that land within the largest age for which there are data: it is 1 there.  A class without any
    label has F = 0 at all ages: it has never been observed.

    References
    ----------
    S. W. Lagakos, L. M. Barraj & V. De Gruttola, "Nonparametric analysis of truncated survival data, with application
    to AIDS", Biometrika 1988; J. F. Lawless, "Adjustments for reporting delays", Can. J. Statist. 1994.
    """
    law = _law(counts)
    if not windows:
        ripe, labelled = int(counts.ripe.sum()), int(counts.ripe_labelled.sum())
        missing = 1 - labelled / ripe if ripe else 0.0
        error = 1 / math.sqrt(max(ripe * missing * (1 - missing), 1.0))
        return replace(law, never=(missing, error))
    when = np.arange(-len(windows), 0.0) if times is None else np.asarray(times, dtype=np.float64)
    away, never = when - target, _never(windows)
    same = np.ones(len(windows), bool) if times is None else _same_weekday(law, windows, away)
    if not same.all():
        windows = [each for each, held in zip(windows, same, strict=True) if held]
        away = away[same] / 7  # a week is to such windows what a day is to others
        law = replace(_law(reduce(merge, windows)), odds=law.odds)
    weekly = times is None
    of_negatives, of_positives = (_expected_pace(law, windows, away, label, weekly=weekly) for label in (0, 1))
    return replace(
        law,
        never=never,
        pace=(of_negatives[0], of_positives[0]),
        clock=(of_negatives[1], of_positives[1]),
    )


def _law(counts: DelayCounts) -> DelayLaw:
    """The law of all that was counted, per stratum and class."""
    n_strata = counts.landed.shape[0]
    whole, whole_variance = _reversed_product(counts.landed.sum(axis=0), counts.at_risk.sum(axis=0))
    share, variance = np.repeat(whole[None], n_strata, axis=0), np.repeat(whole_variance[None], n_strata, axis=0)
    for stratum in range(n_strata) if n_strata > 1 else ():
        own, own_variance = _reversed_product(counts.landed[stratum], counts.at_risk[stratum])
        n = counts.landed[stratum].sum(axis=1).astype(float)[:, None]
        weight = np.where(n > 0, n / (n + POOLING), 0.0)
        share[stratum] = weight * own + (1 - weight) * whole
        variance[stratum] = weight**2 * own_variance + (1 - weight) ** 2 * whole_variance
    sizes = (int(counts.n[0]), int(counts.n[1]))
    totals = counts.landed.sum(axis=2) + 5 * (counts.n + 1) / (counts.n.sum() + 2)
    return DelayLaw(counts.edges, share, variance, sizes, np.log(totals[:, 1] / totals[:, 0]))


def _reversed_product(landed: IntArray, at_risk: IntArray) -> tuple[FloatArray, FloatArray]:
    """F and the variance of its logarithm for both classes, shape ``(2, D + 1)``, from counts of shape ``(2, D)``."""
    n_bins = landed.shape[1]
    share, log_variance = np.zeros((2, n_bins + 1)), np.zeros((2, n_bins + 1))
    for label in (0, 1):
        events, risk = landed[label].astype(float), at_risk[label].astype(float)
        if not risk.any():
            continue
        hazard = np.divide(events, risk, out=np.zeros(n_bins), where=risk > 0)
        spread = np.divide(events, risk * (risk - events), out=np.zeros(n_bins), where=risk > events)
        share[label, -1] = 1.0
        share[label, :-1] = np.cumprod((1 - hazard)[::-1])[::-1]
        log_variance[label, :-1] = np.cumsum(spread[::-1])[::-1]
        # That no label came later than an age does not mean that none can: as if one more had.
        later = np.cumsum(events[::-1])[::-1]
        watched = np.cumsum(risk[::-1])[::-1] / np.arange(n_bins, 0, -1)
        log_variance[label, :-1] = np.maximum(log_variance[label, :-1], (later + 1) / np.maximum(watched, 1.0) ** 2)
    return share, log_variance


def _never(windows: Sequence[DelayCounts]) -> tuple[float, float]:
    """The usual share of ripe predictions without a label, and how far windows' log-odds of it differ beyond chance.

    Log-odds, because such shares are small on most days and many times that on a few.
    """
    ripe = np.array([float(each.ripe.sum()) for each in windows])
    held = ripe > 0
    missing = ripe[held] - np.array([float(each.ripe_labelled.sum()) for each in windows])[held]
    if not missing.sum():
        return 0.0, 0.0
    odds = np.log((missing + 0.5) / (ripe[held] - missing + 0.5))
    variance = 1 / (missing + 0.5) + 1 / (ripe[held] - missing + 0.5)
    excess, weight = 0.0, 1 / variance
    for _ in range(8):
        weight = 1 / (variance + excess)
        mean = float(np.average(odds, weights=weight))
        excess = max(float(np.average((odds - mean) ** 2 - variance, weights=weight)), 0.0)
    return 1 / (1 + math.exp(-mean)), math.sqrt(excess + 1 / float(weight.sum()))


MEMORY = 14.0
"""Days over which what windows say about the pace of the one in question fades to ``1/e``."""


def _same_weekday(law: DelayLaw, windows: Sequence[DelayCounts], away: FloatArray) -> npt.NDArray[np.bool_]:
    """Which windows to learn from: those of the weekday in question where weekdays differ beyond doubt, else all.

    Labels that are delivered once a week, or not on Sundays, give each weekday a law of its own.
    """
    everyone, weekday = np.ones(len(windows), bool), np.floor(away + 0.5).astype(np.int64) % 7
    same: npt.NDArray[np.bool_] = np.equal(weekday, 0)
    n = [sum(int(each.n[label]) for each, held in zip(windows, same, strict=True) if held) for label in (0, 1)]
    if same.sum() < MIN_WEEKS or min(n) < POOLING or len(np.unique(weekday)) < 2:
        return everyone
    for label in (0, 1):
        found = [pace_of(each, law, label) for each in windows]
        known = np.array([each is not None for each in found])
        value, variance = np.array([each for each in found if each is not None]).reshape(-1, 2).T
        if _weekdays_differ(value, variance, weekday[known]):
            return same
    return everyone


def _weekdays_differ(value: FloatArray, variance: FloatArray, weekday: IntArray) -> bool:
    """Whether paces of the same weekday are alike, and those of others are not, beyond doubt."""
    weight = 1 / (variance + 1e-6)
    days = [weekday == day for day in np.unique(weekday)]
    free = len(value) - len(days)
    if len(days) < 2 or free < 7:
        return False
    within = sum(_around(value[day], weight[day]) for day in days)
    between = _around(value, weight) - within
    statistic = between / (len(days) - 1) / max(within / free, 1.0)
    return float(scipy.special.fdtrc(len(days) - 1, free, statistic)) < WEEKLY


def _around(value: FloatArray, weight: FloatArray) -> float:
    return float(np.sum(weight * (value - np.average(value, weights=weight)) ** 2))


MIN_WEEKS = 4
"""Windows of a weekday from which its own law may be learned."""
WEEKLY = 1e-6
"""Weekdays have laws of their own when chance alone would make their paces differ as much this rarely."""


def _expected_pace(
    law: DelayLaw, windows: Sequence[DelayCounts], away: FloatArray, label: int, *, weekly: bool
) -> tuple[float, float]:
    """The log pace expected of a window and its standard deviation, from those of the windows around it.

    Their mean, weighed by closeness in time; where all windows together show a trend beyond doubt, so that labels come
    later from day to day, a line takes the mean's place.  The standard deviation is that of the level found, and of
    what windows differ from it beyond chance; with ``weekly``, from others of their weekday, where weekdays differ.
    """
    found = [pace_of(each, law, label) for each in windows]
    known = [place for place, each in enumerate(found) if each is not None]
    if len(known) < 4:
        return 0.0, 0.0
    value, variance = np.array([found[place] for place in known]).T
    when = away[known]
    weekday = np.floor(when + 0.5).astype(np.int64) % 7
    if weekly and _weekdays_differ(value, variance, weekday):
        of_day = [np.average(value[weekday == day], weights=1 / variance[weekday == day]) for day in weekday]
        value = value - of_day + np.average(value, weights=1 / variance)
    design = np.stack([np.ones_like(when), when / MEMORY], axis=1)
    overall = _line(design, value, variance, np.ones_like(when))
    trend = abs(overall.level[1]) > TREND * math.sqrt(overall.error[1])
    near = _line(design if trend else design[:, :1], value, variance, np.exp(-np.abs(when) / MEMORY))
    return float(np.clip(near.level[0], -2, 2)), math.sqrt(near.excess + near.error[0])


TREND = 5.0
"""A trend counts when it is this many standard errors from none: windows of one batch of labels are alike."""


class _Line(NamedTuple):
    level: FloatArray
    error: FloatArray
    excess: float


def _inverse(matrix: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _line(design: FloatArray, value: FloatArray, variance: FloatArray, near: FloatArray) -> _Line:
    """Weighted least squares with a variance between windows beyond that of each, found by moments in a few rounds."""
    level: FloatArray = np.zeros(design.shape[1])
    normal: FloatArray = np.eye(design.shape[1])
    excess, weight = 0.0, near
    for _ in range(4):
        weight = near / (variance + excess + 1e-6)
        normal = _inverse(design.T @ (design * weight[:, None]) + 1e-9 * np.eye(design.shape[1]))
        level = normal @ (design.T @ (weight * value))
        rest = value - design @ level
        # A few windows far off, such as the youngest of a weekly batch, must not widen what is said of all.
        far = rest**2 / (variance + excess + 1e-6)
        weight = weight / (1 + far / 4)
        excess = max(float(np.average(rest**2 - variance, weights=weight)), 0.0)
    spread = weight**2 * (variance + excess)
    error = np.diag(normal @ (design.T @ (design * spread[:, None])) @ normal)
    return _Line(level, error, excess)


def pace_of(counts: DelayCounts, law: DelayLaw, label: int) -> tuple[float, float] | None:
    """How fast the labels of one class came against the law: log pace and its variance; ``None`` with too few.

    Fisher scoring of the law's own conditional likelihood: each label at risk in bin d landed in it with probability
    ``g(d)``, and a faster clock moves F to ``F(a e^pace)``.
    """
    share = law.share[:, label].mean(axis=0) if law.share.shape[0] == 1 else _pooled_share(law, counts, label)
    events = counts.landed[:, label].sum(axis=0).astype(float)
    risk = counts.at_risk[:, label].sum(axis=0).astype(float)
    if events.sum() < 10:
        return None
    step, pace, information = 0.05, 0.0, 0.0
    for _ in range(6):
        hazard = _hazard(share, law.edges, pace)
        slope = (_hazard(share, law.edges, pace + step) - _hazard(share, law.edges, pace - step)) / (2 * step)
        usable = (hazard > 1e-9) & (hazard < 1 - 1e-9) & (risk > 0)
        noise = hazard[usable] * (1 - hazard[usable])
        information = float(np.sum(risk[usable] * slope[usable] ** 2 / noise))
        if information <= 0:
            return None
        score = float(np.sum((events[usable] - risk[usable] * hazard[usable]) * slope[usable] / noise))
        change = float(np.clip(score / information, -0.5, 0.5))
        pace = float(np.clip(pace + change, -2, 2))
        if abs(change) < 1e-3:
            break
    return pace, 1 / information


def _pooled_share(law: DelayLaw, counts: DelayCounts, label: int) -> FloatArray:
    weight = counts.landed[:, label].sum(axis=1).astype(float) + 1e-9
    return np.asarray(np.average(law.share[:, label], axis=0, weights=weight))


def _hazard(share: FloatArray, edges: FloatArray, pace: float) -> FloatArray:
    moved = np.interp(edges * math.exp(pace), edges, share)
    return np.divide(moved[1:] - moved[:-1], moved[1:], out=np.zeros(len(edges) - 1), where=moved[1:] > 0)


@dataclass(frozen=True)
class DelayChange:
    """How much longer labels of recent windows take than the law says: a factor with its interval and p-value."""

    factor: float
    low: float
    high: float
    p_value: float
    label: int
    n: int


OPTIMISM = 2.5
"""By how much the variance of a pace is larger than its information says, the law being learned itself: simulated."""
BELIEF = 6
"""How many earlier stretches that belief is worth, beside those that show how much stretches differ."""


def delay_change(
    recent: DelayCounts, law: DelayLaw, *, earlier: Sequence[DelayCounts] = (), level: float = 0.95
) -> DelayChange | None:
    """Do labels land later (or sooner) than they did when the law was learned?  The class that moved most, at least.

    The log pace of each class against that of ``earlier`` stretches, judged against chance and against how much these
    differ (Student's t); with fewer than three of them, against the law and how much its windows differ
    (``law.clock``).  Two classes are looked at, so the p-value is doubled.  ``None`` with too few labels of either.

    Parameters
    ----------
    earlier
        Stretches as long as the recent one, each as it was known when it was as young as that is now: whatever depends
        on the age, or on the day of the week, is then the same on both sides.
    """
    found = []
    for label in (0, 1):
        pace = pace_of(recent, law, label)
        if pace is None or law.n[label] < MIN_LABELS:
            continue
        past = [one[0] for one in (pace_of(each, law, label) for each in earlier) if one is not None]
        if len(past) >= 3:
            free, centre = BELIEF + len(past) - 1, float(np.mean(past))
            variance = (BELIEF * OPTIMISM * pace[1] + float(np.sum(np.square(np.array(past) - centre)))) / free
            variance *= 1 + 1 / len(past)
        else:
            free, centre = 1000, law.pace[label]
            variance = OPTIMISM * pace[1] * (1 + min(1.0, recent.n[label] / law.n[label])) + law.clock[label] ** 2
        spread, value = math.sqrt(variance), pace[0] - centre
        half = float(scipy.special.stdtrit(free, 0.5 + level / 2)) * spread
        p_value = min(1.0, 4 * float(scipy.special.stdtr(free, -abs(value) / spread)))
        low, high = math.exp(-value - half), math.exp(-value + half)
        found.append(DelayChange(math.exp(-value), low, high, p_value, label, int(recent.n[label])))
    return max(found, key=_least, default=None)


def _least(change: DelayChange) -> tuple[float, float]:
    """The change that its interval allows at least; below zero where that is none."""
    return max(math.log(change.low), -math.log(change.high)), -change.p_value


@dataclass(frozen=True)
class Silence:
    """Labels that should have landed since the last one did, and how likely it is that none has."""

    expected: float
    p_value: float


def silence(ages: FloatArray, pending: FloatArray, law: DelayLaw, *, since: float, share_positive: float) -> Silence:
    """Have labels stopped?  Counts the labels that the law expects in the last ``since`` seconds.

    Parameters
    ----------
    ages, pending
        Age as of now of groups of predictions (seconds), and how many predictions each holds; shape ``(G,)``.
    share_positive
        The share of positives among labels.

    Notes
    -----
    The p-value is Poisson's for zero arrivals, ``exp(-expected)``; labels that land in batches need the caller to ask
    only when ``since`` is beyond the usual gap.
    """
    now, then = law.at(ages), law.at(np.maximum(ages - since, 0.0))
    fresh = np.clip(now - then, 0.0, 1.0).mean(axis=1)
    mix = np.array([1 - share_positive, share_positive])
    expected = float(np.sum(pending * (fresh @ mix))) * (1 - law.never[0])
    return Silence(expected, math.exp(-expected))
