"""`performance`: what is computed once labels have landed, and what is alerted on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from monitor.config.block import Block
from monitor.config.limits import PerformanceLimit
from monitor.config.metrics import AGAINST_BASELINE, TASK_METRICS, WORTH, PerformanceMetric, Task
from monitor.config_types import Number, Unique, Whole

_PERFORMANCE: list[Any] = [
    "precision", "recall", "f1", "roc_auc", "pr_auc", "brier", "ece", "accuracy", "calibration_drift",
]  # fmt: skip
_DEFAULT_METRICS: dict[Task, list[Any]] = {
    "binary": _PERFORMANCE,
    "multiclass": ["accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_f1"],
    "regression": ["mae", "rmse", "mape", "bias", "median_absolute_error", "r2"],
}
_DEFAULT_LIMITS: dict[Task, dict[str, tuple[float, float]]] = {
    "binary": {
        "precision": (-0.05, -0.10), "recall": (-0.05, -0.10), "roc_auc": (-0.03, -0.05),
        "calibration_drift": (0.03, 0.05),
    },
    "multiclass": {"accuracy": (-0.05, -0.10), "macro_f1": (-0.05, -0.10)},
    "regression": {"mae": (0.10, 0.20), "rmse": (0.10, 0.20)},
}  # fmt: skip


class PerformanceConfig(Block):
    """What is computed once labels have landed, and what is alerted on."""

    metrics: Annotated[list[PerformanceMetric], Unique] = _PERFORMANCE
    """Metrics to compute and store (default of `multiclass`: accuracy, macro precision, recall and F1, weighted F1; of
    `regression`: mae, rmse, mape, bias, median_absolute_error, r2). `calibration_drift` is by how much the share of
    positives at a score has moved since the baseline (root mean square, in points)."""
    beta: Number = Field(2.0, gt=0, le=100)
    """Weight of recall against precision in `fbeta`."""
    thresholds: Annotated[list[Number], Unique] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    """Decision thresholds that are tried: what each would have given, on the labels, or while these land corrected for
    those to come."""
    value: dict[Literal["tp", "fp", "fn", "tn"], Number] = {}
    """What each outcome of a decision is worth, e.g. `{tp: 0, fp: -20, fn: -500, tn: 5}`; adds the metric `value`,
    the mean over decisions; a limit of it is in the same unit (`alert: {value: -0.5}` or `"< 2"`)."""
    min_labels: Whole = Field(100, ge=1)
    """With fewer labels a window cannot tell."""
    warn: dict[PerformanceMetric, PerformanceLimit] = {}
    """Limits by metric: `-3%` (points against the baseline) or `"< 0.60"` (absolute)."""
    alert: dict[PerformanceMetric, PerformanceLimit] = {}
    """Limits by metric: `-5%` (points against the baseline) or `"< 0.60"` (absolute). Where neither `warn` nor `alert`
    is given, a fall of precision or recall by 5 and 10 points, of ROC-AUC by 3 and 5, or a calibration drift of 3 and
    5 points warns and alerts; of `multiclass` a fall of accuracy or macro F1 by 5 and 10 points; of `regression` a rise
    of `mae` or `rmse` by a tenth and a fifth."""

    _task: Task = PrivateAttr(default="binary")

    @property
    def task(self) -> Task:
        """The kind of labels that these settings are for."""
        return self._task

    def of_task(self, task: Task) -> PerformanceConfig:
        """The same settings for labels of another kind: its own metrics, where none are given."""
        given = "metrics" in self.model_fields_set
        found = self.model_copy(update={} if given else {"metrics": list(_DEFAULT_METRICS[task])})
        found.__pydantic_private__ = {**(self.__pydantic_private__ or {}), "_task": task}
        if not given:
            found.__pydantic_fields_set__.discard("metrics")
        return found

    def computed(self) -> list[str]:
        """The metrics of labels alone that are computed: of those asked for, what labels of this kind have."""
        found = [str(metric) for metric in self.metrics if metric in TASK_METRICS[self._task]]
        return [metric for metric in found or _DEFAULT_METRICS[self._task] if metric not in AGAINST_BASELINE]

    def told(self) -> list[str]:
        """The metrics of which a window has a result: the computed ones, and distances from the baseline."""
        return [*self.computed(), *(["calibration_drift"] if self.watches_scores else [])]

    @property
    def watches_scores(self) -> bool:
        """Whether it is asked for what scores mean, against the baseline."""
        asked = {str(metric) for metric in self.metrics} & TASK_METRICS[self._task]
        return "calibration_drift" in (asked or _DEFAULT_METRICS[self._task])

    def limits(self) -> tuple[dict[Any, PerformanceLimit], dict[Any, PerformanceLimit]]:
        """``(warn, alert)`` by metric: those given, or the built-in ones where none are."""
        given = {*self.warn, *self.alert}
        # What `defaults` say of another kind of labels says nothing of these.
        if {"warn", "alert"} & self.model_fields_set and (not given or given & {*TASK_METRICS[self._task], WORTH}):
            return dict(self.warn), dict(self.alert)
        warn, alert = (
            {
                name: PerformanceLimit(kind="change", value=pair[level], percent=True)
                for name, pair in _DEFAULT_LIMITS[self._task].items()
            }
            for level in (0, 1)
        )
        return warn, alert
