"""Text files in other encodings than UTF-8: Excel's "Unicode text", and Windows-1252."""

from __future__ import annotations

import codecs

import numpy as np

from shared.files.base import Lines, decode
from shared.records.errors import BadFile

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Utf16:
    """UTF-16 in, UTF-8 out, as the bytes come; any other text is left unchanged."""

    def __init__(self) -> None:
        self._head = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._known = False

    @property
    def found(self) -> bool:
        """Whether the file is UTF-16."""
        return self._decoder is not None

    def restart(self) -> None:
        """Begin again at the start of the file."""
        if self._decoder is not None:
            self._decoder.reset()

    def feed(self, chunk: bytes, *, last: bool = False) -> bytes:
        """Raises `BadFile` for content that only begins like UTF-16."""
        if not self._known:
            self._head += chunk
            if len(self._head) < len(UTF16[0]) and not last:
                return b""
            self._known = True
            chunk, self._head = self._head, b""
            if chunk.startswith(UTF16):
                self._decoder = codecs.getincrementaldecoder("utf-16")()
        if self._decoder is None:
            return chunk
        try:
            return self._decoder.decode(chunk, last).encode()
        except UnicodeError as error:
            raise BadFile("the file begins like UTF-16, but is damaged") from error


def row_text(row: bytes, offset: int) -> str:
    """UTF-8 to text, or else Windows-1252. Raises `BadFile` that names the byte."""
    try:
        return decode(row, offset)
    except BadFile:
        if 0 in row:
            raise
        try:
            return row.decode("cp1252")
        except UnicodeDecodeError:
            pass
        raise


def as_utf8(lines: Lines, offset: int) -> tuple[Lines, bool]:
    """Lines as UTF-8, and whether some of them were Windows-1252. Raises `BadFile`."""
    content = lines.content
    if content.isascii() and 0 not in content:
        return lines, False
    try:
        decode(content, offset)
    except BadFile:
        starts = [0, *lines.ends[:-1].tolist()]
        rows = [
            row_text(content[start:end], offset + start).encode()
            for start, end in zip(starts, lines.ends.tolist(), strict=True)
        ]
        return Lines(b"".join(rows), np.cumsum([len(row) for row in rows])), True
    return lines, False
