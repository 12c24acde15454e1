"""Memory does not grow with the size of a file."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.batches.message import Envelope, EnvelopeInput, EnvelopeOptions
from shared.files.base import Limits
from shared.records.artifact import Artifact
from tests.faults.invariants import Failed, Sent, sent
from tests.faults.lab import Lab, Worker
from tests.faults.patients import HEADER, parquet, patients, table, workbook

pytestmark = [pytest.mark.azurite, pytest.mark.slow]

SETTINGS = {"SCORER_VISIBILITY_SECONDS": "30"}
CHUNK_ROWS = 50_000

DEFAULTS = {"SCORER_BLOCK_ROWS": str(Limits().rows)}
LISTS = b"[" * 28 + b"]" * 28
ROW = b"p,50,1,0,120,200,0,0,150,0,1.0,0,0,0\n"
LETTERS = b"m,a,b,c,d,e,f,g,h,i,j,k\n"
RECORD = b'{"age":50,"sex":1}'
BOMBS: dict[str, Callable[[], bytes]] = {
    "words in all cells.csv": lambda: with_header(
        *(b"p,%x,%b" % (i, LETTERS) for i in range(100_000))
    ),
    "cells missing.csv": lambda: with_header(ROW, b"x\n" * 200_000),
    "cells with quotes.csv": lambda: with_header(b'x"x,,,,,,,,,,,,,\n' * 100_000),
    "blank.csv": lambda: with_header(ROW, b"\n" * (16 << 20)),
    "an open quote.csv": lambda: with_header(b'"' * (16 << 20)),
    "blank.jsonl": lambda: lines(b"\n" * (16 << 20)),
    "one line.jsonl": lambda: lines(b"x" * (16 << 20)),
    "empty objects.jsonl": lambda: lines(b"{}\n" * 40_000),
    "numbers.jsonl": lambda: lines(b"1\n" * 40_000),
    "lists.jsonl": lambda: lines(b"[[],[],[],[]]\n" * 40_000),
    "nested.jsonl": lambda: lines((LISTS + b"\n") * 40_000),
    "nested in fields.jsonl": lambda: lines((b'{"age":[%b]}\n' % many(b"[]", 10)) * 40_000),
    "nested in long lines.jsonl": lambda: lines((b'{"age":[%b]}\n' % many(LISTS, 16_000)) * 3),
    "lists in long lines.jsonl": lambda: lines((b"[%b]\n" % many(b"[]", 300_000)) * 3),
    "nested.json": lambda: array(LISTS, 40_000),
    "lists.json": lambda: array(b"[[],[],[],[]]", 40_000),
    "nested in long items.json": lambda: array(b'{"age":[%b]}' % many(LISTS, 16_000), 3),
    "numbers.json": lambda: array(b"1", 40_000),
    "open.json": lambda: b"[" * (16 << 20),
}
"""Small files that become large: in memory, as their result, or both."""


def with_header(*rows: bytes) -> bytes:
    return b"".join([HEADER.encode(), b"\n", *rows])


def lines(content: bytes) -> bytes:
    return RECORD + b"\n" + content


def many(item: bytes, count: int) -> bytes:
    return b",".join([item] * count)


def array(item: bytes, count: int) -> bytes:
    return b"[%b,%b]" % (RECORD, many(item, count))


@dataclass(frozen=True, slots=True)
class Repeated(Sent):
    """The rows of `content`, so many times."""

    times: int = 1

    @property
    def rows(self) -> int:
        return CHUNK_ROWS * self.times

    def result(self) -> Iterator[bytes]:
        header, *lines = self.scores.splitlines(keepends=True)
        assert header.startswith(b"row,")
        assert len(lines) == CHUNK_ROWS
        rests = [line.partition(b",")[2] for line in lines]
        yield header
        for first in range(1, self.rows, CHUNK_ROWS):
            yield b"".join(b"%d,%b" % (row, rest) for row, rest in enumerate(rests, first))


async def peak_memory(lab: Lab, chunk: Sent, rows: int) -> float:
    """MiB that a worker needed at most for one file of this many rows."""
    batch_id = f"m-{uuid.uuid4().hex[:8]}"
    name = f"{batch_id}.csv"
    header, lines = chunk.content.split(b"\n", 1)
    blocks = [f"{number:064d}" for number in range(rows // CHUNK_ROWS)]
    for number, block in enumerate(blocks):
        await lab.blobs.stage("uploads", name, block, lines if number else header + b"\n" + lines)
    await lab.blobs.commit("uploads", name, blocks, "text/csv", {})
    source = EnvelopeInput(container="uploads", blob=name)
    await lab.queue.send(Envelope(batch_id=batch_id, input=source).text())

    with lab.worker(**SETTINGS) as worker:
        await lab.watch.wait(batch_id, 1500)
        peak = _peak(worker)

        await lab.kept(Repeated(batch_id, chunk.content, ".csv", chunk.scores, b"", len(blocks)))
    return peak


def _peak(worker: Worker) -> float:
    status = Path(f"/proc/{worker.child.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
async def test_memory_is_flat_in_the_size_of_the_file(lab: Lab, artifact: Artifact) -> None:
    content = patients(CHUNK_ROWS, seed=10)
    chunk = await asyncio.to_thread(sent, artifact, "chunk", content)
    sizes = [100_000, 1_000_000]
    if os.environ.get("FAULT_ROWS"):
        sizes.append(int(os.environ["FAULT_ROWS"]))

    peaks = [await peak_memory(lab, chunk, rows) for rows in sizes]
    print({rows: round(peak) for rows, peak in zip(sizes, peaks, strict=True)})

    assert max(peaks) <= 256
    assert max(peaks) <= min(peaks) * 1.1


@pytest.mark.whole_file
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
async def test_memory_is_flat_in_the_size_of_a_parquet_file(lab: Lab, artifact: Artifact) -> None:
    chunk = table(CHUNK_ROWS, seed=11)

    peaks = [
        await packed_peak(lab, artifact, parquet(chunk, times), ".parquet") for times in (2, 12)
    ]
    print([round(peak) for peak in peaks])

    assert max(peaks) <= 256
    assert max(peaks) <= min(peaks) * 1.1


@pytest.mark.whole_file
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
async def test_a_workbook_fits_the_memory(lab: Lab, artifact: Artifact) -> None:
    peak = await packed_peak(lab, artifact, workbook(table(10_000, seed=12)), ".xlsx")
    print(round(peak))

    assert peak <= 256


async def packed_peak(lab: Lab, artifact: Artifact, content: bytes, suffix: str) -> float:
    """MiB that a worker needed at most for this file."""
    batch_id = f"m-{uuid.uuid4().hex[:8]}"
    batch = await asyncio.to_thread(sent, artifact, batch_id, content, suffix)
    await lab.submit(batch)
    rows = str(Limits().rows)
    with lab.worker(**SETTINGS, SCORER_BLOCK_ROWS=rows) as worker:
        await lab.watch.wait(batch_id, 600)
        peak = _peak(worker)

        await lab.kept(batch)
    return peak


@pytest.mark.whole_file
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
async def test_gzip_bombs_do_not_take_much_more_memory_than_large_files(lab: Lab) -> None:
    peaks: dict[str, int] = {}
    with lab.worker(**SETTINGS, **DEFAULTS) as worker:
        for name, bomb in BOMBS.items():
            batch_id = f"m-{uuid.uuid4().hex[:8]}"
            packed = await asyncio.to_thread(gzip.compress, bomb(), 1)
            source = EnvelopeInput(
                container="uploads", blob=f"{batch_id}.{name.partition('.')[2]}.gz"
            )
            await lab.replace("uploads", source.blob, packed)
            options = EnvelopeOptions(include_input=True)
            envelope = Envelope(batch_id=batch_id, input=source, options=options)
            await lab.queue.send(envelope.text())

            await lab.watch.wait(batch_id, 120)
            peaks[name] = round(_peak(worker))

        await lab.kept(Failed(batch_id, "nested too deeply"))  # the last one

    print(peaks)
    # About 165 MiB are the process itself, with its libraries; the image's replica has 1 GiB.
    assert max(peaks.values()) <= 300
