"""Several workers have one message: duplicates, a frozen worker that wakes, lost answers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from shared.batches.message import Envelope, EnvelopeInput
from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.records.errors import StorageUnavailable
from shared.testing import run_virtually
from tests.faults.invariants import Failed, Sent, Watch, check_world, sent
from tests.faults.lab import Lab
from tests.faults.patients import patients
from tests.faulty import Call, Hang, Moment, When
from tests.world import VISIBILITY, World

LIMITS = Limits(rows=300)


@pytest.fixture(scope="module")
def five_blocks(artifact: Artifact) -> Sent:
    return sent(artifact, "b", patients(1500, seed=8), limits=LIMITS)


@pytest.mark.azurite
@pytest.mark.parametrize(("workers", "messages"), [(2, 2), (4, 8)])
async def test_workers_with_the_same_batch_at_once_make_one_outcome(
    lab: Lab, batch: Sent, workers: int, messages: int
) -> None:
    running = [lab.worker(SCORER_SLOTS="2") for _ in range(workers)]
    started = [worker.__enter__() for worker in running]
    try:
        for worker in started:
            await worker.logged("worker_started")
        await lab.submit(batch, times=messages)
        await lab.kept(batch)
        assert all(worker.alive for worker in started)
    finally:
        for context in running:
            context.__exit__(None, None, None)


@pytest.mark.azurite
@pytest.mark.parametrize(
    "place",
    ["before:stage:3", "before:commit:1", "after:commit:1", "before:delete:1"],
    ids=["between blocks", "before its commit", "after its commit", "before its delete"],
)
async def test_a_frozen_worker_that_was_overtaken_wakes_and_changes_nothing(
    lab: Lab, batch: Sent, place: str
) -> None:
    await lab.submit(batch)
    with lab.worker(f"{place}:freeze") as frozen:
        await frozen.logged("struck")
        with lab.worker() as other:
            await lab.kept(batch)
            frozen.wake()
            await asyncio.sleep(1)
            assert frozen.alive
            assert other.alive
            frozen.stop()
            assert await frozen.ended() == 0

    await lab.kept(batch)


@pytest.mark.azurite
async def test_a_frozen_worker_that_wakes_before_the_others_commit_changes_nothing(
    lab: Lab, batch: Sent
) -> None:
    await lab.submit(batch)
    with lab.worker("before:stage:3:freeze") as frozen:
        await frozen.logged("struck")
        with lab.worker("before:commit:1:freeze") as other:
            await other.logged("struck")
            frozen.wake()
            await asyncio.sleep(1)
            other.wake()
            await lab.kept(batch)
            assert frozen.alive
            assert other.alive


@pytest.mark.parametrize("count", range(2, 9))
def test_workers_handed_the_same_message_at_once_make_one_outcome(
    artifact: Artifact, five_blocks: Sent, count: int
) -> None:
    async def hook(moment: Moment) -> None:
        if moment.when == "before":
            await asyncio.sleep(0.01 * (count % 3))  # let them meet at different steps

    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        await world.submit("b", five_blocks.content)
        world.queue.shared = count - 1
        await world.emptied(*(world.worker(hook, limits=LIMITS) for _ in range(count)))
        await watch.wait("b", 60)
        await check_world(watch, world, five_blocks)

    run_virtually(scene())


STEPS: list[Call] = [
    *("receive", "facts", "chunks", "stage_counts", "stage", "stage_profile"),
    *("commit", "commit_profile", "summary", "delete"),
]


ONE_BLOCK = Limits()
"""The same files are one block then, written by one call and not staged before."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("call", "limits"),
    [*((call, LIMITS) for call in STEPS), ("commit", ONE_BLOCK), ("summary", ONE_BLOCK)],
)
def test_a_worker_that_never_returns_is_overtaken(
    artifact: Artifact, five_blocks: Sent, call: Call, limits: Limits, when: When
) -> None:
    hang = Hang(call, when)

    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        await world.submit("b", five_blocks.content)
        async with world.working(world.worker(hang, limits=limits)):
            await hang.begun()
            await world.emptied(world.worker(limits=limits), seconds=VISIBILITY * 3)
            await watch.wait("b", 60)
        await check_world(watch, world, five_blocks)

    run_virtually(scene())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["summary", "poison", "delete"])
