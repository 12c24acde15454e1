"""What others see of a batch: the committed scores, the summary, the poison copy.

Every write is create-only, so whatever died or repeats, the first wins and the rest look, and adopt
what stands. The summary is written last and is the outcome; the poison copy comes after it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from shared import metrics
from shared.batches.checkpoint import DataBlock
from shared.batches.message import Batch, BlobInput
from shared.batches.ports import Blobs, Queue
from shared.batches.results import SCORES, commit_metadata, read_commit, scores_name, summary_name
from shared.files.advice import batch_warnings
from shared.files.base import Table
from shared.files.formats import output_format
from shared.records.artifact import Artifact
from shared.records.coding import Categories, check_coding
from shared.records.counts import Counts
from shared.records.errors import AlreadyExists, BatchIdUsed, NotFound
from worker.delivery import Delivery, same_identity
from worker.policy import Delete, Fail, Settlement

log = logging.getLogger(__name__)

LISTED_NAMES = 1000
"""Characters of names that a summary lists in one place; a blob's metadata have room for 8 KiB."""
WARNINGS = 2500
"""Characters of a batch's warnings, which are in the same metadata."""
POISON_BYTES = 60 << 10
"""A larger poison message would not fit a queue message of 64 KiB."""
LIGHT = 64 << 10
"""Bytes of a result that are written without a slot: a few of them in memory are not much."""
OF_DELIVERY = ("times", "message_id", "deliveries", "replay_of", "traceparent")
"""What every summary says of the message and of the delivery that decided."""
CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


