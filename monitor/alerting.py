"""From a window's results to what is saved with them: incident state, its likely cause, and messages to be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from monitor import diagnosis, grouping, incidents, messages, onset, schedule
from monitor.config import Config, Destination, ModelConfig
from monitor.incidents import Rules, SeriesKey, Step
from monitor.models import (
    Claim,
    Incident,
    IncidentState,
    Job,
    Message,
    Outcome,
    Result,
    RunState,
    SeriesState,
    Transition,
    Verdict,
    Window,
    WindowRow,
)
from monitor.reports.files import window_page_path
from monitor.service import Service
from monitor.sources import SourceError, TransientSourceError
from monitor.store import ALL

if TYPE_CHECKING:
    from monitor.run import Seen

Queued = tuple[str, str, Message]
"""``(destination, dedup_key, message)``"""


def conclude(
    service: Service, claim: Claim, seen: Seen, *, now: datetime, later: Mapping[Window, Sequence[Result]] | None = None
) -> Outcome:
    """Move the incidents by this window's results, and compose what is worth telling.

    Parameters
    ----------
    later
        What later windows will say once they are restated as well, by this claim's job: incidents are moved by it as
        if it were saved, so that none is opened or ended by what is about to be replaced.
    """
    series = service.store.series(claim.model)
    known = service.store.incidents(claim.model)
    seen = replace(seen, results=incidents.unspent(seen.results, known, window=claim.window))
    anew = {**(later or {}), claim.window: seen.results}
    step = _step(service, claim, anew, series, known, now=now)
    if later is not None:
        # What joins the incident in the last of these windows has begun before; what begins there joins later.
        reach = max(0, onset.REFINED - service.model(claim.model).confirm + 1)
        step = _by_window(service, claim, seen, step, onset.date, anew=anew, reach=reach)
    else:
        step = onset.date(service, claim, seen, step)
    there = [incident for incident in known if incident.id not in step.gone]
    step = grouping.group(step, known=there, results=seen.results, length=claim.window.length)
    causes = _explained(service, claim, seen, step, anew=anew, together=later is not None)
    before = {incident.id: incident for incident in known}
    told = {incident.id: _dated(incident, before.get(incident.id), now=now) for incident in causes}
    changes = [(transition, told.get(incident.id, incident)) for transition, incident in step.transitions]
    repeat = service.config.alerts.repeat
    changes = [(t, i) for t, i in changes if t is not Transition.REPEATED or not _just_heard(i, repeat, now=now)]
    if is_told(service, claim, now=now):
        told |= {i.id: replace(i, detail=i.detail | {"heard_at": now.isoformat()}) for _, i in changes}
    still_open = [i for i in known if i.state is IncidentState.OPEN and i.id not in told]
    recent = is_recent(service, claim, now=now)
    evidence = shown(seen.results, changes, window=claim.window, earlier=partial(_results_at, service, claim))
    queued = (
        queue(service, claim, changes, evidence, still_open=still_open)
        if changes and is_told(service, claim, now=now)
        else []
    )
    if seen.news and is_told(service, claim, now=now):
        queued += announced(service, claim, seen.news)
    quiet = [] if recent or not claim.alerts else _withheld(service, claim, list(told.values()), known, now=now)
    return Outcome(
        state=seen.state,
        n_rows=seen.n_rows,
        reason=seen.reason,
        fingerprint=seen.fingerprint,
        results=seen.results,
        profiles=seen.profiles,
        series=step.series,
        incidents=list(told.values()),
        messages=queued,
        held=queue(service, claim, quiet, seen.results, still_open=still_open) if quiet else [],
        gone=step.gone,
        detail={"as_of": now.isoformat()} | seen.detail,
    )


def _explained(
    service: Service,
    claim: Claim,
    seen: Seen,
    step: Step,
    *,
    anew: Mapping[Window, Sequence[Result]],
    together: bool,
) -> list[Incident]:
    """The step's incidents with their causes, each by its own last bad window, which need not be the one looked at."""
    elsewhere = {
        incident.id
        for incident in step.incidents
        if together or (incident.state is IncidentState.OPEN and incident.last_window != claim.window.start)
    }
    here = replace(step, incidents=[incident for incident in step.incidents if incident.id not in elsewhere])
    there = Step(incidents=[incident for incident in step.incidents if incident.id in elsewhere])
    found = {incident.id: incident for incident in diagnosis.causes(service, claim, seen, here)}
    found |= {i.id: i for i in _by_window(service, claim, seen, there, _with_causes, anew=anew).incidents}
    return [found[incident.id] for incident in step.incidents]


