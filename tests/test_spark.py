"""Spark counts the same integers: here in two local processes, with Java."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detectors.profiles import NumericProfile, from_bytes, spec_to_bytes
from monitor import counting, spark

KINDS = {"x": "numeric", "n": "numeric", "word": "categorical", "flag": "categorical"}


def table(rows: int = 20_000) -> pa.Table:
    rng = np.random.default_rng(8)
    x = np.where(rng.random(rows) < 0.01, np.inf, np.round(rng.normal(size=rows), 2))
    x = np.where(rng.random(rows) < 0.02, np.nan, x)
    return pa.table(
        {
            "x": pa.array(x, mask=rng.random(rows) < 0.02),
            "n": pa.array(rng.integers(2**53 - 9, 2**53 + 9, rows)),
            "word": pa.array(
                rng.choice(["", "a", "b'c", "Ä"], rows).tolist(), pa.string(), mask=rng.random(rows) < 0.1
            ),
            "flag": pa.array(rng.random(rows) < 0.4),
        }
    )


def shaped() -> list[pa.RecordBatch]:
    columns = {name: spark._shape(table().column(name).combine_chunks(), numeric=kind == "numeric")
               for name, kind in KINDS.items()}  # fmt: skip
    return pa.table(columns).to_batches()


def integers(profile: Any) -> list[Any]:
    if isinstance(profile, NumericProfile):
        return [profile.n, profile.missing, profile.pos_inf, *profile.cells.tolist()]
    return [profile.n, profile.missing, profile.unseen, *profile.counts.tolist()]


def test_partitions_leave_one_profile_a_column_that_add_up():
    specs, _ = counting.learn_specs(shaped(), KINDS, bins=10, max_categories=3)
    blobs = {name: spec_to_bytes(spec) for name, spec in specs.items()}
    whole = counting.count(shaped(), specs).columns
    parts = [
        next(spark.count_partition(iter(table().slice(a, 5000).to_batches()), blobs)) for a in range(0, 20_000, 5000)
    ]
    for at, name in enumerate(specs):
        one = [integers(from_bytes(part.column("counts")[at].as_py())) for part in parts]
        first = sum(numbers[0] for numbers in one)
        assert first == whole[name].n
        assert [sum(column) for column in zip(*one, strict=True)] == integers(whole[name])


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    pytest.importorskip("pyspark", reason="the extra `spark` is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    import warnings

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        made = spark.open_session(
            {"spark.master": "local[2]", "spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2"}
        )
        yield made
        made.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_counts_the_same_integers(session, tmp_path):
    pq.write_table(table(), tmp_path / "log.parquet", row_group_size=3000)
    specs, _ = counting.learn_specs(shaped(), KINDS, bins=10, max_categories=3)
    frame = spark.open_frame(session, path=str(tmp_path / "log.parquet"))
    found = spark.count(frame.repartition(5), specs)
    expected = counting.count(shaped(), specs).columns
    assert {name: integers(found[name]) for name in specs} == {name: integers(expected[name]) for name in specs}
    frame.createOrReplaceTempView("log")
    again = spark.count(spark.open_frame(session, query="SELECT * FROM log"), specs)
    assert integers(again["x"]) == integers(expected["x"])


def test_a_frame_needs_a_place():
    with pytest.raises(ValueError, match="table, a path or a query"):
        spark.open_frame(None)
