"""Score drift: has the score's distribution, or the share of positive decisions, moved?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from detectors.change import Watched, share_test
from detectors.profiles import CategoricalProfile, CategoricalSpec, Column, ColumnProfile, IntArray
from monitor.checks.column import compare_column
from monitor.checks.scope import Evidence, Scope, with_reason
from monitor.config import ModelConfig
from monitor.models import DECISION, SCORE, Check, Result, Verdict
from monitor.thresholds import Judgement, judge_points, too_little


def score_drift(
    scope: Scope,
    columns: Mapping[str, Column],
    current: Mapping[str, ColumnProfile],
    *,
    previous: Mapping[str, ColumnProfile] | None = None,
    segment: str | None = None,
    n_tests: float = 2.0,
) -> list[Result]:
    """Has the score's distribution, or the share of positive decisions, moved: since the baseline, since yesterday?"""
    sides: list[tuple[str, Mapping[str, Column]]] = [("baseline", columns)]
    if previous and scope.model.score.previous:
        sides.append(("previous", {n: _as_one_window(columns[n], p) for n, p in previous.items() if n in columns}))
    evidence = Evidence(scope, "score_drift" if segment is None else "segments", n_tests * len(sides))
    results: list[Result] = []
    classes = predicts_classes(scope.model)
    for against, side in sides:
        there = [name for name in (SCORE, DECISION) if name in side and name in current]
        for name in there:
            if name == DECISION and not classes:
                results.append(
                    _decision_rate(
                        scope, side[name], current[name], segment=segment, evidence=evidence, against=against
                    )
                )
                continue
            results += compare_column(
                scope,
                side[name],
                current[name],
                check=Check.SCORE_DRIFT,
                feature=None if name == SCORE else name,
                segment=segment,
                metrics=scope.model.drift.numeric if name == SCORE else scope.model.drift.categorical,
                warn=scope.model.score.warn,
                alert=scope.model.score.alert,
                evidence=evidence,
                against=against,
            )
    return results


def predicts_classes(model: ModelConfig) -> bool:
    """Whether the decision is one of several classes, and has no positive share."""
    return model.labels is not None and model.labels.task == "multiclass"


def _as_one_window(column: Column, reference: ColumnProfile) -> Column:
    if not isinstance(column, Watched):
        return column.with_reference(reference)
    return replace(column, reference=reference, reference_windows=1.0, season="", same_week=())


def _decision_rate(
    scope: Scope, column: Column, current: ColumnProfile, *, segment: str | None, evidence: Evidence, against: str
) -> Result:
    before, n_before = positive_share(column.spec, column.reference, scope.model.positive)
    after, n_after = positive_share(column.spec, current, scope.model.positive)
    scarce = too_little(n_after, n_before, min_rows=scope.model.min_rows)
    alpha, p_value = evidence.alpha(), None
    if scarce or before is None or after is None:
        judged = scarce or Judgement(Verdict.CANNOT_TELL, None, "no decisions")
    else:
        test = share_test(
            (round(before * n_before), n_before),
            (round(after * n_after), n_after),
            past=_positive_past(column, scope.model.positive),
            groups=None if not isinstance(column, Watched) or column.history is None else column.history.groups,
            span=(1.0, column.reference_windows if isinstance(column, Watched) else 1.0),
        )
        alpha, p_value = evidence.alpha(alike=test.alike), test.p_value
        judged = judge_points(after - before, p_value, limits=scope.model.score.decision_rate, alpha=alpha)
    detail: dict[str, Any] = {"reference": before, "against": against} | evidence.told(alpha)
    if before is not None and after is not None:
        detail["what"] = f"positive decisions {before:.1%} → {after:.1%}"
    return scope.result(
        Check.SCORE_DRIFT,
        "decision_rate",
        segment=segment,
        value=after,
        p_value=p_value,
        threshold=judged.threshold,
        verdict=judged.verdict,
        n_reference=n_before,
        n_current=n_after,
        detail=with_reason(detail, judged),
    )


def positive_share(spec: object, profile: ColumnProfile, positive: object) -> tuple[float | None, int]:
    """Share of positive decisions and the number of decisions; ``None`` where there are none."""
    if not isinstance(profile, CategoricalProfile) or not isinstance(spec, CategoricalSpec):
        return None, 0
    n = profile.n - profile.missing
    if n == 0:
        return None, 0
    wanted = _positive_names(positive)
    hits = sum(int(k) for c, k in zip(spec.categories, profile.counts, strict=True) if c.lower() in wanted)
    hits += sum(k for c, k in profile.heavy_unseen.items() if c.lower() in wanted)
    return hits / n, n


def _positive_names(positive: object) -> set[str]:
    return {str(positive).lower(), "true"} | ({"1"} if positive in (1, True) else set())


def _positive_past(column: Column, positive: object) -> tuple[IntArray, IntArray] | None:
    """Positive and all decisions of the windows that show how far their share wanders."""
    if not isinstance(column, Watched) or column.history is None or not isinstance(column.spec, CategoricalSpec):
        return None
    wanted = _positive_names(positive)
    hits = [place for place, name in enumerate(column.spec.categories) if name.lower() in wanted]
    bins = column.history.bins
    return bins[:, hits].sum(axis=1), bins[:, :-1].sum(axis=1)
