"""Classes predicted and true: against scikit-learn, CBPE against a plain computation, corrected against simulation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.isotonic import IsotonicRegression

from detectors.calibration import Calibrator
from detectors.class_counts import MAX_CLASSES, ClassCounter, ClassCounts, empty, from_bytes, merge, to_bytes
from detectors.corrected_classes import corrected
from detectors.expected_classes import Expected, calibrators
from detectors.multiclass import METRICS, OF_DECISIONS, matrix, per_class, performance
from detectors.profiles import ProfileError

DAY = 86400.0
EDGES = np.linspace(0.0, 20 * DAY, 41)
NAMES = ["bird", "cat", "dog"]
NONE = -1


def counted(
    labels: Sequence[int] | np.ndarray,
    predicted: Sequence[int] | np.ndarray,
    *,
    names: Sequence[str] = NAMES,
    landed: np.ndarray | None = None,
    p: np.ndarray | None = None,
) -> ClassCounts:
    counter = ClassCounter(EDGES, names if p is not None else ())
    when = np.full(len(labels), np.nan) if landed is None else landed
    told = None if p is None else {name: p[:, at] for at, name in enumerate(names)}
    counter.update(names, np.asarray(labels, int), np.asarray(predicted, int), when, told)
    return counter.counts()


def pets(rng: np.random.Generator, n: int, *, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True classes, predicted ones, and overconfident probabilities."""
    true = rng.choice(3, n, p=[0.15, 0.35, 0.5])
    logits = rng.normal(0, 1, (n, 3))
    logits[np.arange(n), true] += skill
    p = np.exp(1.7 * logits)
    p /= p.sum(axis=1, keepdims=True)
    return true, p.argmax(axis=1), p


def values(counts: ClassCounts, **more: object) -> dict[str, float | None]:
    return {name: measure.value for name, measure in performance(counts, **more).items()}  # type: ignore[arg-type]


def test_every_metric_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    true, said, p = pets(rng, 4000)
    found = values(counted(true, said, p=p))
    for how in ("macro", "weighted", "micro"):
        for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
            assert found[f"{how}_{name}"] == pytest.approx(score(true, said, average=how)), (how, name)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(true, said))
    assert found["macro_roc_auc"] == pytest.approx(sk.roc_auc_score(true, p, multi_class="ovr"))
    assert found["log_loss"] == pytest.approx(sk.log_loss(true, p))
    each = per_class(matrix(counted(true, said)))
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        assert [getattr(one, name).value for one in each] == pytest.approx(score(true, said, average=None).tolist())


PLACES = st.integers(-1, 2)


@given(st.lists(st.tuples(PLACES, PLACES), max_size=40), st.integers(0, 40))
def test_cutting_into_batches_changes_nothing(rows: list[tuple[int, int]], cut: int) -> None:
    table = np.array(rows, dtype=int).reshape(-1, 2)
    whole = counted(table[:, 0], table[:, 1])
    first, second = (counted(part[:, 0], part[:, 1]) for part in (table[:cut], table[cut:]))
    for both in (merge(first, second), merge(second, first), merge(empty(EDGES), whole)):
        assert both.classes == whole.classes
        assert np.array_equal(both.table(), whole.table())
        assert values(both) == values(whole)


def test_counts_with_probabilities_add_up_and_come_back_from_bytes() -> None:
    rng = np.random.default_rng(2)
    true, said, p = pets(rng, 900)
    landed = rng.uniform(0, 20 * DAY, 900)
    parts = [counted(true[at::3], said[at::3], landed=landed[at::3], p=p[at::3]) for at in range(3)]
    whole, merged = counted(true, said, landed=landed, p=p), reduce(merge, parts)
    for name, value in values(whole).items():
        assert values(merged)[name] == pytest.approx(value, rel=1e-12), name
    again = from_bytes(to_bytes(whole))
    assert values(again) == values(whole)
    assert np.array_equal(again.table(np.full(42, 0.5)), whole.table(np.full(42, 0.5)))
    for blob in (b"", b"CLSS", to_bytes(whole)[:40], b"SLAB" + to_bytes(whole)[4:]):
        with pytest.raises(ProfileError):
            from_bytes(blob)
    with pytest.raises(ProfileError, match="landing bins"):
        merge(whole, empty(EDGES[:3]))


