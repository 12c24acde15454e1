"""Three classes: which of three growers a wine is from, by the data that scikit-learn ships.

python -m training --model training/examples/wine.py --output artifact
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.records.schema import FieldSpec, FieldTable
from training.errors import TrainingError
from training.export import sha256
from training.recipe import Dataset, Recipe

BUNCH = load_wine()
NAMES = tuple(str(name).replace("/", "_") for name in BUNCH.feature_names)
TABLE = FieldTable(
    fields=tuple(
        FieldSpec(
            name=name,
            title=name.replace("_", " ").capitalize(),
            kind="number",
            accept=(0, 2 * float(column.max())),
            training=(float(column.min()), float(column.max())),
            required=True,
        )
        for name, column in zip(NAMES, BUNCH.data.T, strict=True)
    )
)


def load(path: Path | None) -> Dataset:
    """The rows that scikit-learn ships; the outcome is the index of the grower in `classes`."""
    if path:
        raise TrainingError("this model trains only on the data that scikit-learn ships")
    rows, outcome = np.asarray(BUNCH.data, float), np.asarray(BUNCH.target, np.int64)
    return Dataset(rows, outcome, sha256(rows.tobytes() + outcome.tobytes()))


def estimator() -> Pipeline:
    """A penalised logistic regression of standardised values, for all three classes at once."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1))


MODEL = Recipe(
    name="wine",
    version="1.0.0",
    title="Grower of an Italian wine",
    kind="classes",
    classes=("first", "second", "third"),
    noun="wine",
    table=TABLE,
    load=load,
    estimator=estimator,
)
