"""When a run of bad windows becomes an incident, grows, and is over: pure decisions, told apart from sending.

A *series* is one (check, feature, segment) of a model; its verdict in a window is the worst over its metrics.
Counters count computed windows, never wall time: downtime neither fires nor clears, and a window in which nothing was
tested (``no_data``, too few rows, an error) changes nothing.  One that was tested and did not alert ends a run of bad
windows even where it ``cannot_tell``: the level of a window is milder because two in a row are asked for, and two of
any number with undecided ones between them are no such thing.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from monitor.messages import excess
from monitor.models import (
    CYCLES,
    DECISION,
    TAKEN_BACK,
    Check,
    Incident,
    IncidentState,
    Result,
    SeriesState,
    Transition,
    Verdict,
    Window,
)

SeriesKey = tuple[Check, str | None, str | None]
"""``(check, feature, segment)``, as in :meth:`Store.series`."""

ROWS = "__rows__"
"""Feature name of the series that counts windows without any rows; not a column."""
LABELS = "__labels__"
"""Feature name of the series that watch the labels' own delay; not a column, and an incident of their own. That of a
further label is followed by its name."""

_ROWS_KEY: SeriesKey = (Check.QUALITY, ROWS, None)
_INPUT_CHECKS = frozenset({Check.FEATURE_DRIFT, Check.SCORE_DRIFT, Check.QUALITY})
_FIRED = "last_fired"
"""In the ``detail`` of an incident: ``[feature, segment, window]``, the last window in which each series alerted."""
_METRICS = "metrics"
"""In the ``detail`` of an incident: ``[feature, segment, metric]``, what has alerted in each series."""
_LEAST = "least_fired"
"""In the ``detail`` of an incident: ``[feature, segment, metric, value]``, the smallest value that has alerted."""
_NO_DATA = "no_data"
_LATE = "labels"


def is_about_labels(feature: str | None) -> bool:
    """Whether a series watches how late labels are, and not what they say."""
    return feature is not None and feature.startswith(LABELS)


@dataclass(frozen=True)
class Rules:
    """What it takes to open, repeat and resolve; from ``confirm``, ``recover``, ``drift`` and ``alerts`` of the config.

    Parameters
    ----------
    confirm, recover
        Bad windows in a row that open an incident; good windows in a row, of every one of its series, that resolve it.
    features_alert
        Drifted features that it takes: a count (int) or a share of ``n_features`` in [0, 1] (float).
    no_data
        Windows in a row without rows that are an incident themselves.
    repeat
        Remind of an open incident this long (in event time) after the last message about it; ``None``: never.
    """

    confirm: int = 2
    recover: int = 2
    features_alert: int | float = 1
    n_features: int = 0
    no_data: int = 2
    repeat: timedelta | None = None

    @property
    def features_needed(self) -> int:
        if isinstance(self.features_alert, int):
            return self.features_alert
        # 1e-9: 10 % of 30 features is 3, whatever binary fractions make of it.
        return max(1, math.ceil(self.features_alert * self.n_features - 1e-9))


@dataclass(frozen=True)
class Step:
    """What one window changes: the series and incidents to be saved, and what is worth telling."""

    series: list[SeriesState] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    transitions: list[tuple[Transition, Incident]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Ids of incidents that turned out to be a part of another one, and of which nobody was told."""


def unspent(results: Iterable[Result], known: Iterable[Incident], *, window: Window) -> list[Result]:
    """The results, with nothing spent of the budget by those whose incident was open before this window.

    What a page may cost is counted once, when it is sent: further windows of an open incident are no pages.
    """
    open_then = [
        i
        for i in known
        if i.state is not IncidentState.REMOVED
        and i.opened_window < window.start
        and (i.resolved_window is None or i.resolved_window > window.start)
    ]

    def is_told(result: Result) -> bool:
        own = (i for i in open_then if i.check is result.check)
        return any(result.feature in i.features or (result.feature is None and not i.features) for i in own)

    return [
        replace(result, detail=result.detail | {"spend": 0.0})
        if result.detail.get("spend") and is_told(result)
        else result
        for result in results
    ]


