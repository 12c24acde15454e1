"""Health and metrics of the worker on a port of their own, and what storage must permit."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from aiohttp import web
from prometheus_client import generate_latest

from shared.errors import NotFound, OwnershipLost, ScorerError, StartupError
from shared.ports import Blobs, Message, Queue
from shared.results import SCORES
from worker.processor import INPUT_CONTAINERS

T = TypeVar("T")

STALLED = 90
"""Seconds without a turn of the loop after which the process is not alive."""
ASK_LIMIT = 30
"""Seconds that storage has for all answers together."""


class StorageCheck:
    """Asks queue and containers, and remembers the answer for readiness.

    Nothing is asked of the poison queue: we may only send there.
    """

    def __init__(self, queue: Queue, blobs: Blobs) -> None:
        self._queue = queue
        self._blobs = blobs
        self.faults: list[str] = ["storage was not asked yet"]

    async def __call__(self) -> list[str]:
        """A line for each permission or resource that is missing."""
        try:
            async with asyncio.timeout(ASK_LIMIT):
                # At once: each is a way to storage and back, and a start waits for all.
                found = await all_of(
                    self._renews(),
                    self._receives(),
                    *(self._reads(name) for name in sorted(INPUT_CONTAINERS | {SCORES})),
                    self._writes(),
                )
            self.faults = [fault for fault in found if fault]
        except TimeoutError:
            self.faults = [f"storage: no answer within {ASK_LIMIT} s"]
        return self.faults

    async def _renews(self) -> str | None:
        # A receipt that never was: permitted calls answer that there is no such message.
        now = datetime.now(UTC)
        nobody = Message(str(uuid.uuid4()), "AgAAAAMAAAAAAAAA", "", 1, now, now + timedelta(days=7))
        try:
            await self._queue.renew(nobody, 1)
        except OwnershipLost:
            return None
        except ScorerError as error:
            return f"queue: renewing messages: {error.reason}"
        return None

    async def _receives(self) -> str | None:
        try:
            await self._queue.peek(1)
        except ScorerError as error:
            return f"queue: receiving: {error.reason}"
        return None

    async def _reads(self, container: str) -> str | None:
        try:
            await self._blobs.facts(container, "startup-check")
        except NotFound as error:
            if error.reason == "ContainerNotFound":
                return f"container {container}: does not exist"
        except ScorerError as error:
            return f"container {container}: reading: {error.reason}"
        return None

    async def _writes(self) -> str | None:
        try:
            # Never committed, so nobody sees it; storage drops it after a week.
            await self._blobs.stage(SCORES, "startup-check", "0" * 64, b"x")
        except ScorerError as error:
            return f"container {SCORES}: writing: {error.reason}"
        return None


async def all_of(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """What these calls return, made at once. When one fails, the others are still waited for."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]


async def start_health(
    host: str, port: int, turned: Callable[[], float], faults: Callable[[], list[str]]
) -> tuple[web.AppRunner, int]:
    """Serve /livez, /readyz and /metrics. Returns the runner and the port that was bound.

    Raises `StartupError` when the port is taken.
    """

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
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise StartupError(
            f"SCORER_HEALTH_PORT: cannot listen on {host}:{port}: {error.strerror}"
        ) from error
    return runner, runner.addresses[0][1]
