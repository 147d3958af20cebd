"""Stored performance held to other limits: what each row tells of its evidence gives the verdict of a run by them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from detectors.classification import Measure
from monitor.calibration_drift import TOGETHER
from monitor.calibration_drift import judged_again as calibration_again
from monitor.checks import Scope
from monitor.config import Config, ModelConfig
from monitor.models import Check, Result, Verdict, Window
from monitor.performance import Curves, results
from monitor.performance_again import judged_again, performance_hash, window_again

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(days=1))
LIMITS = [
    {},
    {"alert": {"recall": "-5%", "precision": "< 0.6"}},
    {"warn": {"recall": "-1%"}, "alert": {"recall": "< 0.85", "brier": "> 0.1", "precision": "-1%"}},
    {"warn": {"brier": "+1%"}, "alert": {"accuracy": "-2%", "recall": "-30%", "brier": "+20%"}},
]
METRICS = ["precision", "recall", "accuracy", "brier"]


def model(performance: dict[str, Any], **more: Any) -> ModelConfig:
    given = {"table": "t", "time": "at", "labels": {"label": "y"}, "performance": {"metrics": METRICS} | performance}
    return Config.model_validate({"sources": {"main": "sqlite:///x.db"}, "models": {"m": given | more}}).models["m"]


def scope(performance: dict[str, Any], revision: int = 0) -> Scope:
    return Scope("m", model(performance), WINDOW, revision)


def measure(rng: np.random.Generator, *, rate: bool = False) -> Measure:
    if rng.random() < 0.1:
        return Measure(None, n=10, reason="no_positives")
    value, half = rng.uniform(0.1, 0.95), rng.choice([0.001, 0.02, 0.2])
    low, high = max(value - half, 0.0), min(value + half, 1.0)
    beyond = (low - 0.01, high + 0.01) if rate and rng.random() < 0.5 else None
    return Measure(value, low, high, int(rng.integers(50, 500)), rate=beyond)


def bounded(rng: np.random.Generator) -> Measure:
    low, high = sorted(rng.uniform(0.2, 0.95, 2))
    return Measure(None, n=300, reason="never_labelled", bounds=(low, high), chance=(low - 0.02, high + 0.02))


def curves(rng: np.random.Generator) -> Curves:
    """What a window may show, of any kind."""
    never = int(rng.choice([0, 40]))

    def any_of(metric: str, *, rate: bool = False) -> Measure:
        return bounded(rng) if never and metric != "precision" else measure(rng, rate=rate)

    n_rows = int(rng.choice([0, 30, 400], p=[0.05, 0.15, 0.8]))
    reference = {name: any_of(name) for name in METRICS} if rng.random() < 0.8 else None
    return Curves(
        realized={name: any_of(name) for name in METRICS},
        corrected={name: any_of(name, rate=True) for name in METRICS} if rng.random() < 0.7 else {},
        estimated={name: measure(rng) for name in METRICS[:2]} if rng.random() < 0.5 else {},
        reference=reference,
        few=7 if reference is None and rng.random() < 0.5 else None,
        n_labelled=min(n_rows, int(rng.choice([0, 50, 250, 400]))),
        n_rows=n_rows,
        n_never=never,
        mature=bool(rng.random() < 0.4),
        widest={"brier": 0.05},
    )


@pytest.mark.parametrize("seed", range(40))
def test_rows_held_to_other_limits_say_what_a_run_by_them_would_have_said(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = {None: curves(rng)} | {name: replace(curves(rng), n_segments=2) for name in ("a=1", "a=2")}
    before, after = (LIMITS[at] for at in rng.choice(len(LIMITS), 2, replace=False))
    then, now = scope(before), scope(after, revision=1)
    stored, wanted = ([r for s, each in parts.items() for r in results(at, each, segment=s)] for at in (then, now))
    stored = [replace(r, detail=json.loads(json.dumps(r.detail))) for r in stored]
    found = judged_again(now, stored)
    assert found is not None
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine.verdict, mine.threshold) == (theirs.verdict, theirs.threshold), (mine, theirs)
        assert mine == replace(theirs, detail=json.loads(json.dumps(theirs.detail)))


def test_what_has_no_limit_in_performance_is_taken_over() -> None:
    rng = np.random.default_rng(1)
    rows = results(scope({}), replace(curves(rng), n_rows=400, n_labelled=400, mature=True))
    beside = [
        Result("m", Check.QUALITY, "label_delay", WINDOW, 1.1, Verdict.OK, feature="__labels__"),
        Result("m", Check.PERFORMANCE, "brier", WINDOW, 0.1, Verdict.OK, segment="version=v2",
               detail={"version": "v2", "versus": "v1"}),
    ]  # fmt: skip
    found = window_again(scope(LIMITS[1], revision=3), [*rows, *beside])
    assert found is not None
    assert found[-2:] == [replace(each, revision=3) for each in beside]
    assert len(found) == len(rows) + 2


def together(told: int) -> Result:
    """Two windows moved by 0.04 for sure; four by 0.02, more surely still."""
    spans = [[2, 0.04, 1e-6, 1e-4, 0.01], [4, 0.02, 1e-9, 1e-4, 0.005]]
    _, value, p_value, alpha, smallest = spans[told]
    detail = {"alpha": alpha, "smallest_detectable": smallest, "windows": spans[told][0], "spans": spans}
    return Result("m", Check.PERFORMANCE, TOGETHER, WINDOW, value, Verdict.OK, p_value=p_value, detail=detail)


def test_of_several_windows_together_the_span_that_would_be_told_decides() -> None:
    loose = Scope("m", model({"alert": {"calibration_drift": "> 0.1"}}), WINDOW, 1)
    found = calibration_again(loose, together(1))
    assert found is not None
    assert (found.verdict, found.threshold) == (Verdict.OK, 0.1)
    strict = Scope("m", model({"alert": {"calibration_drift": "> 0.03"}}), WINDOW, 1)
    assert calibration_again(strict, together(1)) is None, (
        "two windows would be told, of which the row tells too little"
    )
    found = calibration_again(strict, together(0))
    assert found is not None
    assert found.verdict is Verdict.ALERT


def test_only_what_is_measured_makes_another_window() -> None:
    plain = performance_hash(model({}), min_category_rows=10)
    assert plain == performance_hash(model(LIMITS[1]), min_category_rows=10)
    assert plain == performance_hash(model({}, drift={"alert": {"psi": 0.5}}, owner="me"), min_category_rows=10)
    others = [
        model({"metrics": ["recall"]}), model({"min_labels": 20}), model({"value": {"tp": 5}}),
        model({}, threshold=0.3), model({}, labels={"label": "z"}), model({}, segments=["plan"]),
        model({}, drift={"significance": 0.001}),
        model({}, labels={"label": "y", "also": [{"name": "w", "label": "z"}]}),
    ]  # fmt: skip
    assert plain not in {performance_hash(each, min_category_rows=10) for each in others}
    assert plain != performance_hash(model({}), min_category_rows=50)
