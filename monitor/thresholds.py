"""From a number to a verdict: an effect worth acting on *and* not chance, or an honest "cannot tell"."""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy

from monitor.config import NullLimits, PerformanceLimit
from monitor.models import Verdict


@dataclass(frozen=True)
class Judgement:
    """A verdict, the limit it was measured against, and the reason in one phrase where it is not plain."""

    verdict: Verdict
    threshold: float | None
    reason: str | None = None


def too_little(n_current: int, n_reference: int, *, min_rows: int) -> Judgement | None:
    """The judgement of a window that holds too little to say anything; ``None`` when there is enough."""
    if n_current == 0:
        return Judgement(Verdict.NO_DATA, None, "no rows in this window")
    if n_current < min_rows:
        return Judgement(Verdict.CANNOT_TELL, None, f"{n_current} rows, min_rows is {min_rows}")
    if n_reference < min_rows:
        return Judgement(Verdict.CANNOT_TELL, None, f"the baseline holds {n_reference} rows, min_rows is {min_rows}")
    return None


def judge_effect(
    effect: float | None,
    p_value: float | None,
    *,
    warn: float | None,
    alert: float | None,
    alpha: float,
    detectable: float | None = None,
) -> Judgement:
    """Judge a distance that is zero when nothing has changed.

    Parameters
    ----------
    effect
        The size of the change, in the metric's own unit, freed of its bias where that is known; ``None`` when it
        is undefined.
    p_value
        How likely such an effect is without change; ``None`` when the metric has no test, and the limit decides.
    warn, alert
        Limits in the unit of ``effect``; ``None``: not judged at that level.
    alpha
        The p-value must be at most this.
    detectable
        The smallest effect that the window would have shown; where that is beyond the limit, a small effect is no
        evidence that nothing has changed. ``None``: not known, and not asked for.
    """
    threshold = alert if alert is not None else warn
    if effect is None or not math.isfinite(effect):
        return Judgement(Verdict.CANNOT_TELL, threshold, "undefined")
    reached = _level(effect, warn=warn, alert=alert)
    if reached is Verdict.OK:
        if detectable is not None and threshold is not None and detectable > threshold:
            return Judgement(Verdict.CANNOT_TELL, threshold, _too_coarse(detectable, threshold))
        return Judgement(Verdict.OK, threshold)
    if p_value is not None and p_value > alpha:
        return Judgement(
            Verdict.CANNOT_TELL,
            threshold,
            f"beyond the limit, but chance explains it (p = {p_value:.2g} > {alpha:.2g})",
        )
    return Judgement(reached, threshold if reached is Verdict.ALERT else warn)


def _too_coarse(detectable: float, threshold: float) -> str:
    if not math.isfinite(detectable):
        return "this column wanders too much from window to window to say"
    return f"a window like this shows nothing smaller than {detectable:.2g}; the limit is {threshold:.2g}"


def judge_rate(rate: float | None, *, low: float | None, warn: float | None, alert: float | None) -> Judgement:
    """Judge a share that should be near zero: it must pass a limit, and its interval must clear the limit below.

    ``low`` is the lower end of the share's interval: an alert needs it above ``warn``, a warning above zero.
    """
    if rate is None:
        return Judgement(Verdict.CANNOT_TELL, alert, "undefined")
    reached = _level(rate, warn=warn, alert=alert)
    floor = low if low is not None else rate
    if reached is Verdict.ALERT and floor <= (warn or 0.0):
        reached = Verdict.WARN
    if reached is Verdict.WARN and floor <= 0.0:
        return Judgement(Verdict.CANNOT_TELL, alert, "too few pairs to exclude chance")
    return Judgement(reached, warn if reached is Verdict.WARN else alert)


def judge_points(change: float | None, p_value: float | None, *, limits: NullLimits, alpha: float) -> Judgement:
    """Judge a change of a share, in points, in either direction."""
    return judge_effect(
        None if change is None else abs(change), p_value, warn=limits.warn, alert=limits.alert, alpha=alpha
    )


