"""The loop: how it waits, how much it takes, and who works alone."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from shared.artifact import Artifact
from shared.checkpoint import Marker
from shared.errors import StorageUnavailable
from shared.ports import Staged
from tests.fakes import run_virtually
from tests.faulty import Moment
from tests.world import World

FILE = b"age,sex\n63,1\n50,0\n"


def test_an_empty_queue_is_asked_less_and_less_often(artifact: Artifact) -> None:
    asked: list[float] = []

    async def hook(moment: Moment) -> None:
        if moment.call == "receive" and moment.when == "before":
            asked.append(asyncio.get_running_loop().time())

    async def scene() -> None:
        world = World(artifact)
        async with world.working(world.worker(hook)):
            await world.clock.wait(120)
            before = len(asked)
            await world.submit("b", FILE)
            await world.until(lambda: world.has_summary("b"), 13)
            await world.clock.wait(3)
        waits = [later - earlier for earlier, later in pairwise(asked[:before])]

        assert 0.08 <= waits[0] <= 0.12
        assert all(wait <= 12 for wait in waits)
        assert waits[-1] >= 8
        assert 15 < before < 30
        assert len(asked) - before >= 5  # one hit resets the wait

    run_virtually(scene())


@pytest.mark.parametrize("slots", [1, 4])
def test_no_more_messages_are_taken_than_there_are_slots(artifact: Artifact, slots: int) -> None:
    inside, most = 0, 0

    async def hook(moment: Moment) -> None:
        nonlocal inside, most
        if moment.call == "facts" and "startup" not in str(moment.args):
            inside += 1 if moment.when == "before" else -1
            most = max(most, inside)
            await asyncio.sleep(1 if moment.when == "before" else 0)

    async def scene() -> None:
        world = World(artifact)
        for number in range(12):
            await world.submit(f"b-{number}", FILE)
        await world.emptied(world.worker(hook, slots=slots))

        assert most == slots

    run_virtually(scene())


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


def test_receiving_pauses_only_while_storage_fails(artifact: Artifact) -> None:
    down = False
    received: list[float] = []

    async def hook(moment: Moment) -> None:
        if moment.when == "before" and moment.call == "receive":
            received.append(asyncio.get_running_loop().time())
        if down and moment.when == "before":
            raise StorageUnavailable("503")

    async def scene() -> None:
        nonlocal down
        world = World(artifact)
        worker = world.worker(hook)
        async with world.working(worker):
            await world.clock.wait(20)
            down = True
            await world.clock.wait(20)
            before = len(received)
            await world.clock.wait(300)
            during = len(received) - before
            down = False
            await world.submit("b", FILE)
            await world.until(lambda: world.has_summary("b"), 13)

            assert not worker.stopping

        assert during == 0

    run_virtually(scene())
