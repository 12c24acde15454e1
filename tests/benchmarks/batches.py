"""Files and messages: rows per second, peak memory, messages per second, the worker's start."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from shared.batches.message import Envelope, EnvelopeInput
from shared.storage.azure import Storage, StorageQueue
from tests.benchmarks.sides import DATA, RECORD, Bench, in_turn
from training.heart.fields import TABLE

MESSAGES = 400
FIELDS = [field.name for field in TABLE.fields]

Side = Callable[[Bench, Storage], Awaitable[float]]
"""One run over a storage account."""


async def measure_file(bench: Bench) -> None:
    """A million rows, from the receipt of their message to the summary."""

    async def ours(own: Bench, storage: Storage) -> float:
        blob = await upload(storage, 1_000_000)
        async with fresh_queue(storage) as (name, queue):
            with own.worker(name):
                return await batch_seconds(own, name, queue, blob)

    async def script(own: Bench, storage: Storage) -> float:
        blob = await upload(storage, 1_000_000)
        await storage.blobs().create_container("scores")
        return (await own.script("file", blob))["seconds"]

    worker, baseline = await alternate_files(bench, ours, script)
    bench.note(
        "thousand rows/s of a million-row CSV, against the script",
        [1000 / seconds for seconds in worker],
        [1000 / seconds for seconds in baseline],
        "≥ 4",
    )


async def measure_formats(bench: Bench) -> None:
    """A million rows in other formats: Parquet against CSV, JSON lines against a fixed rate."""

    def of(suffix: str) -> Side:
        async def side(own: Bench, storage: Storage) -> float:
            blob = await upload(storage, 1_000_000, suffix)
            async with fresh_queue(storage) as (name, queue):
                with own.worker(name):
                    return 1000 / await batch_seconds(own, name, queue, blob)

        return side

    rates = await alternate_files(bench, of(".csv"), of(".parquet"), of(".jsonl"))
    csv_rates, parquet, json_lines = rates
    measure = "thousand rows/s of a million rows of {}, against {}"
    bench.note(measure.format("Parquet", "CSV"), parquet, csv_rates, "≥ 1.5")
    fixed = [50.0] * len(json_lines)
    bench.note(measure.format("JSON Lines", "50"), json_lines, fixed, "≥ 3")


async def measure_memory(bench: Bench) -> None:
    """Peak memory by the size of the file."""
    peaks: dict[int, list[float]] = {100_000: [], 1_000_000: [], 10_000_000: []}
    for _ in range(min(bench.rounds, 3)):  # ten million rows take their time
        for rows, found in peaks.items():
            with bench.emulator() as own:
                async with own.storage() as storage, fresh_queue(storage) as (name, queue):
                    blob = await upload(storage, rows)
                    with own.worker(name) as pid:
                        await batch_seconds(own, name, queue, blob)
                        found.append(peak_memory(pid))
    small, _, large = peaks.values()
    bench.note("peak MiB of the worker for 10,000,000 rows, against 100,000", large, small, "≤ 1.1")
    limit = [220.0] * len(large)
    bench.note("peak MiB of the worker for 10,000,000 rows, against 220", large, limit, "≤ 1")


async def measure_messages(bench: Bench) -> None:
    """One-record messages per second."""

    def ours(slots: int) -> Side:
        async def side(own: Bench, storage: Storage) -> float:
            async with fresh_queue(storage) as (name, queue):
                await send_records(queue, MESSAGES)
                with own.worker(name, slots=slots):
                    written = [end for _, end in await own.committed(name, MESSAGES)]
                # From the first summary on: the start of the process is another measure.
                return (MESSAGES - 1) / (max(written) - min(written)).total_seconds()

        return side

    async def loop(own: Bench, storage: Storage) -> float:
        async with fresh_queue(storage) as (name, queue):
            await send_records(queue, MESSAGES)
            return MESSAGES / (await own.script("messages", name, str(MESSAGES)))["seconds"]

    async def calls(own: Bench, storage: Storage) -> float:
        async with fresh_queue(storage) as (name, queue):
            await send_records(queue, MESSAGES)
            run = await own.python("tests.benchmarks.same_calls", name, "4")
            return (MESSAGES - 1) / run["seconds"]

    four, sixteen, script, nothing = await alternate_messages(bench, ours(4), ours(16), loop, calls)
    measure = "one-record messages/s with {} slots, against {}"
    bench.note(measure.format(4, "the loop"), four, script, "≥ 1.8")
    bench.note(measure.format(16, "the loop"), sixteen, script, "")
    bench.note(
        measure.format(4, "the same SDK calls with nothing computed"), four, nothing, "≥ 0.9"
    )


async def measure_start(bench: Bench) -> None:
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
        "seconds from worker start to the first message scored, against the script",
        worker,
        baseline,
        "≤ 0.42",
    )


async def alternate_messages(bench: Bench, *sides: Side) -> list[list[float]]:
    """All runs over one Azurite: a new one is slow at first, and messages leave little there."""
    runs: list[list[float]] = [[] for _ in sides]
    with bench.emulator() as own:
        async with own.storage() as storage:
            for side in in_turn(bench.rounds, len(sides)):
                runs[side].append(await sides[side](own, storage))
    return runs


async def alternate_files(bench: Bench, *sides: Side) -> list[list[float]]:
    """Each run over an Azurite of its own: large files make the next run slower."""
    runs: list[list[float]] = [[] for _ in sides]
    for side in in_turn(bench.rounds, len(sides)):
        with bench.emulator() as own:
            async with own.storage() as storage:
                runs[side].append(await sides[side](own, storage))
    return runs


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


async def upload(storage: Storage, rows: int, suffix: str = ".csv") -> str:
    """A file of the data's rows, repeated, with ids; returns the blob's name."""
    name = f"{rows}-{uuid.uuid4().hex[:8]}{suffix}"
    blobs = storage.blobs()
    await blobs.create_container("uploads")
    blocks: list[str] = []
    for piece in PIECES[suffix](rows):
        blocks.append(f"{len(blocks):064d}")
        await blobs.stage("uploads", name, blocks[-1], piece)
    await blobs.commit("uploads", name, blocks, "application/octet-stream", {})
    return name


PIECE_ROWS = 100_000


def _csv_pieces(rows: int) -> Iterator[bytes]:
    header, *lines = [line.rsplit(",", 1)[0] for line in DATA.read_text().splitlines()]
    for start in range(0, rows, PIECE_ROWS):
        numbers = range(start, min(start + PIECE_ROWS, rows))
        piece = "".join(f"p{number},{lines[number % len(lines)]}\n" for number in numbers)
        yield ("" if start else f"patient_id,{header}\n").encode() + piece.encode()


def _json_pieces(rows: int) -> Iterator[bytes]:
    records = pl.read_csv(DATA).to_dicts()
    tails = [json.dumps({k: v for k, v in r.items() if k in FIELDS})[1:] for r in records]
    for start in range(0, rows, PIECE_ROWS):
        numbers = range(start, min(start + PIECE_ROWS, rows))
        yield "".join(
            f'{{"patient_id": "p{number}", {tails[number % len(tails)]}\n' for number in numbers
        ).encode()


def _parquet_pieces(rows: int) -> Iterator[bytes]:
    """As pandas writes it: row groups of a million rows, compressed with snappy."""
    data = pl.read_csv(DATA).select(FIELDS)
    repeated = pl.concat([data] * (rows // len(data) + 1)).head(rows)
    ids = pl.Series("patient_id", [f"p{number}" for number in range(rows)])
    file = io.BytesIO()
    pq.write_table(repeated.with_columns(ids).to_arrow(), file)
    content = file.getvalue()
    for start in range(0, len(content), 4 << 20):
        yield content[start : start + (4 << 20)]


PIECES: dict[str, Callable[[int], Iterator[bytes]]] = {
    ".csv": _csv_pieces,
    ".jsonl": _json_pieces,
    ".parquet": _parquet_pieces,
}


async def batch_seconds(own: Bench, name: str, queue: StorageQueue, blob: str) -> float:
    """Seconds from the receipt of this file's message to its summary."""
    await asyncio.sleep(1)  # until the worker has seen the empty queue; the script is loaded, too
    source = EnvelopeInput(container="uploads", blob=blob)
    await queue.send(Envelope(batch_id=f"bench-{uuid.uuid4().hex}", input=source).text())
    [(received, written)] = await own.committed(name, 1)
    return (written - received).total_seconds()


async def send_records(queue: StorageQueue, count: int) -> None:
    """One-record messages."""
    for _ in range(count):
        await queue.send(json.dumps(RECORD))


def peak_memory(pid: int) -> float:
    """MiB that a process has needed at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise LookupError("VmHWM")
