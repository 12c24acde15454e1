"""Excel in: one sheet of a workbook, streamed row by row; the workbook's bytes are held whole.

Cells have types, so values are read as in JSON. A value that Excel shows differently from what it
stores (dates, percentages, numbers as text) is refused with the cell's address. Ids are read as
they are shown.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import chain, dropwhile, islice
from typing import Any, TypeAlias

import openpyxl
from openpyxl.reader.excel import ExcelReader
from openpyxl.utils import range_boundaries

from shared.files.base import NO_LINES, Block, Limits, Scored, recognised
from shared.files.csv_header import Headed, Header, match_columns
from shared.files.formats import FORMATS
from shared.files.json_columns import Records, read_records
from shared.files.options import Options
from shared.files.output import Items, Output, Shown
from shared.records.columns import score_columns
from shared.records.errors import BadFile, FieldError
from shared.records.schema import NUMBER
from shared.records.scoring import Scorer

WHOLE_BYTES = 32 << 20
"""Most bytes of a workbook as it is stored."""
UNPACKED_BYTES = 512 << 20
"""Most bytes of all its parts, unpacked; a sheet of a million rows has fewer."""
TEXT_BYTES = 64 << 20
"""Most bytes of its list of texts, which is held in memory."""
PIECE = 1 << 20
"""Bytes of a sheet that are searched at once."""
HEADER_ROWS = 10
"""Rows at the top in which the header is searched."""

TAG_BYTES = 64
"""Most bytes of a tag that may be split between two pieces."""

Row: TypeAlias = Sequence[Any]
"""Cells of openpyxl."""

_FORMULA = re.compile(rb"<(?:[a-z]+:)?f[ />]")
_MERGED = re.compile(rb'<(?:[a-z]+:)?mergeCell\s+ref="([A-Z]+[0-9]+:[A-Z]+[0-9]+)"')
_THOUSANDS = re.compile(r"[0#?],+(?![0#?,])")
"""In a number format: the number is shown divided by a thousand or more."""
_ZEROS = re.compile("0{2,}")
"""A number format with leading zeros."""


@dataclass(frozen=True, slots=True)
class Odd:
    """A cell that shows something other than it stores; no field accepts it."""

    why: str


@dataclass(frozen=True, slots=True, repr=False)
class Rows:
    """A block's rows, read and checked."""

    first: bool
    """Whether this is the file's first block."""
    records: Records
    shown: Shown


