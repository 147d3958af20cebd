"""From what changed in a window to one message in plain words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monitor.messages.naming import began, excess, finding_text, name_of, spent_on, split_of, subject_of, thread_of
from monitor.messages.words import duration, moment
from monitor.models import Check, Finding, Incident, IncidentState, Message, Result, Transition, Verdict, Window

Change = tuple[Transition, Incident]
TOP = 3
"""Findings spelled out in a message; the rest is a count and a link."""
LOUDEST_FIRST = (
    Transition.OPENED,
    Transition.WORSENED,
    Transition.NO_DATA,
    Transition.RESTATED,
    Transition.REPEATED,
    Transition.RESOLVED,
    Transition.OPERATOR,
)


def dedup_key(model: str, window: Window | None, *, changes: Iterable[Change], revision: int = 0) -> str:
    """The key under which the same news is queued once, however often a window is computed.

    Deterministic over (model, window, set of transitions and incidents, revision).
    """
    news = sorted(f"{transition.value}:{incident.id}" for transition, incident in changes)
    span = "-" if window is None else f"{window.start.isoformat()}/{window.end.isoformat()}"
    digest = hashlib.sha256("\x1f".join([model, span, str(revision), *news]).encode()).hexdigest()
    return f"news-{digest[:24]}"


def compose(
    *,
    model: str,
    window: Window,
    changes: Sequence[Change],
    results: Sequence[Result],
    still_open: Sequence[Incident] = (),
    ranks: Mapping[str, float] | None = None,
    report_url: str | None = None,
    runbook: str | None = None,
    owner: str | None = None,
    importance_word: str = "",
) -> Message:
    """One message for all that changed in one window of a model: what, since when, how sure, why, what to do.

    Parameters
    ----------
    changes
        The transitions of :func:`monitor.incidents.advance`, at least one.
    results
        The window's results; the findings are those of the incidents' series that are not ``ok``, worst first.
        ``detail["what"]`` of a result, when present, is what changed in plain words.
    still_open
        Open incidents of the model that are not among ``changes``; named in a message of resolution, which is only
        "all clear" (severity ``ok``) when there are none.
    ranks
        Importance of features: between equal effects the more important one comes first.

    Raises
    ------
    ValueError
        If nothing changed: then there is nothing to say.
    """
    if not changes:
        raise ValueError(f"{model}: a message needs at least one change")
    ordered = sorted(changes, key=_chief_first)
    transition = ordered[0][0]
    firing = [incident for kind, incident in ordered if kind is not Transition.RESOLVED]
    open_now = [i for i in (*firing, *still_open) if i.state is IncidentState.OPEN]
    findings = _findings(firing, results, ranks or {})
    chief = ordered[0][1]
    return Message(
        title=f"{model}: {_headline(ordered)}",
        summary=_summary(ordered, open_now, window),
        severity=Verdict.ALERT if open_now else Verdict.WARN if any(map(_was_late, ordered)) else Verdict.OK,
        transition=transition,
        model=model,
        window=window,
        findings=findings[: max(TOP, len(firing))],
        more=max(0, len(findings) - max(TOP, len(firing))),
        facts=_facts(ordered, results, importance_word),
        advice=_advice(i for kind, i in ordered if i.state is IncidentState.OPEN or _was_late((kind, i))),
        report_url=report_url,
        runbook=runbook,
        owner=owner,
        incident_ids=[incident.id for _, incident in ordered],
        thread_key=thread_of(chief) if transition is Transition.OPENED else _oldest_thread(ordered),
    )


def _chief_first(change: Change) -> tuple[Any, ...]:
    """Loudest first; a root before what follows from it."""
    transition, incident = change
    return LOUDEST_FIRST.index(transition), "root" in incident.detail, incident.check, incident.id


def _was_late(change: Change) -> bool:
    """Whether it is over by the time that it is found: labels that land together show days at once."""
    return change[0] is Transition.OPENED and change[1].state is IncidentState.RESOLVED


def _headline(ordered: Sequence[Change]) -> str:
    parts = []
    inside = {incident.id for _, incident in ordered}
    for transition, incident in ordered:
        if incident.detail.get("root") in inside and transition is not Transition.RESOLVED:
            continue
        words = subject_of(incident)
        parts.append(
            {
                Transition.OPENED: f"{words}, over by now" if _was_late((transition, incident)) else words,
                Transition.NO_DATA: words,
                Transition.WORSENED: f"{words}, too" if _is_first_told(incident) else f"more of it – {words}",
                Transition.REPEATED: f"still – {words}",
                Transition.RESTATED: f"restated – {words}",
                Transition.RESOLVED: f"resolved – {words}",
            }.get(transition, words)
        )
    return "; ".join(dict.fromkeys(parts))


def _is_first_told(incident: Incident) -> bool:
    """Whether nothing was told of it before: it follows from something that was, and all of it is new."""
    told = {feature for feature, _ in incident.detail.get("told", [])}
    return "root" in incident.detail and told <= {*incident.detail.get("new", []), None}


def _summary(ordered: Sequence[Change], open_now: Sequence[Incident], window: Window) -> str:
    sentences = []
    inside = {incident.id for _, incident in ordered}
    for transition, incident in ordered:
        subject = subject_of(incident)
        subject = subject[:1].upper() + subject[1:] if subject.split(" ")[0] not in incident.features else subject
        since = f"since {moment(incident.onset or incident.opened_window)}"
        if incident.detail.get("root") in inside and transition is Transition.OPENED:
            sentences.append(f"With it: {subject_of(incident)} ({since}).")
        elif transition is Transition.RESOLVED:
            lasted = duration((incident.resolved_window or window.start) - incident.opened_window)
            sentences.append(f"Resolved after {lasted}: {subject} ({since}).")
        elif transition is Transition.RESTATED and incident.state is not IncidentState.OPEN:
            sentences.append(f"{subject} {since}: taken back, later data shows otherwise.")
        elif _was_late((transition, incident)):
            until = moment(incident.resolved_window or window.start)
            sentences.append(f"{subject} {since}, until {until}: found only now. {incident.summary}".rstrip())
        elif transition is Transition.WORSENED and not _is_first_told(incident):
            joined = ", ".join(incident.detail.get("new", [])[:TOP])
            sentences.append(f"{subject} {since}{f'; new: {joined}' if joined else ''}.")
        else:
            sentences.append(f"{subject} {since}.")
    others = [i for i in open_now if i.id not in {incident.id for _, incident in ordered}]
    if others:
        sentences.append(f"Still open: {'; '.join(subject_of(incident) for incident in others)}.")
    return " ".join(sentences)


def _findings(incidents: Sequence[Incident], results: Sequence[Result], ranks: Mapping[str, float]) -> list[Finding]:
    """One finding for each firing series, worst first; each incident's own worst before any other's second."""
    lanes = [_lane(incident, results, ranks) for incident in incidents]
    longest = max((len(lane) for lane in lanes), default=0)
    return [lane[place] for place in range(longest) for lane in lanes if place < len(lane)]


def _lane(incident: Incident, results: Sequence[Result], ranks: Mapping[str, float]) -> list[Finding]:
    inside = {(feature, segment) for feature, segment in incident.detail.get("series", [])}
    series: dict[tuple[str | None, str | None], list[Result]] = {}
    for result in results:
        mine = result.check is incident.check and (result.feature, result.segment) in inside
        if mine and result.verdict in (Verdict.WARN, Verdict.ALERT):
            series.setdefault((result.feature, result.segment), []).append(result)
    worst = [max(group, key=lambda r: (r.verdict.rank, excess(r))) for group in series.values()]
    worst.sort(key=lambda r: (-r.verdict.rank, -excess(r), -ranks.get(r.feature or "", 0.0), name_of(r)))
    return [Finding(name_of(result), result.verdict, finding_text(result)) for result in worst]


def _facts(ordered: Sequence[Change], results: Sequence[Result], importance_word: str) -> dict[str, str]:
    facts: dict[str, str] = {}
    incidents = [incident for _, incident in ordered]
    named = [i for i in incidents if i.cause not in (None, "cannot_tell") and i.state is IncidentState.OPEN]
    causes = dict.fromkeys(_cause(i) for i in named)
    if causes:
        facts["Likely cause"] = "; ".join(causes)
    firing = [i for i in incidents if i.state is IncidentState.OPEN]
    if firing:
        first = min(firing, key=lambda i: (i.onset or i.opened_window, i.id))
        facts["Since"] = began(first) or moment(first.onset or first.opened_window)
        facts |= _sureness(firing, results)
        facts |= _split(firing, results)
    shared = dict.fromkeys(str(i.detail["shared"]) for i in firing if i.detail.get("shared"))
    if shared:
        facts["In common"] = "; ".join(shared)
    if importance_word:
        facts["Importance"] = importance_word
    acknowledged = dict.fromkeys(i.acknowledged_by for i in incidents if i.acknowledged_by)
    if acknowledged:
        facts["Acknowledged by"] = ", ".join(str(who) for who in acknowledged)
    return facts


def _cause(incident: Incident) -> str:
    sure = "" if incident.cause_confidence is None else f" ({incident.cause_confidence:.0%} sure)"
    return f"{str(incident.cause).replace('_', ' ')}{sure}"


def _sureness(incidents: Sequence[Incident], results: Sequence[Result]) -> dict[str, str]:
    """The p-value of the worst result, and the share of labels that it stands on."""
    checks = {incident.check for incident in incidents}
    alerting = [r for r in results if r.verdict is Verdict.ALERT and r.check in checks]
    facts = {}
    tested = [r.p_value for r in alerting if r.p_value is not None]
    if tested:
        smallest = min(tested)
        facts["Chance alone"] = "p < 0.0001" if smallest < 1e-4 else f"p = {smallest:.2g}"
    if spent := spent_on(alerting):
        facts["Budget"] = f"{spent:.1g} false pages spent"
    coverage = [r.label_coverage for r in alerting if r.label_coverage is not None]
    if coverage:
        facts["Labels"] = f"{min(coverage):.0%} have landed"
    return facts


def _split(incidents: Sequence[Incident], results: Sequence[Result]) -> dict[str, str]:
    """Of the worst metric of a performance incident for which that is known: inputs, or a changed rule?"""
    inside = {(i.check, feature, segment) for i in incidents for feature, segment in i.detail.get("series", [])}
    told = [r for r in results if r.verdict in (Verdict.WARN, Verdict.ALERT) and "rule_change" in r.detail]
    mine = [r for r in told if r.check is Check.PERFORMANCE and (r.check, r.feature, r.segment) in inside]
    worst = max(mine, key=lambda r: (r.verdict.rank, r.segment is None, excess(r)), default=None)
    found = None if worst is None else split_of(worst)
    return {} if worst is None or found is None else {"Inputs or rule": f"{name_of(worst)}: {found.words}"}


def _advice(incidents: Iterable[Incident]) -> str:
    return " ".join(dict.fromkeys(str(i.detail["advice"]) for i in incidents if i.detail.get("advice")))


def _oldest_thread(ordered: Sequence[Change]) -> str:
    return thread_of(min((incident for _, incident in ordered), key=lambda i: (i.opened_window, i.id)))


def closes_thread(message: Message) -> bool:
    """Whether all that the thread told of is over, so that its first message may be edited to say so."""
    return message.transition is Transition.RESOLVED and message.severity is Verdict.OK