def test_classes_beyond_the_bound_stand_together_and_accuracy_stays_exact() -> None:
    rng = np.random.default_rng(3)
    names = [f"c{at:03d}" for at in range(250)]
    true = np.concatenate([np.repeat(np.arange(90), 30), rng.integers(90, 250, 800)])
    said = np.where(rng.random(len(true)) < 0.8, true, rng.integers(0, 250, len(true)))
    halves = [counted(true[at::2], said[at::2], names=names) for at in (0, 1)]
    found = merge(*halves)
    assert len(found.classes) == MAX_CLASSES
    assert set(names[:90]) <= set(found.classes)
    assert values(counted(true, said, names=names))["accuracy"] == pytest.approx(np.mean(true == said))
    assert found.n == len(true)


def test_a_rare_class_is_not_named_and_counts_in_accuracy_alone() -> None:
    true, said = [0] * 40 + [1] * 40 + [2] * 3, [0] * 38 + [1] * 42 + [2] * 3
    found = matrix(counted(true, said), min_rows=10)
    assert found.names == ("bird", "cat")
    assert found.cells.sum() == 83
    told = values(counted(true, said), min_rows=10)
    assert told["accuracy"] == pytest.approx(81 / 83)
    assert told["macro_recall"] == pytest.approx((38 / 40 + 40 / 40) / 2)
    assert {one.name for one in per_class(found)} == {"bird", "cat"}


def test_averages_can_be_asked_for_over_the_classes_of_another_window() -> None:
    true, said = [0] * 40 + [1] * 40 + [2] * 3, [0] * 38 + [1] * 42 + [2] * 3
    assert values(counted(true, said), names=NAMES)["macro_recall"] == pytest.approx((38 / 40 + 1 + 1) / 3)
    absent = performance(counted(true[:80], said[:80]), names=NAMES)["macro_recall"]
    assert (absent.value, absent.reason) == (None, "no_labels_of_a_class")


OF_CLASSES = set(OF_DECISIONS)
MACRO = {f"macro_{what}" for what in ("precision", "recall", "f1")}


@pytest.mark.parametrize(
    ("labels", "predicted", "metrics", "reason"),
    [
        pytest.param([], [], METRICS, "no_predictions", id="no predictions"),
        pytest.param([NONE] * 5, [0] * 5, METRICS, "no_labels", id="no labels"),
        pytest.param([0, 1], [NONE, NONE], OF_CLASSES, "no_predicted_classes", id="nothing predicted"),
        pytest.param([0, 1, 1], [1, 1, 1], {"macro_precision"}, "no_predictions_of_a_class", id="never predicted"),
        pytest.param([0, 1, 1], [1, 1, 1], {"weighted_precision"}, "no_predictions_of_a_class", id="never, weighted"),
        pytest.param([1, 1, 1], [0, 1, 1], {"macro_recall", "macro_f1"}, "no_labels_of_a_class", id="no labels of one"),
        pytest.param([0, 1], [0, 1], {"macro_roc_auc", "log_loss"}, "no_probabilities", id="no probabilities"),
    ],
)
def test_undefined_is_undefined(labels: list[int], predicted: list[int], metrics: set[str], reason: str) -> None:
    found = performance(counted(labels, predicted), sorted(metrics))
    assert {(each.value, each.low, each.high, each.reason) for each in found.values()} == {(None, None, None, reason)}


def test_one_class_alone_has_no_area_and_too_rare_ones_no_average() -> None:
    p = np.array([[0.8, 0.1, 0.1]] * 20)
    assert performance(counted([0] * 20, [0] * 20, p=p), ["macro_roc_auc"])["macro_roc_auc"].reason == "one_class"
    rare = performance(counted([0, 1], [0, 1]), ["macro_f1"], min_rows=10)["macro_f1"]
    assert rare.reason == "no_class_with_enough_rows"
    one = per_class(matrix(counted([0, 1, 1], [1, 1, 1])))[0]
    assert (one.precision.reason, one.recall.value) == ("no_predictions_of_the_class", 0.0)
    assert one.f1.reason == "no_predictions_of_the_class"


TRIALS = 300


