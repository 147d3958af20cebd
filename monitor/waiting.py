"""What an open incident waits for before it is over: its last bad window, and which of its parts have not recovered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from monitor.curves import plainly
from monitor.incidents import SeriesKey, alarms_of, is_about_labels, members, move, verdicts_of
from monitor.messages import metric_word
from monitor.models import DECISION, Check, Incident, IncidentState, Result, SeriesState, Window

MOST = 3
"""Parts that are named."""


@dataclass(frozen=True)
class Part:
    """One series of an incident that has not recovered: how far it is, and since when it could not be judged."""

    name: str
    good: int
    silent_since: datetime | None = None
    reason: str = ""


@dataclass(frozen=True)
class Waiting:
    last_bad: datetime
    needs: int
    parts: list[Part]
    comes_again: datetime | None = None
    """When what comes again with a season would do so next: it is not over before."""

    def words(self, moment: Callable[[datetime], str]) -> str:
        """One or two sentences; ``moment`` writes a time."""
        told = f"Last bad window: {moment(self.last_bad)}."
        if self.comes_again is not None:
            told += f" It comes again with the season, and is not over before that of {moment(self.comes_again)}."
        if not self.parts:
            return told
        windows = "a good window" if self.needs == 1 else f"{self.needs} good windows in a row"
        named = [self._part(part, moment) for part in self.parts[:MOST]]
        more = f"; and {len(self.parts) - MOST} more" if len(self.parts) > MOST else ""
        return f"{told} It is over after {windows}, still awaited from {'; '.join(named)}{more}."

    def _part(self, part: Part, moment: Callable[[datetime], str]) -> str:
        told = [f"{part.good} of {self.needs} so far"] if part.good else []
        if part.silent_since is not None:
            why = f": {part.reason}" if part.reason else ""
            told.append(f"cannot tell since {moment(part.silent_since)}{why}")
        return f"{part.name} ({'; '.join(told)})" if told else part.name


def waits_for(incident: Incident, results: Iterable[Result], *, recover: int) -> Waiting | None:
    """What is still missing, from the newest results of the incident's model and check; ``None`` where it is not open.

    Parameters
    ----------
    results
        Those of the windows from ``incident.opened_window`` on; any order.
    recover
        Good windows in a row that it takes, see :class:`monitor.incidents.Rules`.
    """
    if incident.state is not IncidentState.OPEN:
        return None
    again = incident.detail.get("again")
    comes_again = None if again is None else datetime.fromisoformat(again)
    if incident.detail.get("kind") == "no_data":
        return Waiting(incident.last_window, 1, [Part("the rows", 0)], comes_again)
    by_window: dict[Window, list[Result]] = {}
    for result in results:
        if result.check is incident.check and result.window.start >= incident.opened_window:
            by_window.setdefault(result.window, []).append(result)
    states = {key: SeriesState(incident.model, *key) for key in members(incident)}
    silent: dict[SeriesKey, tuple[datetime, str]] = {}
    alarmed = {alarm[1:] for alarm in alarms_of(incident)}
    for window, found in sorted(by_window.items()):
        verdicts = verdicts_of(found, under=[incident])
        for key, state in states.items():
            verdict = verdicts.get(key)
            if verdict is not None and verdict.decides:
                states[key] = move(state, verdict, window)
                silent.pop(key, None)
            else:
                silent.setdefault(key, (window.start, _reason(key, found, alarmed)))
    missing = [(key, state) for key, state in states.items() if state.good < recover]
    missing.sort(key=lambda pair: pair[0][2] is not None)
    parts = [Part(_name(key), state.good, *silent.get(key, (None, ""))) for key, state in missing]
    return Waiting(incident.last_window, recover, parts, comes_again)


def _reason(key: SeriesKey, found: Iterable[Result], alarmed: Collection[tuple[str | None, str | None, str]]) -> str:
    """Why a series is silent: of what has alerted in it rather than of other metrics."""
    own = [r for r in found if (r.check, r.feature, r.segment) == key and r.detail.get("reason")]
    own = [r for r in own if not r.verdict.decides] or own
    own.sort(key=lambda r: ((*key[1:], r.metric) not in alarmed, not r.detail.get("decides"), r.kind == "estimated"))
    if not own:
        return ""
    several = len({alarm for alarm in alarmed if alarm[:2] == key[1:]}) > 1
    reason = plainly(str(own[0].detail["reason"]))
    return f"{metric_word(own[0].metric)}: {reason}" if several else reason


def _name(key: SeriesKey) -> str:
    check, feature, segment = key
    if is_about_labels(feature):
        return "the labels"
    whole = {Check.SCORE_DRIFT: "the score", Check.FEATURE_DRIFT: "the features together"}
    name = "the decisions" if feature == DECISION else feature or whole.get(check, "all rows")
    if segment is None:
        return name
    return segment if feature is None else f"{name} [{segment}]"
