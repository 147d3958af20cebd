"""The story of one window: claim it, read it, count it, compare it, judge it, save it.

Start at :func:`run_due`.  A window of *inputs* answers "has the world, or the pipeline, changed?"; one of *skew*
"did the model see what the feature store says?"; one of *labels* "was it right?".  Nothing is shouted here: messages
are saved with the results, in one transaction, and delivered afterwards (``monitor/delivery.py``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog

from detectors.profiles import CategoricalProfile, ColumnProfile, NumericProfile
from monitor import (
    alerting,
    baselines,
    checks,
    compare,
    counting,
    entities,
    failures,
    joint,
    label_counting,
    label_ids,
    label_reference,
    outcomes,
    pairs,
    passes,
    recheck,
    schedule,
    usual,
)
from monitor import labels as late
from monitor.baselines import NoBaselineError
from monitor.config import ModelConfig
from monitor.label_tasks import roles_of, views
from monitor.models import (
    DECISION,
    SCORE,
    Check,
    Claim,
    Job,
    Message,
    Outcome,
    Result,
    Roles,
    RunState,
    StoredProfile,
    Verdict,
    Window,
)
from monitor.performance_again import performance_hash
from monitor.service import Service
from monitor.sources import Source, SourceError, spelled_out
from monitor.store import Store, StoreError, StoreUnavailable

log = structlog.get_logger()


# --- the story -----------------------------------------------------------------------------------


def run_due(service: Service, *, now: datetime, worker: str, models: list[str] | None = None) -> RunReport:
    """Run every window that is due, oldest first, until none is left."""
    report = RunReport()
    names = models or list(service.config.models)
    failures.reap(service)
    for name in names:
        plan_model(service, name, now=now, report=report)
    work_off(service, worker=worker, models=names, clock=lambda: now, report=report)
    return report


def work_off(
    service: Service,
    *,
    worker: str,
    models: Sequence[str],
    clock: Callable[[], datetime],
    report: RunReport,
    turn: Callable[[], AbstractContextManager[object]] = nullcontext,
    stop: Callable[[], bool] = lambda: False,
    after: Callable[[Claim], None] = lambda _: None,
) -> None:
    """Claim and run one window after the other until none is left; then tell of those that were too old to be told of.

    Parameters
    ----------
    turn
        Entered for each window: so that only so many are worked on at a time.
    stop
        Asked before each window.
    """
    while not stop():
        with turn():
            claim = service.store.claim(worker, lease=service.config.worker.lease, models=models)
            if claim is None:
                break
            with service.holding(claim):
                run_window(service, claim, now=clock(), report=report)
        after(claim)
    else:
        return
    alerting.catch_up(service, models, now=clock())


def run_window(service: Service, claim: Claim, *, now: datetime, report: RunReport) -> None:
    """One window, from its rows to its verdicts, saved at once; whatever goes wrong in it stays in it."""
    try:
        seen = STORIES[claim.job](service, claim, now)
        outcome = alerting.conclude(service, claim, seen, now=now)
        saved = commit(service, claim, outcome)
    except StoreError:
        # Nothing can be written down. The window is given back if that much is possible, else its lease ends.
        with suppress(StoreError):
            service.store.release(claim)
        raise
    except Exception as error:  # noqa: BLE001 - a window that nobody can compute must not hold up the later ones
        report.note(claim, failures.give_up(service, claim, error, now=now), failed=True)
        return
    report.note(claim, outcome.state if saved else None, outcome.results)


@dataclass
class Seen:
    """What one window showed: results to be judged together, and the counts to be kept."""

    state: RunState
    n_rows: int = 0
    reason: str | None = None
    fingerprint: str | None = None
    results: list[Result] = field(default_factory=list)
    profiles: list[StoredProfile] = field(default_factory=list)
    news: list[tuple[str, Message]] = field(default_factory=list)
    """What is worth a message though nothing is wrong, with the key that keeps it from being told twice."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What is kept with the window itself, such as the number of the baseline whose edges it was counted over."""


