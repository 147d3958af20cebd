"""Seasons: chosen where they pay, left alone where they do not, and matched they make a window comparable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from benchmarks.streams import BINS, KINDS
from detectors.seasonal import choose
from monitor.baselines import phases
from monitor.models import Window

CUTS = np.linspace(-1.3, 1.3, BINS - 1)


def cycle(hours: int, size: float, *, rows: int = 200, week: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    hour = np.arange(hours)
    level = size * np.sin(hour % 24 / 24 * 2 * np.pi) + week * (hour // 24 % 7 >= 5)
    return np.array([np.bincount(np.searchsorted(CUTS, x + rng.standard_normal(rows)), minlength=BINS) for x in level])


def hourly(hours: int) -> dict[str, np.ndarray]:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    spans = [Window(start + timedelta(hours=h), start + timedelta(hours=h + 1)) for h in range(hours)]
    return phases("1h", spans, ZoneInfo("UTC"))


def test_a_daily_cycle_is_matched_by_the_hour_of_the_day() -> None:
    assert choose(cycle(28 * 24, 0.8), hourly(28 * 24)) == "day"


def test_a_cycle_that_differs_at_the_weekend_is_matched_by_the_hour_of_the_week() -> None:
    assert choose(cycle(28 * 24, 0.8, rows=400, week=1.0), hourly(28 * 24)) == "week"


def test_what_has_no_season_is_compared_with_all_windows() -> None:
    for seed in range(20):
        counts = KINDS["independent"](np.random.default_rng(seed), 28, 500)[:, :-1]
        assert choose(counts, {"week": np.arange(28) % 7}) is None


def test_a_baseline_of_less_than_two_cycles_has_no_season() -> None:
    assert choose(cycle(30, 0.8), hourly(30)) is None


def test_phases_are_of_the_zone_and_of_the_length() -> None:
    zone = ZoneInfo("America/New_York")
    night = Window(datetime(2024, 1, 1, 3, tzinfo=UTC), datetime(2024, 1, 1, 4, tzinfo=UTC))
    found = phases("1h", [night], zone)
    assert found["day"].tolist() == [22 * 60]
    assert found["week"].tolist() == [6 * 1440 + 22 * 60]
    week = Window(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 8, tzinfo=UTC))
    assert phases("7d", [week], zone) == {}
