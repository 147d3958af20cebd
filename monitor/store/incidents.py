"""Incidents, the counters they grow from, and people's answers to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, or_, select, update

from monitor.models import Check, Incident, IncidentState, Mute, SeriesState, Verdict
from monitor.store.engine import insert_or
from monitor.store.schema import incident, mute, series
from monitor.store.storable import short_key

_OF_PEOPLE = ("acknowledged_by", "acknowledged_at", "acknowledged_note")


def save_series(connection: Connection, states: Sequence[SeriesState]) -> None:
    if not states:
        return
    rows = [
        {
            "model": each.model,
            "series_key": short_key(each.check, each.feature, each.segment),
            "check_name": each.check,
            "feature": each.feature,
            "segment": each.segment,
            "bad": each.bad,
            "good": each.good,
            "verdict": each.verdict,
            "last_window": each.last_window,
            "since": each.since,
        }
        for each in states
    ]
    new = insert_or(connection, series)
    fresh = {name: new.excluded[name] for name in ("bad", "good", "verdict", "last_window", "since")}
    connection.execute(new.on_conflict_do_update(index_elements=["model", "series_key"], set_=fresh), rows)


def load_series(connection: Connection, model: str) -> dict[tuple[Check, str | None, str | None], SeriesState]:
    found = {}
    for row in connection.execute(select(series).where(series.c.model == model)):
        check = Check(row.check_name)
        found[check, row.feature, row.segment] = SeriesState(
            model=row.model,
            check=check,
            feature=row.feature,
            segment=row.segment,
            bad=row.bad,
            good=row.good,
            verdict=Verdict(row.verdict),
            last_window=row.last_window,
            since=row.since,
        )
    return found


def save_incidents(connection: Connection, incidents: Iterable[Incident], *, now: datetime) -> None:
    """Insert or update by id; an acknowledgement is a person's, and no run of a window takes it back."""
    rows = [_incident_row(each, now=now) for each in incidents]
    if not rows:
        return
    new = insert_or(connection, incident)
    fresh = {name: new.excluded[name] for name in rows[0] if name not in ("id", *_OF_PEOPLE)}
    connection.execute(new.on_conflict_do_update(index_elements=["id"], set_=fresh), rows)


def drop_incidents(connection: Connection, ids: Sequence[str]) -> None:
    """Delete incidents that have become a part of another one; nobody was told of them."""
    if ids:
        connection.execute(delete(incident).where(incident.c.id.in_(list(ids))))


def _incident_row(each: Incident, *, now: datetime) -> dict[str, Any]:
    return {
        "id": each.id,
        "model": each.model,
        "check_name": each.check,
        "state": each.state,
        "severity": each.severity,
        "opened_window": each.opened_window,
        "last_window": each.last_window,
        "resolved_window": each.resolved_window,
        "features": each.features,
        "cause": each.cause,
        "cause_confidence": each.cause_confidence,
        "onset": each.onset,
        "summary": each.summary,
        "acknowledged_by": each.acknowledged_by,
        "acknowledged_at": each.acknowledged_at,
        "acknowledged_note": each.acknowledged_note,
        "detail": each.detail,
        "updated_at": now,
    }


def load_incidents(
    connection: Connection, *, model: str | None, states: Iterable[IncidentState] | None
) -> list[Incident]:
    """Newest first: by the window they were opened in, then by the last they were seen in."""
    c = incident.c
    query = select(incident).order_by(c.opened_window.desc(), c.last_window.desc(), c.id)
    if model is not None:
        query = query.where(c.model == model)
    if states is not None:
        query = query.where(c.state.in_(list(states)))
    return [_to_incident(row) for row in connection.execute(query)]


def find_incident(connection: Connection, id_or_prefix: str) -> Incident | None:
    """The incident of this id, or the only one whose id begins so (with or without ``inc_``).

    Raises
    ------
    LookupError
        If several begin so; the message names them.
    """
    exact = connection.execute(select(incident).where(incident.c.id == id_or_prefix)).first()
    if exact is not None:
        return _to_incident(exact)
    if not id_or_prefix:
        return None
    begins = [incident.c.id.startswith(text, autoescape=True) for text in (id_or_prefix, f"inc_{id_or_prefix}")]
    rows = connection.execute(select(incident).where(or_(*begins)).order_by(incident.c.id).limit(6)).all()
    if len(rows) > 1:
        raise LookupError(f"{id_or_prefix!r} begins several incidents: {', '.join(row.id for row in rows)}")
    return _to_incident(rows[0]) if rows else None


def acknowledge(connection: Connection, incident_id: str, *, who: str, note: str | None, at: datetime) -> None:
    connection.execute(
        update(incident)
        .where(incident.c.id == incident_id)
        .values(acknowledged_by=who, acknowledged_at=at, acknowledged_note=note)
    )


def _to_incident(row: Row[Any]) -> Incident:
    return Incident(
        id=row.id,
        model=row.model,
        check=Check(row.check_name),
        state=IncidentState(row.state),
        severity=Verdict(row.severity),
        opened_window=row.opened_window,
        last_window=row.last_window,
        resolved_window=row.resolved_window,
        features=row.features,
        cause=row.cause,
        cause_confidence=row.cause_confidence,
        onset=row.onset,
        summary=row.summary,
        acknowledged_by=row.acknowledged_by,
        acknowledged_at=row.acknowledged_at,
        acknowledged_note=row.acknowledged_note,
        detail=row.detail,
    )


def save_mute(connection: Connection, wish: Mute) -> None:
    new = insert_or(connection, mute).values(
        model=wish.model,
        feature_key=short_key(wish.feature),
        feature=wish.feature,
        until=wish.until,
        who=wish.who,
        reason=wish.reason,
        created_at=wish.created_at,
    )
    fresh = {name: new.excluded[name] for name in ("until", "who", "reason", "created_at")}
    connection.execute(new.on_conflict_do_update(index_elements=["model", "feature_key"], set_=fresh))


def drop_mute(connection: Connection, model: str, feature: str | None) -> bool:
    gone = connection.execute(delete(mute).where(mute.c.model == model, mute.c.feature_key == short_key(feature)))
    return bool(gone.rowcount)


def load_mutes(connection: Connection, *, at: datetime) -> list[Mute]:
    """Mutes in force at a time."""
    query = (
        select(mute).where(or_(mute.c.until.is_(None), mute.c.until > at)).order_by(mute.c.model, mute.c.feature_key)
    )
    return [
        Mute(
            model=row.model,
            feature=row.feature,
            until=row.until,
            who=row.who,
            reason=row.reason,
            created_at=row.created_at,
        )
        for row in connection.execute(query)
    ]
