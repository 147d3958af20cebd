"""The frozen artefact that windows are compared with: built once from the reference rows, then only read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

import numpy as np

from detectors.change import History, Watched, distances, fits, history_of
from detectors.effective_size import MIN_WINDOWS
from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    Column,
    ColumnProfile,
    ColumnSpec,
    IntArray,
    NumericProfile,
    NumericSpec,
    kept_edges,
    merge_all,
    thin,
)
from detectors.seasonal import MIN_CYCLES, choose
from monitor import counting, entities, joint, passes, windows
from monitor.budget import effective_tests
from monitor.config import Config, ModelConfig, RangeBaseline, RollingBaseline
from monitor.models import CYCLES, DECISION, SCORE, Baseline, Check, Roles, StoredProfile, Verdict, Window
from monitor.sources import InputStream, Source
from monitor.store import ALL, Store

UNDATED = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC))
"""The window under which the profiles of a baseline without times (a table, a file) are kept."""


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

    kinds = column_kinds(roles)
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
    kept = _normal(baseline, config, store=store, span=span, window=window)
    columns, segments = _watched(baseline, config, kept, window=window)
    n_recent = _n_recent(model, baseline.features, kept)
    if n_recent:
        recent = _recent(baseline, store=store, window=window, n_windows=n_recent)
        columns = {
            name: _with_recent(column, recent.get(name, ()), kept, config=config, model=baseline.model)
            for name, column in columns.items()
        }
    n_rows = max((column.reference.n for column in columns.values()), default=0)
    return Reference(baseline, columns, segments, n_rows, describe(model, span if span != UNDATED else None))


Key = tuple[str, str | None]
"""``(column, segment)``"""


@dataclass(frozen=True, eq=False)
class Normal:
    """The windows without change that a model's windows are compared with, by column and segment.

    Parameters
    ----------
    profiles
        What is compared with, oldest first.
    wander
        What shows how far a column wanders; other windows than ``profiles`` where the baseline is a table.
    usual_rows
        Median rows of a window.
    weeks
        The time of the week of each of a column's windows, where its season is looked for and is not the week.
    """

    profiles: Mapping[Key, Sequence[StoredProfile]]
    wander: Mapping[Key, Sequence[StoredProfile]]
    histories: dict[Key, History]
    seasons: dict[str, tuple[str, IntArray]]
    n_columns: float | None
    usual_rows: float = 0.0
    weeks: dict[str, IntArray] = field(default_factory=dict)
    merged: dict[tuple[str, int], tuple[ColumnProfile, int]] = field(default_factory=dict)

    def of_phase(self, column: str, phase: int) -> tuple[ColumnProfile, int] | None:
        """The rows of a column's windows of one phase, and how many windows; ``None`` where they are too few."""
        if (column, phase) not in self.merged:
            _, phases_ = self.seasons[column]
            kept = self.profiles[column, None]
            same = [_counts(p) for p, its in zip(kept, phases_, strict=True) if its == phase]
            if len(same) < MIN_CYCLES:
                return None
            self.merged[column, phase] = merge_all(same), len(same)
        return self.merged[column, phase]

    def of_week(self, column: str, phase: int) -> tuple[ColumnProfile, ...]:
        """A column's windows of one time of the week, where it is not matched to them; none where they are too few."""
        if column not in self.weeks:
            return ()
        kept = self.profiles[column, None]
        same = tuple(_counts(kept[int(place)]) for place in np.flatnonzero(self.weeks[column] == phase))
        return same if len(same) >= MIN_CYCLES else ()


_normal_cache: WeakKeyDictionary[Store, dict[tuple[object, ...], Normal]] = WeakKeyDictionary()
"""What was made of a frozen baseline is the same for each window."""

MAX_WANDER = 60
"""Windows of production, at most, that show how far columns wander where the baseline has no windows of its own."""
FEW_ROWS = 200.0
"""Windows with usually fewer rows than this over the smallest PSI limit are judged together with those before, too."""


def _normal(baseline: Baseline, config: Config, *, store: Store, span: Window, window: Window) -> Normal:
    model = config.models[baseline.model]
    key = (baseline.id, baseline.spec_hash, baseline.created_at, span, model.window, config.timezone)
    cache = _normal_cache.setdefault(store, {})
    if key in cache:
        return cache[key]
    kept = store.profiles(baseline.model, start=span.start, end=span.end, segment=ALL)
    if isinstance(model.baseline, RollingBaseline) and model.baseline.exclude_alerting:
        bad = alerting_windows(store, baseline.model, span)
        kept = [p for p in kept if p.window.start not in bad] or kept
    kept = [p for p in kept if not is_excluded(model, p.window, config.zone)] or kept
    profiles = _by_key(baseline, kept)
    frozen = not isinstance(model.baseline, RollingBaseline)
    n_windows = len({p.window.start for p in kept})
    wander = profiles
    if n_windows < MIN_WINDOWS and frozen:
        wander = _by_key(baseline, _quiet_windows(baseline, store=store, window=window))
    found = _made_of(baseline, config, profiles, wander)
    if frozen and n_windows >= MIN_WINDOWS:
        if len(cache) > 8:
            cache.clear()
        cache[key] = found
    return found


