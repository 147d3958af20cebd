"""Late labels: the law is learned from young and old predictions alike, and corrects or refuses."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest

from detectors.corrected import corrected
from detectors.delay import learn
from detectors.delay_counts import DelayCounts, count_delays, from_bytes, known_by, merge, to_bytes
from detectors.posterior import Landed
from detectors.profiles import ProfileError

DAY = 86400.0
EDGES = np.arange(0.0, 121.0) * DAY
DECISIONS = np.array([0, 1])


def simulate(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decisions, labels and delays: positives are confirmed after Exp(12 d), negatives at 30 d + Exp(10 d)."""
    scores = rng.beta(1, 9, n)
    labels = rng.random(n) < scores
    delays = np.where(labels, rng.exponential(12, n), 30 + rng.exponential(10, n)) * DAY
    return scores >= 0.3, labels, delays


def seen_counts(rng: np.random.Generator, n: int) -> DelayCounts:
    decisions, labels, delays = simulate(rng, n)
    ages = rng.uniform(0, 120, n) * DAY
    landed = delays <= ages
    known, seen = np.where(landed, delays, np.nan), np.where(landed, labels, np.nan)
    return count_delays(known, seen, ages, edges=EDGES, strata=decisions.astype(int), n_strata=2)


def window(decisions: np.ndarray, labels: np.ndarray, delays: np.ndarray, age: float) -> Landed:
    landed = delays <= age
    counts = np.zeros((1, 2, 2), dtype=np.int64)
    np.add.at(counts, (0, decisions[landed].astype(int), labels[landed].astype(int)), 1)
    return Landed(np.array([age]), np.array([[(~decisions).sum(), decisions.sum()]]), counts, DECISIONS)


def test_the_law_is_right_although_young_predictions_show_only_short_delays() -> None:
    law = learn(seen_counts(np.random.default_rng(1), 60_000))
    for days in (5, 10, 20, 40, 60):
        share, log_variance = law.completeness(days * DAY, 1)
        truth = 1 - math.exp(-days / 12)
        assert abs(math.log(share / truth)) < 4 * math.sqrt(log_variance) + 1e-3, days
        late = 1 - math.exp(-max(days - 30, 0) / 10)
        assert law.completeness(days * DAY, 0).share == pytest.approx(late, abs=0.02)


def test_the_law_of_full_observation_is_the_share_that_landed() -> None:
    delays = np.array([0.5, 1.5, 1.5, 2.5]) * DAY
    counts = count_delays(delays, np.ones(4), np.full(4, 10 * DAY), edges=np.arange(4.0) * DAY)
    assert learn(counts).share[0, 1].tolist() == [0.0, 0.25, 0.75, 1.0]


def test_counts_of_two_groups_add_up() -> None:
    rng = np.random.default_rng(3)
    _, labels, delays = simulate(rng, 1000)
    ages = rng.uniform(0, 120, 1000) * DAY
    known = np.where(delays <= ages, delays, np.nan)
    whole = count_delays(known, labels, ages, edges=EDGES)
    parts = [
        count_delays(known[half], labels[half], ages[half], edges=EDGES) for half in (slice(400), slice(400, None))
    ]
    total = merge(*parts)
    assert np.array_equal(total.landed, whole.landed)
    assert np.array_equal(total.at_risk, whole.at_risk)


def test_counts_come_back_from_bytes() -> None:
    counts = seen_counts(np.random.default_rng(4), 3000)
    back = from_bytes(to_bytes(counts))
    for name in ("edges", "landed", "at_risk", "predictions", "ripe", "ripe_labelled"):
        assert np.array_equal(getattr(back, name), getattr(counts, name)), name
    with pytest.raises(ProfileError, match="label delays"):
        from_bytes(to_bytes(counts)[:-3])


def test_what_was_known_at_an_age_is_what_was_counted_then() -> None:
    rng = np.random.default_rng(6)
    delays, labels = rng.exponential(10, 500) * DAY, rng.integers(0, 2, 500).astype(float)

    def at(days: float) -> DelayCounts:
        ages = np.full(500, days * DAY)
        landed = delays <= ages
        known, seen = np.where(landed, delays, np.nan), np.where(landed, labels, np.nan)
        return count_delays(known, seen, ages, edges=EDGES, mature=40 * DAY)

    for days in (10.0, 50.0):
        then = known_by(at(60.0), days * DAY)
        for name in ("landed", "at_risk", "ripe"):
            assert np.array_equal(getattr(then, name), getattr(at(days), name)), (name, days)


