"""Middleware for every request: id, limits, API key, security headers, metrics, access log."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from itertools import count

from fastapi import Request, Response
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.links import route_path
from api.problems import Problem, answer_error, overloaded, respond
from shared import metrics, tracing
from shared.trace import TRACEPARENT

log = logging.getLogger(__name__)

PROBES = frozenset({"/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready"})
"""Paths that are answered without a key, also when the API is full, and that are not logged."""
PAGES = frozenset(
    {
        "/",
        "/docs",
        "/model-card",
        "/problems",
        "/openapi.json",
        "/template.csv",
        "/template.xlsx",
        "/favicon.ico",
    }
)
"""Paths that are answered without a key."""
STATIC = "/static/"

Header = tuple[bytes, bytes]

SECURITY = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}
)

# A request's id is not a secret: unique is enough.
_PROCESS = secrets.token_hex(8)
_numbers = count(1)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


class RequestMiddleware:
    """Everything that a request needs before and after its route."""

    def __init__(self, app: ASGIApp, *, keys: Iterable[str], capacity: int) -> None:
        self._app = app
        self._keys = [_digest(key) for key in keys]
        self._capacity = capacity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        method, path = scope["method"], route_path(scope)
        scope.setdefault("state", {})
        if method == "HEAD":  # answered as GET, without a body
            scope = {**scope, "method": "GET"}
        request = Request(scope)
        request.state.head = method == "HEAD"
        headers = Headers(scope=scope)
        request.state.request_id = _request_id(headers)
        status = 0

        async def send_answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = with_ours(message["headers"], request)
            elif request.state.head:
                message["body"] = b""
            await send(message)

        self._capacity -= 1
        with _span(path, headers) as span:
            try:
                self._admit(path, headers)
                await self._app(scope, receive, send_answer)
            except Problem as problem:  # not admitted; FastAPI has handlers for all others
                await respond(problem, request)(scope, receive, send_answer)
            except Exception as error:
                request.state.begun = status != 0
                if request.state.begun:
                    _log_cut_off(request, error)
                raise
            finally:
                self._capacity += 1
                _record(request, method, status or 500, time.perf_counter() - started, span)

    def _admit(self, path: str, headers: Headers) -> None:
        """Let a request in. Raises `Problem`."""
        if path in PROBES:
            return
        if self._capacity < 0:
            raise overloaded()
        if not self._keys or path in PAGES or path.startswith(STATIC):
            return
        given = _digest(headers.get("x-api-key", ""))
        # All are compared, and digests of one length: the time reveals nothing about any key.
        if not sum(hmac.compare_digest(given, key) for key in self._keys):
            raise not_authorised()


def not_authorised() -> Problem:
    """The problem of a request without a key that we know."""
    return Problem("not_authorised", headers={"WWW-Authenticate": "ApiKey"})


async def unexpected_error(request: Request, error: Exception) -> Response:
    """Answer an error that nobody foresaw. FastAPI calls this outside of all middleware."""
    if getattr(request.state, "begun", False):  # it is logged, and no second answer can be sent
        return Response()
    response = await answer_error(request, error)
    response.raw_headers = with_ours(response.raw_headers, request)
    return response


def with_ours(headers: list[Header], request: Request) -> list[Header]:
    """An answer's headers, with those that every answer has unless its route has set them."""
    given = {name for name, _ in headers}
    version = (b"x-model-version", request.app.version.encode())
    request_id = (b"x-request-id", request.state.request_id.encode())
    return [*headers, *(h for h in SECURITY if h[0] not in given), version, request_id]


def _log_cut_off(request: Request, error: Exception) -> None:
    """Log an answer that had begun and cannot go on: the server closes the connection."""
    facts = {"request_id": request.state.request_id}
    if isinstance(error, TimeoutError):
        log.warning("answer_not_read", extra=facts)
    else:
        log.error("answer_cut_off", exc_info=error, extra=facts)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("latin-1")).digest()


def _request_id(headers: Headers) -> str:
    """The caller's id, else that of its trace, else a new one."""
    given = headers.get("x-request-id", "")
    if _REQUEST_ID.fullmatch(given):
        return given
    trace = TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return trace[1] if trace else f"{_PROCESS}{next(_numbers):016x}"


def _span(path: str, headers: Headers) -> AbstractContextManager[tracing.Span]:
    if path in PROBES:
        return tracing.OFF
    return tracing.span("request", "server", parent=headers.get("traceparent"))


def _record(request: Request, method: str, status: int, seconds: float, span: tracing.Span) -> None:
    """Measure and log a request by its route: a path may hold anything."""
    method = method if method in METHODS else "_OTHER"
    route = getattr(request.scope.get("route"), "path", "unmatched")
    metrics.REQUESTS.labels(method, route, status).observe(seconds)
    span.rename(f"{method} {route}")
    span.set(
        {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
    )
    if route_path(request.scope) in PROBES:
        return
    log.info(
        "request",
        extra={
            "request_id": request.state.request_id,
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 6),
        },
    )
