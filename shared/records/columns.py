"""Checks and scores many rows at once, field by field: a block of CSV, tensors.

Their readers turn text into numbers. Here the numbers are compared with the field table, scored,
and given their warnings and counts. Why a row is rejected comes from the reader in `schema.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.records.coding import FEWEST_ROWS, count_categories
from shared.records.counts import Counts
from shared.records.errors import FieldError
from shared.records.kinds import Outputs
from shared.records.schema import FieldSpec, FieldTable

if TYPE_CHECKING:
    from shared.records.scoring import Scorer

Mask = NDArray[np.bool_]

UNREADABLE = math.inf
"""Sentinel for unparsable text; every field rejects it."""

FEW = 8
"""Up to so many rows, reading one by one is faster than by columns."""

Values = NDArray[np.float64]
"""[fields of the table, rows]; NaN is missing."""
Rejected = dict[int, tuple[FieldError, ...]]
"""Rejections by index in the block, from 0."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a block's rows; texts are keyed by the index of their row."""

    outputs: Outputs
    """NaN where a row is rejected."""
    answers: tuple[NDArray[Any], ...]
    """One array for each column of the kind of answer; meaningless where a row is rejected."""
    warnings: dict[int, str]
    errors: dict[int, str]
    counts: Counts
    categories: dict[str, list[int]]
    """Of scored rows, if they were to be counted."""
    values: Values
    rejected: Rejected
    """Also the rows that the model could not answer."""


def faults(values: NDArray[np.float64], field: FieldSpec) -> Mask:
    """Rows whose value of this field is not accepted, or missing though required."""
    missing = np.isnan(values)
    if field.kind == "category":
        # np.isin costs twice as much for one row, and as much for few codes.
        wrong = ~missing
        for code in field.codes:
            wrong &= values != code
    else:
        wrong = (values < field.accept[0]) | (values > field.accept[1])
    return wrong | missing if field.required else wrong


def shared_rejections(found: dict[int, list[FieldError]]) -> Rejected:
    """Rejections by row, each of which is kept only once; `found` is emptied."""
    alike: dict[tuple[FieldError, ...], tuple[FieldError, ...]] = {}
    rejected: Rejected = {}
    for row in sorted(found):
        faulty = tuple(found.pop(row))
        rejected[row] = alike.setdefault(faulty, faulty)
    return rejected


def score_columns(
    scorer: Scorer, values: Values, rejected: Rejected, *, counting: bool = False
) -> Outcome:
    """Score the rows that are not rejected. Rows that the model cannot answer join the rejected.

    `counting`: count the categories of scored rows, for the guard of `coding`.
    """
    rejected = dict(rejected)
    count = values.shape[1]
    scored = np.ones(count, np.bool_)
    scored[list(rejected)] = False
    matrix = np.empty((count - len(rejected), len(scorer.table.used)), scorer.dtype)
    for column, index in enumerate(scorer.table.used):
        # A rejected value may exceed float32.
        matrix[:, column] = values[index, scored] if rejected else values[index]
    outputs = scorer.kind.no_answers(count)
    outputs[scored] = scorer.outputs_each(matrix)
    for index in np.flatnonzero(scored & ~scorer.kind.answered(outputs)).tolist():
        rejected[index] = (FieldError("model_error"),)
        scored[index] = False

    counts = Counts(count)
    for rejections in rejected.values():
        counts.reject(rejections, scorer.table.coding_marks)
    warnings = _warnings(values, scored, scorer.table)
    counts.warned = len(warnings)
    return Outcome(
        outputs,
        scorer.kind.values(outputs),
        warnings,
        _errors(rejected),
        counts,
        count_categories(values[:, scored], scorer.table)
        if counting and count >= FEWEST_ROWS
        else {},
        values,
        rejected,
    )


def _errors(rejected: Rejected) -> dict[int, str]:
    """Texts of rejections. Rows that share their rejections share a text: there may be many."""
    texts = {id(rejections): rejections for rejections in rejected.values()}
    shown = {key: "; ".join(map(str, rejections)) for key, rejections in texts.items()}
    return {row: shown[id(rejections)] for row, rejections in rejected.items()}


def _warnings(values: Values, scored: Mask, table: FieldTable) -> dict[int, str]:
    if len(scored) <= FEW:
        each = {row: table.warnings(values[:, row].tolist()) for row in np.flatnonzero(scored)}
        return {int(row): "; ".join(texts) for row, texts in each.items() if texts}
    found: dict[int, str] = {}
    for index in table.used:
        low, high = table.fields[index].training
        text = table.fields[index].warning_text
        outside = (values[index] < low) | (values[index] > high)
        for row in np.flatnonzero(outside & scored).tolist():
            found[row] = f"{found[row]}; {text}" if row in found else text
    return found
