"""`compare`: champion and challengers on the same requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from monitor.config.block import Block
from monitor.config_types import Flag, NonEmpty, Number, Unique, Whole


def _version_name(value: object) -> object:
    if isinstance(value, float):
        raise PydanticCustomError("version", "write a version that reads as a number in quotes, such as '2026.2'")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


VersionName = Annotated[NonEmpty, BeforeValidator(_version_name, json_schema_input_type=str | int)]


class ShadowColumns(Block):
    """What a shadow version said, in columns beside the champion's (short form: the score's)."""

    score: NonEmpty | None = None
    """Column with its score."""
    prediction: NonEmpty | None = None
    """Column with the decision it would have taken (absent: `score >= threshold`)."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"score": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_at_least(self) -> ShadowColumns:
        if self.score is None and self.prediction is None:
            raise ValueError("give a shadow version a `score`, a `prediction`, or both")
        return self


CompareMetric = Literal["error", "brier", "log_loss", "precision", "recall", "value"]


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
    """Differences to compute, the one that matters most first; `value` takes `performance.value`."""
    min_pairs: Whole = Field(100, ge=1)
    """With fewer labelled requests that both answered, nothing is said."""
    alert: Flag = False
    """Send one message when the first of `metrics` shows a challenger to be better, or worse."""
