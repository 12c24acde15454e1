"""Checks of a recipe and its data: every fault is a sentence, not a traceback."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from shared.records.schema import Choice, FieldSpec, FieldTable
from training.__main__ import main
from training.checks import load, new_estimator
from training.errors import TrainingError
from training.recipe import Dataset, Recipe

WET = (Choice(code=0, word="no"), Choice(code=1, word="yes"))
SPEED = FieldSpec(
    name="speed", title="Speed", kind="number", accept=(0, 300), training=(20, 180), required=True
)


def a_table(choices: tuple[Choice, ...] = WET) -> FieldTable:
    wet = FieldSpec(
        name="wet", title="Wet", kind="category", choices=choices, accept=(0, 1), training=(0, 1)
    )
    return FieldTable(fields=(SPEED, wet))


def a_dataset(change: Callable[[Any, Any], Any] = lambda _rows, _outcome: None) -> Dataset:
    """200 rows in order; `change` edits rows and outcome, or returns others."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([np.linspace(20, 180, 200), rng.integers(0, 2, 200)]).astype(float)
    outcome = rng.integers(0, 2, 200)
    rows, outcome = change(rows, outcome) or (rows, outcome)
    return Dataset(rows, outcome, "made up")


def a_recipe(data: Dataset | None = None, **changes: Any) -> Recipe:
    recipe = Recipe(
        name="skid",
        version="1",
        title="",
        table=a_table(),
        load=lambda _: data or a_dataset(),
        estimator=LogisticRegression,
    )
    return dataclasses.replace(recipe, **changes)


def test_data_that_match_the_field_table_are_loaded() -> None:
    assert len(load(a_recipe(), None).outcome) == 200


def missing(rows: Any, _: Any) -> None:
    rows[:3, 0] = np.nan


def too_fast(rows: Any, _: Any) -> None:
    rows[:4, 0] = 400


def coded(rows: Any, _: Any) -> None:
    rows[:5, 1] = 2


def slow(rows: Any, _: Any) -> None:
    rows[:, 0] /= 2


@pytest.mark.parametrize(
    ("change", "fault", "text"),
    [
        (missing, "missing_required", "speed is required but missing in 3 rows"),
        (too_fast, "out_of_range", "speed is outside the accepted 0 to 300 in 4 rows"),
        (coded, "unknown_code", "wet has unknown codes in 5 rows"),
        (slow, "training_range", "speed has the training range 20 to 180, but the data go from 10"),
    ],
)
def test_a_fault_of_the_data_is_named_with_its_count_unless_the_recipe_allows_it(
    change: Callable[[Any, Any], None], fault: str, text: str
) -> None:
    data = a_dataset(change)

    with pytest.raises(TrainingError) as refused:
        load(a_recipe(data), None)

    assert text in str(refused.value)
    assert f"({fault})" in str(refused.value)
    allowed = load(a_recipe(data, allow=(fault, "training_range")), None)
    assert allowed is data


def test_all_faults_are_named_at_once() -> None:
    def both(rows: Any, outcome: Any) -> None:
        missing(rows, outcome)
        coded(rows, outcome)

    with pytest.raises(TrainingError, match=r"speed is required .* wet has unknown codes"):
        load(a_recipe(a_dataset(both)), None)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda rows, y: (rows, np.where(y == 1, "yes", "no")), "the outcome is text"),
        (lambda rows, y: (rows, 2 * y - 1), "not -1 and 1: write"),
        (lambda rows, y: (rows, y + np.arange(200) % 3), "not 0 and 1 and 2 and others"),
        (lambda rows, y: (rows, y * 0), "every row has the same outcome"),
        (lambda rows, _: (rows, (np.arange(200) < 9).astype(int)), "there are 191 of 0 and 9 of 1"),
        (lambda rows, y: (rows[:, :1], y), "uses 2 fields: one column each, in this order: speed"),
        (lambda rows, y: (rows, y[:-1]), "200 rows, but an outcome of shape"),
        (lambda rows, y: (rows.astype(str), y), "the rows must be numbers"),
    ],
)
def test_rows_and_outcomes_that_no_model_can_take_are_refused(
    change: Callable[[Any, Any], Any], text: str
) -> None:
    with pytest.raises(TrainingError, match=text):
        load(a_recipe(a_dataset(change)), None)


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ((Choice(code=0, word="no"), Choice(code=0, word="yes")), "two choices have the same code"),
        ((Choice(code=0, word="very wet"), Choice(code=1, word="Very-Wet")), "means two codes"),
        ((Choice(code=0, word="na"), Choice(code=1, word="yes")), "the word 'na' means missing"),
        ((Choice(code=0, word="1"), Choice(code=1, word="0")), "the word '1' is a number"),
    ],
)
def test_choices_that_two_readers_would_read_differently_are_refused(
    choices: tuple[Choice, ...], text: str
) -> None:
    with pytest.raises(ValidationError, match=text):
        a_table(choices)


@pytest.mark.parametrize(
    ("estimator", "text"),
    [
        (LogisticRegression(), r"write estimator=lambda: LogisticRegression\(...\)"),
        (None, "must be a function that makes an estimator"),
        (lambda: None, "made a NoneType, which has no fit"),
        (LinearSVC, "LinearSVC has no predict_proba: wrap it in CalibratedClassifierCV"),
        (lambda: make_pipeline(LinearSVC()), "LinearSVC has no predict_proba"),
        (lambda: LogisticRegression(colour=1), r"estimator failed \(test_training_checks.py, line"),
    ],
)
def test_an_estimator_that_cannot_be_served_is_refused(estimator: Any, text: str) -> None:
    with pytest.raises(TrainingError, match=text):
        new_estimator(a_recipe(estimator=estimator))


def run_model_file(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    path = folder / "mine.py"
    path.write_text(text)
    monkeypatch.setattr(sys, "argv", ["training", "--model", str(path)])
    return main()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import not_to_be_had", "mine.py needs the package not_to_be_had: install it"),
        ("x = (", "mine.py failed (mine.py, line 1)"),
        ("1 / 0", "mine.py failed (mine.py, line 1): ZeroDivisionError: division by zero"),
        (
            "from tests.unit.test_training_checks import a_recipe\n"
            "import dataclasses\n"
            "def load(path):\n"
            "    return {}['skid']\n"
            "MODEL = dataclasses.replace(a_recipe(), load=load)\n",
            "skid: load failed (mine.py, line 4): there is no 'skid'",
        ),
    ],
)
def test_an_error_of_the_model_file_is_one_line_that_names_its_line(
    text: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run_model_file(text, tmp_path, monkeypatch)

    said = capsys.readouterr().err
    assert code == 1
    assert reason in said
    assert said.count("\n") == 1
