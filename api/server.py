"""uvicorn, with what it leaves open: the end by a signal, the port it got, limits on headers."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.body import BODY_IS_HERE
from shared.records.errors import StartupError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from shared.settings import ApiSettings

log = logging.getLogger(__name__)

HEAD_BYTES = 64 << 10
"""Bytes that a request's line and headers may have."""


class JoiningTransport:
    """A transport that sends an answer's head with the body that follows at once.

    uvicorn writes them one by one: two calls of the system, two packets. A piece that nothing
    follows in its turn of the event loop leaves with the next turn.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info

    def write(self, data: bytes) -> None:
        if self.is_closing():  # the caller has gone
            return
        if self._held:
            self._transport.writelines((self._held, data))
            self._held = b""
        else:
            self._held = data
            self._loop.call_soon(self.flush)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        if self._held and not self.is_closing():
            self._transport.write(self._held)
        self._held = b""


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, with limits on what comes before a body, in bytes and in seconds."""

    head_seconds: float
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._joining = JoiningTransport(transport, self.loop)
        super().connection_made(self._joining)  # type: ignore[arg-type]  # all that uvicorn uses
        self._begin_head()
        self._limit_head()

    def _begin_head(self) -> None:
        self._in_head, self._head_bytes = True, 0

    def _limit_head(self) -> None:
        self._late = self.loop.call_later(self.head_seconds, self.transport.close)

    def _end_head(self) -> None:
        self._in_head = False
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def on_message_begin(self) -> None:
        if not self._in_head:
            self._begin_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.scope[BODY_IS_HERE] = True  # type: ignore[literal-required]

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data) if self._in_head else 0
        super().data_received(data)
        if self._in_head and self._late is None:  # most heads come in one piece
            self._limit_head()
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")

    def eof_received(self) -> None:
        self._joining.flush()  # the transport closes itself behind this
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Ends by SIGTERM or SIGINT with requests in work answered, and then returns."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own raises the signal again at the end, and the process would not exit with 0.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def serve(app: ASGIApp, settings: ApiSettings, started: Callable[[int], None]) -> None:
    """Serve until asked to stop; `started` is told the port. Raises `StartupError`."""

    class Timed(Protocol):
        head_seconds = settings.body_seconds

    with listen(settings.host, settings.port) as listening:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=Timed,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            # Nobody asks for the caller's address.
            proxy_headers=False,
            timeout_graceful_shutdown=round(settings.grace_seconds),
        )
        port = listening.getsockname()[1]
        Server(config, lambda: started(port)).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `StartupError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise StartupError(f"SCORER_PORT {port} on {host}: {error.strerror}") from error


def serve_metrics(host: str, port: int) -> int:
    """Serve `/metrics` on a port of its own, in a thread. Returns the port."""
    from prometheus_client import start_http_server

    try:
        server, _ = start_http_server(port, host)
    except OSError as error:
        raise StartupError(f"SCORER_HEALTH_PORT {port} on {host}: {error.strerror}") from error
    return int(server.server_port)
