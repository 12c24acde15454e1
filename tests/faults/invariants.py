"""What must hold after every fault, whatever it was: the worker's promise, as one check."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.artifact import Artifact
from shared.errors import NotFound
from shared.ports import Blobs, Queue
from shared.tables import Limits
from tests.fakes import run_virtually
from tests.world import World


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch that the queue accepted, and the result of an undisturbed run."""

    batch_id: str
    content: bytes
    suffix: str
    scores: bytes

    @property
    def scores_blob(self) -> str:
        return f"{self.batch_id}/scores.{'csv' if self.suffix == '.csv' else 'jsonl'}"


def sent(
    artifact: Artifact,
    batch_id: str,
    content: bytes,
    suffix: str = ".csv",
    limits: Limits | None = None,
) -> Sent:
    """A batch with the bytes that an undisturbed worker over memory makes of it."""

    async def undisturbed() -> Sent:
        world = World(artifact)
        await world.submit(batch_id, content, suffix)
        await world.emptied(world.worker(limits=limits))
        kind = "csv" if suffix == ".csv" else "jsonl"
        return Sent(batch_id, content, suffix, world.scores(batch_id, kind))

    return run_virtually(undisturbed())


def row_count(batch: Sent) -> int:
    """Rows of the input, counted by Python's own readers."""
    if batch.suffix == ".csv":
        lines = csv.reader(io.StringIO(batch.content.decode()))
        return sum(1 for line in lines if line) - 1
    return sum(1 for line in batch.content.splitlines() if line.strip())


def row_numbers(scores: bytes, suffix: str) -> list[int]:
    """The column `row` of a result."""
    if suffix == ".csv":
        return [int(line["row"]) for line in csv.DictReader(io.StringIO(scores.decode()))]
    return [json.loads(line)["row"] for line in scores.splitlines()]


class Watch:
    """Looks at summaries while a test runs: one that was seen must never change."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._seen: dict[str, bytes] = {}

    async def look(self, batch_id: str) -> dict[str, Any] | None:
        try:
            content = await self._blobs.read("scores", f"{batch_id}/summary.json")
        except NotFound:
            assert batch_id not in self._seen, f"the summary of {batch_id} vanished"
            return None
        assert self._seen.setdefault(batch_id, content) == content, f"{batch_id} changed"
        summary: dict[str, Any] = json.loads(content)
        return summary

    async def wait(self, batch_id: str, seconds: float) -> dict[str, Any]:
        """Wait for a batch's outcome."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while (summary := await self.look(batch_id)) is None:
            assert loop.time() < ends, f"no summary of {batch_id} within {seconds:g} s"
            await asyncio.sleep(0.1)
        return summary


async def check_promise(
    watch: Watch,
    queue: Queue,
    blobs: Blobs,
    batches: Sequence[Sent],
    *,
    lease: float,
    names: Sequence[str] | None = None,
) -> None:
    """Every batch has its one outcome, every row stands once, nothing is left in the queue.

    `lease`: seconds after which a message that a dead worker held must have been settled.
    `names`: all blobs of the container, where the storage at hand can list them.
    """
    for batch in batches:
        await _check_batch(watch, blobs, batch)
    if names is not None:
        summaries = sorted(name for name in names if name.endswith("/summary.json"))
        assert summaries == sorted(f"{batch.batch_id}/summary.json" for batch in batches)
    await check_emptied(queue, lease)


async def _check_batch(watch: Watch, blobs: Blobs, batch: Sent) -> None:
    summary = await watch.look(batch.batch_id)
    assert summary is not None, f"{batch.batch_id} has no outcome"
    assert summary["status"] == "succeeded", summary
    facts = await blobs.facts("scores", batch.scores_blob)
    scores = b"".join(
        [chunk async for chunk in blobs.chunks("scores", batch.scores_blob, facts.etag)]
    )
    rows = summary["rows"]
    assert rows["total"] == rows["scored"] + rows["rejected"] == row_count(batch)
    assert row_numbers(scores, batch.suffix) == list(range(1, rows["total"] + 1))
    assert scores == batch.scores, f"{batch.batch_id}: bytes differ from an undisturbed run"
    # What was staged and not committed is no output.
    assert summary["output"]["bytes"] == len(scores)
    assert summary["output"]["etag"] == facts.etag


async def check_emptied(queue: Queue, lease: float) -> None:
    """The queue is empty, or is as soon as the lease of a dead worker has run out."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + lease + 2
    while await queue.length():
        assert loop.time() < ends, "a message was neither settled nor given back"
        await asyncio.sleep(0.1)