class XlsxTable(Headed):
    """A sheet of an Excel workbook."""

    ready = False

    def __init__(self, scorer: Scorer, options: Options, limits: Limits, output: Output) -> None:
        self.output = output
        self._scorer = scorer
        self._options = options
        self._limits = limits
        self._content = bytearray()
        self._names: dict[int, str] = {}
        """Field or id, by column."""

    def jump(self, offset: int) -> bool:
        raise RuntimeError("a workbook is read whole")

    def feed(self, chunk: bytes) -> Iterator[Block]:
        self._content += chunk
        if len(self._content) > WHOLE_BYTES:
            raise BadFile(
                f"a workbook may have {WHOLE_BYTES >> 20} MiB: save the sheet as CSV UTF-8"
            )
        return iter(())

    def finish(self) -> Iterator[Block]:
        kind = recognised(self._content)
        if kind is not None and not self._content.startswith(FORMATS["xlsx"].first_bytes):
            raise BadFile(f"the file is {kind}")
        with _damage():
            file = io.BytesIO(self._content)
            self._content.clear()
            _check_size(file)
            yield from self._blocks(_open_sheet(file, self._options.sheet))

    def _blocks(self, sheet: _Sheet) -> Iterator[Block]:
        rows = self._read_header(sheet)
        start = 0
        pending: list[object] = []
        for row in rows:
            pending.append(tuple(row))
            if len(pending) == self._limits.rows:
                yield Block(start, start + len(pending), start == 0, NO_LINES, pending)
                start, pending = start + len(pending), []
        if pending or start == 0:
            yield Block(start, start + len(pending), start == 0, NO_LINES, pending)

    def _read_header(self, sheet: _Sheet) -> Iterator[Row]:
        """Find the header among the first rows; returns the rows after it."""
        table, rename = self._scorer.table, self._options.rename
        required = {field.name.lower() for field in table.fields if field.required}
        renamed = {old.strip().lower(): new.strip().lower() for old, new in rename.items()}
        top = list(islice(sheet.rows, HEADER_ROWS))
        if not top:
            raise BadFile("the sheet is empty: a row with the names of the columns is needed")
        place = next((i for i, row in enumerate(top) if not _is_comment(row)), 0)
        for index, row in enumerate(top):
            lower = {name.lower() for name in _names(row)}
            if required and required <= lower | {renamed.get(name, "") for name in lower}:
                place = index
                break
        header = match_columns(_names(top[place]), table, rename)
        _refuse_merged(sheet.merged, _number(top[place]), header, required)
        self._header = replace(header, notes=(*sheet.notes, *header.notes))
        self._names = {place: name for name, place in header.places.items()}
        if header.record_id is not None:
            self._names[header.record_id] = table.record_id
        # Units may follow in a comment; further down a row is a record, with an id like `#12`.
        return dropwhile(_is_comment, chain(top[place + 1 :], sheet.rows))

    def count_rows(self, block: Block) -> int:
        return len(block.items)

    def read(self, block: Block) -> Rows:
        names, header = self._names, self._header
        assert header is not None  # noqa: S101  # there is a block
        rows: list[Row] = list(block.items)  # type: ignore[arg-type]  # we made them
        items = [
            {
                names[place]: _id(cell) if place == header.record_id else _value(cell)
                for place, cell in enumerate(row)
                if place in names and cell.value is not None
            }
            for row in rows
        ]
        records = read_records(items, self._scorer.table)
        rejected = {
            index: tuple(_explained(error, items[index]) for error in errors)
            for index, errors in records.rejected.items()
        }
        inputs = None
        if self._options.include_input:
            shown = [
                {
                    name: _plain(cell.value)
                    for name, cell in zip(header.columns, row, strict=False)
                    if name
                }
                for row in rows
            ]
            inputs = Items([name for name in header.columns if name], shown)
        return Rows(block.first, replace(records, rejected=rejected), Shown(records.ids, inputs))

    def score(self, rows: Rows, first_row: int) -> Scored:
        records = rows.records
        outcome = score_columns(self._scorer, records.values, records.rejected, counting=rows.first)
        content = self.output.write(outcome, rows.shown, first_row, first=rows.first)
        return Scored(content, outcome)


@contextmanager
def _damage() -> Iterator[None]:
    """Turn errors about a bad workbook into `BadFile`."""
    try:
        yield
    except (BadFile, MemoryError):
        raise
    except Exception as error:  # those of openpyxl's parsers have no common root
        raise BadFile("the file is not a workbook (.xlsx), or is damaged") from error


def _check_size(file: io.BytesIO) -> None:
    """Raise `BadFile` for a workbook that is too large unpacked.

    `zipfile` never unpacks more than the sizes that the archive states.
    """
    parts = zipfile.ZipFile(file).infolist()
    if sum(part.file_size for part in parts) > UNPACKED_BYTES:
        raise BadFile(f"the workbook has more than {UNPACKED_BYTES >> 20} MiB when unpacked")
    if any(p.file_size > TEXT_BYTES and "sharedStrings" in p.filename for p in parts):
        raise BadFile(f"the texts of the workbook have more than {TEXT_BYTES >> 20} MiB")


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The sheet that is read."""

    rows: Iterator[Row]
    """Blank rows are left out."""
    merged: tuple[str, ...]
    """Ranges of cells, like `A2:A4`."""
    notes: tuple[str, ...]


def _open_sheet(file: io.BytesIO, name: str | None) -> _Sheet:
    """The sheet of this name, or the first one that is not hidden."""
    reader = ExcelReader(file, read_only=True, data_only=True, keep_links=False)
    reader.read()
    states = {sheet.title: sheet.sheet_state for sheet in reader.wb.worksheets}
    visible = [title for title, state in states.items() if state == "visible"]
    notes: tuple[str, ...] = ()
    if name is None:
        name = (visible or [""])[0]
        if len(visible) > 1:
            notes = (
                f"the workbook has {len(visible)} sheets, and only the first was read: "
                "name another with the option sheet (--sheet)",
            )
    if name not in states:
        # Names of sheets may be those of patients: do not show them.
        raise BadFile(
            f"the workbook has {len(states)} sheets, and none of the name that was given"
            if visible
            else "all sheets of the workbook are hidden: name one with the option sheet (--sheet)"
        )
    sheet = reader.wb[name]
    # Sizes that other programs write into a sheet are often wrong.
    sheet.reset_dimensions()
    rows = sheet.iter_rows()
    parts = {found.name: relation.target for found, relation in reader.parser.find_sheets()}
    formulas, merged = _scan(file, parts[name])
    if formulas:
        stored = openpyxl.load_workbook(file, read_only=True, keep_links=False)[name]
        stored.reset_dimensions()
        rows = _calculated(rows, stored.iter_rows())
    return _Sheet((row for row in rows if any(map(_has_content, row))), merged, notes)


def _scan(file: io.BytesIO, part: str) -> tuple[bool, tuple[str, ...]]:
    """Whether a sheet's part has formulas, and its ranges of merged cells."""
    formulas, merged, end = False, dict[str, None](), b""
    with zipfile.ZipFile(file) as book, book.open(part) as content:
        while piece := content.read(PIECE):
            whole = end + piece
            formulas = formulas or _FORMULA.search(whole) is not None
            merged.update(dict.fromkeys(found.decode() for found in _MERGED.findall(whole)))
            end = whole[-TAG_BYTES:]
    return formulas, tuple(merged)


