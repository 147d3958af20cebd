"""Does a score still mean what it meant? Labels against the baseline's, given the score: one window, and several.

Unlike precision and its fellows this sees a changed rule that costs little yet (`detectors/calibration_drift.py`).
Only labels that are a fair sample are judged: those of a window in which *realized* decides (`monitor/performance.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from operator import add
from typing import Any

from detectors.calibration_deviations import Tally
from detectors.calibration_drift import CalibrationBaseline, CalibrationDrift, Stretch
from detectors.score_labels import ScoreLabels
from monitor.checks import Evidence, Scope
from monitor.config import ModelConfig, PerformanceLimit
from monitor.models import Check, Result, StoredProfile, Verdict, Window
from monitor.thresholds import Judgement, judge_effect

METRIC = "calibration_drift"
TOGETHER = "calibration_drift_accumulated"
METRICS = (METRIC, TOGETHER)
HISTORY = 120
"""Windows, the newest, that show how far shares wander without change."""
SPANS = (2, 4, 8)
"""Numbers of windows that are judged together."""
NEARLY_ALL = 0.95


@dataclass(frozen=True)
class Labelled:
    """The labels of one window, and whether they are a fair sample: mature, or nearly all of them."""

    counts: ScoreLabels
    mature: bool
    age_days: float = 0.0

    @property
    def is_fair(self) -> bool:
        return self.mature or (self.counts.label_coverage or 0.0) >= NEARLY_ALL


def baseline_of(reference: ScoreLabels, windows: Sequence[ScoreLabels]) -> CalibrationBaseline | None:
    """What scores meant, and how far that varies between the reference's windows; ``None`` where labels do not say."""
    try:
        return CalibrationBaseline(reference, windows[-HISTORY:])
    except ValueError:
        return None


def fair_ones(kept: Iterable[StoredProfile], model: ModelConfig, *, now: datetime) -> list[tuple[Window, ScoreLabels]]:
    """The stored counts that are a fair sample by now, oldest first."""
    delay = timedelta(0) if model.labels is None else model.labels.delay
    found = [(each.window, each.profile) for each in kept if isinstance(each.profile, ScoreLabels)]
    found = [(w, counts) for w, counts in found if Labelled(counts, w.end + delay <= now).is_fair]
    return sorted(found, key=lambda pair: pair[0])


def judge(
    scope: Scope, now: Labelled, baseline: CalibrationBaseline | None, recent: Sequence[ScoreLabels] = ()
) -> list[Result]:
    """Has what a score means changed, in this window and in the last ones together?

    Parameters
    ----------
    recent
        The labels of the windows just before, oldest first, as far as they are a fair sample.
    """
    if not scope.model.performance.watches_scores or baseline is None:
        return []
    limits = _Limits.of(scope)
    refused = _refused(scope, now)
    if refused is not None:
        return [_result(scope, METRIC, now, None, judged=refused)]
    evidence = Evidence(scope, "calibration", 2)
    mine = baseline.tally(now.counts)
    found = baseline.compare(mine)
    if found is None:
        reason = "no label lies at a score that the baseline has seen"
        return [_result(scope, METRIC, now, None, judged=Judgement(Verdict.CANNOT_TELL, limits.shown, reason))]
    alone = _judged(scope, METRIC, now, found, limits, alpha=evidence.alpha(alike=found.alike), evidence=evidence)
    return [alone, *_together(scope, now, baseline, [*map(baseline.tally, recent), mine], limits)]


@dataclass(frozen=True)
class _Limits:
    warn: float | None
    alert: float | None

    @classmethod
    def of(cls, scope: Scope) -> _Limits:
        warn, alert = scope.model.performance.limits()
        return cls(_size(warn.get(METRIC)), _size(alert.get(METRIC)))

    @property
    def shown(self) -> float | None:
        return self.alert if self.alert is not None else self.warn


def _size(limit: PerformanceLimit | None) -> float | None:
    return None if limit is None else abs(limit.value)


def _refused(scope: Scope, now: Labelled) -> Judgement | None:
    """Why the window's labels are not compared, where that is so."""
    counts, least = now.counts, scope.model.performance.min_labels
    if not counts.n:
        return Judgement(Verdict.NO_DATA, None, "no predictions in this window")
    if not counts.n_labelled:
        return Judgement(Verdict.NO_DATA, None, "no labels yet")
    if not now.is_fair:
        reason = f"labels are still landing: {counts.label_coverage:.0%} so far, and not a fair sample"
        return Judgement(Verdict.CANNOT_TELL, None, reason)
    if counts.n_labelled < least:
        return Judgement(Verdict.CANNOT_TELL, None, f"{counts.n_labelled} labels, min_labels is {least}")
    return None