def inputs(service: Service, claim: Claim, now: datetime) -> Seen:
    """Feature drift, score drift and data quality: one pass over the window's rows, compared with the baseline."""
    model, scope = service.model(claim.model), scope_of(service, claim)
    with service.source(claim.model) as source:
        roles = service.roles(claim.model, source, now=now)
        mark = recheck.fingerprint(source, model, roles, claim.window, job=claim.job, now=now)
        try:
            baseline = baselines.ensure(
                claim.model,
                service.config,
                store=service.store,
                source=source,
                roles=roles,
                window=claim.window,
                now=now,
            )
        except NoBaselineError as missing:
            return without_baseline(scope, mark, str(missing))
        known = {name: spec for name, spec in baseline.specs().items() if baselines.is_readable(name, model, roles)}
        reference = baselines.reference(baseline, service.config, store=service.store, window=claim.window)
        # What rows of one entity are worth can only be seen in rows that are read.
        needed = {n for n in known if not baselines.knows_wander(reference.columns[n])} if model.entity else set()
        by_source = {name: spec for name, spec in known.items() if name not in needed}
        there = source.count_there(model, roles, claim.window, by_source, now=now)
        here = {name: spec for name, spec in known.items() if name not in there}
        read = source.read_inputs(model, roles, claim.window, now=now, columns=list(here) if there else None)
        counts, together, groups = passes.count(
            read,
            here,
            segments=baseline.detail["segments"],
            together=joint.columns_of(here, model),
            entities=bool(model.entity),
        )
        counts.columns |= there
        beside = [] if Job.LABELS in schedule.jobs(model, roles) else versions(source, scope, roles, now=now)
        top = checks.top_features(service.importance(claim.model, source), model.drift.top)
    worth = entities.told_by(reference.columns, groups, baseline.detail.get("entity_effects", {}))
    reference = replace(reference, columns=worth)
    results = [
        volume(service, claim, scope, counts),
        *checks.freshness(scope, counts.newest),
        *checks.schema_changes(scope, baseline.detail["roles"]["features"], roles.features, roles.left_out),
        *judge_counts(
            scope, reference, counts, previous=previous_score(service.store, claim.model, claim.window), top=top
        ),
        *joint.joint_drift(
            scope, usual.together(service.store, service.config, baseline, claim.window, together), together
        ),
    ]
    profiles = baselines.stored_profiles(claim.model, claim.window, counts, baseline.columns)
    profiles = [replace(each, baseline_id=baseline.id) for each in profiles]
    profiles += joint.stored(claim.model, claim.window, together)
    kept = {"baseline": baseline.id}
    seen = Seen(state_of(results, counts.n_rows), counts.n_rows, None, mark, results, profiles, detail=kept)
    return with_versions(service, seen, beside, now=now) if beside else seen


def judge_counts(
    scope: checks.Scope,
    reference: baselines.Reference,
    counts: counting.WindowCounts,
    *,
    previous: Mapping[str, ColumnProfile],
    top: frozenset[str] | None = None,
) -> list[Result]:
    """All that the counts of one window say against the baseline's: the same for new rows and for a replay."""
    return [
        *checks.other_bins(scope, *reference.other_bins),
        *checks.data_quality(scope, reference.columns, counts.columns),
        *checks.feature_drift(scope, reference.columns, counts.columns, top=top),
        *checks.score_drift(scope, reference.columns, counts.columns, previous=previous),
        *checks.segment_drift(scope, reference.columns, reference.segments, counts.segments, top=top),
    ]


def skew(service: Service, claim: Claim, now: datetime) -> Seen:
    """Offline against online values of the same requests, on a seeded sample of the window."""
    model, scope = service.model(claim.model), scope_of(service, claim)
    with service.source(claim.model) as source:
        roles = service.roles(claim.model, source, now=now)
        mark = recheck.fingerprint(source, model, roles, claim.window, job=claim.job, now=now)
        found = source.read_pairs(model, roles, claim.window, now=now)
    measures = pairs.compare(found, model, roles, min_category_rows=scope.min_category_rows)
    kept = model.skew.examples if model.skew is not None and service.config.retention.samples else 0
    results = checks.skew(
        scope,
        measures,
        n_sampled=found.n_sampled,
        n_matched=found.n_matched,
        n_window=found.n_window,
        examples=pairs.examples(found, measures, most=kept),
    )
    measured = {"measured": checks.skew_hash(model)}
    return Seen(state_of(results, found.n_sampled), found.n_window, None, mark, results, detail=measured)


