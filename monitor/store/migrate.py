"""Bring a store to the tables this program knows: one process does it, all others wait, a kill undoes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, exc, inspect, text

from monitor.store.engine import Database
from monitor.store.errors import StoreCorrupt, StoreMissing, StoreNewer, StoreOutdated, translate
from monitor.store.schema import REVISION, VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK = 0x6D6C6D6F6E
"""``mlmon``: the advisory lock that migrations of any monitor take in a PostgreSQL database."""


def current_revision(connection: Connection) -> str | None:
    """The store's revision, or ``None`` if it was never migrated."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars().all()  # noqa: S608
    return str(found[0]) if found else None


def ensure_current(database: Database, *, migrate: bool) -> str:
    """Make sure that the tables are those of this program; return the revision found at first (``""``: none).

    Raises
    ------
    StoreNewer
        If the store has a revision that this program does not know.
    StoreOutdated, StoreMissing
        If it is older, or empty, and ``migrate`` is off.
    """
    with database.read() as connection:
        found = current_revision(connection)
    if found == REVISION:
        return found
    _refuse_newer(database, found)
    if not migrate:
        if found is None:
            raise StoreMissing(f"{database.name} is empty: `monitor run` or `monitor db upgrade` makes its tables")
        raise StoreOutdated(f"{database.name} has revision {found}, this program needs {REVISION}: monitor db upgrade")
    _upgrade(database)
    return found or ""


def alembic_config() -> Config:
    """Where the migrations are: inside an installed package, else beside it in a checkout.

    Alembic is imported only when there is something to migrate; it takes longer than `monitor --help` may.
    """
    from alembic.config import Config  # noqa: PLC0415

    package = Path(__file__).resolve().parents[1]
    folders = (package / "_alembic", package.parent / "alembic")
    folder = next((each for each in folders if (each / "env.py").is_file()), None)
    if folder is None:
        raise StoreOutdated("the migrations are missing from this installation: install it again")
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _refuse_newer(database: Database, found: str | None) -> None:
    if found is None or found == REVISION:
        return
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if found not in known:
        raise StoreNewer(
            f"{database.name} has revision {found}, which this program (up to {REVISION}) does not know: "
            "it was written by a newer version; install that one"
        )


def _upgrade(database: Database) -> None:
    from alembic import command  # noqa: PLC0415

    config = alembic_config()
    try:
        with _locked(database) as connection:
            found = current_revision(connection)
            if found != REVISION:  # another process may have been first
                _refuse_newer(database, found)
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    except exc.SQLAlchemyError as error:
        raise translate(error, name=database.name) from error


@contextmanager
def _locked(database: Database) -> Iterator[Connection]:
    if database.is_sqlite:
        with _locked_sqlite(database) as connection:
            yield connection
        return
    with database.engine.begin() as connection:
        # a first migration of a big store may well take longer than a statement of the daily work
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = '10min'"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        yield connection


@contextmanager
def _locked_sqlite(database: Database) -> Iterator[Connection]:
    with database.engine.connect() as connection:
        raw = connection.connection
        # only outside a transaction; with foreign keys on, rebuilding a table would delete the rows that point to it
        raw.cursor().execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                if broken:
                    tables = ", ".join(sorted({str(row[0]) for row in broken}))
                    raise StoreCorrupt(f"after migrating {database.name}, rows of {tables} point nowhere; undone")
        finally:
            raw.cursor().execute("PRAGMA foreign_keys=ON")


def use_write_ahead_log(database: Database) -> None:
    """Readers and one writer side by side; kept in the file, so asked for once."""
    if not database.is_sqlite:
        return
    try:
        with database.engine.connect() as connection:
            raw = connection.connection
            mode = raw.cursor().execute("PRAGMA journal_mode").fetchone()[0]
            if mode != "wal":
                raw.cursor().execute("PRAGMA journal_mode=WAL")
    except exc.SQLAlchemyError as error:
        raise translate(error, name=database.name) from error
