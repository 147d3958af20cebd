"""Do the ids of labels and predictions match, and is ``labels.delay`` long enough?

Labels that no prediction asked for, and those that come when their window counts as mature, are counted, shown, and no
error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import numpy as np
import structlog

from detectors.intervals import wilson
from monitor.checks import Scope
from monitor.config_types import format_duration
from monitor.incidents import LABELS as SERIES
from monitor.label_tasks import column_of
from monitor.models import Check, Result, Verdict
from monitor.sources import Source, SourceError, Unmatched
from monitor.store import Store

log = structlog.get_logger()

UNMATCHED = "label_unmatched"
AFTER_DELAY = "label_after_delay"
AT_LEAST = timedelta(days=30)
"""Predictions are looked for this far back, or three times as far as labels usually take."""
HISTORY = 60
"""Windows before this one that say what is usual."""
MIN_HISTORY = 3
NEARLY_ALL = 0.9
"""Where more than these have no prediction, ids do not match, however usual that is."""
MATURE_SHARE = 0.95
"""Where fewer than these land within ``labels.delay``, a value that is called mature is not."""
MIN_LANDED, MIN_WINDOWS = 20, 7
"""Labels of a window that say something about it, and such windows that say what is usual: a correction of many labels
on one day does not."""
FEW_ROWS = 2_000_000
"""Predictions of a source that cannot find them by their key, that are read for it without being asked to."""


def beside(
    results: Sequence[Result], scope: Scope, *, source: Source, store: Store, n_rows: int, now: datetime
) -> list[Result]:
    """The results of one label, and of those that landed in the window: how many have no prediction, how old are they?

    Looked at once, when the window is first looked at; the number is noted beside the other oddities of labels too.
    ``n_rows`` are the window's predictions: where many would have to be read, nothing is looked up unless asked for.
    """
    found = _known(scope, store) if scope.revision else _looked_up(scope, source, store, n_rows=n_rows, now=now)
    if not found:
        return list(results)
    unmatched = found[0]
    first = next((r for r in results if r.check is Check.PERFORMANCE and r.segment is None), None)
    noted = unmatched.detail.get("n_unmatched", 0)
    if first is not None and noted:
        odd = {**first.detail.get("labels", {}), "without_prediction": noted}
        first.detail["labels"] = {**odd, "looked_up": unmatched.detail["n_checked"]}
    return [*results, *found]


def _known(scope: Scope, store: Store) -> list[Result]:
    feature, span = column_of(scope.model, SERIES), scope.window
    stored = [
        each
        for metric in (UNMATCHED, AFTER_DELAY)
        for each in store.results(scope.name, metric=metric, feature=feature, start=span.start, end=span.end)
    ]
    return [replace(each, revision=scope.revision) for each in stored if each.window == span]


def _looked_up(scope: Scope, source: Source, store: Store, *, n_rows: int, now: datetime) -> list[Result]:
    labels, window = scope.model.labels, scope.window
    if labels is None or labels.unmatched is None:
        return []
    reach = max(AT_LEAST, 3 * (labels.delay + window.length))
    asked = "unmatched" in labels.model_fields_set
    try:
        if not (asked or n_rows * (reach / window.length) <= FEW_ROWS or source.finds_by_key(scope.model)):
            return []
        seen = source.unmatched_labels(scope.model, window, reach=reach, now=now)
    except SourceError as error:  # what labels say of the predictions that they match is worth more than this
        log.warning("labels_not_looked_up", model=scope.name, reason=error.public)
        return []
    if seen is None:
        return []
    feature = column_of(scope.model, SERIES)
    since = window.start - max(HISTORY * window.length, labels.delay + window.length)
    before, ages = (
        store.results(scope.name, metric=metric, feature=feature, start=since, end=window.start)
        for metric in (UNMATCHED, AFTER_DELAY)
    )
    return [replace(each, feature=feature) for each in (judge(scope, seen, before), judge_ages(scope, seen, ages))]


def judge(scope: Scope, seen: Unmatched, before: Sequence[Result]) -> Result:
    """Hold the share of labels without a prediction against what is usual, and against none.

    Before windows have been looked at for as long as labels take, those that land may be of predictions from before the
    log begins: nothing can be told of them.

    Parameters
    ----------
    before
        What was said of the windows before.
    """
    limits = None if scope.model.labels is None else scope.model.labels.unmatched
    detail: dict[str, Any] = {
        "n_landed": seen.n_landed,
        "n_checked": seen.n_checked,
        "n_unmatched": seen.n_unmatched,
        "predictions_since": seen.since.isoformat(),
    }
    if limits is None or not seen.n_checked:
        detail["reason"] = "no label landed in this window"
        return scope.result(
            Check.QUALITY, UNMATCHED, feature=SERIES, value=None, verdict=Verdict.NO_DATA, detail=detail
        )
    share = seen.n_unmatched / seen.n_checked
    low, high = wilson(seen.n_unmatched, seen.n_checked)
    before = sorted(before, key=lambda r: r.window.start)
    told = [r for r in before if r.verdict not in (Verdict.ALERT, Verdict.CANNOT_TELL)]
    past = [r.value for r in told if r.value is not None][-HISTORY:]
    usual = median(past) if len(past) >= MIN_HISTORY else None
    delay = timedelta(0) if scope.model.labels is None else scope.model.labels.delay
    young = not before or before[0].window.start > scope.window.start - delay
    detail["usual"] = usual
    verdict, threshold = Verdict.OK, (usual or 0.0) + limits.alert
    if usual is not None and low > usual + limits.alert:
        verdict = Verdict.ALERT
    elif low > (usual or 0.0) + limits.warn or low > NEARLY_ALL:
        verdict, threshold = Verdict.WARN, min((usual or 0.0) + limits.warn, NEARLY_ALL)
    if verdict is not Verdict.OK and young:
        verdict = Verdict.CANNOT_TELL
        detail["reason"] = "labels may be of predictions from before the first window"
    elif verdict is not Verdict.OK:
        before_it = "" if usual is None else f" (usually {usual:.0%})"
        detail["what"] = (
            f"the ids of labels and predictions do not match: {share:.0%} of {seen.n_checked:,} labels that landed in "
            f"this window have an id that no prediction since {seen.since:%Y-%m-%d} has{before_it}"
        )
    return scope.result(
        Check.QUALITY,
        UNMATCHED,
        feature=SERIES,
        value=share,
        verdict=verdict,
        threshold=threshold,
        n_current=seen.n_checked,
        interval=(low, high),
        detail=detail,
    )


def judge_ages(scope: Scope, seen: Unmatched, before: Sequence[Result]) -> Result:
    """The share of labels that come (or are corrected) when their window counts as mature, over the windows looked at.

    It is a hint that ``labels.delay`` is too short, and never an alert: what is said of mature windows, and what is
    corrected for labels still to come, leaves those labels out.

    Parameters
    ----------
    before
        What was said of the windows before; those under another ``labels.delay`` do not count.
    """
    delay = timedelta(0) if scope.model.labels is None else scope.model.labels.delay
    late = sum(age > delay + scope.window.length for age in seen.ages)
    detail: dict[str, Any] = {"delay": delay.total_seconds(), "n_landed": len(seen.ages), "n_late": late}
    if seen.ages:
        usual = float(np.quantile([age.total_seconds() for age in seen.ages], MATURE_SHARE))
        detail["within"] = max(usual, 0.0)  # labels may be older than their prediction
    told = [r.detail for r in before if r.detail.get("delay") == detail["delay"]]
    full = [each for each in (*told[-HISTORY:], detail) if each["n_landed"] >= MIN_LANDED]
    n, n_late = (sum(each[name] for each in full) for name in ("n_landed", "n_late"))
    if len(full) < MIN_WINDOWS:
        detail["reason"] = f"of {len(full)} windows with {MIN_LANDED} such labels, {MIN_WINDOWS} are needed"
        return scope.result(
            Check.QUALITY, AFTER_DELAY, feature=SERIES, value=None, verdict=Verdict.CANNOT_TELL, detail=detail
        )
    low, high = wilson(n_late, n)
    limit = 1 - MATURE_SHARE
    usually = median(each["n_late"] / each["n_landed"] for each in full)
    verdict = Verdict.WARN if min(low, usually) > limit else Verdict.OK
    if verdict is Verdict.WARN:
        enough = timedelta(seconds=median(each["within"] for each in full))
        detail["what"] = (
            f"`labels.delay` is too short: {n_late / n:.0%} of the labels that landed in {len(full)} windows came "
            f"(or were corrected) more than {format_duration(delay)} after their prediction, when it counts as mature; "
            f"{math.ceil(enough / timedelta(days=1))}d would hold {MATURE_SHARE:.0%} of them"
        )
    return scope.result(
        Check.QUALITY,
        AFTER_DELAY,
        feature=SERIES,
        value=n_late / n,
        verdict=verdict,
        threshold=limit,
        n_current=n,
        interval=(low, high),
        detail=detail,
    )
