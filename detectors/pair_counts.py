"""What two versions of a model said of the same requests, as counts and sums of differences that add up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from detectors.confidence_sequences import Sums, sums_of
from detectors.profiles import BoolArray, FloatArray, IntArray, ProfileError

NEGATIVE, POSITIVE, UNKNOWN, NEVER = 0, 1, 2, 3
LOG_LOSS_CLIP = 0.001
"""Probabilities count as at least this and at most one less this, so that log loss has a bound."""
LOG_LOSS_BOUND = math.log((1 - LOG_LOSS_CLIP) / LOG_LOSS_CLIP)
_VERSION = 2
LOW, HIGH = "_low", "_high"
"""Ends of the names of the sums that hold the least and the most over requests that can never be labelled."""


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
                sums[name + LOW] = sums_of(np.minimum(*either), bound=bound)
                sums[name + HIGH] = sums_of(np.maximum(*either), bound=bound)
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
