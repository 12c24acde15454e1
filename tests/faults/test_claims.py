"""One batch id belongs to one input: the first that claims it, also if it fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from shared.batches.message import Envelope, EnvelopeInput
from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.testing import run_virtually
from tests.faults.invariants import Failed, Watch, check_world, sent
from tests.faults.patients import patients
from tests.faulty import Moment
from tests.world import World

LIMITS = Limits(rows=100)
CSV = "age,sex\n63,1\n50,0\n"


def inline(batch_id: str, **content: object) -> str:
    return json.dumps({"schema": "heart-scorer/1", "batch_id": batch_id} | content)


def has_scores(world: World, batch_id: str) -> bool:
    names = world.blobs.names("scores")
    return any(name.startswith(f"{batch_id}/scores.") for name in names)


def check_no_scores_without_success(world: World) -> None:
    for name in world.blobs.names("scores"):
        batch_id, _, last = name.rpartition("/")
        if last.startswith("scores."):
            assert world.summary(batch_id)["status"] == "succeeded", name


def test_an_id_belongs_to_one_input_even_if_another_has_another_format(artifact: Artifact) -> None:
    async def scene() -> None:
        world = World(artifact)
        await world.queue.send(inline("june", records=[{"age": 63, "sex": 1}]))
        await world.emptied()
        second = await world.queue.send(inline("june", csv=CSV))
        await world.emptied()

        assert world.summary("june")["status"] == "succeeded"
        assert "june/scores.csv" not in world.blobs.names("scores")
        assert world.summary(f"june~{second}")["reason"] == "batch_id already used"
        check_no_scores_without_success(world)

    run_virtually(scene())


def test_a_bad_message_does_not_fail_a_batch_in_progress(artifact: Artifact) -> None:
    big = sent(artifact, "big", patients(500, seed=8), limits=LIMITS)
    ids: list[str] = []

    async def scene() -> None:
        world = World(artifact)

        async def hook(moment: Moment) -> None:
            if moment.call == "stage" and moment.when == "after" and not ids:
                ids.append(await world.queue.send(inline("big", input={"blob": 7})))
                await asyncio.sleep(30)  # the bad message is settled meanwhile

        await world.submit("big", big.content)
        await world.emptied(world.worker(hook, limits=LIMITS))

        bad = Failed(f"big~{ids[0]}", "batch_id already used")
        await check_world(Watch(world.blobs), world, big, bad)

    run_virtually(scene())


def test_a_bad_message_that_comes_first_keeps_the_id(artifact: Artifact) -> None:
    async def scene() -> None:
        world = World(artifact)
        await world.queue.send(inline("june", input={"blob": 7}))
        await world.emptied()
        second = await world.queue.send(inline("june", csv=CSV))
        await world.emptied()

        assert "envelope" in world.summary("june")["reason"]
        assert world.summary(f"june~{second}")["reason"] == "batch_id already used"
        check_no_scores_without_success(world)

    run_virtually(scene())


def overwrite_and_send_a_twin(world: World, batch_id: str) -> Callable[[], None]:
    """Overwrite the input between two copies of its envelope."""
    source = EnvelopeInput(container="uploads", blob=f"{batch_id}.csv", etag="0x1")
    text = Envelope(batch_id=batch_id, input=source).text()

    def strike() -> None:
        world.blobs.put("uploads", f"{batch_id}.csv", b"age,sex\n1,1\n")
        asyncio.get_running_loop().create_task(world.queue.send(text))

    return strike


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["commit", "summary"])
def test_a_duplicate_that_fails_leaves_the_batch_to_the_message_that_claimed_it(
    artifact: Artifact, call: str, when: str
) -> None:
    big = sent(artifact, "big", patients(500, seed=8), limits=LIMITS)

    async def scene() -> None:
        world = World(artifact)
        struck: list[None] = []
        strike = overwrite_and_send_a_twin(world, "big")

        async def hook(moment: Moment) -> None:
            if (moment.when, moment.call) == (when, call) and not struck:
                struck.append(None)
                strike()
                await asyncio.sleep(40)

        await world.submit("big", big.content)
        await world.emptied(world.worker(hook, limits=LIMITS))

        assert world.summary("big")["status"] == "succeeded"
        assert world.scores("big") == big.scores
        check_no_scores_without_success(world)

    run_virtually(scene())


def test_a_commit_that_a_failure_overtook_leaves_no_scores_behind(artifact: Artifact) -> None:
    """The message that claimed the id fails while its twin is about to commit."""
    big = sent(artifact, "big", patients(500, seed=8), limits=LIMITS)

    async def scene() -> None:
        world = World(artifact)
        twin_commits = asyncio.Event()

        async def fails(moment: Moment) -> None:
            if moment.call == "chunks" and moment.when == "before":
                await twin_commits.wait()

        async def commits(moment: Moment) -> None:
            if moment.call == "commit" and moment.when == "before":
                world.blobs.put("uploads", "big.csv", b"age,sex\n1,1\n")
                twin_commits.set()
                await world.until(lambda: world.has_summary("big"))

        await world.submit("big", big.content)
        first = world.worker(fails, limits=LIMITS)
        async with world.working(first):
            await world.until(lambda: "big/claim" in world.blobs.names("scores"))
            source = EnvelopeInput(container="uploads", blob="big.csv", etag="0x1")
            await world.queue.send(Envelope(batch_id="big", input=source).text())
            async with world.working(world.worker(commits, limits=LIMITS)):
                await world.until(lambda: not world.queue.bodies())

        assert world.summary("big")["status"] == "failed"
        assert not has_scores(world, "big")
        check_no_scores_without_success(world)

    run_virtually(scene())
