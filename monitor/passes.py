"""One pass over the rows of a window or a baseline: here, or on the cluster that holds them, with the same counts.

A source whose rows are spread over a cluster is sent the kernel: each part of the rows leaves one profile for each
column, and these are added up here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from detectors.multivariate import Correlations
from detectors.profiles import (
    ColumnProfile,
    ColumnSpec,
    IntArray,
    empty,
    from_bytes,
    merge,
    spec_from_bytes,
    spec_to_bytes,
    to_bytes,
)
from monitor import counting, joint
from monitor.counting import WindowCounts
from monitor.entities import Grouped
from monitor.sources import InputStream

_PART, _SAMPLE, _GROUPS = "part", "sample", "groups"


class Counted(NamedTuple):
    """What one pass leaves: the counts, how columns go together, and rows by group of entities (see their modules)."""

    counts: WindowCounts
    together: Correlations | None
    groups: dict[str, IntArray]


def count(
    rows: InputStream,
    specs: Mapping[str, ColumnSpec],
    *,
    segments: Mapping[str, Sequence[str]] | None = None,
    together: Sequence[str] = (),
    entities: bool = False,
) -> Counted:
    """Count rows over frozen edges, and measure how the columns ``together`` go together on a bounded sample.

    See :func:`monitor.counting.count`.  The integers are the same wherever the rows lie, and so is the sample.  With
    ``entities`` they are counted by group of entities as well.
    """
    grouped = Grouped(rows, specs if entities else {})
    sampled = joint.Sampled(grouped, together)
    if not rows.is_spread:
        seen = counting.count(sampled, specs, segments=segments)
        return Counted(seen, sampled.measure(), grouped.measure())
    blobs = {name: spec_to_bytes(spec) for name, spec in specs.items()}
    seen = WindowCounts(duplicates=rows.duplicates)
    found: dict[tuple[str | None, str], ColumnProfile] = {(None, name): empty(spec) for name, spec in specs.items()}
    for key, blob in rows.each_part(_Count(blobs, segments or {}, tuple(together), entities)):
        if key == _PART:
            _add_part(seen, blob)
        elif key == _SAMPLE:
            sampled.add(blob)
        elif key == _GROUPS:
            grouped.add(blob)
        else:
            segment, name = json.loads(key)
            profile = from_bytes(blob)
            known = found.get((segment, name))
            found[segment, name] = profile if known is None else merge(known, profile)
    for (segment, name), profile in found.items():
        (seen.columns if segment is None else seen.segments.setdefault(segment, {}))[name] = profile
    return Counted(seen, sampled.measure(), grouped.measure())


@dataclass(frozen=True)
class _Count:
    """What each part of the rows goes through: plain values, so that it can be sent to where they lie."""

    specs: Mapping[str, bytes]
    segments: Mapping[str, Sequence[str]]
    together: Sequence[str]
    entities: bool

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, bytes]]:
        specs = {name: spec_from_bytes(blob) for name, blob in self.specs.items()}
        grouped = Grouped(batches, specs if self.entities else {})
        sampled = joint.Sampled(grouped, self.together)
        seen = counting.count(sampled, specs, segments=self.segments, threads=1)  # a cluster shares out by itself
        if not seen.n_rows:
            return
        for segment, columns in ((None, seen.columns), *seen.segments.items()):
            for name, profile in columns.items():
                yield json.dumps([segment, name]), to_bytes(profile)
        yield _SAMPLE, sampled.state()
        if self.entities:
            yield _GROUPS, grouped.state()
        yield _PART, _part(seen)


def _part(seen: WindowCounts) -> bytes:
    told = [seen.n_rows, seen.versions, *(None if at is None else at.isoformat() for at in (seen.oldest, seen.newest))]
    return json.dumps(told).encode()


def _add_part(seen: WindowCounts, blob: bytes) -> None:
    n_rows, versions, oldest, newest = json.loads(blob)
    seen.n_rows += n_rows
    for version, n in versions.items():
        seen.versions[version] = seen.versions.get(version, 0) + n
    times = [at for at in (seen.oldest, seen.newest) if at is not None]
    times += [datetime.fromisoformat(text) for text in (oldest, newest) if text is not None]
    seen.oldest, seen.newest = min(times, default=None), max(times, default=None)


def learn_specs(
    reads: Iterable[InputStream],
    kinds: Mapping[str, str],
    *,
    bins: int,
    max_categories: int,
    decision_edges: Mapping[str, Sequence[float]] | None = None,
) -> tuple[dict[str, ColumnSpec], int]:
    """Look at the reference rows, one read after the other, and freeze where the cells of each column lie.

    See :func:`monitor.counting.learn_specs`.
    """
    work = _Learn(kinds, bins, max_categories, decision_edges or {})
    found, n_rows = work.builders(), 0
    for rows in reads:
        if not rows.is_spread:
            n_rows += counting.learn(rows, found)
            continue
        for key, blob in rows.each_part(work):
            if key == _PART:
                n_rows += json.loads(blob)
            else:
                found[json.loads(key)].add(blob)
    return counting.specs_of(found), n_rows


@dataclass(frozen=True)
class _Learn:
    """As :class:`_Count`, for the rows that shape the cells."""

    kinds: Mapping[str, str]
    bins: int
    max_categories: int
    decision_edges: Mapping[str, Sequence[float]]

    def builders(self) -> counting.Builders:
        return counting.builders(
            self.kinds, bins=self.bins, max_categories=self.max_categories, decision_edges=self.decision_edges
        )

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, bytes]]:
        found = self.builders()
        n_rows = counting.learn(batches, found, threads=1)
        if n_rows:
            for name, builder in found.items():
                yield json.dumps(name), builder.state()
            yield _PART, json.dumps(n_rows).encode()
