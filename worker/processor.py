"""One message, from its text to its settlement: read, plan, score and stage, commit, summarise.

A batch's summary is written last, and the message is deleted only when it exists. The names of
staged blocks say how far a batch has come, so a delivery resumes where the last one ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import aclosing, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import ParamSpec, TypeVar

from shared import metrics, tracing
from shared.batches.checkpoint import NO_PROGRESS, Progress, plan_of, read_progress
from shared.batches.message import (
    Batch,
    BlobInput,
    Ignored,
    InlineInput,
    UnreadableMessage,
    at_version,
    parse_message,
)
from shared.batches.ports import BlobFacts, Blobs, Notes, Queue
from shared.batches.presence import Retry, delete_retry, write_retry
from shared.batches.profile import make_profile
from shared.batches.results import (
    INCOMING,
    SCORES,
    UPLOADS,
    commit_metadata,
    read_commit,
    summary_name,
)
from shared.files.base import Limits, Scored, Table
from shared.files.formats import FORMATS, open_table
from shared.records.artifact import Artifact
from shared.records.coding import Categories
from shared.records.counts import Counts
from shared.records.errors import (
    AlreadyExists,
    BlocksGone,
    GaveUp,
    InputChanged,
    InputMissing,
    InputUnreadable,
    Interrupted,
    NotFound,
    ScorerError,
    StorageRefused,
)
from shared.records.tally import Tallier, Tally
from worker.delivery import Delivery, Target, target_of, target_of_unread
from worker.gate import Gate
from worker.markers import Markers
from worker.model import batch_scorer, check_model
from worker.outcomes import Outcomes
from worker.parts import Parts, Shared
from worker.policy import (
    EXCLUSIVE_AFTER,
    GIVE_UP_AFTER,
    Delete,
    Fail,
    Leave,
    Release,
    Settlement,
    settle,
)
from worker.result import ResultWriter, check_block_count
from worker.source import SMALL, Prefetch, read_rows

log = logging.getLogger(__name__)

INPUT_CONTAINERS = frozenset({INCOMING, UPLOADS})

CANCELLATION_SECONDS = 5
"""Seconds between two checks whether a long batch was cancelled."""
NOTE_LIMIT = 5
"""Seconds that a note for people may take."""

P = ParamSpec("P")
T = TypeVar("T")


class Processor:
    """Processes messages; holds what all of them share."""

    def __init__(
        self,
        artifact: Artifact,
        poison: Queue,
        blobs: Blobs,
        limits: Limits,
        gate: Gate,
        *,
        stopping: Callable[[], bool] = lambda: False,
        notes: Notes | None = None,
        parts: Parts | None = None,
    ) -> None:
        """`notes` is where messages that are retried are noted for people.

        `parts` shares large files with other workers.
        """
        manifest = artifact.manifest
        self._artifact = artifact
        self._scorer = batch_scorer(artifact)
        self._tallier = Tallier(manifest.fields, manifest.answer_kind, manifest.reference)
        self._notes = notes
        self._parts = parts
        self._outcomes = Outcomes(artifact, poison, blobs)
        self._markers = Markers(blobs)
        self._blobs = blobs
        self._limits = limits
        self._gate = gate
        self._stopping = stopping

    async def process(self, delivery: Delivery) -> Settlement:
        """Take one delivery to its end and decide what happens to the message. Raises nothing."""
        message = delivery.message
        try:
            batch = parse_message(message.body, message.id, INPUT_CONTAINERS)
        except UnreadableMessage as error:
            return await self._settle(delivery, target_of_unread(message, error), error)
        except Exception as error:  # one message's failure must not become the process's
            return await self._settle(delivery, target_of_unread(message), error)
        if isinstance(batch, Ignored):
            metrics.IGNORED.labels(batch.reason).inc()
            log.info("event_ignored", extra={"reason": batch.reason})
            return Delete()
        facts: tracing.Attributes = {
            "batch.id": target_of(batch).log_id,
            "message.id": delivery.message.id,
            "message.deliveries": delivery.message.dequeue_count,
        }
        with tracing.span(
            "process batch", "consumer", parent=batch.traceparent, attributes=facts
        ) as span:
            settlement = await self._process_batch(delivery, batch)
            span.set({"settlement": type(settlement).__name__.lower()})
        return settlement

    @property
    def last_outcome(self) -> dict[str, str] | None:
        """Batch, status and time of the summary that was written last."""
        return self._outcomes.last

    async def interrupted(self, delivery: Delivery) -> Settlement:
        """Settle a delivery whose `process` was cancelled."""
        await self._markers.excuse(delivery.message.id)
        return Release(0, excused=True)

    async def write_owed_excuses(self) -> None:
        """Call it when storage answers: an outage must not count against a message."""
        await self._markers.write_owed()

    async def _process_batch(self, delivery: Delivery, batch: Batch) -> Settlement:
        target = target_of(batch)
        try:
            with self._gate.shared():
                if self._stopping():
                    raise Interrupted("asked to stop")
                # On a first delivery the create-only writes find an existing outcome.
                if delivery.message.dequeue_count > 1 and await self._outcomes.adopt(
                    delivery, target
                ):
                    return Delete()
                facts = await self._input_facts(batch)
                current = at_version(batch, facts.etag) if facts else batch
                # The blob was replaced after the event, which may have been processed before.
                if current.batch_id != batch.batch_id and await self._outcomes.adopt(
                    delivery, target
                ):
                    return Delete()
                batch = current
                target = target_of(batch, facts.etag if facts else None)
                target = await self._outcomes.claim(delivery, target)
                try:
                    await self._score(delivery, target, batch, facts)
                except (AlreadyExists, BlocksGone):
                    if not await self._outcomes.adopt(delivery, target):
                        raise
        except Exception as error:  # one message's failure must not become the process's
            return await self._settle(delivery, target, error)
        return await self._settle(delivery, target, None)

    async def _settle(
        self, delivery: Delivery, target: Target, error: Exception | None
    ) -> Settlement:
        """Decide what happens to the message; write the failure if it is one."""
        settlement = self._decide(delivery, target, error)
        attempts = 0
        # Writing a failure may meet another batch of its id, and then storage's own refusal.
        while isinstance(settlement, Fail) and attempts < 3:
            attempts += 1
            try:
                settlement = await self._outcomes.fail(delivery, target, settlement, error)
                break
            except Exception as caught:  # the same policy decides
                error = caught
                settlement = self._decide(delivery, target, error)
        else:
            if isinstance(settlement, Fail):
                settlement = Release(0, excused=True, doubt="storage")
        if isinstance(settlement, Leave) or (
            isinstance(settlement, Release) and settlement.excused
        ):
            await self._markers.excuse(delivery.message.id)
        else:
            self._markers.drop(delivery.message.id)
        await self._note(delivery, target, settlement, error)
        return settlement

    async def _note(
        self, delivery: Delivery, target: Target, settlement: Settlement, error: Exception | None
    ) -> None:
        """Note for people when a message without its blob is tried again; later delete the note."""
        if self._notes is None:
            return
        message = delivery.message
        with suppress(Exception):  # best effort: nothing depends on a note
            async with asyncio.timeout(NOTE_LIMIT):
                if isinstance(settlement, Release) and isinstance(error, InputMissing):
                    now = datetime.now(UTC)
                    retry = Retry(
                        target.batch_id,
                        error.reason,
                        message.inserted.isoformat(timespec="seconds"),
                        (now + timedelta(seconds=settlement.delay)).isoformat(timespec="seconds"),
                        message.dequeue_count,
                    )
                    await write_retry(self._notes, retry)
                elif isinstance(settlement, Delete | Fail) and message.dequeue_count > 1:
                    await delete_retry(self._notes, target.batch_id)

    def _decide(self, delivery: Delivery, target: Target, error: Exception | None) -> Settlement:
        if error is not None and not isinstance(error, Interrupted):
            log.warning(
                "delivery_failed",
                extra={
                    "batch_id": target.log_id,
                    "message_id": delivery.message.id,
                    # Our errors never contain a value; of a foreign error only the type is safe.
                    "reason": error.reason
                    if isinstance(error, ScorerError)
                    else type(error).__name__,
                    "dequeue_count": delivery.message.dequeue_count,
                },
                exc_info=error,
            )
        return settle(delivery.facts(target.batch), error)

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
        except StorageRefused as error:
            raise InputUnreadable(error.reason) from error
        if batch.from_event:
            if not facts.size:
                raise InputMissing("the input blob is still empty")
        elif source.etag not in (None, facts.etag):
            raise InputChanged("input changed: the blob is not the version that was named")
        return facts

    async def _score(
        self, delivery: Delivery, target: Target, batch: Batch, facts: BlobFacts | None
    ) -> None:
        if facts is not None:
            # Unpacked, a file is at least as large; a block holds no more bytes than the limit.
            check_block_count(facts.size // self._limits.size)
        plan = plan_of(target.identity, batch.input.format, self._artifact.sha256, self._limits)
        message = delivery.message
        if message.dequeue_count == 1:
            await self._score_from(delivery, target, batch, facts, plan, NO_PROGRESS)
            return
        staged = await self._blobs.staged(SCORES, target.scores_blob)
        progress = read_progress(staged, plan, message.id)
        if progress.unexplained >= GIVE_UP_AFTER:
            raise GaveUp(
                f"gave up at byte {progress.offset}: "
                f"{progress.unexplained} deliveries ended there without a word"
            )
        exclusive = progress.unexplained >= EXCLUSIVE_AFTER
        async with self._gate.exclusive() if exclusive else nullcontext():
            blocks = len(progress.done)
            await self._markers.begin(message.id, target.scores_blob, plan, blocks)
            await self._score_from(delivery, target, batch, facts, plan, progress)

    async def _score_from(
        self,
        delivery: Delivery,
        target: Target,
        batch: Batch,
        facts: BlobFacts | None,
        plan: str,
        progress: Progress,
    ) -> None:
        """Score and stage the blocks that are missing, commit the result, summarise it."""
        log.info(
            "batch_started",
            extra={
                "batch_id": target.log_id,
                "message_id": delivery.message.id,
                "bytes": facts.size if facts else None,
                "rows_done": sum(block.counts.rows for block in progress.done),
                "traceparent": batch.traceparent,
            },
        )
        source = batch.input
        items = source.items if isinstance(source, InlineInput) else None
        table = open_table(source.format, self._scorer, batch.options, self._limits, items)
        name = target.scores_blob
        shared: Shared | None = None
        if (
            self._parts is not None
            and facts is not None
            and not self._gate.closed  # alone, a message that may kill is scored in order
            and table.output.resumes
            and self._parts.are_worth_it(batch, facts, progress)
        ):
            check = partial(self._check_not_cancelled, batch.batch_id)
            shared = await self._parts.share(delivery, target, batch, facts, plan, progress, check)
        if shared is not None:
            progress, table = shared.progress, shared.first.table
        # A later delivery has a marker staged, so storage may report that the blob exists.
        first = delivery.message.dequeue_count == 1 and progress is NO_PROGRESS
        profiled = batch.options.profile or not _is_small(batch, facts)
        tally = self._tallier.empty() if profiled else None
        async with ResultWriter(
            self._blobs,
            delivery.lease,
            name,
            plan,
            progress,
            may_put=first,
            again=not table.output.resumes,
            tally=tally,
        ) as writer:
            if shared is not None:
                categories = shared.first.categories
            else:
                categories = await self._score_blocks(batch, facts, table, progress, writer, tally)
            counts = writer.counts
            warnings = self._outcomes.check(batch, table, counts, categories)
            profile = None
            if tally is not None and await writer.complete_tally():
                about = self._outcomes.about(target, plan)
                profile = make_profile(tally, counts, self._artifact.manifest, about)
                await writer.stage_profile(profile)
            metadata = commit_metadata(
                self._outcomes.commit_of(
                    delivery, target, plan, counts, writer.size, table, warnings, profile
                )
            )
            result: tracing.Attributes = {
                "batch.id": target.log_id,
                "rows": counts.rows,
                "rejected": counts.rejected,
            }
            with tracing.span("commit scores", attributes=result):
                committed = await writer.commit(
                    FORMATS[target.scores_format].content_type, metadata
                )
        self._markers.drop(delivery.message.id)  # the commit dropped the staged marker
        metrics.count_rows("batch", counts.rows - counts.rejected, counts.codes, counts.rejected)
        metrics.BATCH_ROWS.observe(counts.rows)
        # From the written metadata, so that a repeated delivery writes the same.
        commit = read_commit(metadata)
        assert commit is not None  # noqa: S101  # we made it
        await self._outcomes.conclude(delivery, target, name, committed.etag, commit)
        if profile is not None:
            metrics.observe_profile(json.loads(profile))
        await writer.discard_counts()
        log.info(
            "batch_committed",
            extra={
                "batch_id": target.log_id,
                "rows": counts.rows,
                "rejected": counts.rejected,
                "seconds": round(delivery.lease.elapsed, 3),
                "traceparent": batch.traceparent,
            },
        )

    async def _score_blocks(
        self,
        batch: Batch,
        facts: BlobFacts | None,
        table: Table,
        progress: Progress,
        writer: ResultWriter,
        tally: Tally | None,
    ) -> Categories:
        """Score, count and stage the blocks that are missing.

        Returns the categories of the first block, which a resumed delivery reads again for them.
        """
        small = _is_small(batch, facts)
        run = _at_once if small else asyncio.to_thread
        categories: Categories = {}
        resumes = table.output.resumes
        end = progress.offset if resumes else 0
        read = read_rows(self._blobs, batch, facts, table, end, run)
        # One block is read while the last one is scored and the one before it staged.
        blocks = read if small else Prefetch(read)
        next_look = 0.0
        async with aclosing(blocks):
            async for end, rows in blocks:
                with tracing.span("score block") as span:
                    scored: Scored = await run(table.score, rows, writer.next_row)
                    span.set({"rows": scored.counts.rows, "rejected": scored.counts.rejected})
                if rows.first:
                    categories = scored.categories
                    if progress.done and resumes:
                        continue
                del rows  # the next ones are being read
                check_model(self._artifact, scored)
                if scored.content:  # storage takes no empty block: these were blank lines
                    counted = None
                    if tally is not None:
                        counted = await run(self._tallier.count, scored.outcome, writer.next_row)
                    await writer.add(scored.content, scored.counts, end, counted)
                del scored  # as large as the next one
                if self._stopping() and not small:
                    raise Interrupted("asked to stop")
                if not small and time.monotonic() >= next_look:
                    next_look = time.monotonic() + CANCELLATION_SECONDS
                    await self._check_not_cancelled(batch.batch_id)
        if content := await run(table.output.finish):
            await writer.add(content, Counts(), end)
        return categories

    async def _check_not_cancelled(self, batch_id: str) -> None:
        """Raise `AlreadyExists` if the batch has an outcome: somebody cancelled it."""
        with suppress(NotFound):
            await self._blobs.facts(SCORES, summary_name(batch_id))
            raise AlreadyExists("the batch has an outcome")


def _is_small(batch: Batch, facts: BlobFacts | None) -> bool:
    source = batch.input
    if isinstance(source, InlineInput):
        return len(source.content) <= SMALL
    return facts is not None and facts.size <= SMALL and not source.gzip


async def _at_once(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return call(*args, **kwargs)
