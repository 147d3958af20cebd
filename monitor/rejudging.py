"""A range of the past judged again by today's config, from what is stored alone: no source is opened.

1. The windows of a job are judged oldest first, by the same functions as in a run.  What a window says now is held
   beside the store, so that later ones are judged by it.
2. Each window that says something else than before gets a new revision, in one transaction.  Incidents are moved with
   the first of them, by all that the range says now.  Cut short, the next call saves what is left.

Inputs are judged from their counts, skew from its measured rates, performance from the evidence that its rows tell
(`monitor/performance_again.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

from detectors.multivariate import Correlations
from detectors.profiles import CategoricalProfile, NumericProfile
from monitor import alerting, baselines, checks, incidents, joint, normal, schedule, usual
from monitor import run as story
from monitor.backfill import Advance
from monitor.baselines import Reference
from monitor.config import ImportanceTable, ModelConfig, RollingBaseline, spec_hash
from monitor.counting import WindowCounts
from monitor.models import (
    SCORE,
    Baseline,
    Check,
    Claim,
    Job,
    Outcome,
    Result,
    Roles,
    StoredProfile,
    Verdict,
    Window,
    WindowRow,
)
from monitor.performance_again import performance_hash, window_again
from monitor.run import Seen
from monitor.service import Service
from monitor.store import ALL, Store

NOT_COMPUTED = "it has not been computed, or waits to be"
NEVER_COMPARED = "there was no baseline when it was computed"
GONE = "its profiles are no longer stored"
REFERENCE_GONE = "the profiles of what it is compared with are no longer stored"
OTHER_BINS = "it was counted over other bins than those of the newest baseline"
OTHER_BASELINE = "the config asks for a baseline, rows, columns or bins that only the source can give"
NEEDS_ENTITIES = "what rows of one entity are worth can only be told from the rows"
NEEDS_IMPORTANCE = "`drift.top` ranks by a table in the source"
OTHER_PAIRS = "the config asks for another sample, other offline values or tolerances"
BUSY = "a worker has the model in hand; run it again"
OTHER_LABELS = "the config asks more of performance than other limits: that is read from the labels"

_CARRIED = frozenset({"column_missing", "column_new", "column_type"})
"""Findings about the table as it was: no limit enters them."""
_TRIES = 30
_COARSE = 0.02
"""Numbers from thinned counts may differ by so large a part of themselves, or a tenth of it if they are small."""


@dataclass(frozen=True)
class Change:
    """A number whose verdict is another by today's config; ``None`` where it was not told, or is told no more."""

    window: Window
    check: Check
    metric: str
    feature: str | None
    segment: str | None
    kind: str | None
    then: Verdict | None
    now: Verdict | None


@dataclass
class Rejudged:
    """What became of one model's windows; ``left`` counts those that stay as they are, by reason.

    ``errors`` names those of them that should have been saved, and could not.  ``changes`` are the verdicts that are
    others now.
    """

    model: str
    restated: int = 0
    unchanged: int = 0
    left: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    worst: Verdict = Verdict.OK
    changes: list[Change] = field(default_factory=list)

    @property
    def windows(self) -> int:
        return self.restated + self.unchanged + sum(self.left.values())

    def leave(self, reason: str) -> None:
        self.left[reason] = self.left.get(reason, 0) + 1


def rejudge_range(
    service: Service,
    *,
    start: datetime,
    end: datetime,
    now: datetime,
    alerts: bool,
    models: list[str] | None = None,
    advance: Advance | None = None,
    dry: bool = False,
) -> list[Rejudged]:
    """Judge the stored windows within ``[start, end)`` again; those that say the same keep their revision.

    ``dry`` only tells what would change, and saves nothing.
    """
    found = []
    for name in models or list(service.config.models):
        told = Rejudged(name)
        for job in Job:
            rows = service.store.windows(name, job, start=start, end=end)
            rows = [row for row in rows if start <= row.window.start and row.window.end <= min(end, now)]
            _Rejudging(service, name, job, told, now=now, alerts=alerts).work(rows, advance, dry=dry)
        found.append(told)
    if alerts and not dry:
        alerting.catch_up(service, [told.model for told in found], now=now)
    return found


