"""What the store knows about a window, put together as evidence: one cause for the incidents that are open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from detectors import class_counts, regression
from detectors.breakage import spike, unit_change
from detectors.class_counts import ClassCounts
from detectors.label_change import (
    ClassTables,
    LabelChange,
    error_change,
    meaning_change,
    prevalence_change,
    scores_follow_labels,
    within_class_change,
    within_class_shape,
)
from detectors.profiles import CategoricalProfile, Column, ColumnProfile, NumericProfile, NumericSpec, ProfileError
from detectors.psi import psi
from detectors.regression import Errors
from detectors.score_labels import ScoreLabels
from monitor import feeds, grouping, messages
from monitor.calibration_drift import METRICS as CALIBRATION
from monitor.cause import Broken, Cause, Change, Evidence, Moved, Skewed, diagnose
from monitor.config import FALLING_IS_WORSE, ModelConfig
from monitor.incidents import Step
from monitor.label_counting import LABELS
from monitor.label_reference import kept_reference, labelled_span
from monitor.label_tasks import column_of, label_name, views
from monitor.models import Baseline, Check, Claim, Incident, IncidentState, Result, Verdict
from monitor.outcomes import OUTCOMES
from monitor.service import Service

if TYPE_CHECKING:
    from monitor.run import Seen

_PROBLEMS = {
    "constant": "constant",
    "missing_rate": "null_burst",
    "unseen_rate": "unseen",
    "out_of_range_rate": "out_of_range",
    "column_missing": "constant",
    "column_type": "constant",
}
MIX = 0.1
"""PSI of a segment column from which on its mix has changed."""
SURE = 1e-4
STEADY, CLEARLY = 0.7, 0.15
"""A cause named with this confidence is replaced only by one that is so much surer."""
PREVALENCE, MEANING, WITHIN = 0.02, 0.03, 0.03
"""Changes too small to act on: of the share of positives, of what a score means, and of the rank within a class."""
SHAPE = 0.02
"""The same of how the scores of a class are spread, as a PSI would measure it."""
VAGUE = 4.0
"""An interval wider than so many tolerances on either side does not show that nothing has changed."""
_LEADING = ("roc_auc", "recall", "precision", "f1", "macro_f1", "accuracy", "mae", "rmse")
Labels = tuple[ScoreLabels, ScoreLabels] | tuple[ClassCounts, ClassCounts] | tuple[Errors, Errors]
"""Those of the reference, and those of a window."""


def causes(service: Service, claim: Claim, seen: Seen, step: Step) -> list[Incident]:
    """The step's incidents, the open ones with their likely cause, why, and what to do about it.

    Evidence is all that is known of the incident's window, whichever check found it: a drift is a broken feed when
    skew shows it, and a changed rule only when the inputs hold.
    """
    if not any(incident.state is IncidentState.OPEN for incident in step.incidents):
        return [_of_feed(service, claim, incident, seen.results) for incident in step.incidents]
    results = _known(service, claim, seen.results)
    baseline = service.store.baseline(claim.model)
    found = diagnose(
        evidence(
            results,
            columns={} if baseline is None else baseline.columns,
            counts=_counts(service, claim, seen),
            segments=[] if baseline is None else list(baseline.detail.get("segments", {})),
            labels=_labels(service, claim, seen, baseline, results),
        )
    )
    segment = grouping.shared_segment(results)
    groups = service.model(claim.model).features.groups
    known = [] if baseline is None else baseline.features
    return [
        _with_cause(incident, found, grouping.shared_group(incident.features, groups, known) or segment)
        if incident.state is IncidentState.OPEN and not feeds.is_of_feed(incident)
        else _of_feed(service, claim, incident, seen.results)
        for incident in step.incidents
    ]


def _of_feed(service: Service, claim: Claim, incident: Incident, results: Sequence[Result]) -> Incident:
    """An incident that is over, or of a feed: of the latter no cause in the model is looked for."""
    if feeds.is_of_feed(incident):
        incident = feeds.told(incident, results, service.model(claim.model))
    return replace(incident, summary=_summary(incident))


def _known(service: Service, claim: Claim, results: Sequence[Result]) -> list[Result]:
    """The newest results of the window: this run's, and those that the other clocks have stored."""
    mine = {result.check for result in results}
    stored = service.store.results(claim.model, start=claim.window.start, end=claim.window.end)
    return [*results, *(r for r in stored if r.check not in mine)]


