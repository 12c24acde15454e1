"""The same records mean the same in every format, and what a plain reader of that format gives.

The plain readers are `csv`, `json`, pyarrow's `to_pylist` and openpyxl's values; each of their
records is read as the API reads one.
"""

from __future__ import annotations

import csv
import datetime
import io
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shared.files.base import Limits
from shared.files.formats import Format
from shared.files.options import Options
from shared.records.errors import BadFile, RecordRejected
from shared.records.schema import NUMBER, FieldSpec
from tests.builders import Result, a_scorer, json_lines, score_file
from training.heart.fields import TABLE

SCORER = a_scorer()
ID = TABLE.record_id
Strategy = st.SearchStrategy[Any]
Table = dict[str, list[Any]]
Records = Sequence[Mapping[str, Any]]

quickly = settings(max_examples=15, deadline=None, derandomize=True)
LIMITS = st.integers(1, 5).map(lambda rows: Limits(rows=rows))


# Records: a column's values have one type, as Parquet wants it


def numbers(field: FieldSpec) -> Strategy:
    low, high = field.accept
    return st.integers(math.ceil(low), math.floor(high)) | st.integers(-3, 900)


def fractions(field: FieldSpec) -> Strategy:
    # openpyxl writes 16 digits.
    floats = (st.floats(*field.accept) | st.floats(-10, 1000)).map(lambda x: float(f"{x:.15g}"))
    return floats | st.sampled_from([1e-7, 1e22])


def words(field: FieldSpec) -> Strategy:
    own = st.sampled_from(sorted(field.words) or ["x"])
    return own | st.sampled_from(["NA", "?", "n/a", "Male ", "UP", "lots", "reversible-defect"])


def booleans(_: FieldSpec) -> Strategy:
    return st.booleans()


VALUES: list[Callable[[FieldSpec], Strategy]] = [numbers, numbers, fractions, words, booleans]
# A row with nothing but separators and quotes is no row in CSV.
TEXT_IDS = st.text("aé𝄞 ,;\t\"'#=-@0.\n", max_size=6).filter(
    lambda text: any(map(str.isalnum, text))
) | st.sampled_from(["00123", "NA", "#N/A", " a ", "x" * 129, "=1+1"])


@st.composite
def tables(draw: st.DrawFn) -> Table:
    rows = draw(st.integers(1, 8) | st.just(15))
    fields = [f for f in TABLE.fields if f.required or draw(st.booleans())]
    columns = {
        field.name: draw(_column(draw(st.sampled_from(VALUES))(field), rows)) for field in fields
    }
    if draw(st.booleans()):
        columns[ID] = draw(_column(draw(st.sampled_from([TEXT_IDS, st.integers(0, 2**53)])), rows))
    names = draw(st.permutations(list(columns)))
    # A row without a value is no row in CSV and Excel.
    kept = [n for n in range(rows) if any(str(columns[m][n] or "x").strip() for m in names)]
    filled = [n for n in kept if any(columns[name][n] is not None for name in names)]
    assume(filled)  # a file without records is another case
    return {name: [columns[name][n] for n in filled] for name in names}


def _column(values: Strategy, rows: int) -> Strategy:
    return st.lists(st.none() | values | values, min_size=rows, max_size=rows)


def records_of(table: Table) -> list[dict[str, Any]]:
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


# The files


class Dialect(NamedTuple):
    separator: str = ","
    encoding: str = "utf-8"
    line_end: str = "\n"
    first: str = ""
    decimal: str = "."


PLAIN = Dialect()
DIALECTS = st.sampled_from(
    [
        PLAIN,
        Dialect(encoding="utf-8-sig", line_end="\r\n"),
        Dialect(";", "utf-8-sig", "\r\n", decimal=","),
        Dialect(";", first="sep=;\n", decimal=","),
        Dialect("\t", "utf-16", "\r\n"),
        Dialect("|"),
    ]
)


def as_csv(table: Table, dialect: Dialect = PLAIN) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=dialect.separator, lineterminator=dialect.line_end)
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow([_cell(value, dialect) for value in row])
    return (dialect.first + text.getvalue()).encode(dialect.encoding)


def _cell(value: object, dialect: Dialect) -> object:
    return str(value).replace(".", dialect.decimal) if isinstance(value, float) else value


