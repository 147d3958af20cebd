"""The demo's last words are commands that work as they stand, and its first are no flood of reminders."""

from __future__ import annotations

import shlex
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monitor import demo
from monitor.cli import app
from monitor.config import Config
from monitor.models import Check, Incident, IncidentState, Verdict
from monitor.store import Store

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_what_the_demo_says_to_type_next_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "a demo"
    demo._fresh_folder(out)
    found = Incident("inc_1", "credit_risk", Check.PERFORMANCE, IncidentState.OPEN, Verdict.ALERT, START, START)
    store = Store.open(f"sqlite:///{out / 'monitor.db'}")
    store.close()
    monkeypatch.setattr(sys, "argv", ["/opt/venv/bin/monitor", "demo"])
    commands = demo._next_commands([], [found], out=out)
    assert any("explain inc_1" in command for command in commands), "an incident that there is, and no placeholder"
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "/opt/venv/bin/monitor", "the program that was called, whatever PATH says"
        answer = CliRunner().invoke(app, words)
        no_data_yet = "there is no incident" in answer.stderr
        assert answer.exit_code == 0 or no_data_yet, (command, answer.output)


def test_the_demo_is_called_as_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/monitor", "demo"])
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/monitor")
    assert demo._next_commands([], [], out=tmp_path)[0].startswith("monitor incidents -c ")
    monkeypatch.setattr(sys, "argv", ["/x/monitor/__main__.py", "demo"])
    assert demo._next_commands([], [], out=tmp_path)[0].startswith(f"{sys.executable} -m monitor incidents -c ")


def test_the_demo_sends_no_reminders() -> None:
    config = Config.model_validate(
        {"sources": {"main": "sqlite:///x.db"}, "models": {"m": {"table": "t", "time": "at"}}}
    )
    assert config.alerts.repeat == timedelta(hours=24)
    assert demo._without_reminders(config).alerts.repeat is None
