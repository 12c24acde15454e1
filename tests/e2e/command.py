"""Calls the command line as a user would, without a terminal.

`call` starts a process; `call_here` does all but that, for tests that call often.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass

from typer.testing import CliRunner

from cli.__main__ import app
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


@dataclass(frozen=True, slots=True)
class Done:
    """What a call printed, and how it ended."""

    returncode: int
    stdout: str
    stderr: str


async def call_here(storage: Running | str | None, *words: str, **env: str) -> Done:
    """As `call`, in a thread of this process."""
    text = storage.connection_string if isinstance(storage, Running) else storage
    ours = {k: None for k in os.environ if k.startswith(("AZURE_", "SCORER_"))}
    done = await asyncio.to_thread(
        CliRunner().invoke, app, words, env=ours | environment(text, **env)
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)
