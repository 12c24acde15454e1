"""JSON batches: arrays and lines, the errors of bad ones, and their results."""

from __future__ import annotations

import io
import json

import pandas as pd
import polars as pl
import pytest

from shared.files.base import ROW_BYTES, Limits
from shared.files.formats import Format, open_table
from shared.files.options import Options
from shared.records.counts import Counts
from shared.records.errors import BadFile
from shared.records.strict_json import MAX_DEPTH
from tests.builders import a_csv, a_patient, a_scorer, blocks_of, cut, json_lines, score_file
from tests.fakes_model import FailingModel

PATIENT = json.dumps(a_patient()).encode()
PROBABILITY = score_file("json", PATIENT).lines[0]["probability"]
BOTH: tuple[Format, Format] = ("json", "jsonl")


def score_text(kind: Format, *records: str, include_input: bool = False) -> list[dict[str, object]]:
    """Rows for records given as JSON text, in either form of file."""
    text = f"[{','.join(records)}]" if kind == "json" else "\n".join(records)
    return score_file(kind, text.encode(), include_input=include_input).lines


def refused(kind: Format, content: bytes) -> str:
    with pytest.raises(BadFile) as caught:
        score_file(kind, content)
    return caught.value.reason


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("json", PATIENT),
        ("json", b"\xef\xbb\xbf [ " + PATIENT + b" ] \r\n"),
        ("json", json.dumps([a_patient()], indent=2).encode()),
        ("jsonl", PATIENT),
        ("jsonl", PATIENT + b"\n"),
        ("jsonl", b"\xef\xbb\xbf\r\n" + PATIENT + b"\r\n\r\n \n"),
        ("json", b'[{"age":54.0,"sex":"Male","cp":"asymptomatic","trestbps":1.3e2,"chol":250}]'),
    ],
)
def test_the_same_patient_scores_the_same_in_every_form_of_file(
    kind: Format, content: bytes
) -> None:
    result = score_file(kind, content)

    assert [(line["row"], line["probability"]) for line in result.lines] == [(1, PROBABILITY)]
    assert result.counts == Counts(rows=1)


