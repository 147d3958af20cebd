"""Windows of logged data, read alike from PostgreSQL and SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from databases import write_table

from monitor.config import ModelConfig, SourceConfig
from monitor.models import Window
from monitor.sources import PermanentSourceError, Source, open_source

DAY = datetime(2026, 1, 5, tzinfo=UTC)
WINDOW = Window(DAY, DAY + timedelta(days=1))
NOW = DAY + timedelta(days=40)
STAMP = sa.DateTime(timezone=True)


@contextmanager
def opened(url: str, zone: str = "UTC") -> Iterator[Source]:
    source = open_source("main", SourceConfig.model_validate({"url": url}), zone=zone)
    try:
        yield source
    finally:
        source.close()


def table_of(source: Source, model: ModelConfig, window: Window | None = WINDOW, now: datetime = NOW) -> pa.Table:
    batches = list(source.read_inputs(model, source.roles(model), window, now=now))
    return pa.Table.from_batches(batches) if batches else pa.table({})


def config(**more: Any) -> ModelConfig:
    return ModelConfig.model_validate({"table": "t", "time": "at"} | more)


def hours(count: int, **columns: Any) -> list[dict[str, Any]]:
    return [{"at": DAY + timedelta(hours=i), **{k: v(i) for k, v in columns.items()}} for i in range(count)]


def test_a_window_is_half_open_and_values_are_floats_and_categories(database_url: str) -> None:
    kinds = {"at": STAMP, "n": sa.Integer, "d": sa.Numeric(12, 3), "f": sa.Float, "b": sa.Boolean, "s": sa.Text}
    rows = hours(30, n=lambda i: i, d=lambda i: i / 8, f=lambda i: None if i == 3 else i + 0.1, b=lambda i: i % 2 == 0,
                 s=lambda i: "é" if i % 3 else "")  # fmt: skip
    write_table(database_url, "t", kinds, rows)
    with opened(database_url) as source:
        found = table_of(source, config())
    assert found.num_rows == 24
    assert sorted(found["n"].to_pylist()) == [float(i) for i in range(24)]
    assert found["d"].to_pylist() == [i / 8 for i in range(24)]
    assert found["f"].null_count == 1
    assert set(found["b"].to_pylist()) == {"true", "false"}
    assert set(found["s"].to_pylist()) == {"é", ""}
    assert found["__time__"].to_pylist()[0] == DAY


def test_the_last_row_of_a_key_counts(database_url: str) -> None:
    rows = [{"at": DAY + timedelta(hours=i), "id": "a" if i < 3 else f"k{i}", "x": i} for i in range(6)]
    write_table(database_url, "t", {"at": STAMP, "id": sa.Text, "x": sa.Integer}, rows)
    with opened(database_url) as source:
        model = config(key="id")
        stream = source.read_inputs(model, source.roles(model), WINDOW, now=NOW)
        found = pa.Table.from_batches(list(stream))
    assert stream.duplicates == 2
    assert sorted(found["x"].to_pylist()) == [2.0, 3.0, 4.0, 5.0]


def test_a_label_counts_from_its_landing(database_url: str) -> None:
    write_table(database_url, "t", {"at": STAMP, "id": sa.Text, "score": sa.Float},
                hours(4, id=lambda i: f"k{i}", score=lambda i: i / 4))  # fmt: skip
    landed = [("k0", 1, 2), ("k0", 0, 9), ("k1", 1, 3), ("k9", 1, 2)]
    write_table(database_url, "y", {"id": sa.Text, "label": sa.Integer, "seen": STAMP},
                [{"id": k, "label": v, "seen": DAY + timedelta(days=d)} for k, v, d in landed])  # fmt: skip
    model = config(key="id", threshold=0.5, labels={"table": "y", "time": "seen"})
    with opened(database_url) as source:
        roles = source.roles(model)
        early = pa.Table.from_batches(list(source.read_labels(model, roles, WINDOW, now=DAY + timedelta(days=2))))
        stream = source.read_labels(model, roles, WINDOW, now=NOW)
        late = pa.Table.from_batches(list(stream))
        looks = [DAY + timedelta(days=d) for d in (2, 3, 4)]
        counts = [source.n_landed(model, roles, [WINDOW], now=at)[WINDOW] for at in looks]
        tables = [source.label_table(model, now=at) for at in looks]
        news = [source.which_landed(model, roles, [WINDOW], since=looks[0], now=at) for at in looks]
    assert early["__label__"].to_pylist() == [True, None, None, None]
    assert late["__label__"].to_pylist() == [False, True, None, None]
    assert late["__decision__"].to_pylist() == [False, False, True, True]
    assert stream.contradictions == 1
    assert counts == [1, 2, 2], "that of a key that no prediction has is not among them"
    assert [each[0] for each in tables if each] == [2, 3, 3]
    assert news == [set(), {WINDOW}, {WINDOW}]
    assert stream.n_known == 3


@pytest.mark.parametrize("join", ["exact", "asof"])
def test_pairs_stand_row_by_row(database_url: str, join: str) -> None:
    write_table(database_url, "t", {"at": STAMP, "id": sa.Integer, "x": sa.Float},
                hours(20, id=lambda i: i, x=lambda i: i * 1.5))  # fmt: skip
    offline = [{"id": i, "x": i * 1.5, "seen": DAY + timedelta(hours=i - 1)} for i in range(15)]
    offline += [{"id": 3, "x": -1.0, "seen": DAY + timedelta(hours=5)}]
    write_table(database_url, "o", {"id": sa.Integer, "x": sa.Float, "seen": STAMP}, offline)
    skew = {"offline": {"table": "o", "time": "seen"}, "join": join, "sample": 18}
    with opened(database_url) as source:
        model = config(key="id", skew=skew)
        found = source.read_pairs(model, source.roles(model), WINDOW, now=NOW)
    assert (found.n_window, found.n_sampled) == (20, 18)
    assert found.duplicate_offline == (0 if join == "asof" else 1)
    online, far = found.online["x"].to_pylist(), found.offline["x"].to_pylist()
    for a, b, hit in zip(online, far, found.matched, strict=True):
        assert hit == (a < 15 * 1.5)
        assert b is None if not hit else b == (-1.0 if a == 4.5 and join == "exact" else a)


def test_a_missing_table_names_the_closest(database_url: str) -> None:
    write_table(database_url, "predictions", {"at": STAMP}, [])
    with opened(database_url) as source, pytest.raises(PermanentSourceError) as caught:
        source.roles(config(table="predictons"))
    assert caught.value.reason == "table_missing"
    assert caught.value.closest == ("predictions",)
