"""Both images beside Azurite on a network: the whole path, and a worker that is killed."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.local import ROOT
from shared.batches.message import Envelope, EnvelopeInput
from shared.storage.azure import Storage
from tests.containers.conftest import PORTS, StartApp
from tests.containers.engine import docker
from tests.e2e.client import QUEUE, get, outcome, post, scores

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

PATIENT = {"age": 63, "sex": "male", "cp": "asymptomatic", "chol": 233}
ROWS = 40_000
BLOCK_ROWS = 100


def url(container: DockerContainer, app: str) -> str:
    host, port = container.get_container_host_ip(), container.get_exposed_port(PORTS[app])
    return f"http://{host}:{port}"


def new_id(word: str) -> str:
    return f"{word}-{uuid.uuid4().hex[:8]}"


def test_a_record_is_scored_over_http(api: DockerContainer) -> None:
    status, answer = post(f"{url(api, 'api')}/predict", PATIENT)

    assert status == 200
    assert 0 < answer["probability"] < 1


def test_the_pages_and_the_model_card_are_in_the_image(api: DockerContainer) -> None:
    paths = ("/docs", "/openapi.json", "/model", "/model-card", "/livez", "/readyz")

    assert [get(url(api, "api") + path)[0] for path in paths] == [200] * len(paths)


def test_the_images_own_health_check_is_content(
    api: DockerContainer, worker: DockerContainer
) -> None:
    for container in (api, worker):
        [found] = json.loads(docker("inspect", container.get_container_id()).stdout)
        check = found["Config"]["Healthcheck"]["Test"][1:]

        assert docker("exec", container.get_container_id(), *check).returncode == 0


def test_a_file_submitted_from_the_host_is_scored_as_the_api_scores(
    api: DockerContainer, worker: DockerContainer, connection_string: str, tmp_path: Path
) -> None:
    file, output = tmp_path / "patients.csv", tmp_path / "scores.csv"
    file.write_text(",".join(PATIENT) + "\n" + ",".join(map(str, PATIENT.values())) + "\n")

    done = subprocess.run(
        [sys.executable, "-m", "cli", "submit", file, "--wait", "--output", output],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"AZURE_STORAGE_CONNECTION_STRING": connection_string},
    )

    assert done.returncode == 0, done.stderr
    [row] = csv.DictReader(output.read_text().splitlines())
    _, answer = post(f"{url(api, 'api')}/predict", PATIENT)
    assert float(row["probability"]) == answer["probability"]


async def test_a_message_that_is_no_batch_ends_in_the_poison_queue(
    worker: DockerContainer, storage: Storage
) -> None:
    batch = new_id("bad")
    body = {"schema": "heart-scorer/1", "batch_id": batch, "csv": "chol,sex\n233,male\n"}

    await storage.queue(QUEUE).send(json.dumps(body))
    summary = await outcome(storage, batch)

    assert summary["status"] == "failed"
    for _ in range(50):
        poison = [message.body for message in await storage.queue(f"{QUEUE}-poison").peek(32)]
        if any(batch in text for text in poison):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{batch} is not in {poison}")


async def test_a_worker_killed_in_the_middle_of_a_file_is_followed_by_another(
    start_app: StartApp, storage: Storage
) -> None:
    batch = new_id("killed")
    env = {
        "SCORER_QUEUE": batch,
        "SCORER_BLOCK_ROWS": str(BLOCK_ROWS),
        "SCORER_VISIBILITY_SECONDS": "4",
        "SCORER_RENEW_SECONDS": "1",
    }
    lines = ["patient_id,age,sex,chol", *(f"p-{n},{30 + n % 45},male,233" for n in range(ROWS))]
    content = "\n".join(lines).encode()

    with start_app("worker", **env) as victim:
        await storage.blobs().create("uploads", f"{batch}.csv", content, "text/csv")
        source = EnvelopeInput(container="uploads", blob=f"{batch}.csv")
        await storage.queue(batch).send(Envelope(batch_id=batch, input=source).text())
        before = await _some_blocks(storage, batch)
        docker("kill", "--signal", "KILL", victim.get_container_id())
        [killed] = json.loads(docker("inspect", victim.get_container_id()).stdout)
    with start_app("worker", **env):
        summary = await outcome(storage, batch, seconds=90)

    assert killed["State"]["ExitCode"] == 137
    assert 0 < before < ROWS / BLOCK_ROWS
    assert summary["deliveries"] > 1
    assert summary["rows"]["scored"] == ROWS
    rows = [*csv.DictReader(io.StringIO((await scores(storage, summary)).decode()))]
    assert [row["patient_id"] for row in rows] == [f"p-{n}" for n in range(ROWS)]


async def _some_blocks(storage: Storage, batch: str) -> int:
    """Wait until the worker is well into the file; return how many blocks it has staged."""
    for _ in range(1200):
        staged = await storage.blobs().staged("scores", f"{batch}/scores.csv")
        if len(staged) >= 20:
            return len(staged)
        await asyncio.sleep(0.05)
    raise AssertionError("the worker staged nothing")


def test_the_worker_shows_its_metrics(worker: DockerContainer) -> None:
    with urllib.request.urlopen(url(worker, "worker") + "/metrics") as answer:
        assert "heart_scorer_rows_total" in answer.read().decode()
