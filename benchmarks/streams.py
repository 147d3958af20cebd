"""Drift-free streams of bin counts with the dependence that real logs have, seeded."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

Counts = npt.NDArray[np.int64]
Stream = Callable[[np.random.Generator, int, int], Counts]
"""``(rng, windows, rows)`` → counts of successive windows, ``(windows, B)``; the last bin is of missing values."""

BINS = 10
_CUTS = ndtri(np.arange(1, BINS) / BINS)


def of_shares(shares: npt.ArrayLike) -> Stream:
    """Independent rows with these shares of bins; the last bin, of missing values, stays empty."""
    p = np.asarray(shares, dtype=float)

    def stream(rng: np.random.Generator, windows: int, rows: int) -> Counts:
        return _no_missing(rng.multinomial(rows, p, size=windows))

    return stream


BLOCK = 1000
"""Rows of an AR(1) that are drawn in a row; longer windows are made of such blocks, drawn from a pool of them."""
_POOL = 20_000


def autoregressive(phi: float) -> Stream:
    """A Gaussian AR(1) in row order, in its own deciles; up to ``BLOCK`` rows it goes on from window to window."""

    def stream(rng: np.random.Generator, windows: int, rows: int) -> Counts:
        if rows <= BLOCK:
            return _no_missing(_successive(rng, phi, windows, rows))
        blocks, rest = divmod(rows, BLOCK)
        pool = _pool(phi)
        counts = np.stack([pool[rng.integers(_POOL, size=blocks)].sum(axis=0) for _ in range(windows)])
        return _no_missing(counts + (_successive(rng, phi, windows, rest) if rest else 0))

    return stream


def _successive(rng: np.random.Generator, phi: float, windows: int, rows: int) -> Counts:
    noise = rng.standard_normal(windows * rows) * math.sqrt(1 - phi * phi)
    values, _ = lfilter([1.0], [1.0, -phi], noise, zi=[phi * rng.standard_normal()])
    place = np.searchsorted(_CUTS, values) + np.repeat(np.arange(windows) * BINS, rows)
    return np.bincount(place, minlength=windows * BINS).reshape(windows, BINS)


@cache
def _pool(phi: float) -> Counts:
    return np.concatenate([_successive(np.random.default_rng([7, k]), phi, _POOL // 20, BLOCK) for k in range(20)])


def entities(rows_each: int) -> Stream:
    """Every entity has so many equal rows."""

    def stream(rng: np.random.Generator, windows: int, rows: int) -> Counts:
        whole = rng.multinomial(rows // rows_each, np.full(BINS, 1 / BINS), size=windows) * rows_each
        return _no_missing(whole)

    return stream


def weekly(size: float) -> Stream:
    """Independent rows whose level is ``size`` standard deviations higher on the 6th and 7th day of seven."""
    working, weekend = (np.diff(ndtr(np.concatenate([[-np.inf], _CUTS - level, [np.inf]]))) for level in (0.0, size))

    def stream(rng: np.random.Generator, windows: int, rows: int) -> Counts:
        start = int(rng.integers(7))
        shares = [weekend if (start + day) % 7 >= 5 else working for day in range(windows)]
        return _no_missing(np.stack([rng.multinomial(rows, p) for p in shares]))

    return stream


def _no_missing(counts: Counts) -> Counts:
    return np.concatenate([counts, np.zeros((len(counts), 1), dtype=np.int64)], axis=1)


ZIPF = 1 / np.arange(1, 1001) ** 1.1
KINDS: dict[str, Stream] = {
    "independent": of_shares(np.full(BINS, 1 / BINS)),
    "AR(1) 0.5": autoregressive(0.5),
    "AR(1) 0.9": autoregressive(0.9),
    "10 rows per entity": entities(10),
    "weekly season": weekly(0.3),
    "heavy ties": of_shares([0.55, 0.2, 0.1, 0.05, 0.05, 0.03, 0.015, 0.005]),
    "zero inflation": of_shares([0.97, *[0.003] * 10]),
    "1000 categories": of_shares(ZIPF / ZIPF.sum()),
}
