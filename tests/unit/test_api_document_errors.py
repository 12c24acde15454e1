"""Each error that the OpenAPI document shows as an example is what the API answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import httpx2
import pytest

from api.store import Connection
from shared.batches.checkpoint import DataBlock
from shared.records.artifact import Artifact
from shared.records.counts import Counts
from shared.settings import ApiSettings
from tests.api_client import FakeStorage, a_client, an_async_client, no_storage
from tests.builders import a_csv, a_patient
from tests.fakes_model import FailingModel

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}
KEY = {"Idempotency-Key": "used"}


class Request(NamedTuple):
    """A request that ends with an error, and the operation and the code that it is shown under."""

    operation: str
    code: str
    method: str
    path: str
    options: dict[str, Any]


def request(operation: str, code: str, call: str, **options: Any) -> Request:
    method, path = call.split()
    return Request(operation, code, method, path, options)


def a_tensor(name: str, *values: float, shape: int = 1) -> dict[str, Any]:
    tensor = {"name": name, "shape": [shape], "datatype": "FP32", "data": values}
    return {"inputs": [tensor]}


def tensors(*records: dict[str, Any]) -> dict[str, Any]:
    """A tensor for each field of these records."""
    rows = len(records)
    inputs = [
        a_tensor(name, *(record[name] for record in records), shape=rows)["inputs"][0]
        for name in records[0]
    ]
    return {"inputs": inputs}


OTHER_ACCEPT = {"Accept": "application/pdf"}
PACKED = JSON | {"Content-Encoding": "gzip"}
"""Headers that announce gzip for a body that is not packed."""
LARGE = b"7" * 2_000_000

MODEL = "/v2/models/heart-cleveland"
VERSION = f"{MODEL}/versions/{{version}}"
INFERENCES = {"model_infer": f"POST {MODEL}/infer", "model_version_infer": f"POST {VERSION}/infer"}
SCORES = {"predict": "POST /predict", "predict_many": "POST /predict/many"}
JSON_ONLY = {
    "submit_batch": "POST /batches",
    "list_batches": "GET /batches",
    "get_batch": "GET /batches/done",
    "cancel_batch": "DELETE /batches/done",
    "get_model": "GET /model",
}
UNKNOWN = {
    "get_batch": "GET /batches/unknown",
    "cancel_batch": "DELETE /batches/unknown",
    "get_scores": "GET /batches/unknown/scores",
    "get_report": "GET /batches/unknown/report",
    "model_metadata": "GET /v2/models/other",
    "model_config": "GET /v2/models/other/config",
    "model_ready": "GET /v2/models/other/ready",
    "model_infer": "POST /v2/models/other/infer",
    "model_version_metadata": f"GET {MODEL}/versions/other",
    "model_version_config": f"GET {MODEL}/versions/other/config",
    "model_version_ready": f"GET {MODEL}/versions/other/ready",
    "model_version_infer": f"POST {MODEL}/versions/other/infer",
}
BOTH_CODINGS = [a_patient(), a_patient(cp=4)]
OTHER_CODES = [{"cp": cp, "age": 54, "sex": 1} for cp in (0, 4)]

JSON_FAULTS: dict[str, dict[str, Any]] = {
    "malformed_json": {"headers": JSON},
    "malformed_body": {"content": b"{}", "headers": PACKED},
    "not_acceptable": {"json": {}, "headers": OTHER_ACCEPT},
    "body_too_large": {"content": LARGE, "headers": JSON},
    "unsupported_media_type": {"content": b"7", "headers": CSV},
}
TENSOR_FAULTS: dict[str, dict[str, Any]] = {
    "malformed_json": {},
    "malformed_body": {"content": b"{}", "headers": PACKED},
    "malformed_tensor": {"json": a_tensor("age", 54, shape=2)},
    "body_too_large": {"content": LARGE},
    "unsupported_media_type": {"content": b"7", "headers": {"Content-Encoding": "br"}},
    "record_rejected": {"json": tensors(a_patient(age=500))},
    "another_coding": {"json": tensors(*OTHER_CODES)},
    "too_many_rows": {"json": a_tensor("age", shape=1001)},
}

REQUESTS = [
    *(
        request(operation, code, call, **options)
        for operation, call in SCORES.items()
        for code, options in JSON_FAULTS.items()
    ),
    *(
        request(operation, code, call, **options)
        for operation, call in INFERENCES.items()
        for code, options in TENSOR_FAULTS.items()
    ),
    *(
        request(operation, "not_acceptable", call, headers=OTHER_ACCEPT)
        for operation, call in JSON_ONLY.items()
    ),
    *(request(operation, "not_found", call) for operation, call in UNKNOWN.items()),
    request("predict", "record_rejected", "POST /predict", json=a_patient(age=500)),
    request("predict", "bad_parameter", "POST /predict?explain=perhaps", json=a_patient()),
    request("predict_many", "record_rejected", "POST /predict/many", json=a_patient()),
    request("predict_many", "too_many_rows", "POST /predict/many", json=[{}] * 1001),
    request("predict_many", "another_coding", "POST /predict/many", json=BOTH_CODINGS),
    request("predict_many", "bad_parameter", "POST /predict/many?coding_checked=perhaps", json=[]),
    request(
        "submit_batch",
        "malformed_body",
        "POST /batches",
        content=b"--b--",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    ),
    request(
        "submit_batch",
        "body_too_large",
        "POST /batches",
        content=b"age",
        headers=CSV | {"Content-Length": str(1 << 60)},
    ),
    request(
        "submit_batch",
        "unsupported_media_type",
        "POST /batches",
        content=b"%PDF",
        headers={"Content-Type": "application/pdf"},
    ),
    request(
        "submit_batch",
        "bad_parameter",
        "POST /batches",
        content=b"age",
        headers=CSV | {"Idempotency-Key": "two words"},
    ),
    request(
        "submit_batch",
        "idempotency_key_reused",
        "POST /batches",
        content=b"other",
        headers=CSV | KEY,
    ),
    request("list_batches", "bad_parameter", "GET /batches?cursor=7"),
    request("cancel_batch", "already_finished", "DELETE /batches/done"),
    request("cancel_batch", "not_cancellable", "DELETE /batches/sent-by-others"),
    request("get_scores", "not_finished", "GET {queued}/scores"),
    request("get_scores", "no_scores", "GET /batches/failed/scores"),
    request(
        "get_scores",
        "precondition_failed",
        "GET /batches/done/scores",
        headers={"If-Match": '"old"'},
    ),
    request(
        "get_scores",
        "range_not_satisfiable",
        "GET /batches/done/scores",
        headers={"Range": "bytes=9000-"},
    ),
    request("get_scores", "bad_parameter", "GET /batches/done/scores?only=accepted"),
    request("get_report", "not_finished", "GET {queued}/report"),
    request("get_report", "no_scores", "GET /batches/failed/report"),
]
ALONE = {
    "body_too_slow",
    "overloaded",
    "not_authorised",
    "internal_error",
    "model_error",
    "not_explained",
    "storage_unavailable",
}
"""Errors that any operation may answer and that take an API of its own, in tests of their own."""


def shown(document: dict[str, Any], operation_id: str, code: str) -> Iterator[tuple[str, Any]]:
    """Media type and example of an error at an operation."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if operation["operationId"] == operation_id:
                for response in operation["responses"].values():
                    for media_type, content in response.get("content", {}).items():
                        if code in content.get("examples", {}):
                            yield media_type, content["examples"][code]["value"]


