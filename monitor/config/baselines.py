"""`baseline`: the five forms of what windows are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from monitor.config.block import Block
from monitor.config_types import Day, Flag, Instant, LongDuration, NonEmpty, in_zone

Season = Literal["auto", "none", "day", "week"]


class RollingBaseline(Block):
    """The windows just before."""

    rolling: LongDuration
    """How far back, e.g. `28d`."""
    exclude_alerting: Flag = True
    """A window that alerted never becomes part of the normal."""
    season: Season = "auto"
    """Compare a window with those of the same time of `day` or of the `week`; `auto`: each column as its own windows
    show that it pays, `none`: with all of them."""
    exclude: list[Day] = []
    """Days, such as holidays, that never become part of the normal."""


class RangeBaseline(Block):
    """A stretch of the log that is known to be good."""

    from_: Instant = Field(alias="from")
    """First moment, included."""
    to: Instant
    """Last moment, excluded."""
    season: Season = "auto"
    """Compare a window with those of the same time of `day` or of the `week`; `auto`: each column as its own windows
    show that it pays, `none`: with all of them."""
    exclude: list[Day] = []
    """Days, such as holidays, that never become part of the normal."""

    @model_validator(mode="after")
    def _in_order(self) -> RangeBaseline:
        utc = ZoneInfo("UTC")
        if in_zone(self.from_, utc) >= in_zone(self.to, utc):
            raise ValueError("`from` must lie before `to`")
        return self


class TableBaseline(Block):
    """A table, such as the training set."""

    table: NonEmpty
    """Name of the table."""
    source: NonEmpty | None = None
    """Source of the table (default: the model's)."""
    where: NonEmpty | None = None
    """SQL condition on its rows."""


class QueryBaseline(Block):
    """A SELECT that returns the reference rows."""

    query: NonEmpty
    """The SELECT."""
    source: NonEmpty | None = None
    """Source it is run on (default: the model's)."""


class FileBaseline(Block):
    """A Parquet or CSV file, or a folder of them."""

    file: Path
    """Path; relative to the config file."""


_BASELINES = {"rolling": "<rolling>", "from": "<range>", "to": "<range>", "table": "<table>", "query": "<query>"}
_BASELINES |= {"file": "<file>"}
BASELINE_FORMS = "{rolling: 28d}, {from: 2026-01-01, to: 2026-02-01}, {table: NAME}, {query: SELECT} or {file: PATH}"


def _baseline_kind(value: object) -> str | None:
    if isinstance(value, BaseModel):
        names: set[str] = {"from" if name == "from_" else name for name in type(value).model_fields}
    else:
        names = set(value) if isinstance(value, dict) else set()
    kinds = {kind for key, kind in _BASELINES.items() if key in names}
    return kinds.pop() if len(kinds) == 1 else None


BaselineConfig = Annotated[
    Annotated[RollingBaseline, Tag("<rolling>")]
    | Annotated[RangeBaseline, Tag("<range>")]
    | Annotated[TableBaseline, Tag("<table>")]
    | Annotated[QueryBaseline, Tag("<query>")]
    | Annotated[FileBaseline, Tag("<file>")],
    Discriminator(
        _baseline_kind,
        custom_error_type="baseline",
        custom_error_message="expected exactly one of " + BASELINE_FORMS.replace("{", "{{").replace("}", "}}"),
    ),
]
