"""Submitting a file never leads to the result of another sender's input."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from shared.batches.results import same_identity
from shared.batches.status import read_status
from shared.batches.submission import Submission, Submitted, submit
from shared.records.artifact import Artifact
from shared.records.errors import BatchIdUsed
from shared.testing import run_virtually
from tests.world import World

FILE = b"age,sex\n63,1\n"
OTHERS = json.dumps({"schema": "heart-scorer/1", "batch_id": "july", "csv": "age,sex\n50,0\n"})


async def content(body: bytes = FILE) -> AsyncIterator[bytes]:
    yield body


async def sent(world: World, body: bytes = FILE) -> Submitted:
    submission = Submission("csv", gzip=False)
    return await submit(world.blobs, world.queue, "july", submission, content(body))


def test_an_id_that_a_queue_sender_used_is_refused(artifact: Artifact) -> None:
    async def scene() -> None:
        world = World(artifact)
        await world.queue.send(OTHERS)
        await world.emptied()

        with pytest.raises(BatchIdUsed):
            await sent(world)
        assert world.queue.bodies() == []

    run_virtually(scene())


def test_a_claim_without_an_outcome_is_refused_too(artifact: Artifact) -> None:
    async def scene() -> None:
        world = World(artifact)
        claim = {"identity": {"sha256": "0" * 64}, "message_id": "m"}
        world.blobs.put("scores", "july/claim", json.dumps(claim).encode())

        with pytest.raises(BatchIdUsed):
            await sent(world)

    run_virtually(scene())


def test_a_request_that_was_cleaned_up_does_not_open_the_id_to_another_file(
    artifact: Artifact,
) -> None:
    async def scene() -> None:
        world = World(artifact)
        await sent(world)
        await world.emptied()
        for name in world.blobs.names("uploads"):
            await world.blobs.remove("uploads", name)

        with pytest.raises(BatchIdUsed):
            await sent(world, b"age,sex\n50,0\n")

    run_virtually(scene())


def test_who_was_overtaken_by_another_sender_is_told_so(artifact: Artifact) -> None:
    async def scene() -> None:
        world = World(artifact)
        await world.queue.send(OTHERS)  # received first
        submitted = await sent(world)
        await world.emptied(world.worker(slots=1))

        found = await read_status(world.blobs, "july")
        assert found is not None
        assert found.status == "failed"
        assert found.summary is not None
        assert "already used" in found.summary["reason"]
        identity = submitted.identity
        assert not same_identity(world.summary("july")["identity"], identity)

    run_virtually(scene())


def test_the_same_file_again_is_the_same_batch(artifact: Artifact) -> None:
    async def scene() -> None:
        world = World(artifact)
        await sent(world)
        await world.emptied()

        await sent(world)

        assert world.queue.bodies() == []
        found = await read_status(world.blobs, "july")
        assert found is not None
        assert found.status == "succeeded"

    run_virtually(scene())
