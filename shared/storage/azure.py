"""Azure Storage as `Queue` and `Blobs`, over the Azure SDKs.

`Storage` holds the clients of one process. Each call's answer is checked to be the service's own,
and the SDKs' exceptions become ours in one place.
"""

from __future__ import annotations

import asyncio
import math
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from urllib.request import getproxies
from xml.etree import ElementTree

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError
from azure.storage.blob import BlobBlock, ContentSettings
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from shared import metrics
from shared.batches.message import bare_etag
from shared.batches.ports import NO_METADATA, BlobFacts, Listed, Message, Staged
from shared.records.errors import (
    AlreadyExists,
    BlocksGone,
    InputChanged,
    NotFound,
    OwnershipLost,
    ScorerError,
    StartupError,
    StorageRefused,
    StorageUnavailable,
)
from shared.settings import StorageSettings

CHUNK = 2 << 20
"""Bytes of one ranged download."""
RENEWAL_LIMIT = 5
"""Seconds that a renewal may take; the lease tries again, not the SDK."""

RETRIES = 2
"""Attempts of the SDKs after the first one."""

_OPTIONS: dict[str, Any] = {
    # The SDKs' own waits of 15, 18 and 24 s between attempts are longer than a short lease.
    "initial_backoff": 1,
    "increment_base": 2,
    "random_jitter_range": 1,
    "connection_timeout": 5,
    "read_timeout": 30,
    "connection_data_block_size": 256 << 10,  # read at once of what is downloaded
    "max_single_get_size": CHUNK,
}

P = ParamSpec("P")
T = TypeVar("T")


UNREADABLE = "storage's answer cannot be read"


_EXISTS = frozenset(
    {
        "BlobAlreadyExists",
        "ContainerAlreadyExists",
        "QueueAlreadyExists",
        # The answers of a role or a policy that forbids overwriting.
        "UnauthorizedBlobOverwrite",
        "BlobImmutableDueToPolicy",
    }
)
_TRANSIENT = frozenset(
    {
        "AccountBeingCreated",
        "ContainerBeingDeleted",
        "ContainerDisabled",
        "QueueBeingDeleted",
        # A block that was damaged on its way.
        "Md5Mismatch",
    }
)


def _meaning(error: AzureError) -> ScorerError:
    """Our error for one of the SDKs'."""
    if not isinstance(error, HttpResponseError) or error.status_code is None:
        return StorageUnavailable(
            f"storage does not answer: {type(error).__name__}", why="no_answer"
        )
    status = error.status_code
    code = getattr(error, "error_code", None) or error.reason or ""
    code = str(getattr(code, "value", code))
    if code in _EXISTS:
        return AlreadyExists(code)
    if status in (401, 403):
        unknown = status == 401 or code == "AuthenticationFailed"
        return StorageUnavailable(
            f"storage does not permit this: {status} {code}",
            why="not_signed_in" if unknown else "not_permitted",
        )
    if status in (408, 429) or status >= 500 or code in _TRANSIENT:
        return StorageUnavailable(
            f"storage is busy or down: {status} {code}", _requested_wait(error)
        )
    if status < 400:
        return StorageUnavailable(UNREADABLE)
    if code in ("InvalidBlockList", "InvalidBlobOrBlock"):
        return BlocksGone(code)
    if status == 404:
        return NotFound(code)
    return StorageRefused(f"storage refuses this: {status} {code}")


def _requested_wait(error: HttpResponseError) -> float | None:
    """Seconds of the header Retry-After; its other form, a date, is not used by storage."""
    after = str(getattr(error.response, "headers", {}).get("Retry-After", ""))
    return float(after) if after.isdecimal() else None


