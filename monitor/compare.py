"""Champion and challengers on the same requests: how often they agree, and which of them is right more often.

Agreement is told of each window as soon as its rows are in. Which version is better is told of all windows so far whose
labels are complete, taken in the order of time and each as a whole: which labels land first can then not favour a
version. Each label of the model is compared apart. The interval is valid at every look (`detectors/paired.py`). What is
kept of a window are sums, so that labels that land in one window rescan no other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors import pair_counts
from detectors.confidence_sequences import Sums
from detectors.pair_counts import Answers, PairCounts, count_classes, count_numbers, count_pairs, merge_all
from detectors.paired import SMALLER_IS_BETTER, Difference, difference, discordant
from monitor import counting, schedule
from monitor.checks import Scope
from monitor.config import CompareConfig, ModelConfig
from monitor.label_tasks import column_of, label_name
from monitor.messages import moment, operator
from monitor.models import DECISION, PAIRS, SCORE, Check, Message, Result, Roles, StoredProfile, Verdict, Window
from monitor.outcomes import coded, of_label
from monitor.sources import CLASS_SCORES, KEY, LABEL, NEVER, VERSION, Source, by_rows, read_versions, shadow_name
from monitor.store import ALL, Store

Floats = npt.NDArray[np.float64]
MOST_CHALLENGERS = 10
"""Of challengers that are not named, the ones with most rows."""
_PERCENTILES = (5, 25, 50, 75, 95)
_WORDS = {
    "error": "error rate", "brier": "Brier score", "log_loss": "log loss", "precision": "precision",
    "recall": "recall", "value": "value of a decision", "absolute_error": "mean absolute error",
    "squared_error": "mean squared error",
}  # fmt: skip
_POINTS = frozenset({"error", "precision", "recall"})
_IN_UNITS = frozenset({"absolute_error", "squared_error", "value"})
_REASONS = {
    "no_labels": "no labels yet",
    "no_pairs": "no request was answered by both",
    "no_decisions": "no request has a decision of both",
    "no_predictions": "no labelled request has a number of both",
    "no_positives": "no positive label yet",
    "no_positive_decisions": "a version has not decided positively yet",
    "scores_are_no_probabilities": "a score is missing, or lies outside of 0 to 1",
}


# --- counting --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pairing:
    """What one window says about the champion and one challenger."""

    champion: str
    challenger: str
    counts: PairCounts
    percentiles: Mapping[str, float] = field(default_factory=dict)

    @property
    def segment(self) -> str:
        """The name under which the counts are kept: another champion starts another series."""
        return json.dumps([self.champion, self.challenger], ensure_ascii=False)


@dataclass(frozen=True)
class Compared:
    """What a pass over one window's versions leaves behind; ``notes`` count rows that belong to no version or pair."""

    pairings: Sequence[Pairing]
    notes: Mapping[str, int] = field(default_factory=dict)


def count_window(source: Source, model: ModelConfig, roles: Roles, window: Window, *, now: datetime) -> Compared:
    """Read every version's rows of a window once, and count each challenger against the champion."""
    compare = model.compare
    if compare is None:
        return Compared([])
    mature = model.labels is not None and schedule.is_mature(model, window, now=now)
    stream = read_versions(source, model, roles, window, now=now)
    batches = [_narrow(batch) for batch in stream if batch.num_rows]
    if by_rows(model):
        champion = compare.champion or roles.champion
        return _rows_apart(batches, model, compare, champion, mature=mature, duplicates=stream.duplicates)
    return _columns_apart(batches, model, compare, mature=mature)


def _narrow(batch: pa.RecordBatch) -> pa.Table:
    """What is held of a window's rows until they are paired."""
    kept = (KEY, VERSION, SCORE, DECISION, LABEL, NEVER)
    names = [n for n in batch.schema.names if n in kept or n.startswith(("__shadow_", CLASS_SCORES))]
    return pa.table({name: batch.column(name) for name in names})


