"""A workbook to fill in, made from the field table: choices as lists, limits checked on entry.

The first row is a comment, which readers skip; the second one is the header.
"""

from __future__ import annotations

import io
import zipfile
from datetime import datetime

from openpyxl import Workbook
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation

from shared.records.artifact import Manifest
from shared.records.schema import FieldSpec
from shared.records.template import example_row, header_row, note_row

FIRST, LAST = 3, 10_000
"""Rows whose cells are checked as they are filled in."""
CREATED = datetime(1980, 1, 1)  # the earliest time in a zip archive, so that the bytes never differ


def workbook(manifest: Manifest) -> bytes:
    """The template as a file; the same manifest gives the same bytes."""
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = "records"
    for row in (note_row(manifest.fields), header_row(manifest.fields), example_row(manifest)):
        sheet.append(row)
    for cell in sheet[1]:
        cell.font = Font(italic=True, color="555555")
        cell.alignment = Alignment(wrap_text=True, vertical="top")
    for cell in sheet[2]:
        cell.font = Font(bold=True)
        cell.fill = PatternFill("solid", fgColor="DDEEEE")
        sheet.column_dimensions[cell.column_letter].width = max(14, len(str(cell.value)) + 4)
    sheet.column_dimensions["A"].number_format = "@"  # an id such as 007 keeps its zeros
    sheet.freeze_panes = "B3"
    lists = book.create_sheet("choices")
    lists.sheet_state = "hidden"
    for place, field in enumerate(manifest.fields.fields):
        check = _validation(field)
        if field.kind == "category":
            words = [
                choice.code if choice.word is None else choice.word for choice in field.choices
            ]
            letter = get_column_letter(place + 1)
            for number, word in enumerate(words, 1):
                lists.cell(number, place + 1, word)
            check.formula1 = f"choices!${letter}$1:${letter}${len(words)}"
        sheet.add_data_validation(check)
        letter = get_column_letter(place + 2)
        check.add(f"{letter}{FIRST}:{letter}{LAST}")
    book.properties.created = book.properties.modified = CREATED
    file = io.BytesIO()
    book.save(file)
    return _undated(file)


def _validation(field: FieldSpec) -> DataValidation:
    """The rule by which Excel checks a field's cells, without the list of a category."""
    check = DataValidation(
        type="list" if field.kind == "category" else "decimal",
        allow_blank=not field.required,
        showErrorMessage=True,
        errorTitle=field.name[:32],
        error=f"{field.title}: {field.limit}"[:255],
    )
    if field.kind == "number":
        check.operator = "between"
        check.formula1, check.formula2 = (f"{limit:g}" for limit in field.accept)
    return check


def _undated(file: io.BytesIO) -> bytes:
    """The same archive without the times at which its parts were written."""
    content = io.BytesIO()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(content, "w") as target:
        for name in source.namelist():
            part = source.read(name)
            if name == "docProps/core.xml":  # openpyxl writes the current time into it
                begin, end = part.index(b"<dcterms:modified"), part.index(b"</dcterms:modified>")
                stamp = part.index(b">", begin) + 1
                part = part[:stamp] + b"1980-01-01T00:00:00Z" + part[end:]
            target.writestr(zipfile.ZipInfo(name), part, zipfile.ZIP_DEFLATED)
    return content.getvalue()
