"""Two versions of a model on the same requests: paired differences, and an interval that may be looked at every day.

A challenger that shadows the champion scores the same requests, so that most of what varies (which requests came)
cancels in the difference of their losses.  What is kept of a window are a few sums, which add up over windows; every
interval is a function of the sums so far.

References
----------
Howard, Ramdas, McAuliffe, Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences, 2021.
Fan, Grama, Liu, Exponential inequalities for martingales with applications, 2015 (the inequality behind it).
Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, Time-uniform central limit theory and asymptotic confidence sequences,
2024.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from detectors.profiles import FloatArray, IntArray, ProfileError

NEGATIVE, POSITIVE, UNKNOWN = 0, 1, 2
LOG_LOSS_CLIP = 0.001
"""Probabilities count as at least this and at most one less this, so that log loss has a bound."""
LOG_LOSS_BOUND = math.log((1 - LOG_LOSS_CLIP) / LOG_LOSS_CLIP)
_TUNED_AT = 100.0
"""Squared differences (for decisions: requests decided otherwise) at which the exact interval is at its best."""
_TUNED_AT_N = 1000.0
_VERSION = 1


# --- counts ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """Sums of differences, challenger less champion; they merge by addition.

    Parameters
    ----------
    bound
        No difference is larger than this in size; ``None`` where there is no such bound.
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    bound: float | None = 1.0

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    def merge(self, other: Sums) -> Sums:
        bounds = (self.bound, other.bound)
        bound = None if None in bounds else max(b for b in bounds if b is not None)
        return Sums(self.n + other.n, self.total + other.total, self.squares + other.squares, bound)


def sums_of(differences: FloatArray, *, bound: float | None) -> Sums:
    """Sums of one window's differences; missing ones (NaN) are left out."""
    known = differences[~np.isnan(differences)]
    return Sums(len(known), float(known.sum()), float((known * known).sum()), bound)


@dataclass(frozen=True, eq=False)
class PairCounts:
    """What one window says about two versions: requests by label and both decisions, and sums of differences.

    Parameters
    ----------
    table
        Counts of requests that both versions answered, shape ``(3, 3, 3)``: label, champion's decision, challenger's
        decision; each negative, positive, or not known.
    sums
        Differences of a loss by its name, over labelled requests (``brier``, ``log_loss``), and ``score`` over all.
    only_champion, only_challenger
        Requests that the other version did not answer.
    complete
        Whether the window's labels may be taken as all there.
    """

    table: IntArray
    sums: Mapping[str, Sums] = field(default_factory=dict)
    only_champion: int = 0
    only_challenger: int = 0
    complete: bool = False

    @property
    def n(self) -> int:
        """Requests that both versions answered."""
        return int(self.table.sum())

    @property
    def n_labelled(self) -> int:
        return int(self.table[:UNKNOWN].sum())

    @property
    def n_decided(self) -> int:
        """Requests on which the decisions of both are known, labelled or not."""
        return int(self.table[:, :UNKNOWN, :UNKNOWN].sum())

    @property
    def n_differing(self) -> int:
        """Requests that the two decided differently, labelled or not."""
        return int(self.table[:, NEGATIVE, POSITIVE].sum() + self.table[:, POSITIVE, NEGATIVE].sum())

    def merge(self, other: PairCounts) -> PairCounts:
        empty = Sums()
        names = dict.fromkeys([*self.sums, *other.sums])
        both = {
            name: self.sums[name].merge(other.sums[name])
            if name in self.sums and name in other.sums
            else self.sums.get(name, other.sums.get(name, empty))
            for name in names
        }
        return PairCounts(
            self.table + other.table,
            both,
            self.only_champion + other.only_champion,
            self.only_challenger + other.only_challenger,
            self.complete and other.complete,
        )


def nothing() -> PairCounts:
    """The counts of no request: what merging starts from."""
    return PairCounts(np.zeros((3, 3, 3), np.int64), complete=True)


