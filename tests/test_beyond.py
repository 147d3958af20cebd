"""Rows beyond the baseline's range: next to impossible for independent rows, a matter of days where days differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from detectors.beyond import Beyond, beyond_range
from detectors.change import History, history_of
from detectors.edges import EdgeBuilder
from detectors.effective_size import Entities
from detectors.kernel import NumericCounter
from detectors.profiles import FloatArray, NumericProfile, NumericSpec, merge_all

ALPHA = 0.01
WINDOWS, ROWS = 21, 100

Draw = Callable[[np.random.Generator], FloatArray]
"""Rows of ``WINDOWS`` windows of a baseline and of one more, shape ``(WINDOWS + 1, ROWS)``."""


def followed(rng: np.random.Generator, memory: float) -> FloatArray:
    level = np.zeros(WINDOWS + 31)
    for at in range(1, len(level)):
        level[at] = memory * level[at - 1] + np.sqrt(1 - memory**2) * rng.standard_normal()
    return level[30:, np.newaxis]


def last_day(rng: np.random.Generator) -> FloatArray:
    """The mean of the last day's values, at each row: the end of one window is the beginning of the next."""
    total = np.concatenate([[0.0], np.cumsum(rng.standard_normal((WINDOWS + 2) * ROWS))])
    means = (total[ROWS:] - total[:-ROWS]) / ROWS**0.5
    found: FloatArray = means[: (WINDOWS + 1) * ROWS].reshape(WINDOWS + 1, ROWS)
    return found


def noise(rng: np.random.Generator) -> FloatArray:
    return rng.standard_normal((WINDOWS + 1, ROWS))


