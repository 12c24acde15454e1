"""Azure Storage behind the ports: queue and blobs, and what their errors mean to us.

Only this module and those it is made of import the Azure SDKs. `Storage` holds the clients of one
process; the SDKs' exceptions become ours in one place. What each message and each block needs goes
by `shared.storage.rest`, which costs half of the SDKs' way; all else by the SDKs.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from urllib.request import getproxies
from xml.etree import ElementTree

from shared.storage import certificates  # first, so that they are loaded while the SDKs are
from shared.storage import late_requests as late_requests

# isort: split
from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.settings import settings as sdk_settings
from azure.storage.blob import BlobBlock, ContentSettings
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from shared.batches.message import bare_etag
from shared.batches.ports import NO_METADATA, BlobFacts, Message, Staged
from shared.records.errors import (
    AlreadyExists,
    BlocksGone,
    InputChanged,
    InputUnreadable,
    NotFound,
    OwnershipLost,
    ScorerError,
    StartupError,
    StorageError,
    StorageUnavailable,
)
from shared.settings import StorageSettings
from shared.storage.rest import RestService

CHUNK = 2 << 20
"""Bytes of one ranged download."""
READ_TRIES = 3
"""Of a download that breaks off; one that does not begin is tried again by the retry policy."""
RENEWAL_LIMIT = 5
"""Seconds that a renewal may take; it is tried again by the lease, not by the SDK."""

# Or each call asks the environment four times whether to trace, with nothing here that could.
sdk_settings.tracing_enabled = False

# The SDKs' own waits of 15, 18 and 24 s between tries are longer than a short lease.
_RETRIES = {
    "initial_backoff": 1,
    "increment_base": 2,
    "retry_total": 2,
    "random_jitter_range": 1,
}
_CONNECTIONS: dict[str, Any] = {
    "connection_timeout": 5,
    "read_timeout": 30,
    "connection_data_block_size": 256 << 10,  # read at once of what is downloaded
    # Or aiohttp asks a thread for the environment's proxies before each request.
    "use_env_settings": bool(getproxies()),
}

P = ParamSpec("P")
T = TypeVar("T")


_STANDS = frozenset(
    {
        "BlobAlreadyExists",
        "ContainerAlreadyExists",
        "QueueAlreadyExists",
        # What a role or a policy that forbids overwriting answers.
        "UnauthorizedBlobOverwrite",
        "BlobImmutableDueToPolicy",
    }
)
_PASSING = frozenset(
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
    """What an SDK error means to us."""
    if not isinstance(error, HttpResponseError) or error.status_code is None:
        # Of a credential that gets no token: storage itself was not asked.
        unknown = isinstance(error, ClientAuthenticationError)
        return StorageUnavailable(
            f"storage does not answer: {type(error).__name__}",
            why="not_signed_in" if unknown else "no_answer",
        )
    status = error.status_code
    code = getattr(error, "error_code", None) or error.reason or ""
    code = str(getattr(code, "value", code))
    if code in _STANDS:
        return AlreadyExists(code)
    if status in (401, 403):
        unknown = status == 401 or code == "AuthenticationFailed"
        return StorageUnavailable(
            f"storage does not permit this: {status} {code}",
            why="not_signed_in" if unknown else "not_permitted",
        )
    if status in (408, 429) or status >= 500 or code in _PASSING:
        return StorageUnavailable(f"storage is busy or down: {status} {code}", _wait_asked(error))
    if status < 400:
        return StorageUnavailable("storage's answer cannot be read")
    if code in ("InvalidBlockList", "InvalidBlobOrBlock"):
        return BlocksGone(code)
    if status == 404:
        return NotFound(code)
    if status == 412:
        return InputChanged("input changed: the blob was replaced while it was read")
    return InputUnreadable(f"storage refuses this blob: {status} {code}")


def _wait_asked(error: HttpResponseError) -> float | None:
    """Seconds of the header Retry-After; its other form, a date, is not used by storage."""
    after = str(getattr(error.response, "headers", {}).get("Retry-After", ""))
    return float(after) if after.isdecimal() else None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except AzureError as error:
        raise _meaning(error) from error
    except (ElementTree.ParseError, LookupError, zlib.error) as error:  # as in `_received`
        raise StorageUnavailable("storage's answer cannot be read") from error
    except (TimeoutError, OSError) as error:
        raise StorageUnavailable(
            f"storage does not answer: {type(error).__name__}", why="no_answer"
        ) from error


def _answers(call: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Turn the SDKs' exceptions into ours."""

    @wraps(call)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with _translated():
            return await call(*args, **kwargs)

    return wrapped


