"""Translation of storage's refusals, against a server that answers as the test says."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import ClientSession, web
from azure.core.exceptions import ServiceRequestError
from yarl import URL

from cli.local import connection_string
from shared.batches.ports import Message
from shared.records.errors import (
    AlreadyExists,
    BlocksGone,
    NotFound,
    OwnershipLost,
    ScorerError,
    StorageRefused,
    StorageUnavailable,
)
from shared.storage.azure import Storage, _meaning
from tests.conftest import open_azurite

NOW = datetime.now(UTC)
MESSAGE = Message("id", "receipt", "", 1, NOW, NOW, NOW)


class Refusals:
    """Answers every request the same way, and counts them."""

    def __init__(
        self,
        status: int,
        code: str,
        headers: dict[str, str],
        delay: float,
        body: str,
        genuine: bool,
    ) -> None:
        self.requests = 0
        self._status = status
        ours = {"x-ms-error-code": code, "x-ms-request-id": "1"} if genuine else {}
        self._headers = ours | headers
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
    *,
    genuine: bool = True,
) -> AsyncIterator[tuple[Storage, Refusals]]:
    """Storage that answers every request so; if not `genuine`, something else in its place."""
    refusals = Refusals(status, code, headers or {}, delay, body, genuine)
    async with serving(refusals.answer) as storage:
        yield storage, refusals


@asynccontextmanager
async def serving(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[Storage]:
    """Storage that answers everything so."""
    async with (
        listening(answer) as port,
        open_azurite(connection_string(port, port)) as storage,
    ):
        yield storage


@asynccontextmanager
async def listening(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[int]:
    """The port of a server that answers everything so."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AuthorizationPermissionMismatch", StorageUnavailable),
        (401, "InvalidAuthenticationInfo", StorageUnavailable),
        (404, "BlobNotFound", NotFound),
        (404, "ContainerNotFound", NotFound),
        (409, "BlobUsesCustomerSpecifiedEncryption", StorageRefused),
        (409, "ContainerBeingDeleted", StorageUnavailable),
        (412, "ConditionNotMet", StorageRefused),
    ],
)
async def test_errors_when_the_properties_of_a_blob_are_read(
    status: int, code: str, expected: type[ScorerError]
) -> None:
    async with refusing(status, code) as (storage, _):
        with pytest.raises(expected) as raised:
            await storage.blobs().facts("incoming", "a.csv")

    assert code in str(raised.value)


@pytest.mark.parametrize(
    ("status", "code", "why", "not_authorised"),
    [
        (401, "InvalidAuthenticationInfo", "not_signed_in", True),
        (403, "AuthenticationFailed", "not_signed_in", True),
        (403, "AuthorizationPermissionMismatch", "not_permitted", True),
        (409, "ContainerBeingDeleted", "busy", False),
    ],
)
async def test_storages_error_code_says_what_must_be_fixed(
    status: int, code: str, why: str, not_authorised: bool
) -> None:
    async with refusing(status, code) as (storage, _):
        with pytest.raises(StorageUnavailable) as raised:
            await storage.blobs().facts("incoming", "a.csv")

    assert (raised.value.why, raised.value.not_authorised) == (why, not_authorised)


def test_storage_that_does_not_answer_is_distinguished_from_storage_that_refuses() -> None:
    silent = _meaning(ServiceRequestError("cannot connect"))

    assert isinstance(silent, StorageUnavailable)
    assert (silent.why, silent.not_authorised) == ("no_answer", False)


async def test_an_archived_blob_is_unreadable() -> None:
    async with refusing(409, "BlobArchived") as (storage, _):
        with pytest.raises(StorageRefused, match="BlobArchived"):
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
async def test_every_way_to_say_that_a_blob_exists(status: int, code: str) -> None:
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
        "<html>",
        "<QueueMessagesList><QueueMessage><MessageId>1</MessageId></QueueMessage></QueueMessagesList>",
        "<QueueMessagesList><QueueMessage><MessageText>\x01</MessageText></QueueMessage></QueueMessagesList>",
    ],
    ids=["nothing", "cut", "fields missing", "characters"],
)
async def test_an_answer_that_is_no_answer_may_pass(body: str) -> None:
    async with refusing(200, body=body) as (storage, _):
        with pytest.raises(StorageUnavailable, match="cannot be read"):
            await storage.queue("q").receive(1, 60)


@pytest.mark.slow
async def test_a_busy_storage_is_asked_again_twice() -> None:
    async with refusing(503, "ServerBusy") as (storage, refusals):
        with pytest.raises(StorageUnavailable, match="503 ServerBusy"):
            await storage.blobs().create("scores", "s", b"x", "text/csv")

    assert refusals.requests == 3


