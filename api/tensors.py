"""Tensors as the Open Inference Protocol sends them: in JSON, or in binary behind it.

What the rows of numbers mean is left to `api.matrix`.
"""

from __future__ import annotations

import json
import re
from functools import reduce
from itertools import chain
from math import nan, prod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError
from starlette.responses import Response

from api.body import parse
from api.problems import Fault, Problem, at
from shared.records.scoring import shortest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header that says where the JSON ends and the binary tensors begin."""
NAMED_FAULTS = 20
"""Faults that one answer names; a tensor may hold thousands."""

Datatype = Literal["BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64"]
Output = Literal["probability", "prediction"]
Size = Annotated[StrictInt, Field(ge=0)]

KINDS: dict[Datatype, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
OUTPUTS: dict[Output, Datatype] = {"probability": "FP32", "prediction": "INT32"}
_LENGTH = re.compile("[0-9]{1,12}")


class _Lenient(BaseModel):
    """Clients may add what they like; what we read is checked."""

    model_config = ConfigDict(hide_input_in_errors=True)


class InputParameters(_Lenient):
    """Where a tensor's bytes are, if not in the JSON."""

    binary_data_size: Size | None = None


class InputTensor(_Lenient):
    """A tensor as it is sent: its numbers nested or flat in `data`, or behind the JSON."""

    name: str
    shape: Annotated[list[Size], Field(min_length=1, max_length=2)]
    datatype: Datatype
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = Field(default=None, repr=False)


class OutputParameters(_Lenient):
    """How one output is wanted."""

    binary_data: StrictBool | None = None


class OutputRequest(_Lenient):
    """An output that is wanted."""

    name: Output
    parameters: OutputParameters = OutputParameters()


class InferParameters(_Lenient):
    """How all outputs are wanted."""

    binary_data_output: StrictBool = False


class InferRequest(_Lenient):
    """The JSON part of a request."""

    id: Annotated[str, Field(max_length=128)] | None = None
    parameters: InferParameters = InferParameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1)]
    outputs: list[OutputRequest] = []


def read_request(content: bytes, length: str | None) -> tuple[InferRequest, bytes]:
    """The JSON part and the bytes behind it; `length` is the header. Raises `Problem`."""
    end = len(content)
    if length is not None:
        if not (_LENGTH.fullmatch(length) and int(length) <= end):
            raise Problem("malformed_tensor", f"{HEADER_LENGTH} must be the size of the JSON part")
        end = int(length)
    try:
        return InferRequest.model_validate(parse(content[:end])), content[end:]
    except ValidationError as error:
        faults = tuple(
            Fault(reduce(at, map(str, fault["loc"]), ""), fault["type"], fault["msg"])
            for fault in error.errors(include_input=False, include_url=False)[:NAMED_FAULTS]
        )
        raise Problem("malformed_tensor", faults=faults) from error


def read_tensor(
    tensor: InputTensor, tail: bytes, pointer: str
) -> tuple[NDArray[np.float64], bytes]:
    """A tensor's numbers, flat, and the bytes that are left. Raises `Problem`."""
    count = prod(tensor.shape)
    size = tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise malformed(pointer, "give either data or binary_data_size")
    if size is None:
        return _read_json(tensor, count, f"{pointer}/data"), tail
    kind = KINDS[tensor.datatype]
    if size != count * kind.itemsize or size > len(tail):
        raise malformed(
            f"{pointer}/parameters/binary_data_size",
            f"the shape asks for {count * kind.itemsize} bytes behind the JSON",
        )
    return np.frombuffer(tail[:size], kind).astype(np.float64), tail[size:]


def _read_json(tensor: InputTensor, count: int, pointer: str) -> NDArray[np.float64]:
    """The numbers of `data`, nested or flat; null is NaN."""
    flat = tensor.data or []
    for _ in tensor.shape[1:]:
        if flat and all(isinstance(item, list) for item in flat):
            flat = list(chain.from_iterable(flat))
    if len(flat) != count:
        raise malformed(pointer, f"the shape asks for {count} values")
    numbers = (int, float, bool) if tensor.datatype == "BOOL" else (int, float)
    for place, item in enumerate(flat):
        # Not isinstance, for which true is a number.
        if item is not None and type(item) not in numbers:
            raise malformed(f"{pointer}/{place}", "data may hold numbers, and null for missing")
    try:
        return np.array([nan if item is None else item for item in flat], np.float64)
    except OverflowError as error:
        raise malformed(pointer, "an integer is beyond the floats") from error


def malformed(pointer: str, detail: str) -> Problem:
    """The problem of a tensor that is not what the model takes."""
    return Problem("malformed_tensor", detail, (Fault(pointer, "malformed", detail),))


def respond(
    head: Mapping[str, Any], asked: InferRequest, found: Mapping[Output, NDArray[Any]]
) -> Response:
    """The outputs that were wanted, in JSON or behind it."""
    wanted = asked.outputs or [OutputRequest(name=name) for name in OUTPUTS]
    outputs: list[dict[str, Any]] = []
    tail = b""
    for output in wanted:
        datatype = OUTPUTS[output.name]
        values = found[output.name].astype(KINDS[datatype])
        entry: dict[str, Any] = {
            "name": output.name,
            "datatype": datatype,
            "shape": list(values.shape),
        }
        binary = output.parameters.binary_data
        if asked.parameters.binary_data_output if binary is None else binary:
            content = values.tobytes()
            entry["parameters"] = {"binary_data_size": len(content)}
            tail += content
        elif datatype == "FP32":
            entry["data"] = [shortest(value) for value in values]
        else:
            entry["data"] = values.tolist()
        outputs.append(entry)
    text = json.dumps({**head, "outputs": outputs}, separators=(",", ":")).encode()
    if not any("parameters" in entry for entry in outputs):
        return Response(text, media_type="application/json")
    return Response(
        text + tail,
        media_type="application/octet-stream",
        headers={HEADER_LENGTH: str(len(text))},
    )
