"""Estimators of DataFrames: trained, kept and served with column names and words."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from shared.records.artifact import load_artifact
from shared.records.frames import decimals_of, frame_of
from shared.records.schema import Choice, FieldSpec, FieldTable
from shared.records.scoring import Scorer
from training.errors import TrainingError
from training.recipe import Dataset, Recipe
from training.train import as_served, train

TABLE = FieldTable(
    fields=(
        FieldSpec(
            name="speed",
            title="Speed",
            column="Speed (km/h)",
            kind="number",
            accept=(0, 300),
            training=(20, 180),
            required=True,
        ),
        FieldSpec(
            name="road",
            title="Road",
            column="Road-type [now]",
            kind="category",
            choices=tuple(
                Choice(code=code, word=word) for code, word in enumerate(("dry", "wet", "other"))
            ),
            accept=(0, 2),
            training=(0, 1),
        ),
    )
)


def load(_: Path | None) -> Dataset:
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.linspace(20, 180, 200), rng.integers(0, 2, 200)]).astype(float)
    outcome = (rows[:, 0] + 60 * rows[:, 1] + rng.normal(0, 30, 200) > 140).astype(int)
    rows[::20, 1] = np.nan
    return Dataset(rows, outcome, "made up")


def estimator() -> Any:
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = ColumnTransformer(
        [("speed", "passthrough", ["Speed (km/h)"]), ("road", words, ["Road-type [now]"])]
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


MODEL = Recipe(
    name="skid",
    version="1",
    title="",
    table=TABLE,
    load=load,
    estimator=estimator,
    runtime="sklearn",
    frame=True,
)


def test_a_frame_has_the_columns_and_words_of_the_fields() -> None:
    frame = frame_of(TABLE, np.array([[60, 0], [80, 2], [90, np.nan]]))

    assert list(frame.columns) == ["Speed (km/h)", "Road-type [now]"]
    assert frame["Road-type [now]"].tolist()[:2] == ["dry", "other"]
    assert frame["Road-type [now]"].isna().tolist() == [False, False, True]


@pytest.mark.slow
def test_an_estimator_of_frames_gives_the_answers_of_the_fitted_one(tmp_path: Path) -> None:
    manifest = train(MODEL, tmp_path / "model", progress=lambda _: None)
    data = as_served(load(None))
    fitted = estimator().fit(frame_of(TABLE, data.rows), data.outcome)

    artifact = load_artifact(tmp_path / "model")

    scorer = Scorer(artifact.model, manifest.fields, manifest.answer_kind)
    found = scorer.outputs(data.rows.astype(np.float32))
    expected = fitted.predict_proba(frame_of(TABLE, data.rows))[:, 1]
    assert np.array_equal(found, expected.astype(np.float32))
    other = scorer.score(TABLE.read({"speed": 100, "road": "other"})).members["probability"]
    dry = scorer.score(TABLE.read({"speed": 100, "road": "dry"})).members["probability"]
    assert other != dry


def test_a_recipe_of_frames_that_asks_for_onnx_is_refused(tmp_path: Path) -> None:
    recipe = dataclasses.replace(MODEL, runtime="onnx")

    with pytest.raises(TrainingError, match="set runtime='sklearn'"):
        train(recipe, tmp_path / "model", progress=lambda _: None)


def test_a_message_names_ten_choices_of_a_field() -> None:
    choices = tuple(Choice(code=code, word=f"w{code:02}") for code in range(12))
    field = FieldSpec(
        name="road", title="Road", kind="category", choices=choices, accept=(0, 11), training=(0, 1)
    )

    assert field.limit.endswith("9 (w09) and 2 more")
    assert "w10" not in field.limit


def test_a_float32_value_becomes_the_decimal_that_it_stands_for() -> None:
    decimals = np.array([[80.1, -0.003, 0], [123456, 1.5e-7, 299.999]])

    found = decimals_of(decimals.astype(np.float32))

    assert np.array_equal(found, decimals)


def test_a_float32_value_without_a_short_decimal_stays_as_it_is() -> None:
    values = np.array([1 / 3, np.pi * 1e5, np.nan, np.inf], np.float32)

    assert np.array_equal(decimals_of(values), values.astype(np.float64), equal_nan=True)