def shown(
    results: Sequence[Result],
    changes: Sequence[tuple[Transition, Incident]],
    *,
    window: Window,
    earlier: Callable[[datetime], Iterable[Result]],
) -> list[Result]:
    """What a message is of: the window's results, and those of the last bad window of an incident that is quiet in it.

    Labels that land in one window may complete an incident that goes on in later ones.  ``earlier`` gives the results
    of the window that starts at a time.
    """
    firing = {(r.check, r.feature, r.segment) for r in results if r.verdict is Verdict.ALERT}
    found = list(results)
    for _, incident in changes:
        quiet = firing.isdisjoint(incidents.members(incident))
        if quiet and incident.state is IncidentState.OPEN and incident.last_window != window.start:
            found += [result for result in earlier(incident.last_window) if result.check is incident.check]
    return found


def _with_causes(service: Service, claim: Claim, seen: Seen, step: Step) -> Step:
    return replace(step, incidents=diagnosis.causes(service, claim, seen, step))


def _by_window(
    service: Service,
    claim: Claim,
    seen: Seen,
    step: Step,
    explain: Callable[[Service, Claim, Seen, Step], Step],
    *,
    anew: Mapping[Window, Sequence[Result]],
    reach: int | None = None,
) -> Step:
    """The step, each incident explained by its own last window: those of many windows have come out at once.

    One that is over by now is explained as it would have been while it was open; with ``reach`` by what was known so
    many windows after it began.
    """
    results_of = {window.start: list(results) for window, results in anew.items()}
    found: dict[str, Incident] = {}
    for incident in step.incidents:
        at = incident.last_window
        if reach is not None:
            latest = min(at, incident.opened_window + reach * claim.window.length)
            at = max((start for start in results_of if incident.opened_window <= start <= latest), default=at)
        results = results_of.get(at) or _results_at(service, claim, at)
        if not results or incident.state is IncidentState.REMOVED:
            continue
        window = results[0].window
        kept = service.store.profiles(claim.model, start=window.start, end=window.end, segment=ALL)
        then = replace(seen, results=results, profiles=kept)
        asked = replace(incident, state=IncidentState.OPEN, resolved_window=None)
        [told] = explain(service, replace(claim, window=window), then, Step(incidents=[asked])).incidents
        found[incident.id] = replace(told, state=incident.state, resolved_window=incident.resolved_window)
    return replace(
        step,
        incidents=[found.get(incident.id, incident) for incident in step.incidents],
        transitions=[(transition, found.get(incident.id, incident)) for transition, incident in step.transitions],
    )


def _dated(incident: Incident, before: Incident | None, *, now: datetime) -> Incident:
    """Note when an incident was opened: with labels that land late, long after the window that it was found in."""
    opened_at = now.isoformat() if before is None else before.detail.get("opened_at", now.isoformat())
    return replace(incident, detail=incident.detail | {"opened_at": opened_at})


def _just_heard(incident: Incident, repeat: timedelta | None, *, now: datetime) -> bool:
    """Whether a message of this incident was composed a moment ago: a catch-up takes in days of windows in a minute.

    Half of ``alerts.repeat`` leaves room for the jitter of a daemon that comes by once a day.
    """
    heard = incident.detail.get("heard_at")
    return heard is not None and repeat is not None and now - datetime.fromisoformat(heard) < repeat / 2


