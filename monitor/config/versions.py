"""`compare`: champion and challengers on the same requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from monitor.config.block import Block
from monitor.config.metrics import Task
from monitor.config_types import Flag, NonEmpty, Number, Unique, Whole


def _version_name(value: object) -> object:
    if isinstance(value, float):
        raise PydanticCustomError("version", "write a version that reads as a number in quotes, such as '2026.2'")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


VersionName = Annotated[NonEmpty, BeforeValidator(_version_name, json_schema_input_type=str | int)]


class SaidColumns(Block):
    """What a shadow version said of one label (short form: the column of the score, class or number)."""

    score: NonEmpty | None = None
    """Column with its score."""
    prediction: NonEmpty | None = None
    """Column with the decision it would have taken (absent: `score >= threshold`), or with the class or the number that
    it predicted."""
    scores: dict[NonEmpty, NonEmpty] = {}
    """Of `multiclass`: class → column with its predicted probability; needed for log loss."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"score": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if self.score is None and self.prediction is None:
            raise ValueError("give a shadow version a `score`, a `prediction`, or both")
        return self

    def of_task(self, task: Task) -> Self:
        """A predicted class is a prediction and a predicted number a score, whichever of the two was written."""
        if task == "binary":
            return self
        column = self.prediction or self.score
        update = (
            {"score": None, "prediction": column} if task == "multiclass" else {"score": column, "prediction": None}
        )
        return self.model_copy(update=update)


class ShadowColumns(SaidColumns):
    """What a shadow version said, in columns beside the champion's (short form: of the score, class or number)."""

    also: dict[NonEmpty, SaidColumns] = {}
    """Name of a further label that has predictions of its own → what this version said of it."""


CompareMetric = Literal[
    "error", "brier", "log_loss", "precision", "recall", "value", "absolute_error", "squared_error"
]  # fmt: skip
COMPARE_METRICS: dict[Task, tuple[CompareMetric, ...]] = {
    "binary": ("error", "brier", "log_loss", "precision", "recall", "value"),
    "multiclass": ("error", "log_loss"),
    "regression": ("absolute_error", "squared_error"),
}
"""Differences that can be computed of labels of each kind."""


class CompareConfig(Block):
    """Versions of the model side by side on the same requests; only the champion's rows drive all other checks."""

    champion: VersionName | None = None
    """The version that decides (default: the one that took most decisions in the baseline)."""
    challengers: Annotated[list[VersionName], Unique] = []
    """Versions that are held against it (default: all others that are seen)."""
    shadow: dict[VersionName, ShadowColumns] = {}
    """Versions that have columns of their own in the champion's row, e.g. `{v4: score_v4}`; without it versions are
    told apart by `model_version`, with a row for each version and request."""
    thresholds: dict[VersionName, Number] = {}
    """Scores from here on are positive decisions of that version (default: `threshold`)."""
    metrics: Annotated[list[CompareMetric], Unique, Field(min_length=1)] = [
        "error", "brier", "log_loss", "precision", "recall",
    ]  # fmt: skip
    """Differences to compute, the one that matters most first; `value` takes `performance.value`. Of classes there are
    `error` (one less accuracy) and `log_loss`, of numbers `absolute_error` and `squared_error`: these, where none that
    is named here is for the label at hand."""
    min_pairs: Whole = Field(100, ge=1)
    """With fewer labelled requests that both answered, nothing is said."""
    alert: Flag = False
    """Send one message when the first of `metrics` shows a challenger to be better, or worse."""

    def of_task(self, task: Task) -> list[CompareMetric]:
        """The metrics that are for labels of this kind, or else all there are of it."""
        there: list[CompareMetric] = [metric for metric in COMPARE_METRICS[task] if metric != "value"]
        return [metric for metric in self.metrics if metric in COMPARE_METRICS[task]] or there
