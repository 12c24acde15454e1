"""`heart-scorer queue`: the messages that wait for a worker."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.message_view import view_message
from cli.output import Exit, duration, say
from cli.storage import poison_queue_of, queue_of, run_with_storage

if TYPE_CHECKING:
    from shared.batches.overview import Overview
    from shared.batches.ports import Account


def queue(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the messages that wait for a worker.

    Shows age, deliveries, the time of the next visibility, batch and file. It peeks at up to 32
    messages and changes nothing. Messages hidden until a retry come from the workers' notes.

    \b
    Examples:
      heart-scorer queue
      heart-scorer queue --json
    """
    from shared.batches.overview import read_overview

    async def work(storage: Account) -> int:
        service = await read_overview(
            queue_of(storage), poison_queue_of(storage), storage.blobs(), [], datetime.now(UTC)
        )
        rows = rows_of(service)
        if as_json:
            print(json.dumps(rows, indent=1))
        elif rows:
            print(as_table(rows))
        if not as_json:
            say(
                f"{service.waiting} waiting, {len(service.retries)} retried later, "
                f"{service.in_progress} in progress"
            )
        return Exit.DONE

    raise typer.Exit(run_with_storage(work, hint=True))


def rows_of(service: Overview) -> list[dict[str, Any]]:
    """One row per message, the oldest first."""
    rows: list[dict[str, Any]] = []
    for message in service.visible:
        view = view_message(message.body, message.id)
        rows.append(
            {
                "message_id": message.id,
                "age_seconds": round((service.now - message.inserted).total_seconds()),
                "deliveries": message.dequeue_count,
                "next_visible": "now",
                "batch_id": view.batch_id,
                "names": str(view),
            }
        )
    for retry in service.retries:
        since = datetime.fromisoformat(retry.since)
        left = (datetime.fromisoformat(retry.next_attempt) - service.now).total_seconds()
        rows.append(
            {
                "message_id": None,
                "age_seconds": round((service.now - since).total_seconds()),
                "deliveries": retry.deliveries,
                "next_visible": f"in {duration(left)}",
                "batch_id": retry.batch_id,
                "names": retry.reason,
            }
        )
    return sorted(rows, key=lambda row: row["age_seconds"], reverse=True)


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows for people; of a message's id the first eight characters."""
    cells = [("message", "age", "deliveries", "next visible", "batch", "names")]
    cells += [
        (
            (row["message_id"] or "-")[:8],
            duration(row["age_seconds"]),
            str(row["deliveries"]),
            row["next_visible"],
            row["batch_id"] or "-",
            row["names"],
        )
        for row in rows
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )
