"""The API as a process of its own, on ports that the system chose."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class RunningApi:
    """A process that has logged that it started."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int
    metrics_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lines(self) -> list[dict[str, Any]]:
        """Its log lines."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def stop(self, seconds: float = 120) -> int:
        """Ask it to stop; its exit code."""
        self.process.terminate()
        return self.process.wait(seconds)


def start(
    artifact_dir: Path, log: Path, env: Mapping[str, str], python: str | Path = sys.executable
) -> subprocess.Popen[bytes]:
    """Start the API; its log goes to the file `log`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SCORER_")}
    chosen = {"SCORER_MODEL_DIR": str(artifact_dir), "SCORER_PORT": "0", "SCORER_HEALTH_PORT": "0"}
    with log.open("wb") as output:
        return subprocess.Popen(
            [python, "-m", "api"], stderr=output, cwd=ROOT, env=clean | chosen | {**env}
        )


@contextmanager
def running_api(
    artifact_dir: Path, log: Path, python: str | Path = sys.executable, **env: str
) -> Iterator[RunningApi]:
    """The API while a test needs it, run by the interpreter `python`."""
    process = start(artifact_dir, log, env, python)
    try:
        facts = _started(process, log)
        yield RunningApi(process, log, facts["port"], facts["metrics_port"])
    finally:
        process.terminate()
        process.wait(120)


def _started(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    ends = time.monotonic() + 120
    while time.monotonic() < ends and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"api_started"' in line:
                facts: dict[str, Any] = json.loads(line)
                return facts
        time.sleep(0.02)
    raise AssertionError(f"the api did not start: {log.read_text()}")
