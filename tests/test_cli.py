"""Every command as a person types it: its words, its one JSON object, its exit code, and never a traceback."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from monitor.cli import app
from monitor.cli.reading import _show_splits
from monitor.cli.telling import verdict_of
from monitor.models import Check, Job, RunState, Verdict, Window
from monitor.models import Result as Finding

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS, PER_DAY = 20, 300
NOW = START + timedelta(days=DAYS, hours=1)
STAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z")
TWO_LINES = """\
sources: {main: "sqlite:///log.db"}
models:
  churn: {table: predictions, time: predicted_at}
"""
CONFIG = """\
sources: {main: "sqlite:///log.db"}
models:
  churn:
    table: predictions
    time: predicted_at
    key: request_id
    score: score
    prediction: prediction
    baseline: {from: 2026-01-01, to: 2026-01-15}
    labels: {label: label, delay: 1d}
    skew: {offline: {table: offline, key: request_id}}
alerts: {terminal: console}
reports: {evidently: never}
"""


def write_log(path: Path, *, days: int = DAYS, start: datetime = START) -> None:
    """A log of one wide table: `age` shifts on day 16, `plan` has a new value from then on, 40 rows come twice."""
    rng = np.random.default_rng(5)
    n = days * PER_DAY
    day = np.repeat(np.arange(days), PER_DAY)
    second = np.sort(rng.uniform(0, 86400, n).reshape(days, PER_DAY), axis=1).ravel()
    age = rng.normal(41, 10, n).round() - 14 * (day >= 16)
    plan = rng.choice(["basic", "pro", "max"], n).astype(object)
    plan[(day >= 16) & (rng.random(n) < 0.3)] = "trial"
    score = (1 / (1 + np.exp(-(rng.normal(-1, 1, n) + 0.02 * (age - 41))))).round(4)
    label = (rng.random(n) < score).astype(int)
    rows = [
        (
            f"r{i:05d}",
            (start + timedelta(days=int(day[i]), seconds=float(second[i]))).isoformat(),
            float(age[i]),
            str(plan[i]),
            f"free text {i}",
            float(score[i]),
            int(score[i] > 0.4),
            int(label[i]),
        )
        for i in range(n)
    ]
    with sqlite3.connect(path) as log:
        log.execute(
            "CREATE TABLE predictions (request_id TEXT, predicted_at TEXT, age REAL, plan TEXT, note TEXT, "
            "score REAL, prediction INTEGER, label INTEGER)"
        )
        log.executemany(f"INSERT INTO predictions VALUES ({','.join('?' * 8)})", rows + rows[-40:])
        log.execute("CREATE TABLE offline (request_id TEXT PRIMARY KEY, age REAL, plan TEXT)")
        log.executemany("INSERT INTO offline VALUES (?, ?, ?)", [(r[0], r[2] + 1, r[3]) for r in rows[: n - 7]])
        log.execute("CREATE TABLE events (id TEXT PRIMARY KEY, at TEXT, payload TEXT, probability REAL)")
        log.executemany(
            "INSERT INTO events VALUES (?, ?, ?, ?)",
            [(r[0], r[1], json.dumps({"age": r[2], "plan": r[3]}), r[5]) for r in rows],
        )
    log.close()


def call(*words: str, columns: int = 120, **env: str) -> Result:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": str(columns), "MONITOR_CONFIG": "", **env})


def told(*words: str, code: int = 0) -> dict[str, Any]:
    """The one object that a command prints with --json."""
    answer = call(*words, "--json")
    assert answer.exit_code == code, answer.output
    assert answer.stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(answer.stdout)
    assert found["schema_version"] == 1
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log and a store in which its windows have been run; for reading only."""
    folder = tmp_path_factory.mktemp("finished")
    write_log(folder / "log.db")
    (folder / "config.yaml").write_text(CONFIG)
    answer = call("run", "-c", str(folder / "config.yaml"), "--now", NOW.isoformat(), "--no-report", "--json")
    assert answer.exit_code == 0, answer.output
    (folder / "run.json").write_text(answer.stdout)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may change, as the working directory."""
    for name in ("log.db", "monitor.db", "config.yaml"):
        shutil.copy(finished / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fresh(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log alone, with a config of two lines."""
    shutil.copy(finished / "log.db", tmp_path / "log.db")
    (tmp_path / "config.yaml").write_text(TWO_LINES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_stored_counts_name_the_baseline_whose_bins_they_are_over(finished: Path) -> None:
    with sqlite3.connect(finished / "monitor.db") as store:
        without = "SELECT count(*) FROM profile WHERE kind = 'profile' AND baseline_id IS NULL"
        assert store.execute(without).fetchone() == (0,)
    store.close()


# --- the first hour -------------------------------------------------------------------------------


def test_help_lists_every_command_on_one_line_at_80_columns() -> None:
    text = call("--help", columns=80).stdout
    assert not re.search(r"^  \w.*\.\.\.$", text, re.MULTILINE)
    for name in ("init", "validate", "run", "backfill", "explain", "baseline", "db"):
        assert re.search(rf"^  {name} +\S", text, re.MULTILINE)


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"ml-monitor \d+\.\d+\.\d+\n", call("--version").stdout)


