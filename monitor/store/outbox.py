"""Messages on their way: written with the result they tell of, sent by another loop.

``pending`` → ``sending`` → ``sent`` or ``dead``.  A message found in ``sending`` after its hold was being posted by a
worker that is gone: it is sent again, labelled as a possible repeat.

``held`` is news of windows computed too late for a message of their own: one message takes the place of all that are
held for a model, once its backlog is worked off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, or_, select, update

from monitor.models import Finding, Message, OutboxItem, Transition, Verdict, Window
from monitor.store.engine import insert_or
from monitor.store.schema import outbox
from monitor.store.storable import parse_time, short_key

_ON_THE_WAY = ("pending", "sending")
c = outbox.c


def enqueue(
    connection: Connection, messages: Iterable[tuple[str, str, Message]], *, now: datetime, state: str = "pending"
) -> int:
    """Queue ``(destination, dedup_key, message)``; one that was queued before, ever, is not queued again."""
    rows = [
        {
            "destination": destination,
            "dedup_key": short_key(dedup_key),
            "thread_key": short_key(message.thread_key),
            "state": state,
            "attempts": 0,
            "not_before": now,
            "created_at": now,
            "message": message,
        }
        for destination, dedup_key, message in messages
    ]
    new = insert_or(connection, outbox).on_conflict_do_nothing(index_elements=["destination", "dedup_key"])
    # one by one: not every driver counts the rows of a batch that were left out
    return sum(connection.execute(new.returning(c.id), row).first() is not None for row in rows)


def held_models(connection: Connection) -> set[str]:
    """The models of which something is held."""
    return {
        message_of(plain).model for plain in connection.execute(select(c.message).where(c.state == "held")).scalars()
    }


def release_held(
    connection: Connection, model: str, together: Callable[[Sequence[Message]], Message], *, now: datetime
) -> int:
    """Queue one message for each destination in place of those that are held for a model; how many went into it."""
    query = select(outbox).where(c.state == "held").order_by(c.id)
    if connection.dialect.name == "postgresql":
        query = query.with_for_update(skip_locked=True)
    waiting: dict[str, dict[int, Message]] = {}
    for row in connection.execute(query):
        message = message_of(row.message)
        if message.model == model:
            waiting.setdefault(row.destination, {})[row.id] = message
    for destination, kept in waiting.items():
        key = f"caught-up|{model}|{min(kept)}-{max(kept)}"
        enqueue(connection, [(destination, key, together(list(kept.values())))], now=now)
        connection.execute(update(outbox).where(c.id.in_(list(kept))).values(state="sent", finished_at=now))
    return sum(len(kept) for kept in waiting.values())


def due(connection: Connection, destination: str, *, limit: int, now: datetime) -> list[OutboxItem]:
    """What to send now, oldest first; a message waits for the earlier ones of its thread."""
    earlier = outbox.alias("earlier")
    held_up = exists().where(
        earlier.c.destination == c.destination,
        earlier.c.thread_key == c.thread_key,
        earlier.c.thread_key != "",
        earlier.c.id < c.id,
        earlier.c.state.in_(_ON_THE_WAY),
        earlier.c.not_before > now,
    )
    query = (
        select(outbox)
        .where(c.destination == destination, c.state.in_(_ON_THE_WAY), c.not_before <= now, ~held_up)
        .order_by(c.id)
        .limit(limit)
    )
    return [_to_item(connection, row) for row in connection.execute(query).all()]


def mark_sending(connection: Connection, item_id: int, *, hold: timedelta, now: datetime) -> bool:
    """Take a message for posting; ``False`` if another worker has it, or it is done."""
    changed = connection.execute(
        update(outbox)
        .where(c.id == item_id, c.state.in_(_ON_THE_WAY), c.not_before <= now)
        .values(state="sending", attempts=c.attempts + 1, not_before=now + hold)
    )
    return bool(changed.rowcount)


def mark_sent(connection: Connection, item_id: int, *, remote_ref: str | None, now: datetime) -> None:
    connection.execute(
        update(outbox).where(c.id == item_id).values(state="sent", remote_ref=remote_ref, error=None, finished_at=now)
    )


def mark_retry(connection: Connection, item_id: int, *, not_before: datetime, error: str) -> None:
    connection.execute(update(outbox).where(_open(item_id)).values(state="pending", not_before=not_before, error=error))


def mark_dead(connection: Connection, item_id: int, *, error: str, now: datetime) -> None:
    connection.execute(update(outbox).where(_open(item_id)).values(state="dead", error=error, finished_at=now))


def _open(item_id: int) -> ColumnElement[bool]:
    # what was sent stays sent, whatever a slower worker believes
    return and_(c.id == item_id, c.state.in_(_ON_THE_WAY))


def counts(connection: Connection) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    query = select(c.destination, c.state, func.count()).group_by(c.destination, c.state).order_by(c.destination)
    for destination, state, number in connection.execute(query):
        found.setdefault(destination, dict.fromkeys(("pending", "sending", "sent", "dead"), 0))[state] = number
    return found


def thread_ref(connection: Connection, destination: str, thread_key: str) -> str | None:
    """What the channel calls the first message that was sent of this thread."""
    if not thread_key:
        return None
    return connection.execute(
        select(c.remote_ref)
        .where(
            c.destination == destination,
            c.thread_key == short_key(thread_key),
            c.state == "sent",
            c.remote_ref.is_not(None),
        )
        .order_by(c.id)
        .limit(1)
    ).scalar()


def problems(connection: Connection, *, now: datetime) -> list[str]:
    found = [
        f"{states['dead']} message(s) for {destination} could not be delivered"
        for destination, states in counts(connection).items()
        if states["dead"]
    ]
    late = connection.execute(
        select(func.count()).where(
            or_(c.state == "pending", c.state == "sending"), c.created_at < now - timedelta(hours=1)
        )
    ).scalar_one()
    if late:
        found.append(f"{late} message(s) have been waiting for more than an hour")
    return found


def _to_item(connection: Connection, row: Row[Any]) -> OutboxItem:
    message = message_of(row.message, possible_repeat=row.state == "sending")
    ref = thread_ref(connection, row.destination, row.thread_key)
    return OutboxItem(
        id=row.id,
        destination=row.destination,
        message=message,
        attempts=row.attempts,
        created_at=row.created_at,
        dedup_key=row.dedup_key,
        thread_ref=ref,
        update_ref=ref if message.transition is Transition.RESOLVED else None,
    )


def message_of(plain: dict[str, Any], *, possible_repeat: bool = False) -> Message:
    """The message that was kept as plain JSON."""
    window = plain["window"]
    return Message(
        **{
            **plain,
            "severity": Verdict(plain["severity"]),
            "transition": Transition(plain["transition"]),
            "window": None if window is None else Window(parse_time(window["start"]), parse_time(window["end"])),
            "findings": [Finding(each["name"], Verdict(each["verdict"]), each["text"]) for each in plain["findings"]],
            "possible_repeat": plain["possible_repeat"] or possible_repeat,
        }
    )
