"""The frozen artefact that windows are compared with: built once from the reference rows, then only read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from detectors.change import History, Watched
from detectors.effective_size import MIN_WINDOWS
from detectors.profiles import (
    CategoricalSpec,
    Column,
    ColumnProfile,
    ColumnSpec,
    NumericProfile,
    NumericSpec,
    kept_edges,
    merge_all,
    thin,
)
from monitor import counting, entities, joint, passes, windows
from monitor.config import Config, ModelConfig, RangeBaseline, RollingBaseline
from monitor.models import DECISION, SCORE, Baseline, Roles, StoredProfile, Window
from monitor.normal import MAX_WANDER, SEASON_WORDS, UNDATED, Normal, counts_of, is_excluded, normal, phases
from monitor.sources import InputStream, Source
from monitor.store import Store


class NoBaselineError(Exception):
    """There is not enough reference data yet; the message says what is missing."""


@dataclass(frozen=True)
class Reference:
    """What one window is compared with: the baseline's edges, and the counts that hold for that window.

    ``columns`` are all rows; ``segments`` maps ``"column=value"`` to the same for its rows.  ``n_rows`` counts the
    reference rows.  ``other_bins`` says how many windows of a rolling baseline are left out, as they were counted over
    other bins, and of how many.
    """

    baseline: Baseline
    columns: Mapping[str, Column]
    segments: Mapping[str, Mapping[str, ColumnProfile]]
    n_rows: int
    other_bins: tuple[int, int] = (0, 0)


def baseline_hash(model: ModelConfig, roles: Roles) -> str:
    """Identify all that makes two series of results comparable: where the bins come from and how they are cut.

    Thresholds and destinations are not part of it: changing them starts no new series.  Nor are the columns that
    the table happens to have: one that appears or vanishes is a finding against the baseline, not a new baseline.
    """
    told = _counted(model, roles) | {"baseline": model.baseline.model_dump(mode="json", by_alias=True)}
    return _hash(told)


def counting_hash(model: ModelConfig, roles: Roles) -> str:
    """Identify what is counted in a window: which rows and columns, and how edges are cut, wherever the edges lie."""
    return _hash(_counted(model, roles))


def _counted(model: ModelConfig, roles: Roles) -> dict[str, Any]:
    told: dict[str, Any] = {
        "relation": [model.table, model.query, model.where],
        "bins": model.drift.bins,
        "max_categories": model.features.max_categories,
        "features": model.features.model_dump(mode="json", by_alias=True, exclude={"importance", "groups"}),
        "score": [roles.score, roles.decision, model.threshold],
        "segments": [sorted(roles.segments), model.max_segments],
        "window": model.window,
    }
    if roles.champion is not None:
        told["champion"] = roles.champion
    if model.entity:
        told["entity"] = model.entity
    return told


def _hash(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


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
    cut = [part for part in cut if not is_excluded(model, part, config.zone)]

    def rows_of(part: Window | None) -> InputStream:
        if span is None:
            return source.read_relation(model, roles, now=now)
        return source.read_inputs(model, roles, part, now=now)

    kinds = column_kinds(model, roles)
    edges = {SCORE: [model.threshold]} if model.threshold is not None else {}
    whole = cut if len(cut) > 1 and _has_exclusions(model) else [span]
    specs, n_rows = passes.learn_specs(
        (rows_of(part) for part in whole),
        kinds,
        bins=model.drift.bins,
        max_categories=model.features.max_categories,
        decision_edges=edges,
    )
    if n_rows < model.min_rows:
        raise NoBaselineError(
            f"the baseline holds {n_rows} rows ({describe(model, span)}); min_rows is {model.min_rows}"
        )
    segments = segment_values(specs, roles, model)
    profiles: list[StoredProfile] = []
    worth: dict[str, float] = {}
    for part in cut:
        counts, together, groups = passes.count(
            rows_of(part),
            specs,
            segments=segments,
            together=joint.columns_of(specs, model),
            entities=bool(model.entity),
        )
        worth |= entities.effects(groups)
        if counts.n_rows:
            profiles += [*stored_profiles(name, part, counts), *joint.stored(name, part, together)]
    columns = _columns(specs, [p for p in profiles if p.segment is None])
    detail = {
        "roles": _roles_dict(roles),
        "segments": segments,
        "windows": len({p.window.start for p in profiles}),
        "entity_effects": worth,
        "counted": counting_hash(model, roles),
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
    store.save_profiles(small(profiles, columns), baseline_id=baseline.id)
    return baseline


def reference(baseline: Baseline, config: Config, *, store: Store, window: Window) -> Reference:
    """The counts that one window is compared with, and how far they wander without change.

    A rolling baseline is merged from stored profiles; where the baseline's own windows are many enough, columns with
    seasons are matched to the windows of the same phase.
    """
    model = config.models[baseline.model]
    span = baseline.window if baseline.window is not None else UNDATED
    if isinstance(model.baseline, RollingBaseline):
        span = reference_span(model, window) or span
    known = normal(baseline, config, store=store, span=span, window=window)
    columns, segments = _watched(baseline, config, known, window=window)
    n_recent = min(_n_recent(model, baseline.features, known), RECENT_BYTES // max(1, _held(baseline)))
    if n_recent:
        recent = _recent(known, store=store, window=window, n_windows=n_recent)
        columns = _with_recent(columns, recent, known, config=config)
    n_rows = max((column.reference.n for column in columns.values()), default=0)
    return Reference(baseline, columns, segments, n_rows, (known.n_other, known.n_spans))


FEW_ROWS = 200.0
"""Windows with usually fewer rows than this over the smallest PSI limit are judged together with those before, too."""
RECENT_BYTES = 1 << 30
"""Counts of the windows before one that are held at most; very wide models look back less far for it."""


def knows_wander(column: Column) -> bool:
    """Whether enough windows show how far a column wanders; else an entity key says what its rows are worth."""
    history = getattr(column, "history", None)
    return history is not None and len(history) >= MIN_WINDOWS


def _n_recent(model: ModelConfig, features: Iterable[str], known: Normal) -> int:
    """How many windows before one are judged together with it at most: 0 where one usually holds enough rows.

    Enough is what is likely to show a PSI of the smallest limit of any feature.  Of a rolling baseline, in which they
    are themselves, half is left to compare them with.
    """
    limits = [alert.get("psi", warn.get("psi")) for warn, alert in map(model.drift.limits, features)]
    enough = FEW_ROWS / max(1e-4, min((limit for limit in limits if limit is not None), default=math.inf))
    if not 0 < known.usual_rows < enough:
        return 0
    most = MAX_WANDER
    if isinstance(model.baseline, RollingBaseline):
        most = min(most, max((len(spans) for spans in known.spans.values()), default=0) // 2)
    return min(most, math.ceil(2 * enough / max(1.0, known.usual_rows)))


def _held(baseline: Baseline) -> int:
    """Bytes of the counts of all columns of one window."""
    return sum(16 * len(spec.edges) for spec in baseline.specs().values() if isinstance(spec, NumericSpec))


def _watched(
    baseline: Baseline, config: Config, known: Normal, *, window: Window
) -> tuple[dict[str, Watched], dict[str, dict[str, ColumnProfile]]]:
    """Each column with the reference that holds for this window; and each segment's."""
    model = config.models[baseline.model]
    now = phases(model.window, [window], config.zone)
    same = known.of_phases({name: [int(now[its.season][0])] for name, its in known.seasons.items()})
    segmented: dict[str, dict[str, History]] = {}
    for (name, segment), its_own in known.histories.items():
        if segment is not None:
            segmented.setdefault(name, {})[segment] = its_own
    columns: dict[str, Watched] = {}
    for name, column in baseline.columns.items():
        n_kept, season = len(known.spans.get(name, ())), ""
        reference = known.sums.get((name, None), column.reference)
        its = known.seasons.get(name)
        if its is not None and (name, int(now[its.season][0])) in same:
            (reference, n_kept), season = same[name, int(now[its.season][0])], SEASON_WORDS[its.season]
        history = known.histories.get((name, None))
        if history is not None and history.groups is not None and not season:
            history = replace(history, groups=None)
        columns[name] = Watched(
            name,
            column.spec,
            reference,
            history,
            _reference_windows(reference, n_kept, known.mean_rows.get(name)),
            season,
            (),
            known.n_columns,
            segmented.get(name, {}),
            # A fault that lasts a day fills windows of a day, and is confirmed by the next one.
            same_week=known.of_week(name, int(now["week"][0])) if {"day", "week"} <= now.keys() else (),
        )
    segments: dict[str, dict[str, ColumnProfile]] = {}
    for (name, segment), sums in known.sums.items():
        if segment is not None:
            segments.setdefault(segment, {})[name] = sums
    return columns, segments


