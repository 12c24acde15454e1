"""The scores blob of one batch: its blocks are staged one by one, then committed as a whole.

With a profile, each block's counts are staged before the block itself, under its name in a second
blob. So a delivery that resumes finds the counts of every block that it does not score again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from shared.batches.checkpoint import DataBlock, Progress, profile_block
from shared.batches.ports import BlobFacts, Blobs
from shared.batches.results import SCORES, counts_name, profile_name
from shared.records.counts import Counts
from shared.records.errors import (
    AlreadyExists,
    BadFile,
    BlocksGone,
    Interrupted,
    NotFound,
    StorageError,
)
from shared.records.tally import Tally
from shared.settings import MAX_BLOCKS
from worker.lease import Lease

LARGE = 8 << 20
"""Bytes of a block, a few times the usual, above which none is made while it waits or is staged."""


def check_block_count(count: int) -> None:
    """Raise `BadFile` for a result of more blocks than storage allows."""
    if count > MAX_BLOCKS:
        raise BadFile(
            f"the file needs more than {MAX_BLOCKS:,} blocks: split it, or raise "
            "SCORER_BLOCK_BYTES and SCORER_BLOCK_ROWS"
        )


class ResultWriter:
    """Stages a block while the next one is scored, so that a crash repeats little.

    A result of one block is not staged at all if `may_put` allows it: it is written by one call.
    After an `Interrupted` every scored block is staged; after another error pending work is
    cancelled.
    """

    def __init__(
        self,
        blobs: Blobs,
        lease: Lease,
        name: str,
        plan: str,
        progress: Progress,
        *,
        may_put: bool,
        again: bool = False,
        tally: Tally | None = None,
        sequence: int = 0,
        row: int = 1,
    ) -> None:
        """`again`: all blocks come once more, and only those that are missing are staged.

        `tally`: what the counts of all blocks are added to, for the profile.
        `sequence` and `row`: where a part of a result begins.
        """
        self.blocks = [] if again else list(progress.done)
        """All blocks of the result so far, in order."""
        self._done = {block.name for block in progress.done}
        self._blobs = blobs
        self._lease = lease
        self._name = name
        self._plan = plan
        self._may_put = may_put
        self._sequence = sequence
        self._row = row
        self._held: tuple[bytes, Tally | None] | None = None
        """Content and counts of the first block, as long as it may be the only one."""
        self._tally = tally
        self._resumed = len(self.blocks)
        """Number of blocks that an earlier delivery scored, and this one does not."""
        self._staging: asyncio.Task[None] | None = None

    @property
    def next_row(self) -> int:
        return self._row + sum(block.counts.rows for block in self.blocks)

    @property
    def counts(self) -> Counts:
        counts = Counts()
        for block in self.blocks:
            counts.add(block.counts)
        return counts

    @property
    def size(self) -> int:
        return sum(block.size for block in self.blocks)

    async def add(
        self, content: bytes, counts: Counts, end: int, tally: Tally | None = None
    ) -> None:
        """Take the next block and its counts; the one after it starts at `end` of the input."""
        await self._stage_held()
        if self._tally is not None and tally is not None:
            self._tally.add(tally)
        sequence = self._sequence + len(self.blocks)
        check_block_count(sequence + 1)
        block = DataBlock(self._plan, sequence, end, counts, len(content))
        self.blocks.append(block)
        if block.name in self._done:
            return
        if self._may_put and len(self.blocks) == 1 and len(content) <= LARGE:
            self._held = content, tally
        else:
            await self._stage(block, content, tally)

    async def complete_tally(self) -> bool:
        """Add the counts of blocks that earlier deliveries scored. False: they are gone."""
        if self._tally is None or not self._resumed:
            return self._tally is not None
        await self.staged()
        self._lease.check()
        # Staged blocks can be read only after a commit.
        names = [block.name for block in self.blocks]
        with suppress(AlreadyExists, BlocksGone):  # by an earlier delivery: the same bytes
            await self._blobs.commit(SCORES, self._counts_name, names, "application/x-ndjson", {})
        try:
            facts = await self._blobs.facts(SCORES, self._counts_name)
        except NotFound:
            return False
        rest, wanted = b"", self._resumed
        async for chunk in self._blobs.chunks(SCORES, self._counts_name, facts.etag):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines[:wanted]:
                self._tally.add(Tally.of_line(line))
            wanted -= len(lines[:wanted])
        return True

    async def discard_counts(self) -> None:
        """Remove the blob that `complete_tally` had to commit. If it remains, it does no harm."""
        if self._tally is not None and self._resumed:
            with suppress(StorageError):
                facts = await self._blobs.facts(SCORES, self._counts_name)
                await self._blobs.discard(SCORES, self._counts_name, facts.etag)

    async def stage_profile(self, content: bytes) -> None:
        """Stage the batch's profile, to be committed once the result is."""
        self._lease.check()
        name = profile_name(self._name.rpartition("/")[0])
        await self._blobs.stage(SCORES, name, profile_block(self._plan), content)

    async def commit(self, media_type: str, metadata: Mapping[str, str]) -> BlobFacts:
        """Commit the result. Raises `AlreadyExists` or `BlocksGone`: then check for an outcome."""
        await self.staged()
        self._lease.check()
        if self._held is not None:
            content, _ = self._held
            return await self._blobs.create(SCORES, self._name, content, media_type, metadata)
        names = [block.name for block in self.blocks]
        return await self._blobs.commit(SCORES, self._name, names, media_type, metadata)

    async def _stage_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            await self._stage(self.blocks[0], *held)

    async def _stage(self, block: DataBlock, content: bytes, tally: Tally | None) -> None:
        self._lease.check()
        previous = self._staging
        self._staging = asyncio.create_task(self._store(previous, block, content, tally))
        if previous is not None:
            await previous
        if len(content) > LARGE:  # many texts of errors: no second one in memory
            await self.staged()

    async def _store(
        self,
        previous: asyncio.Task[None] | None,
        block: DataBlock,
        content: bytes,
        tally: Tally | None,
    ) -> None:
        # Counts first: whoever finds the block staged relies on them.
        if tally is not None:
            await self._blobs.stage(SCORES, self._counts_name, block.name, tally.line())
        if previous is not None:
            await previous
        self._lease.check()
        await self._blobs.stage(SCORES, self._name, block.name, content)

    @property
    def _counts_name(self) -> str:
        return counts_name(self._name.rpartition("/")[0], self._plan)

    async def staged(self) -> None:
        """Wait until storage has the last block."""
        if self._staging is not None:
            await self._staging

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is Interrupted:
            await self._stage_held()
            await self.staged()
        elif kind is not None and self._staging is not None:
            self._staging.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await self._staging
