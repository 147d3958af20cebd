"""What a user may write in `config.yaml`, as types; one class for each block of the file.

Reading the file (line numbers, `${VAR}`, duplicate keys, nearest names) is `monitor/config_file.py`; how single words
such as ``28d`` or ``1%`` are read is `monitor/config_types.py`; what only makes sense together,
`monitor/config_checks.py`. The text under each key is its description in `monitor schema`.
"""

from monitor.config.alerts import AlertsConfig, Destination
from monitor.config.baselines import (
    BASELINE_FORMS,
    BaselineConfig,
    FileBaseline,
    QueryBaseline,
    RangeBaseline,
    RollingBaseline,
    Season,
    TableBaseline,
)
from monitor.config.block import Block
from monitor.config.document import Config, merge_defaults
from monitor.config.drift import DriftConfig, FeatureDrift, QualityConfig, ScoreConfig
from monitor.config.features import FeatureConfig, Importance, ImportanceTable
from monitor.config.labels import DelayChangeLimits, FurtherLabel, LabelBlock, LabelConfig, OnlyWhen
from monitor.config.limits import (
    DecisionRateLimits,
    DriftLimits,
    NullLimits,
    PerformanceLimit,
    UnseenLimits,
    VolumeLimits,
)
from monitor.config.metrics import (
    AGAINST_BASELINE,
    EITHER_WAY,
    FALLING_IS_WORSE,
    IN_UNITS,
    TASK_METRICS,
    UNBOUNDED,
    WORTH,
    Metric,
    PerformanceMetric,
    Task,
)
from monitor.config.models import Defaults, ModelConfig, ModelDefaults, spec_hash
from monitor.config.performance import PerformanceConfig
from monitor.config.service import ReportsConfig, RetentionConfig, WorkerConfig
from monitor.config.skew import OfflineConfig, SkewConfig, SkewLimits, Tolerance
from monitor.config.sources import SourceConfig, SparkConfig, TimeColumn
from monitor.config.versions import (
    COMPARE_METRICS,
    CompareConfig,
    CompareMetric,
    SaidColumns,
    ShadowColumns,
    VersionName,
)
from monitor.config_types import format_duration, parse_duration

__all__ = [
    "AGAINST_BASELINE",
    "BASELINE_FORMS",
    "COMPARE_METRICS",
    "EITHER_WAY",
    "FALLING_IS_WORSE",
    "IN_UNITS",
    "TASK_METRICS",
    "UNBOUNDED",
    "WORTH",
    "AlertsConfig",
    "BaselineConfig",
    "Block",
    "CompareConfig",
    "CompareMetric",
    "Config",
    "DecisionRateLimits",
    "Defaults",
    "DelayChangeLimits",
    "Destination",
    "DriftConfig",
    "DriftLimits",
    "FeatureConfig",
    "FeatureDrift",
    "FileBaseline",
    "FurtherLabel",
    "Importance",
    "ImportanceTable",
    "LabelBlock",
    "LabelConfig",
    "Metric",
    "ModelConfig",
    "ModelDefaults",
    "NullLimits",
    "OfflineConfig",
    "OnlyWhen",
    "PerformanceConfig",
    "PerformanceLimit",
    "PerformanceMetric",
    "QualityConfig",
    "QueryBaseline",
    "RangeBaseline",
    "ReportsConfig",
    "RetentionConfig",
    "RollingBaseline",
    "SaidColumns",
    "ScoreConfig",
    "Season",
    "ShadowColumns",
    "SkewConfig",
    "SkewLimits",
    "SourceConfig",
    "SparkConfig",
    "TableBaseline",
    "Task",
    "TimeColumn",
    "Tolerance",
    "UnseenLimits",
    "VersionName",
    "VolumeLimits",
    "WorkerConfig",
    "format_duration",
    "merge_defaults",
    "parse_duration",
    "spec_hash",
]
