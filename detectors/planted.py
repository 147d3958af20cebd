"""Faults, planted into counts: what a window would have looked like had its values been shifted, scaled, lost …

Nothing is drawn at random: a planted window keeps the sampling noise of the real one, and planting it again gives the
same counts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detectors.class_counts import ClassCounts
from detectors.profiles import (
    CategoricalProfile,
    ColumnProfile,
    FloatArray,
    IntArray,
    NumericProfile,
    NumericSpec,
    ProfileError,
    heaviest,
    whole,
)
from detectors.score_labels import ScoreLabels

NAME = "(planted)"
"""What a planted category is called."""


def shifted(spec: NumericSpec, profile: NumericProfile, by: float) -> NumericProfile:
    """Every finite value plus ``by``, in the column's own unit."""
    return _moved(spec, profile, factor=1.0, offset=by)


def scaled(spec: NumericSpec, profile: NumericProfile, by: float) -> NumericProfile:
    """Every finite value times ``by``, which is positive: another unit."""
    if by <= 0:
        raise ProfileError("a planted scale must be positive")
    return _moved(spec, profile, factor=by, offset=0.0)


def _moved(spec: NumericSpec, profile: NumericProfile, *, factor: float, offset: float) -> NumericProfile:
    """Values within a cell are taken as spread evenly; those on an edge stay together.

    Where most values lie on edges (counts, rounded amounts) a moved value is split between the two edges that it comes
    to lie between, so that the column stays on its grid.
    """
    if not profile.n_finite:
        return profile
    edges = spec.edges
    between, on = profile.cells[0::2].astype(np.float64), profile.cells[1::2].astype(np.float64)
    between[0] -= profile.neg_inf
    between[-1] -= profile.pos_inf
    knots = np.concatenate([[min(profile.minimum, edges[0])], edges, [max(profile.maximum, edges[-1])]])
    mass = np.concatenate([[0.0], np.cumsum(between)])
    below = np.interp((edges - offset) / factor, knots, mass)
    cells = np.zeros(len(profile.cells))
    cells[0::2] = np.diff(np.concatenate([[0.0], below, [mass[-1]]]))
    _place(cells, on, edges=edges, at=edges * factor + offset, grid=bool(on.sum() > between.sum()))
    held = whole(cells)
    held[0] += profile.neg_inf
    held[-1] += profile.pos_inf
    low, high = profile.minimum * factor + offset, profile.maximum * factor + offset
    return replace(
        profile,
        cells=held,
        minimum=low,
        maximum=high,
        mean=profile.mean * factor + offset,
        m2=profile.m2 * factor**2,
        low_sum=float((held[0] - profile.neg_inf) * (min(low, edges[0]) + edges[0]) / 2),
        high_sum=float((held[-1] - profile.pos_inf) * (max(high, edges[-1]) + edges[-1]) / 2),
    )


def _place(cells: FloatArray, on: FloatArray, *, edges: FloatArray, at: FloatArray, grid: bool) -> None:
    """Add the values that were on edges where they have come to lie."""
    right = np.searchsorted(edges, at, side="left")
    exact = (right < len(edges)) & (edges[np.minimum(right, len(edges) - 1)] == at)
    inside = (right > 0) & (right < len(edges)) & ~exact
    np.add.at(cells, 2 * right[exact] + 1, on[exact])
    if grid:
        left = right[inside] - 1
        part = (at[inside] - edges[left]) / (edges[left + 1] - edges[left])
        np.add.at(cells, 2 * left + 1, on[inside] * (1 - part))
        np.add.at(cells, 2 * left + 3, on[inside] * part)
        rest = ~exact & ~inside
    else:
        rest = ~exact
    np.add.at(cells, 2 * right[rest], on[rest])


def with_nulls(profile: ColumnProfile, share: float) -> ColumnProfile:
    """``share`` of the values lost, evenly over all of them."""
    if isinstance(profile, NumericProfile):
        cells: IntArray = profile.cells - whole(profile.cells * share)
        lost = int(profile.cells.sum() - cells.sum())
        pos_inf, neg_inf = min(profile.pos_inf, int(cells[-1])), min(profile.neg_inf, int(cells[0]))
        kept = cells.sum() / max(1, profile.cells.sum())
        return replace(
            profile, cells=cells, missing=profile.missing + lost, m2=profile.m2 * kept, pos_inf=pos_inf, neg_inf=neg_inf
        )
    counts, unseen, lost = _taken(profile, share)
    return replace(profile, counts=counts, unseen=unseen, missing=profile.missing + lost)


def with_category(profile: ColumnProfile, share: float) -> ColumnProfile:
    """``share`` of the values in a category that was never seen, taken evenly from all others."""
    if not isinstance(profile, CategoricalProfile):
        raise ProfileError("a new category needs a categorical column")
    counts, unseen, new = _taken(profile, share)
    heavy = heaviest({**profile.heavy_unseen, NAME: new}) if new else profile.heavy_unseen
    return replace(profile, counts=counts, unseen=unseen + new, heavy_unseen=heavy)


def _taken(profile: CategoricalProfile, share: float) -> tuple[IntArray, int, int]:
    held: IntArray = np.append(profile.counts, profile.unseen)
    taken = whole(held * share)
    left: IntArray = np.subtract(held, taken)
    return left[:-1], int(left[-1]), int(taken.sum())


def with_flipped_labels(counts: ScoreLabels, share: float) -> ScoreLabels:
    """``share`` of the labels the other way round, whatever the score: a changed rule."""
    lost, gained = _flips(counts.positives, share), _flips(counts.negatives, share)
    return replace(
        counts,
        positives=counts.positives - lost + gained,
        negatives=counts.negatives - gained + lost,
    )


def with_other_classes(counts: ClassCounts, share: float) -> ClassCounts:
    """``share`` of the labels of each class are the next class, by name, whatever was predicted: a changed rule.

    The probabilities of the classes stay as they were counted.
    """
    if counts.size < 2:
        return counts
    cells = counts.cells
    known = cells[:, 1] < counts.size
    moved = np.where(known, whole(cells[:, 3] * share), 0)
    left, other = cells.copy(), cells.copy()
    left[:, 3] -= moved
    other[:, 1] = np.where(known, (cells[:, 1] + 1) % counts.size, cells[:, 1])
    other[:, 3] = moved
    distinct, inverse = np.unique(np.concatenate([left, other])[:, :3], axis=0, return_inverse=True)
    totals = np.zeros(len(distinct), np.int64)
    np.add.at(totals, inverse.reshape(-1), np.concatenate([left[:, 3], moved]))
    kept = totals > 0
    return replace(counts, cells=np.concatenate([distinct, totals[:, None]], axis=1)[kept])


def _flips(counts: IntArray, share: float) -> IntArray:
    return whole(counts.ravel() * share).reshape(counts.shape)
