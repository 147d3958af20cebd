"""Spark as a source: what is counted in its workers is what is counted here, and so is all that is stored of it."""

from __future__ import annotations

import pickle
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spark_here import needs_spark, spark_block
from wild_values import KINDS, NOW, NUMERIC, WINDOW, frozen, integers, table

from monitor import passes
from monitor.config import Config, ModelConfig, SourceConfig
from monitor.models import Window
from monitor.run import run_due
from monitor.service import Service
from monitor.sources import PermanentSourceError, Source, TransientSourceError, open_source
from monitor.sources.reading import InputStream
from monitor.sources.shaping import ShapedWork
from monitor.store import Store

pytestmark = pytest.mark.filterwarnings("ignore")  # PySpark's own: of pandas 3, and of sockets it leaves open
START = datetime(2026, 3, 1, tzinfo=UTC)
WORDS = {"word": ["", "a"]}


# --- what needs no Spark --------------------------------------------------------------------------


def shaped() -> pa.Table:
    flags = table().column("flag").cast(pa.string())
    return table().set_column(table().column_names.index("flag"), "flag", flags).rename_columns(
        ["__time__", *table().column_names[1:]]
    )  # fmt: skip


def in_parts(rows: pa.Table, *ends: int) -> InputStream:
    """A stream whose rows lie in parts, each worked on by what a pickle brings there; one part is empty."""

    def spread(work: Any) -> Iterator[tuple[str, bytes]]:
        sent = pickle.dumps(work)
        for start, end in zip((0, *ends), (*ends, rows.num_rows), strict=True):
            part = rows.slice(start, end - start).combine_chunks()
            yield from pickle.loads(sent)(iter(part.to_batches(max_chunksize=321)))

    return InputStream(lambda _: iter(rows.to_batches()), spread=spread)


def told(seen: passes.WindowCounts) -> dict[str, Any]:
    answer: dict[str, Any] = {name: integers(profile) for name, profile in seen.columns.items()}
    for segment, columns in seen.segments.items():
        answer |= {f"{segment} {name}": integers(profile) for name, profile in columns.items()}
    return answer | {"rows": seen.n_rows, "times": (seen.oldest, seen.newest), "versions": seen.versions}


def test_parts_add_up_to_the_whole():
    rows, specs = shaped(), frozen()
    whole, together, _ = passes.count(
        InputStream(lambda _: iter(rows.to_batches())), specs, segments=WORDS, together=NUMERIC
    )
    parts, again, _ = passes.count(in_parts(rows, 1, 1, 1200, 2999), specs, segments=WORDS, together=NUMERIC)
    assert told(parts) == told(whole)
    assert parts.segments
    assert together is not None
    assert again is not None
    assert again.n_rows == together.n_rows
    assert again.names == together.names
    assert np.array_equal(again.n, together.n)
    assert np.allclose(again.z, together.z, equal_nan=True)


def test_no_rows_at_all_are_counted_as_such():
    none = shaped().slice(0, 0)
    seen, together, _ = passes.count(in_parts(none), frozen(), segments=WORDS, together=NUMERIC)
    assert (seen.n_rows, seen.segments, together) == (0, {}, None)
    assert {profile.n for profile in seen.columns.values()} == {0}


def test_cells_learned_in_parts_are_those_of_the_whole():
    rows = shaped()
    how: dict[str, Any] = {"bins": 10, "max_categories": 4, "decision_edges": {"tied": [0.25]}}
    whole, n_rows = passes.learn_specs([InputStream(lambda _: iter(rows.to_batches()))], KINDS, **how)
    parts, n_parts = passes.learn_specs([in_parts(rows, 700, 701), in_parts(rows.slice(0, 0))], KINDS, **how)
    assert n_rows == n_parts == rows.num_rows
    for name in NUMERIC:
        assert np.array_equal(parts[name].edges, whole[name].edges)  # type: ignore[union-attr]
        assert np.array_equal(parts[name].bins, whole[name].bins)  # type: ignore[union-attr]
        assert np.array_equal(parts[name].slack, whole[name].slack)  # type: ignore[union-attr]
    assert parts["word"].categories == whole["word"].categories  # type: ignore[union-attr]


