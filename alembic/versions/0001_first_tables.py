"""The first tables: windows, baselines, profiles, results, incidents, messages.

Revision: 0001.
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# written out, not imported: an old migration must not change when the program does
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "baseline",
        sa.Column("id", ID, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("spec_hash", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("window_start", TIME, nullable=True),
        sa.Column("window_end", TIME, nullable=True),
        sa.Column("n_rows", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_baseline")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_baseline_model", "baseline", ["model"])

    op.create_table(
        "incident",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("check_name", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("opened_window", TIME, nullable=False),
        sa.Column("last_window", TIME, nullable=False),
        sa.Column("resolved_window", TIME, nullable=True),
        sa.Column("features", sa.JSON(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("cause_confidence", sa.Double(), nullable=True),
        sa.Column("onset", TIME, nullable=True),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("acknowledged_at", TIME, nullable=True),
        sa.Column("acknowledged_note", sa.Text(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident")),
    )
    op.create_index("ix_incident_model", "incident", ["model", "state"])

    op.create_table(
        "model_start",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("start", TIME, nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_model_start")),
    )
    op.create_table(
        "mute",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("feature_key", sa.Text(), nullable=False),
        sa.Column("feature", sa.Text(), nullable=True),
        sa.Column("until", TIME, nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("model", "feature_key", name=op.f("pk_mute")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", ID, nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("dedup_key", sa.Text(), nullable=False),
        sa.Column("thread_key", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("remote_ref", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("message", sa.JSON(), nullable=False),
        sa.CheckConstraint("state IN ('held', 'pending', 'sending', 'sent', 'dead')", name=op.f("ck_outbox_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("destination", "dedup_key", name=op.f("uq_outbox_destination")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_state", "outbox", ["destination", "state", "id"])
    op.create_index("ix_outbox_thread", "outbox", ["destination", "thread_key", "id"])

    op.create_table(
        "series",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("series_key", sa.Text(), nullable=False),
        sa.Column("check_name", sa.String(length=32), nullable=False),
        sa.Column("feature", sa.Text(), nullable=True),
        sa.Column("segment", sa.Text(), nullable=True),
        sa.Column("bad", sa.Integer(), nullable=False),
        sa.Column("good", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("last_window", TIME, nullable=True),
        sa.Column("since", TIME, nullable=True),
        sa.PrimaryKeyConstraint("model", "series_key", name=op.f("pk_series")),
    )
    op.create_table(
        "tick",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_tick")),
    )
    op.create_table(
        "window_run",
        sa.Column("id", ID, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("job", sa.String(length=16), nullable=False),
        sa.Column("window_start", TIME, nullable=False),
        sa.Column("window_end", TIME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("newest", sa.Boolean(), nullable=False),
        sa.Column("spec_version", sa.Text(), nullable=False),
        sa.Column("alerts", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.String(length=32), nullable=True),
        sa.Column("lease_expires", TIME, nullable=True),
        sa.Column("not_before", TIME, nullable=False),
        sa.Column("n_rows", sa.BigInteger(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(
            "state <> 'leased' OR (lease_token IS NOT NULL AND lease_expires IS NOT NULL)",
            name=op.f("ck_window_run_lease"),
        ),
        sa.CheckConstraint(
            "state IN ('pending', 'leased', 'ok', 'no_data', 'insufficient', 'error', 'skipped')",
            name=op.f("ck_window_run_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_window_run")),
        sa.UniqueConstraint("model", "job", "window_start", "window_end", "revision", name=op.f("uq_window_run_model")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_window_run_unfinished",
        "window_run",
        ["model", "job", "window_start"],
        sqlite_where=sa.text("state IN ('pending', 'leased')"),
        postgresql_where=sa.text("state IN ('pending', 'leased')"),
    )

    op.create_table(
        "baseline_column",
        sa.Column("baseline_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("spec", sa.LargeBinary(), nullable=False),
        sa.Column("reference", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["baseline_id"], ["baseline.id"], name=op.f("fk_baseline_column_baseline_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("baseline_id", "position", name=op.f("pk_baseline_column")),
    )
    op.create_table(
        "profile",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("window_start", TIME, nullable=False),
        sa.Column("window_end", TIME, nullable=False),
        sa.Column("segment_key", sa.Text(), nullable=False),
        sa.Column("column_key", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=True),
        sa.Column("column_name", sa.Text(), nullable=False),
        sa.Column("job", sa.String(length=16), nullable=False),
        sa.Column("baseline_id", ID, nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("counts", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["baseline_id"], ["baseline.id"], name=op.f("fk_profile_baseline_id")),
        sa.PrimaryKeyConstraint(
            "model", "window_start", "window_end", "segment_key", "column_key", name=op.f("pk_profile")
        ),
    )
    op.create_table(
        "result",
        sa.Column("id", ID, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("job", sa.String(length=16), nullable=False),
        sa.Column("check_name", sa.String(length=32), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("feature", sa.Text(), nullable=True),
        sa.Column("segment", sa.Text(), nullable=True),
        sa.Column("window_start", TIME, nullable=False),
        sa.Column("window_end", TIME, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("newest", sa.Boolean(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("p_value", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("n_reference", sa.BigInteger(), nullable=True),
        sa.Column("n_current", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("interval_low", sa.Double(), nullable=True),
        sa.Column("interval_high", sa.Double(), nullable=True),
        sa.Column("label_coverage", sa.Double(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["window_run.id"], name=op.f("fk_result_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_result")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_result_end", "result", ["window_end"])
    op.create_index("ix_result_run_id", "result", ["run_id"])
    op.create_index("ix_result_window", "result", ["model", "window_start", "check_name"])
