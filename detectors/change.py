"""Has a column changed? One calibrated test of value shift, missing values and new categories, and which part moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import scipy

from detectors.effective_size import Dependence, Entities, independent, measure, measure_score, pooled_shares
from detectors.intervals import two_share_p_value
from detectors.null_law import NullLaw
from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    Column,
    ColumnProfile,
    ColumnSpec,
    FloatArray,
    IntArray,
    NumericProfile,
)
from detectors.quality import is_constant
from detectors.statistic import MIN_EXPECTED, binned, bins_of, probability

Part = Literal["values", "level", "missing", "new"]


_FEWEST_BINS = 5
_SATURATED = 0.8
"""Beyond this distance PSI is no function of it any more, and the distance is told."""


@dataclass(frozen=True, eq=False)
class History:
    """Counts of one column in the windows that show how far it wanders without change, oldest first.

    Parameters
    ----------
    bins
        Rows in the bins of :func:`detectors.statistic.bins_of` (values, unseen, missing), shape ``(W, B)``.
    groups
        The season's phase of each window, shape ``(W,)``; ``None`` without seasons.
    windows
        Counts of the windows of a numeric column, for what bins do not tell: where their tails lie.
    constant
        Whether any window of some size held a single value.
    entities
        The rows are not of windows but of groups of entities of the window that is judged.
    """

    bins: IntArray
    groups: IntArray | None = None
    windows: Sequence[NumericProfile] = ()
    constant: bool = False
    entities: Entities | None = None

    def __len__(self) -> int:
        return len(self.bins)


@dataclass(frozen=True, eq=False)
class Watched(Column):
    """A column of a baseline together with what is known of how it wanders without change.

    Parameters
    ----------
    history
        The windows that show it; ``None`` without any.
    reference_windows
        Windows that ``reference`` is the sum of.
    season
        What the reference was matched to, in words; empty where it is all windows.
    recent
        The column's windows just before the one to be judged, oldest first: they are judged together where a single
        one holds too little.
    n_columns
        How many columns the baseline's are worth as tests: those that move together count once.
    segments
        The same for the rows of one segment: its history by ``"column=value"``.
    before_recent
        With a rolling baseline, its windows before ``recent``: what these are compared with when judged together.
    recent_references
        With a season, what each of ``recent`` is compared with: the windows of its own phase.
    same_week
        The baseline's windows of the same time of the week, where ``reference`` is of other times, too: what comes
        again every week is a fault only if it was not there before.
    """

    history: History | None = None
    reference_windows: float = 1.0
    season: str = ""
    recent: tuple[ColumnProfile, ...] = ()
    n_columns: float | None = None
    segments: Mapping[str, History] = field(default_factory=dict)
    recent_references: tuple[ColumnProfile, ...] = ()
    same_week: Sequence[ColumnProfile] = ()
    before_recent: Sequence[ColumnProfile] = ()


@dataclass(frozen=True, eq=False)
class ChangeTest:
    """What the test of one column says.

    Parameters
    ----------
    p_value
        Of the part that moved most, times the number of parts that were looked at.
    part
        That part: ``values`` (shares of bins), ``level`` (up or down as a whole), ``missing`` or ``new``.
    parts
        The p-value of each part.
    law
        The law of PSI's quadratic form without change; ``None`` where there are no values on one side.
    dependence
        What it was derived from.
    can_tell
        False where the baseline's windows cannot tell how far the column wanders.
    """

    p_value: float
    part: Part
    parts: dict[Part, float]
    law: NullLaw | None
    dependence: Dependence
    can_tell: bool = True

    alike: float = 0.0
    """Correlation of this window's deviation with that of the next: shared reference, and memory."""
    bias_factor: float = 1.0
    """How much further chance moves bins than it would with two samples of independent rows."""

    def smallest_detectable(self, alpha: float) -> float | None:
        """The smallest PSI that would be found at ``alpha`` in 80 % of such windows; ``None`` if nothing could be.

        Of a change in any direction, spread over the bins: a shift of all rows is found in more, by the part *level*.
        PSI is √δ artanh √δ where the shares of half of the bins rise and of half fall by √δ of themselves.
        """
        if self.law is None or not self.can_tell:
            return None
        found = self.law.smallest_detectable(alpha / max(1, len(self.parts)))
        if not math.isfinite(found):
            return None
        return math.sqrt(found) * math.atanh(math.sqrt(found)) if found < _SATURATED else found

    def describe(self) -> dict[str, Any]:
        """What it rests on, for people and for JSON."""
        assumed = not self.dependence.n_windows
        told: dict[str, Any] = {
            "part": self.part,
            "part_p_values": dict(self.parts),
            "design_effect": round(self.dependence.effect, 4),
            "baseline_windows": self.dependence.n_windows,
        }
        if self.dependence.entities is not None:
            told |= {"baseline_windows": 0, "entity_groups": self.dependence.n_windows}
        if assumed:
            told["assumes"] = "rows are independent: the baseline has too few windows to measure it"
        if self.dependence.memory > 1:
            told["memory_windows"] = round(self.dependence.memory, 3)
        return told


