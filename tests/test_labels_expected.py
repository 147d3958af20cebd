"""How many labels a window will have is said with an interval, and a replay does not learn from its own future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from detectors.delay_counts import DelayCounts, age_edges, count_delays
from detectors.posterior import Landed
from monitor.config import ModelConfig
from monitor.delays import labels_expected
from monitor.label_counting import DELAYS, Grid
from monitor.labels import findings, lateness
from monitor.models import StoredProfile, Window
from monitor.store import Store

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
GRID = Grid(age_edges(21 * 86400.0, 40), np.array([]), 20 * 86400.0)
N = 400


class Log:
    """Daily windows, of whose predictions nine in ten get a label after some days, ever slower or not."""

    def __init__(self, seed: int, *, slower: float = 0.0, days: int = 80) -> None:
        rng = np.random.default_rng(seed)
        self.delays = [
            np.where(rng.random(N) < 0.9, rng.exponential(5.0 * np.exp(slower * day + rng.normal(0, 0.1)), N), np.inf)
            for day in range(days)
        ]
        self.labels = [(rng.random(N) < 0.3).astype(float) for _ in range(days)]
        self.at = np.arange(N) / N

    def window(self, day: int) -> Window:
        return Window(START + day * DAY, START + (day + 1) * DAY)

    def counts(self, day: int, now: float) -> DelayCounts:
        ages = now - day - self.at
        held = self.delays[day] <= ages
        known, seen = np.where(held, self.delays[day] * 86400, np.nan), np.where(held, self.labels[day], np.nan)
        return count_delays(
            known, seen, ages * 86400, edges=GRID.edges, n_strata=GRID.n_strata, mature=GRID.mature,
            as_of=(START + now * DAY).timestamp(),
        )  # fmt: skip

    def landed(self, day: int, now: float) -> Landed:
        held = self.delays[day] <= now - day - self.at
        labels = np.zeros((4, 1, 2), np.int64)
        np.add.at(labels, (np.arange(N) * 4 // N, 0, self.labels[day].astype(int)), held)
        ages = (now - day - (np.arange(4) + 0.5) / 4) * 86400
        return Landed(ages, np.full((4, 1), N // 4), labels, np.array([2]))


@pytest.mark.parametrize("slower", [0.0, 0.01])
@pytest.mark.parametrize("age", [2, 6])
def test_the_share_of_labels_at_maturity_is_inside_its_interval(age: int, slower: float) -> None:
    held = widths = 0.0
    for seed in range(25):
        log, now = Log(seed, slower=slower), 78.0
        day = int(now) - age - 1
        windows = [(log.window(each), log.counts(each, now)) for each in range(day - 48, day)]
        due = log.window(day).end + 20 * DAY
        found = labels_expected(log.landed(day, now), windows, log.window(day), now=START + now * DAY, due=due)
        assert found is not None
        held += found.low <= float((log.delays[day] <= day + 21 - day - log.at).mean()) <= found.high
        widths += found.high - found.low
    assert held >= 22
    assert widths / 25 < 0.2


def test_nothing_is_expected_before_enough_windows_are_that_old() -> None:
    log = Log(1)
    windows = [(log.window(each), log.counts(each, 23.0)) for each in range(20)]
    due = log.window(20).end + 20 * DAY
    assert labels_expected(log.landed(20, 23.0), windows, log.window(20), now=START + 23 * DAY, due=due) is None


def test_a_replay_learns_from_what_was_known_then(tmp_path: Path) -> None:
    log, now = Log(2), 60.0
    model = ModelConfig.model_validate({"table": "t", "time": "at", "labels": {"label": "y", "delay": "20d"}})
    laws = []
    for counted_at in (now, 79.0):
        store = Store.open(f"sqlite:///{tmp_path}/{counted_at}.db")
        store.save_profiles([
            StoredProfile("m", log.window(day), DELAYS, log.counts(day, counted_at)) for day in range(int(now))
        ])  # fmt: skip
        found = lateness(
            store, "m", model, baseline=None, window=log.window(58), now=START + now * DAY, grid=GRID
        )  # fmt: skip
        assert found is not None
        laws.append(found)
        store.close()
    then, replayed = laws
    assert [window for window, _ in then.windows] == [window for window, _ in replayed.windows]
    youngest = replayed.windows[-1][1]
    assert youngest.landed.sum() <= then.windows[-1][1].landed.sum()
    for age in (1, 3, 6, 10):
        first, second = (law.law.completeness(age * 86400.0, 0) for law in laws)
        assert second.share == pytest.approx(first.share, abs=3 * np.sqrt(first.log_variance) * first.share)


def test_nothing_is_said_of_labels_before_the_log_began() -> None:
    log = Log(3)
    late: Any = SimpleNamespace(windows=[(log.window(day), log.counts(day, 40.0)) for day in range(5, 30)])
    nothing = Landed(np.array([3600.0]), np.zeros((1, 1), np.int64), np.zeros((1, 1, 2), np.int64), np.array([2]))
    before = cast("Any", SimpleNamespace(window=log.window(2)))
    for each in (None, late):
        assert (
            findings(
                before,
                nothing,
                each,
                grid=cast("Any", None),
                store=cast("Any", None),
                newest=START,
                now=START + 40 * DAY,
            )
            == []
        )
