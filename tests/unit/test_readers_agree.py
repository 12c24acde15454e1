"""The fast readers against plain ones: the same rows, the same rejections, however bytes come.

The plain readers are the standard library's `csv` and `json`, with the field table's own reading of
one record and the model asked row by row.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.files.base import Block, Limits, Table
from shared.files.formats import Format, open_table
from shared.files.json_typed import read_lines
from shared.files.options import Options
from shared.records.errors import RecordRejected
from shared.records.schema import FieldSpec, Record
from shared.records.scoring import Scorer
from shared.records.strict_json import parse_json
from tests.builders import NAMES, a_scorer, blocks_of, cut, json_lines, score_file
from training.heart.fields import TABLE

SCORER = a_scorer()
WORDS = sorted({word for field in TABLE.fields for word in field.words})

# Cells of real files and of bad ones, as the file has them.
CELL = st.one_of(
    st.integers(-2, 300).map(str),
    st.sampled_from(["", " ", "NA", "nan", "NaN", "?", '""', '" "', "-9", "1e2", "1e999", "-1.5"]),
    st.sampled_from(["0x10", "1_000", "inf", "Infinity", "١٢", "+5", ".5", "5.", " 5 ", '"6,5"']),
    st.sampled_from(
        ["1.5,", '"a""b"', '"a\nb"', '"a\r\nb"', 'a"b', '"a"b', '5" tube', '"1"', "é𝄞"]
    ),
    st.sampled_from(WORDS),
    st.sampled_from(WORDS).map(lambda word: f" {word.upper()}\t"),
)
LINE_END = st.sampled_from(["\n", "\r\n"])


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    """Files with columns in any order, blank lines, ragged rows and any quoting."""
    separator = draw(st.sampled_from(",;"))
    fields = draw(st.permutations([*NAMES, "note", "ward"]))[: draw(st.integers(2, 16))]
    columns = [*fields, *({"age", "sex"} - set(fields))]
    draw(st.randoms()).shuffle(columns)
    lines = [
        separator.join(draw(st.sampled_from([name, name.upper(), f" {name} "])) for name in columns)
    ]
    for number in range(draw(st.integers(0, 7))):
        if draw(st.integers(0, 5)) == 0:
            lines.append("")
        # The first row fits: a file whose every row has the same wrong width is refused.
        width = len(columns) + draw(st.sampled_from([0, 0, 0, 0, -1, 1] if number else [0]))
        cells = [_plausible(draw, columns[i % len(columns)]) for i in range(width)]
        if not number:
            cells = [cell.replace(",", "") for cell in cells]
            cells[0] = cells[0] if cells[0].strip(' "') else "1"  # a blank line is no row
        lines.append(separator.join(cell.replace(",", separator) for cell in cells))
    text = "".join(line + draw(LINE_END) for line in lines)
    if draw(st.booleans()):
        text = text.removesuffix("\n").removesuffix("\r")
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode()


def _plausible(draw: st.DrawFn, column: str) -> str:
    """Mostly a value that fits, so that rows with every number of faults occur."""
    field = TABLE.by_name.get(column)
    if field is None or draw(st.integers(0, 5)) == 0:
        cell: str = draw(CELL)
        return cell
    low, high = field.accept
    return str(draw(st.integers(math.ceil(low), math.floor(high))))


Row = tuple[str, str, str, str, str]
"""Id, probability, prediction, warnings, error: as the result's cells have them."""


def plain_rows(content: bytes, scorer: Scorer) -> list[Row]:
    """The expected result, by the standard library, one row at a time."""
    text = content.decode("utf-8-sig")
    first_line = text.split("\n")[0]
    separator = ";" if first_line.count(";") > first_line.count(",") else ","
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = [name.strip().lower() for name in header]
    return [_plain_row(names, row, separator, scorer) for row in rows if any(map(str.strip, row))]


def _plain_row(names: list[str], row: list[str], separator: str, scorer: Scorer) -> Row:
    if len(row) != len(names):
        return (
            "",
            "",
            "",
            "",
            f"wrong_field_count: the row must have {len(names)} cells, like the header",
        )
    cells = dict(zip(names, row, strict=True))
    patient_id = cells.pop(TABLE.record_id, "")
    try:
        record = scorer.table.read_cells(cells, patient_id, decimal_comma=separator == ";")
    except RecordRejected as error:
        return escaped(patient_id), "", "", "", str(error)
    score = scorer.score(record)
    warnings = "; ".join(score.warnings)
    return (
        escaped(patient_id),
        str(score.members["probability"]),
        str(score.members["prediction"]),
        warnings,
        "",
    )


def escaped(text: str) -> str:
    if not text.startswith(tuple("=+-@\t\r\n")):
        return text
    try:
        float(text.replace(",", "."))
    except ValueError:
        return f"'{text}"
    return text


