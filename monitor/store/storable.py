"""One place where values become what both databases can keep, and give back alike.

SQLite turns NaN into NULL, ``np.int64`` into a blob and forgets time zones; PostgreSQL refuses NaN in JSON and NUL in
text. So every value passes through here first, and both databases then hold the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from sqlalchemy import JSON, DateTime, Double, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

_KEY_LENGTH = 200


def clean_text(text: str) -> str:
    """Make a text that both databases accept: NUL becomes ``␀``, a lone surrogate its escape (``\\udc80``)."""
    if "\x00" in text:
        text = text.replace("\x00", "␀")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def finite(value: object) -> float | None:
    """A finite float, or ``None`` for missing, NaN and infinity; minus zero becomes zero, as SQLite has only one."""
    if value is None or (isinstance(value, Decimal) and value.is_nan()):
        return None
    number = float(value)  # type: ignore[arg-type]
    return number + 0.0 if math.isfinite(number) else None


def why_not_finite(value: object) -> str | None:
    """The reason that stands in for a number that is none: ``nan``, ``infinite``, or ``None`` if it can be kept."""
    if value is None or math.isfinite(number := float(value)):  # type: ignore[arg-type]
        return None
    return "nan" if math.isnan(number) else "infinite"


def utc(value: datetime) -> datetime:
    """The same instant in UTC.

    Raises
    ------
    ValueError
        If the time is naive: which instant it means is not for the store to guess.
    """
    if value.tzinfo is None:
        raise ValueError(f"the store keeps aware times only, found {value.isoformat()}")
    return value.astimezone(UTC)


def format_time(value: datetime) -> str:
    """RFC 3339 in UTC with all six digits, so that texts sort as the instants do."""
    moment = utc(value)
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z"


@lru_cache(maxsize=4096)  # thousands of rows share the two times of their window
def parse_time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def to_storable(value: Any) -> Any:  # noqa: PLR0911 - one return for each kind of value reads best
    """Turn a value into plain JSON: no NaN, no numpy, no naive time, no text that a database would refuse.

    A number that is not finite becomes ``None``; what that means is for the caller to say beside it.

    Raises
    ------
    TypeError
        For what has no plain form (bytes, functions, connections …).
    ValueError
        For a naive time.
    """
    if isinstance(value, Enum):
        return to_storable(value.value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, (float, Decimal)):
        return finite(value)
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays; those who only read do without importing it
        return to_storable(value.tolist())
    return _storable_container(value)


def _storable_container(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {clean_text(str(to_storable(key))): to_storable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_storable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((to_storable(item) for item in value), key=repr)
    if isinstance(value, PurePath):
        return clean_text(str(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_storable(getattr(value, item.name)) for item in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be kept in the store")


def dump_json(value: Any) -> str:
    """JSON text of an already storable value; a NaN that slipped through is an error, not the word ``NaN``."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def short_key(*parts: str | None) -> str:
    """A key of bounded length for any names: themselves if short, else a readable start and a hash of the whole.

    A PostgreSQL index entry ends at about 2,700 bytes, and a column name in a file may have 10,000.
    """
    text = "\x1f".join("" if part is None else clean_text(part) for part in parts)
    if len(text.encode()) <= _KEY_LENGTH:
        return text
    return f"{text[:40]}…{hashlib.sha256(text.encode()).hexdigest()}"


class UtcTime(TypeDecorator[datetime]):
    """An instant: ``timestamptz`` in PostgreSQL, text of fixed width in SQLite; both order as the instants do."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return format_time(value) if dialect.name == "sqlite" else utc(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return parse_time(value) if isinstance(value, str) else utc(value)


class Clean(TypeDecorator[str]):
    """Text that has been through :func:`clean_text`; so are the values it is compared with."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else clean_text(str(value))


class Number(TypeDecorator[float]):
    """A double; what is not finite is kept as NULL."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:  # noqa: ARG002
        return finite(value)


class Document(TypeDecorator[Any]):
    """A JSON value, kept as the text that was written (PostgreSQL's ``jsonb`` would turn 1e23 into an integer)."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        return to_storable(value)
