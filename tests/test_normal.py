"""What windows are compared with is read column by column, and only counts over the same bins are added up."""

from __future__ import annotations

import weakref
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from detectors.kernel import NumericCounter
from detectors.profiles import Column, NumericProfile, NumericSpec, merge_all
from monitor import baselines, checks
from monitor.config import Config
from monitor.models import Baseline, Check, StoredProfile, Verdict, Window
from monitor.store import Store, blobs

START = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
N_DAYS, N_COLUMNS = 14, 6
N_ROWS = 1200
"""Enough for a window to be judged alone: those before it are not held."""
NAMES = [f"f{i}" for i in range(N_COLUMNS)]
TODAY = Window(START + N_DAYS * DAY, START + (N_DAYS + 1) * DAY)


def spec(shift: float) -> NumericSpec:
    edges = np.linspace(-2, 2, 41) + shift
    return NumericSpec(edges, np.zeros(41), np.linspace(0, 83, 11).astype(np.int64))


def counted(its: NumericSpec, rng: np.random.Generator, n: int = N_ROWS) -> NumericProfile:
    counter = NumericCounter(its)
    counter.update(rng.normal(size=n))
    return counter.profile()


def config(baseline: dict[str, object]) -> Config:
    model = {"table": "t", "time": "at", "baseline": baseline}
    return Config.model_validate({"sources": {"main": "sqlite:///log.db"}, "models": {"m": model}})


def day(number: int) -> Window:
    return Window(START + number * DAY, START + (number + 1) * DAY)


def save(store: Store, its: NumericSpec, days: range, rng: np.random.Generator, *, window: Window | None) -> Baseline:
    """A baseline over these bins, and the profiles of some days counted over them."""
    columns = {name: Column(name, its, counted(its, rng)) for name in NAMES}
    baseline = store.save_baseline(
        "m", spec_hash="h", source="", window=window, n_rows=1, columns=columns, created_at=START,
        detail={"roles": {"features": dict.fromkeys(NAMES, "numeric")}},
    )  # fmt: skip
    for number in days:
        kept = [StoredProfile("m", day(number), name, counted(its, rng)) for name in NAMES]
        store.save_profiles(kept, baseline_id=baseline.id)
    return baseline


def test_windows_counted_over_other_bins_are_left_out_and_said_to_be(sqlite_url: str) -> None:
    rng = np.random.default_rng(1)
    with Store.open(sqlite_url) as store:
        save(store, spec(0.5), range(4), rng, window=None)  # as many cells, at other places
        newest = save(store, spec(0.0), range(4, N_DAYS), rng, window=None)
        found = baselines.reference(newest, config({"rolling": "14d"}), store=store, window=TODAY)
        alike = store.profiles("m", start=day(4).start, end=TODAY.start, columns=["f0"])
    assert found.other_bins == (4, N_DAYS)
    assert found.n_rows == 10 * N_ROWS
    wanted = merge_all([p.profile for p in alike if isinstance(p.profile, NumericProfile)])
    reference = found.columns["f0"].reference
    assert isinstance(reference, NumericProfile)
    assert isinstance(wanted, NumericProfile)
    assert np.array_equal(reference.cells, wanted.cells)
    scope = checks.Scope("m", config({"rolling": "14d"}).models["m"], TODAY, 1)
    (told,) = checks.other_bins(scope, *found.other_bins)
    assert (told.check, told.verdict, told.value) == (Check.QUALITY, Verdict.CANNOT_TELL, pytest.approx(4 / 14))
    assert "4 of the 14 windows before were counted over other bins" in told.detail["what"]


def test_the_same_bins_under_another_number_are_added_up(sqlite_url: str) -> None:
    rng = np.random.default_rng(2)
    with Store.open(sqlite_url) as store:
        save(store, spec(0.0), range(4), rng, window=None)
        newest = save(store, spec(0.0), range(4, N_DAYS), rng, window=None)
        found = baselines.reference(newest, config({"rolling": "14d"}), store=store, window=TODAY)
    assert found.other_bins == (0, N_DAYS)
    assert found.n_rows == N_DAYS * N_ROWS
    assert checks.other_bins(checks.Scope("m", config({"rolling": "14d"}).models["m"], TODAY, 1), 0, N_DAYS) == []


def test_where_no_window_has_the_bins_the_rows_that_they_were_made_of_stand_in(sqlite_url: str) -> None:
    rng = np.random.default_rng(3)
    with Store.open(sqlite_url) as store:
        save(store, spec(0.5), range(N_DAYS), rng, window=None)
        newest = save(store, spec(0.0), range(0), rng, window=None)
        found = baselines.reference(newest, config({"rolling": "14d"}), store=store, window=TODAY)
    assert found.other_bins == (N_DAYS, N_DAYS)
    assert found.n_rows == N_ROWS
    scope = checks.Scope("m", config({"rolling": "14d"}).models["m"], TODAY, 1)
    assert "stand in" in checks.other_bins(scope, *found.other_bins)[0].detail["what"]


@pytest.mark.parametrize("rolling", [True, False])
def test_counts_of_one_column_are_held_at_a_time(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, rolling: bool
) -> None:
    rng = np.random.default_rng(4)
    span = Window(START, TODAY.start)
    told = {"rolling": "14d"} if rolling else {"from": "2026-01-05", "to": "2026-01-19"}
    held: weakref.WeakSet[NumericProfile] = weakref.WeakSet()
    most = 0
    plain = blobs.decode

    def decode(kind: str, blob: bytes) -> object:
        nonlocal most
        found = plain(kind, blob)
        held.add(found)
        most = max(most, len(held))
        return found

    with Store.open(sqlite_url) as store:
        baseline = save(store, spec(0.0), range(N_DAYS), rng, window=None if rolling else span)
        baseline = store.baseline_by_id(baseline.id)
        monkeypatch.setattr(blobs, "decode", decode)
        found = baselines.reference(baseline, config(told), store=store, window=TODAY)
        assert len(found.columns) == N_COLUMNS
        assert most <= 2 * N_DAYS  # the next column is read while the last one is let go
        assert len(held) <= N_DAYS
        history = found.columns["f1"].history  # type: ignore[attr-defined]
        again = [window.n for window in history.windows]
    assert again == [N_ROWS] * N_DAYS