@pytest.mark.parametrize("command", ["status", "results", "incidents"])
def test_what_only_tells_imports_neither_what_counts_nor_what_sends(folder: Path, command: str) -> None:
    heavy = ["numpy", "scipy", "pyarrow", "structlog", "slack_sdk", "alembic", "jinja2", "pandas"]
    heavy += ["sqlalchemy.dialects.postgresql"]
    code = f"""
import sys
from monitor.cli import app
try:
    app([{command!r}])
except SystemExit as ended:
    assert not ended.code
print([name for name in {heavy} if name in sys.modules])"""
    told = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"
    assert len(told.stdout.splitlines()) > 1


def test_init_guesses_marks_its_guesses_and_the_result_is_valid(fresh: Path) -> None:
    (fresh / "config.yaml").unlink()
    answer = call("init", "--source", "sqlite:///log.db", "--table", "predictions")
    assert answer.exit_code == 0
    assert "then `monitor validate`" in answer.stdout
    text = (fresh / "config.yaml").read_text()
    assert re.findall(r"^    (\w+): (\w+) # guessed", text, re.MULTILINE) == [
        ("time", "predicted_at"),
        ("key", "request_id"),
        ("score", "score"),
        ("prediction", "prediction"),
    ]
    assert call("validate").exit_code == 0


def test_init_suggests_the_tables_beside_it_that_hold_labels_or_offline_values(fresh: Path) -> None:
    with sqlite3.connect(fresh / "log.db") as log:
        log.execute("CREATE TABLE truth (request_id TEXT, outcome INTEGER, landed TIMESTAMP)")
        log.execute("CREATE TABLE staff (id INTEGER, age REAL)")
    (fresh / "config.yaml").unlink()
    assert call("init", "--source", "sqlite:///log.db", "--table", "predictions").exit_code == 0
    text = (fresh / "config.yaml").read_text()
    assert "    # labels: {table: truth, key: request_id, label: outcome, time: landed, delay: 30d} # found" in text
    assert (
        "    # skew: {offline: {table: offline, key: request_id}} # found: it has request_id and age, plan, too" in text
    )
    assert "staff" not in text
    (fresh / "config.yaml").write_text(
        text.replace("# skew: {offline: {table: offline", "skew: {offline: {table: offline")
    )
    answer = call("validate", "--json")
    assert answer.exit_code == 0, answer.output


def test_init_suggests_a_table_of_yes_and_no_with_the_same_key_whatever_it_is_called(fresh: Path) -> None:
    with sqlite3.connect(fresh / "log.db") as log:
        log.execute("CREATE TABLE outcomes (request_id TEXT, defaulted INTEGER, settled_at TIMESTAMP)")
        log.execute("INSERT INTO outcomes VALUES ('r00001', 1, '2026-01-03 00:00:00')")
        log.execute("CREATE TABLE flags (request_id TEXT, vip INTEGER)")
        log.execute("INSERT INTO flags VALUES ('r00001', 1)")
    (fresh / "config.yaml").unlink()
    assert call("init", "--source", "sqlite:///log.db", "--table", "predictions").exit_code == 0
    text = (fresh / "config.yaml").read_text()
    assert "    # labels: {table: outcomes, key: request_id, label: defaulted, time: settled_at, delay: 30d}" in text
    assert "flags" not in text, "it does not tell when"


def test_init_finds_features_in_a_json_column(fresh: Path) -> None:
    found = told("init", "--source", "sqlite:///log.db", "--table", "events", "--out", "other.yaml")
    assert found["init"]["guessed"]["json_features"]["column"] == "payload"
    features = told("validate", "-c", "other.yaml")["models"][0]["features"]
    assert features == {"age": "numeric", "plan": "categorical"}