def test_an_empty_array_has_no_rows() -> None:
    assert score_file("json", b" [ ] ").content == b""
    assert score_file("json", b"", items=()).counts == Counts()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty: an array of JSON objects is needed"),
        (b"\xef\xbb\xbf \n", "the file is empty"),
        (b"hello", "not JSON: an array of objects is needed"),
        (b"54", "not JSON: an array of objects is needed"),
        (b"[" + PATIENT, "a comma or ] is missing after record 1"),
        (b"[" + PATIENT + b" " + PATIENT + b"]", "a comma or ] is missing after record 1"),
        (b"[" + PATIENT + b",]", "record 2 is not JSON: Expecting value at character"),
        (b"[" + PATIENT + b",{'age':54}]", "record 2 is not JSON: Expecting property name"),
        (PATIENT + b"\n" + PATIENT, "name the file .jsonl if it has one object on each line"),
        (b'[{"age":NaN}]', "record 1 is not JSON: NaN is not JSON: use null for missing"),
        (b'[{"age":-Infinity}]', "record 1 is not JSON: -Infinity is not JSON"),
        (b'[{"age":' + b"1" * 5000 + b"}]", "record 1 is not JSON: a number has too many digits"),
        (b"[" * 100_000, "record 1 is not JSON: nested too deeply"),
        (b'[{"age":' * 100_000, "record 1 is not JSON: nested too deeply"),
        (json.dumps([a_patient()]).encode("utf-16"), "UTF-16, not UTF-8: save it as UTF-8"),
        ('[{"patient_id":"Zoë"}]'.encode("latin-1"), "byte 18 is not UTF-8: save the file as"),
        (PATIENT + b"\0", "is NUL"),
        (b"\x1f\x8b\x08\x00", "is gzip: give it a name that ends in .gz"),
    ],
)
def test_an_array_that_cannot_be_read_is_refused_with_the_reason(
    content: bytes, reason: str
) -> None:
    assert reason in refused("json", content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty: one JSON object on each line is needed"),
        (b"\n \r\n\n\n", "the file is empty"),
        (b"\n" * (ROW_BYTES + 1), "the file is empty"),
        (PATIENT.decode().encode("utf-16"), "UTF-16, not UTF-8: save it as UTF-8"),
        (PATIENT + b'\n{"patient_id":"Zo\xeb"}\n', "is not UTF-8: save the file as UTF-8"),
        (PATIENT + b"\n\0\0\0", "is NUL"),
    ],
)
def test_lines_that_cannot_be_read_are_refused_with_the_reason(content: bytes, reason: str) -> None:
    assert reason in refused("jsonl", content)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "malformed: not a JSON object: Expecting property name"),
        ("hello", "malformed: not a JSON object: Expecting value at character 0"),
        (f"{PATIENT.decode()} 1", "malformed: not a JSON object: there is more after it"),
        ('{"age":NaN,"sex":1}', "malformed: not a JSON object: NaN is not JSON: use null"),
        ('{"age":Infinity,"sex":1}', "malformed: not a JSON object: Infinity is not JSON"),
        (
            '{"age":' + "1" * 5000 + "}",
            "malformed: not a JSON object: a number has too many digits",
        ),
        ("[" * 100_000, "malformed: not a JSON object: nested too deeply"),
    ],
)
def test_a_line_that_is_no_json_leaves_its_neighbours_their_scores(line: str, error: str) -> None:
    first, bad, last = score_text("jsonl", PATIENT.decode(), line, PATIENT.decode())

    assert error in str(bad["error"])
    assert bad["probability"] is bad["prediction"] is None
    assert first["probability"] == last["probability"] == PROBABILITY


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("record", "error"),
    [
        ("[54, 1]", "malformed: a record must be a JSON object"),
        ("null", "malformed: a record must be a JSON object"),
        ('"age"', "malformed: a record must be a JSON object"),
        ("{}", "malformed: one object, none of whose keys is a field"),
        ('{"age":null,"sex":"NA"}', "missing_required: age is required; missing_required: sex"),
        ('{"age":54,"sex":1,"age":55}', "duplicate_field: age appears more than once"),
        ('{"age":54,"sex":1,"cholesterol":250}', "(did you mean `chol`?)"),
        ('{"age":54,"sex":1,"Age":54}', "unknown_field: Age is not a field (did you mean `age`?)"),
        (
            '{"age":"54","sex":1}',
            "not_a_number: age must be a number from 18 to 110 years (send it",
        ),
        ('{"age":true,"sex":1}', "not_a_number: age must be a number"),
        ('{"age":[54],"sex":1}', "not_a_number: age must be a number"),
        ('{"age":1e999,"sex":1}', "out_of_range: age must be from 18 to 110 years"),
        ('{"age":54,"sex":1e999}', "unknown_value: sex must be one of 0 (female), 1 (male)"),
        ('{"age":1' + "0" * 400 + ',"sex":1}', "out_of_range: age must be from 18 to 110 years"),
        ('{"age":54,"sex":true}', "unknown_value: sex must be one of 0 (female), 1 (male)"),
        ('{"age":54,"sex":"\\ud800"}', "unknown_value: sex must be one of 0 (female), 1 (male)"),
        ('{"age":54,"sex":1,"\\ud800":1}', "unknown_field: ? is not a field"),
        ('{"age":54,"sex":1,"patient_id":"\\ud800"}', "not_text: patient_id must be text"),
        ('{"age":54,"sex":1,"patient_id":true}', "not_text: patient_id must be text"),
        ('{"age":54,"sex":1,"patient_id":"' + "x" * 129 + '"}', "too_long: patient_id is longer"),
    ],
)
def test_a_bad_record_says_why_in_either_form(kind: Format, record: str, error: str) -> None:
    first, bad, last = score_text(kind, PATIENT.decode(), record, PATIENT.decode())

    assert error in str(bad["error"])
    assert bad["probability"] is bad["prediction"] is None
    assert first["probability"] == last["probability"] == PROBABILITY


@pytest.mark.parametrize("kind", BOTH)
def test_depth_is_refused_at_the_same_place_wherever_it_is_read(kind: Format) -> None:
    def record(depth: int) -> str:
        return '{"age":' + "[" * (depth - 1) + "]" * (depth - 1) + ',"sex":1}'

    [_, allowed] = score_text(kind, PATIENT.decode(), record(MAX_DEPTH), include_input=True)

    assert "not_a_number" in str(allowed["error"])
    if kind == "json":
        assert "nested too deeply" in refused(kind, f"[{record(MAX_DEPTH + 1)}]".encode())
    else:
        [_, deeper] = score_text(kind, PATIENT.decode(), record(MAX_DEPTH + 1))
        assert "nested too deeply" in str(deeper["error"])


@pytest.mark.parametrize("content", [b"{}", b"7"])
def test_a_file_of_a_byte_or_two_is_refused(content: bytes) -> None:
    assert "object" in refused("jsonl", content)


def test_brackets_inside_text_are_no_depth() -> None:
    [line] = score_text("json", json.dumps(a_patient(patient_id="[{" * 60)))

    assert line["probability"] == PROBABILITY


