"""Do labels come as they used to?  Late labels and labels that stopped are findings of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from statistics import quantiles

import numpy as np

from detectors.completeness import MIN_GROUPS, completeness_ahead
from detectors.delay import DelayLaw, learn
from detectors.delay_change import DelayChange, delay_change, silence
from detectors.delay_counts import DelayCounts, known_by, merge
from detectors.posterior import Landed
from monitor.checks import Scope
from monitor.incidents import LABELS as SERIES
from monitor.models import Check, Result, Verdict, Window

DELAY, OUTAGE = "label_delay", "label_outage"
METRICS = (DELAY, OUTAGE)
DAY = 86400.0
CHANCE = 1e-4
"""Labels count as later than before, or as stopped, when chance alone is less likely than this."""


def delay_findings(
    scope: Scope,
    landed: Landed,
    law: DelayLaw | None,
    windows: Sequence[tuple[Window, DelayCounts]],
    *,
    newest: datetime | None,
    now: datetime,
    history: Sequence[Result] = (),
) -> list[Result]:
    """Both findings as of ``now``, of which ``newest`` is when the newest label of any window landed."""
    found = [_lateness(scope, windows, now=now)]
    if newest is not None:
        found.append(_outage(scope, landed, law, windows, newest=newest, now=now, history=history))
    return found


@dataclass(frozen=True)
class Expected:
    """Which share of a window's predictions will have a label by ``due``, with the 95 % interval."""

    due: datetime
    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share:.0%} [{self.low:.0%}, {self.high:.0%}] expected by {self.due:%Y-%m-%d}"


def labels_expected(
    landed: Landed, windows: Sequence[tuple[Window, DelayCounts]], window: Window, *, now: datetime, due: datetime
) -> Expected | None:
    """How many of a window's labels will have landed by ``due``, from how it went in windows that are that old already.

    Of the predictions that had no label at the ages that this window's have now, which share had one at the ages that
    they will have?  ``None`` before enough windows are that old.
    """
    total = float(landed.predictions.sum())
    waiting = (landed.predictions.sum(axis=1) - landed.labels.sum(axis=(1, 2))).clip(min=0).astype(float)
    if not total or not waiting.any():
        return None
    later = landed.ages + (due - now).total_seconds()
    past, times = [], []
    for earlier, counts in windows:
        n = float(counts.ripe.sum())
        by_age = np.append(0.0, np.cumsum(counts.landed.sum(axis=(0, 1))))
        before, after = (np.interp(ages, counts.edges, by_age) for ages in (landed.ages, later))
        ripe_at = earlier.end + (due - window.end)
        if ripe_at > now or counts.as_of < ripe_at.timestamp():
            continue
        part, whole = float(waiting @ (after - before)), float(waiting @ (n - before))
        if whole > 0:
            size = whole / waiting.sum()
            past.append((part / whole * size, size))
            times.append((earlier.start - window.start) / window.length)
    if len(past) < MIN_GROUPS:
        return None
    found = completeness_ahead(past, n=float(waiting.sum()), times=times, target=0.0)
    share, low, high = (1 - float(waiting.sum()) / total * (1 - each) for each in found)
    return Expected(due, share, low, high)


def _lateness(scope: Scope, windows: Sequence[tuple[Window, DelayCounts]], *, now: datetime) -> Result:
    """The newest quarter of the windows against the law of the others: by what factor do labels take longer?

    It is held against earlier stretches as they were known when they were as young, and of the same weekdays where
    there are enough: labels that land on weekdays only, or once a week, must not look like a change.
    """
    limits = None if scope.model.labels is None else scope.model.labels.delay_change
    change = lateness_of(windows, now=now)
    if change is None or limits is None:
        reason = "too few windows with labels to know how late labels are"
        return _result(scope, DELAY, None, Verdict.CANNOT_TELL, {"reason": reason})
    size = abs(math.log(change.factor))
    verdict, threshold = Verdict.OK, 1 + limits.alert
    if change.p_value <= CHANCE and size >= math.log1p(limits.warn):
        verdict = Verdict.ALERT if size >= math.log1p(limits.alert) else Verdict.WARN
    threshold = 1 + (limits.warn if verdict is Verdict.WARN else limits.alert)
    which = {None: "all", 0: "negative", 1: "positive"}[change.label]
    detail: dict[str, object] = {"class": which, "n": change.n}
    if scope.model.labels is not None and scope.model.labels.task != "binary":
        which, detail = "all", {"n": change.n}
    words = f"{'' if which == 'all' else which} labels take {change.factor:.2f} times as long as before".strip()
    if verdict is not Verdict.OK:
        detail["what"] = words
    return _result(
        scope, DELAY, change.factor, verdict, detail, threshold=threshold, p_value=change.p_value,
        interval=(change.low, change.high),
    )  # fmt: skip


