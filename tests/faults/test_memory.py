"""Memory stays flat in the file's size."""

from __future__ import annotations

import asyncio
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.batches.message import Envelope, EnvelopeInput
from shared.files.base import Limits
from shared.records.artifact import Artifact
from tests.faults.invariants import Sent, sent
from tests.faults.lab import Lab, Worker
from tests.faults.patients import parquet, patients, table, workbook

pytestmark = [pytest.mark.azurite, pytest.mark.slow]

SETTINGS = {"SCORER_VISIBILITY_SECONDS": "30"}
CHUNK_ROWS = 50_000


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
