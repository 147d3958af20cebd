"""What the labels of one window that have landed say about the share of positives in each of its strata."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detectors.delay import DelayLaw
from detectors.profiles import FloatArray, IntArray


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


_STEP = 0.02
_CLOSE = 1e-5
_WEAK = 1 / 3.0**2
_ALIKE = 1.0
"""The log-odds of strata differ as they did in the past, give or take this standard deviation."""


class Posterior:
    """The posterior of a window's shares, paces and never labelled, with F of either class multiplied by ``factor``.

    A state holds the log-odds of the S inhabited strata, the log pace of each class that may move, and the log-odds of
    never getting a label where that happens: shape ``(P,)``.
    """

    def __init__(self, landed: Landed, law: DelayLaw, factor: FloatArray) -> None:
        self.landed, self.law, self.factor = landed, law, factor
        self.inhabited = np.flatnonzero(landed.predictions.sum(axis=0) > 0)
        self.n_shares = len(self.inhabited)
        self.moving = [label for label in (0, 1) if law.clock[label] ** 2 > 1e-8]
        self.with_never = law.never[0] > 1e-9
        self.size = self.n_shares + len(self.moving) + self.with_never
        self.target, self.prior = self._believed()
        self.total = landed.predictions[:, self.inhabited].astype(float)
        held = landed.labels[:, self.inhabited].astype(float)
        self.seen = np.concatenate([held, np.maximum(self.total - held.sum(axis=-1), 0.0)[..., None]], axis=-1)

    def _believed(self) -> tuple[FloatArray, FloatArray]:
        """Mean and precision of the state before this window's labels."""
        n, law = self.n_shares, self.law
        target, precision = np.zeros(self.size), np.zeros(self.size)
        target[:n] = _pooled_start(self.landed, law, self.factor)
        if law.odds is not None:
            target[:n] += law.odds[self.inhabited] - law.odds[self.inhabited].mean()
        for place, label in enumerate(self.moving, start=n):
            target[place], precision[place] = law.pace[label], law.clock[label] ** -2
        if self.with_never:
            target[-1], precision[-1] = _log_odds(law.never[0]), max(law.never[1], 0.05) ** -2
        prior = np.diag(precision)
        prior[:n, :n] = _prior_of_shares(n, known=law.odds is not None)
        return target, prior

    def begin(self) -> FloatArray:
        """Where to climb from: shares by plain weighting, the rest as believed."""
        return np.append(_start(self.landed, self.law, self.inhabited, self.factor), self.target[self.n_shares :])

    def _pace(self, state: FloatArray) -> FloatArray:
        pace = np.array(self.law.pace)
        pace[self.moving] = state[self.n_shares : self.n_shares + len(self.moving)]
        return pace

    def _landing(self, pace: FloatArray) -> FloatArray:
        return np.minimum(self.law.at(self.landed.ages, pace=pace)[:, self.inhabited] * self.factor, 1.0)

    def _rates(self, state: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, float]:
        """Probabilities of (negative, positive, none) in each cell, and of what they are made."""
        never = 1 / (1 + math.exp(-state[-1])) if self.with_never else 0.0
        at = self._landing(self._pace(state))
        pi = 1 / (1 + np.exp(-state[: self.n_shares]))
        p = (1 - never) * np.stack([1 - pi, pi], axis=-1) * at
        return np.concatenate([p, np.maximum(1 - p.sum(axis=-1, keepdims=True), 1e-9)], axis=-1), at, pi, never

    def _slopes(self, state: FloatArray, at: FloatArray, pi: FloatArray, never: float) -> FloatArray:
        """Derivatives of the probabilities by every parameter, shape ``(G, S, 3, P)``."""
        n, strata = self.n_shares, np.arange(self.n_shares)
        slopes = np.zeros((*at.shape[:2], 3, self.size))
        bend = (1 - never) * pi * (1 - pi) * at.transpose(2, 0, 1)
        slopes[:, strata, 0, strata], slopes[:, strata, 1, strata] = -bend[0], bend[1]
        side = np.stack([1 - pi, pi], axis=-1)
        if self.moving:
            pace = self._pace(state)
            change = (self._landing(pace + _STEP) - self._landing(pace - _STEP)) / (2 * _STEP)
            for place, label in enumerate(self.moving, start=n):
                slopes[:, :, label, place] = (1 - never) * side[:, label] * change[:, :, label]
        if self.with_never:
            slopes[:, :, :2, -1] = -never * (1 - never) * side * at
        slopes[:, :, 2] = -slopes[:, :, 0] - slopes[:, :, 1]
        return slopes

    def _height(self, state: FloatArray) -> float:
        """The logarithm of the posterior, but for a constant."""
        p = self._rates(state)[0]
        # A label that landed although the law says none can have is not counted on either side.
        fitted = float(np.sum(self.seen * np.log(p, out=np.zeros_like(p), where=p > 1e-12)))
        return fitted - 0.5 * float((state - self.target) @ self.prior @ (state - self.target))

    def scoring(self, state: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gradient and expected information at a state."""
        p, at, pi, never = self._rates(state)
        slopes = self._slopes(state, at, pi, never).reshape(-1, self.size)
        safe = np.maximum(p, 1e-12)
        score = np.where(p > 1e-12, self.seen / safe, 0.0).ravel() @ slopes - self.prior @ (state - self.target)
        information = slopes.T @ (slopes * (self.total[..., None] / safe).reshape(-1, 1)) + self.prior
        return score, information + 1e-9 * np.eye(self.size)

    def climb(self, state: FloatArray) -> FloatArray:
        """The posterior mode, by Fisher scoring with halved steps where a whole one would not rise."""
        best = self._height(state)
        for _ in range(60):
            step = np.linalg.solve(*self.scoring(state)[::-1])
            scale = min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
            if float(np.abs(step).max()) < _CLOSE:
                break
            for _ in range(25):
                tried = self.inside(state + scale * step)
                value = self._height(tried)
                if value >= best:
                    break
                scale /= 2
            else:
                break
            state, best = tried, value
        return state

    def inside(self, state: FloatArray) -> FloatArray:
        if self.with_never:
            state[-1] = np.clip(state[-1], -14, 4)
        state[: self.n_shares] = np.clip(state[: self.n_shares], -14, 14)
        return state

    def told(self, state: FloatArray) -> Fit:
        """What a state says of each stratum."""
        return _result(
            self.landed,
            state,
            self.scoring(state)[1],
            self.inhabited,
            self.moving,
            with_never=self.with_never,
            alike=self.law.odds is not None,
            law_pace=self.law.pace,
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
