"""Labels that no prediction asked for: counted in rows and on the page, hinted at where there are many, never fatal."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from databases import write_table
from test_label_service import BASELINE, DAY, START, closed, log, opened
from typer.testing import CliRunner

from monitor.checks import Scope
from monitor.cli import app
from monitor.config import Config, ModelConfig, SourceConfig
from monitor.label_ids import AFTER_DELAY, judge, judge_ages
from monitor.models import Check, Result, Verdict, Window
from monitor.reports.site import build_site
from monitor.run import run_due
from monitor.sources import PermanentSourceError, Source, Unmatched, open_source
from monitor.sources.unmatched import SAMPLE, Drawn

AT = datetime(2026, 1, 5, tzinfo=UTC)
WINDOW = Window(AT, AT + timedelta(days=1))
NOW = AT + timedelta(days=40)
REACH = timedelta(days=30)
STAMP = sa.DateTime(timezone=True)
LABELS = {"table": "y", "time": "seen"}


def config(**more: Any) -> ModelConfig:
    return ModelConfig.model_validate({"table": "t", "time": "at", "key": "id", "labels": LABELS} | more)


def looked_up(url: str, model: ModelConfig, **more: Any) -> Unmatched | None:
    source = open_source("main", SourceConfig.model_validate({"url": url}), zone="UTC")
    try:
        return source.unmatched_labels(model, WINDOW, reach=REACH, now=NOW, **more)
    finally:
        source.close()


# --- looking up ------------------------------------------------------------------------------------


def test_labels_are_counted_by_when_they_landed_and_looked_up_among_all_predictions(database_url: str) -> None:
    predictions = [{"at": AT - timedelta(days=at), "id": f"k{at}"} for at in (0, 3, 20, 50)]
    write_table(database_url, "t", {"at": STAMP, "id": sa.Text}, predictions)
    noon = AT + timedelta(hours=12)
    landed = [("k0", noon), ("k3", noon), ("k20", noon), ("k50", noon), ("nobody", noon), (None, noon),
              ("before", AT - timedelta(seconds=1)), ("after", AT + timedelta(days=1))]  # fmt: skip
    write_table(database_url, "y", {"id": sa.Text, "label": sa.Integer, "seen": STAMP},
                [{"id": key, "label": 1, "seen": at} for key, at in landed])  # fmt: skip
    found = looked_up(database_url, config())
    # k50 has a prediction, but from longer ago than is looked: `since` says so.
    assert found is not None
    assert found._replace(ages=()) == Unmatched(n_landed=5, n_checked=5, n_unmatched=2, since=AT - REACH)
    assert sorted(found.ages) == [timedelta(days=at, hours=12) for at in (0, 3, 20)]


@pytest.mark.parametrize(("here", "there"), [("text", "number"), ("number", "text"), ("number", "number")])
def test_ids_of_other_types_are_the_same_ids(database_url: str, here: str, there: str) -> None:
    kinds: dict[str, Any] = {"text": sa.Text, "number": sa.Integer}
    made = {"text": str, "number": int}
    rows = [{"at": AT, "id": made[here](at)} for at in range(10)]
    write_table(database_url, "t", {"at": STAMP, "id": kinds[here]}, rows)
    labels = [{"id": made[there](at), "label": 0, "seen": AT} for at in range(8, 14)]
    write_table(database_url, "y", {"id": kinds[there], "label": sa.Integer, "seen": STAMP}, labels)
    found = looked_up(database_url, config())
    assert found is not None
    assert (found.n_checked, found.n_unmatched) == (6, 4)


def test_ids_of_several_columns_and_rows_that_the_model_leaves_out(database_url: str) -> None:
    rows = [{"at": AT, "a": at, "b": "x", "model": "mine" if at < 5 else "other"} for at in range(10)]
    write_table(database_url, "t", {"at": STAMP, "a": sa.Integer, "b": sa.Text, "model": sa.Text}, rows)
    labels = [{"a": at, "b": "x" if at != 3 else "y", "label": 0, "seen": AT} for at in range(12)]
    write_table(database_url, "y", {"a": sa.Integer, "b": sa.Text, "label": sa.Integer, "seen": STAMP}, labels)
    found = looked_up(database_url, config(key=["a", "b"], where="model = 'mine'"))
    assert found is not None
    assert found.n_unmatched == 3, "3/y, 10, 11: those of the other model are somebody's"


def test_folders_of_files_are_asked_the_same(tmp_path: Path) -> None:
    pd.DataFrame({"at": [AT] * 10, "id": range(10)}).to_parquet(tmp_path / "t.parquet")
    labels = pd.DataFrame({"id": [f"{at}" for at in range(5, 25)], "label": [1] * 20, "seen": [AT] * 20})
    labels.to_parquet(tmp_path / "y.parquet")
    source = open_source("main", SourceConfig.model_validate({"path": str(tmp_path)}), zone="UTC")
    found = source.unmatched_labels(config(), WINDOW, reach=REACH, now=NOW)
    source.close()
    assert found is not None
    assert (found.n_landed, found.n_unmatched) == (20, 15)


def test_nothing_is_looked_up_where_labels_have_no_table_or_no_time(database_url: str) -> None:
    write_table(
        database_url, "t", {"at": STAMP, "id": sa.Text, "label": sa.Integer}, [{"at": AT, "id": "k", "label": 1}]
    )
    write_table(database_url, "y", {"id": sa.Text, "label": sa.Integer}, [{"id": "k", "label": 1}])
    assert looked_up(database_url, config(labels={"label": "label"})) is None
    assert looked_up(database_url, config(labels={"table": "y"})) is None


def when(seconds: npt.NDArray[np.int64]) -> pa.Array:
    """So many seconds after ``AT``."""
    return pa.array([AT + timedelta(seconds=int(each)) for each in seconds], pa.timestamp("us", "UTC"))


def test_the_sample_is_bounded_even_and_does_not_depend_on_the_order_of_rows() -> None:
    ids = np.random.default_rng(1).permutation(100_000)
    first, second = Drawn(), Drawn()
    for part in np.array_split(ids, 7):
        first.add([pa.array(part)], when(part))
    for part in np.array_split(np.sort(ids), 3):
        both = np.concatenate([part, part[:50]])
        second.add([pa.array(both)], when(both))
    made = [(first.ids, [AT] * SAMPLE)]
    assert first.looked_up(made) == (0, tuple(timedelta(seconds=int(each[0])) for each in first.ids))
    assert second.looked_up(made) == first.looked_up(made)
    assert len(first.ids) == SAMPLE
    assert first.ids == second.ids, "an id that comes twice is one id"
    assert first.n_rows == 100_000
    assert np.mean([each[0] < 50_000 for each in first.ids]) == pytest.approx(0.5, abs=0.08)
    nothing = Drawn()
    nothing.add([pa.array([None, None], pa.int64())], when(np.arange(2)))
    assert (nothing.ids, nothing.n_rows) == ([], 0)


# --- judging ---------------------------------------------------------------------------------------


def scope(**labels: Any) -> Scope:
    model = {"table": "t", "time": "at", "key": "id", "labels": LABELS | labels}
    told = Config.model_validate({"sources": {"main": "sqlite:///x.db"}, "models": {"m": model}})
    return Scope("m", told.models["m"], WINDOW, 0)


def said(share: float, *, days: int) -> Result:
    window = Window(WINDOW.start - timedelta(days=days), WINDOW.end - timedelta(days=days))
    return Result("m", Check.QUALITY, "label_unmatched", window, share, Verdict.OK)


@pytest.mark.parametrize(
    ("n", "missing", "past", "verdict"),
    [
        pytest.param(500, 0, [], Verdict.OK, id="all match"),
        pytest.param(500, 20, [], Verdict.OK, id="four per cent"),
        pytest.param(500, 60, [], Verdict.WARN, id="twelve per cent"),
        pytest.param(20, 2, [], Verdict.OK, id="ten per cent of twenty may be chance"),
        pytest.param(500, 60, [0.12, 0.1, 0.13], Verdict.OK, id="twelve per cent as usual"),
        pytest.param(500, 120, [0.12, 0.1, 0.13], Verdict.WARN, id="twice what is usual"),
        pytest.param(500, 490, [0.01, 0.0, 0.02], Verdict.ALERT, id="matched until now"),
        pytest.param(500, 490, [], Verdict.WARN, id="nothing is known to be usual"),
        pytest.param(500, 500, [1.0, 1.0, 1.0], Verdict.WARN, id="never matched"),
        pytest.param(0, 0, [], Verdict.NO_DATA, id="no label landed"),
    ],
)
def test_what_is_usual_is_no_finding(n: int, missing: int, past: list[float], verdict: Verdict) -> None:
    found = judge(scope(), Unmatched(n, n, missing, AT), [said(0.0, days=31), *(said(x, days=9) for x in past)])
    assert found.verdict is verdict
    assert (found.value is None) is (n == 0)
    assert ("what" in found.detail) is (verdict in (Verdict.WARN, Verdict.ALERT))
    if verdict in (Verdict.WARN, Verdict.ALERT):
        assert "the ids of labels and predictions do not match" in found.detail["what"]


def test_limits_are_those_of_the_config() -> None:
    found = judge(scope(unmatched={"warn": "20%"}), Unmatched(500, 500, 60, AT), [said(0.0, days=31)])
    assert found.verdict is Verdict.OK


@pytest.mark.parametrize(("days", "verdict"), [(31, Verdict.WARN), (29, Verdict.CANNOT_TELL), (0, Verdict.CANNOT_TELL)])
def test_labels_of_a_young_log_may_be_of_predictions_from_before_it(days: int, verdict: Verdict) -> None:
    found = judge(scope(), Unmatched(500, 500, 500, AT), [said(1.0, days=at) for at in range(1, days + 1)])
    assert found.verdict is verdict
    assert ("from before the first window" in found.detail.get("reason", "")) is (verdict is Verdict.CANNOT_TELL)


def aged(late: int, *, of: int, delay: timedelta = timedelta(days=10)) -> Unmatched:
    return Unmatched(of, of, 0, AT, (timedelta(days=1),) * (of - late) + (2 * delay,) * late)


@pytest.mark.parametrize(
    ("windows", "verdict"),
    [
        pytest.param([20] * 10, Verdict.OK, id="four per cent come after the delay"),
        pytest.param([60] * 10, Verdict.WARN, id="twelve per cent do"),
        pytest.param([0] * 9 + [500], Verdict.OK, id="labels of long ago are corrected on one day"),
        pytest.param([60] * 6, Verdict.CANNOT_TELL, id="too few windows"),
    ],
)
def test_labels_that_come_when_their_window_counts_as_mature_are_hinted_at(
    windows: list[int], verdict: Verdict
) -> None:
    before: list[Result] = []
    for late in windows:
        before.append(judge_ages(scope(delay="10d"), aged(late, of=500), before))
    assert before[-1].verdict is verdict
    assert (before[-1].value is None) is (verdict is Verdict.CANNOT_TELL)
    if verdict is Verdict.WARN:
        assert before[-1].value == pytest.approx(0.12)
        assert "came (or were corrected) more than 10d after their prediction" in before[-1].detail["what"]
        assert "; 20d would hold 95%" in before[-1].detail["what"]
    # Few labels say nothing, and what was said under another delay does not count.
    few = judge_ages(scope(delay="10d"), aged(5, of=10), before)
    assert few.verdict is verdict
    other = judge_ages(scope(delay="20d"), aged(60, of=500), before)
    assert (other.verdict, other.value) == (Verdict.CANNOT_TELL, None)


# --- through the service ---------------------------------------------------------------------------


def test_a_delay_that_is_set_too_short_is_said_once_windows_show_it(tmp_path: Path) -> None:
    predictions, labels = log(7, days=BASELINE + 20)
    slow = labels.id % 5 == 0
    labels.loc[slow, "known_at"] = labels.loc[slow, "known_at"] + timedelta(days=12)
    service = opened(tmp_path, predictions, labels)
    assert run_due(service, now=START + (BASELINE + 21) * DAY, worker="test").errors == []
    found = sorted(service.store.results("model", metric=AFTER_DELAY), key=lambda r: r.window)
    assert found[0].verdict is Verdict.CANNOT_TELL
    assert found[-1].verdict is Verdict.WARN
    assert "`labels.delay` is too short" in found[-1].detail["what"]
    closed(service)


def test_strangers_are_counted_in_the_row_and_on_the_page(tmp_path: Path) -> None:
    predictions, labels = log(7, days=BASELINE + 11)
    now = START + (BASELINE + 11) * DAY + timedelta(hours=1)
    strangers = labels.sample(frac=0.5, random_state=1).assign(id=lambda x: x.id + 10**6)
    service = opened(tmp_path, predictions, pd.concat([labels, strangers]))
    assert run_due(service, now=now, worker="test").errors == []
    found = service.store.results("model", metric="label_unmatched")
    assert {r.check for r in found} == {Check.QUALITY}
    last = max(found, key=lambda r: r.window)
    assert last.verdict is Verdict.WARN
    assert last.detail["n_unmatched"] > 0
    assert "do not match" in last.detail["what"]
    rows = [r for r in service.store.results("model", check=Check.PERFORMANCE) if r.window == last.window]
    noted = next(r.detail["labels"] for r in rows if "labels" in r.detail)
    assert noted["without_prediction"] == last.detail["n_unmatched"]
    answer = CliRunner().invoke(app, ["status", "-c", str(tmp_path / "config.yaml"), "--json"])
    [model] = json.loads(answer.stdout)["models"]
    assert model["odd_labels"]["without_prediction"] == last.detail["n_unmatched"]
    assert model["labels_unmatched"] == last.detail["what"]
    # Labels that land later make it a new revision: what was looked up is kept.
    assert run_due(service, now=now + 8 * DAY, worker="test").errors == []
    rows = [r for r in service.store.results("model", check=Check.PERFORMANCE) if r.window == last.window]
    assert max(r.revision for r in rows) > 0
    assert (
        next(r.detail["labels"] for r in rows if "labels" in r.detail)["without_prediction"]
        == last.detail["n_unmatched"]
    )
    build_site(service.store, service.config, now=now, out=tmp_path / "site")
    page = (tmp_path / "site" / "model" / f"{last.window.start:%Y-%m-%d}.html").read_text()
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert re.search(r"\d+ labels that no prediction asked for, of \d+ looked up", words)
    assert "the ids of labels and predictions do not match" in words
    closed(service)


def test_a_source_that_cannot_look_them_up_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise PermanentSourceError("statement timeout", reason="timeout")

    monkeypatch.setattr(Source, "unmatched_labels", fails)
    service = opened(tmp_path, *log(7, days=BASELINE + 1))
    assert run_due(service, now=START + (BASELINE + 9) * DAY, worker="test").errors == []
    assert service.store.results("model", metric="label_unmatched") == []
    assert [r for r in service.store.results("model", metric="accuracy") if r.value is not None]
    closed(service)
