"""The story of one window's labels: what has landed, what it says already, and whether labels come as they used to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

import numpy as np

from detectors import corrected as correcting
from detectors.bounds import (
    corrected_scores_with_never_labelled,
    corrected_value_bounds,
    corrected_with_never_labelled,
    thresholds_with_never_labelled,
)
from detectors.calibration import estimate
from detectors.calibration_drift import CalibrationBaseline
from detectors.classification import HIGHER_IS_WORSE, Measure
from detectors.corrected import CORRECTABLE, mean_worth
from detectors.corrected_scores import SCORE_METRICS, Expected, expect, pooled, score_measures
from detectors.corrected_tables import Tables, corrected_tables
from detectors.delay import DelayLaw, learn
from detectors.delay_counts import DelayCounts, count_delays, merge
from detectors.effective_size import MIN_WINDOWS
from detectors.posterior import Fit, Landed
from detectors.score_labels import ScoreLabels, empty
from detectors.score_labels import merge as merge_scores
from detectors.segment_delay import of_segment
from monitor import baselines
from monitor import calibration_drift as meaning
from monitor import performance as judging
from monitor.checks import Scope
from monitor.config import ModelConfig
from monitor.delay_history import History, history
from monitor.delays import METRICS as FINDINGS
from monitor.delays import OUTAGE, delay_findings, labels_expected, looked_back
from monitor.label_counting import DELAYS, LABELS, NEVER_LABELLED, Counted, Grid, count, no_delays
from monitor.label_reference import Reference, metrics_of, performance_of
from monitor.label_tasks import column_of
from monitor.models import Baseline, Check, Result, Roles, StoredProfile, Verdict, Window
from monitor.sources import Source
from monitor.store import ALL, Store

MEMORY = timedelta(days=28)
"""Windows whose labels matured within this time teach the delay law, and at least ``MEMORY_WINDOWS`` of them."""
MEMORY_WINDOWS = 8
ENOUGH = 500
"""Labels of either class in the windows of ``MEMORY``, below which older ones are asked as well."""


@dataclass(frozen=True)
class Lateness:
    """The delay law for one window, and the windows that it was learned from, oldest first."""

    law: DelayLaw
    windows: Sequence[tuple[Window, DelayCounts]]
    of: str = "model"
    """Of a segment: whose delays most of the law is, the ``model``'s or the ``segment``'s own."""


def lateness(
    store: Store, name: str, model: ModelConfig, *, baseline: Baseline | None, window: Window, now: datetime, grid: Grid
) -> Lateness | None:
    """The delay law as the labels of the other windows show it; ``None`` before any label has shown its delay.

    Learned from the windows that matured within ``MEMORY`` and those since; from older ones too where these are few.
    """
    first, column = _first_taught(model, window), column_of(model, DELAYS)
    asked: dict[str, Any] = {"now": now, "alike": no_delays(grid), "leave_out": window}
    found = history(store, name, column, start=first, **asked).get(None)
    if (found is None or _fewest(found) < ENOUGH) and baseline is not None and baseline.window is not None:
        found = history(store, name, column, start=min(baseline.window.start, first), **asked).get(None)
    if found is None:
        return None
    counts = [each for _, each in found.windows]
    return Lateness(learn(reduce(merge, counts), windows=counts, times=found.away), found.windows)


def _first_taught(model: ModelConfig, window: Window) -> datetime:
    delay = model.labels.delay if model.labels is not None else timedelta(0)
    return window.start - delay - max(MEMORY, MEMORY_WINDOWS * window.length)


def delays_of_segments(
    store: Store, name: str, model: ModelConfig, *, window: Window, now: datetime, grid: Grid
) -> dict[str, list[DelayCounts]]:
    """The delays that each segment has shown in the other windows, oldest first."""
    alike = count_delays([], [], [], edges=grid.edges, mature=grid.mature)
    start, column = _first_taught(model, window), column_of(model, DELAYS)
    found = history(store, name, column, start=start, now=now, alike=alike, leave_out=window, segment=ALL)
    return {whose: [each for _, each in told.windows] for whose, told in found.items() if whose is not None}


def _fewest(found: History) -> int:
    return int(min(sum(int(each.n[label]) for _, each in found.windows) for label in (0, 1)))


@dataclass(frozen=True)
class Known:
    """All that a window's labels are read against."""

    grid: Grid
    reference: Reference | None
    lateness: Lateness | None
    newest_landing: datetime | None = None
    segments: Mapping[str, Sequence[DelayCounts]] = field(default_factory=dict)
    """What delays each segment has shown."""

    def of_segment(self, segment: str, landed: Landed) -> Known:
        """The same for one segment: with the delay law as its own labels show it, as far as they do."""
        if self.lateness is None:
            return self
        weights = landed.labels.sum(axis=0) + 1e-3 * landed.predictions.sum(axis=0)[:, None]
        found = of_segment(self.lateness.law, self.segments.get(segment, ()), weights=weights)
        whose = "segment" if found.own >= 0.5 else "model"
        return replace(self, lateness=replace(self.lateness, law=found.law, of=whose))


