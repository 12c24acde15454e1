"""The whole path on tokens alone: no key, no connection string, and the roles of the templates."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cli.local import process, wait_until
from tests.api_process import running_api
from tests.azure_cloud import Cloud, azure
from tests.e2e.client import get
from tests.e2e.command import call
from tests.ports import free_port
from tests.templates import grants

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "patients.csv"


@pytest.fixture(scope="module")
def cloud(connection_string: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Asks for `connection_string` so that Azurite is installed, or the test skipped."""
    with azure(grants("dev"), tmp_path_factory.mktemp("azure")) as started:
        yield started


@pytest.fixture(autouse=True)
def _identity_answers_again(cloud: Cloud) -> Iterator[None]:
    yield
    cloud.identity_answers = None
    cloud.denied.clear()
    cloud.calls.clear()
    cloud.tokens.clear()


@contextmanager
def worker(cloud: Cloud, artifact_dir: Path, log: Path) -> Iterator[str]:
    """A worker with its identity; yields the address of its health."""
    port = free_port()
    settings = {
        "SCORER_HEALTH_PORT": str(port),
        "SCORER_IDLE_SECONDS": "0.3",
        "SCORER_MODEL_DIR": str(artifact_dir),
    }
    command = [sys.executable, "-m", "worker"]
    with process(command, log, cloud.environment("worker") | settings) as child:
        url = f"http://127.0.0.1:{port}"
        wait_until(child, f"{url}/livez", log)
        yield url


def is_ready(url: str) -> bool:
    return get(f"{url}/readyz")[0] == 200


def wait_until_true(condition: Callable[[], bool], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not become true"
        time.sleep(0.1)


def submit(cloud: Cloud, *words: str) -> subprocess.CompletedProcess[str]:
    return call(None, "submit", str(SAMPLE), *words, **cloud.environment("operator"))


def not_permitted(cloud: Cloud) -> list[object]:
    """Calls that no role covers, but for the question about the account itself (its clock)."""
    return [entry for entry in cloud.denied if entry[1].name]


def test_worker_api_and_command_line_need_nothing_but_the_roles_of_the_template(
    cloud: Cloud, artifact_dir: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.csv"
    environment = cloud.environment("api")

    with (
        worker(cloud, artifact_dir, tmp_path / "worker.log"),
        running_api(artifact_dir, tmp_path / "api.log", **environment) as api,
    ):
        submitted = submit(cloud, "--wait", "--output", str(scores))
        request = urllib.request.Request(
            f"{api.url}/batches",
            data=SAMPLE.read_bytes(),
            headers={"Content-Type": "text/csv"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=60) as accepted:
            status_url = api.url + accepted.headers["Location"].removeprefix(api.url)

        def status() -> str:
            with urllib.request.urlopen(status_url, timeout=60) as answer:
                return str(json.load(answer)["status"])

        wait_until_true(lambda: status() == "succeeded")
        with urllib.request.urlopen(f"{status_url}/scores", timeout=60) as answer:
            downloaded = answer.read().decode()

    assert submitted.returncode == 0, submitted.stderr
    assert downloaded == scores.read_text()
    assert not_permitted(cloud) == []
    assert set(cloud.tokens) == {"api", "worker", "operator"}


def test_a_caller_without_the_role_is_refused_by_name(cloud: Cloud) -> None:
    cloud.grants.remove(("operator", "blob contributor", "account"))
    try:
        done = submit(cloud)
    finally:
        cloud.grants.add(("operator", "blob contributor", "account"))

    assert done.returncode == 4
    assert "AuthorizationPermissionMismatch" in done.stderr
    assert not_permitted(cloud) != []


def test_an_identity_that_is_refused_is_told_in_one_line_and_not_tried_again(cloud: Cloud) -> None:
    async def refuse() -> int:
        return 400

    cloud.identity_answers = refuse

    done = submit(cloud)

    told = [line for line in done.stderr.splitlines() if "the identity got no token" in line]
    assert done.returncode == 4
    assert len(told) == 1
    assert "No User Assigned or Delegated Managed Identity" in told[0]
    assert "Traceback" not in done.stderr
    assert cloud.tokens == ["operator"]
    assert cloud.calls == []


def test_a_worker_waits_for_a_late_identity(
    cloud: Cloud, artifact_dir: Path, tmp_path: Path
) -> None:
    async def late() -> int:
        await asyncio.sleep(3)
        return 200

    cloud.identity_answers = late

    with worker(cloud, artifact_dir, tmp_path / "worker.log") as url:
        wait_until_true(lambda: is_ready(url))

    assert not_permitted(cloud) == []


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 500])
def test_a_worker_outlives_an_identity_endpoint_that_fails(
    cloud: Cloud, artifact_dir: Path, tmp_path: Path, status: int
) -> None:
    async def fail() -> int:
        return status

    cloud.identity_answers = fail
    log = tmp_path / "worker.log"

    with worker(cloud, artifact_dir, log) as url:
        wait_until_true(lambda: "the identity got no token" in log.read_text())
        ready_without_identity = is_ready(url)
        cloud.identity_answers = None
        wait_until_true(lambda: is_ready(url))

    assert not ready_without_identity
    assert "Traceback" not in log.read_text()


def test_the_api_takes_batches_again_when_its_identity_is_back(
    cloud: Cloud, artifact_dir: Path, tmp_path: Path
) -> None:
    async def refuse() -> int:
        return 400

    cloud.identity_answers = refuse

    def post(url: str) -> int:
        answer = httpx.post(
            f"{url}/batches",
            content=SAMPLE.read_bytes(),
            headers={"Content-Type": "text/csv"},
            timeout=60,
        )
        assert "Traceback" not in answer.text
        return answer.status_code

    with running_api(artifact_dir, tmp_path / "api.log", **cloud.environment("api")) as api:
        without_identity = post(api.url)
        calls = list(cloud.calls)
        cloud.identity_answers = None
        with_identity = post(api.url)

    assert (without_identity, with_identity) == (503, 202)
    assert calls == []
    assert not_permitted(cloud) == []