def _reference_windows(reference: ColumnProfile, n_kept: int, mean_rows: float | None) -> float:
    """Windows that the reference is worth; a table counts as as many as its rows would fill."""
    if mean_rows is None:
        return float(max(1, n_kept))
    return max(1.0, reference.n / max(1.0, mean_rows))


def _with_recent(
    columns: Mapping[str, Watched], recent: Mapping[str, Sequence[StoredProfile]], known: Normal, *, config: Config
) -> dict[str, Watched]:
    """The columns with their windows just before, and with a season what each of them is compared with.

    With a rolling baseline they are compared with the windows before them; seasonal columns have too few of those.
    """
    model = config.models[known.stored.baseline.model]
    if isinstance(model.baseline, RollingBaseline):
        return {name: _with_recent_of_rolling(column, recent.get(name, ()), known) for name, column in columns.items()}
    its = {
        name: phases(model.window, [p.window for p in recent.get(name, ())], config.zone).get(
            known.seasons[name].season, ()
        )
        for name, column in columns.items()
        if column.season
    }
    same = known.of_phases({name: [int(phase) for phase in told] for name, told in its.items()})
    found = {}
    for name, column in columns.items():
        kept = recent.get(name, ())
        if not column.season:
            found[name] = replace(column, recent=tuple(counts_of(p) for p in kept))
            continue
        pairs: list[tuple[ColumnProfile, ColumnProfile]] = []
        for p, phase in zip(reversed(kept), reversed(its[name]), strict=True):
            if (name, int(phase)) not in same:  # what is before this window cannot be held against anything
                break
            pairs.insert(0, (counts_of(p), same[name, int(phase)][0]))
        recents, references = tuple(c for c, _ in pairs), tuple(r for _, r in pairs)
        found[name] = replace(column, recent=recents, recent_references=references)
    return found


