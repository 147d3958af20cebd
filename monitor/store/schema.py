"""The store's tables, as SQLAlchemy Core sees them; `alembic/versions` builds the same, step by step.

Names are chosen for people who query the store with SQL.  Text that may be empty or long and is part of a key has a
bounded twin (``*_key``, see :func:`monitor.store.storable.short_key`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from monitor.store.storable import Clean, Document, Number, UtcTime

REVISION = "0001"
"""The newest migration; a test holds it equal to the head of `alembic/versions`."""

VERSION_TABLE = "monitor_alembic_version"
"""Not ``alembic_version``: the store may share a PostgreSQL database with another program's migrations."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# SQLite numbers rows by itself only in an INTEGER primary key
_Id = BigInteger().with_variant(Integer(), "sqlite")

model_start = Table(
    "model_start",
    metadata,
    Column("model", Clean, primary_key=True),
    Column("start", UtcTime, nullable=False),
)

window_run = Table(
    "window_run",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("model", Clean, nullable=False),
    Column("job", String(16), nullable=False),
    Column("window_start", UtcTime, nullable=False),
    Column("window_end", UtcTime, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("newest", Boolean, nullable=False),
    Column("spec_version", Clean, nullable=False),
    Column("alerts", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Clean),
    Column("attempt", Integer, nullable=False),
    Column("lease_owner", Clean),
    Column("lease_token", String(32)),
    Column("lease_expires", UtcTime),
    Column("not_before", UtcTime, nullable=False),
    Column("n_rows", BigInteger),
    Column("fingerprint", Clean),
    Column("detail", Document, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    UniqueConstraint("model", "job", "window_start", "window_end", "revision"),
    CheckConstraint("state <> 'leased' OR (lease_token IS NOT NULL AND lease_expires IS NOT NULL)", name="lease"),
    CheckConstraint(
        "state IN ('pending', 'leased', 'ok', 'no_data', 'insufficient', 'error', 'skipped')", name="state"
    ),
    sqlite_autoincrement=True,
)
# Only of unfinished windows: the migration says so. To say it here would import PostgreSQL's dialect into each of the
# short commands that read an SQLite store.
Index("ix_window_run_unfinished", window_run.c.model, window_run.c.job, window_run.c.window_start)

baseline = Table(
    "baseline",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("model", Clean, nullable=False, index=True),
    Column("spec_hash", Clean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("source", Clean, nullable=False),
    Column("window_start", UtcTime),
    Column("window_end", UtcTime),
    Column("n_rows", BigInteger, nullable=False),
    Column("detail", Document, nullable=False),
    sqlite_autoincrement=True,
)

baseline_column = Table(
    "baseline_column",
    metadata,
    Column("baseline_id", _Id, ForeignKey("baseline.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", Clean, nullable=False),
    Column("spec", LargeBinary, nullable=False),
    Column("reference", LargeBinary, nullable=False),
)

profile = Table(
    "profile",
    metadata,
    Column("model", Clean, primary_key=True),
    Column("window_start", UtcTime, primary_key=True),
    Column("window_end", UtcTime, primary_key=True),
    Column("segment_key", Clean, primary_key=True),
    Column("column_key", Clean, primary_key=True),
    Column("segment", Clean),
    Column("column_name", Clean, nullable=False),
    Column("job", String(16), nullable=False),
    Column("baseline_id", _Id, ForeignKey("baseline.id")),
    Column("kind", String(16), nullable=False),
    Column("counts", LargeBinary, nullable=False),
)

result = Table(
    "result",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run_id", _Id, ForeignKey("window_run.id"), nullable=False, index=True),
    Column("model", Clean, nullable=False),
    Column("job", String(16), nullable=False),
    Column("check_name", String(32), nullable=False),
    Column("metric", Clean, nullable=False),
    Column("feature", Clean),
    Column("segment", Clean),
    Column("window_start", UtcTime, nullable=False),
    Column("window_end", UtcTime, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("newest", Boolean, nullable=False),
    Column("value", Number),
    Column("verdict", String(16), nullable=False),
    Column("p_value", Number),
    Column("threshold", Number),
    Column("n_reference", BigInteger),
    Column("n_current", BigInteger),
    Column("kind", Clean),
    Column("interval_low", Number),
    Column("interval_high", Number),
    Column("label_coverage", Number),
    Column("detail", Document, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_result_window", result.c.model, result.c.window_start, result.c.check_name)
Index("ix_result_end", result.c.window_end)

series = Table(
    "series",
    metadata,
    Column("model", Clean, primary_key=True),
    Column("series_key", Clean, primary_key=True),
    Column("check_name", String(32), nullable=False),
    Column("feature", Clean),
    Column("segment", Clean),
    Column("bad", Integer, nullable=False),
    Column("good", Integer, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("last_window", UtcTime),
    Column("since", UtcTime),
)

incident = Table(
    "incident",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("model", Clean, nullable=False),
    Column("check_name", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("opened_window", UtcTime, nullable=False),
    Column("last_window", UtcTime, nullable=False),
    Column("resolved_window", UtcTime),
    Column("features", Document, nullable=False),
    Column("cause", Clean),
    Column("cause_confidence", Number),
    Column("onset", UtcTime),
    Column("summary", Clean, nullable=False),
    Column("acknowledged_by", Clean),
    Column("acknowledged_at", UtcTime),
    Column("acknowledged_note", Clean),
    Column("detail", Document, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)
Index("ix_incident_model", incident.c.model, incident.c.state)

mute = Table(
    "mute",
    metadata,
    Column("model", Clean, primary_key=True),
    Column("feature_key", Clean, primary_key=True),
    Column("feature", Clean),
    Column("until", UtcTime),
    Column("who", Clean, nullable=False),
    Column("reason", Clean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("destination", Clean, nullable=False),
    Column("dedup_key", Clean, nullable=False),
    Column("thread_key", Clean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    Column("remote_ref", Clean),
    Column("error", Clean),
    Column("message", Document, nullable=False),
    UniqueConstraint("destination", "dedup_key"),
    CheckConstraint("state IN ('held', 'pending', 'sending', 'sent', 'dead')", name="state"),
    sqlite_autoincrement=True,
)
Index("ix_outbox_state", outbox.c.destination, outbox.c.state, outbox.c.id)
Index("ix_outbox_thread", outbox.c.destination, outbox.c.thread_key, outbox.c.id)

tick = Table(
    "tick",
    metadata,
    Column("worker", Clean, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("detail", Document, nullable=False),
)
