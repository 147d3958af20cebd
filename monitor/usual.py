"""How a model's columns usually go together: what a window's correlations are compared with, from the store."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from detectors.multivariate import Correlations, Usual
from detectors.multivariate import usual as summed_up
from monitor import baselines, joint, normal
from monitor.config import Config, RollingBaseline
from monitor.models import Baseline, Verdict, Window
from monitor.store import Store

_cache: WeakKeyDictionary[Store, dict[tuple[object, ...], Usual]] = WeakKeyDictionary()
"""What a frozen baseline's windows say is the same for each window: a month of hours is not read again every hour."""
_MOST = 8


def together(
    store: Store, config: Config, baseline: Baseline, window: Window, current: Correlations | None
) -> joint.Known:
    """How features went together in the baseline's windows, and in the fine ones of late.

    Parameters
    ----------
    current
        What the window itself was measured to be: only its columns count.
    """
    if current is None:
        return joint.Known([])
    since = window.start - window.length * joint.HISTORY
    seen = [store.results(baseline.model, metric=metric, start=since, end=window.start) for metric in joint.METRICS]
    bad = {result.window.start for results in seen for result in results if result.verdict is Verdict.ALERT}
    late = store.profiles(baseline.model, start=since, end=window.start, columns=[joint.JOINT])
    model = config.models[baseline.model]
    if isinstance(model.baseline, RollingBaseline):
        span = baselines.reference_span(model, window) or normal.UNDATED
        kept = store.profiles(baseline.model, start=span.start, end=span.end, columns=[joint.JOINT])
        return joint.Known(joint.of(kept, bad), joint.of(late, bad))
    return joint.Known(_frozen(store, config, baseline, current), joint.of(late, bad))


def _frozen(store: Store, config: Config, baseline: Baseline, current: Correlations) -> Usual:
    model, span = config.models[baseline.model], baseline.window or normal.UNDATED
    shaped = () if current.shapes is None else current.shapes.names
    key = (baseline.id, baseline.spec_hash, baseline.created_at, span, current.names, shaped)
    cache = _cache.setdefault(store, {})
    if key not in cache:
        kept = store.profiles(baseline.model, start=span.start, end=span.end, columns=[joint.JOINT])
        found = joint.of(p for p in kept if not normal.is_excluded(model, p.window, config.zone))
        if len(cache) >= _MOST:
            cache.clear()
        cache[key] = summed_up(found, current)
    return cache[key]
