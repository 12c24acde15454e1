"""Cases of the runbook: its commands show the cause that it names."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from azure.storage.blob import AccountSasPermissions

from cli.local import (
    ROOT,
    WORKER_ENV,
    Running,
    azurite,
    connection_string,
    process,
    services,
)
from shared.batches.message import Envelope, EnvelopeInput
from shared.storage.azure import Storage
from tests.api_process import running_api
from tests.builders import a_csv, a_patient
from tests.conftest import open_azurite
from tests.e2e.command import call, call_here
from tests.faults.lab import Lab
from tests.faults.proxy import Proxy, proxied
from tests.ports import free_port
from tests.signature import with_signature

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENT = json.dumps(a_patient())


def a_name() -> str:
    return f"runbook-{uuid.uuid4().hex[:8]}"


def a_file(folder: Path) -> Path:
    """One record that is scored and one that is rejected."""
    file = folder / "mixed.csv"
    file.write_bytes(a_csv(a_patient(), a_patient(age=999)))
    return file


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return a_file(tmp_path)


def until(command: Callable[[], str], text: str, seconds: float = 240) -> str:
    """Repeat a command until its output has this text."""
    ends = time.monotonic() + seconds
    while text not in (shown := command()):
        assert time.monotonic() < ends, shown
        time.sleep(0.5)
    return shown


def curl(*words: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--include", "--max-time", "60", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@contextmanager
def proxy_before(storage: Running | str) -> Iterator[Proxy]:
    """A proxy before this storage, in a thread."""
    text = storage if isinstance(storage, str) else storage.connection_string
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(proxied(text)) as proxy,
    ):
        yield proxy


@contextmanager
def worker_over(storage: str, artifact_dir: Path, log: Path) -> Iterator[str]:
    """A worker that may never become ready; the address of its health."""
    port = free_port()
    env = WORKER_ENV | {
        "AZURE_STORAGE_CONNECTION_STRING": storage,
        "SCORER_MODEL_DIR": str(artifact_dir),
        "SCORER_HEALTH_PORT": str(port),
    }
    with process([sys.executable, "-m", "worker"], log, env):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module", autouse=True)
def abandoned(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Services whose worker was killed before the batch `abandoned` came.

    The first thing of this module: until the runbook's commands name the cause, five minutes pass.
    """
    folder = tmp_path_factory.mktemp("abandoned")
    with azurite(None, folder) as storage:
        env = {"SCORER_MODEL_DIR": str(artifact_dir)}
        with services(storage.connection_string, folder, env=env) as running:
            [worker] = [child for child in running.children if child.name == "worker"]
            until(lambda: call(running, "status").stdout, "workers 1 (seen ")
            worker.process.kill()
            call(running, "submit", str(a_file(folder)), "--batch-id", "abandoned")
            yield running


async def test_batches_are_not_scored_without_a_worker(mixed: Path, tmp_path: Path) -> None:
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


def test_scores_are_verified(running: Running, mixed: Path, artifact_dir: Path) -> None:
    name = a_name()
    call(running, "submit", str(mixed), "--wait", "--batch-id", name)

    verified = call(running, "verify", name, "--model-dir", str(artifact_dir))

    assert "0 differ" in verified.stdout


async def test_a_busy_worker_shows_what_is_in_progress(
    running: Running, storage: Storage, artifact_dir: Path, tmp_path: Path, mixed: Path
) -> None:
    lab = Lab(storage, running.connection_string, artifact_dir, tmp_path)
    await lab.prepare()
    env = {"SCORER_QUEUE": lab.queue_name}
    with lab.worker("before:commit:1:hold"):
        await call_here(running, "submit", str(mixed), "--batch-id", a_name(), **env)

        for _ in range(240):
            shown = (await call_here(running, "status", **env)).stdout
            if "in progress 1" in shown:
                break
            await asyncio.sleep(0.5)

    assert "in progress 1" in shown


