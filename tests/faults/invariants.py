"""The worker's promise as one check, to be made after every fault."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import openpyxl
import pyarrow.parquet as pq
import pytest

from shared.batches.ports import Blobs, Queue
from shared.files.base import Limits
from shared.files.options import OutputFormat
from shared.records.artifact import Artifact
from shared.records.errors import NotFound
from shared.testing import run_virtually
from tests.world import VISIBILITY, World


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch that the queue accepted and that must succeed, with an undisturbed run's result."""

    batch_id: str
    content: bytes
    suffix: str
    scores: bytes
    profile: bytes | None = None
    """None: there is no profile of it. Empty: there is one, not known beforehand."""
    output: OutputFormat | None = field(default=None, kw_only=True)
    """The format of the result, if it was asked for."""

    @property
    def scores_blob(self) -> str:
        outputs = {".csv": "csv", ".xlsx": "csv", ".parquet": "parquet"}
        return f"{self.batch_id}/scores.{self.output or outputs.get(self.suffix, 'jsonl')}"

    @property
    def rows(self) -> int:
        """Rows of the input, counted by Python's own readers."""
        match self.suffix:
            case ".csv":
                lines = csv.reader(io.StringIO(self.content.decode()))
                return sum(1 for line in lines if line) - 1
            case ".json":
                return len(json.loads(self.content))
            case ".parquet":
                return int(pq.read_metadata(io.BytesIO(self.content)).num_rows)
            case ".xlsx":
                book = openpyxl.load_workbook(io.BytesIO(self.content))
                return len(list(book.worksheets[0].values)) - 1
            case _:
                return sum(1 for line in self.content.splitlines() if line.strip())

    def result(self) -> Iterator[bytes]:
        """The scores, in pieces."""
        yield self.scores


@dataclass(frozen=True, slots=True)
class Failed:
    """A batch that must end as failed."""

    batch_id: str
    reason: str
    """Text that its reason holds."""


@dataclass(frozen=True, slots=True)
class GivenBack:
    """A batch without an outcome yet: its message must be visible again."""

    batch_id: str


Fate = Sent | Failed | GivenBack


def sent(
    artifact: Artifact,
    batch_id: str,
    content: bytes,
    suffix: str = ".csv",
    limits: Limits | None = None,
    *,
    profile: bool = False,
    output: OutputFormat | None = None,
) -> Sent:
    """A batch with the bytes that an undisturbed worker over memory makes of it."""

    async def undisturbed() -> Sent:
        world = World(artifact)
        await world.submit(batch_id, content, suffix, profile=profile, output=output)
        await world.emptied(world.worker(limits=limits))
        batch = Sent(batch_id, content, suffix, b"", output=output)
        name = f"{batch_id}/profile.json"
        profiled = name in world.blobs.names("scores")
        return replace(
            batch,
            scores=world.blobs.content("scores", batch.scores_blob),
            profile=world.blobs.content("scores", name) if profiled else None,
        )

    return run_virtually(undisturbed())


def row_numbers(scores: BinaryIO, name: str) -> Iterator[int]:
    """The column `row` of a result, whose name tells the format."""
    if name.endswith(".parquet"):
        yield from pq.read_table(scores, columns=["row"])["row"].to_pylist()
    elif name.endswith(".csv"):
        text = io.TextIOWrapper(scores, encoding="utf-8", newline="")
        yield from (int(line["row"]) for line in csv.DictReader(text))
        text.detach()  # the file is the caller's
    else:
        yield from (json.loads(line)["row"] for line in scores)


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
    poison: Queue,
    blobs: Blobs,
    batches: Sequence[Fate],
    *,
    lease: float,
    names: Callable[[], Sequence[str]] | None = None,
) -> None:
    """Every batch has its one outcome, every row appears once, nothing is lost in the queue.

    `batches`: all whose messages went to this queue. `lease`: seconds after which a message that a
    dead worker held must have been settled. `names`: lists all blobs of the container, where the
    storage at hand can.
    """
    for batch in batches:
        await watch.look(
            batch.batch_id
        )  # what is seen now must be the same when the queue is empty
    await check_queue(queue, lease, sum(isinstance(batch, GivenBack) for batch in batches))
    for batch in batches:
        match batch:
            case Sent():
                await _check_succeeded(watch, blobs, batch)
            case Failed():
                await _check_failed(watch, blobs, batch)
            case GivenBack():
                assert await watch.look(batch.batch_id) is None
                await _check_nothing_committed(blobs, batch.batch_id)
    await _check_poison(watch, poison, batches)
    if names is not None:
        _check_names(names(), batches)


async def check_world(
    watch: Watch, world: World, *batches: Fate, lease: float = VISIBILITY
) -> None:
    """The promise, over queue and blobs in memory."""
    await check_promise(
        watch,
        world.queue,
        world.poison,
        world.blobs,
        batches,
        lease=lease,
        names=lambda: world.blobs.names("scores"),
    )


