"""Connections to the store: what SQLite and PostgreSQL each need to be trusted with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Table, create_engine, event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool

from monitor.store.errors import StoreCorrupt, StoreError, StoreMissing, StoreUnavailable, translate
from monitor.store.storable import dump_json

BUSY_SECONDS = 15
_MAGIC = b"SQLite format 3\x00"
_READ = "monitor_read"


@dataclass
class Database:
    """An engine, the name people know it by, and — for SQLite — the file that must stay the same file."""

    engine: Engine
    name: str
    path: Path | None = None
    identity: tuple[int, int] | None = None

    @property
    def is_sqlite(self) -> bool:
        return self.path is not None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that takes the write lock at once (SQLite) and ends in COMMIT, or leaves nothing behind."""
        self.watch_file()
        try:
            with self.engine.begin() as connection:
                yield connection
        except exc.SQLAlchemyError as error:
            raise translate(error, name=self.name) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view; never waits for writers on SQLite (WAL)."""
        self.watch_file()
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(**{_READ: True})
        except exc.SQLAlchemyError as error:
            raise translate(error, name=self.name) from error

    def watch_file(self) -> None:
        """Notice that the file was deleted or replaced: SQLite would go on writing into a file without a name."""
        if self.path is None or self.identity is None:
            return
        try:
            found = self.path.stat()
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self.identity:
            raise StoreCorrupt(
                f"{self.name} was deleted or replaced while in use; nothing was written. "
                "Stop the monitor, put the file back, and start again"
            )

    def remember_file(self) -> None:
        if self.path is not None:
            found = self.path.stat()
            self.identity = (found.st_dev, found.st_ino)


def insert_or(connection: Connection, table: Table) -> Any:
    """An ``INSERT`` that knows ``ON CONFLICT``: both databases speak it, SQLAlchemy spells it once for each."""
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert  # noqa: PLC0415 - one process talks to one of the two

        return insert(table)
    from sqlalchemy.dialects.postgresql import insert as insert_postgres  # noqa: PLC0415 - as above

    return insert_postgres(table)


def open_database(url: str, *, create: bool) -> Database:
    """Connect lazily to the store at ``url``.

    Parameters
    ----------
    url
        ``sqlite:///file`` (three slashes: relative to the working folder, four: absolute) or
        ``postgresql://user:password@host/database``.
    create
        Make the SQLite file if it is not there.

    Raises
    ------
    StoreError
        For another kind of database, or an SQLite store without a file.
    StoreMissing
        If the SQLite file is not there and is not to be made.
    StoreCorrupt
        If the file is there and is not a database.
    """
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        raise StoreError("`store` is not a database URL: write sqlite:///monitor.db or postgresql://…") from None
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(parsed, create=create)
    if parsed.get_backend_name() in ("postgresql", "postgres"):
        return _open_postgres(parsed)
    raise StoreError(f"the store is SQLite or PostgreSQL, not {parsed.get_backend_name()!r}")


def _open_sqlite(url: URL, *, create: bool) -> Database:
    if not url.database or url.database == ":memory:":
        raise StoreError("the store must outlive the program: write a file, as in sqlite:///monitor.db")
    path = Path(url.database).absolute()
    name = f"the store {path.name}"
    _prepare_file(path, name, create=create)
    # mode=rw: a connection made later must never bring a deleted file back to life as an empty one
    address = f"file:{quote(str(path))}?mode=rw"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            address, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=5, json_serializer=dump_json)
    event.listen(engine, "begin", _begin_sqlite)
    return Database(engine=engine, name=name, path=path)


def _prepare_file(path: Path, name: str, *, create: bool) -> None:
    try:
        if not path.exists():
            if not create:
                raise StoreMissing(f"{name} does not exist yet: `monitor run` makes it")
            if not path.parent.is_dir():
                raise StoreMissing(f"the folder of {name} does not exist: make it first")
            path.touch(mode=0o640)
        if path.is_dir():
            raise StoreCorrupt(f"{name} is a folder, not a database")
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise StoreUnavailable(f"{name} cannot be opened: {error.strerror}") from error
    # an empty file is what a run killed in its first moment leaves behind
    if head and head != _MAGIC:
        raise StoreCorrupt(f"{name} is not an SQLite database; it was left as it is")


def _begin_sqlite(connection: Connection) -> None:
    # Python's sqlite3 begins late and as a reader: two that read, then write, would lose each other's work
    read = connection.get_execution_options().get(_READ, False)
    connection.exec_driver_sql("BEGIN" if read else "BEGIN IMMEDIATE")


def _open_postgres(url: URL) -> Database:
    parsed = url.set(drivername="postgresql+psycopg")
    try:
        engine = create_engine(
            parsed,
            pool_size=5,
            max_overflow=5,
            pool_pre_ping=True,
            pool_recycle=1800,
            json_serializer=dump_json,
            connect_args={"connect_timeout": 10, "application_name": "ml-monitor", "client_encoding": "utf8"},
        )
    except ModuleNotFoundError as error:
        raise StoreError("a PostgreSQL store needs the driver: pip install 'ml-monitor[postgres]'") from error
    event.listen(engine, "connect", _prepare_postgres)
    return Database(engine=engine, name=f"the store {parsed.database or ''} on {parsed.host or 'localhost'}")


def _prepare_postgres(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
        cursor.execute("SET lock_timeout = '30s'")
        cursor.execute("SET statement_timeout = '120s'")
        cursor.execute("SET idle_in_transaction_session_timeout = '120s'")
    connection.commit()