def _made_of(
    baseline: Baseline,
    config: Config,
    profiles: Mapping[Key, Sequence[StoredProfile]],
    wander: Mapping[Key, Sequence[StoredProfile]],
) -> Normal:
    model = config.models[baseline.model]
    histories: dict[Key, History] = {}
    seasons: dict[str, tuple[str, IntArray]] = {}
    weeks: dict[str, IntArray] = {}
    for (name, segment), kept in sorted(wander.items(), key=lambda item: (item[0][0], item[0][1] is not None)):
        history = history_of(baseline.columns[name].spec, [_counts(p) for p in kept])
        if segment is None and wander is profiles:
            known = phases(model.window, [p.window for p in kept], config.zone)
            season = _season(model, history, known)
            if season is not None:
                seasons[name] = (season, known[season])
            if season != "week" and "week" in known and _looks_for_seasons(model):
                weeks[name] = known["week"]
        if name in seasons and segment is None:
            history = replace(history, groups=seasons[name][1])
        histories[name, segment] = history
    rows = [np.mean([_counts(p).n for p in kept]) for (_, segment), kept in wander.items() if segment is None]
    usual = float(np.median(rows)) if rows else 0.0
    features = [histories[name, None] for name in baseline.features if (name, None) in histories]
    return Normal(
        profiles,
        wander,
        histories,
        seasons,
        effective_tests([distances(history) for history in features]) if features else None,
        usual,
        weeks,
    )


def knows_wander(column: Column) -> bool:
    """Whether enough windows show how far a column wanders; else an entity key says what its rows are worth."""
    history = getattr(column, "history", None)
    return history is not None and len(history) >= MIN_WINDOWS


