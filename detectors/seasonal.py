"""Does a column have seasons? Chosen by the data: whether windows of one phase resemble each other enough to pay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import scipy

from detectors.profiles import (
    CategoricalProfile,
    ColumnProfile,
    FloatArray,
    IntArray,
    NumericProfile,
    ProfileError,
    heaviest,
    whole,
)

WORTH = 0.8
"""A season must bring the expected distance of a new window below this share of what it is without."""
SURE = 1e-3
"""… and must be this unlikely to be chance."""
MIN_CYCLES = 2
"""Windows of each phase that the baseline must have."""
_MIN_RESIDUAL = 7


def choose(windows: IntArray, phases: Mapping[str, IntArray]) -> str | None:
    """The season under which a new window is expected nearest to its reference; ``None`` where none pays.

    Matching leaves fewer reference rows: with ``g`` phases the reference's own error grows from 1/W to g/W of the
    variance of a window.  So a season is worth it if S_within (1 + g/W) is below S (1 + 1/W) by ``WORTH``, and if
    Fisher's F of between over within phases says that this is not luck.

    Parameters
    ----------
    windows
        Rows in each bin of the baseline's windows, shape ``(W, B)``.
    phases
        Name of a season → phase of each window, shape ``(W,)``.
    """
    sizes = windows.sum(axis=1)
    keep = sizes > 0
    counts = windows[keep]
    if len(counts) < _MIN_RESIDUAL + 2 or counts.shape[1] < 2:
        return None
    plain, nu = _scatter(counts, np.zeros(len(counts), dtype=np.int64))
    n = len(counts)
    best, least = None, WORTH * plain / (n - 1) * (1 + 1 / n)
    for name, phase in phases.items():
        _, place, cycles = np.unique(phase[keep], return_inverse=True, return_counts=True)
        n_phases = len(cycles)
        residual = n - n_phases
        if n_phases < 2 or cycles.min() < MIN_CYCLES or residual < _MIN_RESIDUAL:
            continue
        within, _ = _scatter(counts, place.astype(np.int64))
        cost = within / residual * (1 + n_phases / n)
        if cost >= least or within <= 0:
            continue
        ratio = (plain - within) / (n_phases - 1) / (within / residual)
        if float(scipy.special.fdtrc(nu * (n_phases - 1), nu * residual, ratio)) < SURE:
            best, least = name, cost
    return best


def _scatter(counts: IntArray, place: IntArray) -> tuple[float, float]:
    """Σ n |(q − p) / √p|² around the phases' shares, and the dimensions that it is worth."""
    total = counts.sum(axis=0)
    filled = total > 0
    sums = np.zeros((int(place.max()) + 1, counts.shape[1]))
    np.add.at(sums, place, counts)
    centre = (sums / sums.sum(axis=1, keepdims=True))[place]
    sizes = counts.sum(axis=1, keepdims=True)
    moved: FloatArray = ((counts / sizes - centre) * np.sqrt(sizes))[:, filled] / np.sqrt(total[filled] / total.sum())
    squares = np.linalg.svd(moved, compute_uv=False) ** 2
    first, second = float(squares.sum()), float((squares**2).sum())
    return first, (1.0 if second <= 0 else first * first / second)


# --- windows of several phases together -------------------------------------------------------------


def blended(references: Sequence[ColumnProfile], rows: Sequence[int]) -> tuple[ColumnProfile, float]:
    """What windows of several phases are to be compared with when they are judged together.

    The shares are the mean of those of ``references``, weighted by the ``rows`` of the windows: w = n_i / Σ n.  Rows
    are as many as would know such shares as exactly: 1 / Σ (w² / m).  A reference that occurs twice is one sample.

    Returns
    -------
    The profile, and how many times the windows of one reference it is worth: 1 / Σ w².
    """
    if sum(rows) <= 0:
        return references[-1], 1.0
    share: dict[int, float] = {}
    distinct = {id(reference): reference for reference in references}
    for reference, n in zip(references, rows, strict=True):
        share[id(reference)] = share.get(id(reference), 0.0) + n / sum(rows)
    held = [(distinct[key], w) for key, w in share.items() if w > 0 and distinct[key].n > 0]
    if not held:
        return references[-1], 1.0
    size = 1 / sum(w * w / reference.n for reference, w in held)
    worth = 1 / sum(w * w for _, w in held)
    parts = [(reference, w * size / reference.n) for reference, w in held]
    numeric = [(r, factor) for r, factor in parts if isinstance(r, NumericProfile)]
    if len(numeric) == len(parts):
        return _blended_numeric(numeric), worth
    categorical = [(r, factor) for r, factor in parts if isinstance(r, CategoricalProfile)]
    if len(categorical) < len(parts):
        raise ProfileError("numbers and categories cannot be judged together")
    return _blended_categorical(categorical), worth


def _blended_numeric(parts: Sequence[tuple[NumericProfile, float]]) -> NumericProfile:
    cells = whole(sum(r.cells * factor for r, factor in parts))
    missing, neg_inf, pos_inf = (
        round(sum(getattr(r, name) * factor for r, factor in parts)) for name in ("missing", "neg_inf", "pos_inf")
    )
    finite = [(r, r.n_finite * factor) for r, factor in parts if r.n_finite]
    total = sum(n for _, n in finite)
    mean = sum(r.mean * n for r, n in finite) / total if total else math.nan
    m2 = sum((r.m2 / r.n_finite + (r.mean - mean) ** 2) * n for r, n in finite)
    first = parts[0][0]
    return replace(
        first,
        n=int(cells.sum()) + missing,
        missing=missing,
        pos_inf=min(pos_inf, int(cells[-1])),
        neg_inf=min(neg_inf, int(cells[0])),
        cells=cells,
        minimum=min((r.minimum for r, _ in finite), default=math.nan),
        maximum=max((r.maximum for r, _ in finite), default=math.nan),
        mean=mean,
        m2=m2 if total else math.nan,
        low_sum=sum(r.low_sum * factor for r, factor in parts),
        high_sum=sum(r.high_sum * factor for r, factor in parts),
    )


def _blended_categorical(parts: Sequence[tuple[CategoricalProfile, float]]) -> CategoricalProfile:
    counts = whole(sum(np.append(r.counts, r.unseen) * factor for r, factor in parts))
    missing = round(sum(r.missing * factor for r, factor in parts))
    heavy: dict[str, int] = {}
    for r, factor in parts:
        for name, n in r.heavy_unseen.items():
            heavy[name] = heavy.get(name, 0) + int(n * factor)
    return CategoricalProfile(
        int(counts.sum()) + missing,
        missing,
        int(counts[-1]),
        counts[:-1],
        heaviest({k: n for k, n in heavy.items() if n}),
    )
