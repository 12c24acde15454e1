"""Several classes: log loss, accuracy and Brier score, in all and by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.metrics import roc_auc_score

from shared.records.artifact import Manifest
from shared.records.kinds import Classes
from training.assessments.base import (
    FEWEST,
    Array,
    Assessment,
    Floats,
    Shown,
    in_words,
)
from training.blocks import Block, Table, figure
from training.figures import mean_figures, percentiles, resamples
from training.framed import unframed
from training.recipe import Dataset, Recipe

LEAST = 1e-15
"""Smallest probability that a logarithm is taken of."""


class ClassesAssessment(Assessment):
    """Probabilities of several classes; an outcome is the index of its class."""

    names: ClassVar = {
        "log_loss": "log loss",
        "accuracy": "accuracy",
        "balanced_accuracy": "mean accuracy of the classes",
        "brier": "Brier score (all classes)",
        "auc": "AUC (mean of the classes)",
    }
    loss = "Brier score"
    of_sets = (
        Shown("accuracy", "accuracy"),
        Shown("log_loss", "log loss"),
        Shown("brier", "Brier score"),
    )

    def __init__(self, kind: Classes) -> None:
        self.classes = kind.classes

    def fault(self, outcome: Array) -> str | None:
        count = len(self.classes)
        if outcome.dtype.kind not in "iub":
            return (
                "the outcome of the kind classes is the index of the row's class in `classes`: "
                "write np.searchsorted(classes, labels) where the classes are sorted"
            )
        values = np.unique(outcome)
        if not np.array_equal(values, np.arange(count)):
            return f"the outcome must be 0 to {count - 1}, for {count} classes, each in some rows"
        fewest = int(np.bincount(outcome).argmin())
        rows = int((outcome == fewest).sum())
        if rows < FEWEST:
            return f"ten folds need {FEWEST} rows of each class; {self.classes[fewest]} has {rows}"
        return None

    def losses(self, outcome: Array, outputs: Floats) -> Floats:
        losses: Floats = ((outputs - np.eye(len(self.classes))[outcome]) ** 2).sum(axis=-1)
        return losses

    def figures(self, outcome: Array, predicted: Floats) -> dict[str, float]:
        return mean_figures(self._figures, outcome, predicted)

    def _figures(self, outcome: Array, shares: Floats) -> dict[str, float]:
        right = shares.argmax(axis=1) == outcome
        of_class = [right[outcome == index] for index in range(len(self.classes))]
        return {
            "log_loss": float(self._log_losses(outcome, shares).mean()),
            "accuracy": float(right.mean()),
            # A subgroup may lack a class.
            "balanced_accuracy": float(np.mean([one.mean() for one in of_class if len(one)])),
            "brier": float(self.losses(outcome, shares).mean()),
            "auc": float(np.nanmean([self._auc(i, outcome, shares) for i in self._indices])),
        }

    @property
    def _indices(self) -> range:
        return range(len(self.classes))

    def _auc(self, index: int, outcome: Array, shares: Floats) -> float:
        of_class = outcome == index
        if of_class.all() or not of_class.any():
            return float("nan")
        return float(roc_auc_score(of_class, shares[:, index]))

    def _log_losses(self, outcome: Array, shares: Floats) -> Floats:
        """[..., n]"""
        index = np.broadcast_to(outcome[:, None], (*shares.shape[:-1], 1))
        of_outcome = np.take_along_axis(shares, index, axis=-1)[..., 0]
        losses: Floats = -np.log(np.clip(of_outcome, LEAST, 1))
        return losses

    def intervals(self, outcome: Array, predicted: Floats) -> dict[str, tuple[float, float]]:
        weights, n = resamples(len(outcome)), len(outcome)
        each = {
            "log_loss": self._log_losses(outcome, predicted),
            "accuracy": predicted.argmax(axis=-1) == outcome,
            "brier": self.losses(outcome, predicted),
        }
        return {name: percentiles(weights @ rows.mean(axis=0) / n) for name, rows in each.items()}

    def more(
        self, recipe: Recipe, whole: Dataset, data: Dataset, predicted: Mapping[str, Floats]
    ) -> dict[str, Any]:
        outcome, unseen = data.outcome, next(iter(predicted.values()))
        given = unseen.argmax(axis=-1)
        of_class = [outcome == index for index in self._indices]
        losses = self._log_losses(outcome, unseen)
        return {
            "classes": [
                {
                    "class": name,
                    "n": int(inside.sum()),
                    "accuracy": float((given[:, inside] == index).mean()),
                    "precision": float(
                        np.broadcast_to(inside, given.shape)[given == index].mean()
                        if (given == index).any()
                        else np.nan
                    ),
                    "log_loss": float(losses[:, inside].mean()),
                    "auc": float(np.mean([self._auc(index, outcome, one) for one in unseen])),
                }
                for index, (name, inside) in enumerate(zip(self.classes, of_class, strict=True))
            ],
            "confusion": [
                [float((given[:, inside] == index).sum() / len(given)) for index in self._indices]
                for inside in of_class
            ],
        }

    def sample(self, found: dict[str, Any]) -> str:
        shares = ", ".join(f"{one['n']} {one['class']}" for one in found["classes"])
        return (
            f"{found['rows']} rows; of those evaluated {shares}. "
            f"{found['complete']} have all fields that the model uses."
        )

    def outcomes(self, manifest: Manifest) -> str:
        return ", ".join(f"{one['n']:,} {one['class']}" for one in manifest.figures["classes"])

    def details(self, found: dict[str, Any], curves: dict[str, Any]) -> list[Block]:
        columns = ("accuracy", "precision", "log_loss", "auc")
        classes = Table(
            ("class", "n", "accuracy", "precision", "log loss", "AUC"),
            tuple(
                (one["class"], str(one["n"]), *(figure(one[name]) for name in columns))
                for one in found["classes"]
            ),
        )
        confusion = Table(
            ("class", *(f"predicted {name}" for name in self.classes)),
            tuple(
                (name, *(f"{count:g}" for count in counts))
                for name, counts in zip(self.classes, found["confusion"], strict=True)
            ),
        )
        text = "Rows by their class and the predicted one, means over the repeats:"
        return [classes, text, confusion]

    def key_figures(self, manifest: Manifest, method: str, how: str) -> list[tuple[str, str, str]]:
        found = manifest.figures
        main = found[method]
        return [
            (
                "Right class",
                f"{main['accuracy'] * 100:.0f} %",
                f"{how}; {in_words(found, 'accuracy', '.2f')}",
            ),
            (
                "Log loss",
                f"{main['log_loss']:.3f}",
                f"{how}; {in_words(found, 'log_loss', '.3f')} (0 is perfect, equal "
                f"probabilities have {np.log(len(self.classes)):.2f})",
            ),
        ]

    def predicted(self, estimator: Any, rows: Floats) -> Array:
        labels = np.ravel(estimator.predict(rows))
        return np.array(self.classes)[np.searchsorted(unframed(estimator).classes_, labels)]
