"""Models without training: the same promises as a real one, in a few lines."""

from __future__ import annotations

import numpy as np

from shared.records.kinds import Outputs
from shared.records.scoring import Matrix


class FakeModel:
    """A logistic curve over the known fields; a row's result depends on that row alone."""

    version = "fake-1"

    def outputs(self, rows: Matrix) -> Outputs:
        total = np.full(len(rows), -0.75, np.float32)
        for place, column in enumerate(rows.T):
            known = np.nan_to_num(column, nan=0.0) + np.isnan(column) * np.float32(0.5)
            total += known * np.float32(0.001 * (place + 1))
        probabilities: Outputs = 1 / (1 + np.exp(-total.clip(-30, 30)))
        return probabilities


class FailingModel(FakeModel):
    """Raises on rows whose first field has this value."""

    def __init__(self, fails_on: float) -> None:
        self._fails_on = np.float32(fails_on)

    def outputs(self, rows: Matrix) -> Outputs:
        if (rows[:, 0] == self._fails_on).any():
            raise RuntimeError("no answer")
        return super().outputs(rows)
