"""The names of drift and performance metrics, and which way each of them is worse."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

Metric = Literal["psi", "ks", "wasserstein", "jensen_shannon", "chi2", "l_infinity"]
_PERFORMANCE_ALIASES = {"calibration_error": "ece"}


def _same_metric(value: object) -> object:
    return _PERFORMANCE_ALIASES.get(value, value) if isinstance(value, str) else value


PerformanceMetric = Annotated[
    Literal[
        "precision",
        "recall",
        "f1",
        "fbeta",
        "specificity",
        "accuracy",
        "roc_auc",
        "pr_auc",
        "brier",
        "log_loss",
        "ece",
        "calibration_drift",
        "prevalence",
        "positive_rate",
        "mae",
        "rmse",
        "mape",
        "bias",
        "median_absolute_error",
        "r2",
        "macro_precision",
        "macro_recall",
        "macro_f1",
        "weighted_precision",
        "weighted_recall",
        "weighted_f1",
        "micro_precision",
        "micro_recall",
        "micro_f1",
        "macro_roc_auc",
        "value",
    ],
    BeforeValidator(_same_metric),
]
Task = Literal["binary", "multiclass", "regression"]
_AVERAGED = [f"{how}_{what}" for how in ("macro", "weighted", "micro") for what in ("precision", "recall", "f1")]
TASK_METRICS: dict[Task, frozenset[str]] = {
    "binary": frozenset({
        "precision", "recall", "f1", "fbeta", "specificity", "accuracy", "roc_auc", "pr_auc", "brier", "log_loss",
        "ece", "calibration_drift", "prevalence", "positive_rate",
    }),
    "multiclass": frozenset({"accuracy", "macro_roc_auc", "log_loss", *_AVERAGED}),
    "regression": frozenset({"mae", "rmse", "mape", "bias", "median_absolute_error", "r2"}),
}  # fmt: skip
"""What can be computed of labels of each kind."""

WORTH = "value"
"""What a decision was worth in the mean, in the unit of `performance.value`; computed where that is given."""
FALLING_IS_WORSE = frozenset({
    "precision", "recall", "f1", "fbeta", "specificity", "accuracy", "roc_auc", "pr_auc", "macro_roc_auc", "r2",
    WORTH, *_AVERAGED,
})  # fmt: skip
EITHER_WAY = frozenset({"prevalence", "positive_rate", "bias"})
"""Neither good nor bad in one direction: a limit may point in either."""

IN_UNITS = frozenset({"mae", "rmse", "median_absolute_error"})
"""In the label's unit: a limit such as +10% is a part of the baseline's value."""

UNBOUNDED = frozenset({*IN_UNITS, "bias", "mape", "r2", "log_loss", WORTH})
"""May lie beyond 1, and so may their limits."""

AGAINST_BASELINE = frozenset({"calibration_drift"})
"""A distance from the baseline, and no value that a window has of its own."""
