"""Reads many parsed records at once, field by field.

Plain numbers are compared with their field's limits; every other distinct value goes to the field's
own reader once. Items that may not be records go to `FieldTable.read`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType

import numpy as np
from numpy.typing import NDArray

from shared.records.columns import (
    FEW,
    UNREADABLE,
    Rejected,
    Values,
    faults,
    shared_rejections,
)
from shared.records.errors import FieldError, RecordRejected
from shared.records.schema import (
    RECORD_ID_LENGTH,
    FieldSpec,
    FieldTable,
    Record,
    is_text,
)
from shared.records.shape import why_no_record


@dataclass(frozen=True, slots=True, repr=False)
class Records:
    """The results of parsed items, in order."""

    values: Values
    """NaN where a value is missing; meaningless where the item is rejected."""
    rejected: Rejected
    ids: list[str | None]
    """As the output shows them: also of a rejected record, if the id itself is accepted."""


def read_records(items: Sequence[object], table: FieldTable) -> Records:
    """Check parsed items; a `FieldError` among them says why there is none."""
    values = np.empty((len(table.fields), len(items)))
    ids: list[str | None] = [None] * len(items)
    rejected: Rejected = {}
    odd: Iterable[int] = range(len(items))
    if len(items) > FEW:
        rejected, odd = _read_columns(items, table, values, ids)
    for index in odd:
        item = items[index]
        found = _read(item, table)
        if isinstance(found, Record):
            values[:, index], ids[index] = found.values, found.id
        else:
            rejected[index], ids[index] = found, table.shown_id(item)
    return Records(values, dict(sorted(rejected.items())), ids)


def _read_columns(
    items: Sequence[object], table: FieldTable, values: Values, ids: list[str | None]
) -> tuple[Rejected, set[int]]:
    """Fill in values and ids.

    Returns rejections, and the indexes of items that are not records or whose keys are doubled.
    """
    odd = {i for i, item in enumerate(items) if type(item) is not dict}
    records = [item if type(item) is dict else {} for item in items]
    found: dict[int, list[FieldError]] = {}
    if not frozenset().union(*records) <= table.known_keys:
        found = _unknown_keys(records, table)
    ids[:], faulty = _plain_ids([record.get(table.record_id) for record in records], table)
    for index, errors in faulty.items():
        found.setdefault(index, []).extend(errors)
    for number, field in enumerate(table.fields):
        cells = [record.get(field.name) for record in records]
        values[number] = _column(cells, field)
        known: dict[tuple[type, object], tuple[FieldError, ...]] = {}
        for index in np.flatnonzero(faults(values[number], field)).tolist():
            cell = cells[index]
            nested = isinstance(cell, list | dict)
            if nested and why_no_record(records[index], table):
                odd.add(index)
            key = type(cell), None if nested else cell  # True is 1, but not the same value
            if key not in known:
                known[key] = _errors(cell, field)
            found.setdefault(index, []).extend(known[key])
    # Among them are objects without any field, which are not records.
    odd.update(np.flatnonzero(np.isnan(values).all(axis=0)).tolist())
    for index in odd & found.keys():
        del found[index]
    return shared_rejections(found), odd


def _unknown_keys(
    records: Sequence[Mapping[str, object]], table: FieldTable
) -> dict[int, list[FieldError]]:
    """Rejections of keys that are not fields."""
    known: dict[frozenset[str], list[FieldError]] = {}
    found = {}
    for index, record in enumerate(records):
        if unknown := frozenset(record) - table.known_keys:
            if unknown not in known:
                known[unknown] = table.rejections_of_unknown(unknown)
            found[index] = [*known[unknown]]
    return found


def _errors(cell: object, field: FieldSpec) -> tuple[FieldError, ...]:
    """Why a cell is rejected: by its field's reader, or because it is missing."""
    try:
        field.read(cell)
    except RecordRejected as error:
        return error.rejections
    return (field.rejection("missing_required"),)


class _Texts(dict[str, float]):
    """Values of a field's texts, each of which is read once."""

    def __init__(self, field: FieldSpec) -> None:
        super().__init__()
        self._field = field

    def __missing__(self, text: str) -> float:
        try:
            value = self._field.read(text)
        except RecordRejected:
            value = UNREADABLE
        self[text] = value
        return value


def _column(cells: list[object], field: FieldSpec) -> NDArray[np.float64]:
    """Values of one field: NaN for missing, `UNREADABLE` for what is not plain."""
    plain = {int, float, bool, NoneType} if field.boolean else {int, float, NoneType}
    types = set(map(type, cells))
    if not types <= plain:
        texts = _Texts(field)
        cells = [
            cell if type(cell) in plain else texts[cell] if type(cell) is str else UNREADABLE
            for cell in cells
        ]
    try:
        return np.array(cells, np.float64)  # of None NumPy makes NaN
    except OverflowError:  # an integer beyond the floats
        return np.array([UNREADABLE if _is_huge(cell) else cell for cell in cells], np.float64)


def _is_huge(cell: object) -> bool:
    return isinstance(cell, int) and cell.bit_length() > 1000


def _plain_ids(
    cells: list[object], table: FieldTable
) -> tuple[list[str | None], dict[int, tuple[FieldError, ...]]]:
    """Ids as text, and why some are rejected."""
    types = set(map(type, cells))
    if types <= {str, NoneType}:
        texts: list[str] = [cell for cell in cells if cell]  # type: ignore[misc]  # they are text
        if is_text("".join(texts)) and max(map(len, texts), default=0) <= RECORD_ID_LENGTH:
            return [cell or None for cell in cells], {}  # type: ignore[misc]  # as above
    ids: list[str | None] = [None] * len(cells)
    found = {}
    for index, cell in enumerate(cells):
        try:
            ids[index] = table.read_id(cell)
        except RecordRejected as error:
            found[index] = error.rejections
    return ids, found


def _read(item: object, table: FieldTable) -> Record | tuple[FieldError, ...]:
    """A checked record, or why it was rejected."""
    if isinstance(item, FieldError):
        return (item,)
    try:
        return table.read(item)
    except RecordRejected as error:
        return error.rejections
