"""The loop: who works alone."""

from __future__ import annotations

import asyncio

from shared.artifact import Artifact
from shared.checkpoint import Marker
from shared.ports import Staged
from tests.fakes import run_virtually
from tests.faulty import Moment
from tests.world import World

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
