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
from shared.batches.ports import Message
from shared.records.errors import (
    AlreadyExists,
    BlocksGone,
    InputChanged,
    InputUnreadable,
    NotFound,
    OwnershipLost,
    ScorerError,
    StorageUnavailable,
)
from shared.storage.azure import Storage, _meaning
from shared.storage.rest import RestService
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
        with pytest.raises(StorageUnavailable) as raised:
            await storage.queue("q").renew(MESSAGE, 60)
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
        '<?xml version="1.0" encoding="unheard-of"?><QueueMessagesList/>',
    ],
    ids=["nothing", "page", "cut", "fields missing", "characters", "encoding"],
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


async def test_a_page_that_something_else_answers_is_no_success() -> None:
    async with refusing(200, body="<html><p>Sign in</p></html>") as (storage, _):
        for call in (
            storage.blobs().create("scores", "s", b"x", "text/csv"),
            storage.blobs().stage("scores", "s", "0" * 64, b"x"),
            storage.queue("q").delete(MESSAGE),
            anext(aiter(storage.blobs().chunks("incoming", "a.csv", "1"))),
        ):
            with pytest.raises(StorageUnavailable, match="cannot be read"):
                await call


CONTENT = bytes(range(256)) * (20 << 10)
"""Of a blob that takes three downloads."""


class Download:
    """A blob whose downloads go wrong as a test says, request by request."""

    def __init__(self, *wrong: str) -> None:
        self.wrong = wrong
        self.requests = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        wrong = self.wrong[self.requests] if self.requests < len(self.wrong) else ""
        self.requests += 1
        assert request.transport is not None
        first, last = map(int, request.headers["x-ms-range"].removeprefix("bytes=").split("-"))
        piece, size = CONTENT[first : last + 1], len(CONTENT)
        if wrong == "behind the end":
            return web.Response(status=416, headers={"x-ms-error-code": "InvalidRange"})
        if wrong == "no answer":
            request.transport.abort()
        elif wrong == "another range":
            first += 1
        elif wrong == "another size":
            size += 1
        elif wrong == "empty":
            piece = b""
        headers = {
            "Content-Range": f"bytes {first}-{first + len(piece) - 1}/{size}",
            "Content-Length": str(len(piece)),
        }
        response = web.StreamResponse(status=206, headers=headers)
        await response.prepare(request)
        await response.write(piece[:1000])
        if wrong == "broken off":
            request.transport.abort()
        else:
            await response.write(piece[1000:])
        return response


async def downloaded(download: Download) -> bytes | ScorerError:
    async with serving(download.answer) as storage:
        try:
            pieces = [piece async for piece in storage.blobs().chunks("incoming", "a.csv", "1")]
        except ScorerError as error:
            return error
        return b"".join(pieces)


async def test_a_download_that_breaks_off_is_begun_again_where_it_was() -> None:
    download = Download("", "broken off", "broken off")

    assert await downloaded(download) == CONTENT
    assert download.requests == 5


async def test_a_download_that_breaks_off_three_times_may_pass() -> None:
    download = Download("", *["broken off"] * 3)

    assert isinstance(await downloaded(download), StorageUnavailable)
    assert download.requests == 4


async def test_a_download_that_does_not_begin_is_tried_as_often_as_any_call() -> None:
    download = Download(*["no answer"] * 100)

    assert isinstance(await downloaded(download), StorageUnavailable)
    # Three tries, and aiohttp makes two of each where the connection had been used before.
    assert download.requests <= 6


@pytest.mark.parametrize(
    "wrong",
    [
        ("", "behind the end"),
        ("", "another size"),
        ("another range",),
        ("", "another range"),
        ("empty",),
        ("", "empty"),
    ],
)
async def test_a_download_is_whole_or_may_pass(wrong: tuple[str, ...]) -> None:
    download = Download(*wrong)

    assert isinstance(await downloaded(download), StorageUnavailable)
    assert download.requests == len(wrong)


async def test_an_identity_signs_by_its_token() -> None:
    sent = await _sent_by_an_identity("https://account.blob.core.windows.net")

    assert sent.headers["Authorization"] == "Bearer of https://storage.azure.com/.default"
    assert sent.url == "https://account.blob.core.windows.net/scores/a%20b/s.csv?comp=block"


async def test_a_token_does_not_leave_in_the_clear() -> None:
    with pytest.raises(ServiceRequestError, match="non-TLS"):
        await _sent_by_an_identity("http://account.blob.core.windows.net")


async def test_a_refused_identity_asks_for_a_token_of_the_accounts_tenant() -> None:
    challenge = (
        "Bearer authorization_uri=https://login.microsoftonline.com/tenant/oauth2/authorize "
        "resource_id=https://storage.azure.com"
    )
    sent = await _sent_by_an_identity(
        "https://account.blob.core.windows.net", refused={"WWW-Authenticate": challenge}
    )

    assert sent.headers["Authorization"].endswith(" in tenant")


class _Identity:
    async def get_token(self, *scopes: str, tenant_id: str = "", **_: object) -> AccessToken:
        tenant = f" in {tenant_id}" if tenant_id else ""
        return AccessToken(f"of {scopes[0]}{tenant}", int(time.time()) + 3600)


class _Client:
    """What a service's client of the SDKs says of itself."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.api_version = "2025-01-05"
        self.credential = _Identity()


class _Transport:
    """Keeps what it is given last; refuses the first if it is to, all else is done."""

    def __init__(self, refused: dict[str, str] | None) -> None:
        self._refused = refused
        self.sent: HttpRequest | None = None

    async def send(self, request: Any, **_: object) -> Any:
        self.sent = request
        headers, self._refused = self._refused, None
        return SimpleNamespace(status_code=201 if headers is None else 401, headers=headers or {})


async def _sent_by_an_identity(url: str, refused: dict[str, str] | None = None) -> HttpRequest:
    transport = _Transport(refused)
    service = RestService(cast(Any, _Client(url)), cast(Any, transport), {"retry_total": 0})

    await service.send(201, "PUT", "scores/a b/s.csv", {"comp": "block"}, content=b"x")

    assert transport.sent is not None
    return transport.sent


@pytest.mark.azurite
async def test_a_block_that_arrives_otherwise_is_refused_and_that_may_pass(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = storage.blobs()
    await blobs.create_container("scores")
    of_another = hashlib.md5(b"what was sent", usedforsecurity=False)
    monkeypatch.setattr("shared.storage.azure.hashlib.md5", lambda *_, **__: of_another)

    with pytest.raises(StorageUnavailable, match="Md5Mismatch"):
        await blobs.stage("scores", f"{uuid.uuid4()}/scores.csv", "0" * 64, b"what arrived")