def test_a_config_that_init_writes_elsewhere_still_finds_the_source(fresh: Path) -> None:
    (fresh / "etc").mkdir()
    assert call("init", "--source", "sqlite:///log.db", "-T", "predictions", "-o", "etc/config.yaml").exit_code == 0
    assert call("validate", "-c", "etc/config.yaml").exit_code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--source", "sqlite:///log.db", "--table", "prediction", "-o", "x"], "did you mean 'predictions'?"),
        (["--source", "sqlite:///none.db", "--table", "p", "-o", "x"], "there is no file 'none.db'"),
        (["--source", "log.db", "--table", "p", "-o", "x"], "sqlite:///FILE"),
        (["--source", "sqlite:///log.db", "-o", "x"], "--source needs --table"),
        (["--table", "predictions", "-o", "x"], "--table needs --source"),
        ([], "config.yaml exists; --force writes over it"),
    ],
)
def test_init_says_what_is_wrong_with_its_input(fresh: Path, words: list[str], says: str) -> None:
    answer = call("init", *words)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert says in answer.stderr


def test_doctor_looks_at_a_source_once_for_all_its_models(fresh: Path) -> None:
    (fresh / "config.yaml").write_text(
        "sources: {main: 'sqlite:///log.db'}\n"
        "models: {a: {table: predictions, time: predicted_at}, b: {table: predictions, time: predicted_at}}\n"
    )
    subjects = [each["subject"] for each in told("doctor", code=1)["findings"]]
    assert [s for s in subjects if s.startswith(("model", "source"))] == ["model a", "model b", "source main"]


def test_what_lies_before_the_first_run_is_said_once_and_sent_to_nobody(fresh: Path) -> None:
    (fresh / "config.yaml").write_text(
        "sources: {main: 'sqlite:///log.db'}\n"
        "models: {churn: {table: predictions, time: predicted_at, start: 2026-01-01}}\n"
        "worker: {max_catch_up: 2d}\nalerts: {terminal: console, max_age: 1h}\n"
    )
    answer = call("run", "--now", NOW.isoformat(), "--no-report")
    assert "skipped" not in answer.stderr
    assert len(re.findall(r"windows skipped as too old; `monitor backfill` runs them", answer.stdout)) == 1


def test_two_lines_are_enough_to_see_every_check_at_once(fresh: Path) -> None:
    found = told("run", "--now", NOW.isoformat(), "--no-report")["run"]
    (model,) = found["models"]
    assert model["windows"] == 6
    assert model["verdicts"].get("alert", 0) >= 3
    assert "monitor backfill --model churn --from" in model["hint"]
    checks = {r["check"] for r in told("results")["results"]}
    assert checks == {"feature_drift", "score_drift", "performance", "quality"}
    (rows,) = [r for r in told("results", "--from", "2026-01-20")["results"] if r["metric"] == "n_rows"]
    assert (rows["n_current"], rows["detail"]["duplicates"]) == (PER_DAY, 40), "by the key that was guessed"


def test_a_threshold_decides_where_no_column_does(folder: Path) -> None:
    (folder / "config.yaml").write_text(CONFIG.replace("    prediction: prediction\n", "    threshold: 0.3\n"))
    with sqlite3.connect(folder / "log.db") as log:
        log.execute("ALTER TABLE predictions RENAME COLUMN prediction TO branch")
    (folder / "monitor.db").unlink()
    call("backfill", "--from", "2026-01-15", "--to", "2026-01-16", "--no-report")
    (rate,) = told("history", "--metric", "decision_rate")["history"]
    with sqlite3.connect(folder / "log.db") as log:
        asked = "SELECT avg(score >= 0.3) FROM (SELECT DISTINCT request_id, score FROM predictions WHERE {})"
        (share,) = log.execute(asked.format("date(predicted_at) = '2026-01-15'")).fetchone()
        (before,) = log.execute(asked.format("date(predicted_at) < '2026-01-15'")).fetchone()
    assert rate["value"] == pytest.approx(share, abs=1e-9)
    assert rate["detail"]["reference"] == pytest.approx(before, abs=1e-9)


def test_a_log_that_ended_long_ago_leads_to_a_backfill(fresh: Path) -> None:
    text = call("run", "--now", "2026-06-01", "--no-report").stdout
    assert "no rows in these windows: the log goes from 2026-01-01 to 2026-01-20" in text
    (command,) = re.findall(r"`monitor (backfill [^`]+)`", text)
    assert "alert" in told(*command.split(), "--no-report")["run"]["models"][0]["verdicts"]


def test_windows_before_there_is_a_baseline_say_so(fresh: Path) -> None:
    text = call("backfill", "--from", "2026-01-01", "--to", "2026-01-02", "--no-report").stdout
    assert "the baseline holds 0 rows (the 28 days before the window); min_rows is" in text


def test_nothing_to_do_says_when_there_will_be(folder: Path) -> None:
    assert re.search(
        r"nothing was due; the next window is due at \d{4}-", call("run", "--now", "2026-01-21T02:00").stdout
    )


