"""Drawing after the work: Evidently's pages for what fired, then the site, from the store alone."""

from __future__ import annotations

from datetime import datetime

import structlog

from monitor.reports.site import build_site
from monitor.service import Service

log = structlog.get_logger()


def draw(service: Service, *, now: datetime, models: list[str] | None = None) -> None:
    """Redraw the pages that changed; a folder that cannot be written never costs a result or an alert."""
    try:
        build_site(service.store, service.config, now=now, models=models)
    except OSError as error:
        log.error("report_not_written", reason=error.strerror)
