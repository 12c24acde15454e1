"""A fitted scikit-learn estimator to ONNX, step by step, in float64.

Pipelines, ensembles, calibration, linear models and trees are written here; skl2onnx converts
the other steps one at a time. Each step is compared with scikit-learn as soon as it is converted,
so a refusal names the step and the reason. Values come and go as float32; in between, float64 keeps
what scikit-learn computes: sums of large forests, scaled values next to a tree's threshold, and the
same answer for a row alone and among others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from shared.records.kinds import Kind, Probability
from shared.records.schema import FieldTable
from training.errors import TrainingError
from training.parity import ADVICE, parity_rows
from training.trees import tree_ensemble

OPSET = 17
IR_VERSION = 8
"""Of graphs that need standard operators only."""
STOCK_OPSETS = {"": 18, "ai.onnx.ml": 5}
"""18 for KNNImputer, 5 for trees in float64."""
STOCK_IR_VERSION = 10
CONVERTER_OPSETS = {"": 18, "ai.onnx.ml": 3}
"""For skl2onnx, whose operators are the same in both versions of ai.onnx.ml."""
XGBOOST_OPSET = 15
"""For onnxmltools, which converts XGBoost."""
CONVERTED_TREES = "TreeEnsembleClassifier"
"""The operator of XGBoost's converter; version 5 of ai.onnx.ml deprecates it."""
SAMPLE = 2000
"""Rows that each step is compared on, at least."""
CLOSE = 1e-5
"""Largest difference of a step, relative to its values."""

Rows = Any
"""The data between two scikit-learn steps: an array, dense or sparse."""
Output = Literal["transform", "value", "shares", "probability", "decision"]
WHOLE = ("transform", "value", "shares")
"""Outputs whose columns are all taken."""


def stock_graph(estimator: Any, table: FieldTable, kind: Kind | None = None) -> bytes:
    """Convert a fitted estimator: input `fields` float32 [n, fields], the output of its kind.

    The kind is the probability unless stated. Raises `TrainingError` that names the step that does
    not convert, and the reason.
    """
    kind = kind or Probability(0.5)
    width = len(table.used)
    rows = parity_rows(table, np.full((1, width), np.nan), SAMPLE).astype(float)
    graph = _Graph()
    given = graph.add("Cast", "fields", to=TensorProto.DOUBLE)
    writer = _Writer(graph)
    write = {"probability": writer.probability, "classes": writer.shares, "value": writer.value}
    found = write[kind.name](estimator, given, rows, type(estimator).__name__)
    if not kind.shape:
        found = graph.add("Squeeze", found, graph.constant([1], np.int64))
    graph.nodes.append(
        helper.make_node("Cast", [found], [kind.output], kind.output, to=TensorProto.FLOAT)
    )
    if {"TreeEnsemble", CONVERTED_TREES} <= graph.operators:
        raise TrainingError(
            "XGBoost together with trees of scikit-learn does not convert to ONNX: their operators "
            f"need different versions of ai.onnx.ml; use one of the two, or {ADVICE}"
        )
    return graph.serialised(width, kind)


class _Graph:
    """Collects nodes and constants; names are numbers in the order of creation."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; returns the output's name."""
        name = self.name()
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, **attributes))
        return name

    def constant(self, values: Any, dtype: type[np.generic] = np.float64) -> str:
        name = self.name()
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    @property
    def operators(self) -> set[str]:
        return {node.op_type for node in self.nodes}

    def serialised(self, width: int, kind: Kind) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "heart_scorer",
            [helper.make_tensor_value_info("fields", TensorProto.FLOAT, ["n", width])],
            [helper.make_tensor_value_info(kind.output, TensorProto.FLOAT, ["n", *kind.shape])],
            self.constants,
        )
        opsets = CONVERTER_OPSETS if CONVERTED_TREES in self.operators else STOCK_OPSETS
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid(*one) for one in opsets.items()],
            ir_version=STOCK_IR_VERSION,
            producer_name="heart-scorer",
        )
        onnx.checker.check_model(model)
        content: bytes = model.SerializeToString(deterministic=True)
        return content