def advance(
    *,
    model: str,
    window: Window,
    results: Sequence[Result],
    series: Mapping[SeriesKey, SeriesState],
    open_incidents: Iterable[Incident],
    rules: Rules,
    muted: Collection[str | None] = (),
    tell: bool = True,
    echoes: Mapping[SeriesKey, timedelta] | None = None,
) -> Step:
    """Take in one computed window of a model: move its series, then open, extend or resolve its incidents.

    Parameters
    ----------
    results
        All results of this window and job. Checks that are absent from it are not touched, so that inputs and labels
        may run on their own clocks.
    series
        The states before this window; a series that is missing has never been seen.
    open_incidents
        The model's open incidents, of any check.
    muted
        Features that nobody wants to hear of; ``None`` among them mutes the whole model. Muting keeps the state
        moving and only withholds what would be told; it is made up for once the mute has ended.
    tell
        False (a backfill): state moves, no transition is returned, and nothing counts as told.
    echoes
        Series that alerted in this part of their cycle before, see :func:`echoes_of`: that confirms as a bad window
        just before would.

    Notes
    -----
    Windows of a series must come in order: one that is not newer than the series' ``last_window`` is ignored here.
    A restated window is taken in by :func:`replay`.
    """
    existing = {_slot(incident): incident for incident in open_incidents if incident.state is IncidentState.OPEN}
    verdicts = verdicts_of(results, under=existing.values())
    rows = _rows_seen(results)
    if rows is not None:
        verdicts[_ROWS_KEY] = Verdict.OK if rows else Verdict.ALERT
    tested = _tested(results)
    moved: dict[SeriesKey, SeriesState] = {}
    ended: list[SeriesState] = []
    for key, verdict in verdicts.items():
        state = series.get(key) or SeriesState(model, *key)
        if state.last_window is not None and window.start <= state.last_window:
            continue
        # An undecided window does not use up its turn: labels may land, and then it is taken in after all.
        if verdict.decides:
            moved[key] = move(state, verdict, window)
        elif state.bad and key in tested:
            ended.append(replace(state, bad=0, since=None))
    effects, alarms = _effects(results), _alarms(results)
    step = Step(series=[*moved.values(), *ended])
    before = {**series, **{(state.check, state.feature, state.segment): state for state in ended}}
    for slot in sorted({_slot_of(key) for key in moved}):
        touched = {key: state for key, state in moved.items() if _slot_of(key) == slot}
        known = {key: state for key, state in before.items() if _slot_of(key) == slot} | touched
        incident = existing.get(slot)
        seen = {feature for check, feature, _ in verdicts if check == slot[0]}
        grown = _grow(
            incident, slot, model, window, touched=touched, known=known, seen=seen, effects=effects, alarms=alarms,
            rules=rules,
            echoes={key: cycle for key, cycle in (echoes or {}).items() if key in touched},
        )  # fmt: skip
        if grown is None:
            continue
        told, news = _tell(grown, before=incident, window=window, rules=rules, muted=muted if tell else (None,))
        if told.state is IncidentState.RESOLVED:
            step.series.extend(_begin_anew(known, told))
        if told != incident:
            step.incidents.append(told)
        if news is not None:
            step.transitions.append((news, told))
    return _threaded(step)


def is_overtaken(window: Window, results: Iterable[Result], series: Mapping[SeriesKey, SeriesState]) -> bool:
    """Whether later windows of these series have been judged before this one: a past that is filled in afterwards."""
    states = [series[key] for key in verdicts_of(results) if key in series]
    return any(state.last_window is not None and state.last_window > window.start for state in states)


def as_of_then(
    step: Step, *, window: Window, series: Mapping[SeriesKey, SeriesState], known: Iterable[Incident]
) -> Step:
    """What a replay that ends with ``window`` may change while later windows have been judged and others still wait.

    The state of a series is that of its newest window, and an incident that is known to last longer stays as it is.
    """
    older = {incident.id: incident for incident in known}

    def is_new(state: SeriesState) -> bool:
        stored = series.get((state.check, state.feature, state.segment))
        return stored is None or stored.last_window is None or stored.last_window <= window.start

    kept = [
        incident
        for incident in step.incidents
        if incident.id not in older or _seen_until(older[incident.id]) <= window.start
    ]
    ids = {incident.id for incident in kept}
    told = [(transition, incident) for transition, incident in step.transitions if incident.id in ids]
    return Step([state for state in step.series if is_new(state)], kept, told)


def _seen_until(incident: Incident) -> datetime:
    return max(incident.last_window, incident.resolved_window or incident.last_window)


def replay_from(start: datetime, incidents: Iterable[Incident]) -> datetime:
    """Where a replay that is to begin at ``start`` has to begin, for incidents that ended since to end where they did.

    The good windows that ended one are counted from its last bad window on: a replay that begins among them would count
    them anew, end it later, and take what went wrong meanwhile for a part of it.
    """
    ended = [i for i in incidents if i.state is IncidentState.RESOLVED]
    for incident in sorted(ended, key=_seen_until, reverse=True):
        if _seen_until(incident) >= start:
            start = min(start, incident.last_window)
    return start


