"""Tensors as the Open Inference Protocol sends them: in JSON, or in binary after it.

`api.v2.matrix` makes rows of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import chain
from math import prod
from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray
from pydantic import ValidationError

from api.body import parse
from api.problems import JSON, Code, ErrorEntry, Problem, at
from api.v2.schemas import (
    BinarySize,
    Datatype,
    InferRequest,
    InferResponse,
    InputTensor,
    OutputRequest,
    OutputTensor,
)
from shared.records.kinds import shortest

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header with the size of the JSON part, after which the binary tensors begin."""
NAMED_FAULTS = 20
"""Faults that one answer lists; a tensor may hold thousands."""
NAMED_IN_ERROR = 5
"""Faults that the text `error` names."""

KINDS: dict[Datatype, np.dtype[Any]] = {
    "BOOL": np.dtype("u1"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""How numbers are sent in binary. NumPy has no BF16: it is the upper half of an FP32."""
OUTPUTS: dict[str, Datatype] = {"float32": "FP32", "int8": "INT32", "text": "BYTES"}
"""Datatypes of output tensors by the type of a score's column."""
_OUTPUTS_OF_ARRAYS: dict[str, Datatype] = {"f": "FP32", "i": "INT32", "U": "BYTES", "O": "BYTES"}
"""The same by the kind of NumPy's dtype. Ids come back as texts."""
_LENGTH = re.compile("[0-9]{1,12}")
_SIZE_BYTES = 4
"""Bytes of the size before each element of a binary BYTES tensor."""

Cells = NDArray[Any]
"""A tensor's elements, flat: numbers, or objects that are str, bool, or None for missing."""


def read_request(
    content: bytes, length: str | None, outputs: Sequence[str]
) -> tuple[InferRequest, bytes]:
    """The JSON part and the bytes after it. Raises `Problem`.

    `length` is the header, `outputs` are the names of all output tensors.
    """
    end = len(content)
    if length is not None:
        if not (_LENGTH.fullmatch(length) and int(length) <= end):
            raise Problem("malformed_tensor", f"{HEADER_LENGTH} must be the size of the JSON part")
        end = int(length)
    try:
        request = InferRequest.model_validate(parse(content[:end], nan=True))
    except ValidationError as error:
        entries = [
            ErrorEntry(
                pointer=reduce(at, map(str, fault["loc"]), ""),
                code=fault["type"],
                detail=fault["msg"],
            )
            for fault in error.errors(include_input=False, include_url=False)[:NAMED_FAULTS]
        ]
        raise problem_at("malformed_tensor", entries) from error
    for index, output in enumerate(request.outputs):
        if output.name not in outputs:
            raise malformed(
                f"/outputs/{index}/name", "the name must be one of " + ", ".join(outputs)
            )
    return request, content[end:]


def read_tensor(
    tensor: InputTensor, tail: bytes, pointer: str, *, exact: bool
) -> tuple[Cells, bytes]:
    """A tensor's elements, and the bytes that are left. Raises `Problem`.

    `exact`: keep all digits of numbers in JSON.
    """
    count = prod(tensor.shape)
    size = tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise malformed(pointer, "give either data or binary_data_size")
    if size is None:
        return _read_json(tensor, count, f"{pointer}/data", exact=exact), tail
    if size > len(tail):
        raise malformed(
            f"{pointer}/parameters/binary_data_size",
            f"only {len(tail)} bytes are left after the JSON",
        )
    return _read_binary(tensor.datatype, tail[:size], count, pointer), tail[size:]


def _read_binary(datatype: Datatype, content: bytes, count: int, pointer: str) -> Cells:
    if datatype == "BYTES":
        return _read_texts(content, count, pointer)
    kind = KINDS[datatype]
    if len(content) != count * kind.itemsize:
        raise malformed(
            f"{pointer}/parameters/binary_data_size",
            f"the shape asks for {count * kind.itemsize} bytes after the JSON",
        )
    found = np.frombuffer(content, kind)
    match datatype:
        case "BOOL":
            if (found > 1).any():
                raise malformed(f"{pointer}/data/{np.argmax(found > 1)}", "BOOL is 0 or 1")
            return found.astype(np.bool_).astype(np.object_)
        case "BF16":
            return (found.astype(np.uint32) << 16).view(np.float32)
        case _:
            return found


def _read_texts(content: bytes, count: int, pointer: str) -> Cells:
    """The elements of a binary BYTES tensor: each is text in UTF-8 after its size."""
    texts: list[str] = []
    start = 0
    while start < len(content):
        begin = start + _SIZE_BYTES
        start = begin + int.from_bytes(content[begin - _SIZE_BYTES : begin], "little")
        try:
            texts.append(content[begin:start].decode())
        except UnicodeDecodeError as error:
            raise malformed(f"{pointer}/data/{len(texts)}", "the text is not UTF-8") from error
    if start != len(content) or len(texts) != count:
        raise malformed(
            f"{pointer}/parameters/binary_data_size",
            f"the shape asks for {count} texts, each after its size in {_SIZE_BYTES} bytes",
        )
    return np.array(texts, np.object_)


def _read_json(tensor: InputTensor, count: int, pointer: str, *, exact: bool) -> Cells:
    """The elements of `data`, nested or flat."""
    flat = tensor.data or []
    for _ in tensor.shape[1:]:
        if flat and all(isinstance(item, list) for item in flat):
            flat = list(chain.from_iterable(flat))
    if len(flat) != count:
        raise malformed(pointer, f"the shape asks for {count} values")
    match tensor.datatype:
        case "BYTES":
            _check_types(flat, (str,), pointer, "data may hold texts, and null for missing")
            return np.array(flat, np.object_)
        case "BOOL":
            if not all(item is None or item in (0, 1) for item in flat):
                raise malformed(pointer, "data may hold true and false, and null for missing")
            return np.array([None if item is None else bool(item) for item in flat], np.object_)
    _check_types(flat, (int, float), pointer, "data may hold numbers, and null for missing")
    try:
        numbers = np.array(flat, np.float64)
    except OverflowError as error:
        raise malformed(pointer, "an integer is beyond the floats") from error
    _check_integers(numbers, tensor.datatype, pointer)
    # The digits of an id matter, and a float may not hold them all.
    return np.array(flat, np.object_) if exact else numbers


def _check_types(
    items: Sequence[object], types: tuple[type, ...], pointer: str, detail: str
) -> None:
    for index, item in enumerate(items):
        # Not isinstance, for which true is a number.
        if item is not None and type(item) not in types:
            raise malformed(f"{pointer}/{index}", detail)


def _check_integers(numbers: NDArray[np.float64], datatype: Datatype, pointer: str) -> None:
    """Refuse numbers that a tensor of integers cannot hold. Raises `Problem`."""
    if "INT" not in datatype:
        return
    limits = np.iinfo(KINDS[datatype])
    held = (numbers >= limits.min) & (numbers <= limits.max) & (numbers == np.floor(numbers))
    wrong = np.flatnonzero(~held & ~np.isnan(numbers))
    if wrong.size:
        raise malformed(f"{pointer}/{wrong[0]}", f"{datatype} cannot hold this number")


def malformed(pointer: str, detail: str) -> Problem:
    """The problem of a tensor that is not what the model takes."""
    entry = ErrorEntry(pointer=pointer, code="malformed", detail=detail)
    return problem_at("malformed_tensor", [entry])


def problem_at(code: Code, entries: Sequence[ErrorEntry], detail: str = "") -> Problem:
    """A problem whose text says where each fault is: clients of `/v2` show nothing else of it."""
    texts = [f"{e.pointer}: {e.detail}".removeprefix(": ") for e in entries[:NAMED_IN_ERROR]]
    detail = "; ".join(filter(None, [detail, *texts]))
    return Problem(code, detail, entries[:NAMED_FAULTS])


def respond(
    head: Mapping[str, str], requested: InferRequest, results: Mapping[str, Cells]
) -> Response:
    """The requested outputs, in JSON or in binary after it. Raises `Problem`."""
    wanted = requested.outputs or [OutputRequest(name=name) for name in results]
    outputs: list[OutputTensor] = []
    tail = b""
    for index, output in enumerate(wanted):
        values = results.get(output.name)
        if values is None:
            raise malformed(f"/outputs/{index}/name", f"no input is named {output.name}")
        datatype = _OUTPUTS_OF_ARRAYS[values.dtype.kind]
        entry = OutputTensor(name=output.name, datatype=datatype, shape=list(values.shape))
        binary = output.parameters.binary_data
        if requested.parameters.binary_data_output if binary is None else binary:
            content = _binary(values, datatype)
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


def _binary(values: Cells, datatype: Datatype) -> bytes:
    if datatype != "BYTES":
        return values.astype(KINDS[datatype]).tobytes()
    texts = [text.encode() for text in values]
    return b"".join(len(text).to_bytes(_SIZE_BYTES, "little") + text for text in texts)
