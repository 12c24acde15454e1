"""Fixtures that many tests share: the trained artifact, Azurite, storage over it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.local import LOCAL, LocalError, azurite, install_azurite
from cli.local import artifact as trained
from shared.records.artifact import Artifact, load_artifact
from shared.settings import StorageSettings
from shared.storage.azure import Storage, open_storage

collect_ignore = ["clients"]  # they run in environments of their own: `make test-clients`


@contextmanager
def one_process_at_a_time() -> Iterator[None]:
    """Let one of pytest-xdist's processes train or install while the others wait."""
    LOCAL.mkdir(parents=True, exist_ok=True)
    with (LOCAL / "tests.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def artifact_dir() -> Path:
    """The demonstration model, trained first if there is none."""
    with one_process_at_a_time():
        return trained()


@pytest.fixture(scope="session")
def artifact(artifact_dir: Path) -> Artifact:
    return load_artifact(artifact_dir)


@contextmanager
def azurite_in_memory(logs: Path) -> Iterator[str]:
    """Azurite until the block ends. Without it: skip here, fail where CI is set."""
    try:
        with one_process_at_a_time():
            install_azurite()
        with azurite(None, logs) as started:
            yield started.connection_string
    except LocalError as error:
        if os.environ.get("CI"):
            pytest.fail(f"Azurite could not be started: {error}")
        pytest.skip(f"no Azurite: {error}")


@pytest.fixture(scope="session")
def connection_string(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Azurite in memory, for the session."""
    with azurite_in_memory(tmp_path_factory.mktemp("azurite")) as address:
        yield address


def open_azurite(connection_string: str) -> AbstractAsyncContextManager[Storage]:
    return open_storage(StorageSettings(connection_string=SecretStr(connection_string)))


@pytest.fixture
async def storage(connection_string: str) -> AsyncIterator[Storage]:
    """Azurite, with the queues and containers of the product."""
    async with open_azurite(connection_string) as opened:
        yield opened
