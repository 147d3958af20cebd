"""What a user may write in `config.yaml`, as types; one class for each block of the file.

Reading the file (line numbers, `${VAR}`, duplicate keys, nearest names) is `monitor/config_file.py`; how single words
such as ``28d`` or ``1%`` are read is `monitor/config_types.py`; what only makes sense together,
`monitor/config_checks.py`. The text under each key is its description in `monitor schema`.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeGuard
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    SecretStr,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from monitor.config_types import (
    Cron,
    Day,
    Duration,
    Flag,
    Fraction,
    Instant,
    LongDuration,
    Names,
    NonEmpty,
    Number,
    Rate,
    Scalar,
    Unique,
    Whole,
    WindowSpec,
    Zone,
    at_least,
    format_duration,
    in_zone,
    parse_duration,
    parse_fraction,
    rate_of,
    told,
)

__all__ = ["format_duration", "parse_duration"]  # beside the classes below: the words they are read and shown with


class Block(BaseModel):
    model_config = ConfigDict(
        extra="forbid", hide_input_in_errors=True, validate_default=True, use_attribute_docstrings=True
    )


# --- sources -------------------------------------------------------------------------------------


def _spark_master(value: str) -> str:
    if not re.fullmatch(r"local(\[[^\]]+\])?|yarn|(spark|k8s)://.+", value):
        raise PydanticCustomError(
            "master", "expected a Spark master: local[2], yarn, spark://host:7077 or k8s://https://host"
        )
    return value


class SparkConfig(Block):
    """A Spark cluster, or Spark in this machine's processes; `{}` is what Spark itself is configured for."""

    master: Annotated[NonEmpty, AfterValidator(_spark_master)] | None = None
    """Where Spark runs: `local[2]`, `yarn`, `spark://host:7077`, `k8s://https://host` (default: what Spark is set up
    for, or the session that is running already). One process has one Spark, so all sources name the same."""
    path: NonEmpty | None = None
    """Folder of tables, local or e.g. `s3a://bucket/logs`: `table: predictions` is then its subfolder (default: `table`
    is a table of Spark's catalogue, such as `lake.predictions`)."""
    format: NonEmpty = "parquet"
    """Format of the folders below `path`: `parquet`, `orc`, `csv`, or one that a package brings, such as `delta`."""
    options: dict[NonEmpty, Scalar] = {}
    """Options of the session, e.g. `spark.sql.shuffle.partitions: 4`."""


class SourceConfig(Block):
    """A database (`url`), a folder of Parquet / CSV files (`path`) or `spark`; short form: the URL or the path."""

    url: SecretStr | None = None
    """SQLAlchemy URL, e.g. `postgresql://reader:${DB_PASSWORD}@db/logs` or `sqlite:///logs.db` (a relative file lies
    beside the config file)."""
    path: Path | None = None
    """Folder of files; `table: predictions` is then the subfolder or file of that name."""
    format: Literal["parquet", "csv"] = "parquet"
    """Format of the files below `path`."""
    spark: SparkConfig | None = None
    """Tables, folders and queries that a Spark cluster reads, and counts itself (needs the extra `spark`)."""
    statement_timeout: LongDuration = timedelta(minutes=5)
    """A statement that runs longer is cancelled, and the window tried again later."""
    connect_timeout: LongDuration = timedelta(seconds=15)
    """How long to wait for a connection."""
    max_connections: Whole = Field(2, ge=1, le=16)
    """Connections open at the same time, at most."""
    push_down: Literal["never", "auto", "always"] = "auto"
    """Count numeric features inside the database, so that only counts cross the network: `auto` does so in warehouses
    (Snowflake, BigQuery, Databricks, Trino, Redshift), `always` pays on a link below about 1 Gbit/s. Windows of models
    with segments, a JSON column of features, or times that only parse exactly here are streamed nevertheless."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"url": value} if "://" in value else {"path": value}
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> SourceConfig:
        if sum(kind is not None for kind in (self.url, self.path, self.spark)) != 1:
            raise ValueError("give a source one of `url` (database), `path` (folder of files) and `spark`")
        return self


class TimeColumn(Block):
    """A time column: its name, and how to read it where the type does not say (short form: the name)."""

    column: NonEmpty
    """Name of the column."""
    unit: Literal["auto", "s", "ms", "us", "ns", "iso"] = "auto"
    """Unit of numbers since 1970, or `iso` for text; `auto` goes by type and size."""
    zone: Zone | None = None
    """Time zone of values without one (default: `timezone`)."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value


