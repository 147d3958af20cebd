"""The frozen artefact that windows are compared with: built once from the reference rows, then only read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa

from detectors.classification import Measure, performance
from detectors.profiles import CategoricalSpec, Column, ColumnProfile, ColumnSpec, merge_all
from detectors.score_labels import ScoreLabels
from monitor import counting, windows
from monitor.config import Config, ModelConfig, RangeBaseline, RollingBaseline
from monitor.models import DECISION, SCORE, Baseline, Check, Roles, StoredProfile, Verdict, Window
from monitor.sources import Source
from monitor.store import ALL, Store

UNDATED = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC))
"""The window under which the profiles of a baseline without times (a table, a file) are kept."""

MIN_BASELINE_WINDOWS = 3


class NoBaselineError(Exception):
    """There is not enough reference data yet; the message says what is missing."""


@dataclass(frozen=True)
class Reference:
    """What one window is compared with: the baseline's edges, and the counts that hold for that window.

    ``columns`` are all rows; ``segments`` maps ``"column=value"`` to the same for its rows.  ``n_rows`` counts the
    reference rows; ``description`` says in words where they come from.
    """

    baseline: Baseline
    columns: Mapping[str, Column]
    segments: Mapping[str, Mapping[str, ColumnProfile]]
    n_rows: int
    description: str


def baseline_hash(model: ModelConfig, roles: Roles) -> str:
    """Identify all that makes two series of results comparable: where the bins come from and how they are cut.

    Thresholds and destinations are not part of it: changing them starts no new series.  Nor are the columns that
    the table happens to have: one that appears or vanishes is a finding against the baseline, not a new baseline.
    """
    told = {
        "relation": [model.table, model.query, model.where],
        "baseline": model.baseline.model_dump(mode="json", by_alias=True),
        "bins": model.drift.bins,
        "max_categories": model.features.max_categories,
        "features": model.features.model_dump(mode="json", by_alias=True, exclude={"importance"}),
        "score": [roles.score, roles.decision, model.threshold],
        "segments": [sorted(roles.segments), model.max_segments],
        "window": model.window,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


class BatchStream(Protocol):
    """Record batches that can be asked for twice, by calling again."""

    def __call__(self) -> Iterable[pa.RecordBatch]: ...


def ensure(
    name: str, config: Config, *, store: Store, source: Source, roles: Roles, window: Window, now: datetime
) -> Baseline:
    """Return the baseline of a model, building it from its reference rows the first time.

    Raises
    ------
    NoBaselineError
        When the reference rows are missing or too few; asked again at the next window.
    """
    model = config.models[name]
    kept = store.baseline(name)
    if kept is not None and kept.spec_hash == baseline_hash(model, roles):
        return kept
    return build(name, config, store=store, source=source, roles=roles, window=window, now=now)


def build(
    name: str, config: Config, *, store: Store, source: Source, roles: Roles, window: Window, now: datetime
) -> Baseline:
    """Read the reference rows twice (where the cells lie, then the counts), and freeze the outcome in the store."""
    model = config.models[name]
    span = reference_span(model, window)
    cut = _cuts(config, model, span) if span is not None else [UNDATED]

    def rows_of(part: Window | None) -> Iterable[pa.RecordBatch]:
        if span is None:
            return source.read_relation(model, roles, now=now)
        return source.read_inputs(model, roles, part, now=now)

    kinds = column_kinds(roles)
    edges = {SCORE: [model.threshold]} if model.threshold is not None else {}
    specs, n_rows = counting.learn_specs(
        rows_of(span), kinds, bins=model.drift.bins, max_categories=model.features.max_categories, decision_edges=edges
    )
    if n_rows < model.min_rows:
        raise NoBaselineError(
            f"the baseline holds {n_rows} rows ({describe(model, span)}); min_rows is {model.min_rows}"
        )
    segments = segment_values(specs, roles, model)
    profiles: list[StoredProfile] = []
    for part in cut:
        counts = counting.count(rows_of(part), specs, segments=segments)
        if counts.n_rows:
            profiles += stored_profiles(name, part, counts)
    columns = _columns(specs, [p for p in profiles if p.segment is None])
    detail = {
        "roles": _roles_dict(roles),
        "segments": segments,
        "windows": len({p.window.start for p in profiles}),
    }
    baseline = store.save_baseline(
        name,
        spec_hash=baseline_hash(model, roles),
        source=describe(model, span),
        window=span,
        n_rows=n_rows,
        columns=columns,
        detail=detail,
        created_at=now,
    )
    store.save_profiles(profiles, baseline_id=baseline.id)
    return baseline


def reference(baseline: Baseline, config: Config, *, store: Store, window: Window) -> Reference:
    """The counts that one window is compared with; for a rolling baseline, merged from stored profiles."""
    model = config.models[baseline.model]
    span = baseline.window if baseline.window is not None else UNDATED
    rolling = isinstance(model.baseline, RollingBaseline)
    if rolling:
        span = reference_span(model, window) or span
    profiles = store.profiles(baseline.model, start=span.start, end=span.end, segment=ALL)
    if isinstance(model.baseline, RollingBaseline) and model.baseline.exclude_alerting:
        bad = alerting_windows(store, baseline.model, span)
        profiles = [p for p in profiles if p.window.start not in bad] or profiles
    columns = dict(baseline.columns)
    if rolling and profiles:
        columns |= _columns(baseline.specs(), [p for p in profiles if p.segment is None])
    segments: dict[str, dict[str, list[ColumnProfile]]] = {}
    for kept in profiles:
        if kept.segment is not None and kept.column in columns:
            segments.setdefault(kept.segment, {}).setdefault(kept.column, []).append(kept.profile)
    merged = {
        segment: {column: merge_all(parts) for column, parts in by_column.items()}
        for segment, by_column in segments.items()
    }
    n_rows = max((column.reference.n for column in columns.values()), default=0)
    return Reference(baseline, columns, merged, n_rows, describe(model, span if span != UNDATED else None))


def alerting_windows(store: Store, model: str, span: Window) -> set[datetime]:
    """Starts of the windows that alerted on their inputs, which never become part of the normal."""
    found = store.results(model, start=span.start, end=span.end)
    checks = (Check.FEATURE_DRIFT, Check.SCORE_DRIFT, Check.QUALITY)
    return {r.window.start for r in found if r.verdict is Verdict.ALERT and r.check in checks and r.segment is None}


def reference_span(model: ModelConfig, window: Window) -> Window | None:
    """Event time that the baseline covers, seen from one window; ``None`` for a table, query or file."""
    if isinstance(model.baseline, RollingBaseline):
        return Window(window.start - model.baseline.rolling, window.start)
    if isinstance(model.baseline, RangeBaseline):
        return Window(model.baseline.from_.astimezone(UTC), model.baseline.to.astimezone(UTC))
    return None


def describe(model: ModelConfig, span: Window | None) -> str:
    """Where the reference rows come from, in words."""
    if isinstance(model.baseline, RollingBaseline):
        days = model.baseline.rolling / timedelta(days=1)
        return f"the {days:g} days before the window"
    if span is not None:
        last = span.end - timedelta(microseconds=1)
        return f"{span.start:%Y-%m-%d} to {last:%Y-%m-%d}"
    told = model.baseline.model_dump(mode="json", exclude_none=True)
    kind = next(iter(told))
    return "a query" if kind == "query" else f"{kind} {told[kind]}"


def column_kinds(roles: Roles) -> dict[str, str]:
    """Every column that is counted → ``"numeric"`` or ``"categorical"``; score, decision and segments included."""
    kinds = dict(roles.features)
    kinds |= {segment: "categorical" for segment in roles.segments if segment not in kinds}
    if roles.score is not None:
        kinds[SCORE] = "numeric"
    if roles.decision is not None:
        kinds[DECISION] = "categorical"
    return kinds


def segment_values(specs: Mapping[str, ColumnSpec], roles: Roles, model: ModelConfig) -> dict[str, list[str]]:
    """The heaviest values of each segment column in the reference rows, at most ``max_segments``."""
    known: dict[str, list[str]] = {}
    for column in roles.segments:
        spec = specs.get(column)
        if isinstance(spec, CategoricalSpec):
            known[column] = list(spec.categories[: model.max_segments])
    return known


def stored_profiles(model: str, window: Window, counts: counting.WindowCounts) -> list[StoredProfile]:
    """All profiles of a window, as they are kept."""
    whole = [StoredProfile(model, window, column, profile) for column, profile in counts.columns.items()]
    parts = [
        StoredProfile(model, window, column, profile, segment)
        for segment, columns in counts.segments.items()
        for column, profile in columns.items()
    ]
    return whole + parts


def _columns(specs: Mapping[str, ColumnSpec], profiles: Sequence[StoredProfile]) -> dict[str, Column]:
    by_column: dict[str, list[ColumnProfile]] = {}
    for kept in profiles:
        by_column.setdefault(kept.column, []).append(kept.profile)
    return {name: Column(name, spec, merge_all(by_column[name])) for name, spec in specs.items() if name in by_column}


def _cuts(config: Config, model: ModelConfig, span: Window) -> list[Window]:
    """The windows that the reference span falls into, the first and last cut to the span."""
    found = [
        replace(part, start=max(part.start, span.start), end=min(part.end, span.end))
        for part in windows.cuts(model.window, config.zone, start=span.start, end=span.end, anchor=model.start)
        if part.start < span.end and part.end > span.start
    ]
    if not found:
        return [span]
    if found[0].start > span.start:
        found.insert(0, Window(span.start, found[0].start))
    if found[-1].end < span.end:
        found.append(Window(found[-1].end, span.end))
    return found


def reference_labels(
    baseline: Baseline, model: ModelConfig, *, roles: Roles, source: Source, window: Window, now: datetime
) -> ScoreLabels | None:
    """Score × label counts that performance is compared with, as they are known at ``now``.

    For a rolling baseline the span is moved back by the label delay, so that its labels are mature.
    """
    span = baseline.window
    if isinstance(model.baseline, RollingBaseline) and model.labels is not None:
        start = window.start - model.labels.delay - model.baseline.rolling
        span = Window(start, start + model.baseline.rolling)
    if span is None or model.labels is None:
        return None
    return counting.count_labels(source.read_labels(model, roles, span, now=now))[None]


_reference_cache: dict[tuple[int, str, str], dict[str, Measure]] = {}


def reference_performance(
    store: Store, name: str, model: ModelConfig, *, roles: Roles, source: Source, window: Window, now: datetime
) -> dict[str, Measure] | None:
    """Performance on the reference rows; ``None`` where the baseline has no times or no labels.

    Read once a day at most while the labels of the reference rows are still landing, and once for good afterwards.
    """
    baseline = store.baseline(name)
    if baseline is None:
        return None
    final = baseline.window is not None and now >= baseline.window.end + (
        model.labels.delay if model.labels is not None else timedelta(0)
    )
    rolls = isinstance(model.baseline, RollingBaseline)
    key = (baseline.id, window.start.isoformat() if rolls else "", "final" if final else now.date().isoformat())
    if key not in _reference_cache:
        counts = reference_labels(baseline, model, roles=roles, source=source, window=window, now=now)
        if counts is None or counts.n_labelled < model.performance.min_labels:
            return None
        if len(_reference_cache) > 256:
            _reference_cache.clear()
        _reference_cache[key] = performance(counts, metrics=model.performance.metrics, beta=model.performance.beta)
    return _reference_cache[key]


def known_segments(baseline: Baseline | None) -> dict[str, list[str]]:
    """The segment values that have rows of their own."""
    return {} if baseline is None else dict(baseline.detail.get("segments", {}))


def is_readable(name: str, roles: Roles) -> bool:
    """Whether a column of the baseline is still there to be read, with the kind it had."""
    return name in column_kinds(roles)


def _roles_dict(roles: Roles) -> dict[str, Any]:
    return {
        "features": roles.features,
        "left_out": roles.left_out,
        "guessed": roles.guessed,
        "score": roles.score,
        "decision": roles.decision,
        "label": roles.label,
        "segments": list(roles.segments),
    }
