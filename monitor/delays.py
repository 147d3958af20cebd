"""Do labels come as they used to?  Late labels and labels that stopped are findings of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from statistics import median_high, quantiles
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.completeness import MIN_GROUPS, completeness_ahead
from detectors.delay import DelayLaw, learn
from detectors.delay_change import SURE, DelayChange, Landings, delay_change
from detectors.delay_counts import DelayCounts, merge
from detectors.posterior import Landed
from detectors.silence import silence
from monitor.checks import Scope
from monitor.incidents import LABELS as SERIES
from monitor.models import Check, Result, Verdict, Window

DELAY, OUTAGE = "label_delay", "label_outage"
METRICS = (DELAY, OUTAGE)
DAY = 86400.0
LIKELY, UNSURE = 5e-3, 0.05
"""How unlikely by chance a change of delay is that is a warning, and one of which nothing can be told either way."""


def delay_findings(
    scope: Scope,
    law: DelayLaw | None,
    windows: Sequence[tuple[Window, DelayCounts]],
    *,
    newest: datetime | None,
    now: datetime,
    history: Sequence[Result] = (),
    strata: Sequence[str] = (),
) -> list[Result]:
    """Both findings as of ``now``, of which ``newest`` is when the newest label of any window landed.

    Parameters
    ----------
    law, windows
        The delay law for the window in question, and the windows since :func:`looked_back`, oldest first.
    history
        Earlier results of ``label_outage``, oldest first.
    strata
        What each stratum of the counts is called, where they are worth a look by themselves.
    """
    found = [_lateness(scope, windows, newest=newest, silences=silences(history, now=now), strata=strata, now=now)]
    if newest is not None:
        found.append(_outage(scope, law, windows, newest=newest, now=now, history=history))
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


# --- later than before -----------------------------------------------------------------------------


def _lateness(
    scope: Scope,
    windows: Sequence[tuple[Window, DelayCounts]],
    *,
    newest: datetime | None,
    silences: Sequence[Silent],
    strata: Sequence[str],
    now: datetime,
) -> Result:
    limits = None if scope.model.labels is None else scope.model.labels.delay_change
    change = lateness_of(windows, now=now, newest=newest, silences=silences, by_stratum=bool(strata))
    if change is None or limits is None:
        # It holds up nothing: labels that came back after an outage end that incident by themselves.
        reason = f"too few weeks with labels to know how late labels are: {MIN_GROUPS + 1} are needed"
        return _result(scope, DELAY, None, Verdict.CANNOT_TELL, {"reason": reason, "decides": False})
    size = abs(math.log(change.factor))
    verdict = Verdict.OK
    if size >= math.log1p(limits.warn) and change.p_value <= UNSURE:
        verdict = Verdict.CANNOT_TELL
        if change.p_value <= LIKELY:
            verdict = Verdict.ALERT if size >= math.log1p(limits.alert) and change.p_value <= SURE else Verdict.WARN
    threshold = 1 + (limits.warn if verdict is Verdict.WARN else limits.alert)
    which = {None: "all", 0: "negative", 1: "positive"}[change.label]
    detail: dict[str, object] = {"class": which, "n": change.n}
    if scope.model.labels is not None and scope.model.labels.task != "binary":
        which, detail = "all", {"n": change.n}
    where = "" if change.stratum is None else f" of predictions with {strata[change.stratum]}"
    if where:
        detail["stratum"] = strata[change.stratum or 0]
    words = f"{'' if which == 'all' else which} labels{where} take {change.factor:.2f} times as long as before".strip()
    if change.creeps:
        detail["creeps"] = True
        words += ", a little longer each week" if change.factor > 1 else ", a little less each week"
    if verdict is Verdict.CANNOT_TELL:
        # It holds up nothing: an incident of labels is over when no window says so any more.
        chance = f"weeks differ so much without a change once in {1 / change.p_value:.0f}"
        reason = f"{words}, as far as can be told: {chance}"
        detail |= {"reason": reason, "decides": False}
    elif verdict is not Verdict.OK:
        detail["what"] = words
    return _result(
        scope, DELAY, change.factor, verdict, detail, threshold=threshold, p_value=change.p_value,
        interval=(change.low, change.high),
    )  # fmt: skip


def lateness_of(
    windows: Sequence[tuple[Window, DelayCounts]],
    *,
    now: datetime,
    newest: datetime | None = None,
    silences: Sequence[Silent] = (),
    by_stratum: bool = False,
) -> DelayChange | None:
    """The newest week, and some weeks before it, each against the weeks before that; ``None`` where these are few.

    Weeks are compared as they were known when they were as young, so that labels which land on weekdays only, or once a
    week, do not look like a change.  All is seen as of the newest landing (and a window): that none has come since is a
    matter of the outage.  Of labels that an outage has held up nothing is said: windows from before it are seen as of
    its beginning, those made in it are left out.
    """
    if not windows:
        return None
    # A day on which clocks change is longer or shorter than the others; the last group of hours may not be full yet.
    length = median_high(window.length for window, _ in windows)
    week = _week(length)
    at = _places(windows, length)
    last, step = int(at[-1]), np.full(int(at[-1]) + 1, -1)
    step[at] = np.arange(len(windows))
    age = _ages(windows, now=now, newest=newest, silences=silences)
    landings = Landings([counts for _, counts in windows], by_stratum=by_stratum)
    looks, mature = [], windows[-1][1].mature / (week * length.total_seconds())
    for back in (back for back in WEEKS_BACK if back <= max(math.ceil(mature), 1)):
        ends = range(last + 1 - back * week, week - 1, -week)
        weeks = [step[end - week : end] for end in ends][: MOST_WEEKS + 1][::-1]
        if len(weeks) <= MIN_GROUPS:
            continue
        young = np.where(weeks[-1] >= 0, age[weeks[-1]], -1.0)
        known = [places for places in weeks[:-1] if _as_old(age, places, young)]
        if len(known) >= MIN_GROUPS and (young >= 0).any():
            looks.append(landings.stretches([*known, weeks[-1]], young))
    if not looks:
        return None
    first = max(len(windows) - week, 1)
    return delay_change(looks, learn(_together([counts for _, counts in windows[:first]])), by_stratum=by_stratum)


WEEKS_BACK = (0, 1, 2, 4, 8)
"""How many weeks ago the stretches end that are asked about: of an older one more labels are in."""
MOST_WEEKS = 12
"""Weeks at most that say how much weeks differ."""


def looked_back(length: timedelta, delay: timedelta) -> timedelta:
    """From how far before a window of this length on others are asked, whose labels take ``delay`` to be mature."""
    week = max(length, timedelta(weeks=1))
    return min(delay + week, max(WEEKS_BACK) * week) + (MOST_WEEKS + 1) * week


def _week(length: timedelta) -> int:
    """How many windows make a stretch: the fewest that are whole weeks; one where windows are a week or longer."""
    days = length / timedelta(days=1)
    return 1 if days >= 7 else next(n for n in range(1, 10_000) if abs(n * days / 7 - round(n * days / 7)) < 1e-6)


def _places(windows: Sequence[tuple[Window, DelayCounts]], length: timedelta) -> npt.NDArray[np.int64]:
    """Which place in time each window takes, in windows: one that is missing leaves its place empty."""
    if length >= timedelta(days=7):
        return np.arange(len(windows))
    first = windows[0][0].start
    return np.array([round((window.start - first) / length) for window, _ in windows], dtype=np.int64)


def _ages(
    windows: Sequence[tuple[Window, DelayCounts]], *, now: datetime, newest: datetime | None, silences: Sequence[Silent]
) -> npt.NDArray[np.float64]:
    """At which age (seconds) each window's labels are known as they would be without a silence; -1: at none."""
    found = np.empty(len(windows))
    for place, (window, counts) in enumerate(windows):
        # A window later, so that the bin of ages in which the newest label landed is over.
        seen = min(now, (newest or now) + window.length).timestamp()
        # What was counted some time ago says what had landed by then, and no more.
        until = min(seen, counts.as_of or seen)
        for silent in silences:
            if window.start < silent.end:
                until = min(until, silent.start.timestamp())
        found[place] = until - window.end.timestamp()
    return np.where(found < 0, -1.0, found)


