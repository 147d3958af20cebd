"""What would a config have paged?  Stored windows judged anew, as they were and with planted faults; no source is read.

The same functions judge here as in a run: :func:`monitor.run.judge_counts`, :func:`monitor.incidents.advance` and
:func:`monitor.grouping.group`.  What a changed config would need the source for (other bins, another window) is kept
as it is, and said.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar, cast
from zoneinfo import ZoneInfo

from detectors import planted
from detectors.calibration_drift import CalibrationBaseline
from detectors.class_counts import ClassCounts
from detectors.classification import Measure, performance
from detectors.effective_size import MIN_WINDOWS
from detectors.multivariate import Correlations
from detectors.profiles import CategoricalProfile, Column, ColumnProfile, NumericProfile, NumericSpec, merge_all
from detectors.regression import Errors
from detectors.score_labels import ScoreLabels
from monitor import (
    alerting,
    baselines,
    checks,
    grouping,
    incidents,
    joint,
    label_counting,
    label_reference,
    normal,
    outcomes,
    usual,
)
from monitor import calibration_drift as meaning
from monitor import labels as late
from monitor import performance as judging
from monitor import run as story
from monitor.config import IN_UNITS, Config, ModelConfig, RangeBaseline, parse_duration
from monitor.counting import WindowCounts
from monitor.incidents import SeriesKey
from monitor.label_tasks import column_of, label_name, views
from monitor.models import (
    Baseline,
    Check,
    Incident,
    IncidentState,
    Result,
    SeriesState,
    StoredProfile,
    Transition,
    Verdict,
    Window,
)
from monitor.store import ALL, Store
from monitor.store.results import Every
from monitor.thresholds import judge_performance, judge_rate

KINDS = ("shift", "scale", "nulls", "category", "flips")
_PLANT = re.compile(r"^(\w+):(.+):([-+]?\d+(?:\.\d+)?)(sd|%|x)?@([^@]+?)(?:\.\.([^@]+))?$")


class PlantError(ValueError):
    """A planted fault that cannot be read, or that the model has no place for."""


@dataclass(frozen=True)
class Plant:
    """A fault in the windows of ``[start, end)``: ``shift`` in ``sd``, ``scale`` by a factor, the others in shares."""

    kind: str
    target: str
    size: float
    start: datetime
    end: datetime | None
    text: str

    def holds(self, window: Window) -> bool:
        return window.start >= self.start and (self.end is None or window.start < self.end)


def parse_plant(text: str, zone: ZoneInfo) -> Plant:
    """Read ``shift:age:0.5sd@2026-03-01`` or ``nulls:plan:5%@2026-03-01..2026-03-08``.

    Raises
    ------
    PlantError
        Saying what was expected.
    """
    match = _PLANT.match(text)
    if match is None or match[1] not in KINDS:
        raise PlantError(
            f"expected KIND:FEATURE:SIZE@DATE with KIND one of {', '.join(KINDS)}, such as shift:age:0.5sd@2026-03-01, "
            f"scale:income:1.2x@…, nulls:plan:5%@…, category:plan:1%@… or flips:labels:10%@…; found {text!r}"
        )
    kind, target, number, unit, first, last = match.groups()
    wanted = {"shift": "sd", "scale": "x"}.get(kind, "%")
    if unit not in (wanted, None):
        raise PlantError(f"{text!r}: the size of {kind} is given in {wanted}, not in {unit}")
    size = float(number) / (100 if wanted == "%" and unit == "%" else 1)
    if wanted == "%" and not 0 < size <= 1:
        raise PlantError(f"{text!r}: a share lies between 0 % and 100 %")
    return Plant(kind, target, size, _moment(first, text, zone), _moment(last, text, zone) if last else None, text)


def _moment(word: str, text: str, zone: ZoneInfo) -> datetime:
    try:
        value = datetime.fromisoformat(word.strip())
    except ValueError:
        raise PlantError(f"{text!r}: expected a date or time after @, found {word!r}") from None
    return (value if value.tzinfo is not None else value.replace(tzinfo=zone)).astimezone(UTC)


# --- what is compared ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """One message that opens something, and what it is about."""

    window: Window
    incident: Incident

    def names(self) -> str:
        return ", ".join(self.incident.features) or self.incident.check.value


@dataclass(frozen=True)
class Found:
    """What became of one planted fault: the window of the first page about it, and how many windows that took.

    ``delay`` counts windows after the first planted one; ``None`` for a miss.
    """

    plant: Plant
    window: Window | None = None
    delay: int | None = None


@dataclass
class Outcome:
    """What one config does with one model's windows."""

    name: str
    pages: list[Page] = field(default_factory=list)
    follow_ups: int = 0
    alerting_windows: int = 0
    cannot_tell: int = 0
    n_windows: int = 0
    plants: list[Found] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recorded(store: Store, model: str, *, start: datetime, end: datetime) -> Outcome:
    """What the service did at the time: its incidents that opened in the range, roots only."""
    windows = {p.window for p in store.profiles(model, start=start, end=end, segment=None)}
    found = Outcome("recorded", n_windows=len(windows))
    for incident in reversed(store.incidents(model)):
        told = incident.detail.get("confirmed_window")
        opened = datetime.fromisoformat(told) if told else incident.opened_window
        window = next((w for w in windows if w.start == opened), None)
        if window is not None and grouping.is_follower(incident):
            found.follow_ups += 1
        elif window is not None:
            found.pages.append(Page(window, incident))
    return found


