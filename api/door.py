"""What every request passes on its way in and out, whatever it asks for.

In: a request id, room for one more request, the caller's key. Out: the same id, security headers,
every error as a problem, a measurement and one line in the log.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable
from functools import cache
from itertools import count
from typing import TYPE_CHECKING

from api.problems import RETRY_AFTER, Problem, problem_of, respond, retry_after
from shared import metrics
from shared.records.errors import StorageError
from shared.trace import TRACEPARENT

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

PROBES = frozenset({"/livez", "/readyz", "/healthz", "/v2/health/live", "/v2/health/ready"})
PAGES = frozenset({"/docs", "/redoc", "/openapi.json", "/problems", "/favicon.ico"})
STATIC = "/static/"

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

# A request's id is no secret: unique is enough.
_PROCESS = secrets.token_hex(8)
_numbers = count(1)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Door:
    """ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, *, keys: Iterable[str], requests: int, model_version: str
    ) -> None:
        self._app = app
        self._keys = [_digest(key.encode()) for key in keys]
        self._room = requests
        self._headers = (*SECURITY, (b"x-model-version", model_version.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = time.perf_counter()
        headers = scope["header"] = dict(scope["headers"])
        request_id = scope["request_id"] = _request_id(headers)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = dict(message["headers"])
                message["headers"] = [
                    *message["headers"],
                    *[header for header in self._headers if header[0] not in given],
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        self._room -= 1
        try:
            self._admit(scope["path"], headers)
            await self._app(scope, receive, answer)
        except Exception as error:  # whatever it is, the caller gets a problem and no traceback
            if status and isinstance(error, TimeoutError):
                log.warning("answer_not_read", extra={"request_id": request_id})
                raise _CutOff from None
            problem = problem_of(error)
            if problem.status == 500:
                log.exception("request_failed", extra={"request_id": request_id})
            elif isinstance(error, StorageError):
                facts = {"request_id": request_id, "reason": error.reason}
                log.warning("storage_unavailable", extra=facts)
            if status:
                raise _CutOff from None
            await respond(problem, scope)(scope, receive, answer)
        finally:
            self._room += 1
            _record(scope, status, time.perf_counter() - begun)

    def _admit(self, path: str, headers: dict[bytes, bytes]) -> None:
        """Let a request in. Raises `Problem`."""
        if path in PROBES:
            return
        if self._room < 0:
            raise Problem("overloaded", headers=retry_after(RETRY_AFTER))
        if not self._keys or path in PAGES or path.startswith(STATIC):
            return
        given = _digest(headers.get(b"x-api-key", b""))
        # All are compared, and digests of one length: time says nothing of any key.
        if not sum(hmac.compare_digest(given, key) for key in self._keys):
            raise Problem("not_authorised", headers={"WWW-Authenticate": "ApiKey"})


class _CutOff(Exception):
    """An answer that had begun cannot go on: the connection ends, so nobody takes it as whole."""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _request_id(headers: dict[bytes, bytes]) -> str:
    """The caller's id, else that of its trace, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    traceparent = headers.get(b"traceparent")
    trace = traceparent and TRACEPARENT.fullmatch(traceparent.decode("latin-1"))
    return trace[1] if trace else f"{_PROCESS}{next(_numbers):016x}"


@cache
def _measure(method: str, route: str, status: int) -> Callable[[float], None]:
    """Looking up a metric by its labels costs as much as observing it."""
    return metrics.REQUESTS.labels(method, route, status).observe


def _record(scope: Scope, status: int, seconds: float) -> None:
    """Measure and log a request by its route: a path may hold anything."""
    method = scope["method"] if scope["method"] in METHODS else "_OTHER"
    route = getattr(scope.get("route"), "path", "unmatched")
    _measure(method, route, status)(seconds)
    if scope["path"] in PROBES:
        return
    log.info(
        "request",
        extra={
            "request_id": scope["request_id"],
            "method": method,
            "route": route,
            "status": status,
            "seconds": round(seconds, 6),
        },
    )
