"""Years with daily and weekly cycles, judged by the service's own code from counts: pages matched and unmatched.

A simulated year without drift; the same with a drift inside one hour of the week; and three real tables (electricity,
bike sharing, flights), if they lie beside the project.  ``python benchmarks/seasons.py`` prints the tables, ``--write``
puts them into docs/statistics.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri

sys.path.insert(0, str(Path(__file__).parents[1]))

from detectors.edges import CategoryBuilder, EdgeBuilder
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    Column,
    ColumnProfile,
    ColumnSpec,
    FloatArray,
    IntArray,
    NumericProfile,
    NumericSpec,
    merge_all,
)
from detectors.psi import psi
from monitor.backtest import Memory, Outcome, Replay
from monitor.config import Config
from monitor.models import SCORE, Baseline, StoredProfile, Window

START = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
BINS = 10
HOURS = 168
SEED = 20261121
DOCS = Path(__file__).parents[1] / "docs" / "statistics.md"
BEGIN, END = "<!-- seasons: begin -->", "<!-- seasons: end -->"


# --- a year with seasons -------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """A model's inputs: shares of bins for each hour of the week and column, and the usual rows of an hour.

    Parameters
    ----------
    shares
        Column → shape ``(168, B)``.
    rows
        Expected rows of each hour of the week, shape ``(168,)``.
    """

    shares: dict[str, FloatArray]
    rows: FloatArray


def world(rng: np.random.Generator, *, rows: float = 300.0, numeric: int = 6) -> World:
    """Columns with daily and weekly cycles of 0 to 1 standard deviations, and a volume that falls at night."""
    hour = np.arange(HOURS)
    weekend = (hour // 24 >= 5).astype(float)
    shares = {}
    for place in range(numeric + 1):
        daily, weekly = rng.uniform(0, 0.7, 2) if place % 3 else (0.0, 0.0)  # every third column has no season
        turn = 2 * np.pi * (hour % 24 - rng.uniform(0, 24)) / 24
        level = daily * np.sin(turn) + weekly * weekend
        shares[f"x{place}" if place < numeric else SCORE] = normal_shares(level)
    kinds = np.array([0.5, 0.25, 0.15, 0.07, 0.03])
    tilt = 1 + 0.6 * weekend[:, np.newaxis] * np.linspace(-1, 1, len(kinds))
    shares["plan"] = kinds * tilt / (kinds * tilt).sum(axis=1, keepdims=True)
    swing = 1 + 0.6 * np.sin(2 * np.pi * (hour % 24 - 9) / 24)
    return World(shares, rows * swing * np.where(weekend > 0, 0.6, 1.0))


def normal_shares(level: FloatArray) -> FloatArray:
    """Shares of the bins for values of standard deviation 1 about these levels, shape ``(H, B)``."""
    cuts = ndtri(np.arange(1, BINS) / BINS)
    upper = ndtr(cuts[np.newaxis, :] - level[:, np.newaxis])
    return np.diff(upper, prepend=0.0, append=1.0, axis=1)


def spec_of(name: str, n_bins: int) -> ColumnSpec:
    if name == "plan":
        return CategoricalSpec(tuple(f"p{place}" for place in range(n_bins)))
    bounds = np.concatenate([[0], np.arange(4, 2 * n_bins + 2, 2), [2 * n_bins + 3]])
    return NumericSpec(np.arange(n_bins + 1.0), np.zeros(n_bins + 1), bounds)


def profile_of(spec: ColumnSpec, counts: IntArray) -> ColumnProfile:
    n = int(counts.sum())
    if isinstance(spec, CategoricalSpec):
        return CategoricalProfile(n, 0, 0, counts.copy(), {})
    cells = np.zeros(spec.n_cells, dtype=np.int64)
    cells[2:-1:2] = counts
    middles = np.arange(len(counts)) + 0.5
    mean = float(counts @ middles / max(1, n))
    return NumericProfile(
        n, 0, 0, 0, cells, 0.0, float(len(counts)), mean, float(counts @ (middles - mean) ** 2), 0.0, 0.0
    )


def lived(
    rng: np.random.Generator,
    its: World,
    *,
    weeks: int,
    length: timedelta,
    fault: tuple[int, int, str, FloatArray] | None = None,
) -> list[StoredProfile]:
    """The profiles of so many weeks of windows.

    Parameters
    ----------
    fault
        ``(week, hour, column, shares)``: from that week on the rows of that hour of the week have other shares.
    """
    per = length // HOUR
    profiles = []
    specs = {name: spec_of(name, shares.shape[1]) for name, shares in its.shares.items()}
    for first in range(0, weeks * HOURS, per):
        window = Window(START + first * HOUR, START + (first + per) * HOUR)
        hours = np.arange(first, first + per)
        rows = rng.poisson(its.rows[hours % HOURS])
        for name, shares in its.shares.items():
            p = shares[hours % HOURS]
            if fault is not None and name == fault[2]:
                hit = (hours % HOURS == fault[1]) & (hours // HOURS >= fault[0])
                p = np.where(hit[:, np.newaxis], fault[3], p)
            counts = rng.multinomial(rows, p).sum(axis=0)
            profiles.append(StoredProfile("m", window, name, profile_of(specs[name], counts)))
    return profiles


# --- judged --------------------------------------------------------------------------------------


def config_of(window: str, season: str, *, start: datetime, to: datetime) -> Config:
    model = {
        "table": "t",
        "time": "at",
        "window": window,
        "start": to,
        "baseline": {"from": start, "to": to, "season": season},
    }
    return Config.model_validate({"sources": {"main": "sqlite:///x.db"}, "models": {"m": model}})


def baseline_of(profiles: Iterable[StoredProfile], specs: dict[str, ColumnSpec], *, span: Window) -> Baseline:
    parts: dict[str, list[ColumnProfile]] = {}
    for p in profiles:
        if p.window.end <= span.end and isinstance(p.profile, NumericProfile | CategoricalProfile):
            parts.setdefault(p.column, []).append(p.profile)
    columns = {name: Column(name, specs[name], merge_all(found)) for name, found in parts.items()}
    return Baseline(1, "m", "seasons", span.start, "weeks", span, 0, columns)


def judged(
    profiles: Sequence[StoredProfile], specs: dict[str, ColumnSpec], *, window: str, season: str, weeks: int
) -> tuple[Outcome, Replay]:
    """Replay all windows after so many ``weeks`` of baseline."""
    first, last = min(p.window.start for p in profiles), max(p.window.end for p in profiles)
    to = first + weeks * WEEK
    baseline = baseline_of(profiles, specs, span=Window(first, to))
    config = config_of(window, season, start=first, to=to)
    replay = Replay(config, "m", baseline, Memory(profiles, []), start=to, end=last)
    return replay.run(season), replay


def year(seed: int, window: str, season: str, *, learnt: int = 8, weeks: int = 52, rows: float = 300.0) -> Outcome:
    """One simulated year without drift."""
    rng = np.random.default_rng([SEED, seed])
    its = world(rng, rows=rows)
    length = DAY if window == "1d" else HOUR
    profiles = lived(rng, its, weeks=learnt + weeks, length=length)
    specs = {name: spec_of(name, shares.shape[1]) for name, shares in its.shares.items()}
    return judged(profiles, specs, window=window, season=season, weeks=learnt)[0]


def year_with_fixed_limit(profiles: Sequence[StoredProfile], specs: dict[str, ColumnSpec], *, weeks: int) -> int:
    """Pages of a fixed baseline and PSI of at least 0.2 in two windows in a row: each column's run of such windows."""
    end = min(p.window.start for p in profiles) + weeks * WEEK
    baseline = baseline_of(profiles, specs, span=Window(min(p.window.start for p in profiles), end))
    bad: dict[str, int] = {}
    pages = 0
    for p in sorted((p for p in profiles if p.window.start >= end), key=lambda p: p.window):
        column = baseline.columns[p.column]
        if not isinstance(p.profile, NumericProfile | CategoricalProfile) or p.profile.n < MIN_ROWS:
            continue
        far = (psi(column.spec, column.reference, p.profile).value or 0) >= 0.2
        bad[p.column] = bad.get(p.column, 0) + 1 if far else 0
        pages += bad[p.column] == 2
    return pages


