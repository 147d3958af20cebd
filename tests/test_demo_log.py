"""The demo's log holds what it says it holds, and nothing else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor import demo_log
from monitor.demo_log import BASELINE_DAYS, CATEGORICAL, FEATURES, INCIDENTS, NUMERIC, DemoTruth, write_demo_log

Log = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> DemoTruth:
    return write_demo_log(tmp_path_factory.mktemp("demo") / "log.db")


@pytest.fixture(scope="module")
def query(truth: DemoTruth) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
    with closing(sqlite3.connect(truth.path)) as connection:
        yield lambda sql: connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def log(truth: DemoTruth, query: Callable[[str], list[tuple[Any, ...]]]) -> Log:
    """Predictions with their labels, column by column, and the number of the day."""
    names = ("predicted_at", "default_probability", "declined", *FEATURES)
    rows = query(
        f"SELECT {', '.join(names)}, defaulted "
        "FROM predictions LEFT JOIN labels USING (request_id) ORDER BY predicted_at"
    )
    columns = dict(zip((*names, "defaulted"), zip(*rows, strict=True), strict=True))
    numeric = (*NUMERIC, "default_probability", "declined", "defaulted")
    log = {name: np.array(values, dtype=float if name in numeric else object) for name, values in columns.items()}
    moments = np.array([text.rstrip("Z") for text in columns["predicted_at"]], dtype="datetime64[ms]")
    log["day"] = (moments - np.datetime64(truth.start.replace(tzinfo=None), "ms")) // np.timedelta64(1, "D")
    return log


def shares(name: str, reference: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Shares per classic bin: reference deciles or categories, with the missing ones at the end."""
    if name in CATEGORICAL:
        return np.array([np.mean(values == category) for category in sorted(set(reference))])
    edges = np.unique(np.nanquantile(reference, np.arange(1, 10) / 10))
    counts = np.bincount(np.searchsorted(edges, values[~np.isnan(values)]), minlength=len(edges) + 1)
    return np.append(counts, np.isnan(values).sum()) / len(values)


def psi_by_day(log: Log, name: str) -> np.ndarray[Any, Any]:
    reference = log[name][log["day"] < BASELINE_DAYS]
    expected = shares(name, reference, reference).clip(1e-4)
    found = [shares(name, reference, log[name][log["day"] == day]).clip(1e-4) for day in range(60)]
    return np.array([np.sum((now - expected) * np.log(now / expected)) for now in found])


def recall_by_day(log: Log) -> np.ndarray[Any, Any]:
    positive = log["defaulted"] == 1
    return np.array([log["declined"][positive & (log["day"] == day)].mean() for day in range(60)])


def touched(check: str, feature: str | None) -> np.ndarray[Any, Any]:
    days = np.zeros(60, dtype=bool)
    for incident in INCIDENTS:
        if (check, feature) in incident.expected:
            days[incident.first_day : incident.last_day + 1] = True
    return days


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_moves_on_its_planted_days_and_on_no_other(log: Log, feature: str) -> None:
    psi = psi_by_day(log, feature)
    planted = touched("feature_drift", feature)
    assert psi[~planted].max() < 0.05
    assert psi[planted].min(initial=1.0) > 0.3


def test_the_score_moves_with_the_release_and_at_no_other_time(log: Log) -> None:
    psi = psi_by_day(log, "default_probability")
    planted = touched("score_drift", None)
    assert psi[~planted].max() < 0.05
    assert psi[planted].min() > 0.3


def test_recall_falls_under_the_changed_rule_though_inputs_stay(log: Log) -> None:
    recall = recall_by_day(log)
    usual = recall[:BASELINE_DAYS].mean()
    assert recall[touched("performance", None)][:8].max() < usual - 0.1
    assert recall[~touched("performance", None)].min() > usual - 0.08


def test_scores_are_calibrated_where_nothing_is_planted(log: Log) -> None:
    quiet = (log["day"] < BASELINE_DAYS) & ~np.isnan(log["defaulted"])
    score, outcome = log["default_probability"][quiet], log["defaulted"][quiet]
    for low in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        cell = (score >= low) & (score < low + 0.1)
        assert outcome[cell].mean() == pytest.approx(score[cell].mean(), abs=0.03)


