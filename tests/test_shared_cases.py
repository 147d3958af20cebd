"""Published numbers of other projects' test suites, reproduced by our detectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from detectors.display import describe
from detectors.edges import CategoryBuilder, EdgeBuilder
from detectors.kernel import CategoricalCounter, NumericCounter
from detectors.ks import ks
from detectors.l_infinity import l_infinity
from detectors.psi import psi, psi_critical_value, psi_terms
from detectors.statistic import bins_of, two_sample_chi2
from detectors.wasserstein import wasserstein

PATH = Path(__file__).parents[2] / "shared" / "data" / "oracles" / "cases.json"


def cases(family):
    found = (
        [case for case in json.loads(PATH.read_text())["cases"] if case["family"] == family] if PATH.exists() else []
    )
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason="the shared cases are not beside this checkout"))]
    return [pytest.param(case, id=case["id"]) for case in found]


def numeric(reference, current):
    builder = EdgeBuilder()
    builder.update(reference)
    spec = builder.spec()
    profiles = []
    for side in (reference, current):
        counter = NumericCounter(spec)
        counter.update(side)
        profiles.append(counter.profile())
    return spec, *profiles


def categorical(reference, current):
    """From rows, or from shares of ten thousand rows."""
    builder, profiles = CategoryBuilder(), []
    sides = [
        [round(10_000 * share) for share in side.values()] if isinstance(side, dict) else None
        for side in (reference, current)
    ]
    builder.update(list(reference), sides[0])
    spec = builder.spec()
    for side, counts in zip((reference, current), sides, strict=True):
        counter = CategoricalCounter(spec)
        counter.update(list(side), counts)
        profiles.append(counter.profile())
    return spec, *profiles


def span(text):
    first, last = text.split("..")
    return np.arange(int(first), int(last) + 1.0)


@pytest.mark.parametrize("case", cases("ks_2samp"))
def test_ks(case):
    x, y = case["inputs"]["x"], case["inputs"]["y"]
    if isinstance(x, str):
        x = np.linspace(1, 100, 100)
        y = x + (2.1 if "2.1" in str(y) else 0)
    found = ks(*numeric(x, y))
    side = {"two-sided": found.value, "greater": found.detail["d_plus"], "less": found.detail["d_minus"]}
    assert side[case["inputs"]["alternative"]] == pytest.approx(case["expected"]["statistic"], abs=case["abs_tol"])
    if case["inputs"]["alternative"] == "two-sided":
        assert found.p_value == pytest.approx(case["expected"]["pvalue"], abs=case["abs_tol"])


@pytest.mark.parametrize("case", cases("psi"))
def test_psi_of_shares(case):
    p, q = (
        np.array(list(side.values()) if isinstance(side, dict) else side, dtype=float)
        for side in (case["inputs"]["p"], case["inputs"]["q"])
    )
    value = psi_terms(p, q).sum()
    assert value == pytest.approx(case["expected"], abs=case["abs_tol"])
    assert value == pytest.approx(np.sum(p * np.log(p / q)) + np.sum(q * np.log(q / p)), abs=1e-12)


@pytest.mark.parametrize("case", cases("kl_divergence_nats"))
def test_the_two_divergences_add_up_to_psi(case):
    p, q = (np.array(case["inputs"][key]) for key in list(case["inputs"])[:2])
    backward = stats.entropy(q, p)
    assert psi_terms(p, q).sum() - backward == pytest.approx(case["expected"], abs=max(case["abs_tol"], 1e-12))


@pytest.mark.parametrize("case", cases("psi_quantile10"))
def test_psi_over_deciles_of_the_reference(case):
    inputs = case["inputs"]
    if "data" in inputs:
        datasets = pytest.importorskip("sklearn.datasets")
        rows, _ = datasets.make_classification(
            n_samples=1000,
            n_features=6,
            n_redundant=2,
            n_clusters_per_class=1,
            weights=[0.5],
            class_sep=2,
            random_state=1,
        )
        column = rows[:, inputs["column"]]
        reference, current = column[:500], column[500:]
    else:
        reference, current = span(inputs["ref"]), span(inputs["cur"])
    found = psi(*numeric(reference, current), floor=inputs["empty_bin"])
    assert found.value == pytest.approx(case["expected"], abs=case["abs_tol"])


@pytest.mark.parametrize("case", cases("psi_critical_value"))
def test_psi_that_chance_exceeds_this_rarely(case):
    inputs = case["inputs"]
    value = psi_critical_value(inputs["n_ref"], inputs["n_cur"], bins=inputs["bins"], alpha=inputs["alpha"])
    assert value == pytest.approx(case["expected"], abs=case["abs_tol"])


@pytest.mark.parametrize("case", cases("wasserstein1"))
def test_wasserstein(case):
    found = wasserstein(*numeric(case["inputs"]["x"], case["inputs"]["y"]))
    assert found.detail["w1"] == pytest.approx(case["expected"], abs=case["abs_tol"])


@pytest.mark.parametrize("case", cases("wasserstein1_range_normalised"))
def test_wasserstein_over_the_pooled_range(case):
    x, y = span(case["inputs"]["x"]), span(case["inputs"]["y"])
    pooled = max(x.max(), y.max()) - min(x.min(), y.min())
    assert wasserstein(*numeric(x, y)).detail["w1"] / pooled == pytest.approx(case["expected"], abs=case["abs_tol"])


@pytest.mark.parametrize("case", cases("l_infinity"))
def test_l_infinity(case):
    reference, current = list(case["inputs"].values())[:2]
    if not reference:
        pytest.skip("no rows on either side: our answer is a reason, on purpose, and not 0")
    found = l_infinity(*categorical(reference, current))
    assert found.value == pytest.approx(case["expected"], abs=case["abs_tol"])


@pytest.mark.parametrize("case", cases("chi2_contingency"))
def test_two_sample_chi2(case):
    bins = bins_of(*categorical(case["inputs"]["ref"], case["inputs"]["cur"]))
    found = two_sample_chi2(bins.reference, bins.current)
    assert [found.statistic, found.p_value] == pytest.approx(case["expected"], abs=case["abs_tol"])


@pytest.mark.parametrize("case", cases("describe"))
def test_descriptions(case):
    rows = [np.nan if value is None else float(value) for value in case["inputs"]["values"]]
    builder = EdgeBuilder()
    builder.update(rows)
    if builder.spec() is None:
        assert case["expected"]["mean"] is None
        return
    found = describe(*numeric(rows, rows)[:2])
    ours = {"row_count": "n", "null_count": "missing", "null_rate": "missing_rate", "stddev": "std"}
    for name, value in case["expected"].items():
        expected = value if value is None else pytest.approx(value, abs=max(case["abs_tol"], 1e-6))
        assert found[ours.get(name, name)] == expected, name