# --- thresholds ----------------------------------------------------------------------------------

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
    ],
    BeforeValidator(_same_metric),
]
Task = Literal["binary", "multiclass", "regression"]
_AVERAGED = [f"{how}_{what}" for how in ("macro", "weighted", "micro") for what in ("precision", "recall", "f1")]
TASK_METRICS: dict[Task, frozenset[str]] = {
    "binary": frozenset({
        "precision", "recall", "f1", "fbeta", "specificity", "accuracy", "roc_auc", "pr_auc", "brier", "log_loss",
        "ece", "prevalence", "positive_rate",
    }),
    "multiclass": frozenset({"accuracy", "macro_roc_auc", "log_loss", *_AVERAGED}),
    "regression": frozenset({"mae", "rmse", "mape", "bias", "median_absolute_error", "r2"}),
}  # fmt: skip
"""What can be computed of labels of each kind."""
FALLING_IS_WORSE = frozenset({
    "precision", "recall", "f1", "fbeta", "specificity", "accuracy", "roc_auc", "pr_auc", "macro_roc_auc", "r2",
    *_AVERAGED,
})  # fmt: skip
EITHER_WAY = frozenset({"prevalence", "positive_rate", "bias"})
"""Neither good nor bad in one direction: a limit may point in either."""
IN_UNITS = frozenset({"mae", "rmse", "median_absolute_error"})
"""In the label's unit: a limit such as +10% is a part of the baseline's value."""
UNBOUNDED = frozenset({*IN_UNITS, "bias", "mape", "r2", "log_loss"})
"""May lie beyond 1, and so may their limits."""


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


class Tolerance(Block):
    """Two values agree when they differ by at most `abs + rel · |offline value|`."""

    abs: Number = Field(1e-6, ge=0)
    """Absolute part, in units of the feature."""
    rel: Number = Field(1e-4, ge=0, le=1)
    """Relative part, as a share of the offline value."""


class OfflineConfig(Block):
    """Where the offline (training-side) values of the same requests lie."""

    table: NonEmpty | None = None
    """Table with the offline values."""
    query: NonEmpty | None = None
    """A SELECT in place of a table."""
    source: NonEmpty | None = None
    """Source of the table (default: the model's)."""
    key: Names | None = None
    """Columns that name the request or entity on both sides (default: the model's `key`)."""
    time: TimeColumn | None = None
    """Time from which an offline row holds; needed for `join: asof`."""
    columns: dict[NonEmpty, NonEmpty] = {}
    """Feature name → column name where the two sides differ."""

    @model_validator(mode="after")
    def _one_relation(self) -> OfflineConfig:
        if (self.table is None) == (self.query is None):
            raise ValueError("give the offline values either a `table` or a `query`")
        return self


class SkewLimits(Block):
    """What `defaults` may say about skew; it takes effect for models that have a `skew` block."""

    join: Literal["exact", "asof"] = "exact"
    """`exact`: the offline row of the same key; `asof`: the latest one not after the online time."""
    sample: Whole = Field(2000, ge=10, le=1_000_000)
    """Requests compared per window, drawn by a seeded hash of the key."""
    seed: Whole = 0
    """Another seed draws another sample."""
    tolerance: Tolerance = Tolerance()
    """How far two numbers may lie apart and still agree."""
    warn: Fraction = 0.001
    """Share of compared values that differ: worth a look."""
    alert: Fraction = 0.01
    """Share of compared values that differ: worth a message."""
    missing_alert: Fraction = 0.05
    """Share of sampled requests without an offline row."""
    examples: Whole = Field(5, ge=0, le=50)
    """Differing values shown per feature."""


