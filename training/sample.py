"""Reads CSV files: data for training, samples for an import.

Cells mean what they mean to the API and the worker: numbers, words of choices, ways to say missing.
Values are only read here; `checks.py` compares them with the field table.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.records.schema import (
    DECIMAL_COMMA,
    MISSING,
    NUMBER,
    FieldSpec,
    FieldTable,
    fold_word,
)
from training.errors import TrainingError
from training.export import sha256
from training.recipe import Dataset


def read_data(path: Path, table: FieldTable, outcome: str, one: str = "1") -> Dataset:
    """Training data from a CSV file with a column for each field that the model uses.

    The column `outcome` holds the outcome, which is 1 where a cell is `one`. Raises
    `TrainingError`.
    """
    sample = read_sample(path)
    if outcome not in sample.columns:
        raise TrainingError(f"{path} has no column {outcome}")
    outcomes = np.array([int(cell == one) for cell in sample.columns[outcome]])
    return Dataset(rows_of(table, sample, str(path)), outcomes, sha256(path.read_bytes()))


class Sample(NamedTuple):
    """The columns of a text file, by their names in its header."""

    columns: dict[str, list[str]]
    """Trimmed cells in the order of the rows; decimal points."""
    required: frozenset[str] = frozenset()
    """Columns that a signature requires; without one, columns without a missing cell."""
    signed: bool = False


def read_sample(path: Path) -> Sample:
    """Read a CSV file with a header: UTF-8; commas, or semicolons and decimal commas.

    Raises `TrainingError`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is not a text file in UTF-8 that can be read") from error
    head = text.partition("\n")[0]
    semicolons = head.count(";") > head.count(",")
    lines = csv.reader(io.StringIO(text), delimiter=";" if semicolons else ",")
    header = [name.strip() for name in next(lines, [])]
    rows = [line for line in lines if line]
    if not header or len(set(header)) != len(header):
        raise TrainingError(f"{path} needs a header line with different names")
    if not rows or any(len(row) != len(header) for row in rows):
        raise TrainingError(f"{path} needs rows with {len(header)} cells each, as in its header")
    columns = {
        name: [_cell(row[index], decimal_comma=semicolons) for row in rows]
        for index, name in enumerate(header)
    }
    return Sample(columns)


def _cell(text: str, *, decimal_comma: bool) -> str:
    text = text.strip()
    return text.replace(",", ".") if decimal_comma and DECIMAL_COMMA.fullmatch(text) else text


def rows_of(table: FieldTable, sample: Sample, source: str) -> NDArray[np.float64]:
    """The rows of a sample, [n, fields used], NaN where a cell is missing.

    Only reads the cells: the ranges are checked like those of training data. Raises
    `TrainingError`.
    """
    columns = []
    for field in (table.fields[index] for index in table.used):
        cells = sample.columns.get(field.name) or sample.columns.get(field.column)
        if cells is None:
            raise TrainingError(f"{source} has no column {field.column or field.name}")
        columns.append([_value(field, cell, source) for cell in cells])
    return np.array(columns, np.float64).T


def _value(field: FieldSpec, cell: str, source: str) -> float:
    if cell.lower() in MISSING:
        return math.nan
    if NUMBER.fullmatch(cell):
        return float(cell)
    code = field.words.get(fold_word(cell))
    if code is None:
        raise TrainingError(f"{source}: {field.name} holds a text that is none of its words")
    return code
