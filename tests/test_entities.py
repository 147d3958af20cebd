"""Rows of one entity are worth what their key says, from the first window on, and in bounded memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from databases import write_table

from benchmarks.calibrate import profile_of, spec_of
from benchmarks.streams import BINS
from detectors.change import ChangeTest, History, Watched, change
from detectors.effective_size import Entities, measure
from detectors.profiles import CategoricalSpec, Column, NumericSpec
from monitor.checks import Scope, segment_drift
from monitor.config import Config
from monitor.config_file import load
from monitor.counting import ENTITY, count
from monitor.entities import GROUPS, Grouped, effects, told_by
from monitor.models import Window
from monitor.run import run_due
from monitor.service import Service
from monitor.sources import Source
from monitor.store import Store

SPEC = spec_of(BINS)
assert isinstance(SPEC, NumericSpec)


def rows(rng: np.random.Generator, n: int, each: int, *, shift: float = 0.0) -> pa.RecordBatch:
    """``each`` equal rows of every entity, in the middle of ten equally likely bins."""
    values = np.clip(rng.integers(0, BINS, n // each) + shift, 0, BINS - 1) - 0.5
    names = np.arange(n // each) + int(rng.integers(1 << 40))
    order = rng.permutation(n)
    return pa.RecordBatch.from_pydict({"x": np.repeat(values, each)[order], ENTITY: np.repeat(names, each)[order]})


def grouped(batches: list[pa.RecordBatch]) -> Grouped:
    seen = Grouped(batches, {"x": SPEC})
    counts = count(seen, {"x": SPEC})
    assert counts.n_rows == sum(batch.num_rows for batch in batches)
    return seen


def judged(rng: np.random.Generator, *, n: int, each: int, baseline: int, key: bool, each_there: int = 1) -> ChangeTest:
    """A window of a model whose baseline is a table, before any window could show how far shares wander."""
    before, now = [rows(rng, baseline, each_there)], [rows(rng, n, each)]
    reference = count(before, {"x": SPEC}).columns["x"]
    column: Column = Column("x", SPEC, reference)
    if key:
        column = told_by({"x": column}, grouped(now).measure(), effects(grouped(before).measure()))["x"]
    history = column.history if isinstance(column, Watched) else None
    return change(SPEC, reference, count(now, {"x": SPEC}).columns["x"], history=history)


@pytest.mark.parametrize(
    ("n", "baseline", "each_there"), [(1000, 10_000, 1), (4000, 4000, 10), (4000, 2000, 10), (1000, 20_000, 10)]
)
def test_ten_equal_rows_of_each_entity_alarm_no_more_than_twice_the_level(
    n: int, baseline: int, each_there: int
) -> None:
    rng = np.random.default_rng([n, baseline, each_there])
    tests = [judged(rng, n=n, each=10, baseline=baseline, key=True, each_there=each_there) for _ in range(300)]
    assert all(test.can_tell for test in tests)
    assert sum(test.p_value <= 0.01 for test in tests) <= 12  # twice the level is 6: of that Poisson law seldom more
    assert sum(test.p_value <= 0.001 for test in tests) <= 4
    told = tests[0].describe()
    assert 0.8 * GROUPS <= told["entity_groups"] <= GROUPS
    assert "assumes" not in told


def test_without_the_key_the_assumption_is_wrong_and_told() -> None:
    rng = np.random.default_rng(1)
    tests = [judged(rng, n=1000, each=10, baseline=10_000, key=False) for _ in range(50)]
    assert sum(test.p_value <= 0.01 for test in tests) > 40
    assert "independent" in tests[0].describe()["assumes"]


def test_a_change_of_the_entities_is_found_and_independent_rows_cost_little() -> None:
    rng = np.random.default_rng(2)
    spec = {"x": SPEC}
    reference = count([rows(rng, 20_000, 1)], spec).columns["x"]
    for each, n in ((1, 2000), (10, 10_000)):
        now = [rows(rng, n, each, shift=1.0)]
        column = told_by({"x": Column("x", SPEC, reference)}, grouped(now).measure(), {})["x"]
        assert isinstance(column, Watched)
        test = change(SPEC, reference, count(now, spec).columns["x"], history=column.history)
        assert test.p_value < 1e-6
        assert test.dependence.effect == pytest.approx(each, rel=0.35)


def test_with_few_entities_it_cannot_be_told() -> None:
    rng = np.random.default_rng(3)
    test = judged(rng, n=1000, each=250, baseline=10_000, key=True)
    assert not test.can_tell
    assert test.smallest_detectable(0.01) is None


def test_batches_and_their_order_change_nothing() -> None:
    rng = np.random.default_rng(4)
    whole = rows(rng, 5000, 5)
    parts = [whole.slice(at, 700) for at in range(0, 5000, 700)]
    first, second = (grouped(batches).measure()["x"] for batches in ([whole], parts[::-1]))
    assert (first == second).all()
    assert first.sum() == 5000


def test_beyond_enough_rows_every_second_entity_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.entities.ENOUGH", 4000)
    rng = np.random.default_rng(5)
    counted = grouped([rows(rng, 20_000, 10) for _ in range(3)]).measure()["x"]
    assert 1000 < counted.sum() <= 4000
    assert len(counted) == GROUPS
    assert measure(counted[:, :-1], entities=Entities()).effect == pytest.approx(10, rel=0.4)


def test_rows_without_an_entity_stand_for_themselves_and_categories_and_nulls_have_their_bins() -> None:
    spec = CategoricalSpec(("a", "b"))
    rng = np.random.default_rng(6)
    values = rng.choice(["a", "b", "new", None], 4000, p=[0.5, 0.3, 0.1, 0.1])
    batch = pa.RecordBatch.from_pydict({"c": pa.array(list(values)), ENTITY: pa.nulls(4000, pa.string())})
    seen = Grouped([batch], {"c": spec})
    assert list(seen) == [batch]
    counts = seen.measure()["c"]
    assert counts.sum(axis=0).tolist() == [int((values == v).sum()) for v in ("a", "b", "new")] + [
        sum(v is None for v in values)
    ]
    assert measure(counts, entities=Entities()).effect < 1.3


def test_windows_that_show_it_all_are_believed_before_the_key() -> None:
    rng = np.random.default_rng(7)
    reference = count([rows(rng, 1000, 1)], {"x": SPEC}).columns["x"]
    windows = np.full((8, BINS + 1), 100)
    column = Watched("x", SPEC, reference, History(windows))
    assert told_by({"x": column}, grouped([rows(rng, 1000, 10)]).measure(), {})["x"] is column
    assert profile_of(SPEC, windows[0]).n == 1100


def test_segments_take_over_what_the_rows_of_all_are_worth() -> None:
    rng = np.random.default_rng(10)
    p_values = []
    config = Config.model_validate(
        {"sources": {"main": "sqlite:///x.db"}, "models": {"m": {"table": "t", "time": "at"}}}
    )
    scope = Scope("m", config.models["m"], Window(DAY, DAY + timedelta(days=1)), 0)
    for key in (True, False):
        before, now, part = rows(rng, 10_000, 1), rows(rng, 4000, 10), rows(rng, 2000, 10)
        sides = [count([batch], {"x": SPEC}).columns["x"] for batch in (before, part)]
        column: Column = Column("x", SPEC, sides[0])
        if key:
            column = told_by({"x": column}, grouped([now]).measure(), effects(grouped([before]).measure()))["x"]
        found = segment_drift(scope, {"x": column}, {"land=DE": {"x": sides[0]}}, {"land=DE": {"x": sides[1]}})
        [psi] = [r for r in found if r.metric == "psi"]
        assert ("entity_groups" in psi.detail) is key
        p_values.append(psi.p_value)
    assert p_values[0] > 0.001
    assert p_values[1] < 1e-4


CONFIG = """
store: sqlite:///{folder}/store.db
sources: {{main: "sqlite:///{folder}/log.db"}}
models:
  m:
    table: served
    time: at
    key: id
    entity: {entity}
    start: 2026-03-02
    baseline: {{table: training}}