def test_a_failure_whose_worker_never_returns_still_leaves_its_poison_copy(
    artifact: Artifact, call: Call, when: When
) -> None:
    hang = Hang(call, when)

    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        await world.submit("b", b"no table")
        async with world.working(world.worker(hang)):
            await hang.begun()
            if world.queue.bodies():
                await world.emptied(seconds=VISIBILITY * 3)
            # Before the worker that hung can wake and finish the work.
            await check_world(watch, world, Failed("b", "age"))
            assert len(world.poisoned()) <= 2
        await check_world(watch, world, Failed("b", "age"))

    run_virtually(scene())


@pytest.mark.parametrize(
    ("call", "limits"),
    [
        *((call, LIMITS) for call in ("receive", "renew", "stage", "commit", "summary", "delete")),
        *((call, LIMITS) for call in ("stage_counts", "stage_profile", "commit_profile")),
        *((call, ONE_BLOCK) for call in ("receive", "commit", "summary", "delete")),
    ],
)
@pytest.mark.parametrize("nth", [1, 2, 4])
def test_an_answer_that_is_lost_after_storage_acted_changes_nothing(
    artifact: Artifact, five_blocks: Sent, call: Call, limits: Limits, nth: int
) -> None:
    left = nth

    async def hook(moment: Moment) -> None:
        nonlocal left
        if moment.call == "stage" and moment.when == "before":
            await asyncio.sleep(25)  # renewals are made
        if (moment.call, moment.when) == (call, "after"):
            left -= 1
            if left == 0:
                raise StorageUnavailable("storage does not answer: timed out")

    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        for batch_id in ("b", "c", "d", "e"):
            await world.submit(batch_id, five_blocks.content)
        await world.emptied(world.worker(hook, limits=limits, slots=1))
        batches = [replace(five_blocks, batch_id=name) for name in "bcde"]
        for batch in batches:
            await watch.wait(batch.batch_id, 240)
        assert left <= 0
        await check_world(watch, world, *batches)

    run_virtually(scene())


def test_one_envelope_sent_three_times_is_one_batch(artifact: Artifact, five_blocks: Sent) -> None:
    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", five_blocks.content)
        for _ in range(2):
            await world.queue.send(world.queue.bodies()[0])
        await world.emptied(world.worker(limits=LIMITS))

        await check_world(Watch(world.blobs), world, five_blocks)

    run_virtually(scene())


def test_a_failing_duplicate_adopts_the_commit_of_the_other(
    artifact: Artifact, five_blocks: Sent
) -> None:
    hang = Hang("summary")

    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", five_blocks.content)
        twin = world.queue.bodies()[0]
        async with world.working(world.worker(hang, limits=LIMITS)):
            await hang.begun()
            world.blobs.put("uploads", "b.csv", b"something else")
            await world.queue.send(twin)  # its first delivery does not look before it works
            await world.emptied(world.worker(limits=LIMITS), seconds=VISIBILITY * 3)

        await check_world(Watch(world.blobs), world, five_blocks)

    run_virtually(scene())


def test_a_bad_message_does_not_take_the_name_of_a_batch_that_is_committed(
    artifact: Artifact, five_blocks: Sent
) -> None:
    hang = Hang("summary")

    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", five_blocks.content)
        async with world.working(world.worker(hang, limits=LIMITS)):
            await hang.begun()
            bad = await world.queue.send('{"schema": "heart-scorer/1", "batch_id": "b"}')
            await world.emptied(world.worker(limits=LIMITS), seconds=VISIBILITY * 3)

        refused = Failed(f"b~{bad}", "batch_id already used")
        await check_world(Watch(world.blobs), world, five_blocks, refused)

    run_virtually(scene())


def test_a_batch_id_used_for_another_input_is_refused_under_a_name_of_its_own(
    artifact: Artifact, five_blocks: Sent
) -> None:
    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        await world.submit("b", five_blocks.content)
        await world.emptied(world.worker(limits=LIMITS))
        await watch.look("b")
        intruders = [
            await world.queue.send(body)
            for body in (
                Envelope(batch_id="b", records=[{"age": 63, "sex": 1}]).text(),
                Envelope(batch_id="b", csv="age,sex\n63,1\n").text(),
                json.dumps({"schema": "heart-scorer/1", "batch_id": "b", "wrong": 1}),
            )
        ]
        await world.emptied(world.worker(limits=LIMITS))

        refused = [Failed(f"b~{message_id}", "batch_id already used") for message_id in intruders]
        await check_world(watch, world, five_blocks, *refused)
        assert len(world.poisoned()) == 3

    run_virtually(scene())