def _rows_apart(
    batches: Sequence[pa.Table],
    model: ModelConfig,
    compare: CompareConfig,
    champion: str | None,
    *,
    mature: bool,
    duplicates: int,
) -> Compared:
    table = pa.concat_tables(batches, promote_options="permissive").combine_chunks() if batches else None
    found: dict[str, int] = {}
    if table is not None:
        for name, n in zip(*pc.value_counts(table.column(VERSION)).flatten(), strict=True):
            found[name.as_py()] = n.as_py()
    nameless = found.pop(None, 0)  # type: ignore[call-overload]
    others = sorted((name for name in found if name != champion), key=lambda name: (-found[name], name))
    notes = {"duplicates": duplicates, "rows_without_version": nameless}
    if not compare.challengers and len(others) > MOST_CHALLENGERS:
        notes["versions_left_out"] = len(others) - MOST_CHALLENGERS
    if champion is None:
        return Compared([], _told(notes))
    mine = _rows_of(table, champion)
    pairings = [
        _paired_by_key(mine, _rows_of(table, name), model, (champion, name), mature=mature)
        for name in compare.challengers or others[:MOST_CHALLENGERS]
    ]
    return Compared(pairings, _told(notes))


def _told(notes: Mapping[str, int]) -> dict[str, int]:
    return {name: n for name, n in notes.items() if n}


def _rows_of(table: pa.Table | None, version: str) -> pa.Table | None:
    """The rows of one version that have a key; ``None`` without any."""
    if table is None:
        return None
    kept = table.filter(pc.and_(pc.equal(table.column(VERSION), version), pc.is_valid(table.column(KEY))))
    return kept.combine_chunks() if kept.num_rows else None


def _paired_by_key(
    first: pa.Table | None, second: pa.Table | None, model: ModelConfig, names: tuple[str, str], *, mature: bool
) -> Pairing:
    champion, challenger = names
    n = [0 if side is None else side.num_rows for side in (first, second)]
    if first is None or second is None:
        return Pairing(*names, replace(pair_counts.nothing(), only_champion=n[0], only_challenger=n[1]))
    place = pc.index_in(second.column(KEY), value_set=first.column(KEY).combine_chunks())
    place = place.combine_chunks() if isinstance(place, pa.ChunkedArray) else place
    both = second.filter(pc.is_valid(place))
    mine = first.take(place.drop_null())
    n_both = both.num_rows
    sides = [Side(mine, champion), Side(both, challenger)]
    return _pairing(names, sides, model, only=(n[0] - n_both, n[1] - n_both), mature=mature)


def _columns_apart(
    batches: Sequence[pa.Table], model: ModelConfig, compare: CompareConfig, *, mature: bool
) -> Compared:
    champion = compare.champion or "champion"
    table = pa.concat_tables(batches, promote_options="permissive").combine_chunks() if batches else None
    pairings = []
    for name in compare.challengers or list(compare.shadow):
        if table is None:
            pairings.append(Pairing(champion, name, pair_counts.nothing()))
            continue
        said = [_has_said(side, model) for side in (Side(table, champion), Side(table, name, shadow=True))]
        only = (int((said[0] & ~said[1]).sum()), int((said[1] & ~said[0]).sum()))
        both = table.filter(pa.array(said[0] & said[1]))
        sides = [Side(both, champion), Side(both, name, shadow=True)]
        pairings.append(_pairing((champion, name), sides, model, only=only, mature=mature))
    return Compared(pairings)


@dataclass(frozen=True)
class Side:
    """The rows of the requests that both answered, and under which names they hold what one version said."""

    table: pa.Table
    version: str
    shadow: bool = False

    def column(self, role: str) -> str:
        if self.shadow:
            return shadow_name(self.version, role)
        return {"score": SCORE, "decision": DECISION}.get(role, role)

    def numbers(self, role: str) -> Floats:
        return _column(self.table, self.column(role))

    def classes(self, role: str, places: dict[str, int]) -> npt.NDArray[np.int64]:
        name = self.column(role)
        if name not in self.table.column_names:
            return np.full(self.table.num_rows, -1)
        return coded(self.table.column(name), places)


def _has_said(side: Side, model: ModelConfig) -> npt.NDArray[np.bool_]:
    if _task(model) == "multiclass":
        return side.classes("decision", {}) >= 0
    return ~(np.isnan(side.numbers("score")) & np.isnan(side.numbers("decision")))


