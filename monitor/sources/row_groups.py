"""Files read one row group at a time: memory does not grow with files, and what statistics prove is not filtered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from monitor.memory import release
from monitor.sources import keys
from monitor.sources.batches import batch_rows
from monitor.sources.shapes import Extent, Scan

_SLAB = 500
_NARROW = 16
WIDE = 1000
"""With more columns than this a row group is read some columns at a time, and what was set free is given back."""
_HELD_VALUES = 1 << 25
Bounds = tuple[str, Any, Any]
"""A column, and between what its values lie: at or above the first, below the second; ``None`` is no bound."""
_OPTIONS = ds.ParquetFragmentScanOptions(pre_buffer=False)
"""Column chunks are read as they are decoded: held ready beside it, they would double the memory of wide files."""


def parquet_format(scan: Scan, schema: pa.Schema) -> ds.ParquetFileFormat:
    """The format for one scan: text that is only counted stays dictionary-encoded, as the file has it."""
    compared = {span.time.column for span in (scan.span, scan.upto) if span is not None}
    compared |= set(scan.keys[0]) if scan.keys else set()
    compared |= set(scan.dedupe) | (set(scan.join.left) if scan.join else set())
    compared |= {scan.only[0]} if scan.only else set()
    counted = {
        read.column
        for name, read in scan.reads.items()
        if read.how == "text" and not read.joined and not name.startswith(keys.PREFIX)
    }
    text = {name for name in counted - compared if name in schema.names and pa.types.is_string(schema.field(name).type)}
    return ds.ParquetFileFormat(dictionary_columns=text)


def stream(
    dataset: ds.Dataset, columns: Mapping[str, str], condition: Any, *, bounds: Sequence[Bounds] | None
) -> Iterator[pa.RecordBatch]:
    """The rows that pass ``condition``, file by file and row group by row group, in their order.

    Parameters
    ----------
    columns
        Under which name each column is given.
    bounds
        What ``condition`` says, where that is between what columns lie: row groups that lie within are read unfiltered,
        which saves copying every column.  ``None``: it says more.
    """
    for part in parts(dataset, condition):
        yield from rows_of(part, dataset.schema, columns, condition, bounds=bounds)


@dataclass(frozen=True)
class Part:
    """A row group, or a file that has none; ``n_rows`` is ``None`` where it does not say how many it has."""

    fragment: ds.Fragment
    n_rows: int | None

    def covers(self, bounds: Sequence[Bounds] | None) -> bool:
        """Whether statistics prove that every row lies within all bounds; in doubt, no."""
        return bounds is not None and self.n_rows is not None and all(_covers(each, self.fragment) for each in bounds)

    def extent(self, column: str) -> Extent | None:
        """How many values a column of whole numbers or times has, the least and the greatest, as statistics tell it."""
        told = _statistics(self.fragment, column) if self.n_rows is not None else None
        if told is None or not told.has_null_count:
            return None
        if not told.has_min_max:
            return (0, None, None) if told.null_count == self.n_rows else None
        return told.num_values, told.min, told.max


def parts(dataset: ds.Dataset, condition: Any) -> Iterator[Part]:
    """The row groups, file by file, in which rows may pass ``condition``."""
    for fragment in dataset.get_fragments(filter=condition):
        for part, n_rows in _parts(fragment, condition, dataset.schema):
            yield Part(part, n_rows)


def rows_of(
    part: Part, schema: pa.Schema, columns: Mapping[str, str], condition: Any, *, bounds: Sequence[Bounds] | None
) -> Iterator[pa.RecordBatch]:
    """The rows of one row group that pass ``condition``; see :func:`stream`."""
    fields = {name: ds.field(column) for name, column in columns.items()}
    fragment, n_rows = part.fragment, part.n_rows
    if n_rows is not None and len(columns) > WIDE and n_rows * len(columns) <= _HELD_VALUES:
        yield from _wide_rows(fragment, fields, condition, schema, n_rows=n_rows)
        release()
        return
    covered = part.covers(bounds)
    if covered and _is_plain(columns) and fragment.physical_schema.equals(schema):
        yield from _as_it_is(fragment, columns, n_rows=n_rows)
        return
    yield from fragment.to_batches(
        schema=schema,
        columns=fields,
        filter=None if covered else condition,
        batch_size=batch_rows(len(columns), n_rows),
        batch_readahead=1,
        fragment_readahead=1,
        fragment_scan_options=_OPTIONS if isinstance(fragment, ds.ParquetFileFragment) else None,
    )


def _is_plain(columns: Mapping[str, str]) -> bool:
    """Whether they are few, so that what the scanner costs shows, and none is named as a nested one would be."""
    return 0 < len(columns) <= _NARROW and not any("." in column for column in columns.values())


def _as_it_is(part: ds.Fragment, columns: Mapping[str, str], *, n_rows: int | None) -> Iterator[pa.RecordBatch]:
    """A row group of which every row is wanted, and nothing has to be cast: decoded without the dataset's scanner."""
    wanted = list(dict.fromkeys(columns.values()))
    with pq.ParquetFile(part.path, filesystem=part.filesystem, metadata=part.metadata, pre_buffer=False) as file:
        groups = [group.id for group in part.row_groups]
        for batch in file.iter_batches(batch_rows(len(columns), n_rows), row_groups=groups, columns=wanted):
            arrays = [batch.column(column) for column in columns.values()]
            yield pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _wide_rows(
    part: ds.Fragment, columns: dict[str, Any], condition: Any, schema: pa.Schema, *, n_rows: int
) -> Iterator[pa.RecordBatch]:
    """A row group of very many columns, decoded some columns at a time: the readers of all would be most of it."""
    names = list(columns)
    arrays: list[pa.ChunkedArray] = []
    for at in range(0, len(names), _SLAB):
        slab = {name: columns[name] for name in names[at : at + _SLAB]}
        arrays += part.to_table(schema=schema, columns=slab, filter=condition, fragment_scan_options=_OPTIONS).columns
    yield from pa.table(arrays, names=names).to_batches(max_chunksize=batch_rows(len(columns), n_rows))


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
    """The first rows of each row group; of Parquet without the dataset's scanner, which reads ahead by row groups."""
    if not isinstance(fragment, ds.ParquetFileFragment) or not fragment.physical_schema.equals(schema):
        yield from fragment.to_batches(schema=schema, batch_size=n_rows, batch_readahead=0, fragment_readahead=0)
        return
    with pq.ParquetFile(fragment.path, filesystem=fragment.filesystem, pre_buffer=False, buffer_size=1 << 16) as file:
        for group in range(file.num_row_groups):
            slabs = _slabs(schema.names)
            parts = [next(file.iter_batches(n_rows, row_groups=[group], columns=slab, use_threads=False), None)
                     for slab in slabs]  # fmt: skip
            found = [part for part in parts if part is not None]
            if len(found) == len(parts):
                arrays = [column for part in found for column in part.columns]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _slabs(names: list[str]) -> list[list[str] | None]:
    """Some columns at a time, since each takes a reader and a buffer of its own; a dot would mean a nested one."""
    if len(names) <= _SLAB or any("." in name for name in names):
        return [None]
    return [names[at : at + _SLAB] for at in range(0, len(names), _SLAB)]


