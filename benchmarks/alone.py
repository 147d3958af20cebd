"""What does not depend on a table of rows: stored profiles, width, many distinct values, a long life."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import SEED, write_database
from detectors import DETECTORS
from detectors.edges import EdgeBuilder
from detectors.kernel import NumericCounter
from detectors.profiles import Column, NumericProfile, NumericSpec, to_bytes
from monitor import baselines, counting
from monitor.config import Config, ModelConfig, SourceConfig, WorkerConfig
from monitor.models import StoredProfile, Window
from monitor.sources import open_source
from monitor.store import Store

Run = Callable[[], dict[str, Any]]
START = datetime(2026, 1, 1, tzinfo=UTC)


def rewindow(folder: Path, *, days: int = 90, features: int = 500) -> Run:
    """What a window is compared with under a rolling baseline, out of stored days, and the comparison: no source."""
    rng = np.random.default_rng(SEED)
    columns = {f"f{i:03d}": _column(rng) for i in range(features)}
    store = Store.open(f"sqlite:///{folder / 'rewindow.db'}")
    baseline = store.save_baseline(
        "m", spec_hash="h", source="", window=None, n_rows=1, columns=columns, detail={}, created_at=START
    )
    for day in range(days):
        window = Window(START + timedelta(days=day), START + timedelta(days=day + 1))
        kept = [StoredProfile("m", window, name, _profile(rng, column.spec, 1000)) for name, column in columns.items()]
        store.save_profiles(kept, baseline_id=baseline.id)
    current = {name: _profile(rng, column.spec, 1000) for name, column in columns.items()}
    model = {"table": "t", "time": "at", "baseline": {"rolling": f"{days}d"}}
    config = Config.model_validate({"sources": {"main": "sqlite:///log.db"}, "models": {"m": model}})
    window = Window(START + timedelta(days=days), START + timedelta(days=days + 1))

    def run() -> dict[str, Any]:
        reference = baselines.reference(baseline, config, store=store, window=window).columns
        values = 0
        for name, column in reference.items():
            values += DETECTORS["psi"].function(column.spec, column.reference, current[name]).value is not None
            values += DETECTORS["ks"].function(column.spec, column.reference, current[name]).value is not None
        rows = {column.reference.n for column in reference.values()}
        return {"features": len(reference), "values": values, "reference_rows": max(rows)}

    return run


def _column(rng: np.random.Generator) -> Column:
    builder = EdgeBuilder()
    builder.update(rng.normal(size=30_000))
    spec = builder.spec()
    assert spec is not None
    return Column("", spec, _profile(rng, spec, 30_000))


def _profile(rng: np.random.Generator, spec: Any, size: int) -> NumericProfile:
    counter = NumericCounter(spec)
    counter.update(rng.normal(size=size))
    return counter.profile()


def stored_size(_: Path) -> Run:
    """How many bytes the profile of a window of 1,000,000 rows takes, at its worst over shapes of columns."""

    def run() -> dict[str, Any]:
        rng = np.random.default_rng(SEED)
        shapes: dict[str, Callable[[int], np.ndarray[Any, Any]]] = {
            "normal": lambda n: rng.normal(size=n),
            "log-normal": lambda n: rng.lognormal(size=n),
            "20,000 distinct": lambda n: rng.integers(0, 19_000, n) / 100,
            "3,000 distinct": lambda n: rng.integers(0, 2_950, n) / 100,
            "zero-inflated": lambda n: np.where(rng.random(n) < 0.6, 0, rng.exponential(size=n)),
        }
        sizes = {}
        for name, draw in shapes.items():
            builder = EdgeBuilder()
            builder.update(draw(100_000))
            spec = builder.spec()
            assert spec is not None
            reference, window = NumericCounter(spec), NumericCounter(spec)
            reference.update(draw(100_000))
            window.update(draw(1_000_000))
            kept = baselines.small(
                [StoredProfile("m", Window(START, START + timedelta(days=1)), "x", window.profile())],
                {"x": Column("x", spec, reference.profile())},
            )
            sizes[name] = len(to_bytes(kept[0].profile))  # type: ignore[arg-type]
        return {"largest": max(sizes.values()), "sizes": sizes}

    return run


def wide(folder: Path, *, features: int = 10_000, rows: int = 20_000) -> Run:
    """A window of very many columns."""
    home = folder / "wide"
    # In a process of its own, so that writing does not count as memory of reading.
    writing = get_context("spawn").Process(target=_write_wide, args=(home, features, rows))
    writing.start()
    writing.join()
    rng = np.random.default_rng(SEED)
    names = _wide_names(features)
    edges = np.sort(rng.normal(size=1000))
    bins = np.linspace(0, 2001, 11).astype(np.int64)
    spec = NumericSpec(edges, np.zeros(1000), bins)
    window = Window(START, START + timedelta(days=1))

    def run() -> dict[str, Any]:
        model = ModelConfig.model_validate({"table": "window", "time": "at"})
        source = open_source("wide", SourceConfig(path=home), zone="UTC")
        roles = source.roles(model)
        read = source.read_inputs(model, roles, window, now=START + timedelta(days=9))
        counts = counting.count(read, dict.fromkeys(names, spec))
        return {"columns": len(counts.columns), "n_rows": counts.n_rows}

    return run


def _wide_names(features: int) -> list[str]:
    return [f"f{i:05d}" for i in range(features)]


def _write_wide(home: Path, features: int, rows: int) -> None:
    home.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    writer = None
    for _ in range(rows // 2000):
        times = pa.array([START + timedelta(hours=1)] * 2000, pa.timestamp("us", tz="UTC"))
        part = pa.table({"at": times} | {name: rng.normal(size=2000) for name in _wide_names(features)})
        writer = writer or pq.ParquetWriter(home / "window.parquet", part.schema, use_dictionary=False)
        writer.write_table(part)
    assert writer is not None
    writer.close()


def segments(_: Path) -> Run:
    """Counting 50 numeric columns by a column of 5 values, and of 20, beside counting them without."""
    rng = np.random.default_rng(SEED)
    rows = 400_000
    names = [f"n{i:02d}" for i in range(50)]
    table = pa.table(
        {name: rng.normal(size=rows) for name in names}
        | {f"by{n}": pa.array([f"v{i:02d}" for i in rng.integers(0, n, rows)]).dictionary_encode() for n in (5, 20)}
    )
    batches = table.combine_chunks().to_batches(max_chunksize=100_000)
    builder = EdgeBuilder()
    builder.update(rng.normal(size=100_000))
    spec = builder.spec()
    assert spec is not None
    specs = dict.fromkeys(names, spec)

    def run() -> dict[str, Any]:
        spent = {}
        for n in (0, 5, 20):
            start = time.perf_counter()
            by = {f"by{n}": [f"v{i:02d}" for i in range(n)]} if n else None
            counts = counting.count(batches, specs, segments=by)
            spent[n] = time.perf_counter() - start
            assert len(counts.segments) == n
        return {"by_5": spent[5] / spent[0], "by_20": spent[20] / spent[0], "without": spent[0]}

    return run


def distinct(_: Path) -> Run:
    """Columns in which every value is another one."""

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, 1_000_000, 50_000):
            numbers = np.arange(start, start + 50_000)
            texts = pa.array([f"user {n:07d}" for n in numbers])
            yield pa.RecordBatch.from_arrays([texts, pa.array(numbers * 1.25)], names=["t", "x"])

    def run() -> dict[str, Any]:
        specs, _ = counting.learn_specs(batches(), {"t": "categorical", "x": "numeric"}, bins=10, max_categories=200)
        counts = counting.count(batches(), specs)
        return {"unseen": counts.columns["t"].unseen, "n": counts.columns["x"].n}  # type: ignore[union-attr]

    return run


def daemon(folder: Path, *, windows: int = 2000) -> Run:
    """Small windows one after the other, as the worker runs them: read, count, compare; memory as it goes."""
    home = folder / "daemon"
    home.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    n = 40 * windows
    times = [START + timedelta(minutes=15) * (i // 40) for i in range(n)]
    frame = {"at": pa.array(times, pa.timestamp("us", tz="UTC"))} | {f"f{i}": rng.normal(size=n) for i in range(20)}
    frame["c"] = pa.array(rng.choice(["a", "b", "c"], n))
    pq.write_table(pa.table(frame), home / "window.parquet", row_group_size=40_000)

    def run() -> dict[str, Any]:
        model = ModelConfig.model_validate({"table": "window", "time": "at"})
        source = open_source("d", SourceConfig(path=home), zone="UTC")
        roles = source.roles(model)
        specs, _ = counting.learn_specs(
            source.read_inputs(model, roles, Window(START, START + timedelta(days=1)), now=START + timedelta(days=99)),
            roles.features, bins=10, max_categories=20,
        )  # fmt: skip
        used = []
        for number in range(windows):
            window = Window(START + timedelta(minutes=15) * number, START + timedelta(minutes=15) * (number + 1))
            counts = counting.count(source.read_inputs(model, roles, window, now=START + timedelta(days=99)), specs)
            for name, spec in specs.items():
                if isinstance(spec, NumericSpec):
                    DETECTORS["ks"].function(spec, counts.columns[name], counts.columns[name])
            if number % 200 == 199:
                gc.collect()
                used.append(_resident_mb())
        return {"resident_mb": used, "growth": used[-1] / used[0]}

    return run


def idle(folder: Path, *, seconds: float = 20.0) -> Run:
    """`monitor worker` as its own process: one that has found nothing to do, and one after windows and renewal."""
    home = folder / "idle"

    def run() -> dict[str, Any]:
        told: dict[str, Any] = {}
        for name, days in (("empty", 0), ("worked", 5)):
            config = _small_log(home / name, days=days)
            process = subprocess.Popen(_monitor("worker", config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                _rest(process.pid)
                if days:
                    told[f"{name}_largest_mb"] = _of(process.pid, "VmHWM")
                    _renewed(process.pid)
                before, since = _burnt(process.pid), time.perf_counter()
                time.sleep(seconds)
                told[f"{name}_share"] = (_burnt(process.pid) - before) / (time.perf_counter() - since)
                told[f"{name}_mb"] = _of(process.pid, "VmRSS")
                told[f"{name}_peak_mb"] = _of(process.pid, "VmHWM")
            finally:
                process.terminate()
                process.wait(60)
        return told

    return run


def starts(folder: Path) -> Run:
    """How long commands take from nothing to the end, on a store with five days of results; the best of five."""
    config = _small_log(folder / "starts", days=5)
    subprocess.run(_monitor("run", config), check=False, capture_output=True)

    def run() -> dict[str, Any]:
        commands = {"help": _monitor("--help")} | {
            name: _monitor(name, config) for name in ("status", "results", "incidents")
        }
        return {name: min(_timed(command) for _ in range(5)) for name, command in commands.items()}

    return run


def _timed(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def _monitor(command: str, config: Path | None = None) -> list[str]:
    run = [sys.executable, "-c", "from monitor.cli import main; main()", command]
    return run if config is None else [*run, "-c", str(config)]


def _small_log(home: Path, *, days: int) -> Path:
    """A config over a SQLite log of 20 features: two weeks for the baseline, then some days until today."""
    home.mkdir(parents=True, exist_ok=True)
    for old in home.glob("*.db*"):
        old.unlink()
    rng = np.random.default_rng(SEED)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start, rows = today - timedelta(days=14 + days), 500 * (14 + days)
    times = [(start + timedelta(seconds=172.8 * i)).isoformat(sep=" ")[:19] for i in range(rows)]
    log = pa.table(
        {"at": times, "score": rng.random(rows)}
        | {f"f{i:02d}": rng.normal(size=rows) for i in range(17)}
        | {f"c{i}": pa.array(rng.choice(["a", "b", "c", "d"], rows)) for i in range(3)}
    )
    write_database(f"sqlite:///{home / 'log.db'}", "log", iter([log]))
    first, last = f"{start:%Y-%m-%d}", f"{start + timedelta(days=14):%Y-%m-%d}"
    path = home / "config.yaml"
    path.write_text(
        f"""store: "sqlite:///{home / "monitor.db"}"
