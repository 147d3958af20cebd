"""How well corrected precision and recall hold under five delay laws: coverage, width and error, as a table.

A score is the probability of a positive, and from a cut on the decision is positive.  Each trial is a log of daily
windows as of one moment: the delay law is learned from the windows before as far as their labels have landed, and a
window of a given age is corrected.  ``make delay`` measures, and writes the table to docs/labels.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.measured import Measured
from detectors.corrected import corrected
from detectors.delay import DelayLaw, learn
from detectors.delay_change import SURE
from detectors.delay_counts import DelayCounts, age_edges, count_delays, merge
from detectors.posterior import Landed
from detectors.profiles import FloatArray, IntArray
from monitor.config.labels import DelayChangeLimits
from monitor.delays import lateness_of
from monitor.models import Window

DAY = 86400.0
HORIZON = 120.0
EDGES = age_edges(HORIZON * DAY)
TABLE = Measured("benchmarks.delay", "delay", {"histories": 10, "targets": 30, "seed": 0})


@dataclass(frozen=True)
class World:
    """Scores are Beta(``a``, ``b``), decisions positive from ``cut`` on; labels take ``slow`` times as long."""

    a: float = 1.0
    b: float = 9.0
    cut: float = 0.3
    slow: float = 1.0

    @cached_property
    def score_edges(self) -> FloatArray:
        """As the service cuts scores: at three quantiles and at the decision."""
        return np.unique([*stats.beta.ppf((0.5, 0.8, 0.95), self.a, self.b), self.cut])

    @cached_property
    def decisions(self) -> IntArray:
        """The decision of each stratum."""
        return np.append(0, self.score_edges >= self.cut).astype(np.int64)

    def __str__(self) -> str:
        return f"Beta({self.a:g}, {self.b:g}), cut {self.cut:g}" + (f", {self.slow:g} x" if self.slow != 1 else "")


WORLD = World()
WORLDS = (WORLD, World(2.0, 5.0, 0.5))

Delays = Callable[[np.random.Generator, FloatArray, IntArray, FloatArray, float], FloatArray]
"""``(rng, scores, labels, day, slow)`` → days from prediction to label; ``day`` is when the prediction was made."""


def independent(
    rng: np.random.Generator,
    scores: FloatArray,
    labels: IntArray,  # noqa: ARG001
    day: FloatArray,  # noqa: ARG001
    slow: float,
) -> FloatArray:
    return slow * rng.exponential(12.0, len(scores))


def by_score(
    rng: np.random.Generator,
    scores: FloatArray,
    labels: IntArray,  # noqa: ARG001
    day: FloatArray,  # noqa: ARG001
    slow: float,
) -> FloatArray:
    return slow * rng.exponential(1.0, len(scores)) * 20 * np.exp(-3 * scores)


def by_class(
    rng: np.random.Generator,
    scores: FloatArray,
    labels: IntArray,
    day: FloatArray,  # noqa: ARG001
    slow: float,
) -> FloatArray:
    return slow * np.where(labels == 1, rng.exponential(6.0, len(scores)), 4 + rng.exponential(18.0, len(scores)))


def drifting(
    rng: np.random.Generator, scores: FloatArray, labels: IntArray, day: FloatArray, slow: float
) -> FloatArray:
    """Each day labels take one percent longer than the day before."""
    return by_class(rng, scores, labels, day, slow) * np.exp(0.01 * (day - 150))


def in_batches(
    rng: np.random.Generator, scores: FloatArray, labels: IntArray, day: FloatArray, slow: float
) -> FloatArray:
    """Labels are delivered once a week."""
    known = day + by_class(rng, scores, labels, day, slow)
    return np.ceil(known / 7) * 7 - day


LAWS: dict[str, Delays] = {
    "independent": independent,
    "by score": by_score,
    "by class": by_class,
    "drifting": drifting,
    "in batches": in_batches,
}
SHARES = (0.1, 0.3, 0.6)
NOW = 150.0
START = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Rows:
    """The predictions of some days: ``day`` when each was made, and ``delay`` in days."""

    day: FloatArray
    strata: IntArray
    labels: IntArray
    delay: FloatArray
    scores: FloatArray


def rows(rng: np.random.Generator, law: Delays, *, days: FloatArray, per_day: int, world: World = WORLD) -> Rows:
    day = np.repeat(days, per_day)
    scores = rng.beta(world.a, world.b, len(day))
    labels = (rng.random(len(day)) < scores).astype(np.int64)
    strata = np.searchsorted(world.score_edges, scores, side="right")
    return Rows(day, strata, labels, law(rng, scores, labels, day, world.slow), scores)


def delays(part: Rows, *, now: float = NOW) -> DelayCounts:
    age = now - part.day
    landed = part.delay <= age
    return count_delays(
        np.where(landed, part.delay * DAY, np.nan),
        np.where(landed, part.labels, np.nan),
        age * DAY,
        edges=EDGES,
        strata=part.strata,
        n_strata=len(WORLD.decisions),
    )


def landed(part: Rows, *, now: float = NOW, world: World = WORLD) -> Landed:
    age = float(now - part.day[0])
    decisions = world.decisions
    labels = np.zeros((1, len(decisions), 2), np.int64)
    inside = part.delay <= age
    np.add.at(labels, (0, part.strata[inside], part.labels[inside]), 1)
    predictions = np.bincount(part.strata, minlength=len(decisions))[None]
    return Landed(np.array([age * DAY]), predictions, labels, decisions)


def age_of(law: Delays, share: float, world: World) -> int:
    """The age in days at which about this share of a window's labels has landed."""
    rng = np.random.default_rng(7)
    for age in range(1, 100):
        part = rows(rng, law, days=np.array([NOW - age]), per_day=20_000, world=world)
        if (part.delay <= age).mean() >= share:
            return age
    raise ValueError(f"no age has {share:.0%} of the labels")


