"""How a CSV file is written: separator, decimal sign, line ends, byte order mark.

A result has the dialect of its input, so that it opens in the program that wrote the input. All of
it follows from the input's bytes, so a block that is made again has the same dialect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

SAMPLE = 32 << 10
"""Bytes after the header in which to look for the decimal sign."""
MAY_HAVE_COMMAS = ";\t"
"""Separators of files whose numbers may have a decimal comma."""
_GUARDED = ",;\t"
"""Characters at which a spreadsheet may split a cell, in addition to the file's own separator."""

_NUMBER = rb'(?:\A|[;\t\n])[ "]*[+-]?[0-9]*%s[0-9]+[ "]*(?=[;\t\r\n]|\Z)'
_WITH_COMMA, _WITH_POINT = (re.compile(_NUMBER % sign) for sign in (b",", rb"\."))


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells, rows and numbers of a file are written; the defaults are plain CSV."""

    separator: str = ","
    decimal_comma: bool = False
    crlf: bool = False
    bom: bool = False

    @property
    def line_end(self) -> str:
        return "\r\n" if self.crlf else "\n"

    @property
    def needs_quotes(self) -> str:
        """A pattern of cells to quote. Many spreadsheets split at semicolons: quote those, too."""
        return rf"^$|[{self.separator}\"\r\n;\t]"

    @property
    def split_formula(self) -> str:
        """A pattern of a formula sign after a character at which a spreadsheet may split."""
        signs = _GUARDED.replace(self.separator, "")
        return rf"([{signs}] *)([=+\-@＝＋－＠])"


PLAIN = Dialect()
ExcelFormat = Literal["excel", "excel-point"]
EXCEL: dict[ExcelFormat, Dialect] = {
    "excel": Dialect(";", decimal_comma=True, crlf=True, bom=True),
    "excel-point": Dialect(crlf=True, bom=True),
}
"""Dialects that Excel opens with a double click, by the decimal sign of its locale."""


def has_decimal_commas(sample: bytes, separator: str) -> bool:
    """Whether numbers in a file's first rows have a decimal comma, if one is possible.

    Where no number has a fraction, the separator decides: Excel writes semicolons because the comma
    is taken.
    """
    if separator not in MAY_HAVE_COMMAS:
        return False
    commas, points = (len(sign.findall(sample)) for sign in (_WITH_COMMA, _WITH_POINT))
    return commas >= points if separator == ";" else commas > points
