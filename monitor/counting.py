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
from detectors.profiles import ColumnProfile, ColumnSpec, NumericSpec
from monitor.models import DECISION, SCORE

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


class _Column:
    """The counter of one column, fed with Arrow arrays."""

    def __init__(self, spec: ColumnSpec) -> None:
        numeric = isinstance(spec, NumericSpec)
        self._counter = NumericCounter(spec) if isinstance(spec, NumericSpec) else CategoricalCounter(spec)
        self.update = self._update_numeric if numeric else self._update_categorical
        self._dictionary: Any = None
        self._values: list[str] = []
        self._places: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def _update_numeric(self, column: Any) -> None:
        self._counter.update(floats(column))

    def _update_categorical(self, column: Any) -> None:
        """By dictionary codes: a text is looked at once for each dictionary, and dictionaries often stay the same."""
        counter = self._counter
        assert isinstance(counter, CategoricalCounter)  # noqa: S101 - chosen so above
        coded = _dictionary(column)
        if self._dictionary is None or not coded.dictionary.equals(self._dictionary):
            self._dictionary, self._values = coded.dictionary, _texts(coded.dictionary)
            self._places = counter.places(self._values)
        counts, missing = _code_counts(coded)
        counter.update_at(self._places, counts, self._values, missing=missing)

    def profile(self) -> ColumnProfile:
        return self._counter.profile()


class _Columns:
    """One counter for each column of a set of rows."""

    def __init__(self, specs: Mapping[str, ColumnSpec]) -> None:
        self.n_rows = 0
        self.counters = {name: _Column(spec) for name, spec in specs.items()}

    def update(self, batch: pa.RecordBatch, crew: Crew) -> None:
        self.n_rows += batch.num_rows
        work = [partial(counter.update, batch.column(name)) for name, counter in self.counters.items()]
        crew.share(work, values=batch.num_rows * len(work))

    def profiles(self) -> dict[str, ColumnProfile]:
        """What each has counted; the counters end with it, one by one, so that both are never held in full."""
        return {name: self.counters.pop(name).profile() for name in list(self.counters)}


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
    whole = _Columns(specs)
    split = {column: _Split(column, values, specs) for column, values in (segments or {}).items()}
    seen = WindowCounts()
    with Crew(threads) as crew:
        for batch in batches:
            whole.update(batch, crew)
            for part in split.values():
                part.update(batch, crew)
            _note_times(seen, batch)
            _note_versions(seen, batch)
    seen.n_rows = whole.n_rows
    seen.columns = whole.profiles()
    seen.segments = {name: counted for part in split.values() for name, counted in part.profiles()}
    seen.duplicates = int(getattr(batches, "duplicates", 0))
    return seen


class _Split:
    """The values of one segment column, each with counters of its own; the values are frozen, so order is moot."""

    def __init__(self, column: str, values: Sequence[str], specs: Mapping[str, ColumnSpec]) -> None:
        self.column, self.known, self.specs = column, frozenset(values), specs
        self.parts: dict[str, _Columns] = {}

    def update(self, batch: pa.RecordBatch, crew: Crew) -> None:
        counted = batch.select(list(self.specs))
        for value, rows in split_rows(batch, self.column, self.known):
            if value not in self.parts:
                self.parts[value] = _Columns(self.specs)
            self.parts[value].update(counted.take(pa.array(rows)), crew)

    def profiles(self) -> Iterator[tuple[str, dict[str, ColumnProfile]]]:
        for value, part in self.parts.items():
            yield f"{self.column}={value}", part.profiles()


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
        mask = indices == code
        if _text(value) not in known:
            others |= mask
        elif mask.any():
            yield _text(value), np.flatnonzero(mask)
    if others.any():
        yield OTHER, np.flatnonzero(others)


def score_rows(batch: pa.RecordBatch) -> tuple[npt.NDArray[np.float64], ...]:
    """Scores, decisions and labels as float64; NaN where unknown."""
    names = batch.schema.names
    empty = np.full(batch.num_rows, np.nan)
    scores = floats(batch.column(SCORE)) if SCORE in names else empty
    decisions = floats(batch.column(DECISION)) if DECISION in names else empty
    return scores, decisions, floats(batch.column(LABEL))


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
    indices = coded.indices
    if coded.null_count:
        indices = pc.fill_null(indices.cast(pa.int64()) if indices.type.bit_width < 32 else indices, size)
    counts = np.bincount(indices.to_numpy(), minlength=size + 1).astype(np.int64, copy=False)
    return counts[:size], int(counts[size])


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
