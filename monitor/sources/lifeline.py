"""Ends a read that nothing answers any more: the sockets under a database's connections, so that they can be cut.

Behind a black hole neither the server's time limits nor TCP keepalives end a read, a driver's own "cancel" needs a
second connection, and a thread cannot be stopped.  Shutting the socket down works: the driver finds the connection
closed, and raises.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")
_FOLDERS = ("/proc/self/fd", "/dev/fd")


class Lifelines:
    """The connections of one database that are open at this moment.

    Parameters
    ----------
    port, folder
        Where the database listens: a TCP port, or for a Unix socket its folder; sockets that lead elsewhere are left
        alone.
    patience
        Seconds that opening a connection may take.
    """

    def __init__(self, *, port: int | None, folder: str | None = None, patience: float = 60.0) -> None:
        self._port, self._folder, self._patience = port, folder, patience
        self._opening = threading.Lock()
        self._open: set[Lifeline] = set()

    @contextmanager
    def watch(self, connect: Callable[[], T]) -> Iterator[tuple[T, Lifeline]]:
        """Open a connection, and be able to cut it until it is given back.

        Which socket is the driver's is found by what is new: some drivers do not say.
        """
        with self._opening:
            before = self._sockets()
            # While it is being opened it can be cut as well: drivers ask the database this and that before they return.
            line = Lifeline(lambda: self._sockets() - before)
            self._open.add(line)
            try:
                with line.within(self._patience):
                    connection = connect()
                found = self._sockets() - before
            except BaseException:
                self._open.discard(line)
                raise
        line.sockets = lambda: found
        try:
            yield connection, line
        finally:
            self._open.discard(line)

    def cut(self) -> None:
        """End every read that is under way."""
        for line in list(self._open):
            line.cut()

    def _sockets(self) -> set[tuple[int, int]]:
        """File descriptor and inode of each socket of this process that leads to the database."""
        folder = next((name for name in _FOLDERS if os.path.isdir(name)), None)  # noqa: PTH112 - asked often
        if folder is None or (self._port is None and self._folder is None):
            return set()
        found = set()
        for name in os.listdir(folder):  # noqa: PTH208 - the same
            with suppress(OSError, ValueError):
                number = int(name)
                told = os.fstat(number)
                if stat.S_ISSOCK(told.st_mode) and self._leads_there(number):
                    found.add((number, told.st_ino))
        return found

    def _leads_there(self, number: int) -> bool:
        with socket.socket(fileno=os.dup(number)) as end:
            peer = end.getpeername()
        if isinstance(peer, tuple):
            return bool(peer[1] == self._port)
        return self._folder is not None and str(peer).startswith(self._folder)


class Lifeline:
    """What one connection hangs by; ``interrupt`` stops a database that runs inside this process."""

    def __init__(self, sockets: Callable[[], set[tuple[int, int]]]) -> None:
        self.sockets = sockets
        self.interrupt: Callable[[], Any] | None = None

    def cut(self) -> None:
        """Shut the sockets down; whoever reads from them gets an error at once."""
        if self.interrupt is not None:
            with suppress(Exception):
                self.interrupt()
        for number, inode in self.sockets():
            with suppress(OSError):
                if os.fstat(number).st_ino == inode:  # else it was closed, and its number is somebody else's
                    with socket.socket(fileno=os.dup(number)) as end:
                        end.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut when a statement takes longer than this, also where the server has no limit of its own."""
        timer = threading.Timer(seconds, self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
