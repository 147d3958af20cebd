"""How far off predicted numbers were: the sums of windows against scikit-learn, intervals against simulation."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from detectors.development import landed_by, landing_bins
from detectors.profiles import ProfileError
from detectors.regression import (
    CORRECTABLE,
    METRICS,
    Errors,
    corrected,
    count,
    empty,
    from_bytes,
    merge,
    merge_all,
    performance,
    to_bytes,
)

EDGES = np.linspace(0.0, 10 * 86400.0, 21)
FINITE = st.floats(-1e4, 1e4, allow_subnormal=False)


def counted(predicted: object, labels: object, landed: object = None) -> Errors:
    return count(predicted, labels, landed, edges=EDGES)  # type: ignore[arg-type]


def values(counts: Errors) -> dict[str, float | None]:
    return {name: measure.value for name, measure in performance(counts).items()}


@pytest.mark.parametrize("offset", [0.0, 1.7e9], ids=["near zero", "like a timestamp"])
def test_every_metric_is_that_of_scikit_learn_also_from_merged_parts(offset: float) -> None:
    rng = np.random.default_rng(1)
    labels = rng.gamma(3, 20, 5000) + offset
    predicted = labels + rng.normal(3, 9, 5000)
    parts = [counted(p, y) for p, y in zip(np.split(predicted, 5), np.split(labels, 5), strict=True)]
    found = values(merge_all(parts, EDGES))
    expected = {
        "mae": sk.mean_absolute_error(labels, predicted),
        "rmse": math.sqrt(sk.mean_squared_error(labels, predicted)),
        "mape": sk.mean_absolute_percentage_error(labels, predicted),
        "bias": float(np.mean(predicted - labels)),
        "r2": sk.r2_score(labels, predicted),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    assert found["median_absolute_error"] == pytest.approx(sk.median_absolute_error(labels, predicted), rel=0.006)


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=30), st.integers(0, 30))
def test_cutting_into_batches_changes_nothing(rows: list[tuple[float, float]], cut: int) -> None:
    table = np.array(rows, dtype=float).reshape(-1, 2)
    whole = counted(table[:, 0], table[:, 1])
    first, second = (counted(part[:, 0], part[:, 1]) for part in (table[:cut], table[cut:]))
    for both in (merge(first, second), merge(second, first)):
        assert (both.n, both.n_labelled, both.n_nonzero) == (whole.n, whole.n_labelled, whole.n_nonzero)
        assert np.array_equal(both.cells, whole.cells)
        assert np.array_equal(both.cell_counts, whole.cell_counts)
        assert np.allclose(both.by_age, whole.by_age, rtol=1e-9, atol=1e-6)
        for name in ("mae", "rmse", "bias"):
            assert values(both)[name] == pytest.approx(values(whole)[name], rel=1e-9, abs=1e-9)


def test_merging_with_nothing_changes_nothing_and_other_bins_are_refused() -> None:
    some = counted([1.0, 2.0], [1.5, 2.0])
    assert values(merge(empty(EDGES), some)) == values(some)
    with pytest.raises(ProfileError, match="landing bins"):
        merge(some, empty(EDGES[:5]))


def test_bytes_give_the_same_sums_back_and_others_are_refused() -> None:
    rng = np.random.default_rng(2)
    some = counted(rng.normal(0, 5, 300), rng.normal(0, 5, 300), rng.uniform(0, 9e5, 300))
    again = from_bytes(to_bytes(some))
    assert values(again) == values(some)
    assert np.array_equal(again.by_age, some.by_age)
    assert again.quantile(0.9) == some.quantile(0.9)
    for blob in (b"", b"RESI", to_bytes(some)[:-9], b"DLAY" + to_bytes(some)[4:]):
        with pytest.raises(ProfileError):
            from_bytes(blob)


NAN = math.nan


@pytest.mark.parametrize(
    ("predicted", "labels", "reasons"),
    [
        pytest.param([], [], dict.fromkeys(METRICS, "no_predictions"), id="no predictions"),
        pytest.param([NAN, math.inf], [1, 2], dict.fromkeys(METRICS, "no_predictions"), id="predicted values missing"),
        pytest.param([1, 2], [NAN, NAN], dict.fromkeys(METRICS, "no_labels"), id="no labels"),
        pytest.param([1, 2, 3], [0, 0, 0], {"mape": "all_labels_zero", "r2": "constant_labels"}, id="all labels 0"),
        pytest.param([1, 2, 3], [3.3, 3.3, 3.3], {"r2": "constant_labels"}, id="constant labels"),
        pytest.param([1.0], [4.0], {"r2": "constant_labels"}, id="one label"),
        pytest.param(
            [1e200, -1e200], [-1e200, 1e200], {"rmse": "overflow", "r2": "overflow"}, id="beyond what squares can hold"
        ),
    ],
)
def test_undefined_is_undefined(predicted: list[float], labels: list[float], reasons: dict[str, str]) -> None:
    found = performance(counted(predicted, labels))
    assert {name: each.reason for name, each in found.items() if each.value is None} == reasons
    for each in found.values():
        numbers = [each.value, each.low, each.high]
        assert all(number is None or math.isfinite(number) for number in numbers), each


def test_zero_labels_are_left_out_of_the_percentage_error_and_counted() -> None:
    found = counted([1.0, 11.0, 18.0], [0.0, 10.0, 20.0])
    mape = performance(found)["mape"]
    assert mape.value == pytest.approx(0.1)
    assert (mape.n, found.n_labelled) == (2, 3)


def test_quantiles_of_errors_keep_their_sign() -> None:
    errors = np.linspace(-50, 150, 2001)
    found = counted(errors, np.zeros_like(errors))
    for q in (0.05, 0.25, 0.5, 0.95):
        assert found.quantile(q) == pytest.approx(np.quantile(errors, q), rel=0.01, abs=0.2)
    assert counted([], []).quantile(0.5) is None


TRIALS = 300


@pytest.mark.parametrize("kind", ["normal errors", "skewed errors", "shrunken predictions"])
def test_intervals_hold_the_value_of_the_whole_population(kind: str) -> None:
    rng = np.random.default_rng(len(kind))

    def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.normal(50, 10, size)
        if kind == "shrunken predictions":
            return 50 + 0.7 * (labels - 50) + rng.normal(0, 4, size), labels
        return labels + (rng.normal(1, 5, size) if kind == "normal errors" else rng.exponential(5, size) - 5), labels

    truth = values(counted(*draw(300_000)))
    held = dict.fromkeys(METRICS, 0)
    for _ in range(TRIALS):
        for name, measure in performance(counted(*draw(400))).items():
            assert measure.low is not None
            assert measure.high is not None
            held[name] += measure.low <= (truth[name] or 0.0) <= measure.high
    # 93 % of nominally 95 %, less two and a half standard errors of so many trials.
    least = 0.93 - 2.5 * math.sqrt(0.93 * 0.07 / TRIALS)
    assert all(hits / TRIALS >= least for hits in held.values()), {k: v / TRIALS for k, v in held.items()}


# --- while labels land -----------------------------------------------------------------------------


def test_landing_bins_tell_by_the_windows_end_later_and_unknown() -> None:
    edges = np.array([0.0, 10.0, 20.0])
    assert landing_bins([-5, 0, 1, 10, 11, 20, 21, NAN], edges).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert landed_by(15.0, edges).tolist() == [1.0, 1.0, 0.5, 0.0]


def journeys(rng: np.random.Generator, n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted and true length of journeys, known at their end: the long ones, and what was underrated, land last."""
    predicted = rng.gamma(4, 0.5, n)
    true = predicted * rng.lognormal(0, 0.5, n)
    return predicted, true, (true - rng.uniform(0, 1, n)) * 86400


