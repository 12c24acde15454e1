"""Runs many messages concurrently, or one exclusively because it may kill the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from shared.records.errors import Interrupted


class Gate:
    """A lock with shared and exclusive holders that refuses instead of queueing.

    While a message runs exclusively, or waits to, new ones are released so that another worker can
    take them.
    """

    def __init__(self) -> None:
        self.closed = False
        """Whether a message runs exclusively or waits to."""
        self._holders = 0
        self._someone_left = asyncio.Event()

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Work while other messages run. Raises `Interrupted` while the gate is closed."""
        self._refuse_when_closed()
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._someone_left.set()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Close the gate and wait until the other holders have left; the caller is a holder."""
        self._refuse_when_closed()
        self.closed = True
        try:
            while self._holders > 1:
                self._someone_left.clear()
                await self._someone_left.wait()
            yield
        finally:
            self.closed = False

    def _refuse_when_closed(self) -> None:
        if self.closed:
            raise Interrupted("another message is processed exclusively")
