"""What a model file says: fields, data, estimator. Everything else is the same for every model.

`heart.py` is the demonstration; a file of your own with `MODEL = Recipe(...)` takes its place.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.records.schema import FieldTable
from training.errors import TrainingError

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True, repr=False)
class Dataset:
    """Rows of the fields used by the model, in the table's order, and their outcomes."""

    rows: NDArray[np.float64]
    """[n, fields used]; NaN means missing."""
    outcome: NDArray[np.int64]
    """[n]; 1 is what the probability is of."""
    sha256: str
    """Of the bytes that the data came from."""
    demonstration: bool = False
    """Whether this is the file that the expected figures were measured on."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A model: what it is of, its fields, where its data come from and how it is fitted."""

    name: str
    version: str
    title: str
    """What the probability is of, for people."""
    table: FieldTable
    load: Callable[[Path | None], Dataset]
    """Reads and guards the data, from a given file or its usual place."""
    estimator: Callable[[], Any]
    """An unfitted scikit-learn classifier of rows as in `Dataset`."""
    notice: str = ""
    """What must stand wherever a score is shown."""
    threshold: float = 0.5
    runtime: Literal["onnx", "sklearn"] = "onnx"
    convert: Callable[[Any, FieldTable], bytes] | None = None
    """The fitted estimator as ONNX; without it skl2onnx converts."""
    explain: Callable[[Any, FieldTable], bytes] | None = None
    """What each field contributes, as ONNX: `contributions` and `intercept`, in log-odds."""
    golden: tuple[Mapping[str, float | str], ...] = ()
    """Records whose probabilities go into the manifest; without them, the first rows."""
    field_sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Sets of present fields to evaluate, by a title."""
    subgroups: Mapping[str, Callable[[Mapping[str, Column]], NDArray[np.bool_]]] = field(
        default_factory=dict
    )
    """Groups of patients to evaluate, by a title: which rows, told by the columns by name."""
    bands: tuple[float, ...] = ()
    """Probabilities between which the card says what share had the outcome."""
    prose: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Paragraphs of the model card by section, beside what is computed."""
    expected: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Cross-validated figures of the demonstration data, by number of repeats."""


def read_model_file(path: Path) -> Recipe:
    """Run a model file and take its `MODEL`. Raises `TrainingError`."""
    spec = importlib.util.spec_from_file_location(f"model_file_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise TrainingError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # joblib looks there for classes of the file
    spec.loader.exec_module(module)
    recipe = getattr(module, "MODEL", None)
    if not isinstance(recipe, Recipe):
        raise TrainingError(f"{path} defines no MODEL = Recipe(...)")
    return recipe
