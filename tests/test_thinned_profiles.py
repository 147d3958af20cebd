"""Profiles are thinned for the store: small, still over their spec, exact at the edges that stay."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import DETECTORS
from detectors.edges import EdgeBuilder
from detectors.kernel import NumericCounter
from detectors.profiles import (
    NumericProfile,
    NumericSpec,
    from_bytes,
    kept_edges,
    merge,
    merge_all,
    project,
    restrict,
    thin,
    to_bytes,
)

RNG = np.random.default_rng(3)
REFERENCE = np.round(RNG.normal(0, 1, 20_000), 4)
WINDOW = np.concatenate([np.round(RNG.normal(0.3, 1.1, 40_000), 4), [np.inf, -np.inf, np.nan]])


@pytest.fixture(scope="module")
def spec() -> NumericSpec:
    builder = EdgeBuilder(decision_edges=[0.75])
    builder.update(REFERENCE)
    made = builder.spec()
    assert made is not None
    assert made.exact
    assert len(made.edges) > 9_000
    return made


def counted(spec: NumericSpec, values: np.ndarray) -> NumericProfile:
    counter = NumericCounter(spec)
    counter.update(values)
    return counter.profile()


@pytest.fixture(scope="module")
def sides(spec: NumericSpec) -> tuple[NumericProfile, NumericProfile]:
    return counted(spec, REFERENCE), counted(spec, WINDOW)


def test_a_thinned_profile_takes_less_than_four_kilobytes(spec, sides):
    kept = kept_edges(spec, sides[0], max_edges=1000)
    assert len(to_bytes(sides[1])) > 9_000
    assert len(to_bytes(thin(sides[1], kept))) < 4096


def test_a_thinned_profile_survives_the_store(spec, sides):
    small = thin(sides[1], kept_edges(spec, sides[0], max_edges=700))
    again = from_bytes(to_bytes(small))
    assert isinstance(again, NumericProfile)
    assert np.array_equal(again.cells, small.cells)
    assert np.array_equal(again.kept, small.kept)
    assert (again.n, again.pos_inf, again.mean) == (small.n, small.pos_inf, small.mean)


def test_counts_at_kept_edges_are_those_of_the_full_profile(spec, sides):
    kept = kept_edges(spec, sides[0], max_edges=500)
    small, coarse = thin(sides[1], kept), restrict(spec, kept)
    assert len(kept) < 600
    assert small.cells.sum() == sides[1].cells.sum()
    assert np.array_equal(project(spec, small, onto=coarse).cells, project(spec, sides[1], onto=coarse).cells)


@pytest.mark.parametrize("metric", ["psi", "jensen_shannon", "chi2"])
def test_metrics_of_bins_are_the_same_from_thinned_counts(spec, sides, metric):
    small = thin(sides[1], kept_edges(spec, sides[0], max_edges=500))
    full = DETECTORS[metric].function(spec, *sides)
    stored = DETECTORS[metric].function(spec, sides[0], small)
    assert stored.value == full.value
    assert stored.p_value == full.p_value


def test_ks_from_thinned_counts_says_so_and_keeps_within_its_bound(spec, sides):
    small = thin(sides[1], kept_edges(spec, sides[0], max_edges=500))
    full = DETECTORS["ks"].function(spec, *sides)
    stored = DETECTORS["ks"].function(spec, sides[0], small)
    assert (full.detail["counts"], full.detail["error_bound"]) == ("as counted", 0.0)
    assert stored.detail["counts"] == "as stored"
    assert stored.value <= full.value <= stored.value + stored.detail["error_bound"]
    assert 0 < stored.detail["error_bound"] < 0.01


def test_wasserstein_from_thinned_counts_is_within_one_per_cent_of_sigma(spec, sides):
    small = thin(sides[1], kept_edges(spec, sides[0], max_edges=500))
    full = DETECTORS["wasserstein"].function(spec, *sides)
    stored = DETECTORS["wasserstein"].function(spec, sides[0], small)
    assert stored.value == pytest.approx(full.value, abs=0.01)


def test_merging_thinned_profiles_is_thinning_the_merged(spec, sides):
    kept = kept_edges(spec, sides[0], max_edges=500)
    days = [counted(spec, part) for part in np.array_split(WINDOW, 5)]
    merged = merge_all(thin(day, kept) for day in days)
    assert np.array_equal(merged.cells, thin(sides[1], kept).cells)
    assert np.array_equal(merged.kept, kept)


def test_profiles_thinned_differently_meet_at_their_common_edges(spec, sides):
    some = [kept_edges(spec, sides[0], max_edges=size) for size in (400, 900)]
    both = merge(thin(sides[0], some[0]), thin(sides[1], some[1]))
    common = np.intersect1d(*some)
    assert np.array_equal(both.kept, common)
    coarse = restrict(spec, common)
    expected = project(spec, sides[0], onto=coarse).cells + project(spec, sides[1], onto=coarse).cells
    assert np.array_equal(project(spec, both, onto=coarse).cells, expected)


def test_a_thinned_profile_merges_with_a_full_one(spec, sides):
    kept = kept_edges(spec, sides[0], max_edges=400)
    both = merge(sides[0], thin(sides[1], kept))
    assert np.array_equal(both.kept, kept)
    assert both.n == sides[0].n + sides[1].n


def test_few_edges_are_left_as_they_are(spec, sides):
    kept = kept_edges(spec, sides[0], max_edges=50_000)
    assert thin(sides[1], kept) is sides[1]
