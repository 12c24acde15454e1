"""One message: from its text to a committed result and a summary.

Every write that others can see is create-only, so whatever died or repeats, the first wins and the
rest look, and adopt what stands. A batch's summary is written last; the message is deleted only
when it exists.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from shared import metrics
from shared.artifact import Artifact
from shared.checkpoint import NO_PROGRESS, DataBlock, Marker, Progress, plan_of, read_progress
from shared.errors import (
    AlreadyExists,
    BatchIdUsed,
    BlocksGone,
    GaveUp,
    InputChanged,
    InputMissing,
    Interrupted,
    ModelBroken,
    NotFound,
    StorageError,
)
from shared.gunzip import Gunzip
from shared.message import Batch, BlobInput, Ignored, InlineInput, UnreadableMessage, parse_message
from shared.ports import BlobFacts, Blobs, Message, Queue
from shared.scoring import Scorer
from shared.tables import Block, Counts, Limits, Options, Scored, Table, open_table, output_format
from worker.lease import Lease
from worker.settlement import GIVE_UP_AFTER, Delivery, Fail, Release, Settlement, settle

log = logging.getLogger(__name__)

SCORES = "scores"
INPUT_CONTAINERS = frozenset({"incoming", "uploads"})
ALONE_AFTER = 2
"""Deliveries without explanation after which a message is worked alone."""
SMALL = 64 << 10
"""Bytes of inline input below which a thread costs more than the work."""
LISTED_NAMES = 2000
"""Characters of column names that a summary lists; metadata of a blob is small."""
POISON_BYTES = 60 << 10
"""A larger poison message would not fit a queue message of 64 KiB."""
CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Job:
    """One delivery of a message, and what is known of it so far."""

    message: Message
    lease: Lease
    started: datetime
    batch: Batch | None = None
    marker: Marker | None = None
    prefix: str = ""
    """Where the outcome goes: the batch id, or with the message id when another batch has it."""

    @property
    def identity(self) -> dict[str, object]:
        """The input as the message states it, with the options that change its output."""
        if self.batch is None:
            return {"sha256": hashlib.sha256(self.message.body.encode()).hexdigest()}
        source = self.batch.input
        stated: dict[str, object] = {"include_input": self.batch.include_input}
        if isinstance(source, BlobInput):
            return stated | {
                "container": source.container,
                "blob": source.blob,
                "etag": source.etag,
            }
        return stated | {"sha256": source.sha256}

    @property
    def scores_blob(self) -> str:
        kind = output_format(self.batch.input.format) if self.batch else "csv"
        return f"{self.prefix}/scores.{kind}"

    @property
    def delivery(self) -> Delivery:
        return Delivery(
            self.message.dequeue_count,
            (datetime.now(UTC) - self.message.inserted).total_seconds(),
            self.batch is not None and self.batch.from_event,
        )


def same_identity(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether two messages state the same input. One that names no etag means any version."""
    either = dict(one), dict(other)
    etags = [identity.pop("etag", None) for identity in either]
    return either[0] == either[1] and (None in etags or etags[0] == etags[1])


