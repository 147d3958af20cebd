"""Raw values of mismatched requests are kept only where somebody asked for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from databases import write_table

from monitor.config_file import load
from monitor.models import Check, Result
from monitor.run import run_due
from monitor.service import Service
from monitor.store import Store

DAY = datetime(2026, 3, 2, tzinfo=UTC)
CONFIG = """
store: sqlite:///{folder}/store.db
sources: {{main: "sqlite:///{folder}/log.db"}}
models:
  m:
    table: served
    time: at
    key: id
    start: 2026-03-02
    baseline: {{from: 2026-03-01, to: 2026-03-02}}
    skew: {{offline: {{table: offline, key: id}}}}
reports: {{dir: {folder}/reports, evidently: never}}
retention: {retention}
"""


def rows(factor: float) -> list[dict[str, Any]]:
    return [
        {
            "id": f"r{i:04}",
            "at": (DAY - timedelta(days=1) + timedelta(minutes=5 * i)).isoformat(),
            "income": factor * (100.0 + i),
        }
        for i in range(500)
    ]


def skewed(folder: Path, retention: str) -> Result:
    url = f"sqlite:///{folder}/log.db"
    write_table(url, "served", {"id": sa.Text, "at": sa.Text, "income": sa.Float}, rows(0.001))
    write_table(
        url, "offline", {"id": sa.Text, "income": sa.Float}, [{k: r[k] for k in ("id", "income")} for r in rows(1.0)]
    )
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder, retention=retention))
    config = load(path)
    with Store.open(config.store.get_secret_value()) as store:
        run_due(Service(config, store), now=DAY + timedelta(days=1, hours=1), worker="test")
        found = store.results("m", check=Check.SKEW, feature="income")
    return found[-1]


def test_by_default_no_raw_value_is_kept(tmp_path: Path) -> None:
    found = skewed(tmp_path, "{}")
    assert found.value == pytest.approx(1.0)
    assert "examples" not in found.detail


def test_examples_are_kept_when_samples_are_to_be_retained(tmp_path: Path) -> None:
    examples = skewed(tmp_path, "{samples: 7d}").detail["examples"]
    assert 0 < len(examples) <= 5
    assert all(online == pytest.approx(offline / 1000) for offline, online in examples)
