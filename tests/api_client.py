"""The API in this process, as tests call it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.testclient import TestClient

from api.app import create_app
from api.store import Connection
from shared.artifact import Artifact
from shared.errors import StorageUnavailable
from shared.settings import ApiSettings
from tests.fakes import FakeBlobs, FakeClock, FakeQueue


class FakeStorage:
    """Queue and blobs in memory, as the API's storage."""

    def __init__(self) -> None:
        self.queue = FakeQueue(FakeClock())
        self.blobs = FakeBlobs()
        self.closed = False

    async def connect(self, _: ApiSettings) -> Connection:
        return Connection(self.queue, self.blobs, self.close)

    async def close(self) -> None:
        self.closed = True


async def no_storage(_: ApiSettings) -> Connection:
    raise StorageUnavailable("storage does not answer: ServiceRequestError")


def a_client(
    artifact: Artifact,
    connect: Callable[[ApiSettings], Awaitable[Connection]] = no_storage,
    **settings: Any,
) -> TestClient:
    """A client of an API with these settings. What fails in the app is an answer, as outside."""
    app = create_app(artifact, ApiSettings(**settings), connect)
    return TestClient(app, raise_server_exceptions=False)


def errors_of(answer: Any) -> list[tuple[str, str]]:
    """Pointer and code of each fault of a problem."""
    return [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]]
