"""A batch's input as blocks, from the place where the last delivery ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any, Generic, TypeGuard, TypeVar

from shared import tracing
from shared.batches.message import Batch, BlobInput, InlineInput
from shared.batches.ports import BlobFacts, Blobs
from shared.files.base import Block, Table
from shared.files.gunzip import Gunzip
from shared.records.errors import InputMissing, InputUnreadable, NotFound, StorageRefused

T = TypeVar("T")

Run = Callable[..., Any]
"""Runs a function: at once, or in a thread."""


async def read_rows(
    blobs: Blobs, batch: Batch, facts: BlobFacts | None, table: Table, offset: int, run: Run
) -> AsyncGenerator[tuple[int, Any]]:
    """Blocks from `offset` on, and the first one in any case: their ends, and their checked rows.

    `facts` are of the input blob, if there is one.
    """
    async with aclosing(_blocks(blobs, batch, facts, table, offset, run)) as blocks:
        read: list[tuple[int, Any]] = []
        while True:
            with tracing.span("read block") as span:
                block = await anext(blocks, None)
                if block is None:
                    return
                read.append((block.end, await run(table.read, block)))
                span.set({"input.end": block.end})
            yield read.pop()  # kept by nobody else: rows are large


async def _blocks(
    blobs: Blobs, batch: Batch, facts: BlobFacts | None, table: Table, offset: int, run: Run
) -> AsyncGenerator[Block]:
    """The first block, and those that begin at `offset` or after it."""
    source, start = batch.input, 0
    # Packed files and arrays are read from their start: an offset in them cannot be looked up.
    if offset and _can_jump(source) and facts is not None:
        yield await _first_block(blobs, source, facts, table)
        table.jump(offset)
        start = offset
    async with aclosing(_pieces(blobs, batch, facts, start)) as pieces:
        async for piece in pieces:
            async for block in _stepwise(table.feed(piece), run):
                if block.first or block.start >= offset:
                    yield block
    async for block in _stepwise(table.finish(), run):
        if block.first or block.start >= offset:
            yield block


def _can_jump(source: BlobInput | InlineInput) -> TypeGuard[BlobInput]:
    return isinstance(source, BlobInput) and not source.gzip and source.format != "json"


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
    blobs: Blobs, source: BlobInput, facts: BlobFacts, start: int
) -> AsyncGenerator[bytes]:
    try:
        async for chunk in blobs.chunks(source.container, source.blob, facts.etag, start):
            yield chunk
    except NotFound as error:
        raise InputMissing("the input blob was deleted while it was read") from error
    except StorageRefused as error:
        raise InputUnreadable(error.reason) from error


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
