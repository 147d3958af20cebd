"""Columns as drivers give them, made alike: the same value is the same float or string from every source."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|^[+-]?(inf|Infinity|nan|NaN|INF)$"
_WHOLE = re.compile(r"0|-?[1-9]\d*")
STRINGS = pa.dictionary(pa.int32(), pa.string())


def storage(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Give one plain array, without the driver's own types around it."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def to_float(values: pa.Array) -> pa.Array:  # noqa: PLR0911
    """Read numbers as float64; text that is no number becomes null, booleans 0 and 1; NaN stays NaN.

    Integers beyond 2^53 are rounded to the nearest float, as databases do in a cast to double precision.
    """
    values = storage(values)
    kind = values.type
    if pa.types.is_float64(kind):
        return values
    if pa.types.is_dictionary(kind):
        return to_float(values.cast(kind.value_type))
    if pa.types.is_boolean(kind):
        return values.cast(pa.int8()).cast(pa.float64())
    if pa.types.is_decimal(kind):
        return to_float(values.cast(pa.string()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        text = pc.utf8_trim_whitespace(values)
        good = pc.match_substring_regex(text, _NUMBER)
        return pc.if_else(good, text, pa.scalar(None, text.type)).cast(pa.float64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return values.cast(pa.float64(), safe=False)
    return pa.nulls(len(values), pa.float64())


def to_text(values: pa.Array) -> pa.Array:
    """Read categories as ``dictionary<int32, string>``: whole numbers without a fraction."""
    values = storage(values)
    kind = values.type
    if pa.types.is_dictionary(kind):
        return values.cast(STRINGS) if pa.types.is_string(kind.value_type) else to_text(values.cast(kind.value_type))
    if pa.types.is_boolean(kind):
        values = pc.if_else(values, "true", "false")
    elif pa.types.is_floating(kind):
        return _respelled(values, _spell)
    elif pa.types.is_null(kind):
        values = pa.nulls(len(values), pa.string())
    elif pa.types.is_integer(kind):
        coded = values.dictionary_encode()
        return pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string()))
    elif not pa.types.is_string(kind):
        values = pa.array([_plain(v) for v in values.to_pylist()], pa.string())
    return _valid(values.dictionary_encode())


def _respelled(values: pa.Array, spell: Callable[[Any], str | None]) -> pa.Array:
    """As :func:`to_text`, each distinct value spelled once; two may be spelled alike."""
    coded = values.dictionary_encode()
    spelled = pa.array([spell(value) for value in coded.dictionary.to_pylist()], pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(spelled.indices.take(coded.indices), spelled.dictionary)


def to_flags(values: pa.Array) -> pa.Array:
    """Spell 0 and 1, or real booleans, as the categories false and true."""
    values = storage(values)
    if pa.types.is_boolean(values.type):
        return to_text(values)
    if pa.types.is_string(values.type):
        words = {"0": "false", "1": "true", "0.0": "false", "1.0": "true", "f": "false", "t": "true"}
        coded = to_text(values)
        spelled = [None if v is None else words.get(v, v.casefold()) for v in coded.dictionary.to_pylist()]
        return to_text(pa.array(spelled, pa.string()).take(coded.indices))
    numbers = to_float(values)
    return to_text(pc.not_equal(numbers, 0.0))


def _valid(encoded: pa.DictionaryArray) -> pa.Array:
    """Repair text that is not UTF-8 (SQLite keeps any bytes); looked for among the distinct values only."""
    try:
        encoded.dictionary.validate(full=True)
    except pa.ArrowInvalid:
        raw = encoded.dictionary.cast(pa.binary(), safe=False).to_pylist()
        repaired = pa.array([None if v is None else v.decode("utf-8", "replace") for v in raw], pa.string())
        return pa.DictionaryArray.from_arrays(encoded.indices, repaired).cast(pa.string()).dictionary_encode()
    return encoded


def _spell(value: float | None) -> str | None:
    if value is None or value != value:  # noqa: PLR0124 - the cheap test for NaN
        return None
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _plain(value: Any) -> str | None:
    return None if value is None else str(value)


def to_truth(values: pa.Array, positive: Any) -> pa.Array:
    """Compare labels or decisions with the positive value: ``1``, ``True``, ``"1"``, ``"true"`` agree.

    A value that is missing stays null.
    """
    wanted, values = canonical(positive), storage(values)
    if pa.types.is_integer(values.type) and _WHOLE.fullmatch(wanted) and abs(int(wanted)) < 2**31:
        return pc.equal(values, pa.scalar(int(wanted)))
    encoded = to_text(values)
    flags = pa.array(
        [None if v is None else canonical(v) == wanted for v in encoded.dictionary.to_pylist()], pa.bool_()
    )
    return flags.take(encoded.indices) if len(flags) else pa.nulls(len(encoded), pa.bool_())


def to_classes(values: pa.Array) -> pa.Array:
    """Read classes as text: ``1``, ``1.0`` and ``"1"`` are one, as are ``True`` and ``"true"``; a blank is none."""
    encoded = to_text(values)
    spelled = pa.array([None if v is None else _class(v) for v in encoded.dictionary.to_pylist()], pa.string())
    return spelled.take(encoded.indices) if len(spelled) else pa.nulls(len(encoded), pa.string())


def _class(text: str) -> str | None:
    text = text.strip()
    if text.casefold() in ("true", "false"):
        return text.casefold()
    try:
        number = float(text)
    except ValueError:
        return text or None
    return _spell(number) if math.isfinite(number) else None


def canonical(value: Any) -> str:
    """Spell a label so that equal meanings are equal text."""
    if isinstance(value, bool):
        return "1" if value else "0"
    text = str(value).strip()
    if text.casefold() in ("true", "t"):
        return "1"
    if text.casefold() in ("false", "f"):
        return "0"
    try:
        number = float(text)
    except ValueError:
        return text
    return _spell(number) or text


def unpack(values: pa.Array) -> list[dict[str, Any]]:
    """Read JSON objects (text, structs or maps), nested keys one level down as ``outer.inner``; others give ``{}``."""
    return [flatten(v) for v in storage(values).to_pylist()]


def flatten(value: Any) -> dict[str, Any]:
    if isinstance(value, (str, bytes)):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    if isinstance(value, list) and all(isinstance(item, tuple) for item in value):
        value = dict(value)
    if not isinstance(value, dict):
        return {}
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            flat |= {f"{name}.{inner}": leaf for inner, leaf in item.items()}
        else:
            flat[name] = item
    return flat


def from_python(values: list[Any], kind: str) -> pa.Array:
    """Build a feature column out of loose Python values; what does not fit its kind is missing."""
    if kind == "numeric":
        return pa.array([_number(v) for v in values], pa.float64())
    return to_text(pa.array([_category(v) for v in values], pa.string()))


def _number(value: Any) -> float | None:
    try:
        return None if value is None or isinstance(value, (list, dict)) else float(value)
    except (ValueError, OverflowError):
        return None


def _category(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _spell(value)
    if isinstance(value, (list, dict)):
        return json.dumps(value, sort_keys=True)
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def any_column(values: list[Any]) -> pa.Array:
    """Build a column from rows of unknown types (generic drivers), falling back to text where they disagree."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):
        return pa.array([_plain(v) for v in values], pa.string())


def whole_text(values: pa.Array) -> pa.Array:
    """Spell keys and number-like categories as text, ``5.0`` as ``5``, whatever type the driver chose."""
    values = storage(values)
    if pa.types.is_string(values.type):
        numbers = pc.any(pc.ends_with(values, ".0")).as_py()
        return pc.replace_substring_regex(values, r"^(-?\d+)\.0$", r"\1") if numbers else values
    return values.cast(pa.string()) if pa.types.is_integer(values.type) else to_text(values).cast(pa.string())


def fit(value: Any, kind: pa.DataType) -> Any:
    """Spell a key value in the type of the column it is compared with; what does not fit matches nothing."""
    if value is None:
        return None
    try:
        if pa.types.is_integer(kind):
            return int(value)
        if pa.types.is_floating(kind):
            return float(value)
    except ValueError:
        return None
    return str(value) if pa.types.is_string(kind) else value
