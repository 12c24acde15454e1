"""`heart-scorer up`: Azurite, api and worker on this machine until Ctrl-C."""

from __future__ import annotations

import signal
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

from cli.local import LOCAL, STATE, LocalError, everything, remember, remembered
from cli.output import Exit, say


def up() -> None:
    """Run Azurite, api and worker on this machine, without Docker, until Ctrl-C."""
    import typer

    asked = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    signal.signal(signal.SIGTERM, stop)
    try:
        logs: Path = LOCAL / "logs"
        data: Path | None = LOCAL / "data"
        if remembered() is not None:
            say("another `heart-scorer up` runs here: this one keeps its data in memory")
            logs, data = Path(tempfile.mkdtemp(prefix="heart-scorer-")), None
        with everything(logs, data, usual_ports=True) as running:
            remember(running)
            say(f"api      {running.api_url}  (docs: {running.api_url}/docs)")
            say(f"worker   {running.worker_url}/readyz")
            say(f"logs     {logs}")
            say(f'export AZURE_STORAGE_CONNECTION_STRING="{running.connection_string}"')
            say("try      heart-scorer submit samples/patients.csv --wait")
            say("Ctrl-C ends all of it.")
            asked.wait()
    except KeyboardInterrupt:
        say("stopped")
    except LocalError as error:
        say(str(error))
        raise typer.Exit(Exit.FAILED) from error
    finally:
        with suppress(OSError):
            STATE.unlink()
