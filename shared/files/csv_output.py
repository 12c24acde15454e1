"""Scores as CSV, in the dialect of the input. Text that a spreadsheet would run is escaped."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl
from numpy.typing import NDArray

from shared.files.dialect import Dialect
from shared.files.output import Column, Shown, as_json
from shared.records.columns import Outcome

# First characters that make a spreadsheet run a cell (OWASP, CSV injection); numbers stay.
FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"
SLICE = 1024
"""Rows that are quoted at once if many are rejected: their errors may be larger than the input."""
PLAIN_NUMBER = r"^[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?$"


class CsvOutput:
    """Writes CSV."""

    resumes = True

    def __init__(self, columns: Sequence[str]) -> None:
        """`columns`: names of those that every result has."""
        self._columns = columns

    def write(self, outcome: Outcome, shown: Shown, first_row: int, *, first: bool) -> bytes:
        ids, dialect = as_series(shown.ids), shown.dialect
        columns = result_columns(outcome, ids if shown.plain else escape(ids, dialect), first_row)
        names = [*self._columns]
        if shown.inputs is not None:
            columns += [_as_cells(as_series(column), dialect) for column in shown.inputs.columns()]
            names += [f"input_{name}" for name in shown.inputs.names]
        buffer = io.BytesIO()
        if first:
            buffer.write(_header_line(names, dialect))
        output = pl.DataFrame([column.alias(f"o{i}") for i, column in enumerate(columns)])
        many = len(outcome.errors) > len(output) // 4
        for rows in output.iter_slices(SLICE) if many else [output]:
            _quoted(rows, dialect.needs_quotes).write_csv(
                buffer,
                include_header=False,
                quote_style="never",
                separator=dialect.separator,
                line_terminator=dialect.line_end,
                decimal_comma=dialect.decimal_comma,
            )
        return buffer.getvalue()

    def finish(self) -> bytes:
        return b""


def as_series(column: Column) -> pl.Series:
    """A column of ids or inputs as a Polars series."""
    return column if isinstance(column, pl.Series) else pl.Series(column, dtype=pl.String)


def _as_cells(column: pl.Series, dialect: Dialect) -> pl.Series:
    """A column as CSV can hold it: numbers and times as they are, everything else as text."""
    if column.dtype == pl.Duration:
        return column.dt.to_string()
    if column.dtype.is_numeric() or column.dtype.is_temporal() or column.dtype == pl.Boolean:
        return column
    if column.dtype == pl.Binary:
        return column.bin.encode("base64")
    if column.dtype.is_nested() or column.dtype == pl.Object:
        texts = [None if v is None else json.dumps(v, default=as_json) for v in column.to_list()]
        column = pl.Series(texts, dtype=pl.String)
    return escape(column.cast(pl.String), dialect)


def result_columns(outcome: Outcome, ids: pl.Series, first_row: int) -> list[pl.Series]:
    """The columns of `output_columns`."""
    count = len(ids)
    return [
        pl.int_range(first_row, first_row + count, dtype=pl.Int64, eager=True),
        ids,
        *(_answer(values, list(outcome.errors)) for values in outcome.answers),
        _texts(outcome.warnings, count),
        _texts(outcome.errors, count),
    ]


def _answer(values: NDArray[Any], rejected: list[int]) -> pl.Series:
    """A column of the kind of answer, empty where the row was rejected."""
    if values.dtype.kind == "f":
        return pl.Series(values, nan_to_null=True)
    column = pl.Series(values)
    return column.scatter(rejected, None) if rejected else column


def _texts(texts: dict[int, str], count: int) -> pl.Series:
    if not texts:
        return nulls(count)
    # Many rows have the same text. Polars keeps a text that is gathered several times only once.
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts.values()))}
    places: list[int | None] = [None] * count
    for row, text in texts.items():
        places[row] = distinct[text]
    return pl.Series(list(distinct), dtype=pl.String).gather(pl.Series(places, dtype=pl.UInt32))


def nulls(count: int) -> pl.Series:
    """A column of text in which all cells are null."""
    # `pl.repeat` takes twelve times as long.
    return pl.Series([None], dtype=pl.String).new_from_index(0, count)


def escape(cells: pl.Series, dialect: Dialect) -> pl.Series:
    """Text that a spreadsheet would run gets an apostrophe; numbers stay."""
    if not cells.str.contains(f"{FORMULA}|{dialect.split_formula}").any():
        return cells
    risky = cells.str.contains(FORMULA) & ~cells.str.contains(PLAIN_NUMBER)
    split = cells.str.replace_all(dialect.split_formula, "${1}'${2}")
    return pl.select(pl.when(risky).then("'" + split).otherwise(split)).to_series()


def _quoted(output: pl.DataFrame, needs_quotes: str) -> pl.DataFrame:
    """The columns with their cells as a CSV file has them."""
    return output.with_columns(
        pl.when(column.str.contains(needs_quotes))
        .then('"' + column.str.replace_all('"', '""', literal=True) + '"')
        .otherwise(column)
        .alias(column.name)
        for column in output.get_columns()
        if column.dtype == pl.String and column.str.contains(needs_quotes).any()
    )


def _header_line(names: Iterable[str], dialect: Dialect) -> bytes:
    names = (re.sub(dialect.split_formula, r"\1'\2", name) for name in names)
    cells = (
        '"' + name.replace('"', '""') + '"' if re.search(dialect.needs_quotes, name) else name
        for name in names
    )
    line = dialect.separator.join(cells) + dialect.line_end
    return (codecs.BOM_UTF8 if dialect.bom else b"") + line.encode()
