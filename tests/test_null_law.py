"""The law of a distance without change: held against simulation, and against the exact cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from detectors.null_law import NullLaw

UNEVEN = np.array([19, 9.5, 6.4, 4.8, 3.9, 3.3, 2.8, 2.5, 2.2])


def test_equal_eigenvalues_of_known_scale_are_a_chi_square() -> None:
    law = NullLaw(np.full(9, 0.002))
    for distance in (0.01, 0.03, 0.06):
        assert law.p_value(distance) == pytest.approx(stats.chi2.sf(distance / 0.002, 9), rel=1e-4)


def test_equal_eigenvalues_of_estimated_scale_are_an_f() -> None:
    law = NullLaw(np.full(9, 1.0), df=100)
    assert law.p_value(27.0) == pytest.approx(stats.f.sf(3.0, 9, 100), rel=1e-9)


@pytest.mark.parametrize("df", [math.inf, 60.0])
def test_the_tail_of_uneven_eigenvalues_is_that_of_a_simulation(df: float) -> None:
    rng = np.random.default_rng(1)
    draws = (rng.chisquare(1, (400_000, len(UNEVEN))) * UNEVEN).sum(axis=1)
    if math.isfinite(df):
        draws /= rng.chisquare(df, len(draws)) / df
    law = NullLaw(UNEVEN, df)
    for alpha in (0.2, 0.01, 0.001):
        assert law.p_value(float(np.quantile(draws, 1 - alpha))) == pytest.approx(alpha, rel=0.15)


def test_the_critical_value_has_its_probability() -> None:
    for law in (NullLaw(UNEVEN, 80.0), NullLaw(np.ones(1), 27.0), NullLaw(np.ones(199))):
        for alpha in (0.01, 1e-4, 1e-7):
            assert law.p_value(law.critical(alpha)) == pytest.approx(alpha, rel=0.01)


def test_the_stated_smallest_change_is_found_in_four_windows_of_five() -> None:
    rng = np.random.default_rng(2)
    law = NullLaw(np.full(9, 1 / 1000))
    size = law.smallest_detectable(0.001)
    found = rng.noncentral_chisquare(9, size * 1000, 20_000) / 1000 > law.critical(0.001)
    assert found.mean() == pytest.approx(0.8, abs=0.015)


def test_the_interval_holds_the_true_change_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(3)
    law, truth = NullLaw(np.full(9, 1 / 1000)), 0.1
    effects = rng.noncentral_chisquare(9, truth * 1000, 5000) / 1000 - law.mean
    held = [low <= truth <= high for low, high in map(law.interval, effects)]
    assert 0.93 <= np.mean(held) <= 0.97


def test_a_probability_is_never_zero_nor_above_one() -> None:
    law = NullLaw(UNEVEN)
    assert law.p_value(0.0) == 1.0
    assert 0 < law.p_value(1e7) < 1e-200