class Outcomes:
    """Writes outcomes, and takes those that stand to their end."""

    def __init__(self, artifact: Artifact, poison: Queue, blobs: Blobs) -> None:
        self._artifact = artifact
        self._poison = poison
        self._blobs = blobs

    async def adopt(self, delivery: Delivery) -> bool:
        """Look whether the batch has an outcome or a commit; take it to its end. False: neither.

        Raises `BatchIdUsed` when what stands belongs to another input.
        """
        summary = await self._read_summary(delivery)
        if summary is not None:
            await self._settle_by(delivery, summary)
            return True
        # In either format: a batch id is one input's, whatever its format.
        for kind in CONTENT_TYPES:
            name = scores_name(delivery.prefix, kind)
            try:
                facts = await self._blobs.facts(SCORES, name)
            except NotFound:
                continue
            committed = read_commit(facts.metadata)
            if committed is None:
                raise BatchIdUsed("batch_id already used: a blob that no worker wrote has its name")
            await self._refuse_another(delivery, committed)
            await self._conclude(delivery, name, facts.etag, committed)
            return True
        return False

    async def commit(
        self,
        delivery: Delivery,
        batch: Batch,
        plan: str,
        table: Table,
        blocks: Sequence[DataBlock],
        categories: Categories,
        content: bytes | None,
    ) -> None:
        """Make the result appear, with all that its summary needs in the metadata; then that.

        With `content`, nothing was staged: the result is this one block. Raises `AnotherCoding`
        before anything is visible if the rows prove that the file has another coding.

        The slot is freed when the result stands, and of a light one when all is computed: the
        next message need not wait for calls to storage.
        """
        counts = Counts()
        for block in blocks:
            counts.add(block.counts)
        field_table, options = self._artifact.manifest.fields, batch.options
        if not options.coding_checked:
            check_coding(counts, field_table)
        warnings = batch_warnings(
            table.notes, counts, categories, field_table, coding_checked=options.coding_checked
        )
        size = sum(block.size for block in blocks)
        name = delivery.scores_blob
        metadata = commit_metadata(
            self._committed(delivery, plan, counts, size, table) | {"warnings": _fitting(warnings)}
        )
        media_type = CONTENT_TYPES[output_format(batch.input.format)]
        if content is not None and len(content) <= LIGHT:
            delivery.free_slot()
            # A look for more goes out first, or it would wait behind what is now written of all
            # messages that came with this one. The event loop needs two turns to send it.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        delivery.lease.check()
        if content is not None:
            facts = await self._blobs.create(
                SCORES, delivery.scores_blob, content, media_type, metadata
            )
        else:
            names = [block.name for block in blocks]
            facts = await self._blobs.commit(
                SCORES, delivery.scores_blob, names, media_type, metadata
            )
        del blocks, content
        delivery.marker = None  # the commit dropped it
        delivery.free_slot()
        metrics.count_rows("batch", counts.rows - counts.rejected, counts.codes, counts.rejected)
        metrics.BATCH_ROWS.observe(counts.rows)
        # From what was written, so that whoever may have to repeat this writes the same.
        written = read_commit(metadata)
        assert written is not None  # noqa: S101  # we made it
        await self._conclude(delivery, name, facts.etag, written)
        log.info(
            "batch_committed",
            extra={
                "batch_id": delivery.prefix,
                "rows": counts.rows,
                "rejected": counts.rejected,
                "seconds": round((datetime.now(UTC) - delivery.started).total_seconds(), 3),
                "traceparent": batch.traceparent,
            },
        )

    def _committed(
        self, delivery: Delivery, plan: str, counts: Counts, size: int, table: Table
    ) -> dict[str, Any]:
        """What a result's metadata say: all that its summary is made from."""
        manifest = self._artifact.manifest
        return {
            "identity": delivery.identity,
            "counts": counts.numbers,
            "plan": plan,
            "bytes": size,
            "model": {
                "name": manifest.name,
                "version": manifest.version,
                "sha256": self._artifact.sha256,
            },
            "columns": {
                "ignored": _listed(table.ignored_columns),
                "ignored_count": len(table.ignored_columns) + table.unnamed_columns,
                "absent": _listed(table.absent_fields),
                "absent_count": len(table.absent_fields),
            },
            **_of_delivery(delivery),
        }

    async def fail(self, delivery: Delivery, failure: Fail, error: Exception | None) -> Settlement:
        """End the batch as failed: summary, then poison copy. The message is deleted after.

        A look comes first: where the batch has another outcome, that one stands.
        """
        if failure.own_name:
            delivery.prefix = f"{delivery.prefix.partition('~')[0]}~{delivery.message.id}"
        if await self.adopt(delivery):
            return Delete()
        kind = type(error).__name__
        summary = {
            "batch_id": delivery.prefix,
            "status": "failed",
            "reason": failure.reason,
            "poison": failure.poison,
            "rows": _rows(Counts()),
            "identity": delivery.identity,
            **_of_delivery(delivery),
        }
        if not await self._write_summary(delivery, summary):
            return Delete()
        log.warning("batch_failed", extra={"batch_id": delivery.prefix, "reason": kind})
        if failure.poison:
            metrics.POISON.labels(kind).inc()
            await self._send_poison(delivery, failure.reason)
        return failure

    async def _conclude(
        self, delivery: Delivery, scores_blob: str, etag: str, committed: Mapping[str, Any]
    ) -> None:
        """Write the summary of a committed result, from that blob alone."""
        counts = Counts.of(committed["counts"])
        columns = committed["columns"]
        summary = {
            "batch_id": delivery.prefix,
            "status": "succeeded",
            "rows": _rows(counts),
            "rejections": counts.codes,
            "warnings": committed.get("warnings", []),
            "other_coding_rows": counts.other_coding,
            "ignored_columns": columns["ignored"],
            "ignored_column_count": columns["ignored_count"],
            "absent_fields": columns["absent"],
            "absent_field_count": columns["absent_count"],
            "identity": committed["identity"],
            "output": {
                "container": SCORES,
                "blob": scores_blob,
                "etag": etag,
                "bytes": committed["bytes"],
            },
            "plan": committed["plan"],
            "model": committed["model"],
            **{key: committed[key] for key in OF_DELIVERY},
        }
        await self._write_summary(delivery, summary)

    async def _write_summary(self, delivery: Delivery, summary: Mapping[str, Any]) -> bool:
        """Create the summary. False: one stood already; it decided, and was followed."""
        delivery.lease.check()
        name = summary_name(delivery.prefix)
        # An item a line, to be read by people, too. For `indent` Python's encoder, not C's, would
        # be used: a tenth of all that one message takes.
        content = json.dumps(summary, separators=(",\n ", ": ")).encode()
        try:
            await self._blobs.create(SCORES, name, content, "application/json")
        except AlreadyExists:
            standing = await self._read_summary(delivery)
            if standing is None:
                raise  # seen a moment ago and gone: someone deletes results
            await self._settle_by(delivery, standing)
            return False
        return True

    async def _read_summary(self, delivery: Delivery) -> dict[str, Any] | None:
        """The summary that stands. Raises `BatchIdUsed` when it is of another input."""
        try:
            content = await self._blobs.read(SCORES, summary_name(delivery.prefix))
        except NotFound:
            return None
        summary: dict[str, Any] = json.loads(content)
        await self._refuse_another(delivery, summary)
        return summary

    async def _refuse_another(self, delivery: Delivery, standing: Mapping[str, Any]) -> None:
        """Raise `BatchIdUsed` unless what stands is of this delivery's input."""
        # Our own message, even if another version of this product read it differently.
        if standing["message_id"] == delivery.message.id:
            return
        source = delivery.batch.input if delivery.batch else None
        if isinstance(source, BlobInput) and source.etag is None and delivery.etag is None:
            # This message means the version that stands there now; gone, it may be any.
            with suppress(NotFound):
                delivery.etag = (await self._blobs.facts(source.container, source.blob)).etag
        if not same_identity(standing["identity"], delivery.identity):
            raise BatchIdUsed("batch_id already used")

    async def _settle_by(self, delivery: Delivery, summary: Mapping[str, Any]) -> None:
        """A summary stands: finish what may be missing behind it."""
        log.info("batch_adopted", extra={"batch_id": delivery.prefix, "status": summary["status"]})
        if summary["status"] == "failed" and summary["poison"]:
            await self._send_poison(delivery, str(summary["reason"]))

    async def _send_poison(self, delivery: Delivery, reason: str) -> None:
        """Copy the message to the poison queue. Twice is possible, never is not."""
        entry: dict[str, object] = {
            "batch_id": delivery.prefix,
            "reason": reason,
            "time": _time(datetime.now(UTC)),
            "deliveries": delivery.message.dequeue_count,
            "body": delivery.message.body,
        }
        text = json.dumps(entry)
        if len(text) > POISON_BYTES:
            name = f"{delivery.prefix}/message"
            with suppress(AlreadyExists):
                await self._blobs.create(
                    SCORES, name, delivery.message.body.encode(), "text/plain; charset=utf-8"
                )
            del entry["body"]
            text = json.dumps(entry | {"body_blob": name})
        delivery.lease.check()
        await self._poison.send(text)


def _of_delivery(delivery: Delivery) -> dict[str, Any]:
    """`OF_DELIVERY`, as this delivery has them."""
    batch = delivery.batch
    return {
        "times": {
            "sent": _time(delivery.message.inserted),
            "started": _time(delivery.started),
            "finished": _time(datetime.now(UTC)),
        },
        "message_id": delivery.message.id,
        "deliveries": delivery.message.dequeue_count,
        "replay_of": batch.replay_of if batch else None,
        "traceparent": batch.traceparent if batch else None,
    }


def _rows(counts: Counts) -> dict[str, int]:
    return {
        "total": counts.rows,
        "scored": counts.rows - counts.rejected,
        "rejected": counts.rejected,
        "with_warnings": counts.warned,
    }


def _fitting(warnings: Sequence[str]) -> list[str]:
    """As many warnings as fit a blob's metadata; the last says that there are more."""
    fitting: list[str] = []
    for warning in warnings:
        if sum(map(len, fitting)) + len(warning) > WARNINGS:
            return [*fitting, f"{len(warnings) - len(fitting)} more warnings: run the check"]
        fitting.append(warning)
    return fitting


def _listed(names: Sequence[str]) -> list[str]:
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