def count_window(
    source: Source,
    model: ModelConfig,
    roles: Roles,
    window: Window,
    *,
    baseline: Baseline | None,
    now: datetime,
    grid: Grid,
) -> Counted:
    """Read and count one window's labels as of ``now``."""
    stream = source.read_labels(model, roles, window, now=now)
    return count(stream, window=window, now=now, grid=grid, segments=baselines.known_segments(baseline))[0]


def judge(scope: Scope, counted: Counted, known: Known, *, store: Store, mature: bool, now: datetime) -> list[Result]:
    """Three curves for all rows and each segment, and whether labels come as they used to."""
    age_days = (now - scope.window.end).total_seconds() / 86400
    expected = None
    # Where no label comes to mean one, all count once labels are mature.
    awaited = not mature and absent_class(scope.model) is None
    if scope.model.labels is not None and known.lateness is not None and awaited:
        due = scope.window.end + scope.model.labels.delay
        expected = labels_expected(counted.landed[None], known.lateness.windows, scope.window, now=now, due=due)
    results: list[Result] = []
    alone = only_one_class(scope.model, counted.scores[None], known)
    for segment, scores in counted.scores.items():
        never = counted.never.get(segment) or empty()
        complete = mature or (scores.label_coverage or 0.0) >= judging.NEARLY_ALL
        # Segments that are too small to be named are not worth the work.
        small = segment is not None and scores.n < max(scope.min_category_rows, 1)
        landed = None if complete or small else counted.landed[segment]
        mine = known
        if segment is not None and landed is not None:
            landed = _coarse(landed)
            mine = known.of_segment(segment, landed)
        curves, tables = _curves(scope.model, scores, never, landed, mine, segment=segment)
        notes: dict[str, Any] = {}
        if segment is None:
            odd = counted.notes | ({"never_labelled": never.n} if never.n else {})
            notes = {"labels": odd} if odd else {}
            notes |= judging.meaning_of_scores(scores, known.reference.calibrator if known.reference else None)
            notes |= judging.tables(scores, scope.model.performance.thresholds, never=never, corrected=tables)
        results += judging.results(
            scope,
            judging.Curves(
                **curves,
                n_labelled=scores.n_labelled,
                n_rows=scores.n,
                n_never=never.n,
                n_segments=0 if segment is None else len(counted.scores) - 1,
                mature=mature,
                age_days=age_days,
                notes=notes,
                expected=expected if segment is None else None,
                one_class=alone,
            ),
            segment=segment,
        )
    meant = None if known.reference is None else known.reference.scores
    results += scores_again(scope, counted.scores[None], meant, store=store, mature=mature, now=now)
    return results + _findings(scope, counted, known, store=store, now=now)


def only_one_class(model: ModelConfig, scores: ScoreLabels, known: Known) -> str:
    """Why labels say nothing of the decisions: there has only ever been one class of them; empty where there were both.

    A log of frauds alone, without ``absent_means``, has a precision of 1; labels that are spelled otherwise than
    ``positive`` have one of 0.
    """
    n = np.array([scores.n_negative, scores.n_positive], np.int64)
    if known.reference is not None:
        n += known.reference.classes
    if known.lateness is not None:
        n += sum((np.asarray(each.n) for _, each in known.lateness.windows), np.zeros(2, np.int64))
    if absent_class(model) is not None or n.all() or n.sum() < model.performance.min_labels:
        return ""
    if not n[1]:
        return f"of {n[0]:,} labels none is `positive: {model.positive}`: are they spelled so?"
    hint = ""
    if (scores.label_coverage or 0.0) < judging.NEARLY_ALL:
        hint = "; where a prediction without a label is a negative, say so with `labels.absent_means`"
    return f"all of {n[1]:,} labels are `positive: {model.positive}`{hint}"


