"""Keeps a message ours while we work on it: renews its visibility in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType

from shared.errors import OwnershipLost, StorageUnavailable
from shared.ports import Message, Queue

log = logging.getLogger(__name__)


class Lease:
    """One message in work. `async with` renews; `check` before each step that others may see."""

    def __init__(
        self,
        queue: Queue,
        message: Message,
        visibility: float,
        every: float,
        received: float,
        clock: Callable[[], float],
    ) -> None:
        """`received`: the clock's time before the message was asked for, the safe side."""
        self._queue = queue
        self.message = message
        self._visibility = visibility
        self._every = every
        self._clock = clock
        self._ends = received + visibility
        self._lost = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Lease:
        self._task = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Renew no more; afterwards `message` has the last receipt."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def check(self) -> None:
        """Raise `OwnershipLost` when the message may be another worker's by now."""
        if self._lost or (self._clock() >= self._ends and not self._expired()):
            raise OwnershipLost("the message's visibility ran out")

    def _expired(self) -> bool:
        """A message past its own life is nobody else's: we finish."""
        return datetime.now(UTC) >= self.message.expires

    async def _keep(self) -> None:
        wait = self._every
        while True:
            await asyncio.sleep(wait)
            wait = self._every
            asked = self._clock()
            if self._expired():
                return
            try:
                self.message = await self._queue.renew(self.message, self._visibility)
            except OwnershipLost:
                if not self._expired():
                    self._lost = True
                    log.warning("lease_lost", extra={"message_id": self.message.id})
                return
            except StorageUnavailable as error:
                # Tried again, sooner, until the lease's end; then `check` fails by itself.
                log.warning(
                    "renewal_failed",
                    extra={"message_id": self.message.id, "reason": error.reason},
                )
                if self._clock() >= self._ends:
                    return
                wait = min(self._every, 1.0)
            else:
                self._ends = asked + self._visibility
