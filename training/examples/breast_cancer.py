"""Other data, other fields: the breast cancer data that scikit-learn ships.

python -m training --model training/examples/breast_cancer.py --output artifact
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.records.schema import FieldSpec, FieldTable
from training.errors import TrainingError
from training.export import sha256
from training.recipe import Dataset, Recipe

BUNCH = load_breast_cancer()
NAMES = tuple(str(name).replace(" ", "_") for name in BUNCH.feature_names)
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
    """The rows that scikit-learn ships. Its target is 1 for benign; here 1 is malignant."""
    if path:
        raise TrainingError("this model trains only on the data that scikit-learn ships")
    rows, outcome = np.asarray(BUNCH.data, float), 1 - np.asarray(BUNCH.target, np.int64)
    return Dataset(rows, outcome, sha256(rows.tobytes() + outcome.tobytes()))


def estimator() -> Pipeline:
    """A penalised logistic regression of standardised values."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1))


MODEL = Recipe(
    name="breast-cancer",
    version="1.0.0",
    title="Probability that a breast mass is malignant",
    notice="Educational demonstration, not a medical device.",
    table=TABLE,
    load=load,
    estimator=estimator,
)
