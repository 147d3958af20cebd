"""What is counted fast is what is counted plainly: label delays by bins, and scores by label and decision."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import delay_counts, score_labels
from detectors.delay_counts import age_edges, count_delays, places
from detectors.score_labels import ScoreLabelCounter, table_of

CLOSE = np.nextafter(0.3, 1)
SCORES = st.one_of(st.floats(allow_nan=True, width=64), st.sampled_from([0.0, -0.0, 0.3, CLOSE, 1.0, -1.0, np.inf]))
LIKELY = st.one_of(st.floats(0, 2, width=64), st.sampled_from([0.0, 0.3, CLOSE, 1.0, 2.0**-255, np.nextafter(2.0, 0)]))
"""Scores between 0 and 2, which are sorted together with their labels."""
STATES = st.sampled_from([0.0, 1.0, np.nan])


@settings(deadline=None)
@given(
    edges=st.lists(st.floats(0, 1e9), min_size=1, max_size=40).map(sorted),
    values=st.lists(st.floats(0, allow_infinity=True), max_size=60),
)
def test_a_value_is_placed_where_a_search_places_it(edges: list[float], values: list[float]) -> None:
    bounds = np.array(edges)
    near = [np.nextafter(bounds, to) for to in (0.0, np.inf)]
    asked = np.concatenate([np.array(values, dtype=np.float64), bounds, *near])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(delay_counts, "_WORTH", 0)
        for side in ("left", "right"):
            assert np.array_equal(places(bounds, asked, side=side), np.searchsorted(bounds, asked, side=side))  # type: ignore[arg-type]


def test_ages_in_quadratic_bins_are_placed_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = age_edges(61 * 86400.0)[1:]
    values = np.concatenate([np.random.default_rng(5).exponential(86400.0, 10_000), edges])
    expected = np.searchsorted(edges, values)
    monkeypatch.setattr(delay_counts.np, "searchsorted", None)
    assert np.array_equal(places(edges, values, side="left"), expected)


@pytest.mark.parametrize("spread", [0.0, 0.4, 40.0], ids=["one age", "a few ages", "many ages"])
@pytest.mark.parametrize("n", [40, 9000])
def test_delays_are_counted_as_one_by_one(n: int, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each label that is in a bin that is over for its prediction: there, and at risk from there to the last such bin."""
    monkeypatch.setattr(delay_counts, "_AT_ONCE", 2000)
    rng = np.random.default_rng([n, int(spread)])
    edges = age_edges(30.0, 20)
    ages = rng.choice([3.0, 28.0]) + spread * rng.random(n)
    delays = np.where(rng.random(n) < 0.2, rng.choice(edges, n), rng.exponential(9.0, n) - 0.5)
    labels = rng.choice([0.0, 1.0, np.nan], n)
    delays[np.isnan(labels) | (rng.random(n) < 0.1)] = np.nan
    strata = rng.integers(0, 3, n)
    landed, at_risk = np.zeros((2, 3, 2, 20), np.int64)
    for age, delay, label, stratum in zip(ages, delays, labels, strata, strict=True):
        if np.isnan(label) or np.isnan(delay) or delay > min(age, 30.0):
            continue
        place, over = int((edges[1:] < delay).sum()), int((edges[1:] <= age).sum())
        if place < over:
            landed[stratum, int(label), place] += 1
            at_risk[stratum, int(label), place:over] += 1
    found = count_delays(delays, labels, ages, edges=edges, strata=strata, n_strata=3, mature=20.0)
    assert np.array_equal(found.landed, landed)
    assert np.array_equal(found.at_risk, at_risk)
    ripe = ages >= 20.0
    assert found.predictions.tolist() == np.bincount(strata, minlength=3).tolist()
    assert found.ripe.tolist() == np.bincount(strata[ripe], minlength=3).tolist()
    assert found.ripe_labelled.tolist() == np.bincount(strata[ripe & ~np.isnan(labels)], minlength=3).tolist()


@settings(deadline=None)
@given(rows=st.one_of(st.lists(st.tuples(scores, STATES, STATES), max_size=50) for scores in (SCORES, LIKELY)))
def test_scores_are_counted_by_label_and_decision(rows: list[tuple[float, float, float]]) -> None:
    frame = pd.DataFrame(rows, columns=["score", "label", "decision"], dtype=np.float64)
    counter = ScoreLabelCounter(buffer_rows=20)
    counter.update(frame.score[:7], frame.decision[:7], frame.label[:7])
    counter.update(frame.score[7:], frame.decision[7:], frame.label[7:])
    counts = counter.counts()
    frame["code"] = 3 * frame.label.fillna(2) + frame.decision.fillna(2)
    scored = frame[frame.score.notna()].assign(score=lambda each: each.score + 0.0)
    expected = scored.groupby(["score", "code"]).size().unstack(fill_value=0).reindex(columns=range(9), fill_value=0)
    assert counts.scores.tolist() == expected.index.tolist()
    assert table_of(counts).tolist() == expected.to_numpy().tolist()
    absent = frame[frame.score.isna()].code.value_counts().reindex(range(9), fill_value=0)
    assert counts.no_score.ravel().tolist() == absent.tolist()


def test_scores_that_differ_in_their_last_bit_only_are_two() -> None:
    rng = np.random.default_rng(2)
    score = rng.choice([0.3, CLOSE, 0.5, -0.2], 1000)
    label, decision = rng.integers(0, 2, (2, 1000)).astype(float)
    fresh = np.diff(np.sort(score)) > 0
    assert score_labels._codes_in_order(score, np.zeros(1000, np.int8), fresh, rising=False) is None
    counts = score_labels.empty()
    for part in (slice(0, 400), slice(400, 1000)):
        counter = ScoreLabelCounter()
        counter.update(score[part], decision[part], label[part])
        counts = score_labels.merge(counts, counter.counts())
    for at, value in enumerate([-0.2, 0.3, CLOSE, 0.5]):
        for state in (0, 1):
            of_label = counts.positives if state else counts.negatives
            expected = [int(((score == value) & (label == state) & (decision == d)).sum()) for d in (0, 1)]
            assert of_label[at].tolist() == [*expected, 0]
