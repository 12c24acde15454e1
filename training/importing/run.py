"""One import: read the table and the model, find the runtime, compare, evaluate if asked, write.

Nothing is fitted and nothing is written unless every check passes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_regressor
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shared.records.artifact import Manifest
from shared.records.schema import NUMBER, FieldSpec, FieldTable
from training.checks import check_data, check_rows, load
from training.errors import TrainingError
from training.evaluation import Evaluation, Fitted, Method, Progress, evaluate
from training.export import sha256
from training.framed import Framed, unframed
from training.importing.foreign import PROBED, OnnxFile, with_classes
from training.importing.models import Trust, read_model
from training.importing.table import MLMODEL, first_table, sample_of
from training.model_file import read_model_file
from training.parity import parity_rows
from training.recipe import Dataset, Floats, Recipe, no_data
from training.sample import Sample, read_sample, rows_of
from training.threshold import with_own_threshold
from training.train import Evidence, Trained, artifact_of, write

REFERENCE_ROWS = 100
"""Rows of a sample that can say how the fields are distributed."""
DRAWN = 1000
"""Rows that are drawn from the field table where there is no sample."""


@dataclass(frozen=True, slots=True)
class Request:
    """An import: the files and the options."""

    model: Path
    fields: Path
    """A Python file with a recipe, a sample as CSV, or an MLmodel file."""
    sample: Path | None = None
    data: Path | None = None
    """Rows with their outcomes, to evaluate the model on."""
    method: Method | None = None
    """Whether the model was fitted to those rows."""
    outcome: str = ""
    """The outcome's column in `data` and in samples."""
    runtime: Literal["onnx", "sklearn"] | None = None
    """None: ONNX if the model converts, else scikit-learn."""
    trust: Trust = field(default_factory=Trust)


def import_model(
    request: Request, output: Path, progress: Progress, card: Path | None = None
) -> Manifest:
    """Import a finished model and write its artifact to `output`, its card to `card` as Markdown.

    Raises `TrainingError`.
    """
    try:
        with threadpool_limits(1):
            imported = run(request, progress)
    except ValueError as error:  # scikit-learn's refusal of rows that the model cannot take
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise TrainingError(
            f"{request.model.name}: {reason} (a field that is not required may be missing, and a "
            "category has each of its codes: correct the field table if the model cannot take that)"
        ) from error
    return write(imported, output, card, progress)


def run(request: Request, progress: Progress) -> Trained:
    """Import a model without writing anything. Raises `TrainingError`."""
    if request.data and request.method is None:
        raise TrainingError("--data needs --held-out or --in-sample: was the model fitted to them?")
    finished = read_model(request.model, request.trust)
    recipe, sample = _recipe(request, progress)
    if not isinstance(finished.model, bytes):
        recipe = _as_fitted(recipe, finished.model, guessed=request.fields.suffix != ".py")
    known = _evidence(recipe, sample, request)
    if isinstance(finished.model, bytes):
        estimator: Any = OnnxFile(finished.model, recipe, known.rows[:PROBED])
        recipe = replace(
            estimator.recipe, convert=lambda one, _: one.graph(), one_by_one=estimator.one_by_one
        )
    else:
        estimator = finished.model
        recipe = _of_its_kind(recipe, estimator)
        if recipe.kind == "probability":
            recipe = with_own_threshold(recipe, estimator)
        recipe = replace(recipe, decimals=True)
        estimator = Framed(estimator, recipe.table) if recipe.frame else estimator
    figures: dict[str, Any] = {"imported": finished.origin}
    evaluation = Evaluation(figures, {})
    if request.data and request.method:
        data = _data(recipe, request, estimator)
        known = known if sample else Evidence(data.rows, data.sha256)
        evaluation = evaluate(recipe, data, 1, progress, Fitted(estimator, request.method))
        evaluation = Evaluation(evaluation.figures | figures, evaluation.plots)
    return _artifact(request, recipe, known, estimator, evaluation, progress)


def _artifact(
    request: Request,
    recipe: Recipe,
    known: Evidence,
    estimator: Any,
    evaluation: Evaluation,
    progress: Progress,
) -> Trained:
    """The artifact with the requested runtime, or with the first that serves the same scores."""
    own = isinstance(unframed(estimator), OnnxFile)
    if request.runtime == "sklearn" and not own:
        recipe = replace(recipe, runtime="sklearn")
    elif recipe.frame and (words := _fields_of_words(recipe.table)):
        if request.runtime == "onnx":
            raise TrainingError(f"the model takes words in {words}, which do not convert to ONNX")
        progress(f"scikit-learn will serve the model: it takes words in {words}")
        recipe = replace(recipe, runtime="sklearn")
    try:
        return artifact_of(recipe, known, estimator, evaluation, progress)
    except (TrainingError, ValueError) as error:
        if own and not recipe.one_by_one:
            progress("the answer for a row depends on other rows: the model will get one at a time")
            estimator.one_by_one = True
            recipe = replace(recipe, one_by_one=True)
        elif own or request.runtime is not None or recipe.runtime == "sklearn":
            raise
        else:
            progress(f"scikit-learn will serve the model: {error}")
            recipe = replace(recipe, runtime="sklearn")
    return artifact_of(recipe, known, estimator, evaluation, progress)


def _fields_of_words(table: FieldTable) -> str:
    """Names of the fields that an estimator of DataFrames gets as words."""
    return ", ".join(
        field.name
        for field in (table.fields[index] for index in table.used)
        if field.choices and all(choice.word is not None for choice in field.choices)
    )


