"""Words and missing values in a DataFrame, served by the scikit-learn runtime. Made-up data.

python -m training --model training/examples/churn.py --output artifact
"""

from pathlib import Path

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from shared.records.schema import Choice, FieldSpec, FieldTable
from training.recipe import Dataset, Recipe
from training.sample import read_data

DATA = Path(__file__).parent / "data" / "churn.csv"


def words(*choices: str) -> tuple[Choice, ...]:
    """Choices with codes from 0."""
    return tuple(Choice(code=code, word=word) for code, word in enumerate(choices))


TABLE = FieldTable(
    fields=(
        FieldSpec(
            name="tenure",
            column="Tenure (months)",
            title="Tenure",
            kind="number",
            unit="months",
            accept=(0, 600),
            training=(0, 72),
            required=True,
        ),
        FieldSpec(
            name="contract",
            column="Contract",
            title="Contract",
            kind="category",
            choices=words("month-to-month", "one year", "two years"),
            accept=(0, 2),
            training=(0, 2),
            required=True,
        ),
        FieldSpec(
            name="payment",
            column="Payment method",
            title="Payment method",
            kind="category",
            choices=words("card", "transfer", "cheque", "other"),
            accept=(0, 3),
            training=(0, 2),
        ),
        FieldSpec(
            name="charge",
            column="Monthly charge",
            title="Monthly charge",
            kind="number",
            unit="EUR",
            accept=(0, 1000),
            training=(20, 120),
            required=True,
        ),
        FieldSpec(
            name="calls",
            column="Support calls",
            title="Calls to support in three months",
            kind="number",
            accept=(0, 100),
            training=(0, 5),
        ),
    )
)


def load(path: Path | None) -> Dataset:
    """The columns of the file have the names of `column`."""
    return read_data(path or DATA, TABLE, outcome="churned", one="yes")


def estimator() -> Pipeline:
    """Columns are selected by their names; `other` is a word that the data lack."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    codes = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, ["Tenure (months)", "Monthly charge", "Support calls"]),
            ("codes", codes, ["Contract", "Payment method"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression())


MODEL = Recipe(
    name="churn",
    version="1.0.0",
    title="Probability that a customer leaves within three months",
    noun="customer",
    outcome="a cancelled contract",
    table=TABLE,
    load=load,
    estimator=estimator,
    runtime="sklearn",
    frame=True,
)