def _parts(fragment: ds.Fragment, condition: Any, schema: pa.Schema) -> Iterator[tuple[ds.Fragment, int | None]]:
    if not isinstance(fragment, ds.ParquetFileFragment):
        yield fragment, None
        return
    for part in fragment.split_by_row_group(condition, schema):
        yield part, part.row_groups[0].num_rows


def _covers(bounds: Bounds, part: ds.ParquetFileFragment) -> bool:
    """Whether the statistics prove that every row has a value, and one within the bounds; in doubt, no."""
    name, low, high = bounds
    told = _statistics(part, name)
    if told is None or not told.has_min_max or told.null_count != 0:
        return False
    first, last = told.min, told.max
    if not all(isinstance(value, (int, float, date, datetime)) for value in (first, last)):
        return False
    try:
        return (low is None or bool(first >= low)) and (high is None or bool(last < high))
    except TypeError:
        return False


def _statistics(part: ds.ParquetFileFragment, name: str) -> Any:
    """What a row group says of a column; ``None`` where it says nothing, or not certainly of this one."""
    group = part.metadata.row_group(part.row_groups[0].id)
    place = part.metadata.schema.to_arrow_schema().get_field_index(name)
    if place < 0 or group.num_columns != len(part.physical_schema):  # nested columns: places do not line up
        return None
    return group.column(place).statistics
