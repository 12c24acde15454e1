"""Storage fails for a while, for one kind of call after the other, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import get_args

import pytest

from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.records.errors import StorageUnavailable
from shared.testing import run_virtually
from tests.faults.invariants import Sent, Watch, check_world, sent
from tests.faults.patients import patients, records
from tests.faulty import Call, Hook, Moment
from tests.world import VISIBILITY, World

LIMITS = Limits(rows=40)
IDLE = 10
"""The longest wait between two polls of the queue."""
WORKERS_CALLS: tuple[Call, ...] = tuple(
    call
    for call in get_args(Call)
    if call not in ("send", "length", "body", "poison", "discard", "listing")
)


@pytest.fixture(scope="module")
def batches(artifact: Artifact) -> list[Sent]:
    return [
        sent(artifact, "a", patients(200, seed=1), limits=LIMITS, profile=True),
        sent(artifact, "b", records(150, seed=2), ".jsonl", LIMITS, profile=True),
        sent(artifact, "c", patients(5, seed=3), limits=LIMITS),
    ]


class Outage:
    """These calls fail for a while, beginning with one of them, in the middle of a file.

    Every batch's first commit fails too, for looks, markers and probes belong to later deliveries.
    """

    def __init__(self, calls: set[Call], seconds: float, *, acted: bool) -> None:
        self.hits = 0
        self._calls = calls
        self._seconds = seconds
        self._acted = acted
        self._blocks = 0
        self._begun: float | None = None
        self._stumbled: set[str] = set()

    async def __call__(self, moment: Moment) -> None:
        if moment.when == "before" and moment.call in ("stage", "chunks", "commit"):
            await asyncio.sleep(0.3)  # so that an outage of a second meets several steps
        if moment.call == "commit" and moment.args[1] not in self._stumbled:
            self._stumbled.add(moment.args[1])
            raise StorageUnavailable("503 ServerBusy")
        if moment.call not in self._calls or self._acted != (moment.when == "after"):
            return
        now = asyncio.get_running_loop().time()
        self._blocks += moment.call == "stage"
        if self._begun is None and (moment.call != "stage" or self._blocks > 3):
            self._begun = now
        if self._begun is not None and now < self._begun + self._seconds:
            self.hits += 1
            raise StorageUnavailable("503 ServerBusy")


async def submit(world: World, batch: Sent) -> None:
    """Send a batch, and ask for a profile if it is to have one."""
    profile = batch.profile is not None
    await world.submit(batch.batch_id, batch.content, batch.suffix, profile=profile)


async def survive(artifact: Artifact, batches: list[Sent], hook: Hook, seconds: float = 0) -> World:
    """All batches through an outage: no exit, nothing rejected, nothing in poison."""
    world = World(artifact)
    watch = Watch(world.blobs)
    for batch in batches:
        await submit(world, batch)
    worker = world.worker(hook, limits=LIMITS)
    async with world.working(worker):
        for batch in batches:
            await watch.wait(batch.batch_id, 3600)
        await check_world(watch, world, *batches, lease=seconds + VISIBILITY + IDLE)
        assert not worker.stopping
    return world


@pytest.mark.parametrize("acted", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("seconds", [1, 30, 300])
@pytest.mark.parametrize("call", WORKERS_CALLS)
def test_an_outage_of_one_kind_of_call_costs_time_and_nothing_else(
    artifact: Artifact, batches: list[Sent], call: Call, seconds: float, acted: bool
) -> None:
    outage = Outage({call}, seconds, acted=acted)

    run_virtually(survive(artifact, batches, outage, seconds))

    assert outage.hits


@pytest.mark.parametrize("acted", [False, True], ids=["refused", "answers lost"])
@pytest.mark.parametrize("seconds", [1, 30, 300])
def test_an_outage_of_everything_costs_time_and_nothing_else(
    artifact: Artifact, batches: list[Sent], seconds: float, acted: bool
) -> None:
    outage = Outage(set(WORKERS_CALLS), seconds, acted=acted)

    run_virtually(survive(artifact, batches, outage, seconds))

    assert outage.hits


@pytest.mark.whole_file
def test_renewals_alone_may_fail_for_most_of_a_lease(artifact: Artifact) -> None:
    batch = sent(artifact, "slow", patients(2000, seed=4), limits=LIMITS)

    async def hook(moment: Moment) -> None:
        now = asyncio.get_running_loop().time()
        if moment.call == "renew" and now % 60 < 50:
            raise StorageUnavailable("503 ServerBusy")
        if moment.call == "stage" and moment.when == "before":
            await asyncio.sleep(8)  # 50 blocks: several leases long

    async def scene() -> None:
        world = await survive(artifact, [batch], hook)
        assert world.summary("slow")["deliveries"] == 1

    run_virtually(scene())


def test_other_messages_go_on_while_one_input_cannot_be_read(
    artifact: Artifact, batches: list[Sent]
) -> None:
    refusing = True

    async def hook(moment: Moment) -> None:
        if refusing and moment.call == "chunks" and "stuck" in str(moment.args[1]):
            raise StorageUnavailable("503 ServerBusy")

    async def scene() -> None:
        nonlocal refusing
        world = World(artifact)
        watch = Watch(world.blobs)
        stuck = replace(batches[0], batch_id="stuck")
        await submit(world, stuck)
        async with world.working(world.worker(hook, limits=LIMITS)):
            await world.clock.wait(100)
            for batch in batches:
                await submit(world, batch)
            for batch in batches:
                await watch.wait(batch.batch_id, 30)
            assert await watch.look("stuck") is None
            refusing = False
            await watch.wait("stuck", 700)
        await check_world(watch, world, *batches, stuck)

    run_virtually(scene())


def test_nothing_is_received_while_a_container_is_gone(
    artifact: Artifact, batches: list[Sent]
) -> None:
    received: list[float] = []

    async def hook(moment: Moment) -> None:
        if moment.call == "receive" and moment.when == "before":
            received.append(asyncio.get_running_loop().time())

    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        world.blobs.remove_container("scores")
        await submit(world, batches[0])
        async with world.working(world.worker(hook, limits=LIMITS)):
            await world.clock.wait(900)
            before = len(received)
            await world.blobs.create_container("scores")
            await watch.wait("a", 700)

        assert before < 10  # deliveries of the message itself; the loop alone would make 90
        await check_world(watch, world, batches[0])

    run_virtually(scene())


@pytest.mark.parametrize("seconds", [20, 100])
def test_outages_that_begin_after_the_marker_never_add_up_to_poison(
    artifact: Artifact, batches: list[Sent], seconds: float
) -> None:
    [batch, *_] = batches
    outages: list[float] = []

    async def hook(moment: Moment) -> None:
        now = asyncio.get_running_loop().time()
        if outages and now < outages[-1] + seconds:
            raise StorageUnavailable("503 ServerBusy")
        if moment.call == "commit" and not outages:  # later deliveries leave markers
            raise StorageUnavailable("503 ServerBusy")
        begun = moment.call == "mark" and moment.args[2].startswith("b")
        if begun and moment.when == "after" and len(outages) < 8:
            outages.append(now)

    async def scene() -> None:
        world = await survive(artifact, [batch], hook, 600)
        assert len(outages) == 8
        assert world.summary(batch.batch_id)["deliveries"] > 8

    run_virtually(scene())


def test_a_lost_lease_is_excused(artifact: Artifact, batches: list[Sent]) -> None:
    [batch, *_] = batches
    lost: list[None] = []

    async def hook(moment: Moment) -> None:
        if moment.call == "commit" and not lost:
            raise StorageUnavailable("503 ServerBusy")
        begun = moment.call == "mark" and moment.args[2].startswith("b")
        if begun and moment.when == "after" and len(lost) < 8:
            lost.append(None)
            await asyncio.sleep(VISIBILITY + 10)
        if moment.call == "renew" and moment.args[1] == VISIBILITY:
            raise StorageUnavailable("503 ServerBusy")

    async def scene() -> None:
        await survive(artifact, [batch], hook, 600)
        assert len(lost) == 8

    run_virtually(scene())
