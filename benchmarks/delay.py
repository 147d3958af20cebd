"""How well corrected precision and recall hold under five delay laws: coverage, width and error, as a table.

Scores are Beta(1, 9), a score is the probability of a positive, and from 0.3 on the decision is positive.  Each trial
is a log of daily windows as of one moment: the delay law is learned from the windows before as far as their labels
have landed, and a window of a given age is corrected.  Run it with ``python -m benchmarks.delay``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np

from detectors.corrected import Landed, corrected
from detectors.delay import DelayCounts, DelayLaw, age_edges, count_delays, delay_change, learn, merge
from detectors.profiles import FloatArray, IntArray

DAY = 86400.0
HORIZON = 120.0
CUT = 0.3
SCORE_EDGES = np.array([0.074, 0.164, CUT, 0.4])
EDGES = age_edges(HORIZON * DAY)
DECISIONS = np.array([0, 0, 0, 1, 1])

Delays = Callable[[np.random.Generator, FloatArray, IntArray, FloatArray], FloatArray]
"""``(rng, scores, labels, day)`` → days from prediction to label; ``day`` is when the prediction was made."""


def independent(
    rng: np.random.Generator,
    scores: FloatArray,
    labels: IntArray,  # noqa: ARG001
    day: FloatArray,  # noqa: ARG001
) -> FloatArray:
    return rng.exponential(12.0, len(scores))


def by_score(
    rng: np.random.Generator,
    scores: FloatArray,
    labels: IntArray,  # noqa: ARG001
    day: FloatArray,  # noqa: ARG001
) -> FloatArray:
    return rng.exponential(1.0, len(scores)) * 20 * np.exp(-3 * scores)


def by_class(
    rng: np.random.Generator,
    scores: FloatArray,
    labels: IntArray,
    day: FloatArray,  # noqa: ARG001
) -> FloatArray:
    return np.where(labels == 1, rng.exponential(6.0, len(scores)), 4 + rng.exponential(18.0, len(scores)))


def drifting(rng: np.random.Generator, scores: FloatArray, labels: IntArray, day: FloatArray) -> FloatArray:
    """Each day labels take one percent longer than the day before."""
    return by_class(rng, scores, labels, day) * np.exp(0.01 * (day - 150))


def in_batches(rng: np.random.Generator, scores: FloatArray, labels: IntArray, day: FloatArray) -> FloatArray:
    """Labels are delivered once a week."""
    known = day + by_class(rng, scores, labels, day)
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


@dataclass(frozen=True)
class Rows:
    """The predictions of some days: ``day`` when each was made, and ``delay`` in days."""

    day: FloatArray
    strata: IntArray
    labels: IntArray
    delay: FloatArray


def rows(rng: np.random.Generator, law: Delays, *, days: FloatArray, per_day: int) -> Rows:
    day = np.repeat(days, per_day)
    scores = rng.beta(1, 9, len(day))
    labels = (rng.random(len(day)) < scores).astype(np.int64)
    strata = np.searchsorted(SCORE_EDGES, scores, side="right")
    return Rows(day, strata, labels, law(rng, scores, labels, day))


def delays(part: Rows, *, now: float = NOW) -> DelayCounts:
    age = now - part.day
    landed = part.delay <= age
    return count_delays(
        np.where(landed, part.delay * DAY, np.nan),
        np.where(landed, part.labels, np.nan),
        age * DAY,
        edges=EDGES,
        strata=part.strata,
        n_strata=len(DECISIONS),
    )


def landed(part: Rows, *, now: float = NOW) -> Landed:
    age = float(now - part.day[0])
    labels = np.zeros((1, len(DECISIONS), 2), np.int64)
    inside = part.delay <= age
    np.add.at(labels, (0, part.strata[inside], part.labels[inside]), 1)
    predictions = np.bincount(part.strata, minlength=len(DECISIONS))[None]
    return Landed(np.array([age * DAY]), predictions, labels, DECISIONS)


def age_of(law: Delays, share: float) -> int:
    """The age in days at which about this share of a window's labels has landed."""
    rng = np.random.default_rng(7)
    for age in range(1, 100):
        part = rows(rng, law, days=np.array([NOW - age]), per_day=20_000)
        if (part.delay <= age).mean() >= share:
            return age
    raise ValueError(f"no age has {share:.0%} of the labels")


