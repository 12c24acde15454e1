"""Estimator to ONNX: our own graph for the heart model, skl2onnx for stock pipelines.

The same estimator gives the same bytes, and a row the same bits alone and among others: what adds
numbers adds them column by column, because ONNX Runtime's ReduceSum and LinearClassifier add one
row in another order than many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shared.fields import FieldTable
from training.errors import TrainingError
from training.parity import advice
from training.pipeline import PatternLogisticRegression

OPSET = 17
IR_VERSION = 8


def pattern_graph(estimator: PatternLogisticRegression, table: FieldTable) -> bytes:
    """The estimator as ONNX, of standard operators only.

    Input `fields` float32 [n, terms], NaN for missing. Outputs `probability` [n], `contributions`
    [n, terms] and `intercept` [n] in log-odds: the probability is computed from the two others.
    """
    return _PatternGraph(estimator).build(list(table.used_names))


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

    def build(self, fields: list[str]) -> bytes:
        """The whole graph, serialised. The same estimator gives the same bytes."""
        count = len(fields)
        number = self._field_set()
        table = self.constant("coefficients", self.estimator.coefficients_)
        weights = self.add("Gather", "weights", table, number, axis=0)
        intercepts = self.constant("intercepts", self.estimator.intercepts_)
        self.add("Gather", "intercept", intercepts, number, axis=0)
        parts = self._parts(self.add("Mul", "weighted", self._design(), weights))
        signed = self.add("Concat", "signed_zeros", *parts, axis=1)
        # A contribution of nothing is 0, not -0.
        nothing = self.add("Equal", "nothing", signed, "zero")
        self.add("Where", "contributions", nothing, "zero", signed)
        last_axis = self.constant("last_axis", [1], np.int64)
        total = self.add("Squeeze", "total", self.add("Sum", "sum", *parts), last_axis)
        self.add("Sigmoid", "probability", self.add("Add", "logit", total, "intercept"))
        graph = helper.make_graph(
            self.nodes,
            "heart_scorer",
            [helper.make_tensor_value_info("fields", TensorProto.FLOAT, ["n", count])],
            [
                helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["n"]),
                helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["n", count]),
                helper.make_tensor_value_info("intercept", TensorProto.FLOAT, ["n"]),
            ],
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

    def _field_set(self) -> str:
        """Number of each row's field set: the powers of two of the missing fields, summed."""
        self.add("IsNaN", "missing", "fields")
        bits = self.add("Cast", "missing_bits", "missing", to=TensorProto.FLOAT)
        powers = self.constant("powers", self.estimator.powers)
        total = self.add("MatMul", "missing_sum", bits, powers)
        beyond = self.constant("set_count", self.estimator.set_count)
        number = self.add("Min", "field_set_float", total, beyond)
        return self.add("Cast", "field_set", number, to=TensorProto.INT64)

    def _design(self) -> str:
        """Standardised columns [n, columns]. What stands for a missing value has weight 0."""
        terms, widths = self.estimator.terms, self.estimator.widths
        zero = self.constant("zero", 0.0)
        known = self.add("Where", "known", "missing", zero, "fields")
        low = self.constant("low", [[term.low for term in terms]])
        high = self.constant("high", [[term.high for term in terms]])
        clipped = self.add("Min", "clipped", self.add("Max", "raised", known, low), high)
        owners = self.constant("owners", np.repeat(np.arange(len(terms)), widths), np.int64)
        values = self.add("Gather", "values", clipped, owners, axis=1)
        reached = self.add("GreaterOrEqual", "reached", values, self._bounds("levels", 0))
        passed = self.add("LessOrEqual", "not_passed", values, self._bounds("upper_levels", 1))
        both = self.add("And", "indicated", reached, passed)
        indicators = self.add("Cast", "indicators", both, to=TensorProto.FLOAT)
        lines = np.repeat([[term.shape == "line" for term in terms]], widths, axis=1)
        is_line = self.constant("is_line", lines, np.bool_)
        columns = self.add("Where", "columns", is_line, values, indicators)
        centred = self.add("Sub", "centred", columns, self.constant("mean", self.estimator.mean_))
        return self.add("Div", "design", centred, self.constant("scale", self.estimator.scale_))

    def _bounds(self, name: str, end: int) -> str:
        """Between which values a column's indicator is 1: the level itself, or from it upwards."""
        bounds = [
            (level, np.inf if term.shape == "steps" else level)
            for term in self.estimator.terms
            for level in term.levels or (0.0,)
        ]
        return self.constant(name, [[bound[end] for bound in bounds]])

    def _parts(self, weighted: str) -> list[str]:
        """Contribution of each field, [n, 1].

        Sums are made column by column: ReduceSum adds one row in another order than many.
        """
        terms, widths = self.estimator.terms, self.estimator.widths
        columns = [f"weighted_{place}" for place in range(sum(widths))]
        self.nodes.append(helper.make_node("Split", [weighted], columns, "split", axis=1))
        return [
            columns[end - 1]
            if term.width == 1
            else self.add("Sum", f"{term.field}_sum", *columns[end - term.width : end])
            for term, end in zip(terms, np.cumsum(widths), strict=True)
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