class SkewConfig(SkewLimits):
    """Training–serving skew: the same request, seen online and offline."""

    offline: OfflineConfig
    """Where the offline values lie."""
    features: Names | None = None
    """Features to compare (default: every column both sides have)."""
    settle: Duration | None = None
    """How long after a window's end its offline values are there (default: the model's `settle`)."""
    tolerances: dict[NonEmpty, Tolerance] = {}
    """Tolerance of single features, by name."""


class DelayChangeLimits(NullLimits):
    """A change of how long labels take, as a share of what it was: `{warn: 25%, alert: 50%}`."""

    warn: Fraction = 0.25
    """Worth a look."""
    alert: Fraction = 0.5
    """Worth a message."""


class OnlyWhen(Block):
    """Which predictions can get a label at all: those of one decision, or with some value in a column."""

    decision: Literal["positive", "negative"] | None = None
    """The decision that lets a label come to be: `negative` where a positive one refuses the loan."""
    column: NonEmpty | None = None
    """A column of the predictions, such as `approved`."""
    is_: Scalar | None = Field(None, alias="is")
    """The value of `column` with which a label can come."""

    @model_validator(mode="after")
    def _one_condition(self) -> OnlyWhen:
        if (self.decision is None) == (self.column is None):
            raise ValueError("give either a `decision` (positive or negative), or a `column` and what it `is`")
        if (self.column is None) != (self.is_ is None):
            raise ValueError("`column` and `is` belong together: {column: approved, is: true}")
        return self


class LabelBlock(Block):
    """Where a truth lies, of which kind it is, and how long it takes to become known."""

    label: NonEmpty = "label"
    """Column with the truth."""
    task: Task = "binary"
    """What the truth is: `binary` (true or false, see `positive`), `multiclass` (one of several classes; the predicted
    class is the model's `prediction`) or `regression` (a number; the predicted one is `prediction` or `score`)."""
    scores: dict[NonEmpty, NonEmpty] = {}
    """Of `multiclass`: class → column with its predicted probability, e.g. `{cat: p_cat, dog: p_dog}`; needed for
    ROC-AUC, log loss, and what to expect before labels."""
    table: NonEmpty | None = None
    """Table with the labels (default: the model's own)."""
    query: NonEmpty | None = None
    """A SELECT in place of a table."""
    source: NonEmpty | None = None
    """Source of the table (default: the model's)."""
    key: Names | None = None
    """Columns that join labels to predictions (default: the model's `key`)."""
    time: TimeColumn | None = None
    """When the label became known; absent: known as soon as it is not null."""
    delay: Duration = timedelta(days=30)
    """A window's labels are taken as mature this long after its end; it is kept up to date until then."""
    delay_change: DelayChangeLimits = DelayChangeLimits()
    """By how much longer (or shorter) labels may take than they did, before that is itself a finding."""
    horizons: list[Duration] = []
    """Ages at which labels are looked at again, besides the age `delay` (default: when a window is a third older)."""
    absent_means: Scalar | None = None
    """Label of a request that has none at the age `delay` (default: unknown, and left out)."""
    only_when: OnlyWhen | None = None
    """Which predictions can ever be labelled (default: all): `{decision: negative}` where refused loans show no
    default, or `{column: approved, is: true}`. What the others would have been is told as bounds."""

    @model_validator(mode="after")
    def _one_relation(self) -> Self:
        if self.table is not None and self.query is not None:
            raise ValueError("give the labels a `table` or a `query`, not both")
        if self.source is not None and self.table is None and self.query is None:
            raise ValueError("`source` needs a `table` or a `query` of labels")
        if any(horizon > self.delay for horizon in self.horizons):
            raise ValueError(f"a horizon is longer than `delay` ({format_duration(self.delay)}): it would never be met")
        if self.scores and self.task != "multiclass":
            raise ValueError("`scores` (a probability of each class) need `task: multiclass`")
        if self.only_when is not None and self.task != "binary":
            raise ValueError("`only_when` needs `task: binary`: of classes and numbers no bounds are told")
        return self