def _counts(service: Service, claim: Claim, seen: Seen) -> dict[str, ColumnProfile]:
    """The counts of the window's columns: those just made, else those that are stored."""
    kept = service.store.profiles(claim.model, start=claim.window.start, end=claim.window.end, segment=None)
    return {
        p.column: p.profile
        for p in (*kept, *seen.profiles)
        if p.segment is None and p.window == claim.window and isinstance(p.profile, NumericProfile | CategoricalProfile)
    }


def _labels(
    service: Service, claim: Claim, seen: Seen, baseline: Baseline | None, results: Sequence[Result]
) -> Labels | None:
    """Labels of the reference and of the window; ``None`` before they can be compared fairly.

    Of several labels it is the one whose performance is worst.  Labels that land first are no fair sample, so the
    window's count only once a realized metric was judged on them.
    """
    judged: dict[str | None, int] = {}
    for r in results:
        if r.check is Check.PERFORMANCE and r.kind == "realized" and r.verdict.decides:
            judged[r.feature] = max(judged.get(r.feature, 0), r.verdict.rank)
    known = [view for view in views(service.model(claim.model)) if label_name(view) in judged]
    if not known or baseline is None:
        return None
    return _of_label(service, claim, seen, baseline, max(known, key=lambda view: judged[label_name(view)]))


def _of_label(service: Service, claim: Claim, seen: Seen, baseline: Baseline, view: ModelConfig) -> Labels | None:
    store, window = service.store, claim.window
    span = labelled_span(baseline, view, window)
    binary = view.labels is None or view.labels.task == "binary"
    column = column_of(view, LABELS if binary else OUTCOMES)
    mine = [p for p in seen.profiles if p.column == column and p.segment is None]
    mine = mine or store.profiles(claim.model, start=window.start, end=window.end, columns=[column])
    if not mine or span is None:
        return None
    current = mine[0].profile
    if isinstance(current, ScoreLabels):
        kept = kept_reference(store, claim.model, view, span, complete=True)
        return None if kept is None else (kept.scores, current)
    parts = [p.profile for p in store.profiles(claim.model, start=span.start, end=span.end, columns=[column])]
    if isinstance(current, ClassCounts):
        classes = [p for p in parts if isinstance(p, ClassCounts) and np.array_equal(p.edges, current.edges)]
        return (class_counts.merge_all(classes, current.edges), current) if classes else None
    if isinstance(current, Errors):
        errors = [p for p in parts if isinstance(p, Errors) and np.array_equal(p.edges, current.edges)]
        return (regression.merge_all(errors, current.edges), current) if errors else None
    return None


