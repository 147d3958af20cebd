"""From the outbox to the channels: opening those that the config names, and one round of delivery."""

from __future__ import annotations

import threading
from typing import Any

from monitor import messages
from monitor.channels import Channel, ChannelError, open_channel
from monitor.delivery import DeliveryReport, deliver
from monitor.models import OutboxItem, Verdict
from monitor.service import Service


def deliver_due(service: Service, *, stop: threading.Event | None = None) -> DeliveryReport:
    """Send what is due, one lane for each destination."""
    return deliver(service.store, channels(service), stop=stop)


def channels(service: Service) -> dict[str, Channel]:
    """The configured destinations, ready to send."""
    return {name: open_channel(name, told) for name, told in service.config.alerts.destinations.items()}


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
        item = OutboxItem(0, name, message, 0, messages.now_utc(), "test")
        try:
            open_channel(name, service.config.alerts.destinations[name]).send(item)
        except ChannelError as error:
            told.append({"destination": name, "ok": False, "text": str(error)})
        else:
            told.append({"destination": name, "ok": True, "text": "delivered"})
    return told