def scores_again(
    scope: Scope,
    scores: ScoreLabels,
    baseline: CalibrationBaseline | None,
    *,
    store: Store,
    mature: bool,
    now: datetime,
) -> list[Result]:
    """Whether what a score means is as in the baseline, in this window and in the last ones together."""
    if baseline is None:
        return []
    column, window = column_of(scope.model, LABELS), scope.window
    few = baseline.n_windows < MIN_WINDOWS
    start = window.start - (meaning.HISTORY if few else max(meaning.SPANS)) * window.length
    kept = store.profiles(scope.name, start=start, end=window.start, columns=[column])
    before = meaning.fair_ones(kept, scope.model, now=now)
    if few:
        told = store.results(scope.name, check=Check.PERFORMANCE, start=start, end=window.start)
        bad = {r.window for r in told if r.metric in meaning.METRICS and r.verdict is Verdict.ALERT}
        baseline = baseline.beside([counts for each, counts in before if each not in bad])
    age = (now - window.end).total_seconds() / 86400
    recent = [counts for _, counts in before][-max(meaning.SPANS) :]
    return meaning.judge(scope, meaning.Labelled(scores, mature, age), baseline, recent)


def _coarse(landed: Landed, step: int = 4) -> Landed:
    """The same predictions in fewer groups of age: those of a segment are too few to tell more, and there are many."""
    starts = np.arange(0, len(landed.ages), step)
    ages = np.add.reduceat(landed.ages, starts) / np.diff(starts, append=len(landed.ages))
    predictions, labels = (np.add.reduceat(each, starts, axis=0) for each in (landed.predictions, landed.labels))
    return Landed(ages, predictions, labels, landed.decisions)


def _findings(scope: Scope, counted: Counted, known: Known, *, store: Store, now: datetime) -> list[Result]:
    late = known.lateness
    return findings(
        scope, counted.landed[None], late, grid=known.grid, store=store, newest=known.newest_landing, now=now
    )


