"""Calls the command line as a user would: in a process of its own, without a terminal."""

from __future__ import annotations

import os
import subprocess
import sys

from cli.local import Running

COMMAND = (sys.executable, "-m", "cli")


def environment(connection_string: str | None, **env: str) -> dict[str, str]:
    """The machine's, without our settings, with this storage."""
    found = {k: v for k, v in os.environ.items() if not k.startswith(("AZURE_", "SCORER_"))}
    storage = {"AZURE_STORAGE_CONNECTION_STRING": connection_string} if connection_string else {}
    return found | storage | env


def call(
    storage: Running | str | None, *words: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run `heart-scorer` with these words over this storage."""
    text = storage.connection_string if isinstance(storage, Running) else storage
    return subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env=environment(text, **env),
    )
