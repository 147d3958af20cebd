"""The false-page budget: what a test may spend, and the level that follows."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from benchmarks.calibrate import model_years
from monitor.budget import SHARES, effective_tests, joint, level, spend
from monitor.config_types import rate_of

DAY = timedelta(days=1)


def test_all_tests_of_all_looks_spend_no_more_than_the_budget() -> None:
    per_look = {c: 50 * spend(1, 90 * DAY, look=DAY, check=c, n_tests=50) for c in SHARES}
    assert sum(per_look.values()) * 90 == pytest.approx(1.0)


def test_the_joint_tail_is_that_of_the_bivariate_normal_law() -> None:
    for alike in (0.0, 0.3, 0.8):
        exact = multivariate_normal([0, 0], [[1, alike], [alike, 1]]).cdf([-2.3263478740408408] * 2)
        assert joint(0.01, alike) == pytest.approx(float(exact), rel=1e-3)


def test_confirmation_allows_a_milder_level_unless_windows_are_alike() -> None:
    spent = spend(1, 90 * DAY, look=DAY, check="feature_drift", n_tests=50)
    once = level(spent, confirm=1, alike=0.0, check="feature_drift", n_tests=50)
    apart = level(spent, confirm=2, alike=0.0, check="feature_drift", n_tests=50)
    same = level(spent, confirm=2, alike=0.999, check="feature_drift", n_tests=50)
    assert once == pytest.approx(spent)
    assert same < 1.2 * once < apart
    assert joint(apart, 0.0) <= spent


def test_columns_that_move_together_count_once_and_others_fully() -> None:
    rng = np.random.default_rng(0)
    apart = [rng.chisquare(9, 30) for _ in range(20)]
    one = rng.chisquare(9, 30)
    assert effective_tests(apart) > 19
    assert effective_tests([one * scale for scale in range(1, 21)]) < 3
    assert effective_tests([one[:5], one[:5]]) == 2


@pytest.mark.parametrize(("text", "rate"), [("1 per 90d", (1.0, 90 * DAY)), ("0.5 / 4w", (0.5, 28 * DAY))])
def test_a_rate_is_read(text: str, rate: tuple[float, timedelta]) -> None:
    assert rate_of(text) == rate


@pytest.mark.parametrize("text", ["1", "0 per 90d", "one per day", "1 per 0"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        rate_of(text)


def test_a_drift_free_year_pages_within_the_budget() -> None:
    years, pages, far, together = model_years(4, look="daily", n=1000, confirm=1, seed=99)
    assert (pages + together) / years <= 365 / 90
    assert far == 0