def replay(
    *,
    model: str,
    windows: Iterable[tuple[Window, Sequence[Result]]],
    rules: Rules,
    series: Mapping[SeriesKey, SeriesState] | None = None,
    incidents: Iterable[Incident] = (),
    muted: Collection[str | None] = (),
    tell: bool = True,
    earlier: Callable[[datetime], Iterable[Result]] = lambda _: (),
    anew: Collection[Window] | None = None,
) -> Step:
    """The state after a range of windows is taken in anew, because one of them was restated.

    Parameters
    ----------
    windows
        Every window of the range with its newest results; any order. To be exact, the range must begin at least
        ``confirm + recover`` windows before the restated one, and where :func:`replay_from` says, or where ``series``
        was taken.
    series
        The states before the range; absent: nothing had been seen.
    incidents
        The incidents of the model as they are stored now. An incident that the recomputed past opens again keeps its
        id, acknowledgement and thread, also where it turns out to have begun in another window; an open one that it no
        longer opens is resolved. Several that turn out to be one fault become one incident: the one that people have
        been told of, else the first of them.
    earlier
        Start of a window before the range → its results, for what comes again with a season.
    anew
        The windows that were restated (absent: all). What is over is taken back only where one of them was part of it:
        else not the data but the config has changed since.

    Returns
    -------
    A step with the final states, and a transition for what came out differently: ``opened``, ``resolved``,
    ``worsened`` and ``repeated`` as in :func:`advance` where the past was only completed (labels landed), ``restated``
    where something that was told has turned out otherwise, once. What is found only now and is over by now is
    ``opened`` as well: labels that land together show days at once.
    """
    ordered = sorted(windows, key=lambda pair: pair[0])
    if not ordered:
        return Step()
    first, last = ordered[0][0], ordered[-1][0]
    stored = {incident.id: incident for incident in incidents}
    states = dict(series or {})
    checks = {result.check for _, results in ordered for result in results}
    # Those opened before the range were not decided in it: they go in as they were, and may resolve in it.
    current: dict[str, Incident] = {
        i.id: replace(i, state=IncidentState.OPEN, resolved_window=None)
        for i in stored.values()
        if i.check in checks
        and i.state is not IncidentState.REMOVED
        and not i.detail.get("taken_back")
        and i.opened_window < first.start
        and (i.resolved_window is None or i.resolved_window >= first.start)
    }
    by_start = {window.start: results for window, results in ordered}
    for window, results in ordered:
        step = advance(
            model=model, window=window, results=results, series=states, open_incidents=list(current.values()),
            rules=rules, muted=muted, tell=False,
            echoes=echoes_of(
                window, results, rules=rules, earlier=lambda at: by_start[at] if at in by_start else earlier(at)
            ),
        )  # fmt: skip
        states.update({(s.check, s.feature, s.segment): s for s in step.series})
        for incident in step.incidents:
            current[incident.id] = _keep_person_made(incident, stored.get(incident.id))
    current, gone = _one_fault(current, stored, Window(first.start, last.end))
    taken_back: set[str] = set()
    for incident in stored.values():
        undone = incident.id not in current and first.start <= incident.opened_window < last.end
        if undone and incident.id not in gone and incident.check in checks and _stands(incident, anew):
            over = incident if incident.state is IncidentState.RESOLVED else _resolve(incident, last)
            current[incident.id] = replace(over, detail=over.detail | {TAKEN_BACK: True})
            taken_back.add(incident.id)
    step = Step(series=list(states.values()), gone=sorted(gone))
    spans = {window.start: window for window, _ in ordered}
    for incident in current.values():
        told, news = _retell(
            incident, before=stored.get(incident.id), window=spans.get(incident.last_window, last), rules=rules,
            muted=muted if tell else (None,), taken_back=incident.id in taken_back,
        )  # fmt: skip
        if told != stored.get(incident.id):
            step.incidents.append(told)
        if news is not None:
            step.transitions.append((news, told))
    return _threaded(step)


def _stands(incident: Incident, anew: Collection[Window] | None) -> bool:
    """Whether it is still believed in, and these windows have a say in it."""
    if incident.state is not IncidentState.RESOLVED or incident.detail.get(TAKEN_BACK):
        return incident.state is IncidentState.OPEN
    return anew is None or any(incident.opened_window <= window.start <= incident.last_window for window in anew)


def removed(incidents: Iterable[Incident], *, window: Window) -> list[Incident]:
    """The open ones of ``incidents`` as closed because their model or check is monitored no more: not as resolved."""
    return [
        replace(incident, state=IncidentState.REMOVED, resolved_window=window.start)
        for incident in incidents
        if incident.state is IncidentState.OPEN
    ]


def incident_id(model: str, check: Check, opened_window: datetime, *, kind: str | None = None) -> str:
    """``inc_`` and ten hex digits that follow from the incident alone: a run that is repeated finds it again."""
    text = "\x1f".join([model, check.value, opened_window.isoformat(), kind or ""])
    return f"inc_{hashlib.sha256(text.encode()).hexdigest()[:10]}"


