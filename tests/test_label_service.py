"""Labels through the service, day by day: labels that stop or come later are told, odd ones are counted, each once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sqlalchemy import create_engine

from monitor import counting
from monitor.config_file import load
from monitor.models import Check, Job, Verdict
from monitor.reports.site import build_site
from monitor.run import RunReport, run_due
from monitor.service import Service
from monitor.sources import Source
from monitor.sources.shapes import Scan
from monitor.sources.sql import Database
from monitor.store import Store

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BASELINE, LIVE, PER_DAY = 30, 24, 300

CONFIG = """
store: sqlite:///{folder}/store.db
sources: {{main: "sqlite:///{folder}/log.db"}}
models:
  model:
    table: log
    time: at
    key: id
    score: p
    threshold: 0.5
    settle: 0s
    features: {{include: [x]}}
    labels: {{table: labels, key: id, label: y, time: known_at, delay: 8d, horizons: [3d]}}
    baseline: {{from: 2026-01-01, to: 2026-01-31}}
    start: 2026-01-31
    performance: {{min_labels: 50, alert: {{accuracy: -10%}}}}
    confirm: 1
alerts: {{terminal: console, max_age: 3650d}}
reports: {{dir: "{folder}/reports", evidently: never}}
worker: {{max_catch_up: 60d}}
"""


def log(seed: int, *, days: int = BASELINE + LIVE) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions, and their labels after a day or more: four days in the mean, eight at most."""
    rng = np.random.default_rng(seed)
    n = days * PER_DAY
    p = rng.beta(1, 1, n)
    at = pd.Timestamp("2026-01-01") + pd.to_timedelta((np.arange(n) + 0.5) * 86400 // PER_DAY, unit="s")
    predictions = pd.DataFrame({"id": np.arange(n), "at": at, "x": rng.normal(size=n), "p": p})
    age = 0.5 + 7 * rng.beta(1.5, 2.5, n)
    labels = pd.DataFrame(
        {"id": predictions.id, "y": (rng.uniform(size=n) < p).astype(int), "known_at": at + pd.to_timedelta(age, "D")}
    )
    return predictions, labels


def opened(folder: Path, predictions: pd.DataFrame, labels: pd.DataFrame) -> Service:
    engine = create_engine(f"sqlite:///{folder}/log.db")
    predictions.to_sql("log", engine, index=False)
    labels.to_sql("labels", engine, index=False)
    engine.dispose()
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder))
    config = load(path)
    return Service(config, Store.open(config.store.get_secret_value()))


def live(service: Service, days: range) -> list[RunReport]:
    reports = []
    for day in days:
        reports.append(run_due(service, now=START + (BASELINE + day) * DAY + timedelta(hours=1), worker="test"))
        assert reports[-1].errors == []
    return reports