def true_law(law: Delays, age: int) -> DelayLaw:
    """The law of one window as an oracle knows it."""
    part = rows(np.random.default_rng(11), law, days=np.array([NOW - age]), per_day=400_000)
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
    drift_told: int = 0
    histories: int = 0


def trial(outcome: Outcome, part: Rows, law: DelayLaw, oracle: DelayLaw, *, age: int) -> None:
    """Correct one window, and hold the answer against what all of its labels say."""
    decided = DECISIONS[part.strata] == 1
    positive, inside = part.labels == 1, part.delay <= age
    truth = {"precision": positive[decided].mean(), "recall": decided[positive].mean()}
    naive = {"precision": positive[decided & inside].mean(), "recall": decided[positive & inside].mean()}
    seen = landed(part)
    found, best = corrected(seen, law, level=0.9), corrected(seen, oracle, level=0.9)
    outcome.trials += 1
    for name, measure in found.items():
        if measure.value is None or measure.low is None or measure.high is None:
            raise AssertionError(f"{name} has no value: {measure.reason}")
        outcome.held[name] += measure.low <= truth[name] <= measure.high
        outcome.width[name].append(measure.high - measure.low)
        outcome.ideal[name].append((best[name].high or 0) - (best[name].low or 0))
        outcome.error[name].append(abs(measure.value - truth[name]))
        outcome.labelled_only[name].append(abs(naive[name] - truth[name]))


def run(
    law: Delays, share: float, *, histories: int, targets: int, per_day: int = 3000, seed: int = 0
) -> tuple[int, Outcome]:
    """Trials of one law at the age at which ``share`` of the labels has landed."""
    age = age_of(law, share)
    outcome, oracle = Outcome(), true_law(law, age)
    for history in range(histories):
        rng = np.random.default_rng([seed, history])
        days = np.array([day for day in np.arange(NOW - 148, NOW) if day != NOW - age])
        windows = [delays(rows(rng, law, days=np.array([day]), per_day=per_day)) for day in days]
        learned = learn(reduce(merge, windows), windows=windows, times=list(days), target=NOW - age)
        recent = reduce(merge, windows[-30:])
        older = windows[:-30]
        change = delay_change(recent, learn(reduce(merge, older), windows=older))
        outcome.histories += 1
        outcome.drift_told += change is not None and change.p_value < 0.01 and abs(math.log(change.factor)) > 0.1
        for _ in range(targets):
            part = rows(rng, law, days=np.array([NOW - age]), per_day=per_day)
            trial(outcome, part, learned, oracle, age=age)
    return age, outcome


def table(*, histories: int, targets: int, laws: list[str]) -> str:
    """The table of docs/labels.md."""
    lines = [
        "| law | landed | age | metric | coverage of 90 % | width ÷ ideal | error | labelled-only | ratio "
        "| told as drifting |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in laws:
        law = LAWS[name]
        for share in SHARES:
            age, out = run(law, share, histories=histories, targets=targets)
            for metric in ("precision", "recall"):
                error, naive = float(np.mean(out.error[metric])), float(np.mean(out.labelled_only[metric]))
                width = float(np.mean(out.width[metric]) / np.mean(out.ideal[metric]))
                lines.append(
                    f"| {name} | {share:.0%} | {age} d | {metric} | {out.held[metric] / out.trials:.1%} | {width:.2f} "
                    f"| {error:.4f} | {naive:.4f} | {error / naive:.2f} | {out.drift_told} of {out.histories} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=20)
    parser.add_argument("--targets", type=int, default=25)
    parser.add_argument("--law", choices=list(LAWS), action="append")
    asked = parser.parse_args()
    print(table(histories=asked.histories, targets=asked.targets, laws=asked.law or list(LAWS)))
