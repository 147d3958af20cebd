"""Workers that are killed or stopped at the worst moment, as real processes, on both databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from monitor.models import Check, Job, Outcome, Result, RunState, Verdict, Window
from monitor.store import Store

DAYS = [Window(datetime(2026, 3, k, tzinfo=UTC), datetime(2026, 3, k + 1, tzinfo=UTC)) for k in (1, 2)]

WORKER = """
import os, signal, sys
from datetime import timedelta
sys.path.insert(0, sys.argv[3])
from test_store_kill import DAYS, outcome
from monitor.models import Job
from monitor.store import Store
import sqlalchemy as sa

def at(point):
    print(point, flush=True)
    if point == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

store = Store.open(sys.argv[1])
engine = store._database.engine
store.plan("m", Job.INPUTS, DAYS, spec_version="s"); at("planned")
claim = store.claim("doomed", lease=timedelta(seconds=float(sys.argv[4])))
at("claimed")
if sys.argv[2] == "stopped":
    sys.stdin.readline()
sa.event.listen(engine, "after_cursor_execute",
    lambda connection, cursor, statement, *rest: "INSERT INTO result" in statement and at("inserted"))
sa.event.listen(engine, "commit", lambda connection: at("committing"))
print(store.commit(claim, outcome(claim.window)))
at("committed")
"""


def outcome(window: Window) -> Outcome:
    found = [Result("m", Check.QUALITY, "n_rows", window, 9.0, Verdict.OK)]
    return Outcome(RunState.OK, n_rows=9, results=found)


def start(url: str, until: str, *, lease: float = 0.2) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, url, until, str(here), str(lease)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=here.parent,
    )


def finish(url: str) -> Store:
    """Do what is left, as the next worker would."""
    store = Store.open(url)
    store.plan("m", Job.INPUTS, DAYS, spec_version="s")
    later = datetime.now(UTC) + timedelta(minutes=1)
    store._lease_clock = lambda: later  # the dead worker's lease has ended by then
    store.reap(max_attempts=3)
    while (claim := store.claim("next", lease=timedelta(minutes=1))) is not None:
        assert store.commit(claim, outcome(claim.window))
    return store


@pytest.mark.parametrize("point", ["planned", "claimed", "inserted", "committing", "committed"])
def test_a_killed_worker_leaves_exactly_one_result_for_each_window(database_url: str, point: str) -> None:
    worker = start(database_url, point)
    printed, _ = worker.communicate(timeout=60)
    assert worker.returncode == -signal.SIGKILL
    assert printed.split()[-1] == point
    with Store.open(database_url) as store:
        done = [row.state for row in store.windows("m") if row.state.finished]
        assert len(done) == len(store.results("m")) == (1 if point == "committed" else 0)
    with finish(database_url) as store:
        assert [row.state for row in store.windows("m")] == [RunState.OK] * 2
        assert [each.window for each in store.results("m", all_revisions=True)] == DAYS
        assert store.check() == []


def test_a_worker_stopped_past_its_lease_commits_nothing_when_it_wakes(database_url: str) -> None:
    worker = start(database_url, "stopped")
    assert worker.stdout is not None
    while worker.stdout.readline().strip() != "claimed":
        assert worker.poll() is None
    os.kill(worker.pid, signal.SIGSTOP)
    with finish(database_url) as store:
        before = store.results("m", all_revisions=True)
        os.kill(worker.pid, signal.SIGCONT)
        printed, _ = worker.communicate("go\n", timeout=60)
        assert "False" in printed.split()
        assert store.results("m", all_revisions=True) == before
        assert len(before) == 2
        assert [(row.attempt, row.state) for row in store.windows("m")] == [(2, RunState.OK), (1, RunState.OK)]
