"""`heart-scorer status`: what became of a batch, or of the latest ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import Exit, say
from cli.submit import SCORES, exit_code, progress, summary_text

if TYPE_CHECKING:
    from shared.storage import Storage


def status(
    batch_id: Annotated[str | None, typer.Argument(help="The batch; the latest, if absent.")] = (
        None
    ),
    limit: Annotated[int, typer.Option(min=1, help="How many of the latest batches.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show a batch's outcome, or how far it has come; without a batch, the latest outcomes."""
    from cli.storage import run_with_storage

    async def work(storage: Storage) -> int:
        if batch_id is None:
            return await latest(storage, limit, as_json=as_json)
        return await one(storage, batch_id, as_json=as_json)

    raise typer.Exit(run_with_storage(work))


async def one(storage: Storage, batch_id: str, *, as_json: bool) -> int:
    """One batch: its summary, or the rows staged so far."""
    from shared.errors import NotFound

    blobs = storage.blobs()
    try:
        summary = json.loads(await blobs.read(SCORES, f"{batch_id}/summary.json"))
    except NotFound:
        pass
    else:
        print(json.dumps(summary, indent=1) if as_json else summary_text(summary))
        return exit_code(summary, strict=False)
    rows = 0
    for kind in ("csv", "jsonl"):
        rows += (await progress(blobs, f"{batch_id}/scores.{kind}"))[1]
    if as_json:
        state = "running" if rows else "unknown"
        print(json.dumps({"batch_id": batch_id, "status": state, "rows": rows}))
    elif rows:
        print(f"batch    {batch_id}\nstatus   running\nrows     {rows} so far")
    else:
        say(f"batch {batch_id}: no outcome and no rows yet (queued, or no such batch)")
    return Exit.DONE


async def latest(storage: Storage, limit: int, *, as_json: bool) -> int:
    """The latest outcomes, the newest first."""
    blobs = storage.blobs()
    names = await blobs.newest(SCORES, "/summary.json", limit)
    summaries: list[dict[str, Any]] = [json.loads(await blobs.read(SCORES, n)) for n in names]
    if as_json:
        print(json.dumps(summaries, indent=1))
        return Exit.DONE
    for summary in summaries:
        rows = summary["rows"]
        what = summary.get("reason") or f"{rows['total']} rows, {rows['rejected']} rejected"
        print(
            f"{summary['times']['finished']}  {summary['status']:<9}  {summary['batch_id']}  {what}"
        )
    if not summaries:
        say("no batch has an outcome yet")
    return Exit.DONE
