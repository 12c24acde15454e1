"""A file in a form (`multipart/form-data`), as browsers and `curl -F` send it, piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from api.problems import Problem

FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class FormFile:
    """The one file of a form."""

    name: str
    media_type: str
    """In lower case and without parameters; may be empty."""
    content: AsyncIterator[bytes]
    """Raises `Problem` when the form does not end after this file."""


async def open_form(request: Request, pieces: AsyncIterator[bytes]) -> FormFile:
    """The file of a form whose body comes in these pieces. Raises `Problem`."""
    # A page of another site could make a visitor's browser send a form without asking first.
    if request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise Problem("unsupported_media_type", "forms are taken from pages of this host only")
    _, options = parse_options_header(request.headers["content-type"])
    parser = _Parser(options.get(b"boundary", b""))
    while not parser.in_file:
        if (piece := await anext(pieces, None)) is None:
            raise malformed_form("it has no file")
        first = parser.file_bytes(piece)
    _, options = parse_options_header(parser.headers.get(b"content-disposition"))
    if b"filename" not in options:
        raise malformed_form("its part has no file name")
    media_type, _ = parse_options_header(parser.headers.get(b"content-type"))

    async def content() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield parser.file_bytes(piece)
        if not parser.ended:
            raise malformed_form("its end is missing")

    name = options[b"filename"].decode(errors="replace")
    return FormFile(name, media_type.decode("latin-1"), content())


class _Parser:
    """Gathers the headers of a form's only part, and takes its content out of the body."""

    def __init__(self, boundary: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.in_file = False
        self.ended = False
        self._parts = 0
        self._name = b""
        self._value = b""
        self._content = bytearray()
        if not boundary:
            raise malformed_form("Content-Type has no boundary")
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_begin": self._begin_header,
                    "on_header_field": self._add_name,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_file,
                    "on_part_data": self._add_content,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise malformed_form("its boundary is too long") from error

    def file_bytes(self, piece: bytes) -> bytes:
        """The bytes of the file that complete within this piece of the body. Raises `Problem`."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise malformed_form("its parts are not as RFC 7578 says") from error
        if self._parts > 1:
            raise malformed_form("it has more than one part")
        content = bytes(self._content)
        self._content.clear()
        return content

    def _begin_part(self) -> None:
        self._parts += 1

    def _begin_header(self) -> None:
        self._name = self._value = b""

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self.headers[self._name.lower()] = self._value

    def _begin_file(self) -> None:
        self.in_file = True

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def _end(self) -> None:
        self.ended = True


def malformed_form(fault: str) -> Problem:
    """The problem of a form from which no file can be read."""
    return Problem("malformed_body", f"the body must be a form with one file: {fault}")
