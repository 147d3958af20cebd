"""Does a column have seasons? Chosen by the data: whether windows of one phase resemble each other enough to pay."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import fdtrc

from detectors.profiles import FloatArray, IntArray

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
        if float(fdtrc(nu * (n_phases - 1), nu * residual, ratio)) < SURE:
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
