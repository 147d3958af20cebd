"""Which finished windows are to be computed again: a few questions about all of them, and few rows read.

Of rows one question tells of all windows how many there are, and the first and the last.  Of labels in a table of their
own it is asked first whether that table is as it was when the windows were last looked at.  If it is not, but holds as
many labels from before then as it did, only those that landed since can matter: they are read, and the predictions that
they are of.  If labels from before that look have appeared or gone, those of each window are counted again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from monitor import label_tasks, schedule
from monitor.config import Config, ModelConfig
from monitor.label_tasks import label_name
from monitor.models import Job, Roles, Window, WindowRow
from monitor.schedule import is_mature

if TYPE_CHECKING:
    from monitor.service import Service
    from monitor.sources import Source

LOOKED = "looked"
"""When a window was last looked at and found as it was (in its ``detail``), after it was computed at ``as_of``."""
LANDED = "landed"
"""What was known of labels in tables of their own then, by the label's name (``detail``)."""


def recheck(service: Service, name: str, *, now: datetime) -> int:
    """Open again the windows whose rows or labels have changed since they were read; return how many."""
    model, opened = service.model(name), 0
    roles = schedule.known_roles(service, name, now=now)
    if roles is None:
        return 0
    from monitor.sources import spelled_out  # noqa: PLC0415 - with Arrow, which telling what is due does without

    model = spelled_out(model, roles)
    for job in schedule.jobs(model, roles):
        start = now - _horizon(model, job, service.config) - (MISSED if job is Job.LABELS else timedelta(0))
        rows = service.store.windows(name, job, start=start, end=now, states=schedule.RESTATABLE)
        young = [row for row in rows if _worth_a_look(row, model, config=service.config, now=now)]
        if not young:
            continue
        with service.source(name) as source:
            marks = fingerprints(source, model, roles, [row.window for row in young], job=job, now=now)
            changed = {row.window for row in young if marks[row.window] != row.fingerprint}
            tables: Tables = {}
            if job is Job.LABELS:
                tables = label_tables(source, model, now=now)
                same = [row for row in young if row.window not in changed]
                changed |= _landed_in(source, model, roles, same, tables, now=now)
        for row in young:
            if row.window in changed:
                service.store.reopen(name, job, row.window, reason="its rows changed")
                opened += 1
        looked = {row.window: _as_looked(row, tables, now=now) for row in young if row.window not in changed}
        service.store.note(name, job, looked)
    return opened


def fingerprints(
    source: Source, model: ModelConfig, roles: Roles, windows: Sequence[Window], *, job: Job, now: datetime
) -> dict[Window, str]:
    """Cheap marks of the rows that windows' results depend on; another mark means that one must be computed again.

    Labels in a table of their own are left to :class:`Landed`.
    """
    told = source.fingerprints(model, roles, windows, job=job, now=now)
    if job is not Job.LABELS:
        return told
    marks = {window: f"{mark}|mature={is_mature(model, window, now=now)}" for window, mark in told.items()}
    for view in label_tasks.views(model)[1:]:
        more = source.fingerprints(view, label_tasks.roles_of(view, roles), windows, job=job, now=now)
        for window, mark in more.items():
            marks[window] += f"; {mark}|mature={is_mature(view, window, now=now)}"
    return marks


def fingerprint(source: Source, model: ModelConfig, roles: Roles, window: Window, *, job: Job, now: datetime) -> str:
    """The mark of one window."""
    return fingerprints(source, model, roles, [window], job=job, now=now)[window]


# --- labels in tables of their own -------------------------------------------------------------------

Tables = dict[str, str]
"""For each label in a table of its own: how many that held, and the first and last of them, as one text."""


@dataclass(frozen=True)
class Landed:
    """What a read of a window's labels found, and what their whole table held just before."""

    table: str
    known: int


def label_tables(source: Source, model: ModelConfig, *, now: datetime) -> Tables:
    """What the tables of labels hold as of ``now``."""
    told = {_key(view): source.label_table(view, now=now) for view in label_tasks.views(model)}
    return {name: json.dumps(each, default=str) for name, each in told.items() if each is not None}


def kept(tables: Tables, known: Mapping[str, int]) -> dict[str, Any]:
    """The part of a window's ``detail`` by which :func:`recheck` will know whether more labels have landed."""
    told = {name: [table, known.get(name, 0)] for name, table in tables.items()}
    return {LANDED: told} if told else {}


