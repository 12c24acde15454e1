"""Tensors as the Open Inference Protocol sends them: in JSON, or in binary after it.

`api.v2.matrix` makes rows of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from itertools import chain
from math import nan, prod
from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic import ValidationError

from api.body import parse
from api.problems import JSON, ErrorEntry, Problem, at
from api.v2.schemas import (
    BinarySize,
    Datatype,
    InferRequest,
    InferResponse,
    InputTensor,
    Output,
    OutputRequest,
    OutputTensor,
)
from shared.records.scoring import shortest

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header with the size of the JSON part, after which the binary tensors begin."""
NAMED_FAULTS = 20
"""Faults that one answer names; a tensor may hold thousands."""

KINDS: dict[Datatype, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
OUTPUTS: dict[Output, Datatype] = {"probability": "FP32", "prediction": "INT32"}
_LENGTH = re.compile("[0-9]{1,12}")


def read_request(content: bytes, length: str | None) -> tuple[InferRequest, bytes]:
    """The JSON part and the bytes after it; `length` is the header. Raises `Problem`."""
    end = len(content)
    if length is not None:
        if not (_LENGTH.fullmatch(length) and int(length) <= end):
            raise Problem("malformed_tensor", f"{HEADER_LENGTH} must be the size of the JSON part")
        end = int(length)
    try:
        return InferRequest.model_validate(parse(content[:end])), content[end:]
    except ValidationError as error:
        entries = [
            ErrorEntry(
                pointer=reduce(at, map(str, fault["loc"]), ""),
                code=fault["type"],
                detail=fault["msg"],
            )
            for fault in error.errors(include_input=False, include_url=False)[:NAMED_FAULTS]
        ]
        raise Problem("malformed_tensor", errors=entries) from error


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
            f"the shape asks for {count * kind.itemsize} bytes after the JSON",
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
    for index, item in enumerate(flat):
        # Not isinstance, for which true is a number.
        if item is not None and type(item) not in numbers:
            raise malformed(f"{pointer}/{index}", "data may hold numbers, and null for missing")
    try:
        return np.array([nan if item is None else item for item in flat], np.float64)
    except OverflowError as error:
        raise malformed(pointer, "an integer is beyond the floats") from error


def malformed(pointer: str, detail: str) -> Problem:
    """The problem of a tensor that is not what the model takes."""
    entry = ErrorEntry(pointer=pointer, code="malformed", detail=detail)
    return Problem("malformed_tensor", detail, [entry])


def respond(
    head: Mapping[str, str], requested: InferRequest, results: Mapping[Output, NDArray[Any]]
) -> Response:
    """The requested outputs, in JSON or in binary after it."""
    wanted = requested.outputs or [OutputRequest(name=name) for name in OUTPUTS]
    outputs: list[OutputTensor] = []
    tail = b""
    for output in wanted:
        datatype = OUTPUTS[output.name]
        values = results[output.name].astype(KINDS[datatype])
        entry = OutputTensor(name=output.name, datatype=datatype, shape=list(values.shape))
        binary = output.parameters.binary_data
        if requested.parameters.binary_data_output if binary is None else binary:
            content = values.tobytes()
            entry.parameters = BinarySize(binary_data_size=len(content))
            tail += content
        elif datatype == "FP32":
            entry.data = [shortest(value) for value in values]
        else:
            entry.data = values.tolist()
        outputs.append(entry)
    text = InferResponse(**head, outputs=outputs).model_dump_json(exclude_unset=True).encode()
    if not any(entry.parameters for entry in outputs):
        return Response(text, media_type=JSON)
    return Response(
        text + tail,
        media_type="application/octet-stream",
        headers={HEADER_LENGTH: str(len(text))},
    )
