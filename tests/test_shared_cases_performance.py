"""Cases from other projects' own test suites: areas, calibration, paired skew, freshness."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.classification import (
    ScoreLabelCounter,
    ScoreLabels,
    performance,
    precision_recall_curve,
    reliability_curve,
)
from detectors.quality import freshness
from detectors.skew import SkewMeasure, compare_pairs

CASES = Path(__file__).parents[2] / "shared" / "data" / "oracles" / "cases.json"


def cases(family: str) -> list[Any]:
    if not CASES.exists():
        reason = pytest.mark.skip(reason="the shared cases are not beside this checkout")
        return [pytest.param({}, id=family, marks=reason)]
    found = json.loads(CASES.read_text())["cases"]
    return [pytest.param(case, id=case["id"]) for case in found if case["family"] == family]


def count(scores: list[float], labels: list[float]) -> ScoreLabels:
    counter = ScoreLabelCounter()
    counter.update(scores, None, labels)
    return counter.counts()


@pytest.mark.parametrize("case", cases("precision_recall_curve"))
def test_the_precision_recall_curve(case: dict[str, Any]) -> None:
    counts = count(case["inputs"]["y_score"], case["inputs"]["y_true"])
    curve = precision_recall_curve(counts.positives.sum(axis=1), counts.negatives.sum(axis=1))
    # scikit-learn lists rising thresholds, and ends with the point (recall 0, precision 1) that has none.
    tolerance = case["abs_tol"]
    assert [*curve.precision[::-1], 1] == pytest.approx(case["expected"]["precision"], abs=tolerance)
    assert [*curve.recall[::-1], 0] == pytest.approx(case["expected"]["recall"], abs=tolerance)
    area = performance(counts, ["pr_auc"])["pr_auc"]
    if len(set(case["inputs"]["y_score"])) == 1:  # the share of positives stands there, and nothing was ordered
        assert (area.value, area.reason) == (None, "constant_scores")
    else:
        assert area.value == pytest.approx(case["expected"]["average_precision"], abs=tolerance)


@pytest.mark.parametrize("case", cases("calibration_curve"))
def test_the_calibration_curve(case: dict[str, Any]) -> None:
    curve = reliability_curve(count(case["inputs"]["p"], case["inputs"]["y_true"]), case["inputs"]["bins"])
    assert curve.observed == pytest.approx(case["expected"]["prob_true"], abs=case["abs_tol"])
    if "prob_pred" in case["expected"]:
        assert curve.predicted == pytest.approx(case["expected"]["prob_pred"], abs=case["abs_tol"])


@pytest.mark.parametrize("case", cases("row_join_skew"))
def test_the_skew_of_joined_rows(case: dict[str, Any]) -> None:
    if isinstance(case["expected"], str):
        pytest.skip("joining rows, and refusing to without a key, is the source's part")
    offline, online = (case["inputs"][side] for side in ("offline", "online"))
    digits = case["inputs"].get("float_round_ndigits")

    def compare(name: str) -> SkewMeasure:
        def column(rows: list[dict[str, float]]) -> np.ndarray:
            values = np.array([row.get(name, np.nan) for row in rows], dtype=float)
            return values if digits is None else np.round(values, digits)

        return compare_pairs(column(online), column(offline), kind="numeric", abs=0, rel=0)

    for name, expected in case["expected"].items():
        found = compare(name)
        assert found.mismatched - found.missing_online - found.missing_offline == expected.get("mismatch", 0), name
        assert found.missing_online == expected.get("base_only", 0), name
        assert found.missing_offline == expected.get("test_only", 0), name
        if "match" in expected:
            assert found.n_pairs - found.mismatched == expected["match"], name


@pytest.mark.parametrize("case", cases("feature_freshness"))
def test_freshness(case: dict[str, Any]) -> None:
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    start, end = (moment(text) for text in case["inputs"]["window"])
    expected = None if case["expected"] is None else moment(case["expected"])
    assert freshness(moment(case["inputs"]["max_ts"]), (start, end)) == expected