class Storage:
    """Clients of one storage account, opened and closed together."""

    def __init__(
        self,
        blobs: BlobServiceClient,
        queues: QueueServiceClient,
        transport: AioHttpTransport,
        credential: Any,
    ) -> None:
        self._blobs = blobs
        self._queues = queues
        self._credential = credential
        self._rest_blobs = RestService(blobs, transport, _RETRIES)
        self._rest_queues = RestService(queues, transport, _RETRIES)

    def queue(self, name: str) -> StorageQueue:
        return StorageQueue(self._queues.get_queue_client(name), self._rest_queues)

    def blobs(self) -> StorageBlobs:
        return StorageBlobs(self._blobs, self._rest_blobs)

    @_answers
    async def clock(self) -> datetime:
        """What time it is for storage, by the date of an answer."""
        dates: list[str] = []

        def keep(response: Any) -> None:
            dates.append(response.http_response.headers["Date"])

        await self._blobs.get_account_information(raw_response_hook=keep)
        return parsedate_to_datetime(dates[0])

    async def close(self) -> None:
        await self._blobs.close()
        await self._queues.close()
        if self._credential is not None:
            await self._credential.close()


@asynccontextmanager
async def open_storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    """Storage by connection string, or by account name with an identity. No call is made yet."""
    storage = connect(settings)
    try:
        yield storage
    finally:
        await storage.close()


def connect(settings: StorageSettings) -> Storage:
    """As `open_storage`, for callers that close it themselves."""
    certificates.wait()
    transport = AioHttpTransport(**_CONNECTIONS)
    options: dict[str, Any] = {**_RETRIES, "transport": transport}
    if settings.connection_string is not None:
        text = settings.connection_string.get_secret_value()
        try:
            return Storage(
                BlobServiceClient.from_connection_string(text, **options),
                QueueServiceClient.from_connection_string(text, **options),
                transport,
                None,
            )
        except ValueError as error:
            raise StartupError("AZURE_STORAGE_CONNECTION_STRING is not one") from error
    if settings.endpoints is None:
        raise StartupError(
            "no storage: set SCORER_STORAGE_ACCOUNT, or AZURE_STORAGE_CONNECTION_STRING for Azurite"
        )
    from azure.identity.aio import DefaultAzureCredential

    credential = DefaultAzureCredential(managed_identity_client_id=settings.client_id)
    blob_endpoint, queue_endpoint = settings.endpoints
    return Storage(
        BlobServiceClient(blob_endpoint, credential, **options),
        QueueServiceClient(queue_endpoint, credential, **options),
        transport,
        credential,
    )


def _message(received: Any) -> Message:
    now = datetime.now(UTC)
    return Message(
        id=received.id,
        receipt=received.pop_receipt or "",
        body=received.content,
        dequeue_count=received.dequeue_count or 0,
        inserted=received.inserted_on or now,
        expires=received.expires_on or datetime.max.replace(tzinfo=UTC),
    )


def _received(content: bytes) -> list[Message]:
    """The messages of the service's answer to a receive."""
    try:
        messages = ElementTree.fromstring(content)  # noqa: S314  # of storage
        if messages.tag != "QueueMessagesList":
            raise ValueError(messages.tag)
        return [
            Message(
                id=text("MessageId", ""),
                receipt=text("PopReceipt", ""),
                body=text("MessageText", ""),
                dequeue_count=int(text("DequeueCount", "")),
                inserted=parsedate_to_datetime(text("InsertionTime", "")),
                expires=parsedate_to_datetime(text("ExpirationTime", "")),
            )
            for text in (message.findtext for message in messages)
        ]
    except (ElementTree.ParseError, ValueError, LookupError, OverflowError) as error:
        # Of something between us and storage, or with characters that XML cannot hold.
        raise StorageUnavailable("storage's answer cannot be read") from error


class StorageQueue:
    """`Queue` over Azure Storage."""

    def __init__(self, client: QueueClient, rest: RestService) -> None:
        self._client = client
        self._rest = rest
        self._messages = f"{client.queue_name}/messages"

    @_answers
    async def send(self, body: str) -> str:
        sent = await self._client.send_message(body, time_to_live=-1)
        return str(sent.id)

    @_answers
    async def receive(self, limit: int, visibility: float) -> list[Message]:
        answer = await self._rest.send(
            200,
            "GET",
            self._messages,
            {"numofmessages": limit, "visibilitytimeout": math.ceil(visibility)},
        )
        return _received(answer.content)

    async def renew(self, message: Message, visibility: float) -> Message:
        with _translated(), _lost_when_gone():
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
        with _translated(), _lost_when_gone():
            await self._rest.send(
                204, "DELETE", f"{self._messages}/{message.id}", {"popreceipt": message.receipt}
            )

    @_answers
    async def peek(self, limit: int) -> list[Message]:
        return [_message(m) for m in await self._client.peek_messages(max_messages=limit)]

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


class _NothingThere(Exception):
    """A range was asked for behind a blob's end."""


