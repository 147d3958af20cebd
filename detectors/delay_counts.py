"""How long labels took to land: counts by class, age and stratum of predictions, which of several windows add up."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

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
        When they were counted, in seconds since 1970, or the first of them: what had landed by then is in all of them,
        what landed later may be missing.  0 where that does not matter.
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
    states = np.where(np.isnan(label), np.int8(2), (label != 0).view(np.int8))
    return count_states(delay, states, age, edges=edges, strata=strata, n_strata=n_strata, mature=mature, as_of=as_of)


def count_states(
    delays: FloatArray,
    states: npt.NDArray[np.int8],
    ages: FloatArray,
    *,
    edges: FloatArray,
    strata: npt.ArrayLike | None = None,
    n_strata: int = 1,
    mature: float | None = None,
    as_of: float = 0.0,
) -> DelayCounts:
    """As :func:`count_delays`, with each label as one of 0, 1 and 2: negative, positive, none."""
    if not delays.shape == states.shape == ages.shape:
        raise ValueError(f"delays, labels and ages differ in shape: {delays.shape}, {states.shape}, {ages.shape}")
    mature = float(edges[-1]) if mature is None else mature
    group = np.zeros(delays.shape, np.int32)
    if strata is not None:
        group += np.asarray(strata).astype(np.int32, copy=False)
        group *= np.int32(3)
    landed, at_risk = _by_bin(delays, states, ages, edges=edges, group=group, n_strata=n_strata)
    group += states
    ripe = ages >= mature
    if ripe.all() or not ripe.any():
        found = np.zeros((2, n_strata, 3), np.int64)
        found[int(ripe.any())] = np.bincount(group, minlength=3 * n_strata).reshape(n_strata, 3)
    else:
        group += ripe.astype(np.int32) * np.int32(3 * n_strata)
        found = np.bincount(group, minlength=6 * n_strata).reshape(2, n_strata, 3)
    return DelayCounts(
        np.asarray(edges, dtype=np.float64),
        landed,
        np.cumsum(at_risk, axis=2),
        found.sum(axis=(0, 2)),
        found[1].sum(axis=1),
        found[1, :, :2].sum(axis=1),
        mature,
        as_of,
    )


def _by_bin(
    delays: FloatArray,
    states: npt.NDArray[np.int8],
    ages: FloatArray,
    *,
    edges: FloatArray,
    group: npt.NDArray[np.int32],
    n_strata: int,
) -> tuple[IntArray, IntArray]:
    """Labels by stratum, class and bin of their delay, and the same less those that are no more at risk there.

    A prediction counts in the bins that are over for it, which are few different numbers in one window: so all are
    counted by that number as well, and what lies in bins that are not over is taken off the table and not off the rows.
    ``group`` is three times the stratum.
    """
    n_bins, shape = len(edges) - 1, (n_strata, 2, len(edges) - 1)
    landed, ended = np.zeros(shape, np.int64), np.zeros((n_strata, 2, len(edges)), np.int64)
    if not len(delays):
        return landed, ended[:, :, :-1]
    place = places(edges[1:], np.fmax(delays, 0.0), side="left")  # NaN, which is no delay, is taken out below
    cell = np.where(np.isnan(delays), np.int8(2), states).astype(np.int32)
    cell += group
    cell *= np.int32(n_bins + 1)
    cell += place.astype(np.int32, copy=False)
    least, most = np.searchsorted(edges[1:], (ages.min(), ages.max()), side="right").tolist()
    size = n_strata * 3 * (n_bins + 1)
    if least < most:
        over = places(edges[1:], ages, side="right").astype(np.int32, copy=False)
        if (most - least + 1) * size <= _AT_ONCE:
            cell += (over - np.int32(least)) * np.int32(size)
        else:  # many ages over many strata: the numbers are looked at one after the other
            for number in np.unique(over).tolist():
                found = np.bincount(cell[over == number], minlength=size).reshape(n_strata, 3, n_bins + 1)
                landed[:, :, :number] += found[:, :2, :number]
                ended[:, :, number] += found[:, :2, :number].sum(axis=2)
            return landed, landed - ended[:, :, :-1]
    table = np.bincount(cell, minlength=(most - least + 1) * size).reshape(-1, n_strata, 3, n_bins + 1)
    for number, found in enumerate(table, least):
        landed[:, :, :number] += found[:, :2, :number]
        ended[:, :, number] += found[:, :2, :number].sum(axis=2)
    return landed, landed - ended[:, :, :-1]


_AT_ONCE = 1 << 18
"""Cells of a table that is counted into at random."""


def places(edges: FloatArray, values: FloatArray, *, side: Literal["left", "right"]) -> npt.NDArray[np.integer[Any]]:
    """What ``np.searchsorted`` gives, for values from 0 to infinity, and several times faster where these are many.

    A value lies in one of equal cells; all edges of lower cells are below it, and only those of its own are compared.
    """
    if len(values) < _WORTH or not len(edges) or not 1e-9 < edges[-1] < np.inf or edges[0] < 0:
        return np.searchsorted(edges, values, side=side)
    below, most = _cells_of(np.asarray(edges, dtype=np.float64).tobytes())
    if most > _COMPARED:
        return np.searchsorted(edges, values, side=side)
    cell = np.minimum(values, edges[-1])
    cell *= _CELLS / edges[-1]
    found = below.take(cell.astype(np.int64))
    further, passed = np.append(edges, np.nan), np.less if side == "left" else np.less_equal
    for _ in range(most):
        found += passed(further.take(found), values)
    return np.asarray(found)


@lru_cache(maxsize=64)
def _cells_of(packed: bytes) -> tuple[npt.NDArray[np.int32], int]:
    """How many edges lie in lower cells than each, and the most that lie in one."""
    edges = np.frombuffer(packed, np.float64)
    cells = (edges * (_CELLS / edges[-1])).astype(np.int64)  # in the order of the edges, as those of the values are
    per_cell = np.bincount(cells, minlength=_CELLS + 2)
    return (np.cumsum(per_cell) - per_cell).astype(np.int32), int(per_cell.max())


_WORTH, _CELLS, _COMPARED = 4096, 1 << 14, 4


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
        # Of all of them only as much is known as of those that were counted first.
        min((each.as_of for each in (first, second) if each.as_of), default=0.0),
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