# --- real tables ---------------------------------------------------------------------------------

SHARED = Path(__file__).parents[2] / "shared" / "data" / "sets"
MIN_ROWS = 20
TABLES: dict[str, tuple[str, list[str]]] = {
    "elec2": ("event_time", ["nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"]),
    "bike_sharing_hourly": ("event_time", ["temp", "atemp", "hum", "windspeed", "weathersit", "cnt"]),
    "nyc_flights13": ("sched_dep_utc", ["carrier", "origin", "dest", "distance", "sched_dep_time"]),
}
"""Table → its time and the columns that are watched, in windows of a day."""


def real(name: str, *, weeks: int) -> tuple[list[StoredProfile], dict[str, ColumnSpec]]:
    """The profiles of a table's days, over edges that its first ``weeks`` give."""
    import pandas as pd

    at, columns = TABLES[name]
    frame = pd.read_parquet(SHARED / f"{name}.parquet").dropna(subset=[at])
    moment = pd.to_datetime(frame[at], utc=True)
    day = moment.dt.floor("D")
    known = frame[day < day.min() + weeks * WEEK]
    specs: dict[str, ColumnSpec] = {}
    profiles = []
    for column in columns:
        numeric = pd.api.types.is_numeric_dtype(frame[column])
        builder = EdgeBuilder() if numeric else CategoryBuilder()
        builder.update(known[column].to_numpy(float) if numeric else known[column].astype(str).tolist())
        specs[column] = spec = builder.spec()
        for start, part in frame.groupby(day)[column]:
            counter = NumericCounter(spec) if numeric else CategoricalCounter(spec)
            counter.update(part.to_numpy(float) if numeric else part.astype(str).tolist())
            window = Window(start.to_pydatetime(), start.to_pydatetime() + DAY)
            profiles.append(StoredProfile("m", window, column, counter.profile()))
    return profiles, specs


