"""Cuts a stream of bytes into blocks of whole lines, wherever the stream's own pieces end.

In CSV a line may hold line ends between quotes. Where quotes are as the standard has them (around
a whole cell, doubled inside), their parity tells inside from outside, and numpy finds all line ends
at once; elsewhere a small state machine reads as Python's `csv` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.files.base import NO_LINES, ROW_BYTES, TOO_LONG, Block, Limits, Lines
from shared.records.errors import BadFile

Places = NDArray[np.int32]

CACHED = 256 << 10
"""Bytes that are searched at once: their results stay in the core's cache."""
SMALL = 64 << 10
"""Pieces up to this size are kept as one."""
_QUOTED = re.compile(rb'(?:[^"]++|"")*+')
"""The rest of a quoted cell, up to the quote that closes it or may be doubled in the next piece."""
QUOTE, NEWLINE, RETURN = ord('"'), ord("\n"), ord("\r")


class LineSplitter:
    """Bytes in, blocks of whole lines out. A line over `ROW_BYTES` is a block of its own."""

    def __init__(self, limits: Limits, position: int, separator: str | None) -> None:
        """`separator` of cells: quotes then hide line ends; None: every line end counts."""
        self._limits = limits
        self._separator = ord(separator) if separator else None
        self._pieces: list[bytes | bytearray] = []
        """Bytes that are not cut yet, in pieces, which are joined when they are cut."""
        self._size = 0
        self._position = position
        """Offset of the first piece's first byte, which starts a line."""
        self._first = True
        self._enough = limits.size
        """Bytes in the pieces before another search is worth it."""
        self._skipping: LineScanner | None = None
        self._skipped = 0
        self._file_end: int | None = None

    def jump(self, offset: int) -> None:
        """Start anew at the end of a block."""
        self._take()
        self._position = offset
        self._first = False
        self._skipping = None
        self._enough = self._limits.size

    def feed(self, chunk: bytes) -> Iterator[Block]:
        """Take bytes, hand out complete blocks."""
        if self._skipping is not None:
            end = self._skipping.find_end(chunk)
            if end is None:
                self._skipped += len(chunk)
                return
            yield self._block(self._skipped + end, TOO_LONG)
            self._skipping = None
            chunk = chunk[end:]
        self._add(chunk)
        if self._size >= self._enough:
            yield from self._cut(last=False)

    def finish(self) -> Iterator[Block]:
        """Hand out the rest; at least one block in all. Raises `BadFile` for an open quote."""
        if self._skipping is not None:
            if self._skipping.state == "quoted":
                raise self._unclosed()
            yield self._block(self._skipped, TOO_LONG)
            self._skipping = None
        if self._pieces:
            if self._pieces[-1][-1] != NEWLINE:
                self._file_end = self._position + self._size
                self._add(b"\n")  # the last line may go without its end
            yield from self._cut(last=True)
        if self._pieces or self._skipping is not None:
            raise self._unclosed()
        if self._first:
            yield self._block(0, NO_LINES)

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if len(piece) > SMALL:
            self._pieces.append(piece)
        elif piece:
            # Many small ones would take many times their content.
            if not (self._pieces and isinstance(self._pieces[-1], bytearray)):
                self._pieces.append(bytearray())
            self._pieces[-1] += piece

    def _take(self) -> bytes:
        """All that is to be cut; it is kept here no longer."""
        content = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return content

    def _cut(self, *, last: bool) -> Iterator[Block]:
        content = self._take()
        ends = line_ends(content, self._separator)
        long_lines = find_long_lines(ends)
        tail = len(content) - (int(ends[-1]) if len(ends) else 0)
        start = used = 0
        while used < len(ends):
            stop = min(
                used + self._limits.rows,
                int(np.searchsorted(ends, start + self._limits.size)) + 1,
            )
            next_long = np.searchsorted(long_lines, used)
            if next_long < len(long_lines):
                place = int(long_lines[next_long])
                stop = used + 1 if place == used else min(stop, place)
            if stop > len(ends):
                if not last and tail <= ROW_BYTES:
                    break
                stop = len(ends)
            end = int(ends[stop - 1])
            if stop == used + 1 and end - start > ROW_BYTES:
                lines = TOO_LONG
            else:
                lines = Lines(content[start:end], ends[used:stop] - start)
            yield self._block(end - start, lines)
            start, used = end, stop
        rest = content[start:]
        if used == len(ends) and tail > ROW_BYTES:
            self._skipping = LineScanner(self._separator)
            self._skipping.find_end(rest)
            self._skipped = len(rest)
        else:
            self._add(rest)
        self._enough = max(self._limits.size, self._size + (self._limits.size >> 2))

    def _block(self, length: int, lines: Lines) -> Block:
        end = self._position + length
        if self._file_end is not None:
            end = min(end, self._file_end)
        block = Block(self._position, end, self._first, lines)
        self._position = end
        self._first = False
        return block

    def _unclosed(self) -> BadFile:
        return BadFile(
            f"the row that starts at byte {self._position} opens a quote that is never closed"
        )


def find_long_lines(ends: Places) -> Places:
    """Indexes of lines over `ROW_BYTES`: each holds a byte whose offset is a multiple of that."""
    marks = np.arange(0, ends[-1] if len(ends) else 0, ROW_BYTES)
    lines = np.unique(np.searchsorted(ends, marks, side="right")).astype(np.int32)
    starts = np.where(lines > 0, ends[lines - 1], 0)
    return lines[ends[lines] - starts > ROW_BYTES]


