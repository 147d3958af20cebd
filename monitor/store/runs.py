"""Windows as rows: planned, claimed under a lease, finished once.

A window is a row from the moment it is due.  Who works on it holds a lease with a token; whatever happens to that
worker, the lease ends, and a commit with a token that is no longer the row's does nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, insert, or_, select, text, update
from sqlalchemy.sql import Select

from monitor.models import Claim, Job, Outcome, RunState, Window, WindowRow
from monitor.store.engine import insert_or
from monitor.store.schema import model_start, window_run
from monitor.store.storable import clean_text

run = window_run.c
_UNFINISHED = (RunState.PENDING, RunState.LEASED)
_DONE = (RunState.OK, RunState.NO_DATA, RunState.INSUFFICIENT)


class ClaimRaced(Exception):  # noqa: N818 - a signal to look again, never shown
    """Another worker was faster."""


def monitor_start(connection: Connection, model: str, default: datetime) -> datetime:
    """When the monitoring of a model began; the first to ask decides."""
    new = insert_or(connection, model_start).values(model=model, start=default)
    connection.execute(new.on_conflict_do_nothing())
    found: datetime = connection.execute(select(model_start.c.start).where(model_start.c.model == model)).scalar_one()
    return found


def plan(
    connection: Connection,
    model: str,
    job: Job,
    windows: Sequence[Window],
    *,
    spec_version: str,
    alerts: bool,
    again: bool,
    now: datetime,
    state: RunState = RunState.PENDING,
    reason: str | None = None,
) -> int:
    """Insert what is missing; with ``again`` also a new revision of what was skipped, failed, or of another spec.

    A window is missing when its span is not yet covered by known windows of this model and job, so a changed window
    length neither repeats the past nor leaves a hole.
    """
    if not windows:
        return 0
    _alone(connection, model, job, wait=True)
    mine = and_(run.model == model, run.job == job)
    # what waits was planned under an older spec, and will be worked on under this one
    connection.execute(
        update(window_run)
        .where(mine, run.state == RunState.PENDING, run.spec_version != spec_version)
        .values(spec_version=spec_version)
    )
    span = and_(run.window_start < max(w.end for w in windows), run.window_end > min(w.start for w in windows))
    known = connection.execute(
        select(run.window_start, run.window_end, run.revision, run.state, run.spec_version)
        .where(mine, span, run.newest)
        .order_by(run.window_start)
    ).all()
    covered = _merged((row.window_start, row.window_end) for row in known)
    rows = {Window(row.window_start, row.window_end): row for row in known}
    fresh: list[dict[str, Any]] = []
    for window in dict.fromkeys(windows):
        row = rows.get(window)
        if row is None and _covers(covered, window):
            continue
        if row is not None and not (again and _is_stale(row, spec_version)):
            continue
        fresh.append({"window": window, "revision": 0 if row is None else row.revision + 1})
    _insert(
        connection,
        fresh,
        {"model": model, "job": job, "spec_version": spec_version, "alerts": alerts, "state": state, "reason": reason},
        now=now,
    )
    return len(fresh)


def _is_stale(row: Any, spec_version: str) -> bool:
    if row.state in _UNFINISHED:
        return False
    return row.state not in _DONE or row.spec_version != spec_version


def _insert(connection: Connection, fresh: list[dict[str, Any]], common: dict[str, Any], *, now: datetime) -> None:
    if not fresh:
        return
    retire = [item["window"] for item in fresh if item["revision"]]
    for window in retire:
        connection.execute(
            update(window_run).where(_is(common["model"], common["job"], window), run.newest).values(newest=False)
        )
    finished = RunState(common["state"]).finished
    rows = [
        {
            **common,
            "window_start": item["window"].start,
            "window_end": item["window"].end,
            "revision": item["revision"],
            "newest": True,
            "attempt": 0,
            "not_before": now,
            "created_at": now,
            "finished_at": now if finished else None,
            "detail": {},
        }
        for item in fresh
    ]
    connection.execute(insert(window_run), rows)


def hurry(connection: Connection, models: Sequence[str], *, now: datetime) -> int:
    """Let windows that wait for another try be tried now; how many there were."""
    waiting = and_(run.model.in_(models), run.state == RunState.PENDING, run.not_before > now)
    return connection.execute(update(window_run).where(waiting).values(not_before=now)).rowcount


def skip(
    connection: Connection,
    model: str,
    job: Job,
    windows: Sequence[Window],
    *,
    spec_version: str,
    reason: str,
    now: datetime,
) -> int:
    """Mark windows as passed over, whether they were planned or not; finished and leased ones stay as they are."""
    _alone(connection, model, job, wait=True)
    changed = 0
    for window in windows:
        changed += connection.execute(
            update(window_run)
            .where(_is(model, job, window), run.newest, run.state == RunState.PENDING)
            .values(state=RunState.SKIPPED, reason=reason, finished_at=now)
        ).rowcount
    return changed + plan(
        connection,
        model,
        job,
        windows,
        spec_version=spec_version,
        alerts=False,
        again=False,
        now=now,
        state=RunState.SKIPPED,
        reason=reason,
    )


def claim(
    connection: Connection,
    worker: str,
    *,
    lease: timedelta,
    models: Sequence[str] | None,
    jobs: Sequence[Job] | None,
    exclude_models: Sequence[str],
    now: datetime,
    lease_now: datetime,
) -> Claim | None:
    """Take the oldest window that is nobody's, and whose model and job nobody is working on.

    A window that waits for its next attempt holds up the later ones of its model and job: incidents are counted in
    windows, in order.
    """
    ready = or_(
        and_(run.state == RunState.PENDING, run.not_before <= now),
        and_(run.state == RunState.LEASED, run.lease_expires <= lease_now),
    )
    wanted = [ready, _is_first(lease_now)]
    if models is not None:
        wanted.append(run.model.in_(models))
    if jobs is not None:
        wanted.append(run.job.in_(jobs))
    if exclude_models:
        wanted.append(run.model.not_in(exclude_models))
    candidate = select(window_run).where(*wanted).order_by(run.window_start, run.model, run.job, run.revision).limit(1)
    if connection.dialect.name == "postgresql":
        candidate = candidate.with_for_update(skip_locked=True)
    row = connection.execute(candidate).first()
    if row is None:
        return None
    if not _alone(connection, row.model, row.job, wait=False):
        raise ClaimRaced
    token = secrets.token_hex(16)
    taken = connection.execute(
        update(window_run)
        .where(run.id == row.id, ready, _is_first(lease_now))
        .values(
            state=RunState.LEASED,
            attempt=run.attempt + 1,
            lease_owner=worker,
            lease_token=token,
            lease_expires=lease_now + lease,
        )
    )
    if not taken.rowcount:
        raise ClaimRaced
    return _claim_of(row, token)


def _alone(connection: Connection, model: str, job: Job | str, *, wait: bool) -> bool:
    """Let one transaction at a time change which windows of a model and job there are, and who works on them.

    SQLite has one writer anyway.  On PostgreSQL two workers may hold the rows of two windows of one model and job for
    a moment; only one passes here, and then looks again.  Whoever already holds a row must not wait here.
    """
    if connection.dialect.name != "postgresql":
        return True
    call = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    key = clean_text(f"{model}\x1f{job}")
    got = connection.execute(text(f"SELECT {call}(hashtextextended(:key, 1836409455))"), {"key": key}).scalar()
    return wait or bool(got)


def _is_first(lease_now: datetime) -> ColumnElement[bool]:
    """No window of the same model and job is older and unfinished, or being worked on."""
    other = window_run.alias("other")
    older = or_(
        other.c.window_start < run.window_start,
        and_(other.c.window_start == run.window_start, other.c.id < run.id),
    )
    busy = and_(other.c.state == RunState.LEASED, other.c.lease_expires > lease_now)
    return ~exists().where(
        other.c.model == run.model,
        other.c.job == run.job,
        other.c.id != run.id,
        other.c.state.in_(_UNFINISHED),
        or_(older, busy),
    )


def _claim_of(row: Row[Any], token: str) -> Claim:
    return Claim(
        run_id=row.id,
        model=row.model,
        job=Job(row.job),
        window=Window(row.window_start, row.window_end),
        revision=row.revision,
        attempt=row.attempt + 1,
        token=token,
        spec_version=row.spec_version,
        alerts=row.alerts,
    )


def held(claim: Claim, lease_now: datetime) -> ColumnElement[bool]:
    """The fence: true while this claim, and no other, may change the row."""
    return and_(
        run.id == claim.run_id,
        run.state == RunState.LEASED,
        run.lease_token == claim.token,
        run.lease_expires > lease_now,
    )


def renew(connection: Connection, claim: Claim, *, lease: timedelta, lease_now: datetime) -> bool:
    changed = connection.execute(
        update(window_run).where(held(claim, lease_now)).values(lease_expires=lease_now + lease)
    )
    return bool(changed.rowcount)


def release(
    connection: Connection, claim: Claim, *, reason: str | None, not_before: datetime, lease_now: datetime
) -> bool:
    """Give a window back unharmed: what was cut short by a shutdown does not count as an attempt."""
    changed = connection.execute(
        update(window_run)
        .where(held(claim, lease_now))
        .values(**_unleased(RunState.PENDING), attempt=run.attempt - 1, reason=reason, not_before=not_before)
    )
    return bool(changed.rowcount)


def fail(
    connection: Connection,
    claim: Claim,
    *,
    reason: str,
    retry_at: datetime | None,
    now: datetime,
    lease_now: datetime,
    counted: bool = True,
    detail: dict[str, Any] | None = None,
) -> bool:
    """Note a failure: tried again at ``retry_at``, or an error for good."""
    values = _unleased(RunState.ERROR if retry_at is None else RunState.PENDING) | {"reason": reason}
    values |= {"finished_at": now} if retry_at is None else {"not_before": retry_at}
    values |= {} if counted else {"attempt": run.attempt - 1}
    values |= {} if detail is None else {"detail": detail}
    return bool(connection.execute(update(window_run).where(held(claim, lease_now)).values(values)).rowcount)


def _unleased(state: RunState) -> dict[str, Any]:
    return {"state": state, "lease_owner": None, "lease_token": None, "lease_expires": None}


def was_committed(connection: Connection, claim: Claim) -> bool:
    """Whether this very claim has committed before: its acknowledgement may have been lost on the way."""
    row = connection.execute(select(run.state, run.lease_token).where(run.id == claim.run_id)).first()
    return row is not None and row.lease_token == claim.token and RunState(row.state).finished


def reap(
    connection: Connection,
    *,
    max_attempts: int,
    now: datetime,
    lease_now: datetime,
    announce: Callable[[Connection, WindowRow], None] | None,
) -> int:
    """Take windows from workers that are gone: back in the queue, or ``error(worker_died)`` after too many tries."""
    expired = connection.execute(
        _locked(connection, select(window_run).where(run.state == RunState.LEASED, run.lease_expires <= lease_now))
    ).all()
    for row in expired:
        died = row.attempt >= max_attempts
        values = _unleased(RunState.ERROR if died else RunState.PENDING)
        values |= {"reason": "worker_died", "not_before": now} | ({"finished_at": now} if died else {})
        connection.execute(update(window_run).where(run.id == row.id).values(values))
        if died and announce is not None:
            found = connection.execute(select(window_run).where(run.id == row.id)).one()
            announce(connection, to_window_row(found))
    return len(expired)


def _locked(connection: Connection, query: Select[Any]) -> Select[Any]:
    return query.with_for_update(skip_locked=True) if connection.dialect.name == "postgresql" else query


def reopen(connection: Connection, model: str, job: Job, window: Window, *, reason: str, now: datetime) -> int:
    """Have a window computed again as the next revision; one that still waits is left alone.

    Returns
    -------
    int
        The revision that will be computed.

    Raises
    ------
    LookupError
        If the window was never planned.
    """
    _alone(connection, model, job, wait=True)
    row = connection.execute(select(window_run).where(_is(model, job, window), run.newest)).first()
    if row is None:
        raise LookupError(f"{model} has no {job} window {window.start.isoformat()} – {window.end.isoformat()}")
    if row.state == RunState.PENDING:
        return int(row.revision)
    common = {
        "model": model,
        "job": job,
        "spec_version": row.spec_version,
        "alerts": row.alerts,
        "state": RunState.PENDING,
        "reason": reason,
    }
    _insert(connection, [{"window": window, "revision": row.revision + 1}], common, now=now)
    return int(row.revision) + 1


def note(connection: Connection, model: str, job: Job, details: Mapping[Window, Mapping[str, Any]]) -> None:
    """Keep these details with the newest revisions of windows, as far as they are finished."""
    for window, detail in details.items():
        mine = and_(_is(model, job, window), run.newest, run.state.not_in(_UNFINISHED))
        connection.execute(update(window_run).where(mine).values(detail=dict(detail)))


def finished(connection: Connection, model: str, job: Job) -> int:
    """Revisions of windows that have been finished; none is ever deleted, so the number only grows."""
    query = select(func.count()).where(run.model == model, run.job == job, run.state.not_in(_UNFINISHED))
    return int(connection.execute(query).scalar_one())


def restate(
    connection: Connection,
    row: WindowRow,
    outcome: Outcome,
    *,
    spec_version: str,
    alerts: bool,
    finished_before: int | None,
    now: datetime,
    lease_now: datetime,
) -> Claim | None:
    """Write the next revision of a finished window as finished; ``None`` if it is no longer as it was in ``row``.

    With ``finished_before`` nobody may have finished a window of this model and job since, or be at work on one:
    incidents are counted in windows, in order.
    """
    _alone(connection, row.model, row.job, wait=True)
    newest = connection.execute(select(window_run).where(_is(row.model, row.job, row.window), run.newest)).first()
    if newest is None or (newest.revision, newest.state) != (row.revision, row.state):
        return None
    if finished_before is not None:
        mine = and_(run.model == row.model, run.job == row.job)
        busy = exists().where(mine, run.state == RunState.LEASED, run.lease_expires > lease_now)
        at_work = connection.execute(select(busy)).scalar_one()
        if at_work or finished(connection, row.model, row.job) != finished_before:
            return None
    common = {
        "model": row.model,
        "job": row.job,
        "spec_version": spec_version,
        "alerts": alerts,
        "state": outcome.state,
        "reason": outcome.reason,
    }
    _insert(connection, [{"window": row.window, "revision": row.revision + 1}], common, now=now)
    fresh = and_(_is(row.model, row.job, row.window), run.newest)
    connection.execute(
        update(window_run)
        .where(fresh)
        .values(n_rows=int(outcome.n_rows), fingerprint=outcome.fingerprint, detail=outcome.detail)
    )
    return _claim_of(connection.execute(select(window_run).where(fresh)).one(), "")


def windows(
    connection: Connection,
    *,
    model: str | None,
    job: Job | None,
    start: datetime | None,
    end: datetime | None,
    states: Iterable[RunState] | None,
) -> list[WindowRow]:
    """The newest revision of each window that overlaps ``[start, end)``, oldest first."""
    query = select(window_run).where(run.newest).order_by(run.window_start, run.model, run.job)
    if model is not None:
        query = query.where(run.model == model)
    if job is not None:
        query = query.where(run.job == job)
    if start is not None:
        query = query.where(run.window_end > start)
    if end is not None:
        query = query.where(run.window_start < end)
    if states is not None:
        query = query.where(run.state.in_(list(states)))
    return [to_window_row(row) for row in connection.execute(query)]


def gaps(connection: Connection, model: str, job: Job) -> list[Window]:
    """Spans between the first and the last known window, from the monitor's start on, that no window covers."""
    query = select(run.window_start, run.window_end).where(run.model == model, run.job == job, run.newest)
    began = connection.execute(select(model_start.c.start).where(model_start.c.model == model)).scalar()
    if began is not None:
        query = query.where(run.window_start >= began)
    covered = _merged((row[0], row[1]) for row in connection.execute(query.order_by(run.window_start)))
    return [Window(before[1], after[0]) for before, after in pairwise(covered)]


