"""The header line of a CSV file: where it ends, what separates cells, which column is which."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.files.base import ROW_BYTES, decode, strip_bom
from shared.files.formats import SEPARATORS
from shared.files.lines import LineScanner, split_cells
from shared.records.errors import BadFile
from shared.records.schema import RECORD_ID, FieldTable, printable

MAX_COLUMNS = 16_384
"""As many as a sheet of Excel has."""

_BLANK_LINES = re.compile(rb"\s*\n")


@dataclass(frozen=True, slots=True)
class Header:
    """What the first line says."""

    length: int
    """Bytes up to the end of the header, with blank lines before it."""
    separator: str
    columns: tuple[str, ...]
    """Names as they came, trimmed."""
    places: dict[str, int]
    """Column of each field that is there."""
    record_id: int | None
    ignored: tuple[str, ...]
    absent: tuple[str, ...]

    @property
    def needed(self) -> list[int]:
        """Columns that hold fields or the record's id."""
        ids = [] if self.record_id is None else [self.record_id]
        return sorted([*self.places.values(), *ids])

    @property
    def decimal_comma(self) -> bool:
        return self.separator == ";"


def find_header(head: bytes, table: FieldTable, *, whole: bool) -> Header | None:
    """Read the header from a file's first bytes (or the `whole` file); None: not all there yet.

    Raises `BadFile` where columns are missing, doubled or misleading.
    """
    bom = len(head) - len(strip_bom(head))
    # What stands behind is never looked at, so that the answer depends on the file alone.
    seen = (head + b"\n" if whole else head)[: ROW_BYTES + 1]
    blank = _BLANK_LINES.match(seen, bom)
    start = blank.end() if blank else bom
    if whole and start >= len(head):
        raise BadFile("the file is empty: a header line with column names is needed")
    found = {
        separator: LineScanner(ord(separator)).find_end(seen, start) for separator in SEPARATORS
    }
    ends = {separator: end for separator, end in found.items() if end is not None}
    if len(ends) < len(found) and not whole and len(head) <= ROW_BYTES:
        return None
    names = {
        separator: split_cells(decode(head[start:end], start).rstrip("\r\n"), separator)
        for separator, end in ends.items()
    }
    known = {field.name.lower() for field in table.fields}
    fields = {s: sum(name.strip().lower() in known for name in names[s]) for s in names}
    separator = max(fields, key=fields.__getitem__, default=None)
    if separator is None or (len(ends) < len(found) and not fields[separator]):
        raise BadFile(
            "the header opens a quote that is never closed"
            if whole
            else f"the first line is longer than {ROW_BYTES} bytes: this is not CSV"
        )
    length = min(ends[separator], len(head))
    return _header(length, separator, tuple(name.strip() for name in names[separator]), table)


def _header(length: int, separator: str, columns: tuple[str, ...], table: FieldTable) -> Header:
    if len(columns) > MAX_COLUMNS:
        raise BadFile(f"the header has more than {MAX_COLUMNS} columns")
    by_lower = {field.name.lower(): field.name for field in table.fields}
    places: dict[str, int] = {}
    ignored: list[str] = []
    record_id: int | None = None
    for place, column in enumerate(columns):
        lower = column.lower()
        if lower in table.other_columns:
            raise BadFile(f"column `{lower}`: {table.other_columns[lower]}")
        name = by_lower.get(lower)
        if name in places or (lower == RECORD_ID and record_id is not None):
            raise BadFile(f"column `{lower}` stands twice: keep one")
        if name is not None:
            places[name] = place
        elif lower == RECORD_ID:
            record_id = place
        else:
            ignored.append(column)

    absent = tuple(field.name for field in table.fields if field.name not in places)
    required = ", ".join(f"`{name}`" for name in absent if table.by_name[name].required)
    mend = _mend(columns) if required else ""
    for column in ignored:
        near = table.near(column, absent)
        if near is not None and not mend:
            raise BadFile(
                f"column `{printable(column)}` is not a field: did you mean `{near}`? "
                "Rename it, or remove it"
            )
    if required:
        raise BadFile(f"the header has no column {required}, which every record needs{mend}")
    return Header(
        length, separator, columns, places, record_id, tuple(map(printable, ignored)), absent
    )


def _mend(columns: tuple[str, ...]) -> str:
    if any("\t" in column for column in columns):
        return " (the cells look tab-separated: use commas)"
    if any("\r" in column for column in columns):
        return " (lines end with CR alone: save the file with LF or CRLF line ends)"
    return ""
