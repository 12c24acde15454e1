"""The worker's loop: receive messages, work on several at once, settle them, stop when asked."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from shared import metrics
from shared.batches.ports import Message, Queue
from shared.records.errors import OwnershipLost, ScorerError
from worker.delivery import Delivery
from worker.gate import Gate
from worker.lease import Lease, LeaseTerms
from worker.parts import Parts
from worker.policy import Delete, Fail, Leave, Release, Settlement
from worker.processor import Processor

log = logging.getLogger(__name__)

FIRST_WAIT = 0.1
"""Seconds after the first empty receive; doubles from there."""
RECEIVE_LIMIT = 30
"""Seconds that a receive may take; the loop must keep turning."""
BUSY_WAIT = 5
"""Seconds between two iterations of the loop while all slots are taken."""
EXCLUSIVE_WAIT = 0.5
"""Seconds after which the loop sees that a message no longer runs exclusively."""


class Consumer:
    """Receives from the queue and keeps up to `slots` messages in work."""

    def __init__(
        self,
        queue: Queue,
        processor: Processor,
        gate: Gate,
        probe: Callable[[], Awaitable[list[str]]],
        *,
        slots: int,
        visibility: float,
        renew_every: float,
        idle: float,
        preload: Callable[[], object] | None = None,
        parts: Parts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Collaborators and limits.

        `probe` returns a line for each thing in storage that does not work. `preload` is called
        once, in a thread, the first time the queue is empty; it raises nothing. `parts` of large
        files are taken when there is no message.
        """
        self._queue = queue
        self._processor = processor
        self._gate = gate
        self._probe = probe
        self._slots = slots
        self._terms = LeaseTerms(visibility, renew_every)
        self._idle = idle
        self._preload = preload
        self._parts = parts
        self._clock = clock
        self._receiving: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        """Messages in work: each takes a slot."""
        self._part: asyncio.Task[None] | None = None
        """The part in work. One at a time: more would only compete for the CPU."""
        self._interruptible: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        """Set when a slot becomes free, and by `stop`."""
        self._wait = FIRST_WAIT
        """Seconds to wait after the next empty receive."""
        self._storage_doubtful = False
        self.stopping = False
        """Whether no more messages are received."""
        self.turned = clock()
        """Time of the loop's last iteration."""
        self.model_broken = False

    @property
    def in_use(self) -> int:
        """Slots that work on a message."""
        return len(self._running)

    def stop(self) -> None:
        """Receive no more; `run` returns when all received messages are settled."""
        self.stopping = True
        self._changed.set()

    def interrupt(self) -> None:
        """Stop, and release all messages in work at once."""
        self.stop()
        if self._receiving is not None:
            self._receiving.cancel()
        for task in self._interruptible:
            task.cancel()
        # Once is enough: a second time would cut off the release.
        self._interruptible.clear()

    async def run(self) -> None:
        """Consume until `stop`, or until the model proves broken. Raises unforeseen errors."""
        self._receiving = asyncio.create_task(self._receive_until_stopped())
        await asyncio.wait({self._receiving})
        while self._running:
            await asyncio.wait(self._running)
        await self._processor.write_owed_excuses()
        if not self._receiving.cancelled():
            self._receiving.result()

    async def pause(self, seconds: float) -> None:
        """Wait, unless a slot becomes free or `stop` is called first."""
        self._changed.clear()
        if self.stopping:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _receive_until_stopped(self) -> None:
        while not self.stopping:
            self.turned = self._clock()
            free = self._slots - len(self._running)
            if self._gate.closed:
                await self.pause(EXCLUSIVE_WAIT)
            elif free < 1:
                # Wake now and then, so that liveness sees the loop run.
                await self.pause(BUSY_WAIT)
            elif self._storage_doubtful:
                await self._ask_storage()
            else:
                await self._receive(free)

    async def _receive(self, limit: int) -> None:
        before = self._clock()
        try:
            async with asyncio.timeout(RECEIVE_LIMIT):
                messages = await self._queue.receive(limit, self._terms.visibility)
                part = None if messages else await self._receive_part()
        except (ScorerError, TimeoutError) as error:
            reason = str(error) or f"no answer within {RECEIVE_LIMIT} s"
            log.warning("receive_failed", extra={"reason": reason})
            self._storage_doubtful = True
            await self._back_off()
            return
        await self._processor.write_owed_excuses()
        for message in messages:
            self._start(message, before)
        if part is not None:
            self._part = self._run(self._handle_part(part, before))
        if messages or part is not None:
            self._wait = FIRST_WAIT
        else:
            self._preload_once()
            await self._back_off()

    async def _receive_part(self) -> Message | None:
        if self._parts is None or self._parts.sharing or self._part is not None:
            return None
        return next(iter(await self._parts.receive(1)), None)

    async def _back_off(self) -> None:
        ends = self._clock() + self._wait * random.uniform(0.8, 1.2)  # noqa: S311  # jitter
        self._wait = min(self._wait * 2, self._idle)
        part = self._part
        # After a part there is probably another one.
        while self._part is part and not self.stopping and (left := ends - self._clock()) > 0:
            await self.pause(left)

    async def _ask_storage(self) -> None:
        """Check whether storage, which failed, answers all that the worker needs."""
        faults = await self._probe()
        self._storage_doubtful = bool(faults)
        if faults:
            log.warning("storage_not_ready", extra={"faults": faults})
            await self._back_off()

    def _preload_once(self) -> None:
        if self._preload is not None and not self._running:
            asyncio.get_running_loop().run_in_executor(None, self._preload)
            self._preload = None

    def _start(self, message: Message, received: float) -> None:
        lease = Lease.of(self._queue, message, self._terms, received=received, clock=self._clock)
        delivery = Delivery(message, lease)
        metrics.AGE.observe(delivery.age)
        if message.dequeue_count > 1:
            metrics.REDELIVERIES.inc()
        log.info(
            "message_taken",
            extra={
                "message_id": message.id,
                "deliveries": message.dequeue_count,
                "age_seconds": round(delivery.age, 1),
            },
        )
        self._run(self._handle(delivery))

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start work that takes a slot."""
        task = asyncio.create_task(work)
        self._running.add(task)
        metrics.IN_PROGRESS.set(len(self._running))
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if task is self._part:
            self._part = None
            self._wait = FIRST_WAIT
        metrics.IN_PROGRESS.set(len(self._running))
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # An unexpected error: the message becomes visible again after its visibility timeout.
            reason = type(error).__name__
            log.warning("delivery_failed", extra={"reason": reason}, exc_info=error)

    async def _handle(self, delivery: Delivery) -> None:
        begun = self._clock()
        settlement = await self._work(delivery)
        await self._carry_out(delivery, settlement)
        outcome = type(settlement).__name__.lower()
        metrics.MESSAGES.labels(outcome).observe(self._clock() - begun)

    async def _handle_part(self, message: Message, received: float) -> None:
        task = asyncio.current_task()
        assert self._parts is not None  # noqa: S101  # it was received from there
        assert task is not None  # noqa: S101  # a running coroutine is in a task
        self._interruptible.add(task)
        try:
            settlement = await self._parts.handle(message, received)
        except asyncio.CancelledError:  # by `interrupt`
            return
        finally:
            self._interruptible.discard(task)
        if isinstance(settlement, Release):
            self._heed(settlement)

    def _heed(self, settlement: Release) -> None:
        """Ask storage, or end with a broken model, if that is why work was released."""
        self._storage_doubtful |= settlement.doubt == "storage"
        if settlement.doubt == "model":
            self.model_broken = True
            self.stop()

    async def _work(self, delivery: Delivery) -> Settlement:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a running coroutine is in a task
        self._interruptible.add(task)
        try:
            async with delivery.lease:
                return await self._processor.process(delivery)
        except asyncio.CancelledError:  # by `interrupt`
            return await self._processor.interrupted(delivery)
        finally:
            self._interruptible.discard(task)

    async def _carry_out(self, delivery: Delivery, settlement: Settlement) -> None:
        """Carry out the settlement. If that fails, the message becomes visible again later."""
        message = delivery.lease.message
        try:
            match settlement:
                case Delete() | Fail():
                    if not delivery.lease.lost:
                        await self._queue.delete(message)
                case Release(delay=delay):
                    self._heed(settlement)
                    await self._queue.renew(message, delay)
                case Leave():
                    log.info("message_left", extra={"message_id": message.id})
        except OwnershipLost:
            log.info("message_left", extra={"message_id": message.id})
        except Exception as error:  # the message is safe, and nothing else depends on it
            self._storage_doubtful = True
            log.warning("end_failed", extra={"reason": type(error).__name__})