def lateness_of(windows: Sequence[tuple[Window, DelayCounts]], *, now: datetime) -> DelayChange | None:
    """The newest quarter of the windows, and the stretch before it, against the others; ``None`` where these are few.

    The newest stretch shows first that fewer labels have landed than usual; in the one before it more have, which tells
    how fast those of either class come.
    """
    n_recent = step = max(3, len(windows) // 4)
    # The last group of short windows is often not full yet.
    week = round(timedelta(days=7) / max(window.length for window, _ in windows)) if windows else 0
    if week > 1 and len(windows) >= 4 * week:
        n_recent, step = max(n_recent // week, 1) * week, week
        windows = windows[len(windows) % week :]
    first = len(windows) - n_recent
    if first < 4:
        return None
    found = [_change_at(windows, first, n_recent, step, now=now)]
    if first - step >= MIN_GROUPS * step:
        found.append(_change_at(windows, first - step, n_recent, step, now=now))
    told = [replace(each, p_value=min(1.0, len(found) * each.p_value)) for each in found if each is not None]
    return min(told, key=lambda change: change.p_value, default=None)


def _change_at(
    windows: Sequence[tuple[Window, DelayCounts]], first: int, length: int, step: int, *, now: datetime
) -> DelayChange | None:
    """The ``length`` windows from ``first`` on against stretches before them, each as it was when it was as young."""
    counts = [each for _, each in windows]
    # What was counted some time ago says what had landed by then, and no more.
    seen = [min(now.timestamp(), each.as_of or now.timestamp()) for each in counts]
    ages = [at - window.end.timestamp() for at, (window, _) in zip(seen, windows, strict=True)][first : first + length]

    def stretch(start: int) -> DelayCounts:
        return reduce(merge, (known_by(each, age) for each, age in zip(counts[start:], ages, strict=False)))

    last = first - length
    earlier = [stretch(start) for start in range(last % step, last + 1, step)]
    # A change in the stretch just before would teach what is usual.
    earlier = earlier[:-1] if len(earlier) > MIN_GROUPS else earlier
    older = counts[:first]
    law = learn(reduce(merge, older), windows=older if len(earlier) < MIN_GROUPS else ())
    return delay_change(stretch(first), law, earlier=earlier)


def _outage(
    scope: Scope,
    landed: Landed,
    law: DelayLaw | None,
    windows: Sequence[tuple[Window, DelayCounts]],
    *,
    newest: datetime,
    now: datetime,
    history: Sequence[Result],
) -> Result:
    """How long is it since a label landed, against the longest usual gap and the labels that should have come since?"""
    since = max((now - newest) / timedelta(days=1), 0.0)
    # The silence that lasts is no part of what is usual: it would teach its own limit, which then grows with it.
    before = [r for r in history if r.window.end < newest and r.verdict is not Verdict.ALERT]
    past = sorted(r.value for r in before if r.value is not None)
    if law is None or len(past) < 3:
        reason = "too few windows to know the usual gap between labels"
        return _result(scope, OUTAGE, since, Verdict.CANNOT_TELL, {"reason": reason})
    usual = past[-1] if len(past) < 10 else quantiles(past, n=20)[-1]
    per_window = float(landed.predictions.sum())
    starts = [window.start for window, _ in windows] + [scope.window.start]
    ages = np.array([(now - start) / timedelta(seconds=1) for start in starts])
    total = np.maximum(law.n, 1)
    found = silence(
        ages, np.full(len(ages), per_window), law, since=since * DAY, share_positive=total[1] / sum(total)
    )  # fmt: skip
    limit = 2 * usual + scope.window.length / timedelta(days=1)
    stopped = since > limit and found.p_value < CHANCE
    detail: dict[str, object] = {"expected_labels": round(found.expected, 1), "usual_gap_days": round(usual, 3)}
    if stopped:
        detail["what"] = f"no label for {since:.1f} days; about {found.expected:,.0f} were due"
    return _result(
        scope, OUTAGE, since, Verdict.ALERT if stopped else Verdict.OK, detail, threshold=limit, p_value=found.p_value
    )


def _result(
    scope: Scope,
    metric: str,
    value: float | None,
    verdict: Verdict,
    detail: dict[str, object],
    *,
    threshold: float | None = None,
    p_value: float | None = None,
    interval: tuple[float, float] | None = None,
) -> Result:
    return scope.result(
        Check.QUALITY,
        metric,
        feature=SERIES,
        value=value,
        verdict=verdict,
        threshold=threshold,
        p_value=p_value,
        interval=interval,
        detail=detail,
    )