@pytest.mark.parametrize("command", ["status", "results", "incidents", "history"])
def test_before_the_first_run_people_are_told_what_to_do(fresh: Path, command: str) -> None:
    answer = call(command)
    assert answer.exit_code == 0
    assert "`monitor run`" in answer.stdout


# --- validate -------------------------------------------------------------------------------------


def test_validate_tells_what_each_column_is_for_and_why_one_is_not(folder: Path) -> None:
    (model,) = told("validate")["models"]
    assert model["features"] == {"age": "numeric", "plan": "categorical"}
    assert (model["key"], model["score"], model["label"]) == (["request_id"], "score", "label")
    assert "free text" in model["left_out"]["note"]
    assert model["newest_window"]["duplicates"] == 40
    assert model["newest_window"]["n_labelled"] == PER_DAY
    assert model["newest_window"]["n_sampled"] - model["newest_window"]["n_matched"] == 7
    assert len(model["next_windows_due"]) == 3
    text = " ".join(call("validate", columns=80).stdout.split())
    assert "40 duplicates by key left out" in text
    assert "left out note: looks like an identifier or free text" in text


def test_validate_marks_what_is_guessed(fresh: Path) -> None:
    text = call("validate").stdout
    assert re.search(r"score +score  guessed", text)
    assert told("validate")["models"][0]["guessed"]["label"] == "label"


def test_validate_offline_connects_to_nothing(fresh: Path) -> None:
    (fresh / "log.db").unlink()
    assert told("validate", "--offline")["valid"]
    assert not told("validate", code=1)["valid"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("table: predictions", "table: prediction"), "did you mean 'predictions'?"),
        (("time: predicted_at", "time: predicted"), "did you mean 'predicted_at'"),
        (("label: label", "label: lable"), "did you mean 'label'"),
        (("table: offline", "table: offlin"), "did you mean 'offline'?"),
        (("from: 2026-01-01, to: 2026-01-15", "table: training"), "there is no table 'training'"),
        (("sqlite:///log.db", "log.db"), "sqlite:///FILE"),
    ],
)
def test_validate_finds_what_only_the_database_knows(folder: Path, change: tuple[str, str], says: str) -> None:
    (folder / "config.yaml").write_text(CONFIG.replace(*change))
    answer = call("validate")
    assert answer.exit_code == 1
    assert says in answer.stdout


def test_every_problem_of_a_config_comes_at_once_with_its_line(folder: Path) -> None:
    (folder / "config.yaml").write_text(TWO_LINES.replace("table:", "tabel:").replace("models:", "store: 3\nmodels:"))
    answer = call("validate", "--json")
    assert answer.exit_code == 2
    problems = json.loads(answer.stdout)["error"]["problems"]
    assert [(p["line"], p["path"]) for p in problems][-1] == (4, "models.churn")
    assert "did you mean 'table'?" in answer.stderr


# --- reading --------------------------------------------------------------------------------------

RESULT = {
    "model", "check", "feature", "segment", "window_start", "window_end", "metric", "value", "p_value", "threshold",
    "verdict", "n_reference", "n_current", "revision", "detail",
}  # fmt: skip
INCIDENT = {
    "id", "model", "check", "state", "severity", "opened_window", "last_window", "resolved_window", "features", "cause",
    "cause_confidence", "onset", "summary",
}  # fmt: skip


def test_results_have_the_fields_that_others_build_on(folder: Path) -> None:
    found = told("results")["results"]
    assert {r["check"] for r in found} == {"feature_drift", "score_drift", "performance", "quality", "skew"}
    assert {r["verdict"] for r in found} <= {"ok", "warn", "alert", "cannot_tell", "no_data"}
    for r in found:
        assert set(r) >= RESULT
        assert STAMP.fullmatch(r["window_start"])
        assert STAMP.fullmatch(r["window_end"])
        assert r["value"] is not None or r["detail"]["reason"]
        if r["check"] == "performance":
            assert set(r) >= {"kind", "interval", "label_coverage"}
    assert {r["metric"] for r in found} >= {
        "psi",
        "ks",
        "recall",
        "mismatch_rate",
        "missing_rate",
        "unseen_rate",
        "n_rows",
    }


def test_results_are_chosen_by_model_check_feature_and_time(folder: Path) -> None:
    found = told("results", "-m", "churn", "--check", "feature_drift", "--feature", "age", "--from", "2026-01-18")[
        "results"
    ]
    assert {(r["check"], r["feature"], r["segment"]) for r in found} == {("feature_drift", "age", None)}
    assert {r["window_start"] for r in found} == {f"2026-01-{day}T00:00:00Z" for day in (18, 19, 20)}
    assert all(r["verdict"] in ("warn", "alert") for r in told("results", "--worse-than-ok")["results"])
    last = told("results", "--limit", "5")["results"]
    assert {r["window_start"] for r in last} == {"2026-01-20T00:00:00Z"}
    assert len(last) == 5


