"""Virtual environments for foreign tools whose packages clash with ours; each is made once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from cli.local import LOCAL, LocalError

ROOT = Path(__file__).parents[1]


def environment(name: str) -> Path:
    """The folder of programs of an environment with `requirements/{name}.txt`.

    Raises `LocalError` when the packages cannot be installed.
    """
    lock = ROOT / f"requirements/{name}.txt"
    folder = LOCAL / "environments" / name
    stamp = folder / "installed"
    sha256 = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == sha256):
        uv = Path(sys.executable).with_name("uv")
        python = folder / "bin/python"
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder)
        _run(uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, lock)
        stamp.write_text(sha256)
    return folder / "bin"


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(f"{command[1]}: {done.stderr}")
