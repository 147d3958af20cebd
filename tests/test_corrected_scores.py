"""Metrics of the score while labels land: the eventual value lies in the interval, and what is not known has a reason."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

from benchmarks.delay import LAWS, NOW, delays, landed, rows
from benchmarks.delay_scores import METRICS, counted, run, strata_of
from detectors.calibration import Calibrator
from detectors.classification import ScoreLabelCounter, ScoreLabels, performance
from detectors.corrected import fit, mean_worth
from detectors.corrected_scores import SCORE_METRICS, corrected_scores, pooled
from detectors.delay import DelayLaw, learn
from detectors.delay_counts import merge
from detectors.posterior import Fit


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("name", list(LAWS))
def test_intervals_hold_the_eventual_value_without_being_wide(name: str, share: float) -> None:
    _, told = run(name, share, histories=4, targets=30, per_day=2000, seed=3)
    least = 0.80 if name == "drifting" else 0.88
    for metric, out in told.items():
        # 120 trials: three standard errors of the share, so that chance does not fail the build.
        allowed = least - 3 * math.sqrt(least * (1 - least) / out.trials)
        assert out.held / out.trials >= allowed, metric
        assert np.mean(out.width) <= 2 * np.mean(out.ideal), metric
        # An area hardly depends on how many there are of each class: labelled-only is nearly a fair sample of it.
        if name in ("by class", "drifting", "in batches") and metric != "roc_auc":
            assert np.mean(out.error) <= 0.5 * np.mean(out.labelled_only), metric


def test_intervals_hold_the_eventual_value_when_positives_land_first() -> None:
    _, told = run("by class", 0.3, histories=1, targets=20, per_day=1500, seed=5)
    for metric, out in told.items():
        assert out.held >= 15, metric
        assert np.mean(out.width) <= 2 * np.mean(out.ideal), metric
        if metric != "roc_auc":
            assert np.mean(out.error) <= 0.5 * np.mean(out.labelled_only), metric


# --- by hand ---------------------------------------------------------------------------------------


def counts_of(scores: list[float], labels: list[float], *, cut: float = 0.5) -> ScoreLabels:
    counter = ScoreLabelCounter()
    values = np.array(scores, dtype=float)
    counter.update(values, (values >= cut).astype(float), np.array(labels, dtype=float))
    return counter.counts()


def fit_of(counts: ScoreLabels, share: float, *, error: float = 0.0) -> Fit:
    """Two strata, one for each decision, of which so many are positive."""
    sizes = counts.decisions()[:2].astype(float)
    return Fit(np.full(2, share), np.eye(2) * error**2, sizes, np.array([0, 1]), counts.n, (0.0, 0.0))


def by_decision(counts: ScoreLabels) -> np.ndarray:
    return np.repeat(np.array([[0, 1, 1]]), len(counts.scores), axis=0)


def test_once_all_labels_are_in_the_corrected_value_is_the_realized_one() -> None:
    rng = np.random.default_rng(1)
    scores = np.round(rng.beta(2, 3, 600), 2)
    labels = (rng.random(600) < scores).astype(float)
    counts = counts_of(list(scores), list(labels))
    no, yes = (labels[scores < 0.5], labels[scores >= 0.5])
    known = replace(fit_of(counts, 0.0), share=np.array([no.mean(), yes.mean()]))
    found = corrected_scores(counts, known, by_decision(counts), metrics=METRICS)
    for name, realized in performance(counts, METRICS).items():
        assert found[name].value == pytest.approx(realized.value, abs=1e-9), name
        assert found[name].low == pytest.approx(realized.value, abs=1e-6), name
        assert found[name].rate is not None
        assert found[name].rate[0] < found[name].value < found[name].rate[1], "the rate behind it varies by chance"


def test_unlabelled_predictions_are_shared_out_so_that_the_positives_of_a_stratum_add_up() -> None:
    counts = counts_of([0.1, 0.1, 0.2, 0.2, 0.8, 0.8, 0.9, 0.9], [0, np.nan, 1, np.nan, 0, np.nan, 1, np.nan])
    found = corrected_scores(counts, fit_of(counts, 0.5), by_decision(counts), metrics=["brier", "roc_auc"])
    # Of the two without a label in each stratum one is positive: at the lower score, at the higher, or in between.
    lower, higher = 0.25 * (0.9**2 + 0.8**2 + 0.2**2 + 0.1**2), 0.25 * (0.1**2 + 0.2**2 + 0.8**2 + 0.9**2)
    assert found["brier"].value is not None
    assert min(lower, higher) - 0.1 <= found["brier"].value <= max(lower, higher) + 0.1
    assert found["roc_auc"].value is not None
    assert 0.5 < found["roc_auc"].value < 1


def test_an_unsure_stratum_widens_the_interval() -> None:
    counts = counts_of(list(np.linspace(0.02, 0.98, 60)), [0.0, np.nan, 1.0] * 20)
    narrow, wide = (
        corrected_scores(counts, fit_of(counts, 0.5, error=each), by_decision(counts), metrics=METRICS)
        for each in (0.01, 0.15)
    )
    for name in METRICS:
        assert (wide[name].high or 0) - (wide[name].low or 0) > (narrow[name].high or 0) - (narrow[name].low or 0), name


def test_more_scores_than_are_kept_apart_say_the_same() -> None:
    rng = np.random.default_rng(2)
    scores = rng.beta(1, 4, 12_000)
    labels = np.where(rng.random(12_000) < 0.4, (rng.random(12_000) < scores).astype(float), np.nan)
    fine, coarse = counts_of(list(scores), list(labels)), counts_of(list(np.round(scores, 3)), list(labels))
    assert len(fine.scores) > 10_000
    told = [
        corrected_scores(each, fit_of(each, 0.2, error=0.01), by_decision(each), metrics=METRICS)
        for each in (fine, coarse)
    ]
    for name in METRICS:
        assert told[0][name].value == pytest.approx(told[1][name].value, abs=2e-3), name
        assert told[0][name].low == pytest.approx(told[1][name].low, abs=2e-3), name


def test_strata_put_together_have_the_same_positives() -> None:
    found = Fit(
        np.array([0.1, 0.3, 0.5]),
        np.diag([0.01, 0.02, 0.03]) ** 2,
        np.array([100.0, 50.0, 10.0]),
        np.array([0, 0, 1]),
        160,
        (0.0, 0.0),
    )
    whole = pooled(found, np.array([0, 0, 1]))
    assert whole.share * whole.expected == pytest.approx([25.0, 5.0])
    assert whole.covariance[0, 0] * 150**2 == pytest.approx((100 * 0.01) ** 2 + (50 * 0.02) ** 2)
    assert list(whole.decisions) == [0, 1]


def test_the_worth_of_decisions_is_that_of_the_expected_outcomes() -> None:
    found = Fit(np.array([0.1, 0.6]), np.diag([0.02, 0.05]) ** 2, np.array([80.0, 20.0]), np.array([0, 1]), 100, (0, 0))
    told = mean_worth(found, {"tp": 5.0, "fp": -2.0, "fn": -1.0})
    assert told.value == pytest.approx((12 * 5 - 8 * 2 - 8 * 1) / 100)
    # One more positive of the 20 is worth 7 more, one of the 80 one less.
    spread = math.hypot(20 * 7 * 0.05, 80 * 1 * 0.02) / 100
    assert (told.high or 0) - told.value == pytest.approx(1.96 * spread, rel=1e-3)
    assert told.rate is not None
    assert told.rate[1] - told.value > 1.96 * spread
    undecided = replace(found, decisions=np.array([2, 2]))
    assert mean_worth(undecided, {"tp": 5.0}).reason == "no_decisions"


# --- undefined -------------------------------------------------------------------------------------

UNDEFINED = {
    "no predictions": ([], [], dict.fromkeys(METRICS, "no_predictions")),
    "no scores": ([np.nan] * 3, [0, 1, np.nan], dict.fromkeys(METRICS, "no_scores")),
    "no labels": ([0.2, 0.7, 0.9], [np.nan] * 3, dict.fromkeys(METRICS, "no_labels")),
    "no positive label yet": (
        [0.2, 0.7, 0.9, 0.4],
        [0, 0, np.nan, np.nan],
        {"roc_auc": "one_class", "pr_auc": "no_positives"},
    ),
    "no negative label yet": ([0.2, 0.7, 0.9, 0.4], [1, 1, np.nan, np.nan], {"roc_auc": "one_class"}),
    "scores that are no probabilities": (
        [-3.0, 0.2, 4.0, 8.0],
        [0, 1, 1, np.nan],
        dict.fromkeys(("brier", "log_loss", "ece"), "scores_not_probabilities"),
    ),
    "infinite scores": (
        [-math.inf, 0.2, 0.8, math.inf],
        [0, 1, 1, np.nan],
        dict.fromkeys(("brier", "log_loss", "ece"), "scores_not_probabilities"),
    ),
    "all scores equal": (
        [0.5] * 4,
        [0, 1, np.nan, np.nan],
        {"roc_auc": "constant_scores", "pr_auc": "constant_scores"},
    ),
    "one prediction": ([0.7], [1], {"roc_auc": "one_class", "pr_auc": "constant_scores"}),
    "scores of 0 and 1": ([0.0, 1.0, 1.0, 0.0], [0, 1, np.nan, 1], {}),
}  # fmt: skip


@pytest.mark.parametrize("metric", SCORE_METRICS)
@pytest.mark.parametrize("case", UNDEFINED)
def test_undefined_is_a_reason_by_name(case: str, metric: str) -> None:
    scores, labels, reasons = UNDEFINED[case]
    counts = counts_of(scores, labels)
    with np.errstate(all="raise", under="ignore"):
        found = corrected_scores(
            counts, fit_of(counts, 0.4, error=0.1), by_decision(counts), metrics=[metric]
        )[metric]  # fmt: skip
    assert found.reason == reasons.get(metric)
    assert (found.value is None) is (metric in reasons)
    if found.value is not None:
        assert np.isfinite([found.value, found.low, found.high]).all()
        assert (found.low or 0) <= found.value <= (found.high or 0)


def test_what_the_fit_cannot_tell_is_passed_on() -> None:
    counts = counts_of([0.2, 0.7], [0, 1])
    found = corrected_scores(counts, "not_identifiable", by_decision(counts), metrics=METRICS)
    assert {(each.value, each.reason) for each in found.values()} == {(None, "not_identifiable")}


def law_of(name: str, seed: int) -> DelayLaw:
    rng = np.random.default_rng(seed)
    windows = [delays(rows(rng, LAWS[name], days=np.array([day]), per_day=300)) for day in range(30, 147)]
    return learn(reduce(merge, windows), windows=windows)


def test_where_the_lack_of_a_label_will_mean_negative_positives_alone_tell() -> None:
    law = law_of("by class", 4)
    part = rows(np.random.default_rng(6), LAWS["by class"], days=np.array([NOW - 3.0]), per_day=3000)
    counts = counted(part, 3.0)
    assert counts.n_negative == 0, "negatives take four days at least"
    refused = corrected_scores(counts, fit(landed(part), law), strata_of(counts), metrics=METRICS)
    assert {each.reason for each in refused.values()} == {"not_identifiable"}
    known = fit(landed(part), law, absent=0)
    told = corrected_scores(counts, known, strata_of(counts), metrics=METRICS, absent=0, level=0.99)
    for name, realized in performance(counted(part, np.inf), METRICS).items():
        assert told[name].low is not None
        assert told[name].low <= realized.value <= told[name].high, name


def test_scores_that_came_to_mean_something_else_are_seen_as_labels_land() -> None:
    """The past says that odds rise with the score; now they fall with it within each stratum."""
    rng = np.random.default_rng(8)
    scores = rng.uniform(0.01, 0.99, 4000)
    truth = (rng.random(4000) < np.where(scores < 0.5, 0.5 - scores, 1.5 - scores)).astype(float)
    labels = np.where(rng.random(4000) < 0.5, truth, np.nan)
    counts = counts_of(list(scores), list(labels))
    shares = np.array([truth[scores < 0.5].mean(), truth[scores >= 0.5].mean()])
    known = replace(fit_of(counts, 0.0, error=0.01), share=shares)
    raw = Calibrator("raw", np.zeros(0), np.zeros(0))
    found = corrected_scores(counts, known, by_decision(counts), metrics=METRICS, calibrator=raw)
    for name, realized in performance(counts_of(list(scores), list(truth)), METRICS).items():
        assert found[name].low is not None
        assert found[name].low <= realized.value <= found[name].high, name