def evidence(
    results: Iterable[Result],
    *,
    columns: Mapping[str, Column] | None = None,
    counts: Mapping[str, ColumnProfile] | None = None,
    segments: Sequence[str] = (),
    labels: Labels | None = None,
) -> Evidence:
    """Sort what one window shows by what it says about a cause.

    Parameters
    ----------
    columns, counts
        The baseline's columns, and the window's counts over their edges.
    segments
        Columns whose values are segments.
    labels
        Labels of the reference and of the window: with scores, with predicted classes, or as errors.
    """
    results = list(results)
    whole = [result for result in results if result.segment is None]
    alerting = [result for result in whole if result.verdict is Verdict.ALERT]
    drifted = _worst(r for r in alerting if r.check is Check.FEATURE_DRIFT and r.feature is not None)
    score = _worst(r for r in alerting if r.check is Check.SCORE_DRIFT)
    drifted_scores = _drifted_scores(whole)
    return Evidence(
        drifted=tuple(_moved(r, r.feature or "") for r in drifted),
        score=_moved(score[0], "score") if score else None,
        skewed=tuple(
            Skewed(r.feature, r.value or 0.0, str(r.detail.get("kind", "true_mismatch")))
            for r in alerting
            if r.check is Check.SKEW and r.feature is not None
        ),
        broken=tuple(
            Broken(r.feature, _PROBLEMS[r.metric])
            for r in alerting
            if r.check is Check.QUALITY and r.feature is not None and r.metric in _PROBLEMS
        )
        + _broken([r.feature for r in drifted if r.feature is not None], columns or {}, counts or {}),
        mix=_mix(segments, columns or {}, counts or {}),
        within_segments=_within_segments(results),
        performance=_performance(whole),
        **(_label_evidence(labels) | ({} if drifted_scores is None else {"calibration": drifted_scores})),
    )


def _broken(
    drifted: Sequence[str], columns: Mapping[str, Column], counts: Mapping[str, ColumnProfile]
) -> tuple[Broken, ...]:
    """Columns that moved as only a feed moves them: all values by one factor, or some replaced by one value."""
    found = []
    for name in drifted:
        column, current = columns.get(name), counts.get(name)
        if column is None or not isinstance(current, NumericProfile) or not isinstance(column.spec, NumericSpec):
            continue
        if not isinstance(column.reference, NumericProfile) or len(current.cells) != column.spec.n_cells:
            continue
        factor = unit_change(column.reference, current)
        if factor is not None:
            found.append(Broken(name, "scale_change" if 1 / 3 < factor < 3 else "unit_change"))
        elif spike(column.spec, column.reference, current) is not None:
            found.append(Broken(name, "default_fill"))
    return tuple(found)


def _mix(
    segments: Sequence[str], columns: Mapping[str, Column], counts: Mapping[str, ColumnProfile]
) -> tuple[Moved, ...]:
    """Segment columns whose shares have changed by more than a customary PSI warning."""
    moved = []
    for name in segments:
        column, current = columns.get(name), counts.get(name)
        if column is None or current is None:
            continue
        try:
            found = psi(column.spec, column.reference, current)
        except ProfileError:  # counted over other categories
            continue
        effect = found.detail.get("psi_corrected", found.value)
        if effect is not None and effect >= MIX and (found.p_value or 0.0) <= SURE:
            moved.append(Moved(name, effect / MIX, found.p_value))
    return tuple(moved)


def _within_segments(results: Iterable[Result]) -> bool | None:
    """Whether inputs drift inside segments; ``None`` where no segment could say."""
    inside = [r for r in results if r.segment is not None and r.check is Check.FEATURE_DRIFT and r.verdict.decides]
    inside = [r for r in inside if r.segment is not None and r.segment.partition("=")[0] != r.feature]
    return any(r.verdict is Verdict.ALERT for r in inside) if inside else None


def _label_evidence(labels: Labels | None) -> dict[str, Any]:
    if labels is None:
        return {}
    reference, current = labels
    if isinstance(reference, ScoreLabels) and isinstance(current, ScoreLabels):
        return {
            "prevalence": _stated(prevalence_change(reference, current), PREVALENCE),
            "calibration": _stated(meaning_change(reference, current), MEANING),
            "within_class": _within_class(reference, current),
            "score_follows": scores_follow_labels(reference, current),
        }
    if isinstance(reference, ClassCounts) and isinstance(current, ClassCounts):
        tables = ClassTables.of(reference, current)
        return {
            "prevalence": _stated(tables.prevalence_change(), PREVALENCE),
            "calibration": _stated(tables.meaning_change(), MEANING),
            "within_class": _stated(tables.within_class_change(), WITHIN),
        }
    if isinstance(reference, Errors) and isinstance(current, Errors):
        return {"calibration": _stated(error_change(reference, current), MEANING)}
    return {}


