"""A TCP proxy in front of a database: it passes bytes on, swallows them, or is gone, as told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa


class Proxy:
    """Listens on this host; `hole_after` bytes from the database nothing passes any more, though all stay connected."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.passing = threading.Event()
        self.passing.set()
        self.refusing = False
        self.hole_after: int | None = None
        self.connections = 0
        self._passed = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop
        ).result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def url(self, behind: str) -> str:
        """The same database, through here."""
        return sa.make_url(behind).set(host="127.0.0.1", port=self.port, query={}).render_as_string(hide_password=False)

    def black_hole(self, *, after: int = 0) -> None:
        """Swallow everything once `after` more bytes have come from the database."""
        self._passed, self.hole_after = 0, after
        if after == 0:
            self.passing.clear()

    def gone(self) -> None:
        """Drop every connection and refuse new ones, as a database that was stopped."""
        self.refusing = True
        self._loop.call_soon_threadsafe(self._drop)

    def back(self) -> None:
        """Pass again; what was swallowed stays lost."""
        self._loop.call_soon_threadsafe(self._drop)
        self.refusing, self.hole_after = False, None
        self.passing.set()

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            self._drop()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _drop(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.connections += 1
        far_reader, far_writer = await asyncio.open_unix_connection(self.path)
        self._open |= {writer, far_writer}
        try:
            await asyncio.gather(
                self._pass(reader, far_writer, counted=False), self._pass(far_reader, writer, counted=True)
            )
        finally:
            self._open -= {writer, far_writer}
            writer.transport.abort()
            far_writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(4096):
                if counted and self.hole_after is not None:
                    self._passed += len(data)
                    if self._passed > self.hole_after:
                        self.passing.clear()
                if self.passing.is_set():
                    writer.write(data)
                    await writer.drain()
            writer.transport.abort()


@contextmanager
def proxy(server_url: str) -> Iterator[Proxy]:
    folder = sa.make_url(server_url).query["host"]
    made = Proxy(f"{folder}/.s.PGSQL.5432")
    try:
        yield made
    finally:
        made.close()