def _as_old(age: npt.NDArray[np.float64], places: npt.NDArray[np.int64], young: npt.NDArray[np.float64]) -> bool:
    """Whether the windows of an earlier stretch are known as they were at these ages; half of them must be there."""
    needed = young >= 0
    there = needed & (places >= 0)
    return bool(2 * there.sum() >= needed.sum() and (age[places[there]] >= young[there]).all())


def _together(windows: Sequence[DelayCounts]) -> DelayCounts:
    """The counts of all windows, in one stratum."""
    found = reduce(merge, windows)
    parts = (found.landed, found.at_risk, found.predictions, found.ripe, found.ripe_labelled)
    landed, at_risk, predictions, ripe, ripe_labelled = (each.sum(axis=0, keepdims=True) for each in parts)
    return replace(
        found, landed=landed, at_risk=at_risk, predictions=predictions, ripe=ripe, ripe_labelled=ripe_labelled
    )


# --- stopped ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Silent:
    """A time in which no label landed though many were due; its end is the first look that saw labels again."""

    start: datetime
    end: datetime


def silences(history: Sequence[Result], *, now: datetime) -> list[Silent]:
    """The outages that earlier looks have told of, oldest first."""
    found: list[Silent] = []
    looks = [_looked(each) for each in history]
    for place, (result, look) in enumerate(zip(history, looks, strict=True)):
        if result.verdict is Verdict.ALERT and look is not None:
            after = (each.at for each in looks[place + 1 :] if each is not None and each.newest > look.newest)
            end = next(after, now)
            if not found or found[-1].end <= look.newest:
                found.append(Silent(look.newest, end))
    return found