class Processor:
    """Works on messages; holds what all of them share."""

    def __init__(
        self,
        artifact: Artifact,
        queue: Queue,
        poison: Queue,
        blobs: Blobs,
        limits: Limits,
        *,
        stopping: Callable[[], bool] = lambda: False,
        alone: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        manifest = artifact.manifest
        self._artifact = artifact
        self._scorer = Scorer(artifact.model, manifest.fields, manifest.threshold)
        self._queue = queue
        self._poison = poison
        self._blobs = blobs
        self._limits = limits
        self._stopping = stopping
        self._alone = alone

    async def process(self, job: Job) -> Settlement:
        """Take one delivery to its end and say how it ended. Raises `StorageError` only."""
        error: Exception | None = None
        try:
            await self._settle_or_score(job)
        except Exception as caught:  # one message's failure must not become the process's
            error = caught
            if not isinstance(caught, (Interrupted, InputMissing)):
                log.warning(
                    "delivery_failed",
                    extra={
                        "batch_id": job.prefix,
                        "message_id": job.message.id,
                        "reason": type(caught).__name__,
                        "dequeue_count": job.message.dequeue_count,
                    },
                    exc_info=caught,
                )
        settlement = settle(job.delivery, error)
        if isinstance(settlement, Fail):
            await self._fail(job, settlement, error)
        elif isinstance(settlement, Release) and settlement.excused:
            await self.excuse(job)
        if isinstance(error, ModelBroken):
            raise error
        return settlement

    async def excuse(self, job: Job) -> None:
        """Say that this delivery ended for a reason that is not the message's."""
        if job.marker is None:
            return
        # Best effort: while storage is down, no delivery can begin either.
        with suppress(StorageError):
            await self._blobs.stage(SCORES, job.scores_blob, job.marker.excuse().name, b"x")
        job.marker = None

    async def _settle_or_score(self, job: Job) -> None:
        job.prefix = job.message.id
        try:
            parsed = parse_message(job.message.body, job.message.id, INPUT_CONTAINERS)
        except UnreadableMessage as error:
            job.prefix = error.batch_id or job.message.id
            raise
        if isinstance(parsed, Ignored):
            metrics.IGNORED.labels(parsed.reason).inc()
            log.info("event_ignored", extra={"reason": parsed.reason})
            return
        job.batch = parsed
        job.prefix = parsed.batch_id
        # On a first delivery the look is what the create-only writes answer.
        if job.message.dequeue_count > 1 and await self._adopt(job):
            return
        try:
            await self._score(job, parsed)
        except (AlreadyExists, BlocksGone) as error:
            if not await self._adopt(job):
                raise InputChanged("the result vanished while it was written") from error

    async def _adopt(self, job: Job) -> bool:
        """Look whether the batch has an outcome or a commit; take it to its end. False: neither.

        Raises `BatchIdUsed` when what stands belongs to another input.
        """
        summary = await self._read_summary(job.prefix)
        if summary is not None:
            if not same_identity(summary["identity"], job.identity):
                raise BatchIdUsed("batch_id already used")
            await self._settle_by(job, summary)
            return True
        if job.batch is None:
            return False
        try:
            facts = await self._blobs.facts(SCORES, job.scores_blob)
        except NotFound:
            return False
        if not same_identity(json.loads(facts.metadata["identity"]), job.identity):
            raise BatchIdUsed("batch_id already used")
        await self._conclude(job, facts)
        return True

    async def _settle_by(self, job: Job, summary: Mapping[str, Any]) -> None:
        """A summary stands: finish what may be missing behind it."""
        log.info("batch_adopted", extra={"batch_id": job.prefix, "status": summary["status"]})
        if summary["status"] == "failed" and summary["poison"]:
            await self._send_poison(job, str(summary["reason"]))

    async def _read_summary(self, prefix: str) -> dict[str, Any] | None:
        try:
            content = await self._blobs.read(SCORES, f"{prefix}/summary.json")
        except NotFound:
            return None
        summary: dict[str, Any] = json.loads(content)
        return summary

    async def _score(self, job: Job, batch: Batch) -> None:
        facts = await self._input_facts(batch)
        identity = job.identity | ({"etag": facts.etag} if facts else {})
        kind = batch.input.format
        plan = plan_of(identity, kind, self._artifact.sha256, self._limits)
        progress = NO_PROGRESS
        if job.message.dequeue_count > 1:
            staged = await self._blobs.staged(SCORES, job.scores_blob)
            progress = read_progress(staged, plan, job.message.id)
            if progress.unexplained >= GIVE_UP_AFTER:
                raise GaveUp(f"gave up at byte {progress.offset} after repeated crashes")
            job.marker = Marker.begin(job.message.id, len(progress.done))
            await self._blobs.stage(SCORES, job.scores_blob, job.marker.name, b"b")
        if progress.unexplained >= ALONE_AFTER:
            async with self._alone():
                blocks, table = await self._score_blocks(job, batch, facts, plan, progress)
        else:
            blocks, table = await self._score_blocks(job, batch, facts, plan, progress)
        await self._commit(job, batch, identity, plan, blocks, table)

    async def _input_facts(self, batch: Batch) -> BlobFacts | None:
        source = batch.input
        if not isinstance(source, BlobInput):
            return None
        try:
            facts = await self._blobs.facts(source.container, source.blob)
        except NotFound as error:
            raise InputMissing("the input blob is not there") from error
        if source.etag is not None and source.etag != facts.etag:
            raise InputChanged("input changed: the blob is not the version that was named")
        return facts

    async def _score_blocks(
        self, job: Job, batch: Batch, facts: BlobFacts | None, plan: str, progress: Progress
    ) -> tuple[list[DataBlock], Table]:
        """Score and stage what is missing; return all blocks of the result, in order."""
        source = batch.input
        items = source.items if isinstance(source, InlineInput) else None
        options = Options(include_input=batch.include_input)
        table = open_table(source.format, self._scorer, options, self._limits, items)
        size = (
            len(source.content) if isinstance(source, InlineInput) else facts.size if facts else 0
        )
        run = _at_once if size <= SMALL else _in_thread
        blocks = list(progress.done)
        row = 1 + sum(block.counts.rows for block in blocks)
        staging: asyncio.Task[None] | None = None
        try:
            async for block in self._blocks(batch, facts, table, progress.offset, run):
                scored = await run(table.score, block, row)
                self._check_model(scored)
                row += scored.counts.rows
                if staging is not None:
                    await staging
                job.lease.check()
                data = DataBlock(plan, len(blocks), block.end, scored.counts, len(scored.content))
                blocks.append(data)
                staging = asyncio.create_task(
                    self._blobs.stage(SCORES, job.scores_blob, data.name, scored.content)
                )
                if self._stopping() and size > SMALL:
                    await staging
                    raise Interrupted("asked to stop")
            if staging is not None:
                await staging
        finally:
            if staging is not None and not staging.done():
                staging.cancel()
                with suppress(Exception, asyncio.CancelledError):
                    await staging
        return blocks, table

    async def _blocks(
        self,
        batch: Batch,
        facts: BlobFacts | None,
        table: Table,
        offset: int,
        run: Callable[..., Any],
    ) -> AsyncIterator[Block]:
        """Blocks that begin at or behind `offset`."""
        source = batch.input
        if isinstance(source, InlineInput) or facts is None:
            pieces = _one(source.content if isinstance(source, InlineInput) else b"")
        else:
            start = 0
            if offset and not source.gzip and source.format != "json":
                await self._jump(source, facts, table, offset)
                start = offset
            pieces = self._pieces(source, facts, start)
        async for piece in pieces:
            async for block in _stepwise(table.feed(piece), run):
                if block.start >= offset:
                    yield block
        async for block in _stepwise(table.finish(), run):
            if block.start >= offset:
                yield block

    async def _jump(self, source: BlobInput, facts: BlobFacts, table: Table, offset: int) -> None:
        """Read the file's head, then go on from `offset`."""
        async for piece in self._blobs.chunks(source.container, source.blob, facts.etag):
            for _ in table.feed(piece):
                break
            if table.ready:
                break
        table.jump(offset)

    async def _pieces(
        self, source: BlobInput, facts: BlobFacts, start: int
    ) -> AsyncIterator[bytes]:
        if start >= facts.size:
            return
        chunks = _ahead(self._blobs.chunks(source.container, source.blob, facts.etag, start))
        if not source.gzip:
            async for chunk in chunks:
                yield chunk
            return
        gunzip = Gunzip()
        async for chunk in chunks:
            for piece in gunzip.feed(chunk):
                yield piece
        gunzip.finish()

    def _check_model(self, scored: Scored) -> None:
        """Rows that the model cannot answer are rejected only while it is otherwise sound."""
        if scored.counts.codes.get("model_error") and not self._artifact.golden_holds():
            raise ModelBroken("the model no longer gives its golden answers")

    async def _commit(
        self,
        job: Job,
        batch: Batch,
        identity: dict[str, object],
        plan: str,
        blocks: list[DataBlock],
        table: Table,
    ) -> None:
        """Make the result appear, with all that its summary needs in the metadata."""
        counts = Counts()
        for block in blocks:
            counts.add(block.counts)
        now = datetime.now(UTC)
        metadata = {
            "identity": json.dumps(identity),
            "counts": json.dumps(counts.numbers),
            "plan": plan,
            "bytes": str(sum(block.size for block in blocks)),
            "model": json.dumps(
                {
                    "name": self._artifact.manifest.name,
                    "version": self._artifact.manifest.version,
                    "sha256": self._artifact.sha256,
                }
            ),
            "columns": json.dumps(
                {
                    "ignored": _listed(table.ignored_columns),
                    "ignored_count": len(table.ignored_columns),
                    "absent": list(table.absent_fields),
                }
            ),
            "times": json.dumps(
                {
                    "sent": _time(job.message.inserted),
                    "started": _time(job.started),
                    "finished": _time(now),
                }
            ),
            "message": json.dumps(
                {
                    "id": job.message.id,
                    "deliveries": job.message.dequeue_count,
                    "replay_of": batch.replay_of,
                    "traceparent": batch.traceparent,
                }
            ),
        }
        job.lease.check()
        facts = await self._blobs.commit(
            SCORES,
            job.scores_blob,
            [block.name for block in blocks],
            CONTENT_TYPES[output_format(batch.input.format)],
            metadata,
        )
        metrics.count_rows("batch", counts.rows - counts.rejected, counts.codes, counts.rejected)
        metrics.BATCH_ROWS.observe(counts.rows)
        await self._conclude(job, facts)
        log.info(
            "batch_committed",
            extra={
                "batch_id": job.prefix,
                "rows": counts.rows,
                "rejected": counts.rejected,
                "seconds": round((datetime.now(UTC) - job.started).total_seconds(), 3),
                "traceparent": batch.traceparent,
            },
        )

    async def _conclude(self, job: Job, facts: BlobFacts) -> None:
        """Write the summary of a committed result, from that blob alone."""
        metadata = facts.metadata
        identity = json.loads(metadata["identity"])
        counts = Counts.of(json.loads(metadata["counts"]))
        columns = json.loads(metadata["columns"])
        message = json.loads(metadata["message"])
        summary = {
            "batch_id": job.prefix,
            "status": "succeeded",
            "rows": {
                "total": counts.rows,
                "scored": counts.rows - counts.rejected,
                "rejected": counts.rejected,
                "with_warnings": counts.warned,
            },
            "rejections": counts.codes,
            "other_coding_suspected": counts.other_coding > 0,
            "ignored_columns": columns["ignored"],
            "ignored_column_count": columns["ignored_count"],
            "absent_fields": columns["absent"],
            "identity": identity,
            "output": {
                "container": SCORES,
                "blob": job.scores_blob,
                "etag": facts.etag,
                "bytes": int(metadata["bytes"]),
            },
            "plan": metadata["plan"],
            "model": json.loads(metadata["model"]),
            "times": json.loads(metadata["times"]),
            "message_id": message["id"],
            "deliveries": message["deliveries"],
            "replay_of": message["replay_of"],
            "traceparent": message["traceparent"],
        }
        await self._write_summary(job, summary)

    async def _write_summary(self, job: Job, summary: dict[str, Any]) -> bool:
        """Create the summary. False: one stood already; it decided, and was followed."""
        job.lease.check()
        content = json.dumps(summary, indent=1).encode()
        try:
            await self._blobs.create(
                SCORES, f"{job.prefix}/summary.json", content, "application/json"
            )
        except AlreadyExists:
            standing = await self._read_summary(job.prefix)
            if standing is None or not same_identity(standing["identity"], job.identity):
                raise BatchIdUsed("batch_id already used") from None
            await self._settle_by(job, standing)
            return False
        return True

    async def _fail(self, job: Job, failure: Fail, error: Exception | None) -> None:
        """End the batch as failed: summary, then poison copy. The message is deleted after."""
        try:
            if not isinstance(error, BatchIdUsed) and await self._adopt(job):
                return
        except BatchIdUsed as used:
            failure, error = Fail(used.reason), used
        if isinstance(error, BatchIdUsed):
            job.prefix = f"{job.prefix}~{job.message.id}"
        summary = {
            "batch_id": job.prefix,
            "status": "failed",
            "reason": failure.reason,
            "poison": failure.poison,
            "rows": {"total": 0, "scored": 0, "rejected": 0, "with_warnings": 0},
            "identity": job.identity,
            "times": {
                "sent": _time(job.message.inserted),
                "started": _time(job.started),
                "finished": _time(datetime.now(UTC)),
            },
            "message_id": job.message.id,
            "deliveries": job.message.dequeue_count,
            "replay_of": job.batch.replay_of if job.batch else None,
            "traceparent": job.batch.traceparent if job.batch else None,
        }
        if not await self._write_summary(job, summary):
            return
        log.warning("batch_failed", extra={"batch_id": job.prefix, "reason": type(error).__name__})
        if failure.poison:
            metrics.POISON.labels(type(error).__name__).inc()
            await self._send_poison(job, failure.reason)

    async def _send_poison(self, job: Job, reason: str) -> None:
        """Copy the message to the poison queue. Twice is possible, never is not."""
        entry: dict[str, object] = {
            "batch_id": job.prefix,
            "reason": reason,
            "time": _time(datetime.now(UTC)),
            "deliveries": job.message.dequeue_count,
            "body": job.message.body,
        }
        text = json.dumps(entry)
        if len(text) > POISON_BYTES:
            name = f"{job.prefix}/message"
            with suppress(AlreadyExists):
                await self._blobs.create(
                    SCORES, name, job.message.body.encode(), "text/plain; charset=utf-8"
                )
            del entry["body"]
            text = json.dumps(entry | {"body_blob": name})
        job.lease.check()
        await self._poison.send(text)


async def _at_once(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return call(*args, **kwargs)


async def _in_thread(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(call, *args, **kwargs)


async def _stepwise(blocks: Iterator[Block], run: Callable[..., Any]) -> AsyncIterator[Block]:
    """Blocks one at a time, each found outside the event loop where that pays."""
    while (block := await run(next, blocks, None)) is not None:
        yield block


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def _ahead(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Fetch the next piece while the last one is worked on."""
    pending = asyncio.ensure_future(anext(source, None))
    try:
        while (piece := await pending) is not None:
            pending = asyncio.ensure_future(anext(source, None))
            yield piece
    finally:
        pending.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await pending


def _listed(names: tuple[str, ...]) -> list[str]:
    """As many names as fit a blob's metadata."""
    listed: list[str] = []
    length = 0
    for name in names:
        length += len(json.dumps(name))
        if length > LISTED_NAMES:
            break
        listed.append(name)
    return listed


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
