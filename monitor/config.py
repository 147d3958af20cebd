"""What a user may write in `config.yaml`, as types; one class for each block of the file.

Reading the file (line numbers, `${VAR}`, duplicate keys, nearest names) is `monitor/config_file.py`.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    model_validator,
)

_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|w)\s*$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(value: object) -> timedelta:
    """Read ``90s``, ``15m``, ``6h``, ``28d`` or ``2w``."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a duration such as 15m, 6h or 28d, found {value!r}")
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def format_duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    for unit in ("w", "d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0 and (unit != "w"):
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def parse_fraction(value: object) -> float:
    """Read ``0.01`` or ``1%`` (a sign is allowed: ``+2%``)."""
    if isinstance(value, bool):
        raise ValueError(f"expected a share such as 1% or 0.01, found {value!r}")
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        text = value.strip()
        try:
            return float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            pass
    raise ValueError(f"expected a share such as 1% or 0.01, found {value!r}")


def _parse_instant(value: object) -> object:
    return value.isoformat() if isinstance(value, date) and not isinstance(value, datetime) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration, json_schema_input_type=str),
    PlainSerializer(format_duration, return_type=str),
]
Fraction = Annotated[float, BeforeValidator(parse_fraction, json_schema_input_type=str | float)]
Instant = Annotated[datetime, BeforeValidator(_parse_instant)]
"""A date (midnight in the config's zone) or a timestamp; naive values are read in `timezone`."""
NonEmpty = Annotated[str, Field(min_length=1)]


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[NonEmpty], BeforeValidator(_one_or_many)]


class Block(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, validate_default=True)


# --- sources -------------------------------------------------------------------------------------


class SourceConfig(Block):
    """A database (`url`) or a folder of Parquet / CSV files (`path`)."""

    url: SecretStr | None = None
    path: Path | None = None
    format: Literal["parquet", "csv"] = "parquet"
    statement_timeout: Duration = timedelta(minutes=5)
    connect_timeout: Duration = timedelta(seconds=15)
    max_connections: int = Field(2, ge=1, le=16)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"url": value} if "://" in value else {"path": value}
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> SourceConfig:
        if (self.url is None) == (self.path is None):
            raise ValueError("give a source either a `url` (database) or a `path` (folder of files)")
        return self


class TimeColumn(Block):
    """The event-time column: its name, and how to read it where the type does not say."""

    column: NonEmpty
    unit: Literal["auto", "s", "ms", "us", "ns", "iso"] = "auto"
    zone: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value


# --- thresholds ----------------------------------------------------------------------------------

Metric = Literal["psi", "ks", "wasserstein", "jensen_shannon", "chi2", "l_infinity"]
PerformanceMetric = Literal["precision", "recall", "f1", "fbeta", "roc_auc", "pr_auc", "brier", "ece", "accuracy"]
DriftLimits = dict[Metric, float]

_LIMIT = re.compile(r"^\s*(?:(<|>)\s*)?([+-]?\d+(?:\.\d+)?)\s*(%?)\s*$")


class PerformanceLimit(Block):
    """``-5%`` / ``+0.02``: a change against the baseline in points; ``< 0.60`` / ``> 0.2``: an absolute bound."""

    kind: Literal["change", "below", "above"]
    value: float

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return {"kind": "change", "value": float(value)}
        match = _LIMIT.match(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"expected a limit such as -5% or '< 0.60', found {value!r}")
        number = float(match[2]) / (100 if match[3] else 1)
        kind = {"<": "below", ">": "above", None: "change"}[match[1]]
        return {"kind": kind, "value": number}


class FeatureDrift(Block):
    """What one feature is judged by, where that differs from the rest."""

    warn: DriftLimits = {}
    alert: DriftLimits = {}
    ignore: bool = False


class NullLimits(Block):
    warn: Fraction = 0.02
    alert: Fraction = 0.10


class DriftConfig(Block):
    numeric: list[Metric] = ["psi", "ks"]
    categorical: list[Metric] = ["psi"]
    bins: int = Field(10, ge=2, le=100)
    warn: DriftLimits = {"psi": 0.10, "ks": 0.10}
    alert: DriftLimits = {"psi": 0.20, "ks": 0.20}
    significance: float = Field(0.01, gt=0, lt=0.5)
    """Family-wise, over all features of a window: an effect beyond its limit must also be this unlikely by chance."""
    nulls: NullLimits = NullLimits()
    """Change of the missing share, in points."""
    top: Literal["all"] | Annotated[int, Field(ge=1)] = "all"
    features_alert: Annotated[int, Field(ge=1)] | Fraction = 1
    features: dict[str, FeatureDrift] = {}


