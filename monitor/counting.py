"""Arrow record batches in, profiles out: the one pass that every source goes through."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from detectors.edges import CategoryBuilder, EdgeBuilder
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.profiles import CategoricalSpec, ColumnProfile, ColumnSpec, NumericSpec
from detectors.segments import (
    SegmentedCategoricalCounter,
    SegmentedNumericCounter,
    Segments,
    cross_counts,
    in_segments,
)

TIME = "__time__"
VERSION = "__version__"
LABEL = "__label__"
ENTITY = "__entity__"
OTHER = "(other)"


@dataclass
class WindowCounts:
    """What one pass over a window leaves behind.

    ``segments`` maps ``"column=value"`` to the profiles of its rows; values beyond ``max_segments`` are together in
    ``"column=(other)"``.  ``newest`` and ``oldest`` are event times.
    """

    n_rows: int = 0
    columns: dict[str, ColumnProfile] = field(default_factory=dict)
    segments: dict[str, dict[str, ColumnProfile]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    oldest: datetime | None = None
    newest: datetime | None = None
    duplicates: int = 0


class Crew:
    """Threads that count columns side by side: NumPy lets go of the interpreter while it sorts and searches.

    Threads are started at the first batch that is worth them, and end with the ``with`` block.
    """

    _WORTH = 1 << 18
    """Values in a batch from which on it is shared out; below, handing over costs more than it saves."""

    def __init__(self, size: int | None = None) -> None:
        self._helpers = (size or min(_MOST, _processors())) - 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def share(self, work: Iterable[Callable[[], None]], *, values: int) -> None:
        """Do all of ``work``, which together goes through this many values, and raise what it raises."""
        waiting = list(work)
        helpers = min(self._helpers, len(waiting) - 1) if values >= self._WORTH else 0
        if helpers > 0 and self._pool is None:
            self._pool = ThreadPoolExecutor(self._helpers, thread_name_prefix="count")
        done = [self._pool.submit(_work_off, waiting) for _ in range(helpers)] if self._pool is not None else []
        try:
            _work_off(waiting)
        finally:
            waiting.clear()
            for part in done:
                part.result()


_MOST = 4


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _work_off(waiting: list[Callable[[], None]]) -> None:
    """Take and do what is left, until others have taken the last."""
    while True:
        try:
            one = waiting.pop()
        except IndexError:
            return
        one()


class _Numeric:
    """The counters of one numeric column, all rows and by each segment column, fed with Arrow arrays."""

    def __init__(self, spec: NumericSpec, n_splits: int) -> None:
        self._counter = NumericCounter(spec)
        self._splits = [SegmentedNumericCounter(spec) for _ in range(n_splits)]

    def update(self, column: Any, segments: Sequence[Segments]) -> None:
        values = floats(column)
        if not segments:
            self._counter.update(values)
            return
        placed = self._counter.update_rows(values)
        for split, by in zip(self._splits, segments, strict=True):
            split.update(values, placed, by)

    def profiles(self) -> tuple[ColumnProfile, list[list[ColumnProfile]]]:
        return self._counter.profile(), [list(split.profiles()) for split in self._splits]


class _Categorical:
    """As :class:`_Numeric`, for a categorical column.

    By dictionary codes: a text is looked at once for each dictionary, and dictionaries often stay the same.
    """

    def __init__(self, spec: CategoricalSpec, n_splits: int) -> None:
        self._counter = CategoricalCounter(spec)
        self._splits = [SegmentedCategoricalCounter(spec) for _ in range(n_splits)]
        self._dictionary: Any = None
        self._values: list[str] = []
        self._places: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def update(self, column: Any, segments: Sequence[Segments]) -> None:
        coded = _dictionary(column)
        if self._dictionary is None or not coded.dictionary.equals(self._dictionary):
            self._dictionary, self._values = coded.dictionary, _texts(coded.dictionary)
            self._places = self._counter.places(self._values)
        codes, size = _codes(coded), len(self._values) + 1
        counts = None if segments else np.bincount(codes, minlength=size)
        for split, by in zip(self._splits, segments, strict=True):
            table = cross_counts(codes, size, by)
            split.update(self._places, table, self._values)
            counts = table.sum(axis=0) if counts is None else counts
        assert counts is not None  # noqa: S101 - there are segments, or there are none
        self._counter.update_at(self._places, counts[:-1], self._values, missing=int(counts[-1]))

    def profiles(self) -> tuple[ColumnProfile, list[list[ColumnProfile]]]:
        return self._counter.profile(), [list(split.profiles()) for split in self._splits]


class _Columns:
    """The counters of each column."""

    def __init__(self, specs: Mapping[str, ColumnSpec], *, n_splits: int = 0) -> None:
        self.n_rows = 0
        self.counters: dict[str, _Numeric | _Categorical] = {
            name: _Numeric(spec, n_splits) if isinstance(spec, NumericSpec) else _Categorical(spec, n_splits)
            for name, spec in specs.items()
        }

    def update(self, batch: pa.RecordBatch, crew: Crew, segments: Sequence[Segments] = ()) -> None:
        self.n_rows += batch.num_rows
        work = [partial(counter.update, batch.column(name), segments) for name, counter in self.counters.items()]
        crew.share(work, values=batch.num_rows * len(work))

    def profiles(self) -> Iterator[tuple[str, ColumnProfile, list[list[ColumnProfile]]]]:
        """What each has counted, of all rows and of each segment of each segment column.

        The counters end with it, one by one, so that both are never held in full.
        """
        for name in list(self.counters):
            yield name, *self.counters.pop(name).profiles()


def count(
    batches: Iterable[pa.RecordBatch],
    specs: Mapping[str, ColumnSpec],
    *,
    segments: Mapping[str, Sequence[str]] | None = None,
    threads: int | None = None,
) -> WindowCounts:
    """Count a stream of record batches over frozen edges, all rows and each segment value, in one pass.

    ``segments`` maps a column to the values that have rows of their own; the rest are together in ``(other)``.
    ``threads`` count columns side by side, at most; by default as many as there are processors, up to four.
    """
    splits = [_Split(column, values) for column, values in (segments or {}).items()]
    columns = _Columns(specs, n_splits=len(splits))
    seen = WindowCounts()
    with Crew(threads) as crew:
        for batch in batches:
            columns.update(batch, crew, [split.of(batch) for split in splits])
            _note_times(seen, batch)
            _note_versions(seen, batch)
    seen.n_rows = columns.n_rows
    seen.segments = {name: {} for split in splits for name in split.names()}
    for column, whole, parts in columns.profiles():
        seen.columns[column] = whole
        for split, profiles in zip(splits, parts, strict=True):
            for name, profile in zip(split.names(), profiles, strict=True):
                seen.segments[name][column] = profile
    seen.duplicates = int(getattr(batches, "duplicates", 0))
    return seen


class _Split:
    """The values of one segment column, numbered from 1 as they come; they are frozen, so that order is moot."""

    def __init__(self, column: str, values: Sequence[str]) -> None:
        self._column, self._known = column, frozenset(values)
        self._places: dict[str, int] = {}

    def of(self, batch: pa.RecordBatch) -> Segments:
        """The segment of each row; 0 where the value is missing."""
        coded = _dictionary(batch.column(self._column))
        codes, size = _codes(coded), len(coded.dictionary)
        places = np.zeros(size + 1, dtype=np.int64)
        for code in np.flatnonzero(np.bincount(codes, minlength=size + 1)[:size]).tolist():
            value = coded.dictionary[code].as_py()
            if value is not None:
                name = _text(value) if _text(value) in self._known else OTHER
                places[code] = self._places.setdefault(name, len(self._places) + 1)
        return in_segments(places.take(codes), len(self._places))

    def names(self) -> list[str]:
        return [f"{self._column}={value}" for value in self._places]


MOST_DISTINCT = 20_000
"""Up to this many distinct reference values each becomes an edge, where there are not more than 500 columns."""
_FEWEST_DISTINCT = 1_000
_HELD_VALUES = 10_000_000


def learn_specs(
    batches: Iterable[pa.RecordBatch],
    kinds: Mapping[str, str],
    *,
    bins: int,
    max_categories: int,
    decision_edges: Mapping[str, Sequence[float]] | None = None,
) -> tuple[dict[str, ColumnSpec], int]:
    """Look at the reference rows once and freeze where the cells of each column lie.

    Parameters
    ----------
    kinds
        Column name → ``"numeric"`` or ``"categorical"``.
    decision_edges
        Values that must be edges whatever the data, such as the decision threshold on the score.

    Returns
    -------
    The spec of each column that had a value at all, and the number of rows seen.
    """
    found = builders(kinds, bins=bins, max_categories=max_categories, decision_edges=decision_edges)
    n_rows = learn(batches, found)
    return specs_of(found), n_rows


Builders = dict[str, EdgeBuilder | CategoryBuilder]


def builders(
    kinds: Mapping[str, str],
    *,
    bins: int,
    max_categories: int,
    decision_edges: Mapping[str, Sequence[float]] | None = None,
) -> Builders:
    """What learns the cells of each column; see :func:`learn_specs`."""
    n_numeric = sum(kind == "numeric" for kind in kinds.values())
    max_distinct = max(_FEWEST_DISTINCT, min(MOST_DISTINCT, _HELD_VALUES // max(1, n_numeric)))
    return {
        name: EdgeBuilder(
            bins=bins, max_distinct=max_distinct, decision_edges=tuple((decision_edges or {}).get(name, ()))
        )
        if kind == "numeric"
        else CategoryBuilder(max_categories)
        for name, kind in kinds.items()
    }


def learn(batches: Iterable[pa.RecordBatch], found: Builders, *, threads: int | None = None) -> int:
    """Show the builders the reference rows, and count these."""
    n_rows = 0
    with Crew(threads) as crew:
        for batch in batches:
            n_rows += batch.num_rows
            work = [partial(_learn, builder, batch.column(name)) for name, builder in found.items()]
            crew.share(work, values=batch.num_rows * len(work))
    return n_rows


def specs_of(found: Builders) -> dict[str, ColumnSpec]:
    """The spec of each column that had a value at all."""
    specs = {name: builder.spec() for name, builder in found.items()}
    return {name: spec for name, spec in specs.items() if spec is not None}


def _learn(builder: EdgeBuilder | CategoryBuilder, column: Any) -> None:
    if isinstance(builder, EdgeBuilder):
        builder.update(floats(column))
    else:
        values, counts, _ = categories(column)
        builder.update(values, counts)


def split_rows(
    batch: pa.RecordBatch, column: str, known: frozenset[str]
) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Row numbers of each known value of a column, then those of all others together (missing values are left out)."""
    coded = _dictionary(batch.column(column))
    indices = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
    others = np.zeros(len(indices), dtype=bool)
    for code, value in enumerate(coded.dictionary.to_pylist()):
        if value is None:
            continue
        mask = indices == code
        if _text(value) not in known:
            others |= mask
        elif mask.any():
            yield _text(value), np.flatnonzero(mask)
    if others.any():
        yield OTHER, np.flatnonzero(others)


