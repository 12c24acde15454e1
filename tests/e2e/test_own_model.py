"""Other models in the same two apps: nothing but the artifact's directory changes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.local import ROOT, services
from tests.e2e.client import post
from tests.e2e.command import call, environment
from tests.own_models import EXAMPLES, Case, blocks, cases, write_csv, write_page

PLENTY = {"SCORER_IDLE_SECONDS": "0.3", "OMP_NUM_THREADS": "1"}
CASES = cases()

pytestmark = pytest.mark.slow


def artifact_of(name: str, case: Case, folder: Path) -> Path:
    """Train or import an example."""
    model = folder / "model"
    words = case.imported or ("train", "--model", str(EXAMPLES / f"{name}.py"))
    env = {}
    if name == "tutorial":
        pickled = folder / "model.joblib"
        script = [sys.executable, "-m", "training.examples.finished.tutorial", str(pickled)]
        subprocess.run(script, check=True, cwd=ROOT)
        words = tuple(str(pickled) if word == "model.joblib" else word for word in words)
        env = {"SCORER_ALLOW_PICKLE": "1"}
    made = call(None, *words, "--output", str(model), **env)
    assert made.returncode == 0, made.stderr
    return model


@pytest.mark.parametrize("name", CASES)
def test_an_example_is_served_to_callers_and_files_and_verified(
    name: str, connection_string: str, tmp_path: Path
) -> None:
    case = CASES[name]
    model = artifact_of(name, case, tmp_path)
    table, output = tmp_path / "records.csv", tmp_path / "scores.csv"
    write_csv(table, case.records)
    queue = f"own-{name.replace('_', '-').replace('.', '-')}"
    env = {"SCORER_MODEL_DIR": str(model), "SCORER_QUEUE": queue}

    with services(connection_string, tmp_path / "logs", env=PLENTY | env) as running:
        status, answer = post(f"{running.api_url}/predict", case.records[0])
        words = ("submit", str(table), "--wait", "--json", "--output", str(output))
        sent = call(running, *words, **env)
    batch_id = json.loads(sent.stdout)["batch_id"]
    verified = call(connection_string, "verify", batch_id, **env)
    checked = call(None, "check", str(table), **env)

    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert status == 200, answer
    numbers = {key: value for key, value in answer.items() if isinstance(value, float)}
    assert numbers
    assert {key: float(rows[0][key]) for key in numbers} == numbers
    assert rows[0]["prediction"] == str(answer["prediction"])
    assert [bool(row["error"]) for row in rows] == [False] * (len(rows) - 1) + [True]
    assert case.fault in rows[-1]["error"]
    assert (verified.returncode, checked.returncode) == (0, 3)
    assert f"{len(rows)} rows, 0 differ" in verified.stdout


def test_the_three_ways_of_the_page_run_as_printed(connection_string: str, tmp_path: Path) -> None:
    folder = tmp_path / "drives"
    folder.mkdir()
    write_page(folder)
    _, imports, trains, frames, ups, checks, _ = blocks("sh")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def shell(commands: str, **env: str) -> str:
        done = subprocess.run(
            ["bash", "-e", "-c", commands],
            cwd=folder,
            env=environment(connection_string, PATH=path, **env),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    imported = shell(imports)
    card = (folder / "skid-model" / "model_card.html").read_text()
    trained = shell(trains + frames)
    [export, _] = ups.splitlines()
    env = {"SCORER_MODEL_DIR": str(folder / "skid-model"), "SCORER_QUEUE": "own-page"}
    with services(connection_string, tmp_path / "logs", env=PLENTY | env):
        checked = shell(checks, **env)

    assert "Imported, not evaluated here" in imported
    assert "Imported, not evaluated here" in card
    assert "skid-model" in export
    assert "Cross-validation repeated once" in trained
    assert "400 rows, 0 differ" in checked
    assert len((folder / "scores.csv").read_text().splitlines()) == 401
