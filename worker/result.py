"""The scores blob of one batch: its blocks are staged one by one, then committed as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

from shared.batches.checkpoint import DataBlock, Progress
from shared.batches.ports import BlobFacts, Blobs
from shared.batches.results import SCORES
from shared.records.counts import Counts
from shared.records.errors import BadFile, Interrupted
from shared.settings import MAX_BLOCKS
from worker.lease import Lease


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
    ) -> None:
        """`again`: all blocks come once more, and only those that are missing are staged."""
        self.blocks = [] if again else list(progress.done)
        """All blocks of the result so far, in order."""
        self._done = {block.name for block in progress.done}
        self._blobs = blobs
        self._lease = lease
        self._name = name
        self._plan = plan
        self._may_put = may_put
        self._held: bytes | None = None
        """Content of the first block, as long as it may be the only one."""
        self._staging: asyncio.Task[None] | None = None

    @property
    def next_row(self) -> int:
        return 1 + sum(block.counts.rows for block in self.blocks)

    @property
    def counts(self) -> Counts:
        counts = Counts()
        for block in self.blocks:
            counts.add(block.counts)
        return counts

    @property
    def size(self) -> int:
        return sum(block.size for block in self.blocks)

    async def add(self, content: bytes, counts: Counts, end: int) -> None:
        """Take the next block; the one after it starts at `end` of the input."""
        await self._stage_held()
        check_block_count(len(self.blocks) + 1)
        block = DataBlock(self._plan, len(self.blocks), end, counts, len(content))
        self.blocks.append(block)
        if block.name in self._done:
            return
        if self._may_put and len(self.blocks) == 1:
            self._held = content
        else:
            await self._stage(block, content)

    async def commit(self, media_type: str, metadata: Mapping[str, str]) -> BlobFacts:
        """Make the result appear. Raises `AlreadyExists` or `BlocksGone`: look again."""
        await self._staged()
        self._lease.check()
        if self._held is not None:
            return await self._blobs.create(SCORES, self._name, self._held, media_type, metadata)
        names = [block.name for block in self.blocks]
        return await self._blobs.commit(SCORES, self._name, names, media_type, metadata)

    async def _stage_held(self) -> None:
        content, self._held = self._held, None
        if content is not None:
            await self._stage(self.blocks[0], content)

    async def _stage(self, block: DataBlock, content: bytes) -> None:
        await self._staged()
        self._lease.check()
        self._staging = asyncio.create_task(
            self._blobs.stage(SCORES, self._name, block.name, content)
        )

    async def _staged(self) -> None:
        if self._staging is not None:
            await self._staging

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is Interrupted:
            await self._stage_held()
            await self._staged()
        elif kind is not None and self._staging is not None:
            self._staging.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await self._staging
