"""Stored windows judged again by a changed config: without the source, once, and with incidents that follow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine
from typer.testing import CliRunner

from monitor import rejudging
from monitor.backfill import backfill_range
from monitor.cli import app
from monitor.config_file import load
from monitor.models import Check, IncidentState, Job, Result, Verdict, WindowRow
from monitor.rejudging import Rejudged, is_same, rejudge_range
from monitor.service import Service
from monitor.store import Store

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOW = START + 31 * DAY
SPAN = {"start": START + 10 * DAY, "end": START + 30 * DAY}

CONFIG = """
store: sqlite:///{folder}/store.db
sources: {{main: "sqlite:///{folder}/log.db"}}
models:
  m:
    table: served
    time: at
    key: id
    score: score
    start: 2026-01-11
    baseline: {baseline}
    segments: [plan]
    labels: {{label: y, delay: 0s}}
    skew: {{offline: {{table: offline, key: id}}, {skew}}}
    confirm: {confirm}
    drift: {drift}
    performance: {performance}
reports: {{dir: "{folder}/reports", evidently: never}}
"""
PLAIN = {"baseline": "{from: 2026-01-01, to: 2026-01-11}", "skew": "alert: 0.9", "confirm": 2, "drift": "{}"}
PLAIN |= {"performance": "{}"}
STRICT = {"drift": "{warn: {psi: 0.02, ks: 0.02}, alert: {psi: 0.04, ks: 0.04}}"}
LOOSE = {"drift": "{warn: {psi: 3, ks: 0.9}, alert: {psi: 4, ks: 0.95}, multivariate: correlation}"}


def write_log(folder: Path) -> None:
    """Thirty days: ``age`` moves by 0.25 sd on the 16th, ``income`` by 1 sd on the 21st for four days, skewed at 20 %."""
    rng = np.random.default_rng(5)
    n = 30 * 600
    day = np.arange(n) // 600
    frame = pd.DataFrame(
        {
            "id": np.arange(n),
            "at": pd.Timestamp(START).tz_localize(None) + pd.to_timedelta(np.arange(n) * 144, unit="s"),
            "age": rng.normal(40, 10, n) + 2.5 * (day >= 15),
            "income": rng.normal(0, 1, n) + 1.0 * ((day >= 20) & (day < 24)),
            "plan": rng.choice(["basic", "plus"], n, p=[0.6, 0.4]),
        }
    )
    frame["score"] = rng.beta(2, 3, n)
    frame["y"] = (rng.random(n) < frame["score"]).astype(int)
    offline = frame[["id", "age", "income"]].copy()
    offline["age"] += rng.random(n) < 0.2
    engine = create_engine(f"sqlite:///{folder}/log.db")
    frame.to_sql("served", engine, index=False)
    offline.to_sql("offline", engine, index=False)
    engine.dispose()


def opened(folder: Path, **changed: Any) -> Service:
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder, **(PLAIN | changed)))
    config = load(path)
    return Service(config, Store.open(config.store.get_secret_value()))


def made(folder: Path, *, days: int = 20, **changed: Any) -> Path:
    """The log as the service judged it; then the log is deleted."""
    write_log(folder)
    service = opened(folder, **changed)
    start = SPAN["start"]
    done = backfill_range(service, start=start, end=start + days * DAY, now=NOW, alerts=False)
    service.close()
    service.store.close()
    assert done.errors == []
    (folder / "log.db").unlink()
    return folder


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("frozen"))


@pytest.fixture
def folder(frozen: Path, tmp_path: Path) -> Path:
    shutil.copytree(frozen, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def judge(folder: Path) -> Iterator[Callable[..., tuple[Rejudged, Store]]]:
    services: list[Service] = []

    def call(*, start: int = 10, end: int = 30, **changed: Any) -> tuple[Rejudged, Store]:
        service = opened(folder, **changed)
        services.append(service)
        [told] = rejudge_range(
            service, start=START + start * DAY, end=START + end * DAY, now=NOW, alerts=False, models=["m"]
        )
        assert not (folder / "log.db").exists()
        return told, service.store

    yield call
    for service in services:
        service.close()
        service.store.close()


def revisions(store: Store, job: Job = Job.INPUTS) -> list[int]:
    return [row.revision for row in store.windows("m", job)]


def alerting(store: Store, feature: str) -> list[int]:
    """Days on which a feature's distribution alerts."""
    found = store.results("m", check=Check.FEATURE_DRIFT, feature=feature)
    return sorted({(r.window.start - START).days for r in found if r.verdict is Verdict.ALERT and r.segment is None})


