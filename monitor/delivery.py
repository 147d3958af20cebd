"""Carries messages from the outbox to their channels: a loop of its own, so that a slow Slack never delays a check.

For each destination, oldest first:

1. mark the message as being sent, and only then post it: a crash in between makes the next try a *possible repeat*,
   never a silence;
2. it arrived: mark it as sent, wait 1.1 seconds, go on;
3. the network, the service or a limit stands in the way: keep it, pause this destination, try again with growing,
   random pauses for days;
4. the service refuses the message: it is dead, and somebody is told;
5. the service refuses the channel: everything is kept, and the fallback destination is told once.

When a destination comes back after an outage, what has piled up is sent as one digest.  A message that opens a
conversation may get a picture, where the channel takes one: tried once, and never at the cost of the message.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from monitor.channels import Channel, ChannelBroken, ChannelError, Delivered, Illustrated, Rejected, RetryLater
from monitor.messages import closes_thread, digest, undeliverable
from monitor.models import Message, OutboxItem, Transition

log = logging.getLogger(__name__)

LONGEST_PAUSE = 900.0
"""Seconds; also the most that a ``Retry-After`` is believed."""
FIRST_PAUSE = 5.0
_FETCHED = 1000


class Outbox(Protocol):
    """The part of the store that delivery needs."""

    def enqueue(self, messages: list[tuple[str, str, Message]]) -> Any: ...
    def outbox_due(self, destination: str, *, limit: int = 50) -> list[OutboxItem]: ...
    def mark_sending(self, item_id: int) -> Any:
        """False when another worker has taken the message."""

    def mark_sent(self, item_id: int, *, remote_ref: str | None) -> None: ...
    def mark_retry(self, item_id: int, *, not_before: datetime, error: str) -> None: ...
    def mark_dead(self, item_id: int, *, error: str) -> None: ...
    def thread_ref(self, destination: str, thread_key: str) -> str | None: ...


@dataclass(frozen=True)
class Pace:
    """How fast, how long and how often; the defaults suit Slack.

    Parameters
    ----------
    min_interval
        Seconds between two posts to one destination.
    give_up
        A message that could not be delivered for this long is dead.
    recheck
        How long a broken destination is left alone.
    digest_over, digest_age
        With more than this many messages waiting that are older than this, one digest takes their place.
    """

    min_interval: float = 1.1
    give_up: timedelta = timedelta(days=7)
    recheck: timedelta = timedelta(minutes=30)
    digest_over: int = 20
    digest_age: timedelta = timedelta(hours=1)


@dataclass
class Lane:
    """What is remembered of a destination between two calls.

    It may be lost (with the process, or when that renews itself), at the cost of one early try: when a message is
    tried again is the store's to say.  Only ``maybe_sent`` is known nowhere else, so a worker does not renew itself
    meanwhile; after a crash such a message may come again without saying so.
    """

    paused_until: datetime | None = None
    last_post: datetime | None = None
    failures: int = 0
    broken: str | None = None
    maybe_sent: set[int] = field(default_factory=set)
    no_pictures: bool = False
    """The channel has refused one for good (a right is missing)."""


@dataclass
class DeliveryReport:
    """How many messages went where; ``broken`` says why a destination takes none."""

    sent: int = 0
    digested: int = 0
    retried: int = 0
    dead: int = 0
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Nothing failed in this call; what waits from earlier calls is the store's to say."""
        return not (self.retried or self.dead or self.broken)


def deliver(
    store: Outbox,
    channels: Mapping[str, Channel],
    *,
    clock: Callable[[], datetime],
    sleep: Callable[[float], object],
    rng: random.Random,
    lanes: MutableMapping[str, Lane] | None = None,
    fallbacks: Mapping[str, str | None] | None = None,
    pace: Pace | None = None,
    picture: Callable[[Message], bytes | None] = lambda _: None,
    max_messages: int = 200,
    stop: Callable[[], bool] = lambda: False,
) -> DeliveryReport:
    """Send what is due, to each destination in its own lane, and report.

    Parameters
    ----------
    channels
        Destination → channel; what is queued for other destinations waits.
    clock, sleep, rng
        Time, waiting and jitter come from outside; ``sleep`` takes seconds, and may return early when stopped.
    lanes
        Pass the same mapping at each call, so that pauses outlast it.
    fallbacks
        Destination → the destination that is told when it is broken.
    picture
        A PNG for a message, if there is one to draw.
    max_messages
        Posts of each destination in this call.
    stop
        Asked before each post; once true, the call ends after the post under way.
    """
    report = DeliveryReport()
    lanes = {} if lanes is None else lanes
    run = _Run(store, clock, sleep, rng, pace or Pace(), dict(fallbacks or {}), picture, report, stop)
    for name, channel in channels.items():
        lane = lanes.setdefault(name, Lane())
        if not stop():
            run.lane(name, channel, lane, most=max_messages)
        if lane.broken is not None:
            report.broken[name] = lane.broken
    return report


