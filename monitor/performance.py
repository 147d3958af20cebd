"""Performance of one window on three curves, never mixed up: realized, corrected for late labels, and estimated.

Which of them decides is a rule, and it is shown (``detail.decides``, ``detail.rule``): the most certain one.

1. *realized*, once the labels are mature or at least ``NEARLY_ALL`` of them have landed;
2. else *corrected*, where it is identifiable and its interval no wider than ``WIDEST``;
3. else *estimated*, which may warn and never alerts: a changed rule is invisible to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from detectors.bounds import thresholds_with_never_labelled
from detectors.calibration import Calibrator, calibration_change
from detectors.classification import (
    Measure,
    Reliability,
    ScoreLabels,
    ThresholdRow,
    reliability_curve,
    threshold_table,
)
from detectors.corrected_tables import Tables
from detectors.intervals import Interval, difference, mean_interval, wilson
from monitor.checks import Evidence, Scope
from monitor.config import IN_UNITS, PerformanceLimit
from monitor.delays import Expected
from monitor.messages import metric_word, number
from monitor.models import Check, Result, Verdict
from monitor.thresholds import Judgement, judge_bounds, judge_performance

NEARLY_ALL = 0.95
WIDEST = 0.25
"""A corrected value whose 95 % interval is wider than this is shown, and decides nothing."""

RULES = {
    "realized": "realized decides: the labels are mature, or nearly all in",
    "corrected": "corrected decides: labels are still landing, and which land first is known from earlier windows",
    "estimated": "estimated may warn: no label says anything yet, and a changed rule would not show in it",
}


@dataclass(frozen=True)
class Curves:
    """What one window (or one segment of it) shows on each curve, by metric.

    Parameters
    ----------
    few
        Of a segment without a ``reference``: how many labels it has in the baseline, fewer than it would take.
    n_segments
        Of a segment: how many are judged together; 0 of all rows.
    n_rows, n_never
        Predictions that can be labelled, and those that never can: ``coverage`` is of the former.
    notes
        What was odd about the labels, such as contradictions, for the detail of the first row.
    expected
        How many labels there will be once they are mature, for the reason of values that wait for them.
    """

    realized: Mapping[str, Measure]
    corrected: Mapping[str, Measure] = field(default_factory=dict)
    estimated: Mapping[str, Measure] = field(default_factory=dict)
    reference: Mapping[str, Measure] | None = None
    few: int | None = None
    n_segments: int = 0
    n_labelled: int = 0
    n_rows: int = 0
    n_never: int = 0
    mature: bool = False
    age_days: float = 0.0
    notes: Mapping[str, Any] = field(default_factory=dict)
    expected: Expected | None = None
    widest: Mapping[str, float] = field(default_factory=dict)
    """How wide the interval of a corrected value may be for it to decide, where that is not ``WIDEST``."""
    one_class: str = ""
    """Why labels say nothing of the decisions, where there has only ever been one class of them."""
    law: str = ""
    """Of a segment: whose delay law corrects it, its own (``segment``) or that of all (``model``)."""

    @property
    def coverage(self) -> float | None:
        return self.n_labelled / self.n_rows if self.n_rows else None

    @property
    def n_predictions(self) -> int:
        return self.n_rows + self.n_never


def results(scope: Scope, curves: Curves, *, segment: str | None = None) -> list[Result]:
    """The rows of one window or segment: for each metric up to three, of which at most one decides."""
    found: list[Result] = []
    for metric in curves.realized:
        chosen = decides(scope, curves, metric)
        for kind in ("realized", "corrected", "estimated"):
            measure = getattr(curves, kind).get(metric)
            if measure is not None:
                found.append(_row(scope, curves, metric, measure, kind=kind, chosen=chosen, segment=segment))
    if found and curves.notes:
        found[0] = _with(found[0], curves.notes)
    return found


def decides(scope: Scope, curves: Curves, metric: str) -> str | None:
    """The most certain curve of a metric; ``None`` where none says anything."""
    enough = curves.n_labelled >= scope.model.performance.min_labels
    if curves.mature or (curves.coverage or 0.0) >= NEARLY_ALL:
        return "realized"
    corrected = curves.corrected.get(metric)
    widest = curves.widest.get(metric, WIDEST)
    if enough and corrected is not None and (_width(corrected) <= widest or _uncertain(corrected) <= widest):
        return "corrected"
    estimated = curves.estimated.get(metric)
    if estimated is not None and estimated.value is not None and curves.n_predictions >= scope.model.min_rows:
        return "estimated"
    return None


def _width(measure: Measure) -> float:
    if measure.value is None or measure.low is None or measure.high is None:
        return math.inf
    return measure.high - measure.low


def _uncertain(measure: Measure) -> float:
    """By how much chance widens bounds, at both ends together."""
    if measure.bounds is None or measure.chance is None:
        return math.inf
    return measure.chance[1] - measure.chance[0] - (measure.bounds[1] - measure.bounds[0])


def _row(
    scope: Scope, curves: Curves, metric: str, measure: Measure, *, kind: str, chosen: str | None, segment: str | None
) -> Result:
    judged = _judge(scope, curves, metric, measure, kind=kind)
    known = None if curves.reference is None else curves.reference.get(metric)
    detail: dict[str, Any] = {
        "age_days": round(curves.age_days, 3),
        "n_labelled": curves.n_labelled,
        "mature": curves.mature,
        "decides": kind == chosen and kind != "estimated",
    }
    if curves.expected is not None and kind == "realized":
        awaited = curves.expected
        detail["labels_expected"] = [awaited.due.isoformat(), awaited.share, awaited.low, awaited.high]
    if kind == "corrected" and curves.law:
        detail["delay_law"] = curves.law
    detail |= _evidence(scope, curves, metric, measure, kind=kind)
    if kind == chosen:
        detail["rule"] = RULES[kind]
        detail |= _split(curves, metric, measure, kind=kind)
    if known is not None and known.value is not None:
        detail["reference"] = known.value
        if measure.value is not None:
            detail["what"] = f"{_numbers(scope, metric, known.value, measure.value)}{_said(kind)}"
    reason = measure.reason if measure.value is None else judged.reason
    interval = None if measure.low is None or measure.high is None else (measure.low, measure.high)
    if curves.n_never:
        detail |= _never(curves, measure, judged, kind=kind)
        interval = interval or measure.bounds
    if reason:
        detail["reason"] = reason
    return scope.result(
        Check.PERFORMANCE,
        metric,
        segment=segment,
        value=measure.value,
        threshold=judged.threshold,
        verdict=spoken(judged, decides=detail["decides"]),
        n_reference=None if known is None else known.n,
        n_current=curves.n_predictions if kind == "estimated" else curves.n_labelled,
        kind=kind,
        interval=interval,
        label_coverage=curves.coverage,
        detail=detail,
    )


def spoken(judged: Judgement, *, decides: bool) -> Verdict:
    """Only the curve that decides alerts."""
    return Verdict.WARN if judged.verdict is Verdict.ALERT and not decides else judged.verdict


def _evidence(scope: Scope, curves: Curves, metric: str, measure: Measure, *, kind: str) -> dict[str, Any]:
    """What a verdict rests on beside the value and its interval: with it other limits can be held to the same row."""
    told: dict[str, Any] = {}
    known = None if curves.reference is None else curves.reference.get(metric)
    if known is not None and known.low is not None and known.high is not None:
        told["reference_interval"] = [known.low, known.high]
    elif known is not None and known.chance is not None:
        told["reference_interval"] = list(known.chance)
    if curves.few is not None:
        told["few_reference"] = curves.few
    if kind == "corrected" and measure.value is not None and metric in curves.widest:
        told["widest"] = curves.widest[metric]
    if kind == "corrected" and refused(scope, curves, metric, measure, kind=kind) is None:
        rate = _rate(scope, curves, metric, measure, kind=kind)
        told |= {} if rate is None else {"rate": list(rate)}
    return told


def _never(curves: Curves, measure: Measure, judged: Judgement, *, kind: str) -> dict[str, Any]:
    """What the predictions that can never be labelled do to a row."""
    told: dict[str, Any] = {"never_labelled": curves.n_never}
    if kind == "estimated":
        told["assumes"] = "scores mean for the never labelled what they meant for those with a label"
    if measure.bounds is not None and measure.chance is not None:
        told |= {"bounds": "never labelled", "bounds_with_chance": list(measure.chance)}
        low, high = measure.bounds
        told["what"] = (
            f"between {low:.3f} and {high:.3f}: {curves.n_never:,} of {curves.n_never + curves.n_rows:,} predictions "
            f"can never be labelled{_said(kind)}"
        )
        if judged.reason:
            told["verdict_reason"] = judged.reason
    return told


def _numbers(scope: Scope, metric: str, before: float, after: float) -> str:
    if scope.model.performance.task == "binary":
        return f"{metric} {before:.3f} → {after:.3f}"
    return f"{metric_word(metric)} {number(before)} → {number(after)}"


def _said(kind: str) -> str:
    return {"corrected": " (corrected for labels still to come)", "estimated": " (estimated, before labels)"}.get(
        kind, ""
    )


def _with(result: Result, notes: Mapping[str, Any]) -> Result:
    result.detail.update(notes)
    return result


def _judge(scope: Scope, curves: Curves, metric: str, measure: Measure, *, kind: str) -> Judgement:
    return refused(scope, curves, metric, measure, kind=kind) or held(scope, curves, metric, measure, kind=kind)


def refused(  # noqa: PLR0911
    scope: Scope, curves: Curves, metric: str, measure: Measure, *, kind: str
) -> Judgement | None:
    """Why a value is not judged, whatever the limits: labels that are still landing cannot tell, for one."""
    limits = scope.model.performance
    if curves.n_rows == 0 and curves.n_never and kind != "estimated":
        return Judgement(Verdict.CANNOT_TELL, None, "no prediction of this window can ever be labelled")
    if curves.n_rows == 0 and not curves.n_never:
        return Judgement(Verdict.NO_DATA, None, "no predictions in this window")
    if kind == "realized" and curves.n_labelled == 0:
        return Judgement(Verdict.NO_DATA, None, "no labels yet")
    if kind == "realized" and curves.one_class:
        return Judgement(Verdict.CANNOT_TELL, None, curves.one_class)
    if kind != "estimated" and curves.n_labelled < limits.min_labels:
        return Judgement(Verdict.CANNOT_TELL, None, f"{curves.n_labelled} labels, min_labels is {limits.min_labels}")
    if kind == "estimated" and curves.n_predictions < scope.model.min_rows:
        return Judgement(Verdict.CANNOT_TELL, None, f"{curves.n_predictions} rows, min_rows is {scope.model.min_rows}")
    if kind == "realized" and not curves.mature and (curves.coverage or 0.0) < NEARLY_ALL:
        awaited = "" if curves.expected is None else f"; {curves.expected}"
        reason = f"labels are still landing: {curves.coverage:.0%} so far, and not a fair sample{awaited}"
        return Judgement(Verdict.CANNOT_TELL, None, reason)
    if kind == "corrected" and measure.value is not None and _width(measure) > curves.widest.get(metric, WIDEST):
        return Judgement(Verdict.CANNOT_TELL, None, f"known to within {_width(measure):.3g} only")
    return None


def held(scope: Scope, curves: Curves, metric: str, measure: Measure, *, kind: str) -> Judgement:
    """Judge one value by the limits."""
    limits = scope.model.performance
    known = None if curves.reference is None else curves.reference.get(metric)
    warn, alert = limits.limits()
    if measure.chance is not None:
        span = None if known is None or known.low is None or known.high is None else (known.low, known.high)
        span = span if known is None or known.chance is None else known.chance
        limit = {side: _plain_limit(given.get(metric), metric, measure, known) for side, given in
                 (("warn", warn), ("alert", alert))}  # fmt: skip
        return judge_bounds(measure.chance, reference=span, warn=limit["warn"], alert=limit["alert"])
    triple = None
    if known is not None and known.value is not None and known.low is not None and known.high is not None:
        triple = (known.value, known.low, known.high)
    interval = _rate(scope, curves, metric, measure, kind=kind)
    given = [_plain_limit(side.get(metric), metric, measure, known) for side in (warn, alert)]
    judged = judge_performance(
        measure.value,
        interval,
        reference=triple,
        warn=given[0],
        alert=given[1],
        alpha=level_of(scope, curves.n_segments),
    )
    if (
        curves.few is not None
        and judged.verdict is Verdict.OK
        and any(each and each.kind == "change" for each in given)
    ):
        return _too_few(curves.few, limits.min_labels)
    if triple is None and known is not None and known.bounds is not None and judged.reason:
        return replace(judged, reason="of the baseline only bounds are known: some of it can never be labelled")
    return judged


def _rate(scope: Scope, curves: Curves, metric: str, measure: Measure, *, kind: str) -> tuple[float, float] | None:
    """The interval that a value is judged with."""
    interval = None if measure.low is None or measure.high is None else (measure.low, measure.high)
    if kind != "corrected" or interval is None:
        return interval
    realized = None if scope.model.performance.task == "binary" else curves.realized.get(metric)
    return measure.rate or _as_a_rate(measure, interval, realized)


def level_of(scope: Scope, n_segments: int) -> float:
    """The level of one metric; all segments together have a part of the budget beside that of all rows.

    A fall beyond its limit is common by chance where labels are few, and a window's verdict is read on its own: the
    level is that of one window, not that of several in a row.
    """
    n_tests = len(scope.model.performance.computed())
    if not n_segments:
        return Evidence(scope, "performance", n_tests).alpha(confirm=1)
    return Evidence(scope, "performance_segments", n_tests * n_segments).alpha(confirm=1)


def _too_few(few: int, least: int) -> Judgement:
    reason = f"{few} labels of this segment in the baseline, min_labels is {least}"
    return Judgement(Verdict.CANNOT_TELL, None, reason)


def _plain_limit(
    limit: PerformanceLimit | None, metric: str, measure: Measure, known: Measure | None
) -> PerformanceLimit | None:
    """A limit as a plain bound or change in points; one that is a part of the baseline's value needs that value."""
    reference = None if known is None else known.value
    return None if limit is None else limit.against(reference, measure.value, relative=metric in IN_UNITS)


