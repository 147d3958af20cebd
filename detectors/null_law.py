"""The law of a distance between shares of bins while nothing has changed: what is likely, what could be seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from detectors.profiles import FloatArray
from detectors.statistic import probability

_NEAR_MEAN = 1.1


@dataclass(frozen=True, eq=False)
class NullLaw:
    """Σ λⱼ χ²₁, where the scale of the λⱼ is known only from so many degrees of freedom.

    This is the law of a quadratic distance such as Σ (q − p)² / p (to which PSI is equal for small changes) when the
    covariance of (q − p) / √p has the eigenvalues λⱼ.  Independent rows have B − 1 equal ones; repeated entities scale
    them; rows that follow one another make them unequal, which makes the tail heavier.

    Parameters
    ----------
    spectrum
        λⱼ ≥ 0, shape ``(r,)``, in the unit of the distance; their sum is the distance to be expected from nothing.
    df
        Degrees of freedom of the estimate of that sum; infinite where it is known.
    """

    spectrum: FloatArray
    df: float = math.inf

    @cached_property
    def mean(self) -> float:
        """The distance that is expected without change."""
        return float(self.spectrum.sum())

    @cached_property
    def freedom(self) -> float:
        """ν = (Σ λ)² / Σ λ²: as many equal eigenvalues would have the same first two moments (Satterthwaite)."""
        return self.mean**2 / float((self.spectrum**2).sum())

    @property
    def step(self) -> float:
        """a = Σ λ² / Σ λ, the scale of Satterthwaite's a·χ²(ν)."""
        return self.mean / self.freedom

    def p_value(self, distance: float) -> float:
        """The probability of at least this distance without change.

        F(ν, df) for equal eigenvalues, where that is exact, and near the mean; else Lugannani and Rice's saddle point
        (in Barndorff-Nielsen's form) of Σ λⱼ χ²₁ − x · χ²(df) / df, whose relative error stays small in the tail.

        References
        ----------
        Kuonen, "Saddlepoint approximations for distributions of quadratic forms in normal variables", Biometrika, 1999.
        """
        x = distance / self.mean
        if x <= 0:
            return 1.0
        weights = self.spectrum / self.mean
        if x <= _NEAR_MEAN or weights.max() <= 1.001 / len(weights):
            return probability(float(scipy.special.fdtrc(self.freedom, self._df, x)))
        return probability(_saddle_point(x, weights, self._df))

    @property
    def _df(self) -> float:
        return min(self.df, 1e9)

    def critical(self, alpha: float) -> float:
        """The distance that is exceeded with probability ``alpha`` without change."""
        low = float(scipy.special.fdtri(self.freedom, self._df, 1 - alpha)) if alpha > 1e-12 else 1.0
        low = max(low, _NEAR_MEAN) if math.isfinite(low) else _NEAR_MEAN
        high = low
        while self.p_value(high * self.mean) > alpha and high < 1e12:
            low, high = high, high * 1.5
        if high == low:
            return low * self.mean
        aim, bounds = math.log(alpha), [low, high]
        ends = [math.log(self.p_value(x * self.mean)) for x in bounds]
        for _ in range(8):  # log p is nearly a straight line in x: false position is there in a few steps
            share = (ends[0] - aim) / (ends[0] - ends[1])
            x = bounds[0] + share * (bounds[1] - bounds[0])
            found = math.log(self.p_value(x * self.mean))
            if abs(found - aim) < 1e-3:
                return x * self.mean
            place = 0 if found > aim else 1
            bounds[place], ends[place] = x, found
        return bounds[1] * self.mean

    def smallest_detectable(self, alpha: float, *, power: float = 0.8) -> float:
        """The change, in the unit of the distance, that a test at ``alpha`` finds with this probability."""
        found = float(scipy.special.chndtrinc(self.critical(alpha) / self.step, self.freedom, 1 - power))
        return self.step * found if math.isfinite(found) else math.inf

    def interval(self, effect: float, *, level: float = 0.95) -> tuple[float, float]:
        """Bounds of the true change around the bias-free ``effect``: ± z · √(2 Σ λ² + 4 a · effect), not below 0."""
        z = float(scipy.special.ndtri((1 + level) / 2)) * (1 + 1 / (2 * self._df))
        spread = z * math.sqrt(2 * self.step * self.mean + 4 * self.step * max(effect, 0.0))
        return max(0.0, effect - spread), max(0.0, effect + spread)


def _saddle_point(x: float, weights: FloatArray, df: float) -> float:
    """P(Σ w χ²₁ > x · χ²(df) / df) for weights that sum to 1, and x > 1."""
    top = float(weights.max())
    low, high = 0.0, (1 - 1e-12) / (2 * top)
    zeta = min((x - 1) / (2 * (float((weights**2).sum()) + x * x / df)), 0.9 * high)
    for _ in range(60):
        shrunk = 1 - 2 * zeta * weights
        damped = 1 + 2 * zeta * x / df
        slope = float((weights / shrunk).sum()) - x / damped
        curve = 2 * float(((weights / shrunk) ** 2).sum()) + 2 * x * x / (df * damped * damped)
        if slope < 0:
            low = zeta
        else:
            high = zeta
        if abs(slope) <= 1e-9 * x or high - low <= 1e-14:
            break
        step = zeta - slope / curve
        zeta = step if low < step < high else (low + high) / 2
    value = -0.5 * float(np.log(shrunk).sum()) - 0.5 * df * math.log1p(2 * zeta * x / df)
    w = math.sqrt(max(0.0, -2 * value))
    v = zeta * math.sqrt(curve)
    if w < 1e-6 or v <= 0:
        return 0.5
    return float(scipy.special.ndtr(-(w + math.log(v / w) / w)))
