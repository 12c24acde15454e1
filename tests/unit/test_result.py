"""Results read back: rejected rows, and CSV rewritten for Excel, in whichever pieces it comes."""

from __future__ import annotations

import csv
import io

import pytest

from cli.scores import write
from shared.files.dialect import EXCEL, ExcelFormat
from shared.files.result import Rewriter, rejected_by
from shared.testing import FakeBlobs
from tests.builders import a_csv, a_patient, cut, score_file

NOTE = 'say "hi";\n=1+1,-2'


def a_result(separator: str) -> bytes:
    """Of two rows, of which the second is rejected, in a dialect."""
    records = [
        a_patient(patient_id="1.5", oldpeak=2.3) | {"note": NOTE},
        a_patient(patient_id="Zoë", age=500) | {"note": "0.5"},
    ]
    columns = ["patient_id", "age", "sex", "oldpeak", "note"]
    records = [{name: record.get(name, "") for name in columns} for record in records]
    content = a_csv(*records, columns=columns)
    if separator == ";":
        rows = csv.reader(io.StringIO(content.decode(), newline=""))
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=";").writerows(
            [cell.replace("2.3", "2,3") for cell in row] for row in rows
        )
        content = text.getvalue().encode()
    return score_file("csv", content, include_input=True).content


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_the_rejected_rows_come_as_they_are_with_the_header(separator: str, step: int) -> None:
    content = a_result(separator)
    select = rejected_by(is_csv=True)

    rows = [row for piece in cut(content, step) for row in select(piece)]

    assert rows[0] == content[: len(rows[0])]
    assert len(rows) == 2
    assert content.endswith(rows[1])
    assert b"out_of_range" in rows[1]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(("name", "sign"), [("excel", ","), ("excel-point", ".")])
def test_a_result_is_rewritten_for_excel(
    separator: str, step: int, name: ExcelFormat, sign: str
) -> None:
    content = a_result(separator)
    writer = Rewriter(EXCEL[name])

    text = b"".join(map(writer.feed, cut(content, step))).decode()

    assert text.startswith("\ufeffrow")
    assert text.count("\r\n") >= 3
    delimiter = EXCEL[name].separator
    header, first, second = csv.reader(io.StringIO(text[1:], newline=""), delimiter=delimiter)
    scored = dict(zip(header, first, strict=True))
    assert scored["patient_id"] == scored["input_patient_id"] == "1.5"
    assert scored["probability"].startswith(f"0{sign}")
    assert scored["input_oldpeak"] == f"2{sign}3"
    assert scored["input_note"].replace("'", "") == NOTE
    assert dict(zip(header, second, strict=True))["patient_id"] == "Zoë"
    # Nothing begins like a formula where another country's spreadsheet splits.
    other = {";": ",", ",": ";"}[delimiter]
    parts = [part for cell in [*first, *second] for part in cell.split(other)]
    assert not [part for part in parts if part.startswith(("=", "+", "-", "@"))]


async def test_the_command_line_writes_a_result_for_excel() -> None:
    blobs, content = FakeBlobs(), a_result(",")
    etag = blobs.put("scores", "b/scores.csv", content)
    summary = {"output": {"container": "scores", "blob": "b/scores.csv", "etag": etag}}
    target = io.BytesIO()

    await write(blobs, summary, target, rejected=True, excel="excel")

    header, *rows = csv.reader(
        io.StringIO(target.getvalue().decode("utf-8-sig"), newline=""), delimiter=";"
    )
    assert [row[header.index("patient_id")] for row in rows] == ["Zoë"]