class QualityConfig(Block):
    """Data quality, from the same counts; shares are changes in points against the baseline."""

    unseen: NullLimits = NullLimits(warn=0.01, alert=0.05)
    out_of_range: NullLimits = NullLimits(warn=0.01, alert=0.05)
    constant: bool = True
    volume: NullLimits = NullLimits(warn=0.5, alert=0.8)
    """Fall of the number of rows against the median of the last windows."""
    freshness: Duration | None = None
    """Alert when the newest row is older than this at the window's end (default: off)."""


class ScoreConfig(Block):
    """The score column (short form: its name) and the limits of its drift."""

    column: NonEmpty | None = None
    warn: DriftLimits = {"psi": 0.10, "ks": 0.10}
    alert: DriftLimits = {"psi": 0.20, "ks": 0.20}
    previous: bool = True
    """Compare with the window before as well as with the baseline."""
    decision_rate: NullLimits = NullLimits(warn=0.05, alert=0.10)
    """Change of the share of positive decisions, in points."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value


class Tolerance(Block):
    abs: float = Field(1e-6, ge=0)
    rel: float = Field(1e-4, ge=0)


class OfflineConfig(Block):
    table: NonEmpty | None = None
    query: NonEmpty | None = None
    source: str | None = None
    key: Names | None = None
    time: TimeColumn | None = None
    columns: dict[str, str] = {}
    """Feature name → column name where the two sides differ."""


class SkewConfig(Block):
    offline: OfflineConfig
    features: Names | None = None
    join: Literal["exact", "asof"] = "exact"
    sample: int = Field(2000, ge=10, le=1_000_000)
    seed: int = 0
    tolerance: Tolerance = Tolerance()
    tolerances: dict[str, Tolerance] = {}
    warn: Fraction = 0.001
    alert: Fraction = 0.01
    missing_alert: Fraction = 0.05
    """Share of sampled requests without an offline row."""
    examples: int = Field(5, ge=0, le=50)


class LabelConfig(Block):
    label: NonEmpty = "label"
    table: NonEmpty | None = None
    query: NonEmpty | None = None
    source: str | None = None
    key: Names | None = None
    time: TimeColumn | None = None
    """When the label became known; absent: known as soon as it is not null."""
    delay: Duration = timedelta(days=30)
    """A window's labels are taken as mature this long after its end; it is kept up to date until then."""
    horizons: list[Duration] = []
    """Ages at which the performance of a window is looked at, besides the age `delay`."""
    absent_means: str | int | float | bool | None = None


class PerformanceConfig(Block):
    metrics: list[PerformanceMetric] = ["precision", "recall", "f1", "roc_auc", "pr_auc", "brier", "ece", "accuracy"]
    beta: float = Field(2.0, gt=0)
    min_labels: int = Field(100, ge=1)
    warn: dict[PerformanceMetric, PerformanceLimit] = {}
    alert: dict[PerformanceMetric, PerformanceLimit] = {}


class ImportanceTable(Block):
    table: NonEmpty
    feature: NonEmpty = "feature"
    weight: NonEmpty = "importance"
    source: str | None = None


class FeatureConfig(Block):
    from_: NonEmpty | None = Field(None, alias="from")
    """A JSON column that holds the features."""
    table: NonEmpty | None = None
    """A table of its own, joined by `key`."""
    key: Names | None = None
    include: Names | None = None
    exclude: Names = []
    numeric: Names = []
    categorical: Names = []
    max_categories: int = Field(200, ge=2, le=10_000)
    importance: dict[str, float] | ImportanceTable | None = None


class RollingBaseline(Block):
    rolling: Duration
    exclude_alerting: bool = True


class RangeBaseline(Block):
    from_: Instant = Field(alias="from")
    to: Instant


class TableBaseline(Block):
    table: NonEmpty
    source: str | None = None
    where: NonEmpty | None = None


class QueryBaseline(Block):
    query: NonEmpty
    source: str | None = None


class FileBaseline(Block):
    file: Path


BaselineConfig = RollingBaseline | RangeBaseline | TableBaseline | QueryBaseline | FileBaseline


class ModelDefaults(Block):
    """Keys a model may set for itself, or take from `defaults`."""

    source: str | None = None
    window: str = "1d"
    """A length (`1h`, `1d`, `14d`) or a cron expression whose fires are the cuts."""
    schedule: str | None = None
    """When the worker looks for closed windows (cron, 0 = Sunday); default: at every tick."""
    settle: Duration = timedelta(minutes=15)
    """How long after its end a window is read, so that late log lines are in."""
    min_rows: int = Field(100, ge=1)
    baseline: BaselineConfig = RollingBaseline(rolling=timedelta(days=28))
    drift: DriftConfig = DriftConfig()
    quality: QualityConfig = QualityConfig()
    score: ScoreConfig = ScoreConfig()
    confirm: int = Field(2, ge=1, le=100)
    recover: int = Field(2, ge=1, le=100)
    alerts: Names = []
    """Destinations, by name; empty: all that are configured."""
    lateness: Duration = timedelta(days=2)
    """A closed window is read again when its rows change within this time."""