def known_of(views: Sequence[ModelConfig], n_known: Sequence[int]) -> dict[str, int]:
    """How many labels were read of each view, by the names that :func:`kept` has them under."""
    return {_key(view): n for view, n in zip(views, n_known, strict=True)}


def _key(view: ModelConfig) -> str:
    return label_name(view) or ""


def _landed_in(
    source: Source, model: ModelConfig, roles: Roles, rows: Sequence[WindowRow], tables: Tables, *, now: datetime
) -> set[Window]:
    """The windows of which labels have landed, gone, or come with a landing time from before the last look."""
    changed: set[Window] = set()
    for view in label_tasks.views(model):
        name = _key(view)
        if name not in tables:
            continue
        by_look: dict[tuple[datetime | None, str], list[WindowRow]] = {}
        for row in rows:
            told = _landed(row, name)
            if row.window in changed or (told is not None and told.table == tables[name]):
                continue
            by_look.setdefault((_looked(row), told.table if told else ""), []).append(row)
        view_roles = label_tasks.roles_of(view, roles)
        for (looked, table), group in by_look.items():
            changed |= _changed_since(source, view, view_roles, group, looked=looked, table=table, now=now)
    return changed


def _changed_since(
    source: Source,
    view: ModelConfig,
    roles: Roles,
    rows: Sequence[WindowRow],
    *,
    looked: datetime | None,
    table: str,
    now: datetime,
) -> set[Window]:
    """Of windows that were last looked at when the labels' table was ``table``, those that have other labels now."""
    windows = [row.window for row in rows]
    if looked is None or not table:
        return set(windows)
    if view.labels is not None and view.labels.time is not None and looked <= now:
        before = json.dumps(source.label_table(view, now=looked), default=str)
        if before == table:
            return source.which_landed(view, roles, windows, since=looked, now=now)
    known = {row.window: told.known for row in rows if (told := _landed(row, _key(view))) is not None}
    return {window for window, n in source.n_landed(view, roles, windows, now=now).items() if n != known[window]}


def _landed(row: WindowRow, name: str) -> Landed | None:
    told = row.detail.get(LANDED, {}).get(name)
    return None if told is None else Landed(*told)


def _looked(row: WindowRow) -> datetime | None:
    told = row.detail.get(LOOKED, row.detail.get("as_of"))
    return None if told is None else datetime.fromisoformat(told)


def _as_looked(row: WindowRow, tables: Tables, *, now: datetime) -> dict[str, Any]:
    """What is kept of a window that is as it was: its tables of labels are known as they are now."""
    known = {name: told[1] for name, told in row.detail.get(LANDED, {}).items()}
    return row.detail | {LOOKED: now.isoformat()} | kept(tables, known)


# --- which are looked at -----------------------------------------------------------------------------


MISSED = timedelta(days=60)
"""Windows whose labels matured while nothing ran are looked at as long afterwards."""


def _horizon(model: ModelConfig, job: Job, config: Config) -> timedelta:
    """How far back a closed window may still change."""
    delay = schedule.longest_delay(model) if job is Job.LABELS else timedelta(0)
    return delay + model.lateness + 2 * schedule.length(model, config)


def _worth_a_look(row: WindowRow, model: ModelConfig, *, config: Config, now: datetime) -> bool:
    """Whether a closed window should be looked at again.

    Looks thin out with the window's age (each when it is a third older), so that neither a big table is counted at
    every tick nor a window restated for every label; the moment when labels are mature is never missed.  With
    ``labels.horizons`` labels are looked at when a window comes to one of these ages, and at no other.
    """
    last = _looked(row)
    is_past = row.window.end <= now - _horizon(model, row.job, config)
    if last is None:
        return not is_past
    if last > now:  # a past moment is replayed beside what is known by now
        return False
    if row.job is Job.LABELS:
        views = label_tasks.views(model)
        if any(is_mature(v, row.window, now=now) != is_mature(v, row.window, now=last) for v in views):
            return True
        if is_past:
            return False
        if views and all(v.labels is not None and v.labels.horizons for v in views):
            ages = [age for v in views if v.labels is not None for age in v.labels.horizons]
            return any(last < row.window.end + age <= now for age in ages)
    age = last - row.window.end
    return now - last >= max(schedule.length(model, config) / 4, age / 3, timedelta(minutes=5))
