"""`docker compose up --build --wait` on a clean machine, and its end, as a user would see them."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from cli.local import ROOT, connection_string
from shared.batches.message import Envelope, EnvelopeInput
from shared.storage.azure import Storage
from tests.conftest import open_azurite
from tests.containers.engine import docker
from tests.e2e.client import QUEUE, get, outcome, post, scores
from tests.ports import free_port

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

SAMPLE = ROOT / "samples/patients.csv"


class Project:
    """docker-compose.yml under a name and on ports of its own."""

    def __init__(self) -> None:
        self.ports = [free_port() for _ in range(4)]
        names = ("API_PORT", "BLOB_PORT", "QUEUE_PORT", "PROMETHEUS_PORT")
        self.env = dict(zip(names, map(str, self.ports), strict=True))
        self.env["COMPOSE_PROJECT_NAME"] = f"test-{uuid.uuid4().hex[:8]}"
        self.url = f"http://127.0.0.1:{self.ports[0]}"
        # The line that docs/containers.md gives.
        self.storage = connection_string(self.ports[1], self.ports[2])

    def compose(self, *words: str) -> str:
        files = ("--file", "docker-compose.yml")  # and no override of somebody's own
        return docker("compose", *files, *words, env=self.env, seconds=800).stdout

    def states(self, service: str) -> list[Mapping[str, object]]:
        found = [
            json.loads(line)
            for line in self.compose("ps", "--all", "--format", "json").splitlines()
        ]
        return [state for state in found if state["Service"] == service]

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=120,
            env=os.environ | {"AZURE_STORAGE_CONNECTION_STRING": self.storage},
        )


@pytest.fixture(scope="module")
def project(images: dict[str, str]) -> Iterator[Project]:
    # The images exist, so `--build` finds every layer in the cache.
    up = Project()
    try:
        up.compose("up", "--build", "--wait")
        yield up
    finally:
        up.compose("--profile", "monitoring", "down", "--volumes", "--timeout", "5")


def test_everything_is_healthy_and_the_published_port_answers(project: Project) -> None:
    health = [project.states(service)[0]["Health"] for service in ("azurite", "api", "worker")]

    status, answer = post(f"{project.url}/predict", {"age": 63, "sex": 1})

    assert health == ["healthy"] * 3
    assert status == 200
    assert 0 < answer["probability"] < 1


def test_a_file_submitted_from_the_host_is_scored(project: Project, tmp_path: Path) -> None:
    output = tmp_path / "scores.csv"

    done = project.cli("submit", str(SAMPLE), "--wait", "--output", str(output))

    assert done.returncode == 0, done.stderr
    with SAMPLE.open(newline="") as sent, output.open(newline="") as scored:
        names = [[row["patient_id"] for row in csv.DictReader(file)] for file in (sent, scored)]
    assert names[0] == names[1]


async def test_a_file_that_cannot_be_scored_fails_and_is_poisoned(
    project: Project, tmp_path: Path
) -> None:
    file = tmp_path / "no-age.csv"
    file.write_text("sex,chol\nmale,233\n")

    done = project.cli("submit", str(file), "--batch-id", "poisoned", "--no-check", "--wait")

    assert done.returncode == 1
    async with open_azurite(project.storage) as storage:
        [entry] = await storage.queue(f"{QUEUE}-poison").peek(32)
    assert json.loads(entry.body)["batch_id"] == "poisoned"


def test_three_workers_are_as_good_as_one(project: Project) -> None:
    project.compose("up", "--wait", "--scale", "worker=3")

    workers = project.states("worker")
    done = project.cli("submit", str(SAMPLE), "--wait")
    project.compose("up", "--wait", "--scale", "worker=1")

    assert [worker["Health"] for worker in workers] == ["healthy"] * 3
    assert done.returncode == 0, done.stderr


def test_prometheus_of_the_monitoring_profile_reads_both_apps(project: Project) -> None:
    config = json.loads(project.compose("--profile", "monitoring", "config", "--format", "json"))
    image = config["services"]["prometheus"]["image"]
    if docker("image", "inspect", image, check=False).returncode != 0:
        pulled = docker("pull", "--quiet", image, check=False, seconds=600)
        if pulled.returncode != 0:
            pytest.skip(f"{image} cannot be pulled: {pulled.stderr.strip()[-200:]}")

    project.compose("--profile", "monitoring", "up", "--wait", "prometheus")

    query = f"http://127.0.0.1:{project.ports[3]}/api/v1/query?query=heart_scorer_build_info"
    for _ in range(600):
        with suppress(httpx.TransportError):  # still starting
            found = json.loads(get(query)[1])["data"]["result"]
            jobs = {series["metric"]["job"] for series in found}
            if jobs == {"heart-scorer-api", "heart-scorer-worker"}:
                return
        time.sleep(0.2)
    raise AssertionError(project.compose("--profile", "monitoring", "logs", "prometheus"))


async def test_down_in_the_middle_of_work_loses_no_message(project: Project) -> None:
    rows = 100_000
    lines = ["patient_id,age,sex,chol", *(f"p-{n},{30 + n % 45},male,233" for n in range(rows))]
    batches = [f"down-{number}" for number in range(40)]  # seconds of work
    content = gzip.compress("\n".join(lines).encode())
    source = EnvelopeInput(container="uploads", blob="large.csv.gz")
    async with open_azurite(project.storage) as storage:
        await storage.blobs().create("uploads", "large.csv.gz", content, "text/csv")
        for batch in batches:
            await storage.queue(QUEUE).send(Envelope(batch_id=batch, input=source).text())
        await _until_work_has_begun(storage, batches[0])

    # Like `down`, but the containers can still be inspected.
    project.compose("stop")
    ends = [project.states(service)[0]["ExitCode"] for service in ("azurite", "api", "worker")]
    project.compose("down")
    project.compose("up", "--wait")
    async with open_azurite(project.storage) as storage:
        summaries = [await outcome(storage, batch, seconds=300) for batch in batches]
        last = (await scores(storage, summaries[-1])).splitlines()

    assert ends == [0, 0, 0]
    assert any(summary["deliveries"] > 1 for summary in summaries)  # it was in the middle of work
    assert [summary["rows"]["scored"] for summary in summaries] == [rows] * len(batches)
    assert [line.split(b",")[1] for line in last[1:]] == [b"p-%d" % n for n in range(rows)]


async def _until_work_has_begun(storage: Storage, batch: str) -> None:
    for _ in range(600):
        if await storage.blobs().staged("scores", f"{batch}/scores.csv"):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"no block of {batch} was staged")


def test_the_override_starts_the_api_again_when_a_file_changes(
    project: Project, tmp_path: Path
) -> None:
    # Over a copy of the code, so that no working tree is changed.
    for name in ("docker-compose.yml", "compose.override.example.yml"):
        shutil.copy(ROOT / name, tmp_path / name.replace(".example", ""))
    for folder in ("api", "shared"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    files = [f"--file={tmp_path / name}" for name in ("docker-compose.yml", "compose.override.yml")]
    docker("compose", *files, "up", "--wait", "--no-build", "api", env=project.env)

    schemas = tmp_path / "api/schemas.py"
    live = "    live: Literal[True] = True\n"
    changed = schemas.read_text().replace(live, live + "    again: bool = True\n")
    assert "again" in changed
    schemas.write_text(changed)
    for _ in range(300):
        try:
            if get(f"{project.url}/livez") == (200, b'{"live":true,"again":true}'):
                return
        except httpx.TransportError:  # between two processes
            pass
        time.sleep(0.1)
    raise AssertionError(docker("compose", *files, "logs", "api", env=project.env).stdout)
