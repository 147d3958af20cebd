"""Where logged data is read from: databases, folders of files and Spark, as Arrow batches, never written to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from monitor.config import SourceConfig
from monitor.sources.errors import PermanentSourceError, SourceError, TransientSourceError
from monitor.sources.normal import canonical
from monitor.sources.reading import InputStream, LabelStream, Source, drawn
from monitor.sources.roles import by_rows, spelled_out
from monitor.sources.shapes import (
    CLASS_SCORES,
    LABEL,
    LABEL_TIME,
    NEVER,
    TIME,
    VERSION,
    ColumnInfo,
    Pairs,
    Relation,
    Scanner,
)
from monitor.sources.sql import Database
from monitor.sources.unmatched import Unmatched
from monitor.sources.versions import KEY, VersionRows, shadow_name
from monitor.sources.versions import read as read_versions
from monitor.sources.versions import seen as seen_versions

__all__ = [
    "CLASS_SCORES",
    "KEY",
    "LABEL",
    "LABEL_TIME",
    "NEVER",
    "SOURCES",
    "TIME",
    "VERSION",
    "ColumnInfo",
    "InputStream",
    "LabelStream",
    "Pairs",
    "PermanentSourceError",
    "Source",
    "SourceError",
    "TransientSourceError",
    "Unmatched",
    "VersionRows",
    "by_rows",
    "canonical",
    "drawn",
    "open_source",
    "read_versions",
    "seen_versions",
    "shadow_name",
    "spelled_out",
]


def _folder(name: str, config: SourceConfig) -> Scanner:
    # It brings pandas with it, 50 MB that a daemon on databases need not hold.
    from monitor.sources.files import Folder  # noqa: PLC0415

    return Folder(name, config)


def _spark(name: str, config: SourceConfig) -> Scanner:
    from monitor.sources.spark import Spark  # noqa: PLC0415 - few have it

    return Spark(name, config)


SOURCES: dict[str, Callable[[str, SourceConfig], Scanner]] = {"url": Database, "path": _folder, "spark": _spark}
"""How each kind of source is opened, by the key of the config that it is given with."""


def open_source(
    name: str, config: SourceConfig, *, zone: str, others: Mapping[str, SourceConfig] | None = None
) -> Source:
    """Open a source by its config; nothing connects before the first read.

    Parameters
    ----------
    zone
        IANA name of the zone in which times without one are read.
    others
        All configured sources, for models whose labels, baselines or offline values are elsewhere.
    """

    def other(wanted: str) -> Source:
        if wanted == name:
            return source
        if wanted not in source.helpers:
            if others is None or wanted not in others:
                raise PermanentSourceError(f"source {wanted!r} is not configured", reason="source_missing")
            source.helpers[wanted] = open_source(wanted, others[wanted], zone=zone, others=others)
        return source.helpers[wanted]

    def read_file(path: Path) -> tuple[Scanner, Relation]:
        from monitor.sources.files import one_file  # noqa: PLC0415 - as above

        return one_file(path)

    kind = next(key for key in SOURCES if getattr(config, key) is not None)
    scanner = SOURCES[kind](name, config)
    source = Source(scanner, zone=zone, others=other, read_file=read_file)
    return source
