"""The own threshold of an estimator, and its predictions compared with the served ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline

from shared.records.kinds import Kind, difference
from shared.records.scoring import Model
from training.assessments import assessment_of
from training.errors import TrainingError
from training.recipe import Floats, Recipe

CLOSE = 1e-4
"""Largest difference of two equal values, one of which was computed from rounded numbers."""


def with_own_threshold(recipe: Recipe, estimator: Any) -> Recipe:
    """The recipe with the threshold of the fitted estimator, if it has one.

    Raises `TrainingError` for a threshold that no probability has.
    """
    match estimator:
        case Pipeline():
            return with_own_threshold(recipe, estimator.steps[-1][1])
        case FixedThresholdClassifier(threshold="auto"):
            return recipe
        case FixedThresholdClassifier():
            threshold = float(estimator.threshold)
        case TunedThresholdClassifierCV():
            threshold = float(estimator.best_threshold_)
        case _:
            return recipe
    if estimator.response_method == "decision_function" or not 0 < threshold < 1:
        raise TrainingError(
            f"{recipe.name}: the threshold {threshold:g} of {type(estimator).__name__} is not one "
            "of a probability: set response_method='predict_proba'"
        )
    return replace(recipe, threshold=threshold)


def compare_predictions(model: Model, estimator: Any, rows: Floats, kind: Kind) -> dict[str, int]:
    """Count the rows where the served prediction differs from `predict` of the estimator."""
    served = kind.predictions(model.outputs(rows.astype(np.float32)))
    predicted = assessment_of(kind).predicted(estimator, rows)
    same = (
        difference(served, predicted) <= CLOSE if served.dtype.kind == "f" else served == predicted
    )
    return {"rows": len(rows), "differing": int((~same).sum())}