_PERFORMANCE: list[Any] = ["precision", "recall", "f1", "roc_auc", "pr_auc", "brier", "ece", "accuracy"]
_DEFAULT_METRICS: dict[Task, list[Any]] = {
    "binary": _PERFORMANCE,
    "multiclass": ["accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_f1"],
    "regression": ["mae", "rmse", "mape", "bias", "median_absolute_error", "r2"],
}
_DEFAULT_LIMITS: dict[Task, dict[str, tuple[float, float]]] = {
    "binary": {"precision": (-0.05, -0.10), "recall": (-0.05, -0.10), "roc_auc": (-0.03, -0.05)},
    "multiclass": {"accuracy": (-0.05, -0.10), "macro_f1": (-0.05, -0.10)},
    "regression": {"mae": (0.10, 0.20), "rmse": (0.10, 0.20)},
}


class PerformanceConfig(Block):
    """What is computed once labels have landed, and what is alerted on."""

    metrics: Annotated[list[PerformanceMetric], Unique] = _PERFORMANCE
    """Metrics to compute and store (default of `multiclass`: accuracy, macro precision, recall and F1, weighted F1; of
    `regression`: mae, rmse, mape, bias, median_absolute_error, r2)."""
    beta: Number = Field(2.0, gt=0, le=100)
    """Weight of recall against precision in `fbeta`."""
    thresholds: Annotated[list[Number], Unique] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    """Decision thresholds that are tried on the labelled rows: what each would have given."""
    value: dict[Literal["tp", "fp", "fn", "tn"], Number] = {}
    """What each outcome of a decision is worth, e.g. `{tp: 0, fp: -20, fn: -500, tn: 5}`; adds the metric `value`,
    the mean over decisions."""
    min_labels: Whole = Field(100, ge=1)
    """With fewer labels a window cannot tell."""
    warn: dict[PerformanceMetric, PerformanceLimit] = {}
    """Limits by metric: `-3%` (points against the baseline) or `"< 0.60"` (absolute)."""
    alert: dict[PerformanceMetric, PerformanceLimit] = {}
    """Limits by metric: `-5%` (points against the baseline) or `"< 0.60"` (absolute). Where neither `warn` nor `alert`
    is given, a fall of precision or recall by 5 and 10 points, or of ROC-AUC by 3 and 5, warns and alerts; of
    `multiclass` a fall of accuracy or macro F1 by 5 and 10 points; of `regression` a rise of `mae` or `rmse` by a tenth
    and a fifth."""

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
        """The metrics that are computed: of those asked for, what labels of this kind have."""
        found = [str(metric) for metric in self.metrics if metric in TASK_METRICS[self._task]]
        return found or list(_DEFAULT_METRICS[self._task])

    def limits(self) -> tuple[dict[Any, PerformanceLimit], dict[Any, PerformanceLimit]]:
        """``(warn, alert)`` by metric: those given, or the built-in ones where none are."""
        given = {*self.warn, *self.alert}
        # What `defaults` say of another kind of labels says nothing of these.
        if {"warn", "alert"} & self.model_fields_set and (not given or given & TASK_METRICS[self._task]):
            return dict(self.warn), dict(self.alert)
        warn, alert = (
            {
                name: PerformanceLimit(kind="change", value=pair[level], percent=True)
                for name, pair in _DEFAULT_LIMITS[self._task].items()
            }
            for level in (0, 1)
        )
        return warn, alert


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


class FurtherLabel(LabelBlock):
    """One more label of the same predictions, with a delay, metrics and limits of its own."""

    name: Annotated[NonEmpty, Field(pattern=r"^[A-Za-z0-9][\w .-]{0,59}$")]
    """What it is called in results and messages."""
    prediction: NonEmpty | None = None
    """Column with the decision, the predicted class or the predicted number (default: what the model has)."""
    score: NonEmpty | None = None
    """Column with the score of a `binary` label (default: the model's)."""
    threshold: Number | None = None
    """Scores from here on are positive decisions (default: the model's, where the score is the model's)."""
    positive: Scalar = 1
    """Value of decision and label that counts as positive."""
    performance: PerformanceConfig | None = None
    """Metrics and limits of this label (default: the built-in ones of its task)."""


