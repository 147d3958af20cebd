"""Quality findings from profiles that the kernel counted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from detectors.edges import CategoryBuilder, EdgeBuilder
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.profiles import CategoricalProfile, CategoricalSpec, NumericProfile, NumericSpec
from detectors.quality import (
    became_constant,
    commonest_share,
    freshness,
    is_constant,
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


def at(day: int) -> datetime:
    return datetime(2025, 1, day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("newest", "expected"), [(at(10), at(10)), (at(20), at(15)), (at(1), None), (at(5), at(5)), (None, None)]
)
def test_freshness_is_inside_the_window_or_unknown(newest: datetime | None, expected: datetime | None) -> None:
    assert freshness(newest, (at(5), at(15))) == expected
