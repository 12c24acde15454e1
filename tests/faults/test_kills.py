"""SIGKILL at each step of a delivery, and at random: the next worker goes on."""

from __future__ import annotations

import asyncio
import os
import random
import uuid

import pytest

from shared.artifact import Artifact
from shared.tables import Limits
from tests.faults.invariants import Sent, check_emptied, sent
from tests.faults.lab import SETTLED_WITHIN, VISIBILITY, Lab
from tests.faults.patients import patients

pytestmark = pytest.mark.azurite

STEPS = {
    "after receive": "after:receive:1",
    "after the look at the input": "after:facts:4",  # three belong to the check at start
    "after parsing": "before:stage:1",
    "between blocks": "after:stage:2",
    "after the last block": "before:commit:1",
    "after the commit": "after:commit:1",
    "before the delete": "after:summary:1",
    "after the delete": "after:delete:1",
}


@pytest.mark.parametrize("place", STEPS.values(), ids=STEPS.keys())
async def test_a_worker_killed_at_any_step_loses_and_doubles_nothing(
    lab: Lab, batch: Sent, place: str
) -> None:
    await lab.submit(batch)
    with lab.worker(f"{place}:kill") as first:
        assert await first.ended() == -9

    with lab.worker():
        await lab.kept(batch)


@pytest.mark.parametrize(
    ("place", "copies"),
    [("after:summary:1", 1), ("after:poison:1", 2), ("before:poison:1", 1)],
    ids=["before the poison copy", "after the poison copy", "at the poison copy"],
)
async def test_a_worker_killed_around_a_poison_copy_leaves_at_least_one(
    lab: Lab, place: str, copies: int
) -> None:
    batch_id = f"bad-{uuid.uuid4().hex[:8]}"
    await lab.submit(Sent(batch_id, b"no table", ".csv", b""))
    with lab.worker(f"{place}:kill") as first:
        assert await first.ended() == -9

    with lab.worker():
        summary = await lab.watch.wait(batch_id, 30)
        await check_emptied(lab.queue, SETTLED_WITHIN)

    assert summary["status"] == "failed"
    assert [entry["batch_id"] for entry in await lab.poisoned()] == [batch_id] * copies


async def test_random_kills_over_a_large_file(lab: Lab, artifact: Artifact) -> None:
    seed = int(os.environ.get("FAULT_SEED") or random.randrange(1 << 32))
    kills = int(os.environ.get("FAULT_KILLS", "20"))
    print(f"FAULT_SEED={seed} FAULT_KILLS={kills}")
    rng = random.Random(seed)
    limits = Limits(rows=2000)
    content = patients(200_000, seed=6)
    batch = await asyncio.to_thread(sent, artifact, f"b-{seed}", content, limits=limits)
    await lab.submit(batch)
    settings = {"SCORER_BLOCK_ROWS": "2000"}

    struck, staged = 0, 0
    while struck < kills and await lab.watch.look(batch.batch_id) is None:
        with lab.worker(**settings) as worker:
            await worker.logged("worker_started")
            begun = await lab.staged_data(batch)
            # Each gets some blocks done; the message is hidden for a while first.
            target = begun + rng.randrange(1, max(2, 160 // kills))
            while (staged := await lab.staged_data(batch)) < target:
                if await lab.watch.look(batch.batch_id) is not None:
                    break
                await asyncio.sleep(rng.random() * 0.05)
            worker.kill()
            await worker.ended()
            struck += 1
        assert staged >= begun, "progress was lost"

    with lab.worker(**settings):
        await lab.kept(batch, seconds=60 + VISIBILITY)
