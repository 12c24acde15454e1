"""Shares the work on a large file between all workers.

The delivery of a large file's message cuts the input into parts and sends them to a queue of their
own. Every worker with a free slot and no message takes one, scores its blocks, and stages them in
the batch's scores blob under the names that they have anyway. The delivery scores the first block,
and takes parts, too, unless too few are cut. When all blocks are staged it goes on as if it had
staged them itself: one commit, one summary.

Nothing depends on a part's message. Parts that do not come back are sent again, and the delivery
scores the first of them itself. If a row kills its worker, the delivery's own policy decides.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass

from shared import tracing
from shared.batches.checkpoint import (
    NO_PROGRESS,
    PART_BLOCKS,
    DataBlock,
    Progress,
    data_blocks,
    file_cut,
    part_begun,
    plan_of,
)
from shared.batches.message import Batch, BlobInput, EnvelopeOptions
from shared.batches.parts import MOST_BLOCKS, Part, PartInput
from shared.batches.ports import BlobFacts, Blobs, Message, Queue
from shared.batches.results import SCORES, summary_name
from shared.files.base import Bounds, Limits, Table
from shared.files.formats import open_table
from shared.records.artifact import Artifact
from shared.records.coding import Categories
from shared.records.errors import (
    BadFile,
    Interrupted,
    ModelBroken,
    NotFound,
    ScorerError,
    StorageError,
)
from shared.records.tally import Tallier
from worker.delivery import Delivery, Target, target_of
from worker.gate import Gate
from worker.lease import Lease, LeaseTerms
from worker.model import batch_scorer, check_model
from worker.policy import PART_DELIVERIES, Delete, Release, Settlement, settle_part
from worker.result import ResultWriter
from worker.source import Prefetch, can_be_shared, can_jump, find_blocks, read_part

log = logging.getLogger(__name__)

PARTS_IN_QUEUE = 64
"""Most parts in the queue: they ask for 16 workers of 4 slots."""
PARTS_AHEAD = 4
"""Parts in the queue below which a delivery only cuts, so that no other worker waits for it."""
ROOM_WAIT = 0.5
"""Seconds between two checks for room in the queue."""
BUSY_WAIT = 5.0
"""Seconds after which a delivery that takes parts checks how far others are."""
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 2.0
"""Seconds between two such checks while it has nothing else to do."""
OUTCOME_SECONDS = 5.0
"""Seconds between two checks whether a batch has ended, for instance because it was cancelled."""
LISTED_PER_SECOND = 2000
"""Blocks: a long listing takes its time, so it is asked for less often."""


class Parts:
    """Sends, takes and scores parts for one worker."""

    def __init__(
        self,
        queue: Queue,
        blobs: Blobs,
        artifact: Artifact,
        limits: Limits,
        gate: Gate,
        *,
        threshold: int,
        terms: LeaseTerms,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Inputs with `threshold` or more bytes left to score are shared."""
        self._queue = queue
        self._blobs = blobs
        self._artifact = artifact
        self._scorer = batch_scorer(artifact)
        manifest = artifact.manifest
        self._tallier = Tallier(manifest.fields, manifest.answer_kind, manifest.reference)
        self._limits = limits
        self._gate = gate
        self._threshold = threshold
        self._terms = terms
        self._stopping = stopping
        self._clock = clock
        self.sharing = 0
        """Deliveries of this worker that share their file: these take parts themselves."""
        self._worker = secrets.token_hex(6)
        """This worker in the names of blocks that tell people who works on a file."""
        self._running = "", 0.0
        """A batch that had no outcome, and when that was checked."""

    def are_worth_it(self, batch: Batch, facts: BlobFacts | None, progress: Progress) -> bool:
        """Whether what is left of a batch's input can be cut and is large enough."""
        if facts is None or not can_be_shared(batch.input):
            return False
        # Offsets in Parquet are rows.
        done = progress.offset if can_jump(batch.input) else 0
        return facts.size - done >= self._threshold

    async def receive(self, limit: int) -> list[Message]:
        """Take up to `limit` parts from the queue."""
        return await self._queue.receive(limit, self._terms.visibility)

    async def handle(self, message: Message, received: float) -> Settlement:
        """Score the part that a message names, and end the message."""
        settlement, _, _ = await self._handle(message, received, self._gate.shared())
        return settlement

    async def share(
        self,
        delivery: Delivery,
        target: Target,
        batch: Batch,
        facts: BlobFacts,
        plan: str,
        progress: Progress,
        check_not_cancelled: Callable[[], Awaitable[None]],
    ) -> Shared | None:
        """Have all missing blocks staged, by this worker and others.

        None: the input cannot be cut after all. Raises what scoring a block may raise, and
        `Interrupted`.
        """
        cut = _Cut(batch, facts, plan, progress)
        first: FirstBlock | None = None
        async with self._sharing(cut):
            wait, last_change = SHORTEST_WAIT, self._clock()
            next_look = last_change + BUSY_WAIT
            while True:
                if self._stopping():
                    raise Interrupted("asked to stop")
                delivery.lease.check()
                taken: list[Message] = []
                if not cut.is_ahead:
                    await asyncio.sleep(SHORTEST_WAIT)
                elif first is None and cut.first is not None:
                    first = await self._score(cut.first, delivery.lease)
                else:
                    taken = await self.receive(1)
                for message in taken:
                    await self._handle_own(message, cut)
                    wait, last_change = SHORTEST_WAIT, self._clock()
                if (taken or not cut.is_ahead) and self._clock() < next_look:
                    continue
                await check_not_cancelled()
                staged = await self._blobs.staged(SCORES, target.scores_blob)
                listing = len(staged) / LISTED_PER_SECOND
                next_look = self._clock() + BUSY_WAIT + listing
                if cut.look(data_blocks(staged, plan)):
                    wait, last_change = SHORTEST_WAIT, self._clock()
                if cut.is_whole:
                    return None
                if cut.is_done and first is not None:
                    return Shared(Progress((*progress.done, *cut.done), 0), first)
                cut.raise_error()
                if cut.must_score_first(self._clock() - last_change > self._terms.visibility):
                    lost, *others = cut.missing
                    cut.note_own(lost)
                    await self._score(lost, delivery.lease)
                    await self._send(others)
                    last_change = self._clock()
                elif not taken:
                    await asyncio.sleep(wait + listing)
                    wait = min(wait * 2, LONGEST_WAIT)

    async def _handle_own(self, message: Message, cut: _Cut) -> None:
        """Handle a part during the delivery of a batch, which holds the gate."""
        settlement, part, error = await self._handle(message, self._clock(), nullcontext())
        if isinstance(error, ModelBroken):
            raise error
        if part is not None and part.plan == cut.plan and error and settlement == Delete():
            cut.suspects.add(part.sequence)

    async def _handle(
        self, message: Message, received: float, gate: AbstractContextManager[None]
    ) -> tuple[Settlement, Part | None, Exception | None]:
        lease = Lease.of(self._queue, message, self._terms, received=received, clock=self._clock)
        part: Part | None = None
        error: Exception | None = None
        try:
            async with lease:
                part = Part.model_validate_json(message.body)
                with gate:
                    await self._score_if_wanted(part, lease)
        except asyncio.CancelledError:
            await self._end(lease, Release(0))
            raise
        except Interrupted as caught:
            error = caught
        except Exception as caught:  # the batch's own delivery decides about it
            error = caught
            reason = error.reason if isinstance(error, ScorerError) else type(error).__name__
            log.warning("part_failed", extra={"message_id": message.id, "reason": reason})
        settlement = settle_part(message.dequeue_count, error)
        await self._end(lease, settlement)
        return settlement, part, error

    async def _end(self, lease: Lease, settlement: Settlement) -> None:
        try:
            match settlement:
                case Release(delay=delay):
                    await self._queue.renew(lease.message, delay)
                case Delete():
                    await self._queue.delete(lease.message)
                case _:
                    pass
        except Exception as error:  # it comes back after its visibility timeout
            extra = {"message_id": lease.message.id, "reason": type(error).__name__}
            log.info("part_left", extra=extra)

    async def _score_if_wanted(self, part: Part, lease: Lease) -> None:
        target = target_of(part.batch)
        source_format = part.input.format
        plan = plan_of(target.identity, source_format, self._artifact.sha256, self._limits)
        # Another model or version scores other bytes; a part that came often may kill its worker.
        if plan != part.plan or lease.message.dequeue_count > PART_DELIVERIES:
            return
        if not await self._has_outcome(part.batch_id):
            await self._score(part, lease)

    async def _has_outcome(self, batch_id: str) -> bool:
        running, checked = self._running
        if running != batch_id or self._clock() - checked > OUTCOME_SECONDS:
            with suppress(NotFound):
                await self._blobs.facts(SCORES, summary_name(batch_id))
                return True
            self._running = batch_id, self._clock()
        return False

    async def _score(self, part: Part, lease: Lease) -> FirstBlock:
        """Score and stage a part's blocks. What is returned means little unless it is the first."""
        batch, begun = part.batch, self._clock()
        assert isinstance(batch.input, BlobInput)  # noqa: S101  # by its type
        table = open_table(part.input.format, self._scorer, batch.options, self._limits)
        target = target_of(batch)
        categories: Categories = {}
        with tracing.span("score part", "consumer", parent=part.traceparent) as span:
            span.set({"batch.id": target.log_id, "rows": part.rows})
            lease.check()
            async with (
                ResultWriter(
                    self._blobs,
                    lease,
                    target.scores_blob,
                    part.plan,
                    NO_PROGRESS,
                    may_put=False,
                    sequence=part.sequence,
                    row=part.first_row,
                ) as writer,
                aclosing(
                    Prefetch(
                        read_part(self._blobs, batch.input, part.facts, table, part.start, part.end)
                    )
                ) as blocks,
            ):
                async for end, rows in blocks:
                    if len(writer.blocks) % PART_BLOCKS == 0:
                        sequence = part.sequence + len(writer.blocks)
                        await self._tell(batch, part_begun(part.plan, sequence, self._worker))
                    scored = await asyncio.to_thread(table.score, rows, writer.next_row)
                    check_model(self._artifact, scored)
                    if not scored.content:
                        continue  # blank lines
                    categories = categories or scored.categories
                    counted = await asyncio.to_thread(
                        self._tallier.count, scored.outcome, writer.next_row
                    )
                    await writer.add(scored.content, scored.counts, end, counted)
                    del rows, scored  # the next ones are as large
                    if self._stopping():
                        raise Interrupted("asked to stop")
                await writer.staged()
        log.info(
            "part_scored",
            extra={
                "batch_id": target.log_id,
                "rows": part.rows,
                "seconds": round(self._clock() - begun, 3),
            },
        )
        return FirstBlock(table, categories)

    @asynccontextmanager
    async def _sharing(self, cut: _Cut) -> AsyncIterator[None]:
        """Cut the input and send its parts while the context is open."""
        task = asyncio.create_task(self._cut_and_send(cut))
        self.sharing += 1
        try:
            yield
        finally:
            self.sharing -= 1
            task.cancel()
            await asyncio.wait({task})

    async def _cut_and_send(self, cut: _Cut) -> None:
        begun = self._clock()
        try:
            async with aclosing(self._cut(cut)) as parts:
                async for part in parts:
                    if part is not cut.first:
                        await self._wait_for_room(cut)
                        cut.queued += 1
                        await self._send([part])
                    cut.missing.append(part)
            if cut.first is not None:
                await self._tell(cut.batch, file_cut(cut.plan, cut.blocks))
            cut.is_complete = True
            extra = {
                "batch_id": target_of(cut.batch).log_id,
                "rows": cut.rows,
                "seconds": round(self._clock() - begun, 3),
            }
            log.info("batch_cut", extra=extra)
        except Exception as error:  # the delivery raises it
            cut.error = error

    async def _wait_for_room(self, cut: _Cut) -> None:
        """Wait until the queue has room for a part; it is asked for many parts at once."""
        if cut.queued < cut.may_be_queued:
            return
        while True:
            cut.queued = await self._queue.length()
            cut.may_be_queued = min(cut.queued + PARTS_AHEAD, PARTS_IN_QUEUE)
            # Messages that no worker can take must not stop a file.
            if cut.queued < PARTS_IN_QUEUE or not cut.missing:
                return
            await asyncio.sleep(ROOM_WAIT)

    async def _cut(self, cut: _Cut) -> AsyncGenerator[Part]:
        batch = cut.batch
        table = open_table(batch.input.format, self._scorer, batch.options, self._limits)
        blocks = find_blocks(self._blobs, batch, cut.facts, table, cut.progress.offset)
        async with aclosing(blocks):
            async for block in blocks:
                part: Part | None = None
                if block.first:
                    part = cut.begin(block)
                elif block.rows:  # else blank lines, of which nothing is staged
                    part = cut.add(block)
                if part is not None:
                    yield part
        if (part := cut.rest()) is not None:
            yield part

    async def _tell(self, batch: Batch, block: str) -> None:
        """Stage a block whose name tells people how far a batch is; nothing depends on it."""
        with suppress(StorageError):
            await self._blobs.stage(SCORES, target_of(batch).scores_blob, block, b"0")

    async def _send(self, parts: Iterable[Part]) -> None:
        for part in parts:
            await self._queue.send(part.text())


