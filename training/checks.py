"""Checks of a recipe and its data before anything is fitted: one sentence for each fault."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from shared.records.schema import FieldSpec
from training.assessments import assessment_of
from training.errors import TrainingError
from training.framed import Framed
from training.recipe import Dataset, Floats, Recipe

SLACK = 0.1
"""How far a declared training range may reach beyond the data, as a share of their span."""


@contextmanager
def errors_as_sentences(what: str) -> Iterator[None]:
    """Turn any error of the recipe's own code into a `TrainingError` with its line."""
    try:
        yield
    except TrainingError:
        raise
    except ModuleNotFoundError as error:
        raise TrainingError(f"{what} needs the package {error.name}: install it") from error
    except Exception as error:  # the recipe's code may raise anything
        raise TrainingError(f"{what} failed{_line(error)}: {_told(error)}") from error


def _line(error: Exception) -> str:
    """The innermost line outside the installed packages."""
    if isinstance(error, SyntaxError):
        return f" ({Path(error.filename or '').name}, line {error.lineno})"
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and Path(frame.filename).parent != HERE
    ]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


HERE = Path(__file__).parent


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no reason given"
    if isinstance(error, KeyError):
        return f"there is no {text}"
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def load(recipe: Recipe, path: Path | None) -> Dataset:
    """Load the data and check them. Raises `TrainingError`."""
    with errors_as_sentences(f"{recipe.name}: kind {recipe.kind}"):
        _ = recipe.answer_kind
    with errors_as_sentences(f"{recipe.name}: load"):
        data = recipe.load(path)
    if not isinstance(data, Dataset):
        raise TrainingError(f"{recipe.name}: load must return a Dataset, not {type(data).__name__}")
    check_data(recipe, data)
    return data


def new_estimator(recipe: Recipe) -> Any:
    """An unfitted estimator of the recipe. Raises `TrainingError`."""
    make: Callable[[], Any] = recipe.estimator
    if hasattr(make, "fit") and not isinstance(make, type):
        raise TrainingError(
            f"{recipe.name}: estimator must be a function that makes one, not a "
            f"{type(make).__name__}: write estimator=lambda: {type(make).__name__}(...)"
        )
    if not callable(make):
        raise TrainingError(f"{recipe.name}: estimator must be a function that makes an estimator")
    if recipe.frame and recipe.runtime != "sklearn":
        raise TrainingError(
            f"{recipe.name}: a recipe with frame=True is served by scikit-learn: set "
            "runtime='sklearn'"
        )
    with errors_as_sentences(f"{recipe.name}: estimator"):
        estimator = make()
    if not hasattr(estimator, "fit"):
        raise TrainingError(
            f"{recipe.name}: estimator made a {type(estimator).__name__}, which has no fit"
        )
    if not hasattr(estimator, recipe.answer_kind.method):
        raise TrainingError(
            f"{recipe.name}: {_final(estimator)} has no {recipe.answer_kind.method}: wrap it in "
            "CalibratedClassifierCV, set the option that gives probabilities, or set the recipe's "
            "kind"
        )
    return Framed(estimator, recipe.table) if recipe.frame else estimator


def _final(estimator: Any) -> str:
    steps = getattr(estimator, "steps", None)
    return type(steps[-1][1] if steps else estimator).__name__


def check_data(recipe: Recipe, data: Dataset) -> None:
    """Compare every row with the field table. Raises `TrainingError` that names each fault."""
    rows, outcome = np.asarray(data.rows), np.asarray(data.outcome)
    names = recipe.table.used_names
    if rows.ndim != 2 or rows.shape[1] != len(names):
        raise TrainingError(
            f"{recipe.name}: load gave rows of shape {rows.shape}, but the field table uses "
            f"{len(names)} fields: one column each, in this order: {_listed(names)}"
        )
    if outcome.shape != rows.shape[:1]:
        raise TrainingError(
            f"{recipe.name}: {len(rows)} rows, but an outcome of shape {outcome.shape}"
        )
    if rows.dtype.kind not in "fiub":
        raise TrainingError(f"{recipe.name}: the rows must be numbers, NaN for missing")
    fault = assessment_of(recipe.answer_kind).fault(outcome)
    if fault:
        raise TrainingError(f"{recipe.name}: {fault}")
    check_rows(recipe, rows)


def check_rows(recipe: Recipe, rows: Floats) -> None:
    """Compare rows with the field table. Raises `TrainingError` that names each fault."""
    fields = [recipe.table.fields[index] for index in recipe.table.used]
    faults = [
        fault
        for field, column in zip(fields, rows.T.astype(float), strict=True)
        for fault in _faults(field, column, recipe)
    ]
    if faults:
        raise TrainingError(
            f"{recipe.name}: the data do not match the field table: {'; '.join(faults)}. Correct "
            "the table or the data, or name what is meant in the recipe's `allow`"
        )


def _faults(field: FieldSpec, column: Floats, recipe: Recipe) -> Iterator[str]:
    allowed, missing = recipe.allow, np.isnan(column)
    known = column[~missing]
    if field.required and missing.any() and "missing_required" not in allowed:
        yield f"{field.name} is required but missing in {missing.sum()} rows (missing_required)"
    if field.kind == "category":
        unknown = ~np.isin(known, sorted(field.codes))
        if unknown.any() and "unknown_code" not in allowed:
            yield f"{field.name} has unknown codes in {unknown.sum()} rows (unknown_code)"
        return
    low, high = field.accept
    outside = (known < low) | (known > high)
    if outside.any() and "out_of_range" not in allowed:
        yield (
            f"{field.name} is outside the accepted {low:g} to {high:g} in {outside.sum()} rows "
            "(out_of_range)"
        )
    if len(known) and "training_range" not in allowed:
        yield from _range_faults(field, known)


def _range_faults(field: FieldSpec, known: Floats) -> Iterator[str]:
    low, high = field.training
    first, last = float(known.min()), float(known.max())
    outside = int(((known < low) | (known > high)).sum())
    slack = SLACK * (last - first)
    if outside or first - low > slack or high - last > slack:
        yield (
            f"{field.name} has the training range {low:g} to {high:g}, but the data go from "
            f"{first:g} to {last:g}, {outside} rows outside (training_range)"
        )


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
