"""`heart-scorer scores`: the scores of a batch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from cli.options import Excel, ExcelPoint, check_output_or_exit, excel_format_or_exit
from cli.output import Exit, say
from cli.storage import run_with_storage, succeeded

if TYPE_CHECKING:
    from shared.batches.ports import Account, Blobs
    from shared.files.dialect import ExcelFormat


def scores(
    batch: Annotated[str, typer.Argument(help="A batch that succeeded.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file (default: stdout).")
    ] = None,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Only the rows without a score, with the reasons.")
    ] = False,
    excel: Excel = False,
    excel_point: ExcelPoint = False,
) -> None:
    """Print the scores of a batch, or write them to a file.

    \b
    Examples:
      heart-scorer scores ward-7 -o scores.csv
      heart-scorer scores ward-7 --rejected
      heart-scorer scores ward-7 --excel -o scores.csv
    """
    excel_format = excel_format_or_exit(comma=excel, point=excel_point)
    check_output_or_exit(output)

    async def work(storage: Account) -> int:
        from shared.files.result import SELECTABLE

        blobs = storage.blobs()
        summary = await succeeded(blobs, batch)
        if summary is None:
            return Exit.FAILED
        if rejected and summary["output"]["blob"].rpartition(".")[2] not in SELECTABLE:
            say("--rejected is for CSV and JSON lines: elsewhere select rows by the column error")
            return Exit.USAGE
        if excel_format and not opens_in_excel(summary):
            return Exit.USAGE
        if output is None:
            await write(blobs, summary, sys.stdout.buffer, rejected=rejected, excel=excel_format)
            return Exit.DONE
        await save_scores(blobs, summary, output, rejected=rejected, excel=excel_format)
        return Exit.DONE

    raise typer.Exit(run_with_storage(work))


def opens_in_excel(summary: dict[str, Any]) -> bool:
    """Whether a result can be written for Excel; says so if it cannot."""
    if summary["output"]["blob"].endswith(".csv"):
        return True
    say("--excel is for CSV: submit the file with --output-format csv")
    return False


async def save_scores(
    blobs: Blobs,
    summary: dict[str, Any],
    output: Path,
    *,
    rejected: bool = False,
    excel: ExcelFormat | None = None,
) -> None:
    """Write a batch's result to a file, which appears whole or not at all."""
    part = output.with_name(output.name + ".part")
    try:
        with part.open("wb") as target:
            await write(blobs, summary, target, rejected=rejected, excel=excel)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    say(f"scores   {output}")


async def write(
    blobs: Blobs,
    summary: dict[str, Any],
    target: BinaryIO,
    *,
    rejected: bool = False,
    excel: ExcelFormat | None = None,
) -> None:
    """Write a batch's result: all of it or the rejected rows, as it is or for Excel."""
    from shared.files.dialect import EXCEL
    from shared.files.result import rejected_rows, rewritten

    result = summary["output"]
    is_csv = result["blob"].endswith(".csv")
    chunks = blobs.chunks(result["container"], result["blob"], result["etag"])
    if rejected:
        chunks = rejected_rows(chunks, is_csv=is_csv)
    if excel and is_csv:
        chunks = rewritten(chunks, EXCEL[excel])
    async for chunk in chunks:
        target.write(chunk)
    target.flush()
