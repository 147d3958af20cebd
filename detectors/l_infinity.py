"""L∞ distance: by how much has the share of any one category moved?"""

from __future__ import annotations

import numpy as np

from detectors.profiles import ColumnProfile, ColumnSpec
from detectors.statistic import Statistic, bins_of, change_test, empty_side, undefined


def l_infinity(spec: ColumnSpec, reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """By how many points has the share of the category that moved most risen or fallen?

    max |q − p| over the categories; all never-seen values together are one, and so are missing ones.

    Returns
    -------
    Statistic
        ``value`` in [0, 1]; ``p_value`` is that of the two-sample χ² on the same categories; ``detail`` tells which
        bin moved (``index`` into the spec's categories, ``kind``) and in what direction (``change``, signed).
    """
    if reason := empty_side(reference, current):
        return undefined(reason)
    bins = bins_of(spec, reference, current)
    p, q = bins.shares()
    change = q - p
    worst = int(np.argmax(np.abs(change)))
    test = change_test(spec, reference, current)
    detail = {"index": worst, "kind": bins.kinds[worst], "change": float(change[worst])}
    return Statistic(float(abs(change[worst])), 1.0 if test.p_value is None else test.p_value, detail)
