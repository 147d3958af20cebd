"""Any of the services that the Apprise library speaks to: mail, Teams, PagerDuty, …"""

from __future__ import annotations

import logging
import warnings
from typing import Any

from monitor.channels.channel import ChannelBroken, Delivered, RetryLater
from monitor.channels.text import clean, glyph, plain_text
from monitor.config import Destination
from monitor.models import OutboxItem, Verdict

_KINDS = {Verdict.ALERT: "failure", Verdict.WARN: "warning", Verdict.OK: "success"}
_LONGEST = 6000


def open_apprise(name: str, destination: Destination) -> AppriseChannel:
    """
    Raises
    ------
    ChannelBroken
        If Apprise does not know the kind of address.
    """
    if destination.apprise is None:
        raise ChannelBroken(f"{name} has no `apprise` address")
    return AppriseChannel(destination.apprise.get_secret_value())


class AppriseChannel:
    """One Apprise address."""

    def __init__(self, url: str) -> None:
        # It logs addresses, with what they hold, at several levels.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            # Some of its plugins import modules that Python is about to drop; nothing a user could act on.
            warnings.simplefilter("ignore", DeprecationWarning)
            import apprise  # noqa: PLC0415 - loads a hundred plugins; only for those who use it

            self._notifier: Any = apprise.Apprise()
            known = self._notifier.add(url)
        if not known:
            raise ChannelBroken("Apprise does not know this kind of address")

    def send(self, item: OutboxItem) -> Delivered:
        message = item.message
        title = f"{glyph(message)} {clean(message.title, lines=False)}"[:250]
        try:
            arrived = self._notifier.notify(
                body=plain_text(message)[:_LONGEST],
                title=title,
                notify_type=_KINDS.get(message.severity, "info"),
                body_format="text",
            )
        except (OSError, TypeError, ValueError) as error:
            raise RetryLater(f"Apprise failed ({type(error).__name__})", maybe_sent=True) from None
        if not arrived:
            # All that Apprise says; it may have been the network or the account.
            raise RetryLater("the service behind Apprise did not take the message")
        return Delivered()

    def close(self) -> None:
        """Apprise keeps no connection."""