def _size_of(content_range: str, piece: bytes, offset: int) -> int:
    """Size of the blob of which this is the piece that was asked for."""
    stated, _, size = content_range.partition("/")
    if not piece and size == str(offset):  # Azurite's way to say that the blob ends there
        return offset
    if not piece or stated != f"bytes {offset}-{offset + len(piece) - 1}" or not size.isdecimal():
        raise StorageUnavailable("storage's answer cannot be read")
    return int(size)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


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
    """A create-only write that finds something: 409, or by some paths 412."""
    try:
        yield
    except HttpResponseError as error:
        if error.status_code == 412:
            raise AlreadyExists("ConditionNotMet") from error
        raise


class StorageBlobs:
    """`Blobs` over Azure Storage."""

    def __init__(self, client: BlobServiceClient, rest: RestService) -> None:
        self._client = client
        self._rest = rest

    @_answers
    async def facts(self, container: str, name: str) -> BlobFacts:
        properties = await self._client.get_blob_client(container, name).get_blob_properties()
        # A blob that only has staged blocks answers 404.
        return BlobFacts(
            bare_etag(properties.etag), int(properties.size), dict(properties.metadata or {})
        )

    @_answers
    async def read(self, container: str, name: str) -> bytes:
        stream = await self._client.get_blob_client(container, name).download_blob()
        return bytes(await stream.readall())

    async def chunks(
        self, container: str, name: str, etag: str, offset: int = 0
    ) -> AsyncIterator[bytes]:
        path, size = f"{container}/{name}", None
        while size is None or offset < size:
            try:
                with _translated():
                    piece, whole = await self._piece(path, etag, offset)
            except _NothingThere:
                if size is None:
                    return
                raise StorageUnavailable("storage's answers contradict each other") from None
            if size not in (None, whole):
                raise StorageUnavailable("storage's answers contradict each other")
            size = whole
            if piece:
                yield piece
            offset += len(piece)

    async def _piece(self, path: str, etag: str, offset: int) -> tuple[bytes, int]:
        """A piece of a blob as it is stored, never unpacked, and the size of the whole.

        Raises `_NothingThere` where the blob has ended before.
        """
        headers = {"x-ms-range": f"bytes={offset}-{offset + CHUNK - 1}", "If-Match": f'"{etag}"'}
        tries = READ_TRIES
        while True:
            try:
                answer = await self._rest.send(206, "GET", path, headers=headers, stream=True)
            except HttpResponseError as error:
                if error.status_code == 416:
                    raise _NothingThere from error
                raise
            async with answer:
                try:
                    piece = b"".join([part async for part in answer.iter_raw()])
                except (IncompleteReadError, ServiceRequestError, ServiceResponseError):
                    tries -= 1  # it broke off
                    if not tries:
                        raise
                else:
                    return piece, _size_of(answer.headers.get("Content-Range", ""), piece, offset)
            await asyncio.sleep(1)

    @_answers
    async def create(
        self,
        container: str,
        name: str,
        content: bytes,
        content_type: str,
        metadata: Mapping[str, str] = NO_METADATA,
    ) -> BlobFacts:
        headers = {
            "x-ms-blob-type": "BlockBlob",
            "x-ms-blob-content-type": content_type,
            "Content-Type": "application/octet-stream",
            "If-None-Match": "*",
            **{f"x-ms-meta-{key}": value for key, value in metadata.items()},
        }
        with _exists_where_refused():
            answer = await self._rest.send(
                201, "PUT", f"{container}/{name}", headers=headers, content=content
            )
        return BlobFacts(bare_etag(answer.headers["ETag"]), len(content), dict(metadata))

    @_answers
    async def stage(self, container: str, name: str, block: str, content: bytes) -> None:
        # Storage refuses what arrived otherwise. Given no MD5, the emulator answers with a CRC of
        # its own, computed in JavaScript: a third of all that it did for a large file.
        md5 = hashlib.md5(content, usedforsecurity=False).digest()
        await self._rest.send(
            201,
            "PUT",
            f"{container}/{name}",
            {"comp": "block", "blockid": _base64(block.encode())},
            {"Content-Type": "application/octet-stream", "Content-MD5": _base64(md5)},
            content,
        )

    async def staged(self, container: str, name: str) -> list[Staged]:
        try:
            with _translated():
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
    async def newest(self, container: str, suffix: str, limit: int) -> list[str]:
        """Names that end in `suffix`, the blobs written last first. Reads the whole listing."""
        listed = self._client.get_container_client(container).list_blobs()
        found = [
            (blob.last_modified or datetime.now(UTC), blob.name)
            async for blob in listed
            if blob.name.endswith(suffix)
        ]
        return [name for _, name in sorted(found, reverse=True)[:limit]]

    async def create_container(self, container: str) -> None:
        try:
            with _translated():
                await self._client.create_container(container)
        except AlreadyExists:
            pass


__all__ = ["Storage", "StorageBlobs", "StorageError", "StorageQueue", "connect", "open_storage"]
