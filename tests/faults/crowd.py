"""Slow and greedy clients: hundreds of connections from one thread."""

import asyncio
import contextlib
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any

from bin.broker import ADDRESS

MANY = 100 * 1024 * 1024
CHUNK = b"x" * 65_536
EVERYTHING = "from_date=2000-01-01&to_date=2099-12-31"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Crowd:
    """A number of clients of each kind, until the end. A client that is cut off reconnects.

    `counts` has the number of times that each kind was cut off or got a response.
    """

    def __init__(
        self, port: int, key: str, *, trust: ssl.SSLContext | None, kinds: dict[str, int]
    ) -> None:
        self.port, self.key, self.trust, self.kinds = port, key, trust, kinds
        self.counts: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Crowd":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        # The loop has only weak references to tasks.
        tasks = [
            self._loop.create_task(self._again_and_again(kind, getattr(self, kind)))
            for kind, number in self.kinds.items()
            for _ in range(number)
        ]
        self._loop.run_forever()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(task)
        self._loop.close()

    async def _again_and_again(self, kind: str, one: Callable[[], Awaitable[str]]) -> None:
        while True:
            try:
                ended = await one()
            except (OSError, asyncio.IncompleteReadError):
                ended = "cut off"
            self.counts[f"{kind} {ended}"] += 1
            await asyncio.sleep(0.5)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Streams]:
        name = "localhost" if self.trust else None
        reader, writer = await asyncio.open_connection(
            ADDRESS, self.port, ssl=self.trust, server_hostname=name, limit=65_536
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def silent(self) -> str:
        """Connect and send nothing, not even a TLS handshake."""
        reader, writer = await asyncio.open_connection(ADDRESS, self.port)
        try:
            await reader.read(1)
        finally:
            writer.transport.abort()
        return "cut off"

    async def idle(self) -> str:
        """Send one request and keep the connection open."""
        async with self._connected() as (reader, writer):
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            while await reader.read(4096):
                pass
        return "cut off"

    async def slow_header(self) -> str:
        """Send one byte of a header each second."""
        return await self._trickle(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")

    async def slow_body(self) -> str:
        """Send one byte of a body each second."""
        return await self._trickle(
            b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nusername="
        )

    async def _trickle(self, beginning: bytes) -> str:
        async with self._connected() as (reader, writer):
            writer.write(beginning)
            response = in_background(reader.read(1))
            while not (response.done() or writer.transport.is_closing()):
                writer.write(b"a")
                await writer.drain()
                await asyncio.wait([response], timeout=1)
            return "answered" if response.done() and response.result() else "cut off"

    async def upload(self) -> str:
        """Send a file of 100 MB to the login page."""
        head = (
            b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data;"
            b" boundary=b\r\nContent-Length: %d\r\n\r\n--b\r\nContent-Disposition: form-data;"
            b' name="f"; filename="f"\r\n\r\n' % MANY
        )
        return await self._flood(head, lambda chunk: chunk)

    async def chunked(self) -> str:
        """Send a form of 100 MB without Content-Length."""
        head = (
            b"POST /login/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
        )
        return await self._flood(head, lambda chunk: b"%x\r\n%s\r\n" % (len(chunk), chunk))

    async def _flood(self, head: bytes, framed: Callable[[bytes], bytes]) -> str:
        async with self._connected() as (reader, writer):
            writer.write(head)
            response = in_background(reader.read(12))
            for _ in range(MANY // len(CHUNK)):
                if response.done() or writer.transport.is_closing():
                    break
                writer.write(framed(CHUNK))
                await writer.drain()
            found = await asyncio.wait_for(response, 60)
            await asyncio.sleep(1)
            return found[-3:].decode() if found else "cut off"

    async def csv(self) -> str:
        """Read all days as one CSV, slowly."""
        return await self._sip(f"/api/v1/usage/daily/?format=csv&{EVERYTHING}")

    async def page(self) -> str:
        """Read the largest page, slowly."""
        return await self._sip(f"/api/v1/usage/daily/?page_size=1000&{EVERYTHING}")

    async def huge_page(self) -> str:
        """Request a page of a million rows."""
        return await self._sip(f"/api/v1/usage/daily/?page_size=1000000&{EVERYTHING}")

    async def _sip(self, path: str) -> str:
        async with self._connected() as (reader, writer):
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Token {self.key}\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            line = await reader.readline()
            while await reader.read(2048):
                await asyncio.sleep(0.2)
            return line[9:12].decode()


def in_background(reading: Coroutine[Any, Any, bytes]) -> "asyncio.Task[bytes]":
    """Read in the background. If nobody awaits the task, its error is not reported."""
    task = asyncio.ensure_future(reading)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
