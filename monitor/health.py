"""Signs of life: /livez, /readyz and Prometheus /metrics, an outbound heartbeat, and systemd's watchdog."""

from __future__ import annotations

import os
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from pydantic import SecretStr

from monitor.config import Config
from monitor.models import IncidentState
from monitor.store import Store, StoreError

if TYPE_CHECKING:
    from monitor.delivery import DeliveryReport
    from monitor.run import RunReport

log = structlog.get_logger()

STORE_LIMIT = 120.0
"""Seconds: the longest that one call of the store may take."""


@dataclass
class Vital:
    """When the last tick was completed, and what has been done so far."""

    started: float
    last_tick: float | None = None
    last_begun: float | None = None
    oldest_window: Callable[[], float] = field(default=lambda: 0.0)
    """Seconds that the longest-running window has taken so far."""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.windows = Counter("monitor_windows", "Windows worked on, by outcome.", ["state"], registry=self.registry)
        self.messages = Counter(
            "monitor_messages", "Messages, by what became of them.", ["state"], registry=self.registry
        )
        self.tick_age = Gauge(
            "monitor_tick_age_seconds", "Seconds since the last completed tick.", registry=self.registry
        )
        self.tick_age.set_function(self.age)

    def age(self) -> float:
        """Seconds since the last completed tick, or since the start."""
        return time.monotonic() - (self.last_tick if self.last_tick is not None else self.started)

    def silence(self) -> float:
        """Seconds since a tick was last begun, or since the start: a tick that fails is not a loop that hangs."""
        return time.monotonic() - (self.last_begun if self.last_begun is not None else self.started)

    def tick_began(self) -> None:
        self.last_begun = time.monotonic()

    def ticked(self, report: RunReport) -> None:
        self.last_tick = time.monotonic()
        for state, n in report.states.items():
            self.windows.labels(state).inc(n)

    def delivered(self, report: DeliveryReport) -> None:
        for state in ("sent", "retried", "dead"):
            self.messages.labels(state).inc(getattr(report, state))


def longest_tick(config: Config) -> float:
    """Seconds without a completed tick after which nobody should believe that the worker is well.

    A tick waits for lanes no longer than its own length, and for the store as long as its time limits let it.
    """
    return 4 * config.worker.tick.total_seconds() + STORE_LIMIT


def longest_window(config: Config) -> float:
    """Seconds after which a window hangs: it was cut at its deadline, and did not end."""
    return config.worker.window_deadline.total_seconds() + STORE_LIMIT


class Served:
    """A listening health endpoint."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.server = server
        self.thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
        self.thread.start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def serve(address: str | None, vital: Vital, store: Store, config: Config) -> Served | None:
    """Listen on ``host:port``; ``None`` when switched off or when the port is taken (said in the log)."""
    if not address:
        return None
    host, _, port = address.rpartition(":")
    open_incidents = Gauge("monitor_open_incidents", "Incidents that are open.", registry=vital.registry)
    outbox = Gauge("monitor_outbox", "Messages in the outbox.", ["destination", "state"], registry=vital.registry)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Requests of a health endpoint are not news."""

    def answer(path: str) -> tuple[int, str, bytes]:
        plain = "text/plain; charset=utf-8"
        if path == "/livez":
            alive = vital.age() <= longest_tick(config) and vital.oldest_window() <= longest_window(config)
            return (200 if alive else 503), plain, f"last tick {vital.age():.0f} s ago\n".encode()
        if path == "/readyz":
            return (200, plain, b"ready\n") if vital.last_tick is not None else (503, plain, b"no tick yet\n")
        if path == "/metrics":
            _refresh(store, open_incidents, outbox)
            return 200, CONTENT_TYPE_LATEST, generate_latest(vital.registry)
        return 404, plain, b"/livez /readyz /metrics\n"

    try:
        return Served(ThreadingHTTPServer((host or "127.0.0.1", int(port)), Handler))
    except OSError as error:
        log.warning("health_not_served", address=address, reason=error.strerror)
        return None


def _refresh(store: Store, open_incidents: Gauge, outbox: Gauge) -> None:
    try:
        open_incidents.set(len(store.incidents(states=[IncidentState.OPEN])))
        for destination, counts in store.outbox_counts().items():
            for state, n in counts.items():
                outbox.labels(destination, state).set(n)
    except StoreError as error:
        log.warning("metrics_incomplete", reason=str(error))


def heartbeat(url: SecretStr | None) -> None:
    """Fetch the configured URL: whoever waits for it hears when we fall silent."""
    if url is None:
        return
    try:
        with urllib.request.urlopen(url.get_secret_value(), timeout=10):  # noqa: S310 - http(s) checked by the config
            pass
    except (OSError, ValueError) as error:
        log.warning("heartbeat_failed", kind=type(error).__name__)


def notify_systemd(state: str) -> None:
    """Tell systemd (``Type=notify``, ``WatchdogSec=``), where it runs us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    path = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), path)
    except OSError as error:
        log.warning("systemd_not_told", reason=error.strerror)
