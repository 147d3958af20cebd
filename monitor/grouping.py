"""Incidents that have one reason are one family: the one that explains the others is its root, and only it pages.

A null burst moves its column's distribution, that moves the score, and weeks later the labels show what it cost: four
checks, one reason.  What follows from an open incident is told in that incident's thread, and is no page of its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from monitor.incidents import Step
from monitor.models import Check, Incident, IncidentState, Result, Transition, Verdict

HARD = frozenset({"constant", "missing_rate", "column_missing", "column_type"})
"""Quality findings that move a distribution, and are not moved by one."""
_NEAR = 1
"""Onsets with at most so many windows between them may have one reason."""


def group(step: Step, *, known: Iterable[Incident], results: Sequence[Result], length: timedelta) -> Step:
    """The step, with each incident that follows from another one attached to it.

    ``detail.root`` of the follower names the root, ``detail.related`` of the root its followers.  A follower of a root
    that people have been told of is news in the root's thread (``worsened``), not a page (``opened``).

    Parameters
    ----------
    known
        The model's incidents as they are stored.
    results
        Results of this window; they tell broken columns from columns that took on new values.
    length
        Length of a window.
    """
    before = {incident.id: incident for incident in known}
    heard = {name for name, incident in before.items() if incident.detail.get("told")}
    family = before | {incident.id: incident for incident in step.incidents}
    fresh = [i for i in step.incidents if i.id not in before and i.state is IncidentState.OPEN]
    for incident in sorted(fresh, key=lambda one: rank(one, results)):
        root = root_of(family[incident.id], family.values(), stored=before, results=results, length=length)
        if root is not None:
            family[incident.id] = _attached(family[incident.id], root, heard=heard)
            related = [*root.detail.get("related", []), incident.id]
            family[root.id] = replace(root, detail=root.detail | {"related": related})
    changed = {incident.id for incident in step.incidents}
    return replace(
        step,
        incidents=[one for name, one in family.items() if name in changed or one != before.get(name)],
        transitions=[
            (_news(transition, family[one.id], heard), family[one.id]) for transition, one in step.transitions
        ],
    )


def _attached(incident: Incident, root: Incident, *, heard: Collection[str]) -> Incident:
    detail = incident.detail | {"root": root.id}
    if root.id in heard and "thread" in root.detail and "told" in incident.detail:
        detail["thread"] = root.detail["thread"]
    return replace(incident, detail=detail)


def _news(transition: Transition, incident: Incident, heard: Collection[str]) -> Transition:
    """What follows from something that people know of is more of it."""
    follows = incident.detail.get("root") in heard
    return Transition.WORSENED if transition is Transition.OPENED and follows else transition


def root_of(
    incident: Incident,
    others: Iterable[Incident],
    *,
    stored: Collection[str] = (),
    results: Sequence[Result] = (),
    length: timedelta,
) -> Incident | None:
    """The incident that explains this one, or ``None``: one that is ``stored`` already, else the first of the causes.

    Checks run on their own clocks, so a cause may be seen after its effect: it then joins the family that there is.
    """
    able = [
        other
        for other in others
        if other.id != incident.id
        and other.model == incident.model
        and "root" not in other.detail
        and (other.id in stored or rank(other, results) <= rank(incident, results))
        and explains(other, incident, length=length)
    ]
    return min(able, key=lambda one: (one.id not in stored, rank(one, results), one.id), default=None)


def explains(cause: Incident, effect: Incident, *, length: timedelta) -> bool:
    """Whether two incidents may have one reason: they began together, or one is about columns of the other."""
    if "no_data" in (cause.detail.get("kind"), effect.detail.get("kind")):
        return False
    if cause.state is not IncidentState.OPEN and not _lasted_into(cause, effect):
        return False
    mine, theirs = interval(cause, length=length), interval(effect, length=length)
    apart = max(theirs[0] - mine[1], mine[0] - theirs[1])
    return apart <= _NEAR * length or bool(set(cause.features) & set(effect.features) and theirs[1] > mine[0])


def rank(incident: Incident, results: Sequence[Result]) -> int:
    """Place in the order of causes: a broken pipeline, broken columns, moved inputs, and what they bring about."""
    if incident.check is Check.QUALITY:
        alerting = (r for r in results if r.check is Check.QUALITY and r.verdict is Verdict.ALERT)
        metrics = {r.metric for r in alerting if r.feature in incident.features}
        return 1 if metrics & HARD else 3
    return {Check.SKEW: 0, Check.FEATURE_DRIFT: 2, Check.SCORE_DRIFT: 4, Check.PERFORMANCE: 5}[incident.check]


def _lasted_into(cause: Incident, effect: Incident) -> bool:
    """Labels land late: what they show may follow from an incident that is over by now."""
    return (
        cause.state is IncidentState.RESOLVED
        and effect.check is Check.PERFORMANCE
        and cause.resolved_window is not None
        and cause.opened_window <= effect.last_window
        and cause.resolved_window > effect.opened_window
    )


def interval(incident: Incident, *, length: timedelta) -> tuple[datetime, datetime]:
    """Event time in which an incident began: as dated, else the first window that fired."""
    told = incident.detail.get("onset_interval")
    if told:
        return datetime.fromisoformat(told[0]), datetime.fromisoformat(told[1])
    return incident.opened_window, incident.opened_window + length


def is_follower(incident: Incident) -> bool:
    """Whether an incident is told with another one, and takes nothing from the budget of false pages."""
    return "root" in incident.detail


# --- what they share -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shared:
    """What fired has one place in common: ``inside`` of its ``size`` members fired, and ``outside`` of all others."""

    kind: str
    name: str
    inside: int
    size: int
    outside: int

    def __str__(self) -> str:
        if self.kind == "segment":
            return f"only in {self.name}"
        others = "no other feature" if not self.outside else f"{self.outside} of all others"
        return f"{self.inside} of the {self.size} features of {self.name}, and {others}"


def shared_group(
    fired: Collection[str], groups: Mapping[str, Sequence[str]], features: Collection[str], *, alpha: float = 0.01
) -> Shared | None:
    """The group of features (a table, a feed) that what fired comes from, if that is no coincidence.

    The chance that so many of ``len(fired)`` features drawn at random are of the group (hypergeometric, Bonferroni
    over the groups) must be below ``alpha``, and the group must hold at least two thirds of what fired.

    Parameters
    ----------
    fired
        Features that fire together.
    groups
        Group → its features, as names or globs.
    features
        All features that are watched.
    """
    found = []
    mine = set(fired) & set(features)
    for name, patterns in groups.items():
        inside = {f for f in features if any(fnmatchcase(f, pattern) for pattern in patterns)}
        hits = len(mine & inside)
        if hits >= 2 and 3 * hits >= 2 * len(mine) and len(inside) < len(set(features)):
            chance = _at_least(hits, drawn=len(mine), marked=len(inside), total=len(set(features)))
            if chance * len(groups) < alpha:
                found.append((chance, Shared("group", name, hits, len(inside), len(mine) - hits)))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _at_least(hits: int, *, drawn: int, marked: int, total: int) -> float:
    """Probability of at least ``hits`` marked ones among ``drawn`` of ``total``, of which ``marked`` are marked."""
    ways = math.comb(total, drawn)
    return (
        sum(math.comb(marked, k) * math.comb(total - marked, drawn - k) for k in range(hits, min(marked, drawn) + 1))
        / ways
    )


def shared_segment(results: Iterable[Result]) -> Shared | None:
    """The one segment in which inputs drift while its siblings hold; ``None`` where it is not confined to one."""
    verdicts: dict[str, dict[str, Verdict]] = {}
    for result in results:
        if result.check is Check.FEATURE_DRIFT and result.segment is not None and result.verdict.decides:
            values = verdicts.setdefault(result.segment.partition("=")[0], {})
            worst = values.get(result.segment, Verdict.OK)
            values[result.segment] = max(worst, result.verdict, key=lambda verdict: verdict.rank)
    for values in verdicts.values():
        firing = [name for name, verdict in values.items() if verdict is Verdict.ALERT]
        quiet = [name for name, verdict in values.items() if verdict is Verdict.OK]
        if len(firing) == 1 and len(quiet) >= 1 and len(quiet) + 1 == len(values):
            return Shared("segment", firing[0], 1, len(values), 0)
    return None
