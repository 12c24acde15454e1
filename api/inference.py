"""The Open Inference Protocol, version 2, with its binary tensor extension.

Tensors in, tensors out: the columns are the fields that the model uses, in the manifest's order,
as one tensor `[rows, fields]` or as one tensor a field. Values are held to the same limits as
records; NaN (in JSON `null`) means missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import chain
from math import nan, prod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError
from starlette.responses import Response

from api import document
from api.body import parse, read_body
from api.problems import Fault, Problem, at, faults_of
from api.routes import JsonAnswer, new_router
from shared import metrics
from shared.errors import RecordRejected

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shared.artifact import Artifact, Manifest
    from shared.fields import Field as RecordField
    from shared.fields import Rejection
    from shared.ports import Matrix
    from shared.scoring import Scorer
    from shared.settings import ApiSettings

HEADER_LENGTH = "Inference-Header-Content-Length"
PLATFORMS = {"onnx": "onnxruntime_onnx", "sklearn": "sklearn_joblib"}
DATATYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP32": "<f4",
    "FP64": "<f8",
}
OUTPUTS = {"probability": ("FP32", "<f4"), "prediction": ("INT32", "<i4")}
NAMED_FAULTS = 20
"""Values that one answer names; a tensor may hold thousands."""

Datatype = Literal["BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64"]
Size = Annotated[StrictInt, Field(ge=0)]


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

    name: Literal["probability", "prediction"]
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


def router(scorer: Scorer, artifact: Artifact, settings: ApiSettings) -> APIRouter:
    """`/v2` and what stands below it."""
    manifest = artifact.manifest
    routes = new_router("Open Inference Protocol V2", prefix="/v2")
    columns = Columns(scorer, settings.request_rows)
    # Clients of this protocol read errors from plain JSON only.
    answers = partial(document.answers, problem=document.JSON)
    scored = metrics.ROWS.labels("v2", "scored")

    @routes.get("", summary="The server", responses=answers("Any", 401, 503))
    async def server(_: Request) -> JsonAnswer:
        return JsonAnswer(
            {
                "name": "heart-scorer",
                "version": manifest.version,
                "extensions": ["binary_tensor_data"],
            }
        )

    @routes.get(
        "/health/live",
        summary="Whether the process turns",
        responses=answers("Any"),
    )
    async def live(_: Request) -> JsonAnswer:
        return JsonAnswer({"live": True})

    @routes.get(
        "/health/ready",
        summary="Whether records can be scored",
        responses=answers("Any"),
    )
    async def ready(_: Request) -> JsonAnswer:
        sound = artifact.golden_holds()
        return JsonAnswer({"live": True, "ready": sound}, 200 if sound else 503)

    def check_model(request: Request) -> None:
        asked = request.path_params
        if asked["model"] != manifest.name or asked.get("version", manifest.version) != (
            manifest.version
        ):
            raise Problem("not_found", f"the model here is {manifest.name} {manifest.version}")

    async def model(request: Request) -> JsonAnswer:
        check_model(request)
        return JsonAnswer(_metadata(manifest))

    async def model_ready(request: Request) -> JsonAnswer:
        check_model(request)
        return JsonAnswer({"name": manifest.name, "ready": True})

    async def infer(request: Request) -> Response:
        check_model(request)
        asked, tail = await _read(request, settings)
        rows = columns.matrix(asked.inputs, tail)
        probabilities = scorer.probabilities(rows)
        scored.inc(len(rows))
        for probability in probabilities:
            metrics.PROBABILITY.observe(probability)
        found: dict[str, NDArray[Any]] = {
            "probability": probabilities,
            "prediction": scorer.predictions(probabilities),
        }
        head = {
            "model_name": manifest.name,
            "model_version": manifest.version,
            "id": asked.id or request.scope["request_id"],
        }
        return _answer(head, asked, found)

    for version in ("", "/versions/{version}"):
        path = f"/models/{{model}}{version}"
        extra = {"parameters": document.path_parameters(path, manifest)}
        known = answers("Any", 401, 404, 503)
        inferred = answers("Any", 400, 401, 404, 408, 413, 415, 422, 500, 503)
        inferred[200]["content"] |= {"application/octet-stream": {"schema": {}}}
        routes.get(path, summary="The model's tensors", responses=known, openapi_extra=extra)(model)
        routes.get(
            f"{path}/ready", summary="Whether it is ready", responses=known, openapi_extra=extra
        )(model_ready)
        routes.post(
            f"{path}/infer",
            summary="Score rows of numbers",
            description=(
                "The columns are the fields that the model uses, as one tensor or as one a field; "
                f"tensors may stand in binary behind the JSON, whose size `{HEADER_LENGTH}` names."
            ),
            responses=inferred,
            openapi_extra=extra | document.body("InferRequest", _example(manifest)),
        )(infer)
    return routes


async def _read(request: Request, settings: ApiSettings) -> tuple[InferRequest, bytes]:
    """The JSON part and the bytes behind it. Raises `Problem`."""
    content = await read_body(request, settings)
    announced = request.headers.get(HEADER_LENGTH)
    length = len(content)
    if announced is not None:
        if not (announced.isascii() and announced.isdigit() and int(announced) <= length):
            raise Problem("malformed_tensor", f"{HEADER_LENGTH} must be the size of the JSON part")
        length = int(announced)
    try:
        return InferRequest.model_validate(parse(content[:length])), content[length:]
    except ValidationError as error:
        faults = tuple(
            Fault(
                "".join(at("/", str(part))[1:] for part in fault["loc"]),
                fault["type"],
                fault["msg"],
            )
            for fault in error.errors(include_input=False, include_url=False)[:NAMED_FAULTS]
        )
        raise Problem("malformed_tensor", faults=faults) from error


def _pointer(place: tuple[int | str, ...]) -> str:
    return reduce(lambda pointer, step: at(pointer, str(step)), place, "")


@dataclass(slots=True)
class Columns:
    """Makes the model's rows of tensors."""

    scorer: Scorer
    limit: int
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.names = self.scorer.table.used_names

    def matrix(self, tensors: list[InputTensor], tail: bytes) -> Matrix:
        """Rows [n, fields used] of one tensor or of one a field. Raises `Problem`."""
        arrays: list[NDArray[np.float64]] = []
        for place, tensor in enumerate(tensors):
            if tensor.shape[0] > self.limit:
                raise Problem("too_many_rows", f"a request may hold {self.limit} rows")
            found, tail = _numbers(tensor, tail, f"/inputs/{place}")
            arrays.append(found)
        if tail:
            raise Problem("malformed_tensor", "there are more bytes than the tensors name")
        if len(tensors) == 1 and tensors[0].name not in self.names:
            rows = self._whole(tensors[0], arrays[0])
            places = ["/inputs/0/data/{}"] * len(self.names)
        else:
            rows, places = self._named(tensors, arrays)
        self._check(rows, places)
        return rows.astype(np.float32)

    def _whole(self, tensor: InputTensor, found: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(tensor.shape) != 2 or tensor.shape[1] != len(self.names):
            raise _bad("/inputs/0/shape", f"the shape must be [rows, {len(self.names)}]")
        return found.reshape(tensor.shape)

    def _named(
        self, tensors: list[InputTensor], arrays: list[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[str]]:
        count = tensors[0].shape[0]
        rows = np.full((count, len(self.names)), nan)
        places = [""] * len(self.names)
        for place, (tensor, found) in enumerate(zip(tensors, arrays, strict=True)):
            pointer = f"/inputs/{place}"
            if tensor.name not in self.names:
                raise _bad(f"{pointer}/name", "the name must be one of " + ", ".join(self.names))
            column = self.names.index(tensor.name)
            if places[column]:
                raise _bad(f"{pointer}/name", "the same field stands more than once")
            if tensor.shape not in ([count], [count, 1]):
                raise _bad(
                    f"{pointer}/shape", "all tensors must have the shape [rows] or [rows, 1]"
                )
            rows[:, column] = found
            places[column] = pointer + "/data/{}"
        return rows, places

    def _check(self, rows: NDArray[np.float64], places: list[str]) -> None:
        """Hold each value to its field's limits. Raises `Problem`."""
        whole = len(set(places)) == 1
        table = self.scorer.table
        faults: list[Fault] = []
        rejected: set[int] = set()
        codes: dict[str, int] = {}
        for column, (name, values) in enumerate(zip(self.names, rows.T, strict=True)):
            field_ = table.by_name[name]
            suspects = _suspects(values, field_)
            for row in suspects if places[column] else suspects[:1]:
                rejections = _refusals(field_, float(values[row]))
                if not rejections:
                    continue
                rejected.add(row)
                for rejection in rejections:
                    codes[rejection.code] = codes.get(rejection.code, 0) + 1
                index = row * len(self.names) + column if whole else row
                pointer = places[column].format(index)
                faults += [fault._replace(pointer=pointer) for fault in faults_of(rejections)]
        if faults:
            metrics.count_rows("v2", 0, codes, len(rejected))
            raise Problem("record_rejected", faults=tuple(faults[:NAMED_FAULTS]))


def _suspects(values: NDArray[np.float64], field_: RecordField) -> list[int]:
    """Rows whose value may be refused; the field itself then says."""
    if field_.codes:
        sound = np.isin(values, list(field_.codes))
    else:
        sound = (values >= field_.accept[0]) & (values <= field_.accept[1])
    if not field_.required:
        sound |= np.isnan(values)
    return [int(row) for row in np.flatnonzero(~sound)]


def _refusals(field_: RecordField, value: float) -> tuple[Rejection, ...]:
    try:
        read = field_.read(value)
    except RecordRejected as error:
        return error.rejections
    return (field_.rejection("missing_required"),) if read != read else ()


def _numbers(tensor: InputTensor, tail: bytes, pointer: str) -> tuple[NDArray[np.float64], bytes]:
    """A tensor's numbers, flat, and the bytes that are left. Raises `Problem`."""
    count = prod(tensor.shape)
    size = tensor.parameters.binary_data_size
    if (size is None) == (tensor.data is None):
        raise _bad(pointer, "give either data or binary_data_size")
    if size is not None:
        kind = np.dtype(DATATYPES[tensor.datatype])
        if size != count * kind.itemsize or size > len(tail):
            raise _bad(
                f"{pointer}/parameters/binary_data_size",
                f"the shape asks for {count * kind.itemsize} bytes behind the JSON",
            )
        return np.frombuffer(tail[:size], kind).astype(np.float64), tail[size:]
    flat = tensor.data or []
    for _ in tensor.shape[1:]:
        if flat and all(isinstance(item, list) for item in flat):
            flat = list(chain.from_iterable(flat))
    if len(flat) != count:
        raise _bad(f"{pointer}/data", f"the shape asks for {count} values")
    numbers = (int, float, bool) if tensor.datatype == "BOOL" else (int, float)
    for place, item in enumerate(flat):
        if item is not None and type(item) not in numbers:
            raise _bad(f"{pointer}/data/{place}", "data may hold numbers, and null for missing")
    try:
        found = np.array([nan if item is None else item for item in flat], np.float64)
    except OverflowError as error:
        raise _bad(f"{pointer}/data", "an integer is beyond the floats") from error
    return found, tail


def _bad(pointer: str, detail: str) -> Problem:
    return Problem("malformed_tensor", detail, (Fault(pointer, "malformed", detail),))


def _answer(head: dict[str, Any], asked: InferRequest, found: dict[str, NDArray[Any]]) -> Response:
    """The outputs that were wanted, in JSON or behind it."""
    wanted = asked.outputs or [OutputRequest(name="probability"), OutputRequest(name="prediction")]
    outputs: list[dict[str, Any]] = []
    tail = b""
    for output in wanted:
        datatype, kind = OUTPUTS[output.name]
        values = found[output.name].astype(kind)
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
        else:
            # str() of a float32 is its shortest form.
            entry["data"] = [json.loads(str(value)) for value in values]
        outputs.append(entry)
    text = json.dumps(head | {"outputs": outputs}, separators=(",", ":")).encode()
    if not any("parameters" in entry for entry in outputs):
        return Response(text, media_type="application/json")
    return Response(
        text + tail,
        media_type="application/octet-stream",
        headers={HEADER_LENGTH: str(len(text))},
    )


def _metadata(manifest: Manifest) -> dict[str, Any]:
    names = manifest.fields.used_names
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": PLATFORMS[manifest.runtime],
        "inputs": [
            {
                "name": "fields",
                "datatype": "FP32",
                "shape": [-1, len(names)],
                "parameters": {"columns": names},
            }
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1]}
            for name, (datatype, _) in OUTPUTS.items()
        ],
    }


def _example(manifest: Manifest) -> dict[str, Any]:
    table = manifest.fields
    record = table.read(manifest.golden[0].record)
    values = [record.values[place] for place in table.used]
    shown = [None if value != value else value for value in values]
    tensor = {"name": "fields", "datatype": "FP64", "shape": [1, len(shown)], "data": [shown]}
    return {"one": {"summary": "One row", "value": {"inputs": [tensor]}}}
