"""Behaviour of blobs that we rely on: the same tests over the fake and over Azurite.

Over Azurite by the account's key and by a shared access signature.
"""

from __future__ import annotations

import asyncio
import gzip
import uuid
from collections.abc import AsyncIterator

import pytest
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobClient

from shared.batches.ports import Blobs, BlobStore
from shared.records.errors import AlreadyExists, BlocksGone, InputChanged, NotFound
from shared.testing import FakeBlobs
from tests.conftest import open_azurite
from tests.signature import with_signature


@pytest.fixture(
    params=[
        "fake",
        pytest.param("azurite", marks=pytest.mark.azurite),
        pytest.param("signature", marks=pytest.mark.azurite),
    ]
)
async def blobs(request: pytest.FixtureRequest) -> AsyncIterator[Blobs]:
    if request.param == "fake":
        yield FakeBlobs()
        return
    text = request.getfixturevalue("connection_string")
    async with open_azurite(
        with_signature(text) if request.param == "signature" else text
    ) as storage:
        await storage.blobs().create_container("scores")
        yield storage.blobs()


@pytest.fixture
def name() -> str:
    return f"{uuid.uuid4()}/scores.csv"


def block(number: int) -> str:
    return f"{number:064d}"


async def content(blobs: Blobs, name: str, offset: int = 0) -> bytes:
    etag = (await blobs.facts("scores", name)).etag
    return b"".join([chunk async for chunk in blobs.chunks("scores", name, etag, offset)])


async def test_staged_blocks_appear_only_by_a_commit(blobs: Blobs, name: str) -> None:
    await blobs.stage("scores", name, block(0), b"one ")
    await blobs.stage("scores", name, block(1), b"two")

    staged = {entry.name: entry.size for entry in await blobs.staged("scores", name)}
    with pytest.raises(NotFound):
        await blobs.facts("scores", name)
    committed = await blobs.commit(
        "scores", name, [block(0), block(1)], "text/csv", {"identity": '{"a": 1}'}
    )

    assert staged == {block(0): 4, block(1): 3}
    facts = await blobs.facts("scores", name)
    assert facts.etag == committed.etag
    assert facts.metadata == {"identity": '{"a": 1}'}
    assert await content(blobs, name) == b"one two"


async def test_the_second_commit_changes_nothing(blobs: Blobs, name: str) -> None:
    await blobs.stage("scores", name, block(0), b"first")
    await blobs.commit("scores", name, [block(0)], "text/csv", {})
    await blobs.stage("scores", name, block(1), b"second")

    with pytest.raises(AlreadyExists):
        await blobs.commit("scores", name, [block(1)], "text/csv", {})

    assert await content(blobs, name) == b"first"


async def test_a_commit_of_blocks_that_are_not_there_says_so(blobs: Blobs, name: str) -> None:
    await blobs.stage("scores", name, block(0), b"first")

    with pytest.raises(BlocksGone):
        await blobs.commit("scores", name, [block(0), block(7)], "text/csv", {})


async def test_two_commits_at_once_give_one_result(blobs: Blobs, name: str) -> None:
    await blobs.stage("scores", name, block(0), b"first")

    outcomes = await asyncio.gather(
        *(blobs.commit("scores", name, [block(0)], "text/csv", {}) for _ in range(4)),
        return_exceptions=True,
    )

    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert await content(blobs, name) == b"first"


async def test_blocks_of_a_blob_that_never_was_are_none(blobs: Blobs, name: str) -> None:
    assert await blobs.staged("scores", name) == []


async def test_a_created_blob_is_not_overwritten(blobs: Blobs, name: str) -> None:
    await blobs.create("scores", name, b"first", "application/json")

    with pytest.raises(AlreadyExists):
        await blobs.create("scores", name, b"second", "application/json")

    assert await blobs.read("scores", name) == b"first"


async def test_a_created_blob_keeps_its_metadata(blobs: Blobs, name: str) -> None:
    commit = {"commit": '{"rows": [1, 2], "reason": "a, b = c"}'}

    created = await blobs.create("scores", name, b"content", "text/csv", commit)

    assert await blobs.facts("scores", name) == created
    assert (created.size, created.metadata) == (7, commit)


