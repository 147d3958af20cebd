"""Predictions that can never be labelled, through the whole service: refused loans show no default."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from monitor.backfill import backfill_range
from monitor.cli import app
from monitor.config_file import load
from monitor.models import Check, Result, Verdict
from monitor.run import run_due
from monitor.service import Service
from monitor.sources import SourceError
from monitor.store import Store

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PER_DAY = 400

CONFIG = """
store: sqlite:///{folder}/store.db
sources: {{main: "{source}"}}
models:
  loans:
    table: loans
    time: asked_at
    key: id
    score: p_default
    threshold: 0.5
    labels: {{table: outcomes, key: id, label: defaulted, time: known_at, delay: 5d{labels}}}
    baseline: {{from: 2026-01-01, to: 2026-01-11}}
    start: 2026-01-11
    performance:
      metrics: [precision, recall, fbeta, specificity, roc_auc, pr_auc, brier, log_loss, ece, accuracy, positive_rate]
      min_labels: 50
      {performance}
reports: {{dir: "{folder}/reports", evidently: never, keep: 9000d}}
"""


def log(*, days: int = 14, refused: bool = True) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Loans with their outcomes within three days; those that were refused have none."""
    rng = np.random.default_rng(6)
    n = days * PER_DAY
    p = rng.beta(1.2, 2.5, n)
    loans = pd.DataFrame(
        {
            "id": np.arange(n),
            "asked_at": pd.Timestamp("2026-01-01") + pd.to_timedelta((np.arange(n) + 0.5) * 86400 // PER_DAY, unit="s"),
            "p_default": p,
            "income": rng.normal(size=n),
            "approved": (p < 0.5).astype(int),
        }
    )
    outcomes = pd.DataFrame(
        {
            "id": loans.id,
            "defaulted": (rng.uniform(size=n) < p).astype(int),
            "known_at": loans.asked_at + pd.to_timedelta(rng.uniform(0, 72, n), unit="h"),
        }
    )
    return loans, outcomes[loans.approved == 1] if refused else outcomes


def write(folder: Path, kind: str, tables: dict[str, pd.DataFrame], postgres: str = "") -> str:
    if kind == "parquet":
        for name, frame in tables.items():
            frame.to_parquet(folder / f"{name}.parquet")
        return str(folder)
    url = f"sqlite:///{folder}/log.db" if kind == "sqlite" else postgres
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    for name, frame in tables.items():
        frame.to_sql(name, engine, index=False)
    engine.dispose()
    return url


def run(
    folder: Path, source: str, *, labels: str, performance: str = "", days: int = 4, now: datetime | None = None
) -> list[Result]:
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder, source=source, labels=labels, performance=performance))
    config = load(path)
    service = Service(config, Store.open(config.store.get_secret_value()))
    first = START + 10 * DAY
    done = backfill_range(service, start=first, end=first + days * DAY, now=now or START + 30 * DAY, alerts=False)
    assert done.errors == []
    results = service.store.results("loans", check=Check.PERFORMANCE)
    service.close()
    service.store.close()
    return results


def of_first_day(results: list[Result], kind: str = "realized") -> dict[str, Result]:
    return {r.metric: r for r in results if r.kind == kind and r.window.start == START + 10 * DAY}


