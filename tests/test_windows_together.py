"""Windows that hold too little alone are judged together: what is found then, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import seasons
from detectors.change import Watched, history_of
from detectors.profiles import ColumnProfile, merge_all
from monitor.backtest import Memory, Replay
from monitor.checks import windows_together
from monitor.config import Config
from monitor.models import Verdict, Window

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


# --- a rolling baseline ------------------------------------------------------------------------------


def lived_with_rolling(*, shift: float) -> list[str]:
    """The verdicts of 40 windows of 60 rows, judged together, after ten days of such hours; half of them shifted."""
    rng = np.random.default_rng(4)
    flat = seasons.World({"x": np.repeat(seasons.normal_shares(np.zeros(1)), 168, axis=0)}, np.full(168, 60.0))
    profiles = seasons.lived(rng, flat, weeks=2, length=seasons.HOUR)[: 10 * 24 + 40]
    shares = seasons.normal_shares(np.array([shift]))[0]
    for place in range(10 * 24 + 20, len(profiles)):
        counts = rng.multinomial(profiles[place].profile.n, shares)
        profiles[place] = replace(profiles[place], profile=seasons.profile_of(SPEC, counts))
    start, end = seasons.START + 10 * seasons.DAY, profiles[-1].window.end
    model = {"table": "t", "time": "at", "window": "1h", "baseline": {"rolling": "10d"}}
    config = Config.model_validate({"sources": {"main": "sqlite:///x.db"}, "models": {"m": model}})
    baseline = seasons.baseline_of(profiles, {"x": SPEC}, span=Window(seasons.START, start))
    replay = Replay(config, "m", baseline, Memory(profiles, []), start=start, end=end)
    replay.run("rolling")
    told = [r for window in replay.windows for r in replay.memory.told(window) if r.metric == "psi_accumulated"]
    assert all(r.n_reference is not None and r.n_reference < 60 * 24 * 10 for r in told)
    return [r.verdict.value for r in told]


def test_small_windows_are_judged_together_against_the_part_of_a_rolling_baseline_before_them() -> None:
    well, sick = lived_with_rolling(shift=0.0), lived_with_rolling(shift=0.7)
    assert len(well) >= 30
    assert set(well) <= {Verdict.OK, Verdict.WARN}
    assert Verdict.ALERT in sick
