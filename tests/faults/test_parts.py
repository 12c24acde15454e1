"""Parts of a file that several workers share: lost, late, repeated, wrong, deadly or not wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from shared.batches.parts import Part
from shared.files.base import Bounds, Limits, Seekable
from shared.files.parquet_table import ParquetTable
from shared.records.artifact import Artifact
from shared.records.errors import StorageUnavailable
from shared.testing import run_virtually
from tests.faults.invariants import Failed, Sent, Watch, check_world, sent
from tests.faults.patients import parquet, patients, table
from tests.faulty import Hang, Moment
from tests.world import VISIBILITY, WHOLE, World
from worker import parts
from worker.consumer import Consumer

LIMITS = Limits(rows=20)


@pytest.fixture
def threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here every file of several blocks is shared."""
    monkeypatch.setenv("SCORER_SPLIT_BYTES", "1024")


@pytest.fixture(scope="module")
def file(artifact: Artifact) -> Sent:
    """51 blocks, which make 13 parts; scored by one worker."""
    return whole(artifact, patients(1010, seed=8), ".csv")


@pytest.fixture(scope="module", params=["csv", "parquet"])
def any_file(artifact: Artifact, file: Sent, request: pytest.FixtureRequest) -> Sent:
    """The same, and a Parquet file of 54 blocks in nine row groups."""
    if request.param == "csv":
        return file
    return whole(artifact, parquet(table(110, seed=8), times=9), ".parquet")