def _step(
    service: Service,
    claim: Claim,
    anew: Mapping[Window, Sequence[Result]],
    series: Mapping[SeriesKey, SeriesState],
    known: Sequence[Incident],
    *,
    now: datetime,
) -> Step:
    """A window taken in for the first time moves the state on; a restated one has the state computed anew.

    So has one that is judged after later ones (a backfill after a run, a window that failed at first): as of then
    while the windows up to the later ones still wait, and with these once it is the last of them.
    """
    results = anew[claim.window]
    model = service.model(claim.model)
    rules = rules_of(service.config, model, n_features=len({r.feature for r in results if r.feature is not None}))
    muted = [m.feature for m in service.store.mutes() if m.model == claim.model and (m.until is None or m.until > now)]
    late = claim.revision == 0 and incidents.is_overtaken(claim.window, results, series)
    if claim.revision == 0 and not late:
        return incidents.advance(
            model=claim.model,
            window=claim.window,
            results=results,
            series=series,
            open_incidents=[i for i in known if i.state is IncidentState.OPEN],
            rules=rules,
            muted=muted,
            tell=is_told(service, claim, now=now),
            echoes=incidents.echoes_of(
                claim.window, results, rules=rules, earlier=partial(_results_at, service, claim)
            ),
        )
    waits = late and _waits_for_others(service, claim)
    windows = _since(service, claim, anew, known=known, margin=rules.confirm + rules.recover + 2)
    step = incidents.replay(
        model=claim.model,
        windows=[each for each in windows if each[0] <= claim.window] if waits else windows,
        rules=rules,
        incidents=known,
        muted=muted,
        tell=is_told(service, claim, now=now),
        earlier=partial(_results_at, service, claim),
        anew=anew.keys(),
    )
    return incidents.as_of_then(step, window=claim.window, series=series, known=known) if waits else step


def _waits_for_others(service: Service, claim: Claim) -> bool:
    """Whether between this window and the next one that was judged there are some that are still to be computed."""
    rows = service.store.windows(claim.model, claim.job, start=claim.window.end)
    later = sorted((row for row in rows if row.window.start >= claim.window.end), key=lambda row: row.window)
    judged = (RunState.OK, RunState.NO_DATA, RunState.INSUFFICIENT)
    return any(not row.state.finished for row in takewhile(lambda row: row.state not in judged, later))


def _results_at(service: Service, claim: Claim, start: datetime) -> list[Result]:
    found = service.store.results(claim.model, start=start, end=start + claim.window.length)
    return [result for result in found if result.window.start == start]


def _since(
    service: Service,
    claim: Claim,
    anew: Mapping[Window, Sequence[Result]],
    *,
    known: Sequence[Incident],
    margin: int,
) -> list[tuple[Window, list[Result]]]:
    """Every stored window of these checks from a little before the restated one on, those ``anew`` as they are now."""
    told = [result for results in anew.values() for result in results]
    start = claim.window.start - claim.window.length * margin
    start -= max((cycle for result in told for cycle in incidents.cycles_of(result)), default=timedelta())
    checks = {result.check for result in told}
    start = incidents.replay_from(start, [incident for incident in known if incident.check in checks])
    by_window: dict[Window, list[Result]] = {window: list(results) for window, results in anew.items()}
    for check in sorted(checks):
        for job in Job:
            for result in service.store.results(claim.model, job=job, check=check, start=start):
                # What a window's other clocks have said of these checks stands; this one says its own part anew.
                if job is not claim.job or result.window not in anew:
                    by_window.setdefault(result.window, []).append(result)
    return list(by_window.items())


def _caught_up(model: str, kept: Sequence[Message]) -> Message:
    return messages.caught_up(model, messages=kept)


