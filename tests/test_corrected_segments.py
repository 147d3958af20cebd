"""Segments while their labels land: corrected by their own delays where these are known, on the page and in the rows."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_label_service import BASELINE, CONFIG, DAY, PER_DAY, START, closed, log

from monitor.config_file import load
from monitor.models import Check, Result
from monitor.reports.outcomes import tables_json
from monitor.reports.site import build_site
from monitor.run import run_due
from monitor.service import Service
from monitor.store import Store

LIVE = 10
METRICS = "metrics: [precision, recall, accuracy, roc_auc, brier], "


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Service, pd.DataFrame]:
    """Positives land first; labels of plan `slow` take 1.6 times as long as those of plan `fast`."""
    folder = tmp_path_factory.mktemp("segments")
    predictions, labels = log(12, days=BASELINE + LIVE)
    rng = np.random.default_rng(12)
    predictions["plan"] = np.where(rng.random(len(predictions)) < 0.4, "slow", "fast")
    age = (labels.known_at - predictions["at"]) * np.where(labels.y == 1, 0.6, 1.0)
    labels["known_at"] = predictions["at"] + age * np.where(predictions.plan == "slow", 1.0, 0.6)
    text = CONFIG.format(folder=folder)
    text = text.replace("    settle: 0s\n", "    settle: 0s\n    segments: [plan]\n")
    text = text.replace("{min_labels: 50,", "{" + METRICS + "min_labels: 20,")
    (folder / "config.yaml").write_text(text)
    engine_url = f"sqlite:///{folder}/log.db"
    predictions.to_sql("log", engine_url, index=False)
    labels.to_sql("labels", engine_url, index=False)
    config = load(folder / "config.yaml")
    service = Service(config, Store.open(config.store.get_secret_value()))
    report = run_due(service, now=START + (BASELINE + LIVE) * DAY + timedelta(hours=1), worker="test")
    assert report.errors == []
    whole = predictions.merge(labels, on="id")
    yield folder, service, whole
    closed(service)


def rows(service: Service, segment: str, kind: str) -> dict[tuple[int, str], Result]:
    found = service.store.results("model", check=None)
    return {
        ((r.window.start - START) // DAY - BASELINE, r.metric): r
        for r in found
        if r.segment == segment and r.kind == kind
    }


def test_segments_are_corrected_by_their_own_delays(world: tuple[Path, Service, pd.DataFrame]) -> None:
    _, service, whole = world
    held = total = 0
    for plan in ("slow", "fast"):
        found = rows(service, f"plan={plan}", "corrected")
        young = {day for day, _ in found}
        assert max(young) == LIVE - 1
        for day in young:
            mine = whole[(whole.id // PER_DAY == BASELINE + day) & (whole.plan == plan)]
            positive, decided = mine.y.to_numpy() == 1, mine.p.to_numpy() >= 0.5
            truth = {
                "precision": positive[decided].mean(),
                "recall": decided[positive].mean(),
                "accuracy": (positive == decided).mean(),
                "brier": ((mine.p - mine.y) ** 2).mean(),
            }
            for metric, value in truth.items():
                row = found[day, metric]
                if row.value is None:
                    assert row.detail["reason"] in ("not_identifiable", "too_few_labels"), row
                    continue
                assert row.interval is not None
                held += row.interval[0] <= value <= row.interval[1]
                total += 1
                assert row.detail["delay_law"] == "segment" or plan == "slow", "300 labels of a class or more"
        assert found[LIVE - 2, "roc_auc"].value is not None
    assert total >= 16
    assert held >= 0.85 * total


def test_the_page_shows_which_curve_a_segment_is_on(world: tuple[Path, Service, pd.DataFrame]) -> None:
    folder, service, _ = world
    build_site(service.store, service.config, now=START + (BASELINE + LIVE) * DAY, out=folder / "site")
    day = START + (BASELINE + LIVE - 4) * DAY
    page = (folder / "site" / "model" / f"{day:%Y-%m-%d}.html").read_text()
    words = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert re.search(r"plan=slow.{0,80}corrected \w+ [\d.]+ % \([\d.]+ % – [\d.]+ %\)", words)


def test_the_page_and_explain_say_which_curve_the_tables_are_of(world: tuple[Path, Service, pd.DataFrame]) -> None:
    folder, service, whole = world
    found = [r for r in service.store.results("model", check=Check.PERFORMANCE) if "tables_of" in r.detail]
    told = {(each["window_start"], each["tables_of"]): each for each in tables_json(found)}
    assert {kind for _, kind in told} == {"realized", "corrected"}
    held = total = 0
    for (start, kind), tables in told.items():
        day = (pd.Timestamp(start) - pd.Timestamp(START)).days
        mine = whole[whole.id // PER_DAY == day]
        if kind == "realized":
            assert sum(tables["confusion"][name] for name in ("tp", "fp", "fn", "tn")) >= 0.95 * PER_DAY
            assert "confusion_expected" not in tables
        elif "tables_reason" in tables:
            assert "thresholds" not in tables
        else:
            # 0.6 is not the threshold of the model.
            row = next(each for each in tables["thresholds"] if each["threshold"] == 0.6)
            value, low, high = row["precision"]
            held += low <= mine.y[mine.p >= 0.6].mean() <= high
            total += 1
            assert sum(row[name] for name in ("tp", "fp", "fn", "tn")) == pytest.approx(PER_DAY, abs=2)
            assert low < value < high
    assert total >= 4
    assert held >= total - 1
    build_site(service.store, service.config, now=START + (BASELINE + LIVE) * DAY, out=folder / "tables")

    def words(day: int) -> str:
        page = (folder / "tables" / "model" / f"{START + (BASELINE + day) * DAY:%Y-%m-%d}.html").read_text()
        return " ".join(re.sub(r"<[^>]+>", " ", page).split())

    assert "Of all predictions, corrected for labels still to come" in words(LIVE - 4)
    assert "Labelled decisions so far:" in words(LIVE - 4)
    assert re.search(r"Once all labels are in: \d+ \(\d+ – \d+\) true positives", words(LIVE - 4))
    assert "Of the predictions with a label." in words(0)
    assert "so far" not in words(0)


def test_a_segment_that_nobody_has_seen_mature_leans_on_the_law_of_all(
    world: tuple[Path, Service, pd.DataFrame],
) -> None:
    _, service, _ = world
    first = rows(service, "plan=slow", "corrected")
    kept = service.store.profiles(
        "model", start=START + BASELINE * DAY, end=START + (BASELINE + 1) * DAY, columns=["__delays__"],
        segment="plan=slow",
    )  # fmt: skip
    assert len(kept) == 1, "the delays of the segment are kept with its window"
    assert first
