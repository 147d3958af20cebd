"""Two versions of a model on the same requests: paired differences, and an interval that may be looked at every day.

A challenger that shadows the champion scores the same requests, so that most of what varies (which requests came)
cancels in the difference of their losses.  What is kept of a window are a few sums, which add up over windows; every
interval is a function of the sums so far.  Requests that can never be labelled enter as what they could make of the
difference at worst and at best: where both versions say the same of one, nothing.

References
----------
Hall, On the removal of skewness by transformation, 1992 (how much a skewed mean is off).
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

from detectors.profiles import BoolArray, FloatArray, IntArray, ProfileError

NEGATIVE, POSITIVE, UNKNOWN, NEVER = 0, 1, 2, 3
LOG_LOSS_CLIP = 0.001
"""Probabilities count as at least this and at most one less this, so that log loss has a bound."""
LOG_LOSS_BOUND = math.log((1 - LOG_LOSS_CLIP) / LOG_LOSS_CLIP)
_TUNED_AT = 100.0
"""Squared differences (for decisions: requests decided otherwise) at which the exact interval is at its best."""
_TUNED_AT_N = 1000.0
FEWEST_UNBOUNDED = 300
"""Of differences without a bound, fewer say nothing: what is rare and large has not been seen yet."""
_VERSION = 2
_LOW, _HIGH = "_low", "_high"


# --- counts ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sums:
    """Sums of differences, challenger less champion; they merge by addition.

    Parameters
    ----------
    bound
        No difference is larger than this in size; ``None`` where there is no such bound.
    cubes
        Sum of third powers, which tell how skewed differences without a bound are.
    """

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    bound: float | None = 1.0
    cubes: float = 0.0

    @property
    def mean(self) -> float | None:
        return self.total / self.n if self.n else None

    def merge(self, other: Sums) -> Sums:
        bounds = (self.bound, other.bound)
        bound = None if None in bounds else max(b for b in bounds if b is not None)
        squares, cubes = self.squares + other.squares, self.cubes + other.cubes
        return Sums(self.n + other.n, self.total + other.total, squares, bound, cubes)


def sums_of(differences: FloatArray, *, bound: float | None) -> Sums:
    """Sums of one window's differences; missing ones (NaN) are left out."""
    known = differences[~np.isnan(differences)]
    squares = known * known
    return Sums(len(known), float(known.sum()), float(squares.sum()), bound, float((squares * known).sum()))