def _recipe(request: Request, progress: Progress) -> tuple[Recipe, Sample | None]:
    """The recipe with the field table, and the sample that there is."""
    sample = read_sample(request.sample) if request.sample else None
    if request.fields.suffix == ".py":
        return read_model_file(request.fields), sample
    guessed = sample_of(request.fields)
    first = first_table(guessed, without=[request.outcome])
    for reason in first.left_out:
        progress(f"not a field: {reason}")
    name = request.model.parent.name if request.model.name == MLMODEL else request.model.stem
    recipe = Recipe(name=name, version="1.0.0", title=f"Prediction of {name}", table=first.table)
    return recipe, sample or (None if guessed.signed else guessed)


def _as_fitted(recipe: Recipe, estimator: Any, *, guessed: bool) -> Recipe:
    """The recipe with the columns that the estimator was fitted to, in their order."""
    names = getattr(estimator, "feature_names_in_", None)
    fields = recipe.table.fields
    if names is None:
        count = getattr(estimator, "n_features_in_", len(recipe.table.used))
        if count != len(recipe.table.used):
            raise TrainingError(
                f"the model was fitted to {count} columns, the field table uses "
                f"{len(recipe.table.used)}: one field for each column, in its order; set "
                "used=False for the others"
            )
        return recipe
    by_column = {field.column or field.name: field for field in fields}
    absent = [str(name) for name in names if name not in by_column]
    if absent:
        raise TrainingError(
            f"the model was fitted to the columns {', '.join(absent[:10])}, which the field table "
            "lacks: add a field with that name or `column`"
        )
    used = [by_column[name] for name in names]
    others = [] if guessed else [field for field in fields if field not in used]
    unused = [_unused(field) for field in others]
    table = FieldTable(**recipe.table.model_dump() | {"fields": (*used, *unused)})
    return replace(recipe, table=table, frame=True)


def _unused(field: FieldSpec) -> FieldSpec:
    return FieldSpec(**field.model_dump() | {"used": False, "required": False})


def _of_its_kind(recipe: Recipe, estimator: Any) -> Recipe:
    """The recipe with the kind of answer that the estimator gives. Raises `TrainingError`."""
    if not hasattr(estimator, "predict_proba"):
        if is_regressor(estimator):
            return replace(recipe, kind="value")
        raise TrainingError(
            f"{type(estimator).__name__} has no predict_proba: import a classifier that gives "
            "probabilities, or a regressor"
        )
    if recipe.kind == "value":
        raise TrainingError("the recipe has kind='value', but the model is a classifier")
    labels = list(estimator.classes_)
    if len(labels) == 2 and recipe.kind == "probability":
        return recipe
    return with_classes(recipe, [_text(label) for label in labels])


def _evidence(recipe: Recipe, sample: Sample | None, request: Request) -> Evidence:
    """The rows of the sample, checked, or else rows drawn from the field table."""
    if sample is None:
        blank = np.full((1, len(recipe.table.used)), np.nan)
        drawn = parity_rows(recipe.table, blank, DRAWN)
        order = np.random.default_rng(0).permutation(len(drawn))
        return Evidence(drawn[order].astype(np.float64), reference=False)
    rows = rows_of(recipe.table, sample, str(request.sample or request.fields))
    check_rows(replace(recipe, allow=(*recipe.allow, "training_range")), rows)
    return Evidence(rows, reference=len(rows) >= REFERENCE_ROWS)


def _data(recipe: Recipe, request: Request, estimator: Any) -> Dataset:
    """The rows to evaluate on: read by the recipe's own `load`, or as CSV with the outcome."""
    path = request.data
    recipe = replace(recipe, allow=(*recipe.allow, "training_range"))
    if recipe.load is not no_data:
        return load(recipe, path)
    if path is None or not request.outcome:
        raise TrainingError("--data needs --outcome, the name of its column with the outcome")
    sample = read_sample(path)
    if request.outcome not in sample.columns:
        raise TrainingError(f"{path} has no column {request.outcome}")
    outcome = _outcomes(recipe, sample.columns[request.outcome], unframed(estimator), path)
    rows: Floats = rows_of(recipe.table, sample, str(path))
    data = Dataset(rows, outcome, sha256(path.read_bytes()))
    check_data(recipe, data)
    return data


def _outcomes(
    recipe: Recipe, cells: list[str], estimator: Any, path: Path
) -> NDArray[np.float64] | NDArray[np.int64]:
    """Values, or the index of each row's class. Raises `TrainingError`."""
    if recipe.kind == "value":
        if not all(NUMBER.fullmatch(cell) for cell in cells):
            raise TrainingError(f"{path}: the outcome must be a number in every row")
        return np.array([float(cell) for cell in cells])
    known = [_text(label) for label in estimator.classes_]
    labels = [_text(cell) for cell in cells]
    if isinstance(estimator, OnnxFile) and set(labels) <= set(recipe.classes):
        known = list(recipe.classes)
    if set(labels) - set(known):
        raise TrainingError(f"{path}: the outcome must be {' or '.join(known)} in every row")
    return np.array([known.index(label) for label in labels])


def _text(label: Any) -> str:
    """A class as text; 1, 1.0 and True are the same."""
    try:
        return f"{float(label):g}"
    except ValueError:
        return {"true": "1", "false": "0"}.get(str(label).lower(), str(label))