class LabelConfig(LabelBlock):
    """Where the truth lies, and how long it takes to become known."""

    also: list[FurtherLabel] = []
    """More labels of the same predictions, each with a `name`; they are judged one by one."""

    _name: str | None = PrivateAttr(default=None)

    @property
    def name(self) -> str | None:
        """The name of a further label; ``None`` for the model's own."""
        return self._name

    @classmethod
    def of(cls, further: FurtherLabel) -> LabelConfig:
        """A further label as if it were the model's own, but for its name."""
        plain = {key: getattr(further, key) for key in LabelBlock.model_fields}
        found = cls.model_construct(_fields_set=set(further.model_fields_set) & set(plain), **plain)
        found._name = further.name
        return found


class ImportanceTable(Block):
    """A table that holds one row for each feature."""

    table: NonEmpty
    """Name of the table."""
    feature: NonEmpty = "feature"
    """Column with the feature's name."""
    weight: NonEmpty = "importance"
    """Column with its weight."""
    source: NonEmpty | None = None
    """Source of the table (default: the model's)."""


def _importance_kind(value: object) -> str:
    is_table = isinstance(value, ImportanceTable) or (isinstance(value, dict) and isinstance(value.get("table"), str))
    return "<table>" if is_table else "<weights>"


Importance = Annotated[
    Annotated[dict[NonEmpty, Annotated[Number, Field(ge=0)]], Tag("<weights>")]
    | Annotated[ImportanceTable, Tag("<table>")],
    Discriminator(_importance_kind),
]


class FeatureConfig(Block):
    """Which columns are features, and of what kind; without it every column that has no other role."""

    from_: NonEmpty | None = Field(None, alias="from")
    """A JSON column that holds the features."""
    table: NonEmpty | None = None
    """A table of its own, joined by `key`."""
    key: Names | None = None
    """Columns that join that table (default: the model's `key`)."""
    include: Names | None = None
    """Only these columns are features; names or globs such as `"amount_*"`."""
    exclude: Names = []
    """Columns that are not features; names or globs such as `"debug_*"`."""
    numeric: Names = []
    """Features to be read as numbers whatever their type."""
    categorical: Names = []
    """Features to be read as categories whatever their type, e.g. codes."""
    max_categories: Whole = Field(200, ge=2, le=10_000)
    """The most frequent so many categories of the baseline are counted one by one, the rest together."""
    groups: dict[NonEmpty, Names] = {}
    """Where features come from, as names or globs: `{bureau: ["bureau_*"], application: [age, income]}`; features that
    fire together and are of one group are told as that."""
    importance: Importance | None = None
    """Weights by feature, or the table that holds them; ranks what is shown (see `drift.top`)."""

    @model_validator(mode="before")
    @classmethod
    def _from_table(cls, value: Any) -> Any:
        """`from: {table: ml.features, key: request_id}` is another way to write `table` and `key`."""
        if isinstance(value, dict) and isinstance(value.get("from"), dict):
            inner = value["from"]
            return {**{key: item for key, item in value.items() if key != "from"}, **inner}
        return value

    @model_validator(mode="after")
    def _no_contradiction(self) -> FeatureConfig:
        if self.from_ is not None and self.table is not None:
            raise ValueError("features come `from` a JSON column or from a `table`, not both")
        both = sorted(set(self.numeric) & set(self.categorical))
        if both:
            raise ValueError(f"{', '.join(both)}: listed as numeric and as categorical")
        return self


Season = Literal["auto", "none", "day", "week"]


class RollingBaseline(Block):
    """The windows just before."""

    rolling: LongDuration
    """How far back, e.g. `28d`."""
    exclude_alerting: Flag = True
    """A window that alerted never becomes part of the normal."""
    season: Season = "auto"
    """Compare a window with those of the same time of `day` or of the `week`; `auto`: each column as its own windows
    show that it pays, `none`: with all of them."""
    exclude: list[Day] = []
    """Days, such as holidays, that never become part of the normal."""


