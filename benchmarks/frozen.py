"""A baseline as the store keeps it, without a store around it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import CATEGORICAL, NUMERIC
from detectors.profiles import Column, from_bytes, spec_from_bytes, spec_to_bytes, to_bytes
from monitor import counting


def build(path: Path) -> dict[str, Column]:
    """Learn the edges from the rows of a file, then count them."""
    kinds = dict.fromkeys(NUMERIC, "numeric") | dict.fromkeys(CATEGORICAL, "categorical")

    def rows() -> Iterator[pa.RecordBatch]:
        return pq.ParquetFile(path, read_dictionary=CATEGORICAL).iter_batches(batch_size=65_536)

    specs, _ = counting.learn_specs(rows(), kinds, bins=10, max_categories=1000)
    counts = counting.count(rows(), specs)
    return {name: Column(name, spec, counts.columns[name]) for name, spec in specs.items()}


def save(columns: dict[str, Column], path: Path) -> None:
    """Write a baseline."""
    blobs = {name: [spec_to_bytes(column.spec), to_bytes(column.reference)] for name, column in columns.items()}
    path.write_text(json.dumps({name: [base64.b64encode(b).decode() for b in pair] for name, pair in blobs.items()}))


def load(path: Path) -> dict[str, Column]:
    """Read what :func:`save` wrote."""
    blobs = {name: [base64.b64decode(b) for b in pair] for name, pair in json.loads(path.read_text()).items()}
    return {name: Column(name, spec_from_bytes(spec), from_bytes(kept)) for name, (spec, kept) in blobs.items()}
