"""A range of the past, oldest window first: the same path as the daemon's, so it can stop and go on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from monitor import failures, schedule
from monitor.models import Claim, RunState
from monitor.run import RunReport, work_off
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
    failures.reap(service)
    for name in names:
        schedule.plan_range(service, name, start=start, end=end, now=now, alerts=alerts)
    waiting = [RunState.PENDING, RunState.LEASED]
    total = sum(len(service.store.windows(name, start=start, end=end, states=waiting)) for name in names)

    def after(claim: Claim) -> None:
        if advance is not None:
            advance(report.windows, max(total, report.windows), f"{claim.model} {claim.window.start:%Y-%m-%d %H:%M}")

    work_off(service, worker=worker, models=names, clock=lambda: now, report=report, after=after)
    return report
