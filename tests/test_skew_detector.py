"""Pairs of online and offline values: what counts as equal, how often they differ, and in what way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from detectors.intervals import wilson
from detectors.skew import compare_pairs

NAN, INF = math.nan, math.inf
AMOUNT = np.random.default_rng(3).lognormal(5, 1, 2000)


def numeric(online: Any, offline: Any, **options: Any) -> Any:
    return compare_pairs(online, offline, kind="numeric", **options)


def text(online: Any, offline: Any, **options: Any) -> Any:
    return compare_pairs(online, offline, kind="categorical", **options)


def test_equal_columns_do_not_differ() -> None:
    found = numeric(AMOUNT, AMOUNT)
    assert (found.mismatched, found.mismatch_rate, found.kind, found.effect) == (0, 0.0, "none", 0.0)
    assert found.interval == wilson(0, 2000)


@pytest.mark.parametrize(
    ("online", "offline", "differs"),
    [
        (1.0, 1.0, False),
        (100.0, 100.009, False),  # rel 1e-4 of the offline value
        (100.0, 100.02, True),
        (0.0, 1e-6, False),
        (0.0, 2e-6, True),
        (INF, INF, False),
        (INF, -INF, True),
        (INF, 1e308, True),
        (1e308, INF, True),
        (NAN, NAN, False),
        (NAN, 1.0, True),
        (1.0, NAN, True),
    ],
)
def test_when_two_numbers_agree(online: float, offline: float, *, differs: bool) -> None:
    assert numeric([online], [offline]).mismatched == int(differs)


def test_a_float32_round_trip_is_no_skew_by_default_and_is_named_when_asked() -> None:
    there_and_back = AMOUNT.astype(np.float32).astype(np.float64)
    assert numeric(there_and_back, AMOUNT).mismatched == 0
    assert numeric(there_and_back, AMOUNT, abs=0, rel=0).kind == "float32"


def test_an_hour_is_not_lost_in_the_relative_tolerance_of_epoch_seconds() -> None:
    moments = 1.7e9 + np.random.default_rng(0).random(500) * 86_400
    found = numeric(moments + 3600, moments)
    assert (found.mismatch_rate, found.kind, found.parameters["hours"]) == (1.0, "time_zone", 1.0)
    assert numeric(moments.astype(np.float32), moments).mismatched == 0
    assert numeric(moments + 3600, moments, spread_cap=None).mismatched == 0


def test_one_repeated_pair_does_not_make_a_line() -> None:
    assert numeric([4.0] * 50, [3.0] * 50).kind == "true_mismatch"


def test_missing_sides_are_told_apart() -> None:
    found = numeric([NAN, 1, NAN, 4, 5], [2, NAN, NAN, 4, 5], matched=[True, True, True, True, False])
    assert (found.missing_online, found.missing_offline, found.both_missing, found.unmatched) == (1, 1, 1, 1)
    assert (found.n_pairs, found.mismatched, found.rows) == (4, 2, (0, 1))


def test_no_pairs_is_an_answer() -> None:
    found = numeric([1.0], [NAN], matched=[False])
    assert (found.mismatch_rate, found.interval, found.reason, found.unmatched) == (None, None, "no_pairs", 1)
    assert numeric([], []).reason == "no_requests"


@pytest.mark.parametrize(
    ("online", "kind", "parameters"),
    [
        (AMOUNT * 1000, "unit", {"factor": 1000.0}),
        (AMOUNT / 60, "unit", {"factor": 1 / 60}),
        (-AMOUNT, "unit", {"factor": -1.0}),
        (AMOUNT + 7.5, "offset", {"shift": 7.5}),
        (AMOUNT + 7200, "time_zone", {"hours": 2.0}),
        (AMOUNT * 1.8 + 32, "linear", {"factor": 1.8, "shift": 32.0}),
        (np.round(AMOUNT, 1), "rounding", {"digits": 1}),
        (np.round(AMOUNT, -1), "rounding", {"digits": -1}),
        (np.trunc(AMOUNT), "truncation", {"digits": 0}),
        (np.where(np.arange(2000) < 300, 0.0, AMOUNT), "default_fill", {"value": 0.0}),
        (np.where(np.arange(2000) < 300, NAN, AMOUNT), "missing_online", {}),
        (np.roll(AMOUNT, 1), "true_mismatch", {}),
    ],
)
def test_the_kind_of_a_numeric_mismatch(online: Any, kind: str, parameters: dict[str, float]) -> None:
    found = numeric(online, AMOUNT)
    assert found.kind == kind
    for name, value in parameters.items():
        assert found.parameters[name] == pytest.approx(value, rel=1e-3)
    assert "{" not in found.text


def test_a_unit_is_recognised_among_a_few_strangers() -> None:
    online = AMOUNT * 100
    online[:100] = 5.0 + np.arange(100)
    found = numeric(online, AMOUNT)
    assert (found.kind, found.parameters["unit"]) == ("unit", "hundred")
    assert found.explained == pytest.approx(0.95, abs=0.01)


def test_a_stale_value_is_the_one_from_before() -> None:
    before = np.roll(AMOUNT, 3)
    online = np.where(np.arange(2000) % 4 == 0, before, AMOUNT)
    found = numeric(online, AMOUNT, lagged={"24h": before, "1h": np.roll(AMOUNT, 5)})
    assert (found.kind, found.parameters) == ("stale", {"lag": "24h"})


CITY = np.array(["Bern", "Basel", "Genf", None, "Chur"] * 100, dtype=object)


@pytest.mark.parametrize(
    ("online", "kind"),
    [
        ([None if v is None else f" {v.upper()}" for v in CITY], "case"),
        ([None if v is None else v[::-1] for v in CITY], "recode"),
        (["unknown"] * 500, "default_fill"),
        ([None] * 500, "missing_online"),
        (list(np.random.default_rng(0).permutation(CITY[CITY != None])) + [None] * 100, "true_mismatch"),  # noqa: E711
    ],
)
def test_the_kind_of_a_categorical_mismatch(online: list[Any], kind: str) -> None:
    offline = CITY if kind != "true_mismatch" else np.sort(CITY.astype(str))
    found = text(online, np.array([v if v != "None" else None for v in offline], dtype=object))
    assert found.kind == kind
    assert "{" not in found.text


def test_rare_categories_are_not_named_by_a_diagnosis() -> None:
    rare = np.array([f"clinic {n}" for n in range(40)] * 2 + ["town"] * 60, dtype=object)
    found = text(np.array([f"{v}!" for v in rare], dtype=object), rare)
    assert (found.kind, found.parameters["mapping"]) == ("recode", {"town": "town!"})
    alone = text(np.array([f"{v}!" for v in rare[:80]], dtype=object), rare[:80])
    assert "clinic" not in str(alone.parameters)
    filled = text(np.array(["clinic 7"] * 9, dtype=object), rare[:9])
    assert "clinic" not in str(filled.parameters)


def test_too_few_mismatches_are_not_diagnosed() -> None:
    online = AMOUNT.copy()
    online[:3] *= 1000
    found = numeric(online, AMOUNT)
    assert (found.mismatched, found.kind) == (3, "true_mismatch")


def test_a_feature_that_is_far_off_ranks_before_one_that_is_nearly_right() -> None:
    far, near = numeric(AMOUNT * 1000, AMOUNT), numeric(AMOUNT * 1.001, AMOUNT)
    assert far.mismatch_rate == near.mismatch_rate == 1.0
    assert far.effect > near.effect


def test_more_wrong_rows_rank_before_few_wildly_wrong_ones() -> None:
    few = AMOUNT.copy()
    few[:20] = 1e9
    assert numeric(AMOUNT * 1.01, AMOUNT).effect > numeric(few, AMOUNT).effect


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="different length"):
        numeric([1, 2], [1])


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        numeric([1], [1], abs=-1)
