"""Of the curves of a metric in one window, the one to be shown: that which decides, else the most certain there is."""

from __future__ import annotations

from collections.abc import Iterable

from monitor.models import Check, Result, Verdict

KINDS = ("realized", "corrected", "estimated")


def curve_shown(found: Iterable[Result]) -> Result | None:
    """The one result to show of those of one window, metric and segment.

    The curve that decides; where none does the corrected one, else the estimated.  A value on labels that are still
    landing is no fair sample: it is shown only where there is nothing else.
    """
    known = [result for result in found if result.value is not None] or list(found)
    return min(known, key=_by_right, default=None)


def _by_right(result: Result) -> tuple[bool, bool, int]:
    """``rule`` marks the curve chosen; an estimate is never said to decide."""
    decides = bool(result.detail.get("decides"))
    order = ("corrected", "estimated", "realized")
    return not decides, "rule" not in result.detail, order.index(result.kind) if result.kind in order else 0


def is_early_sample(result: Result) -> bool:
    """Whether a value stands on labels that are still landing, and that need not be like those to come."""
    return result.kind == "realized" and result.detail.get("decides") is False and (result.label_coverage or 0.0) < 1


def has_no_limit(result: Result) -> bool:
    """Whether nothing was asked of a number: its verdict ``ok`` is then no praise, and is not shown as one."""
    unasked = result.threshold is None and result.verdict is Verdict.OK
    return unasked and result.check not in (Check.QUALITY, Check.SKEW)


_REASONS = {
    "not_identifiable": "of one class hardly any labels can have landed",
    "no_delay_law": "earlier windows have not shown yet when labels land",
    "too_few_labels": "too few labels",
}


def plainly(reason: str) -> str:
    """Why there is no value, in words: some reasons are names, such as ``no_labels``."""
    return _REASONS.get(reason, reason if " " in reason else reason.replace("_", " "))
