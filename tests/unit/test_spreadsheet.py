"""Results opened by a spreadsheet: the same values, umlauts intact, nothing run as a formula."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from shared.files.dialect import EXCEL
from shared.files.options import Options
from shared.files.result import Rewriter
from tests.builders import score_file

SOFFICE = shutil.which("soffice")
GERMAN, ENGLISH = 1031, 1033
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SOFFICE is None, reason="LibreOffice (soffice) is not on the PATH"),
]


def opened(file: Path, separator: str = ",", language: int = ENGLISH) -> list[list[Any]]:
    """The cells as the spreadsheet has them, formulas as `=…` with the type of a formula."""
    # Separator, quote, UTF-8, first line, language, special numbers, and formulas are run.
    options = f"{ord(separator)},34,76,1,,{language},false,true,false,false,false,0,true"
    command = [
        *(str(SOFFICE), f"-env:UserInstallation={(file.parent / 'profile').as_uri()}"),
        *("--headless", "--convert-to", "xlsx", "--outdir", str(file.parent / "opened")),
        *([f"--infilter=Text - txt - csv (StarCalc):{options}"] if file.suffix == ".csv" else []),
        str(file),
    ]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    sheet = openpyxl.load_workbook(file.parent / "opened" / f"{file.stem}.xlsx").active
    return [
        [("formula", cell.value) if cell.data_type == "f" else cell.value for cell in row]
        for row in sheet.iter_rows()
    ]


def formulas(rows: list[list[Any]]) -> list[Any]:
    return [cell for row in rows for cell in row if isinstance(cell, tuple)]


INPUT = (
    "patient_id;age;sex;oldpeak;note\r\n"
    'Müller;54;1;2,5;"=1+1"\r\n'
    '"=2+2";54;1;1,5;"a;=1+1"\r\n'
    '@x;54;1;1,5;"a,=1+1"\r\n'
    '\u00e9t\u00e9;500;1;-1,5;"-2+3"\r\n'
).encode()
ROWS = {"Müller": 2.5, "'=2+2": 1.5, "'@x": 1.5, "été": -1.5}


def check(rows: list[list[Any]], ids: list[str]) -> None:
    header, *body = rows
    found = [dict(zip(header, row, strict=True)) for row in body]
    assert formulas(rows) == []
    assert [row["patient_id"] for row in found] == ids
    assert [row["row"] for row in found] == [1, 2, 3, 4]
    assert all(isinstance(row["probability"], float) for row in found[:3])
    assert found[3]["probability"] is None
    assert found[3]["error"].startswith("out_of_range: age")


def test_a_formula_would_be_run(tmp_path: Path) -> None:
    file = tmp_path / "plain.csv"
    file.write_text("a;b\n1;=1+1\n")

    assert formulas(opened(file, ";")) == [("formula", "=1+1")]


@pytest.mark.parametrize("form", [None, "excel", "excel-point"])
def test_a_csv_result_opens_with_its_values(form: Any, tmp_path: Path) -> None:
    content = score_file("csv", INPUT, include_input=True).content
    if form:
        content = Rewriter(EXCEL[form]).feed(content)
    point = form == "excel-point"
    file = tmp_path / "scores.csv"
    file.write_bytes(content)

    rows = opened(file, *((",", ENGLISH) if point else (";", GERMAN)))

    check(rows, list(ROWS))
    place = rows[0].index("input_oldpeak")
    assert [row[place] for row in rows[1:]] == list(ROWS.values())
    # Another country's spreadsheet splits elsewhere and still runs nothing.
    assert formulas(opened(file, *((";", GERMAN) if point else (",", ENGLISH)))) == []


def test_a_workbook_opens_with_its_values(tmp_path: Path) -> None:
    options = Options(include_input=True, output="xlsx")
    file = tmp_path / "scores.xlsx"
    file.write_bytes(score_file("csv", INPUT, options=options).content)

    check(opened(file), [name.removeprefix("'") for name in ROWS])
