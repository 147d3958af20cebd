"""Years with daily and weekly cycles, judged by the service's own code from counts: pages matched and unmatched.

Simulated years without drift, in windows of a day and of an hour; the same with a drift inside one hour of the week;
and three real tables (electricity, bike sharing, flights), if they lie beside the project.  Beside them what a fixed
baseline of all hours pages by the customary rules.  ``python benchmarks/seasons.py`` prints the tables, ``--write``
puts them into docs/statistics.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, ndtr, ndtri

sys.path.insert(0, str(Path(__file__).parents[1]))

from detectors.edges import CategoryBuilder, EdgeBuilder
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.ks import ks_p_value
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
from detectors.psi import psi_terms
from detectors.statistic import bins_of
from monitor.backtest import Memory, Outcome, Replay
from monitor.checks import Evidence, Scope
from monitor.config import Config
from monitor.models import SCORE, Baseline, Check, Result, StoredProfile, Verdict, Window

START = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
BINS = 10
FAR = 0.2
"""The customary limit of PSI, and our default."""
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
    levels
        Column of numbers → its mean in each hour of the week, in standard deviations, shape ``(168,)``.
    """

    shares: dict[str, FloatArray]
    rows: FloatArray
    levels: dict[str, FloatArray] = field(default_factory=dict)


