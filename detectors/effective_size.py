"""How many rows are worth one: what a baseline's own windows say about rows that are not independent.

Shares of bins wander more from window to window than independent rows allow when an entity has many rows, when rows
follow one another, or when each day differs from the next.  The windows of the baseline show by how much, whatever the
reason, and no model of it is needed (Rao & Scott, 1984, second order).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from detectors.null_law import NullLaw
from detectors.profiles import FloatArray, IntArray

MIN_WINDOWS = 8
"""With fewer windows in the baseline their variance says too little, and rows are assumed to be independent."""
MIN_FREEDOM = 4.0
"""With fewer degrees of freedom left, how far shares wander cannot be told."""


@dataclass(frozen=True)
class Entities:
    """The "windows" are groups of entities of one window, so that rows depend on each other within groups only.

    Parameters
    ----------
    reference
        How many times more of the reference's rows are worth one than of the window's.
    """

    reference: float = 1.0


@dataclass(frozen=True, eq=False)
class Dependence:
    """How bin shares wander from window to window, in units of what independent rows would do.

    Parameters
    ----------
    design
        Eigenvalues of n · Cov((q − p) / √p), shape ``(r,)``: all 1 for independent rows.  Never 1 or less on average:
        shares that wander less than chance are chance.
    df
        Degrees of freedom that the estimate is worth; infinite where independence is assumed.
    memory
        Windows that are worth one independent window, ≥ 1 (integrated autocorrelation).
    rows
        Rows of a typical baseline window.
    n_windows
        Windows it was measured on; 0 where independence is assumed.
    """

    design: FloatArray
    df: float = math.inf
    memory: float = 1.0
    rows: float = math.inf
    n_windows: int = 0
    first_lag: float = 0.0
    """Autocorrelation of neighbouring windows."""
    entities: Entities | None = None
    """What was measured are groups of entities, not windows."""

    @property
    def effect(self) -> float:
        """The design effect: so many rows carry the information of one independent row, in windows of usual size."""
        return float(self.design.mean())

    @property
    def can_tell(self) -> bool:
        return self.df >= MIN_FREEDOM

    def spread(self, rows: float, windows: float = 1.0) -> float:
        """Expected distance of the shares of ``rows`` rows in ``windows`` successive windows from the truth, per bin.

        What independent rows cause falls with the rows.  The excess may lie within windows (and falls with their rows,
        too) or between them (and does not): it is taken to fall with rows only up to the usual size of a window, and
        beyond that with the number of windows less their memory.
        """
        each = rows / windows
        chance = 1 / each
        excess = (self.effect - 1) * max(1 / each, 1 / self.rows)
        return (chance + excess * min(self.memory, windows)) / windows

    def reference_spread(self, rows: float, windows: float) -> float:
        """The same for the reference, whose rows may be worth more or less than the window's."""
        plain = self.spread(rows, max(1.0, windows))
        return plain if self.entities is None else max(1 / rows, plain * self.entities.reference)

    def law(self, n: float, reference: float, *, windows: float = 1.0, reference_windows: float = 1.0) -> NullLaw:
        """The law of the distance between a window of ``n`` rows and a reference, without change."""
        total = self.spread(n, windows) + self.reference_spread(reference, reference_windows)
        return NullLaw(self.design * (total / self.effect), self.df)


def independent(freedom: int) -> Dependence:
    """What holds if every row is drawn on its own."""
    return Dependence(np.ones(max(1, freedom)))


def measure(windows: IntArray, groups: IntArray | None = None, *, entities: Entities | None = None) -> Dependence:
    """Measure the dependence on the counts of baseline windows.

    Parameters
    ----------
    windows
        Rows in each bin, shape ``(W, B)``, in the order of time; bins pooled so that none is rare.
    groups
        For seasonal baselines the phase of each window, shape ``(W,)``: windows are compared with their own phase.
    entities
        The rows of ``windows`` are of groups of entities, not of windows.

    Returns
    -------
    Dependence
        Independence is assumed with fewer than ``MIN_WINDOWS`` windows (less the phases); with as few groups of
        entities it cannot be told.
    """
    sizes = windows.sum(axis=1)
    keep = sizes > 0
    windows, sizes = windows[keep], sizes[keep]
    groups = None if groups is None else groups[keep]
    freedom = windows.shape[1] - 1
    n_groups = 1 if groups is None else len(np.unique(groups))
    if freedom < 1 or len(windows) - n_groups + 1 < MIN_WINDOWS:
        return _too_few(freedom, len(windows), entities)
    centre = _centres(windows, groups)
    own = windows / sizes[:, np.newaxis]
    expected = pooled_shares(windows, groups)
    filled = expected > 0
    moved = np.where(filled, own - centre, 0.0) / np.sqrt(np.where(filled, expected, 1.0))
    # A phase that fills fewer bins than others has fewer of them to wander in, and says as much of each.
    there = np.maximum(1, filled.sum(axis=1) - 1)
    moved = moved * np.sqrt(sizes * there.max() / there)[:, np.newaxis]
    return _of(moved, freedom, rows=float(sizes.mean()), n_groups=n_groups, entities=entities)


