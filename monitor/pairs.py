"""Offline and online values of the same requests, column by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.skew import SkewMeasure, compare_pairs
from monitor.checks import tolerance
from monitor.config import ModelConfig
from monitor.counting import floats
from monitor.models import Roles
from monitor.sources import Pairs


def compare(found: Pairs, model: ModelConfig, roles: Roles, *, min_category_rows: int) -> dict[str, SkewMeasure]:
    """One measure for each feature that both sides have; empty when nothing was sampled."""
    kinds = roles.features
    both = [name for name in found.online.column_names if name in found.offline.column_names and name in kinds]
    matched = np.asarray(found.matched, dtype=bool)
    measures = {}
    for name in both:
        numeric = kinds[name] == "numeric"
        limits = tolerance(model, name)
        measures[name] = compare_pairs(
            _values(found.online.column(name), numeric=numeric),
            _values(found.offline.column(name), numeric=numeric),
            kind="numeric" if numeric else "categorical",
            abs=limits.abs,
            rel=limits.rel,
            matched=matched,
            min_rows=min_category_rows,
        )
    return measures


def examples(found: Pairs, measures: Mapping[str, SkewMeasure], *, most: int) -> dict[str, list[list[Any]]]:
    """Offline and online values of the first mismatched requests of each feature; raw values, kept only if asked."""
    shown: dict[str, list[list[Any]]] = {}
    for name, measure in measures.items():
        online, offline = found.online.column(name), found.offline.column(name)
        shown[name] = [[offline[row].as_py(), online[row].as_py()] for row in measure.rows[:most]]
    return shown


def _values(column: Any, *, numeric: bool) -> npt.NDArray[Any]:
    if numeric:
        return floats(column)
    return np.array([None if value is None else str(value) for value in column.to_pylist()], dtype=object)
