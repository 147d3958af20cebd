"""`skew`: the same request seen online and offline, and how far the two may lie apart."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from monitor.config.block import Block
from monitor.config.sources import TimeColumn
from monitor.config_types import Duration, Fraction, Names, NonEmpty, Number, Whole


class Tolerance(Block):
    """Two values agree when they differ by at most `abs + rel · |offline value|`."""

    abs: Number = Field(1e-6, ge=0)
    """Absolute part, in units of the feature."""
    rel: Number = Field(1e-4, ge=0, le=1)
    """Relative part, as a share of the offline value."""


class OfflineConfig(Block):
    """Where the offline (training-side) values of the same requests lie."""

    table: NonEmpty | None = None
    """Table with the offline values."""
    query: NonEmpty | None = None
    """A SELECT in place of a table."""
    source: NonEmpty | None = None
    """Source of the table (default: the model's)."""
    key: Names | None = None
    """Columns that name the request or entity on both sides (default: the model's `key`)."""
    time: TimeColumn | None = None
    """Time from which an offline row holds; needed for `join: asof`."""
    columns: dict[NonEmpty, NonEmpty] = {}
    """Feature name → column name where the two sides differ."""

    @model_validator(mode="after")
    def _one_relation(self) -> OfflineConfig:
        if (self.table is None) == (self.query is None):
            raise ValueError("give the offline values either a `table` or a `query`")
        return self


class SkewLimits(Block):
    """What `defaults` may say about skew; it takes effect for models that have a `skew` block."""

    join: Literal["exact", "asof"] = "exact"
    """`exact`: the offline row of the same key; `asof`: the latest one not after the online time."""
    sample: Whole = Field(2000, ge=10, le=1_000_000)
    """Requests compared per window, drawn by a seeded hash of the key."""
    seed: Whole = 0
    """Another seed draws another sample."""
    tolerance: Tolerance = Tolerance()
    """How far two numbers may lie apart and still agree."""
    warn: Fraction = 0.001
    """Share of compared values that differ: worth a look."""
    alert: Fraction = 0.01
    """Share of compared values that differ: worth a message."""
    missing_alert: Fraction = 0.05
    """Share of sampled requests without an offline row."""
    examples: Whole = Field(5, ge=0, le=50)
    """Differing values shown per feature."""


class SkewConfig(SkewLimits):
    """Training–serving skew: the same request, seen online and offline."""

    offline: OfflineConfig
    """Where the offline values lie."""
    features: Names | None = None
    """Features to compare (default: every column both sides have)."""
    settle: Duration | None = None
    """How long after a window's end its offline values are there (default: the model's `settle`)."""
    tolerances: dict[NonEmpty, Tolerance] = {}
    """Tolerance of single features, by name."""
