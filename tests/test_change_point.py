"""When a change began: planted onsets lie in the stated interval, and the interval is narrow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from detectors.change_point import dispersion, onset_of_counts, onset_of_values
from detectors.profiles import FloatArray, IntArray

DECILES = norm.ppf(np.arange(1, 10) / 10)
Rows = Callable[[np.random.Generator, int], FloatArray]


def independent(rng: np.random.Generator, n: int) -> FloatArray:
    return rng.standard_normal(n)


def autoregressive(rng: np.random.Generator, n: int) -> FloatArray:
    steps = rng.standard_normal(n) * np.sqrt(1 - 0.8**2)
    steps[0] = rng.standard_normal()
    for place in range(1, n):
        steps[place] += 0.8 * steps[place - 1]
    return steps


def binned(values: FloatArray) -> IntArray:
    return np.bincount(np.searchsorted(DECILES, values), minlength=10)


def planted(
    rng: np.random.Generator, *, n: int, shift: float, after: int, rows: Rows = independent, windows: int = 20
) -> tuple[IntArray, int]:
    """Counts of windows of which one begins to shift at a random row, and its place."""
    onset = windows - after - 1
    counts = []
    for place in range(windows):
        values = rows(rng, n)
        if place > onset:
            values = values + shift
        elif place == onset:
            values[round(rng.random() * n) :] += shift
        counts.append(binned(values))
    return np.array(counts), onset


def found(seed: int, *, n: int, shift: float, after: int) -> tuple[list[bool], list[int]]:
    rng = np.random.default_rng(seed)
    reference = binned(rng.standard_normal(10_000))
    inside, widths = [], []
    for _ in range(150):
        counts, onset = planted(rng, n=n, shift=shift, after=after)
        point = onset_of_counts(counts, reference)
        assert point is not None
        inside.append(point.first <= onset <= point.last)
        widths.append(point.width)
    return inside, widths


@pytest.mark.parametrize("after", [1, 2, 5])
@pytest.mark.parametrize("n", [200, 1000, 5000])
def test_the_onset_of_half_a_sigma_lies_in_an_interval_of_at_most_two_windows(n: int, after: int) -> None:
    inside, widths = found(1, n=n, shift=0.5, after=after)
    assert np.mean(inside) >= 0.95
    assert np.mean(np.array(widths) <= 2) >= (0.99 if n == 200 else 1)


def test_a_small_change_has_a_wider_interval_that_holds_the_onset_as_often() -> None:
    inside, widths = found(2, n=500, shift=0.2, after=5)
    assert np.mean(inside) >= 0.9
    assert 1.5 < np.mean(widths) < 4


def test_dependent_rows_widen_the_interval_by_their_dispersion() -> None:
    rng = np.random.default_rng(3)
    reference = binned(rng.standard_normal(20_000))
    baseline = np.array([binned(autoregressive(rng, 1000)) for _ in range(30)])
    spread = dispersion(baseline)
    assert 2 < spread < 8
    inside = {1.0: 0, spread: 0}
    for _ in range(100):
        counts, onset = planted(rng, n=1000, shift=0.5, after=3, rows=autoregressive)
        for chosen in inside:
            point = onset_of_counts(counts, reference, spread=chosen)
            assert point is not None
            inside[chosen] += point.first <= onset <= point.last
    assert inside[spread] >= 90
    assert inside[spread] > inside[1.0]


def test_independent_rows_have_no_dispersion_and_too_few_windows_say_nothing() -> None:
    rng = np.random.default_rng(4)
    assert dispersion(np.array([binned(independent(rng, 1000)) for _ in range(50)])) == pytest.approx(1, abs=0.2)
    assert dispersion(np.array([[5, 5]])) == 1.0
    assert dispersion(np.zeros((3, 4), dtype=np.int64)) == 1.0


def test_without_a_change_the_evidence_is_weak() -> None:
    rng = np.random.default_rng(5)
    reference = binned(rng.standard_normal(10_000))
    strong = 0
    for _ in range(100):
        counts = np.array([binned(rng.standard_normal(500)) for _ in range(15)])
        point = onset_of_counts(counts, reference)
        assert point is not None
        strong += point.evidence > 3
    assert strong <= 5


@pytest.mark.parametrize("after", [0, 1, 6])
def test_a_change_where_a_window_begins_is_dated_to_that_window(after: int) -> None:
    rng = np.random.default_rng(61)
    reference = binned(rng.standard_normal(10_000))
    places = []
    for _ in range(20):
        drawn = [rng.standard_normal(1200) - 9 * (place >= 19 - after) for place in range(20)]
        point = onset_of_counts(np.array([binned(values) for values in drawn]), reference)
        assert point is not None
        assert point.first <= 19 - after <= point.last
        places.append(point.best)
    assert set(places) == {19 - after}


def test_a_fall_where_a_window_begins_is_dated_to_that_window() -> None:
    rng = np.random.default_rng(62)
    best = []
    for _ in range(20):
        values = rng.normal(0.8, 0.02, 14) - 0.4 * (np.arange(14) >= 9)
        point = onset_of_values(values, np.full(14, 0.02))
        assert point is not None
        assert point.first <= 9 <= point.last
        best.append(point.best)
    assert best.count(9) >= 18


def test_windows_without_rows_keep_their_places() -> None:
    rng = np.random.default_rng(6)
    counts, onset = planted(rng, n=1000, shift=1, after=3)
    counts[[2, 5]] = 0
    point = onset_of_counts(counts, binned(rng.standard_normal(5000)))
    assert point is not None
    assert point.first <= onset <= point.last


def test_nothing_to_compare_is_no_onset() -> None:
    assert onset_of_counts(np.zeros((3, 2), dtype=np.int64), np.array([5, 5])) is None
    assert onset_of_counts(np.ones((3, 2), dtype=np.int64), np.array([0, 0])) is None
    assert onset_of_values(np.array([1.0]), np.array([0.1])) is None
    assert onset_of_values(np.array([1.0, np.nan]), np.array([0.1, 0.1])) is None


def test_a_single_window_is_its_own_onset() -> None:
    point = onset_of_counts(np.array([[90, 10]]), np.array([500, 500]))
    assert point is not None
    assert (point.first, point.last, point.best) == (0, 0, 0)
    assert point.evidence > 3


@pytest.mark.parametrize("step", [4, 8])
def test_the_onset_of_a_fall_in_performance_lies_in_the_interval(step: int) -> None:
    """A recall that falls by so many standard errors, at a random moment of a window."""
    rng = np.random.default_rng(7)
    inside, widths = 0, []
    for _ in range(200):
        onset = int(rng.integers(6, 12))
        values = 0.6 + 0.02 * rng.standard_normal(14)
        values[onset + 1 :] -= step * 0.02
        values[onset] -= rng.random() * step * 0.02
        point = onset_of_values(values, np.full(14, 0.02))
        assert point is not None
        inside += point.first <= onset <= point.last
        widths.append(point.width)
    assert inside >= 180
    assert np.mean(widths) <= (3.2 if step == 4 else 2.2)


def test_the_interval_does_not_depend_on_the_unit_of_the_values() -> None:
    values = np.array([1.0, 1.1, 0.9, 1.0, 1.05, 2.0, 2.1, 1.9])
    errors = np.full(8, 0.1)
    one = onset_of_values(values, errors)
    other = onset_of_values(values * 1000 + 7, errors * 1000)
    assert one is not None
    assert other is not None
    assert (one.first, one.last) == (other.first, other.last)
    assert one.first <= 5 <= one.last
