"""Labels that come later are told, whoever they are; and what only looks like it is not: batches, growth, an outage."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from benchmarks.late_worlds import (
    WORLDS,
    Change,
    Log,
    World,
    daily,
    exponential,
    irregular,
    lognormal,
    monthly,
    on_weekdays,
    steady,
    weekly,
)
from benchmarks.lateness import OUTAGES, Watch, days_to_tell, false_months, outage
from detectors.delay_counts import age_edges, count_delays
from monitor.delays import DELAY, OUTAGE, Silent, lateness_of, longest_usual, looked_back, silences
from monitor.models import Check, Result, Verdict, Window

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
KNOWN = 70


def asked(
    world: World, change: Change | None = None, *, now: int, seed: int = 1, per_day: int = 400, **more: Any
) -> Any:
    """What a look at midnight before day ``now`` says of a log that began on day 0."""
    log = Log(world, np.random.default_rng(seed), per_day=per_day, days=now, change=change or Change())
    windows = [(Window(START + day * DAY, START + (day + 1) * DAY), log.window(day, now)) for day in range(now)]
    return lateness_of(windows, now=START + now * DAY, by_stratum=True, **more)


def is_told(change: Any) -> bool:
    return change is not None and change.p_value < 1e-4 and abs(math.log(change.factor)) > math.log(1.25)


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_a_log_without_any_change_has_no_finding(world: World) -> None:
    assert not is_told(asked(world, now=KNOWN + 20))


def test_what_came_later_is_named_by_class_and_stratum() -> None:
    for kind, label, stratum in (("positives +3 d", 1, None), ("high scores doubled", None, 1)):
        change = asked(World("log"), Change(kind, KNOWN), now=KNOWN + 20, per_day=2000)
        assert is_told(change), kind
        assert change.factor > 1
        assert (change.label, change.stratum) == (label, stratum), kind


def test_labels_that_come_sooner_are_told_as_sooner() -> None:
    slow = World("log", lambda rng, label, day: np.where(day < KNOWN, 2.0, 1.0) * exponential(rng, label, day))
    change = asked(slow, now=KNOWN + 20)
    assert is_told(change)
    assert change.high < 1


def test_a_slow_lane_that_is_slower_is_never_told_as_sooner() -> None:
    """The labels that have landed are then those of the fast lane, and their mean delay falls."""
    world = next(world for world in WORLDS if world.name == "two lanes")
    for after in (7, 14, 21):
        change = asked(world, Change("doubled", KNOWN), now=KNOWN + after, per_day=1000)
        assert not is_told(change) or change.factor > 1, after


def test_labels_that_creep_are_told_as_creeping() -> None:
    world = World("log", lambda rng, label, day: np.exp(0.015 * day) * exponential(rng, label, day))
    change = asked(world, now=110, per_day=2000)
    assert is_told(change)
    assert change.creeps
    assert change.factor > 1.5


def test_four_weeks_do_not_tell_what_is_usual() -> None:
    assert asked(World("log"), now=34) is None
    assert asked(World("log"), now=37) is not None


def test_volume_that_falls_does_not_make_labels_look_older() -> None:
    """Growth of one percent a day, and a fall to a third: the last week holds more of its older windows."""
    world = World("log", lognormal, on_weekdays, weekly_volume=True, growth=0.01)
    for now in (122, 125, 129):
        change = asked(world, now=now, per_day=3000)
        assert abs(math.log(change.factor)) < math.log(1.1)


def test_the_batch_at_the_end_of_a_month_does_not_make_labels_look_sooner() -> None:
    """As of the newest landing the week before it is labelled, as few weeks were at that age."""
    world = next(world for world in WORLDS if world.name == "monthly")
    for now, newest in ((149, 120.1), (181, 151.1), (211, 181.1)):
        change = asked(world, now=now, per_day=1000, newest=START + newest * DAY)
        assert not is_told(change), (now, change)


def test_windows_that_are_missing_leave_the_weekdays_where_they_are() -> None:
    world = World("log", lognormal, weekly)
    log = Log(world, np.random.default_rng(3), per_day=400, days=90, change=Change())
    windows = [
        (Window(START + day * DAY, START + (day + 1) * DAY), log.window(day, 90)) for day in range(90) if day % 11
    ]
    change = lateness_of(windows, now=START + 90 * DAY)
    assert change is not None
    assert not is_told(change)


def test_days_on_which_clocks_change_are_days() -> None:
    """In autumn one day is 25 hours long, and the days after it begin an hour later in UTC."""
    log = Log(World("log", lognormal, weekly), np.random.default_rng(3), per_day=400, days=100, change=Change())

    def starts(day: int) -> datetime:
        return START + day * DAY + timedelta(hours=int(day > 83))

    windows = [(Window(starts(day), starts(day + 1)), log.window(day, 100)) for day in range(100)]
    change = lateness_of(windows, now=starts(100))
    assert change is not None, "a week is seven days, not seven times 25 hours"
    assert not is_told(change)


@pytest.mark.parametrize(
    ("length", "delay", "weeks"),
    [
        pytest.param(DAY / 24, 2 * DAY, 14 + 2 / 7, id="hours: a week and two days more than thirteen weeks"),
        pytest.param(DAY, 400 * DAY, 21, id="labels of a year: eight weeks more, and no year"),
        pytest.param(30 * DAY, 60 * DAY, 16 * 30 / 7, id="months stand for weeks"),
    ],
)
def test_how_far_back_windows_are_read(length: timedelta, delay: timedelta, weeks: float) -> None:
    assert looked_back(length, delay) / timedelta(weeks=1) == pytest.approx(weeks)


def test_a_month_of_windows_is_held_against_the_months_before() -> None:
    """Windows of 30 days; labels take a month or two, and from the eighteenth window on twice that."""
    rng, edges, month = np.random.default_rng(5), age_edges(120 * 86400.0), 30
    for slower in (1.0, 2.0):
        windows = []
        for place in range(20):
            made, label = month * (place + np.sort(rng.random(800))), (rng.random(800) < 0.2).astype(float)
            delay = rng.exponential(40.0, 800) * (slower if place >= 18 else 1.0)
            age = 20 * month - made
            known, seen = (np.where(delay <= age, each, np.nan) for each in (delay * 86400, label))
            counts = count_delays(known, seen, age * 86400, edges=edges, mature=90 * 86400.0)
            windows.append((Window(START + place * month * DAY, START + (place + 1) * month * DAY), counts))
        assert is_told(lateness_of(windows, now=START + 20 * month * DAY)) is (slower > 1), slower


def test_labels_held_up_by_an_outage_are_none_that_take_longer() -> None:
    change = Change("stop", KNOWN, KNOWN + 9)
    now = KNOWN + 13
    assert is_told(asked(World("log"), change, now=now))
    known = [Silent(START + KNOWN * DAY, START + (KNOWN + 9) * DAY)]
    assert not is_told(asked(World("log"), change, now=now, silences=known))


# --- outages ---------------------------------------------------------------------------------------


def test_a_silence_is_from_the_newest_landing_to_the_first_look_that_saw_labels_again() -> None:
    def look(day: int, newest: int, verdict: Verdict = Verdict.OK) -> Result:
        told = {"as_of": (START + day * DAY).isoformat(), "newest": (START + newest * DAY).isoformat()}
        return Result("m", Check.QUALITY, OUTAGE, Window(START, START + DAY), 1.0, verdict, detail=told)

    looks = [look(9, 9), look(10, 9), look(11, 9, Verdict.ALERT), look(12, 9, Verdict.ALERT)]
    assert silences(looks, now=START + 20 * DAY) == [Silent(START + 9 * DAY, START + 20 * DAY)]
    assert silences([*looks, look(13, 13)], now=START + 20 * DAY) == [Silent(START + 9 * DAY, START + 13 * DAY)]


def limit(landing: Any, *, days: int = 100, window: timedelta = DAY) -> float | None:
    """The longest usual silence where labels of many predictions land so, looked at after each window."""
    rng = np.random.default_rng(2)
    due = np.sort(landing(rng, np.sort(rng.uniform(0, days, 200 * days))))

    def seen(now: float) -> Any:
        newest = due[np.searchsorted(due, now, side="right") - 1]
        return _looked(START + timedelta(days=now), START + timedelta(days=float(newest)))

    step = window / DAY
    looks = [seen(at) for at in np.arange(math.ceil(due[0]) + step, days, step)]
    now = seen(float(days))
    return longest_usual(looks, now=now.at, newest=now.newest, length=window)


def _looked(at: datetime, newest: datetime) -> Any:
    from monitor.delays import _Look

    return _Look(at, newest)


@pytest.mark.parametrize(
    ("landing", "least", "most"),
    [
        pytest.param(steady, 0.4, 1.1, id="all day long: half a window"),
        pytest.param(daily, 0.6, 1.6, id="each night"),
        pytest.param(on_weekdays, 0.4, 3.1, id="on weekdays: looks of this weekday only"),
        pytest.param(weekly, 1.0, 8.0, id="weekly: the day after the batch that is missing"),
        pytest.param(irregular, 6.0, 20.0, id="irregular: longer than any gap"),
        pytest.param(monthly, 31.0, 80.0, id="monthly"),
    ],
)
def test_how_long_a_silence_is_usual_follows_from_earlier_ones(landing: Any, least: float, most: float) -> None:
    found = limit(landing)
    assert found is not None
    assert least <= found <= most


def test_hours_wait_for_a_weekend_before_they_call_silence_unusual() -> None:
    hour = timedelta(hours=1)
    assert limit(on_weekdays, days=5, window=hour) is None
    found = limit(on_weekdays, days=21, window=hour)
    assert found is not None
    assert found >= 2.0


@pytest.mark.slow
@pytest.mark.parametrize(("world", "lasts"), OUTAGES, ids=lambda each: getattr(each, "name", None))
def test_an_outage_is_told_ends_and_leaves_no_other_finding(world: World, lasts: float) -> None:
    found = outage(world, lasts=lasts, per_day=300, run=1, seed=5)
    assert found.told is not None
    assert found.told <= lasts
    assert found.over == 0
    if world.landing is not irregular:  # there it errs about once a year anyway, as the docs say
        assert found.delay_told == 0


@pytest.mark.slow
def test_months_without_a_change_have_no_finding_from_the_first_day_on() -> None:
    for name in ("weekdays, growth", "weekly", "monthly", "a tenth corrected"):
        found = false_months(next(each for each in WORLDS if each.name == name), per_day=200, months=6, seed=9)
        assert (found.delay, found.outage) == (0, 0), name


@pytest.mark.slow
def test_labels_that_take_twice_as_long_are_told_within_two_weeks() -> None:
    days = days_to_tell(World("log", lognormal, on_weekdays), "doubled", per_day=500, runs=3, seed=2)
    assert all(day is not None and day <= 14 for day in days)


def test_a_watch_looks_at_windows_as_the_service_counted_them() -> None:
    log = Log(World("log"), np.random.default_rng(4), per_day=100, days=40, change=Change())
    seen = Watch(log)._seen(20, 30)
    assert seen.as_of == (START + 29 * DAY).timestamp(), "of the ages 0, 1, 2, 3, 4, 6, 8, 11, 15, 20"
    assert seen.landed.sum() == replace(seen, landed=log.window(20, 29).landed).landed.sum()
    assert Watch(log).look(30)[DELAY] is Verdict.CANNOT_TELL