def labels(service: Service, claim: Claim, now: datetime) -> Seen:
    """Performance as far as labels tell: what has landed, what that means for all, and whether labels come as usual."""
    model = service.model(claim.model)
    with service.source(claim.model) as source:
        roles = service.roles(claim.model, source, now=now)
        model = spelled_out(model, roles)
        mark = recheck.fingerprint(source, model, roles, claim.window, job=claim.job, now=now)
        tables = recheck.label_tables(source, model, now=now)
        told = [one_label(service, claim, view, source=source, roles=roles, now=now) for view in views(model)]
        known = recheck.known_of(views(model), [each.n_known for each in told])
        told = [
            replace(
                each,
                results=label_ids.beside(
                    each.results,
                    replace(scope_of(service, claim), model=view),
                    source=source,
                    store=service.store,
                    n_rows=each.n_rows,
                    now=now,
                ),
            )
            for each, view in zip(told, views(model), strict=True)
        ]
        scope = replace(scope_of(service, claim), model=model)
        beside = versions(source, scope, roles, now=now)
    results = [result for each in told for result in each.results]
    n_rows = max((each.n_rows for each in told), default=0)
    state = state_of(decisive(results), n_rows)
    measured = {"measured": performance_hash(service.model(claim.model), min_category_rows=scope.min_category_rows)}
    profiles = [kept for each in told for kept in each.profiles]
    seen = Seen(state, n_rows, None, mark, results, profiles, detail=measured | recheck.kept(tables, known))
    return with_versions(service, seen, beside, now=now) if beside else seen


def one_label(
    service: Service, claim: Claim, model: ModelConfig, *, source: Source, roles: Roles, now: datetime
) -> outcomes.Told:
    """One of the model's labels: true or false, one of several classes, or a number."""
    store, baseline, window = service.store, service.store.baseline(claim.model), claim.window
    scope, roles = replace(scope_of(service, claim), model=model), roles_of(model, roles)
    mature = schedule.is_mature(model, window, now=now)
    if model.labels is not None and model.labels.task != "binary":
        told = outcomes.look(scope, source=source, roles=roles, baseline=baseline, store=store, mature=mature, now=now)
        return replace(told, results=outcomes.of_label(model, told.results))
    grid = label_counting.grid_of(model, baseline, window)
    counted = late.count_window(source, model, roles, window, baseline=baseline, now=now, grid=grid)
    reference = label_reference.reference(
        store, claim.model, model, roles=roles, source=source, window=window, now=now, grid=grid
    )
    newest = source.newest_landing(model, now=now) if claim.revision == 0 else None
    lateness = late.lateness(store, claim.model, model, baseline=baseline, window=window, now=now, grid=grid)
    by_segment = {}
    if not mature and len(counted.scores) > 1:
        by_segment = late.delays_of_segments(store, claim.model, model, window=window, now=now, grid=grid)
    known = late.Known(grid, reference, lateness, newest, by_segment)
    results = outcomes.of_label(model, late.judge(scope, counted, known, store=store, mature=mature, now=now))
    n_rows = counted.scores[None].n + counted.never[None].n
    return outcomes.Told(results, late.profiles(claim.model, model, window, counted), n_rows, counted.n_known)


def versions(
    source: Source, scope: checks.Scope, roles: Roles, *, now: datetime
) -> list[tuple[checks.Scope, compare.Compared]]:
    """Champion and challengers on the window's requests, by each label of the model, where that is configured."""
    return [
        (
            replace(scope, model=view),
            compare.count_window(source, view, roles_of(view, roles), scope.window, now=now),
        )
        for view in views(scope.model) or [scope.model]
        if view.compare is not None
    ]


def with_versions(
    service: Service, seen: Seen, beside: Sequence[tuple[checks.Scope, compare.Compared]], *, now: datetime
) -> Seen:
    """What the window showed, and with it how its versions compare; that changes nothing of its state."""
    found = [(scope, compare.judge(scope, each, store=service.store, now=now)) for scope, each in beside]
    return replace(
        seen,
        results=[*seen.results, *(result for _, results in found for result in results)],
        profiles=[*seen.profiles, *(kept for scope, each in beside for kept in compare.profiles(scope, each))],
        news=[told for scope, results in found for told in compare.news(scope, results)],
    )


STORIES: dict[Job, Callable[[Service, Claim, datetime], Seen]] = {
    Job.INPUTS: inputs,
    Job.SKEW: skew,
    Job.LABELS: labels,
}


# --- the small print -----------------------------------------------------------------------------


