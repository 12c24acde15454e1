"""Wraps an estimator of DataFrames so that it takes the arrays of training."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from shared.records.frames import frame_of
from shared.records.schema import FieldTable


class Framed:
    """Passes rows to the estimator as a DataFrame, as the scikit-learn runtime does."""

    def __init__(self, estimator: Any, table: FieldTable) -> None:
        self.estimator = estimator
        self._table = table

    def fit(self, rows: NDArray[Any], outcome: NDArray[Any]) -> Self:
        self.estimator.fit(frame_of(self._table, rows), outcome)
        return self

    def predict_proba(self, rows: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.estimator.predict_proba(frame_of(self._table, rows)))

    def predict(self, rows: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(self.estimator.predict(frame_of(self._table, rows)))


def unframed(estimator: Any) -> Any:
    """The estimator itself."""
    return estimator.estimator if isinstance(estimator, Framed) else estimator
