"""A million rows of awkward values, counted where they lie: Parquet, SQLite, PostgreSQL, inside both, and on Spark."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from databases import fresh_database, write_table
from spark_here import needs_spark, spark_block
from wild_values import COLUMNS, NOW, NUMERIC, WINDOW, frozen, integers, table

from detectors.profiles import NumericProfile, NumericSpec, thin
from monitor import passes
from monitor.config import ModelConfig, SourceConfig
from monitor.sources import open_source

pytestmark = pytest.mark.filterwarnings("ignore")  # PySpark's own: of pandas 3, and of sockets it leaves open
ROWS = 1_000_000
PART = replace(WINDOW, end=WINDOW.start + timedelta(hours=18))
"""A row lies exactly on its end, and is out."""
MODEL = ModelConfig.model_validate(
    {"table": "log", "time": "at", "segments": ["word"], "max_segments": 3,
     "features": {"numeric": NUMERIC, "categorical": ["flag", "word"]}}
)  # fmt: skip
SEGMENTS = {"word": ["", "a", "Ä"]}


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return table(ROWS)


@pytest.fixture(scope="module")
def places(tmp_path_factory, postgres_server_url, rows):
    """The same rows everywhere, shuffled in the databases."""
    from adbc_driver_postgresql import dbapi as postgresql
    from adbc_driver_sqlite import dbapi as sqlite

    home = tmp_path_factory.mktemp("million")
    (home / "log").mkdir()
    for part in range(4):
        file = home / "log" / f"{part}.parquet"
        pq.write_table(rows.slice(part * ROWS // 4, ROWS // 4), file, row_group_size=70_000)
    shuffled = rows.take(pa.array(np.random.default_rng(3).permutation(ROWS)))
    with sqlite.connect(str(home / "log.db")) as connection, connection.cursor() as cursor:
        write_table(f"sqlite:///{home / 'log.db'}", "log", COLUMNS | {"at": sa.Text(), "money": sa.Double()}, [])
        cursor.adbc_ingest("log", as_sqlite_has_it(shuffled), mode="append")
        connection.commit()
    with fresh_database(postgres_server_url) as url:
        plain_url = url.replace("postgresql+psycopg://", "postgresql://")
        with postgresql.connect(plain_url) as connection, connection.cursor() as cursor:
            write_table(url, "log", COLUMNS, [])
            cursor.adbc_ingest("log", shuffled, mode="append")
            connection.commit()
        yield {
            "parquet": {"path": home},
            "sqlite": {"url": f"sqlite:///{home / 'log.db'}"},
            "postgresql": {"url": url},
            "spark": {"spark": spark_block(home)},
        }


def as_sqlite_has_it(rows: pa.Table) -> pa.Table:
    """Times as text, booleans as 0 and 1, Decimals as the nearest float."""
    columns = {name: rows.column(name) for name in rows.column_names}
    columns["at"] = columns["at"].cast(pa.timestamp("us")).cast(pa.string())
    columns["money"] = columns["money"].cast(pa.string()).cast(pa.float64())
    columns["single"] = columns["single"].cast(pa.float64())
    columns["flag"] = columns["flag"].cast(pa.int64())
    return pa.table(columns)


@pytest.fixture(scope="module")
def by_the_book(rows) -> dict[str, list[int]]:
    """Each value looked for among the edges on its own, without the kernel."""
    inside = rows.slice(0, ROWS * 18 // 24)
    answer: dict[str, list[int]] = {}
    for name, spec in frozen().items():
        if not isinstance(spec, NumericSpec):
            continue
        numbers = np.array([math.nan if v is None else float(v) for v in inside.column(name).to_pylist()])
        present = numbers[~np.isnan(numbers)]
        below = np.searchsorted(spec.edges + spec.slack, present)
        near = below.clip(max=len(spec.edges) - 1)
        on = (below < len(spec.edges)) & (np.abs(present - spec.edges[near]) <= spec.slack[near])
        cells = np.bincount(2 * below + on, minlength=spec.n_cells)
        infinite = [int((present == math.inf).sum()), int((present == -math.inf).sum())]
        answer[name] = [len(numbers), int(np.isnan(numbers).sum()), *infinite, *cells.tolist()]
    return answer


def opened(place: dict[str, Any]) -> Any:
    return open_source("log", SourceConfig.model_validate(place), zone="UTC")


def counted(place: dict[str, Any]) -> dict[str, Any]:
    source = opened(place)
    try:
        read = source.read_inputs(MODEL, source.roles(MODEL), PART, now=NOW)
        seen, together, _ = passes.count(read, frozen(), segments=SEGMENTS, together=["tied", "wild", "single"])
    finally:
        source.close()
    told: dict[str, Any] = {name: integers(profile) for name, profile in seen.columns.items()}
    for segment, columns in seen.segments.items():
        told |= {f"{segment} {name}": integers(profile) for name, profile in columns.items()}
    return told | {"rows": seen.n_rows, "first": seen.oldest, "last": seen.newest, "sampled": together.n_rows}


@pytest.fixture(scope="module")
def from_parquet(places) -> dict[str, Any]:
    return counted(places["parquet"])


@pytest.mark.slow
def test_a_million_rows_of_parquet_are_counted_by_the_book(from_parquet, by_the_book):
    assert from_parquet["rows"] == ROWS * 18 // 24
    assert {name: from_parquet[name] for name in by_the_book} == by_the_book
    assert {"word= tied", "word=a tied", "word=(other) tied"} <= set(from_parquet)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite", "postgresql", pytest.param("spark", marks=needs_spark)])
def test_a_million_rows_give_the_same_integers_from_everywhere(place, places, from_parquet):
    assert counted(places[place]) == from_parquet


@pytest.mark.slow
@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
def test_a_million_rows_counted_inside_a_database_give_the_same_integers(place, places, by_the_book):
    model = MODEL.model_copy(update={"segments": []})
    specs = frozen()
    source = opened(places[place] | {"push_down": "always"})
    try:
        found = source.count_there(model, source.roles(model), PART, specs, now=NOW)
        if place == "sqlite":  # times are text there, which is only exact once parsed here: streamed nevertheless
            assert found == {}
            scan, _ = source._prediction_scan(
                model, source.roles(model), PART, now=NOW, features=dict.fromkeys(NUMERIC, "numeric")
            )
            numeric = {name: spec for name, spec in specs.items() if name in NUMERIC}
            found = source._scanner.count_numbers(scan, numeric)
    finally:
        source.close()
    assert set(found) == set(NUMERIC)
    for name, profile in found.items():
        n, missing, up, down, *cells = by_the_book[name]
        nan = math.nan
        expected = NumericProfile(n, missing, up, down, np.array(cells), nan, nan, nan, nan, 0.0, 0.0)
        if profile.kept is not None:  # over fewer edges: the book's, thinned alike
            expected = thin(expected, profile.kept)
        assert integers(profile) == integers(expected), name