def backtest(
    store: Store, config: Config, name: str, *, label: str, start: datetime, end: datetime, plants: Sequence[Plant] = ()
) -> Outcome:
    """Judge the stored windows of ``[start, end)`` by ``config``: as they were, and once more for each planted fault.

    Raises
    ------
    PlantError
        A fault is planted into a column that the model does not have.
    LookupError
        Nothing is stored for the model: no baseline, or no windows.
    """
    baseline = store.baseline(name)
    if baseline is None:
        raise LookupError(f"{name}: there is no baseline yet; `monitor run` or `monitor backfill` makes one")
    memory = Memory.load(store, name, baseline, config.models[name], start=start, end=end)
    if not memory.judged(start, end):
        raise LookupError(f"{name}: no stored windows between {start:%Y-%m-%d} and {end:%Y-%m-%d}")
    baseline, notes = _under(baseline, config, memory)
    plain = Replay(config, name, baseline, memory, start=start, end=end)
    outcome = plain.run(label)
    outcome.notes += notes
    for plant in plants:
        _check(plant, baseline, memory, config.models[name])
        faulty = Replay(config, name, baseline, memory.with_plant(plant, baseline), start=start, end=end)
        faulty.run(label)
        outcome.plants.append(_found(plant, faulty, plain))
    return outcome


def _check(plant: Plant, baseline: Baseline, memory: Memory, model: ModelConfig) -> None:
    if plant.kind == "flips":
        if model.labels is not None and model.labels.task == "regression":
            raise PlantError(f"{plant.text!r}: labels that are numbers have no other side to be turned to")
        if not memory.has(_labels_column(model)):
            raise PlantError(f"{plant.text!r}: no labels are stored")
        return
    column = baseline.columns.get(plant.target)
    if column is None:
        raise PlantError(f"{plant.text!r}: the baseline has no feature {plant.target!r}")
    numeric = isinstance(column.spec, NumericSpec)
    if (plant.kind in ("shift", "scale") and not numeric) or (plant.kind == "category" and numeric):
        raise PlantError(
            f"{plant.text!r}: {plant.target} is {'numeric' if numeric else 'categorical'}, so that cannot be planted"
        )


def _found(plant: Plant, faulty: Replay, plain: Replay) -> Found:
    """The first news about the planted column that there would not have been without the plant."""
    before = set(plain.news)
    hits = [window for window, key in faulty.news if (window, key) not in before and _is_about(key, plant, window)]
    affected = [window for window in faulty.windows if plant.holds(window)]
    if not hits or not affected:
        return Found(plant)
    first = min(hits)
    return Found(plant, first, sum(window < first for window in affected))


def _is_about(key: SeriesKey, plant: Plant, window: Window) -> bool:
    check, feature, _ = key
    about = check is Check.PERFORMANCE if plant.kind == "flips" else feature == plant.target
    return about and window.end > plant.start


