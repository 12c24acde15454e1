"""How messages and files become batches, with a worker over queue and blobs in memory."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json

import pytest

from shared.batches.message import event_batch_id
from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.records.schema import FieldSpec, FieldTable
from shared.testing import run_virtually
from tests.faulty import Moment
from tests.world import World

GOOD = b"patient_id,age,sex,cp\np-1,63,1,0\np-2,67,female,asymptomatic\n"


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def envelope(batch_id: str, **rest: object) -> str:
    return json.dumps({"schema": "heart-scorer/1", "batch_id": batch_id} | rest)


def blob_event(blob: str, etag: str, container: str = "incoming") -> str:
    return json.dumps(
        {
            "id": "e-1",
            "subject": f"/blobServices/default/containers/{container}/blobs/{blob}",
            "eventType": "Microsoft.Storage.BlobCreated",
            "data": {"eTag": f'"{etag}"', "url": "http://127.0.0.1:1/never-fetched"},
        }
    )


def send_and_work(artifact: Artifact, *bodies: str) -> tuple[World, list[str]]:
    """Send texts, work until none is left; return the world and the messages' ids."""

    async def scene() -> tuple[World, list[str]]:
        world = World(artifact)
        ids = [await world.queue.send(body) for body in bodies]
        await world.emptied()
        return world, ids

    return run_virtually(scene())


def test_a_file_is_scored_row_for_row_and_its_message_ends(artifact: Artifact) -> None:
    async def scene() -> None:
        world = World(artifact)
        message_id = await world.submit("b-1", GOOD)
        await world.emptied()

        found = rows(world.scores("b-1"))
        summary = world.summary("b-1")
        assert [row["row"] for row in found] == ["1", "2"]
        assert [row["patient_id"] for row in found] == ["p-1", "p-2"]
        assert all(0 < float(row["probability"]) < 1 for row in found)
        assert summary["status"] == "succeeded"
        assert summary["rows"] == {"total": 2, "scored": 2, "rejected": 0, "with_warnings": 0}
        assert summary["identity"]["blob"] == "b-1.csv"
        assert summary["output"]["bytes"] == len(world.scores("b-1"))
        assert summary["message_id"] == message_id
        assert summary["deliveries"] == 1
        assert world.poisoned() == []

    run_virtually(scene())


def test_bare_records_go_under_the_messages_id(artifact: Artifact) -> None:
    record = json.dumps({"patient_id": "p", "age": 63, "sex": "male"})
    encoded = base64.b64encode(GOOD).decode()

    world, [one, many, table] = send_and_work(artifact, record, f"[{record},{record}]", encoded)

    assert world.summary(one)["rows"]["scored"] == 1
    assert world.summary(many)["rows"]["scored"] == 2
    assert world.summary(table)["rows"]["scored"] == 2
    assert json.loads(world.scores(one, "jsonl"))["row"] == 1


@pytest.mark.parametrize(
    ("content", "suffix"), [(b"[]", ".json"), (b"\n \n\n", ".jsonl"), (b"age,sex\n", ".csv")]
)
def test_a_file_without_rows_is_a_batch_without_rows(
    artifact: Artifact, content: bytes, suffix: str
) -> None:
    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", content, suffix)
        await world.emptied()

        summary = world.summary("b")
        assert (summary["status"], summary["rows"]["total"]) in [("succeeded", 0), ("failed", 0)]
        assert (suffix == ".jsonl") == (summary["status"] == "failed")

    run_virtually(scene())


def test_blocks_of_blank_lines_are_no_blocks(artifact: Artifact) -> None:
    line = b'{"age": 63, "sex": 1}\n'

    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", line + b"\n" * 9 + line, ".jsonl")
        await world.emptied(world.worker(limits=Limits(rows=2)))

        assert world.summary("b")["rows"]["total"] == 2
        found = [json.loads(text) for text in world.scores("b", "jsonl").splitlines()]
        assert [row["row"] for row in found] == [1, 2]

    run_virtually(scene())


def test_events_of_other_kinds_and_containers_leave_nothing(artifact: Artifact) -> None:
    other = blob_event("a.csv", "1").replace("BlobCreated", "BlobDeleted")

    world, _ = send_and_work(artifact, other, blob_event("a.csv", "1", "scores"))

    assert world.blobs.names("scores") == []
    assert world.poisoned() == []


def test_an_event_names_its_batch_by_the_version_of_the_blob(artifact: Artifact) -> None:
    async def scene() -> None:
        world = World(artifact)
        etag = world.blobs.put("incoming", "ward/visits.csv", GOOD)
        event = blob_event("ward/visits.csv", etag)
        for body in (event, event, base64.b64encode(event.encode()).decode()):
            await world.queue.send(body)
        await world.emptied()

        expected = hashlib.sha256(f"incoming\nward/visits.csv\n{etag}".encode()).hexdigest()[:12]
        assert event_batch_id("incoming", "ward/visits.csv", etag) == f"visits-{expected}"
        assert world.blobs.names("scores") == [
            f"visits-{expected}/scores.csv",
            f"visits-{expected}/summary.json",
        ]

    run_virtually(scene())


