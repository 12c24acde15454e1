"""The poison queue by the command line: what is chosen, replayed once, and never lost."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from cli.poison import drop_one
from cli.poison_queue import HIDDEN, Entry, Selection, read_all, walk
from cli.replay import NotReplayable, next_id, replay_one
from shared.batches.ports import Message
from shared.records.artifact import Artifact
from shared.records.errors import StorageUnavailable
from shared.testing import FakeBlobs, FakeClock, FakeQueue, run_virtually
from tests.builders import a_csv, a_patient
from tests.world import World

PATIENTS = [a_patient(age=41), a_patient(age=67)]
CSV = a_csv(*PATIENTS).decode()
SUBJECT = "/blobServices/default/containers/incoming/blobs/ward/patients.csv"


class Storage:
    """A storage account over the fakes of a world."""

    def __init__(self, world: World) -> None:
        self._queues = {"patient-batches": world.queue, "patient-batches-poison": world.poison}
        self._blobs = world.blobs

    def queue(self, name: str) -> FakeQueue:
        return self._queues[name]

    def blobs(self) -> FakeBlobs:
        return self._blobs


class BreaksAtDelete(FakeQueue):
    """A poison queue whose delete never arrives, as if the command had been killed before it."""

    async def delete(self, message: Message) -> None:
        raise StorageUnavailable("cut off")


@pytest.fixture
def world(artifact: Artifact) -> World:
    world = World(artifact)
    world.blobs.put("uploads", "ward.csv", CSV.encode())
    world.blobs.put("incoming", "ward/patients.csv", CSV.encode())
    return world


def an_entry(batch_id: str = "ward", **changes: object) -> str:
    body = json.dumps({"schema": "heart-scorer/1", "records": PATIENTS})
    entry = {"batch_id": batch_id, "reason": "gave up", "time": "2026-01-01", "deliveries": 5}
    return json.dumps(entry | {"body": body} | changes)


async def replay_all(storage: Storage) -> list[str]:
    queue = storage.queue("patient-batches-poison")
    async with aclosing(walk(queue)) as entries:
        return [await replay_one(storage, entry) async for entry in entries]


BODIES = {
    "a blob": {"input": {"container": "uploads", "blob": "ward.csv"}},
    "a blob of a version that is gone": {
        "input": {"container": "uploads", "blob": "ward.csv", "etag": "0xOLD"}
    },
    "records": {"records": PATIENTS},
    "csv": {"csv": CSV},
    "a record": PATIENTS[0],
    "an array": PATIENTS,
    "bare csv": CSV,
    "an event": {
        "eventType": "Microsoft.Storage.BlobCreated",
        "subject": SUBJECT,
        "data": {"eTag": "0xOLD"},
    },
    "a cloud event": {
        "specversion": "1.0",
        "type": "Microsoft.Storage.BlobCreated",
        "subject": SUBJECT,
        "data": {"eTag": "0xOLD"},
    },
}


def as_text(body: object) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, dict) and {"input", "records", "csv"} & body.keys():
        body = {"schema": "heart-scorer/1"} | body
    return json.dumps(body)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "base64"])
@pytest.mark.parametrize("form", BODIES)
def test_a_message_of_each_form_is_scored_as_a_new_batch(
    form: str, packed: bool, world: World
) -> None:
    body = as_text(BODIES[form])
    if packed:
        body = base64.b64encode(body.encode()).decode()

    async def work() -> None:
        await world.poison.send(an_entry(body=body))

        assert await replay_all(Storage(world)) == ["sent again as ward.r2"]

        await world.emptied()
        summary = world.summary("ward.r2")
        assert summary["status"] == "succeeded"
        assert summary["rows"]["scored"] == (1 if form == "a record" else 2)
        assert summary["replay_of"] == "ward"
        assert world.poisoned() == []

    run_virtually(work())


def test_a_body_that_was_put_into_a_blob_is_replayed_from_there(world: World) -> None:
    async def work() -> None:
        await world.blobs.create("scores", "ward/message", CSV.encode(), "text/plain")
        entry = json.loads(an_entry(body_blob="ward/message"))
        del entry["body"]
        await world.poison.send(json.dumps(entry))

        await replay_all(Storage(world))

        await world.emptied()
        assert world.summary("ward.r2")["rows"]["scored"] == 2

    run_virtually(work())


def test_options_and_trace_are_kept(world: World) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    body = {
        "schema": "heart-scorer/1",
        "input": {"container": "uploads", "blob": "ward.csv"},
        "options": {"include_input": True},
        "traceparent": trace,
    }

    async def work() -> None:
        await world.poison.send(an_entry(body=json.dumps(body)))
        await replay_all(Storage(world))
        await world.emptied()

        assert b"input_age" in world.scores("ward.r2")
        assert world.summary("ward.r2")["traceparent"] == trace

    run_virtually(work())


@pytest.mark.parametrize("scored_between", [False, True])
def test_a_replay_that_was_cut_off_is_the_same_batch_when_repeated(
    scored_between: bool, world: World
) -> None:
    async def work() -> None:
        storage = Storage(world)
        broken = World(world.artifact)
        broken.queue, broken.blobs = world.queue, world.blobs
        broken.poison = BreaksAtDelete(world.clock)
        await broken.poison.send(an_entry())
        with pytest.raises(StorageUnavailable):
            await replay_all(Storage(broken))
        [left] = broken.poison.bodies()
        if scored_between:
            await world.emptied()

        await world.poison.send(left)
        said = await replay_all(storage)
        await world.emptied()

        assert said == [f"sent again {'before ' if scored_between else ''}as ward.r2"]
        batches = {name.split("/")[0] for name in world.blobs.names("scores")}
        assert batches == {"ward.r2"}
        assert world.poison.bodies() == []

    run_virtually(work())


def test_an_entry_that_the_worker_sent_twice_is_replayed_once(world: World) -> None:
    async def work() -> None:
        await world.poison.send(an_entry())
        await world.poison.send(an_entry())

        assert await replay_all(Storage(world)) == ["sent again as ward.r2"] * 2

        await world.emptied()
        batches = {name.split("/")[0] for name in world.blobs.names("scores")}
        assert batches == {"ward.r2"}

    run_virtually(work())


def test_a_replay_that_failed_again_has_the_next_number(world: World) -> None:
    async def work() -> None:
        await world.poison.send(an_entry("ward.r2"))

        assert await replay_all(Storage(world)) == ["sent again as ward.r3"]

        await world.emptied()
        assert world.summary("ward.r3")["replay_of"] == "ward.r2"

    run_virtually(work())


async def test_a_name_that_another_batch_has_is_passed_over(world: World) -> None:
    other = {"batch_id": "ward.r2", "replay_of": None}
    world.blobs.put("scores", "ward.r2/summary.json", json.dumps(other).encode())

    assert await next_id(Storage(world), "ward") == ("ward.r3", False)


async def test_batches_that_share_most_of_their_name_get_different_ones(world: World) -> None:
    ids = ["ward", "ward~1f0c", "ward~77aa", "x" * 60, "x" * 59 + "y", "x" * 55]

    found = [(await next_id(Storage(world), batch_id))[0] for batch_id in ids]

    assert len(set(found)) == len(ids)
    assert all(len(name) <= 60 and "~" not in name for name in found)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("hello", "neither JSON nor CSV"),
        ("{", "not JSON"),
        ('{"schema":"heart-scorer/1","input":{"container":"x","blob":"a.csv"}}', "input container"),
        ('{"eventType":"Microsoft.Storage.BlobDeleted"}', "the worker ignores this event"),
        ('{"schema":"heart-scorer/1","records":[{"age":54,"age":45,"sex":1}]}', "duplicate key"),
    ],
)
def test_what_no_worker_could_read_is_said_and_stays(body: str, why: str, world: World) -> None:
    async def work() -> None:
        await world.poison.send(an_entry(body=body))

        with pytest.raises(NotReplayable, match=why):
            await replay_all(Storage(world))

        assert len(world.poison.bodies()) == 1
        assert world.queue.bodies() == []

    run_virtually(work())


def test_a_message_from_another_program_can_be_replayed_too(world: World) -> None:
    async def work() -> None:
        own = await world.poison.send(json.dumps(PATIENTS))
        [entry] = await read_all(world.poison)
        assert (entry.batch_id, entry.reason) == (own, "not an entry of the worker")

        await replay_all(Storage(world))

        await world.emptied()
        assert world.summary(f"{own}.r2")["rows"]["scored"] == 2

    run_virtually(work())


async def test_a_dropped_entry_is_gone_and_nothing_else(world: World) -> None:
    await world.poison.send(an_entry("one"))
    await world.poison.send(an_entry("two"))

    async with aclosing(walk(world.poison)) as walked:
        async for entry in walked:
            if entry.batch_id == "one":
                await drop_one(Storage(world), entry)

    assert [entry["batch_id"] for entry in world.poisoned()] == ["two"]


async def test_a_walk_sees_more_than_one_page_and_gives_all_back() -> None:
    queue = FakeQueue(FakeClock())
    for number in range(100):
        await queue.send(an_entry(f"batch-{number}"))

    found = await read_all(queue)

    assert [entry.batch_id for entry in found] == [f"batch-{n}" for n in range(100)]
    assert len(await queue.peek(200)) == 100


async def test_a_walk_that_is_interrupted_gives_back_what_it_took() -> None:
    queue = FakeQueue(FakeClock())
    for _ in range(40):
        await queue.send(an_entry())

    async def look() -> None:
        async with aclosing(walk(queue)) as entries:
            async for _ in entries:
                await asyncio.sleep(3600)

    task = asyncio.create_task(look())
    await asyncio.sleep(0)
    assert len(await queue.peek(200)) == 8
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert len(await queue.peek(200)) == 40


async def test_a_walk_of_more_than_a_minute_ends_and_shows_each_once() -> None:
    class Slow(FakeQueue):
        async def receive(self, limit: int, visibility: float) -> list[Message]:
            clock.seconds += HIDDEN / 2
            return await super().receive(limit, visibility)

    clock = FakeClock()
    queue = Slow(clock)
    for number in range(70):
        await queue.send(an_entry(f"batch-{number}"))

    found = [entry.batch_id async for entry in walk(queue)]

    assert len(found) == len(set(found))
    assert len(queue.bodies()) == 70


async def test_entries_that_another_command_holds_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    queue = FakeQueue(FakeClock())
    for _ in range(3):
        await queue.send(an_entry())
    await queue.receive(2, HIDDEN)

    assert len(await read_all(queue)) == 1
    assert "2 more are being read by another command" in capsys.readouterr().err


def entries(*facts: tuple[str, str, float]) -> list[Entry]:
    """Entries by batch id, reason, and age in hours."""
    now = datetime.now(UTC)
    return [
        Entry(
            Message(batch_id, "", "{}", 1, now - timedelta(hours=hours), now, now),
            {"batch_id": batch_id, "reason": reason, "body": "age,sex\n54,1"},
        )
        for batch_id, reason, hours in facts
    ]


FOUND = (("b", "gave up", 2.0), ("a", "input missing", 30.0), ("c", "gave up at byte 7", 49.0))


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["c", "a", "b"]),
        (Selection(ids=("a", "nobody")), ["a"]),
        (Selection(reason="gave up"), ["c", "b"]),
        (Selection(older_than=24), ["c", "a"]),
        (Selection(older_than=24, reason="gave up"), ["c"]),
        (Selection(limit=2), ["c", "a"]),
        (Selection(reason="no such reason"), []),
    ],
)
def test_entries_are_chosen_the_oldest_first(selection: Selection, expected: list[str]) -> None:
    assert [entry.batch_id for entry in selection.of(entries(*FOUND))] == expected


def test_the_body_of_an_entry_is_never_shown() -> None:
    [entry] = entries(("a", "gave up", 1))

    assert entry.shown() == {
        "batch_id": "a",
        "reason": "gave up",
        "time": None,
        "deliveries": None,
    }
