"""Drift-free streams of bin counts with the dependence that real logs have, seeded."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter
from scipy.special import ndtri

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


def autoregressive(phi: float) -> Stream:
    """A Gaussian AR(1) in row order, in its own deciles; it goes on from window to window."""

    def stream(rng: np.random.Generator, windows: int, rows: int) -> Counts:
        counts = np.empty((windows, BINS), dtype=np.int64)
        state = rng.standard_normal()
        for window in range(windows):
            noise = rng.standard_normal(rows) * math.sqrt(1 - phi * phi)
            values, _ = lfilter([1.0], [1.0, -phi], noise, zi=[phi * state])
            state = values[-1]
            counts[window] = np.bincount(np.searchsorted(_CUTS, values), minlength=BINS)
        return _no_missing(counts)

    return stream


def entities(rows_each: int) -> Stream:
    """Every entity has so many equal rows."""

    def stream(rng: np.random.Generator, windows: int, rows: int) -> Counts:
        whole = rng.multinomial(rows // rows_each, np.full(BINS, 1 / BINS), size=windows) * rows_each
        return _no_missing(whole)

    return stream


def weekly(size: float) -> Stream:
    """Independent rows whose level moves by ``size`` standard deviations from weekdays to the weekend."""

    def stream(rng: np.random.Generator, windows: int, rows: int) -> Counts:
        start = int(rng.integers(7))
        counts = [
            np.diff(
                np.concatenate(
                    [
                        [0],
                        np.sort(rng.standard_normal(rows) + size * ((start + day) % 7 >= 5)).searchsorted(_CUTS),
                        [rows],
                    ]
                )
            )
            for day in range(windows)
        ]
        return _no_missing(np.array(counts))

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