def line_ends(content: bytes, separator: int | None) -> Places:
    """Offsets after each line end outside quotes; content starts a line."""
    bytes_ = np.frombuffer(content, np.uint8)
    newlines = places(bytes_, NEWLINE)
    if separator is None or QUOTE not in content:
        newlines += 1
        return newlines
    quotes = places(bytes_, QUOTE)
    if quotes_are_regular(bytes_, quotes, separator):
        outside = np.searchsorted(quotes, newlines) % 2 == 0
        found: Places = newlines[outside] + 1
        return found
    scanner = LineScanner(separator)
    ends: list[int] = []
    start = 0
    while (end := scanner.find_end(content, start)) is not None:
        ends.append(end)
        start = end
    return np.array(ends, np.int32)


def places(content: NDArray[np.uint8], byte: int) -> Places:
    """Offsets of this byte, searched in pieces that fit a core's cache."""
    pieces = range(0, len(content), CACHED)
    found = [np.flatnonzero(content[i : i + CACHED] == byte).astype(np.int32) + i for i in pieces]
    return np.concatenate(found) if found else np.empty(0, np.int32)


def quotes_are_regular(content: NDArray[np.uint8], quotes: Places, separator: int) -> bool:
    """Whether each quote opens or closes a whole cell or is doubled inside one."""
    opening, closing = quotes[0::2], quotes[1::2]
    before = content[opening[opening > 0] - 1]
    after = content[closing[closing < len(content) - 1] + 1]
    opens = (before == separator) | (before == NEWLINE) | (before == QUOTE)
    closes = (after == separator) | (after == NEWLINE) | (after == RETURN) | (after == QUOTE)
    if not (opens.all() and closes.all()):
        return False
    # A quote before an opening one must be the doubled pair's first, the closing one before it.
    pairs = np.flatnonzero(before == QUOTE)
    skipped = len(opening) - len(before)
    return bool((closing[pairs + skipped - 1] == opening[pairs + skipped] - 1).all())


def without_blank_lines(lines: Lines, blank: bytes) -> Lines:
    """The lines that have a byte other than those of `blank`."""
    content, ends = lines.content, lines.ends
    if len(ends) == 0:
        return lines
    bytes_ = np.frombuffer(content, np.uint8)
    is_blank = np.zeros(256, np.bool_)
    is_blank[list(blank)] = True
    starts = np.concatenate([np.zeros(1, np.int32), ends[:-1]])
    # Most lines have content at their start or in their middle.
    if not (is_blank[bytes_[starts]] & is_blank[bytes_[(starts + ends) // 2]]).any():
        return lines
    has_content = np.logical_or.reduceat(~is_blank[bytes_[: ends[-1]]], starts)
    if has_content.all():
        return lines
    lengths = ends - starts
    kept = bytes_[: ends[-1]][np.repeat(has_content, lengths)]
    return Lines(kept.tobytes(), np.cumsum(lengths[has_content]))


def count_rows(lines: Lines, blank: bytes) -> int:
    """Number of lines that have a byte other than those of `blank`."""
    return 1 if lines.too_long else len(without_blank_lines(lines, blank).ends)


class LineScanner:
    """Finds the end of a line as Python's `csv` does; keeps its state between pieces."""

    def __init__(self, separator: int | None) -> None:
        self.state: Literal["start", "plain", "quoted", "closing"] = "start"
        self._separator = separator
        sep = re.escape(bytes([separator])) if separator is not None else b""
        self._edge = re.compile(b"[%b\n]" % sep)
        rest = b"[^%b\n]*+" % sep
        cell = b'(?:"(?:[^"]++|"")*+"%b|[^"%b\n]%b)?' % (rest, sep, rest)
        self._cells = re.compile(b"(?:%b%b)*+" % (cell, sep))
        """Whole cells, each with the separator after it."""

    def find_end(self, content: bytes, place: int = 0) -> int | None:
        """Offset after the line's end, at or after `place`; None if it is not in `content`."""
        size = len(content)
        if self._separator is None:
            end = content.find(b"\n", place)
            return None if end < 0 else end + 1
        while place < size:
            if self.state == "start":
                place = _match_end(self._cells, content, place)
            elif self.state == "quoted":
                place = _match_end(_QUOTED, content, place)
            if place == size:
                break
            if content[place] == QUOTE and self.state != "plain":
                self.state = "closing" if self.state == "quoted" else "quoted"
                place += 1
            else:
                edge = self._edge.search(content, place)
                if edge is None:
                    self.state = "plain"
                    break
                self.state = "start"
                place = edge.end()
                if content[place - 1] == NEWLINE:
                    return place
        return None


def _match_end(pattern: re.Pattern[bytes], content: bytes, place: int) -> int:
    """The end of a match; the pattern may match nothing."""
    match = pattern.match(content, place)
    return match.end() if match else place


def split_cells(line: str, separator: str) -> list[str]:
    """Cells of one line without its end, as Python's `csv` reads them."""
    cells: list[str] = []
    place = 0
    while True:
        parts: list[str] = []
        if line.startswith('"', place):
            place += 1
            while True:
                close = line.find('"', place)
                if close < 0:
                    close = len(line)
                parts.append(line[place:close])
                place = close + 1
                if not line.startswith('"', place):
                    break
                parts.append('"')
                place += 1
        end = line.find(separator, place)
        parts.append(line[place : end if end >= 0 else len(line)])
        cells.append("".join(parts))
        if end < 0:
            return cells
        place = end + 1
