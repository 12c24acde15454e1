"""The one scoring path. Every caller passes a float32 matrix.

The same record gives the same bits alone or among a million others: rows are scored in float32 by
one graph, and no row's result depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from shared.records.kinds import Kind, Member, Outputs
from shared.records.schema import FieldTable, Record

Matrix = NDArray[np.float32]


class Model(Protocol):
    """A trained model, loaded and checked."""

    @property
    def version(self) -> str: ...

    def outputs(self, rows: Matrix) -> Outputs:
        """Outputs, float32, of float32 rows [n, fields used], where NaN means missing."""
        ...


class ModelFault(Exception):
    """The model raised an error, or its output is not a valid answer of its kind."""


class Score(NamedTuple):
    """An answer with its warnings and model version."""

    members: dict[str, Member]
    """By the names of the kind's columns; numbers in the shortest form that round-trips."""
    model_version: str
    warnings: tuple[str, ...]


class Scorer:
    """The model with its field table and its kind of answer."""

    def __init__(
        self,
        model: Model,
        table: FieldTable,
        kind: Kind,
        dtype: DTypeLike = np.float32,
    ) -> None:
        """`dtype`: float32 as served; float64 only to compare with unrounded values."""
        self.model = model
        self.table = table
        self.kind = kind
        self.dtype = dtype

    def score(self, record: Record) -> Score:
        """Score one record. Raises `ModelFault`."""
        return self._score(record, self.outputs(self.rows([record]))[0])

    def score_each(self, records: Sequence[Record]) -> list[Score | None]:
        """Score records, in order. None where the model has no answer."""
        found = self.outputs_each(self.rows(records))
        # One by one: for one record, NumPy's calls on all would take as long as the model.
        return [
            self._score(record, output) if self.kind.has_answer(output) else None
            for record, output in zip(records, found, strict=True)
        ]

    def rows(self, records: Sequence[Record]) -> Matrix:
        """The model's input for records, float32 [n, fields used]."""
        used = self.table.used
        rows = np.array([[record.values[i] for i in used] for record in records], self.dtype)
        return rows.reshape(len(records), len(used))

    def _score(self, record: Record, output: Any) -> Score:
        return Score(self.kind.members(output), self.model.version, record.warnings)

    def outputs(self, rows: Matrix) -> Outputs:
        """Outputs, float32, of rows [n, fields used]. Raises `ModelFault`."""
        if len(rows) == 0:
            return self.kind.no_answers(0)
        try:
            found = self.model.outputs(rows)
        except Exception as error:  # the runtime's own errors have no common root
            raise ModelFault(type(error).__name__) from error
        if found.shape != (len(rows), *self.kind.shape) or not self.kind.are_answers(found):
            raise ModelFault(f"answered with something that is no {self.kind.name}")
        return found

    def outputs_each(self, rows: Matrix) -> Outputs:
        """As `outputs`, but rows on which the model fails get NaN.

        Looks for them by halving, since one bad row in a block is the likely case.
        """
        try:
            return self.outputs(rows)
        except ModelFault:
            if len(rows) == 1:
                return self.kind.no_answers(1)
            half = len(rows) // 2
            return np.concatenate([self.outputs_each(rows[:half]), self.outputs_each(rows[half:])])