def _refuse_merged(
    ranges: Iterable[str], header_row: int, header: Header, required: Collection[str]
) -> None:
    """Raise `BadFile` where merged cells hide a value, which must not count as missing.

    A merged cell has the value of its first one; the others are empty. Rows without a required
    value are rejected anyway, such as a total or a remark.
    """
    decisive = {place for name, place in header.places.items() if name.lower() in required}
    for cells in ranges:
        left, top, right, bottom = range_boundaries(cells)
        columns = {place for place in header.needed if left - 1 <= place < right}
        beside = columns - {left - 1}
        of_header = top == header_row and right > left and beside != columns
        hidden = [
            beside if top > header_row else set(),
            columns if bottom > max(top, header_row) else set(),
        ]
        if of_header or any(places and not places & decisive for places in hidden):
            raise BadFile(f"the cells {cells} are merged: unmerge them and fill in each one")


def _calculated(rows: Iterator[Row], stored: Iterator[Row]) -> Iterator[Row]:
    """The rows with the values of their formulas. Raises `BadFile` where one has none.

    Programs other than Excel write formulas without values, which must not count as missing.
    """
    for row, formulas in zip(rows, stored, strict=True):
        for cell, formula in zip(row, formulas, strict=True):
            # An empty text is a value, too: its cell has the type `str`.
            if cell.value is None and formula.value is not None and cell.data_type != "str":
                raise BadFile(
                    f"cell {formula.coordinate} has a formula that was never calculated: "
                    "open the file in Excel and save it"
                )
        yield row


def _has_content(cell: Any) -> bool:
    return cell.value is not None and not (isinstance(cell.value, str) and not cell.value.strip())


def _is_comment(row: Row) -> bool:
    """Whether a row is a comment: texts, of which the first begins with `#`."""
    cells = [cell for cell in row if _has_content(cell)]
    # Errors like #N/A are not comments.
    texts = all(isinstance(cell.value, str) and cell.data_type != "e" for cell in cells)
    return texts and cells[0].value.startswith("#")


def _number(row: Row) -> int:
    """The row's number in the sheet."""
    return next(int(cell.row) for cell in row if _has_content(cell))


def _names(row: Row) -> list[str]:
    return ["" if cell.value is None else str(cell.value).strip() for cell in row]


def _value(cell: Any) -> object:
    """A cell as the field readers take it."""
    value = cell.value
    if isinstance(value, date | datetime | time | timedelta):
        return Odd(f"cell {cell.coordinate} holds a date: enter the value as a number")
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "%" in cell.number_format:
            return Odd(f"cell {cell.coordinate} shows a percentage: format it as a number")
        if _THOUSANDS.search(cell.number_format):
            return Odd(f"cell {cell.coordinate} shows thousands: format it as a number")
        return value
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        return Odd(f"cell {cell.coordinate} holds a number as text: convert it to a number")
    return value


def _id(cell: Any) -> object:
    """A cell of ids: text as it is, numbers with the zeros that they are shown with."""
    if isinstance(cell.value, str):
        return cell.value
    if isinstance(cell.value, int) and _ZEROS.fullmatch(cell.number_format):
        return f"{cell.value:0{len(cell.number_format)}}"
    return _value(cell)


def _explained(error: FieldError, item: dict[str, object]) -> FieldError:
    """The error with the cell's address, if the cell is the reason."""
    value = item.get(error.field or "")
    return replace(error, hint=value.why) if isinstance(value, Odd) else error


def _plain(value: object) -> object:
    """A cell's value as JSON can hold it."""
    return value if value is None or isinstance(value, str | int | float) else str(value)
