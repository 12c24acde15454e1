"""The loop: takes messages, works on several at once, ends each of them, stops when asked."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

from shared import metrics
from shared.batches.ports import Message, Queue
from shared.records.errors import OwnershipLost, ScorerError
from worker.delivery import Delivery
from worker.gate import Gate
from worker.lease import Lease
from worker.policy import Delete, Fail, Leave, Release, Settlement
from worker.processor import Processor

log = logging.getLogger(__name__)

FIRST_WAIT = 0.1
"""Seconds after the first look at an empty queue; doubles from there."""
CALL_LIMIT = 30
"""Seconds after which a look at the queue counts as not answered; the loop must go on turning."""
IN_HAND = 4
"""Messages for each slot, with those that are ending: where that is slow, they must not pile up."""
BUSY_WAIT = 5
"""Seconds between two turns of the loop while no more work can be taken."""


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
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """What the consumer is handed.

        `probe` returns a line for each thing of storage that does not answer. `preload` is called
        once, in a thread, when there is nothing to do; it raises nothing.
        """
        self._queue = queue
        self._processor = processor
        self._gate = gate
        self._probe = probe
        self._slots = slots
        self._visibility = visibility
        self._renew_every = renew_every
        self._idle = idle
        self._preload = preload
        self._clock = clock
        self._now = now
        self._taking: asyncio.Task[None] | None = None
        self._looking: set[asyncio.Task[None]] = set()
        """Looks at the queue that are under way."""
        self._asked = 0
        """Messages that they may bring."""
        self._wait = FIRST_WAIT
        """Seconds to wait when a look finds nothing."""
        self._next_look = 0.0
        self._waits_since = 0.0
        """When a look last found nothing."""
        self._running: set[asyncio.Task[None]] = set()
        """Messages in work: each takes a slot."""
        self._ending: set[asyncio.Task[None]] = set()
        """Messages of which only a few short calls to storage are left."""
        self._interruptible: set[asyncio.Task[None]] = set()
        self.stopping = False
        """Whether no more is received."""
        self._changed = asyncio.Event()
        """Set when there is room for a message, a look ended, or `stop` was asked for."""
        self._storage_doubtful = False
        self._fault: BaseException | None = None
        """Raised by a look, and foreseen by nobody."""
        self.turned = clock()
        """When the loop last went round."""
        self.model_broken = False

    def stop(self) -> None:
        """Receive no more; `run` returns when all that were received have ended."""
        self.stopping = True
        self._changed.set()

    def interrupt(self) -> None:
        """Stop, and give back at once whatever is in work."""
        self.stop()
        if self._taking is not None:
            self._taking.cancel()
        for task in self._looking | self._interruptible:
            task.cancel()
        # Once is enough: a second time would cut off the giving back.
        self._interruptible.clear()

    async def run(self) -> None:
        """Until `stop`, or until the model proves broken. Raises what nobody foresaw."""
        self._taking = asyncio.create_task(self._take())
        await asyncio.wait({self._taking})
        while tasks := self._looking | self._running | self._ending:
            await asyncio.wait(tasks)
        if self._fault is not None:
            raise self._fault
        if not self._taking.cancelled():
            self._taking.result()

    async def pause(self, seconds: float) -> None:
        """Wait, unless asked to stop, or there is room for a message first."""
        self._changed.clear()
        if self.stopping:
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    @property
    def _room(self) -> int:
        """Messages that may be asked for now."""
        if len(self._ending) > (IN_HAND - 1) * self._slots:
            return 0  # for all free slots or none: one look a message would be a call for each
        return self._slots - len(self._running) - self._asked

    async def _take(self) -> None:
        while not self.stopping:
            self.turned = self._clock()
            free = self._room
            if self._gate.closed or free < 1:
                # Woken now and then, so that liveness sees the loop turn.
                await self.pause(BUSY_WAIT)
            elif (left := self._next_look - self._clock()) > 0:
                self._preload_once()
                await self.pause(left)
            elif self._storage_doubtful:
                await self._ask_storage()
            else:
                self._asked += free
                task = asyncio.create_task(self._look(free))
                self._looking.add(task)
                task.add_done_callback(self._looked)

    def _found_nothing(self) -> None:
        self._waits_since = self._clock()
        self._next_look = self._clock() + self._wait * random.uniform(0.8, 1.2)  # noqa: S311  # jitter
        self._wait = min(self._wait * 2, self._idle)

    def _preload_once(self) -> None:
        """Use the first time in which there is nothing to do."""
        busy = self._looking or self._running or self._ending or self._storage_doubtful
        if self._preload is None or busy or self.stopping:
            return
        asyncio.get_running_loop().run_in_executor(None, self._preload)
        self._preload = None

    async def _look(self, limit: int) -> None:
        """Take from the queue what is there, so many messages at most."""
        asked = self._clock()
        messages: list[Message] = []
        try:
            async with asyncio.timeout(CALL_LIMIT):
                messages = await self._queue.receive(limit, self._visibility)
        except (ScorerError, TimeoutError) as error:
            log.warning("receive_failed", extra={"reason": str(error)})
            self._storage_doubtful = True
        finally:
            self._asked -= limit
            self._changed.set()
        for message in messages:
            delivery = self._delivery_of(message, asked)
            task = asyncio.create_task(self._handle(delivery))
            delivery.free_slot = partial(self._free_slot, task)
            self._running.add(task)
            task.add_done_callback(self._ended)
        if messages:
            self._wait, self._next_look = FIRST_WAIT, 0.0
        elif asked >= self._waits_since:  # or it is the same news as another look's beside it
            self._found_nothing()

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fault = error
            self.stop()

    async def _ask_storage(self) -> None:
        """Find out whether storage, which was in doubt, answers all that we need of it."""
        faults = await self._probe()
        self._storage_doubtful = bool(faults)
        if faults:
            log.warning("storage_not_ready", extra={"faults": faults})
            self._found_nothing()

    def _delivery_of(self, message: Message, asked: float) -> Delivery:
        age = max(0.0, (message.received - message.inserted).total_seconds())
        metrics.AGE.observe(age)
        if message.dequeue_count > 1:
            metrics.REDELIVERIES.inc()
        lease = Lease(
            self._queue,
            message,
            visibility=self._visibility,
            every=self._renew_every,
            received=asked,
            expires=asked + (message.expires - message.received).total_seconds(),
            clock=self._clock,
        )
        return Delivery(message, lease, self._now(), age, prefix=message.id)

    def _free_slot(self, task: asyncio.Task[None]) -> None:
        if task in self._running:
            self._running.discard(task)
            self._ending.add(task)
        # Also the second time: one that was worked on alone has opened the gate by then.
        self._wake()

    def _wake(self) -> None:
        # A message does this several times, and most times there is nothing to do.
        if self._room > 0:
            self._changed.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._ending.discard(task)
        self._wake()
        if not task.cancelled() and (error := task.exception()) is not None:
            # Nobody foresaw it; the message comes back after its visibility.
            reason = type(error).__name__
            log.warning("delivery_failed", extra={"reason": reason}, exc_info=error)

    async def _handle(self, delivery: Delivery) -> None:
        begun = self._clock()
        settlement = await self._work(delivery)
        delivery.free_slot()
        await self._end(delivery, settlement)
        outcome = type(settlement).__name__.lower()
        metrics.MESSAGES.labels(outcome).observe(self._clock() - begun)

    async def _work(self, delivery: Delivery) -> Settlement:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine that runs is in a task
        self._interruptible.add(task)
        try:
            async with delivery.lease:
                return await self._processor.process(delivery)
        except asyncio.CancelledError:  # by `interrupt`
            await self._processor.excuse(delivery)
            return Release(0, excused=True)
        finally:
            self._interruptible.discard(task)

    async def _end(self, delivery: Delivery, settlement: Settlement) -> None:
        """Carry out the end of a message. When that fails, it comes back after its visibility."""
        try:
            match settlement:
                case Delete() | Fail():
                    if not delivery.lease.lost:
                        await self._queue.delete(delivery.lease.message)
                case Release(delay=delay, doubt=doubt):
                    self._storage_doubtful |= doubt == "storage"
                    if doubt == "model":
                        self.model_broken = True
                        self.stop()
                    await self._queue.renew(delivery.lease.message, delay)
                case Leave():
                    log.info("message_left", extra={"batch_id": delivery.prefix})
        except OwnershipLost:
            log.info("message_left", extra={"batch_id": delivery.prefix})
        except Exception as error:  # the message is safe: nothing else of it is ours to keep
            self._storage_doubtful = True
            log.warning("end_failed", extra={"reason": type(error).__name__})