def weekly(rng: np.random.Generator, day: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and delays of one day where labels are delivered on every seventh day."""
    labels = (rng.random(n) < 0.2).astype(float)
    return labels, (np.ceil((day + rng.exponential(6, n)) / 7) * 7 - day) * DAY


def test_where_labels_come_once_a_week_a_weekday_has_a_law_of_its_own() -> None:
    rng = np.random.default_rng(7)
    windows = []
    for day in range(70):
        labels, delays = weekly(rng, day, 800)
        windows.append(count_delays(delays, labels, np.full(800, 119 * DAY), edges=EDGES))
    everyone = reduce(merge, windows)
    for target in (70, 73):
        _, delays = weekly(rng, target, 100_000)
        law = learn(everyone, windows=windows, times=list(range(70)), target=target)
        for age in (5, 9, 15):
            truth = float((delays <= age * DAY).mean())
            assert law.completeness(age * DAY, 0).share == pytest.approx(truth, abs=0.03), (target, age)


def test_counts_over_other_ages_do_not_add_up() -> None:
    one = count_delays([], [], [], edges=EDGES)
    with pytest.raises(ProfileError, match="age bins"):
        merge(one, count_delays([], [], [], edges=EDGES[:-1]))


def test_a_label_from_the_future_does_not_exist_yet() -> None:
    counts = count_delays([5 * DAY], [1], [3 * DAY], edges=EDGES)
    assert counts.landed.sum() == 0


@pytest.mark.parametrize("days", [10, 20, 29])
def test_a_class_that_could_not_have_landed_has_no_answer(days: int) -> None:
    rng = np.random.default_rng(0)
    law = learn(seen_counts(rng, 20_000))
    found = corrected(window(*simulate(rng, 5000), days * DAY), law)
    assert {(measure.value, measure.reason) for measure in found.values()} == {(None, "not_identifiable")}


def test_a_class_that_was_never_seen_has_no_answer() -> None:
    law = learn(count_delays([DAY], [1], [100 * DAY], edges=EDGES, strata=[0], n_strata=2))
    rng = np.random.default_rng(0)
    assert corrected(window(*simulate(rng, 500), 90 * DAY), law)["recall"].reason == "no_delay_law"


@pytest.mark.parametrize("days", [35, 40, 50])
def test_the_corrected_value_beats_labelled_only_and_its_interval_holds(days: int) -> None:
    rng = np.random.default_rng(days)
    held = {"precision": 0, "recall": 0}
    errors, naive_errors, repeats = [], [], 200
    for repeat in range(repeats):
        if repeat % 10 == 0:
            law = learn(seen_counts(rng, 60_000))
        decisions, labels, delays = simulate(rng, 4000)
        landed = delays <= days * DAY
        found = corrected(window(decisions, labels, delays, days * DAY), law, level=0.9)
        truth = {"precision": labels[decisions].mean(), "recall": decisions[labels].mean()}
        for name, measure in found.items():
            assert measure.value is not None
            assert measure.low is not None
            assert measure.high is not None
            held[name] += measure.low <= truth[name] <= measure.high
        errors.append(abs((found["precision"].value or 0) - truth["precision"]))
        naive_errors.append(abs(labels[decisions & landed].mean() - truth["precision"]))
    assert all(times >= 0.86 * repeats for times in held.values()), held
    assert np.mean(errors) <= 0.5 * np.mean(naive_errors)


def test_when_all_labels_are_in_the_answer_is_theirs() -> None:
    rng = np.random.default_rng(0)
    law = learn(seen_counts(rng, 20_000))
    decisions, labels, _ = simulate(rng, 2000)
    found = corrected(window(decisions, labels, np.zeros(2000), 118 * DAY), law)
    assert found["precision"].value == found["precision"].low == labels[decisions].mean()
    assert found["recall"].value == pytest.approx(decisions[labels].mean(), abs=1e-12)


def test_no_predictions_and_no_positive_decisions_are_named() -> None:
    rng = np.random.default_rng(0)
    law = learn(seen_counts(rng, 20_000))
    nothing = Landed(np.array([60 * DAY]), np.zeros((1, 2), np.int64), np.zeros((1, 2, 2), np.int64), DECISIONS)
    assert corrected(nothing, law)["precision"].reason == "no_predictions"
    _, labels, delays = simulate(rng, 1000)
    found = corrected(window(np.zeros(1000, bool), labels, delays, 60 * DAY), law)
    assert found["precision"].reason == "no_predicted_positives"
    assert found["recall"].value == 0.0
