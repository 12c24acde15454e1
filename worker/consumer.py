"""The loop: takes messages, works on several at once, ends each of them, stops when asked."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from shared import metrics
from shared.errors import ModelBroken, OwnershipLost, StorageError, StorageUnavailable
from shared.ports import Message, Queue
from worker.lease import Lease
from worker.processor import Job, Processor
from worker.settlement import Delete, Delivery, Fail, Leave, Release, Settlement, backoff

log = logging.getLogger(__name__)

FIRST_WAIT = 0.1
"""Seconds after the first look at an empty queue; doubles from there."""


class Gate:
    """Lets many work together, or one alone."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside = 0
        self._alone = False

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            async with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """For one that is already inside: waits until it is the only one."""
        async with self._changed:
            # Those who wait here count as outside, or two of them would wait for ever.
            self._inside -= 1
            self._changed.notify_all()
            try:
                await self._changed.wait_for(lambda: not self._alone and self._inside == 0)
            finally:
                self._inside += 1
            self._alone = True
        try:
            yield
        finally:
            async with self._changed:
                self._alone = False
                self._changed.notify_all()


class Consumer:
    """Receives from the queue and keeps up to `slots` messages in work."""

    def __init__(
        self,
        queue: Queue,
        processor: Processor,
        gate: Gate,
        probe: Callable[[], AsyncIterator[str]] | None = None,
        *,
        slots: int,
        visibility: float,
        renew_every: float,
        idle: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`probe` yields a line for each thing of storage that does not answer."""
        self._queue = queue
        self._processor = processor
        self._gate = gate
        self._probe = probe
        self._slots = slots
        self._visibility = visibility
        self._renew_every = renew_every
        self._idle = idle
        self._clock = clock
        self._running: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._storage_doubtful = False
        self.turned = clock()
        """When the loop last went round."""
        self.model_broken = False

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Receive no more; `run` returns when the messages in work have ended."""
        self._stop.set()

    async def run(self) -> None:
        """Until `stop`, or until the model proves broken."""
        wait = FIRST_WAIT
        while not self._stop.is_set():
            self.turned = self._clock()
            if self._storage_doubtful and not await self._storage_answers():
                await self._pause(wait)
                wait = min(wait * 2, self._idle)
                continue
            free = self._slots - len(self._running)
            if free == 0:
                # Woken now and then, so that liveness sees the loop turn.
                await asyncio.wait(self._running, timeout=5, return_when="FIRST_COMPLETED")
                continue
            messages = await self._receive(free)
            if messages:
                wait = FIRST_WAIT
                continue
            await self._pause(wait * random.uniform(0.8, 1.2))  # noqa: S311  # jitter
            wait = min(wait * 2, self._idle)
        while self._running:
            await asyncio.wait(self._running)

    async def interrupt(self) -> None:
        """Give back at once whatever is in work."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless asked to stop or a message in work ends first."""
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({stop, *self._running}, timeout=seconds, return_when="FIRST_COMPLETED")
        stop.cancel()

    async def _receive(self, limit: int) -> list[Message]:
        asked = self._clock()
        try:
            messages = await self._queue.receive(limit, self._visibility)
        except StorageError as error:
            log.warning("receive_failed", extra={"reason": error.reason})
            self._storage_doubtful = True
            return []
        for message in messages:
            metrics.AGE.observe(max(0.0, (datetime.now(UTC) - message.inserted).total_seconds()))
            if message.dequeue_count > 1:
                metrics.REDELIVERIES.inc()
            task = asyncio.create_task(self._handle(message, asked))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return messages

    async def _storage_answers(self) -> bool:
        faults = [fault async for fault in self._probe()] if self._probe else []
        if faults:
            log.warning("storage_not_ready", extra={"faults": faults})
            return False
        self._storage_doubtful = False
        return True

    async def _handle(self, message: Message, asked: float) -> None:
        lease = Lease(self._queue, message, self._visibility, self._renew_every, asked, self._clock)
        job = Job(message, lease, started=datetime.now(UTC), prefix=message.id)
        begun = self._clock()
        settlement: Settlement = Leave()
        try:
            async with lease, self._gate.together():
                settlement = await self._processor.process(job)
        except asyncio.CancelledError:
            settlement = Release(0, excused=True)
            await self._processor.excuse(job)
        except ModelBroken:
            self.model_broken = True
            self._stop.set()
            settlement = Release(0, excused=True)
        except OwnershipLost:
            settlement = Leave()
        except StorageUnavailable as error:
            self._storage_doubtful = True
            log.warning("storage_failed", extra={"batch_id": job.prefix, "reason": error.reason})
            settlement = Release(backoff(Delivery(message.dequeue_count, 0)), excused=True)
            await self._processor.excuse(job)
        except Exception:  # settling failed in a way nobody foresaw: the lease runs out by itself
            log.exception("settling_failed", extra={"batch_id": job.prefix})
        await self._end(lease, settlement)
        seconds = self._clock() - begun
        metrics.MESSAGES.labels(type(settlement).__name__.lower()).observe(seconds)

    async def _end(self, lease: Lease, settlement: Settlement) -> None:
        """Carry out the end of a message. When that fails, it comes back after its visibility."""
        with suppress(OwnershipLost):
            try:
                match settlement:
                    case Delete() | Fail():
                        lease.check()
                        await self._queue.delete(lease.message)
                    case Release(delay=delay, excused=excused):
                        self._storage_doubtful |= excused and delay > 0
                        await self._queue.renew(lease.message, delay)
                    case Leave():
                        pass
            except StorageUnavailable as error:
                self._storage_doubtful = True
                log.warning("end_failed", extra={"reason": error.reason})
