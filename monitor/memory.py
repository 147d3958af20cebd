"""Memory that work has left behind goes back to the system, so that a daemon with nothing to do is small."""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import lru_cache
from typing import Any

import pyarrow as pa


def give_back() -> None:
    """Free what is unused: Python's own cycles, and what :func:`release` does."""
    gc.collect()
    release()


def release() -> None:
    """Free what Arrow's pool and the C library (where it can) keep for later."""
    pa.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@lru_cache
def _malloc_trim() -> Any:
    """glibc's; ``None`` with other C libraries."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