class _Rejudging:
    """The windows of one model and job."""

    def __init__(self, service: Service, name: str, job: Job, told: Rejudged, *, now: datetime, alerts: bool) -> None:
        self.service, self.name, self.job, self.told = service, name, job, told
        self.model, self.store = service.model(name), service.store
        self.ahead = Ahead(service.store, job)
        self.now, self.alerts = now, alerts
        self.baseline = self.store.baseline(name)
        self._same_bins: dict[int, bool] = {}

    def work(self, rows: Sequence[WindowRow], advance: Advance | None, *, dry: bool) -> None:
        changed: dict[Window, tuple[WindowRow, Seen]] = {}
        for place, row in enumerate(rows):
            seen = self._judged(row)
            if isinstance(seen, str):
                self.told.leave(seen)
            else:
                worst = (result.verdict for result in seen.results if not result.of_versions)
                self.told.worst = max((self.told.worst, *worst), key=lambda verdict: verdict.rank)
                stored = self._stored(row)
                if is_same(seen.results, stored, coarse=self._coarse(row)):
                    self.told.unchanged += 1
                else:
                    changed[row.window] = row, seen
                    self.ahead.anew[row.window] = seen.results
                    self.told.changes += changes(seen.results, stored)
            if advance is not None:
                advance(place + 1, len(rows), f"{self.name} {row.window.start:%Y-%m-%d %H:%M}")
        if dry:
            self.told.restated += len(changed)
        else:
            self._save(changed)

    def _judged(self, row: WindowRow) -> Seen | str:
        """What a window says by today's config, or why it must stay as it is."""
        if row.state not in schedule.RESTATABLE:
            return NOT_COMPUTED
        judges = {Job.INPUTS: self._inputs, Job.SKEW: self._skew, Job.LABELS: self._performance}
        results = judges[self.job](row)
        if isinstance(results, str):
            return results
        n_rows = row.n_rows or 0
        n_seen = max((r.n_current or 0 for r in results), default=0) if self.job is Job.SKEW else n_rows
        detail = row.detail | {"rejudged_at": self.now.isoformat()}
        decisive = story.decisive(results) if self.job is Job.LABELS else results
        return Seen(story.state_of(decisive, n_seen), n_rows, None, row.fingerprint, results, detail=detail)

    # --- inputs ---------------------------------------------------------------------------------------

    def _inputs(self, row: WindowRow) -> list[Result] | str:
        model, window, baseline = self.model, row.window, self.baseline
        if baseline is None or "baseline" not in row.detail:
            return NEVER_COMPARED
        other = self._asks_for_other(baseline, counted_over=int(row.detail["baseline"]))
        if other is not None:
            return other
        kept, stored = self._profiles(window), self._stored(row)
        counts = _counts(kept, baseline)
        counts.n_rows = row.n_rows or 0
        counts.duplicates = next((r.detail.get("duplicates", 0) for r in stored if r.metric == "n_rows"), 0)
        if not counts.columns or _lacks(counts, stored):
            return GONE
        if not self._is_reference_stored(baseline, window):
            return REFERENCE_GONE
        reference = baselines.reference(baseline, self.service.config, store=cast("Store", self.ahead), window=window)
        if model.entity and not _knows_wander(reference):
            return NEEDS_ENTITIES
        return self._compare(row, reference, counts, kept=kept, stored=stored)

    def _asks_for_other(self, baseline: Baseline, *, counted_over: int) -> str | None:
        """Why the stored counts do not answer what the config asks; ``None`` where they do."""
        if baseline.spec_hash != baselines.baseline_hash(self.model, roles_then(baseline, self.model)):
            return OTHER_BASELINE
        if not self._has_same_bins(counted_over, baseline):
            return OTHER_BINS
        ranked = isinstance(self.model.features.importance, ImportanceTable)
        return NEEDS_IMPORTANCE if ranked and isinstance(self.model.drift.top, int) else None

    def _compare(
        self,
        row: WindowRow,
        reference: Reference,
        counts: WindowCounts,
        *,
        kept: Sequence[StoredProfile],
        stored: Sequence[Result],
    ) -> list[Result]:
        claim, ahead = self._claim(row), cast("Store", self.ahead)
        scope = story.scope_of(self.service, claim)
        importance = self.model.features.importance
        ranks = importance if isinstance(importance, Mapping) else {}
        together = next((p.profile for p in kept if isinstance(p.profile, Correlations)), None)
        return [
            story.volume(self.service, claim, scope, counts),
            *_freshness(scope, stored),
            *_carried(scope, [r for r in stored if r.metric in _CARRIED]),
            *story.judge_counts(
                scope,
                reference,
                counts,
                previous=story.previous_score(self.store, self.name, row.window),
                top=checks.top_features(ranks, self.model.drift.top),
            ),
            *joint.joint_drift(
                scope, usual.together(ahead, self.service.config, reference.baseline, row.window, together), together
            ),
            *_carried(scope, [r for r in stored if r.of_versions]),
        ]

    def _has_same_bins(self, number: int, baseline: Baseline) -> bool:
        if number == baseline.id:
            return True
        if number not in self._same_bins:
            theirs, mine = self.store.baseline_by_id(number).specs(), baseline.specs()
            self._same_bins[number] = normal.same_bins(theirs, mine) == theirs.keys() | mine.keys()
        return self._same_bins[number]

    def _is_reference_stored(self, baseline: Baseline, window: Window) -> bool:
        """Whether the windows that this one is compared with are there, as they were when it was computed."""
        own = baseline.window or normal.UNDATED
        kept = self.store.profiled(self.name, start=own.start, end=own.end)
        whole = len(kept) >= int(baseline.detail.get("windows", 1))
        if not isinstance(self.model.baseline, RollingBaseline):
            return whole
        span = baselines.reference_span(self.model, window) or own
        if not whole and span.start < min((each.start for each in kept), default=own.end):
            return False
        there = self.store.profiled(self.name, start=span.start, end=span.end)
        rows = self.store.windows(self.name, Job.INPUTS, start=span.start, end=span.end, states=schedule.RESTATABLE)
        inside = [row.window for row in rows if row.n_rows and row.window.start >= span.start]
        return all(each in there for each in inside if each.end <= span.end)

    def _profiles(self, window: Window) -> list[StoredProfile]:
        found = self.store.profiles(self.name, start=window.start, end=window.end, segment=ALL)
        return [p for p in found if p.window == window]

    def _coarse(self, row: WindowRow) -> frozenset[str]:
        """Columns whose stored counts are coarser than those that were compared when the window was read."""
        if self.job is not Job.INPUTS:
            return frozenset()
        kept = self._profiles(row.window)
        return frozenset(p.column for p in kept if isinstance(p.profile, NumericProfile) and p.profile.kept is not None)

    # --- skew -----------------------------------------------------------------------------------------

    def _skew(self, row: WindowRow) -> list[Result] | str:
        if self.model.skew is None or row.detail.get("measured") != checks.skew_hash(self.model):
            return OTHER_PAIRS
        return checks.skew_again(story.scope_of(self.service, self._claim(row)), self._stored(row))

    # --- performance ----------------------------------------------------------------------------------

    def _performance(self, row: WindowRow) -> list[Result] | str:
        scope = story.scope_of(self.service, self._claim(row))
        measured = performance_hash(self.model, min_category_rows=scope.min_category_rows)
        if row.detail.get("measured") != measured:
            return OTHER_LABELS
        return window_again(scope, self._stored(row)) or OTHER_LABELS

    # --- saving ---------------------------------------------------------------------------------------

    def _stored(self, row: WindowRow) -> list[Result]:
        found = self.store.results(self.name, job=self.job, start=row.window.start, end=row.window.end)
        return [result for result in found if result.window == row.window]

    def _claim(self, row: WindowRow) -> Claim:
        spec = spec_hash(self.model)
        return Claim(0, self.name, self.job, row.window, row.revision + 1, 1, "", spec, alerts=self.alerts)

    def _save(self, changed: dict[Window, tuple[WindowRow, Seen]]) -> None:
        waiting = dict(changed)
        for window, (row, seen) in changed.items():
            del waiting[window]
            if len(waiting) + 1 == len(changed):
                later = {each: then.results for each, (_, then) in waiting.items()}
                saved = self._restate_first(row, seen, later)
            else:
                saved = self._restate(row, self._outcome(row, seen))
            if saved:
                self.told.restated += 1
                continue
            for each in (window, *waiting):
                self.told.leave(BUSY)
                self.told.errors.append(f"{self.name} {self.job} {each.start:%Y-%m-%dT%H:%MZ}")
            return

    def _outcome(self, row: WindowRow, seen: Seen) -> Outcome:
        """What is saved of a window once the incidents are as the whole range has them."""
        results = incidents.unspent(seen.results, self.store.incidents(self.name), window=row.window)
        return Outcome(seen.state, seen.n_rows, fingerprint=seen.fingerprint, results=results, detail=seen.detail)

    def _restate_first(self, row: WindowRow, seen: Seen, later: Mapping[Window, Sequence[Result]]) -> bool:
        """Save a window, and with it what all of them do to the incidents; a worker at work is waited for a while."""
        seen = replace(seen, profiles=self._profiles(row.window))
        for attempt in range(_TRIES):
            finished = self.store.finished(self.name, self.job)
            outcome = alerting.conclude(self.service, self._claim(row), seen, now=self.now, later=later)
            if self._restate(row, outcome, finished=finished):
                return True
            if attempt + 1 < _TRIES:
                time.sleep(min(5.0, 0.2 * 2**attempt))
        return False

    def _restate(self, row: WindowRow, outcome: Outcome, *, finished: int | None = None) -> bool:
        spec = spec_hash(self.model)
        return self.store.restate(row, outcome, spec_version=spec, alerts=self.alerts, finished=finished)