def _together(
    scope: Scope, now: Labelled, baseline: CalibrationBaseline, tallies: Sequence[Tally], limits: _Limits
) -> list[Result]:
    """The last 2, 4 and 8 windows, as one: the surest of them is told.

    They overlap with those of the next window, which therefore confirms less: their level allows for it.
    """
    spans = [span for span in SPANS if span <= len(tallies)]
    told: list[Result] = []
    for span in spans:
        found = baseline.compare(reduce(add, tallies[-span:]), windows=span)
        if found is None:
            continue
        evidence = Evidence(scope, "calibration", 2 * len(spans))
        alike = found.alike + (1 - found.alike) * (span - 1) / span
        row = _judged(scope, TOGETHER, now, found, limits, alpha=evidence.alpha(alike=alike), evidence=evidence)
        what = row.detail.get("what")
        row.detail.update({"windows": span} | ({"what": f"the last {span} windows together: {what}"} if what else {}))
        told.append(row)
    if not told:
        return []
    surest = min(told, key=_surest)
    surest.detail["spans"] = [
        [row.detail["windows"], row.value, row.p_value, row.detail["alpha"], row.detail["smallest_detectable"]]
        for row in told
    ]
    return [surest]


def _surest(row: Result) -> tuple[float, float]:
    return _rank(Judgement(row.verdict, None), row.p_value)


def _rank(judged: Judgement, p_value: float | None) -> tuple[float, float]:
    return (-judged.verdict.rank if judged.verdict.decides else 0, p_value or 1.0)


def judged_again(scope: Scope, stored: Result) -> Result | None:
    """A stored row held to the limits of today; ``None`` where of several windows another span would be told."""
    limits, detail = _Limits.of(scope), dict(stored.detail)
    row = replace(stored, revision=scope.revision)
    if "alpha" not in detail:  # nothing was compared
        named = stored.value is None and stored.threshold is not None
        return replace(row, threshold=limits.shown) if named else row

    def judged(value: float | None, p_value: float | None, alpha: float, smallest: float) -> Judgement:
        return judge_effect(value, p_value, warn=limits.warn, alert=limits.alert, alpha=alpha, detectable=smallest)

    spans = detail.get("spans", [])
    if spans:
        ranked = [(judged(*each[1:]), each) for each in spans]
        surest = min(ranked, key=lambda pair: _rank(pair[0], pair[1][2]))
        if surest[1][0] != detail["windows"]:
            return None
    found = judged(stored.value, stored.p_value, detail["alpha"], detail["smallest_detectable"])
    detail.pop("reason", None)
    detail |= {"decides": found.verdict.decides} | ({"reason": found.reason} if found.reason else {})
    return replace(row, verdict=found.verdict, threshold=found.threshold, detail=detail)


def _judged(
    scope: Scope,
    metric: str,
    now: Labelled,
    found: CalibrationDrift,
    limits: _Limits,
    *,
    alpha: float,
    evidence: Evidence,
) -> Result:
    smallest = found.smallest_detectable(alpha)
    judged = judge_effect(
        found.value, found.p_value, warn=limits.warn, alert=limits.alert, alpha=alpha, detectable=smallest
    )
    detail = {**evidence.told(alpha), **found.describe(), "smallest_detectable": smallest}
    if found.p_value <= alpha:
        detail["what"] = _words(found.where)
    return _result(scope, metric, now, found, judged=judged, told=detail)


def _words(where: Stretch) -> str:
    return (
        f"of scores from {where.low:.3g} to {where.high:.3g} {where.observed:.1%} are positive, "
        f"{where.expected:.1%} were to be expected"
    )


def _result(
    scope: Scope,
    metric: str,
    now: Labelled,
    found: CalibrationDrift | None,
    *,
    judged: Judgement,
    told: Mapping[str, Any] | None = None,
) -> Result:
    # What precision and its fellows can tell is not to be held up by a question that needs more labels than they do.
    detail: dict[str, Any] = {
        **(told or {}),
        "age_days": round(now.age_days, 3),
        "n_labelled": now.counts.n_labelled,
        "mature": now.mature,
        "decides": judged.verdict.decides,
    }
    if judged.reason:
        detail["reason"] = judged.reason
    return scope.result(
        Check.PERFORMANCE,
        metric,
        value=None if found is None else found.value,
        p_value=None if found is None else found.p_value,
        threshold=judged.threshold,
        verdict=judged.verdict,
        n_reference=None if found is None else found.n_reference,
        n_current=now.counts.n_labelled if found is None else found.n_current,
        kind="realized",
        interval=None if found is None else (found.low, found.high),
        label_coverage=now.counts.label_coverage,
        detail=detail,
    )
