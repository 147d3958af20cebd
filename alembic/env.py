"""Runs the migrations on the connection that `monitor.store.migrate` opened and locked.

From a terminal (``alembic revision --autogenerate``, ``alembic check``) the store is named by ``MONITOR_STORE``.
"""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import Connection

from alembic import context
from monitor.store.engine import open_database
from monitor.store.schema import VERSION_TABLE, metadata
from monitor.store.storable import Clean, Document, Number, UtcTime

_TYPES = {UtcTime: "TIME", Clean: "sa.Text()", Document: "sa.JSON()", Number: "sa.Double()"}


def render_type(kind: str, item: Any, _context: Any) -> str | bool:
    """Write plain types into new migrations: an old migration must not change when our classes do."""
    return _TYPES.get(type(item), False) if kind == "type" else False


def ours_only(_item: Any, name: str | None, kind: str, reflected: bool, _other: Any) -> bool:
    """Leave tables alone that another program keeps in the same database."""
    return not (kind == "table" and reflected and name not in metadata.tables)


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        # SQLite can roll back tables too; alembic only trusts it when told
        transactional_ddl=True,
        compare_type=True,
        render_item=render_type,
        include_object=ours_only,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
elif "MONITOR_STORE" in os.environ:
    with open_database(os.environ["MONITOR_STORE"], create=True).write() as opened:
        run(opened)
else:
    raise SystemExit("name the store in the variable MONITOR_STORE, or use `monitor db upgrade`")
