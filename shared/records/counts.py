"""Counts of what happened to rows: scored, rejected by code, with warnings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shared.records.errors import CODES, FieldError

MARK_BITS = 26
"""Most pairs of a field and a coding that counts distinguish; a block name has no more room."""

OTHER_ENCODING = 1 << MARK_BITS
"""Bit of `Counts.marks`: some rows were not UTF-8 and were read as Windows-1252."""

Marks = Sequence[tuple[str, str]]
"""Pairs of a field and another coding, from `FieldTable.coding_marks`."""


@dataclass(slots=True)
class Counts:
    """Outcomes of the rows of a block or a batch."""

    rows: int = 0
    rejected: int = 0
    warned: int = 0
    other_coding: int = 0
    """Rows that only another coding of the data explains: all their faults are such values."""
    codes: dict[str, int] = field(default_factory=dict)
    """Rejected rows by code; a row with faults of two codes counts under both."""
    marks: int = 0
    """Bits: which of the table's `coding_marks` these rows have, and `OTHER_ENCODING`."""

    def reject(self, rejections: Sequence[FieldError], marks: Marks) -> None:
        """Count one rejected row; `marks` are those of its field table."""
        self.rejected += 1
        for code in {rejection.code for rejection in rejections}:
            self.codes[code] = self.codes.get(code, 0) + 1
        if all(rejection.coding for rejection in rejections):
            self.other_coding += 1
            for pair in {(rejection.field, rejection.coding) for rejection in rejections}:
                if pair in marks[:MARK_BITS]:
                    self.marks |= 1 << marks.index(pair)

    def add(self, other: Counts) -> None:
        self.rows += other.rows
        self.rejected += other.rejected
        self.warned += other.warned
        self.other_coding += other.other_coding
        self.marks |= other.marks
        for code, number in other.codes.items():
            self.codes[code] = self.codes.get(code, 0) + number

    @property
    def numbers(self) -> tuple[int, ...]:
        """All counts in a fixed order, for a block's name; the bits come first."""
        return (
            self.marks,
            self.rows,
            self.rejected,
            self.warned,
            self.other_coding,
            *(self.codes.get(code, 0) for code in CODES),
        )

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Counts:
        """The reverse of `numbers`."""
        marks, rows, rejected, warned, other_coding, *codes = numbers
        by_code: dict[str, int] = {code: n for code, n in zip(CODES, codes, strict=False) if n}
        return cls(rows, rejected, warned, other_coding, by_code, marks)