async def check_queue(queue: Queue, lease: float, given_back: int = 0) -> None:
    """Only what was given back is in the queue, or is when a dead worker's lease has run out."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + lease + 2
    while (await queue.length(), len(await queue.peek(32))) != (given_back, given_back):
        assert loop.time() < ends, "a message was neither settled nor given back"
        await asyncio.sleep(0.1)


async def _check_succeeded(watch: Watch, blobs: Blobs, batch: Sent) -> None:
    summary = await watch.look(batch.batch_id)
    assert summary is not None, f"{batch.batch_id} has no outcome"
    assert summary["status"] == "succeeded", summary
    rows = summary["rows"]
    assert rows["total"] == rows["scored"] + rows["rejected"] == batch.rows
    facts = await blobs.facts("scores", batch.scores_blob)
    with tempfile.TemporaryFile() as found:
        async for chunk in blobs.chunks("scores", batch.scores_blob, facts.etag):
            found.write(chunk)
        size = found.tell()
        found.seek(0)
        same = all(found.read(len(piece)) == piece for piece in batch.result())
        same = same and not found.read(1)
        found.seek(0)
        last = 0
        for last, number in enumerate(row_numbers(found, batch.scores_blob), 1):
            assert number == last, f"{batch.batch_id}: row {number} is in place {last}"
    assert last == rows["total"]
    assert same, f"{batch.batch_id}: bytes differ from an undisturbed run"
    # What was staged and not committed is no output.
    assert summary["output"]["blob"] == batch.scores_blob
    assert summary["output"]["bytes"] == size
    assert summary["output"]["etag"] == facts.etag
    await _check_profile(blobs, batch, summary)


async def _check_profile(blobs: Blobs, batch: Sent, summary: dict[str, Any]) -> None:
    """It is the undisturbed run's, byte for byte, but for what names this batch."""
    name = f"{batch.batch_id}/profile.json"
    if batch.profile is None:
        assert summary["profile"] is None
        with pytest.raises(NotFound):
            await blobs.facts("scores", name)
        return
    content = await blobs.read("scores", name)
    assert summary["profile"] == {"container": "scores", "blob": name, "bytes": len(content)}
    found = json.loads(content)
    for key in ("batch_id", "identity", "plan", "rows"):
        assert found[key] == summary[key]
    if not batch.profile:
        return
    expected = json.loads(batch.profile)
    if found["plan"] == expected["plan"]:
        assert content == batch.profile
    named = {key: found[key] for key in ("batch_id", "identity", "plan")}
    assert content == json.dumps(expected | named, indent=1).encode()


async def _check_failed(watch: Watch, blobs: Blobs, batch: Failed) -> None:
    summary = await watch.look(batch.batch_id)
    assert summary is not None, f"{batch.batch_id} has no outcome"
    assert summary["status"] == "failed", summary
    assert batch.reason in summary["reason"]
    rows = summary["rows"]
    assert rows["total"] == rows["scored"] + rows["rejected"] == 0
    assert "output" not in summary
    await _check_nothing_committed(blobs, batch.batch_id)


async def _check_nothing_committed(blobs: Blobs, batch_id: str) -> None:
    for kind in ("csv", "jsonl", "parquet"):
        with pytest.raises(NotFound):
            await blobs.facts("scores", f"{batch_id}/scores.{kind}")


async def _check_poison(watch: Watch, poison: Queue, batches: Sequence[Fate]) -> None:
    """Each failure that is due a copy has one at least, with its reason; nothing else has any."""
    found = [json.loads(message.body) for message in await poison.peek(32)]
    assert len(found) == await poison.length()
    due = {batch.batch_id for batch in batches if isinstance(batch, Failed)}
    assert {entry["batch_id"] for entry in found} == due
    for entry in found:
        summary = await watch.look(entry["batch_id"])
        assert summary is not None
        assert entry["reason"] == summary["reason"]


def _check_names(names: Sequence[str], batches: Sequence[Fate]) -> None:
    """There are no outcomes but these, and no results but of those that succeeded."""
    ended = [batch for batch in batches if not isinstance(batch, GivenBack)]
    expected = {f"{batch.batch_id}/summary.json" for batch in ended}
    succeeded = [batch for batch in ended if isinstance(batch, Sent)]
    expected |= {batch.scores_blob for batch in succeeded}
    expected |= {
        f"{batch.batch_id}/profile.json" for batch in succeeded if batch.profile is not None
    }
    # The body of a message that was too large for its poison copy.
    others = {f"{batch.batch_id}/message" for batch in ended if isinstance(batch, Failed)}
    others |= {f"{batch.batch_id}/claim" for batch in batches}
    # Counts that a delivery committed and could not remove: it ended first.
    rest = {name for name in names if "/counts-" not in name}
    assert expected <= rest <= expected | others
