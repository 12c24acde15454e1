"""The interface of cross-validation and model card to a kind of answer.

Predictions are [repeats, n] or [repeats, n, classes]; a figure is the mean over the repeats.
Intervals are over rows, by the bootstrap.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from shared.records.artifact import Manifest
from training.blocks import Block, Table, figure, interval
from training.recipe import Dataset, Recipe

Floats = NDArray[np.float64]
Array = NDArray[Any]

FOLDS = 10
FEWEST = 10
"""Rows of each outcome that ten folds need."""


class Shown(NamedTuple):
    """A figure of a table."""

    name: str
    title: str
    form: str = ".3f"


class Assessment(ABC):
    """How predictions of one kind of answer are assessed."""

    names: ClassVar[Mapping[str, str]]
    """Titles of the main figures."""
    form: ClassVar[str] = ".3f"
    """Format of the main figures."""
    loss: ClassVar[str]
    """Title of the mean loss, whose rise is the importance of a field."""
    of_sets: ClassVar[tuple[Shown, ...]]
    """Main figures that are shown for each field set and subgroup."""
    folds_are: ClassVar[str] = "stratified folds"

    @abstractmethod
    def fault(self, outcome: Array) -> str | None:
        """Why training cannot use this outcome."""

    @abstractmethod
    def losses(self, outcome: Array, outputs: Floats) -> Floats:
        """The loss of each row, [..., n]."""

    @abstractmethod
    def figures(self, outcome: Array, predicted: Floats) -> dict[str, float]:
        """The main figures."""

    @abstractmethod
    def intervals(self, outcome: Array, predicted: Floats) -> dict[str, tuple[float, float]]:
        """95 % intervals of those main figures that are means over rows or pairs of rows."""

    @abstractmethod
    def more(
        self, recipe: Recipe, whole: Dataset, data: Dataset, predicted: Mapping[str, Floats]
    ) -> dict[str, Any]:
        """Other figures for the manifest.

        `data` are the evaluated rows of `whole`; `predicted` is by field set, all fields first.
        """

    @abstractmethod
    def sample(self, found: dict[str, Any]) -> str:
        """The data, in a sentence."""

    @abstractmethod
    def outcomes(self, manifest: Manifest) -> str:
        """The outcomes of the data, in a few words."""

    @abstractmethod
    def details(self, found: dict[str, Any], curves: dict[str, Any]) -> list[Block]:
        """The card's figures of performance besides the main ones."""

    @abstractmethod
    def key_figures(self, manifest: Manifest, method: str, how: str) -> list[tuple[str, str, str]]:
        """Titles, figures and explanations of the first lines of the card.

        `method` names the main figures in the manifest, `how` says it in words.
        """

    def curves(self, outcome: Array, predicted: Floats) -> dict[str, Any]:
        """Data for the card's pictures."""
        return {}

    def thresholds(self, found: dict[str, Any]) -> list[Block]:
        """The card's text about thresholds."""
        return []

    def of_every_set(self, found: dict[str, Any]) -> list[Block]:
        """The card's text before the table of field sets."""
        return []

    def strata(self, outcome: Array) -> Array | None:
        """Groups that a sample should hold in the same shares."""
        return outcome

    def folds(self, repeat: int) -> Any:
        """Folds of the cross-validation, the same for the same repeat."""
        return StratifiedKFold(FOLDS, shuffle=True, random_state=repeat)

    def subgroup(self, outcome: Array, predicted: Floats) -> dict[str, Any]:
        """The figures of a subgroup."""
        main = self.figures(outcome, predicted)
        return {"n": len(outcome)} | {one.name: main[one.name] for one in self.of_sets}

    def subgroups(self, found: dict[str, Any]) -> Table:
        """The table of subgroups."""
        return Table(
            ("group", "n", *(one.title for one in self.of_sets)),
            tuple(
                (title, str(group["n"]), *(figure(group[s.name], s.form) for s in self.of_sets))
                for title, group in found["subgroups"].items()
            ),
        )

    @abstractmethod
    def predicted(self, estimator: Any, rows: Floats) -> Array:
        """The result of the estimator's `predict`, in the form of the column `prediction`."""


def in_words(found: Mapping[str, Any], name: str, form: str) -> str:
    """A main figure's interval."""
    return f"95 % interval {interval(found['intervals'][name], form)}"
