"""What past windows teach about delays is read once: a window of hours costs the same after three months as after one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import numpy as np
import pytest

from detectors.delay_counts import DelayCounts, age_edges, count_delays, known_by, merge, to_bytes
from monitor import delay_history
from monitor.delay_history import MAX_WINDOWS, history
from monitor.models import StoredProfile, Window
from monitor.store import ALL, Store

START, HOUR = datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1)
EDGES = age_edges(3 * 86400.0, 12)
ALIKE = count_delays([], [], [], edges=EDGES)
NAME, COLUMN = "model", "__delays__"


def counted(seed: int, window: Window, *, now: datetime) -> DelayCounts:
    rng = np.random.default_rng(seed)
    ages = now.timestamp() - window.start.timestamp() - 3600 * rng.random(20)
    delays = rng.exponential(43_200.0, 20)
    labels = np.where(delays <= ages, rng.integers(0, 2, 20), np.nan)
    return count_delays(delays, labels, ages, edges=EDGES, as_of=now.timestamp())


def hour(at: int) -> Window:
    return Window(START + at * HOUR, START + (at + 1) * HOUR)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store.open(database_url)
    yield opened
    opened.close()


def keep(store: Store, windows: range, *, now: datetime, seed: int = 0, segment: str | None = None) -> None:
    found = [(hour(at), counted(seed + at, hour(at), now=now)) for at in windows]
    store.save_profiles([StoredProfile(NAME, window, COLUMN, each, segment) for window, each in found])


def asked(store: Store, at: int, *, now: datetime, segment: Any = None) -> dict[str | None, delay_history.History]:
    return history(store, NAME, COLUMN, start=START, now=now, alike=ALIKE, leave_out=hour(at), segment=segment)


def plainly(store: Store, at: int, *, now: datetime) -> DelayCounts:
    found = store.profiles(NAME, start=START, end=now, columns=[COLUMN])
    told = [each.profile if each.profile.as_of <= now.timestamp() else known_by(each.profile, (now - each.window.end).total_seconds())
            for each in found if each.window != hour(at)]  # fmt: skip
    return reduce(merge, told)


def same(found: delay_history.History, expected: DelayCounts) -> bool:
    return to_bytes(reduce(merge, (each for _, each in found.windows))) == to_bytes(expected)


def test_groups_hold_what_their_windows_hold_and_are_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now, n = START + 400 * HOUR, 400
    keep(store, range(n), now=now)
    read: list[Window] = []
    real = Store.profiles

    def spy(self: Store, *arguments: Any, **more: Any) -> list[StoredProfile]:
        found = real(self, *arguments, **more)
        read.extend(each.window for each in found)
        return found

    monkeypatch.setattr(Store, "profiles", spy)
    first = asked(store, n - 1, now=now)[None]
    assert len(read) == n - 1
    assert len(first.windows) <= MAX_WINDOWS + 1
    assert {round(away * 24) % 6 for away in first.away} == {0}, "the groups of six hours"
    assert max(first.away) == 0
    read.clear()
    again = asked(store, n - 1, now=now)[None]
    assert [to_bytes(each) for _, each in again.windows] == [to_bytes(each) for _, each in first.windows]
    assert read == []
    keep(store, range(100, 101), now=now, seed=7)  # its labels have landed since
    fresh = asked(store, n - 1, now=now)[None]
    assert sorted(read) == [hour(at) for at in range(96, 102)]
    monkeypatch.undo()
    assert same(fresh, plainly(store, n - 1, now=now))
    assert not same(fresh, reduce(merge, (each for _, each in first.windows)))


def test_hours_are_put_together_to_days_where_days_are_asked_for(store: Store) -> None:
    now = START + 60 * HOUR
    keep(store, range(60), now=now)
    found = history(store, NAME, COLUMN, start=START, now=now, alike=ALIKE, leave_out=hour(59), step=24)[None]
    assert [window for window, _ in found.windows] == [
        Window(START, START + 24 * HOUR), Window(START + 24 * HOUR, START + 48 * HOUR),
        Window(START + 48 * HOUR, START + 59 * HOUR),
    ]  # fmt: skip
    assert same(found, plainly(store, 59, now=now))


def test_the_window_in_question_teaches_itself_nothing(store: Store) -> None:
    now = START + 200 * HOUR
    keep(store, range(200), now=now)
    for at in (0, 57, 199):
        assert same(asked(store, at, now=now)[None], plainly(store, at, now=now)), at


def test_a_replay_learns_what_was_known_then(store: Store) -> None:
    now = START + 200 * HOUR
    keep(store, range(200), now=now)
    for then in (START + 120 * HOUR, now, START + 60 * HOUR):
        found = asked(store, 50, now=then)[None]
        assert same(found, plainly(store, 50, now=then)), then
        assert max(window.end for window, _ in found.windows) <= then


def test_a_group_is_known_as_of_the_window_that_was_counted_first(store: Store) -> None:
    """What landed since then may be missing in it; and a replay of a time between the two sees neither's future."""
    early, now = START + 300 * HOUR, START + 400 * HOUR
    keep(store, range(400), now=now)
    keep(store, range(96, 99), now=early, seed=3)
    found = asked(store, 399, now=now)[None]
    known = {window.start: each.as_of for window, each in found.windows}
    assert known[hour(96).start] == early.timestamp()
    assert {at for start, at in known.items() if start != hour(96).start} == {now.timestamp()}
    between = START + 350 * HOUR
    assert same(asked(store, 349, now=between)[None], plainly(store, 349, now=between))


def test_segments_have_groups_of_their_own(store: Store) -> None:
    now = START + 100 * HOUR
    keep(store, range(100), now=now)
    keep(store, range(20, 60), now=now, seed=500, segment="region=north")
    found = asked(store, 99, now=now, segment=ALL)
    assert set(found) == {None, "region=north"}
    expected = reduce(merge, (counted(500 + at, hour(at), now=now) for at in range(20, 60)))
    assert same(found["region=north"], expected)
    assert same(found[None], plainly(store, 99, now=now))


def test_counts_over_other_ages_are_left_out(store: Store) -> None:
    now = START + 30 * HOUR
    keep(store, range(20), now=now)
    other = count_delays([1.0], [1.0], [9e9], edges=age_edges(50.0, 5))
    store.save_profiles([StoredProfile(NAME, hour(at), COLUMN, other) for at in range(20, 25)])
    assert len(asked(store, 29, now=now)[None].windows) == 20


def test_what_is_kept_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delay_history, "_MOST_BYTES", 5000)
    now = START + 50 * HOUR
    keep(store, range(50), now=now)
    for at in (1, 2, 3):
        assert same(asked(store, at, now=now)[None], plainly(store, at, now=now))
    assert delay_history._kept[store].n_bytes <= 5000