def test_a_worker_without_its_role_says_which_one_is_missing(
    running: Running, artifact_dir: Path, tmp_path: Path
) -> None:
    reader = with_signature(running.connection_string, AccountSasPermissions(read=True))

    with worker_over(reader, artifact_dir, tmp_path / "worker.log") as url:
        shown = until(lambda: curl(f"{url}/readyz"), "storage does not permit this: 403")
    doctor = call(reader, "doctor", SCORER_MODEL_DIR=str(artifact_dir))

    assert " 503 " in shown.splitlines()[0]
    assert "storage_not_ready" in (tmp_path / "worker.log").read_text()
    assert "WRONG  queue: receive and renew messages" in doctor.stdout
    assert "give this identity the data roles" in doctor.stdout


def test_the_api_says_that_it_is_ready(running: Running) -> None:
    assert " 200 " in curl(f"{running.api_url}/readyz").splitlines()[0]


def test_the_api_says_that_a_key_is_missing(artifact_dir: Path, tmp_path: Path) -> None:
    with running_api(artifact_dir, tmp_path / "log", SCORER_API_KEYS="a-key-of-tests-0001") as api:
        shown = curl(f"{api.url}/predict", "--json", PATIENT)

    assert " 401 " in shown.splitlines()[0]
    assert "X-API-Key" in shown


