"""Reads the heart data and refuses data in another coding than the code book's.

Checks for every file: the columns, each value by the field table, the labels, no complete row
twice, and the known directions among angiography patients (older patients and those without chest
pain are ill more often), because a reversed label or a shifted code stays within every range.
Checks for the file in `data/` only: its SHA-256, its 303 rows and its 139 ill.
"""

from __future__ import annotations

import hashlib
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared.records.errors import RecordRejected
from training.errors import TrainingError
from training.heart.fields import TABLE
from training.recipe import Dataset

DATA = Path(__file__).parent / "data" / "heart_cleveland.csv"
SHA256 = "c2383a7f465de40d9dababea2f72c5517e7a22994e447c484aa41b51b40a5d6f"
ROWS = 303
ILL = 139

Values = NDArray[Any]

LABEL = "condition"

RISKIER = {
    "age": "older patients",
    "cp": "asymptomatic patients",
    "exang": "patients with exercise angina",
    "slope": "patients with a flat or falling ST slope",
    "thal": "patients with a thallium defect",
    "ca": "patients with a coloured vessel",
}
"""The group that is ill more often among patients sent to angiography, by field."""
CONTRADICTION = -1.0
"""In standard errors: the right codes give 4 to 9 in the 303 rows, shifted ones less than -1."""


def read_heart(path: Path | None = None) -> Dataset:
    """Read and check the Cleveland file, or another sample of the same fields.

    Raises `TrainingError` that names the fault of the file.
    """
    source = path or DATA
    try:
        content = source.read_bytes()
    except OSError as error:
        raise TrainingError(f"{source}: {error.strerror}") from error
    frame = _parse(source.name, content)
    _check_columns(source.name, frame)
    values = _read_values(source.name, frame)
    outcome = _read_outcome(source.name, frame)
    _check_duplicates(source.name, values, outcome)
    _check_directions(source.name, values, outcome)
    sha256 = hashlib.sha256(content).hexdigest()
    if source.resolve() == DATA:
        _check_cleveland(source.name, sha256, outcome)
    return Dataset(
        rows=values[:, list(TABLE.used)],
        outcome=outcome,
        sha256=sha256,
        demonstration=sha256 == SHA256,
    )


def _parse(name: str, content: bytes) -> pd.DataFrame:
    try:
        # Cells as text: the field table reads them as it reads a caller's file.
        return pd.read_csv(
            io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8-sig"
        ).rename(columns=lambda column: column.strip().lower())
    except (ValueError, UnicodeDecodeError) as error:
        raise TrainingError(f"{name} is not a CSV file in UTF-8: {error}") from error


def _check_columns(name: str, frame: pd.DataFrame) -> None:
    for column, meaning in TABLE.other_columns.items():
        if column in frame.columns:
            raise TrainingError(f"{name}: the column {column}: {meaning}")
    missing = [column for column in (*TABLE.by_name, LABEL) if column not in frame.columns]
    if missing:
        raise TrainingError(f"{name} lacks the columns {', '.join(missing)}")


def _read_values(name: str, frame: pd.DataFrame) -> Values:
    """Values [n, fields] as the field table reads them; NaN means missing."""
    columns = [frame[field.name].tolist() for field in TABLE.fields]
    values = np.empty((len(frame), len(columns)))
    for number, cells in enumerate(zip(*columns, strict=True), 1):
        texts = dict(zip(TABLE.by_name, cells, strict=True))
        try:
            values[number - 1] = TABLE.read_cells(texts, None).values
        except RecordRejected as error:
            raise TrainingError(f"{name}, row {number}: {error.rejections[0]}") from error
    return values


def _read_outcome(name: str, frame: pd.DataFrame) -> Values:
    labels = set(frame[LABEL])
    if labels <= {"0", "1", "2", "3", "4"} and not labels <= {"0", "1"}:
        raise TrainingError(
            f"{name}: {LABEL} holds UCI's five levels: write 1 for 1 to 4 (over 50 % narrowing)"
        )
    if not labels <= {"0", "1"}:
        raise TrainingError(f"{name}: {LABEL} must be 0 (healthy) or 1 (ill) in every row")
    return np.asarray(frame[LABEL] == "1", np.int64)


def _check_duplicates(name: str, values: Values, outcome: Values) -> None:
    complete = ~np.isnan(values).any(axis=1)
    patients = pd.DataFrame(np.column_stack([values, outcome])[complete])
    repeated = int(patients.duplicated().sum())
    if repeated:
        raise TrainingError(
            f"{name} holds {repeated} patients more than once, as the heart.csv forms do: "
            "remove the copies, or cross-validation tests on training rows"
        )


def _check_directions(name: str, values: Values, outcome: Values) -> None:
    """Refuse a reversed label or shifted codes, by how clearly each group contradicts."""
    scores = {
        field: _excess(_riskier(field, values), outcome, np.isnan(_column(field, values)))
        for field in RISKIER
    }
    against = [field for field, score in scores.items() if score < CONTRADICTION]
    if not against:
        return
    if len(against) > len(scores) / 2:
        raise TrainingError(
            f"{name}: {RISKIER['age']} and {RISKIER['cp']} are ill less often: the label is "
            f"reversed, {LABEL} must be 1 for ill (heart.csv writes 1 for healthy)"
        )
    groups = " and ".join(RISKIER[field] for field in against)
    raise TrainingError(
        f"{name}: {groups} are ill less often: {', '.join(against)} has other codes than "
        "data/README.md (heart.csv writes cp as 3 minus ours and slope as 2 minus ours)"
    )


def _column(field: str, values: Values) -> Values:
    column: Values = values[:, list(TABLE.by_name).index(field)]
    return column


def _riskier(field: str, values: Values) -> Values:
    column = _column(field, values)
    match field:
        case "age":
            found = column > np.median(column)
        case "cp":
            found = column == 3
        case _:
            found = column > 0
    return np.asarray(found)


def _excess(group: Values, outcome: Values, unknown: Values) -> float:
    """Excess of illness in the group over the others, in standard errors (two proportions)."""
    inside, outside = outcome[group & ~unknown], outcome[~group & ~unknown]
    if not len(inside) or not len(outside):
        return 0.0
    overall = np.concatenate([inside, outside]).mean()
    error = math.sqrt(overall * (1 - overall) * (1 / len(inside) + 1 / len(outside)))
    return float((inside.mean() - outside.mean()) / error) if error else 0.0


def _check_cleveland(name: str, sha256: str, outcome: Values) -> None:
    found = (sha256, len(outcome), int(outcome.sum()))
    if found != (SHA256, ROWS, ILL):
        raise TrainingError(
            f"{name} is not the recorded file ({ROWS} rows, {ILL} ill, SHA-256 {SHA256}): "
            "restore it, or pass your sample as --data"
        )