def true_law(law: Delays, age: int, world: World) -> DelayLaw:
    """The law of one window as an oracle knows it."""
    part = rows(np.random.default_rng(11), law, days=np.array([NOW - age]), per_day=400_000, world=world)
    found = learn(delays(part, now=NOW + 10_000))
    return replace(found, log_variance=np.zeros_like(found.log_variance), never=(0.0, 0.0))


@dataclass
class Outcome:
    """What the trials of one law and age showed, for precision and recall."""

    trials: int = 0
    held: dict[str, int] = field(default_factory=lambda: {"precision": 0, "recall": 0})
    width: dict[str, list[float]] = field(default_factory=lambda: {"precision": [], "recall": []})
    ideal: dict[str, list[float]] = field(default_factory=lambda: {"precision": [], "recall": []})
    error: dict[str, list[float]] = field(default_factory=lambda: {"precision": [], "recall": []})
    labelled_only: dict[str, list[float]] = field(default_factory=lambda: {"precision": [], "recall": []})
    least: dict[str, list[float]] = field(default_factory=lambda: {"precision": [], "recall": []})
    refused: int = 0
    drift_told: int = 0
    histories: int = 0


def trial(outcome: Outcome, part: Rows, law: DelayLaw, oracle: DelayLaw, *, age: int, world: World) -> None:
    """Correct one window, and hold the answer against what all of its labels say."""
    decided = world.decisions[part.strata] == 1
    positive, inside = part.labels == 1, part.delay <= age
    truth = {"precision": positive[decided].mean(), "recall": decided[positive].mean()}
    seen = landed(part, world=world)
    found, best = corrected(seen, law, level=0.9), corrected(seen, oracle, level=0.9)
    outcome.trials += 1
    if any(measure.reason == "not_identifiable" for measure in found.values()):
        outcome.refused += 1
        return
    naive = {"precision": positive[decided & inside].mean(), "recall": decided[positive & inside].mean()}
    least = knowing(part, decided, inside, oracle, age=age)
    for name, measure in found.items():
        if measure.value is None or measure.low is None or measure.high is None:
            raise AssertionError(f"{name} has no value: {measure.reason}")
        outcome.held[name] += measure.low <= truth[name] <= measure.high
        outcome.width[name].append(measure.high - measure.low)
        outcome.ideal[name].append((best[name].high or 0) - (best[name].low or 0))
        outcome.error[name].append(abs(measure.value - truth[name]))
        outcome.labelled_only[name].append(abs(naive[name] - truth[name]))
        outcome.least[name].append(abs(least[name] - truth[name]))


def knowing(
    part: Rows, decided: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_], oracle: DelayLaw, *, age: int
) -> dict[str, float]:
    """The best guess of one who knows the delay law, and what every score means: no estimator is closer on average."""
    waiting = (1 - oracle.at(np.array([age * DAY]))[0])[part.strata]
    yes, no = part.scores * waiting[:, 1], (1 - part.scores) * waiting[:, 0]
    label = np.where(inside, part.labels, yes / np.maximum(yes + no, 1e-12))
    return {
        "precision": float(label[decided].mean()),
        "recall": float(label[decided].sum() / label.sum()),
    }


