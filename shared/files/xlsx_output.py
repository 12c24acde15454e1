"""Scores as an Excel workbook of one sheet, written row by row in flat memory.

Each block must give bytes that can be staged, so the sheet is compressed as it grows and flushed
after each block. Libraries for workbooks write their file at the end only.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape

import openpyxl
from numpy.typing import NDArray

from shared.files.output import Column, Inputs, Items, Shown, as_json
from shared.records.columns import Outcome
from shared.records.errors import BadFile

MAX_ROWS, MAX_COLUMNS, MAX_TEXT = 1_048_576, 16_384, 32_767
"""The most that Excel takes: rows with the header, columns, characters of a cell."""
MAX_BYTES = 512 << 20
"""Most bytes of the sheet before compression; the reader has the same limit."""
EXACT = 1 << 53
"""Larger integers would be rounded, so they are text."""

_START = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
HEADER, TEXT, LONG_TEXT = 1, 2, 3
"""Indexes of the styles in `xl/styles.xml`."""
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
    'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_TYPE}.styles+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPE}.worksheet+xml"/>'
    "</Types>",
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>'
    '<sheet name="scores" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><fonts count="2">'
    '<font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill>'
    '<fill><patternFill patternType="gray125"/></fill></fills>'
    '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs>'
    '<cellXfs count="4"><xf/><xf fontId="1" applyFont="1"/>'
    '<xf numFmtId="49" applyNumberFormat="1"/>'
    '<xf numFmtId="49" applyNumberFormat="1" applyAlignment="1">'
    '<alignment vertical="top" wrapText="1"/></xf></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
    "</styleSheet>",
}
_WIDTHS = {"warnings": 40, "error": 80}
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class XlsxOutput:
    """Writes a workbook: numbers as numbers, text as text and never as a formula."""

    resumes = False

    def __init__(self, columns: Sequence[str]) -> None:
        """`columns`: names of those that every result has."""
        self._columns = columns
        self._zip = ZipStream()
        self._rows = self._bytes = 0

    def write(self, outcome: Outcome, shown: Shown, first_row: int, *, first: bool) -> bytes:
        names = [*self._columns]
        count = len(shown.ids)
        columns = [
            [_number(str(row)) for row in range(first_row, first_row + count)],
            _texts(shown.ids),
            *(_answers(values, outcome) for values in outcome.answers),
            *(
                [_text(texts.get(row), LONG_TEXT) for row in range(count)]
                for texts in (outcome.warnings, outcome.errors)
            ),
        ]
        if shown.inputs is not None:
            names += [f"input_{name}" for name in shown.inputs.names]
            columns += _cells_of(shown.inputs)
        if first:
            self._begin(names)
        self._rows += count
        if self._rows >= MAX_ROWS:
            raise BadFile(f"a workbook has {MAX_ROWS - 1} rows at most: ask for CSV or Parquet")
        self._add("".join(f"<row>{''.join(cells)}</row>" for cells in zip(*columns, strict=True)))
        return self._zip.take()

    def finish(self) -> bytes:
        self._add("</sheetData></worksheet>")
        self._zip.end()
        return self._zip.finish()

    def _begin(self, names: Sequence[str]) -> None:
        if len(names) > MAX_COLUMNS:
            raise BadFile(f"a workbook has {MAX_COLUMNS} columns at most: ask for CSV or Parquet")
        for part, content in _PARTS.items():
            self._zip.begin(part)
            self._zip.write((_START + content).encode())
            self._zip.end()
        self._zip.begin("xl/worksheets/sheet1.xml")
        widths = "".join(
            f'<col min="{place}" max="{place}" width="{_WIDTHS.get(name, 14)}" customWidth="1"/>'
            for place, name in enumerate(names, 1)
        )
        header = "".join(_text(name, HEADER) for name in names)
        self._add(
            f'{_START}<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
            '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/>'
            f"</sheetView></sheetViews><cols>{widths}</cols><sheetData><row>{header}</row>"
        )

    def _add(self, text: str) -> None:
        content = text.encode()
        self._bytes += len(content)
        if self._bytes > MAX_BYTES:
            raise BadFile(
                f"the workbook would have more than {MAX_BYTES >> 20} MiB when unpacked: "
                "ask for CSV or Parquet"
            )
        self._zip.write(content)


def read_result(content: bytes) -> Iterator[dict[str, Any]]:
    """Rows of a whole result."""
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True)
    header, *rows = book.worksheets[0].iter_rows(values_only=True)
    for row in rows:
        yield dict(zip(header, row, strict=False))


def _answers(values: NDArray[Any], outcome: Outcome) -> list[str]:
    """A column of the kind of answer, empty where the row was rejected."""
    # As text, a float32 has the fewest digits that give it back.
    write = _text if values.dtype.kind == "U" else _number
    return [
        "<c/>" if row in outcome.errors or text == "nan" else write(text)
        for row, text in enumerate(values.astype(str).tolist())
    ]


def _texts(column: Column) -> list[str]:
    return [_text(text) for text in column]


def _cells_of(inputs: Inputs) -> Iterable[list[str]]:
    if isinstance(inputs, Items):  # in their own types
        records = [item if isinstance(item, dict) else {} for item in inputs.items]
        return ([_cell(record.get(name)) for record in records] for name in inputs.names)
    return ([_cell(value) for value in column] for column in inputs.columns())


def _cell(value: object) -> str:
    match value:
        case None:
            return "<c/>"
        case bool():
            return f'<c t="b"><v>{value:d}</v></c>'
        case int() if abs(value) < EXACT:
            return _number(str(value))
        case float():
            return _number(repr(value)) if math.isfinite(value) else "<c/>"
        case Decimal():
            return _number(str(value)) if value.is_finite() else "<c/>"
        case str():
            return _text(value)
        case _:
            return _text(json.dumps(value, default=as_json))


def _number(text: str) -> str:
    return f"<c><v>{text}</v></c>"


def _text(text: str | None, style: int = TEXT) -> str:
    if not text:
        return "<c/>"
    if len(text) > MAX_TEXT:
        text = text[: MAX_TEXT - 1] + "…"
    shown = escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})
    return f'<c s="{style}" t="inlineStr"><is><t xml:space="preserve">{shown}</t></is></c>'


class ZipStream:
    """Writes a zip archive whose bytes can be taken piece by piece.

    `take` flushes the compressor, so every `write` is followed by new bytes.
    (`zipfile` writes to streams, too, but its compressor holds bytes back.)
    """

    def __init__(self) -> None:
        self._new = bytearray()
        self._position = 0
        self._directory = bytearray()
        self._parts = 0
        self._packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        self._name, self._start, self._data, self._size, self._crc = b"", 0, 0, 0, 0

    def begin(self, name: str) -> None:
        """Open a part of the archive."""
        self._packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        self._name, self._start, self._size, self._crc = name.encode(), self._place, 0, 0
        # Version 2.0; sizes follow the data; deflated; 1 January 1980.
        self._new += struct.pack(
            "<4s5H3I2H", b"PK\3\4", 20, 8, 8, 0, 0x21, 0, 0, 0, len(self._name), 0
        )
        self._new += self._name
        self._data = self._place

    def write(self, content: bytes) -> None:
        """Add to the open part."""
        self._size += len(content)
        self._crc = zlib.crc32(content, self._crc)
        self._new += self._packer.compress(content)

    def end(self) -> None:
        """Close the open part."""
        self._new += self._packer.flush()
        facts = self._crc, self._place - self._data, self._size
        self._new += struct.pack("<4s3I", b"PK\7\10", *facts)
        self._directory += struct.pack(
            "<4s6H3I5H2I",
            *(b"PK\1\2", 20, 20, 8, 8, 0, 0x21, *facts, len(self._name), 0, 0, 0, 0, 0),
            self._start,
        )
        self._directory += self._name
        self._parts += 1

    def take(self) -> bytes:
        """All new bytes, up to the last one written."""
        self._new += self._packer.flush(zlib.Z_SYNC_FLUSH)
        return self._taken()

    def finish(self) -> bytes:
        """The last bytes of the archive."""
        place = self._place
        self._new += self._directory + struct.pack(
            "<4s4H2IH",
            *(b"PK\5\6", 0, 0, self._parts, self._parts, len(self._directory), place, 0),
        )
        return self._taken()

    @property
    def _place(self) -> int:
        return self._position + len(self._new)

    def _taken(self) -> bytes:
        content = bytes(self._new)
        self._position += len(content)
        self._new.clear()
        return content
