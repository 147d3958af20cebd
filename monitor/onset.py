"""Since when: the onset of an open incident as an interval of event time, from the windows that are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from detectors.change_point import ChangePoint, dispersion, onset_of_counts, onset_of_values
from detectors.profiles import CategoricalProfile, Column, NumericProfile, ProfileError
from detectors.statistic import bins_of
from monitor.incidents import ROWS, SeriesKey, Step, is_about_labels, members
from monitor.models import SCORE, Check, Claim, Incident, IncidentState, Result, StoredProfile, Window
from monitor.service import Service

if TYPE_CHECKING:
    from monitor.run import Seen

LOOKED_BACK = 40
"""Windows before the incident that show what was normal."""
REFINED = 5
"""An onset is dated anew for so many windows after the first: they show what the change is like."""
DATED = 8
"""Series of an incident that are dated, the worst ones."""
STRONG = 3.0
"""Log evidence from which on an onset is stated; below, an interval would be a guess."""


@dataclass(frozen=True)
class Onset:
    """A change began in ``[start, end)``, most likely in the window that begins at ``best``."""

    start: datetime
    end: datetime
    best: datetime
    confidence: float
    evidence: float


def date(service: Service, claim: Claim, seen: Seen, step: Step) -> Step:
    """The step, with the onset of its young open incidents and how sure that is."""
    dated = {
        incident.id: _dated(service, claim, seen, incident)
        for incident in step.incidents
        if incident.state is IncidentState.OPEN and _is_young(incident, claim.window)
    }
    return replace(
        step,
        incidents=[dated.get(incident.id, incident) for incident in step.incidents],
        transitions=[(transition, dated.get(incident.id, incident)) for transition, incident in step.transitions],
    )


def _is_young(incident: Incident, window: Window) -> bool:
    return window.start - incident.opened_window <= REFINED * window.length


def _dated(service: Service, claim: Claim, seen: Seen, incident: Incident) -> Incident:
    span = claim.window.length
    start = max(
        [incident.opened_window - LOOKED_BACK * span]
        + [
            past.resolved_window
            for past in service.store.incidents(claim.model)
            if past.check is incident.check and past.resolved_window and past.resolved_window <= incident.opened_window
        ]
    )
    keys = [key for key in members(incident) if key[1] != ROWS and not is_about_labels(key[1])][:DATED]
    if incident.check in (Check.PERFORMANCE, Check.SKEW):
        onsets = from_results(keys, _results(service, claim, seen, incident, start), opened=incident.opened_window)
    else:
        baseline = service.store.baseline(claim.model)
        columns = {} if baseline is None else baseline.columns
        profiles = _profiles(service, claim, seen, keys, start)
        onsets = from_profiles(keys, columns, profiles, opened=incident.opened_window)
    return with_onset(incident, onsets)


def _results(service: Service, claim: Claim, seen: Seen, incident: Incident, start: datetime) -> list[Result]:
    stored = service.store.results(claim.model, check=incident.check, start=start, end=claim.window.end)
    mine = [result for result in seen.results if result.check is incident.check]
    return [*(result for result in stored if result.window != claim.window), *mine]


def _profiles(
    service: Service, claim: Claim, seen: Seen, keys: Sequence[SeriesKey], start: datetime
) -> list[StoredProfile]:
    found = []
    for segment in dict.fromkeys(segment for _, _, segment in keys):
        names = [column_of(key) for key in keys if key[2] == segment]
        kept = service.store.profiles(claim.model, start=start, end=claim.window.end, columns=names, segment=segment)
        found += [profile for profile in kept if profile.window != claim.window]
        found += [p for p in seen.profiles if p.segment == segment and p.column in names]
    return found


def column_of(key: SeriesKey) -> str:
    """The column whose counts a series is judged by."""
    check, feature, _ = key
    return SCORE if feature is None or check is Check.SCORE_DRIFT else feature


# --- pure ------------------------------------------------------------------------------------------


def from_profiles(
    keys: Sequence[SeriesKey],
    columns: Mapping[str, Column],
    profiles: Sequence[StoredProfile],
    *,
    opened: datetime,
) -> dict[SeriesKey, Onset]:
    """The onset of each series by the counts of its windows; those that say too little are left out.

    Overdispersion is taken from the windows that ended a little before ``opened``, the first window that fired.
    """
    onsets = {}
    for key in keys:
        column = columns.get(column_of(key))
        if column is None:
            continue
        windows, counts = _binned(column, [p for p in profiles if (p.column, p.segment) == (column_of(key), key[2])])
        if not windows:
            continue
        quiet = np.array([window.end <= opened - 2 * window.length for window in windows])
        spread = dispersion(counts[quiet]) if quiet.sum() >= 3 else 1.0
        reference = bins_of(column.spec, column.reference, column.reference).reference
        onset = _placed(onset_of_counts(counts, reference, spread=spread), windows)
        if onset is not None:
            onsets[key] = onset
    return onsets


def _binned(column: Column, profiles: Sequence[StoredProfile]) -> tuple[list[Window], Any]:
    rows: dict[Window, Any] = {}
    for kept in sorted(profiles, key=lambda one: one.window):
        if not isinstance(kept.profile, NumericProfile | CategoricalProfile):
            continue
        try:
            rows[kept.window] = bins_of(column.spec, column.reference, kept.profile).current
        except ProfileError:  # counted over the edges of an earlier baseline
            continue
    return list(rows), np.array(list(rows.values()))


def from_results(keys: Sequence[SeriesKey], results: Sequence[Result], *, opened: datetime) -> dict[SeriesKey, Onset]:
    """The onset of each series by its worst metric's values and their intervals."""
    onsets = {}
    for key in keys:
        mine = [r for r in results if (r.check, r.feature, r.segment) == key and r.value is not None and r.interval]
        mine = [r for r in mine if r.detail.get("decides") is not False]
        fired = [r for r in mine if r.verdict.value == "alert" and r.window.start >= opened]
        if not fired:
            continue
        metric = max(fired, key=lambda r: r.window).metric
        series = {r.window: r for r in sorted(mine, key=lambda r: (r.window, r.revision)) if r.metric == metric}
        values = np.array([r.value for r in series.values()], dtype=np.float64)
        errors = np.array([(r.interval[1] - r.interval[0]) / 3.92 for r in series.values() if r.interval])
        onset = _placed(onset_of_values(values, np.maximum(errors, 1e-9)), list(series))
        if onset is not None:
            onsets[key] = onset
    return onsets


def _placed(point: ChangePoint | None, windows: Sequence[Window]) -> Onset | None:
    if point is None or point.evidence < STRONG:
        return None
    # Where windows before it were not looked at, nobody knows whether it began in them.
    known = windows[point.first].start if point.first == 0 else windows[point.first - 1].end
    return Onset(
        min(known, windows[point.first].start),
        windows[point.last].end,
        windows[point.best].start,
        round(point.confidence, 3),
        round(point.evidence, 1),
    )


def with_onset(incident: Incident, onsets: Mapping[SeriesKey, Onset]) -> Incident:
    """The incident, begun when its surest series did; ``detail.onsets`` keeps each feature's own interval."""
    if not onsets:
        return incident
    surest = max(onsets.values(), key=lambda one: one.evidence)
    named = {
        key[1] or key[0].value: [one.start.isoformat(), one.end.isoformat()]
        for key, one in onsets.items()
        if key[2] is None
    }
    detail = incident.detail | {
        "onset_interval": [surest.start.isoformat(), surest.end.isoformat()],
        "onset_confidence": surest.confidence,
        "onsets": named,
    }
    return replace(incident, onset=surest.best, detail=detail)
