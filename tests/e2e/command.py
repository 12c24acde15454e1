"""Calls the command line as a user would, without a terminal.

`call` starts a process; `call_here` does all but that, for tests that call often.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
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
        timeout=240,
        stdin=subprocess.DEVNULL,
        env=environment(text, **env),
    )


@dataclass(frozen=True, slots=True)
class Done:
    """The output and the exit code of a call."""

    returncode: int
    stdout: str
    stderr: str


async def call_here(storage: Running | str | None, *words: str, **env: str) -> Done:
    """As `call`, in a thread of this process."""
    text = storage.connection_string if isinstance(storage, Running) else storage
    asked = environment(text, **env)
    gone: dict[str, str | None] = dict.fromkeys(os.environ.keys() - asked.keys())
    done = await asyncio.to_thread(CliRunner().invoke, app, words, env=gone | asked)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


def on_terminal(
    connection_string: str, *words: str, answer: str | None = None, **env: str
) -> tuple[int, str]:
    """Exit code and what a terminal receives; at a question `answer` is typed, ^C is Ctrl-C."""
    ours, theirs = os.openpty()
    command = subprocess.Popen(
        [*COMMAND, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(connection_string, **env),
    )
    os.close(theirs)
    received, interrupted = b"", False
    while True:
        if interrupted and not select.select([ours], [], [], 5)[0]:
            # The first signal came after the question and before the read, which goes on waiting.
            command.send_signal(signal.SIGINT)
            continue
        try:
            received += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if answer is not None and b"[y/N]" in received:
            if answer == "^C":
                command.send_signal(signal.SIGINT)
                interrupted = True
            else:
                os.write(ours, answer.encode() + b"\n")
            answer = None
    os.close(ours)
    return command.wait(120), received.decode()
