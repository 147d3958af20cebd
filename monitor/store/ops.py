"""Signs of life, and keeping the store at its size."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, or_, select, tuple_, update

from monitor.models import Check, IncidentState, Tick
from monitor.store.engine import Database, insert_or
from monitor.store.schema import incident, outbox, profile, result, tick

CHUNK = 2000
"""Rows per transaction: a worker that wants to commit waits for one chunk, not for years of rows."""


def save_tick(connection: Connection, worker: str, *, detail: Mapping[str, Any], now: datetime) -> None:
    new = insert_or(connection, tick).values(worker=worker, at=now, detail=detail)
    fresh = {"at": new.excluded.at, "detail": new.excluded.detail}
    connection.execute(new.on_conflict_do_update(index_elements=["worker"], set_=fresh))


def load_ticks(connection: Connection) -> list[Tick]:
    query = select(tick).order_by(tick.c.at.desc(), tick.c.worker)
    return [Tick(worker=row.worker, at=row.at, detail=row.detail) for row in connection.execute(query)]


def prune_results(database: Database, before: datetime) -> int:
    c = result.c
    old = select(c.id).where(c.window_end <= before, ~_evidence(c.model, c.window_end)).order_by(c.id).limit(CHUNK)
    return _in_chunks(database, lambda connection: _delete(connection, result, c.id, old))


def prune_profiles(database: Database, before: datetime) -> int:
    c = profile.c
    key = tuple_(c.model, c.window_start, c.window_end, c.segment_key, c.column_key)
    old = (
        select(c.model, c.window_start, c.window_end, c.segment_key, c.column_key)
        .where(c.window_end <= before, ~_evidence(c.model, c.window_end))
        .limit(CHUNK)
    )

    def once(connection: Connection) -> int:
        rows = [tuple(row) for row in connection.execute(old)]
        return connection.execute(delete(profile).where(key.in_(rows))).rowcount if rows else 0

    return _in_chunks(database, once)


def prune_outbox(database: Database, before: datetime) -> int:
    """Sent and dead messages; what is still on its way stays."""
    c = outbox.c
    old = select(c.id).where(c.state.in_(("sent", "dead")), c.created_at <= before).order_by(c.id).limit(CHUNK)
    return _in_chunks(database, lambda connection: _delete(connection, outbox, c.id, old))


def prune_ticks(database: Database, before: datetime) -> int:
    """Workers that have not been heard of since."""
    with database.write() as connection:
        return connection.execute(delete(tick).where(tick.c.at <= before)).rowcount


def prune_samples(database: Database, before: datetime) -> int:
    """Take the raw example values out of old skew results; the numbers stay."""
    c = result.c
    last = 0

    def once(connection: Connection) -> int:
        nonlocal last
        query = (
            select(c.id, c.detail)
            .where(c.id > last, c.check_name == Check.SKEW, c.window_end <= before)
            .order_by(c.id)
            .limit(CHUNK)
        )
        rows = connection.execute(query).all()
        changed = 0
        for row in rows:
            last = row.id
            if "examples" in row.detail:
                rest = {key: value for key, value in row.detail.items() if key != "examples"}
                connection.execute(update(result).where(c.id == row.id).values(detail=rest))
                changed += 1
        # -1: rows were looked at, none had examples; go on
        return changed or (-1 if rows else 0)

    return _in_chunks(database, once)


def _in_chunks(database: Database, once: Any) -> int:
    total = 0
    while True:
        with database.write() as connection:
            done = once(connection)
        if done == 0:
            return total
        total += max(done, 0)


def _delete(connection: Connection, table: Any, key: Any, old: Any) -> int:
    ids = list(connection.execute(old).scalars())
    return connection.execute(delete(table).where(key.in_(ids))).rowcount if ids else 0


def _evidence(model: Any, window_end: Any) -> ColumnElement[bool]:
    """What an open incident was opened on, and all that came after: a person is still to look at it."""
    i = incident.c
    since = or_(i.onset.is_(None), i.onset > i.opened_window)
    return exists().where(
        i.model == model,
        i.state == IncidentState.OPEN,
        or_(and_(since, window_end >= i.opened_window), and_(~since, window_end >= i.onset)),
    )
