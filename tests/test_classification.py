"""Performance from counts: scikit-learn on the same rows, promises of merging, and named reasons for no answer."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from detectors import score_labels
from detectors.classification import (
    METRICS,
    Confusion,
    ScoreLabelCounter,
    ScoreLabels,
    empty,
    from_bytes,
    merge,
    merge_all,
    performance,
    reliability_curve,
    threshold_table,
    to_bytes,
)
from detectors.profiles import ProfileError


def count(scores: object, decisions: object = None, labels: object = None) -> ScoreLabels:
    counter = ScoreLabelCounter()
    counter.update(scores, decisions, labels)  # type: ignore[arg-type]
    return counter.counts()


def same(a: ScoreLabels, b: ScoreLabels) -> bool:
    return to_bytes(a) == to_bytes(b)


def sample(n: int, seed: int, digits: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = np.round(rng.beta(1, 3, n), digits)
    return scores, scores >= 0.4, rng.random(n) < scores


@pytest.mark.parametrize(("n", "seed", "digits"), [(50, 0, 1), (500, 1, 2), (5000, 2, 15), (20_000, 3, 3)])
def test_every_metric_is_that_of_scikit_learn(n: int, seed: int, digits: int) -> None:
    scores, decisions, labels = sample(n, seed, digits)
    found = performance(count(scores, decisions, labels), beta=2.0)
    expected = {
        "precision": sk.precision_score(labels, decisions),
        "recall": sk.recall_score(labels, decisions),
        "specificity": sk.recall_score(~labels, ~decisions),
        "f1": sk.f1_score(labels, decisions),
        "fbeta": sk.fbeta_score(labels, decisions, beta=2.0),
        "accuracy": sk.accuracy_score(labels, decisions),
        "roc_auc": sk.roc_auc_score(labels, scores),
        "pr_auc": sk.average_precision_score(labels, scores),
        "brier": sk.brier_score_loss(labels, scores),
        "log_loss": sk.log_loss(labels, scores),
        "positive_rate": decisions.mean(),
        "prevalence": labels.mean(),
    }
    for name, value in expected.items():
        measure = found[name]
        assert measure.value == pytest.approx(value, abs=1e-12), name
        assert measure.low is not None
        assert measure.high is not None
        assert measure.low <= measure.value <= measure.high, name


def test_the_reliability_curve_is_that_of_scikit_learn() -> None:
    scores, _, labels = sample(3000, 4)
    observed, predicted = calibration_curve(labels, scores, n_bins=10)
    curve = reliability_curve(count(scores, None, labels))
    assert curve.observed == pytest.approx(observed, abs=1e-12)
    assert curve.predicted == pytest.approx(predicted, abs=1e-12)
    weight = curve.n / curve.n.sum()
    expected = float(np.sum(weight * np.abs(observed - predicted)))
    assert performance(count(scores, None, labels))["ece"].value == pytest.approx(expected, abs=1e-12)


def test_equal_mass_bins_hold_about_the_same_number() -> None:
    scores, _, labels = sample(5000, 4, digits=15)
    curve = reliability_curve(count(scores, None, labels), 8, equal_mass=True)
    assert curve.n.sum() == 5000
    assert abs(curve.n - 625).max() <= 2


def test_the_confusion_is_of_the_decisions_taken_not_of_a_threshold() -> None:
    counts = count([0.9, 0.9, 0.1, 0.1], [0, 1, 1, 0], [1, 1, 0, 0])
    assert counts.confusion() == Confusion(tp=1, fp=1, fn=1, tn=1)
    assert counts.confusion(0.5) == Confusion(tp=2, fp=0, fn=0, tn=2)


def test_rows_without_a_label_a_decision_or_a_score_are_counted_where_they_say_something() -> None:
    nan = math.nan
    counts = count([0.9, 0.8, nan, nan, 0.2], [1, nan, 1, 0, 0], [1, 1, 0, nan, nan])
    assert (counts.n, counts.n_labelled, counts.n_decided) == (5, 3, 4)
    assert counts.label_coverage == 0.6
    assert counts.confusion() == Confusion(tp=1, fp=1, fn=0, tn=0)
    found = performance(counts)
    assert found["positive_rate"].value == 0.5
    assert found["roc_auc"].reason == "one_class"  # the only negative has no score


def row(reason: str, metrics: str, scores: list[float], decisions: object, labels: object) -> object:
    names = metrics.split()
    return pytest.param(scores, decisions, labels, names, reason, id=f"{reason}-{names[0]}")


@pytest.mark.parametrize(
    ("scores", "decisions", "labels", "metrics", "reason"),
    [
        row("no_predictions", " ".join(METRICS), [], [], []),
        row("no_labels", "precision recall f1 accuracy roc_auc pr_auc brier ece", [0.1, 0.9], [0, 1], None),
        row("no_positives", "recall f1 pr_auc", [0.1, 0.9], [0, 1], [0, 0]),
        row("no_negatives", "specificity", [0.1, 0.9], [0, 1], [1, 1]),
        row("one_class", "roc_auc", [0.1, 0.9], [0, 1], [0, 0]),
        row("one_class", "roc_auc", [0.1, 0.9], [0, 1], [1, 1]),
        row("no_predicted_positives", "precision f1 fbeta", [0.1, 0.9], [0, 0], [0, 1]),
        row("no_decisions", "precision recall accuracy positive_rate", [0.1, 0.9], None, [0, 1]),
        row("no_scores", "roc_auc pr_auc brier log_loss ece", [math.nan, math.nan], [0, 1], [0, 1]),
        row("scores_not_probabilities", "brier log_loss ece", [-3.0, 700.0], [0, 1], [0, 1]),
    ],
)
def test_undefined_is_a_named_reason(
    scores: list[float], decisions: object, labels: object, metrics: list[str], reason: str
) -> None:
    found = performance(count(scores, decisions, labels))
    for name in metrics:
        measure = found[name]
        assert (measure.value, measure.low, measure.high, measure.reason) == (None, None, None, reason), name


def test_when_all_labelled_scores_are_equal_there_is_no_order() -> None:
    found = performance(count([0.5] * 20 + [0.7], None, [0, 1] * 10 + [None]))
    assert {name: found[name].reason for name in ("roc_auc", "pr_auc", "brier")} == {
        "roc_auc": "constant_scores",
        "pr_auc": "constant_scores",
        "brier": None,
    }


def test_infinite_scores_rank_but_are_no_probabilities() -> None:
    found = performance(count([-math.inf, 0.3, math.inf], None, [0, 0, 1]))
    assert found["roc_auc"].value == 1.0
    assert found["brier"].reason == "scores_not_probabilities"


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(ValueError, match="presision"):
        performance(empty(), ["presision"])


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="labels of shape"):
        count([0.1, 0.2], None, [1])


rows = st.lists(
    st.tuples(
        st.sampled_from([-1.0, -0.0, 0.0, 0.25, 0.5, 1.0, math.nan, math.inf]),
        st.sampled_from([0.0, 1.0, math.nan]),
        st.sampled_from([0.0, 1.0, math.nan]),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(rows, st.randoms(use_true_random=False), st.integers(1, 7))
def test_order_and_batches_change_nothing(data: list[tuple[float, float, float]], shuffle: object, size: int) -> None:
    whole = count(*zip(*data, strict=True)) if data else empty()
    mixed = list(data)
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    counter = ScoreLabelCounter(buffer_rows=3)
    for batch in _batched(mixed, size):
        counter.update(*zip(*batch, strict=True))
    assert same(counter.counts(), whole)


def _batched(items: list[tuple[float, float, float]], size: int) -> list[list[tuple[float, float, float]]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


@settings(max_examples=40, deadline=None)
@given(rows, rows, rows)
def test_merging_is_associative_and_commutative(a: list, b: list, c: list) -> None:
    x, y, z = (count(*zip(*part, strict=True)) if part else empty() for part in (a, b, c))
    assert same(merge(merge(x, y), z), merge(x, merge(y, z)))
    assert same(merge(x, y), merge(y, x))
    assert same(merge(x, empty()), x)


@settings(max_examples=40, deadline=None)
@given(rows)
def test_packing_loses_nothing(data: list[tuple[float, float, float]]) -> None:
    counts = count(*zip(*data, strict=True)) if data else empty()
    back = from_bytes(to_bytes(counts))
    assert same(back, counts)
    assert performance(back) == performance(counts)


@pytest.mark.parametrize("blob", [b"", b"hello", b"SLAB" + bytes(40)])
def test_damaged_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(ProfileError):
        from_bytes(blob)


def test_truncated_bytes_are_refused() -> None:
    with pytest.raises(ProfileError, match="not score"):
        from_bytes(to_bytes(count([0.1, 0.2], None, [0, 1]))[:-4])


def test_too_many_scores_are_rounded_alike_however_they_were_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_labels._bounded, "__defaults__", (64,))
    rng = np.random.default_rng(0)
    parts = []
    for size in (300, 20, 900, 5):
        scores = rng.normal(0, 1, size)
        parts.append(count(scores, scores > 0.3, rng.random(size) < 0.3))
    orders = [merge_all(order) for order in itertools.permutations(parts)]
    assert all(same(one, orders[0]) for one in orders)
    assert len(orders[0].scores) <= 64
    assert not orders[0].exact
    pairwise = merge(merge(parts[0], parts[1]), merge(parts[2], parts[3]))
    assert same(pairwise, orders[0])


def test_rounded_probabilities_remain_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_labels._bounded, "__defaults__", (100,))
    scores, decisions, labels = sample(3000, 9, digits=15)
    scores[:3], labels[:3] = [0.0, 1.0, 1.0], [False, True, True]
    exact = performance(count(scores, decisions, labels))["brier"].value
    assert exact is not None
    assert exact == pytest.approx(sk.brier_score_loss(labels, scores), abs=1e-3)


def test_coarsening_keeps_the_confusion_and_nearly_the_rest() -> None:
    scores, decisions, labels = sample(20_000, 7, digits=15)
    fine = count(scores, decisions, labels)
    coarse = fine.coarsen(500)
    assert len(coarse.scores) <= 500
    assert not coarse.exact
    assert coarse.n == fine.n
    assert coarse.confusion() == fine.confusion()
    before, after = performance(fine), performance(coarse)
    for name in ("roc_auc", "brier", "log_loss"):
        assert after[name].value == pytest.approx(before[name].value, abs=1e-3), name
    assert len(to_bytes(coarse)) < 20_000
    assert fine.coarsen(20_000) is fine


def test_a_threshold_table_says_what_each_rule_would_have_given() -> None:
    scores, decisions, labels = sample(2000, 8)
    for line in threshold_table(count(scores, decisions, labels), [0.0, 0.4, 0.6, 2.0]):
        rule = scores >= line.threshold
        assert line.positive_rate.value == pytest.approx(rule.mean())
        assert line.confusion.tp == int((rule & labels).sum())
        if rule.any():
            assert line.precision.value == pytest.approx(sk.precision_score(labels, rule))
            assert line.f1.value == pytest.approx(sk.f1_score(labels, rule))
        else:
            assert line.precision.reason == "no_predicted_positives"


def test_the_interval_of_the_area_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    truth, held = 0.7602499389065233, 0  # Φ(1 / √2)
    for _ in range(400):
        scores = np.concatenate([rng.normal(1, 1, 30), rng.normal(0, 1, 120)])
        measure = performance(count(scores, None, np.arange(150) < 30), ["roc_auc"], level=0.9)["roc_auc"]
        assert measure.low is not None
        assert measure.high is not None
        held += measure.low <= truth <= measure.high
    assert 0.86 <= held / 400 <= 0.94
