"""From what changed in a window to one message in plain words; channels render it, nothing here sends it."""

from __future__ import annotations

import hashlib

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from monitor.models import Check, Finding, Incident, IncidentState, Message, Result, Transition, Verdict, Window

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
    "n_rows": "rows",
}
_SHARES = frozenset({"mismatch_rate", "missing_rate", "unseen_rate", "out_of_range_rate", "decision_rate", "null_rate"})


# --- storing ---------------------------------------------------------------------------------------


def message_to_json(message: Message) -> dict[str, Any]:
    """The message as plain JSON types, for the outbox; :func:`message_from_json` is the inverse."""
    window = message.window
    return {
        "title": message.title,
        "summary": message.summary,
        "severity": message.severity.value,
        "transition": message.transition.value,
        "model": message.model,
        "window": None if window is None else [window.start.isoformat(), window.end.isoformat()],
        "findings": [{"name": f.name, "verdict": f.verdict.value, "text": f.text} for f in message.findings],
        "facts": dict(message.facts),
        "more": message.more,
        "advice": message.advice,
        "report_url": message.report_url,
        "runbook": message.runbook,
        "owner": message.owner,
        "incident_ids": list(message.incident_ids),
        "thread_key": message.thread_key,
        "possible_repeat": message.possible_repeat,
    }


def message_from_json(data: Mapping[str, Any]) -> Message:
    """The message that :func:`message_to_json` wrote; keys of later versions are ignored.

    Raises
    ------
    KeyError, ValueError
        If ``data`` is not such a record.
    """
    window = data.get("window")
    return Message(
        title=data["title"],
        summary=data["summary"],
        severity=Verdict(data["severity"]),
        transition=Transition(data["transition"]),
        model=data["model"],
        window=None if window is None else Window(*(datetime.fromisoformat(moment) for moment in window)),
        findings=[Finding(f["name"], Verdict(f["verdict"]), f["text"]) for f in data.get("findings", [])],
        facts=dict(data.get("facts", {})),
        more=int(data.get("more", 0)),
        advice=data.get("advice", ""),
        report_url=data.get("report_url"),
        runbook=data.get("runbook"),
        owner=data.get("owner"),
        incident_ids=list(data.get("incident_ids", [])),
        thread_key=data.get("thread_key", ""),
        possible_repeat=bool(data.get("possible_repeat", False)),
    )


def dedup_key(model: str, window: Window | None, *, changes: Iterable[Change], revision: int = 0) -> str:
    """The key under which the same news is queued once, however often a window is computed.

    Deterministic over (model, window, set of transitions and incidents, revision).
    """
    news = sorted(f"{transition.value}:{incident.id}" for transition, incident in changes)
    span = "-" if window is None else f"{window.start.isoformat()}/{window.end.isoformat()}"
    digest = hashlib.sha256("\x1f".join([model, span, str(revision), *news]).encode()).hexdigest()
    return f"news-{digest[:24]}"
