"""P(label | score) against the baseline: silent while the rule holds, whatever the scores do, and found when it moves.

Each world draws scores and says how likely a positive is at each; windows are drawn from it with a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from detectors.calibration_drift import CalibrationBaseline, CalibrationDrift
from detectors.profiles import FloatArray
from detectors.score_labels import ScoreLabelCounter, ScoreLabels, empty, merge_all

World = Callable[[np.random.Generator, int], tuple[FloatArray, FloatArray]]
"""From a generator and a number of rows to scores and the probability of a positive at each."""


def logistic(x: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-x)))


def normal(shift: float = 0.0, *, spread: float = 1.5, odds: float = 0.0, slope: float = 1.0) -> World:
    """Log odds around ``shift``; a positive is as likely as the score says but for ``odds`` and ``slope``."""

    def draw(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
        x = shift + spread * rng.normal(size=n)
        return logistic(x), logistic(slope * x + odds)

    return draw


def rare(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    score = rng.beta(1, 30, n)
    return score, score


def bumpy(shift: float = 0.0) -> World:
    """A score that is no probability, and does not even rise with it."""

    def draw(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
        x = shift + rng.normal(size=n)
        return x, 0.5 + 0.3 * np.sin(3 * x)

    return draw


def restless(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    """Each window is a little more, or less, of the positives than the last."""
    x = 1.5 * rng.normal(size=n)
    return logistic(x), logistic(x + 0.3 * rng.normal())


def turned_between(low: float, high: float, by: float) -> World:
    """The rule changed for scores between ``low`` and ``high`` alone."""

    def draw(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
        score, p = normal()(rng, n)
        return score, np.where((score > low) & (score < high), p + by, p)

    return draw


def flipped(share: float) -> World:
    def draw(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
        score, p = normal()(rng, n)
        return score, (1 - share) * p + share * (1 - p)

    return draw


def labelled(rng: np.random.Generator, world: World, n: int) -> ScoreLabels:
    score, p = world(rng, n)
    counter = ScoreLabelCounter()
    counter.update(score, None, rng.random(n) < p)
    return counter.counts()


def learned(rng: np.random.Generator, world: World, n: int, windows: int = 24) -> CalibrationBaseline:
    parts = [labelled(rng, world, n) for _ in range(windows)]
    return CalibrationBaseline(merge_all(parts), parts)


def compared(rng: np.random.Generator, baseline: CalibrationBaseline, world: World, n: int) -> CalibrationDrift:
    found = baseline.compare(labelled(rng, world, n))
    assert found is not None
    return found


SILENT = [
    pytest.param(normal(), normal(), id="nothing changes"),
    pytest.param(rare, rare, id="rare positives"),
    pytest.param(normal(spread=12), normal(spread=12), id="scores that are nearly sure"),
    pytest.param(normal(odds=-1.0, slope=0.5), normal(odds=-1.0, slope=0.5), id="scores that were wrong before"),
    pytest.param(normal(), normal(1.2), id="scores move, the rule holds"),
    pytest.param(normal(odds=-1.0, slope=0.5), normal(1.2, odds=-1.0, slope=0.5), id="wrong scores move"),
    pytest.param(bumpy(), bumpy(1.0), id="scores that do not rise with the rule move"),
    pytest.param(restless, restless, id="windows differ anyway"),
]


@pytest.mark.parametrize(("before", "after"), SILENT)
def test_without_a_changed_rule_chance_passes_the_level_no_more_often_than_it_says(before: World, after: World) -> None:
    rng = np.random.default_rng(7)
    values = []
    for _ in range(5):
        baseline = learned(rng, before, 300)
        values += [compared(rng, baseline, after, 300).p_value for _ in range(24)]
    # 120 windows: 5 % of them are 6, and 14 are as good as never by chance; 1 % are 1.2, and 7 as good as never.
    assert sum(p <= 0.05 for p in values) <= 14
    assert sum(p <= 0.01 for p in values) <= 6


@pytest.mark.slow
@pytest.mark.parametrize("rows", [250, 2000])
@pytest.mark.parametrize(("before", "after"), SILENT)
def test_the_level_is_kept_in_the_tail(before: World, after: World, rows: int) -> None:
    """The shares in docs/statistics.md, printed with ``-s``."""
    rng = np.random.default_rng(11)
    values = []
    for _ in range(16):
        baseline = learned(rng, before, rows)
        values += [compared(rng, baseline, after, rows).p_value for _ in range(50)]
    shares = {level: sum(p <= level for p in values) / len(values) for level in (0.05, 0.01, 0.002)}
    print(rows, shares)
    assert shares[0.05] <= 0.1
    assert shares[0.01] <= 0.03


FOUND = [
    pytest.param(turned_between(0.5, 0.8, -0.3), id="one stretch of middling scores"),
    pytest.param(flipped(0.2), id="a share of labels turned round"),
    pytest.param(normal(odds=0.8), id="more positives at every score"),
    pytest.param(normal(slope=0.4), id="scores tell less than they did"),
]


@pytest.mark.parametrize("after", FOUND)
def test_a_changed_rule_is_found_with_its_size(after: World) -> None:
    rng = np.random.default_rng(3)
    baseline = learned(rng, normal(), 500)
    score, p = after(rng, 200_000)
    size = float(np.sqrt(np.mean((p - score) ** 2)))
    found = [compared(rng, baseline, after, 1000) for _ in range(30)]
    assert np.mean([each.p_value <= 0.001 for each in found]) > 0.9
    assert np.mean([each.value for each in found]) == pytest.approx(size, rel=0.15)
    # Groups of scores blur a change that ends within one: the interval is of what they show.
    assert np.mean([each.low <= size <= each.high for each in found]) >= 0.8


def test_where_it_changed_is_named() -> None:
    rng = np.random.default_rng(4)
    baseline = learned(rng, normal(), 500)
    found = compared(rng, baseline, turned_between(0.5, 0.8, -0.3), 3000)
    assert found.part == "stretch"
    assert found.where.low == pytest.approx(0.5, abs=0.08)
    assert found.where.high == pytest.approx(0.8, abs=0.08)
    assert found.where.observed < found.where.expected - 0.2
    assert sum(group.n for group in found.groups) == found.n_current == 3000 - found.n_outside


def test_labels_turned_round_at_sure_scores_show_though_as_many_are_positive() -> None:
    """Where scores are sure there are hardly any doubtful ones: two groups, and the exact law of small counts."""
    rng = np.random.default_rng(5)
    sure = normal(spread=30)
    baseline = learned(rng, sure, 250)

    def turned(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
        score, p = sure(rng, n)
        return score, 1 - p

    found = compared(rng, baseline, turned, 250)
    assert len(found.groups) == 2
    assert found.p_value < 1e-20
    assert found.value > 0.9


def test_what_windows_differ_by_anyway_is_no_change() -> None:
    rng = np.random.default_rng(6)
    parts = [labelled(rng, restless, 3000) for _ in range(30)]
    whole = merge_all(parts)
    aware, naive = CalibrationBaseline(whole, parts), CalibrationBaseline(whole)
    windows = [labelled(rng, restless, 3000) for _ in range(40)]
    sides = [[baseline.compare(each) for each in windows] for baseline in (aware, naive)]
    found = [sum(each is not None and each.p_value < 0.01 for each in side) for side in sides]
    assert found[0] <= 3
    assert found[1] > 20
    assert all(each is not None and each.overdispersion > 2 for each in sides[0])
    assert "assumes" in (sides[1][0] or pytest.fail("nothing compared")).describe()


def test_the_smallest_change_that_it_states_is_found_in_four_of_five_and_half_of_it_is_not() -> None:
    rng = np.random.default_rng(8)
    baseline = learned(rng, normal(), 1000)
    stated = compared(rng, baseline, normal(), 1000).smallest_detectable(0.01)
    score, _ = normal()(rng, 100_000)
    odds = np.linspace(0.02, 1.5, 150)
    sizes = [np.sqrt(np.mean((logistic(np.log(score / (1 - score)) + each) - score) ** 2)) for each in odds]
    found = []
    for size in (stated, stated / 2):
        changed = normal(odds=float(np.interp(size, sizes, odds)))
        found.append(np.mean([compared(rng, baseline, changed, 1000).p_value <= 0.01 for _ in range(100)]))
    assert found[0] > 0.7
    assert found[1] < 0.5


def test_order_and_cutting_change_nothing() -> None:
    rng = np.random.default_rng(9)
    baseline = learned(rng, normal(), 300)
    score, p = normal()(rng, 900)
    label = rng.random(900) < p
    whole, cut = ScoreLabelCounter(), ScoreLabelCounter()
    whole.update(score, None, label)
    for rows in np.array_split(rng.permutation(900), 7):
        cut.update(score[rows], None, label[rows])
    one, other = baseline.compare(whole.counts()), baseline.compare(cut.counts())
    assert one is not None
    assert other is not None
    assert one.describe() == other.describe()
    assert (one.value, one.p_value) == (other.value, other.p_value)


def test_windows_that_are_kept_roughly_show_the_same_wander() -> None:
    rng = np.random.default_rng(14)
    parts, rough = [], []
    for _ in range(12):
        score, p = restless(rng, 20_000)
        label = rng.random(20_000) < p
        exact, small = ScoreLabelCounter(), ScoreLabelCounter(buffer_rows=3000, max_scores=2**12)
        for counter in (exact, small):
            counter.update(score, None, label)
        parts.append(exact.counts())
        rough.append(small.counts().coarsen(200))
    assert len(small.counts().scores) <= 2**12
    assert (small.counts().n, small.counts().n_positive) == (parts[-1].n, parts[-1].n_positive)
    now = labelled(rng, restless, 20_000)
    one, other = (CalibrationBaseline(merge_all(parts), windows).compare(now) for windows in (parts, rough))
    assert one is not None
    assert other is not None
    assert other.overdispersion == pytest.approx(one.overdispersion, rel=0.05)
    assert other.p_value == pytest.approx(one.p_value, rel=0.2)


def test_scores_that_the_baseline_never_saw_take_no_part() -> None:
    rng = np.random.default_rng(10)
    baseline = learned(rng, normal(), 500)
    counter = ScoreLabelCounter()
    counter.update(np.full(50, 2.0), None, np.ones(50))
    assert baseline.compare(counter.counts()) is None
    assert baseline.compare(empty()) is None
    together = merge_all([counter.counts(), labelled(rng, normal(), 500)])
    found = baseline.compare(together)
    assert found is not None
    assert found.n_outside >= 50
    assert found.n_current == 550 - found.n_outside


def test_decisions_stand_for_scores_where_there_are_none() -> None:
    rng = np.random.default_rng(12)

    def decided(right: float) -> ScoreLabels:
        said = rng.random(1000) < 0.3
        truth = np.where(rng.random(1000) < right, said, ~said)
        counter = ScoreLabelCounter()
        counter.update(np.full(1000, np.nan), said, truth)
        return counter.counts()

    parts = [decided(0.9) for _ in range(10)]
    baseline = CalibrationBaseline(merge_all(parts), parts)
    same, worse = baseline.compare(decided(0.9)), baseline.compare(decided(0.75))
    assert same is not None
    assert worse is not None
    assert same.p_value > 0.01
    assert worse.p_value < 1e-6
    assert worse.value == pytest.approx(0.15, abs=0.04)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_baseline_of_one_class_or_of_few_labels_says_nothing(label: float) -> None:
    counter = ScoreLabelCounter()
    counter.update(np.linspace(0, 1, 500), None, np.full(500, label))
    with pytest.raises(ValueError, match="do not say"):
        CalibrationBaseline(counter.counts())
    with pytest.raises(ValueError, match="do not say"):
        CalibrationBaseline(empty())


def test_all_scores_equal_are_one_question() -> None:
    rng = np.random.default_rng(13)

    def flat(share: float) -> ScoreLabels:
        counter = ScoreLabelCounter()
        counter.update(np.full(800, 0.4), None, rng.random(800) < share)
        return counter.counts()

    baseline = CalibrationBaseline(flat(0.4))
    same, other = baseline.compare(flat(0.4)), baseline.compare(flat(0.6))
    assert same is not None
    assert other is not None
    assert same.p_value > 0.01
    assert other.p_value < 1e-6


SETS = Path(__file__).parents[2] / "shared" / "data" / "sets"


@pytest.mark.skipif(not SETS.is_dir(), reason="the shared data sets are not beside this checkout")
def test_the_car_loans_are_silent_before_their_drift_and_stay_below_the_limit_after_it() -> None:
    """Inputs drift from row 25,000 on; what scores mean moves by three to four points with them, and by none before."""
    reference, analysis = (pd.read_parquet(SETS / f"nml_car_loan_{part}.parquet") for part in ("reference", "analysis"))

    def counted(frame: pd.DataFrame) -> ScoreLabels:
        counter = ScoreLabelCounter()
        counter.update(frame["y_pred_proba"].to_numpy(), None, frame["repaid"].to_numpy(float))
        return counter.counts()

    parts = [counted(reference.iloc[at : at + 2500]) for at in range(0, len(reference), 2500)]
    baseline = CalibrationBaseline(merge_all(parts), parts)
    found = [baseline.compare(counted(analysis.iloc[at : at + 5000])) for at in range(0, len(analysis), 5000)]
    values = [(each.p_value, each.value) for each in found if each is not None]
    assert len(values) == 10
    assert min(p for p, _ in values[:5]) > 0.05
    assert max(p for p, _ in values[5:]) < 0.005
    assert all(0.02 < value < 0.05 for _, value in values[5:])