@dataclass(frozen=True, eq=False)
class PairCounts:
    """What one window says about two versions: requests by label and both decisions, and sums of differences.

    Parameters
    ----------
    table
        Counts of requests that both versions answered, shape ``(4, 3, 3)``: label, champion's decision, challenger's
        decision; each negative, positive, or not known, and a label also one that can never be.  Of several classes
        the challenger's is negative where it is the champion's and positive where it is another; of numbers no
        decision is known.  There a label that is known counts as negative.
    sums
        Differences of a loss by its name, over labelled requests, and ``score`` over all.  ``brier_low`` and
        ``brier_high`` are the least and the most it can be over those that can never be labelled.
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
    def n_never(self) -> int:
        """Requests that can never be labelled."""
        return int(self.table[NEVER].sum())

    @property
    def n_decided(self) -> int:
        """Requests on which the decisions of both are known, labelled or not."""
        return int(self.table[:, :UNKNOWN, :UNKNOWN].sum())

    @property
    def n_differing(self) -> int:
        """Requests that the two decided differently, labelled or not."""
        # Of classes the champion's is always "negative".
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
    return PairCounts(np.zeros((4, 3, 3), np.int64), complete=True)


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
    never: BoolArray | None = None,
    only_champion: int = 0,
    only_challenger: int = 0,
    complete: bool = False,
) -> PairCounts:
    """Count requests that both versions answered.

    Parameters
    ----------
    labels
        0 or 1, NaN where none has landed; same shape ``(N,)`` as the answers.
    never
        Which requests can never be labelled; ``None``: all can.

    Notes
    -----
    Brier score and log loss are of probabilities: where a score lies outside [0, 1] the window has neither.
    """
    sums = {"score": _score_sums(champion.scores, challenger.scores)}
    scores = (champion.scores, challenger.scores)
    if all(_are_probabilities(each) for each in scores):
        for name, loss, bound in (("brier", _brier, 1.0), ("log_loss", _log_loss, LOG_LOSS_BOUND)):
            sums[name] = sums_of(loss(scores[1], labels) - loss(scores[0], labels), bound=bound)
            if never is not None and never.any():
                either = [loss(scores[1][never], y) - loss(scores[0][never], y) for y in (0.0, 1.0)]
                sums[name + _LOW] = sums_of(np.minimum(*either), bound=bound)
                sums[name + _HIGH] = sums_of(np.maximum(*either), bound=bound)
    table = _table(_coded(labels), _coded(champion.decisions), _coded(challenger.decisions), never)
    return PairCounts(table, sums, only_champion, only_challenger, complete)


def count_classes(
    champion: IntArray,
    challenger: IntArray,
    labels: IntArray,
    *,
    probabilities: tuple[FloatArray, FloatArray] | None = None,
    only_champion: int = 0,
    only_challenger: int = 0,
    complete: bool = False,
) -> PairCounts:
    """Count requests of which both versions named one of several classes.

    Parameters
    ----------
    champion, challenger, labels
        Classes as numbers of one's own, -1 for none, shape ``(N,)``.
    probabilities
        What either version gave the true class, shape ``(N,)``, NaN where that is not known.  Where it lies outside
        [0, 1] the window has no log loss.
    """
    known = [each >= 0 for each in (champion, challenger, labels)]
    decided = [
        np.where(known[0], NEGATIVE, UNKNOWN),
        np.where(known[1], known[0] & (champion != challenger), UNKNOWN),
    ]
    wrong = [np.where(known[at] & known[2], each != labels, np.nan) for at, each in enumerate((champion, challenger))]
    sums = {"error": sums_of(wrong[1] - wrong[0], bound=1.0)}
    if probabilities is not None and all(_are_probabilities(each) for each in probabilities):
        losses = [_log_loss(each, 1.0 + 0 * each) for each in probabilities]
        sums["log_loss"] = sums_of(losses[1] - losses[0], bound=LOG_LOSS_BOUND)
    table = _table(np.where(known[2], NEGATIVE, UNKNOWN), *decided)
    return PairCounts(table, sums, only_champion, only_challenger, complete)


def count_numbers(
    champion: FloatArray,
    challenger: FloatArray,
    labels: FloatArray,
    *,
    only_champion: int = 0,
    only_challenger: int = 0,
    complete: bool = False,
) -> PairCounts:
    """Count requests of which both versions predicted a number, in the unit of the labels; NaN for none."""
    sums = {"score": _score_sums(champion, challenger)}
    errors = [np.where(np.isfinite(each), each - labels, np.nan) for each in (champion, challenger)]
    sums["absolute_error"] = sums_of(np.abs(errors[1]) - np.abs(errors[0]), bound=None)
    sums["squared_error"] = sums_of(errors[1] ** 2 - errors[0] ** 2, bound=None)
    unknown = np.full(len(labels), UNKNOWN)
    table = _table(np.where(np.isnan(labels), UNKNOWN, NEGATIVE), unknown, unknown)
    return PairCounts(table, sums, only_champion, only_challenger, complete)


def _table(labels: IntArray, first: IntArray, second: IntArray, never: BoolArray | None = None) -> IntArray:
    cells = labels if never is None else np.where(never, NEVER, labels)
    flat = np.bincount((cells * 3 + first) * 3 + second, minlength=36)
    return np.asarray(flat.reshape(4, 3, 3).astype(np.int64))


def _score_sums(first: FloatArray, second: FloatArray) -> Sums:
    moved = second - first
    return sums_of(np.where(np.isfinite(moved), moved, np.nan), bound=None)


def _coded(values: FloatArray) -> IntArray:
    return np.where(np.isnan(values), UNKNOWN, values != 0).astype(np.int64)


def _are_probabilities(scores: FloatArray) -> bool:
    known = scores[~np.isnan(scores)]
    return bool(len(known)) and bool(((known >= 0) & (known <= 1)).all())


def _brier(scores: FloatArray, labels: FloatArray | float) -> FloatArray:
    return np.asarray((scores - labels) ** 2, dtype=np.float64)


def _log_loss(scores: FloatArray, labels: FloatArray | float) -> FloatArray:
    p = np.clip(scores, LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP)
    return np.asarray(-np.where(labels == 1, np.log(p), np.log1p(-p)) + 0 * labels, dtype=np.float64)


# --- differences -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Challenger less champion, with an interval that is valid at every look; ``value`` ``None``: see ``reason``.

    ``exact`` says that the interval supposes nothing but the bound; else it is asymptotic.  ``bounds`` are the least
    and the most the difference can be whatever the labels that can never be; ``low`` and ``high`` then hold it at every
    look, or are ``None`` where nothing is offered.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    exact: bool = True
    reason: str = ""
    bounds: tuple[float, float] | None = None


SMALLER_IS_BETTER = frozenset({"error", "brier", "log_loss", "absolute_error", "squared_error"})
DIFFERENCES = ("error", "brier", "log_loss", "precision", "recall", "value")
_NOTHING = {"error": "no_decisions", "absolute_error": "no_predictions", "squared_error": "no_predictions"}


def difference(  # noqa: PLR0911 - one line for each thing that can be missing
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
    never = counts.table[NEVER, :UNKNOWN, :UNKNOWN]
    if metric in ("precision", "recall") and never.any():
        bounds = (_precision_bounds if metric == "precision" else _recall_bounds)(decided, never)
        n = int(decided.sum() + never.sum())
        return Difference(None, n=n, reason="never_labelled" if bounds else "no_positive_decisions", bounds=bounds)
    if metric == "precision":
        return _precision(decided, level=level)
    if metric in counts.sums:
        return _of_losses(counts.sums, metric, level=level)
    if metric not in ("error", "recall", "value"):
        return Difference(None, reason="scores_are_no_probabilities" if metric in DIFFERENCES else "not_counted")
    if not decided.sum():
        return Difference(None, reason="no_decisions")
    return _between(*_of_decisions(decided, never, metric, worth or {}), level=level)


def _of_losses(sums: Mapping[str, Sums], metric: str, *, level: float) -> Difference:
    known = sums[metric]
    if not known.n:
        return Difference(None, reason=_NOTHING.get(metric, "scores_are_no_probabilities"))
    ends = [known.merge(sums.get(metric + end, Sums(bound=known.bound))) for end in (_LOW, _HIGH)]
    return _between(ends[0], ends[1], level=level)


def _gains(metric: str, worth: Mapping[str, float]) -> FloatArray:
    """What a request adds to the difference by its label and both decisions, shape ``(2, 2, 2)``."""
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
    return gains


def _of_decisions(decided: IntArray, never: IntArray, metric: str, worth: Mapping[str, float]) -> tuple[Sums, Sums]:
    """Sums of what follows from label and decision alone, at the least and at the most of what is not known.

    ``decided`` has the shape (label, champion, challenger), ``never`` that of the requests that can never be labelled.
    """
    gains = _gains(metric, worth)
    bound = float(np.abs(gains).max()) or 1.0
    known = _summed(decided[1:], gains[1:], bound) if metric == "recall" else _summed(decided, gains, bound)
    if metric == "recall":
        return known, known
    least, most = (known.merge(_summed(never, each, bound)) for each in (gains.min(axis=0), gains.max(axis=0)))
    return least, most


def _summed(counts: IntArray, gains: FloatArray, bound: float) -> Sums:
    return Sums(int(counts.sum()), float((counts * gains).sum()), float((counts * gains**2).sum()), bound)


_OUTCOMES = {(1, 1): "tp", (0, 1): "fp", (1, 0): "fn", (0, 0): "tn"}


def discordant(counts: PairCounts) -> tuple[int, int]:
    """Labelled requests that only the challenger got right, and that only the champion did (McNemar's two cells)."""
    if "error" in counts.sums:
        error = counts.sums["error"]
        return round((error.squares - error.total) / 2), round((error.squares + error.total) / 2)
    t = counts.table
    return (
        int(t[POSITIVE, NEGATIVE, POSITIVE] + t[NEGATIVE, POSITIVE, NEGATIVE]),
        int(t[POSITIVE, POSITIVE, NEGATIVE] + t[NEGATIVE, NEGATIVE, POSITIVE]),
    )


def _recall_bounds(decided: IntArray, never: IntArray) -> tuple[float, float] | None:
    """The least and the most that recall can differ by, whichever of the ``never`` labelled are positives."""
    highest = _most_recall(decided[1], never)
    lowest = _most_recall(decided[1].T, never.T)
    return None if highest is None or lowest is None else (-lowest, highest)


def _most_recall(positives: IntArray, never: IntArray) -> float | None:
    """Positives among those that only the challenger flags help it; ones on which both agree only dilute a loss."""
    gain = int(positives[0, 1] + never[0, 1] - positives[1, 0])
    n = int(positives.sum() + never[0, 1])
    if gain < 0:
        n += int(never[0, 0] + never[1, 1])
    return gain / n if n else None


def _precision_bounds(decided: IntArray, never: IntArray) -> tuple[float, float] | None:
    """The least and the most that precision can differ by: linear in how many of each cell are positives."""
    every = decided.sum(axis=0) + never
    n = [int(every[1].sum()), int(every[:, 1].sum())]
    if not all(n):
        return None
    known = float(decided[1][:, 1].sum() / n[1] - decided[1][1].sum() / n[0])
    pulls = [(never[0, 1], 1 / n[1]), (never[1, 0], -1 / n[0]), (never[1, 1], 1 / n[1] - 1 / n[0])]
    low = known + sum(float(count) * min(pull, 0.0) for count, pull in pulls)
    high = known + sum(float(count) * max(pull, 0.0) for count, pull in pulls)
    return max(low, -1.0), min(high, 1.0)


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


def _between(least: Sums, most: Sums, *, level: float) -> Difference:
    """A point where both ends are one; else bounds, with an interval that holds them and what lies between.

    Each request's difference lies between what it adds to ``least`` and to ``most``, so that the lower end of the one
    sequence and the upper end of the other hold the truth at all looks, too.
    """
    if not most.n:
        return Difference(None, reason="no_positives")
    low, high = _interval(least, level=level)[0], _interval(most, level=level)[1]
    exact = most.bound is not None
    if math.isclose(least.total, most.total, abs_tol=1e-12):
        return Difference(most.total / most.n, low, high, most.n, exact)
    ends = (least.total / least.n, most.total / most.n)
    return Difference(None, low, high, most.n, exact, reason="never_labelled", bounds=ends)


def _interval(sums: Sums, *, level: float) -> tuple[float, float]:
    if sums.bound is not None:
        return exact_interval(sums, level=level)
    if sums.n < FEWEST_UNBOUNDED:
        return -math.inf, math.inf
    mean = sums.total / sums.n
    variance = max(0.0, sums.squares / sums.n - mean**2)
    third = sums.cubes / sums.n - 3 * mean * sums.squares / sums.n + 2 * mean**3
    skewness = third / variance**1.5 if variance > 0 else 0.0
    return asymptotic_interval(mean, variance, sums.n, skewness=skewness, level=level)


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


def asymptotic_interval(
    mean: float, variance: float, n: int, *, skewness: float = 0.0, level: float = 0.95
) -> tuple[float, float]:
    """An asymptotic confidence sequence: as :func:`exact_interval`, for means without a bound and for ratios.

    ``mean ± σ √(2 (nρ² + 1) / (n²ρ²) · log(√(nρ² + 1) / α))``

    Parameters
    ----------
    skewness
        Of the differences.  The end on the side of the long tail is moved out by Hall's
        ``skewness (2 z² + 1) / (6 √n)`` standard errors, ``z`` being the half width in these: a large difference that
        is rare has been seen too seldom more often than too often.

    Notes
    -----
    It supposes that the mean of ``n`` requests is close to normal by the first look, as a usual interval does.
    """
    if n < 2:
        return -math.inf, math.inf
    alpha = 1 - level
    rho2 = (2 * math.log(1 / alpha) + math.log1p(2 * math.log(1 / alpha))) / _TUNED_AT_N
    grown = n * rho2 + 1
    spread = 2 * grown / (n * rho2) * math.log(math.sqrt(grown) / alpha)
    error = math.sqrt(variance / n)
    half, bent = error * math.sqrt(spread), error * skewness * (2 * spread + 1) / (6 * math.sqrt(n))
    return mean - half + min(bent, 0.0), mean + half + max(bent, 0.0)


# --- keeping ---------------------------------------------------------------------------------------


def to_bytes(counts: PairCounts) -> bytes:
    """A compact form for the store: some hundred bytes."""
    told = {
        "version": _VERSION,
        "table": counts.table.ravel().tolist(),
        "sums": {name: [s.n, s.total, s.squares, s.bound, s.cubes] for name, s in counts.sums.items()},
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
        table = np.array(told["table"], np.int64).reshape(4, 3, 3)
        sums = {name: Sums(*each) for name, each in told["sums"].items()}
        return PairCounts(table, sums, told["only"][0], told["only"][1], told["complete"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ProfileError(f"these {len(blob)} bytes are not counts of pairs: {error}") from error
