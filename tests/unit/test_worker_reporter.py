"""A worker's reports: presence, gauges, notes of retries, events in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from shared import metrics
from shared.batches.message import Envelope, EnvelopeInput
from shared.batches.presence import RENEW_SECONDS, WORKERS, read_retries, read_retry, read_workers
from shared.batches.submission import Submission, submit
from shared.files.base import Limits
from shared.records.artifact import Artifact
from shared.records.errors import StorageUnavailable
from shared.testing import FakeBlobs, FakeQueue, VirtualClock, run_virtually
from tests.builders import a_csv, a_patient
from tests.world import World
from worker.reporter import Reporter

OUTCOME = {"batch_id": "ward-7", "status": "succeeded", "time": "2026-01-01T00:00:00Z"}


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


def a_reporter(queue: FakeQueue, poison: FakeQueue, blobs: FakeBlobs) -> Reporter:
    return Reporter(
        queue,
        poison,
        blobs,
        model="1.0.0",
        slots=4,
        in_use=lambda: 2,
        last_outcome=lambda: OUTCOME,
    )


def value(name: str) -> float | None:
    return metrics.worker_registry().get_sample_value(f"heart_scorer_{name}")


def events(caplog: pytest.LogCaptureFixture, name: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.getMessage() == name]


def test_the_record_is_renewed_while_the_worker_runs_and_deleted_when_it_exits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = VirtualClock()
    queue, poison, blobs = FakeQueue(clock), FakeQueue(clock), FakeBlobs([WORKERS])

    async def work() -> None:
        await queue.send("age,sex\n54,1\n")
        await poison.send("{}")
        running = asyncio.create_task(a_reporter(queue, poison, blobs).run())
        await asyncio.sleep(4 * RENEW_SECONDS + 1)
        [seen] = await read_workers(blobs)
        assert (seen.presence.in_use, seen.presence.slots) == (2, 4)
        assert seen.presence.last_outcome == OUTCOME
        assert value("messages_waiting") == 1
        assert value("poison_messages") == 1
        assert (value("oldest_message_age_seconds") or 0) > 3 * RENEW_SECONDS
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await read_workers(blobs) == []

    run_virtually(work())
    assert len(events(caplog, "worker_alive")) == 3


def test_a_report_that_fails_is_logged_once_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Refusing(FakeQueue):
        async def length(self) -> int:
            raise StorageUnavailable("storage does not permit this: 403", why="not_permitted")

    clock = VirtualClock()
    queue, poison = FakeQueue(clock), Refusing(clock)

    async def work() -> None:
        running = asyncio.create_task(a_reporter(queue, poison, FakeBlobs([])).run())
        await asyncio.sleep(10 * RENEW_SECONDS)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run_virtually(work())
    parts = [record.part for record in events(caplog, "report_failed")]  # type: ignore[attr-defined]
    assert sorted(parts) == ["poison", "presence", "sweep"]


def test_a_message_without_its_blob_is_noted_until_it_has_an_outcome(artifact: Artifact) -> None:
    world = World(artifact)

    async def work() -> None:
        await world.blobs.create_container(WORKERS)
        envelope = Envelope(
            batch_id="ward", input=EnvelopeInput(container="uploads", blob="ward.csv")
        )
        await world.queue.send(envelope.text())
        async with world.working(world.worker()):
            await asyncio.sleep(15)
            retry = await read_retry(world.blobs, "ward")
            assert retry is not None
            assert retry.reason == "the input blob is not there"
            assert datetime.fromisoformat(retry.next_attempt).tzinfo is UTC or retry.next_attempt
            world.blobs.put("uploads", "ward.csv", a_csv(a_patient()))
            await world.until(lambda: world.has_summary("ward"))
            await asyncio.sleep(1)
            assert await read_retries(world.blobs) == []

    run_virtually(work())


def test_failures_are_logged_with_their_reason_and_batch(
    artifact: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(artifact)

    async def work() -> None:
        await world.submit("ward", b"sex,chol\n1,233\n")
        await world.emptied()

    run_virtually(work())
    [failed] = events(caplog, "batch_failed")
    [delivery] = events(caplog, "delivery_failed")
    for record in (failed, delivery):
        assert record.batch_id == "ward"  # type: ignore[attr-defined]
        assert "`age`" in record.reason  # type: ignore[attr-defined]
    [taken] = events(caplog, "message_taken")
    assert taken.deliveries == 1  # type: ignore[attr-defined]
    assert [record.batch_id for record in events(caplog, "batch_started")] == ["ward"]  # type: ignore[attr-defined]
    assert world.summary("ward")["model"]["version"] == artifact.manifest.version


def test_a_running_batch_that_is_cancelled_stops_between_blocks(artifact: Artifact) -> None:
    world = World(artifact)
    content = a_csv(*(a_patient(patient_id=str(number)) for number in range(6000)))
    staged: list[str] = []

    async def cancels_after_the_first_block(moment: object) -> None:
        if getattr(moment, "call", "") == "stage" and getattr(moment, "when", "") == "after":
            staged.append("block")
            if len(staged) == 1:
                from shared.batches.cancellation import cancel

                await cancel(world.blobs, "ward")

    async def pieces() -> AsyncIterator[bytes]:
        yield content

    async def work() -> None:
        await submit(world.blobs, world.queue, "ward", Submission("csv", gzip=False), pieces())
        worker = world.worker(cancels_after_the_first_block, limits=Limits(rows=100))
        await world.emptied(worker)

    run_virtually(work())
    assert world.summary("ward")["status"] == "cancelled"
    assert "ward/scores.csv" not in world.blobs.names("scores")
    assert world.poisoned() == []
