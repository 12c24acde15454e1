"""The API is a FastAPI application: what others add to it behaves as FastAPI documents it."""

from __future__ import annotations

import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

from api.app import create_app
from shared.records.artifact import Artifact
from shared.settings import ApiSettings
from tests.builders import a_patient

ROOT = Path(__file__).parents[2]


class Ward(BaseModel):
    """A body of somebody else's route."""

    name: str
    beds: int


class WardIsClosed(Exception):
    """An error of somebody else's route."""


def language() -> str:
    return "en"


@pytest.fixture
def app(artifact: Artifact) -> FastAPI:
    app = create_app(artifact, ApiSettings())

    @app.get("/wards")
    async def wards(beds: int, floor: str = "all") -> dict[str, object]:
        return {"beds": beds, "floor": floor}

    @app.post("/wards")
    async def add(ward: Ward) -> Ward:
        return ward

    @app.get("/wards/full")
    async def full() -> None:
        raise HTTPException(418, detail="no bed is free", headers={"X-Beds": "0"})

    @app.get("/wards/closed")
    def closed() -> None:
        raise WardIsClosed

    @app.get("/wards/broken")
    def broken() -> None:
        raise ZeroDivisionError

    @app.get("/greeting")
    def greeting(language: Annotated[str, Depends(language)]) -> str:
        return language

    @app.exception_handler(WardIsClosed)
    async def say_so(_: Request, __: WardIsClosed) -> JSONResponse:
        return JSONResponse({"ward": "closed"}, 409)

    app.add_middleware(CORSMiddleware, allow_origins=["https://ward.example"])
    app.add_middleware(GZipMiddleware, minimum_size=100)
    return app


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def test_query_parameters_are_read_and_checked(client: TestClient) -> None:
    assert client.get("/wards?beds=3").json() == {"beds": 3, "floor": "all"}
    assert client.get("/wards?beds=many").status_code == 422
    assert client.get("/wards").status_code == 422


def test_bodies_are_read_and_checked_without_showing_values(client: TestClient) -> None:
    added = client.post("/wards", json={"name": "West", "beds": 4})
    refused = client.post("/wards", json={"name": "West", "beds": "Mustermann"})

    assert added.json() == {"name": "West", "beds": 4}
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/beds"
    assert "Mustermann" not in refused.text


def test_an_http_exception_is_answered_as_raised(client: TestClient) -> None:
    answer = client.get("/wards/full")

    assert (answer.status_code, answer.headers["x-beds"]) == (418, "0")
    assert answer.json() == {"detail": "no bed is free"}


def test_an_exception_handler_answers(client: TestClient) -> None:
    answer = client.get("/wards/closed")

    assert (answer.status_code, answer.json()) == (409, {"ward": "closed"})


def test_an_error_without_handler_reaches_the_test_and_is_a_problem_outside(app: FastAPI) -> None:
    with pytest.raises(ZeroDivisionError):
        TestClient(app).get("/wards/broken")

    answer = TestClient(app, raise_server_exceptions=False).get("/wards/broken")

    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] == answer.json()["instance"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_handler_of_all_errors_replaces_ours(app: FastAPI) -> None:
    @app.exception_handler(Exception)
    async def sorry(_: Request, __: Exception) -> JSONResponse:
        return JSONResponse({"sorry": True}, 500)

    answer = TestClient(app, raise_server_exceptions=False).get("/wards/broken")

    assert answer.json() == {"sorry": True}


def test_other_origins_may_be_let_in(client: TestClient) -> None:
    preflight = {"Origin": "https://ward.example", "Access-Control-Request-Method": "POST"}

    answer = client.options("/predict", headers=preflight)
    plain = client.get("/livez", headers={"Origin": "https://ward.example"})

    assert answer.headers["access-control-allow-origin"] == "https://ward.example"
    assert plain.headers["access-control-allow-origin"] == "https://ward.example"


def test_answers_may_be_compressed(client: TestClient) -> None:
    answer = client.post("/predict", json=a_patient(), headers={"Accept-Encoding": "gzip"})

    assert answer.headers["content-encoding"] == "gzip"
    assert 0 <= answer.json()["probability"] <= 1


def test_dependencies_may_be_overridden(app: FastAPI, client: TestClient) -> None:
    app.dependency_overrides[language] = lambda: "de"

    assert client.get("/greeting").json() == "de"


def test_added_routes_have_what_every_request_has(client: TestClient, app: FastAPI) -> None:
    answer = client.get("/wards?beds=3", headers={"X-Request-ID": "call-7"})

    assert answer.headers["x-request-id"] == "call-7"
    assert "/wards" in client.get("/openapi.json").json()["paths"]


def test_the_factory_reads_the_environment(
    monkeypatch: pytest.MonkeyPatch, artifact_dir: Path
) -> None:
    monkeypatch.setenv("SCORER_MODEL_DIR", str(artifact_dir))
    monkeypatch.setenv("SCORER_API_KEYS", "a-key")

    client = TestClient(create_app())

    assert client.get("/model").status_code == 401
    assert client.get("/model", headers={"X-API-Key": "a-key"}).status_code == 200


def test_fastapi_dev_gets_an_app_with_the_settings_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, artifact_dir: Path
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    entrypoint = project["tool"]["fastapi"]["entrypoint"]
    monkeypatch.setenv("SCORER_MODEL_DIR", str(artifact_dir))
    monkeypatch.setenv("SCORER_API_KEYS", "a-key")
    monkeypatch.delitem(sys.modules, entrypoint.partition(":")[0], raising=False)

    app = pkgutil.resolve_name(entrypoint)

    assert isinstance(app, FastAPI)
    client = TestClient(app)
    assert client.get("/livez").status_code == 200
    assert client.get("/model").status_code == 401


def test_the_examples_of_the_page_run(artifact_dir: Path) -> None:
    page = (ROOT / "docs/embed.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    # OpenTelemetry's instrumentation is not installed with the product.
    examples = [block for block in blocks if "opentelemetry" not in block]
    script = "".join(examples).replace("9090", "0")  # any free port

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        env=os.environ | {"SCORER_MODEL_DIR": str(artifact_dir)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(examples) == 3
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", ["/", "/predict", "/nowhere"])
def test_a_websocket_is_refused(client: TestClient, path: str) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
        pass
