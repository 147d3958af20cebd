"""Rows and labels that do not come as they should: the feed is named, and no cause in the model is looked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitor import feeds
from monitor.config import Config, ModelConfig
from monitor.messages import subject_of
from monitor.models import Check, Incident, IncidentState, Result, Verdict, Window

START = datetime(2026, 5, 10, tzinfo=UTC)
DAY = Window(START, START + timedelta(days=1))


def model(**labels: Any) -> ModelConfig:
    told = {"table": "loan_predictions", "time": "at", "key": "id", "labels": {"label": "y"} | labels}
    return Config.model_validate({"sources": {"main": "sqlite:///x.db"}, "models": {"loans": told}}).models["loans"]


def incident(kind: str, **detail: Any) -> Incident:
    return Incident(
        "inc", "loans", Check.QUALITY, IncidentState.OPEN, Verdict.ALERT, START, START, cause="cannot_tell",
        cause_confidence=0.0, detail={"kind": kind} | detail,
    )  # fmt: skip


def look(metric: str, value: float, verdict: Verdict = Verdict.ALERT) -> Result:
    return Result("loans", Check.QUALITY, metric, DAY, value, verdict, feature="__labels__", detail={"what": metric})


def test_rows_that_stopped_name_the_job_that_writes_the_table_and_no_cause() -> None:
    found = feeds.told(incident("no_data"), [], model())
    assert (found.cause, found.cause_confidence) == (None, None)
    assert "Rows stopped arriving: look at the job that writes loan_predictions." in found.detail["advice"]
    assert "feature" not in found.detail["advice"]


@pytest.mark.parametrize(
    ("looks", "title"),
    [
        pytest.param([look("label_delay", 1.9)], "labels come later than before", id="later"),
        pytest.param([look("label_delay", 0.37)], "labels come sooner than before", id="sooner"),
        pytest.param([look("label_outage", 5.0)], "labels stopped", id="stopped"),
        pytest.param([look("label_delay", 1.9), look("label_outage", 5.0)], "labels stopped", id="stopped is more"),
        pytest.param([look("label_delay", 0.5, Verdict.OK)], "labels do not come as before", id="neither is known"),
    ],
)
def test_labels_are_said_to_have_stopped_or_to_come_later_or_sooner(looks: list[Result], title: str) -> None:
    found = feeds.told(incident("labels"), looks, model(table="loan_outcomes", key="id", time="at"))
    assert subject_of(found) == title
    advice = found.detail["advice"]
    assert advice.startswith(f"{title.capitalize()}: look at the job that delivers labels (loan_outcomes); ")
    assert advice.endswith("; do not retrain.")
    assert found.cause is None


def test_what_was_said_of_labels_stays_said_once_they_come_again() -> None:
    found = feeds.told(incident("labels"), [look("label_outage", 5.0)], model())
    over = replace(found, state=IncidentState.RESOLVED, resolved_window=DAY.end)
    again = feeds.told(over, [look("label_outage", 0.1, Verdict.OK)], model())
    assert subject_of(again) == "labels stopped"
    assert again.detail["why"] == "label_outage"
