"""Where windows, results, incidents and messages are kept: SQLite or PostgreSQL, alike."""

from __future__ import annotations

from monitor.store.errors import (
    StoreCorrupt,
    StoreDenied,
    StoreError,
    StoreMissing,
    StoreNewer,
    StoreOutdated,
    StoreUnavailable,
)
from monitor.store.results import ALL, Every, ProfileMark
from monitor.store.storable import to_storable
from monitor.store.store import Clock, Queued, Store

__all__ = [
    "ALL",
    "Clock",
    "Every",
    "ProfileMark",
    "Queued",
    "Store",
    "StoreCorrupt",
    "StoreDenied",
    "StoreError",
    "StoreMissing",
    "StoreNewer",
    "StoreOutdated",
    "StoreUnavailable",
    "to_storable",
]
