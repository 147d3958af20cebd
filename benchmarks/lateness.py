"""How often ``label_delay`` and ``label_outage`` are told for nothing, and how soon when there is a reason.

A log of daily windows is looked at each midnight for months, as the service does: windows as far as their labels had
landed when they were last counted, the newest landing, and what earlier looks have said.  ``make delay`` measures, and
writes the table to docs/labels.md; the worlds are in `benchmarks/late_worlds.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import NamedTuple

import numpy as np

from benchmarks.late_worlds import WORLDS, Change, Log, World, daily, irregular, monthly, on_weekdays, steady, weekly
from benchmarks.measured import Measured
from detectors.delay import learn
from detectors.delay_counts import DelayCounts, merge
from monitor.checks import Scope
from monitor.config import ModelConfig
from monitor.delays import DELAY, OUTAGE, delay_findings, looked_back
from monitor.models import Result, Verdict, Window

TABLE = Measured("benchmarks.lateness", "lateness", {"months": 12, "runs": 3, "seed": 21})
START = datetime(2026, 1, 5, tzinfo=UTC)
MONTH = 30
KNOWN = 112
"""Days of a log before something changes in it."""
WATCHED = 42
"""Days after a change in which it is looked for."""
VOLUMES = (100, 1000)
CHANGES = ("doubled", "positives +3 d", "high scores doubled", "+2 % a day", "weekly batches begin")
CHANGING = ("exponential", "two lanes", "uneven pace", "weekdays, growth", "weekly", "irregular")
"""The worlds in which something changes."""
STRATA = ("a low score", "a high score")
TOLD = (Verdict.WARN, Verdict.ALERT)


class Watch:
    """Looks at one log, day by day."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._model = ModelConfig.model_validate(
            {"table": "t", "time": "at", "labels": {"delay": f"{log.world.mature}d"}}
        )
        self._counted = list(_counted_at(log.world.mature))
        self._looks: list[Result] = []

    def look(self, now: int) -> dict[str, Verdict]:
        """What is said at midnight before day ``now`` of either finding."""
        mature, at = self._log.world.mature, START + timedelta(days=now)
        first = max(0, now - 1 - looked_back(timedelta(days=1), timedelta(days=mature)).days)
        windows = [(_day(day), self._seen(day, now)) for day in range(first, now - 1)]
        recent = [counts for _, counts in windows[-(mature + 28) :]]
        newest = self._log.newest(now)
        found = delay_findings(
            Scope("model", self._model, _day(now - 1), 0),
            learn(reduce(merge, recent)) if recent else None,
            windows,
            newest=None if newest is None else START + timedelta(days=newest),
            now=at,
            history=self._looks,
            strata=STRATA,
        )
        self._looks = [*self._looks[-300:], *(each for each in found if each.metric == OUTAGE)]
        return {each.metric: each.verdict for each in found}

    def _seen(self, day: int, now: int) -> DelayCounts:
        age = max(age for age in self._counted if age <= now - day - 1)
        counted = START + timedelta(days=day + 1 + age)
        return replace(self._log.window(day, day + 1 + age), as_of=counted.timestamp())


def _counted_at(mature: int) -> Iterator[int]:
    """The ages in days at which the service counts a window: when it is a third older, and when it is mature."""
    last = 0
    yield last
    for age in range(1, mature):
        if age - last >= max(0.25, last / 3):
            last = age
            yield age
    yield mature


def _day(day: int) -> Window:
    return Window(START + timedelta(days=day), START + timedelta(days=day + 1))


# --- what is measured ------------------------------------------------------------------------------


class ForNothing(NamedTuple):
    """In how many months there was a finding for nothing, those of a log's first two months among them."""

    months: int
    delay: int
    outage: int


