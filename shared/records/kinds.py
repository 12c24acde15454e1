"""Kinds of answer: a model's outputs for a record, and how they become a score.

A kind is one class here. Everything that scores, writes, describes, reads or compares scores uses
it, as `Scorer.kind` or `Manifest.answer_kind`: `columns` for names and types, `values` for the
columns of many outputs, `members` for one record's. No other module knows a kind by name.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, JsonValue

KindName = Literal["probability", "classes", "value"]
Outputs = NDArray[Any]
"""Outputs of the model, float32: [rows], or [rows, outputs of a row]. NaN: no answer."""
Member = float | int | str
CLASS_NAME = r"[A-Za-z0-9][A-Za-z0-9_]{0,63}"
"""Names of classes: they are parts of column names."""
SUM_LIMIT = 1e-3
"""Largest difference between the sum of all classes' probabilities and 1."""
SCORE_BINS = 20
"""Bins of equal width for probabilities in a profile."""


class Column(NamedTuple):
    """A column of every result: a member of a score, a column of a file, an output tensor."""

    name: str
    type: Literal["float32", "int8", "text"]
    schema: Any
    """The member as pydantic annotates it."""


class Scale(NamedTuple):
    """How a profile counts answers: each is one number, which is in one bin."""

    edges: tuple[float, ...]
    """Inner edges of the bins; a number on an edge is in the bin above."""
    names: tuple[str, ...] = ()
    """Of the bins, if they are classes; the numbers then have no mean."""
    limits: tuple[float, float] | None = None
    """Lowest and highest possible number, if known."""
    threshold: float | None = None
    unit: str = ""
    exponent: int = 0
    """Of a power of two about as large as the largest number."""


class Kind(ABC):
    """A kind of answer."""

    name: ClassVar[KindName]
    output: ClassVar[str]
    """Name of the model's output in ONNX."""
    highest: ClassVar[str]
    """Title of the example whose answer has the largest number."""
    method: ClassVar[str] = "predict_proba"
    """The method of scikit-learn's estimators that gives the outputs."""
    has_bins: ClassVar[bool] = True
    """Whether a profile's bins follow from the kind. If not, they are training's deciles."""
    shape: tuple[int, ...] = ()
    """Of one row's output."""
    columns: tuple[Column, ...]
    """Columns of a score, in the order of files, members and tensors."""

    @abstractmethod
    def are_answers(self, outputs: Outputs) -> bool:
        """Whether outputs of the right shape can all be answers; NaN never is."""

    @abstractmethod
    def members(self, output: Any) -> dict[str, Member]:
        """The columns of one row's output, by name, as JSON holds them."""

    @abstractmethod
    def values(self, outputs: Outputs) -> tuple[NDArray[Any], ...]:
        """The columns of many outputs. Without an answer numbers are NaN, others meaningless."""

    @abstractmethod
    def of_estimator(self, estimator: Any, rows: Any) -> NDArray[Any]:
        """Outputs of a fitted scikit-learn estimator, in its own precision."""

    @abstractmethod
    def probability(self, members: Mapping[str, Any]) -> float | None:
        """The probability of one score that monitoring counts."""

    @abstractmethod
    def probabilities(self, outputs: Outputs) -> Outputs | None:
        """The same for many outputs, [rows]."""

    @abstractmethod
    def scale(self, deciles: tuple[float, ...]) -> Scale:
        """The scale of answers in a profile; `deciles` of training, empty if not known."""

    @abstractmethod
    def on_scale(self, outputs: Outputs) -> Outputs:
        """The number of each answer that a profile counts, [rows]."""

    @abstractmethod
    def changes(self, before: NDArray[Any], after: NDArray[Any]) -> dict[str, int]:
        """Counts of rows whose prediction differs between two models."""

    def has_answer(self, output: Any) -> bool:
        """Whether one row's output is an answer."""
        first = output[0] if self.shape else output
        return bool(first == first)  # NaN alone is not itself

    def answered(self, outputs: Outputs) -> NDArray[np.bool_]:
        """Which rows have an answer, [rows]."""
        return ~np.isnan(outputs[:, 0] if self.shape else outputs)

    def no_answers(self, rows: int) -> Outputs:
        """Outputs of rows without an answer."""
        return np.full((rows, *self.shape), np.nan, np.float32)

    def predictions(self, outputs: Outputs) -> NDArray[Any]:
        """The column `prediction`."""
        index = [column.name for column in self.columns].index("prediction")
        return self.values(outputs)[index]

    def numbers(self, row: Mapping[str, Any]) -> tuple[float, ...] | None:
        """The numbers that a row of a result holds; None: it was rejected."""
        cells = [row[column.name] for column in self.columns if column.type == "float32"]
        return None if cells[0] in (None, "") else tuple(map(float, cells))


