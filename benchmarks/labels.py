"""One window's labels, counted from a table of their own, beside reading the same columns and dropping them.

With keys that are whole numbers and with texts of 36 letters; and what it costs to see that no label has landed since,
or a hundred.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import CHUNK, SEED, write_database, write_parquet
from benchmarks.table import KEYS
from monitor import label_counting
from monitor import labels as late
from monitor.config import ModelConfig, SourceConfig
from monitor.models import Job, Window
from monitor.sources import open_source

Run = Callable[[], dict[str, Any]]
DAY = datetime(2026, 1, 5, tzinfo=UTC)
NOW = DAY + timedelta(days=31)
LANDED = 0.8
TURNS = 3
LANDED_SINCE = 100
COLUMNS = {"predictions": ("id", "at", "score"), "labels": ("id", "label", "landed")}
MODEL = {
    "time": "at",
    "key": "id",
    "score": "score",
    "threshold": 0.5,
    "labels": {"key": "id", "label": "label", "time": "landed", "delay": "60d"},
}


def model_of(ending: str) -> ModelConfig:
    tables = {"table": f"predictions{ending}", "labels": MODEL["labels"] | {"table": f"labels{ending}"}}  # type: ignore[operator]
    return ModelConfig.model_validate(MODEL | tables)


def labels(folder: Path, *, rows: int = 1_000_000, postgres: str = "") -> Run:
    """Times of counting a window's labels, of looking at it again, and of the bare read: in turns, of each storage."""
    home = folder / "labels"
    # In a process of its own, so that writing does not count as memory of counting.
    writing = get_context("spawn").Process(target=write, args=(home, rows, postgres))
    writing.start()
    writing.join()
    places: dict[str, tuple[dict[str, str], Callable[[str], int]]] = {
        "parquet": ({"path": str(home)}, partial(_decoded, home)),
        "sqlite": ({"url": _url(home)}, partial(_fetched, home)),
    }
    if postgres:
        places["postgresql"] = ({"url": postgres}, partial(_streamed, postgres))

    def run() -> dict[str, Any]:
        told: dict[str, Any] = {"rows": rows}
        for name, (config, bare) in places.items():
            for ending in KEYS:
                asked: dict[str, Callable[[], object]] = {
                    "bare": partial(bare, ending),
                    "ours": _count(config, ending, rows=rows),
                    "unchanged": _look(config, ending, landed=0),
                    "landed": _look(config, ending, landed=LANDED_SINCE),
                }
                spent: dict[str, list[tuple[float, float]]] = {what: [] for what in asked}
                for _ in range(TURNS):
                    for what, work in asked.items():
                        spent[what].append(_timed(work))
                best = {what: min(each[0] for each in times) for what, times in spent.items()}
                cpu = {what: min(each[1] for each in times) for what, times in spent.items()}
                told[f"{name}{ending}"] = best | {"cpu": cpu}
                for what in ("ours", "unchanged", "landed"):
                    told[f"{name}{ending}_{what}_ratio"] = best[what] / best["bare"]
                told[f"{name}{ending}_ours_cpu_ratio"] = cpu["ours"] / cpu["bare"]
        told["n_labelled"] = _count(places["parquet"][0], "", rows=rows)()
        return told

    return run


def label_memory(folder: Path, *, sizes: Sequence[int] = (1_000_000, 4_000_000)) -> Run:
    """Peak memory of counting windows of different sizes from Parquet, each in a process of its own."""

    def run() -> dict[str, Any]:
        told: dict[str, Any] = {}
        context = get_context("spawn")
        for rows in sizes:
            home = folder / f"labels_{rows}"
            writing = context.Process(target=write, args=(home, rows), kwargs={"files_only": True})
            writing.start()
            writing.join()
            with context.Pool(1) as pool:
                told[f"peak_{rows}"] = pool.apply(_peak_of, ({"path": str(home)}, rows))
        told["growth"] = told[f"peak_{sizes[-1]}"] / told[f"peak_{sizes[0]}"]
        return told

    return run


def _peak_of(config: dict[str, Any], rows: int) -> float:
    from benchmarks.jobs import peak_mb

    _count(config, "", rows=rows)()
    return peak_mb()


def _window() -> Window:
    return Window(DAY, DAY + timedelta(days=1))


def _count(config: dict[str, Any], ending: str, *, rows: int) -> Callable[[], int]:
    """Count the window's labels, of a source that is open and whose columns are known; gives how many there are."""
    model, window = model_of(ending), _window()
    source = open_source("labels", SourceConfig.model_validate(config), zone="UTC")
    roles, grid = source.roles(model), label_counting.grid_of(model, None, window)

    def count() -> int:
        counted = late.count_window(source, model, roles, window, baseline=None, now=NOW, grid=grid)
        scores = counted.scores[None]
        if scores.n != rows:
            raise RuntimeError(f"{rows:,} predictions were written, and {scores.n:,} counted")
        return scores.n_labelled

    return count


