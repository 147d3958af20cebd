"""The store locked, full, gone and back; a report folder that cannot be written; and no secret anywhere."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from service_world import World, free_port, model, secrets_of, settings, stop, until, world, write_log
from slack_server import slack_server
from tcp_proxy import proxy

from monitor.drawing import draw
from monitor.run import run_due
from monitor.service import Service
from monitor.store import Store, StoreUnavailable

STEPS = 6


def small(url: str, *, rows: int = 80, **more: Any) -> dict[str, Any]:
    return model(write_log(url, steps=STEPS, rows=rows), steps=STEPS, confirm=1, recover=1, min_rows=20, **more)


@pytest.fixture
def service(tmp_path: Path, sqlite_url: str) -> Iterator[Service]:
    made = World(tmp_path, "", env={"STORE_URL": f"sqlite:///{tmp_path / 'store.db'}", **secrets_of(sqlite_url)})
    made.write(settings(sqlite_url, {"m": small(sqlite_url)}, alerts={"team": {"console": True}}))
    config = made.config()
    with Store.open(config.store.get_secret_value()) as store:
        yield Service(config, store)


def test_a_postgres_store_that_is_stopped_and_comes_back_costs_nothing(
    tmp_path: Path, postgres_server_url: str, postgres_url: str, sqlite_url: str
) -> None:
    with proxy(postgres_server_url) as far:
        config = settings(sqlite_url, {"m": small(sqlite_url)})
        with world(tmp_path, postgres_url, config, **secrets_of(sqlite_url)) as made:
            made.env["STORE_URL"] = far.url(postgres_url)
            process = made.start()
            until(lambda: made.done() >= 1, every=0.02, why=made.log)
            far.gone()
            time.sleep(3)
            assert process.poll() is None
            far.back()
            until(lambda: made.done() == STEPS, why=made.log)
            with made.store() as store:
                assert store.check() == []
                windows = [(r.window, r.check, r.metric, r.feature) for r in store.results("m", all_revisions=True)]
                assert len(windows) == len(set(windows))
            assert stop(process) == 0


def test_a_locked_sqlite_store_is_waited_for(tmp_path: Path, sqlite_url: str) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with world(tmp_path, url, settings(sqlite_url, {"m": small(sqlite_url)}), **secrets_of(sqlite_url)) as made:
        process = made.start()
        until(lambda: made.done() >= 1, every=0.02, why=made.log)
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        time.sleep(3)
        other.execute("COMMIT")
        other.close()
        until(lambda: made.done() == STEPS, why=made.log)
        assert made.states() == {"ok": STEPS}
        assert stop(process) == 0


def test_a_full_disk_stops_the_work_and_nothing_is_lost_or_counted_twice(service: Service) -> None:
    store = service.store
    run_due(service, now=datetime.now(UTC) - timedelta(hours=12), worker="w")
    before = len(store.results("m"))
    assert before
    limit: dict[str, int] = {}

    def shrink(connection: Any, _: Any) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {limit.get('pages', pages)}")

    engine = store._database.engine
    engine.dispose()
    sa.event.listen(engine, "connect", shrink)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monitor.run.time.sleep", lambda _: None)
        with pytest.raises(StoreUnavailable, match="disk full"):
            run_due(service, now=datetime.now(UTC), worker="w")
    assert len(store.results("m")) >= before
    limit["pages"] = 1_000_000
    engine.dispose()
    store._lease_clock = lambda: datetime.now(UTC) + timedelta(minutes=10)
    run_due(service, now=datetime.now(UTC), worker="w")
    assert [row.state.value for row in store.windows("m")] == ["ok"] * STEPS
    keys = [(r.window, r.check, r.metric, r.feature) for r in store.results("m", all_revisions=True)]
    assert len(keys) == len(set(keys))
    assert store.check() == []


def test_a_report_folder_that_cannot_be_written_costs_no_result_and_no_alert(service: Service, tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file where the folder should be")
    run_due(service, now=datetime.now(UTC), worker="w")
    draw(service, now=datetime.now(UTC))
    assert [row.state.value for row in service.store.windows("m")] == ["ok"] * STEPS
    (tmp_path / "reports").unlink()
    draw(service, now=datetime.now(UTC))
    assert (tmp_path / "reports" / "index.html").is_file()


# --- secrets -----------------------------------------------------------------------------------------


def test_no_secret_is_in_any_log_table_page_or_message_whatever_fails(tmp_path: Path, sqlite_url: str) -> None:
    dead = free_port()
    secrets = {
        "BOT_TOKEN": "xoxb-canary-bot-0123456789",
        "FAR": f"postgresql://reader:canary-password@127.0.0.1:{dead}/logs?sslpassword=canary-parameter",
        "BEAT": f"http://127.0.0.1:{dead}/beat/canary-heartbeat",
        "MAIL": f"json://user:canary-apprise@127.0.0.1:{dead}/canary-path",
    }
    with slack_server() as slack:
        secrets["HOOK_URL"] = f"{slack.url}/services/T0/B0/canaryHookSecret"
        told = small(sqlite_url, rows=200)
        config = settings(
            sqlite_url,
            {
                "fine": told | {"source": "main", "drift": {"alert": {"psi": 0.01, "ks": 0.01}}},
                "far": told | {"source": "far"},
                "gone": told | {"source": "main", "table": "nothing_here"},
            },
            slack=slack,
            worker={"heartbeat": "${BEAT}", "metrics": f"127.0.0.1:{dead + 1 if dead < 65000 else dead - 1}"},
        )
        config["sources"] |= {"far": {"url": "${FAR}", "connect_timeout": "2s"}}
        config["alerts"] |= {"mail": {"apprise": "${MAIL}"}}
        url = f"sqlite:///{tmp_path / 'store.db'}"
        with world(tmp_path, url, config, **{"SOURCE_URL": sqlite_url, **secrets}) as made:
            process = made.start(env={"MONITOR_LOG_LEVEL": "DEBUG"})
            until(lambda: made.done("fine") == STEPS, why=made.log)
            until(lambda: "cannot be reached" in made.log() and "is broken" in made.log(), why=made.log)
            good = made.path.read_text()
            made.path.write_text(good.replace("confirm:", "confrim:"))
            until(lambda: "config_not_taken" in made.log(), why=made.log)
            made.path.write_text(good)
            time.sleep(1)
            assert stop(process) == 0
            status = made.command("status", "--json")
            doctor = made.command("doctor", timeout=120)
            seen = {
                "log": made.log(),
                "status": status.stdout + status.stderr,
                "doctor": doctor.stdout + doctor.stderr,
                "messages": repr(slack.messages),
                "store": "\n".join(_dump(tmp_path / "store.db")),
                "pages": "".join(p.read_text() for p in (tmp_path / "reports").rglob("*.html")),
            }
    assert len(seen["log"]) > 500
    assert "fine" in seen["store"]
    found = {where: text.lower().count("canary") for where, text in seen.items()}
    assert found == dict.fromkeys(seen, 0)


def _dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()