def cells(loans: pd.DataFrame, outcomes: pd.DataFrame, day: int = 10) -> dict[str, int]:
    part = loans[(loans.index // PER_DAY) == day].merge(outcomes, on="id", how="left")
    yes = part.p_default >= 0.5
    return {
        "tn": int((~yes & (part.defaulted == 0)).sum()),
        "fn": int((~yes & (part.defaulted == 1)).sum()),
        "refused": int(yes.sum()),
    }


def test_what_refused_loans_would_have_done_is_told_as_bounds(tmp_path: Path) -> None:
    loans, outcomes = log()
    source = write(tmp_path, "sqlite", {"loans": loans, "outcomes": outcomes})
    results = run(tmp_path, source, labels=", only_when: {decision: negative}")
    found, known = of_first_day(results), cells(loans, outcomes)
    fn, tn, refused = known["fn"], known["tn"], known["refused"]
    recall = found["recall"]
    assert recall.value is None
    assert recall.interval == pytest.approx((0.0, refused / (refused + fn)))
    assert found["accuracy"].interval == pytest.approx((tn / PER_DAY, (tn + refused) / PER_DAY))
    assert found["specificity"].interval == pytest.approx((tn / (tn + refused), 1.0))
    assert found["precision"].interval == (0.0, 1.0)
    assert (recall.detail["reason"], recall.detail["bounds"]) == ("never_labelled", "never labelled")
    assert recall.detail["never_labelled"] == refused
    assert recall.label_coverage == 1.0, "of those that can be labelled, all are"
    assert recall.n_current == fn + tn
    assert recall.verdict is Verdict.CANNOT_TELL
    assert found["positive_rate"].value == pytest.approx(refused / PER_DAY)
    assert found["pr_auc"].detail["reason"] == "never_labelled"
    assert found["roc_auc"].interval is not None
    noted = next(r for r in found.values() if "confusion" in r.detail)
    assert noted.detail["labels"]["never_labelled"] == refused
    assert noted.detail["confusion"]["never_labelled"] == {"positive": refused, "negative": 0}
    assert f"{refused} of {PER_DAY} predictions can never be labelled" in recall.detail["what"]


def test_a_metric_without_refused_loans_in_it_is_a_point_with_a_verdict(tmp_path: Path) -> None:
    """The other way round: only what was decided positive is looked into, and the rest never is."""
    loans, outcomes = log(refused=False)
    source = write(tmp_path, "sqlite", {"loans": loans, "outcomes": outcomes[loans.p_default >= 0.5]})
    results = run(tmp_path, source, labels=", only_when: {decision: positive}")
    found = of_first_day(results)
    part = loans[(loans.index // PER_DAY) == 10].merge(outcomes, on="id")
    true = part[part.p_default >= 0.5].defaulted
    assert found["precision"].value == pytest.approx(true.mean())
    assert found["precision"].verdict is Verdict.OK
    assert found["recall"].interval == pytest.approx((true.sum() / (true.sum() + (part.p_default < 0.5).sum()), 1.0))


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [('"< 0.95"', Verdict.ALERT), ('"< 0.2"', Verdict.OK), ('"< 0.6"', Verdict.CANNOT_TELL)],
)
def test_a_verdict_needs_the_whole_bound(tmp_path: Path, limit: str, verdict: Verdict) -> None:
    loans, outcomes = log()
    source = write(tmp_path, "sqlite", {"loans": loans, "outcomes": outcomes})
    results = run(
        tmp_path, source, labels=", only_when: {decision: negative}", performance=f"alert: {{accuracy: {limit}}}"
    )
    assert {r.verdict for r in results if r.metric == "accuracy" and r.kind == "realized"} == {verdict}


def test_calibrated_scores_speak_of_all_loans_and_say_what_that_takes_for_granted(tmp_path: Path) -> None:
    loans, outcomes = log()
    source = write(tmp_path, "sqlite", {"loans": loans, "outcomes": outcomes})
    results = run(tmp_path, source, labels=", only_when: {decision: negative}")
    found = of_first_day(results, "estimated")
    part = loans[(loans.index // PER_DAY) == 10]
    yes = part.p_default >= 0.5
    # Scores are the probabilities here, so the estimate is that of the truth, refused or not.
    promised = part.p_default[yes].sum() / part.p_default.sum()
    assert found["recall"].value == pytest.approx(promised, abs=0.1)
    assert found["recall"].n_current == PER_DAY
    assert "never labelled" in found["recall"].detail["assumes"]


def test_while_labels_land_the_corrected_bounds_hold_what_they_end_up_as(tmp_path: Path) -> None:
    loans, outcomes = log()
    source = write(tmp_path, "sqlite", {"loans": loans, "outcomes": outcomes})
    first = START + 10 * DAY
    early = run(tmp_path, source, labels=", only_when: {decision: negative}", days=1, now=first + 2.2 * DAY)
    corrected = of_first_day(early, "corrected")["accuracy"]
    assert 0.3 < (corrected.label_coverage or 0) < 0.95
    known = cells(loans, outcomes)
    low, high = corrected.detail["bounds_with_chance"]
    assert low <= known["tn"] / PER_DAY <= high
    assert low <= (known["tn"] + known["refused"]) / PER_DAY <= high
    assert corrected.value is None
    assert corrected.interval is not None


@pytest.mark.parametrize("kind", ["sqlite", "parquet", "postgres"])
def test_a_column_can_say_it_in_every_source(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    loans, outcomes = log(days=12)
    loans["approved"] = loans.approved == 1
    postgres = request.getfixturevalue("postgres_url") if kind == "postgres" else ""
    source = write(tmp_path, kind, {"loans": loans, "outcomes": outcomes}, postgres)
    found = of_first_day(run(tmp_path, source, labels=", only_when: {column: approved, is: true}", days=2))
    known = cells(loans, outcomes)
    assert found["recall"].detail["never_labelled"] == known["refused"]
    assert found["accuracy"].interval == pytest.approx(
        (known["tn"] / PER_DAY, (known["tn"] + known["refused"]) / PER_DAY)
    )


def test_the_lack_of_a_label_means_nothing_where_there_can_be_none(tmp_path: Path) -> None:
    loans, outcomes = log()
    source = write(tmp_path, "sqlite", {"loans": loans, "outcomes": outcomes[outcomes.defaulted == 1]})
    found = of_first_day(run(tmp_path, source, labels=", absent_means: 0, only_when: {decision: negative}"))
    known = cells(loans, outcomes)
    assert found["recall"].n_current == known["fn"] + known["tn"]
    assert found["recall"].detail["never_labelled"] == known["refused"]


def test_a_label_that_came_nevertheless_counts_and_is_counted(tmp_path: Path) -> None:
    loans, outcomes = log(refused=False)
    some = outcomes[(loans.approved == 1) | (loans.index % 7 == 0)]
    source = write(tmp_path, "sqlite", {"loans": loans, "outcomes": some})
    found = of_first_day(run(tmp_path, source, labels=", only_when: {decision: negative}"))
    odd = next(r.detail["labels"] for r in found.values() if "labels" in r.detail)
    part = loans[(loans.index // PER_DAY) == 10]
    refused = part.p_default >= 0.5
    assert odd["despite"] == int((refused & (part.index % 7 == 0)).sum())
    assert odd["never_labelled"] == int((refused & (part.index % 7 != 0)).sum())


def test_a_window_in_which_nothing_can_be_labelled_cannot_tell(tmp_path: Path) -> None:
    loans, outcomes = log()
    loans.loc[(loans.index // PER_DAY) == 10, "approved"] = 0
    source = write(tmp_path, "sqlite", {"loans": loans, "outcomes": outcomes[outcomes.id // PER_DAY != 10]})
    found = of_first_day(run(tmp_path, source, labels=", only_when: {column: approved, is: 1}"))
    assert {r.verdict for r in found.values() if r.metric != "positive_rate"} == {Verdict.CANNOT_TELL}
    assert all(r.value is None for r in found.values() if r.metric != "positive_rate")
    assert found["recall"].detail["never_labelled"] == PER_DAY


def test_the_page_and_the_numbers_say_it_in_words(tmp_path: Path) -> None:
    loans, outcomes = log()
    source = write(tmp_path, "sqlite", {"loans": loans, "outcomes": outcomes})
    run(tmp_path, source, labels=", only_when: {decision: negative}")
    config = str(tmp_path / "config.yaml")
    drawn = CliRunner().invoke(app, ["report", "-c", config])
    assert drawn.exit_code == 0, drawn.output
    pages = "".join(page.read_text() for page in (tmp_path / "reports").rglob("*.html"))
    assert "can never be labelled" in pages
    assert "Other thresholds" in pages
    assert "Labelled decisions:" in pages
    told = CliRunner().invoke(app, ["results", "--json", "-c", config, "--check", "performance"])
    rows = json.loads(told.stdout, parse_constant=pytest.fail)["results"]
    recall = next(r for r in rows if r["metric"] == "recall" and r["kind"] == "realized")
    assert recall["value"] is None
    assert recall["interval"][0] == 0.0


def test_a_condition_on_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    loans, outcomes = log(days=12)
    source = write(tmp_path, "sqlite", {"loans": loans, "outcomes": outcomes})
    path = tmp_path / "config.yaml"
    labels = ', only_when: {column: "aproved; DROP TABLE loans", is: true}'
    path.write_text(CONFIG.format(folder=tmp_path, source=source, labels=labels, performance=""))
    config = load(path)
    service = Service(config, Store.open(config.store.get_secret_value()))
    with service.source("loans") as opened, pytest.raises(SourceError, match="aproved"):
        opened.roles(service.model("loans"))
    report = run_due(service, now=START + 12 * DAY, worker="test")
    assert report.worst is Verdict.OK
    service.close()
    service.store.close()
