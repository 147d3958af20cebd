"""Quality findings from profiles that the kernel counted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from detectors.edges import CategoryBuilder, EdgeBuilder
from detectors.intervals import wilson
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.profiles import CategoricalProfile, CategoricalSpec, NumericProfile, NumericSpec, ProfileError
from detectors.quality import (
    became_constant,
    commonest_share,
    freshness,
    is_constant,
    null_change,
    out_of_range_rate,
    unseen_rate,
    volume_change,
)

NAN = float("nan")


def numeric_spec(values: Any) -> NumericSpec:
    builder = EdgeBuilder()
    builder.update(np.asarray(values, dtype=np.float64))
    spec = builder.spec()
    assert spec is not None
    return spec


def numbers(spec: NumericSpec, values: Any) -> NumericProfile:
    counter = NumericCounter(spec)
    counter.update(np.asarray(values, dtype=np.float64))
    return counter.profile()


def category_spec(values: list[str | None]) -> CategoricalSpec:
    builder = CategoryBuilder(max_categories=50)
    builder.update(values)
    spec = builder.spec()
    assert spec is not None
    return spec


def categories(spec: CategoricalSpec, values: list[str | None]) -> CategoricalProfile:
    counter = CategoricalCounter(spec)
    counter.update(values)
    return counter.profile()


VALUES = np.arange(1.0, 1001.0)
SPEC = numeric_spec(VALUES)
REFERENCE = numbers(SPEC, VALUES)
COLOURS = category_spec(["red"] * 70 + ["blue"] * 30)
COLOUR_REFERENCE = categories(COLOURS, ["red"] * 70 + ["blue"] * 30)


def test_a_burst_of_nulls_is_a_change_in_points() -> None:
    found = null_change(REFERENCE, numbers(SPEC, [NAN] * 80 + [5.0] * 920))
    assert (found.reference, found.current, found.change) == (0.0, 0.08, 0.08)
    assert found.interval is not None
    assert 0.06 < found.interval.low < 0.08 < found.interval.high
    assert found.p_value is not None
    assert found.p_value < 1e-10


def test_nulls_of_no_rows_are_no_answer() -> None:
    found = null_change(REFERENCE, numbers(SPEC, []))
    assert (found.current, found.change, found.p_value, found.reason) == (None, None, None, "no_rows")


def test_a_new_category_is_a_share_of_the_rows_that_have_one() -> None:
    found = unseen_rate(categories(COLOURS, ["red"] * 6 + ["green"] * 2 + [None] * 92))
    assert found.change == 0.25
    assert found.interval == wilson(2, 8)
    assert unseen_rate(categories(COLOURS, [None])).reason == "no_rows"


def test_never_seen_is_asked_of_categories_only() -> None:
    with pytest.raises(ProfileError, match="out_of_range_rate"):
        unseen_rate(REFERENCE)
    with pytest.raises(ProfileError, match="unseen_rate"):
        out_of_range_rate(COLOURS, COLOUR_REFERENCE, COLOUR_REFERENCE)


def test_out_of_range_is_beyond_the_extremes_of_the_reference() -> None:
    found = out_of_range_rate(SPEC, REFERENCE, numbers(SPEC, [0.9, 1.0, 500.0, 1000.0, 1000.5, np.inf, NAN]))
    assert (found.reference, found.current) == (0.0, 0.5)


def test_a_constant_is_one_value_whatever_is_missing() -> None:
    assert is_constant(SPEC, numbers(SPEC, [7.0] * 50 + [NAN] * 5))
    assert is_constant(SPEC, numbers(SPEC, [7.123] * 50))
    assert not is_constant(SPEC, numbers(SPEC, [7.0] * 50 + [8.0]))
    assert not is_constant(SPEC, numbers(SPEC, [7.0] * 50 + [np.inf]))
    assert not is_constant(SPEC, numbers(SPEC, [NAN] * 50))
    assert is_constant(COLOURS, categories(COLOURS, ["red"] * 9))
    assert is_constant(COLOURS, categories(COLOURS, ["green"] * 9))
    assert not is_constant(COLOURS, categories(COLOURS, ["green"] * 9 + ["black"]))
    assert not is_constant(COLOURS, categories(COLOURS, ["red"] * 9 + ["black"]))


def test_a_column_that_varied_and_stopped_is_a_finding() -> None:
    assert became_constant(SPEC, REFERENCE, numbers(SPEC, [7.0] * 50))
    assert not became_constant(SPEC, REFERENCE, numbers(SPEC, [7.0] * 10))  # too few rows
    always = numeric_spec([3.0] * 100)
    assert not became_constant(always, numbers(always, [3.0] * 100), numbers(always, [3.0] * 50))


def test_a_rare_flag_that_is_not_set_today_is_no_finding() -> None:
    values = ["no"] * 990 + ["yes"] * 10
    spec = category_spec(values)  # type: ignore[arg-type]
    reference = categories(spec, values)  # type: ignore[arg-type]
    assert commonest_share(spec, reference) == 0.99
    assert not became_constant(spec, reference, categories(spec, ["no"] * 100))
    assert became_constant(spec, reference, categories(spec, ["no"] * 2000))


def test_volume_is_measured_against_the_median_of_the_windows_before() -> None:
    assert volume_change(500, [1000, 980, 5000, 1010]).fall == pytest.approx(1 - 500 / 1005)
    assert volume_change(2000, [1000, 1000, 1000]).fall == -1.0
    assert volume_change(500, [1000, 1000]).reason == "no_history"
    assert volume_change(500, [0, 0, 0, 9]).reason == "history_is_empty"


def at(day: int) -> datetime:
    return datetime(2025, 1, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("newest", "expected"), [(at(10), at(10)), (at(20), at(15)), (at(1), None), (at(5), at(5)), (None, None)]
)
def test_freshness_is_inside_the_window_or_unknown(newest: datetime | None, expected: datetime | None) -> None:
    assert freshness(newest, (at(5), at(15))) == expected
