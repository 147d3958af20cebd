"""Where windows begin and end: contiguous half-open spans of UTC, cut where people's days and crons are.

- Less than a day (``15m``, ``1h``, ``6h``): cut at local midnight and every step after it, in elapsed time, so each
  day starts afresh.  A day of 23 or 25 hours, or a step that does not divide the day, ends with what is left; if that
  is less than half a step, it belongs to the window before.
- Whole days (``1d``, ``14d``, ``2w``): local midnights, so a day may have 23 or 25 hours.  Several days are counted
  from an anchor: the model's ``start``, else Monday 1970-01-05, so weeks begin on Mondays.
- Any other length over a day (``36h``): elapsed time from the anchor's midnight.
- A cron expression: from one fire to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from monitor.config import parse_duration
from monitor.models import Window

MONDAY = date(1970, 1, 5)
_DAY = timedelta(days=1)
_SHORTEST = timedelta(minutes=1)


class WindowError(ValueError):
    """A window length or cron expression that cuts nothing."""


def cuts(
    window: str, zone: ZoneInfo, *, start: datetime, end: datetime, anchor: datetime | date | None = None
) -> Iterator[Window]:
    """All windows that lie within ``[start, end)``, oldest first.

    Parameters
    ----------
    window
        A length (``15m``, ``6h``, ``1d``, ``2w``) or a cron expression of five fields.
    zone
        Whose midnights and crons are meant.
    start, end
        Aware; a window that begins before ``start`` or ends after ``end`` is left out.
    anchor
        From which day windows of several days are counted; its local date counts.

    Raises
    ------
    WindowError
        If ``window`` is neither, is shorter than a minute, or is a cron that never fires.
    ValueError
        If ``start`` or ``end`` is naive.
    """
    first, last = _utc(start), _utc(end)
    for begin, finish in pairwise(_increasing(_points(window, zone, first, anchor), last)):
        if finish > last:
            return
        if begin >= first:
            yield Window(begin, finish)


def due_windows(
    window: str,
    zone: ZoneInfo,
    *,
    start: datetime,
    now: datetime,
    settle: timedelta,
    anchor: datetime | date | None = None,
) -> list[Window]:
    """The windows that may be read now: begun at ``start`` or later, and over for at least ``settle``."""
    return list(cuts(window, zone, start=start, end=_utc(now) - settle, anchor=anchor))


def split_catch_up(
    windows: Sequence[Window], now: datetime, max_catch_up: timedelta
) -> tuple[list[Window], list[Window]]:
    """Tell windows that are still worth computing from those too long ago: ``(run, skip)``.

    The newest one is always run, however long it has been over: it says how things are now.
    """
    limit = _utc(now) - max_catch_up
    newest = max(windows, default=None)
    run = [each for each in windows if each.end > limit or each == newest]
    return run, [each for each in windows if each.end <= limit and each != newest]


def fires_between(schedule: str, zone: ZoneInfo, *, after: datetime, until: datetime) -> bool:
    """Whether a cron expression fires within ``(after, until]``."""
    fires = _fires(schedule, zone, after.astimezone(UTC))
    return next((fire for fire in fires if fire > after), until + _DAY) <= until


# --- points in time, in order; the first is at or before `start` -------------------------------------


def _points(window: str, zone: ZoneInfo, start: datetime, anchor: datetime | date | None) -> Iterator[datetime]:
    if len(window.split()) > 1 or window.lstrip().startswith("@"):
        return _fires(window, zone, start)
    try:
        step = parse_duration(window)
    except ValueError as error:
        raise WindowError(f"expected a length such as 1h, 1d or 2w, or a cron expression, found {window!r}") from error
    if step < _SHORTEST:
        raise WindowError(f"a window is at least a minute long, found {window!r}")
    if step < _DAY:
        return _within_days(step, zone, start)
    first_day = _local_date(anchor, zone)
    if step % _DAY:
        return _elapsed(step, _midnight(first_day, zone), start)
    return _days(step // _DAY, zone, start, first_day)


def _within_days(step: timedelta, zone: ZoneInfo, start: datetime) -> Iterator[datetime]:
    day = _before(start.astimezone(zone).date())
    while True:
        begin, finish = _midnight(day, zone), _midnight(day + _DAY, zone)
        point = begin
        # what is left at the day's end is a window if it is at least half of one
        while point == begin or finish - point >= step / 2:
            if point >= finish:  # a day that this zone never had
                break
            yield point
            point += step
        day += _DAY


def _days(step: int, zone: ZoneInfo, start: datetime, anchor: date) -> Iterator[datetime]:
    day = _before(start.astimezone(zone).date())
    day = anchor + (day - anchor).days // step * step * _DAY
    while True:
        yield _midnight(day, zone)
        day += step * _DAY


def _elapsed(step: timedelta, anchor: datetime, start: datetime) -> Iterator[datetime]:
    point = anchor + (start - anchor) // step * step
    while True:
        yield point
        point += step


def _fires(expression: str, zone: ZoneInfo, start: datetime) -> Iterator[datetime]:
    if len(expression.split()) != 5:
        raise WindowError(f"a cron expression has five fields (minute hour day month weekday), found {expression!r}")
    try:
        # from a day before: on the night the clocks go back, a start within the repeated hour would be ambiguous
        fires = CronSim(expression, (start - _DAY).astimezone(zone))
        yield from (fire.astimezone(UTC) for fire in fires)
    except CronSimError as error:
        raise WindowError(f"{expression!r} is not a cron expression that ever fires: {error}") from error


def _increasing(points: Iterable[datetime], last: datetime) -> Iterator[datetime]:
    """Drop what does not go forward (a midnight that a zone skipped), and end with the first point past ``last``."""
    before: datetime | None = None
    for point in points:
        if before is not None and point <= before:
            continue
        yield point
        if point > last:
            return
        before = point


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    # fold=0: of two midnights the first; of none, the instant at which it was skipped
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def _local_date(anchor: datetime | date | None, zone: ZoneInfo) -> date:
    if anchor is None:
        return MONDAY
    return anchor.astimezone(zone).date() if isinstance(anchor, datetime) else anchor


def _before(day: date) -> date:
    # a zone whose midnight is not the start of its date (clocks changed around it) is looked at from a day earlier
    return day - _DAY


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"windows are cut between aware times, found {moment.isoformat()}")
    return moment.astimezone(UTC)
