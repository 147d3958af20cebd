"""Late labels on real delays and on simulated ones: what is said early holds up later, and drifting delays are told."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.delay import LAWS, NOW, WORLD, delays, is_told_as_drifting, landed, rows, run
from detectors.completeness import completeness_ahead
from detectors.corrected import corrected
from detectors.delay import learn
from detectors.delay_counts import DelayCounts, age_edges, count_delays, merge
from detectors.posterior import Landed
from monitor.delays import lateness_of
from monitor.models import Window

SETS = Path(__file__).parents[2] / "shared" / "data" / "sets"
needs_data = pytest.mark.skipif(not SETS.is_dir(), reason="the shared data sets are not beside this checkout")
HOUR, DAY = 3600.0, 86400.0


# --- simulated -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("name", list(LAWS))
def test_corrected_intervals_hold_without_being_wide(name: str, share: float) -> None:
    _, out = run(LAWS[name], share, histories=6, targets=30, per_day=2000)
    least = 0.80 if name == "drifting" else 0.88
    # 180 trials: three standard errors of the share, so that chance does not fail the build.
    allowed = least - 3 * math.sqrt(least * (1 - least) / out.trials)
    for metric in ("precision", "recall"):
        assert out.held[metric] / out.trials >= allowed, metric
        assert np.mean(out.width[metric]) <= 2 * np.mean(out.ideal[metric]), metric
    if name in ("by class", "drifting", "in batches"):  # elsewhere labelled-only precision is a fair sample
        assert np.mean(out.error["precision"]) <= 0.5 * np.mean(out.labelled_only["precision"])
    if name == "by score":
        assert np.mean(out.error["recall"]) <= 0.5 * np.mean(out.labelled_only["recall"])
    assert out.drift_told == (out.histories if name == "drifting" else 0)


def test_labels_that_take_longer_are_told_and_steady_ones_are_not() -> None:
    rng = np.random.default_rng(3)
    days = np.arange(NOW - 120, NOW)
    for name, expected in (("by class", False), ("drifting", True)):
        windows = [delays(rows(rng, LAWS[name], days=np.array([day]), per_day=500)) for day in days]
        assert is_told_as_drifting(days, windows) is expected, name


def test_labels_that_land_on_weekdays_only_are_not_told_as_a_change() -> None:
    start, now = datetime(2026, 1, 5, tzinfo=UTC), 42.0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        windows = []
        for day in range(42):
            made, label = day + np.arange(300) / 300, (rng.random(300) < 0.3).astype(float)
            due = made + rng.exponential(3.0, 300)
            delay = np.where(due % 7 >= 5, np.ceil(due / 7) * 7, due) - made
            known, seen = (np.where(delay <= now - made, each, np.nan) for each in (delay * DAY, label))
            counts = count_delays(known, seen, (now - made) * DAY, edges=age_edges(15 * DAY, 60))
            windows.append((Window(start + timedelta(days=day), start + timedelta(days=day + 1)), counts))
        change = lateness_of(windows, now=start + timedelta(days=now))
        assert change is not None
        assert change.p_value > 1e-4, change


def test_before_any_negative_can_have_landed_there_is_no_answer() -> None:
    rng = np.random.default_rng(4)
    windows = [delays(rows(rng, LAWS["by class"], days=np.array([day]), per_day=500)) for day in range(30, 147)]
    part = rows(rng, LAWS["by class"], days=np.array([NOW - 3.0]), per_day=3000)
    law = learn(reduce(merge, windows), windows=windows)
    found = corrected(landed(part), law)
    assert {(each.value, each.reason) for each in found.values()} == {(None, "not_identifiable")}
    # Where the lack of a label will mean negative, positives alone tell.
    told = corrected(landed(part), law, absent=0)["precision"]
    assert told.low is not None
    assert told.high is not None
    truth = part.labels[WORLD.decisions[part.strata] == 1].mean()
    assert told.low <= truth <= told.high


# --- flights ---------------------------------------------------------------------------------------


def flight_days() -> list[pd.DataFrame]:
    columns = ["sched_dep_utc", "label_time_utc", "late15"]
    frame = pd.read_parquet(SETS / "nyc_flights13.parquet", columns=columns)
    frame = frame.sort_values("sched_dep_utc")
    return [part for _, part in frame.groupby(frame.sched_dep_utc.dt.floor("D"))]


FLIGHT_EDGES = age_edges(72 * HOUR)


def flight_delays(day: pd.DataFrame, now: pd.Timestamp) -> DelayCounts:
    known = day.late15.notna() & (day.label_time_utc <= now)
    delay = (day.label_time_utc - day.sched_dep_utc).dt.total_seconds()
    return count_delays(
        delay.where(known), day.late15.astype(float).where(known), (now - day.sched_dep_utc).dt.total_seconds(),
        edges=FLIGHT_EDGES,
        strata=day.sched_dep_utc.dt.hour.to_numpy() // 2,
        n_strata=12,
    )  # fmt: skip


def flights_landed(day: pd.DataFrame, now: pd.Timestamp) -> Landed:
    slot = day.sched_dep_utc.dt.hour.to_numpy()
    known = (day.late15.notna() & (day.label_time_utc <= now)).to_numpy()
    labels = np.zeros((24, 12, 2), np.int64)
    np.add.at(labels, (slot[known], slot[known] // 2, day.late15[known].astype(int).to_numpy()), 1)
    predictions = np.zeros((24, 12), np.int64)
    np.add.at(predictions, (slot, slot // 2), 1)
    return Landed((23.5 - np.arange(24)) * HOUR, predictions, labels, np.full(12, 2))


@pytest.mark.slow
@needs_data
def test_the_share_of_late_flights_at_the_end_of_each_day() -> None:
    days = flight_days()
    mature = [flight_delays(day, day.sched_dep_utc.iloc[0] + pd.Timedelta("30D")) for day in days]
    errors, labelled_only, held = [], [], 0
    for place in range(28, len(days)):
        now = days[place].sched_dep_utc.iloc[0].floor("D") + pd.Timedelta("1D")
        young = [flight_delays(days[at], now) for at in range(place - 3, place)]
        windows = [*mature[place - 28 : place - 3], *young]
        law = learn(reduce(merge, windows), windows=windows)
        measure = corrected(flights_landed(days[place], now), law, metrics=["prevalence"])["prevalence"]
        seen = days[place][days[place].label_time_utc <= now].late15.mean()
        truth = days[place].late15.mean()
        assert measure.value is not None
        assert measure.low is not None
        assert measure.high is not None
        errors.append(abs(measure.value - truth))
        labelled_only.append(abs(seen - truth))
        held += measure.low <= truth <= measure.high
    closer = np.mean(np.array(errors) < np.array(labelled_only))
    print(f"corrected {np.mean(errors):.4f}, labelled-only {np.mean(labelled_only):.4f}, closer on {closer:.1%}, "
          f"inside the 95 % interval {held / len(errors):.1%} of {len(errors)} days")  # fmt: skip
    assert np.mean(errors) <= 0.75 * np.mean(labelled_only)
    assert closer > 0.5
    assert held >= 0.95 * len(errors)


# --- reporting delays of two diseases --------------------------------------------------------------


@needs_data
def test_dengue_reports_of_later_years_fall_into_the_predicted_interval() -> None:
    frame = pd.read_parquet(SETS / "delay_denguedat.parquet")
    onset, report = pd.to_datetime(frame.onset_week), pd.to_datetime(frame.report_week)
    delay, year = (report - onset).dt.days / 7, onset.dt.year
    inside = total = 0
    for target in range(1996, 2010):
        for weeks in (1, 2, 3, 4, 6, 8, 12):
            past = [_landed_by(delay[(year == y) & (delay <= 26)], weeks) for y in range(1990, target)]
            part, whole = _landed_by(delay[(year == target) & (delay <= 26)], weeks)
            _, low, high = completeness_ahead(past, n=whole)
            inside += low <= part / whole <= high
            total += 1
    print(f"dengue: {inside} of {total} completenesses inside the 95 % interval")
    assert inside >= 0.95 * total


def _landed_by(delay: pd.Series, age: float) -> tuple[float, float]:
    return float((delay <= age).sum()), float(len(delay))


@needs_data
def test_aids_reports_still_to_come_fall_into_the_predicted_interval() -> None:
    frame = pd.read_parquet(SETS / "delay_aids_uk.parquet")
    frame = frame[(frame.dud == 0) & (frame.delay <= 14)]
    wide = frame.pivot_table(index="time", columns="delay", values="y", aggfunc="sum")
    full = wide.dropna()
    inside = total = 0
    for place in range(8, len(full)):
        for delay in (1, 2, 4, 6, 8):
            known = full.loc[:, :delay].sum(axis=1), full.sum(axis=1)
            past = [(float(known[0].iloc[at]), float(known[1].iloc[at])) for at in range(place)]
            part, whole = float(known[0].iloc[place]), float(known[1].iloc[place])
            _, low, high = completeness_ahead(past, n=whole)
            inside += low <= part / whole <= high
            total += 1
    print(f"aids: {inside} of {total} completenesses inside the 95 % interval")
    assert inside >= 0.95 * total


# --- how complete groups of reports will be ---------------------------------------------------------


def groups_ahead(
    rng: np.random.Generator, *, n: int, differ: float, wander: float, trend: float, past: int = 16
) -> tuple[bool, float]:
    """One history of groups whose log-odds of completeness differ, wander and drift: was the next one inside?"""
    level = 0.4 + np.cumsum(rng.normal(0, wander, past + 1)) + trend * np.arange(past + 1)
    share = 1 / (1 + np.exp(-level - rng.normal(0, differ, past + 1)))
    landed = rng.binomial(n, share)
    found = completeness_ahead([(float(each), float(n)) for each in landed[:-1]], n=n)
    return found.low <= landed[-1] / n <= found.high, found.high - found.low


@pytest.mark.parametrize("trend", [0.0, 0.05])
@pytest.mark.parametrize(("differ", "wander"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.2), (0.3, 0.3)])
def test_completeness_of_the_next_group_is_inside_however_groups_differ(
    differ: float, wander: float, trend: float
) -> None:
    rng = np.random.default_rng(5)
    held = [groups_ahead(rng, n=800, differ=differ, wander=wander, trend=trend)[0] for _ in range(100)]
    assert np.mean(held) >= 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / 100)


def test_the_interval_of_completeness_is_little_wider_than_chance_where_groups_are_alike() -> None:
    rng = np.random.default_rng(0)
    widths = [groups_ahead(rng, n=800, differ=0.0, wander=0.0, trend=0.0, past=30)[1] for _ in range(40)]
    by_chance = 2 * 1.96 * math.sqrt(0.6 * 0.4 / 800)
    assert np.mean(widths) <= 1.5 * by_chance


def test_a_group_far_ahead_is_known_less_well_than_the_next_one() -> None:
    past = [(float(part), 500.0) for part in (300, 310, 290, 305, 330, 340, 350, 345)]
    near, far = completeness_ahead(past), completeness_ahead(past, target=20.0)
    assert far.high - far.low > near.high - near.low


def test_three_groups_do_not_tell_how_much_groups_differ() -> None:
    with pytest.raises(ValueError, match="4 earlier groups"):
        completeness_ahead([(1, 2), (1, 2), (1, 2)])
