"""The lease: renewals, the meaning of their failures, and when a message is no longer ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from shared.records.errors import OwnershipLost, StorageUnavailable
from shared.testing import FakeQueue, VirtualClock, run_virtually
from tests.faulty import Hook, Moment, faulty_queue
from tests.world import nothing
from worker.lease import Lease

Work = Callable[[FakeQueue, Lease], Awaitable[None]]


def hold(work: Work, hook: Hook = nothing, *, lifetime: float | None = None) -> None:
    """Receive one message, hold its lease (60 s, renewed every 20 s) in virtual time."""

    async def scene() -> None:
        clock = VirtualClock()
        queue = FakeQueue(clock, lifetime)
        await queue.send("body")
        [message] = await queue.receive(1, 60)
        lease = Lease(
            faulty_queue(queue, hook),
            message,
            visibility=60,
            every=20,
            received=clock(),
            expires=clock() + (message.expires - clock.now).total_seconds(),
            clock=clock,
        )
        async with lease:
            await work(queue, lease)

    run_virtually(scene())


def failing_renewals(failures: int, error: Exception, when: str = "before") -> Hook:
    """The first renewals fail, before or after storage acted on them."""
    left = iter(range(failures))

    async def hook(moment: Moment) -> None:
        if moment.call == "renew" and moment.when == when and next(left, None) is not None:
            raise error

    return hook


def test_renewals_keep_a_message_hidden_for_as_long_as_it_takes() -> None:
    async def work(queue: FakeQueue, lease: Lease) -> None:
        for _ in range(100):
            await asyncio.sleep(30)
            assert await queue.receive(1, 60) == []
            lease.check()
        await queue.delete((await _ended(lease)).message)
        assert await queue.length() == 0

    hold(work)


async def _ended(lease: Lease) -> Lease:
    await lease.__aexit__(None, None, None)
    return lease


def test_failed_renewals_are_tried_again_within_the_lease() -> None:
    async def work(queue: FakeQueue, lease: Lease) -> None:
        await asyncio.sleep(65)
        lease.check()
        assert await queue.receive(1, 60) == []

    hold(work, failing_renewals(35, StorageUnavailable("503")))


def test_a_renewal_that_fails_in_a_way_nobody_foresaw_is_a_failed_renewal() -> None:
    async def work(queue: FakeQueue, lease: Lease) -> None:
        await asyncio.sleep(65)
        lease.check()

    hold(work, failing_renewals(3, RuntimeError("what")))


def test_a_lease_that_could_not_be_renewed_ends_with_its_time() -> None:
    async def work(queue: FakeQueue, lease: Lease) -> None:
        await asyncio.sleep(59)
        lease.check()
        await asyncio.sleep(1)
        with pytest.raises(OwnershipLost):
            lease.check()
        assert not lease.lost  # no answer says so: the receipt may still be valid

    hold(work, failing_renewals(1000, StorageUnavailable("503")))


def test_no_renewal_is_tried_after_the_leases_end() -> None:
    tries: list[float] = []

    async def hook(moment: Moment) -> None:
        if moment.call == "renew":
            tries.append(asyncio.get_running_loop().time())
            raise StorageUnavailable("503")

    async def work(queue: FakeQueue, lease: Lease) -> None:
        await asyncio.sleep(600)

    hold(work, hook)

    assert len(tries) > 30
    assert max(tries) <= 60


def test_a_message_that_another_worker_took_is_lost() -> None:
    async def work(queue: FakeQueue, lease: Lease) -> None:
        stolen = lease.message
        await queue.renew(stolen, 0)
        [other] = await queue.receive(1, 60)
        await asyncio.sleep(21)
        assert lease.lost
        with pytest.raises(OwnershipLost):
            lease.check()
        await queue.delete(other)

    hold(work)


def test_a_lost_answer_to_a_renewal_ends_our_ownership_without_an_error() -> None:
    async def work(queue: FakeQueue, lease: Lease) -> None:
        await asyncio.sleep(21)
        lease.check()
        await asyncio.sleep(2)
        assert lease.lost

    hold(work, failing_renewals(1, StorageUnavailable("timed out"), when="after"))


def test_renewals_never_reach_past_the_messages_own_end() -> None:
    async def work(queue: FakeQueue, lease: Lease) -> None:
        await asyncio.sleep(95)
        lease.check()
        assert await queue.receive(1, 60) == []
        await asyncio.sleep(1000)
        assert await queue.length() == 0
        lease.check()  # nobody else can receive an expired message, so finish it

    hold(work, lifetime=100)


def test_a_message_refused_after_its_own_end_is_finished() -> None:
    async def hook(moment: Moment) -> None:
        if moment.call == "renew":
            await asyncio.sleep(90)  # a renewal that hangs until the message is gone

    async def work(queue: FakeQueue, lease: Lease) -> None:
        await asyncio.sleep(200)
        assert await queue.length() == 0
        assert not lease.lost
        lease.check()

    hold(work, hook, lifetime=100)


def test_the_end_of_a_lease_waits_for_a_renewal_under_way() -> None:
    async def hook(moment: Moment) -> None:
        if moment.call == "renew" and moment.when == "after":
            await asyncio.sleep(3)

    async def work(queue: FakeQueue, lease: Lease) -> None:
        await asyncio.sleep(21)
        await queue.delete((await _ended(lease)).message)
        assert await queue.length() == 0

    hold(work, hook)


def test_virtual_time_ends_before_rounding_keeps_a_timer_from_running() -> None:
    with pytest.raises(AssertionError, match="s of virtual time"):
        run(asyncio.sleep(1e7))


def test_virtual_time_does_not_hide_a_test_that_waits_for_nothing() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="nothing will ever happen"):
        run(forever())


def run(work: Coroutine[Any, Any, None]) -> None:
    run_virtually(work)