def _task(model: ModelConfig) -> str:
    return "binary" if model.labels is None else model.labels.task


def _pairing(
    names: tuple[str, str], sides: Sequence[Side], model: ModelConfig, *, only: tuple[int, int], mature: bool
) -> Pairing:
    """Count the requests that both answered; whether a label can ever be is decided by what the champion did."""
    count = {"binary": _count_decisions, "multiclass": _count_classes, "regression": _count_numbers}[_task(model)]
    counts, n_awaited = count(sides, model)
    counts = replace(counts, only_champion=only[0], only_challenger=only[1], complete=mature or n_awaited == 0)
    if _task(model) == "multiclass":
        return Pairing(*names, counts)
    moved = sides[1].numbers("score") - sides[0].numbers("score")
    moved = moved[np.isfinite(moved)]
    told = np.percentile(moved, _PERCENTILES).tolist() if len(moved) else []
    return Pairing(*names, counts, {f"p{p:02}": value for p, value in zip(_PERCENTILES, told, strict=False)})


def _count_decisions(sides: Sequence[Side], model: ModelConfig) -> tuple[PairCounts, int]:
    """The counts, and how many labels are still to come."""
    labels = _labels(sides)
    table = sides[0].table
    never = np.zeros(len(labels), bool)
    if NEVER in table.column_names:
        never = np.asarray(table.column(NEVER).fill_null(False).to_numpy(), dtype=bool)
        labels = np.where(never, np.nan, labels)
    counts = count_pairs(_answers(sides[0], model), _answers(sides[1], model), labels, never=never)
    return counts, int((np.isnan(labels) & ~never).sum())


def _count_classes(sides: Sequence[Side], model: ModelConfig) -> tuple[PairCounts, int]:
    places: dict[str, int] = {}
    said = [side.classes("decision", places) for side in sides]
    truth = [coded(side.table.column(LABEL), places) for side in sides]
    labels = np.where(truth[0] < 0, truth[1], truth[0])
    told = None if model.labels is None else [_of_the_true(side, labels, places, model.labels.scores) for side in sides]
    counts = count_classes(said[0], said[1], labels, probabilities=(told[0], told[1]) if told else None)
    return counts, int((labels < 0).sum())


def _of_the_true(
    side: Side, labels: npt.NDArray[np.int64], places: Mapping[str, int], scores: Mapping[str, str]
) -> Floats:
    """The probability that a version gave to the class that came true; NaN where it has no column."""
    given = np.full(len(labels), np.nan)
    for name in scores:
        given = np.where(labels == places.get(str(name), -2), side.numbers(f"{CLASS_SCORES}{name}"), given)
    return given


def _count_numbers(sides: Sequence[Side], _model: ModelConfig) -> tuple[PairCounts, int]:
    labels = _labels(sides)
    counts = count_numbers(sides[0].numbers("score"), sides[1].numbers("score"), labels)
    return counts, int(np.isnan(labels).sum())


def _labels(sides: Sequence[Side]) -> Floats:
    mine, theirs = (_column(side.table, LABEL) for side in sides)
    return np.where(np.isnan(mine), theirs, mine)


def _answers(side: Side, model: ModelConfig) -> Answers:
    """Scores and decisions of one version; a shadow took no decision, so its score and threshold say which it would."""
    scores, decisions = side.numbers("score"), side.numbers("decision")
    compare = model.compare
    threshold = model.threshold if compare is None else compare.thresholds.get(side.version, model.threshold)
    if threshold is not None:
        taken = np.where(np.isnan(scores), np.nan, scores >= threshold)
        decisions = np.where(np.isnan(decisions), taken, decisions)
    return Answers(scores, decisions)


def _column(table: pa.Table, name: str) -> Floats:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return counting.floats(table.column(name))


def profiles(scope: Scope, compared: Compared) -> list[StoredProfile]:
    """What of a window's pairs is kept, for each label apart."""
    column = column_of(scope.model, PAIRS)
    return [StoredProfile(scope.name, scope.window, column, each.counts, each.segment) for each in compared.pairings]


