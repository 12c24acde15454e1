"""Fakes for tests: a queue and blobs in memory that hide, count, expire and conflict like Azure.

Where Azurite differs from the documents (a stale pop receipt: 404 live, 400 there), these follow
the documents. Time is a clock that the test moves.
"""

from __future__ import annotations

import asyncio
import itertools
import selectors
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from shared.batches.ports import NO_METADATA, BlobFacts, Listed, Message, Staged
from shared.records.errors import AlreadyExists, BlocksGone, InputChanged, NotFound, OwnershipLost

T = TypeVar("T")

START = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)


class FakeClock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    async def wait(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


@dataclass(slots=True)
class _Entry:
    message: Message
    visible_at: float


class FakeQueue:
    """A storage queue."""

    def __init__(self, clock: FakeClock, lifetime: float | None = None) -> None:
        self._clock = clock
        self._lifetime = lifetime
        self._entries: dict[str, _Entry] = {}
        self._receipts = itertools.count(1)
        self.shared = 0
        """Deliveries that do not hide their message, as if its visibility had run out at once."""

    async def send(self, body: str) -> str:
        now = self._clock.now
        expires = NEVER if self._lifetime is None else now + timedelta(seconds=self._lifetime)
        message = Message(str(uuid.uuid4()), "", body, 0, now, expires, now)
        self._entries[message.id] = _Entry(message, self._clock())
        return message.id

    async def receive(self, limit: int, visibility: float) -> list[Message]:
        taken: list[Message] = []
        for entry in self._visible()[:limit]:
            entry.message = replace(
                entry.message,
                receipt=str(next(self._receipts)),
                dequeue_count=entry.message.dequeue_count + 1,
                received=self._clock.now,
            )
            if self.shared:
                self.shared -= 1
            else:
                entry.visible_at = self._clock() + visibility
            taken.append(entry.message)
        return taken

    async def renew(self, message: Message, visibility: float) -> Message:
        entry = self._owned(message)
        # As documented: "the new value can't be later than the expiry time".
        if self._clock.now + timedelta(seconds=min(visibility, 7 * 86400)) > entry.message.expires:
            raise OwnershipLost("400 OutOfRangeQueryParameterValue")
        entry.message = replace(entry.message, receipt=str(next(self._receipts)))
        entry.visible_at = self._clock() + visibility
        return entry.message

    async def delete(self, message: Message) -> None:
        del self._entries[self._owned(message).message.id]

    async def peek(self, limit: int) -> list[Message]:
        now = self._clock.now
        visible = self._visible()[:limit]
        return [replace(entry.message, receipt="", received=now) for entry in visible]

    async def length(self) -> int:
        self._expire()
        return len(self._entries)

    async def create(self) -> None:
        return

    def bodies(self) -> list[str]:
        """All messages, hidden ones included."""
        self._expire()
        return [entry.message.body for entry in self._entries.values()]

    def _visible(self) -> list[_Entry]:
        self._expire()
        return [e for e in self._entries.values() if e.visible_at <= self._clock()]

    def _expire(self) -> None:
        for key, entry in list(self._entries.items()):
            if entry.message.expires <= self._clock.now:
                del self._entries[key]

    def _owned(self, message: Message) -> _Entry:
        self._expire()
        entry = self._entries.get(message.id)
        if entry is None or entry.message.receipt != message.receipt:
            raise OwnershipLost("404 MessageNotFound")
        return entry


@dataclass(slots=True)
class _Blob:
    content: bytes
    etag: str
    metadata: dict[str, str] = field(default_factory=dict)
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))


