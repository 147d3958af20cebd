"""Which windows are due: derived from the store and the clock, so that restart and catch-up are the same path."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from monitor import label_tasks, windows
from monitor.config import Config, ModelConfig, parse_duration, spec_hash
from monitor.models import Job, Message, Roles, RunState, Window

if TYPE_CHECKING:
    from monitor.service import Service

Queued = tuple[str, str, Message]
RESTATABLE = (RunState.OK, RunState.NO_DATA, RunState.INSUFFICIENT)


def jobs(model: ModelConfig, roles: Roles | None) -> list[Job]:
    """The clocks that a model has."""
    has_labels = model.labels is not None or (roles is not None and roles.label is not None)
    found = [Job.INPUTS]
    if model.skew is not None:
        found.append(Job.SKEW)
    if has_labels:
        found.append(Job.LABELS)
    return found


def settle(model: ModelConfig, job: Job) -> timedelta:
    """How long after its end a window of this job is first read."""
    if job is Job.SKEW and model.skew is not None and model.skew.settle is not None:
        return model.skew.settle
    return model.settle


def plan(
    service: Service, name: str, *, now: datetime, announce: Callable[[list[Window]], list[Queued]]
) -> list[Window]:
    """Write down the windows of a model that have become due; return those that were skipped.

    Windows older than ``worker.max_catch_up`` when they are first seen are not run but kept as ``skipped``, so that
    no gap is silent; ``monitor backfill`` runs them.  They are announced where a model has had windows before: what
    lies before its first is a past that nobody has missed, and `monitor run` and `status` say that it is there.
    """
    model, zone = service.model(name), service.config.zone
    limit = service.config.worker.max_catch_up
    first = model.start.astimezone(UTC) if model.start is not None else _first_cut(service, name, now - limit)
    start = service.store.monitor_start(name, first)
    skipped: list[Window] = []
    for job in jobs(model, known_roles(service, name, now=now)):
        last = _last_planned(service, name, job, now=now)
        since = last or start
        due = windows.due_windows(
            model.window, zone, start=max(start, since), now=now, settle=settle(model, job), anchor=model.start
        )
        run, skip = windows.split_catch_up(due, now=now, max_catch_up=limit)
        if skip:
            told = announce(skip) if last is not None else []
            service.store.skip(
                name, job, skip, spec_version=spec_hash(model), reason="catchup_limit", operator_messages=told
            )
            skipped += [window for window in skip if window not in skipped]
        if run:
            service.store.plan(name, job, run, spec_version=spec_hash(model))
    return skipped


def plan_range(service: Service, name: str, *, start: datetime, end: datetime, now: datetime, alerts: bool) -> int:
    """Write down every window of a range, also those that were skipped before; return how many there are."""
    model, planned = service.model(name), 0
    found = list(windows.cuts(model.window, service.config.zone, start=start, end=end, anchor=model.start))
    service.store.monitor_start(name, found[0].start if found else start)
    for job in jobs(model, known_roles(service, name, now=now)):
        closed = [window for window in found if window.end + settle(model, job) <= now]
        service.store.plan(name, job, closed, spec_version=spec_hash(model), alerts=alerts, again=True)
        planned += len(closed)
    return planned


def is_mature(model: ModelConfig, window: Window, *, now: datetime) -> bool:
    """Whether the labels of a window may be taken as complete."""
    delay = model.labels.delay if model.labels is not None else timedelta(0)
    return now >= window.end + delay


def longest_delay(model: ModelConfig) -> timedelta:
    """How long it takes until all labels of a window are mature."""
    return max(
        (view.labels.delay for view in label_tasks.views(model) if view.labels is not None), default=timedelta(0)
    )


def known_roles(service: Service, name: str, *, now: datetime) -> Roles | None:
    """The model's resolved columns, or ``None`` while its source cannot be asked."""
    from monitor.sources import SourceError  # noqa: PLC0415 - as above

    try:
        with service.source(name) as source:
            return service.roles(name, source, now=now)
    except SourceError:
        return None


def _last_planned(service: Service, name: str, job: Job, *, now: datetime) -> datetime | None:
    """The end of the newest window that is written down; ``None`` where the last one is longer ago than catch-up.

    Windows are planned without gaps, so only what comes after it has to be looked for.
    """
    model = service.model(name)
    since = now - service.config.worker.max_catch_up - 2 * length(model, service.config)
    rows = service.store.windows(name, job, start=since)
    return max((row.window.end for row in rows), default=None)


def length(model: ModelConfig, config: Config) -> timedelta:
    """About how long the model's windows are; days with a clock change aside."""
    try:
        return parse_duration(model.window)
    except ValueError:
        some = datetime(2024, 1, 1, tzinfo=UTC)
        cut = windows.cuts(model.window, config.zone, start=some, end=some + timedelta(days=800))
        return next(cut).length


def next_due(model: ModelConfig, config: Config, *, now: datetime) -> list[datetime]:
    """When the next windows of a model will be due: closed, and settled."""
    span = length(model, config)
    ahead = windows.cuts(model.window, config.zone, start=now - span, end=now + 3 * span, anchor=model.start)
    return [cut.end + model.settle for cut in ahead if cut.end + model.settle > now][:3]


def _first_cut(service: Service, name: str, earliest: datetime) -> datetime:
    model = service.model(name)
    ahead = 3 * length(model, service.config)
    cut = windows.cuts(model.window, service.config.zone, start=earliest, end=earliest + ahead, anchor=model.start)
    return next((window.start for window in cut), earliest)
