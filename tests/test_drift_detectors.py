"""Promises that every drift detector keeps, and the numbers that they are held to."""

from __future__ import annotations

import doctest
import json
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors import DETECTORS
from detectors.chi2 import chi2
from detectors.edges import CategoryBuilder, EdgeBuilder
from detectors.jensen_shannon import jensen_shannon
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.ks import ks, ks_p_value
from detectors.l_infinity import l_infinity
from detectors.profiles import CategoricalSpec, NumericSpec, ProfileError, coarsen, empty, project
from detectors.psi import psi
from detectors.statistic import Statistic, bins_of, change_test
from detectors.wasserstein import wasserstein


def numeric(reference, current, **options):
    builder = EdgeBuilder(**options)
    builder.update(reference)
    spec = builder.spec()
    return (spec, *(count(spec, side) for side in (reference, current)))


def count(spec, values):
    counter = NumericCounter(spec) if isinstance(spec, NumericSpec) else CategoricalCounter(spec)
    counter.update(values)
    return counter.profile()


def tally(spec, counts):
    counter = CategoricalCounter(spec)
    counter.update(list(counts), list(counts.values()))
    return counter.profile()


def categorical(reference, current, max_categories=200):
    builder = CategoryBuilder(max_categories)
    builder.update(list(reference), list(reference.values()))
    spec = builder.spec()
    return spec, tally(spec, reference), tally(spec, current)


GOLDEN = np.arange(1, 1001.0), np.arange(101, 1101.0)
GOLDEN_CATEGORIES = {"a": 600, "b": 300, "c": 100}, {"a": 500, "b": 350, "c": 150}

EVERY_NUMERIC = [pytest.param(item.function, id=name) for name, item in DETECTORS.items() if item.numeric]
EVERY_CATEGORICAL = [pytest.param(item.function, id=name) for name, item in DETECTORS.items() if item.categorical]

samples = st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, 1e6, math.nan, math.inf, -math.inf]), max_size=60)


# --- promises -------------------------------------------------------------------------------------


@pytest.mark.parametrize("detect", EVERY_NUMERIC)
@given(values=samples)
@settings(max_examples=40, deadline=None)
def test_a_numeric_column_compared_with_itself_has_not_moved(detect, values):
    spec = numeric([0.0, 1.0, 2.0, 2.0], [])[0]
    profile = count(spec, values)
    found = detect(spec, profile, profile)
    assert found.value in (0.0, None)
    assert found.p_value in (1.0, None)
    assert (found.value is None) == ("reason" in found.detail)


@pytest.mark.parametrize("detect", EVERY_NUMERIC)
@given(left=samples, right=samples)
@settings(max_examples=60, deadline=None)
def test_every_numeric_answer_is_finite_or_says_why_not_and_is_plain_data(detect, left, right):
    spec = numeric([0.0, 1.0, 2.0, 2.0, 1e6], [])[0]
    found = detect(spec, count(spec, left), count(spec, right))
    json.dumps(found.detail, allow_nan=False)
    if found.value is None:
        assert found.detail["reason"]
    else:
        assert math.isfinite(found.value)
        assert found.value >= 0
        assert 0 < found.p_value <= 1


@pytest.mark.parametrize("detect", EVERY_CATEGORICAL)
@given(
    left=st.dictionaries(st.sampled_from(["a", "b", "new", None, ""]), st.integers(1, 500)),
    right=st.dictionaries(st.sampled_from(["a", "b", "new", None, ""]), st.integers(1, 500)),
)
@settings(max_examples=60, deadline=None)
def test_every_categorical_answer_is_finite_or_says_why_not_and_is_plain_data(detect, left, right):
    spec = CategoricalSpec(("a", "b", ""))
    one, other = tally(spec, left), tally(spec, right)
    found = detect(spec, one, other)
    json.dumps(found.detail, allow_nan=False)
    if not left or not right:
        assert found.value is None
        assert found.detail["reason"]
    else:
        assert math.isfinite(found.value)
        assert 0 < found.p_value <= 1
        assert detect(spec, one, one).value == 0


@pytest.mark.parametrize("detect", EVERY_NUMERIC)
@pytest.mark.parametrize("side", ["reference", "window"])
def test_an_empty_side_is_no_number_but_a_reason_that_names_it(detect, side):
    spec, full, _ = numeric(*GOLDEN)
    pair = (empty(spec), full) if side == "reference" else (full, empty(spec))
    found = detect(spec, *pair)
    assert found.value is None
    assert side in found.detail["reason"]


