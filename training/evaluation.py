"""Cross-validation: how well the model predicts for patients that it has not seen.

Ten stratified folds, repeated with seeds 0, 1, …. The fitted model scores the left-out patients
as they are, with fields withheld, and with one field's values shuffled among them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.model_selection import train_test_split

from training.assessments import FOLDS, assessment_of
from training.checks import new_estimator
from training.errors import TrainingError
from training.recipe import Dataset, Recipe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Progress = Callable[[str], None]
Method = Literal["held_out", "in_sample"]
"""How a fitted estimator is evaluated: on rows that it was not fitted to, or on its own rows."""

SHUFFLES = 50
"""Shuffles of each field for its importance."""
EVALUATED = 10_000
"""Rows that are cross-validated; of more rows a sample of this size. Comparing every pair of
outcomes, for the intervals, takes memory that grows with the square."""
SHOW_FOLDS_FROM = 2_000
"""Rows from which each fold reports its progress."""
ALL_SETS_FROM = 5
"""Repeats from which every field set is evaluated, if the recipe asks for it."""

TOLERANCE = {
    "auc": 0.003,
    "log_loss": 0.005,
    "brier": 0.002,
    "accuracy": 0.01,
    "sensitivity": 0.01,
    "specificity": 0.01,
}
"""How far a figure may be from the expected one of as many repeats."""

BOUNDS = {
    "calibration_slope": (0.9, 1.25),
    "calibration_intercept": (-0.1, 0.1),
    "ece": (0.0, 0.075),
}
"""Limits of the other figures."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of the cross-validation."""

    figures: dict[str, Any]
    """For the manifest."""
    plots: dict[str, Any]
    """Curves that only the model card shows."""


def evaluate(
    recipe: Recipe,
    data: Dataset,
    repeats: int,
    progress: Progress,
    fitted: Fitted | None = None,
) -> Evaluation:
    """Cross-validate, or score the data with an estimator that is fitted already.

    Raises `TrainingError` when known data give other figures than expected.
    """
    everything, data = data, _thinned(recipe, data, progress)
    withheld, shuffles = _withheld(recipe, data), _Shuffles(data.rows, SHUFFLES)
    if fitted:
        progress("evaluating")
        predicted = _by_fitted(recipe, fitted.estimator, data, withheld, shuffles)
    else:
        predicted = out_of_fold(recipe, data, repeats, withheld, progress, shuffles)
    assess, outcome = assessment_of(recipe.answer_kind), data.outcome
    sets = {title: assess.figures(outcome, predicted[title]) for title in withheld}
    title, main = next(iter(sets.items()))
    if data.demonstration:
        check_figures(main, recipe.expected, repeats)
    unseen = predicted[title]
    base = float(assess.losses(outcome, unseen).mean())
    found = {
        "repeats": repeats,
        "rows": len(everything.outcome),
        "evaluated": len(outcome),
        "complete": int((~np.isnan(everything.rows).any(axis=1)).sum()),
        fitted.method if fitted else "cross_validated": main,
        "intervals": assess.intervals(outcome, unseen),
        "field_sets": sets,
        "subgroups": _subgroups(recipe, data, unseen),
        **assess.more(recipe, everything, data, predicted),
        **_importance(recipe, base, shuffles, repeats),
    }
    if fitted and fitted.method == "in_sample":
        # The API's page shows them for new records, whose scores an in-sample share would flatter.
        found.pop("similar", None)
    if recipe.every_field_set and repeats >= ALL_SETS_FROM:
        found["all_field_sets"] = _all_field_sets(recipe, data, progress)
    return Evaluation(rounded(found), rounded(assess.curves(outcome, unseen)))


def _thinned(recipe: Recipe, data: Dataset, progress: Progress) -> Dataset:
    """The data, or a random sample with the same share of the outcome where they are large."""
    if len(data.outcome) <= EVALUATED:
        return data
    progress(f"cross-validating a random sample of {EVALUATED} of {len(data.outcome)} rows")
    strata = assessment_of(recipe.answer_kind).strata(data.outcome)
    sample, _ = train_test_split(
        np.arange(len(data.outcome)), train_size=EVALUATED, stratify=strata, random_state=0
    )
    sample = np.sort(sample)
    return replace(data, rows=data.rows[sample], outcome=data.outcome[sample])


class Fitted(NamedTuple):
    """An estimator that is evaluated as it is."""

    estimator: Any
    method: Method
    """Whether it was fitted to the rows that evaluate it."""


def _by_fitted(
    recipe: Recipe,
    estimator: Any,
    data: Dataset,
    asked: Mapping[str, Floats],
    shuffles: _Shuffles,
) -> dict[str, Floats]:
    """Predictions [1, n] for each version of the rows, like `out_of_fold` but without fitting."""
    kind, everyone = recipe.answer_kind, np.arange(len(data.outcome))
    assess = assessment_of(kind)
    for field, block in enumerate(shuffles.blocks(everyone)):
        answers = kind.of_estimator(estimator, block).reshape(-1, len(everyone), *kind.shape)
        shuffles.errors[field] += assess.losses(data.outcome, answers).sum(axis=1)
    return {name: kind.of_estimator(estimator, rows)[None] for name, rows in asked.items()}


class _Shuffles:
    """Rows with one field's values shuffled among all patients, and their squared errors."""

    def __init__(self, rows: Floats, count: int) -> None:
        rng = np.random.default_rng(0)
        self.all_rows = rows
        self.orders = [
            [rng.permutation(len(rows)).astype(np.uint32) for _ in range(count)]
            for _ in range(rows.shape[1])
        ]
        self.errors = np.zeros((rows.shape[1], count))
        """Sums over patients and repeats, [fields, shuffles]."""

    def blocks(self, test: Ints) -> Iterator[Floats]:
        """For each field in turn: the rows `test` once for each shuffle, [shuffles * test, ...]."""
        for field, orders in enumerate(self.orders):
            block = np.tile(self.all_rows[test], (len(orders), 1))
            block[:, field] = np.concatenate([self.all_rows[one[test], field] for one in orders])
            yield block