@pytest.mark.parametrize(
    "odd",
    [
        "two words.csv",
        "é ü 漢.csv",
        "a#b?c%d.csv",
        "100%25.csv",
        "(1)+[2]~'3'.csv",
        "a&b=c;.csv",
        "a\tb.csv",
    ],
)
async def test_names_may_hold_what_an_address_may_not(blobs: Blobs, name: str, odd: str) -> None:
    created, staged = f"{name}/created {odd}", f"{name}/staged {odd}"

    await blobs.create("scores", created, b"created", "text/csv")
    await blobs.stage("scores", staged, block(0), b"staged")
    await blobs.commit("scores", staged, [block(0)], "text/csv", {})

    assert await blobs.read("scores", created) == b"created"
    assert await blobs.read("scores", staged) == b"staged"


async def test_a_missing_blob_is_not_found(blobs: Blobs, name: str) -> None:
    with pytest.raises(NotFound):
        await blobs.read("scores", name)
    with pytest.raises(NotFound):
        await blobs.facts("scores", name)
    with pytest.raises(NotFound):
        await blobs.facts("no-such-container", name)


async def test_a_download_goes_on_from_an_offset_and_in_pieces(blobs: Blobs, name: str) -> None:
    body = bytes(range(256)) * (5 << 12)
    await blobs.stage("scores", name, block(0), body)
    await blobs.commit("scores", name, [block(0)], "text/csv", {})

    assert await content(blobs, name, 3_000_001) == body[3_000_001:]


async def test_a_download_of_another_version_is_refused(blobs: Blobs, name: str) -> None:
    await blobs.create("scores", name, b"first", "text/csv")

    with pytest.raises(InputChanged):
        [chunk async for chunk in blobs.chunks("scores", name, "0x8DEADBEEF")]


async def test_an_empty_blob_has_no_pieces(blobs: Blobs, name: str) -> None:
    await blobs.create("scores", name, b"", "text/csv")

    assert await content(blobs, name) == b""


async def test_creating_a_container_twice_is_no_error(blobs: Blobs) -> None:
    await blobs.create_container("scores")


async def test_a_commit_of_no_blocks_is_an_empty_blob_and_drops_what_was_staged(
    blobs: Blobs, name: str
) -> None:
    await blobs.stage("scores", name, block(0), b"marker")

    await blobs.commit("scores", name, [], "text/csv", {"rows": "0"})

    assert (await blobs.facts("scores", name)).size == 0
    assert await blobs.staged("scores", name) == []


async def test_blocks_that_are_staged_after_a_commit_are_not_part_of_the_blob(
    blobs: Blobs, name: str
) -> None:
    await blobs.stage("scores", name, block(0), b"first")
    await blobs.commit("scores", name, [block(0)], "text/csv", {})

    await blobs.stage("scores", name, block(1), b"late")

    assert await content(blobs, name) == b"first"


async def test_a_container_that_is_not_there_is_named(blobs: Blobs, name: str) -> None:
    with pytest.raises(NotFound, match="ContainerNotFound"):
        await blobs.facts("no-such-container", name)
    with pytest.raises(NotFound, match="ContainerNotFound"):
        await blobs.stage("no-such-container", name, block(0), b"x")


async def test_nothing_is_read_after_a_blobs_end(blobs: Blobs, name: str) -> None:
    await blobs.create("scores", name, b"first", "text/csv")

    assert await content(blobs, name, 5) == b""


@pytest.mark.azurite
async def test_a_blob_is_read_as_it_is_stored(connection_string: str, name: str) -> None:
    packed = gzip.compress(b"age,sex\n60,male\n" * 400_000, 0)  # more than one piece
    async with open_azurite(connection_string) as storage:
        await storage.blobs().create_container("scores")
        async with BlobClient.from_connection_string(connection_string, "scores", name) as client:
            await client.upload_blob(
                packed, content_settings=ContentSettings(content_encoding="gzip")
            )

        assert await content(storage.blobs(), name) == packed


async def test_a_listing_has_committed_and_staged_blobs(blobs: BlobStore, name: str) -> None:
    staged = name.replace("scores.csv", "scores.jsonl")
    await blobs.create("scores", name, b"one", "text/csv")
    await blobs.stage("scores", staged, block(0), b"two")

    listed = await blobs.listing("scores", name.partition("/")[0])

    assert [blob.name for blob in listed] == [name, staged]


async def test_only_the_version_that_was_named_is_discarded(blobs: Blobs, name: str) -> None:
    created = await blobs.create("scores", name, b"content", "text/csv")

    await blobs.discard("scores", name, "0x8DEADBEEF")
    assert await blobs.read("scores", name) == b"content"

    await blobs.discard("scores", name, created.etag)
    await blobs.discard("scores", name, created.etag)
    with pytest.raises(NotFound):
        await blobs.read("scores", name)
