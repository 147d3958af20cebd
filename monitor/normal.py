"""The windows without change that a window is compared with: what they add up to, and how far they wander.

Their counts are read from the store some columns at a time, and what is kept of them is small: the rows in the bins of
each window, and sums.  So memory grows with the columns of a model, and not with its columns times its windows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TypeVar, overload
from weakref import WeakKeyDictionary, proxy
from zoneinfo import ZoneInfo

import numpy as np

from detectors.change import History, distances, fits, history_of
from detectors.effective_size import MIN_WINDOWS
from detectors.profiles import (
    CategoricalProfile,
    ColumnProfile,
    ColumnSpec,
    IntArray,
    NumericProfile,
    NumericSpec,
    merge_all,
    spec_to_bytes,
)
from detectors.seasonal import MIN_CYCLES, choose
from monitor.budget import effective_tests
from monitor.config import Config, ModelConfig, RangeBaseline, RollingBaseline
from monitor.models import CYCLES, Baseline, Check, StoredProfile, Verdict, Window
from monitor.store import ALL, Store

UNDATED = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC))
"""The window under which the profiles of a baseline without times (a table, a file) are kept."""
MAX_WANDER = 60
"""Windows of production, at most, that show how far columns wander where the baseline has no windows of its own."""
AT_ONCE = 256 << 20
"""Bytes of counts, about, that are read at the same time: a few per cent of it as they are stored."""
SUMS_KEPT = 64 << 20
"""Bytes of sums of windows of one phase that are kept for windows to come."""

Key = tuple[str, str | None]
"""``(column, segment)``"""


class Stored:
    """The stored profiles that were counted over the bins of one baseline, some columns at a time."""

    def __init__(self, store: Store, baseline: Baseline) -> None:
        self.baseline = baseline
        self._store: Store = proxy(store)  # what is made of it is kept as long as the store is: see `normal`
        self._alike: dict[int, frozenset[str]] = {}

    def columns(
        self, spans: Collection[Window], *, names: Iterable[str] | None = None, other: set[Window] | None = None
    ) -> Iterator[tuple[Key, list[StoredProfile]]]:
        """Profiles of these windows by column and segment, oldest first; with ``names`` of these and of whole columns.

        ``other`` takes the windows of which something was counted over other bins, and is therefore left out.
        """
        wanted = frozenset(spans)
        if not wanted:
            return
        for group in self._at_once(self.baseline.columns if names is None else names, len(wanted)):
            segment = ALL if names is None else None
            for column in self._store.profiles_by_column(
                self.baseline.model, windows=wanted, columns=group, segment=segment
            ):
                found: dict[Key, list[StoredProfile]] = {}
                for p in column:
                    if self._has_bins(p):
                        found.setdefault((p.column, p.segment), []).append(p)
                    elif other is not None:
                        other.add(p.window)
                yield from found.items()

    def again(self, spans: Collection[Window], key: Key) -> list[ColumnProfile]:
        """Counts of one column and segment."""
        name, segment = key
        found = self._store.profiles_by_column(
            self.baseline.model, windows=frozenset(spans), columns=[name], segment=segment
        )
        return [counts_of(p) for kept in found for p in kept if self._has_bins(p)]

    def _at_once(self, columns: Iterable[str], n_windows: int) -> Iterator[list[str]]:
        segments = self.baseline.detail.get("segments", {})
        per_cell = 8 * n_windows * (1 + sum(len(values) for values in segments.values()))
        group: list[str] = []
        held = 0
        for name in columns:
            spec = self.baseline.columns[name].spec
            size = per_cell * (spec.n_cells if isinstance(spec, NumericSpec) else len(spec.categories))
            if group and held + size > AT_ONCE:
                yield group
                group, held = [], 0
            group.append(name)
            held += size
        if group:
            yield group

    def _has_bins(self, p: StoredProfile) -> bool:
        spec = self.baseline.columns[p.column].spec
        if not fits(spec, p.profile):
            return False
        number = p.baseline_id
        if number is None or number == self.baseline.id:
            return True
        if number not in self._alike:
            self._alike[number] = same_bins(self._store.baseline_by_id(number).specs(), self.baseline.specs())
        return p.column in self._alike[number]


def same_bins(theirs: Mapping[str, ColumnSpec], mine: Mapping[str, ColumnSpec]) -> frozenset[str]:
    """The columns whose cells lie in the same places."""
    both = theirs.keys() & mine.keys()
    return frozenset(name for name in both if spec_to_bytes(theirs[name]) == spec_to_bytes(mine[name]))


_Profile = TypeVar("_Profile", bound=ColumnProfile)


class _Again(Sequence[_Profile]):
    """Profiles that are read from the store when they are asked for, and not kept: few columns are asked."""

    def __init__(self, read: Callable[[], list[_Profile]], n: int) -> None:
        self._read, self._n = read, n

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[_Profile]:
        return iter(self._read())

    @overload
    def __getitem__(self, place: int) -> _Profile: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[_Profile]: ...

    def __getitem__(self, place: int | slice) -> _Profile | Sequence[_Profile]:
        return self._read()[place]


@dataclass(frozen=True, eq=False)
class Matched:
    """A season of a column, its windows, and the phase of each."""

    season: str
    spans: tuple[Window, ...]
    phases: IntArray

    def of(self, phase: int) -> list[Window]:
        return [span for span, its in zip(self.spans, self.phases, strict=True) if its == phase]


@dataclass(frozen=True, eq=False)
class Normal:
    """The windows without change that a model's windows are compared with, by column and segment.

    Parameters
    ----------
    sums
        All windows together: of segments, and under a rolling baseline of whole columns as well.
    spans
        The windows of a column, oldest first.
    seasons
        By which a column is matched.
    weeks
        The time of the week of a column's windows, where its season is looked for and is not the week.
    histories
        How far columns wander; of other windows than those of ``sums`` where the baseline is a table.
    mean_rows
        Mean rows of a column in these other windows.
    n_columns
        How many columns the baseline's are worth as tests.
    usual_rows
        Median rows of a window.
    n_other
        Windows of a rolling baseline that were, in part, counted over other bins and are left out.
    """

    stored: Stored
    sums: Mapping[Key, ColumnProfile]
    spans: Mapping[str, tuple[Window, ...]]
    histories: Mapping[Key, History]
    seasons: Mapping[str, Matched]
    weeks: Mapping[str, Matched]
    mean_rows: Mapping[str, float]
    n_columns: float | None
    usual_rows: float
    n_other: int
    n_spans: int
    _of_phase: dict[tuple[str, int], tuple[ColumnProfile, int]] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def of_phases(self, wanted: Mapping[str, Iterable[int]]) -> dict[tuple[str, int], tuple[ColumnProfile, int]]:
        """By column and phase: the rows of its windows, and how many windows; left out where they are too few."""
        found: dict[tuple[str, int], tuple[ColumnProfile, int]] = {}
        missing: dict[int, list[str]] = {}
        for name, phase in dict.fromkeys((name, phase) for name, its in wanted.items() for phase in its):
            known = self._of_phase.get((name, phase))
            if known is not None:
                found[name, phase] = known
            elif len(self.seasons[name].of(phase)) >= MIN_CYCLES:
                missing.setdefault(phase, []).append(name)
        for phase, names in missing.items():
            spans = {span for name in names for span in self.seasons[name].of(phase)}
            for (name, _), kept in self.stored.columns(spans, names=names):
                same = [counts_of(p) for p in kept]
                if len(same) >= MIN_CYCLES:
                    found[name, phase] = merge_all(same), len(same)
                    self._keep((name, phase), found[name, phase])
        return found

    def of_week(self, name: str, phase: int) -> Sequence[ColumnProfile]:
        """A column's windows of one time of the week, where it is not matched to them; none where they are too few."""
        spans = self.weeks[name].of(phase) if name in self.weeks else []
        if len(spans) < MIN_CYCLES:
            return ()
        return _Again(lambda: self.stored.again(spans, (name, None)), len(spans))

    def before(self, name: str, window: Window) -> Sequence[ColumnProfile]:
        """A column's windows that begin before this one."""
        spans = [span for span in self.spans.get(name, ()) if span.start < window.start]
        return _Again(lambda: self.stored.again(spans, (name, None)), len(spans))

    def _keep(self, key: tuple[str, int], sums: tuple[ColumnProfile, int]) -> None:
        """For the next window of this phase; the oldest sums make room."""
        with self._guard:
            self._of_phase[key] = sums
            held = sum(_size(profile) for profile, _ in self._of_phase.values()) if len(self._of_phase) % 64 == 0 else 0
            while held > SUMS_KEPT:
                held -= _size(self._of_phase.pop(next(iter(self._of_phase)))[0])


