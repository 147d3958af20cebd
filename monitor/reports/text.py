"""How values are written for people: inert, short, and the same on every page."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from markupsafe import Markup

from monitor.config import format_duration
from monitor.incidents import LABELS
from monitor.models import DECISION, SCORE, RunState, Verdict, Window

GLYPHS: Final = {
    Verdict.OK: "✓",
    Verdict.WARN: "◆",
    Verdict.ALERT: "▲",
    Verdict.CANNOT_TELL: "?",
    Verdict.NO_DATA: "∅",
}
WORDS: Final = {
    Verdict.OK: "ok",
    Verdict.WARN: "warning",
    Verdict.ALERT: "alert",
    Verdict.CANNOT_TELL: "cannot tell",
    Verdict.NO_DATA: "no data",
}
METRICS: Final = {
    "psi": "PSI",
    "psi_accumulated": "PSI of several windows",
    "ks": "KS",
    "wasserstein": "Wasserstein",
    "jensen_shannon": "Jensen–Shannon",
    "chi2": "χ²",
    "l_infinity": "L∞",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "fbeta": "F-beta",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "brier": "Brier score",
    "ece": "Calibration error",
    "calibration_drift": "Calibration drift",
    "calibration_drift_accumulated": "Calibration drift of several windows",
    "accuracy": "Accuracy",
    "specificity": "Specificity",
    "positive_rate": "Positive decisions",
    "prevalence": "Positive labels",
    "log_loss": "Log loss",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
    "mape": "Mean absolute percentage error",
    "bias": "Bias (mean error)",
    "median_absolute_error": "Median absolute error",
    "r2": "R²",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "macro_f1": "Macro F1",
    "weighted_precision": "Weighted precision",
    "weighted_recall": "Weighted recall",
    "weighted_f1": "Weighted F1",
    "micro_precision": "Micro precision",
    "micro_recall": "Micro recall",
    "micro_f1": "Micro F1",
    "macro_roc_auc": "Macro ROC-AUC",
    "mismatch_rate": "Differ from offline",
    "unmatched_rate": "No offline row",
    "missing_rate": "Missing",
    "unseen_rate": "Never-seen values",
    "out_of_range_rate": "Out of range",
    "constant": "Constant",
    "n_rows": "Rows",
    "decision_rate": "Positive decisions",
    "freshness_seconds": "Age of the newest row",
    "column_missing": "Column missing",
    "column_type": "Column changed its kind",
    "column_new": "New column",
    "other_bins_rate": "Baseline windows left out",
}
RATES: Final = {
    "precision", "recall", "f1", "fbeta", "accuracy", "specificity", "positive_rate", "prevalence",
    "mismatch_rate", "unmatched_rate", "missing_rate",
    "unseen_rate", "out_of_range_rate", "other_bins_rate", "decision_rate",
    "mape", "macro_precision", "macro_recall", "macro_f1",
    "weighted_precision", "weighted_recall", "weighted_f1", "micro_precision", "micro_recall", "micro_f1",
}  # fmt: skip
FLAGS: Final = {"constant", "column_missing", "column_type", "column_new"}

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_LONGEST = 2000


def clean(value: object) -> object:
    """Make text inert for a reader's eyes: control, invisible and direction-changing signs become ``U+FFFD``.

    Every value that a template prints passes here first and is HTML-escaped after.
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    text = value if len(value) <= _LONGEST else value[:_LONGEST] + "…"
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def short(name: str, length: int = 60) -> str:
    """Cut a long name in its middle, so that both ends stay to be recognised."""
    text = str(clean(name))
    if len(text) <= length:
        return text
    return f"{text[: length - 15]}…{text[-14:]}"


def column_words(name: str) -> str:
    if name.startswith(LABELS):
        return f"labels of {name.removeprefix(LABELS)}" if name != LABELS else "labels"
    return {SCORE: "score", DECISION: "decision"}.get(name, name)


def metric_words(metric: str) -> str:
    return METRICS.get(metric, metric.replace("_", " "))


