"""HTTP apart from bodies: HEAD, OPTIONS, conditions, ranges, compression."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from shared.records.artifact import Artifact
from tests.api_client import FakeStorage, a_client
from tests.builders import a_patient

SCORES = b"row,probability\n1,0.5\n"
PLAIN = {"Accept-Encoding": "identity"}


@pytest.fixture
def storage() -> FakeStorage:
    storage = FakeStorage()
    storage.finish("b1")
    return storage


@pytest.fixture
def client(artifact: Artifact, storage: FakeStorage) -> TestClient:
    client = a_client(artifact, storage.connect)
    client.headers.update(PLAIN)
    return client


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/model", "/docs", "/openapi.json", "/static/docs.js", "/batches",
     "/batches/b1", "/batches/b1/scores", "/v2", "/v2/models/heart-cleveland"],
)  # fmt: skip
def test_head_is_answered_like_get_without_a_body(client: TestClient, path: str) -> None:
    head, get = client.head(path), client.get(path)

    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers.get("content-type") == get.headers.get("content-type")
    assert head.headers.get("content-length") == get.headers.get("content-length")


def test_head_of_a_path_without_get_names_its_methods(client: TestClient) -> None:
    answer = client.head("/predict")

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/predict", "POST, OPTIONS"),
        ("/batches", "GET, POST, HEAD, OPTIONS"),
        ("/model", "GET, HEAD, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_names_the_methods(client: TestClient, path: str, allow: str) -> None:
    answer = client.options(path)

    assert (answer.status_code, answer.headers["allow"]) == (204, allow)


def test_docs_with_a_slash_leads_to_docs(client: TestClient) -> None:
    answer = client.get("/docs/")

    assert answer.status_code == 200
    assert answer.url.path == "/docs"


# Scores


def test_a_caller_who_has_the_scores_gets_304(client: TestClient) -> None:
    etag = client.get("/batches/b1/scores").headers["etag"]

    for tags in (etag, f'W/{etag}, "other"', "*"):
        answer = client.get("/batches/b1/scores", headers={"If-None-Match": tags})
        assert (answer.status_code, answer.content) == (304, b"")
    other = client.get("/batches/b1/scores", headers={"If-None-Match": '"other"'})
    assert other.content == SCORES


def test_scores_of_another_version_are_refused(client: TestClient) -> None:
    etag = client.get("/batches/b1/scores").headers["etag"]

    same = client.get("/batches/b1/scores", headers={"If-Match": etag})
    other = client.get("/batches/b1/scores", headers={"If-Match": '"other"'})

    assert same.status_code == 200
    assert (other.status_code, other.json()["code"]) == (412, "precondition_failed")


@pytest.mark.parametrize(
    ("wanted", "status", "content", "content_range"),
    [
        ("bytes=4-", 206, SCORES[4:], "bytes 4-21/22"),
        ("bytes=4-7", 206, SCORES[4:8], "bytes 4-7/22"),
        ("bytes=0-999", 206, SCORES, "bytes 0-21/22"),
        ("bytes=-6", 206, SCORES[-6:], "bytes 16-21/22"),
        ("bytes=0-1,4-5", 200, SCORES, None),
        ("rows=1-2", 200, SCORES, None),
        ("bytes=-", 200, SCORES, None),
    ],
)
def test_a_range_of_the_scores_is_sent(
    client: TestClient, wanted: str, status: int, content: bytes, content_range: str | None
) -> None:
    answer = client.get("/batches/b1/scores", headers={"Range": wanted})

    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers.get("content-range") == content_range
    assert answer.headers["content-length"] == str(len(content))


def test_a_range_outside_of_the_scores_is_refused(client: TestClient) -> None:
    answer = client.get("/batches/b1/scores", headers={"Range": "bytes=22-"})

    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */22"


def test_a_broken_download_goes_on_unless_the_scores_are_others(client: TestClient) -> None:
    etag = client.get("/batches/b1/scores").headers["etag"]
    rest = {"Range": "bytes=10-"}

    assert client.get("/batches/b1/scores", headers=rest | {"If-Range": etag}).status_code == 206
    other = client.get("/batches/b1/scores", headers=rest | {"If-Range": '"x"'})
    assert (other.status_code, other.content) == (200, SCORES)


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        (
            "csv",
            'row,patient_id,probability,prediction,warnings,error\n1,"a ""\nb",0.5,1,,\n'
            '2,"c\nd",,,,"out_of_range: age, too old"\n3,é,0.1,0,,\n4,e\u2028f,,,,malformed\n',
            "row,patient_id,probability,prediction,warnings,error\n"
            '2,"c\nd",,,,"out_of_range: age, too old"\n4,e\u2028f,,,,malformed\n',
        ),
        (
            "jsonl",
            '{"row":1,"error":null}\n{"row":2,"error":"malformed"}\n',
            '{"row":2,"error":"malformed"}\n',
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_only_rejected_rows_are_sent_on_request(
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    content: str,
    expected: str,
    size: int,
) -> None:
    storage = FakeStorage()
    name = f"b2/all.{kind}"
    etag = storage.blobs.put("scores", name, content.encode())
    output = {"container": "scores", "blob": name, "etag": etag, "bytes": len(content.encode())}
    storage.finish("b2", output=output)
    chunks = storage.blobs.chunks

    async def in_pieces(*source: Any) -> AsyncIterator[bytes]:
        async for piece in chunks(*source):
            for start in range(0, len(piece), size):
                yield piece[start : start + size]

    monkeypatch.setattr(storage.blobs, "chunks", in_pieces)

    answer = a_client(artifact, storage.connect).get("/batches/b2/scores?only=rejected")

    assert answer.text == expected
    assert "b2-rejected" in answer.headers["content-disposition"]


@pytest.mark.parametrize(
    ("query", "expected", "name"),
    [
        (
            "format=excel",
            "\ufeffrow;id;p;warnings;error\r\n1;é;0,5;;\r\n2;;;;bad\r\n",
            "scores-excel",
        ),
        (
            "format=excel-point",
            "\ufeffrow,id,p,warnings,error\r\n1,é,0.5,,\r\n2,,,,bad\r\n",
            "point",
        ),
        (
            "format=excel&only=rejected",
            "\ufeffrow;id;p;warnings;error\r\n2;;;;bad\r\n",
            "b5-rejected",
        ),
    ],
)
def test_scores_are_sent_for_excel_on_request(
    client: TestClient, storage: FakeStorage, query: str, expected: str, name: str
) -> None:
    content = "row,id,p,warnings,error\n1,é,0.5,,\n2,,,,bad\n".encode()
    for kind in ("csv", "jsonl"):
        blob = f"b5/all.{kind}"
        etag = storage.blobs.put("scores", blob, content)
        output = {"container": "scores", "blob": blob, "etag": etag, "bytes": len(content)}
        storage.finish("b5" if kind == "csv" else "b6", output=output)

    answer, other = (client.get(f"/batches/{batch}/scores?{query}") for batch in ("b5", "b6"))

    assert answer.content.decode() == expected
    assert name in answer.headers["content-disposition"]
    assert "accept-ranges" not in answer.headers
    assert answer.headers["etag"] != client.get("/batches/b5/scores").headers["etag"]
    assert other.status_code == 422


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_scores_of_a_batch_without_differ_from_those_of_an_unknown_one(
    client: TestClient, storage: FakeStorage, status: str
) -> None:
    storage.finish("b3", status=status, reason="no column age")

    without, unknown = client.get("/batches/b3/scores"), client.get("/batches/b4/scores")

    assert (without.status_code, without.json()["code"]) == (409, "no_scores")
    assert "no column age" in without.json()["detail"]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


# Compression


def test_large_answers_are_packed_on_request(client: TestClient) -> None:
    packed = {"Accept-Encoding": "gzip"}

    large = client.post("/predict/many", json=[a_patient()] * 20, headers=packed)
    small = client.get("/livez", headers=packed)
    scores = client.get("/batches/b1/scores", headers=packed)

    assert large.headers["content-encoding"] == "gzip"
    assert large.json()["rows"]["scored"] == 20
    assert "content-encoding" not in small.headers
    assert scores.headers["content-encoding"] == "gzip"
    assert scores.content == SCORES


def test_static_files_are_packed_and_asked_for_once(client: TestClient) -> None:
    first = client.get("/static/swagger-ui-bundle.js", headers={"Accept-Encoding": "gzip"})

    again = client.get(
        "/static/swagger-ui-bundle.js", headers={"If-None-Match": first.headers["etag"]}
    )

    assert first.headers["content-encoding"] == "gzip"
    assert again.status_code == 304
