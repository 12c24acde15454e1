"""A worker over fakes: queue, blobs and clock in memory, and as many workers as a test wants."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from shared.batches.message import Envelope, EnvelopeInput, EnvelopeOptions
from shared.files.base import Limits
from shared.files.options import OutputFormat
from shared.records.artifact import Artifact
from shared.testing import FakeBlobs, FakeClock, FakeQueue, VirtualClock
from tests.faulty import Hook, Moment, faulty_blobs, faulty_queue
from worker.consumer import Consumer
from worker.gate import Gate
from worker.health import StorageCheck
from worker.lease import LeaseTerms
from worker.parts import Parts
from worker.processor import Processor

VISIBILITY, RENEWAL = 60.0, 20.0
WHOLE = 1 << 30
"""Bytes from which a file is shared, unless `SCORER_SPLIT_BYTES` is set."""


async def nothing(moment: Moment) -> None:
    """The hook of an undisturbed worker."""


class World:
    """Storage in memory, with what a sender and a reader of results do."""

    def __init__(
        self, artifact: Artifact, clock: FakeClock | None = None, lifetime: float | None = None
    ) -> None:
        self.artifact = artifact
        self.clock = clock or VirtualClock()
        self.queue = FakeQueue(self.clock, lifetime)
        self.poison = FakeQueue(self.clock)
        self.parts = FakeQueue(self.clock)
        self.blobs = FakeBlobs()

    async def submit(
        self,
        batch_id: str,
        content: bytes,
        suffix: str = ".csv",
        *,
        include_input: bool = False,
        profile: bool = False,
        output: OutputFormat | None = None,
    ) -> str:
        """Upload a file and send its envelope; returns the message's id."""
        etag = self.blobs.put("uploads", batch_id + suffix, content)
        envelope = Envelope(
            batch_id=batch_id,
            input=EnvelopeInput(container="uploads", blob=batch_id + suffix, etag=etag),
            options=EnvelopeOptions(
                include_input=include_input, profile=profile or None, output=output
            ),
        )
        return await self.queue.send(envelope.text())

    def worker(
        self,
        hook: Hook = nothing,
        *,
        limits: Limits | None = None,
        slots: int = 4,
        artifact: Artifact | None = None,
        preload: Callable[[], object] | None = None,
    ) -> Consumer:
        queue, blobs = faulty_queue(self.queue, hook), faulty_blobs(self.blobs, hook)
        gate = Gate()
        parts = Parts(
            faulty_queue(self.parts, hook, parts=True),
            blobs,
            artifact or self.artifact,
            limits or Limits(),
            gate,
            threshold=int(os.environ.get("SCORER_SPLIT_BYTES", WHOLE)),
            terms=LeaseTerms(VISIBILITY, RENEWAL),
            stopping=lambda: consumer.stopping,
            clock=self.clock,
        )
        processor = Processor(
            artifact or self.artifact,
            faulty_queue(self.poison, hook, poison=True),
            blobs,
            limits or Limits(),
            gate,
            stopping=lambda: consumer.stopping,
            notes=self.blobs,
            parts=parts,
        )
        consumer = Consumer(
            queue,
            processor,
            gate,
            StorageCheck(queue, self.parts, blobs),
            slots=slots,
            visibility=VISIBILITY,
            renew_every=RENEWAL,
            idle=10,
            preload=preload,
            parts=parts,
            clock=self.clock,
        )
        return consumer

    @asynccontextmanager
    async def working(self, *workers: Consumer) -> AsyncIterator[None]:
        """Let workers run until the block ends, then stop them."""
        running = [asyncio.create_task(worker.run()) for worker in workers]
        try:
            yield
        finally:
            for worker in workers:
                worker.interrupt()
            await asyncio.gather(*running)

    async def until(self, holds: Callable[[], object], seconds: float = 3600) -> None:
        """Wait for a condition."""
        ends = self.clock() + seconds
        while not holds():
            if self.clock() > ends:
                raise AssertionError(f"not within {seconds:g} s")
            await asyncio.sleep(0.1)

    async def emptied(self, *workers: Consumer, seconds: float = 3600) -> None:
        """Let workers run until the queue is empty, then stop them."""
        async with self.working(*(workers or (self.worker(),))):
            await self.until(lambda: not self.queue.bodies(), seconds)

    def summary(self, batch_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.blobs.content("scores", f"{batch_id}/summary.json"))
        return found

    def has_summary(self, batch_id: str) -> bool:
        return f"{batch_id}/summary.json" in self.blobs.names("scores")

    def scores(self, batch_id: str, suffix: str = "csv") -> bytes:
        return self.blobs.content("scores", f"{batch_id}/scores.{suffix}")

    def poisoned(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.poison.bodies()]
