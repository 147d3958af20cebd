"""What the labels that have landed say about all of them, when *which* label lands first is not random.

A fraud is confirmed in days, its absence after months; so the labels of a young window are nearly all positive.  The
delay law F_y(a) = P(landed by age a | class y) is learned from older windows, and corrects for that; where a class
could not have been observed yet there is no answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.classification import Measure
from detectors.intervals import wilson
from detectors.profiles import FloatArray, IntArray, ProfileError

MIN_COMPLETENESS = 0.02
"""Below this share of a class having landed, a label of it would stand for more than 50 others: no answer."""


@dataclass(frozen=True, eq=False)
class DelayCounts:
    """Sufficient counts of label delays; those of several groups of predictions add up.

    Parameters
    ----------
    edges
        Increasing ages in seconds, shape ``(D + 1,)``, from 0; bin ``d`` is ``(edges[d], edges[d + 1]]`` (bin 0 with
        its left end).
    landed
        Labels of class y with a delay in bin d, of predictions old enough for the bin to be over: shape ``(2, D)``.
    at_risk
        Of the same predictions, labels of class y with a delay in bin d or before: shape ``(2, D)``.
    """

    edges: FloatArray
    landed: IntArray
    at_risk: IntArray


def count_delays(
    delays: npt.ArrayLike, labels: npt.ArrayLike, ages: npt.ArrayLike, *, edges: FloatArray
) -> DelayCounts:
    """Count delays of labels that have landed.

    Parameters
    ----------
    delays
        Landing time less prediction time in seconds, shape ``(n,)``; NaN where no label has landed.  Negative delays
        count as 0.
    labels
        0 or 1 (bool), shape ``(n,)``; NaN where no label has landed.
    ages
        Age of each prediction as of now, in seconds, shape ``(n,)``.
    """
    delay, label, age = (np.asarray(part, dtype=np.float64) for part in (delays, labels, ages))
    if not delay.shape == label.shape == age.shape:
        raise ValueError(f"delays, labels and ages differ in shape: {delay.shape}, {label.shape}, {age.shape}")
    n_bins = len(edges) - 1
    held = ~np.isnan(delay) & ~np.isnan(label) & (delay <= age)
    place = np.searchsorted(edges[1:], np.maximum(delay[held], 0.0), side="left")
    over = np.searchsorted(edges[1:], age[held], side="right")  # this many bins are over
    label_class = (label[held] != 0).astype(np.int64)
    inside = place < over
    # Each label is in its own bin's events, and at risk in every bin from its own to the last that is over.
    landed, at_risk = np.zeros((2, n_bins), np.int64), np.zeros((2, n_bins + 1), np.int64)
    np.add.at(landed, (label_class[inside], place[inside]), 1)
    np.add.at(at_risk, (label_class[inside], place[inside]), 1)
    np.add.at(at_risk, (label_class[inside], over[inside]), -1)
    return DelayCounts(np.asarray(edges, dtype=np.float64), landed, np.cumsum(at_risk, axis=1)[:, :-1])


def merge(first: DelayCounts, second: DelayCounts) -> DelayCounts:
    """The counts of the predictions of both.

    Raises
    ------
    ProfileError
        The two were counted over different ages.
    """
    if not np.array_equal(first.edges, second.edges):
        raise ProfileError("label delays were counted over different age bins")
    return DelayCounts(first.edges, first.landed + second.landed, first.at_risk + second.at_risk)


class Completeness(NamedTuple):
    """The share of a class that has landed by an age, and the variance of its logarithm."""

    share: float
    log_variance: float


@dataclass(frozen=True, eq=False)
class DelayLaw:
    """F_y(a) at the ends of the age bins: ``share`` and the variance of its logarithm, both shape ``(2, D + 1)``."""

    edges: FloatArray
    share: FloatArray
    log_variance: FloatArray
    n: tuple[int, int]

    def completeness(self, age: float, label: int) -> Completeness:
        """The share of class ``label`` that has landed by ``age`` seconds; linear inside a bin."""
        share = float(np.interp(age, self.edges, self.share[label]))
        return Completeness(share, float(np.interp(age, self.edges, self.log_variance[label])))


def learn(counts: DelayCounts) -> DelayLaw:
    """Learn the delay law from predictions of any age.

    A young prediction shows only its short delays, which would make delays look short; so time is run backwards:
    ``g(d) = landed(d) / at_risk(d)`` is the probability that a label which landed by the end of bin d landed in it, and
    ``F(a) = Π_{d > a} (1 - g(d))``, a Kaplan–Meier estimator in reverse, with Greenwood's variance of ``log F``.

    Notes
    -----
    F is of labels that land within the largest age for which there are data: it is 1 there.  A class without any
    label has F = 0 at all ages: it has never been observed.

    References
    ----------
    S. W. Lagakos, L. M. Barraj & V. De Gruttola, "Nonparametric analysis of truncated survival data, with application
    to AIDS", Biometrika 1988; J. F. Lawless, "Adjustments for reporting delays", Can. J. Statist. 1994.
    """
    n_bins = len(counts.edges) - 1
    share, log_variance = np.zeros((2, n_bins + 1)), np.zeros((2, n_bins + 1))
    for label in (0, 1):
        events, risk = counts.landed[label].astype(float), counts.at_risk[label].astype(float)
        if not risk.any():
            continue
        hazard = np.divide(events, risk, out=np.zeros(n_bins), where=risk > 0)
        spread = np.divide(events, risk * (risk - events), out=np.zeros(n_bins), where=risk > events)
        share[label, -1] = 1.0
        share[label, :-1] = np.cumprod((1 - hazard)[::-1])[::-1]
        log_variance[label, :-1] = np.cumsum(spread[::-1])[::-1]
    sizes = (int(counts.landed[0].sum()), int(counts.landed[1].sum()))
    return DelayLaw(counts.edges, share, log_variance, sizes)


@dataclass(frozen=True, eq=False)
class Landed:
    """One window as of now: predictions by age, and what has landed of them.

    Parameters
    ----------
    ages
        Age of each group of predictions in seconds, shape ``(G,)``.
    predictions
        Predictions of each group by decision (negative, positive), shape ``(G, 2)``.
    labels
        Labels landed, by decision and class, shape ``(G, 2, 2)``: ``labels[g, decision, label]``.
    """

    ages: FloatArray
    predictions: IntArray
    labels: IntArray


@dataclass(frozen=True)
class _Rate:
    """The share of positives among the predictions of one decision, and the variance of its error."""

    n: int
    share: float
    variance: float


def corrected(
    landed: Landed, law: DelayLaw, *, level: float = 0.95, min_completeness: float = MIN_COMPLETENESS
) -> dict[str, Measure]:
    """Which precision and recall will this window have once all its labels are in?

    Within each decision a share π is positive.  A prediction of age a then shows a positive label with probability
    ``π F_1(a)``, a negative one with ``(1 - π) F_0(a)``, else none; π maximises the likelihood of what has landed.
    Precision is π of the positive decisions; recall weighs the π of both by their numbers of predictions.

    Returns
    -------
    ``precision`` and ``recall``, whose interval holds the *eventual* value with probability ``level``; it includes the
    uncertainty of the delay law.  ``None`` with reason ``not_identifiable`` where less than ``min_completeness`` of a
    class can have landed at the oldest age.

    Notes
    -----
    Assumes that the delay depends on the class only, and is as it was when the law was learned.
    """
    law_at = np.array([[law.completeness(float(age), label) for label in (0, 1)] for age in landed.ages])
    share, log_variance = law_at.reshape(-1, 2, 2)[..., 0], law_at.reshape(-1, 2, 2)[..., 1]
    n = int(landed.predictions.sum())
    if n == 0:
        return {name: Measure(None, reason="no_predictions") for name in ("precision", "recall")}
    inhabited = landed.predictions.sum(axis=1) > 0
    if (share[inhabited].max(axis=0) < min_completeness).any():
        return {name: Measure(None, n=n, reason="not_identifiable") for name in ("precision", "recall")}
    share = np.where(share < min_completeness, 0.0, share)
    rates = [_fit(landed, decision, share) for decision in (0, 1)]
    # The law's error is common to all groups of a class: move each class by one standard error and see.
    nudged = []
    for label in (0, 1):
        moved = share.copy()
        weight = landed.labels[:, :, label].sum(axis=1) + 1e-9
        step = math.sqrt(float(np.average(log_variance[:, label], weights=weight)))
        moved[:, label] = np.minimum(share[:, label] * math.exp(step), 1.0)
        nudged.append([_fit(landed, decision, moved) for decision in (0, 1)])
    return {
        "precision": _precision(rates, nudged, level=level),
        "recall": _recall(rates, nudged, level=level),
    }


def _fit(landed: Landed, decision: int, share: FloatArray) -> _Rate:
    """Maximise the (concave) likelihood of π by bisection of its slope."""
    total = landed.predictions[:, decision].astype(float)
    neg, pos = landed.labels[:, decision, 0].astype(float), landed.labels[:, decision, 1].astype(float)
    # A label that landed although the law says none can have is not counted on either side.
    neg, pos = np.where(share[:, 0] > 0, neg, 0.0), np.where(share[:, 1] > 0, pos, 0.0)
    rest = np.maximum(total - neg - pos, 0.0)
    n = int(total.sum())
    if not rest.any():
        # Nothing is out any more: the share is known, not estimated.
        return _Rate(n, float(pos.sum()) / n if n else 0.0, 0.0)
    hidden, tilt = 1 - share[:, 0], share[:, 0] - share[:, 1]

    def slope(pi: float) -> float:
        unseen = np.maximum(hidden + pi * tilt, 1e-12)
        return float(pos.sum() / pi - neg.sum() / (1 - pi) + np.sum(rest * tilt / unseen))

    low, high = 1e-9, 1 - 1e-9
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    pi = (low + high) / 2
    # Expected information; at the ends of [0, 1] it is taken half a prediction inside, where it is finite.
    inside = min(max(pi, 0.5 / n), 1 - 0.5 / n)
    unseen = np.maximum(hidden + inside * tilt, 1e-12)
    information = float(np.sum(total * (share[:, 1] / inside + share[:, 0] / (1 - inside) + tilt**2 / unseen)))
    # Of the eventual share, not of the rate behind it: the labels that are in do not vary any more.
    variance = max(1 / information - inside * (1 - inside) / n, 0.0)
    # Labels still out although the law says that nearly all are in may be of either class.
    expected = float(np.sum(total * unseen))
    unexplained = max(float(rest.sum()) - expected - 2 * math.sqrt(expected), 0.0)
    return _Rate(n, pi, variance + 0.5 * unexplained / n**2)


def _precision(rates: list[_Rate], nudged: list[list[_Rate]], *, level: float) -> Measure:
    yes = rates[1]
    if yes.n == 0:
        return Measure(None, n=0, reason="no_predicted_positives")
    law = sum((other[1].share - yes.share) ** 2 for other in nudged)
    return _bounded(yes.share, yes.variance + law, yes.n, level=level)


def _recall(rates: list[_Rate], nudged: list[list[_Rate]], *, level: float) -> Measure:
    no, yes = rates

    def value(pair: list[_Rate]) -> float:
        return pair[1].n * pair[1].share / max(pair[0].n * pair[0].share + pair[1].n * pair[1].share, 1e-300)

    lost, hits = no.n * no.share, yes.n * yes.share
    total = lost + hits
    if total < 1e-6:
        return Measure(None, n=no.n + yes.n, reason="no_positives")
    variance = (lost**2 * yes.n**2 * yes.variance + hits**2 * no.n**2 * no.variance) / total**4
    law = sum((value(other) - value(rates)) ** 2 for other in nudged)
    return _bounded(value(rates), variance + law, no.n + yes.n, level=level)


def _bounded(value: float, variance: float, n: int, *, level: float) -> Measure:
    """Wilson's interval with the sample size that the variance is worth; a point once all labels are in."""
    inside = min(max(value, 0.5 / n), 1 - 0.5 / n)
    if variance <= 1e-15:
        return Measure(value, value, value, n)
    effective = inside * (1 - inside) / variance
    low, high = wilson(value * effective, effective, level=level)
    return Measure(value, low, high, n)
