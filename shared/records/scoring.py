"""The one scoring path. Every caller passes a float32 matrix.

The same record gives the same bits alone or among a million others: rows are scored in float32 by
one graph, and no row's result depends on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from shared.records.schema import FieldTable, Record

Matrix = NDArray[np.float32]
Vector = NDArray[np.float32]


class Model(Protocol):
    """A trained model, loaded and checked."""

    @property
    def version(self) -> str: ...

    def probabilities(self, rows: Matrix) -> Vector:
        """Probabilities, float32 [n], of float32 rows [n, fields used]; NaN means missing."""
        ...


class ModelFault(Exception):
    """The model raised, or answered with something that is no probability."""


class Score(NamedTuple):
    """Probability and what goes with it."""

    probability: float
    """The model's float32 output; prints in the shortest form that round-trips."""
    prediction: int
    model_version: str
    warnings: tuple[str, ...]


class Scorer:
    """The model with its field table and threshold."""

    def __init__(
        self,
        model: Model,
        table: FieldTable,
        threshold: float,
        dtype: DTypeLike = np.float32,
    ) -> None:
        """`dtype`: float32 as served; float64 only to compare with unrounded values."""
        self.model = model
        self.table = table
        self.threshold = threshold
        self.dtype = dtype

    def score(self, record: Record) -> Score:
        """Score one record. Raises `ModelFault`."""
        return self._score(record, self.probabilities(self.rows([record]))[0])

    def score_each(self, records: Sequence[Record]) -> list[Score | None]:
        """Score records, in order. None where the model has no answer."""
        found = self.probabilities_each(self.rows(records))
        # One by one: for one record, NumPy's calls on all would take as long as the model.
        return [
            # NaN, which alone is not itself, is no answer.
            self._score(record, probability) if probability == probability else None
            for record, probability in zip(records, found, strict=True)
        ]

    def rows(self, records: Sequence[Record]) -> Matrix:
        """What the model sees of records, float32 [n, fields used]."""
        used = self.table.used
        rows = np.array([[record.values[i] for i in used] for record in records], self.dtype)
        return rows.reshape(len(records), len(used))

    def _score(self, record: Record, probability: np.float32) -> Score:
        prediction = int(probability >= self.threshold)
        return Score(shortest(probability), prediction, self.model.version, record.warnings)

    def probabilities(self, rows: Matrix) -> Vector:
        """Probabilities, float32 [n], of rows [n, fields used]. Raises `ModelFault`."""
        if len(rows) == 0:
            return np.empty(0, np.float32)
        try:
            found = self.model.probabilities(rows)
        except Exception as error:  # the runtime's own errors have no common root
            raise ModelFault(type(error).__name__) from error
        if found.shape != (len(rows),) or not _are_probabilities(found):
            raise ModelFault("answered with something that is no probability")
        return found

    def probabilities_each(self, rows: Matrix) -> Vector:
        """As `probabilities`, but rows on which the model fails get NaN.

        Looks for them by halving, since one bad row in a block is the likely case.
        """
        try:
            return self.probabilities(rows)
        except ModelFault:
            if len(rows) == 1:
                return np.full(1, np.nan, np.float32)
            half = len(rows) // 2
            parts = [self.probabilities_each(rows[:half]), self.probabilities_each(rows[half:])]
            return np.concatenate(parts)

    def predictions(self, probabilities: Vector) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
        """1 where the probability reaches the threshold, else 0."""
        return (probabilities >= self.threshold).astype(np.int8)


def _are_probabilities(found: Vector) -> bool:
    # NaN compares as false, so this also refuses NaN.
    if len(found) == 1:  # three calls of NumPy cost a request more than the comparison
        return bool(0 <= found[0] <= 1)
    return bool(((found >= 0) & (found <= 1)).all())


def shortest(probability: np.float32) -> float:
    """A float32 as the float that prints with the fewest digits that give it back."""
    return float(str(probability))
