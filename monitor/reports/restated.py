"""What was believed of a window beside what is known of it now, for the pages."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from markupsafe import Markup

from monitor.models import Verdict
from monitor.reports import svg
from monitor.reports.reading import Facts
from monitor.reports.text import column_words, metric_value, metric_words, moment, percent, short
from monitor.restated import Belief, Restated, restated

SHOWN = 8
"""Numbers of a window that are told one by one."""
DRAWN = 4
"""Of these so many have a drawing."""
_CURVES = {
    "realized": "on the labels that had landed",
    "corrected": "corrected for labels still to come",
    "estimated": "estimated from the scores, before labels",
}


@dataclass(frozen=True)
class BeliefView:
    """One side of a restatement in words."""

    verdict: Verdict
    value: str
    interval: str
    curve: str
    coverage: str
    as_of: str


@dataclass(frozen=True)
class RestatedView:
    """One number whose verdict has turned out otherwise."""

    name: str
    then: BeliefView
    now: BeliefView
    drawing: Markup | None
    drawn: str


def restated_views(facts: Facts, zone: ZoneInfo) -> tuple[list[RestatedView], int]:
    """The numbers of a window whose verdict changed, worst first, and how many more there are."""
    found = restated(facts.results, facts.older)
    shown = [_view(each, zone, drawn=place < DRAWN) for place, each in enumerate(found[:SHOWN])]
    return shown, len(found) - len(shown)


def _view(each: Restated, zone: ZoneInfo, *, drawn: bool) -> RestatedView:
    name = " ".join(part for part in (short(column_words(each.feature or "")), metric_words(each.metric)) if part)
    segment = f" ({short(each.segment, 40)})" if each.segment else ""
    drawing, words = _drawing(each, name, zone) if drawn else (None, "")
    return RestatedView(name + segment, _side(each, each.then, zone), _side(each, each.now, zone), drawing, words)


def _side(each: Restated, belief: Belief, zone: ZoneInfo) -> BeliefView:
    ends = belief.interval
    interval = "" if ends is None else " – ".join(metric_value(each.metric, end) for end in ends)
    coverage = "" if belief.label_coverage is None else f"{percent(belief.label_coverage)} of the labels in"
    first = "when it was first read" if belief.revision == 0 else f"revision {belief.revision}"
    return BeliefView(
        verdict=belief.verdict,
        value=metric_value(each.metric, belief.value),
        interval=interval,
        curve=_CURVES.get(belief.kind or "", ""),
        coverage=coverage,
        as_of=first if belief.as_of is None else f"on {moment(belief.as_of, zone)}",
    )


def _drawing(each: Restated, name: str, zone: ZoneInfo) -> tuple[Markup | None, str]:
    """All that was believed of the number, from the first look to the last."""
    told = [belief for belief in each.path if belief.value is not None]
    if len(told) < 2:
        return None, ""
    drawing = svg.line_chart(
        [belief.value for belief in told],
        f"{name} of this window, as it was believed at {len(told)} looks",
        bounds=[belief.interval for belief in told],
        reference=told[-1].reference,
    )
    ends = [moment(belief.as_of, zone) for belief in (told[0], told[-1]) if belief.as_of is not None]
    span = f", {ends[0]} to {ends[1]}" if len(ends) == 2 else ""
    return drawing, f"{name} of this window as it was believed at {len(told)} looks{span}"
