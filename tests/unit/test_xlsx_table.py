"""Excel workbooks: which cells are read, and which are refused with their address."""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Callable
from typing import Any

import openpyxl
import pytest

from shared.files import xlsx_table
from shared.files.base import Limits
from shared.files.options import Options
from shared.records.errors import BadFile
from tests.builders import json_lines, score_file

HEADER = ["patient_id", "Age", "sex", "chol", "note"]


def a_workbook(*rows: list[Any], change: Callable[[Any], None] = lambda _: None) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    change(book)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def refused(content: bytes, **options: Any) -> str:
    with pytest.raises(BadFile) as caught:
        score_file("xlsx", content, options=Options(**options))
    return caught.value.reason


def test_cells_score_as_the_same_records_in_json() -> None:
    rows: list[list[Any]] = [
        ["a", 54, "male", 250.5, "x"],
        [17, 61, 0, None, None],
        [None, 54, "Female ", "NA", None],
        ["d", 500, True, "lots", None],
        [None, None, 1, None, None],
    ]
    records = [
        {k.lower(): v for k, v in zip(HEADER[:4], row, strict=False) if v is not None}
        for row in rows
    ]

    result = score_file("xlsx", a_workbook(HEADER, *rows), options=Options(output="jsonl"))

    assert result.lines == score_file("jsonl", json_lines(*records)).lines
    assert result.table.ignored_columns == ("note",)


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_blocks_do_not_change_the_result(rows: int) -> None:
    content = a_workbook(["age", "sex"], *([age, 1] for age in range(30, 35)))

    result = score_file("xlsx", content, limits=Limits(rows=rows))

    assert result.content == score_file("xlsx", content).content
    assert [row["row"] for row in result.rows] == ["1", "2", "3", "4", "5"]


def test_no_row_is_lost_after_those_among_which_the_header_is_looked_for() -> None:
    ages = list(range(30, 60))

    result = score_file(
        "xlsx", a_workbook(["age", "sex"], *([a, 1] for a in ages)), include_input=True
    )

    assert [row["input_age"] for row in result.rows] == [str(age) for age in ages]


def test_titles_comments_and_blank_rows_are_no_rows() -> None:
    content = a_workbook(
        ["Ward 7", None, "printed 2026"], [], ["# units"], ["age", "sex"], ["# years", "code"],
        [54, 1], [None, None], [" ", None], [61, 0],
    )  # fmt: skip

    assert score_file("xlsx", content).counts.rows == 2


@pytest.mark.parametrize(
    ("value", "number_format", "code", "hint"),
    [
        (datetime.date(2026, 1, 2), None, "not_a_number", "cell B3 holds a date"),
        (0.5, "yyyy-mm-dd", "not_a_number", "cell B3 holds a date"),
        (datetime.time(12, 30), None, "not_a_number", "cell B3 holds a date"),
        (54, "0%", "not_a_number", "cell B3 shows a percentage"),
        ("54", None, "not_a_number", "cell B3 holds a number as text"),
        (54_000, "0.0,", "not_a_number", "cell B3 shows thousands"),
    ],
)
def test_a_cell_that_shows_something_else_is_refused_with_its_address(
    value: Any, number_format: str | None, code: str, hint: str
) -> None:
    def change(book: Any) -> None:
        book.active["B3"] = value
        if number_format:
            book.active["B3"].number_format = number_format

    result = score_file("xlsx", a_workbook(HEADER, ["a", 54, 1], ["b", 0, 1], change=change))

    assert result.errors[0] == ""
    assert result.errors[1].startswith(code)
    assert hint in result.errors[1]


def test_ids_are_read_as_they_are_shown() -> None:
    def change(book: Any) -> None:
        book.active["A4"].number_format = "00000"

    ids = ["00123", "#12", 45, "#N/A", 46]
    content = a_workbook(HEADER, *([record_id, 54, 1] for record_id in ids), change=change)

    rows = score_file("xlsx", content).rows

    assert [row["patient_id"] for row in rows] == ["00123", "#12", "00045", "#N/A", "46"]
    assert [row["error"] for row in rows] == [""] * 5


def test_a_row_after_the_header_whose_id_begins_like_a_comment_is_read() -> None:
    content = a_workbook(["#", *HEADER], ["# units", None, "years"], [1, "#1", 54, 1])

    assert [row["patient_id"] for row in score_file("xlsx", content).rows] == ["#1"]


