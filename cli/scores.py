"""`heart-scorer scores`: the scores of a batch."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from cli.output import Exit, can_write, say
from cli.storage import run_with_storage, succeeded

if TYPE_CHECKING:
    from shared.batches.ports import Account, Blobs


def scores(
    batch: Annotated[str, typer.Argument(help="A batch that succeeded.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file (default: stdout).")
    ] = None,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Only the rows without a score, with the reasons.")
    ] = False,
) -> None:
    """Print the scores of a batch, or write them to a file.

    \b
    Examples:
      heart-scorer scores ward-7 -o scores.csv
      heart-scorer scores ward-7 --rejected
    """
    if output is not None and not can_write(output):
        say(f"--output: {output} cannot be written")
        raise typer.Exit(Exit.USAGE)

    async def work(storage: Account) -> int:
        blobs = storage.blobs()
        summary = await succeeded(blobs, batch)
        if summary is None:
            return Exit.FAILED
        if rejected and summary["output"]["blob"].endswith(".parquet"):
            say("--rejected is for CSV and JSON lines: in Parquet, select rows by the column error")
            return Exit.USAGE
        if output is None:
            await write(blobs, summary, sys.stdout.buffer, rejected=rejected)
            return Exit.DONE
        await save_scores(blobs, summary, output, rejected=rejected)
        return Exit.DONE

    raise typer.Exit(run_with_storage(work))


async def save_scores(
    blobs: Blobs, summary: dict[str, Any], output: Path, *, rejected: bool = False
) -> None:
    """Write a batch's result to a file, which appears whole or not at all."""
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as target:
            await write(blobs, summary, target, rejected=rejected)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    say(f"scores   {output}")


async def write(blobs: Blobs, summary: dict[str, Any], target: BinaryIO, *, rejected: bool) -> None:
    """Write a batch's result: all of it, or the rejected rows."""
    result = summary["output"]
    chunks = blobs.chunks(result["container"], result["blob"], result["etag"])
    if not rejected:
        async for chunk in chunks:
            target.write(chunk)
    elif result["blob"].endswith(".csv"):
        await _write_rejected_rows(chunks, target)
    else:
        async for line in _lines(chunks):
            if json.loads(line)["error"]:
                target.write(line)
    target.flush()


async def _write_rejected_rows(chunks: AsyncIterator[bytes], target: BinaryIO) -> None:
    """The header and the rows with an error. A quoted cell may hold line ends."""
    column: int | None = None
    record = b""
    async for line in _lines(chunks):
        record += line
        if record.count(b'"') % 2:  # inside quotes: the record goes on
            continue
        cells = next(csv.reader(io.StringIO(record.decode(), newline="")))
        if column is None:
            column = cells.index("error")
            target.write(record)
        elif cells[column]:
            target.write(record)
        record = b""


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines with their ends."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest
