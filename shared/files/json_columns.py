"""Reads many parsed records at once, field by field.

Records whose values are plain (numbers and words that their fields accept) are taken as they are;
every other one goes to the one reader of a record, `FieldTable.read`, which decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import NoneType

import numpy as np
from numpy.typing import NDArray

from shared.records.columns import FEW, UNREADABLE, Rejected, Values, faults
from shared.records.errors import FieldError, RecordRejected
from shared.records.schema import (
    RECORD_ID_LENGTH,
    FieldSpec,
    FieldTable,
    Record,
    is_text,
)


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
    suspects = (
        range(len(items)) if len(items) <= FEW else sorted(_read_plain(items, table, values, ids))
    )
    rejected: Rejected = {}
    for index in suspects:
        item = items[index]
        found = _read(item, table)
        if isinstance(found, Record):
            values[:, index], ids[index] = found.values, found.id
        else:
            rejected[index], ids[index] = found, _shown_id(item, table)
    return Records(values, rejected, ids)


def _read_plain(
    items: Sequence[object], table: FieldTable, values: Values, ids: list[str | None]
) -> set[int]:
    """Fill in values and ids of plain records; the indexes of all others."""
    suspects = {i for i, item in enumerate(items) if type(item) is not dict}
    records = [item if type(item) is dict else {} for item in items]
    if not frozenset().union(*records) <= table.known_keys:
        suspects.update(i for i, r in enumerate(records) if not r.keys() <= table.known_keys)
    for index, field in enumerate(table.fields):
        name = field.name
        values[index] = _column([record.get(name) for record in records], field)
        suspects.update(np.flatnonzero(faults(values[index], field)).tolist())
    ids[:], odd = _plain_ids([record.get(table.record_id) for record in records], table)
    return suspects | odd


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


def _plain_ids(cells: list[object], table: FieldTable) -> tuple[list[str | None], set[int]]:
    """Ids as text, and the indexes of those that need a closer look."""
    types = set(map(type, cells))
    if types <= {str, NoneType}:
        texts: list[str] = [cell for cell in cells if cell]  # type: ignore[misc]  # they are text
        if is_text("".join(texts)) and max(map(len, texts), default=0) <= RECORD_ID_LENGTH:
            return [cell or None for cell in cells], set()  # type: ignore[misc]  # as above
    ids: list[str | None] = [None] * len(cells)
    odd: set[int] = set()
    for index, cell in enumerate(cells):
        try:
            ids[index] = table.read_id(cell)
        except RecordRejected:
            odd.add(index)
    return ids, odd


def _read(item: object, table: FieldTable) -> Record | tuple[FieldError, ...]:
    """A checked record, or why it was rejected."""
    if isinstance(item, FieldError):
        return (item,)
    try:
        return table.read(item)
    except RecordRejected as error:
        return error.rejections


def _shown_id(item: object, table: FieldTable) -> str | None:
    """The id of a rejected record, if the id itself is accepted."""
    if not isinstance(item, dict) or table.record_id in getattr(item, "names", ()):
        return None
    with suppress(RecordRejected):
        return table.read_id(item.get(table.record_id))
    return None
