"""From what changed in a window to one message in plain words; channels render it, nothing here sends it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from monitor.models import (
    ACCUMULATED,
    DECISION,
    Check,
    Finding,
    Incident,
    IncidentState,
    Message,
    Result,
    Transition,
    Verdict,
    Window,
)

Change = tuple[Transition, Incident]

TOP = 3
"""Findings spelled out in a message; the rest is a count and a link."""

_LOUDEST_FIRST = (
    Transition.OPENED,
    Transition.WORSENED,
    Transition.NO_DATA,
    Transition.RESTATED,
    Transition.REPEATED,
    Transition.RESOLVED,
    Transition.OPERATOR,
)
_METRIC_WORDS = {
    "psi": "PSI",
    "ks": "KS",
    "wasserstein": "Wasserstein distance",
    "jensen_shannon": "Jensen–Shannon distance",
    "chi2": "χ²",
    "l_infinity": "L∞",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "f1": "F1",
    "fbeta": "F-beta",
    "brier": "Brier score",
    "ece": "calibration error",
    "calibration_drift_accumulated": "calibration drift of several windows",
    "log_loss": "log loss",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "mape": "mean absolute percentage error",
    "bias": "bias (mean error)",
    "r2": "R²",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "macro_roc_auc": "macro ROC-AUC",
    "n_rows": "rows",
    "correlation_change": "correlation change",
    "interaction_change": "interaction change",
}
_SHARES = frozenset({"mismatch_rate", "missing_rate", "unseen_rate", "out_of_range_rate", "decision_rate", "null_rate"})


def dedup_key(model: str, window: Window | None, *, changes: Iterable[Change], revision: int = 0) -> str:
    """The key under which the same news is queued once, however often a window is computed.

    Deterministic over (model, window, set of transitions and incidents, revision).
    """
    news = sorted(f"{transition.value}:{incident.id}" for transition, incident in changes)
    span = "-" if window is None else f"{window.start.isoformat()}/{window.end.isoformat()}"
    digest = hashlib.sha256("\x1f".join([model, span, str(revision), *news]).encode()).hexdigest()
    return f"news-{digest[:24]}"


# --- composing -------------------------------------------------------------------------------------


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
        severity=Verdict.ALERT if open_now else Verdict.OK,
        transition=transition,
        model=model,
        window=window,
        findings=findings[: max(TOP, len(firing))],
        more=max(0, len(findings) - max(TOP, len(firing))),
        facts=_facts(ordered, results, importance_word),
        advice=_advice(incident for _, incident in ordered if incident.state is IncidentState.OPEN),
        report_url=report_url,
        runbook=runbook,
        owner=owner,
        incident_ids=[incident.id for _, incident in ordered],
        thread_key=_thread(chief) if transition is Transition.OPENED else _oldest_thread(ordered),
    )


def _chief_first(change: Change) -> tuple[Any, ...]:
    """Loudest first; a root before what follows from it."""
    transition, incident = change
    return _LOUDEST_FIRST.index(transition), "root" in incident.detail, incident.check, incident.id


def _headline(ordered: Sequence[Change]) -> str:
    parts = []
    inside = {incident.id for _, incident in ordered}
    for transition, incident in ordered:
        if incident.detail.get("root") in inside and transition is not Transition.RESOLVED:
            continue
        words = _subject(incident)
        parts.append(
            {
                Transition.OPENED: words,
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


def _subject(incident: Incident) -> str:
    """What is wrong, in a few words."""
    n = len(incident.features)
    silent = {"no_data": "no rows arrive", "labels": "labels are late, or have stopped"}
    if incident.detail.get("kind") in silent:
        return silent[incident.detail["kind"]]
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


def _named(incident: Incident, n: int) -> str:
    return "a feature" if n == 0 else incident.features[0] if n == 1 else f"{n} features"


def _summary(ordered: Sequence[Change], open_now: Sequence[Incident], window: Window) -> str:
    sentences = []
    inside = {incident.id for _, incident in ordered}
    for transition, incident in ordered:
        subject = _subject(incident)
        subject = subject[:1].upper() + subject[1:] if subject.split(" ")[0] not in incident.features else subject
        since = f"since {moment(incident.onset or incident.opened_window)}"
        if incident.detail.get("root") in inside and transition is Transition.OPENED:
            sentences.append(f"With it: {_subject(incident)} ({since}).")
        elif transition is Transition.RESOLVED:
            lasted = duration((incident.resolved_window or window.start) - incident.opened_window)
            sentences.append(f"Resolved after {lasted}: {subject} ({since}).")
        elif transition is Transition.RESTATED and incident.state is not IncidentState.OPEN:
            sentences.append(f"{subject}: taken back, later data shows otherwise.")
        elif transition is Transition.WORSENED and not _is_first_told(incident):
            joined = ", ".join(incident.detail.get("new", [])[:TOP])
            sentences.append(f"{subject} {since}{f'; new: {joined}' if joined else ''}.")
        else:
            sentences.append(f"{subject} {since}.")
    others = [i for i in open_now if i.id not in {incident.id for _, incident in ordered}]
    if others:
        sentences.append(f"Still open: {'; '.join(_subject(incident) for incident in others)}.")
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
    worst.sort(key=lambda r: (-r.verdict.rank, -excess(r), -ranks.get(r.feature or "", 0.0), _name(r)))
    return [Finding(_name(result), result.verdict, finding_text(result)) for result in worst]


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


def _name(result: Result) -> str:
    own = {Check.SCORE_DRIFT: "score", Check.PERFORMANCE: metric_word(result.metric)}
    name = result.feature or own.get(result.check, metric_word(result.metric))
    if result.check is Check.PERFORMANCE and result.feature:  # one of several labels
        name = f"{metric_word(result.metric)} of {result.feature}"
    elif name.startswith("__"):
        name = "predicted class" if name == DECISION else metric_word(result.metric)
    return f"{name} [{result.segment}]" if result.segment else name


def finding_text(result: Result) -> str:
    """``PSI 0.38, limit 0.2: median 41 → 63`` – the number, what it is measured against, and what changed."""
    said = f"{metric_word(result.metric)} {number(result.value, share=result.metric in _SHARES)}"
    if result.check is Check.PERFORMANCE:
        said = number(result.value)
    if result.threshold is not None:
        said += f", limit {number(result.threshold, share=result.metric in _SHARES)}"
    what = result.detail.get("what")
    against = " against the window before" if result.detail.get("against") == "previous" else ""
    return f"{said}{against}: {what}" if what else f"{said}{against}"


def metric_word(metric: str) -> str:
    return _METRIC_WORDS.get(metric, metric.replace("_", " "))


def number(value: float | None, *, share: bool = False) -> str:
    """Three significant digits, plain: no exponent for what people meet every day."""
    if value is None:
        return "undefined"
    if share:
        return f"{value:.1%}".replace("%", " %")
    if abs(value) < 1e15 and (value == int(value) or abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.2e}"


def _facts(ordered: Sequence[Change], results: Sequence[Result], importance_word: str) -> dict[str, str]:
    facts: dict[str, str] = {}
    incidents = [incident for _, incident in ordered]
    causes = dict.fromkeys(_cause(i) for i in incidents if i.cause and i.state is IncidentState.OPEN)
    if causes:
        facts["Likely cause"] = "; ".join(causes)
    firing = [i for i in incidents if i.state is IncidentState.OPEN]
    if firing:
        first = min(firing, key=lambda i: (i.onset or i.opened_window, i.id))
        facts["Since"] = began(first) or moment(first.onset or first.opened_window)
        facts |= _sureness(firing, results)
    shared = dict.fromkeys(str(i.detail["shared"]) for i in firing if i.detail.get("shared"))
    if shared:
        facts["In common"] = "; ".join(shared)
    if importance_word:
        facts["Importance"] = importance_word
    acknowledged = dict.fromkeys(i.acknowledged_by for i in incidents if i.acknowledged_by)
    if acknowledged:
        facts["Acknowledged by"] = ", ".join(str(who) for who in acknowledged)
    return facts


def began(incident: Incident) -> str:
    """``between 2026-11-18 and 2026-11-19 (97 % sure)``; empty where the onset could not be dated."""
    told = incident.detail.get("onset_interval")
    if not told:
        return ""
    start, end = (moment(datetime.fromisoformat(text)) for text in told)
    return f"between {start} and {end} ({incident.detail.get('onset_confidence', 0):.0%} sure)".replace("%", " %")


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


def spent_on(results: Iterable[Result]) -> float:
    """False pages that the tests which alert may have caused; a test counts once, however many windows it confirmed."""
    by_test: dict[tuple[object, ...], float] = {}
    for r in results:
        if r.verdict is Verdict.ALERT and "spend" in r.detail:
            test = r.check, r.feature, r.segment, r.detail.get("against"), r.metric == ACCUMULATED
            by_test[test] = max(by_test.get(test, 0.0), float(r.detail["spend"]))
    return sum(by_test.values())


def _advice(incidents: Iterable[Incident]) -> str:
    return " ".join(dict.fromkeys(str(i.detail["advice"]) for i in incidents if i.detail.get("advice")))


def _thread(incident: Incident) -> str:
    return str(incident.detail.get("thread", incident.id))


def _oldest_thread(ordered: Sequence[Change]) -> str:
    return _thread(min((incident for _, incident in ordered), key=lambda i: (i.opened_window, i.id)))


def closes_thread(message: Message) -> bool:
    """Whether all that the thread told of is over, so that its first message may be edited to say so."""
    return message.transition is Transition.RESOLVED and message.severity is Verdict.OK


# --- from the service itself -----------------------------------------------------------------------


def operator(
    title: str,
    summary: str,
    *,
    model: str = "",
    window: Window | None = None,
    severity: Verdict = Verdict.ALERT,
    facts: Mapping[str, str] | None = None,
    advice: str = "",
    thread_key: str = "",
) -> Message:
    """A message about the service rather than a model: a source is broken, windows were skipped, an alert is dead."""
    return Message(
        title=title, summary=summary, severity=severity, transition=Transition.OPERATOR, model=model, window=window,
        facts=dict(facts or {}), advice=advice, thread_key=thread_key,
    )  # fmt: skip


def source_broken(source: str, *, reason: str, models: Sequence[str], advice: str = "") -> Message:
    """A source cannot be read; ``reason`` comes from the error's table, never from the driver's text."""
    return operator(
        f"source {source}: cannot be read",
        f"{reason}. Windows of {_count(models, 'model')} wait; they are computed once it can be read again.",
        facts={"Models": _listed(models)},
        advice=advice or "`monitor doctor` tells what is missing.",
        thread_key=f"source|{source}",
    )


def skipped(model: str, windows: Sequence[Window], *, reason: str) -> Message:
    """Windows that will not be computed unless somebody asks for them."""
    first, last = min(windows), max(windows)
    return operator(
        f"{model}: {_count(windows, 'window')} skipped",
        f"{_count(windows, 'window')} from {moment(first.start)} to {moment(last.end)} skipped: {reason}.",
        model=model,
        severity=Verdict.WARN,
        advice=f"monitor backfill --model {model} --from {first.start:%Y-%m-%d} --to {last.end:%Y-%m-%d}",
    )


def removed(model: str, incidents: Sequence[Incident]) -> Message:
    """A model is configured no more; its incidents end without anybody knowing how they would have ended."""
    first = min(incidents, key=lambda incident: (incident.opened_window, incident.id))
    listed = _listed([_subject(incident) for incident in incidents])
    message = operator(
        f"{model}: no longer monitored",
        f"The model was taken out of the config. {_count(incidents, 'open incident')} end as removed, which is not "
        f"the same as resolved: {listed}.",
        model=model,
        severity=Verdict.WARN,
        thread_key=_thread(first),
    )
    return replace(message, incident_ids=[incident.id for incident in incidents])


def undeliverable(destination: str, *, reason: str, lost: Sequence[Message] = (), kept: int = 0) -> Message:
    """Told on another channel: ``destination`` takes nothing any more, or refused a message for good."""
    if lost:
        summary = (
            f"{destination} refused {_count(lost, 'message')} for good ({reason}): {_listed([m.title for m in lost])}."
        )
    else:
        summary = f"{destination} takes no messages ({reason}); {_count(range(kept), 'message')} wait for its repair."
    return operator(
        f"alerts to {destination} are not delivered", summary, advice="`monitor test-alert` tries it again."
    )


def caught_up(model: str, *, messages: Sequence[Message], report_url: str | None = None) -> Message:
    """One message for windows too old for one of their own: the state has moved, and this is what happened."""
    windows = [message.window for message in messages if message.window is not None]
    span = f" from {moment(min(windows).start)} to {moment(max(windows).end)}" if windows else ""
    ordered = sorted(messages, key=_loudness)
    return Message(
        title=f"{model}: caught up on {_count(messages, 'older message')}",
        summary=f"The windows{span} were computed late. What changed in them:",
        severity=Verdict.WARN,
        transition=Transition.OPERATOR,
        model=model,
        window=Window(min(windows).start, max(windows).end) if windows else None,
        findings=[Finding(_day(message), message.severity, message.title) for message in ordered[:DIGESTED]],
        more=max(0, len(ordered) - DIGESTED),
        report_url=report_url,
        incident_ids=list(dict.fromkeys(i for message in messages for i in message.incident_ids)),
    )


DIGESTED = 10


def digest(messages: Sequence[Message], *, why: str) -> Message:
    """One message in place of many, when they would otherwise arrive as a storm; the newest of each incident counts."""
    newest: dict[tuple[str, str], Message] = {}
    for message in messages:
        newest[message.model, message.thread_key or message.title] = message
    ordered = sorted(newest.values(), key=_loudness)
    kinds = Counter(message.transition.value.replace("_", " ") for message in messages)
    models = dict.fromkeys(message.model for message in messages if message.model)
    return Message(
        title=f"{_count(messages, 'message')} on {_count(models, 'model')}",
        summary=f"{why}. In them: {', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))}.",
        severity=max((message.severity for message in ordered), key=lambda severity: severity.rank),
        transition=Transition.OPERATOR,
        model=", ".join(models) if len(models) == 1 else "",
        window=None,
        findings=[Finding(_day(message), message.severity, message.title) for message in ordered[:DIGESTED]],
        more=max(0, len(ordered) - DIGESTED),
        report_url=next((message.report_url for message in reversed(messages) if message.report_url), None),
        incident_ids=list(dict.fromkeys(i for message in messages for i in message.incident_ids)),
    )


def _loudness(message: Message) -> tuple[int, int, str]:
    return -message.severity.rank, _LOUDEST_FIRST.index(message.transition), message.title


def _day(message: Message) -> str:
    return "–" if message.window is None else moment(message.window.start)


# --- words -----------------------------------------------------------------------------------------


def moment(when: datetime) -> str:
    """``2026-11-20 00:00 UTC``; midnight is left out."""
    when = when.astimezone(UTC)
    return f"{when:%Y-%m-%d}" if (when.hour, when.minute) == (0, 0) else f"{when:%Y-%m-%d %H:%M} UTC"


def duration(length: timedelta) -> str:
    """The two largest units: ``3 days 4 h``."""
    minutes = max(0, int(length.total_seconds() // 60))
    days, minutes = divmod(minutes, 1440)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{days} day{'s' * (days != 1)}"] if days else []
    parts += [f"{hours} h"] if hours else []
    parts += [f"{minutes} min"] if minutes or not parts else []
    return " ".join(parts[:2])


def _count(things: Sequence[Any] | Mapping[Any, Any], noun: str) -> str:
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def _listed(names: Sequence[str], *, most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
