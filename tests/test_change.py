"""The test of one column: calibrated where rows depend on each other, and it names the part that moved."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.calibrate import Cell, false_alarms, found_share, history_from, profile_of, spec_of
from benchmarks.streams import BINS, KINDS, of_shares
from detectors.change import ChangeTest, History, change, share_test
from detectors.effective_size import measure
from detectors.profiles import CategoricalProfile, CategoricalSpec, ColumnProfile, NumericSpec
from detectors.psi import psi
from detectors.statistic import bins_of
from monitor.counting import count, learn_specs

SPEC = spec_of(BINS)


def world(kind: str, seed: int, *, n: int = 1000, windows: int = 30) -> tuple[History, ColumnProfile, np.ndarray]:
    drawn = KINDS[kind](np.random.default_rng(seed), windows + 1, n)
    return history_from(SPEC, drawn[:-1]), profile_of(SPEC, drawn[:-1].sum(axis=0)), drawn[-1]


@pytest.mark.parametrize("scale", [0.01, pytest.param(0.1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_without_change_at_most_twice_the_nominal_share_is_below_the_level(kind: str, scale: float) -> None:
    cell = false_alarms(kind, 1000, 30_000, scale=scale)
    assert cell.p.size >= 12_000 * scale
    assert cell.mark() != "over", cell
    assert cell.share(0.01)[0] <= 0.02
    assert cell.told == 1


def test_the_interval_of_a_share_knows_that_windows_of_one_baseline_share_its_luck() -> None:
    apart = Cell("independent", 100, 100, "", np.repeat([[0.5], [0.005]], [990, 10], axis=0), 1.0, 0.0)
    together = Cell("independent", 100, 100, "", np.repeat([[0.5] * 10, [0.005] * 10], [99, 1], axis=0), 1.0, 0.0)
    rate, low, high = apart.share(0.01)
    assert (rate, low, high) == pytest.approx((0.01, 0.0048, 0.0183), abs=1e-4)
    assert together.share(0.01)[0] == pytest.approx(0.01)
    assert together.share(0.01)[2] > 0.05
    assert apart.mark() == "unclear"
    assert Cell("independent", 100, 100, "", np.full((100, 1), 1e-5), 1.0, 0.0).mark() == "over"


def test_equal_rows_of_an_entity_are_worth_one() -> None:
    drawn = KINDS["10 rows per entity"](np.random.default_rng(0), 60, 2000)
    found = measure(drawn[:, :-1])
    assert found.effect == pytest.approx(10, rel=0.15)
    assert found.memory == 1.0


def test_independent_rows_are_worth_themselves() -> None:
    found = measure(KINDS["independent"](np.random.default_rng(0), 60, 2000)[:, :-1])
    assert 1 <= found.effect <= 1.15


def test_windows_that_resemble_the_one_before_count_as_fewer() -> None:
    rng = np.random.default_rng(5)
    level = np.zeros(60)
    for day in range(1, 60):
        level[day] = 0.8 * level[day - 1] + 0.6 * rng.standard_normal()
    cuts = np.linspace(-2, 2, BINS - 1)
    rows = [np.bincount(np.searchsorted(cuts, x + 0.3 * rng.standard_normal(500)), minlength=BINS) for x in level]
    found = measure(np.array(rows))
    assert found.memory > 1.5
    assert found.n_windows == 60


def test_a_column_that_is_elsewhere_every_day_cannot_alarm() -> None:
    rng = np.random.default_rng(7)
    days = rng.integers(0, BINS, 29)
    counts = np.zeros((29, BINS + 1), dtype=np.int64)
    counts[np.arange(29), days] = 1000
    known, reference = history_from(SPEC, counts[:28]), profile_of(SPEC, counts[:28].sum(axis=0))
    test = change(SPEC, reference, profile_of(SPEC, counts[28]), history=known)
    smallest = test.smallest_detectable(1e-4)
    assert test.p_value > 0.001
    assert smallest is None or smallest > 0.2


def test_with_few_windows_the_assumption_is_told() -> None:
    known, reference, last = world("independent", 1, windows=5)
    told = change(SPEC, reference, profile_of(SPEC, last), history=known).describe()
    assert "independent" in told["assumes"]
    assert "assumes" not in change(SPEC, *world_of(30), history=world("independent", 1)[0]).describe()


def world_of(windows: int) -> tuple[ColumnProfile, ColumnProfile]:
    _, reference, last = world("independent", 1, windows=windows)
    return reference, profile_of(SPEC, last)


def test_the_part_that_moved_is_named() -> None:
    known, reference, last = world("independent", 3)
    missing = last.copy()
    missing[-1], missing[:-1] = 60, missing[:-1] - 6
    assert change(SPEC, reference, profile_of(SPEC, missing), history=known).part == "missing"
    tilted = np.append(np.linspace(85, 115, BINS).round().astype(int), 0)
    shifted = change(SPEC, reference, profile_of(SPEC, tilted), history=known)
    assert shifted.part == "level"
    assert shifted.p_value < 0.05
    spread = last + np.append(np.tile([40, -40], BINS // 2), 0)
    assert change(SPEC, reference, profile_of(SPEC, spread), history=known).part == "values"


def test_one_new_category_of_a_hundredth_is_found_and_a_rare_one_is_not() -> None:
    spec = CategoricalSpec(("a", "b", "c"))
    reference = CategoricalProfile(28_000, 0, 0, np.array([14_000, 10_000, 4000]))

    def window(new: int) -> CategoricalProfile:
        return CategoricalProfile(1000, 0, new, np.array([500 - new, 357, 143]), {"d": new} if new else {})

    found = change(spec, reference, window(10))
    assert found.part == "new"
    assert found.p_value < 1e-8
    assert change(spec, reference, window(1)).p_value > 0.05


def test_a_wild_value_changes_no_verdict() -> None:
    known, reference, last = world("independent", 4)
    plain = change(SPEC, reference, profile_of(SPEC, last), history=known)
    wild = last.copy()
    wild[BINS - 1] += 1
    assert change(SPEC, reference, profile_of(SPEC, wild), history=known).p_value == pytest.approx(
        plain.p_value, abs=0.1
    )


def test_a_share_that_wanders_is_judged_by_how_far_it_wanders() -> None:
    rng = np.random.default_rng(2)
    rates = rng.uniform(0.0, 0.1, 30)
    hits, rows = rng.binomial(1000, rates), np.full(30, 1000)
    reference = (int(hits.sum()), 30_000)
    assert share_test(reference, (100, 1000)).p_value < 1e-6
    assert share_test(reference, (100, 1000), past=(hits, rows)).p_value > 0.01
    assert share_test(reference, (300, 1000), past=(hits, rows)).p_value < 1e-4


def test_two_windows_in_a_row_are_alike_by_what_they_share() -> None:
    rng = np.random.default_rng(3)
    level = np.zeros(60)
    for day in range(1, 60):
        level[day] = 0.8 * level[day - 1] + 0.6 * rng.standard_normal()
    rows = np.full(60, 1000)
    steady, followed = rng.binomial(1000, 0.1, 60), rng.binomial(1000, 0.1 + 0.02 * level)
    whole = (6000, 60_000)
    assert share_test(whole, (110, 1000), past=(steady, rows), span=(1, 60)).alike == pytest.approx(1 / 61, abs=0.02)
    assert share_test(whole, (110, 1000), past=(followed, rows), span=(1, 60)).alike > 0.4
    assert share_test((100, 1000), (110, 1000), past=(steady, rows)).alike == pytest.approx(0.5, abs=0.02)
    assert share_test((100, 1000), (110, 1000)).alike == 0.5


def test_several_windows_together_find_what_one_cannot() -> None:
    rng = np.random.default_rng(11)
    known, reference, _ = world("independent", 11, n=100, windows=60)
    p = np.linspace(0.6, 1.4, BINS) / BINS
    windows = of_shares(p)(rng, 16, 100)
    alone = change(SPEC, reference, profile_of(SPEC, windows[0]), history=known)
    together = change(SPEC, reference, profile_of(SPEC, windows.sum(axis=0)), history=known, windows=16)
    assert (alone.smallest_detectable(1e-4) or 9) > 0.2
    assert (together.smallest_detectable(1e-4) or 9) < 0.05
    assert together.p_value < 1e-6


@pytest.mark.parametrize(("n", "each", "alpha"), [(500, 1, 0.001), (500, 5, 1e-4), (2000, 5, 0.001)])
def test_a_change_of_the_stated_smallest_size_is_found_in_four_of_five_windows(n: int, each: int, alpha: float) -> None:
    *_, found = found_share(n, each, alpha, reps=400)
    assert found == pytest.approx(0.8, abs=0.07)  # 5 points, and the noise of 400 windows


@pytest.mark.parametrize("wild", [1e8, -1e8])
def test_one_wild_value_among_ten_thousand_changes_no_verdict_and_no_other_bin(wild: float) -> None:
    rng = np.random.default_rng(9)
    before, now, moved = rng.standard_normal(10_000), rng.standard_normal(10_000), rng.standard_normal(10_000) + 0.3

    def judged(reference: np.ndarray, current: np.ndarray) -> tuple[ChangeTest, float, np.ndarray]:
        rows = [pa.RecordBatch.from_pydict({"x": side}) for side in (reference, current)]
        specs, _ = learn_specs(rows[:1], {"x": "numeric"}, bins=10, max_categories=50)
        sides = [count([batch], specs).columns["x"] for batch in rows]
        found = psi(specs["x"], *sides)
        assert found.value is not None
        return change(specs["x"], *sides), found.value, bins_of(specs["x"], *sides).current

    for current in (now, moved):
        plain, distance, bins = judged(before, current)
        for sides in ((np.append(before, wild), current), (before, np.append(current, wild))):
            test, other, others = judged(*sides)
            assert (test.p_value <= 1e-4) == (plain.p_value <= 1e-4)
            assert other == pytest.approx(distance, rel=0.02, abs=2e-4)
            assert np.abs(others - bins).sum() <= 12  # one row in its own bin; edges move by a tenth of a rank each


def test_crossing_a_thousand_rows_or_five_distinct_values_changes_no_method() -> None:
    rng = np.random.default_rng(10)

    def told(n_reference: int, distinct: int | None) -> tuple[set[str], float]:
        def draw(n: int) -> np.ndarray:
            return rng.standard_normal(n) if distinct is None else rng.integers(0, distinct, n).astype(float)

        rows = [pa.RecordBatch.from_pydict({"x": draw(n)}) for n in (n_reference, 900)]
        specs, _ = learn_specs(rows[:1], {"x": "numeric"}, bins=10, max_categories=50)
        sides = [count([batch], specs).columns["x"] for batch in rows]
        assert isinstance(specs["x"], NumericSpec)
        test = change(specs["x"], *sides)
        return set(test.parts), (test.smallest_detectable(1e-3) or math.inf)

    below, above = told(1000, None), told(1001, None)
    assert below[0] == above[0] == {"values", "level"}
    assert below[1] == pytest.approx(above[1], rel=0.01)
    sizes = [told(5000, distinct) for distinct in (4, 5, 6, 7)]
    assert all(parts == {"values", "level"} for parts, _ in sizes)
    assert [size for _, size in sizes] == sorted(size for _, size in sizes)  # a bin more costs a little, and no more
    assert sizes[-1][1] < 1.5 * sizes[0][1]
