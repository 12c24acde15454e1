"""Parquet batches: typed columns in, typed scores out."""

from __future__ import annotations

import datetime
import decimal
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.files.base import Bounds, Limits
from shared.files.formats import open_table
from shared.files.options import Options
from shared.records.errors import BadFile
from tests.builders import a_scorer, blocks_of, json_lines, score_file

PATIENTS = {
    "patient_id": ["a", None, "c"],
    "Age": [54, 61, 200],
    "sex": ["male", "female", None],
    "chol": [250.0, float("nan"), None],
}


def a_parquet(columns: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def read(content: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(content))


def refused(columns: dict[str, Any]) -> str:
    with pytest.raises(BadFile) as caught:
        score_file("parquet", a_parquet(columns))
    return caught.value.reason


def test_typed_columns_score_as_the_same_records_in_json() -> None:
    table = {
        "age": pa.array([54, 61, 54, 54], pa.int8()),
        "sex": pa.array(["male", "female", "male", None]).dictionary_encode(),
        "fbs": pa.array([True, None, False, True]),
        "chol": pa.array([decimal.Decimal("250.5"), None, decimal.Decimal(9), None]),
        "cp": pa.array(["asymptomatic", "?", "x", "3"]),
        "ca": pa.array([None, None, None, None], pa.null()),
        "patient_id": pa.array([17, None, 18, 19]),
    }
    records = pa.table(table).to_pylist()
    for record in records:
        record["chol"] = None if record["chol"] is None else float(record["chol"])

    parquet = score_file("parquet", a_parquet(table), options=Options(output="jsonl"))

    assert parquet.lines == score_file("jsonl", json_lines(*records)).lines
    assert parquet.counts.rejected == 2


def test_scores_are_typed_parquet_by_default() -> None:
    result = read(score_file("parquet", a_parquet(PATIENTS)).content)

    assert {field.name: str(field.type) for field in result.schema} == {
        "row": "int64",
        "patient_id": "string",
        "probability": "float",
        "prediction": "int8",
        "warnings": "string",
        "error": "string",
    }
    assert result["row"].to_pylist() == [1, 2, 3]
    assert result["patient_id"].to_pylist() == ["a", None, "c"]
    assert [value is None for value in result["probability"].to_pylist()] == [False, False, True]
    assert [value is None for value in result["error"].to_pylist()] == [True, True, False]


def test_ids_keep_all_their_digits() -> None:
    ids = [
        pa.array([decimal.Decimal(12345678901234567891)], pa.decimal128(25, 0)),
        pa.array([2**53 + 1]),
        pa.array([1001.5]),
        pa.array([float("nan")]),
    ]

    found = [
        score_file("parquet", a_parquet({"age": [54], "sex": [1], "patient_id": column}))
        for column in ids
    ]

    assert [read(result.content)["patient_id"].to_pylist() for result in found] == [
        ["12345678901234567891"],
        ["9007199254740993"],
        ["1001.5"],
        [None],
    ]


def test_inputs_are_repeated_with_their_types() -> None:
    columns = PATIENTS | {
        "seen": [datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)] * 3,
        "notes": [["a"], [], None],
    }

    result = read(score_file("parquet", a_parquet(columns), include_input=True).content)

    assert result["input_chol"].type == pa.float64()
    assert result["input_seen"].to_pylist() == columns["seen"]
    assert result["input_notes"].to_pylist() == columns["notes"]


@pytest.mark.parametrize(
    ("value", "in_csv", "in_json"),
    [
        (["a"], '["a"]', ["a"]),
        (datetime.datetime(2026, 1, 2), "2026-01-02T00:00:00.000000", "2026-01-02 00:00:00"),
        (datetime.timedelta(hours=1), "PT1H", "1:00:00"),
        (b"\xff", "/w==", "/w=="),
        ({"dose": decimal.Decimal("1.50")}, '{"dose": 1.5}', {"dose": 1.5}),
        (decimal.Decimal("1.50"), "1.50", 1.5),
        (float("nan"), "NaN", None),
    ],
)
def test_inputs_of_any_type_are_repeated_as_text(value: Any, in_csv: str, in_json: Any) -> None:
    content = a_parquet({"age": [54], "sex": [1], "other": [value]})

    [row] = score_file("parquet", content, options=Options(include_input=True, output="csv")).rows
    [line] = score_file(
        "parquet", content, options=Options(include_input=True, output="jsonl")
    ).lines

    assert row["input_other"] == in_csv
    assert line["input_other"] == in_json


def test_an_input_that_cannot_be_repeated_is_refused_by_name() -> None:
    huge = pa.array([decimal.Decimal(1)], pa.decimal256(50, 2))
    content = a_parquet({"age": [54], "sex": [1], "huge": huge})

    assert score_file("parquet", content).counts.rejected == 0
    with pytest.raises(BadFile, match="column `huge` has the type decimal256"):
        score_file("parquet", content, include_input=True)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("csv", b"age,sex,patient_id,note,note\n54,1,=a,x,y\n61,2,b,,\n"),
        ("jsonl", json_lines({"age": 54, "sex": 1, "patient_id": "=a"}, {"age": 61, "sex": 2})),
    ],
)
@pytest.mark.parametrize("include_input", [False, True])
def test_other_formats_may_give_parquet(kind: Any, content: bytes, include_input: bool) -> None:
    plain = score_file(kind, content, options=Options(include_input, output="jsonl"))

    result = score_file(kind, content, options=Options(include_input, output="parquet"))

    rows = read(result.content).to_pylist()
    assert rows[0]["patient_id"] == "=a"
    assert [row["probability"] for row in rows] == pytest.approx(
        [line["probability"] for line in plain.lines]
    )
    assert [row["error"] for row in rows] == [line["error"] for line in plain.lines]