@pytest.mark.parametrize("cells", ["D3:D4", "D3:E4", "C3:D3", "A4:A5", "D1:E1", "D1:D2"])
def test_merged_cells_that_hide_values_are_refused(cells: str) -> None:
    content = a_workbook(
        HEADER, *([f"p{n}", 54, 1, 250, "x"] for n in range(5)),
        change=lambda book: book.active.merge_cells(cells),
    )  # fmt: skip

    assert f"the cells {cells} are merged" in refused(content)


@pytest.mark.parametrize("cells", ["A1:E1", "E4:E6", "E3:F3", "A7:E7"])
def test_merged_titles_totals_and_remarks_do_no_harm(cells: str) -> None:
    content = a_workbook(
        ["Ward 7"], HEADER, *([f"p{n}", 54, 1, 250, "x"] for n in range(4)), ["Total"],
        change=lambda book: book.active.merge_cells(cells),
    )  # fmt: skip

    assert [error[:16] for error in score_file("xlsx", content).errors] == [
        *[""] * 4,
        "missing_required",
    ]


@pytest.mark.parametrize("formula", ["<f>27*2</f>", '<f t="shared" si="0"/>', "<f/>"])
def test_a_formula_that_was_never_calculated_is_refused(formula: str) -> None:
    content = edited(a_workbook(["age", "sex"], [54, 1]), b"<v>54</v>", formula.encode())

    assert "cell A2 has a formula that was never calculated" in refused(content)


def test_a_calculated_formula_is_read_by_its_value() -> None:
    plain = a_workbook(["age", "sex"], [54, 1], [61, 0])
    content = edited(plain, b"<v>54</v>", b"<f>27*2</f><v>54</v>")
    content = edited(content, b'<c r="B3" t="n"><v>0</v>', b'<c r="B3" t="str"><f>""</f><v></v>')

    found, missing = score_file("xlsx", content).errors

    assert found == ""
    assert missing.startswith("missing_required: sex")


def edited(content: bytes, old: bytes, new: bytes) -> bytes:
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in source.namelist():
            part = source.read(name)
            if name.endswith("sheet1.xml"):
                assert old in part
                part = part.replace(old, new)
            copy.writestr(name, part)
    return target.getvalue()


def test_a_sheet_is_chosen_by_name() -> None:
    def change(book: Any) -> None:
        other = book.create_sheet("June")
        other.append(["age", "sex"])
        other.append([54, 1])

    content = a_workbook(["nothing"], change=change)

    assert score_file("xlsx", content, options=Options(sheet="June")).counts.rows == 1
    assert "2 sheets, and none of the name" in refused(content, sheet="july")
    assert "no column `age`" in refused(content)


def test_hidden_sheets_are_read_by_name_only_and_other_sheets_are_reported() -> None:
    def change(book: Any) -> None:
        book.active.sheet_state = "hidden"
        for name in ("May", "June"):
            book.create_sheet(name)
            book[name].append(["age", "sex"])
            book[name].append([54, 1])

    result = score_file("xlsx", a_workbook(["old"], [1], change=change))

    assert result.counts.rows == 1
    assert "2 sheets, and only the first was read" in result.table.notes[0]


def test_inputs_are_repeated() -> None:
    content = a_workbook([*HEADER, None], ["a", 54, "male", 1.5, datetime.date(2026, 1, 2), "x"])

    [row] = score_file("xlsx", content, include_input=True).rows

    assert row["input_Age"] == "54"
    assert row["input_sex"] == "male"
    assert row["input_note"] == "2026-01-02 00:00:00"


def test_a_workbook_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = edited(a_workbook(["age", "sex"]), b"<sheetData>", b"<sheetData>" + b" " * 1_000_000)
    monkeypatch.setattr(xlsx_table, "UNPACKED_BYTES", 900_000)

    assert "when unpacked" in refused(bomb)


def test_a_large_workbook_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_table, "WHOLE_BYTES", 1000)

    assert "save the sheet as CSV" in refused(a_workbook(["age", "sex"]))


@pytest.mark.parametrize("content", [b"PK", b"PK\x03\x04" + b"x" * 100, a_workbook([])[:-30]])
def test_a_damaged_workbook_is_refused(content: bytes) -> None:
    assert "not a workbook (.xlsx), or is damaged" in refused(content)


@pytest.mark.parametrize(
    ("content", "kind"), [(b"\xd0\xcf\x11\xe0" + bytes(600), "(.xls)"), (b"PAR1", "Parquet")]
)
def test_a_file_of_another_type_is_recognised(content: bytes, kind: str) -> None:
    assert kind in refused(content)


def test_a_zip_archive_of_something_else_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("patients.csv", "age,sex\n54,1\n")

    assert "not a workbook" in refused(file.getvalue())


def test_an_empty_sheet_is_refused() -> None:
    assert "the sheet is empty" in refused(a_workbook([]))
