"""Incidents of a feed and not of the model: rows or labels that do not come as they should, and whose job that is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from monitor import messages
from monitor.config import ModelConfig
from monitor.delays import DELAY, OUTAGE
from monitor.models import Check, Incident, Result, Verdict

ROWS, LABELS = "no_data", "labels"
"""The kinds of incident that are about a feed."""
STANDING = "labels"
"""In the ``detail`` of an incident about labels: whether they ``stopped``, or come ``late`` or ``sooner``."""
_SOONER = "what is corrected for labels to come was learned from slower ones, so see that these are final"


def is_of_feed(incident: Incident) -> bool:
    return incident.detail.get("kind") in (ROWS, LABELS)


def told(incident: Incident, results: Iterable[Result], model: ModelConfig) -> Incident:
    """The incident with what is wrong with the feed and which job to look at; no cause is looked for in the model.

    Parameters
    ----------
    results
        Those of the incident's last bad window.
    """
    return _of_rows(incident, model) if incident.detail["kind"] == ROWS else _of_labels(incident, results, model)


def _of_rows(incident: Incident, model: ModelConfig) -> Incident:
    where = _writes(model.table)
    advice = f"Rows stopped arriving: look at {where}. Until they do nothing can be said of this model."
    return _with(incident, advice=advice, why="windows without any row")


def _of_labels(incident: Incident, results: Iterable[Result], model: ModelConfig) -> Incident:
    found = [r for r in results if r.check is Check.QUALITY and r.verdict is Verdict.ALERT]
    chief = min((r for r in found if r.metric in (OUTAGE, DELAY)), key=lambda r: r.metric != OUTAGE, default=None)
    standing = incident.detail.get(STANDING)
    if chief is not None:
        standing = "stopped" if chief.metric == OUTAGE else "late" if (chief.value or 0.0) > 1 else "sooner"
    incident = incident if standing is None else replace(incident, detail=incident.detail | {STANDING: standing})
    where = "the job that delivers labels"
    if model.labels is not None and model.labels.table is not None:
        where += f" ({model.labels.table})"
    so = _SOONER if standing == "sooner" else "performance is judged on what is in"
    advice = f"{messages.subject_of(incident).capitalize()}: look at {where}; {so}; do not retrain."
    why = incident.detail.get("why", "") if chief is None else str(chief.detail.get("what", ""))
    return _with(incident, advice=advice, why=why)


def _writes(table: str | None) -> str:
    return f"the job that writes {table}" if table else "the job that writes the table of predictions"


def _with(incident: Incident, *, advice: str, why: str) -> Incident:
    detail = incident.detail | {"advice": advice, "why": why}
    return replace(incident, cause=None, cause_confidence=None, detail=detail)
