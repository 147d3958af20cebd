"""All that the pages of one model need, read from the store in a handful of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from monitor import messages
from monitor.config import ModelConfig
from monitor.curves import curve_shown
from monitor.models import (
    Baseline,
    Check,
    Incident,
    Job,
    Mute,
    Result,
    RunState,
    StoredProfile,
    Verdict,
    Window,
    WindowRow,
)
from monitor.reports.text import FLAGS


class Reading(Protocol):
    """What a page asks of the store."""

    def windows(
        self,
        model: str | None = None,
        job: Job | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        states: Iterable[RunState] | None = None,
    ) -> list[WindowRow]: ...

    def results(
        self,
        model: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        all_revisions: bool = False,
    ) -> list[Result]: ...

    def profiles(
        self, model: str, *, start: datetime, end: datetime, columns: Sequence[str] | None = None
    ) -> list[StoredProfile]: ...

    def baseline(self, model: str) -> Baseline | None: ...

    def baseline_by_id(self, number: int, /) -> Baseline: ...

    def incidents(
        self, model: str | None = None, *, states: Iterable[IncidentStateLike] | None = None
    ) -> list[Incident]: ...

    def mutes(self, *, at: datetime | None = None) -> list[Mute]: ...


IncidentStateLike = Any


@dataclass(frozen=True)
class Facts:
    """One window of one model: what became of it, and what was found."""

    window: Window
    row: WindowRow | None
    jobs: dict[Job, WindowRow]
    results: list[Result]
    older: list[Result]
    incidents: list[Incident]

    @property
    def state(self) -> RunState:
        return self.row.state if self.row is not None else RunState.OK

    @property
    def n_rows(self) -> int | None:
        return self.row.n_rows if self.row is not None else None

    @property
    def revision(self) -> int:
        return max((row.revision for row in self.jobs.values()), default=0)

    def of_check(self, check: Check) -> list[Result]:
        """Of all rows and of segments, but not what compares versions."""
        return [r for r in self.results if r.check is check and not r.of_versions]

    def of(self, check: Check, *, segment: str | None = None) -> list[Result]:
        return [r for r in self.results if r.check is check and r.segment == segment]


@dataclass(frozen=True)
class ModelFacts:
    """One model over the kept range, oldest window first."""

    name: str
    config: ModelConfig
    windows: list[Facts]
    incidents: list[Incident]
    mutes: list[Mute]
    baseline: Baseline | None
    by_series: dict[tuple[Check, str | None, str], dict[Window, Result]] = field(default_factory=dict)
    """Of all rows and against the baseline; of several curves the one to be shown."""

    @property
    def last(self) -> Facts | None:
        return self.windows[-1] if self.windows else None


def read_model(store: Reading, name: str, config: ModelConfig, *, start: datetime, now: datetime) -> ModelFacts:
    """Read windows, results of every revision that was restated, incidents, mutes and the baseline of one model."""
    jobs: dict[Window, dict[Job, WindowRow]] = defaultdict(dict)
    for row in store.windows(name, start=start, end=now):
        if row.state.finished and row.window.end <= now:
            jobs[row.window][row.job] = row
    newest: dict[Window, list[Result]] = defaultdict(list)
    for result in store.results(name, start=start, end=now):
        if result.window.end <= now:
            newest[result.window].append(result)
    restated = any(row.revision for rows in jobs.values() for row in rows.values())
    older: dict[Window, list[Result]] = defaultdict(list)
    if restated:
        current = {(_key(r), r.revision) for found in newest.values() for r in found}
        for result in store.results(name, start=start, end=now, all_revisions=True):
            if (_key(result), result.revision) not in current:
                older[result.window].append(result)
    incidents = [i for i in store.incidents(name) if i.opened_window < now]
    windows = [
        Facts(
            window=window,
            row=jobs[window].get(Job.INPUTS) if window in jobs else None,
            jobs=dict(jobs.get(window, {})),
            results=newest.get(window, []),
            older=older.get(window, []),
            incidents=[i for i in incidents if _touches(i, window)],
        )
        for window in sorted(jobs.keys() | newest.keys())
    ]
    facts = ModelFacts(
        name=name,
        config=config,
        windows=windows,
        incidents=incidents,
        mutes=[m for m in store.mutes(at=now) if m.model == name],
        baseline=store.baseline(name),
    )
    curves: dict[tuple[Check, str | None, str], dict[Window, list[Result]]] = {}
    for result in (r for w in windows for r in w.results if r.segment is None):
        if result.detail.get("against", "baseline") == "baseline":
            series = curves.setdefault((result.check, result.feature, result.metric), {})
            series.setdefault(result.window, []).append(result)
    for key, found in curves.items():
        shown = {window: curve_shown(results) for window, results in found.items()}
        facts.by_series[key] = {window: result for window, result in shown.items() if result is not None}
    return facts


def _key(result: Result) -> tuple[object, ...]:
    against = result.detail.get("against", "baseline")
    return (result.window, result.check, result.feature, result.segment, result.metric, result.kind, against)


def _touches(incident: Incident, window: Window) -> bool:
    last = incident.resolved_window or incident.last_window
    return incident.opened_window <= window.start <= max(last, incident.last_window)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst verdict among those that decide; without any, the most telling of the others."""
    found = list(verdicts)
    deciding = [v for v in found if v.decides]
    return max(deciding or found, key=lambda v: v.rank, default=Verdict.NO_DATA)


def excess(result: Result) -> float:
    """How far beyond its limit: ranks what is equally bad."""
    if result.value is None:
        return -1.0
    if result.check is Check.PERFORMANCE:
        return messages.excess(result)
    return abs(result.value) / result.threshold if result.threshold else abs(result.value)


def limits_of(result: Result) -> list[float]:
    """The levels beyond which the value of a result is bad, on its own scale: some limits are of a change."""
    limit, reference = result.threshold, result.detail.get("reference")
    if limit is None or result.metric in FLAGS:
        return []
    if result.metric == "n_rows":
        usual = result.detail.get("usual")
        return [usual * (1 - limit)] if usual else []
    if result.metric not in _OF_A_CHANGE:
        return [limit]
    if not isinstance(reference, (int, float)):
        return []
    return [reference + limit] if result.metric == "missing_rate" else [reference - limit, reference + limit]


_OF_A_CHANGE = ("decision_rate", "missing_rate")


def reference_of(result: Result) -> float | None:
    """What a value is held against, on its scale."""
    known = result.detail.get("usual" if result.metric == "n_rows" else "reference")
    return float(known) if isinstance(known, (int, float)) else None
