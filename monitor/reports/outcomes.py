"""What the labels of a window say beyond its metrics, in words: other thresholds, what scores promised, odd labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitor.curves import plainly
from monitor.models import Check, Result
from monitor.reports.reading import Facts
from monitor.reports.text import count, metric_value, number

COLUMNS = ("precision", "recall", "f1", "specificity", "positive_rate")
_ODD = {
    "never_labelled": "predictions that can never be labelled",
    "despite": "labels of predictions that could not have had one",
    "contradictions": "requests with labels that contradict each other (the newest counts)",
    "before_prediction": "labels from before their prediction",
    "without_prediction": "labels that no prediction asked for",
    "duplicates": "duplicate predictions, left out",
}


@dataclass(frozen=True)
class Outcomes:
    """Rows of text, ready to be laid out; ``thresholds`` are in the order of ``COLUMNS``, after the threshold.

    ``curve`` says what the tables are of, or why there are none; ``labels`` what the last column of ``reliability`` is.
    """

    thresholds: list[list[str]]
    reliability: list[list[str]]
    confusion: str
    odd: list[str]
    curve: str = ""
    labels: str = "Labels"


def outcomes(facts: Facts) -> Outcomes | None:
    """The tables of a window whose labels have been looked at; ``None`` where there are none."""
    found = [r for r in facts.results if r.check is Check.PERFORMANCE and r.segment is None and r.feature is None]
    told: dict[str, Any] = {}
    for result in found:
        told |= {name: result.detail[name] for name in TABLES if name in result.detail}
    if not told:
        return None
    corrected = told.get("tables_of") == "corrected"
    return Outcomes(
        [_threshold(row) for row in told.get("thresholds", [])],
        [_bin(row) for row in told.get("reliability", [])],
        _confusion(told.get("confusion"), told.get("confusion_expected"), so_far=corrected),
        _odd(told.get("labels") or {}),
        _curve(told),
        "Labels in the end" if corrected else "Labels",
    )


def _curve(told: Mapping[str, Any]) -> str:
    if "tables_reason" in told:
        reason = plainly(str(told["tables_reason"]))
        return f"What other thresholds would have given, and what scores promised, cannot be told yet: {reason}."
    return _CURVES.get(str(told.get("tables_of")), "")


_CURVES = {
    "realized": "Of the predictions with a label.",
    "corrected": "Of all predictions, corrected for labels still to come: where each number will end up, with its 95 % "
    "interval.",
}


def _odd(told: Mapping[str, Any]) -> list[str]:
    found = [f"{count(n)} {words}" for name, words in _ODD.items() if (n := told.get(name))]
    if told.get("without_prediction"):
        found = [each.replace("asked for", f"asked for, of {count(told['looked_up'])} looked up") for each in found]
    return found


TABLES = (
    "tables_of",
    "tables_reason",
    "thresholds",
    "reliability",
    "confusion",
    "confusion_expected",
    "labels",
    "calibration_change",
)
"""The parts of a result's detail that are tables of the whole window."""


def tables_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The same for a machine: one object for each window, oldest first."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for result in sorted(results, key=lambda r: r.window):
        parts = {name: result.detail[name] for name in TABLES if name in result.detail}
        if parts and result.segment is None:
            window = (result.window.start.isoformat(), result.window.end.isoformat())
            found.setdefault(window, {"window_start": window[0], "window_end": window[1]}).update(parts)
    return list(found.values())


def _threshold(row: Mapping[str, Any]) -> list[str]:
    return [number(row["threshold"]), *(_measure(name, row.get(name)) for name in COLUMNS)]


def _measure(name: str, told: Sequence[float | None] | None) -> str:
    if told is None:
        return "undefined"
    value, low, high = told
    interval = f"{metric_value(name, low)} – {metric_value(name, high)}"
    return f"between {interval}" if value is None else f"{metric_value(name, value)} ({interval})"


def _bin(row: Mapping[str, Any]) -> list[str]:
    observed = f"{metric_value('precision', row['observed'])}"
    bounds = f"{metric_value('precision', row['low'])} – {metric_value('precision', row['high'])}"
    return [metric_value("precision", row["predicted"]), f"{observed} ({bounds})", count(row["n"])]


def _confusion(told: Mapping[str, Any] | None, expected: Mapping[str, Any] | None, *, so_far: bool) -> str:
    if not told:
        return ""
    words = {"tp": "true positives", "fp": "false positives", "fn": "false negatives", "tn": "true negatives"}
    landed = ", ".join(f"{count(told[name])} {words[name]}" for name in words)
    found = f"Labelled decisions{' so far' if so_far else ''}: {landed}."
    if not expected:
        return found
    ends = {name: [count(round(each)) for each in expected[name]] for name in words}
    awaited = ", ".join(f"{value} ({low} – {high}) {words[name]}" for name, (value, low, high) in ends.items())
    return f"{found} Once all labels are in: {awaited}."
