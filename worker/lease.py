"""The lease of a message in work: renews its visibility in the background."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from shared.batches.ports import Message, Queue
from shared.records.errors import OwnershipLost

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds after a failed renewal before the next try."""


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How long received messages stay hidden, in seconds."""

    visibility: float
    renew_every: float


class Lease:
    """One message in work. `async with` renews; `check` before each step that others may see."""

    def __init__(
        self,
        queue: Queue,
        message: Message,
        *,
        visibility: float,
        every: float,
        received: float,
        expires: float,
        clock: Callable[[], float],
    ) -> None:
        """Times are by `clock`; `received` is before the call, which is the safe side.

        `expires` is when the message expires by itself.
        """
        self.message = message
        """With the last receipt, once the lease has ended."""
        self.lost = False
        """Storage said that the message is no longer ours."""
        self._queue = queue
        self._visibility = visibility
        self._every = every
        self._clock = clock
        self._expires = expires
        self._received = received
        self._ends = received + visibility
        self._done = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def of(
        cls,
        queue: Queue,
        message: Message,
        terms: LeaseTerms,
        *,
        received: float,
        clock: Callable[[], float],
    ) -> Lease:
        """The lease of a message that was received just now."""
        return cls(
            queue,
            message,
            visibility=terms.visibility,
            every=terms.renew_every,
            received=received,
            expires=received + (message.expires - message.received).total_seconds(),
            clock=clock,
        )

    @property
    def life(self) -> float:
        """Seconds until the message expires by itself."""
        return self._expires - self._clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the message was received."""
        return self._clock() - self._received

    async def __aenter__(self) -> Lease:
        # Most messages end before the first renewal and need no task.
        self._timer = asyncio.get_running_loop().call_later(self._every, self._begin)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Await a renewal in flight: its answer brings the valid receipt.
        self._done.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await self._task

    def check(self) -> None:
        """Raise `OwnershipLost` when the message may be another worker's by now."""
        # An expired message cannot be received by anyone else, so finish it.
        if self.lost or (self._clock() >= self._ends and self.life > 0):
            raise OwnershipLost("the message's visibility ran out")

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        wait = await self._renew()
        while wait is not None and not await self._ended_within(wait):
            wait = await self._renew()

    async def _ended_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._done.wait()
        except TimeoutError:
            return False

    async def _renew(self) -> float | None:
        """Renew once; return the seconds until the next time, None if there is none."""
        asked = self._clock()
        # Storage refuses a visibility beyond the message's expiry.
        visibility = min(self._visibility, math.floor(self.life))
        last = visibility < self._visibility
        try:
            if visibility >= 1:
                self.message = await self._queue.renew(self.message, visibility)
        except OwnershipLost:
            self.lost = self.life > 0
            log.warning("lease_lost", extra={"message_id": self.message.id})
            return None
        except Exception as error:  # no renewal error may end the process, foreseen or not
            log.warning(
                "renewal_failed",
                extra={"message_id": self.message.id, "reason": type(error).__name__},
            )
            # Try again, sooner, until the lease ends; then `check` fails.
            return min(self._every, RETRY) if self._clock() < self._ends else None
        self._ends = math.inf if last else asked + visibility
        return None if last else self._every
