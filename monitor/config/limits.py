"""Limits as they may be written: a drift metric's, a change of a share, a performance metric's."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from monitor.config.block import Block
from monitor.config.metrics import Metric
from monitor.config_types import Flag, Fraction, Number, parse_fraction


def _given_limits(value: object) -> object:
    """``ks: null`` takes a built-in limit away."""
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


DriftLimits = Annotated[
    dict[Metric, Annotated[Number, Field(gt=0)]],
    BeforeValidator(_given_limits, json_schema_input_type=dict[Metric, float | None]),
]

_LIMIT = re.compile(r"^\s*(?:(<|>|±)\s*)?([+-]?\d+(?:\.\d+)?)\s*(%?)\s*$")
_KINDS: dict[str | None, str] = {"<": "below", ">": "above", "±": "either", None: "change"}


class PerformanceLimit(Block):
    """``-5%`` / ``+0.02``: a change against the baseline, in points; ``±2``: a change in either direction;
    ``< 0.60`` / ``> 0.2``: an absolute bound. Of `mae`, `rmse` and `median_absolute_error`, which are in the label's
    unit, ``+10%`` is a tenth of the baseline's value."""

    kind: Literal["change", "below", "above", "either"]
    """A change against the baseline, in one direction or either, or a bound on the value itself."""
    value: Annotated[Number, Field(ge=-1e15, le=1e15)]
    """Points as a share: -0.05 is five points less."""
    percent: Flag = False
    """Whether it was given in per cent."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = f"{value:.17g}" if "e" not in f"{value:.17g}" else str(value)
        match = _LIMIT.match(value) if isinstance(value, str) else None
        if match is None:
            raise PydanticCustomError("limit", "expected a limit such as -5% or '< 0.60'")
        number = float(match[2]) / (100 if match[3] else 1)
        return {"kind": _KINDS[match[1]], "value": number, "percent": bool(match[3])}

    def against(self, reference: float | None, value: float | None, *, relative: bool) -> PerformanceLimit:
        """The same limit as a plain bound or change: a part of the reference in its unit, ± as the way it went."""
        if self.kind not in ("change", "either"):
            return self
        if reference is None:  # nothing to have changed from
            return self.model_copy(update={"kind": "change"})
        size = self.value * abs(reference) if relative and self.percent else self.value
        if self.kind == "either":
            size = -abs(size) if value is not None and value < reference else abs(size)
        return self.model_copy(update={"kind": "change", "value": size})


class NullLimits(Block):
    """A change of a share, in points: `{warn: 2%, alert: 10%}`."""

    warn: Fraction = 0.02
    """Worth a look."""
    alert: Fraction = 0.10
    """Worth a message."""

    @model_validator(mode="before")
    @classmethod
    def _keep_in_order(cls, value: Any) -> Any:
        """Where only one of the two is given, the built-in other one gives way to it."""
        if not isinstance(value, dict) or len({"warn", "alert"} & set(value)) != 1:
            return value
        given, other = ("warn", "alert") if "warn" in value else ("alert", "warn")
        try:
            number = parse_fraction(value[given])
        except ValueError:
            return value
        built_in = cls.model_fields[other].default
        return {**value, other: max(built_in, number) if other == "alert" else min(built_in, number)}


class UnseenLimits(NullLimits):
    """A change of a share, in points: `{warn: 1%, alert: 5%}`."""

    warn: Fraction = 0.01
    """Worth a look."""
    alert: Fraction = 0.05
    """Worth a message."""


class VolumeLimits(NullLimits):
    """A fall in rows, as a share of what is usual: `{warn: 50%, alert: 80%}`."""

    warn: Fraction = 0.5
    """Worth a look."""
    alert: Fraction = 0.8
    """Worth a message."""


class DecisionRateLimits(NullLimits):
    """A change of the share of positive decisions, in points: `{warn: 5%, alert: 10%}`."""

    warn: Fraction = 0.05
    """Worth a look."""
    alert: Fraction = 0.10
    """Worth a message."""
