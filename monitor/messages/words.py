"""Numbers, times and metrics in the words of a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

_WORDS = {
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
SHARES = frozenset({"mismatch_rate", "missing_rate", "unseen_rate", "out_of_range_rate", "decision_rate", "null_rate"})


def metric_word(metric: str) -> str:
    return _WORDS.get(metric, metric.replace("_", " "))


def number(value: float | None, *, share: bool = False) -> str:
    """Three significant digits, plain: no exponent for what people meet every day."""
    if value is None:
        return "undefined"
    if share:
        return f"{value:.1%}".replace("%", " %")
    if abs(value) < 1e15 and (value == int(value) or abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.2e}"


def signed(change: float) -> str:
    """A change with its sign, and as many digits as matter: -0.120, +3.40, -1,250."""
    size = abs(change)
    digits = 3 if size < 1 else 2 if size < 100 else 0
    return f"{change:+,.{digits}f}" if round(size, digits) else f"{0:.{digits}f}"


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


def how_many(things: Sequence[Any] | Mapping[Any, Any], noun: str) -> str:
    """``3 windows``, ``1 window``."""
    return f"{len(things)} {noun}{'s' * (len(things) != 1)}"


def as_list(names: Sequence[str], *, most: int = 5) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
