"""Checks columns of cells that have types: numbers, words, booleans, nulls.

Plain numbers are compared with their field's limits; every other distinct value goes to the
field's own reader once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shared.records.columns import UNREADABLE, Rejected, Values, faults, shared_rejections
from shared.records.errors import FieldError, RecordRejected
from shared.records.frames import decimals_of
from shared.records.schema import NOT_TEXT, RECORD_ID_LENGTH, FieldSpec, FieldTable


@dataclass(frozen=True, slots=True, repr=False)
class TypedRows:
    """Rows whose columns have types, checked."""

    ids: pl.Series
    """As text; None where there is none, or one that is rejected."""
    values: Values
    rejected: Rejected


def typed_rows(columns: Mapping[str, pl.Series], rows: int, table: FieldTable) -> TypedRows:
    """Check columns by the names of their fields and of the record's id; some may be absent."""
    found: dict[int, list[FieldError]] = {}
    if table.record_id in columns:
        ids, found = typed_ids(columns[table.record_id], table)
    else:
        ids = pl.Series([None], dtype=pl.String).new_from_index(0, rows)
    values = np.full((len(table.fields), rows), np.nan)
    for index, field in enumerate(table.fields):
        if field.name not in columns:  # a file without a required field was refused before
            continue
        cells = columns[field.name]
        values[index] = typed_values(cells, field)
        faulty = np.flatnonzero(faults(values[index], field))
        for row, rejections in explain(cells, faulty, field.read, field):
            found.setdefault(row, []).extend(rejections)
    return TypedRows(ids, values, shared_rejections(found))


def typed_values(cells: pl.Series, field: FieldSpec) -> NDArray[np.float64]:
    """One field's values: NaN for missing, `UNREADABLE` for what is neither number nor word."""
    if cells.dtype.is_numeric():
        return _floats(cells)
    distinct = cells.unique()
    known = [UNREADABLE if faults_of(field.read, cell) else field.read(cell) for cell in distinct]
    numbers = cells.replace_strict(distinct, pl.Series(known, dtype=pl.Float64))
    return numbers.to_numpy()


def _floats(cells: pl.Series) -> NDArray[np.float64]:
    """Numbers, NaN for null. A float32 becomes the decimal that was meant: 0.1 is 0.1."""
    if cells.dtype == pl.Float32:
        return decimals_of(cells.to_numpy())
    return cells.cast(pl.Float64).to_numpy()


def typed_ids(cells: pl.Series, table: FieldTable) -> tuple[pl.Series, dict[int, list[FieldError]]]:
    """Ids as text (None where invalid), and the errors by row."""
    if cells.dtype == pl.String:
        if (empty := (cells == "").arg_true()).len():
            cells = cells.clone().scatter(empty, None)
        suspect = (cells.str.len_chars() > RECORD_ID_LENGTH) | cells.str.contains(NOT_TEXT)
        found = {row: faults_of(table.read_id, cells[row]) for row in suspect.arg_true()}
        # A copy, because `scatter` writes in place and the result may repeat the column.
        return cells.clone().scatter(list(found), None) if found else cells, found
    if cells.dtype.is_integer() or cells.dtype.is_decimal() or cells.dtype == pl.Null:
        return cells.cast(pl.String), {}
    if cells.dtype.is_float():
        cells = pl.Series(_floats(cells), nan_to_null=True)
    texts: list[str | None] = []
    found = {}
    for row, cell in enumerate(cells.to_list()):
        faulty = faults_of(table.read_id, cell)
        texts.append(None if faulty else table.read_id(cell))
        if faulty:
            found[row] = faulty
    return pl.Series(texts, dtype=pl.String), found


def explain(
    cells: pl.Series, rows: NDArray[np.int64], read: Callable[[Any], float], field: FieldSpec
) -> Iterator[tuple[int, list[FieldError]]]:
    """Errors of the cells of these rows, all of which are rejected."""
    if len(rows) == 0:
        return
    known: dict[str | float | None, list[FieldError]] = {}
    for row, cell in zip(rows.tolist(), cells.gather(rows).to_list(), strict=True):
        if cell not in known:
            faulty = cell is not None and faults_of(read, cell)
            known[cell] = faulty or [field.rejection("missing_required")]
        yield row, known[cell]


def faults_of(read: Callable[[Any], object], cell: str | float) -> list[FieldError]:
    """Why a reader refuses a cell; empty if it does not."""
    try:
        read(cell)
    except RecordRejected as error:
        return list(error.rejections)
    return []
