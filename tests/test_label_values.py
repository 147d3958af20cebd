"""Labels that are not what the config takes them for: said before the first run, with where and what to do."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor.cli import app
from monitor.config import ModelConfig
from monitor.label_tasks import views
from monitor.label_values import Remark, Seen, remarks

FIVE = ["paid", "late", "default", "open", "sold"] * 20


def told(values: list[Any], *, predicted: list[Any] | None = None, task: str = "binary", **more: Any) -> list[Remark]:
    labels = {"label": "y", "task": task} | more.pop("labels", {})
    model = ModelConfig.model_validate({"table": "t", "time": "at", "prediction": "d", "labels": labels} | more)
    [view] = views(model)
    seen = None if predicted is None else Seen("column 'd' of t", predicted)
    return remarks(view, Seen("column 'y' of t", values), seen)


@pytest.mark.parametrize(
    ("task", "values", "more", "words", "broken"),
    [
        pytest.param("binary", FIVE, {}, ["'paid', 'late'", "`task: multiclass`"], True, id="classes"),
        pytest.param("binary", FIVE, {"positive": "default"}, ["all but `positive: default` count as negative"], False,
                     id="one class against the others"),
        pytest.param("binary", [x / 7 for x in range(99)], {}, ["`task: regression`"], True, id="a number"),
        pytest.param("binary", ["yes", "no"], {}, ["none is `positive: 1`", "write `positive:`"], True, id="yes and no"),
        pytest.param("binary", ["no"] * 9, {}, ["is that spelled"], False, id="one text only"),
        pytest.param("binary", [1] * 20, {"key": "id", "labels": {"table": "l"}}, ["`labels.absent_means`"], False,
                     id="positives only, in a table of their own"),
        pytest.param("regression", ["yes", "no"], {}, ["no number", "`task: binary`"], True, id="texts for numbers"),
        pytest.param("regression", FIVE, {}, ["no number", "`task: multiclass`"], True, id="classes for numbers"),
        pytest.param("regression", [0, 1, 1, 0], {}, ["`task: binary`"], False, id="true and false for numbers"),
        pytest.param("regression", [1.5, 2.5, "n/a", 4], {}, ["25% of", "left out"], False, id="some texts"),
        pytest.param("multiclass", [x / 7 for x in range(99)], {}, ["`task: regression`"], False, id="a number as classes"),
        pytest.param("multiclass", [f"note {x}" for x in range(200)], {}, ["free text"], False, id="free text as classes"),
        pytest.param("multiclass", ["a", "b"] * 9, {}, ["`task: binary`"], False, id="two classes"),
        pytest.param("multiclass", ["a", "b", "c"], {"labels": {"scores": {"x": "px", "z": "pz"}}},
                     ["no class of `labels.scores`"], True, id="probabilities of other classes"),
    ],
)  # fmt: skip
def test_what_does_not_fit_says_what_where_and_what_to_do(
    task: str, values: list[Any], more: dict[str, Any], words: list[str], broken: bool
) -> None:
    [found] = told(values, task=task, **more)
    assert found.broken is broken
    assert "column 'y' of t" in found.words
    for each in words:
        assert each in found.words


@pytest.mark.parametrize(
    ("task", "values", "more"),
    [
        pytest.param("binary", [0, 1, 0], {}, id="0 and 1"),
        pytest.param("binary", ["true", "false"], {}, id="true and false"),
        pytest.param("binary", [0] * 50, {}, id="no positive yet"),
        pytest.param("binary", [1] * 50, {}, id="positives only"),
        pytest.param("binary", [-1, 1], {}, id="-1 and 1"),
        pytest.param("binary", ["good", "bad"], {"positive": "bad"}, id="named"),
        pytest.param("binary", [], {}, id="no label yet"),
        pytest.param("regression", [1.5, 2, 3.25], {}, id="numbers"),
        pytest.param("multiclass", ["a", "b", "c"], {}, id="classes"),
        pytest.param("multiclass", list(range(1, 6)) * 9, {}, id="numbered classes"),
    ],
)
def test_what_fits_is_passed_over(task: str, values: list[Any], more: dict[str, Any]) -> None:
    assert told(values, task=task, **more) == []


def test_decisions_and_predicted_classes_are_held_against_the_labels_spelling() -> None:
    [found] = told([0, 1], predicted=["approve", "reject"])
    assert found.broken
    assert "column 'd' of t" in found.words
    assert told([0, 1], predicted=[0.0, 1.0]) == []
    [found] = told(["cat", "dog", "bird"], predicted=["Cat", "Dog", "Bird"], task="multiclass")
    assert found.broken
    assert "no predicted class is among the labels" in found.words
    assert told(["cat", "dog", "bird"], predicted=["cat", "fish"], task="multiclass") == []


CONFIG = """\
sources: {{main: "sqlite:///{folder}/log.db"}}
models:
  credit:
    table: log
    time: at
    score: p
    threshold: 0.5
    labels:
      label: state
      task: binary
      also:
        - {{name: days, label: paid, task: regression, prediction: p}}