# --- series ----------------------------------------------------------------------------------------


def verdicts_of(results: Iterable[Result], *, under: Iterable[Incident] = ()) -> dict[SeriesKey, Verdict]:
    """The worst verdict of each series. ``cannot_tell`` outranks ``ok``: half an answer must not resolve anything.

    Nor must the answer to another question: a series of an open incident (``under``) is well only where none of the
    metrics that have alerted in it is silent. It is well, too, where a window is too small to see the limit, but not to
    see what there was: a small segment would never be well again.
    """
    worst: dict[SeriesKey, Verdict] = {}
    heard: dict[Alarm, bool] = {}
    found, under = list(results), list(under)
    for result in found:
        key, verdict = (result.check, result.feature, result.segment), _counts_as(result)
        alarm = _alarm(result)
        heard[alarm] = heard.get(alarm, False) or (verdict is not None and verdict.decides)
        if verdict is not None and (key not in worst or verdict.rank > worst[key].rank):
            worst[key] = verdict
    least = {alarm: value for incident in under for alarm, value in _least_of(incident).items()}
    for key in {alarm[:3] for alarm in least if worst.get(alarm[:3]) is Verdict.CANNOT_TELL}:
        undecided = [r for r in found if _alarm(r)[:3] == key and _counts_as(r) is Verdict.CANNOT_TELL]
        if all(_is_gone(result, least.get(_alarm(result))) for result in undecided):
            worst[key] = Verdict.OK
            heard |= dict.fromkeys(map(_alarm, undecided), True)
    for alarm in (alarm for incident in under for alarm in alarms_of(incident)):
        key = alarm[:3]
        if worst.get(key) is Verdict.OK and heard.get(alarm) is False:
            worst[key] = Verdict.CANNOT_TELL
    return worst


def _is_gone(result: Result, least: float | None) -> bool:
    """Whether a window that cannot tell could have shown what has alerted (``least`` of it), and does not."""
    smallest = result.detail.get("smallest_detectable")
    if result.p_value is None or result.value is None or result.threshold is None or smallest is None:
        return False
    return abs(result.value) < abs(result.threshold) and (least is None or smallest < least)


def _counts_as(result: Result) -> Verdict | None:
    """The verdict that a result has a say with; ``None``: it has none."""
    # Of several answers to one question (realized, corrected, estimated) only the most certain one counts.
    # What no limit was set for decides nothing either: it must not speak for a metric that cannot tell yet.
    unlimited = result.threshold is None and result.verdict is Verdict.OK
    if unlimited or result.detail.get("decides") is False:
        return None
    # An estimate supposes that the rule has not changed: that all is well before any label is in resolves nothing.
    hopeful = result.kind == "estimated" and result.verdict is Verdict.OK
    return Verdict.CANNOT_TELL if hopeful else result.verdict


def _tested(results: Iterable[Result]) -> set[SeriesKey]:
    """Series that could have alerted in this window: it was asked how likely what they show is without change."""
    return {(r.check, r.feature, r.segment) for r in results if r.p_value is not None}


def _rows_seen(results: Iterable[Result]) -> bool | None:
    """Whether the window had any rows at all; ``None`` when these results do not speak of the inputs."""
    inputs = [result for result in results if result.check in _INPUT_CHECKS and not is_about_labels(result.feature)]
    if not inputs:
        return None
    counts = [result for result in inputs if result.metric == "n_rows" and result.segment is None]
    return any(result.verdict is not Verdict.NO_DATA for result in counts or inputs)


def move(state: SeriesState, verdict: Verdict, window: Window) -> SeriesState:
    state = replace(state, verdict=verdict, last_window=window.start)
    if verdict is Verdict.ALERT:
        since = state.since if state.bad and state.since is not None else window.start
        return replace(state, bad=state.bad + 1, good=0, since=since)
    if verdict is Verdict.OK:
        return replace(state, bad=0, good=state.good + 1, since=None)
    return replace(state, good=0)


def echoes_of(
    window: Window, results: Iterable[Result], *, rules: Rules, earlier: Callable[[datetime], Iterable[Result]]
) -> dict[SeriesKey, timedelta]:
    """Series that alert now and did so at the same time of their last cycles (``confirm − 1`` of them), with the cycle.

    A fault in one hour of the week is never two windows long: it is confirmed when it comes again.  Only columns that
    are matched by season count, or are as odd for their own time of the week: elsewhere what comes again may be the
    season itself.

    Parameters
    ----------
    earlier
        Start of a window → its results.
    """
    found: dict[SeriesKey, timedelta] = {}
    seen: dict[datetime, dict[SeriesKey, Verdict]] = {}
    for result in results:
        if result.verdict is not Verdict.ALERT or rules.confirm < 2:
            continue
        key = (result.check, result.feature, result.segment)
        for cycle in cycles_of(result):
            times = [window.start - cycle * back for back in range(1, rules.confirm)]
            for at in times:
                if at not in seen:
                    seen[at] = verdicts_of(earlier(at))
            if all(seen[at].get(key) is Verdict.ALERT for at in times):
                found[key] = max(cycle, found.get(key, cycle))
    return found


