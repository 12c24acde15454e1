"""The reference that batches are compared with: how the training data's categories are distributed.

A batch in another coding may hold only codes that look valid; its distribution gives it away
(`shared.records.coding`). The limit is chosen by resampling the training data: honest batches,
drawn from it, must almost never be taken for another coding.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from shared.records.coding import REFERENCE_ROWS, count_categories, stability_index
from shared.records.schema import FieldSpec, FieldTable

DRAWS = 10_000
"""Batches drawn from the training data."""
FALSE_ALARMS = 1 / 2000
"""Share of drawn batches above the limit; half of what we promise, as draws vary."""
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