class RangeBaseline(Block):
    """A stretch of the log that is known to be good."""

    from_: Instant = Field(alias="from")
    """First moment, included."""
    to: Instant
    """Last moment, excluded."""
    season: Season = "auto"
    """Compare a window with those of the same time of `day` or of the `week`; `auto`: each column as its own windows
    show that it pays, `none`: with all of them."""
    exclude: list[Day] = []
    """Days, such as holidays, that never become part of the normal."""

    @model_validator(mode="after")
    def _in_order(self) -> RangeBaseline:
        utc = ZoneInfo("UTC")
        if in_zone(self.from_, utc) >= in_zone(self.to, utc):
            raise ValueError("`from` must lie before `to`")
        return self


class TableBaseline(Block):
    """A table, such as the training set."""

    table: NonEmpty
    """Name of the table."""
    source: NonEmpty | None = None
    """Source of the table (default: the model's)."""
    where: NonEmpty | None = None
    """SQL condition on its rows."""


class QueryBaseline(Block):
    """A SELECT that returns the reference rows."""

    query: NonEmpty
    """The SELECT."""
    source: NonEmpty | None = None
    """Source it is run on (default: the model's)."""


class FileBaseline(Block):
    """A Parquet or CSV file, or a folder of them."""

    file: Path
    """Path; relative to the config file."""


_BASELINES = {"rolling": "<rolling>", "from": "<range>", "to": "<range>", "table": "<table>", "query": "<query>"}
_BASELINES |= {"file": "<file>"}
BASELINE_FORMS = "{rolling: 28d}, {from: 2026-01-01, to: 2026-02-01}, {table: NAME}, {query: SELECT} or {file: PATH}"


def _baseline_kind(value: object) -> str | None:
    if isinstance(value, BaseModel):
        names: set[str] = {"from" if name == "from_" else name for name in type(value).model_fields}
    else:
        names = set(value) if isinstance(value, dict) else set()
    kinds = {kind for key, kind in _BASELINES.items() if key in names}
    return kinds.pop() if len(kinds) == 1 else None


BaselineConfig = Annotated[
    Annotated[RollingBaseline, Tag("<rolling>")]
    | Annotated[RangeBaseline, Tag("<range>")]
    | Annotated[TableBaseline, Tag("<table>")]
    | Annotated[QueryBaseline, Tag("<query>")]
    | Annotated[FileBaseline, Tag("<file>")],
    Discriminator(
        _baseline_kind,
        custom_error_type="baseline",
        custom_error_message="expected exactly one of " + BASELINE_FORMS.replace("{", "{{").replace("}", "}}"),
    ),
]


# --- models --------------------------------------------------------------------------------------


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


# --- alerts --------------------------------------------------------------------------------------


