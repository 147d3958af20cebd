"""Undefined is undefined: what cannot be computed has no value and a reason by name, on every curve, never 0 or NaN."""

from __future__ import annotations

import json
from functools import reduce

import numpy as np
import pytest

from detectors.calibration import Calibrator, estimate
from detectors.classification import METRICS, ScoreLabelCounter, ScoreLabels, performance
from detectors.corrected import CORRECTABLE, corrected
from detectors.delay import learn
from detectors.delay_counts import age_edges, count_delays, merge
from detectors.posterior import Landed
from monitor.performance import business_value, tables

CASES: dict[str, tuple[list[float], list[float], list[float]]] = {
    "no predictions": ([], [], []),
    "no labels": ([0.2, 0.8, 0.6], [0, 1, 1], [np.nan] * 3),
    "no positives": ([0.2, 0.8, 0.6], [0, 1, 1], [0, 0, 0]),
    "no negatives": ([0.2, 0.8, 0.6], [0, 1, 1], [1, 1, 1]),
    "nothing above the threshold": ([0.2, 0.1, 0.3], [0, 0, 0], [0, 1, 0]),
    "all scores equal": ([0.5] * 4, [1, 1, 1, 1], [0, 1, 0, 1]),
    "no scores": ([np.nan] * 3, [0, 1, 1], [0, 1, 0]),
    "no decisions": ([0.2, 0.8, 0.6], [np.nan] * 3, [0, 1, 0]),
    "scores that are no probabilities": ([-3.0, 2.0, 4.0], [0, 1, 1], [0, 1, 0]),
}
NO_VALUE = {
    "no predictions": dict.fromkeys(METRICS, "no_predictions"),
    "no labels": {name: "no_labels" for name in METRICS if name != "positive_rate"},
    "no positives": {
        "recall": "no_positives", "f1": "no_positives", "fbeta": "no_positives", "pr_auc": "no_positives",
        "roc_auc": "one_class",
    },
    "no negatives": {"specificity": "no_negatives", "roc_auc": "one_class"},
    "nothing above the threshold": dict.fromkeys(("precision", "f1", "fbeta"), "no_predicted_positives"),
    "all scores equal": dict.fromkeys(("roc_auc", "pr_auc"), "constant_scores"),
    "no scores": dict.fromkeys(("roc_auc", "pr_auc", "brier", "log_loss", "ece"), "no_scores"),
    "no decisions": dict.fromkeys(
        ("precision", "recall", "f1", "fbeta", "accuracy", "specificity", "positive_rate"), "no_decisions"
    ),
    "scores that are no probabilities": dict.fromkeys(("brier", "log_loss", "ece"), "scores_not_probabilities"),
}  # fmt: skip


def counted(case: str) -> ScoreLabels:
    scores, decisions, labels = (np.array(part, dtype=float) for part in CASES[case])
    counter = ScoreLabelCounter()
    counter.update(scores, decisions, labels)
    return counter.counts()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", CASES)
def test_realized(case: str, metric: str) -> None:
    found = performance(counted(case), [metric])[metric]
    expected = NO_VALUE[case].get(metric)
    assert found.reason == expected
    assert (found.value is None) is (expected is not None)
    if expected is not None:
        assert (found.low, found.high) == (None, None)
    else:
        assert np.isfinite([found.value, found.low, found.high]).all()


ESTIMATED = ("precision", "recall", "f1", "specificity", "accuracy", "roc_auc")
PROMISED = {
    "no predictions": dict.fromkeys(ESTIMATED, "no_predictions"),
    "nothing above the threshold": dict.fromkeys(("precision", "f1"), "no_predicted_positives"),
    "all scores equal": {"roc_auc": "constant_scores"},
}


