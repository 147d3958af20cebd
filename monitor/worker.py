"""The daemon: a clock that rings, loops that do what is due, and signs of life that cannot lie.

APScheduler is only the clock.  What is due is read from the store, so that a restart, a second worker and catch-up
after a week off are the same code path.  Each source has a lane of its own, a thread that plans and works off the
windows of its models: a database that hangs holds up nobody else's.  The main thread watches the clock's thread, the
tick and the windows, since a scheduler whose thread has died still says that it is running.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Protocol

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from monitor import alerting, failures, health, renewal
from monitor.config import Config
from monitor.config_file import ConfigErrors, load
from monitor.drawing import draw
from monitor.memory import give_back
from monitor.models import Claim
from monitor.renewal import RENEW
from monitor.run import RunReport, plan_model, work_off
from monitor.sending import Sender
from monitor.service import Service
from monitor.store import Store, StoreError, StoreUnavailable
from monitor.windows import fires_between

log = structlog.get_logger()

STORE_RETRY = 5.0
"""Seconds between two tries to open a store that is not up yet."""
LAST_WORDS = 2.0
"""Seconds that giving windows back may take once the grace is over."""
TICKS_KEPT = timedelta(days=30)


def new_worker_name() -> str:
    """Unique among all workers on all machines, and readable."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


