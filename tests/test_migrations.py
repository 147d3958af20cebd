"""Migrations: from nothing, by two at once, killed half-way, refused when newer; and a store that is not ours."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from monitor.store import (
    Store,
    StoreCorrupt,
    StoreDenied,
    StoreError,
    StoreMissing,
    StoreNewer,
    StoreOutdated,
    StoreUnavailable,
)
from monitor.store.engine import open_database
from monitor.store.migrate import alembic_config
from monitor.store.schema import REVISION, VERSION_TABLE, metadata

SECRET = "hunter2-canary"
OPEN = "import sys; from monitor.store import Store; s = Store.open(sys.argv[1]); print(s.check()); s.close()"


def run(url: str, *, wait: bool = True, code: str = OPEN, **env: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        cwd=Path(__file__).parents[1],
    )
    if wait:
        process.wait(60)
    return process


def test_the_migrations_build_the_tables_that_the_code_knows(database_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    Store.open(database_url).close()
    database = open_database(database_url, create=False)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    # what autogenerate does not look at: constraints by name
    inspector = sa.inspect(database.engine)
    for table in metadata.tables.values():
        named = {each.name for each in table.constraints if isinstance(each, sa.CheckConstraint)}
        assert {each["name"] for each in inspector.get_check_constraints(table.name)} == named
        assert {each["name"] for each in inspector.get_indexes(table.name)} >= {each.name for each in table.indexes}
    database.engine.dispose()


def test_the_code_names_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == REVISION


def test_an_empty_sqlite_store_is_ready_in_half_a_second(sqlite_url: str, tmp_path: Path) -> None:
    Store.open(f"sqlite:///{tmp_path / 'first.db'}").close()  # the import of alembic is not what is measured
    begin = time.perf_counter()
    Store.open(sqlite_url).close()
    assert time.perf_counter() - begin < 0.5


def test_a_store_that_is_up_to_date_is_opened_without_alembic(sqlite_url: str) -> None:
    Store.open(sqlite_url).close()
    code = OPEN + "; print('alembic' in sys.modules)"
    assert run(sqlite_url, code=code).communicate()[0].split() == ["[]", "False"]


def test_many_that_start_at_once_on_nothing_all_work(database_url: str) -> None:
    started = [run(database_url, wait=False) for _ in range(3)]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in started]
    assert ended == [("[]\n", "", 0)] * 3


@pytest.mark.parametrize("table", ["baseline", "outbox", "result"])
def test_a_migration_killed_half_way_is_done_by_the_next_run(database_url: str, table: str) -> None:
    kill = f"""