@dataclass
class RunReport:
    """What one round of work did, for the terminal and the exit code."""

    windows: int = 0
    states: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    skipped: int = 0
    restated: int = 0
    worst: Verdict = Verdict.OK
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def note(
        self, claim: Claim, state: RunState | None, results: Sequence[Result] = (), *, failed: bool = False
    ) -> None:
        """``state`` is ``None`` when somebody else had taken the window over."""
        with self._lock:
            self.windows += 1
            word = "taken_over" if state is None else state.value
            self.states[word] = self.states.get(word, 0) + 1
            self.restated += claim.revision > 0
            found = (result.verdict for result in results if not result.of_versions)
            self.worst = max((self.worst, *found), key=lambda verdict: verdict.rank)
            if failed and state is not None:
                self.errors.append(f"{claim.model} {claim.job} {claim.window.start:%Y-%m-%dT%H:%MZ}")

    def add(self, other: RunReport) -> None:
        self.windows += other.windows
        for word, n in other.states.items():
            self.states[word] = self.states.get(word, 0) + n
        self.errors += other.errors
        self.skipped += other.skipped
        self.restated += other.restated
        self.worst = max(self.worst, other.worst, key=lambda verdict: verdict.rank)

    def take(self) -> RunReport:
        """What was noted since the last call; any thread may ask while another notes."""
        taken = RunReport()
        with self._lock:
            taken.add(self)
            self.windows, self.skipped, self.restated, self.worst = 0, 0, 0, Verdict.OK
            self.states, self.errors = {}, []
        return taken


def plan_model(service: Service, name: str, *, now: datetime, report: RunReport | None = None) -> None:
    """Write down what is due for one model; a broken source of one never keeps the others from being planned."""
    skipped = schedule.plan(service, name, now=now, announce=lambda windows: alerting.skipped(service, name, windows))
    if report is not None:
        report.skipped += len(skipped)
    try:
        recheck.recheck(service, name, now=now)
    except SourceError as error:
        log.warning("recheck_failed", model=name, reason=str(error))


def commit(service: Service, claim: Claim, outcome: Outcome) -> bool:
    """Save; while the store cannot be reached try again for as long as the claim may hold: the work is done."""
    for pause in (0.2, 1.0, 3.0, 10.0):
        try:
            return service.store.commit(claim, outcome)
        except StoreUnavailable as error:
            log.warning("commit_waits", model=claim.model, reason=str(error))
            time.sleep(pause)
    return service.store.commit(claim, outcome)


def scope_of(service: Service, claim: Claim) -> checks.Scope:
    return checks.Scope(
        claim.model,
        service.model(claim.model),
        claim.window,
        claim.revision,
        service.config.reports.min_category_rows,
    )


def without_baseline(scope: checks.Scope, mark: str, why: str) -> Seen:
    """A window before there is anything to compare with: an answer, not an error."""
    result = scope.result(Check.FEATURE_DRIFT, "psi", value=None, verdict=Verdict.CANNOT_TELL, detail={"reason": why})
    return Seen(RunState.INSUFFICIENT, 0, why, mark, [result])


def previous_score(store: Store, name: str, window: Window) -> dict[str, ColumnProfile]:
    """Score and decision counts of the window before, from the store."""
    span = window.length
    kept = store.profiles(name, start=window.start - span * 1.5, end=window.start, columns=[SCORE, DECISION])
    newest = max((profile.window for profile in kept), default=None)
    return {
        each.column: each.profile
        for each in kept
        if each.window == newest and isinstance(each.profile, NumericProfile | CategoricalProfile)
    }


def volume(service: Service, claim: Claim, scope: checks.Scope, counts: counting.WindowCounts) -> Result:
    """Whether as many rows are there as in the windows before, and as a day and a week ago."""
    span, before = claim.window.length, claim.window.start
    history = row_counts(service, claim, Window(before - span * 30, before))
    same = [row_counts(service, claim, Window(at, at + span)) for at in checks.same_times(claim.window)]
    return checks.volume(
        scope, counts.n_rows, history, same_time=[n for found in same for n in found], duplicates=counts.duplicates
    )


def row_counts(service: Service, claim: Claim, span: Window) -> list[int]:
    """Row counts of the windows that began in a span, oldest first; those without rows do not count."""
    rows = service.store.windows(
        claim.model,
        claim.job,
        start=span.start,
        end=span.end,
        states=[RunState.OK, RunState.NO_DATA, RunState.INSUFFICIENT],
    )
    rows = [row for row in rows if span.start <= row.window.start < span.end]
    return [row.n_rows for row in sorted(rows, key=lambda row: row.window.start) if row.n_rows]


def decisive(results: Iterable[Result]) -> list[Result]:
    """The results of labels that say how a window is: those of the curve that decides."""
    return [r for r in results if r.check is Check.PERFORMANCE and not r.of_versions and r.detail.get("decides", True)]


def state_of(results: list[Result], n_rows: int) -> RunState:
    if n_rows == 0:
        return RunState.NO_DATA
    return RunState.OK if any(result.verdict.decides for result in results) else RunState.INSUFFICIENT
