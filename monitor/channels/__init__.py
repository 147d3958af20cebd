"""Where messages go: one file for each kind of channel, one line in the table.

To add one: a file with a function of (name, :class:`~monitor.config.Destination`), a line in ``CHANNELS``, a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from monitor.channels.apprise import open_apprise
from monitor.channels.channel import (
    Channel,
    ChannelBroken,
    ChannelError,
    Delivered,
    Illustrated,
    Rejected,
    RetryLater,
)
from monitor.channels.console import open_console
from monitor.channels.slack import open_slack_bot, open_slack_webhook
from monitor.config import Destination
from monitor.models import OutboxItem

CHANNELS: dict[str, Callable[[str, Destination], Channel]] = {
    "slack": open_slack_bot,
    "webhook": open_slack_webhook,
    "apprise": open_apprise,
    "console": open_console,
}

__all__ = [
    "CHANNELS",
    "Broken",
    "Channel",
    "ChannelBroken",
    "ChannelError",
    "Delivered",
    "Illustrated",
    "Rejected",
    "RetryLater",
    "kind_of",
    "open_channel",
    "open_channels",
]


class Broken:
    """Stands in for a destination that could not even be opened, so that its messages are kept and told of."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def send(self, item: OutboxItem) -> Delivered:  # noqa: ARG002 - the protocol's shape
        raise ChannelBroken(self._reason)

    def close(self) -> None:
        """Nothing was opened."""


def kind_of(destination: Destination) -> str:
    """Which line of ``CHANNELS`` serves this destination: the one key of them that the config sets."""
    return next(kind for kind in CHANNELS if getattr(destination, kind))


def open_channel(name: str, destination: Destination) -> Channel:
    """The channel behind one destination of the config; nothing is sent yet.

    Raises
    ------
    ChannelBroken
        The configuration itself cannot work: no token, an address that must not be posted to.
    """
    return CHANNELS[kind_of(destination)](name, destination)


def open_channels(destinations: Mapping[str, Destination]) -> dict[str, Channel]:
    """All destinations by name; one that cannot be opened is a :class:`Broken`, and the others work."""
    opened: dict[str, Channel] = {}
    for name, destination in destinations.items():
        try:
            opened[name] = open_channel(name, destination)
        except ChannelBroken as error:
            opened[name] = Broken(error.reason)
    return opened