def rules_of(config: Config, model: ModelConfig, *, n_features: int) -> Rules:
    return Rules(
        confirm=model.confirm,
        recover=model.recover,
        features_alert=model.drift.features_alert,
        n_features=n_features,
        no_data=config.alerts.no_data,
        repeat=config.alerts.repeat,
    )


def is_told(service: Service, claim: Claim, *, now: datetime) -> bool:
    """Whether a window was asked, and is recent enough, to send messages of its own."""
    return claim.alerts and is_recent(service, claim, now=now)


def is_recent(service: Service, claim: Claim | WindowRow, *, now: datetime) -> bool:
    """Whether what a window shows is still news: it ended no longer ago than ``alerts.max_age``."""
    model = service.model(claim.model)
    settled = claim.window.end + model.settle
    if claim.job is Job.LABELS:
        settled += schedule.longest_delay(model)
    return now - settled <= service.config.alerts.max_age + claim.window.length


def _withheld(
    service: Service, claim: Claim, moved: Sequence[Incident], known: Sequence[Incident], *, now: datetime
) -> list[tuple[Transition, Incident]]:
    """What an old window opened and ended: not told now, but together with the rest of the backlog."""
    muted = {m.feature for m in service.store.mutes() if m.model == claim.model and (m.until is None or m.until > now)}
    before = {incident.id: incident for incident in known}
    found = []
    for incident in moved:
        if None in muted or (incident.features and set(incident.features) <= muted):
            continue
        was = before.get(incident.id)
        was_open = was is not None and was.state is IncidentState.OPEN
        if was is not None and incident.standing == "taken back" != was.standing:
            found.append((Transition.RESTATED, incident))
        elif incident.state is IncidentState.OPEN and not was_open:
            found.append((Transition.OPENED, incident))
        elif incident.state is IncidentState.RESOLVED and (was_open or was is None):
            found.append((Transition.RESOLVED if was_open else Transition.OPENED, incident))
    return found


def catch_up(service: Service, models: Iterable[str], *, now: datetime) -> None:
    """Tell in one message what the old windows of a model showed, once no more of them are to be worked on."""
    held = service.store.held_models()
    for name in held.intersection(models):
        waiting = service.store.windows(name, states=[RunState.PENDING, RunState.LEASED])
        ready = [row for row in waiting if row.not_before is None or row.not_before <= now]
        if not any(row.alerts and not is_recent(service, row, now=now) for row in ready):
            service.store.release_held(name, partial(_caught_up, name))


def queue(
    service: Service,
    claim: Claim,
    changes: Sequence[tuple[Transition, Incident]],
    results: Sequence[Result],
    *,
    still_open: Sequence[Incident],
) -> list[Queued]:
    """One message for each destination of the model that wants to hear of these changes."""
    model, alerts = service.model(claim.model), service.config.alerts
    wanted = [c for c in changes if alerts.send_resolved or c[0] is not Transition.RESOLVED]
    if not wanted:
        return []
    message = messages.compose(
        model=claim.model,
        window=claim.window,
        changes=wanted,
        results=results,
        still_open=still_open,
        report_url=report_url(service.config, claim.model, claim.window),
        runbook=model.runbook,
        owner=model.owner,
    )
    key = messages.dedup_key(claim.model, claim.window, changes=wanted, revision=claim.revision)
    return [(name, key, message) for name, _ in destinations(service.config, model, at_least=Verdict.ALERT)]


def announced(service: Service, claim: Claim, news: Iterable[tuple[str, Message]]) -> list[Queued]:
    """News of a model that is no incident, to each of its destinations."""
    model = service.model(claim.model)
    url = report_url(service.config, claim.model, claim.window)
    return [
        (name, key, replace(message, owner=model.owner, runbook=model.runbook, report_url=url))
        for key, message in news
        for name, _ in destinations(service.config, model, at_least=Verdict.ALERT)
    ]


