"""An ONNX file of another tool: finds its inputs and its answer, and rewrites both ends.

What is served is the file's own graph between an input `fields` and the output of the kind of
answer. The untouched file is the reference that it is compared with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shared.records.schema import FieldSpec
from training.errors import TrainingError
from training.recipe import Recipe

NUMBERS: dict[int, type[np.generic]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.INT64: np.int64,
    TensorProto.INT32: np.int32,
    TensorProto.BOOL: np.bool_,
}
EXACT = (TensorProto.FLOAT, TensorProto.DOUBLE)
"""Types that hold NaN, so that a field may be missing."""
PROBED = 3
"""Rows of the run that shows what the outputs are."""


class Input(NamedTuple):
    """An input of the file: all fields as a matrix, or one field."""

    name: str
    type: int
    rank: int
    field: int | None
    """Index of the one field among those used."""


class Output(NamedTuple):
    """An output that can be the answer."""

    name: str
    width: int
    """Columns; 0: one number for each row."""
    labels: tuple[str, ...] = ()
    """Of a ZipMap, which has a number for each."""
    share: bool = True
    """The numbers can be probabilities."""


class OnnxFile:
    """An ONNX file of another tool, with the methods of an estimator."""

    def __init__(self, content: bytes, recipe: Recipe, probe: NDArray[np.float64]) -> None:
        """`probe`: rows that the file is run on once. Raises `TrainingError`."""
        self._fields = [recipe.table.fields[index] for index in recipe.table.used]
        self._model = _parsed(content)
        graph = self._model.graph
        constants = {one.name for one in graph.initializer}
        given = [one for one in graph.input if one.name not in constants]
        self._inputs = [self._input(one, len(given)) for one in given]
        sizes = {_dimensions(one)[0] for one in given}
        self._session = _session(content)
        self.one_by_one = 1 in sizes
        """The file gets one row at a time."""
        if any(size not in (None, 1) for size in sizes):
            raise TrainingError("the ONNX file takes a fixed number of rows: export it with any")
        self._output = self._output_of(recipe, probe)
        self.recipe = _of_its_kind(recipe, self._output)
        """The recipe with the kind of answer that the file gives."""
        self.classes_: NDArray[Any] = np.arange(len(self.recipe.classes) or 2)

    def _input(self, given: onnx.ValueInfoProto, count: int) -> Input:
        kind, dimensions = given.type.tensor_type.elem_type, _dimensions(given)
        rank = len(dimensions)
        if count == 1 and rank == 2 and kind in NUMBERS and dimensions[1] != 1:
            if dimensions[1] not in (None, len(self._fields)):
                raise TrainingError(
                    f"the ONNX file takes {dimensions[1]} columns, the field table uses "
                    f"{len(self._fields)} fields: one for each column, in its order"
                )
            if kind not in EXACT:
                self._refuse_missing(given.name, self._fields)
            return Input(given.name, kind, rank, None)
        # skl2onnx replaces what a name of ONNX cannot hold.
        names = [
            {field.name, field.column, re.sub(r"[^A-Za-z0-9_]", "_", field.column)}
            for field in self._fields
        ]
        index = next((i for i, known in enumerate(names) if given.name in known), None)
        if index is None and len(self._fields) == 1 == count:
            index = 0
        if index is None or rank not in (1, 2) or (rank == 2 and dimensions[1] not in (None, 1)):
            raise TrainingError(
                f"the input {given.name} of the ONNX file is no field: it needs one input with a "
                "column for each field, or an input for each field with the field's name or column"
            )
        field = self._fields[index]
        if kind == TensorProto.STRING and any(choice.word is None for choice in field.choices):
            raise TrainingError(f"{field.name} needs a word for each choice: the file takes words")
        if kind not in (*NUMBERS, TensorProto.STRING):
            raise TrainingError(f"the input {given.name} of the ONNX file is of an unknown type")
        if kind not in EXACT:
            self._refuse_missing(given.name, [field])
        return Input(given.name, kind, rank, index)

    def _refuse_missing(self, name: str, fields: list[FieldSpec]) -> None:
        optional = [field.name for field in fields if not field.required]
        if optional:
            raise TrainingError(
                f"the input {name} of the ONNX file has a type without a missing value: set "
                f"required=True for {', '.join(optional)}"
            )

    def _feeds(self, rows: NDArray[Any]) -> dict[str, Any]:
        feeds: dict[str, Any] = {}
        for one in self._inputs:
            if one.field is None:
                feeds[one.name] = rows.astype(NUMBERS[one.type])
                continue
            values: Any = rows[:, one.field]
            if one.type == TensorProto.STRING:
                words = {float(c.code): c.word for c in self._fields[one.field].choices}
                values = np.array([words[float(value)] for value in values], object)
            else:
                values = values.astype(NUMBERS[one.type])
            feeds[one.name] = values.reshape(-1, 1) if one.rank == 2 else values
        return feeds

    def _output_of(self, recipe: Recipe, probe: NDArray[np.float64]) -> Output:
        rows = probe[:1] if self.one_by_one else probe
        names = [one.name for one in self._model.graph.output]
        try:
            answers = self._session.run(names, self._feeds(rows))
        except Exception as error:  # the runtime's own errors have no common root
            lines = str(error).splitlines() or [type(error).__name__]
            raise TrainingError(f"the ONNX file does not run: {lines[0][:200]}") from error
        found = [
            output
            for name, answer in zip(names, answers, strict=True)
            if (output := _as_output(name, answer, len(rows))) is not None and _fits(recipe, output)
        ]
        named = [one for one in found if "prob" in one.name.lower()]
        if len(named or found) != 1:
            raise TrainingError(
                f"the outputs of the ONNX file are {', '.join(names)}: exactly one must be the "
                "answer: a number for each row, [n] or [n, 1], or probabilities of all classes, "
                "[n, classes] or a ZipMap"
            )
        return (named or found)[0]

    def predict_proba(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Probabilities by the untouched file, [n, classes]."""
        answers = self._answers(rows)
        return np.column_stack([1 - answers, answers]) if answers.ndim == 1 else answers

    def predict(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Values, or the index of the most probable class."""
        if self.recipe.kind == "value":
            return self._answers(rows)
        return np.asarray(self.predict_proba(rows).argmax(axis=1))

    def _answers(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        step = 1 if self.one_by_one else len(rows)
        parts = [self._answer(rows[start : start + step]) for start in range(0, len(rows), step)]
        return np.concatenate(parts).astype(np.float64)

    def _answer(self, rows: NDArray[Any]) -> NDArray[Any]:
        [answer] = self._session.run([self._output.name], self._feeds(rows))
        if self._output.labels:
            return np.array([list(one.values()) for one in answer])
        return np.asarray(answer) if self._output.width else np.asarray(answer).reshape(-1)

    def graph(self) -> bytes:
        """The file's graph with the input `fields` and the output of the kind of answer."""
        kind = self.recipe.answer_kind
        model = onnx.compose.add_prefix(self._model, "given_")
        before: list[onnx.NodeProto] = []
        constants = list(model.graph.initializer)
        for one in self._inputs:
            before += self._read_input(one, constants)
        nodes = list(model.graph.node)
        source = f"given_{self._output.name}"
        if self._output.labels:
            [zipmap] = [node for node in nodes if source in node.output]
            nodes.remove(zipmap)
            source = zipmap.input[0]
        after = []
        if self._output.width and not kind.shape:  # the second of two classes
            constants.append(_constant("column", [1]))
            after.append(helper.make_node("Gather", [source, "column"], ["chosen"], axis=1))
            source = "chosen"
        constants.append(_constant("shape", [-1, *kind.shape]))
        after.append(helper.make_node("Reshape", [source, "shape"], ["answers"]))
        after.append(helper.make_node("Cast", ["answers"], [kind.output], to=TensorProto.FLOAT))
        served = helper.make_model(
            helper.make_graph(
                [*before, *nodes, *after],
                "heart_scorer",
                [helper.make_tensor_value_info("fields", 1, ["n", len(self._fields)])],
                [helper.make_tensor_value_info(kind.output, 1, ["n", *kind.shape])],
                constants,
            ),
            opset_imports=model.opset_import,
            functions=list(model.functions),
            ir_version=model.ir_version,
            producer_name="heart-scorer",
        )
        content: bytes = served.SerializeToString(deterministic=True)
        return content

    def _read_input(self, one: Input, constants: list[onnx.TensorProto]) -> list[onnx.NodeProto]:
        """Nodes that make an input of the file out of `fields`."""
        target = f"given_{one.name}"
        if one.field is None:
            return [helper.make_node("Cast", ["fields"], [target], to=one.type)]
        column = f"column_{one.field}"
        constants.append(_constant(f"index_{one.field}", [one.field]))
        nodes = [helper.make_node("Gather", ["fields", f"index_{one.field}"], [column], axis=1)]
        kind = one.type
        if kind == TensorProto.STRING:
            column = self._words(one.field, column, nodes, constants)
        else:
            nodes.append(helper.make_node("Cast", [column], [f"cast_{one.field}"], to=kind))
            column = f"cast_{one.field}"
        constants.append(_constant(f"shape_{one.field}", [-1, 1][: one.rank]))
        nodes.append(helper.make_node("Reshape", [column, f"shape_{one.field}"], [target]))
        return nodes

    def _words(
        self,
        field: int,
        column: str,
        nodes: list[onnx.NodeProto],
        constants: list[onnx.TensorProto],
    ) -> str:
        """A column of words out of a column of codes."""
        choices = self._fields[field].choices
        codes, is_code, ones, index, words = (
            f"{name}_{field}" for name in ("codes", "is_code", "ones", "choice", "words")
        )
        constants.append(numpy_helper.from_array(np.array([c.code for c in choices], "f4"), codes))
        texts = np.array([choice.word for choice in choices], object)
        constants.append(numpy_helper.from_array(texts, f"all_{words}"))
        nodes += [
            helper.make_node("Equal", [column, codes], [is_code]),
            helper.make_node("Cast", [is_code], [ones], to=TensorProto.FLOAT),
            helper.make_node("ArgMax", [ones], [index], axis=1, keepdims=1),
            helper.make_node("Gather", [f"all_{words}", index], [words]),
        ]
        return words


def _parsed(content: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's errors have no common root with onnx's
        raise TrainingError("the file is not an ONNX model") from error
    if any(one.data_location == TensorProto.EXTERNAL for one in model.graph.initializer):
        raise TrainingError("the ONNX file keeps its weights in another file: save it as one file")
    return model


def _session(content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own errors have no common root
        lines = str(error).splitlines() or [type(error).__name__]
        raise TrainingError(f"the ONNX file does not load: {lines[0][:200]}") from error


def _dimensions(given: onnx.ValueInfoProto) -> list[int | None]:
    """Sizes of a tensor; None: any."""
    shape = given.type.tensor_type.shape.dim
    return [one.dim_value if one.dim_value > 0 else None for one in shape] or [None]


def _as_output(name: str, answer: Any, count: int) -> Output | None:
    """An output for `count` rows, if it has one number or several per row."""
    if isinstance(answer, list):
        if len(answer) != count or not all(isinstance(one, dict) for one in answer):
            return None
        return Output(name, len(answer[0]), tuple(map(str, answer[0])))
    if not isinstance(answer, np.ndarray) or answer.dtype.kind != "f":
        return None
    share = bool(((answer >= 0) & (answer <= 1)).all())
    if answer.shape in ((count,), (count, 1)):
        return Output(name, 0, share=share)
    sums_to_one = share and np.allclose(answer.sum(axis=-1), 1, atol=1e-4)
    if answer.ndim == 2 and len(answer) == count and sums_to_one:
        return Output(name, answer.shape[1])
    return None


def _fits(recipe: Recipe, output: Output) -> bool:
    """Whether an output can be the answer that the recipe names."""
    match recipe.kind:
        case "value":
            return output.width == 0
        case "classes":
            return output.width == len(recipe.classes)
        case _:  # also of a recipe that names none
            return True


def _of_its_kind(recipe: Recipe, output: Output) -> Recipe:
    if recipe.kind != "probability" or output.width == 2:
        return recipe
    if output.width == 0:
        return recipe if output.share else replace(recipe, kind="value")
    return with_classes(recipe, output.labels or [str(n) for n in range(output.width)])


def with_classes(recipe: Recipe, labels: Sequence[str]) -> Recipe:
    """The recipe of several classes, named by their labels. Raises `TrainingError`."""
    names = recipe.classes or tuple(
        re.sub(r"[^A-Za-z0-9_]+", "_", label).strip("_") or "_" for label in labels
    )
    if len(names) != len(labels):
        raise TrainingError(
            f"the recipe names {len(names)} classes, the model has {len(labels)}: "
            f"{', '.join(labels[:10])}"
        )
    recipe = replace(recipe, kind="classes", classes=names)
    try:
        _ = recipe.answer_kind
    except ValueError as error:
        raise TrainingError(f"{error}: name them in the recipe's `classes`") from error
    return recipe


def _constant(name: str, values: list[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)
