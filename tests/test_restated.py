"""A verdict that changed because labels landed: what was believed then and what is known now, side by side."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_compare import DAY, START, write
from typer.testing import CliRunner

from monitor.cli import app
from monitor.models import Check, Result, Verdict, Window
from monitor.restated import restated

WINDOW = Window(START, START + DAY)


def row(verdict: Verdict, *, revision: int, kind: str | None = "realized", **more: Any) -> Result:
    detail = {"age_days": float(revision), "rule": "why"} | more.pop("detail", {})
    return Result("m", Check.PERFORMANCE, "recall", WINDOW, 0.5, verdict, revision=revision, kind=kind, detail=detail, **more)  # fmt: skip


def test_what_was_believed_is_what_the_most_certain_curve_said() -> None:
    older = [
        row(Verdict.OK, revision=0, kind="estimated", label_coverage=0.0),
        row(Verdict.CANNOT_TELL, revision=0, detail={"rule": None}),
        row(Verdict.OK, revision=1, kind="corrected", label_coverage=0.4, interval=(0.4, 0.6)),
    ]
    older[1].detail.pop("rule")
    [found] = restated([row(Verdict.ALERT, revision=2, label_coverage=1.0)], older)
    assert (found.then.kind, found.then.label_coverage, found.then.revision) == ("corrected", 0.4, 1)
    assert found.then.as_of == WINDOW.end + DAY
    assert (found.now.kind, found.now.verdict) == ("realized", Verdict.ALERT)
    assert [each.kind for each in found.path] == ["estimated", "corrected", "realized"]


@pytest.mark.parametrize(
    ("before", "now", "changed"),
    [
        ("ok ok", "ok", None),
        ("cannot_tell no_data", "alert", None),
        ("ok alert", "cannot_tell", None),
        ("ok alert", "ok", "alert"),
        ("alert ok", "alert", "ok"),
        ("ok alert", "alert", "ok"),
    ],
)
def test_only_an_answer_that_turned_out_otherwise_is_a_restatement(before: str, now: str, changed: str | None) -> None:
    older = [row(Verdict(word), revision=at) for at, word in enumerate(before.split())]
    found = restated([row(Verdict(now), revision=9)], older)
    assert [each.then.verdict.value for each in found] == ([] if changed is None else [changed])


def test_other_limits_for_the_same_labels_are_no_restatement() -> None:
    then = row(Verdict.OK, revision=0, detail={"age_days": 3.0})
    assert restated([row(Verdict.ALERT, revision=1, detail={"age_days": 3.0})], [then]) == []
    assert len(restated([row(Verdict.ALERT, revision=2, detail={"age_days": 4.0})], [then])) == 1


def test_the_page_and_the_answers_of_the_commands_show_both(tmp_path: Path) -> None:
    """Labels turn round from one day on: the scores promise that all is well until the labels are in."""
    rng = np.random.default_rng(4)
    rows: list[dict[str, Any]] = []
    truths: list[dict[str, Any]] = []
    for day in range(12):
        for i in range(250):
            at, score = START + day * DAY + timedelta(seconds=300 * i), float(rng.beta(2, 3))
            rows.append({"request_id": f"{day}-{i}", "at": at, "amount": float(rng.gamma(2, 10)), "score": score})
            right = score if day < 8 else 1 - score
            truths.append({"request_id": f"{day}-{i}", "label": int(rng.random() < right), "landed": at + 2 * DAY})
    write(tmp_path / "log.db", predictions=rows, labels=truths)
    model = {
        "table": "predictions", "time": "at", "key": "request_id", "threshold": 0.5, "min_rows": 50, "score": "score",
        "baseline": {"from": START.isoformat(), "to": (START + 4 * DAY).isoformat()},
        "start": (START + 4 * DAY).isoformat(), "drift": {"features": {"amount": {"ignore": True}}},
        "labels": {"table": "labels", "label": "label", "time": "landed", "delay": "3d"},
    }  # fmt: skip
    told = {"sources": {"main": f"sqlite:///{tmp_path / 'log.db'}"}, "models": {"credit": model}}
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(told))

    def monitor(*words: str) -> str:
        found = CliRunner().invoke(app, [*words, "-c", str(path)], env={"COLUMNS": "160"})
        assert found.exit_code == 0, found.output
        return found.stdout

    for day in range(9, 13):
        monitor("run", "--now", (START + day * DAY + timedelta(hours=1)).isoformat())
    turned = START + 8 * DAY
    span = ("--from", turned.isoformat(), "--to", (turned + DAY).isoformat())
    answer = json.loads(monitor("results", "--json", "--check", "performance", *span))
    precision = next(each for each in answer["restated"] if each["metric"] == "precision")
    then, now = precision["believed_then"], precision["known_now"]
    assert (then["verdict"], then["kind"]) == ("ok", "estimated")
    assert then["label_coverage"] < 0.2
    assert (now["verdict"], now["kind"], now["label_coverage"]) == ("alert", "realized", 1.0)
    assert then["as_of"] < now["as_of"]
    assert then["interval"][0] > now["interval"][1]
    assert (precision["window_start"], precision["model"]) == ("2026-03-09T00:00:00Z", "credit")
    shown = monitor("results", "--check", "performance", *span)
    assert re.search(r"precision of 2026-03-09: believed 0\.\d+ \[.*\] ok \(estimated, \d+% labelled", shown)
    assert "known now 0." in shown
    page = (tmp_path / "reports" / "credit" / "2026-03-09.html").read_text()
    assert "Believed then" in page
    assert re.search(r"estimated from the scores, before labels · [\d.]+ % of the labels in", page)
    assert "on the labels that had landed · 100 % of the labels in" in page
    assert "as it was believed at" in page
    [incident] = json.loads(monitor("incidents", "--json"))["incidents"]
    again = json.loads(monitor("explain", incident["id"], "--json"))["restated"]
    assert precision in again