def test_thousands_of_unknown_or_doubled_keys_are_answered_quickly_and_shortly() -> None:
    unknown = json.dumps(a_patient() | {f"key_{n}": n for n in range(20_000)})
    doubled = '{"age":1,' + ",".join(f'"key_{n}":1,"key_{n}":2' for n in range(20_000)) + "}"

    [first] = score_text("json", unknown)
    [second] = score_text("json", doubled)

    assert str(first["error"]).count("unknown_field") == 10
    assert str(second["error"]).count("duplicate_field") == 10


def test_a_line_over_the_limit_leaves_its_neighbours_their_scores() -> None:
    long = '{"age":54,"sex":1,"x":"' + "x" * ROW_BYTES + '"}'

    first, bad, last = score_text("jsonl", PATIENT.decode(), long, PATIENT.decode())

    assert "too_long: the row is longer than" in str(bad["error"])
    assert first["probability"] == last["probability"] == PROBABILITY


@pytest.mark.parametrize(
    ("start", "unit"), [('{"x":"', "x"), ("[", "[0,0],"), ("[1,", "22,"), ("[", '"\\u00e9",')]
)
@pytest.mark.parametrize("size", [ROW_BYTES, 3 * ROW_BYTES])
def test_an_array_with_a_record_over_the_limit_is_refused(start: str, unit: str, size: int) -> None:
    content = f"[{PATIENT.decode()},{start}{unit * (size // len(unit) + 1)}"

    assert refused("json", content.encode()) == f"record 2 is longer than {ROW_BYTES} characters"


def test_a_fault_early_in_a_large_array_is_named() -> None:
    content = b"[" + PATIENT + b",{'age':54}," + b" " * (3 * ROW_BYTES)

    assert "record 2 is not JSON: Expecting property name" in refused("json", content)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_an_array_reads_alike_in_pieces_of_any_size(size: int) -> None:
    records = [a_patient(patient_id=f"Zoë 🫀 {n}") for n in range(50)]
    text = json.dumps(records, ensure_ascii=False, indent=1)

    def blocks(size: int) -> list[tuple[int, int, list[object]]]:
        table = open_table("json", a_scorer(), Options(), Limits(rows=7))
        found = blocks_of(table, cut(b"\xef\xbb\xbf" + text.encode(), size))
        return [(block.start, block.end, block.items) for block in found]

    assert blocks(size) == blocks(1 << 20)
    assert [item for *_, items in blocks(size) for item in items] == records


def test_blocks_of_a_long_array_come_while_it_is_read() -> None:
    table = open_table("json", a_scorer(), Options(), Limits())

    early = list(table.feed(b"[" + b",".join([PATIENT] * 60_000)))

    assert early[0].first
    assert sum(len(block.items) for block in early) >= 32_000


@pytest.mark.parametrize("kind", BOTH)
def test_rows_keep_their_order_and_number_in_blocks_of_any_size(kind: Format) -> None:
    records = [json.dumps(a_patient(patient_id=f"P{n}", age=18 + n % 100)) for n in range(500)]
    text = "[" + ",\n".join(records) + "]" if kind == "json" else "\n".join(records)

    result = score_file(kind, text.encode(), limits=Limits(rows=7, size=1 << 10))

    assert [line["patient_id"] for line in result.lines] == [f"P{n}" for n in range(500)]
    assert [line["row"] for line in result.lines] == list(range(1, 501))
    assert result.content == score_file(kind, text.encode()).content


def test_probabilities_are_those_of_csv() -> None:
    records = [a_patient(age=18 + n % 90, chol=50 + n) for n in range(300)]

    by_json = score_file("jsonl", json_lines(*records))
    by_csv = score_file("csv", a_csv(*records))

    assert [line["probability"] for line in by_json.lines] == [
        float(row["probability"]) for row in by_csv.rows
    ]
    assert by_json.counts == by_csv.counts


def test_an_id_may_be_a_whole_number_and_is_shown_as_text() -> None:
    [line] = score_text("json", json.dumps(a_patient(patient_id=4711)))

    assert line["patient_id"] == "4711"


def test_a_rejected_record_shows_its_id_unless_that_is_at_fault() -> None:
    records = [
        a_patient(patient_id="P1", age=5),
        a_patient(patient_id="x" * 129),
        a_patient(patient_id=True),
    ]
    doubled = ['{"patient_id":"P4","age":1,"age":2}', '{"patient_id":"a","patient_id":"b"}']

    lines = score_text("jsonl", *map(json.dumps, records), *doubled)

    assert [line["patient_id"] for line in lines] == ["P1", None, None, "P4", None]