WANDER: dict[str, Draw] = {
    "independent rows": noise,
    "independent rows with heavy tails": lambda rng: rng.standard_t(2, (WINDOWS + 1, ROWS)),
    "each day has a level": lambda rng: 2 * followed(rng, 0.0) + noise(rng),
    "levels that follow one another": lambda rng: 2 * followed(rng, 0.7) + noise(rng),
    "skewed levels": lambda rng: np.exp(followed(rng, 0.0)) + noise(rng),
    "levels with heavy tails": lambda rng: 2 * rng.standard_t(4, (WINDOWS + 1, 1)) + noise(rng),
    "a mean of the last day": last_day,
    "each day has a scale": lambda rng: np.exp(0.4 * followed(rng, 0.0)) * noise(rng),
    "ten equal rows of each entity": lambda rng: np.repeat(rng.standard_normal((WINDOWS + 1, ROWS // 10)), 10, axis=1),
}


@dataclass
class World:
    spec: NumericSpec
    reference: NumericProfile
    history: History
    last: FloatArray

    @classmethod
    def drawn(cls, draw: Draw, rng: np.random.Generator) -> World:
        rows = draw(rng)
        builder = EdgeBuilder()
        builder.update(rows[:-1].ravel())
        spec = builder.spec()
        assert spec is not None
        days = [counted(spec, day) for day in rows[:-1]]
        reference = merge_all(days)
        assert isinstance(reference, NumericProfile)
        return cls(spec, reference, history_of(spec, days), rows[-1])

    def asked(self, values: FloatArray) -> Beyond | None:
        known = self.history
        current = counted(self.spec, values)
        return beyond_range(
            self.spec, self.reference, current, bins=known.bins, windows=known.windows, entities=known.entities
        )

    @property
    def top(self) -> float:
        return float(self.spec.edges[-1])


def counted(spec: NumericSpec, values: FloatArray) -> NumericProfile:
    counter = NumericCounter(spec)
    counter.update(values)
    return counter.profile()


def share_beyond(world: World, values: FloatArray) -> float:
    return float(((values > world.spec.edges[-1]) | (values < world.spec.edges[0])).mean())


@pytest.mark.parametrize("kind", WANDER)
def test_days_without_change_are_as_seldom_beyond_the_level_as_it_says(kind: str) -> None:
    rng = np.random.default_rng(31)
    false = 0
    for _ in range(300):
        world = World.drawn(WANDER[kind], rng)
        known = world.asked(world.last)
        false += share_beyond(world, world.last) >= 0.05 and known is not None and known.p_value <= ALPHA
    assert false <= 7, "300 windows at 1 %: more than seven come in one case of eighty"


@pytest.mark.parametrize("kind", WANDER)
def test_another_unit_is_found_whatever_wanders(kind: str) -> None:
    rng = np.random.default_rng(32)
    for _ in range(20):
        world = World.drawn(WANDER[kind], rng)
        known = world.asked(world.top + 1000 * (1 + np.abs(world.last)))
        assert known is not None
        assert known.p_value <= ALPHA


def test_a_tenth_of_independent_rows_just_beyond_the_range_is_found() -> None:
    rng = np.random.default_rng(33)
    found = 0
    for _ in range(50):
        world = World.drawn(noise, rng)
        values = world.last.copy()
        values[:10] = world.top + 0.1 * rng.random(10)
        known = world.asked(values)
        found += known is not None and known.p_value <= ALPHA
    assert found >= 45


def test_one_wild_value_among_rows_beyond_the_range_changes_nothing() -> None:
    world = World.drawn(WANDER["each day has a level"], np.random.default_rng(34))
    beyond = np.append(np.full(ROWS - 10, np.median(world.last)), world.top + 0.02 * np.arange(1, 11))
    wild = np.append(beyond[:-1], 1e8)
    usual, with_it = world.asked(beyond), world.asked(wild)
    assert usual is not None
    assert with_it is not None
    assert usual.p_value > ALPHA
    assert with_it.p_value == pytest.approx(usual.p_value, rel=0.05)


def test_both_ends_are_judged_alike() -> None:
    rng = np.random.default_rng(35)
    rows = WANDER["each day has a level"](rng)
    up = World.drawn(lambda _: rows, rng)
    down = World.drawn(lambda _: -rows, rng)
    values = np.linspace(up.top, up.top + 3, ROWS)
    high, low = up.asked(values), down.asked(-values)
    assert high is not None
    assert low is not None
    assert high.p_value == pytest.approx(low.p_value, rel=0.02)
    assert high.alike == pytest.approx(low.alike, abs=0.02)


def test_successive_windows_of_levels_that_follow_one_another_are_alike() -> None:
    rng = np.random.default_rng(36)
    worlds = [World.drawn(WANDER["levels that follow one another"], rng) for _ in range(20)]
    known = [world.asked(np.full(ROWS, world.top + 1)) for world in worlds]
    assert np.median([one.alike for one in known if one is not None]) > 0.2


def test_what_is_infinite_is_far() -> None:
    world = World.drawn(WANDER["each day has a level"], np.random.default_rng(37))
    known = world.asked(np.where(np.arange(ROWS) < 10, np.inf, 0.0))
    assert known is not None
    assert known.p_value <= 1e-6


def test_nothing_is_said_of_rows_within_the_range_and_of_too_few_windows() -> None:
    world = World.drawn(noise, np.random.default_rng(38))
    assert world.asked(np.zeros(ROWS)) is None
    few = replace(world.history, bins=world.history.bins[:7], windows=world.history.windows[:7])
    assert replace(world, history=few).asked(np.full(ROWS, world.top + 1)) is None


def test_rows_of_one_entity_count_as_few() -> None:
    """Where windows are too few, the groups of entities of the window itself show that rows come together."""
    rng = np.random.default_rng(39)
    world = World.drawn(noise, rng)
    groups = np.array([np.bincount([rng.integers(0, 10)] * 5, minlength=11) for _ in range(32)])
    known = replace(world.history, bins=groups, windows=(), entities=Entities())
    found = replace(world, history=known).asked(np.append(np.zeros(ROWS - 5), np.full(5, world.top + 1)))
    assert found is not None
    assert found.p_value > ALPHA