@dataclass(frozen=True)
class _Run:
    """One call of :func:`deliver`."""

    store: Outbox
    clock: Callable[[], datetime]
    sleep: Callable[[float], object]
    rng: random.Random
    pace: Pace
    fallbacks: Mapping[str, str | None]
    picture: Callable[[Message], bytes | None]
    report: DeliveryReport
    stop: Callable[[], bool]

    def lane(self, name: str, channel: Channel, lane: Lane, *, most: int) -> None:
        """Empty one destination's queue, until it is empty, paused, stopped, or ``most`` were posted."""
        if lane.paused_until is not None and self.clock() < lane.paused_until:
            return
        batch = self.store.outbox_due(name, limit=_FETCHED)
        old = [item for item in batch if self.clock() - item.created_at > self.pace.digest_age]
        if len(old) > self.pace.digest_over:
            if not self._send_digest(name, channel, lane, old):
                return
            gone = {item.id for item in old}
            batch = [item for item in batch if item.id not in gone]
            most -= 1
        for item in batch[: max(0, most)]:
            if self.stop() or not self._wait(lane):
                return
            if self.store.mark_sending(item.id) is False:
                continue
            if not self._send(name, channel, lane, item):
                return

    def _wait(self, lane: Lane) -> bool:
        """Keep the distance to the last post; false when asked to stop meanwhile."""
        if lane.last_post is not None:
            passed = (self.clock() - lane.last_post).total_seconds()
            # A clock that was set back must not become a long silence.
            wait = min(self.pace.min_interval, self.pace.min_interval - passed)
            if wait > 0:
                self.sleep(wait)
        return not self.stop()

    def _send(self, name: str, channel: Channel, lane: Lane, item: OutboxItem) -> bool:
        """Post one message that is marked as being sent; true when the lane may go on."""
        if item.id in lane.maybe_sent:
            item = replace(item, message=replace(item.message, possible_repeat=True))
        # Asked now and not when the batch was fetched: the thread may have begun within it.
        ref = self.store.thread_ref(name, item.message.thread_key) if item.message.thread_key else None
        item = replace(item, thread_ref=ref, update_ref=ref if closes_thread(item.message) else None)
        outcome = self._post(channel, lane, item)
        if isinstance(outcome, Delivered):
            self.store.mark_sent(item.id, remote_ref=outcome.remote_ref)
            lane.maybe_sent.discard(item.id)
            self.report.sent += 1
            if ref is None and outcome.remote_ref is not None:
                self._illustrate(channel, lane, item, outcome.remote_ref)
            return True
        if isinstance(outcome, Rejected):
            self._bury(name, item, outcome.reason)
            return True
        if isinstance(outcome, RetryLater) and self.clock() - item.created_at > self.pace.give_up:
            self._bury(name, item, f"not delivered in {self.pace.give_up.days} days; last: {outcome.reason}")
        else:
            self._keep(name, lane, item, outcome)
        self._pause(name, lane, outcome, waiting=item)
        return False

    def _illustrate(self, channel: Channel, lane: Lane, item: OutboxItem, ref: str) -> None:
        """Try once to put a picture under a message that has arrived; without it the message stands all the same."""
        if item.message.transition is not Transition.OPENED or lane.no_pictures or not isinstance(channel, Illustrated):
            return
        try:
            png = self.picture(item.message)
            if png is not None:
                channel.attach(ref, png, title=item.message.title)
        except ChannelError as error:
            lane.no_pictures = isinstance(error, ChannelBroken)
            log.warning("message %s to %s has no picture: %s", item.id, item.destination, error.reason)
        except Exception:
            log.warning("message %s to %s has no picture", item.id, item.destination, exc_info=True)

    def _send_digest(self, name: str, channel: Channel, lane: Lane, items: Sequence[OutboxItem]) -> bool:
        """One message for all of ``items``; they are sent, or wait, together."""
        if self.stop() or not self._wait(lane):
            return False
        taken = [item for item in items if self.store.mark_sending(item.id) is not False]
        if not taken:
            return True
        message = digest([item.message for item in taken], why=f"{name} could not be reached for a while")
        message = replace(message, possible_repeat=any(i.message.possible_repeat for i in taken))
        ids = ",".join(str(item.id) for item in taken)
        key = f"digest-{hashlib.sha256(ids.encode()).hexdigest()[:24]}"
        whole = replace(taken[0], message=message, dedup_key=key, thread_ref=None, update_ref=None)
        outcome = self._post(channel, lane, whole)
        if isinstance(outcome, Delivered):
            for item in taken:
                # No ref: the digest is nobody's thread, and must not be edited when one of its incidents resolves.
                self.store.mark_sent(item.id, remote_ref=None)
            self.report.sent += 1
            self.report.digested += len(taken)
            return True
        for item in taken:
            if isinstance(outcome, Rejected):
                self._bury(name, item, outcome.reason)
            else:
                self._keep(name, lane, item, outcome)
        if not isinstance(outcome, Rejected):
            self._pause(name, lane, outcome, waiting=taken[0])
        return isinstance(outcome, Rejected)

    def _post(
        self, channel: Channel, lane: Lane, item: OutboxItem
    ) -> Delivered | RetryLater | Rejected | ChannelBroken:
        try:
            delivered = channel.send(item)
        except (RetryLater, Rejected, ChannelBroken) as error:
            return error
        except Exception as error:  # noqa: BLE001 - a fault in one channel must not silence the others
            return RetryLater(f"the channel failed ({type(error).__name__})", maybe_sent=True)
        else:
            lane.failures, lane.broken, lane.paused_until = 0, None, None
            if delivered.note:
                log.warning("message %s to %s: %s", item.id, item.destination, delivered.note)
            return delivered
        finally:
            lane.last_post = self.clock()

    def _keep(self, name: str, lane: Lane, item: OutboxItem, error: RetryLater | ChannelBroken) -> None:
        if isinstance(error, RetryLater):
            if error.maybe_sent:
                lane.maybe_sent.add(item.id)
            pause = timedelta(seconds=self._pause_of(error, item.attempts))
        else:
            pause = self.pace.recheck
        self.store.mark_retry(item.id, not_before=self.clock() + pause, error=error.reason)
        self.report.retried += 1
        log.warning("message %s to %s waits: %s", item.id, name, error.reason)

    def _bury(self, name: str, item: OutboxItem, reason: str) -> None:
        self.store.mark_dead(item.id, error=reason)
        self.report.dead += 1
        log.error("message %s to %s is dead: %s", item.id, name, reason)
        if item.message.transition is Transition.OPERATOR:
            return  # news of dead messages must not breed
        told = self.fallbacks.get(name) or name
        news = undeliverable(name, reason=reason, lost=[item.message])
        self.store.enqueue([(told, f"dead|{name}|{item.dedup_key}", news)])

    def _pause(
        self, name: str, lane: Lane, error: RetryLater | Rejected | ChannelBroken, *, waiting: OutboxItem
    ) -> None:
        """Leave the destination alone for a while; a broken one is told of where somebody listens."""
        if isinstance(error, ChannelBroken):
            lane.broken = error.reason
            lane.paused_until = self.clock() + self.pace.recheck
            log.error("destination %s is broken: %s", name, error.reason)
            fallback = self.fallbacks.get(name)
            if fallback and fallback != name:
                # The oldest message that waits names the breakdown: told once, however often it is found again.
                news = undeliverable(
                    name, reason=error.reason, kept=len(self.store.outbox_due(name, limit=_FETCHED)) + 1
                )
                self.store.enqueue([(fallback, f"broken|{name}|{waiting.dedup_key}", news)])
            return
        retry = error if isinstance(error, RetryLater) else RetryLater(error.reason)
        lane.paused_until = self.clock() + timedelta(seconds=self._pause_of(retry, lane.failures))
        lane.failures += 1

    def _pause_of(self, error: RetryLater, attempts: int) -> float:
        """Seconds: what the service asked for, within reason, else full jitter over a doubling span.

        References
        ----------
        M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        if error.after is not None:
            return min(max(error.after, 1.0), LONGEST_PAUSE)
        span = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts, 20))
        return max(1.0, self.rng.uniform(0.0, span))
