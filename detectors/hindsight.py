"""How far off were earlier windows, corrected at the age that this one has now, once all their labels were in?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy

from detectors.delay import DelayLaw
from detectors.delay_counts import DelayCounts
from detectors.posterior import Fit, Landed, Posterior
from detectors.profiles import FloatArray

MIN_WINDOWS = 6
"""With fewer earlier windows nothing is known of how far corrections turn out to be off."""
_ROUNDS = 2


@dataclass(frozen=True, eq=False)
class Hindsight:
    """Errors of W earlier windows, in the log-odds of a positive among the predictions of each of D decisions.

    Parameters
    ----------
    errors
        Corrected less eventual log-odds, shape ``(W, D)``.
    levels
        The eventual log-odds, shape ``(W, D)``.
    landed
        Log-odds of a label having landed by then, shape ``(W,)``.
    promised
        The covariance that the correction itself gave each error, shape ``(W, D, D)``.
    """

    errors: FloatArray
    levels: FloatArray
    landed: FloatArray
    promised: FloatArray

    def ahead(self, levels: FloatArray, landed: float) -> tuple[FloatArray, FloatArray]:
        """The error to expect of a window, shape ``(D,)``, and the covariance of what it may differ by, ``(D, D)``.

        Days unlike the usual (a snowstorm) are off in a way of their own: errors are a line in how far the *eventual*
        share, and the number of labels by then, were from the usual.  It is the eventual share, because the corrected
        one goes with its own error, and the line would draw every window to the usual.  The covariance is that of the
        lines, and of what windows differ from them beyond what was promised.
        """
        n, size = self.errors.shape
        expected, spread = np.zeros(size), np.zeros(size)
        rest = np.zeros_like(self.errors)
        for each in range(size):
            usual = self.levels[:, each].mean(), self.landed.mean()
            design = np.stack([np.ones(n), self.levels[:, each] - usual[0], self.landed - usual[1]], axis=1)
            row = np.array([1.0, levels[each] - usual[0], landed - usual[1]])
            chance = self.promised[:, each, each]
            beyond = max(float(np.mean(self.errors[:, each] ** 2 - chance)), 0.0)
            weight = 1 / (chance + beyond)
            inverse = np.linalg.inv(design.T @ (design * weight[:, None]) + np.eye(3) / _USUAL**2)
            line = inverse @ (design.T @ (weight * self.errors[:, each]))
            rest[:, each] = self.errors[:, each] - design @ line
            expected[each], spread[each] = row @ line, row @ inverse @ row
        found = rest.T @ rest / (n - 1) - self.promised.mean(axis=0)
        values, directions = np.linalg.eigh(found)
        return expected, np.diag(spread) + directions * np.maximum(values, 0.0) @ directions.T


_EXACT = 1e-9
_USUAL = 0.1
"""How far corrections are off as a rule, and by each unit of log-odds a window is unlike the usual: about this much."""


def look_back(landed: Landed, law: DelayLaw, *, absent: int | None = None) -> Hindsight | None:
    """Correct each matured window as if it were as old as this one; ``None`` where too few have matured.

    What had landed of an earlier window by then is read off its delays, stratum by stratum, at the ages of this
    window's groups of predictions; two steps of scoring from the truth give its correction.
    """
    kept: list[tuple[FloatArray, FloatArray, float, FloatArray]] = []
    decided = decisions_of(landed)
    even = _evenness(landed, law)
    for counts, pace in law.past:
        then, eventual = _as_it_was(landed, counts, absent=absent)
        size = decided @ eventual.sum(axis=1)
        if (size == 0).any():
            continue
        found = _corrected(then, replace(law, pace=pace), eventual)
        weight = decided * found.expected / (decided @ found.expected)[:, None]
        share, truth = weight @ found.share, weight @ _share(eventual)
        bend = _bend(share, size)
        kept.append(
            (
                _odds(share, size) - _odds(truth, size),
                _odds(truth, size),
                _landed_odds(then),
                even * (weight @ found.covariance @ weight.T) / np.outer(bend, bend),
            )
        )
    if len(kept) < MIN_WINDOWS:
        return None
    errors, levels, by_then, promised = (np.array(part) for part in zip(*kept, strict=True))
    return Hindsight(errors, levels, by_then, np.maximum(promised, _EXACT * np.eye(errors.shape[1])))


def decisions_of(landed: Landed) -> FloatArray:
    """Which inhabited strata belong to each decision that was taken, shape ``(D, K)``: 1 or 0."""
    inhabited = landed.predictions.sum(axis=0) > 0
    taken = np.unique(landed.decisions[inhabited])
    return np.asarray((landed.decisions[None] == taken[:, None]) & inhabited, dtype=np.float64)


def with_hindsight(found: Fit, landed: Landed, back: Hindsight, *, level: float = 0.95) -> Fit:
    """The fit less the error to expect of it, with what it may differ by added to its covariance.

    That is known from W windows only, so it is stretched as Student's t is against the normal.  Within a decision it
    goes to the strata as the fit's own uncertainty does.
    """
    decided = decisions_of(landed)
    size = decided @ found.expected
    weight = decided * found.expected / np.maximum(size, 1e-12)[:, None]
    share = weight @ found.share
    bend = _bend(share, size)
    spread = found.covariance @ weight.T @ np.linalg.pinv(weight @ found.covariance @ weight.T)
    expected, beyond = back.ahead(_odds(share, size), _landed_odds(landed))
    tails = scipy.special.stdtrit(len(back.errors), 0.5 + level / 2) / scipy.special.ndtri(0.5 + level / 2)
    beyond = beyond * np.outer(bend, bend) * tails**2
    return replace(
        found,
        share=np.clip(found.share - spread @ (bend * expected), 0.0, 1.0),
        covariance=found.covariance + spread @ beyond @ spread.T,
    )


def _evenness(landed: Landed, law: DelayLaw) -> float:
    """By how much a window looked back at varies less than one that was seen: its labels are spread over the ages.

    With F(a) the share landed at the ages of a stratum, ``(E[min(F(a), F(a'))] - E[F]²) / E[F (1 - F)]``: 1 where all
    predictions are of one age.
    """
    size = landed.predictions.sum(axis=0)
    part = landed.predictions / np.maximum(size, 1)
    at = law.at(landed.ages)
    both = np.minimum(at[:, None], at[None])
    mean = np.einsum("gk,gky->ky", part, at)
    seen = np.einsum("gk,hk,ghky->ky", part, part, both, optimize=True) - mean**2
    whole = mean - np.einsum("gk,gky->ky", part, at**2)
    return float(np.clip((size @ seen).sum() / max((size @ whole).sum(), 1e-12), 0.05, 1.0))


def _odds(share: FloatArray, n: FloatArray) -> FloatArray:
    return np.asarray(scipy.special.logit((share * n + 0.5) / (n + 1)), dtype=np.float64)


def _landed_odds(landed: Landed) -> float:
    part, whole = float(landed.labels.sum()), float(landed.predictions.sum())
    return float(scipy.special.logit((part + 0.5) / (whole + 1)))


def _bend(share: FloatArray, n: FloatArray) -> FloatArray:
    """By how much a share moves with its log-odds; at least as half a prediction away from 0 and 1."""
    inside = np.clip(share, 0.5 / np.maximum(n, 1), 1 - 0.5 / np.maximum(n, 1))
    return np.asarray(inside * (1 - inside), dtype=np.float64)


def _share(labels: FloatArray) -> FloatArray:
    return np.asarray(labels[:, 1] / np.maximum(labels.sum(axis=1), 1e-12))


def _as_it_was(landed: Landed, counts: DelayCounts, *, absent: int | None) -> tuple[Landed, FloatArray]:
    """An earlier window at the ages of this one, and its labels by stratum and class in the end, ``(K, 2)``."""
    size = landed.predictions.sum(axis=0)
    part = landed.predictions / np.maximum(size, 1)  # of each stratum, in each group
    by_age = np.concatenate([np.zeros((*counts.landed.shape[:2], 1)), np.cumsum(counts.landed, axis=2)], axis=2)
    place = np.clip(np.searchsorted(counts.edges, landed.ages, side="right") - 1, 0, len(counts.edges) - 2)
    low, high = counts.edges[place], counts.edges[place + 1]
    inside = np.clip((landed.ages - low) / (high - low), 0.0, 1.0)
    by_then = (by_age[:, :, place] * (1 - inside) + by_age[:, :, place + 1] * inside).transpose(2, 0, 1)
    eventual = counts.landed.sum(axis=2).astype(float) * (size > 0)[:, None]
    if absent is not None:
        eventual[:, absent] += np.maximum(counts.ripe_labelled * (size > 0) - eventual.sum(axis=1), 0.0)
    then = Landed(landed.ages, part * counts.predictions, part[:, :, None] * by_then, landed.decisions)
    return then, eventual


def _corrected(then: Landed, law: DelayLaw, eventual: FloatArray) -> Fit:
    posterior = Posterior(then, law, np.ones(2))
    labels = eventual[posterior.inhabited]
    state = posterior.target.copy()
    state[: posterior.n_shares] = np.log((labels[:, 1] + 0.5) / (labels[:, 0] + 0.5))
    for _ in range(_ROUNDS):
        step = np.linalg.solve(*posterior.scoring(state)[::-1])
        state = posterior.inside(state + np.clip(step, -2, 2))
    return posterior.told(state)
