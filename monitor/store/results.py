"""Results and profiles: what a window said, and the counts it said it from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, insert, select, update

from monitor.models import Check, Claim, Job, Result, StoredProfile, Verdict, Window
from monitor.store.engine import insert_or
from monitor.store.schema import profile, result
from monitor.store.storable import clean_text, short_key, utc, why_not_finite


class Every:
    """Says "profiles of all segments", where ``None`` already means "of all rows"."""

    def __repr__(self) -> str:
        return "ALL"


ALL: Final = Every()


def save_results(connection: Connection, claim: Claim, results: Iterable[Result]) -> None:
    """Write one revision's results and let older ones of the same window and job step back."""
    window = and_(
        result.c.model == claim.model,
        result.c.window_start == claim.window.start,
        result.c.window_end == claim.window.end,
        result.c.job == claim.job,
    )
    connection.execute(update(result).where(window, result.c.newest).values(newest=False))
    rows = [_result_row(each, claim) for each in results]
    if rows:
        connection.execute(insert(result), rows)


def _result_row(each: Result, claim: Claim) -> dict[str, Any]:
    low, high = each.interval or (None, None)
    detail = each.detail
    reason = why_not_finite(each.value)
    if reason is not None and "reason" not in detail:
        detail = {**detail, "reason": reason}
    return {
        "run_id": claim.run_id,
        "model": claim.model,
        "job": claim.job,
        "check_name": each.check,
        "metric": each.metric,
        "feature": each.feature,
        "segment": each.segment,
        "window_start": each.window.start,
        "window_end": each.window.end,
        "revision": claim.revision,
        "newest": True,
        "value": each.value,
        "verdict": each.verdict,
        "p_value": each.p_value,
        "threshold": each.threshold,
        "n_reference": _count(each.n_reference),
        "n_current": _count(each.n_current),
        "kind": each.kind,
        "interval_low": low,
        "interval_high": high,
        "label_coverage": each.label_coverage,
        "detail": detail,
    }


def _count(value: int | None) -> int | None:
    # an np.int64 would become a blob in SQLite
    return None if value is None else int(value)


def results(
    connection: Connection,
    *,
    model: str | None,
    job: Job | None,
    check: Check | None,
    feature: str | None,
    metric: str | None,
    start: datetime | None,
    end: datetime | None,
    all_revisions: bool,
    limit: int | None,
) -> list[Result]:
    """Results of windows that overlap ``[start, end)``, oldest window first; with ``limit`` the newest that many."""
    c = result.c
    wanted: list[ColumnElement[bool]] = [] if all_revisions else [c.newest]
    equal = {c.model: model, c.job: job, c.check_name: check, c.feature: feature, c.metric: metric}
    wanted += [column == value for column, value in equal.items() if value is not None]
    if start is not None:
        wanted.append(c.window_end > start)
    if end is not None:
        wanted.append(c.window_start < end)
    query = select(result).where(*wanted)
    if limit is None:
        found: Sequence[Row[Any]] = connection.execute(query.order_by(c.window_start, c.id)).all()
    else:
        newest_first = query.order_by(c.window_start.desc(), c.id.desc()).limit(limit)
        found = connection.execute(newest_first).all()[::-1]
    return [_to_result(row) for row in found]


def _to_result(row: Row[Any]) -> Result:
    return Result(
        model=row.model,
        check=Check(row.check_name),
        metric=row.metric,
        window=Window(row.window_start, row.window_end),
        value=row.value,
        verdict=Verdict(row.verdict),
        feature=row.feature,
        segment=row.segment,
        p_value=row.p_value,
        threshold=row.threshold,
        n_reference=row.n_reference,
        n_current=row.n_current,
        revision=row.revision,
        kind=row.kind,
        interval=None if row.interval_low is None else (row.interval_low, row.interval_high),
        label_coverage=row.label_coverage,
        detail=row.detail,
    )


# --- profiles --------------------------------------------------------------------------------------


def replace_profiles(connection: Connection, claim: Claim, stored: Sequence[StoredProfile]) -> None:
    """Let the newest revision's counts take the place of all that this job counted in the window before."""
    connection.execute(
        delete(profile).where(
            profile.c.model == claim.model,
            profile.c.window_start == claim.window.start,
            profile.c.window_end == claim.window.end,
            profile.c.job == claim.job,
        )
    )
    save_profiles(connection, stored, job=claim.job)


def save_profiles(
    connection: Connection, stored: Sequence[StoredProfile], *, job: Job, baseline_id: int | None = None
) -> None:
    """Write profiles; one of the same window, column and segment is overwritten."""
    if not stored:
        return
    new = insert_or(connection, profile)
    fresh = {name: new.excluded[name] for name in ("segment", "column_name", "job", "baseline_id", "kind", "counts")}
    keys = ["model", "window_start", "window_end", "segment_key", "column_key"]
    rows = [_profile_row(each, job=job, baseline_id=baseline_id) for each in stored]
    connection.execute(new.on_conflict_do_update(index_elements=keys, set_=fresh), rows)


