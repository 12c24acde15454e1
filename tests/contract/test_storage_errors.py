"""What storage's refusals mean to us, over a server that answers whatever the test says."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.core.rest import HttpRequest

from cli.local import connection_string
from shared.errors import (
    AlreadyExists,
    BlocksGone,
    InputChanged,
    InputUnreadable,
    NotFound,
    OwnershipLost,
    ScorerError,
    StorageUnavailable,
)
from shared.ports import Message
from shared.rest import RestService
from shared.storage import Storage, _meaning
from tests.conftest import open_azurite

MESSAGE = Message("id", "receipt", "", 1, datetime.now(UTC), datetime.now(UTC))


class Refusals:
    """Answers every request the same way, and counts them."""

    def __init__(
        self, status: int, code: str, headers: dict[str, str], delay: float, body: str
    ) -> None:
        self.requests = 0
        self._status = status
        self._headers = {"x-ms-error-code": code} | headers
        self._delay = delay
        self._body = body

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        await request.read()
        await asyncio.sleep(self._delay)
        return web.Response(status=self._status, headers=self._headers, text=self._body)


@asynccontextmanager
async def refusing(
    status: int,
    code: str = "",
    headers: dict[str, str] | None = None,
    delay: float = 0,
    body: str = "",
) -> AsyncIterator[tuple[Storage, Refusals]]:
    refusals = Refusals(status, code, headers or {}, delay, body)
    async with serving(refusals.answer) as storage:
        yield storage, refusals


@asynccontextmanager
async def serving(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[Storage]:
    """Storage that answers everything so."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        async with open_azurite(connection_string(port, port)) as storage:
            yield storage
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AuthorizationPermissionMismatch", StorageUnavailable),
        (401, "InvalidAuthenticationInfo", StorageUnavailable),
        (404, "BlobNotFound", NotFound),
        (404, "ContainerNotFound", NotFound),
        (409, "BlobUsesCustomerSpecifiedEncryption", InputUnreadable),
        (409, "ContainerBeingDeleted", StorageUnavailable),
        (412, "ConditionNotMet", InputChanged),
    ],
)
async def test_refusals_of_a_look_at_a_blob(
    status: int, code: str, expected: type[ScorerError]
) -> None:
    async with refusing(status, code) as (storage, _):
        with pytest.raises(expected) as raised:
            await storage.blobs().facts("incoming", "a.csv")

    assert code in str(raised.value) or expected is InputChanged


@pytest.mark.parametrize(
    ("status", "code", "why", "not_authorised"),
    [
        (401, "InvalidAuthenticationInfo", "not_signed_in", True),
        (403, "AuthenticationFailed", "not_signed_in", True),
        (403, "AuthorizationPermissionMismatch", "not_permitted", True),
        (409, "ContainerBeingDeleted", "busy", False),
    ],
)
async def test_what_is_to_be_mended_is_told_by_the_code(
    status: int, code: str, why: str, not_authorised: bool
) -> None:
    async with refusing(status, code) as (storage, _):
        with pytest.raises(StorageUnavailable) as raised:
            await storage.blobs().facts("incoming", "a.csv")

    assert (raised.value.why, raised.value.not_authorised) == (why, not_authorised)


def test_a_credential_without_a_token_is_not_storage_that_does_not_answer() -> None:
    signed_out = _meaning(ClientAuthenticationError("no credential in the chain gave a token"))
    silent = _meaning(ServiceRequestError("cannot connect"))

    assert isinstance(signed_out, StorageUnavailable)
    assert isinstance(silent, StorageUnavailable)
    assert (signed_out.why, signed_out.not_authorised) == ("not_signed_in", True)
    assert (silent.why, silent.not_authorised) == ("no_answer", False)


async def test_an_archived_blob_is_unreadable() -> None:
    async with refusing(409, "BlobArchived") as (storage, _):
        with pytest.raises(InputUnreadable, match="BlobArchived"):
            [chunk async for chunk in storage.blobs().chunks("incoming", "a.csv", "1")]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "BlobAlreadyExists"),
        (412, "ConditionNotMet"),
        (403, "UnauthorizedBlobOverwrite"),
        (409, "BlobImmutableDueToPolicy"),
    ],
)
async def test_every_way_to_say_that_a_blob_stands(status: int, code: str) -> None:
    async with refusing(status, code) as (storage, _):
        with pytest.raises(AlreadyExists):
            await storage.blobs().create("scores", "s", b"x", "text/csv")
        with pytest.raises(AlreadyExists):
            await storage.blobs().commit("scores", "s", ["0" * 64], "text/csv", {})


@pytest.mark.parametrize("code", ["InvalidBlockList", "InvalidBlobOrBlock"])
async def test_blocks_that_are_gone(code: str) -> None:
    async with refusing(400, code) as (storage, _):
        with pytest.raises(BlocksGone):
            await storage.blobs().commit("scores", "s", ["0" * 64], "text/csv", {})


@pytest.mark.parametrize(
    ("status", "code"), [(404, "MessageNotFound"), (400, "PopReceiptMismatch")]
)
async def test_a_stale_receipt_means_that_the_message_is_not_ours(status: int, code: str) -> None:
    async with refusing(status, code) as (storage, _):
        with pytest.raises(OwnershipLost):
            await storage.queue("q").renew(MESSAGE, 60)
        with pytest.raises(OwnershipLost):
            await storage.queue("q").delete(MESSAGE)


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_renewal_is_tried_once_and_by_the_lease_again(status: int) -> None:
    async with refusing(status, "ServerBusy") as (storage, refusals):
        with pytest.raises(StorageUnavailable):
            await storage.queue("q").renew(MESSAGE, 60)

    assert refusals.requests == 1


