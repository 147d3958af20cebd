"""A worker that is idle and too large replaces itself: same process, same name, nothing lost, nothing done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from service_world import World, free_port, model, secrets_of, settings, until, world, write_log

from monitor import renewal
from monitor.delivery import Lane
from monitor.renewal import HANDED_OVER, QUIET_TICKS, Legacy
from monitor.sending import Sender
from monitor.service import Service
from monitor.store import Store
from monitor.worker import Worker

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="memory is told by /proc")
STEPS = 2


def config(url: str, **more: Any) -> dict[str, Any]:
    told = model(write_log(url, steps=STEPS, rows=80), steps=STEPS, confirm=1, recover=1, min_rows=20)
    return settings(url, {"m": told}, worker={"idle_memory": 1} | more)


def rss(process: subprocess.Popen[str]) -> int:
    """KB."""
    return int(Path(f"/proc/{process.pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def open_files(process: subprocess.Popen[str]) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def renewals(made: World) -> int:
    return made.log().count("worker_renewed")


@linux_only
def test_a_worker_that_has_worked_renews_itself_once_and_goes_on(tmp_path: Path, sqlite_url: str) -> None:
    told = config(sqlite_url, metrics=f"127.0.0.1:{free_port()}")
    with world(tmp_path, f"sqlite:///{tmp_path / 'store.db'}", told, **secrets_of(sqlite_url)) as made:
        process = made.start()
        until(lambda: made.done() == STEPS, every=0.05, why=made.log)
        before, files = rss(process), open_files(process)
        until(lambda: renewals(made) == 1, why=made.log)
        time.sleep(QUIET_TICKS + 1.5)  # as long as it was quiet the first time, and longer
        assert process.poll() is None
        assert renewals(made) == 1, made.log()
        assert rss(process) < before - 10_000
        assert open_files(process) <= files
        assert "health_not_served" not in made.log()

        made.write(told | {"models": {"m": told["models"]["m"], "n": told["models"]["m"]}})
        until(lambda: made.done("n") == STEPS, why=made.log)
        with made.store() as store:
            assert len({tick.worker for tick in store.last_ticks()}) == 1
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0, made.log()


@pytest.mark.slow
@linux_only
def test_a_signal_while_it_renews_itself_ends_it_with_0(tmp_path: Path, sqlite_url: str) -> None:
    with world(tmp_path, f"sqlite:///{tmp_path / 'store.db'}", config(sqlite_url), **secrets_of(sqlite_url)) as made:
        process = made.start()
        until(lambda: "worker_stopped" in made.log(), every=0.005, why=made.log)
        os.kill(
            process.pid, signal.SIGTERM
        )  # before, in or just after the exec: the new process takes a second to start
        assert process.wait(20) == 0, made.log()


# --- when ----------------------------------------------------------------------------------------------


@pytest.fixture
def idle(tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """One that would renew itself now."""
    made = World(tmp_path, "", env={"STORE_URL": f"sqlite:///{tmp_path / 'store.db'}", **secrets_of(sqlite_url)})
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(renewal, "resident", lambda: 151.0)
    made.write(config(sqlite_url, idle_memory=150))
    told = made.config()
    with Store.open(told.store.get_secret_value()) as store:
        some = Worker(told, made.path)
        some._service = Service(told, store)
        some._dirty.clear()
        some._has_worked, some._quiet_ticks = True, QUIET_TICKS
        assert some._is_due_for_renewal()
        yield some
        some.service.close()


def test_one_that_has_done_nothing_does_not_renew_itself(idle: Worker) -> None:
    idle._has_worked = False
    assert not idle._is_due_for_renewal()


def test_one_that_was_busy_two_ticks_ago_does_not_renew_itself(idle: Worker) -> None:
    idle._quiet_ticks = QUIET_TICKS - 1
    assert not idle._is_due_for_renewal()


def test_one_that_has_pages_to_draw_does_not_renew_itself(idle: Worker) -> None:
    idle._dirty.set()
    assert not idle._is_due_for_renewal()


def test_one_that_alone_knows_of_a_possible_repeat_does_not_renew_itself(idle: Worker) -> None:
    sender = Sender(idle.service)
    idle._sender = (idle.service, sender)
    assert idle._is_due_for_renewal()
    sender._lanes["bot"] = Lane(maybe_sent={7})
    assert not idle._is_due_for_renewal()


@pytest.mark.parametrize("used", [150.0, None])
def test_one_that_is_small_or_cannot_tell_does_not_renew_itself(
    idle: Worker, used: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "resident", lambda: used)
    assert not idle._is_due_for_renewal()


def test_0_switches_renewal_off(idle: Worker) -> None:
    idle.config = idle.config.model_copy(update={"worker": idle.config.worker.model_copy(update={"idle_memory": 0})})
    assert not idle._is_due_for_renewal()


def test_a_config_file_that_does_not_load_keeps_the_running_process(idle: Worker) -> None:
    good = idle.path.read_text()
    idle.path.write_text(good.replace("models:", "modles:"))
    assert not idle._is_due_for_renewal()
    idle.path.write_text(good)
    assert not idle._is_due_for_renewal()  # not at every tick
    idle._quiet_ticks = QUIET_TICKS
    assert idle._is_due_for_renewal()


# --- what is handed over -------------------------------------------------------------------------------


def legacy(pid: int, mark: tuple[int, int] | None = (1, 2)) -> Legacy:
    return Legacy(pid, "old-name", 200.0, mark, {"m": datetime(2026, 3, 1, 6, tzinfo=UTC)})


def test_what_is_handed_over_arrives_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HANDED_OVER, "")
    renewal.hand_over(legacy(os.getpid()))
    assert renewal.inherited() == legacy(os.getpid())
    assert renewal.inherited() is None


def test_a_process_with_a_copied_environment_inherits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HANDED_OVER, "")
    renewal.hand_over(legacy(os.getpid() + 1))
    assert renewal.inherited() is None


def test_a_renewed_worker_keeps_name_and_schedules_and_draws_only_for_another_config(
    idle: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HANDED_OVER, "")
    idle._planned["m"] = datetime(2026, 3, 1, 6, tzinfo=UTC)
    renewal.hand_over(idle.legacy())
    new = Worker(idle.config, idle.path)
    assert (new.name, new._planned, new._dirty.is_set()) == (idle.name, idle._planned, False)
    assert not new._is_due_for_renewal()
    renewal.hand_over(legacy(os.getpid()))
    assert Worker(idle.config, idle.path)._dirty.is_set()
    assert Worker(idle.config, idle.path).name != idle.name


def test_where_the_program_is_gone_the_old_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    try:
        assert "No such file" in renewal.replace_process(unless=lambda: False)
        assert renewal.replace_process(unless=lambda: True) == "told to end"
    finally:
        renewal.let_signals_in()


def test_the_daemon_starts_without_what_only_its_work_needs() -> None:
    heavy = ["scipy.special", "scipy.stats", "pyarrow.parquet.core", "jinja2"]
    code = f"import json, sys; import monitor.worker; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout) == []