def _profile_row(each: StoredProfile, *, job: Job, baseline_id: int | None) -> dict[str, Any]:
    from monitor.store.blobs import encode  # noqa: PLC0415 - see there

    kind, counts = encode(each.profile)
    return {
        "model": each.model,
        "window_start": each.window.start,
        "window_end": each.window.end,
        "segment_key": short_key(each.segment),
        "column_key": short_key(each.column),
        "segment": each.segment,
        "column_name": each.column,
        "job": job,
        "baseline_id": baseline_id if each.baseline_id is None else each.baseline_id,
        "kind": kind,
        "counts": counts,
    }


def profiled(connection: Connection, model: str, *, start: datetime, end: datetime) -> set[Window]:
    """The windows within ``[start, end)`` of which profiles are kept."""
    c = profile.c
    query = select(c.window_start, c.window_end).where(
        c.model == model, c.job == Job.INPUTS, c.window_start >= utc(start), c.window_end <= utc(end)
    )
    return {Window(row.window_start, row.window_end) for row in connection.execute(query.distinct())}


class ProfileMark(NamedTuple):
    """Of which window and segment a profile is, and what changes whenever its counts do."""

    window: Window
    segment: str | None
    mark: bytes


_HEAD = 32


def profile_marks(
    connection: Connection, model: str, *, start: datetime, end: datetime, column: str, segment: str | Every | None
) -> list[ProfileMark]:
    """Marks of the profiles of one column within ``[start, end)``, oldest first; the counts are not read.

    A mark is the head of the counts, which holds what they are of and often when they were counted, their length, and
    the checksum that zlib ends with.
    """
    c = profile.c
    size = func.length(c.counts)
    marks = (func.substr(c.counts, 1, _HEAD), size, func.substr(c.counts, size - 3))
    query = (
        select(c.window_start, c.window_end, c.segment, *marks)
        .where(c.model == model, c.window_start >= utc(start), c.window_end <= utc(end))
        .where(c.column_key == short_key(column))
        .order_by(c.window_start, c.window_end, c.segment_key)
    )
    if not isinstance(segment, Every):
        query = query.where(c.segment_key == short_key(segment))
    return [
        ProfileMark(Window(begun, ended), whose, bytes(head) + size.to_bytes(8) + bytes(tail))
        for begun, ended, whose, head, size, tail in connection.execute(query)
    ]


FEW = 10_000
"""Keys that are looked up one by one, at most; else all between the first window and the last are looked through."""


def load_profiles(
    connection: Connection,
    model: str,
    *,
    start: datetime,
    end: datetime,
    columns: Sequence[str] | None,
    segment: str | Every | None,
    baseline_id: int | None,
) -> list[StoredProfile]:
    """Profiles of windows that lie within ``[start, end)``, oldest first."""
    query = _profiles(model, start=start, end=end, columns=columns, segment=segment, windows=None)
    if baseline_id is not None:
        query = query.where(profile.c.baseline_id == baseline_id)
    return list(_decoded(model, connection.execute(query).all(), None))


def load_columns(
    connection: Connection,
    model: str,
    *,
    start: datetime,
    end: datetime,
    columns: Sequence[str],
    segment: str | Every | None,
    windows: Collection[Window],
) -> Iterator[list[StoredProfile]]:
    """The same for one column after the other; each is decoded when its turn comes: counts are large, bytes small."""
    query = _profiles(model, start=start, end=end, columns=columns, segment=segment, windows=windows)
    found: dict[str, list[Row[Any]]] = {name: [] for name in columns}
    for row in connection.execute(query).all():
        found[row.column_name].append(row)
    return (list(_decoded(model, found.pop(name), windows)) for name in columns)


def _profiles(
    model: str,
    *,
    start: datetime,
    end: datetime,
    columns: Sequence[str] | None,
    segment: str | Every | None,
    windows: Collection[Window] | None,
) -> Select[Any]:
    c = profile.c
    query = (
        select(c.window_start, c.window_end, c.column_name, c.segment, c.baseline_id, c.kind, c.counts)
        .where(c.model == model, c.window_start >= utc(start), c.window_end <= utc(end))
        .order_by(c.window_start, c.window_end, c.segment_key, c.column_key)
    )
    if columns is not None:
        query = query.where(c.column_key.in_([short_key(name) for name in columns]))
    if not isinstance(segment, Every):
        query = query.where(c.segment_key == short_key(segment))
    if windows is not None and len(windows) ** 2 * len(columns or "1") <= FEW:
        # By both ends, so that the primary key finds them one by one.
        query = query.where(c.window_start.in_({utc(w.start) for w in windows}))
        query = query.where(c.window_end.in_({utc(w.end) for w in windows}))
    return query


def _decoded(model: str, rows: Iterable[Any], windows: Collection[Window] | None) -> Iterator[StoredProfile]:
    from monitor.store.blobs import decode  # noqa: PLC0415 - see there

    spans: dict[tuple[datetime, datetime], Window | None] = {}
    model = clean_text(model)
    for start, end, column, segment, baseline_id, kind, counts in rows:
        if (start, end) not in spans:
            span = Window(start, end)
            spans[start, end] = span if windows is None or span in windows else None
        window = spans[start, end]
        if window is not None:
            yield StoredProfile(model, window, column, decode(kind, counts), segment, baseline_id)
