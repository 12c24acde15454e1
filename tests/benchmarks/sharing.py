"""One large file that several workers share: the gain of more workers, and the cost of sharing.

Each worker has a quarter of a core, so that four of them fit one core and do not compete.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cli.local import artifact
from shared.batches.message import Batch, BlobInput
from shared.files.base import Limits
from shared.files.formats import open_table
from shared.files.options import Options
from shared.records.artifact import load_artifact
from shared.records.tally import Tallier
from shared.storage.azure import Storage
from shared.testing import FakeBlobs
from tests.benchmarks.batches import Side, alternate_files, batch_seconds, fresh_queue, upload
from tests.benchmarks.sides import DATA, Bench
from worker.model import batch_scorer
from worker.source import find_blocks, read_rows

ROWS = 2_000_000
QUARTER = 25_000, 100_000
"""Microseconds of CPU that a worker may use, in each period of so many."""
ALWAYS, NEVER = 1 << 20, 1 << 50
"""As SCORER_SPLIT_BYTES: files are shared, or not."""
CGROUPS = Path("/sys/fs/cgroup")


async def measure_sharing(bench: Bench) -> None:
    """One CSV with one, two and four workers of a quarter core each."""
    cut, scored = await cut_and_score(bench.rounds)
    bench.note("thousand rows/s that are cut into parts, against scored", cut, scored, "")
    try:
        with quarter_of_a_core("bench-probe"):
            pass
    except OSError as error:
        print(
            "SKIPPED: one file with 1, 2 and 4 workers. It needs control groups for CPU, which "
            f"root may create on Linux ({error})",
            flush=True,
        )
        return
    sides = [shared(1, NEVER), shared(1), shared(2), shared(4)]
    whole, one, two, four = await alternate_files(bench, *sides)
    million = f"{ROWS / 1e6:g} million rows"
    bench.note(f"seconds for {million}, one worker, shared against whole", one, whole, "≤ 1.1")
    for workers, seconds in ((2, two), (4, four)):
        bench.note(
            f"thousand rows/s of {million}, {workers} workers against one",
            [ROWS / 1000 / each for each in seconds],
            [ROWS / 1000 / each for each in one],
            "≥ 3.2" if workers == 4 else "",
        )


def shared(workers: int, split_bytes: int = ALWAYS) -> Side:
    """Seconds that so many workers need for one file."""

    async def side(own: Bench, storage: Storage) -> float:
        blob = await upload(storage, ROWS)
        async with fresh_queue(storage) as (name, queue):
            with ExitStack() as stack:
                for number in range(workers):
                    # Replicas that KEDA starts poll at once; these have been idle.
                    settings = {"split_bytes": split_bytes, "idle_seconds": 0.5}
                    pid = stack.enter_context(own.worker(name, **settings))
                    group = stack.enter_context(quarter_of_a_core(f"{name}-{number}"))
                    (group / "cgroup.procs").write_text(str(pid))
                    stack.callback(move_back, group, pid)
                return await batch_seconds(own, name, queue, blob)

    return side


@contextmanager
def quarter_of_a_core(name: str) -> Iterator[Path]:
    """A control group, of version 1 or 2, whose processes share a quarter of a core.

    Raises `OSError` if it cannot be created, as in most containers.
    """
    quota, period = QUARTER
    is_first = (CGROUPS / "cpu/cpu.cfs_quota_us").exists()
    group = CGROUPS / "cpu" / name if is_first else CGROUPS / name
    group.mkdir()
    try:
        if is_first:
            (group / "cpu.cfs_period_us").write_text(str(period))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {period}")
        yield group
    finally:
        group.rmdir()


def move_back(group: Path, pid: int) -> None:
    """Take the limit from a process: it ends faster, and its group can be removed."""
    (group.parent / "cgroup.procs").write_text(str(pid))


async def cut_and_score(rounds: int) -> tuple[list[float], list[float]]:
    """Thousand rows per second of CPU: cut and counted; and read, scored and profiled."""
    model = load_artifact(artifact())
    scorer = batch_scorer(model)
    tallier = Tallier(model.manifest.fields, model.manifest.answer_kind, model.manifest.reference)
    header, *lines = DATA.read_text().splitlines()
    blobs = FakeBlobs()
    blobs.put("uploads", "b.csv", "\n".join([header, *lines * 1000]).encode())
    facts = await blobs.facts("uploads", "b.csv")
    source = BlobInput("uploads", "b.csv", facts.etag, "csv", gzip=False)
    batch = Batch("b", source, Options())
    cut: list[float] = []
    scored: list[float] = []
    for _ in range(1 + rounds):  # the first one warms up
        table = open_table("csv", scorer, batch.options, Limits())
        begun = time.process_time()
        rows = sum([b.rows async for b in find_blocks(blobs, batch, facts, table, 0)])
        cut.append(rows / 1000 / (time.process_time() - begun))
        table = open_table("csv", scorer, batch.options, Limits())
        begun = time.process_time()
        async for _, read in read_rows(blobs, batch, facts, table, 0, asyncio.to_thread):
            result = await asyncio.to_thread(table.score, read, 1)
            await asyncio.to_thread(tallier.count, result.outcome, 1)
        scored.append(rows / 1000 / (time.process_time() - begun))
    return cut[1:], scored[1:]
