"""Queue and blobs for the API: connected on the first batch, so that scores need no storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.problems import STORAGE_RETRY_AFTER, Problem, retry_after
from shared.batches.results import SCORES, UPLOADS
from shared.records.errors import StorageUnavailable

if TYPE_CHECKING:
    from shared.batches.ports import BlobStore, Queue
    from shared.settings import ApiSettings


STORAGE_SECONDS = 15
"""Seconds that storage has for all calls of a request, or for those after a block of an upload."""


@asynccontextmanager
async def storage_time() -> AsyncIterator[asyncio.Timeout]:
    """Limit the time of the calls to storage inside. Raises `StorageUnavailable`."""
    limit = asyncio.timeout(STORAGE_SECONDS)
    try:
        async with limit:
            yield limit
    except TimeoutError as error:
        raise StorageUnavailable(
            f"storage does not answer within {STORAGE_SECONDS} s", why="no_answer"
        ) from error


@dataclass(frozen=True, slots=True)
class Connection:
    """Storage as batches see it."""

    queue: Queue
    blobs: BlobStore
    close: Callable[[], Awaitable[None]]


async def connect(settings: ApiSettings) -> Connection:
    """Connect to Azure Storage. Raises `Problem` where none is configured, or `StorageError`."""
    if not settings.has_storage:
        raise Problem(
            "storage_unavailable",
            "no storage is configured here; single records are scored all the same",
            headers=retry_after(STORAGE_RETRY_AFTER),
        )
    # In a thread: these imports take longer than all others, and requests go on meanwhile.
    module = await asyncio.to_thread(_azure)
    storage = module.connect(settings)
    connection = Connection(storage.queue(settings.queue), storage.blobs(), storage.close)
    if settings.connection_string is not None:
        # For Azurite; on Azure the templates make them.
        try:
            await connection.queue.create()
            for container in (UPLOADS, SCORES):
                await connection.blobs.create_container(container)
        except BaseException:  # also when the caller's time is over
            await connection.close()
            raise
    return connection


def _azure() -> Any:
    from shared.storage import azure as storage

    return storage


class Store:
    """Holds the one connection of this process, once there is one."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None

    async def __call__(self) -> Connection:
        """The connection, made when first asked for. Raises `Problem` or `StorageError`."""
        async with self._lock:
            if self._connection is None:
                self._connection = await self._connect()
            return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