def world(rng: np.random.Generator, *, rows: float = 300.0, numeric: int = 6) -> World:
    """Columns with daily and weekly cycles of 0 to 1 standard deviations, and a volume that falls at night."""
    hour = np.arange(HOURS)
    weekend = (hour // 24 >= 5).astype(float)
    shares, levels = {}, {}
    for place in range(numeric + 1):
        daily, weekly = rng.uniform(0, 0.7, 2) if place % 3 else (0.0, 0.0)  # every third column has no season
        turn = 2 * np.pi * (hour % 24 - rng.uniform(0, 24)) / 24
        level = daily * np.sin(turn) + weekly * weekend
        name = f"x{place}" if place < numeric else SCORE
        shares[name], levels[name] = normal_shares(level), level
    kinds = np.array([0.5, 0.25, 0.15, 0.07, 0.03])
    tilt = 1 + 0.6 * weekend[:, np.newaxis] * np.linspace(-1, 1, len(kinds))
    shares["plan"] = kinds * tilt / (kinds * tilt).sum(axis=1, keepdims=True)
    swing = 1 + 0.6 * np.sin(2 * np.pi * (hour % 24 - 9) / 24)
    return World(shares, rows * swing * np.where(weekend > 0, 0.6, 1.0), levels)


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


# --- a fixed baseline by the customary rules -----------------------------------------------------

RULES = {
    "PSI 0.2": "a fixed PSI of 0.2 or more",
    "KS 0.05": "a two-sample Kolmogorov–Smirnov p-value of at most 0.05 for each column (categories: χ²)",
    "independent": "the evidence that our budget asks for and PSI 0.2, with rows taken as independent",
}


class Told(Replay):
    """The incidents of windows whose bad columns are known: ours, so that pages are counted alike."""

    def __init__(self, replay: Replay, bad: Mapping[datetime, Mapping[str, bool]]) -> None:
        span = replay.windows[0].start, replay.windows[-1].end
        super().__init__(replay.config, replay.name, replay.baseline, replay.memory, start=span[0], end=span[1])
        self.bad = bad

    def judge(self, window: Window) -> list[Result]:
        scope = Scope(self.name, self.model, window, 0)
        verdicts = {name: Verdict.ALERT if bad else Verdict.OK for name, bad in self.bad[window.start].items()}
        return [
            scope.result(Check.FEATURE_DRIFT, "psi", feature=name, value=None, threshold=FAR, verdict=verdict)
            for name, verdict in verdicts.items()
        ]


def fixed(replay: Replay) -> dict[str, Outcome]:
    """What a baseline of all hours pooled would page by each of ``RULES``, on the windows of a replay."""
    bad: dict[str, dict[datetime, dict[str, bool]]] = {
        rule: {window.start: {} for window in replay.windows} for rule in RULES
    }
    for name, column in replay.baseline.columns.items():
        kept = [p for window in replay.windows for p in replay.memory.of(window) if p.column == name]
        known = [(p.window, p.profile) for p in kept if isinstance(p.profile, NumericProfile | CategoricalProfile)]
        sides = [bins_of(column.spec, column.reference, profile) for _, profile in known]
        judged_ = alarms(np.array([side.current for side in sides]), sides[0].reference, replay, ordered=name != "plan")
        for rule, found in judged_.items():
            for (window, profile), is_bad in zip(known, found, strict=True):
                if profile.n >= MIN_ROWS:
                    bad[rule][window.start][name] = bool(is_bad)
    return {rule: Told(replay, bad[rule]).run(rule) for rule in RULES}


def alarms(counts: IntArray, reference: IntArray, replay: Replay, *, ordered: bool) -> dict[str, npt.NDArray[np.bool_]]:
    """By each of ``RULES``, which windows are bad; ``counts`` of shape ``(W, B)``, the last bin of missing values."""
    m, n = float(reference.sum()), np.maximum(1, counts.sum(axis=1)).astype(float)
    p, q = reference / m, counts / n[:, np.newaxis]
    value = np.array([psi_terms(p, row, floor=1e-4).sum() for row in q])
    pooled = (counts + reference) / (n + m)[:, np.newaxis]
    with np.errstate(invalid="ignore", divide="ignore"):
        square = np.nan_to_num((q - p) ** 2 / pooled).sum(axis=1) / (1 / n + 1 / m)
    freedom = np.maximum(1, (pooled > 0).sum(axis=1) - 1)
    by_chance = chdtrc(freedom, square)
    distance = np.abs(np.cumsum(q[:, :-1] - p[:-1], axis=1)).max(axis=1)
    smirnov = np.array(
        [ks_p_value(d, round(rows), m=round(m), exact=False) for d, rows in zip(distance, n, strict=True)]
    )
    scope = Scope(replay.name, replay.model, replay.windows[0], 0)
    alpha = Evidence(scope, "feature_drift", len(replay.baseline.columns)).alpha()
    return {
        "PSI 0.2": value >= FAR,
        "KS 0.05": (smirnov if ordered else by_chance) <= 0.05,
        "independent": (by_chance <= alpha) & (value - freedom * (1 / n + 1 / m) >= FAR),
    }


# --- a drift inside one hour of the week ---------------------------------------------------------


def with_fault(
    rng: np.random.Generator, profiles: Sequence[StoredProfile], place: tuple[int, int, str], shares: FloatArray
) -> list[StoredProfile]:
    """The same windows, but from a week on the rows of one hour of the week and column have other shares.

    Parameters
    ----------
    place
        ``(week, hour of the week, column)``.
    """
    week, hour, column = place

    def again(p: StoredProfile) -> StoredProfile:
        at = (p.window.start - START) // HOUR
        if p.column != column or at % HOURS != hour or at // HOURS < week or not isinstance(p.profile, NumericProfile):
            return p
        return replace(p, profile=profile_of(spec_of(column, len(shares)), rng.multinomial(p.profile.n, shares)))

    return [again(p) for p in profiles]


def around(profiles: Iterable[StoredProfile], hour: int, *, learnt: int, weeks: int) -> list[StoredProfile]:
    """The windows of the baseline, and of so many weeks after it those about one hour of the week."""

    def is_near(p: StoredProfile) -> bool:
        at = (p.window.start - START) // HOUR
        return at < learnt * HOURS or (at < (learnt + weeks) * HOURS and (at % HOURS - hour + 3) % HOURS <= 6)

    return [p for p in profiles if is_near(p)]


def cycles_until_found(
    seed: int, size: float, *, learnt: int = 8, rows: float = 300.0, places: int = 10, season: str = "auto"
) -> list[int | None]:
    """After how many times of an hour of the week that has drifted by ``size`` σ a page names the column.

    One column and one hour of the week at a time, in the year of this seed; ``None``: not within four weeks.
    """
    rng = np.random.default_rng([SEED, seed])
    its = world(rng, rows=rows)
    profiles = lived(rng, its, weeks=learnt + 4, length=HOUR)
    specs = {name: spec_of(name, shares.shape[1]) for name, shares in its.shares.items()}
    features = [name for name in its.shares if name.startswith("x")]
    found: list[int | None] = []
    for place in range(places):
        column, hour = features[place % len(features)], int(rng.integers(HOURS))
        shifted = its.levels[column][hour] + size * rng.choice([-1.0, 1.0])
        sick = with_fault(rng, profiles, (learnt, hour, column), normal_shares(np.array([shifted]))[0])
        near = around(sick, hour, learnt=learnt, weeks=4)
        _, replay = judged(near, specs, window="1h", season=season, weeks=learnt)
        begun = START + learnt * WEEK
        named = [
            window for window, key in replay.news if key[1] == column and (window.start - begun) // HOUR % HOURS == hour
        ]
        found.append(min((window.start - begun) // WEEK + 1 for window in named) if named else None)
    return found


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

SEASONS = {"matched": "auto", "`season: none`": "none"}
HEAD = ["stream", "seed", "windows", *SEASONS, *(f"fixed: {rule}" for rule in RULES)]
SIZES = (0.5, 1.0, 1.5)


def told(
    name: str, seed: str, profiles: Sequence[StoredProfile], specs: dict[str, ColumnSpec], *, window: str, weeks: int
) -> str:
    """One row: pages, and windows with an alert, by each way to judge."""
    outcomes, replay = {}, None
    for key, season in SEASONS.items():
        outcomes[key], replay = judged(profiles, specs, window=window, season=season, weeks=weeks)
    if replay is not None:
        outcomes |= fixed(replay)
    cells = [f"{len(each.pages)} ({each.alerting_windows:,})" for each in outcomes.values()]
    n_windows = next(iter(outcomes.values())).n_windows
    return f"| {name} | {seed} | {n_windows:,} | {' | '.join(cells)} |"


def simulated(seed: int, window: str, *, weeks: int, learnt: int = 8, rows: float = 300.0) -> str:
    """A year, or so many weeks, without drift."""
    rng = np.random.default_rng([SEED, seed])
    its = world(rng, rows=rows)
    profiles = lived(rng, its, weeks=learnt + weeks, length=DAY if window == "1d" else HOUR)
    specs = {name: spec_of(name, shares.shape[1]) for name, shares in its.shares.items()}
    return told(f"simulated, {window}", str(seed), profiles, specs, window=window, weeks=learnt)


def measured(name: str, *, weeks: int = 8) -> str:
    """A real table."""
    profiles, specs = real(name, weeks=weeks)
    return told(name, "", profiles, specs, window="1d", weeks=weeks)


def planted(years: int) -> list[str]:
    """How soon a drift inside one hour of the week is found."""
    lines = ["| in one hour of the week | planted | found at the 2nd time or before | later, to the 4th | not |"]
    lines.append("|---|---|---|---|---|")
    for size in SIZES:
        times = [at for seed in range(years) for at in cycles_until_found(seed, size)]
        soon = sum(at is not None and at <= 2 for at in times)
        never = times.count(None)
        lines.append(
            f"| mean ± {size} σ | {len(times)} | {soon / len(times):.0%} | {len(times) - soon - never} | {never} |"
        )
    return lines


def table(*, years: int, hourly: int, hourly_weeks: int) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    lines += [simulated(seed, "1d", weeks=52) for seed in range(years)]
    lines += [measured(name) for name in TABLES if SHARED.is_dir()]
    for seed in range(hourly):
        lines.append(simulated(seed, "1h", weeks=hourly_weeks))
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join([*lines, "", *planted(hourly)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=5, help="simulated years in windows of a day")
    parser.add_argument("--hourly", type=int, default=3, help="simulated years in windows of an hour")
    parser.add_argument("--hourly-weeks", type=int, default=52, help="weeks in each of these")
    parser.add_argument("--write", action="store_true", help="put the table into docs/statistics.md")
    args = parser.parse_args()
    found = table(years=args.years, hourly=args.hourly, hourly_weeks=args.hourly_weeks)
    print(found)
    if args.write:
        page = DOCS.read_text(encoding="utf-8")
        head, rest = page.split(BEGIN)
        text = f"{head}{BEGIN}\nMeasured on {datetime.now(UTC):%Y-%m-%d}, seed {SEED}:\n\n{found}\n{END}"
        DOCS.write_text(text + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
