"""Pure statistics: counts in, numbers out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detectors.chi2 import chi2
from detectors.jensen_shannon import jensen_shannon
from detectors.ks import ks
from detectors.l_infinity import l_infinity
from detectors.profiles import ColumnProfile, ColumnSpec
from detectors.psi import psi
from detectors.statistic import Statistic
from detectors.wasserstein import wasserstein


@dataclass(frozen=True)
class Detector:
    """One way to compare two profiles.

    ``numeric`` / ``categorical``: which columns it is for; ``unit``: what its value is measured in; ``meaning``: one
    sentence for people.
    """

    function: Callable[[ColumnSpec, ColumnProfile, ColumnProfile], Statistic]
    numeric: bool
    categorical: bool
    unit: str
    meaning: str


DETECTORS: dict[str, Detector] = {
    "psi": Detector(psi, True, True, "index", "How far the shares of the reference's bins have moved."),
    "ks": Detector(ks, True, False, "share", "Largest difference of the shares of rows at or below some value."),
    "wasserstein": Detector(wasserstein, True, False, "σ", "How far values have moved on average."),
    "jensen_shannon": Detector(jensen_shannon, True, True, "distance", "How well one row tells the samples apart."),
    "chi2": Detector(chi2, True, True, "χ²", "How surely the bins are filled differently."),
    "l_infinity": Detector(l_infinity, False, True, "share", "Largest change of the share of any one category."),
}