@dataclass
class Lane:
    """The thread that works on one source, and what it has done since somebody last asked."""

    service: Service
    thread: threading.Thread | None = None
    report: RunReport = field(default_factory=RunReport)

    @property
    def busy(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def join(self, seconds: float) -> None:
        if self.thread is not None:
            self.thread.join(seconds)


class Onlooker(Protocol):
    """A person at the terminal, who is told what is done as it is done; nothing depends on it."""

    def started(self, service: Service) -> None: ...

    def done(self, service: Service, claim: Claim) -> None: ...

    def ended(self) -> None: ...


class Worker:
    """One process that plans, works, delivers and draws until it is told to stop."""

    def __init__(self, config: Config, path: Path, onlooker: Onlooker | None = None) -> None:
        self.config, self.path, self._onlooker = config, path, onlooker
        self._legacy = renewal.inherited()
        self.name = self._legacy.name if self._legacy else new_worker_name()
        self.renewing = False
        """Whether it ends only to start anew; a signal to end takes that back."""
        self.stopping = threading.Event()
        self.vital = health.Vital(started=time.monotonic())
        self.lanes: dict[str, Lane] = {}
        self._mark = _file_mark(path)
        self._slots = threading.BoundedSemaphore(config.worker.concurrency)
        self._drawing = threading.Lock()
        self._delivering = threading.Lock()
        self._planned: dict[str, datetime] = dict(self._legacy.planned) if self._legacy else {}
        self._dirty = threading.Event()
        if self._legacy is None or self._legacy.mark != self._mark:
            self._dirty.set()
        self._has_worked = False
        self._quiet_ticks = 0
        self._due_for_renewal = threading.Event()
        self._ticks = 0
        self._sender: tuple[Service, Sender] | None = None
        self._service: Service | None = None
        self._retired: list[Service] = []

    @property
    def service(self) -> Service:
        if self._service is None:
            raise RuntimeError("the worker has not been started")
        return self._service

    def run(self, *, max_ticks: int | None = None) -> int:
        """Work until SIGTERM, SIGINT, or ``max_ticks``; the exit code is 0 after an orderly stop.

        ``RENEW``: it has ended in the same order, idle and too large, and wants to be started anew.

        A tick that is counted by ``max_ticks`` waits until all that is due is done.

        Raises
        ------
        StoreError
            The store cannot be used; one that is only not up yet is waited for.
        """
        self._catch_signals()
        store = self._open_store()
        if store is None:
            return 0
        self._service = Service(self.config, store)
        self.vital.oldest_window = self._service.holds.oldest
        served = health.serve(self.config.worker.metrics, self.vital, store, self.config)
        clock = _clock()
        every = self.config.worker.tick.total_seconds()
        self._supervise(clock, "tick", lambda: self.tick(patience=every if max_ticks is None else None), every)
        self._supervise(clock, "deliver", self._deliver, min(every, 5))
        self._supervise(clock, "reap", lambda: failures.reap(self.service), max(every, 15))
        self._supervise(clock, "draw", self._draw, every)
        self._supervise(clock, "retention", self._prune, 6 * 3600)
        with _contained("removed"):
            alerting.close_removed(self.service, self._removed_meanwhile())
        if self._legacy is None:
            log.info("worker_started", worker=self.name)
            if self._onlooker is not None:
                with _contained("tell"):
                    self._onlooker.started(self.service)
        else:
            log.info("worker_renewed", worker=self.name, before=_mb(self._legacy.memory), after=_mb(renewal.resident()))
        clock.start()
        code = 1
        try:
            code = self._watch(clock, max_ticks)
        finally:
            self.renewing = code == RENEW
            if self.stopping.is_set():  # by a signal that came just before
                self.renewing = False
            self.stopping.set()
            if code in (0, RENEW):
                clock.shutdown(wait=True)
                self._wait(self.config.worker.grace.total_seconds())
            self._hand_back()
            if max_ticks is not None:
                self._last_round()
            if served is not None:
                served.close()
            if not any(lane.busy for lane in self.lanes.values()):
                self.service.close()
                store.close()
            if code == RENEW and not self.renewing:
                code = 0
            log.info("worker_stopped", worker=self.name, code=code)
            if self._onlooker is not None and code != RENEW:
                self._onlooker.ended()
        return code

    def legacy(self) -> renewal.Legacy:
        """What the worker that takes the place of this one has to know."""
        return renewal.Legacy(os.getpid(), self.name, renewal.resident() or 0.0, self._mark, dict(self._planned))

    # --- the loops -----------------------------------------------------------------------------------

    def tick(self, *, patience: float | None = None) -> None:
        """Start every lane that is idle; a completed tick is the sign of life.

        Parameters
        ----------
        patience
            Seconds to wait for the lanes, ``None``: until they are done.  Those that are not go on meanwhile.
        """
        self.vital.tick_began()
        self._reload()
        service = self.service
        for source in dict.fromkeys(service.source_name(name) for name in service.config.models):
            lane = self.lanes.get(source)
            if lane is None or not lane.busy:
                self._start_lane(source, service)
        self._wait(patience)
        self._close_retired()
        done = self._gather()
        self._ticks += not self.stopping.is_set()
        detail = {"windows": done.windows, "states": done.states} | self._identity()
        service.store.tick(self.name, detail=detail)
        self.vital.ticked(done)
        health.heartbeat(self.config.worker.heartbeat)
        health.notify_systemd("WATCHDOG=1")
        self._has_worked |= done.windows > 0
        self._quiet_ticks = 0 if done.windows else self._quiet_ticks + 1
        if self._is_due_for_renewal():
            self._due_for_renewal.set()

    def _is_due_for_renewal(self) -> bool:
        """Whether it has worked, has nothing to do now, holds more than it should, and could be started again."""
        limit = self.config.worker.idle_memory
        if not limit or not self._has_worked or self._quiet_ticks < renewal.QUIET_TICKS or self._is_busy():
            return False
        if any(source.spark is not None for source in self.config.sources.values()):
            return False  # its driver is a child that this process has to wait for
        give_back()
        used = renewal.resident()
        if used is None or used <= limit:
            return False
        problem = _not_startable(self.path)
        if problem is not None:
            # Asked again after as many ticks: the one that runs is better than none.
            self._quiet_ticks = 0
            log.info("not_renewed", reason=problem)
        return problem is None

    def _is_busy(self) -> bool:
        sending = self._delivering.locked() or (self._sender is not None and self._sender[1].uncertain)
        drawing = self._drawing.locked() or self._dirty.is_set()
        return sending or drawing or bool(self._retired) or any(lane.busy for lane in self.lanes.values())

    def _start_lane(self, source: str, service: Service) -> None:
        lane = self.lanes[source] = Lane(service)
        # A daemon thread: one that hangs must not keep the process from ending.
        lane.thread = threading.Thread(target=self._lane, args=(source, lane), name=f"lane-{source}", daemon=True)
        lane.thread.start()

    def _is_time(self, service: Service, name: str, *, now: datetime) -> bool:
        """Whether a model's closed windows are to be looked for: at every tick, or when its `schedule` has fired."""
        schedule, last = service.model(name).schedule, self._planned.get(name)
        if schedule is None or last is None:
            return True
        return fires_between(schedule, service.config.zone, after=last, until=now)

    def _lane(self, source: str, lane: Lane) -> None:
        """Plan the models of one source, then work off what is due, oldest first."""
        service = lane.service
        models = [name for name in service.config.models if service.source_name(name) == source]

        def ended() -> bool:
            return self.stopping.is_set() or service is not self._service

        def after(claim: Claim) -> None:
            self._dirty.set()
            if self._onlooker is not None:
                with _contained("tell", model=claim.model):
                    self._onlooker.done(service, claim)

        for name in models:
            if ended():
                return
            now = datetime.now(UTC)
            if self._is_time(service, name, now=now):
                with _contained("plan", model=name):
                    plan_model(service, name, now=now, report=lane.report)
                    self._planned[name] = now
        with _contained("work", source=source):
            work_off(
                service,
                worker=self.name,
                models=models,
                clock=lambda: datetime.now(UTC),
                report=lane.report,
                turn=lambda: self._slots,
                stop=ended,
                after=after,
            )
        if lane.report.windows or self._ticks == 0:
            give_back()

    def _deliver(self) -> None:
        if self._sender is None or self._sender[0] is not self._service:
            if self._sender is not None:
                self._sender[1].close()
            self._sender = (self.service, Sender(self.service))
        with self._delivering:
            report = self._sender[1].deliver(stop=self.stopping)
        self.vital.delivered(report)
        if report.sent or report.retried:
            self._quiet_ticks = 0

    def _draw(self) -> None:
        if self._dirty.is_set() and not self.stopping.is_set():
            self._dirty.clear()
            with self._drawing:
                draw(self.service, now=datetime.now(UTC))
            self._has_worked, self._quiet_ticks = True, 0
            give_back()

    def _prune(self) -> None:
        keep, now = self.config.retention, datetime.now(UTC)
        self.service.store.prune(
            results_before=now - keep.results,
            profiles_before=now - keep.profiles,
            samples_before=now - keep.samples,
            ticks_before=now - TICKS_KEPT,
        )

    # --- another config ------------------------------------------------------------------------------

    def _reload(self) -> None:
        """Take in an edited config file; a broken one is reported once, and the last good one stays in force."""
        mark = _file_mark(self.path)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            config = load(self.path)
        except (ConfigErrors, OSError) as errors:
            log.warning("config_not_taken", problems=str(errors))
            return
        before, self.config = self.service, config
        # Windows under work end under the config that they began with.
        self._retired.append(before)
        self._service = Service(config, before.store, holds=before.holds)
        self._dirty.set()
        log.warning("config_reloaded", restart_needed_for=", ".join(_fixed(before.config, config)) or "nothing")
        alerting.close_removed(self.service, set(before.config.models) - set(config.models))

    def _close_retired(self) -> None:
        """Close the sources of earlier configs; what a late window opened of a model now gone is ended as well."""
        for old in list(self._retired):
            if not any(lane.busy and lane.service is old for lane in self.lanes.values()):
                self._retired.remove(old)
                old.close()
                alerting.close_removed(self.service, set(old.config.models) - set(self.config.models))

    def _identity(self) -> dict[str, object]:
        """What the next worker of this config file needs to know: which models there were."""
        return {"config": str(self.path.resolve()), "models": sorted(self.config.models)}

    def _removed_meanwhile(self) -> set[str]:
        """Models that the last worker of this very config file still had."""
        ours = [t for t in self.service.store.last_ticks() if t.detail.get("config") == str(self.path.resolve())]
        return set(ours[0].detail.get("models", [])) - set(self.config.models) if ours else set()

    # --- starting, watching, stopping ----------------------------------------------------------------

    def _open_store(self) -> Store | None:
        """Open the store, waiting for one that is not up yet; ``None`` when told to stop meanwhile."""
        while not self.stopping.is_set():
            try:
                return Store.open(self.config.store.get_secret_value())
            except StoreUnavailable as error:
                log.warning("store_not_up", reason=str(error))
                self.stopping.wait(STORE_RETRY)
        return None

    def _supervise(self, clock: BackgroundScheduler, name: str, job: Callable[[], object], seconds: float) -> None:
        def guarded() -> None:
            with _contained(name):
                job()

        clock.add_job(guarded, "interval", seconds=seconds, id=name, next_run_time=datetime.now(UTC))

    def _watch(self, clock: BackgroundScheduler, max_ticks: int | None) -> int:
        """Wait for the end; 1 when a loop has stopped, so that whoever supervises the process starts it anew.

        ``RENEW`` when it is idle and too large, which a run of so many ticks never is.
        """
        limit = health.longest_tick(self.config)
        health.notify_systemd("READY=1")
        while not self.stopping.wait(0.2):
            if max_ticks is not None and self._ticks >= max_ticks:
                return 0
            if max_ticks is None and self._due_for_renewal.is_set():
                return RENEW
            if not clock._thread.is_alive():
                log.error("clock_died")
                return 1
            if max_ticks is None and self.vital.silence() > limit:
                log.error("tick_overdue", seconds=round(self.vital.silence()))
                return 1
            if self.vital.oldest_window() > health.longest_window(self.config):
                log.error("window_hangs", seconds=round(self.vital.oldest_window()))
                return 1
        return 0

    def _wait(self, seconds: float | None) -> None:
        """Wait for the lanes, at most so long; a stop is not waited out in a tick."""
        ends = None if seconds is None else time.monotonic() + seconds
        for lane in list(self.lanes.values()):
            while lane.busy and (ends is None or time.monotonic() < ends):
                lane.join(0.05)
                if self.stopping.is_set() and threading.current_thread() is not threading.main_thread():
                    return

    def _gather(self) -> RunReport:
        """What the lanes have done since the last tick."""
        done = RunReport()
        for lane in self.lanes.values():
            done.add(lane.report.take())
        return done

    def _last_round(self) -> None:
        """After ``max_ticks``: what was found is told and drawn before the process ends."""
        self.stopping.clear()
        with _contained("deliver"):
            self._deliver()
        with _contained("draw"):
            self._draw()
        self.stopping.set()

    def _hand_back(self) -> None:
        """Give back what is not finished; a store that does not answer is not waited for."""
        if self._service is None:
            return
        service = self._service
        thread = threading.Thread(target=lambda: service.holds.give_back(service.store), name="hand-back", daemon=True)
        thread.start()
        thread.join(LAST_WORDS)

    def _catch_signals(self) -> None:
        def stop(number: int, _: FrameType | None) -> None:
            if self.renewing:
                # It ends in order already, and now for good.
                self.renewing = False
            elif self.stopping.is_set():
                os._exit(128 + number)
            self.stopping.set()
            threading.Thread(target=self._force, name="grace", daemon=True).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        renewal.let_signals_in()

    def _force(self) -> None:
        """Past the grace an unfinished window is given back: the next worker begins it anew."""
        time.sleep(self.config.worker.grace.total_seconds())
        log.warning("grace_over")
        self._hand_back()
        os._exit(0)


def work(config: Config, path: Path, *, max_ticks: int | None = None, onlooker: Onlooker | None = None) -> int:
    """Run a worker until it is told to stop, and start the process anew whenever it wants that; give the exit code."""
    while True:
        worker = Worker(config, path, onlooker)
        code = worker.run(max_ticks=max_ticks)
        if code != RENEW:
            return code
        problem = _replace(worker)
        if not worker.renewing:
            return 0
        # Where it cannot be replaced the old process goes on, with the config that it had.
        log.warning("not_renewed", reason=problem)
        config = worker.config


def _replace(worker: Worker) -> str:
    """Start the process anew in place of this worker, which has ended; the answer is why that could not be done."""
    # Looked at again, as late as can be: ending has taken a while.
    problem = _not_startable(worker.path)
    renewal.hand_over(worker.legacy())
    if problem is not None:
        return problem
    health.notify_systemd("WATCHDOG=1")
    return renewal.replace_process(unless=lambda: not worker.renewing)


def _not_startable(path: Path) -> str | None:
    """Why a process that is started now would end at once; ``None`` where nothing speaks against it."""
    try:
        load(path)
    except (ConfigErrors, OSError) as errors:
        return str(errors)
    return None if sys.executable else "the interpreter is not known"


def _mb(size: float | None) -> str:
    return "?" if size is None else f"{size:.0f} MB"


@contextmanager
def _contained(what: str, **where: str) -> Iterator[None]:
    """The one broad except of each supervised loop: what fails is logged, and the loop goes on."""
    try:
        yield
    except StoreError as error:
        log.warning("failed", what=what, reason=str(error), **where)
    except Exception as error:
        log.exception("failed", what=what, kind=type(error).__name__, **where)


def _clock() -> BackgroundScheduler:
    # A tick that waits for its lanes is met by the next ring: no news.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    return BackgroundScheduler(job_defaults=defaults, timezone=UTC, daemon=True)


def _fixed(before: Config, after: Config) -> list[str]:
    """Keys that are read once, when the process starts."""
    fixed = ["store"] if before.store != after.store else []
    names = ("tick", "concurrency", "metrics")
    return fixed + [f"worker.{name}" for name in names if getattr(before.worker, name) != getattr(after.worker, name)]


def _file_mark(path: Path) -> tuple[int, int] | None:
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size
