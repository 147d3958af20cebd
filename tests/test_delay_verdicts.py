"""What a change of the labels' delay is told as, by its size and by how sure it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from detectors.delay_change import DelayChange
from monitor import delays
from monitor.checks import Scope
from monitor.config import Config
from monitor.models import Verdict, Window

START = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("factor", "p_value", "verdict"),
    [
        pytest.param(1.6, 1e-6, Verdict.ALERT, id="beyond the limit, and sure"),
        pytest.param(1.6, 1e-3, Verdict.WARN, id="beyond the limit, and likely"),
        pytest.param(0.6, 1e-6, Verdict.ALERT, id="sooner counts as much"),
        pytest.param(1.3, 1e-6, Verdict.WARN, id="beyond the warning only"),
        pytest.param(1.6, 0.03, Verdict.CANNOT_TELL, id="beyond the limit, and it may be chance"),
        pytest.param(1.6, 0.5, Verdict.OK, id="weeks differ as much without a change"),
        pytest.param(1.1, 1e-6, Verdict.OK, id="sure, and too small to matter"),
    ],
)
def test_what_is_beyond_the_limit_without_evidence_is_not_well(
    monkeypatch: pytest.MonkeyPatch, factor: float, p_value: float, verdict: Verdict
) -> None:
    change = DelayChange(factor, factor * 0.9, factor * 1.1, p_value, None, 900)
    monkeypatch.setattr(delays, "lateness_of", lambda *_, **__: change)
    model = {"table": "t", "time": "at", "key": "id", "labels": {"table": "y", "time": "seen"}}
    config = Config.model_validate({"sources": {"main": "sqlite:///x.db"}, "models": {"m": model}})
    scope = Scope("m", config.models["m"], Window(START, START + timedelta(days=1)), 0)
    [found] = delays.delay_findings(scope, None, [], newest=None, now=START, history=[], strata=[])
    assert found.verdict is verdict
    assert (found.value, found.p_value) == (factor, p_value)
    assert ("what" in found.detail) is (verdict in (Verdict.WARN, Verdict.ALERT))
    if verdict is Verdict.CANNOT_TELL:
        assert "once in 33" in str(found.detail["reason"])
        assert found.detail["decides"] is False, "it holds no incident open"