class Destination(Block):
    """Where messages go: exactly one of `slack`, `webhook`, `apprise`, `console` (short form: a URL or `console`)."""

    slack: NonEmpty | None = None
    """A channel; the bot token is read from `token` (default: the variable SLACK_BOT_TOKEN)."""
    token: SecretStr | None = None
    """Bot token, as `${VARIABLE}`."""
    api_url: NonEmpty | None = None
    """Base address of the Slack Web API, for gateways; default: Slack's own."""
    webhook: SecretStr | None = None
    """A Slack incoming webhook, as `${VARIABLE}`: no threads and no updates."""
    allow_insecure: Flag = False
    """Permit an http:// webhook or gateway on another host than this one."""
    apprise: SecretStr | None = None
    """An Apprise URL (e-mail, PagerDuty, Teams …), as `${VARIABLE}` where it holds a secret."""
    console: Flag = False
    """Print messages to the terminal."""
    min_severity: Literal["warn", "alert"] = "alert"
    """Incidents below this are not sent here."""
    mention: dict[Literal["warn", "alert"], NonEmpty] = {}
    """Whom to call, by severity, e.g. `{alert: "@risk-oncall"}`."""
    fallback: NonEmpty | None = None
    """Destination that is told when this one is broken."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, (dict, Destination)):
            return value
        if value == "console":
            return {"console": True}
        if isinstance(value, str) and value.startswith("#"):
            return {"slack": value}
        if isinstance(value, str) and "://" in value:
            return {"webhook" if urlsplit(value).scheme in ("http", "https") else "apprise": value}
        raise PydanticCustomError(
            "destination", "expected a destination: a mapping such as {{slack: '#channel'}}, a URL, or console"
        )

    @model_validator(mode="after")
    def _one_kind(self) -> Destination:
        kinds = [self.slack, self.webhook, self.apprise, self.console or None]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("a destination is exactly one of `slack`, `webhook`, `apprise` or `console: true`")
        return self


class AlertsConfig(Block):
    """Settings, and beside them any number of named destinations."""

    destinations: dict[NonEmpty, Destination] = {}
    """Destinations by name; they may as well stand directly under `alerts`."""
    false_pages: Rate = "1 per 90d"
    """Pages without a cause that a model may send at most; how much evidence an alert needs follows from it."""
    repeat: LongDuration | None = timedelta(hours=24)
    """Remind of an open incident this often (`null`: never)."""
    send_resolved: Flag = True
    """Say so when an incident is over."""
    no_data: Whole = Field(2, ge=1)
    """Windows in a row without rows before that is itself an alert."""
    max_age: LongDuration = timedelta(days=2)
    """Windows older than this change state without a message of their own."""

    @model_validator(mode="before")
    @classmethod
    def _named_destinations(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        beside = {key: item for key, item in value.items() if key not in cls.model_fields}
        settings = {key: item for key, item in value.items() if key in cls.model_fields}
        named = settings.get("destinations", {})
        return {**settings, "destinations": {**named, **beside} if isinstance(named, dict) else named}


# --- the service ---------------------------------------------------------------------------------


class ReportsConfig(Block):
    """Where the pages are written, and what is on them."""

    dir: Path = Path("reports")
    """Folder they are written to; relative to the config file."""
    url: NonEmpty | None = None
    """Public address of that folder, for links in messages. Without it a Slack bot attaches a picture instead."""
    keep: LongDuration = timedelta(days=90)
    """Pages of older windows are removed (results stay: see `retention`)."""
    evidently: Literal["never", "on_alert", "always"] = "on_alert"
    """When to add Evidently's interactive page of the columns that fired (about 5 MB each)."""
    evidently_rows: Whole = Field(5000, ge=100, le=100_000)
    """Rows it is given of either side."""
    evidently_timeout: LongDuration = timedelta(minutes=2)
    """It runs in a process of its own, which is stopped after this time."""
    min_category_rows: Whole = Field(10, ge=1)
    """Categories with fewer rows are shown as "(other)"."""


class RetentionConfig(Block):
    """How long the store keeps what; `monitor db prune` and the worker remove the rest."""

    results: LongDuration = timedelta(days=400)
    """Results and incidents."""
    profiles: LongDuration = timedelta(days=400)
    """Counts of windows, from which rolling baselines are made."""
    samples: Duration = timedelta(0)
    """Skew examples hold raw values; 0 keeps none."""


_HOST_PORT = re.compile(r"^(\[[0-9a-fA-F:]+\]|[\w.-]*):(\d{1,5})$")


def _host_port(value: str) -> str:
    match = _HOST_PORT.match(value)
    if match is None or not 0 <= int(match[2]) <= 65535:
        raise ValueError("expected host:port such as 127.0.0.1:9109")
    return value


