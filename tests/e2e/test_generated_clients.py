"""Clients that foreign tools generate from the API's OpenAPI document call the running API."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from cli.local import LocalError, Running, install_node_packages, node
from tests.api_process import ROOT
from tests.builders import a_csv, a_patient
from tests.conftest import one_process_at_a_time

pytestmark = pytest.mark.azurite
TYPESCRIPT = ROOT / "tests/clients/typescript"


@contextmanager
def installing() -> Iterator[None]:
    """Install a tool. Without a network: skip here, fail where CI is set."""
    try:
        with one_process_at_a_time():
            yield
    except (LocalError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def document(running: Running, tmp_path: Path) -> Path:
    """The file that users give to a generator."""
    path = tmp_path / "openapi.json"
    with urllib.request.urlopen(f"{running.api_url}/openapi.json") as answer:
        path.write_bytes(answer.read())
    return path


@pytest.mark.slow
def test_a_client_by_openapi_python_client_scores_and_submits(
    running: Running, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installing():  # in an environment of its own: it needs an older typer
        environment = ".venv-clients/openapi"
        subprocess.run(
            ["make", f"PYTHON={sys.executable}", f"{environment}/stamp"], check=True, cwd=ROOT
        )
    programs = ROOT / environment / "bin"
    generate: list[str | Path] = [programs / "openapi-python-client", "generate", "--meta", "none"]
    subprocess.run(
        [*generate, "--path", document, "--output-path", document.parent / "generated_client"],
        check=True,
        env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
    )
    monkeypatch.syspath_prepend(document.parent)
    from generated_client import Client
    from generated_client.api.batches import get_batch, get_scores, list_batches, submit_batch
    from generated_client.api.scores import predict, predict_many
    from generated_client.models import FileForm, ProblemDetails, Record
    from generated_client.types import File

    record = Record.from_dict(a_patient())
    file = FileForm(File(BytesIO(a_csv(a_patient(), a_patient(age=5))), "patients.csv"))
    with Client(running.api_url, raise_on_unexpected_status=True) as client:
        alone = predict.sync(client=client, body=record)
        many = predict_many.sync(client=client, body=[a_patient(), a_patient(age=5)])
        refused = predict.sync(client=client, body=Record.from_dict(a_patient(age=5)))
        accepted = submit_batch.sync(client=client, body=file, idempotency_key=str(time.time()))
        batch = get_batch.sync(accepted.batch_id, client=client)
        while batch.status in ("queued", "running"):
            time.sleep(0.1)
            batch = get_batch.sync(accepted.batch_id, client=client)
        scores = get_scores.sync_detailed(accepted.batch_id, client=client).content
        listed = list_batches.sync(client=client)

    assert [row.row for row in many.results] == [1, 2]
    assert many.results[0].probability == alone.probability
    assert isinstance(refused, ProblemDetails)
    assert [entry.code for entry in refused.errors] == ["out_of_range"]
    assert batch.status == "succeeded"
    assert (batch.rows.scored, batch.rows.rejected) == (1, 1)
    assert str(alone.probability) in scores.decode()
    assert accepted.batch_id in [found.batch_id for found in listed.batches]


@pytest.mark.slow
def test_a_client_by_openapi_typescript_type_checks_and_scores(
    running: Running, document: Path
) -> None:
    with installing():
        packages = install_node_packages(TYPESCRIPT, "typescript", "about 50 MB")
    tools = packages / "node_modules"
    [runtime], _ = node()
    folder = document.parent
    (folder / "node_modules").symlink_to(tools)
    for name in ("call.ts", "package.json"):
        shutil.copy(TYPESCRIPT / name, folder)

    def run(*command: str | Path) -> str:
        done = subprocess.run([runtime, *command], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(tools / "openapi-typescript/bin/cli.js", document, "--output", "api.d.ts")
    run(tools / "typescript/bin/tsc", "--strict", "--module", "nodenext", "call.ts")
    score = json.loads(run("call.js", running.api_url))

    assert 0 <= score["probability"] <= 1
    assert score["prediction"] in (0, 1)
