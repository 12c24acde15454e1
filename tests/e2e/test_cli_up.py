"""`heart-scorer up` when things go wrong: killed, interrupted while it starts, ports taken."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cli.home import LOCAL, ROOT
from tests.e2e.command import COMMAND, environment

PARTS = ("cli", "shared", "api", "worker", "training", "artifact", "samples")


@pytest.fixture(scope="module")
def clone(artifact_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The product in a directory with a space in its name, with state of its own."""
    folder = tmp_path_factory.mktemp("a clone") / "heart scorer"
    folder.mkdir()
    shutil.copy(ROOT / "pyproject.toml", folder)
    for part in PARTS:
        source = artifact_dir if part == "artifact" else ROOT / part
        shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".local").mkdir()
    (folder / ".local/azurite").symlink_to(LOCAL / "azurite")
    return folder


@contextmanager
def up(clone: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running `heart-scorer up` of the clone."""
    with log.open("wb") as output:
        command = subprocess.Popen(
            [*COMMAND, "up"],
            cwd=clone,
            env=environment(None, PYTHONPATH=str(clone)),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield command
        finally:
            command.kill()
            command.wait()


def wait_for(log: Path, text: str, seconds: float = 240) -> str:
    ends = time.monotonic() + seconds
    while text not in (said := log.read_text() if log.exists() else ""):
        assert time.monotonic() < ends, said
        time.sleep(0.05)
    return said


def children_of(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def are_gone(pids: list[int], seconds: float = 120) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if not any(_lives(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def status(clone: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "status"],
        cwd=clone,
        env=environment(None, PYTHONPATH=str(clone)),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_killed_it_leaves_no_process_and_no_stale_address(clone: Path, tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with up(clone, log) as command:
        wait_for(log, "Ctrl-C ends")
        children = children_of(command.pid)
        found = status(clone)
        command.send_signal(signal.SIGKILL)

        assert len(children) == 3
        assert are_gone(children)

    assert found.returncode == 0, found.stderr
    assert status(clone).returncode == 2
    assert "heart-scorer up" in status(clone).stderr


def test_a_second_one_leaves_the_first_its_data_and_its_address(
    clone: Path, tmp_path: Path
) -> None:
    logs = tmp_path / "first.log", tmp_path / "second.log"
    with up(clone, logs[0]) as first:
        address = wait_for(logs[0], "Ctrl-C ends")
        with up(clone, logs[1]) as second:
            said = wait_for(logs[1], "Ctrl-C ends")
            second.send_signal(signal.SIGINT)
            ended = second.wait(240)
        after = status(clone)
        first.send_signal(signal.SIGTERM)

        assert first.wait(240) == 0

    assert "keeps its data in memory" in said
    assert "keeps its data in memory" not in address
    assert ended == 0
    assert after.returncode == 0, after.stderr


def test_interrupted_while_it_starts_it_ends_what_it_began(clone: Path, tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with up(clone, log) as command:
        ends = time.monotonic() + 120
        while not (children := children_of(command.pid)):
            assert time.monotonic() < ends
            time.sleep(0.01)
        command.send_signal(signal.SIGINT)

        assert command.wait(240) == 130
        assert are_gone(children)
    assert log.read_text() == "stopped\n"


def test_a_taken_port_is_said_and_another_one_used(clone: Path, tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else has it: as good
            taker.bind(("127.0.0.1", 8000))
            taker.listen()
        with up(clone, log):
            said = wait_for(log, "Ctrl-C ends")

    assert "port 8000 is taken: the api is on " in said
    assert "http://127.0.0.1:8000" not in said
