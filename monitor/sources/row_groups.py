"""Files read one row group at a time: memory does not grow with files, and what statistics prove is not filtered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from monitor.sources import times
from monitor.sources.shapes import Scan, Span

BATCH_ROWS = 1 << 17
"""Rows of a batch at most: one column of them fits a processor's cache while it is sorted, or nearly."""
_BATCH_VALUES = 1 << 23
_OPTIONS = ds.ParquetFragmentScanOptions(pre_buffer=False)
"""Column chunks are read as they are decoded: held ready beside it, they would double the memory of wide files."""


def batch_rows(n_columns: int, n_rows: int | None = None) -> int:
    """How many rows to read at once: less where rows are wide, and even parts of a row group of ``n_rows``."""
    most = max(512, min(BATCH_ROWS, _BATCH_VALUES // max(1, n_columns)))
    if not n_rows:
        return most
    n_batches = -(-n_rows // most)
    return -(-n_rows // n_batches)


def parquet_format(scan: Scan, schema: pa.Schema) -> ds.ParquetFileFormat:
    """The format for one scan: text that is only counted stays dictionary-encoded, as the file has it."""
    compared = {span.time.column for span in (scan.span, scan.upto) if span is not None}
    compared |= set(scan.keys[0]) if scan.keys else set()
    compared |= set(scan.dedupe) | (set(scan.join.left) if scan.join else set())
    compared |= {scan.only[0]} if scan.only else set()
    counted = {read.column for read in scan.reads.values() if read.how == "text" and not read.joined}
    text = {name for name in counted - compared if name in schema.names and pa.types.is_string(schema.field(name).type)}
    return ds.ParquetFileFormat(dictionary_columns=text)


def stream(
    dataset: ds.Dataset, columns: dict[str, Any], condition: Any, *, spans: Sequence[Span] | None
) -> Iterator[pa.RecordBatch]:
    """The rows that pass ``condition``, file by file and row group by row group, in their order.

    Parameters
    ----------
    spans
        What ``condition`` says, where it is only about time: row groups that lie within are read unfiltered, which
        saves copying every column.  ``None``: it says more.
    """
    for fragment in dataset.get_fragments(filter=condition):
        for part, n_rows in _parts(fragment, condition, dataset.schema):
            covered = spans is not None and n_rows is not None and all(_covers(span, part) for span in spans)
            yield from part.to_batches(
                schema=dataset.schema,
                columns=columns,
                filter=None if covered else condition,
                batch_size=batch_rows(len(columns), n_rows),
                batch_readahead=1,
                fragment_readahead=1,
                fragment_scan_options=_OPTIONS if isinstance(part, ds.ParquetFileFragment) else None,
            )


def head(dataset: ds.Dataset, n_rows: int) -> pa.Table:
    """The first rows, decoding little more than these."""
    found: list[pa.RecordBatch] = []
    left = n_rows
    for fragment in dataset.get_fragments():
        for batch in _from_the_top(fragment, n_rows, dataset.schema):
            found.append(batch.slice(0, left))
            left -= len(found[-1])
            if left <= 0:
                return pa.Table.from_batches(found, schema=dataset.schema)
    return pa.Table.from_batches(found, schema=dataset.schema)


def _from_the_top(fragment: ds.Fragment, n_rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Batches of a file; of Parquet without the dataset's scanner, which reads ahead by whole row groups."""
    if not isinstance(fragment, ds.ParquetFileFragment) or not fragment.physical_schema.equals(schema):
        yield from fragment.to_batches(schema=schema, batch_size=n_rows, batch_readahead=0, fragment_readahead=0)
        return
    with pq.ParquetFile(fragment.path, filesystem=fragment.filesystem, pre_buffer=False, buffer_size=1 << 16) as file:
        for group in range(file.num_row_groups):
            yield from file.iter_batches(n_rows, row_groups=[group], use_threads=False)


def _parts(fragment: ds.Fragment, condition: Any, schema: pa.Schema) -> Iterator[tuple[ds.Fragment, int | None]]:
    if not isinstance(fragment, ds.ParquetFileFragment):
        yield fragment, None
        return
    for part in fragment.split_by_row_group(condition, schema):
        yield part, part.row_groups[0].num_rows


def _covers(span: Span, part: ds.ParquetFileFragment) -> bool:
    """Whether the statistics prove that every row has a time, and one within the span; in doubt, no."""
    low, high = times.bounds(span)
    group = part.metadata.row_group(part.row_groups[0].id)
    place = part.metadata.schema.to_arrow_schema().get_field_index(span.time.column)
    if place < 0 or group.num_columns != len(part.physical_schema):  # nested columns: places do not line up
        return False
    told = group.column(place).statistics
    if told is None or not told.has_min_max or told.null_count != 0:
        return False
    first, last = told.min, told.max
    if not all(isinstance(value, (int, float, date, datetime)) for value in (first, last)):
        return False
    try:
        return (low is None or bool(first >= low)) and (high is None or bool(last < high))
    except TypeError:
        return False
