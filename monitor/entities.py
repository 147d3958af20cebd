"""Rows of one customer are worth less than as many customers: how much less, from the entity key of the rows.

Entities are put into groups by their hash.  Groups share no entity, so how far their bin shares lie apart shows what
the rows of a window are worth, whatever the rows of one entity have in common (the method of random groups, Wolter,
"Introduction to Variance Estimation", 1985).  Nothing is kept for each entity, so memory does not grow with them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.change import History, Watched
from detectors.effective_size import MIN_WINDOWS, Entities, measure
from detectors.profiles import CategoricalSpec, Column, ColumnSpec, IntArray, NumericSpec
from monitor.counting import ENTITY, floats

GROUPS = 32
ENOUGH = 200_000
"""Rows that are looked at: beyond them every second entity is left out, and again."""
_LEVELS = 12
_MOST_BINS = 256
"""A column with more categories is not looked at."""


class Grouped:
    """A stream of record batches that counts, in passing, the bins of each column by group of entities."""

    def __init__(self, batches: Iterable[pa.RecordBatch], specs: Mapping[str, ColumnSpec]) -> None:
        self._batches = batches
        self._columns = {name: _Bins(spec) for name, spec in specs.items() if _n_bins(spec) <= _MOST_BINS}
        self._rows = np.zeros((_LEVELS, GROUPS), dtype=np.int64)
        self._level, self._unnamed = 0, 0

    @property
    def duplicates(self) -> int:
        return int(getattr(self._batches, "duplicates", 0))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            if ENTITY in batch.schema.names and batch.num_rows:
                self._look(batch)
            yield batch

    def _look(self, batch: pa.RecordBatch) -> None:
        hashes, self._unnamed = _hashes(batch.column(ENTITY), self._unnamed)
        place = _levels(hashes) * GROUPS + (hashes & np.uint64(GROUPS - 1)).astype(np.int64)
        chosen = np.flatnonzero(place >= self._level * GROUPS)
        place = place[chosen]
        self._rows += np.bincount(place, minlength=_LEVELS * GROUPS).reshape(_LEVELS, GROUPS)
        self._bound()
        taken = pa.array(chosen)
        for name, bins in self._columns.items():
            if name in batch.schema.names:
                bins.add(batch.column(name).take(taken), place)

    def state(self) -> bytes:
        """What was counted so far, for the :meth:`add` of one that saw other rows of the same window."""
        counts = [self._rows, *(bins.counts for bins in self._columns.values())]
        return bytes([self._level]) + zlib.compress(b"".join(part.tobytes() for part in counts), 1)

    def add(self, state: bytes) -> None:
        """Take in what another counted over the same columns, as :meth:`state` told it."""
        told = np.frombuffer(zlib.decompress(state[1:]), dtype=np.int64)
        at = 0
        for part in (self._rows, *(bins.counts for bins in self._columns.values())):
            np.add(part, told[at : at + part.size].reshape(part.shape), out=part)
            at += part.size
        self._level = max(self._level, state[0])
        self._bound()

    def _bound(self) -> None:
        while self._rows[self._level :].sum() > ENOUGH and self._level < _LEVELS - 1:
            self._level += 1

    def measure(self) -> dict[str, IntArray]:
        """Rows of each group of entities in the bins of each column, shape ``(groups, B)``; empty without a key."""
        groups = self._rows[self._level :].sum(axis=0) > 0
        if not groups.any():
            return {}
        return {name: bins.counts[self._level :].sum(axis=0)[groups] for name, bins in self._columns.items()}


class _Bins:
    """One column's rows by level, group and bin, in the order of :func:`detectors.statistic.bins_of`."""

    def __init__(self, spec: ColumnSpec) -> None:
        self._spec = spec
        self.counts = np.zeros((_LEVELS, GROUPS, _n_bins(spec)), dtype=np.int64)

    def add(self, values: pa.Array, place: npt.NDArray[np.int64]) -> None:
        spec = self._spec
        found = _numeric(spec, floats(values)) if isinstance(spec, NumericSpec) else _categorical(spec, values)
        size = self.counts.shape[2]
        self.counts += np.bincount(place * size + found, minlength=self.counts.size).reshape(self.counts.shape)


def _n_bins(spec: ColumnSpec) -> int:
    return len(spec.bins) if isinstance(spec, NumericSpec) else len(spec.categories) + 2


def _numeric(spec: NumericSpec, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    left = np.searchsorted(spec.edges, values)
    on = spec.edges[np.minimum(left, len(spec.edges) - 1)] == values
    found = np.searchsorted(spec.bins[1:-1], 2 * left + on, side="right")
    return np.where(np.isnan(values), len(spec.bins) - 1, found)


def _categorical(spec: CategoricalSpec, values: pa.Array) -> npt.NDArray[np.int64]:
    coded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    known = {name: place for place, name in enumerate(spec.categories)}
    unseen = len(spec.categories)
    places = [unseen + 1 if v is None else known.get(_text(v), unseen) for v in coded.dictionary.to_pylist()]
    codes = coded.indices.fill_null(len(places)).to_numpy(zero_copy_only=False)
    found: npt.NDArray[np.int64] = np.array([*places, unseen + 1], dtype=np.int64)[codes]
    return found


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _hashes(column: pa.Array, unnamed: int) -> tuple[npt.NDArray[np.uint64], int]:
    """A well-mixed number for each entity; rows without one are entities of their own, by running number."""
    coded = column.dictionary_encode()
    named = np.array([zlib.crc32(str(v).encode("utf-8", "surrogatepass")) for v in coded.dictionary.to_pylist()])
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    keys = np.append(named, 0).astype(np.uint64)[codes]
    without = np.flatnonzero(codes < 0)
    keys[without] = np.arange(unnamed, unnamed + len(without), dtype=np.uint64) + np.uint64(1 << 40)
    mixed = keys + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31)), unnamed + len(without)


def _levels(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Level 1 and above hold half of the entities, 2 and above a quarter, and so on."""
    rest = (hashes >> np.uint64(8)) | np.uint64(1 << (_LEVELS - 1))
    lowest = rest & (~rest + np.uint64(1))
    return np.log2(lowest.astype(np.float64)).astype(np.int64)


def effects(groups: Mapping[str, IntArray]) -> dict[str, float]:
    """How many rows are worth one, by column: what is kept of a baseline's own entities."""
    found = {name: measure(counts[:, :-1], entities=Entities()) for name, counts in groups.items()}
    return {name: round(known.effect, 4) for name, known in found.items() if known.can_tell}


def told_by(
    columns: Mapping[str, Column], groups: Mapping[str, IntArray], reference: Mapping[str, float]
) -> dict[str, Column]:
    """Columns with what their entities say, where too few windows show how far they wander.

    Parameters
    ----------
    groups
        As :meth:`Grouped.measure` of the window to be judged.
    reference
        As :func:`effects` of the baseline; where a column is absent, its rows are taken to be worth what the window's
        are.
    """
    here = effects(groups)

    def known(name: str, column: Column) -> Column:
        old = column.history if isinstance(column, Watched) else None
        if name not in groups or (old is not None and len(old) >= MIN_WINDOWS):
            return column
        ratio = reference[name] / here[name] if name in reference and name in here else 1.0
        history = History(groups[name], entities=Entities(ratio))
        if old is not None:
            history = replace(history, windows=old.windows, constant=old.constant)
        watched = column if isinstance(column, Watched) else Watched(column.name, column.spec, column.reference)
        return replace(watched, history=history)

    return {name: known(name, column) for name, column in columns.items()}
