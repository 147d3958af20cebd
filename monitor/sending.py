"""From the outbox to the channels: opening those that the config names, and one round of delivery."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from monitor import messages
from monitor.channels import ChannelError, kind_of, open_channel, open_channels
from monitor.delivery import DeliveryReport, Lane, Pace, deliver
from monitor.models import Message, OutboxItem, Verdict
from monitor.service import Service

_PATIENT = Pace()
_LOCAL = Pace(min_interval=0.0)


class Sender:
    """Channels that are opened once, and what is remembered of them between two rounds (pauses, broken lanes)."""

    def __init__(self, service: Service) -> None:
        self._service = service
        told = service.config.alerts.destinations
        self._channels = open_channels(told)
        self._fallbacks = {name: destination.fallback for name, destination in told.items()}
        only_local = all(kind_of(destination) == "console" for destination in told.values())
        self._pace = _LOCAL if only_local else _PATIENT
        self._lanes: dict[str, Lane] = {}

    def deliver(self, *, stop: threading.Event | None = None) -> DeliveryReport:
        """Send what is due, one lane for each destination."""
        ended: Callable[[], bool] = stop.is_set if stop is not None else lambda: False
        return deliver(
            self._service.store,
            self._channels,
            clock=lambda: datetime.now(UTC),
            sleep=stop.wait if stop is not None else time.sleep,
            rng=random.Random(),  # noqa: S311 - jitter
            lanes=self._lanes,
            fallbacks=self._fallbacks,
            pace=self._pace,
            picture=self._picture,
            stop=ended,
        )

    @property
    def uncertain(self) -> bool:
        """Whether something may have arrived that is to be sent again, which only this object knows to say then."""
        return any(lane.maybe_sent for lane in list(self._lanes.values()))

    def _picture(self, message: Message) -> bytes | None:
        """The worst features of the window, where no page can be linked to."""
        config = self._service.config
        if config.reports.url is not None or message.window is None or message.model not in config.models:
            return None
        from monitor.reports.chart import chart_png  # noqa: PLC0415 - costly to import, and seldom needed

        return chart_png(self._service.store, config, model=message.model, window=message.window)

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()


def deliver_due(service: Service) -> DeliveryReport:
    """One round of delivery, for commands that run once."""
    sender = Sender(service)
    try:
        return sender.deliver()
    finally:
        sender.close()


def send_test(service: Service, names: list[str]) -> list[dict[str, Any]]:
    """Send a harmless message to each destination directly, and tell what came of it."""
    message = messages.operator(
        "Test of the alert channel",
        "This is a test; nothing has drifted. If you can read it, alerts arrive here.",
        severity=Verdict.OK,
        thread_key="test",
    )
    told = []
    for name in names:
        item = OutboxItem(0, name, message, 0, datetime.now(UTC), "test")
        try:
            channel = open_channel(name, service.config.alerts.destinations[name])
            channel.send(item)
            channel.close()
        except ChannelError as error:
            told.append({"destination": name, "ok": False, "text": error.reason})
        else:
            told.append({"destination": name, "ok": True, "text": "delivered"})
    return told
