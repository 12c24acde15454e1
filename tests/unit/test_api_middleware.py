"""Middleware for every request: ids, keys, limits, headers, measurements."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.app import create_app
from api.middleware import PAGES, PROBES
from shared.metrics import api_registry
from shared.records.artifact import Artifact
from shared.records.errors import StartupError
from shared.settings import ApiSettings, load_settings
from tests.api_client import a_client, an_async_client, no_storage
from tests.builders import a_patient

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(artifact: Artifact) -> TestClient:
    return a_client(artifact)


# Request ids


def test_the_callers_request_id_comes_back_and_is_in_the_log(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "api")

    answer = client.post("/predict", json=a_patient(), headers={"X-Request-ID": "call-7"})

    assert answer.headers["x-request-id"] == "call-7"
    [line] = [record for record in caplog.records if record.message == "request"]
    facts = vars(line)
    assert (facts["request_id"], facts["route"], facts["status"]) == ("call-7", "/predict", 200)


def test_without_an_id_the_trace_is_the_id(client: TestClient) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}

    assert client.get("/livez", headers=headers).headers["x-request-id"] == trace


def test_each_other_request_gets_an_id_of_its_own(client: TestClient) -> None:
    ids = {client.get("/livez").headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3


def test_an_id_that_could_break_a_log_is_replaced(client: TestClient) -> None:
    answer = client.get("/livez", headers={"X-Request-ID": "a" * 65})

    assert answer.headers["x-request-id"] != "a" * 65


# Keys


@pytest.fixture
def locked(artifact: Artifact) -> TestClient:
    return a_client(artifact, api_keys="first-key, second-key")


@pytest.mark.parametrize("key", ["first-key", "second-key"])
def test_each_key_opens(locked: TestClient, key: str) -> None:
    headers = {"X-API-Key": key}

    assert locked.post("/predict", json=a_patient(), headers=headers).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": ""}, {"X-API-Key": "first-key, second-key"}])
@pytest.mark.parametrize("path", ["/predict", "/predict/many", "/batches", "/nothing"])
def test_without_a_key_nothing_opens(
    locked: TestClient, path: str, headers: dict[str, str]
) -> None:
    answer = locked.post(path, json=a_patient(), headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authorised")
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("path", ["/model", "/v2", "/batches/a", "/batches/a/scores"])
def test_reading_needs_a_key_too(locked: TestClient, path: str) -> None:
    assert locked.get(path).status_code == 401


@pytest.mark.parametrize("path", sorted(PROBES | PAGES | {"/static/docs.js"}))
def test_probes_and_pages_stay_open(locked: TestClient, path: str) -> None:
    assert locked.get(path).status_code == 200


def test_keys_may_come_from_a_file(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("one-key\nother-key\n")

    client = a_client(artifact, api_keys_file=tmp_path / "keys")

    assert client.get("/model").status_code == 401
    assert client.get("/model", headers={"X-API-Key": "other-key"}).status_code == 200


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"SCORER_API_KEYS": " , "}, "holds no key"),
        ({"SCORER_API_KEYS": "schlüssel"}, "ASCII"),
        ({"SCORER_API_KEYS_FILE": "/does/not/exist"}, "cannot be read"),
        ({"SCORER_API_KEYS": "a", "SCORER_API_KEYS_FILE": "/dev/null"}, "not both"),
        ({"SCORER_API_KEYS_FILE": "/dev/null"}, "holds no key"),
        ({"SCORER_HOST": "0.0.0.0"}, "must be set"),  # noqa: S104
    ],
)
def test_keys_that_let_nobody_or_everybody_in_by_mistake_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], reason: str
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(StartupError, match=reason):
        load_settings(ApiSettings)


# Headers


def test_answers_carry_security_headers(client: TestClient) -> None:
    headers = client.post("/predict", json=a_patient()).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_pages_load_from_this_server_only(client: TestClient) -> None:
    for path in ("/", "/docs", "/model-card", "/problems"):
        answer = client.get(path, headers={"Accept": "text/html"})
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "http" not in policy


def test_other_origins_may_not_read(client: TestClient) -> None:
    headers = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}

    assert "access-control-allow-origin" not in client.options("/predict", headers=headers).headers
    assert "access-control-allow-origin" not in client.get("/model", headers=headers).headers


# Limits


def packed(value: bytes, how: str) -> bytes:
    bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return {
        "gzip": gzip.compress(value),
        "deflate": zlib.compress(value),
        "bare": bare.compress(value) + bare.flush(),
    }[how]


@pytest.mark.parametrize("how", ["gzip", "deflate", "bare"])
def test_bodies_may_be_packed(client: TestClient, how: str) -> None:
    content = packed(json.dumps(a_patient()).encode(), how)
    encoding = "gzip" if how == "gzip" else "deflate"

    answer = client.post("/predict", content=content, headers=JSON | {"Content-Encoding": encoding})

    assert answer.status_code == 200


def test_a_body_over_the_limit_is_refused_by_its_length(artifact: Artifact) -> None:
    client = a_client(artifact, body_bytes=1024)

    answer = client.post("/predict", content=b" " * 1025, headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_body_without_length_is_refused_when_it_grows_too_large(artifact: Artifact) -> None:
    client = a_client(artifact, body_bytes=1024)

    answer = client.post("/predict", content=iter([b" " * 600] * 2), headers=JSON)

    assert answer.status_code == 413


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_a_packed_body_is_measured_unpacked(artifact: Artifact, how: str) -> None:
    client = a_client(artifact, body_bytes=1024)
    bomb = packed(b" " * 1_000_000, how)
    assert len(bomb) <= 1024

    answer = client.post("/predict", content=bomb, headers=JSON | {"Content-Encoding": how})

    assert (answer.status_code, "unpacked" in answer.json()["detail"]) == (413, True)


def test_a_packed_body_with_data_after_its_end_is_refused(client: TestClient) -> None:
    content = gzip.compress(b"{}") + b"more"

    answer = client.post("/predict", content=content, headers=JSON | {"Content-Encoding": "gzip"})

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_json_nested_without_end_is_refused(client: TestClient, opening: bytes) -> None:
    answer = client.post("/predict", content=opening * 100_000, headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


async def call(app: Any, messages: asyncio.Queue[dict[str, Any]], path: str = "/predict") -> int:
    """Send a request whose body comes as the test says; its status."""
    statuses: list[int] = []

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await app(scope, messages.get, send)
    return statuses[0]


async def test_a_body_that_does_not_arrive_is_given_up(artifact: Artifact) -> None:
    app = create_app(artifact, ApiSettings(body_seconds=0.1), no_storage)
    messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b"{", "more_body": True})

    assert await call(app, messages) == 408


async def test_a_request_over_the_limit_is_answered_at_once_and_probes_still_are(
    artifact: Artifact,
) -> None:
    begun, go_on = asyncio.Queue[None](), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        begun.put_nowait(None)
        await go_on.wait()
        yield json.dumps(a_patient()).encode()

    async with an_async_client(artifact, requests=2) as client:
        waiting = [
            asyncio.create_task(client.post("/predict", content=slowly(), headers=JSON))
            for _ in range(2)
        ]
        for _ in waiting:
            await begun.get()

        refused = await client.post("/predict", json=a_patient())
        probed = await client.get("/readyz")

        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) > 0
        assert probed.status_code == 200

        go_on.set()
        assert [(await one).status_code for one in waiting] == [200, 200]
        again = await client.post("/predict", json=a_patient())
        assert again.status_code == 200


# Measurements


@pytest.fixture
def change() -> Iterator[Any]:
    """How far a metric has risen since the test began."""
    before: dict[tuple[str, str], float] = {}
    for metric in api_registry().collect():
        for sample in metric.samples:
            before[sample.name, str(sorted(sample.labels.items()))] = sample.value

    def risen(name: str, **labels: str) -> float:
        now = api_registry().get_sample_value(name, labels) or 0
        return now - before.get((name, str(sorted(labels.items()))), 0)

    return risen  # type: ignore[return-value]


def test_rows_rejections_and_probabilities_are_counted(client: TestClient, change: Any) -> None:
    client.post("/predict", json=a_patient())
    client.post("/predict", json=a_patient(age=5, sex=9))
    client.post("/predict/many", json=[a_patient(), a_patient(age=5)])

    assert change("heart_scorer_rows_total", source="api", outcome="scored") == 2
    assert change("heart_scorer_rows_total", source="api", outcome="rejected") == 2
    assert change("heart_scorer_rejections_total", code="out_of_range") == 2
    assert change("heart_scorer_rejections_total", code="unknown_value") == 1
    assert change("heart_scorer_probability_count") == 2


def test_requests_are_measured_by_route_and_never_by_path(client: TestClient, change: Any) -> None:
    client.post("/predict", json=a_patient())
    client.get("/no/such/path")
    client.get("/batches/some-id")
    client.request("BREW", "/predict")

    def count(method: str, route: str, status: int) -> float:
        return float(
            change(
                "http_server_request_duration_seconds_count",
                http_request_method=method,
                http_route=route,
                http_response_status_code=str(status),
            )
        )

    assert count("POST", "/predict", 200) == 1
    assert count("GET", "unmatched", 404) == 1
    assert count("GET", "/batches/{batch_id}", 503) == 1
    assert count("_OTHER", "/predict", 405) == 1
