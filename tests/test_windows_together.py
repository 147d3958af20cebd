"""Windows that hold too little alone are judged together: what is found then, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import seasons
from detectors.change import Watched, history_of
from detectors.profiles import ColumnProfile, merge_all
from monitor.checks import windows_together

SPEC = seasons.spec_of("x", seasons.BINS)
ROWS = 1000


def days(rng: np.random.Generator, n_days: int, *, shift: float = 0.0) -> list[ColumnProfile]:
    shares = seasons.normal_shares(np.array([shift]))[0]
    return [seasons.profile_of(SPEC, rng.multinomial(ROWS, shares)) for _ in range(n_days)]


def watched(baseline: list[ColumnProfile], recent: list[ColumnProfile]) -> Watched:
    return Watched(
        "x", SPEC, merge_all(baseline), history_of(SPEC, baseline), float(len(baseline)), recent=tuple(recent)
    )


def test_a_shift_too_small_for_any_single_day_is_found_in_days_together() -> None:
    effects = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        column = watched(days(rng, 28), [*days(rng, 23), *days(rng, 8, shift=0.1)])
        [today] = days(rng, 1, shift=0.1)
        found = windows_together(column, today, limit=0.005, alpha=1e-4, min_rows=100)
        assert [one.n_windows for one in found] == [2, 4, 8, 16, 32][: len(found)]
        effects += [one.effect for one in found if one.n_windows == 8 and one.test.p_value <= 1e-4 / len(found)]
    assert len(effects) >= 16  # of 20: 80 %
    assert np.median(effects) == pytest.approx(0.0099, abs=0.003)  # the PSI of a tenth of σ in ten bins


def test_days_without_change_are_beyond_the_level_as_seldom_as_it_says() -> None:
    rng = np.random.default_rng(11)
    alpha, looks, beyond = 0.05, 0, 0
    for _ in range(12):
        baseline, lived = days(rng, 28), days(rng, 31 + 25)
        for day in range(31, len(lived)):
            column = watched(baseline, lived[day - 31 : day])
            found = windows_together(column, lived[day], limit=0.005, alpha=alpha, min_rows=100)
            looks += 1
            beyond += any(one.test.p_value <= alpha / len(found) for one in found)
    assert looks == 300
    assert beyond / looks <= 2 * alpha


def test_without_windows_enough_to_show_the_limit_nothing_is_said() -> None:
    rng = np.random.default_rng(3)
    baseline = days(rng, 28)
    [today] = days(rng, 1)
    assert windows_together(watched(baseline, days(rng, 1)), today, limit=0.0005, alpha=1e-4, min_rows=100) == []
    assert windows_together(watched(baseline, []), today, limit=0.2, alpha=1e-4, min_rows=100) == []
