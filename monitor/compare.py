"""Champion and challengers on the same requests: how often they agree, and which of them is right more often.

Agreement is told of each window as soon as its rows are in.  Which version is better is told of all windows so far
whose labels are complete, taken in the order of time and each as a whole: which labels land first can then not favour
a version.  The interval is valid at every look (`detectors/paired.py`).  What is kept of a window are sums, so that
labels that land in one window rescan no other.
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

from detectors import paired
from detectors.paired import Answers, Difference, PairCounts, count_pairs, difference, discordant, merge_all
from monitor import counting, schedule
from monitor.checks import Scope
from monitor.config import CompareConfig, ModelConfig
from monitor.messages import moment, operator
from monitor.models import DECISION, PAIRS, SCORE, Check, Message, Result, Roles, StoredProfile, Verdict, Window
from monitor.sources import KEY, LABEL, VERSION, Source, by_rows, read_versions, shadow_name
from monitor.store import ALL, Store

Floats = npt.NDArray[np.float64]
MOST_CHALLENGERS = 10
"""Of challengers that are not named, the ones with most rows."""
_PERCENTILES = (5, 25, 50, 75, 95)
_WORDS = {
    "error": "error rate", "brier": "Brier score", "log_loss": "log loss", "precision": "precision",
    "recall": "recall", "value": "value of a decision",
}  # fmt: skip
_POINTS = frozenset({"error", "precision", "recall"})
_REASONS = {
    "no_labels": "no labels yet",
    "no_pairs": "no request was answered by both",
    "no_decisions": "no request has a decision of both",
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
    names = [n for n in batch.schema.names if n in (KEY, VERSION, SCORE, DECISION, LABEL) or n.startswith("__shadow_")]
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
        return Pairing(*names, replace(paired.nothing(), only_champion=n[0], only_challenger=n[1]))
    place = pc.index_in(second.column(KEY), value_set=first.column(KEY).combine_chunks())
    place = place.combine_chunks() if isinstance(place, pa.ChunkedArray) else place
    both = second.filter(pc.is_valid(place))
    mine = first.take(place.drop_null())
    labels = _column(mine, LABEL)
    labels = np.where(np.isnan(labels), _column(both, LABEL), labels)
    answers = [_answers(mine, model, champion), _answers(both, model, challenger)]
    n_both = both.num_rows
    return _pairing(names, answers, labels, only=(n[0] - n_both, n[1] - n_both), mature=mature)


def _columns_apart(
    batches: Sequence[pa.Table], model: ModelConfig, compare: CompareConfig, *, mature: bool
) -> Compared:
    champion = compare.champion or "champion"
    table = pa.concat_tables(batches, promote_options="permissive").combine_chunks() if batches else None
    pairings = []
    for name in compare.challengers or list(compare.shadow):
        if table is None:
            pairings.append(Pairing(champion, name, paired.nothing()))
            continue
        mine = _answers(table, model, champion)
        other = _answers(table, model, name, shadow=True)
        said = [~(np.isnan(each.scores) & np.isnan(each.decisions)) for each in (mine, other)]
        both = said[0] & said[1]
        answers = [Answers(each.scores[both], each.decisions[both]) for each in (mine, other)]
        only = (int((said[0] & ~said[1]).sum()), int((said[1] & ~said[0]).sum()))
        labels = _column(table, LABEL)[both]
        pairings.append(_pairing((champion, name), answers, labels, only=only, mature=mature))
    return Compared(pairings)


def _pairing(
    names: tuple[str, str], answers: Sequence[Answers], labels: Floats, *, only: tuple[int, int], mature: bool
) -> Pairing:
    complete = mature or not np.isnan(labels).any()
    counts = count_pairs(
        answers[0], answers[1], labels, only_champion=only[0], only_challenger=only[1], complete=complete
    )
    moved = answers[1].scores - answers[0].scores
    moved = moved[np.isfinite(moved)]
    told = np.percentile(moved, _PERCENTILES).tolist() if len(moved) else []
    return Pairing(*names, counts, {f"p{p:02}": value for p, value in zip(_PERCENTILES, told, strict=False)})


def _answers(table: pa.Table, model: ModelConfig, version: str, *, shadow: bool = False) -> Answers:
    """Scores and decisions of one version; a shadow took no decision, so its score and threshold say which it would."""
    names = [shadow_name(version, "score"), shadow_name(version, "decision")] if shadow else [SCORE, DECISION]
    scores, decisions = (_column(table, name) for name in names)
    compare = model.compare
    threshold = model.threshold if compare is None else compare.thresholds.get(version, model.threshold)
    if threshold is not None:
        taken = np.where(np.isnan(scores), np.nan, scores >= threshold)
        decisions = np.where(np.isnan(decisions), taken, decisions)
    return Answers(scores, decisions)


def _column(table: pa.Table, name: str) -> Floats:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return counting.floats(table.column(name))


def profiles(name: str, window: Window, compared: Compared) -> list[StoredProfile]:
    """What of a window's pairs is kept."""
    return [StoredProfile(name, window, PAIRS, each.counts, each.segment) for each in compared.pairings]


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
    """Agreement in this window, and paired differences over all requests so far, for each challenger."""
    kept: dict[str, list[StoredProfile]] = {}
    if scope.model.labels is not None and compared.pairings:
        start = datetime.fromtimestamp(0, tz=scope.window.start.tzinfo)
        for each in store.profiles(scope.name, start=start, end=scope.window.start, columns=[PAIRS], segment=ALL):
            kept.setdefault(str(each.segment), []).append(each)
    results: list[Result] = []
    for pairing in compared.pairings:
        results += _agreement(scope, pairing, compared.notes)
        if scope.model.labels is not None:
            results += _differences(scope, pairing, so_far(scope, pairing, kept.get(pairing.segment, []), now=now))
    return results


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
    score = counts.sums.get("score", paired.Sums())
    shared = _detail(pairing) | {"n_champion": counts.n + counts.only_champion, "n_both": counts.n}
    rows: list[tuple[str, float | None, int, dict[str, Any]]] = [
        ("decision_disagreement", counts.n_differing / counts.n_decided if counts.n_decided else None,
         counts.n_decided, {"n_differing": counts.n_differing}),
        ("score_difference", score.mean, score.n, {"percentiles": dict(pairing.percentiles)}),
        ("unpaired_rate", (counts.only_champion + counts.only_challenger) / seen if seen else None, seen,
         {"only_champion": counts.only_champion, "only_challenger": counts.only_challenger, **notes}),
    ]  # fmt: skip
    results = []
    for metric, value, n, more in rows:
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
    coverage = pairing.counts.n_labelled / pairing.counts.n if pairing.counts.n else None
    results = []
    for metric in _metrics(scope.model):
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
        n = found.n if found.value is not None else known.counts.n_labelled
        if reason:
            detail["reason"] = reason
        elif found.value is not None:
            detail |= {"standing": standing(metric, found), "what": said(pairing, metric, found)}
        results.append(
            scope.result(
                Check.PERFORMANCE, f"{metric}_difference", segment=f"version={pairing.challenger}",
                value=value, interval=interval, verdict=verdict, n_current=n, kind="realized",
                label_coverage=coverage, detail=detail,
            )
        )  # fmt: skip
    return results


