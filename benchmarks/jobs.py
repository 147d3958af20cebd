"""What is measured, one function each: the first half prepares, what it returns is timed.

Every job runs in a process of its own (``python -m benchmarks.jobs NAME PLACE``), so that its peak memory is its own
and no one profits from another's warm caches in memory; it prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import monitor  # noqa: F401 - before NumPy, as in the product

Run = Callable[[], dict[str, Any] | None]


@dataclass(frozen=True)
class Place:
    """Where the data of one size lie."""

    rows: int
    parquet: str
    sqlite: str
    postgres: str

    @property
    def baseline(self) -> Path:
        return Path(self.parquet) / "baseline.parquet"

    @property
    def window(self) -> Path:
        return Path(self.parquet) / "window.parquet"


# --- ours ------------------------------------------------------------------------------------------


def _ours(place: Place, source: dict[str, Any]) -> Run:
    """From the rows of a window to the values of all detectors of all columns; the baseline is frozen beforehand."""
    from benchmarks.data import DAY
    from benchmarks.frozen import load
    from detectors import DETECTORS
    from detectors.profiles import NumericSpec
    from monitor import counting
    from monitor.config import ModelConfig, SourceConfig
    from monitor.models import Window
    from monitor.sources import open_source

    columns = load(Path(place.parquet) / "frozen.json")
    model = ModelConfig.model_validate({"table": "window", "time": "at"})
    window = Window(DAY, DAY + timedelta(days=1))
    now = datetime(2026, 2, 1, tzinfo=UTC)

    def run() -> dict[str, Any]:
        opened = open_source("bench", SourceConfig.model_validate(source), zone="UTC")
        roles = opened.roles(model)
        looked = time.perf_counter()
        specs = {name: column.spec for name, column in columns.items()}
        counts = counting.count(opened.read_inputs(model, roles, window, now=now), specs)
        counted = time.perf_counter()
        values = 0
        for name, column in columns.items():
            numeric = isinstance(column.spec, NumericSpec)
            for detector in DETECTORS.values():
                if detector.numeric if numeric else detector.categorical:
                    found = detector.function(column.spec, column.reference, counts.columns[name])
                    values += found.value is not None
        opened.close()
        compared = time.perf_counter() - counted
        return {"n_rows": counts.n_rows, "values": values, "compare": compared, "looked": looked, "counted": counted}

    def told() -> dict[str, Any]:
        start = time.perf_counter()
        answer = run()
        looked, counted = answer.pop("looked"), answer.pop("counted")
        return answer | {"look": looked - start, "count": counted - looked}

    return told


def ours_parquet(place: Place) -> Run:
    return _ours(place, {"path": place.parquet})


def ours_sqlite(place: Place) -> Run:
    return _ours(place, {"url": place.sqlite, "statement_timeout": "1h"})


def ours_postgres(place: Place) -> Run:
    return _ours(place, {"url": place.postgres, "statement_timeout": "1h"})


def ours_baseline(place: Place) -> Run:
    """Where the cells lie, and the reference counts: what is done once, when a baseline is built."""
    from benchmarks.frozen import build

    return lambda: {"columns": len(build(place.baseline))}


# --- floors ----------------------------------------------------------------------------------------


def floor_parquet(place: Place) -> Run:
    """Decoding every column, categories as dictionaries, and nothing else."""
    import pyarrow.parquet as pq

    from benchmarks.data import CATEGORICAL

    def run() -> dict[str, Any]:
        file = pq.ParquetFile(place.window, read_dictionary=CATEGORICAL)
        return {"n_rows": sum(batch.num_rows for batch in file.iter_batches(batch_size=65_536))}

    return run


def floor_copy(place: Place) -> Run:
    """``COPY … TO STDOUT (FORMAT BINARY)``: the bytes are taken off the wire, and dropped."""
    import psycopg

    def run() -> dict[str, Any]:
        n_bytes = 0
        statement = f"COPY ({_select()}) TO STDOUT (FORMAT BINARY)"
        with (
            psycopg.connect(place.postgres) as connection,
            connection.cursor() as cursor,
            cursor.copy(statement) as copy,  # type: ignore[call-overload]
        ):
            for data in copy:
                n_bytes += len(data)
        return {"n_bytes": n_bytes}

    return run


def fetch_postgres(place: Place) -> Run:
    """ADBC batches, taken and dropped."""
    from adbc_driver_postgresql import dbapi

    return lambda: _fetch(dbapi.connect(place.postgres), "adbc.postgresql.batch_size_hint_bytes", 16 << 20)


def fetch_sqlite(place: Place) -> Run:
    """ADBC batches, taken and dropped."""
    from adbc_driver_sqlite import dbapi

    path = place.sqlite.removeprefix("sqlite:///")
    return lambda: _fetch(dbapi.connect(f"file:{path}?mode=ro"), "adbc.sqlite.query.batch_rows", 65_536)


def _fetch(connection: Any, option: str, size: int) -> dict[str, Any]:
    with connection, connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{option: str(size)})
        cursor.execute(_select())
        return {"n_rows": sum(batch.num_rows for batch in cursor.fetch_record_batch())}


def _select() -> str:
    from benchmarks.data import COLUMNS

    return f'SELECT {", ".join(["at", *COLUMNS])} FROM "window"'


# --- peers -----------------------------------------------------------------------------------------


def read_sql_postgres(place: Place) -> Run:
    import pandas as pd
    import sqlalchemy as sa

    engine = sa.create_engine(place.postgres.replace("postgresql://", "postgresql+psycopg://"))
    return lambda: {"n_rows": len(pd.read_sql(sa.text(_select()), engine))}


def read_sql_sqlite(place: Place) -> Run:
    import sqlite3

    import pandas as pd

    connection = sqlite3.connect(place.sqlite.removeprefix("sqlite:///"))
    return lambda: {"n_rows": len(pd.read_sql(_select(), connection))}


def evidently(place: Place) -> Run:
    """``DataDriftPreset`` with its own defaults, both sides in pandas and declared beforehand: only its own work."""
    import warnings

    from benchmarks.data import CATEGORICAL, NUMERIC

    warnings.simplefilter("ignore")
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=NUMERIC, categorical_columns=CATEGORICAL)
    sides = [Dataset.from_pandas(_pandas(path), definition) for path in (place.window, place.baseline)]

    def run() -> dict[str, Any]:
        found = Report([DataDriftPreset()]).run(*sides).dict()
        return {"metrics": len(found["metrics"])}

    return run


def scipy_columns(place: Place) -> Run:
    """``ks_2samp`` and ``wasserstein_distance`` of each numeric column, both sides in memory, without missing."""
    from scipy.stats import ks_2samp, wasserstein_distance

    from benchmarks.data import NUMERIC

    window, baseline = (_pandas(path) for path in (place.window, place.baseline))

    def run() -> dict[str, Any]:
        for name in NUMERIC:
            a, b = (side[name].dropna().to_numpy() for side in (baseline, window))
            ks_2samp(a, b, method="asymp")
            wasserstein_distance(a, b)
        return {"columns": len(NUMERIC)}

    return run


def _pandas(path: Path) -> Any:
    import pandas as pd

    from benchmarks.data import COLUMNS

    return pd.read_parquet(path, columns=COLUMNS)


# --- without rows ----------------------------------------------------------------------------------


def _alone(name: str) -> Callable[[Place], Run]:
    def job(place: Place) -> Run:
        from benchmarks import alone

        made: Run = getattr(alone, name)(Path(place.parquet))
        return made

    job.__name__ = name
    return job


def labels(place: Place) -> Run:
    """A window's labels, beside the bare read of the same columns."""
    from benchmarks.labels import labels as in_turns

    return in_turns(Path(place.parquet), postgres=place.postgres)