def _size(profile: ColumnProfile) -> int:
    return profile.cells.nbytes if isinstance(profile, NumericProfile) else profile.counts.nbytes


_kept: WeakKeyDictionary[Store, dict[tuple[object, ...], Normal]] = WeakKeyDictionary()
"""What was made of a frozen baseline is the same for each window."""


def normal(baseline: Baseline, config: Config, *, store: Store, span: Window, window: Window) -> Normal:
    """The windows of ``span`` that are fit to be compared with ``window``."""
    model = config.models[baseline.model]
    key = (baseline.id, baseline.spec_hash, baseline.created_at, span, model.window, config.timezone)
    cache = _kept.setdefault(store, {})
    if key in cache:
        return cache[key]
    spans = sorted(store.profiled(baseline.model, start=span.start, end=span.end))
    if isinstance(model.baseline, RollingBaseline) and model.baseline.exclude_alerting:
        bad = alerting_windows(store, baseline.model, span)
        spans = [each for each in spans if each.start not in bad] or spans
    spans = [each for each in spans if not is_excluded(model, each, config.zone)] or spans
    frozen = not isinstance(model.baseline, RollingBaseline)
    n_windows = len({each.start for each in spans})
    wander = _quiet_windows(baseline, store=store, window=window) if n_windows < MIN_WINDOWS and frozen else None
    found = _made_of(Stored(store, baseline), config, spans, wander)
    if frozen and n_windows >= MIN_WINDOWS:
        if len(cache) > 8:
            cache.clear()
        cache[key] = found
    return found


