"""Uploads and downloads, piece by piece: a file is never whole in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse

from api.body import cut_off, too_large, too_slow
from api.problems import overloaded
from api.store import STORAGE_SECONDS, storage_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message, Receive, Scope, Send

    from shared.settings import ApiSettings

BLOCK = 4 << 20
"""Bytes of a block of an upload; each upload holds little more."""
MIN_RATE = 32 << 10
"""Bytes per second that a caller must send or take on average, after a first grace: a few slow
callers would block everyone else."""


class Pace:
    """The time that a caller makes us wait, and the bytes that come of it.

    A pause may last `seconds`; beyond that much waiting in total, the average counts.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waited = 0.0
        self._size = 0

    @asynccontextmanager
    async def wait(self) -> AsyncIterator[None]:
        """Wait for the caller. Raises `TimeoutError` when that takes too long."""
        earned = self._seconds + self._size / MIN_RATE - self._waited
        began = time.monotonic()
        async with asyncio.timeout(min(self._seconds, earned)):
            yield
        self._waited += time.monotonic() - began

    def moved(self, size: int) -> None:
        """Count bytes that were sent or taken."""
        self._size += size


class Capacity:
    """How many transfers may run at once; each holds a piece of a file."""

    def __init__(self, free: int) -> None:
        self._free = free

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold one of them. Raises `Problem` at once when none is free."""
        if self._free == 0:
            raise overloaded()
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


async def receive(request: Request, settings: ApiSettings) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `Problem`."""
    size = 0
    pieces = request.stream()
    pace = Pace(settings.body_seconds)
    while True:
        try:
            async with pace.wait():
                piece = await anext(pieces, None)
        except TimeoutError as error:
            raise too_slow(settings.body_seconds) from error
        except ClientDisconnect as error:
            raise cut_off() from error
        if piece is None:
            return
        pace.moved(len(piece))
        size += len(piece)
        if size > settings.upload_bytes:
            raise too_large(settings.upload_bytes)
        yield piece


async def in_blocks(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces joined and cut into blocks of one size; the last may be smaller."""
    pending = bytearray()
    async for piece in pieces:
        pending += piece
        while len(pending) >= BLOCK:
            yield bytes(pending[:BLOCK])
            del pending[:BLOCK]
    if pending:
        yield bytes(pending)


class Download(StreamingResponse):
    """A file as an answer: counts against the capacity, and ends when nobody reads it."""

    def __init__(
        self, pieces: AsyncIterator[bytes], *, capacity: Capacity, seconds: float, **options: Any
    ) -> None:
        super().__init__(pieces, **options)
        self._pieces = pieces
        self._capacity = capacity
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._capacity.taken():
            # Before the answer begins: an error of storage now is still answered as a problem.
            first = await anext(self._pieces, b"")
            self.body_iterator = _with(first, self._pieces)
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        pace = Pace(self._seconds)

        async def in_time(message: Message) -> None:
            async with pace.wait():
                await send(message)
            pace.moved(len(message.get("body", b"")))

        await super().stream_response(in_time)


async def in_storage_time(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of a blob, each within storage's time. Raises `StorageUnavailable`."""
    while True:
        async with storage_time():
            piece = await anext(pieces, None)
        if piece is None:
            return
        yield piece


async def while_waiting(
    pieces: AsyncIterator[bytes], limit: asyncio.Timeout
) -> AsyncIterator[bytes]:
    """The pieces of a body: storage's time stops while the caller sends, and starts anew after."""
    loop = asyncio.get_running_loop()
    while True:
        limit.reschedule(None)
        piece = await anext(pieces, None)
        limit.reschedule(loop.time() + STORAGE_SECONDS)
        if piece is None:
            return
        yield piece


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
