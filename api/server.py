"""Runs the API under uvicorn until a signal, and serves its metrics on a port of their own."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys

import h11
import uvicorn
from fastapi import FastAPI
from prometheus_client import start_http_server
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.problems import PROBLEM, problem_of_parser
from shared import metrics
from shared.records.errors import StartupError
from shared.settings import ApiSettings

HEAD_BYTES = 64 << 10
"""Bytes that a request's line and headers may have."""


class GuardedProtocol(H11Protocol):
    """Adds what uvicorn leaves open at the edges of a request.

    A head that does not arrive in time ends the connection. A caller who has sent a request and
    closed their side still gets the answer. What the parser refuses is answered with a problem.
    """

    head_seconds: float
    public_url: str | None
    _timer: asyncio.TimerHandle | None = None
    _half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:  # the head is complete
            self._stop()
        elif self._timer is None:
            self._start()

    def eof_received(self) -> bool:  # type: ignore[override]
        self._half_closed = True
        # True keeps our side open: the request is complete, its answer is not.
        return self.conn.their_state is h11.DONE and self.conn.our_state is not h11.DONE

    def send_400_response(self, msg: str) -> None:
        body = problem_of_parser(msg, self.public_url)
        headers = [
            ("content-type", PROBLEM),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._half_closed:
            self.transport.close()
        elif self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._start()  # the next head came with the request before it

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def serve(app: FastAPI, settings: ApiSettings, listening: socket.socket) -> None:
    """Serve on this socket until SIGTERM or SIGINT. Then the process exits with 0."""

    class Protocol(GuardedProtocol):
        head_seconds = settings.body_seconds
        public_url = settings.public_url

    # The middleware has logged it, with the request's id.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: not record.getMessage().startswith("Exception in ASGI application")
    )
    # uvicorn answers the requests in work after a signal, and then raises the signal again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        app,
        # Not httptools, which drops the body of a request that offers another protocol
        # (`Upgrade: h2c`), as some clients do with every request.
        http=Protocol,
        h11_max_incomplete_event_size=HEAD_BYTES,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # each offer of another protocol would be a warning
        access_log=False,
        server_header=False,
        timeout_keep_alive=round(settings.keep_alive_seconds),
        timeout_graceful_shutdown=round(settings.grace_seconds),
    )
    uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `StartupError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise StartupError(f"SCORER_PORT {port} on {host}: {error.strerror}") from error


def serve_metrics(host: str, port: int) -> int:
    """Serve `/metrics` on a port of its own, in a thread. Returns the port."""
    try:
        server, _ = start_http_server(port, host, metrics.api_registry())
    except OSError as error:
        raise StartupError(f"SCORER_HEALTH_PORT {port} on {host}: {error.strerror}") from error
    return int(server.server_port)
