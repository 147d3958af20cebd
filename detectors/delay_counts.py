"""How long labels took to land: counts by class, age and stratum of predictions, which of several windows add up."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from detectors.profiles import FloatArray, IntArray, ProfileError

_HEADER = struct.Struct("<4sBHIdd")
_MAGIC = b"DLAY"
_VERSION = 3


@dataclass(frozen=True, eq=False)
class DelayCounts:
    """Sufficient counts of label delays in K strata of predictions; those of several groups of predictions add up.

    Parameters
    ----------
    edges
        Increasing ages in seconds, shape ``(D + 1,)``, from 0; bin ``d`` is ``(edges[d], edges[d + 1]]`` (bin 0 with
        its left end).  What lands later than the last edge is not part of the law.
    landed
        Labels of class y with a delay in bin d, of predictions old enough for the bin to be over: ``(K, 2, D)``.
    at_risk
        Of the same predictions, labels of class y with a delay in bin d or before: shape ``(K, 2, D)``.
    predictions
        All predictions, with a label or without: shape ``(K,)``.
    ripe, ripe_labelled
        Predictions at least ``mature`` old, and how many of them have a label: shape ``(K,)``.
    mature
        The age in seconds at which a prediction without a label is taken to stay without.
    as_of
        When they were counted, in seconds since 1970; 0 where that does not matter.
    """

    edges: FloatArray
    landed: IntArray
    at_risk: IntArray
    predictions: IntArray
    ripe: IntArray
    ripe_labelled: IntArray
    mature: float = 0.0
    as_of: float = 0.0

    @property
    def n(self) -> IntArray:
        """Labels that the law of each class rests on, shape ``(2,)``."""
        return np.asarray(self.landed.sum(axis=(0, 2)), dtype=np.int64)


def age_edges(horizon: float, bins: int = 120) -> FloatArray:
    """Ages up to ``horizon`` seconds, finer where labels are young: ``horizon (i / bins)²``."""
    return np.asarray(horizon * (np.arange(bins + 1) / bins) ** 2, dtype=np.float64)


def count_delays(
    delays: npt.ArrayLike,
    labels: npt.ArrayLike,
    ages: npt.ArrayLike,
    *,
    edges: FloatArray,
    strata: npt.ArrayLike | None = None,
    n_strata: int = 1,
    mature: float | None = None,
    as_of: float = 0.0,
) -> DelayCounts:
    """Count delays of labels that have landed.

    Parameters
    ----------
    delays
        Landing time less prediction time in seconds, shape ``(n,)``; NaN where no label has landed, or where it is not
        known when.  Negative delays count as 0.
    labels
        0 or 1 (bool), shape ``(n,)``; NaN where no label has landed.
    ages
        Age of each prediction as of now, in seconds, shape ``(n,)``.
    strata
        Number of each prediction's stratum, below ``n_strata``, shape ``(n,)``; absent: all in stratum 0.
    mature, as_of
        As in :class:`DelayCounts`; ``mature`` is by default the last edge.
    """
    delay, label, age = (np.asarray(part, dtype=np.float64) for part in (delays, labels, ages))
    if not delay.shape == label.shape == age.shape:
        raise ValueError(f"delays, labels and ages differ in shape: {delay.shape}, {label.shape}, {age.shape}")
    stratum = np.zeros(delay.shape, np.int64) if strata is None else np.asarray(strata, dtype=np.int64)
    n_bins = len(edges) - 1
    known = ~np.isnan(label)
    held = np.flatnonzero(known & (delay <= age) & (delay <= edges[-1]))  # NaN is in no order
    place = places(edges[1:], np.maximum(delay.take(held), 0.0), side="left")
    over = places(edges[1:], age.take(held), side="right")  # this many bins are over
    first = (2 * stratum.take(held) + (label.take(held) != 0)) * (n_bins + 1)
    inside = place < over
    if not inside.all():
        first, place, over = first[inside], place[inside], over[inside]
    # Each label is in its own bin's events, and at risk in every bin from its own to the last that is over.
    begun, ended = (
        np.bincount(first + bins, minlength=2 * n_strata * (n_bins + 1)).reshape(n_strata, 2, n_bins + 1)
        for bins in (place, over)
    )
    landed, at_risk = begun[:, :, :-1].astype(np.int64), (begun - ended).astype(np.int64)
    mature = float(edges[-1]) if mature is None else mature
    ripe = age >= mature
    return DelayCounts(
        np.asarray(edges, dtype=np.float64),
        landed,
        np.cumsum(at_risk, axis=2)[:, :, :-1],
        np.bincount(stratum, minlength=n_strata).astype(np.int64),
        np.bincount(stratum[ripe], minlength=n_strata).astype(np.int64),
        np.bincount(stratum[ripe & known], minlength=n_strata).astype(np.int64),
        mature,
        as_of,
    )


def places(edges: FloatArray, values: FloatArray, *, side: Literal["left", "right"]) -> IntArray:
    """What ``np.searchsorted`` gives, for values from 0 to infinity, and several times faster where these are many.

    A value lies in one of equal cells; all edges of lower cells are below it, and only those of its own are compared.
    """
    if len(values) < _WORTH or not len(edges) or not 1e-9 < edges[-1] < np.inf or edges[0] < 0:
        return np.searchsorted(edges, values, side=side)
    scale = _CELLS / edges[-1]
    cells = (edges * scale).astype(np.int64)  # in the order of the edges, as those of the values are
    per_cell = np.bincount(cells, minlength=_CELLS + 2)
    if per_cell.max() > _COMPARED:
        return np.searchsorted(edges, values, side=side)
    below = np.cumsum(per_cell) - per_cell
    found = below.take((np.minimum(values, edges[-1]) * scale).astype(np.int64))
    further, passed = np.append(edges, np.nan), np.less if side == "left" else np.less_equal
    for _ in range(per_cell.max()):
        found += passed(further.take(found), values)
    return np.asarray(found, dtype=np.int64)


_WORTH, _CELLS, _COMPARED = 4096, 1 << 16, 4


def known_by(counts: DelayCounts, age: float) -> DelayCounts:
    """What of these counts was known already when their youngest prediction was ``age`` seconds old.

    Bins that were not over by then for every prediction are left out; and so are ripe predictions, if not all were.
    A label that was corrected since counts as it does now.
    """
    over = counts.edges[1:] <= age
    ripe = counts.mature <= age
    return replace(
        counts,
        landed=counts.landed * over,
        at_risk=counts.at_risk * over,
        ripe=counts.ripe * ripe,
        ripe_labelled=counts.ripe_labelled * ripe,
    )


def fits(first: DelayCounts, second: DelayCounts) -> bool:
    """Whether two counts are over the same ages and strata."""
    alike = first.landed.shape == second.landed.shape and first.mature == second.mature
    return alike and np.array_equal(first.edges, second.edges)


def merge(first: DelayCounts, second: DelayCounts) -> DelayCounts:
    """The counts of the predictions of both.

    Raises
    ------
    ProfileError
        The two were counted over different ages or strata.
    """
    if not fits(first, second):
        raise ProfileError("label delays were counted over different age bins or strata")
    return DelayCounts(
        first.edges,
        first.landed + second.landed,
        first.at_risk + second.at_risk,
        first.predictions + second.predictions,
        first.ripe + second.ripe,
        first.ripe_labelled + second.ripe_labelled,
        first.mature,
        max(first.as_of, second.as_of),
    )


def to_bytes(counts: DelayCounts) -> bytes:
    """Pack for storage; :func:`from_bytes` gives the same counts back, on any machine."""
    n_strata, _, n_bins = counts.landed.shape
    whole = np.concatenate([
        counts.landed.ravel(), counts.at_risk.ravel(), counts.predictions, counts.ripe, counts.ripe_labelled
    ])  # fmt: skip
    body = counts.edges.astype("<f8").tobytes() + whole.astype("<i8").tobytes()
    header = _HEADER.pack(_MAGIC, _VERSION, n_strata, n_bins, counts.mature, counts.as_of)
    return header + zlib.compress(body, 6)


def from_bytes(blob: bytes) -> DelayCounts:
    """Unpack what :func:`to_bytes` packed.

    Raises
    ------
    ProfileError
        The bytes are damaged, of something else, or of a newer version.
    """
    try:
        magic, version, n_strata, n_bins, mature, as_of = _HEADER.unpack_from(blob)
        if magic != _MAGIC or version != _VERSION:
            raise ProfileError(f"expected label delays of version {_VERSION}, found {magic!r} {version}")
        body = zlib.decompress(blob[_HEADER.size :])
        edges = np.frombuffer(body, "<f8", n_bins + 1).astype(np.float64)
        cells = 2 * n_strata * n_bins
        whole = np.frombuffer(body, "<i8", 2 * cells + 3 * n_strata, 8 * (n_bins + 1)).astype(np.int64)
    except (struct.error, zlib.error, ValueError) as error:
        if isinstance(error, ProfileError):
            raise
        raise ProfileError(f"these {len(blob)} bytes are not label delays: {error}") from error
    shape = (n_strata, 2, n_bins)
    predictions, ripe, ripe_labelled = whole[2 * cells :].reshape(3, n_strata)
    return DelayCounts(
        edges,
        whole[:cells].reshape(shape),
        whole[cells : 2 * cells].reshape(shape),
        predictions,
        ripe,
        ripe_labelled,
        mature,
        as_of,
    )
