"""The label delays of past windows, put together to at most some ninety groups, which are kept at hand between windows.

A model of hourly windows learns its delay law from some two thousand of them.  Of these only marks are read each time:
a group whose windows have the marks of last time is taken as it was put together then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from weakref import WeakKeyDictionary

from detectors.delay_counts import DelayCounts, fits, from_bytes, known_by, merge, to_bytes
from monitor.models import Window
from monitor.store import ALL, Every, ProfileMark, Store

MAX_WINDOWS = 90
_STEPS = (1, 2, 3, 4, 6, 8, 12, 24)
"""How many windows make a group: such that groups of hours are days, or whole parts of them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_BYTES = 16 << 20
_FEW = 8
_Group = tuple[str | None, int]
"""A segment, or ``None`` for all rows, and which stretch of time."""


@dataclass(frozen=True)
class History:
    """Groups of windows with the delays that they showed, oldest first, and how far they lie from the one in question.

    ``away`` is in days, from the start of the group that the window in question would be in.
    """

    windows: Sequence[tuple[Window, DelayCounts]]
    away: Sequence[float]


@dataclass
class _Kept:
    """What was put together before: the marks of the windows, and their counts, packed; nothing where none fitted.

    With them, when the last of the windows was counted (seconds since 1970): a replay of before then has to leave out
    what landed later, window by window.
    """

    groups: dict[tuple[object, ...], tuple[tuple[ProfileMark, ...], bytes | None, float]]
    n_bytes: int = 0


_kept: WeakKeyDictionary[Store, _Kept] = WeakKeyDictionary()


def history(
    store: Store,
    name: str,
    column: str,
    *,
    start: datetime,
    now: datetime,
    alike: DelayCounts,
    leave_out: Window,
    segment: str | Every | None = None,
    step: int | None = None,
) -> dict[str | None, History]:
    """What windows from ``start`` to ``now`` have shown, as far as it was known at ``now``, for each segment.

    Parameters
    ----------
    alike
        Counts over the ages and strata that are asked for; those over others are left out.
    leave_out
        The window in question.
    segment
        As in :meth:`Store.profiles`.
    step
        How many windows make a group; by default as few as make no more than ``MAX_WINDOWS``.
    """
    marks = [
        mark
        for mark in store.profile_marks(name, start=start, end=now, column=column, segment=segment)
        if mark.window.end <= leave_out.start or mark.window.start >= leave_out.end
    ]
    step = step or _step(len({mark.window for mark in marks}))
    length = step * leave_out.length

    def place(window: Window) -> int:
        return int((window.start - _EPOCH) // length) if step > 1 else int(window.start.timestamp())

    parts: dict[_Group, list[ProfileMark]] = {}
    for mark in marks:
        parts.setdefault((mark.segment, place(mark.window)), []).append(mark)
    kind = (step, leave_out.length, alike.landed.shape, alike.mature, alike.edges.tobytes())
    counts = _put_together(store, (name, column, kind), parts, now=now, alike=alike)
    unit = length / timedelta(days=1) if step > 1 else 1 / 86400
    found: dict[str | None, History] = {}
    for each in dict.fromkeys(whose for whose, _ in counts):
        mine = [key for key in parts if key[0] == each and key in counts]
        spans = [Window(parts[key][0].window.start, parts[key][-1].window.end) for key in mine]
        away = [(at - place(leave_out)) * unit for _, at in mine]
        found[each] = History([(span, counts[key]) for span, key in zip(spans, mine, strict=True)], away)
    return found


def _step(n_windows: int) -> int:
    least = -(-n_windows // MAX_WINDOWS)
    return next((step for step in _STEPS if step >= least), -(-least // _STEPS[-1]) * _STEPS[-1])


def _put_together(
    store: Store,
    series: tuple[str, str, object],
    parts: dict[_Group, list[ProfileMark]],
    *,
    now: datetime,
    alike: DelayCounts,
) -> dict[_Group, DelayCounts]:
    """The counts of each group that has any, taken as they were kept where its windows are as they were."""
    kept = _kept.setdefault(store, _Kept({}))
    found: dict[_Group, DelayCounts] = {}
    stale: dict[_Group, list[ProfileMark]] = {}
    for key, group in parts.items():
        marks, packed, counted = kept.groups.get((*series, *key), ((), None, 0.0))
        if marks != tuple(group) or counted > now.timestamp():
            stale[key] = group
        elif packed is not None:
            found[key] = from_bytes(packed)
    fresh = _loaded(store, *series[:2], stale)
    for key, group in stale.items():
        told = [(mark.window, fresh.get((mark.window, mark.segment))) for mark in group]
        counts = [(window, each) for window, each in told if each is not None and fits(each, alike)]
        _keep(kept, (*series, *key), tuple(group), [each for _, each in counts])
        if counts:
            found[key] = reduce(merge, (_as_of(each, window, now=now) for window, each in counts))
    return found


def _keep(kept: _Kept, key: tuple[object, ...], marks: tuple[ProfileMark, ...], counts: Sequence[DelayCounts]) -> None:
    packed = to_bytes(reduce(merge, counts)) if counts else None
    kept.n_bytes += 500 + (0 if packed is None else len(packed))
    if kept.n_bytes > _MOST_BYTES:
        kept.groups.clear()
        kept.n_bytes = 0
    kept.groups[key] = marks, packed, max((each.as_of for each in counts), default=0.0)


def _loaded(
    store: Store, name: str, column: str, groups: dict[_Group, list[ProfileMark]]
) -> dict[tuple[Window, str | None], DelayCounts]:
    """The counts of the windows of some groups: group by group, or all at once where these are many."""
    spans = {(group[0].window.start, group[-1].window.end) for group in groups.values()}
    if len(spans) > _FEW:
        spans = {(min(start for start, _ in spans), max(end for _, end in spans))}
    whose: Every | None = ALL if any(segment is not None for segment, _ in groups) else None
    found = [
        each
        for start, end in spans
        for each in store.profiles(name, start=start, end=end, columns=[column], segment=whose)
    ]
    return {(each.window, each.segment): each.profile for each in found if isinstance(each.profile, DelayCounts)}


def _as_of(counts: DelayCounts, window: Window, *, now: datetime) -> DelayCounts:
    """What was counted later than ``now`` says only as much as was known then: a replay does not see its future."""
    return known_by(counts, (now - window.end).total_seconds()) if counts.as_of > now.timestamp() else counts
