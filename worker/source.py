"""A batch's input as blocks, from the offset where the last delivery ended."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from typing import Any, Generic, TypeGuard, TypeVar

from shared import tracing
from shared.batches.message import Batch, BlobInput, InlineInput
from shared.batches.ports import BlobFacts, Blobs
from shared.files.base import Block, Bounds, SeekingTable, SplittingTable, Table
from shared.files.formats import Format
from shared.files.gunzip import Gunzip
from shared.records.errors import (
    BadFile,
    InputMissing,
    InputUnreadable,
    Interrupted,
    NotFound,
    StorageRefused,
)

T = TypeVar("T")

Run = Callable[..., Any]
"""Runs a function: at once, or in a thread."""
SMALL = 64 << 10
"""Bytes of input below which a thread, or a jump into the file, costs more than it saves."""
HEADER_PIECE = 64 << 10
"""Bytes that are read at a time to find a file's header."""
LINES: tuple[Format, ...] = ("csv", "jsonl")
"""Formats that can be read from any line on."""


async def read_rows(
    blobs: Blobs, batch: Batch, facts: BlobFacts | None, table: Table, offset: int, run: Run
) -> AsyncGenerator[tuple[int, Any]]:
    """Blocks from `offset` on, and the first one in any case: their ends, and their checked rows.

    `facts` are of the input blob, if there is one.
    """
    async with aclosing(cut_blocks(blobs, batch, facts, table, offset, run)) as blocks:
        async for item in _read(blocks, table, run):
            yield item


async def read_part(
    blobs: Blobs, source: BlobInput, facts: BlobFacts, table: Table, start: int, end: int
) -> AsyncGenerator[tuple[int, Any]]:
    """The blocks of a file from `start` to `end`, both of which are ends of blocks.

    From 0: the first block alone.
    """
    async with aclosing(_cut_part(blobs, source, facts, table, start, end)) as blocks:
        async for item in _read(blocks, table, asyncio.to_thread):
            yield item


async def _read(
    blocks: AsyncGenerator[Block], table: Table, run: Run
) -> AsyncGenerator[tuple[int, Any]]:
    read: list[tuple[int, Any]] = []
    while True:
        with tracing.span("read block") as span:
            block = await anext(blocks, None)
            if block is None:
                return
            if block.first or table.count_rows(block):  # else blank lines, of which there are many
                read.append((block.end, await run(table.read, block)))
            span.set({"input.end": block.end})
        if read:
            yield read.pop()  # keep no other reference: rows are large


async def _cut_part(
    blobs: Blobs, source: BlobInput, facts: BlobFacts, table: Table, start: int, end: int
) -> AsyncGenerator[Block]:
    if isinstance(table, SplittingTable):
        with BlobFile(blobs, source, facts) as file:
            between = file.watched(table.blocks_between(file, start, end))
            async for block in _stepwise(between, asyncio.to_thread):
                yield block
        return
    if not start:
        yield await _first_block(blobs, source, facts, table)
        return
    await _read_header(blobs, source, facts, table)
    table.jump(start)
    async with aclosing(Prefetch(_chunks(blobs, source, facts, start, end))) as chunks:
        async for chunk in chunks:
            async for block in _stepwise(table.feed(chunk), asyncio.to_thread):
                yield block
    async for block in _stepwise(table.finish(), asyncio.to_thread):
        yield block


async def _read_header(blobs: Blobs, source: BlobInput, facts: BlobFacts, table: Table) -> None:
    """Feed the table until it can jump."""
    start = 0
    while not table.ready and start < facts.size:
        end = min(start + HEADER_PIECE, facts.size)
        async with aclosing(_chunks(blobs, source, facts, start, end)) as chunks:
            async for chunk in chunks:
                for _ in table.feed(chunk):
                    pass
        start = end


async def cut_blocks(
    blobs: Blobs, batch: Batch, facts: BlobFacts | None, table: Table, offset: int, run: Run
) -> AsyncGenerator[Block]:
    """The first block, not read yet, and those that begin at `offset` or after it."""
    source, start = batch.input, 0
    if (
        isinstance(table, SeekingTable)
        and isinstance(source, BlobInput)
        and facts is not None
        and facts.size > SMALL
    ):
        with BlobFile(blobs, source, facts) as file:
            async for block in _stepwise(file.watched(table.blocks(file, offset)), run):
                yield block
        return
    # Packed files and arrays are read from their start: an offset in them cannot be looked up.
    if offset and can_jump(source) and facts is not None:
        yield await _first_block(blobs, source, facts, table)
        start = offset if table.jump(offset) else 0
    async with aclosing(_pieces(blobs, batch, facts, start)) as pieces:
        async for piece in pieces:
            async for block in _stepwise(table.feed(piece), run):
                if block.first or block.start >= offset:
                    yield block
    async for block in _stepwise(table.finish(), run):
        if block.first or block.start >= offset:
            yield block