def _as_a_rate(measure: Measure, interval: tuple[float, float], realized: Measure | None = None) -> tuple[float, float]:
    """The interval of the rate behind a corrected value: even with all labels in, so many predictions vary by chance.

    Shown is where the window's own value will end up; against the baseline it is the rate that counts, as it does for
    realized values.  Of what is no simple rate the labels that are in say how much it varies.
    """
    value, n = measure.value or 0.0, max(measure.n, 1)
    if realized is None:
        low, high = wilson(value * n, n)
    elif realized.value is None or realized.low is None or realized.high is None:
        return interval
    else:
        low, high = value - (realized.value - realized.low), value + (realized.high - realized.value)
    return (
        value - math.hypot(value - interval[0], value - low),
        value + math.hypot(interval[1] - value, high - value),
    )


# --- why it changed --------------------------------------------------------------------------------


def _split(curves: Curves, metric: str, measure: Measure, *, kind: str) -> dict[str, Any]:
    """What of a change the inputs explain, and what they do not: the estimate lies between the two.

    ``explained_change = estimated - reference`` and ``rule_change = realized (or corrected) - estimated``, each as
    value, low and high.
    """
    estimated = curves.estimated.get(metric)
    known = None if curves.reference is None else curves.reference.get(metric)
    if estimated is None or kind == "estimated":
        return {}
    told: dict[str, Any] = {}
    if known is not None:
        told["explained_change"] = _difference(known, estimated)
    told["rule_change"] = _difference(estimated, measure)
    return {name: value for name, value in told.items() if value is not None}


