"""`heart-scorer status`: what became of a batch."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import Exit, say
from cli.submit import SCORES, report

if TYPE_CHECKING:
    from shared.storage import Storage


def status(
    batch_id: Annotated[str, typer.Argument(help="The batch's name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show a batch's outcome, or how far it has come."""
    from cli.storage import run_with_storage

    async def work(storage: Storage) -> int:
        from shared.checkpoint import DataBlock
        from shared.errors import NotFound

        blobs = storage.blobs()
        try:
            summary = json.loads(await blobs.read(SCORES, f"{batch_id}/summary.json"))
        except NotFound:
            pass
        else:
            return report(summary, as_json=as_json, strict=False)
        rows = 0
        for kind in ("csv", "jsonl"):
            staged = await blobs.staged(SCORES, f"{batch_id}/scores.{kind}")
            rows += sum(b.counts.rows for entry in staged if (b := DataBlock.parse(entry)))
        state = "running" if rows else "unknown"
        if as_json:
            sys.stdout.write(json.dumps({"batch_id": batch_id, "status": state, "rows": rows}))
            sys.stdout.write("\n")
        elif rows:
            sys.stdout.write(f"batch    {batch_id}\nstatus   running\nrows     {rows} so far\n")
        else:
            say(f"batch {batch_id}: no outcome and no rows yet (queued, or no such batch)")
        return Exit.DONE

    raise typer.Exit(run_with_storage(work))