def _n_recent(model: ModelConfig, features: Iterable[str], normal: Normal) -> int:
    """How many windows before one are judged together with it at most: 0 where one usually holds enough rows.

    Enough is what is likely to show a PSI of the smallest limit of any feature.  Of a rolling baseline, in which they
    are themselves, half is left to compare them with.
    """
    limits = [alert.get("psi", warn.get("psi")) for warn, alert in map(model.drift.limits, features)]
    enough = FEW_ROWS / max(1e-4, min((limit for limit in limits if limit is not None), default=math.inf))
    if not 0 < normal.usual_rows < enough:
        return 0
    most = MAX_WANDER
    if isinstance(model.baseline, RollingBaseline):
        most = min(most, max((len(kept) for kept in normal.profiles.values()), default=0) // 2)
    return min(most, math.ceil(2 * enough / max(1.0, normal.usual_rows)))


def _watched(
    baseline: Baseline, config: Config, normal: Normal, *, window: Window
) -> tuple[dict[str, Watched], dict[str, dict[str, ColumnProfile]]]:
    """Each column with the reference that holds for this window; and each segment's."""
    model = config.models[baseline.model]
    rolling = isinstance(model.baseline, RollingBaseline)
    now = phases(model.window, [window], config.zone)
    columns: dict[str, Watched] = {}
    for name, column in baseline.columns.items():
        kept, reference, season = normal.profiles.get((name, None), ()), column.reference, ""
        n_kept = len(kept)
        if name in normal.seasons:
            chosen, _ = normal.seasons[name]
            same = normal.of_phase(name, int(now[chosen][0]))
            if same is not None:
                (reference, n_kept), season = same, SEASON_WORDS[chosen]
        if kept and rolling and not season:
            reference = merge_all([_counts(p) for p in kept])
        history = normal.histories.get((name, None))
        if history is not None and history.groups is not None and not season:
            history = replace(history, groups=None)
        columns[name] = Watched(
            name,
            column.spec,
            reference,
            history,
            _reference_windows(reference, n_kept, normal.wander.get((name, None), ()), normal),
            season,
            (),
            normal.n_columns,
            {segment: h for (other, segment), h in normal.histories.items() if other == name and segment is not None},
            same_week=normal.of_week(name, int(now["week"][0])) if "week" in now else (),
        )
    segments: dict[str, dict[str, ColumnProfile]] = {}
    for (name, segment), kept in normal.profiles.items():
        if segment is not None:
            segments.setdefault(segment, {})[name] = merge_all([_counts(p) for p in kept])
    return columns, segments


def _reference_windows(reference: ColumnProfile, n_kept: int, wander: Sequence[StoredProfile], normal: Normal) -> float:
    """Windows that the reference is worth; a table counts as as many as its rows would fill."""
    if normal.wander is normal.profiles or not wander:
        return float(max(1, n_kept))
    usual = sum(_counts(p).n for p in wander) / len(wander)
    return max(1.0, reference.n / max(1.0, usual))


def _quiet_windows(baseline: Baseline, *, store: Store, window: Window) -> list[StoredProfile]:
    """Windows of production before this one that did not alert: how far columns wander, where no baseline tells."""
    span = Window(window.start - window.length * MAX_WANDER, window.start)
    bad = alerting_windows(store, baseline.model, span)
    kept = store.profiles(baseline.model, start=span.start, end=span.end, segment=ALL)
    return [p for p in kept if p.window.start not in bad and p.window != UNDATED]


def _with_recent(
    column: Watched, recent: Sequence[StoredProfile], normal: Normal, *, config: Config, model: str
) -> Watched:
    """The column with its windows just before, and with a season what each of them is compared with.

    With a rolling baseline they are compared with the windows before them; seasonal columns have too few of those.
    """
    if isinstance(config.models[model].baseline, RollingBaseline):
        return _with_recent_of_rolling(column, recent, normal)
    if not column.season:
        return replace(column, recent=tuple(_counts(p) for p in recent))
    chosen, _ = normal.seasons[column.name]
    its = phases(config.models[model].window, [p.window for p in recent], config.zone).get(chosen, ())
    known: list[tuple[ColumnProfile, ColumnProfile]] = []
    for p, phase in zip(reversed(recent), reversed(its), strict=True):
        found = normal.of_phase(column.name, int(phase))
        if found is None:  # what is before this window cannot be held against anything
            break
        known.insert(0, (_counts(p), found[0]))
    return replace(column, recent=tuple(c for c, _ in known), recent_references=tuple(r for _, r in known))


def _with_recent_of_rolling(column: Watched, recent: Sequence[StoredProfile], normal: Normal) -> Watched:
    if column.season or not recent:
        return column
    kept = normal.profiles.get((column.name, None), ())
    before = tuple(_counts(p) for p in kept if p.window.start < recent[0].window.start)
    if len(before) < MIN_WINDOWS:
        return column
    return replace(column, recent=tuple(_counts(p) for p in recent), before_recent=before)


def _recent(baseline: Baseline, *, store: Store, window: Window, n_windows: int) -> dict[str, list[StoredProfile]]:
    """The windows just before this one, after the baseline."""
    start = max(window.start - window.length * n_windows, baseline.window.end if baseline.window else UNDATED.end)
    if start >= window.start:
        return {}
    found: dict[str, list[StoredProfile]] = {}
    for p in store.profiles(baseline.model, start=start, end=window.start, columns=list(baseline.columns)):
        if fits(baseline.columns[p.column].spec, p.profile):
            found.setdefault(p.column, []).append(p)
    return found


def _by_key(baseline: Baseline, kept: Iterable[StoredProfile]) -> dict[Key, list[StoredProfile]]:
    found: dict[Key, list[StoredProfile]] = {}
    for p in kept:
        if p.column in baseline.columns and fits(baseline.columns[p.column].spec, p.profile):
            found.setdefault((p.column, p.segment), []).append(p)
    return found


def _counts(kept: StoredProfile) -> ColumnProfile:
    if not isinstance(kept.profile, NumericProfile | CategoricalProfile):
        raise TypeError("labels and the like are not counts of a column")
    return kept.profile


# --- seasons -------------------------------------------------------------------------------------

SEASON_WORDS = dict(zip(("day", "week"), CYCLES, strict=True))


def phases(length: str, spans: Sequence[Window], zone: ZoneInfo) -> dict[str, IntArray]:
    """The phase of each window in the seasons that windows of this length can have."""
    local = [span.start.astimezone(zone) for span in spans]
    day = np.array([moment.weekday() for moment in local], dtype=np.int64)
    minute = np.array([moment.hour * 60 + moment.minute for moment in local], dtype=np.int64)
    usual = np.median([span.length.total_seconds() for span in spans]) if spans else 0
    if usual > 1.5 * 86400 or len(length.split()) > 1:
        return {}
    if usual > 0.75 * 86400:
        return {"week": day}
    return {"day": minute, "week": day * 1440 + minute}


def _season(model: ModelConfig, history: History, known: Mapping[str, IntArray]) -> str | None:
    """The season by which a column is matched, of those that its windows can have: as configured, or chosen by them."""
    wanted = model.baseline.season if isinstance(model.baseline, RollingBaseline | RangeBaseline) else "none"
    if wanted == "none" or not known or not len(history):
        return None
    if wanted != "auto":
        return wanted if wanted in known else None
    return choose(history.bins, known)


def _looks_for_seasons(model: ModelConfig) -> bool:
    """Whether the windows themselves choose the season."""
    return isinstance(model.baseline, RollingBaseline | RangeBaseline) and model.baseline.season == "auto"


def is_excluded(model: ModelConfig, window: Window, zone: ZoneInfo) -> bool:
    """Whether a window touches a day that the config leaves out of the normal."""
    if not isinstance(model.baseline, RollingBaseline | RangeBaseline) or not model.baseline.exclude:
        return False
    first = window.start.astimezone(zone).date()
    last = (window.end - timedelta(microseconds=1)).astimezone(zone).date()
    return any(first <= day <= last for day in model.baseline.exclude)


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
            by_column.setdefault(kept.column, []).append(_counts(kept))
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
        "champion": roles.champion,
    }