def findings(
    scope: Scope,
    landed: Landed,
    late: Lateness | None,
    *,
    grid: Grid,
    store: Store,
    newest: datetime | None,
    now: datetime,
) -> list[Result]:
    """Whether labels come as they used to, said once, when the window is first looked at: it is about that moment.

    Nothing is said of a window from before the log began.
    """
    begun = late is not None and any(
        each.start < scope.window.end and counts.predictions.any() for each, counts in late.windows
    )
    if not begun and not landed.predictions.any():
        return []
    feature = column_of(scope.model, LABELS)
    if scope.revision:
        stored = store.results(scope.name, feature=feature, start=scope.window.start, end=scope.window.end)
        return [
            replace(each, revision=scope.revision)
            for each in stored
            if each.metric in FINDINGS and each.window == scope.window
        ]
    window, delay = scope.window, timedelta(0) if scope.model.labels is None else scope.model.labels.delay
    start = window.start - looked_back(window.length, delay)
    earlier = max(start, window.start - MOST_LOOKS * window.length)
    seen = history(
        store, scope.name, column_of(scope.model, DELAYS), start=start, now=now, alike=no_delays(grid),
        leave_out=window, step=max(1, timedelta(days=1) // window.length),
    ).get(None)  # fmt: skip
    found = delay_findings(
        scope,
        None if late is None else late.law,
        [] if seen is None else seen.windows,
        newest=newest,
        now=now,
        history=store.results(scope.name, metric=OUTAGE, feature=feature, start=earlier, end=window.start),
        strata=grid.names,
    )
    return [replace(each, feature=feature) for each in found]


MOST_LOOKS = 400
"""Windows at most whose looks for an outage say what is usual."""


def _curves(
    model: ModelConfig,
    scores: ScoreLabels,
    never: ScoreLabels,
    landed: Landed | None,
    known: Known,
    *,
    segment: str | None,
) -> tuple[dict[str, Any], Tables | str | None]:
    """Realized, corrected and estimated; nothing is corrected without ``landed``: labels that are complete need it
    not.  And of all rows the corrected tables."""
    limits, metrics, whole = model.performance, metrics_of(model), segment is None
    told: dict[str, Any] = {"realized": performance_of(model, scores, never)}
    told["corrected"], tables = {}, None
    if landed is not None:
        told["corrected"], tables = _corrected(model, scores, never, landed, known, whole=whole)
        told["widest"] = _widest(told["corrected"]) | _widest_worth(limits.value)
        told["law"] = "" if whole or known.lateness is None else known.lateness.of
    if known.reference is not None and known.reference.calibrator is not None:
        # Learned from labels alone: of the never labelled it holds where their scores mean the same.
        promised = estimate(merge_scores(scores, never) if never.n else scores, known.reference.calibrator)
        told["estimated"] = {name: promised[name] for name in metrics if name in promised}
    if known.reference is not None:
        told["reference"] = known.reference.measures if segment is None else known.reference.segments.get(segment)
        told["few"] = None if segment is None else known.reference.few.get(segment)
    return told, tables


def _corrected(
    model: ModelConfig, scores: ScoreLabels, never: ScoreLabels, landed: Landed, known: Known, *, whole: bool
) -> tuple[dict[str, Measure], Tables | str | None]:
    """Where each metric will be once all labels are in, by the delay law, and of all rows the tables; a reason where
    that cannot be known."""
    absent, beta = absent_class(model), model.performance.beta
    found: Fit | str = "no_delay_law"
    if not whole and scores.n_labelled < model.performance.min_labels:
        found = "too_few_labels"  # it would decide nothing
    elif known.lateness is not None:
        found = correcting.fit(landed, known.lateness.law, absent=absent)
    asked = [name for name in metrics_of(model) if name in CORRECTABLE]
    if isinstance(found, str):
        told = {name: Measure(None, n=scores.n, reason=found) for name in asked}
    else:
        told = {name: correcting.measure(found, name, beta=beta) for name in asked}
    worth = {str(outcome): each for outcome, each in model.performance.value.items()}
    if worth:
        told["value"] = Measure(None, n=scores.n, reason=found) if isinstance(found, str) else mean_worth(found, worth)
    of_scores, strata = found, known.grid.strata_of(scores.scores)
    if not len(known.grid.score_edges) and not isinstance(found, str):
        # Strata are parts of the window there, which scores say nothing of: all of one decision are one.
        of_scores = pooled(found, known.grid.decisions)
    thresholds = model.performance.thresholds if whole else []
    calibrator = None if known.reference is None else known.reference.calibrator
    table = expect(scores, of_scores, strata, calibrator=calibrator, thresholds=thresholds)
    told |= score_measures(table, scores, metrics=metrics_of(model), absent=absent)
    tables = corrected_tables(table, of_scores, scores, thresholds, absent=absent) if whole else None
    if not never.n:
        return told, tables
    if isinstance(tables, Tables) and isinstance(table, Expected):
        rows = thresholds_with_never_labelled(tables.thresholds, scores, never, table=table)
        tables = replace(tables, thresholds=rows)
    apart = corrected_scores_with_never_labelled(
        {name: told.pop(name) for name in SCORE_METRICS if name in told}, table, never
    )
    if "value" in told:
        apart["value"] = corrected_value_bounds(told.pop("value"), never, worth)
    return corrected_with_never_labelled(told, found, never, beta=beta) | apart, tables


def _widest(corrected: Mapping[str, Measure]) -> dict[str, float]:
    """A corrected error of the scores may decide when it is known to within half of itself, or to two points."""
    return {
        name: max(0.5 * found.value, 0.02)
        for name, found in corrected.items()
        if name in HIGHER_IS_WORSE and found.value is not None
    }


def _widest_worth(worth: Mapping[Any, float]) -> dict[str, float]:
    """The mean worth of a decision: to within a tenth of what outcomes differ by."""
    each = [0.0, *worth.values()]
    return {"value": 0.1 * (max(each) - min(each))} if worth else {}


def absent_class(model: ModelConfig) -> int | None:
    """The class that the lack of a label will mean, where the config says so."""
    if model.labels is None or model.labels.absent_means is None:
        return None
    return int(str(model.labels.absent_means).lower() == str(model.positive).lower())


def profiles(name: str, model: ModelConfig, window: Window, counted: Counted) -> list[StoredProfile]:
    """What of a window's labels is kept, apart from it the predictions that can never be labelled."""
    column = column_of(model, LABELS)
    kept = [
        StoredProfile(name, window, column, scores.coarsen(), segment) for segment, scores in counted.scores.items()
    ]
    if model.labels is not None and model.labels.only_when is not None:
        column = column_of(model, NEVER_LABELLED)
        kept += [StoredProfile(name, window, column, never.coarsen(), each) for each, never in counted.never.items()]
    delays = [(None, counted.delays), *counted.segment_delays.items()]
    return [*kept, *(StoredProfile(name, window, column_of(model, DELAYS), each, segment) for segment, each in delays)]
