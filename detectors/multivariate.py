"""Do columns still go together as they did?  The change of every pairwise correlation, tested as one family.

Each column may look as ever while two of them have parted company: nothing that looks at one column at a time can see
that.  Correlations are of normal scores within a window (ranks, put on the normal scale), so a drifted, rescaled or
wild column changes nothing as long as its order relative to the others holds.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtr, stdtrit
from scipy.stats import rankdata

from detectors.profiles import FloatArray, IntArray, ProfileError

MIN_PAIRS = 50
"""A correlation of fewer rows is not looked at."""
_SHRINK = 20
"""The spread of all pairs together counts as so many windows of each pair."""
_CLOSE = 0.999
"""Correlations beyond this are taken as this: Fisher's z has no end there."""
_MAGIC = b"JOIN"
_HEAD = struct.Struct("<4sBHI")


@dataclass(frozen=True, eq=False)
class Correlations:
    """How the columns of one window go together.

    Parameters
    ----------
    names
        The columns, length ``d``.
    n_rows
        Rows that were looked at.
    n
        Rows on which both columns of a pair have a value, shape ``(d (d − 1) / 2,)``, pairs in the order of
        ``numpy.triu_indices(d, 1)``.
    z
        Fisher's z (``atanh r``) of each pair, same shape; NaN where it is not defined.
    variance
        What ``n`` times the variance of each ``z`` is estimated at; 1 for normal columns, same shape.
    """

    names: tuple[str, ...]
    n_rows: int
    n: IntArray
    z: FloatArray
    variance: FloatArray

    def named(self) -> list[tuple[str, str]]:
        """The pairs, in the order of the arrays."""
        first, second = np.triu_indices(len(self.names), 1)
        return [(self.names[i], self.names[j]) for i, j in zip(first, second, strict=True)]


def correlations(names: Sequence[str], values: FloatArray) -> Correlations:
    """Measure how the columns of some rows go together.

    ``r`` is the correlation of normal scores Φ⁻¹((rank − ½) / n) over the rows on which both have a value; its
    variance follows from its influence function, E[(uv − r (u² + v²) / 2)²], so tails and ties are allowed for.

    Parameters
    ----------
    names
        The columns, length ``d``.
    values
        Shape ``(n, d)``, NaN for missing; infinities rank as what they are.
    """
    scores = np.column_stack([_normal_scores(column) for column in values.T]) if values.size else values
    held = np.isfinite(scores).astype(np.float64)
    u = np.where(held > 0, scores, 0.0)
    u2 = u * u
    n = held.T @ held
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, square = (u.T @ held) / n, (u2.T @ held) / n
        spread = np.sqrt(np.maximum(square - mean**2, 0.0))
        scale = spread * spread.T
        r = np.clip(((u.T @ u) / n - mean * mean.T) / scale, -_CLOSE, _CLOSE)
        # The fourth moments neglect that pairwise means differ from 0: they only scale an error bar.
        m22 = (u2.T @ u2) / n / (square * square.T)
        m31 = ((u2 * u).T @ u) / n / (square * scale)
        m40 = ((u2 * u2).T @ held) / n / square**2
        spare = m22 - r * (m31 + m31.T) + r**2 / 4 * (m40 + 2 * m22 + m40.T)
        variance = spare / (1 - r**2) ** 2
    rows = np.triu_indices(len(names), 1)
    defined = (n[rows] >= MIN_PAIRS) & (scale[rows] > 1e-9) & (variance[rows] > 1e-9)
    z = np.where(defined, np.arctanh(r[rows]), np.nan)
    known = np.where(defined, variance[rows], np.nan).astype(np.float64)
    return Correlations(
        tuple(names), len(values), n[rows].astype(np.int64), z.astype(np.float64).round(6), known.round(6)
    )


def _normal_scores(column: FloatArray) -> FloatArray:
    """Normal scores of the values of one column; ties share the average rank, NaN stays NaN."""
    scores = np.full(len(column), np.nan)
    known = ~np.isnan(column)
    n = int(known.sum())
    if n:
        scores[known] = ndtri((rankdata(column[known]) - 0.5) / n)
    return scores