def judge_performance(
    value: float | None,
    interval: tuple[float, float] | None,
    *,
    reference: tuple[float, float, float] | None,
    warn: PerformanceLimit | None,
    alert: PerformanceLimit | None,
    alpha: float,
) -> Judgement:
    """Judge a performance metric against its absolute limit, or against the baseline's value.

    Parameters
    ----------
    interval
        95 % interval of ``value``; its half-width gives the standard error.
    reference
        ``(value, low, high)`` of the baseline; ``None`` when it has no labels: limits of change then say nothing.
    """
    if value is None:
        return Judgement(Verdict.CANNOT_TELL, None, "undefined")
    spread = _standard_error(interval)
    outcome = Judgement(Verdict.OK, None)
    for verdict, limit in ((Verdict.WARN, warn), (Verdict.ALERT, alert)):
        if limit is None:
            continue
        found = _performance_level(value, spread, reference, limit=limit, verdict=verdict, alpha=alpha)
        if found.verdict.rank >= outcome.verdict.rank or outcome.threshold is None:
            outcome = found
    return outcome


def judge_bounds(
    bounds: tuple[float, float],
    *,
    reference: tuple[float, float] | None,
    warn: PerformanceLimit | None,
    alert: PerformanceLimit | None,
) -> Judgement:
    """Judge a metric that is only known to lie within bounds: beyond a limit as a whole, inside as a whole, or neither.

    Parameters
    ----------
    bounds
        What the value can be, with the sampling error of the labels on either side.
    reference
        The same of the baseline (twice the value where that is a point, with its interval); ``None`` without labels.
    """
    outcome: Judgement | None = None
    for verdict, limit in ((Verdict.ALERT, alert), (Verdict.WARN, warn)):
        if limit is None or (limit.kind == "change" and reference is None):
            continue
        shift = reference if limit.kind == "change" and reference is not None else (0.0, 0.0)
        least, most = bounds[0] - shift[1], bounds[1] - shift[0]
        falls = limit.value < 0 if limit.kind == "change" else limit.kind == "below"
        beyond, inside = (most, least) if falls else (least, most)
        told = limit.value if limit.kind != "change" or shift[0] != shift[1] else shift[0] + limit.value
        if beyond < limit.value if falls else beyond > limit.value:
            return Judgement(verdict, told)
        if inside < limit.value if falls else inside > limit.value:
            outcome = Judgement(Verdict.CANNOT_TELL, told, "the limit lies within what the never labelled could be")
        elif outcome is None:
            outcome = Judgement(Verdict.OK, told)
    return outcome or Judgement(Verdict.CANNOT_TELL, None, "known only within bounds, and no limit to hold them to")


def _performance_level(
    value: float,
    spread: float,
    reference: tuple[float, float, float] | None,
    *,
    limit: PerformanceLimit,
    verdict: Verdict,
    alpha: float,
) -> Judgement:
    if limit.kind == "change":
        if reference is None:
            return Judgement(Verdict.OK, None, "the baseline has no labels to compare with")
        bound, null = reference[0] + limit.value, reference[0]
        spread = math.hypot(spread, _standard_error((reference[1], reference[2])))
        falls = limit.value < 0
    else:
        bound = null = limit.value
        falls = limit.kind == "below"
    beyond = value < bound if falls else value > bound
    if not beyond:
        return Judgement(Verdict.OK, bound)
    distance = (null - value) if falls else (value - null)
    p_value = float(scipy.special.ndtr(-distance / spread)) if spread > 0 else 0.0
    if p_value > alpha:
        return Judgement(Verdict.CANNOT_TELL, bound, f"beyond the limit, but chance explains it (p = {p_value:.2g})")
    return Judgement(verdict, bound)


def _level(effect: float, *, warn: float | None, alert: float | None) -> Verdict:
    if alert is not None and effect >= alert:
        return Verdict.ALERT
    if warn is not None and effect >= warn:
        return Verdict.WARN
    return Verdict.OK


def _standard_error(interval: tuple[float, float] | None) -> float:
    return 0.0 if interval is None else (interval[1] - interval[0]) / (2 * 1.959963984540054)
