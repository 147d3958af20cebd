"""From all that a window showed, the one cause that explains it, how sure that is, and what to do first.

Skew is a pipeline bug, data drift is a changed world, concept drift is a changed rule: each has another fix, so naming
the wrong one costs more than naming none.  The rules below are tried in order and the first that fits answers:

1. ``pipeline_bug``: online and offline values disagree, or a feature broke (constant, nulls, unit, default value).
   A new category or values out of range count only while nothing else drifts, as a changed world brings these too.
2. ``population_mix``: the mix of segments or versions changed, and inputs or score with it, but not within segments.
3. ``label_shift``: the share of positives changed while scores within each class hold.
4. ``concept_drift``: P(y | score) changed; less sure when the inputs moved as well.
5. ``covariate_shift``: inputs or score moved; sure when P(y | score) is seen to hold, less so before the labels.
6. ``concept_drift``: performance fell though inputs and score hold.
7. ``cannot_tell``: performance fell and inputs moved, and P(y | score) is not known; or too little moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class CauseKind(StrEnum):
    PIPELINE_BUG = "pipeline_bug"
    COVARIATE_SHIFT = "covariate_shift"
    LABEL_SHIFT = "label_shift"
    CONCEPT_DRIFT = "concept_drift"
    POPULATION_MIX = "population_mix"
    CANNOT_TELL = "cannot_tell"


PLAYBOOK: dict[CauseKind, str] = {
    CauseKind.PIPELINE_BUG: "Fix the feed: compare the named features' online code and offline query; do not retrain.",
    CauseKind.COVARIATE_SHIFT: "The world changed: check that it is here to stay, then reweight or retrain on it.",
    CauseKind.LABEL_SHIFT: "The share of positives changed: recalibrate and move the threshold.",
    CauseKind.CONCEPT_DRIFT: "The rule changed: retrain on recent labels, or fall back to rules until then.",
    CauseKind.POPULATION_MIX: "The mix of segments or versions changed: compare them one by one before acting.",
    CauseKind.CANNOT_TELL: "Not enough evidence for one cause: look at the features named, and wait for more labels.",
}


@dataclass(frozen=True)
class Moved:
    """A feature, segment or score whose distribution is beyond its limit; ``effect`` is value over limit."""

    name: str
    effect: float = 1.0
    p_value: float | None = None


@dataclass(frozen=True)
class Skewed:
    """A feature whose online and offline values disagree on a share ``rate`` of requests, in the way ``kind``."""

    name: str
    rate: float
    kind: str = "true_mismatch"


@dataclass(frozen=True)
class Broken:
    """A quality finding beyond its limit.

    ``problem`` is one of ``constant``, ``unit_change``, ``scale_change`` (by the factor between two units, but one that
    the world might bring about, too), ``default_fill``, ``null_burst``, ``unseen``, ``out_of_range``.
    """

    name: str
    problem: str


@dataclass(frozen=True)
class Change:
    """A change against the baseline with its interval; for a performance metric, negative is worse."""

    value: float
    low: float
    high: float

    @property
    def moved(self) -> bool:
        """The interval leaves out "no change"."""
        return self.low > 0 or self.high < 0

    @property
    def worse(self) -> bool:
        return self.high < 0


@dataclass(frozen=True)
class Evidence:
    """What one window showed; ``None`` is "not known", an empty tuple is "looked, and found nothing".

    Parameters
    ----------
    drifted, score
        Features beyond their drift limit, and the score or decision rate if beyond its own.
    skewed, broken
        Findings of the skew and the quality check.
    mix
        Segments or model versions whose share changed beyond limit.
    performance
        Change of the leading performance metric, oriented so that negative is worse.
    within_segments
        Whether inputs moved inside segments, too, and not only the shares of these; ``None`` without segments.
    prevalence
        Change of the share of positive labels.
    calibration
        Change of P(y | score): realized less estimated share of positives, or of accuracy.
    within_class
        Change of the score's distribution within the classes, P(score | y).
    score_follows
        Whether scores have moved as the change of ``prevalence`` alone would have moved them, rather than not at all:
        the logarithm of the likelihood ratio.
    """

    drifted: tuple[Moved, ...] = ()
    score: Moved | None = None
    skewed: tuple[Skewed, ...] = ()
    broken: tuple[Broken, ...] = ()
    mix: tuple[Moved, ...] = ()
    within_segments: bool | None = None
    performance: Change | None = None
    prevalence: Change | None = None
    calibration: Change | None = None
    within_class: Change | None = None
    score_follows: float | None = None

    @property
    def inputs_moved(self) -> bool:
        return bool(self.drifted) or self.score is not None


@dataclass(frozen=True)
class Cause:
    """The answer; ``confidence`` in [0, 1] orders answers, and is no frequency; ``because`` names the evidence."""

    kind: CauseKind
    confidence: float
    playbook: str
    because: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


_HARD: dict[str, float] = {
    "constant": 0.9,
    "unit_change": 0.9,
    "scale_change": 0.6,
    "default_fill": 0.85,
    "null_burst": 0.8,
}
"""Confidence that each problem is a bug of the feed: nothing in the world does that to a column."""
_SOFT: dict[str, float] = {"unseen": 0.6, "out_of_range": 0.5}


def diagnose(evidence: Evidence) -> Cause:
    """Which one cause explains the evidence?  The first rule that fits; see the module for the table."""
    for rule in _RULES:
        cause = rule(evidence)
        if cause is not None:
            return cause
    return _cause(CauseKind.CANNOT_TELL, 0.0, "no finding points to a cause")


def _cause(kind: CauseKind, confidence: float, *because: str, features: tuple[str, ...] = ()) -> Cause:
    return Cause(kind, confidence, PLAYBOOK[kind], because, features)


def _pipeline_bug(evidence: Evidence) -> Cause | None:
    doubts: list[float] = []
    because: list[str] = []
    for skew in sorted(evidence.skewed, key=lambda one: -one.rate):
        doubts.append(0.15 if skew.kind in ("none", "true_mismatch") else 0.05)
        because.append(f"{skew.name}: online and offline differ on {skew.rate:.1%} ({skew.kind.replace('_', ' ')})")
    for finding in evidence.broken:
        sure = _HARD.get(finding.problem) or (_SOFT.get(finding.problem) if _confined(evidence) else None)
        if sure is not None:
            doubts.append(1 - sure)
            because.append(f"{finding.name}: {finding.problem.replace('_', ' ')}")
    if not doubts:
        return None
    names = [one.name for one in sorted(evidence.skewed, key=lambda one: -one.rate)]
    names += [one.name for one in evidence.broken]
    return _cause(
        CauseKind.PIPELINE_BUG,
        min(1 - math.prod(doubts), 0.99),
        *because,
        features=tuple(dict.fromkeys(names)),
    )


def _confined(evidence: Evidence) -> bool:
    """Nothing drifts but the features that are broken anyway."""
    broken = {finding.name for finding in evidence.broken}
    return all(feature.name in broken for feature in evidence.drifted)


def _population_mix(evidence: Evidence) -> Cause | None:
    if not (evidence.mix and evidence.inputs_moved) or evidence.within_segments:
        return None
    names = tuple(one.name for one in evidence.mix)
    what = f"the shares of {', '.join(names)} changed"
    if evidence.within_segments is None:
        return _cause(CauseKind.POPULATION_MIX, 0.7, what, features=names)
    return _cause(CauseKind.POPULATION_MIX, 0.8, what, "inputs hold within each", features=names)


_CLEARLY = 3.0
"""Logarithm of a likelihood ratio from which on the likelier is taken to be so."""


def _label_shift(evidence: Evidence) -> Cause | None:
    prevalence, within = evidence.prevalence, evidence.within_class
    if prevalence is None or within is None or not prevalence.moved or within.moved:
        return None
    follows = math.inf if evidence.score_follows is None else evidence.score_follows
    if follows < 0:  # more positives among the same scores: within classes they cannot hold
        return None
    return _cause(
        CauseKind.LABEL_SHIFT,
        0.8 if follows > _CLEARLY else 0.6,
        f"the share of positives changed by {prevalence.value:+.1%}",
        "scores within each class hold",
    )


def _rule_changed(evidence: Evidence) -> Cause | None:
    if evidence.calibration is None or not evidence.calibration.moved:
        return None
    what = f"what scores mean changed by {evidence.calibration.value:+.3f}"
    if evidence.inputs_moved:
        return _cause(CauseKind.CONCEPT_DRIFT, 0.6, what, "inputs moved as well")
    return _cause(CauseKind.CONCEPT_DRIFT, 0.85, what, "inputs and score hold")


def _world_changed(evidence: Evidence) -> Cause | None:
    if not evidence.inputs_moved:
        return None
    worst = sorted(evidence.drifted, key=lambda one: -one.effect)
    names = tuple(one.name for one in worst) or ("score",)
    what = f"{names[0]} and {len(names) - 1} more moved" if len(names) > 1 else f"{names[0]} moved"
    if evidence.calibration is not None:
        return _cause(CauseKind.COVARIATE_SHIFT, 0.85, what, "what scores mean holds", features=names)
    if evidence.performance is None:
        return _cause(CauseKind.COVARIATE_SHIFT, 0.5, what, "labels are not in yet", features=names)
    if not evidence.performance.worse:
        return _cause(CauseKind.COVARIATE_SHIFT, 0.6, what, "performance holds", features=names)
    return _cause(
        CauseKind.CANNOT_TELL, 0.0, what, "performance fell, and what scores mean is not known", features=names
    )


def _only_performance(evidence: Evidence) -> Cause | None:
    if evidence.performance is None or not evidence.performance.worse:
        return None
    if evidence.calibration is not None:
        return _cause(CauseKind.CANNOT_TELL, 0.0, "performance fell, but inputs and what scores mean hold")
    return _cause(CauseKind.CONCEPT_DRIFT, 0.7, "performance fell", "inputs and score hold")


_RULES: tuple[Callable[[Evidence], Cause | None], ...] = (
    _pipeline_bug,
    _population_mix,
    _label_shift,
    _rule_changed,
    _world_changed,
    _only_performance,
)
