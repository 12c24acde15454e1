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
INFER = "/v2/models/heart-cleveland/infer"
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


REQUESTS = [
    request("predict", "malformed_json", "POST /predict", headers=JSON),
    request(
        "predict",
        "malformed_body",
        "POST /predict",
        content=b"{}",
        headers=JSON | {"Content-Encoding": "gzip"},
    ),
    request("predict", "not_acceptable", "POST /predict", json={}, headers={"Accept": "text/csv"}),
    request("predict", "body_too_large", "POST /predict", content=b"7" * 2_000_000, headers=JSON),
    request("predict", "unsupported_media_type", "POST /predict", content=b"7", headers=CSV),
    request("predict", "record_rejected", "POST /predict", json=a_patient(age=500)),
    request("predict", "bad_parameter", "POST /predict?explain=perhaps", json=a_patient()),
    request("predict_many", "record_rejected", "POST /predict/many", json=a_patient()),
    request("predict_many", "too_many_rows", "POST /predict/many", json=[{}] * 1001),
    request(
        "predict_many",
        "another_coding",
        "POST /predict/many",
        json=[a_patient(), a_patient(cp=4)],
    ),
    request("model_infer", "malformed_tensor", f"POST {INFER}", json=a_tensor("age", 54, shape=2)),
    request("model_infer", "too_many_rows", f"POST {INFER}", json=a_tensor("age", shape=1001)),
    request("model_metadata", "not_found", "GET /v2/models/other"),
    request(
        "submit_batch",
        "malformed_body",
        "POST /batches",
        content=b"--b--",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
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
    request("get_batch", "not_found", "GET /batches/unknown"),
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
"""Errors that take an API of its own, in tests of their own."""


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
        path = request_.path.format(queued=sent.headers["location"])
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


def test_these_tests_see_every_error_that_the_document_shows(artifact: Artifact) -> None:
    document = a_client(artifact, api_keys="a-key").get("/openapi.json").json()

    codes = {
        code
        for operations in document["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        for content in response.get("content", {}).values()
        for code in content.get("examples", {})
    }

    assert codes == {request.code for request in REQUESTS} | ALONE