# --- what they say ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class SoFar:
    """All windows up to one whose labels are complete, from the first on.

    ``waiting`` is the first window that is not, where there is one: those after it wait for it.
    """

    counts: PairCounts
    n_windows: int
    first: Window | None
    waiting: Window | None


def judge(scope: Scope, compared: Compared, *, store: Store, now: datetime) -> list[Result]:
    """Agreement in this window, and paired differences over all requests so far, for each challenger.

    The model of ``scope`` is seen with one of its labels, as :func:`monitor.label_tasks.views` gives it.
    """
    kept: dict[str, list[StoredProfile]] = {}
    if scope.model.labels is not None and compared.pairings:
        start = datetime.fromtimestamp(0, tz=scope.window.start.tzinfo)
        column = column_of(scope.model, PAIRS)
        for each in store.profiles(scope.name, start=start, end=scope.window.start, columns=[column], segment=ALL):
            kept.setdefault(str(each.segment), []).append(each)
    results: list[Result] = []
    for pairing in compared.pairings:
        results += _agreement(scope, pairing, compared.notes)
        if scope.model.labels is not None:
            results += _differences(scope, pairing, so_far(scope, pairing, kept.get(pairing.segment, []), now=now))
    return of_label(scope.model, results)


def so_far(scope: Scope, pairing: Pairing, before: Iterable[StoredProfile], *, now: datetime) -> SoFar:
    """Add up this window and those before it, up to the first whose labels are still landing.

    A window that is old enough by the clock, and was not read again since, is left out rather than waited for.
    """
    found = [(each.window, each.profile) for each in before if isinstance(each.profile, PairCounts)]
    taken: list[tuple[Window, PairCounts]] = []
    for window, counts in [*sorted(found, key=lambda pair: pair[0]), (scope.window, pairing.counts)]:
        if counts.complete:
            taken.append((window, counts))
        elif window == scope.window or not schedule.is_mature(scope.model, window, now=now):
            return SoFar(merge_all(each for _, each in taken), len(taken), taken[0][0] if taken else None, window)
    return SoFar(merge_all(each for _, each in taken), len(taken), taken[0][0] if taken else None, None)


def _detail(pairing: Pairing) -> dict[str, Any]:
    # No incident follows from a challenger, so these rows decide nothing.
    return {"version": pairing.challenger, "versus": pairing.champion, "decides": False}


def _agreement(scope: Scope, pairing: Pairing, notes: Mapping[str, int]) -> list[Result]:
    counts, compare = pairing.counts, scope.model.compare
    seen = counts.n + counts.only_champion + counts.only_challenger
    score = counts.sums.get("score", Sums())
    shared = _detail(pairing) | {"n_champion": counts.n + counts.only_champion, "n_both": counts.n}
    rows: list[tuple[str, float | None, int, dict[str, Any]]] = [
        ("decision_disagreement", counts.n_differing / counts.n_decided if counts.n_decided else None,
         counts.n_decided, {"n_differing": counts.n_differing}),
        ("score_difference", score.mean, score.n, {"percentiles": dict(pairing.percentiles)}),
        ("unpaired_rate", (counts.only_champion + counts.only_challenger) / seen if seen else None, seen,
         {"only_champion": counts.only_champion, "only_challenger": counts.only_challenger, **notes}),
    ]  # fmt: skip
    left_out = {"regression": "decision_disagreement", "multiclass": "score_difference"}.get(_task(scope.model))
    results = []
    for metric, value, n, more in rows:
        # Who answered is told once, and not with every label.
        if metric == left_out or (metric == "unpaired_rate" and label_name(scope.model) is not None):
            continue
        verdict, detail = Verdict.OK, shared | more
        if value is None:
            verdict = Verdict.NO_DATA
            detail["reason"] = _silence(pairing) if not counts.n else "nothing to compare: no such column, or empty"
        elif n < (compare.min_pairs if compare is not None else 1):
            verdict, detail["reason"] = Verdict.CANNOT_TELL, f"{n} requests, compare.min_pairs is {compare.min_pairs}"  # type: ignore[union-attr]
        results.append(
            scope.result(
                Check.PERFORMANCE, metric, segment=f"version={pairing.challenger}", value=value, verdict=verdict,
                n_current=n, detail=detail,
            )
        )  # fmt: skip
    return results


