"""How often ``label_delay`` is raised for nothing, and how soon labels that come later are told.

A log of daily windows is looked at every other day for months, as the service does: the windows of the last weeks, each
as far as its labels have landed by then.  Worlds differ in volume and in how labels land.  ``make delay`` measures, and
writes the table to docs/labels.md.
"""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np

from benchmarks.delay import DOCS
from detectors.delay_counts import DelayCounts, age_edges, count_delays, known_by
from monitor.config.labels import DelayChangeLimits
from monitor.delays import CHANCE, lateness_of
from monitor.models import Window

DAY = 86400.0
START = datetime(2026, 1, 5, tzinfo=UTC)
MATURE = 20
"""``labels.delay`` in days; windows are looked back at for as long and 28 days more, as the service does."""
MEMORY = MATURE + 28
EDGES = age_edges((MATURE + 1) * DAY)
MONTH = 30
EVERY = 2
VOLUMES = (100, 1000, 10_000)
LANDINGS = ("steady", "weekdays", "weekly", "uneven pace")
CHANGES = ("delays doubled", "positives 3 days later", "weekly batches begin")
WATCHED = 28
"""Days after a change in which it is looked for."""
MARKS = ("<!-- lateness: begin -->", "<!-- lateness: end -->")


@dataclass(frozen=True)
class Log:
    """Predictions a day and how their labels land; a fifth are positive, known after 4 days on average, others 6."""

    per_day: int
    landing: str
    change: str | None = None
    since: int = 0

    def window(self, rng: np.random.Generator, day: int) -> DelayCounts:
        """All delays of one day's predictions, however late."""
        made = day + np.sort(rng.random(self.per_day))
        label = (rng.random(self.per_day) < 0.2).astype(np.float64)
        delay = rng.exponential(1.0, self.per_day) * np.where(label == 1, 4.0, 6.0)
        landing, changed = self.landing, self.change is not None and day >= self.since
        if landing == "uneven pace":
            delay *= math.exp(0.15 * rng.normal())
        if changed and self.change == "delays doubled":
            delay *= 2
        if changed and self.change == "positives 3 days later":
            delay += 3.0 * label
        due = made + delay
        if self.change == "weekly batches begin":
            due = np.where(due >= self.since, np.ceil(due / 7) * 7, due)
        elif landing == "weekly":
            due = np.ceil(due / 7) * 7
        elif landing == "weekdays":
            due = np.where(due % 7 >= 5, np.ceil(due / 7) * 7, due)
        ages = np.full(self.per_day, 2 * EDGES[-1])
        return count_delays((due - made) * DAY, label, ages, edges=EDGES, mature=MATURE * DAY)


class Look(NamedTuple):
    """What one look at a log said: the finding, or that there is none."""

    told: bool
    factor: float


def look(windows: dict[int, DelayCounts], now: int) -> Look:
    """``label_delay`` at midnight before day ``now``."""
    days = range(now - MEMORY, now)
    known = [(_window(day), known_by(windows[day], (now - day - 1) * DAY)) for day in days]
    change = lateness_of(known, now=START + timedelta(days=now))
    if change is None:
        return Look(False, math.nan)
    told = change.p_value <= CHANCE and abs(math.log(change.factor)) >= math.log1p(DelayChangeLimits().warn)
    return Look(told, change.factor)


def _window(day: int) -> Window:
    return Window(START + timedelta(days=day), START + timedelta(days=day + 1))


def false_months(log: Log, *, months: int, seed: int) -> int:
    """In how many of so many months there was a finding, though nothing changed."""
    rng, windows, found = np.random.default_rng([seed, log.per_day, LANDINGS.index(log.landing)]), {}, 0
    for month in range(months):
        first = MEMORY + MONTH * month
        for day in range(first - MEMORY if month == 0 else first, first + MONTH):
            windows[day] = log.window(rng, day)
        found += any(look(windows, now).told for now in range(first + EVERY, first + MONTH + 1, EVERY))
        windows = {day: counts for day, counts in windows.items() if day >= first + MONTH - MEMORY}
    return found


def days_to_tell(log: Log, *, runs: int, seed: int) -> list[int | None]:
    """How many days after a change it was told first, in each of so many runs; ``None`` where not within WATCHED."""
    found: list[int | None] = []
    for run in range(runs):
        rng = np.random.default_rng([seed, run, log.per_day, CHANGES.index(log.change or "")])
        changing = Log(log.per_day, log.landing, log.change, since=MEMORY + run % 7)
        windows = {day: changing.window(rng, day) for day in range(changing.since + WATCHED)}
        told = (after for after in range(1, WATCHED + 1) if look(windows, changing.since + after).told)
        found.append(next(told, None))
    return found


def _cell(landing: str, per_day: int, change: str | None, months: int, runs: int, seed: int) -> str:
    log = Log(per_day, landing, change)
    if change is None:
        return f"{false_months(log, months=months, seed=seed)} of {months}"
    found = days_to_tell(log, runs=runs, seed=seed)
    told = sorted(day for day in found if day is not None)
    return f"{len(told)} of {runs}" + (f", day {told[len(told) // 2]}" if told else "")


def table(*, months: int, runs: int, seed: int, processes: int) -> str:
    """One line for each way of landing and volume, printed as it is measured."""
    head = [
        "| labels land | predictions a day | months with a finding, nothing changed | "
        + " | ".join(f"{change}: told" for change in CHANGES)
        + " |",
        "|---|---|---|" + "---|" * len(CHANGES),
    ]
    lines = []
    with ProcessPoolExecutor(processes) as pool:
        asked = [
            (landing, per_day, [
                pool.submit(_cell, landing, per_day, change, months, runs, seed)
                for change in (None, *CHANGES)
                if not (landing == "weekly" and change == "weekly batches begin")
            ])
            for landing in LANDINGS
            for per_day in VOLUMES
        ]  # fmt: skip
        for landing, per_day, cells in asked:
            told = [cell.result() for cell in cells]
            told += ["–"] * (1 + len(CHANGES) - len(told))
            lines.append(f"| {landing} | {per_day:,} | " + " | ".join(told) + " |")
            print(lines[-1], flush=True)
    return "\n".join([*head, *lines])


def into(page: str, told: str, *, months: int, runs: int, seed: int) -> str:
    """The page with the table between the marks replaced."""
    before, _, rest = page.partition(MARKS[0])
    _, ended, after = rest.partition(MARKS[1])
    if not ended:
        raise ValueError(f"expected a page with {MARKS[0]} and {MARKS[1]}")
    said = (
        f"Measured {datetime.now(UTC):%Y-%m-%d} with `python -m benchmarks.lateness --months {months} --runs {runs} "
        f"--seed {seed}`: a look every second day; told within {WATCHED} days of the change, and the median day "
        "of those told."
    )
    return f"{before}{MARKS[0]}\n{said}\n\n{told}\n{MARKS[1]}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--runs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCS.name}")
    asked = parser.parse_args()
    told = table(months=asked.months, runs=asked.runs, seed=asked.seed, processes=asked.processes)
    if asked.write:
        page = into(DOCS.read_text(encoding="utf-8"), told, months=asked.months, runs=asked.runs, seed=asked.seed)
        DOCS.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
