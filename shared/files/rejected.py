"""The rejected rows of a result, while it is read piece by piece."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterator


async def rejected_rows(pieces: AsyncIterator[bytes], *, is_csv: bool) -> AsyncIterator[bytes]:
    """Of a result only the rows that have an error; of CSV, the header, too."""
    rows = _Rejected(is_csv=is_csv)
    async for piece in pieces:
        yield b"".join(rows.feed(piece))


class _Rejected:
    """Cuts a result into rows. A quoted line end is part of its row."""

    def __init__(self, *, is_csv: bool) -> None:
        self._is_csv = is_csv
        self._pending = b""
        self._row = b""
        self._error: int | None = None
        """Index of the column `error`, once the header is read."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        *lines, self._pending = (self._pending + piece).split(b"\n")
        for line in lines:
            self._row += line + b"\n"
            if self._is_csv and self._row.count(b'"') % 2:
                continue
            row, self._row = self._row, b""
            if self._is_rejected(row):
                yield row

    def _is_rejected(self, row: bytes) -> bool:
        if not self._is_csv:
            return json.loads(row)["error"] is not None
        # Not `splitlines`: it would also end a line at U+2028, which an id may hold.
        cells = next(csv.reader(io.StringIO(row.decode(), newline="")))
        if self._error is None:
            self._error = cells.index("error")
            return True
        return bool(cells[self._error])
