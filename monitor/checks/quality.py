"""Data quality: missing, new and constant values, volume, freshness, and columns that come and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from detectors import quality
from detectors.beyond import Beyond, beyond_range
from detectors.change import Watched, share_test
from detectors.profiles import CategoricalProfile, Column, ColumnProfile, IntArray, NumericProfile, NumericSpec
from monitor.checks.scope import Evidence, Scope, with_reason
from monitor.config import FeatureDrift, NullLimits
from monitor.models import Check, Result, Verdict, Window
from monitor.thresholds import Judgement, judge_effect, judge_points, too_little


def data_quality(scope: Scope, columns: Mapping[str, Column], current: Mapping[str, ColumnProfile]) -> list[Result]:
    """Nulls, new categories, values out of range, and columns that froze: from the same counts."""
    features = [
        name
        for name in columns
        if not name.startswith("__")
        and name in current
        and not scope.model.drift.features.get(name, FeatureDrift()).ignore
    ]
    evidence = Evidence(scope, "quality", 2.0 * max(1, len(features)))
    results: list[Result] = []
    for name in features:
        column, profile = columns[name], current[name]
        reference = column.reference
        results.append(
            _share_change(
                scope,
                name,
                "missing_rate",
                before=(reference.missing, reference.n),
                after=(profile.missing, profile.n),
                evidence=evidence,
                limits=scope.model.drift.nulls,
                noun="missing",
                column=column,
                past=_past_share(column, lambda bins: bins[:, -1]),
            )
        )
        if isinstance(reference, CategoricalProfile) and isinstance(profile, CategoricalProfile):
            results.append(
                _share_change(
                    scope,
                    name,
                    "unseen_rate",
                    before=(_expected_unseen(reference), reference.n),
                    after=(profile.unseen, profile.n),
                    evidence=evidence,
                    limits=scope.model.quality.unseen,
                    noun="values not in the baseline",
                    rise_only=True,
                    column=column,
                    past=_past_share(column, lambda bins: bins[:, -2]),
                )
            )
        elif isinstance(column.spec, NumericSpec) and isinstance(reference, NumericProfile):
            results += _numeric_quality(scope, name, column, reference=reference, profile=profile, evidence=evidence)
        results += _constant(scope, name, column, profile)
    return results


def _expected_unseen(reference: CategoricalProfile) -> int:
    """Never-seen rows to be expected in as many rows again: as many as there are values seen once (Good and Turing)."""
    return min(reference.n, reference.unseen + int((reference.counts == 1).sum()))


def _past_share(column: Column, hits: Callable[[IntArray], IntArray]) -> tuple[IntArray, IntArray] | None:
    """Hits and rows of the windows that show how far a share wanders."""
    if not isinstance(column, Watched) or column.history is None or not len(column.history):
        return None
    bins = column.history.bins
    return hits(bins), bins.sum(axis=1)


def _numeric_quality(
    scope: Scope,
    name: str,
    column: Column,
    *,
    reference: NumericProfile,
    profile: ColumnProfile,
    evidence: Evidence,
) -> list[Result]:
    if not isinstance(profile, NumericProfile):
        return []
    before, after = (int(p.cells[0] + p.cells[-1]) for p in (reference, profile))
    limits = scope.model.quality.out_of_range
    # A row or two beyond the range are in most windows of most columns, and no finding whatever the evidence.
    matters = after / max(1, profile.n) - before / max(1, reference.n) >= limits.warn
    return [
        _share_change(
            scope,
            name,
            "out_of_range_rate",
            before=(before, reference.n),
            after=(after, profile.n),
            evidence=evidence,
            limits=limits,
            noun="outside the baseline's range",
            rise_only=True,
            column=column,
            beyond=_beyond(column, reference, profile) if after and matters else None,
        )
    ]


def _beyond(column: Column, reference: NumericProfile, profile: NumericProfile) -> Beyond | None:
    history = column.history if isinstance(column, Watched) else None
    if history is None or not isinstance(column.spec, NumericSpec):
        return None
    return beyond_range(
        column.spec, reference, profile, bins=history.bins, windows=history.windows, entities=history.entities
    )


def _constant(scope: Scope, name: str, column: Column, profile: ColumnProfile) -> list[Result]:
    """Has a column that varies stopped to?  Not where a window of the baseline was constant already."""
    history = column.history if isinstance(column, Watched) else None
    if not scope.model.quality.constant or (history is not None and history.constant):
        return []
    if not quality.became_constant(column.spec, column.reference, profile):
        return []
    return [
        scope.result(
            Check.QUALITY,
            "constant",
            feature=name,
            value=1.0,
            threshold=1.0,
            verdict=Verdict.ALERT if profile.n >= scope.model.min_rows else Verdict.CANNOT_TELL,
            n_reference=column.reference.n,
            n_current=profile.n,
            detail={"what": "every value is the same; it varied in the baseline"},
        )
    ]


def _share_change(
    scope: Scope,
    feature: str,
    metric: str,
    *,
    before: tuple[int, int],
    after: tuple[int, int],
    evidence: Evidence,
    limits: NullLimits,
    noun: str,
    rise_only: bool = False,
    column: Column,
    past: tuple[IntArray, IntArray] | None = None,
    beyond: Beyond | None = None,
) -> Result:
    """Judge the change of one share.

    ``past`` holds hits and rows of windows that show how far the share wanders; ``beyond`` says how likely values
    beyond the baseline's range are where whole windows wander.
    """
    (k_before, n_before), (k_after, n_after) = before, after
    scarce = too_little(n_after, n_before, min_rows=scope.model.min_rows)
    value = k_after / n_after if n_after else None
    p_value, alpha = None, evidence.alpha()
    detail: dict[str, Any] = {}
    if scarce or value is None:
        judged = scarce or Judgement(Verdict.NO_DATA, None)
    else:
        reference = k_before / n_before
        watched = column if isinstance(column, Watched) else None
        groups = None if watched is None or watched.history is None else watched.history.groups
        span = (1.0, 1.0 if watched is None else watched.reference_windows)
        test = share_test(before, after, past=past, groups=groups, span=span)
        p_value, alike = test.p_value, test.alike
        if beyond is not None:
            p_value, alike = max(p_value, beyond.p_value), max(alike, beyond.alike)
        alpha = evidence.alpha(alike=alike)
        change_ = value - reference
        judged = judge_points(max(0.0, change_) if rise_only else change_, p_value, limits=limits, alpha=alpha)
        detail |= {"reference": reference, "change": change_}
        if judged.verdict is not Verdict.OK:
            detail["what"] = f"{noun} {reference:.1%} → {value:.1%}"
    return scope.result(
        Check.QUALITY,
        metric,
        feature=feature,
        value=value,
        p_value=p_value,
        threshold=judged.threshold,
        verdict=judged.verdict,
        n_reference=n_before,
        n_current=n_after,
        detail=with_reason(evidence.told(alpha) | detail, judged),
    )


def volume(
    scope: Scope, n_rows: int, history: Sequence[int], *, same_time: Sequence[int] = (), duplicates: int = 0
) -> Result:
    """Are as many rows there as usual?

    The usual is the median of the last fourteen windows, or the count a day or a week ago if that is lower, so that
    a quiet night or weekend is not a fault.

    Parameters
    ----------
    history
        Row counts of the windows before, newest last.
    same_time
        Those of the windows a day and a week ago, as far as they are known.
    """
    usual = median(history[-14:]) if len(history) >= 3 else None
    if usual is not None:
        usual = min(usual, *same_time) if same_time else usual
    detail: dict[str, Any] = {"usual": usual, "duplicates": duplicates}
    if usual is None or usual == 0:
        judged = Judgement(Verdict.NO_DATA if n_rows == 0 else Verdict.OK, None)
    else:
        fall = max(0.0, 1 - n_rows / usual)
        judged = judge_effect(
            fall, None, warn=scope.model.quality.volume.warn, alert=scope.model.quality.volume.alert, alpha=1.0
        )
        if n_rows == 0:
            judged = Judgement(Verdict.NO_DATA, judged.threshold, "no rows in this window")
        if judged.verdict is not Verdict.OK:
            detail["what"] = f"{n_rows:,} rows, usually about {usual:,.0f}"
    return scope.result(
        Check.QUALITY,
        "n_rows",
        value=float(n_rows),
        threshold=judged.threshold,
        verdict=judged.verdict,
        n_current=n_rows,
        detail=with_reason(detail, judged),
    )


def same_times(window: Window) -> list[datetime]:
    """When the windows of a day and of a week ago began, where there are shorter ones in between."""
    return [window.start - ago for ago in (timedelta(days=1), timedelta(days=7)) if ago > window.length]


def freshness(scope: Scope, newest: datetime | None) -> list[Result]:
    """How old is the newest row at the window's end?  Only where a limit is configured."""
    limit = scope.model.quality.freshness
    if limit is None:
        return []
    stamp = quality.freshness(newest, (scope.window.start, scope.window.end))
    return [judge_freshness(scope, None if stamp is None else (scope.window.end - stamp).total_seconds(), limit)]


