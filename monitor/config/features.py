"""`features`: which columns are features, of what kind, and how much each of them weighs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from monitor.config.block import Block
from monitor.config_types import Names, NonEmpty, Number, Whole


class ImportanceTable(Block):
    """A table that holds one row for each feature."""

    table: NonEmpty
    """Name of the table."""
    feature: NonEmpty = "feature"
    """Column with the feature's name."""
    weight: NonEmpty = "importance"
    """Column with its weight."""
    source: NonEmpty | None = None
    """Source of the table (default: the model's)."""


def _importance_kind(value: object) -> str:
    is_table = isinstance(value, ImportanceTable) or (isinstance(value, dict) and isinstance(value.get("table"), str))
    return "<table>" if is_table else "<weights>"


Importance = Annotated[
    Annotated[dict[NonEmpty, Annotated[Number, Field(ge=0)]], Tag("<weights>")]
    | Annotated[ImportanceTable, Tag("<table>")],
    Discriminator(_importance_kind),
]


class FeatureConfig(Block):
    """Which columns are features, and of what kind; without it every column that has no other role."""

    from_: NonEmpty | None = Field(None, alias="from")
    """A JSON column that holds the features."""
    table: NonEmpty | None = None
    """A table of its own, joined by `key`."""
    key: Names | None = None
    """Columns that join that table (default: the model's `key`)."""
    include: Names | None = None
    """Only these columns are features; names or globs such as `"amount_*"`."""
    exclude: Names = []
    """Columns that are not features; names or globs such as `"debug_*"`."""
    numeric: Names = []
    """Features to be read as numbers whatever their type."""
    categorical: Names = []
    """Features to be read as categories whatever their type, e.g. codes."""
    max_categories: Whole = Field(200, ge=2, le=10_000)
    """The most frequent so many categories of the baseline are counted one by one, the rest together."""
    groups: dict[NonEmpty, Names] = {}
    """Where features come from, as names or globs: `{bureau: ["bureau_*"], application: [age, income]}`; features that
    fire together and are of one group are told as that."""
    importance: Importance | None = None
    """Weights by feature, or the table that holds them; ranks what is shown (see `drift.top`)."""

    @model_validator(mode="before")
    @classmethod
    def _from_table(cls, value: Any) -> Any:
        """`from: {table: ml.features, key: request_id}` is another way to write `table` and `key`."""
        if isinstance(value, dict) and isinstance(value.get("from"), dict):
            inner = value["from"]
            return {**{key: item for key, item in value.items() if key != "from"}, **inner}
        return value

    @model_validator(mode="after")
    def _no_contradiction(self) -> FeatureConfig:
        if self.from_ is not None and self.table is not None:
            raise ValueError("features come `from` a JSON column or from a `table`, not both")
        both = sorted(set(self.numeric) & set(self.categorical))
        if both:
            raise ValueError(f"{', '.join(both)}: listed as numeric and as categorical")
        return self
