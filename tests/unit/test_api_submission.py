"""Uploads over HTTP become messages of the queue, once for each key."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import transfers
from shared.batches.message import Batch, BlobInput, parse_message
from shared.files.options import Options
from shared.records.artifact import Artifact
from shared.records.errors import StorageUnavailable
from tests.api_client import FakeStorage, a_client, an_async_client, errors_of
from tests.builders import a_csv, a_patient, json_lines

CSV = {"Content-Type": "text/csv"}
FILE = a_csv(a_patient(), a_patient(age=70))


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
def client(artifact: Artifact, storage: FakeStorage) -> TestClient:
    return a_client(artifact, storage.connect)


def sent(storage: FakeStorage) -> list[Batch]:
    """The messages of the queue, as the worker reads them."""
    found = [parse_message(body, "id", {"uploads"}) for body in storage.queue.bodies()]
    assert all(isinstance(batch, Batch) for batch in found)
    return found  # type: ignore[return-value]


def uploaded(storage: FakeStorage, batch: Batch) -> bytes:
    assert isinstance(batch.input, BlobInput)
    return storage.blobs.content(batch.input.container, batch.input.blob)


def test_a_file_becomes_a_batch(client: TestClient, storage: FakeStorage) -> None:
    answer = client.post("/batches", content=FILE, headers=CSV)

    assert answer.status_code == 202
    batch_id = answer.json()["batch_id"]
    place = f"/batches/{batch_id}"
    assert answer.headers["location"] == answer.headers["operation-location"] == place
    assert int(answer.headers["retry-after"]) > 0
    [batch] = sent(storage)
    assert batch.batch_id == batch_id
    assert isinstance(batch.input, BlobInput)
    assert (batch.input.format, batch.input.gzip, batch.options) == ("csv", False, Options())
    assert batch.input.etag is not None
    assert uploaded(storage, batch) == FILE
    assert client.get(place).json()["status"] == "queued"


@pytest.mark.parametrize(
    ("media_type", "format_", "content"),
    [
        ("text/csv; charset=utf-8", "csv", FILE),
        ("application/json", "json", json.dumps([a_patient()]).encode()),
        ("application/x-ndjson", "jsonl", json_lines(a_patient())),
        ("application/jsonl", "jsonl", json_lines(a_patient())),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_each_format_is_taken_also_packed(
    client: TestClient,
    storage: FakeStorage,
    media_type: str,
    format_: str,
    content: bytes,
    packed: bool,
) -> None:
    headers = {"Content-Type": media_type} | ({"Content-Encoding": "gzip"} if packed else {})
    body = gzip.compress(content) if packed else content

    answer = client.post("/batches?include_input=true", content=body, headers=headers)

    assert answer.status_code == 202
    [batch] = sent(storage)
    assert isinstance(batch.input, BlobInput)
    assert (batch.input.format, batch.input.gzip) == (format_, packed)
    assert batch.options.include_input
    assert uploaded(storage, batch) == body


def test_a_large_file_is_staged_in_blocks_and_never_held_whole(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FakeStorage()
    sizes: list[int] = []
    stage = storage.blobs.stage

    async def watched(container: str, name: str, block: str, content: bytes) -> None:
        sizes.append(len(content))
        await stage(container, name, block, content)

    monkeypatch.setattr(storage.blobs, "stage", watched)
    monkeypatch.setattr(transfers, "BLOCK", 1000)
    client = a_client(artifact, storage.connect)
    pieces = [b"age,sex\n", *([b"54,1\n" * 60] * 12)]

    answer = client.post("/batches", content=iter(pieces), headers=CSV)

    assert answer.status_code == 202
    assert sizes == [1000, 1000, 1000, 608]
    assert uploaded(storage, sent(storage)[0]) == b"".join(pieces)


def test_the_callers_trace_goes_into_the_message(client: TestClient, storage: FakeStorage) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    client.post("/batches", content=FILE, headers=CSV | {"traceparent": trace})
    client.post("/batches", content=FILE, headers=CSV | {"traceparent": "nonsense"})

    assert [batch.traceparent for batch in sent(storage)] == [trace, None]


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", CSV, 400, "malformed_body"),
        (FILE, {}, 415, "unsupported_media_type"),
        (FILE, {"Content-Type": "application/pdf"}, 415, "unsupported_media_type"),
        (FILE, CSV | {"Content-Encoding": "br"}, 415, "unsupported_media_type"),
        (FILE, CSV | {"Content-Encoding": "gzip"}, 400, "malformed_body"),
        (gzip.compress(FILE, mtime=0), CSV, 400, "malformed_body"),
        (b"%PDF-1.7", CSV, 400, "malformed_body"),
        (b"x" * 5000, CSV, 413, "body_too_large"),
        (FILE, CSV | {"Idempotency-Key": "with space"}, 422, "bad_parameter"),
        (FILE, CSV | {"Idempotency-Key": "k" * 256}, 422, "bad_parameter"),
    ],
)
def test_files_that_the_worker_would_refuse_are_refused_at_once(
    artifact: Artifact,
    storage: FakeStorage,
    content: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    client = a_client(artifact, storage.connect, upload_bytes=4096)

    answer = client.post("/batches", content=content, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert storage.queue.bodies() == []


def test_an_upload_without_length_is_refused_when_it_grows_too_large(
    artifact: Artifact, storage: FakeStorage
) -> None:
    client = a_client(artifact, storage.connect, upload_bytes=4096)

    answer = client.post("/batches", content=iter([b"x" * 3000] * 2), headers=CSV)

    assert answer.status_code == 413
    assert storage.blobs.names("uploads") == []


def test_a_wrong_parameter_is_named(client: TestClient) -> None:
    answer = client.post("/batches?include_input=2", content=FILE, headers=CSV)

    assert errors_of(answer) == [("", "unknown_value")]


# Forms


def a_form(*parts: tuple[str, bytes], end: str = "--") -> bytes:
    """A form of parts, each with the lines of its head."""
    body = b"".join(b"--limit\r\n%b\r\n\r\n%b\r\n" % (h.encode(), c) for h, c in parts)
    return body + f"--limit{end}\r\n".encode()


FORM = {"Content-Type": "multipart/form-data; boundary=limit"}
HEAD = 'Content-Disposition: form-data; name="file"; filename="patients.csv"'


@pytest.mark.parametrize(
    ("name", "media_type", "format_", "packed"),
    [
        ("patients.csv", "text/csv", "csv", False),
        ("patients.csv", "application/vnd.ms-excel", "csv", False),
        ("PATIENTS.CSV", "application/octet-stream", "csv", False),
        ("patients", "text/csv", "csv", False),
        ("patients.csv.gz", "application/gzip", "csv", True),
        ("patients.ndjson", "application/octet-stream", "jsonl", False),
    ],
)
def test_a_file_in_a_form_is_told_by_its_type_or_its_name(
    client: TestClient,
    storage: FakeStorage,
    name: str,
    media_type: str,
    format_: str,
    packed: bool,
) -> None:
    content = FILE if format_ == "csv" else json_lines(a_patient())
    content = gzip.compress(content) if packed else content

    answer = client.post("/batches", files={"file": (name, content, media_type)})

    assert answer.status_code == 202
    [batch] = sent(storage)
    assert isinstance(batch.input, BlobInput)
    assert (batch.input.format, batch.input.gzip) == (format_, packed)
    assert uploaded(storage, batch) == content


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_form_is_read_however_it_is_cut(
    client: TestClient, storage: FakeStorage, size: int
) -> None:
    content = FILE + b"\r\n--limi\r\n--\r\n"
    body = a_form((HEAD, content))
    pieces = [body[start : start + size] for start in range(0, len(body), size)]

    answer = client.post("/batches", content=iter(pieces), headers=FORM)

    assert answer.status_code == 202
    assert uploaded(storage, sent(storage)[0]) == content


def test_a_large_file_in_a_form_is_staged_in_blocks(
    client: TestClient, storage: FakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "BLOCK", 1000)
    sizes: list[int] = []
    stage = storage.blobs.stage

    async def watched(container: str, name: str, block: str, content: bytes) -> None:
        sizes.append(len(content))
        await stage(container, name, block, content)

    monkeypatch.setattr(storage.blobs, "stage", watched)
    body = a_form((HEAD, b"age,sex\n" + b"54,1\n" * 500))
    pieces = [body[start : start + 300] for start in range(0, len(body), 300)]

    answer = client.post("/batches", content=iter(pieces), headers=FORM)

    assert answer.status_code == 202
    assert sizes == [1000, 1000, 508]


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (a_form((HEAD, FILE), (HEAD, FILE)), FORM, 400, "malformed_body"),
        (a_form((HEAD, FILE))[:-8], FORM, 400, "malformed_body"),
        (a_form((HEAD, b"")), FORM, 400, "malformed_body"),
        (a_form(), FORM, 400, "malformed_body"),
        (b"", FORM, 400, "malformed_body"),
        (FILE, FORM, 400, "malformed_body"),
        (a_form(('Content-Disposition: form-data; name="a"', FILE)), FORM, 400, "malformed_body"),
        (a_form((HEAD, FILE)), {"Content-Type": "multipart/form-data"}, 400, "malformed_body"),
        (
            a_form((HEAD, FILE)),
            {"Content-Type": f"multipart/form-data; boundary={'x' * 5000}"},
            400,
            "malformed_body",
        ),
        (a_form((HEAD.replace("csv", "pdf"), FILE)), FORM, 415, "unsupported_media_type"),
        (a_form((HEAD, FILE)), FORM | {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
        (
            a_form((HEAD, FILE)),
            FORM | {"Sec-Fetch-Site": "cross-site"},
            415,
            "unsupported_media_type",
        ),
        (a_form((HEAD, b"x" * 5000)), FORM, 413, "body_too_large"),
    ],
)
def test_other_forms_are_refused_and_leave_nothing(
    artifact: Artifact,
    storage: FakeStorage,
    content: bytes,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    client = a_client(artifact, storage.connect, upload_bytes=4096)

    answer = client.post("/batches", content=content, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert storage.queue.bodies() == []
    assert storage.blobs.names("uploads") == []


# Idempotency


@pytest.mark.parametrize(
    "key", ["abc-1", '"abc-1"', ' "abc-1" ', '"abc-1";v=1', '"abc-1" ; a="b c";d', '"a\\"bc"']
)
def test_the_same_key_and_content_are_the_same_batch(
    client: TestClient, storage: FakeStorage, key: str
) -> None:
    bare = "abc-1" if "abc-1" in key else 'a\\"bc'
    first = client.post("/batches", content=FILE, headers=CSV | {"Idempotency-Key": f'"{bare}"'})
    again = client.post("/batches", content=FILE, headers=CSV | {"Idempotency-Key": key})

    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    one, other = sent(storage)
    assert one == other


def test_a_repeat_after_the_end_sends_nothing(client: TestClient, storage: FakeStorage) -> None:
    headers = CSV | {"Idempotency-Key": "abc-1"}
    batch_id = client.post("/batches", content=FILE, headers=headers).json()["batch_id"]
    storage.finish(batch_id)

    again = client.post("/batches", content=FILE, headers=headers)

    assert again.status_code == 202
    assert len(sent(storage)) == 1


@pytest.mark.parametrize(
    ("content", "headers", "query"),
    [
        (FILE + b"1,2\n", CSV, ""),
        (FILE, CSV, "?include_input=true"),
        (FILE, {"Content-Type": "application/jsonl"}, ""),
        (gzip.compress(FILE, mtime=0), CSV | {"Content-Encoding": "gzip"}, ""),
    ],
)
def test_the_same_key_with_another_content_is_refused(
    client: TestClient, storage: FakeStorage, content: bytes, headers: dict[str, str], query: str
) -> None:
    key = {"Idempotency-Key": "abc-1"}
    client.post("/batches", content=FILE, headers=CSV | key)

    answer = client.post(f"/batches{query}", content=content, headers=headers | key)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    [batch] = sent(storage)
    assert uploaded(storage, batch) == FILE


@pytest.mark.parametrize("call", ["create", "commit", "send"])
def test_a_repeat_after_a_broken_try_ends_in_one_whole_batch(
    artifact: Artifact, storage: FakeStorage, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = a_client(artifact, storage.connect)
    headers = CSV | {"Idempotency-Key": "abc-1"}

    async def fails(*_: Any) -> Any:
        raise StorageUnavailable("down")

    with monkeypatch.context() as broken:
        broken.setattr(storage.queue if call == "send" else storage.blobs, call, fails)
        assert client.post("/batches", content=FILE, headers=headers).status_code == 503
    assert storage.queue.bodies() == []

    answer = client.post("/batches", content=FILE, headers=headers)

    assert answer.status_code == 202
    [batch] = sent(storage)
    assert uploaded(storage, batch) == FILE


async def test_uploads_at_once_under_one_key_are_one_batch(
    artifact: Artifact, storage: FakeStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = asyncio.Barrier(4)
    create = storage.blobs.create

    async def together(*what: Any) -> Any:
        async with asyncio.timeout(60):
            await at_once.wait()
        return await create(*what)

    monkeypatch.setattr(storage.blobs, "create", together)
    headers = CSV | {"Idempotency-Key": "abc-1"}

    async with an_async_client(artifact, storage.connect) as client:
        calls = [client.post("/batches", content=FILE, headers=headers) for _ in range(4)]
        answers = await asyncio.gather(*calls)

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["batch_id"] for answer in answers}) == 1
    assert {uploaded(storage, batch) for batch in sent(storage)} == {FILE}