sources: {{main: "sqlite:///{home / "log.db"}"}}
reports: {{dir: "{home / "reports"}"}}
models:
  small: {{table: log, time: at, score: score, start: {last}, baseline: {{from: {first}, to: {last}}}}}
""",
        encoding="utf-8",
    )
    return path


def _renewed(pid: int, *, patience: float = 300.0) -> None:
    """Wait until the worker has replaced itself, if its size makes it do so, and has come to rest again."""
    limit = WorkerConfig().idle_memory * 1e6 / (1 << 20)
    ends = time.monotonic() + patience
    while _of(pid, "VmRSS") > limit and time.monotonic() < ends:
        time.sleep(1)
    _rest(pid)


def _rest(pid: int, *, patience: float = 120.0) -> None:
    """Wait until the process has hardly worked for some seconds."""
    ends, last = time.monotonic() + patience, -1.0
    while time.monotonic() < ends:
        time.sleep(6)
        burnt = _burnt(pid)
        if burnt - last < 0.3:
            return
        last = burnt
    raise RuntimeError("the worker did not come to rest")


def _burnt(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _of(pid: int, name: str) -> float:
    """A size from a process's status, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition(f"{name}:")[2].split()[0]) / 1024


def _resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)
    except OSError:
        from benchmarks.jobs import peak_mb

        return peak_mb()
