"""Training-serving skew: do the features that were served equal the offline values of the same requests?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from detectors.intervals import Interval
from detectors.skew import SkewMeasure
from monitor.checks.scope import Scope, with_reason
from monitor.config import ModelConfig, SkewConfig, Tolerance
from monitor.models import Check, Result, Verdict
from monitor.thresholds import Judgement, judge_rate


def tolerance(model: ModelConfig, feature: str) -> Tolerance:
    """The tolerance of one feature: its own, else the check's."""
    if model.skew is None:
        return Tolerance()
    return model.skew.tolerances.get(feature, model.skew.tolerance)


def skew(
    scope: Scope,
    measures: Mapping[str, SkewMeasure],
    *,
    n_sampled: int,
    n_matched: int,
    n_window: int,
    examples: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Do the features that were served equal the offline values of the same requests?

    ``examples`` are raw values by feature, ``[offline, online]`` each; they are kept where the verdict is bad.
    """
    limits = scope.model.skew
    if limits is None:
        return []
    unmatched = None if n_sampled == 0 else 1 - n_matched / n_sampled
    return [
        _unmatched(scope, unmatched, n_sampled, n_window),
        *(
            _mismatched(scope, limits, feature, measure, n_sampled=n_sampled, examples=(examples or {}).get(feature))
            for feature, measure in measures.items()
        ),
    ]


def skew_again(scope: Scope, stored: Sequence[Result]) -> list[Result]:
    """The results of :func:`skew` by other limits, from what they tell of their measures."""
    limits = scope.model.skew
    if limits is None:
        return []
    n_sampled = next((r.n_current or 0 for r in stored if r.metric == "unmatched_rate"), 0)
    results = []
    for r in stored:
        if r.metric == "unmatched_rate":
            results.append(_unmatched(scope, r.value, n_sampled, int(r.detail["n_window"])))
            continue
        n_pairs = int(r.detail["n_pairs"])
        measure = SkewMeasure(
            n_pairs,
            round((r.value or 0.0) * n_pairs),
            r.value,
            None if r.interval is None else Interval(*r.interval),
            missing_online=int(r.detail["missing_online"]),
            missing_offline=int(r.detail["missing_offline"]),
            kind=r.detail["kind"],
            explained=r.detail["explained"],
            parameters=r.detail["parameters"],
            effect=r.detail["effect"],
        )
        examples = r.detail.get("examples")
        results.append(_mismatched(scope, limits, r.feature or "", measure, n_sampled=n_sampled, examples=examples))
    return results


def skew_hash(model: ModelConfig) -> str | None:
    """Identify what is measured of the pairs of a window, limits aside."""
    if model.skew is None:
        return None
    told = model.skew.model_dump_json(by_alias=True, exclude={"warn", "alert", "missing_alert", "examples", "settle"})
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _mismatched(
    scope: Scope, limits: SkewConfig, feature: str, measure: SkewMeasure, *, n_sampled: int, examples: Any = None
) -> Result:
    if n_sampled == 0:
        judged = Judgement(Verdict.NO_DATA, None, "no requests in this window")
    elif measure.n_pairs < min(scope.model.min_rows, 30):
        judged = Judgement(Verdict.CANNOT_TELL, None, f"only {measure.n_pairs} pairs")
    else:
        judged = judge_rate(
            measure.mismatch_rate,
            low=None if measure.interval is None else measure.interval[0],
            warn=limits.warn,
            alert=limits.alert,
        )
    detail: dict[str, Any] = {
        "n_pairs": measure.n_pairs,
        "missing_online": measure.missing_online,
        "missing_offline": measure.missing_offline,
        "kind": measure.kind,
        "parameters": measure.parameters,
        "explained": measure.explained,
        "effect": measure.effect,
    }
    if judged.verdict in (Verdict.WARN, Verdict.ALERT):
        detail["what"] = f"{measure.mismatch_rate:.1%} of requests differ from offline: {measure.text}"
        if examples:
            detail["examples"] = examples
    return scope.result(
        Check.SKEW,
        "mismatch_rate",
        feature=feature,
        value=measure.mismatch_rate,
        threshold=judged.threshold if judged.threshold is not None else limits.alert,
        verdict=judged.verdict,
        n_current=measure.n_pairs,
        interval=measure.interval,
        detail=with_reason(detail, judged),
    )


def _unmatched(scope: Scope, unmatched: float | None, n_sampled: int, n_window: int) -> Result:
    limits = scope.model.skew
    if limits is None or unmatched is None:
        judged = Judgement(Verdict.NO_DATA, None, "no requests in this window")
    elif unmatched >= 0.5:
        judged = Judgement(Verdict.CANNOT_TELL, limits.missing_alert, "most offline values are not there yet")
    elif unmatched >= limits.missing_alert:
        judged = Judgement(Verdict.ALERT, limits.missing_alert)
    else:
        judged = Judgement(Verdict.OK, limits.missing_alert)
    detail: dict[str, Any] = {"n_window": n_window, "n_sampled": n_sampled}
    if judged.verdict is Verdict.ALERT and unmatched is not None:
        detail["what"] = f"{unmatched:.1%} of requests have no offline row"
    return scope.result(
        Check.SKEW,
        "unmatched_rate",
        value=unmatched,
        threshold=judged.threshold,
        verdict=judged.verdict,
        n_current=n_sampled,
        detail=with_reason(detail, judged),
    )
