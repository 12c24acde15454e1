"""SIGKILL at each step of a delivery, and at random: the next worker goes on."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest

from shared.files.base import Limits
from shared.records.artifact import Artifact
from tests.faults.conftest import SHARED
from tests.faults.invariants import Failed, Sent, sent
from tests.faults.lab import Lab, Worker
from tests.faults.patients import parquet, patients, table, workbook

pytestmark = pytest.mark.azurite

STEPS = {
    "after receive": "after:receive:1",
    "after the look at the input": "after:facts:4",  # three belong to the check at start
    "after parsing": "before:stage:1",
    "between a block and its counts": "after:stage_counts:2",
    "between blocks": "after:stage:2",
    "after the last block": "before:stage_profile:1",
    "after the profile was staged": "before:commit:1",
    "after the commit": "after:commit:1",
    "after the profile": "after:commit_profile:1",
    "before the delete": "after:summary:1",
    "after the delete": "after:delete:1",
}


@pytest.mark.parametrize("place", STEPS.values(), ids=STEPS.keys())
async def test_a_worker_killed_at_any_step_loses_and_doubles_nothing(
    lab: Lab, batch: Sent, place: str
) -> None:
    with lab.worker(f"{place}:kill") as first, lab.worker() as second:
        await second.asleep()
        await lab.submit(batch)
        assert await first.ended() == -9

        second.wake()
        await lab.kept(batch)


@pytest.mark.whole_file
@pytest.mark.parametrize("suffix", [".parquet", ".xlsx"])
async def test_a_worker_killed_between_blocks_of_a_packed_file_loses_and_doubles_nothing(
    lab: Lab, artifact: Artifact, suffix: str
) -> None:
    rows = table(2000, seed=7)
    content = parquet(rows) if suffix == ".parquet" else workbook(rows)
    batch_id = f"b-{uuid.uuid4().hex[:12]}"
    batch = await asyncio.to_thread(
        sent, artifact, batch_id, content, suffix, limits=Limits(rows=400)
    )
    with lab.worker("after:stage:2:kill") as first, lab.worker() as second:
        await second.asleep()
        await lab.submit(batch)
        assert await first.ended() == -9

        second.wake()
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
    with lab.worker(f"{place}:kill") as first, lab.worker() as second:
        await second.asleep()
        await lab.submit(Sent(batch_id, b"no table", ".csv", b""))
        assert await first.ended() == -9

        second.wake()
        await lab.kept(Failed(batch_id, "age"))

    assert [entry["batch_id"] for entry in await lab.poisoned()] == [batch_id] * copies


@pytest.mark.timeout(1800)
async def test_random_kills_over_a_large_file(lab: Lab, artifact: Artifact, threshold: int) -> None:
    shared = threshold == SHARED
    seed = int(os.environ.get("FAULT_SEED") or random.randrange(1 << 32))
    kills = int(os.environ.get("FAULT_KILLS", "20"))
    print(f"FAULT_SEED={seed} FAULT_KILLS={kills}")
    rng = random.Random(seed)
    blocks = max(200, 4 * kills)
    rows = 200_000 // blocks
    content = patients(blocks * rows, seed=6)
    limits = Limits(rows=rows)
    batch = await asyncio.to_thread(sent, artifact, f"b-{seed}", content, limits=limits)
    await lab.submit(batch)

    logs: list[Path] = []
    with ExitStack() as stack:
        # While a dead worker hides a message, the next one starts.
        alive: list[Worker] = []
        for number in range(kills + 1):
            # Five deaths in a row without progress would fail the batch, and rightly so.
            fault = random_place(rng, blocks // kills, progress=number % 2 == 0)
            alive.append(stack.enter_context(lab.worker(fault, SCORER_BLOCK_ROWS=str(rows))))
            logs.append(alive[-1].log)
            if len(alive) == (3 if shared else 2):
                dead = await first_death(alive)
                assert dead.child.returncode == -9, dead.log.read_text()[-3000:]
                alive.remove(dead)
        last = stack.enter_context(lab.worker(SCORER_BLOCK_ROWS=str(rows)))
        logs.append(last.log)
        await lab.kept(batch)

    staged = [line for log in logs for line in log.read_text().splitlines() if "staging e" in line]
    print(f"{len(staged)} blocks staged, {len(set(staged))} needed, {kills} kills")
    assert len(set(staged)) == blocks
    if not shared:  # a worker that takes over a shared file sends its missing parts again
        assert len(staged) - blocks <= kills + 1  # the work repeated is at most one block per kill


async def first_death(workers: list[Worker]) -> Worker:
    """Wait until one of them is dead."""
    for _ in range(1200):
        for worker in workers:
            if not worker.alive:
                return worker
        await asyncio.sleep(0.05)
    raise AssertionError("nobody died")


def random_place(rng: random.Random, most_blocks: int, *, progress: bool) -> str:
    """A place where a worker dies, on the way or after some blocks, but before the last."""
    when = "after" if progress else rng.choice(("before", "after"))
    call = "stage" if progress else rng.choice(("receive", "chunks", "stage", "stage"))
    count = rng.randrange(1, most_blocks) if call == "stage" else 1
    return f"{when}:{call}:{count}:kill"
