"""One message: from its text to an outcome, and what becomes of the message then.

A batch's summary is written last; the message is deleted only when it exists. How far a batch has
come is told by the names of its staged blocks, so a delivery goes on where the last one ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, ParamSpec, Self, TypeVar

from shared import metrics
from shared.batches.checkpoint import (
    NO_PROGRESS,
    DataBlock,
    Marker,
    Progress,
    plan_of,
    read_progress,
)
from shared.batches.message import (
    Batch,
    BlobInput,
    Ignored,
    InlineInput,
    UnreadableMessage,
    parse_message,
)
from shared.batches.ports import BlobFacts, Blobs, Queue
from shared.batches.results import INCOMING, SCORES, UPLOADS
from shared.files.base import Limits, Scored, Table
from shared.files.formats import open_table
from shared.records.artifact import Artifact
from shared.records.coding import Categories
from shared.records.errors import (
    AlreadyExists,
    BlocksGone,
    GaveUp,
    InputChanged,
    InputMissing,
    Interrupted,
    ModelBroken,
    NotFound,
)
from shared.records.scoring import Scorer
from worker.delivery import Delivery
from worker.gate import Gate
from worker.outcomes import Outcomes
from worker.policy import ALONE_AFTER, GIVE_UP_AFTER, Fail, Release, Settlement, settle
from worker.source import Prefetch, read_rows

log = logging.getLogger(__name__)

INPUT_CONTAINERS = frozenset({INCOMING, UPLOADS})
SMALL = 64 << 10
"""Bytes of input below which a thread costs more than the work."""
EXCUSE_LIMIT = 5
"""Seconds that an excuse may take: a process that was asked to stop has no more."""

P = ParamSpec("P")
T = TypeVar("T")


class Processor:
    """Works on messages; holds what all of them share."""

    def __init__(
        self,
        artifact: Artifact,
        poison: Queue,
        blobs: Blobs,
        limits: Limits,
        gate: Gate,
        *,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        manifest = artifact.manifest
        self._artifact = artifact
        self._scorer = Scorer(artifact.model, manifest.fields, manifest.threshold)
        self._outcomes = Outcomes(artifact, poison, blobs)
        self._blobs = blobs
        self._limits = limits
        self._gate = gate
        self._stopping = stopping

    async def process(self, delivery: Delivery) -> Settlement:
        """Take one delivery to its end and say what becomes of the message. Raises nothing."""
        error = await _caught(delivery, self._work(delivery))
        settlement = settle(delivery.facts, error)
        tries = 0
        # Writing a failure may meet another batch of its name, and then storage's own refusal.
        while isinstance(settlement, Fail) and tries < 3:
            tries += 1
            try:
                return await self._outcomes.fail(delivery, settlement, error)
            except Exception as caught:  # the same policy says what becomes of it
                _log(delivery, caught)
                error = caught
                settlement = settle(delivery.facts, error)
        if isinstance(settlement, Fail):
            settlement = Release(0, excused=True, doubt="storage")
        if isinstance(settlement, Release) and settlement.excused:
            await self.excuse(delivery)
        return settlement

    async def excuse(self, delivery: Delivery) -> None:
        """Say that this delivery ended for a reason that is not the message's."""
        marker, delivery.marker = delivery.marker, None
        if marker is None:
            return
        # Best effort, whatever happens: while storage is down, no delivery can begin either.
        with suppress(Exception):
            async with asyncio.timeout(EXCUSE_LIMIT):
                await self._blobs.stage(SCORES, delivery.scores_blob, marker.excuse().name, b"x")

    async def _work(self, delivery: Delivery) -> None:
        with self._gate.shared():
            if self._stopping():
                raise Interrupted("asked to stop")
            batch = self._read(delivery)
            if batch is None:
                return
            # On a first delivery the look is what the create-only writes answer.
            if delivery.message.dequeue_count > 1 and await self._outcomes.adopt(delivery):
                return
            try:
                await self._score(delivery, batch)
            except (AlreadyExists, BlocksGone):
                if not await self._outcomes.adopt(delivery):
                    raise

    def _read(self, delivery: Delivery) -> Batch | None:
        """The batch that the message names; None: it names none. Raises `UnreadableMessage`."""
        delivery.prefix = delivery.message.id
        try:
            parsed = parse_message(delivery.message.body, delivery.message.id, INPUT_CONTAINERS)
        except UnreadableMessage as error:
            delivery.prefix = error.batch_id or delivery.message.id
            raise
        if isinstance(parsed, Ignored):
            metrics.IGNORED.labels(parsed.reason).inc()
            log.info("event_ignored", extra={"reason": parsed.reason})
            return None
        delivery.batch = parsed
        delivery.prefix = parsed.batch_id
        return parsed

    async def _score(self, delivery: Delivery, batch: Batch) -> None:
        facts = await self._input_facts(batch)
        delivery.etag = facts.etag if facts else None
        kind = batch.input.format
        plan = plan_of(delivery.identity, kind, self._artifact.sha256, self._limits)
        if delivery.message.dequeue_count == 1:
            await self._score_from(delivery, batch, facts, plan, NO_PROGRESS)
            return
        progress = read_progress(
            await self._blobs.staged(SCORES, delivery.scores_blob), plan, delivery.message.id
        )
        if progress.unexplained >= GIVE_UP_AFTER:
            raise GaveUp(
                f"gave up at byte {progress.offset}: "
                f"{progress.unexplained} deliveries ended there without a word"
            )
        if progress.unexplained < ALONE_AFTER:
            await self._begin(delivery, batch, facts, plan, progress)
            return
        async with self._gate.exclusive():
            await self._begin(delivery, batch, facts, plan, progress)

    async def _begin(
        self,
        delivery: Delivery,
        batch: Batch,
        facts: BlobFacts | None,
        plan: str,
        progress: Progress,
    ) -> None:
        """Leave a mark before anything is parsed, so that a delivery that kills us is counted."""
        marker = Marker.begin(plan, delivery.message.id, len(progress.done))
        await self._blobs.stage(SCORES, delivery.scores_blob, marker.name, b"b")
        delivery.marker = marker
        await self._score_from(delivery, batch, facts, plan, progress)

    async def _input_facts(self, batch: Batch) -> BlobFacts | None:
        source = batch.input
        if not isinstance(source, BlobInput):
            return None
        try:
            facts = await self._blobs.facts(source.container, source.blob)
        except NotFound as error:
            if error.reason == "ContainerNotFound":
                raise
            raise InputMissing("the input blob is not there") from error
        if source.etag is not None and source.etag != facts.etag:
            raise InputChanged("input changed: the blob is not the version that was named")
        return facts

    async def _score_from(
        self,
        delivery: Delivery,
        batch: Batch,
        facts: BlobFacts | None,
        plan: str,
        progress: Progress,
    ) -> None:
        source = batch.input
        items = source.items if isinstance(source, InlineInput) else None
        table = open_table(source.format, self._scorer, batch.options, self._limits, items)
        await self._outcomes.commit(
            delivery,
            batch,
            plan,
            table,
            # Without a name here: scores that stand are held no longer.
            *await self._score_blocks(delivery, batch, facts, plan, progress, table),
        )

    async def _score_blocks(
        self,
        delivery: Delivery,
        batch: Batch,
        facts: BlobFacts | None,
        plan: str,
        progress: Progress,
        table: Table,
    ) -> tuple[list[DataBlock], Categories, bytes | None]:
        """Score and stage what is missing; return all blocks of the result, in order.

        The second value counts the categories of the first block, which a resumed delivery reads
        again for them. A result of one block is not staged on a first delivery, since it can be
        written in one call: then its content is returned, too. Later ones have a marker staged, so
        that storage may say of the blob that it exists.
        """
        small = _is_small(batch, facts)
        run = _at_once if small else asyncio.to_thread
        blocks = list(progress.done)
        row = 1 + sum(block.counts.rows for block in blocks)
        alone: bytes | None = None
        categories: Categories = {}
        read = read_rows(self._blobs, batch, facts, table, progress.offset, run)
        # One block is read while the last one is scored and the one before it staged.
        found = read if small else Prefetch(read)
        async with aclosing(found), _Staging(self._blobs, delivery) as staging:
            async for end, rows in found:
                if alone is not None:
                    await staging.stage(blocks[-1], alone)
                    alone = None
                scored: Scored = await run(table.score, rows, row)
                if rows.first:
                    categories = scored.categories
                    if progress.done:
                        continue
                del rows  # the next ones are being read
                self._check_model(scored)
                if not scored.content:
                    continue  # blank lines: storage takes no empty block
                row += scored.counts.rows
                blocks.append(DataBlock(plan, len(blocks), end, scored.counts, len(scored.content)))
                stopping = self._stopping() and not small
                if len(blocks) == 1 and delivery.marker is None and not stopping:
                    alone = scored.content
                else:
                    await staging.stage(blocks[-1], scored.content)
                if stopping:
                    raise Interrupted("asked to stop")
        return blocks, categories, alone

    def _check_model(self, scored: Scored) -> None:
        """Rows that the model cannot answer are rejected only while it is otherwise sound."""
        if scored.counts.codes.get("model_error") and not self._artifact.golden_holds():
            raise ModelBroken("the model no longer gives its golden answers")