class _Answer:
    """Checks that answers are the service's own, and keeps the headers of the last one.

    Something between us and the service (a proxy, a sign-in page) may answer in its place. Such a
    success did nothing, and such a refusal says nothing about our blobs or messages.
    """

    def __init__(self) -> None:
        self.headers: Mapping[str, str] = {}

    def __call__(self, response: Any) -> None:
        """The SDKs' `raw_response_hook`. Raises `StorageUnavailable`."""
        answer = response.http_response
        status: int = answer.status_code
        self.headers = answer.headers
        if status < 300:
            genuine = "x-ms-request-id" in self.headers
        elif status in (401, 403, 408, 429) or status >= 500:
            genuine = True  # these may pass, whoever answers them
        else:
            genuine = status >= 400 and "x-ms-error-code" in self.headers
        if not genuine:
            raise StorageUnavailable(
                f"the answer {status} is not storage's: does a proxy or a sign-in page answer?"
            )

    @property
    def date(self) -> datetime:
        """The service's time. Raises `StorageUnavailable`."""
        try:
            return parsedate_to_datetime(self.headers["Date"]).astimezone(UTC)
        except (LookupError, ValueError) as error:
            raise StorageUnavailable(UNREADABLE) from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except AzureError as error:
        raise _meaning(error) from error
    except (ElementTree.ParseError, LookupError, zlib.error) as error:
        raise StorageUnavailable(UNREADABLE) from error
    except (TimeoutError, OSError) as error:
        raise StorageUnavailable(
            f"storage does not answer: {type(error).__name__}", why="no_answer"
        ) from error