def assert_shown(
    answer: httpx2.Response, document: dict[str, Any], operation: str, code: str
) -> None:
    [(media_type, example)] = shown(document, operation, code)
    assert answer.headers["content-type"] == media_type
    assert answer.status_code == example["status"]
    assert answer.json() | {"instance": ""} == example | {"instance": ""}


@pytest.fixture(scope="module")
def document(artifact: Artifact) -> Any:
    return a_client(artifact).get("/openapi.json").json()


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: f"{r.operation}-{r.code}")
async def test_an_example_of_an_error_is_the_real_answer(
    artifact: Artifact, document: dict[str, Any], request_: Request
) -> None:
    storage = FakeStorage()
    storage.finish("done")
    storage.finish("failed", status="failed", reason="the file is empty")
    block = DataBlock("p" * 10, 0, 10, Counts(rows=5))
    await storage.blobs.stage("scores", "sent-by-others/scores.csv", block.name, b"x")

    async with an_async_client(artifact, storage.connect) as client:
        sent = await client.post("/batches", content=a_csv(a_patient()), headers=CSV | KEY)
        path = request_.path.format(
            queued=sent.headers["location"], version=artifact.manifest.version
        )
        answer = await client.request(request_.method, path, **request_.options)

    assert_shown(answer, document, request_.operation, request_.code)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.1)