def _silence(pairing: Pairing) -> str:
    counts = pairing.counts
    if counts.only_champion and counts.only_challenger:
        return (
            f"no request was answered by both: {counts.only_champion} by {pairing.champion} only, "
            f"{counts.only_challenger} by {pairing.challenger} only"
        )
    silent = pairing.champion if counts.only_challenger else pairing.challenger
    return f"{silent} answered no request in this window"


def _differences(scope: Scope, pairing: Pairing, known: SoFar) -> list[Result]:
    compare = scope.model.compare
    worth = {str(outcome): value for outcome, value in scope.model.performance.value.items()}
    can_be = pairing.counts.n - pairing.counts.n_never
    coverage = pairing.counts.n_labelled / can_be if can_be else None
    results = []
    for metric in metrics_of(scope.model):
        found = difference(known.counts, metric, worth=worth)
        own = difference(pairing.counts, metric, worth=worth) if known.waiting is None else Difference(None)
        verdict, reason = _verdict(found, pairing, known, min_pairs=compare.min_pairs if compare is not None else 1)
        detail = _detail(pairing) | {
            "n_windows": known.n_windows,
            "method": "exact" if found.exact else "asymptotic",
        }
        if known.first is not None:
            detail["since"] = known.first.start.isoformat()
        if own.value is not None:
            detail["window"] = own.value
        if metric == "error":
            only_challenger, only_champion = discordant(known.counts)
            detail |= {"only_challenger_right": only_challenger, "only_champion_right": only_champion}
        told = known.waiting is None and verdict is not Verdict.NO_DATA
        value, interval = (found.value, _interval(found)) if told else (None, None)
        n = found.n if found.value is not None or found.bounds else known.counts.n_labelled
        if known.counts.n_never:
            detail["never_labelled"] = known.counts.n_never
        if told and found.bounds is not None:
            detail |= {"bounds": "never labelled", "what": between(pairing, metric, found, known.counts.n_never)}
            detail |= {"bounds_with_chance": list(interval)} if interval is not None else {}
            interval = found.bounds
        if told and verdict is not Verdict.CANNOT_TELL and found.value is not None:
            detail["what"] = said(pairing, metric, found)
        if reason:
            detail["reason"] = reason
        elif told:
            detail["standing"] = standing(metric, found)
        results.append(
            scope.result(
                Check.PERFORMANCE, f"{metric}_difference", segment=f"version={pairing.challenger}",
                value=value, interval=interval, verdict=verdict, n_current=n, kind="realized",
                label_coverage=coverage, detail=detail,
            )
        )  # fmt: skip
    return results


def metrics_of(model: ModelConfig) -> list[str]:
    """The differences that are computed of the label at hand, the one that matters most first."""
    if model.compare is None:
        return []
    there = [
        str(metric) for metric in model.compare.of_task(model.labels.task if model.labels is not None else "binary")
    ]
    lacking = set() if model.performance.value else {"value"}
    if model.labels is not None and model.labels.task == "multiclass" and not model.labels.scores:
        lacking.add("log_loss")
    return [metric for metric in there if metric not in lacking]


def _interval(found: Difference) -> tuple[float, float] | None:
    if found.low is None or found.high is None or not np.isfinite([found.low, found.high]).all():
        return None
    return found.low, found.high


_WIDE = "it could be either"