def _answers(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turn the SDKs' exceptions into ours, and measure the call."""

    @wraps(call)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with _measured(call.__name__), _translated():
            return await call(*args, **kwargs)

    return wrapped


@contextmanager
def _measured(operation: str) -> Iterator[None]:
    """Count a call to storage and its time, by how it ended: `ok`, or the name of our error."""
    started = time.monotonic()
    outcome = "ok"
    try:
        yield
    except StorageUnavailable as error:
        outcome = error.why
        raise
    except ScorerError as error:
        outcome = type(error).__name__
        raise
    finally:
        metrics.STORAGE.labels(operation, outcome).observe(time.monotonic() - started)


class Storage:
    """Clients of one storage account, opened and closed together."""

    def __init__(
        self, blobs: BlobServiceClient, queues: QueueServiceClient, credential: Any
    ) -> None:
        self._blobs = blobs
        self._queues = queues
        self._credential = credential

    def queue(self, name: str) -> StorageQueue:
        return StorageQueue(self._queues.get_queue_client(name))

    def blobs(self) -> StorageBlobs:
        return StorageBlobs(self._blobs)

    @_answers
    async def clock(self) -> datetime:
        """The service's time, by the date of an answer, whether or not it permits the call."""
        answer = _Answer()
        with suppress(HttpResponseError):  # its date is as good
            await self._blobs.get_service_properties(raw_response_hook=answer)
        return answer.date

    async def close(self) -> None:
        await self._blobs.close()
        await self._queues.close()
        if self._credential is not None:
            await self._credential.close()


@asynccontextmanager
async def open_storage(
    settings: StorageSettings, *, retries: int = RETRIES
) -> AsyncIterator[Storage]:
    """Storage by connection string, or by account name with an identity. Makes no call yet."""
    storage = connect(settings, retries=retries)
    try:
        yield storage
    finally:
        await storage.close()


def connect(settings: StorageSettings, *, retries: int = RETRIES) -> Storage:
    """Like `open_storage`, for callers that close it themselves."""
    options = _OPTIONS | {
        "retry_total": retries,
        "raw_response_hook": _Answer(),
        # Otherwise aiohttp looks for a proxy and a .netrc in two threads for each request.
        "use_env_settings": bool(getproxies()),
    }
    if settings.connection_string is not None:
        text = settings.connection_string.get_secret_value()
        try:
            return Storage(
                BlobServiceClient.from_connection_string(text, **options),
                QueueServiceClient.from_connection_string(text, **options),
                None,
            )
        except ValueError as error:
            raise StartupError("AZURE_STORAGE_CONNECTION_STRING is not one") from error
    if settings.endpoints is None:
        raise StartupError(
            "no storage: set SCORER_STORAGE_ACCOUNT, or AZURE_STORAGE_CONNECTION_STRING for Azurite"
        )
    # Imported here: with a connection string, as on Azurite, no identity is needed.
    from shared.storage.identity import identity

    credential = identity(settings.client_id)
    blob_endpoint, queue_endpoint = settings.endpoints
    return Storage(
        BlobServiceClient(blob_endpoint, credential, **options),
        QueueServiceClient(queue_endpoint, credential, **options),
        credential,
    )


def _message(entry: Any, received: datetime) -> Message:
    """One entry of the service's list of messages. Raises `StorageUnavailable`."""
    if None in (entry.id, entry.content, entry.inserted_on, entry.expires_on):
        raise StorageUnavailable(UNREADABLE)
    return Message(
        id=entry.id,
        receipt=entry.pop_receipt or "",
        body=entry.content,
        dequeue_count=entry.dequeue_count or 0,
        inserted=entry.inserted_on,
        expires=entry.expires_on,
        received=received,
    )


class StorageQueue:
    """`Queue` over Azure Storage."""

    def __init__(self, client: QueueClient) -> None:
        self._client = client

    @_answers
    async def send(self, body: str) -> str:
        sent = await self._client.send_message(body, time_to_live=-1)
        return str(sent.id)

    @_answers
    async def receive(self, limit: int, visibility: float) -> list[Message]:
        answer = _Answer()
        pages = self._client.receive_messages(
            messages_per_page=limit,
            visibility_timeout=math.ceil(visibility),
            raw_response_hook=answer,
        ).by_page()
        # One page is one call; the iterator over messages would go on asking.
        page = await anext(pages, None)
        return [] if page is None else [_message(entry, answer.date) async for entry in page]

    async def renew(self, message: Message, visibility: float) -> Message:
        with _measured("renew"), _translated(), _lost_when_gone():
            async with asyncio.timeout(RENEWAL_LIMIT):
                # Without content the service keeps the body.
                updated = await self._client.update_message(
                    message.id,
                    message.receipt,
                    visibility_timeout=math.ceil(visibility),
                    retry_total=0,
                )
        return replace(message, receipt=str(updated.pop_receipt))

    async def delete(self, message: Message) -> None:
        with _measured("delete"), _translated(), _lost_when_gone():
            await self._client.delete_message(message.id, message.receipt)

    @_answers
    async def peek(self, limit: int) -> list[Message]:
        answer = _Answer()
        entries = await self._client.peek_messages(max_messages=limit, raw_response_hook=answer)
        return [_message(entry, answer.date) for entry in entries]

    @_answers
    async def length(self) -> int:
        properties = await self._client.get_queue_properties()
        return int(properties.approximate_message_count or 0)

    async def create(self) -> None:
        try:
            with _translated():
                await self._client.create_queue()
        except AlreadyExists:
            pass


@contextmanager
def _lost_when_gone() -> Iterator[None]:
    """A stale receipt: 404 live, 400 PopReceiptMismatch on Azurite and by some documents."""
    try:
        yield
    except HttpResponseError as error:
        if error.status_code in (400, 404):
            raise OwnershipLost("the message belongs to another worker, or is gone") from error
        raise


@contextmanager
def _exists_where_refused() -> Iterator[None]:
    """A create-only write that finds a blob: 409, on some paths 412."""
    try:
        yield
    except HttpResponseError as error:
        if error.status_code == 412:
            raise AlreadyExists("ConditionNotMet") from error
        raise


class StorageBlobs:
    """`Blobs` over Azure Storage."""

    def __init__(self, client: BlobServiceClient) -> None:
        self._client = client

    @_answers
    async def facts(self, container: str, name: str) -> BlobFacts:
        properties = await self._client.get_blob_client(container, name).get_blob_properties()
        # A blob that only has staged blocks answers 404.
        return BlobFacts(
            bare_etag(properties.etag),
            int(properties.size),
            dict(properties.metadata or {}),
            properties.creation_time,
        )

    @_answers
    async def read(self, container: str, name: str) -> bytes:
        client = self._client.get_blob_client(container, name)
        stream = await client.download_blob(decompress=False)
        return await stream.readall()

    async def chunks(
        self, container: str, name: str, etag: str, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        size: int | None = None
        while (size is None or offset < size) and (end is None or offset < end):
            length = CHUNK if end is None else min(CHUNK, end - offset)
            with _measured("download"), _translated():
                found = await self._piece(container, name, etag, offset, length)
            if found is None and size is None:
                return
            if found is None or size not in (None, found[1]):
                raise StorageUnavailable("storage's answers contradict each other")
            piece, size = found
            if piece:
                yield piece
            offset += len(piece)

    async def _piece(
        self, container: str, name: str, etag: str, offset: int, length: int
    ) -> tuple[bytes, int] | None:
        """A piece of a blob as it is stored, never unpacked, and the size of the whole blob.

        None: the blob ends before `offset`.
        """
        answer = _Answer()
        try:
            stream = await self._client.get_blob_client(container, name).download_blob(
                offset,
                length,
                etag=etag,
                match_condition=MatchConditions.IfNotModified,
                decompress=False,
                raw_response_hook=answer,
            )
            piece = await stream.readall()
        except HttpResponseError as error:
            if error.status_code == 416:
                return None
            if error.status_code == 412:
                raise InputChanged(
                    "input changed: the blob was replaced while it was read"
                ) from error
            raise
        except (ValueError, TypeError) as error:  # the SDK reads headers that are not there
            raise StorageUnavailable(UNREADABLE) from error
        # The SDK does not compare the answer with the requested range.
        return piece, _size_of(answer.headers.get("Content-Range", ""), piece, offset)

    @_answers
    async def create(
        self,
        container: str,
        name: str,
        content: bytes,
        content_type: str,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> BlobFacts:
        with _exists_where_refused():
            answer = await self._client.get_blob_client(container, name).upload_blob(
                content,
                content_settings=ContentSettings(content_type=content_type),
                metadata=dict(metadata),
                overwrite=False,
            )
        return BlobFacts(bare_etag(str(answer["etag"])), len(content), dict(metadata))

    @_answers
    async def stage(self, container: str, name: str, block: str, content: bytes) -> None:
        # With an MD5 storage refuses a block that was damaged on its way.
        await self._client.get_blob_client(container, name).stage_block(
            block, content, len(content), validate_content=True
        )

    async def staged(self, container: str, name: str) -> list[Staged]:
        try:
            with _measured("staged"), _translated():
                client = self._client.get_blob_client(container, name)
                _, uncommitted = await client.get_block_list("uncommitted")
        except NotFound:
            return []
        return [Staged(block.id, int(block.size or 0)) for block in uncommitted]

    @_answers
    async def commit(
        self,
        container: str,
        name: str,
        blocks: Sequence[str],
        content_type: str,
        metadata: Mapping[str, str],
    ) -> BlobFacts:
        with _exists_where_refused():
            answer = await self._client.get_blob_client(container, name).commit_block_list(
                [BlobBlock(block_id=block) for block in blocks],
                content_settings=ContentSettings(content_type=content_type),
                metadata=dict(metadata),
                match_condition=MatchConditions.IfMissing,
            )
        return BlobFacts(bare_etag(str(answer["etag"])), 0, dict(metadata))

    @_answers
    async def listing(self, container: str, prefix: str) -> list[Listed]:
        pages = self._client.get_container_client(container).list_blobs(
            prefix, include=["uncommittedblobs"]
        )
        return [Listed(blob.name, blob.last_modified or datetime.now(UTC)) async for blob in pages]

    @_answers
    async def overwrite(self, container: str, name: str, content: bytes, content_type: str) -> None:
        client = self._client.get_blob_client(container, name)
        settings = ContentSettings(content_type=content_type)
        await client.upload_blob(content, overwrite=True, content_settings=settings)

    @_answers
    async def remove(self, container: str, name: str) -> None:
        await self._client.get_blob_client(container, name).delete_blob()

    async def discard(self, container: str, name: str, etag: str) -> None:
        client = self._client.get_blob_client(container, name)
        try:
            with _translated():
                await client.delete_blob(etag=etag, match_condition=MatchConditions.IfNotModified)
        except NotFound:
            pass
        except StorageRefused as error:
            if "ConditionNotMet" not in error.reason:
                raise

    async def create_container(self, container: str) -> None:
        try:
            with _translated():
                await self._client.create_container(container)
        except AlreadyExists:
            pass


def _size_of(content_range: str, piece: bytes, offset: int) -> int:
    """Size of the blob of which this is the piece at `offset`. Raises `StorageUnavailable`."""
    stated, _, size = content_range.partition("/")
    if not piece and size == str(offset):  # how Azurite says that the blob ends there
        return offset
    if not piece or stated != f"bytes {offset}-{offset + len(piece) - 1}" or not size.isdecimal():
        raise StorageUnavailable(UNREADABLE)
    return int(size)