@settings(max_examples=60, deadline=None, derandomize=True)
@given(csv_files(), st.integers(1, 5), st.integers(1, 200))
def test_a_csv_file_is_read_as_the_standard_library_reads_it(
    content: bytes, rows: int, size: int
) -> None:
    expected = plain_rows(content, SCORER)

    result = score_file("csv", content, limits=Limits(rows, size))

    found = [
        (
            row["patient_id"],
            row["probability"] and str(float(row["probability"])),
            row["prediction"],
            row["warnings"],
            row["error"],
        )
        for row in result.rows
    ]
    assert found == expected
    assert [row["row"] for row in result.rows] == [str(n + 1) for n in range(len(expected))]
    assert result.counts.rows == len(expected)
    assert result.counts.rejected == sum(row[4] != "" for row in expected)


def opened(kind: Format, limits: Limits) -> Table:
    return open_table(kind, SCORER, Options(), limits)


def shape(blocks: list[Block]) -> list[tuple[int, int, bool, bytes, list[int]]]:
    return [(b.start, b.end, b.first, b.lines.content, b.lines.ends.tolist()) for b in blocks]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(csv_files(), st.integers(1, 5), st.integers(1, 200))
def test_blocks_are_the_same_wherever_the_stream_is_cut(
    content: bytes, rows: int, size: int
) -> None:
    limits = Limits(rows, size)

    whole = shape(blocks_of(opened("csv", limits), [content]))

    assert shape(blocks_of(opened("csv", limits), cut(content, 1))) == whole
    for place in range(0, len(content), 7):
        pieces = [content[:place], content[place:]]
        assert shape(blocks_of(opened("csv", limits), pieces)) == whole


@settings(max_examples=40, deadline=None, derandomize=True)
@given(csv_files(), st.integers(1, 5), st.integers(1, 200), st.integers(1, 50))
def test_reading_on_from_any_block_gives_the_same_blocks(
    content: bytes, rows: int, size: int, step: int
) -> None:
    limits = Limits(rows, size)
    whole = blocks_of(opened("csv", limits), [content])

    for number, block in enumerate(whole):
        table = opened("csv", limits)
        for piece in cut(content, step):
            for _ in table.feed(piece):
                break
            if table.ready:
                break
        table.jump(block.end)

        rest = blocks_of(table, cut(content[block.end :], step))

        assert shape(rest) == shape(whole[number + 1 :])


def json_value(field: FieldSpec) -> st.SearchStrategy[object]:
    """Values good and bad, of every type that JSON has."""
    low, high = field.accept
    good: st.SearchStrategy[object] = (
        st.sampled_from([choice.code for choice in field.choices])
        if field.choices
        else st.floats(low, high) | st.integers(math.ceil(low), math.floor(high))
    )
    words: st.SearchStrategy[object] = st.sampled_from([*field.words, "NA", "?", "nan", ""])
    return st.one_of(
        good,
        good,
        good,
        words,
        st.none(),
        st.integers(-10, 1000),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from(["x", "Yes", "MALE", "1_000", "١"]),
    )


RECORD = st.fixed_dictionaries(
    {}, optional={field.name: json_value(field) for field in TABLE.fields}
) | st.fixed_dictionaries(
    {field.name: json_value(field) for field in TABLE.fields},
    optional={
        TABLE.record_id: st.sampled_from(["P1", "", "x" * 129, "a\x00b", "é" * 128, "-1", "=A1"])
    },
)
ODD_ITEM = st.one_of(
    st.none(),
    st.just([]),
    st.just({"age": 54, "sex": 1, "colour": 1}),
    st.just({"age": 54, "sex": True, "cp": False, "exang": True}),
    st.just({"age": [54], "sex": {"a": 1}}),
    st.just({"age": 10**400, "sex": 1}),
    st.just({"age": 54, "sex": 1, TABLE.record_id: 17}),
    st.just({"age": 54, "sex": 1, TABLE.record_id: 1.5}),
)


def answer(item: object) -> tuple[object, object, object]:
    """Probability, warnings and error of a record by the API's reader."""
    try:
        record: Record = TABLE.read(item)
    except RecordRejected as error:
        return None, None, str(error)
    return SCORER.score(record).members["probability"], "; ".join(record.warnings) or None, None


def answers(lines: list[dict[str, object]]) -> list[tuple[object, object, object]]:
    return [(line["probability"], line["warnings"], line["error"]) for line in lines]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(RECORD | ODD_ITEM, max_size=8), st.integers(1, 4), st.integers(1, 300))
def test_json_batches_say_of_each_record_what_the_api_says(
    items: list[object], rows: int, size: int
) -> None:
    limits = Limits(rows, size)
    # A file that begins without a record is refused.
    items = [{"age": 54, "sex": 1}, *items]
    expected = [answer(item) for item in items]

    array = score_file("json", json.dumps(items).encode(), limits=limits)
    parsed = score_file("json", b"", limits=limits, items=tuple(items))

    assert answers(array.lines) == expected
    assert answers(parsed.lines) == expected
    lines = score_file("jsonl", json_lines(*items), limits=limits)
    assert lines.content == array.content
    assert lines.counts == array.counts


