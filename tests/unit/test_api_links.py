"""URLs in answers, where callers reach the API under another URL than the process knows."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.testclient import TestClient

from api.app import create_app
from shared.records.artifact import Artifact
from shared.settings import ApiSettings
from tests.api_client import FakeStorage, a_client
from tests.builders import a_csv, a_patient

PUBLIC = "https://scores.example/heart"
CSV = {"Content-Type": "text/csv"}


def test_urls_are_under_the_public_one(artifact: Artifact) -> None:
    client = a_client(artifact, FakeStorage().connect, public_url=f"{PUBLIC}/")

    sent = client.post("/batches", content=a_csv(a_patient()), headers=CSV)

    url = f"{PUBLIC}/batches/{sent.json()['batch_id']}"
    assert sent.json()["status_url"] == url
    assert (sent.headers["location"], sent.headers["operation-location"]) == (url, url)
    assert client.get("/nowhere").json()["type"] == f"{PUBLIC}/problems#not_found"
    assert client.get("/openapi.json").json()["servers"] == [{"url": PUBLIC}]
    assert client.get("/", headers={"Accept": "*/*"}).json()["model"] == f"{PUBLIC}/model"


def test_without_a_public_url_they_are_relative_to_the_host(artifact: Artifact) -> None:
    client = a_client(artifact, FakeStorage().connect)

    sent = client.post("/batches", content=a_csv(a_patient()), headers=CSV)

    assert sent.headers["location"] == f"/batches/{sent.json()['batch_id']}"
    assert client.get("/nowhere").json()["type"] == "/problems#not_found"
    assert client.get("/openapi.json").json()["servers"] == [{"url": "."}]


def test_forwarded_headers_change_no_url(artifact: Artifact) -> None:
    client = a_client(artifact, FakeStorage().connect)
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil", "Host": "evil"}

    sent = client.post("/batches", content=a_csv(a_patient()), headers=CSV | forged)

    assert sent.headers["location"] == f"/batches/{sent.json()['batch_id']}"


def test_an_api_that_is_mounted_knows_its_prefix(artifact: Artifact) -> None:
    site = FastAPI()
    settings = ApiSettings.model_validate({"api_keys": "a-key"})
    site.mount("/heart", create_app(artifact, settings, FakeStorage().connect))
    client = TestClient(site)
    key = {"X-API-Key": "a-key"}

    sent = client.post("/heart/batches", content=a_csv(a_patient()), headers=CSV | key)

    assert sent.headers["location"] == f"/heart/batches/{sent.json()['batch_id']}"
    assert client.get(sent.headers["location"], headers=key).status_code == 200
    assert client.get("/heart/livez").status_code == 200
    assert client.get("/heart/docs").status_code == 200
    assert client.get("/heart/model").json()["type"] == "/heart/problems#not_authorised"
    refused = client.get("/heart/v2/models/other", headers=key)
    assert refused.headers["content-type"] == "application/json"


def test_an_application_that_mounts_the_api_can_close_its_storage(artifact: Artifact) -> None:
    storage = FakeStorage()
    scorer = create_app(artifact, ApiSettings(), storage.connect)
    site = FastAPI(lifespan=scorer.router.lifespan_context)
    site.mount("/heart", scorer)

    with TestClient(site) as client:
        client.get("/heart/batches")

    assert storage.closed


@pytest.mark.parametrize(
    "url",
    ["scores.example", "ftp://scores.example", "https://a/b?c", "https://a b", "https://a\nb"],
)
def test_a_public_url_must_be_one(url: str) -> None:
    with pytest.raises(ValidationError):
        ApiSettings(public_url=url)
