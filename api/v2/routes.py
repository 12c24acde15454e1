"""Routes of the Open Inference Protocol: tensors in, tensors out, for clients of other servers.

`api.v2.tensors` reads and writes tensors, `api.v2.matrix` makes the model's rows of them.
"""

from collections.abc import Iterable
from math import isnan
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Header, Path, Request, Response

from api.body import (
    BodyLimits,
    malformed_json,
    not_packed,
    read_body,
    too_large,
    too_slow,
    unknown_encoding,
)
from api.openapi import a_rejection, another_coding, problems, ref
from api.problems import JSON, ErrorEntry, Problem, entries_of
from api.v2.matrix import rejections, rows_of, too_many
from api.v2.schemas import (
    InferRequest,
    InferResponse,
    ModelConfig,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorConfig,
    TensorMetadata,
)
from api.v2.tensors import (
    HEADER_LENGTH,
    OUTPUTS,
    Cells,
    malformed,
    problem_at,
    read_request,
    respond,
)
from shared import metrics
from shared.records.artifact import ONNX, Artifact, Manifest
from shared.records.errors import FieldError
from shared.records.estimator import JOBLIB, SKOPS
from shared.records.schema import FieldTable
from shared.records.scoring import Scorer
from shared.settings import ApiSettings

PLATFORMS = {ONNX: "onnxruntime_onnx", SKOPS: "sklearn_skops", JOBLIB: "sklearn_joblib"}
"""By the file that computes the scores."""


def router(scorer: Scorer, artifact: Artifact, settings: ApiSettings) -> APIRouter:
    """`/v2` and everything below it."""
    manifest = artifact.manifest
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol V2"])
    scored = metrics.ROWS.labels("v2", "scored")
    kind = scorer.kind
    names = [column.name for column in kind.columns]
    limits = BodyLimits(settings.body_bytes, settings.body_seconds)

    @router.get("/", include_in_schema=False)
    @router.get("", summary="The server")
    async def server_metadata() -> ServerMetadata:
        return ServerMetadata(version=manifest.version)

    @router.get("/health/live", summary="Whether the process is alive")
    async def server_live() -> ServerLive:
        return ServerLive()

    @router.get(
        "/health/ready",
        summary="Whether records can be scored",
        responses={503: {"model": ServerReady, "description": "The model fails its own test"}},
    )
    async def server_ready(response: Response) -> ServerReady:
        ready = artifact.golden_holds()
        response.status_code = 200 if ready else 503
        return ServerReady(ready=ready)

    def unknown() -> Problem:
        return Problem("not_found", f"the model here is {manifest.name} {manifest.version}")

    async def check_model(model: Annotated[str, Path(examples=[manifest.name])]) -> None:
        if model != manifest.name:
            raise unknown()

    async def check_version(version: Annotated[str, Path(examples=[manifest.version])]) -> None:
        if version != manifest.version:
            raise unknown()

    async def model() -> ModelMetadata:
        return _metadata(manifest)

    async def model_config() -> ModelConfig:
        return _config(_metadata(manifest))

    async def model_ready() -> ModelReady:
        return ModelReady(name=manifest.name)

    async def infer(
        request: Request,
        json_length: Annotated[str | None, Header(alias=HEADER_LENGTH)] = None,
    ) -> Response:
        content = await read_body(request, limits)
        requested, tail = read_request(content, json_length, [*names, scorer.table.record_id])
        rows = rows_of(scorer.table, requested.inputs, tail, settings.request_rows)
        outputs = scorer.outputs(rows.matrix)
        scored.inc(len(outputs))
        probabilities = kind.probabilities(outputs)
        for probability in () if probabilities is None else probabilities:
            metrics.observe_score(probability)
        head = {
            "model_name": manifest.name,
            "model_version": manifest.version,
            "id": requested.id or request.state.request_id,
        }
        results: dict[str, Cells] = dict(zip(names, kind.values(outputs), strict=True))
        if rows.ids is not None:
            results[scorer.table.record_id] = np.array(
                [text or "" for text in rows.ids], np.object_
            )
        return respond(head, requested, results)

    model_checks = [Depends(check_model)]
    for name, path, checks in (
        ("model", "/models/{model}", model_checks),
        (
            "model_version",
            "/models/{model}/versions/{version}",
            [*model_checks, Depends(check_version)],
        ),
    ):
        known: dict[str, Any] = {
            "dependencies": checks,
            "responses": problems(unknown(), media_type=JSON),
        }
        router.add_api_route(
            path,
            model,
            name=f"{name}_metadata",
            summary="The model's tensors",
            response_model_exclude_unset=True,
            **known,
        )
        router.add_api_route(
            f"{path}/config",
            model_config,
            name=f"{name}_config",
            summary="The model's tensors, for Triton's clients",
            **known,
        )
        router.add_api_route(
            f"{path}/ready",
            model_ready,
            name=f"{name}_ready",
            summary="Whether the model is ready",
            **known,
        )
        router.add_api_route(
            f"{path}/infer",
            infer,
            name=f"{name}_infer",
            methods=["POST"],
            summary="Score rows of tensors",
            description=(
                "One tensor `[rows, fields]` of the fields that the model uses, or one tensor per "
                "field, of numbers or (BYTES) words. A tensor "
                f"`{scorer.table.record_id}` comes back. Tensors may "
                f"be sent in binary after the JSON, whose size is in `{HEADER_LENGTH}`."
            ),
            dependencies=checks,
            responses=problems(
                malformed_json(),
                not_packed("gzip"),
                malformed("/inputs/0/data", "the shape asks for 2 values"),
                unknown(),
                too_slow(limits.seconds),
                too_large(limits.size),
                unknown_encoding(),
                *_rejected_rows(scorer.table),
                too_many(settings.request_rows),
                "model_error",
                media_type=JSON,
            )
            | {200: {"model": InferResponse, "content": {"application/octet-stream": {}}}},
            openapi_extra=_infer_body(manifest),
        )
    return router


