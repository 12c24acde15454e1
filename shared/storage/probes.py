"""Permission probes: calls that need a right and change nothing visible.

The worker runs them before it takes messages; `heart-scorer doctor` runs them for a person.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from shared.batches.ports import Message
from shared.records.errors import NotFound, OwnershipLost, ScorerError

if TYPE_CHECKING:
    from shared.batches.ports import Blobs, Queue

NAME = "permission-probe"
"""Of a blob that does not exist and never will."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One right: `name` says where and to do what."""

    name: str
    call: Callable[[], Awaitable[object]]

    async def failure(self) -> ScorerError | None:
        """Why the right cannot be used; None if it can."""
        try:
            await self.call()
        except OwnershipLost:  # no such message: we were allowed to ask
            return None
        except NotFound as error:
            missing = error.reason in ("ContainerNotFound", "QueueNotFound")
            return error if missing else None
        except ScorerError as error:
            return error
        return None


def may_peek(label: str, queue: Queue) -> Probe:
    """Peek at messages: the right that reading a queue needs."""
    return Probe(f"{label}: peek at messages", lambda: queue.peek(1))


def may_process(label: str, queue: Queue) -> Probe:
    """Receive, renew and delete messages, tried on one that never was."""
    now = datetime.now(UTC)
    expires = now + timedelta(days=7)
    message = Message(str(uuid.uuid4()), "AgAAAAMAAAAAAAAA", "", 1, now, expires, now)
    return Probe(f"{label}: receive and renew messages", lambda: queue.renew(message, 1))


def may_read(container: str, blobs: Blobs) -> Probe:
    """Read blobs of a container."""
    return Probe(f"container {container}: read", lambda: blobs.facts(container, NAME))


def may_write(container: str, blobs: Blobs) -> Probe:
    """Write blobs of a container: stages a block that is never committed and expires by itself."""
    return Probe(
        f"container {container}: write", lambda: blobs.stage(container, NAME, "0" * 64, b"x")
    )