def states(column: Any) -> npt.NDArray[np.int8]:
    """What is true or false as 0 (no), 1 (yes) and 2 (not known); of numbers, any but 0 is yes."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not pa.types.is_boolean(column.type):
        numbers = floats(column)
        # NaN is not 0, and one more.
        return np.asarray((numbers != 0).view(np.int8) + np.isnan(numbers).view(np.int8), dtype=np.int8)
    found = _bits(column.buffers()[1], column.offset, len(column))
    known = _known(column)
    if known is not None:
        found &= known.view(np.uint8)
        found |= (~known).view(np.uint8) << 1
    return found.view(np.int8)


def micros(column: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
    """Times in microseconds since 1970, and where there are any; ``None``: everywhere."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if column.type != _UTC_US:
        column = column.cast(_UTC_US)
    ticks = np.frombuffer(column.buffers()[1], np.int64, len(column), 8 * column.offset)
    return ticks, _known(column)


_UTC_US = pa.timestamp("us", tz="UTC")


def _known(column: pa.Array) -> npt.NDArray[np.bool_] | None:
    if not column.null_count:
        return None
    there = column.buffers()[0]
    if there is None:  # a column of nothing
        return np.zeros(len(column), bool)
    return _bits(there, column.offset, len(column)).view(bool)


