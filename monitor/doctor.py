"""`monitor doctor`: everything that could keep the service from doing its work, looked at once."""

from __future__ import annotations

import platform
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from monitor import schedule
from monitor.channels import ChannelError, open_channel
from monitor.models import IncidentState, RunState
from monitor.service import Service
from monitor.sources import SourceError
from monitor.store.schema import REVISION

CLOCKS_APART = timedelta(seconds=30)
"""Beyond this, windows are read before they have settled, or late."""

PACKAGES = (
    "ml-monitor",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "sqlalchemy",
    "alembic",
    "adbc-driver-postgresql",
    "adbc-driver-sqlite",
    "apscheduler",
    "slack-sdk",
    "evidently",
)


def examine(service: Service) -> list[dict[str, Any]]:
    """One finding for each thing looked at: ``subject``, ``ok`` and ``text``."""
    return [*_versions(), *_store(service), *_sources(service), *_windows(service), *_channels(service)]


def _finding(subject: str, text: str, *, ok: bool = True) -> dict[str, Any]:
    return {"subject": subject, "ok": ok, "text": text}


def _versions() -> list[dict[str, Any]]:
    told = [f"python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            told.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            told.append(f"{name} is missing")
    return [_finding("versions", ", ".join(told), ok=not any(t.endswith("missing") for t in told[2:]))]


def _store(service: Service) -> list[dict[str, Any]]:
    problems = service.store.check()
    found = [_finding("store", f"{service.store.url_safe}: {service.store.dialect}, revision {REVISION}")]
    found += [_finding("store", problem, ok=False) for problem in problems]
    apart = abs(service.store.now() - datetime.now(UTC))
    words = f"the store's clock and this machine's are {apart.total_seconds():.1f} s apart"
    return [*found, _finding("clocks", words, ok=apart <= CLOCKS_APART)]


def _sources(service: Service) -> list[dict[str, Any]]:
    """What each model has, and of each source, once, what answers and with which rights."""
    found: list[dict[str, Any]] = []
    sources: dict[str, dict[str, Any]] = {}
    for name in service.config.models:
        try:
            with service.source(name) as source:
                roles = service.roles(name, source, now=datetime.now(UTC))
                notes = source.probe()
            found.append(_finding(f"model {name}", f"{len(roles.features)} features, time {roles.time}"))
            subject = f"source {service.source_name(name)}"
            sources |= {
                f"{subject} {note}": _finding(subject, note, ok="give the monitor" not in note) for note in notes
            }
        except SourceError as error:
            found.append(_finding(f"model {name}", str(error), ok=False))
    return [*found, *sources.values()]


def _windows(service: Service) -> list[dict[str, Any]]:
    found = []
    for name, model in service.config.models.items():
        roles = schedule.known_roles(service, name, now=datetime.now(UTC))
        for job in schedule.jobs(model, roles):
            gaps = service.store.gaps(name, job)
            errors = service.store.windows(name, job, states=[RunState.ERROR])
            subject = f"windows of {name} ({job.value})"
            if gaps:
                first = (
                    f"{len(gaps)} missing, the first from {gaps[0].start:%Y-%m-%d %H:%M}Z; `monitor backfill` runs them"
                )
                found.append(_finding(subject, first, ok=False))
            elif errors:
                found.append(_finding(subject, f"{len(errors)} could not be run: {errors[-1].reason}", ok=False))
            else:
                found.append(_finding(subject, "no gaps"))
    n_open = len(service.store.incidents(states=[IncidentState.OPEN]))
    found.append(_finding("incidents", f"{n_open} open"))
    return found


def _channels(service: Service) -> list[dict[str, Any]]:
    found = []
    counts = service.store.outbox_counts()
    for name, told in service.config.alerts.destinations.items():
        waiting = {state: n for state, n in counts.get(name, {}).items() if n}
        try:
            open_channel(name, told).close()
        except ChannelError as error:
            found.append(_finding(f"channel {name}", error.reason, ok=False))
            continue
        words = ", ".join(f"{n} {state}" for state, n in waiting.items()) or "nothing sent yet"
        found.append(_finding(f"channel {name}", words, ok=not waiting.get("dead")))
    if not service.config.alerts.destinations:
        found.append(_finding("channels", "none is configured: nobody hears of an alert", ok=False))
    return found