@dataclass(frozen=True, slots=True)
class FirstBlock:
    """Facts about a file that are known from its first block."""

    table: Table
    categories: Categories


@dataclass(frozen=True, slots=True)
class Shared:
    """A file of which all blocks are staged."""

    progress: Progress
    first: FirstBlock


class _Cut:
    """The parts of one input: those that are missing, and the blocks of the others."""

    def __init__(self, batch: Batch, facts: BlobFacts, plan: str, progress: Progress) -> None:
        self.batch = batch
        self.facts = facts
        self.plan = plan
        self.progress = progress
        self.first: Part | None = None
        """The first block, which is not sent: its delivery must read it in any case."""
        self.missing: list[Part] = []
        """Parts that are not staged, in order."""
        self.staged: dict[int, DataBlock] = {}
        """Blocks of the other parts."""
        self._own: set[int] = set()
        """First blocks of parts that the delivery scored because nobody else did."""
        self.queued = self.may_be_queued = 0
        """Messages in the queue, as far as known, and how many may be before it is asked again."""
        self.is_complete = False
        """Whether the whole input is cut."""
        self.error: Exception | None = None
        """The error that ended the cutting."""
        self.suspects: set[int] = set()
        """First blocks of parts that failed in this worker."""
        self.blocks = len(progress.done)
        """Blocks of all parts so far."""
        self._row = 1 + sum(block.counts.rows for block in progress.done)
        self._start = 0
        self._added: list[tuple[int, int]] = []

    @property
    def rows(self) -> int:
        """Rows of all parts so far, and those before them."""
        return self._row - 1

    @property
    def is_ahead(self) -> bool:
        """Whether other workers have enough parts for now."""
        ended = self.is_complete or self.error is not None
        return ended or self.queued >= PARTS_AHEAD

    @property
    def is_whole(self) -> bool:
        """Whether the input cannot be cut after all: it is UTF-16."""
        return self.is_complete and self.first is None

    def note_own(self, part: Part) -> None:
        """Note that this delivery scores a part. Raises `RuntimeError` the second time."""
        if part.sequence in self._own:
            raise RuntimeError("a part has other blocks than were cut")
        self._own.add(part.sequence)

    @property
    def is_done(self) -> bool:
        return self.is_complete and not self.missing

    @property
    def done(self) -> list[DataBlock]:
        """The blocks that were staged, in order."""
        return [self.staged[sequence] for sequence in sorted(self.staged)]

    def begin(self, block: Bounds) -> Part | None:
        """Add the first block; return it unless it is staged."""
        self.first = self._part(0, 0, 1, [(block.end, block.rows)])
        if self.progress.done:
            return None
        self.blocks, self._row = 1, 1 + block.rows
        return self.first

    def add(self, block: Bounds) -> Part | None:
        """Add another block; return the part that is full with it."""
        if not self._added:
            self._start = block.start
        self._added.append((block.end, block.rows))
        full = (self.blocks + len(self._added)) // PART_BLOCKS > self.blocks // PART_BLOCKS
        return self.rest() if full and (block.splits or len(self._added) == MOST_BLOCKS) else None

    def rest(self) -> Part | None:
        """The blocks that were added since the last part."""
        if not self._added:
            return None
        part = self._part(self.blocks, self._start, self._row, self._added)
        self.blocks += len(self._added)
        self._row += part.rows
        self._added = []
        return part

    def _part(
        self, sequence: int, start: int, first_row: int, blocks: list[tuple[int, int]]
    ) -> Part:
        source = self.batch.input
        assert isinstance(source, BlobInput)  # noqa: S101  # others are not cut
        return Part(
            batch_id=self.batch.batch_id,
            from_event=self.batch.from_event,
            input=PartInput(
                container=source.container,
                blob=source.blob,
                etag=self.facts.etag,
                format=source.format,
                size=self.facts.size,
            ),
            options=EnvelopeOptions.of(self.batch.options),
            traceparent=self.batch.traceparent,
            plan=self.plan,
            sequence=sequence,
            start=start,
            first_row=first_row,
            blocks=blocks,
        )

    def look(self, staged: Iterable[DataBlock]) -> bool:
        """Compare the parts with the blocks in storage; say whether more are staged."""
        found = {(block.sequence, block.next_offset, block.counts.rows): block for block in staged}
        missing: list[Part] = []
        for part in self.missing:
            names = [(part.sequence + i, *block) for i, block in enumerate(part.blocks)]
            if all(name in found for name in names):
                self.staged |= {name[0]: found[name] for name in names}
            else:
                missing.append(part)
        changed = len(missing) < len(self.missing)
        self.missing = missing
        return changed

    def must_score_first(self, waited: bool) -> bool:
        """Whether the first missing part is for the delivery itself: it failed, or is lost."""
        return bool(self.missing) and (waited or self.missing[0].sequence in self.suspects)

    def raise_error(self) -> None:
        """Raise what ended the cutting; for a bad file, after the rows before it are scored."""
        if self.error is not None and not (isinstance(self.error, BadFile) and self.missing):
            raise self.error
