"""The reference that batches are compared with: how the training data are distributed.

The profile of a batch compares all fields and the scores (`reference_of`). The guard against
another coding compares the categories alone (`with_reference`): a batch in another coding may hold
only codes that look valid; its distribution gives it away (`shared.records.coding`). The guard's
limit is chosen by resampling the training data: honest batches, drawn from it, must almost never be
taken for another coding.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.records.coding import REFERENCE_ROWS, count_categories, stability_index
from shared.records.columns import score_columns
from shared.records.reference import FieldReference, Reference
from shared.records.schema import FieldSpec, FieldTable
from shared.records.scoring import Scorer
from shared.records.tally import FieldTally, Tallier, mean_of, sum_exponent

DRAWS = 10_000
"""Batches drawn from the training data."""
FALSE_ALARMS = 1 / 2000
"""Share of drawn batches above the limit; half of what we promise, as draws vary."""
BLOCK_ROWS = 32_000
"""Rows counted at once; a tally's sums hold no more."""
LEAST_LIMIT = 0.25
"""By convention a larger index is a significant shift. A lower limit would warn of trifles."""


def with_reference(table: FieldTable, rows: NDArray[np.float64]) -> FieldTable:
    """The table with the distribution of its categories in `rows` [n, fields used], and a limit."""
    values = np.full((len(table.fields), len(rows)), np.nan)
    values[list(table.used)] = rows.T
    shares = {
        name: _shares(np.array(counts)) for name, counts in count_categories(values, table).items()
    }
    fields = tuple(
        FieldSpec(**field.model_dump() | {"reference": shares.get(field.name, ())})
        for field in table.fields
    )
    # Not copies of the models: those would keep cached properties of the old ones.
    referenced = FieldTable(**table.model_dump() | {"fields": fields})
    return FieldTable(**referenced.model_dump() | {"reference_limit": _limit(referenced, values)})


def reference_of(scorer: Scorer, rows: NDArray[np.float64]) -> Reference:
    """How fields and scores are distributed in the training data, `rows` [n, fields used].

    Counted as the worker counts a batch, so a batch of the same rows differs in nothing.
    """
    table = scorer.table
    values = np.full((len(table.fields), len(rows)), np.nan)
    values[list(table.used)] = rows.T
    edges = {
        table.fields[i].name: () if table.fields[i].kind == "category" else _deciles(values[i])
        for i in table.used
    }
    outcomes = [
        score_columns(scorer, values[:, start : start + BLOCK_ROWS], {})
        for start in range(0, len(rows), BLOCK_ROWS)
    ]
    score_edges: tuple[float, ...] = ()
    if not scorer.kind.has_bins:
        answers = [scorer.kind.on_scale(outcome.outputs) for outcome in outcomes]
        score_edges = _deciles(np.concatenate(answers))
    unknown = Reference(
        rows=len(rows),
        fields={name: FieldReference(missing=0, edges=e, shares=()) for name, e in edges.items()},
        score_edges=score_edges,
        scores=(),
        mean_score=None,
    )
    tallier = Tallier(table, scorer.kind, unknown)
    tally = tallier.empty()
    for outcome in outcomes:
        tally.add(tallier.count(outcome, 1))
    scale = scorer.kind.scale(score_edges)
    has_mean = not scale.names and tally.scored > 0
    return Reference(
        rows=len(rows),
        fields={
            field.name: _field_reference(field, edges[field.name], counts)
            for field, counts in zip(table.fields, tally.fields, strict=True)
            if field.used
        },
        scores=_shares(np.array(tally.scores)),
        score_edges=score_edges,
        mean_score=mean_of(tally.score_total, tally.scored, scale.exponent) if has_mean else None,
    )


def _deciles(values: NDArray[Any]) -> tuple[float, ...]:
    """Inner edges of a number's bins: each decile once, none that has no value below it."""
    values = values[~np.isnan(values)].astype(np.float32)
    if not len(values):
        return ()
    edges = np.unique(np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf"))
    # By way of str: the shortest form that gives the float32 back.
    return tuple(float(str(edge)) for edge in edges if edge > values.min())


def _field_reference(
    field: FieldSpec, edges: tuple[float, ...], counts: FieldTally
) -> FieldReference:
    present = sum(counts.bins)
    has_mean = field.kind == "number" and present > 0
    return FieldReference(
        missing=_shares(np.array([counts.missing, present]))[0],
        mean=mean_of(counts.total, present, sum_exponent(field)) if has_mean else None,
        edges=edges,
        shares=_shares(np.array(counts.bins)),
    )


def _shares(counts: NDArray[np.int64]) -> tuple[float, ...]:
    """Shares of the choices; half a row is added to each, so that none is zero."""
    shares = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return tuple(round(float(share), 6) for share in shares)


def _limit(table: FieldTable, values: NDArray[np.float64]) -> float:
    """The index that honest batches exceed with a chance of `FALSE_ALARMS`, rounded up."""
    rng = np.random.default_rng(0)
    largest = []
    for _ in range(DRAWS):
        batch = values[:, rng.integers(values.shape[1], size=REFERENCE_ROWS)]
        largest.append(largest_index(table, batch))
    limit = float(np.quantile(largest, 1 - FALSE_ALARMS))
    return max(LEAST_LIMIT, math.ceil(limit * 100) / 100)


def largest_index(table: FieldTable, values: NDArray[np.float64]) -> float:
    """The largest stability index of all categories in a batch [fields of the table, rows]."""
    counts = count_categories(values, table)
    return max(
        (
            stability_index(counts[field.name], field.reference)
            for field in table.fields
            if field.reference and sum(counts[field.name])
        ),
        default=0.0,
    )