def _metrics(model: ModelConfig) -> list[str]:
    return [str(metric) for metric in model.compare.metrics] if model.compare is not None else []


def _interval(found: Difference) -> tuple[float, float] | None:
    if found.low is None or found.high is None or not np.isfinite([found.low, found.high]).all():
        return None
    return found.low, found.high


def _verdict(found: Difference, pairing: Pairing, known: SoFar, *, min_pairs: int) -> tuple[Verdict, str]:
    own = pairing.counts
    if not own.n:
        return Verdict.NO_DATA, _silence(pairing)
    if known.waiting is not None:
        share = own.n_labelled / own.n
        which = "this window" if not own.complete else f"the window from {moment(known.waiting.start)}"
        return Verdict.CANNOT_TELL, f"labels of {which} are still landing ({share:.0%} of this one so far)"
    if found.value is None:
        verdict = Verdict.NO_DATA if found.reason in ("no_labels", "no_pairs") else Verdict.CANNOT_TELL
        return verdict, _REASONS.get(found.reason, found.reason)
    if known.counts.n_labelled < min_pairs:
        return Verdict.CANNOT_TELL, f"{known.counts.n_labelled} labelled requests, compare.min_pairs is {min_pairs}"
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
    side = beyond_zero(found) * (-1 if metric in paired.SMALLER_IS_BETTER else 1)
    return {1: "better", -1: "worse", 0: "no difference shown"}[side]


def said(pairing: Pairing, metric: str, found: Difference) -> str:
    """``v4 beside v3 on 12,345 same requests: error rate −1.2 points [−2.0, −0.4], better``."""
    value, low, high = (_number(metric, each or 0.0) for each in (found.value, found.low, found.high))
    unit = " points" if metric in _POINTS else ""
    return (
        f"{pairing.challenger} beside {pairing.champion} on {found.n:,} same requests: {_WORDS[metric]} "
        f"{value}{unit} [{low}, {high}], {standing(metric, found)}"
    )


def _number(metric: str, value: float) -> str:
    text = f"{value * 100:+.2f}" if metric in _POINTS else f"{value:+.4f}"
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
    first = f"{_metrics(scope.model)[0]}_difference"
    found = []
    for result in results:
        detail = result.detail
        if result.metric != first or result.verdict is not Verdict.WARN or "versus" not in detail:
            continue
        version, versus = detail["version"], detail["versus"]
        message = operator(
            f"{scope.name}: {version} is {detail['standing']} than {versus}",
            f"{detail['what']}. The interval is valid at every look; it is told once.",
            model=scope.name,
            window=scope.window,
            severity=Verdict.WARN,
            thread_key=f"compare|{scope.name}|{versus}|{version}",
        )
        found.append((f"compare:{scope.name}:{versus}:{version}:{first}:{detail['standing']}", message))
    return found