def _look(config: dict[str, Any], ending: str, *, landed: int) -> Callable[[], None]:
    """What is asked of a window that was looked at before: by its marks, and whose labels landed since, if any."""
    model, window = model_of(ending), _window()
    source = open_source("labels", SourceConfig.model_validate(config), zone="UTC")
    roles = source.roles(model)
    now = NOW + timedelta(days=1) if landed else NOW

    def look() -> None:
        source.fingerprints(model, roles, [window], job=Job.LABELS, now=now)
        source.label_table(model, now=now)
        if not landed:
            return
        source.label_table(model, now=NOW)
        if source.which_landed(model, roles, [window], since=NOW, now=now) != {window}:
            raise RuntimeError(f"{landed} labels landed, and were not found")

    return look


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of processor time in this process."""
    start, spent = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - spent


def _url(home: Path) -> str:
    return f"sqlite:///{home / 'log.db'}"


def _decoded(home: Path, ending: str) -> int:
    """Decode the columns of both files, and drop them."""
    return sum(
        batch.num_rows
        for table, columns in COLUMNS.items()
        for batch in pq.ParquetFile(home / f"{table}{ending}.parquet").iter_batches(65_536, columns=list(columns))
    )


def _fetched(home: Path, ending: str) -> int:
    """Fetch the columns of both tables as ADBC batches, and drop them."""
    from adbc_driver_sqlite import dbapi

    n = 0
    for table, columns in COLUMNS.items():
        with dbapi.connect(f"file:{home / 'log.db'}?mode=ro") as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": "65536"})
            cursor.execute(f"SELECT {', '.join(columns)} FROM {table}{ending}")
            n += sum(batch.num_rows for batch in cursor.fetch_record_batch())
    return n


def _streamed(url: str, ending: str) -> int:
    """Fetch the columns of both tables from PostgreSQL as ADBC batches, and drop them."""
    from adbc_driver_postgresql import dbapi

    n = 0
    for table, columns in COLUMNS.items():
        with dbapi.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(columns)} FROM {table}{ending}")
            n += sum(batch.num_rows for batch in cursor.fetch_record_batch())
    return n


# --- data ------------------------------------------------------------------------------------------


def write(home: Path, rows: int, postgres: str = "", *, files_only: bool = False) -> None:
    """Predictions of one day, every score another one, and the labels that have landed: to each storage."""
    made: dict[str, Callable[[], Iterator[pa.Table]]] = {
        "predictions": partial(predictions, rows),
        "labels": partial(landed, rows),
    }
    made |= {} if files_only else {f"{name}_text": partial(_with_texts, tables) for name, tables in made.items()}
    (home / "log.db").unlink(missing_ok=True)
    for table, tables in made.items():
        write_parquet(home / f"{table}.parquet", tables())
        for url in () if files_only else (_url(home), postgres):
            if url:
                write_database(url, table, tables())


def _with_texts(tables: Callable[[], Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """The same with keys of 36 letters."""
    for table in tables():
        numbers = table.column("id").to_numpy().astype(np.uint64)
        mixed = (numbers * np.uint64(0x9E3779B97F4A7C15)).tolist()
        texts = [f"{a >> 32:08x}-{a >> 16 & 65535:04x}-4{a >> 4 & 4095:03x}-8{a & 15:03x}-{n:012x}"
                 for a, n in zip(mixed, numbers.tolist(), strict=True)]  # fmt: skip
        yield table.set_column(0, "id", pa.array(texts))


def predictions(rows: int) -> Iterator[pa.Table]:
    for _, ids, at, score in _parts(rows):
        yield pa.table({"id": ids, "at": _times(at), "score": score})


def landed(rows: int) -> Iterator[pa.Table]:
    """Of ``LANDED`` of the predictions, positives first, in no order; of the last ones some land an hour later."""
    for rng, ids, at, score in _parts(rows):
        label = rng.random(len(ids)) < score
        delay = rng.exponential(np.where(label, 2e11, 8e11)).astype(np.int64) + 1
        here = rng.permutation(np.flatnonzero(rng.random(len(ids)) < LANDED))
        known = np.minimum(at + delay, int(NOW.timestamp() * 1e6) - 1)
        if len(here) and ids[-1] == rows - 1:
            known[here[-LANDED_SINCE:]] = int(NOW.timestamp() * 1e6) + 3_600_000_000
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