# Values of one type, so that lines can be read as columns, and now and then something else.
RAW = st.integers(0, 300).map(str) | st.sampled_from(["1.5", "null", "-0", "1e2", "0.30000000001"])
ODD_RAW = st.sampled_from(
    [
        *("NaN", "-Infinity", "Inf", "1e999", "1e-999", "9" * 400, "1" * 5000, "01", "1.", "+1"),
        *("true", "[1]", "{}", '{"age":1}', "", "1 2", "1}", '"x"', '"12"', '"NA"', '"female"'),
        *(r'"\ud800"', r'"a\u0000b"', '"a\tb"', '"{"', '"NaN"', r'"\x"', '"open', '""', "nul"),
    ]
)
ODD_KEY = st.sampled_from(['"age"', r'"\u0061ge"', '"colour"', '""', "age", f'"{TABLE.record_id}"'])
ODD_LINE = st.sampled_from(
    [
        "{%s}",
        " {%s}\t",
        "{%s",
        "%s}",
        "[%s]",
        "{%s}null",
        "null{%s}",
        "{%s}{}",
        "{%s},",
        "null",
        "{}",
    ]
)


@st.composite
def flat_lines(draw: st.DrawFn) -> list[str]:
    """Lines with the same keys, most of them flat objects."""
    ids = draw(st.sampled_from(['"p%d"', '"%d"', "%d", "null"]))
    fields = draw(st.lists(st.sampled_from(["age", "sex", "chol", "oldpeak"]), unique=True))
    odd = draw(st.sampled_from([0, 0, 20, 5]))
    lines = []
    for number in range(draw(st.integers(1, 12))):
        members = [(f'"{TABLE.record_id}"', ids.replace("%d", str(number)))]
        for name in fields:
            is_odd = odd and draw(st.integers(0, odd)) == 0
            value = draw(ODD_RAW if is_odd else RAW)
            members.append(
                (draw(ODD_KEY) if is_odd and draw(st.booleans()) else f'"{name}"', value)
            )
        form = draw(ODD_LINE) if odd and draw(st.integers(0, odd)) == 0 else "{%s}"
        lines.append(form.replace("%s", ", ".join(f"{key}: {value}" for key, value in members)))
    return lines


def answer_of_line(line: str) -> tuple[object, object, object]:
    try:
        item = parse_json(line)
    except ValueError as error:
        return None, None, f"malformed: not a JSON object: {error}"
    return answer(item)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(flat_lines(), LINE_END)
def test_lines_that_are_read_as_columns_say_what_each_line_says(lines: list[str], end: str) -> None:
    first = ['{"age":54,"sex":1}'] * 12  # the first block is always read line by line
    content = end.join([*first, *lines]).encode()

    found = score_file("jsonl", content, limits=Limits(rows=24)).lines

    assert answers(found[12:]) == [answer_of_line(line.strip(" \t")) for line in lines]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_plain_lines_are_read_as_columns(end: str) -> None:
    lines = [
        '{"patient_id":7,"age":54,"sex":"female","exang":true,"oldpeak":1.5}',
        '{"cp":null,"sex":"male","age":66,"patient_id":8}',
        '{"sex":"x","exang":false,"age":1e2}',
    ]
    [block] = blocks_of(opened("jsonl", Limits()), [end.join(lines).encode()])

    rows = read_lines(block.lines, TABLE)

    assert rows is not None
    assert rows.ids.to_list() == ["7", "8", None]
    assert {row: [error.field for error in rows.rejected[row]] for row in rows.rejected} == {
        2: ["sex"]
    }


def cells_of(item: Mapping[str, object]) -> list[str]:
    return ["" if value is None else str(value) for value in item.values()]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(RECORD, min_size=1, max_size=8))
def test_a_record_means_the_same_in_csv_as_in_json(items: list[Mapping[str, object]]) -> None:
    # Without any value it is no record in JSON, and a blank line in CSV.
    items = [item if any(map(str.strip, cells_of(item))) else {"age": 54} for item in items]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, NAMES)
    writer.writeheader()
    writer.writerows(items)

    found = score_file("csv", text.getvalue().encode().replace(b"\0", b"\x01")).rows

    cells = [
        (
            float(row["probability"]) if row["probability"] else None,
            row["warnings"] or None,
            row["error"] or None,
        )
        for row in found
    ]
    assert cells == [answer(item) for item in items]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(["", " ", '{"age":54,"sex":1}', "{", '{"a":"é𝄞\\n"}', "[1]"]), max_size=8
    ),
    LINE_END,
    st.integers(1, 4),
    st.integers(1, 60),
)
def test_json_lines_are_the_same_wherever_the_stream_is_cut(
    lines: list[str], end: str, rows: int, size: int
) -> None:
    content = ('{"age":60,"sex":0}' + end + end.join(lines)).encode()
    limits = Limits(rows, size)

    whole = shape(blocks_of(opened("jsonl", limits), [content]))

    for step in (1, 2, 3, 11):
        assert shape(blocks_of(opened("jsonl", limits), cut(content, step))) == whole
    assert b"".join(content for *_, content, _ in whole).rstrip() == content.rstrip()
