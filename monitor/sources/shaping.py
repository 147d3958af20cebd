"""Raw rows as a storage gives them, made into the columns that are counted; it can be sent to a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from monitor.models import DECISION, SCORE
from monitor.sources import normal, times
from monitor.sources.shapes import BAD_TIMES, ENTITY, TIME, VERSION, Span, Work


@dataclass(frozen=True)
class Shape:
    """What to make of each raw batch.

    Parameters
    ----------
    features
        Name → ``numeric`` or ``categorical``.
    segments
        Further columns, read as categories.
    stored
        Name → the kind that the storage has the column in (``bool`` is spelled ``true`` and ``false``).
    decision
        The same of the decision.
    threshold, positive
        What makes a decision of a score, and which decision counts as yes.
    classes
        Whether the decision is one of several classes, and not yes or no.
    span
        Rows outside are dropped, those whose time does not read among them; ``None``: rows without a time.
    """

    features: Mapping[str, str]
    segments: tuple[str, ...] = ()
    stored: Mapping[str, str] = field(default_factory=dict)
    decision: str = "text"
    threshold: float | None = None
    positive: Any = None
    classes: bool = False
    span: Span | None = None

    def rows(self, raw: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        """The shaped rows of a raw batch, cut exactly to the span, and how many times did not read."""
        kept, moments, bad_times = self.cut(raw)
        return self.shaped(kept, moments), bad_times

    def cut(self, raw: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Array | None, int]:
        """The raw rows within the span, the times of these, and how many times did not read."""
        if self.span is None:
            return raw, None, 0
        moments = times.to_utc(column_of(raw, TIME), self.span.time)
        bad_times = moments.null_count
        keep = times.inside(moments, self.span)
        if not pc.all(keep, min_count=0).as_py():
            raw, moments = raw.filter(keep), moments.filter(keep)
        return raw, moments, bad_times

    def shaped(self, raw: pa.RecordBatch, moments: pa.Array | None) -> pa.RecordBatch:
        """The columns that are counted, of raw rows within the span and their times."""
        arrays: dict[str, pa.Array] = {} if moments is None else {TIME: moments}
        here = frozenset(raw.schema.names)
        loose = normal.unpack(column_of(raw, "__json__")) if "__json__" in here else None
        for name in dict.fromkeys([*self.features, *self.segments]):
            kind = self.features.get(name, "categorical")
            if name in here:
                arrays[name] = as_feature(column_of(raw, name), kind, self.stored.get(name, "text"))
            elif loose is not None:
                arrays[name] = normal.from_python([row.get(name) for row in loose], kind)
        arrays |= self._outcome(raw, here) | _entities(raw)
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

    def _outcome(self, raw: pa.RecordBatch, here: frozenset[str]) -> dict[str, pa.Array]:
        """Score, decision and version, as far as they are there."""
        arrays: dict[str, pa.Array] = {}
        if SCORE in here:
            arrays[SCORE] = normal.to_float(column_of(raw, SCORE))
        if DECISION in here:
            values = column_of(raw, DECISION)
            spelled = normal.to_flags(values) if self.decision == "bool" else values
            arrays[DECISION] = normal.to_classes(spelled) if self.classes else normal.to_truth(spelled, self.positive)
        elif SCORE in here and self.threshold is not None:
            decided, absent = pc.greater_equal(arrays[SCORE], self.threshold), pc.is_nan(arrays[SCORE])
            arrays[DECISION] = pc.if_else(absent, None, decided) if pc.any(absent).as_py() else decided
        if VERSION in here:
            arrays[VERSION] = normal.to_text(column_of(raw, VERSION)).cast(pa.string())
        return arrays


@dataclass(frozen=True)
class ShapedWork:
    """``work`` on raw batches: each is shaped first, and the times that did not read are told at the end."""

    shape: Shape
    work: Work

    def __call__(self, raws: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, bytes]]:
        bad_times = 0

        def shaped() -> Iterator[pa.RecordBatch]:
            nonlocal bad_times
            for raw in raws:
                batch, bad = self.shape.rows(raw)
                bad_times += bad
                yield batch

        yield from self.work(shaped())
        if bad_times:
            yield BAD_TIMES, bad_times.to_bytes(8, "little")


def _entities(raw: pa.RecordBatch) -> dict[str, pa.Array]:
    """The entity of each row as one text; null where a part of it is."""
    parts = [column_of(raw, name) for name in raw.schema.names if name.startswith(ENTITY)]
    spelled = [p.cast(pa.string()) if pa.types.is_integer(p.type) else normal.whole_text(p) for p in parts]
    return {ENTITY: pc.binary_join_element_wise(*spelled, "\x1f")} if parts else {}


def column_of(batch: pa.RecordBatch, name: str) -> pa.Array:
    return normal.storage(batch.column(name))


def as_feature(values: pa.Array, kind: str, stored: str) -> pa.Array:
    """One feature: numbers as float64, the rest as dictionary codes."""
    if kind == "numeric":
        return normal.to_float(values)
    if stored == "bool":
        return normal.to_flags(values)
    return normal.to_text(values if stored == "text" else normal.whole_text(values))