def test_a_numeric_detector_refuses_a_categorical_column():
    spec, reference, current = categorical(*GOLDEN_CATEGORIES)
    for detect in (ks, wasserstein):
        with pytest.raises(ProfileError, match="numeric"):
            detect(spec, reference, current)


def test_profiles_of_another_baseline_are_refused():
    spec, reference, _ = numeric(*GOLDEN)
    _, other, _ = numeric([1.0, 2.0], [1.0])
    for detect in (psi, ks, wasserstein):
        with pytest.raises(ProfileError, match="other edges"):
            detect(spec, reference, other)


# --- golden numbers -------------------------------------------------------------------------------


def test_ks_of_a_shift_by_a_tenth_is_the_published_one():
    found = ks(*numeric(*GOLDEN))
    assert found.value == pytest.approx(0.1, abs=1e-12)
    assert found.p_value == pytest.approx(8.974277567313009e-05, rel=1e-9)
    assert found.detail["error_bound"] == 0
    assert found.detail["d_minus"] == 0


def test_wasserstein_of_a_shift_by_a_hundred_is_a_hundred():
    found = wasserstein(*numeric(*GOLDEN))
    assert found.value == pytest.approx(0.3464103347189854, abs=1e-9)
    assert found.detail["w1"] == 100


def test_categories_give_the_published_numbers():
    columns = categorical(*GOLDEN_CATEGORIES)
    assert psi(*columns).value == pytest.approx(0.04621294507616658, abs=1e-15)
    assert jensen_shannon(*columns).value == pytest.approx(0.0758636692726808, abs=1e-15)
    assert chi2(*columns).p_value == pytest.approx(1.0453941554332632e-05, rel=1e-9)
    assert l_infinity(*columns).value == pytest.approx(0.1)


def test_psi_less_its_expectation_is_reported_and_names_the_part_that_moved():
    spec = CategoricalSpec(("a", "b"))
    found = psi(spec, tally(spec, {"a": 500, "b": 490, None: 10}), tally(spec, {"a": 450, "b": 450, None: 100}))
    parts = found.detail["parts"]
    assert found.value == pytest.approx(sum(parts.values()))
    assert parts["missing"] == pytest.approx(0.09 * math.log(10))
    assert found.detail["worst"]["kind"] == "missing"
    assert found.detail["psi_corrected"] == pytest.approx(found.value - 2 * (1 / 1000 + 1 / 1000))


def test_an_emptied_bin_counts_as_the_floor():
    spec = CategoricalSpec(("a", "b"))
    sides = tally(spec, {"a": 50, "b": 50}), tally(spec, {"a": 100})
    expected = 0.5 * math.log(2) + (0.5 - 0.01) * math.log(50)
    assert psi(spec, *sides, floor=0.01).value == pytest.approx(expected)


# --- against scipy --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(300, 200), (1, 1), (3, 2), (1000, 999), (500, 500), (9000, 10000), (30000, 700)])
def test_ks_is_scipys(n, m):
    rng = np.random.default_rng(n)
    reference, current = rng.normal(size=n).round(2), rng.normal(0.1, 1, size=m).round(2)
    found = ks(*numeric(reference, current))
    theirs = stats.ks_2samp(reference, current)
    assert found.value == pytest.approx(theirs.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-9 if max(n, m) < 1001 else 0.02)


def test_the_ks_bound_holds_where_the_edges_are_too_few():
    rng = np.random.default_rng(3)
    reference, current = rng.normal(size=40_000), rng.normal(0.05, 1.1, size=5_000)
    spec, one, other = numeric(reference, current, max_distinct=5_000)
    found = ks(spec, one, other)
    truth = stats.ks_2samp(reference, current).statistic
    assert not spec.exact
    assert found.value <= truth <= found.value + found.detail["error_bound"]
    assert found.detail["error_bound"] < 1e-3
    coarse, thinned = coarsen(spec, one, 64)
    rough = ks(coarse, thinned, project(spec, other, onto=coarse))
    assert rough.value <= truth <= rough.value + rough.detail["error_bound"]


