"""The model's rows, made from tensors and checked against the same limits as records.

The columns are the fields that the model uses, in the manifest's order, as one tensor
`[rows, fields]`, or any fields as one tensor each. A tensor of the records' own ids may join them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from math import nan
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from api.problems import ErrorEntry, Problem, entries_of
from api.v2.tensors import malformed, problem_at, read_tensor
from shared import metrics
from shared.files.advice import misnamed
from shared.records.coding import check_coding
from shared.records.columns import faults as column_faults
from shared.records.counts import Counts
from shared.records.errors import AnotherCoding, RecordRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from api.v2.schemas import InputTensor
    from api.v2.tensors import Cells
    from shared.records.errors import FieldError
    from shared.records.schema import FieldSpec, FieldTable
    from shared.records.scoring import Matrix

T = TypeVar("T")
Rejections = dict[int, "tuple[FieldError, ...]"]
"""By row."""


class Rows(NamedTuple):
    """The rows of a request."""

    matrix: Matrix
    """[n, fields used]"""
    ids: list[str | None] | None
    """The records' own ids, if a tensor holds them."""


class Column(NamedTuple):
    """One field's values, and where the request has them: in a tensor's data, each `step`."""

    cells: Cells
    tensor: str
    first: int = 0
    step: int = 1

    def pointer(self, row: int) -> str:
        return f"{self.tensor}/data/{self.first + row * self.step}"


def rows_of(table: FieldTable, tensors: Sequence[InputTensor], tail: bytes, most_rows: int) -> Rows:
    """Rows from tensors; `tail` holds their binary parts. Raises `Problem`."""
    count = tensors[0].shape[0]
    cells: list[Cells] = []
    for index, tensor in enumerate(tensors):
        if tensor.shape[0] > most_rows:
            raise too_many(most_rows)
        found, tail = read_tensor(
            tensor, tail, f"/inputs/{index}", exact=tensor.name == table.record_id
        )
        cells.append(found)
    if tail:
        raise Problem("malformed_tensor", "there are more bytes than the tensors name")
    others = [tensor.name for tensor in tensors if tensor.name != table.record_id]
    whole = len(others) == 1 and others[0] not in table.by_name
    if not whole:
        _refuse_markers(table, others)
    columns: dict[str, Column] = {}
    for index, tensor in enumerate(tensors):
        if whole and tensor.name != table.record_id:
            columns |= _all_fields(table, index, tensor, cells[index], count)
        elif tensor.name in columns:
            raise malformed(f"/inputs/{index}/name", "the same field appears more than once")
        else:
            columns[tensor.name] = _one_field(table, index, tensor, cells[index], count)
    return _checked(table, columns, count)


def too_many(most: int) -> Problem:
    """The problem of more rows than one request may have."""
    return Problem("too_many_rows", f"a request may hold {most} rows")


def _refuse_markers(table: FieldTable, names: Sequence[str]) -> None:
    """Raise `Problem` if a tensor's name marks another coding."""
    marked = misnamed(names, (), table, "tensor")
    if marked:
        raise Problem("another_coding", marked)


def _all_fields(
    table: FieldTable, index: int, tensor: InputTensor, cells: Cells, count: int
) -> dict[str, Column]:
    pointer, names, step = f"/inputs/{index}", table.used_names, len(table.used)
    if tensor.shape != [count, step]:
        raise malformed(f"{pointer}/shape", f"the shape must be [rows, {step}]")
    return {name: Column(cells[i::step], pointer, i, step) for i, name in enumerate(names)}


def _one_field(
    table: FieldTable, index: int, tensor: InputTensor, cells: Cells, count: int
) -> Column:
    pointer = f"/inputs/{index}"
    if tensor.name not in table.known_keys:
        names = ", ".join([*table.by_name, table.record_id])
        near = table.near(tensor.name)
        guess = f"; did you mean {near}?" if near else ""
        raise malformed(f"{pointer}/name", f"the name must be one of {names}{guess}")
    if tensor.shape not in ([count], [count, 1]):
        raise malformed(
            f"{pointer}/shape", f"all tensors must have the shape [{count}] or [{count}, 1]"
        )
    return Column(cells, pointer)