class _Staging:
    """Stages one block while the next is scored: a crash repeats little.

    What is being staged at the end, or at a stop, is waited for; after an error it is given up.
    """

    def __init__(self, blobs: Blobs, delivery: Delivery) -> None:
        self._blobs = blobs
        self._delivery = delivery
        self._task: asyncio.Task[None] | None = None

    async def stage(self, block: DataBlock, content: bytes) -> None:
        """Wait for the last block, then begin with this one."""
        if self._task is not None:
            await self._task
        self._delivery.lease.check()
        self._task = asyncio.create_task(
            self._blobs.stage(SCORES, self._delivery.scores_blob, block.name, content)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._task is None:
            return
        if kind is None or kind is Interrupted:
            await self._task
            return
        self._task.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await self._task


def _is_small(batch: Batch, facts: BlobFacts | None) -> bool:
    source = batch.input
    if isinstance(source, InlineInput):
        return len(source.content) <= SMALL
    return facts is not None and facts.size <= SMALL and not source.gzip


async def _at_once(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return call(*args, **kwargs)


async def _caught(delivery: Delivery, work: Coroutine[Any, Any, None]) -> Exception | None:
    try:
        await work
    except Exception as error:  # one message's failure must not become the process's
        _log(delivery, error)
        return error
    return None


def _log(delivery: Delivery, error: Exception) -> None:
    if isinstance(error, Interrupted):
        return
    log.warning(
        "delivery_failed",
        extra={
            "batch_id": delivery.prefix,
            "message_id": delivery.message.id,
            "reason": type(error).__name__,
            "dequeue_count": delivery.message.dequeue_count,
        },
        exc_info=error,
    )
