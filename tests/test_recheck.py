"""Landed labels open their own windows again, whatever the storage, and what is read for it is what landed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.event import listens_for

from monitor.config_file import load
from monitor.models import Job, Window
from monitor.recheck import recheck
from monitor.run import run_due
from monitor.service import Service
from monitor.sources import row_groups
from monitor.sources.files import Folder
from monitor.sources.shapes import Scan
from monitor.sources.sql import Database
from monitor.store import Store

START, DAY = datetime(2026, 3, 2, tzinfo=UTC), timedelta(days=1)
PER_DAY = 200

CONFIG = """
store: sqlite:///{folder}/store.db
sources: {sources}
models:
  model:
    source: main
    table: log
    time: at
    key: id
    score: p
    threshold: 0.5
    settle: 0s
    labels: {{table: labels, {source}key: id, label: y, time: known_at, delay: 60d, unmatched: null}}
    baseline: {{from: 2026-03-02, to: 2026-03-04}}
    start: 2026-03-02
reports: {{dir: "{folder}/reports", evidently: never}}
worker: {{max_catch_up: 90d}}
"""


@dataclass
class Read:
    """Rows that were fetched from each table, and questions that were answered by a few numbers."""

    rows: dict[str, int] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)


class World:
    """Some days of predictions, the labels of half of them, and a service that has looked at all of these days."""

    def __init__(self, folder: Path, storage: str, postgres: str, *, days: int = 8) -> None:
        self.folder, self.storage, self.n_files = folder, storage, 0
        self.url = postgres if storage == "postgresql" else f"sqlite:///{folder}/log.db"
        self.labels_url = f"sqlite:///{folder}/labels.db" if storage == "apart" else self.url
        n = days * PER_DAY
        at = START + pd.to_timedelta((np.arange(n) + 0.5) * 86400 / PER_DAY, unit="s")
        rng = np.random.default_rng(4)
        self.put("log", pd.DataFrame({"id": np.arange(n), "at": at, "p": rng.random(n)}))
        self.windows = [Window(START + day * DAY, START + (day + 1) * DAY) for day in range(days)]
        self.land(np.arange(0, n, 2), START + days * DAY)
        sources = {"main": {"path": str(folder)} if storage == "parquet" else {"url": self.url}}
        if storage == "apart":
            sources["other"] = {"url": self.labels_url}
        path = folder / "config.yaml"
        source = "source: other, " if storage == "apart" else ""
        path.write_text(CONFIG.format(folder=folder, sources=str(sources).replace("'", '"'), source=source))
        config = load(path)
        self.service = Service(config, Store.open(config.store.get_secret_value()))
        self.run(START + days * DAY + timedelta(hours=1))

    def put(self, table: str, rows: pd.DataFrame) -> None:
        if self.storage == "parquet":
            (self.folder / table).mkdir(exist_ok=True)
            self.n_files += 1
            rows.to_parquet(self.folder / table / f"{self.n_files}.parquet", row_group_size=PER_DAY)
            return
        engine = sa.create_engine(self.labels_url if table == "labels" else self.url)
        rows.to_sql(table, engine, index=False, if_exists="append")
        engine.dispose()

    def land(self, ids: Any, when: datetime) -> None:
        ids = np.asarray(ids)
        self.put("labels", pd.DataFrame({"id": ids, "y": ids % 3 == 0, "known_at": pd.Timestamp(when)}))

    def of(self, day: int, first: int, n: int) -> Any:
        return day * PER_DAY + np.arange(first, first + 2 * n, 2)

    def run(self, now: datetime) -> None:
        assert run_due(self.service, now=now, worker="test").errors == []

    def opened(self, now: datetime) -> set[Window]:
        """What a recheck at ``now`` opens."""
        recheck(self.service, "model", now=now)
        return {row.window for row in self.service.store.windows("model", Job.LABELS) if row.state == "pending"}

    def close(self) -> None:
        self.service.close()
        self.service.store.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow), "parquet", "apart"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    made = World(tmp_path, request.param, url)
    yield made
    made.close()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """What is read from now on."""
    seen = Read()

    def watch(kind: Any) -> None:
        scan = kind.scan

        def scanning(self: Any, scanned: Scan) -> Iterator[pa.RecordBatch]:
            for batch in scan(self, scanned):
                table = str(scanned.relation.table)
                seen.rows[table] = seen.rows.get(table, 0) + batch.num_rows
                yield batch

        monkeypatch.setattr(kind, "scan", scanning)
        for name in ("aggregate", "aggregate_each", "duplicates", "is_small"):
            monkeypatch.setattr(kind, name, asking(name, getattr(kind, name)))

    def asking(name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        def asked(self: Any, *arguments: Any, **more: Any) -> Any:
            seen.questions.append(name)
            return own(self, *arguments, **more)

        return asked

    watch(Database)
    watch(Folder)
    return seen


LATER = START + 20 * DAY


def test_where_nothing_landed_a_few_questions_tell_it_of_all_windows(world: World, read: Read) -> None:
    statements: list[str] = []

    @listens_for(sa.Engine, "before_cursor_execute")
    def noted(connection: Any, cursor: Any, text: str, *rest: Any) -> None:
        if "window_run" not in text and text.lstrip().upper().startswith("SELECT") and "COUNT(" in text.upper():
            statements.append(text)

    try:
        assert world.opened(LATER) == set()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", noted)
    assert read.rows == {}, "no row is fetched"
    assert read.questions == ["aggregate_each", "aggregate"], "of all windows' rows, and of the table of labels"
    assert len(statements) == (0 if world.storage == "parquet" else 2), statements
    read.questions.clear()
    assert world.opened(LATER + timedelta(minutes=1)) == set()
    assert read.questions == [], "they are not looked at again at once"


def test_labels_that_landed_open_their_own_windows_and_are_all_that_is_read(world: World, read: Read) -> None:
    world.land(world.of(3, 1, 70), LATER - DAY)
    world.land(world.of(5, 1, 30), LATER - 2 * DAY)
    world.land([10**9 + 7], LATER - DAY)  # of no prediction
    world.land(world.of(6, 1, 40), LATER + DAY)  # not yet
    assert world.opened(LATER) == {world.windows[3], world.windows[5]}
    assert read.rows["labels"] == 101
    if world.storage in ("sqlite", "postgresql"):
        assert read.rows["log"] == 100, "the predictions that they are of"
    else:
        assert read.rows["log"] <= 8 * PER_DAY, "keys and times of the windows that are looked at, once"
    before = {row.window: row.revision for row in world.service.store.windows("model", Job.LABELS)}
    read.rows.clear()
    world.run(LATER)
    after = {row.window: row.revision for row in world.service.store.windows("model", Job.LABELS)}
    assert {each for each in world.windows if after[each] == before[each] == 1} == {world.windows[3], world.windows[5]}
    assert {each for each in world.windows if after[each] == 0} == set(world.windows) - {
        world.windows[3],
        world.windows[5],
    }
    assert world.opened(LATER + DAY - timedelta(hours=1)) == set(), "what has been read is known"
    assert world.opened(LATER + 8 * DAY) == {world.windows[6]}, "and what was not known then lands in its turn"


def test_labels_that_come_with_an_older_landing_time_are_found_all_the_same(world: World, read: Read) -> None:
    """A table that is filled at night: what lands in it bears times from before the last look."""
    world.land(world.of(2, 1, 50), START + 8 * DAY - timedelta(hours=5))
    assert world.opened(LATER) == {world.windows[2]}
    assert read.rows["log"] <= 8 * PER_DAY
    assert read.rows["labels"] <= 4 * PER_DAY + 50, "keys of labels, once"
    world.run(LATER)
    assert world.opened(LATER + 8 * DAY) == set()


def test_rows_that_come_late_open_their_windows(world: World) -> None:
    late = pd.DataFrame({"id": [10**6, 10**6 + 1], "at": [START + 4.5 * DAY, START + 4.6 * DAY], "p": [0.2, 0.4]})
    world.put("log", late)
    assert world.opened(LATER) == {world.windows[4]}


def test_labels_that_matured_while_nothing_ran_are_taken_in_afterwards_once(world: World) -> None:
    delay = world.service.model("model").labels.delay  # type: ignore[union-attr]
    late = START + 8 * DAY + delay + 20 * DAY
    assert world.opened(late) == set(world.windows)
    world.run(late)
    told = world.service.store.results("model", start=START, end=START + 8 * DAY)
    assert {r.detail["mature"] for r in told if r.kind == "realized"} == {True}
    assert not world.opened(late + DAY) & set(world.windows)


def test_a_past_moment_takes_nothing_back_that_is_known_by_now(world: World) -> None:
    """`--now` on a store that has moved on: what was judged later stays as it was judged."""
    delay = world.service.model("model").labels.delay  # type: ignore[union-attr]
    late = START + 8 * DAY + delay + 5 * DAY
    world.opened(late)
    world.run(late)
    assert not world.opened(START + 9 * DAY) & set(world.windows)


@pytest.mark.parametrize("storage", ["sqlite", "parquet"])
def test_marks_of_many_windows_are_those_of_each_alone(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, storage, "")
    model = world.service.model("model")
    with world.service.source("model") as source:
        roles = world.service.roles("model", source, now=LATER)
        some = [*world.windows[1:3], *world.windows[5:]]
        together = source.fingerprints(model, roles, some, job=Job.INPUTS, now=LATER)
        alone = {each: source.fingerprints(model, roles, [each], job=Job.INPUTS, now=LATER)[each] for each in some}
        wide = Window(world.windows[0].start, world.windows[3].end)
        table = source.label_table(model, now=LATER)
        monkeypatch.setattr(row_groups.Part, "extent", lambda *_: None)  # as rows tell, and not statistics
        read = source.fingerprints(model, roles, some, job=Job.INPUTS, now=LATER)
        assert str(source.label_table(model, now=LATER)) == str(table)
        overlapping = source.fingerprints(model, roles, [*some, wide], job=Job.INPUTS, now=LATER)
    assert together == alone == read
    assert {each: overlapping[each] for each in some} == alone
    assert len(set(together.values())) == len(some)
    world.close()