def _checked(table: FieldTable, columns: dict[str, Column], count: int) -> Rows:
    """Hold each value to its field's limits. Raises `Problem`."""
    faults = _Faults()
    ids = None
    if (column := columns.pop(table.record_id, None)) is not None:
        ids, rejections = _read_each(column.cells, table.read_id)
        faults.add(column, rejections)
    matrix: list[NDArray[np.float64]] = []
    for field in table.fields:
        column = columns.get(field.name)
        values = np.full(count, nan)
        if column is not None:
            values, rejections = _values(field, column.cells)
            faults.add(column, rejections)
        elif field.required and field.used and count:
            faults.add(None, {0: (field.rejection("missing_required"),)})
        if field.used:
            matrix.append(values)
    faults.check(table, count)
    return Rows(np.stack(matrix, axis=1).astype(np.float32), ids)


class _Faults:
    """The faults of a request."""

    def __init__(self) -> None:
        self._entries: list[ErrorEntry] = []
        self._rows: defaultdict[int, tuple[FieldError, ...]] = defaultdict(tuple)

    def add(self, column: Column | None, rejections: Rejections) -> None:
        """Add a column's rejections; None: a field without a tensor, one fault for all rows."""
        for row, errors in sorted(rejections.items()):
            self._rows[row] += errors
            pointer = "" if column is None else column.pointer(row)
            self._entries += [
                entry.model_copy(update={"pointer": pointer}) for entry in entries_of(errors)
            ]

    def check(self, table: FieldTable, rows: int) -> None:
        """Count the rejected rows, if there are any, and raise `Problem`."""
        if not self._entries:
            return
        codes: Counter[str] = Counter()
        for errors in self._rows.values():
            codes.update({error.code for error in errors})
        metrics.count_rows("v2", 0, codes, len(self._rows))
        counts = Counts(rows)
        for errors in self._rows.values():
            counts.reject(errors, table.coding_marks)
        try:
            check_coding(counts, table)
        except AnotherCoding as error:
            raise problem_at("another_coding", self._entries, error.reason) from error
        raise problem_at("record_rejected", self._entries)


def _values(field: FieldSpec, cells: Cells) -> tuple[NDArray[np.float64], Rejections]:
    """A column's values for the model, and why rows are rejected."""
    rejected: Rejections = {}
    if cells.dtype == np.object_:
        read, rejected = _read_each(cells, lambda cell: _read(field, cell))
        cells = np.array(read, np.float64)
    values = cells.astype(np.float64)
    for row in np.flatnonzero(column_faults(values, field)).tolist():
        if row not in rejected:
            rejected[row] = rejections(field, float(values[row]))
    return values, rejected


def _read(field: FieldSpec, cell: object) -> float:
    """Texts are read as cells of CSV are; false and true are the codes 0 and 1."""
    if isinstance(cell, str):
        return field.read_text(cell)
    if isinstance(cell, bool) and field.codes == {0, 1}:
        return float(cell)
    return field.read(cell)


def _read_each(
    cells: Cells, read: Callable[[object], T | None]
) -> tuple[list[T | None], Rejections]:
    """Read each cell; None for those that are rejected, and why they are."""
    results: list[T | None] = []
    rejections: Rejections = {}
    for row, cell in enumerate(cells.tolist()):
        try:
            results.append(read(cell))
        except RecordRejected as error:
            results.append(None)
            rejections[row] = error.rejections
    return results, rejections


def rejections(field: FieldSpec, value: float) -> tuple[FieldError, ...]:
    """Why a field does not accept a number; empty if it does."""
    try:
        read = field.read(value)
    except RecordRejected as error:
        return error.rejections
    # NaN, in a field that is required: no other is at fault.
    return (field.rejection("missing_required"),) if read != read else ()
