"""The loop: takes messages, works on several at once, ends each of them, stops when asked."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from shared import metrics
from shared.errors import OwnershipLost, ScorerError
from shared.ports import Message, Queue
from worker.gate import Gate
from worker.job import Job
from worker.lease import Lease
from worker.processor import Processor
from worker.settlement import Delete, Fail, Leave, Release, Settlement

log = logging.getLogger(__name__)

FIRST_WAIT = 0.1
"""Seconds after the first look at an empty queue; doubles from there."""
CALL_LIMIT = 30
"""Seconds after which a look at the queue counts as not answered; the loop must go on turning."""
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
        self._running: set[asyncio.Task[None]] = set()
        """Messages in work: each takes a slot."""
        self._ending: set[asyncio.Task[None]] = set()
        """Messages whose work is done, and whose end is being told to the queue."""
        self._working: set[asyncio.Task[None]] = set()
        """Those of `_running` that may be interrupted."""
        self._stop = asyncio.Event()
        self._storage_doubtful = False
        self.turned = clock()
        """When the loop last went round."""
        self.model_broken = False

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Receive no more; `run` returns when all that were received have ended."""
        self._stop.set()

    def interrupt(self) -> None:
        """Stop, and give back at once whatever is in work."""
        self.stop()
        if self._taking is not None:
            self._taking.cancel()
        for task in self._working:
            task.cancel()
        # Once is enough: a second time would cut off the giving back.
        self._working.clear()

    async def run(self) -> None:
        """Until `stop`, or until the model proves broken."""
        self._taking = asyncio.create_task(self._take())
        await asyncio.wait({self._taking})
        while self._running or self._ending:
            await asyncio.wait(self._running | self._ending)
        if not self._taking.cancelled():
            self._taking.result()

    async def pause(self, seconds: float) -> None:
        """Wait, unless asked to stop, or a message's work or its end is done first."""
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait(
                {stop, *self._running, *self._ending},
                timeout=seconds,
                return_when="FIRST_COMPLETED",
            )
        finally:
            stop.cancel()

    async def _take(self) -> None:
        wait = FIRST_WAIT
        while not self.stopping:
            self.turned = self._clock()
            busy = len(self._running) >= self._slots or len(self._ending) > self._slots
            if self._gate.closed or busy:
                # Woken now and then, so that liveness sees the loop turn.
                await self.pause(BUSY_WAIT)
            elif await self._storage_answers() and await self._receive():
                wait = FIRST_WAIT
            else:
                self._preload_once()
                await self.pause(wait * random.uniform(0.8, 1.2))  # noqa: S311  # jitter
                wait = min(wait * 2, self._idle)

    def _preload_once(self) -> None:
        """Use the first time in which there is nothing to do."""
        busy = self._running or self._ending or self._storage_doubtful or self.stopping
        if self._preload is None or busy:
            return
        asyncio.get_running_loop().run_in_executor(None, self._preload)
        self._preload = None

    async def _receive(self) -> bool:
        """Take what is there. False: nothing, or no answer."""
        asked = self._clock()
        try:
            async with asyncio.timeout(CALL_LIMIT):
                messages = await self._queue.receive(
                    self._slots - len(self._running), self._visibility
                )
        except (ScorerError, TimeoutError) as error:
            log.warning("receive_failed", extra={"reason": str(error)})
            self._storage_doubtful = True
            return False
        for message in messages:
            task = asyncio.create_task(self._handle(self._job(message, asked)))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        # Or what it takes to ask for the next ones would come before the first of these.
        await asyncio.sleep(0)
        return bool(messages)

    async def _storage_answers(self) -> bool:
        """Whether storage is not in doubt, or answers all that we need of it."""
        if not self._storage_doubtful:
            return True
        faults = await self._probe()
        if faults:
            log.warning("storage_not_ready", extra={"faults": faults})
            return False
        self._storage_doubtful = False
        return True

    def _job(self, message: Message, asked: float) -> Job:
        now = self._now()
        age = max(0.0, (now - message.inserted).total_seconds())
        metrics.AGE.observe(age)
        if message.dequeue_count > 1:
            metrics.REDELIVERIES.inc()
        lease = Lease(
            self._queue,
            message,
            visibility=self._visibility,
            every=self._renew_every,
            received=asked,
            expires=asked + (message.expires - now).total_seconds(),
            clock=self._clock,
        )
        return Job(message, lease, now, age, prefix=message.id)

    async def _handle(self, job: Job) -> None:
        begun = self._clock()
        settlement = await self._work(job)
        # The slot is free from here: the next message need not wait for this one's delete.
        task = asyncio.create_task(self._finish(job, settlement, begun))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _finish(self, job: Job, settlement: Settlement, begun: float) -> None:
        await self._end(job, settlement)
        outcome = type(settlement).__name__.lower()
        metrics.MESSAGES.labels(outcome).observe(self._clock() - begun)

    async def _work(self, job: Job) -> Settlement:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine that runs is in a task
        self._working.add(task)
        try:
            async with job.lease:
                return await self._processor.process(job)
        except asyncio.CancelledError:  # by `interrupt`
            await self._processor.excuse(job)
            return Release(0, excused=True)
        finally:
            self._working.discard(task)

    async def _end(self, job: Job, settlement: Settlement) -> None:
        """Carry out the end of a message. When that fails, it comes back after its visibility."""
        try:
            match settlement:
                case Delete() | Fail():
                    if not job.lease.lost:
                        await self._queue.delete(job.lease.message)
                case Release(delay=delay, doubt=doubt):
                    self._storage_doubtful |= doubt == "storage"
                    if doubt == "model":
                        self.model_broken = True
                        self.stop()
                    await self._queue.renew(job.lease.message, delay)
                case Leave():
                    log.info("message_left", extra={"batch_id": job.prefix})
        except OwnershipLost:
            log.info("message_left", extra={"batch_id": job.prefix})
        except Exception as error:  # the message is safe: nothing else of it is ours to keep
            self._storage_doubtful = True
            log.warning("end_failed", extra={"reason": type(error).__name__})