@dataclass(frozen=True)
class JointChange:
    """The pair of columns whose correlation has changed most surely.

    ``value`` is how far the correlation has moved, in [0, 2]; ``p_value`` is of the largest of all ``n_pairs`` changes
    (Bonferroni); ``spread`` the overdispersion of the pair between windows; ``smallest`` the change of a correlation
    near 0 that would have been found in 80 % of such windows at ``alpha``.
    """

    pair: tuple[str, str]
    reference: float
    current: float
    value: float
    p_value: float
    n_pairs: int
    n_reference: int
    n_current: int
    spread: float
    smallest: float
    also: list[tuple[str, str, float, float]]


def correlation_change(
    reference: Sequence[Correlations],
    current: Correlations,
    *,
    history: Sequence[Correlations] = (),
    alpha: float = 0.001,
) -> JointChange | None:
    """Has any pairwise correlation changed since the baseline?

    For each pair t = (z − z₀) / √(φ v (1/n + 1/n₀)), with z₀ the mean over the baseline's windows weighted by rows,
    ``v`` the variance by influence, and φ ≥ 1 how much more the baseline's windows scatter than that (each pair's own
    scatter, drawn to that of all pairs); Student's t, Bonferroni over the pairs.

    Parameters
    ----------
    reference
        The baseline's windows, each as :func:`correlations` measured it.
    history
        Windows since then that were fine: where there are more of them, φ is taken from these.  With one window of
        either, φ is 1: rows are taken as independent.
    alpha
        Level for ``smallest`` and for the pairs in ``also``.

    Returns
    -------
    ``None`` where no pair of columns is known on both sides.

    Notes
    -----
    The null hypothesis is that the rank correlation of every pair is what it was.  Changes that leave all pairwise
    rank correlations alone (a parabola, a change among three columns at once) are not seen.

    References
    ----------
    Fisher, "On the probable error of a coefficient of correlation", Metron 1921; Smyth, "Linear models and empirical
    Bayes methods for assessing differential expression", 2004 (the drawn-together variances).
    """
    kept = _table(reference, current.names)
    if kept is None or len(current.names) < 2:
        return None
    usable = (kept.total > 0) & np.isfinite(current.z)
    if not usable.any():
        return None
    past = _table(history, current.names)
    wide = past if past is not None and len(past.z) > len(kept.z) else kept
    spread, freedom = _spread(wide)
    centre, total = kept.centre, kept.total
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(spread * np.maximum(kept.variance, current.variance) * (1 / current.n + 1 / total))
        t = np.where(usable, np.abs(current.z - centre) / error, 0.0)
    n_pairs = int(usable.sum())
    p = np.minimum(1.0, 2 * stdtr(freedom, -t) * n_pairs)
    before, after = np.tanh(centre), np.tanh(current.z)
    names = current.named()
    worst = int(np.argmax(t))
    sure = [place for place in np.argsort(-t) if p[place] <= alpha and place != worst]
    critical = -float(_quantile(freedom, alpha / n_pairs / 2))
    return JointChange(
        pair=names[worst],
        reference=float(before[worst]),
        current=float(after[worst]),
        value=float(abs(after[worst] - before[worst])),
        p_value=max(float(p[worst]), 1e-300),
        n_pairs=n_pairs,
        n_reference=int(total[worst]),
        n_current=int(current.n[worst]),
        spread=float(spread[worst]),
        smallest=math.tanh((critical + 0.84) * float(np.median(error[usable]))),
        also=[(*names[place], float(before[place]), float(after[place])) for place in sure[:5]],
    )


@dataclass(frozen=True, eq=False)
class _Table:
    """Windows side by side: ``z`` and ``weight`` (rows; 0: not known), shape ``(W, P)``, and what they agree on."""

    z: FloatArray
    weight: FloatArray
    total: FloatArray
    centre: FloatArray
    variance: FloatArray


