"""Media types that callers send and accept."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from shared.records.artifact import Artifact
from tests.api_client import a_client
from tests.builders import a_patient


@pytest.fixture
def client(artifact: Artifact) -> TestClient:
    return a_client(artifact)


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("*/*", 200),
        ("application/json", 200),
        ("application/*;q=0.5", 200),
        ("text/html, application/json;q=0.9", 200),
        ("text/html,*/*;q=0.1", 200),
        ("text/html", 406),
        ("application/json;q=0", 406),
        ("application/json; version=1; q=0.0", 406),
    ],
)
def test_an_answer_comes_only_in_a_form_that_the_caller_takes(
    client: TestClient, accept: str, status: int
) -> None:
    answer = client.post("/predict", json=a_patient(), headers={"Accept": accept})

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json; charset=utf-8", 200),
        ("application/vnd.patient+json", 200),
        ("application/json; charset=latin-1", 415),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
    ],
)
def test_a_body_must_say_that_it_is_json(client: TestClient, media_type: str, status: int) -> None:
    content = json.dumps(a_patient())

    answer = client.post("/predict", content=content, headers={"Content-Type": media_type})

    assert answer.status_code == status
