"""The loop: exclusive messages, and work while the queue is empty."""

from __future__ import annotations

import asyncio

import pytest

from shared.batches.checkpoint import Marker
from shared.batches.ports import Staged
from shared.records.artifact import Artifact
from shared.records.errors import StorageUnavailable
from shared.testing import run_virtually
from tests.faulty import Moment
from tests.world import World
from worker.delivery import Delivery
from worker.policy import Settlement

FILE = b"age,sex\n63,1\n50,0\n"


def test_a_message_with_two_unexplained_deliveries_is_worked_on_alone(artifact: Artifact) -> None:
    working: set[str] = set()
    beside: set[str] = set()

    async def hook(moment: Moment) -> None:
        if moment.call not in ("chunks", "commit"):
            return
        name = str(moment.args[1]).split("/")[0].removesuffix(".csv")
        if moment.call == "commit" and moment.when == "after":
            working.discard(name)
        else:
            working.add(name)
            await asyncio.sleep(0.5)
        if "suspect" in working:
            beside.update(working)

    async def scene() -> None:
        world = World(artifact)
        await world.submit("suspect", FILE)
        await leave_unexplained(world, "suspect", deliveries=2)
        for number in range(6):
            await world.submit(f"b-{number}", FILE)
        await world.emptied(world.worker(hook))

        assert beside == {"suspect"}
        assert all(world.has_summary(f"b-{number}") for number in range(6))
        assert world.summary("suspect")["status"] == "succeeded"

    run_virtually(scene())


def test_the_next_messages_wait_for_an_exclusive_one_but_not_for_its_delete(
    artifact: Artifact,
) -> None:
    async def hook(moment: Moment) -> None:
        if moment.when == "before":
            await asyncio.sleep({"summary": 0.5, "delete": 60}.get(moment.call, 0))

    async def scene() -> None:
        world = World(artifact)
        await world.submit("suspect", FILE)
        await leave_unexplained(world, "suspect", deliveries=2)
        async with world.working(world.worker(hook)):
            await world.until(lambda: world.has_summary("suspect"))
            await world.submit("next", FILE)
            await world.clock.wait(2)

            assert world.has_summary("next")

    run_virtually(scene())


def test_an_error_of_the_queue_that_nobody_foresaw_ends_the_worker(artifact: Artifact) -> None:
    async def hook(moment: Moment) -> None:
        if moment.call == "receive":
            raise TypeError("a fault of ours")

    async def scene() -> None:
        with pytest.raises(TypeError, match="a fault of ours"):
            await asyncio.wait_for(World(artifact).worker(hook).run(), 60)

    run_virtually(scene())


def test_a_delivery_that_ends_in_an_error_of_ours_is_logged_and_done_again(
    artifact: Artifact, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        world = World(artifact)
        await world.submit("first", FILE)
        worker = world.worker()
        process, faults = worker._processor.process, [KeyError("a fault of ours")]

        async def fail_once(delivery: Delivery) -> Settlement:
            if faults:
                raise faults.pop()
            return await process(delivery)

        monkeypatch.setattr(worker._processor, "process", fail_once)
        await world.emptied(worker)

        assert world.summary("first")["deliveries"] == 2

    run_virtually(scene())

    assert [record.getMessage() for record in caplog.records] == ["delivery_failed"]


def test_preloading_happens_once_and_only_when_the_queue_is_empty(artifact: Artifact) -> None:
    working: list[bool] = []

    async def scene() -> None:
        world = World(artifact)
        await world.submit("first", FILE)
        worker = world.worker(preload=lambda: working.append(not world.has_summary("first")))
        async with world.working(worker):
            await world.until(lambda: working)
            await world.submit("second", FILE)
            await world.until(lambda: world.has_summary("second"))
            await world.clock.wait(60)

    run_virtually(scene())

    assert working == [False]


def test_nothing_is_prepared_while_storage_does_not_answer(artifact: Artifact) -> None:
    prepared: list[None] = []

    async def refuse(moment: Moment) -> None:
        if moment.when == "before":
            raise StorageUnavailable("storage does not answer: ServiceRequestError")

    async def scene() -> None:
        world = World(artifact)
        async with world.working(world.worker(refuse, preload=lambda: prepared.append(None))):
            await world.clock.wait(60)

    run_virtually(scene())

    assert prepared == []


async def leave_unexplained(world: World, batch_id: str, *, deliveries: int) -> None:
    """Begin deliveries that end without a word, as a killed process leaves them."""

    async def fail(moment: Moment) -> None:
        if moment.call == "chunks":
            raise KeyError("a fault that is not foreseen counts like a crash")

    async with world.working(world.worker(fail)):
        await world.until(lambda: len(marks(world, batch_id)) == deliveries)
        await world.clock.wait(1)
    assert not any(mark.excused for mark in marks(world, batch_id))


def marks(world: World, batch_id: str) -> list[Marker]:
    staged = world.blobs._staged.get(("scores", f"{batch_id}/scores.csv"), {})
    found = [Marker.parse(Staged(name, 1)) for name in staged]
    return [mark for mark in found if mark is not None]
