"""The peers' numbers, as a user may compare them with ours: from their formulas, and from the real Evidently."""

from __future__ import annotations

import numpy as np
import parity
import pytest

SHIFTED = np.arange(1, 1001.0), np.arange(101, 1101.0)
CATEGORIES = np.repeat(["a", "b", "c"], [600, 300, 100]), np.repeat(["a", "b", "c"], [500, 350, 150])


@pytest.mark.parametrize(
    ("formula", "sides", "published"),
    [
        pytest.param(parity.evidently_psi, SHIFTED, 1.2557754290052108, id="Evidently PSI, 12 Sturges bins"),
        pytest.param(parity.evidently_ks, SHIFTED, 8.974277567313009e-05, id="Evidently KS"),
        pytest.param(parity.evidently_wasserstein, SHIFTED, 0.3464103347189854, id="Evidently Wasserstein"),
        pytest.param(parity.evidently_jensen_shannon, SHIFTED, 0.25288618280701036, id="Evidently Jensen-Shannon"),
        pytest.param(parity.evidently_kl, SHIFTED, 0.6278249320094044, id="Evidently KL"),
        pytest.param(parity.nannyml_jensen_shannon, SHIFTED, 0.30930397124480247, id="NannyML Jensen-Shannon"),
        pytest.param(parity.nannyml_hellinger, SHIFTED, 0.30922019877107504, id="NannyML Hellinger"),
        pytest.param(parity.evidently_psi, CATEGORIES, 0.04621294507616658, id="Evidently PSI, categories"),
        pytest.param(parity.evidently_jensen_shannon, CATEGORIES, 0.0758636692726808, id="Evidently JS, categories"),
        pytest.param(parity.evidently_chi2, CATEGORIES, 1.3887943864964e-11, id="Evidently chi-square"),
    ],
)
def test_the_peers_formulas_give_their_published_numbers(formula, sides, published):
    assert formula(*sides) == pytest.approx(published, rel=1e-9)


def evidently_says(method, reference, current):
    """The score that the real Evidently gives to one column."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    numeric = reference.dtype.kind == "f"
    definition = DataDefinition(numerical_columns=["x"]) if numeric else DataDefinition(categorical_columns=["x"])
    sides = [
        Dataset.from_pandas(pd.DataFrame({"x": side}), data_definition=definition) for side in (current, reference)
    ]
    snapshot = Report([ValueDrift(column="x", method=method)]).run(*sides)
    return float(snapshot.dict()["metrics"][0]["value"])


def samples(name):
    rng = np.random.default_rng(0)
    return {
        "shifted": SHIFTED,
        "skewed": (rng.lognormal(size=3000), rng.lognormal(0.2, 1.1, size=1200)),
        "tied": (rng.poisson(3, size=2000).astype(float), rng.poisson(3.3, size=900).astype(float)),
        "with gaps": (
            np.where(rng.random(1500) < 0.1, np.nan, rng.normal(size=1500)),
            np.where(rng.random(800) < 0.2, np.inf, rng.normal(0.3, 1, size=800)),
        ),
        "categories": CATEGORIES,
        "new category": (CATEGORIES[0], np.repeat(["a", "b", "d"], [500, 350, 150])),
    }[name]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "formula", "names"),
    [
        ("psi", parity.evidently_psi, ["shifted", "skewed", "tied", "with gaps", "categories", "new category"]),
        ("ks", parity.evidently_ks, ["shifted", "skewed", "tied", "with gaps"]),
        ("wasserstein", parity.evidently_wasserstein, ["shifted", "skewed", "tied", "with gaps"]),
        ("jensenshannon", parity.evidently_jensen_shannon, ["shifted", "skewed", "tied", "with gaps", "categories"]),
        ("kl_div", parity.evidently_kl, ["shifted", "skewed", "tied", "categories", "new category"]),
        ("chisquare", parity.evidently_chi2, ["categories"]),
    ],
)
def test_the_helper_gives_what_the_real_evidently_gives(method, formula, names):
    pytest.importorskip("evidently")
    for name in names:
        sides = samples(name)
        assert formula(*sides) == pytest.approx(evidently_says(method, *sides), rel=1e-9), name
