"""Outcomes of batches: the summary, the poison copy, and results that others committed.

Every write is create-only: the first write wins, and the others adopt it. The summary is written
last and is the outcome; the poison copy comes after it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from shared import metrics, tracing
from shared.batches.checkpoint import profile_block
from shared.batches.message import Batch, BlobInput
from shared.batches.ports import Blobs, Queue
from shared.batches.results import (
    SCORES,
    claim_name,
    profile_name,
    read_claim,
    read_commit,
    same_identity,
    scores_name,
    summary_name,
)
from shared.files.advice import batch_warnings
from shared.files.base import Table
from shared.files.options import OUTPUT_FORMATS
from shared.records.artifact import Artifact
from shared.records.coding import Categories, check_coding
from shared.records.counts import Counts
from shared.records.errors import AlreadyExists, BatchIdUsed, BlocksGone, NotFound
from worker.delivery import Delivery, Target
from worker.policy import Delete, Fail, Settlement

log = logging.getLogger(__name__)

LISTED_NAMES = 1000
"""Characters of names that a summary lists in one place; a blob's metadata hold 8 KiB."""
WARNINGS = 2500
"""Characters of a batch's warnings, which are in the same metadata."""
POISON_BYTES = 60 << 10
"""A larger poison entry would not fit a queue message of 64 KiB."""
OF_DELIVERY = ("times", "message_id", "deliveries", "replay_of", "traceparent")
"""Members of every summary about the message and the delivery that decided."""


