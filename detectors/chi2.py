"""Pearson's χ²: are two samples more different than chance makes them?"""

from __future__ import annotations

from detectors.profiles import ColumnProfile, ColumnSpec
from detectors.statistic import Statistic, bins_of, change_test, empty_side, two_sample_chi2, undefined


def chi2(spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """How surely are the bins of two samples filled differently?

    χ² of the 2 × B table of ``reference`` and ``current`` rows over the same bins as PSI (missing and never-seen
    values included; bins empty on both sides do not count).

    Returns
    -------
    Statistic
        ``value`` is χ² itself, which grows with the number of rows; ``detail["cramers_v"]`` is the effect, between 0
        and 1, ``detail["df"]`` the degrees of freedom.  ``p_value`` is taken after rare bins are pooled
        (:func:`detectors.statistic.change_test`), so that it holds for sparse tables.

    Notes
    -----
    A two-sample test.  A goodness-of-fit test that takes the reference's shares as exact raises a false alarm on
    almost every window that is larger than its reference.
    """
    if reason := empty_side(reference, current):
        return undefined(reason)
    bins = bins_of(spec, reference, current)
    plain = two_sample_chi2(bins.reference, bins.current)
    pooled = change_test(spec, reference, current)
    detail = {
        "df": plain.df,
        "cramers_v": (plain.statistic / (reference.n + current.n)) ** 0.5,
        "pooled_chi2": pooled.statistic,
        "pooled_df": pooled.df,
    }
    return Statistic(plain.statistic, 1.0 if pooled.p_value is None else pooled.p_value, detail)
