"""Hostile names, odd times, odd values: read alike, or refused by name."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from databases import write_table
from test_sources_reading import DAY, NOW, STAMP, WINDOW, config, hours, opened, table_of

from monitor.config import SourceConfig
from monitor.models import Job, Window
from monitor.sources import PermanentSourceError, Source, TransientSourceError, open_source, sql, times
from monitor.sources.prefetch import prefetch
from monitor.sources.sql import Database


@pytest.mark.parametrize(
    "name", ['we"ird', '"; drop table t; --', "select", "größe", "a b", "x%y", "col:start", "it's"]
)
def test_hostile_names_are_only_names(database_url: str, name: str) -> None:
    write_table(database_url, name + "_t", {"at": STAMP, name: sa.Integer}, hours(3, **{name: lambda i: i}))
    with opened(database_url) as source:
        found = table_of(source, config(table=name + "_t"))
    assert sorted(found[name].to_pylist()) == [0.0, 1.0, 2.0]


TIMES: list[tuple[str, Any, Any, dict[str, Any], str]] = [
    ("epoch_s", sa.BigInteger, lambda t: int(t.timestamp()), {}, "UTC"),
    ("epoch_ms", sa.BigInteger, lambda t: int(t.timestamp() * 1000), {}, "UTC"),
    ("epoch_us", sa.BigInteger, lambda t: int(t.timestamp() * 1_000_000), {}, "UTC"),
    ("epoch_ns", sa.BigInteger, lambda t: int(t.timestamp()) * 1_000_000_000, {"unit": "ns"}, "UTC"),
    ("epoch_float", sa.Float, lambda t: t.timestamp() + 0.25, {}, "UTC"),
    ("iso_z", sa.Text, lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ"), {}, "UTC"),
    ("iso_space", sa.Text, lambda t: t.strftime("%Y-%m-%d %H:%M:%S.250"), {}, "UTC"),
    ("iso_minutes", sa.Text, lambda t: t.strftime("%Y-%m-%d %H:%M"), {}, "UTC"),
    ("iso_offset", sa.Text, lambda t: (t + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S+02:00"), {}, "UTC"),
    ("iso_naive_zone", sa.Text, lambda t: (t + timedelta(hours=9)).strftime("%Y-%m-%d %H:%M:%S"), {}, "Asia/Tokyo"),
    ("naive", sa.DateTime, lambda t: t.replace(tzinfo=None), {}, "UTC"),
    ("naive_zone", sa.DateTime, lambda t: (t - timedelta(hours=5)).replace(tzinfo=None),
     {"zone": "America/New_York"}, "UTC"),
    ("aware", sa.DateTime(timezone=True), lambda t: t, {}, "UTC"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "spell", "spec", "zone"), [pytest.param(*t[1:], id=t[0]) for t in TIMES])
def test_every_form_of_time_gives_the_same_window(
    database_url: str, kind: Any, spell: Any, spec: dict[str, Any], zone: str
) -> None:
    if database_url.startswith("sqlite") and isinstance(kind, sa.DateTime):
        zone = zone if spec else "UTC"
    rows = [{"at": spell(DAY + timedelta(hours=i)), "x": i} for i in range(-30, 54)]
    write_table(database_url, "t", {"at": kind, "x": sa.Integer}, rows)
    with opened(database_url, zone) as source:
        found = table_of(source, config(time={"column": "at"} | spec))
        noon = Window(DAY + timedelta(hours=12), DAY + timedelta(hours=18))
        part = table_of(source, config(time={"column": "at"} | spec), noon)
    assert sorted(found["x"].to_pylist()) == [float(i) for i in range(24)]
    assert sorted(part["x"].to_pylist()) == [float(i) for i in range(12, 18)]
    assert min(found["__time__"].to_pylist()) - DAY < timedelta(seconds=1)


def test_times_that_are_none_are_passed_over(database_url: str) -> None:
    rows = [{"at": t, "x": i} for i, t in enumerate(["2026-01-05 01:00:00", "soon", "", None, "9999-12-31 00:00:00",
                                                     "2026-01-05T26:99:00", "2026-01-05T03:00:00Z"])]  # fmt: skip
    write_table(database_url, "t", {"at": sa.Text, "x": sa.Integer}, rows)
    with opened(database_url) as source:
        found = table_of(source, config())
    assert sorted(found["x"].to_pylist()) == [0.0, 6.0]


def test_infinite_times_and_values_in_postgres_are_not_fatal(postgres_url: str) -> None:
    write_table(postgres_url, "t", {"at": STAMP, "x": sa.Float, "n": sa.Numeric}, hours(2, x=lambda i: i, n=lambda i: i),
                ddl="INSERT INTO t VALUES ('2026-01-05 05:00+00', 'NaN', 'NaN'), ('2026-01-05 06:00+00', 'inf', 1e30), "
                    "('infinity', 1, 1), ('-infinity', 1, 1), ('2026-01-05 07:00+00', '-inf', NULL)")  # fmt: skip
    with opened(postgres_url) as source:
        found = table_of(source, config())
        everything = table_of(source, config(), window=None)
    x = found["x"].to_pylist()
    assert [x[0], x[1], x[3], x[4]] == [0.0, 1.0, math.inf, -math.inf]
    assert math.isnan(x[2])
    assert found["n"].to_pylist()[3:] == [1e30, None]
    assert everything.num_rows == 5


def test_a_column_that_changes_its_type_late_is_read_to_the_end(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "batch_rows", lambda _: 100)
    rows = [{"at": "2026-01-05 01:00:00", "x": None if i < 250 else 0.5, "y": i} for i in range(500)]
    write_table(sqlite_url, "t", {"at": sa.Text, "x": sa.Float, "y": sa.Integer}, rows,
                ddl="UPDATE t SET y = 'oops' WHERE rowid = 300")  # fmt: skip
    with opened(sqlite_url) as source:
        found = table_of(source, config(features={"numeric": ["x", "y"]}))
    assert found.num_rows == 500
    assert found["x"].null_count == 250
    assert [i for i, y in enumerate(found["y"].to_pylist()) if y is None] == [299]


def test_large_integers_are_the_same_floats_everywhere(database_url: str) -> None:
    values = [2**53 + 1, 2**62 + 3, -(2**63), 0]
    write_table(database_url, "t", {"at": STAMP, "n": sa.BigInteger, "c": sa.BigInteger},
                hours(4, n=lambda i: values[i], c=lambda i: values[i]))  # fmt: skip
    with opened(database_url) as source:
        found = table_of(source, config(features={"categorical": ["c"]}))
    assert found["n"].to_pylist() == [float(v) for v in values]
    assert found["c"].to_pylist() == [str(v) for v in values]


def test_empty_windows_and_all_null_columns_are_answers(database_url: str) -> None:
    write_table(
        database_url, "t", {"at": STAMP, "x": sa.Float, "s": sa.Text}, hours(3, x=lambda i: None, s=lambda i: None)
    )
    with opened(database_url) as source:
        model = config()
        found = table_of(source, model)
        later = Window(WINDOW.end, WINDOW.end + timedelta(days=1))
        assert list(source.read_inputs(model, source.roles(model), later, now=NOW)) == []
        assert source.extent(model, source.roles(model)) == (DAY, DAY + timedelta(hours=2))
    assert (found["x"].null_count, found["s"].null_count) == (3, 3)


def test_an_empty_table_has_no_extent(database_url: str) -> None:
    write_table(database_url, "t", {"at": STAMP, "x": sa.Float}, [])
    with opened(database_url) as source:
        roles = source.roles(config())
        assert roles.features == {"x": "numeric"}
        assert source.extent(config(), roles) is None


def test_roles_are_guessed_only_from_plain_names(database_url: str) -> None:
    kinds = {"request_id": sa.Text, "at": STAMP, "score": sa.Float, "prediction": sa.Integer, "label": sa.Integer,
             "model_version": sa.Text, "amount": sa.Float, "country": sa.Text, "token": sa.Text, "born": sa.Date}  # fmt: skip
    rows = hours(100, request_id=lambda i: f"r{i}", score=lambda i: i / 100, prediction=lambda i: i % 2,
                 label=lambda i: i % 2, model_version=lambda i: "v1", amount=lambda i: i, country=lambda i: "AB"[i % 2],
                 token=lambda i: f"{i:040x}", born=lambda i: DAY.date())  # fmt: skip
    write_table(database_url, "t", kinds, rows)
    with opened(database_url) as source:
        roles = source.roles(config())
    assert roles.features == {"amount": "numeric", "country": "categorical"}
    assert (roles.score, roles.decision, roles.label, roles.version) == (
        "score",
        "prediction",
        "label",
        "model_version",
    )
    assert roles.key == ("request_id",)
    assert set(roles.left_out) == set(kinds) - set(roles.features)


def test_a_configured_column_that_is_not_there_names_the_closest(database_url: str) -> None:
    write_table(database_url, "t", {"at": STAMP, "request_id": sa.Text}, [])
    with opened(database_url) as source, pytest.raises(PermanentSourceError, match="'request_id'") as caught:
        source.roles(config(key="requestid"))
    assert caught.value.reason == "column_missing"


def test_json_features_are_unpacked_one_level_down(database_url: str) -> None:
    rows = hours(4, f=lambda i: json.dumps({"a": i, "b": {"c": "x" if i else None}, "d": bool(i % 2)}))
    rows.append({"at": DAY + timedelta(hours=9), "f": "not json"})
    write_table(database_url, "t", {"at": STAMP, "f": sa.Text}, rows)
    with opened(database_url) as source:
        model = config(features={"from": "f"})
        assert source.roles(model).features == {"a": "numeric", "b.c": "categorical", "d": "categorical"}
        found = table_of(source, model)
    assert found["a"].to_pylist() == [0.0, 1.0, 2.0, 3.0, None]
    assert found["b.c"].to_pylist() == [None, "x", "x", "x", None]
    assert found["d"].to_pylist() == ["false", "true", "false", "true", None]


def test_native_json_columns_are_unpacked(postgres_url: str) -> None:
    write_table(postgres_url, "t", {"at": STAMP, "f": sa.JSON}, hours(3, f=lambda i: {"a": i}))
    with opened(postgres_url) as source:
        assert table_of(source, config(features={"from": "f"}))["a"].to_pylist() == [0.0, 1.0, 2.0]


def test_features_of_a_joined_table_do_not_multiply_rows(database_url: str) -> None:
    write_table(database_url, "t", {"at": STAMP, "id": sa.Integer, "env": sa.Text},
                hours(4, id=lambda i: i, env=lambda i: "prod" if i else "test"))  # fmt: skip
    write_table(database_url, "f", {"id": sa.Integer, "x": sa.Float, "made": STAMP, "env": sa.Text},
                [{"id": i % 3, "x": float(i), "made": DAY + timedelta(hours=i), "env": "e"} for i in range(6)])  # fmt: skip
    with opened(database_url) as source:
        model = config(key="id", where="env = 'prod'", features={"table": "f"})
        found = table_of(source, model)
    assert sorted(found["x"].to_pylist(), key=str) == [4.0, 5.0, None]


def test_a_query_gets_the_window_bound(database_url: str) -> None:
    write_table(database_url, "t", {"at": STAMP, "x": sa.Integer}, hours(48, x=lambda i: i))
    query = "SELECT at, x, '{\"a\":1}' AS note FROM t WHERE at >= :start AND at < :end;"
    with opened(database_url) as source:
        model = config(table=None, query=query)
        assert sorted(table_of(source, model)["x"].to_pylist()) == [float(i) for i in range(24)]


def test_composite_keys_join_labels(database_url: str) -> None:
    write_table(
        database_url,
        "t",
        {"at": STAMP, "a": sa.Integer, "b": sa.Text},
        hours(4, a=lambda i: i // 2, b=lambda i: "xy"[i % 2]),
    )
    write_table(database_url, "y", {"a": sa.Integer, "b": sa.Text, "label": sa.Boolean},
                [{"a": 0, "b": "y", "label": True}, {"a": 1, "b": "x", "label": False}])  # fmt: skip
    model = config(key=["a", "b"], labels={"table": "y", "absent_means": 0, "delay": "1d"}, positive=True)
    with opened(database_url) as source:
        roles = source.roles(model)
        young = pa.Table.from_batches(list(source.read_labels(model, roles, WINDOW, now=WINDOW.end)))
        ripe = pa.Table.from_batches(list(source.read_labels(model, roles, WINDOW, now=NOW)))
    assert young["__label__"].to_pylist() == [None, True, False, None]
    assert ripe["__label__"].to_pylist() == [False, True, False, False]


@pytest.mark.parametrize("positive", ["1", 1, 1.0, True, "true"])
def test_labels_in_the_same_table_compare_by_meaning(database_url: str, positive: Any) -> None:
    write_table(database_url, "t", {"at": STAMP, "label": sa.Boolean}, hours(3, label=lambda i: [True, False, None][i]))
    model = config(labels={}, positive=positive)
    with opened(database_url) as source:
        found = pa.Table.from_batches(list(source.read_labels(model, source.roles(model), WINDOW, now=NOW)))
    assert found["__label__"].to_pylist() == [True, False, None]


def test_the_generic_cursor_gives_what_adbc_gives(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"at": STAMP, "n": sa.Integer, "d": sa.Numeric(12, 3), "b": sa.Boolean, "s": sa.Text}
    write_table(
        database_url,
        "t",
        kinds,
        hours(24, n=lambda i: i, d=lambda i: i / 8, b=lambda i: i % 2 == 0, s=lambda i: f"v{i % 3}"),
    )
    with opened(database_url) as fast:
        expected = table_of(fast, config())
    scanner = Database("main", SourceConfig.model_validate({"url": database_url}), adbc=False)
    found = table_of(Source(scanner, zone="UTC"), config())
    scanner.close()
    for name in expected.column_names:
        assert found[name].to_pylist() == expected[name].to_pylist()


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_folder_reads_as_a_database_does(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "lake" / "t"
    folder.mkdir(parents=True)
    for part in range(3):
        at = [DAY + timedelta(hours=20 * part + i) for i in range(20)]
        table = pa.table({"at": pa.array(at, pa.timestamp("us", tz="UTC")), "id": [f"k{i % 15}" for i in range(20)],
                          "x": np.arange(20.0) + part, "b": [i % 2 == 0 for i in range(20)]})  # fmt: skip
        (pq.write_table if ending == "parquet" else pcsv.write_csv)(table, folder / f"{part}.{ending}")
    source = open_source(
        "lake", SourceConfig.model_validate({"path": str(tmp_path / "lake"), "format": ending}), zone="UTC"
    )
    found = table_of(source, config())
    assert found.num_rows == 24
    assert set(found["b"].to_pylist()) == {"true", "false"}
    model = config(key="id")
    stream = source.read_inputs(model, source.roles(model), WINDOW, now=NOW)
    assert sum(batch.num_rows for batch in stream) == 15
    assert stream.duplicates == 9
    skew = config(key="id", skew={"offline": {"table": "t"}, "sample": 10})
    pairs = source.read_pairs(skew, source.roles(skew), WINDOW, now=NOW)
    assert pairs.n_matched == 10
    with pytest.raises(PermanentSourceError, match="no table"):
        source.roles(config(table="tt"))


def test_a_missing_sqlite_file_is_not_created(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'none.db'}") as source, pytest.raises(PermanentSourceError) as caught:
        source.roles(config())
    assert caught.value.reason == "file_missing"
    assert list(tmp_path.iterdir()) == []


def test_no_secret_reaches_a_message() -> None:
    with (
        opened("postgresql://me:hunter2@127.0.0.1:1/db?connect_timeout=1") as source,
        pytest.raises(TransientSourceError) as caught,
    ):
        source.roles(config())
    assert "hunter2" not in str(caught.value)
    assert caught.value.reason == "unreachable"


def test_a_slow_statement_and_a_locked_table_are_transient(postgres_url: str) -> None:
    write_table(postgres_url, "t", {"at": STAMP, "x": sa.Float}, hours(3, x=lambda i: i))
    slow = config(table=None, query="SELECT at, x, pg_sleep(3) IS NULL AS b FROM t")
    source = open_source(
        "main", SourceConfig.model_validate({"url": postgres_url, "statement_timeout": "1s"}), zone="UTC"
    )
    with pytest.raises(TransientSourceError, match="57014"):
        source.roles(slow)
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TransientSourceError):
            source.roles(config())
    source.close()


def test_sessions_are_read_only(database_url: str) -> None:
    write_table(database_url, "t", {"at": STAMP}, [])
    scanner = Database("main", SourceConfig.model_validate({"url": database_url}))
    with pytest.raises(PermanentSourceError) as caught, scanner._connection() as connection:
        connection.exec_driver_sql("DELETE FROM t")
    assert caught.value.reason == "read_only"
    scanner.close()


def test_an_error_in_the_fetching_thread_is_raised_to_the_reader() -> None:
    def broken() -> Any:
        yield pa.RecordBatch.from_pydict({"x": [1]})
        raise TransientSourceError("gone", reason="db")

    stream = prefetch(broken())
    assert next(stream).num_rows == 1
    with pytest.raises(TransientSourceError, match="gone"):
        next(stream)


def test_leaving_early_closes_the_fetch() -> None:
    closed = []

    def endless() -> Any:
        try:
            while True:
                yield pa.RecordBatch.from_pydict({"x": [1]})
        finally:
            closed.append(True)

    stream = prefetch(endless())
    next(stream)
    stream.close()
    assert closed == [True]


def test_a_fingerprint_follows_the_rows(database_url: str) -> None:
    write_table(database_url, "t", {"at": STAMP, "x": sa.Integer}, hours(3, x=lambda i: i))
    model = config()
    with opened(database_url) as source:
        roles = source.roles(model)
        marks = [source.fingerprints(model, roles, [WINDOW], job=Job.INPUTS, now=NOW) for _ in range(2)]
        engine = sa.create_engine(database_url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM t WHERE x = 1")
        marks.append(source.fingerprints(model, roles, [WINDOW], job=Job.INPUTS, now=NOW))
    assert marks[0] == marks[1] != marks[2]


def test_importance_and_file_baselines_are_read(database_url: str, tmp_path: Path) -> None:
    write_table(
        database_url, "t", {"at": STAMP, "x": sa.Integer, "b": sa.Boolean}, hours(3, x=lambda i: i, b=lambda i: True)
    )
    write_table(database_url, "w", {"feature": sa.Text, "importance": sa.Float}, [{"feature": "x", "importance": 0.5}])
    pcsv.write_csv(pa.table({"x": [1, 2], "b": [True, False]}), tmp_path / "train.csv")
    model = config(baseline={"file": str(tmp_path / "train.csv")}, features={"importance": {"table": "w"}})
    with opened(database_url) as source:
        roles = source.roles(model)
        assert source.read_importance(model.features.importance) == {"x": 0.5}
        found = pa.Table.from_batches(list(source.read_relation(model, roles)))
    assert found["x"].to_pylist() == [1.0, 2.0]
    assert found["b"].to_pylist() == ["true", "false"]
    assert datetime.now(UTC) > DAY


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_bound_between_two_ticks_of_a_column_is_the_next_tick(unit: str) -> None:
    """Parquet's milliseconds and the moment just after now: what lies before the one lies before the other."""
    kind = pa.timestamp(unit, tz="UTC")
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    rows = pa.array([now - timedelta(seconds=1), now, now + timedelta(seconds=1)], pa.timestamp("us", tz="UTC")).cast(
        kind
    )
    bound = times.scalar(now + timedelta(microseconds=1), kind)
    assert pc.less(rows, bound).to_pylist() == [True, True, False]
