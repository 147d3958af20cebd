"""Counts and where their cells lie, as bytes; it brings NumPy and SciPy, so only what reads counts imports it."""

from __future__ import annotations

from typing import Any

from detectors import class_counts, classification, delay_counts, multivariate, pair_counts, profiles, regression
from detectors.profiles import Column, ColumnSpec


def encode(counts: Any) -> tuple[str, bytes]:  # noqa: PLR0911 - one return for each kind of counts
    """What kind of counts these are, and their bytes."""
    if isinstance(counts, classification.ScoreLabels):
        return "labels", classification.to_bytes(counts)
    if isinstance(counts, multivariate.Correlations):
        return "joint", multivariate.to_bytes(counts)
    if isinstance(counts, delay_counts.DelayCounts):
        return "delays", delay_counts.to_bytes(counts)
    if isinstance(counts, pair_counts.PairCounts):
        return "pairs", pair_counts.to_bytes(counts)
    if isinstance(counts, regression.Errors):
        return "errors", regression.to_bytes(counts)
    if isinstance(counts, class_counts.ClassCounts):
        return "classes", class_counts.to_bytes(counts)
    return "profile", profiles.to_bytes(counts)


def decode(kind: str, blob: bytes) -> Any:
    return _READERS[kind](blob)


_READERS = {
    "labels": classification.from_bytes,
    "joint": multivariate.from_bytes,
    "delays": delay_counts.from_bytes,
    "pairs": pair_counts.from_bytes,
    "errors": regression.from_bytes,
    "classes": class_counts.from_bytes,
    "profile": profiles.from_bytes,
}


def spec_to_bytes(spec: ColumnSpec) -> bytes:
    return profiles.spec_to_bytes(spec)


def column(name: str, spec: bytes, reference: bytes) -> Column:
    """A column of a baseline, of its two blobs."""
    return Column(name, profiles.spec_from_bytes(spec), decode("profile", reference))
