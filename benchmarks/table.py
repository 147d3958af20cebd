"""From what was measured to a table of times, memory and ratios, and to the targets: met, or by how much not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Runs = Sequence[dict[str, Any]]

FLOOR = {"ours_parquet": "floor_parquet", "ours_postgres": "floor_copy", "ours_sqlite": "fetch_sqlite"}
ALONE = (
    "rewindow",
    "stored_size",
    "wide",
    "distinct",
    "segments",
    "daemon",
    "idle",
    "starts",
    "labels",
    "label_memory",
)
KEYS = {"": "whole numbers", "_text": "texts"}
"""Keys of predictions and labels, by what the names of their tables end with."""
NAMES = {
    "floor_parquet": "Parquet: decoding alone",
    "ours_parquet": "Parquet: our whole job",
    "floor_copy": "PostgreSQL: raw COPY BINARY",
    "fetch_postgres": "PostgreSQL: ADBC fetch alone",
    "ours_postgres": "PostgreSQL: our whole job",
    "fetch_sqlite": "SQLite: ADBC fetch alone",
    "ours_sqlite": "SQLite: our whole job",
    "evidently": "Evidently, data in pandas already",
    "scipy_columns": "scipy KS + Wasserstein, data in memory already",
    "read_sql_postgres": "pandas.read_sql from PostgreSQL",
    "read_sql_sqlite": "pandas.read_sql from SQLite",
    "rewindow": "90 daily profiles × 500 features, windowed anew",
    "stored_size": "stored profiles",
    "wide": "10,000 features × 20,000 rows of Parquet",
    "distinct": "a column of 1,000,000 distinct texts, and one of numbers",
    "segments": "50 columns × 400,000 rows, without and by a segment column of 5 and of 20 values",
    "daemon": "2,000 windows in one process",
    "idle": "`monitor worker` at rest, twice 20 seconds",
    "labels": "1,000,000 predictions and 800,000 labels, from each storage, with two kinds of keys, three times each",
    "label_memory": "the same of 1,000,000 and of 4,000,000 predictions, from Parquet",
    "starts": "commands on a small store, five times each",
}


def best(runs: Runs, job: str, rows: int, what: str = "seconds") -> float | None:
    """The least of what was measured: other programs only ever add."""
    found = [run[what] for run in runs if run["job"] == job and run["rows"] == rows and what in run]
    return min(found, default=None)


def rows(runs: Runs) -> list[dict[str, Any]]:
    """One row for each job and size, with its ratio to its floor."""
    answer = []
    for job, size in dict.fromkeys((run["job"], run["rows"]) for run in runs):
        floor = best(runs, FLOOR[job], size) if job in FLOOR else None
        seconds = best(runs, job, size)
        answer.append(
            {
                "job": job,
                "rows": size,
                "seconds": seconds,
                "peak_mb": best(runs, job, size, "peak_mb"),
                "to_floor": seconds / floor if seconds and floor else None,
            }
        )
    return answer


def targets(runs: Runs) -> list[dict[str, Any]]:
    """Each target with what was measured; ``met`` is ``None`` where a part was not measured."""
    sizes = sorted({run["rows"] for run in runs if run["rows"]})
    big = 1_000_000 if 1_000_000 in sizes else (sizes[-1] if sizes else 0)
    told = [
        *(_at_most(f"{NAMES[job]} ÷ {NAMES[floor]}", _ratio(runs, job, floor, big), limit)
          for job, floor, limit in (("ours_parquet", "floor_parquet", 2.5), ("ours_postgres", "floor_copy", 2.0),
                                    ("ours_sqlite", "fetch_sqlite", 1.2))),
        _at_least("Evidently ÷ our job from Parquet", _ratio(runs, "evidently", "ours_parquet", big), 150),
        _at_least("(read_sql + Evidently) ÷ our job from PostgreSQL", _both(runs, big), 25),
        _at_most("memory from PostgreSQL, MB", best(runs, "ours_postgres", big, "peak_mb"), 500),
        _at_most("memory from SQLite, MB", best(runs, "ours_sqlite", big, "peak_mb"), 500),
        _at_most("memory from Parquet, MB", best(runs, "ours_parquet", big, "peak_mb"), 1000),
    ]  # fmt: skip
    if 10_000_000 in sizes and 1_000_000 in sizes:
        for job in FLOOR:
            growth = _grown(runs, job, "seconds")
            told.append(_at_most(f"{NAMES[job]}: time of 10M ÷ 1M", growth, 11))
            told.append(_at_most(f"{NAMES[job]}: memory of 10M ÷ 1M", _grown(runs, job, "peak_mb"), 1.1))
    return told + (_alone(runs) if any(run["job"] in ALONE for run in runs) else [])


def _alone(runs: Runs) -> list[dict[str, Any]]:
    return [
        _at_most("90 days × 500 features, s", best(runs, "rewindow", 0), 2),
        _at_most("largest stored profile, bytes", _detail(runs, "stored_size", "largest"), 4096),
        _at_most("10,000 features, MB", best(runs, "wide", 0, "peak_mb"), 1000),
        *(_at_most(f"by a segment column of {n} values ÷ without", _detail(runs, "segments", f"by_{n}"), limit)
          for n, limit in ((5, 2.0), (20, 2.0))),
        *(_at_most(f"labels from {name}, keys {keys}: ours ÷ bare read",
                   _detail(runs, "labels", f"{name.lower()}{ending}_ours_ratio"), 2.5)
          for name in ("Parquet", "SQLite", "PostgreSQL") for ending, keys in KEYS.items()),
        *(_at_most(f"labels from {name}, keys {keys}: seeing that {what} ÷ bare read",
                   _detail(runs, "labels", f"{name.lower()}{ending}_{how}_ratio"), limit)
          for name in ("Parquet", "SQLite", "PostgreSQL") for ending, keys in KEYS.items()
          for how, what, limit in (("unchanged", "none landed", 1.0), ("landed", "100 landed", 1.5))),
        _at_most("labels, MB", best(runs, "labels", 0, "peak_mb"), 1000),
        _at_most("labels, MB of 4,000,000 predictions", _detail(runs, "label_memory", "peak_4000000"), 1000),
        _at_most("2,000 windows: memory of the last ÷ the 200th", _detail(runs, "daemon", "growth"), 1.05),
        _at_most("daemon that found nothing to do, MB", _detail(runs, "idle", "empty_mb"), 150),
        _at_most("daemon at rest after five windows, MB", _detail(runs, "idle", "worked_mb"), 150),
        _at_most("daemon at rest, share of a core", _detail(runs, "idle", "worked_share"), 0.01),
        _at_most("monitor --help, s", _detail(runs, "starts", "help"), 0.5),
        *(_at_most(f"monitor {name}, s", _detail(runs, "starts", name), 1.0)
          for name in ("status", "results", "incidents")),
    ]  # fmt: skip


def _ratio(runs: Runs, job: str, other: str, size: int) -> float | None:
    a, b = best(runs, job, size), best(runs, other, size)
    return a / b if a and b else None


def _both(runs: Runs, size: int) -> float | None:
    read, work, ours = (best(runs, job, size) for job in ("read_sql_postgres", "evidently", "ours_postgres"))
    return (read + work) / ours if read and work and ours else None


def _grown(runs: Runs, job: str, what: str) -> float | None:
    a, b = best(runs, job, 10_000_000, what), best(runs, job, 1_000_000, what)
    return a / b if a and b else None


def _detail(runs: Runs, job: str, name: str) -> float | None:
    return next((float(run["detail"][name]) for run in runs if run["job"] == job and "detail" in run), None)


def _at_most(name: str, value: float | None, limit: float) -> dict[str, Any]:
    return {"target": name, "limit": f"≤ {limit:g}", "value": value, "met": None if value is None else value <= limit}


def _at_least(name: str, value: float | None, limit: float) -> dict[str, Any]:
    return {"target": name, "limit": f"≥ {limit:g}", "value": value, "met": None if value is None else value >= limit}


def text(report: dict[str, Any]) -> str:
    """Two tables in Markdown: what was measured, and the targets."""
    lines = ["| what | rows | seconds | peak MB | ÷ floor |", "|---|---:|---:|---:|---:|"]
    for row in report["table"]:
        name, size = NAMES.get(row["job"], row["job"]), f"{row['rows']:,}" if row["rows"] else ""
        lines.append(
            f"| {name} | {size} | {_number(row['seconds'])} | {_number(row['peak_mb'])} | {_number(row['to_floor'])} |"
        )
    lines += ["", "| target | limit | measured | |", "|---|---:|---:|---|"]
    for row in report["targets"]:
        word = {True: "met", False: "**missed**", None: "not measured"}[row["met"]]
        lines.append(f"| {row['target']} | {row['limit']} | {_number(row['value'])} | {word} |")
    return "\n".join(lines)


def into(page: str, report: dict[str, Any], *, block: str) -> str:
    """The page with the tables, when and on what they were measured, between the two marks of ``block``."""
    first, last = f"<!-- {block} -->", f"<!-- /{block} -->"
    if first not in page or last not in page:
        raise ValueError(f"the page has no place for these tables: {first} and {last}")
    before, _, rest = page.partition(first)
    _, _, after = rest.partition(last)
    machine = report["machine"]
    where = f"{machine['processors']} processors ({machine['processor']}), Python {machine['python']}"
    load = ", ".join(f"{number:.1f}" for number in machine["load"])
    head = f"Measured {report['measured_at']} on {where}; load averages at the end: {load}."
    return f"{before}{first}\n{head}\n\n{text(report)}\n{last}{after}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