def _within_class(reference: ScoreLabels, current: ScoreLabels) -> Change | None:
    """Whether the scores of either class rank, or are spread, otherwise than they were."""
    ranks = _stated(within_class_change(reference, current), WITHIN)
    shape = within_class_shape(reference, current)
    if shape is None or shape.low <= SHAPE or (ranks is not None and ranks.moved):
        return ranks
    return Change(shape.value, shape.low - SHAPE, shape.high)


def _drifted_scores(results: Iterable[Result]) -> Change | None:
    """What a score means has changed, by the test of its own; ``None`` where that has not been shown."""
    shown = [r for r in results if r.metric in CALIBRATION and r.verdict is Verdict.ALERT]
    if not shown:
        return None
    worst = max(shown, key=messages.excess)
    low, high = worst.interval or (0.0, worst.value or 0.0)
    return Change(worst.value or 0.0, max(low, 1e-9), high)


def _stated(found: LabelChange | None, tolerance: float) -> Change | None:
    """A change beyond its tolerance, or that there is none; ``None`` where too few labels tell neither."""
    if found is None:
        return None
    low, high = found.low - tolerance, found.high + tolerance
    told = Change(found.value, low, found.high) if found.value > 0 else Change(found.value, found.low, high)
    return told if told.moved or found.half_width <= VAGUE * tolerance else None


def _worst(results: Iterable[Result]) -> list[Result]:
    """One result for each feature, the one furthest beyond its limit; worst first."""
    by_feature: dict[str | None, Result] = {}
    for result in sorted(results, key=messages.excess):
        by_feature[result.feature] = result
    return sorted(by_feature.values(), key=messages.excess, reverse=True)


def _moved(result: Result, name: str) -> Moved:
    return Moved(name, messages.excess(result), result.p_value)


def _performance(results: Sequence[Result]) -> Change | None:
    """Change of the leading metric that was judged, worst first; ``None`` before the labels are in."""
    judged = [
        r
        for r in results
        if r.check is Check.PERFORMANCE
        and r.kind in ("realized", "corrected")
        and r.detail.get("decides") is not False
        and r.verdict.decides
        and r.metric in _LEADING
        and r.value is not None
        and r.interval is not None
        and isinstance(r.detail.get("reference"), float)
    ]
    if not judged:
        return None
    leading = min(judged, key=lambda r: (-r.verdict.rank, _LEADING.index(r.metric)))
    reference = float(leading.detail["reference"])
    low, high = leading.interval or (0.0, 0.0)
    found = Change((leading.value or 0.0) - reference, low - reference, high - reference)
    return found if leading.metric in FALLING_IS_WORSE else Change(-found.value, -found.high, -found.low)


def _with_cause(incident: Incident, found: Cause, shared: grouping.Shared | None) -> Incident:
    if _stands(incident, found):
        return replace(incident, summary=_summary(incident))
    detail = incident.detail | {"advice": found.playbook, "why": "; ".join(found.because)}
    if shared is not None:
        detail["shared"] = str(shared)
    told = replace(incident, cause=found.kind.value, cause_confidence=round(found.confidence, 2), detail=detail)
    return replace(told, summary=_summary(told))


def _stands(incident: Incident, found: Cause) -> bool:
    """Whether a cause that was named is kept: a later window may have troubles of its own beside it."""
    sure = incident.cause_confidence or 0.0
    return incident.cause not in (None, found.kind.value) and sure >= STEADY and found.confidence < sure + CLEARLY


def _summary(incident: Incident) -> str:
    words = messages.subject_of(incident)
    return f"{words} since {messages.moment(incident.onset or incident.opened_window)}"
