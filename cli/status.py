"""`heart-scorer status`: how the service is doing, and the state of its batches."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.batch_view import as_text, exit_code
from cli.message_view import view_message
from cli.output import Exit, duration, say
from cli.storage import poison_queue_of, queue_of, run_with_storage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.batches.overview import Overview
    from shared.batches.ports import Account, BlobStore
    from shared.batches.presence import Retry
    from shared.batches.status import BatchStatus, ListedBatch

WATCH_SECONDS = 2
AT_ONCE = 20
"""Batches whose state is read at the same time."""
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def status(
    batch_id: Annotated[
        str | None, typer.Argument(help="The batch (default: the service and the latest batches).")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed batches.")] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="AGE", help="Only batches of the last 30m, 12h, 7d …"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many of the latest batches.")] = (
        20
    ),
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the service and its latest batches, or one batch.

    \b
    Examples:
      heart-scorer status
      heart-scorer status --failed --since 24h
      heart-scorer status --watch
      heart-scorer status ward-7 --json
    """
    oldest = since_or_exit(since)

    async def work(storage: Account) -> int:
        if batch_id is not None:
            return await show_batch(storage, batch_id, as_json=as_json)
        await show_service(storage, limit, oldest, failed=failed, as_json=as_json)
        return Exit.DONE

    while watch:
        if sys.stdout.isatty():
            print("\x1b[2J\x1b[H", end="")  # clears the screen
        run_with_storage(work, hint=True)
        time.sleep(WATCH_SECONDS)
    raise typer.Exit(run_with_storage(work, hint=True))


def since_or_exit(age: str | None) -> datetime | None:
    """The time so long ago; exit 2 if it cannot be read."""
    if age is None:
        return None
    match = re.fullmatch(r"(\d+)([smhd])", age)
    if match is None:
        say("--since: a number and a unit, for example 30m, 12h or 7d")
        raise typer.Exit(Exit.USAGE)
    return datetime.now(UTC) - timedelta(**{UNITS[match[2]]: int(match[1])})


async def show_batch(storage: Account, batch_id: str, *, as_json: bool) -> int:
    """Print one batch: its outcome, its progress, or what it waits for. Exit 1: failed, unknown."""
    from shared.batches.presence import read_retry
    from shared.batches.status import read_status

    blobs = storage.blobs()
    batch = await read_status(blobs, batch_id)
    if batch is not None and batch.summary is not None:
        print(json.dumps(batch.summary, indent=1) if as_json else as_text(batch.summary))
        return exit_code(batch.summary, strict=False)
    retry = await read_retry(blobs, batch_id)
    if batch is None and retry is None and not await _has_message(storage, batch_id):
        say(
            f"there is no batch {batch_id}: no outcome, nothing submitted under this id, "
            "and no message of it among those that can be seen (heart-scorer queue)"
        )
        return Exit.FAILED
    state, rows = (batch.status, batch.rows) if batch else ("queued", {"total": 0})
    parts = batch.progress.parts if batch else None
    if as_json:
        document: dict[str, Any] = {"batch_id": batch_id, "status": state, "rows": rows}
        if parts is not None:
            document["parts"] = asdict(parts)
        print(json.dumps(document | ({"retry": asdict(retry)} if retry else {}), indent=1))
        return Exit.DONE
    print(f"batch    {batch_id}\nstatus   {state}")
    if rows["total"]:
        print(f"rows     {rows['total']:,} so far")
    if parts is not None:
        print(f"shared   {parts}")
    if retry is not None:
        print(f"waiting  {describe_retry(retry, datetime.now(UTC))}")
    return Exit.DONE


async def _has_message(storage: Account, batch_id: str) -> bool:
    seen = await queue_of(storage).peek(32)
    return any(view_message(message.body, message.id).batch_id == batch_id for message in seen)


def describe_retry(retry: Retry, now: datetime) -> str:
    """Why a message waits, since when, and when it is tried again."""
    since = (now - datetime.fromisoformat(retry.since)).total_seconds()
    left = (datetime.fromisoformat(retry.next_attempt) - now).total_seconds()
    next_attempt = f"next attempt in {duration(left)}" if left > 0 else "next attempt due"
    return f"{retry.reason}, for {duration(since)}, {next_attempt}"