def judge_freshness(scope: Scope, age: float | None, limit: timedelta) -> Result:
    """The age of the newest row in seconds, held against its limit."""
    verdict = Verdict.NO_DATA if age is None else Verdict.ALERT if age > limit.total_seconds() else Verdict.OK
    return scope.result(Check.QUALITY, "freshness_seconds", value=age, threshold=limit.total_seconds(), verdict=verdict)


def other_bins(scope: Scope, n_other: int, n_windows: int) -> list[Result]:
    """Windows of a rolling baseline that cannot be added up with the others: counted over other bins."""
    if not n_other:
        return []
    left = "the others are compared with" if n_other < n_windows else "the rows that the bins were made of stand in"
    what = f"{n_other} of the {n_windows} windows before were counted over other bins than now; {left}"
    detail = {"reason": "other_bins", "what": what}
    share = n_other / n_windows
    return [scope.result(Check.QUALITY, "other_bins_rate", value=share, verdict=Verdict.CANNOT_TELL, detail=detail)]


def schema_changes(
    scope: Scope, then: Mapping[str, str], now: Mapping[str, str], left_out: Mapping[str, str]
) -> list[Result]:
    """Columns that vanished, appeared or changed their kind since the baseline was frozen."""
    results = []
    for name, kind in then.items():
        if name not in now:
            why = left_out.get(name, "it is gone from the table")
            results.append(_schema(scope, name, "column_missing", Verdict.ALERT, why))
        elif now[name] != kind:
            results.append(_schema(scope, name, "column_type", Verdict.ALERT, f"was {kind}, is {now[name]}"))
    results += [
        _schema(scope, name, "column_new", Verdict.OK, "not in the baseline; not compared")
        for name in now
        if name not in then
    ]
    return results


def _schema(scope: Scope, feature: str, metric: str, verdict: Verdict, words: str) -> Result:
    return scope.result(
        Check.QUALITY, metric, feature=feature, value=1.0, threshold=1.0, verdict=verdict, detail={"what": words}
    )
