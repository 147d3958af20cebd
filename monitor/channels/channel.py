"""What a channel is, and the three ways in which it may fail to deliver.

::

    ChannelError
    ├── RetryLater       the network, the service or a limit; the same message may pass later
    ├── Rejected         this message will never pass; others may
    └── ChannelBroken    nothing passes until somebody mends the channel; messages are kept
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from monitor.models import OutboxItem


class ChannelError(Exception):
    """A message was not delivered. ``reason`` is fit to be stored and shown: it never holds an address or token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RetryLater(ChannelError):  # noqa: N818 - named for what to do about it
    """Try the same message again.

    Parameters
    ----------
    after
        Seconds that the service asked for; ``None``: it did not say.
    maybe_sent
        The message may have arrived all the same (a lost answer): the next try is a possible repeat.
    """

    def __init__(self, reason: str, *, after: float | None = None, maybe_sent: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.maybe_sent = maybe_sent


class Rejected(ChannelError):  # noqa: N818
    """The service refuses this message for what it contains, in its plainest form too."""


class ChannelBroken(ChannelError):  # noqa: N818
    """The service refuses the channel itself: token, address, membership or rights."""


@dataclass(frozen=True)
class Delivered:
    """A message arrived; ``remote_ref`` finds it again (thread, edit) where that can be done, ``note`` is for logs."""

    remote_ref: str | None = None
    note: str = ""


class Channel(Protocol):
    """One configured destination."""

    def send(self, item: OutboxItem) -> Delivered:
        """Deliver one message.

        Raises
        ------
        RetryLater, Rejected, ChannelBroken
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class Illustrated(Protocol):
    """A channel that takes a picture beside a message."""

    def attach(self, ref: str, png: bytes, *, title: str) -> None:
        """Put a picture into the thread of the message that ``ref`` names.

        Raises
        ------
        RetryLater, Rejected, ChannelBroken
        """
        ...


_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
_METADATA = tuple(
    ipaddress.ip_network(net) for net in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32")
)


def check_address(url: str, *, allow_insecure: bool = False) -> None:
    """Refuse an address that must not be posted to, before anything is sent there.

    ``http://`` would show the secret path to the network: it is for this host alone unless allowed; the metadata
    service of a cloud is never a destination.

    Raises
    ------
    ChannelBroken
    """
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
        _ = parts.port
    except ValueError:
        raise ChannelBroken("the address cannot be read; expected https://host/…") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ChannelBroken("the address must begin with https:// and name a host")
    if host in _METADATA_NAMES or _is_metadata(host):
        raise ChannelBroken("the address is that of a cloud's metadata service")
    if parts.scheme == "http" and host not in _LOCAL and not allow_insecure:
        raise ChannelBroken("the address is http:// on another host; use https://, or set allow_insecure: true")


def check_resolved(url: str) -> None:
    """Refuse a name that leads to a metadata address; a name that does not resolve is left to the connection."""
    host = urlsplit(url).hostname or ""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    if any(_is_metadata(str(address[4][0])) for address in found):
        raise ChannelBroken("the address leads to a cloud's metadata service")


def _is_metadata(host: str) -> bool:
    try:
        # inet_aton also reads 2852039166 and 0xA9.254.43518, as libc does when it connects.
        number = host.split("%", maxsplit=1)[0] if ":" in host else socket.inet_ntoa(socket.inet_aton(host))
        address = ipaddress.ip_address(number)
    except (ValueError, OSError):
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped in net for net in _METADATA)
