"""The file of scores as an answer: conditions, and one range of bytes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from fastapi import Request

from api.problems import Problem

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def is_unchanged(request: Request, etag: str) -> bool:
    """Whether the caller has this version already. Raises `Problem` if they want another."""
    if_match = request.headers.get("if-match")
    if if_match is not None and not _matches(if_match, etag):
        raise Problem("precondition_failed")
    if_none_match = request.headers.get("if-none-match")
    return if_none_match is not None and _matches(if_none_match, etag)


def _matches(tags: str, etag: str) -> bool:
    return tags.strip() == "*" or etag in [
        tag.strip().removeprefix("W/") for tag in tags.split(",")
    ]


def requested_range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last. None: the whole file. Raises `Problem`.

    Several ranges at once, and ranges of another version, are answered with the whole file.
    """
    matched = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if matched is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = matched.groups()
    if not first and not last:
        return None
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
    else:
        start, end = max(size - int(last), 0), size
    if start >= end:
        raise not_satisfiable(size)
    return start, end


def not_satisfiable(size: int) -> Problem:
    """The problem of a range that the file does not have."""
    return Problem("range_not_satisfiable", headers={"Content-Range": f"bytes */{size}"})


async def first_bytes(pieces: AsyncIterator[bytes], length: int) -> AsyncIterator[bytes]:
    """The first `length` bytes."""
    async for piece in pieces:
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return