def pairs(connection: Connection) -> list[tuple[str, Job]]:
    query = select(run.model, run.job).group_by(run.model, run.job).order_by(run.model, run.job)
    return [(row.model, Job(row.job)) for row in connection.execute(query)]


def problems(connection: Connection, *, lease_now: datetime) -> list[str]:
    """Broken promises, in words; an empty list is the proof that none is."""
    found = []
    for model, job in pairs(connection):
        holes = gaps(connection, model, job)
        if holes:
            first = f"{holes[0].start:%Y-%m-%d %H:%M} – {holes[0].end:%Y-%m-%d %H:%M} UTC"
            found.append(f"{model}, {job}: {len(holes)} gap(s) between windows, the first {first}")
    busy = connection.execute(
        select(run.model, run.job, func.count())
        .where(run.state == RunState.LEASED, run.lease_expires > lease_now)
        .group_by(run.model, run.job)
        .having(func.count() > 1)
    )
    found += [f"{row[0]}, {row[1]}: {row[2]} windows are being worked on at the same time" for row in busy]
    stuck = connection.execute(
        select(func.count()).where(run.state == RunState.LEASED, run.lease_expires <= lease_now)
    ).scalar_one()
    if stuck:
        found.append(f"{stuck} window(s) were left by a worker that is gone; the next worker takes them")
    return found


def to_window_row(row: Row[Any]) -> WindowRow:
    return WindowRow(
        model=row.model,
        job=Job(row.job),
        window=Window(row.window_start, row.window_end),
        state=RunState(row.state),
        reason=row.reason,
        revision=row.revision,
        attempt=row.attempt,
        n_rows=row.n_rows,
        fingerprint=row.fingerprint,
        spec_version=row.spec_version,
        alerts=row.alerts,
        not_before=row.not_before,
        lease_owner=row.lease_owner,
        created_at=row.created_at,
        finished_at=row.finished_at,
        detail=row.detail,
    )


def _is(model: str, job: Job, window: Window) -> ColumnElement[bool]:
    return and_(run.model == model, run.job == job, run.window_start == window.start, run.window_end == window.end)


def _merged(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Join touching or overlapping spans; they come sorted by start."""
    merged: list[tuple[datetime, datetime]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _covers(spans: list[tuple[datetime, datetime]], window: Window) -> bool:
    return any(start <= window.start and window.end <= end for start, end in spans)