def as_parquet(table: dict[str, Any] | pa.Table, row_group: int = 3) -> bytes:
    file = io.BytesIO()
    pq.write_table(
        table if isinstance(table, pa.Table) else pa.table(table), file, row_group_size=row_group
    )
    return file.getvalue()


def as_workbook(table: Table) -> bytes:
    book = openpyxl.Workbook()
    for place, (name, cells) in enumerate(table.items(), 1):
        for row, value in enumerate([name, *cells], 1):
            cell = book.active.cell(row, place, value)
            if isinstance(value, str):
                cell.data_type = "s"  # no formula, no error
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def files(table: Table, dialect: Dialect) -> dict[Format, bytes]:
    records = records_of(table)
    lines = json_lines(*records)
    return {
        "csv": as_csv(table, dialect),
        "json": b"[" + b",".join(lines.splitlines()) + b"]",
        "jsonl": lines,
        "parquet": as_parquet(table),
        "xlsx": as_workbook(table),
    }


# Expected results


def expected(records: Records) -> list[dict[str, Any]]:
    """The lines of a result, by the reader of one record."""
    return [_line(number, dict(record)) for number, record in enumerate(records, 1)]


def _line(number: int, record: dict[str, Any]) -> dict[str, Any]:
    line = dict.fromkeys((ID, "probability", "prediction", "warnings", "error"))
    with suppress(RecordRejected):
        line[ID] = TABLE.read_id(record.get(ID))
    try:
        found = TABLE.read(record)
    except RecordRejected as error:
        return {"row": number} | line | {"error": str(error)}
    score = SCORER.score(found)
    warnings = "; ".join(found.warnings) or None
    return {"row": number} | line | dict(score.members) | {"warnings": warnings}


def scored(kind: Format, content: bytes, limits: Limits, *, include_input: bool = False) -> Result:
    options = Options(include_input=include_input, output="jsonl")
    return score_file(kind, content, options=options, limits=limits, scorer=SCORER)


@quickly
@given(tables(), DIALECTS, LIMITS)
def test_a_record_means_the_same_in_every_format(
    table: Table, dialect: Dialect, limits: Limits
) -> None:
    lines = expected(records_of(table))
    rejected = sum(line["error"] is not None for line in lines)

    for kind, content in files(table, dialect).items():
        result = scored(kind, content, limits)

        assert result.lines == lines, kind
        assert (result.counts.rows, result.counts.rejected) == (len(lines), rejected), kind


@quickly
@given(tables(), LIMITS)
def test_every_format_repeats_its_input(table: Table, limits: Limits) -> None:
    records = records_of(table)
    texts = list(csv.DictReader(io.StringIO(as_csv(table).decode(), newline="")))

    for kind, content in files(table, PLAIN).items():
        lines = scored(kind, content, limits, include_input=True).lines

        found = [{name: line.get(f"input_{name}") for name in table} for line in lines]
        if kind == "csv":
            found = [{name: cell or "" for name, cell in record.items()} for record in found]
        assert found == (texts if kind == "csv" else records), kind


# Parquet: every type

DECIMALS = st.decimals(-5, 900, places=2)
TYPES: dict[pa.DataType, Strategy] = {
    pa.int8(): st.integers(-3, 127),
    pa.int64(): st.integers(-3, 300) | st.sampled_from([2**53 + 1, -(2**63)]),
    pa.uint16(): st.integers(0, 300),
    pa.uint64(): st.integers(0, 300) | st.just(2**64 - 1),
    pa.float32(): st.integers(-30, 3000).map(lambda tenths: tenths / 10),
    pa.float64(): st.floats(-5, 300) | st.sampled_from([math.nan, math.inf]),
    pa.bool_(): st.booleans(),
    pa.decimal128(7, 2): DECIMALS,
    pa.decimal128(38, 2): DECIMALS,
    pa.string(): st.sampled_from(["male", "NA", "1", "x", "yes", ""]),
    pa.large_string(): st.sampled_from(["female", "54", "flat"]),
    pa.null(): st.none(),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["male", "?", "no", "2"]),
    pa.dictionary(pa.int32(), pa.int64()): st.integers(-3, 300),
    pa.dictionary(pa.int16(), pa.float64()): st.floats(-5, 300),
}
UNREADABLE_TYPES: dict[pa.DataType, object] = {
    pa.timestamp("us"): datetime.datetime(2026, 1, 2),
    pa.timestamp("ns", "UTC"): datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    pa.date32(): datetime.date(2026, 1, 2),
    pa.time64("us"): datetime.time(12),
    pa.duration("s"): datetime.timedelta(1),
    pa.list_(pa.int64()): [1],
    pa.struct({"value": pa.int64()}): {"value": 1},
    pa.map_(pa.string(), pa.int64()): [("value", 1)],
    pa.binary(): b"1",
    pa.binary(1): b"1",
    pa.decimal256(50, 2): Decimal("1.00"),
    pa.dictionary(pa.int8(), pa.binary()): b"1",
}