def _verdict(found: Difference, pairing: Pairing, known: SoFar, *, min_pairs: int) -> tuple[Verdict, str]:  # noqa: PLR0911
    own = pairing.counts
    if not own.n:
        return Verdict.NO_DATA, _silence(pairing)
    if known.waiting is not None:
        share = own.n_labelled / max(1, own.n - own.n_never)
        which = "this window" if not own.complete else f"the window from {moment(known.waiting.start)}"
        return Verdict.CANNOT_TELL, f"labels of {which} are still landing ({share:.0%} of this one so far)"
    if found.value is None and found.bounds is None:
        verdict = Verdict.NO_DATA if found.reason in ("no_labels", "no_pairs") else Verdict.CANNOT_TELL
        return verdict, _REASONS.get(found.reason, found.reason)
    if known.counts.n_labelled < min_pairs:
        return Verdict.CANNOT_TELL, f"{known.counts.n_labelled} labelled requests, compare.min_pairs is {min_pairs}"
    if found.bounds is not None and beyond_zero(found) == 0:
        return Verdict.CANNOT_TELL, _WIDE if found.low is not None else "bounds only: no interval is offered"
    if _interval(found) is None:
        return Verdict.CANNOT_TELL, "too few requests for an interval"
    return (Verdict.OK if beyond_zero(found) == 0 else Verdict.WARN), ""


def beyond_zero(found: Difference) -> int:
    """Whether the interval lies above zero (1), below it (−1), or holds it (0)."""
    if found.low is None or found.high is None:
        return 0
    return int(found.low > 0) - int(found.high < 0)


def standing(metric: str, found: Difference) -> str:
    """``better``, ``worse``, or ``no difference shown``: of the challenger, as the interval has it."""
    side = beyond_zero(found) * (-1 if metric in SMALLER_IS_BETTER else 1)
    return {1: "better", -1: "worse", 0: "no difference shown"}[side]


def said(pairing: Pairing, metric: str, found: Difference) -> str:
    """``v4 beside v3 on 12,345 same requests: error rate −1.2 points [−2.0, −0.4], better``."""
    value, low, high = (_number(metric, each or 0.0) for each in (found.value, found.low, found.high))
    return (
        f"{pairing.challenger} beside {pairing.champion} on {found.n:,} same requests: {_WORDS[metric]} "
        f"{value}{_unit(metric)} [{low}, {high}], {standing(metric, found)}"
    )


def between(pairing: Pairing, metric: str, found: Difference, n_never: int) -> str:
    """The same where requests that can never be labelled leave bounds: what it is whatever their labels would be."""
    low, high = found.bounds or (0.0, 0.0)
    words = (
        f"{pairing.challenger} beside {pairing.champion} on {found.n:,} same requests, {n_never:,} of which can never "
        f"be labelled: {_WORDS[metric]} between {_number(metric, low)} and {_number(metric, high)}{_unit(metric)}"
    )
    if _interval(found) is None:
        return words
    with_chance = f"{words}; with chance {_number(metric, found.low or 0.0)} to {_number(metric, found.high or 0.0)}"
    return f"{with_chance}, {standing(metric, found)}" if beyond_zero(found) else with_chance


def _unit(metric: str) -> str:
    return " points" if metric in _POINTS else ""


def _number(metric: str, value: float) -> str:
    text = f"{value * 100:+.2f}" if metric in _POINTS else f"{value:+.4g}" if metric in _IN_UNITS else f"{value:+.4f}"
    return text.replace("-", "−")


# --- what is told ----------------------------------------------------------------------------------


def news(scope: Scope, results: Iterable[Result]) -> list[tuple[str, Message]]:
    """Where ``compare.alert`` asks for it: the first metric's interval has left zero; told once for each side.

    Returns
    -------
    Messages with the key by which the outbox keeps each from being sent twice.
    """
    if scope.model.compare is None or not scope.model.compare.alert:
        return []
    metrics, label = metrics_of(scope.model), label_name(scope.model)
    if not metrics:
        return []
    first, of = f"{metrics[0]}_difference", "" if label is None else f" on {label}"
    found = []
    for result in results:
        detail = result.detail
        if result.metric != first or result.verdict is not Verdict.WARN or "versus" not in detail:
            continue
        version, versus = detail["version"], detail["versus"]
        message = operator(
            f"{scope.name}: {version} is {detail['standing']} than {versus}{of}",
            f"{detail['what']}. The interval is valid at every look; it is told once.",
            model=scope.name,
            window=scope.window,
            severity=Verdict.WARN,
            thread_key=f"compare|{scope.name}|{versus}|{version}",
        )
        mark = first if label is None else f"{label}:{first}"
        found.append((f"compare:{scope.name}:{versus}:{version}:{mark}:{detail['standing']}", message))
    return found
