"""Large data: the evaluation is thinned, and memory grows with the rows, not with their square."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from tests.unit.test_training_checks import a_recipe
from training.evaluation import EVALUATED, evaluate
from training.recipe import Dataset

ROOT = Path(__file__).parents[2]
GIGABYTE = 1 << 30

PROGRAM = """
import resource, sys
from pathlib import Path
from training.train import train
from tests.unit.test_training_checks import a_recipe
from tests.unit.test_training_large import imputed_line, many_rows
recipe = a_recipe(many_rows(200_000), estimator=imputed_line)
train(recipe, Path(sys.argv[1]), progress=print)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def many_rows(count: int) -> Dataset:
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.uniform(20, 180, count), rng.integers(0, 2, count)])
    outcome = (rows[:, 0] + 40 * rows[:, 1] + rng.normal(0, 40, count) > 140).astype(int)
    return Dataset(rows, outcome, "made up")


def imputed_line() -> Any:
    return make_pipeline(SimpleImputer(), LogisticRegression())


@pytest.mark.slow
def test_large_data_are_evaluated_by_a_sample_with_the_same_share_of_the_outcome() -> None:
    data = many_rows(EVALUATED + 500)
    said: list[str] = []

    figures = evaluate(a_recipe(data), data, 1, said.append).figures

    assert (figures["rows"], figures["evaluated"]) == (EVALUATED + 500, EVALUATED)
    assert figures["positive"] == data.outcome.sum()
    assert f"a random sample of {EVALUATED} of {EVALUATED + 500} rows" in said[0]
    assert "fold 10 of 10" in said


@pytest.mark.slow
def test_200_000_rows_train_in_four_gigabytes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "model")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(done.stdout.splitlines()[-1]) < 4 * GIGABYTE
    assert (tmp_path / "model" / "manifest.json").exists()
