"""Read results as a stream: CSV in any dialect, and JSON Lines. This does not need Polars."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

from shared.files.dialect import Dialect
from shared.files.lines import split_cells

_WITH_COMMA, _WITH_POINT = (
    re.compile(rf"[+-]?[0-9]*{sign}[0-9]+(?:[eE][+-]?[0-9]+)?") for sign in (",", r"\.")
)

SELECTABLE = ("csv", "jsonl")
"""Formats of results from which rejected rows can be selected."""
FIRST_COLUMN = "row"
"""Name of the first column. The character after it in the header is the separator."""


class ResultRows:
    """Cuts a result into rows. A quoted line end is part of its row."""

    def __init__(self) -> None:
        self.columns: Sequence[str] = ()
        """Names of the columns, once the header was read."""
        self.separator = ""
        self._pending: list[bytes] = []
        self._in_quotes = False

    def feed(self, piece: bytes) -> Iterator[tuple[bytes, list[str]]]:
        """Each row as bytes, with its line end, and as cells; the header comes first."""
        *lines, rest = piece.split(b"\n")
        for line in lines:
            self._add(line + b"\n")
            if self._in_quotes:
                continue
            row = b"".join(self._pending)
            self._pending.clear()
            yield row, self._cells(row)
        if rest:
            self._add(rest)

    def _add(self, part: bytes) -> None:
        self._pending.append(part)
        self._in_quotes ^= part.count(b'"') % 2 == 1

    def rejected(self, piece: bytes) -> Iterator[bytes]:
        """The header and the rows that have an error."""
        for row, cells in self.feed(piece):
            if cells is self.columns or cells[self.columns.index("error")]:
                yield row

    def _cells(self, row: bytes) -> list[str]:
        text = row.decode().removesuffix("\n").removesuffix("\r")
        if self.columns:
            return split_cells(text, self.separator)
        text = text.removeprefix("\ufeff")
        self.separator = text[len(FIRST_COLUMN)]
        self.columns = cells = split_cells(text, self.separator)
        return cells


class RejectedLines:
    """Selects the lines of a result in JSON lines that have an error."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The selected lines that end in this piece."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return (line + b"\n" for line in lines if json.loads(line)["error"] is not None)


def rejected_by(*, is_csv: bool) -> Callable[[bytes], Iterator[bytes]]:
    """Selects the rows that have an error from each piece of a result; of CSV, the header, too."""
    return ResultRows().rejected if is_csv else RejectedLines().feed


async def rejected_rows(pieces: AsyncIterator[bytes], *, is_csv: bool) -> AsyncIterator[bytes]:
    """The rows of a result that have an error; for CSV, after the header."""
    rejected = rejected_by(is_csv=is_csv)
    async for piece in pieces:
        yield b"".join(rejected(piece))


async def rewritten(pieces: AsyncIterator[bytes], dialect: Dialect) -> AsyncIterator[bytes]:
    """A CSV result, converted to another dialect."""
    writer = Rewriter(dialect)
    async for piece in pieces:
        yield writer.feed(piece)


def read_rows(content: bytes) -> Iterator[Mapping[str, str]]:
    """Rows of a whole CSV result. Scores have a decimal point; input columns are unchanged."""
    rows = ResultRows()
    for _, cells in rows.feed(content):
        if cells is rows.columns:
            continue
        row = dict(zip(rows.columns, cells, strict=True))
        if rows.separator != ",":
            row |= {name: _with_point(row[name]) for name in _answers(rows.columns)}
        yield row


def _answers(columns: Sequence[str]) -> Sequence[str]:
    """Columns of the answer: between the id and the warnings."""
    return columns[2 : columns.index("warnings")]


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if _WITH_COMMA.fullmatch(cell) else cell


def _with_comma(cell: str) -> str:
    return cell.replace(".", ",") if _WITH_POINT.fullmatch(cell) else cell


class Rewriter:
    """Converts a result to another dialect: the decimal sign of numbers, never ids and texts."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._rows = ResultRows()
        self._number = _with_comma if dialect.decimal_comma else _with_point
        self._texts: frozenset[int] = frozenset()
        """Columns that hold no numbers."""
        self._split = re.compile(dialect.split_formula)
        self._special = re.compile(dialect.needs_quotes.removeprefix("^$|"))

    def feed(self, piece: bytes) -> bytes:
        """The rows that end in this piece."""
        return b"".join(
            self._line(cells, header=cells is self._rows.columns)
            for _, cells in self._rows.feed(piece)
        )

    def _line(self, cells: list[str], *, header: bool) -> bytes:
        if header:
            own_id = cells[1]
            texts = (own_id, f"input_{own_id}", "warnings", "error")
            self._texts = frozenset(i for i, name in enumerate(cells) if name in texts)
        else:
            cells = [
                cell if i in self._texts else self._number(cell) for i, cell in enumerate(cells)
            ]
        line = self._dialect.separator.join(map(self._written, cells)) + self._dialect.line_end
        mark = codecs.BOM_UTF8 if header and self._dialect.bom else b""
        return mark + line.encode()

    def _written(self, cell: str) -> str:
        cell = self._split.sub(r"\1'\2", cell)
        return '"' + cell.replace('"', '""') + '"' if self._special.search(cell) else cell
