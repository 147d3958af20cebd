"""What people read about a column is right, short, and names no rare value."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.display import MISSING, OTHER, describe, histogram, number, percent, quantile, what_changed
from detectors.edges import EdgeBuilder
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.profiles import CategoricalSpec, NumericSpec, empty

AMOUNTS = np.random.default_rng(0).lognormal(3.7, 0.5, size=5000)


def spec_of(rows, **options):
    builder = EdgeBuilder(**options)
    builder.update(rows)
    return builder.spec()


def count(spec, rows):
    counter = NumericCounter(spec) if isinstance(spec, NumericSpec) else CategoricalCounter(spec)
    counter.update(rows)
    return counter.profile()


def changed(reference, current, **options):
    spec = spec_of(reference)
    return what_changed(spec, count(spec, reference), count(spec, current), **options)


# --- quantiles ------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=50),
    st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.9, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_quantiles_of_the_reference_are_numpys(rows, q):
    spec = spec_of(rows)
    assert quantile(spec, count(spec, rows), q) == pytest.approx(np.quantile(rows, q), abs=1e-12)


def test_quantiles_between_edges_are_close_and_never_beyond_the_values_seen():
    spec = spec_of(np.random.default_rng(1).normal(size=20_000), max_distinct=5000)
    rows = np.concatenate([np.random.default_rng(2).normal(0.5, 2, size=3000), [math.inf, -math.inf, math.nan]])
    profile = count(spec, rows)
    for q in (0.0, 0.01, 0.5, 0.99, 1.0):
        assert quantile(spec, profile, q) == pytest.approx(
            np.quantile(rows[:-3], q), abs=0.05 if 0.05 < q < 0.95 else 2
        )
    assert (quantile(spec, profile, 0.0), quantile(spec, profile, 1.0)) == (profile.minimum, profile.maximum)


def test_no_values_have_no_quantile():
    spec = spec_of([1.0])
    assert quantile(spec, empty(spec), 0.5) is None
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile(spec, empty(spec), 50)


def test_a_description_is_plain_data_and_undefined_is_none():
    spec = spec_of([1.0, 2.0])
    assert describe(spec, count(spec, [1.0]))["std"] is None
    for rows in ([], [math.nan], [math.inf], [1e308, -1e308, 1e308]):
        json.dumps(describe(spec, count(spec, rows)), allow_nan=False)


# --- bars -----------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 7.5, -1.0, 1e5, math.nan, math.inf, -math.inf]), min_size=1, max_size=50),
    st.lists(st.floats(-100, 100), min_size=1, max_size=50),
)
@settings(max_examples=100, deadline=None)
def test_bars_hold_every_row_of_both_sides(reference, current):
    spec = spec_of([*reference, 0.0])
    for pair in ((reference, current), (current, reference)):
        bars = histogram(spec, *(count(spec, side) for side in pair))
        assert len(bars.labels) == len(bars.reference) == len(bars.current)
        assert sum(bars.reference) == pytest.approx(1)
        assert sum(bars.current) == pytest.approx(1)
        assert min(bars.reference + bars.current) >= 0


def test_bars_follow_the_rows():
    rows = np.random.default_rng(3).normal(size=10_000)
    spec = spec_of(rows)
    bars = histogram(spec, count(spec, rows), count(spec, rows + 1), 16)
    truth = np.histogram(rows + 1, bars.edges)[0] / len(rows)
    assert bars.current[1:-1] == pytest.approx(truth[1:-1], abs=0.01)
    assert not bars.log


def test_few_values_have_a_bar_each_and_missing_ones_have_theirs():
    spec = spec_of([0.0, 0.0, 1.0, 5.0], bins=2)
    bars = histogram(spec, count(spec, [0.0, 0.0, 1.0, 5.0]), count(spec, [5.0, math.nan]))
    assert bars.labels == ["0", "1", "5", MISSING]
    assert bars.current == [0.0, 0.0, 0.5, 0.5]


def test_a_wide_positive_range_gets_a_logarithmic_axis():
    rows = np.exp(np.random.default_rng(4).normal(0, 3, size=5000))
    spec = spec_of(rows)
    assert histogram(spec, count(spec, rows), count(spec, rows)).log


def test_rare_categories_are_never_named_on_the_page():
    spec = CategoricalSpec(("common", "secret"))
    before = count(spec, ["common"] * 90 + ["secret"] * 9)
    after = count(spec, ["common"] * 50 + ["secret"] * 9 + ["new secret"] * 9 + ["fashion"] * 30)
    bars = histogram(spec, before, after, min_rows=10)
    assert bars.labels == ["common", "fashion", OTHER]
    assert bars.current == pytest.approx([50 / 98, 30 / 98, 18 / 98])
    words = what_changed(spec, before, after, min_rows=10, max_clauses=9) + str(describe(spec, after, min_rows=10))
    assert "secret" not in words
    assert "fashion" in words


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "words"),
    [
        pytest.param(AMOUNTS * 1.5, "median 39.9 → 59.8", id="a shift"),
        pytest.param(AMOUNTS * 1000, f"mean {AMOUNTS.mean():.1f} → {AMOUNTS.mean() * 1000:.0f} (× 1000)", id="a unit"),
        pytest.param(np.where(np.arange(5000) % 10 == 0, np.nan, AMOUNTS), "missing 0 % → 10 %", id="nulls"),
        pytest.param(np.full(5000, 12.5), "always 12.5", id="a constant"),
        pytest.param(np.where(np.arange(5000) % 5 == 0, -999, AMOUNTS), "20 % below", id="a sentinel"),
        pytest.param(np.where(np.arange(5000) % 5 == 0, np.inf, AMOUNTS), "infinite 0 % → 20 %", id="infinities"),
        pytest.param(40 + (AMOUNTS - 40) * 3, "middle half spans", id="a wider spread"),
        pytest.param(AMOUNTS, "no single change stands out", id="nothing"),
        pytest.param([], "no rows in the window", id="no rows"),
    ],
)
def test_numeric_changes_are_said_in_words(current, words):
    assert words in changed(AMOUNTS, current)


def test_rows_that_come_together_at_a_value_nobody_had_are_named_as_a_spike():
    rng = np.random.default_rng(8)
    reference, current = rng.normal(100, 10, 5000), rng.normal(100, 10, 5000)
    current[:500] = 103.21 + rng.normal(0, 0.01, 500)
    assert "a spike between 103 and 103" not in changed(reference, current)
    assert "a spike at about 103: " in changed(reference, current)
    assert "spike" not in changed(reference, rng.normal(100, 10, 5000))
    assert "spike" not in changed(reference, rng.normal(103, 10, 5000))
    assert "spike" not in changed(reference, rng.normal(100, 3, 5000))
    assert "spike" not in changed(reference, rng.normal(100, 10, 60))


def test_a_default_fill_is_named():
    reference = np.random.default_rng(5).normal(size=4000).round(1)
    assert "exactly 0: " in changed(reference, np.where(np.random.default_rng(6).random(4000) < 0.4, 0.0, reference))


@pytest.mark.parametrize(
    ("current", "words"),
    [
        pytest.param(["a"] * 500 + ["b"] * 380 + ["X"] * 120, "new: 'X' 12 %", id="new"),
        pytest.param(["a"] * 1000, "gone: 'b' (was 40 %)", id="gone"),
        pytest.param(["a"] * 300 + ["b"] * 700, "'a' 60 % → 30 %", id="moved"),
        pytest.param(["a"] * 550 + ["b"] * 370 + [None] * 80, "missing 0 % → 8 %", id="missing"),
        pytest.param(["a"] * 550 + ["b"] * 370 + [str(k) for k in range(80)], "new, rare values: 8 %", id="many new"),
        pytest.param(["a"] * 600 + ["b"] * 400, "no single change stands out", id="nothing"),
    ],
)
def test_categorical_changes_are_said_in_words(current, words):
    spec = CategoricalSpec(("a", "b"))
    assert words in what_changed(spec, count(spec, ["a"] * 600 + ["b"] * 400), count(spec, current))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (41.0, "41"),
        (0.12345, "0.123"),
        (1234.56, "1235"),
        (2.5e8, "2.5e8"),
        (1e-7, "1e-7"),
        (-3.0, "-3"),
        (1e12, "1e12"),
    ],
)
def test_numbers_are_written_as_people_write_them(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.002, "0.2 %"), (0.08, "8 %"), (0.123, "12 %"), (0.0004, "< 0.1 %"), (1.0, "100 %")],
)
def test_shares_are_written_as_percentages(share, text):
    assert percent(share) == text
