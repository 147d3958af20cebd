"""Population stability index: how far have the shares of bins moved?"""

from __future__ import annotations

import numpy as np
import scipy

from detectors.profiles import ColumnProfile, ColumnSpec, FloatArray
from detectors.statistic import Statistic, bins_of, change_test, empty_side, undefined


def psi(spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile, *, floor: float = 1e-4) -> Statistic:
    """How far have the shares of the reference's bins moved?

    PSI = Σ (q − p) ln(q / p), with ``p`` and ``q`` the shares of a bin in ``reference`` and ``current``.  Numeric bins
    are the reference's deciles ``(a, b]`` (a value of a decile or more is a bin of its own), categorical ones are the
    categories and one for never-seen values; missing values are a bin, too.

    Parameters
    ----------
    floor
        A share below this counts as this, on both sides, without renormalising; it bounds what an emptied or a new
        bin can contribute.

    Returns
    -------
    Statistic
        ``value``: customary limits are 0.1 and 0.2.  ``p_value``: two-sample χ² on the same bins, see
        :func:`detectors.statistic.change_test`.  ``detail``: ``psi_corrected`` (less its expectation under no change,
        (B − 1)(1/n + 1/m)), ``n_bins`` (those with rows), ``parts`` (what values, unseen and missing contribute) and
        ``worst`` (the bin that contributes most).

    Notes
    -----
    Under no change, E[PSI] ≈ (B − 1)(1/n + 1/m): small samples and many categories give a large PSI from nothing.

    References
    ----------
    Yurdakul & Naranjo, "Statistical properties of the population stability index", J. Risk Model Validation, 2020.
    """
    if reason := empty_side(reference, current):
        return undefined(reason)
    bins = bins_of(spec, reference, current)
    p, q = bins.shares()
    terms = psi_terms(p, q, floor=floor)
    value = float(terms.sum())
    n_bins = int(np.count_nonzero(bins.reference + bins.current))
    kinds = np.array(bins.kinds)
    worst = int(np.argmax(terms))
    test = change_test(spec, reference, current)
    detail = {
        "psi_corrected": value - (n_bins - 1) * (1 / reference.n + 1 / current.n),
        "n_bins": n_bins,
        "parts": {str(kind): float(terms[kinds == kind].sum()) for kind in dict.fromkeys(bins.kinds)},
        "worst": {
            "index": worst,
            "kind": bins.kinds[worst],
            "reference": float(p[worst]),
            "current": float(q[worst]),
            "contribution": float(terms[worst]),
        },
        "chi2": test.statistic,
        "df": test.df,
    }
    return Statistic(value, 1.0 if test.p_value is None else test.p_value, detail)


def psi_terms(p: FloatArray, q: FloatArray, *, floor: float = 0.0) -> FloatArray:
    """What each bin contributes to PSI: ``(q − p) ln(q / p)``, for shares ``p`` and ``q`` of shape ``(B,)``.

    Examples
    --------
    >>> round(float(psi_terms(np.array([0.6, 0.3, 0.1]), np.array([0.5, 0.35, 0.15])).sum()), 12)
    0.046212945076
    """
    p, q = np.maximum(p, floor), np.maximum(q, floor)
    same = p == q  # also both 0, where the logarithm is not defined and the difference is 0
    ratio = np.divide(q, p, out=np.ones_like(p), where=~same)
    return np.asarray((q - p) * np.log(ratio))


def psi_critical_value(n_reference: int, n_current: int, *, bins: int, alpha: float) -> float:
    """The PSI that is exceeded with probability ``alpha`` if nothing has changed.

    (1/n + 1/m) · χ²₁₋α(B − 1), for samples of ``n_reference`` and ``n_current`` independent rows in ``bins`` bins that
    all have an expected count of at least five or so.

    Examples
    --------
    >>> round(psi_critical_value(500, 500, bins=10, alpha=0.001), 6)
    0.111509
    """
    return (1 / n_reference + 1 / n_current) * float(scipy.special.chdtri(bins - 1, alpha))
