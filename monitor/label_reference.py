"""What the labels of the baseline say: performance to compare with, and what a score means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from detectors.bounds import value_bounds, with_never_labelled
from detectors.calibration import CalibrationError, Calibrator, fit
from detectors.calibration_drift import CalibrationBaseline
from detectors.classification import Measure, performance
from detectors.score_labels import ScoreLabels, empty
from detectors.score_labels import merge_all as merge_labels
from monitor import baselines
from monitor import calibration_drift as meaning
from monitor import performance as judging
from monitor.config import ModelConfig, RollingBaseline
from monitor.label_counting import DELAYS, LABELS, NEVER_LABELLED, Grid, count
from monitor.label_tasks import column_of, label_name
from monitor.models import Baseline, Roles, StoredProfile, Window
from monitor.sources import Source
from monitor.store import ALL, Store

REFERENCE_LABELS = "__reference_labels__"
REFERENCE_NEVER = "__reference_never__"
REFERENCE_WINDOWS = "__reference_windows__"
"""Scores and labels of the reference rows by window, roughly: how far what a score means varies without change."""
MOST_PROFILES = 3000
"""Counts of segments that are merged into a baseline of labels: of the newest windows, where these are many."""
ROUGH = 200
"""Distinct scores of a window of the reference that are kept."""


@dataclass(frozen=True)
class Reference:
    """What the labels of the baseline say: performance to compare with, and what a score means.

    ``segments`` holds performance of each segment that has enough labels, ``few`` how many labels the others have.
    """

    measures: Mapping[str, Measure]
    calibrator: Calibrator | None
    scores: CalibrationBaseline | None = None
    segments: Mapping[str, Mapping[str, Measure]] = field(default_factory=dict)
    few: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[int, int] = (0, 0)
    """How many labels are negative, and how many positive."""


_known: WeakKeyDictionary[Store, dict[tuple[object, ...], Reference | None]] = WeakKeyDictionary()


def reference(
    store: Store,
    name: str,
    model: ModelConfig,
    *,
    roles: Roles,
    source: Source,
    window: Window,
    now: datetime,
    grid: Grid,
) -> Reference | None:
    """Performance and calibration of the reference rows; ``None`` where the baseline has no times or no labels.

    The counts are kept in the store once they are final; while labels of the reference rows still land, they are read
    again once a day.
    """
    baseline = store.baseline(name)
    span = None if baseline is None else labelled_span(baseline, model, window)
    if baseline is None or span is None or model.labels is None:
        return None
    final = now >= span.end + model.labels.delay
    cache = _known.setdefault(store, {})
    key = (
        name, label_name(model), baseline.id, span, "final" if final else now.date(), str(model.labels.only_when),
        str(model.performance.value), model.performance.beta, *model.performance.metrics,
    )  # fmt: skip
    if key not in cache:
        asked: dict[str, Any] = {"roles": roles, "source": source, "span": span, "window": window}
        counted = _reference_counts(store, name, model, **asked, now=now, grid=grid, final=final, baseline=baseline)
        if len(cache) > 256:
            cache.clear()
        cache[key] = _summed_up(counted, model)
    return cache[key]


def labelled_span(baseline: Baseline, model: ModelConfig, window: Window) -> Window | None:
    """The reference rows; for a rolling baseline moved back by the label delay, so that its labels are mature."""
    if isinstance(model.baseline, RollingBaseline) and model.labels is not None:
        start = window.start - model.labels.delay - model.baseline.rolling
        return Window(start, start + model.baseline.rolling)
    return baseline.window


@dataclass(frozen=True)
class Reckoned:
    """The reference rows that can be labelled, those that never can, and the former by window, oldest first.

    ``segments`` holds the first two of each segment.
    """

    scores: ScoreLabels
    never: ScoreLabels
    windows: Sequence[ScoreLabels] = ()
    segments: Mapping[str, tuple[ScoreLabels, ScoreLabels]] = field(default_factory=dict)


def _summed_up(found: Reckoned, model: ModelConfig) -> Reference | None:
    counts, never = found.scores, found.never
    if counts.n_labelled < model.performance.min_labels:
        return None
    try:
        calibrator = fit(counts)
    except CalibrationError:
        calibrator = None
    scores = meaning.baseline_of(counts, found.windows) if model.performance.watches_scores else None
    least = model.performance.min_labels
    return Reference(
        performance_of(model, counts, never),
        calibrator,
        scores,
        {name: performance_of(model, *each) for name, each in found.segments.items() if each[0].n_labelled >= least},
        {name: each[0].n_labelled for name, each in found.segments.items() if each[0].n_labelled < least},
        (counts.n_negative, counts.n_positive),
    )


def performance_of(model: ModelConfig, counts: ScoreLabels, never: ScoreLabels) -> dict[str, Measure]:
    """The realized metrics, with the bounds of those that the never labelled enter."""
    beta, worth = model.performance.beta, model.performance.value
    measures = performance(counts, metrics=metrics_of(model), beta=beta)
    told = with_never_labelled(measures, counts, never, beta=beta)
    if worth:
        told["value"] = value_bounds(judging.business_value(counts, worth), counts, never, worth)
    return told


def metrics_of(model: ModelConfig) -> list[str]:
    return model.performance.computed()


def _reference_counts(
    store: Store,
    name: str,
    model: ModelConfig,
    *,
    roles: Roles,
    source: Source,
    span: Window,
    window: Window,
    now: datetime,
    grid: Grid,
    final: bool,
    baseline: Baseline,
) -> Reckoned:
    """The counts of the reference rows, from the store where they are kept, else read."""
    named = baselines.named_segments(baseline)
    kept = kept_reference(store, name, model, span, complete=final, segments=named)
    if kept is not None:
        return kept
    pieces = max(1, round(span.length / window.length))
    counted, delays = count(
        source.read_labels(model, roles, span, now=now),
        window=span,
        now=now,
        grid=grid,
        segments=baselines.known_segments(baseline),
        pieces=pieces,
    )
    length = span.length / pieces
    cuts = [Window(span.start + place * length, span.start + (place + 1) * length) for place in range(pieces)]
    taken = {
        each.window for each in store.profiles(name, start=span.start, end=span.end, columns=[column_of(model, LABELS)])
    }
    fresh = [
        StoredProfile(name, cut, column_of(model, DELAYS), each)
        for cut, each in zip(cuts, delays, strict=True)
        if cut not in taken and each.landed.any()
    ]
    scores = counted.scores[None]
    never = counted.never[None]
    by_segment = {each: (counted.scores.get(each, empty()), counted.never.get(each, empty())) for each in named}
    by_window = [(cut, part) for cut, part in zip(cuts, counted.pieces or [scores], strict=True) if part.n_labelled]
    if final:
        apart = model.labels is not None and model.labels.only_when is not None
        fresh.append(StoredProfile(name, span, column_of(model, REFERENCE_LABELS), scores.coarsen(20_000)))
        fresh += [StoredProfile(name, span, column_of(model, REFERENCE_NEVER), never.coarsen())] if apart else []
        column = column_of(model, REFERENCE_WINDOWS)
        fresh += [StoredProfile(name, cut, column, part.coarsen(ROUGH)) for cut, part in by_window]
        for segment, (theirs, refused) in by_segment.items():
            fresh.append(StoredProfile(name, span, column_of(model, REFERENCE_LABELS), theirs.coarsen(), segment))
            if apart:
                fresh.append(StoredProfile(name, span, column_of(model, REFERENCE_NEVER), refused.coarsen(), segment))
    store.save_profiles(fresh)
    return Reckoned(scores, never, [part for _, part in by_window], by_segment)


def kept_reference(
    store: Store,
    name: str,
    model: ModelConfig,
    span: Window,
    *,
    complete: bool,
    segments: Sequence[str] = (),
) -> Reckoned | None:
    """The counts of the reference rows as they are stored, whole or, where labels are ``complete``, by window.

    With those of ``segments``, if any are asked for.
    """
    apart = model.labels is not None and model.labels.only_when is not None
    labels, together = column_of(model, LABELS), column_of(model, REFERENCE_LABELS)
    nevers, nevers_together = column_of(model, NEVER_LABELLED), column_of(model, REFERENCE_NEVER)
    by_window = column_of(model, REFERENCE_WINDOWS)
    columns = [together, labels, by_window, *([nevers_together, nevers] if apart else [])]
    pairs = {labels: nevers, together: nevers_together} if apart else {}
    kept = _apart(store.profiles(name, start=span.start, end=span.end, columns=columns), pairs)
    single = [each for each in kept if each.column == labels]
    whole = {each.column: _scores(each) for each in kept if each.window == span}
    if together in whole:
        theirs = store.profiles(name, start=span.start, end=span.end, columns=[together, nevers_together], segment=ALL)
        found = {(each.column, each.segment): _scores(each) for each in theirs if each.window == span}
        if any((together, segment) not in found for segment in segments):
            return None
        windows = [_scores(each) for each in kept if each.column == by_window] or [_scores(each) for each in single]
        by_segment = {each: (found[together, each], found.get((nevers_together, each), empty())) for each in segments}
        return Reckoned(whole[together], whole.get(nevers_together, empty()), windows, by_segment)
    covered = sum((each.window.length for each in single), timedelta(0))
    if not complete or covered < 0.9 * span.length:
        return None
    windows = [_scores(each) for each in single]
    never = merge_labels(_scores(each) for each in kept if each.column == nevers)
    if not segments:
        return Reckoned(merge_labels(windows), never, windows)
    newest = sorted(each.window.start for each in single)[-max(MOST_PROFILES // len(segments), 1) :]
    theirs = _apart(store.profiles(name, start=newest[0], end=span.end, columns=columns, segment=ALL), pairs)
    split_by = {each.segment.partition("=")[0] for each in theirs if each.segment is not None}
    if not split_by.issuperset(each.partition("=")[0] for each in segments) and not isinstance(
        model.baseline, RollingBaseline
    ):
        return None  # counted before this column was one of the segments
    by_segment = {each: (_merged(theirs, labels, each), _merged(theirs, nevers, each)) for each in segments}
    return Reckoned(merge_labels(windows), never, windows, by_segment)


def _apart(kept: Sequence[StoredProfile], pairs: Mapping[str, str]) -> list[StoredProfile]:
    """The counts of labels; without those from before the condition was configured, which hold both together."""
    found = [each for each in kept if isinstance(each.profile, ScoreLabels)]
    split = {(each.window, each.column, each.segment) for each in found}
    return [
        each for each in found if each.column not in pairs or (each.window, pairs[each.column], each.segment) in split
    ]


def _merged(kept: Sequence[StoredProfile], column: str, segment: str) -> ScoreLabels:
    return merge_labels(_scores(each) for each in kept if each.column == column and each.segment == segment)


def _scores(kept: StoredProfile) -> ScoreLabels:
    if not isinstance(kept.profile, ScoreLabels):
        raise TypeError(f"{kept.column} of {kept.window.start} holds no label counts")
    return kept.profile
