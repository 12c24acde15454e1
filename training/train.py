"""One training run: read the data, cross-validate, fit, convert, compare, write.

Nothing is written unless every check passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from shared.records.artifact import EXPLANATION, Golden, Manifest, OnnxModel, SklearnModel
from shared.records.errors import RecordRejected
from shared.records.estimator import estimator_file, load_estimator
from shared.records.kinds import shortest
from shared.records.scoring import Model, Scorer
from training.assessments import assessment_of
from training.card import sections
from training.checks import load, new_estimator
from training.errors import TrainingError
from training.evaluation import Evaluation, Progress, evaluate, rounded
from training.export import (
    estimator_files,
    is_estimator,
    libraries,
    sha256,
    write_artifact,
)
from training.framed import unframed
from training.graph import stock_graph
from training.parity import check_explanation, check_parity, check_rounding, parity_rows
from training.recipe import Dataset, Floats, Recipe
from training.reference import reference_of, with_reference
from training.report import markdown, page
from training.template import workbook
from training.threshold import compare_predictions, with_own_threshold

GOLDEN_ROWS = 5
"""First rows of the data that become golden records when the recipe names none."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A complete artifact in memory."""

    manifest: Manifest
    files: dict[str, bytes]
    card: str
    """The model card as Markdown."""


def train(
    recipe: Recipe,
    output: Path,
    *,
    progress: Progress,
    data: Path | None = None,
    repeats: int = 1,
    card: Path | None = None,
) -> Manifest:
    """Train a model and write its artifact to `output`.

    `data` replaces the recipe's own data; the model card goes to `card` as Markdown. Returns the
    manifest. Raises `TrainingError`.
    """
    try:
        trained = run(recipe, data, repeats, progress)
    except ValueError as error:  # scikit-learn's refusal of data that an estimator cannot take
        reason = (str(error).splitlines() or ["no reason"])[0]
        raise TrainingError(
            f"{recipe.name}: {reason} (fields that are not required may be missing: impute them, "
            "or take an estimator that can miss them)"
        ) from error
    return write(trained, output, card, progress)


def write(trained: Trained, output: Path, card: Path | None, progress: Progress) -> Manifest:
    """Write the artifact and the card of a run, and name the library that serves the model."""
    manifest = trained.manifest
    write_artifact(output, manifest, trained.files)
    if card:
        card.write_text(trained.card, encoding="utf-8", newline="\n")
    server = "scikit-learn" if manifest.runtime == "sklearn" else "ONNX Runtime"
    progress(f"{manifest.name} {manifest.version} in {output}, served by {server}")
    return manifest


def run(recipe: Recipe, data: Path | None, repeats: int, progress: Progress) -> Trained:
    """Train a model without writing anything. Raises `TrainingError`."""
    dataset = load(recipe, data)
    progress(f"data: {len(dataset.outcome)} rows")
    # The matrices are small: more threads only cost time, and they could change the last bit.
    with threadpool_limits(1):
        served = as_served(dataset)
        progress("fitting")
        estimator = new_estimator(recipe).fit(served.rows, served.outcome)
        recipe = with_own_threshold(recipe, unframed(estimator))
        evaluation = evaluate(recipe, served, repeats, progress)
        kind = recipe.answer_kind
        fitted = kind.of_estimator(estimator, served.rows)[None]
        apparent = rounded(assessment_of(kind).figures(served.outcome, fitted))
        evaluation = replace(evaluation, figures=evaluation.figures | {"apparent": apparent})
        return artifact_of(
            recipe, Evidence(dataset.rows, dataset.sha256), estimator, evaluation, progress
        )


def as_served(data: Dataset) -> Dataset:
    """The data with every value rounded to float32, as a server sees them."""
    return replace(data, rows=rounded_rows(data.rows))


