"""A range of the past, oldest window first: the same path as the daemon's, so it can stop and go on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from monitor import schedule
from monitor.models import RunState
from monitor.run import RunReport, run_window
from monitor.service import Service

Advance = Callable[[int, int, str], None]
"""Told ``(done, total, what)`` after each window."""


def backfill_range(
    service: Service,
    *,
    start: datetime,
    end: datetime,
    now: datetime,
    alerts: bool,
    models: list[str] | None = None,
    advance: Advance | None = None,
    worker: str = "backfill",
) -> RunReport:
    """Run every closed window that lies within ``[start, end)``; those done before are left as they are."""
    report = RunReport()
    names = models or list(service.config.models)
    for name in names:
        schedule.plan_range(service, name, start=start, end=end, now=now, alerts=alerts)
    waiting = [RunState.PENDING, RunState.LEASED]
    total = sum(len(service.store.windows(name, start=start, end=end, states=waiting)) for name in names)
    while (claim := service.store.claim(worker, lease=service.config.worker.lease, models=names)) is not None:
        run_window(service, claim, now=now, report=report)
        if advance is not None:
            advance(report.windows, max(total, report.windows), f"{claim.model} {claim.window.start:%Y-%m-%d %H:%M}")
    return report
