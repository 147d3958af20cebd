"""Feature drift: has the distribution of an input moved away from the baseline?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from detectors.change import Watched
from detectors.profiles import Column, ColumnProfile, NumericSpec
from monitor.checks.column import compare_column
from monitor.checks.scope import Evidence, Scope
from monitor.checks.together import accumulated, answered
from monitor.config import FeatureDrift
from monitor.models import Check, Result, Verdict


def feature_drift(
    scope: Scope,
    columns: Mapping[str, Column],
    current: Mapping[str, ColumnProfile],
    *,
    segment: str | None = None,
    n_tests: float | None = None,
    top: frozenset[str] | None = None,
) -> list[Result]:
    """Has the distribution of an input moved away from the baseline?

    Parameters
    ----------
    n_tests
        Number of tests that share the budget (default: those made here; columns that move together count once).
    top
        Features that may alert; others go no further than a warning.  ``None``: all.
    """
    drift = scope.model.drift
    judged = {
        name: column
        for name, column in columns.items()
        if not name.startswith("__") and name in current and not drift.features.get(name, FeatureDrift()).ignore
    }
    worth = next((c.n_columns for c in judged.values() if isinstance(c, Watched) and c.n_columns), len(judged))
    evidence = Evidence(scope, "feature_drift" if segment is None else "segments", n_tests or min(worth, len(judged)))
    results = []
    for name, column in judged.items():
        warn, alert = drift.limits(name)
        alone = compare_column(
            scope,
            column,
            current[name],
            check=Check.FEATURE_DRIFT,
            feature=name,
            segment=segment,
            metrics=_metrics(scope, column),
            warn=warn,
            alert=alert,
            evidence=evidence,
        )
        together: list[Result] = []
        unsure = any(result.verdict is Verdict.CANNOT_TELL for result in alone)
        if unsure and segment is None and isinstance(column, Watched) and column.recent:
            together = accumulated(scope, column, current[name], worth=evidence.n_tests)
        results += [*answered(alone, together), *together]
    if top is not None:
        results = [_confine(result, top) for result in results]
    return results


def top_features(importance: Mapping[str, float], top: str | int) -> frozenset[str] | None:
    """The features that may alert, by importance; ``None`` when all may."""
    if not isinstance(top, int) or not importance:
        return None
    return frozenset(sorted(importance, key=lambda name: -importance[name])[:top])


def _metrics(scope: Scope, column: Column) -> Sequence[str]:
    drift = scope.model.drift
    return drift.numeric if isinstance(column.spec, NumericSpec) else drift.categorical


def _confine(result: Result, top: frozenset[str]) -> Result:
    if result.verdict is not Verdict.ALERT or result.feature in top:
        return result
    return replace(
        result,
        verdict=Verdict.WARN,
        detail=result.detail | {"confined": "not among the most important features, which alone may alert"},
    )
