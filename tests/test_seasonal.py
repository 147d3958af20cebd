"""Seasons: chosen where they pay, left alone where they do not, and matched they make a window comparable."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from benchmarks import seasons
from benchmarks.streams import BINS, KINDS
from detectors.change import change, history_of
from detectors.edges import EdgeBuilder
from detectors.kernel import NumericCounter
from detectors.profiles import CategoricalProfile, FloatArray, NumericProfile, merge_all
from detectors.seasonal import blended, choose
from monitor.checks import Scope, same_times, volume
from monitor.models import Check, IncidentState, Verdict, Window
from monitor.normal import phases

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


def means_of_the_last_day(rng: np.random.Generator, days: int, n: int = 400) -> list[FloatArray]:
    """At each row the mean of one day's rows before it, whose level follows the week: it wanders, and has a season."""
    at = np.arange((days + 1) * n) / n
    total = np.concatenate([[0.0], np.cumsum(rng.standard_normal(len(at)) + 0.3 * np.sin(at / 7 * 2 * np.pi))])
    means = (total[n:] - total[:-n]) / n
    return list(means[: days * n].reshape(days, n))


@pytest.mark.slow
def test_a_matched_column_that_wanders_within_its_phases_seldom_alarms() -> None:
    """Bins that suit one phase show nothing of how windows of the others wander: with such ones 10 % were below 1 %."""
    rng = np.random.default_rng(5)
    n_cycles, looks, false, levels = 3, 0, 0, 0
    for _ in range(40):
        rows = means_of_the_last_day(rng, 7 * (n_cycles + 2))
        builder = EdgeBuilder()
        builder.update(np.concatenate(rows[: 7 * n_cycles]))
        spec = builder.spec()
        assert spec is not None
        counters = [NumericCounter(spec) for _ in rows]
        for counter, values in zip(counters, rows, strict=True):
            counter.update(values)
        counted = [counter.profile() for counter in counters]
        phase = np.arange(7 * n_cycles) % 7
        known = replace(history_of(spec, counted[: 7 * n_cycles]), groups=phase)
        for at in range(7 * n_cycles, len(rows)):
            same = [counted[day] for day in range(at % 7, 7 * n_cycles, 7)]
            test = change(spec, merge_all(same), counted[at], history=known, reference_windows=n_cycles)
            looks += 1
            false += test.can_tell and test.p_value <= 0.01
            levels += test.can_tell and test.parts["level"] <= 0.01
    assert levels <= 0.02 * looks
    assert false <= 0.05 * looks


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


# --- windows of several phases together ------------------------------------------------------------


def counted(*counts: int, missing: int = 0) -> NumericProfile:
    profile = seasons.profile_of(seasons.spec_of("x", len(counts)), np.array(counts))
    assert isinstance(profile, NumericProfile)
    return replace(profile, n=profile.n + missing, missing=missing)


def test_the_reference_of_several_phases_has_the_shares_that_their_windows_should_have() -> None:
    night, day = counted(900, 100), counted(500, 1500, missing=500)
    profile, worth = blended([night, day, night], [100, 200, 100])
    assert isinstance(profile, NumericProfile)
    cells = profile.cells[profile.cells > 0]
    # half of the rows are as at night, half as by day: (0.9 + 0.2) / 2 and so on, of all rows
    assert cells / profile.n == pytest.approx([0.55, 0.35], abs=0.01)
    assert profile.missing / profile.n == pytest.approx(0.1, abs=0.01)
    assert profile.n == pytest.approx(1 / (0.25 / 1000 + 0.25 / 2500), abs=2)
    assert worth == pytest.approx(2.0)
    assert profile.mean == pytest.approx((0.5 * 0.55 + 1.5 * 0.35) / 0.9, abs=0.02)


def test_categories_of_several_phases_keep_what_was_never_seen_apart() -> None:
    one = CategoricalProfile(100, 0, 10, np.array([60, 30]), {"new": 10})
    two = CategoricalProfile(100, 20, 0, np.array([40, 40]))
    profile, _ = blended([one, two], [50, 50])
    assert isinstance(profile, CategoricalProfile)
    assert (profile.n, profile.missing, profile.unseen, profile.counts.tolist()) == (200, 20, 10, [100, 70])
    assert profile.heavy_unseen == {"new": 10}


def test_a_single_phase_is_its_own_reference() -> None:
    one = counted(40, 60)
    profile, worth = blended([one, one, one], [10, 20, 0])
    assert isinstance(profile, NumericProfile)
    assert profile.cells.tolist() == one.cells.tolist()
    assert worth == 1.0


# --- judged by the service ---------------------------------------------------------------------------