PAGE = "<html><p>Sign in</p></html>"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 302, 307, 400, 404, 409, 412, 416])
async def test_an_answer_that_is_not_storages_is_no_success_and_blames_nobody(status: int) -> None:
    headers = {"Location": "http://127.0.0.1:1/sign-in"} if status in (302, 307) else {}
    body = "" if status == 204 else PAGE
    async with refusing(status, headers=headers, body=body, genuine=False) as (storage, _):
        queue, blobs = storage.queue("q"), storage.blobs()
        for call in (
            queue.receive(1, 60),
            queue.renew(MESSAGE, 60),
            queue.delete(MESSAGE),
            queue.send("body"),
            blobs.facts("incoming", "a.csv"),
            blobs.read("incoming", "a.csv"),
            anext(aiter(blobs.chunks("incoming", "a.csv", "1"))),
            blobs.create("scores", "s", b"x", "text/csv"),
            blobs.stage("scores", "s", "0" * 64, b"x"),
            blobs.staged("scores", "s"),
            blobs.commit("scores", "s", ["0" * 64], "text/csv", {}),
        ):
            with pytest.raises(StorageUnavailable, match="not storage's"):
                await call


async def test_another_success_than_the_one_of_the_call_is_no_success() -> None:
    async with refusing(200, body=PAGE) as (storage, _):
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
        if wrong == "after the end":
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
            "x-ms-request-id": "1",
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


@pytest.mark.slow
async def test_a_download_that_does_not_begin_is_tried_as_often_as_any_call() -> None:
    download = Download(*["no answer"] * 100)

    assert isinstance(await downloaded(download), StorageUnavailable)
    # Three tries, and aiohttp makes two of each where the connection had been used before.
    assert download.requests <= 6


@pytest.mark.parametrize(
    "wrong",
    [
        ("", "after the end"),
        ("", "another size"),
        ("another range",),
        ("", "another range"),
        ("empty",),
        ("", "empty"),
    ],
)
async def test_a_download_is_whole_or_may_pass(wrong: tuple[str, ...]) -> None:
    found = await downloaded(Download(*wrong))

    assert found == CONTENT or isinstance(found, StorageUnavailable)


@pytest.mark.azurite
async def test_a_block_that_arrives_damaged_is_refused_and_that_may_pass(
    connection_string: str,
) -> None:
    azurite = re.search(r"BlobEndpoint=http://([^/]+)", connection_string)
    assert azurite is not None
    async with open_azurite(connection_string) as healthy:
        await healthy.blobs().create_container("scores")

    async def damage(request: web.Request) -> web.Response:
        headers = {key: value for key, value in request.headers.items() if key != "Host"}
        url = URL(f"http://{azurite[1]}{request.raw_path}", encoded=True)
        body = (await request.read()).replace(b"sent", b"lost")
        async with (
            ClientSession() as session,
            session.request(request.method, url, headers=headers, data=body) as answer,
        ):
            code = answer.headers["x-ms-error-code"]
            return web.Response(status=answer.status, headers={"x-ms-error-code": code})

    async with open_azurite(connection_string) as azure:
        await azure.blobs().create_container("scores")
    async with serving(damage) as storage:
        with pytest.raises(StorageUnavailable, match="Md5Mismatch"):
            await storage.blobs().stage(
                "scores", f"{uuid.uuid4()}/scores.csv", "0" * 64, b"what was sent"
            )


async def test_the_age_of_a_message_is_by_the_services_clock() -> None:
    """This machine's clock may be wrong by any amount."""
    received = "Thu, 01 Jan 2026 10:00:30 GMT"
    body = (
        "<QueueMessagesList><QueueMessage><MessageId>1</MessageId>"
        "<InsertionTime>Thu, 01 Jan 2026 10:00:00 GMT</InsertionTime>"
        "<ExpirationTime>Thu, 08 Jan 2026 10:00:00 GMT</ExpirationTime>"
        "<PopReceipt>r</PopReceipt><TimeNextVisible>Thu, 01 Jan 2026 10:01:30 GMT</TimeNextVisible>"
        "<DequeueCount>1</DequeueCount><MessageText>text</MessageText>"
        "</QueueMessage></QueueMessagesList>"
    )

    headers = {"Date": received, "Content-Type": "application/xml"}
    async with refusing(200, headers=headers, body=body) as (storage, _):
        [message] = await storage.queue("q").receive(1, 60)

    assert (message.received - message.inserted).total_seconds() == 30
    assert message.body == "text"


async def test_calls_go_through_the_proxy_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        hosts.append(request.host)
        return web.Response(status=404, headers={"x-ms-error-code": "BlobNotFound"})

    async with listening(answer) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        elsewhere = connection_string(1, 1).replace("127.0.0.1", "storage.invalid")
        async with open_azurite(elsewhere) as storage:
            with pytest.raises(NotFound):
                await storage.blobs().facts("uploads", "a.csv")

    assert hosts == ["storage.invalid"]