@pytest.mark.parametrize("prior", [[0.4, 0.3, 0.2, 0.1], [0.8, 0.1, 0.05, 0.05]], ids=["mixed", "rare classes"])
def test_intervals_hold_the_value_of_the_whole_population(prior: list[float]) -> None:
    rng = np.random.default_rng(4)
    confusion = np.full((4, 4), 0.05) + np.eye(4) * 0.8
    joint = np.array(prior)[:, None] * confusion
    truth: dict[str, float] = {}
    right, said = np.diag(joint), joint.sum(axis=0)
    precision, recall = right / said, np.diag(confusion)
    f1 = 2 * right / (said + np.array(prior))
    for name, each in (("precision", precision), ("recall", recall), ("f1", f1)):
        truth |= {f"macro_{name}": float(each.mean()), f"weighted_{name}": float(np.dot(prior, each))}
    truth["accuracy"] = float(right.sum())
    held = dict.fromkeys(truth, 0)
    for _ in range(TRIALS):
        cells = rng.multinomial(600, joint.ravel()).reshape(4, 4)
        true, said_now = (np.repeat(axis.ravel(), cells.ravel()) for axis in np.indices((4, 4)))
        for name, measure in performance(counted(true, said_now, names=list("abcd")), list(truth)).items():
            assert measure.low is not None
            assert measure.high is not None
            held[name] += measure.low <= truth[name] <= measure.high
    least = 0.93 - 2.5 * math.sqrt(0.93 * 0.07 / TRIALS)
    assert all(hits / TRIALS >= least for hits in held.values()), {k: v / TRIALS for k, v in held.items()}


# --- before labels ---------------------------------------------------------------------------------


def expected_of(said: np.ndarray, p: np.ndarray, known: Mapping[str, Calibrator]) -> Expected:
    found = Expected(known)
    for half in (slice(None, None, 2), slice(1, None, 2)):
        found.update(NAMES, said[half], {name: p[half, at] for at, name in enumerate(NAMES)})
    return found


def test_expected_performance_is_nannymls_by_a_plain_computation() -> None:
    rng = np.random.default_rng(5)
    true, said, p = pets(rng, 5000)
    now, now_said, now_p = pets(rng, 3000, skill=1.2)
    found = expected_of(now_said, now_p, calibrators(counted(true, said, p=p))).performance(list(OF_DECISIONS))
    # NannyML: an isotonic map for each class against the rest, then each row divided by its sum.
    mapped = np.column_stack([
        IsotonicRegression(out_of_bounds="clip").fit(p[:, at], true == at).predict(now_p[:, at]) for at in range(3)
    ])  # fmt: skip
    mapped /= mapped.sum(axis=1, keepdims=True)
    tp = np.array([mapped[now_said == at, at].sum() for at in range(3)])
    n_said, n_true = np.bincount(now_said, minlength=3), mapped.sum(axis=0)
    plain = {
        "accuracy": tp.sum() / len(now),
        "macro_precision": np.mean(tp / n_said),
        "macro_recall": np.mean(tp / n_true),
        "macro_f1": np.mean(2 * tp / (n_said + n_true)),
    }
    for name, value in plain.items():
        assert found[name].value == pytest.approx(value, abs=1e-9), name


def test_expected_performance_holds_the_realized_one_while_the_rule_holds() -> None:
    rng = np.random.default_rng(6)
    true, said, p = pets(rng, 30_000)
    known = calibrators(counted(true, said, p=p))
    metrics = ["accuracy", "macro_precision", "macro_recall", "macro_f1"]
    held, trials = dict.fromkeys(metrics, 0), 150
    for _ in range(trials):
        now, now_said, now_p = pets(rng, 800)
        realized = values(counted(now, now_said))
        for name, measure in expected_of(now_said, now_p, known).performance(metrics).items():
            assert measure.low is not None
            assert measure.high is not None
            held[name] += measure.low <= (realized[name] or 0.0) <= measure.high
    assert all(hits / trials >= 0.93 - 2.5 * math.sqrt(0.93 * 0.07 / trials) for hits in held.values()), held


def test_nothing_is_expected_without_probabilities() -> None:
    assert calibrators(counted([0, 1, 2], [0, 1, 2])) == {}
    rng = np.random.default_rng(7)
    true, said, p = pets(rng, 500)
    known = Expected(calibrators(counted(true, said, p=p)))
    known.update(NAMES, said, {name: np.full(500, np.nan) for name in NAMES})
    assert known.performance(["macro_f1"])["macro_f1"].reason == "no_probabilities"


