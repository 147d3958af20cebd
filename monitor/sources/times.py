"""Event times in whatever form a log keeps them, read as UTC, and window bounds written in that form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from monitor.config import TimeColumn
from monitor.sources.errors import PermanentSourceError
from monitor.sources.shapes import ColumnInfo, Span, TimeForm

UTC = ZoneInfo("UTC")
UTC_US = pa.timestamp("us", tz="UTC")
_SCALES = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}
_ISO = re.compile(r"^\d{4}-\d{2}-\d{2}(?P<sep>[T ])?.*?(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)?$")
_OFFSET_TEXT = r"^\s*\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|z|[+-]\d{2}(:?\d{2})?)\s*$"
_PLAIN_TEXT = r"^\s*\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?)?\s*$"
_LIMIT_US = 253_402_300_800_000_000  # the year 10000: beyond it, neither Python nor a window has a name for a moment


def time_form(info: ColumnInfo, spec: TimeColumn, *, zone: str, where: str) -> TimeForm:
    """Decide how a column tells the time, from its type, the config and a sample of its values.

    Raises
    ------
    PermanentSourceError
        When the column holds nothing that reads as a time.
    """
    zone = spec.zone or zone
    numbers = [v for v in info.values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if spec.unit == "auto" and info.kind == "time" and info.type.startswith("timestamp"):
        return TimeForm(info.name, "aware" if "tz" in info.type else "naive", zone=zone)
    if spec.unit == "auto" and info.kind == "date" and info.type.startswith("date"):
        return TimeForm(info.name, "date", zone=zone)
    if spec.unit in _SCALES or (spec.unit == "auto" and (info.kind == "numeric" or numbers)):
        scale = _SCALES.get(spec.unit) or _guess_scale(numbers)
        return TimeForm(info.name, "epoch", scale=scale, whole=all(float(v).is_integer() for v in numbers))
    if info.kind in ("text", "time", "date"):
        return _text_form(info, zone=zone)
    raise PermanentSourceError(
        f"{where}: column {info.name!r} ({info.type}) does not read as a time; set `time.unit`", reason="not_a_time"
    )


def _guess_scale(numbers: Sequence[float]) -> int:
    """Tell the unit of epoch numbers by their size: seconds stay below 1e11 until the year 5138."""
    size = float(np.median(np.abs(np.asarray(numbers, dtype=np.float64)))) if numbers else 0.0
    return next((scale for bound, scale in ((1e11, 1), (1e14, 1000), (1e17, 1_000_000)) if size < bound), 1_000_000_000)


def _text_form(info: ColumnInfo, *, zone: str) -> TimeForm:
    found = [match for v in info.values if isinstance(v, str) and (match := _ISO.match(v.strip()))]
    separators = {match["sep"] for match in found}
    zones = {_is_utc(match["zone"]) for match in found}
    uniform = len(separators) == 1 and len(zones) == 1 and zones <= {None, True} and len(found) == len(info.values)
    return TimeForm(
        info.name,
        "iso",
        zone="UTC" if zones == {True} else zone,
        separator=(separators or {" "}).pop() or " ",
        uniform=uniform,
    )


def _is_utc(offset: str | None) -> bool | None:
    return None if offset is None else offset.lstrip("+-").replace(":", "").strip("0") in ("", "Z")


def bounds(span: Span) -> tuple[Any, Any]:
    """Write the span's bounds in the column's own form, so that an index on it serves; never too narrow.

    Naive and textual forms may be wider than the span by up to a day: the exact cut is made on the parsed times.
    """
    return _bound(span.time, span.start, upper=False), _bound(span.time, span.end, upper=True)


def _bound(form: TimeForm, moment: datetime | None, *, upper: bool) -> Any:
    if moment is None or form.form == "aware":
        return moment
    if form.form == "epoch":
        ticks = (moment - datetime.fromtimestamp(0, tz=moment.tzinfo)) // timedelta(microseconds=1) * form.scale
        return -(-ticks // 1_000_000) if form.whole else ticks / 1_000_000
    local = _local(moment, form.zone, upper=upper)
    if form.form == "naive":
        return local
    if form.form == "date":
        return local.date() if local.time() == time(0) or not upper else local.date() + timedelta(days=1)
    if not form.uniform:
        day = moment.date() + (timedelta(days=2) if upper else timedelta(days=-1))
        return day.isoformat()
    return _text_bound(local, form.separator)


def _local(moment: datetime, zone: str, *, upper: bool) -> datetime:
    """Give the wall time in `zone`, an hour or so wider where clocks are changed near by."""
    tz = ZoneInfo(zone)
    here = moment.astimezone(tz)
    offsets = [(moment + timedelta(hours=h)).astimezone(tz).utcoffset() or timedelta(0) for h in (-4, 0, 4)]
    change = max(offsets) - min(offsets)
    return here.replace(tzinfo=None) + (change if upper else -change)


def _text_bound(local: datetime, separator: str) -> str:
    """Cut zero parts off: ``2026-01-01`` sorts at or before every spelling of that midnight."""
    if local.time() == time(0):
        return local.date().isoformat()
    spec = "minutes" if not local.second and not local.microsecond else "auto"
    return local.isoformat(sep=separator, timespec=spec)


def to_utc(values: pa.Array, form: TimeForm) -> pa.Array:
    """Read times as ``timestamp[us, UTC]``; what is no time, or lies beyond the year 9999, becomes null.

    A naive time that a clock change makes ambiguous is taken as the earlier one, and one that never was as the moment
    of the change.
    """
    if form.form == "epoch":
        return _from_epoch(values, form.scale)
    if pa.types.is_timestamp(values.type):
        return _within_years(values, form.zone)
    if pa.types.is_date(values.type):
        return _assume(values.cast(pa.timestamp("us"), safe=False), form.zone)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return _from_text(values.cast(pa.string()), form.zone)
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), UTC_US)
    return _from_text(values.cast(pa.string()), form.zone)


def _from_epoch(values: pa.Array, scale: int) -> pa.Array:
    if pa.types.is_string(values.type):
        values = pc.cast(pc.if_else(pc.match_substring_regex(values, r"^-?\d+(\.\d+)?$"), values, None), pa.float64())
    if pa.types.is_integer(values.type):
        ticks = values.cast(pa.int64())
        limit = min(_LIMIT_US // 1_000_000 * scale, 2**63 - 1)
        good = pc.and_(pc.less(ticks, limit), pc.greater(ticks, -limit))
        ticks = pc.if_else(good, ticks, pa.scalar(None, pa.int64()))
        micros = pc.divide(ticks, scale // 1_000_000) if scale > 1_000_000 else pc.multiply(ticks, 1_000_000 // scale)
        return micros.cast(UTC_US)
    numbers = np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False)) * (1_000_000 / scale)
    good_numbers = np.abs(numbers) < _LIMIT_US
    whole = np.where(good_numbers, np.rint(np.where(good_numbers, numbers, 0.0)), 0.0).astype(np.int64)
    return pa.array(whole, mask=~good_numbers).cast(UTC_US)


def _within_years(values: pa.Array, zone: str) -> pa.Array:
    micros = values.cast(pa.timestamp("us", tz=values.type.tz), safe=False)
    raw = micros.cast(pa.int64())
    ends = pc.min_max(raw)
    if not (pc.less(ends["max"], _LIMIT_US).as_py() and pc.greater(ends["min"], -_LIMIT_US).as_py()):
        within = pc.and_(pc.less(raw, _LIMIT_US), pc.greater(raw, -_LIMIT_US))
        micros = pc.if_else(within, micros, pa.scalar(None, micros.type))
    return micros.cast(UTC_US) if values.type.tz else _assume(micros, zone)


def _assume(values: pa.Array, zone: str) -> pa.Array:
    if zone == "UTC":
        return values.cast(UTC_US)
    aware = pc.assume_timezone(values, zone, ambiguous="earliest", nonexistent="latest")
    return aware.cast(UTC_US)


def _from_text(values: pa.Array, zone: str) -> pa.Array:
    offset = bool(len(values)) and pc.match_substring_regex(values[:1], _OFFSET_TEXT)[0].as_py()
    for trim in (False, True):  # hardly ever needed, and as slow as the reading itself
        try:
            plain = pc.utf8_trim_whitespace(values) if trim else values
            return plain.cast(UTC_US) if offset else _assume(plain.cast(pa.timestamp("us")), zone)
        except pa.ArrowInvalid:
            continue
    return pa.array([_parse(v, zone) for v in pc.utf8_trim_whitespace(values).to_pylist()], UTC_US)


def _parse(text: str | None, zone: str) -> datetime | None:
    if not text or not (re.match(_OFFSET_TEXT, text) or re.match(_PLAIN_TEXT, text)):
        return None
    try:
        moment = datetime.fromisoformat(text.replace(",", "."))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))
        return moment.astimezone(ZoneInfo("UTC"))
    except (ValueError, OverflowError):
        return None


def inside(times: pa.Array, span: Span) -> pa.Array:
    """Mark the times within the half-open span; null times are outside."""
    ends = pc.min_max(times).as_py()
    if not times.null_count and ends["min"] is not None:
        late_enough = span.start is None or ends["min"] >= span.start
        if late_enough and (span.end is None or ends["max"] < span.end):
            return pa.repeat(True, len(times))
    keep = pc.is_valid(times)
    if span.start is not None:
        keep = pc.and_(keep, pc.fill_null(pc.greater_equal(times, pa.scalar(span.start, UTC_US)), False))
    if span.end is not None:
        keep = pc.and_(keep, pc.fill_null(pc.less(times, pa.scalar(span.end, UTC_US)), False))
    return keep


def scalar(bound: Any, kind: pa.DataType) -> pa.Scalar:
    """Give a bound the type of the column it is compared with.

    A column of coarser ticks (Parquet's milliseconds) gets the next tick: what lies before a bound lies before that,
    too, and what does not, does not.
    """
    if pa.types.is_timestamp(kind):
        exact = pa.scalar(bound, pa.timestamp("us", tz=kind.tz))
        coarse = {"s": 1_000_000, "ms": 1_000}.get(kind.unit)
        return exact.cast(kind) if coarse is None else pa.scalar(-(-exact.value // coarse), pa.int64()).cast(kind)
    if pa.types.is_integer(kind) and isinstance(bound, float):
        return pa.scalar(bound)
    return pa.scalar(bound, kind)