def one_column(*, rows: float, daily: float = 1.0) -> seasons.World:
    """A column whose level swings through the day, and a volume that all but ends at night."""
    hour = np.arange(seasons.HOURS)
    level = daily * np.sin(2 * np.pi * (hour % 24) / 24) + 0.8 * (hour // 24 >= 5)
    return seasons.World({"x": seasons.normal_shares(level)}, rows * (1.1 + np.sin(2 * np.pi * (hour % 24 - 9) / 24)))


def near(hours: set[int], profiles: list, learnt: int) -> list:
    """The windows of the baseline, and later only those of some hours of the week."""
    end = seasons.START + learnt * seasons.WEEK
    return [
        p for p in profiles if p.window.end <= end or (p.window.start - seasons.START) // seasons.HOUR % 168 in hours
    ]


def test_small_windows_of_several_hours_are_judged_together_without_mistaking_the_season_for_drift() -> None:
    rng = np.random.default_rng(5)
    its = one_column(rows=100)
    profiles = seasons.lived(rng, its, weeks=5, length=seasons.HOUR)[: (4 * 168 + 60)]
    outcome, replay = seasons.judged(profiles, {"x": seasons.spec_of("x", 10)}, window="1h", season="week", weeks=4)
    told = [r for window in replay.windows for r in replay.memory.told(window)]
    together = [r for r in told if r.metric == "psi_accumulated"]
    assert len(together) >= 20
    assert [r for r in told if r.verdict is Verdict.ALERT] == []
    assert outcome.pages == []


def test_a_drift_in_one_hour_of_the_week_is_an_incident_when_it_comes_again_and_lasts_until_it_does_not() -> None:
    rng = np.random.default_rng(6)
    its, hour = one_column(rows=500), 33
    shares = seasons.normal_shares(np.array([1.5]))[0]
    sick = seasons.lived(rng, its, weeks=7, length=seasons.HOUR, fault=(4, hour, "x", shares))
    well = seasons.lived(rng, its, weeks=9, length=seasons.HOUR)
    end = seasons.START + 7 * seasons.WEEK
    profiles = near({31, 32, 33, 34, 35}, [*sick, *(p for p in well if p.window.start >= end)], 4)
    outcome, replay = seasons.judged(profiles, {"x": seasons.spec_of("x", 10)}, window="1h", season="week", weeks=4)
    [page] = outcome.pages
    assert page.window.start == seasons.START + 5 * seasons.WEEK + hour * seasons.HOUR
    assert page.incident.features == ["x"]
    [incident] = replay.incidents.values()
    assert incident.check is Check.FEATURE_DRIFT
    assert incident.state is IncidentState.RESOLVED
    assert incident.resolved_window == seasons.START + 7 * seasons.WEEK + hour * seasons.HOUR


def unmatched(*, odd_hour: int | None = None) -> seasons.World:
    """A column without a season; in one hour of the week it may have been another one ever since."""
    shares = np.repeat(seasons.normal_shares(np.array([0.0])), seasons.HOURS, axis=0)
    if odd_hour is not None:
        shares[odd_hour] = seasons.normal_shares(np.array([0.8]))[0]
    return seasons.World({"x": shares}, np.full(seasons.HOURS, 500.0))


def pages_about(its: seasons.World, hour: int, *, fault: FloatArray | None) -> list[datetime]:
    rng = np.random.default_rng(9)
    sick = None if fault is None else (4, hour, "x", fault)
    profiles = near({hour - 1, hour, hour + 1}, seasons.lived(rng, its, weeks=8, length=seasons.HOUR, fault=sick), 4)
    outcome, replay = seasons.judged(profiles, {"x": seasons.spec_of("x", 10)}, window="1h", season="auto", weeks=4)
    told = [r for window in replay.windows for r in replay.memory.told(window) if r.metric == "psi"]
    assert told
    assert all("season" not in r.detail for r in told)
    return [page.window.start for page in outcome.pages]


def test_a_column_without_a_season_that_drifts_in_one_hour_of_the_week_is_found_when_the_hour_comes_again() -> None:
    hour, shares = 33, seasons.normal_shares(np.array([1.5]))[0]
    again = seasons.START + 5 * seasons.WEEK + hour * seasons.HOUR
    assert pages_about(unmatched(), hour, fault=shares) == [again]


def test_an_hour_of_the_week_that_has_always_been_odd_is_no_drift_though_matching_does_not_pay() -> None:
    assert pages_about(unmatched(odd_hour=33), 33, fault=None) == []


def test_a_night_is_no_fall_of_volume_where_last_night_was_as_quiet() -> None:
    night = Window(datetime(2024, 1, 9, 3, tzinfo=UTC), datetime(2024, 1, 9, 4, tzinfo=UTC))
    config = seasons.config_of(
        "1h", "auto", start=datetime(2023, 12, 1, tzinfo=UTC), to=datetime(2024, 1, 1, tzinfo=UTC)
    )
    scope = Scope("m", config.models["m"], night, 0)
    day = [400] * 14
    assert volume(scope, 40, day).verdict is Verdict.ALERT
    assert volume(scope, 40, day, same_time=[50, 45]).verdict is Verdict.OK
    assert volume(scope, 5, day, same_time=[50, 45]).verdict is Verdict.ALERT
    assert same_times(night) == [night.start - timedelta(days=1), night.start - timedelta(days=7)]
    week = Window(night.start, night.start + timedelta(days=7))
    assert same_times(week) == []