def test_the_same_config_changes_nothing(judge: Callable[..., tuple[Rejudged, Store]]) -> None:
    told, store = judge()
    assert (told.restated, told.unchanged, told.left, told.errors) == (0, 60, {}, [])
    assert told.changes == []
    assert revisions(store) == [0] * 20


def test_stricter_limits_write_a_new_revision_once_and_open_what_they_would_have(
    judge: Callable[..., tuple[Rejudged, Store]],
) -> None:
    told, store = judge(**STRICT)
    assert told.restated >= 15
    assert told.worst is Verdict.ALERT
    assert told.errors == []
    assert set(range(15, 30)) - set(alerting(store, "age")) == set()
    [incident] = store.incidents("m", states=[IncidentState.OPEN])
    assert incident.check is Check.FEATURE_DRIFT
    assert incident.opened_window == START + 15 * DAY
    assert "age" in incident.features
    assert incident.cause is not None
    assert sum(store.outbox_counts().get("x", {}).values()) == 0
    before = revisions(store), store.incidents("m"), store.series("m"), store.results("m", all_revisions=True)
    again, store = judge(**STRICT)
    assert again.restated == 0
    assert (
        revisions(store), store.incidents("m"), store.series("m"), store.results("m", all_revisions=True)
    ) == before  # fmt: skip


def test_the_old_revision_and_the_counts_are_kept(judge: Callable[..., tuple[Rejudged, Store]]) -> None:
    _, store = judge()
    then = store.results("m", job=Job.INPUTS)
    counts = store.profiles("m", start=START, end=NOW)
    _, store = judge(**STRICT)
    old = [r for r in store.results("m", job=Job.INPUTS, all_revisions=True) if r.revision == 0]
    assert sorted(old, key=repr) == sorted(then, key=repr)
    assert len(store.profiles("m", start=START, end=NOW)) == len(counts)
    assert store.check() == []


