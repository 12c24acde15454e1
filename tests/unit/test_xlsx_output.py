"""Results as Excel workbooks: types, text that is no formula, blocks, limits."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import openpyxl
import pytest

from shared.files import xlsx_output
from shared.files.base import Limits
from shared.files.formats import Format
from shared.files.options import Options
from shared.records.artifact import Artifact
from shared.records.errors import BadFile
from tests.builders import a_csv, a_patient, json_lines, score_file
from tests.unit.test_worker_parquet import failing_at, patients, scores
from tests.unit.test_xlsx_table import a_workbook

XLSX = Options(include_input=True, output="xlsx")


def sheet(content: bytes) -> Any:
    return openpyxl.load_workbook(io.BytesIO(content)).active


def test_a_workbook_comes_back_with_its_types_and_a_frozen_header() -> None:
    rows: list[list[Any]] = [
        ["=1+1", 54, "male", 250.5, True, "Müller & <Söhne>\r\n  x"],
        ["007", 500, 1, None, 2**60, None],
    ]

    def as_text(book: Any) -> None:
        book.active["A2"].data_type = "s"

    content = a_workbook(
        ["patient_id", "age", "sex", "chol", "flag", "note"], *rows, change=as_text
    )

    found = sheet(score_file("xlsx", content, options=XLSX).content)

    header, first, second = found.iter_rows(values_only=True)
    one, two = (dict(zip(header, row, strict=True)) for row in (first, second))
    assert found.freeze_panes == "A2"
    assert (one["row"], one["patient_id"], one["error"]) == (1, "=1+1", None)
    assert isinstance(one["probability"], float)
    assert [one[f"input_{name}"] for name in ("age", "sex", "chol")] == [54, "male", 250.5]
    assert one["input_flag"] is True
    assert one["input_note"].replace("\r\n", "\n") == "Müller & <Söhne>\n  x"
    assert (two["patient_id"], two["probability"], two["prediction"]) == ("007", None, None)
    assert two["error"].startswith("out_of_range: age")
    assert not [c for row in found.iter_rows() for c in row if c.data_type == "f"]
    assert found["B2"].number_format == "@"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_other_files_give_the_same_scores_as_csv(kind: Format) -> None:
    records = [a_patient(patient_id="Zoë"), a_patient(age=500), a_patient(chol=600)]
    content = a_csv(*records) if kind == "csv" else json_lines(*records)

    book = xlsx_output.read_result(
        score_file(kind, content, options=Options(output="xlsx")).content
    )

    plain = score_file(kind, content, options=Options(output="csv")).rows
    found = [{k: "" if v is None else str(v) for k, v in row.items()} for row in book]
    assert [float(row.pop("probability") or 0) for row in found] == [
        float(row.pop("probability") or 0) for row in plain
    ]
    assert found == plain


@pytest.mark.parametrize("rows", [1, 2])
def test_each_block_gives_bytes_and_the_archive_is_sound(rows: int) -> None:
    content = a_csv(*(a_patient(age=30 + i) for i in range(5)))

    result = score_file("csv", content, options=XLSX, limits=Limits(rows=rows))

    archive = zipfile.ZipFile(io.BytesIO(result.content))
    assert archive.testzip() is None
    assert len(list(xlsx_output.read_result(result.content))) == 5
    whole = score_file("csv", content, options=XLSX).content
    name = "xl/worksheets/sheet1.xml"
    assert archive.read(name) == zipfile.ZipFile(io.BytesIO(whole)).read(name)


@pytest.mark.parametrize(
    ("limit", "value", "why"),
    [("MAX_ROWS", 3, "rows at most"), ("MAX_BYTES", 2000, "MiB"), ("MAX_COLUMNS", 7, "columns")],
)
def test_more_than_excel_takes_is_refused_with_the_fix(
    limit: str, value: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xlsx_output, limit, value)

    with pytest.raises(BadFile, match=f"{why}.*ask for CSV or Parquet"):
        score_file("csv", a_csv(*[a_patient()] * 3), options=XLSX)


def test_a_long_text_is_cut_where_excel_ends() -> None:
    content = b"age,sex,note\n54,1," + b"x" * 40_000 + b"\n"

    [row] = xlsx_output.read_result(score_file("csv", content, options=XLSX).content)

    assert len(row["input_note"]) == xlsx_output.MAX_TEXT


@pytest.mark.parametrize("number", [1, 5])
def test_a_resumed_workbook_has_the_same_bytes(artifact: Artifact, number: int) -> None:
    content = patients(3000)

    assert scores(artifact, content, "xlsx", failing_at(number)) == scores(
        artifact, content, "xlsx"
    )