@pytest.mark.parametrize("columns", [80, 120])
def test_a_number_takes_one_line_worst_first_at_any_width(folder: Path, columns: int) -> None:
    lines = call("results", "--check", "feature_drift", columns=columns).stdout.splitlines()
    assert max(len(line) for line in lines) <= columns
    glyphs = [line.split()[0] for line in lines[2:] if line.startswith("  ")]
    assert len(glyphs) == len(
        [r for r in told("results", "--from", "2026-01-20")["results"] if r["check"] == "feature_drift"]
    )
    assert glyphs == sorted(glyphs, key="▲◆?∅✓".index)


def test_incidents_have_the_fields_that_others_build_on(folder: Path) -> None:
    found = told("incidents")["incidents"]
    assert {i["check"] for i in found} >= {"feature_drift", "skew"}
    for incident in found:
        assert set(incident) >= INCIDENT
        assert STAMP.fullmatch(incident["opened_window"])
    (drift,) = [i for i in found if i["check"] == "feature_drift"]
    assert set(drift["features"]) == {"age", "plan"}
    assert drift["id"] in call("incidents", "--open").stdout


def test_explain_shows_the_evidence_and_takes_the_beginning_of_an_id(folder: Path) -> None:
    (drift,) = [i for i in told("incidents")["incidents"] if i["check"] == "feature_drift"]
    short = drift["id"].removeprefix("inc_")[:6]
    found = told("explain", short)
    assert found["incident"]["id"] == drift["id"]
    assert {r["feature"] for r in found["evidence"]} == {"age", "plan"}
    assert found["waits_for"]["good_windows"] == 2
    assert {part["of"] for part in found["waits_for"]["parts"]} == {"age", "plan"}
    text = call("explain", drift["id"], columns=80).stdout
    assert "why it is open: Last bad window: 2026-01-20. It is over after 2 good windows" in " ".join(text.split())
    assert "what to do: " in text
    assert re.search(r"spent on it: 0\.\d+ false pages", text)
    assert re.search(r"▲  age +(psi|ks) +0\.2", text)
    assert max(len(line) for line in text.splitlines()) <= 80


def test_explain_says_what_of_a_fall_inputs_explain(capsys: pytest.CaptureFixture[str]) -> None:
    window = Window(START, START + timedelta(days=1))
    fell = Finding(
        "churn", Check.PERFORMANCE, "recall", window, 0.6, Verdict.ALERT, threshold=0.7,
        detail={"explained_change": [-0.02, -0.05, 0.01], "rule_change": [-0.1, -0.14, -0.06]},
    )  # fmt: skip
    _show_splits([fell])
    told = " ".join(capsys.readouterr().out.split())
    words = "inputs explain -0.020 [-0.050, +0.010]; the rule -0.100 [-0.140, -0.060], beyond chance"
    assert told == f"recall of 2026-01-01: of a change by -0.120: {words}"


def test_explain_without_a_clear_id_names_those_there_are(folder: Path) -> None:
    assert "begins several incidents: inc_" in call("explain", "inc_").stderr
    answer = call("explain", "nothing")
    assert answer.exit_code == 2
    assert "there is no incident 'nothing'; there is inc_" in answer.stderr


def test_history_follows_one_metric(folder: Path) -> None:
    found = told("history", "age")["history"]
    assert [r["window_start"] for r in found] == sorted(r["window_start"] for r in found)
    assert {r["feature"] for r in found} == {"age"}
    assert "█" in call("history", "--metric", "recall").stdout
    assert "did you mean 'age'?" in call("history", "agee").stderr
    assert "did you mean 'recall'?" in call("history", "--metric", "recal").stderr
    assert "`--metric recall`" in call("history", "recall").stderr


def test_status_tells_how_each_model_is(folder: Path) -> None:
    found = told("status")
    (model,) = found["models"]
    assert (model["verdict"], model["newest_window"]) == ("alert", ["2026-01-20T00:00:00Z", "2026-01-21T00:00:00Z"])
    assert model["open_incidents"]
    assert model["open_incidents"][0] in call("status", columns=80).stdout


