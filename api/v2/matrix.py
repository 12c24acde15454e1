"""The model's rows, made of tensors and held to the same limits as records.

The columns are the fields that the model uses, in the manifest's order, as one tensor
`[rows, fields]` or as one tensor a field.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from math import nan
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from api.problems import ErrorEntry, Problem, entries_of
from api.v2.tensors import NAMED_FAULTS, malformed, read_tensor
from shared import metrics
from shared.files.advice import misnamed
from shared.records.coding import check_coding
from shared.records.columns import faults as column_faults
from shared.records.counts import Counts
from shared.records.errors import AnotherCoding, RecordRejected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from api.v2.schemas import InputTensor
    from shared.records.errors import FieldError
    from shared.records.schema import FieldSpec, FieldTable
    from shared.records.scoring import Matrix


class Column(NamedTuple):
    """Where the request has a column: in a tensor's data, from `first` on, each `step`."""

    tensor: str
    first: int = 0
    step: int = 1

    def pointer(self, row: int) -> str:
        return f"{self.tensor}/data/{self.first + row * self.step}"


def matrix_of(
    table: FieldTable, tensors: Sequence[InputTensor], tail: bytes, most_rows: int
) -> Matrix:
    """Rows [n, fields used] from tensors; `tail` holds their binary parts. Raises `Problem`."""
    names = table.used_names
    arrays: list[NDArray[np.float64]] = []
    for place, tensor in enumerate(tensors):
        if tensor.shape[0] > most_rows:
            raise Problem("too_many_rows", f"a request may hold {most_rows} rows")
        found, tail = read_tensor(tensor, tail, f"/inputs/{place}")
        arrays.append(found)
    if tail:
        raise Problem("malformed_tensor", "there are more bytes than the tensors name")
    if len(tensors) == 1 and tensors[0].name not in names:
        rows, columns = _whole(names, tensors[0], arrays[0])
    else:
        _refuse_markers(table, tensors)
        rows, columns = _one_a_field(names, tensors, arrays)
    _check(table, rows, columns)
    return rows.astype(np.float32)


def _whole(
    names: Sequence[str], tensor: InputTensor, found: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[Column | None]]:
    if len(tensor.shape) != 2 or tensor.shape[1] != len(names):
        raise malformed("/inputs/0/shape", f"the shape must be [rows, {len(names)}]")
    columns = [Column("/inputs/0", place, len(names)) for place in range(len(names))]
    return found.reshape(tensor.shape), [*columns]


def _refuse_markers(table: FieldTable, tensors: Sequence[InputTensor]) -> None:
    """Raise `Problem` if a tensor's name marks another coding."""
    marked = misnamed([tensor.name for tensor in tensors], (), table, "tensor")
    if marked:
        raise Problem("another_coding", marked)


def _one_a_field(
    names: Sequence[str], tensors: Sequence[InputTensor], arrays: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], list[Column | None]]:
    """Rows, and their columns; None is a field without a tensor: missing in every row."""
    count = tensors[0].shape[0]
    rows = np.full((count, len(names)), nan)
    columns: list[Column | None] = [None] * len(names)
    for place, (tensor, found) in enumerate(zip(tensors, arrays, strict=True)):
        pointer = f"/inputs/{place}"
        if tensor.name not in names:
            raise malformed(f"{pointer}/name", "the name must be one of " + ", ".join(names))
        column = names.index(tensor.name)
        if columns[column] is not None:
            raise malformed(f"{pointer}/name", "the same field appears more than once")
        if tensor.shape not in ([count], [count, 1]):
            raise malformed(
                f"{pointer}/shape", "all tensors must have the shape [rows] or [rows, 1]"
            )
        rows[:, column] = found
        columns[column] = Column(pointer)
    return rows, columns


def _check(table: FieldTable, rows: NDArray[np.float64], columns: Sequence[Column | None]) -> None:
    """Hold each value to its field's limits; count the rows if any is refused. Raises `Problem`."""
    entries: list[ErrorEntry] = []
    rejected: set[tuple[int, str]] = set()
    faulty: defaultdict[int, tuple[FieldError, ...]] = defaultdict(tuple)
    for name, values, column in zip(table.used_names, rows.T, columns, strict=True):
        field = table.by_name[name]
        suspects = np.flatnonzero(column_faults(values, field)).tolist()
        # A field without a tensor is one fault, not one a row.
        for row in suspects[:1] if column is None else suspects:
            rejections = _rejections(field, float(values[row]))
            faulty[row] += rejections
            rejected.update((row, rejection.code) for rejection in rejections)
            pointer = "" if column is None else column.pointer(row)
            entries += [
                entry.model_copy(update={"pointer": pointer}) for entry in entries_of(rejections)
            ]
    if entries:
        codes = Counter(code for _, code in rejected)
        metrics.count_rows("v2", 0, codes, len({row for row, _ in rejected}))
        _check_coding(table, faulty, len(rows), entries)
        raise Problem("record_rejected", errors=entries[:NAMED_FAULTS])


def _check_coding(
    table: FieldTable,
    faulty: Mapping[int, tuple[FieldError, ...]],
    rows: int,
    entries: list[ErrorEntry],
) -> None:
    """Say so if the faulty rows prove another coding. Raises `Problem`."""
    counts = Counts(rows)
    for rejections in faulty.values():
        counts.reject(rejections, table.coding_marks)
    try:
        check_coding(counts, table)
    except AnotherCoding as error:
        raise Problem("another_coding", error.reason, entries[:NAMED_FAULTS]) from error


def _rejections(field: FieldSpec, value: float) -> tuple[FieldError, ...]:
    try:
        read = field.read(value)
    except RecordRejected as error:
        return error.rejections
    # NaN, in a field that is required: no other is at fault.
    return (field.rejection("missing_required"),) if read != read else ()
