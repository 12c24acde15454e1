"""`heart-scorer up`: Azurite, API and worker on this machine until Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.home import IS_CLONE, LOCAL, ROOT, forget, only_one, remember
from cli.output import Exit, on_terminal, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.local import Child, Ports, Running
    from cli.logs import LogFiles

PORTS = LOCAL / "ports.json"
"""Ports of the last run, so that addresses stay the same."""
PAUSE = 0.3
"""Seconds between two checks of the processes."""


def up() -> None:
    """Run Azurite, API and worker on this machine until Ctrl-C.

    Needs no Docker. Shows the logs on a terminal; SCORER_LOG_FORMAT=json shows them unchanged.

    \b
    Examples:
      heart-scorer up
      SCORER_SLOTS=8 heart-scorer up
    """
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
    """Start everything, print the addresses, and watch. Only the first `up` keeps its data."""
    from cli.local import Ports, everything
    from cli.logs import NAMES, LogFiles

    logs: Path = LOCAL / "logs"
    data: Path | None = LOCAL / "data"
    preferred = previous_ports() if first else Ports()
    if not first:
        say("another `heart-scorer up` is running: this one keeps its data in memory")
        logs, data = Path(tempfile.mkdtemp(prefix="heart-scorer-")), None
    raw = os.environ.get("SCORER_LOG_FORMAT") == "json"
    log_files = LogFiles({name: logs / f"{name}.log" for name in NAMES}, lines=0, raw=raw)
    log_files.new_lines()  # skips those of earlier runs
    with everything(logs, data, preferred) as running:
        announce(running, preferred, logs)
        if first:
            remember(running.connection_string)
            PORTS.write_text(json.dumps(asdict(running.ports)))
        started.set()
        try:
            watch(running.children, log_files)
        finally:
            if first:
                forget()


def previous_ports() -> Ports:
    """Ports of the last run, else the usual ones."""
    from cli.local import USUAL_PORTS, Ports

    try:
        return Ports(**json.loads(PORTS.read_text()))
    except (OSError, ValueError, TypeError):
        return USUAL_PORTS


def announce(running: Running, preferred: Ports, logs: Path) -> None:
    """Print the addresses."""
    actual = asdict(running.ports)
    for name, port in asdict(preferred).items():
        if port not in (0, actual[name]):
            say(f"port {port} is taken: {name.replace('_', ' ')} on {actual[name]}")
    ports = running.ports
    say(f"page     {running.api_url}/")
    say(f"API      {running.api_url}/docs")
    say(f"         http://127.0.0.1:{ports.api_metrics}/metrics")
    say(f"worker   {running.worker_url}/readyz, {running.worker_url}/metrics")
    say(f"Azurite  blobs on {ports.blobs}, queues on {ports.queues}")
    say(f"logs     {logs}")
    say(f'export AZURE_STORAGE_CONNECTION_STRING="{running.connection_string}"')
    say(f"try      {_as_called()} submit {_sample()} --wait")
    say("Ctrl-C stops everything.")


def watch(children: Sequence[Child], logs: LogFiles) -> None:
    """Show logs on a terminal. Raises `LocalError` when a process ends by itself."""
    from cli.local import LocalError, how_it_ended, tail

    while True:
        for line in logs.new_lines() if on_terminal() else ():
            say(line)
        for child in children:
            if (code := child.process.poll()) is not None:
                raise LocalError(
                    f"{child.name} {how_it_ended(code)}; the end of its log:\n{tail(child.log)}\n"
                    f"Everything else was stopped. Start again: {_as_called()} up"
                )
        time.sleep(PAUSE)


def _as_called() -> str:
    """The command as the user called it: it may not be on the PATH."""
    called = sys.argv[0]
    return shlex.quote(called) if called.endswith("heart-scorer") else "heart-scorer"


def _sample() -> str:
    """Path of the sample as the user can type it; only a clone has one."""
    if not IS_CLONE:
        return "FILE"
    sample = ROOT / "samples/patients.csv"
    return shlex.quote(os.path.relpath(sample) if Path.cwd().is_relative_to(ROOT) else str(sample))