import os, signal, sqlalchemy as sa
@sa.event.listens_for(sa.engine.Engine, "after_cursor_execute")
def die(connection, cursor, statement, *rest):
    if "CREATE TABLE {table} " in statement: os.kill(os.getpid(), signal.SIGKILL)
{OPEN}"""
    killed = run(database_url, code=kill)
    assert killed.communicate() == ("", "")
    assert killed.returncode == -signal.SIGKILL
    with Store.open(database_url) as store:
        assert store.check() == []


def test_a_store_of_a_newer_program_is_refused_and_left_alone(database_url: str) -> None:
    Store.open(database_url).close()
    database = open_database(database_url, create=False)
    with database.write() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    for migrate in (True, False):
        with pytest.raises(StoreNewer, match=r"9999.*newer version"):
            Store.open(database_url, migrate=migrate)
    with database.read() as connection:
        assert connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() == "9999"
    database.engine.dispose()


def test_a_reader_neither_makes_nor_migrates_a_store(postgres_url: str, sqlite_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="does not exist yet"):
        Store.open(sqlite_url, migrate=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreMissing, match="is empty"):
        Store.open(postgres_url, migrate=False)


def test_an_older_store_is_not_read_as_if_it_were_current(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(database_url).close()
    monkeypatch.setattr("monitor.store.migrate.REVISION", "0002")
    with pytest.raises(StoreOutdated, match="revision 0001, this program needs 0002"):
        Store.open(database_url, migrate=False)


def test_other_peoples_tables_are_left_alone(database_url: str) -> None:
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")
    with Store.open(database_url) as store:
        assert store.check() == []
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "theirs"


# --- files that are not, or no longer, a store -------------------------------------------------------


def test_a_file_that_is_no_database_is_never_written(tmp_path: Path) -> None:
    file = tmp_path / "precious.csv"
    file.write_text("a,b\n1,2\n" * 100)
    with pytest.raises(StoreCorrupt, match=r"precious\.csv is not an SQLite database"):
        Store.open(f"sqlite:///{file}")
    assert file.read_text() == "a,b\n1,2\n" * 100
    assert [each.name for each in tmp_path.iterdir()] == ["precious.csv"]


def test_a_damaged_database_is_named_so(sqlite_url: str, tmp_path: Path) -> None:
    Store.open(sqlite_url).close()
    file = tmp_path / "log.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
    with pytest.raises(StoreCorrupt, match="damaged"):
        Store.open(sqlite_url)


def test_a_store_deleted_under_us_is_not_brought_back_empty(sqlite_url: str, tmp_path: Path) -> None:
    with Store.open(sqlite_url) as store:
        for file in tmp_path.iterdir():
            file.unlink()
        with pytest.raises(StoreCorrupt, match="deleted or replaced"):
            store.tick("w")
        with pytest.raises(StoreCorrupt, match="deleted or replaced"):
            store.results()
        assert list(tmp_path.iterdir()) == []


def test_a_locked_store_is_busy_and_not_broken(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.store.engine.BUSY_SECONDS", 0.1)
    with Store.open(sqlite_url) as store:
        other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked by another program"):
            store.tick("w")
        assert store.last_ticks() == []
        other.execute("ROLLBACK")
        other.close()
        store.tick("w")
        assert [each.worker for each in store.last_ticks()] == ["w"]


def test_a_full_disk_fails_the_commit_and_nothing_else(sqlite_url: str) -> None:
    with Store.open(sqlite_url) as store:
        with store._database.engine.connect() as connection:
            raw = connection.connection.cursor()
            pages = raw.execute("PRAGMA page_count").fetchone()[0]
            raw.execute(f"PRAGMA max_page_count={pages}")
            raw.close()
        with pytest.raises(StoreUnavailable, match="is the disk full"):
            store.tick("w", detail={"text": "x" * 1_000_000})
        assert store.last_ticks() == []


@pytest.mark.parametrize(
    ("url", "kind", "why"),
    [
        ("sqlite://", StoreError, "write a file"),
        ("sqlite:///:memory:", StoreError, "write a file"),
        (f"mysql://me:{SECRET}@host/db", StoreError, "not 'mysql'"),
        (f"{SECRET}", StoreError, "not a database URL"),
        ("sqlite:////no/such/folder/x.db", StoreMissing, "folder of the store x.db"),
        ("sqlite:////tmp", StoreCorrupt, "is a folder"),
        (f"postgresql://me:{SECRET}@127.0.0.1:1/db?application_name={SECRET}", StoreUnavailable, "cannot be reached"),
    ],
)
def test_what_cannot_be_a_store_is_refused_without_showing_the_url(url: str, kind: type[StoreError], why: str) -> None:
    with pytest.raises(kind, match=why) as caught:
        Store.open(url)
    assert SECRET not in str(caught.value)


def test_a_wrong_password_or_database_is_a_matter_of_rights(postgres_url: str) -> None:
    gone = sa.make_url(postgres_url).set(database="no_such_db").render_as_string(hide_password=False)
    with pytest.raises(StoreDenied, match="refuses this login"):
        Store.open(gone)


def test_a_terminated_connection_heals_by_itself(postgres_url: str) -> None:
    with Store.open(postgres_url) as store:
        store.tick("w")
        admin = sa.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)
        with admin.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ml-monitor'"
            )
        store.tick("w2")
        assert len(store.last_ticks()) == 2
