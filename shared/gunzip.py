"""Unpacks gzip as a stream. (First form; limits follow.)"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from shared.errors import BadFile


class Gunzip:
    """Feed packed bytes, get unpacked pieces."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(wbits=31)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        try:
            while chunk:
                piece = self._inflater.decompress(chunk, 1 << 20)
                chunk = self._inflater.unconsumed_tail
                if piece:
                    yield piece
                elif not chunk:
                    return
        except zlib.error as error:
            raise BadFile("the file is not gzip, or damaged") from error

    def finish(self) -> None:
        if not self._inflater.eof:
            raise BadFile("the gzip file is cut off")
