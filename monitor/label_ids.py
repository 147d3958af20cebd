"""Do the ids of labels and predictions match?  Labels that no prediction asked for are counted, shown, and no error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from statistics import median
from typing import Any

import structlog

from detectors.intervals import wilson
from monitor.checks import Scope
from monitor.incidents import LABELS as SERIES
from monitor.label_tasks import column_of
from monitor.models import Check, Result, Verdict
from monitor.sources import Source, SourceError, Unmatched
from monitor.store import Store

log = structlog.get_logger()

UNMATCHED = "label_unmatched"
AT_LEAST = timedelta(days=30)
"""Predictions are looked for this far back, or three times as far as labels usually take."""
HISTORY = 60
"""Windows before this one that say what is usual."""
MIN_HISTORY = 3
NEARLY_ALL = 0.9
"""Where more than these have no prediction, ids do not match, however usual that is."""
FEW_ROWS = 2_000_000
"""Predictions of a source that cannot find them by their key, that are read for it without being asked to."""


def beside(
    results: Sequence[Result], scope: Scope, *, source: Source, store: Store, n_rows: int, now: datetime
) -> list[Result]:
    """The results of one label, and how many of the labels that landed in the window have no prediction.

    Looked at once, when the window is first looked at; the number is noted beside the other oddities of labels too.
    ``n_rows`` are the window's predictions: where many would have to be read, nothing is looked up unless asked for.
    """
    found = _known(scope, store) if scope.revision else _looked_up(scope, source, store, n_rows=n_rows, now=now)
    if found is None:
        return list(results)
    first = next((r for r in results if r.check is Check.PERFORMANCE and r.segment is None), None)
    noted = found.detail.get("n_unmatched", 0)
    if first is not None and noted:
        odd = {**first.detail.get("labels", {}), "without_prediction": noted, "looked_up": found.detail["n_checked"]}
        first.detail["labels"] = odd
    return [*results, found]


def _known(scope: Scope, store: Store) -> Result | None:
    feature, span = column_of(scope.model, SERIES), scope.window
    stored = store.results(scope.name, metric=UNMATCHED, feature=feature, start=span.start, end=span.end)
    found = next((each for each in stored if each.window == span), None)
    return None if found is None else replace(found, revision=scope.revision)


def _looked_up(scope: Scope, source: Source, store: Store, *, n_rows: int, now: datetime) -> Result | None:
    labels, window = scope.model.labels, scope.window
    if labels is None or labels.unmatched is None:
        return None
    reach = max(AT_LEAST, 3 * (labels.delay + window.length))
    asked = "unmatched" in labels.model_fields_set
    try:
        if not (asked or n_rows * (reach / window.length) <= FEW_ROWS or source.finds_by_key(scope.model)):
            return None
        seen = source.unmatched_labels(scope.model, window, reach=reach, now=now)
    except SourceError as error:  # what labels say of the predictions that they match is worth more than this
        log.warning("labels_not_looked_up", model=scope.name, reason=error.public)
        return None
    if seen is None:
        return None
    feature = column_of(scope.model, SERIES)
    since = window.start - max(HISTORY * window.length, labels.delay + window.length)
    before = store.results(scope.name, metric=UNMATCHED, feature=feature, start=since, end=window.start)
    return replace(judge(scope, seen, before), feature=feature)


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
