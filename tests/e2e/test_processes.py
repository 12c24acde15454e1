"""Api and worker as processes: what they import, how they start, refuse and stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.local import ROOT, Running, process, stop, wait_until
from tests.e2e.client import get, post
from tests.ports import free_port

HEAVY = {"pandas", "sklearn", "joblib", "scipy", "skl2onnx"}


def modules_after(code: str, env: dict[str, str] | None = None) -> set[str]:
    """Top-level modules of a fresh interpreter after this code."""
    code += "\nimport sys, json\nprint(json.dumps([*sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | (env or {}),
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_the_api_runs_without_pandas_scikit_learn_joblib_polars_and_azure(
    artifact_dir: Path,
) -> None:
    code = f"""
import asyncio, pathlib
import api.__main__
from shared.records.artifact import load_artifact
from shared.records.scoring import Scorer
artifact = load_artifact(pathlib.Path({str(artifact_dir)!r}))
table = artifact.manifest.fields
scorer = Scorer(artifact.model, table, artifact.manifest.answer_kind)
scorer.score(table.read({{"age": 60, "sex": "male"}}))
"""

    loaded = modules_after(code)

    assert "onnxruntime" in loaded
    assert loaded & (HEAVY | {"azure", "polars", "aiohttp"}) == set()


def test_the_worker_runs_without_pandas_scikit_learn_and_joblib(artifact_dir: Path) -> None:
    code = f"""
import pathlib
import worker.__main__
from shared.records.artifact import load_artifact
from shared.records.scoring import Scorer
from shared.files.formats import open_table
from shared.files.base import Limits
from shared.files.options import Options
artifact = load_artifact(pathlib.Path({str(artifact_dir)!r}))
scorer = Scorer(artifact.model, artifact.manifest.fields, artifact.manifest.answer_kind)
table = open_table("csv", scorer, Options(), Limits())
blocks = [*table.feed(b"age,sex\\n60,male\\n"), *table.finish()]
assert table.score(table.read(blocks[0]), 1).counts.rows == 1
"""

    loaded = modules_after(code)

    assert {"onnxruntime", "azure", "polars"} <= loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("app", ["api", "worker"])
def test_a_changed_model_stops_the_process_with_one_line(
    app: str, artifact_dir: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "artifact"
    shutil.copytree(artifact_dir, copy)
    with (copy / "model.onnx").open("ab") as model:
        model.write(b"x")

    done = subprocess.run(
        [sys.executable, "-m", app],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"SCORER_MODEL_DIR": str(copy), "SCORER_STORAGE_ACCOUNT": "nobody"},
    )

    assert done.returncode == 3
    [line] = done.stderr.strip().splitlines()
    assert "model.onnx has SHA-256" in line


@pytest.mark.parametrize("app", ["api", "worker"])
def test_wrong_settings_are_named_and_stop_the_process(app: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", app],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"SCORER_LOG_LEVEL": "loud", "SCORER_HEALTH_PORT": "70000"},
    )

    assert done.returncode == 3
    [line] = done.stderr.strip().splitlines()
    assert "SCORER_LOG_LEVEL" in line
    assert "SCORER_HEALTH_PORT" in line


def test_the_tutorials_request_is_answered(running: Running) -> None:
    seed = {"age": 63, "sex": 1, "cp": 3, "trestbps": 145, "chol": 233}

    status, answer = post(f"{running.api_url}/predict", seed)

    assert status == 200
    assert 0 < answer["probability"] < 1


def test_health_metrics_and_docs_answer(running: Running) -> None:
    urls = [
        *(running.api_url + path for path in ("/livez", "/readyz", "/model", "/docs")),
        *(running.worker_url + path for path in ("/livez", "/readyz", "/metrics")),
    ]

    assert [get(url)[0] for url in urls] == [200] * len(urls)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_ends_with_0_when_asked_to_stop(
    number: signal.Signals, connection_string: str, artifact_dir: Path, tmp_path: Path
) -> None:
    port = free_port()
    env = {
        "AZURE_STORAGE_CONNECTION_STRING": connection_string,
        "SCORER_MODEL_DIR": str(artifact_dir),
        "SCORER_HEALTH_PORT": str(port),
        "SCORER_QUEUE": "stop-test",
    }
    log = tmp_path / "worker.log"

    with process([sys.executable, "-m", "worker"], log, env) as worker:
        wait_until(worker, f"http://127.0.0.1:{port}/readyz", log)
        worker.send_signal(number)

        assert worker.wait(120) == 0


def test_up_runs_everything_on_free_ports_until_asked_to_stop(
    artifact_dir: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "cli", "up"]
    logs = tmp_path / "first.log", tmp_path / "second.log"

    # The second finds the usual ports taken by the first.
    with process(command, logs[0]) as first:
        urls = [_url(first, logs[0])]
        with process(command, logs[1]) as second:
            urls.append(_url(second, logs[1]))
            answers = [post(f"{url}/predict", {"age": 60, "sex": "male"})[0] for url in urls]
            codes = [stop(second)]
        codes.append(stop(first))

    assert urls[0] != urls[1]
    assert answers == [200, 200]
    assert codes == [0, 0]


def _url(up: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(2400):
        text = log.read_text() if log.exists() else ""
        if "Ctrl-C stops" in text:
            return next(word for word in text.split() if word.startswith("http://")).rstrip("/")
        assert up.poll() is None, text
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.slow
def test_the_demo_shows_scores_and_the_rejected_row(artifact_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.demo"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=240,
    )

    assert done.returncode == 0, done.stderr
    assert '"probability": ' in done.stdout
    assert "out_of_range: chol must be from 50 to 700 mg/dl" in done.stdout
    assert "rows     13 total, 12 scored, 1 rejected" in done.stdout
