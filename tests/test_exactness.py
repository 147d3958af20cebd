"""How exact KS and Wasserstein are, held against SciPy on whole samples: what docs/performance.md states."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from detectors.edges import EdgeBuilder
from detectors.kernel import NumericCounter
from detectors.ks import ks
from detectors.profiles import FloatArray, NumericProfile, NumericSpec, kept_edges, thin
from detectors.wasserstein import wasserstein

Draw = Callable[[np.random.Generator, int], FloatArray]
SHAPES: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "log-normal": lambda rng, n: rng.lognormal(0, 1.5, n),
    "heavy ties": lambda rng, n: np.where(rng.random(n) < 0.5, rng.normal(size=n).round(1), rng.normal(size=n)),
    "two far modes": lambda rng, n: np.where(rng.random(n) < 0.3, rng.normal(-50, 0.01, n), rng.normal(50, 5, n)),
    "long tails": lambda rng, n: rng.standard_t(3, n),
    "zero-inflated": lambda rng, n: np.where(rng.random(n) < 0.6, 0.0, rng.exponential(size=n)),
}


def _learnt(values: FloatArray) -> tuple[NumericSpec, NumericProfile]:
    builder = EdgeBuilder()
    for part in np.array_split(values, 5):
        builder.update(part)
    spec = builder.spec()
    assert spec is not None
    return spec, _counted(spec, values)


def _counted(spec: NumericSpec, values: FloatArray) -> NumericProfile:
    counter = NumericCounter(spec)
    for part in np.array_split(values, 3):
        counter.update(part)
    return counter.profile()


@pytest.mark.parametrize("n_distinct", [19_999, 20_000])
def test_ks_is_scipys_to_the_last_row_with_up_to_20000_distinct_values(n_distinct: int) -> None:
    rng = np.random.default_rng(n_distinct)
    values = rng.permutation(np.concatenate([np.arange(n_distinct), rng.integers(0, n_distinct, 30_000)])) / 7
    window = rng.normal(n_distinct / 14, n_distinct / 20, 40_000)
    spec, reference = _learnt(values)
    found = ks(spec, reference, _counted(spec, window))
    assert spec.exact
    assert found.value == pytest.approx(stats.ks_2samp(values, window, method="asymp").statistic, abs=1e-12)
    assert found.detail["error_bound"] == 0.0
    assert found.detail["counts"] == "as counted"


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("name", SHAPES)
def test_beyond_that_ks_is_within_5e4_and_wasserstein_within_a_hundredth_of_sigma(name: str, shift: float) -> None:
    rng = np.random.default_rng([len(name), round(100 * shift)])
    values = SHAPES[name](rng, 200_000)
    window = SHAPES[name](rng, 100_000) * (1 + shift / 10) + shift
    spec, reference = _learnt(values)
    counted = _counted(spec, window)
    true_d = stats.ks_2samp(values, window, method="asymp").statistic
    true_w = stats.wasserstein_distance(values, window) / values.std()
    found, moved = ks(spec, reference, counted), wasserstein(spec, reference, counted)
    assert not spec.exact
    assert -1e-12 <= true_d - found.value <= found.detail["error_bound"] + 1e-12
    assert found.detail["error_bound"] <= 5e-4
    assert moved.value == pytest.approx(true_w, abs=0.01)
    assert found.detail["counts"] == moved.detail["counts"] == "as counted"

    stored = thin(counted, kept_edges(spec, reference, max_edges=900))
    found, moved = ks(spec, reference, stored), wasserstein(spec, reference, stored)
    assert -1e-12 <= true_d - found.value <= found.detail["error_bound"] + 1e-12
    assert found.detail["counts"] == moved.detail["counts"] == ("as counted" if stored.kept is None else "as stored")