def cycles_of(result: Result) -> list[timedelta]:
    """After how long what a result says may come again, and be confirmed by that."""
    told = (result.detail.get("season"), result.detail.get("again"))
    return [CYCLES[words] for words in told if words in CYCLES]


# --- incidents -------------------------------------------------------------------------------------

Slot = tuple[str, str]
"""(check, kind): at most one incident of a model is open in each."""


def _slot_of(key: SeriesKey) -> Slot:
    return key[0].value, _LATE if is_about_labels(key[1]) else _NO_DATA if key[1] == ROWS else ""


def _slot(incident: Incident) -> Slot:
    return incident.check.value, str(incident.detail.get("kind", ""))


def members(incident: Incident) -> list[SeriesKey]:
    """The series that the incident is made of, worst first."""
    return [(incident.check, feature, segment) for feature, segment in incident.detail.get("series", [])]


def fired_in(incident: Incident) -> dict[SeriesKey, datetime]:
    """The start of the last window in which each series of the incident alerted."""
    told = incident.detail.get(_FIRED, [])
    return {(incident.check, feature, segment): datetime.fromisoformat(at) for feature, segment, at in told}


def _dated(fired: Mapping[SeriesKey, datetime]) -> list[list[str | None]]:
    return [[feature, segment, at.isoformat()] for (_, feature, segment), at in sorted(fired.items(), key=str)]


Alarm = tuple[Check, str | None, str | None, str]
"""A series and the metric of it that has alerted; one of several windows together speaks for that of one."""


def _alarm(result: Result) -> Alarm:
    return result.check, result.feature, result.segment, result.metric.removesuffix("_accumulated")


def alarms_of(incident: Incident) -> set[Alarm]:
    """The metrics that have alerted in each series of the incident."""
    told = incident.detail.get(_METRICS, [])
    return {(incident.check, feature, segment, metric) for feature, segment, metric in told}


def _least_of(incident: Incident) -> dict[Alarm, float]:
    """The smallest value with which each metric of the incident has alerted."""
    told = incident.detail.get(_LEAST, [])
    return {(incident.check, feature, segment, metric): value for feature, segment, metric, value in told}


def _alarms(results: Iterable[Result]) -> dict[Alarm, float]:
    """What alerts in this window, and the smallest value with which it does."""
    found: dict[Alarm, float] = {}
    for result in results:
        if _counts_as(result) is Verdict.ALERT:
            value = abs(result.value or 0.0)
            found[_alarm(result)] = min(value, found.get(_alarm(result), value))
    return found


def _with_alarms(incident: Incident, alarms: Mapping[Alarm, float]) -> Incident:
    """The incident with what alerts in its series now, beside what has before."""
    inside = set(members(incident))
    now = {alarm: value for alarm, value in alarms.items() if alarm[:3] in inside}
    both, least = alarms_of(incident) | now.keys(), _least_of(incident)
    least |= {alarm: min(value, least.get(alarm, value)) for alarm, value in now.items()}
    told = sorted((list(alarm[1:]) for alarm in both), key=str)
    small = sorted(([*alarm[1:], value] for alarm, value in least.items()), key=str)
    return replace(incident, detail=incident.detail | {_METRICS: told, _LEAST: small})


def _effects(results: Iterable[Result]) -> dict[SeriesKey, float]:
    """How far the worst alerting metric of each series is beyond its limit, as a multiple of the limit."""
    effects: dict[SeriesKey, float] = {}
    for result in results:
        if result.verdict is Verdict.ALERT:
            key = (result.check, result.feature, result.segment)
            effects[key] = max(effects.get(key, 0.0), excess(result))
    return effects


