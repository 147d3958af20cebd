"""Intervals against published numbers, scipy, and their own coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from detectors.intervals import (
    Interval,
    difference,
    f_interval,
    logit_normal,
    mean_interval,
    roc_area,
    roc_area_interval,
    two_share_p_value,
    wilson,
)


@pytest.mark.parametrize(("x", "n"), [(0, 10), (1, 7), (5, 10), (81, 263), (263, 263), (3, 100_000)])
def test_wilson_is_scipys(x: int, n: int) -> None:
    expected = stats.binomtest(x, n).proportion_ci(0.9, method="wilson")
    assert wilson(x, n, level=0.9) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_refuses_more_successes_than_trials() -> None:
    with pytest.raises(ValueError, match="impossible"):
        wilson(3, 2)


def test_an_impossible_level_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        wilson(1, 2, level=95)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # Newcombe 1998, table II, method 10 (there as first less second).
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 10), (0.6075, 1.0000)),
    ],
)
def test_a_change_of_shares_is_newcombes(
    first: tuple[int, int], second: tuple[int, int], expected: tuple[float, float]
) -> None:
    (x1, n1), (x2, n2) = second, first
    found = difference(x1 / n1, wilson(x1, n1), x2 / n2, wilson(x2, n2))
    assert found == pytest.approx(expected, abs=6e-5)


def test_a_difference_is_mirrored_when_its_sides_swap() -> None:
    one, two = Interval(0.2, 0.5), Interval(0.5, 0.7)
    low, high = difference(0.3, one, 0.6, two)
    assert difference(0.6, two, 0.3, one) == pytest.approx((-high, -low))


def test_large_shares_are_compared_as_the_chi_square_test_does() -> None:
    table = np.array([[30, 970], [55, 945]])
    expected = stats.chi2_contingency(table, correction=False).pvalue
    assert two_share_p_value((30, 1000), (55, 1000)) == pytest.approx(expected, rel=1e-9)


def test_small_shares_are_compared_exactly() -> None:
    expected = stats.fisher_exact(np.array([[0, 50], [3, 47]])).pvalue
    assert two_share_p_value((0, 50), (3, 50)) == pytest.approx(expected)
    assert two_share_p_value((0, 50), (0, 70)) == 1.0


def test_the_area_of_two_tied_scores_is_one_half() -> None:
    assert roc_area(np.array([3]), np.array([4])).value == 0.5


def test_delongs_variance_is_that_of_the_placements() -> None:
    rng = np.random.default_rng(5)
    pos, neg = np.round(rng.normal(1, 1, 40), 1), np.round(rng.normal(0, 1, 70), 1)
    pairs = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)
    expected = pairs.mean(axis=1).var(ddof=1) / 40 + pairs.mean(axis=0).var(ddof=1) / 70
    scores = np.unique(np.concatenate([pos, neg]))
    counts = [np.array([(side == score).sum() for score in scores]) for side in (pos, neg)]
    area = roc_area(*counts)
    assert area.value == pytest.approx(pairs.mean(), abs=1e-14)
    assert area.variance == pytest.approx(expected, rel=1e-12)


def test_one_positive_still_has_an_uncertain_area() -> None:
    area = roc_area(np.array([0, 1, 0]), np.array([5, 0, 5]))
    assert area.value == 0.5
    low, high = roc_area_interval(area, 1, 10)
    assert low < 0.2
    assert high > 0.8


def test_perfect_separation_is_not_certain() -> None:
    area = roc_area(np.array([0, 5]), np.array([50, 0]))
    assert area.value == 1
    assert roc_area_interval(area, 5, 50) == wilson(5, 5)


def test_the_area_of_one_class_is_undefined() -> None:
    assert math.isnan(roc_area(np.array([0, 0]), np.array([1, 2])).value)


def test_the_interval_of_f1_is_wilsons_of_its_jaccard_index() -> None:
    low, high = wilson(30, 30 + 12 + 9)
    assert f_interval(30, 12, 9, beta=1) == pytest.approx((2 * low / (1 + low), 2 * high / (1 + high)), abs=0.01)
    assert f_interval(0, 12, 9, beta=1)[1] == pytest.approx(2 * wilson(0, 21)[1] / (1 + wilson(0, 21)[1]))
    assert f_interval(0, 0, 0, beta=1) == (0.0, 1.0)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_the_interval_of_f_beta_holds_it_as_often_as_it_says(beta: float) -> None:
    rng = np.random.default_rng(0)
    p = np.array([0.2, 0.05, 0.1, 0.65])
    b2 = beta**2
    truth = (1 + b2) * p[0] / ((1 + b2) * p[0] + b2 * p[2] + p[1])
    held = 0
    for tp, fp, fn, _ in rng.multinomial(400, p, size=2000):
        low, high = f_interval(int(tp), int(fp), int(fn), beta=beta, level=0.9)
        held += low <= truth <= high
    assert 0.87 <= held / 2000 <= 0.93


def test_the_logit_interval_stays_inside_and_refuses_the_ends() -> None:
    low, high = logit_normal(0.99, 0.01)
    assert 0 < low < 0.99 < high < 1
    with pytest.raises(ValueError, match="strictly between"):
        logit_normal(1.0, 0.01)


def test_a_mean_of_one_value_may_be_anything() -> None:
    assert mean_interval(0.3, 1.0, 1) == (-math.inf, math.inf)
