"""Batches over HTTP through real storage and a real worker, and the page that shows them."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.local import Running
from tests.api_process import ROOT, RunningApi, running_api
from tests.builders import a_csv, a_patient, json_lines
from tests.conftest import open_azurite


@pytest.fixture
def client(running: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=running.api_url, timeout=60) as opened:
        yield opened


def finished(client: httpx2.Client, place: str) -> dict[str, Any]:
    """Ask until the batch has ended."""
    for _ in range(1200):
        state: dict[str, Any] = client.get(place).json()
        if state["status"] in ("succeeded", "failed"):
            return state
        assert state["status"] in ("queued", "running")
        time.sleep(0.1)
    raise AssertionError("the batch did not end")


@pytest.mark.azurite
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_comes_back_as_scores(client: httpx2.Client, kind: str, packed: bool) -> None:
    records = [a_patient(patient_id="a"), a_patient(age=5), a_patient(patient_id="c")]
    content = a_csv(*records) if kind == "csv" else json_lines(*records)
    headers = {"Content-Type": "text/csv" if kind == "csv" else "application/jsonl"}
    if packed:
        content, headers["Content-Encoding"] = gzip.compress(content), "gzip"

    sent = client.post("/batches", content=content, headers=headers)
    state = finished(client, sent.headers["location"])

    assert sent.status_code == 202
    assert state["status"] == "succeeded"
    assert state["rows"] == {"total": 3, "scored": 2, "rejected": 1}
    plain = {"Accept-Encoding": "identity"}
    scores = client.get(sent.headers["location"] + "/scores", headers=plain)
    assert scores.headers["content-length"] == str(len(scores.content))
    alone = client.post("/predict", json=records[0]).json()["probability"]
    assert scores.text.count(str(alone)) == 2


@pytest.mark.azurite
def test_a_file_larger_than_memory_would_be_is_streamed(client: httpx2.Client) -> None:
    line = b"54,1,3,130,250\n" * 1000
    pieces = [b"age,sex,cp,trestbps,chol\n", *([line] * 700)]

    sent = client.post("/batches", content=iter(pieces), headers={"Content-Type": "text/csv"})
    state = finished(client, sent.headers["location"])

    assert state["rows"]["scored"] == 700_000
    with client.stream("GET", sent.headers["location"] + "/scores") as scores:
        assert sum(piece.count(b"\n") for piece in scores.iter_bytes()) == 700_001


@pytest.mark.azurite
def test_a_file_that_is_none_fails_with_its_reason(client: httpx2.Client) -> None:
    sent = client.post("/batches", content=b"a,b\n1,2\n", headers={"Content-Type": "text/csv"})

    state = finished(client, sent.headers["location"])

    assert state["status"] == "failed"
    assert state["reason"]
    assert client.get(sent.headers["location"] + "/scores").status_code == 409


@pytest.mark.azurite
def test_many_uploads_at_once_under_one_key_are_one_batch(client: httpx2.Client) -> None:
    async def upload() -> list[httpx2.Response]:
        headers = {"Content-Type": "text/csv", "Idempotency-Key": f"key-{time.time()}"}
        async with httpx2.AsyncClient(base_url=client.base_url, timeout=60) as at_once:
            calls = [
                at_once.post("/batches", content=a_csv(a_patient()), headers=headers)
                for _ in range(4)
            ]
            return await asyncio.gather(*calls)

    answers = asyncio.run(upload())

    assert {answer.status_code for answer in answers} == {202}
    [place] = {answer.headers["location"] for answer in answers}
    assert finished(client, place)["rows"]["total"] == 1


@pytest.mark.slow
def test_while_storage_is_down_batches_are_503_and_scores_go_on(
    artifact_dir: Path, tmp_path: Path
) -> None:
    nowhere = (
        "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;"
        "BlobEndpoint=http://127.0.0.1:9/a;QueueEndpoint=http://127.0.0.1:9/a;"
    )
    log = tmp_path / "log"
    with running_api(artifact_dir, log, AZURE_STORAGE_CONNECTION_STRING=nowhere) as api:

        async def both() -> tuple[httpx2.Response, int]:
            async with httpx2.AsyncClient(base_url=api.url, timeout=60) as client:
                headers = {"Content-Type": "text/csv"}
                upload = asyncio.create_task(
                    client.post("/batches", content=b"age,sex\n54,1\n", headers=headers)
                )
                scored = 0
                while not upload.done():
                    answer = await client.post("/predict", json=a_patient())
                    assert answer.status_code == 200
                    scored += 1
                    await asyncio.sleep(0.02)
                return await upload, scored

        refused, scored = asyncio.run(both())

    assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert scored > 3


@pytest.mark.azurite
def test_the_pages_examples_run_as_written(running: Running, tmp_path: Path) -> None:
    page = "".join((ROOT / f"docs/{name}.md").read_text() for name in ("http", "inference"))
    commands = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    answers: list[str] = []

    for command in commands:
        done = subprocess.run(
            ["bash", "-ec", command.replace("http://localhost:8000", running.api_url)],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        answers.append(done.stdout)

    predict, explained, many, sent, refused, inferred = answers
    assert json.loads(predict)["patient_id"] == "A-7"
    assert json.loads(predict)["probability"] == json.loads(explained)["probability"]
    assert json.loads(many)["rows"] == {"total": 2, "scored": 1, "rejected": 1}
    assert sent.startswith("HTTP/1.1 202")
    assert len(json.loads(inferred)["outputs"][0]["data"]) == 2
    assert "mmol/l" in json.loads(refused)["errors"][0]["hint"]


async def leave_scores(connection_string: str, batch_id: str, content: bytes) -> None:
    """Leave scores and a summary as a worker does."""
    async with open_azurite(connection_string) as storage:
        blobs, name = storage.blobs(), f"{batch_id}/scores.csv"
        await blobs.create_container("scores")
        facts = await blobs.create("scores", name, content, "text/csv")
        summary = {
            "batch_id": batch_id,
            "status": "succeeded",
            "rows": {"total": 1, "scored": 1, "rejected": 0},
            "identity": {"container": "uploads", "blob": f"{batch_id}/input.csv"},
            "output": {
                "container": "scores",
                "blob": name,
                "etag": facts.etag,
                "bytes": facts.size,
            },
        }
        text = json.dumps(summary).encode()
        await blobs.create("scores", f"{batch_id}/summary.json", text, "application/json")


def wait_for(api: RunningApi, event: str) -> None:
    for _ in range(1200):
        if event in [line["event"] for line in api.lines()]:
            return
        time.sleep(0.1)
    raise AssertionError(f"the log never had {event}")


def open_files(api: RunningApi) -> int:
    return len(os.listdir(f"/proc/{api.process.pid}/fd"))


@pytest.mark.azurite
def test_a_reader_that_stops_reading_does_not_block_others(
    connection_string: str, artifact_dir: Path, tmp_path: Path
) -> None:
    content = b"1,A,0.5,1,,\n" * 2_000_000  # more than all buffers on the way
    asyncio.run(leave_scores(connection_string, "stalled", content))
    settings = {
        "AZURE_STORAGE_CONNECTION_STRING": connection_string,
        "SCORER_BODY_SECONDS": "1",
        "SCORER_TRANSFERS": "1",
    }
    with (
        running_api(artifact_dir, tmp_path / "log", **settings) as api,
        httpx2.Client(base_url=api.url, timeout=60) as client,
    ):
        client.get("/batches/stalled/scores")  # opens the connections to storage
        before = open_files(api)
        with api.connect() as stalled:
            stalled.sendall(b"GET /batches/stalled/scores HTTP/1.1\r\nHost: api\r\n\r\n")
            begun = stalled.recv(1000)
            scored = client.post("/predict", json=a_patient())
            wait_for(api, "answer_not_read")
        whole = client.get("/batches/stalled/scores", headers={"Accept-Encoding": "identity"})
        after = open_files(api)

    assert begun.startswith(b"HTTP/1.1 200")
    assert scored.status_code == 200
    assert whole.content == content
    assert after <= before
    assert [line for line in api.lines() if line["level"] not in ("info", "warning")] == []