def _grow(
    incident: Incident | None,
    slot: Slot,
    model: str,
    window: Window,
    *,
    touched: Mapping[SeriesKey, SeriesState],
    known: Mapping[SeriesKey, SeriesState],
    seen: Collection[str | None],
    effects: Mapping[SeriesKey, float],
    alarms: Mapping[Alarm, float],
    rules: Rules,
    echoes: Mapping[SeriesKey, timedelta],
) -> Incident | None:
    """The incident of one slot after this window; ``None`` when there is none and none opens."""
    confirm = rules.no_data if slot[1] == _NO_DATA else rules.confirm
    confirmed = [key for key, state in known.items() if state.bad >= confirm or key in echoes]
    fresh = [key for key in confirmed if key in touched and touched[key].verdict is Verdict.ALERT]
    if incident is None:
        if not fresh or _distinct(confirmed) < (rules.features_needed if slot[0] == Check.FEATURE_DRIFT else 1):
            return None
        opened = _open(slot, model, window, [known[key] for key in confirmed], effects)
        return _until(_with_alarms(opened, alarms), window, echoes)
    gone = _no_longer_monitored(touched, seen)
    inside = [key for key in members(incident) if not gone(key)]
    if not inside and not fresh:
        return replace(incident, state=IncidentState.REMOVED, resolved_window=window.start)
    waits = window.start < datetime.fromisoformat(incident.detail.get("again", window.start.isoformat()))
    over = all(
        _recovered(known.get(key), rules, slot) or _goes_with_all_rows(key, incident, known, window, rules=rules)
        for key in inside
    )
    if over and not fresh and not waits:
        return _resolve(incident, window)
    joined = [key for key in fresh if key not in inside]
    firing = [key for key in (*inside, *joined) if key in touched and touched[key].verdict is Verdict.ALERT]
    if not firing:
        return incident
    fired = {key: at for key, at in fired_in(incident).items() if at < window.start} | dict.fromkeys(
        firing, window.start
    )
    detail = incident.detail | {"series": _ranked([*inside, *joined], effects), _FIRED: _dated(fired)}
    grown = replace(incident, last_window=window.start, features=_names(detail["series"]), detail=detail)
    return _until(_with_alarms(grown, alarms), window, echoes)


def _until(incident: Incident, window: Window, echoes: Mapping[SeriesKey, timedelta]) -> Incident:
    """What comes again with a season is not over before its time has come and gone well (``detail.again``)."""
    cycles = [cycle for key, cycle in echoes.items() if key in members(incident)]
    if not cycles:
        return incident
    return replace(incident, detail=incident.detail | {"again": (window.start + max(cycles)).isoformat()})


def _no_longer_monitored(
    touched: Mapping[SeriesKey, SeriesState], seen: Collection[str | None]
) -> Callable[[SeriesKey], bool]:
    """Tells a feature that the check did look for no more from one that it could say nothing about.

    Only where the check decided on other features in this window is a feature's absence a fact about the model, and
    not about the data.
    """
    decided = {feature for _, feature, _ in touched if feature != ROWS and not is_about_labels(feature)} - {None}
    return lambda key: bool(decided) and key[1] is not None and key[1] not in seen


def _recovered(state: SeriesState | None, rules: Rules, slot: Slot) -> bool:
    needed = 1 if slot[1] == _NO_DATA else rules.recover
    return state is not None and state.good >= needed


def _goes_with_all_rows(
    key: SeriesKey, incident: Incident, known: Mapping[SeriesKey, SeriesState], window: Window, *, rules: Rules
) -> bool:
    """Whether a segment that can say nothing any more is over because all rows are, of which it is a part.

    A segment may become too small to be judged again. Where all rows alerted with it, or after it did, and have
    recovered since, its silence (for as long as ``recover`` windows take) does not keep the incident open. Where it
    was the segment alone that alerted last, all rows have nothing to say about it.
    """
    check, feature, segment = key
    of_all, fired, state = (check, feature, None), fired_in(incident), known.get(key)
    if segment is None or not {key, of_all} <= fired.keys():
        return False
    # A replay may begin after the last window that the segment was judged in.
    judged = fired[key] if state is None or state.last_window is None else state.last_window
    silent = window.start - judged >= rules.recover * window.length
    return silent and fired[of_all] >= fired[key] and _recovered(known.get(of_all), rules, _slot(incident))


def _begin_anew(known: Mapping[SeriesKey, SeriesState], incident: Incident) -> list[SeriesState]:
    """The series of what is over that had no good window since: their bad ones are no part of what comes next."""
    unseen = ((key, at) for key, at in fired_in(incident).items() if key not in known)
    silent = [known[key] for key in members(incident) if key in known and known[key].bad]
    return [
        *(replace(state, bad=0, since=None) for state in silent),
        *(SeriesState(incident.model, *key, last_window=at) for key, at in unseen),
    ]


