"""The API in this process, as tests call it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
from starlette.testclient import TestClient

from api.app import create_app
from api.store import Connection
from shared.records.artifact import Artifact
from shared.records.errors import StorageUnavailable
from shared.settings import ApiSettings
from shared.testing import FakeBlobs, FakeClock, FakeQueue


class FakeStorage:
    """Queue and blobs in memory, as the API's storage."""

    def __init__(self) -> None:
        self.queue = FakeQueue(FakeClock())
        self.blobs = FakeBlobs()
        self.closed = False

    async def connect(self, _: ApiSettings) -> Connection:
        return Connection(self.queue, self.blobs, self.close)

    def finish(self, batch_id: str, **changes: Any) -> None:
        """Leave the result and the summary of a batch as the worker does."""
        content = b"row,probability\n1,0.5\n"
        etag = self.blobs.put("scores", f"{batch_id}/scores.csv", content)
        summary = {
            "batch_id": batch_id,
            "status": "succeeded",
            "rows": {"total": 3, "scored": 2, "rejected": 1, "with_warnings": 0},
            "rejections": {"out_of_range": 1},
            "identity": {
                "container": "uploads",
                "blob": f"{batch_id}/input.csv",
                "include_input": False,
            },
            "output": {
                "container": "scores",
                "blob": f"{batch_id}/scores.csv",
                "etag": etag,
                "bytes": len(content),
            },
        }
        text = json.dumps(summary | changes).encode()
        self.blobs.put("scores", f"{batch_id}/summary.json", text)

    async def close(self) -> None:
        self.closed = True


async def no_storage(_: ApiSettings) -> Connection:
    raise StorageUnavailable("storage does not answer: ServiceRequestError")


def a_client(
    artifact: Artifact,
    connect: Callable[[ApiSettings], Awaitable[Connection]] = no_storage,
    **settings: Any,
) -> TestClient:
    """A client of an API with these settings. What fails in the app is an answer, as outside.

    It runs each request in an event loop of its own: requests at once need `an_async_client`.
    """
    app = create_app(artifact, ApiSettings(**settings), connect)
    return TestClient(app, raise_server_exceptions=False)


def an_async_client(
    artifact: Artifact,
    connect: Callable[[ApiSettings], Awaitable[Connection]] = no_storage,
    **settings: Any,
) -> httpx2.AsyncClient:
    """The same for requests at once: all run in the caller's event loop, as in a process."""
    app = create_app(artifact, ApiSettings(**settings), connect)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://testserver")


def errors_of(answer: Any) -> list[tuple[str, str]]:
    """Pointer and code of each fault of a problem."""
    return [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]]