def change(
    spec: ColumnSpec,
    reference: ColumnProfile,
    current: ColumnProfile,
    *,
    history: History | None = None,
    windows: int = 1,
    reference_windows: float | None = None,
) -> ChangeTest:
    """Has the column changed between ``reference`` and ``current``?

    Up to four parts are tested, and Bonferroni's bound over them is the answer:

    - *values*: Σ (q − p)² / π over pooled bins of the values that are there, π the shares of both sides together,
      against the law that the ``history`` shows (:class:`~detectors.null_law.NullLaw`);
    - *level* (numeric): the mean normal score of the bins, one degree of freedom: finds a small shift of all rows;
    - *missing*: the share of missing values, against how that share wanders;
    - *new* (categorical): the heaviest value that the reference has never seen.

    Parameters
    ----------
    history
        Windows without change.  With fewer than eight of them rows are taken to be independent.
    windows
        Successive windows that ``current`` is the sum of.
    reference_windows
        Windows that ``reference`` is the sum of (default: those of the history, or 1).

    Notes
    -----
    The test is of frequency only: on columns whose level wanders from window to window (a mean of the last 24 hours)
    the law is as wide as the windows show, and a shift that any day could show is not a finding.
    """
    if reference_windows is None:
        reference_windows = float(len(history)) if history is not None and len(history) else 1.0
    counts = bins_of(spec, reference, current)
    r, c = counts.reference, counts.current
    past = history.bins if history is not None else np.zeros((0, len(r)), dtype=np.int64)
    how = _How() if history is None else _How(history.groups, history.entities)
    span = (float(windows), reference_windows)
    parts: dict[Part, float] = {}
    law, dependence = None, independent(1)
    if r[:-1].sum() and c[:-1].sum():
        value_counts = _value_columns(spec, r[:-1], c[:-1], past[:, :-1])
        parts["values"], law, dependence = _values_part(*value_counts, how=how, span=span)
        if not isinstance(spec, CategoricalSpec) and len(r) > 3:
            parts["level"] = _level_part(r[:-1], c[:-1], past[:, :-1], how=how, span=span)
    if (r[-1] or c[-1]) and r.sum() and c.sum():
        sides = (int(r[-1]), int(r.sum())), (int(c[-1]), int(c.sum()))
        parts["missing"] = share_test(
            *sides,
            past=(past[:, -1], past.sum(axis=1)),
            groups=how.groups,
            span=span,
            entities=how.entities,
        ).p_value
    if isinstance(reference, CategoricalProfile) and isinstance(current, CategoricalProfile) and current.unseen:
        parts["new"] = _new_part(reference, current, dependence, past)
    if not parts:
        return ChangeTest(1.0, "values", {}, None, dependence)
    part = min(parts, key=lambda name: parts[name])
    p_value = min(1.0, len(parts) * parts[part])
    n, m = float(c[:-1].sum()), float(r[:-1].sum())
    if law is None:
        return ChangeTest(p_value, part, parts, law, dependence)
    factor = law.mean / len(law.spectrum) / (1 / n + 1 / m)
    own, shared = dependence.spread(n, span[0]), dependence.reference_spread(m, span[1])
    alike = _alike(dependence, own, shared)
    return ChangeTest(p_value, part, parts, law, dependence, dependence.can_tell, alike, factor)


@dataclass(frozen=True)
class ShareTest:
    """Whether a share has changed, and how alike the deviations of this window and the next one are."""

    p_value: float
    alike: float = 0.0


def share_test(
    reference: tuple[int, int],
    current: tuple[int, int],
    *,
    past: tuple[IntArray, IntArray] | None = None,
    groups: IntArray | None = None,
    span: tuple[float, float] = (1.0, 1.0),
    entities: Entities | None = None,
) -> ShareTest:
    """How likely is a difference this large between two shares ``(hits, rows)``, as far as such a share wanders?

    ``past`` are hits and rows of the windows that show it.  The exact test of independent rows, and Student's with the
    variance between windows: the larger p-value is the answer.
    """
    (k, n), (j, m) = current, reference
    plain = ShareTest(probability(two_share_p_value(reference, current)), n / max(1, n + m))
    if past is None or len(past[0]) == 0:
        return plain
    hits, rows = past
    dependence = measure(np.stack([hits, rows - hits], axis=1), groups, entities=entities)
    if not dependence.n_windows:
        return plain
    if not dependence.can_tell:
        return ShareTest(1.0)
    pooled = (k + j) / (n + m)
    if pooled in (0.0, 1.0):
        return ShareTest(1.0)
    own, shared = dependence.spread(n, span[0]), dependence.reference_spread(m, span[1])
    distance = (k / n - j / m) ** 2 / (pooled * (1 - pooled))
    wandering = 2 * float(scipy.special.stdtr(min(dependence.df, 1e9), -math.sqrt(distance / (own + shared))))
    return ShareTest(max(plain.p_value, wandering), _alike(dependence, own, shared))