def test_the_work_that_is_sent_can_be_pickled_with_its_shape(tmp_path):
    source, model = folder(tmp_path), model_of()
    stream = source.read_inputs(model, source.roles(model), WINDOW, now=NOW)
    assert not stream.is_spread
    with pytest.raises(ValueError, match="iterate over them"):
        next(stream.each_part(lambda _: iter(())))
    shape = source._shape(model, source.roles(model), {"tied": "numeric"}, span=None)
    assert pickle.loads(pickle.dumps(ShapedWork(shape, passes._Learn(KINDS, 10, 4, {})))).shape == shape


def test_without_pyspark_it_is_said_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyspark"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    source = open_source("lake", SourceConfig.model_validate({"spark": {"master": "local[2]"}}), zone="UTC")
    with pytest.raises(PermanentSourceError, match=r"source 'lake': PySpark is not installed; pip install 'ml-monitor\[spark\]'"):  # fmt: skip
        source.probe()


# --- on Spark -------------------------------------------------------------------------------------


def model_of(**more: Any) -> ModelConfig:
    told = {"table": "log", "time": "at", "features": {"numeric": NUMERIC, "categorical": ["flag", "word"]}}
    return ModelConfig.model_validate(told | more)


def folder(home: Path) -> Source:
    (home / "log").mkdir(exist_ok=True)
    pq.write_table(table().slice(0, 1234), home / "log" / "a.parquet", row_group_size=500)
    pq.write_table(table().slice(1234), home / "log" / "b.parquet", row_group_size=999)
    return open_source("log", SourceConfig.model_validate({"path": home}), zone="UTC")


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Iterator[tuple[Source, Source, Path]]:
    """The same tables as a folder of Parquet and as Spark sees that folder."""
    home = tmp_path_factory.mktemp("lake")
    plain = folder(home)
    pq.write_table(pa.table({"at": [1.5], "word": ["x"]}), home / "odd.parquet")
    spark = open_source("lake", SourceConfig.model_validate({"spark": spark_block(home)}), zone="UTC")
    yield plain, spark, home
    spark.close()


def counted(source: Source, model: ModelConfig, window: Window | None = WINDOW) -> dict[str, Any]:
    roles = source.roles(model)
    specs = {name: spec for name, spec in frozen().items() if name in roles.features}
    seen, _, _ = passes.count(source.read_inputs(model, roles, window, now=NOW), specs, segments=WORDS)
    return told(seen) | {"duplicates": seen.duplicates}


@needs_spark
@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"where": "tied > 0 AND word <> 'a'"},
        {"key": ["huge"]},
    ],
    ids=["all rows", "where", "duplicates by key"],
)
def test_spark_counts_the_same_integers(lake, more):
    plain, spark, _ = lake
    model = model_of(segments=["word"], **more)
    if "where" in more:  # files take no `where`: the rows are picked beforehand
        rows = table().filter((pa.compute.field("tied") > 0) & (pa.compute.field("word") != "a"))
        assert counted(spark, model)["rows"] == rows.num_rows
        return
    found = counted(spark, model)
    expected = counted(plain, model)
    assert (found["duplicates"] > 0) == ("key" in more)
    assert found == expected