def _difference(first: Measure, second: Measure) -> list[float] | None:
    sides = [first, second]
    if any(side.value is None or side.low is None or side.high is None for side in sides):
        return None
    value = [float(side.value or 0.0) for side in sides]
    low, high = difference(
        value[0],
        Interval(first.low or 0.0, first.high or 0.0),
        value[1],
        Interval(second.low or 0.0, second.high or 0.0),
    )
    return [value[1] - value[0], low, high]


def meaning_of_scores(counts: ScoreLabels, calibrator: Calibrator | None) -> dict[str, Any]:
    """Has P(y | score) moved? ``calibration_change``: realized less expected share of positives among labels."""
    change = None if calibrator is None else calibration_change(counts, calibrator)
    return {} if change is None else {"calibration_change": [change.value, change.low, change.high]}


# --- tables ----------------------------------------------------------------------------------------


def tables(
    counts: ScoreLabels,
    thresholds: Sequence[float],
    *,
    never: ScoreLabels | None = None,
    corrected: Tables | str | None = None,
) -> dict[str, Any]:
    """What other thresholds would have given, and what scores promised against what came true.

    Of labelled rows, or while labels are landing of what is ``corrected`` for those to come: ``tables_of`` says which.
    Where that cannot be known there are no tables, and ``tables_reason``.  Where some of the predictions can ``never``
    be labelled, what a threshold would have given is told as bounds.
    """
    if not counts.n_labelled or not len(counts.scores):
        return {}
    matrix = counts.confusion()
    confusion: dict[str, Any] = {"tp": matrix.tp, "fp": matrix.fp, "fn": matrix.fn, "tn": matrix.tn}
    if never is not None and never.n:
        no, yes, _ = never.decisions().tolist()
        confusion["never_labelled"] = {"positive": yes, "negative": no}
    if isinstance(corrected, str):
        return {"confusion": confusion, "tables_of": "corrected", "tables_reason": corrected}
    told: dict[str, Any] = {"confusion": confusion, "tables_of": "realized"}
    if corrected is None:
        rows: Sequence[ThresholdRow] = threshold_table(counts, thresholds)
        rows = rows if never is None else thresholds_with_never_labelled(rows, counts, never)
        curve = reliability_curve(counts) if counts.low >= 0 and counts.high <= 1 else None
    else:
        rows, curve = corrected.thresholds, corrected.reliability
        expected = {name: [each.value, each.low, each.high] for name, each in corrected.confusion.items()}
        told |= {"tables_of": "corrected", "confusion_expected": expected}
    told["thresholds"] = [_threshold(row) for row in rows]
    return told if curve is None else told | {"reliability": _bins(curve)}


