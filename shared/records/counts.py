"""Counts of what happened to rows: scored, rejected by code, with warnings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.records.errors import CODES, FieldError


@dataclass(slots=True)
class Counts:
    """What happened to the rows of a block or a batch."""

    rows: int = 0
    rejected: int = 0
    warned: int = 0
    other_coding: int = 0
    """Rows with a value that only another coding of the data has."""
    codes: dict[str, int] = field(default_factory=dict)
    """Rejected rows by code; a row with faults of two codes counts under both."""

    def reject(self, rejections: Iterable[FieldError]) -> None:
        """Count one rejected row."""
        self.rejected += 1
        found = tuple(rejections)
        self.other_coding += any(rejection.coding for rejection in found)
        for code in {rejection.code for rejection in found}:
            self.codes[code] = self.codes.get(code, 0) + 1

    def add(self, other: Counts) -> None:
        self.rows += other.rows
        self.rejected += other.rejected
        self.warned += other.warned
        self.other_coding += other.other_coding
        for code, number in other.codes.items():
            self.codes[code] = self.codes.get(code, 0) + number

    @property
    def numbers(self) -> tuple[int, ...]:
        """All counts in a fixed order, for a block's name."""
        return (
            self.rows,
            self.rejected,
            self.warned,
            self.other_coding,
            *(self.codes.get(code, 0) for code in CODES),
        )

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Counts:
        """The reverse of `numbers`."""
        rows, rejected, warned, other_coding, *codes = numbers
        by_code: dict[str, int] = {code: n for code, n in zip(CODES, codes, strict=False) if n}
        return cls(rows, rejected, warned, other_coding, by_code)
