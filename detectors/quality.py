"""Broken data rather than changed data: nulls, new categories, values out of range, constants, volume, freshness."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from detectors.intervals import Interval, share_change, two_share_p_value, wilson
from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    ColumnProfile,
    ColumnSpec,
    NumericProfile,
    NumericSpec,
    ProfileError,
)


@dataclass(frozen=True)
class ShareChange:
    """A share in the reference and in the current window, and what to make of the difference.

    ``change`` is ``current - reference`` in points; it is ``None``, with a ``reason``, where a side has no rows.
    ``interval`` is that of the change, ``p_value`` the two-sided probability of one this large by chance.
    """

    reference: float | None
    current: float | None
    change: float | None
    interval: Interval | None = None
    p_value: float | None = None
    n_reference: int = 0
    n_current: int = 0
    reason: str | None = None


def _compare(first: tuple[int, int], second: tuple[int, int], *, level: float) -> ShareChange:
    (x1, n1), (x2, n2) = first, second
    reference = x1 / n1 if n1 else None
    current = x2 / n2 if n2 else None
    if reference is None or current is None:
        reason = "no_reference_rows" if reference is None else "no_rows"
        return ShareChange(reference, current, None, n_reference=n1, n_current=n2, reason=reason)
    return ShareChange(
        reference,
        current,
        current - reference,
        share_change(first, second, level=level),
        two_share_p_value(first, second),
        n1,
        n2,
    )


def null_change(reference: ColumnProfile, current: ColumnProfile, *, level: float = 0.95) -> ShareChange:
    """How did the share of missing values (NULL and NaN together) change, in points?"""
    return _compare((reference.missing, reference.n), (current.missing, current.n), level=level)


def unseen_rate(current: ColumnProfile, *, level: float = 0.95) -> ShareChange:
    """Which share of the rows that have a category has one that the baseline never saw?

    The reference share is 0 by definition, so there is no p-value: one row proves that such a value exists, and only
    the share, with its Wilson interval, says whether that matters.
    """
    if not isinstance(current, CategoricalProfile):
        raise ProfileError("only categories can be never seen; for numbers see out_of_range_rate")
    present = current.n - current.missing
    if present == 0:
        return ShareChange(0.0, None, None, n_current=0, reason="no_rows")
    rate = current.unseen / present
    return ShareChange(0.0, rate, rate, wilson(current.unseen, present, level=level), n_current=present)


def out_of_range_rate(
    spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile, *, level: float = 0.95
) -> ShareChange:
    """Which share of the rows that have a number lies outside the range the baseline had?

    Outside means in one of the two outer cells: strictly below the first edge or above the last.  Where the edges
    are all distinct reference values, or span them, these are the reference's minimum and maximum, so the reference
    share is 0; where they are not (quantile edges, or a decision edge beyond the data) the reference's own share
    there is subtracted.  Infinities are outside.

    Notes
    -----
    A fresh sample exceeds the extremes of a reference of m rows at a rate of about 2 / (m + 1) without any change;
    ``p_value`` is that of a two-sample test and allows for it.
    """
    before, after = _outside(spec, reference), _outside(spec, current)
    return _compare(before, after, level=level)


def _outside(spec: ColumnSpec, profile: ColumnProfile) -> tuple[int, int]:
    if not (isinstance(spec, NumericSpec) and isinstance(profile, NumericProfile)):
        raise ProfileError("only numbers have a range; for categories see unseen_rate")
    return int(profile.cells[0] + profile.cells[-1]), profile.n - profile.missing


def is_constant(spec: ColumnSpec, profile: ColumnProfile, *, min_rows: int = 2) -> bool:
    """Whether all values that are there are the same one (missing values apart, and at least ``min_rows`` of them)."""
    present = profile.n - profile.missing
    if present < min_rows:
        return False
    if isinstance(profile, NumericProfile) and isinstance(spec, NumericSpec):
        return profile.n_finite == present and _one_number(spec, profile, present)
    if isinstance(profile, CategoricalProfile) and isinstance(spec, CategoricalSpec):
        if profile.unseen == present:
            # The counts of new values are lower bounds; when the heaviest reaches all rows it is the only one.
            return max(profile.heavy_unseen.values(), default=0) == present
        return int(profile.counts.max(initial=0)) == present
    raise ProfileError("a column's spec and its profile are of different types")


def _one_number(spec: NumericSpec, profile: NumericProfile, present: int) -> bool:
    if profile.minimum == profile.maximum:
        return True
    # A heavy value may wobble within its slack (a float32 round trip) and still be one value.
    on_edges = profile.cells[1::2]
    place = int(np.argmax(on_edges)) if len(on_edges) else 0
    return bool(int(on_edges[place]) == present and spec.slack[place] > 0)


def became_constant(spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile, *, min_rows: int = 30) -> bool:
    """Whether a column that used to vary has stopped to.

    Notes
    -----
    A column that is nearly constant anyway is constant in a small window by chance: where the reference's commonest
    value has share ``s``, that happens with probability ``s ** n``, and below 1 in 1000 it counts as a finding.
    """
    if is_constant(spec, reference) or not is_constant(spec, current, min_rows=min_rows):
        return False
    present = current.n - current.missing
    return commonest_share(spec, reference) ** present < 0.001


def commonest_share(spec: ColumnSpec, profile: ColumnProfile) -> float:
    """The share of the commonest single value that the counts can tell, among values that are there; 0 for none."""
    present = profile.n - profile.missing
    if present == 0:
        return 0.0
    if isinstance(profile, NumericProfile) and isinstance(spec, NumericSpec):
        return int(profile.cells[1::2].max(initial=0)) / present
    if isinstance(profile, CategoricalProfile) and isinstance(spec, CategoricalSpec):
        return max(int(profile.counts.max(initial=0)), max(profile.heavy_unseen.values(), default=0)) / present
    raise ProfileError("a column's spec and its profile are of different types")


@dataclass(frozen=True)
class VolumeChange:
    """Rows of a window against the median of earlier ones; ``fall`` is the share that is lacking, negative for more."""

    n_rows: int
    typical: float | None
    fall: float | None
    reason: str | None = None


def volume_change(n_rows: int, history: Sequence[int], *, min_windows: int = 3) -> VolumeChange:
    """By which share did the number of rows fall short of the median of the windows before?

    Undefined with fewer than ``min_windows`` earlier windows (``no_history``) or when these were mostly empty
    (``history_is_empty``).
    """
    if len(history) < min_windows:
        return VolumeChange(n_rows, None, None, "no_history")
    typical = float(statistics.median(history))
    if typical <= 0:
        return VolumeChange(n_rows, typical, None, "history_is_empty")
    return VolumeChange(n_rows, typical, 1 - n_rows / typical)


def freshness(newest: datetime | None, window: tuple[datetime, datetime]) -> datetime | None:
    """Until when does the data of this window reach?

    ``newest`` is the newest event time seen for the column, at any time.  Later than the window's end it is the end;
    before its start, or unknown, there is no answer: the window holds nothing of it, and an old time would read as
    one.
    """
    start, end = window
    if newest is None or newest < start:
        return None
    return min(newest, end)