def _bins(curve: Reliability) -> list[dict[str, float]]:
    parts = (part.tolist() for part in (curve.predicted, curve.observed, curve.n, curve.low, curve.high))
    names = ("predicted", "observed", "n", "low", "high")
    return [dict(zip(names, each, strict=True)) for each in zip(*parts, strict=True)]


def _threshold(row: ThresholdRow) -> dict[str, Any]:
    """``[value, low, high]`` of each; the value is ``None`` where there are bounds only."""
    told: dict[str, Any] = {"threshold": row.threshold}
    for name in ("precision", "recall", "f1", "specificity", "positive_rate"):
        measure: Measure = getattr(row, name)
        interval = measure.bounds or (measure.low, measure.high)
        told[name] = None if interval[0] is None else [measure.value, *interval]
    matrix = row.confusion
    return told | {"tp": matrix.tp, "fp": matrix.fp, "fn": matrix.fn, "tn": matrix.tn}


def business_value(counts: ScoreLabels, worth: Mapping[Any, float]) -> Measure:
    """What the decisions were worth: the mean over labelled decisions of the worth of each outcome.

    ``worth`` gives it for ``tp``, ``fp``, ``fn`` and ``tn``; what it does not name is worth 0.
    """
    matrix = counts.confusion()
    if matrix.n == 0:
        nothing = "no_labels" if counts.n else "no_predictions"
        return Measure(None, reason="no_decisions" if counts.n_labelled else nothing)
    cells = [(getattr(matrix, name), float(worth.get(name, 0.0))) for name in ("tp", "fp", "fn", "tn")]
    mean = sum(n * value for n, value in cells) / matrix.n
    spread = sum(n * (value - mean) ** 2 for n, value in cells) / max(matrix.n - 1, 1)
    low, high = mean_interval(mean, spread, matrix.n)
    return Measure(mean, low, high, matrix.n) if math.isfinite(low) else Measure(mean, n=matrix.n)