# --- while labels land -----------------------------------------------------------------------------


def a_week(rng: np.random.Generator, *, skill: float = 2.0, n: int = 700) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    true, said, _ = pets(rng, n, skill=skill)
    return true, said, rng.exponential(np.array([8.0, 2.0, 1.0])[true]) * DAY  # birds are hard to tell


def test_corrected_averages_hold_where_classes_land_at_their_own_pace() -> None:
    rng = np.random.default_rng(8)
    age, trials = 2 * DAY, 40
    metrics = ["accuracy", "macro_precision", "macro_recall", "weighted_f1"]
    held, off, naive = (dict.fromkeys(metrics, 0.0) for _ in range(3))
    past = []
    for _ in range(25):
        true, said, landed = a_week(rng)
        past.append(counted(true, said, landed=landed))
    for _ in range(trials):
        true, said, landed = a_week(rng, skill=1.0)  # a fall that the past has not seen
        eventual = values(counted(true, said))
        so_far = counted(np.where(landed <= age, true, NONE), said, landed=landed)
        for name, measure in corrected(so_far, past, age=age, metrics=metrics).items():
            assert measure.value is not None
            assert measure.low is not None
            assert measure.high is not None
            held[name] += measure.low <= (eventual[name] or 0.0) <= measure.high
            off[name] += abs(measure.value - (eventual[name] or 0.0)) / trials
            naive[name] += abs((values(so_far)[name] or 0.0) - (eventual[name] or 0.0)) / trials
    assert all(hits / trials >= 0.85 for hits in held.values()), held
    assert off["macro_precision"] < 0.5 * naive["macro_precision"]
    assert off["weighted_f1"] < 0.7 * naive["weighted_f1"]


def test_the_corrected_log_loss_holds_where_hard_classes_land_last() -> None:
    rng = np.random.default_rng(12)
    age, trials, held, off, naive = 2 * DAY, 40, 0, 0.0, 0.0

    def window(*, known_by: float = math.inf) -> tuple[ClassCounts, ClassCounts]:
        true, said, p = pets(rng, 500)
        landed = rng.exponential(np.array([8.0, 2.0, 1.0])[true]) * DAY + 3 * DAY * (said != true)
        return counted(np.where(landed <= known_by, true, NONE), said, landed=landed, p=p), counted(true, said, p=p)

    past = [window()[0] for _ in range(25)]
    for _ in range(trials):
        so_far, whole = window(known_by=age)
        eventual = values(whole, metrics=["log_loss"])["log_loss"] or 0.0
        found = corrected(so_far, past, age=age, metrics=["log_loss"])["log_loss"]
        assert found.value is not None
        held += (found.low or 0.0) <= eventual <= (found.high or 0.0)
        off += abs(found.value - eventual) / trials
        naive += abs((values(so_far, metrics=["log_loss"])["log_loss"] or 0.0) - eventual) / trials
    assert held >= 34, "38 expected of 40"
    assert off < 0.5 * naive
    merged = merge(past[0], past[1])
    again = from_bytes(to_bytes(merged))
    assert again.loss_by_age is not None
    assert again.loss_by_age.sum(axis=0) == pytest.approx(merged.loss[:2])
    assert from_bytes(to_bytes(empty(EDGES))).loss_by_age is None


def test_what_cannot_be_corrected_says_why() -> None:
    rng = np.random.default_rng(9)
    past = [counted(t, s, landed=d) for t, s, d in (a_week(rng) for _ in range(10))]
    true, said, landed = a_week(rng)

    def reason(past: list[ClassCounts], age: float, labels: np.ndarray) -> str | None:
        now = counted(labels, said, landed=landed)
        return corrected(now, past, age=age, metrics=["accuracy", "log_loss"])["accuracy"].reason

    some = np.where(landed <= DAY, true, NONE)
    assert reason(past, DAY, some) is None
    assert reason(past[:4], DAY, some) == "no_delay_law"
    assert reason([counted(t, s) for t, s, _ in (a_week(rng) for _ in range(10))], DAY, some) == "no_delay_law"
    assert reason(past, DAY, np.full(len(true), NONE)) == "no_labels"
    slow = [counted(t, s, landed=np.where(t == 0, 19 * DAY, d)) for t, s, d in (a_week(rng) for _ in range(10))]
    assert reason(slow, DAY, some) == "not_identifiable"