def verdicts(service: Service, metric: str) -> dict[int, Verdict]:
    found = service.store.results("model", metric=metric)
    return {(r.window.start - START) // DAY - BASELINE: r.verdict for r in found}


def closed(service: Service) -> None:
    service.close()
    service.store.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_steady_late_labels_are_no_finding(tmp_path: Path, seed: int) -> None:
    service = opened(tmp_path, *log(seed))
    live(service, range(1, LIVE))
    for metric in ("label_delay", "label_outage"):
        assert {Verdict.WARN, Verdict.ALERT}.isdisjoint(verdicts(service, metric).values()), metric
    assert Verdict.OK in verdicts(service, "label_outage").values()
    closed(service)


@pytest.mark.slow
def test_labels_that_stop_are_an_outage(tmp_path: Path) -> None:
    predictions, labels = log(5)
    stop = pd.Timestamp("2026-01-31") + pd.Timedelta(days=12)
    service = opened(tmp_path, predictions, labels[labels.known_at < stop])
    live(service, range(1, 18))
    found = verdicts(service, "label_outage")
    # Windows are looked at as they close: the one of day 12 is looked at a day after labels stopped.
    assert {day for day, verdict in found.items() if verdict is Verdict.ALERT and day < 12} == set()
    assert Verdict.ALERT in {verdict for day, verdict in found.items() if 12 <= day <= 15}
    closed(service)


@pytest.mark.slow
def test_labels_that_come_later_than_learned_are_a_finding(tmp_path: Path) -> None:
    predictions, labels = log(6)
    late = (predictions["at"] >= pd.Timestamp("2026-01-31") + pd.Timedelta(days=4)).to_numpy()
    age = labels.known_at - predictions["at"]
    labels["known_at"] = predictions["at"] + age.where(~late, age * 1.9)
    service = opened(tmp_path, predictions, labels)
    live(service, range(1, LIVE))
    found = verdicts(service, "label_delay")
    assert {v for day, v in found.items() if day < 4} <= {Verdict.OK, Verdict.CANNOT_TELL}
    assert Verdict.ALERT in found.values()
    closed(service)


def test_a_catch_up_reminds_of_nothing_that_it_has_only_just_told(tmp_path: Path) -> None:
    predictions, labels = log(8)
    predictions.loc[predictions["at"] >= pd.Timestamp("2026-01-31"), "x"] += 3
    service = opened(tmp_path, predictions, labels)
    live(service, range(7, 8))
    told = [item.message.title for item in service.store.outbox_due("terminal", limit=500)]
    assert sum("x drifted" in title for title in told) == 1
    live(service, range(8, 9))
    told = [item.message.title for item in service.store.outbox_due("terminal", limit=500)]
    assert sum("still" in title and "x drifted" in title for title in told) == 1
    closed(service)


@pytest.mark.parametrize(
    ("spelled", "words"),
    [
        pytest.param({0: None, 1: 1}, "say so with `labels.absent_means`", id="positives alone are logged"),
        pytest.param({0: "no", 1: "yes"}, "none is `positive: 1`: are they spelled so?", id="no label is `positive`"),
    ],
)
def test_labels_of_one_class_only_are_not_judged(tmp_path: Path, spelled: dict[int, object], words: str) -> None:
    predictions, labels = log(3, days=BASELINE + 3)
    labels = labels.assign(y=labels.y.map(spelled)).dropna(subset="y")
    service = opened(tmp_path, predictions, labels)
    assert run_due(service, now=START + (BASELINE + 13) * DAY, worker="test").errors == []
    found = service.store.results("model", check=Check.PERFORMANCE)
    realized = [r for r in found if r.kind == "realized" and r.detail["mature"] and r.n_current]
    assert {r.verdict for r in realized} == {Verdict.CANNOT_TELL}
    assert all(words in r.detail["reason"] for r in realized if r.value is not None)
    assert not [r for r in found if r.verdict in (Verdict.WARN, Verdict.ALERT)]
    closed(service)


def test_what_decisions_are_worth_may_have_a_limit(tmp_path: Path) -> None:
    predictions, labels = log(3, days=BASELINE + 3)
    live_ones = labels.id >= BASELINE * PER_DAY
    labels.loc[live_ones, "y"] = 1 - labels.y[live_ones]
    service = opened(tmp_path, predictions, labels)
    path = tmp_path / "config.yaml"
    told = "{min_labels: 50, metrics: [precision, value], value: {tp: 5, fp: -5}, alert: {value: -0.5}}"
    path.write_text(path.read_text().replace("{min_labels: 50, alert: {accuracy: -10%}}", told))
    service = Service(load(path), service.store)
    assert run_due(service, now=START + (BASELINE + 12) * DAY, worker="test").errors == []
    found = verdicts(service, "value")
    assert {found[day] for day in range(3)} == {Verdict.ALERT}
    closed(service)


def test_odd_labels_are_counted_and_the_newest_counts(tmp_path: Path) -> None:
    predictions, labels = log(7, days=BASELINE + 1)
    mine = labels[labels.id >= BASELINE * PER_DAY]
    corrected = mine.iloc[:20].assign(y=1 - mine.y.iloc[:20], known_at=mine.known_at.iloc[:20] + pd.Timedelta(hours=1))
    repeated = mine.iloc[20:50].assign(known_at=mine.known_at.iloc[20:50] + pd.Timedelta(hours=1))
    labels.loc[labels.id.isin(mine.id.iloc[50:60]), "known_at"] -= pd.Timedelta(days=30)
    strangers = mine.iloc[60:70].assign(id=mine.id.iloc[60:70] + 10**6)
    service = opened(tmp_path, predictions, pd.concat([labels, corrected, repeated, strangers]))
    run_due(service, now=START + (BASELINE + 12) * DAY, worker="test")
    found = service.store.results("model", check=Check.PERFORMANCE)
    noted = next(r.detail["labels"] for r in found if "labels" in r.detail and r.window.start == START + BASELINE * DAY)
    assert noted["contradictions"] == 20
    assert noted["before_prediction"] == 10
    accuracy = next(
        r for r in found if r.metric == "accuracy" and r.kind == "realized" and r.window.start == START + BASELINE * DAY
    )
    part = predictions[predictions.id >= BASELINE * PER_DAY]
    newest = mine.y.to_numpy().copy()
    newest[:20] = 1 - newest[:20]
    assert accuracy.value == pytest.approx(((part.p.to_numpy() >= 0.5) == (newest == 1)).mean())
    assert accuracy.label_coverage == 1.0
    closed(service)


def test_labels_of_one_window_make_no_other_be_read_and_change_its_verdict_once(tmp_path: Path) -> None:
    """Two hundred labels of one of eleven windows are corrected: it alone is read again, and restated once."""
    predictions, labels = log(8, days=BASELINE + 4)
    service = opened(tmp_path, predictions, labels)
    done = START + (BASELINE + 4) * DAY + timedelta(days=7, hours=23)
    run_due(service, now=done, worker="test")
    before = {row.window: row.revision for row in service.store.windows("model", Job.LABELS)}
    assert len(before) == 4 + 7
    window = START + (BASELINE + 3) * DAY  # matures eight days after its end
    ids = range((BASELINE + 3) * PER_DAY, (BASELINE + 3) * PER_DAY + 200)
    wrong = labels.loc[labels.id.isin(ids)].assign(
        known_at=pd.Timestamp(done.replace(tzinfo=None)) - pd.Timedelta("1min")
    )
    engine = create_engine(f"sqlite:///{tmp_path}/log.db")
    wrong.assign(y=(predictions.p[list(ids)].to_numpy() < 0.5).astype(int)).to_sql(
        "labels", engine, index=False, if_exists="append"
    )
    engine.dispose()
    n_told = len(service.store.outbox_due("terminal", limit=500))
    read: list[datetime] = []
    fetched: dict[str, list[int]] = {"log": [], "labels": []}
    asked: list[str] = []
    real, scan = Source.read_labels, Database.scan

    def watched(self: Database, scanned: Scan) -> Iterator[pa.RecordBatch]:
        rows = list(scan(self, scanned))
        fetched[str(scanned.relation.table)].append(sum(batch.num_rows for batch in rows))
        yield from rows

    def noted(name: str) -> Callable[..., Any]:
        own = getattr(Database, name)

        def noting(self: Database, *arguments: Any, **more: Any) -> Any:
            asked.append(name)
            return own(self, *arguments, **more)

        return noting

    def spy(self: Source, *arguments: object, **more: object) -> Iterator[pa.RecordBatch]:
        for batch in real(self, *arguments, **more):  # type: ignore[arg-type]
            read.extend(batch.column(counting.TIME).to_pylist())
            yield batch

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Source, "read_labels", spy)
        patched.setattr(Database, "scan", watched)
        for name in ("aggregate", "aggregate_each", "duplicates", "is_small"):
            patched.setattr(Database, name, noted(name))
        run_due(service, now=done + timedelta(hours=2), worker="test")
    due = START + (BASELINE + 11) * DAY
    assert len(read) == PER_DAY, "the one that closed meanwhile has no rows, and is looked at for the first time"
    assert {window <= at < window + DAY for at in read} == {True}
    # What is fetched: the window's predictions, and their labels with those that were corrected; besides, of the window
    # that closed meanwhile, up to 500 labels that landed in it, and the ids of these.
    predictions_of, labels_of = fetched["log"], fetched["labels"]
    # The corrected labels bear a time from before the last look: those of a window without predictions, which has come to
    # one of the horizons meanwhile, are counted before that, and there are none.
    assert (predictions_of[0], labels_of[:2]) == (PER_DAY, [0, PER_DAY + 200])
    assert sum(predictions_of[1:]) <= 500
    assert sum(labels_of[2:]) <= 500
    assert (asked.count("is_small"), asked.count("duplicates")) == (1, 1)
    assert len(asked) + len(predictions_of) + len(labels_of) <= 22, "statements for two windows, and looks at the young"
    after = {row.window: row.revision for row in service.store.windows("model", Job.LABELS)}
    assert {w.start for w in after if after[w] != before.get(w)} == {window, due}
    news = service.store.outbox_due("terminal", limit=500)[n_told:]
    assert [each.message.title for each in news] == ["model: performance fell"]
    history = service.store.results("model", metric="accuracy", start=window, end=window + DAY, all_revisions=True)
    told = [(r.revision, r.verdict) for r in history if r.kind == "realized"]
    assert [v for _, v in told][-1] is Verdict.ALERT, told
    assert Verdict.ALERT not in [v for _, v in told][:-1]
    build_site(service.store, service.config, now=done + timedelta(hours=2), out=tmp_path / "site")
    written = (tmp_path / "site" / "model" / f"{window:%Y-%m-%d}.html").read_text()
    page = " ".join(re.sub(r"<[^>]+>", " ", written).split())
    assert "Restated (revision 1)" in page
    assert re.search(r"Accuracy was believed to be [\d.]+ % \(ok\), and is now known to be [\d.]+ % \(alert\)", page)
    side = r"[\d.]+ % \([\d.]+ % – [\d.]+ %\) on \d+ \w+ 20\d\d, \d\d:\d\d UTC · on the labels that had landed · 100 % of the labels in"
    assert re.search(rf"Believed then Known now Accuracy ✓ ok {side} ▲ alert {side}", page)
    assert "of this window as it was believed at 2 looks" in page
    run_due(service, now=done + timedelta(hours=3), worker="test")
    assert {row.window: row.revision for row in service.store.windows("model", Job.LABELS)} == after
    assert len(service.store.outbox_due("terminal", limit=500)) == n_told + 1, "told once"
    closed(service)


