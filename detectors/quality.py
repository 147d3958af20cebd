"""Broken data rather than changed data: columns that became constant, and how far the data of a window reach."""

from __future__ import annotations

from datetime import datetime

from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    ColumnProfile,
    ColumnSpec,
    NumericProfile,
    NumericSpec,
    ProfileError,
)


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
    return bool((profile.cells[2 * spec.heavy + 1] == present).any()) if len(spec.heavy) else False


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
