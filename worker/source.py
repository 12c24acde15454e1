"""A batch's input as blocks, from the place where the last delivery ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from shared.errors import InputMissing, NotFound
from shared.gunzip import Gunzip
from shared.message import Batch, BlobInput, InlineInput
from shared.ports import BlobFacts, Blobs
from shared.tables import Block, Table

T = TypeVar("T")

Run = Callable[..., Any]
"""Runs a function: at once, or in a thread."""


async def read_rows(
    blobs: Blobs, batch: Batch, facts: BlobFacts | None, table: Table, offset: int, run: Run
) -> AsyncGenerator[tuple[Block, Any]]:
    """Blocks that begin at or behind `offset`, with their rows read and checked.

    `facts` are of the input blob, if there is one.
    """
    async with aclosing(_blocks(blobs, batch, facts, table, offset, run)) as blocks:
        async for block in blocks:
            yield block, await run(table.read, block)


async def _blocks(
    blobs: Blobs, batch: Batch, facts: BlobFacts | None, table: Table, offset: int, run: Run
) -> AsyncGenerator[Block]:
    """Blocks that begin at or behind `offset`."""

    def is_missing(block: Block) -> bool:
        # The first block of a file without rows ends where it begins: behind the header.
        return block.start >= offset and not (offset and block.first)

    async with aclosing(_pieces(blobs, batch, facts, table, offset)) as pieces:
        async for piece in pieces:
            async for block in _stepwise(table.feed(piece), run):
                if is_missing(block):
                    yield block
    async for block in _stepwise(table.finish(), run):
        if is_missing(block):
            yield block


async def _pieces(
    blobs: Blobs, batch: Batch, facts: BlobFacts | None, table: Table, offset: int
) -> AsyncGenerator[bytes]:
    source = batch.input
    if isinstance(source, InlineInput) or facts is None:
        yield source.content if isinstance(source, InlineInput) else b""
        return
    start = 0
    # Packed files and arrays are read again from their start: places in them are not ours to find.
    if offset and not source.gzip and source.format != "json":
        await _jump(blobs, source, facts, table, offset)
        start = offset
    if start >= facts.size:
        return
    async with aclosing(ahead(_chunks(blobs, source, facts, start))) as chunks:
        if not source.gzip:
            async for chunk in chunks:
                yield chunk
            return
        gunzip = Gunzip()
        async for chunk in chunks:
            for piece in gunzip.feed(chunk):
                yield piece
        gunzip.finish()


async def _jump(
    blobs: Blobs, source: BlobInput, facts: BlobFacts, table: Table, offset: int
) -> None:
    """Read the file's head, then go on from `offset`."""
    async with aclosing(_chunks(blobs, source, facts, 0)) as chunks:
        async for chunk in chunks:
            for _ in table.feed(chunk):
                break
            if table.ready:
                break
    table.jump(offset)


async def _chunks(
    blobs: Blobs, source: BlobInput, facts: BlobFacts, start: int
) -> AsyncGenerator[bytes]:
    try:
        async for chunk in blobs.chunks(source.container, source.blob, facts.etag, start):
            yield chunk
    except NotFound as error:
        raise InputMissing("the input blob was deleted while it was read") from error


async def ahead(source: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """Get the next thing while the last one is worked on."""
    pending = asyncio.ensure_future(anext(source, None))
    try:
        while (piece := await pending) is not None:
            pending = asyncio.ensure_future(anext(source, None))
            yield piece
    finally:
        pending.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await pending
        await source.aclose()


async def _stepwise(blocks: Iterator[Block], run: Run) -> AsyncIterator[Block]:
    """Blocks one at a time, each found outside the event loop where that pays."""
    while (block := await run(next, blocks, None)) is not None:
        yield block
