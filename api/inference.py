"""The Open Inference Protocol, version 2, with its binary tensor extension.

Tensors in, tensors out, for clients of other servers. How tensors are sent is `api.tensors`, how
the model's rows come of them `api.matrix`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from api import document
from api.body import read_body
from api.matrix import matrix_of
from api.problems import JSON, Problem
from api.routes import JsonAnswer, Routes
from api.tensors import HEADER_LENGTH, OUTPUTS, read_request, respond
from shared import metrics

if TYPE_CHECKING:
    from starlette.responses import Response

    from shared.records.artifact import Artifact, Manifest
    from shared.records.scoring import Scorer
    from shared.settings import ApiSettings

PLATFORMS = {"onnx": "onnxruntime_onnx", "sklearn": "sklearn_joblib"}


def routes(scorer: Scorer, artifact: Artifact, settings: ApiSettings) -> Routes:
    """`/v2` and what stands below it."""
    manifest = artifact.manifest
    routes = Routes("Open Inference Protocol V2", "/v2")
    # Clients of this protocol read errors from plain JSON only.
    answers = partial(document.answers, problem=JSON)
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
        content = await read_body(request, settings)
        asked, tail = read_request(content, request.headers.get(HEADER_LENGTH))
        rows = matrix_of(scorer.table, asked.inputs, tail, settings.request_rows)
        probabilities = scorer.probabilities(rows)
        scored.inc(len(rows))
        for probability in probabilities:
            metrics.PROBABILITY.observe(probability)
        head = {
            "model_name": manifest.name,
            "model_version": manifest.version,
            "id": asked.id or request.scope["request_id"],
        }
        predictions = scorer.predictions(probabilities)
        return respond(head, asked, {"probability": probabilities, "prediction": predictions})

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
            for name, datatype in OUTPUTS.items()
        ],
    }


def _example(manifest: Manifest) -> dict[str, Any]:
    table = manifest.fields
    record = table.read(manifest.golden[0].record)
    values = [record.values[place] for place in table.used]
    shown = [None if value != value else value for value in values]
    tensor = {"name": "fields", "datatype": "FP64", "shape": [1, len(shown)], "data": [shown]}
    return {"one": {"summary": "One row", "value": {"inputs": [tensor]}}}
