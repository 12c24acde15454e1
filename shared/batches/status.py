"""The state of a batch: its outcome once there is a summary, its progress until then."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shared.batches.checkpoint import Marker, PartsDone, furthest_blocks, read_parts
from shared.batches.results import (
    SCORES,
    UPLOADS,
    read_commit,
    read_summary,
    scores_name,
)
from shared.batches.submission import Upload, read_upload
from shared.files.options import OUTPUT_FORMATS
from shared.records.counts import Counts
from shared.records.errors import NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from shared.batches.ports import Blobs, BlobStore

REQUEST, SUMMARY = "/request", "/summary.json"
"""Suffixes of the blobs that every batch has: the request, and the outcome."""

SCORE_FILES = tuple(f"/scores.{kind}" for kind in OUTPUT_FORMATS)
EXAMINED = 200
"""Most batches that are read for one page of the list; each takes at least one call to storage."""

ANOTHER_INPUT: dict[str, Any] = {
    "status": "failed",
    "reason": "batch_id already used: another sender's input has it",
    "rows": {"total": 0, "scored": 0, "rejected": 0, "with_warnings": 0},
}
"""The outcome shown for a file whose id belongs to another input."""

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """Rows and input bytes that the worker has scored and staged."""

    total: int = 0
    rejected: int = 0
    offset: int = 0
    """Input bytes, unpacked."""
    deliveries: int | None = None
    """Deliveries of the message that have begun, where that is known."""
    parts: PartsDone | None = None
    """Of a file that workers share."""

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
    created: datetime | None = None
    """When the file was uploaded, where that is known."""
    input_bytes: int | None = None
    """Size of the uploaded file, where that is known and it is not packed."""

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
    """Look up a batch in storage. None: storage has nothing of it.

    A batch that waits in the queue is known only if it was submitted by the API or the command
    line; other senders leave no request in storage.
    """
    summary = await read_summary(blobs, batch_id)
    if summary is not None:
        if await _is_anothers(blobs, batch_id, summary):
            return BatchStatus(
                batch_id, "failed", BatchProgress(), ANOTHER_INPUT | {"batch_id": batch_id}
            )
        rows = summary["rows"]
        progress = BatchProgress(
            rows["total"], rows["rejected"], deliveries=summary.get("deliveries")
        )
        return BatchStatus(batch_id, summary["status"], progress, summary)
    upload = await read_upload(blobs, batch_id)
    created, size = await _facts(blobs, upload) if upload else (None, None)
    for file_format in (upload.scores_format,) if upload else OUTPUT_FORMATS:
        found = await read_progress(blobs, scores_name(batch_id, file_format))
        if found is not None:
            return BatchStatus(batch_id, "running", found, None, created, size)
    if upload is None:
        return None
    return BatchStatus(batch_id, "queued", BatchProgress(), None, created, size)


async def _facts(blobs: Blobs, upload: Upload) -> tuple[datetime | None, int | None]:
    """When the file was uploaded, and its size unless it is packed."""
    try:
        facts = await blobs.facts(UPLOADS, upload.blob)
    except NotFound:  # the upload is not complete
        return None, None
    return facts.created, None if upload.packed else facts.size


async def read_progress(blobs: Blobs, scores_blob: str) -> BatchProgress | None:
    """The worker's progress with a result. None: it has stored nothing.

    Listing staged blocks is slow on Azure: ask every few seconds at most.
    """
    staged = await blobs.staged(SCORES, scores_blob)
    if staged:
        counts = Counts()
        blocks = furthest_blocks(staged)
        for block in blocks:
            counts.add(block.counts)
        offset = max((block.next_offset for block in blocks), default=0)
        if blocks:  # workers that share a file leave gaps
            offset = offset * len(blocks) // (1 + max(block.sequence for block in blocks))
        begun = {marker.nonce for entry in staged if (marker := Marker.parse(entry))}
        # The first delivery leaves no marker.
        parts = read_parts(staged, blocks)
        return BatchProgress(counts.rows, counts.rejected, offset, 1 + len(begun), parts)
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
    """When storage last received a part of it."""
    batch_id: str
    finished: bool
    """Whether it has a summary."""


async def list_batches(blobs: BlobStore) -> list[ListedBatch]:
    """All batches, newest first. Reads two listings to their end.

    Batches that wait are among them if the API or the command line submitted them.
    """
    found: dict[str, ListedBatch] = {}
    for container, suffixes in ((UPLOADS, (REQUEST,)), (SCORES, (*SCORE_FILES, SUMMARY))):
        for listed in await blobs.listing(container, ""):
            batch_id, _, name = listed.name.rpartition("/")
            if f"/{name}" in suffixes:
                known = found.get(batch_id)
                finished = f"/{name}" == SUMMARY
                # Staged blocks have no time.
                time = listed.modified if finished or known is None else known.time
                found[batch_id] = ListedBatch(time, batch_id, finished)
    return sorted(found.values(), key=lambda batch: (batch.time, batch.batch_id), reverse=True)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list of batches."""

    batches: list[BatchStatus]
    last: ListedBatch | None
    """Where the next page begins; None: there are no older batches."""


async def read_page(
    blobs: BlobStore,
    limit: int,
    after: tuple[datetime, str] | None = None,
    status: Status | None = None,
) -> Page:
    """Read the state of batches older than `after`; with `status`, only of those that have it.

    At most `EXAMINED` batches are read: fewer than `limit` may be found although there are more.
    """
    listed = await list_batches(blobs)
    if after is not None:
        listed = [batch for batch in listed if (batch.time, batch.batch_id) < after]
    found: list[BatchStatus] = []
    examined = 0
    while len(found) < limit and examined < min(len(listed), EXAMINED):
        some = listed[examined : examined + limit - len(found)]
        states = await asyncio.gather(*(read_status(blobs, batch.batch_id) for batch in some))
        examined += len(some)
        found += [state for state in states if state and status in (None, state.status)]
    return Page(found, listed[examined - 1] if examined < len(listed) else None)


async def _is_anothers(blobs: Blobs, batch_id: str, summary: dict[str, Any]) -> bool:
    """Whether the outcome belongs to another file than the one submitted here under this id."""
    identity = summary["identity"]
    if identity.get("container") == UPLOADS and identity["blob"].startswith(f"{batch_id}/input."):
        return False
    return await read_upload(blobs, batch_id) is not None
