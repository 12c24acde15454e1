"""`heart-scorer wait`: wait for the outcome of batches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from cli.batch_view import Sent, wait_for_all
from cli.storage import run_with_storage

if TYPE_CHECKING:
    from shared.batches.ports import Account


def wait(
    batches: Annotated[list[str], typer.Argument(help="The batches.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 if a row was rejected.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Wait this many seconds at most.")] = 3600,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Wait for the outcome of batches; exit 1 if one failed.

    \b
    Examples:
      heart-scorer wait ward-7
      heart-scorer wait ward-7 ward-8 --timeout 600 --json
    """

    async def work(storage: Account) -> int:
        code, summaries = await wait_for_all(
            storage.blobs(),
            [Sent(batch_id) for batch_id in batches],
            timeout,
            strict=strict,
            silent=as_json,
        )
        if as_json:
            print(json.dumps(summaries if len(batches) > 1 else summaries[0], indent=1))
        return code

    raise typer.Exit(run_with_storage(work))