def run(
    law: Delays,
    share: float,
    *,
    histories: int,
    targets: int,
    per_day: int = 3000,
    seed: int = 0,
    world: World = WORLD,
) -> tuple[int, Outcome]:
    """Trials of one law at the age at which ``share`` of the labels has landed."""
    age = age_of(law, share, world)
    outcome, oracle = Outcome(), true_law(law, age, world)
    for history in range(histories):
        rng = np.random.default_rng([seed, history])
        days = np.array([day for day in np.arange(NOW - 148, NOW) if day != NOW - age])
        windows = [delays(rows(rng, law, days=np.array([day]), per_day=per_day, world=world)) for day in days]
        learned = learn(reduce(merge, windows), windows=windows, times=list(days), target=NOW - age)
        outcome.histories += 1
        outcome.drift_told += is_told_as_drifting(days, windows)
        for _ in range(targets):
            part = rows(rng, law, days=np.array([NOW - age]), per_day=per_day, world=world)
            trial(outcome, part, learned, oracle, age=age, world=world)
    return age, outcome


def is_told_as_drifting(days: FloatArray, windows: list[DelayCounts]) -> bool:
    """Whether the service would say at ``NOW`` that labels take longer (or shorter) than before."""
    cut = [Window(START + timedelta(days=float(day)), START + timedelta(days=float(day) + 1)) for day in days]
    change = lateness_of(list(zip(cut, windows, strict=True)), now=START + timedelta(days=NOW))
    if change is None:
        return False
    return change.p_value <= SURE and abs(math.log(change.factor)) >= math.log1p(DelayChangeLimits().warn)


class Line(NamedTuple):
    """One line of the table, and the errors behind it: ours, that of labelled-only, and the least there can be."""

    text: str
    error: float
    labelled_only: float
    least: float


def _lines(name: str, share: float, world: World, histories: int, targets: int, seed: int) -> list[Line]:
    """The two lines of a law and a share of labels; one where nothing can be said yet."""
    age, out = run(LAWS[name], share, histories=histories, targets=targets, seed=seed, world=world)
    told = f"| {world} | {name} | {share:.0%} | {age} d "
    answered = out.trials - out.refused
    if not answered:
        return [Line(f"{told}| both | refused: a class has not been observable | | | | | | |", 0.0, 0.0, 0.0)]
    lines = []
    for metric in ("precision", "recall"):
        error, naive, least = (float(np.mean(each[metric])) for each in (out.error, out.labelled_only, out.least))
        width = float(np.mean(out.width[metric]) / np.mean(out.ideal[metric]))
        lines.append(
            Line(
                f"{told}| {metric} | {out.held[metric] / answered:.1%} | {width:.2f} | {error:.4f} | {naive:.4f} "
                f"| {error / naive:.2f} | {least / naive:.2f} | {out.drift_told} of {out.histories} |",
                error,
                naive,
                least,
            )
        )
    return lines


def table(
    *,
    histories: int,
    targets: int,
    laws: list[str] | None = None,
    worlds: tuple[World, ...] = WORLDS,
    seed: int = 0,
    processes: int = 2,
) -> str:
    """The table of docs/labels.md, printed line by line as it is measured, and what it comes to."""
    lines: list[Line] = []
    head = [
        "| world | law | landed | age | metric | coverage of 90 % | width ÷ ideal | error | labelled-only | ratio "
        "| least ratio | told as drifting |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    with ProcessPoolExecutor(processes) as pool:
        asked = [
            pool.submit(_lines, name, share, world, histories, targets, seed)
            for world in worlds
            for name in laws or LAWS
            for share in SHARES
        ]
        for each in asked:
            told = each.result()
            print("\n".join(line.text for line in told), flush=True)
            lines += told
    error, naive, least = (sum(line[place] for line in lines) for place in (1, 2, 3))
    total = (
        f"Over all lines together the error is {error / naive:.2f} of that of labelled-only; the least there can be is "
        f"{least / naive:.2f}."
    )
    print(total)
    return "\n".join([*head, *(line.text for line in lines), "", total])


def main() -> None:
    parser = TABLE.parser(__doc__)
    parser.add_argument("--slow", type=float, nargs="*", default=[1.0], help="labels take so many times as long")
    parser.add_argument("--law", choices=list(LAWS), action="append")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    worlds = tuple(replace(world, slow=slow) for world in WORLDS for slow in asked.slow)
    told = table(**TABLE.options(asked), laws=asked.law, worlds=worlds, processes=asked.processes)
    n = asked.histories * asked.targets
    TABLE.keep(told, asked, said=f"{n} windows of 3,000 predictions a line, from {asked.histories} histories.")


if __name__ == "__main__":
    main()
