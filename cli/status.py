"""`heart-scorer status`: what became of a batch, or of the latest ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.outcome import as_text, exit_code
from cli.output import Exit, say
from shared.batches.results import SCORES

if TYPE_CHECKING:
    from shared.batches.ports import Blobs
    from shared.storage.azure import Storage


def status(
    batch_id: Annotated[str | None, typer.Argument(help="The batch; the latest, if absent.")] = (
        None
    ),
    limit: Annotated[int, typer.Option(min=1, help="How many of the latest batches.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the outcome of a batch, or of the latest ones.

    \b
    Examples:
      heart-scorer status
      heart-scorer status ward-7 --json
    """
    from cli.storage import run_with_storage

    async def work(storage: Storage) -> int:
        if batch_id is None:
            return await latest(storage, limit, as_json=as_json)
        return await one(storage.blobs(), batch_id, as_json=as_json)

    raise typer.Exit(run_with_storage(work))


async def one(blobs: Blobs, batch_id: str, *, as_json: bool) -> int:
    """One batch: its summary, or its progress. Exit 1: failed, or not known."""
    from shared.batches.status import read_status

    found = await read_status(blobs, batch_id)
    if found is None:
        say(f"there is no batch {batch_id}, or its message did not come from here")
        return Exit.FAILED
    if found.summary is not None:
        print(json.dumps(found.summary, indent=1) if as_json else as_text(found.summary))
        return exit_code(found.summary, strict=False)
    if as_json:
        print(
            json.dumps({"batch_id": batch_id, "status": found.status, "rows": found.rows}, indent=1)
        )
    else:
        rows = f"\nrows     {found.rows['total']} so far" if found.rows["total"] else ""
        print(f"batch    {batch_id}\nstatus   {found.status}{rows}")
    return Exit.DONE


async def latest(storage: Storage, limit: int, *, as_json: bool) -> int:
    """The latest outcomes, the newest first."""
    blobs = storage.blobs()
    names = await blobs.newest(SCORES, "/summary.json", limit)
    summaries: list[dict[str, Any]] = [json.loads(await blobs.read(SCORES, n)) for n in names]
    if as_json:
        print(json.dumps(summaries, indent=1))
        return Exit.DONE
    width = max((len(summary["batch_id"]) for summary in summaries), default=0)
    for summary in summaries:
        rows = summary["rows"]
        what = summary.get("reason") or f"{rows['total']} rows, {rows['rejected']} rejected"
        finished = summary["times"]["finished"]
        print(f"{finished}  {summary['status']:<9}  {summary['batch_id']:<{width}}  {what}")
    if not summaries:
        say("no batch has an outcome yet")
    return Exit.DONE
