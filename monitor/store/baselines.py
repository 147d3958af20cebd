"""Baselines: frozen, numbered, never changed; a new one is a new row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, insert, select

from monitor.models import Baseline, Window
from monitor.store.schema import baseline, baseline_column

if TYPE_CHECKING:
    from detectors.profiles import Column


def save(
    connection: Connection,
    model: str,
    *,
    spec_hash: str,
    source: str,
    window: Window | None,
    n_rows: int,
    columns: Mapping[str, Column],
    detail: Mapping[str, Any],
    created_at: datetime,
) -> int:
    """Write a baseline and give its number."""
    from monitor.store import blobs  # noqa: PLC0415 - see there

    row = {
        "model": model,
        "spec_hash": spec_hash,
        "source": source,
        "window_start": None if window is None else window.start,
        "window_end": None if window is None else window.end,
        "n_rows": int(n_rows),
        "detail": detail,
        "created_at": created_at,
    }
    number = int(connection.execute(insert(baseline).returning(baseline.c.id), row).scalar_one())
    rows = [
        {
            "baseline_id": number,
            "position": position,
            "name": name,
            "spec": blobs.spec_to_bytes(column.spec),
            "reference": blobs.encode(column.reference)[1],
        }
        for position, (name, column) in enumerate(columns.items())
    ]
    if rows:
        connection.execute(insert(baseline_column), rows)
    return number


def newest(connection: Connection, model: str) -> Baseline | None:
    query = select(baseline).where(baseline.c.model == model).order_by(baseline.c.id.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else _to_baseline(row, _columns(connection, row.id))


def by_id(connection: Connection, number: int) -> Baseline:
    row = connection.execute(select(baseline).where(baseline.c.id == number)).first()
    if row is None:
        raise LookupError(f"there is no baseline number {number}")
    return _to_baseline(row, _columns(connection, row.id))


def listed(connection: Connection, model: str) -> list[Baseline]:
    """All baselines of a model, newest first, without their columns: those may be megabytes."""
    query = select(baseline).where(baseline.c.model == model).order_by(baseline.c.id.desc())
    return [_to_baseline(row, {}) for row in connection.execute(query)]


def _columns(connection: Connection, number: int) -> dict[str, Column]:
    from monitor.store import blobs  # noqa: PLC0415 - see there

    c = baseline_column.c
    query = select(c.name, c.spec, c.reference).where(c.baseline_id == number).order_by(c.position)
    return {row.name: blobs.column(row.name, row.spec, row.reference) for row in connection.execute(query)}


def _to_baseline(row: Row[Any], columns: dict[str, Column]) -> Baseline:
    return Baseline(
        id=row.id,
        model=row.model,
        spec_hash=row.spec_hash,
        created_at=row.created_at,
        source=row.source,
        window=None if row.window_start is None else Window(row.window_start, row.window_end),
        n_rows=row.n_rows,
        columns=columns,
        detail=row.detail,
    )
