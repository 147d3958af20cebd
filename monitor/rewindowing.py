"""Windows of any length out of stored profiles: days become weeks without touching the source."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from detectors.profiles import CategoricalProfile, ColumnProfile, NumericProfile, merge_all
from monitor.store import Store

_AT_ONCE = timedelta(days=7)


def merged(
    store: Store,
    model: str,
    *,
    start: datetime,
    end: datetime,
    columns: Sequence[str] | None = None,
    segment: str | None = None,
) -> dict[str, ColumnProfile]:
    """The counts of all rows in ``[start, end)`` by column, added up from the windows that lie within.

    Parameters
    ----------
    segment
        ``None`` for all rows, ``"column=value"`` for those of one segment.

    Notes
    -----
    Some days are read at a time, so that memory does not grow with the span.  Profiles of different baselines do not
    add up: give a span within one.
    """
    sums: dict[str, ColumnProfile] = {}
    at = start
    while at < end:
        until = min(end, at + _AT_ONCE)
        parts: dict[str, list[ColumnProfile]] = {name: [total] for name, total in sums.items()}
        # Windows are kept by their start: one that begins here may end later, but not after ``end``.
        for each in store.profiles(
            model, start=at, end=end if until == end else until, columns=columns, segment=segment
        ):
            if isinstance(each.profile, NumericProfile | CategoricalProfile):
                parts.setdefault(each.column, []).append(each.profile)
        sums = {name: merge_all(found) for name, found in parts.items()}
        at = until
    return sums
