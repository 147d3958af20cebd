"""Windows are contiguous, non-overlapping and half-open, whatever the zone, the length and the season."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitor.models import Window
from monitor.windows import WindowError, cuts, due_windows, fires_between, split_catch_up

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = sorted(available_timezones() - {"localtime", "Factory"})
LENGTHS = ["15m", "45m", "1h", "5h", "6h", "7h", "12h", "16h", "1d", "3d", "14d", "1w", "36h"]
CRONS = ["0 6 * * *", "30 2 * * *", "0 */4 * * *", "15 9 * * 1-5", "0 0 1 * *", "*/30 * * * *"]


def at(text: str, zone: ZoneInfo = BERLIN) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def lengths(window: str, start: str, end: str, zone: ZoneInfo = BERLIN) -> list[float]:
    return [each.length / timedelta(hours=1) for each in cuts(window, zone, start=at(start, zone), end=at(end, zone))]


@settings(max_examples=150, deadline=None)
@given(
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    window=st.sampled_from(LENGTHS + CRONS),
    start=st.integers(0, 20 * 365 * 24 * 60).map(lambda m: datetime(2005, 1, 1, tzinfo=UTC) + timedelta(minutes=m)),
    days=st.integers(1, 40),
)
@example(ZoneInfo("Pacific/Apia"), "1d", datetime(2011, 12, 27, tzinfo=UTC), 8)
@example(ZoneInfo("Pacific/Apia"), "6h", datetime(2011, 12, 27, tzinfo=UTC), 8)
@example(ZoneInfo("Australia/Lord_Howe"), "1h", datetime(2024, 4, 5, tzinfo=UTC), 4)
@example(ZoneInfo("Australia/Lord_Howe"), "30 2 * * *", datetime(2024, 10, 4, tzinfo=UTC), 4)
@example(ZoneInfo("Asia/Kathmandu"), "15m", datetime(2020, 1, 1, tzinfo=UTC), 2)
@example(ZoneInfo("America/Sao_Paulo"), "1d", datetime(2018, 11, 1, tzinfo=UTC), 10)
@example(ZoneInfo("America/Havana"), "6h", datetime(2024, 11, 1, tzinfo=UTC), 5)
@example(ZoneInfo("Europe/Berlin"), "30 2 * * *", datetime(2024, 10, 25, tzinfo=UTC), 5)
def test_windows_are_contiguous_and_do_not_depend_on_where_one_begins_to_look(
    zone: ZoneInfo, window: str, start: datetime, days: int
) -> None:
    end = start + timedelta(days=days)
    found = list(cuts(window, zone, start=start, end=end))
    assert all(one.end == two.start for one, two in pairwise(found))
    assert all(each.start >= start and each.end <= end and each.start.tzinfo is UTC for each in found)
    middle = start + timedelta(days=days) / 2
    assert list(cuts(window, zone, start=middle, end=end)) == [each for each in found if each.start >= middle]
    around = list(cuts(window, zone, start=start - timedelta(days=70), end=end + timedelta(days=70)))
    assert [each for each in around if each.start >= start and each.end <= end] == found
    assert all(one.end == two.start for one, two in pairwise(around))
    assert around[0].start <= start
    assert around[-1].end >= end


def test_a_day_has_23_or_25_hours_when_the_clocks_change() -> None:
    assert lengths("1d", "2024-03-30", "2024-04-02") == [24, 23, 24]
    assert lengths("1d", "2024-10-26", "2024-10-29") == [24, 25, 24]


def test_hours_are_elapsed_hours_on_any_day() -> None:
    assert lengths("1h", "2024-03-31", "2024-04-01") == [1] * 23
    assert lengths("1h", "2024-10-27", "2024-10-28") == [1] * 25


def test_each_day_starts_afresh_and_a_short_rest_joins_the_window_before() -> None:
    assert lengths("6h", "2024-03-31", "2024-04-02") == [6, 6, 6, 5, 6, 6, 6, 6]
    assert lengths("6h", "2024-10-27", "2024-10-28") == [6, 6, 6, 7]
    assert lengths("5h", "2024-06-01", "2024-06-02") == [5, 5, 5, 5, 4]
    assert lengths("7h", "2024-06-01", "2024-06-02") == [7, 7, 10]
    assert lengths("16h", "2024-06-01", "2024-06-02") == [16, 8]


def test_days_are_local_days() -> None:
    first = next(cuts("1d", BERLIN, start=at("2024-06-01"), end=at("2024-06-03")))
    assert first == Window(datetime(2024, 5, 31, 22, tzinfo=UTC), datetime(2024, 6, 1, 22, tzinfo=UTC))


def test_a_day_that_a_zone_never_had_is_no_window() -> None:
    apia = ZoneInfo("Pacific/Apia")
    found = list(cuts("1d", apia, start=at("2011-12-28", apia), end=at("2012-01-02", apia)))
    assert [each.start.astimezone(apia).day for each in found] == [28, 29, 31, 1]


def test_weeks_begin_on_mondays_unless_an_anchor_says_otherwise() -> None:
    span = {"start": at("2024-06-01"), "end": at("2024-07-01")}
    monday = next(cuts("1w", BERLIN, **span))
    saturday = next(cuts("7d", BERLIN, **span, anchor=date(2020, 2, 29)))
    assert monday.start.astimezone(BERLIN).strftime("%a %H:%M") == "Mon 00:00"
    assert saturday.start.astimezone(BERLIN).strftime("%a %d") == "Sat 01"


def test_fortnights_are_counted_from_the_anchor_also_before_it() -> None:
    anchor = at("2024-06-05 13:00")
    found = list(cuts("14d", BERLIN, start=at("2024-05-01"), end=at("2024-07-10"), anchor=anchor))
    assert [each.start.astimezone(BERLIN).strftime("%m-%d") for each in found] == ["05-08", "05-22", "06-05", "06-19"]


def test_a_cron_cuts_from_fire_to_fire_once_in_autumn() -> None:
    found = list(cuts("30 2 * * *", BERLIN, start=at("2024-10-26"), end=at("2024-10-29")))
    assert [each.length for each in found] == [timedelta(hours=24), timedelta(hours=25)]


def test_sunday_is_zero_in_a_cron() -> None:
    found = next(cuts("0 0 * * 0", ZoneInfo("UTC"), start=datetime(2024, 6, 3, tzinfo=UTC), end=at("2024-07-01")))
    assert found.start.strftime("%A") == "Sunday"


def test_a_window_is_due_once_it_has_settled() -> None:
    start, settle = at("2024-06-01"), timedelta(minutes=15)

    def due(now: str) -> int:
        return len(due_windows("1h", BERLIN, start=start, now=at(now), settle=settle))

    assert (due("2024-06-01 01:14:59"), due("2024-06-01 01:15"), due("2024-06-01 03:20")) == (0, 1, 3)
    assert due("2024-05-01") == 0


def test_windows_too_long_ago_are_skipped_but_never_the_newest() -> None:
    windows = list(cuts("1d", BERLIN, start=at("2024-06-01"), end=at("2024-06-11")))
    run, skip = split_catch_up(windows, at("2024-06-11 01:00"), timedelta(days=3))
    assert (len(run), len(skip)) == (3, 7)
    assert skip + run == windows
    assert split_catch_up(windows, at("2025-01-01"), timedelta(days=3)) == (windows[-1:], windows[:-1])
    assert split_catch_up([], at("2025-01-01"), timedelta(days=3)) == ([], [])


@pytest.mark.parametrize(
    ("window", "why"),
    [
        ("1 fortnight", "five fields"),
        ("sometimes", "expected a length"),
        ("30s", "at least a minute"),
        ("0 0 31 2 *", "ever fires"),
        ("61 * * * *", "ever fires"),
        ("@daily", "five fields"),
        ("", "expected a length"),
    ],
)
def test_what_cuts_nothing_is_refused_with_the_reason(window: str, why: str) -> None:
    with pytest.raises(WindowError, match=why):
        list(cuts(window, BERLIN, start=at("2024-01-01"), end=at("2024-02-01")))


def test_naive_times_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        next(cuts("1h", BERLIN, start=datetime(2024, 1, 1), end=at("2024-02-01")))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("after", "until", "expected"),
    [
        pytest.param("10:00", "10:14", False, id="not yet"),
        pytest.param("10:00", "10:15", True, id="the moment itself counts"),
        pytest.param("10:15", "11:14", False, id="the last fire was seen already"),
        pytest.param("10:15", "13:00", True, id="several fires were slept through"),
    ],
)
def test_a_schedule_tells_when_to_look_again(after: str, until: str, expected: bool) -> None:
    def at(clock: str) -> datetime:
        return datetime.fromisoformat(f"2026-03-02T{clock}+00:00")

    assert fires_between("15 * * * *", ZoneInfo("UTC"), after=at(after), until=at(until)) is expected