class _Writer:
    """Writes estimators into a graph.

    Every method takes the name of a float64 matrix, the rows that it holds for a sample, and the
    path of the step for messages. It returns the name of a float64 matrix [n, columns].
    """

    def __init__(self, graph: _Graph) -> None:
        self.graph = graph

    def probability(self, estimator: Any, x: str, rows: Rows, path: str) -> str:
        """The probability of class 1, [n, 1]."""
        graph = self.graph
        inner = _wrapped(estimator)
        if inner is not None:
            return self.probability(inner, x, rows, path)
        match estimator:
            case Pipeline():
                final, x, rows, path = self._steps(estimator, x, rows, path)
                return self.probability(final, x, rows, path)
            case CalibratedClassifierCV():
                return self._mean(
                    [
                        self._calibrated(one, x, rows, path)
                        for one in estimator.calibrated_classifiers_
                    ]
                )
            case VotingClassifier():
                names = [name for name, one in estimator.estimators if one != "drop"]
                weights = [
                    1.0 if estimator.weights is None else estimator.weights[index]
                    for index, (_, one) in enumerate(estimator.estimators)
                    if one != "drop"
                ]
                parts = [
                    self.probability(one, x, rows, f"{path}.{name}")
                    for name, one in zip(names, estimator.estimators_, strict=True)
                ]
                return self._mean(parts, weights)
            case StackingClassifier():
                return self._stacked(estimator, x, rows, path)
            case BaggingClassifier():
                parts = []
                for one, columns in zip(
                    estimator.estimators_, estimator.estimators_features_, strict=True
                ):
                    part = self._columns(x, columns)
                    parts.append(self.probability(one, part, rows[:, columns], path))
                return self._mean(parts)
            case RandomForestClassifier() | ExtraTreesClassifier():
                share = 1 / len(estimator.estimators_)
                return self._trees(
                    [(t.tree_, share * _shares(t)) for t in estimator.estimators_], x
                )
            case DecisionTreeClassifier():
                return self._trees([(estimator.tree_, _shares(estimator))], x)
            case GradientBoostingClassifier(loss="log_loss") | AdaBoostClassifier():
                return graph.add("Sigmoid", self.decision(estimator, x, rows, path))
            case SGDClassifier(loss="log_loss"):
                return graph.add("Sigmoid", self.decision(estimator, x, rows, path))
            case LogisticRegression() | LogisticRegressionCV() | LinearDiscriminantAnalysis():
                return graph.add("Sigmoid", self.decision(estimator, x, rows, path))
            case _ if type(estimator).__module__.startswith("xgboost."):
                return self._xgboost(estimator, x, rows, path)
            case _:
                return self._converted(estimator, x, rows, path, "probability")

    def shares(self, estimator: Any, x: str, rows: Rows, path: str) -> str:
        """The probabilities of all classes, [n, classes]."""
        graph = self.graph
        inner = _wrapped(estimator)
        if inner is not None:
            return self.shares(inner, x, rows, path)
        if isinstance(estimator, Pipeline):
            final, x, rows, path = self._steps(estimator, x, rows, path)
            return self.shares(final, x, rows, path)
        count = len(estimator.classes_)
        if count == 2:
            ones = self.probability(estimator, x, rows, path)
            zeros = graph.add("Sub", graph.constant([[1.0]]), ones)
            return graph.add("Concat", zeros, ones, axis=1)
        match estimator:
            case RandomForestClassifier() | ExtraTreesClassifier():
                share, trees = 1 / len(estimator.estimators_), estimator.estimators_
            case DecisionTreeClassifier():
                share, trees = 1.0, [estimator]
            case GradientBoostingClassifier():
                scores = [
                    self._boosted(estimator, estimator.decision_function, column, x, rows, path)
                    for column in range(count)
                ]
                return graph.add("Softmax", graph.add("Concat", *scores, axis=1), axis=1)
            case LogisticRegression() | LogisticRegressionCV() | LinearDiscriminantAnalysis():
                product = graph.add("MatMul", x, graph.constant(estimator.coef_.T))
                score = graph.add("Add", product, graph.constant(estimator.intercept_[None]))
                return graph.add("Softmax", score, axis=1)
            case _:
                return self._converted(estimator, x, rows, path, "shares")
        columns = [
            self._trees([(t.tree_, share * t.tree_.value[:, 0, column]) for t in trees], x)
            for column in range(count)
        ]
        return graph.add("Concat", *columns, axis=1)

    def value(self, estimator: Any, x: str, rows: Rows, path: str) -> str:
        """The value of a regression, [n, 1]."""
        graph = self.graph
        inner = _wrapped(estimator)
        if inner is not None:
            return self.value(inner, x, rows, path)
        match estimator:
            case Pipeline():
                final, x, rows, path = self._steps(estimator, x, rows, path)
                return self.value(final, x, rows, path)
            case RandomForestRegressor() | ExtraTreesRegressor():
                share = 1 / len(estimator.estimators_)
                return self._trees(
                    [(t.tree_, share * t.tree_.value[:, 0, 0]) for t in estimator.estimators_], x
                )
            case DecisionTreeRegressor():
                return self._trees([(estimator.tree_, estimator.tree_.value[:, 0, 0])], x)
            case GradientBoostingRegressor():
                return self._boosted(estimator, estimator.predict, 0, x, rows, path)
            case object(coef_=coefficients, intercept_=intercept) if _is_linear(estimator, rows):
                column = np.reshape(coefficients, (-1, 1))
                product = graph.add("MatMul", x, graph.constant(column))
                return graph.add("Add", product, graph.constant(np.reshape(intercept, (1, 1))))
            case _:
                return self._converted(estimator, x, rows, path, "value")

    def _boosted(
        self, estimator: Any, answer: Any, column: int, x: str, rows: Rows, path: str
    ) -> str:
        """The sum of a column of boosted trees and the constant that they start from, [n, 1]."""
        if estimator.init is not None and estimator.init != "zero":
            raise _refusal(path, estimator, "it starts from another estimator")
        trees, rate = estimator.estimators_[:, column], estimator.learning_rate
        sample = _dense(rows)[:1]
        sample = np.where(np.isnan(sample), 0, sample)
        start = np.ravel(answer(_named(estimator, sample)))[column]
        start -= rate * sum(tree.predict(sample)[0] for tree in trees)
        total = self._trees([(t.tree_, rate * t.tree_.value[:, 0, 0]) for t in trees], x)
        return self.graph.add("Add", total, self.graph.constant([[start]]))

    def decision(self, estimator: Any, x: str, rows: Rows, path: str) -> str:
        """The value of `decision_function`, [n, 1]."""
        graph = self.graph
        inner = _wrapped(estimator)
        if inner is not None:
            return self.decision(inner, x, rows, path)
        match estimator:
            case Pipeline():
                final, x, rows, path = self._steps(estimator, x, rows, path)
                return self.decision(final, x, rows, path)
            case GradientBoostingClassifier():
                return self._boosted(estimator, estimator.decision_function, 0, x, rows, path)
            case AdaBoostClassifier():
                # Each estimator votes 1 or -1 with its weight.
                votes = []
                weights = estimator.estimator_weights_[: len(estimator.estimators_)]
                for one, weight in zip(estimator.estimators_, weights, strict=True):
                    share = self.probability(one, x, rows, path)
                    yes = graph.add("Greater", share, graph.constant([[0.5]]))
                    weight = 2 * weight / weights.sum()
                    plus, minus = graph.constant([[weight]]), graph.constant([[-weight]])
                    votes.append(graph.add("Where", yes, plus, minus))
                return graph.add("Sum", *votes)
            case object(coef_=coefficients, intercept_=intercept) if np.shape(coefficients)[0] == 1:
                product = graph.add("MatMul", x, graph.constant(np.asarray(coefficients).T))
                return graph.add("Add", product, graph.constant(np.reshape(intercept, (1, -1))))
            case _:
                return self._converted(estimator, x, rows, path, "decision")

    def transform(self, step: Any, x: str, rows: Rows, path: str) -> str:
        """The transformed rows, [n, columns]."""
        graph = self.graph
        match step:
            case Pipeline():
                for name, one in step.steps:
                    if one is not None and one != "passthrough":
                        x = self.transform(one, x, rows, f"{path}.{name}")
                        rows = one.transform(_named(one, rows))
                return x
            case ColumnTransformer():
                parts = []
                for name, one, columns in step.transformers_:
                    index = _indices(columns, step)
                    if (isinstance(one, str) and one == "drop") or not len(index):
                        continue
                    part = self._columns(x, index)
                    if not isinstance(one, str):
                        part = self.transform(one, part, rows[:, index], f"{path}.{name}")
                    parts.append(part)
                return graph.add("Concat", *parts, axis=1)
            case FeatureUnion(transformer_weights=None):
                parts = [
                    self.transform(one, x, rows, f"{path}.{name}")
                    for name, one in step.transformer_list
                    if not isinstance(one, str)
                ]
                return graph.add("Concat", *parts, axis=1)
            case SimpleImputer():
                return self._imputed(step, x, path)
            case FunctionTransformer(func=None):
                return x
            case _:
                return self._converted(step, x, rows, path, "transform")

    def _steps(self, pipeline: Any, x: str, rows: Rows, path: str) -> tuple[Any, str, Rows, str]:
        """All steps but the last, which is returned with its input, its rows and its path."""
        path = "" if path == "Pipeline" else f"{path}."
        for name, step in pipeline.steps[:-1]:
            if step is not None and step != "passthrough":
                x = self.transform(step, x, rows, f"{path}{name}")
                rows = step.transform(_named(step, rows))
        name, final = pipeline.steps[-1]
        return final, x, rows, f"{path}{name}"

    def _mean(self, parts: list[str], weights: Iterable[float] | None = None) -> str:
        shares = np.ones(len(parts)) if weights is None else np.array(list(weights), float)
        shares = shares / shares.sum()
        scaled = [
            self.graph.add("Mul", part, self.graph.constant([[share]]))
            for part, share in zip(parts, shares, strict=True)
        ]
        return self.graph.add("Sum", *scaled)

    def _columns(self, x: str, columns: NDArray[np.int64]) -> str:
        return self.graph.add("Gather", x, self.graph.constant(columns, np.int64), axis=1)

    def _trees(self, trees: list[tuple[Any, NDArray[np.float64]]], x: str) -> str:
        # scikit-learn's trees round their input to float32.
        single = self.graph.add("Cast", x, to=TensorProto.FLOAT)
        rounded = self.graph.add("Cast", single, to=TensorProto.DOUBLE)
        target = self.graph.name()
        self.graph.nodes.append(tree_ensemble(trees, rounded, target, target))
        return target

    def _stacked(self, stack: Any, x: str, rows: Rows, path: str) -> str:
        names = [name for name, one in stack.estimators if one != "drop"]
        parts, answers = [], []
        for name, one, method in zip(names, stack.estimators_, stack.stack_method_, strict=True):
            if method == "predict_proba":
                parts.append(self.probability(one, x, rows, f"{path}.{name}"))
                answers.append(one.predict_proba(_named(one, rows))[:, 1])
            elif method == "decision_function":
                parts.append(self.decision(one, x, rows, f"{path}.{name}"))
                answers.append(one.decision_function(_named(one, rows)))
            else:
                raise _refusal(f"{path}.{name}", one, "it stacks labels, not probabilities")
        below = np.column_stack(answers)
        if stack.passthrough:
            parts.append(x)
            below = np.hstack([below, _dense(rows)])
        joined = self.graph.add("Concat", *parts, axis=1)
        final = stack.final_estimator_
        return self.probability(final, joined, below, f"{path}.final_estimator")

    def _calibrated(self, calibrated: Any, x: str, rows: Rows, path: str) -> str:
        graph, estimator = self.graph, calibrated.estimator
        score = (
            self.decision(estimator, x, rows, path)
            if hasattr(estimator, "decision_function")
            else self.probability(estimator, x, rows, path)
        )
        [calibrator] = calibrated.calibrators
        if isinstance(calibrator, IsotonicRegression):
            return self._interpolated(calibrator, score)
        if hasattr(calibrator, "a_"):
            scaled = graph.add("Mul", score, graph.constant([[-calibrator.a_]]))
            return graph.add("Sigmoid", graph.add("Sub", scaled, graph.constant([[calibrator.b_]])))
        raise _refusal(path, calibrator, "only sigmoid and isotonic calibration convert")

    def _interpolated(self, isotonic: IsotonicRegression, score: str) -> str:
        """Linear interpolation between the thresholds."""
        graph = self.graph
        xs = np.asarray(isotonic.X_thresholds_, float)
        ys = np.asarray(isotonic.y_thresholds_, float)
        if len(xs) == 1:
            zero = graph.add("Mul", score, graph.constant([[0.0]]))
            return graph.add("Add", zero, graph.constant([[ys[0]]]))
        low, high = graph.constant(xs[0]), graph.constant(xs[-1])
        clipped = graph.add("Clip", score, low, high)
        above = graph.add("Greater", clipped, graph.constant(xs[None, 1:-1]))
        counts = graph.add("Cast", above, to=TensorProto.INT64)
        axis = graph.constant([1], np.int64)
        segment = graph.add("ReduceSum", counts, axis, keepdims=1)
        start, base, slope = (
            graph.add("Gather", graph.constant(values), segment)
            for values in (xs[:-1], ys[:-1], np.diff(ys) / np.diff(xs))
        )
        beyond = graph.add("Mul", graph.add("Sub", clipped, start), slope)
        return graph.add("Add", base, beyond)

    def _imputed(self, imputer: SimpleImputer, x: str, path: str) -> str:
        graph, missing_values = self.graph, imputer.missing_values
        if not (isinstance(missing_values, float) and np.isnan(missing_values)):
            raise _refusal(path, imputer, "only NaN is missing here")
        values = np.asarray(imputer.statistics_, float)
        known = ~np.isnan(values)
        missing = graph.add("IsNaN", x)
        filled = graph.add("Where", missing, graph.constant(np.where(known, values, 0)[None]), x)
        if not known.all() and not imputer.keep_empty_features:
            filled = self._columns(filled, np.flatnonzero(known))
        if not imputer.add_indicator:
            return filled
        flags = graph.add("Cast", missing, to=TensorProto.DOUBLE)
        flags = self._columns(flags, np.asarray(imputer.indicator_.features_))
        return graph.add("Concat", filled, flags, axis=1)

    def _converted(self, step: Any, x: str, rows: Rows, path: str, output: Output) -> str:
        """A step by skl2onnx: in float64 where it can, else in float32."""
        # Imported here: it takes seconds, and many models need no converter.
        import skl2onnx
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

        if isinstance(step, HistGradientBoostingClassifier | HistGradientBoostingRegressor):
            raise _refusal(path, step, "scikit-learn has no public form of its trees")
        expected = _answers(step, rows, output)
        values = _dense(rows)
        options: dict[str, Any] = {} if output in WHOLE[:2] else {"zipmap": False}
        if output == "decision":
            options["raw_scores"] = True
        reason = ""
        for tensor, dtype in ((DoubleTensorType, np.float64), (FloatTensorType, np.float32)):
            try:
                model = skl2onnx.convert_sklearn(
                    step,
                    initial_types=[("x", tensor([None, values.shape[1]]))],
                    options={id(step): options} if options else None,
                    target_opset=CONVERTER_OPSETS,
                )
                found = _run(model, values.astype(dtype))
            except Exception as error:  # the libraries' errors have no common root
                reason = reason or _first_line(error)
                continue
            found = found[:, -1:] if output not in WHOLE and found.ndim == 2 else found
            found = found.reshape(expected.shape) if found.size == expected.size else found
            if found.shape == expected.shape and np.allclose(
                found, expected, rtol=CLOSE, atol=CLOSE, equal_nan=True
            ):
                return self._merged(model, x, output)
            reason = "skl2onnx converts it wrongly"
        raise _refusal(path, step, reason)

    def _xgboost(self, step: Any, x: str, rows: Rows, path: str) -> str:
        """The probability by XGBoost, which computes in float32, converted by onnxmltools."""
        try:
            from onnxmltools import convert_xgboost
            from onnxmltools.convert.common.data_types import FloatTensorType
        except ImportError as error:
            raise _refusal(path, step, "it needs the package onnxmltools") from error
        if step.booster not in (None, "gbtree"):
            raise _refusal(path, step, "only the booster gbtree converts")
        values = _dense(rows).astype(np.float32)
        expected = _answers(step, values, "probability")
        try:
            model = convert_xgboost(
                step,
                initial_types=[("x", FloatTensorType([None, values.shape[1]]))],
                target_opset=XGBOOST_OPSET,
            )
            found = _run(model, values)[:, 1:]
        except Exception as error:  # the libraries' errors have no common root
            raise _refusal(path, step, _first_line(error)) from error
        if not np.allclose(found, expected, rtol=CLOSE, atol=CLOSE):
            raise _refusal(path, step, "onnxmltools converts it wrongly")
        return self._merged(model, x, "probability")

    def _merged(self, model: onnx.ModelProto, x: str, output: Output) -> str:
        """Copy a converted step into the graph, under names of its own."""
        graph = self.graph
        model = onnx.compose.add_prefix(model, f"{graph.name()}_")
        dtype = model.graph.input[0].type.tensor_type.elem_type
        graph.nodes.append(helper.make_node("Cast", [x], [model.graph.input[0].name], to=dtype))
        graph.nodes.extend(model.graph.node)
        graph.constants.extend(model.graph.initializer)
        result = graph.add("Cast", model.graph.output[-1].name, to=TensorProto.DOUBLE)
        if output == "value":  # some converters give [n], others [n, 1]
            return graph.add("Reshape", result, graph.constant([-1, 1], np.int64))
        if output in WHOLE:
            return result
        # Of two classes the last column is class 1; a decision may have that one only.
        return graph.add("Gather", result, graph.constant([-1], np.int64), axis=1)


