"""Production logs with one planted incident, or none, run through the whole service: who is paged, when, and for what.

The logs come from a generator that is not part of the project (``make_log.py`` in ``--shared``, by default
``../shared/data``).  One JSON line is written for each log as it is done, so that partial results count; logs that
have a line already are left out.  ``--out logs.jsonl`` runs them, ``--table logs.jsonl`` prints
what they came to, with ``--write`` into docs/statistics.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from monitor.backfill import backfill_range
from monitor.config_file import load
from monitor.models import Incident, Verdict
from monitor.run import run_due
from monitor.service import Service
from monitor.store import Store

SHARED = Path(__file__).parents[2] / "shared" / "data"
SETS = ("telco_churn", "bike_sharing_hourly", "noaa_weather", "elec2", "adult_census", "nyc_flights13")
CONTROLS = ("none", "benign_seasonality")
FAULTS = ("covariate_shift", "unit_change", "new_category", "null_burst")
SEEDS = (0, 1, 2, 3, 4)
DAY = timedelta(days=1)
DOCS = Path(__file__).parents[1] / "docs" / "statistics.md"
BEGIN, END = "<!-- logs: begin -->", "<!-- logs: end -->"

CONFIG = """
store: sqlite:///{folder}/store.db
sources: {{main: "sqlite:///{folder}/log.sqlite"}}
models:
  m:
    table: predictions
    time: event_time
    key: event_id
    score: score
    prediction: decision
    model_version: model_version
    features: {{table: features_online, key: event_id, exclude: [entity_id, event_time, "*_asof"]}}
    baseline: {{from: {start}, to: {production}}}
    start: {production}
    labels: {{table: labels, key: event_id, time: observed_at, label: label, delay: 21d}}
    skew: {{offline: {{table: features_offline, key: event_id}}}}
reports: {{dir: {folder}/reports, evidently: never}}
"""


# --- one log -------------------------------------------------------------------------------------


def make_log(
    folder: Path, *, data: str, incident: str, seed: int, n: int = 30_000, shared: Path = SHARED
) -> dict[str, Any]:
    """Write ``log.sqlite`` and ``truth.json`` into ``folder``; gives the truth."""
    what = ["--data", data, "--incident", incident, "--seed", seed, "--n", n]
    args = [sys.executable, shared / "make_log.py", *what, "--out", folder]
    subprocess.run([str(arg) for arg in args], check=True, capture_output=True, timeout=900)
    return dict(json.loads((folder / "truth.json").read_text()))


def monitor_log(folder: Path, truth: dict[str, Any], *, replay: bool = False) -> Service:
    """Run the production half of a log; the store holds the outcome.

    Parameters
    ----------
    replay
        Day by day, with the labels that had landed by then; else once, as everything is known at the log's end.
    """
    path = folder / "config.yaml"
    production = moment(truth["production_start"])
    path.write_text(
        CONFIG.format(folder=folder, start=truth["log_start"][:10], production=production.strftime("%Y-%m-%d"))
    )
    config = load(path)
    service = Service(config, Store.open(config.store.get_secret_value()))
    end = moment(truth["now"])
    if replay:
        now = production + DAY + timedelta(hours=4)
        while now <= end + DAY:
            report = run_due(service, now=now, worker="logs")
            if report.errors:
                raise RuntimeError(report.errors[0])
            now += DAY
        return service
    report = backfill_range(service, start=production, end=end, now=end + DAY, alerts=False)
    if report.errors:
        raise RuntimeError(report.errors[0])
    return service


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def told(incident: Incident) -> dict[str, Any]:
    """What there is to know of one incident, as plain data."""
    return {
        "check": incident.check.value,
        "features": incident.features,
        "opened": incident.opened_window.isoformat(),
        "onset": incident.detail.get("onset_interval"),
        "onsets": incident.detail.get("onsets"),
        "cause": incident.cause,
        "follows": "root" in incident.detail,
        "summary": incident.summary,
    }


def run_one(
    data: str, incident: str, seed: int, *, shared: Path = SHARED, replay: bool = False, keep: Path | None = None
) -> dict[str, Any]:
    """Make one log, run it, and tell what came of it; with ``keep`` its folder stays."""
    folder = Path(tempfile.mkdtemp(prefix="log-")) if keep is None else keep / f"{data}-{incident}-{seed}"
    line: dict[str, Any] = {"data": data, "incident": incident, "seed": seed, "replay": replay}
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)  # a run that was interrupted may have left half a store
    try:
        folder.mkdir(parents=True)
        truth = make_log(folder, data=data, incident=incident, seed=seed, shared=shared)
        line |= {key: truth[key] for key in ("onset", "end", "culprits", "detail", "production_start", "now")}
        line["effect"] = {name: truth["feature_effects"].get(name) for name in truth["culprits"]}
        line["made"] = round(time.monotonic() - began, 1)
        service = monitor_log(folder, truth, replay=replay)
        line["incidents"] = [told(each) for each in service.store.incidents("m")]
        line["alerts"] = sorted(
            {
                f"{r.window.start:%m-%d} {r.check.value} {r.metric} {r.feature or ''}"
                for r in service.store.results("m")
                if r.verdict is Verdict.ALERT
            }
        )
        service.close()
        service.store.close()
    except subprocess.CalledProcessError as error:
        line["failed"] = "not made: " + error.stderr.decode()[-200:]
    except Exception as error:  # noqa: BLE001 - one log that cannot be run must not end the others
        line["failed"] = f"{type(error).__name__}: {error}"[:300]
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    line["seconds"] = round(time.monotonic() - began, 1)
    return line


# --- all of them ---------------------------------------------------------------------------------


def wanted(args: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    for seed in args.seeds:
        for incident in args.incidents:
            for data in args.sets:
                yield data, incident, seed


def run_all(args: argparse.Namespace) -> None:
    out = Path(args.out)
    known = {key_of(line) for line in lines(out)} if out.exists() else set()
    tasks = [task for task in wanted(args) if task not in known]
    with ProcessPoolExecutor(args.workers) as pool, out.open("a", encoding="utf-8") as file:
        running = [
            pool.submit(run_one, *task, shared=args.shared, replay=args.replay, keep=args.keep) for task in tasks
        ]
        for done in as_completed(running):
            file.write(json.dumps(done.result(), default=str) + "\n")
            file.flush()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def key_of(line: dict[str, Any]) -> tuple[str, str, int]:
    return line["data"], line["incident"], line["seed"]


# --- what they came to -----------------------------------------------------------------------------


def found_within(line: dict[str, Any], *, windows: int = 2) -> bool:
    """Whether an incident opened within so many daily windows of the onset.

    The window that holds the onset may have but a few rows after it; the two windows after it are whole.
    """
    onset = moment(line["onset"])
    first = onset.replace(hour=0, minute=0, second=0)
    opened = [datetime.fromisoformat(each["opened"]) for each in line["incidents"]]
    return any(first <= each <= first + windows * DAY for each in opened)


def onset_of(line: dict[str, Any]) -> tuple[bool, float] | None:
    """Whether the stated interval of the culprit's incident holds the onset, and its width in days."""
    for each in line["incidents"]:
        if each["onset"] and set(each["features"]) & set(line["culprits"]):
            low, high = (datetime.fromisoformat(text) for text in each["onset"])
            return low <= moment(line["onset"]) <= high, (high - low) / DAY
    return None


