"""Requests and answers are lost between a real worker and Azurite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest

from tests.e2e.client import get
from tests.faults.invariants import Failed, GivenBack, Sent
from tests.faults.lab import Lab, Worker
from tests.faults.proxy import Action, Proxy, proxied
from tests.faulty import Call
from tests.ports import free_port

pytestmark = pytest.mark.azurite


@pytest.fixture
async def proxy(connection_string: str) -> AsyncIterator[Proxy]:
    async with proxied(connection_string) as found:
        yield found


@pytest.mark.parametrize("action", ["drop answer", "drop request"])
async def test_a_loss_on_each_kind_of_call_changes_nothing(
    lab: Lab, batch: Sent, proxy: Proxy, action: Action
) -> None:
    first: set[Call] = {"receive", "renew", "stage", "commit", "summary", "delete", "facts"}

    def decide(call: Call, number: int) -> Action | None:
        # Late enough that some are in the middle of the file.
        return action if call in first and number == (3 if call == "stage" else 1) else None

    with lab.worker(AZURE_STORAGE_CONNECTION_STRING=proxy.connection_string) as worker:
        await worker.logged("worker_started")
        proxy.forget(decide)
        await lab.submit(batch)
        await lab.kept(batch)
        assert worker.alive

    assert {call for call in first if proxy.seen[call]} >= first - {"renew"}


async def test_a_download_that_breaks_off_is_taken_up_again(
    lab: Lab, batch: Sent, proxy: Proxy
) -> None:
    with lab.worker(AZURE_STORAGE_CONNECTION_STRING=proxy.connection_string) as worker:
        await worker.logged("worker_started")
        proxy.forget(
            lambda call, number: "cut answer" if call == "chunks" and number == 1 else None
        )
        await lab.submit(batch)
        await lab.kept(batch)
        assert worker.alive


@pytest.mark.whole_file
async def test_renewals_that_fail_for_most_of_a_lease_cost_nothing(
    lab: Lab, batch: Sent, proxy: Proxy
) -> None:
    settings = {
        "AZURE_STORAGE_CONNECTION_STRING": proxy.connection_string,
        "SCORER_BLOCK_ROWS": "20",
        "SCORER_VISIBILITY_SECONDS": "4",
        "SCORER_RENEW_SECONDS": "0.5",
    }
    with lab.worker(**settings) as worker:
        await worker.logged("worker_started")
        # Each block is lost once and tried again a second later, so the work takes its time.
        proxy.forget(partial(_slow_and_without_renewals, {"Retry-After": "1"}))
        await lab.submit(batch)
        await lab.kept(batch)
        assert worker.alive
        assert "renewal_failed" in worker.log.read_text()

    summary = await lab.watch.look(batch.batch_id)
    assert summary is not None
    assert summary["deliveries"] == 1


def _slow_and_without_renewals(headers: dict[str, str], call: Call, number: int) -> Action | None:
    if call == "renew" and number % 4:
        return 503, headers
    return "drop request" if call == "stage" and number in (2, 4, 6) else None


async def test_work_that_is_not_permitted_or_throttled_is_given_back_and_done_later(
    lab: Lab, batch: Sent, proxy: Proxy
) -> None:
    """One refusal for each of the first three commits; none is the fault of its batch."""
    refusals: list[Action] = [
        (401, {"x-ms-error-code": "InvalidAuthenticationInfo"}),
        (403, {"x-ms-error-code": "AuthorizationPermissionMismatch"}),
        (429, {"x-ms-error-code": "TooManyRequests"}),
    ]
    batches = [replace(batch, batch_id=f"{batch.batch_id}-{n}") for n in range(len(refusals))]

    def decide(call: Call, number: int) -> Action | None:
        return refusals[number - 1] if call == "commit" and number <= len(refusals) else None

    with lab.worker(AZURE_STORAGE_CONNECTION_STRING=proxy.connection_string) as worker:
        await worker.logged("worker_started")
        proxy.forget(decide)
        for one in batches:
            await lab.submit(one)
        await lab.kept(*batches)
        assert worker.alive

    for one in batches:
        summary = await lab.watch.look(one.batch_id)
        assert summary is not None
        assert summary["deliveries"] == 2


async def test_a_blob_that_is_archived_fails_and_its_neighbour_does_not(
    lab: Lab, batch: Sent, proxy: Proxy
) -> None:
    archived = (409, {"x-ms-error-code": "BlobArchived"})
    refused, neighbour = batch, replace(batch, batch_id=f"{batch.batch_id}-2")

    with lab.worker(AZURE_STORAGE_CONNECTION_STRING=proxy.connection_string) as worker:
        await worker.logged("worker_started")
        proxy.forget(lambda call, number: archived if (call, number) == ("chunks", 1) else None)
        await lab.submit(refused)
        await lab.watch.wait(refused.batch_id, 240)
        await lab.submit(neighbour)
        await lab.kept(Failed(refused.batch_id, "input unreadable"), neighbour)
        assert worker.alive

    summary = await lab.watch.look(refused.batch_id)
    assert summary is not None
    assert "BlobArchived" in summary["reason"]
    assert summary["deliveries"] == 1


async def test_a_missing_permission_is_named_before_any_message_is_taken(
    lab: Lab, batch: Sent, proxy: Proxy
) -> None:
    refused = {"x-ms-error-code": "AuthorizationPermissionMismatch"}
    proxy.decide = lambda call, number: (403, refused) if call == "renew" else None
    port = free_port()
    await lab.submit(batch)

    with lab.worker(
        AZURE_STORAGE_CONNECTION_STRING=proxy.connection_string, SCORER_HEALTH_PORT=str(port)
    ) as worker:
        await worker.logged("storage_not_ready", count=2)
        url = f"http://127.0.0.1:{port}"
        status, answer = await asyncio.to_thread(get, f"{url}/readyz")
        assert status == 503
        assert b"receive and renew messages" in answer
        assert b"AuthorizationPermissionMismatch" in answer
        assert (await asyncio.to_thread(get, f"{url}/livez"))[0] == 200
        assert proxy.seen["receive"] == 0

        proxy.decide = lambda call, number: None
        await lab.kept(batch)
        assert await asyncio.to_thread(get, f"{url}/readyz") == (
            200,
            b'{"ready": true, "missing": []}',
        )


async def test_storage_that_is_not_there_at_start_is_waited_for(
    lab: Lab, batch: Sent, proxy: Proxy
) -> None:
    proxy.decide = lambda call, number: "drop request"
    await lab.submit(batch)

    with lab.worker(AZURE_STORAGE_CONNECTION_STRING=proxy.connection_string) as worker:
        await worker.logged("storage_not_ready")
        proxy.decide = lambda call, number: None
        await lab.kept(batch)


async def test_a_worker_asked_to_stop_while_storage_is_away_ends(
    lab: Lab, batch: Sent, proxy: Proxy
) -> None:
    with lab.worker(
        AZURE_STORAGE_CONNECTION_STRING=proxy.connection_string, SCORER_GRACE_SECONDS="1"
    ) as worker:
        await worker.logged("worker_started")
        proxy.decide = lambda call, number: "drop request"
        await worker.logged("receive_failed")
        await lab.submit(batch)
        await _ends_in_order(worker)

    await lab.kept(GivenBack(batch.batch_id))


async def _ends_in_order(worker: Worker) -> None:
    worker.stop()
    assert await worker.ended(15) == 0