def _open(
    slot: Slot, model: str, window: Window, confirmed: Sequence[SeriesState], effects: Mapping[SeriesKey, float]
) -> Incident:
    check, kind = Check(slot[0]), slot[1] or None
    since = min((state.since for state in confirmed if state.since is not None), default=window.start)
    ranked = _ranked([(state.check, state.feature, state.segment) for state in confirmed], effects)
    fired = {
        (state.check, state.feature, state.segment): state.last_window
        for state in confirmed
        if state.last_window is not None
    }
    detail: dict[str, Any] = {
        "series": ranked, "confirmed_window": window.start.isoformat(), _FIRED: _dated(fired)
    }  # fmt: skip
    if kind is not None:
        detail["kind"] = kind
    return Incident(
        id=incident_id(model, check, since, kind=kind),
        model=model,
        check=check,
        state=IncidentState.OPEN,
        severity=Verdict.ALERT,
        opened_window=since,
        last_window=window.start,
        features=_names(ranked),
        onset=since,
        detail=detail,
    )


def _resolve(incident: Incident, window: Window) -> Incident:
    return replace(incident, state=IncidentState.RESOLVED, resolved_window=window.start)


def _distinct(keys: Iterable[SeriesKey]) -> int:
    return len({feature for _, feature, _ in keys})


def _ranked(keys: Iterable[SeriesKey], effects: Mapping[SeriesKey, float]) -> list[list[str | None]]:
    """Worst first; a series that is not firing now keeps its place behind those that are."""
    ordered = sorted(dict.fromkeys(keys), key=lambda key: -effects.get(key, 0.0))
    return [[feature, segment] for _, feature, segment in ordered]


def _names(ranked: Iterable[Sequence[str | None]]) -> list[str]:
    names = (feature for feature, _ in ranked if feature not in (None, ROWS, DECISION) and not is_about_labels(feature))
    return list(dict.fromkeys(names))


# --- telling ---------------------------------------------------------------------------------------


def _tell(
    incident: Incident, *, before: Incident | None, window: Window, rules: Rules, muted: Collection[str | None]
) -> tuple[Incident, Transition | None]:
    """Which transition, if any, this window is worth, and the incident with that noted.

    ``detail.told`` lists the series that somebody has been told of, ``detail.told_at`` the end of the window of the
    last message: what was withheld (muted, backfilled) is still untold, and is told when it may be.
    """
    told: list[list[str | None]] = incident.detail.get("told", [])
    if incident.state is IncidentState.REMOVED:
        return incident, None
    if incident.state is IncidentState.RESOLVED:
        return incident, Transition.RESOLVED if told and None not in muted else None
    audible = [pair for pair in incident.detail["series"] if None not in muted and pair[0] not in muted]
    firing = incident.last_window == window.start and (before is None or incident != before)
    new = [pair for pair in audible if pair not in told]
    if not firing or not audible:
        return incident, None
    if new:
        opened = Transition.NO_DATA if incident.detail.get("kind") == _NO_DATA else Transition.OPENED
        transition = Transition.WORSENED if told else opened
    elif _reminder_due(incident, window, rules):
        transition = Transition.REPEATED
    else:
        return incident, None
    return _told(incident, new, window=window), transition


def _told(incident: Incident, new: Sequence[list[str | None]], *, window: Window) -> Incident:
    told = [*incident.detail.get("told", []), *new]
    noted = {"told": told, "told_at": window.end.isoformat(), "new": _names(new)}
    return replace(incident, detail=incident.detail | noted)


def _reminder_due(incident: Incident, window: Window, rules: Rules) -> bool:
    told_at = incident.detail.get("told_at")
    if rules.repeat is None or told_at is None or incident.acknowledged_by is not None:
        return False
    return window.end - datetime.fromisoformat(told_at) >= rules.repeat


def _threaded(step: Step) -> Step:
    """Give incidents that are first told in one window one thread: they are told in one message."""
    first = [incident for transition, incident in step.transitions if "thread" not in incident.detail]
    if not first:
        return step
    thread = min(incident.id for incident in first)
    marked = {incident.id: replace(incident, detail=incident.detail | {"thread": thread}) for incident in first}
    return replace(
        step,
        incidents=[marked.get(incident.id, incident) for incident in step.incidents],
        transitions=[(transition, marked.get(incident.id, incident)) for transition, incident in step.transitions],
    )


# --- restating -------------------------------------------------------------------------------------

_PERSON_MADE = ("told", "told_at", "thread", "new", "advice")


def _keep_person_made(incident: Incident, stored: Incident | None) -> Incident:
    if stored is None:
        return incident
    kept = {key: stored.detail[key] for key in _PERSON_MADE if key in stored.detail}
    return replace(
        incident,
        acknowledged_by=stored.acknowledged_by,
        cause=stored.cause,
        cause_confidence=stored.cause_confidence,
        onset=stored.onset,
        summary=stored.summary,
        detail=_standing(stored.detail | incident.detail | kept),
    )


def _standing(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in detail.items() if key != TAKEN_BACK}


