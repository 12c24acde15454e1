"""The Docker engine of these tests: the one that `docker` on the PATH reaches.

Images are built and inspected with the `docker` command, as a user would; testcontainers starts
the containers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from cli.local import ROOT

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


def engine_error() -> str | None:
    """Why containers cannot be used here, or None."""
    if not shutil.which("docker"):
        return "docker is not on the PATH"
    try:
        answer = docker("version", check=False, seconds=20)
    except subprocess.TimeoutExpired:
        return "the Docker engine does not answer"
    return None if answer.returncode == 0 else f"no Docker engine: {answer.stderr.strip()[-300:]}"


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
