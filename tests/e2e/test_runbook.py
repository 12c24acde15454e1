"""Cases of the runbook, played: its commands show the cause that it names."""

from __future__ import annotations

import json
import socket
import urllib.request
import uuid
from pathlib import Path

import pytest

from cli.local import Running, azurite, connection_string
from shared.batches.message import Envelope, EnvelopeInput
from shared.storage.azure import Storage
from tests.builders import a_csv, a_patient
from tests.conftest import open_azurite
from tests.e2e.command import call, call_here

pytestmark = pytest.mark.slow


def a_name() -> str:
    return f"runbook-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    file = tmp_path / "mixed.csv"
    file.write_bytes(a_csv(a_patient(), a_patient(age=999)))
    return file


async def test_batches_do_not_come_without_a_worker(mixed: Path, tmp_path: Path) -> None:
    with azurite(None, tmp_path) as alone:
        async with open_azurite(alone.connection_string) as storage:
            for queue in ("patient-batches", "patient-batches-poison"):
                await storage.queue(queue).create()
            for container in ("incoming", "uploads", "scores"):
                await storage.blobs().create_container(container)
        call(alone.connection_string, "submit", str(mixed), "--batch-id", "ward")

        status = call(alone.connection_string, "status")
        queue_ = call(alone.connection_string, "queue")

    assert status.stdout.startswith("waiting 1 (oldest ")
    assert "workers 0 (none was seen)" in status.stdout
    assert "queued     ward" in status.stdout
    assert "uploads/ward/input.csv" in queue_.stdout


async def test_a_message_waits_for_its_blob(running: Running, storage: Storage) -> None:
    name = a_name()
    missing = EnvelopeInput(container="uploads", blob=f"{name}.csv")
    await storage.queue("patient-batches").send(Envelope(batch_id=name, input=missing).text())

    shown = ""
    for _ in range(60):
        shown = (await call_here(running, "status", name)).stdout
        if "waiting  " in shown:
            break

    assert "the input blob is not there" in shown
    assert "next attempt in" in shown
    assert "workers 1 (seen " in (await call_here(running, "status")).stdout


def test_a_failed_batch_says_why_and_which_file(running: Running, tmp_path: Path) -> None:
    file, name = tmp_path / "no-age.csv", a_name()
    file.write_text("sex,chol\nmale,233\n")
    call(running, "submit", str(file), "--no-check", "--wait", "--batch-id", name)

    failed = call(running, "status", "--failed", "--since", "24h")
    shown = call(running, "poison", "show", name)

    assert any(name in line and "`age`" in line for line in failed.stdout.splitlines())
    assert f"uploads/{name}/input.csv (18 bytes)" in shown.stdout
    assert "model       heart-cleveland " in shown.stdout


def test_rejected_rows_say_field_and_limit(running: Running, mixed: Path) -> None:
    name = a_name()
    call(running, "submit", str(mixed), "--wait", "--batch-id", name)

    assert "1 out_of_range" in call(running, "status", name).stdout
    assert "out_of_range: age must be from" in call(running, "scores", name, "--rejected").stdout


def test_scores_are_verified_and_name_their_model(
    running: Running, mixed: Path, artifact_dir: Path
) -> None:
    name = a_name()
    call(running, "submit", str(mixed), "--wait", "--batch-id", name)

    verified = call(running, "verify", name, "--model-dir", str(artifact_dir))
    model = json.loads(call(running, "status", name, "--json").stdout)["model"]

    assert "0 differ" in verified.stdout
    assert len(model["sha256"]) == 64


def test_the_api_says_whether_it_is_ready(running: Running) -> None:
    with urllib.request.urlopen(f"{running.api_url}/readyz") as answer:
        assert answer.status == 200


def test_storage_that_hangs_is_named_within_seconds(artifact_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        port = silent.getsockname()[1]
        done = call(connection_string(port, port), "doctor", SCORER_MODEL_DIR=str(artifact_dir))

    assert done.returncode == 1
    assert "storage does not answer within 5 s" in done.stdout
    assert f"http://127.0.0.1:{port}/" in done.stdout
