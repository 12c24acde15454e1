"""A regression: how far diabetes has progressed after a year, by scikit-learn's data.

python -m training --model training/examples/diabetes.py --output artifact
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.records.schema import Choice, FieldSpec, FieldTable
from training.errors import TrainingError
from training.export import sha256
from training.recipe import Dataset, Recipe

BUNCH = load_diabetes(scaled=False)
UNITS = {"age": "years", "bmi": "kg/m2", "bp": "mmHg"}
TITLES = {
    "age": "Age",
    "sex": "Sex",
    "bmi": "Body mass index",
    "bp": "Mean blood pressure",
    "s1": "Total cholesterol",
    "s2": "Low-density lipoproteins",
    "s3": "High-density lipoproteins",
    "s4": "Total cholesterol by HDL",
    "s5": "Logarithm of triglycerides",
    "s6": "Blood sugar",
}


def _field(name: str, column: np.ndarray) -> FieldSpec:
    low, high = float(column.min()), float(column.max())
    if name == "sex":  # the data do not say which code is which
        choices = (Choice(code=1), Choice(code=2))
        ends = (1.0, 2.0)
        return FieldSpec(
            name=name,
            title=TITLES[name],
            kind="category",
            choices=choices,
            accept=ends,
            training=ends,
            required=True,
        )
    return FieldSpec(
        name=name,
        title=TITLES[name],
        kind="number",
        unit=UNITS.get(name, ""),
        accept=(0, 2 * high),
        training=(low, high),
        required=True,
    )


TABLE = FieldTable(
    fields=tuple(_field(name, column) for name, column in zip(TITLES, BUNCH.data.T, strict=True))
)


def load(path: Path | None) -> Dataset:
    """The rows that scikit-learn ships, unscaled."""
    if path:
        raise TrainingError("this model trains only on the data that scikit-learn ships")
    rows, outcome = np.asarray(BUNCH.data, float), np.asarray(BUNCH.target, float)
    return Dataset(rows, outcome, sha256(rows.tobytes() + outcome.tobytes()))


def estimator() -> Pipeline:
    """A penalised linear regression of standardised values."""
    return make_pipeline(StandardScaler(), Ridge(alpha=10))


MODEL = Recipe(
    name="diabetes",
    version="1.0.0",
    title="Progression of diabetes within a year",
    kind="value",
    unit="points",
    noun="case",
    table=TABLE,
    load=load,
    estimator=estimator,
)
