"""What a sample of a column shows, where the storage gives Arrow arrays."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from monitor.sources import normal
from monitor.sources.shapes import ColumnInfo, Kind


def column_info(column: pa.ChunkedArray, name: str, *, n_kept: int = 500) -> ColumnInfo:
    """Describe a column by its type and its first rows, of which ``n_kept`` values stay at hand."""
    plain = normal.storage(column)
    kind = _kind(plain.type)
    present = plain.drop_null()
    some = present[:n_kept]
    kept = some.to_numpy().tolist() if pa.types.is_floating(plain.type) else some.to_pylist()
    if kind == "numeric":
        kept = [v if isinstance(v, int) else float(v) for v in kept]
    return ColumnInfo(
        name,
        _type(plain.type),
        kind,
        n_sampled=len(present),
        n_distinct=_n_distinct(present),
        whole=kind == "numeric" and bool(len(present)) and _all_whole(present),
        values=tuple(kept),
    )


def _n_distinct(present: pa.Array) -> int:
    try:
        return len(present.unique())
    except pa.ArrowNotImplementedError:  # structs, lists
        return len({str(v) for v in present.to_pylist()})


def _all_whole(numbers: pa.Array) -> bool:
    if pa.types.is_integer(numbers.type):
        return True
    plain = normal.to_float(numbers).to_numpy(zero_copy_only=False)
    return bool(np.all(np.isfinite(plain) & (np.abs(plain) < 2**63) & (np.rint(plain) == plain)))


def _type(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "timestamp with tz" if kind.tz else "timestamp"
    return "date" if pa.types.is_date(kind) else str(kind)


def _kind(kind: pa.DataType) -> Kind:  # noqa: PLR0911
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return "numeric"
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_timestamp(kind):
        return "time"
    if pa.types.is_date(kind):
        return "date"
    return "json" if pa.types.is_struct(kind) or pa.types.is_map(kind) else "other"
