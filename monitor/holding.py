"""Keeps a window ours while it is worked on, and sees to it that the work ends: by its deadline, or when it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from monitor.models import Claim
from monitor.store import Store, StoreError

log = structlog.get_logger()

_CUT_AGAIN = 1.0
"""Seconds after which a read that was cut is cut again: it may have opened another connection meanwhile."""


@dataclass
class Held:
    """One window under work."""

    claim: Claim
    since: float
    late: bool = False
    """Its deadline has passed."""
    done: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Whoever cuts holds it: what is read for the next window must not be cut for this one."""


@dataclass
class Holds:
    """The windows that this process works on; safe to be asked from any thread."""

    _held: dict[int, Held] = field(default_factory=dict)

    def oldest(self) -> float:
        """Seconds since the window that has been worked on the longest was begun; 0 when none is."""
        return max((time.monotonic() - held.since for held in list(self._held.values())), default=0.0)

    def is_late(self, claim: Claim) -> bool:
        held = self._held.get(claim.run_id)
        return held is not None and held.late

    def give_back(self, store: Store) -> int:
        """Release what is not finished, so that the next worker need not wait for the leases to end; how many."""
        released = 0
        for held in list(self._held.values()):
            with suppress(StoreError):
                released += store.release(held.claim, reason="the worker was stopped")
        return released

    @contextmanager
    def hold(
        self, store: Store, claim: Claim, *, lease: timedelta, deadline: timedelta, cut: Callable[[], None]
    ) -> Iterator[Held]:
        """Renew the lease until the block ends; at the deadline, or when the lease is lost, ``cut`` what is read.

        Parameters
        ----------
        cut
            Ends the reads under way, from another thread; called again until the block is left.
        """
        held = self._held[claim.run_id] = Held(claim, time.monotonic())
        done = threading.Event()
        watcher = threading.Thread(
            target=_watch, args=(store, held, done), kwargs={"lease": lease, "deadline": deadline, "cut": cut},
            name="hold", daemon=True,
        )  # fmt: skip
        watcher.start()
        try:
            yield held
        finally:
            with held.lock:
                held.done = True
            done.set()
            self._held.pop(claim.run_id, None)


def _watch(
    store: Store,
    held: Held,
    done: threading.Event,
    *,
    lease: timedelta,
    deadline: timedelta,
    cut: Callable[[], None],
) -> None:
    ends = held.since + deadline.total_seconds()
    step = lease.total_seconds() / 3
    while not done.wait(max(0.0, min(step, ends - time.monotonic()))):
        if time.monotonic() >= ends:
            held.late = True
            # What the cut sets free still has to be written down as failed: the lease is kept so much longer.
            with suppress(StoreError):
                store.renew(held.claim, lease=lease)
            log.warning("window_overdue", model=held.claim.model, window=str(held.claim.window.start))
            break
        try:
            if not store.renew(held.claim, lease=lease):
                log.warning("lease_lost", model=held.claim.model, window=str(held.claim.window.start))
                break
        except StoreError as error:
            log.warning("renew_failed", reason=str(error))
    while not done.is_set():
        with held.lock:
            if not held.done:
                cut()
        done.wait(_CUT_AGAIN)