def _table(windows: Sequence[Correlations], names: Sequence[str]) -> _Table | None:
    kept = [window for window in (_aligned(each, names) for each in windows) if window is not None]
    if not kept:
        return None
    z = np.stack([window.z for window in kept])
    weight = np.where(np.isfinite(z), np.stack([window.n for window in kept]), 0).astype(np.float64)
    total = weight.sum(axis=0)
    z = np.nan_to_num(z)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = (weight * z).sum(axis=0) / total
        variance = (weight * np.nan_to_num(np.stack([window.variance for window in kept]))).sum(axis=0) / total
    return _Table(z, weight, total, centre, variance)


def _spread(table: _Table) -> tuple[FloatArray, float]:
    """Overdispersion of each pair between windows, and the degrees of freedom that it stands on."""
    if len(table.z) < 2:
        return np.ones(table.z.shape[1]), math.inf
    with np.errstate(invalid="ignore", divide="ignore"):
        scatter = np.nan_to_num((table.weight * (table.z - table.centre) ** 2).sum(axis=0) / table.variance)
    own = np.maximum(np.count_nonzero(table.weight, axis=0) - 1, 0)
    common = max(1.0, float(scatter.sum() / max(1, own.sum())))
    drawn = (_SHRINK * common + scatter) / (_SHRINK + own)
    return np.maximum(drawn, 1.0), float(_SHRINK + np.median(own))


def _quantile(freedom: float, p: float) -> float:
    return float(ndtri(p)) if math.isinf(freedom) else float(stdtrit(freedom, p))


def _aligned(window: Correlations, names: Sequence[str]) -> Correlations | None:
    """The same window with its columns in the order of ``names``; ``None`` where one of them is unknown."""
    if window.names == tuple(names):
        return window
    if not set(names) <= set(window.names):
        return None
    d = len(window.names)
    place = np.zeros((d, d), dtype=np.int64)
    place[np.triu_indices(d, 1)] = np.arange(d * (d - 1) // 2)
    place += place.T
    order = [window.names.index(name) for name in names]
    first, second = np.triu_indices(len(names), 1)
    taken = place[np.array(order)[first], np.array(order)[second]]
    return Correlations(tuple(names), window.n_rows, window.n[taken], window.z[taken], window.variance[taken])


# --- bytes ------------------------------------------------------------------------------------------


def to_bytes(measured: Correlations) -> bytes:
    """A compact form for the store: about 10 bytes a pair."""
    names = "\0".join(measured.names).encode("utf-8", "surrogatepass")
    numbers = np.concatenate([measured.z, measured.variance]).astype("<f4").tobytes()
    body = struct.pack("<I", len(names)) + names + measured.n.astype("<u4").tobytes() + numbers
    return _HEAD.pack(_MAGIC, 1, len(measured.names), measured.n_rows) + zlib.compress(body, 6)


def from_bytes(blob: bytes) -> Correlations:
    """What :func:`to_bytes` wrote.

    Raises
    ------
    ProfileError
        The bytes are damaged, or were written by a newer version.
    """
    try:
        magic, version, d, n_rows = _HEAD.unpack_from(blob)
        if magic != _MAGIC or version != 1:
            raise ProfileError("cannot read stored correlations: another kind, or of a newer version")
        body = zlib.decompress(blob[_HEAD.size :])
        size = struct.unpack_from("<I", body)[0]
        names = body[4 : 4 + size].decode("utf-8", "surrogatepass").split("\0")
        pairs = d * (d - 1) // 2
        n: Any = np.frombuffer(body, "<u4", pairs, 4 + size)
        numbers: Any = np.frombuffer(body, "<f4", 2 * pairs, 4 + size + 4 * pairs)
    except (struct.error, zlib.error, ValueError, UnicodeDecodeError) as error:
        raise ProfileError("cannot read stored correlations: their bytes are damaged") from error
    wide: npt.NDArray[np.float64] = numbers.astype(np.float64)
    return Correlations(tuple(names), n_rows, n.astype(np.int64), wide[:pairs], wide[pairs:])
