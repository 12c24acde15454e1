"""Counts of a batch for its profile, made block by block.

All numbers are integers, sums included, so tallies added in any order give the same. Fields and
scores are counted over the rows that have a score, rejections over the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.records.kinds import Kind
from shared.records.reference import Reference
from shared.records.schema import FieldSpec, FieldTable

if TYPE_CHECKING:
    from shared.records.columns import Outcome, Rejected

TALLY_FORMAT = 2
"""Increase it with each change of a tally's line or of the profile made from it."""
FIRST_ROWS = 5
"""Row numbers that are kept for each kind of rejection."""
SUM_BITS = 40
"""Sums count in units of 2**-40 of a power of two that no value exceeds, rounded to a unit."""


@dataclass(slots=True)
class FieldTally:
    """One field in the scored rows."""

    bins: list[int]
    """Rows by bin of a number, or by choice of a category."""
    missing: int = 0
    below: int = 0
    """Rows below the training range; `above` is the other side."""
    above: int = 0
    total: int = 0
    """Sum of a number's values, in the units of `SUM_BITS`."""

    def add(self, other: FieldTally) -> None:
        self.bins = _added(self.bins, other.bins)
        self.missing += other.missing
        self.below += other.below
        self.above += other.above
        self.total += other.total


@dataclass(slots=True)
class Rejection:
    """Rows that were rejected with one code for one field."""

    rows: int = 0
    first_rows: list[int] = field(default_factory=list)
    """The lowest of their numbers, from 1."""

    def add(self, other: Rejection) -> None:
        self.rows += other.rows
        self.first_rows = sorted({*self.first_rows, *other.first_rows})[:FIRST_ROWS]


