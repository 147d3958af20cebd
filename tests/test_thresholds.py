"""Verdicts: an effect beyond its limit, and not chance; else an honest answer that says why not."""

from __future__ import annotations

import pytest

from monitor.config import NullLimits, PerformanceLimit
from monitor.models import Verdict
from monitor.thresholds import judge_effect, judge_performance, judge_points, judge_rate, too_little

LIMITS = {"warn": 0.1, "alert": 0.2, "alpha": 0.001}


@pytest.mark.parametrize(
    ("effect", "p_value", "expected"),
    [
        pytest.param(0.05, 1e-9, Verdict.OK, id="significant but too small to act on is ok"),
        pytest.param(0.15, 1e-9, Verdict.WARN, id="between the limits is a warning"),
        pytest.param(0.25, 1e-9, Verdict.ALERT, id="beyond both limits and not chance is an alert"),
        pytest.param(0.2, 1e-9, Verdict.ALERT, id="the limit itself belongs to the alert"),
        pytest.param(0.25, 0.01, Verdict.CANNOT_TELL, id="large but explained by chance cannot be told"),
        pytest.param(0.25, None, Verdict.ALERT, id="without a test the limit decides"),
        pytest.param(None, None, Verdict.CANNOT_TELL, id="undefined is not zero"),
        pytest.param(float("nan"), 0.0, Verdict.CANNOT_TELL, id="NaN never meets a threshold"),
    ],
)
def test_an_effect_is_judged_by_size_and_by_chance(
    effect: float | None, p_value: float | None, expected: Verdict
) -> None:
    assert judge_effect(effect, p_value, **LIMITS).verdict is expected


def test_a_verdict_that_cannot_be_told_says_why() -> None:
    assert "chance" in (judge_effect(0.25, 0.01, **LIMITS).reason or "")


@pytest.mark.parametrize(
    ("n_current", "n_reference", "expected"),
    [(0, 1000, Verdict.NO_DATA), (50, 1000, Verdict.CANNOT_TELL), (1000, 50, Verdict.CANNOT_TELL)],
)
def test_too_few_rows_are_an_answer_of_their_own(n_current: int, n_reference: int, expected: Verdict) -> None:
    judged = too_little(n_current, n_reference, min_rows=100)
    assert judged is not None
    assert judged.verdict is expected
    assert judged.reason


def test_enough_rows_are_judged() -> None:
    assert too_little(100, 100, min_rows=100) is None


@pytest.mark.parametrize(
    ("rate", "low", "expected"),
    [
        pytest.param(0.0, 0.0, Verdict.OK, id="no mismatch"),
        pytest.param(0.02, 0.015, Verdict.ALERT, id="clearly beyond the alert limit"),
        pytest.param(0.02, 0.0005, Verdict.WARN, id="one mismatch of fifty is a warning, not a page"),
        pytest.param(None, None, Verdict.CANNOT_TELL, id="no pairs"),
    ],
)
def test_a_rate_must_clear_the_limit_below_with_its_interval(
    rate: float | None, low: float | None, expected: Verdict
) -> None:
    assert judge_rate(rate, low=low, warn=0.001, alert=0.01).verdict is expected


@pytest.mark.parametrize("change", [0.12, -0.12])
def test_a_share_may_change_in_either_direction(change: float) -> None:
    assert judge_points(change, 1e-9, limits=NullLimits(), alpha=0.01).verdict is Verdict.ALERT


FALL = PerformanceLimit(kind="change", value=-0.05)
FLOOR = PerformanceLimit(kind="below", value=0.60)


@pytest.mark.parametrize(
    ("value", "interval", "reference", "limit", "expected"),
    [
        pytest.param(0.80, (0.79, 0.81), (0.90, 0.89, 0.91), FALL, Verdict.ALERT, id="a clear fall"),
        pytest.param(0.88, (0.87, 0.89), (0.90, 0.89, 0.91), FALL, Verdict.OK, id="a fall within the limit"),
        pytest.param(
            0.80, (0.50, 1.00), (0.90, 0.89, 0.91), FALL, Verdict.CANNOT_TELL, id="a fall that few labels cannot show"
        ),
        pytest.param(0.80, (0.79, 0.81), None, FALL, Verdict.OK, id="no labels in the baseline"),
        pytest.param(0.50, (0.48, 0.52), None, FLOOR, Verdict.ALERT, id="below an absolute floor"),
        pytest.param(0.65, (0.60, 0.70), None, FLOOR, Verdict.OK, id="above the floor"),
        pytest.param(0.99, (0.98, 1.0), (0.90, 0.89, 0.91), FALL, Verdict.OK, id="a rise is not a fall"),
        pytest.param(None, None, (0.90, 0.89, 0.91), FALL, Verdict.CANNOT_TELL, id="undefined"),
    ],
)
def test_performance_is_judged_against_the_baseline_or_a_floor(
    value: float | None,
    interval: tuple[float, float] | None,
    reference: tuple[float, float, float] | None,
    limit: PerformanceLimit,
    expected: Verdict,
) -> None:
    judged = judge_performance(value, interval, reference=reference, warn=None, alert=limit, alpha=0.01)
    assert judged.verdict is expected


def test_the_worse_of_warning_and_alert_counts() -> None:
    warn = PerformanceLimit(kind="change", value=-0.02)
    judged = judge_performance(0.87, (0.865, 0.875), reference=(0.9, 0.895, 0.905), warn=warn, alert=FALL, alpha=0.01)
    assert judged.verdict is Verdict.WARN
    assert judged.threshold == pytest.approx(0.88)
