"""The daemon: a clock that rings, a loop that does what is due, and signs of life that cannot lie.

APScheduler is only the clock.  What is due is read from the store, so that a restart, a second worker and catch-up
after a week off are the same code path.  The main thread watches the tick's age, since a scheduler whose thread has
died still says that it is running.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from monitor import alerting, health
from monitor.config import Config
from monitor.config_file import ConfigErrors, load
from monitor.drawing import draw
from monitor.models import Claim
from monitor.run import RunReport, plan_model, run_window
from monitor.sending import Sender
from monitor.service import Service
from monitor.store import Store, StoreError

log = structlog.get_logger()

LATE_TICKS = 10
"""After so many tick lengths without a completed tick the worker is not alive, whatever it says."""


def new_worker_name() -> str:
    """Unique among all workers on all machines, and readable."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


class Worker:
    """One process that plans, works, delivers and draws until it is told to stop."""

    def __init__(self, config: Config, path: Path) -> None:
        self.config, self.path = config, path
        self.name = new_worker_name()
        self.stopping = threading.Event()
        self.vital = health.Vital(started=time.monotonic())
        self._mark = _file_mark(path)
        self._busy = threading.Lock()
        self._ticks = 0
        self._dirty = False
        self._sender: Sender | None = None

    def run(self, *, max_ticks: int | None = None) -> int:
        """Work until SIGTERM, SIGINT, or ``max_ticks``; the exit code is 0 after an orderly stop."""
        self._catch_signals()
        store = Store.open(self.config.store.get_secret_value())
        service = Service(self.config, store)
        served = health.serve(self.config.worker.metrics, self.vital, store, self.config)
        clock = _clock()
        every = self.config.worker.tick.total_seconds()
        self._supervise(clock, "tick", lambda: self.tick(service), every)
        self._supervise(clock, "deliver", lambda: self._deliver(service), min(every, 5))
        self._supervise(clock, "reap", lambda: self._reap(service), max(every, 15))
        self._supervise(clock, "retention", lambda: self._prune(service), 6 * 3600)
        log.info("worker_started", worker=self.name)
        clock.start()
        try:
            return self._watch(max_ticks)
        finally:
            self.stopping.set()
            clock.shutdown(wait=True)
            if served is not None:
                served.close()
            service.close()
            store.close()
            log.info("worker_stopped", worker=self.name)

    def tick(self, service: Service) -> None:
        """Plan what is due and work it off; a completed tick is the sign of life."""
        self._reload(service)
        report = RunReport()
        now = datetime.now(UTC)
        for name in list(service.config.models):
            if self.stopping.is_set():
                return
            with _contained("plan", model=name):
                plan_model(service, name, now=now, report=report)
        workers = self.config.worker.concurrency
        with ThreadPoolExecutor(workers, thread_name_prefix="window") as pool:
            for future in [pool.submit(self._work, service, report) for _ in range(workers)]:
                future.result()
        self._dirty = self._dirty or report.windows > 0
        if self._dirty and not self.stopping.is_set():
            with _contained("draw"):
                draw(service, now=now)
                self._dirty = False
        service.store.tick(self.name, detail={"windows": report.windows, "states": report.states})
        self.vital.ticked(report)
        self._ticks += 1
        health.heartbeat(self.config.worker.heartbeat)
        health.notify_systemd("WATCHDOG=1")

    def _work(self, service: Service, report: RunReport) -> None:
        while not self.stopping.is_set():
            claim = service.store.claim(self.name, lease=self.config.worker.lease, models=list(service.config.models))
            if claim is None:
                return
            with self._renewing(service, claim), _contained("window", model=claim.model, job=claim.job.value):
                run_window(service, claim, now=datetime.now(UTC), report=report)

    @contextmanager
    def _renewing(self, service: Service, claim: Claim) -> Iterator[None]:
        """Keep the lease while the window is worked on, up to the window's deadline."""
        done = threading.Event()
        lease = self.config.worker.lease
        deadline = time.monotonic() + self.config.worker.window_deadline.total_seconds()

        def renew() -> None:
            while not done.wait(lease.total_seconds() / 3) and time.monotonic() < deadline:
                try:
                    if not service.store.renew(claim, lease=lease):
                        return
                except StoreError as error:
                    log.warning("renew_failed", reason=str(error))

        thread = threading.Thread(target=renew, name="renew", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _deliver(self, service: Service) -> None:
        if self._sender is None:
            self._sender = Sender(service)
        self.vital.delivered(self._sender.deliver(stop=self.stopping))

    def _reap(self, service: Service) -> None:
        service.store.reap(
            max_attempts=self.config.worker.max_attempts, announce=lambda row: alerting.given_up(service, row)
        )

    def _prune(self, service: Service) -> None:
        keep, now = self.config.retention, datetime.now(UTC)
        service.store.prune(results_before=now - keep.results, profiles_before=now - keep.profiles)

    def _reload(self, service: Service) -> None:
        """Take in an edited config file; a broken one is reported once, and the last good one stays in force."""
        mark = _file_mark(self.path)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            config = load(self.path)
        except ConfigErrors as errors:
            log.error("config_not_taken", problems=str(errors))
            return
        alerting.close_removed(service, config)
        self.config = service.config = config
        self._sender = None
        log.info("config_reloaded")

    def _supervise(self, clock: BackgroundScheduler, name: str, job: Callable[[], None], seconds: float) -> None:
        def guarded() -> None:
            with _contained(name):
                job()

        clock.add_job(guarded, "interval", seconds=seconds, id=name, next_run_time=datetime.now(UTC))

    def _watch(self, max_ticks: int | None) -> int:
        limit = (
            LATE_TICKS * self.config.worker.tick.total_seconds() + self.config.worker.window_deadline.total_seconds()
        )
        health.notify_systemd("READY=1")
        while not self.stopping.wait(0.2):
            if max_ticks is not None and self._ticks >= max_ticks:
                return 0
            if self.vital.age() > limit:
                log.error("tick_overdue", seconds=round(self.vital.age()))
                return 1
        return 0

    def _catch_signals(self) -> None:
        def stop(number: int, _: FrameType | None) -> None:
            if self.stopping.is_set():
                os._exit(128 + number)
            self.stopping.set()
            threading.Thread(target=self._force, name="grace", daemon=True).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    def _force(self) -> None:
        """Past the grace an unfinished window is left to its lease: another worker takes it over."""
        time.sleep(self.config.worker.grace.total_seconds())
        log.warning("grace_over")
        os._exit(0)


@contextmanager
def _contained(what: str, **where: str) -> Iterator[None]:
    """The one broad except of each supervised loop: what fails is logged, and the loop goes on."""
    try:
        yield
    except Exception as error:
        log.exception("failed", what=what, kind=type(error).__name__, **where)


def _clock() -> BackgroundScheduler:
    defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    return BackgroundScheduler(job_defaults=defaults, timezone=UTC)


def _file_mark(path: Path) -> tuple[int, int] | None:
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size
