"""The last windows together, where a single one holds too little to show a drift of the limit's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from detectors import DETECTORS
from detectors.change import ChangeTest, Watched
from detectors.display import what_changed
from detectors.profiles import ColumnProfile, merge_all
from detectors.seasonal import blended
from detectors.statistic import Statistic
from monitor.checks.column import Measured, change_of
from monitor.checks.scope import Evidence, Scope, with_reason
from monitor.models import ACCUMULATED, Check, Result, Verdict
from monitor.thresholds import judge_effect


def accumulated(scope: Scope, column: Watched, current: ColumnProfile, *, worth: float) -> list[Result]:
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
    measured = Measured.of("psi", together.psi, together.test, alpha=alpha, n=pooled.n, m=side.reference.n)
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
            detail=with_reason(detail, judged),
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
        effect = Measured.of("psi", self.psi, self.test, alpha=0.5, n=self.pooled.n, m=self.column.reference.n).effect
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
        test = change_of(side, pooled, windows=n_windows)
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


def answered(alone: Sequence[Result], together: Sequence[Result]) -> list[Result]:
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
