"""What a window's performance will be once all its labels are in, from those that have landed and the delay law."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from detectors.classification import Measure
from detectors.delay import MIN_COMPLETENESS, MIN_LABELS, DelayLaw
from detectors.hindsight import look_back, with_hindsight
from detectors.intervals import wilson, z_value
from detectors.posterior import Fit, Landed, Posterior
from detectors.profiles import FloatArray

NO, YES = 0, 1


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
    posterior = Posterior(landed, law, np.ones(2))
    state = posterior.climb(posterior.begin())
    base = posterior.told(state)
    total = base.covariance
    # The law's own error is common to all groups of a class: move each class by one standard error and see.
    for label in (0, 1):
        step = _law_error(landed, law, label)
        if step > 0:
            factor = np.ones(2)
            factor[label] = math.exp(-step)
            moved = Posterior(landed, law, factor)
            difference = moved.told(moved.climb(state)).share - base.share
            total = total + np.outer(difference, difference)
    found, back = replace(base, covariance=total), look_back(landed, law, absent=absent)
    return found if back is None else with_hindsight(found, landed, back)


def _law_error(landed: Landed, law: DelayLaw, label: int) -> float:
    """The standard error of log F where this window's labels of the class are, at most one."""
    weight = landed.labels[:, :, label] + 1e-9 * (landed.predictions > 0)
    variance = np.array([np.interp(landed.ages, law.edges, row) for row in law.log_variance[:, label]]).T
    return min(math.sqrt(float(np.average(variance, weights=weight))), 1.0)


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


def mean_worth(found: Fit, worth: Mapping[str, float], *, level: float = 0.95) -> Measure:
    """The mean worth of a decision once all labels are in: ``worth`` gives it for ``tp``, ``fp``, ``fn`` and ``tn``.

    What it does not name is worth 0.  ``rate`` adds the sampling error of the whole window.
    """
    counts = expected_counts(found, found.share)
    cells = np.array([getattr(counts, name) for name in CELLS])
    each = np.array([float(worth.get(name, 0.0)) for name in CELLS])
    n = float(cells.sum())
    if n <= 1e-9:
        return Measure(None, n=found.n, reason="no_decisions")
    value = float(cells @ each) / n
    gain = np.select([found.decisions == YES, found.decisions == NO], [each[0] - each[1], each[2] - each[3]], 0.0)
    slope = found.expected * gain / n
    variance = max(float(slope @ found.covariance @ slope), 0.0)
    sampling = float(cells @ (each - value) ** 2) / n / max(n - 1, 1.0)
    half, wide = (z_value(level) * math.sqrt(part) for part in (variance, variance + sampling))
    return Measure(value, value - half, value + half, round(n), rate=(value - wide, value + wide))


CELLS = ("tp", "fp", "fn", "tn")


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
