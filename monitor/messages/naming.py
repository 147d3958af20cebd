"""What one incident and one finding are called, and which finding is the worse."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from monitor.messages.words import SHARES, metric_word, moment, number, signed
from monitor.models import ACCUMULATED, DECISION, Check, Incident, Result, Verdict


def subject_of(incident: Incident) -> str:
    """What is wrong, in a few words."""
    n = len(incident.features)
    labels = _LABELS.get(incident.detail.get("labels", ""), "labels do not come as before")
    feeds = {"no_data": "no rows arrive", "labels": labels}
    if incident.detail.get("kind") in feeds:
        return feeds[incident.detail["kind"]]
    if incident.check is Check.FEATURE_DRIFT:
        together = incident.detail.get("series") == [[None, None]]
        return "features go together otherwise" if together else f"{_named(incident, n)} drifted"
    if incident.check is Check.SCORE_DRIFT:
        return "the score drifted"
    if incident.check is Check.PERFORMANCE:
        return "performance fell"
    if incident.check is Check.SKEW:
        return f"online and offline values differ{f' in {_named(incident, n)}' if n else ''}"
    return f"data quality{f' of {_named(incident, n)}' if n else ''}"


_LABELS = {
    "stopped": "labels stopped",
    "late": "labels come later than before",
    "sooner": "labels come sooner than before",
}


def _named(incident: Incident, n: int) -> str:
    return "a feature" if n == 0 else incident.features[0] if n == 1 else f"{n} features"


def excess(result: Result) -> float:
    """How large a value is against its limit: 1 at the limit, more beyond it, 0 where that cannot be said.

    A value below its limit (performance that fell) is turned round, so that more is always worse.
    """
    if result.value is None or result.threshold is None:
        return 0.0
    value, threshold = abs(result.value), abs(result.threshold)
    if result.check is Check.PERFORMANCE and 0 < result.threshold > result.value:
        # Below zero (an R², a bias) a floor is missed by more than all of it.
        value, threshold = threshold, max(result.value, threshold / 10)
    return value / threshold if threshold else float("inf" if value else 1.0)


def name_of(result: Result) -> str:
    """What a result is about: a feature, the score, or a metric, and the segment if it is one of them."""
    own = {Check.SCORE_DRIFT: "score", Check.PERFORMANCE: metric_word(result.metric)}
    name = result.feature or own.get(result.check, metric_word(result.metric))
    if result.check is Check.PERFORMANCE and result.feature:  # one of several labels
        name = f"{metric_word(result.metric)} of {result.feature}"
    elif name.startswith("__"):
        name = "predicted class" if name == DECISION else metric_word(result.metric)
    return f"{name} [{result.segment}]" if result.segment else name


def finding_text(result: Result) -> str:
    """``PSI 0.38, limit 0.2: median 41 → 63`` – the number, what it is measured against, and what changed."""
    said = f"{metric_word(result.metric)} {number(result.value, share=result.metric in SHARES)}"
    if result.check is Check.PERFORMANCE:
        said = number(result.value)
    if result.threshold is not None:
        said += f", limit {number(result.threshold, share=result.metric in SHARES)}"
    what = result.detail.get("what")
    against = " against the window before" if result.detail.get("against") == "previous" else ""
    return f"{said}{against}: {what}" if what else f"{said}{against}"


class Split(NamedTuple):
    """What of a change of performance the inputs explain and what they do not, in words."""

    words: str
    beyond_chance: bool
    """The interval of the part that inputs do not explain leaves out 0: the rule has changed."""


def split_of(result: Result) -> Split | None:
    """``of a change by -0.120: inputs explain -0.020 [-0.050, 0.010]; the rule -0.100 [-0.140, -0.060]``.

    ``None`` for a row that does not decide, or is not known beside what was expected of its scores.
    """
    rule, inputs = (result.detail.get(name) for name in ("rule_change", "explained_change"))
    if not rule:
        return None
    value, low, high = rule
    told = f"the rule {_change(rule)}"
    if inputs:
        told = f"of a change by {signed(inputs[0] + value)}: inputs explain {_change(inputs)}; {told}"
    beyond = low > 0 or high < 0
    return Split(f"{told}{', beyond chance' if beyond else ', may be chance'}", beyond)


def _change(part: list[float]) -> str:
    value, low, high = (signed(each) for each in part)
    return f"{value} [{low}, {high}]"


def began(incident: Incident) -> str:
    """``between 2026-11-18 and 2026-11-19 (97 % sure)``; empty where the onset could not be dated."""
    told = incident.detail.get("onset_interval")
    if not told:
        return ""
    start, end = (moment(datetime.fromisoformat(text)) for text in told)
    sure = incident.detail.get("onset_confidence", 0)
    said = "more than 99 %" if sure > 0.99 else f"{sure:.0%}".replace("%", " %")
    return f"between {start} and {end} ({said} sure)"


def spent_on(results: Iterable[Result]) -> float:
    """False pages that the tests which alert may have caused; a test counts once, however many windows it confirmed."""
    by_test: dict[tuple[object, ...], float] = {}
    for r in results:
        if r.verdict is Verdict.ALERT and "spend" in r.detail:
            test = r.check, r.feature, r.segment, r.detail.get("against"), r.metric == ACCUMULATED
            by_test[test] = max(by_test.get(test, 0.0), float(r.detail["spend"]))
    return sum(by_test.values())


def thread_of(incident: Incident) -> str:
    """The thread in which an incident is told, from its first message on."""
    return str(incident.detail.get("thread", incident.id))