def test_what_is_judged_again_is_what_a_run_by_that_config_says(
    judge: Callable[..., tuple[Rejudged, Store]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From the rows or from the stored counts: the same numbers, verdicts and incidents."""
    other = made(tmp_path_factory.mktemp("strict"), **STRICT)
    with Store.open(f"sqlite:///{other}/store.db") as run:
        fresh, incidents = run.results("m", job=Job.INPUTS), run.incidents("m")
        series = run.series("m")
    _, store = judge(**STRICT)
    coarse = frozenset({"age", "income", "__score__"})
    again = store.results("m", job=Job.INPUTS)
    for window in {r.window for r in fresh}:
        mine, theirs = ([r for r in found if r.window == window] for found in (again, fresh))
        assert is_same(mine, theirs, coarse=coarse)
    [now], [then] = ([i for i in found if i.state is IncidentState.OPEN] for found in (store.incidents("m"), incidents))
    assert (now.opened_window, now.check, now.features, now.cause) == (
        then.opened_window,
        then.check,
        then.features,
        then.cause,
    )
    assert now.onset is not None
    assert abs(now.onset - (START + 15 * DAY)) <= DAY
    decided = {key: (s.bad, s.good, s.verdict) for key, s in series.items() if key[0] is Check.FEATURE_DRIFT}
    assert decided.items() <= {key: (s.bad, s.good, s.verdict) for key, s in store.series("m").items()}.items()


def test_looser_limits_open_no_incident_on_the_way(judge: Callable[..., tuple[Rejudged, Store]]) -> None:
    """Windows are replaced one after the other; what is about to be replaced opens nothing."""
    _, store = judge()
    before = {incident.id for incident in store.incidents("m")}
    assert any("income" in i.features for i in store.incidents("m"))
    _, store = judge(**LOOSE)
    assert alerting(store, "income") == []
    assert {incident.id for incident in store.incidents("m")} <= before


def test_an_ignored_feature_is_judged_no_more(judge: Callable[..., tuple[Rejudged, Store]]) -> None:
    told, store = judge(drift="{features: {income: {ignore: true}}}")
    assert told.restated == 20
    assert store.results("m", feature="income", job=Job.INPUTS) == []


def test_limits_of_skew_are_held_against_the_measured_rates(judge: Callable[..., tuple[Rejudged, Store]]) -> None:
    told, store = judge(skew="alert: 0.05")
    assert told.restated == 20
    rates = [r for r in store.results("m", check=Check.SKEW, feature="age") if r.metric == "mismatch_rate"]
    assert {r.verdict for r in rates} == {Verdict.ALERT}
    assert {r.revision for r in rates} == {1}
    assert "requests differ from offline" in rates[0].detail["what"]
    assert [i.check for i in store.incidents("m", states=[IncidentState.OPEN])] == [Check.SKEW]
    told, store = judge(skew="alert: 0.05, tolerance: {rel: 0.001}")
    assert told.left == {rejudging.OTHER_PAIRS: 20}


PERFORMANCE = {
    "stricter": "{alert: {roc_auc: -0.1%, brier: '> 0.1', calibration_drift: '> 0.001'}}",
    "looser": "{warn: {roc_auc: -20%}, alert: {roc_auc: -40%}}",
}


@pytest.mark.parametrize("limits", PERFORMANCE)
def test_limits_of_performance_are_held_against_what_was_measured(
    judge: Callable[..., tuple[Rejudged, Store]], tmp_path_factory: pytest.TempPathFactory, limits: str
) -> None:
    """To the same numbers, verdicts and reasons as in a run by that config, segments and calibration included."""
    changed = {"performance": PERFORMANCE[limits]}
    other = made(tmp_path_factory.mktemp(limits), days=6, **changed)
    with Store.open(f"sqlite:///{other}/store.db") as run:
        fresh = run.results("m", job=Job.LABELS)
    told, store = judge(end=16, **changed)
    assert told.left == {}
    assert told.restated == 6
    again = store.results("m", job=Job.LABELS, end=START + 16 * DAY)
    for window in {r.window for r in fresh}:
        mine, theirs = ([r for r in found if r.window == window] for found in (again, fresh))
        assert is_same(mine, theirs)
    assert {r.revision for r in again} == {1}
    assert {r.segment for r in again if r.check is Check.PERFORMANCE} == {None, "plan=basic", "plan=plus"}
    if limits == "stricter":
        assert Verdict.ALERT in {r.verdict for r in again if r.metric == "brier"}
        assert any(c.metric == "brier" and c.now is Verdict.ALERT for c in told.changes)


def test_before_anything_is_saved_it_can_be_seen_what_would_be_different(
    folder: Path, judge: Callable[..., tuple[Rejudged, Store]]
) -> None:
    _, store = judge(performance=PERFORMANCE["stricter"], end=10)
    before = store.results("m", all_revisions=True)
    span = ["--from", "2026-01-11", "--to", "2026-01-16", "--now", NOW.isoformat()]
    asked = ["backfill", "-c", str(folder / "config.yaml"), "--rejudge", "--dry-run", *span]
    told = CliRunner().invoke(app, [*asked, "--json"])
    assert told.exit_code == 0, told.output
    answer = json.loads(told.stdout)["rejudge"]
    assert (answer["dry_run"], answer["windows"], answer["restated"], answer["report"]) == (True, 15, 5, None)
    changes = answer["models"][0]["changes"]
    of_all = [c for c in changes if c["metric"] == "brier" and c["kind"] == "realized" and c["segment"] is None]
    assert len(of_all) == 5
    assert {c["verdict_now"] for c in of_all} == {"alert"}
    words = CliRunner().invoke(app, asked, env={"COLUMNS": "200"})
    assert "would say something else now" in words.stdout
    assert "5 windows: realized brier ok → alert" in words.stdout
    assert store.results("m", all_revisions=True) == before
    assert not (folder / "reports").exists()
    alone = CliRunner().invoke(app, ["backfill", "-c", str(folder / "config.yaml"), "--dry-run", *span])
    assert alone.exit_code == 2


def test_other_metrics_are_not_made_up_from_what_was_measured(judge: Callable[..., tuple[Rejudged, Store]]) -> None:
    told, store = judge(performance="{metrics: [precision, specificity]}", end=14)
    assert told.left == {rejudging.OTHER_LABELS: 4}
    told, _ = judge(performance="{min_labels: 50}", end=14)
    assert told.left == {rejudging.OTHER_LABELS: 4}
    assert {r.revision for r in store.results("m", job=Job.LABELS)} == {0}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"drift": "{bins: 20}"}, rejudging.OTHER_BASELINE),
        ({"baseline": "{table: offline}"}, rejudging.OTHER_BASELINE),
    ],
)
def test_what_only_the_source_could_tell_is_left_and_counted(
    judge: Callable[..., tuple[Rejudged, Store]], changed: dict[str, Any], why: str
) -> None:
    told, store = judge(**changed)
    asks_for_more = {rejudging.OTHER_LABELS: 20} if "baseline" in changed else {}
    assert told.left == {why: 20} | asks_for_more
    assert revisions(store) == [0] * 20


def test_windows_whose_counts_are_gone_are_left(folder: Path, judge: Callable[..., tuple[Rejudged, Store]]) -> None:
    with Store.open(f"sqlite:///{folder}/store.db") as store:
        store.save_incidents([replace(i, state=IncidentState.RESOLVED) for i in store.incidents("m")])
        store.prune(results_before=START, profiles_before=START + 14 * DAY)
    told, _ = judge(**STRICT)
    assert told.left[rejudging.GONE] == 4
    assert told.left[rejudging.REFERENCE_GONE] == 16
    assert told.restated == 0


def test_windows_counted_over_other_bins_are_left(folder: Path, judge: Callable[..., tuple[Rejudged, Store]]) -> None:
    with Store.open(f"sqlite:///{folder}/store.db") as store:
        old = store.baseline("m")
        assert old is not None
        moved = {
            name: replace(column, spec=replace(column.spec, edges=column.spec.edges + 0.5))
            if name == "age" and hasattr(column.spec, "edges")
            else column
            for name, column in old.columns.items()
        }
        store.save_baseline(
            "m",
            spec_hash=old.spec_hash,
            source="",
            window=old.window,
            n_rows=old.n_rows,
            columns=moved,
            detail=old.detail,
        )
    told, _ = judge(**STRICT)
    assert told.left == {rejudging.OTHER_BINS: 20}


def test_cut_short_it_goes_on_where_it_stopped(
    folder: Path, judge: Callable[..., tuple[Rejudged, Store]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each window is one transaction: what was saved stays, the rest is saved by the next call, to the same end."""
    kept = Store.restate
    saved: list[WindowRow] = []

    def dies(self: Store, row: WindowRow, *args: Any, **more: Any) -> bool:
        if len(saved) == 5:
            raise KeyboardInterrupt
        saved.append(row)
        return kept(self, row, *args, **more)

    monkeypatch.setattr(Store, "restate", dies)
    with pytest.raises(KeyboardInterrupt):
        judge(**STRICT)
    monkeypatch.undo()
    with Store.open(f"sqlite:///{folder}/store.db") as store:
        assert sum(revisions(store)) == 5
        assert store.check() == []
        assert store.windows("m", Job.INPUTS, states=[rejudging.story.RunState.PENDING]) == []
    told, store = judge(**STRICT)
    assert told.restated >= 10
    assert set(range(15, 30)) - set(alerting(store, "age")) == set()
    [incident] = store.incidents("m", states=[IncidentState.OPEN])
    assert incident.opened_window == START + 15 * DAY
    assert judge(**STRICT)[0].restated == 0


def test_a_worker_that_has_the_model_in_hand_is_not_overtaken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejudging, "_TRIES", 2)
    service = opened(folder, **STRICT)
    store, window = service.store, SPAN["end"] - DAY
    newest = store.windows("m", Job.INPUTS, start=window)[-1]
    store.reopen("m", Job.INPUTS, newest.window, reason="its rows changed")
    claim = store.claim("another", lease=timedelta(minutes=5), models=["m"])
    assert claim is not None
    [told] = rejudge_range(service, **SPAN, now=NOW, alerts=False)
    assert told.restated == 0
    assert told.left[rejudging.BUSY] == len(told.errors) > 10
    assert told.left[rejudging.NOT_COMPUTED] == 1
    assert sum(revisions(store)) == 1
    assert store.release(claim)
    service.close()
    store.close()


def test_a_rolling_baseline_is_merged_from_stored_windows(tmp_path: Path) -> None:
    rolling = {"baseline": "{rolling: 8d, season: none, exclude_alerting: false}"}
    service = opened(made(tmp_path, days=10, **rolling), **rolling, **STRICT)
    store = service.store
    [told] = rejudge_range(service, **SPAN, now=NOW, alerts=False)
    assert told.restated > 3
    assert told.left == {}
    [whole] = [r for r in store.results("m", feature="age", metric="psi", start=START + 19 * DAY) if r.segment is None]
    assert (whole.revision, whole.n_reference) == (1, 8 * 600)
    assert rejudge_range(service, **SPAN, now=NOW, alerts=False)[0].restated == 0
    store.save_incidents([replace(i, state=IncidentState.RESOLVED) for i in store.incidents("m")])
    store.prune(results_before=START, profiles_before=START + 11 * DAY)
    [told] = rejudge_range(service, **SPAN, now=NOW, alerts=False)
    assert told.left == {rejudging.GONE: 1, rejudging.REFERENCE_GONE: 8}
    service.close()
    store.close()


def test_the_command_counts_and_says_why(folder: Path) -> None:
    opened(folder, **STRICT).store.close()
    words = ["backfill", "--rejudge", "--from", "2026-01-11", "--to", "2026-01-31", "-c", f"{folder}/config.yaml"]
    answer = CliRunner().invoke(app, [*words, "--json"])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)["rejudge"]
    assert told["windows"] == 60
    assert told["restated"] + told["unchanged"] + told["left"] == 60
    assert told["worst"] == "alert"
    assert told["models"][0]["left"] == []
    assert any(change["verdict_now"] == "alert" for change in told["models"][0]["changes"])
    assert Path(told["report"]).exists()
    text = CliRunner().invoke(app, [*words, "--fail-on", "alert"])
    assert text.exit_code == 3
    assert "m: 60 windows, 0 say something else now, 60 the same" in text.output


def test_spending_and_rounding_are_no_difference(frozen: Path) -> None:
    with Store.open(f"sqlite:///{frozen}/store.db") as store:
        found = store.results("m", feature="age", metric="psi", start=START + 29 * DAY)
    one = next(r for r in found if r.value is not None)

    def same(other: Result) -> bool:
        return is_same([other], [one])

    assert same(replace(one, detail=one.detail | {"spend": 0.0}))
    assert same(replace(one, value=(one.value or 0) * (1 + 1e-12)))
    assert same(replace(one, revision=7))
    assert not same(replace(one, value=(one.value or 0) * 1.001))
    assert not same(replace(one, verdict=Verdict.NO_DATA))
    assert not same(replace(one, threshold=None))
    assert not is_same([], [one])
    close = replace(one, value=(one.value or 0) * 1.001)
    assert is_same([close], [one], coarse=frozenset({"age"}))
    assert not is_same([replace(one, value=(one.value or 0) * 1.2)], [one], coarse=frozenset({"age"}))
