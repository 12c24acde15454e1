"""`heart-scorer cancel`: cancel a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import Exit, say
from cli.storage import run_with_storage
from shared.records.errors import NotFound

if TYPE_CHECKING:
    from shared.batches.ports import Account


def cancel(batch: Annotated[str, typer.Argument(help="The batch.")]) -> None:
    """Cancel a waiting or running batch.

    Exit 1 if it already has an outcome.

    \b
    Example:
      heart-scorer cancel ward-7
    """

    async def work(storage: Account) -> int:
        from shared.batches.cancellation import cancel

        try:
            summary = await cancel(storage.blobs(), batch)
        except NotFound as error:
            if error.reason == "ContainerNotFound":
                raise
            say(f"batch {batch} was not submitted by the API or the command line")
            return Exit.FAILED
        if summary["status"] != "cancelled":
            say(f"batch {batch} already {summary['status']}")
            return Exit.FAILED
        print(f"batch {batch}: cancelled")
        return Exit.DONE

    raise typer.Exit(run_with_storage(work))