def table(found: Sequence[dict[str, Any]]) -> str:
    """One row for each incident and set."""
    rows = [
        "| planted | set | logs | incident opened | within two windows | dated | onset inside "
        "| at most two windows wide | width, windows |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for incident in (*CONTROLS, *FAULTS):
        for data in (*SETS, None):
            these = [
                line
                for line in found
                if line["incident"] == incident and data in (None, line["data"]) and "failed" not in line
            ]
            if these:
                rows.append(row(incident, data or "**all**", these))
    return "\n".join(rows)


def row(incident: str, data: str, these: Sequence[dict[str, Any]]) -> str:
    opened = sum(bool(line["incidents"]) for line in these)
    if incident in CONTROLS:
        return f"| {incident} | {data} | {len(these)} | {opened} | | | | | |"
    soon = sum(found_within(line) for line in these)
    onsets = [known for line in these if (known := onset_of(line)) is not None]
    inside, narrow = sum(known[0] for known in onsets), sum(known[1] <= 2 for known in onsets)
    widths = sorted(known[1] for known in onsets)
    width = f"{widths[len(widths) // 2]:.0f}, at most {widths[-1]:.0f}" if widths else ""
    told = (incident, data, len(these), opened, soon, len(onsets), inside, narrow, width)
    return f"| {' | '.join(map(str, told))} |"


def write(told: str) -> None:
    """Put the table into the documentation, with the date."""
    before, rest = DOCS.read_text(encoding="utf-8").split(BEGIN)
    text = f"{before}{BEGIN}\nMeasured on {datetime.now(UTC):%Y-%m-%d}:\n\n{told}\n{END}{rest.split(END)[1]}"
    DOCS.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", help="the file that gets one JSON line for each log")
    parser.add_argument("--table", type=Path, help="print the table of a file of lines")
    parser.add_argument("--write", action="store_true", help="put that table into docs/statistics.md")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--incidents", nargs="+", default=[*CONTROLS, *FAULTS])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--replay", action="store_true", help="day by day, with the labels known by then")
    parser.add_argument("--keep", type=Path, help="keep the logs and stores in this folder")
    args = parser.parse_args()
    if args.table is not None:
        told = table(lines(args.table))
        print(told)
        if args.write:
            write(told)
        return
    if not (args.shared / "make_log.py").is_file():
        print(f"there is no make_log.py in {args.shared}: nothing to run", file=sys.stderr)
        return
    run_all(args)


if __name__ == "__main__":
    main()
