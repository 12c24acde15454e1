"""Everything that the promise names other than crashes: bad input, missing things, the model.

The worker is over queue and blobs in memory that answer as the live service does, in virtual time.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import random
from dataclasses import replace
from itertools import pairwise

import pytest

from shared import metrics
from shared.batches.message import event_batch_id
from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.records.errors import OwnershipLost, StorageRefused, StorageUnavailable
from shared.records.kinds import Outputs
from shared.records.scoring import Matrix
from shared.testing import run_virtually
from tests.faults.invariants import Failed, Fate, GivenBack, Sent, Watch, check_world, sent
from tests.faults.patients import patients
from tests.faulty import Moment
from tests.world import VISIBILITY, World
from worker.outcomes import POISON_BYTES

GOOD = b"patient_id,age,sex,cp\np-1,63,1,0\np-2,67,female,asymptomatic\n"
LIMITS = Limits(rows=100)


@pytest.fixture(scope="module")
def good(artifact: Artifact) -> Sent:
    return sent(artifact, "good", GOOD)


@pytest.fixture(scope="module")
def five_blocks(artifact: Artifact) -> Sent:
    return sent(artifact, "b", patients(500, seed=8), limits=LIMITS)


def envelope(batch_id: str, **rest: object) -> str:
    return json.dumps({"schema": "heart-scorer/1", "batch_id": batch_id} | rest)


def blob_event(blob: str, etag: str) -> str:
    return json.dumps(
        {
            "id": "e-1",
            "subject": f"/blobServices/default/containers/incoming/blobs/{blob}",
            "eventType": "Microsoft.Storage.BlobCreated",
            "data": {"eTag": f'"{etag}"', "url": "http://127.0.0.1:1/never-fetched"},
        }
    )


# Waiting and working.


async def submit_many(world: World, one: Sent, count: int) -> list[Sent]:
    """The same file as `b-0`, `b-1` and so on."""
    batches = [replace(one, batch_id=f"b-{number}") for number in range(count)]
    for batch in batches:
        await world.submit(batch.batch_id, batch.content)
    return batches


@pytest.mark.whole_file
def test_an_empty_queue_is_polled_less_and_less_often(artifact: Artifact, good: Sent) -> None:
    asked: list[float] = []

    async def hook(moment: Moment) -> None:
        if moment.call == "receive" and moment.when == "before":
            asked.append(asyncio.get_running_loop().time())

    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        async with world.working(world.worker(hook)):
            await world.clock.wait(120)
            before = len(asked)
            await world.submit("good", GOOD)
            await watch.wait("good", 13)
            await world.clock.wait(3)
        waits = [later - earlier for earlier, later in pairwise(asked[:before])]

        assert 0.08 <= waits[0] <= 0.12
        assert all(wait <= 12 for wait in waits)
        assert waits[-1] >= 8
        assert 15 < before < 30
        assert len(asked) - before >= 5  # one hit resets the wait
        await check_world(watch, world, good)

    run_virtually(scene())


@pytest.mark.parametrize("slots", [1, 4])
def test_no_more_messages_are_taken_than_there_are_slots(
    artifact: Artifact, good: Sent, slots: int
) -> None:
    inside, most = 0, 0

    async def hook(moment: Moment) -> None:
        nonlocal inside, most
        if moment.call == "facts" and "startup" not in str(moment.args):
            inside += 1 if moment.when == "before" else -1
            most = max(most, inside)
            await asyncio.sleep(1 if moment.when == "before" else 0)

    async def scene() -> None:
        world = World(artifact)
        batches = await submit_many(world, good, 12)
        await world.emptied(world.worker(hook, slots=slots))

        assert most == slots
        await check_world(Watch(world.blobs), world, *batches)

    run_virtually(scene())


def test_slow_deletes_beside_a_long_message_keep_nobody_waiting(
    artifact: Artifact, good: Sent
) -> None:
    deleted: list[float] = []

    async def hook(moment: Moment) -> None:
        if moment.call == "facts" and "b-0.csv" in moment.args:
            await asyncio.sleep(40)
        if moment.call == "delete" and moment.when == "before":
            await asyncio.sleep(0.5)
            deleted.append(asyncio.get_running_loop().time())

    async def scene() -> None:
        world = World(artifact)
        batches = await submit_many(world, good, 40)
        began = asyncio.get_running_loop().time()
        await world.emptied(world.worker(hook, slots=4))

        assert deleted[38] - began < 10  # each half second sees three of them or more
        await check_world(Watch(world.blobs), world, *batches)

    run_virtually(scene())


def test_receiving_pauses_only_while_storage_fails(artifact: Artifact, good: Sent) -> None:
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
        watch = Watch(world.blobs)
        worker = world.worker(hook)
        async with world.working(worker):
            await world.clock.wait(20)
            down = True
            await world.clock.wait(20)
            before = len(received)
            await world.clock.wait(300)
            during = len(received) - before
            down = False
            await world.submit("good", GOOD)
            await watch.wait("good", 13)

            assert not worker.stopping

        assert during == 0
        await check_world(watch, world, good)

    run_virtually(scene())


# The lease.


@pytest.mark.whole_file
@pytest.mark.parametrize("answer", ["404 MessageNotFound", "400 PopReceiptMismatch"])
def test_a_renewal_that_is_refused_ends_the_work_of_this_worker(
    artifact: Artifact, five_blocks: Sent, answer: str
) -> None:
    """Another worker has the message: nothing more is started, nothing deleted."""
    lost = False
    started: list[str] = []

    async def refused(moment: Moment) -> None:
        nonlocal lost
        if moment.when == "before" and lost and moment.call not in ("receive", "parts", "peek"):
            started.append(moment.call)
        if moment.call == "stage" and moment.when == "before":
            await asyncio.sleep(30)
        if moment.call == "renew" and moment.when == "after":
            lost = True
            raise OwnershipLost(answer)

    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        await world.submit("b", five_blocks.content)
        # The first delivery hides nothing, so that another worker has the message too.
        world.queue.shared = 1
        one = world.worker(refused, limits=LIMITS, slots=1)
        async with world.working(one):
            await world.clock.wait(1)
            other = world.worker(limits=LIMITS)
            await world.emptied(other, seconds=VISIBILITY)
            await watch.wait("b", 1)
            await world.clock.wait(200)

            assert lost
            assert started == []
            assert not one.stopping
        await check_world(watch, world, five_blocks)

    run_virtually(scene())


@pytest.mark.whole_file
@pytest.mark.parametrize("hangs", [0, 90], ids=["renewed as far as it may be", "renewal hangs"])
def test_a_message_that_expires_while_it_is_worked_on_is_finished(
    artifact: Artifact, five_blocks: Sent, hangs: float
) -> None:
    async def slow(moment: Moment) -> None:
        if moment.call == "stage" and moment.when == "before":
            await asyncio.sleep(50)
        if moment.call == "renew" and moment.when == "before":
            await asyncio.sleep(hangs)

    async def scene() -> None:
        world = World(artifact, lifetime=100)
        watch = Watch(world.blobs)
        await world.submit("b", five_blocks.content)
        async with world.working(world.worker(slow, limits=LIMITS)):
            await world.clock.wait(110)
            assert world.queue.bodies() == []
            assert await watch.look("b") is None
            await watch.wait("b", 300)

        assert world.summary("b")["deliveries"] == 1
        await check_world(watch, world, five_blocks)

    run_virtually(scene())


def test_a_message_about_to_expire_gets_an_outcome_before_it_does(artifact: Artifact) -> None:
    async def down(moment: Moment) -> None:
        if moment.call == "chunks":
            raise StorageUnavailable("503")

    async def scene() -> None:
        world = World(artifact, lifetime=900)
        await world.submit("b", GOOD)
        await world.emptied(world.worker(down))

        await check_world(Watch(world.blobs), world, Failed("b", "expired"))
        assert len(world.poisoned()) == 1

    run_virtually(scene())


# Permanent faults.


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("hello", "neither JSON nor CSV"),
        ('{"age": 63,', "not JSON"),
        ("\u20ac\u20ac\u20ac", "neither JSON nor CSV"),
        (base64.b64encode(b"\xff\xfe\x00garbage").decode(), "base64, but not of UTF-8"),
        (base64.b64encode(random.Random(3).randbytes(3700)).decode(), "base64, but not of UTF-8"),
        ("[" * 5000, "nested"),
        ("name,height\nx,1\n", "age"),
        ("age,cp\n63,1\n", "sex"),
        (envelope("b", input={"container": "secrets", "blob": "a.csv"}), "not an input container"),
        (envelope("b", input={"container": "uploads", "blob": "a.xls"}), "unknown format"),
        (envelope("b", input={"container": "uploads", "blob": "../a.csv"}), "not plain"),
        (envelope("b"), "one of input, records and csv"),
        (envelope("b", records=[], wrong=1), "wrong"),
        (json.dumps({"schema": "heart-scorer/9", "records": []}), "schema"),
    ],
)
def test_a_message_that_cannot_be_worked_on_fails_at_once_and_leaves_a_poison_copy(
    artifact: Artifact, good: Sent, body: str, reason: str
) -> None:
    async def scene() -> None:
        world = World(artifact)
        bad = await world.queue.send(body)
        neighbour = await world.queue.send(GOOD.decode())
        await world.emptied()

        [entry] = world.poisoned()
        assert entry["batch_id"] in (bad, "b")
        assert world.summary(entry["batch_id"])["deliveries"] == 1
        assert entry["body"] == body
        failed = Failed(entry["batch_id"], reason)
        await check_world(Watch(world.blobs), world, failed, replace(good, batch_id=neighbour))

    run_virtually(scene())


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_garbage_never_stops_a_worker(artifact: Artifact, good: Sent, seed: int) -> None:
    rng = random.Random(seed)
    texts = "".join(map(chr, [*range(32, 127), 233, 8364])) + '{}[]",:;\n'

    async def scene() -> None:
        world = World(artifact)
        ids = [
            await world.queue.send("".join(rng.choices(texts, k=rng.randrange(1, 5000))))
            for _ in range(30)
        ]
        neighbour = await world.queue.send(GOOD.decode())
        await world.emptied()

        failed = [Failed(message_id, "") for message_id in ids]
        await check_world(Watch(world.blobs), world, *failed, replace(good, batch_id=neighbour))

    run_virtually(scene())


@pytest.mark.parametrize(
    ("content", "suffix", "reason"),
    [
        (b"", ".csv", "empty"),
        (b"", ".jsonl", "empty"),
        (b"", ".json", "empty"),
        (b"patient_id,sex\np,1\n", ".csv", "age"),
        ("age,sex\n63,1\n".encode("utf-16")[:-1], ".csv", "UTF-16"),
        (b"age,sex\n63,1\n\x9d\x9d", ".csv", "not UTF-8"),
        (b"not gzip", ".csv.gz", "not gzip"),
        (random.Random(5).randbytes(5000), ".csv", "byte"),
        (random.Random(5).randbytes(5000), ".json", "byte"),
    ],
)
def test_a_file_that_is_no_table_fails_with_a_reason(
    artifact: Artifact, good: Sent, content: bytes, suffix: str, reason: str
) -> None:
    async def scene() -> None:
        world = World(artifact)
        await world.submit("bad", content, suffix)
        await world.submit("good", GOOD)
        await world.emptied()

        await check_world(Watch(world.blobs), world, Failed("bad", reason), good)

    run_virtually(scene())


def test_a_large_poison_keeps_its_body_beside_the_summary(artifact: Artifact) -> None:
    body = "x" * (POISON_BYTES + 1)

    async def scene() -> None:
        world = World(artifact)
        message_id = await world.queue.send(body)
        await world.emptied()

        [entry] = world.poisoned()
        assert entry["body_blob"] == f"{message_id}/message"
        assert world.blobs.content("scores", entry["body_blob"]) == body.encode()
        await check_world(Watch(world.blobs), world, Failed(message_id, "neither JSON nor CSV"))

    run_virtually(scene())


# Rows.


def test_bad_rows_say_why_and_the_batch_succeeds(artifact: Artifact) -> None:
    lines = [
        "63,1,0",
        "63,1",
        "63,1,0,9",
        "old,1,0",
        "inf,1,0",
        "63,1,?",
        ",1,0",
        "63,9,0",
        "1e400,1,0",
    ]
    batch = sent(artifact, "b", "\n".join(["age,sex,cp", *lines, ""]).encode())

    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", batch.content)
        await world.emptied()

        found = list(csv.DictReader(io.StringIO(world.scores("b").decode())))
        good = [row["row"] for row in found if not row["error"]]
        assert good == ["1", "6"]
        assert all(bool(row["probability"]) != bool(row["error"]) for row in found)
        assert "age" in found[3]["error"]
        assert "old" not in found[3]["error"]
        assert "cells" in found[1]["error"]
        assert world.summary("b")["rows"]["rejected"] == 7
        await check_world(Watch(world.blobs), world, batch)

    run_virtually(scene())


# The input: missing, changed, refused.


def test_a_missing_blob_is_waited_for(artifact: Artifact, good: Sent) -> None:
    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        source = {"container": "uploads", "blob": "late.csv"}
        await world.queue.send(envelope("good", input=source))
        async with world.working(world.worker()):
            await world.clock.wait(1000)
            assert await watch.look("good") is None
            world.blobs.put("uploads", "late.csv", GOOD)
            await watch.wait("good", 700)

        assert world.summary("good")["deliveries"] <= 9
        await check_world(watch, world, good)

    run_virtually(scene())


def test_a_blob_that_stays_missing_ends_the_batch_after_half_an_hour(artifact: Artifact) -> None:
    async def scene() -> None:
        world = World(artifact)
        watch = Watch(world.blobs)
        await world.queue.send(envelope("b", input={"container": "uploads", "blob": "never.csv"}))
        async with world.working(world.worker()):
            await world.clock.wait(1795)
            assert await watch.look("b") is None
            await watch.wait("b", 700)

        assert world.summary("b")["reason"] == "input missing"
        await check_world(watch, world, Failed("b", "input missing"))
        assert len(world.poisoned()) == 1

    run_virtually(scene())


def test_events_of_a_version_that_was_replaced_lead_to_the_one_batch_of_the_newer(
    artifact: Artifact,
) -> None:
    newer = GOOD + b"p-3,50,1,1\n"

    async def scene(expected: Sent) -> None:
        world = World(artifact)
        old = world.blobs.put("incoming", "a.csv", GOOD)
        new = world.blobs.put("incoming", "a.csv", newer)
        await world.queue.send(blob_event("a.csv", old))
        await world.queue.send(blob_event("a.csv", new))
        await world.emptied()

        batch_id = event_batch_id("incoming", "a.csv", new)
        await check_world(Watch(world.blobs), world, replace(expected, batch_id=batch_id))

    run_virtually(scene(sent(artifact, "newer", newer)))


def test_a_file_whose_metadata_were_set_after_the_upload_is_scored(artifact: Artifact) -> None:
    """Metadata change the version, and there is no event of that."""

    async def scene(expected: Sent) -> None:
        world = World(artifact)
        uploaded = world.blobs.put("incoming", "a.csv", GOOD)
        now = world.blobs.put("incoming", "a.csv", GOOD)
        await world.queue.send(blob_event("a.csv", uploaded))
        await world.emptied()
        world.blobs.put("incoming", "a.csv", GOOD)
        await world.queue.send(blob_event("a.csv", now))  # delivered twice, and late
        await world.emptied()

        batch_id = event_batch_id("incoming", "a.csv", now)
        await check_world(Watch(world.blobs), world, replace(expected, batch_id=batch_id))

    run_virtually(scene(sent(artifact, "a", GOOD)))


def test_a_dropped_file_that_changes_while_it_is_read_is_begun_again(artifact: Artifact) -> None:
    newer = GOOD + b"p-3,50,1,1\n"

    async def scene(expected: Sent) -> None:
        world = World(artifact)
        world.blobs.put("incoming", "a.csv", GOOD)
        etags: list[str] = []

        async def hook(moment: Moment) -> None:
            if moment.call == "chunks" and moment.when == "before" and not etags:
                etags.append(world.blobs.put("incoming", "a.csv", newer))

        await world.queue.send(blob_event("a.csv", "0x1"))
        await world.emptied(world.worker(hook))

        batch_id = event_batch_id("incoming", "a.csv", etags[0])
        await check_world(Watch(world.blobs), world, replace(expected, batch_id=batch_id))

    run_virtually(scene(sent(artifact, "newer", newer)))


def test_an_append_blob_is_scored_once_it_has_content(artifact: Artifact) -> None:
    async def scene(expected: Sent) -> None:
        world = World(artifact)
        created = world.blobs.put("incoming", "a.csv", b"")
        event = json.loads(blob_event("a.csv", created))
        event["data"] |= {"contentLength": 0, "blobType": "AppendBlob"}
        await world.queue.send(json.dumps(event))
        async with world.working(world.worker()):
            await world.clock.wait(5)
            etag = world.blobs.put("incoming", "a.csv", GOOD)
            await world.until(lambda: not world.queue.bodies())

        batch_id = event_batch_id("incoming", "a.csv", etag)
        await check_world(Watch(world.blobs), world, replace(expected, batch_id=batch_id))

    run_virtually(scene(sent(artifact, "a", GOOD)))


@pytest.mark.parametrize(
    "name",
    [
        "_SUCCESS",
        "ward/",
        "ward",
        "a.csv.tmp",
        "a.csv.crdownload",
        "~$a.csv",
        "ward/.a.csv",
        "0.csv",
    ],
)
def test_blobs_that_are_not_files_of_records_are_ignored_and_counted(
    artifact: Artifact, name: str
) -> None:
    def counted() -> float:
        return sum(
            sample.value
            for family in metrics.IGNORED.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        )

    async def scene() -> None:
        world = World(artifact)
        etag = world.blobs.put("incoming", name, b"")
        event = json.loads(blob_event(name, etag))
        event["data"]["contentLength"] = 0 if name == "0.csv" else 7
        await world.queue.send(json.dumps(event))
        await world.emptied()

        await check_world(Watch(world.blobs), world)

    before = counted()
    run_virtually(scene())
    assert counted() == before + 1


def test_an_envelope_of_another_version_fails_and_leaves_a_poison_copy(artifact: Artifact) -> None:
    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", GOOD)
        world.blobs.put("uploads", "b.csv", GOOD + GOOD)
        await world.emptied()

        await check_world(Watch(world.blobs), world, Failed("b", "input changed"))
        assert len(world.poisoned()) == 1

    run_virtually(scene())


def test_an_input_that_changes_while_it_is_read_fails_and_is_never_mixed(
    artifact: Artifact, five_blocks: Sent
) -> None:
    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", five_blocks.content)

        async def change(moment: Moment) -> None:
            if moment.call == "chunks" and moment.when == "after":
                world.blobs.put("uploads", "b.csv", GOOD)

        await world.emptied(world.worker(change, limits=LIMITS))

        await check_world(Watch(world.blobs), world, Failed("b", "replaced"))
        assert len(world.poisoned()) == 1

    run_virtually(scene())


def test_a_blob_that_storage_will_not_hand_out_fails_with_storages_code(artifact: Artifact) -> None:
    async def archived(moment: Moment) -> None:
        if moment.call == "chunks" and moment.when == "before":
            raise StorageRefused("storage refuses this: 409 BlobArchived")

    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", GOOD)
        await world.emptied(world.worker(archived))

        assert "BlobArchived" in world.summary("b")["reason"]
        assert world.summary("b")["deliveries"] == 1
        await check_world(Watch(world.blobs), world, Failed("b", "input unreadable"))

    run_virtually(scene())


# The model.


class MoodyModel:
    """The real model, which tests can make fail for some rows or all."""

    def __init__(self, inner: Artifact, *, broken: bool = False) -> None:
        self.inner = inner.model
        self.version = inner.model.version
        self.broken = broken
        self.refused_age = -1.0
        self.outside = False

    def outputs(self, rows: Matrix) -> Outputs:
        found = self.inner.outputs(rows)
        refused = rows[:, 0] == self.refused_age
        if refused.any() and not self.outside:
            raise RuntimeError("cannot")
        found[refused] = 7
        return found * 0 + 7 if self.broken else found


@pytest.mark.parametrize("outside", [False, True], ids=["raises", "answers outside [0, 1]"])
def test_rows_that_the_model_cannot_answer_are_rejected_while_it_is_sound(
    artifact: Artifact, outside: bool
) -> None:
    model = MoodyModel(artifact)
    model.outside = outside
    # The demonstration's golden records must not be among the refused.
    golden = {record.record.get("age") for record in artifact.manifest.golden}
    model.refused_age = next(age for age in (67.0, 51.5, 44.5) if age not in golden)
    moody = Artifact(artifact.manifest, artifact.sha256, model)
    content = b"age,sex\n63,1\n%g,1\n50,0\n" % model.refused_age

    async def scene(expected: Fate) -> None:
        world = World(moody)
        await world.submit("b", content)
        await world.emptied()

        assert world.summary("b")["rejections"] == {"model_error": 1}
        assert world.summary("b")["rows"]["scored"] == 2
        await check_world(Watch(world.blobs), world, expected)

    run_virtually(scene(sent(moody, "b", content)))


def test_a_broken_model_gives_everything_back_and_ends_the_process(
    artifact: Artifact, good: Sent
) -> None:
    async def scene() -> None:
        broken = Artifact(artifact.manifest, artifact.sha256, MoodyModel(artifact, broken=True))
        world = World(broken)
        watch = Watch(world.blobs)
        await world.submit("good", GOOD)
        worker = world.worker()
        await worker.run()

        assert worker.model_broken
        await check_world(watch, world, GivenBack("good"))
        [message] = await world.queue.receive(1, 60)
        assert message.dequeue_count == 2

        await world.queue.renew(message, 0)
        await world.emptied(world.worker(artifact=artifact))
        await check_world(watch, world, good)

    run_virtually(scene())


@pytest.mark.parametrize("call", ["stage", "commit", "summary"])
def test_a_refused_write_of_the_output_never_blames_the_input(
    artifact: Artifact, five_blocks: Sent, call: str
) -> None:
    refused: list[None] = []

    async def hook(moment: Moment) -> None:
        if (moment.when, moment.call) == ("before", call) and len(refused) < 3:
            refused.append(None)
            raise StorageRefused("storage refuses this: 409 InvalidBlobTier")

    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", five_blocks.content)
        await world.emptied(world.worker(hook, limits=LIMITS))

        assert len(refused) == 3
        await check_world(Watch(world.blobs), world, five_blocks)

    run_virtually(scene())