def _one_fault(
    current: Mapping[str, Incident], stored: Mapping[str, Incident], span: Window
) -> tuple[dict[str, Incident], dict[str, str]]:
    """Give what the recomputed past has as one incident one id: of those that were stored of it, the one to be kept.

    Also returns which stored ids are no more, each with the one that it has become a part of.
    """
    found: dict[str, Incident] = {}
    gone: dict[str, str] = {}
    spent = set(current)
    for incident in sorted(current.values(), key=lambda one: (one.opened_window, one.id)):
        parts = [
            one
            for one in stored.values()
            if one.id not in spent
            and one.state is not IncidentState.REMOVED
            and _slot(one) == _slot(incident)
            and span.start <= one.opened_window < span.end
            and _overlap(one, incident)
        ]
        own = [stored[incident.id]] if incident.id in stored else []
        heir = min([*own, *parts], key=_by_right, default=None)
        spent |= {one.id for one in parts}
        whole = incident if heir is None or heir.id == incident.id else _moved_to(incident, heir)
        found[whole.id] = whole
        gone |= {one.id: whole.id for one in (*own, *parts) if one.id != whole.id and not one.detail.get("told")}
    return _relinked(found, stored, gone), gone


def _by_right(incident: Incident) -> tuple[bool, datetime, str]:
    """One that people know of is kept before others, and the first before later ones."""
    return not incident.detail.get("told"), incident.opened_window, incident.id


def _overlap(first: Incident, second: Incident) -> bool:
    return first.opened_window <= _seen_until(second) and second.opened_window <= _seen_until(first)


def _moved_to(incident: Incident, heir: Incident) -> Incident:
    """The recomputed incident under the id that is kept, with what people did about that one, and the earlier onset."""
    kept = {key: heir.detail[key] for key in _PERSON_MADE if key in heir.detail}
    return replace(
        incident,
        id=heir.id,
        acknowledged_by=heir.acknowledged_by,
        acknowledged_at=heir.acknowledged_at,
        acknowledged_note=heir.acknowledged_note,
        cause=heir.cause,
        cause_confidence=heir.cause_confidence,
        onset=min((each for each in (incident.onset, heir.onset) if each is not None), default=None),
        summary=heir.summary,
        detail=_standing(heir.detail | incident.detail | kept),
    )


def _relinked(
    found: dict[str, Incident], stored: Mapping[str, Incident], gone: Mapping[str, str]
) -> dict[str, Incident]:
    """What named an incident that is no more as its root, or as following from it, names the one it is a part of."""
    if not gone:
        return found
    for incident in (*stored.values(), *found.values()):
        detail, own = found.get(incident.id, incident).detail, incident.id
        if own in gone or not ({detail.get("root"), *detail.get("related", [])} & gone.keys()):
            continue
        root = gone.get(detail.get("root", ""), detail.get("root"))
        related = dict.fromkeys(gone.get(each, each) for each in detail.get("related", []))
        linked = {key: value for key, value in detail.items() if key not in ("root", "related")}
        linked |= {"root": root} if root not in (None, own) else {}
        linked |= {"related": [each for each in related if each != own]} if related else {}
        found[own] = replace(found.get(own, incident), detail=linked)
    return found


def _retell(
    incident: Incident,
    *,
    before: Incident | None,
    window: Window,
    rules: Rules,
    muted: Collection[str | None],
    taken_back: bool,
) -> tuple[Incident, Transition | None]:
    """What a recomputed past is worth telling of one incident, against what was stored (and perhaps told) of it."""
    told: list[list[str | None]] = incident.detail.get("told", [])
    audible = [pair for pair in incident.detail.get("series", []) if None not in muted and pair[0] not in muted]
    new = [pair for pair in audible if pair not in told]
    if None in muted or incident == before:
        return incident, None
    if taken_back:
        return incident, Transition.RESTATED if told else None
    if before is None and new and incident.state is IncidentState.RESOLVED:
        return _told(incident, new, window=window), Transition.OPENED
    if incident.state is not IncidentState.OPEN:
        heard = before is not None and before.state is IncidentState.OPEN and told
        return incident, Transition.RESOLVED if heard else None
    news = _news_of_open(incident, before, new=bool(new), window=window, rules=rules)
    return (incident, None) if news is None else (_told(incident, new, window=window), news)


def _news_of_open(
    incident: Incident, before: Incident | None, *, new: bool, window: Window, rules: Rules
) -> Transition | None:
    if not incident.detail.get("told"):
        opened = Transition.NO_DATA if incident.detail.get("kind") == _NO_DATA else Transition.OPENED
        return opened if new else None
    if before is not None and before.state is not IncidentState.OPEN:
        return Transition.RESTATED
    if new:
        return Transition.WORSENED
    went_on = before is not None and incident.last_window > before.last_window
    return Transition.REPEATED if went_on and _reminder_due(incident, window, rules) else None
