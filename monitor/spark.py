"""Counting on a Spark cluster: the same kernel inside its workers, their counts added up on the driver.

Needs the extra ``spark`` (PySpark 4), and this package on the workers' Python path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from detectors.profiles import (
    ColumnProfile,
    ColumnSpec,
    NumericSpec,
    empty,
    from_bytes,
    merge_all,
    spec_from_bytes,
    spec_to_bytes,
    to_bytes,
)
from monitor import counting
from monitor.sources import normal

_SCHEMA = "name string, counts binary"


def open_session(options: Mapping[str, str] | None = None) -> Any:
    """A session with these options (``spark.master`` and the like); the running one where there is one."""
    from pyspark.sql import SparkSession  # noqa: PLC0415

    builder = SparkSession.builder.appName("ml-monitor")
    for name, value in (options or {}).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def open_frame(
    session: Any, *, table: str | None = None, path: str | None = None, query: str | None = None, form: str = "parquet"
) -> Any:
    """The rows of a table of the catalogue, of a folder (``form``: parquet, delta, …), or of a query."""
    if table is not None:
        return session.table(table)
    if path is not None:
        return session.read.format(form).load(path)
    if query is not None:
        return session.sql(query)
    raise ValueError("give a table, a path or a query")


def count(frame: Any, specs: Mapping[str, ColumnSpec]) -> dict[str, ColumnProfile]:
    """Count the columns of ``specs`` in all rows of a frame: the integers that any other source gives.

    Each partition is counted where it lies, and leaves one profile a column; nothing else comes to the driver.
    """
    blobs = {name: spec_to_bytes(spec) for name, spec in specs.items()}

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return count_partition(batches, blobs)

    parts: dict[str, list[ColumnProfile]] = {name: [empty(spec)] for name, spec in specs.items()}
    columns = [f"`{name.replace('`', '``')}`" for name in specs]
    for row in frame.select(*columns).mapInArrow(work, _SCHEMA).toLocalIterator():
        parts[row["name"]].append(from_bytes(bytes(row["counts"])))
    return {name: merge_all(found) for name, found in parts.items()}


def count_partition(batches: Iterator[pa.RecordBatch], blobs: Mapping[str, bytes]) -> Iterator[pa.RecordBatch]:
    """What a worker does: the batches of one partition in, one batch of a profile a column out."""
    specs = {name: spec_from_bytes(blob) for name, blob in blobs.items()}
    counts = counting.count((_shaped(batch, specs) for batch in batches), specs)
    found = [to_bytes(counts.columns[name]) for name in specs]
    yield pa.RecordBatch.from_arrays([pa.array(list(specs)), pa.array(found, pa.binary())], names=["name", "counts"])


def _shaped(batch: pa.RecordBatch, specs: Mapping[str, ColumnSpec]) -> pa.RecordBatch:
    arrays = [_shape(batch.column(name), numeric=isinstance(spec, NumericSpec)) for name, spec in specs.items()]
    return pa.RecordBatch.from_arrays(arrays, names=list(specs))


def _shape(values: pa.Array, *, numeric: bool) -> pa.Array:
    if numeric:
        return normal.to_float(values)
    if pa.types.is_boolean(values.type):
        return normal.to_flags(values)
    return normal.to_text(values if pa.types.is_string(values.type) else normal.whole_text(values))