async def test_so_are_those_of_a_slow_body_and_of_a_full_api(artifact: Artifact) -> None:
    async with an_async_client(artifact, requests=1, body_seconds=0.5) as client:
        document = (await client.get("/openapi.json")).json()
        sending = asyncio.create_task(client.post("/predict", content=endless(), headers=JSON))
        await asyncio.sleep(0.1)
        refused = await client.post("/predict", json=a_patient())
        slow = await sending

    assert_shown(refused, document, "predict", "overloaded")
    assert_shown(slow, document, "predict", "body_too_slow")


@pytest.mark.parametrize(
    ("operation", "file"),
    [("get_model_card", "model-card"), ("template_workbook", "template.xlsx")],
)
def test_so_are_those_of_files_that_training_did_not_write(
    artifact: Artifact, document: dict[str, Any], operation: str, file: str
) -> None:
    manifest = artifact.manifest.model_copy(update={"files": {}})
    client = a_client(Artifact(manifest, artifact.sha256, artifact.model))

    answer = client.get(f"/{file}")

    assert_shown(answer, document, operation, "not_found")


def test_so_is_that_of_a_missing_key(artifact: Artifact) -> None:
    client = a_client(artifact, api_keys="a-key")

    answer = client.get("/batches")

    document = client.get("/openapi.json").json()
    assert_shown(answer, document, "list_batches", "not_authorised")
    assert not [*shown(document, "get_model_card", "not_authorised")]
    assert not [*shown(document, "livez", "overloaded")]


def test_so_are_those_of_storage_that_is_down_and_of_a_fault_of_ours(
    artifact: Artifact, document: dict[str, Any]
) -> None:
    async def broken(_: ApiSettings) -> Connection:
        raise RuntimeError("unforeseen")

    for connect, code in ((no_storage, "storage_unavailable"), (broken, "internal_error")):
        client = a_client(artifact, connect)

        answer = client.get("/batches/b1")

        assert_shown(answer, document, "get_batch", code)


def test_so_are_those_of_a_model_that_fails_or_cannot_explain(
    artifact: Artifact, document: dict[str, Any]
) -> None:
    client = a_client(Artifact(artifact.manifest, artifact.sha256, FailingModel(66)))

    failed = client.post("/predict", json=a_patient(age=66))
    unexplained = client.post("/predict?explain=true", json=a_patient())

    assert_shown(failed, document, "predict", "model_error")
    assert_shown(unexplained, document, "predict", "not_explained")


def test_these_tests_see_every_error_of_every_operation(document: dict[str, Any]) -> None:
    shown = {
        (operation["operationId"], code)
        for operations in document["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        for content in response.get("content", {}).values()
        for code in content.get("examples", {})
        if code not in ALONE
    }

    files = {(operation, "not_found") for operation in ("get_model_card", "template_workbook")}
    assert shown == files | {(request.operation, request.code) for request in REQUESTS}
