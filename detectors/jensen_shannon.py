"""Jensen–Shannon distance: how well can one row tell which of the two samples it came from?"""

from __future__ import annotations

import math

import numpy as np
import scipy

from detectors.profiles import ColumnProfile, ColumnSpec, FloatArray
from detectors.statistic import Statistic, bins_of, change_test, empty_side, undefined


def jensen_shannon(spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """How far apart are the shares of bins, on a scale from 0 to √ln 2 ≈ 0.833?

    √(½ KL(p‖m) + ½ KL(q‖m)) with ``m = (p + q) / 2`` and natural logarithms, over the same bins as PSI (missing and
    never-seen values included).  Bounded, symmetric, and defined for empty bins without a floor.

    Returns
    -------
    Statistic
        ``p_value`` is that of the two-sample χ² on the same bins.

    References
    ----------
    Endres & Schindelin, "A new metric for probability distributions", IEEE Trans. Inf. Theory, 2003.
    """
    if reason := empty_side(reference, current):
        return undefined(reason)
    test = change_test(spec, reference, current)
    bins = bins_of(spec, reference, current)
    value = jensen_shannon_distance(*bins.shares())
    detail = {"n_bins": int(np.count_nonzero(bins.reference + bins.current))}
    return Statistic(value, 1.0 if test.p_value is None else test.p_value, detail)


def jensen_shannon_distance(p: FloatArray, q: FloatArray) -> float:
    """The distance of two distributions given as shares of shape ``(B,)`` that sum to 1; natural logarithm.

    Examples
    --------
    >>> round(jensen_shannon_distance(np.array([0.6, 0.3, 0.1]), np.array([0.5, 0.35, 0.15])), 12)
    0.075863669273
    """
    middle = (p + q) / 2
    divergence = float(scipy.special.rel_entr(p, middle).sum() + scipy.special.rel_entr(q, middle).sum()) / 2
    return math.sqrt(max(0.0, divergence))
