"""The sides of every ratio as processes, and how they take turns."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TypeVar

import joblib
from pydantic import SecretStr

from cli.local import ROOT, WORKER_ENV, artifact, azurite, process, wait_until
from shared.records.artifact import read_manifest
from shared.records.estimator import SKOPS, load_estimator
from shared.settings import StorageSettings
from shared.storage.azure import Storage, open_storage
from tests.ports import free_port

DATA = ROOT / "training/heart/data/heart_cleveland.csv"
RECORD = {"age": 63, "sex": 1, "cp": 3, "trestbps": 145, "chol": 233}
PEERS = ROOT / ".venv-peers"
"""An environment of their own: they need other versions than the product."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: medians of both sides, and of the rounds' ratios."""

    measure: str
    ours: float
    baseline: float
    ratio: float
    wanted: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where a server scores, the request that it wants, and its log."""

    url: str
    body: str
    log: Path


def _pickle_estimator(artifact_dir: Path, target: Path) -> None:
    """Write the demonstration's estimator as the script loads it."""
    manifest, _ = read_manifest(artifact_dir)
    content = (artifact_dir / SKOPS).read_bytes()
    joblib.dump(load_estimator(SKOPS, content, manifest.libraries, allow_pickle=False), target)


class Bench:
    """A folder and the table so far; within `emulator`, storage as well."""

    def __init__(self, folder: Path, rounds: int, connection_string: str = "") -> None:
        self.folder = folder
        self.rounds = rounds
        self.connection_string = connection_string
        self.tutorial_model = folder / "tutorial.joblib"
        self.peers_model = folder / "peers.joblib"
        self.estimator = folder / "estimator.joblib"
        _pickle_estimator(artifact(), self.estimator)
        self.peers = ("mlserver", "bentoml", "litserve") if (PEERS / "stamp").exists() else ()
        self.rows: list[Row] = []

    def note(
        self, measure: str, ours: Sequence[float], baseline: Sequence[float], wanted: str
    ) -> None:
        """Add a line of the table.

        The machine's speed drifts, but hardly within a round: medians of the rounds' ratios
        scatter less than ratios of medians.
        """
        ratio = median(mine / theirs for mine, theirs in zip(ours, baseline, strict=True))
        row = Row(measure, median(ours), median(baseline), ratio, wanted)
        self.rows.append(row)
        print(
            f"{measure:<78} {row.ours:>11,.3f} {row.baseline:>11,.3f} {ratio:>7.2f}  {wanted}",
            flush=True,
        )

    @contextmanager
    def emulator(self) -> Iterator[Bench]:
        """The same over an empty Azurite."""
        with ExitStack() as stack:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder)))
            running = stack.enter_context(azurite(data, self.folder))
            yield Bench(self.folder, self.rounds, running.connection_string)

    def storage(self) -> AbstractAsyncContextManager[Storage]:
        return open_storage(StorageSettings(connection_string=SecretStr(self.connection_string)))

    @contextmanager
    def api(self) -> Iterator[Target]:
        """Our API, without an access log, like the other sides."""
        port = free_port()
        env = {
            "SCORER_PORT": str(port),
            "SCORER_HEALTH_PORT": str(free_port()),
            "SCORER_MODEL_DIR": str(artifact()),
            "SCORER_LOG_LEVEL": "warning",
        }
        log = self.folder / "api.log"
        with process([sys.executable, "-m", "api"], log, env):
            yield Target(f"http://127.0.0.1:{port}/predict", json.dumps(RECORD), log)

    @contextmanager
    def tutorial(self) -> Iterator[Target]:
        """The tutorial's app."""
        with self._app("tests.benchmarks.tutorial_app", str(self.tutorial_model)) as target:
            yield target

    @contextmanager
    def empty(self) -> Iterator[Target]:
        """A FastAPI endpoint with our models that computes nothing."""
        with self._app("tests.benchmarks.empty_app", str(artifact())) as target:
            yield target

    @contextmanager
    def _app(self, module: str, model: str) -> Iterator[Target]:
        port = free_port()
        command = [sys.executable, "-m", module, model, str(port)]
        log = self.folder / f"{module}.log"
        with process(command, log):
            yield Target(f"http://127.0.0.1:{port}/predict", json.dumps(RECORD), log)

    @contextmanager
    def peer(self, name: str) -> Iterator[Target]:
        """The tutorial's model on another server, set up as its documents show it."""
        port, model = free_port(), str(self.peers_model)
        scripts = PEERS / "bin"
        path, body = "/predict", json.dumps(RECORD)
        match name:
            case "mlserver":
                command, env = self._mlserver(port)
                path = "/v2/models/heart/infer"
                body = json.dumps(
                    {
                        "inputs": [
                            {
                                "name": "records",
                                "shape": [1, len(RECORD)],
                                "datatype": "FP64",
                                "data": [list(RECORD.values())],
                            }
                        ],
                        "outputs": [{"name": "predict_proba"}],
                    }
                )
            case "bentoml":
                service = "tests.benchmarks.peer_bentoml:Heart"
                address = ("--host", "127.0.0.1", "--port", str(port))
                command = [str(scripts / "bentoml"), "serve", service, *address]
                env = {"MODEL": model, "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": str(ROOT)}
            case _:
                command = [
                    str(scripts / "python"),
                    "-m",
                    "tests.benchmarks.peer_litserve",
                    model,
                    str(port),
                ]
                env = {}
        log = self.folder / f"{name}.log"
        with process(command, log, env) as child:
            yield Target(f"http://127.0.0.1:{port}{path}", body, log)
        # LitServe leaves processes of its own running when it is asked to end.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)

    def _mlserver(self, port: int) -> tuple[list[str], Mapping[str, str]]:
        folder = self.folder / "mlserver"
        folder.mkdir(exist_ok=True)
        settings = {
            "name": "heart",
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(self.peers_model)},
        }
        (folder / "model-settings.json").write_text(json.dumps(settings))
        ports = {"HTTP": port, "GRPC": free_port(), "METRICS": free_port()}
        env = {f"MLSERVER_{name}_PORT": str(number) for name, number in ports.items()}
        env |= {
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_DEBUG": "false",
            "MLSERVER_PARALLEL_WORKERS": "0",
        }
        return [str(PEERS / "bin/mlserver"), "start", str(folder)], env

    @contextmanager
    def worker(self, queue: str, **settings: object) -> Iterator[int]:
        """One worker on this queue; its process id."""
        env = WORKER_ENV | {
            "AZURE_STORAGE_CONNECTION_STRING": self.connection_string,
            "SCORER_MODEL_DIR": str(artifact()),
            "SCORER_QUEUE": queue,
            "SCORER_HEALTH_PORT": str(free_port()),
        }
        env |= {f"SCORER_{name.upper()}": str(value) for name, value in settings.items()}
        log = self.log(queue)
        with process([sys.executable, "-m", "worker"], log, env) as child:
            wait_until(child, f"http://127.0.0.1:{env['SCORER_HEALTH_PORT']}/readyz", log)
            yield child.pid

    def log(self, queue: str) -> Path:
        """Log of the workers on a queue."""
        return self.folder / f"{queue}.log"

    async def committed(self, queue: str, count: int) -> list[tuple[datetime, datetime]]:
        """Wait for this many batches; when each was received and when its summary was written.

        Read from the workers' log: polling storage would slow down what is measured.
        """
        while True:
            lines = self.log(queue).read_bytes().splitlines()
            committed = [line for line in lines if b'"batch_committed"' in line]
            if len(committed) >= count:
                break
            await asyncio.sleep(0.05)
        times = []
        for entry in map(json.loads, committed):
            written = datetime.fromisoformat(entry["time"])
            times.append((written - timedelta(seconds=entry["seconds"]), written))
        return times

    async def script(self, command: str, *words: str) -> dict[str, float]:
        """One run of the baseline script over files or messages: seconds and peak memory."""
        return await self.python(
            "tests.benchmarks.baseline_script", command, str(self.estimator), *words
        )

    async def python(self, module: str, *words: str) -> dict[str, float]:
        """Run a module as a process of its own; the figures that it prints."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", module, *words],
            env=os.environ | {"AZURE_STORAGE_CONNECTION_STRING": self.connection_string},
            capture_output=True,
            text=True,
            check=True,
        )
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return figures


def in_turn(rounds: int, sides: int) -> Iterator[int]:
    """Which side runs next. Each round begins with another, so none always follows the same one."""
    for number in range(rounds):
        for step in range(sides):
            yield (number + step) % sides


def alternate(rounds: int, *sides: Callable[[], T]) -> list[list[T]]:
    """The results of each side, round by round."""
    runs: list[list[T]] = [[] for _ in sides]
    for side in in_turn(rounds, len(sides)):
        runs[side].append(sides[side]())
    return runs