def test_a_window_without_rows_is_never_ok(fresh: Path) -> None:
    call("run", "--now", "2026-01-26", "--no-report")
    (model,) = told("status")["models"]
    assert (model["n_rows"], model["verdict"]) == (0, "no_data")
    window = Window(START, START + timedelta(days=1))
    as_ever = Finding("churn", Check.QUALITY, "label_outage", window, 0.1, Verdict.OK, feature="__labels__")
    rows = replace(as_ever, metric="n_rows", feature=None)
    empty = {Job.INPUTS: RunState.NO_DATA, Job.LABELS: RunState.OK}
    assert verdict_of([as_ever, rows], empty) is Verdict.NO_DATA
    assert verdict_of([as_ever, replace(rows, verdict=Verdict.ALERT)], empty) is Verdict.ALERT
    assert verdict_of([rows], {Job.INPUTS: RunState.OK, Job.LABELS: RunState.NO_DATA}) is Verdict.OK


# --- work -----------------------------------------------------------------------------------------


def test_a_run_tells_what_it_found_and_sent(finished: Path) -> None:
    answer = json.loads((finished / "run.json").read_text())
    assert answer["schema_version"] == 1
    run = answer["run"]
    assert (run["errors"], run["undelivered"], run["worst"]) == ([], 0, "alert")
    assert run["sent"] > 0
    assert sum(run["models"][0]["verdicts"].values()) == run["models"][0]["windows"] == 6


def test_a_worker_says_in_a_terminal_what_it_watches_and_each_window(fresh: Path) -> None:
    with (fresh / "config.yaml").open("a") as config:
        config.write("worker: {metrics: null}\nreports: {evidently: never}\n")
    words = [sys.executable, "-m", "monitor", "worker", "--max-ticks", "1"]
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        process = subprocess.Popen(words, stderr=theirs, stdout=subprocess.DEVNULL)
        os.close(theirs)
        told = b""
        with suppress(OSError):  # Linux: the other end is closed
            while part := screen.read(1000):
                told += part
        assert process.wait(60) == 0
    lines = told.decode().splitlines()
    assert lines[0].startswith("worker: watches 1 model, ")
    assert re.fullmatch(r"  churn: next window due 20\d\d-\d\d-\d\d \d\d:\d\dZ", lines[1])
    windows = [line for line in lines if "churn inputs of 20" in line]
    assert windows
    assert all(re.search(r", \? cannot tell, 0 rows, \w", line) for line in windows), windows
    assert lines[-1] == "worker: stopped"


def test_a_second_run_has_nothing_to_do(folder: Path) -> None:
    run = told("run", "--now", NOW.isoformat(), "--no-report")["run"]
    assert (run["windows"], run["sent"]) == (0, 0)


def test_a_finding_can_stop_a_pipeline(fresh: Path) -> None:
    words = ["run", "--now", NOW.isoformat(), "--no-report"]
    assert call(*words, "--fail-on", "alert").exit_code == 3
    assert call(*words, "--fail-on", "alert").exit_code == 0, "a window that was judged before stops nothing again"


def test_a_source_that_cannot_be_read_fails_with_its_reason_and_goes_on_once_mended(fresh: Path) -> None:
    (fresh / "config.yaml").write_text(TWO_LINES.replace("table: predictions", "table: predictionz"))
    answer = call("run", "--now", NOW.isoformat(), "--no-report")
    assert answer.exit_code == 1
    assert "there is no table 'predictionz'; did you mean 'predictions'?" in answer.stdout
    (fresh / "config.yaml").write_text(TWO_LINES)
    assert told("run", "--now", NOW.isoformat(), "--no-report")["run"]["models"][0]["windows"] == 6


def test_a_message_that_cannot_be_delivered_has_an_exit_code_of_its_own(fresh: Path) -> None:
    (fresh / "config.yaml").write_text(TWO_LINES + "alerts: {pager: {apprise: '${PAGER_URL}'}}\n")
    env = {"PAGER_URL": "json://127.0.0.1:9/x"}
    assert call("run", "--now", NOW.isoformat(), "--no-report", **env).exit_code == 4
    answer = call("test-alert", **env)
    assert answer.exit_code == 4
    assert "✗ pager" in answer.stdout


def test_a_backfill_tells_its_range_and_is_done_once(fresh: Path) -> None:
    words = ["backfill", "--from", "2026-01-15", "--to", "2026-01-19", "--no-report"]
    assert told(*words)["run"]["models"][0]["windows"] == 4
    assert told(*words)["run"]["windows"] == 0


def test_a_report_is_drawn_and_its_place_told(folder: Path) -> None:
    found = told("report", "--now", NOW.isoformat(), "--out", "site")
    assert Path(found["report"]["index"]).is_file()


# --- answers --------------------------------------------------------------------------------------


def test_an_incident_is_taken_on_once(folder: Path) -> None:
    first = told("incidents")["incidents"][0]["id"]
    kept = told("ack", first, "--by", "ada", "--note", "asked the data team")["incident"]
    assert (kept["acknowledged_by"], kept["acknowledged_note"]) == ("ada", "asked the data team")
    assert "taken on by ada" in call("incidents").stdout
    assert "asked the data team" in call("explain", first).stdout


