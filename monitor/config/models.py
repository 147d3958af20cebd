"""`models` and `defaults`: what is watched, and what makes two results of one model comparable."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, model_validator

from monitor.config.baselines import BaselineConfig, RollingBaseline
from monitor.config.block import Block
from monitor.config.drift import DriftConfig, QualityConfig, ScoreConfig
from monitor.config.features import FeatureConfig
from monitor.config.labels import LabelConfig
from monitor.config.performance import PerformanceConfig
from monitor.config.skew import SkewConfig, SkewLimits
from monitor.config.sources import TimeColumn
from monitor.config.versions import CompareConfig
from monitor.config_types import Cron, Duration, Instant, Names, NonEmpty, Number, Scalar, Unique, Whole, WindowSpec


class ModelDefaults(Block):
    """Keys a model may set for itself, or take from `defaults`."""

    source: NonEmpty | None = None
    """Name of the source (default: the only one there is)."""
    window: WindowSpec = "1d"
    """A length (`1h`, `1d`, `14d`) or a cron expression whose fires are the cuts."""
    schedule: Cron | None = None
    """When the worker looks for closed windows (cron, 0 = Sunday); default: at every tick."""
    settle: Duration = timedelta(minutes=15)
    """How long after its end a window is read, so that late log lines are in."""
    min_rows: Whole = Field(100, ge=1)
    """With fewer rows a window cannot tell; it is stored, and never alerted on."""
    baseline: BaselineConfig = RollingBaseline(rolling=timedelta(days=28))
    """What windows are compared with."""
    drift: DriftConfig = DriftConfig()
    """Feature drift."""
    quality: QualityConfig = QualityConfig()
    """Data quality."""
    score: ScoreConfig = ScoreConfig()
    """Score drift."""
    performance: PerformanceConfig = PerformanceConfig()
    """Performance on labels; takes effect for models that have `labels`."""
    confirm: Whole = Field(2, ge=1, le=100)
    """Bad windows in a row before an alert opens (1: at once)."""
    recover: Whole = Field(2, ge=1, le=100)
    """Good windows in a row before it resolves."""
    alerts: Annotated[Names, Unique] = []
    """Destinations, by name; empty: all that are configured."""
    lateness: Duration = timedelta(days=2)
    """A closed window is read again when its rows change within this time."""
    max_segments: Whole = Field(25, ge=1, le=1000)
    """The largest so many values of each segment column are watched on their own."""


class Defaults(ModelDefaults):
    """Applied to every model unless the model says otherwise; blocks are merged key by key."""

    skew: SkewLimits | None = None
    """Skew; takes effect for models that have a `skew` block."""


class ModelConfig(ModelDefaults):
    """One model: where its predictions are logged, and what is watched. Only `table` and `time` are needed."""

    table: NonEmpty | None = None
    """Table with one row per prediction (`schema.table` where needed)."""
    query: NonEmpty | None = None
    """A SELECT in place of a table; `:start` and `:end` are bound to the window."""
    time: TimeColumn
    """When the prediction was made."""
    description: str = ""
    """One sentence for reports and messages."""
    owner: NonEmpty | None = None
    """Who looks after the model; shown in messages and reports."""
    runbook: NonEmpty | None = None
    """Address of the page that says what to do; linked from messages."""
    where: NonEmpty | None = None
    """SQL condition on the rows, e.g. `environment = 'prod'`."""
    key: Names | None = None
    """Columns that name one request; joins labels, features and offline values, and finds duplicates."""
    entity: Names | None = None
    """Columns that name whom a request is about, e.g. `[customer_id]`: rows of one are no independent evidence."""
    model_version: NonEmpty | None = None
    """Column with the version of the model."""
    prediction: NonEmpty | None = None
    """Column with the decision taken (absent: `score >= threshold`)."""
    threshold: Number | None = None
    """Scores from here on are positive decisions."""
    positive: Scalar = 1
    """Value of decision and label that counts as positive."""
    start: Instant | None = None
    """The first window begins here (default: when the monitor first ran, less `worker.max_catch_up`)."""
    features: FeatureConfig = FeatureConfig()
    """Which columns are features."""
    segments: Annotated[Names, Unique] = []
    """Columns whose values each get drift, score and performance of their own, e.g. `[country]`."""
    labels: LabelConfig | None = None
    """Where the truth lies."""
    skew: SkewConfig | None = None
    """Training–serving skew."""
    compare: CompareConfig | None = None
    """Champion and challengers on the same requests."""

    _false_pages: tuple[float, timedelta] = PrivateAttr(default=(1.0, timedelta(days=90)))

    @property
    def false_pages(self) -> tuple[float, timedelta]:
        """The budget of `alerts.false_pages`: so many pages in this time."""
        return self._false_pages

    @model_validator(mode="after")
    def _one_relation(self) -> ModelConfig:
        if (self.table is None) == (self.query is None):
            raise ValueError("give the model either a `table` or a `query`")
        return self


_NOT_IN_HASH: Any = {
    "description": True,
    "owner": True,
    "runbook": True,
    "alerts": True,
    "schedule": True,
    "settle": True,
    "lateness": True,
    "confirm": True,
    "recover": True,
    "start": True,
    "features": {"groups"},
    "skew": {"examples"},
    "compare": {"alert"},
}


def spec_hash(model: ModelConfig) -> str:
    """Identify what makes two results of a model comparable: data, window, baseline, bins, methods and limits.

    Who is told, when the work is done, and how many windows in a row it takes are left out. Keys at their default
    count as absent, so that a key added by a later version changes nothing for those who do not use it.
    """
    plain = model.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=_NOT_IN_HASH)
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
