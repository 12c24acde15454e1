"""`make bench`: measures the product against its baselines and prints one table of ratios.

Both sides of a ratio are measured in the same run, alternating, and compared round by round:
machines are noisy, ratios less so. Nothing is asserted. The figures also go to `.local/bench.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import uvloop
from pydantic import SecretStr

from cli.local import LOCAL, ROOT, artifact, azurite, free_port, process, wait_until
from shared.batches.message import Envelope, EnvelopeInput
from shared.settings import StorageSettings
from shared.storage.azure import Storage, StorageQueue, open_storage
from tests.benchmarks.baseline_app import train
from tests.benchmarks.distance import far_away

DISTANCE = 0.01
"""Seconds that a request to a storage account of the same region takes."""
DATA = ROOT / "training/heart/data/heart_cleveland.csv"
RECORD = {"age": 63, "sex": 1, "cp": 3, "trestbps": 145, "chol": 233}


class Bench:
    """What all measures share: a folder, and the table so far; within `emulator`, storage."""

    def __init__(self, folder: Path, rounds: int, connection_string: str = "") -> None:
        self.folder = folder
        self.rounds = rounds
        self.connection_string = connection_string
        self.seed_model = folder / "seed.joblib"
        self.estimator = artifact() / "model.joblib"
        self.rows: list[dict[str, Any]] = []

    def note(
        self, name: str, measure: str, ours: list[float], baseline: list[float], reach: str
    ) -> None:
        """Add a line: the median of each side, and of the rounds' ratios of ours to the baseline.

        The machine's speed drifts, and the runs of a round have about the same: from the same runs,
        medians of ratios scatter by a quarter less than ratios of medians.
        """
        ratios = [of_ours / of_theirs for of_ours, of_theirs in zip(ours, baseline, strict=True)]
        row = {
            "name": name,
            "measure": measure,
            "ours": statistics.median(ours),
            "baseline": statistics.median(baseline),
            "ratio": statistics.median(ratios),
            "reach": reach,
        }
        self.rows.append(row)
        print(
            f"{name:<4} {measure:<66} {row['ours']:>12,.3f} {row['baseline']:>12,.3f} "
            f"{row['ratio']:>8.2f}  {reach}",
            flush=True,
        )

    @contextmanager
    def emulator(self, distance: float = 0) -> Iterator[Bench]:
        """The same over an empty Azurite, each request to it so many seconds longer."""
        with ExitStack() as stack:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder)))
            connection_string = stack.enter_context(azurite(data, self.folder)).connection_string
            if distance:
                connection_string = stack.enter_context(far_away(connection_string, distance))
            yield Bench(self.folder, self.rounds, connection_string)

    def storage(self) -> AbstractAsyncContextManager[Storage]:
        return open_storage(StorageSettings(connection_string=SecretStr(self.connection_string)))

    @contextmanager
    def api(self, log_level: str = "warning") -> Iterator[tuple[str, int]]:
        """Our api; its URL and process id. Without a line for each request, as the other sides."""
        port = free_port()
        env = {
            "SCORER_PORT": str(port),
            "SCORER_HEALTH_PORT": str(free_port()),
            "SCORER_MODEL_DIR": str(artifact()),
            "SCORER_LOG_LEVEL": log_level,
        }
        with process([sys.executable, "-m", "api"], self.folder / "api.log", env) as child:
            yield f"http://127.0.0.1:{port}/predict", child.pid

    @contextmanager
    def baseline(self, model: str) -> Iterator[tuple[str, int]]:
        """The seed's app, one that computes nothing, or one without a framework."""
        port = free_port()
        command = [sys.executable, "-m", "tests.benchmarks.baseline_app", model, str(port)]
        with process(command, self.folder / "baseline.log") as child:
            yield f"http://127.0.0.1:{port}/predict", child.pid

    @contextmanager
    def worker(self, queue: str, **settings: object) -> Iterator[int]:
        """One worker on this queue; its process id."""
        env = {
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
        """Where the workers on a queue log."""
        return self.folder / f"{queue}.log"

    async def committed(self, queue: str, count: int) -> list[tuple[datetime, datetime]]:
        """Wait for so many batches; when each was received, and when its summary stood.

        By the workers' log: to ask storage would take from what is measured.
        """
        while True:
            lines = self.log(queue).read_bytes().splitlines()
            committed = [line for line in lines if b'"batch_committed"' in line]
            if len(committed) >= count:
                break
            await asyncio.sleep(0.05)
        found = []
        for entry in map(json.loads, committed):
            stood = datetime.fromisoformat(entry["time"])
            found.append((stood - timedelta(seconds=entry["seconds"]), stood))
        return found

    async def script(self, kind: str, *words: str) -> dict[str, float]:
        """One run of the baseline script over files or messages: seconds and peak memory."""
        return await self.python(
            "tests.benchmarks.baseline_script", kind, str(self.estimator), *words
        )

    async def python(self, module: str, *words: str) -> dict[str, float]:
        """What a module prints of its run, as a process of its own."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", module, *words],
            env=os.environ | {"AZURE_STORAGE_CONNECTION_STRING": self.connection_string},
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


T = TypeVar("T")

Side = Callable[[Bench, Storage], Awaitable[float]]
"""One run over a storage account."""


def in_turn(rounds: int, sides: int) -> Iterator[int]:
    """Which side runs next. Each round begins with another: none always follows the same one."""
    for number in range(rounds):
        for step in range(sides):
            yield (number + step) % sides


def alternate(rounds: int, *sides: Callable[[], T]) -> list[list[T]]:
    """What each side gave, round by round."""
    runs: list[list[T]] = [[] for _ in sides]
    for place in in_turn(rounds, len(sides)):
        runs[place].append(sides[place]())
    return runs


async def alternate_messages(bench: Bench, *sides: Side, distance: float = 0) -> list[list[float]]:
    """The same over one Azurite: a new one is slow at first, and messages leave little there."""
    runs: list[list[float]] = [[] for _ in sides]
    with bench.emulator(distance) as own:
        async with own.storage() as storage:
            for place in in_turn(bench.rounds, len(sides)):
                runs[place].append(await sides[place](own, storage))
    return runs


async def alternate_files(bench: Bench, *sides: Side) -> list[list[float]]:
    """The same, each run over an Azurite of its own.

    What one run leaves there, the next would pay: with one for all, Azurite took 0.6 to 0.9 s more
    CPU for our million rows when the script had uploaded its result before.
    """
    runs: list[list[float]] = [[] for _ in sides]
    for place in in_turn(bench.rounds, len(sides)):
        with bench.emulator() as own:
            async with own.storage() as storage:
                runs[place].append(await sides[place](own, storage))
    return runs


def per_second(count: float, seconds: list[float]) -> list[float]:
    """Rates, of so many in each of these times."""
    return [count / each for each in seconds]


def load(url: str) -> dict[str, float]:
    """Requests/s and latencies in ms: a second of `wrk` over 16 connections."""
    assert urlsplit(url).hostname == "127.0.0.1", "only this machine"
    script = str(Path(__file__).with_name("wrk.lua"))
    done = subprocess.run(
        ["wrk", "-t1", "-c16", "-d1s", "-s", script, url, "--", json.dumps(RECORD)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert not found["failed"], f"{found['failed']:g} requests failed"
    return found


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """Processes that are started within have this core, and no other."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def answer(url: str) -> bool:
    """Whether a prediction is answered."""
    request = urllib.request.Request(
        url, json.dumps(RECORD).encode(), {"Content-Type": "application/json"}
    )
    with suppress(OSError, urllib.error.HTTPError), urllib.request.urlopen(request, timeout=5):
        return True
    return False


def resident(pid: int, field: str = "VmRSS") -> float:
    """Memory of a process in MiB: now, or (VmHWM) at its peak."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def p1_requests(bench: Bench) -> None:
    """Requests/s of servers on one core, with the load on another."""
    with ExitStack() as serving:
        with on_core(0):
            serve = serving.enter_context
            ours, _ = serve(bench.api())
            logging, _ = serve(bench.api("info"))
            seed, _ = serve(bench.baseline(str(bench.seed_model)))
            empty, _ = serve(bench.baseline("nothing"))
            raw, _ = serve(bench.baseline("raw"))
        urls = (ours, logging, seed, empty, raw)
        for url in urls:
            _wait(lambda url=url: answer(url))  # type: ignore[misc]  # bound at once
        with on_core(-1):
            # Short loads, and more of them: the machine's speed changes within seconds, too.
            runs = alternate(3 * bench.rounds, *(partial(load, url) for url in urls))

    def figures(url: str, key: str = "per_second") -> list[float]:
        return [run[key] for run in runs[urls.index(url)]]

    rate = figures(ours)
    bench.note("P1", "requests/s against the seed's app", rate, figures(seed), ">= 15")
    bench.note(
        "P1", "requests/s against an endpoint that computes nothing", rate, figures(empty), ">= 0.9"
    )
    bench.note("P1", "requests/s against a raw ASGI answer", rate, figures(raw), "")
    bench.note(
        "P1", "requests/s with a log line for each, against without", figures(logging), rate, ""
    )
    for key in ("p50", "p99"):
        bench.note(
            "P1", f"{key} in ms against the seed's app", figures(ours, key), figures(seed, key), ""
        )


def p2_start(bench: Bench) -> None:
    """Process start to first 200, and memory then."""
    memory: dict[str, list[float]] = {"ours": [], "seed": []}

    def start(name: str, serve: Callable[[], Any]) -> float:
        begun = time.perf_counter()
        with serve() as (url, pid):
            _wait(lambda: answer(url), pause=0.002)
            took = time.perf_counter() - begun
            memory[name].append(resident(pid))
        return took

    ours, seed = alternate(
        bench.rounds,
        lambda: start("ours", bench.api),
        lambda: start("seed", lambda: bench.baseline(str(bench.seed_model))),
    )
    bench.note("P2", "seconds from process start to the first 200", ours, seed, "<= 0.22")
    bench.note("P2", "MiB resident then", memory["ours"], memory["seed"], "<= 0.45")


async def p3_file(bench: Bench) -> None:
    """A million rows, from the receipt of their message to the summary."""

    async def ours(own: Bench, storage: Storage) -> float:
        blob = await upload(storage, 1_000_000)
        async with fresh_queue(storage) as (name, queue):
            with own.worker(name):
                return await batch_seconds(own, name, queue, [blob])

    async def script(own: Bench, storage: Storage) -> float:
        blob = await upload(storage, 1_000_000)
        await storage.blobs().create_container("scores")
        return (await own.script("file", blob))["seconds"]

    worker, baseline = await alternate_files(bench, ours, script)
    bench.note(
        "P3",
        "thousand rows/s of a 1,000,000-row file",
        per_second(1e3, worker),
        per_second(1e3, baseline),
        ">= 4",
    )


async def p4_memory(bench: Bench) -> None:
    """Peak memory by size of the file."""
    peaks: dict[int, list[float]] = {100_000: [], 1_000_000: [], 10_000_000: []}
    for _ in range(min(bench.rounds, 3)):  # ten million rows take their time
        for rows, found in peaks.items():
            with bench.emulator() as own:
                async with own.storage() as storage, fresh_queue(storage) as (name, queue):
                    blob = await upload(storage, rows)
                    with own.worker(name) as pid:
                        await batch_seconds(own, name, queue, [blob])
                        found.append(resident(pid, "VmHWM"))
    for rows, found in peaks.items():
        limit = [256.0] * len(found)
        bench.note("P4", f"peak MiB at {rows:,} rows against 256", found, limit, "<= 1")
    small, large = peaks[100_000], peaks[10_000_000]
    bench.note("P4", "peak at 10,000,000 rows against 100,000", large, small, "<= 1.1")


async def p5_messages(bench: Bench) -> None:
    """One-record messages/s: with storage beside us, and as far away as a cloud's is."""
    await _messages(bench, 400, 0)
    await _messages(bench, 200, DISTANCE)


async def _messages(bench: Bench, count: int, distance: float) -> None:
    def ours(slots: int) -> Side:
        async def side(own: Bench, storage: Storage) -> float:
            async with fresh_queue(storage) as (name, queue):
                await send_records(queue, count)
                with own.worker(name, slots=slots):
                    ends = [end for _, end in await own.committed(name, count)]
                # Counted from the first summary: the process start is another measure.
                return (count - 1) / (max(ends) - min(ends)).total_seconds()

        return side

    async def loop(own: Bench, storage: Storage) -> float:
        async with fresh_queue(storage) as (name, queue):
            await send_records(queue, count)
            run = await own.script("messages", name, str(count))
            return count / run["seconds"]

    def calls(slots: int) -> Side:
        async def side(own: Bench, storage: Storage) -> float:
            async with fresh_queue(storage) as (name, queue):
                await send_records(queue, count)
                run = await own.python("tests.benchmarks.same_calls", name, str(slots))
                return (count - 1) / run["seconds"]

        return side

    four, sixteen, script, same_four, same_sixteen = await alternate_messages(
        bench, ours(4), ours(16), loop, calls(4), calls(16), distance=distance
    )
    where = f", {1e3 * distance:g} ms away" if distance else ""
    messages = "one-record messages/s, {} slots, against {}" + where
    nothing = "calls that score nothing"
    bench.note("P5", messages.format(4, "the loop"), four, script, ">= 2")
    bench.note("P5", messages.format(16, "the loop"), sixteen, script, ">= 2.5")
    bench.note("P5", messages.format(4, nothing), four, same_four, ">= 0.9")
    # What there is to reach at all.
    bench.note("P5", f"{nothing}, 4 slots, against the loop{where}", same_four, script, "")
    bench.note("P5", f"{nothing}, 16 slots, against the loop{where}", same_sixteen, script, "")


async def p6_worker_start(bench: Bench) -> None:
    """Process start to the first message scored."""

    async def ours(own: Bench, storage: Storage) -> float:
        async with fresh_queue(storage) as (name, queue):
            await send_records(queue, 1)
            begun = datetime.now(UTC)
            with own.worker(name):
                _, end = (await own.committed(name, 1))[0]
            return (end - begun).total_seconds()

    async def script(own: Bench, storage: Storage) -> float:
        async with fresh_queue(storage) as (name, queue):
            await send_records(queue, 1)
            begun = datetime.now(UTC)
            run = await own.script("messages", name, "1")
            return run["finished"] - begun.timestamp()

    worker, baseline = await alternate_messages(bench, ours, script)
    bench.note(
        "P6", "seconds from worker start to the first message scored", worker, baseline, "<= 0.35"
    )


async def p7_two_workers(bench: Bench) -> None:
    """Two workers against one on eight files."""

    def seconds(workers: int) -> Side:
        async def side(own: Bench, storage: Storage) -> float:
            blobs = [await upload(storage, 200_000) for _ in range(8)]
            async with fresh_queue(storage) as (name, queue):
                with ExitStack() as running:
                    for _ in range(workers):
                        running.enter_context(own.worker(name, slots=2, idle_seconds=0.1))
                    return await batch_seconds(own, name, queue, blobs)

        return side

    one, two = await alternate_files(bench, seconds(1), seconds(2))
    bench.note(
        "P7", "files/s of two workers against one", per_second(8, two), per_second(8, one), ">= 1.7"
    )


@asynccontextmanager
async def fresh_queue(storage: Storage) -> AsyncIterator[tuple[str, StorageQueue]]:
    """A queue of its own with its poison queue, and the containers."""
    name = f"bench-{uuid.uuid4().hex[:12]}"
    queue = storage.queue(name)
    await queue.create()
    await storage.queue(f"{name}-poison").create()
    for container in ("incoming", "uploads", "scores"):
        await storage.blobs().create_container(container)
    yield name, queue


async def upload(storage: Storage, rows: int) -> str:
    """A file of the data's rows repeated, with ids; in pieces, so that it may be large."""
    header, *lines = DATA.read_text().splitlines()
    name = f"{rows}-{uuid.uuid4().hex[:8]}.csv"
    blobs = storage.blobs()
    await blobs.create_container("uploads")
    blocks: list[str] = []
    piece = [f"patient_id,{header.rsplit(',', 1)[0]}\n"]
    for number in range(rows):
        piece.append(f"p{number},{lines[number % 303].rsplit(',', 1)[0]}\n")
        if len(piece) > 100_000 or number == rows - 1:
            blocks.append(f"{len(blocks):064d}")
            await blobs.stage("uploads", name, blocks[-1], "".join(piece).encode())
            piece = []
    await blobs.commit("uploads", name, blocks, "text/csv", {})
    return name


async def batch_seconds(own: Bench, name: str, queue: StorageQueue, blobs: list[str]) -> float:
    """Seconds from the first receipt of these files' messages to their last summary."""
    await asyncio.sleep(1)  # the worker has found its queue empty: it and the script are loaded
    for blob in blobs:
        named = EnvelopeInput(container="uploads", blob=blob)
        await queue.send(Envelope(batch_id=f"bench-{uuid.uuid4().hex}", input=named).text())
    received, stood = zip(*await own.committed(name, len(blobs)), strict=True)
    return float((max(stood) - min(received)).total_seconds())


async def send_records(queue: StorageQueue, count: int) -> None:
    """One-record messages."""
    for _ in range(count):
        await queue.send(json.dumps(RECORD))


def _wait(ready: Callable[[], bool], pause: float = 0.05, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > ends:
            raise TimeoutError("a server did not answer")
        time.sleep(pause)


MEASURES: dict[str, Callable[[Bench], Any]] = {
    "P1": p1_requests,
    "P2": p2_start,
    "P3": p3_file,
    "P4": p4_memory,
    "P5": p5_messages,
    "P6": p6_worker_start,
    "P7": p7_two_workers,
}


def main() -> None:
    """Measure what is asked for, else all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, []], help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="alternating runs of each side")
    asked = parser.parse_args()
    measures = asked.measures or list(MEASURES)
    if "P1" in measures and not shutil.which("wrk"):
        parser.error("P1 needs wrk, which Debian has as a package: apt-get install wrk")
    for package in ("shared", "api", "worker", "training", "tests"):
        # As an image has it: where PYTHONDONTWRITEBYTECODE is set, each start would compile anew.
        compileall.compile_dir(ROOT / package, quiet=1)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), asked.rounds)
        train(str(DATA), str(bench.seed_model))
        print(f"{'':<4} {'measure':<66} {'ours':>12} {'baseline':>12} {'ratio':>8}  reach")
        for measure in measures:
            done = MEASURES[measure](bench)
            if asyncio.iscoroutine(done):
                uvloop.run(done)  # as the worker does
        LOCAL.mkdir(exist_ok=True)
        (LOCAL / "bench.json").write_text(json.dumps(bench.rows, indent=1))


if __name__ == "__main__":
    main()
