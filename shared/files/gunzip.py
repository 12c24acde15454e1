"""Unpacks gzip as a stream: never more than a piece of the unpacked content is in memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from shared.files.base import recognised
from shared.records.errors import BadFile

PIECE = 1 << 20
"""Most bytes unpacked at once."""

UNPACKED_BYTES = 16 << 30
"""Default limit of a file. It bounds time, not memory: a gzip bomb must end soon."""

_STEP = 64 << 10
"""Packed bytes given to zlib at once: it copies those that it does not use."""


class Gunzip:
    """Packed bytes in, unpacked bytes out. Several members are one file, as for `gzip -d`."""

    def __init__(self, limit: int = UNPACKED_BYTES) -> None:
        self._limit = limit
        self._left = limit
        self._member = _new_member()
        self._members = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take packed bytes; hand out pieces of at most `PIECE`. Raises `BadFile`."""
        for start in range(0, len(chunk), _STEP):
            yield from self._feed(chunk[start : start + _STEP])

    def _feed(self, packed: bytes) -> Iterator[bytes]:
        while packed:
            if self._member.eof:
                packed = packed.lstrip(b"\0")  # programs that write tapes pad with zeros
                if not packed:
                    return
                self._member = _new_member()
            try:
                piece = self._member.decompress(packed, PIECE)
            except zlib.error as error:
                raise BadFile(self._fault(packed)) from error
            packed = self._member.unconsumed_tail
            if self._member.eof:
                self._members += 1
                packed = self._member.unused_data
            self._left -= len(piece)
            if self._left < 0:
                raise BadFile(f"the file has more than {self._limit} bytes when unpacked")
            if piece:
                yield piece

    def _fault(self, packed: bytes) -> str:
        if self._members:
            return "the gzip data is damaged, or followed by something else"
        kind = None if packed.startswith(b"\x1f\x8b") else recognised(packed)
        return f"the file is not gzip but {kind}" if kind else "the file is not gzip, or damaged"

    def finish(self) -> None:
        """Call it after the last bytes. Raises `BadFile` if the file was cut off."""
        if not self._member.eof:
            raise BadFile("the gzip data ends too early: the file is empty or was cut off")


def _new_member() -> zlib._Decompress:
    return zlib.decompressobj(wbits=31)
