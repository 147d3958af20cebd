"""A run first and the recommended backfill after it find one fault as one incident, from its true beginning."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_compare import DAY, START, write

from monitor import run
from monitor.backfill import backfill_range
from monitor.config import Config
from monitor.models import Check, Incident, IncidentState
from monitor.service import Service
from monitor.store import Store

DAYS = 16
NOW = START + DAYS * DAY + timedelta(hours=1)
PER_DAY = 150


def service_of(folder: Path, *, inputs: Collection[int] = (), labels: Collection[int] = ()) -> Service:
    """A log whose `amount` is larger, or whose labels turn round, on some days."""
    rng = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    truths: list[dict[str, Any]] = []
    for day in range(DAYS):
        for i in range(PER_DAY):
            at, score = START + day * DAY + timedelta(seconds=500 * i), rng.beta(2, 3)
            right = score if day not in labels else 1 - score
            amount = float(rng.gamma(2, 10)) * (2.5 if day in inputs else 1)
            rows.append({"request_id": f"{day}-{i}", "at": at, "amount": amount, "score": float(score)})
            truths.append({"request_id": f"{day}-{i}", "label": int(rng.random() < right), "landed": at})
    write(folder / "log.db", predictions=rows, labels=truths)
    model = {
        "table": "predictions", "time": "at", "key": "request_id", "threshold": 0.5, "min_rows": 50,
        "baseline": {"from": START.isoformat(), "to": (START + 4 * DAY).isoformat()},
        "labels": {"table": "labels", "label": "label", "time": "landed", "delay": "1d"},
    }  # fmt: skip
    told = {
        "store": f"sqlite:///{folder / 'store.db'}", "sources": {"main": f"sqlite:///{folder / 'log.db'}"},
        "models": {"credit": model}, "alerts": {"terminal": {"console": True}}, "worker": {"max_catch_up": "5d"},
    }  # fmt: skip
    return Service(Config.model_validate(told), Store.open(f"sqlite:///{folder / 'store.db'}"))


def backfilled(service: Service) -> list[Incident]:
    backfill_range(service, start=START + 4 * DAY, end=START + DAYS * DAY, now=NOW, alerts=False)
    return service.store.incidents("credit")


@pytest.mark.parametrize(("fault", "check"), [("inputs", Check.FEATURE_DRIFT), ("labels", Check.PERFORMANCE)])
def test_an_incident_that_goes_on_is_joined_by_the_windows_before_it(tmp_path: Path, fault: str, check: Check) -> None:
    service = service_of(tmp_path, **{fault: range(7, DAYS)})
    run.run_due(service, now=NOW, worker="w")
    before = {each.id: each for each in service.store.incidents("credit")}
    [told] = [each for each in before.values() if each.check is check]
    assert told.opened_window > START + 10 * DAY
    after = {each.id: each for each in backfilled(service)}
    joined = after[told.id]
    assert (joined.state, joined.opened_window) == (IncidentState.OPEN, START + 7 * DAY)
    assert joined.onset is not None
    assert joined.onset <= START + 7 * DAY
    assert joined.detail["told"] == told.detail["told"]
    assert [each.id for each in after.values() if each.check is check] == [told.id]
    # Nobody is told anything of it: a backfill is silent, and it is the incident that people know.
    assert sum(service.store.outbox_counts()["terminal"].values()) == 1


def test_a_fault_that_ended_before_the_run_is_found_where_it_was(tmp_path: Path) -> None:
    service = service_of(tmp_path, inputs=range(6, 9))
    run.run_due(service, now=NOW, worker="w")
    assert service.store.incidents("credit") == []
    [found] = [each for each in backfilled(service) if each.check is Check.FEATURE_DRIFT]
    assert (found.opened_window, found.last_window) == (START + 6 * DAY, START + 8 * DAY)
    assert (found.state, found.resolved_window) == (IncidentState.RESOLVED, START + 10 * DAY)


def test_an_incident_that_is_over_is_one_with_its_beginning(tmp_path: Path) -> None:
    service = service_of(tmp_path, inputs=range(7, 13))
    run.run_due(service, now=NOW, worker="w")
    [found] = [each for each in backfilled(service) if each.check is Check.FEATURE_DRIFT]
    assert (found.opened_window, found.last_window) == (START + 7 * DAY, START + 12 * DAY)
    assert (found.state, found.resolved_window) == (IncidentState.RESOLVED, START + 14 * DAY)
    newest = max(state.last_window for state in service.store.series("credit").values() if state.last_window)
    assert newest == START + 15 * DAY