async def show_service(
    storage: Account, limit: int, oldest: datetime | None, *, failed: bool, as_json: bool
) -> None:
    """Print one line about the service, then a line for each of its latest batches."""
    from shared.batches.overview import read_overview
    from shared.batches.status import list_batches

    blobs = storage.blobs()
    now = datetime.now(UTC)
    listed = await list_batches(blobs)
    service = await read_overview(queue_of(storage), poison_queue_of(storage), blobs, listed, now)
    chosen = [batch for batch in listed if oldest is None or batch.time >= oldest]
    batches = await read_batches(blobs, chosen, limit, failed=failed)
    if as_json:
        documents = [batch_facts(time, batch) for time, batch in batches]
        print(json.dumps({"service": service_facts(service), "batches": documents}, indent=1))
        return
    print(service_line(service))
    if batches:
        print()
    width = max((len(batch.batch_id) for _, batch in batches), default=0)
    for changed, batch in batches:
        print(
            f"{batch.status:<9}  {batch.batch_id:<{width}}  {changed:%Y-%m-%d %H:%M:%S}Z  "
            f"{about(batch)}"
        )
    if not batches:
        say("no failed batches" if failed else "no batches")


async def read_batches(
    blobs: BlobStore, listed: Sequence[ListedBatch], limit: int, *, failed: bool
) -> list[tuple[datetime, BatchStatus]]:
    """The state of the first `limit` batches, or of the first that failed."""
    import asyncio

    from shared.batches.status import read_status

    found: list[tuple[datetime, BatchStatus]] = []
    for start in range(0, len(listed), AT_ONCE):
        if len(found) >= limit:
            break
        page = listed[start : start + AT_ONCE]
        states = await asyncio.gather(*(read_status(blobs, batch.batch_id) for batch in page))
        found += [
            (batch.time, state)
            for batch, state in zip(page, states, strict=True)
            if state is not None and (not failed or state.status == "failed")
        ]
    return found[:limit]


def about(batch: BatchStatus) -> str:
    """The rest of a batch's line: its rows, or why it failed."""
    if batch.summary is None:
        rows = f"{batch.rows['total']:,} rows so far" if batch.rows["total"] else ""
        return f"{rows}, {batch.progress.parts}" if rows and batch.progress.parts else rows
    if batch.status == "succeeded":
        rows = batch.summary["rows"]
        return f"{rows['total']:,} rows, {rows['rejected']:,} rejected"
    return str(batch.summary["reason"])


def batch_facts(changed: datetime, batch: BatchStatus) -> dict[str, Any]:
    """A batch as JSON."""
    return {
        "batch_id": batch.batch_id,
        "status": batch.status,
        "time": changed.isoformat(timespec="seconds"),
        "rows": batch.rows,
        "reason": batch.summary.get("reason") if batch.summary else None,
        "model": batch.summary.get("model") if batch.summary else None,
    }


def service_line(service: Overview) -> str:
    """The service in one line."""
    oldest = service.oldest_seconds
    waiting = f"waiting {service.waiting}"
    if oldest is not None:
        waiting += f" (oldest {duration(oldest)})"
    parts = [waiting]
    if service.retries:
        parts.append(f"retried later {len(service.retries)}")
    parts += [f"in progress {service.in_progress}", f"poison {service.poison}"]
    parts.append(_workers(service))
    if service.last_outcome is not None and service.finished is not None:
        age = duration((service.now - service.finished).total_seconds())
        last = service.last_outcome
        parts.append(f"last {last['batch_id']} {last['status']} {age} ago")
    return " · ".join(parts)


def _workers(service: Overview) -> str:
    text = f"workers {len(service.here)}"
    if not service.workers:
        return f"{text} (none was seen)"
    age = duration((service.now - service.workers[0].seen).total_seconds())
    return f"{text} (seen {age} ago)" if service.here else f"{text} (gone, last seen {age} ago)"


def service_facts(service: Overview) -> dict[str, Any]:
    """The service as JSON."""
    last = service.last_outcome
    return {
        "waiting": service.waiting,
        "oldest_seconds": service.oldest_seconds,
        "retried_later": len(service.retries),
        "in_progress": service.in_progress,
        "poison": service.poison,
        "workers": [
            asdict(worker.presence)
            | {
                "seen": worker.seen.isoformat(timespec="seconds"),
                "gone": worker.is_gone(service.now),
            }
            for worker in service.workers
        ],
        "last_outcome": last
        and {
            "batch_id": last["batch_id"],
            "status": last["status"],
            "time": last["times"]["finished"],
        },
    }