def whole(artifact: Artifact, content: bytes, suffix: str) -> Sent:
    """A batch as one worker scores it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("SCORER_SPLIT_BYTES", str(WHOLE))
        return sent(artifact, "b", content, suffix, limits=LIMITS, output="csv")


async def submit(world: World, file: Sent) -> None:
    await world.submit("b", file.content, file.suffix, output="csv")


def parts_in(world: World) -> list[Part]:
    return [Part.model_validate_json(body) for body in world.parts.bodies()]


def workers(world: World, count: int) -> Sequence[Consumer]:
    return [world.worker(limits=LIMITS) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 3])
def test_a_shared_file_has_the_bytes_of_one_worker(
    artifact: Artifact, any_file: Sent, count: int
) -> None:
    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        await submit(world, any_file)
        await world.emptied(*workers(world, count))
        assert not world.parts.bodies()
        await check_world(watch, world, any_file)

    run_virtually(scene())


@pytest.mark.slow
def test_parts_that_are_lost_are_sent_again(artifact: Artifact, any_file: Sent) -> None:
    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        lost: list[str] = []

        async def lose_first(moment: Moment) -> None:
            if (moment.when, moment.call) == ("after", "send") and len(lost) < 13:
                for message in await world.parts.receive(32, 60):
                    lost.append(message.body)
                    await world.parts.delete(message)

        await submit(world, any_file)
        await world.emptied(world.worker(lose_first, limits=LIMITS), *workers(world, 1))
        assert len(lost) >= 13
        await check_world(watch, world, any_file)

    run_virtually(scene())


@pytest.mark.slow
def test_workers_that_die_with_a_part_cost_time_only(artifact: Artifact, any_file: Sent) -> None:
    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        hang = Hang("stage")
        await submit(world, any_file)
        owner = world.worker(limits=LIMITS, slots=1)
        async with world.working(owner):
            await world.until(lambda: parts_in(world))
            async with world.working(world.worker(hang, limits=LIMITS)):
                await hang.begun()
                await watch.wait("b", VISIBILITY * 5)
        await check_world(watch, world, any_file)

    run_virtually(scene())


@pytest.mark.slow
def test_wrong_and_repeated_parts_change_nothing(artifact: Artifact, any_file: Sent) -> None:
    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        seen: list[Part] = []

        async def add_wrong_ones(moment: Moment) -> None:
            if (moment.when, moment.call) == ("after", "send") and not seen:
                part = Part.model_validate_json(moment.args[0])
                seen.append(part)
                *others, (end, rows) = part.blocks
                for change in (
                    {},
                    {"blocks": [*others, (end, rows + 1)]},
                    {"blocks": [*others, (end + 7, rows)]},
                    {"blocks": others},
                    {"plan": "0" * 10},
                    {"sequence": part.sequence + 4, "first_row": part.first_row + 80},
                ):
                    await world.parts.send(part.model_copy(update=change).text())
                for body in ("", "{}", "age,sex", "\x00", "[1]"):
                    await world.parts.send(body)

        await submit(world, any_file)
        await world.emptied(world.worker(add_wrong_ones, limits=LIMITS), *workers(world, 1))
        assert not world.parts.bodies()
        await check_world(watch, world, any_file)

    run_virtually(scene())


@pytest.mark.slow
def test_parts_of_a_batch_that_has_an_outcome_are_dropped(artifact: Artifact, file: Sent) -> None:
    async def scene() -> None:
        world = World(artifact)
        staged: list[str] = []

        async def note(moment: Moment) -> None:
            if (moment.when, moment.call) == ("before", "stage"):
                staged.append(moment.args[1])

        await submit(world, file)
        async with world.working(world.worker(limits=LIMITS, slots=1)):
            await world.until(lambda: parts_in(world))
            bodies = world.parts.bodies()
            await world.until(lambda: world.has_summary("b"))
        for body in bodies:
            await world.parts.send(body)
        async with world.working(world.worker(note, limits=LIMITS)):
            await world.until(lambda: not world.parts.bodies())
        assert staged == []
        await check_world(Watch(world.blobs), world, file)

    run_virtually(scene())


@pytest.mark.slow
def test_a_file_that_is_read_in_other_blocks_than_it_was_cut_is_scored_by_one_worker(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = whole(artifact, parquet(table(110, seed=8), times=9), ".parquet")
    bounds = ParquetTable.bounds

    def wrong_bounds(table: ParquetTable, file: Seekable, offset: int) -> Iterator[Bounds]:
        for number, found in enumerate(bounds(table, file, offset)):
            yield found._replace(end=found.end + 1) if number == 20 else found

    monkeypatch.setattr(ParquetTable, "bounds", wrong_bounds)

    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        await submit(world, file)
        await world.emptied(*workers(world, 2))
        await check_world(watch, world, file)

    run_virtually(scene())


@pytest.mark.slow
@pytest.mark.parametrize("bad", [b"63,1,\x00\n", b'63,1,"open\n'], ids=["NUL", "open quote"])
def test_a_bad_file_fails_for_the_reason_that_one_worker_gives(
    artifact: Artifact, bad: bytes
) -> None:
    content = b"age,sex,chol\n" + b"63,1,233\n" * 500 + bad + b"63,1,233\n" * 50

    async def reason(threshold: str, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("SCORER_SPLIT_BYTES", threshold)
        world = World(artifact)
        watch = Watch(world.blobs)
        await world.submit("b", content)
        await world.emptied(*workers(world, 2))
        await check_world(watch, world, Failed("b", "byte"))
        return str(world.summary("b")["reason"])

    with pytest.MonkeyPatch.context() as monkeypatch:
        shared = run_virtually(reason("1024", monkeypatch))
        whole = run_virtually(reason(str(1 << 30), monkeypatch))
    assert shared == whole


@pytest.mark.slow
def test_an_outage_while_parts_are_in_work_costs_time_only(
    artifact: Artifact, any_file: Sent
) -> None:
    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)

        async def outage(moment: Moment) -> None:
            if 5 < world.clock() < 125 and moment.when == "before":
                raise StorageUnavailable("503 ServerBusy")
            if moment.call != "chunks":  # time stops while a thread waits for one
                await asyncio.sleep(0.5)

        await submit(world, any_file)
        await world.emptied(*(world.worker(outage, limits=LIMITS) for _ in range(2)))
        await check_world(watch, world, any_file)

    run_virtually(scene())


@pytest.mark.slow
def test_a_small_batch_does_not_wait_for_a_large_one(artifact: Artifact, file: Sent) -> None:
    small = sent(artifact, "small", patients(5, seed=1))

    async def scene() -> None:
        world = World(artifact)

        async def slow(moment: Moment) -> None:
            if (moment.when, moment.call) == ("before", "stage"):
                await asyncio.sleep(10)  # so that a part takes 40 s

        await submit(world, file)
        async with world.working(world.worker(slow, limits=LIMITS, slots=2)):
            await world.until(lambda: len(parts_in(world)) >= 10)
            begun = world.clock()
            await world.submit("small", small.content)
            await world.until(lambda: world.has_summary("small"))
            assert world.clock() - begun < 60
            assert not world.has_summary("b")
            await world.until(lambda: not world.queue.bodies())
        await check_world(Watch(world.blobs), world, file, small)

    run_virtually(scene())


@pytest.mark.slow
def test_the_number_of_parts_in_the_queue_is_bounded(
    artifact: Artifact, file: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PARTS_IN_QUEUE", 5)
    most = 0

    async def scene() -> None:
        nonlocal most
        world = World(artifact)
        watch = Watch(world.blobs)

        async def count(moment: Moment) -> None:
            nonlocal most
            most = max(most, len(world.parts.bodies()))

        await submit(world, file)
        await world.emptied(world.worker(count, limits=LIMITS))
        await check_world(watch, world, file)

    run_virtually(scene())
    assert most == 5