@dataclass(slots=True)
class Tally:
    """The counts of some rows of a batch."""

    scored: int
    fields: list[FieldTally]
    """In the order of the field table."""
    scores: list[int]
    """Scored rows by bin of the kind's scale."""
    score_total: int = 0
    """Sum of the numbers on that scale, in the units of `SUM_BITS`."""
    positive: int = 0
    """Rows that reach the scale's threshold, if it has one."""
    rejections: dict[tuple[str, str], Rejection] = field(default_factory=dict)
    """By code and field; the field is empty if it is not one of the table."""

    def add(self, other: Tally) -> None:
        """Add the counts of other rows, counted with the same table and reference."""
        self.scored += other.scored
        for mine, theirs in zip(self.fields, other.fields, strict=True):
            mine.add(theirs)
        self.scores = _added(self.scores, other.scores)
        self.score_total += other.score_total
        self.positive += other.positive
        for kind, rejection in other.rejections.items():
            self.rejections.setdefault(kind, Rejection()).add(rejection)

    def line(self) -> bytes:
        """The tally as one line of JSON; equal tallies give the same bytes."""
        fields = [[f.missing, f.below, f.above, f.total, *f.bins] for f in self.fields]
        rejections = sorted([*kind, r.rows, *r.first_rows] for kind, r in self.rejections.items())
        parts = [self.scored, fields, [self.score_total, self.positive, *self.scores], rejections]
        return json.dumps(parts, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Tally:
        """The reverse of `line`."""
        scored, fields, (score_total, positive, *scores), rejections = json.loads(line)
        return cls(
            scored,
            [
                FieldTally(bins, missing, below, above, total)
                for missing, below, above, total, *bins in fields
            ],
            scores,
            score_total,
            positive,
            {(code, name): Rejection(rows, first) for code, name, rows, *first in rejections},
        )


def _added(one: Iterable[int], other: Iterable[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]


class Tallier:
    """Counts rows for one model."""

    def __init__(self, table: FieldTable, kind: Kind, reference: Reference | None) -> None:
        """Without a reference, all values of a number are in one bin."""
        self._table = table
        self._kind = kind
        self._scale = kind.scale(reference.score_edges if reference else ())
        self._score_edges = np.array(self._scale.edges, np.float32)
        known = reference.fields if reference else {}
        self._edges = [
            np.array(known[f.name].edges if f.name in known else (), np.float32)
            for f in table.fields
        ]

    def empty(self) -> Tally:
        fields = [
            FieldTally([0] * _bin_count(field, edges))
            for field, edges in zip(self._table.fields, self._edges, strict=True)
        ]
        return Tally(0, fields, [0] * (len(self._score_edges) + 1))

    def count(self, outcome: Outcome, first_row: int) -> Tally:
        """Count a block's rows, of which the first has this number (from 1)."""
        outputs, columns = outcome.outputs, iter(outcome.values)
        if outcome.rejected:
            scored = np.ones(len(outputs), np.bool_)
            scored[list(outcome.rejected)] = False
            kept = np.flatnonzero(scored)
            outputs = outputs[kept]
            # Column by column: a mask over all of them takes four times as long.
            columns = (column[kept] for column in outcome.values)
        numbers, threshold = self._kind.on_scale(outputs), self._scale.threshold
        return Tally(
            len(outputs),
            [
                _count_field(field, edges, column)
                for field, edges, column in zip(
                    self._table.fields, self._edges, columns, strict=True
                )
            ],
            _binned(numbers, self._score_edges),
            _sum(numbers.astype(np.float64), self._scale.exponent),
            0 if threshold is None else int(np.count_nonzero(numbers >= threshold)),
            self._rejections(outcome.rejected, first_row),
        )

    def _rejections(self, rejected: Rejected, first_row: int) -> dict[tuple[str, str], Rejection]:
        known = {self._table.record_id, *self._table.by_name}
        found: dict[tuple[str, str], Rejection] = {}
        for index in sorted(rejected):
            # Other names come from the file and may be anything.
            kinds = {(r.code, r.field if r.field in known else "") for r in rejected[index]}
            for code, name in kinds:
                rejection = found.setdefault((code, name or ""), Rejection())
                rejection.rows += 1
                if len(rejection.first_rows) < FIRST_ROWS:
                    rejection.first_rows.append(first_row + index)
        return found


def _bin_count(field: FieldSpec, edges: NDArray[np.float32]) -> int:
    return len(field.choices) if field.kind == "category" else len(edges) + 1


def _count_field(
    field: FieldSpec, edges: NDArray[np.float32], values: NDArray[np.float64]
) -> FieldTally:
    """Count checked values of one field; NaN is missing."""
    missing = int(np.count_nonzero(np.isnan(values)))
    if missing:
        values = values[~np.isnan(values)]
    low, high = field.training
    below, above = int(np.count_nonzero(values < low)), int(np.count_nonzero(values > high))
    if field.kind == "category":
        bins = [int(np.count_nonzero(values == choice.code)) for choice in field.choices]
        return FieldTally(bins, missing, below, above)
    # As float32, like the training data and what the model sees: 0.8 is then on the edge 0.8.
    with np.errstate(over="ignore"):
        bins = _binned(values.astype(np.float32), edges)
    return FieldTally(bins, missing, below, above, _sum(values, sum_exponent(field)))


def sum_exponent(field: FieldSpec) -> int:
    """Exponent of a power of two that no accepted value of a number exceeds."""
    # At least -900, so that the units of sums are floats.
    return max(-900, math.frexp(max(map(abs, field.accept)))[1])


def mean_of(total: int, count: int, exponent: int = 0) -> float:
    """The mean of `count` values from their sum; six digits, the same on every machine."""
    return float(f"{math.ldexp(total / count, exponent - SUM_BITS):.6g}")


def _sum(values: NDArray[np.float64], exponent: int) -> int:
    integers = np.rint(values * 2.0 ** (SUM_BITS - exponent))
    if np.abs(integers).max(initial=0) > 2.0**47:  # a prediction far beyond training's
        return sum(map(int, integers.tolist()))
    # A block has 32,767 rows at most, so the sum of its integers fits 64 bits.
    return int(integers.astype(np.int64).sum())


def _binned(values: NDArray[np.float32], edges: NDArray[np.float32]) -> list[int]:
    """Values by bin; one on an edge belongs to the bin above."""
    # Nine comparisons take a tenth of the time of a search for each value.
    above = [len(values), *(int(np.count_nonzero(values >= edge)) for edge in edges), 0]
    return [more - fewer for more, fewer in pairwise(above)]
