"""The models of docs/own-model.md and of training/examples, with records for each."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cli.local import ROOT

PAGE = ROOT / "docs/own-model.md"
EXAMPLES = ROOT / "training/examples"
SKIDS = EXAMPLES / "data/skids.csv"
CLEVELAND = ROOT / "training/heart/data/heart_cleveland.csv"

Record = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Case:
    """Records for a model: the first is scored, the last has a fault."""

    records: list[Record]
    fault: str
    imported: tuple[str, ...] = ()
    """The words of `heart-scorer import`, without the output; for a finished model."""


def blocks(language: str) -> list[str]:
    """The code of the page in a language."""
    fence = rf"^```{language}\n(.*?)^```"
    return re.findall(fence, PAGE.read_text(), re.DOTALL | re.MULTILINE)


def write_page(folder: Path) -> None:
    """Write the page's files, next to the data that it names."""
    named = re.findall(r"Write `(\w+\.py)`.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name, code in named:
        (folder / name).write_text(code)
    shutil.copy(SKIDS, folder)


def breast_record() -> Record:
    from training.examples.breast_cancer import BUNCH, NAMES

    return dict(zip(NAMES, map(float, BUNCH.data[0]), strict=True))


def first_record(bunch: Any, names: Iterable[str]) -> Record:
    return dict(zip(names, map(float, bunch.data[0]), strict=True))


HEART: Record = {"age": 63, "sex": "male", "cp": "asymptomatic", "trestbps": 145, "chol": 233}
OF_HEART = Case([HEART, {"age": 50, "sex": 0}, {**HEART, "chol": 5}], "out_of_range: chol")
DRIVES = Case([{"speed": 140, "wet": 1}, {"speed": 60}, {"speed": 9e6}], "out_of_range: speed")

CUSTOMER: Record = {
    "tenure": 12,
    "contract": "one year",
    "payment": "card",
    "charge": 50.5,
    "calls": 2,
}
TUTORIAL: Record = {"age": 63, "sex": 1, "cp": 0, "trestbps": 145, "chol": 233}


def cases() -> dict[str, Case]:
    """A case for each example, by the name of its file."""
    from training.examples import diabetes, wine

    grown = first_record(wine.BUNCH, wine.NAMES)
    case = first_record(diabetes.BUNCH, diabetes.TABLE.used_names)
    finished = EXAMPLES / "finished"
    drives = ("--fields", str(finished / "skids-mlflow" / "MLmodel"), "--sample", str(SKIDS))
    breast = breast_record()
    return {
        **dict.fromkeys(("heart_boosting", "heart_histogram", "heart_xgboost"), OF_HEART),
        "breast_cancer": Case(
            [breast, {**breast, "mean_radius": -1}], "out_of_range: mean_radius must be from 0"
        ),
        "wine": Case([grown, {**grown, "alcohol": -1}], "out_of_range: alcohol"),
        "diabetes": Case([case, {**case, "age": -1}], "out_of_range: age"),
        "churn": Case(
            [
                CUSTOMER,
                {"tenure": 1, "contract": "month-to-month", "charge": 99, "payment": "other"},
                {**CUSTOMER, "contract": "weekly"},
            ],
            "unknown_value: contract must be one of 0 (month-to-month)",
        ),
        "skids-mlflow": replace(
            DRIVES, imported=("import", str(finished / "skids-mlflow"), *drives)
        ),
        "lightgbm.onnx": replace(
            DRIVES, imported=("import", str(finished / "lightgbm.onnx"), *drives)
        ),
        "tutorial": Case(
            [TUTORIAL, {**TUTORIAL, "age": 999}],
            "out_of_range: age must be from",
            ("import", "model.joblib", "--fields", str(CLEVELAND), "--outcome", "condition"),
        ),
    }


def write_csv(path: Path, records: list[Record]) -> None:
    """Write records with the columns of the first."""
    with path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(dict.fromkeys(key for one in records for key in one)))
        lines.writeheader()
        lines.writerows(records)