def test_a_fault_of_ours_ends_in_poison_and_not_in_a_loop(artifact: Artifact) -> None:
    async def fault(moment: Moment) -> None:
        if moment.call == "chunks":
            raise KeyError("nobody foresaw this")

    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", GOOD)
        await world.emptied(world.worker(fault), seconds=7200)

        assert "gave up at byte 0" in world.summary("b")["reason"]
        assert world.summary("b")["deliveries"] == 7
        assert len(world.poisoned()) == 1

    run_virtually(scene())


def test_names_that_no_header_can_carry_are_carried(artifact: Artifact) -> None:
    name = "krankenhäuser-" + "病" * 1000
    columns = ",".join(f"{'欄' * 60}{number}" for number in range(50))

    async def scene() -> None:
        world = World(artifact)
        world.blobs.put("uploads", name + ".csv", f"age,sex,{columns}\n63,1{',x' * 50}\n".encode())
        source = {"container": "uploads", "blob": name + ".csv"}
        await world.queue.send(envelope("b", input=source, traceparent="ü" * 4000))
        await world.emptied()

        facts = await world.blobs.facts("scores", "b/scores.csv")
        assert world.summary("b")["identity"]["blob"] == name + ".csv"
        assert world.summary("b")["ignored_column_count"] == 50
        assert all(value.isascii() and value.isprintable() for value in facts.metadata.values())
        assert sum(len(key) + len(value) for key, value in facts.metadata.items()) < 8000

    run_virtually(scene())


def test_a_file_may_lack_hundreds_of_fields(artifact: Artifact) -> None:
    table = artifact.manifest.fields
    others = [
        FieldSpec(name=f"{'x' * 50}{n}", title="", kind="number", accept=(0, 1), training=(0, 1))
        for n in range(500)
    ]
    unused = tuple(field.model_copy(update={"used": False}) for field in others)
    wide = FieldTable(**table.model_dump() | {"fields": (*table.fields, *unused)})
    manifest = artifact.manifest.model_copy(update={"fields": wide})

    async def scene() -> None:
        world = World(Artifact(manifest, artifact.sha256, artifact.model))
        await world.submit("b", GOOD)
        await world.emptied()

        facts = await world.blobs.facts("scores", "b/scores.csv")
        summary = world.summary("b")
        assert summary["rows"]["scored"] == 2
        assert summary["absent_field_count"] == 500 + len(table.fields) - 3
        assert 0 < len(summary["absent_fields"]) < 500
        assert sum(len(key) + len(value) for key, value in facts.metadata.items()) < 8000

    run_virtually(scene())


@pytest.mark.parametrize("commit", [None, "", "abc123", "{nope", "{}", "W10=", '{"counts": []}'])
def test_a_result_that_no_worker_wrote_is_not_taken_for_ones_own(
    artifact: Artifact, commit: str | None
) -> None:
    metadata = {} if commit is None else {"commit": commit}

    async def scene() -> None:
        world = World(artifact)
        await world.blobs.create("scores", "b/scores.csv", b"whose?", "text/csv", metadata)
        message_id = await world.submit("b", GOOD)
        await world.emptied()

        summary = world.summary(f"b~{message_id}")
        assert (summary["status"], summary["deliveries"]) == ("failed", 1)
        assert "no worker wrote" in summary["reason"]
        assert len(world.poisoned()) == 1
        assert world.scores("b") == b"whose?"

    run_virtually(scene())


def test_logs_hold_no_name_of_a_dropped_file(
    artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        world = World(artifact)
        for content in (GOOD, b"no header\n"):
            etag = world.blobs.put("incoming", "Jane Doe.csv", content)
            await world.queue.send(blob_event("Jane Doe.csv", etag))
            await world.emptied()
        await world.queue.send(blob_event("Jane Doe.pdf", "0x1"))
        await world.emptied()

    caplog.set_level("INFO")
    run_virtually(scene())

    extras = [str(vars(record)) for record in caplog.records]
    assert any("batch_committed" in text for text in extras)
    assert sum("batch_failed" in text for text in extras) == 2
    assert not any("Jane" in text for text in extras)


def test_ids_that_nobody_chose_cost_no_claim(artifact: Artifact) -> None:
    calls: list[str] = []

    async def hook(moment: Moment) -> None:
        if moment.when == "before" and moment.call not in ("receive", "parts", "peek"):
            calls.append(moment.call)

    async def scene() -> None:
        world = World(artifact)
        await world.queue.send(GOOD.decode())
        await world.emptied(world.worker(hook))

    run_virtually(scene())

    assert calls == ["commit", "summary", "delete"]


def test_a_file_of_too_many_blocks_is_refused_before_it_is_read(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("worker.result.MAX_BLOCKS", 3)

    async def hook(moment: Moment) -> None:
        calls.append(moment.call)

    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", GOOD * 100)
        await world.emptied(world.worker(hook, limits=Limits(size=1000)))

        assert "more than 3 blocks" in world.summary("b")["reason"]

    run_virtually(scene())
    assert "chunks" not in calls


def test_a_file_of_too_many_short_rows_is_refused_at_the_block_that_is_too_many(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("worker.result.MAX_BLOCKS", 3)

    async def hook(moment: Moment) -> None:
        if moment.when == "before":
            calls.append(moment.call)

    async def scene() -> None:
        world = World(artifact)
        await world.submit("b", b"age,sex\n" + b"63,1\n" * 10)
        await world.emptied(world.worker(hook, limits=Limits(rows=1)))

        assert "more than 3 blocks" in world.summary("b")["reason"]

    run_virtually(scene())
    assert calls.count("stage") <= 3
