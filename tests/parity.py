"""What Evidently 0.7 and NannyML 0.13 compute from the same rows, formula by formula, for comparison with ours.

Theirs re-bin both samples for every comparison; ours count over bins that are frozen in the baseline, so the numbers
differ on purpose.  These are here to tell a user by how much.
"""

from __future__ import annotations

import numpy as np
from scipy import stats


def evidently_shares(reference, current):
    """Counts of both sides over Sturges bins of the pooled rows, or over the union of values if there are ≤ 20."""
    reference, current = (_present(side) for side in (reference, current))
    if reference.dtype.kind == "f" and len(np.unique(reference)) > 20:
        edges = np.histogram_bin_edges(np.concatenate([reference, current]), bins="sturges")
        return tuple(np.histogram(side, edges)[0] / len(side) for side in (reference, current))
    values = np.unique(np.concatenate([reference, current]))
    return tuple(np.array([(side == value).mean() for value in values]) for side in (reference, current))


def _present(side):
    side = np.asarray(side)
    return side[np.isfinite(side)] if side.dtype.kind == "f" else side


def _filled(shares):
    """Zeros become a millionth of the smallest share, or 1e-4 where that is not so small; not renormalised."""
    smallest = shares[shares > 0].min()
    return np.where(shares == 0, smallest / 1e6 if smallest <= 1e-4 else 1e-4, shares)


def evidently_psi(reference, current):
    p, q = (_filled(side) for side in evidently_shares(reference, current))
    return float(np.sum((p - q) * np.log(p / q)))


def evidently_kl(reference, current):
    p, q = (_filled(side) for side in evidently_shares(reference, current))
    return float(stats.entropy(p, q))


def evidently_jensen_shannon(reference, current):
    p, q = evidently_shares(reference, current)
    return _jensen_shannon(p, q)


def evidently_ks(reference, current):
    return float(stats.ks_2samp(_present(reference), _present(current)).pvalue)


def evidently_wasserstein(reference, current):
    reference, current = _present(reference), _present(current)
    return float(stats.wasserstein_distance(reference, current) / max(np.std(reference), 0.001))


def evidently_chi2(reference, current):
    """Goodness of fit of the current counts against the reference's shares, taken as exact."""
    values = np.unique(np.concatenate([reference, current]))
    observed, expected = (np.array([(side == value).sum() for value in values]) for side in (current, reference))
    return float(stats.chisquare(observed, expected * len(current) / len(reference)).pvalue)


def nannyml_shares(reference, current):
    """Shares over Doane bins of the reference, with what lies outside of them as one more bin."""
    counts, edges = np.histogram(reference, bins="doane")
    p = counts / len(reference)
    q = np.histogram(current, edges)[0] / len(current)
    outside = 1 - q.sum()
    return (np.append(p, 0.0), np.append(q, outside)) if outside > 0 else (p, q)


def nannyml_jensen_shannon(reference, current):
    return _jensen_shannon(*nannyml_shares(reference, current)) / np.sqrt(np.log(2))


def nannyml_hellinger(reference, current):
    p, q = nannyml_shares(reference, current)
    return float(np.sqrt(np.sum((np.sqrt(p) - np.sqrt(q)) ** 2)) / np.sqrt(2))


def _jensen_shannon(p, q):
    middle = (p + q) / 2
    return float(np.sqrt((stats.entropy(p, middle) + stats.entropy(q, middle)) / 2))
