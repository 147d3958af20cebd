"""A table of every kind of value that has ever been counted twice or not at all, and how its counts are compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa

from detectors.profiles import CategoricalProfile, ColumnProfile, ColumnSpec, NumericProfile
from monitor import counting
from monitor.models import Window

START = datetime(2026, 3, 1, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(days=1))
NOW = datetime(2026, 4, 1, tzinfo=UTC)
ROWS = 3000


def table(rows: int = ROWS) -> pa.Table:
    """Seeded; evenly spread over the day of WINDOW."""
    rng = np.random.default_rng(11)
    tied = np.round(rng.normal(size=rows), 1)
    wild = np.where(rng.random(rows) < 0.01, np.inf, rng.normal(size=rows) * 1e3)
    wild = np.where(rng.random(rows) < 0.01, -np.inf, wild)
    wild = np.where(rng.random(rows) < 0.02, np.nan, wild)
    single = rng.choice([0.1, 0.2, 0.3, 1 / 3], rows).astype(np.float32)
    huge = rng.integers(2**53 - 50, 2**53 + 50, rows)
    zeros = np.where(rng.random(rows) < 0.5, -0.0, 0.0)
    money = [Decimal(int(cents)).scaleb(-2) for cents in rng.integers(-500, 500, rows)]
    words = rng.choice(["", " ", "a", "Ä", "null", "a'b"], rows).tolist()
    micros = START.timestamp() * 1e6 + 86_400_000_000 // rows * np.arange(rows)
    gone = rng.random(rows) < 0.05
    return pa.table(
        {
            "at": pa.array(micros.astype(np.int64)).cast(pa.timestamp("us", tz="UTC")),
            "tied": pa.array(tied, mask=gone),
            "wild": pa.array(wild, mask=rng.random(rows) < 0.02),
            "single": pa.array(single),
            "huge": pa.array(huge, mask=rng.random(rows) < 0.02),
            "zeros": pa.array(zeros),
            "money": pa.array(money, pa.decimal128(12, 2)),
            "flag": pa.array(rng.random(rows) < 0.3, mask=rng.random(rows) < 0.1),
            "word": pa.array(words, pa.string(), mask=rng.random(rows) < 0.1),
        }
    )


COLUMNS: dict[str, Any] = {
    "at": sa.DateTime(timezone=True), "tied": sa.Double(), "wild": sa.Double(), "single": sa.REAL(),
    "huge": sa.BigInteger(), "zeros": sa.Double(), "money": sa.Numeric(12, 2), "flag": sa.Boolean(), "word": sa.Text(),
}  # fmt: skip
NUMERIC = ["tied", "wild", "single", "huge", "zeros", "money"]
KINDS = dict.fromkeys(NUMERIC, "numeric") | {"flag": "categorical", "word": "categorical"}


def frozen() -> dict[str, ColumnSpec]:
    """Edges of a reference whose floats were never rounded to float32, and that lie on the window's values."""
    reference = table().set_column(3, "single", pa.array(np.resize([0.1, 0.2, 0.3, 1 / 3], ROWS)))
    batches = [batch.select(list(KINDS)) for batch in reference.to_batches()]
    shaped = [
        batch.set_column(batch.schema.get_field_index("flag"), "flag", batch.column("flag").cast(pa.string()))
        for batch in batches
    ]
    specs, _ = counting.learn_specs(shaped, KINDS, bins=10, max_categories=4, decision_edges={"tied": [0.5]})
    return specs


def integers(profile: ColumnProfile) -> list[Any]:
    if isinstance(profile, NumericProfile):
        outside = [profile.n, profile.missing, profile.pos_inf, profile.neg_inf]
        return [*outside, *profile.cells.tolist()]
    assert isinstance(profile, CategoricalProfile)
    return [profile.n, profile.missing, profile.unseen, *profile.counts.tolist(), *sorted(profile.heavy_unseen.items())]
