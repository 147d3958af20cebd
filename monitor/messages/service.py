"""Messages from the service itself, and many messages in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from monitor.messages.composing import LOUDEST_FIRST
from monitor.messages.naming import subject_of, thread_of
from monitor.messages.words import as_list, how_many, moment
from monitor.models import Finding, Incident, Message, Transition, Verdict, Window


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
        f"{reason}. Windows of {how_many(models, 'model')} wait; they are computed once it can be read again.",
        facts={"Models": as_list(models)},
        advice=advice or "`monitor doctor` tells what is missing.",
        thread_key=f"source|{source}",
    )


def skipped(model: str, windows: Sequence[Window], *, reason: str) -> Message:
    """Windows that will not be computed unless somebody asks for them."""
    first, last = min(windows), max(windows)
    return operator(
        f"{model}: {how_many(windows, 'window')} skipped",
        f"{how_many(windows, 'window')} from {moment(first.start)} to {moment(last.end)} skipped: {reason}.",
        model=model,
        severity=Verdict.WARN,
        advice=f"monitor backfill --model {model} --from {first.start:%Y-%m-%d} --to {last.end:%Y-%m-%d}",
    )


def removed(model: str, incidents: Sequence[Incident]) -> Message:
    """A model is configured no more; its incidents end without anybody knowing how they would have ended."""
    first = min(incidents, key=lambda incident: (incident.opened_window, incident.id))
    listed = as_list([subject_of(incident) for incident in incidents])
    message = operator(
        f"{model}: no longer monitored",
        f"The model was taken out of the config. {how_many(incidents, 'open incident')} end as removed, which is not "
        f"the same as resolved: {listed}.",
        model=model,
        severity=Verdict.WARN,
        thread_key=thread_of(first),
    )
    return replace(message, incident_ids=[incident.id for incident in incidents])


def undeliverable(destination: str, *, reason: str, lost: Sequence[Message] = (), kept: int = 0) -> Message:
    """Told on another channel: ``destination`` takes nothing any more, or refused a message for good."""
    if lost:
        titles = as_list([m.title for m in lost])
        summary = f"{destination} refused {how_many(lost, 'message')} for good ({reason}): {titles}."
    else:
        summary = f"{destination} takes no messages ({reason}); {how_many(range(kept), 'message')} wait for its repair."
    return operator(
        f"alerts to {destination} are not delivered", summary, advice="`monitor test-alert` tries it again."
    )


def caught_up(model: str, *, messages: Sequence[Message], report_url: str | None = None) -> Message:
    """One message for windows too old for one of their own: the state has moved, and this is what happened."""
    windows = [message.window for message in messages if message.window is not None]
    span = f" from {moment(min(windows).start)} to {moment(max(windows).end)}" if windows else ""
    ordered = sorted(messages, key=_loudness)
    return Message(
        title=f"{model}: caught up on {how_many(messages, 'older message')}",
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
        title=f"{how_many(messages, 'message')} on {how_many(models, 'model')}",
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
    return -message.severity.rank, LOUDEST_FIRST.index(message.transition), message.title


def _day(message: Message) -> str:
    return "–" if message.window is None else moment(message.window.start)
