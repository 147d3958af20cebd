"""One column against its baseline: one test of whether it changed, and metrics that say by how much, judged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from detectors import DETECTORS
from detectors.change import ChangeTest, Watched, change
from detectors.display import what_changed
from detectors.ks import ks_p_value
from detectors.profiles import Column, ColumnProfile, NumericSpec, merge_all
from detectors.statistic import Statistic
from monitor.checks.scope import Evidence, Scope, with_reason
from monitor.models import WEEKLY, Check, Result, Verdict
from monitor.thresholds import Judgement, judge_effect, too_little


def compare_column(
    scope: Scope,
    column: Column,
    current: ColumnProfile,
    *,
    check: Check,
    feature: str | None,
    segment: str | None,
    metrics: Sequence[str],
    warn: Mapping[Any, float],
    alert: Mapping[Any, float],
    evidence: Evidence,
    against: str = "baseline",
) -> list[Result]:
    """Each configured metric of one column, judged.

    Whether the column has changed is one question, with one p-value; the metrics say by how much.
    """
    spec, reference = column.spec, column.reference
    numeric = isinstance(spec, NumericSpec)
    scarce = too_little(current.n, reference.n, min_rows=scope.model.min_rows)
    words = "" if scarce else what_changed(spec, reference, current, min_rows=scope.min_category_rows)
    test = None if scarce else change_of(column, current)
    season, weekly = (column.season, column.same_week) if isinstance(column, Watched) else ("", ())
    alpha = evidence.alpha(alike=0.0 if test is None else test.alike, cycles=bool(season) + bool(weekly))
    shared: dict[str, Any] = evidence.told(alpha) | {"against": against}
    if test is not None:
        shared |= test.describe()
    if season:
        shared["season"] = season
    if words:
        shared["what"] = words
    results = []
    for metric in metrics:
        detector = DETECTORS[metric]
        if not (detector.numeric if numeric else detector.categorical):
            continue
        found = Statistic(None) if test is None else detector.function(spec, reference, current)
        measured = Measured.of(metric, found, test, alpha=alpha, n=current.n, m=reference.n)
        limits = {"warn": warn.get(metric), "alert": alert.get(metric)}
        by_chance = _by_chance(metric, limits["alert"] or limits["warn"], test, n=current.n, m=reference.n)
        if by_chance is not None:
            measured.detail["limit_by_chance"] = by_chance
        judged = scarce or judge_effect(
            measured.effect, measured.p_value, **limits, alpha=alpha, detectable=measured.detectable
        )
        if judged.verdict is Verdict.ALERT and isinstance(column, Watched) and weekly:
            measured.detail.update(_again(column, current, metric, limits=limits, alpha=alpha))
        results.append(
            scope.result(
                check,
                metric,
                feature=feature,
                segment=segment,
                value=found.value,
                p_value=measured.p_value,
                threshold=judged.threshold if judged.threshold is not None else alert.get(metric, warn.get(metric)),
                verdict=judged.verdict,
                n_reference=reference.n,
                n_current=current.n,
                interval=measured.interval,
                detail=with_reason(dict(found.detail) | shared | measured.detail, _named(judged, measured, alpha)),
            )
        )
    return results


def _again(
    column: Watched, current: ColumnProfile, metric: str, *, limits: Mapping[str, float | None], alpha: float
) -> dict[str, Any]:
    """``again``, where the window is as far from the baseline's windows of its own time of the week as from all.

    Then it is no season that matching did not pay for, and the same a week ago confirms it.
    """
    own = replace(column, reference=merge_all(column.same_week), reference_windows=float(len(column.same_week)))
    found, test = DETECTORS[metric].function(own.spec, own.reference, current), change_of(own, current)
    measured = Measured.of(metric, found, test, alpha=alpha, n=current.n, m=own.reference.n)
    judged = judge_effect(measured.effect, measured.p_value, **limits, alpha=alpha, detectable=measured.detectable)
    return {"again": WEEKLY} if judged.verdict is Verdict.ALERT else {}


def _named(judged: Judgement, measured: Measured, alpha: float) -> Judgement:
    """A change that is there for certain, and smaller than anybody wants to hear of, is named where people look."""
    if judged.verdict is not Verdict.OK or measured.p_value is None or measured.p_value > alpha:
        return judged
    return replace(judged, reason="a real change, and smaller than the limit")


def change_of(column: Column, current: ColumnProfile, *, windows: int = 1) -> ChangeTest:
    if not isinstance(column, Watched):
        return change(column.spec, column.reference, current, windows=windows)
    return change(
        column.spec,
        column.reference,
        current,
        history=column.history,
        windows=windows,
        reference_windows=column.reference_windows,
    )


@dataclass(frozen=True)
class Measured:
    """One metric of a column as evidence: its effect without bias, and what the window could have shown of it."""

    effect: float | None
    p_value: float | None
    detectable: float | None = None
    interval: tuple[float, float] | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, metric: str, found: Statistic, test: ChangeTest | None, *, alpha: float, n: int, m: int) -> Measured:
        if test is None or found.value is None:
            return cls(found.value, found.p_value)
        p_value = test.p_value if test.can_tell else 1.0
        smallest = test.smallest_detectable(alpha)
        detail: dict[str, Any] = {}
        if found.p_value is not None:
            detail["p_if_independent"] = found.p_value
        shown = None if smallest is None else _in_unit(metric, smallest)
        if shown is not None:
            detail["smallest_detectable"] = shown
        detectable = math.inf if smallest is None and test.law is not None else shown
        if metric != "psi" or test.law is None:
            return cls(found.value, p_value, detectable, None, detail)
        bias = test.bias_factor * max(0, int(found.detail["n_bins"]) - 1) * (1 / n + 1 / m)
        effect = found.value - bias
        detail["psi_corrected"] = effect
        return cls(effect, p_value, detectable, test.law.interval(effect), detail)


def _by_chance(metric: str, limit: float | None, test: ChangeTest | None, *, n: int, m: int) -> float | None:
    """How often the limit alone, without any evidence, would be reached in windows like this without change."""
    if limit is None or test is None or test.law is None or not test.can_tell:
        return None
    if metric == "psi":
        return test.law.p_value(limit)
    if metric == "ks":
        worth = max(1.0, test.bias_factor)
        return ks_p_value(limit, max(2, round(n / worth)), m=max(2, round(m / worth)), exact=False)
    return None


def _in_unit(metric: str, psi: float) -> float | None:
    """What a shift of this PSI is in another metric; ``None`` where that has no fixed answer.

    To first order Jensen–Shannon is √(PSI / 8); a normal column that moves by √PSI standard deviations moves KS by
    2 Φ(√PSI / 2) − 1 and Wasserstein by √PSI.
    """
    if metric == "psi":
        return psi
    if metric == "jensen_shannon":
        return math.sqrt(psi / 8)
    if metric == "ks":
        return math.erf(math.sqrt(psi / 8))
    return math.sqrt(psi) if metric == "wasserstein" else None