class Ahead:
    """The store, with what windows say now in place of what a job has stored of them.

    It answers the questions that :mod:`monitor.baselines` and :mod:`monitor.usual` ask of a store.
    """

    def __init__(self, store: Store, job: Job) -> None:
        self._store, self._job = store, job
        self.anew: dict[Window, list[Result]] = {}
        self.profiles, self.profiles_by_column = store.profiles, store.profiles_by_column
        self.profiled, self.baseline_by_id = store.profiled, store.baseline_by_id

    def results(
        self, model: str, *, metric: str | None = None, start: datetime | None = None, end: datetime | None = None
    ) -> list[Result]:
        if not self.anew:
            return self._store.results(model, metric=metric, start=start, end=end)
        found: list[Result] = []
        for job in Job:
            stored = self._store.results(model, job=job, metric=metric, start=start, end=end)
            found += [r for r in stored if job is not self._job or r.window not in self.anew]
        for window, results in self.anew.items():
            if (start is None or window.end > start) and (end is None or window.start < end):
                found += [r for r in results if metric is None or r.metric == metric]
        return sorted(found, key=lambda result: result.window)


# --- pure ------------------------------------------------------------------------------------------


def roles_then(baseline: Baseline, model: ModelConfig) -> Roles:
    """The model's columns as they were when its baseline was made, or as the config has come to name them since."""
    told = baseline.detail["roles"]
    score, decision = model.score.column, model.prediction
    if model.labels is not None and model.labels.task == "regression" and decision is not None:
        score, decision = decision, None
    champion = None if model.compare is None else model.compare.champion
    return Roles(
        features=told["features"],
        time=model.time.column,
        score=score or told["score"],
        decision=decision or told["decision"],
        segments=tuple(model.segments),
        champion=(champion or told["champion"]) if told["champion"] is not None else None,
    )


