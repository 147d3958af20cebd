"""How well corrected ROC-AUC, PR-AUC, Brier, log loss and calibration error hold under five delay laws, as a table.

The same logs, laws and ages as in `benchmarks/delay.py`, which see.  ``make delay`` measures, and writes the table to
docs/labels.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from benchmarks.delay import LAWS, NOW, SHARES, WORLD, Rows, World, age_of, delays, landed, rows, true_law
from benchmarks.measured import Measured
from detectors.classification import Measure, performance
from detectors.corrected import fit
from detectors.corrected_scores import SCORE_METRICS, corrected_scores
from detectors.delay import DelayLaw, learn
from detectors.delay_counts import merge
from detectors.profiles import IntArray
from detectors.score_labels import ScoreLabelCounter, ScoreLabels

TABLE = Measured("benchmarks.delay_scores", "delay scores", {"histories": 10, "targets": 30, "seed": 0})
METRICS = tuple(SCORE_METRICS)


def counted(part: Rows, age: float, world: World = WORLD) -> ScoreLabels:
    """The predictions by score, decision and label, as far as labels have landed at this age (days)."""
    counter = ScoreLabelCounter()
    decided = world.decisions[part.strata].astype(float)
    counter.update(part.scores, decided, np.where(part.delay <= age, part.labels, np.nan))
    return counter.counts()


def strata_of(counts: ScoreLabels, world: World = WORLD) -> IntArray:
    """The stratum of each score, whatever the decision: it follows from the score."""
    return np.repeat(np.searchsorted(world.score_edges, counts.scores, side="right")[:, None], 3, axis=1)


def correct(part: Rows, law: DelayLaw, *, age: float, world: World = WORLD, level: float = 0.9) -> dict[str, Measure]:
    """What is said of one window at this age."""
    counts = counted(part, age, world)
    found = fit(landed(part, world=world), law)
    return corrected_scores(counts, found, strata_of(counts, world), metrics=METRICS, level=level)


@dataclass
class Outcome:
    """What the trials of one law and age showed of one metric."""

    trials: int = 0
    held: int = 0
    width: list[float] = field(default_factory=list)
    ideal: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    labelled_only: list[float] = field(default_factory=list)


def trials(
    name: str, age: int, *, histories: int, targets: int, per_day: int, seed: int, world: World
) -> Iterator[tuple[Rows, DelayLaw]]:
    """Windows of this age (days) under one law, each with the delay law that its history teaches."""
    law = LAWS[name]
    for history in range(histories):
        rng = np.random.default_rng([seed, history])
        days = np.array([day for day in np.arange(NOW - 148, NOW) if day != NOW - age])
        windows = [delays(rows(rng, law, days=np.array([day]), per_day=per_day, world=world)) for day in days]
        learned = learn(reduce(merge, windows), windows=windows, times=list(days), target=NOW - age)
        for _ in range(targets):
            yield rows(rng, law, days=np.array([NOW - age]), per_day=per_day, world=world), learned


def run(
    name: str,
    share: float,
    *,
    histories: int,
    targets: int,
    per_day: int = 3000,
    seed: int = 0,
    world: World = WORLD,
) -> tuple[int, dict[str, Outcome]]:
    """Trials of one law at the age at which ``share`` of the labels has landed."""
    age = age_of(LAWS[name], share, world)
    oracle = true_law(LAWS[name], age, world)
    told = {metric: Outcome() for metric in METRICS}
    drawn = trials(name, age, histories=histories, targets=targets, per_day=per_day, seed=seed, world=world)
    for part, learned in drawn:
        truth, naive = (performance(counted(part, at, world), METRICS) for at in (np.inf, age))
        found, best = (correct(part, each, age=age, world=world) for each in (learned, oracle))
        for metric, outcome in told.items():
            _note(outcome, found[metric], best[metric], truth[metric], naive[metric])
    return age, told


def _note(outcome: Outcome, found: Measure, best: Measure, truth: Measure, naive: Measure) -> None:
    if found.value is None or truth.value is None or naive.value is None:
        raise AssertionError(f"no value: {found.reason or truth.reason or naive.reason}")
    outcome.trials += 1
    outcome.held += (found.low or 0.0) <= truth.value <= (found.high or 0.0)
    outcome.width.append((found.high or 0.0) - (found.low or 0.0))
    outcome.ideal.append((best.high or 0.0) - (best.low or 0.0))
    outcome.error.append(abs(found.value - truth.value))
    outcome.labelled_only.append(abs(naive.value - truth.value))


def table(
    *,
    histories: int,
    targets: int,
    seed: int = 0,
    columns: Sequence[str] = METRICS,
    measure: Callable[..., tuple[int, dict[str, Outcome]]] = run,
) -> str:
    """The table of docs/labels.md: in each cell coverage, width ÷ ideal, and error ÷ that of the labels so far."""
    lines = [f"| law | landed | {' | '.join(columns)} |", "|---|---|" + len(columns) * "---|"]
    for name in LAWS:
        for share in SHARES:
            age, told = measure(name, share, histories=histories, targets=targets, seed=seed)
            lines.append(f"| {name} | {share:.0%}, {age} d | {' | '.join(_cell(told[each]) for each in columns)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def _cell(out: Outcome) -> str:
    width, error = (float(np.mean(a) / np.mean(b)) for a, b in ((out.width, out.ideal), (out.error, out.labelled_only)))
    return f"{out.held / out.trials:.0%} · {width:.2f} · {error:.2f}"


def main() -> None:
    asked = TABLE.parser(__doc__).parse_args()
    told = table(**TABLE.options(asked))
    said = (
        f"{asked.histories * asked.targets} windows of 3,000 predictions a line.\n"
        "A cell is the coverage of the 90 % interval · its width ÷ ideal · error ÷ that of labelled-only."
    )
    TABLE.keep(told, asked, said=said)


if __name__ == "__main__":
    main()
