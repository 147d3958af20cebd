"""Performance estimated before labels: NannyML's published run, and what the estimate promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from detectors.calibration import CalibrationError, Calibrator, calibration_change, estimate, fit
from detectors.classification import ScoreLabelCounter, ScoreLabels, empty, performance

SHARED = Path(__file__).parents[2] / "shared"


def count(scores: Any, decisions: Any, labels: Any) -> ScoreLabels:
    counter = ScoreLabelCounter()
    counter.update(scores, decisions, labels)
    return counter.counts()


def overconfident(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.beta(1, 3, n)
    scores = np.round(np.sqrt(truth), 3)
    return scores, scores >= 0.6, rng.random(n) < truth


def test_scores_that_mislead_are_mapped_as_isotonic_regression_does() -> None:
    scores, decisions, labels = overconfident(4000, 0)
    calibrator = fit(count(scores, decisions, labels))
    assert calibrator.kind == "isotonic"
    grid = np.linspace(-0.2, 1.2, 500)
    expected = IsotonicRegression(out_of_bounds="clip").fit(scores, labels).predict(grid)
    assert calibrator.probability(grid) == pytest.approx(expected, abs=1e-9)


def test_scores_that_are_already_probabilities_are_left_alone() -> None:
    rng = np.random.default_rng(2)
    scores = rng.beta(1, 3, 3000)
    calibrator = fit(count(scores, scores > 0.3, rng.random(3000) < scores))
    assert calibrator.kind == "raw"
    assert calibrator.probability(np.array([0.25])) == 0.25


def test_scores_that_are_no_probabilities_are_always_mapped() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(0, 300, 2000)
    calibrator = fit(count(scores, scores > 0, rng.random(2000) < 1 / (1 + np.exp(-scores / 300))))
    assert calibrator.kind == "isotonic"
    assert 0 <= calibrator.probability(scores).min() <= calibrator.probability(scores).max() <= 1


@pytest.mark.parametrize("labels", [None, [1, 1, 1], [0, 0, 0]])
def test_a_reference_of_one_class_is_refused(labels: Any) -> None:
    with pytest.raises(CalibrationError, match="both classes"):
        fit(count([0.1, 0.2, 0.3], [0, 0, 1], labels))


def test_realized_performance_is_in_its_estimated_interval_while_the_rule_holds() -> None:
    scores, decisions, labels = overconfident(40_000, 0)
    calibrator = fit(count(scores, decisions, labels))
    held = dict.fromkeys(("precision", "recall", "f1", "specificity", "accuracy", "roc_auc"), 0)
    for seed in range(1, 201):
        scores, decisions, labels = overconfident(600, seed)
        expected = estimate(count(scores, decisions, None), calibrator, level=0.9)
        realized = performance(count(scores, decisions, labels), tuple(held))
        for name in held:
            low, high, value = expected[name].low, expected[name].high, realized[name].value
            assert low is not None
            assert high is not None
            assert value is not None
            held[name] += low <= value <= high
    assert all(168 <= times <= 193 for times in held.values()), held


def test_an_estimate_without_predictions_or_positive_decisions_is_no_number() -> None:
    raw = Calibrator("raw", np.zeros(0), np.zeros(0))
    assert {measure.reason for measure in estimate(empty(), raw).values()} == {"no_predictions"}
    found = estimate(count([0.1, 0.2], [0, 0], None), raw)
    assert (found["precision"].value, found["precision"].reason) == (None, "no_predicted_positives")
    assert found["f1"].reason == "no_predicted_positives"
    assert found["recall"].value == 0.0
    assert estimate(count([0.0, 0.0], [0, 1], None), raw)["roc_auc"].reason == "one_class"


def test_a_changed_rule_moves_what_scores_mean_and_a_changed_world_does_not() -> None:
    rng = np.random.default_rng(0)
    scores, decisions, labels = overconfident(20_000, 0)
    calibrator = fit(count(scores, decisions, labels))
    world = rng.random(5000) < scores[:5000] ** 2  # rather the high scores
    shifted = calibration_change(count(scores[:5000][world], None, labels[:5000][world]), calibrator)
    flipped = calibration_change(count(scores, None, labels ^ (rng.random(20_000) < 0.2)), calibrator)
    assert shifted is not None
    assert flipped is not None
    assert shifted.low <= 0 <= shifted.high
    assert flipped.low > 0.05
    assert calibration_change(count(scores, None, None), calibrator) is None


def test_the_car_loan_equals_the_published_run() -> None:
    if not (SHARED / "data").exists():
        pytest.skip("the shared data is not beside this checkout")
    import pyarrow.parquet as pq

    published = json.loads((SHARED / "data/oracles/nannyml_car_loan_run.json").read_text())["tables"]
    sides = {
        side: pq.read_table(SHARED / f"data/sets/nml_car_loan_{side}.parquet").to_pandas()
        for side in ("reference", "analysis")
    }

    def window(side: str, start: int, stop: int) -> ScoreLabels:
        rows = sides[side].iloc[start:stop]
        return count(rows["y_pred_proba"], rows["y_pred"], rows["repaid"])

    calibrator = fit(window("reference", 0, 50_000))
    names = {"accuracy", "precision", "recall", "f1", "specificity", "roc_auc"}
    for chunk in range(20):
        counts = window("reference" if chunk < 10 else "analysis", chunk % 10 * 5000, chunk % 10 * 5000 + 5000)
        estimated, realized = estimate(counts, calibrator), performance(counts)
        for name in names:
            row = published["cbpe_5000"][chunk]
            assert estimated[name].value == pytest.approx(row[f"{name}__value"], abs=1e-6), (chunk, name)
            row = published["realized_performance_5000"][chunk]
            assert realized[name].value == pytest.approx(row[f"{name}__value"], abs=1e-6), (chunk, name)
        assert realized["pr_auc"].value == pytest.approx(
            published["realized_performance_5000"][chunk]["average_precision__value"], abs=1e-6
        )
