"""Health of the worker: its checks of storage, and the answers of its port."""

from __future__ import annotations

import asyncio
import socket
import time

import httpx2
import pytest

from shared.records.errors import StartupError, StorageUnavailable
from shared.testing import FakeBlobs, FakeClock, FakeQueue
from tests.faulty import Moment, faulty_blobs, faulty_queue
from worker.health import STALLED, HealthServer, StorageCheck, all_of


def check_refusing(*calls: str) -> tuple[StorageCheck, list[str]]:
    made: list[str] = []

    async def hook(moment: Moment) -> None:
        made.append(moment.call)
        if moment.when == "before" and moment.call in calls:
            raise StorageUnavailable("403 AuthorizationPermissionMismatch")

    queue = faulty_queue(FakeQueue(FakeClock()), hook)
    return StorageCheck(queue, queue, faulty_blobs(FakeBlobs(), hook)), made


async def test_a_worker_that_may_do_all_it_needs_has_no_faults() -> None:
    check, _ = check_refusing()

    assert check.faults  # not ready before storage was asked
    assert await check() == []
    assert check.faults == []


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("renew", "queue: receive and renew messages"),
        ("peek", "queue: peek at messages"),
        ("facts", "container incoming: read"),
        ("mark", "container scores: write"),
    ],
)
async def test_a_missing_permission_is_named(call: str, named: str) -> None:
    check, _ = check_refusing(call)

    faults = await check()

    assert named in faults[0]
    assert "AuthorizationPermissionMismatch" in faults[0]


async def test_when_one_call_fails_the_others_are_waited_for() -> None:
    ended: list[str] = []

    async def call(name: str, error: Exception | None = None) -> str:
        await asyncio.sleep(0 if error else 0.01)
        ended.append(name)
        if error:
            raise error
        return name

    with pytest.raises(KeyError):
        await all_of(call("first"), call("second", KeyError("second")), call("third"))

    assert ended == ["second", "first", "third"]
    assert await all_of(call("first"), call("third")) == ["first", "third"]


async def test_a_missing_container_is_named() -> None:
    blobs = FakeBlobs(("incoming", "scores"))

    faults = await StorageCheck(FakeQueue(FakeClock()), FakeQueue(FakeClock()), blobs)()

    assert faults == ["container uploads: read: ContainerNotFound"]


async def test_the_check_takes_no_message_and_leaves_nothing_to_see() -> None:
    queue, blobs = FakeQueue(FakeClock()), FakeBlobs()
    await queue.send("body")

    await StorageCheck(queue, FakeQueue(FakeClock()), blobs)()

    [message] = await queue.receive(1, 60)
    assert message.dequeue_count == 1
    assert blobs.names("scores") == []


def test_the_port_tells_alive_ready_and_metrics() -> None:
    turned, faults = [time.monotonic()], ["queue: receiving: 503"]
    server = HealthServer("127.0.0.1", 0, lambda: turned[0], lambda: faults)
    with httpx2.Client(base_url=f"http://127.0.0.1:{server.port}") as client:
        alive = client.get("/livez")
        waiting = client.get("/readyz")
        faults.clear()
        ready = client.get("/readyz")
        turned[0] -= STALLED + 1
        stalled = client.get("/livez")
        metrics = client.get("/metrics")
        elsewhere = client.get("/")

    found = (alive, waiting, ready, stalled, elsewhere)
    assert [answer.status_code for answer in found] == [200, 503, 200, 503, 404]
    assert waiting.json() == {"ready": False, "missing": ["queue: receiving: 503"]}
    assert "heart_scorer_message_duration_seconds" in metrics.text


async def test_a_loop_that_hangs_is_reported() -> None:
    server = HealthServer("127.0.0.1", 0, lambda: time.monotonic() - STALLED - 1, list)

    # Nothing is awaited: the loop is blocked meanwhile.
    assert httpx2.get(f"http://127.0.0.1:{server.port}/livez").status_code == 503


def test_idle_connections_do_not_block_other_callers(
    capfd: pytest.CaptureFixture[str],
) -> None:
    server = HealthServer("127.0.0.1", 0, time.monotonic, list)
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]

    assert httpx2.get(f"http://127.0.0.1:{server.port}/readyz").status_code == 200

    for connection in silent:
        connection.sendall(b"GET /readyz HTT")
        connection.close()
    assert httpx2.get(f"http://127.0.0.1:{server.port}/readyz").status_code == 200
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken_is_named() -> None:
    port = HealthServer("127.0.0.1", 0, time.monotonic, list).port

    with pytest.raises(StartupError, match="SCORER_HEALTH_PORT"):
        HealthServer("127.0.0.1", port, time.monotonic, list)


def test_ipv6_is_served_too() -> None:
    server = HealthServer("::1", 0, time.monotonic, list)

    assert httpx2.get(f"http://[::1]:{server.port}/livez").text == "ok"