def _with_recent_of_rolling(column: Watched, recent: Sequence[StoredProfile], known: Normal) -> Watched:
    if column.season or not recent:
        return column
    before = known.before(column.name, recent[0].window)
    if len(before) < MIN_WINDOWS:
        return column
    return replace(column, recent=tuple(counts_of(p) for p in recent), before_recent=before)


def _recent(known: Normal, *, store: Store, window: Window, n_windows: int) -> dict[str, list[StoredProfile]]:
    """The windows just before this one, after the baseline."""
    baseline = known.stored.baseline
    start = max(window.start - window.length * n_windows, baseline.window.end if baseline.window else UNDATED.end)
    if start >= window.start:
        return {}
    spans = store.profiled(baseline.model, start=start, end=window.start)
    found: dict[str, list[StoredProfile]] = {}
    for (name, _), kept in known.stored.columns(spans, names=baseline.columns):
        found[name] = kept
    return found


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


def column_kinds(model: ModelConfig, roles: Roles) -> dict[str, str]:
    """Every column that is counted → ``"numeric"`` or ``"categorical"``; score, decision and segments included.

    Where no column holds the decision it is that of the threshold.
    """
    kinds = dict(roles.features)
    kinds |= {segment: "categorical" for segment in roles.segments if segment not in kinds}
    if roles.score is not None:
        kinds[SCORE] = "numeric"
    if roles.decision is not None or decides_by_threshold(model, roles):
        kinds[DECISION] = "categorical"
    return kinds


