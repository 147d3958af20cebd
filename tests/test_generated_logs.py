"""Logs with one planted incident: the culprit is named, and where nothing is planted nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.logs import SHARED, make_log, moment, monitor_log
from monitor.models import Check, Verdict

pytestmark = [
    pytest.mark.skipif(not (SHARED / "make_log.py").is_file(), reason="the log generator is not on this machine"),
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.slow,
]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("incident", ["unit_change", "stale_feature"])
def test_the_culprit_is_the_worst_feature_of_the_skew_check(tmp_path: Path, incident: str, seed: int) -> None:
    truth = make_log(tmp_path, data="adult_census", incident=incident, seed=seed)
    service = monitor_log(tmp_path, truth)
    onset = moment(truth["onset"])
    found = [
        r
        for r in service.store.results("m", check=Check.SKEW, metric="mismatch_rate")
        if r.verdict is Verdict.ALERT and r.window.start >= onset
    ]
    worst = max(found, key=lambda r: float(r.detail["effect"]))
    assert worst.feature in truth["culprits"]
    incidents = [i for i in service.store.incidents("m") if i.check is Check.SKEW]
    assert len(incidents) == 1
    assert incidents[0].features[0] in truth["culprits"]
    assert abs((incidents[0].opened_window - onset).total_seconds()) <= 2 * 86400
    service.store.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_without_an_incident_there_is_no_alert(tmp_path: Path, seed: int) -> None:
    truth = make_log(tmp_path, data="adult_census", incident="none", seed=seed)
    service = monitor_log(tmp_path, truth)
    alerts = [
        (r.check.value, r.feature, r.metric, r.window.start.isoformat())
        for r in service.store.results("m")
        if r.verdict is Verdict.ALERT and not (r.feature or "").startswith("agg24h_")
    ]
    assert alerts == []
    service.store.close()
