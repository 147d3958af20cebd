"""What the store knows about a window, put together as evidence: one cause for the incidents that are open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from monitor import messages
from monitor.cause import Broken, Cause, Change, Evidence, Moved, Skewed, diagnose
from monitor.incidents import Step
from monitor.models import Check, Claim, Incident, IncidentState, Result, Verdict
from monitor.service import Service

_PROBLEMS = {
    "constant": "constant",
    "missing_rate": "null_burst",
    "unseen_rate": "unseen",
    "out_of_range_rate": "out_of_range",
    "column_missing": "constant",
    "column_type": "constant",
}
_LEADING = ("roc_auc", "recall", "precision", "f1", "accuracy")


def causes(service: Service, claim: Claim, results: Sequence[Result], step: Step) -> list[Incident]:
    """The step's incidents, the open ones with their likely cause, why, and what to do about it.

    Evidence is all that is known of the incident's window, whichever check found it: a drift is a broken feed when
    skew shows it, and a changed rule only when the inputs hold.
    """
    told = []
    for incident in step.incidents:
        if incident.state is not IncidentState.OPEN:
            told.append(replace(incident, summary=_summary(incident)))
            continue
        found = diagnose(evidence(_known(service, claim, results)))
        told.append(_with_cause(incident, found))
    return told


def _known(service: Service, claim: Claim, results: Sequence[Result]) -> list[Result]:
    """The newest results of the window: this run's, and those that the other clocks have stored."""
    mine = {result.check for result in results}
    stored = service.store.results(claim.model, start=claim.window.start, end=claim.window.end)
    return [*results, *(r for r in stored if r.check not in mine)]


def evidence(results: Iterable[Result]) -> Evidence:
    """Sort the results of one window by what they say about a cause."""
    whole = [result for result in results if result.segment is None]
    alerting = [result for result in whole if result.verdict is Verdict.ALERT]
    drifted = _worst(r for r in alerting if r.check is Check.FEATURE_DRIFT and r.feature is not None)
    score = _worst(r for r in alerting if r.check is Check.SCORE_DRIFT)
    return Evidence(
        drifted=tuple(_moved(r, r.feature or "") for r in drifted),
        score=_moved(score[0], "score") if score else None,
        skewed=tuple(
            Skewed(r.feature, r.value or 0.0, str(r.detail.get("kind", "true_mismatch")))
            for r in alerting
            if r.check is Check.SKEW and r.feature is not None
        ),
        broken=tuple(
            Broken(r.feature, _PROBLEMS[r.metric])
            for r in alerting
            if r.check is Check.QUALITY and r.feature is not None and r.metric in _PROBLEMS
        ),
        performance=_performance(whole),
    )


def _worst(results: Iterable[Result]) -> list[Result]:
    """One result for each feature, the one furthest beyond its limit; worst first."""
    by_feature: dict[str | None, Result] = {}
    for result in sorted(results, key=messages.excess):
        by_feature[result.feature] = result
    return sorted(by_feature.values(), key=messages.excess, reverse=True)


def _moved(result: Result, name: str) -> Moved:
    return Moved(name, messages.excess(result), result.p_value)


def _performance(results: Sequence[Result]) -> Change | None:
    """Change of the leading metric that was judged, worst first; ``None`` before the labels are in."""
    judged = [
        r
        for r in results
        if r.check is Check.PERFORMANCE
        and r.kind == "realized"
        and r.verdict.decides
        and r.metric in _LEADING
        and r.value is not None
        and r.interval is not None
        and isinstance(r.detail.get("reference"), float)
    ]
    if not judged:
        return None
    leading = min(judged, key=lambda r: (-r.verdict.rank, _LEADING.index(r.metric)))
    reference = float(leading.detail["reference"])
    low, high = leading.interval or (0.0, 0.0)
    return Change((leading.value or 0.0) - reference, low - reference, high - reference)


def _with_cause(incident: Incident, found: Cause) -> Incident:
    detail = incident.detail | {"advice": found.playbook, "why": "; ".join(found.because)}
    told = replace(incident, cause=found.kind.value, cause_confidence=round(found.confidence, 2), detail=detail)
    return replace(told, summary=_summary(told))


def _summary(incident: Incident) -> str:
    words = messages._subject(incident)
    return f"{words} since {messages.moment(incident.onset or incident.opened_window)}"