def merge_all(counts: Iterable[PairCounts]) -> PairCounts:
    return reduce(PairCounts.merge, counts, nothing())


@dataclass(frozen=True, eq=False)
class Answers:
    """What one version said to requests, in their order: score and decision (0 or 1), NaN where there is none."""

    scores: FloatArray
    decisions: FloatArray


def count_pairs(
    champion: Answers,
    challenger: Answers,
    labels: FloatArray,
    *,
    only_champion: int = 0,
    only_challenger: int = 0,
    complete: bool = False,
) -> PairCounts:
    """Count requests that both versions answered.

    Parameters
    ----------
    labels
        0 or 1, NaN where none has landed; same shape ``(N,)`` as the answers.

    Notes
    -----
    Brier score and log loss are of probabilities: where a score lies outside [0, 1] the window has neither.
    """
    cells = [_coded(part) for part in (labels, champion.decisions, challenger.decisions)]
    flat = np.bincount((cells[0] * 3 + cells[1]) * 3 + cells[2], minlength=27)
    scores = (champion.scores, challenger.scores)
    moved = challenger.scores - champion.scores
    sums = {"score": sums_of(np.where(np.isfinite(moved), moved, np.nan), bound=None)}
    if all(_are_probabilities(each) for each in scores):
        losses = [(each - labels) ** 2 for each in scores]
        sums["brier"] = sums_of(losses[1] - losses[0], bound=1.0)
        losses = [_log_loss(each, labels) for each in scores]
        sums["log_loss"] = sums_of(losses[1] - losses[0], bound=LOG_LOSS_BOUND)
    return PairCounts(flat.reshape(3, 3, 3).astype(np.int64), sums, only_champion, only_challenger, complete)


def _coded(values: FloatArray) -> IntArray:
    return np.where(np.isnan(values), UNKNOWN, values != 0).astype(np.int64)


def _are_probabilities(scores: FloatArray) -> bool:
    known = scores[~np.isnan(scores)]
    return bool(len(known)) and bool(((known >= 0) & (known <= 1)).all())