reports: {{dir: {folder}/reports, evidently: never}}
"""
DAY = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize("entity", ["customer", "[customer, land]", "null"])
def test_the_first_window_against_a_table_knows_its_customers(
    tmp_path: Path, entity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, asked = np.random.default_rng(8), []

    def count_there(self: Source, *args: Any, now: datetime) -> dict[str, Any]:
        asked.append(sorted(args[3]))
        return {}

    monkeypatch.setattr(Source, "count_there", count_there)
    url = f"sqlite:///{tmp_path}/log.db"
    kinds: dict[str, Any] = {"id": sa.Text, "at": sa.Text, "customer": sa.Integer, "land": sa.Text, "income": sa.Float}
    training = [
        {"id": f"t{i}", "at": "2026-01-01", "customer": i, "land": "DE", "income": float(x)}
        for i, x in enumerate(rng.standard_normal(1000))
    ]
    served = [
        {
            "id": f"s{i}",
            "at": (DAY + timedelta(seconds=i)).isoformat(),
            "customer": 5000 + i // 10,
            "land": "DE",
            "income": float(x),
        }
        for i, x in enumerate(np.repeat(rng.standard_normal(200), 10))
    ]
    write_table(url, "training", kinds, training)
    write_table(url, "served", kinds, served)
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.format(folder=tmp_path, entity=entity))
    config = load(path)
    with Store.open(config.store.get_secret_value()) as store:
        run_due(Service(config, store), now=DAY + timedelta(days=1, hours=1), worker="test")
        [psi] = store.results("m", metric="psi", feature="income")
        others = {result.feature for result in store.results("m") if result.feature}
        baseline = store.baseline("m")
    assert baseline is not None
    assert psi.p_value is not None
    assert ["income" in names for names in asked] == [entity == "null"]  # entities are only seen in rows that are read
    if entity == "null":
        assert "independent" in psi.detail["assumes"]
        assert psi.p_value < 0.01
        assert baseline.detail["entity_effects"] == {}
    else:
        assert psi.detail["design_effect"] == pytest.approx(10, rel=0.35)
        assert psi.p_value > 0.001
        assert baseline.detail["entity_effects"]["income"] == pytest.approx(1, abs=0.25)
        assert "customer" not in others


def test_parts_of_a_window_add_up_to_it():
    """As on a cluster, where each part of the rows is seen by a worker of its own."""
    rng = np.random.default_rng(4)
    rows = pa.RecordBatch.from_pydict(
        {"x": rng.normal(size=300_000), ENTITY: [f"e{i}" for i in rng.integers(0, 40_000, 300_000)]}
    )
    whole = Grouped([rows], {"x": SPEC})
    sum(1 for _ in whole)
    added = Grouped([], {"x": SPEC})
    for start, end in ((0, 250_000), (250_000, 250_001), (250_001, 300_000)):
        part = Grouped([rows.slice(start, end - start)], {"x": SPEC})
        sum(1 for _ in part)
        added.add(part.state())
    assert np.array_equal(added.measure()["x"], whole.measure()["x"])
