"""Drift of each segment against the same segment of the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from detectors.change import Watched
from detectors.effective_size import MIN_WINDOWS
from detectors.profiles import Column, ColumnProfile
from monitor.checks.features import feature_drift
from monitor.checks.scope import Scope
from monitor.checks.score import score_drift
from monitor.models import Result


def segment_drift(
    scope: Scope,
    columns: Mapping[str, Column],
    reference: Mapping[str, Mapping[str, ColumnProfile]],
    current: Mapping[str, Mapping[str, ColumnProfile]],
    *,
    top: frozenset[str] | None = None,
) -> list[Result]:
    """Feature and score drift of each segment value against the same segment of the baseline."""
    results: list[Result] = []
    n_tests = len(columns) * max(1, len(current))
    for segment, profiles in current.items():
        side = {
            name: _of_segment(columns[name], profile, segment)
            for name, profile in reference.get(segment, {}).items()
            if name in columns
        }
        if not side:
            continue
        results += feature_drift(scope, side, profiles, segment=segment, n_tests=n_tests, top=top)
        results += score_drift(scope, side, profiles, segment=segment, n_tests=n_tests)
    return results


def _of_segment(column: Column, reference: ColumnProfile, segment: str) -> Column:
    if not isinstance(column, Watched):
        return column.with_reference(reference)
    history = column.segments.get(segment)
    known, whole = 0 if history is None else len(history), column.history
    if known < MIN_WINDOWS and whole is not None and whole.entities is not None:
        history = whole  # what rows of one entity are worth, as of all rows
    return replace(column, reference=reference, history=history, season="", recent=(), same_week=(), n_columns=None)
