"""The header line of a CSV file: where it ends, what separates cells, which column is which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.files.advice import PLAIN_ID, column_notes, misnamed
from shared.files.base import ROW_BYTES, SEPARATORS, strip_bom
from shared.files.dialect import PLAIN, Dialect
from shared.files.encoding import row_text
from shared.files.lines import LineScanner, split_cells
from shared.records.errors import BadFile
from shared.records.names import looks_like_a_name, words_of
from shared.records.schema import NUMBER, FieldTable, fold_word, printable

MAX_COLUMNS = 16_384
"""Most columns: those of an Excel sheet."""
TITLE_LINES = 10
"""Lines at the top of a file in which to search for a header, for the error text."""

LOST_LINE_ENDS = (
    "some names in the header are numbers: were the line ends lost? "
    "(curl -d drops them: send the file with --data-binary)"
)

# Blank lines, comments, and the hint `sep=;` that Excel reads.
_SKIPPED_LINES = re.compile(rb"(?:[ \t\r]*\n|#[^\n]*\n)*")
_JSON = re.compile(rb'\[\s*[\[{"0-9]|\{\s*["}]')
_SEPARATOR_LINE = re.compile(rb"\"?sep=([,;\t|])\"?[ \t]*\r?\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Header:
    """The parsed header line."""

    length: int
    """Bytes up to the end of the header, with skipped lines before it."""
    dialect: Dialect
    """Without the decimal sign, which the header does not show."""
    columns: tuple[str, ...]
    """Names as they came, trimmed."""
    places: dict[str, int]
    """Column of each field that is there."""
    record_id: int | None
    ignored: tuple[str, ...]
    """Names of other columns, if they may be shown."""
    unnamed: int
    """Number of other columns, whose names may be values or are blank."""
    absent: tuple[str, ...]
    notes: tuple[str, ...]
    """Notes about the columns, for the summary."""

    @property
    def separator(self) -> str:
        return self.dialect.separator

    @property
    def needed(self) -> list[int]:
        """Columns that hold fields or the record's id."""
        ids = [] if self.record_id is None else [self.record_id]
        return sorted([*self.places.values(), *ids])

    @property
    def decimal_comma(self) -> bool:
        """Whether numbers may have a decimal comma as well as a point."""
        return self.separator == ";"

    @property
    def has_numbers(self) -> bool:
        """Whether names of columns are numbers."""
        return any(NUMBER.fullmatch(name) for name in self.columns)


class Headed:
    """The part of a table that describes its header."""

    _header: Header | None = None

    @property
    def ignored_columns(self) -> tuple[str, ...]:
        return self._header.ignored if self._header else ()

    @property
    def unnamed_columns(self) -> int:
        return self._header.unnamed if self._header else 0

    @property
    def absent_fields(self) -> tuple[str, ...]:
        return self._header.absent if self._header else ()

    @property
    def notes(self) -> tuple[str, ...]:
        return self._header.notes if self._header else ()


def find_header(
    head: bytes, table: FieldTable, rename: Mapping[str, str], *, whole: bool
) -> Header | None:
    """Read the header from a file's first bytes (or the `whole` file); None: need more bytes.

    `rename` maps names of columns to others. Raises `BadFile` where columns are missing, duplicate
    or misleading.
    """
    bom = len(head) - len(strip_bom(head))
    # Later bytes are never read, so that the result depends on the file alone.
    seen = (head + b"\n" if whole else head)[: ROW_BYTES + 1]
    start, separators = _skip(seen, bom)
    if whole and start >= len(head):
        raise BadFile("the file is empty: a header line with column names is needed")
    if _JSON.match(seen, start):
        raise BadFile(
            "the file is JSON: name it .json, or .jsonl if it has one object on each line"
        )
    if seen[start : start + 1] == b"<":
        raise BadFile("the file is a web page or XML: export the table as CSV UTF-8")
    all_ends = {
        separator: LineScanner(ord(separator)).find_end(seen, start) for separator in separators
    }
    ends = {separator: end for separator, end in all_ends.items() if end is not None}
    enough = whole or len(head) > ROW_BYTES
    if len(ends) < len(all_ends) and not enough:
        return None
    names = {
        separator: split_cells(row_text(head[start:end], start).rstrip("\r\n"), separator)
        for separator, end in ends.items()
    }
    fields = {s: _known(names[s], table, rename) for s in names}
    separator = max(fields, key=fields.__getitem__, default=None)
    if separator is None or (len(ends) < len(all_ends) and not fields[separator]):
        raise BadFile(
            "the header opens a quote that is never closed"
            if whole
            else f"the first line is longer than {ROW_BYTES} bytes: this is not CSV"
        )
    if not fields[separator]:
        if not enough and seen.count(b"\n", start) < TITLE_LINES:
            return None
        _refuse_other_lines(seen[start:], names[separator], table, seen.count(b"\n", 0, start))
    length = min(ends[separator], len(head))
    columns = tuple(name.strip() for name in names[separator])
    _refuse_lone_returns(columns)
    if whole and length == len(head) and any(map(NUMBER.fullmatch, columns)):
        raise BadFile(f"the file has one line only, and {LOST_LINE_ENDS}")
    if len(columns) == 1 and len(table.by_name.keys() & words_of(columns[0])) > 1:
        raise BadFile("the cells must be separated by commas, semicolons, tabs or pipes")
    line = head[start:length]
    marked = bom > 0 or not _is_utf8(line)  # a byte order mark tells Excel
    dialect = Dialect(separator, crlf=line.endswith(b"\r\n"), bom=marked)
    return match_columns(columns, table, rename, length=length, dialect=dialect)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _skip(seen: bytes, start: int) -> tuple[int, str]:
    """Offset of the header, after lines that are not about columns; possible separators."""
    separators = SEPARATORS
    while True:
        skipped = _SKIPPED_LINES.match(seen, start)
        start = skipped.end() if skipped else start
        hint = _SEPARATOR_LINE.match(seen, start)
        if hint is None:
            return start, separators
        start, separators = hint.end(), hint[1].decode()


