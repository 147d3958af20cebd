"""`sources`: the databases, folders and Spark clusters that logs are read from, and columns of time."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from monitor.config.block import Block
from monitor.config_types import LongDuration, NonEmpty, Scalar, Whole, Zone


def _spark_master(value: str) -> str:
    if not re.fullmatch(r"local(\[[^\]]+\])?|yarn|(spark|k8s)://.+", value):
        raise PydanticCustomError(
            "master", "expected a Spark master: local[2], yarn, spark://host:7077 or k8s://https://host"
        )
    return value


class SparkConfig(Block):
    """A Spark cluster, or Spark in this machine's processes; `{}` is what Spark itself is configured for."""

    master: Annotated[NonEmpty, AfterValidator(_spark_master)] | None = None
    """Where Spark runs: `local[2]`, `yarn`, `spark://host:7077`, `k8s://https://host` (default: what Spark is set up
    for, or the session that is running already). One process has one Spark, so all sources name the same."""
    path: NonEmpty | None = None
    """Folder of tables, local or e.g. `s3a://bucket/logs`: `table: predictions` is then its subfolder (default: `table`
    is a table of Spark's catalogue, such as `lake.predictions`)."""
    format: NonEmpty = "parquet"
    """Format of the folders below `path`: `parquet`, `orc`, `csv`, or one that a package brings, such as `delta`."""
    options: dict[NonEmpty, Scalar] = {}
    """Options of the session, e.g. `spark.sql.shuffle.partitions: 4`."""


class SourceConfig(Block):
    """A database (`url`), a folder of Parquet / CSV files (`path`) or `spark`; short form: the URL or the path."""

    url: SecretStr | None = None
    """SQLAlchemy URL, e.g. `postgresql://reader:${DB_PASSWORD}@db/logs` or `sqlite:///logs.db` (a relative file lies
    beside the config file)."""
    path: Path | None = None
    """Folder of files; `table: predictions` is then the subfolder or file of that name."""
    format: Literal["parquet", "csv"] = "parquet"
    """Format of the files below `path`."""
    spark: SparkConfig | None = None
    """Tables, folders and queries that a Spark cluster reads, and counts itself (needs the extra `spark`)."""
    statement_timeout: LongDuration = timedelta(minutes=5)
    """A statement that runs longer is cancelled, and the window tried again later."""
    connect_timeout: LongDuration = timedelta(seconds=15)
    """How long to wait for a connection."""
    max_connections: Whole = Field(2, ge=1, le=16)
    """Connections open at the same time, at most."""
    push_down: Literal["never", "auto", "always"] = "auto"
    """Count numeric features inside the database, so that only counts cross the network: `auto` does so in warehouses
    (Snowflake, BigQuery, Databricks, Trino, Redshift), `always` pays on a link below about 1 Gbit/s. Windows of models
    with segments, a JSON column of features, or times that only parse exactly here are streamed nevertheless."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"url": value} if "://" in value else {"path": value}
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> SourceConfig:
        if sum(kind is not None for kind in (self.url, self.path, self.spark)) != 1:
            raise ValueError("give a source one of `url` (database), `path` (folder of files) and `spark`")
        return self


class TimeColumn(Block):
    """A time column: its name, and how to read it where the type does not say (short form: the name)."""

    column: NonEmpty
    """Name of the column."""
    unit: Literal["auto", "s", "ms", "us", "ns", "iso"] = "auto"
    """Unit of numbers since 1970, or `iso` for text; `auto` goes by type and size."""
    zone: Zone | None = None
    """Time zone of values without one (default: `timezone`)."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value
