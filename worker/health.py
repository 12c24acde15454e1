"""Health and metrics of the worker on a port of their own, and what storage must permit."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

from aiohttp import web
from prometheus_client import generate_latest

from shared.errors import InputUnreadable, NotFound, OwnershipLost, StorageError
from shared.ports import Blobs, Message, Queue
from worker.processor import INPUT_CONTAINERS, SCORES

STALLED = 60
"""Seconds without a turn of the loop after which the process is not alive."""


class StorageCheck:
    """Asks queue and containers, and remembers the answer for readiness."""

    def __init__(self, queue: Queue, poison: Queue, blobs: Blobs) -> None:
        self._queue = queue
        self._poison = poison
        self._blobs = blobs
        self.faults: list[str] = ["storage was not asked yet"]

    async def __call__(self) -> AsyncIterator[str]:
        """Yield a line for each permission or resource that is missing."""
        self.faults = [fault async for fault in self._ask()]
        for fault in self.faults:
            yield fault

    async def _ask(self) -> AsyncIterator[str]:
        # A receipt that never was: permitted calls answer that there is no such message.
        now = datetime.now(UTC)
        nobody = Message(str(uuid.uuid4()), "AgAAAAMAAAAAAAAA", "", 1, now, now + timedelta(days=7))
        try:
            await self._queue.renew(nobody, 1)
        except OwnershipLost:
            pass
        except StorageError as error:
            yield f"queue: renewing messages: {error.reason}"
        try:
            await self._queue.peek(1)
        except StorageError as error:
            yield f"queue: receiving: {error.reason}"
        for container in sorted(INPUT_CONTAINERS | {SCORES}):
            try:
                await self._blobs.facts(container, "startup-check")
            except NotFound as error:
                if error.reason == "ContainerNotFound":
                    yield f"container {container}: does not exist"
            except StorageError as error:
                yield f"container {container}: reading: {error.reason}"
        try:
            await self._blobs.stage(SCORES, "startup-check", "0" * 64, b"x")
        except (StorageError, InputUnreadable) as error:
            yield f"container {SCORES}: writing: {error.reason}"


async def start_health(
    host: str, port: int, turned: Callable[[], float], faults: Callable[[], list[str]]
) -> tuple[web.AppRunner, int]:
    """Serve /livez, /readyz and /metrics. Returns the runner and the port that was bound."""

    async def livez(_: web.Request) -> web.Response:
        alive = time.monotonic() - turned() < STALLED
        return web.Response(status=200 if alive else 503, text="ok" if alive else "stalled")

    async def readyz(_: web.Request) -> web.Response:
        missing = faults()
        body = json.dumps({"ready": not missing, "missing": missing})
        return web.Response(
            status=503 if missing else 200, text=body, content_type="application/json"
        )

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    app = web.Application()
    app.add_routes(
        [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    return runner, runner.addresses[0][1]
