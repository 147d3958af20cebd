"""Production logs with one labelled incident, made by the generator that lies beside the project, and their config."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from monitor.backfill import backfill_range
from monitor.config_file import load
from monitor.service import Service
from monitor.store import Store

GENERATOR = Path(__file__).parents[2] / "shared" / "data" / "make_log.py"

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


def make_log(folder: Path, *, data: str, incident: str, seed: int, n: int = 30_000) -> dict[str, Any]:
    """Write ``log.sqlite`` and ``truth.json`` into ``folder``; gives the truth."""
    what = ["--data", data, "--incident", incident, "--seed", seed, "--n", n]
    args = [sys.executable, GENERATOR, *what, "--out", folder]
    subprocess.run([str(arg) for arg in args], check=True, capture_output=True, timeout=300)
    return dict(json.loads((folder / "truth.json").read_text()))


def monitor_log(folder: Path, truth: dict[str, Any]) -> Service:
    """Run the production half of a log, as it is known at the log's end; the store holds the outcome."""
    path = folder / "config.yaml"
    production = moment(truth["production_start"])
    path.write_text(
        CONFIG.format(folder=folder, start=truth["log_start"][:10], production=production.strftime("%Y-%m-%d"))
    )
    config = load(path)
    service = Service(config, Store.open(config.store.get_secret_value()))
    now = moment(truth["now"])
    report = backfill_range(service, start=production, end=now, now=now + timedelta(days=1), alerts=False)
    assert not report.errors
    return service


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
