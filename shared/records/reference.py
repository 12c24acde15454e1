"""The distribution of the training data, with which the profile of a batch is compared.

Training writes it into the manifest. A model that was trained before has none; its batches get a
profile without a comparison.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class FieldReference(_Frozen):
    """One field in the training data."""

    missing: float
    """Share of rows without a value; half a row was added, so that it is neither 0 nor 1."""
    mean: float | None = None
    """Of a number; None if no row had a value."""
    edges: tuple[float, ...] = ()
    """Inner edges of a number's bins: the deciles, each once. A bin begins at its lower edge."""
    shares: tuple[float, ...]
    """Of the rows with a value: the share of each bin, or of each choice of a category."""


class Reference(_Frozen):
    """The training data as the served model saw them."""

    rows: int
    fields: dict[str, FieldReference]
    """By name; fields that the model does not use have none."""
    score_edges: tuple[float, ...] = ()
    """Of a kind of answer without bins of its own: deciles of the answers to the training data."""
    scores: tuple[float, ...]
    """Share of each bin of the kind's scale in the model's answers to its training data."""
    mean_score: float | None
    """None: the answers are classes."""