def _alike(dependence: Dependence, own: float, shared: float) -> float:
    """Correlation of a window's deviation with the next one's: a reference that both share, and memory."""
    return (dependence.first_lag * own + shared) / (own + shared)


@dataclass(frozen=True)
class _How:
    """How the rows of a history belong together: by phase, or by groups of entities."""

    groups: IntArray | None = None
    entities: Entities | None = None


# --- the parts -----------------------------------------------------------------------------------


def _values_part(
    reference: IntArray, current: IntArray, past: IntArray, *, how: _How, span: tuple[float, float]
) -> tuple[float, NullLaw, Dependence]:
    """The quadratic distance of pooled bins and its law; pooled again where rows turn out to be worth less."""
    n, m = float(current.sum()), float(reference.sum())
    worth = 1.0
    for _ in range(2):
        enough = MIN_EXPECTED * (n + m) / min(n, m)
        if worth > 1:  # but never down to a few bins: a column that wanders by whole bins is not made calmer by it
            enough = max(enough, min(worth * enough, (n + m) / _FEWEST_BINS))
        # With seasons by what all phases hold: bins that suit one phase show nothing of how the others wander.
        totals = reference + current if how.groups is None else past.sum(axis=0) + current
        starts = pool(totals, enough * float(totals.sum()) / (n + m))
        r, c = np.add.reduceat(reference, starts), np.add.reduceat(current, starts)
        before = np.add.reduceat(past, starts, axis=1) if len(past) else past
        dependence = (
            measure(before, how.groups, entities=how.entities) if len(past) and len(r) > 1 else independent(len(r) - 1)
        )
        if dependence.effect < 1.5 * worth or len(r) < 3:
            break
        worth = min(dependence.effect, min(n, m) / (2 * MIN_EXPECTED))
    law = dependence.law(n, m, windows=span[0], reference_windows=span[1])
    if len(r) < 2:
        return 1.0, law, dependence
    pooled = (r + c) / (n + m)
    distance = float((((c / n - r / m) ** 2)[pooled > 0] / pooled[pooled > 0]).sum())
    return (law.p_value(distance) if dependence.can_tell else 1.0), law, dependence


def _level_part(
    reference: IntArray, current: IntArray, past: IntArray, *, how: _How, span: tuple[float, float]
) -> float:
    n, m = float(current.sum()), float(reference.sum())
    pooled = (reference + current) / (n + m)
    scores = normal_scores(pooled)
    if scores is None:
        return 1.0
    weights = scores if how.groups is None else _scores_of(past, how.groups)
    dependence = measure_score(past, weights, how.groups, entities=how.entities) if len(past) else independent(1)
    if not dependence.can_tell:
        return 1.0
    spread = dependence.spread(n, span[0]) + dependence.reference_spread(m, span[1])
    moved = float(scores @ (current / n - reference / m))
    return probability(2 * float(scipy.special.stdtr(min(dependence.df, 1e9), -abs(moved) / math.sqrt(spread))))


def _scores_of(windows: IntArray, groups: IntArray) -> FloatArray:
    """The scores of each window by the shares of its own phase, shape ``(W, B)``; zeros where it holds one bin."""
    found = np.zeros(windows.shape)
    held = windows.sum(axis=1) > 0
    if not held.any():
        return found
    shares = pooled_shares(windows[held], groups[held])
    scores, variance = _centred_scores(shares)
    flat = variance < _FLAT
    found[held] = np.where(flat[:, np.newaxis], 0.0, scores / np.sqrt(np.where(flat, 1.0, variance))[:, np.newaxis])
    return found


_FLAT = 1e-9


def normal_scores(shares: FloatArray) -> FloatArray | None:
    """Normal quantiles of the bins' middle ranks, of mean 0 and variance 1 under ``shares``; ``None`` for one bin."""
    scores, variance = _centred_scores(shares)
    return None if variance < _FLAT else np.asarray(scores / math.sqrt(float(variance)))