@needs_spark
@pytest.mark.slow
def test_tables_of_the_catalogue_and_queries_are_read(lake):
    plain, spark, home = lake
    expected = counted(plain, model_of())
    by_query = model_of(table=None, query=f"SELECT * FROM parquet.`{home}/log` WHERE at >= :start AND at < :end;")
    assert counted(spark, by_query) == expected
    catalogue = open_source("catalogue", SourceConfig.model_validate({"spark": spark_block()}), zone="UTC")
    try:
        with catalogue._scanner._job() as session:  # type: ignore[attr-defined]
            session.read.parquet(str(home / "log")).createOrReplaceTempView("log")
        assert counted(catalogue, model_of()) == expected
        assert {info.name for info in catalogue.columns("log")} == set(table().column_names)
        with pytest.raises(PermanentSourceError, match=r"there is no table 'logs'; did you mean 'log'\?"):
            catalogue.columns("logs")
    finally:
        catalogue.close()


@needs_spark
@pytest.mark.slow
def test_mistakes_are_told_with_where_and_what_to_do(lake, tmp_path):
    _, spark, home = lake

    def says(told: dict[str, Any], ask: Any) -> str:
        source = open_source("lake", SourceConfig.model_validate({"spark": told}), zone="UTC")
        try:
            with pytest.raises(PermanentSourceError) as caught:
                ask(source)
        finally:
            source.close()
        return caught.value.public

    assert "there is no table 'logg'; did you mean 'log'?" in says(spark_block(home), lambda s: s.columns("logg"))
    nowhere = says(spark_block(tmp_path / "gone"), lambda s: s.columns("log"))
    assert nowhere == "source 'lake': there is no folder 'gone'; is `spark.path` right?"
    (tmp_path / "empty").mkdir()
    assert "no parquet files" in says(spark_block(tmp_path), lambda s: s.columns("empty"))
    other = says(spark_block(home) | {"format": "delta"}, lambda s: s.columns("log"))
    assert "does not know the format 'delta'" in other
    assert "spark.jars.packages" in other
    wrong = says(spark_block(), lambda s: s.roles(model_of(table=None, query="SELEC 1")))
    assert wrong == "source 'lake', the query: Spark did not accept the statement"
    elsewhere = says({"master": "local[7]"}, lambda s: s.probe())
    assert "this process runs another Spark already" in elsewhere
    assert "outside of the folder" in says(spark_block(home), lambda s: s.columns("../x"))
    with pytest.raises(PermanentSourceError, match=r"there is no column 'tide'; did you mean 'tied'"):
        spark.roles(model_of(features={"numeric": ["tide"]}))
    assert "its workers can count" in spark.probe()[0]


@needs_spark
@pytest.mark.slow
def test_a_read_that_takes_too_long_is_ended(lake):
    told = SourceConfig.model_validate({"spark": spark_block(), "statement_timeout": "2s"})
    source = open_source("slow", told, zone="UTC")
    slow = "SELECT count(*) AS n FROM range(100000000000) WHERE hash(id) = 7"
    try:
        source.probe()
        began = time.monotonic()
        with pytest.raises(TransientSourceError, match="ran into its time limit"):
            source._infos(_query(slow))
        assert time.monotonic() - began < 60
        threading.Timer(1.0, source.cancel).start()
        with pytest.raises(TransientSourceError):
            source._infos(_query(slow))
        assert source.probe()  # and it goes on
    finally:
        source.close()


def _query(text: str) -> Any:
    from monitor.sources.shapes import Relation

    return Relation(query=text)


# --- a whole run ----------------------------------------------------------------------------------

DAYS = 8


