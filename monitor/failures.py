"""What becomes of a window that could not be computed: it waits for its source, is tried again, or ends as an error.

Three kinds of failure, three answers:

1. **The source** is down, or lacks a table, a column or a right.  No window is to blame: the oldest one waits, with
   growing pauses, and the others behind it; it costs no attempt.  Once the source answers again all of them are
   computed, in order and by themselves.  People are told once for each source and day.
2. **The window**: its statement runs into the time limit, its values cannot be read, our code fails on it, or its
   deadline passes.  It is tried ``worker.max_attempts`` times, then ends as ``error``; later windows go on.
   ``monitor backfill`` runs it again.
3. **The worker** died.  When the lease ends the window is given to the next one, and after ``max_attempts`` deaths it
   ends as ``error`` as well (:func:`reap`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from monitor import alerting
from monitor.config import format_duration
from monitor.models import Claim, RunState
from monitor.service import Service
from monitor.sources import SourceError, TransientSourceError

log = structlog.get_logger()

OF_THE_WINDOW = frozenset({"timeout", "value", "unknown"})
"""Reasons of a :class:`~monitor.sources.SourceError` that lie in one window's rows rather than in the source."""
LONGEST_WAIT = timedelta(minutes=15)


def give_up(service: Service, claim: Claim, error: Exception, *, now: datetime) -> RunState | None:
    """Put a window back, or end it as an error, saying why; ``None`` if another worker has it by now."""
    late = service.holds.is_late(claim)
    of_source = isinstance(error, SourceError)
    log.warning(
        "window_failed",
        model=claim.model,
        job=claim.job.value,
        window=str(claim.window.start),
        attempt=claim.attempt,
        reason=_reason(service, error, late=late),
        # Of an error that nobody foresaw the log has all there is; secrets are taken out of it there.
        exc_info=None if of_source else error,
    )
    service.forget(claim.model)
    if isinstance(error, SourceError) and not late and error.reason not in OF_THE_WINDOW:
        return _wait(service, claim, error, now=now)
    return _try_again(service, claim, _reason(service, error, late=late), now=now)


def reap(service: Service) -> int:
    """Take windows back from workers that are gone, and tell of those given up; how many there were."""
    return service.store.reap(
        max_attempts=service.config.worker.max_attempts, announce=lambda row: alerting.given_up(service, row)
    )


def _wait(service: Service, claim: Claim, error: SourceError, *, now: datetime) -> RunState | None:
    """Leave the window until the source may answer again; a passing fault is told of only once it lasts."""
    waited = _waited(service, claim)
    patience = service.config.worker.max_attempts if isinstance(error, TransientSourceError) else 1
    kept = service.store.fail(
        claim,
        reason=str(error),
        retry_at=_pause(service, claim, waited),
        counted=False,
        detail={"waited": waited + 1, "waits_for": service.source_name(claim.model)},
        operator_messages=alerting.source_broken(service, claim, error, now=now) if waited >= patience else [],
    )
    return RunState.PENDING if kept else None


def _try_again(service: Service, claim: Claim, reason: str, *, now: datetime) -> RunState | None:
    last = claim.attempt >= service.config.worker.max_attempts
    kept = service.store.fail(
        claim,
        reason=reason,
        retry_at=None if last else _pause(service, claim, claim.attempt),
        operator_messages=alerting.window_failed(service, claim, reason, now=now) if last else [],
    )
    if not kept:
        return None
    return RunState.ERROR if last else RunState.PENDING


def _reason(service: Service, error: Exception, *, late: bool) -> str:
    """Words that may be stored and shown: never the text of an error that is not ours."""
    if late:
        limit = format_duration(service.config.worker.window_deadline)
        return f"it took longer than `worker.window_deadline` ({limit})"
    if isinstance(error, SourceError):
        return str(error)
    return f"it could not be computed ({type(error).__name__}); the log says where"


def _waited(service: Service, claim: Claim) -> int:
    rows = service.store.windows(claim.model, claim.job, start=claim.window.start, end=claim.window.end)
    return next((int(row.detail.get("waited", 0)) for row in rows if row.window == claim.window), 0)


def _pause(service: Service, claim: Claim, times: int) -> timedelta:
    """Twice as long each time, up to a limit, give or take a fifth: the token is as good as dice."""
    jitter = 0.8 + 0.4 * int(claim.token[:4], 16) / 0xFFFF
    pause: timedelta = min(LONGEST_WAIT, service.config.worker.tick * 2 ** min(times, 12))
    return pause * jitter