class Probability(Kind):
    """The probability of one outcome, and whether it reaches a threshold."""

    name = "probability"
    output = "probability"
    highest = "Highest score"
    columns = (
        Column(
            "probability",
            "float32",
            Annotated[
                float,
                Field(ge=0, le=1, description="The model's float32 output; see the model's notice"),
            ],
        ),
        Column(
            "prediction",
            "int8",
            Annotated[
                Literal[0, 1],
                Field(description="1 if the probability is at least the model's threshold"),
            ],
        ),
    )

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def are_answers(self, outputs: Outputs) -> bool:
        # NaN compares as false, so this also refuses NaN.
        if len(outputs) == 1:  # three calls of NumPy cost a request more than the comparison
            return bool(0 <= outputs[0] <= 1)
        return bool(((outputs >= 0) & (outputs <= 1)).all())

    def members(self, output: np.float32) -> dict[str, Member]:
        return {"probability": shortest(output), "prediction": int(output >= self.threshold)}

    def values(self, outputs: Outputs) -> tuple[NDArray[Any], ...]:
        return outputs, (outputs >= self.threshold).astype(np.int8)

    def of_estimator(self, estimator: Any, rows: Any) -> NDArray[Any]:
        return np.asarray(estimator.predict_proba(rows)[:, 1])

    def probability(self, members: Mapping[str, Any]) -> float:
        probability: float = members["probability"]
        return probability

    def probabilities(self, outputs: Outputs) -> Outputs:
        return outputs

    def scale(self, deciles: tuple[float, ...]) -> Scale:
        edges = tuple(i / SCORE_BINS for i in range(1, SCORE_BINS))
        return Scale(edges, limits=(0, 1), threshold=self.threshold)

    def on_scale(self, outputs: Outputs) -> Outputs:
        return outputs

    def changes(self, before: NDArray[Any], after: NDArray[Any]) -> dict[str, int]:
        return {
            "crossed_up": int((after > before).sum()),
            "crossed_down": int((after < before).sum()),
        }


