"""Versions side by side, for the pages: one box for each challenger, with its interval over time."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from markupsafe import Markup

from monitor.models import Result, Window
from monitor.reports import svg
from monitor.reports.reading import ModelFacts
from monitor.reports.text import brief, count, number, percent, plural, short, when

_NAMES = {
    "error_difference": "Error rate", "brier_difference": "Brier score", "log_loss_difference": "Log loss",
    "precision_difference": "Precision", "recall_difference": "Recall", "value_difference": "Value of a decision",
    "absolute_error_difference": "Mean absolute error", "squared_error_difference": "Mean squared error",
}  # fmt: skip
_POINTS = frozenset({"error_difference", "precision_difference", "recall_difference"})
_SHOWN = 60
"""Windows of a drawing."""


@dataclass(frozen=True)
class Row:
    """One paired difference as a row of the table."""

    name: str
    value: str
    interval: str
    standing: str
    since: str
    n: str


@dataclass(frozen=True)
class Versions:
    """One challenger beside the champion, as one window and those before it show."""

    title: str
    sentence: str
    agreement: str
    rows: list[Row]
    drawing: Markup | None
    drawn: str


Found = Mapping[str, Result]
"""Results of one challenger in one window, by metric."""
Pair = tuple[str, str, str]
"""Challenger, champion, and the further label by which they are compared (none: the model's own)."""


@dataclass(frozen=True)
class Point:
    """One window of one challenger; ``since`` says from which window on a metric's interval has not held zero."""

    window: Window
    found: Found
    since: Mapping[str, datetime]

    @property
    def tells(self) -> bool:
        return any(r.value is not None or r.interval for metric, r in self.found.items() if metric in _NAMES)


class Beside:
    """All that a model's windows say of its versions, gone through once."""

    def __init__(self, model: ModelFacts) -> None:
        config = model.config.compare
        named = [f"{metric}_difference" for metric in config.metrics] if config is not None else []
        self.order = list(dict.fromkeys([*named, *_NAMES]))
        self.points: dict[Pair, list[Point]] = {}
        self.newest: dict[Window, list[Pair]] = {}
        for facts in model.windows if config is not None else []:
            by_pair: dict[Pair, dict[str, Result]] = {}
            for r in facts.results:
                if r.of_versions:
                    pair = str(r.detail["version"]), str(r.detail["versus"]), r.feature or ""
                    by_pair.setdefault(pair, {})[r.metric] = r
            for pair, found in by_pair.items():
                past = self.points.setdefault(pair, [])
                past.append(Point(facts.window, found, _since(found, past)))
            if by_pair:
                self.newest[facts.window] = list(by_pair)

    def at(self, window: Window | None, zone: ZoneInfo) -> list[Versions]:
        """What is to be shown as of one window (``None``: the newest); nothing where it compares no versions."""
        found: list[Versions] = []
        window = max(self.newest, default=None) if window is None else window
        if window is None:
            return found
        for pair in self.newest.get(window, []):
            points = self.points[pair]
            end = bisect_right(points, window, key=lambda point: point.window)
            found.append(_shown(pair, points[max(0, end - _SHOWN) : end], self.order, zone))
        return found


def _since(found: Found, past: Sequence[Point]) -> dict[str, datetime]:
    """A window that tells nothing (no labels yet) neither begins nor ends a run."""
    before = next((point for point in reversed(past) if point.tells), None)
    since = {}
    for metric, result in found.items():
        standing = result.detail.get("standing")
        if standing not in ("better", "worse"):
            continue
        was = None if before is None or metric not in before.found else before.found[metric].detail.get("standing")
        goes_on = before is not None and was == standing and metric in before.since
        since[metric] = before.since[metric] if goes_on and before is not None else result.window.start
    return since


def _shown(pair: Pair, points: Sequence[Point], order: Sequence[str], zone: ZoneInfo) -> Versions:
    version, versus, label = pair
    newest = points[-1].found
    told = [point for point in points if point.tells]
    title = f"{short(version, 40)} beside {short(versus, 40)}{f': {short(label, 40)}' if label else ''}"
    agreement = _agreement(newest)
    if not told:
        reason = next((str(newest[m].detail.get("reason") or "") for m in order if m in newest), "")
        sentence = f"Which is better cannot be told yet: {reason}." if reason else "No labels are configured."
        return Versions(title, sentence, agreement, [], None, "")
    last = told[-1]
    there = [metric for metric in order if metric in last.found]
    rows = [_row(last, metric, zone) for metric in there]
    chief = last.found[there[0]]
    sentence = _sentence(chief, rows[0]) if chief.value is not None else _between(chief, rows[0])
    if last is not points[-1]:
        sentence += f" As of {brief(last.window, zone)}: labels of later windows are still landing, or there are none."
    drawing, drawn = _drawing(there[0], told, zone)
    return Versions(title, sentence.strip(), agreement, rows, drawing, drawn)


def _sentence(chief: Result, row: Row) -> str:
    n = plural(chief.n_current or 0, "same request")
    said = f"On {n}: {_lowered(row.name)} {row.value} {row.interval}"
    return f"{said}, {row.standing}{f' since {row.since}' if row.since else ''}."


def _between(chief: Result, row: Row) -> str:
    """Where some of the requests can never be labelled the difference has bounds, and they are said to be such."""
    if chief.interval is None:
        return f"Which is better cannot be told: {row.standing}." if row.standing else ""
    n = plural(chief.n_current or 0, "same request")
    never = count(chief.detail.get("never_labelled"))
    said = f"On {n}, {never} of which can never be labelled: {_lowered(row.name)} {row.value}"
    chance = f" ({row.interval} with chance)" if row.interval else ""
    return (
        f"{said}{chance}, whatever their labels would be: {row.standing}{f' since {row.since}' if row.since else ''}."
    )


def _lowered(words: str) -> str:
    return words if words.startswith("Brier") else words[:1].lower() + words[1:]


def _agreement(found: Found) -> str:
    """How often the two decide alike, before any label."""
    parts = []
    differ, moved, alone = (found.get(m) for m in ("decision_disagreement", "score_difference", "unpaired_rate"))
    if differ is not None and differ.value is not None:
        parts.append(f"decide differently on {percent(differ.value)} of {plural(differ.n_current or 0, 'request')}")
    if moved is not None and moved.value is not None:
        ends = moved.detail.get("percentiles") or {}
        between = (
            f" (5 to 95 %: {_signed(ends['p05'])} to {_signed(ends['p95'])})" if {"p05", "p95"} <= set(ends) else ""
        )
        parts.append(f"scores differ by {_signed(moved.value)} in the mean{between}")
    if alone is not None and alone.value:
        parts.append(f"{percent(alone.value)} answered by one of them only")
    reason = differ.detail.get("reason") if differ is not None and differ.value is None else None
    return "; ".join(parts) or str(reason or "")


def _row(point: Point, metric: str, zone: ZoneInfo) -> Row:
    result = point.found[metric]
    value = "–" if result.value is None else _difference(metric, result.value)
    ends, interval = result.interval, ""
    if "bounds" in result.detail and ends is not None:
        low, high = (_difference(metric, end, unit=False) for end in ends)
        value = f"between {low} and {high}{' points' if metric in _POINTS else ''}"
        ends = result.detail.get("bounds_with_chance")
    if ends is not None:
        low, high = (_difference(metric, end, unit=False) for end in ends)
        interval = f"[{low}, {high}]"
    standing = str(result.detail.get("standing") or result.detail.get("reason") or "")
    since = when(point.since[metric], zone) if metric in point.since else ""
    return Row(_NAMES[metric], value, interval, standing, since, count(result.n_current))


def _difference(metric: str, value: float, *, unit: bool = True) -> str:
    if metric in _POINTS:
        points = value * 100
        text = f"{points:+.{1 if abs(points) >= 10 else 2}f}"
        return _minus(text) + (" points" if unit else "")
    return _signed(value)


def _signed(value: float) -> str:
    return ("+" if value > 0 else "−" if value < 0 else "") + number(abs(value))


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _drawing(metric: str, told: Sequence[Point], zone: ZoneInfo) -> tuple[Markup | None, str]:
    results = [point.found.get(metric) for point in told]
    values = [None if r is None else _middle(r) for r in results]
    if sum(value is not None and math.isfinite(value) for value in values) < 2:
        return None, ""
    scale = 100 if metric in _POINTS else 1
    bounded = any(r is not None and "bounds" in r.detail for r in results)
    drawing = svg.band_chart(
        [None if value is None else value * scale for value in values],
        f"{_NAMES[metric]}, challenger less champion, over {plural(len(values), 'window')}",
        bounds=[None if r is None else _band(r, scale) for r in results],
    )
    span = f"{brief(told[0].window, zone)} to {brief(told[-1].window, zone)}"
    unit = " in points" if scale == 100 else ""
    line = "the middle of what the difference can be" if bounded else "the difference"
    words = f"{_NAMES[metric]}{unit}, challenger less champion, all requests up to each window; {span}"
    return drawing, f"{words}. Line: {line}"


def _middle(result: Result) -> float | None:
    """The value, or where there are bounds only what lies between them."""
    if result.value is None and result.interval is not None and "bounds" in result.detail:
        return sum(result.interval) / 2
    return result.value


def _band(result: Result, scale: float) -> tuple[float, float] | None:
    ends = result.detail.get("bounds_with_chance", result.interval)
    return None if ends is None else (ends[0] * scale, ends[1] * scale)