def test_an_api_with_too_many_requests_says_so(artifact_dir: Path, tmp_path: Path) -> None:
    with (
        running_api(artifact_dir, tmp_path / "log", SCORER_REQUESTS="1") as api,
        api.connect() as slow,
    ):
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: api\r\nContent-Length: 100\r\n\r\n{")
        shown = until(lambda: curl(f"{api.url}/predict", "--json", PATIENT), " 503 ", 60)

    assert "retry-after: " in shown
    assert "Too many requests at once" in shown


def test_an_api_whose_storage_refuses_still_scores_single_records(
    running: Running, artifact_dir: Path, tmp_path: Path
) -> None:
    with proxy_before(running) as proxy:
        proxy.decide = lambda call, number: (503, {"x-ms-error-code": "ServerBusy"})
        env = {"AZURE_STORAGE_CONNECTION_STRING": proxy.connection_string}
        with running_api(artifact_dir, tmp_path / "log", **env) as api:
            batch = curl(f"{api.url}/batches", "--json", f"[{PATIENT}]")
            one = curl(f"{api.url}/predict", "--json", PATIENT)
        doctor = call(proxy.connection_string, "doctor", SCORER_MODEL_DIR=str(artifact_dir))

    assert " 503 " in batch.splitlines()[0]
    assert "storage_unavailable" in batch
    assert " 200 " in one.splitlines()[0]
    assert "storage is busy or down: 503" in doctor.stdout


def test_a_slow_api_shows_in_the_time_of_its_routes(running: Running, tmp_path: Path) -> None:
    many = tmp_path / "many.json"
    many.write_text(f"[{','.join([PATIENT] * 2000)}]")
    curl(f"{running.api_url}/predict/many", "--json", f"@{many}")

    shown = curl(f"http://127.0.0.1:{running.ports.api_metrics}/metrics")

    totals = [
        float(line.split()[-1])
        for line in shown.splitlines()
        if line.startswith("http_server_request_duration_seconds_sum")
        and 'http_route="/predict/many"' in line
    ]
    assert sum(totals) > 0


def test_full_storage_is_named(running: Running, artifact_dir: Path) -> None:
    full = (507, {"x-ms-error-code": "InsufficientAccountResources"})
    with proxy_before(running) as proxy:
        proxy.decide = lambda call, number: full if call.startswith("stage") else None
        doctor = call(proxy.connection_string, "doctor", SCORER_MODEL_DIR=str(artifact_dir))

    assert doctor.returncode == 1
    assert "WRONG  container scores: write" in doctor.stdout
    assert "storage is busy or down: 507" in doctor.stdout


def test_hanging_storage_is_named_within_seconds(artifact_dir: Path, tmp_path: Path) -> None:
    env = {"SCORER_MODEL_DIR": str(artifact_dir), "SCORER_IDLE_SECONDS": "0.3"}
    with (
        azurite(None, tmp_path) as storage,
        services(storage.connection_string, tmp_path, env=env) as running,
    ):
        storage.child.process.send_signal(signal.SIGSTOP)
        try:
            doctor = call(running, "doctor", **env)
            status = call(running, "status", **env)
            worker = until(lambda: curl(f"{running.worker_url}/readyz"), "no answer")
            batch = curl(f"{running.api_url}/batches", "--json", f"[{PATIENT}]")
        finally:
            storage.child.process.send_signal(signal.SIGCONT)

    assert doctor.returncode == 1
    assert "storage does not answer within 5 s" in doctor.stdout
    assert f"http://127.0.0.1:{storage.ports.blobs}/" in doctor.stdout
    assert "storage does not answer" in status.stderr
    assert "heart-scorer doctor" in status.stderr
    assert " 503 " in worker.splitlines()[0]
    assert " 503 " in batch.splitlines()[0]


def test_storage_that_never_answered_is_named(artifact_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        done = call(connection_string(port, port), "doctor", SCORER_MODEL_DIR=str(artifact_dir))

    assert done.returncode == 1
    assert "storage does not answer within 5 s" in done.stdout
    assert f"http://127.0.0.1:{port}/" in done.stdout


def test_a_wrong_model_shows_in_every_batch_that_it_scored(
    running: Running, artifact_dir: Path, tmp_path: Path, mixed: Path
) -> None:
    wrong = tmp_path / "wrong"
    example = ROOT / "training/examples/heart_boosting.py"
    call(running, "train", "--model", str(example), "--output", str(wrong))
    name = a_name()
    env = {"SCORER_QUEUE": a_name()}
    started = env | {"SCORER_MODEL_DIR": str(wrong), "SCORER_IDLE_SECONDS": "0.3"}
    with services(running.connection_string, tmp_path, env=started):
        call(running, "submit", str(mixed), "--wait", "--batch-id", name, **env)

    model = json.loads(call(running, "status", name, "--json", **env).stdout)["model"]
    version = call(running, "version")
    verified = call(running, "verify", name, "--model-dir", str(artifact_dir))
    listed = json.loads(call(running, "status", "--since", "7d", "--json", **env).stdout)
    compared = call(running, "compare", str(artifact_dir), str(wrong), str(mixed))

    assert len(model["sha256"]) == 64
    assert model["sha256"] not in version.stdout
    assert verified.returncode != 0
    assert "scored by another model" in verified.stdout + verified.stderr
    assert name in {
        batch["batch_id"]
        for batch in listed["batches"]
        if batch["model"] and batch["model"]["sha256"] == model["sha256"]
    }
    assert compared.returncode == 0


def test_a_pinned_model_does_not_start_as_another(artifact_dir: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker"],
        env=os.environ | {"SCORER_MODEL_DIR": str(artifact_dir), "SCORER_MODEL_SHA256": "0" * 64},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 3
    assert "SCORER_MODEL_SHA256 asks for" in done.stderr


def test_a_killed_worker_is_gone_and_its_batches_wait(
    abandoned: Running, artifact_dir: Path, tmp_path: Path
) -> None:
    env = {"SCORER_MODEL_DIR": str(artifact_dir)}

    doctor = until(
        lambda: call(abandoned, "doctor", **env).stdout, "no batch has finished since", 600
    )
    status = call(abandoned, "status").stdout
    queue = call(abandoned, "queue").stdout
    with worker_over(abandoned.connection_string, artifact_dir, tmp_path / "worker.log"):
        fixed = call(abandoned, "wait", "abandoned")

    assert "1 waiting, the oldest for " in doctor
    assert "0 workers seen" in doctor
    assert "heart-scorer up" in doctor
    assert "workers 0 (gone, last seen " in status
    assert "uploads/abandoned/input.csv" in queue
    assert fixed.returncode == 0