def _under(baseline: Baseline, config: Config, memory: Memory) -> tuple[Baseline, list[str]]:
    """The stored baseline as the config would have it, as far as stored windows can tell; and what they cannot."""
    model, notes = config.models[baseline.model], []
    span = model.baseline
    if isinstance(span, RangeBaseline):
        wanted = Window(span.from_.astimezone(UTC), span.to.astimezone(UTC))
        if wanted != baseline.window:
            columns = memory.merged(baseline, wanted)
            if columns:
                baseline = replace(baseline, window=wanted, columns=columns, id=-baseline.id)
                notes.append(f"baseline {wanted.start:%Y-%m-%d} … {wanted.end:%Y-%m-%d}: from stored windows, old bins")
            else:
                notes.append("the new baseline's windows are not stored: today's baseline is kept")
    if model.entity and int(baseline.detail.get("windows", 1)) < MIN_WINDOWS:
        notes.append(
            f"`entity` needs the rows: until there are {MIN_WINDOWS} windows, rows count as independent here, "
            "so that more pages are shown than there would be"
        )
    lengths = {window.length for window in memory.windows}
    if isinstance(model.window, str) and len(lengths) == 1:
        try:
            if parse_duration(model.window) not in lengths:
                notes.append("windows are kept as they are stored: another `window` needs the source")
        except ValueError:
            pass
    return baseline, notes


# --- stored windows, in memory ---------------------------------------------------------------------


