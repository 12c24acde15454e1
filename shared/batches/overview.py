"""The state of the service: waiting messages, workers, and the last outcome."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared.batches.presence import Retry, SeenWorker, read_retries, read_workers
from shared.batches.results import read_summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.batches.ports import BlobStore, Message, Queue
    from shared.batches.status import ListedBatch

PEEK = 32
"""Most messages that one peek shows."""
STALLED_SECONDS = 300
"""Age of the oldest message from which something is wrong, unless something finished since."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The service at one moment."""

    now: datetime
    visible: tuple[Message, ...]
    """Messages that a worker could receive now; at most 32."""
    length: int
    """Approximate number of messages, hidden ones included."""
    poison: int
    retries: tuple[Retry, ...] = ()
    """Messages that will be tried again later; they are hidden until then."""
    workers: tuple[SeenWorker, ...] = ()
    last_outcome: dict[str, Any] | None = field(default=None)
    """The summary that was written last."""

    @property
    def here(self) -> tuple[SeenWorker, ...]:
        """Workers whose record is fresh."""
        return tuple(worker for worker in self.workers if not worker.is_gone(self.now))

    @property
    def in_progress(self) -> int:
        """Messages in progress, as the workers report them."""
        return sum(worker.presence.in_use for worker in self.here)

    @property
    def waiting(self) -> int:
        """Messages that wait for a worker; exact below 32."""
        if len(self.visible) < PEEK:
            return len(self.visible)
        return max(PEEK, self.length - self.in_progress - len(self.retries))

    @property
    def oldest_seconds(self) -> float | None:
        """Age of the oldest message that waits."""
        # By storage's clock: a message carries the time at which it was seen.
        ages = [message.received - message.inserted for message in self.visible]
        return max(ages).total_seconds() if ages else None

    @property
    def finished(self) -> datetime | None:
        """When the last batch finished."""
        if self.last_outcome is None:
            return None
        return datetime.fromisoformat(self.last_outcome["times"]["finished"])

    @property
    def is_stalled(self) -> bool:
        """Whether the oldest message is old and nothing has finished for as long."""
        if (self.oldest_seconds or 0) <= STALLED_SECONDS:
            return False
        finished = self.finished
        return finished is None or (self.now - finished).total_seconds() > STALLED_SECONDS


async def read_overview(
    queue: Queue, poison: Queue, blobs: BlobStore, batches: Sequence[ListedBatch], now: datetime
) -> Overview:
    """Ask storage for everything at once; `batches` are all, newest first."""
    outcome = next((batch.batch_id for batch in batches if batch.finished), None)
    visible, length, poisoned, retries, workers, summary = await asyncio.gather(
        queue.peek(PEEK),
        queue.length(),
        poison.length(),
        read_retries(blobs),
        read_workers(blobs),
        _summary(blobs, outcome),
    )
    waiting = tuple(retry for retry in retries if not retry.is_over)
    return Overview(now, tuple(visible), length, poisoned, waiting, tuple(workers), summary)


async def _summary(blobs: BlobStore, batch_id: str | None) -> dict[str, Any] | None:
    return None if batch_id is None else await read_summary(blobs, batch_id)
