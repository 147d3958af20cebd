"""What was believed of a window, and what is known of it now: pure decisions over the revisions of its results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.models import Check, Result, Verdict, Window

Key = tuple[Window, Check, str | None, str | None, str, str]
"""Window, check, feature, segment, metric, and what it was held against."""


@dataclass(frozen=True)
class Belief:
    """What one revision said of one number; ``kind`` is the curve that decided, ``as_of`` when it was looked at."""

    revision: int
    verdict: Verdict
    value: float | None
    interval: tuple[float, float] | None
    kind: str | None
    label_coverage: float | None
    as_of: datetime | None
    threshold: float | None
    reference: float | None


@dataclass(frozen=True)
class Restated:
    """One number of one window whose verdict has turned out otherwise.

    ``then`` is the last verdict that was another than the one of ``now``; ``path`` all beliefs, oldest first.
    """

    model: str
    check: Check
    feature: str | None
    segment: str | None
    metric: str
    window: Window
    then: Belief
    now: Belief
    path: Sequence[Belief]


def restated(newest: Iterable[Result], older: Iterable[Result]) -> list[Restated]:
    """The numbers whose verdict changed between two revisions, worst first.

    Parameters
    ----------
    newest, older
        Results of the newest revision of some windows, and those of the revisions before.

    Notes
    -----
    Of performance there are up to three curves.  What was believed is what the most certain of them said, which may be
    another one than now.  A revision that could not tell believed nothing: what it is followed by is an answer, and no
    restatement.  Neither is what the same labels say by other limits (`monitor/rejudging.py`).
    """
    now = _deciding(newest)
    before: dict[Key, list[Result]] = {}
    for revision in _by_revision(older).values():
        for key, result in _deciding(revision).items():
            before.setdefault(key, []).append(result)
    found = []
    for key, result in now.items():
        told = [each for each in before.get(key, []) if each.verdict.decides]
        changed = [each for each in told if each.verdict is not result.verdict and not _is_same_look(each, result)]
        if not changed or not result.verdict.decides:
            continue
        path = [belief(each) for each in (*told, result)]
        window, check, feature, segment, metric, _ = key
        found.append(
            Restated(result.model, check, feature, segment, metric, window, belief(changed[-1]), path[-1], path)
        )
    return sorted(found, key=lambda each: (each.window, -each.now.verdict.rank, each.segment or "", each.feature or ""))


def belief(result: Result) -> Belief:
    """What one row says, and when that was looked at where the row tells."""
    age, reference = result.detail.get("age_days"), result.detail.get("reference")
    return Belief(
        result.revision,
        result.verdict,
        result.value,
        result.interval,
        result.kind,
        result.label_coverage,
        None if age is None else result.window.end + timedelta(days=float(age)),
        result.threshold,
        reference if isinstance(reference, int | float) else None,
    )


def _is_same_look(then: Result, now: Result) -> bool:
    """Whether both tell of the labels of one moment: then other limits made the difference."""
    ages = [each.detail.get("age_days") for each in (then, now)]
    return ages[0] is not None and ages[0] == ages[1] and (then.kind, then.value) == (now.kind, now.value)


def _by_revision(results: Iterable[Result]) -> dict[int, list[Result]]:
    found: dict[int, list[Result]] = {}
    for result in results:
        found.setdefault(result.revision, []).append(result)
    return dict(sorted(found.items()))


def _deciding(results: Iterable[Result]) -> dict[Key, Result]:
    """The row of each number that decided; of performance the one with the rule that made it do so."""
    found: dict[Key, Result] = {}
    for result in results:
        if result.of_versions or (result.kind is not None and "rule" not in result.detail):
            continue
        against = str(result.detail.get("against", "baseline"))
        found[result.window, result.check, result.feature, result.segment, result.metric, against] = result
    return found
