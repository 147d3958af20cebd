"""Data quality from counts: broken columns are told apart from what any day may bring."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from detectors.change import Watched, history_of
from detectors.edges import EdgeBuilder
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.profiles import CategoricalSpec, Column, ColumnProfile, ColumnSpec, NumericSpec, merge_all
from monitor import checks
from monitor.config import Config
from monitor.models import Result, Verdict, Window

START = datetime(2026, 3, 1, tzinfo=UTC)
NAN = float("nan")
RNG = np.random.default_rng(3)
AMOUNT = RNG.gamma(4.0, 10.0, 20_000)
PLAN = RNG.choice(["basic", "plus", "pro"], 20_000, p=[0.6, 0.3, 0.1])
SPEC = EdgeBuilder()
SPEC.update(AMOUNT)
AMOUNTS = SPEC.spec()
assert AMOUNTS is not None
PLANS = CategoricalSpec(("basic", "plus", "pro"))


def scope(**quality: Any) -> checks.Scope:
    model = {"table": "t", "time": "at", "quality": quality}
    config = Config.model_validate({"sources": {"main": "sqlite:///x.db"}, "models": {"m": model}})
    return checks.Scope("m", config.models["m"], Window(START, START + timedelta(days=1)), 0)


def profile(spec: ColumnSpec, values: Any) -> ColumnProfile:
    if isinstance(spec, NumericSpec):
        numbers = NumericCounter(spec)
        numbers.update(np.asarray(values, dtype=np.float64))
        return numbers.profile()
    texts = CategoricalCounter(spec)
    texts.update(list(values))
    return texts.profile()


def found(values: dict[str, Any], **quality: Any) -> dict[tuple[str, str], Result]:
    """The findings of one window of `amount` and `plan` against the baseline, by feature and metric."""
    specs: dict[str, ColumnSpec] = {"amount": AMOUNTS, "plan": PLANS}
    columns = {
        "amount": Column("amount", AMOUNTS, profile(AMOUNTS, AMOUNT)),
        "plan": Column("plan", PLANS, profile(PLANS, PLAN)),
    }
    current = {name: profile(specs[name], rows) for name, rows in values.items()}
    results = checks.data_quality(scope(**quality), columns, current)
    return {(r.feature or "", r.metric): r for r in results}


def day(n: int = 2000) -> dict[str, Any]:
    return {"amount": RNG.gamma(4.0, 10.0, n), "plan": RNG.choice(["basic", "plus", "pro"], n, p=[0.6, 0.3, 0.1])}


def test_a_usual_day_has_no_finding() -> None:
    assert {key: r.verdict for key, r in found(day()).items() if r.verdict is not Verdict.OK} == {}


@pytest.mark.parametrize(
    ("broken", "where", "value"),
    [
        pytest.param({"amount": [NAN] * 400}, ("amount", "missing_rate"), 0.2, id="nulls"),
        pytest.param({"plan": [None] * 400}, ("plan", "missing_rate"), 0.2, id="nulls of categories"),
        pytest.param({"plan": ["gold"] * 200}, ("plan", "unseen_rate"), 0.1, id="a new category"),
        pytest.param({"amount": [1e6] * 200}, ("amount", "out_of_range_rate"), 0.1, id="out of range"),
        pytest.param({"amount": [-1.0] * 2000}, ("amount", "constant"), 1.0, id="one number"),
        pytest.param({"plan": ["basic"] * 2000}, ("plan", "constant"), 1.0, id="one category"),
    ],
)
def test_a_broken_column_alerts_alone(broken: dict[str, list[Any]], where: tuple[str, str], value: float) -> None:
    rows = day()
    for name, values in broken.items():
        rows[name] = [*values, *list(rows[name])[len(values) :]]
    results = found(rows)
    assert results[where].verdict is Verdict.ALERT
    assert results[where].value == pytest.approx(value, abs=0.002)
    assert {feature for (feature, _), r in results.items() if r.verdict is Verdict.ALERT} == {where[0]}


@pytest.mark.parametrize(("share", "verdict"), [(0.005, Verdict.OK), (0.05, Verdict.WARN), (0.15, Verdict.ALERT)])
def test_a_share_is_judged_in_points_against_its_limits(share: float, verdict: Verdict) -> None:
    rows = day(10_000)
    rows["amount"][: round(share * 10_000)] = NAN
    assert found(rows)["amount", "missing_rate"].verdict is verdict


def test_fewer_missing_values_than_before_are_a_change_too_but_fewer_new_ones_are_not() -> None:
    holes = np.where(np.arange(len(AMOUNT)) % 3 == 0, NAN, AMOUNT)
    column = Column("amount", AMOUNTS, profile(AMOUNTS, holes))
    [result, *_] = checks.data_quality(scope(), {"amount": column}, {"amount": profile(AMOUNTS, day()["amount"])})
    assert (result.metric, result.verdict) == ("missing_rate", Verdict.ALERT)


def test_a_handful_of_rows_is_no_ground_for_a_verdict() -> None:
    rows = found({"amount": [NAN] * 5, "plan": [None] * 5})
    assert {r.verdict for r in rows.values()} == {Verdict.CANNOT_TELL}


def test_a_column_that_is_constant_on_usual_days_is_no_finding() -> None:
    """A holiday flag is 0 or 1 for a whole day: every day of it would be constant."""
    flags = [np.full(2000, float(number in (9, 17))) for number in range(30)]
    builder = EdgeBuilder()
    for flag in flags:
        builder.update(flag)
    spec = builder.spec()
    assert spec is not None
    days = [profile(spec, flag) for flag in flags]
    whole = profile(spec, np.concatenate(flags))
    watched = Watched("holiday", spec, whole, history=history_of(spec, days), reference_windows=30)
    results = checks.data_quality(scope(), {"holiday": watched}, {"holiday": profile(spec, np.zeros(2000))})
    assert "constant" not in {r.metric for r in results}


@pytest.mark.parametrize(
    ("wander", "day", "verdict"),
    [
        pytest.param(1.0, lambda top: top + 0.2 * RNG.random(300), Verdict.CANNOT_TELL, id="a record of a mean"),
        pytest.param(1.0, lambda top: 1000 * (top + RNG.random(300)), Verdict.ALERT, id="another unit of it"),
        pytest.param(0.0, lambda top: top + 0.2 * RNG.random(300), Verdict.ALERT, id="no day of a steady column"),
        pytest.param(
            1.0, lambda top: np.append(np.zeros(298), [top + 1, top + 2]), Verdict.OK, id="a share below its limit"
        ),
    ],
)
def test_a_column_whose_days_have_levels_leaves_its_range_by_itself(wander: float, day: Any, verdict: Verdict) -> None:
    rng = np.random.default_rng(17)
    days = [wander * rng.standard_normal() + 0.1 * rng.standard_normal(300) for _ in range(21)]
    builder = EdgeBuilder()
    builder.update(np.concatenate(days))
    spec = builder.spec()
    assert spec is not None
    kept = [profile(spec, values) for values in days]
    column = Watched("mean", spec, merge_all(kept), history=history_of(spec, kept), reference_windows=21)
    results = checks.data_quality(scope(), {"mean": column}, {"mean": profile(spec, day(float(spec.edges[-1])))})
    [result] = [each for each in results if each.metric == "out_of_range_rate"]
    assert result.verdict is verdict


def test_what_is_switched_off_says_nothing() -> None:
    rows = day()
    rows["amount"] = np.full(2000, -1.0)
    assert ("amount", "constant") not in found(rows, constant=False)


@pytest.mark.parametrize(
    ("n_rows", "history", "verdict"),
    [
        pytest.param(1000, [1000] * 10, Verdict.OK, id="as usual"),
        pytest.param(450, [1000] * 10, Verdict.WARN, id="less than half"),
        pytest.param(150, [1000] * 10, Verdict.ALERT, id="a fifth"),
        pytest.param(0, [1000] * 10, Verdict.NO_DATA, id="none"),
        pytest.param(5000, [1000] * 10, Verdict.OK, id="many more"),
        pytest.param(150, [1000, 1000], Verdict.OK, id="nothing to compare with"),
        pytest.param(500, [0, 0, 0, 9], Verdict.OK, id="a log that has just begun"),
    ],
)
def test_the_number_of_rows_is_judged_against_the_usual(n_rows: int, history: list[int], verdict: Verdict) -> None:
    result = checks.volume(scope(), n_rows, history)
    assert result.verdict is verdict
    assert result.value == n_rows


def test_a_quiet_weekend_is_as_quiet_as_the_last() -> None:
    assert checks.volume(scope(), 150, [1000] * 10, same_time=[980, 160]).verdict is Verdict.OK
    assert checks.volume(scope(), 20, [1000] * 10, same_time=[980, 160]).verdict is Verdict.ALERT


@pytest.mark.parametrize(("hours", "verdict"), [(1, Verdict.OK), (5, Verdict.ALERT)])
def test_freshness_is_the_age_of_the_newest_row_at_the_end_of_the_window(hours: int, verdict: Verdict) -> None:
    limited = scope(freshness="3h")
    [result] = checks.freshness(limited, limited.window.end - timedelta(hours=hours))
    assert (result.value, result.verdict) == (hours * 3600.0, verdict)


def test_schema_changes_are_findings() -> None:
    then, now = {"a": "numeric", "b": "numeric", "c": "numeric"}, {"a": "numeric", "b": "categorical", "d": "numeric"}
    told = {(r.feature, r.metric): r.verdict for r in checks.schema_changes(scope(), then, now, {})}
    assert told == {
        ("c", "column_missing"): Verdict.ALERT,
        ("b", "column_type"): Verdict.ALERT,
        ("d", "column_new"): Verdict.OK,
    }
