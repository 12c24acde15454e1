"""Compares the model to be served with the fitted estimator, row by row.

A conversion can go wrong without a warning. No artifact is written without this comparison over
random rows, values on every edge and every set of missing fields.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.records.artifact import OnnxModel, SklearnModel
from shared.records.kinds import Kind, difference
from shared.records.schema import FieldSpec, FieldTable
from shared.records.scoring import Model
from training.errors import TrainingError

PARITY_ROWS = 100_000
PARITY_LIMIT = 1e-6
"""Largest difference to scikit-learn that float32 rounding explains."""
ALONE_CHECKS = 600
"""Number of blocks of one, three and seven rows that are scored again alone."""
ALL_PATTERNS = 12
"""Up to this number of optional fields, every set of missing ones is checked, else random sets."""

ADVICE = "set runtime='sklearn' to serve the estimator as it is"

Rows = NDArray[np.float32]


def parity_rows(table: FieldTable, data: NDArray[np.float64], count: int = PARITY_ROWS) -> Rows:
    """At least `count` float32 rows: every pattern of missing fields, values on edges.

    A third of the values are edges: ends of ranges, values of the data and the middle between two
    neighbours (where trees split), each with the next float32 on both sides.
    """
    rng = np.random.default_rng(0)
    fields = [table.fields[place] for place in table.used]
    patterns = _patterns([not field.required for field in fields], rng)
    copies = -(-count // len(patterns))
    missing = np.repeat(patterns, copies, axis=0)
    rows = np.column_stack(
        [_values(field, data[:, place], len(missing), rng) for place, field in enumerate(fields)]
    )
    rows[missing] = np.nan
    return rows


def _patterns(optional: list[bool], rng: np.random.Generator) -> NDArray[np.bool_]:
    if sum(optional) <= ALL_PATTERNS:
        choices = [(False, True) if may_miss else (False,) for may_miss in optional]
        return np.array(list(itertools.product(*choices)))
    drawn = rng.random((1 << ALL_PATTERNS, len(optional))) < rng.random((1 << ALL_PATTERNS, 1))
    drawn[0] = False
    found: NDArray[np.bool_] = drawn & np.array(optional)
    return found


def _values(
    field: FieldSpec, seen: NDArray[np.float64], count: int, rng: np.random.Generator
) -> Rows:
    if field.kind == "category":
        return rng.choice(np.array(sorted(field.codes), np.float32), count)
    low, high = field.accept
    known = np.unique(seen[~np.isnan(seen)])
    edges = np.concatenate([known, (known[1:] + known[:-1]) / 2, field.accept, field.training])
    exact = edges.astype(np.float32)
    below, above = np.nextafter(exact, np.float32(-np.inf)), np.nextafter(exact, np.float32(np.inf))
    edges = np.clip(np.concatenate([exact, below, above]), low, high).astype(np.float32)
    anywhere = rng.uniform(low, high, count).astype(np.float32)
    return np.where(rng.random(count) < 1 / 3, rng.choice(edges, count), anywhere)


def check_parity(model: Model, estimator: Any, rows: Rows, kind: Kind) -> float:
    """The largest difference between the model to be served and scikit-learn.

    Raises `TrainingError` if it exceeds rounding, or if a row's bits depend on its neighbours.
    """
    found = model.outputs(rows)
    exact = model.exact(rows) if isinstance(model, SklearnModel) else rows.astype(float)
    apart = _apart(found, kind.of_estimator(estimator, exact))
    largest = float(apart.max())
    if not largest <= PARITY_LIMIT:
        wrong = ~(apart <= PARITY_LIMIT)
        complete = wrong[~np.isnan(rows).any(axis=1)].any()
        where = "complete rows among them" if complete else "all with missing fields"
        raise TrainingError(
            f"what would be served differs from scikit-learn by up to {largest:.2g} in "
            f"{wrong.sum()} of {len(rows)} rows, {where}: {ADVICE}"
        )
    _check_alone(model, rows, found)
    return largest


def check_rounding(
    model: Model, estimator: Any, rows: NDArray[np.float64], kind: Kind, limit: float
) -> dict[str, float]:
    """Compare the served model, which sees float32, with scikit-learn on the data as they are.

    Returns the figures for the manifest. Raises `TrainingError` above the limit.
    """
    served = model.outputs(rows.astype(np.float32))
    apart = _apart(served, kind.of_estimator(estimator, rows))
    largest, differing = float(apart.max()), int((apart > PARITY_LIMIT).sum())
    if not largest <= limit:
        raise TrainingError(
            f"served as float32, {differing} of {len(rows)} training rows score differently from "
            f"the estimator on the data as they are, by up to {largest:.2g} (limit {limit:g}): "
            "round the data to the digits that matter, or set rounding_limit in the recipe"
        )
    return {"rows": len(rows), "differing": differing, "largest_difference": largest}


def _apart(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """The largest difference in each row, [rows]."""
    largest: NDArray[np.float64] = difference(found, expected).reshape(len(found), -1).max(axis=1)
    return largest


def check_explanation(model: OnnxModel, rows: Rows) -> None:
    """Check that contributions and intercept sum to the logit. Raises `TrainingError`."""
    try:
        contributions, intercept = model.explain(rows)
    except Exception as error:  # the runtime's own errors have no common root
        raise TrainingError(
            "the explanation needs the input `fields` and the outputs `contributions` and "
            f"`intercept`: {type(error).__name__}"
        ) from error
    if contributions.shape != rows.shape or intercept.shape != rows.shape[:1]:
        raise TrainingError("the explanation needs `contributions` [n, fields], `intercept` [n]")
    logits = contributions.sum(axis=1, dtype=float) + intercept
    apart = difference(1 / (1 + np.exp(-logits)), model.outputs(rows))
    if not (apart <= PARITY_LIMIT).all():
        raise TrainingError(
            f"contributions and intercept give other probabilities than the model, by up to "
            f"{apart.max():.2g}: they would not explain it"
        )


def _check_alone(model: Model, rows: Rows, found: Rows) -> None:
    # Random starts: vector units take four or eight rows at a time, and a regular step would
    # always hit the same lane.
    starts = np.random.default_rng(0).integers(0, len(rows), ALONE_CHECKS)
    for start, size in zip(starts, itertools.cycle([1, 3, 7]), strict=False):
        block = slice(start, start + size)
        if model.outputs(rows[block]).tobytes() != found[block].tobytes():
            raise TrainingError(
                "the model scores a row alone and among others differently: the same record "
                f"would get two answers; {ADVICE}"
            )