def test_corrected_errors_hold_where_the_eventual_ones_will_be() -> None:
    rng = np.random.default_rng(8)
    age, trials = 2 * 86400.0, 150
    metrics = list(CORRECTABLE)
    held, off, naive = (dict.fromkeys(metrics, 0.0) for _ in range(3))
    past = [counted(*journeys(rng)) for _ in range(30)]
    for _ in range(trials):
        predicted, true, landed = journeys(rng)
        eventual = values(counted(predicted, true))
        so_far = counted(predicted, np.where(landed <= age, true, NAN), landed)
        for name, measure in corrected(so_far, past, age=age, metrics=metrics).items():
            assert measure.value is not None
            assert measure.low is not None
            assert measure.high is not None
            held[name] += measure.low <= (eventual[name] or 0.0) <= measure.high
            off[name] += abs(measure.value - (eventual[name] or 0.0)) / trials
            naive[name] += abs((values(so_far)[name] or 0.0) - (eventual[name] or 0.0)) / trials
        past = [*past[1:], counted(predicted, true, landed)]
    assert all(hits / trials >= 0.93 - 2.5 * math.sqrt(0.93 * 0.07 / trials) for hits in held.values()), held
    for name in ("mae", "rmse", "bias"):
        assert off[name] < 0.7 * naive[name], name


def test_what_cannot_be_corrected_says_why() -> None:
    rng = np.random.default_rng(9)
    past = [counted(*journeys(rng)) for _ in range(10)]
    predicted, true, landed = journeys(rng)
    now = counted(predicted, np.where(landed <= 86400, true, NAN), landed)

    def reasons(past: list[Errors], age: float, counts: Errors = now) -> set[str | None]:
        return {each.reason for each in corrected(counts, past, age=age, metrics=["mae", "bias", "r2"]).values()}

    assert reasons(past, 86400.0) == {None}
    assert reasons(past[:5], 86400.0) == {"no_delay_law"}
    untimed = [counted(*journeys(rng)[:2]) for _ in range(10)]
    assert reasons(untimed, 86400.0) == {"no_delay_law"}
    late = [counted(predicted, true, np.full(400, 9 * 86400.0)) for _ in range(10)]
    assert reasons(late, 86400.0) == {"not_identifiable"}
    assert reasons(past, 86400.0, counted(predicted, np.full(400, NAN))) == {"no_labels"}
    assert set(corrected(now, past, age=86400.0, metrics=["r2", "median_absolute_error"])) == set()


def test_a_pass_over_many_batches_is_one_over_all() -> None:
    rng = np.random.default_rng(10)
    predicted, true, landed = journeys(rng, 2000)
    parts = [counted(predicted[at::7], true[at::7], landed[at::7]) for at in range(7)]
    whole, merged = counted(predicted, true, landed), reduce(merge, parts)
    assert np.allclose(whole.by_age, merged.by_age)
    assert np.array_equal(whole.cells, merged.cells)
