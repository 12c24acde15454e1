"""The recipe of a model: its fields, its data and its estimator. The engine does the rest.

`heart/model.py` is the demonstration. A file of your own with `MODEL = Recipe(...)` replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.records.kinds import Kind, KindName, kind_of
from shared.records.schema import FieldTable
from training.blocks import Block
from training.errors import TrainingError

Fault = Literal["missing_required", "unknown_code", "out_of_range", "training_range"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, repr=False)
class Dataset:
    """Training rows with their outcomes. The columns are the fields used, in the table's order."""

    rows: Floats
    """[n, fields used]; NaN means missing."""
    outcome: NDArray[Any]
    """[n]: 0 or 1, of which the probability is that of 1; the index of a class; or a value."""
    sha256: str
    """Of the bytes that the data came from."""
    demonstration: bool = False
    """Whether the expected figures were measured on this file."""


def no_data(_: Path | None) -> Dataset:
    """Replace `load` in the recipe of an imported model. Raises `TrainingError`."""
    raise TrainingError(
        "the recipe has no `load` for data: to train, add `load` and `estimator`; a finished model "
        "is imported with `heart-scorer import`"
    )


def no_estimator() -> Any:
    """Replace `estimator` in the recipe of an imported model. Raises `TrainingError`."""
    raise TrainingError("the recipe has no `estimator`")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model: its fields, where its data come from and how it is fitted."""

    name: str
    version: str
    title: str
    """Names the probability for people."""
    table: FieldTable
    load: Callable[[Path | None], Dataset] = no_data
    """Reads and checks the data, from a given file or from its usual place. An imported model needs
    none."""
    estimator: Callable[[], Any] = no_estimator
    """An unfitted scikit-learn classifier of rows as in `Dataset`. An imported model needs none."""
    allow: tuple[Fault, ...] = ()
    """Faults of the data, compared with the field table, that training accepts."""
    notice: str = ""
    """Shown wherever a score is shown."""
    noun: str = "record"
    """Names one row for people: customer, part, order."""
    nouns: str = ""
    """The plural of `noun`, unless it is `noun` and an s."""
    outcome: str = "the outcome"
    """Completes the sentence "31 of them had …" for rows whose outcome is 1."""
    kind: KindName = "probability"
    """The kind of answer: the probability of one outcome, one of several `classes`, or a `value`,
    which a regressor gives."""
    classes: tuple[str, ...] = ()
    """Names of the classes, by their index in the outcome. Of the kind `classes`."""
    unit: str = ""
    """Of the kind `value`."""
    threshold: float = 0.5
    """A `FixedThresholdClassifier` or `TunedThresholdClassifierCV` sets its own instead."""
    rounding_limit: float = 1e-4
    """Values are served as float32. Training fails if that changes a training row's probability by
    more than this, compared with the estimator on the data as they are."""
    runtime: Literal["onnx", "sklearn"] = "onnx"
    one_by_one: bool = False
    """Score rows one at a time: for a finished ONNX model that takes one row, or whose answer for a
    row depends on the others."""
    decimals: bool = False
    """The scikit-learn runtime passes decimals in place of float32 values: for a finished
    estimator, which was fitted to the numbers themselves and not to rounded ones."""
    frame: bool = False
    """Pass the estimator a DataFrame: the fields' columns as names, words instead of codes. Needs
    `runtime="sklearn"`."""
    convert: Callable[[Any, FieldTable], bytes] | None = None
    """The fitted estimator as ONNX; without it skl2onnx converts."""
    explain: Callable[[Any, FieldTable], bytes] | None = None
    """The contribution of each field as ONNX: `contributions` and `intercept`, in log-odds."""
    fit: Callable[[Any, Floats, Ints, Floats], Any] | None = None
    """`fit(estimator, rows, outcome, asked)` for cross-validation: fits an estimator that only has
    to answer for the rows `asked`. Without it: `estimator.fit(rows, outcome)`."""
    golden: tuple[Mapping[str, float | str], ...] = ()
    """Records whose probabilities go into the manifest; without them, the first rows."""
    field_sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Sets of present fields to evaluate, by a title."""
    every_field_set: bool = False
    """Evaluate every set of present fields, too, from five repeats on. Takes a while."""
    subgroups: Mapping[str, Callable[[Mapping[str, Floats]], NDArray[np.bool_]]] = field(
        default_factory=dict
    )
    """Groups of rows to evaluate, by a title; each function gets the columns by name."""
    bands: tuple[float, ...] = ()
    """Edges of the bands of probability; the card says which share of each had the outcome."""
    prose: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Paragraphs of the model card, by section. Figures and `describe` add to them."""
    describe: Callable[[Any, Recipe], Mapping[str, Sequence[Block]]] | None = None
    """Blocks of the model card about the fitted estimator, by section."""
    expected: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Cross-validated figures of the demonstration data, by number of repeats."""

    @property
    def answer_kind(self) -> Kind:
        """The kind of the model's answers."""
        return kind_of(self.kind, threshold=self.threshold, classes=self.classes, unit=self.unit)

    @property
    def evaluated_sets(self) -> Mapping[str, tuple[str, ...]]:
        """Sets of present fields to evaluate, by a title; the first one has all fields."""
        return self.field_sets or {"all fields": self.table.used_names}
