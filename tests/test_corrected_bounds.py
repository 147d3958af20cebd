"""Metrics of the score while labels land, where some can never be labelled: bounds that hold, and a reason where not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_corrected_scores import by_decision, counts_of

from benchmarks.delay import EDGES, NOW, by_class
from detectors.bounds import NEVER, corrected_scores_with_never_labelled, corrected_value_bounds, with_never_labelled
from detectors.classification import Measure, performance
from detectors.corrected import fit
from detectors.corrected_scores import Expected, expect, score_measures
from detectors.delay import DelayLaw, learn
from detectors.delay_counts import count_delays
from detectors.posterior import Fit, Landed
from detectors.score_labels import ScoreLabels

METRICS = ("roc_auc", "brier", "log_loss", "ece")
CUT, AGE, DAY = 0.6, 10.0, 86400.0
"""Scores from the cut on are refused: such a loan shows no default."""


def told_of(counts: ScoreLabels, found: Fit, never: ScoreLabels) -> tuple[dict[str, Measure], dict[str, Measure]]:
    table = expect(counts, found, by_decision(counts))
    plain = score_measures(table, counts, metrics=(*METRICS, "pr_auc"))
    return plain, corrected_scores_with_never_labelled(plain, table, never)


def log(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, which are the probability of a positive, labels, and when these land: positives first."""
    scores = rng.beta(2, 3, n)
    labels = (rng.random(n) < scores).astype(np.int64)
    return scores, labels, by_class(rng, scores, labels, np.full(n, NOW), 1.0)


@pytest.fixture(scope="module")
def law() -> DelayLaw:
    rng = np.random.default_rng(1)
    scores, labels, delay = log(rng, 100_000)
    kept = scores < CUT
    strata = (scores >= 0.3)[kept].astype(np.int64)
    age = np.full(int(kept.sum()), 500 * DAY)
    found = learn(
        count_delays(delay[kept] * DAY, labels[kept].astype(float), age, edges=EDGES, strata=strata, n_strata=2)
    )
    return replace(found, never=(0.0, 0.0))


def as_of(scores: np.ndarray, labels: np.ndarray, delay: np.ndarray, law: DelayLaw) -> tuple[ScoreLabels, Fit]:
    inside = delay <= AGE
    strata = (scores >= 0.3).astype(np.int64)
    seen = np.zeros((1, 2, 2), np.int64)
    np.add.at(seen, (0, strata[inside], labels[inside]), 1)
    part = Landed(np.array([AGE * DAY]), np.bincount(strata, minlength=2)[None], seen, np.array([0, 1]))
    found = fit(part, law)
    assert isinstance(found, Fit)
    return counts_of(list(scores), list(np.where(inside, labels, np.nan)), cut=0.3), found


def test_bounds_hold_what_all_labels_would_have_said_whatever_those_of_the_refused_are(law: DelayLaw) -> None:
    rng = np.random.default_rng(7)
    held = {name: [0, 0] for name in METRICS}
    trials = 40
    for _ in range(trials):
        scores, labels, delay = log(rng, 1500)
        kept = scores < CUT
        never = counts_of(list(scores[~kept]), [np.nan] * int((~kept).sum()), cut=0.3)
        counts, found = as_of(scores[kept], labels[kept], delay[kept], law)
        _, told = told_of(counts, found, never)
        assert told["pr_auc"].bounds is None
        landed = counts_of(list(scores[kept]), list(labels[kept].astype(float)), cut=0.3)
        eventual = with_never_labelled(performance(landed, METRICS), landed, never)
        truth = performance(counts_of(list(scores), list(labels.astype(float)), cut=0.3), METRICS)
        for name in METRICS:
            mine, later, value = told[name], eventual[name].bounds, truth[name].value
            assert mine.reason == NEVER
            assert mine.bounds is not None
            assert mine.chance is not None
            assert later is not None
            assert value is not None
            assert mine.chance[0] <= mine.bounds[0] <= mine.bounds[1] <= mine.chance[1]
            held[name][0] += mine.chance[0] <= later[0] and later[1] <= mine.chance[1]
            held[name][1] += mine.chance[0] <= value <= mine.chance[1]
            # No wider than chance asks for: five points for 1,500 predictions.
            assert mine.chance[1] - mine.chance[0] <= later[1] - later[0] + 0.15, name
    for name, (ends, values) in held.items():
        assert ends >= 0.9 * trials, (name, held)
        assert values == trials, name


@pytest.mark.parametrize("name", METRICS)
def test_once_all_labels_are_in_the_bounds_are_the_realized_ones(name: str) -> None:
    rng = np.random.default_rng(3)
    scores, labels, _ = log(rng, 800)
    kept = scores < CUT
    counts = counts_of(list(scores[kept]), list(labels[kept].astype(float)))
    never = counts_of(list(scores[~kept]), [np.nan] * int((~kept).sum()))
    shares = np.array([labels[scores < 0.5].mean(), labels[(scores >= 0.5) & kept].mean()])
    known = Fit(shares, np.zeros((2, 2)), counts.decisions()[:2].astype(float), np.array([0, 1]), counts.n, (0.0, 0.0))
    found = told_of(counts, known, never)[1][name]
    realized = with_never_labelled(performance(counts, [name]), counts, never)[name]
    assert found.bounds == pytest.approx(realized.bounds, abs=1e-6)
    assert realized.chance is not None
    assert found.chance == pytest.approx(realized.chance, abs=0.02), "the same sampling error is on top"


def test_the_corrected_worth_lies_between_the_worst_and_the_best_that_refused_loans_could_be() -> None:
    never = counts_of([0.2, 0.3, 0.9], [np.nan] * 3)
    worth = {"tp": 5.0, "fp": -1.0, "fn": -20.0, "tn": 1.0}
    mine = Measure(2.0, 1.9, 2.1, 7, rate=(1.5, 2.5))
    found = corrected_value_bounds(mine, never, worth)
    assert found.bounds == pytest.approx(((7 * 2 - 2 * 20 - 1) / 10, (7 * 2 + 2 * 1 + 5) / 10))
    assert found.chance == pytest.approx((found.bounds[0] - 0.35, found.bounds[1] + 0.35))
    assert corrected_value_bounds(mine, counts_of([], []), worth) == mine
    unknown = Measure(None, reason="no_delay_law")
    assert corrected_value_bounds(unknown, never, worth) == unknown


def test_what_is_not_known_stays_so() -> None:
    counts = counts_of([0.2, 0.7, 0.9, 0.4], [0, 0, np.nan, np.nan])
    found = Fit(
        np.full(2, 0.3), np.eye(2) * 0.01, counts.decisions()[:2].astype(float), np.array([0, 1]), 4, (0.0, 0.0)
    )
    never = counts_of([0.5, 0.8], [np.nan, np.nan])
    _, told = told_of(counts, found, never)
    assert told["roc_auc"].reason == "one_class", "no positive has been seen"
    plain = {"brier": Measure(None, reason="not_identifiable")}
    assert corrected_scores_with_never_labelled(plain, "not_identifiable", never) == plain
    table = expect(counts, found, by_decision(counts))
    assert isinstance(table, Expected)
    beyond = counts_of([1.5, 0.8], [np.nan, np.nan])
    told = corrected_scores_with_never_labelled(score_measures(table, counts, metrics=METRICS), table, beyond)
    assert told["brier"].reason == "scores_not_probabilities"
    nobody = counts_of([], [])
    plain = score_measures(table, counts, metrics=METRICS)
    assert corrected_scores_with_never_labelled(plain, table, nobody) == plain
