"""One table, counted from wherever it lies, cut and ordered however it comes: the same integers."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from databases import fresh_database, write_table
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine.default import DefaultDialect
from wild_values import COLUMNS, KINDS, NOW, NUMERIC, ROWS, WINDOW, frozen, integers, table

from detectors.profiles import (
    ColumnProfile,
    ColumnSpec,
    NumericProfile,
    NumericSpec,
    merge_all,
    project,
    restrict,
    thin,
)
from monitor import counting
from monitor.config import ModelConfig, SourceConfig
from monitor.sources import Source, open_source, pushdown


def write_sqlite(url: str) -> None:
    columns = COLUMNS | {"at": sa.Text(), "money": sa.Double()}
    rows = [
        row | {"at": row["at"].strftime("%Y-%m-%d %H:%M:%S"), "money": float(row["money"])}
        for row in table().to_pylist()
    ]
    write_table(url, "log", columns, rows)


def count(source: Source, specs: dict[str, ColumnSpec]) -> dict[str, ColumnProfile]:
    model = ModelConfig.model_validate(
        {"table": "log", "time": "at", "features": {"numeric": NUMERIC, "categorical": ["flag", "word"]}}
    )
    roles = source.roles(model)
    counts = counting.count(source.read_inputs(model, roles, WINDOW, now=NOW), specs)
    assert counts.n_rows == ROWS
    return counts.columns


@pytest.fixture(scope="module")
def specs() -> dict[str, ColumnSpec]:
    return frozen()


@pytest.fixture(scope="module")
def places(tmp_path_factory, postgres_server_url):
    """The same rows as Parquet (two files, small row groups), in SQLite, and in PostgreSQL."""
    home = tmp_path_factory.mktemp("exact")
    (home / "log").mkdir()
    pq.write_table(table().slice(0, 1234), home / "log" / "a.parquet", row_group_size=500)
    pq.write_table(table().slice(1234), home / "log" / "b.parquet", row_group_size=999)
    write_sqlite(f"sqlite:///{home / 'log.db'}")
    with fresh_database(postgres_server_url) as url:
        write_table(url, "log", COLUMNS, table().to_pylist())
        yield {"parquet": {"path": home}, "sqlite": {"url": f"sqlite:///{home / 'log.db'}"}, "postgresql": {"url": url}}


def opened(place: dict[str, Any]) -> Source:
    return open_source("log", SourceConfig.model_validate(place), zone="UTC")


def in_memory(specs: dict[str, ColumnSpec]) -> dict[str, ColumnProfile]:
    """The same counts by the book: each value looked at on its own."""
    answer: dict[str, ColumnProfile] = {}
    for name in NUMERIC:
        spec = specs[name]
        assert isinstance(spec, NumericSpec)
        cells, missing, infinite = [0] * spec.n_cells, 0, [0, 0]
        for value in table().column(name).to_pylist():
            number = math.nan if value is None else float(value)
            if math.isnan(number):
                missing += 1
                continue
            infinite[number > 0] += math.isinf(number)
            below = sum(number > edge + slack for edge, slack in zip(spec.edges, spec.slack, strict=True))
            on = below < len(spec.edges) and abs(number - spec.edges[below]) <= spec.slack[below]
            cells[2 * below + on] += 1
        nan = math.nan
        answer[name] = NumericProfile(
            ROWS, missing, infinite[1], infinite[0], np.array(cells), nan, nan, nan, nan, 0.0, 0.0
        )
    return answer


@pytest.mark.parametrize("place", ["parquet", "sqlite", "postgresql"])
def test_every_source_gives_the_same_integers(place, places, specs):
    source = opened(places[place])
    found = count(source, specs)
    source.close()
    expected = in_memory(specs)
    for name in NUMERIC:
        assert integers(found[name]) == integers(expected[name]), name


def test_categories_are_the_same_from_every_source(places, specs):
    told = {}
    for place, where in places.items():
        source = opened(where)
        found = count(source, specs)
        told[place] = {name: integers(found[name]) for name in ("flag", "word")}
        source.close()
    assert told["parquet"] == told["sqlite"] == told["postgresql"]
    word = specs["word"]
    assert "" in word.categories or told["parquet"]["word"][2] > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
def test_counting_inside_the_database_gives_the_kernels_integers(place, places, specs):
    source = opened(places[place])
    streamed = count(source, specs)
    model = ModelConfig.model_validate({"table": "log", "time": "at", "features": {"numeric": NUMERIC}})
    roles = source.roles(model)
    scan, _ = source._prediction_scan(model, roles, WINDOW, now=NOW, features=dict(roles.features))
    numeric = {name: spec for name, spec in specs.items() if isinstance(spec, NumericSpec)}
    pushed = source._scanner.count_numbers(scan, numeric)  # type: ignore[attr-defined]
    source.close()
    for name, spec in numeric.items():
        there, here = pushed[name], streamed[name]
        assert isinstance(here, NumericProfile)
        if there.kept is not None:  # fewer edges where cells are found by comparisons: the kernel's, thinned alike
            here = thin(here, there.kept)
        assert integers(there) == integers(here), name
        for what in ("minimum", "maximum", "mean", "m2", "low_sum", "high_sum"):
            loose = name == "huge" and what == "m2"  # the mean itself is rounded by 1 there
            near = pytest.approx(getattr(here, what), rel=1e-3 if loose else 1e-9, abs=1e-6, nan_ok=True)
            assert getattr(there, what) == near, (name, what)
        assert spec.n_cells == len(there.cells)


def test_push_down_is_a_matter_of_the_config(places, specs):
    model = ModelConfig.model_validate({"table": "log", "time": "at", "features": {"numeric": NUMERIC}})
    found = {}
    for asked in ("never", "auto", "always"):
        source = opened(places["postgresql"] | {"push_down": asked})
        found[asked] = source.count_there(model, source.roles(model), WINDOW, specs, now=NOW)
        source.close()
    assert found["never"] == found["auto"] == {}
    assert set(found["always"]) == set(NUMERIC)
    folder = opened(places["parquet"])
    assert folder.count_there(model, folder.roles(model), WINDOW, specs, now=NOW) == {}


def test_comparisons_are_pushed_down_over_a_bounded_number_of_edges():
    edges = np.arange(5000.0)
    spec = NumericSpec(edges, np.zeros(5000), np.array([0, 5000, 10_001]))
    kept = pushdown.counted_over("snowflake", spec)
    assert len(kept) <= pushdown.MOST_EDGES + 2
    assert len(restrict(spec, kept).bins) == 3
    assert len(pushdown.counted_over("postgresql", spec)) == 5000


SMALL = NumericSpec(np.array([-1.5, 0.0, 1.5]), np.array([0.0, 1e-7, 0.0]), np.array([0, 3, 7]))


WAREHOUSES = ["snowflake", "bigquery", "databricks", "trino", "redshift"]


def told(name: str, dialect: Any) -> str:
    rows = sa.select(sa.column("x", sa.Double())).select_from(sa.table("log")).subquery("w")
    return str(pushdown.statement(name, rows, "x", SMALL).compile(dialect=dialect))


@pytest.mark.parametrize("name", WAREHOUSES)
def test_the_statement_compiles_on_what_sqlalchemy_itself_has(name):
    """Redshift is a PostgreSQL; for the others SQLAlchemy has no nearer dialect than the generic one."""
    text = told(name, PGDialect() if name == "redshift" else DefaultDialect())
    assert "GROUP BY" in text
    assert text.count("CASE WHEN") == 2 * 3 + 2  # two cuts an edge, missing values, infinite ones
    assert "width_bucket" not in text


@pytest.mark.filterwarnings("ignore")  # of the packages themselves
@pytest.mark.parametrize(
    ("name", "nan", "bound"),
    [
        ("snowflake", "CAST(%(param_2)s AS DOUBLE)", "%(param_3)s"),
        ("bigquery", "is_nan(`w`.`x`)", ":param_2"),
        ("databricks", "isnan(w.x)", ":`param_2`"),
        ("trino", "is_nan(w.x)", ":param_2"),
        ("redshift", "CAST(%(param_2)s AS DOUBLE PRECISION)", "%(param_3)s"),
    ],
)
def test_the_statement_compiles_on_the_warehouses_own_dialects(name, nan, bound):
    try:
        dialect = registry.load(name)()
    except (sa.exc.NoSuchModuleError, ImportError):
        pytest.skip(f"the extra `{name}` is not installed: make test-spark")
    assert dialect.name == name
    text = told(name, dialect)
    assert nan in text  # how this engine tells NaN
    assert f"< {bound}" in text  # edges are bound, not written out
    assert text.count("CASE WHEN") == 2 * 3 + 2


# --- splits and orders -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    flags = table().column("flag").cast(pa.string())
    return table().select(list(KINDS)).set_column(6, "flag", flags).slice(0, 400)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_counts_depend_neither_on_order_nor_on_splits(data, rows, specs):
    hold_to_one_count(data, rows, specs)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(data=st.data())
def test_a_thousand_orders_and_splits_give_the_same_counts(data, rows, specs):
    hold_to_one_count(data, rows, specs)


def hold_to_one_count(data: Any, rows: pa.Table, specs: dict[str, ColumnSpec]) -> None:
    order = data.draw(st.randoms(use_true_random=False))
    places = list(range(rows.num_rows))
    order.shuffle(places)
    cuts = sorted(data.draw(st.sets(st.integers(0, rows.num_rows), max_size=6)) | {0, rows.num_rows})
    shuffled = rows.take(pa.array(places)).combine_chunks()
    batches = [batch for a, b in pairwise(cuts) for batch in shuffled.slice(a, b - a).to_batches()]
    one = counting.count(rows.to_batches(), specs).columns
    many = counting.count(batches, specs).columns
    parts = [counting.count([batch], specs).columns for batch in batches]
    for name in KINDS:
        assert integers(many[name]) == integers(one[name]), name
        assert integers(merge_all(part[name] for part in parts)) == integers(one[name]), name


def test_several_threads_count_as_one_does(specs):
    rng = np.random.default_rng(5)
    batch = pa.RecordBatch.from_pydict({f"x{i}": rng.normal(size=70_000) for i in range(8)})
    spec = specs["wild"]
    alone, together = counting.Crew(1), counting.Crew(4)
    answers = []
    for crew in (alone, together):
        columns = counting._Columns(dict.fromkeys(batch.schema.names, spec))
        with crew:
            columns.update(batch, crew)
        answers.append({name: integers(found) for name, found, _ in columns.profiles()})
    assert answers[0] == answers[1]


def test_an_error_in_a_thread_is_raised_by_the_count(specs):
    wrong = pa.RecordBatch.from_arrays([pa.array([[1.0]] * 140_000), pa.array([1.0] * 140_000)], names=["a", "b"])
    with pytest.raises(pa.ArrowException):
        counting.count([wrong], {"a": specs["wild"], "b": specs["wild"]})


def test_a_projection_of_counts_is_the_count_over_fewer_edges(specs):
    spec = specs["tied"]
    assert isinstance(spec, NumericSpec)
    kept = np.unique(np.concatenate([[0, len(spec.edges) - 1], (spec.bins[1:-1] - 1) // 2]))
    coarse = restrict(spec, kept)
    batch = table().select(["tied"]).to_batches()
    fine = counting.count(batch, {"tied": spec}).columns["tied"]
    direct = counting.count(batch, {"tied": coarse}).columns["tied"]
    assert isinstance(fine, NumericProfile)
    assert isinstance(direct, NumericProfile)
    assert np.array_equal(project(spec, fine, onto=coarse).cells, direct.cells)