def _wrapped(estimator: Any) -> Any | None:
    """The fitted estimator inside a search, a threshold or a freezer."""
    match estimator:
        case FixedThresholdClassifier() | TunedThresholdClassifierCV():
            return estimator.estimator_
        case FrozenEstimator():
            return estimator.estimator
        case object(best_estimator_=best):
            return best
        case _:
            return None


def _is_linear(estimator: Any, rows: Rows) -> bool:
    """Whether a regressor with coefficients is nothing but linear; some have a link function."""
    if np.size(estimator.coef_) != rows.shape[1]:
        return False
    line = _dense(rows) @ np.ravel(estimator.coef_) + np.ravel(estimator.intercept_)
    return np.allclose(line, _answers(estimator, rows, "value")[:, 0], rtol=CLOSE, atol=CLOSE)


def _shares(tree: Any) -> NDArray[np.float64]:
    """The probability of class 1 at each node of a classification tree."""
    values: NDArray[np.float64] = tree.tree_.value[:, 0, :]
    classes = list(tree.classes_)
    if len(classes) == 2:
        return np.asarray(values[:, 1])
    return np.asarray(values[:, 0] if classes == [1] else values[:, 0] * 0)


def _indices(columns: Any, transformer: ColumnTransformer) -> NDArray[np.int64]:
    """Columns of a ColumnTransformer as numbers."""
    everything: NDArray[np.int64] = np.arange(transformer.n_features_in_)
    if isinstance(columns, slice):
        return np.asarray(everything[columns], np.int64)
    listed = np.atleast_1d(np.asarray(columns))
    if listed.dtype == bool:
        return np.asarray(everything[listed], np.int64)
    if listed.dtype.kind in "UO" and len(listed):
        names = list(transformer.feature_names_in_)
        return np.array([names.index(name) for name in listed], np.int64)
    return np.asarray(everything[listed.astype(np.int64)], np.int64)


