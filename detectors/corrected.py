"""What a window's performance will be once all its labels are in, from those that have landed and the delay law."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detectors.classification import Measure
from detectors.delay import MIN_COMPLETENESS, MIN_LABELS, DelayLaw
from detectors.intervals import wilson
from detectors.profiles import FloatArray, IntArray

NO, YES = 0, 1


@dataclass(frozen=True, eq=False)
class Landed:
    """One window as of now: predictions by age and stratum, and what has landed of them.

    Parameters
    ----------
    ages
        Age of each of G groups of predictions in seconds, shape ``(G,)``.
    predictions
        Predictions of each group in each stratum, shape ``(G, K)``.
    labels
        Labels landed by class, shape ``(G, K, 2)``.
    decisions
        The decision that all predictions of a stratum share: 0, 1, or 2 (not known); shape ``(K,)``.
    """

    ages: FloatArray
    predictions: IntArray
    labels: IntArray
    decisions: IntArray


@dataclass(frozen=True, eq=False)
class Fit:
    """The eventual share of positives in each stratum, with the covariance of its error.

    ``expected`` are the predictions of each stratum that will have a label.  All of shape ``(K,)``, the covariance
    ``(K, K)``.
    """

    share: FloatArray
    covariance: FloatArray
    expected: FloatArray
    decisions: IntArray
    n: int
    pace: tuple[float, float]


def fit(
    landed: Landed, law: DelayLaw, *, min_completeness: float = MIN_COMPLETENESS, absent: int | None = None
) -> Fit | str:
    """Estimate the eventual share of positives in each stratum; a reason where that is not identifiable.

    Within stratum k a share π is positive, and a share ν of all predictions never gets a label.  A prediction of age a
    shows a positive label with probability ``(1 - ν) π F_1(a)``, a negative one with ``(1 - ν)(1 - π) F_0(a)``, else
    none.  The posterior mode over all π, over ν (as it was in past windows), and over the pace of this window's labels
    (as far as past windows differed in it, ``law.clock``) is found by Fisher scoring; its inverse information, less
    what is already known of this window, is the covariance.

    Parameters
    ----------
    absent
        The class that the lack of a label will mean once the window is mature; it need not have been observed.

    Notes
    -----
    Assumes that within a stratum the delay depends on the class only, but for the pace.
    """
    if not landed.predictions.any():
        return "no_predictions"
    seen = [label for label in (0, 1) if label != absent]
    if any(law.n[label] < MIN_LABELS for label in seen):
        return "no_delay_law"
    share = law.at(landed.ages)
    weight = landed.predictions[:, :, None] / landed.predictions.sum()
    oldest = np.where(landed.predictions[:, :, None] > 0, share, 0.0).max(axis=(0, 1))
    overall = (weight * share).sum(axis=(0, 1))
    if any(oldest[label] < min_completeness or overall[label] < min_completeness / 2 for label in seen):
        return "not_identifiable"
    base = _solve(landed, law, np.ones(2))
    total = base.covariance
    # The law's own error is common to all groups of a class: move each class by one standard error and see.
    for label in (0, 1):
        step = _law_error(landed, law, label)
        if step > 0:
            moved = np.ones(2)
            moved[label] = math.exp(-step)
            difference = _solve(landed, law, moved).share - base.share
            total = total + np.outer(difference, difference)
    return Fit(base.share, total, base.expected, landed.decisions, base.n, base.pace)


def _law_error(landed: Landed, law: DelayLaw, label: int) -> float:
    """The standard error of log F where this window's labels of the class are, at most one."""
    weight = landed.labels[:, :, label] + 1e-9 * (landed.predictions > 0)
    variance = np.array([np.interp(landed.ages, law.edges, row) for row in law.log_variance[:, label]]).T
    return min(math.sqrt(float(np.average(variance, weights=weight))), 1.0)


_STEP = 0.02
_WEAK = 1 / 3.0**2
_ALIKE = 1.0
"""The log-odds of strata differ as they did in the past, give or take this standard deviation."""