def test_only_the_branch_income_differs_between_online_and_offline(query: Callable[[str], list[Any]]) -> None:
    differs = " OR ".join(f"abs(p.{name} - o.{name}) > 1e-4 * abs(o.{name})" for name in NUMERIC if name != "income")
    differs += "".join(f" OR p.{name} <> o.{name}" for name in CATEGORICAL)
    pairs = "FROM predictions p JOIN features_offline o USING (request_id)"
    assert query(f"SELECT count(*) {pairs} WHERE {differs}") == [(0,)]
    wrong = query(f"SELECT p.channel, min(p.predicted_at), max(p.predicted_at), min(o.income / p.income) {pairs} "
                  "WHERE abs(p.income - o.income) > 1 GROUP BY 1")  # fmt: skip
    assert [(channel, first[:10], last[:10]) for channel, first, last, _ in wrong] == [
        ("branch", "2026-02-21", "2026-02-26")
    ]
    assert wrong[0][3] == pytest.approx(1000)


def test_labels_come_late_and_most_are_in_within_the_label_delay(query: Callable[[str], list[Any]]) -> None:
    rows = query(
        "SELECT defaulted, julianday(labelled_at) - julianday(predicted_at) "
        "FROM labels JOIN predictions USING (request_id)"
    )
    delay = np.array(rows, dtype=float)
    (n_predictions,) = query("SELECT count(*) FROM predictions")[0]
    assert delay[:, 1].min() > 0
    assert np.median(delay[delay[:, 0] == 1, 1]) == pytest.approx(5, abs=0.2)
    assert np.median(delay[delay[:, 0] == 0, 1]) == pytest.approx(10, abs=0.2)
    assert len(delay) / n_predictions == pytest.approx(0.97, abs=0.005)
    assert np.mean(delay[:, 1] <= demo_log.LABEL_DELAY / timedelta(days=1)) > 0.98


def test_incidents_keep_out_of_the_baseline_and_out_of_each_others_days() -> None:
    spans = [(incident.first_day, incident.last_day) for incident in INCIDENTS]
    assert spans[0][0] > BASELINE_DAYS
    assert all(last < first for (_, last), (first, _) in pairwise(spans))
    assert all(last > first for first, last in spans), "two windows in a row are needed to confirm"
    holiday = next(incident for incident in INCIDENTS if incident.check == "performance")
    assert timedelta(days=60 - holiday.first_day - 2) >= demo_log.LABEL_DELAY


def test_every_kind_of_check_has_its_incident() -> None:
    assert {incident.check for incident in INCIDENTS} == {
        "feature_drift", "score_drift", "performance", "skew", "quality",
    }  # fmt: skip


def test_the_truth_explains_what_was_planted_and_nothing_else(truth: DemoTruth) -> None:
    in_campaign = truth.start + timedelta(days=40)
    assert truth.explain("feature_drift", "age", window_start=in_campaign) is not None
    assert truth.explain("feature_drift", "income", window_start=in_campaign) is None
    assert truth.explain("feature_drift", "age", window_start=truth.start) is None
    found = truth.culprit("feature_drift", ["region", "channel"], window_start=in_campaign)
    assert found is not None
    assert found.name == "partner campaign"
    assert truth.culprit("feature_drift", ["region"], window_start=in_campaign) is None
    assert truth.culprit("performance", [], window_start=truth.start + timedelta(days=31)) is not None


def test_the_log_ends_where_it_was_told_to(truth: DemoTruth, query: Callable[[str], list[Any]]) -> None:
    first, last, n = query("SELECT min(predicted_at), max(predicted_at), count(*) FROM predictions")[0]
    assert truth.end == datetime(2026, 3, 1, tzinfo=UTC)
    assert (first[:10], last[:10], n) == ("2025-12-31", "2026-02-28", truth.n_rows)
    assert n / 60 == pytest.approx(2000, rel=0.05)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.db", "b.db", "c.db")]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        write_demo_log(path, seed=seed, per_day=20)
    a, b, c = (path.read_bytes() for path in paths)
    assert a == b
    assert a != c
    assert not list(tmp_path.glob("*.partial"))


def test_a_demo_log_is_replaced_and_anything_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    write_demo_log(path, per_day=5)
    write_demo_log(path, per_day=5, end=date(2026, 2, 1))
    for content in (b"somebody's notes", b""):
        path.write_bytes(content)
        with pytest.raises(FileExistsError, match="not a demo log"):
            write_demo_log(path, per_day=5)
        assert path.read_bytes() == content


@pytest.mark.parametrize(("arguments", "why"), [({"days": 30}, "at least 59 days"), ({"per_day": 0}, "at least one")])
def test_a_log_too_small_for_its_incidents_is_refused(tmp_path: Path, arguments: dict[str, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        write_demo_log(tmp_path / "log.db", **arguments)