@pytest.mark.slow
def test_an_outage_is_one_incident_that_ends_by_itself_and_leaves_no_other_finding(tmp_path: Path) -> None:
    """Labels stop for eight days, and those held up come back at once: looked at day by day."""
    predictions, labels = log(1, days=BASELINE + 44)
    stop = pd.Timestamp("2026-01-31") + pd.Timedelta(days=16)
    back = stop + pd.Timedelta(days=8)
    labels.loc[(labels.known_at >= stop) & (labels.known_at < back), "known_at"] = back
    service = opened(tmp_path, predictions, labels)
    live(service, range(1, 44))
    assert {day for day, v in verdicts(service, "label_outage").items() if v is Verdict.ALERT} == set(range(16, 23))
    assert {Verdict.WARN, Verdict.ALERT}.isdisjoint(verdicts(service, "label_delay").values())
    (incident,) = service.store.incidents("model")
    assert incident.resolved_window is not None
    assert (incident.opened_window, incident.resolved_window) == (START + 46 * DAY, START + 55 * DAY)
    assert incident.cause is None
    assert incident.detail["advice"].startswith("Labels stopped: look at the job that delivers labels (labels); ")
    told = [item.message for item in service.store.outbox_due("terminal", limit=500)]
    assert [m.title for m in told if "still" not in m.title] == [
        "model: labels stopped", "model: resolved – labels stopped",
    ]  # fmt: skip
    newest = labels.known_at[labels.known_at < stop].max()
    assert f"no label since {newest:%Y-%m-%d %H:%M} UTC, for 1." in told[0].findings[0].text
    closed(service)
