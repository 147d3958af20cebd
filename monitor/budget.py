"""How much evidence a page needs: the false pages that a user accepts, spread over everything that is looked at.

``alerts.false_pages: 1 per 90d`` says how many pages without cause a model may send.  Each check has a share of that,
each test of a check the same part of the share, each look its part of the period.  A page needs the alert in
``confirm`` windows in a row, so a single window may be judged at a milder level than the page; by how much depends on
how alike successive windows are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache

import numpy as np
import scipy

from detectors.profiles import FloatArray

SHARES = {
    "feature_drift": 0.35,
    "joint": 0.05,
    "accumulated": 0.1,
    "segments": 0.12,
    "score_drift": 0.1,
    "quality": 0.15,
    "performance": 0.05,
    "performance_segments": 0.03,
    "calibration": 0.05,
}
"""Parts of the budget; what is not watched (no segments, no labels) is left unspent."""
STRAY = 0.2
"""At most this share of drift-free windows may hold any significant change, paged or not, whatever its size."""


def spend(pages: float, period: timedelta, *, look: timedelta, check: str, n_tests: float) -> float:
    """False pages that one test may cause in one look.

    Parameters
    ----------
    pages, period
        The budget: so many pages in this time.
    look
        The length of a window.
    check
        Which part of the budget, see ``SHARES``.
    n_tests
        Tests of that part in one look; those that always fire together count once (:func:`effective_tests`).
    """
    return pages * SHARES[check] * (look / period) / max(1.0, n_tests)


def level(spent: float, *, confirm: int, alike: float, check: str, n_tests: float) -> float:
    """The significance of a single window, so that a false page costs no more than ``spent``.

    Parameters
    ----------
    confirm
        Windows in a row that a page needs.
    alike
        Correlation of the deviations of successive windows from the reference, 0 to 1: they share the reference's own
        error, and resemble each other where windows have a memory.

    Notes
    -----
    For two windows in a row P(X > h, Y > h) of a bivariate normal law; more than two windows are taken for two.  The
    joint tail of a quadratic form is lighter than that of the normal deviations it is made of, so this errs on the
    safe side.
    """
    stray = STRAY * SHARES[check] / max(1.0, n_tests)
    if confirm < 2:
        return min(spent, stray)
    return min(_twice(float(f"{min(spent, 0.2):.3g}"), round(min(max(alike, 0.0), 0.999), 3)), max(stray, spent))


@lru_cache(maxsize=4096)
def _twice(both: float, alike: float) -> float:
    """α such that two deviations with correlation ``alike`` are both beyond it with probability ``both``."""
    low, high = both, 0.5
    for _ in range(60):
        middle = (low * high) ** 0.5
        if joint(middle, alike) > both:
            high = middle
        else:
            low = middle
    return low


def joint(alpha: float, alike: float) -> float:
    """P(X > h, Y > h) of two standard normal variables with correlation ``alike`` and P(X > h) = ``alpha``.

    Owen's T: Φ(−h) − 2 T(h, √((1 − ρ) / (1 + ρ))).
    """
    h = float(-scipy.special.ndtri(alpha))
    slope = ((1 - alike) / (1 + alike)) ** 0.5
    return max(alpha * alpha, alpha - 2 * float(scipy.special.owens_t(h, slope)))


_TOGETHER = 1000


def effective_tests(distances: Sequence[FloatArray], alpha: float = 1e-3) -> float:
    """How many tests these columns are worth: those that fire together are one page.

    Hunter and Worsley's bound: P(any fires) ≤ Σ α − Σ P(both ends fire) over the edges of the heaviest spanning tree.
    Pairs are taken to be as alike as their windows show for certain (lower 95 % bound of the rank correlation).  Beyond
    1000 columns, each thousand is looked at by itself: memory stays linear, and the answer errs to caution.

    Parameters
    ----------
    distances
        For each column how far each baseline window was from the rest, shape ``(W,)``, all of the same windows.

    References
    ----------
    Worsley, "An improved Bonferroni inequality and applications", Biometrika, 1982.
    """
    n = len(distances)
    if n > _TOGETHER:
        return sum(effective_tests(distances[at : at + _TOGETHER], alpha) for at in range(0, n, _TOGETHER))
    if n < 2 or len({len(d) for d in distances}) > 1 or len(distances[0]) < 8:
        return float(n)
    table = np.stack(distances)
    n_windows = table.shape[1]
    ranks = np.argsort(np.argsort(table, axis=1, kind="stable"), axis=1)
    scores = scipy.special.ndtri((ranks + 0.5) / n_windows)
    found = np.clip(np.corrcoef(scores), -0.999999, 0.999999)
    lower = np.tanh(np.arctanh(found) - 1.645 / np.sqrt(n_windows - 3))
    np.fill_diagonal(lower, 0.0)
    saved = np.zeros_like(lower)
    for i, j in zip(*np.nonzero(np.triu(lower > 0.5)), strict=True):
        saved[i, j] = joint(alpha, round(float(lower[i, j]), 3)) / alpha
    return max(1.0, n - _heaviest_tree(saved + saved.T))


def _heaviest_tree(weights: FloatArray) -> float:
    """What the edges of a maximum spanning tree weigh together, by Prim's algorithm; ``weights`` >= 0, symmetric."""
    inside = np.zeros(len(weights), dtype=bool)
    inside[0] = True
    reach = weights[0].copy()
    total = 0.0
    for _ in range(len(weights) - 1):
        nearest = int(np.argmax(np.where(inside, -1.0, reach)))
        total += float(reach[nearest])
        inside[nearest] = True
        np.maximum(reach, weights[nearest], out=reach)
    return total
