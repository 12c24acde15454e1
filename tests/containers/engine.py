"""The Docker engine of these tests: one that answers, or the one beside the repository.

Spoken to by the `docker` command, as a user would; containers are started by testcontainers.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any

from cli.local import ROOT

STARTER = ROOT.parent / "shared/engine/start"
APPS = ("api", "worker")
IMAGES = {app: f"heart-scorer-{app}" for app in APPS}
AZURITE = "mcr.microsoft.com/azure-storage/azurite:3.37.0"
HARDENED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "mem_limit": "1g",
    "pids_limit": 128,
}
"""As docker-compose.yml starts both apps."""
HARDENED_OPTIONS = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"),
    *("--memory", "1g", "--pids-limit", "128"),
)


class NoEngine(Exception):
    """There is none to be had; the text says why."""


def ensure_engine() -> None:
    """Find or start an engine, and let this process' environment lead to it. Raises `NoEngine`."""
    if STARTER.is_file() and os.geteuid() == 0:
        _start()
    if not _answers():
        raise NoEngine("no Docker engine answers")


def _start() -> None:
    """Start the engine beside us, or learn what tests need to know of it. Raises `NoEngine`."""
    started = subprocess.run([STARTER], capture_output=True, text=True, check=False)
    if started.returncode != 0:
        raise NoEngine(f"the engine did not start: {started.stderr.strip()[-500:]}")
    for line in started.stdout.splitlines():
        for word in shlex.split(line.removeprefix("export ")):
            name, _, value = word.partition("=")
            os.environ[name] = value


def docker(
    *words: str,
    check: bool = True,
    seconds: float = 120,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a docker command in the repository's root."""
    done = subprocess.run(
        ["docker", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=seconds,
        env=os.environ | (env or {}),
    )
    assert not check or done.returncode == 0, f"docker {' '.join(words)}\n{done.stderr[-3000:]}"
    return done


def _answers() -> bool:
    try:
        return docker("version", check=False, seconds=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
