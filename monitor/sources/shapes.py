"""What the readers pass among themselves: relations, columns, spans of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from detectors.profiles import NumericProfile, NumericSpec

Kind = Literal["numeric", "bool", "text", "time", "date", "json", "other"]
TIME = "__time__"
LABEL = "__label__"
LABEL_TIME = "__label_time__"
NEVER = "__never_labelled__"
CLASS_SCORES = "__p__"
"""What the columns with the predicted probability of a class begin with; the class follows."""
VERSION = "__version__"
ENTITY = "__entity__"
BAD_TIMES = "__bad_times__"
"""The key under which a part of the rows tells how many times did not read."""

Extent = tuple[int, Any, Any]
"""How many values, the least and the greatest; the latter are ``None`` where there is none."""

Work = Callable[[Iterable[pa.RecordBatch]], Iterator[tuple[str, bytes]]]
"""What is done to a part of the rows where they lie, leaving a few keyed blobs; it can be pickled."""


@dataclass(frozen=True)
class Relation:
    """A table by name, or a query in which ``:start`` and ``:end`` may stand for the window."""

    table: str | None = None
    query: str | None = None
    where: str | None = None

    @property
    def name(self) -> str:
        return f"table {self.table!r}" if self.table is not None else "the query"


@dataclass(frozen=True)
class ColumnInfo:
    """One column as the database declares it, with what a sample of its rows showed.

    ``n_sampled`` counts non-null sampled values and ``n_distinct`` the distinct ones among them; ``values`` holds some
    of them for guessing a time format or the shape of JSON; ``whole`` says that all sampled numbers were whole.
    """

    name: str
    type: str
    kind: Kind
    unique: bool = False
    n_sampled: int = 0
    n_distinct: int = 0
    whole: bool = False
    values: tuple[Any, ...] = field(default=(), repr=False)

    @property
    def is_integer(self) -> bool:
        """Whether the type is one of whole numbers; SQLite's columns may hold others all the same."""
        return self.kind == "numeric" and "INT" in self.type.upper()


Form = Literal["aware", "naive", "date", "epoch", "iso"]


@dataclass(frozen=True)
class TimeForm:
    """How a column tells the time. ``scale`` is ticks a second (epoch); ``zone`` is that of naive values.

    ``separator`` and ``uniform`` are of ISO text: with a uniform spelling, text order is time order.
    """

    column: str
    form: Form
    zone: str = "UTC"
    scale: int = 1
    whole: bool = True
    separator: str = " "
    uniform: bool = True


@dataclass(frozen=True)
class Span:
    """Half-open ``[start, end)`` over a time column; an absent bound is open."""

    time: TimeForm
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True)
class Read:
    """One output column: read `column` of the relation (or of the joined one) as numbers, text, time or as it is.

    ``whole`` is text where a whole number need not be spelled.
    """

    column: str
    how: Literal["number", "whole", "text", "bool", "time", "raw"]
    info: ColumnInfo
    joined: bool = False
    time: TimeForm | None = None


@dataclass(frozen=True)
class Join:
    """A second relation that adds columns by key; at most one of its rows counts for a key."""

    relation: Relation
    left: tuple[str, ...]
    right: tuple[str, ...]
    newest_by: str | None = None
    dedupe: bool = False


@dataclass(frozen=True)
class Scan:
    """One streaming read.

    ``keys`` restricts to rows whose key columns equal one of the tuples; ``dedupe`` keeps the last row of each key;
    ``among`` keeps only rows whose key occurs in another scan's rows (labels of the window's predictions); ``only``
    keeps rows whose column has one of the values; ``between`` those whose whole number lies between two, or is one.
    """

    relation: Relation
    reads: dict[str, Read]
    span: Span | None = None
    upto: Span | None = None
    keys: tuple[tuple[str, ...], Sequence[tuple[Any, ...]]] | None = None
    dedupe: tuple[str, ...] = ()
    join: Join | None = None
    among: tuple[tuple[str, ...], Scan, tuple[str, ...]] | None = None
    window: tuple[datetime, datetime] | None = None
    limit: int | None = None
    only: tuple[str, tuple[Any, ...]] | None = None
    between: tuple[str, int, int] | None = None


class Scanner(Protocol):
    """What a kind of storage must be able to do; all that is said about models is built on these few."""

    where: str
    pushes_down: bool
    exact_keys: bool
    """Whether keys are the same here only where their texts are, upper and lower case told apart."""

    @property
    def spread(self) -> Callable[[Scan, Work], Iterator[tuple[str, bytes]]] | None:
        """Do a work to the rows of a scan where they lie, part by part; ``None`` where rows have to come here."""

    def describe(self, relation: Relation, *, window: tuple[datetime, datetime] | None = None) -> list[ColumnInfo]: ...

    def scan(self, scan: Scan) -> Iterator[pa.RecordBatch]: ...

    def aggregate(self, scan: Scan, *, time: str) -> Extent:
        """How many rows have a value in a column, and the least and the greatest."""

    def aggregate_each(self, scan: Scan, spans: Sequence[Span], *, time: str) -> list[Extent]:
        """The same for the rows within each of some spans, which are of one column, in order and apart."""

    def duplicates(self, scan: Scan, key: Sequence[str]) -> int: ...

    def tables(self) -> list[str]:
        """Names of tables and views that can be read by their name alone, in order; empty where that is not cheap."""

    def is_small(self, relation: Relation, n_rows: int) -> bool:
        """Whether a relation has no more rows than this; no, where it is not cheap to say."""

    def count_numbers(self, scan: Scan, specs: Mapping[str, NumericSpec]) -> dict[str, NumericProfile]: ...

    def probe(self) -> list[str]: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Pairs:
    """The same requests on both sides, row by row: `offline` is all-null where ``matched`` is false."""

    online: pa.Table
    offline: pa.Table
    matched: npt.NDArray[np.bool_]
    n_window: int
    n_sampled: int
    duplicate_offline: int

    @property
    def n_matched(self) -> int:
        return int(self.matched.sum())