def out_of_fold(
    recipe: Recipe,
    data: Dataset,
    repeats: int,
    asked: Mapping[str, Floats],
    progress: Progress = lambda _: None,
    shuffles: _Shuffles | None = None,
) -> dict[str, Floats]:
    """Predictions [repeats, n] for each version of the rows, [n, fields used].

    The estimator that scores a patient was fitted without that patient, on unchanged data.
    `shuffles` gets the errors of its rows.
    """
    kind = recipe.answer_kind
    assess = assessment_of(kind)
    found = {name: np.full((repeats, len(data.outcome), *kind.shape), np.nan) for name in asked}
    for repeat in range(repeats):
        progress(f"cross-validation, repeat {repeat + 1} of {repeats}")
        folds = assess.folds(repeat)
        for number, (train, test) in enumerate(folds.split(data.rows, data.outcome), 1):
            if len(data.outcome) >= SHOW_FOLDS_FROM:
                progress(f"fold {number} of {FOLDS}")
            questions = np.concatenate([rows[test] for rows in asked.values()])
            estimator = new_estimator(recipe)
            if recipe.fit:
                shuffled = shuffles.blocks(test) if shuffles else ()
                every = np.concatenate([questions, *shuffled])
                recipe.fit(estimator, data.rows[train], data.outcome[train], every)
            else:
                estimator.fit(data.rows[train], data.outcome[train])
            answers = kind.of_estimator(estimator, questions).reshape(
                len(asked), len(test), *kind.shape
            )
            for name, answer in zip(asked, answers, strict=True):
                found[name][repeat, test] = answer
            if shuffles:
                for field, block in enumerate(shuffles.blocks(test)):
                    answers = kind.of_estimator(estimator, block)
                    answers = answers.reshape(-1, len(test), *kind.shape)
                    shuffles.errors[field] += assess.losses(data.outcome[test], answers).sum(axis=1)
    return found


def _withheld(recipe: Recipe, data: Dataset) -> dict[str, Floats]:
    """The rows with only the fields of each set left; the first set has all of them."""
    names = recipe.table.used_names
    return {
        title: np.where([name in present for name in names], data.rows, np.nan)
        for title, present in recipe.evaluated_sets.items()
    }


def _importance(
    recipe: Recipe, base: float, shuffles: _Shuffles, repeats: int
) -> dict[str, dict[str, float]]:
    """Rise of the mean loss when a field's values are shuffled, by field: mean and sd."""
    rises = shuffles.errors / (repeats * len(shuffles.all_rows)) - base
    names = recipe.table.used_names
    return {
        "importance": dict(zip(names, rises.mean(axis=1).tolist(), strict=True)),
        "importance_spread": dict(zip(names, rises.std(axis=1).tolist(), strict=True)),
    }


def _subgroups(recipe: Recipe, data: Dataset, unseen: Floats) -> dict[str, dict[str, Any]]:
    columns = dict(zip(recipe.table.used_names, data.rows.T, strict=True))
    assess = assessment_of(recipe.answer_kind)
    groups = {title: belongs(columns) for title, belongs in recipe.subgroups.items()}
    return {
        title: assess.subgroup(data.outcome[inside], unseen[:, inside])
        for title, inside in groups.items()
    }


def _all_field_sets(recipe: Recipe, data: Dataset, progress: Progress) -> dict[str, Any]:
    """Lowest, median and highest figures over all field sets, by the first repeat."""
    fields = [recipe.table.fields[index] for index in recipe.table.used]
    choices = [(True,) if field.required else (True, False) for field in fields]
    sets = list(itertools.product(*choices))
    progress(f"cross-validation of all {len(sets)} field sets")
    asked = {str(present): np.where(present, data.rows, np.nan) for present in sets}
    predicted = out_of_fold(recipe, data, 1, asked)
    each = {
        "auc": [roc_auc_score(data.outcome, one[0]) for one in predicted.values()],
        "brier": [brier_score_loss(data.outcome, one[0]) for one in predicted.values()],
    }
    return {"count": len(sets)} | {
        name: [float(f(values)) for f in (np.min, np.median, np.max)]
        for name, values in each.items()
    }


def check_figures(
    found: Mapping[str, float], expected: Mapping[int, Mapping[str, float]], repeats: int
) -> None:
    """Compare with the expected figures of as many repeats, or the nearest number known.

    Raises `TrainingError` that names every figure outside its tolerance.
    """
    if not expected:
        return
    nearest = min(expected, key=lambda known: abs(math.log(known / repeats)))
    limits = {
        name: (value - TOLERANCE[name], value + TOLERANCE[name])
        for name, value in expected[nearest].items()
    } | BOUNDS
    outside = [
        f"{name} {found[name]:.4f} (expected {low:.4g} to {high:.4g})"
        for name, (low, high) in limits.items()
        if not low <= found[name] <= high
    ]
    if outside:
        raise TrainingError(f"cross-validated figures outside tolerance: {'; '.join(outside)}")


def rounded(value: Any) -> Any:
    """Every float to six places; a figure that does not exist is null, as JSON knows no NaN."""
    match value:
        case float():
            return None if math.isnan(value) else round(value, 6)
        case dict():
            return {name: rounded(one) for name, one in value.items()}
        case list() | tuple():
            return [rounded(one) for one in value]
        case _:
            return value
