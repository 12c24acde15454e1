"""Protocols of what the API and the worker need from queues and blobs.

Adapters and fakes share no base class; the type checker compares both with these protocols.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery of a queue message. The body hides itself: it may hold records."""

    id: str
    receipt: str
    body: str
    dequeue_count: int
    inserted: datetime
    expires: datetime
    received: datetime
    """When the service answered. All times are by its clock."""

    def __repr__(self) -> str:
        return f"Message({self.id!r}, dequeue_count={self.dequeue_count})"


class Queue(Protocol):
    """A queue with visibility time-outs. All calls may raise `StorageUnavailable`."""

    async def send(self, body: str) -> str:
        """Append a message that never expires; returns its id."""
        ...

    async def receive(self, limit: int, visibility: float) -> list[Message]:
        """Receive up to `limit` messages and hide them from others for `visibility` seconds."""
        ...

    async def renew(self, message: Message, visibility: float) -> Message:
        """Hide a received message for `visibility` more seconds, from now; 0 gives it back.

        One try, at most 5 s. Returns the message with its new receipt. Raises `OwnershipLost`.
        """
        ...

    async def delete(self, message: Message) -> None:
        """Delete a message. Raises `OwnershipLost` if another worker has it now."""
        ...

    async def peek(self, limit: int) -> list[Message]:
        """Look at up to `limit` (32 at most) visible messages without taking them."""
        ...

    async def length(self) -> int:
        """Approximate number of messages, hidden ones included."""
        ...

    async def create(self) -> None:
        """Create the queue unless it exists."""
        ...


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """Properties of a blob."""

    etag: str
    """Without surrounding quotes."""
    size: int
    metadata: Mapping[str, str]
    created: datetime | None = field(default=None, compare=False)
    """By the service's clock; None where its answer does not say."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The name of a staged block and its size in bytes."""

    name: str
    size: int


NO_METADATA: Mapping[str, str] = MappingProxyType({})


class Blobs(Protocol):
    """Blobs by container and name. All calls may raise `StorageUnavailable`."""

    async def facts(self, container: str, name: str) -> BlobFacts:
        """Raises `NotFound`."""
        ...

    async def read(self, container: str, name: str) -> bytes:
        """The whole of a small blob. Raises `NotFound`."""
        ...

    def chunks(
        self, container: str, name: str, etag: str, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """Content from `offset` to `end`, in pieces of a few MiB, all of the version `etag`.

        Raises `NotFound`, `InputChanged`, `StorageRefused`.
        """
        ...

    async def create(
        self,
        container: str,
        name: str,
        content: bytes,
        content_type: str,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> BlobFacts:
        """Write a blob that must not exist yet. Raises `AlreadyExists`.

        Blocks that were staged for it are gone then.
        """
        ...

    async def stage(self, container: str, name: str, block: str, content: bytes) -> None:
        """Stage a block, invisible until a commit. It must not be empty."""
        ...

    async def staged(self, container: str, name: str) -> list[Staged]:
        """Blocks staged and not committed, in any order."""
        ...

    async def commit(
        self,
        container: str,
        name: str,
        blocks: Sequence[str],
        content_type: str,
        metadata: Mapping[str, str],
    ) -> BlobFacts:
        """Make the blob appear from its staged blocks. Create-only.

        Raises `AlreadyExists` or `BlocksGone`.
        """
        ...

    async def discard(self, container: str, name: str, etag: str) -> None:
        """Delete this version of a blob; another version, or none, is left as it is."""
        ...

    async def create_container(self, container: str) -> None:
        """Create the container unless it exists."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A blob as a container's listing shows it."""

    name: str
    modified: datetime
    """When storage last received it, by storage's clock."""


class Notes(Protocol):
    """Small blobs that are listed, overwritten and removed. May raise `StorageUnavailable`."""

    async def read(self, container: str, name: str) -> bytes:
        """Raises `NotFound`."""
        ...

    async def listing(self, container: str, prefix: str) -> list[Listed]:
        """Blobs with this prefix, including those that only have staged blocks.

        Raises `NotFound` without the container.
        """
        ...

    async def overwrite(self, container: str, name: str, content: bytes, content_type: str) -> None:
        """Overwrite a blob. Raises `NotFound`."""
        ...

    async def remove(self, container: str, name: str) -> None:
        """Delete a blob. Raises `NotFound`."""
        ...


class BlobStore(Blobs, Notes, Protocol):
    """All operations on blobs."""


class Account(Protocol):
    """A storage account: queues by name, and blobs."""

    def queue(self, name: str) -> Queue: ...

    def blobs(self) -> BlobStore: ...
