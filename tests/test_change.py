"""The test of one column: calibrated where rows depend on each other, and it names the part that moved."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.calibrate import Cell, false_alarms, history_from, profile_of, spec_of
from benchmarks.streams import BINS, KINDS, of_shares
from detectors.change import History, change, share_test
from detectors.effective_size import measure
from detectors.profiles import CategoricalProfile, CategoricalSpec, ColumnProfile

SPEC = spec_of(BINS)


def world(kind: str, seed: int, *, n: int = 1000, windows: int = 30) -> tuple[History, ColumnProfile, np.ndarray]:
    drawn = KINDS[kind](np.random.default_rng(seed), windows + 1, n)
    return history_from(SPEC, drawn[:-1]), profile_of(SPEC, drawn[:-1].sum(axis=0)), drawn[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_without_change_at_most_twice_the_nominal_share_is_below_the_level(kind: str) -> None:
    cell = false_alarms(kind, 1000, 30_000, scale=0.1)
    assert cell.p.size >= 400
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
    assert share_test(reference, (100, 1000)) < 1e-6
    assert share_test(reference, (100, 1000), past=(hits, rows)) > 0.01
    assert share_test(reference, (300, 1000), past=(hits, rows)) < 1e-4


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