"""


def test_validate_names_the_line_and_fails_where_no_metric_would_mean_anything(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "log.db") as db:
        db.execute("create table log (at text, p real, state text, paid text)")
        rows = [(f"2026-01-0{1 + at % 5} 00:00:00", at / 50, FIVE[at], "yes" if at % 2 else "no") for at in range(50)]
        db.executemany("insert into log values (?, ?, ?, ?)", rows)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(folder=tmp_path))
    answer = CliRunner().invoke(app, ["validate", "-c", str(path), "--json"])
    assert answer.exit_code == 1, answer.output
    [model] = json.loads(answer.stdout)["models"]
    where = [each["where"].removeprefix(f"{path}:") for each in model["label_remarks"]]
    assert [each.split(":")[0] for each in where] == ["10", "12"]
    text = " ".join(CliRunner().invoke(app, ["validate", "-c", str(path)]).stdout.split())
    assert "5 different values" not in text, "five can be named"
    assert "'paid', 'late', 'default', 'open' and 'sold' under `task: binary`" in text
    mended = CONFIG.replace("    threshold: 0.5\n", "    threshold: 0.5\n    positive: default\n")
    path.write_text(mended.replace("task: regression, prediction: p", "positive: 'yes'").format(folder=tmp_path))
    answer = CliRunner().invoke(app, ["validate", "-c", str(path), "--json"])
    assert answer.exit_code == 0, answer.output
    [model] = json.loads(answer.stdout)["models"]
    assert [each["broken"] for each in model["label_remarks"]] == [False]


APART = """\
sources: {{main: "sqlite:///{folder}/log.db"}}
models:
  loans:
    table: log
    time: at
    key: id
    score: p
    threshold: 0.5
    labels: {{table: outcomes, key: id, label: state, time: settled}}
"""


@pytest.mark.parametrize("one", ["defaulted", 1])
def test_a_table_that_begins_with_one_class_is_not_taken_for_one_class(tmp_path: Path, one: object) -> None:
    """Labels lie in the order in which they landed: those of one class may all come first."""
    with sqlite3.connect(tmp_path / "log.db") as db:
        db.execute("create table log (id text, at text, p real)")
        db.execute("create table outcomes (id text, state, settled text)")
        ids = range(3000)
        db.executemany("insert into log values (?, '2026-01-01 00:00:00', 0.3)", [(f"r{at}",) for at in ids])
        rows = [(f"r{at}", (one if at < 2000 else "repaid" if one != 1 else 0), "2026-01-03 00:00:00") for at in ids]
        db.executemany("insert into outcomes values (?, ?, ?)", rows)
    path = tmp_path / "config.yaml"
    path.write_text(APART.format(folder=tmp_path))
    answer = CliRunner().invoke(app, ["validate", "-c", str(path), "--json"])
    [model] = json.loads(answer.stdout)["models"]
    told = [each["message"] for each in model["label_remarks"]]
    if one == 1:
        assert (answer.exit_code, told) == (0, []), "both classes are there"
    else:
        assert answer.exit_code == 1, answer.output
        assert "holds 'defaulted' and 'repaid': none is `positive: 1`" in told[0]


@pytest.mark.parametrize("written", ["01.03.2026 00:00:56", "03/01/2026 12:00 AM", "noon"])
def test_times_that_do_not_read_fail_with_an_example_and_what_would_read(tmp_path: Path, written: str) -> None:
    with sqlite3.connect(tmp_path / "log.db") as db:
        db.execute("create table log (id text, at text, p real)")
        db.executemany("insert into log values (?, ?, 0.3)", [(f"r{at}", written) for at in range(200)])
    path = tmp_path / "config.yaml"
    path.write_text(APART.replace("    labels:", "#").format(folder=tmp_path))
    answer = CliRunner().invoke(app, ["validate", "-c", str(path), "--json"])
    assert answer.exit_code == 1, answer.output
    found = json.loads(answer.stdout)
    assert not found["valid"]
    assert f"column 'at' holds '{written}', which does not read as a time" in found["models"][0]["error"]
    assert "ISO 8601" in CliRunner().invoke(app, ["validate", "-c", str(path)]).stdout
