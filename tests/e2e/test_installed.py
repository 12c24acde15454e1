"""The installed product, outside a clone: `pipx install .`, then commands in any folder."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.home import LOCAL, ROOT
from tests.e2e.command import environment

pytestmark = pytest.mark.slow

SOURCES = ("api", "cli", "shared", "training", "worker", "pyproject.toml", "README.md")


@dataclass(frozen=True, slots=True)
class Installed:
    """A fresh virtual environment with the product, and a user's folders."""

    command: Path
    packages: Path
    env: dict[str, str]
    data: Path
    folder: Path

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.command, *words],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, connection_string: str) -> Installed:
    top = tmp_path_factory.mktemp("installed")
    source, venv = top / "source", top / "venv"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    packages = next(venv.glob("lib/python3*/site-packages"))
    # The libraries come from this environment; its editable install of the product does not:
    # Python reads no .pth file there.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed")
    pip = [sys.executable, "-m", "pip", "--python", str(venv), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *options, str(source)], check=True)
    shutil.rmtree(source)
    data, folder = top / "data", top / "a folder"
    (data / "heart-scorer").mkdir(parents=True)
    folder.mkdir()
    (data / "heart-scorer/azurite").symlink_to(LOCAL / "azurite")
    env = environment(None, XDG_DATA_HOME=str(data), PYTHONDONTWRITEBYTECODE="1")
    env.pop("PYTHONPATH", None)
    return Installed(venv / "bin/heart-scorer", packages, env, data / "heart-scorer", folder)


@contextmanager
def up(installed: Installed) -> Iterator[None]:
    """`heart-scorer up`, running."""
    log = installed.folder.parent / "up.log"
    with log.open("wb") as output:
        command = subprocess.Popen(
            [installed.command, "up"],
            cwd=installed.folder,
            env=installed.env,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        ends = time.monotonic() + 180
        while "Ctrl-C stops" not in log.read_text():
            assert command.poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        command.send_signal(signal.SIGINT)
        command.wait(60)


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_everything_works_in_any_folder_and_is_kept_in_the_user_s_data_directory(
    installed: Installed,
) -> None:
    before = files_of(installed.packages)
    file = installed.folder / "patients.csv"
    file.write_text("age,sex\n54,male\n61,female\n")
    # The user may have a folder with one of our names.
    (installed.folder / "worker").mkdir()
    (installed.folder / "worker/__main__.py").write_text("raise SystemExit('not ours')\n")

    with up(installed):
        submitted = installed.call("submit", "patients.csv", "--wait", "--output", "scores.csv")
        verified = installed.call("verify", submitted.stdout.split()[1])
        examined = installed.call("doctor")

    assert submitted.returncode == 0, submitted.stderr
    assert "2 total, 2 scored, 0 rejected" in submitted.stdout
    assert verified.returncode == 0, verified.stderr
    assert examined.returncode == 0, examined.stdout
    assert {"artifact", "data", "logs"} <= {path.name for path in installed.data.iterdir()}
    assert {path.name for path in installed.folder.iterdir()} == {
        "patients.csv",
        "scores.csv",
        "worker",
    }
    assert files_of(installed.packages) == before


def test_the_command_says_its_version(installed: Installed) -> None:
    done = installed.call("--version")

    assert done.stdout.startswith("heart-scorer ")
