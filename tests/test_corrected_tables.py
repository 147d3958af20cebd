"""Other thresholds and reliability while labels land: of what is to be expected, and said so; a reason where not."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from test_corrected_scores import by_decision, counts_of, fit_of
from test_undefined import CASES
from test_undefined import counted as case_of

from benchmarks.delay import LAWS, NOW, WORLD, landed, rows, true_law
from benchmarks.delay_scores import counted, strata_of
from benchmarks.delay_tables import COLUMNS, run
from detectors.bounds import thresholds_with_never_labelled, with_never_labelled
from detectors.classification import ScoreLabels, performance, reliability_curve, threshold_table
from detectors.corrected import fit, measure
from detectors.corrected_scores import Expected, expect
from detectors.corrected_tables import Tables, between, corrected_tables, corrected_thresholds
from detectors.posterior import Fit
from monitor.performance import tables


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("name", list(LAWS))
def test_each_table_holds_the_eventual_values_without_being_wide(name: str, share: float) -> None:
    _, told = run(name, share, histories=4, targets=30, per_day=2000, seed=3)
    least = 0.80 if name == "drifting" else 0.88
    for column, out in told.items():
        # Cells of one window go together: 120 windows are what counts, with three standard errors for chance.
        allowed = least - 3 * math.sqrt(least * (1 - least) / 120)
        assert out.held / out.trials >= allowed, column
        assert np.mean(out.width) <= 2 * np.mean(out.ideal), column
        if name in ("by class", "drifting", "in batches") and column != "recall":
            assert np.mean(out.error) <= 0.5 * np.mean(out.labelled_only), column


@pytest.mark.parametrize("name", list(LAWS))
def test_tables_hold_the_eventual_values_under_each_delay_law(name: str) -> None:
    _, told = run(name, 0.3, histories=1, targets=6, per_day=1200, seed=5)
    assert set(told) == set(COLUMNS)
    trials, held = (sum(getattr(out, part) for out in told.values()) for part in ("trials", "held"))
    assert trials > 6 * 20
    assert held / trials >= 0.85
    for column, out in told.items():
        assert np.mean(out.width) <= 2 * np.mean(out.ideal), column
        if name == "by class" and column != "recall":
            assert np.mean(out.error) <= 0.5 * np.mean(out.labelled_only), column


# --- by hand ---------------------------------------------------------------------------------------

THRESHOLDS = [0.1, 0.3, 0.5, 0.7, 0.9]
NAMES = ("precision", "recall", "f1", "specificity")


def told_of(counts: ScoreLabels, found: Fit, thresholds: list[float] = THRESHOLDS) -> Tables:
    table = expect(counts, found, by_decision(counts), thresholds=thresholds)
    told = corrected_tables(table, found, counts, thresholds)
    assert isinstance(told, Tables)
    return told


def test_once_all_labels_are_in_the_corrected_tables_are_the_realized_ones() -> None:
    rng = np.random.default_rng(1)
    scores = np.round(rng.beta(2, 3, 600), 2)
    labels = (rng.random(600) < scores).astype(float)
    counts = counts_of(list(scores), list(labels))
    shares = np.array([labels[scores < 0.5].mean(), labels[scores >= 0.5].mean()])
    known = Fit(shares, np.zeros((2, 2)), counts.decisions()[:2].astype(float), np.array([0, 1]), 600, (0.0, 0.0))
    told = told_of(counts, known)
    for mine, plain in zip(told.thresholds, threshold_table(counts, THRESHOLDS), strict=True):
        assert mine.confusion == plain.confusion
        for name in NAMES:
            value = getattr(plain, name).value
            assert getattr(mine, name).value == (None if value is None else pytest.approx(value, abs=1e-9)), name
            if value is not None:
                assert getattr(mine, name).low == pytest.approx(value, abs=1e-6), "nothing is left to be guessed"
    plain_curve = reliability_curve(counts)
    assert told.reliability is not None
    assert told.reliability.observed == pytest.approx(plain_curve.observed, abs=1e-9)
    assert told.reliability.predicted == pytest.approx(plain_curve.predicted)
    assert list(told.reliability.n) == list(plain_curve.n)
    matrix = counts.confusion()
    assert [told.confusion[name].value for name in ("tp", "fp", "fn", "tn")] == pytest.approx(
        [matrix.tp, matrix.fp, matrix.fn, matrix.tn]
    )


def test_at_the_threshold_of_the_decisions_the_table_says_what_the_corrected_metrics_say() -> None:
    law = true_law(LAWS["by class"], 10, WORLD)
    part = rows(np.random.default_rng(2), LAWS["by class"], days=np.array([NOW - 10.0]), per_day=3000)
    counts, found = counted(part, 10.0), fit(landed(part), law)
    assert not isinstance(found, str)
    table = expect(counts, found, strata_of(counts), thresholds=[WORLD.cut])
    assert isinstance(table, Expected)
    [row] = corrected_thresholds(table, counts, [WORLD.cut])
    for name in NAMES:
        metric = measure(found, name)
        mine = getattr(row, name)
        assert mine.value == pytest.approx(metric.value, abs=1e-6), name
        assert (mine.low, mine.high) == pytest.approx((metric.low, metric.high), abs=1e-3), name
    assert row.positive_rate == threshold_table(counts, [WORLD.cut])[0].positive_rate, "it needs no label"


def test_thresholds_are_kept_apart_where_scores_are_put_together() -> None:
    rng = np.random.default_rng(3)
    scores = rng.beta(1, 9, 60_000)
    labels = np.where(rng.random(60_000) < 0.5, (rng.random(60_000) < scores).astype(float), np.nan)
    counts = counts_of(list(scores), list(labels))
    [row] = told_of(counts, fit_of(counts, 0.1, error=0.01), [0.6012345]).thresholds
    above = int((scores >= 0.6012345).sum())
    assert 0 < above < 50
    assert row.confusion.tp + row.confusion.fp == pytest.approx(above, abs=1)
    assert row.precision.n == above


def test_of_one_prediction_that_may_be_positive_both_ends_are_possible() -> None:
    assert between(0.65, 0.65 * 0.35, 1.0) == (0.0, 1.0)
    assert between(0.65, 0.0, 1.0) == (0.65, 0.65)
    low, high = between(2 / 2700, 2 / 2700**2, 2700.0)
    assert low == 0.0
    assert high * 2700 == pytest.approx(round(high * 2700))
    wide = between(0.5, 1e-4, 3000.0)
    assert wide.low * 3000 != pytest.approx(round(wide.low * 3000), abs=1e-6), "large counts are not rounded"


def test_a_class_of_which_nothing_has_been_seen_leaves_its_measures_open() -> None:
    counts = counts_of([0.2, 0.7, 0.9, 0.4], [0, 0, np.nan, np.nan])
    [row] = told_of(counts, fit_of(counts, 0.3, error=0.1), [0.5]).thresholds
    assert {row.recall.reason, row.f1.reason} == {"no_positives"}
    assert row.precision.value is not None
    table = expect(counts, fit_of(counts, 0.3, error=0.1), by_decision(counts), thresholds=[0.5, 0.95])
    assert isinstance(table, Expected)
    told = corrected_thresholds(table, counts, [0.5, 0.95], absent=1)
    assert told[0].recall.value is not None, "the lack of a label will mean positive"
    assert told[1].precision.reason == "no_predicted_positives"
    assert told[1].recall.value == 0.0
    for reason in ("not_identifiable", "no_delay_law"):
        assert corrected_tables(expect(counts, reason, by_decision(counts)), reason, counts, [0.5]) == reason


@pytest.mark.parametrize("case", CASES)
def test_what_is_told_of_any_counts_is_valid_json(case: str) -> None:
    counts = case_of(case)
    found = fit_of(counts, 0.4, error=0.1)
    with np.errstate(all="raise", under="ignore"):
        table = expect(counts, found, by_decision(counts), thresholds=[0.1, 0.5, 0.9])
        told = tables(counts, [0.1, 0.5, 0.9], corrected=corrected_tables(table, found, counts, [0.1, 0.5, 0.9]))
    json.dumps(told, allow_nan=False)
    assert not told or told["tables_of"] == "corrected"


def test_what_is_told_names_its_curve_and_where_nothing_is_known_the_reason() -> None:
    counts = counts_of([0.1, 0.2, 0.8, 0.9], [0, 1, 1, np.nan])
    plain = tables(counts, [0.5])
    assert plain["tables_of"] == "realized"
    assert "confusion_expected" not in plain
    refused = tables(counts, [0.5], corrected="not_identifiable")
    assert refused["tables_reason"] == "not_identifiable"
    assert "thresholds" not in refused
    assert "reliability" not in refused
    told = tables(counts, [0.5], corrected=told_of(counts, fit_of(counts, 0.5, error=0.1), [0.5]))
    assert told["tables_of"] == "corrected"
    assert told["confusion"] == plain["confusion"], "what has landed so far"
    value, low, high = told["confusion_expected"]["tp"]
    assert low <= value <= high
    assert value == pytest.approx(1.0)
    assert [row["threshold"] for row in told["thresholds"]] == [0.5]
    assert sum(row["n"] for row in told["reliability"]) == 4


def test_where_some_can_never_be_labelled_the_corrected_table_holds_bounds() -> None:
    rng = np.random.default_rng(6)
    scores = rng.uniform(0, 1, 2000)
    truth = (rng.random(2000) < scores).astype(float)
    apart = scores >= 0.6
    some = np.where(rng.random(2000) < 0.5, truth, np.nan)
    counts = counts_of(list(scores[~apart]), list(some[~apart]))
    never = counts_of(list(scores[apart]), [np.nan] * int(apart.sum()))
    low_side, high_side = truth[scores < 0.5].mean(), truth[(scores >= 0.5) & ~apart].mean()
    found = Fit(
        np.array([low_side, high_side]), np.eye(2) * 1e-4, counts.decisions()[:2].astype(float), np.array([0, 1]),
        counts.n, (0.0, 0.0),
    )  # fmt: skip
    table = expect(counts, found, by_decision(counts), thresholds=[0.3, 0.7])
    assert isinstance(table, Expected)
    bounded = thresholds_with_never_labelled(
        corrected_thresholds(table, counts, [0.3, 0.7]), counts, never, table=table
    )
    full = threshold_table(counts_of(list(scores), list(truth)), [0.3, 0.7])
    for mine, real in zip(bounded, full, strict=True):
        assert mine.positive_rate.value == real.positive_rate.value, "of all predictions"
        for name in ("precision", "recall", "f1", "specificity"):
            found_here, value = getattr(mine, name), getattr(real, name).value
            assert found_here.reason == "never_labelled", name
            assert found_here.bounds[0] - 0.03 <= value <= found_here.bounds[1] + 0.03, name
            assert found_here.chance[0] <= found_here.bounds[0] <= found_here.bounds[1] <= found_here.chance[1]
    # With all labels in, the bounds are those of the realized table.
    seen = counts_of(list(scores[~apart]), list(truth[~apart]))
    known = Fit(found.share, np.zeros((2, 2)), found.expected, found.decisions, found.n, (0.0, 0.0))
    table = expect(seen, known, by_decision(seen), thresholds=[0.3])
    assert isinstance(table, Expected)
    [row] = thresholds_with_never_labelled(corrected_thresholds(table, seen, [0.3]), seen, never, table=table)
    plain = with_never_labelled(performance(seen, ["recall"]), seen, never, threshold=0.3)["recall"]
    assert row.recall.bounds == pytest.approx(plain.bounds, abs=1e-9)
