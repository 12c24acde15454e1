"""The contract of a queue, over Azurite in its own image."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from shared.batches.ports import Queue
from tests.conftest import open_azurite
from tests.contract.test_queue import *  # noqa: F403  # every test of it, unchanged
from tests.contract.test_queue import Wait

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


@pytest.fixture  # type: ignore[no-redef]  # without the fake
async def setup(
    connection_string: str,
) -> AsyncIterator[tuple[Queue, Wait]]:
    async with open_azurite(connection_string) as storage:
        queue = storage.queue(f"test-{uuid.uuid4()}")
        await queue.create()
        yield queue, asyncio.sleep
