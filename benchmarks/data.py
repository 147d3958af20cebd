"""Seeded rows to measure with: 50 numeric and 10 categorical columns, and the time of each row."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SEED = 20_260_101
CHUNK = 100_000
DAY = datetime(2026, 1, 5, tzinfo=UTC)
LEVELS = (5, 10, 20, 30, 50, 75, 100, 200, 500, 1000)
FAMILIES = ("normal", "log-normal", "rounded", "counts", "zero-inflated")
NUMERIC = [f"n{i:02d}" for i in range(50)]
CATEGORICAL = [f"c{i}" for i in range(len(LEVELS))]
COLUMNS = NUMERIC + CATEGORICAL


def chunks(rows: int, *, shift: float = 0.0, seed: int = SEED) -> Iterator[pa.Table]:
    """Rows in chunks that do not depend on how many follow; ``shift`` moves means and shares a little."""
    for number, start in enumerate(range(0, rows, CHUNK)):
        size = min(CHUNK, rows - start)
        rng = np.random.default_rng([seed, number])
        columns = {name: _numeric(rng, at, size, shift) for at, name in enumerate(NUMERIC)}
        columns |= {name: _categorical(rng, LEVELS[at], size, shift) for at, name in enumerate(CATEGORICAL)}
        for at, name in enumerate(COLUMNS):
            if at % 3 == 0:
                gone = rng.random(size) < 0.02
                columns[name] = pa.array(columns[name].to_numpy(zero_copy_only=False), mask=gone)
        yield pa.table({"at": _times(start, size, rows)} | columns)


def _numeric(rng: np.random.Generator, at: int, size: int, shift: float) -> pa.Array:
    family = FAMILIES[at % 5]
    scale = 1.0 + at / 10
    if family == "normal":
        return pa.array(rng.normal(shift, scale, size))
    if family == "log-normal":
        return pa.array(rng.lognormal(shift, 1.0, size) * scale)
    if family == "rounded":
        return pa.array(np.round(rng.normal(10 + shift, scale, size), 2))
    if family == "counts":
        return pa.array(rng.poisson(4 + at + shift, size).astype(np.int64))
    return pa.array(np.where(rng.random(size) < 0.6, 0.0, rng.exponential(scale + shift, size)))


def _categorical(rng: np.random.Generator, levels: int, size: int, shift: float) -> pa.Array:
    weights = 1.0 / np.arange(1, levels + 1) ** (1.0 + shift)
    codes = rng.choice(levels, size=size, p=weights / weights.sum())
    names = np.array([f"level {code:04d}" for code in range(levels)], dtype=object)
    return pa.array(names[codes], pa.string())


def _times(start: int, size: int, rows: int) -> pa.Array:
    step = timedelta(days=1) / timedelta(microseconds=1) / rows
    micros = int(DAY.timestamp() * 1e6) + np.floor((start + np.arange(size)) * step).astype(np.int64)
    return pa.array(micros).cast(pa.timestamp("us", tz="UTC"))


# --- into places -----------------------------------------------------------------------------------


def write_parquet(path: Path, tables: Iterator[pa.Table]) -> None:
    """One file, a row group for each chunk, as pyarrow writes by default."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    for table in tables:
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def write_database(url: str, name: str, tables: Iterator[pa.Table]) -> None:
    """One table, by bulk load; in SQLite times are text, as most programs log them."""
    with _connect(url) as connection, connection.cursor() as cursor:
        mode = "create"
        for table in tables:
            cursor.adbc_ingest(name, _as_text(table) if url.startswith("sqlite") else table, mode=mode)
            mode = "append"
        connection.commit()
    if not url.startswith("sqlite"):
        with _connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(f'VACUUM (FREEZE, ANALYZE) "{name}"')


def _connect(url: str, **options: Any) -> Any:
    if url.startswith("sqlite"):
        from adbc_driver_sqlite import dbapi as sqlite

        return sqlite.connect(url.removeprefix("sqlite:///"), **options)
    from adbc_driver_postgresql import dbapi as postgres

    return postgres.connect(url, **options)


def _as_text(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            texts = table.column(place).cast(pa.timestamp("us")).cast(pa.string())
            table = table.set_column(place, field.name, texts)
    return table
