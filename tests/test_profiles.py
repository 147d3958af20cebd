"""Profiles add up, and survive the store."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.edges import EdgeBuilder
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.profiles import (
    CategoricalSpec,
    NumericSpec,
    ProfileError,
    coarsen,
    empty,
    from_bytes,
    merge,
    merge_all,
    project,
    spec_from_bytes,
    spec_to_bytes,
    to_bytes,
)

NUMERIC = NumericSpec(np.array([-1.0, 0.0, 2.5]), np.array([0.0, 1e-7, 0.0]), np.array([0, 3, 4, 7]), decision=(2.5,))
CATEGORICAL = CategoricalSpec(("a", "", "ü\ud800"))

numbers = st.lists(
    st.one_of(st.integers(-5, 5).map(float), st.sampled_from([math.nan, math.inf, -math.inf])), max_size=30
)
words = st.lists(st.sampled_from(["a", "", "ü\ud800", "new", "other", None]), max_size=30)


def count(spec, rows):
    counter = NumericCounter(spec) if isinstance(spec, NumericSpec) else CategoricalCounter(spec)
    counter.update(rows)
    return counter.profile()


def assert_same(one, other, *, exactly=False):
    assert type(one) is type(other)
    for item in fields(one):
        left, right = getattr(one, item.name), getattr(other, item.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            assert left.tolist() == right.tolist(), item.name
        elif isinstance(left, float) and not exactly:
            assert left == pytest.approx(right, rel=1e-12, abs=1e-9, nan_ok=True), item.name
        else:
            assert left == right or (left != left and right != right), item.name


@pytest.mark.parametrize(("spec", "rows"), [(NUMERIC, numbers), (CATEGORICAL, words)], ids=["numeric", "categorical"])
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_merging_is_associative_and_commutative_and_gives_the_counts_of_all_rows(spec, rows, data):
    parts = [data.draw(rows) for _ in range(3)]
    a, b, c = (count(spec, part) for part in parts)
    whole = count(spec, [row for part in parts for row in part])
    assert_same(merge(merge(a, b), c), whole)
    assert_same(merge(a, merge(b, c)), whole)
    assert_same(merge(c, merge(b, a)), whole)
    assert_same(merge_all([b, empty(spec), c, a]), whole)


def test_nothing_merged_is_an_error_and_so_are_profiles_of_other_baselines():
    with pytest.raises(ProfileError, match="nothing to merge"):
        merge_all([])
    with pytest.raises(ProfileError, match="type has changed"):
        merge(empty(NUMERIC), empty(CATEGORICAL))
    with pytest.raises(ProfileError, match="other baselines"):
        merge(empty(CATEGORICAL), empty(CategoricalSpec(("a",))))


def test_merging_leaves_its_arguments_as_they_are():
    a, b = count(NUMERIC, [1.0]), count(NUMERIC, [2.0])
    merge(a, b)
    assert a.cells.sum() == 1


def test_new_values_of_many_windows_stay_bounded_and_are_lower_bounds():
    parts = [count(CATEGORICAL, [f"{day} {k}" for k in range(60)] + ["steady"] * 3) for day in range(5)]
    merged = merge_all(parts)
    assert merged.unseen == 315
    assert len(merged.heavy_unseen) == 64
    assert merged.heavy_unseen["steady"] == 15


@pytest.mark.parametrize(("spec", "rows"), [(NUMERIC, numbers), (CATEGORICAL, words)], ids=["numeric", "categorical"])
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_profile_survives_the_store(spec, rows, data):
    profile = count(spec, data.draw(rows))
    assert_same(from_bytes(to_bytes(profile)), profile, exactly=True)


@pytest.mark.parametrize(
    "spec", [NUMERIC, CATEGORICAL, CategoricalSpec(())], ids=["numeric", "categorical", "no categories"]
)
def test_a_spec_survives_the_store(spec):
    assert_same(spec_from_bytes(spec_to_bytes(spec)), spec, exactly=True)


def test_counts_beyond_four_billion_survive_the_store():
    profile = merge_all([count(CATEGORICAL, ["a"])] * 3)
    large = type(profile)(2**40 + 1, 0, 0, np.array([2**40, 1, 0]), {})
    assert from_bytes(to_bytes(large)).counts.tolist() == [2**40, 1, 0]


@pytest.mark.parametrize("read", [from_bytes, spec_from_bytes])
@pytest.mark.parametrize("make", [lambda: to_bytes(empty(NUMERIC)), lambda: spec_to_bytes(NUMERIC)])
def test_damaged_bytes_are_an_error_of_ours(read, make):
    blob = make()
    for damaged in (b"", b"x", blob[:1], blob[:-5], blob[:2] + b"nonsense", blob[:1] + b"\xff" + blob[2:]):
        with pytest.raises(ProfileError, match="cannot read"):
            read(damaged)


def test_a_profile_is_not_read_as_a_spec():
    with pytest.raises(ProfileError, match="not one"):
        spec_from_bytes(to_bytes(empty(NUMERIC)))


@pytest.mark.parametrize("rows", [2_000, 20_000, 1_000_000])
def test_a_stored_numeric_profile_takes_less_than_four_kilobytes(rows):
    rng = np.random.default_rng(0)
    builder = EdgeBuilder()
    builder.update(rng.normal(size=100_000))
    spec = builder.spec()
    assert len(spec.edges) > 2000
    assert len(to_bytes(count(spec, rng.normal(size=rows)))) < 4096


def test_thinning_keeps_what_decides_and_every_row():
    rng = np.random.default_rng(1)
    rows = np.where(rng.random(9000) < 0.2, 0.25, rng.random(9000))
    builder = EdgeBuilder(decision_edges=(0.375,))
    builder.update(rows)
    spec = builder.spec()
    reference = count(spec, rows)
    coarse, thinned = coarsen(spec, reference, 200)
    assert len(coarse.edges) <= 200
    assert {spec.edges[0], spec.edges[-1], 0.25, 0.375} <= set(coarse.edges)
    assert_same(thinned, count(coarse, rows))
    starts = [np.add.reduceat(p.cells, s.bins[:-1]).tolist() for s, p in ((spec, reference), (coarse, thinned))]
    assert starts[0] == starts[1]
    assert not coarse.exact


def test_few_edges_are_left_alone():
    profile = count(NUMERIC, [1.0])
    assert coarsen(NUMERIC, profile, 512) == (NUMERIC, profile)


def test_a_profile_is_not_projected_onto_foreign_edges():
    foreign = NumericSpec(np.array([-1.0, 0.5, 2.5]), np.zeros(3), np.array([0, 7]))
    with pytest.raises(ProfileError, match="thinning"):
        project(NUMERIC, empty(NUMERIC), onto=foreign)