class Outcomes:
    """Writes outcomes, and finishes those that another delivery began."""

    def __init__(self, artifact: Artifact, poison: Queue, blobs: Blobs) -> None:
        self._artifact = artifact
        self._poison = poison
        self._blobs = blobs
        self.last: dict[str, str] | None = None
        """Batch, status and time of the summary that this worker wrote last."""

    @property
    def _model(self) -> dict[str, str]:
        manifest = self._artifact.manifest
        return {
            "name": manifest.name,
            "version": manifest.version,
            "sha256": self._artifact.sha256,
            "served_sha256": manifest.served_sha256,
        }

    async def claim(self, delivery: Delivery, target: Target) -> Target:
        """Bind a batch id that its sender chose to this input, once and for all.

        Raises `BatchIdUsed` when it belongs to another input.
        """
        if target.claim != "wanted":
            return target
        message_id = delivery.message.id
        claim = {"identity": target.identity, "message_id": message_id}
        name = claim_name(target.batch_id)
        try:
            await self._blobs.create(SCORES, name, json.dumps(claim).encode(), "application/json")
        except AlreadyExists:
            existing = await read_claim(self._blobs, target.batch_id)
            if existing is None:
                raise  # seen a moment ago and gone: someone deletes results
            if existing["message_id"] != message_id:
                if not same_identity(existing["identity"], target.identity):
                    raise BatchIdUsed("batch_id already used") from None
                return replace(target, claim="a twin's")
        return replace(target, claim="held")

    async def adopt(self, delivery: Delivery, target: Target) -> bool:
        """Look for a summary or a committed result, and finish the batch from it.

        False: there is neither. Raises `BatchIdUsed` when what is there belongs to another input.
        """
        summary = await self._read_summary(delivery, target)
        if summary is not None:
            if summary["status"] != "succeeded":
                await self._discard_scores(delivery, target)
            await self._settle_by(delivery, target, summary)
            return True
        # Look for a result in any format: a batch id belongs to one input.
        for scores_format in OUTPUT_FORMATS:
            name = scores_name(target.batch_id, scores_format)
            try:
                facts = await self._blobs.facts(SCORES, name)
            except NotFound:
                continue
            commit = read_commit(facts.metadata)
            if commit is None:
                raise BatchIdUsed("batch_id already used: no worker wrote its scores blob")
            await self._refuse_another(delivery, target, commit)
            await self.conclude(delivery, target, name, facts.etag, commit)
            return True
        return False

    def check(
        self, batch: Batch, table: Table, counts: Counts, categories: Categories
    ) -> list[str]:
        """The batch's warnings. Raises `AnotherCoding` if the rows prove another coding."""
        field_table, checked = self._artifact.manifest.fields, batch.options.coding_checked
        if not checked:
            check_coding(counts, field_table)
        return batch_warnings(table.notes, counts, categories, field_table, coding_checked=checked)

    def about(self, target: Target, plan: str) -> dict[str, object]:
        """The profile's description of its batch, the same for each delivery."""
        return {
            "batch_id": target.batch_id,
            "identity": target.identity,
            "plan": plan,
            "model": self._model,
        }

    def commit_of(
        self,
        delivery: Delivery,
        target: Target,
        plan: str,
        counts: Counts,
        size: int,
        table: Table,
        warnings: Sequence[str],
        profile: bytes | None,
    ) -> dict[str, Any]:
        """Metadata of a result: everything that its summary is made from."""
        return {
            "identity": target.identity,
            "counts": counts.numbers,
            "plan": plan,
            "bytes": size,
            "model": self._model,
            "columns": {
                "ignored": _listed(table.ignored_columns),
                "ignored_count": len(table.ignored_columns) + table.unnamed_columns,
                "absent": _listed(table.absent_fields),
                "absent_count": len(table.absent_fields),
            },
            "warnings": _fitting(warnings),
            "profile_bytes": len(profile) if profile else None,
            **_of_delivery(delivery, target),
        }

    async def conclude(
        self,
        delivery: Delivery,
        target: Target,
        scores_blob: str,
        etag: str,
        commit: Mapping[str, Any],
    ) -> None:
        """Publish the profile and write the summary of a committed result.

        The result's metadata and the staged profile contain all that this needs.
        """
        profile = await self._publish_profile(delivery, target, commit)
        counts = Counts.of(commit["counts"])
        columns = commit["columns"]
        summary = {
            "batch_id": target.batch_id,
            "status": "succeeded",
            "rows": _rows(counts),
            "rejections": counts.codes,
            "warnings": commit.get("warnings", []),
            "other_coding_rows": counts.other_coding,
            "ignored_columns": columns["ignored"],
            "ignored_column_count": columns["ignored_count"],
            "absent_fields": columns["absent"],
            "absent_field_count": columns["absent_count"],
            "identity": commit["identity"],
            "output": {
                "container": SCORES,
                "blob": scores_blob,
                "etag": etag,
                "bytes": commit["bytes"],
            },
            "profile": profile,
            "plan": commit["plan"],
            "model": commit["model"],
            **{key: commit[key] for key in OF_DELIVERY},
        }
        try:
            existing = await self._write_summary(delivery, target, summary)
        except BatchIdUsed:
            await self._blobs.discard(SCORES, scores_blob, etag)
            await self._discard_profile(target, commit["plan"])
            raise
        if existing is not None:
            # Scores never stay next to a summary that says failed: the summary decides.
            if existing["status"] != "succeeded":
                await self._blobs.discard(SCORES, scores_blob, etag)
                await self._discard_profile(target)
            await self._settle_by(delivery, target, existing)

    async def _publish_profile(
        self, delivery: Delivery, target: Target, commit: Mapping[str, Any]
    ) -> dict[str, object] | None:
        """Commit the profile that was staged before the result. None: there is none."""
        if not commit.get("profile_bytes"):
            return None
        name, plan = profile_name(target.batch_id), commit["plan"]
        delivery.lease.check()
        try:
            await self._blobs.commit(
                SCORES, name, [profile_block(plan)], "application/json", {"plan": plan}
            )
        except (AlreadyExists, BlocksGone):
            try:
                facts = await self._blobs.facts(SCORES, name)
            except NotFound:  # staged blocks expire after a week
                return None
            if facts.metadata.get("plan") != plan:
                return None
        return {"container": SCORES, "blob": name, "bytes": commit["profile_bytes"]}

    async def _discard_profile(self, target: Target, plan: str | None = None) -> None:
        """Remove the profile of a result that is withdrawn; with `plan`, only that plan's."""
        name = profile_name(target.batch_id)
        with suppress(NotFound):
            facts = await self._blobs.facts(SCORES, name)
            if plan in (None, facts.metadata.get("plan")):
                await self._blobs.discard(SCORES, name, facts.etag)

    async def fail(
        self, delivery: Delivery, target: Target, failure: Fail, error: Exception | None
    ) -> Settlement:
        """End the batch as failed: summary, then poison copy. The message is deleted after that.

        Checks first: an existing outcome is adopted.
        """
        if failure.own_name:
            target = target.with_own_id(delivery.message.id)
        target = await self.claim(delivery, target)
        if await self.adopt(delivery, target):
            return Delete()
        if target.claim == "a twin's":
            # Its message may be about to commit: only that one may fail under this id.
            target = target.with_own_id(delivery.message.id)
            if await self.adopt(delivery, target):
                return Delete()
        kind = type(error).__name__
        summary = {
            "batch_id": target.batch_id,
            "status": "failed",
            "reason": failure.reason,
            "poison": True,
            "rows": _rows(Counts()),
            "identity": target.identity,
            "model": self._model,
            **_of_delivery(delivery, target),
        }
        existing = await self._write_summary(delivery, target, summary)
        if existing is not None:
            await self._settle_by(delivery, target, existing)
            return Delete()
        log.warning(
            "batch_failed",
            extra={"batch_id": target.log_id, "reason": failure.reason, "error": kind},
        )
        metrics.POISON.labels(kind).inc()
        await self._send_poison(delivery, target, failure.reason)
        return failure

    async def _write_summary(
        self, delivery: Delivery, target: Target, summary: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Create the summary. Returns the one that was there already: it decided."""
        delivery.lease.check()
        content = json.dumps(summary, indent=1).encode()
        name = summary_name(target.batch_id)
        status = str(summary["status"])
        facts = {"batch.id": target.log_id, "batch.status": status}
        try:
            with tracing.span("write summary", attributes=facts):
                await self._blobs.create(SCORES, name, content, "application/json")
        except AlreadyExists:
            existing = await self._read_summary(delivery, target)
            if existing is None:
                raise  # seen a moment ago and gone: someone deletes results
            return existing
        self.last = {
            "batch_id": target.log_id,
            "status": status,
            "time": str(summary["times"]["finished"]),
        }
        metrics.BATCHES.labels(status).inc()
        if status == "succeeded":
            metrics.LAST_SUCCESS.set_to_current_time()
        return None

    async def _discard_scores(self, delivery: Delivery, target: Target) -> None:
        """Remove a commit that came after another delivery had recorded a failure."""
        with suppress(NotFound):
            facts = await self._blobs.facts(SCORES, target.scores_blob)
            if (commit := read_commit(facts.metadata)) is not None:
                await self._refuse_another(delivery, target, commit)
                await self._blobs.discard(SCORES, target.scores_blob, facts.etag)
        await self._discard_profile(target)

    async def _read_summary(self, delivery: Delivery, target: Target) -> dict[str, Any] | None:
        """The existing summary. Raises `BatchIdUsed` if it belongs to another input."""
        try:
            content = await self._blobs.read(SCORES, summary_name(target.batch_id))
        except NotFound:
            return None
        summary: dict[str, Any] = json.loads(content)
        await self._refuse_another(delivery, target, summary)
        return summary

    async def _refuse_another(
        self, delivery: Delivery, target: Target, existing: Mapping[str, Any]
    ) -> None:
        """Raise `BatchIdUsed` unless the existing outcome is of this delivery's input."""
        # Our own message, even if another version of this product read it differently.
        if existing["message_id"] == delivery.message.id:
            return
        identity = dict(target.identity)
        source = target.batch.input if target.batch else None
        if isinstance(source, BlobInput) and identity["etag"] is None:
            # The message means the current version of the blob; if it is gone, any version.
            with suppress(NotFound):
                identity["etag"] = (await self._blobs.facts(source.container, source.blob)).etag
        if not same_identity(existing["identity"], identity):
            raise BatchIdUsed("batch_id already used")

    async def _settle_by(
        self, delivery: Delivery, target: Target, summary: Mapping[str, Any]
    ) -> None:
        """Do the steps that may be missing after an existing summary."""
        log.info("batch_adopted", extra={"batch_id": target.log_id, "status": summary["status"]})
        if summary["status"] == "failed" and summary["poison"]:
            await self._send_poison(delivery, target, str(summary["reason"]))

    async def _send_poison(self, delivery: Delivery, target: Target, reason: str) -> None:
        """Copy the message to the poison queue: at least once."""
        message = delivery.message
        entry: dict[str, object] = {
            "batch_id": target.batch_id,
            "reason": reason,
            "time": _time(delivery.now),
            "deliveries": message.dequeue_count,
            "body": message.body,
        }
        text = json.dumps(entry)
        if len(text) > POISON_BYTES:
            name = f"{target.batch_id}/message"
            with suppress(AlreadyExists):
                await self._blobs.create(
                    SCORES, name, message.body.encode(), "text/plain; charset=utf-8"
                )
            del entry["body"]
            text = json.dumps(entry | {"body_blob": name})
        delivery.lease.check()
        await self._poison.send(text)


def _of_delivery(delivery: Delivery, target: Target) -> dict[str, Any]:
    """`OF_DELIVERY` of this delivery."""
    message, batch = delivery.message, target.batch
    return {
        "times": {
            "sent": _time(message.inserted),
            "started": _time(message.received),
            "finished": _time(delivery.now),
        },
        "message_id": message.id,
        "deliveries": message.dequeue_count,
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
