"""Do columns still go together as they did?  The change of every pairwise correlation, tested as one family.

Each column may look as ever while two of them have parted company: nothing that looks at one column at a time can see
that.  Correlations are of normal scores within a window (ranks, put on the normal scale), so a drifted, rescaled or
wild column changes nothing as long as its order relative to the others holds.

Columns may also go together in a way that no correlation shows: one that is far out when another is, in either
direction, or three of which any two are independent (exclusive or).  *Interactions* are means of products of such
shapes of two or three columns; they are measured on the same ranks and tested in the same way.
"""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from detectors.profiles import FloatArray, IntArray, ProfileError

MIN_PAIRS = 50
"""A correlation of fewer rows is not looked at."""
_SHRINK = 20
"""The spread of all pairs together counts as so many windows of each pair."""
_CLOSE = 0.999
"""Correlations beyond this are taken as this: Fisher's z has no end there."""
SHAPED = 16
"""Columns of which interactions are measured, the first ones: 360 of two columns and 560 of three."""
_LEAST = 0.1
"""The variance of a product is taken as at least this: where one column decides another it has none."""
_MAGIC = b"JOIN"
_HEAD = struct.Struct("<4sBHI")


@dataclass(frozen=True, eq=False)
class Interactions:
    """How columns of one window go together beyond correlation: means of products of their shapes.

    With v the ranks of a column on (0, 1), *side* is √2 cos πv and *spread* √2 cos 2πv (large at both ends), each of
    mean 0 and variance 1 over the rows: under independence all products have mean 0 and variance 1, so that a mean is
    read as a correlation is.

    Parameters
    ----------
    names
        The columns, length ``d``.
    n, z, variance
        Rows, mean and variance of each product, shape ``(K,)`` in the order of :meth:`named`; NaN where not defined.
    """

    names: tuple[str, ...]
    n: IntArray
    z: FloatArray
    variance: FloatArray

    def named(self) -> list[tuple[str, ...]]:
        """The columns of each product: all pairs three times (side by spread, spread by side, spread by spread), then
        all triples of sides."""
        pairs = list(itertools.combinations(self.names, 2))
        return [*pairs, *pairs, *pairs, *itertools.combinations(self.names, 3)]


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
    shapes
        How the first columns go together beyond correlation.
    """

    names: tuple[str, ...]
    n_rows: int
    n: IntArray
    z: FloatArray
    variance: FloatArray
    shapes: Interactions | None = None

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
        tuple(names),
        len(values),
        n[rows].astype(np.int64),
        z.astype(np.float64).round(6),
        known.round(6),
        interactions(names[:SHAPED], values[:, :SHAPED]),
    )


def interactions(names: Sequence[str], values: FloatArray) -> Interactions:
    """Measure how some columns go together beyond correlation; ``values`` of shape ``(n, d)``, NaN for missing."""
    held = (~np.isnan(values)).astype(np.float64)
    side, spread = (np.column_stack([_shape(column, turns) for column in values.T]) for turns in (1, 2))
    first, second = np.triu_indices(len(names), 1)
    shaped = ((side, spread), (spread, side), (spread, spread))
    parts = [_moments(one, other, (held, held), (first, second)) for one, other in shaped]
    third = np.nonzero(np.arange(len(names)) > second[:, np.newaxis])
    twice, both = side[:, first] * side[:, second], held[:, first] * held[:, second]
    parts.append(_moments(twice, side, (both, held), third))
    n, z, variance = (np.concatenate(told) for told in zip(*parts, strict=True))
    return Interactions(tuple(names), n.astype(np.int64), z.round(6), variance.round(6))


def _shape(column: FloatArray, turns: int) -> FloatArray:
    """√2 cos of the ranks on (0, 1), of mean 0 and variance 1; 0 where missing, or where there is no variance."""
    known = ~np.isnan(column)
    shape = np.zeros(len(column))
    if known.sum() < 2:
        return shape
    waves = np.cos(turns * np.pi * (_ranks(column[known]) - 0.5) / known.sum())
    deviation = float(waves.std())
    shape[known] = (waves - waves.mean()) / deviation if deviation > 1e-6 else 0.0
    return shape


def _moments(
    one: FloatArray,
    other: FloatArray,
    held: tuple[FloatArray, FloatArray],
    taken: tuple[npt.NDArray[np.intp], ...],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rows, mean and variance of the products of columns of two tables, of the pairs that are taken."""
    n = (held[0].T @ held[1])[taken]
    enough = np.maximum(n, 1)
    mean, square = (one.T @ other)[taken] / enough, ((one**2).T @ other**2)[taken] / enough
    defined = (n >= MIN_PAIRS) & (square > 1e-9)
    return n, np.where(defined, mean, np.nan), np.where(defined, np.maximum(square - mean**2, _LEAST), np.nan)


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1; ties share the average.  SciPy's would bring 50 MB of ``scipy.stats`` with it."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatArray = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _normal_scores(column: FloatArray) -> FloatArray:
    """Normal scores of the values of one column; ties share the average rank, NaN stays NaN."""
    scores = np.full(len(column), np.nan)
    known = ~np.isnan(column)
    n = int(known.sum())
    if n:
        scores[known] = scipy.special.ndtri((_ranks(column[known]) - 0.5) / n)
    return scores