def pooled_shares(windows: IntArray, groups: IntArray | None) -> FloatArray:
    """What a window's deviation is measured by: the shares of the window and its reference together, shape ``(W, B)``.

    With seasons that are those of its own phase, as they would be if the window were a new one: the others of the
    phase stand for as many as there are in it.  A phase that lies elsewhere than all windows together is otherwise
    judged by the wrong measure.
    """
    if groups is None:
        return np.broadcast_to(windows.sum(axis=0) / windows.sum(), windows.shape)
    _, place, cycles = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(cycles), windows.shape[1]))
    np.add.at(sums, place, windows)
    rest = sums[place] - windows
    rows, sizes = rest.sum(axis=1, keepdims=True), windows.sum(axis=1, keepdims=True)
    own, others = windows / sizes, rest / np.maximum(1, rows)
    worth = np.where(rows > 0, cycles[place][:, np.newaxis], 0)
    shares: FloatArray = (own + worth * others) / (1 + worth)
    return shares


def measure_score(
    windows: IntArray, weights: FloatArray, groups: IntArray | None = None, *, entities: Entities | None = None
) -> Dependence:
    """As :func:`measure`, for one weighted sum of the shares: ``weights`` of mean 0 and variance 1, shape ``(B,)``.

    With seasons a weight for each window, shape ``(W, B)``: the shares of a phase have a variance of their own.
    """
    sizes = windows.sum(axis=1)
    keep = sizes > 0
    windows, sizes = windows[keep], sizes[keep]
    groups = None if groups is None else groups[keep]
    weights = weights[keep] if weights.ndim > 1 else weights
    n_groups = 1 if groups is None else len(np.unique(groups))
    if len(windows) - n_groups + 1 < MIN_WINDOWS:
        return _too_few(1, len(windows), entities)
    moved = ((windows / sizes[:, np.newaxis] - _centres(windows, groups)) * weights).sum(axis=1) * np.sqrt(sizes)
    return _of(moved[:, np.newaxis], 1, rows=float(sizes.mean()), n_groups=n_groups, entities=entities)


def _too_few(freedom: int, n_windows: int, entities: Entities | None) -> Dependence:
    if entities is None or freedom < 1:
        return independent(freedom)
    return Dependence(np.ones(freedom), 0.0, n_windows=n_windows, entities=entities)


def _of(moved: FloatArray, freedom: int, *, rows: float, n_groups: int, entities: Entities | None) -> Dependence:
    found = of_deviations(moved, freedom, rows=rows, n_groups=n_groups, ordered=entities is None)
    return found if entities is None else replace(found, rows=math.inf, entities=entities)


def of_deviations(
    moved: FloatArray, freedom: int, *, rows: float, n_groups: int = 1, ordered: bool = True
) -> Dependence:
    """The dependence shown by standardised deviations √n (q − p) / √p of shape ``(W, B)``, in the order of time.

    Without an order (``ordered=False``) they have no memory.

    Notes
    -----
    Σ λ² of an estimated covariance is too large by the noise of the estimate: it is corrected (Bai & Saranadasa,
    1996), and the eigenvalues are drawn together until they agree with it.  Windows that resemble the ones before
    count as fewer windows.  The tail of the law is ruled by the largest eigenvalues, so its degrees of freedom are as
    many as the estimate of Σ λ² has, (Σ λ²)² / Σ λ⁴ for each window, and not those of the better known Σ λ.
    """
    n_windows = len(moved)
    gram = moved @ moved.T if n_windows < moved.shape[1] else moved.T @ moved
    squares = np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0)[:freedom]
    total = float(squares.sum())
    if total <= 0:
        return Dependence(np.ones(freedom), n_windows - n_groups, 1.0, rows, n_windows)
    nu = max(1.0, total**2 / float((squares**2).sum()))
    memory, first = _memory(moved, total, nu) if ordered else (1.0, 0.0)
    df = n_windows / memory - n_groups
    if df < MIN_FREEDOM:
        return Dependence(np.full(freedom, max(1.0, total / n_windows / freedom)), df, memory, rows, n_windows, first)
    values = np.zeros(freedom)
    values[: len(squares)] = squares / (n_windows - n_groups * memory)
    mean = float(values.mean())
    m = n_windows - n_groups
    second = float((values**2).sum())
    corrected = m * m / ((m - 1) * (m + 2)) * (second - float(values.sum()) ** 2 / m)
    even = freedom * mean * mean
    share = max(0.0, corrected - even) / max(second - even, 1e-12)
    values = mean + math.sqrt(min(1.0, share)) * (values - mean)
    values = np.maximum(values, 1e-9 * mean)
    design = values * max(1.0, 1.0 / mean)
    nu = float((design**2).sum()) ** 2 / float((design**4).sum())
    return Dependence(design, nu * df, memory, rows, n_windows, first)


def _centres(windows: IntArray, groups: IntArray | None) -> FloatArray:
    """The shares that each window is held against: of all windows together, or of those of its phase."""
    if groups is None:
        return np.broadcast_to(windows.sum(axis=0) / windows.sum(), windows.shape)
    order = np.argsort(groups, kind="stable")
    begins = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
    sums = np.add.reduceat(windows[order], begins, axis=0)
    shares = np.empty(windows.shape)
    shares[order] = np.repeat(sums / sums.sum(axis=1, keepdims=True), np.diff(begins, append=len(order)), axis=0)
    return shares


def _memory(moved: FloatArray, total: float, nu: float) -> tuple[float, float]:
    """Integrated autocorrelation 1 + 2 Σ ρ of the deviations, and ρ of the first lag; 1 where it may be noise."""
    n_windows = len(moved)
    noise = 1.5 / math.sqrt(n_windows * nu)
    memory, first = 1.0, 0.0
    for lag in range(1, max(2, n_windows // 3)):
        rho = float((moved[:-lag] * moved[lag:]).sum()) / total * n_windows / (n_windows - lag) + 1 / n_windows
        if rho < noise:
            break
        first = first or rho
        memory += 2 * rho
    return memory, min(first, 0.99)
