"""CSV batches: every form of a file, the errors of bad ones, and their results."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pytest

from shared.files.base import ROW_BYTES, Block, Limits, Table
from shared.files.formats import open_table
from shared.files.options import Options
from shared.records.counts import OTHER_ENCODING, Counts
from shared.records.errors import BadFile
from shared.records.kinds import Probability
from shared.records.schema import FieldTable
from shared.records.scoring import Scorer
from tests.builders import (
    NAMES,
    a_csv,
    a_patient,
    a_scorer,
    blocks_of,
    cut,
    json_lines,
    score_file,
)
from tests.fakes_model import FailingModel, FakeModel
from training.heart.fields import TABLE

HEADER = b"age,sex,cp,trestbps,chol\n"
PATIENT = b"54,1,3,130,250\n"
PROBABILITY = score_file("csv", HEADER + PATIENT).rows[0]["probability"]


def refused(content: bytes) -> str:
    with pytest.raises(BadFile) as caught:
        score_file("csv", content)
    return caught.value.reason


def error_of(cells: str, header: str = "age,sex,cp,trestbps,chol") -> str:
    # After a good row: a file whose only row has a wrong number of cells is refused.
    good = ",".join("54" if name == "age" else "1" for name in header.split(","))
    _, row = score_file("csv", f"{header}\n{good}\n{cells}\n".encode()).rows
    assert (row["probability"] == "") == (row["prediction"] == "") == (row["error"] != "")
    return row["error"]


# Forms of a file


@pytest.mark.parametrize(
    "content",
    [
        HEADER + PATIENT,
        b"\xef\xbb\xbf" + HEADER + PATIENT,
        (HEADER + PATIENT).replace(b"\n", b"\r\n"),
        HEADER + PATIENT.rstrip(),
        b"\n \r\n" + HEADER + b"\n\r\n" + PATIENT + b"\n  \n\n",
        b"chol,trestbps,cp,sex,age\n250,130,3,1,54\n",
        b" AGE ,Sex,CP,TrestBPS,\tchol\n" + PATIENT,
        b'"age","sex","cp","trestbps","chol"\n"54","1","3","130","250"\n',
        b"age;sex;cp;trestbps;chol\n54;1;3;130;250\n",
        b"age;sex;cp;trestbps;chol\n54,0;1;3;130,00;250\n",
        b"age,sex,cp,trestbps,chol\n54,MALE, asymptomatic ,1.3e2,250.0\n",
        b"age,sex,cp,trestbps,chol,thal,ca\n54,1,3,130,250,?,NA\n",
    ],
)
def test_the_same_patient_scores_the_same_in_every_form_of_file(content: bytes) -> None:
    result = score_file("csv", content)

    assert [(row["row"], row["probability"]) for row in result.rows] == [("1", PROBABILITY)]
    assert result.counts == Counts(rows=1)


def test_a_thousand_other_columns_are_ignored_and_listed() -> None:
    others = [f"other_{number}" for number in range(1000)]
    columns = [*others[:500], "sex", "chol", *others[500:], "age", "cp", "trestbps"]
    record = a_patient() | dict.fromkeys(others, "x")

    result = score_file("csv", a_csv(record, record, columns=columns))

    assert [row["probability"] for row in result.rows] == [PROBABILITY, PROBABILITY]
    assert result.table.ignored_columns == tuple(others)
    assert result.table.absent_fields == tuple(NAMES[6:])


def test_a_file_of_a_header_alone_has_no_rows() -> None:
    for content in (HEADER, HEADER.rstrip(), HEADER + b"\n\r\n"):
        result = score_file("csv", content)

        assert result.content == b"row,patient_id,probability,prediction,warnings,error\n"
        assert result.counts == Counts()


def test_ids_may_hold_line_ends_commas_quotes_and_any_script() -> None:
    ids = ["Doe,\nJane", 'the "first"', "Zoë\r\n李小龙 🫀", "é" * 128]

    result = score_file("csv", a_csv(*(a_patient(patient_id=name) for name in ids)))

    assert [row["patient_id"] for row in result.rows] == ids
    assert result.counts == Counts(rows=4)


def test_odd_quotes_before_crlf_leave_the_cell_as_it_is() -> None:
    content = b'age,sex,patient_id\r\n54,1,5" tube\r\n54,1,"a"b\r\n54,1,plain\r\n'

    rows = score_file("csv", content).rows

    assert [row["patient_id"] for row in rows] == ['5" tube', "ab", "plain"]


def test_a_file_of_one_column_may_have_blank_lines_and_empty_cells() -> None:
    table = FieldTable(fields=(TABLE.by_name["age"],))
    scorer = Scorer(FakeModel(), table, Probability(0.5))

    result = score_file("csv", b'age\n54\n\n""\n \n55\n', scorer=scorer)

    assert [error[:16] for error in result.errors] == ["", "missing_required", ""]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_excels_unicode_text_is_read(encoding: str) -> None:
    text = "patient_id\tAge\tsex\tchol\r\nMüller 🫀\t54\t1\t250,5\r\n"

    [row] = score_file("csv", text.encode(encoding)).rows

    assert row["patient_id"] == "Müller 🫀"
    assert row["error"] == ""


def test_utf_16_gives_the_same_blocks_wherever_it_is_cut_and_when_it_is_read_on() -> None:
    rows = "".join(f"Zoë {number}\t{30 + number}\t1\n" for number in range(20))
    content = f"patient_id\tage\tsex\n{rows}".encode("utf-16")
    limits = Limits(rows=3)

    def opened() -> Table:
        return open_table("csv", a_scorer(), Options(), limits)

    def shape(blocks: list[Block]) -> list[tuple[int, int, bytes]]:
        return [(block.start, block.end, block.lines.content) for block in blocks]

    whole = shape(blocks_of(opened(), [content]))
    table = opened()
    blocks_of(table, [content])

    assert len(whole) == 7
    assert shape(blocks_of(opened(), cut(content, 1))) == whole
    assert not table.jump(whole[3][1])
    assert shape(blocks_of(table, cut(content, 7))) == whole


def test_rows_that_are_not_utf_8_are_read_as_windows_1252_and_reported() -> None:
    rows = ["Zoë".encode(), "Müller".encode("cp1252"), b"plain", "5 €".encode("cp1252")]
    content = b"patient_id,age,sex,Gr\xf6\xdfe\n" + b"".join(name + b",54,1,x\n" for name in rows)

    result = score_file("csv", content)

    assert [row["patient_id"] for row in result.rows] == ["Zoë", "Müller", "plain", "5 €"]
    assert result.table.ignored_columns == ("Größe",)
    assert result.counts.marks == OTHER_ENCODING
    assert score_file("csv", "patient_id,age,sex\nZoë,54,1\n".encode()).counts.marks == 0


# Files that are refused


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        (b"", "the file is empty: a header line with column names is needed"),
        (b"\xef\xbb\xbf\r\n \n", "the file is empty"),
        ((HEADER + PATIENT).decode().encode("utf-16")[:-1], "like UTF-16, but is damaged"),
        ((HEADER + PATIENT).decode().encode("utf-16-be"), "UTF-16; save it as UTF-8"),
        (b"patient_id,age,sex\nZo\x9d,54,1\n", "byte 21 is not UTF-8: save the file as UTF-8"),
        (b"na\x9dve,age,sex\nx,54,1\n", "byte 2 is not UTF-8"),
        (HEADER + PATIENT + b"\0" * 100, "byte 40 is NUL"),
        (b"\x1f\x8b\x08\x00", "is gzip: give it a name that ends in .gz"),
        (b"sex,cp\n1,3\n", "no column `age`, which every record needs"),
        (b"54,1,3,130,250\n54,1,3,130,250\n", "first line holds values, not names of columns"),
        (b"age,sex\r54,1\r", "CR alone: save the file with LF or CRLF"),
        (b"age,sex,chol,CHOL\n", "column `chol` appears twice"),
        (b"age,sex,patient_id,Patient_ID\n", "column `patient_id` appears twice"),
        (
            b"age,sex,cholesterol\n",
            "`cholesterol` (did you mean `chol`?) is not a field",
        ),
        (b"age,sex,Chest Pain\n", "did you mean `cp`?"),
        (b"age,sex,thalac\n", "did you mean `thalach`?"),
        (b"age,sex,my\tnote,cholesterol\n", "did you mean `chol`?"),
        (b"age,gender\n", "--rename gender=sex"),
        (
            b"age,sex,cp,target\n",
            "column `target`: such a column is in files that",
        ),
        (b"age,sex,cp,Num\n", "column `Num`: such a column is in files that"),
        (b'age,sex,"note\n54,1,x\n', "the header opens a quote that is never closed"),
        (HEADER + PATIENT + b'54,1,"3,130,250\n' + PATIENT, "row that starts at byte 40 opens"),
        (b"age,sex" + b",x" * 20_000 + b"\n", "more than 16384 columns"),
        (b"x" * (ROW_BYTES + 1), "the first line is longer than 1048576 bytes"),
        (b"age,sex," + b"x" * ROW_BYTES + b"\n", "the first line is longer than 1048576 bytes"),
        (bytes(range(254, 0, -1)) * 20, "is not UTF-8"),
        (b"lorem ipsum, dolor\n" * 270, "no column `age`, `sex`"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_fix(content: bytes, fix: str) -> None:
    assert fix in refused(content)


def test_an_unclosed_quote_is_refused_however_long_the_file_goes_on() -> None:
    content = HEADER + b'54,1,"3,130,250\n' + PATIENT * 200_000

    assert refused(content) == "the row that starts at byte 25 opens a quote that is never closed"


def test_a_column_that_only_looks_like_an_absent_field_of_two_letters_is_ignored() -> None:
    assert score_file("csv", b"age,sex,cap,cat\n54,1,x,y\n").table.ignored_columns == ("cap", "cat")


def test_a_column_like_a_field_that_is_there_is_ignored() -> None:
    table = score_file("csv", b"age,sex,chol,cholesterol\n54,1,250,x\n").table

    assert table.ignored_columns == ("cholesterol",)


# Rows that are rejected


@pytest.mark.parametrize(
    ("cells", "error"),
    [
        (",1,3,130,250", "missing_required: age is required"),
        ("?,1,3,130,250", "missing_required: age is required"),
        ("fifty,1,3,130,250", "not_a_number: age must be a number from 18 to 110 years"),
        ("inf,1,3,130,250", "not_a_number: age must be a number from 18 to 110 years"),
        ("-Infinity,1,3,130,250", "not_a_number: age must be a number from 18 to 110 years"),
        ("1_0,1,3,130,250", "not_a_number: age must be a number from 18 to 110 years"),
        ("0x36,1,3,130,250", "not_a_number: age must be a number from 18 to 110 years"),
        ("٥٤,1,3,130,250", "not_a_number: age must be a number from 18 to 110 years"),
        ("true,1,3,130,250", "not_a_number: age must be a number from 18 to 110 years"),
        ("1e999,1,3,130,250", "out_of_range: age must be from 18 to 110 years"),
        (f"{'9' * 5000},1,3,130,250", "out_of_range: age must be from 18 to 110 years"),
        ("17.999999,1,3,130,250", "out_of_range: age must be from 18 to 110 years"),
        ("54,1,3,130,0", "(0 does not mean missing: leave out what is not known)"),
        ("54,1,3,130,5.2", "(looks like mmol/l: multiply by 38.67 for mg/dl)"),
        ("54,x,3,130,250", "unknown_value: sex must be one of 0 (female), 1 (male)"),
        ("54,0.5,3,130,250", "unknown_value: sex must be one of 0 (female), 1 (male)"),
        ("54,inf,3,130,250", "unknown_value: sex must be one of 0 (female), 1 (male)"),
        ("54,1,4,130,250", "(UCI's own codes 1 to 4 are 0 to 3 here)"),
        ("54,1,3,130", "wrong_field_count: the row must have 5 cells, like the header"),
        ("54,1,3,130,250,1", "wrong_field_count: the row must have 5 cells, like the header"),
        ('54,1,3,"130,250"', "wrong_field_count: the row must have 5 cells, like the header"),
        ("54", "wrong_field_count: the row must have 5 cells, like the header"),
    ],
)
def test_a_bad_row_says_why(cells: str, error: str) -> None:
    assert error in error_of(cells)


def test_a_row_names_all_its_faults_in_the_order_of_the_table() -> None:
    error = error_of("\x01,9,x,cold,5.2", "patient_id,chol,age,cp,sex")

    assert [part.split(":")[0] for part in error.split("; ")] == [
        "not_text",
        "not_a_number",
        "unknown_value",
        "unknown_value",
        "out_of_range",
    ]


def test_a_bad_row_leaves_its_neighbours_their_scores() -> None:
    result = score_file("csv", HEADER + PATIENT + b"54,1,3\n" + PATIENT + b"x,1,3,1,2\n" + PATIENT)

    assert [row["probability"] for row in result.rows] == [
        PROBABILITY,
        "",
        PROBABILITY,
        "",
        PROBABILITY,
    ]
    assert result.counts.rejected == 2
    assert result.counts.codes == {"wrong_field_count": 1, "not_a_number": 1, "out_of_range": 1}


@pytest.mark.parametrize("plain", range(0, 70, 7))
def test_a_cell_too_few_is_not_made_up_for_by_one_too_many(plain: int) -> None:
    short, long = b"54,1,3\n", PATIENT[:-1] + b",1,1\n"

    result = score_file("csv", HEADER + PATIENT * plain + short + long + PATIENT)

    assert result.counts.codes == {"wrong_field_count": 2}
    assert [row["error"] == "" for row in result.rows] == [True] * plain + [False, False, True]


def test_values_of_another_coding_are_counted() -> None:
    result = score_file(
        "csv",
        HEADER + PATIENT + b"54,1,4,130,250\n54,1,4,-9,250\n54,1,9,130,250\n400,1,4,130,250\n",
    )

    assert result.counts.other_coding == 2  # one row has another fault as well
    assert result.counts.rejected == 4


def test_a_decimal_comma_is_one_only_where_semicolons_separate() -> None:
    semicolons = score_file("csv", b"age;sex;oldpeak\n54;1;2,5\n54;1;2.5\n54;1;1.234,5\n").rows
    commas = score_file("csv", b'age,sex,oldpeak\n54,1,2.5\n54,1,"2,5"\n').rows

    assert semicolons[0]["probability"] == semicolons[1]["probability"] == commas[0]["probability"]
    assert [row["error"][:12] for row in semicolons] == ["", "", "not_a_number"]
    assert [row["error"][:12] for row in commas] == ["", "not_a_number"]


def test_a_cell_of_two_megabytes_is_rejected_and_its_neighbours_are_scored() -> None:
    header = b"patient_id,age,sex,cp,trestbps,chol\n"
    long = b'"' + b"x\n" * (1 << 20) + b'",' + PATIENT
    content = header + b"a," + PATIENT + long + b"b," + PATIENT

    for step in (64 << 10, 4 << 20):
        table = open_table("csv", a_scorer(), Options(), Limits())
        blocks = blocks_of(table, cut(content, step))
        output = b"".join(
            table.score(table.read(block), row).content for row, block in enumerate(blocks, 1)
        )

        rows = list(csv.DictReader(io.StringIO(output.decode())))
        assert [row["probability"] for row in rows] == [PROBABILITY, "", PROBABILITY]
        assert [row["patient_id"] for row in rows] == ["a", "", "b"]
        assert rows[1]["error"] == f"too_long: the row is longer than {ROW_BYTES} bytes"


def test_a_row_may_be_as_long_as_the_limit_and_no_longer() -> None:
    def row(length: int) -> bytes:
        return b"x" * (length - len(PATIENT) - 1) + b"," + PATIENT

    content = b"note,age,sex,cp,trestbps,chol\n" + row(ROW_BYTES) + row(ROW_BYTES + 1)

    assert [error[:8] for error in score_file("csv", content).errors] == ["", "too_long"]


def test_an_invalid_id_is_not_shown() -> None:
    ids = ["x" * 129, "bell\x07", "x" * 128, "tab\tand\nline"]
    content = a_csv(*(a_patient(patient_id=name) for name in ids))

    rows = score_file("csv", content + b"a,b\n").rows

    assert [row["patient_id"] for row in rows] == ["", "", *ids[2:], ""]
    assert [row["error"].split(":")[0] for row in rows] == [
        "too_long",
        "not_text",
        "",
        "",
        "wrong_field_count",
    ]


def test_only_rows_that_the_model_cannot_answer_are_rejected_for_it() -> None:
    content = a_csv(*(a_patient(age=age) for age in (54, 66, 55, 66, 54)))

    result = score_file("csv", content, scorer=a_scorer(FailingModel(66)))

    assert [error != "" for error in result.errors] == [False, True, False, True, False]
    assert result.rows[0]["probability"] == PROBABILITY
    assert result.counts.codes == {"model_error": 2}


def test_a_mark_of_utf_8_inside_the_file_is_no_part_of_a_number() -> None:
    content = HEADER + PATIENT + b"\xef\xbb\xbf" + PATIENT

    whole = score_file("csv", content)
    single = score_file("csv", content, limits=Limits(rows=1))

    assert [error[:12] for error in whole.errors] == ["", "not_a_number"]
    assert single.content == whole.content


@pytest.mark.parametrize("begin", ["x^", "x\x01", "x\u0680"])
def test_rows_that_begin_like_a_packed_file_are_rows(begin: str) -> None:
    content = f"patient_id,age,sex\n1,63,1\n{begin}1,63,1\n".encode()

    whole = score_file("csv", content)
    single = score_file("csv", content, limits=Limits(rows=1))

    assert whole.rows[0]["probability"] == single.rows[0]["probability"]
    assert single.content == whole.content


# Results


def test_rows_keep_their_order_and_number_in_blocks_of_any_size() -> None:
    records = [a_patient(patient_id=f"P{n}", age=18 + n % 100) for n in range(1000)]
    content = a_csv(*records)

    result = score_file("csv", content, limits=Limits(rows=7, size=1 << 10))

    assert [row["patient_id"] for row in result.rows] == [f"P{n}" for n in range(1000)]
    assert [row["row"] for row in result.rows] == [str(n) for n in range(1, 1001)]
    assert result.content == score_file("csv", content).content


def test_probabilities_are_the_shortest_text_that_gives_the_float32_back() -> None:
    rng = np.random.default_rng(5)
    records = [
        a_patient(age=int(a), chol=float(c))
        for a, c in zip(rng.integers(18, 110, 500), rng.uniform(50, 700, 500), strict=True)
    ]
    scores = [a_scorer().score(TABLE.read(record)) for record in records]
    expected = [float(score.members["probability"]) for score in scores]

    rows = score_file("csv", a_csv(*records)).rows

    assert [float(row["probability"]) for row in rows] == expected
    assert all(
        len(row["probability"]) <= len(str(p)) for row, p in zip(rows, expected, strict=True)
    )
    assert [row["prediction"] for row in rows] == [str(int(p >= 0.5)) for p in expected]


def test_a_value_outside_the_training_range_is_scored_with_a_warning() -> None:
    result = score_file("csv", HEADER + b"85,1,3,220,250\n" + PATIENT)

    assert [row["warnings"] for row in result.rows] == [
        "age outside training range 29 to 77 years; "
        "trestbps outside training range 94 to 200 mm Hg",
        "",
    ]
    assert result.counts.warned == 1


def test_the_edges_of_the_training_range_are_inside_it() -> None:
    result = score_file("csv", HEADER + b"29,1,3,94,126\n77,1,3,200,564\n")

    assert [row["warnings"] for row in result.rows] == ["", ""]


def test_a_row_without_a_score_has_no_warnings() -> None:
    content = a_csv(a_patient(age=85, chol=-1), a_patient(age=85, trestbps=220))

    result = score_file("csv", content, scorer=a_scorer(FailingModel(85)))

    assert [row["warnings"] for row in result.rows] == ["", ""]
    assert result.counts.warned == 0


RISKY = [
    "=1+1",
    "+cmd",
    "-x",
    "@sum",
    "\ty",
    "\r=1",
    "\n=1",
    "＝1",
    "-1+2",
    "=",
    "-",
    "\tx",
    "\rx",
    "\nx",
]
HARMLESS = ["-1.5", "+5", "-1,5", "1e-3", "-.5", "a=1", "'=1", "P-1", "?"]


def test_text_that_a_spreadsheet_would_run_is_escaped_and_numbers_are_not() -> None:
    texts = RISKY + HARMLESS
    records = [a_patient(patient_id=text) | {"note": text} for text in texts]
    content = a_csv(*records, columns=[*NAMES, "note"])

    rows = score_file("csv", content, include_input=True).rows

    expected = [f"'{text}" for text in RISKY] + HARMLESS
    for column in ("patient_id", "input_patient_id", "input_note"):
        assert [row[column] for row in rows] == expected


@pytest.mark.parametrize("text", RISKY + HARMLESS)
def test_one_such_id_in_a_plain_file_is_escaped_as_well(text: str) -> None:
    rows = score_file("csv", a_csv(a_patient(patient_id="P1"), a_patient(patient_id=text))).rows

    assert rows[1]["patient_id"] == (f"'{text}" if text in RISKY else text)


@pytest.mark.parametrize("separator", [";", "\t", "; "])
@pytest.mark.parametrize("sign", "=+-@")
def test_a_formula_is_escaped_where_a_spreadsheet_would_split_the_cell(
    separator: str, sign: str
) -> None:
    text = f"ward 3{separator}{sign}1+1"
    record = a_patient(patient_id=text) | {"note": text}
    content = a_csv(a_patient(patient_id="P1") | {"note": ""}, record, columns=[*NAMES, "note"])

    scored = score_file("csv", content, include_input=True)

    cells = [scored.rows[1][name] for name in ("patient_id", "input_patient_id", "input_note")]
    assert cells == [f"ward 3{separator}'{sign}1+1"] * 3
    assert scored.content.count(f'"ward 3{separator}'.encode()) == 3


def test_warnings_that_hold_a_semicolon_are_quoted() -> None:
    content = a_csv(a_patient(trestbps=240, chol=650))

    [row] = score_file("csv", content).content.decode().splitlines()[1:]

    assert f'"{row.split(chr(34))[1]}"' in row
    assert ";" in row.split('"')[1]
    assert ";" not in row.replace(row.split('"')[1], "")


@pytest.mark.parametrize("character", ["\x01", "\x1f", "\x7f"])
def test_one_id_with_a_control_character_in_a_plain_file_is_refused(character: str) -> None:
    content = a_csv(a_patient(patient_id="P1"), a_patient(patient_id=f"P{character}"))

    rows = score_file("csv", content).rows

    assert [(row["patient_id"], row["error"] != "") for row in rows] == [("P1", False), ("", True)]


def test_input_columns_come_back_as_they_came_and_read_alike_everywhere() -> None:
    columns = ["Note, long", "AGE", "sex", "oldpeak", "patient_id", "ward"]
    texts = [
        ["a", "54", "male", "-1.50", "P1", "x"],
        ['say "hi"', " 54 ", "1", "2.0", "line\nend", "a;b"],
        ["", "54.0", "FEMALE", "NA", "Zoë 🫀", "  "],
        ["r\r\nn", "300", "?", "", "007", "a,b"],
    ]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([columns, *texts])

    output = score_file("csv", text.getvalue().encode(), include_input=True).content

    names = [f"input_{name}" for name in columns]
    by_csv = list(csv.DictReader(io.StringIO(output.decode(), newline="")))
    by_pandas = pd.read_csv(io.BytesIO(output), dtype=str, keep_default_na=False)
    by_polars = pl.read_csv(output, infer_schema=False).fill_null("")
    assert [[row[name] for name in names] for row in by_csv] == texts
    assert by_pandas[names].to_numpy().tolist() == texts
    assert by_polars.select(names).rows() == [tuple(row) for row in texts]
    probabilities = [float(row["probability"]) for row in by_csv if row["probability"]]
    assert pd.read_csv(io.BytesIO(output))["probability"].dropna().tolist() == probabilities
    assert pl.read_csv(output)["probability"].drop_nulls().to_list() == probabilities


# The result has the dialect of the input


@pytest.mark.parametrize(
    ("content", "header", "row"),
    [
        (b"age,sex\n54,1\n", b"row,patient_id,", b"1,,0.34017825,0,,,54,1\n"),
        (b"age,sex\r\n54,1\r\n", b"row,patient_id,", b"1,,0.34017825,0,,,54,1\r\n"),
        (b"\xef\xbb\xbfage,sex\n54,1", b"\xef\xbb\xbfrow,patient_id,", b",54,1\n"),
        (b"age;sex\n54;1\n", b"row;patient_id;", b"1;;0,34017825;0;;;54;1\n"),
        (b"age;sex;x\n54;1;2,5\n", b"row;patient_id;", b"1;;0,34017825;0;;;54;1;2,5\n"),
        (b"age;sex;x\n54;1;2.5\n", b"row;patient_id;", b"1;;0.34017825;0;;;54;1;2.5\n"),
        (b"age\tsex\n54\t1\n", b"row\tpatient_id\t", b"1\t\t0.34017825\t0\t\t\t54\t1\n"),
        (b"age\tsex\tx\n54\t1\t2,5", b"row\t", b"1\t\t0,34017825\t0\t\t\t54\t1\t2,5\n"),
        (b"age|sex|x\n54|1|a,b\n", b"row|", b"1||0.34017825|0|||54|1|a,b\n"),
        (b"sep=;\r\nage;sex\r\n54;1\r\n", b"row;", b"1;;0,34017825;0;;;54;1\r\n"),
        ("age\tsex\r\n54\t1\r\n".encode("utf-16"), b"\xef\xbb\xbfrow\t", b"\t54\t1\r\n"),
        (b"age;sex;x\r\n54;1;\xfc\r\n", b"\xef\xbb\xbfrow;", b";54;1;\xc3\xbc\r\n"),
        (b"age;sex;\xfc\r\n54;1;a\r\n", b"\xef\xbb\xbfrow;", b";54;1;a\r\n"),
    ],
)
def test_a_result_is_written_as_its_input(content: bytes, header: bytes, row: bytes) -> None:
    output = score_file("csv", content, include_input=True).content

    assert output.startswith(header)
    assert output.endswith(row)
    assert output.count(b"\n") == 2


def test_the_sign_of_most_numbers_at_the_top_is_that_of_the_result() -> None:
    top = b"54;1;2,5;1.5\n" + b"54;1;2,5;x\n" * 10_000

    found = score_file("csv", b"age;sex;oldpeak;note\n" + top + b"54;1;2.5;2.5\n" * 20_000).content

    assert found.splitlines()[-1].startswith(b"30001;;0,")


def test_blocks_and_pieces_do_not_change_the_dialect() -> None:
    content = b"patient_id;age;sex;oldpeak\r\n" + b"M\xfcller;54;1;2,5\r\nx;54;1;1\r\n" * 9

    def scored(step: int, limits: Limits) -> bytes:
        table = open_table("csv", a_scorer(), Options(include_input=True), limits)
        blocks = blocks_of(table, cut(content, step))
        return b"".join(
            table.score(table.read(block), 1 if block.first else 3).content for block in blocks
        ).replace(b"\r\n3;", b"\r\n1;")

    whole = scored(len(content), Limits(rows=2))

    assert whole.startswith(b"\xef\xbb\xbfrow;")
    assert whole.count(b"\xef\xbb\xbf") == 1
    assert scored(1, Limits(rows=2)) == whole


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("text", ["=1+1", "a,=1+1", "a, @x", "-x"])
def test_text_is_escaped_in_every_dialect(separator: str, text: str) -> None:
    row = ["54", "1", f'"{text}"', f'"{text}"']
    content = separator.join(["age", "sex", "patient_id", "note"]) + f"\n{separator.join(row)}\n"

    [found] = score_file("csv", content.encode(), include_input=True).rows

    expected = text.replace(",=", ",'=").replace(" @", " '@")
    expected = f"'{expected}" if text[0] in "=-" else expected
    assert [found["patient_id"], found["input_note"]] == [expected, expected]


def test_cells_of_a_ragged_row_come_back_as_far_as_they_go() -> None:
    content = b"age,sex,note\n54,1\n54,1,a,b\n"

    rows = score_file("csv", content, include_input=True).rows

    assert [(row["input_age"], row["input_note"]) for row in rows] == [("54", ""), ("54", "a")]


def test_no_error_holds_a_value_of_a_record() -> None:
    secret = "4711.25"
    content = ",".join(NAMES) + "\n"
    for place in range(len(NAMES)):
        cells = ["54"] * len(NAMES)
        cells[place] = secret
        content += ",".join(cells) + "\n" + ",".join([secret] * (place + 1)) + "\n"

    result = score_file("csv", content.encode())

    assert result.counts.rejected == 2 * len(NAMES)
    assert secret not in "".join(result.errors)


def test_csv_and_json_lines_count_alike() -> None:
    records = [
        a_patient(),
        a_patient(age=85),
        a_patient(cp=4),
        a_patient(age=None),
        a_patient(age="x"),
    ]

    by_csv = score_file("csv", a_csv(*records))
    by_json = score_file("jsonl", json_lines(*records))

    assert by_csv.counts == by_json.counts
    assert Counts.of(by_csv.counts.numbers) == by_csv.counts
    assert [json.loads(row["probability"] or "null") for row in by_csv.rows] == [
        line["probability"] for line in by_json.lines
    ]


def test_memory_does_not_grow_with_the_file() -> None:
    def peak(rows: int) -> int:
        table = open_table("csv", a_scorer(), Options(), Limits(rows=2000, size=1 << 17))
        row = 1
        tracemalloc.start()
        for piece in [HEADER, *[PATIENT * 5000] * (rows // 5000)]:
            for block in table.feed(piece):
                row += table.score(table.read(block), row).counts.rows
        for block in table.finish():
            row += table.score(table.read(block), row).counts.rows
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert row == rows + 1
        return most

    peak(5000)
    assert peak(200_000) < 1.5 * peak(20_000)