def _log_loss(scores: FloatArray, labels: FloatArray) -> FloatArray:
    p = np.clip(scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return np.asarray(-np.where(labels == 1, np.log(p), np.log1p(-p)) + 0 * labels, dtype=np.float64)


# --- differences -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Challenger less champion, with an interval that is valid at every look; ``value`` ``None``: see ``reason``.

    ``exact`` says that the interval supposes nothing but the bound; else it is asymptotic.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    exact: bool = True
    reason: str = ""


SMALLER_IS_BETTER = frozenset({"error", "brier", "log_loss", "absolute_error"})
DIFFERENCES = ("error", "brier", "log_loss", "precision", "recall", "value")


def difference(
    counts: PairCounts, metric: str, *, worth: Mapping[str, float] | None = None, level: float = 0.95
) -> Difference:
    """How much better or worse the challenger is than the champion on the requests counted so far.

    Parameters
    ----------
    metric
        One of :data:`DIFFERENCES`, or any loss whose sums the counts hold.
    worth
        What ``tp``, ``fp``, ``fn`` and ``tn`` are worth; needed for ``value``.
    level
        Share of all sequences of looks whose every interval holds the truth.
    """
    if not counts.n_labelled:
        return Difference(None, reason="no_labels" if counts.n else "no_pairs")
    decided = counts.table[:UNKNOWN, :UNKNOWN, :UNKNOWN]
    if metric == "precision":
        return _precision(decided, level=level)
    if metric in ("error", "recall", "value"):
        if not decided.sum():
            return Difference(None, reason="no_decisions")
        found = _of_decisions(decided, metric, worth or {})
        return _bounded(found, level=level) if found.n else Difference(None, reason="no_positives")
    sums = counts.sums.get(metric, Sums())
    if not sums.n:
        return Difference(None, reason="scores_are_no_probabilities" if metric in DIFFERENCES else "not_counted")
    return _bounded(sums, level=level)


def _of_decisions(decided: IntArray, metric: str, worth: Mapping[str, float]) -> Sums:
    """Sums of what follows from label and decision alone; ``decided`` has the shape (label, champion, challenger)."""
    gains = np.zeros((2, 2, 2))
    for label in (0, 1):
        for first in (0, 1):
            for second in (0, 1):
                if metric == "error":
                    gains[label, first, second] = (second != label) - float(first != label)
                elif metric == "recall":
                    gains[label, first, second] = second - first
                else:
                    told = [float(worth.get(_OUTCOMES[label, each], 0.0)) for each in (first, second)]
                    gains[label, first, second] = told[1] - told[0]
    counted = decided[1:] if metric == "recall" else decided
    gains = gains[1:] if metric == "recall" else gains
    bound = float(np.abs(gains).max()) or 1.0
    return Sums(int(counted.sum()), float((counted * gains).sum()), float((counted * gains**2).sum()), bound)


_OUTCOMES = {(1, 1): "tp", (0, 1): "fp", (1, 0): "fn", (0, 0): "tn"}


def discordant(counts: PairCounts) -> tuple[int, int]:
    """Labelled requests that only the challenger got right, and that only the champion did (McNemar's two cells)."""
    t = counts.table
    return (
        int(t[POSITIVE, NEGATIVE, POSITIVE] + t[NEGATIVE, POSITIVE, NEGATIVE]),
        int(t[POSITIVE, POSITIVE, NEGATIVE] + t[NEGATIVE, NEGATIVE, POSITIVE]),
    )


def _precision(decided: IntArray, *, level: float) -> Difference:
    """Difference of two shares of different requests: linear in each request to first order, so asymptotic.

    A request that neither calls positive does not matter; the others each move it by
    ``b (y − p_b) / P(b) − a (y − p_a) / P(a)``.
    """
    flagged = decided.astype(np.float64).copy()
    flagged[:, 0, 0] = 0
    n = float(flagged.sum())
    first, second = flagged[:, 1, :].sum(axis=1), flagged[:, :, 1].sum(axis=1)
    if not first.sum() or not second.sum():
        return Difference(None, reason="no_positive_decisions")
    p = [float(side[1] / side.sum()) for side in (first, second)]
    share = [float(side.sum()) / n for side in (first, second)]
    label, a, b = np.indices((2, 2, 2))
    pull = b * (label - p[1]) / share[1] - a * (label - p[0]) / share[0]
    variance = float((flagged * pull**2).sum()) / n
    low, high = asymptotic_interval(p[1] - p[0], variance, int(n), level=level)
    return Difference(p[1] - p[0], max(low, -1.0), min(high, 1.0), int(n), exact=False)


def _bounded(sums: Sums, *, level: float) -> Difference:
    mean = sums.total / sums.n
    if sums.bound is None:
        low, high = asymptotic_interval(mean, max(0.0, sums.squares / sums.n - mean**2), sums.n, level=level)
        return Difference(mean, low, high, sums.n, exact=False)
    low, high = exact_interval(sums, level=level)
    return Difference(mean, low, high, sums.n)


# --- intervals that are valid at every look --------------------------------------------------------


def exact_interval(sums: Sums, *, level: float = 0.95) -> tuple[float, float]:
    """A confidence sequence for the mean difference: with probability ``level`` it holds at all looks at once.

    For differences ``d`` in ``[−B, B]``, ``exp(λ (d − μ)/B − ψ(λ) d²/B²)`` with ``ψ(λ) = −log(1 − λ) − λ`` has an
    expectation of at most 1 for every ``λ`` in [0, 1), so its product over requests is a test supermartingale, and so
    is its mixture over ``λ`` by a gamma law.  The interval is where neither side's mixture has reached ``2 / α``.

    Parameters
    ----------
    sums
        ``n``, sum and sum of squares so far, with their ``bound``.

    Notes
    -----
    Nothing is supposed but the bound: not that requests are alike or independent, nor that there are many.  What is
    covered is the average, over the requests so far, of each one's expected difference given those before it.  It
    depends on the sums alone, so the order in which windows are added up does not matter.
    """
    if not sums.n or sums.bound is None:
        return -math.inf, math.inf
    v = sums.squares / sums.bound**2
    half = sums.bound * _gamma_exponential(v, alpha=(1 - level) / 2) / sums.n
    mean = sums.total / sums.n
    return max(mean - half, -sums.bound), min(mean + half, sums.bound)


def _gamma_exponential(v: float, *, alpha: float) -> float:
    """How far a sum of differences of size at most 1 may stray at the time when their squares add up to ``v``."""
    from scipy.optimize import brentq  # noqa: PLC0415 - 13 MB, only for those who compare versions
    from scipy.special import gammainc, gammaln  # noqa: PLC0415

    rho = _TUNED_AT / (2 * math.log(1 / (2 * alpha)) + math.log1p(2 * math.log(1 / (2 * alpha))))
    constant = rho * math.log(rho) - gammaln(rho) - math.log(gammainc(rho, rho))
    shape = v + rho

    def log_mixture(s: float) -> float:
        at = s + v + rho
        return float(
            constant + gammaln(shape) + math.log(max(gammainc(shape, at), 1e-300)) - shape * math.log(at) + s + v
        )

    goal = math.log(1 / alpha)
    upper = 10.0 + 10.0 * math.sqrt(v + 1)
    while log_mixture(upper) < goal:
        upper *= 2
    return float(brentq(lambda s: log_mixture(s) - goal, 0.0, upper, xtol=1e-9 * max(1.0, upper)))


def asymptotic_interval(mean: float, variance: float, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """An asymptotic confidence sequence: as :func:`exact_interval`, for means without a bound and for ratios.

    ``mean ± σ √(2 (nρ² + 1) / (n²ρ²) · log(√(nρ² + 1) / α))``

    Notes
    -----
    It supposes that the mean of ``n`` requests is close to normal by the first look, as a usual interval does.
    """
    if n < 2:
        return -math.inf, math.inf
    alpha = 1 - level
    rho2 = (2 * math.log(1 / alpha) + math.log1p(2 * math.log(1 / alpha))) / _TUNED_AT_N
    grown = n * rho2 + 1
    half = math.sqrt(variance * 2 * grown / (n * n * rho2) * math.log(math.sqrt(grown) / alpha))
    return mean - half, mean + half


# --- keeping ---------------------------------------------------------------------------------------


def to_bytes(counts: PairCounts) -> bytes:
    """A compact form for the store: some hundred bytes."""
    told = {
        "version": _VERSION,
        "table": counts.table.ravel().tolist(),
        "sums": {name: [s.n, s.total, s.squares, s.bound] for name, s in counts.sums.items()},
        "only": [counts.only_champion, counts.only_challenger],
        "complete": counts.complete,
    }
    return json.dumps(told, separators=(",", ":")).encode()


def from_bytes(blob: bytes) -> PairCounts:
    """What :func:`to_bytes` wrote.

    Raises
    ------
    ProfileError
        The bytes are damaged, or were written by a newer version.
    """
    try:
        told = json.loads(blob)
        if told["version"] != _VERSION:
            raise ProfileError(f"expected counts of pairs of version {_VERSION}, found {told['version']}")
        table = np.array(told["table"], np.int64).reshape(3, 3, 3)
        sums = {name: Sums(*each) for name, each in told["sums"].items()}
        return PairCounts(table, sums, told["only"][0], told["only"][1], told["complete"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ProfileError(f"these {len(blob)} bytes are not counts of pairs: {error}") from error
