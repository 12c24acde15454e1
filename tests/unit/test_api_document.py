"""The OpenAPI document says what the API does, and the API does what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openapi_spec_validator
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok
from starlette.testclient import TestClient

from api.app import create_app
from shared.records.artifact import Artifact
from shared.settings import ApiSettings
from tests.api_client import FakeStorage, a_client


@pytest.fixture
def client(artifact: Artifact) -> TestClient:
    return a_client(artifact)


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    openapi_spec_validator.validate(document)

    for member in ("title", "description", "version", "contact", "license"):
        assert document["info"][member]
    names = {tag["name"] for tag in document["tags"] if tag["description"]}
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["operationId"].isidentifier()
            assert names.issuperset(operation["tags"])


def test_every_enum_has_one_type(document: dict[str, Any]) -> None:
    found = [schema for schema in objects(document) if "enum" in schema or "const" in schema]

    assert found
    assert [schema for schema in found if not isinstance(schema.get("type"), str)] == []


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """All objects of a JSON document."""
    if isinstance(node, dict):
        yield node
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in inner:
        yield from objects(child)


def test_every_field_is_documented_with_unit_range_and_words(
    document: dict[str, Any], artifact: Artifact
) -> None:
    record = document["components"]["schemas"]["Record"]

    assert document["openapi"].startswith("3.1")
    assert record["additionalProperties"] is False
    assert record["required"] == ["age", "sex"]
    for field in artifact.manifest.fields.fields:
        schema = record["properties"][field.name]
        assert schema["title"] == field.title
        assert field.unit in schema["description"]
        text = str(schema)
        if field.kind == "number":
            assert f"'minimum': {field.accept[0]}" in text
            assert f"'maximum': {field.accept[1]}" in text
        for choice in field.choices:
            assert (choice.word or str(choice.code)) in text


def test_the_three_example_patients_are_scored(
    client: TestClient, document: dict[str, Any]
) -> None:
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]

    answers = [client.post("/predict", json=e["value"]) for e in body["examples"].values()]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.json()["probability"] for answer in answers}) == 3


def test_every_path_that_is_documented_is_answered(
    client: TestClient, document: dict[str, Any]
) -> None:
    for path, operations in document["paths"].items():
        for method in operations:
            assert client.request(method, path).status_code not in (405, 500)


def test_keys_are_documented_where_they_are_asked_for(artifact: Artifact) -> None:
    document = a_client(artifact, api_keys="a-key").get("/openapi.json").json()

    assert document["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"
    assert document["paths"]["/predict"]["post"]["security"] == [{"key": []}]
    assert document["paths"]["/livez"]["get"]["security"] == []
    assert document["paths"]["/model-card"]["get"]["security"] == []


# The document cannot say which rows a tensor's shape needs, which keys were used before, that a
# file is read by the worker, later, and which cursors there are.
FREE = ("/infer", "POST /batches", "GET /batches")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_as_documented(artifact: Artifact, mode: GenerationMode) -> None:
    app = create_app(artifact, ApiSettings(), FakeStorage().connect)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)

    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        if mode == GenerationMode.NEGATIVE and not [*operation.body]:
            continue
        strategy = operation.as_strategy(generation_mode=mode)
        settings(
            max_examples=10,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )(given(case=strategy)(check))()


def check(case: Any) -> None:
    free = case.operation.label.endswith(FREE)
    judging = ["positive_data_acceptance", "negative_data_rejection"]
    excluded = CHECKS.get_by_names(judging) if free else []
    case.call_and_validate(excluded_checks=excluded)