def test_a_mute_is_told_shown_and_taken_back(folder: Path) -> None:
    kept = told("mute", "-m", "churn", "-f", "age", "--for", "4h", "--by", "ada", "--reason", "campaign")["mute"]
    assert (kept["feature"], kept["by"], kept["reason"]) == ("age", "ada", "campaign")
    assert STAMP.fullmatch(kept["until"])
    assert "churn age: campaign" in call("status").stdout
    assert told("unmute", "-m", "churn", "-f", "age")["unmuted"]
    assert told("status")["mutes"] == []
    assert "did you mean 'age'?" in call("mute", "-m", "churn", "-f", "agee").stderr


def test_each_destination_is_tried(folder: Path) -> None:
    answer = call("test-alert")
    assert answer.exit_code == 0
    assert "✓ terminal: delivered" in answer.stdout
    assert told("test-alert", "--to", "terminal")["destinations"][0]["ok"]


def test_a_test_alert_without_a_destination_says_how_to_get_one(fresh: Path) -> None:
    answer = call("test-alert")
    assert answer.exit_code == 2
    assert "alerts: {terminal: console}" in answer.stderr


# --- baselines, store, health ---------------------------------------------------------------------


def test_baselines_are_set_shown_and_compared(folder: Path) -> None:
    shown = told("baseline", "show", "-m", "churn")["baseline"]
    assert shown["n_rows"] == 14 * PER_DAY
    assert set(shown["columns"]) >= {"age", "plan", "__score__"}
    (folder / "config.yaml").write_text(CONFIG.replace("to: 2026-01-15", "to: 2026-01-21"))
    made = told("baseline", "set", "-m", "churn", "--now", NOW.isoformat())["baseline"]
    assert made["id"] > shown["id"]
    diff = told("baseline", "diff", "-m", "churn")
    assert (diff["old"]["id"], diff["new"]["id"]) == (shown["id"], made["id"])
    (age,) = [item for item in diff["diff"] if item["column"] == "age"]
    assert age["old_median"] > age["new_median"]
    assert "→" in call("baseline", "diff", "-m", "churn", columns=80).stdout
    assert "has no baseline 99" in call("baseline", "show", "-m", "churn", "99").stderr


def test_a_model_without_a_baseline_says_how_to_get_one(fresh: Path) -> None:
    answer = call("baseline", "show", "-m", "churn")
    assert answer.exit_code == 1
    assert "`monitor baseline set -m churn`" in answer.stderr
    assert "two are needed" in call("baseline", "diff", "-m", "churn").stderr


def test_the_store_tells_its_revision_and_is_pruned(folder: Path) -> None:
    assert told("db", "current")["store"]["dialect"] == "sqlite"
    assert told("db", "upgrade")["store"] == told("db", "current")["store"]
    assert set(told("db", "prune", "--now", NOW.isoformat())["deleted"]) >= {"results", "profiles", "outbox"}
    assert told("db", "prune", "--now", "2030-01-01")["deleted"]["results"] >= 0


def test_doctor_looks_at_everything_and_says_if_something_is_wrong(folder: Path) -> None:
    found = told("doctor")
    assert found["healthy"]
    subjects = {item["subject"] for item in found["findings"]}
    assert subjects >= {"versions", "store", "clocks", "model churn", "source main", "incidents", "channel terminal"}
    (folder / "log.db").unlink()
    answer = call("doctor")
    assert answer.exit_code == 1
    assert "✗ model churn: source 'main': there is no file 'log.db'" in answer.stdout


def test_the_schema_is_json(folder: Path) -> None:
    assert "models" in json.loads(call("schema").stdout)["properties"]


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "-c", "none.yaml"], 2, "none.yaml: no such file. `monitor init` writes one"),
        (["run", "-c", "."], 2, ". is a folder"),
        (["run", "-m", "chrun"], 2, "did you mean 'churn'?"),
        (["run", "--now", "yesterday"], 2, "expected a date or time such as 2026-02-01"),
        (["run", "--now", "0001-01-01T00:00+14:00"], 2, "expected a date or time"),
        (["run", "--fail-on", "bad"], 2, "expected warn or alert"),
        (["run", "--bogus"], 2, "No such option"),
        (["backfill", "--from", "2026-02-01", "--to", "2026-01-01"], 2, "is not before"),
        (["backfill", "--from", "2100-01-01", "--to", "2100-02-01"], 2, "in the future"),
        (["results", "--check", "drift"], 2, "did you mean 'score_drift'?"),
        (["results", "--feature", "agee"], 2, "did you mean 'age'?"),
        (["results", "--limit", "0"], 2, "--limit"),
        (["mute", "-m", "churn", "--for", "soon"], 2, "expected a duration such as"),
        (["mute", "-m", "churn", "--for", "9999999d"], 2, "expected a duration"),
        (["ack", "nothing"], 2, "there is no incident 'nothing'"),
        (["test-alert", "--to", "terminl"], 2, "did you mean 'terminal'?"),
        (["report", "--out", "log.db/x"], 1, "reports"),
        (["nonsense"], 2, "No such command"),
    ],
)
def test_bad_input_gets_a_sentence_and_a_code(folder: Path, words: list[str], code: int, says: str) -> None:
    answer = call(*words)
    assert answer.exit_code == code
    assert says in answer.stderr
    assert "Traceback" not in answer.output


