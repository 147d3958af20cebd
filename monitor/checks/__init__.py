"""The checks of one window, from what was counted to results with a verdict; monitor.performance holds the fifth."""

from __future__ import annotations

from monitor.checks.features import feature_drift, top_features
from monitor.checks.quality import (
    data_quality,
    freshness,
    judge_freshness,
    other_bins,
    same_times,
    schema_changes,
    volume,
)
from monitor.checks.scope import Evidence, Scope
from monitor.checks.score import score_drift
from monitor.checks.segments import segment_drift
from monitor.checks.serving_skew import skew, skew_again, skew_hash, tolerance
from monitor.checks.together import windows_together

__all__ = [
    "Evidence",
    "Scope",
    "data_quality",
    "feature_drift",
    "freshness",
    "judge_freshness",
    "other_bins",
    "same_times",
    "schema_changes",
    "score_drift",
    "segment_drift",
    "skew",
    "skew_again",
    "skew_hash",
    "tolerance",
    "top_features",
    "volume",
    "windows_together",
]
