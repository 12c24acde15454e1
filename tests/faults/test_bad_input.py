"""Bad messages, files and rows in a real worker: each gets its outcome, and the worker goes on."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import uuid

import pytest

from shared.batches.message import event_batch_id
from shared.records.artifact import Artifact
from tests.faults.invariants import Failed, Sent, sent
from tests.faults.lab import Lab

pytestmark = pytest.mark.azurite

ONE_ROW = b"age,sex\n63,1\n"
GARBAGE = base64.b64encode(random.Random(1).randbytes(5000)).decode()
FILES = {
    "empty": (b"", "empty"),
    "no-age": (b"patient_id,sex\np,1\n", "age"),
    "garbage": (random.Random(2).randbytes(5000), "byte"),
    "no-text": (b"age,sex\n63,1\n\x9d", "not UTF-8"),
}


def envelope(batch_id: str, container: str, blob: str, etag: str | None = None) -> str:
    source = {"container": container, "blob": blob} | ({"etag": etag} if etag else {})
    return json.dumps({"schema": "heart-scorer/1", "batch_id": batch_id, "input": source})


def event(blob: str, etag: str, kind: str = "BlobCreated") -> str:
    subject = f"/blobServices/default/containers/incoming/blobs/{blob}"
    data = {"eTag": etag}
    return json.dumps(
        {"id": "1", "eventType": f"Microsoft.Storage.{kind}", "subject": subject, "data": data}
    )


async def test_every_message_gets_an_outcome_and_the_worker_goes_on(
    lab: Lab, batch: Sent, artifact: Artifact
) -> None:
    mark = uuid.uuid4().hex[:8]
    late = await asyncio.to_thread(sent, artifact, f"late-{mark}", ONE_ROW)
    expected: dict[str, str] = {}
    for name, (content, reason) in FILES.items():
        await lab.submit(Sent(f"{name}-{mark}", content or b"\n", ".csv", b""))
        expected[f"{name}-{mark}"] = reason
    for name, body, reason in (
        ("secret", envelope(f"secret-{mark}", "secrets", "a.csv"), "not an input container"),
        ("format", envelope(f"format-{mark}", "uploads", "a.xls"), "unknown format"),
    ):
        await lab.queue.send(body)
        expected[f"{name}-{mark}"] = reason
    for body, reason in ((GARBAGE, "base64"), ("hello", "neither"), ('{"age":', "not JSON")):
        expected[await lab.queue.send(body)] = reason
    changed = Sent(f"changed-{mark}", batch.content, ".csv", b"")
    await lab.submit(changed)
    await lab.replace("uploads", f"changed-{mark}.csv", ONE_ROW)
    expected[changed.batch_id] = "input changed"
    await lab.queue.send(event("other.csv", "0x1", kind="BlobDeleted"))
    waiting = await lab.queue.send(envelope(late.batch_id, "uploads", f"{late.batch_id}.csv"))
    await lab.submit(batch)

    with lab.worker(SCORER_SLOTS="2") as worker:
        for batch_id, reason in expected.items():
            summary = await lab.watch.wait(batch_id, 240)
            assert reason in summary["reason"]
            assert summary["deliveries"] == 1
        await lab.watch.wait(batch.batch_id, 240)
        # Released with a delay of 10 s, not failed.
        assert await lab.watch.look(late.batch_id) is None
        await lab.blobs.create("uploads", f"{late.batch_id}.csv", ONE_ROW, "text/csv")
        found = await lab.watch.wait(late.batch_id, 240)
        assert found["message_id"] == waiting
        assert worker.alive

    failed = [Failed(batch_id, reason) for batch_id, reason in expected.items()]
    await lab.kept(batch, late, *failed)


async def test_events_of_two_versions_lead_to_the_one_batch_of_the_newer(
    lab: Lab, artifact: Artifact
) -> None:
    name = f"visits #1? {uuid.uuid4().hex[:8]}.csv"
    await lab.replace("incoming", name, ONE_ROW)
    old = (await lab.blobs.facts("incoming", name)).etag
    await lab.replace("incoming", name, ONE_ROW + b"50,0\n")
    new = (await lab.blobs.facts("incoming", name)).etag
    second = event_batch_id("incoming", name, new)
    for etag in (old, new, new):
        await lab.queue.send(event(name, f'"{etag}"'))

    with lab.worker():
        await lab.kept(await asyncio.to_thread(sent, artifact, second, ONE_ROW + b"50,0\n"))