class ModelConfig(ModelDefaults):
    table: NonEmpty | None = None
    query: NonEmpty | None = None
    time: TimeColumn
    description: str = ""
    owner: str | None = None
    runbook: str | None = None
    where: NonEmpty | None = None
    key: Names | None = None
    model_version: NonEmpty | None = None
    prediction: NonEmpty | None = None
    threshold: float | None = None
    positive: str | int | float | bool = 1
    start: Instant | None = None
    """The first window begins here (default: when the monitor first ran, less `worker.max_catch_up`)."""
    features: FeatureConfig = FeatureConfig()
    segments: Names = []
    max_segments: int = Field(25, ge=1, le=1000)
    labels: LabelConfig | None = None
    performance: PerformanceConfig = PerformanceConfig()
    skew: SkewConfig | None = None

    @model_validator(mode="after")
    def _one_relation(self) -> ModelConfig:
        if (self.table is None) == (self.query is None):
            raise ValueError("give the model either a `table` or a `query`")
        return self


class Destination(Block):
    """Where messages go: exactly one of `slack`, `webhook`, `apprise`, `console`."""

    slack: NonEmpty | None = None
    """A channel; the bot token is read from `token` (default: the variable SLACK_BOT_TOKEN)."""
    token: SecretStr | None = None
    api_url: str | None = None
    """Base address of the Slack Web API, for gateways; default: Slack's own."""
    webhook: SecretStr | None = None
    """A Slack incoming webhook."""
    allow_insecure: bool = False
    """Permit an http:// webhook or gateway on another host than this one."""
    apprise: SecretStr | None = None
    console: bool = False
    min_severity: Literal["warn", "alert"] = "alert"
    mention: dict[Literal["warn", "alert"], str] = {}
    fallback: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Destination:
        kinds = [self.slack, self.webhook, self.apprise, self.console or None]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("a destination is exactly one of `slack`, `webhook`, `apprise` or `console: true`")
        return self


class AlertsConfig(Block):
    """Settings, and beside them any number of named destinations."""

    destinations: dict[str, Destination] = {}
    repeat: Duration | None = timedelta(hours=24)
    """Remind of an open incident this often."""
    send_resolved: bool = True
    no_data: int = Field(2, ge=1)
    """Windows in a row without rows before that is itself an alert."""
    max_age: Duration = timedelta(days=2)
    """Windows older than this change state without a message of their own."""

    @model_validator(mode="before")
    @classmethod
    def _named_destinations(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "destinations" in value:
            return value
        named = {key: item for key, item in value.items() if key not in cls.model_fields}
        return {key: item for key, item in value.items() if key in cls.model_fields} | {"destinations": named}


class ReportsConfig(Block):
    dir: Path = Path("reports")
    url: str | None = None
    keep: Duration = timedelta(days=90)
    evidently: Literal["never", "on_alert", "always"] = "on_alert"
    evidently_rows: int = Field(5000, ge=100, le=100_000)
    evidently_timeout: Duration = timedelta(minutes=2)
    min_category_rows: int = Field(10, ge=1)
    """Categories with fewer rows are shown as "(other)"."""


class RetentionConfig(Block):
    results: Duration = timedelta(days=400)
    profiles: Duration = timedelta(days=400)
    samples: Duration = timedelta(0)
    """Skew examples hold raw values; 0 keeps none."""


class WorkerConfig(Block):
    tick: Duration = timedelta(seconds=30)
    max_catch_up: Duration = timedelta(days=7)
    concurrency: int = Field(2, ge=1, le=32)
    lease: Duration = timedelta(minutes=2)
    window_deadline: Duration = timedelta(minutes=30)
    max_attempts: int = Field(3, ge=1, le=20)
    grace: Duration = timedelta(seconds=30)
    metrics: str | None = "127.0.0.1:9109"
    """`host:port` of Prometheus /metrics, /livez and /readyz; empty turns it off."""
    heartbeat: SecretStr | None = None
    """A URL that is fetched after each completed tick."""


class Config(Block):
    version: Literal[1] = 1
    store: SecretStr = SecretStr("sqlite:///monitor.db")
    timezone: str = "UTC"
    sources: Annotated[dict[str, SourceConfig], Field(min_length=1)]
    defaults: dict[str, Any] = {}
    models: Annotated[dict[str, ModelConfig], Field(min_length=1)]
    alerts: AlertsConfig = AlertsConfig()
    reports: ReportsConfig = ReportsConfig()
    retention: RetentionConfig = RetentionConfig()
    worker: WorkerConfig = WorkerConfig()
