"""The daemon's life: signals in each state, a config that is edited, loops that die or hang, and other workers."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from service_world import STEP, World, model, secrets_of, settings, stop, until, world, write_log
from slack_server import Answer, SlackServer, slack_server
from tcp_proxy import proxy

from monitor import health
from monitor.models import IncidentState
from monitor.service import Service
from monitor.store import Store
from monitor.worker import Worker, _clock

STEPS = 4


def small(url: str, *, steps: int = STEPS, rows: int = 80, **more: Any) -> dict[str, Any]:
    return model(write_log(url, steps=steps, rows=rows), steps=steps, confirm=1, recover=1, min_rows=20, **more)


@contextmanager
def running(
    folder: Path, source: str, told: dict[str, Any], *, slack: SlackServer | None = None, **more: Any
) -> Iterator[World]:
    config = settings(source, told, slack=slack, **more)
    with world(folder, f"sqlite:///{folder / 'store.db'}", config, **secrets_of(source, slack)) as made:
        yield made


def ready(made: World) -> bool:
    return "worker_started" in made.log()


# --- signals -----------------------------------------------------------------------------------------


def test_sigterm_ends_an_idle_worker_at_once_with_0(tmp_path: Path, sqlite_url: str) -> None:
    with running(tmp_path, sqlite_url, {"m": small(sqlite_url)}) as made:
        process = made.start()
        until(lambda: made.done() == STEPS, why=made.log)
        began = time.monotonic()
        assert stop(process) == 0, made.log()
        assert time.monotonic() - began < 10  # half the grace, which there was nothing to wait for
        assert "worker_stopped" in made.log()


def test_sigterm_while_a_window_hangs_gives_it_back_within_the_grace_and_ends_with_0(
    tmp_path: Path, postgres_server_url: str, postgres_url: str
) -> None:
    with proxy(postgres_server_url) as far:
        told = small(postgres_url)
        with running(tmp_path, far.url(postgres_url), {"m": told}, worker={"grace": "2s", "lease": "10m"}) as made:
            first = made.start()
            until(lambda: made.done() >= 1, every=0.02, why=made.log)
            far.black_hole()
            time.sleep(0.5)
            done = made.done()
            began = time.monotonic()
            assert stop(first) == 0, made.log()
            assert time.monotonic() - began < 8
            rows = made.rows("m")
            assert [row.attempt for row in rows if not row.state.finished and row.attempt] == []
            assert "leased" not in made.states()
            far.back()
            made.start()
            # not after ten minutes, when the lease would have ended
            until(lambda: made.done() == STEPS, why=made.log)
            assert done < STEPS


def test_sigterm_while_a_message_is_being_posted_ends_with_0_and_it_arrives_once(
    tmp_path: Path, sqlite_url: str
) -> None:
    with slack_server() as slack:
        slack.always = Answer(hang=30, received=True)
        start = write_log(sqlite_url, steps=12)
        told = model(start, steps=12, confirm=1)
        config = {"m": told}
        with running(tmp_path, sqlite_url, config, slack=slack, worker={"grace": "2s"}) as made:
            made.write(_only(settings(sqlite_url, config, slack=slack, worker={"grace": "2s"}), "bot"))
            first = made.start()
            until(slack.posts, why=made.log)
            assert stop(first) == 0, made.log()
            slack.always = None
            with made.store() as store:
                store._clock = lambda: datetime.now(UTC) + timedelta(minutes=5)
                assert [item.message.possible_repeat for item in store.outbox_due("bot")][:1] == [True]
            n_before = len(slack.messages)
            assert n_before == 1  # Slack had taken it
            # the hold of a message that was being posted is two minutes: pretend that they have passed
            _age_outbox(made)
            made.start()
            until(lambda: not made.unsent(), why=made.log)
            titles = [m["text"].splitlines()[0] for m in slack.messages]
            assert len(titles) == len(set(titles))


def _only(config: dict[str, Any], name: str) -> dict[str, Any]:
    config["alerts"] = {k: v for k, v in config["alerts"].items() if k in (name, "repeat", "max_age")}
    return config


def _age_outbox(made: World) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(made.store_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE outbox SET not_before = created_at WHERE state = 'sending'")


def test_a_second_sigterm_ends_it_at_once(tmp_path: Path, postgres_server_url: str, postgres_url: str) -> None:
    with proxy(postgres_server_url) as far:
        told = small(postgres_url)
        with running(tmp_path, far.url(postgres_url), {"m": told}, worker={"grace": "1m"}) as made:
            process = made.start()
            until(lambda: made.done() >= 1, every=0.02, why=made.log)
            far.black_hole()
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 128 + signal.SIGTERM


def test_a_worker_whose_store_is_not_up_yet_waits_for_it(
    tmp_path: Path, postgres_server_url: str, postgres_url: str, sqlite_url: str
) -> None:
    with proxy(postgres_server_url) as far:
        far.gone()
        config = settings(sqlite_url, {"m": small(sqlite_url)})
        with world(tmp_path, far.url(postgres_url), config, **secrets_of(sqlite_url)) as made:
            process = made.start()
            until(lambda: "store_not_up" in made.log(), why=made.log)
            assert process.poll() is None
            far.back()
            until(lambda: made.done() == STEPS, why=made.log)
            assert stop(process) == 0


# --- another config ----------------------------------------------------------------------------------


def test_an_edited_config_is_taken_in_a_broken_one_is_not_and_a_removed_model_ends_as_removed(
    tmp_path: Path, sqlite_url: str
) -> None:
    start = write_log(sqlite_url, steps=8)  # the last two windows drift
    told = model(start, steps=8, confirm=1)
    deaf = told | {"drift": {"alert": {"psi": 9, "ks": 1}}, "confirm": 1}
    with slack_server() as slack, running(tmp_path, sqlite_url, {"a": told, "b": deaf}, slack=slack) as made:
        process = made.start()
        until(lambda: made.done() == 16 and not made.unsent(), why=made.log)
        with made.store() as store:
            assert [i.model for i in store.incidents(states=[IncidentState.OPEN])] == ["a"]

        good = made.path.read_text()
        made.path.write_text(good.replace("models:", "modles:"))
        until(lambda: "config_not_taken" in made.log(), why=made.log)
        assert "modles" in made.log()
        assert process.poll() is None

        # the limit of b as a's, a itself gone
        made.write(settings(sqlite_url, {"b": told}, slack=slack))
        until(lambda: "config_reloaded" in made.log(), why=made.log)
        with made.store() as store:
            until(lambda: store.incidents("a", states=[IncidentState.REMOVED]), why=made.log)
            assert store.incidents("a", states=[IncidentState.RESOLVED]) == []
        until(lambda: not made.unsent(), why=made.log)
        titles = [m["text"].splitlines()[0] for m in slack.messages]
        assert any("a: no longer monitored" in title for title in titles)
        assert not any("resolved" in title for title in titles)
        assert stop(process) == 0
        out = made.command("backfill", "--from", (start + 6 * STEP).isoformat(), "--to", (start + 8 * STEP).isoformat())
        assert out.returncode == 0, out.stderr
        with made.store() as store:
            assert [i.model for i in store.incidents(states=[IncidentState.OPEN])] == ["b"]


def test_a_model_removed_while_the_worker_was_down_ends_as_removed_too(tmp_path: Path, sqlite_url: str) -> None:
    told = model(write_log(sqlite_url, steps=8), steps=8, confirm=1)
    with running(tmp_path, sqlite_url, {"a": told, "b": told}) as made:
        assert made.start("--max-ticks", "1").wait(120) == 0, made.log()
        made.write(settings(sqlite_url, {"b": told}))
        assert made.start("--max-ticks", "1").wait(120) == 0, made.log()
        with made.store() as store:
            assert {i.state for i in store.incidents("a")} == {IncidentState.REMOVED}
            assert {i.state for i in store.incidents("b")} == {IncidentState.OPEN}


# --- loops that die or hang --------------------------------------------------------------------------


@pytest.fixture
def worker(tmp_path: Path, sqlite_url: str) -> Iterator[Worker]:
    made = World(tmp_path, "", env={"STORE_URL": f"sqlite:///{tmp_path / 'store.db'}", **secrets_of(sqlite_url)})
    made.write(settings(sqlite_url, {"m": small(sqlite_url, steps=1)}))
    config = made.config()
    with Store.open(config.store.get_secret_value()) as store:
        some = Worker(config, made.path)
        some._service = Service(config, store)
        some.vital.oldest_window = some.service.holds.oldest
        yield some
        some.stopping.set()
        until(lambda: not any(lane.busy for lane in some.lanes.values()))
        some.service.close()


def test_a_dead_clock_is_noticed_at_once_although_it_says_that_it_runs(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    clock = _clock()
    monkeypatch.setattr(clock, "_process_jobs", lambda: 1 / 0)
    clock.start()
    clock._thread.join(5)
    assert clock.running
    began = time.monotonic()
    assert worker._watch(clock, None) == 1
    assert time.monotonic() - began < 2
    clock._executors["default"].shutdown()


def test_a_tick_that_hangs_turns_livez_red_and_ends_the_process(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "STORE_LIMIT", -3.5)  # four ticks of a second: half a second
    served = health.serve("127.0.0.1:0", worker.vital, worker.service.store, worker.config)
    assert served is not None
    worker.tick(patience=5)
    assert status(served.port, "/livez") == 200
    assert status(served.port, "/readyz") == 200
    hang = threading.Event()
    monkeypatch.setattr(worker, "_reload", lambda: hang.wait(20))
    clock = _clock()
    worker._supervise(clock, "tick", lambda: worker.tick(patience=1), 1)
    clock.start()
    assert worker._watch(clock, None) == 1
    assert status(served.port, "/livez") == 503
    hang.set()
    clock.shutdown(wait=True)
    served.close()


def test_a_window_that_cannot_be_cut_turns_livez_red_and_ends_the_process(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = health.serve("127.0.0.1:0", worker.vital, worker.service.store, worker.config)
    assert served is not None
    worker.tick(patience=5)
    monkeypatch.setattr(health, "STORE_LIMIT", -1e9)
    worker.vital.oldest_window = lambda: 1e10
    assert status(served.port, "/livez") == 503
    monkeypatch.setattr(health, "STORE_LIMIT", 60)
    assert status(served.port, "/livez") == 503
    clock = _clock()
    clock.start()
    assert worker._watch(clock, None) == 1
    clock.shutdown()
    served.close()


def test_metrics_count_what_was_done(worker: Worker) -> None:
    served = health.serve("127.0.0.1:0", worker.vital, worker.service.store, worker.config)
    assert served is not None
    worker.tick(patience=20)
    with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert 'monitor_windows_total{state="ok"} 1.0' in text
    assert "monitor_open_incidents 0.0" in text
    served.close()


def status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def stop_between_writes(pid: int, store: Path) -> None:
    """Stop a process, but not while it holds SQLite's lock: whoever is stopped then locks out everybody."""
    for _ in range(200):
        os.kill(pid, signal.SIGSTOP)
        try:
            with closing(sqlite3.connect(store, timeout=0.1, isolation_level=None)) as connection:
                connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.02)
        else:
            return
    pytest.fail("the worker held the lock at every try")


def test_a_worker_stopped_past_its_lease_wakes_up_to_find_the_work_done_by_another(
    tmp_path: Path, postgres_server_url: str, postgres_url: str
) -> None:
    with proxy(postgres_server_url) as far:
        told = small(postgres_url, steps=3)
        with running(tmp_path, far.url(postgres_url), {"m": told}) as made:
            first = made.start()
            until(lambda: made.done() >= 1, every=0.02, why=made.log)
            stop_between_writes(first.pid, tmp_path / "store.db")
            second = made.start(log="second.log")
            until(lambda: made.done() == 3, why=lambda: made.log("second.log"))
            with made.store() as store:
                before = store.results("m", all_revisions=True)
            os.kill(first.pid, signal.SIGCONT)
            time.sleep(2)
            with made.store() as store:
                assert store.results("m", all_revisions=True) == before
                assert store.check() == []
            assert stop(first) == stop(second) == 0
