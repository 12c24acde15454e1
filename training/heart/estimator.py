"""Penalised logistic regression with one fit for every set of present fields.

A missing field is never filled in: the fit that answers never saw that field (pattern submodels,
Fletcher Mercaldo and Blume, Biostatistics 2020, doi:10.1093/biostatistics/kxy040). One table holds
all fits, one row for each field set. Where medicine knows the direction of a field, its
coefficients may not contradict it. The estimator knows no field by name: `Term` describes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Sign = Literal[-1, 0, 1]
"""1: more never lowers the risk; -1: more never raises it; 0: free."""

DECIMALS = 8
"""Decimals kept of every fitted number. They are far finer than a score shows, and coarser than the
differences between processors' linear algebra, so that every machine writes the same model."""


@dataclass(frozen=True, slots=True)
class Term:
    """The way one field enters the model."""

    field: str
    shape: Literal["line", "levels", "steps"]
    """A standardised number, an indicator for each level, or one for each level reached."""
    low: float
    high: float
    """Values are clipped to this range."""
    levels: tuple[float, ...] = ()
    sign: Sign = 0
    optional: bool = True

    @property
    def width(self) -> int:
        """Number of columns of the term."""
        return 1 if self.shape == "line" else len(self.levels)

    def columns(self, values: Floats) -> Floats:
        """Columns [n, width] of clipped values [n]; a line is not standardised yet."""
        if self.shape == "line":
            return values[:, None]
        levels = np.array(self.levels)
        compare = np.equal if self.shape == "levels" else np.greater_equal
        reached: NDArray[np.bool_] = compare(values[:, None], levels)
        return reached.astype(float)


class PatternLogisticRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression over `terms`, fitted once for each of the 2^k sets of present fields.

    Rows are [n, len(terms)] in the order of `terms`; NaN means missing. The number of a field set
    is the sum of 2^i over the missing ones among the optional terms: 0 when all are present.

    After `fit`: `mean_` and `scale_` of the columns, `coefficients_` [2^k + 1, columns] and
    `intercepts_` [2^k + 1]. The last row is NaN and answers when a required field is missing.
    """

    def __init__(self, terms: tuple[Term, ...], C: float = 0.3) -> None:
        self.terms = terms
        self.C = C

    def fit(self, X: ArrayLike, y: ArrayLike, sets: Iterable[int] | None = None) -> Self:
        """Fit all field sets, or only `sets`; rows of a set not fitted get NaN.

        A value missing in a training row becomes the mean (lines) or the most frequent value, so
        that the row still contributes its other fields.
        """
        rows, outcome = np.asarray(X, float), np.asarray(y)
        self.classes_ = np.unique(outcome)
        self.n_features_in_ = rows.shape[1]
        if self.n_features_in_ != len(self.terms):
            raise ValueError(f"rows have {self.n_features_in_} fields, not {len(self.terms)}")
        filled = np.column_stack(
            [_filled(term, rows[:, index]) for index, term in enumerate(self.terms)]
        )
        columns = self._columns(filled)
        lines = np.repeat([term.shape == "line" for term in self.terms], self.widths)
        self.mean_ = np.where(lines, columns.mean(axis=0), 0).round(DECIMALS)
        spread = columns.std(axis=0)
        self.scale_ = np.where(lines & (spread > 0), spread, 1).round(DECIMALS)
        design = (columns - self.mean_) / self.scale_
        self.coefficients_ = np.full((self.set_count + 1, design.shape[1]), np.nan)
        self.intercepts_ = np.full(self.set_count + 1, np.nan)
        with config_context(assume_finite=True, skip_parameter_validation=True):
            for number in range(self.set_count) if sets is None else sets:
                self._fit_set(number, design, outcome)
        return self

    def _fit_set(self, number: int, design: Floats, outcome: NDArray[Any]) -> None:
        signs = np.repeat([term.sign for term in self.terms], self.widths)
        use = np.flatnonzero(np.repeat(self.present(number), self.widths))
        while True:
            model = LogisticRegression(C=self.C, solver="newton-cholesky", tol=1e-8)
            model.fit(design[:, use], outcome)
            weights = model.coef_[0].round(DECIMALS)
            contradiction = weights * signs[use]
            if contradiction.min(initial=0) >= 0:
                break
            use = np.delete(use, contradiction.argmin())
        self.coefficients_[number] = 0
        self.coefficients_[number, use] = weights
        self.intercepts_[number] = model.intercept_[0].round(DECIMALS)

    @property
    def widths(self) -> list[int]:
        """Number of columns of each term."""
        return [term.width for term in self.terms]

    @property
    def powers(self) -> Ints:
        """Summand of each missing field in its field set's number; `set_count` if required."""
        optional = np.array([term.optional for term in self.terms])
        return np.where(optional, (1 << np.cumsum(optional)) >> 1, self.set_count)

    @property
    def set_count(self) -> int:
        """Number of field sets."""
        return 1 << sum(term.optional for term in self.terms)

    def present(self, number: int) -> NDArray[np.bool_]:
        """The terms of a field set, as a mask."""
        mask: NDArray[np.bool_] = (self.powers & number) == 0
        return mask

    def field_sets(self, X: ArrayLike) -> Ints:
        """The number of each row's field set, [n]; `set_count` if a required field is missing."""
        numbers: Ints = np.isnan(np.asarray(X, float)) @ self.powers
        return np.minimum(numbers, self.set_count)

    def _columns(self, rows: Floats) -> Floats:
        """Columns of rows without missing values, not standardised yet."""
        return np.hstack(
            [
                term.columns(np.clip(rows[:, index], term.low, term.high))
                for index, term in enumerate(self.terms)
            ]
        )

    def contributions(self, X: ArrayLike) -> tuple[Floats, Floats]:
        """Contribution of each field [n, terms] and intercept [n], in log-odds.

        Their sum is the logit. The contribution of a missing field is 0.
        """
        rows = np.asarray(X, float)
        sets = self.field_sets(rows)
        known = np.where(np.isnan(rows), 0, rows)
        design = (self._columns(known) - self.mean_) / self.scale_
        starts = np.cumsum([0, *self.widths[:-1]])
        return (
            # Adding 0 turns -0 into 0.
            np.add.reduceat(design * self.coefficients_[sets], starts, axis=1) + 0.0,
            self.intercepts_[sets],
        )

    def decision_function(self, X: ArrayLike) -> Floats:
        """The logit of each row, [n]."""
        contributions, intercept = self.contributions(X)
        total: Floats = contributions.sum(axis=1) + intercept
        return total

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probabilities of both classes, [n, 2]."""
        probability = 1 / (1 + np.exp(-self.decision_function(X)))
        return np.column_stack([1 - probability, probability])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The more probable class of each row, [n]."""
        labels: NDArray[Any] = self.classes_[(self.decision_function(X) >= 0).astype(int)]
        return labels


def fit_asked(
    estimator: PatternLogisticRegression, rows: Floats, outcome: Ints, asked: Floats
) -> PatternLogisticRegression:
    """Fit only the field sets that the rows `asked` need."""
    return estimator.fit(rows, outcome, sets=np.unique(estimator.field_sets(asked)).tolist())


def _filled(term: Term, values: Floats) -> Floats:
    known = np.clip(values[~np.isnan(values)], term.low, term.high)
    if term.shape == "line":
        stand_in = known.mean()
    else:
        levels, counts = np.unique(known, return_counts=True)
        stand_in = levels[counts.argmax()]
    return np.where(np.isnan(values), stand_in, values)