def _bits(packed: pa.Buffer, start: int, n: int) -> npt.NDArray[np.uint8]:
    """Bits of a buffer as bytes of 0 and 1, in an array of their own."""
    first = start // 8
    some = np.frombuffer(packed, np.uint8)[first : (start + n + 7) // 8]
    return np.unpackbits(some, bitorder="little")[start - 8 * first :][:n]


def floats(column: Any) -> npt.NDArray[np.float64]:
    """A float64 array with NaN for missing; no copy where the column is float64 without nulls."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if not pa.types.is_float64(column.type):
        column = column.cast(pa.float64(), safe=False)
    if column.null_count:
        column = pc.fill_null(column, float("nan"))
    values: npt.NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
    return values


def categories(column: Any) -> tuple[list[str], npt.NDArray[np.int64], int]:
    """Distinct values as text, how often each occurs, and how many rows are missing."""
    coded = _dictionary(column)
    counts, missing = _code_counts(coded)
    return _texts(coded.dictionary), counts, missing


def _code_counts(coded: pa.DictionaryArray) -> tuple[npt.NDArray[np.int64], int]:
    """Rows of each code, and rows without one; a null in the dictionary itself is missing as well."""
    size = len(coded.dictionary)
    counts = np.bincount(_codes(coded), minlength=size + 1).astype(np.int64, copy=False)
    return counts[:size], int(counts[size])


def _codes(coded: pa.DictionaryArray) -> npt.NDArray[np.integer[Any]]:
    """The code of each row; as many as there are values where there is none."""
    indices = coded.indices
    if coded.null_count:
        wide = indices.cast(pa.int64()) if indices.type.bit_width < 32 else indices
        indices = pc.fill_null(wide, len(coded.dictionary))
    codes: npt.NDArray[np.integer[Any]] = indices.to_numpy()
    return codes


def _texts(dictionary: pa.Array) -> list[str]:
    values = dictionary.to_pylist()
    return values if pa.types.is_string(dictionary.type) else [_text(value) for value in values]


def _dictionary(column: Any) -> pa.DictionaryArray:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _note_times(seen: WindowCounts, batch: pa.RecordBatch) -> None:
    if TIME not in batch.schema.names:
        return
    bounds = pc.min_max(batch.column(TIME)).as_py()
    low, high = _aware(bounds["min"]), _aware(bounds["max"])
    if low is not None and (seen.oldest is None or low < seen.oldest):
        seen.oldest = low
    if high is not None and (seen.newest is None or high > seen.newest):
        seen.newest = high


def _note_versions(seen: WindowCounts, batch: pa.RecordBatch) -> None:
    if VERSION not in batch.schema.names:
        return
    values, counts, _ = categories(batch.column(VERSION))
    for value, n in zip(values, counts.tolist(), strict=True):
        seen.versions[value] = seen.versions.get(value, 0) + n


def _aware(value: datetime | None) -> datetime | None:
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value