def decides_by_threshold(model: ModelConfig, roles: Roles) -> bool:
    binary = model.labels is None or model.labels.task == "binary"
    return binary and roles.score is not None and roles.decision is None and model.threshold is not None


def segment_values(specs: Mapping[str, ColumnSpec], roles: Roles, model: ModelConfig) -> dict[str, list[str]]:
    """The heaviest values of each segment column in the reference rows, at most ``max_segments``."""
    known: dict[str, list[str]] = {}
    for column in roles.segments:
        spec = specs.get(column)
        if isinstance(spec, CategoricalSpec):
            known[column] = list(spec.categories[: model.max_segments])
    return known


def stored_profiles(
    model: str, window: Window, counts: counting.WindowCounts, columns: Mapping[str, Column] | None = None
) -> list[StoredProfile]:
    """All profiles of a window; over the ``columns`` of a baseline, as they are kept (see :func:`small`)."""
    whole = [StoredProfile(model, window, column, profile) for column, profile in counts.columns.items()]
    parts = [
        StoredProfile(model, window, column, profile, segment)
        for segment, by_column in counts.segments.items()
        for column, profile in by_column.items()
    ]
    return small([*whole, *parts], columns or {})


MANY_EDGES = 3000
"""A profile over more edges than this is thinned for the store: it would take more than 4 KB."""
KEPT_EDGES = 900


def small(profiles: Sequence[StoredProfile], columns: Mapping[str, Column]) -> list[StoredProfile]:
    """The same profiles; those over more than ``MANY_EDGES`` edges are exact at about ``KEPT_EDGES`` of them only."""
    kept = {
        name: kept_edges(column.spec, column.reference, max_edges=KEPT_EDGES)
        for name, column in columns.items()
        if isinstance(column.spec, NumericSpec)
        and isinstance(column.reference, NumericProfile)
        and len(column.spec.edges) > MANY_EDGES
    }
    return [
        replace(each, profile=thin(each.profile, kept[each.column]))
        if each.column in kept and isinstance(each.profile, NumericProfile)
        else each
        for each in profiles
    ]


def _columns(specs: Mapping[str, ColumnSpec], profiles: Sequence[StoredProfile]) -> dict[str, Column]:
    by_column: dict[str, list[ColumnProfile]] = {}
    for kept in profiles:
        if kept.column in specs:
            by_column.setdefault(kept.column, []).append(counts_of(kept))
    return {name: Column(name, spec, merge_all(by_column[name])) for name, spec in specs.items() if name in by_column}


def _has_exclusions(model: ModelConfig) -> bool:
    return isinstance(model.baseline, RollingBaseline | RangeBaseline) and bool(model.baseline.exclude)


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


def known_segments(baseline: Baseline | None) -> dict[str, list[str]]:
    """The segment values that have rows of their own."""
    return {} if baseline is None else dict(baseline.detail.get("segments", {}))


def named_segments(baseline: Baseline | None) -> list[str]:
    """The same, each as ``column=value``."""
    return [f"{column}={value}" for column, values in known_segments(baseline).items() for value in values]


def is_readable(name: str, model: ModelConfig, roles: Roles) -> bool:
    """Whether a column of the baseline is still there to be read, with the kind it had."""
    return name in column_kinds(model, roles)


def _roles_dict(roles: Roles) -> dict[str, Any]:
    return {
        "features": roles.features,
        "left_out": roles.left_out,
        "guessed": roles.guessed,
        "score": roles.score,
        "decision": roles.decision,
        "label": roles.label,
        "segments": list(roles.segments),
        "champion": roles.champion,
    }
