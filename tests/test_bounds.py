"""Performance where some predictions can never be labelled: the bounds are those of trying every label."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from detectors.bounds import NEVER, value_bounds, with_never_labelled
from detectors.classification import METRICS, ScoreLabelCounter, ScoreLabels, performance
from monitor.config import PerformanceLimit
from monitor.models import Verdict
from monitor.performance import business_value, tables
from monitor.thresholds import judge_bounds

BOUNDED = [name for name in METRICS if name not in ("pr_auc", "positive_rate")]


def counted(scores: np.ndarray, decisions: np.ndarray | None, labels: np.ndarray | None) -> ScoreLabels:
    counter = ScoreLabelCounter()
    counter.update(scores, decisions, labels)
    return counter.counts()


def sides(seed: int, *, only: int | None = None) -> tuple[np.ndarray, ...]:
    """Scores, decisions and labels of fifteen predictions, of which the last six can never be labelled."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.uniform(size=15), 1)
    decisions = (scores >= 0.5).astype(float)
    if only is not None:
        decisions[9:] = only
    labels = (rng.uniform(size=15) < 0.2 + 0.6 * scores).astype(float)
    return scores, decisions, labels


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("seed", range(8))
def test_bounds_are_the_least_and_the_most_of_all_labels_that_could_be(name: str, seed: int) -> None:
    scores, decisions, labels = sides(seed)
    known = counted(scores[:9], decisions[:9], labels[:9])
    found = with_never_labelled(performance(known), known, counted(scores[9:], decisions[9:], None))[name]
    tried = []
    for guess in product([0.0, 1.0], repeat=6):
        measure = performance(counted(scores, decisions, np.array([*labels[:9], *guess])), [name])[name]
        tried += [] if measure.value is None else [measure.value]
    assert found.value is None
    assert found.reason == NEVER
    assert found.bounds is not None
    low, high = found.bounds
    if name == "ece":  # within a bin the sum is not tried between whole labels, and so a little wider
        assert low <= min(tried) + 1e-12
        assert high == pytest.approx(max(tried))
    else:
        assert (low, high) == pytest.approx((min(tried), max(tried)))
    assert found.chance is not None
    assert found.chance[0] <= low <= high <= found.chance[1]


@pytest.mark.parametrize(("only", "point"), [(0, "precision"), (1, None)])
def test_a_metric_that_the_never_labelled_do_not_enter_is_a_point(only: int, point: str | None) -> None:
    scores, decisions, labels = sides(3, only=only)
    known = counted(scores[:9], decisions[:9], labels[:9])
    plain = performance(known)
    found = with_never_labelled(plain, known, counted(scores[9:], decisions[9:], None))
    identified = {name for name, measure in found.items() if measure.value is not None}
    assert identified == {"positive_rate", *([point] if point else [])}
    if point:
        assert found[point] == plain[point]


def test_the_share_of_positive_decisions_is_of_all_predictions() -> None:
    scores, decisions, labels = sides(1)
    known = counted(scores[:9], decisions[:9], labels[:9])
    found = with_never_labelled(performance(known), known, counted(scores[9:], decisions[9:], None))
    assert found["positive_rate"].value == pytest.approx(decisions.mean())


def test_labels_still_to_land_count_as_those_of_the_same_decision_that_have() -> None:
    """Half of the labels of refused loans are in, and nine in ten of the others: neither is counted for less."""
    scores = np.repeat([0.2, 0.8], [100, 100])
    decisions = (scores >= 0.5).astype(float)
    labels = np.full(200, np.nan)
    labels[:90] = np.arange(90) % 10 == 0  # 10 % positive
    labels[100:150] = np.arange(50) % 5 == 0  # 20 % positive
    never = counted(np.full(50, 0.3), np.zeros(50), None)
    known = counted(scores, decisions, labels)
    found = with_never_labelled(performance(known, ["recall"]), known, never)["recall"]
    # Of 100 each: 20 true positives, 10 false negatives; 0 to 50 more false negatives.
    assert found.bounds == pytest.approx((20 / 80, 20 / 30))


