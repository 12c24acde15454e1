"""`heart-scorer scores`: the scores of a batch."""

from __future__ import annotations

import sys
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
    from shared.files.rejected import rejected_rows

    result = summary["output"]
    chunks = blobs.chunks(result["container"], result["blob"], result["etag"])
    if rejected:
        chunks = rejected_rows(chunks, is_csv=result["blob"].endswith(".csv"))
    async for chunk in chunks:
        target.write(chunk)
    target.flush()