def test_only_records_that_the_model_cannot_answer_are_rejected_for_it() -> None:
    content = json_lines(*(a_patient(age=age) for age in (54, 66, 85)))

    result = score_file("jsonl", content, scorer=a_scorer(FailingModel(66)))

    assert [line["error"] is None for line in result.lines] == [True, False, True]
    assert result.counts == Counts(rows=3, rejected=1, warned=1, codes={"model_error": 1})


def test_input_comes_back_as_it_came() -> None:
    record = {"age": 54, "sex": "Male", "chol": 250.5, "patient_id": "=1+1 🫀", "thal": None}
    odd = '{"age":[1,{"a":1e999}],"sex":1e999,"chol":5}'
    half = '{"age":54,"sex":1,"note \\ud800":["\\udc00 \\ud83e\\udec0"]}'

    lines = score_text("jsonl", json.dumps(record), odd, half, "7", include_input=True)

    inputs = [{k: v for k, v in line.items() if k.startswith("input_")} for line in lines]
    assert inputs == [
        {f"input_{name}": value for name, value in record.items()},
        {"input_age": [1, {"a": None}], "input_sex": None, "input_chol": 5},
        {"input_age": 54, "input_sex": 1, "input_note ?": ["? 🫀"]},
        {},
    ]


def test_results_read_alike_everywhere() -> None:
    records = [a_patient(patient_id="Zoë\u2028🫀\n", age=85), a_patient(age=5), a_patient(chol=-1)]

    result = score_file("jsonl", json_lines(*records), include_input=True)

    by_pandas = pd.read_json(io.BytesIO(result.content), lines=True, precise_float=True)
    by_polars = pl.read_ndjson(result.content)
    assert by_pandas["patient_id"][0] == by_polars["patient_id"][0] == "Zoë\u2028🫀\n"
    assert by_pandas["probability"][0] == by_polars["probability"][0]
    assert by_polars["probability"].to_list() == [line["probability"] for line in result.lines]
    assert by_polars["input_chol"].to_list() == [250, 250, -1]
    assert len(result.content.decode().splitlines()) == 3


def test_many_blank_lines_within_a_block_are_no_rows() -> None:
    record = json_lines(a_patient())
    content = record + b"\n" * 9 * len(record) + record

    result = score_file("jsonl", content, limits=Limits(size=4 * len(record)))

    assert [line["row"] for line in result.lines] == [1, 2]


def test_lines_of_any_length_are_repeated_in_the_result() -> None:
    short = a_patient(patient_id="a")
    long = short | {"patient_id": "x" * 120}
    records = [short, long, short, short, long]
    limits = Limits(size=4 * len(json_lines(short)) + 40)

    result = score_file("jsonl", json_lines(*records), include_input=True, limits=limits)

    assert [line["input_patient_id"] for line in result.lines] == [
        record["patient_id"] for record in records
    ]


def test_no_error_holds_a_value_of_a_record() -> None:
    secret = "Rumpelstilzchen"
    records = [
        {"age": secret, "sex": secret, "cp": [secret], "patient_id": [secret]},
        [secret],
        secret,
    ]

    lines = score_text("jsonl", *map(json.dumps, records), '{"age":"' + secret)

    assert all(line["error"] and secret not in str(line["error"]) for line in lines)


@pytest.mark.parametrize(
    "odd",
    [
        '{"age":54,"sex":1},{"age":55,"sex":1}',
        '{"age":54,"sex":1,"age":55}',
        '{"age":54,"sex":1,"note":{"a":1}}',
        '{"age":54,"sex":1,"note":[1]}',
        '{"age":54,"sex":1,"patient_id":"12:30"}',
        '{"age":54,"sex":1',
        '{"age":54,"sex":NaN}',
        '{"age":54,"patient_id":"x}',
        '{"}',
        '{"a":',
        '{"a":{}',
        "{}",
    ],
)
def test_an_odd_line_among_plain_ones_is_read_as_if_it_were_alone(odd: str) -> None:
    plain = ['{"age":54,"sex":1}', '{"age":66,"sex":0,"cp":3}', '{"}', '{"age":70,"sex":1}']

    among = score_text("jsonl", *plain, odd, *plain)
    alone = score_text("jsonl", plain[0], odd)

    assert [line["error"] for line in among[4:5]] == [line["error"] for line in alone[1:]]
    assert [line["row"] for line in among] == list(range(1, 10))
    assert [line["error"] is None for line in among[5:]] == [True, True, False, True]