def _rejected_rows(table: FieldTable) -> list[Problem]:
    """The problems of a value that a field does not accept, for the document."""

    def entries(faults: Iterable[FieldError], row: int) -> list[ErrorEntry]:
        pointer = f"/inputs/0/data/{row}"
        return [e.model_copy(update={"pointer": pointer}) for e in entries_of(faults)]

    proofs = [(field, hint.low) for field in table.fields for hint in field.hints if hint.coding]
    return [
        problem_at("record_rejected", entries([a_rejection(table)], 0)),
        *(
            problem_at("another_coding", entries(rejections(*proofs[0]), 1), problem.detail)
            for problem in another_coding(table)
        ),
    ]


def _metadata(manifest: Manifest) -> ModelMetadata:
    names = manifest.fields.used_names
    fields = TensorMetadata(
        name="fields", datatype="FP32", shape=[-1, len(names)], parameters={"columns": names}
    )
    return ModelMetadata(
        name=manifest.name,
        versions=[manifest.version],
        platform=PLATFORMS[manifest.served_file],
        inputs=[fields],
        outputs=[
            TensorMetadata(name=column.name, datatype=OUTPUTS[column.type], shape=[-1])
            for column in manifest.answer_kind.columns
        ],
    )


def _config(metadata: ModelMetadata) -> ModelConfig:
    """The same tensors as a model configuration of Triton."""

    def tensors(given: list[TensorMetadata]) -> list[TensorConfig]:
        return [
            TensorConfig(name=t.name, data_type=f"TYPE_{t.datatype}", dims=t.shape) for t in given
        ]

    return ModelConfig(
        name=metadata.name,
        platform=metadata.platform,
        input=tensors(metadata.inputs),
        output=tensors(metadata.outputs),
    )


def _infer_body(manifest: Manifest) -> dict[str, Any]:
    """The request body, for the document; the route reads it, since binary tensors may follow."""
    record = manifest.fields.read(manifest.golden[0].record)
    values = [record.values[index] for index in manifest.fields.used]
    row = [None if isnan(value) else value for value in values]
    tensor = {"name": "fields", "datatype": "FP64", "shape": [1, len(row)], "data": [row]}
    examples = {"one": {"summary": "One row", "value": {"inputs": [tensor]}}}
    content = {JSON: {"schema": ref(InferRequest), "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}
