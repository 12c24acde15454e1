"""Health and metrics of the worker on a separate port, and the permission checks."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from shared import metrics
from shared.batches.ports import Blobs, Queue
from shared.batches.results import SCORES
from shared.records.errors import StartupError
from shared.storage.probes import may_peek, may_process, may_read, may_write
from worker.processor import INPUT_CONTAINERS

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

T = TypeVar("T")

STALLED = 90
"""Seconds without an iteration of the loop after which the process counts as dead."""
ASK_LIMIT = 30
"""Seconds that storage has for all answers together."""


class StorageCheck:
    """Probes queue and containers, and remembers the failures for readiness.

    The poison queue is not probed: the worker may only send there.
    """

    def __init__(self, queue: Queue, parts: Queue, blobs: Blobs) -> None:
        self._probes = [
            may_process("queue", queue),
            may_peek("queue", queue),
            may_process("parts queue", parts),
            *(may_read(name, blobs) for name in sorted(INPUT_CONTAINERS | {SCORES})),
            may_write(SCORES, blobs),
        ]
        self.faults: list[str] = ["storage was not asked yet"]

    async def __call__(self) -> list[str]:
        """A line for each permission or resource that is missing."""
        try:
            async with asyncio.timeout(ASK_LIMIT):
                # All at once: a start waits for the answers.
                failures = await asyncio.gather(*(probe.failure() for probe in self._probes))
            self.faults = [
                f"{probe.name}: {failure.reason}"
                for probe, failure in zip(self._probes, failures, strict=True)
                if failure is not None
            ]
        except TimeoutError:
            self.faults = [f"storage: no answer within {ASK_LIMIT} s"]
        metrics.READY.set(not self.faults)
        return self.faults


async def all_of(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """Results of these concurrent calls. If one fails, wait for the others all the same."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]


class HealthServer:
    """Serves /livez, /readyz and /metrics from threads, so that it can report a hanging loop.

    It uses the HTTP server of the metrics library: another one would slow down the start.
    """

    def __init__(
        self, host: str, port: int, turned: Callable[[], float], faults: Callable[[], list[str]]
    ) -> None:
        """Listen. Raises `StartupError` when the port is taken."""
        self._turned = turned
        self._faults = faults
        self._metrics = make_wsgi_app(metrics.worker_registry())
        kind = _Server6 if ":" in host else _Server
        try:
            server = make_server(host, port, self._answer, kind, _Handler)
        except OSError as error:
            raise StartupError(
                f"SCORER_HEALTH_PORT: cannot listen on {host}:{port}: {error.strerror}"
            ) from error
        self.port: int = server.server_port
        # It ends with the process.
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                answer: Iterable[bytes] = self._metrics(environ, start)
                return answer
            case "/livez":
                holds = time.monotonic() - self._turned() < STALLED
                return _state(start, holds, "text/plain", "ok" if holds else "stalled")
            case "/readyz":
                missing = self._faults()
                body = json.dumps({"ready": not missing, "missing": missing})
                return _state(start, not missing, "application/json", body)
        start("404 Not Found", [("Content-Length", "0")])
        return []


def _state(start: StartResponse, holds: bool, media_type: str, body: str) -> Iterable[bytes]:
    content = body.encode()
    headers = [("Content-Type", media_type), ("Content-Length", str(len(content)))]
    start("200 OK" if holds else "503 Service Unavailable", headers)
    return [content]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The standard library's own resolves this machine's name over the network.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, *_: object) -> None:
        """Log nothing about a caller that is slow or goes away."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10
    """Seconds that the next piece of a request may take to arrive."""

    def log_message(self, *_: object) -> None:
        """Log no requests: a probe comes every few seconds."""
