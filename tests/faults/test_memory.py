"""Memory stays flat in the file's size."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

import pytest

from shared.message import Envelope, EnvelopeInput
from tests.faults.lab import Lab, Worker
from tests.faults.patients import patients

pytestmark = [pytest.mark.azurite, pytest.mark.slow]

SETTINGS = {"SCORER_BLOCK_ROWS": "30000", "SCORER_VISIBILITY_SECONDS": "30"}
CHUNK_ROWS = 50_000


async def peak_memory(lab: Lab, rows: int) -> float:
    """MiB that a worker needed at most for one file of this many rows."""
    batch_id = f"m-{uuid.uuid4().hex[:8]}"
    name = f"{batch_id}.csv"
    header, lines = patients(CHUNK_ROWS, seed=10).split(b"\n", 1)
    blocks = [f"{number:064d}" for number in range(rows // CHUNK_ROWS)]
    for number, block in enumerate(blocks):
        await lab.blobs.stage("uploads", name, block, lines if number else header + b"\n" + lines)
    await lab.blobs.commit("uploads", name, blocks, "text/csv", {})
    source = EnvelopeInput(container="uploads", blob=name)
    await lab.queue.send(Envelope(batch_id=batch_id, input=source).text())

    with lab.worker(**SETTINGS) as worker:
        summary = await lab.watch.wait(batch_id, 20 + rows / 20_000)
        peak = _peak(worker)

    assert summary["rows"]["total"] == rows
    return peak


def _peak(worker: Worker) -> float:
    status = Path(f"/proc/{worker.child.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
async def test_memory_is_flat_in_the_size_of_the_file(lab: Lab) -> None:
    sizes = [100_000, 1_000_000]
    if os.environ.get("FAULT_ROWS"):
        sizes.append(int(os.environ["FAULT_ROWS"]))

    peaks = [await peak_memory(lab, rows) for rows in sizes]
    print({rows: round(peak) for rows, peak in zip(sizes, peaks, strict=True)})

    assert max(peaks) <= 256
    assert max(peaks) <= min(peaks) * 1.1