async def test_a_renewal_that_hangs_ends_within_its_limit() -> None:
    async with refusing(200, delay=7) as (storage, refusals):
        begun = time.monotonic()
        with pytest.raises(StorageUnavailable) as raised:
            await storage.queue("q").renew(MESSAGE, 60)
        assert time.monotonic() - begun < 6.5
        assert raised.value.why == "no_answer"
        assert refusals.requests == 1


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html><body><p>Sign in</p></body></html>",
        "<html>",
        "<QueueMessagesList><QueueMessage><MessageId>1</MessageId></QueueMessage></QueueMessagesList>",
        "<QueueMessagesList><QueueMessage><MessageText>\x01</MessageText></QueueMessage></QueueMessagesList>",
    ],
    ids=["nothing", "page", "cut", "fields missing", "characters"],
)
async def test_an_answer_that_is_no_answer_may_pass(body: str) -> None:
    async with refusing(200, body=body) as (storage, _):
        with pytest.raises(StorageUnavailable, match="cannot be read"):
            await storage.queue("q").receive(1, 60)


async def test_a_busy_storage_is_asked_again_twice() -> None:
    async with refusing(503, "ServerBusy") as (storage, refusals):
        with pytest.raises(StorageUnavailable, match="503 ServerBusy"):
            await storage.blobs().create("scores", "s", b"x", "text/csv")

    assert refusals.requests == 3


class _Download:
    """A blob of three bytes, of which the first `broken` answers break off after one."""

    def __init__(self, broken: int) -> None:
        self.requests = 0
        self._broken = broken

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        headers = {"Content-Range": "bytes 0-2/3", "Content-Length": "3"}
        response = web.StreamResponse(status=206, headers=headers)
        await response.prepare(request)
        await response.write(b"o")
        if self.requests <= self._broken:
            assert request.transport is not None
            request.transport.abort()
        else:
            await response.write(b"ne")
        return response


async def _download(broken: int) -> tuple[bytes | ScorerError, int]:
    """What is read of such a blob, and how many requests that takes."""
    download = _Download(broken)
    async with serving(download.answer) as storage:
        try:
            pieces = [piece async for piece in storage.blobs().chunks("incoming", "a.csv", "1")]
        except ScorerError as error:
            return error, download.requests
        return b"".join(pieces), download.requests


async def test_a_download_that_breaks_off_is_begun_again() -> None:
    assert await _download(broken=2) == (b"one", 3)


async def test_a_download_that_breaks_off_three_times_may_pass() -> None:
    found, requests = await _download(broken=3)

    assert isinstance(found, StorageUnavailable)
    assert requests == 3


async def test_an_answer_without_the_blobs_size_may_pass() -> None:
    async with refusing(200, body="<html>") as (storage, _):
        with pytest.raises(StorageUnavailable, match="cannot be read"):
            [chunk async for chunk in storage.blobs().chunks("incoming", "a.csv", "1")]


async def test_an_identity_signs_by_its_token() -> None:
    sent = await _sent_by_an_identity("https://account.blob.core.windows.net")

    assert sent.headers["Authorization"] == "Bearer of https://storage.azure.com/.default"
    assert sent.url == "https://account.blob.core.windows.net/scores/a%20b/s.csv?comp=block"


async def test_a_token_does_not_leave_in_the_clear() -> None:
    with pytest.raises(ServiceRequestError, match="non-TLS"):
        await _sent_by_an_identity("http://account.blob.core.windows.net")


class _Identity:
    async def get_token(self, *scopes: str, **_: object) -> AccessToken:
        return AccessToken(f"of {scopes[0]}", int(time.time()) + 3600)


class _Client:
    """What a service's client of the SDKs says of itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.api_version = "2025-01-05"
        self.credential = _Identity()


class _Transport:
    """Keeps what it is given, and says that it was done."""

    def __init__(self) -> None:
        self.sent: list[HttpRequest] = []

    async def send(self, request: Any, **_: object) -> Any:
        self.sent.append(request)
        return SimpleNamespace(status_code=201, headers={})


async def _sent_by_an_identity(url: str) -> HttpRequest:
    transport = _Transport()
    service = RestService(cast(Any, _Client(url)), cast(Any, transport), {"retry_total": 0})

    await service.send("PUT", "scores/a b/s.csv", {"comp": "block"}, content=b"x")

    return transport.sent[0]


@pytest.mark.parametrize(
    ("header", "expected"), [("0", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)]
)
async def test_storage_may_say_how_long_to_wait(header: str, expected: float | None) -> None:
    async with refusing(503, "ServerBusy", {"Retry-After": header}) as (storage, _):
        with pytest.raises(StorageUnavailable) as raised:
            await storage.queue("q").renew(MESSAGE, 60)

    assert raised.value.retry_after == expected


@pytest.mark.azurite
async def test_a_block_that_arrives_otherwise_is_refused_and_that_may_pass(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = storage.blobs()
    await blobs.create_container("scores")
    of_another = hashlib.md5(b"what was sent", usedforsecurity=False)
    monkeypatch.setattr("shared.storage.hashlib.md5", lambda *_, **__: of_another)

    with pytest.raises(StorageUnavailable, match="Md5Mismatch"):
        await blobs.stage("scores", f"{uuid.uuid4()}/scores.csv", "0" * 64, b"what arrived")