def _named(step: Any, rows: Rows) -> Rows:
    """Rows as a DataFrame, if the step was fitted to one."""
    names = getattr(step, "feature_names_in_", None)
    return rows if names is None else pd.DataFrame(_dense(rows), columns=names)


def _answers(step: Any, rows: Rows, output: Output) -> NDArray[np.float64]:
    rows = _named(step, rows)
    match output:
        case "transform":
            return _dense(step.transform(rows))
        case "probability":
            return np.asarray(step.predict_proba(rows), float)[:, 1:]
        case "shares":
            return np.asarray(step.predict_proba(rows), float)
        case "value":
            return np.asarray(step.predict(rows), float).reshape(-1, 1)
        case _:
            return np.asarray(step.decision_function(rows), float).reshape(-1, 1)


def _run(model: onnx.ModelProto, values: Any) -> NDArray[np.float64]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run([model.graph.output[-1].name], {"x": values})[0], float)


def _dense(rows: Rows) -> NDArray[np.float64]:
    return np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, float)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if "Unable to find a shape calculator" in lines[0]:
        return "no converter knows its class"
    return lines[0][:200].rstrip(" .:")


def _refusal(path: str, step: Any, reason: str) -> TrainingError:
    return TrainingError(
        f"step {path} ({type(step).__name__}) does not convert to ONNX: {reason}; "
        f"replace the step, or {ADVICE}"
    )