@dataclass(frozen=True)
class JointChange:
    """The columns that most surely go together in another way than before: a pair, or three for an interaction.

    ``value`` is how far the correlation has moved, in [0, 2]; ``p_value`` is of the largest of all ``n_pairs`` changes
    (Bonferroni); ``spread`` the overdispersion of the pair between windows; ``smallest`` the change of a correlation
    near 0 that would have been found in 80 % of such windows at ``alpha``.
    """

    pair: tuple[str, ...]
    reference: float
    current: float
    value: float
    p_value: float
    n_pairs: int
    n_reference: int
    n_current: int
    spread: float
    smallest: float
    also: list[tuple[tuple[str, ...], float, float]]


@dataclass(frozen=True, eq=False)
class Usual:
    """What some windows agree on, and how far they scatter about it: as small for a thousand windows as for one."""

    n_windows: int
    pairs: _Agreed | None
    shapes: _Agreed | None

    def __len__(self) -> int:
        return self.n_windows


def usual(windows: Iterable[Correlations], like: Correlations) -> Usual:
    """Sum up some windows, as far as they know the columns of the window ``like``.

    Windows that lack one of its columns do not count; nor, for the interactions, those with other ones.
    """
    pairs, shapes, n_windows = [], [], 0
    for window in windows:
        n_windows += 1
        found = _aligned(window, like.names)
        if found is not None:
            pairs.append(found)
        if window.shapes is not None and like.shapes is not None and window.shapes.names == like.shapes.names:
            shapes.append(window.shapes)
    return Usual(n_windows, _agreed(pairs), _agreed(shapes))