def _counts(kept: Sequence[StoredProfile], baseline: Baseline) -> WindowCounts:
    counts = WindowCounts()
    for p in kept:
        if p.column in baseline.columns and isinstance(p.profile, NumericProfile | CategoricalProfile):
            part = counts.columns if p.segment is None else counts.segments.setdefault(p.segment, {})
            part[p.column] = p.profile
    return counts


def _lacks(counts: WindowCounts, stored: Sequence[Result]) -> bool:
    """Whether columns or segments that were judged before have no counts any more."""
    judged = {(r.segment, r.feature) for r in stored if r.check is Check.FEATURE_DRIFT and r.feature is not None}
    return any(feature not in (counts.columns if s is None else counts.segments.get(s, {})) for s, feature in judged)


def _knows_wander(reference: Reference) -> bool:
    return all(baselines.knows_wander(column) for column in reference.columns.values())


def _freshness(scope: checks.Scope, stored: Sequence[Result]) -> list[Result]:
    """The age of the newest row as it was measured, where it was, by today's limit."""
    limit = scope.model.quality.freshness
    past = [r for r in stored if r.metric == "freshness_seconds"]
    return [] if limit is None else [checks.judge_freshness(scope, r.value, limit) for r in past]


def _carried(scope: checks.Scope, stored: Sequence[Result]) -> list[Result]:
    return [replace(result, revision=scope.revision) for result in stored]