def write_lake(home: Path) -> None:
    """A log with late labels, features in a table of their own, offline values, duplicates, and a drift at the end."""
    rng = np.random.default_rng(5)
    rows = 700
    log, features, labels, offline = [], [], [], []
    for day in range(DAYS):
        shift = 1.5 if day >= DAYS - 2 else 0.0
        for i in range(rows):
            key, at = f"{day}-{i}", START + timedelta(days=day, seconds=120 * i)
            amount, score = float(np.round(rng.normal(shift), 2)), float(rng.random())
            log.append({"request_id": key, "at": at, "score": score, "version": "v1" if day < 5 else "v2"})
            features.append(
                {"request_id": key, "amount": amount, "plan": str(rng.choice(["a", "b", "c"])), "old": bool(i % 3)}
            )
            offline.append({"request_id": key, "amount": amount + (day == 6), "plan": "a"})
            if i % 5:
                landed = at + timedelta(hours=6)
                labels.append({"request_id": key, "landed": landed, "label": int(rng.random() < score)})
        log.append(log[-1] | {"at": log[-1]["at"] + timedelta(seconds=1), "score": 0.5})
    for name, records in (("log", log), ("features", features), ("labels", labels), ("offline", offline)):
        kinds = {k: pa.timestamp("us", tz="UTC") for k in ("at", "landed") if k in records[0]}
        columns = {k: pa.array([record[k] for record in records], kinds.get(k)) for k in records[0]}
        (home / name).mkdir()
        for part in range(2):
            pq.write_table(pa.table(columns).slice(part * len(records) // 2, len(records) // 2 + 1 if part else len(records) // 2), home / name / f"{part}.parquet")  # fmt: skip


def stored(home: Path, source: dict[str, Any], name: str) -> tuple[list[tuple[Any, ...]], dict[Any, Any]]:
    """All results and profiles after a run over every window."""
    config = Config.model_validate(
        {
            "store": f"sqlite:///{home / name}.db",
            "sources": {"main": source},
            "models": {
                "churn": {
                    "table": "log",
                    "time": "at",
                    "key": "request_id",
                    "score": "score",
                    "model_version": "version",
                    "threshold": 0.5,
                    "features": {"table": "features", "key": "request_id"},
                    "segments": ["plan"],
                    "baseline": {"from": "2026-03-01", "to": "2026-03-05"},
                    "labels": {
                        "table": "labels",
                        "time": "landed",
                        "label": "label",
                        "key": "request_id",
                        "delay": "1d",
                    },
                    "skew": {"offline": {"table": "offline", "key": "request_id"}, "sample": 100},
                    "min_rows": 100,
                    "start": "2026-03-05T00:00:00Z",
                }
            },
        }
    )
    store = Store.open(config.store.get_secret_value())
    service = Service(config, store)
    report = run_due(service, now=START + timedelta(days=DAYS, hours=12), worker="test")
    service.close()
    assert report.errors == []
    assert report.windows >= 9
    results = store.results("churn")
    profiles = store.profiles("churn", start=START - timedelta(days=1), end=START + timedelta(days=DAYS + 1))
    store.close()
    lines = [
        (str(r.check), r.metric, r.feature, r.segment, r.window.start, str(r.verdict), r.n_reference, r.n_current, r.value, r.p_value)
        for r in results
    ]  # fmt: skip
    kept = {(p.column, p.segment, p.window.start): p.profile for p in profiles}
    return sorted(lines, key=lambda line: tuple(str(part) for part in line[:5])), kept


@needs_spark
@pytest.mark.slow
def test_a_whole_run_stores_the_same_from_spark_as_from_parquet(tmp_path):
    home = tmp_path / "lake"
    home.mkdir()
    write_lake(home)
    plain, counts = stored(tmp_path, {"path": home}, "plain")
    spark, again = stored(tmp_path, {"spark": spark_block(home)}, "spark")
    assert {line[0] for line in plain} >= {"feature_drift", "score_drift", "performance", "skew", "quality"}
    assert any(line[5] == "alert" for line in plain)
    assert [line[:8] for line in spark] == [line[:8] for line in plain]
    for ours, theirs in zip(plain, spark, strict=True):
        for mine, other in zip(ours[8:], theirs[8:], strict=True):
            assert (other is None) == (mine is None), ours[:5]
            assert mine is None or other == pytest.approx(mine, rel=1e-9, abs=1e-12), ours[:5]
    assert set(again) == set(counts)
    for key, profile in counts.items():
        if hasattr(profile, "n") and hasattr(profile, "missing"):
            assert integers(again[key]) == integers(profile), key
