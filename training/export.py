"""Estimator to artifact: the ONNX graph, the parity check, the directory.

What is written depends on the data, the code and the library versions alone: no times, no paths.
Conversion can go wrong without a warning, so no file is written that was not compared with
scikit-learn over random rows, values on every edge and every set of missing fields.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.artifact import MANIFEST, Manifest
from shared.fields import Field, FieldTable
from shared.ports import Model
from training.errors import TrainingError
from training.pipeline import PatternLogisticRegression

OPSET = 17
IR_VERSION = 8
PARITY_ROWS = 100_000
PARITY_LIMIT = 1e-6
"""Largest difference to scikit-learn: float32 rounding, and nothing else."""
ALONE_CHECKS = 600
"""Blocks of one, three and seven rows, scored again by themselves."""
ALL_PATTERNS = 12
"""Up to so many optional fields, every set of missing ones is checked; else random ones."""
LIBRARIES = ("joblib", "numpy", "onnx", "onnxruntime", "pandas", "scikit-learn")

Rows = NDArray[np.float32]


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
    model.ir_version = IR_VERSION
    model.producer_version = ""
    graph.name = "heart_scorer"
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def parity_rows(table: FieldTable, data: NDArray[np.float64], seed: int = 0) -> Rows:
    """At least `PARITY_ROWS` float32 rows: every pattern of missing fields, values on edges.

    A third of the values are edges: ends of ranges, values of the data and the middle between two
    neighbours (where trees split), each with the next float32 on both sides.
    """
    rng = np.random.default_rng(seed)
    fields = [table.fields[place] for place in table.used]
    patterns = _patterns([not field.required for field in fields], rng)
    copies = -(-PARITY_ROWS // len(patterns))
    missing = np.repeat(patterns, copies, axis=0)
    rows = np.column_stack(
        [_values(field, data[:, place], len(missing), rng) for place, field in enumerate(fields)]
    )
    rows[missing] = np.nan
    return rows


def _patterns(optional: list[bool], rng: np.random.Generator) -> NDArray[np.bool_]:
    if sum(optional) <= ALL_PATTERNS:
        choices = [(False, True) if may_miss else (False,) for may_miss in optional]
        return np.array(list(itertools.product(*choices)))
    drawn = rng.random((1 << ALL_PATTERNS, len(optional))) < rng.random((1 << ALL_PATTERNS, 1))
    drawn[0] = False
    found: NDArray[np.bool_] = drawn & np.array(optional)
    return found


def _values(field: Field, seen: NDArray[np.float64], count: int, rng: np.random.Generator) -> Rows:
    if field.kind == "category":
        return rng.choice(np.array(sorted(field.codes), np.float32), count)
    low, high = field.accept
    known = np.unique(seen[~np.isnan(seen)])
    edges = np.concatenate([known, (known[1:] + known[:-1]) / 2, field.accept, field.training])
    exact = edges.astype(np.float32)
    below, above = np.nextafter(exact, np.float32(-np.inf)), np.nextafter(exact, np.float32(np.inf))
    edges = np.clip(np.concatenate([exact, below, above]), low, high).astype(np.float32)
    anywhere = rng.uniform(low, high, count).astype(np.float32)
    return np.where(rng.random(count) < 1 / 3, rng.choice(edges, count), anywhere)


def check_parity(model: Model, estimator: Any, rows: Rows) -> float:
    """The largest difference between the model to be served and scikit-learn.

    Raises `TrainingError` when it is more than rounding, and when a row's bits depend on the rows
    beside it.
    """
    found = model.probabilities(rows)
    difference = np.abs(found.astype(float) - estimator.predict_proba(rows)[:, 1])
    largest = float(difference.max())
    if not largest <= PARITY_LIMIT:
        wrong = ~(difference <= PARITY_LIMIT)
        complete = wrong[~np.isnan(rows).any(axis=1)].any()
        where = "complete rows among them" if complete else "all with missing fields"
        raise TrainingError(
            f"what would be served differs from scikit-learn by up to {largest:.2g} in "
            f"{wrong.sum()} of {len(rows)} rows, {where}: do not serve it; {advice(estimator)}"
        )
    _check_alone(model, estimator, rows, found)
    return largest


def _check_alone(model: Model, estimator: Any, rows: Rows, found: Rows) -> None:
    # Random places: vector units take four or eight rows at a time, and a regular step would
    # always meet the same one of them.
    starts = np.random.default_rng(0).integers(0, len(rows), ALONE_CHECKS)
    for start, size in zip(starts, itertools.cycle([1, 3, 7]), strict=False):
        block = slice(start, start + size)
        if model.probabilities(rows[block]).tobytes() != found[block].tobytes():
            raise TrainingError(
                "the model scores a row alone and among others differently: the same record "
                "would get two answers; " + advice(estimator)
            )


TRAPS = {
    "CalibratedClassifierCV": "skl2onnx converts CalibratedClassifierCV rightly only inside a "
    "Pipeline (not around one) and with method='sigmoid'",
    "HistGradientBoostingClassifier": "skl2onnx converts HistGradientBoostingClassifier wrongly "
    "on thresholds and for categories",
    "RandomForestClassifier": "skl2onnx drops a forest's own routes for missing values: put a "
    "SimpleImputer before it",
    "ExtraTreesClassifier": "skl2onnx drops a forest's own routes for missing values: put a "
    "SimpleImputer before it",
    "DecisionTreeClassifier": "skl2onnx drops a tree's own routes for missing values: put a "
    "SimpleImputer before it",
    "KNNImputer": "converted neighbours differ where distances tie: take a SimpleImputer",
}
"""What is known to go wrong, by the class that a pipeline holds; the outermost is named first."""


def advice(estimator: Any) -> str:
    """What to do about a conversion that went wrong."""
    classes = _classes(estimator)
    known = [text for name, text in TRAPS.items() if name in classes]
    return "; or ".join([*known[:1], "set runtime='sklearn' to serve the estimator as it is"])


def _classes(estimator: Any) -> set[str]:
    """Names of the classes of an estimator and of all that it holds."""
    found = {type(estimator).__name__}
    if hasattr(estimator, "get_params"):
        found |= {type(value).__name__ for value in estimator.get_params(deep=True).values()}
    return found


def check_loads_elsewhere(content: bytes) -> None:
    """Load a pickled estimator as a server does: without this repository. Raises `TrainingError`.

    A class or function of a model file cannot be unpickled where that file is not.
    """
    program = "import sys, io, joblib; joblib.load(io.BytesIO(sys.stdin.buffer.read()))"
    # The interpreter that runs, isolated from the current directory.
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-I", "-c", program], input=content, capture_output=True, check=False
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1]
        raise TrainingError(
            f"model.joblib does not load by itself ({last}): build the estimator from "
            "scikit-learn's own classes and functions"
        )


def pickled(estimator: Any) -> bytes:
    """The estimator as joblib writes it."""
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def libraries() -> dict[str, str]:
    """Versions of what the artifact came from."""
    return {name: version(name) for name in LIBRARIES}


def sha256(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as it is written: sorted keys, one space of indent."""
    fields = manifest.model_dump(mode="json")
    return (json.dumps(fields, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def write_artifact(output: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write the directory beside its place, then move it there: it is whole or not there.

    A directory that is no artifact is not replaced.
    """
    output = output.absolute()
    if output.exists() and any(output.iterdir()) and not (output / MANIFEST).exists():
        raise TrainingError(f"{output} holds something else: name a new directory")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as scratch:
        fresh = Path(scratch, "new")
        fresh.mkdir()
        for name, content in (*files.items(), (MANIFEST, manifest_bytes(manifest))):
            (fresh / name).write_bytes(content)
        if output.exists():
            output.rename(Path(scratch, "old"))
        fresh.rename(output)
