"""What does not depend on a table of rows: stored profiles, width, many distinct values, a long life."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import SEED
from detectors import DETECTORS
from detectors.edges import EdgeBuilder
from detectors.kernel import NumericCounter
from detectors.profiles import Column, NumericProfile, NumericSpec, to_bytes
from monitor import baselines, counting, rewindowing
from monitor.config import ModelConfig, SourceConfig
from monitor.models import StoredProfile, Window
from monitor.sources import open_source
from monitor.store import Store

Run = Callable[[], dict[str, Any]]
START = datetime(2026, 1, 1, tzinfo=UTC)


def rewindow(folder: Path, *, days: int = 90, features: int = 500) -> Run:
    """Read daily profiles from the store and add them up to two halves, then compare: no source is touched."""
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

    def run() -> dict[str, Any]:
        half = START + timedelta(days=days // 2)
        old = rewindowing.merged(store, "m", start=START, end=half)
        new = rewindowing.merged(store, "m", start=half, end=START + timedelta(days=days))
        values = 0
        for name in old:
            values += DETECTORS["psi"].function(columns[name].spec, old[name], new[name]).value is not None
            values += DETECTORS["ks"].function(columns[name].spec, old[name], new[name]).value is not None
        return {"features": len(old), "values": values}

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
    home.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    names = [f"f{i:05d}" for i in range(features)]
    writer = None
    for _ in range(rows // 2000):
        times = pa.array([START + timedelta(hours=1)] * 2000, pa.timestamp("us", tz="UTC"))
        part = pa.table({"at": times} | {name: rng.normal(size=2000) for name in names})
        writer = writer or pq.ParquetWriter(home / "window.parquet", part.schema, use_dictionary=False)
        writer.write_table(part)
    assert writer is not None
    writer.close()
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


def _resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1)
    except OSError:
        from benchmarks.jobs import peak_mb

        return peak_mb()