def label_memory(place: Place) -> Run:
    """Memory of windows of different sizes."""
    from benchmarks.labels import label_memory as by_size

    return by_size(Path(place.parquet))


# --- in a process of its own -----------------------------------------------------------------------

JOBS: dict[str, Callable[[Place], Run]] = {
    job.__name__: job
    for job in (
        floor_parquet, ours_parquet, floor_copy, fetch_postgres, ours_postgres, fetch_sqlite, ours_sqlite,
        ours_baseline, read_sql_postgres, read_sql_sqlite, evidently, scipy_columns,
        *(_alone(name) for name in ("rewindow", "stored_size", "wide", "distinct", "segments", "daemon")),
        *(_alone(name) for name in ("idle", "starts")), labels, label_memory,
    )
}  # fmt: skip


def peak_mb() -> float:
    """Peak resident memory of this process, in MB: of its own memory map, so that nothing is inherited."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used / (1 << 20 if sys.platform == "darwin" else 1024)


def main() -> None:
    name, place, repeats = sys.argv[1], Place(**json.loads(sys.argv[2])), int(sys.argv[3])
    run = JOBS[name](place)
    idle = peak_mb()
    tries: list[dict[str, Any]] = []
    for _ in range(repeats):
        start, burnt = time.perf_counter(), time.process_time()
        answer = run() or {}
        tries.append({"seconds": time.perf_counter() - start, "cpu": time.process_time() - burnt, "detail": answer})
    best = min(tries, key=lambda one: one["seconds"])
    print(json.dumps({"job": name, "rows": place.rows, **best, "peak_mb": peak_mb(), "start_mb": idle}))


def as_json(place: Place) -> str:
    return json.dumps(asdict(place))


if __name__ == "__main__":
    main()
