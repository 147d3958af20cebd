"""Drawing after the work: Evidently's page of what fired, then the site, from the store alone."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import structlog

from monitor.models import Baseline, Check, Job, Roles, RunState, WindowRow
from monitor.reports import evidently_page
from monitor.reports.files import evidently_page_path
from monitor.service import Service
from monitor.sources import Source, SourceError, drawn
from monitor.store import StoreError

log = structlog.get_logger()
SEED = 0


def draw(service: Service, *, now: datetime, models: list[str] | None = None) -> None:
    """Redraw the pages that changed; a folder that cannot be written never costs a result or an alert."""
    from monitor.reports.site import build_site  # noqa: PLC0415 - with Jinja, which a daemon at rest does without

    for name in models or list(service.config.models):
        try:
            drill_down(service, name, now=now)
        except (SourceError, OSError, StoreError) as error:
            log.warning("drill_down_not_drawn", model=name, reason=str(error))
    try:
        build_site(service.store, service.config, now=now, models=models)
    except OSError as error:
        log.warning("report_not_written", reason=str(error))


def drill_down(service: Service, name: str, *, now: datetime) -> Path | None:
    """Evidently's page of the newest window that calls for one, drawn once, on a bounded sample of what fired.

    ``reports.evidently``: with ``on_alert`` the newest window in which a feature alerts, and the features that do;
    with ``always`` the newest window, and all features.  Returns the page, or ``None`` where there is nothing to draw.
    """
    wish = service.config.reports
    if wish.evidently == "never":
        return None
    found = _newest(service, name, alerting=wish.evidently == "on_alert")
    baseline = service.store.baseline(name)
    if found is None or baseline is None:
        return None
    row, fired = found
    out = wish.dir / evidently_page_path(name, row.window)
    if out.exists():
        return None
    columns = fired or baseline.features
    model = service.model(name)
    with service.source(name) as source:
        roles = service.roles(name, source, now=now)
        current = source.sample(model, roles, row.window, columns=columns, rows=wish.evidently_rows, seed=SEED, now=now)
        reference = _reference(service, baseline, source, roles, columns=columns, now=now)
    made = evidently_page.draw(
        reference,
        current,
        columns,
        out,
        timeout=wish.evidently_timeout,
        min_category_rows=wish.min_category_rows,
    )
    if made.reason is not None:
        log.warning("drill_down_not_drawn", model=name, window=str(row.window.start), reason=made.reason)
    return made.path


def _newest(service: Service, name: str, *, alerting: bool) -> tuple[WindowRow, list[str]] | None:
    """The newest computed window; with ``alerting`` the one in which drift last fired, and the features that did."""
    rows = {row.window.start: row for row in service.store.windows(name, Job.INPUTS, states=[RunState.OK])}
    if not alerting:
        return (rows[max(rows)], []) if rows else None
    fired = [i for i in service.store.incidents(name) if i.check is Check.FEATURE_DRIFT and i.last_window in rows]
    if not fired:
        return None
    newest = max(fired, key=lambda incident: incident.last_window)
    return rows[newest.last_window], newest.features


def _reference(
    service: Service, baseline: Baseline, source: Source, roles: Roles, *, columns: list[str], now: datetime
) -> pa.Table:
    model, rows = service.model(baseline.model), service.config.reports.evidently_rows
    if baseline.window is not None:
        return source.sample(model, roles, baseline.window, columns=columns, rows=rows, seed=SEED, now=now)
    return drawn(source.read_relation(model, roles, now=now), rows=rows, seed=SEED)