@st.composite
def typed_tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 8))
    fields = [f.name for f in TABLE.fields if f.required or draw(st.booleans())]
    columns = {}
    for name in draw(st.permutations([*fields, ID])):
        kind = draw(st.sampled_from(list(TYPES)))
        columns[name] = pa.array(draw(_column(TYPES[kind], rows)), kind)
    return pa.table(columns)


def plain(value: object) -> object:
    """A value as the reader of a JSON record takes it."""
    match value:
        case Decimal():
            return float(value)
        case float() if math.isnan(value):
            return None
        case float() if float(np.float32(value)) == value:
            return float(str(np.float32(value)))  # the decimal that was meant
        case _:
            return value


@quickly
@given(typed_tables(), LIMITS)
def test_parquet_of_any_type_is_read_as_arrow_reads_it(table: pa.Table, limits: Limits) -> None:
    records = [{name: plain(v) for name, v in row.items()} for row in table.to_pylist()]
    ids = [row[ID] for row in table.to_pylist()]
    if pa.types.is_decimal(table.schema.field(ID).type):
        ids = [None if value is None else str(value) for value in ids]
    lines = expected([record | {ID: plain(i)} for record, i in zip(records, ids, strict=True)])

    assert scored("parquet", as_parquet(table), limits).lines == lines


@pytest.mark.parametrize("kind", UNREADABLE_TYPES, ids=str)
@quickly
@given(st.sampled_from([ID, *TABLE.by_name]))
def test_parquet_of_a_type_that_no_field_has_is_refused_by_name(
    kind: pa.DataType, name: str
) -> None:
    table = {"age": [54], "sex": [1], name: pa.array([UNREADABLE_TYPES[kind]], kind)}

    with pytest.raises(BadFile, match=f"column `{name}` has the type"):
        scored("parquet", as_parquet(table), Limits())


# Excel: every kind of cell

CELLS = st.one_of(
    st.none(),
    st.integers(-3, 300),
    st.floats(-5, 300).map(lambda x: float(f"{x:.15g}")),
    st.booleans(),
    st.sampled_from(["male", "Yes", "NA", "", " ", "54", " 1.5 ", "1,5", "x", "#N/A", "#REF!"]),
    st.dates(datetime.date(1990, 1, 1), datetime.date(2030, 1, 1)),
    st.just(datetime.datetime(2026, 1, 2, 12, 30)),
    st.just(datetime.time(12, 30)),
)


@quickly
@given(
    st.lists(
        st.fixed_dictionaries(dict.fromkeys(["age", "sex", "fbs", "chol"], CELLS)), max_size=8
    ),
    LIMITS,
)
def test_cells_are_read_as_openpyxl_reads_them(items: Records, limits: Limits) -> None:
    # The first row's age is a number: a row of texts alone, after the header, may be a comment.
    items = [{"age": 54, "sex": 1, "fbs": None, "chol": None}, *items]
    content = as_workbook({name: [item[name] for item in items] for name in items[0]})
    book = openpyxl.load_workbook(io.BytesIO(content))
    header, *rows = book.active.iter_rows(values_only=True)
    rows = [row for row in rows if any(str("" if v is None else v).strip() for v in row)]
    lines = expected([dict(zip(map(str, header), map(_stored, row), strict=True)) for row in rows])

    result = scored("xlsx", content, limits)

    assert [line["probability"] for line in result.lines] == [line["probability"] for line in lines]
    assert list(map(codes, result.lines)) == list(map(codes, lines))


def _stored(value: Any) -> object:
    """A cell's value, or one that no field takes where the cell shows something else."""
    dated = isinstance(value, datetime.date | datetime.time | datetime.timedelta)
    texted = isinstance(value, str) and NUMBER.fullmatch(value.strip())
    return object() if dated or texted else value


def codes(line: Mapping[str, Any]) -> list[list[str]]:
    """Code and field of each rejection."""
    return [part.split(" ")[:2] for part in (line["error"] or "").split("; ")]