@pytest.mark.parametrize("metric", ESTIMATED)
@pytest.mark.parametrize("case", ["no predictions", "no labels", "nothing above the threshold", "all scores equal"])
def test_estimated(case: str, metric: str) -> None:
    raw = Calibrator("raw", np.zeros(0), np.zeros(0))
    found = estimate(counted(case), raw)[metric]
    expected = PROMISED.get(case, {}).get(metric)
    assert found.reason == expected
    assert (found.value is None) is (expected is not None)
    if found.value is not None:
        assert np.isfinite([found.value, found.low, found.high]).all()


def test_what_is_not_there_is_not_promised_without_decisions_or_scores() -> None:
    raw = Calibrator("raw", np.zeros(0), np.zeros(0))
    for case in ("no decisions", "no scores"):
        found = estimate(counted(case), raw)
        for name in ("precision", "recall"):
            assert found[name].value is None, (case, name)
            assert found[name].reason is not None
    impossible = Calibrator("isotonic", np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    found = estimate(counted("no labels"), impossible)
    assert (found["recall"].value, found["recall"].reason) == (None, "no_positives")
    assert (found["roc_auc"].value, found["roc_auc"].reason) == (None, "one_class")


LAW_AT = age_edges(10 * 86400.0)


def landed(predictions: int, labels: tuple[int, int], *, decided: int, age: float = 5 * 86400.0) -> Landed:
    """Predictions of one age and one decision, with so many negative and positive labels."""
    held = np.zeros((1, 3, 2), np.int64)
    held[0, decided] = labels
    total = np.zeros((1, 3), np.int64)
    total[0, decided] = predictions
    return Landed(np.array([age]), total, held, np.arange(3))


@pytest.mark.parametrize("metric", CORRECTABLE)
@pytest.mark.parametrize(
    ("part", "reasons"),
    [
        pytest.param(landed(0, (0, 0), decided=0), dict.fromkeys(CORRECTABLE, "no_predictions"), id="no predictions"),
        pytest.param(
            landed(100, (40, 10), decided=0),
            dict.fromkeys(("precision", "f1", "fbeta"), "no_predicted_positives"),
            id="nothing above the threshold",
        ),
        pytest.param(
            landed(100, (5, 5), decided=0, age=60.0), dict.fromkeys(CORRECTABLE, "not_identifiable"), id="too young"
        ),
        pytest.param(
            landed(100, (40, 10), decided=2),
            {
                "precision": "no_predicted_positives", "recall": "no_positives", "specificity": "no_negatives",
                "accuracy": "no_decisions", "f1": "no_predicted_positives", "fbeta": "no_predicted_positives",
            },
            id="no decisions",
        ),
    ],
)  # fmt: skip
def test_corrected(part: Landed, reasons: dict[str, str], metric: str) -> None:
    rng = np.random.default_rng(2)
    windows = [
        count_delays(
            rng.uniform(1, 8, 400) * 86400.0, rng.integers(0, 2, 400).astype(float), np.full(400, 30 * 86400.0),
            edges=LAW_AT, strata=rng.integers(0, 3, 400), n_strata=3,
        )
        for _ in range(8)
    ]  # fmt: skip
    law = learn(reduce(merge, windows), windows=windows)
    found = corrected(part, law, metrics=[metric])[metric]
    expected = reasons.get(metric)
    assert found.reason == expected
    assert (found.value is None) is (expected is not None)
    if found.value is not None:
        assert np.isfinite([found.value, found.low, found.high]).all()


@pytest.mark.parametrize("case", CASES)
def test_tables_and_worth_hold_no_nan(case: str) -> None:
    counts = counted(case)
    told = tables(counts, [0.1, 0.5, 0.9])
    json.dumps(told, allow_nan=False)
    worth = business_value(counts, {"tp": 5.0, "fp": -1.0})
    assert (worth.value is None) is (worth.reason is not None)
    assert worth.value is None or np.isfinite([worth.value, worth.low, worth.high]).all()
    if case == "nothing above the threshold":
        row = next(each for each in told["thresholds"] if each["threshold"] == 0.5)
        assert row["precision"] is None, "not 0"
