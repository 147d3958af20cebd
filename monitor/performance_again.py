"""Stored performance held to the limits of today, from what each row tells of its evidence: no label is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from detectors.classification import Measure
from monitor import calibration_drift as meaning
from monitor.checks import Scope
from monitor.config import ModelConfig
from monitor.label_tasks import label_name, views
from monitor.models import Check, Result
from monitor.performance import Curves, held, refused, spoken

_LIMITS = {"warn", "alert"}
_OF_A_LABEL = {"score", "prediction", "threshold", "positive"}


def performance_hash(model: ModelConfig, *, min_category_rows: int) -> str:
    """Identify what is measured of the labels of a window, and how sure a verdict has to be: all but the limits."""
    kept = {"table", "query", "time", "where", "key", "entity", "segments", "max_segments", "min_rows", "window",
            "baseline", "compare", "model_version"}  # fmt: skip
    plain = {
        "rows": model.model_dump(mode="json", by_alias=True, include=kept),
        "sure": [model.drift.significance, str(model.false_pages), min_category_rows],
        "labels": [
            {
                "label": view.model_dump(mode="json", by_alias=True, include=_OF_A_LABEL),
                "where": None if view.labels is None else view.labels.model_dump(mode="json", exclude={"also"}),
                "name": label_name(view),
                "measured": view.performance.model_dump(mode="json", exclude=_LIMITS),
                "told": view.performance.told(),
            }
            for view in views(model) or [model]
        ],
    }  # fmt: skip
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]


def window_again(scope: Scope, stored: Sequence[Result]) -> list[Result] | None:
    """The rows of one window and its labels; ``None`` where they do not say enough.

    Whatever has no limit in ``performance`` (how labels come, versions beside each other) is taken over.  A label
    whose column was found by its name is judged as if it were configured.
    """
    told: list[Result] = []
    for view in views(scope.model) or [scope.model]:
        name = label_name(view)
        mine = [
            r for r in stored if r.check is Check.PERFORMANCE and not r.of_versions and r.detail.get("label") == name
        ]
        again = judged_again(replace(scope, model=view), mine)
        if again is None:
            return None
        told += again
    there = {_key(row) for row in told}
    rest = [replace(row, revision=scope.revision) for row in stored if _key(row) not in there]
    return [*told, *rest]


def _key(row: Result) -> tuple[object, ...]:
    return row.check, row.metric, row.feature, row.segment, row.kind, row.detail.get("against")


def judged_again(scope: Scope, stored: Sequence[Result]) -> list[Result] | None:
    """The rows of one label of a window, held to the limits as they are now; ``None`` where they do not say enough.

    Rows that no limit judges, as with too few labels, stay as they are.
    """
    n_segments = len({row.segment for row in stored if row.segment is not None})
    told = []
    for row in stored:
        if row.metric in meaning.METRICS:
            found = meaning.judged_again(scope, row)
            if found is None:
                return None
            told.append(found)
        else:
            told.append(_again(scope, row, n_segments=n_segments if row.segment is not None else 0))
    return told


def _again(scope: Scope, row: Result, *, n_segments: int) -> Result:
    detail, metric, kind = dict(row.detail), row.metric, row.kind or "realized"
    curves, measure = _as_stored(row, n_segments=n_segments)
    row = replace(row, revision=scope.revision)
    if refused(scope, curves, metric, measure, kind=kind) is not None:
        return row
    judged = held(scope, curves, metric, measure, kind=kind)
    name = "reason" if measure.value is not None else "verdict_reason"
    detail.pop(name, None)
    if judged.reason and (name == "reason" or measure.bounds is not None):
        detail[name] = judged.reason
    verdict = spoken(judged, decides=detail["decides"])
    return replace(row, verdict=verdict, threshold=judged.threshold, detail=detail)


def _as_stored(row: Result, *, n_segments: int) -> tuple[Curves, Measure]:
    """What a row was judged by, as far as it tells."""
    detail, never = row.detail, int(row.detail.get("never_labelled") or 0)
    low, high = row.interval or (None, None)
    rate, chance = (
        None if detail.get(each) is None else tuple(detail[each]) for each in ("rate", "bounds_with_chance")
    )
    if chance is not None:
        measure = Measure(None, reason=detail.get("reason"), bounds=row.interval, chance=chance)
    else:
        measure = Measure(row.value, low, high, reason=detail.get("reason"), rate=rate)
    known, span = None, detail.get("reference_interval")
    if detail.get("reference") is not None:
        known = Measure(detail["reference"], *(span or (None, None)))
    elif span is not None:
        known = Measure(None, bounds=tuple(span), chance=tuple(span))
    n_labelled, coverage = int(detail["n_labelled"]), row.label_coverage
    if row.kind == "estimated":
        n_rows = (row.n_current or 0) - never
    else:
        n_rows = 0 if coverage is None else round(n_labelled / coverage) if coverage else 1
    curves = Curves(
        realized={},
        reference=None if known is None else {row.metric: known},
        few=detail.get("few_reference"),
        n_segments=n_segments,
        n_labelled=n_labelled,
        n_rows=n_rows,
        n_never=never,
        mature=bool(detail["mature"]),
        widest={row.metric: detail["widest"]} if "widest" in detail else {},
    )
    return curves, measure