def _solve(landed: Landed, law: DelayLaw, factor: FloatArray) -> Fit:  # noqa: PLR0915 - one scoring loop, read in one go
    """The posterior mode and its covariance, with F of either class multiplied by ``factor``."""
    inhabited = np.flatnonzero(landed.predictions.sum(axis=0) > 0)
    prior_pace = [spread**2 for spread in law.clock]
    never_mean, never_spread = law.never
    moving = [label for label in (0, 1) if prior_pace[label] > 1e-8]
    with_never = never_mean > 1e-9
    n_shares, n_pace = len(inhabited), len(moving)
    size = n_shares + n_pace + with_never
    state = np.zeros(size)
    centre = _start(landed, law, inhabited, factor)
    state[:n_shares] = centre
    if with_never:
        state[-1] = _log_odds(never_mean)
    target, precision = state.copy(), np.zeros(size)
    target[:n_shares] = _pooled_start(landed, law, factor)
    if law.odds is not None:
        target[:n_shares] += law.odds[inhabited] - law.odds[inhabited].mean()
    for place, label in enumerate(moving):
        precision[n_shares + place] = 1 / prior_pace[label]
        state[n_shares + place] = target[n_shares + place] = law.pace[label]
    if with_never:
        precision[-1] = 1 / max(never_spread, 0.05) ** 2

    prior = np.diag(precision)
    prior[:n_shares, :n_shares] = _prior_of_shares(n_shares, known=law.odds is not None)

    def rates(state: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Probabilities of (negative, positive, none) in each cell, and their derivatives by every parameter."""
        pace = np.array(law.pace)
        for place, label in enumerate(moving):
            pace[label] = state[n_shares + place]
        never = 1 / (1 + math.exp(-state[-1])) if with_never else 0.0
        at = np.minimum(law.at(landed.ages, pace=pace)[:, inhabited] * factor, 1.0)
        pi = 1 / (1 + np.exp(-state[:n_shares]))
        side = np.stack([1 - pi, pi], axis=-1)[None]
        p = (1 - never) * side * at
        slopes = np.zeros((*p.shape[:2], 3, size))
        bend = (pi * (1 - pi))[None]
        for k in range(n_shares):
            slopes[:, k, 0, k] = -(1 - never) * bend[0, k] * at[:, k, 0]
            slopes[:, k, 1, k] = (1 - never) * bend[0, k] * at[:, k, 1]
        for place, label in enumerate(moving):
            up, down = pace.copy(), pace.copy()
            up[label] += _STEP
            down[label] -= _STEP
            change = (law.at(landed.ages, pace=up) - law.at(landed.ages, pace=down))[:, inhabited, label] / (2 * _STEP)
            slopes[:, :, label, n_shares + place] = (1 - never) * side[..., label] * change * factor[label]
        if with_never:
            slopes[:, :, :2, -1] = -never * (1 - never) * side * at
        slopes[:, :, 2] = -slopes[:, :, 0] - slopes[:, :, 1]
        return np.concatenate([p, np.maximum(1 - p.sum(axis=-1, keepdims=True), 1e-9)], axis=-1), slopes

    total = landed.predictions[:, inhabited].astype(float)
    held = landed.labels[:, inhabited].astype(float)
    seen = np.concatenate([held, np.maximum(total - held.sum(axis=-1), 0.0)[..., None]], axis=-1)

    def objective(state: FloatArray) -> float:
        p, _ = rates(state)
        # A label that landed although the law says none can have is not counted on either side.
        possible = p > 1e-12
        fitted = float(np.sum(seen[possible] * np.log(p[possible])))
        return fitted - 0.5 * float((state - target) @ prior @ (state - target))

    best = objective(state)
    for _ in range(60):
        p, slopes = rates(state)
        safe = np.maximum(p, 1e-12)
        score = np.einsum("gkj,gkjp->p", np.where(p > 1e-12, seen / safe, 0.0), slopes) - prior @ (state - target)
        information = np.einsum("gkjp,gkjq,gkj->pq", slopes, slopes, total[..., None] / safe) + prior
        step = np.linalg.solve(information + 1e-9 * np.eye(size), score)
        scale = min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        for _ in range(25):
            tried = state + scale * step
            if with_never:
                tried[-1] = np.clip(tried[-1], -14, 4)
            tried[:n_shares] = np.clip(tried[:n_shares], -14, 14)
            value = objective(tried)
            if value >= best:
                break
            scale /= 2
        else:
            break
        moved = float(np.abs(tried - state).max())
        state, best = tried, value
        if moved < 1e-7:
            break
    return _result(
        landed,
        state,
        information,
        inhabited,
        moving,
        with_never=with_never,
        alike=law.odds is not None,
        law_pace=law.pace,
    )


def _log_odds(share: float) -> float:
    inside = min(max(share, 1e-4), 0.9)
    return math.log(inside / (1 - inside))


def _result(
    landed: Landed,
    state: FloatArray,
    information: FloatArray,
    inhabited: IntArray,
    moving: Sequence[int],
    *,
    with_never: bool,
    alike: bool,
    law_pace: tuple[float, float],
) -> Fit:
    n_shares, n_strata = len(inhabited), landed.predictions.shape[1]
    pi = 1 / (1 + np.exp(-state[:n_shares]))
    never = 1 / (1 + math.exp(-state[-1])) if with_never else 0.0
    total = landed.predictions[:, inhabited].sum(axis=0).astype(float)
    held = landed.labels[:, inhabited].astype(float).sum(axis=0)
    rest = np.maximum(total - held.sum(axis=-1), 0.0)
    out = rest * (1 - never) if with_never else rest
    expected = np.maximum(held.sum(axis=-1) + out, 1e-12)
    share, covariance = np.zeros(n_strata), np.zeros((n_strata, n_strata))
    # The bend is taken at least half a prediction inside, where a share of 0 or 1 still has a spread.
    inside = np.clip(pi, 0.5 / np.maximum(total, 1), 1 - 0.5 / np.maximum(total, 1))
    bend = inside * (1 - inside)
    # Few labels make the plugged-in spread too small on average, as dividing by n and not n - 1 does; and a twentieth
    # more for what a quadratic approximation leaves out (benchmarks/delay.py).
    few = 1.05 * np.sqrt(1 + 2 / np.maximum(held.sum(axis=-1), 2.0))
    # Where labels speak, what was believed before must not make the answer surer.
    fade = np.sqrt(1 / (1 + held.sum(axis=-1)))
    believed = _prior_of_shares(n_shares, known=alike)
    weak = np.zeros_like(information)
    weak[:n_shares, :n_shares] = believed - believed * np.outer(fade, fade)
    spread = np.linalg.inv(information - weak)[:n_shares, :n_shares] * np.outer(bend, bend)
    # Of the eventual share, not of the rate behind it: the labels that are in do not vary any more.
    known = np.minimum(bend / np.maximum(expected, 1), np.diag(spread))
    spread = (spread - np.diag(known)) * np.outer(few, few)
    done = rest <= 0.5
    eventual = np.where(done, held[:, 1] / expected, pi)
    spread[done, :] = 0.0
    spread[:, done] = 0.0
    share[inhabited] = eventual
    covariance[np.ix_(inhabited, inhabited)] = spread
    whole = np.zeros(n_strata)
    whole[inhabited] = np.where(total > 0, expected, 0.0)
    pace = [*law_pace]
    for place, label in enumerate(moving):
        pace[label] = float(state[n_shares + place])
    return Fit(share, covariance, whole, landed.decisions, int(total.sum()), (pace[0], pace[1]))


def _prior_of_shares(n: int, *, known: bool) -> FloatArray:
    """Precision of the strata's log-odds: weak on their level, and on their differences what the past is worth."""
    alike = (np.eye(n) - 1 / n) / _ALIKE**2 if known and n > 1 else np.zeros((n, n))
    return np.asarray(np.eye(n) * _WEAK + alike)


def _start(landed: Landed, law: DelayLaw, inhabited: IntArray, factor: FloatArray) -> FloatArray:
    """Log-odds of each stratum by plain weighting, drawn towards that of all."""
    middle = _pooled_start(landed, law, factor)
    at = np.maximum(law.at(landed.ages)[:, inhabited] * factor, 1e-3)
    mass = (landed.labels[:, inhabited] / np.minimum(at, 1.0)).sum(axis=0)
    pulled = mass + 4 * np.array([1 / (1 + math.exp(middle)), 1 / (1 + math.exp(-middle))])
    return np.asarray(np.clip(np.log(pulled[:, 1] / pulled[:, 0]), -8, 8))


def _pooled_start(landed: Landed, law: DelayLaw, factor: FloatArray) -> float:
    at = np.clip(law.at(landed.ages) * factor, 1e-3, 1.0)
    mass = (landed.labels / at).sum(axis=(0, 1)) + 0.5
    return float(np.clip(math.log(mass[1] / mass[0]), -8, 8))


# --- measures --------------------------------------------------------------------------------------


class Counts(NamedTuple):
    """Expected counts once all labels are in: by decision and class, and positives and labels over all decisions."""

    tp: float
    fp: float
    fn: float
    tn: float
    positives: float
    labels: float


def _precision(c: Counts) -> tuple[float, float, str]:
    return c.tp, c.tp + c.fp, "no_predicted_positives"


def _recall(c: Counts) -> tuple[float, float, str]:
    return c.tp, c.tp + c.fn, "no_positives"


def _specificity(c: Counts) -> tuple[float, float, str]:
    return c.tn, c.tn + c.fp, "no_negatives"


def _accuracy(c: Counts) -> tuple[float, float, str]:
    return c.tp + c.tn, c.tp + c.fp + c.fn + c.tn, "no_decisions"


def _prevalence(c: Counts) -> tuple[float, float, str]:
    return c.positives, c.labels, "no_labels"


def _f(beta: float) -> Callable[[Counts], tuple[float, float, str]]:
    def value(c: Counts) -> tuple[float, float, str]:
        top = (1 + beta**2) * c.tp
        defined = c.tp + c.fp > 0 and c.tp + c.fn > 0
        reason = "no_predicted_positives" if c.tp + c.fp <= 0 else "no_positives"
        return top, (top + beta**2 * c.fn + c.fp) if defined else 0.0, reason

    return value


_MEASURES = {
    "precision": _precision,
    "recall": _recall,
    "specificity": _specificity,
    "accuracy": _accuracy,
    "prevalence": _prevalence,
    "f1": _f(1.0),
}
CORRECTABLE = (*_MEASURES, "fbeta")
"""The metrics that have a corrected value: those of the counts of decisions and classes."""


def corrected(
    landed: Landed,
    law: DelayLaw,
    *,
    metrics: Sequence[str] = ("precision", "recall"),
    beta: float = 2.0,
    level: float = 0.95,
    min_completeness: float = MIN_COMPLETENESS,
    absent: int | None = None,
) -> dict[str, Measure]:
    """Which performance will this window have once all its labels are in?  See :func:`fit` for how.

    Returns
    -------
    A measure for each of ``metrics`` that is in ``CORRECTABLE``.  Its interval holds the *eventual* value with
    probability ``level``, and includes the uncertainty of the delay law.  ``None`` with reason ``not_identifiable``
    where less than ``min_completeness`` of a class can have landed, and ``no_delay_law`` where too few labels have
    matured to learn the law from.
    """
    wanted = [name for name in metrics if name in CORRECTABLE]
    found = fit(landed, law, min_completeness=min_completeness, absent=absent)
    if isinstance(found, str):
        return {name: Measure(None, n=int(landed.predictions.sum()), reason=found) for name in wanted}
    return {name: measure(found, name, beta=beta, level=level) for name in wanted}


def measure(found: Fit, name: str, *, beta: float = 2.0, level: float = 0.95) -> Measure:
    """One metric of a fit, by the delta method over the strata."""
    rule = _f(beta) if name == "fbeta" else _MEASURES[name]
    top, bottom, reason = rule(expected_counts(found, found.share))
    if bottom <= 1e-9:
        return Measure(None, n=found.n, reason=reason)
    value = top / bottom
    slope = np.zeros(len(found.share))
    for k in np.flatnonzero(found.expected > 0):
        h = 1e-4
        moved = found.share.copy()
        moved[k] += h
        up = rule(expected_counts(found, moved))
        moved[k] -= 2 * h
        down = rule(expected_counts(found, moved))
        slope[k] = (up[0] / up[1] - down[0] / down[1]) / (2 * h) if up[1] > 0 and down[1] > 0 else 0.0
    variance = float(slope @ found.covariance @ slope)
    return _bounded(value, variance, max(round(bottom), 1), level=level)


def expected_counts(found: Fit, share: FloatArray) -> Counts:
    """The counts once all labels are in, were ``share`` (shape ``(K,)``) the positives of each stratum."""
    yes, no = found.decisions == YES, found.decisions == NO
    positives, negatives = found.expected * share, found.expected * (1 - share)
    return Counts(
        tp=float(positives[yes].sum()),
        fp=float(negatives[yes].sum()),
        fn=float(positives[no].sum()),
        tn=float(negatives[no].sum()),
        positives=float(positives.sum()),
        labels=float(found.expected.sum()),
    )


def _bounded(value: float, variance: float, n: int, *, level: float) -> Measure:
    """Wilson's interval with the sample size that the variance is worth; a point once all labels are in."""
    inside = min(max(value, 0.5 / n), 1 - 0.5 / n)
    if variance <= 1e-15:
        return Measure(value, value, value, n)
    effective = inside * (1 - inside) / variance
    low, high = wilson(value * effective, effective, level=level)
    return Measure(value, low, high, n)
