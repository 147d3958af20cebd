"""`drift`, `quality` and `score`: how the values of a window are compared with the baseline."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeGuard

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from monitor.config.block import Block
from monitor.config.limits import DecisionRateLimits, DriftLimits, NullLimits, UnseenLimits, VolumeLimits
from monitor.config.metrics import Metric
from monitor.config_types import Flag, LongDuration, NonEmpty, Number, Unique, Whole, parse_fraction, told


def _with_limits(value: Any, warn: dict[Metric, float], alert: dict[Metric, float]) -> Any:
    """Lay the given limits over the built-in ones, so that changing one metric's limit keeps the others.

    A built-in warning gives way to a stricter alert of the user's.
    """
    if not isinstance(value, dict):
        return value
    given_warn, given_alert = value.get("warn", {}), value.get("alert", {})
    if not isinstance(given_warn, dict) or not isinstance(given_alert, dict):
        return value
    alerts: dict[Any, Any] = {**alert, **given_alert}
    for metric, limit in warn.items():
        if metric in given_warn and metric not in given_alert and metric in alert and _number(given_warn[metric]):
            alerts[metric] = max(alert[metric], given_warn[metric])
        bound = alerts.get(metric)
        if metric not in given_warn and _number(bound) and bound > 0:
            given_warn = {**given_warn, metric: min(limit, bound)}
    return {**value, "warn": {**warn, **given_warn}, "alert": alerts}


def _number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class FeatureDrift(Block):
    """What one feature is judged by, where that differs from the rest."""

    warn: DriftLimits = {}
    """Limits of this feature; metrics not named keep those of all features."""
    alert: DriftLimits = {}
    """Limits of this feature; metrics not named keep those of all features."""
    ignore: Flag = False
    """Count and show it, but never warn or alert (for a feature that grows by nature)."""


def _count_or_share(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    try:
        share = parse_fraction(value)
    except ValueError:
        share = 0.0
    if share == 0:
        raise PydanticCustomError("count_or_share", "expected a number of features such as 3, or a share such as 10%")
    return share


_DRIFT_WARN: dict[Metric, float] = {"psi": 0.10, "ks": 0.10}
_DRIFT_ALERT: dict[Metric, float] = {"psi": 0.20, "ks": 0.20}


class DriftConfig(Block):
    """How each feature of a window is compared with the baseline."""

    numeric: Annotated[list[Metric], Unique] = ["psi", "ks"]
    """Detectors for numeric features."""
    categorical: Annotated[list[Metric], Unique] = ["psi"]
    """Detectors for categorical features."""
    bins: Whole = Field(10, ge=2, le=100)
    """Bins of PSI and its kin: equal-frequency on the baseline, frozen with it; missing values have their own."""
    warn: DriftLimits = _DRIFT_WARN
    """Effects worth a look, by metric; metrics not named keep the built-in limit, `null` takes it away."""
    alert: DriftLimits = _DRIFT_ALERT
    """Effects worth a message, by metric; the effect must also be significant."""
    significance: Annotated[Number, Field(gt=0, lt=0.5)] | None = None
    """Family-wise, over all tests of a check in one window: an effect beyond its limit must also be this unlikely by
    chance (default: what `alerts.false_pages` allows)."""
    nulls: NullLimits = NullLimits()
    """Change of the missing share, in points."""
    multivariate: Literal["off", "correlation", "all"] = "all"
    """Whether numeric features still go together as they did, on a bounded sample of each window: the change of their
    pairwise rank correlations, and with `all` of what two or three of the first 16 do together beyond that (`off`: not
    looked at)."""
    top: Annotated[
        Literal["all"] | Annotated[Whole, Field(ge=1)], told("'all', or a number of features such as 20")
    ] = "all"
    """Only the most important features may alert (see `features.importance`); all are counted and shown."""
    features_alert: Annotated[
        int | float, BeforeValidator(_count_or_share, json_schema_input_type=Annotated[int, Field(ge=1)] | float | str)
    ] = 1
    """This many drifted features (a number, or a share such as 10%) raise the alert of the model."""
    features: dict[NonEmpty, FeatureDrift] = {}
    """Limits of single features, by name."""

    @model_validator(mode="before")
    @classmethod
    def _built_in(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        named = [value.get("numeric", ["psi", "ks"]), value.get("categorical", ["psi"])]
        if not all(isinstance(names, list) for names in named):
            return value
        computed = [metric for names in named for metric in names]
        return _with_limits(
            value,
            {metric: limit for metric, limit in _DRIFT_WARN.items() if metric in computed},
            {metric: limit for metric, limit in _DRIFT_ALERT.items() if metric in computed},
        )

    def limits(self, feature: str) -> tuple[dict[Metric, float], dict[Metric, float]]:
        """The warning and alert limits that hold for one feature, by metric."""
        own = self.features.get(feature, FeatureDrift())
        alert: dict[Metric, float] = {**self.alert, **own.alert}
        warn: dict[Metric, float] = {**self.warn, **own.warn}
        for metric, limit in warn.items():
            if metric not in own.warn and metric in alert:
                warn[metric] = min(limit, alert[metric])
        return warn, alert


class QualityConfig(Block):
    """Data quality, from the same counts; shares are changes in points against the baseline."""

    unseen: UnseenLimits = UnseenLimits()
    """Share of rows whose category the baseline has never seen."""
    out_of_range: UnseenLimits = UnseenLimits()
    """Share of rows below the baseline's lowest or above its highest value."""
    constant: Flag = True
    """Alert when a feature that used to vary has a single value."""
    volume: VolumeLimits = VolumeLimits()
    """Fall of the number of rows against the median of the last windows."""
    freshness: LongDuration | None = None
    """Alert when the newest row is older than this at the window's end (default: off)."""


class ScoreConfig(Block):
    """The score column (short form: its name) and the limits of its drift."""

    column: NonEmpty | None = None
    """Column with the model's output: a probability, or any number that grows with it."""
    warn: DriftLimits = _DRIFT_WARN
    """Effects worth a look, by metric; metrics not named keep the built-in limit, `null` takes it away."""
    alert: DriftLimits = _DRIFT_ALERT
    """Effects worth a message, by metric."""
    previous: Flag = True
    """Compare with the window before as well as with the baseline."""
    decision_rate: DecisionRateLimits = DecisionRateLimits()
    """Change of the share of positive decisions, in points."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return _with_limits({"column": value} if isinstance(value, str) else value, _DRIFT_WARN, _DRIFT_ALERT)
