"""The share of windows in which something happened, with an interval that knows what they have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats


def share_of(hits: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """The share and its 95 % interval (Clopper and Pearson's, at the effective size).

    Parameters
    ----------
    hits
        Whether it happened, shape ``(groups, windows)``: windows of one group share its luck.
    """
    each = hits.sum(axis=1)
    total, rate = hits.size, float(each.sum()) / hits.size
    spread = float(((each - rate * hits.shape[1]) ** 2).sum()) / total
    worth = total / max(1.0, spread / max(rate * (1 - rate), 1e-12))
    k = rate * worth
    low = float(stats.beta.ppf(0.025, k, worth - k + 1)) if k else 0.0
    return rate, low, float(stats.beta.ppf(0.975, k + 1, worth - k))