def test_two_windows_with_values_between_edges_have_a_bound_even_over_an_exact_spec():
    spec = numeric([0.0, 10.0], [])[0]
    found = ks(spec, count(spec, [4.1]), count(spec, [4.9]))
    assert found.value == 0
    assert found.detail["error_bound"] == 1  # the true distance is 1


@pytest.mark.parametrize("max_distinct", [20_000, 3_000])
def test_wasserstein_is_scipys_within_a_hundredth_of_sigma(max_distinct):
    rng = np.random.default_rng(4)
    reference, current = rng.lognormal(size=20_000), rng.lognormal(0.2, 1.2, size=9_000)
    found = wasserstein(*numeric(reference, current, max_distinct=max_distinct))
    truth = stats.wasserstein_distance(reference, current)
    assert abs(found.detail["w1"] - truth) < 0.01 * found.detail["sigma"]
    assert found.value == pytest.approx(truth / reference.std(), abs=0.01)


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    st.lists(st.integers(-5, 5), min_size=1, max_size=30),
)
@settings(max_examples=100, deadline=None)
def test_wasserstein_of_few_values_is_exact(left, right):
    found = wasserstein(
        *numeric([*left, *range(-5, 6)], [], bins=4)[:1],
        *[count(numeric([*left, *range(-5, 6)], [], bins=4)[0], side) for side in (left, right)],
    )
    assert found.detail.get("w1", 0.0) == pytest.approx(stats.wasserstein_distance(left, right), rel=1e-8, abs=1e-12)


def test_wasserstein_sees_how_far_beyond_the_reference_the_values_lie():
    reference = np.linspace(0, 1, 101)
    near, far = (wasserstein(*numeric(reference, reference + shift)).detail["w1"] for shift in (10, 1000))
    assert near == pytest.approx(10)
    assert far == pytest.approx(1000)


def test_a_constant_reference_has_no_sigma_and_says_so():
    found = wasserstein(*numeric([3.0] * 50, [4.0] * 50))
    assert found.value is None
    assert "constant" in found.detail["reason"]
    assert found.detail["w1"] == 1


# --- robust ---------------------------------------------------------------------------------------


def test_a_float32_round_trip_of_a_repeated_value_is_no_drift():
    rng = np.random.default_rng(5)
    values = np.where(rng.random(20_000) < 0.6, 0.0424690, rng.random(20_000))
    spec, reference, current = numeric(values, values.astype(np.float32).astype(np.float64))
    assert psi(spec, reference, current).value < 1e-6
    assert ks(spec, reference, current).value < 1e-3


def test_one_wild_value_in_the_reference_hides_nothing_from_psi():
    rng = np.random.default_rng(6)
    reference = rng.normal(size=10_000)
    reference[0] = 1e5
    found = psi(*numeric(reference, rng.normal(1, 1, size=10_000)))
    assert found.value == pytest.approx(0.94, abs=0.05)


def test_values_at_the_ends_of_what_floats_can_hold_give_finite_answers():
    extreme = [0.0, -0.0, 5e-324, -5e-324, 1e308, -1e308, float(2**63), 2.0**53 + 1]
    spec, reference, current = numeric(extreme * 20, [*extreme, math.inf, -math.inf] * 10)
    for item in DETECTORS.values():
        if item.numeric:
            found = item.function(spec, reference, current)
            assert found.detail.get("reason") or math.isfinite(found.value)
    assert psi(spec, reference, current).value > 0
    assert ks(spec, reference, current).value > 0


def test_missing_values_alone_are_drift_for_psi_and_not_for_ks():
    values = np.arange(1000.0)
    spec, reference, current = numeric(values, np.where(values % 10 == 0, np.nan, values))
    assert psi(spec, reference, current).detail["parts"]["missing"] > 0.5
    assert psi(spec, reference, current).p_value < 1e-9
    assert ks(spec, reference, current).p_value > 0.99


def test_a_sentinel_below_a_heavy_lowest_value_is_seen():
    rng = np.random.default_rng(7)
    values = np.where(rng.random(5000) < 0.7, 0.0, rng.exponential(size=5000))
    broken = np.where(rng.random(5000) < 0.1, -999.0, values)
    assert psi(*numeric(values, broken)).value > 0.2


def test_a_p_value_is_never_zero():
    spec, reference, current = categorical({"a": 10**6, "b": 1}, {"a": 1, "b": 10**6})
    assert chi2(spec, reference, current).p_value > 0
    assert ks_p_value(1.0, 50_000, m=60_000) > 0