def false_months(world: World, *, per_day: int, months: int, seed: int) -> ForNothing:
    """Logs of a year each, from their first day on."""
    found = {DELAY: 0, OUTAGE: 0}
    for year in range(math.ceil(months / 12)):
        length = min(12, months - 12 * year)
        rng = np.random.default_rng([seed, year, per_day, *world.name.encode()])
        watch = Watch(Log(world, rng, per_day=per_day, days=length * MONTH, change=Change()))
        told = {metric: set[int]() for metric in found}
        for now in range(2, length * MONTH):
            for metric, verdict in watch.look(now).items():
                if verdict in TOLD:
                    told[metric].add(now // MONTH)
        found = {metric: n + len(told[metric]) for metric, n in found.items()}
    return ForNothing(months, found[DELAY], found[OUTAGE])


def days_to_tell(world: World, kind: str, *, per_day: int, runs: int, seed: int) -> list[int | None]:
    """How many days after a change ``label_delay`` was told, in each of so many logs; ``None``: not in ``WATCHED``."""
    found: list[int | None] = []
    for run in range(runs):
        rng = np.random.default_rng([seed, run, per_day, *world.name.encode(), *kind.encode()])
        since = KNOWN + run % 7
        watch = Watch(Log(world, rng, per_day=per_day, days=since + WATCHED, change=Change(kind, since)))
        told = (after for after in range(1, WATCHED) if watch.look(since + after)[DELAY] in TOLD)
        found.append(next(told, None))
    return found


class Stopped(NamedTuple):
    """Of one outage: days until it was told (``None``: never) and, after labels came back, until it was over; and the
    days on which ``label_delay`` was told, which nothing has changed of."""

    told: int | None
    over: int | None
    delay_told: int


def outage(world: World, *, lasts: float, per_day: int, run: int, seed: int) -> Stopped:
    """Labels stop, and come back all at once after so many days."""
    rng = np.random.default_rng([seed, run, per_day, *world.name.encode()])
    since = KNOWN + 28 + run % 7
    back = math.ceil(since + lasts)
    log = Log(world, rng, per_day=per_day, days=back + WATCHED, change=Change("stop", since, since + lasts))
    watch = Watch(log)
    said = {now: watch.look(now) for now in range(2, back + WATCHED)}
    told = next((now - since for now in range(since, back + 1) if said[now][OUTAGE] in TOLD), None)
    over = next((now - back for now in range(back, back + WATCHED) if said[now][OUTAGE] is Verdict.OK), None)
    return Stopped(told, over, sum(said[now][DELAY] in TOLD for now in range(since, back + WATCHED)))


OUTAGES = (
    (World("steady", landing=steady), 10.0),
    (World("daily job", landing=daily), 10.0),
    (World("weekdays", landing=on_weekdays), 10.0),
    (World("weekly", landing=weekly), 21.0),
    (World("irregular", landing=irregular), 21.0),
    (World("monthly", landing=monthly, mature=45), 75.0),
    (World("daily job, one skipped", landing=daily), 1.4),
)
"""How labels land, and for how many days they stop."""


# --- tables ----------------------------------------------------------------------------------------


def _false(world: World, per_day: int, months: int, seed: int) -> str:
    found = false_months(world, per_day=per_day, months=months, seed=seed)
    return f"{found.delay} | {found.outage}"


def _told(world: World, kind: str, per_day: int, runs: int, seed: int) -> str:
    told = sorted(day for day in days_to_tell(world, kind, per_day=per_day, runs=runs, seed=seed) if day is not None)
    return f"{len(told)} of {runs}" + (f", day {told[len(told) // 2]}" if told else "")


def _stopped(world: World, lasts: float, runs: int, seed: int) -> str:
    found = [outage(world, lasts=lasts, per_day=1000, run=run, seed=seed) for run in range(runs)]
    told = sorted(each.told for each in found if each.told is not None)
    over = [each.over for each in found if each.told is not None and each.over is not None]
    after = f"day {told[len(told) // 2]}" if told else "–"
    back = f"day {max(over)}" if over else "–"
    return f"{len(told)} of {runs} | {after} | {back} | {sum(each.delay_told > 0 for each in found)} of {runs}"


def table(*, months: int, runs: int, seed: int, processes: int) -> str:
    """The three tables, line by line printed as they are measured."""
    with ProcessPoolExecutor(processes) as pool:
        false = [
            (f"| {world.name} |", [pool.submit(_false, world, per_day, months, seed) for per_day in VOLUMES])
            for world in WORLDS
        ]
        power = [
            (f"| {world.name} | {per_day:,} |", [
                pool.submit(_told, world, kind, per_day, runs, seed) for kind in CHANGES
            ])
            for world in WORLDS
            if world.name in CHANGING
            for per_day in VOLUMES
        ]  # fmt: skip
        stops: list[tuple[str, list[Future[str]]]] = [
            (f"| {world.name} | {lasts:g} d |", [pool.submit(_stopped, world, lasts, runs, seed)])
            for world, lasts in OUTAGES
        ]
        parts = [
            _lines(["nothing changes", *(f"{name}, {n:,} a day" for n in VOLUMES for name in (DELAY, OUTAGE))], false),
            _lines(["`label_delay` told", "predictions a day", *CHANGES], power),
            _lines(["labels stop", "for", "told", "median", "over, after they are back", f"{DELAY} told"], stops),
        ]
    return "\n\n".join(parts)


def _lines(head: Sequence[str], asked: Sequence[tuple[str, list[Future[str]]]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name, cells in asked:
        lines.append(f"{name} {' | '.join(each.result() for each in cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = TABLE.parser(__doc__)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    told = table(**TABLE.options(asked), processes=asked.processes)
    said = (
        f"a look a day. Months of {asked.months} with a finding though nothing changes, the first of a log among them; "
        f"in how many logs of {asked.runs} a change was told within {WATCHED} days, after {KNOWN} without one, and on "
        "which day (the median of those told); and outages at 1,000 predictions a day."
    )
    TABLE.keep(told, asked, said=said)


if __name__ == "__main__":
    main()