def is_same(new: Sequence[Result], old: Sequence[Result], *, coarse: frozenset[str] = frozenset()) -> bool:
    """Whether two revisions of a window say the same.

    Numbers of columns that are ``coarse`` now, and correlations, which are stored in single precision, may differ a
    little: the older ones are the better.  What a page would cost is spent once, whoever tells it.
    """
    mine, theirs = ({_key(result): result for result in results} for results in (new, old))
    return (
        mine.keys() == theirs.keys()
        and len(new) == len(old)
        and all(_says_the_same(mine[key], theirs[key], is_coarse=_is_coarse(mine[key], coarse)) for key in mine)
    )


def changes(new: Sequence[Result], old: Sequence[Result]) -> list[Change]:
    """The numbers of a window whose verdict is another than before."""
    mine, theirs = ({_key(result): result for result in results} for results in (new, old))
    found = []
    for key in [*theirs, *(key for key in mine if key not in theirs)]:
        then, now = theirs.get(key), mine.get(key)
        of = now or then
        verdicts = tuple(None if side is None else side.verdict for side in (then, now))
        if of is not None and verdicts[0] is not verdicts[1]:
            found.append(Change(of.window, of.check, of.metric, of.feature, of.segment, of.kind, *verdicts))
    return found


def _key(result: Result) -> tuple[object, ...]:
    return result.check, result.metric, result.feature, result.segment, result.kind, result.detail.get("against")


def _is_coarse(result: Result, coarse: frozenset[str]) -> bool:
    column = SCORE if result.check is Check.SCORE_DRIFT and result.feature is None else result.feature
    return result.metric in joint.METRICS or column in coarse


def _says_the_same(new: Result, old: Result, *, is_coarse: bool) -> bool:
    if is_coarse:
        mine, theirs = ([r.verdict.value, r.threshold, r.n_reference, r.n_current] for r in (new, old))
        alike = _equal(new.value, old.value, relative=_COARSE, absolute=_COARSE / 10)
        return alike and _equal(mine, theirs) and _equal(new.detail.get("alpha"), old.detail.get("alpha"))
    return _equal(_told(new), _told(old))


def _told(result: Result) -> list[Any]:
    detail = {name: value for name, value in result.detail.items() if name != "spend"}
    if result.value is not None and not math.isfinite(result.value):
        detail.setdefault("reason", "nan" if math.isnan(result.value) else "infinite")
    limits = [result.verdict.value, result.threshold, result.n_reference, result.n_current]
    return [*limits, result.value, result.p_value, result.interval, result.label_coverage, detail]


def _equal(a: Any, b: Any, *, relative: float = 1e-9, absolute: float = 1e-12) -> bool:
    """Whether two values are the same once the store has kept them, rounding aside."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(value, b[name]) for name, value in a.items())
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    first, second = _number(a), _number(b)
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=relative, abs_tol=absolute)
    return bool(first == second)


def _number(value: Any) -> Any:
    """A number as a float; what is not finite is kept as nothing."""
    if isinstance(value, bool | str) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return number if math.isfinite(number) else None