class Memory:
    """The stored windows of one model, read once; answers as a :class:`Store` does, for the questions of a baseline."""

    def __init__(
        self,
        profiles: Iterable[StoredProfile],
        results: Iterable[Result],
        *,
        baseline_by_id: Callable[[int], Baseline] | None = None,
    ) -> None:
        self._baseline_by_id = baseline_by_id
        self._profiles = _by_window(profiles)
        self._columns: dict[str, list[StoredProfile]] = {}
        for p in (p for window in sorted(self._profiles) for p in self._profiles[window]):
            self._columns.setdefault(p.column, []).append(p)
        self._results = _by_window(results)
        self.windows = sorted(self._profiles)
        self._told = sorted(self._results)
        self._longest = max((w.length for w in (*self.windows, *self._told)), default=timedelta())

    @classmethod
    def load(
        cls, store: Store, name: str, baseline: Baseline, model: ModelConfig, *, start: datetime, end: datetime
    ) -> Memory:
        first = [start]
        if baseline.window is not None:
            first.append(baseline.window.start)
        lengths = [p.window.length for p in store.profiles(name, start=start, end=end, segment=None)]
        if lengths:
            first.append(start - max(lengths) * normal.MAX_WANDER)
        reach = getattr(model.baseline, "rolling", None)
        if reach is not None:
            first.append(start - reach)
        profiles = store.profiles(name, start=min(first), end=end, segment=ALL)
        if baseline.window is None:
            undated = normal.UNDATED
            profiles = [*store.profiles(name, start=undated.start, end=undated.end, segment=ALL), *profiles]
        results = store.results(name, start=min(first), end=end)
        return cls(profiles, results, baseline_by_id=store.baseline_by_id)

    def has(self, column: str) -> bool:
        return column in self._columns

    def judged(self, start: datetime, end: datetime) -> list[Window]:
        """Windows of the range that hold counts of columns."""
        return [w for w in self.windows if start <= w.start and w.end <= end]

    def merged(self, baseline: Baseline, span: Window) -> dict[str, Column]:
        found: dict[str, list[ColumnProfile]] = {}
        for p in self.profiles(baseline.model, start=span.start, end=span.end):
            if p.column in baseline.columns and isinstance(p.profile, NumericProfile | CategoricalProfile):
                found.setdefault(p.column, []).append(p.profile)
        if set(found) != set(baseline.columns):
            return {}
        return {name: baseline.columns[name].with_reference(merge_all(parts)) for name, parts in found.items()}

    def with_plant(self, plant: Plant, baseline: Baseline) -> Memory:
        """The same windows with a fault in them."""
        planted_ = [_planted(p, plant, baseline) for kept in self._profiles.values() for p in kept]
        told = [r for told in self._results.values() for r in told]
        return Memory(planted_, told, baseline_by_id=self._baseline_by_id)

    def copy(self) -> Memory:
        """The same windows, of which another replay may restate the results."""
        other = copy(self)
        other._results, other._told = dict(self._results), list(self._told)
        return other

    def of(self, window: Window) -> list[StoredProfile]:
        return self._profiles.get(window, [])

    def told(self, window: Window) -> list[Result]:
        return self._results.get(window, [])

    # The questions that monitor/baselines.py and monitor/normal.py ask of a store.

    def profiles(
        self,
        _model: str,
        *,
        start: datetime,
        end: datetime,
        columns: Sequence[str] | None = None,
        segment: str | Every | None = None,
    ) -> list[StoredProfile]:
        wanted = self.profiled(_model, start=start, end=end)
        kept = [p for window in sorted(wanted) for p in self._profiles[window]]
        kept = kept if columns is None else [p for p in kept if p.column in columns]
        return [p for p in kept if isinstance(segment, Every) or p.segment == segment]

    def profiles_by_column(
        self,
        _model: str,
        *,
        windows: Collection[Window],
        columns: Sequence[str],
        segment: str | Every | None = None,
    ) -> Iterator[list[StoredProfile]]:
        for name in columns:
            kept = [p for p in self._columns.get(name, ()) if p.window in windows]
            yield [p for p in kept if isinstance(segment, Every) or p.segment == segment]

    def baseline_by_id(self, number: int) -> Baseline:
        if self._baseline_by_id is None:
            raise LookupError(f"there is no baseline number {number}")
        return self._baseline_by_id(number)

    def profiled(self, _model: str, *, start: datetime, end: datetime) -> set[Window]:
        return {window for window in _between(self.windows, start, end) if window.end <= end}

    def results(
        self,
        _model: str,
        *,
        check: Check | None = None,
        metric: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[Result]:
        first = None if start is None else start - self._longest
        return [
            r
            for window in _between(self._told, first, end)
            if start is None or window.end > start
            for r in self._results[window]
            if (check is None or r.check is check) and (metric is None or r.metric == metric)
        ]

    def restated(self, window: Window, results: Sequence[Result]) -> None:
        """Let the replay's results take the place of the stored ones of a window."""
        if window not in self._results:
            insort(self._told, window)
        self._results[window] = list(results)


class _OfWindow(Protocol):
    @property
    def window(self) -> Window: ...


_Kept = TypeVar("_Kept", bound=_OfWindow)


def _by_window(kept: Iterable[_Kept]) -> dict[Window, list[_Kept]]:
    found: dict[Window, list[_Kept]] = {}
    for each in kept:
        found.setdefault(each.window, []).append(each)
    return found


def _between(windows: Sequence[Window], start: datetime | None, end: datetime | None) -> Sequence[Window]:
    """Of windows in order those that begin in ``[start, end)``; ``None``: without end."""
    first = 0 if start is None else bisect_left(windows, start, key=_start_of)
    last = len(windows) if end is None else bisect_left(windows, end, key=_start_of)
    return windows[first:last]


def _start_of(window: Window) -> datetime:
    return window.start


def _planted(stored: StoredProfile, plant: Plant, baseline: Baseline) -> StoredProfile:
    profile = stored.profile
    if not plant.holds(stored.window):
        return stored
    if plant.kind == "flips":
        if isinstance(profile, ScoreLabels) and stored.column == label_counting.LABELS:
            return replace(stored, profile=planted.with_flipped_labels(profile, plant.size))
        if isinstance(profile, ClassCounts) and stored.column == outcomes.OUTCOMES:
            return replace(stored, profile=planted.with_other_classes(profile, plant.size))
        return stored
    column = baseline.columns[plant.target]
    if stored.column != plant.target or not isinstance(profile, NumericProfile | CategoricalProfile):
        return stored
    return replace(stored, profile=_faulty(column, profile, plant)) if _fits(column, profile) else stored


def _faulty(column: Column, profile: ColumnProfile, plant: Plant) -> ColumnProfile:
    if plant.kind == "nulls":
        return planted.with_nulls(profile, plant.size)
    if plant.kind == "category":
        return planted.with_category(profile, plant.size)
    if not (isinstance(profile, NumericProfile) and isinstance(column.spec, NumericSpec)):
        raise PlantError(f"{plant.text!r}: {plant.target} is not numeric")
    if plant.kind == "scale":
        return planted.scaled(column.spec, profile, plant.size)
    return planted.shifted(column.spec, profile, plant.size * _deviation(column))


def _deviation(column: Column) -> float:
    reference = column.reference
    if not isinstance(reference, NumericProfile) or reference.n_finite < 2:
        return 0.0
    return float((reference.m2 / (reference.n_finite - 1)) ** 0.5)


# --- the replay ------------------------------------------------------------------------------------


class Replay:
    """One pass over the windows, oldest first, with incident state of its own."""

    def __init__(
        self, config: Config, name: str, baseline: Baseline, memory: Memory, *, start: datetime, end: datetime
    ) -> None:
        self.config, self.name, self.baseline = config, name, baseline
        self.model = config.models[name]
        self.memory = memory.copy()
        self.windows = memory.judged(start, end)
        self.series: dict[SeriesKey, SeriesState] = {}
        self.incidents: dict[str, Incident] = {}
        self.news: list[tuple[Window, SeriesKey]] = []
        self.rows: dict[datetime, int] = {}
        self.references: dict[tuple[str | None, Window], CalibrationBaseline | None] = {}

    def run(self, label: str) -> Outcome:
        outcome = Outcome(label, n_windows=len(self.windows))
        for window in self.windows:
            results = self.judge(window)
            self.memory.restated(window, results)
            verdicts = {r.verdict for r in results}
            outcome.alerting_windows += Verdict.ALERT in verdicts
            outcome.cannot_tell += not any(v.decides for v in verdicts)
            for inputs in (True, False):
                part = [r for r in results if (r.check in (Check.PERFORMANCE, Check.SKEW)) is not inputs]
                if part:
                    self._advance(window, part, outcome)
        return outcome

    def _advance(self, window: Window, results: list[Result], outcome: Outcome) -> None:
        known = list(self.incidents.values())
        rules = self._rules(results)
        step = incidents.advance(
            model=self.name,
            window=window,
            results=results,
            series=self.series,
            open_incidents=[i for i in known if i.state is IncidentState.OPEN],
            rules=rules,
            echoes=incidents.echoes_of(window, results, rules=rules, earlier=self._results_at),
        )
        step = grouping.group(step, known=known, results=results, length=window.length)
        self.series.update({(s.check, s.feature, s.segment): s for s in step.series})
        self.incidents.update({incident.id: incident for incident in step.incidents})
        for transition, incident in step.transitions:
            if transition not in (Transition.OPENED, Transition.WORSENED, Transition.NO_DATA):
                continue
            self.news += [(window, key) for key in incidents.members(incident)]
            if transition is Transition.WORSENED or grouping.is_follower(incident):
                outcome.follow_ups += 1
            else:
                outcome.pages.append(Page(window, incident))

    def _rules(self, results: Sequence[Result]) -> incidents.Rules:
        n_features = len({r.feature for r in results if r.feature is not None})
        return replace(alerting.rules_of(self.config, self.model, n_features=n_features), repeat=None)

    def _results_at(self, start: datetime) -> list[Result]:
        return self.memory.results(self.name, start=start, end=start + timedelta(microseconds=1))

    def judge(self, window: Window) -> list[Result]:
        """All that the stored counts of one window say."""
        scope = checks.Scope(self.name, self.model, window, 0, self.config.reports.min_category_rows)
        store = cast("Store", self.memory)
        kept = self.memory.of(window)
        counts = _counted(kept, self.baseline)
        results: list[Result] = []
        if counts.columns:
            reference = baselines.reference(self.baseline, self.config, store=store, window=window)
            same = [self.rows[at] for at in checks.same_times(window) if at in self.rows]
            seen = _together(kept)
            results += [
                checks.volume(scope, counts.n_rows, list(self.rows.values())[-30:], same_time=same),
                *story.judge_counts(scope, reference, counts, previous=story.previous_score(store, self.name, window)),
                *joint.joint_drift(scope, usual.together(store, self.config, self.baseline, window, seen), seen),
            ]
            if counts.n_rows:
                self.rows[window.start] = counts.n_rows
        stored = self.memory.told(window)
        return [*results, *self._performance(scope, kept, stored), *_skew(self.model, stored)]

    def _performance(
        self, scope: checks.Scope, kept: Sequence[StoredProfile], stored: Sequence[Result]
    ) -> list[Result]:
        """Performance on the labels as they are stored now, by the config's limits; each label by its own."""
        results = []
        for view in views(self.model):
            mine, name = replace(scope, model=view), label_name(view)
            told = {
                (r.metric, r.segment): r
                for r in stored
                if r.check is Check.PERFORMANCE and r.kind == "realized" and r.verdict.decides and r.feature == name
            }
            segments = {r.segment for r in stored if r.check is Check.PERFORMANCE and r.segment and not r.of_versions}
            for profile in kept:
                counts = profile.profile
                if profile.column != _labels_column(view) or not isinstance(counts, ScoreLabels | ClassCounts | Errors):
                    continue
                for metric, measure in _measures(mine, counts).items():
                    past = told.get((metric, profile.segment))
                    if past is not None and counts.n_labelled >= view.performance.min_labels:
                        of_segment = len(segments) if profile.segment is not None else 0
                        results.append(_rejudged(mine, past, measure, n_segments=of_segment))
                if isinstance(counts, ScoreLabels) and profile.segment is None and told:
                    results += outcomes.of_label(view, self._meaning(mine, counts))
        return results

    def _meaning(self, scope: checks.Scope, counts: ScoreLabels) -> list[Result]:
        """Whether scores mean what they meant, against the reference as it is stored."""
        span = label_reference.labelled_span(self.baseline, scope.model, scope.window)
        if span is None or not scope.model.performance.watches_scores:
            return []
        key = label_name(scope.model), span
        store = cast("Store", self.memory)
        if key not in self.references:
            found = label_reference.kept_reference(store, self.name, scope.model, span, complete=True)
            self.references[key] = None if found is None else meaning.baseline_of(found.scores, found.windows)
        now = scope.window.end if scope.model.labels is None else scope.window.end + scope.model.labels.delay
        return late.scores_again(scope, counts, self.references[key], store=store, mature=True, now=now)


def _labels_column(model: ModelConfig) -> str:
    """Under which name a label's counts are stored."""
    binary = model.labels is None or model.labels.task == "binary"
    return column_of(model, label_counting.LABELS if binary else outcomes.OUTCOMES)


def _measures(scope: checks.Scope, counts: ScoreLabels | ClassCounts | Errors) -> Mapping[str, Measure]:
    limits = scope.model.performance
    if isinstance(counts, ScoreLabels):
        return performance(counts, metrics=limits.computed(), beta=limits.beta)
    return outcomes.measured(scope, counts)


def _rejudged(scope: checks.Scope, past: Result, measure: Measure, *, n_segments: int) -> Result:
    limits = scope.model.performance
    known = past.detail.get("reference")
    span = past.detail.get("reference_interval") or (known, known)
    warn, alert = (
        None if limit is None else limit.against(known, measure.value, relative=past.metric in IN_UNITS)
        for limit in (side.get(past.metric) for side in limits.limits())
    )
    interval = None if measure.low is None or measure.high is None else (measure.low, measure.high)
    judged = judge_performance(
        measure.value,
        interval,
        reference=None if known is None else (known, *span),
        warn=warn,
        alert=alert,
        alpha=judging.level_of(scope, n_segments),
    )
    return replace(
        past, value=measure.value, interval=interval, verdict=judged.verdict, threshold=judged.threshold, revision=0
    )


def _skew(model: ModelConfig, stored: Sequence[Result]) -> list[Result]:
    """Skew as it was measured, by the config's limits."""
    if model.skew is None:
        return []
    told = []
    for r in stored:
        if r.check is Check.SKEW and r.metric == "mismatch_rate" and r.verdict.decides:
            low = None if r.interval is None else r.interval[0]
            judged = judge_rate(r.value, low=low, warn=model.skew.warn, alert=model.skew.alert)
            told.append(replace(r, verdict=judged.verdict, threshold=judged.threshold, revision=0))
    return told


def _counted(kept: Sequence[StoredProfile], baseline: Baseline) -> WindowCounts:
    counts = WindowCounts()
    for p in kept:
        if p.column not in baseline.columns or not isinstance(p.profile, NumericProfile | CategoricalProfile):
            continue
        if not _fits(baseline.columns[p.column], p.profile):
            continue
        part = counts.columns if p.segment is None else counts.segments.setdefault(p.segment, {})
        part[p.column] = p.profile
    counts.n_rows = max((profile.n for profile in counts.columns.values()), default=0)
    return counts


def _fits(column: Column, profile: ColumnProfile) -> bool:
    """Counted over the same edges: windows of an earlier baseline may have others."""
    reference = column.reference
    if isinstance(profile, NumericProfile):
        return isinstance(reference, NumericProfile) and len(profile.cells) == len(reference.cells)
    return isinstance(reference, CategoricalProfile) and len(profile.counts) == len(reference.counts)


def _together(kept: Sequence[StoredProfile]) -> Correlations | None:
    return next((p.profile for p in kept if isinstance(p.profile, Correlations)), None)


# --- as JSON ---------------------------------------------------------------------------------------


def as_json(outcome: Outcome) -> Mapping[str, Any]:
    """The outcome as plain data, for ``--json``."""
    return {
        "name": outcome.name,
        "windows": outcome.n_windows,
        "alerting_windows": outcome.alerting_windows,
        "cannot_tell": outcome.cannot_tell,
        "pages": [
            {
                "window_start": page.window.start,
                "check": page.incident.check.value,
                "features": page.incident.features,
            }
            for page in outcome.pages
        ],
        "follow_ups": outcome.follow_ups,
        "plants": [
            {
                "plant": found.plant.text,
                "found": found.window is not None,
                "window_start": None if found.window is None else found.window.start,
                "delay_windows": found.delay,
            }
            for found in outcome.plants
        ],
        "notes": outcome.notes,
    }
