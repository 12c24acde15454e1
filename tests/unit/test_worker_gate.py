"""Messages run together or exclusively."""

from __future__ import annotations

import asyncio

import pytest

from shared.records.errors import Interrupted
from worker.gate import Gate


async def test_an_exclusive_message_waits_until_the_others_are_done() -> None:
    gate = Gate()
    leave, order = asyncio.Event(), []

    async def neighbour() -> None:
        with gate.shared():
            await leave.wait()
            order.append("neighbour left")

    async def suspect() -> None:
        with gate.shared():
            async with gate.exclusive():
                order.append("alone")

    tasks = [asyncio.create_task(neighbour()), asyncio.create_task(suspect())]
    await asyncio.sleep(0)
    leave.set()
    await asyncio.gather(*tasks)

    assert order == ["neighbour left", "alone"]


async def test_who_comes_meanwhile_is_turned_away() -> None:
    gate = Gate()

    with gate.shared():
        async with gate.exclusive():
            with pytest.raises(Interrupted), gate.shared():
                pass
            with pytest.raises(Interrupted):
                async with gate.exclusive():
                    pass

    with gate.shared():
        assert not gate.closed


async def test_a_gate_opens_again_when_the_one_alone_is_cancelled_while_it_waits() -> None:
    gate = Gate()

    async def suspect() -> None:
        with gate.shared():
            async with gate.exclusive():
                raise AssertionError("the neighbour never left")

    with gate.shared():
        task = asyncio.create_task(suspect())
        await asyncio.sleep(0)
        assert gate.closed
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert not gate.closed
