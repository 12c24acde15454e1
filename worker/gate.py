"""Many messages together, or one alone that may be what kills the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from shared.records.errors import Interrupted


class Gate:
    """Who comes while one is alone, or waits to be, is turned away: other workers may have it."""

    def __init__(self) -> None:
        self.closed = False
        self._inside = 0
        self._left = asyncio.Event()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Work beside others. Raises `Interrupted` when the gate is closed."""
        self._refuse_when_closed()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._left.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """For one that has entered: wait until the others have left."""
        self._refuse_when_closed()
        self.closed = True
        try:
            while self._inside > 1:
                self._left.clear()
                await self._left.wait()
            yield
        finally:
            self.closed = False

    def _refuse_when_closed(self) -> None:
        if self.closed:
            raise Interrupted("another message is worked on alone")
