"""How many rows are read at once."""

from __future__ import annotations

BATCH_ROWS = 1 << 17
"""Rows of a batch at most: one column of them fits a processor's cache while it is sorted, or nearly."""
_BATCH_VALUES = 1 << 23


def batch_rows(n_columns: int, n_rows: int | None = None) -> int:
    """How many rows to read at once: less where rows are wide, and even parts of a row group of ``n_rows``."""
    most = max(512, min(BATCH_ROWS, _BATCH_VALUES // max(1, n_columns)))
    if not n_rows:
        return most
    n_batches = -(-n_rows // most)
    return -(-n_rows // n_batches)
