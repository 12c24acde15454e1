"""The contract of blobs, over Azurite in its own image."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.batches.ports import Blobs
from tests.conftest import open_azurite
from tests.contract.test_blobs import *  # noqa: F403  # every test of it, unchanged

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


@pytest.fixture  # type: ignore[no-redef]  # without the fake
async def blobs(connection_string: str) -> AsyncIterator[Blobs]:
    async with open_azurite(connection_string) as storage:
        await storage.blobs().create_container("scores")
        yield storage.blobs()
