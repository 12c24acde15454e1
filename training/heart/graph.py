"""The heart model as ONNX: one graph for the probability, one for the explanation.

The same estimator gives the same bytes, and a row the same bits alone and among others. That takes
care wherever numbers are added: ONNX Runtime adds a row's numbers in an order that depends on where
the row lies in memory (see `SUMMED`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.records.schema import FieldTable
from training.errors import TrainingError
from training.graph import IR_VERSION, OPSET
from training.heart.estimator import PatternLogisticRegression

SUMMED = 16
"""ReduceSum adds rows of this many numbers in one fixed order: they take 64 bytes, which is a cache
line, the widest vector and how the runtime aligns its memory. The order in rows of other lengths
depends on their address."""


def pattern_graph(estimator: PatternLogisticRegression, table: FieldTable) -> bytes:
    """The estimator as ONNX, in standard operators only.

    Input `fields` float32 [n, terms], NaN for missing; output `probability` [n]. Every column of
    the design is a value clipped to a range, so a row takes few and simple operations: lines are
    clipped to their term's range, levels and steps to the range between a level and the one below
    it. For values that are levels this is exact; a value between two levels, which no category
    has, would count as part of the step.

    Raises `TrainingError` if levels do not rise.
    """
    return _PatternGraph(estimator).build(list(table.used_names), explain=False)


def pattern_explanation(estimator: PatternLogisticRegression, table: FieldTable) -> bytes:
    """The contribution of each field as ONNX, with the same input and columns.

    Outputs `contributions` [n, terms] and `intercept` [n] in log-odds. A separate graph, because
    ONNX Runtime computes all outputs of a graph even if only one is requested.

    Raises `TrainingError` if levels do not rise.
    """
    return _PatternGraph(estimator).build(list(table.used_names), explain=True)


class _Columns(NamedTuple):
    """The clipped columns of the design, without the last one, which is 1."""

    owner: NDArray[np.int64]
    """Index of the column's term."""
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    centre: NDArray[np.float64]
    """Subtracted from the clipped value: a line's mean or the lower end of a step."""
    weight: NDArray[np.float64]
    """Log-odds for one more than the centre, [field sets, columns]."""
    base: NDArray[np.float64]
    """Log-odds of each term at its lowest level, [field sets, terms]."""

    @property
    def width(self) -> int:
        """Number of columns with the intercept's and the padding."""
        return -(-(len(self.owner) + 1) // SUMMED) * SUMMED

    @property
    def owners(self) -> NDArray[np.float64]:
        """1 where a column belongs to a term, [width, terms]."""
        matrix = np.zeros((self.width, self.base.shape[1]))
        matrix[np.arange(len(self.owner)), self.owner] = 1
        return matrix


class _PatternGraph:
    """Collects the nodes and constants of a graph."""

    def __init__(self, estimator: PatternLogisticRegression) -> None:
        self.estimator = estimator
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append a node of one output; returns the output's name."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def constant(self, name: str, values: Any, dtype: type[np.generic] = np.float32) -> str:
        """Append a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def build(self, fields: list[str], *, explain: bool) -> bytes:
        """The whole graph, serialised. The same estimator gives the same bytes."""
        self.constant("zero", 0.0)
        self.constant("last_axis", [1], np.int64)
        columns = self._columns()
        number = self._field_set()
        parts = self._parts(columns, number)
        outputs = self._explain(columns, number, parts) if explain else self._probability(parts)
        graph = helper.make_graph(
            self.nodes,
            "heart_scorer",
            [helper.make_tensor_value_info("fields", TensorProto.FLOAT, ["n", len(fields)])],
            outputs,
            self.constants,
            doc_string="Columns of fields: " + ", ".join(fields),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="heart-scorer",
        )
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _columns(self) -> _Columns:
        estimator = self.estimator
        slopes = estimator.coefficients_ / estimator.scale_
        base = np.zeros((len(slopes), len(estimator.terms)))
        columns: list[tuple[int, float, float, float, NDArray[np.float64]]] = []
        ends = np.cumsum(estimator.widths)
        for index, (term, end) in enumerate(zip(estimator.terms, ends, strict=True)):
            weights = slopes[:, end - term.width : end].T
            if term.shape == "line":
                columns.append((index, term.low, term.high, estimator.mean_[end - 1], weights[0]))
                continue
            levels = term.levels if term.shape == "levels" else (term.low, *term.levels)
            if term.shape == "levels":
                base[:, index] = weights[0]
                weights = np.diff(weights, axis=0)
            if any(level <= below for below, level in pairwise(levels)):
                raise TrainingError(
                    f"{term.field}: levels must rise, and steps begin above {term.low:g}"
                )
            for (below, level), weight in zip(pairwise(levels), weights, strict=True):
                columns.append((index, below, level, below, weight / (level - below)))
        owner, low, high, centre, weight = (np.array(part) for part in zip(*columns, strict=True))
        return _Columns(owner, low, high, centre, weight.T, base)

    def _field_set(self) -> str:
        """Number of each row's field set: the powers of two of the missing fields, summed."""
        self.add("IsNaN", "missing", "fields")
        missing = self.add("Cast", "missing_float", "missing", to=TensorProto.FLOAT)
        # A sum of whole numbers is exact in any order. A matrix of one column, because the product
        # with a vector takes ten times as long.
        powers = self.constant("powers", self.estimator.powers[:, np.newaxis])
        sums = self.add("MatMul", "missing_sums", missing, powers)
        total = self.add("Squeeze", "missing_sum", sums, "last_axis")
        beyond = self.constant("set_count", self.estimator.set_count)
        number = self.add("Min", "field_set_float", total, beyond)
        return self.add("Cast", "field_set", number, to=TensorProto.INT64)

    def _parts(self, columns: _Columns, number: str) -> str:
        """The summands of the logit, [n, width]; the last column is the intercept.

        A missing value is 0 and has weight 0.
        """
        count = len(columns.owner)
        low, high, centre = np.zeros((3, 1, columns.width), np.float32)
        low[0, :count], high[0, :count], centre[0, :count] = columns[1:4]
        low[0, -1] = high[0, -1] = 1
        weights = np.zeros((len(columns.weight), columns.width))
        weights[:, :count] = columns.weight
        weights[:, -1] = self.estimator.intercepts_ + columns.base.sum(axis=1)
        known = self.add("Where", "known", "missing", "zero", "fields")
        # A single 1 in each column: the product only copies, which is fast. It subtracts the centre
        # as well; the bounds are shifted by the same amount, so the bits are those of clipping
        # first.
        select = self.constant("select", columns.owners.T)
        centred = self.add("Gemm", "centred", known, select, self.constant("offset", -centre))
        raised = self.add("Max", "raised", centred, self.constant("low", low - centre))
        clipped = self.add("Min", "clipped", raised, self.constant("high", high - centre))
        table = self.constant("weights", weights)
        row = self.add("Gather", "row_weights", table, number, axis=0)
        return self.add("Mul", "parts", clipped, row)

    def _probability(self, parts: str) -> list[onnx.ValueInfoProto]:
        logit = self.add("ReduceSum", "logit", parts, "last_axis", keepdims=0)
        self.add("Sigmoid", "probability", logit)
        return [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"])]

    def _explain(self, columns: _Columns, number: str, parts: str) -> list[onnx.ValueInfoProto]:
        sums = self.add("MatMul", "sums", parts, self.constant("collect", columns.owners))
        table = self.constant("base", columns.base)
        base = self.add("Gather", "row_base", table, number, axis=0)
        # Adding 0 turns -0 into 0.
        self.add("Add", "contributions", sums, base)
        intercepts = self.constant("intercepts", self.estimator.intercepts_)
        self.add("Gather", "intercept", intercepts, number, axis=0)
        shape = ["n", columns.base.shape[1]]
        return [
            helper.make_tensor_value_info("contributions", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("intercept", TensorProto.FLOAT, ["n"]),
        ]