def test_an_envelope_without_a_version_means_the_current_one(
    artifact: Artifact, five_blocks: Sent
) -> None:
    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        world.blobs.put("uploads", "b.csv", five_blocks.content)
        source = EnvelopeInput(container="uploads", blob="b.csv")
        body = Envelope(batch_id="b", input=source).text()
        await world.queue.send(body)
        await world.emptied(world.worker(limits=LIMITS))
        await watch.look("b")
        world.blobs.put("uploads", "b.csv", patients(3))
        changed = await world.queue.send(body)
        await world.emptied(world.worker(limits=LIMITS))
        world.blobs.take_away("uploads", "b.csv")
        await world.queue.send(body)
        await world.emptied(world.worker(limits=LIMITS))

        refused = Failed(f"b~{changed}", "batch_id already used")
        await check_world(watch, world, five_blocks, refused)
        assert len(world.poisoned()) == 1

    run_virtually(scene())


@pytest.mark.azurite
async def test_a_commit_whose_worker_was_killed_succeeds_though_the_input_changed(
    lab: Lab, batch: Sent
) -> None:
    with lab.worker("before:summary:1:kill") as first, lab.worker() as second:
        await second.asleep()
        await lab.submit(batch)
        assert await first.ended() == -9
        name = f"{batch.batch_id}{batch.suffix}"
        await lab.replace("uploads", name, b"something else")

        second.wake()
        await lab.kept(batch)


@pytest.mark.azurite
@pytest.mark.parametrize(
    "settings",
    [{"FORMAT": "2"}, {"SCORER_BLOCK_ROWS": "317"}, {"SCORER_MODEL_DIR": "another"}],
    ids=["output format", "block size", "model"],
)
async def test_an_upgrade_in_the_middle_of_a_file_never_mixes_bytes(
    lab: Lab, batch: Sent, settings: dict[str, str]
) -> None:
    expected = batch
    if "SCORER_MODEL_DIR" in settings:
        directory, other = lab.another_model()
        settings = {"SCORER_MODEL_DIR": str(directory)}
        expected = await asyncio.to_thread(
            sent, other, batch.batch_id, batch.content, limits=Limits(rows=400)
        )
        assert expected.scores != batch.scores
    with lab.worker("after:stage:3:kill") as old, lab.worker(**settings) as new:
        await new.asleep()
        await lab.submit(batch)
        assert await old.ended() == -9

        new.wake()
        await lab.kept(expected)


@pytest.mark.azurite
async def test_old_and_new_version_at_once_make_one_outcome_of_one_of_them(
    lab: Lab, batch: Sent
) -> None:
    directory, other = lab.another_model()
    new = await asyncio.to_thread(
        sent, other, batch.batch_id, batch.content, limits=Limits(rows=400)
    )
    await lab.submit(batch, times=2)
    with lab.worker("before:commit:1:freeze") as one:
        await one.logged("struck")
        with lab.worker("before:commit:1:freeze", SCORER_MODEL_DIR=str(directory)) as two:
            await two.logged("struck")
            one.wake()
            two.wake()
            summary = await lab.watch.wait(batch.batch_id, 240)
            by_new = summary["model"]["sha256"] == other.sha256
            await lab.kept(new if by_new else batch)


def test_block_names_of_an_upgraded_worker_do_not_count_against_a_message(
    artifact: Artifact, five_blocks: Sent
) -> None:
    """Deliveries that were cut short under the old plan, each with progress, stay explained."""

    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        await world.submit("b", five_blocks.content)
        for kill in range(1, 5):
            hang = Hang("stage", "after")
            async with world.working(world.worker(hang, limits=Limits(rows=50))):
                await hang.begun(VISIBILITY * (kill + 1))
                await world.clock.wait(VISIBILITY)
        # Each left one block and a mark; seven such deliveries would be too many without blocks.
        await world.emptied(world.worker(limits=LIMITS))
        await watch.wait("b", 60)
        await check_world(watch, world, five_blocks)

    run_virtually(scene())