class FakeBlobs:
    """Blob containers."""

    def __init__(self, containers: Sequence[str] = ("incoming", "uploads", "scores")) -> None:
        self._containers: dict[str, dict[str, _Blob]] = {name: {} for name in containers}
        self._staged: dict[tuple[str, str], dict[str, bytes]] = {}
        self._etags = itertools.count(1)

    def put(self, container: str, name: str, content: bytes) -> str:
        """Write or overwrite a blob, as anybody could; returns its etag."""
        blob = _Blob(content, f"0x{next(self._etags):X}")
        self._containers[container][name] = blob
        return blob.etag

    def remove_container(self, container: str) -> None:
        del self._containers[container]

    def names(self, container: str) -> list[str]:
        return sorted(self._containers[container])

    def content(self, container: str, name: str) -> bytes:
        return self._blob(container, name).content

    def take_away(self, container: str, name: str) -> None:
        """Delete a blob, as anybody could."""
        del self._containers[container][name]

    def age(self, container: str, name: str, by: timedelta) -> None:
        """Make a blob look as if it was written earlier."""
        self._containers[container][name].modified -= by

    def _blob(self, container: str, name: str) -> _Blob:
        if container not in self._containers:
            raise NotFound("ContainerNotFound")
        blob = self._containers[container].get(name)
        if blob is None:
            raise NotFound("BlobNotFound")
        return blob

    async def facts(self, container: str, name: str) -> BlobFacts:
        blob = self._blob(container, name)
        return BlobFacts(blob.etag, len(blob.content), dict(blob.metadata), blob.modified)

    async def read(self, container: str, name: str) -> bytes:
        return self._blob(container, name).content

    async def chunks(
        self, container: str, name: str, etag: str, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        size = 2 << 20
        while end is None or offset < end:
            blob = self._blob(container, name)
            if blob.etag != etag:
                raise InputChanged("the blob was replaced while it was read")
            if offset >= len(blob.content):
                return
            stop = offset + size if end is None else min(offset + size, end)
            yield blob.content[offset:stop]
            offset = stop

    async def create(
        self,
        container: str,
        name: str,
        content: bytes,
        content_type: str,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> BlobFacts:
        blobs = self._containers.get(container)
        if blobs is None:
            raise NotFound("ContainerNotFound")
        if name in blobs:
            raise AlreadyExists("BlobAlreadyExists")
        self.put(container, name, content)
        self._staged.pop((container, name), None)
        blobs[name].metadata = dict(metadata)
        return await self.facts(container, name)

    async def stage(self, container: str, name: str, block: str, content: bytes) -> None:
        if container not in self._containers:
            raise NotFound("ContainerNotFound")
        if not content:
            raise AssertionError("400 InvalidHeaderValue: an empty block")
        staged = self._staged.setdefault((container, name), {})
        if any(len(other) != len(block) for other in staged):
            raise AssertionError("400 InvalidBlobOrBlock: names of different length")
        staged[block] = content

    async def staged(self, container: str, name: str) -> list[Staged]:
        staged = self._staged.get((container, name), {})
        # Live lists them by name.
        return [Staged(block, len(staged[block])) for block in sorted(staged)]

    async def commit(
        self,
        container: str,
        name: str,
        blocks: Sequence[str],
        content_type: str,
        metadata: Mapping[str, str],
    ) -> BlobFacts:
        if name in self._containers[container]:
            raise AlreadyExists("BlobAlreadyExists")
        staged = self._staged.get((container, name), {})
        if any(block not in staged for block in blocks):
            raise BlocksGone("InvalidBlockList")
        self.put(container, name, b"".join(staged[block] for block in blocks))
        self._staged.pop((container, name), None)
        self._containers[container][name].metadata = dict(metadata)
        return await self.facts(container, name)

    async def discard(self, container: str, name: str, etag: str) -> None:
        blob = self._containers[container].get(name)
        if blob is not None and blob.etag == etag:
            del self._containers[container][name]

    async def create_container(self, container: str) -> None:
        self._containers.setdefault(container, {})

    async def listing(self, container: str, prefix: str) -> list[Listed]:
        if container not in self._containers:
            raise NotFound("ContainerNotFound")
        staged = {name: START for place, name in self._staged if place == container}
        written = {name: blob.modified for name, blob in self._containers[container].items()}
        return [
            Listed(name, modified)
            for name, modified in sorted((staged | written).items())
            if name.startswith(prefix)
        ]

    async def overwrite(self, container: str, name: str, content: bytes, content_type: str) -> None:
        if container not in self._containers:
            raise NotFound("ContainerNotFound")
        self.put(container, name, content)

    async def remove(self, container: str, name: str) -> None:
        self._blob(container, name)
        del self._containers[container][name]


class VirtualClock(FakeClock):
    """The running loop's time, which `run_virtually` lets jump; it stops when the loop ends."""

    def __call__(self) -> float:
        with suppress(RuntimeError):
            self.seconds = asyncio.get_running_loop().time()
        return self.seconds

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self())

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


LATEST = 2**22
"""Seconds of virtual time, 48 days. Later, a nanosecond, asyncio's resolution, is lost in rounding
and a timer that is due would never run."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for time to pass, only for threads that are at work."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:  # the loop has something to do
            return ready
        if self.threads:
            return super().select(0.05)
        if timeout is None:
            raise AssertionError("nothing will ever happen: the test waits for nothing")
        self.now += timeout
        if self.now > LATEST:
            raise AssertionError(f"the test waits for more than {LATEST} s of virtual time")
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer when nothing else is to be done."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    # The library's own signature needs types that Python 3.11 cannot write.
    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1

        def done(_: object) -> None:
            self._jumping.threads -= 1

        future.add_done_callback(done)
        return future

    async def shutdown_default_executor(self, *_: object) -> None:
        # Python 3.12 passes a timeout, which would be virtual.
        self._jumping.threads += 1  # waits for a thread too
        await super().shutdown_default_executor()
        self._jumping.threads -= 1


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time: an hour of waiting takes no time at all."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(work)
