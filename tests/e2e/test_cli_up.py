"""`heart-scorer up` when things go wrong: killed, interrupted while it starts, ports taken."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import pytest

from cli.home import LOCAL, ROOT
from cli.local import Ports
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


def addresses(said: str) -> list[str]:
    return re.findall(r"127\.0\.0\.1:\d+", said)


def child_called(name: str, pid: int) -> int:
    [child] = [
        child
        for child in children_of(pid)
        if Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[3:4] == [name.encode()]
    ]
    return child


def status(clone: Path) -> subprocess.CompletedProcess[str]:
    return call(clone, "status")


def call(clone: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        cwd=clone,
        env=environment(None, PYTHONPATH=str(clone)),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.slow
def test_when_killed_it_leaves_no_process_and_no_stale_address(clone: Path, tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with up(clone, log) as command:
        wait_for(log, "Ctrl-C stops")
        children = children_of(command.pid)
        found = status(clone)
        command.send_signal(signal.SIGKILL)

        assert len(children) == 3
        assert are_gone(children)

    assert found.returncode == 0, found.stderr
    assert status(clone).returncode == 2
    assert "heart-scorer up" in status(clone).stderr


@pytest.mark.slow
def test_a_second_up_changes_neither_data_nor_address_of_the_first(
    clone: Path, tmp_path: Path
) -> None:
    logs = tmp_path / "first.log", tmp_path / "second.log"
    with up(clone, logs[0]) as first:
        address = wait_for(logs[0], "Ctrl-C stops")
        with up(clone, logs[1]) as second:
            said = wait_for(logs[1], "Ctrl-C stops")
            second.send_signal(signal.SIGINT)
            ended = second.wait(240)
        after = status(clone)
        first.send_signal(signal.SIGTERM)

        assert first.wait(240) == 0

    assert "keeps its data in memory" in said
    assert "keeps its data in memory" not in address
    assert ended == 0
    assert after.returncode == 0, after.stderr


def test_a_process_that_ends_is_named_and_ends_the_others(clone: Path, tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with up(clone, log) as command:
        wait_for(log, "Ctrl-C stops")
        worker = child_called("worker", command.pid)
        others = [pid for pid in children_of(command.pid) if pid != worker]
        os.kill(worker, signal.SIGKILL)

        assert command.wait(60) == 1
        assert are_gone(others)

    assert "worker was ended by SIGKILL" in log.read_text()
    assert "heart-scorer up" in log.read_text()


@pytest.mark.slow
def test_it_keeps_its_ports_and_its_logs_can_be_read(clone: Path, tmp_path: Path) -> None:
    said = []
    for log in (tmp_path / "first.log", tmp_path / "second.log"):
        with up(clone, log) as command:
            said.append(wait_for(log, "Ctrl-C stops"))
            command.send_signal(signal.SIGINT)
            command.wait(60)

    shown = call(clone, "logs", "worker")

    assert addresses(said[0]) == addresses(said[1])
    assert re.search(
        r"^worker  \| \d\d:\d\d:\d\d INFO    worker_started ", shown.stdout, re.MULTILINE
    )
    assert call(clone, "logs", "nobody").returncode == 2


@pytest.mark.slow
def test_a_terminal_sees_readable_log_lines(clone: Path) -> None:
    ours, theirs = os.openpty()
    command = subprocess.Popen(
        [*COMMAND, "up"],
        cwd=clone,
        env=environment(None, PYTHONPATH=str(clone), TERM="xterm"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    received = b""
    with os.fdopen(ours, "rb", buffering=0) as terminal, suppress(OSError):  # closed at its end
        while chunk := terminal.read(65536):
            received += chunk
            if b"worker_started" in received:
                command.send_signal(signal.SIGINT)
    command.wait(60)

    [line] = [line for line in received.decode().splitlines() if "worker_started" in line]
    assert line.startswith("worker  | ")
    assert "{" not in line


def test_interrupted_while_it_starts_it_ends_all_its_processes(clone: Path, tmp_path: Path) -> None:
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


def test_a_port_in_use_is_reported_and_another_one_is_used(clone: Path, tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        taken = taker.getsockname()[1]
        (clone / ".local/ports.json").write_text(json.dumps(asdict(Ports(api=taken))))
        with up(clone, log):
            said = wait_for(log, "Ctrl-C stops")

    assert f"port {taken} is taken: api on " in said
    assert f"http://127.0.0.1:{taken}" not in said