def number(value: float | None) -> str:
    """Three digits that matter; an undefined value is a dash, never NaN."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}" if size < 1e9 else f"{value:.3g}"
    if size >= 0.0005 or size == 0:
        return f"{value:.{3 if size < 10 else 2 if size < 100 else 1}f}"
    return f"{value:.1e}"


def percent(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    points = value * 100
    size = abs(points)
    digits = 0 if size in (0, 100) else 1 if size >= 1 else 2
    return f"{points:.{digits}f} %" if size == 0 or size >= 0.005 else "<0.01 %"


def count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def metric_value(metric: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    if metric in FLAGS:
        return "yes" if value else "no"
    if metric in RATES:
        return percent(value)
    if metric == "freshness_seconds":
        return ago(timedelta(seconds=value))
    return count(value) if metric == "n_rows" else number(value)


def ended(sentence: str) -> str:
    """A sentence that somebody else wrote, with its full stop."""
    text = sentence.strip()
    return text if not text or text[-1] in ".!?…" else f"{text}."


def p_words(value: float | None) -> str:
    if value is None:
        return "–"
    return "<1e-12" if value < 1e-12 else f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _is_days(window: Window, zone: ZoneInfo) -> bool:
    start, end = window.start.astimezone(zone), window.end.astimezone(zone)
    return (start.hour, start.minute, end.hour, end.minute) == (0, 0, 0, 0)


def day(moment: datetime) -> str:
    return f"{moment.day} {moment:%b %Y}"


def span(window: Window, zone: ZoneInfo) -> str:
    """``18 Nov 2026``, ``18 Nov – 1 Dec 2026`` or ``18 Nov 2026, 06:00–07:00``, in the configured zone."""
    start, end = window.start.astimezone(zone), window.end.astimezone(zone)
    if not _is_days(window, zone):
        last = f"{end:%H:%M}" if end.date() == start.date() else f"{day(end)}, {end:%H:%M}"
        return f"{day(start)}, {start:%H:%M}–{last}"
    last_day = (end.replace(tzinfo=None) - timedelta(days=1)).date()
    if last_day == start.date():
        return day(start)
    first = f"{start.day} {start:%b}" + (f" {start:%Y}" if start.year != last_day.year else "")
    return f"{first} – {last_day.day} {last_day:%b %Y}"


def brief(window: Window, zone: ZoneInfo) -> str:
    """``18 Nov`` or ``18 Nov 06:00``: for links and cells."""
    start = window.start.astimezone(zone)
    return f"{start.day} {start:%b}" + ("" if _is_days(window, zone) else f" {start:%H:%M}")


def moment(value: datetime | None, zone: ZoneInfo) -> str:
    if value is None:
        return "–"
    local = value.astimezone(zone)
    return f"{day(local)}, {local:%H:%M} {zone.key}"


def when(value: datetime | None, zone: ZoneInfo) -> str:
    """A date, with the time only where it is not midnight."""
    if value is None:
        return "–"
    local = value.astimezone(zone)
    return day(local) + ("" if (local.hour, local.minute) == (0, 0) else f", {local:%H:%M}")


def ago(length: timedelta) -> str:
    seconds = max(0, int(length.total_seconds()))
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {word}"
    return f"{seconds} s"


def plural(n: int, noun: str, nouns: str | None = None) -> str:
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def link(url: str | None) -> str | None:
    """An address that a page may link to: http, https or mail; anything else is shown as text only."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.scheme in ("http", "https") and parts.netloc:
        return url
    return url if parts.scheme == "mailto" else None


def state_words(state: RunState, reason: str | None) -> str:
    words = {
        RunState.NO_DATA: "no rows arrived in this window",
        RunState.INSUFFICIENT: "too few rows to say anything",
        RunState.ERROR: "this window could not be read",
        RunState.SKIPPED: "this window was skipped",
    }.get(state, "nothing to compare")
    return f"{words} ({reason})" if reason else words


__all__ = [
    "GLYPHS", "WORDS", "ago", "brief", "clean", "column_words", "count", "format_duration", "link", "metric_value",
    "metric_words", "moment", "number", "p_words", "percent", "plural", "short", "span", "state_words", "when",
]  # fmt: skip
