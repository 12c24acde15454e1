"""`heart-scorer report`: a page about a batch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import check_output_or_exit
from cli.output import Exit, say
from cli.storage import run_with_storage, succeeded
from shared.batches.results import read_profile

if TYPE_CHECKING:
    from shared.batches.ports import Account


def report(
    batch: Annotated[str, typer.Argument(help="A batch that succeeded.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file (default: stdout).")
    ] = None,
) -> None:
    """Make a page about a batch: what came in, what went out, what differs from training.

    \b
    Examples:
      heart-scorer report ward-7 -o report.html
    """
    check_output_or_exit(output)

    async def work(storage: Account) -> int:
        from shared.batches.report import report_page

        blobs = storage.blobs()
        summary = await succeeded(blobs, batch)
        if summary is None:
            return Exit.FAILED
        page = report_page(summary, await read_profile(blobs, summary))
        if output is None:
            sys.stdout.buffer.write(page.encode())
        else:
            output.write_text(page, encoding="utf-8")
            say(f"report   {output}")
        return Exit.DONE

    raise typer.Exit(run_with_storage(work))
