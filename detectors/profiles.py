"""A profile is the small, mergeable set of counts that one window of one column leaves behind.

Everything the service says is a pure function of profiles: they are counted over *edges* that are frozen in the
baseline, so two profiles of the same column always line up cell by cell, and adding them gives the profile of the
union of their rows.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MAX_HEAVY_UNSEEN = 64
"""How many never-seen categories a profile remembers by name."""


class ProfileError(ValueError):
    """Two things that do not belong together were compared or merged."""


@dataclass(frozen=True, eq=False)
class NumericSpec:
    """Where the cells of a numeric column lie; frozen with the baseline.

    Parameters
    ----------
    edges
        Strictly increasing finite values, shape ``(E,)``, ``E >= 1``.  They cut the line into ``2 E + 1`` cells, in
        order: below ``edges[0]``, exactly on ``edges[0]``, between ``edges[0]`` and ``edges[1]``, … above
        ``edges[-1]``.  Cell ``2 i + 1`` is "on edge i", cell ``2 i`` is the open interval before it.
    slack
        Half-widths, shape ``(E,)``, ``>= 0``: a value within ``slack[i]`` of ``edges[i]`` counts as on it.  Non-zero
        only for heavy reference values (atoms), so that a float32 round trip does not move them off their edge.
    bins
        PSI bins as increasing cell offsets, shape ``(B + 1,)``, from ``0`` to ``2 E + 1``: bin ``b`` is the cells
        ``bins[b] … bins[b + 1] - 1``.
    exact
        All distinct reference values are edges, so KS is exact and not bounded.
    decision
        Edges at which a decision is taken (a score's threshold); they have no slack, and no thinning drops them.
    """

    edges: FloatArray
    slack: FloatArray
    bins: IntArray
    exact: bool = False
    decision: tuple[float, ...] = ()

    @property
    def n_cells(self) -> int:
        return 2 * len(self.edges) + 1

    @cached_property
    def heavy(self) -> IntArray:
        """Places of the edges with slack."""
        return np.flatnonzero(self.slack)


def no_slack(n_edges: int) -> FloatArray:
    """No slack at any edge; zeros that take no memory."""
    return np.broadcast_to(np.float64(0.0), n_edges)


@dataclass(frozen=True, eq=False)
class CategoricalSpec:
    """The categories a column had in the baseline, heaviest first; all others count as *unseen*."""

    categories: tuple[str, ...]


ColumnSpec = NumericSpec | CategoricalSpec


@dataclass(frozen=True, eq=False)
class NumericProfile:
    """Counts of one numeric column over the cells of its :class:`NumericSpec`.

    ``cells`` has shape ``(2 E + 1,)`` and sums to ``n - missing``; plus and minus infinity are in the outer cells and
    counted apart.  ``missing`` is NULL and NaN together.  ``mean`` and ``m2`` (sum of squared deviations from the mean,
    merged by Chan's formula) are of the finite values; ``low_sum`` and ``high_sum`` are sums of the finite values in
    the two outer cells.  ``minimum`` / ``maximum`` are of finite values; all of these are NaN when there are none.

    ``kept`` is ``None`` for a profile as it was counted.  For one that was thinned for the store (see :func:`thin`) it
    holds the places of the edges whose counts are still exact; what lies between two of them is in one cell there.
    """

    n: int
    missing: int
    pos_inf: int
    neg_inf: int
    cells: IntArray
    minimum: float
    maximum: float
    mean: float
    m2: float
    low_sum: float
    high_sum: float
    kept: IntArray | None = None

    @property
    def n_finite(self) -> int:
        return self.n - self.missing - self.pos_inf - self.neg_inf


@dataclass(frozen=True, eq=False)
class CategoricalProfile:
    """Counts of the baseline's categories, of never-seen values, and of missing ones.

    ``counts`` has shape ``(K,)``; ``counts.sum() + unseen + missing == n``.  ``heavy_unseen`` maps the heaviest new
    values to a lower bound of their count (space-saving summary of bounded size).
    """

    n: int
    missing: int
    unseen: int
    counts: IntArray
    heavy_unseen: dict[str, int] = field(default_factory=dict)


ColumnProfile = NumericProfile | CategoricalProfile


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a baseline: its spec, and the reference profile counted over it."""

    name: str
    spec: ColumnSpec
    reference: ColumnProfile

    def with_reference(self, reference: ColumnProfile) -> Column:
        return replace(self, reference=reference)


def empty(spec: ColumnSpec) -> ColumnProfile:
    """The profile of no rows: the neutral element of :func:`merge`."""
    if isinstance(spec, NumericSpec):
        cells = np.zeros(spec.n_cells, dtype=np.int64)
        nan = math.nan
        return NumericProfile(0, 0, 0, 0, cells, nan, nan, nan, nan, 0.0, 0.0)
    return CategoricalProfile(0, 0, 0, np.zeros(len(spec.categories), dtype=np.int64))


def whole(parts: npt.ArrayLike) -> IntArray:
    """Whole numbers that add up to the same as ``parts``, each cell off by less than one."""
    cells: IntArray = np.diff(np.rint(np.concatenate([[0.0], np.cumsum(parts)])).astype(np.int64))
    return cells


# --- adding up ------------------------------------------------------------------------------------


def merge(a: ColumnProfile, b: ColumnProfile) -> ColumnProfile:
    """The profile of the rows of ``a`` and of ``b`` together.

    Counts add up exactly, so the order of merging does not show in them; ``mean``, ``m2`` and the sums add up to
    rounding.

    Raises
    ------
    ProfileError
        The two were counted over different specs (another kind, or another number of cells).

    Notes
    -----
    ``heavy_unseen`` keeps the ``MAX_HEAVY_UNSEEN`` heaviest of both; its counts stay lower bounds.  It is independent
    of the order of merging while no more than that many new values exist.

    References
    ----------
    Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """
    return merge_all((a, b))


def merge_all(profiles: Iterable[ColumnProfile]) -> ColumnProfile:
    """The profile of the rows of all ``profiles`` together; as :func:`merge`, in one go.

    Raises
    ------
    ProfileError
        There is nothing to merge, or the profiles were counted over different specs.
    """
    parts = list(profiles)
    if not parts:
        raise ProfileError("nothing to merge: give at least one profile, or use empty(spec)")
    if len(parts) == 1:
        return parts[0]
    numeric = [part for part in parts if isinstance(part, NumericProfile)]
    categorical = [part for part in parts if isinstance(part, CategoricalProfile)]
    if numeric and categorical:
        raise ProfileError("cannot merge a numeric with a categorical profile: the column's type has changed")
    sizes = {len(part.cells) for part in numeric} | {len(part.counts) for part in categorical}
    if len(sizes) > 1:
        raise ProfileError(f"cannot merge profiles over different cells ({sorted(sizes)}): they are of other baselines")
    return _merge_numeric(numeric) if numeric else _merge_categorical(categorical)


def _merge_numeric(parts: list[NumericProfile]) -> NumericProfile:
    cells = parts[0].cells.copy()
    for part in parts[1:]:
        cells += part.cells
    n_finite, mean, m2 = 0, math.nan, math.nan
    for part in parts:
        n_finite, mean, m2 = merge_moments((n_finite, mean, m2), (part.n_finite, part.mean, part.m2))
    filled = [part for part in parts if part.n_finite]
    return NumericProfile(
        n=sum(part.n for part in parts),
        missing=sum(part.missing for part in parts),
        pos_inf=sum(part.pos_inf for part in parts),
        neg_inf=sum(part.neg_inf for part in parts),
        cells=cells,
        minimum=min((part.minimum for part in filled), default=math.nan),
        maximum=max((part.maximum for part in filled), default=math.nan),
        mean=mean,
        m2=m2,
        low_sum=sum(part.low_sum for part in parts),
        high_sum=sum(part.high_sum for part in parts),
        kept=common_edges(parts),
    )


def _merge_categorical(parts: list[CategoricalProfile]) -> CategoricalProfile:
    heavy: Counter[str] = Counter()
    for part in parts:
        heavy.update(part.heavy_unseen)
    return CategoricalProfile(
        n=sum(part.n for part in parts),
        missing=sum(part.missing for part in parts),
        unseen=sum(part.unseen for part in parts),
        counts=np.sum([part.counts for part in parts], axis=0, dtype=np.int64),
        heavy_unseen=heaviest(heavy),
    )


def merge_moments(a: tuple[int, float, float], b: tuple[int, float, float]) -> tuple[int, float, float]:
    """Count, mean and sum of squared deviations of two samples together (Chan's formula, on Python floats).

    Values near the largest float overflow to an infinite ``m2``: that is kept, and read as "not known".
    """
    if not a[0] or not b[0]:
        return b if b[0] else a
    n = a[0] + b[0]
    delta = b[1] - a[1]
    mean = a[1] + delta * (b[0] / n) if math.isfinite(delta) else a[1] * (a[0] / n) + b[1] * (b[0] / n)
    return n, mean, a[2] + b[2] + delta * delta * (a[0] * (b[0] / n))


def heaviest(counts: dict[str, int]) -> dict[str, int]:
    """The ``MAX_HEAVY_UNSEEN`` most frequent values, heaviest first; equal counts in the order of the values."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_HEAVY_UNSEEN])


# --- fewer cells ----------------------------------------------------------------------------------


def coarsen(spec: NumericSpec, profile: NumericProfile, max_edges: int = 512) -> tuple[NumericSpec, NumericProfile]:
    """A spec with at most about ``max_edges`` of the edges, and ``profile`` over it: for profiles that are kept.

    Edges that a PSI bin begins or ends at, decision edges, heavy values and the two outermost edges always stay; the
    others are thinned evenly by the mass of ``profile``.  PSI, Jensen–Shannon and χ² are therefore the same from either
    spec; KS becomes a bound (see its ``error_bound``).

    Parameters
    ----------
    profile
        The *reference* profile: all windows of a column must be thinned alike, see :func:`project`.
    max_edges
        How many to keep; more are kept when the edges that must stay are more.
    """
    kept = kept_edges(spec, profile, max_edges=max_edges)
    if len(kept) == len(spec.edges):
        return spec, profile
    coarse = restrict(spec, kept)
    return coarse, project(spec, profile, onto=coarse)


def kept_edges(spec: NumericSpec, reference: NumericProfile, *, max_edges: int) -> IntArray:
    """Places of the edges that stay when about ``max_edges`` may; see :func:`coarsen`."""
    n_edges = len(spec.edges)
    if n_edges <= max_edges:
        return np.arange(n_edges)
    keep = np.zeros(n_edges, dtype=bool)
    keep[[0, -1]] = True
    keep[(spec.bins[1:-1] - 1) // 2] = True
    keep |= spec.slack > 0
    keep |= np.isin(spec.edges, spec.decision)
    spare = max_edges - int(keep.sum())
    if spare > 0:
        mass = np.cumsum(reference.cells)[1::2]
        if mass[-1] > mass[0]:
            ranks = np.linspace(mass[0], mass[-1], spare + 2)[1:-1]
            keep[np.searchsorted(mass, ranks)] = True
    return np.flatnonzero(keep)


def restrict(spec: NumericSpec, kept: IntArray) -> NumericSpec:
    """The spec with only the edges at ``kept``, which include the outermost ones and those of the PSI bins."""
    inner = spec.bins[1:-1]
    place = np.searchsorted(kept, (inner - 1) // 2)
    bins = np.concatenate([[0], 2 * place + 1 + (inner - 1) % 2, [2 * len(kept) + 1]])
    return replace(spec, edges=spec.edges[kept], slack=spec.slack[kept], bins=bins, exact=False)


def thin(profile: NumericProfile, kept: IntArray) -> NumericProfile:
    """``profile`` with exact counts at the edges at ``kept`` only, for the store; still over the cells of its spec.

    Rows between two kept edges are put into the cell in their middle.  Comparisons look at the kept edges alone, so
    that thinning widens the bound on KS and moves nothing else; thinning twice keeps what both keep.
    """
    both = kept if profile.kept is None else np.intersect1d(kept, profile.kept)
    if len(both) == len(profile.cells) // 2:
        return profile
    on, between = kept_cells(both, len(profile.cells))
    sums = np.add.reduceat(profile.cells, np.sort(np.concatenate([[0], on, on + 1])))
    cells = np.zeros_like(profile.cells)
    cells[on], cells[between] = sums[1::2], sums[0::2]
    return replace(profile, cells=cells, kept=both)


def _middles(starts: IntArray, ends: IntArray) -> IntArray:
    """The even cell in the middle of each range ``[start, end)``, whose ends are even and odd cells."""
    return starts + (ends - 1 - starts) // 4 * 2


def common_edges(profiles: Iterable[NumericProfile]) -> IntArray | None:
    """Places of the edges that no profile has lost by thinning; ``None`` where all have all."""
    common: IntArray | None = None
    for profile in profiles:
        if profile.kept is not None and profile.kept is not common:
            common = profile.kept if common is None else np.intersect1d(common, profile.kept, assume_unique=True)
    return common


def project(spec: NumericSpec, profile: NumericProfile, *, onto: NumericSpec) -> NumericProfile:
    """``profile``, counted over ``spec``, as it would have been counted over the coarser spec ``onto``.

    Raises
    ------
    ProfileError
        ``onto`` has an edge that ``spec`` does not have, or other outermost edges (tail sums would be wrong).
    """
    kept = np.searchsorted(spec.edges, onto.edges)
    fits = kept[-1] < len(spec.edges) and np.array_equal(spec.edges[kept], onto.edges)
    if not fits or kept[0] != 0 or kept[-1] != len(spec.edges) - 1:
        raise ProfileError("cannot project a profile onto edges that are not a thinning of its own")
    starts = np.zeros(onto.n_cells, dtype=np.int64)
    starts[1::2] = 2 * kept + 1
    starts[2::2] = 2 * kept + 2
    return replace(profile, cells=np.add.reduceat(profile.cells, starts), kept=None)


# --- bytes ----------------------------------------------------------------------------------------

_NUMERIC, _THINNED, _CATEGORICAL, _NUMERIC_SPEC, _CATEGORICAL_SPEC = b"N", b"T", b"C", b"n", b"c"
_VERSION = 1
_NUMERIC_HEAD = struct.Struct("<4Q6d")
_COUNT = struct.Struct("<Q")
_PLANES = struct.Struct("<QB")


def to_bytes(profile: ColumnProfile) -> bytes:
    """A compact form of a profile for the store: kind, version, then deflated integers and floats.

    Counts are written as planes of bytes (all low bytes, then all next ones …), those of edges apart from those of
    intervals: neighbours in a plane are alike, which deflates 2–3 times better than the integers as they are.
    """
    if isinstance(profile, NumericProfile):
        head = _NUMERIC_HEAD.pack(
            profile.n, profile.missing, profile.pos_inf, profile.neg_inf, profile.minimum, profile.maximum,
            profile.mean, profile.m2, profile.low_sum, profile.high_sum,
        )  # fmt: skip
        if profile.kept is None:
            return _seal(_NUMERIC, head + _planes(profile.cells[1::2]) + _planes(profile.cells[0::2]))
        on, between = kept_cells(profile.kept, len(profile.cells))
        body = _planes(np.diff(profile.kept, prepend=0)) + _planes(profile.cells[on]) + _planes(profile.cells[between])
        return _seal(_THINNED, head + _COUNT.pack(len(profile.cells)) + body)
    heavy = profile.heavy_unseen
    body = _planes(np.array([profile.n, profile.missing, profile.unseen, *heavy.values()], dtype=np.int64))
    return _seal(_CATEGORICAL, body + _planes(profile.counts) + _texts(heavy))


def kept_cells(kept: IntArray, n_cells: int) -> tuple[IntArray, IntArray]:
    """The cells that a thinned profile uses: on its edges, and between them."""
    on = 2 * kept + 1
    return on, _middles(np.concatenate([[0], on + 1]), np.concatenate([on, [n_cells]]))


def from_bytes(blob: bytes) -> ColumnProfile:
    """The profile that :func:`to_bytes` wrote.

    Raises
    ------
    ProfileError
        The bytes are damaged, are no profile, or were written by a newer version.
    """
    kind, reader = _open(blob, _NUMERIC + _THINNED + _CATEGORICAL, "profile")
    try:
        if kind in (_NUMERIC, _THINNED):
            n, missing, pos_inf, neg_inf, low, high, mean, m2, low_sum, high_sum = reader.unpack(_NUMERIC_HEAD)
            cells, kept = _read_thinned(reader) if kind == _THINNED else (_read_cells(reader), None)
            return NumericProfile(
                n, missing, pos_inf, neg_inf, cells, low, high, mean, m2, low_sum, high_sum, kept
            )  # fmt: skip
        (n, missing, unseen, *heavy), counts, names = reader.planes().tolist(), reader.planes(), reader.texts()
        return CategoricalProfile(n, missing, unseen, counts, dict(zip(names, heavy, strict=True)))
    except (struct.error, ValueError, TypeError, IndexError) as error:
        raise ProfileError("cannot read a stored profile: its bytes are damaged") from error


def _read_cells(reader: _Reader) -> IntArray:
    on_edges, between = reader.small_planes(), reader.small_planes()
    cells = np.empty(len(on_edges) + len(between), dtype=np.int64)
    cells[1::2], cells[0::2] = on_edges, between
    return cells


def _read_thinned(reader: _Reader) -> tuple[IntArray, IntArray]:
    cells = np.zeros(reader.unpack(_COUNT)[0], dtype=np.int64)
    kept = np.cumsum(reader.planes())
    on, between = kept_cells(kept, len(cells))
    cells[on], cells[between] = reader.planes(), reader.planes()
    return cells, kept


def spec_to_bytes(spec: ColumnSpec) -> bytes:
    """A compact form of a spec for the store; see :func:`to_bytes`."""
    if isinstance(spec, NumericSpec):
        floats = (np.ascontiguousarray(spec.edges), spec.slack, np.array(spec.decision, dtype=np.float64))
        body = b"".join(_planes(np.asarray(part, dtype=np.float64).view(np.int64)) for part in floats)
        return _seal(_NUMERIC_SPEC, bytes([spec.exact]) + body + _planes(spec.bins))
    return _seal(_CATEGORICAL_SPEC, _texts(spec.categories))


def spec_from_bytes(blob: bytes) -> ColumnSpec:
    """The spec that :func:`spec_to_bytes` wrote.

    Raises
    ------
    ProfileError
        The bytes are damaged, are no spec, or were written by a newer version.
    """
    kind, reader = _open(blob, _NUMERIC_SPEC + _CATEGORICAL_SPEC, "spec")
    try:
        if kind == _CATEGORICAL_SPEC:
            return CategoricalSpec(tuple(reader.texts()))
        exact = bool(reader.take(1)[0])
        edges, slack, decision = (reader.planes().view(np.float64) for _ in range(3))
        slack = slack if slack.any() else no_slack(len(edges))
        return NumericSpec(edges, slack, reader.planes(), exact=exact, decision=tuple(decision.tolist()))
    except (struct.error, ValueError, TypeError, IndexError) as error:
        raise ProfileError("cannot read a stored spec: its bytes are damaged") from error


def _seal(kind: bytes, body: bytes) -> bytes:
    return kind + bytes([_VERSION]) + zlib.compress(body, 6)


def _open(blob: bytes, kinds: bytes, noun: str) -> tuple[bytes, _Reader]:
    kind = bytes(blob[:1])
    if len(blob) < 2 or kind not in kinds:
        raise ProfileError(f"cannot read a stored {noun}: these bytes are not one")
    if blob[1] != _VERSION:
        raise ProfileError(f"cannot read a stored {noun} of format {blob[1]}: this version knows format {_VERSION}")
    try:
        return kind, _Reader(zlib.decompress(memoryview(blob)[2:]))
    except zlib.error as error:
        raise ProfileError(f"cannot read a stored {noun}: its bytes are damaged") from error


def _planes(numbers: IntArray) -> bytes:
    """Length, number of planes, planes: byte ``k`` of each integer is in plane ``k``; planes of zeros are left out."""
    table = np.ascontiguousarray(numbers, dtype="<i8").view(np.uint8).reshape(-1, 8)
    filled = np.flatnonzero(table.any(axis=0))
    n_planes = int(filled[-1]) + 1 if len(filled) else 0
    return _COUNT.pack(len(table)) + bytes([n_planes]) + table[:, :n_planes].T.tobytes()


def _texts(texts: Iterable[str]) -> bytes:
    """Lengths, then UTF-8; lone surrogates (broken text in a log) survive."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return _planes(np.array([len(text) for text in encoded], dtype=np.int64)) + b"".join(encoded)


class _Reader:
    """Reads what ``_planes`` and ``_texts`` wrote, from front to back; ``ValueError`` where bytes are lacking."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise ValueError("the bytes end too early")
        self._at += size
        return part

    def unpack(self, shape: struct.Struct) -> tuple[Any, ...]:
        told = shape.unpack_from(self._data, self._at)
        self._at += shape.size
        return told

    def planes(self) -> IntArray:
        return np.asarray(self.small_planes(), dtype=np.int64)

    def small_planes(self) -> npt.NDArray[Any]:
        """The integers in as few bytes as hold them: for who copies them anyway."""
        length, n_planes = self.unpack(_PLANES)
        data = np.frombuffer(self._data, dtype=np.uint8, count=length * n_planes, offset=self._at)
        self._at += length * n_planes
        if n_planes == 1:
            return data
        data = data.reshape(n_planes, length)
        if n_planes == 2:
            return np.asarray(data[0] + (data[1].astype(np.uint16) << np.uint16(8)))
        numbers = np.zeros(length, dtype=np.uint64)
        for place in range(n_planes):
            numbers |= data[place].astype(np.uint64) << np.uint64(8 * place)
        return numbers.view(np.int64)

    def texts(self) -> list[str]:
        return [self.take(size).decode("utf-8", "surrogatepass") for size in self.planes().tolist()]
