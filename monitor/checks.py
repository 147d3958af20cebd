"""The five checks: from what was counted to results with a verdict, each a function of profiles and limits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from detectors import DETECTORS, quality
from detectors.beyond import Beyond, beyond_range
from detectors.change import ChangeTest, Watched, change, share_test
from detectors.display import what_changed
from detectors.effective_size import MIN_WINDOWS
from detectors.intervals import Interval
from detectors.ks import ks_p_value
from detectors.profiles import (
    CategoricalProfile,
    CategoricalSpec,
    Column,
    ColumnProfile,
    IntArray,
    NumericProfile,
    NumericSpec,
    merge_all,
)
from detectors.seasonal import blended
from detectors.skew import SkewMeasure
from detectors.statistic import Statistic
from monitor import budget
from monitor.config import FeatureDrift, ModelConfig, NullLimits, SkewConfig, Tolerance
from monitor.models import ACCUMULATED, DECISION, SCORE, WEEKLY, Check, Result, Verdict, Window
from monitor.thresholds import (
    Judgement,
    judge_effect,
    judge_points,
    judge_rate,
    too_little,
)


@dataclass(frozen=True)
class Scope:
    """What every result of one run carries."""

    name: str
    model: ModelConfig
    window: Window
    revision: int
    min_category_rows: int = 10

    def result(self, check: Check, metric: str, **fields: Any) -> Result:
        return Result(model=self.name, check=check, metric=metric, window=self.window, revision=self.revision, **fields)


# --- feature drift -------------------------------------------------------------------------------


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
            together = _accumulated(scope, column, current[name], worth=evidence.n_tests)
        results += [*_answered(alone, together), *together]
    if top is not None:
        results = [_confine(result, top) for result in results]
    return results


def segment_drift(
    scope: Scope,
    columns: Mapping[str, Column],
    reference: Mapping[str, Mapping[str, ColumnProfile]],
    current: Mapping[str, Mapping[str, ColumnProfile]],
    *,
    top: frozenset[str] | None = None,
) -> list[Result]:
    """Feature and score drift of each segment value against the same segment of the baseline."""
    results: list[Result] = []
    n_tests = len(columns) * max(1, len(current))
    for segment, profiles in current.items():
        side = {
            name: _of_segment(columns[name], profile, segment)
            for name, profile in reference.get(segment, {}).items()
            if name in columns
        }
        if not side:
            continue
        results += feature_drift(scope, side, profiles, segment=segment, n_tests=n_tests, top=top)
        results += score_drift(scope, side, profiles, segment=segment, n_tests=n_tests)
    return results


def _of_segment(column: Column, reference: ColumnProfile, segment: str) -> Column:
    if not isinstance(column, Watched):
        return column.with_reference(reference)
    history = column.segments.get(segment)
    known, whole = 0 if history is None else len(history), column.history
    if known < MIN_WINDOWS and whole is not None and whole.entities is not None:
        history = whole  # what rows of one entity are worth, as of all rows
    return replace(column, reference=reference, history=history, season="", recent=(), same_week=(), n_columns=None)


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


@dataclass(frozen=True)
class Evidence:
    """How much evidence a verdict needs: the part of the false-page budget that each test of a check has.

    Parameters
    ----------
    check
        Which part, see :data:`monitor.budget.SHARES`.
    n_tests
        Tests in one look that share it.
    """

    scope: Scope
    check: str
    n_tests: float

    def spend(self) -> float | None:
        """False pages that one test may cause in one look; ``None`` where the user has fixed the significance."""
        if self.scope.model.drift.significance is not None:
            return None
        pages, period = self.scope.model.false_pages
        return budget.spend(pages, period, look=self.scope.window.length, check=self.check, n_tests=self.n_tests)

    def alpha(self, *, alike: float = 0.0, confirm: int | None = None, cycles: int = 0) -> float:
        """The significance of one test in this window, see :func:`monitor.budget.level`.

        A column may be confirmed by the next window, or by the same time of so many ``cycles``: each has its part.
        """
        spent = self.spend()
        if spent is None:
            return (self.scope.model.drift.significance or 0.01) / max(1.0, self.n_tests)
        confirm = self.scope.model.confirm if confirm is None else confirm
        return budget.level(
            spent / (1 + cycles) if confirm > 1 else spent,
            confirm=confirm,
            alike=alike,
            check=self.check,
            n_tests=self.n_tests,
        )

    def told(self, alpha: float) -> dict[str, Any]:
        spent = self.spend()
        return {"alpha": alpha} if spent is None else {"alpha": alpha, "spend": spent}


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
    test = None if scarce else _test(column, current)
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
        measured = _Measured.of(metric, found, test, alpha=alpha, n=current.n, m=reference.n)
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
                detail=_with_reason(dict(found.detail) | shared | measured.detail, _named(judged, measured, alpha)),
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
    found, test = DETECTORS[metric].function(own.spec, own.reference, current), _test(own, current)
    measured = _Measured.of(metric, found, test, alpha=alpha, n=current.n, m=own.reference.n)
    judged = judge_effect(measured.effect, measured.p_value, **limits, alpha=alpha, detectable=measured.detectable)
    return {"again": WEEKLY} if judged.verdict is Verdict.ALERT else {}


def _named(judged: Judgement, measured: _Measured, alpha: float) -> Judgement:
    """A change that is there for certain, and smaller than anybody wants to hear of, is named where people look."""
    if judged.verdict is not Verdict.OK or measured.p_value is None or measured.p_value > alpha:
        return judged
    return replace(judged, reason="a real change, and smaller than the limit")


def _accumulated(scope: Scope, column: Watched, current: ColumnProfile, *, worth: float) -> list[Result]:
    """The last windows together, where a single one holds too little to show an effect of the limit's size.

    The last 2, 4, 8 … windows, up to as many as can show it, share the level of a single look: they overlap with those
    of the next window, so that two in a row are no confirmation.  Of those that show a change the largest one is told.
    """
    warn, alert = scope.model.drift.limits(column.name)
    limit = alert.get("psi", warn.get("psi"))
    evidence = Evidence(scope, "accumulated", worth)
    if limit is None or not current.n:
        return []
    alpha = evidence.alpha(confirm=1)
    found = windows_together(column, current, limit=limit, alpha=alpha, min_rows=scope.model.min_rows)
    if not found:
        return []
    alpha /= len(found)
    together = max(found, key=lambda one: (one.effect if one.test.p_value <= alpha else -math.inf, one.n_windows))
    side, pooled = together.column, together.pooled
    measured = _Measured.of("psi", together.psi, together.test, alpha=alpha, n=pooled.n, m=side.reference.n)
    judged = judge_effect(measured.effect, measured.p_value, warn=warn.get("psi"), alert=alert.get("psi"), alpha=alpha)
    words = what_changed(side.spec, side.reference, pooled, min_rows=scope.min_category_rows)
    detail = dict(together.psi.detail) | evidence.told(alpha) | together.test.describe() | measured.detail
    detail |= {"windows": together.n_windows}
    detail |= {"what": f"the last {together.n_windows} windows together: {words}"} if words else {}
    return [
        scope.result(
            Check.FEATURE_DRIFT,
            ACCUMULATED,
            feature=column.name,
            value=together.psi.value,
            p_value=measured.p_value,
            threshold=judged.threshold,
            verdict=judged.verdict,
            n_reference=side.reference.n,
            n_current=pooled.n,
            interval=measured.interval,
            detail=_with_reason(detail, judged),
        )
    ]


@dataclass(frozen=True)
class Together:
    """The rows of the last windows, what they are held against, and what comes of it."""

    n_windows: int
    pooled: ColumnProfile
    column: Watched
    test: ChangeTest
    psi: Statistic

    @property
    def effect(self) -> float:
        """PSI without what chance adds to it; -inf where there is none."""
        effect = _Measured.of("psi", self.psi, self.test, alpha=0.5, n=self.pooled.n, m=self.column.reference.n).effect
        return -math.inf if effect is None else effect


def windows_together(
    column: Watched, current: ColumnProfile, *, limit: float, alpha: float, min_rows: int
) -> list[Together]:
    """The last 2, 4, 8 … windows, up to as many as could show a PSI of ``limit``; none if no number of them could.

    The tests share ``alpha`` in equal parts.
    """
    if column.before_recent:
        reference, worth = merge_all(column.before_recent), float(len(column.before_recent))
        column = replace(column, reference=reference, reference_windows=worth)
    found: list[Together] = []
    n_windows = 1
    while n_windows <= len(column.recent):
        n_windows = min(2 * n_windows, len(column.recent) + 1)
        pooled = merge_all([*column.recent[-(n_windows - 1) :], current])
        if pooled.n < min_rows:
            continue
        side = _of_phases(column, current, n_windows)
        test = _test(side, pooled, windows=n_windows)
        found.append(
            Together(n_windows, pooled, side, test, DETECTORS["psi"].function(side.spec, side.reference, pooled))
        )
        if _shows(test, limit, alpha / len(found)):
            return found
    return []


def _of_phases(column: Watched, current: ColumnProfile, n_windows: int) -> Watched:
    """What the last windows together are held against: with a season, each of them against its own phase."""
    if not column.recent_references:
        return column
    before = slice(-(n_windows - 1), None)
    rows = [*(profile.n for profile in column.recent[before]), current.n]
    reference, worth = blended([*column.recent_references[before], column.reference], rows)
    return replace(column, reference=reference, reference_windows=worth * column.reference_windows)


def _answered(alone: Sequence[Result], together: Sequence[Result]) -> list[Result]:
    """Where the last windows together can tell, it does not count that one alone cannot."""
    if not any(result.verdict.decides for result in together):
        return list(alone)
    return [
        replace(result, detail=result.detail | {"decides": False}) if result.verdict is Verdict.CANNOT_TELL else result
        for result in alone
    ]


def _shows(test: ChangeTest, limit: float, alpha: float) -> bool:
    smallest = test.smallest_detectable(alpha)
    return smallest is not None and smallest <= limit


def _test(column: Column, current: ColumnProfile, *, windows: int = 1) -> ChangeTest:
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
class _Measured:
    """One metric of a column as evidence: its effect without bias, and what the window could have shown of it."""

    effect: float | None
    p_value: float | None
    detectable: float | None = None
    interval: tuple[float, float] | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, metric: str, found: Statistic, test: ChangeTest | None, *, alpha: float, n: int, m: int) -> _Measured:
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


def _with_reason(detail: dict[str, Any], judged: Judgement) -> dict[str, Any]:
    return detail | {"reason": judged.reason} if judged.reason and "reason" not in detail else detail


# --- score drift ---------------------------------------------------------------------------------


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
    for against, side in sides:
        if SCORE in side and SCORE in current:
            results += compare_column(
                scope,
                side[SCORE],
                current[SCORE],
                check=Check.SCORE_DRIFT,
                feature=None,
                segment=segment,
                metrics=scope.model.drift.numeric,
                warn=scope.model.score.warn,
                alert=scope.model.score.alert,
                evidence=evidence,
                against=against,
            )
        if DECISION in side and DECISION in current and predicts_classes(scope.model):
            results += compare_column(
                scope,
                side[DECISION],
                current[DECISION],
                check=Check.SCORE_DRIFT,
                feature=DECISION,
                segment=segment,
                metrics=scope.model.drift.categorical,
                warn=scope.model.score.warn,
                alert=scope.model.score.alert,
                evidence=evidence,
                against=against,
            )
        elif DECISION in side and DECISION in current:
            results.append(
                _decision_rate(
                    scope, side[DECISION], current[DECISION], segment=segment, evidence=evidence, against=against
                )
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
        detail=_with_reason(detail, judged),
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


# --- data quality --------------------------------------------------------------------------------


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
        detail=_with_reason(evidence.told(alpha) | detail, judged),
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
        detail=_with_reason(detail, judged),
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


# --- skew ----------------------------------------------------------------------------------------


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
        detail=_with_reason(detail, judged),
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
        detail=_with_reason(detail, judged),
    )
