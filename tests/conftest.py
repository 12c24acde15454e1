"""Fixtures that many tests share: the trained artifact, Azurite, storage over it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.local import LocalError, azurite
from cli.local import artifact as trained
from shared.records.artifact import Artifact, load_artifact
from shared.settings import StorageSettings
from shared.storage.azure import Storage, open_storage


@pytest.fixture(scope="session")
def artifact_dir() -> Path:
    """The demonstration model, trained first if there is none."""
    return trained()


@pytest.fixture(scope="session")
def artifact(artifact_dir: Path) -> Artifact:
    return load_artifact(artifact_dir)


@pytest.fixture(scope="session")
def connection_string(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Azurite in memory, for the session. Not to be had: skip here, fail where CI is set."""
    logs = tmp_path_factory.mktemp("azurite")
    try:
        running = azurite(None, logs)
        with running as text:
            yield text
    except LocalError as error:
        if os.environ.get("CI"):
            pytest.fail(f"Azurite could not be started: {error}")
        pytest.skip(f"no Azurite: {error}")


def open_azurite(connection_string: str) -> AbstractAsyncContextManager[Storage]:
    return open_storage(StorageSettings(connection_string=SecretStr(connection_string)))


@pytest.fixture
async def storage(connection_string: str) -> AsyncIterator[Storage]:
    """Azurite, with the queues and containers of the product."""
    async with open_azurite(connection_string) as opened:
        yield opened