class Classes(Kind):
    """The most probable of several classes, and the probability of each."""

    name = "classes"
    output = "probabilities"
    highest = "Most certain"

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ValueError("classes: at least two are needed, and none twice")
        if not all(map(re.compile(CLASS_NAME).fullmatch, self.classes)):
            raise ValueError(f"classes: each name must match {CLASS_NAME}")
        self.shape = (len(self.classes),)
        self.columns = (
            Column(
                "prediction",
                "text",
                Annotated[
                    Literal[self.classes],
                    Field(description="The most probable class"),
                ],
            ),
            *(
                Column(
                    f"probability_{name}",
                    "float32",
                    Annotated[
                        float, Field(ge=0, le=1, description=f"Probability of the class {name}")
                    ],
                )
                for name in self.classes
            ),
        )

    def are_answers(self, outputs: Outputs) -> bool:
        within = ((outputs >= 0) & (outputs <= 1)).all()
        return bool(within and (np.abs(outputs.sum(axis=1) - 1) < SUM_LIMIT).all())

    def members(self, output: Outputs) -> dict[str, Member]:
        parts = map(shortest, output)
        answer: dict[str, Member] = {"prediction": self.classes[int(output.argmax())]}
        return answer | {
            f"probability_{name}": part for name, part in zip(self.classes, parts, strict=True)
        }

    def values(self, outputs: Outputs) -> tuple[NDArray[Any], ...]:
        return np.array(self.classes)[outputs.argmax(axis=1)], *outputs.T

    def of_estimator(self, estimator: Any, rows: Any) -> NDArray[Any]:
        return np.asarray(estimator.predict_proba(rows))

    def probability(self, members: Mapping[str, Any]) -> float:
        return max(float(members[f"probability_{name}"]) for name in self.classes)

    def probabilities(self, outputs: Outputs) -> Outputs:
        largest: Outputs = outputs.max(axis=1)
        return largest

    def scale(self, deciles: tuple[float, ...]) -> Scale:
        return Scale(tuple(map(float, range(1, len(self.classes)))), names=self.classes)

    def on_scale(self, outputs: Outputs) -> Outputs:
        indexes: Outputs = outputs.argmax(axis=1).astype(np.float32)
        return indexes

    def changes(self, before: NDArray[Any], after: NDArray[Any]) -> dict[str, int]:
        return {"changed": int((before != after).sum())}


class Value(Kind):
    """A number: the answer of a regression."""

    name = "value"
    output = "value"
    highest = "Highest value"
    method = "predict"
    has_bins = False

    def __init__(self, unit: str = "") -> None:
        self.unit = unit
        described = f"The predicted value in {unit}" if unit else "The predicted value"
        extra: dict[str, JsonValue] = {"x-unit": unit} if unit else {}
        self.columns = (
            Column(
                "prediction",
                "float32",
                Annotated[
                    float,
                    Field(description=described, allow_inf_nan=False, json_schema_extra=extra),
                ],
            ),
        )

    def are_answers(self, outputs: Outputs) -> bool:
        return bool(np.isfinite(outputs).all())

    def members(self, output: np.float32) -> dict[str, Member]:
        return {"prediction": shortest(output)}

    def values(self, outputs: Outputs) -> tuple[NDArray[Any], ...]:
        return (outputs,)

    def of_estimator(self, estimator: Any, rows: Any) -> NDArray[Any]:
        return np.asarray(estimator.predict(rows), float).reshape(len(rows))

    def probability(self, members: Mapping[str, Any]) -> None:
        return None

    def probabilities(self, outputs: Outputs) -> None:
        return None

    def scale(self, deciles: tuple[float, ...]) -> Scale:
        _, exponent = math.frexp(max(map(abs, deciles), default=1))
        return Scale(deciles, unit=self.unit, exponent=exponent)

    def on_scale(self, outputs: Outputs) -> Outputs:
        return outputs

    def changes(self, before: NDArray[Any], after: NDArray[Any]) -> dict[str, int]:
        return {}


def kind_of(name: KindName, *, threshold: float | None, classes: Sequence[str], unit: str) -> Kind:
    """The kind of this name. Raises `ValueError` if it lacks what it needs."""
    match name:
        case "probability":
            if threshold is None:
                raise ValueError("threshold: the kind probability needs one")
            return Probability(threshold)
        case "classes":
            return Classes(classes)
        case "value":
            return Value(unit)


def shortest(number: np.float32) -> float:
    """A float32 as the float that prints with the fewest digits that restore it."""
    return float(str(number))


def difference(found: ArrayLike, expected: ArrayLike) -> NDArray[np.float64]:
    """Distance of outputs: relative to the expected ones beyond 1, absolute below."""
    expected = np.asarray(expected, np.float64)
    apart = np.abs(np.asarray(found, np.float64) - expected)
    return np.asarray(apart / np.maximum(1, np.abs(expected)))
