"""A cancelled batch: one create-only summary decides, and its message is deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.batches.cancellation import cancel
from shared.batches.submission import Submission, submit
from shared.records.artifact import Artifact
from shared.records.errors import NotFound
from shared.testing import run_virtually
from tests.builders import a_csv, a_patient
from tests.world import World

CSV = a_csv(a_patient(), a_patient(age=60))


async def submitted(world: World, batch_id: str = "ward") -> None:
    async def content() -> AsyncIterator[bytes]:
        yield CSV

    await submit(world.blobs, world.queue, batch_id, Submission("csv", False), content())


def test_the_message_of_a_cancelled_batch_ends_and_nothing_else_is_written(
    artifact: Artifact,
) -> None:
    world = World(artifact)

    async def work() -> None:
        await submitted(world)

        summary = await cancel(world.blobs, "ward")
        await world.emptied()

        assert summary["status"] == "cancelled"
        assert world.summary("ward") == summary
        assert world.poisoned() == []
        assert [n for n in world.blobs.names("scores") if n.endswith("summary.json")] == [
            "ward/summary.json"
        ]

    run_virtually(work())


def test_a_finished_batch_keeps_its_outcome(artifact: Artifact) -> None:
    world = World(artifact)

    async def work() -> None:
        await submitted(world)
        await world.emptied()

        assert (await cancel(world.blobs, "ward"))["status"] == "succeeded"
        assert world.summary("ward")["status"] == "succeeded"

    run_virtually(work())


async def test_a_batch_that_nobody_submitted_here_is_not_cancelled(artifact: Artifact) -> None:
    world = World(artifact)

    with pytest.raises(NotFound):
        await cancel(world.blobs, "ward")
