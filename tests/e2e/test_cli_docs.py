"""The commands of the pages, as they are written, in a shell, against running services."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.local import ROOT, Running
from tests.e2e.command import environment

README = ROOT / "README.md"


def blocks(page: Path, language: str = "sh") -> list[str]:
    fence = rf"^```{language}\n(.*?)^```"
    return re.findall(fence, page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reader's folder: the sample, and the command on the PATH."""
    shutil.copy(ROOT / "samples/patients.csv", tmp_path / "patients.csv")
    return tmp_path


@pytest.mark.parametrize(("page", "count"), [("cli.md", 4), ("operate.md", 2)])
def test_the_commands_of_the_page_work_one_after_the_other(
    page: str, count: int, running: Running, folder: Path, artifact_dir: Path
) -> None:
    commands = blocks(ROOT / "docs" / page)
    assert len(commands) == count
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = environment(running.connection_string, PATH=path, SCORER_MODEL_DIR=str(artifact_dir))

    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(commands)],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_submits_the_sample(running: Running, folder: Path) -> None:
    [command] = [block for block in blocks(README) if "heart-scorer submit" in block]
    (folder / "samples").mkdir()
    (folder / "patients.csv").rename(folder / "samples/patients.csv")
    (folder / ".venv").symlink_to(sys.prefix)

    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(running.connection_string),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )

    assert done.returncode == 0, done.stderr
    assert "12 scored, 1 rejected" in done.stdout
    assert "input_chol" in (folder / "scores.csv").read_text()


def test_the_readme_scores_one_patient_as_it_says(running: Running) -> None:
    [curl] = [block for block in blocks(README) if block.startswith("curl ")]
    [expected] = blocks(README, "json")

    done = subprocess.run(
        ["bash", "-c", curl.replace("http://127.0.0.1:8000", running.api_url)],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )

    answer, said = json.loads(done.stdout), json.loads(expected)
    assert answer.keys() == said.keys()
    assert answer["prediction"] == said["prediction"]
    # Another processor may round the last digit.
    assert answer["probability"] == pytest.approx(said["probability"], abs=1e-6)


def test_the_readme_scores_one_patient_from_python(running: Running) -> None:
    [code] = blocks(README, "python")

    done = subprocess.run(
        [sys.executable, "-c", code.replace("http://127.0.0.1:8000", running.api_url)],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )

    assert 0 < float(done.stdout) < 1