# --- tables --------------------------------------------------------------------------------------

SEASONS = {"matched": "auto", "unmatched": "none"}


def simulated(window: str, *, years: int, weeks: int) -> list[str]:
    """Pages a year without drift, matched and not."""
    lines = []
    for seed in range(years):
        counts = {name: len(year(seed, window, season, weeks=weeks).pages) for name, season in SEASONS.items()}
        rng = np.random.default_rng([SEED, seed])
        its = world(rng)
        profiles = lived(rng, its, weeks=8 + weeks, length=DAY if window == "1d" else HOUR)
        specs = {name: spec_of(name, shares.shape[1]) for name, shares in its.shares.items()}
        fixed = year_with_fixed_limit(profiles, specs, weeks=8)
        lines.append(
            f"| simulated, {window} | {seed} | {weeks} | {counts['matched']} | {counts['unmatched']} | {fixed} |"
        )
    return lines


def measured(name: str, *, weeks: int = 8) -> str:
    """Pages on a real table, matched and not, and which they were."""
    profiles, specs = real(name, weeks=weeks)
    span = (max(p.window.end for p in profiles) - min(p.window.start for p in profiles)) / WEEK - weeks
    told = {key: judged(profiles, specs, window="1d", season=s, weeks=weeks)[0] for key, s in SEASONS.items()}
    fixed = year_with_fixed_limit(profiles, specs, weeks=weeks)
    pages = " | ".join(str(len(told[key].pages)) for key in SEASONS)
    return f"| {name} | | {span:.0f} | {pages} | {fixed} |"


def table(*, years: int, hourly_weeks: int) -> str:
    lines = [
        "| stream | seed | weeks judged | pages, matched | pages, unmatched | pages, PSI 0.2 twice in a row |",
        "|---|---|---|---|---|---|",
        *simulated("1d", years=years, weeks=52),
    ]
    if hourly_weeks:
        lines += simulated("1h", years=years, weeks=hourly_weeks)
    lines += [measured(name) for name in TABLES if SHARED.is_dir()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=5, help="simulated years")
    parser.add_argument("--hourly-weeks", type=int, default=52, help="weeks of hourly windows in each; 0: none")
    parser.add_argument("--write", action="store_true", help="put the table into docs/statistics.md")
    args = parser.parse_args()
    found = table(years=args.years, hourly_weeks=args.hourly_weeks)
    print(found)
    if args.write:
        page = DOCS.read_text(encoding="utf-8")
        head, rest = page.split(BEGIN)
        text = f"{head}{BEGIN}\nMeasured on {datetime.now(UTC):%Y-%m-%d}, seed {SEED}:\n\n{found}\n{END}"
        DOCS.write_text(text + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
