"""Request bodies: read within limits, unpacked within limits, parsed strictly.

Nothing is read before its announced size was compared with the limit, and nothing grows beyond it.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from api.problems import Fault, Problem
from api.routes import header
from shared.records.strict_json import parse_json

if TYPE_CHECKING:
    from shared.settings import ApiSettings

BODY_IS_HERE = "scorer.body_is_here"
"""Key of a request's scope where the server holds the whole body, so that no timer is needed."""

JSON_TYPES = ("application/json", "text/json")


async def read_json(request: Request, settings: ApiSettings) -> Any:
    """The body as JSON. Raises `Problem`."""
    check_media_type(request)
    return parse(await read_body(request, settings))


def parse(content: bytes, pointer: str = "") -> Any:
    """Strict JSON. Raises `Problem`."""
    try:
        return parse_json(content.decode())
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} is not UTF-8"
    except ValueError as error:
        detail = str(error)
    fault = Fault(pointer, "malformed", detail)
    raise Problem("malformed_json", detail, (fault,))


def check_media_type(request: Request) -> None:
    """Refuse what says that it is not JSON. Raises `Problem`."""
    given = header(request, b"content-type", b"application/json")
    if given == "application/json":
        return
    kind, _, parameters = given.lower().partition(";")
    charset = parameters.replace(" ", "").removeprefix("charset=").strip('"')
    is_json = kind.strip() in JSON_TYPES or kind.strip().endswith("+json")
    if not is_json or charset not in ("", "utf-8", "utf8"):
        raise Problem(
            "unsupported_media_type",
            "send JSON in UTF-8 with the header Content-Type: application/json",
            headers={"Accept": "application/json"},
        )


async def read_body(request: Request, settings: ApiSettings) -> bytes:
    """The whole body, unpacked. Raises `Problem`."""
    limit = settings.body_bytes
    encoding = header(request, b"content-encoding", b"identity").lower().strip()
    if encoding not in ("identity", "gzip", "deflate"):
        raise Problem(
            "unsupported_media_type",
            "bodies may be plain, gzip or deflate",
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    check_length(request, limit)
    if BODY_IS_HERE in request.scope:
        content = await _receive(request, limit)
    else:
        try:
            async with asyncio.timeout(settings.body_seconds):
                content = await _receive(request, limit)
        except TimeoutError as error:
            raise too_slow(settings) from error
    return content if encoding == "identity" else _unpack(content, encoding, limit)


def check_length(request: Request, limit: int) -> None:
    """Refuse a body by its announced size. Raises `Problem`."""
    announced = header(request, b"content-length")
    # What is no number never gets here: the server's parser refuses it.
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)


async def _receive(request: Request, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Problem("malformed_body", "the connection ended within the body")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            return b"".join(pieces)  # of one piece: that piece itself


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
        raise Problem("malformed_body", f"the body is not {encoding}") from error
    if len(unpacked) > limit:
        raise too_large(limit, "unpacked ")
    if not unpacker.eof or unpacker.unused_data:
        raise Problem("malformed_body", f"the {encoding} body is cut off or goes on behind its end")
    return unpacked


def too_large(limit: int, what: str = "") -> Problem:
    """The problem of a body over the limit."""
    return Problem("body_too_large", f"the {what}body may have {limit} bytes")


def too_slow(settings: ApiSettings) -> Problem:
    """The problem of a body that does not arrive."""
    return Problem(
        "body_too_slow",
        f"the body must arrive within {settings.body_seconds:g} seconds",
        headers={"Connection": "close"},
    )