async def find_blocks(
    blobs: Blobs, batch: Batch, facts: BlobFacts, table: Table, offset: int
) -> AsyncGenerator[Bounds]:
    """The first block, and those from `offset` on; nothing if the input cannot be cut after all."""
    assert isinstance(batch.input, BlobInput)  # noqa: S101  # others are not shared
    if isinstance(table, SplittingTable):
        with BlobFile(blobs, batch.input, facts) as file:
            footer = file.watched(table.bounds(file, offset))
            for bounds in await asyncio.to_thread(list, footer):
                yield bounds
        return
    if offset:
        first = await _first_block(blobs, batch.input, facts, table)
        if not table.ready:
            return
        yield _bounds(first, table)
        table.jump(offset)

    def listed(blocks: Iterator[Block]) -> list[Bounds]:
        return [_bounds(block, table) for block in blocks]

    async with aclosing(_pieces(blobs, batch, facts, offset)) as pieces:
        async for piece in pieces:
            found = await asyncio.to_thread(listed, table.feed(piece))
            if found and not table.ready:  # UTF-16
                return
            for bounds in found:
                yield bounds
    for bounds in await asyncio.to_thread(listed, table.finish()):
        if table.ready:
            yield bounds


def _bounds(block: Block, table: Table) -> Bounds:
    return Bounds(block.start, block.end, table.count_rows(block), block.first)


def can_be_shared(source: BlobInput | InlineInput) -> TypeGuard[BlobInput]:
    """Whether parts of an input can be read without what is before them."""
    return (
        isinstance(source, BlobInput) and not source.gzip and source.format in (*LINES, "parquet")
    )


def can_jump(source: BlobInput | InlineInput) -> TypeGuard[BlobInput]:
    """Whether an input can be read from any line on."""
    return isinstance(source, BlobInput) and not source.gzip and source.format in LINES


async def _pieces(
    blobs: Blobs, batch: Batch, facts: BlobFacts | None, start: int
) -> AsyncGenerator[bytes]:
    """The input from `start` on, unpacked."""
    source = batch.input
    if isinstance(source, InlineInput) or facts is None:
        yield source.content if isinstance(source, InlineInput) else b""
        return
    if start >= facts.size:
        return
    async with aclosing(Prefetch(_chunks(blobs, source, facts, start))) as chunks:
        if not source.gzip:
            async for chunk in chunks:
                yield chunk
            return
        gunzip = Gunzip()
        async for chunk in chunks:
            for piece in gunzip.feed(chunk):
                yield piece
        gunzip.finish()


async def _first_block(blobs: Blobs, source: BlobInput, facts: BlobFacts, table: Table) -> Block:
    """The file's first block, and with it the header."""
    async with aclosing(_chunks(blobs, source, facts, 0)) as chunks:
        async for chunk in chunks:
            for block in table.feed(chunk):
                return block
    return next(table.finish())


async def _chunks(
    blobs: Blobs, source: BlobInput, facts: BlobFacts, start: int, end: int | None = None
) -> AsyncGenerator[bytes]:
    try:
        async for chunk in blobs.chunks(source.container, source.blob, facts.etag, start, end):
            yield chunk
    except NotFound as error:
        raise InputMissing("the input blob was deleted while it was read") from error
    except StorageRefused as error:
        raise InputUnreadable(error.reason) from error


class BlobFile(io.RawIOBase):
    """A blob as a file that a thread may read in any order; the event loop downloads for it."""

    def __init__(self, blobs: Blobs, source: BlobInput, facts: BlobFacts) -> None:
        """To be made in the event loop."""
        super().__init__()
        self._blobs, self._source, self._facts = blobs, source, facts
        self._loop = asyncio.get_running_loop()
        self._position = 0
        self._pending: set[Future[bytes]] = set()
        self._error: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._facts.size}
        self._position = start[whence] + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        start, end = self._position, self._facts.size
        if size >= 0:
            end = min(start + size, end)
        if start >= end:
            return b""
        if self.closed:
            raise Interrupted("the file is read no more")
        download = asyncio.run_coroutine_threadsafe(self._download(start, end), self._loop)
        self._pending.add(download)
        try:
            content = download.result()
        except Exception as error:
            self._error = error
            raise
        finally:
            self._pending.discard(download)
        self._position = start + len(content)
        return content

    async def _download(self, start: int, end: int) -> bytes:
        pieces = _chunks(self._blobs, self._source, self._facts, start, end)
        async with aclosing(pieces):
            return b"".join([piece async for piece in pieces])

    def watched(self, items: Iterator[T]) -> Iterator[T]:
        """The items; a failed download is raised as it was, not as a damaged file."""
        try:
            yield from items
        except BadFile:
            if self._error is not None:
                raise self._error from None
            raise

    def close(self) -> None:
        """End downloads that are under way, so that no thread waits for them."""
        for download in list(self._pending):
            download.cancel()
        super().close()


class Prefetch(Generic[T]):
    """Fetches the next item of `source` while the last one is worked on, and keeps no other.

    (A generator would also hold the last item until it is asked again.)
    """

    def __init__(self, source: AsyncGenerator[T]) -> None:
        self._source = source
        self._pending: asyncio.Future[T | None] | None = None

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        item = await (self._pending or self._get())
        if item is None:
            raise StopAsyncIteration
        self._pending = self._get()
        return item

    def _get(self) -> asyncio.Future[T | None]:
        return asyncio.ensure_future(anext(self._source, None))

    async def aclose(self) -> None:
        """Cancel the pending item and close the source."""
        if self._pending is not None:
            self._pending.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await self._pending
        await self._source.aclose()


async def _stepwise(blocks: Iterator[Block], run: Run) -> AsyncIterator[Block]:
    """Blocks one at a time, each cut outside the event loop if `run` does so."""
    while (block := await run(next, blocks, None)) is not None:
        yield block
