"""Which files are shared, and that a block's rows are counted as they are read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.batches.checkpoint import DataBlock, file_cut, part_begun, read_parts
from shared.batches.message import Envelope
from shared.batches.ports import Staged
from shared.batches.results import summary_name
from shared.batches.status import BatchStatus, read_status
from shared.files.base import Limits, Scored
from shared.files.csv_table import CsvTable
from shared.records.artifact import Artifact
from shared.records.counts import Counts
from shared.testing import run_virtually
from tests.faults.patients import parquet, patients, table
from tests.faulty import Moment
from tests.world import WHOLE, World

LIMITS = Limits(rows=20)
FILE = patients(250, seed=8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        pytest.param(
            b"age;sex;oldpeak\r\n" + b"63;male;2,3\r\n;;\r\n" * 300, ".csv", id="blank, semicolons"
        ),
        pytest.param(
            b"patient_id,age,sex\n" + b'"a\nb ""c""",63,1\n' * 300 + b"\n" * 900 + b"x,1,1\n",
            ".csv",
            id="line ends in quotes, blocks of blank lines",
        ),
        pytest.param(
            b"age,sex\n" + b"63,1\n" * 90 + b"9" * (3 << 20) + b"\n" + b"63,1\n" * 90,
            ".csv",
            id="a line over the limit",
        ),
        pytest.param(
            ("age\tsex\n" + "63\tmale\n" * 200).encode("utf-16"), ".csv", id="UTF-16, not cut"
        ),
        pytest.param(
            b'{"age": 63, "sex": "male"}\n \n' * 400 + b'{"age": 6', ".jsonl", id="JSON lines"
        ),
    ],
)
def test_rows_are_counted_as_they_are_read(
    artifact: Artifact, content: bytes, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scores(threshold: int) -> bytes:
        monkeypatch.setenv("SCORER_SPLIT_BYTES", str(threshold))
        world = World(artifact)
        await world.submit("b", content, suffix)
        await world.emptied(world.worker(limits=LIMITS))
        return world.scores("b", suffix.removeprefix("."))

    assert run_virtually(scores(1024)) == run_virtually(scores(WHOLE))


def test_a_small_file_makes_no_additional_call(artifact: Artifact) -> None:
    async def scene() -> list[str]:
        world = World(artifact)
        calls: list[str] = []

        async def note(moment: Moment) -> None:
            if moment.when == "before" and moment.call not in ("receive", "parts"):
                calls.append(moment.call)

        await world.submit("b", b"age,sex\n63,1\n")
        await world.emptied(world.worker(note))
        return calls

    assert run_virtually(scene()) == [
        "facts",
        "claim",
        "chunks",
        "chunks",
        "commit",
        "summary",
        "delete",
    ]


def test_progress_counts_parts_and_workers(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[BatchStatus] = []

    async def scene() -> None:
        world = World(artifact)

        async def slow(moment: Moment) -> None:
            if (moment.when, moment.call) == ("before", "stage"):
                await asyncio.sleep(10)

        async def look() -> None:
            while True:
                if (state := await read_status(world.blobs, "b")) and state.status == "running":
                    seen.append(state)
                await asyncio.sleep(5)

        await world.submit("b", patients(250, seed=8))
        looking = asyncio.create_task(look())
        await world.emptied(*(world.worker(slow, limits=LIMITS) for _ in range(2)))
        looking.cancel()

    monkeypatch.setenv("SCORER_SPLIT_BYTES", "1024")
    run_virtually(scene())

    texts = [str(state.progress.parts) for state in seen if state.progress.parts]
    assert "0 parts, 2 workers" in texts or "0 of 4 parts, 2 workers" in texts
    assert any(text.startswith(("2 of 4 parts", "3 of 4 parts")) for text in texts)
    assert {state.progress.parts and state.progress.parts.total for state in seen} >= {4}
    rows = [state.rows["total"] for state in seen]
    assert rows == sorted(rows)


@pytest.mark.parametrize(
    ("sequences", "total", "text"),
    [
        ((), None, "0 parts, 1 worker"),
        ((0, 1, 2, 3), None, "1 part, 0 workers"),
        ((0, 1, 2, 3, 5, 8), 9, "2 of 3 parts, 0 workers"),
        ((4, 5, 6), 9, "0 of 3 parts, 1 worker"),
    ],
)
def test_a_part_is_done_when_all_its_blocks_are(
    sequences: tuple[int, ...], total: int | None, text: str
) -> None:
    blocks = [DataBlock("p" * 10, sequence, 1, Counts()) for sequence in sequences]
    names = [part_begun("p" * 10, 0, "w" * 12), *(block.name for block in blocks)]
    if total is not None:
        names.append(file_cut("p" * 10, total))

    parts = read_parts([Staged(name, 1) for name in names], blocks)

    assert str(parts) == text


@pytest.mark.slow
def test_a_batch_that_is_cancelled_stops_its_parts(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        world = World(artifact)
        cancelled = {"status": "cancelled", "message_id": "-", "identity": {}}

        async def cancel(moment: Moment) -> None:
            if (moment.when, moment.call) == ("after", "stage") and not world.has_summary("b"):
                envelope = Envelope.model_validate_json(world.queue.bodies()[0])
                assert envelope.input is not None
                identity = {
                    "include_input": False,
                    "container": "uploads",
                    "blob": "b.csv",
                    "etag": envelope.input.etag,
                }
                content = json.dumps(cancelled | {"identity": identity}).encode()
                world.blobs.put("scores", summary_name("b"), content)

        await world.submit("b", patients(1010, seed=8))
        await world.emptied(*(world.worker(cancel, limits=LIMITS) for _ in range(2)))
        async with world.working(world.worker(limits=LIMITS)):
            await world.until(lambda: not world.parts.bodies())
        assert world.summary("b")["status"] == "cancelled"
        assert "b/scores.csv" not in world.blobs.names("scores")
        assert not world.poisoned()

    monkeypatch.setenv("SCORER_SPLIT_BYTES", "1024")
    run_virtually(scene())


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of several blocks are shared."""
    monkeypatch.setenv("SCORER_SPLIT_BYTES", "1024")


@pytest.fixture(scope="module")
def whole(artifact: Artifact) -> World:
    """Storage after one worker scored the file alone."""
    return run_virtually(scored(World(artifact)))


async def scored(world: World, workers: int = 1) -> World:
    await world.submit("b", FILE, include_input=True, profile=True)
    await world.emptied(*(world.worker(limits=LIMITS) for _ in range(workers)))
    return world


@pytest.mark.usefixtures("shared")
def test_a_shared_file_has_the_summary_and_the_profile_of_one_worker(
    artifact: Artifact, whole: World
) -> None:
    world = run_virtually(scored(World(artifact), workers=2))

    assert world.scores("b") == whole.scores("b")
    for member in ("rows", "rejections", "warnings", "ignored_columns", "absent_fields"):
        assert world.summary("b")[member] == whole.summary("b")[member]
    profiles = [
        json.loads(each.blobs.content("scores", "b/profile.json")) for each in (world, whole)
    ]
    assert profiles[0]["fields"] == profiles[1]["fields"]


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize(
    ("content", "suffix"),
    [(FILE, ".csv"), (parquet(table(60), times=4), ".parquet")],
    ids=["CSV", "Parquet"],
)
def test_an_input_that_changes_while_it_is_shared_fails_the_batch(
    artifact: Artifact, content: bytes, suffix: str
) -> None:
    async def scene() -> World:
        world = World(artifact)

        async def replace(moment: Moment) -> None:
            if (moment.when, moment.call) == ("after", "send"):
                world.blobs.put("uploads", f"b{suffix}", content[:-100])

        await world.submit("b", content, suffix, output="csv")
        await world.emptied(*(world.worker(replace, limits=LIMITS) for _ in range(2)))
        return world

    world = run_virtually(scene())

    assert world.summary("b")["status"] == "failed"
    assert "was replaced" in world.summary("b")["reason"]
    assert "b/scores.csv" not in world.blobs.names("scores")
    assert len(world.poisoned()) == 1


@pytest.mark.usefixtures("shared")
def test_an_upgrade_while_a_file_is_shared_changes_nothing(
    artifact: Artifact, whole: World
) -> None:
    """Another block size, as an example of a change of plan."""

    async def scene() -> World:
        world = World(artifact)
        await world.submit("b", FILE, include_input=True, profile=True)

        async def slow(moment: Moment) -> None:
            if (moment.when, moment.call) == ("before", "stage"):
                await asyncio.sleep(5)

        new = world.worker(limits=Limits(rows=15))
        async with world.working(world.worker(slow, limits=LIMITS)):
            await world.until(world.parts.bodies)
            async with world.working(new):  # it drops the parts of another plan
                await asyncio.sleep(20)
            assert not world.has_summary("b")
        await world.emptied(world.worker(limits=Limits(rows=15)))
        return world

    world = run_virtually(scene())

    assert world.summary("b")["status"] == "succeeded"
    assert world.scores("b") == whole.scores("b")


@pytest.mark.usefixtures("shared")
def test_a_row_that_no_worker_survives_fails_its_batch(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = CsvTable.score

    def break_down(self: CsvTable, rows: Any, first_row: int) -> Scored:
        if first_row <= 101 < first_row + 20:
            raise RuntimeError("this block breaks its worker")
        return score(self, rows, first_row)

    monkeypatch.setattr(CsvTable, "score", break_down)

    async def scene() -> World:
        world = World(artifact)
        await world.submit("b", FILE)
        await world.emptied(*(world.worker(limits=LIMITS) for _ in range(2)), seconds=1e5)
        return world

    world = run_virtually(scene())

    assert world.summary("b")["status"] == "failed"
    assert "gave up at byte" in world.summary("b")["reason"]
    assert len(world.poisoned()) == 1