def _made_of(stored: Stored, config: Config, spans: Sequence[Window], wander: Sequence[Window] | None) -> Normal:
    """``wander`` are the windows that show how far columns wander; ``None`` where those of ``spans`` do."""
    baseline = stored.baseline
    model = config.models[baseline.model]
    rolling = isinstance(model.baseline, RollingBaseline)
    sums: dict[Key, ColumnProfile] = {}
    spans_of: dict[str, tuple[Window, ...]] = {}
    histories: dict[Key, History] = {}
    seasons: dict[str, Matched] = {}
    weeks: dict[str, Matched] = {}
    rows: dict[str, float] = {}
    other: set[Window] = set()
    phases_of = cache(lambda told: phases(model.window, told, config.zone))  # nearly all columns have the same windows

    def learn(key: Key, told: list[Window], counts: list[ColumnProfile]) -> None:
        name, segment = key
        history = history_of(baseline.columns[name].spec, counts)
        if history.windows:
            history = replace(history, windows=_Again(lambda: _numeric(stored.again(told, key)), len(told)))
        if segment is None:
            rows[name] = float(np.mean([each.n for each in counts]))
            its = phases_of(tuple(told)) if wander is None else {}
            season = _season(model, history, its)
            if season is not None:
                seasons[name] = Matched(season, tuple(told), its[season])
                history = replace(history, groups=its[season])
            if season != "week" and "week" in its and _looks_for_seasons(model):
                weeks[name] = Matched("week", tuple(told), its["week"])
        histories[key] = history

    for key, kept in stored.columns(spans, other=other):
        counts = [counts_of(p) for p in kept]
        if key[1] is None:
            spans_of[key[0]] = tuple(p.window for p in kept)
        if rolling or key[1] is not None:
            sums[key] = merge_all(counts)
        if wander is None:
            learn(key, [p.window for p in kept], counts)
    for key, kept in stored.columns(wander or ()):
        learn(key, [p.window for p in kept], [counts_of(p) for p in kept])
    features = [histories[name, None] for name in baseline.features if (name, None) in histories]
    return Normal(
        stored,
        sums,
        spans_of,
        histories,
        seasons,
        weeks,
        {} if wander is None else rows,
        effective_tests([distances(history) for history in features]) if features else None,
        float(np.median(list(rows.values()))) if rows else 0.0,
        len(other) if rolling else 0,
        len(spans),
    )


def _quiet_windows(baseline: Baseline, *, store: Store, window: Window) -> list[Window]:
    """Windows of production before this one that did not alert: how far columns wander, where no baseline tells."""
    span = Window(window.start - window.length * MAX_WANDER, window.start)
    bad = alerting_windows(store, baseline.model, span)
    there = sorted(store.profiled(baseline.model, start=span.start, end=span.end))
    return [each for each in there if each.start not in bad and each != UNDATED]


def _numeric(profiles: Iterable[ColumnProfile]) -> list[NumericProfile]:
    return [profile for profile in profiles if isinstance(profile, NumericProfile)]


def counts_of(kept: StoredProfile) -> ColumnProfile:
    """The counts of a column's values.

    Raises
    ------
    TypeError
        They are of something else, such as labels.
    """
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