def _known(names: Sequence[str], table: FieldTable, rename: Mapping[str, str]) -> int:
    """Number of names that are a field, a column to rename, or mark another coding."""
    known = {*(field.name.lower() for field in table.fields), *table.other_columns}
    known.add(table.record_id.lower())
    known |= {name.lower() for name in rename}
    return sum(name.strip().lower() in known for name in names)


def _refuse_other_lines(seen: bytes, names: Sequence[str], table: FieldTable, skipped: int) -> None:
    """Raise `BadFile` if the first line is not a header but a title or a row of values."""
    required = {field.name.lower() for field in table.fields if field.required}
    for number, line in enumerate(seen.split(b"\n")[:TITLE_LINES], skipped + 1):
        text = line.decode(errors="replace").strip().lower()
        cells = {cell.strip(" \"'") for cell in re.split(f"[{re.escape(SEPARATORS)}]", text)}
        if required and required <= cells:
            raise BadFile(f"line {number} looks like the header: remove the lines above it")
    _refuse_lone_returns(names)
    if any(_is_value(name, table) for name in names):
        raise BadFile(
            "the first line holds values, not names of columns: is the header line missing?"
        )


def _is_value(name: str, table: FieldTable) -> bool:
    """Whether the name of a column looks like a value: a number, or the word for a code."""
    if NUMBER.fullmatch(name.strip()):
        return True
    word = fold_word(name)
    return any(word in field.words and word not in field.aliases for field in table.fields)


def _refuse_lone_returns(names: Iterable[str]) -> None:
    if any("\r" in name.replace("\r\n", "") for name in names):
        raise BadFile("the lines end with CR alone: save the file with LF or CRLF line ends")


def match_columns(
    names: Sequence[str],
    table: FieldTable,
    rename: Mapping[str, str],
    *,
    length: int = 0,
    dialect: Dialect = PLAIN,
) -> Header:
    """Match columns with fields by name. Raises `BadFile` if some are missing or misleading."""
    columns = tuple(name.strip() for name in names)
    if len(columns) > MAX_COLUMNS:
        raise BadFile(f"the header has more than {MAX_COLUMNS} columns")
    renamed = _renamed(columns, rename)
    by_lower = {field.name.lower(): field.name for field in table.fields}
    places: dict[str, int] = {}
    others: list[str] = []
    record_id: int | None = None
    own_id = table.record_id.lower()
    for index, column in enumerate(renamed):
        lower = column.lower()
        name = by_lower.get(lower)
        if name in places or (lower == own_id and record_id is not None):
            raise BadFile(f"column `{lower}` appears twice: keep one")
        if name is not None:
            places[name] = index
        elif lower == own_id:
            record_id = index
        else:
            others.append(column)

    absent = tuple(field.name for field in table.fields if field.name not in places)
    ids = () if record_id is not None else (table.record_id,)
    # A column `id` is as often the number of a row: it is a note, not a fault.
    suspects = [name for name in others if name.lower() != PLAIN_ID]
    fault = misnamed(suspects, (*absent, *ids), table)
    required = ", ".join(f"`{name}`" for name in absent if table.by_name[name].required)
    if required:
        lost = any(NUMBER.fullmatch(name) for name in columns)
        missing = f"the header has no column {required}, which every record needs"
        raise BadFile("; ".join(filter(None, (missing, fault or (LOST_LINE_ENDS if lost else "")))))
    if fault:
        raise BadFile(fault)
    ignored = tuple(printable(name) for name in others if looks_like_a_name(name))
    return Header(
        length,
        dialect,
        columns,
        places,
        record_id,
        ignored,
        len(others) - len(ignored),
        absent,
        column_notes(others, absent, table, has_id=record_id is not None),
    )


def _renamed(columns: Sequence[str], rename: Mapping[str, str]) -> list[str]:
    """The columns under the names that the sender gave them. Raises `BadFile` for unknown ones."""
    new = {old.strip().lower(): name.strip() for old, name in rename.items()}
    lacking = new.keys() - {column.lower() for column in columns}
    if lacking:
        names = ", ".join(f"`{printable(old)}`" for old in rename if old.strip().lower() in lacking)
        raise BadFile(f"rename: the file has no column {names}")
    return [new.get(column.lower(), column) for column in columns]