def _centred_scores(shares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Normal quantiles of middle ranks along the last axis, of mean 0 under the shares, and their variance."""
    middle = np.cumsum(shares, axis=-1) - shares / 2
    scores = scipy.special.ndtri(np.clip(middle, 1e-6, 1 - 1e-6))
    scores = scores - (scores * shares).sum(axis=-1, keepdims=True)
    return scores, np.asarray((scores * scores * shares).sum(axis=-1))


def _new_part(
    reference: CategoricalProfile, current: CategoricalProfile, dependence: Dependence, past: IntArray
) -> float:
    """How likely is it that a value is so frequent in the window and was never met in the reference?

    If the rows are exchangeable, a value that k of all rows have lies in the window alone with probability
    (n / (n + m))ᵏ, and at most (n + m) / k values are that frequent.  Where baseline windows have had values of their
    own of that size, it is as likely as the windows say.
    """
    if reference.unseen or not current.heavy_unseen:
        return 1.0
    heaviest = max(current.heavy_unseen.values())
    n, m = current.n, reference.n
    k = max(1.0, heaviest / dependence.effect)
    p_value = min(1.0, (n + m) / dependence.effect / k * (n / (n + m)) ** k)
    if len(past):
        own = np.where(past == past.sum(axis=0), past, 0).max(axis=1) / np.maximum(1, past.sum(axis=1))
        share = heaviest / n
        if (own >= share / 2).any():
            p_value = max(p_value, (1 + int((own >= share).sum())) / (1 + len(past)))
    return probability(p_value)


def _value_columns(spec: ColumnSpec, r: IntArray, c: IntArray, past: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Counts in the order in which they are pooled: numeric bins as they lie, categories from the rarest.

    Never-seen values are together with all categories that are not safely too frequent to have been never-seen
    themselves: what is *unseen* was decided by the reference's own luck.
    """
    if not isinstance(spec, CategoricalSpec):
        return r, c, past
    total = r + c
    spelled = np.array([*spec.categories, ""], dtype=object)
    order = np.lexsort((np.argsort(np.argsort(spelled, kind="stable")), total))
    unseen = len(total) - 1
    if total[unseen]:
        known = r[:-1]
        cut = float(known.min()) if r[unseen] and len(known) else 0.0
        enough = (cut + 3 * cut**0.5 + 7) * total.sum() / max(1, r.sum())
        rare = (total <= enough) | (np.arange(len(total)) == unseen)
        order = np.concatenate([order[rare[order]], order[~rare[order]]])
        starts = np.array([0, *range(int(rare.sum()), len(total))])
    else:
        order = order[order != unseen]
        starts = np.arange(len(order))
    return (
        np.add.reduceat(r[order], starts),
        np.add.reduceat(c[order], starts),
        np.add.reduceat(past[:, order], starts, axis=1) if len(past) else past[:, : len(starts)],
    )


def pool(totals: IntArray, enough: float) -> IntArray:
    """Where groups of neighbouring bins begin, each with a total of at least ``enough``."""
    starts, held, begun = [0], 0.0, 0
    for place, total in enumerate(totals.tolist()):
        held += total
        if held >= enough:
            starts.append(place + 1)
            held, begun = 0.0, place + 1
    if begun < len(totals):  # what is left is too little for a group of its own
        starts = starts[:-1] if len(starts) > 1 else starts
    elif starts[-1] == len(totals):
        starts = starts[:-1]
    return np.array(starts)


def history_of(
    spec: ColumnSpec, profiles: Sequence[ColumnProfile], *, groups: IntArray | None = None, min_rows: int = 30
) -> History:
    """The history that these profiles of successive windows make."""
    if not profiles:
        return History(np.zeros((0, 1), dtype=np.int64))
    bins = np.array([binned(spec, profile) for profile in profiles], dtype=np.int64)
    flat = any(is_constant(spec, profile, min_rows=min_rows) for profile in profiles)
    numeric = tuple(profile for profile in profiles if isinstance(profile, NumericProfile))
    return History(bins, groups, numeric, flat)


def fits(spec: ColumnSpec, profile: object) -> bool:
    """Whether a profile was counted over this spec's cells or categories."""
    if isinstance(spec, CategoricalSpec):
        return isinstance(profile, CategoricalProfile) and len(profile.counts) == len(spec.categories)
    return isinstance(profile, NumericProfile) and len(profile.cells) == spec.n_cells


def distances(history: History) -> FloatArray:
    """How far each window is from all of them together, Σ (q − p)² / p, shape ``(W,)``."""
    bins = history.bins
    total = bins.sum(axis=0)
    filled = total > 0
    p = total[filled] / max(1, total.sum())
    shares = bins[:, filled] / np.maximum(1, bins.sum(axis=1, keepdims=True))
    found: FloatArray = ((shares - p) ** 2 / p).sum(axis=1)
    return found
