"""One line for each sentence of the rules that name a cause."""

from __future__ import annotations

import pytest

from monitor.cause import PLAYBOOK, Broken, CauseKind, Change, Evidence, Moved, Skewed, diagnose

A, B = Moved("amount", 3.0, 1e-9), Moved("age", 1.5, 1e-4)
SCORE = Moved("score", 1.2)
WORSE, HOLDS = Change(-0.1, -0.15, -0.05), Change(-0.01, -0.03, 0.02)
RULE, SAME_RULE = Change(0.08, 0.05, 0.11), Change(0.0, -0.02, 0.02)


@pytest.mark.parametrize(
    ("evidence", "kind", "confidence"),
    [
        pytest.param(Evidence(), "cannot_tell", 0.0, id="nothing moved"),
        pytest.param(Evidence(skewed=(Skewed("amount", 0.4, "unit"),)), "pipeline_bug", 0.95, id="unit skew"),
        pytest.param(Evidence(skewed=(Skewed("amount", 0.4),)), "pipeline_bug", 0.85, id="skew without a pattern"),
        pytest.param(
            Evidence(drifted=(A, B), skewed=(Skewed("amount", 0.4, "unit"),), performance=WORSE, calibration=RULE),
            "pipeline_bug",
            0.95,
            id="skew explains all that follows from it",
        ),
        pytest.param(Evidence(broken=(Broken("amount", "constant"),)), "pipeline_bug", 0.9, id="constant"),
        pytest.param(Evidence(broken=(Broken("amount", "null_burst"),)), "pipeline_bug", 0.8, id="null burst"),
        pytest.param(
            Evidence(broken=(Broken("amount", "null_burst"),), skewed=(Skewed("amount", 0.1, "missing_online"),)),
            "pipeline_bug",
            0.99,
            id="two findings agree",
        ),
        pytest.param(
            Evidence(drifted=(A,), broken=(Broken("amount", "unseen"),)), "pipeline_bug", 0.6, id="new category alone"
        ),
        pytest.param(
            Evidence(drifted=(A, B), broken=(Broken("amount", "unseen"),)),
            "covariate_shift",
            0.5,
            id="new category in a changed world",
        ),
        pytest.param(Evidence(drifted=(A,), mix=(Moved("web"),)), "population_mix", 0.7, id="mix"),
        pytest.param(Evidence(mix=(Moved("web"),)), "cannot_tell", 0.0, id="a mix that changes nothing"),
        pytest.param(
            Evidence(score=SCORE, prevalence=RULE, within_class=SAME_RULE, calibration=RULE),
            "label_shift",
            0.8,
            id="prevalence moved, classes look the same",
        ),
        pytest.param(
            Evidence(prevalence=RULE, within_class=RULE, calibration=RULE), "concept_drift", 0.85, id="classes changed"
        ),
        pytest.param(
            Evidence(performance=WORSE, calibration=RULE), "concept_drift", 0.85, id="rule changed, inputs hold"
        ),
        pytest.param(
            Evidence(drifted=(A,), performance=WORSE, calibration=RULE), "concept_drift", 0.6, id="both changed"
        ),
        pytest.param(Evidence(performance=WORSE), "concept_drift", 0.7, id="only performance fell"),
        pytest.param(
            Evidence(drifted=(A,), performance=WORSE, calibration=SAME_RULE),
            "covariate_shift",
            0.85,
            id="world changed, rule holds",
        ),
        pytest.param(Evidence(drifted=(A, B)), "covariate_shift", 0.5, id="before the labels"),
        pytest.param(Evidence(score=SCORE), "covariate_shift", 0.5, id="the score alone"),
        pytest.param(Evidence(drifted=(A,), performance=HOLDS), "covariate_shift", 0.6, id="performance holds"),
        pytest.param(Evidence(drifted=(A,), performance=WORSE), "cannot_tell", 0.0, id="fell, rule not known"),
        pytest.param(
            Evidence(performance=WORSE, calibration=SAME_RULE), "cannot_tell", 0.0, id="fell without a reason"
        ),
        pytest.param(Evidence(performance=HOLDS, calibration=SAME_RULE), "cannot_tell", 0.0, id="all holds"),
    ],
)
def test_the_cause(evidence: Evidence, kind: str, confidence: float) -> None:
    cause = diagnose(evidence)
    assert (cause.kind, cause.confidence) == (kind, pytest.approx(confidence))
    assert cause.playbook == PLAYBOOK[CauseKind(kind)]
    assert cause.because


def test_the_worst_skewed_feature_is_named_first() -> None:
    cause = diagnose(Evidence(skewed=(Skewed("age", 0.1), Skewed("amount", 0.9)), broken=(Broken("age", "constant"),)))
    assert cause.features == ("amount", "age")


def test_the_worst_drifted_feature_is_named_first() -> None:
    assert diagnose(Evidence(drifted=(B, A))).features == ("amount", "age")


def test_every_kind_says_what_to_do_in_one_line() -> None:
    assert set(PLAYBOOK) == set(CauseKind)
    assert all("\n" not in line for line in PLAYBOOK.values())