def report_url(config: Config, model: str, window: Window) -> str | None:
    """Where a window's page is to be found, when the site has a public address."""
    return None if not config.reports.url else f"{config.reports.url.rstrip('/')}/{window_page_path(model, window)}"


def destinations(config: Config, model: ModelConfig | None, *, at_least: Verdict) -> Iterable[tuple[str, Destination]]:
    """The destinations of a model (all, unless it names its own) that take messages of a severity."""
    names = list(model.alerts) if model is not None and model.alerts else list(config.alerts.destinations)
    for name in names:
        destination = config.alerts.destinations[name]
        if Verdict(destination.min_severity).rank <= at_least.rank:
            yield name, destination


# --- what operators must know ----------------------------------------------------------------------


def skipped(service: Service, name: str, windows: Sequence[Window]) -> list[Queued]:
    """Windows that were passed over are told once, with the command that runs them."""
    message = messages.skipped(name, windows, reason="older than `worker.max_catch_up`")
    key = f"skipped:{name}:{min(windows).start.isoformat()}:{max(windows).end.isoformat()}"
    return _for_all(service, key, message)


def source_broken(service: Service, claim: Claim, error: SourceError, *, now: datetime) -> list[Queued]:
    """One message for each broken source and day, whatever the number of models and windows it keeps waiting."""
    source = service.source_name(claim.model)
    models = [name for name in service.config.models if service.source_name(name) == source]
    message = messages.source_broken(source, reason=str(error), models=models)
    what = "down" if isinstance(error, TransientSourceError) else str(error)
    key = f"source:{source}:{what}:{now:%Y-%m-%d}"
    return _for_all(service, key, message)


def window_failed(service: Service, claim: Claim, reason: str, *, now: datetime) -> list[Queued]:
    """A window that ends as an error; one message for each model, clock and day, however many do."""
    message = messages.operator(
        f"{claim.model}: a window could not be computed",
        f"The {claim.job.value} window from {messages.moment(claim.window.start)} was tried {claim.attempt} times: "
        f"{reason}. Later windows go on; others that fail today are not told of one by one.",
        model=claim.model,
        window=claim.window,
        advice="`monitor status` counts them; the worker's log says more; `monitor backfill` runs them again.",
    )
    return _for_all(service, f"failed:{claim.model}:{claim.job}:{now:%Y-%m-%d}", message)


def given_up(service: Service, row: WindowRow) -> list[Queued]:
    """A window on which every attempt's worker died is given up, and people must know."""
    message = messages.operator(
        f"{row.model}: a window was given up",
        f"The worker died {row.attempt} times on the {row.job.value} window from {messages.moment(row.window.start)}."
        " Later windows go on.",
        model=row.model,
        window=row.window,
        advice="Look at the worker's log and memory; `monitor backfill` runs the window again.",
    )
    key = f"died:{row.model}:{row.job}:{row.window.start.isoformat()}:{row.revision}"
    return _for_all(service, key, message)


def close_removed(service: Service, removed: Iterable[str]) -> None:
    """End what is under way of models that are configured no more: it is over, which is not the same as well."""
    for name in removed:
        still_open = service.store.incidents(name, states=[IncidentState.OPEN])
        if still_open:
            message = messages.removed(name, still_open)
            ids = ",".join(sorted(incident.id for incident in still_open))
            service.store.save_incidents(
                [replace(incident, state=IncidentState.REMOVED) for incident in still_open],
                messages=_for_all(service, f"removed:{name}:{ids}", message),
            )
        for job in Job:
            waiting = service.store.windows(name, job, states=[RunState.PENDING])
            if waiting:
                spec = waiting[-1].spec_version
                service.store.skip(name, job, [r.window for r in waiting], spec_version=spec, reason="model_removed")


def _for_all(service: Service, key: str, message: Message) -> list[Queued]:
    """What operators must know goes to every destination."""
    return [(name, key, message) for name, _ in destinations(service.config, None, at_least=Verdict.ALERT)]
