"""Estimator to ONNX: our own graph for the heart model, skl2onnx for stock pipelines.

The same estimator gives the same bytes, and a row the same bits alone and among others. That takes
care wherever numbers are added: ONNX Runtime adds a row's numbers in an order that depends on where
the row lies in memory (`SUMMED`), its LinearClassifier one row in another order than many.
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
from training.parity import advice
from training.pipeline import PatternLogisticRegression

OPSET = 17
IR_VERSION = 8
SUMMED = 16
"""ReduceSum takes rows of so many numbers (64 bytes: a line of the cache, the widest vector, and
how the runtime aligns its memory) in one and the same order; others by where they begin."""


def pattern_graph(estimator: PatternLogisticRegression, table: FieldTable) -> bytes:
    """The estimator as ONNX, of standard operators only.

    Input `fields` float32 [n, terms], NaN for missing; output `probability` [n]. Every column of
    the design is a value clipped to a range: lines to their term's, levels and steps to the range
    between a level and the one below, which is the same for values that are levels; so a row costs
    few and plain operations. A value between two levels, which no category has, would count as a
    part of the step.

    Raises `TrainingError` where levels do not rise.
    """
    return _PatternGraph(estimator).build(list(table.used_names), explain=False)


def pattern_explanation(estimator: PatternLogisticRegression, table: FieldTable) -> bytes:
    """What each field contributes, as ONNX of the same input and by the same columns.

    Outputs `contributions` [n, terms] and `intercept` [n] in log-odds. A graph of its own: ONNX
    Runtime computes all outputs of a graph, whichever are asked for.

    Raises `TrainingError` where levels do not rise.
    """
    return _PatternGraph(estimator).build(list(table.used_names), explain=True)


class _Columns(NamedTuple):
    """The clipped columns of the design, without the last one, which is 1."""

    owner: NDArray[np.int64]
    """Place of the column's term."""
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    centre: NDArray[np.float64]
    """What is subtracted from the clipped value: a line's mean, the lower end of a step."""
    weight: NDArray[np.float64]
    """Log-odds for one more than the centre, [field sets, columns]."""
    base: NDArray[np.float64]
    """Log-odds of each term at its lowest level, [field sets, terms]."""

    @property
    def width(self) -> int:
        """Columns, with the intercept's and with what fills them up."""
        return -(-(len(self.owner) + 1) // SUMMED) * SUMMED

    @property
    def owners(self) -> NDArray[np.float64]:
        """1 where a column is a term's, [width, terms]."""
        found = np.zeros((self.width, self.base.shape[1]))
        found[np.arange(len(self.owner)), self.owner] = 1
        return found


class _PatternGraph:
    """Nodes and constants of a graph in the making."""

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
        found: list[tuple[int, float, float, float, NDArray[np.float64]]] = []
        ends = np.cumsum(estimator.widths)
        for place, (term, end) in enumerate(zip(estimator.terms, ends, strict=True)):
            weights = slopes[:, end - term.width : end].T
            if term.shape == "line":
                found.append((place, term.low, term.high, estimator.mean_[end - 1], weights[0]))
                continue
            levels = term.levels if term.shape == "levels" else (term.low, *term.levels)
            if term.shape == "levels":
                base[:, place] = weights[0]
                weights = np.diff(weights, axis=0)
            if any(level <= below for below, level in pairwise(levels)):
                raise TrainingError(
                    f"{term.field}: levels must rise, and steps begin above {term.low:g}"
                )
            for (below, level), weight in zip(pairwise(levels), weights, strict=True):
                found.append((place, below, level, below, weight / (level - below)))
        owner, low, high, centre, weight = (np.array(part) for part in zip(*found, strict=True))
        return _Columns(owner, low, high, centre, weight.T, base)

    def _field_set(self) -> str:
        """Number of each row's field set: the powers of two of the missing fields, summed."""
        self.add("IsNaN", "missing", "fields")
        found = self.add("Cast", "missing_float", "missing", to=TensorProto.FLOAT)
        # Of whole numbers the sum is exact in any order. A matrix of one column: by a vector, the
        # product takes ten times as long.
        powers = self.constant("powers", self.estimator.powers[:, np.newaxis])
        sums = self.add("MatMul", "missing_sums", found, powers)
        total = self.add("Squeeze", "missing_sum", sums, "last_axis")
        beyond = self.constant("set_count", self.estimator.set_count)
        number = self.add("Min", "field_set_float", total, beyond)
        return self.add("Cast", "field_set", number, to=TensorProto.INT64)

    def _parts(self, columns: _Columns, number: str) -> str:
        """What each column adds to the logit, [n, width]; the last column is the intercept.

        A missing value stands as 0 and has weight 0.
        """
        count = len(columns.owner)
        low, high, centre = np.zeros((3, 1, columns.width), np.float32)
        low[0, :count], high[0, :count], centre[0, :count] = columns[1:4]
        low[0, -1] = high[0, -1] = 1
        weights = np.zeros((len(columns.weight), columns.width))
        weights[:, :count] = columns.weight
        weights[:, -1] = self.estimator.intercepts_ + columns.base.sum(axis=1)
        known = self.add("Where", "known", "missing", "zero", "fields")
        # One 1 in each column: a product that copies, and copies fast. The centre goes off with it,
        # and is off the bounds already: the same bits as by clipping first.
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
        # A contribution of nothing is 0, not -0: adding 0 does it.
        self.add("Add", "contributions", sums, base)
        intercepts = self.constant("intercepts", self.estimator.intercepts_)
        self.add("Gather", "intercept", intercepts, number, axis=0)
        shape = ["n", columns.base.shape[1]]
        return [
            helper.make_tensor_value_info("contributions", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("intercept", TensorProto.FLOAT, ["n"]),
        ]


def stock_graph(estimator: Any, table: FieldTable) -> bytes:
    """A stock scikit-learn estimator as skl2onnx converts it, with input and output renamed.

    Raises `TrainingError` for estimators that do not convert.
    """
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    count = len(table.used)
    try:
        model = skl2onnx.convert_sklearn(
            estimator,
            initial_types=[("fields", FloatTensorType([None, count]))],
            options={"zipmap": False},
            target_opset=OPSET,
        )
    except Exception as error:  # the converters' errors have no common root
        raise TrainingError(
            f"{type(estimator).__name__} does not convert to ONNX "
            f"({type(error).__name__}): {advice(estimator)}"
        ) from error
    _sum_in_order(model.graph)
    return _probability_alone(model)


def _sum_in_order(graph: onnx.GraphProto) -> None:
    """Write a final logistic regression as a sum column by column.

    ONNX Runtime's LinearClassifier adds one row in another order than many, so that a record's
    last bit would depend on its neighbours.
    """
    lines = [node for node in graph.node if node.op_type == "LinearClassifier"]
    if len(lines) != 1 or graph.node[-1] != lines[0]:
        return
    [line] = lines
    given = {one.name: helper.get_attribute_value(one) for one in line.attribute}
    if given["post_transform"] != b"LOGISTIC" or len(given["intercepts"]) != 2:
        return
    weights = given["coefficients"][len(given["coefficients"]) // 2 :]
    columns = [f"line_{place}" for place in range(len(weights))]
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([weights], np.float32), "line_weights"),
            numpy_helper.from_array(np.array(given["intercepts"][1], np.float32), "line_bias"),
        ]
    )
    graph.node.remove(line)
    graph.node.extend(
        [
            helper.make_node("Mul", [line.input[0], "line_weights"], ["line_parts"], "parts"),
            helper.make_node("Split", ["line_parts"], columns, "split", axis=1),
            helper.make_node("Sum", columns, ["line_sum"], "sum"),
            helper.make_node("Add", ["line_sum", "line_bias"], ["line_logit"], "logit"),
            helper.make_node("Sigmoid", ["line_logit"], ["line_one"], "one"),
            helper.make_node("Sub", ["line_unit", "line_one"], ["line_zero"], "zero"),
            helper.make_node("Concat", ["line_zero", "line_one"], ["line_both"], "both", axis=1),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "line_unit"))
    graph.output[1].name = "line_both"


def _probability_alone(model: onnx.ModelProto) -> bytes:
    """Keep the probability of class 1, as the one output `probability` [n]."""
    graph = model.graph
    both = graph.output[1].name
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.int64), "class_1"))
    graph.node.append(
        helper.make_node("Gather", [both, "class_1"], ["probability"], "probability", axis=1)
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"]))
    # skl2onnx lists the operator sets in the order of a Python set, some of them twice.
    sets = {one.domain: one.version for one in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*one) for one in sorted(sets.items()))
    model.ir_version = IR_VERSION
    model.producer_version = ""
    graph.name = "heart_scorer"
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
