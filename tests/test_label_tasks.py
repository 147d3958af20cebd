"""Classes, numbers and several labels of one model, from a log to results and pages."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from monitor.cli import app

DAYS, PER_DAY = 14, 250
CONFIG = """
store: sqlite:///{folder}/monitor.db
sources: {{main: "sqlite:///{folder}/logs.db"}}
models:
  pets:
    table: pets
    time: at
    key: request_id
    prediction: species
    start: 2026-01-10
    baseline: {{from: 2026-01-01, to: 2026-01-10}}
    labels:
      label: true_species
      time: seen_at
      task: multiclass
      delay: 2d
      scores: {{bird: p_bird, cat: p_cat, dog: p_dog}}
      also:
        - {{name: weight, label: kg, time: seen_at, task: regression, prediction: guessed_kg, delay: 2d}}
        - {{name: adopted, label: adopted, time: seen_at, delay: 2d, score: p_dog, threshold: 0.5}}
reports: {{dir: "{folder}/reports", evidently: never}}
"""


def write_log(folder: Path) -> None:
    """Fourteen days of pets; in the last two the guessed weight is a kilo too high, and one ferret comes by each day."""
    rng = np.random.default_rng(3)
    names = np.array(["bird", "cat", "dog"])
    rows = []
    for day in range(DAYS):
        true = rng.choice(3, PER_DAY, p=[0.2, 0.3, 0.5])
        logits = rng.normal(0, 1, (PER_DAY, 3))
        logits[np.arange(PER_DAY), true] += 2
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        kg = 5.0 * true + rng.normal(3, 1, PER_DAY)
        guess = kg + rng.normal(0, 0.5, PER_DAY) + (1.0 if day >= DAYS - 2 else 0.0)
        adopted = (rng.random(PER_DAY) < p[:, 2]).astype(int)
        for i in range(PER_DAY):
            at = datetime(2026, 1, 1) + timedelta(days=day, seconds=i * 300)  # noqa: DTZ001 - SQLite keeps no zone
            species = "ferret" if i == 7 else str(names[true[i]])
            rows.append((f"{day}-{i}", at.isoformat(sep=" "), str(names[p[i].argmax()]), *map(float, p[i]), species,
                         float(guess[i]), float(kg[i]), int(adopted[i]),
                         (at + timedelta(hours=5)).isoformat(sep=" ")))  # fmt: skip
    with sqlite3.connect(folder / "logs.db") as db:
        db.execute("create table pets (request_id text primary key, at text, species text, p_bird real, p_cat real, "
                   "p_dog real, true_species text, guessed_kg real, kg real, adopted int, seen_at text)")  # fmt: skip
        db.executemany(f"insert into pets values ({','.join('?' * 11)})", rows)
    (folder / "config.yaml").write_text(CONFIG.format(folder=folder))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, object]]]:
    folder = tmp_path_factory.mktemp("pets")
    write_log(folder)
    config = ["-c", str(folder / "config.yaml")]
    span = ["--from", "2026-01-12", "--to", "2026-01-15", "--now", "2026-01-20T00:00Z"]
    done = CliRunner().invoke(app, ["backfill", *span, *config])
    assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(app, ["results", "--json", "--from", "2026-01-10", *config])
    return folder, json.loads(shown.stdout)["results"]


def of(results: list[dict[str, object]], day: str, label: str | None) -> dict[tuple[object, object], dict[str, object]]:
    return {
        (r["metric"], r["kind"]): r
        for r in results
        if r["check"] == "performance" and r["feature"] == label and str(r["window_start"]).startswith(day)
    }


def test_each_label_has_results_of_its_own(told: tuple[Path, list[dict[str, object]]]) -> None:
    classes, numbers, flags = (of(told[1], "2026-01-12", label) for label in (None, "weight", "adopted"))
    assert {kind for _, kind in classes} == {"realized", "estimated"}
    assert classes["macro_f1", "realized"]["value"] == pytest.approx(0.8, abs=0.15)
    assert numbers["mae", "realized"]["value"] == pytest.approx(0.4, abs=0.1)
    assert numbers["mae", "realized"]["detail"]["estimated"] == "not_offered_for_regression"  # type: ignore[index]
    assert numbers["mae", "realized"]["verdict"] == "ok"
    assert ("recall", "realized") in flags
    low, high = classes["accuracy", "estimated"]["interval"]  # type: ignore[misc]
    assert low <= classes["accuracy", "realized"]["value"] <= high  # type: ignore[operator]


def test_errors_that_grew_alert_and_those_of_the_other_labels_do_not(
    told: tuple[Path, list[dict[str, object]]],
) -> None:
    assert of(told[1], "2026-01-14", "weight")["mae", "realized"]["verdict"] == "alert"
    assert of(told[1], "2026-01-14", None)["accuracy", "realized"]["verdict"] == "ok"


def test_a_rare_class_is_named_nowhere_and_the_page_shows_the_others(
    told: tuple[Path, list[dict[str, object]]],
) -> None:
    folder, results = told
    assert "ferret" not in json.dumps([r for r in results if r["check"] == "performance"])
    pages = [path.read_text() for path in (folder / "reports").rglob("*.html")]
    shown = [page for page in pages if "Performance by class" in page]
    assert shown
    assert all("ferret" not in page for page in shown)
    assert all("weight" in page for page in shown)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("delay: 2d, score: p_dog", "delay: 2d, performance: {alert: {mae: +10%}}, score: p_dog", "not computed"),
        ("name: adopted", "name: weight", "two labels called"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(folder=tmp_path).replace(old, new))
    done = CliRunner().invoke(app, ["validate", "--offline", "-c", str(path)])
    assert done.exit_code == 2
    assert words in done.output.replace("\n", " ")