class WorkerConfig(Block):
    """The daemon (`monitor worker`)."""

    tick: Annotated[Duration, AfterValidator(at_least(timedelta(seconds=1)))] = timedelta(seconds=30)
    """How often it looks for closed windows and unsent messages."""
    max_catch_up: Duration = timedelta(days=7)
    """After downtime, back-fill at most this much by itself; older windows are marked as skipped."""
    concurrency: Whole = Field(2, ge=1, le=32)
    """Windows worked on at the same time."""
    lease: Annotated[Duration, AfterValidator(at_least(timedelta(seconds=5)))] = timedelta(minutes=2)
    """A window whose worker has not been heard of for this long is taken over."""
    window_deadline: LongDuration = timedelta(minutes=30)
    """A window that takes longer is given up, and tried again later."""
    max_attempts: Whole = Field(3, ge=1, le=20)
    """Attempts before a window is marked as failed."""
    grace: Duration = timedelta(seconds=30)
    """On SIGTERM, time to finish the window at hand."""
    metrics: Annotated[str, AfterValidator(_host_port)] | None = "127.0.0.1:9109"
    """`host:port` of Prometheus /metrics, /livez and /readyz; empty turns it off."""
    heartbeat: SecretStr | None = None
    """A URL that is fetched after each completed tick."""
    idle_memory: Whole = Field(150, ge=0)
    """MB: a worker that has worked, is idle and holds more replaces itself by a fresh process under the same process
    id (on Linux); 0 switches that off."""


class Config(Block):
    """The whole file."""

    version: Literal[1] = 1
    """Version of this format."""
    store: SecretStr = SecretStr("sqlite:///monitor.db")
    """Where results live: SQLite (a relative file lies beside the config file) or PostgreSQL."""
    timezone: Zone = "UTC"
    """Windows and schedules are cut in this zone; times without a zone are read in it."""
    sources: Annotated[dict[NonEmpty, SourceConfig], Field(min_length=1)]
    """Where logged data lives, by name."""
    defaults: Defaults = Defaults()
    """Applied to every model unless the model says otherwise."""
    models: Annotated[dict[NonEmpty, ModelConfig], Field(min_length=1)]
    """What is watched, by name."""
    alerts: AlertsConfig = AlertsConfig()
    """Where messages go, and when."""
    reports: ReportsConfig = ReportsConfig()
    """The static HTML pages."""
    retention: RetentionConfig = RetentionConfig()
    """How long things are kept."""
    worker: WorkerConfig = WorkerConfig()
    """The daemon."""

    _base_dir: Path = PrivateAttr(default=Path())

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which windows are cut."""
        return ZoneInfo(self.timezone)

    @property
    def base_dir(self) -> Path:
        """The folder of the config file: what relative paths in it start from."""
        return self._base_dir

    @model_validator(mode="before")
    @classmethod
    def _merge_defaults(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("defaults"), dict):
            return value
        models = value.get("models")
        if not isinstance(models, dict):
            return value
        merged = {
            name: merge_defaults(value["defaults"], model) if isinstance(model, dict) else model
            for name, model in models.items()
        }
        return {**value, "models": merged}

    @model_validator(mode="after")
    def _settle(self) -> Config:
        """Give naive moments the config's zone, and models without a source the only one there is."""
        only = next(iter(self.sources)) if len(self.sources) == 1 else None
        for model in [self.defaults, *self.models.values()]:
            if isinstance(model.baseline, RangeBaseline):
                model.baseline.from_ = in_zone(model.baseline.from_, self.zone)
                model.baseline.to = in_zone(model.baseline.to, self.zone)
        for model in self.models.values():
            model._false_pages = rate_of(self.alerts.false_pages)
            if model.labels is not None and model.labels.task != "binary":
                model.performance = model.performance.of_task(model.labels.task)
            model.source = model.source or only
            if model.start is not None:
                model.start = in_zone(model.start, self.zone)
        return self


def merge_defaults(defaults: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Lay a model's keys over the defaults, block by block; the model wins.

    A baseline is replaced as a whole (its forms exclude each other), and `skew` is only taken where the model has it.
    """
    short = model.get("score")
    own = {**model, "score": {"column": short}} if isinstance(short, str) else model
    taken = {key: item for key, item in defaults.items() if key != "skew" or isinstance(own.get("skew"), dict)}
    return _merge(taken, own, whole=("baseline",))


def _merge(below: dict[str, Any], above: dict[str, Any], *, whole: tuple[str, ...] = ()) -> dict[str, Any]:
    merged = dict(below)
    for key, item in above.items():
        under = merged.get(key)
        both = isinstance(under, dict) and isinstance(item, dict) and key not in whole
        merged[key] = _merge(under, item) if both and isinstance(under, dict) else item
    return merged


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
