"""What a terminal shows of numbers: the curve that decides, and no praise where nothing was asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from rich.console import Console

from monitor.cli import showing
from monitor.cli.reading import _curves_shown, _model_status
from monitor.config import Config
from monitor.models import Check, Incident, IncidentState, Job, Result, RunState, Verdict, Window, WindowRow


def test_history_shows_one_curve_a_window_and_no_tick_where_nothing_is_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    window = Window(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC))
    fell = Result("m", Check.PERFORMANCE, "precision", window, 0.239, Verdict.OK, kind="realized",
                  detail={"decides": True, "rule": "because", "what": "precision 0.456 → 0.239"})  # fmt: skip
    early = replace(fell, value=0.82, verdict=Verdict.CANNOT_TELL, detail={"decides": False}, label_coverage=0.3)
    curves = [early, replace(fell, kind="estimated", value=0.45, detail={"decides": False})]
    assert _curves_shown([*curves, fell]) == [fell]
    showing.show_history([fell], Console(width=120))
    text = capsys.readouterr().out
    assert "realized" in text
    assert "✓" not in text
    assert "· has no limit, and is not judged" in text
    showing.show_history([replace(fell, threshold=0.2)], Console(width=120))
    assert "✓" in capsys.readouterr().out
    showing.show_history([early], Console(width=120))
    assert "early labels" in capsys.readouterr().out


def test_an_incident_that_began_before_its_first_bad_window_says_both(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = datetime(2026, 2, 14, tzinfo=UTC), datetime(2026, 2, 15, tzinfo=UTC)
    drift = Incident(
        "inc_1", "m", Check.SCORE_DRIFT, IncidentState.OPEN, Verdict.ALERT, second, datetime(2026, 2, 20, tzinfo=UTC),
        onset=first, summary="the score drifted since 2026-02-14",
        detail={"onset_interval": [first.isoformat(), second.isoformat()], "onset_confidence": 0.999},
    )  # fmt: skip
    showing.show_incident(drift, Console(width=200))
    text = capsys.readouterr().out
    assert "open since 2026-02-15, last bad 2026-02-20" in text
    assert "began between 2026-02-14 and 2026-02-15 (more than 99 % sure), first bad window 2026-02-15" in text
    showing.show_incident(replace(drift, onset=second), Console(width=200))
    assert "began" not in capsys.readouterr().out


def test_a_newest_window_without_rows_is_not_ok_whatever_its_labels_say() -> None:
    window = Window(datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC))
    late = Result("m", Check.QUALITY, "label_outage", window, 0.1, Verdict.OK, feature="__labels__")

    def verdict(*found: Result) -> object:
        store = SimpleNamespace(
            windows=lambda name: [WindowRow(name, Job.INPUTS, window, RunState.NO_DATA, n_rows=0)],
            results=lambda name, **_: list(found),
            incidents=lambda name, states: [],
        )
        config = Config.model_validate(
            {"sources": {"main": "sqlite:///x.db"}, "models": {"m": {"table": "t", "time": "at"}}}
        )
        return _model_status(SimpleNamespace(store=store, config=config), "m")["verdict"]  # type: ignore[arg-type]

    assert verdict(late) == "no_data"
    assert verdict(late, replace(late, verdict=Verdict.ALERT)) == "alert"
