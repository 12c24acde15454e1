"""Guards against data in another coding: its codes look valid and would be scored wrongly.

There are two signs. A value that only another coding has proves it for its row; enough such rows
prove it for the file. Where no row proves it, the distribution of a category may be far from
the training data's, measured by the population stability index (PSI).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.records.counts import MARK_BITS, Counts
from shared.records.errors import AnotherCoding
from shared.records.schema import FieldSpec, FieldTable

PROOF = 100
"""If one row in so many proves another coding, the whole batch is refused."""
FEWEST_ROWS = 50
"""Fewer rows say too little about a distribution."""
REFERENCE_ROWS = 100
"""Rows of a batch for which `FieldTable.reference_limit` was chosen; fewer get a higher limit."""

Categories = Mapping[str, Sequence[int]]
"""Of each category that the model uses: rows by choice, in the order of the choices."""


def check_coding(counts: Counts, table: FieldTable) -> None:
    """Raise `AnotherCoding` if so many rows prove another coding that no row can be trusted."""
    if counts.other_coding and counts.other_coding * PROOF >= counts.rows:
        raise AnotherCoding(
            f"another coding: {_proof(counts, table)}. The other rows would be scored wrongly, "
            "so none was scored. Recode all rows and send them again; if the other codes are "
            "right, send them with the option coding_checked (--coding-checked)"
        )


def coding_warnings(counts: Counts, table: FieldTable) -> list[str]:
    """Warnings for a batch with too few rows of another coding to refuse it."""
    if not counts.other_coding:
        return []
    return [
        f"{_proof(counts, table)}. These rows were rejected; "
        "check that the other rows use the codes of this model"
    ]


def _proof(counts: Counts, table: FieldTable) -> str:
    fields: dict[str, list[str]] = {}
    for index, (field, coding) in enumerate(table.coding_marks[:MARK_BITS]):
        if counts.marks >> index & 1:
            fields.setdefault(coding, []).append(field)
    signs = "; ".join(
        f"{', '.join(names)} (as in {coding}"
        + (f", where {table.codings[coding]})" if coding in table.codings else ")")
        for coding, names in fields.items()
    )
    return (
        f"{counts.other_coding} of {counts.rows} rows hold values "
        f"that only another coding of the data has: {signs}"
    )


def count_categories(values: NDArray[np.float64], table: FieldTable) -> dict[str, list[int]]:
    """Count the choices in checked values, [fields of the table, rows]; NaN is missing."""
    return {
        field.name: [int((values[index] == choice.code).sum()) for choice in field.choices]
        for index, field in enumerate(table.fields)
        if field.used and field.kind == "category"
    }


def stability_index(counts: Sequence[float], reference: Sequence[float]) -> float:
    """Population stability index of counted choices against shares that sum to 1.

    Sum of (p - q) ln(p / q); half a row is added to each choice so that none is empty.
    """
    total = sum(counts) + 0.5 * len(counts)
    shares = [(count + 0.5) / total for count in counts]
    return sum((p - q) * math.log(p / q) for p, q in zip(shares, reference, strict=True))


def distribution_warnings(categories: Categories, table: FieldTable) -> list[str]:
    """Warnings for categories that are distributed unlike the training data."""
    compared = [
        field for field in table.fields if sum(categories.get(field.name, ())) >= (FEWEST_ROWS)
    ]
    if any(not field.reference for field in compared):
        return [
            "the codes were not compared with the training data: "
            "this model was trained before such a comparison existed; train it again"
        ]
    return [
        _unlike(field, categories[field.name])
        for field in compared
        if stability_index(categories[field.name], field.reference)
        > table.reference_limit * max(1, REFERENCE_ROWS / sum(categories[field.name]))
    ]


def _unlike(field: FieldSpec, counts: Sequence[int]) -> str:
    total = sum(counts)
    shares = ", ".join(
        f"{choice.code}{f' ({choice.word})' if choice.word else ''} "
        f"{count / total:.0%} here and {share:.0%} in training"
        for choice, count, share in zip(field.choices, counts, field.reference, strict=True)
    )
    return (
        f"{field.name} is distributed unlike the training data: {shares}. Check that the file "
        "uses the codes of this model; the option coding_checked (--coding-checked) says that "
        "it does"
    )
