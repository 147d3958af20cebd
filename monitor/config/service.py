"""`reports`, `retention` and `worker`: pages, how long things are kept, and the daemon."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from monitor.config.block import Block
from monitor.config_types import Duration, LongDuration, NonEmpty, Whole, at_least


class ReportsConfig(Block):
    """Where the pages are written, and what is on them."""

    dir: Path = Path("reports")
    """Folder they are written to; relative to the config file."""
    url: NonEmpty | None = None
    """Public address of that folder, for links in messages. Without it a Slack bot attaches a picture instead."""
    keep: LongDuration = timedelta(days=90)
    """Pages of older windows are removed (results stay: see `retention`)."""
    evidently: Literal["never", "on_alert", "always"] = "on_alert"
    """When to add Evidently's interactive page of the columns that fired (about 5 MB each)."""
    evidently_rows: Whole = Field(5000, ge=100, le=100_000)
    """Rows it is given of either side."""
    evidently_timeout: LongDuration = timedelta(minutes=2)
    """It runs in a process of its own, which is stopped after this time."""
    min_category_rows: Whole = Field(10, ge=1)
    """Categories with fewer rows are shown as "(other)"."""


class RetentionConfig(Block):
    """How long the store keeps what; `monitor db prune` and the worker remove the rest."""

    results: LongDuration = timedelta(days=400)
    """Results and incidents."""
    profiles: LongDuration = timedelta(days=400)
    """Counts of windows, from which rolling baselines are made."""
    samples: Duration = timedelta(0)
    """Skew examples hold raw values; 0 keeps none."""


_HOST_PORT = re.compile(r"^(\[[0-9a-fA-F:]+\]|[\w.-]*):(\d{1,5})$")


def _host_port(value: str) -> str:
    match = _HOST_PORT.match(value)
    if match is None or not 0 <= int(match[2]) <= 65535:
        raise ValueError("expected host:port such as 127.0.0.1:9109")
    return value


class WorkerConfig(Block):
    """The daemon (`monitor worker`)."""

    tick: Annotated[Duration, AfterValidator(at_least(timedelta(seconds=1)))] = timedelta(seconds=30)
    """How often it looks for closed windows and unsent messages."""
    max_catch_up: Duration = timedelta(days=7)
    """After downtime, back-fill at most this much by itself; older windows are marked as skipped."""
    concurrency: Whole = Field(2, ge=1, le=32)
    """Windows worked on at the same time."""
    lease: Annotated[Duration, AfterValidator(at_least(timedelta(seconds=5)))] = timedelta(minutes=2)
    """A window whose worker has not been heard of for this long is taken over."""
    window_deadline: LongDuration = timedelta(minutes=30)
    """A window that takes longer is given up, and tried again later."""
    max_attempts: Whole = Field(3, ge=1, le=20)
    """Attempts before a window is marked as failed."""
    grace: Duration = timedelta(seconds=30)
    """On SIGTERM, time to finish the window at hand."""
    metrics: Annotated[str, AfterValidator(_host_port)] | None = "127.0.0.1:9109"
    """`host:port` of Prometheus /metrics, /livez and /readyz; empty turns it off."""
    heartbeat: SecretStr | None = None
    """A URL that is fetched after each completed tick."""
    idle_memory: Whole = Field(150, ge=0)
    """MB: a worker that has worked, is idle and holds more replaces itself by a fresh process under the same process
    id (on Linux); 0 switches that off."""
