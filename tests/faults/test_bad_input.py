"""Bad messages, files and rows before a real worker: each gets its outcome, and it goes on."""

from __future__ import annotations

import base64
import json
import random
import uuid

import pytest

from shared.message import event_batch_id
from tests.faults.invariants import Sent, check_emptied
from tests.faults.lab import SETTLED_WITHIN, Lab

pytestmark = pytest.mark.azurite

GARBAGE = base64.b64encode(random.Random(1).randbytes(5000)).decode()
FILES = {
    "empty": (b"", "empty"),
    "no-age": (b"patient_id,sex\np,1\n", "age"),
    "garbage": (random.Random(2).randbytes(5000), "byte"),
    "utf-16": ("age,sex\n63,1\n".encode("utf-16"), "UTF-16"),
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


async def test_whatever_is_sent_gets_an_outcome_and_the_worker_goes_on(
    lab: Lab, batch: Sent
) -> None:
    mark = uuid.uuid4().hex[:8]
    expected: dict[str, str] = {}
    for name, (content, reason) in FILES.items():
        await lab.submit(Sent(f"{name}-{mark}", content or b"\n", ".csv", b""))
        expected[f"{name}-{mark}"] = reason
    for name, body, reason in (
        ("secret", envelope(f"secret-{mark}", "secrets", "a.csv"), "not an input container"),
        ("format", envelope(f"format-{mark}", "uploads", "a.xlsx"), "unknown format"),
    ):
        await lab.queue.send(body)
        expected[f"{name}-{mark}"] = reason
    for body, reason in ((GARBAGE, "base64"), ("hello", "neither"), ('{"age":', "not JSON")):
        expected[await lab.queue.send(body)] = reason
    changed = Sent(f"changed-{mark}", batch.content, ".csv", b"")
    await lab.submit(changed)
    await lab.replace("uploads", f"changed-{mark}.csv", b"age,sex\n63,1\n")
    expected[changed.batch_id] = "input changed"
    await lab.queue.send(event("other.csv", "0x1", kind="BlobDeleted"))
    waiting = await lab.queue.send(envelope(f"late-{mark}", "uploads", f"late-{mark}.csv"))
    await lab.submit(batch)

    with lab.worker(SCORER_SLOTS="2") as worker:
        for batch_id, reason in expected.items():
            summary = await lab.watch.wait(batch_id, 30)
            assert summary["status"] == "failed"
            assert reason in summary["reason"]
            assert summary["deliveries"] == 1
        found = await lab.watch.wait(batch.batch_id, 30)
        assert found["status"] == "succeeded"
        # Given back with a delay of 10 s, not failed.
        assert await lab.watch.look(f"late-{mark}") is None
        await lab.blobs.create("uploads", f"late-{mark}.csv", b"age,sex\n63,1\n", "text/csv")
        late = await lab.watch.wait(f"late-{mark}", 30)
        assert worker.alive

    assert (late["status"], late["message_id"]) == ("succeeded", waiting)
    assert {entry["batch_id"] for entry in await lab.poisoned()} == set(expected)
    assert await lab.queue.length() == 0


async def test_an_event_of_a_replaced_version_is_superseded_without_a_poison_copy(
    lab: Lab,
) -> None:
    name = f"visits-{uuid.uuid4().hex[:8]}.csv"
    await lab.replace("incoming", name, b"age,sex\n63,1\n")
    old = (await lab.blobs.facts("incoming", name)).etag
    await lab.replace("incoming", name, b"age,sex\n63,1\n50,0\n")
    new = (await lab.blobs.facts("incoming", name)).etag
    for etag in (old, new, new):
        await lab.queue.send(event(name, f'"{etag}"'))

    with lab.worker():
        first = await lab.watch.wait(event_batch_id("incoming", name, old), 30)
        second = await lab.watch.wait(event_batch_id("incoming", name, new), 30)
        await check_emptied(lab.queue, SETTLED_WITHIN)

    assert (first["status"], first["reason"]) == ("failed", "superseded")
    assert (second["status"], second["rows"]["total"]) == ("succeeded", 2)
    assert await lab.poisoned() == []