def test_psi_does_not_depend_on_how_finely_the_profile_is_kept():
    rng = np.random.default_rng(8)
    spec, reference, current = numeric(rng.normal(size=8000).round(3), rng.normal(0.3, 1, 4000))
    coarse, thinned = coarsen(spec, reference, 100)
    window = project(spec, current, onto=coarse)
    assert len(coarse.edges) < len(spec.edges)
    assert psi(coarse, thinned, window) == psi(spec, reference, current)
    assert ks(coarse, thinned, window).value == pytest.approx(ks(spec, reference, current).value, abs=0.02)


# --- false alarms ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "skewed", "n", "m"),
    [(42, True, 430, 9000), (42, False, 9000, 430), (1000, True, 430, 9000), (1000, False, 9000, 430)],
)
def test_many_rare_categories_do_not_raise_false_alarms(levels, skewed, n, m):
    """1 % of drift-free windows are allowed to look unlikely at 1 %; 3 % would be a miscalibrated test."""
    rng = np.random.default_rng(9)
    weights = 1 / np.arange(1, levels + 1) if skewed else np.ones(levels)
    names = [f"level {k}" for k in range(levels)]
    alarms = 0
    for _ in range(300):
        sides = [
            dict(zip(names, rng.multinomial(size, weights / weights.sum()).tolist(), strict=True)) for size in (n, m)
        ]
        p_value = change_test(*categorical(*sides)).p_value
        alarms += p_value is not None and p_value < 0.01
    assert alarms <= 9


def test_numeric_bins_do_not_raise_false_alarms():
    rng = np.random.default_rng(10)
    p_values = [
        psi(*numeric(np.round(rng.exponential(size=900), 1), np.round(rng.exponential(size=150), 1))).p_value
        for _ in range(400)
    ]
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.09


def test_a_heavy_new_category_is_found_among_many_rare_ones():
    rng = np.random.default_rng(11)
    names = [f"level {k}" for k in range(1000)]
    reference = dict(zip(names, rng.multinomial(9000, np.ones(1000) / 1000).tolist(), strict=True))
    current = dict(zip(names, rng.multinomial(800, np.ones(1000) / 1000).tolist(), strict=True)) | {"brand new": 100}
    assert change_test(*categorical(reference, current)).p_value < 1e-9


def test_bins_hold_every_row_of_both_sides():
    spec, reference, current = numeric([1.0, 2.0, math.nan, 2.0], [5.0, math.inf, math.nan])
    bins = bins_of(spec, reference, current)
    assert (bins.reference.sum(), bins.current.sum()) == (4, 3)
    assert bins.kinds[-1] == "missing"


def test_every_detector_answers_with_a_statistic():
    for item in DETECTORS.values():
        columns = numeric(*GOLDEN) if item.numeric else categorical(*GOLDEN_CATEGORIES)
        assert isinstance(item.function(*columns), Statistic)
        assert item.unit
        assert item.meaning.endswith(".")


@pytest.mark.parametrize(("n", "m"), [(30_000, 100), (30_000, 700), (20_000, 15_000), (100_000, 100_000)])
def test_ks_p_values_of_large_samples_are_scipys(n, m):
    size = round(n * m / (n + m))
    for x in (0.4, 0.8, 1.2, 1.5, 1.8, 2.1):
        distance = x / size**0.5
        assert ks_p_value(distance, n, m=m) == pytest.approx(stats.kstwo.sf(distance, size), rel=2e-3)


@pytest.mark.parametrize(("n", "m"), [(1, 7), (6, 9), (40, 60), (97, 401), (600, 80)])
def test_ks_p_values_of_small_samples_are_scipys_exact_ones(n, m):
    rng = np.random.default_rng(12)
    for shift in (0.0, 0.3, 1.0):
        one, other = rng.standard_normal(n), rng.standard_normal(m) + shift
        known = stats.ks_2samp(one, other, method="exact")
        assert ks_p_value(known.statistic, n, m=m) == pytest.approx(known.pvalue, rel=1e-8)


@pytest.mark.parametrize("module", ["detectors.psi", "detectors.jensen_shannon"])
def test_examples_in_docstrings_run(module):
    outcome = doctest.testmod(sys.modules[module])
    assert outcome.attempted > 0
    assert outcome.failed == 0
