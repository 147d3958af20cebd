"""How well the corrected table of thresholds and the corrected reliability curve hold under five delay laws.

The same logs, laws and ages as in `benchmarks/delay.py`, which see.  ``make delay`` measures, and writes the table to
docs/labels.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.delay import LAWS, WORLD, Rows, World, age_of, landed, true_law
from benchmarks.delay_scores import Outcome, counted, strata_of, table, trials
from benchmarks.measured import Measured
from detectors.classification import Measure, Reliability, ThresholdRow, reliability_curve, threshold_table
from detectors.corrected import fit
from detectors.corrected_scores import expect
from detectors.corrected_tables import Tables, corrected_tables
from detectors.delay import DelayLaw

TABLE = Measured("benchmarks.delay_tables", "delay tables", {"histories": 4, "targets": 30, "seed": 0})
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.6)
MEASURES = ("precision", "recall", "f1", "specificity")
COLUMNS = (*MEASURES, "reliability", "confusion")
CELLS = ("tp", "fp", "fn", "tn")
Key = tuple[str, float]
"""A column, and the threshold, the bin of the score, or the outcome."""
Triple = tuple[float, float, float]
"""Value, low and high."""
Cells = dict[Key, Triple]


def correct(part: Rows, law: DelayLaw, *, age: float, world: World = WORLD) -> Tables:
    """What is said of one window at this age."""
    counts = counted(part, age, world)
    found = fit(landed(part, world=world), law)
    table = expect(counts, found, strata_of(counts, world), thresholds=THRESHOLDS)
    told = corrected_tables(table, found, counts, THRESHOLDS, absent=None, level=0.9)
    if isinstance(told, str):
        raise TypeError(f"no tables: {told}")
    return told


def cells(told: Tables) -> Cells:
    confusion = {("confusion", float(at)): _triple(told.confusion[name]) for at, name in enumerate(CELLS)}
    return dict(_of_thresholds(told.thresholds)) | dict(_of_bins(told.reliability)) | confusion


def plain(part: Rows, age: float, world: World = WORLD) -> Cells:
    """The same of the labels that have landed at this age, as a fair sample: of all of them, where all have landed."""
    counts = counted(part, age, world)
    matrix, grown = counts.confusion(), counts.n / max(counts.n_labelled, 1)
    taken = {("confusion", float(at)): (getattr(matrix, name) * grown,) * 3 for at, name in enumerate(CELLS)}
    return dict(_of_thresholds(threshold_table(counts, THRESHOLDS))) | dict(_of_bins(reliability_curve(counts))) | taken


def _triple(measure: Measure) -> Triple:
    if measure.value is None or measure.low is None or measure.high is None:
        raise AssertionError(f"no value: {measure.reason}")
    return measure.value, measure.low, measure.high


def _of_thresholds(
    told: Sequence[ThresholdRow],
) -> Iterator[tuple[Key, Triple]]:
    for row in told:
        for name in MEASURES:
            measure = getattr(row, name)
            if measure.value is not None:
                yield (name, row.threshold), _triple(measure)


def _of_bins(curve: Reliability | None) -> Iterator[tuple[Key, Triple]]:
    if curve is not None:
        places = np.ceil(curve.predicted * 10 - 1e-9)
        for place, *told in zip(places, curve.observed, curve.low, curve.high, strict=True):
            value, low, high = map(float, told)
            yield ("reliability", float(place)), (value, low, high)


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
    """Trials of one law at the age at which ``share`` of the labels has landed; each cell of a table is one."""
    age = age_of(LAWS[name], share, world)
    oracle = true_law(LAWS[name], age, world)
    told = {column: Outcome() for column in COLUMNS}
    drawn = trials(name, age, histories=histories, targets=targets, per_day=per_day, seed=seed, world=world)
    for part, learned in drawn:
        truth, naive = plain(part, np.inf, world), plain(part, age, world)
        found, best = (cells(correct(part, each, age=age, world=world)) for each in (learned, oracle))
        for key in found.keys() & truth.keys() & best.keys():
            _note(told[key[0]], found[key], best[key], truth[key][0], naive.get(key))
    return age, told


def _note(
    out: Outcome,
    found: Triple,
    best: Triple,
    truth: float,
    naive: Triple | None,
) -> None:
    out.trials += 1
    out.held += found[1] - 1e-9 <= truth <= found[2] + 1e-9
    out.width.append(found[2] - found[1])
    out.ideal.append(best[2] - best[1])
    if naive is not None:  # of some cells no label has landed
        out.error.append(abs(found[0] - truth))
        out.labelled_only.append(abs(naive[0] - truth))


def main() -> None:
    asked = TABLE.parser(__doc__).parse_args()
    told = table(**TABLE.options(asked), columns=COLUMNS, measure=run)
    said = (
        f"{asked.histories * asked.targets} windows of 3,000 predictions a line, thresholds "
        f"{', '.join(map(str, THRESHOLDS))}.\n"
        "A cell is the coverage of the 90 % intervals · their width ÷ ideal · error ÷ that of labelled-only."
    )
    TABLE.keep(told, asked, said=said)


if __name__ == "__main__":
    main()
