"""Files on their way in and out, piece by piece and never whole in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.responses import StreamingResponse

from api.body import too_large, too_slow
from api.problems import RETRY_AFTER, Problem, retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from shared.settings import ApiSettings

BLOCK = 4 << 20
"""Bytes of a block of an upload; each upload holds little more."""


class Room:
    """Places for transfers; each holds a piece of a file."""

    def __init__(self, places: int) -> None:
        self._places = places

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place. Raises `Problem` at once when there is none."""
        if self._places == 0:
            raise Problem("overloaded", headers=retry_after(RETRY_AFTER))
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1


async def receive_blocks(request: Request, settings: ApiSettings) -> AsyncIterator[bytes]:
    """The body in blocks of one size, as they come. Raises `Problem`."""
    pieces = bytearray()
    size = 0
    more = True
    while more:
        try:
            async with asyncio.timeout(settings.body_seconds):
                message = await request.receive()
        except TimeoutError as error:
            raise too_slow(settings) from error
        if message["type"] == "http.disconnect":
            raise Problem("malformed_body", "the connection ended within the body")
        piece = message.get("body", b"")
        size += len(piece)
        if size > settings.upload_bytes:
            raise too_large(settings.upload_bytes)
        pieces += piece
        more = message.get("more_body", False)
        while len(pieces) >= BLOCK:
            yield bytes(pieces[:BLOCK])
            del pieces[:BLOCK]
    if pieces:
        yield bytes(pieces)


class Download(StreamingResponse):
    """A file on its way out: takes a place, and ends when nobody reads it."""

    def __init__(
        self, pieces: AsyncIterator[bytes], *, room: Room, seconds: float, **options: Any
    ) -> None:
        super().__init__(pieces, **options)
        self._pieces = pieces
        self._room = room
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._room.taken():
            # Before the answer begins: what storage refuses now is still told as a problem.
            first = await anext(self._pieces, b"")
            self.body_iterator = _with(first, self._pieces)
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(self._seconds):
                await send(message)

        await super().stream_response(in_time)


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
