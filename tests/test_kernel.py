"""Counting is exact: whatever the order, the split and the values."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.edges import CategoryBuilder, EdgeBuilder
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.profiles import CategoricalSpec, merge_all

AWKWARD = [
    0.0, -0.0, 5e-324, -5e-324, 1.0, 1.0 + 2**-52, 0.1, float(np.float32(0.1)), 1e308, -1e308, 2.0**53, 2.0**53 + 2,
    math.nan, math.inf, -math.inf,
]  # fmt: skip

values = st.lists(st.one_of(st.sampled_from(AWKWARD), st.floats(width=32), st.integers(-3, 3).map(float)), max_size=80)


def spec_of(reference, **options):
    builder = EdgeBuilder(**options)
    builder.update(reference)
    return builder.spec()


def count(spec, *batches):
    counter = NumericCounter(spec) if hasattr(spec, "edges") else CategoricalCounter(spec)
    for batch in batches:
        counter.update(batch)
    return counter.profile()


def by_hand(spec, rows):
    """One value at a time, straight from the definition of the cells."""
    cells = [0] * spec.n_cells
    for value in rows:
        if math.isnan(value):
            continue
        on = [i for i, (e, s) in enumerate(zip(spec.edges, spec.slack, strict=True)) if e - s <= value <= e + s]
        cells[2 * on[0] + 1 if on else 2 * int(np.searchsorted(spec.edges, value))] += 1
    return cells


SPEC = spec_of([0.0] * 30 + [0.1] * 40 + [1.0, 2.0, 2.0, -2.0, 1e308, 2.0**53] * 5)


@given(rows=values)
@settings(max_examples=150, deadline=None)
def test_each_value_is_counted_in_the_cell_it_belongs_to(rows):
    profile = count(SPEC, rows)
    assert profile.cells.tolist() == by_hand(SPEC, rows)
    assert profile.n == len(rows)
    assert profile.missing == sum(math.isnan(value) for value in rows)
    assert profile.pos_inf == rows.count(math.inf)
    assert profile.neg_inf == rows.count(-math.inf)
    assert profile.cells.sum() == profile.n - profile.missing


@given(rows=values, cuts=st.lists(st.integers(0, 80), max_size=4), order=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_order_and_split_of_rows_do_not_change_counts(rows, cuts, order):
    shuffled = list(rows)
    order.shuffle(shuffled)
    places = sorted({min(cut, len(rows)) for cut in cuts})
    batches = [shuffled[a:b] for a, b in zip([0, *places], [*places, len(rows)], strict=True)]
    whole, split, merged = count(SPEC, rows), count(SPEC, *batches), merge_all(count(SPEC, batch) for batch in batches)
    for other in (split, merged):
        assert other.cells.tolist() == whole.cells.tolist()
        for name in ("n", "missing", "pos_inf", "neg_inf"):
            assert getattr(other, name) == getattr(whole, name)
        assert (other.minimum, other.maximum) == pytest.approx((whole.minimum, whole.maximum), nan_ok=True, abs=0)


def test_moments_and_tails_are_those_of_the_finite_values():
    spec = spec_of([0.0, 10.0])
    rows = np.array([-4.0, -2.0, 3.0, 12.0, 20.0, math.nan, math.inf, -math.inf])
    profile = count(spec, rows[:3], rows[3:])
    finite = rows[np.isfinite(rows)]
    assert profile.mean == pytest.approx(finite.mean())
    assert profile.m2 == pytest.approx(((finite - finite.mean()) ** 2).sum())
    assert (profile.low_sum, profile.high_sum) == (-6.0, 32.0)
    assert (profile.minimum, profile.maximum) == (-4.0, 20.0)


def test_the_largest_floats_overflow_in_silence_and_only_where_they_must():
    profile = count(SPEC, [1e308] * 3, [1e308, -1e308])
    assert profile.mean == pytest.approx(6e307)
    assert profile.m2 == math.inf
    assert profile.n_finite == 5


def test_the_callers_array_is_left_as_it_is():
    rows = np.array([3.0, 1.0, 2.0])
    count(SPEC, rows)
    assert rows.tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.array([1, 2, 3], dtype=np.int8), id="integers"),
        pytest.param(np.array([1, 2, 3], dtype=np.float32), id="float32"),
        pytest.param([Decimal(1), Decimal(2), Decimal(3)], id="decimals"),
        pytest.param(np.array([1.0, 2.0, 3.0])[::-1], id="a view with a stride"),
    ],
)
def test_whatever_reads_as_numbers_is_counted_alike(rows):
    assert count(SPEC, rows).cells.tolist() == count(SPEC, [1.0, 2.0, 3.0]).cells.tolist()


def test_nulls_that_the_source_has_set_aside_are_missing():
    counter = NumericCounter(SPEC)
    counter.update([1.0, math.nan], missing=3)
    assert (counter.profile().n, counter.profile().missing) == (5, 4)


# --- edges ----------------------------------------------------------------------------------------


def test_a_float32_round_trip_stays_on_the_edge_of_a_heavy_value():
    heavy = [0.1] * 100 + [0.7] * 100 + list(np.linspace(0, 1, 100))
    spec = spec_of(heavy)
    before, after = count(spec, [0.1, 0.7]), count(spec, np.array([0.1, 0.7], dtype=np.float32))
    assert before.cells.tolist() == after.cells.tolist()
    assert before.cells[1::2].sum() == 2


@given(st.lists(st.sampled_from(AWKWARD), min_size=1, max_size=40), st.integers(2, 20))
@settings(max_examples=150, deadline=None)
def test_edges_increase_and_slack_never_overlaps(rows, bins):
    spec = spec_of(rows, bins=bins, decision_edges=(0.5,))
    if spec is None:
        assert not np.isfinite(rows).any()
        return
    assert np.all(np.diff(spec.edges) > 0)
    assert np.all((spec.edges + spec.slack)[:-1] < (spec.edges - spec.slack)[1:])
    assert np.all(np.diff(spec.bins) > 0)
    assert (spec.bins[0], spec.bins[-1]) == (0, spec.n_cells)
    assert spec.slack[spec.edges == 0.5] == [0.0]


def test_psi_bins_are_the_deciles_of_the_reference():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=777)
    spec = spec_of(reference)
    assert (
        spec.edges[(spec.bins[1:-1] - 2) // 2].tolist() == np.quantile(reference, np.linspace(0, 1, 11)[1:-1]).tolist()
    )
    assert np.all(spec.bins[1:-1] % 2 == 0)


def test_a_value_of_a_tenth_of_the_rows_has_a_bin_of_its_own():
    spec = spec_of([*np.linspace(1, 2, 70), *[1.5] * 30])
    place = 2 * int(np.searchsorted(spec.edges, 1.5)) + 1
    assert {place, place + 1} <= set(spec.bins.tolist())


def test_all_distinct_values_are_edges_until_they_are_too_many():
    rng = np.random.default_rng(2)
    few, many = rng.normal(size=1000), rng.normal(size=1001)
    assert spec_of(few, max_distinct=1000).exact
    assert set(few) <= set(spec_of(few, max_distinct=1000).edges)
    spec = spec_of(many, max_distinct=1000)
    assert not spec.exact
    assert (spec.edges[0], spec.edges[-1]) == (many.min(), many.max())


def test_edges_do_not_depend_on_row_order_while_all_values_are_held():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=3000).round(2)
    builder = EdgeBuilder()
    for part in np.array_split(rng.permutation(rows), 7):
        builder.update(part)
    again, spec = builder.spec(), spec_of(rows)
    assert again.edges.tolist() == spec.edges.tolist()
    assert again.bins.tolist() == spec.bins.tolist()
    assert again.slack.tolist() == spec.slack.tolist()


def test_a_million_distinct_values_take_bounded_memory_and_still_give_deciles():
    rng = np.random.default_rng(4)
    builder = EdgeBuilder(max_distinct=2000)
    for _ in range(20):
        batch = rng.normal(size=50_000)
        batch[:5000] = 7.0
        builder.update(batch)
        assert len(builder._values) <= 8000
    spec = builder.spec()
    assert len(spec.edges) < 2200
    assert spec.slack[spec.edges == 7.0] > 0
    shares = np.add.reduceat(count(spec, rng.normal(size=50_000)).cells, spec.bins[:-1]) / 50_000
    assert shares[:8] == pytest.approx(1 / 9, abs=0.01)  # deciles of the mixture


def test_decision_edges_are_edges_wherever_the_values_lie():
    spec = spec_of([0.1, 0.2], decision_edges=(0.5, math.nan))
    assert 0.5 in spec.edges
    assert spec.decision == (0.5,)


# --- categories -----------------------------------------------------------------------------------

words = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "new", "neu", "\ud800"])), max_size=60)


@given(rows=words)
@settings(max_examples=100, deadline=None)
def test_rows_and_counted_values_give_the_same_categorical_counts(rows):
    spec = CategoricalSpec(("a", "b", ""))
    tally = Counter(rows)
    counted = CategoricalCounter(spec)
    counted.update(list(tally), list(tally.values()))
    for profile in (count(spec, rows), counted.profile()):
        assert profile.counts.tolist() == [tally["a"], tally["b"], tally[""]]
        assert profile.missing == tally[None]
        assert profile.unseen == tally["new"] + tally["neu"] + tally["\ud800"]
        assert profile.n == len(rows)
        assert profile.heavy_unseen == {k: tally[k] for k in ("new", "neu", "\ud800") if tally[k]}


def test_new_values_beyond_count_are_remembered_by_the_heaviest_only():
    counter = CategoricalCounter(CategoricalSpec(("a",)))
    for start in range(0, 40_000, 1000):
        counter.update([*(f"new {k}" for k in range(start, start + 1000)), *["often"] * 50])
    profile = counter.profile()
    assert profile.unseen == 42_000
    assert len(profile.heavy_unseen) == 64
    assert next(iter(profile.heavy_unseen.items())) == ("often", 2000)


def test_the_heaviest_categories_are_kept_and_ties_are_broken_by_name():
    builder = CategoryBuilder(2)
    builder.update(["z", "b", "a", None], [5, 3, 3, 99])
    assert builder.spec().categories == ("z", "a")
    assert CategoryBuilder(2).spec() is None