def test_chance_widens_bounds_as_far_as_few_labels_allow() -> None:
    rng, held, trials = np.random.default_rng(8), 0, 300
    for _ in range(trials):
        decisions = (rng.uniform(size=300) < 0.4).astype(float)
        labels = (rng.uniform(size=300) < np.where(decisions, 0.6, 0.1)).astype(float)
        known = counted(decisions, decisions, labels)
        never = counted(np.ones(100), np.zeros(100), None)
        found = with_never_labelled(performance(known, ["recall"]), known, never)["recall"]
        assert found.chance is not None
        # The rates behind it: 0.24 and 0.06 of all labelled.
        low, high = 300 * 0.24 / (300 * 0.30 + 100), 0.24 / 0.30
        held += found.chance[0] <= low
        held += found.chance[1] >= high
    assert held / (2 * trials) >= 0.955, "each end misses on one side only: 97.5 %"


def test_undefined_stays_undefined() -> None:
    none = counted(np.array([0.1, 0.2]), np.zeros(2), np.zeros(2))
    never = counted(np.array([0.4, 0.1]), np.zeros(2), None)
    found = with_never_labelled(performance(none), none, never)
    assert found["precision"].reason == "no_predicted_positives"
    assert found["f1"].reason in ("no_predicted_positives", "no_positives")
    assert found["pr_auc"].reason == NEVER
    assert found["pr_auc"].bounds is None
    unlabelled = counted(np.array([0.1, 0.9]), np.array([0.0, 1.0]), None)
    told = with_never_labelled(performance(unlabelled), unlabelled, never)
    assert all(each.value is None and each.bounds is None for name, each in told.items() if name != "positive_rate")


def test_the_worth_of_decisions_lies_between_the_worst_and_the_best_that_refused_loans_could_be() -> None:
    known = counted(np.array([0.1, 0.9, 0.9]), np.array([0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0]))
    never = counted(np.array([0.2]), np.array([0.0]), None)
    worth = {"tp": 5.0, "fp": -1.0, "fn": -20.0, "tn": 1.0}
    found = value_bounds(business_value(known, worth), known, never, worth)
    assert found.bounds == pytest.approx(((5 - 1 + 1 - 20) / 4, (5 - 1 + 1 + 1) / 4))


def test_other_thresholds_are_bounds_as_well() -> None:
    scores, decisions, labels = sides(5)
    known = counted(scores[:9], decisions[:9], labels[:9])
    told = tables(known, [0.5], never=counted(scores[9:], decisions[9:], None))
    value, low, high = told["thresholds"][0]["recall"]
    assert value is None
    assert 0 <= low < high <= 1
    assert told["confusion"]["never_labelled"] == {
        "positive": int(decisions[9:].sum()),
        "negative": int(6 - decisions[9:].sum()),
    }


def below(value: float) -> PerformanceLimit:
    return PerformanceLimit(kind="below", value=value)


CHANGE = PerformanceLimit(kind="change", value=-0.1)


@pytest.mark.parametrize(
    ("bounds", "reference", "warn", "alert", "verdict"),
    [
        pytest.param((0.2, 0.4), None, None, below(0.5), Verdict.ALERT, id="wholly beyond"),
        pytest.param((0.6, 0.9), None, None, below(0.5), Verdict.OK, id="wholly inside"),
        pytest.param((0.4, 0.6), None, None, below(0.5), Verdict.CANNOT_TELL, id="the limit is within"),
        pytest.param((0.4, 0.55), None, below(0.6), below(0.5), Verdict.WARN, id="wholly beyond the warning"),
        pytest.param((0.55, 0.7), None, below(0.6), below(0.5), Verdict.CANNOT_TELL, id="perhaps a warning"),
        pytest.param((0.2, 0.4), None, None, None, Verdict.CANNOT_TELL, id="no limit"),
        pytest.param((0.2, 0.4), (0.6, 0.8), None, CHANGE, Verdict.ALERT, id="fallen whatever the baseline was"),
        pytest.param((0.2, 0.6), (0.6, 0.8), None, CHANGE, Verdict.CANNOT_TELL, id="perhaps fallen"),
        pytest.param((0.75, 0.8), (0.8, 0.82), None, CHANGE, Verdict.OK, id="not fallen so far"),
        pytest.param((0.2, 0.4), None, None, CHANGE, Verdict.CANNOT_TELL, id="nothing to compare with"),
    ],
)
def test_only_a_whole_bound_beyond_or_inside_the_limit_is_a_verdict(
    bounds: tuple[float, float],
    reference: tuple[float, float] | None,
    warn: PerformanceLimit | None,
    alert: PerformanceLimit | None,
    verdict: Verdict,
) -> None:
    assert judge_bounds(bounds, reference=reference, warn=warn, alert=alert).verdict is verdict
