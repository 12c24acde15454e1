"""The state of a batch: its outcome once there is a summary, its progress until then."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shared.batches.checkpoint import furthest_blocks
from shared.batches.results import (
    FORMATS,
    SCORES,
    UPLOADS,
    read_commit,
    read_summary,
    scores_name,
)
from shared.records.counts import Counts
from shared.records.errors import NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from shared.batches.ports import Blobs, BlobStore

REQUEST, SUMMARY = "/request", "/summary.json"
"""Ends of the names of blobs that every batch has: what was asked for, and the outcome."""

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """Rows and input bytes that the worker has scored and staged."""

    total: int = 0
    rejected: int = 0
    offset: int = 0
    """Input bytes, unpacked."""

    @property
    def scored(self) -> int:
        return self.total - self.rejected


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """The state of one batch."""

    batch_id: str
    status: Status
    progress: BatchProgress
    summary: dict[str, Any] | None = None
    """The outcome; None while there is none."""

    @property
    def rows(self) -> dict[str, int]:
        """Rows so far: total, scored and rejected."""
        progress = self.progress
        return {
            "total": progress.total,
            "scored": progress.scored,
            "rejected": progress.rejected,
        }


async def read_status(blobs: Blobs, batch_id: str) -> BatchStatus | None:
    """Look a batch up in storage. None: nothing is known of it.

    A batch that waits in the queue is known only if it was submitted by the API or the command
    line; other senders leave no request in storage.
    """
    summary = await read_summary(blobs, batch_id)
    if summary is not None:
        rows = summary["rows"]
        progress = BatchProgress(rows["total"], rows["rejected"])
        return BatchStatus(batch_id, summary["status"], progress, summary)
    was_submitted = await _was_submitted(blobs, batch_id)
    for file_format in FORMATS:
        found = await read_progress(blobs, scores_name(batch_id, file_format))
        if found is not None:
            return BatchStatus(batch_id, "running", found)
    return BatchStatus(batch_id, "queued", BatchProgress()) if was_submitted else None


async def read_progress(blobs: Blobs, scores_blob: str) -> BatchProgress | None:
    """How far the worker has come with a result. None: it has stored nothing.

    Listing staged blocks is slow on Azure: ask every few seconds at most.
    """
    staged = await blobs.staged(SCORES, scores_blob)
    if staged:
        counts = Counts()
        blocks = furthest_blocks(staged)
        for block in blocks:
            counts.add(block.counts)
        offset = max((block.next_offset for block in blocks), default=0)
        return BatchProgress(counts.rows, counts.rejected, offset)
    # Committed: the summary is about to follow.
    with suppress(NotFound):
        facts = await blobs.facts(SCORES, scores_blob)
        if (commit := read_commit(facts.metadata)) is not None:
            counts = Counts.of(commit["counts"])
            return BatchProgress(counts.rows, counts.rejected)
    return None


@dataclass(frozen=True, slots=True)
class ListedBatch:
    """A batch as the listings of storage show it."""

    time: datetime
    """When storage last received something of it."""
    batch_id: str
    finished: bool
    """Whether it has a summary."""


async def list_batches(blobs: BlobStore) -> list[ListedBatch]:
    """All batches, newest first. Reads two listings to their end.

    Batches that wait or run are among them if the API or the command line submitted them.
    """
    found: dict[str, ListedBatch] = {}
    for container, suffix in ((UPLOADS, REQUEST), (SCORES, SUMMARY)):
        for listed in await blobs.listing(container, ""):
            if listed.name.endswith(suffix):
                batch_id = listed.name.removesuffix(suffix)
                found[batch_id] = ListedBatch(listed.modified, batch_id, suffix == SUMMARY)
    return sorted(found.values(), key=lambda batch: (batch.time, batch.batch_id), reverse=True)


async def _was_submitted(blobs: Blobs, batch_id: str) -> bool:
    with suppress(NotFound):
        await blobs.facts(UPLOADS, f"{batch_id}{REQUEST}")
        return True
    return False