class _Look(NamedTuple):
    """When was looked, and when the newest label had landed by then."""

    at: datetime
    newest: datetime

    @property
    def since(self) -> float:
        return max((self.at - self.newest) / timedelta(days=1), 0.0)


def _looked(result: Result) -> _Look | None:
    told = [result.detail.get(name) for name in ("as_of", "newest")]
    if not all(isinstance(each, str) for each in told):
        return None
    return _Look(*(datetime.fromisoformat(str(each)) for each in told))


def _outage(
    scope: Scope,
    law: DelayLaw | None,
    windows: Sequence[tuple[Window, DelayCounts]],
    *,
    newest: datetime,
    now: datetime,
    history: Sequence[Result],
) -> Result:
    """How long is it since a label landed, against the usual gaps and the labels that should have come since?"""
    since = _Look(now, newest).since
    detail: dict[str, object] = {"as_of": now.isoformat(), "newest": newest.isoformat()}
    # The silence that lasts is no part of what is usual: it would teach its own limit, which then grows with it.
    past = [look for r in history if r.verdict is not Verdict.ALERT for look in [_looked(r)] if look is not None]
    limit = longest_usual(past, now=now, newest=newest, length=scope.window.length)
    if law is None or limit is None:
        detail["reason"] = "too little is known of the usual gap between labels"
        return _result(scope, OUTAGE, since, Verdict.CANNOT_TELL, detail | {"decides": False})
    ages = np.array([(now - window.start) / timedelta(seconds=1) for window, _ in windows])
    pending = np.array([float(counts.predictions.sum()) for _, counts in windows])
    total = np.maximum(law.n, 1)
    found = silence(ages, pending, law, since=since * DAY, share_positive=total[1] / sum(total))
    stopped = since > limit and found.p_value < SURE
    detail["expected_labels"] = round(found.expected, 1)
    if stopped:
        when = f"{newest:%Y-%m-%d %H:%M} UTC"
        detail["what"] = f"no label since {when}, for {since:.1f} days; about {found.expected:,.0f} were due"
    return _result(
        scope, OUTAGE, since, Verdict.ALERT if stopped else Verdict.OK, detail, threshold=limit, p_value=found.p_value
    )


def longest_usual(looks: Sequence[_Look], *, now: datetime, newest: datetime, length: timedelta) -> float | None:
    """After how many days without a label it is unusual that none has come; ``None`` before enough is known.

    Where looks at this time of the week (of the day, in windows shorter than that) all found the newest label about as
    old, that age and half a window.  Else the gaps between labels: where these are alike, a quarter more than the
    longest, else two and a half times what 95 % of looks have found; a window on top of either: looks are at its end.

    Parameters
    ----------
    looks
        Earlier ones that told of no outage, oldest first.
    """
    window = length / timedelta(days=1)
    past = [look for look in looks if look.newest < newest]
    if len(past) < 3 or (window < WEEK / 2 and (now - past[0].at) / timedelta(days=1) < WEEK + 1):
        return None
    found = [look.since for look in past]
    usual = max(found) if len(found) < 10 else quantiles(found, n=20)[-1]
    landings = [*(look.newest for look in past[1:]), newest]
    gaps = [look.since for look, after in zip(past, landings, strict=True) if look.newest < after]
    alike = len(gaps) >= 3 and max(gaps) <= 1.25 * min(gaps)
    limit = (1.25 * max(gaps) if alike else 2.5 * usual) + window
    cycle = WEEK if window >= 1 else 1.0
    same = [look.since for look in past if _phase(now - look.at, cycle) <= window / 4]
    if len(same) >= SAME and max(same[-SAME_MOST:]) - min(same[-SAME_MOST:]) <= window / 2:
        limit = min(limit, max(same[-SAME_MOST:]) + window / 2)
    return limit


WEEK = 7
SAME, SAME_MOST = 6, 10
"""From how many looks at one time of the week, and at how many at most, it is told how old the newest label is then."""


def _phase(away: timedelta, cycle: float) -> float:
    """By how many days two times differ in their place in a cycle of so many."""
    rest = away / timedelta(days=1) % cycle
    return min(rest, cycle - rest)


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
