"""Routes whose endpoints read the request themselves: bodies are checked once, by the field table.

They are plain data, so that a start can serve some of them before FastAPI is loaded (`api.app`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from api.problems import JSON, Fault, Problem

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})


Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path and what answers there."""

    method: str
    path: str
    endpoint: Endpoint
    options: dict[str, Any]
    """What the document says of it, as FastAPI's `APIRoute` takes it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


class Routes(list[Route]):
    """Routes below one path, under one heading of the document."""

    def __init__(self, tag: str, prefix: str = "", **options: Any) -> None:
        super().__init__()
        self._prefix = prefix
        self._options = {"tags": [tag]} | options

    def get(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Decorates what answers GET there."""
        return self._add("GET", path, options)

    def post(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Decorates what answers POST there."""
        return self._add("POST", path, options)

    def _add(
        self, method: str, path: str, options: dict[str, Any]
    ) -> Callable[[Endpoint], Endpoint]:
        def add(endpoint: Endpoint) -> Endpoint:
            self.append(Route(method, self._prefix + path, endpoint, self._options | options))
            return endpoint

        return add


def header(request: Request, name: bytes, otherwise: bytes = b"") -> str:
    """A header by its name in lower case; of repeated ones the last."""
    given: bytes = request.scope["header"].get(name, otherwise)
    return given.decode("latin-1")


encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""A value as JSON, strictly."""


class JsonText(Response):
    """An answer whose JSON is written already."""

    media_type = JSON


class JsonAnswer(JsonText):
    """A value as an answer."""

    def render(self, content: object) -> bytes:
        return encode(content).encode()


def flag(request: Request, name: str) -> bool:
    """A parameter of the query that is true or false. Raises `Problem`."""
    if not request.scope["query_string"]:
        return False
    given = request.query_params.get(name, "false").lower()
    if given in TRUE:
        return True
    if given in FALSE:
        return False
    raise bad_parameter(name, "true or false")


def bad_parameter(name: str, limit: str) -> Problem:
    """The problem of a parameter that is not what `limit` says."""
    fault = Fault("", "unknown_value", f"{name} must be {limit}", name, limit)
    return Problem("bad_parameter", faults=(fault,))


def flag_parameter(name: str, description: str) -> dict[str, Any]:
    """The same, for the document."""
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "boolean", "default": False},
    }


def check_accept(request: Request) -> None:
    """Refuse a caller who does not take JSON. Raises `Problem`."""
    given = header(request, b"accept", b"*/*")
    if given == "*/*" or given == JSON:
        return
    if not any(_takes_json(part) for part in given.lower().split(",")):
        raise Problem("not_acceptable", f"the answer is {JSON}")


def _takes_json(part: str) -> bool:
    kind, *parameters = part.replace(" ", "").split(";")
    refused = any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return kind in ("*/*", "application/*", JSON) and not refused