def test_json_may_give_csv_with_a_column_for_each_known_key() -> None:
    content = json_lines({"age": 54, "sex": "male"}, {"sex": 1, "fbs": True})

    rows = score_file("jsonl", content, options=Options(include_input=True, output="csv")).rows

    assert [row["input_sex"] for row in rows] == ["male", "1"]
    assert [row["input_fbs"] for row in rows] == ["", "true"]


@pytest.mark.parametrize(
    ("columns", "fix"),
    [
        ({"age": [54]}, "no column `sex`"),
        ({"age": [54], "sex": [[1]]}, "column `sex` has the type list"),
        ({"age": [datetime.datetime(2020, 1, 1)], "sex": [1]}, "column `age` has the type timest"),
        ({"age": [54], "sex": [b"1"]}, "column `sex` has the type binary"),
        (
            {"age": [54], "sex": pa.array([1], pa.decimal256(50, 2))},
            "`sex` has the type decimal256",
        ),
        ({"age": [54], "sex": [{"code": 1}]}, "column `sex` has the type struct"),
        ({"age": [54], "sex": [1], "target": [1]}, "column `target`"),
        ({"age": [54], "sex": [1], "cholesterol": [1]}, "did you mean `chol`"),
    ],
)
def test_a_file_that_cannot_be_scored_is_refused_by_name(columns: dict[str, Any], fix: str) -> None:
    assert fix in refused(columns)


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1", b"age,sex\n"])
def test_a_damaged_file_is_refused(content: bytes) -> None:
    with pytest.raises(BadFile, match="not Parquet, or is damaged"):
        score_file("parquet", content)


def test_a_file_cut_off_in_its_pages_is_refused() -> None:
    content = bytearray(a_parquet({"age": list(range(30, 90)), "sex": [1] * 60}))
    content[4:60] = b"\xff" * 56

    with pytest.raises(BadFile, match="not Parquet, or is damaged"):
        score_file("parquet", bytes(content))


def test_a_file_with_fewer_rows_than_its_footer_says_is_refused() -> None:
    # Equal values take the same bytes, so the footer of one file fits the pages of the other.
    few, many = (a_parquet({"age": [54] * rows, "sex": [1] * rows}) for rows in (109, 110))
    footer = int.from_bytes(many[-8:-4], "little") + 8

    with pytest.raises(BadFile, match="row group 1 has 109 rows, but the footer says 110"):
        score_file("parquet", few[:-footer] + many[-footer:])


@pytest.mark.parametrize("rows", [0, 1])
def test_a_file_without_rows_has_a_result_without_rows(rows: int) -> None:
    columns = {"age": pa.array([54] * rows, pa.int64()), "sex": pa.array([1] * rows, pa.int64())}

    result = score_file("parquet", a_parquet(columns))

    assert read(result.content).num_rows == result.counts.rows == rows


@pytest.mark.parametrize("group", [3, 7, 100])
def test_reading_on_from_any_block_gives_the_same_blocks(group: int) -> None:
    content = a_parquet({"age": list(range(30, 53)), "sex": [1] * 23}, row_group_size=group)
    limits = Limits(rows=5)

    def shape(offset: int) -> list[tuple[int, int, bool, list[int]]]:
        table = open_table("parquet", a_scorer(), Options(), limits)
        blocks = table.blocks(io.BytesIO(content), offset)  # type: ignore[attr-defined]
        return [(b.start, b.end, b.first, b.items[0]["age"].to_pylist()) for b in blocks]

    def between(start: int, end: int) -> list[tuple[int, int, bool, list[int]]]:
        table = open_table("parquet", a_scorer(), Options(), limits)
        blocks = table.blocks_between(io.BytesIO(content), start, end)  # type: ignore[attr-defined]
        return [(b.start, b.end, b.first, b.items[0]["age"].to_pylist()) for b in blocks]

    def bounds(offset: int) -> list[Bounds]:
        table = open_table("parquet", a_scorer(), Options(), limits)
        return [*table.bounds(io.BytesIO(content), offset)]  # type: ignore[attr-defined]

    whole = shape(0)

    assert [each[:4] for each in bounds(0)] == [(s, e, e - s, first) for s, e, first, _ in whole]
    assert [age for *_, ages in whole for age in ages] == list(range(30, 53))
    for number, (_, end, *_) in enumerate(whole):
        assert shape(end) == [whole[0], *whole[number + 1 :]]
        assert len(bounds(end)) == len(shape(end))
        assert between(0, end) == whole[: number + 1]
        assert between(whole[number][0], whole[-1][1]) == whole[number:]


def test_the_same_file_gives_the_same_bytes() -> None:
    content = a_parquet(PATIENTS)

    assert score_file("parquet", content).content == score_file("parquet", content).content


def test_only_needed_columns_are_read() -> None:
    content = a_parquet({"age": [54], "sex": [1], "other": ["x"]})
    table = open_table("parquet", a_scorer(), Options(), Limits())

    [block] = blocks_of(table, [content])

    assert block.items[0].schema.names == ["age", "sex"]  # type: ignore[attr-defined]
    assert table.ignored_columns == ("other",)
