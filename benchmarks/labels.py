"""One window's labels, counted from a table of their own, beside reading the same columns and dropping them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import CHUNK, SEED, write_database, write_parquet
from monitor import label_counting
from monitor import labels as late
from monitor.config import ModelConfig, SourceConfig
from monitor.models import Window
from monitor.sources import open_source

Run = Callable[[], dict[str, Any]]
DAY = datetime(2026, 1, 5, tzinfo=UTC)
NOW = DAY + timedelta(days=31)
LANDED = 0.8
TURNS = 3
COLUMNS = {"predictions": ("id", "at", "score"), "labels": ("id", "label", "landed")}
MODEL = {
    "table": "predictions",
    "time": "at",
    "key": "id",
    "score": "score",
    "threshold": 0.5,
    "labels": {"table": "labels", "key": "id", "label": "label", "time": "landed", "delay": "60d"},
}


def labels(folder: Path, *, rows: int = 1_000_000, postgres: str = "") -> Run:
    """Times of counting a window's labels and of the bare read, in turns, from each storage."""
    home = folder / "labels"
    # In a process of its own, so that writing does not count as memory of counting.
    writing = get_context("spawn").Process(target=write, args=(home, rows, postgres))
    writing.start()
    writing.join()
    model = ModelConfig.model_validate(MODEL)
    window = Window(DAY, DAY + timedelta(days=1))
    grid = label_counting.grid_of(model, None, window)
    places: dict[str, tuple[dict[str, str], Callable[[], int]]] = {
        "parquet": ({"path": str(home)}, partial(_decoded, home)),
        "sqlite": ({"url": _url(home)}, partial(_fetched, home)),
    }
    if postgres:
        places["postgresql"] = ({"url": postgres}, partial(_streamed, postgres))

    def count(config: dict[str, Any]) -> int:
        source = open_source("labels", SourceConfig.model_validate(config), zone="UTC")
        roles = source.roles(model)
        counted = late.count_window(source, model, roles, window, baseline=None, now=NOW, grid=grid)
        source.close()
        scores = counted.scores[None]
        if scores.n != rows:
            raise RuntimeError(f"{rows:,} predictions were written, and {scores.n:,} counted")
        return scores.n_labelled

    def run() -> dict[str, Any]:
        told: dict[str, Any] = {"rows": rows}
        for name, (config, bare) in places.items():
            spent: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
            for _ in range(TURNS):
                spent["bare"].append(_timed(bare))
                spent["ours"].append(_timed(partial(count, config)))
            best = {what: min(times)[0] for what, times in spent.items()}
            cpu = {what: min(each[1] for each in times) for what, times in spent.items()}
            told[name] = best | {"ratio": best["ours"] / best["bare"], "cpu_ratio": cpu["ours"] / cpu["bare"]}
            told[f"{name}_ratio"] = told[name]["ratio"]
        told["n_labelled"] = count(places["parquet"][0])
        return told

    return run


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of processor time in this process."""
    start, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - spent


def _url(home: Path) -> str:
    return f"sqlite:///{home / 'log.db'}"


def _decoded(home: Path) -> int:
    """Decode the columns of both files, and drop them."""
    return sum(
        batch.num_rows
        for table, columns in COLUMNS.items()
        for batch in pq.ParquetFile(home / f"{table}.parquet").iter_batches(65_536, columns=list(columns))
    )


def _fetched(home: Path) -> int:
    """Fetch the columns of both tables as ADBC batches, and drop them."""
    from adbc_driver_sqlite import dbapi

    n = 0
    for table, columns in COLUMNS.items():
        with dbapi.connect(f"file:{home / 'log.db'}?mode=ro") as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": "65536"})
            cursor.execute(f"SELECT {', '.join(columns)} FROM {table}")
            n += sum(batch.num_rows for batch in cursor.fetch_record_batch())
    return n


def _streamed(url: str) -> int:
    """Fetch the columns of both tables from PostgreSQL as ADBC batches, and drop them."""
    from adbc_driver_postgresql import dbapi

    n = 0
    for table, columns in COLUMNS.items():
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(columns)} FROM {table}")
            n += sum(batch.num_rows for batch in cursor.fetch_record_batch())
    return n


# --- data ------------------------------------------------------------------------------------------


def write(home: Path, rows: int, postgres: str = "") -> None:
    """Predictions of one day, every score another one, and the labels that have landed: to each storage."""
    for table, made in (("predictions", predictions), ("labels", landed)):
        write_parquet(home / f"{table}.parquet", made(rows))
    (home / "log.db").unlink(missing_ok=True)
    for url in (_url(home), postgres):
        for table, made in (("predictions", predictions), ("labels", landed)) if url else ():
            write_database(url, table, made(rows))


def predictions(rows: int) -> Iterator[pa.Table]:
    for _, ids, at, score in _parts(rows):
        yield pa.table({"id": ids, "at": _times(at), "score": score})


def landed(rows: int) -> Iterator[pa.Table]:
    """Of ``LANDED`` of the predictions, positives first; in no order."""
    for rng, ids, at, score in _parts(rows):
        label = rng.random(len(ids)) < score
        delay = rng.exponential(np.where(label, 2e11, 8e11)).astype(np.int64) + 1
        here = rng.permutation(np.flatnonzero(rng.random(len(ids)) < LANDED))
        known = np.minimum(at + delay, int(NOW.timestamp() * 1e6) - 1)
        yield pa.table({"id": ids[here], "label": label[here].astype(np.int64), "landed": _times(known[here])})


Part = tuple[np.random.Generator, np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def _parts(rows: int) -> Iterator[Part]:
    step = timedelta(days=1) / timedelta(microseconds=1) / rows
    for number, start in enumerate(range(0, rows, CHUNK)):
        size = min(CHUNK, rows - start)
        rng = np.random.default_rng([SEED, number])
        ids = start + np.arange(size)
        yield rng, ids, int(DAY.timestamp() * 1e6) + np.floor(ids * step).astype(np.int64), rng.beta(1, 3, size)


def _times(micros: np.ndarray[Any, Any]) -> pa.Array:
    return pa.array(micros).cast(pa.timestamp("us", tz="UTC"))
