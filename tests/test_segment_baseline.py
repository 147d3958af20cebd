"""Segments against their own value in the baseline: a change limit judges them, by a part of the false-page budget."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_label_service import BASELINE, CONFIG, DAY, PER_DAY, START, closed, log

from detectors.classification import Measure, performance
from detectors.score_labels import ScoreLabelCounter
from monitor import label_reference
from monitor.budget import SHARES
from monitor.checks import Evidence, Scope
from monitor.config import PerformanceLimit
from monitor.config_file import load
from monitor.models import Check, Result, Verdict, Window
from monitor.performance import Curves, results
from monitor.reports.site import build_site
from monitor.run import run_due
from monitor.service import Service
from monitor.store import Store

LIVE, TURNED = 11, 2
OLD, RARE = "plan=old", "plan=rare"


def opened(folder: Path) -> Service:
    written(folder)
    return again(folder)


def written(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """From day 2 on labels of plan `old` (a seventh of all) are turned round; `rare` has five labels a month."""
    predictions, truth = log(21, days=BASELINE + LIVE)
    rng = np.random.default_rng(21)
    n = len(predictions)
    plan = np.where(rng.random(n) < 0.15, "old", "new").astype(object)
    plan[rng.random(n) < 0.0005] = "rare"
    predictions["plan"] = plan
    turned = ((plan == "old") & (predictions.id // PER_DAY >= BASELINE + TURNED)).to_numpy()
    truth["y"] = np.where(turned, 1 - truth.y, truth.y)
    text = CONFIG.format(folder=folder).replace("    settle: 0s\n", "    settle: 0s\n    segments: [plan]\n")
    text = text.replace("{min_labels: 50,", "{metrics: [accuracy, roc_auc], min_labels: 20,")
    (folder / "config.yaml").write_text(text)
    predictions.to_sql("log", f"sqlite:///{folder}/log.db", index=False)
    truth.to_sql("labels", f"sqlite:///{folder}/log.db", index=False)
    return predictions, truth


def again(folder: Path) -> Service:
    config = load(folder / "config.yaml")
    return Service(config, Store.open(config.store.get_secret_value()))


def rows(service: Service, segment: str | None, metric: str = "accuracy") -> dict[int, Result]:
    found = service.store.results("model", metric=metric)
    decided = [r for r in found if r.segment == segment and r.kind == "realized"]
    return {(r.window.start - START) // DAY - BASELINE: r for r in decided}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("segment-baseline")
    service = opened(folder)
    report = run_due(service, now=START + (BASELINE + LIVE) * DAY + timedelta(hours=1), worker="test")
    assert report.errors == []
    yield folder, service
    closed(service)


def test_a_fall_inside_one_segment_alerts_though_the_whole_hardly_moves(world: tuple[Path, Service]) -> None:
    _, service = world
    whole, old = rows(service, None), rows(service, OLD)
    assert old[0].verdict is not Verdict.ALERT
    assert old[TURNED].verdict is Verdict.ALERT
    assert old[TURNED + 1].verdict is Verdict.ALERT
    reference = old[TURNED].detail["reference"]
    assert reference == pytest.approx(0.75, abs=0.04), "its own, of the baseline"
    assert reference != whole[TURNED].detail["reference"]
    assert old[TURNED].threshold == pytest.approx(reference - 0.1)
    assert old[TURNED].n_reference == pytest.approx(0.15 * BASELINE * PER_DAY, rel=0.1)
    assert whole[TURNED].verdict is not Verdict.ALERT
    assert rows(service, "plan=new")[TURNED].verdict is Verdict.OK
    assert any([None, OLD] in i.detail["series"] for i in service.store.incidents("model"))


def test_a_segment_with_few_labels_in_the_baseline_cannot_tell(tmp_path: Path) -> None:
    few = Curves(realized={"accuracy": Measure(0.4, 0.3, 0.5, 100)}, n_labelled=100, n_rows=100, mature=True, few=5)
    service = opened(tmp_path)
    scope = Scope("model", service.model("model"), Window(START, START + DAY), 0)
    [row] = results(scope, few, segment=RARE)
    assert row.verdict is Verdict.CANNOT_TELL
    assert row.detail["reason"] == "5 labels of this segment in the baseline, min_labels is 20"
    alert = {"accuracy": PerformanceLimit(kind="below", value=0.6)}
    limits = scope.model.performance.model_copy(update={"alert": alert, "warn": {}})
    absolute = Scope("model", scope.model.model_copy(update={"performance": limits}), scope.window, 0)
    [row] = results(absolute, Curves(**vars(few) | {"n_segments": 2}), segment=RARE)
    assert row.verdict is Verdict.ALERT, "a bound needs no baseline"
    closed(service)


def test_segments_share_a_part_of_the_budget_that_is_their_own(world: tuple[Path, Service]) -> None:
    _, service = world
    scope = Scope("model", service.model("model"), Window(START, START + DAY), 0)
    whole = Evidence(scope, "performance", 2).alpha(confirm=1)
    assert sum(SHARES.values()) == pytest.approx(1.0)

    def verdict(n_segments: int, value: float, spread: float) -> Verdict:
        known = {"accuracy": Measure(0.9, 0.9, 0.9, 10_000)}
        mine = {"accuracy": Measure(value, value - 1.96 * spread, value + 1.96 * spread, 500)}
        curves = Curves(realized=mine, reference=known, n_labelled=500, n_rows=500, mature=True, n_segments=n_segments)
        return results(scope, curves, segment=OLD if n_segments else None)[0].verdict

    # Four standard errors below: enough for one number of the whole, not for one of twenty segments.
    assert 1e-5 < whole < 1e-3
    assert verdict(0, 0.7, 0.05) is Verdict.ALERT
    assert verdict(20, 0.7, 0.05) is Verdict.CANNOT_TELL
    assert verdict(20, 0.6, 0.05) is Verdict.ALERT


def test_segments_without_a_change_hardly_ever_alert(world: tuple[Path, Service]) -> None:
    """A hundred days of twenty segments, four metrics each: the budget for all of them is 3 % of a page in 90 days."""
    _, service = world
    rng, day = np.random.default_rng(3), Window(START, START + DAY)
    limits = service.model("model").performance.model_copy(
        update={
            "metrics": ["accuracy", "precision", "recall", "roc_auc"],
            "alert": {
                name: PerformanceLimit(kind="change", value=-0.05, percent=True)
                for name in ("accuracy", "precision", "recall", "roc_auc")
            },
        }
    )
    scope = Scope("model", service.model("model").model_copy(update={"performance": limits}), day, 0)

    def drawn(n: int) -> dict[str, Measure]:
        p = rng.beta(1, 1, n)
        counter = ScoreLabelCounter()
        counter.update(p, p >= 0.5, (rng.random(n) < p).astype(float))
        return performance(counter.counts(), limits.computed())

    beyond = alerts = 0
    known = [drawn(4000) for _ in range(20)]
    for _ in range(100):
        for reference in known:
            mine = Curves(
                realized=drawn(150), reference=reference, n_labelled=150, n_rows=150, mature=True, n_segments=20
            )
            found = results(scope, mine, segment=OLD)
            alerts += sum(r.verdict is Verdict.ALERT for r in found)
            beyond += sum("chance explains it" in str(r.detail.get("reason")) for r in found)
    assert beyond > 500, "a fall beyond the limit is common by chance"
    assert alerts == 0


def test_the_page_shows_what_a_segment_had_in_the_baseline(world: tuple[Path, Service]) -> None:
    folder, service = world
    build_site(service.store, service.config, now=START + (BASELINE + LIVE) * DAY, out=folder / "site")
    page = (folder / "site" / "model" / f"{START + (BASELINE + TURNED) * DAY:%Y-%m-%d}.html").read_text()
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert re.search(r"plan=old.{0,80}Accuracy [\d.]+ % \([\d.]+ % – [\d.]+ %\).{0,40}baseline [\d.]+ %", words)


def test_what_is_stored_of_the_baseline_says_the_same_as_what_was_read(world: tuple[Path, Service]) -> None:
    folder, first = world
    second = again(folder)
    model = second.model("model")
    baseline = second.store.baseline("model")
    assert baseline is not None
    assert baseline.window is not None
    kept = label_reference.kept_reference(
        second.store, "model", model, baseline.window, complete=True, segments=[OLD, "plan=new"]
    )
    assert kept is not None
    predictions = pd.read_sql("select * from log join labels using (id)", f"sqlite:///{folder}/log.db")
    part = predictions[(predictions.id // PER_DAY < BASELINE) & (predictions.plan == "old")]
    counter = ScoreLabelCounter()
    counter.update(part.p.to_numpy(), (part.p >= 0.5).to_numpy(), part.y.to_numpy())
    mine = performance(kept.segments[OLD][0], ["accuracy", "roc_auc"])
    plain = performance(counter.counts(), ["accuracy", "roc_auc"])
    assert mine["accuracy"] == plain["accuracy"]
    assert mine["roc_auc"].value == pytest.approx(plain["roc_auc"].value, abs=1e-3)
    reference = rows(first, OLD)[TURNED].detail["reference"]
    assert reference == pytest.approx(plain["accuracy"].value)
    # Windows judged one by one say the same together, and nothing of a column that was no segment then.
    span = Window(START + BASELINE * DAY, START + (BASELINE + 2) * DAY)
    live = label_reference.kept_reference(second.store, "model", model, span, complete=True, segments=[OLD])
    assert live is not None
    days = predictions[(predictions.id // PER_DAY).between(BASELINE, BASELINE + 1) & (predictions.plan == "old")]
    assert live.segments[OLD][0].n_labelled == len(days)
    assert (
        label_reference.kept_reference(second.store, "model", model, span, complete=True, segments=["city=x"]) is None
    )
    missing = label_reference.kept_reference(
        second.store, "model", model, baseline.window, complete=True, segments=["plan=x"]
    )
    assert missing is None, "it has to be read anew"
    closed(second)


def test_classes_by_segment_have_their_own_baseline_too(tmp_path: Path) -> None:
    words = np.array(["no", "yes"])
    predictions, truth = written(tmp_path)
    predictions["said"], truth["y"] = words[(predictions.p >= 0.5).astype(int)], words[truth.y]
    for name, frame in (("log", predictions.drop(columns="p")), ("labels", truth)):
        frame.to_sql(name, f"sqlite:///{tmp_path}/log.db", index=False, if_exists="replace")
    text = (tmp_path / "config.yaml").read_text()
    text = text.replace("    score: p\n    threshold: 0.5\n", "    prediction: said\n")
    text = text.replace("roc_auc", "macro_f1").replace("label: y,", "label: y, task: multiclass,")
    (tmp_path / "config.yaml").write_text(text)
    service = again(tmp_path)
    report = run_due(service, now=START + (BASELINE + LIVE) * DAY + timedelta(hours=1), worker="test")
    assert report.errors == []
    old = rows(service, OLD)
    assert old[0].verdict is not Verdict.ALERT
    assert old[TURNED].verdict is Verdict.ALERT
    assert old[TURNED].detail["reference"] == pytest.approx(0.75, abs=0.04)
    assert rows(service, "plan=new")[TURNED].verdict is Verdict.OK
    first = {r.segment: r.detail["reference"] for r in service.store.results("model", check=Check.PERFORMANCE)
             if r.metric == "accuracy" and r.kind == "realized" and "reference" in r.detail}  # fmt: skip
    assert {None, OLD, "plan=new"} <= first.keys()
    closed(service)
