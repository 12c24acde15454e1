"""Request bodies: read within limits, unpacked within limits, parsed strictly.

A body's announced size is compared with the limit before anything is read, and nothing grows beyond
the limit. `strict_route` makes FastAPI read the bodies of a router's routes this way.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Coroutine
from typing import Any, NamedTuple

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from api.problems import JSON, ErrorEntry, Problem
from shared.records.strict_json import parse_json


class BodyLimits(NamedTuple):
    """Limits of a body."""

    size: int
    """Bytes, packed and unpacked."""
    seconds: float
    """Time within which it must arrive."""


class StrictRequest(Request):
    """A request for FastAPI whose body is strict JSON within limits, and so is its answer."""

    def __init__(self, request: Request, limits: BodyLimits) -> None:
        super().__init__(request.scope, request.receive)
        self._limits = limits
        self._content: bytes | None = None

    async def body(self) -> bytes:
        """The whole body, unpacked. Raises `Problem`."""
        if self._content is None:
            check_accept(self)
            check_json_type(self)
            self._content = await read_body(self, self._limits)
        return self._content

    async def json(self) -> Any:
        """The body, parsed strictly. Raises `Problem`."""
        return parse(await self.body())


def strict_route(limits: BodyLimits) -> type[APIRoute]:
    """A route class whose routes read their bodies as `StrictRequest`."""

    class StrictRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_strictly(request: Request) -> Response:
                return await handle(StrictRequest(request, limits))

            return handle_strictly

    return StrictRoute


def body_problems(limits: BodyLimits) -> list[Problem]:
    """Problems of a request with a JSON body, for the document."""
    return [
        malformed_json(),
        not_packed("gzip"),
        not_acceptable(),
        too_slow(limits.seconds),
        too_large(limits.size),
        not_json(),
    ]


def parse(content: bytes, *, nan: bool = False) -> Any:
    """Strict JSON; `nan`: NaN is a missing number. Raises `Problem`."""
    try:
        return parse_json(content.removeprefix(BOM_UTF8).decode(), nan=nan)
    except UnicodeDecodeError as error:
        raise malformed_json(f"byte {error.start} is not UTF-8") from error
    except ValueError as error:
        raise malformed_json(str(error)) from error


def malformed_json(detail: str = "the body is empty") -> Problem:
    """The problem of a body that is not JSON."""
    entry = ErrorEntry(pointer="", code="malformed", detail=detail)
    return Problem("malformed_json", detail, [entry])


async def json_accepted(request: Request) -> None:
    """Dependency of routes that answer with JSON only. Raises `Problem`."""
    check_accept(request)


def check_accept(request: Request) -> None:
    """Refuse a caller who does not take JSON. Raises `Problem`."""
    accept = request.headers.get("accept", "*/*").lower()
    if accept not in ("*/*", JSON) and not takes(accept, "*/*", "application/*", JSON):
        raise not_acceptable()


def not_acceptable() -> Problem:
    """The problem of a caller who does not take JSON."""
    return Problem("not_acceptable", f"the answer is {JSON}")


def takes(accept: str, *media_types: str) -> bool:
    """Whether an Accept header lists one of these media types."""
    return any(_takes(part, media_types) for part in accept.lower().split(","))


def _takes(part: str, media_types: Collection[str]) -> bool:
    media_type, *parameters = part.replace(" ", "").split(";")
    refused = any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return media_type in media_types and not refused


def check_json_type(request: Request) -> None:
    """Refuse a body that is declared as something other than JSON. Raises `Problem`."""
    media_type, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    charset = parameters.replace(" ", "").removeprefix("charset=").strip('"')
    is_json = media_type.strip() in ("", "application/json") or media_type.strip().endswith("+json")
    if not is_json or charset not in ("", "utf-8", "utf8"):
        raise not_json(advice_on_forms(media_type))


def not_json(advice: str = "") -> Problem:
    """The problem of a body that is declared as something other than JSON."""
    return Problem(
        "unsupported_media_type",
        f"send JSON in UTF-8 with the header Content-Type: {JSON}{advice}",
        headers={"Accept": JSON},
    )


def advice_on_forms(media_type: str) -> str:
    """How to send a file itself, if what came is a form; else empty."""
    match media_type.strip():
        case "multipart/form-data":
            return "; this is a form (curl -F): send the file itself (curl --data-binary @FILE)"
        case "application/x-www-form-urlencoded":
            return (
                "; this is a form (curl -d), which also drops line ends: send the file itself "
                "(curl --data-binary @FILE)"
            )
        case _:
            return ""


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """The whole body, unpacked. Raises `Problem`, also if it is empty."""
    encoding = request.headers.get("content-encoding", "identity").lower().strip()
    if encoding not in ("identity", "gzip", "deflate"):
        raise unknown_encoding()
    check_length(request, limits.size)
    try:
        async with asyncio.timeout(limits.seconds):
            content = await _receive(request, limits.size)
    except TimeoutError as error:
        raise too_slow(limits.seconds) from error
    if encoding != "identity":
        content = _unpack(content, encoding, limits.size)
    if not content:
        raise malformed_json()
    return content


def unknown_encoding() -> Problem:
    """The problem of a body that is packed in a way that we cannot unpack."""
    return Problem(
        "unsupported_media_type",
        "bodies may be plain, gzip or deflate",
        headers={"Accept-Encoding": "gzip, deflate"},
    )


def check_length(request: Request, limit: int) -> None:
    """Refuse a body by its announced size. Raises `Problem`."""
    announced = request.headers.get("content-length", "")
    # The server refuses a length that is not a number.
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)


async def _receive(request: Request, limit: int) -> bytes:
    content = bytearray()
    try:
        async for piece in request.stream():
            content += piece
            if len(content) > limit:
                raise too_large(limit)
    except ClientDisconnect as error:
        raise cut_off() from error
    return bytes(content)


def _unpack(content: bytes, encoding: str, limit: int) -> bytes:
    """Unpack gzip or deflate (zlib's form, or bare). Raises `Problem`."""
    # 32 reads the header of gzip and of zlib; bare deflate has none.
    bits = zlib.MAX_WBITS | 32
    if encoding == "deflate" and content[:1] and (content[0] & 0x0F) != 8:
        bits = -zlib.MAX_WBITS
    unpacker = zlib.decompressobj(bits)
    try:
        unpacked = unpacker.decompress(content, limit + 1)
    except zlib.error as error:
        raise not_packed(encoding) from error
    if len(unpacked) > limit:
        raise too_large(limit, "unpacked ")
    if not unpacker.eof or unpacker.unused_data:
        raise Problem("malformed_body", f"the {encoding} body is cut off or has data after its end")
    return unpacked


def not_packed(encoding: str) -> Problem:
    """The problem of a body that is not packed as its header says."""
    return Problem("malformed_body", f"the body is not {encoding}")


def too_large(limit: int, which: str = "") -> Problem:
    """The problem of a body over the limit."""
    return Problem("body_too_large", f"the {which}body may have {limit} bytes")


def cut_off() -> Problem:
    """The problem of a body whose sender went away."""
    return Problem("malformed_body", "the connection ended within the body")


def too_slow(seconds: float) -> Problem:
    """The problem of a body that does not arrive in time."""
    return Problem(
        "body_too_slow",
        f"the body must arrive within {seconds:g} seconds",
        headers={"Connection": "close"},
    )