def correlation_change(
    reference: Sequence[Correlations] | Usual,
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
        The baseline's windows, each as :func:`correlations` measured it, or all of them summed up.
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
    rank correlations alone (a parabola, a change among three columns at once) are seen by :func:`interaction_change`.

    References
    ----------
    Fisher, "On the probable error of a coefficient of correlation", Metron 1921; Smyth, "Linear models and empirical
    Bayes methods for assessing differential expression", 2004 (the drawn-together variances).
    """
    if len(current.names) < 2:
        return None
    before, since = (_summed_up(side, current).pairs for side in (reference, history))
    return _change(before, current, history=since, alpha=alpha, scale=np.tanh)


def interaction_change(
    reference: Sequence[Correlations] | Usual,
    current: Correlations,
    *,
    history: Sequence[Correlations] = (),
    alpha: float = 0.001,
) -> JointChange | None:
    """Has any interaction of two or three columns changed since the baseline?

    As :func:`correlation_change`, of the means of products (:class:`Interactions`): Student's t of the largest change
    with the scatter of the baseline's windows, Bonferroni over all products.

    Returns
    -------
    ``None`` where there is nothing to compare; windows with other columns than the current one do not count.

    Notes
    -----
    The null hypothesis is that none of the means has changed: what moves only one column, or keeps its ranks, leaves
    them alone.  A strong dependence that tightens or loosens moves correlations and interactions alike.

    References
    ----------
    Neyman, "Smooth test for goodness of fit", 1937; Kallenberg & Ledwina, "Data-driven rank tests for independence",
    JASA 1999 (the same products as a test of independence).
    """
    if current.shapes is None:
        return None
    before, since = (_summed_up(side, current).shapes for side in (reference, history))
    return _change(before, current.shapes, history=since, alpha=alpha, scale=np.asarray)


def _summed_up(windows: Sequence[Correlations] | Usual, like: Correlations) -> Usual:
    return windows if isinstance(windows, Usual) else usual(windows, like)


def _change(
    kept: _Agreed | None,
    current: Correlations | Interactions,
    *,
    history: _Agreed | None,
    alpha: float,
    scale: Callable[[FloatArray], FloatArray],
) -> JointChange | None:
    """The largest of all changes; ``scale`` turns a measured number into one between −1 and 1."""
    if kept is None:
        return None
    usable = (kept.total > 0) & np.isfinite(current.z)
    if not usable.any():
        return None
    wide = history if history is not None and history.n_windows > kept.n_windows else kept
    spread, freedom = _spread(wide)
    centre, total = kept.centre, kept.total
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(spread * np.maximum(kept.variance, current.variance) * (1 / current.n + 1 / total))
        t = np.where(usable, np.abs(current.z - centre) / error, 0.0)
    n_tests = int(usable.sum())
    p = np.minimum(1.0, 2 * scipy.special.stdtr(freedom, -t) * n_tests)
    before, after = scale(centre), scale(current.z)
    names = current.named()
    worst = int(np.argmax(t))
    sure = [place for place in np.argsort(-t) if p[place] <= alpha and place != worst]
    critical = -float(_quantile(freedom, alpha / n_tests / 2))
    typical = np.array([(critical + 0.84) * float(np.median(error[usable]))])
    return JointChange(
        pair=names[worst],
        reference=float(before[worst]),
        current=float(after[worst]),
        value=float(abs(after[worst] - before[worst])),
        p_value=max(float(p[worst]), 1e-300),
        n_pairs=n_tests,
        n_reference=int(total[worst]),
        n_current=int(current.n[worst]),
        spread=float(spread[worst]),
        smallest=float(scale(typical)[0]),
        also=[(names[place], float(before[place]), float(after[place])) for place in sure[:5]],
    )


@dataclass(frozen=True, eq=False)
class _Agreed:
    """What windows agree on, each array of shape ``(P,)``.

    ``total`` counts rows, ``centre`` is the mean over them; ``variance`` as of one row, ``scatter`` the sum of the
    squared deviations of windows in its units, and ``known`` the windows in which a pair is known.
    """

    n_windows: int
    total: FloatArray
    centre: FloatArray
    variance: FloatArray
    scatter: FloatArray
    known: IntArray


def _agreed(windows: Sequence[Correlations] | Sequence[Interactions]) -> _Agreed | None:
    if not windows:
        return None
    z = np.stack([window.z for window in windows])
    weight = np.where(np.isfinite(z), np.stack([window.n for window in windows]), 0).astype(np.float64)
    total = weight.sum(axis=0)
    z = np.nan_to_num(z)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = (weight * z).sum(axis=0) / total
        variance = (weight * np.nan_to_num(np.stack([window.variance for window in windows]))).sum(axis=0) / total
        scatter = np.nan_to_num((weight * (z - centre) ** 2).sum(axis=0) / variance)
    return _Agreed(len(windows), total, centre, variance, scatter, np.count_nonzero(weight, axis=0))


def _spread(kept: _Agreed) -> tuple[FloatArray, float]:
    """Overdispersion of each pair between windows, and the degrees of freedom that it stands on."""
    if kept.n_windows < 2:
        return np.ones(len(kept.total)), math.inf
    own = np.maximum(kept.known - 1, 0)
    common = max(1.0, float(kept.scatter.sum() / max(1, own.sum())))
    drawn = (_SHRINK * common + kept.scatter) / (_SHRINK + own)
    return np.maximum(drawn, 1.0), float(_SHRINK + np.median(own))


def _quantile(freedom: float, p: float) -> float:
    return float(scipy.special.ndtri(p)) if math.isinf(freedom) else float(scipy.special.stdtrit(freedom, p))


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
    """A compact form for the store: about 10 bytes a pair or product."""
    names = "\0".join(measured.names).encode("utf-8", "surrogatepass")
    parts: list[Correlations | Interactions] = [measured]
    parts += [] if measured.shapes is None else [measured.shapes]
    n = np.concatenate([part.n for part in parts]).astype("<u4").tobytes()
    z, variance = (np.concatenate([getattr(part, name) for part in parts]).astype("<f4") for name in ("z", "variance"))
    body = struct.pack("<I", len(names)) + names + n + z.tobytes() + variance.tobytes()
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
        pairs, held = d * (d - 1) // 2, (len(body) - 4 - size) // 12
        n: Any = np.frombuffer(body, "<u4", held, 4 + size)
        numbers: Any = np.frombuffer(body, "<f4", 2 * held, 4 + size + 4 * held)
    except (struct.error, zlib.error, ValueError, UnicodeDecodeError) as error:
        raise ProfileError("cannot read stored correlations: their bytes are damaged") from error
    counts: IntArray = n.astype(np.int64)
    z, variance = numbers.astype(np.float64).reshape(2, held)
    shapes = Interactions(tuple(names[:SHAPED]), counts[pairs:], z[pairs:], variance[pairs:]) if held > pairs else None
    if held < pairs or (shapes is not None and len(shapes.named()) != held - pairs):
        raise ProfileError("cannot read stored correlations: their bytes are damaged")
    return Correlations(tuple(names), n_rows, counts[:pairs], z[:pairs], variance[:pairs], shapes)
