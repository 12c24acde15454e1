"""`heart-scorer up`: Azurite, api and worker on this machine until Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import threading
from pathlib import Path

import typer

from cli.home import IS_CLONE, LOCAL, ROOT, forget, only_one, remember
from cli.output import Exit, say


def up() -> None:
    """Run Azurite, api and worker here until Ctrl-C. Docker is not needed."""
    from cli.local import LocalError

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = threading.Event()
    try:
        with only_one() as first:
            run(started, first=first)
    except KeyboardInterrupt as error:
        say("stopped")
        if not started.is_set():
            raise typer.Exit(Exit.INTERRUPTED) from error
    except LocalError as error:
        say(str(error))
        raise typer.Exit(Exit.FAILED) from error


def run(started: threading.Event, *, first: bool) -> None:
    """Start everything, say where it is, wait for ever. Only the first one keeps its data."""
    from cli.local import API_PORT, everything

    logs: Path = LOCAL / "logs"
    data: Path | None = LOCAL / "data"
    if not first:
        say("another `heart-scorer up` runs here: this one keeps its data in memory")
        logs, data = Path(tempfile.mkdtemp(prefix="heart-scorer-")), None
    with everything(logs, data, usual_ports=first) as running:
        if first and running.api_port != API_PORT:
            say(f"port {API_PORT} is taken: the api is on {running.api_port}")
        say(f"api      {running.api_url}  (docs: {running.api_url}/docs)")
        say(f"worker   {running.worker_url}/readyz")
        say(f"logs     {logs}")
        say(f'export AZURE_STORAGE_CONNECTION_STRING="{running.connection_string}"')
        say(f"try      {_as_called()} submit {_sample()} --wait")
        say("Ctrl-C ends all of it.")
        if first:
            remember(running.connection_string)
        started.set()
        try:
            threading.Event().wait()
        finally:
            if first:
                forget()


def _as_called() -> str:
    """The command as it was called: it may not be on the PATH."""
    called = sys.argv[0]
    return shlex.quote(called) if called.endswith("heart-scorer") else "heart-scorer"


def _sample() -> str:
    """Path of the sample as the user can type it; only a clone has one."""
    if not IS_CLONE:
        return "FILE"
    sample = ROOT / "samples/patients.csv"
    return shlex.quote(os.path.relpath(sample) if Path.cwd().is_relative_to(ROOT) else str(sample))
