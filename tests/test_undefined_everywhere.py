"""Every metric of every kind of label, on every curve, over data with nothing to say: a reason by name or a number.

Never 0 for what has no denominator, never NaN or infinity, never an exception; an interval holds its value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import numpy as np
import pytest

from detectors import class_counts, classification, corrected_classes, expected_classes, multiclass, regression
from detectors.calibration import CalibrationError, Calibrator, calibration_change, estimate, fit
from detectors.classification import Measure, ScoreLabelCounter, ScoreLabels
from detectors.corrected import CORRECTABLE, Landed, mean_worth, measure
from detectors.corrected import fit as fit_shares
from detectors.corrected_scores import SCORE_METRICS, corrected_scores
from detectors.delay import DelayLaw, learn
from detectors.delay_counts import age_edges, count_delays, merge
from monitor.checks import Scope
from monitor.config import Config
from monitor.models import Verdict, Window
from monitor.performance import Curves, business_value, results, tables

NAN, INF, DAY = math.nan, math.inf, 86400.0
REASONS = {
    "no_predictions", "no_labels", "no_positives", "no_negatives", "one_class", "no_decisions",
    "no_predicted_positives", "no_scores", "scores_not_probabilities", "not_identifiable", "no_delay_law",
    "no_predicted_classes", "no_class_with_enough_rows", "no_labels_of_a_class", "no_predictions_of_a_class",
    "no_probabilities", "constant_labels", "constant_scores", "all_labels_zero", "overflow",
}  # fmt: skip


def is_told(found: Mapping[str, Measure]) -> None:
    for name, each in found.items():
        if each.value is None:
            assert each.reason in REASONS, (name, each)
            assert (each.low, each.high) == (None, None), (name, each)
            continue
        assert each.reason is None, (name, each)
        assert math.isfinite(each.value), (name, each)
        assert (each.low is None) is (each.high is None), (name, each)
        if each.low is not None and each.high is not None:
            assert np.isfinite([each.low, each.high]).all(), (name, each)
            assert each.low - 1e-12 <= each.value <= each.high + 1e-12, (name, each)


# --- true or false ---------------------------------------------------------------------------------

BINARY: dict[str, tuple[list[float], list[float], list[float]]] = {
    "empty window": ([], [], []),
    "one row, no label": ([0.4], [0], [NAN]),
    "one row, positive": ([0.4], [0], [1]),
    "one row, negative, decided positive": ([0.9], [1], [0]),
    "one row without anything": ([NAN], [NAN], [NAN]),
    "one class": ([0.1, 0.5, 0.9], [0, 1, 1], [1, 1, 1]),
    "no positives": ([0.1, 0.5, 0.9], [0, 1, 1], [0, 0, 0]),
    "no predicted positives": ([0.1, 0.2, 0.3], [0, 0, 0], [0, 1, 0]),
    "all predicted positive": ([0.1, 0.2, 0.3], [1, 1, 1], [0, 1, 0]),
    "all scores equal": ([0.5] * 6, [1] * 6, [0, 1, 0, 1, NAN, NAN]),
    "all scores 0": ([0.0] * 4, [0] * 4, [0, 1, 0, NAN]),
    "all scores 1": ([1.0] * 4, [1] * 4, [0, 1, 0, NAN]),
    "some scores missing": ([NAN, 0.2, NAN, 0.9], [0, 0, 1, 1], [1, 0, 0, 1]),
    "all scores missing": ([NAN] * 4, [0, 0, 1, 1], [1, 0, 0, 1]),
    "labels only where scores are missing": ([NAN, NAN, 0.2, 0.9], [0, 1, 0, 1], [1, 0, NAN, NAN]),
    "labels only where decisions are missing": ([0.1, 0.2, 0.2, 0.9], [NAN, NAN, 0, 1], [1, 0, NAN, NAN]),
    "no decisions": ([0.1, 0.9, 0.4], [NAN] * 3, [0, 1, NAN]),
    "infinite scores": ([-INF, INF, 0.5, 0.2], [0, 1, 1, 0], [0, 1, NAN, 1]),
    "scores beyond 0 and 1": ([-5.0, 0.4, 300.0], [0, 0, 1], [0, 1, 1]),
    "perfect": ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], [0, 0, 1, 1]),
    "perfectly wrong": ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], [1, 1, 0, 0]),
    "tiny scores": ([5e-324, 1e-300, 1e-12], [0, 0, 1], [0, 1, NAN]),
}
EDGES = age_edges(20 * DAY)


def counted(case: str) -> ScoreLabels:
    counter = ScoreLabelCounter()
    counter.update(*(np.array(part, dtype=float) for part in BINARY[case]))
    return counter.counts()


def landed(case: str) -> Landed:
    """One stratum for each decision; all of one age."""
    _, decisions, labels = (np.array(part, dtype=float) for part in BINARY[case])
    stratum = np.where(np.isnan(decisions), 2, decisions).astype(np.int64)
    held = np.zeros((1, 3, 2), np.int64)
    known = ~np.isnan(labels)
    np.add.at(held, (0, stratum[known], labels[known].astype(int)), 1)
    return Landed(np.array([6 * DAY]), np.bincount(stratum, minlength=3)[None], held, np.arange(3))


@pytest.fixture(scope="module")
def law() -> DelayLaw:
    rng = np.random.default_rng(2)
    windows = [
        count_delays(
            rng.uniform(1, 12, 400) * DAY, rng.integers(0, 2, 400).astype(float), np.full(400, 60 * DAY),
            edges=EDGES, strata=rng.integers(0, 3, 400), n_strata=3,
        )
        for _ in range(8)
    ]  # fmt: skip
    return learn(reduce(merge, windows), windows=windows)


def promised(case: str) -> list[Calibrator]:
    raw = Calibrator("raw", np.zeros(0), np.zeros(0))
    flat = [Calibrator("isotonic", np.array([0.0, 1.0]), np.full(2, share)) for share in (0.0, 0.5, 1.0)]
    try:
        return [raw, *flat, fit(counted(case))]
    except CalibrationError:
        return [raw, *flat]


@pytest.mark.parametrize("case", BINARY)
def test_binary(case: str, law: DelayLaw) -> None:
    counts, part = counted(case), landed(case)
    is_told(classification.performance(counts))
    is_told({"value": business_value(counts, {"tp": 5.0, "fp": -2.0})})
    strata = np.repeat(np.arange(3)[None], len(counts.scores), axis=0)
    never = Landed(part.ages, part.predictions, np.zeros_like(part.labels), part.decisions)
    for each, absent in ((part, None), (part, 0), (never, None), (never, 1)):
        found = fit_shares(each, law, absent=absent)
        if isinstance(found, str):
            assert found in REASONS
        else:
            is_told({name: measure(found, name) for name in CORRECTABLE})
            is_told({"value": mean_worth(found, {"tp": 5.0, "fp": -2.0})})
        for calibrator in (None, *promised(case)) if each is part else (None,):
            is_told(
                corrected_scores(
                    counts, found, strata, metrics=tuple(SCORE_METRICS), calibrator=calibrator, absent=absent
                )
            )
    for calibrator in promised(case):
        is_told(estimate(counts, calibrator))
        change = calibration_change(counts, calibrator)
        assert change is None or np.isfinite([change.value, change.low, change.high]).all()
    json.dumps(tables(counts, [-1e9, -1.0, 0.0, 0.5, 1.0, 2.0, 1e9]), allow_nan=False)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("case", BINARY)
def test_a_threshold_outside_the_range_of_scores_has_no_precision_or_no_specificity(
    case: str, threshold: float
) -> None:
    counts = counted(case)
    [row] = classification.threshold_table(counts, [threshold])
    is_told({name: getattr(row, name) for name in ("precision", "recall", "f1", "specificity", "positive_rate")})
    n = row.confusion
    assert (row.precision.value is None) is (n.tp + n.fp == 0)
    assert (row.recall.value is None) is (n.tp + n.fn == 0)
    assert (row.f1.value is None) is (n.tp + n.fp == 0 or n.tp + n.fn == 0)
    assert (row.specificity.value is None) is (n.tn + n.fp == 0)


# --- classes ---------------------------------------------------------------------------------------

NAMES = ["bird", "cat", "dog"]
NONE = -1
AGES = np.linspace(0.0, 20 * DAY, 21)
CLASSES: dict[str, tuple[list[int], list[int], list[list[float]] | None]] = {
    "empty window": ([], [], None),
    "empty window with probabilities": ([], [], []),
    "one row, no label": ([NONE], [0], [[0.2, 0.3, 0.5]]),
    "one row": ([0], [0], [[0.2, 0.3, 0.5]]),
    "one row, nothing predicted": ([0], [NONE], None),
    "one class": ([1] * 5, [1] * 5, [[0.2, 0.5, 0.3]] * 5),
    "no labels": ([NONE] * 5, [0, 1, 2, 0, 1], [[0.2, 0.5, 0.3]] * 5),
    "nothing predicted": ([0, 1, 2], [NONE] * 3, None),
    "all wrong": ([0, 1, 2], [1, 2, 0], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
    "all right": ([0, 1, 2] * 4, [0, 1, 2] * 4, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]] * 4),
    "all predicted as one": ([0, 1, 2] * 4, [1] * 12, [[0.3, 0.4, 0.3]] * 12),
    "probabilities missing": ([0, 1, 2], [0, 1, 2], [[NAN] * 3] * 3),
    "probabilities of 0": ([0, 1, 2], [0, 1, 2], [[0.0] * 3] * 3),
    "probabilities that are none": ([0, 1, 2], [0, 1, 2], [[-3.0, 9.0, INF]] * 3),
    "labels where nothing is predicted": ([0, 1, NONE, NONE], [NONE, NONE, 0, 1], None),
}  # fmt: skip


def classes(case: str, *, landed_at: float = 2 * DAY) -> class_counts.ClassCounts:
    labels, predicted, p = CLASSES[case]
    counter = class_counts.ClassCounter(AGES, NAMES if p is not None else ())
    told = None if p is None else {name: np.array(p).reshape(-1, 3)[:, at] for at, name in enumerate(NAMES)}
    when = np.full(len(labels), landed_at)
    counter.update(NAMES, np.array(labels, int), np.array(predicted, int), when, told)
    return counter.counts()


def past_classes(*, landed_at: tuple[float, float]) -> list[class_counts.ClassCounts]:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(10):
        counter = class_counts.ClassCounter(AGES)
        true = rng.integers(0, 3, 200)
        said = np.where(rng.random(200) < 0.7, true, rng.integers(0, 3, 200))
        low, high = landed_at
        counter.update(NAMES, true, said, low + (high - low) * rng.random(200))
        found.append(counter.counts())
    return found


@pytest.mark.parametrize("min_rows", [0, 3])
@pytest.mark.parametrize("case", CLASSES)
def test_multiclass(case: str, min_rows: int) -> None:
    counts = classes(case)
    is_told(multiclass.performance(counts, multiclass.METRICS, min_rows=min_rows))
    for each in multiclass.per_class(multiclass.matrix(counts, min_rows=min_rows)):
        for found in (each.precision, each.recall, each.f1):
            assert (found.value is None) is (found.reason is not None)
            assert found.value is None or math.isfinite(found.value)
    some, late = past_classes(landed_at=(0, 6 * DAY)), past_classes(landed_at=(9 * DAY, 10 * DAY))
    for past in ([], some[:3], some, late, past_classes(landed_at=(NAN, NAN))):
        is_told(corrected_classes.corrected(counts, past, age=3 * DAY, metrics=multiclass.METRICS, min_rows=min_rows))
    known = expected_classes.calibrators(counts) or {
        name: Calibrator("raw", np.zeros(0), np.zeros(0)) for name in NAMES
    }  # fmt: skip
    expected = expected_classes.Expected(known)
    _, predicted, p = CLASSES[case]
    if p is not None:
        told = {name: np.array(p).reshape(-1, 3)[:, at] for at, name in enumerate(NAMES)}
        expected.update(NAMES, np.array(predicted, int), told)
    for names in (None, [], ["cat"], ["ferret"]):
        is_told(expected.performance(multiclass.METRICS, names=names))


# --- numbers ---------------------------------------------------------------------------------------

NUMBERS: dict[str, tuple[list[float], list[float]]] = {
    "empty window": ([], []),
    "one row, no label": ([1.0], [NAN]),
    "one row": ([1.0], [4.0]),
    "one row, right": ([4.0], [4.0]),
    "two rows": ([1.0, 2.0], [4.0, 2.5]),
    "no labels": ([1.0, 2.0], [NAN, NAN]),
    "nothing predicted": ([NAN, INF], [1.0, 2.0]),
    "labels where nothing is predicted": ([NAN, 2.0], [1.0, NAN]),
    "constant labels": ([1.0, 2.0, 3.0], [2.0] * 3),
    "labels all 0": ([1.0, 2.0, 3.0], [0.0] * 3),
    "predictions all 0": ([0.0] * 3, [1.0, 2.0, 3.0]),
    "all right": ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
    "all off by one": ([2.0, 3.0, 4.0], [1.0, 2.0, 3.0]),
    "infinite labels": ([1.0, 2.0], [INF, -INF]),
    "huge": ([1e200, -1e200], [-1e200, 1e200]),
    "near zero": ([1e-320, 0.0], [0.0, 1e-320]),
    "one label of zero": ([1.0, 2.0], [0.0, 1e-300]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_regression(case: str) -> None:
    predicted, labels = (np.array(part, dtype=float) for part in NUMBERS[case])
    counts = regression.count(predicted, labels, np.full(len(labels), 2 * DAY), edges=AGES)
    is_told(regression.performance(counts))
    for q in (0.05, 0.5, 0.95):
        found = counts.quantile(q)
        assert found is None or math.isfinite(found)
    rng = np.random.default_rng(4)

    def past(low: float, high: float) -> list[regression.Errors]:
        true = rng.normal(5, 1, (10, 100))
        return [
            regression.count(row + rng.normal(0, 1, 100), row, low + (high - low) * rng.random(100), edges=AGES)
            for row in true
        ]

    for each in ([], past(0, 6 * DAY)[:3], past(0, 6 * DAY), past(9 * DAY, 10 * DAY), past(NAN, NAN)):
        is_told(regression.corrected(counts, each, age=3 * DAY, metrics=tuple(regression.METRICS)))


# --- verdicts --------------------------------------------------------------------------------------

AT = datetime(2026, 1, 5, tzinfo=UTC)


def scope(task: str, **performance: Any) -> Scope:
    labels = {"label": "y", "task": task}
    model = {"table": "t", "time": "at", "prediction": "d", "labels": labels, "performance": performance}
    told = Config.model_validate({"sources": {"main": "sqlite:///x.db"}, "models": {"m": model}})
    return Scope("m", told.models["m"], Window(AT, AT + timedelta(days=1)), 0)


def curves_of(task: str, case: str) -> tuple[dict[str, Measure], int, int]:
    if task == "binary":
        counts = counted(case)
        return classification.performance(counts), counts.n_labelled, counts.n
    if task == "multiclass":
        named = classes(case)
        return multiclass.performance(named, multiclass.METRICS), named.n_labelled, named.n
    predicted, labels = (np.array(part, dtype=float) for part in NUMBERS[case])
    numbers = regression.count(predicted, labels, edges=AGES)
    return regression.performance(numbers), numbers.n_labelled, numbers.n


ALL = [*(("binary", case) for case in BINARY), *(("multiclass", case) for case in CLASSES),
       *(("regression", case) for case in NUMBERS)]  # fmt: skip


@pytest.mark.parametrize(("task", "case"), ALL)
@pytest.mark.parametrize("mature", [False, True])
def test_no_verdict_rests_on_what_is_undefined(task: str, case: str, mature: bool) -> None:
    found, n_labelled, n_rows = curves_of(task, case)
    reference = {name: Measure(0.7, 0.65, 0.75, 1000) for name in found}
    curves = Curves(found, found, found, reference, n_labelled=n_labelled, n_rows=n_rows, mature=mature)
    rows = results(scope(task, min_labels=1), curves)
    assert len(rows) == 3 * len(found)
    for row in rows:
        if row.value is None:
            assert row.verdict in (Verdict.CANNOT_TELL, Verdict.NO_DATA), row
            assert row.detail["reason"], row
            assert "what" not in row.detail
        json.dumps([row.value, row.interval, row.threshold, row.detail], allow_nan=False)
