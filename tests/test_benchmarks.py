"""The benchmark's table says what was measured and no more; its data are the same each time."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest

from benchmarks import data, delay, delay_scores, delay_tables, lateness, table
from benchmarks.measured import DOCS, Measured

RUNS = [
    {"job": "floor_parquet", "rows": 1_000_000, "seconds": 0.2, "peak_mb": 500.0},
    {"job": "ours_parquet", "rows": 1_000_000, "seconds": 0.6, "peak_mb": 450.0},
    {"job": "ours_parquet", "rows": 1_000_000, "seconds": 0.44, "peak_mb": 470.0},
    {"job": "evidently", "rows": 1_000_000, "seconds": 100.0, "peak_mb": 4600.0},
    {"job": "fetch_sqlite", "rows": 1_000_000, "failed": "no disk"},
]


def test_targets_are_met_missed_or_not_measured():
    told = {one["target"]: one for one in table.targets(RUNS)}
    parquet = told["Parquet: our whole job ÷ Parquet: decoding alone"]
    assert parquet["value"] == 0.44 / 0.2
    assert parquet["met"] is True
    assert told["Evidently ÷ our job from Parquet"]["met"] is True
    slow = [run | {"seconds": run.get("seconds", 0) * 3} if run["job"] == "ours_parquet" else run for run in RUNS]
    told = {one["target"]: one for one in table.targets(slow)}
    assert told["Parquet: our whole job ÷ Parquet: decoding alone"]["met"] is False
    assert told["SQLite: our whole job ÷ SQLite: ADBC fetch alone"]["met"] is None


def test_the_tables_go_between_the_marks_of_the_page():
    machine = {"processors": 2, "processor": "p", "python": "3.11", "load": (0.1, 0.2, 0.3)}
    report = {"table": table.rows(RUNS), "targets": table.targets(RUNS), "machine": machine, "measured_at": "now"}
    other = "<!-- bench-large -->\nkept\n<!-- /bench-large -->"
    page = f"above\n<!-- bench -->\nold\n<!-- /bench -->\n{other}\nbelow\n"
    written = table.into(page, report, block="bench")
    assert written.startswith("above\n")
    assert written.endswith("below\n")
    assert "old" not in written
    assert "| Parquet: our whole job | 1,000,000 | 0.44 |" in written
    assert other in written
    assert table.into(written, report, block="bench") == written


def test_the_same_rows_are_made_each_time_however_many_follow():
    few, many = (next(data.chunks(rows)).drop_columns("at") for rows in (data.CHUNK, 2 * data.CHUNK))
    assert few.equals(many)
    assert few.schema.field("n03").type == pa.int64()
    assert few.column("n00").null_count > 0
    assert few.column("n01").null_count == 0


def test_a_measured_table_goes_between_its_marks_with_the_command_that_made_it() -> None:
    table = Measured("benchmarks.some", "some table", {"runs": 3, "seed": 0})
    page = "above\n<!-- some table: begin -->\nold\n<!-- some table: end -->\nbelow\n"
    asked = table.options(table.parser("doc").parse_args(["--runs", "5"]))
    written = table.into(page, "| new |", asked=asked, said="so many runs.")
    assert re.fullmatch(
        r"above\n<!-- some table: begin -->\nMeasured \d{4}-\d\d-\d\d with `python -m benchmarks.some --runs 5 --seed 0`: "
        r"so many runs.\n\n\| new \|\n<!-- some table: end -->\nbelow\n",
        written,
    )
    with pytest.raises(ValueError, match="expected a page"):
        table.into("nothing", "| new |", asked=asked, said="")


@pytest.mark.parametrize("module", [delay, delay_scores, delay_tables, lateness])
def test_each_measured_table_has_its_place_in_the_docs(module: Any) -> None:
    assert module.TABLE.module == module.__name__
    asked = module.TABLE.options(module.TABLE.parser("").parse_args([]))
    assert module.TABLE.into(DOCS.read_text(encoding="utf-8"), "| new |", asked=asked, said="")