def rounded_rows(rows: Floats) -> Floats:
    """Rows with every value rounded to float32, still as float64."""
    with np.errstate(over="ignore"):
        return rows.astype(np.float32).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Rows that the served model is compared on, besides drawn ones."""

    rows: Floats
    """[n, fields used], as they are; the data of the training, or a sample."""
    sha256: str = ""
    """Of the training data, if they are known."""
    reference: bool = True
    """The rows show how often each category occurs where the model is used."""


def artifact_of(
    recipe: Recipe, known: Evidence, estimator: Any, evaluation: Evaluation, progress: Progress
) -> Trained:
    """The artifact of a fitted estimator. Compares what is served with it.

    Raises `TrainingError`.
    """
    progress("exporting and comparing with scikit-learn")
    seen, kind = rounded_rows(known.rows), recipe.answer_kind
    files = _model_files(recipe, unframed(estimator))
    manifest = _manifest(recipe, known, seen, files, libraries(unframed(estimator)))
    model = _served(manifest, files)
    rows = parity_rows(recipe.table, seen)
    found = evaluation.figures | {
        "parity": {
            "rows": len(rows),
            "largest_difference": check_parity(model, estimator, rows, kind),
        },
        "rounding": check_rounding(model, estimator, known.rows, kind, recipe.rounding_limit),
        "predictions": compare_predictions(model, estimator, known.rows, kind),
    }
    if isinstance(model, OnnxModel) and recipe.explain:
        check_explanation(model, rows)
    golden = _golden(manifest, model)
    scorer = Scorer(model, manifest.fields, kind)
    reference = reference_of(scorer, seen) if known.reference else None
    manifest = manifest.model_copy(
        update={"golden": golden, "figures": found, "reference": reference}
    )
    card = sections(recipe, manifest, evaluation.plots, unframed(estimator))
    files["model_card.html"] = page(manifest, card).encode()
    files["template.xlsx"] = workbook(manifest)
    hashes = {name: sha256(content) for name, content in files.items()}
    return Trained(manifest.model_copy(update={"files": hashes}), files, markdown(manifest, card))


def _model_files(recipe: Recipe, estimator: Any) -> dict[str, bytes]:
    files = {}
    if is_estimator(estimator):
        files = estimator_files(estimator, served=recipe.runtime == "sklearn")
    if recipe.runtime == "onnx":
        files["model.onnx"] = (
            recipe.convert(estimator, recipe.table)
            if recipe.convert
            else stock_graph(estimator, recipe.table, recipe.answer_kind)
        )
        if recipe.explain:
            files[EXPLANATION] = recipe.explain(estimator, recipe.table)
    elif recipe.explain:
        raise TrainingError("explain: only a model that is served as ONNX explains its answers")
    return files


def _manifest(
    recipe: Recipe,
    known: Evidence,
    seen: Floats,
    files: dict[str, bytes],
    versions: dict[str, str],
) -> Manifest:
    """The manifest, still without figures and golden answers."""
    hashes = {name: sha256(content) for name, content in files.items()}
    served = hashes.get("model.onnx") or hashes[estimator_file(hashes)]
    return Manifest(
        name=recipe.name,
        version=f"{recipe.version}-{served[:8]}",
        title=recipe.title,
        notice=recipe.notice,
        noun=recipe.noun,
        nouns=recipe.nouns or f"{recipe.noun}s",
        outcome=recipe.outcome,
        kind=recipe.kind,
        runtime=recipe.runtime,
        files=hashes,
        data_sha256=known.sha256,
        threshold=recipe.threshold if recipe.kind == "probability" else None,
        classes=recipe.classes,
        unit=recipe.unit,
        frame=recipe.frame,
        one_by_one=recipe.one_by_one,
        decimals=recipe.decimals,
        rounding_limit=recipe.rounding_limit,
        fields=with_reference(recipe.table, seen) if known.reference else recipe.table,
        libraries=versions,
        golden=tuple(
            Golden(record=dict(record), output=())
            for record in recipe.golden or _first_records(recipe, seen)
        ),
    )


def _first_records(recipe: Recipe, rows: Floats) -> list[dict[str, float]]:
    names = recipe.table.used_names
    return [
        {
            name: shortest(np.float32(value))
            for name, value in zip(names, row, strict=True)
            if not math.isnan(value)
        }
        for row in rows[:GOLDEN_ROWS]
    ]


def _served(manifest: Manifest, files: dict[str, bytes]) -> OnnxModel | SklearnModel:
    if manifest.runtime == "onnx":
        return OnnxModel(files["model.onnx"], manifest, files.get(EXPLANATION))
    name = estimator_file(files)
    loaded = load_estimator(name, files[name], manifest.libraries, allow_pickle=True)
    return SklearnModel(loaded, manifest)


def _golden(manifest: Manifest, model: Model) -> tuple[Golden, ...]:
    """The golden records with the model's own answers."""
    table = manifest.fields
    try:
        records = [table.read(golden.record).values for golden in manifest.golden]
    except RecordRejected as error:
        raise TrainingError(f"a golden record is no record of the field table: {error}") from error
    rows = np.array(records, np.float32)[:, list(table.used)]
    return tuple(
        golden.model_copy(update={"output": tuple(map(shortest, np.ravel(output)))})
        for golden, output in zip(manifest.golden, model.outputs(rows), strict=True)
    )
