"""Logs whose labels land late in many ways, for what is asked of ``label_delay`` and ``label_outage``.

A world is a law of delays (of either class, in days), a way in which labels are delivered, and what else moves in a log
without any change of delay: volume by weekday and growth, the mix of classes, the share that never gets a label.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from detectors.delay_counts import DelayCounts, age_edges
from detectors.profiles import FloatArray, IntArray

DAY = 86400.0
POSITIVE = 0.2
Law = Callable[[np.random.Generator, IntArray, IntArray], FloatArray]
"""``(rng, label, day)`` → days until the label is known."""
Landing = Callable[[np.random.Generator, FloatArray], FloatArray]
"""``(rng, due)`` → when labels that are known at ``due`` (days; infinite: never) are delivered."""


# --- laws ------------------------------------------------------------------------------------------


def exponential(rng: np.random.Generator, label: IntArray, day: IntArray) -> FloatArray:  # noqa: ARG001
    return rng.exponential(1.0, len(label)) * np.where(label == 1, 4.0, 6.0)


def lognormal(rng: np.random.Generator, label: IntArray, day: IntArray) -> FloatArray:  # noqa: ARG001
    middle, spread = np.where(label == 1, math.log(2.0), math.log(4.0)), np.where(label == 1, 1.0, 0.7)
    return np.exp(rng.normal(middle, spread))


def weibull(rng: np.random.Generator, label: IntArray, day: IntArray) -> FloatArray:  # noqa: ARG001
    """A long tail: half of the labels within two days, a tenth after twelve."""
    return rng.weibull(0.6, len(label)) * np.where(label == 1, 3.0, 4.0)


def two_lanes(rng: np.random.Generator, label: IntArray, day: IntArray) -> FloatArray:  # noqa: ARG001
    """A fast lane of hours, and a slow one of ten days."""
    fast = rng.random(len(label)) < np.where(label == 1, 0.8, 0.5)
    return np.where(fast, rng.exponential(0.15, len(label)), np.maximum(rng.normal(10.0, 2.0, len(label)), 3.0))


def uneven(rng: np.random.Generator, label: IntArray, day: IntArray) -> FloatArray:
    """The pace differs by 30 % from day to day."""
    return exponential(rng, label, day) * np.exp(rng.normal(0.0, 0.3, int(day.max()) + 1))[day]


def wandering(rng: np.random.Generator, label: IntArray, day: IntArray) -> FloatArray:
    """The pace goes up and down by 16 %, over three weeks."""
    return exponential(rng, label, day) * np.exp(_walk(rng, int(day.max()) + 1, keeps=0.95, step=0.05))[day]


def _walk(rng: np.random.Generator, days: int, *, keeps: float, step: float) -> FloatArray:
    found = np.zeros(days)
    for day, moved in enumerate(rng.normal(0.0, step, days - 1)):
        found[day + 1] = keeps * found[day] + moved
    return found


# --- deliveries ------------------------------------------------------------------------------------


def steady(rng: np.random.Generator, due: FloatArray) -> FloatArray:  # noqa: ARG001
    return due


def daily(rng: np.random.Generator, due: FloatArray) -> FloatArray:
    """A job each night, done between one and ten in the morning."""
    night = np.ceil(due)
    done = rng.uniform(0.02, 0.4, int(night[np.isfinite(night)].max()) + 2)
    return night + done[np.where(np.isfinite(night), night, 0).astype(np.int64)]


def on_weekdays(rng: np.random.Generator, due: FloatArray) -> FloatArray:  # noqa: ARG001
    return np.where(due % 7 >= 5, np.ceil(due / 7) * 7, due)


def weekly(rng: np.random.Generator, due: FloatArray) -> FloatArray:  # noqa: ARG001
    return np.ceil(due / 7) * 7 + 0.1


MONTHS = np.cumsum(np.tile([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], 20)).astype(np.float64)


def monthly(rng: np.random.Generator, due: FloatArray) -> FloatArray:  # noqa: ARG001
    """At the end of each calendar month."""
    return MONTHS[np.minimum(np.searchsorted(MONTHS, due), len(MONTHS) - 1)] + np.where(np.isfinite(due), 0.1, np.inf)


def irregular(rng: np.random.Generator, due: FloatArray) -> FloatArray:
    """Whenever somebody finds the time: every other day in the median, and a tenth of the gaps longer than four."""
    last = due[np.isfinite(due)].max()
    at = np.cumsum(np.exp(rng.normal(math.log(2.0), 0.6, int(last) + 60)))
    return np.where(np.isfinite(due), at[np.minimum(np.searchsorted(at, due), len(at) - 1)], np.inf)


def holidays(rng: np.random.Generator, due: FloatArray) -> FloatArray:
    """On weekdays, and every two months or so for three to five days not at all."""
    landed, at = on_weekdays(rng, due).copy(), rng.uniform(30, 90)
    while at < landed[np.isfinite(landed)].max():
        first, length = math.floor(at), int(rng.integers(3, 6))
        held = (landed >= first) & (landed < first + length)
        landed[held] = first + length + (landed[held] - first) / length * 0.3
        at += rng.uniform(40, 90)
    return landed


# --- worlds ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """One kind of log without any change of delay; windows are days, and ``mature`` is in days."""

    name: str
    law: Law = exponential
    landing: Landing = steady
    mature: int = 20
    weekly_volume: bool = False
    growth: float = 0.0
    """Growth of the volume a day; every 120 days it falls back at once."""
    mix: str = "steady"
    """The share of positives: ``steady``, in ``steps`` from 10 % to 30 % and back each 60 days, or it ``wanders``."""
    never: float = 0.0
    """The share of predictions that never get a label; where there is any, it differs from day to day."""
    corrected: float = 0.0
    """The share of labels that are corrected some days later: the newest time counts."""


WORLDS = (
    World("exponential"),
    World("lognormal", lognormal),
    World("Weibull", weibull),
    World("two lanes", two_lanes),
    World("uneven pace", uneven),
    World("pace wanders", wandering),
    World("daily job", lognormal, daily),
    World("weekdays, growth", lognormal, on_weekdays, weekly_volume=True, growth=0.01),
    World("holidays", lognormal, holidays),
    World("weekly", exponential, weekly),
    World("monthly", exponential, monthly, mature=45),
    World("irregular", exponential, irregular),
    World("mix in steps", exponential, mix="steps"),
    World("mix wanders", lognormal, mix="wanders"),
    World("a third never", lognormal, never=0.3),
    World("a tenth corrected", lognormal, corrected=0.1),
)


@dataclass(frozen=True)
class Change:
    """What happens on day ``since``, if anything; ``until`` is when an outage ends."""

    kind: str = "none"
    since: int = 0
    until: float = math.inf

    def delayed(self, delay: FloatArray, label: IntArray, day: IntArray, high: IntArray) -> FloatArray:
        """The delays (days) with the change; ``high`` are the predictions of the stratum of high scores."""
        changed = day >= self.since
        if self.kind == "doubled":
            return np.where(changed, 2 * delay, delay)
        if self.kind == "half as long again":
            return np.where(changed, 1.5 * delay, delay)
        if self.kind == "positives +3 d":
            return delay + 3.0 * changed * label
        if self.kind == "high scores doubled":
            return np.where(changed & (high == 1), 2 * delay, delay)
        if self.kind == "+2 % a day":
            return delay * np.exp(0.02 * np.maximum(day - self.since, 0))
        return delay

    def landed(self, due: FloatArray) -> FloatArray:
        """When labels land, with the change."""
        if self.kind == "weekly batches begin":
            return np.where(due >= self.since, np.ceil(due / 7) * 7, due)
        if self.kind == "stop":
            return np.where((due >= self.since) & (due < self.until), self.until, due)
        return due


@dataclass(frozen=True, eq=False)
class Rows:
    """Predictions in order of days: when each was made, its class and stratum, when it was labelled first and last."""

    day: IntArray
    made: FloatArray
    label: IntArray
    high: IntArray
    first: FloatArray
    last: FloatArray


def rows(world: World, rng: np.random.Generator, *, per_day: int, days: int, change: Change) -> Rows:
    at = np.arange(days)
    rate = per_day * np.exp(world.growth * (at % 120))
    if world.weekly_volume:
        rate *= np.array([1.2, 1.2, 1.2, 1.1, 1.2, 0.5, 0.6])[at % 7]
    day = np.repeat(at, rng.poisson(rate))
    share = np.full(days, POSITIVE)
    if world.mix == "steps":
        share = np.where(at // 60 % 2 == 0, 0.1, 0.3)
    elif world.mix == "wanders":
        share = 1 / (1 + np.exp(1.4 - _walk(rng, days, keeps=0.97, step=0.15)))
    made, label = day + rng.random(len(day)), (rng.random(len(day)) < share[day]).astype(np.int64)
    high = (rng.random(len(day)) < 0.1).astype(np.int64)
    known = made + change.delayed(world.law(rng, label, day), label, day, high)
    if world.never:
        odds = math.log(world.never / (1 - world.never)) + rng.normal(0.0, 0.3, days)
        known = np.where(rng.random(len(day)) < (1 / (1 + np.exp(-odds)))[day], np.inf, known)
    first = change.landed(world.landing(rng, known))
    again = rng.random(len(day)) < world.corrected
    last = np.where(again, first + rng.exponential(5.0, len(day)), first)
    return Rows(day, made, label, high, first, last)


class Log:
    """The windows of one log, as they are known at any time."""

    def __init__(self, world: World, rng: np.random.Generator, *, per_day: int, days: int, change: Change) -> None:
        self.world = world
        self.rows = rows(world, rng, per_day=per_day, days=days, change=change)
        self.landings = np.sort(np.concatenate([self.rows.first, self.rows.last[self.rows.last > self.rows.first]]))
        self._edges = age_edges((world.mature + 1) * DAY)
        self._starts = np.searchsorted(self.rows.day, np.arange(days + 1))
        self._final = [self._count(day, math.inf) for day in range(days)]

    def newest(self, now: float) -> float | None:
        """When the newest label had landed by ``now`` (days)."""
        place = int(np.searchsorted(self.landings, now, side="right"))
        return float(self.landings[place - 1]) if place else None

    def window(self, day: int, now: float) -> DelayCounts:
        """The labels of one day's predictions, as they were known at midnight before day ``now``."""
        counts = (
            self._count(day, now) if self.world.corrected and now - day <= self.world.mature + 9 else self._final[day]
        )
        over = self._edges[1:] <= (now - day - 1) * DAY
        return replace(counts, landed=counts.landed * over, at_risk=counts.at_risk * over)

    def _count(self, day: int, now: float) -> DelayCounts:
        mine = slice(self._starts[day], self._starts[day + 1])
        of = self.rows
        # Of labels that land twice the newest counts, once it has come.
        landed = np.where(of.last[mine] <= now, of.last[mine], of.first[mine])
        delay = (landed - of.made[mine]) * DAY
        n_bins = len(self._edges) - 1
        held = delay <= self._edges[-1]
        place = np.searchsorted(self._edges[1:], delay[held], side="left")
        cell = (2 * of.high[mine][held] + of.label[mine][held]) * n_bins + place
        counts = np.bincount(cell, minlength=4 * n_bins).reshape(2, 2, n_bins)
        whole = np.bincount(of.high[mine], minlength=2)
        labelled = np.bincount(of.high[mine][np.isfinite(landed)], minlength=2)
        return DelayCounts(
            self._edges, counts, np.cumsum(counts, axis=2), whole, whole, labelled, self.world.mature * DAY
        )  # fmt: skip
