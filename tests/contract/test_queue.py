"""Behaviour of a queue that we rely on: the same tests over the fake and over Azurite.

Over Azurite by the account's key and by a shared access signature.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from shared.batches.ports import Queue
from shared.records.errors import OwnershipLost
from shared.testing import FakeClock, FakeQueue
from tests.conftest import open_azurite
from tests.signature import with_signature

Wait = Callable[[float], Awaitable[None]]


@pytest.fixture(
    params=[
        "fake",
        pytest.param("azurite", marks=pytest.mark.azurite),
        pytest.param("signature", marks=pytest.mark.azurite),
    ]
)
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Queue, Wait]]:
    if request.param == "fake":
        clock = FakeClock()
        yield FakeQueue(clock), clock.wait
        return
    text = request.getfixturevalue("connection_string")
    async with open_azurite(
        with_signature(text) if request.param == "signature" else text
    ) as storage:
        queue = storage.queue(f"test-{uuid.uuid4()}")
        await queue.create()
        yield queue, asyncio.sleep


@pytest.fixture
def queue(setup: tuple[Queue, Wait]) -> Queue:
    return setup[0]


@pytest.fixture
def wait(setup: tuple[Queue, Wait]) -> Wait:
    return setup[1]


async def test_a_received_message_is_hidden_until_its_visibility_ends(
    queue: Queue, wait: Wait
) -> None:
    await queue.send("body")

    [first] = await queue.receive(1, 1)
    hidden = await queue.receive(1, 1)
    await wait(1.3)
    [second] = await queue.receive(1, 1)

    assert hidden == []
    assert first.id == second.id
    assert (first.dequeue_count, second.dequeue_count) == (1, 2)


async def test_a_renewal_keeps_the_body_and_hides_the_message_longer(
    queue: Queue, wait: Wait
) -> None:
    await queue.send("body")
    [message] = await queue.receive(1, 1)

    renewed = await queue.renew(message, 60)
    await wait(1.3)

    assert renewed.body == "body"
    assert await queue.receive(1, 1) == []


async def test_the_receipt_before_a_renewal_is_void(queue: Queue) -> None:
    await queue.send("body")
    [message] = await queue.receive(1, 60)
    renewed = await queue.renew(message, 60)

    with pytest.raises(OwnershipLost):
        await queue.delete(message)
    await queue.delete(renewed)

    assert await queue.length() == 0


async def test_a_late_delete_leaves_the_new_owner_its_message(queue: Queue, wait: Wait) -> None:
    await queue.send("body")
    [first] = await queue.receive(1, 1)
    await wait(1.3)
    [second] = await queue.receive(1, 60)

    with pytest.raises(OwnershipLost):
        await queue.delete(first)

    assert await queue.length() == 1
    await queue.delete(second)


async def test_a_message_given_back_is_seen_at_once(queue: Queue) -> None:
    await queue.send("body")
    [message] = await queue.receive(1, 60)

    await queue.renew(message, 0)
    [again] = await queue.receive(1, 60)

    assert again.dequeue_count == 2


async def test_many_messages_are_received_together(queue: Queue) -> None:
    for number in range(5):
        await queue.send(f"body {number}")

    first = await queue.receive(3, 60)
    rest = await queue.receive(32, 60)

    assert len(first) == 3
    assert {m.body for m in first + rest} == {f"body {n}" for n in range(5)}


async def test_peeking_receives_nothing(queue: Queue) -> None:
    await queue.send("<body> & more")

    [seen] = await queue.peek(32)
    [taken] = await queue.receive(1, 60)

    assert seen.body == taken.body == "<body> & more"
    assert taken.dequeue_count == 1


async def test_creating_a_queue_twice_is_no_error(queue: Queue) -> None:
    await queue.send("body")

    await queue.create()

    assert await queue.length() == 1


@pytest.mark.parametrize("body", ["", " spaces ", "one\ntwo", "é ü 漢 😀", "a+b/c=&%3D"])
async def test_a_body_arrives_as_it_was_sent(queue: Queue, body: str) -> None:
    await queue.send(body)

    [message] = await queue.receive(1, 60)

    assert message.body == body


async def test_a_message_that_never_expires_has_its_arrival_time(queue: Queue) -> None:
    await queue.send("body")

    [message] = await queue.receive(1, 60)

    assert message.inserted.tzinfo is not None
    assert message.expires - message.inserted > timedelta(days=365)
