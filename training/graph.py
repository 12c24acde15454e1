"""A stock scikit-learn estimator to ONNX, by skl2onnx.

The same estimator gives the same bytes, and a row the same bits alone and among others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shared.records.schema import FieldTable
from training.errors import TrainingError
from training.parity import advice

OPSET = 17
IR_VERSION = 8


def stock_graph(estimator: Any, table: FieldTable) -> bytes:
    """Convert a stock scikit-learn estimator, with our names of input and output.

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
    """Rewrite a final logistic regression as a sum, column by column.

    ONNX Runtime's LinearClassifier adds a single row in another order than many rows, so a
    record's last bit would depend on its neighbours.
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