def test_an_error_is_one_object_as_well_where_json_was_asked_for(folder: Path) -> None:
    answer = call("status", "-m", "chrun", "--json")
    assert answer.exit_code == 2
    assert json.loads(answer.stdout) == {
        "schema_version": 1,
        "error": {"code": 2, "message": "there is no model 'chrun' in the config; did you mean 'churn'?"},
    }


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to be one" * 50])
def test_a_store_that_is_none_is_left_alone(fresh: Path, content: bytes) -> None:
    (fresh / "monitor.db").write_bytes(content)
    answer = call("status")
    if content:
        assert answer.exit_code == 1
        assert answer.stderr.startswith("store: ")
        assert (fresh / "monitor.db").read_bytes() == content
    else:
        assert answer.exit_code == 0


def test_a_mistake_of_ours_is_a_sentence_without_what_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret value 4711")

    monkeypatch.setattr("monitor.store.Store.incidents", broken)
    answer = call("incidents")
    assert answer.exit_code == 1
    assert "unexpected RuntimeError in monitor.cli.reading" in answer.stderr
    assert "4711" not in answer.output


# --- the documented contract ----------------------------------------------------------------------

JSON_PAGE = Path(__file__).parents[1] / "docs" / "json.md"


def documented(command: str) -> set[str]:
    """The fields of the table in the section of a command."""
    (section,) = re.findall(
        rf"^## `monitor {command} --json`\n(.*?)(?=^## |\Z)", JSON_PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize("command", ["results", "incidents", "run", "status"])
def test_the_json_contract_is_what_is_printed(folder: Path, command: str) -> None:
    words = ["--now", NOW.isoformat(), "--no-report"] if command == "run" else []
    answer = told(command, *words)
    found = answer["run"] if command == "run" else answer["models" if command == "status" else command]
    members = found if isinstance(found, list) else [found]
    assert members
    plain = [set(item) - {"kind", "interval", "label_coverage"} for item in members]
    assert all(fields == documented(command) for fields in plain)


def test_what_the_other_commands_print_is_documented(folder: Path) -> None:
    page = JSON_PAGE.read_text()
    first = told("incidents")["incidents"][0]["id"]
    for words in (
        ["explain", first],
        ["history", "age"],
        ["validate"],
        ["doctor"],
        ["baseline", "show", "-m", "churn"],
        ["ack", first],
        ["mute", "-m", "churn"],
        ["unmute", "-m", "churn"],
        ["test-alert"],
        ["db", "current"],
        ["db", "prune"],
    ):
        name = " ".join(words[: 2 if words[0] in ("baseline", "db") else 1])
        (row,) = [line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
        for key in told(*words):
            assert key == "schema_version" or f"`{key}`" in row, (name, key)


# --- the README, done -----------------------------------------------------------------------------

README = (Path(__file__).parents[1] / "README.md").read_text()


def section(title: str) -> str:
    (text,) = re.findall(rf"^## {title}\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)
    return str(text)


def test_the_recipes_of_the_readme_run(folder: Path) -> None:
    commands = re.findall(r"`monitor ([^`]+)`", section("Recipes"))
    assert len(commands) >= 4
    for command in commands:
        answer = call(*command.split())
        assert answer.exit_code in (0, 3), (command, answer.output)


def test_the_five_minutes_of_the_readme_lead_to_a_page(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    (fresh / "config.yaml").unlink()
    (block,) = re.findall(r"```sh\n(.*?)```", section("Five minutes to your own model"), re.DOTALL)
    commands = [line.split("monitor ", 1)[1].split("#")[0].split() for line in block.splitlines()]
    assert [words[0] for words in commands] == ["init", "validate", "backfill", "report", "worker"]
    for words in commands[:-1]:
        mine = ["sqlite:///log.db" if "://" in word else word for word in words]
        assert call(*mine).exit_code == 0, mine
    (page,) = opened
    assert "predictions" in Path(page.removeprefix("file://")).read_text()
