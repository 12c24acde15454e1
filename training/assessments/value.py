"""Numbers: errors of a regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.model_selection import KFold

from shared.records.artifact import Manifest
from shared.records.kinds import Value
from training import plots
from training.assessments.base import (
    FOLDS,
    Array,
    Assessment,
    Floats,
    Shown,
    in_words,
)
from training.blocks import Block, Picture, Table
from training.figures import GROUPS, equal_groups, mean_figures, percentiles, resamples
from training.recipe import Dataset, Recipe


class ValueAssessment(Assessment):
    """Numbers."""

    names: ClassVar = {
        "rmse": "root mean squared error",
        "mae": "mean absolute error",
        "r2": "R²",
    }
    loss = "mean squared error"
    form = ".4g"
    of_sets = (Shown("rmse", "RMSE", ".4g"), Shown("mae", "MAE", ".4g"), Shown("r2", "R²"))
    folds_are = "folds"

    def __init__(self, kind: Value) -> None:
        self.unit = kind.unit

    def fault(self, outcome: Array) -> str | None:
        if outcome.dtype.kind not in "fiub" or not np.isfinite(outcome).all():
            return "the outcome must be a number in every row"
        if len(outcome) < FOLDS * 2:
            return f"ten folds need {FOLDS * 2} rows"
        if len(np.unique(outcome)) == 1:
            return "every row has the same outcome"
        return None

    def strata(self, outcome: Array) -> None:
        return None

    def folds(self, repeat: int) -> Any:
        return KFold(FOLDS, shuffle=True, random_state=repeat)

    def losses(self, outcome: Array, outputs: Floats) -> Floats:
        losses: Floats = (outputs - outcome) ** 2
        return losses

    def figures(self, outcome: Array, predicted: Floats) -> dict[str, float]:
        return mean_figures(self._figures, outcome, predicted)

    def _figures(self, outcome: Array, value: Floats) -> dict[str, float]:
        squares = self.losses(outcome, value)
        spread = float(((outcome - outcome.mean()) ** 2).mean())
        return {
            "rmse": float(np.sqrt(squares.mean())),
            "mae": float(np.abs(value - outcome).mean()),
            "r2": 1 - float(squares.mean()) / spread if spread else float("nan"),
        }

    def intervals(self, outcome: Array, predicted: Floats) -> dict[str, tuple[float, float]]:
        weights, n = resamples(len(outcome)), len(outcome)
        squares = weights @ self.losses(outcome, predicted).mean(axis=0) / n
        sizes = weights @ np.abs(predicted - outcome).mean(axis=0) / n
        means = weights @ outcome / n
        spread = weights @ (outcome.astype(float) ** 2) / n - means**2
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "rmse": percentiles(np.sqrt(squares)),
                "mae": percentiles(sizes),
                "r2": percentiles(1 - squares / spread),
            }

    def more(
        self, recipe: Recipe, whole: Dataset, data: Dataset, predicted: Mapping[str, Floats]
    ) -> dict[str, Any]:
        outcome = data.outcome
        value = next(iter(predicted.values())).mean(axis=0)
        return {
            "outcome": {
                "mean": float(outcome.mean()),
                "sd": float(outcome.std()),
                "low": float(outcome.min()),
                "high": float(outcome.max()),
            },
            "groups": [
                {
                    "n": len(group),
                    "predicted": float(value[group].mean()),
                    "observed": float(outcome[group].mean()),
                    "error": float(np.sqrt(((value[group] - outcome[group]) ** 2).mean())),
                }
                for group in equal_groups(value, GROUPS)
            ],
        }

    def sample(self, found: dict[str, Any]) -> str:
        outcome = found["outcome"]
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"{found['rows']} rows with an outcome of {outcome['low']:g} to {outcome['high']:g}"
            f"{unit} (mean {outcome['mean']:.4g}, standard deviation {outcome['sd']:.4g}); "
            f"{found['complete']} have all fields that the model uses."
        )

    def outcomes(self, manifest: Manifest) -> str:
        outcome, unit = manifest.figures["outcome"], f" {self.unit}" if self.unit else ""
        return f"with an outcome of {outcome['low']:g} to {outcome['high']:g}{unit}"

    def details(self, found: dict[str, Any], curves: dict[str, Any]) -> list[Block]:
        groups = found["groups"]
        return [
            "Rows in ten groups of equal size, by their predicted value:",
            Table(
                ("n", "mean prediction", "mean outcome", "root mean squared error"),
                tuple(
                    (
                        str(one["n"]),
                        *(f"{one[name]:.4g}" for name in ("predicted", "observed", "error")),
                    )
                    for one in groups
                ),
            ),
            Picture(plots.value_plot(groups, self.unit), "Outcome by prediction in ten groups"),
        ]

    def key_figures(self, manifest: Manifest, method: str, how: str) -> list[tuple[str, str, str]]:
        found = manifest.figures
        main, unit = found[method], f" {self.unit}" if self.unit else ""
        spread = found["outcome"]["sd"]
        return [
            (
                "Root mean squared error",
                f"{main['rmse']:.3g}{unit}",
                f"{how}; {in_words(found, 'rmse', '.3g')} (always saying the mean: {spread:.3g})",
            ),
            ("R²", f"{main['r2']:.2f}", f"{how}; {in_words(found, 'r2', '.2f')} (1 is perfect)"),
        ]

    def predicted(self, estimator: Any, rows: Floats) -> Array:
        return np.ravel(estimator.predict(rows)).astype(np.float32)
