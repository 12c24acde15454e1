"""`heart-scorer poison`: looks after the batches that could not be read.

Entries are taken from the poison queue (a look shows 32 at most), hidden for a minute, and given
back unless they were dealt with: an interrupted command leaves each of them in the queue. A replay
is a new batch that names the old one; its entry goes only after the queue has the new message.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import Exit, say

if TYPE_CHECKING:
    from shared.message import Batch, BlobInput, InlineInput
    from shared.ports import Message
    from shared.storage import Storage, StorageQueue

HIDDEN = 60
"""Seconds that entries are hidden from others while a command looks at them."""

app = typer.Typer(help="Batches that failed: list, show, replay, drop.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="Only entries whose reason holds this text.")]
Older = Annotated[float | None, typer.Option(help="Only entries older than this many hours.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many entries.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Batches; all, if none is named.")]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the poison queue."""

    message: Message
    facts: dict[str, Any]

    @property
    def batch_id(self) -> str:
        return str(self.facts.get("batch_id", self.message.id))

    @property
    def age_hours(self) -> float:
        return (datetime.now(UTC) - self.message.inserted).total_seconds() / 3600

    def shown(self) -> dict[str, Any]:
        """What may be printed: never the body."""
        return {
            "batch_id": self.batch_id,
            "reason": self.facts.get("reason", "not an entry of the worker"),
            "time": self.facts.get("time", self.message.inserted.isoformat()),
            "deliveries": self.facts.get("deliveries"),
        }


def _entry(message: Message) -> Entry:
    try:
        facts = json.loads(message.body)
    except ValueError:
        facts = None
    return Entry(message, facts if isinstance(facts, dict) else {"body": message.body})


@asynccontextmanager
async def entries(queue: StorageQueue) -> AsyncIterator[list[Entry]]:
    """All entries, hidden from others for a minute, given back at the end unless deleted."""
    from shared.errors import OwnershipLost

    taken: list[Entry] = []
    try:
        while page := await queue.receive(32, HIDDEN):
            taken += [_entry(message) for message in page]
        yield sorted(taken, key=lambda entry: entry.message.inserted)
    finally:
        for entry in taken:
            with suppress(OwnershipLost):
                await queue.renew(entry.message, 0)


def _chosen(
    found: list[Entry],
    ids: list[str] | None,
    reason: str | None = None,
    older_than: float | None = None,
    limit: int | None = None,
) -> list[Entry]:
    chosen = [
        entry
        for entry in found
        if (not ids or entry.batch_id in ids)
        and (reason is None or reason in str(entry.facts.get("reason", "")))
        and (older_than is None or entry.age_hours > older_than)
    ]
    return chosen[:limit]


@app.command("list")
def list_entries(
    reason: Reason = None,
    older_than: Older = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """List the failed batches: reason, time, deliveries, batch id."""

    async def work(storage: Storage) -> int:
        async with entries(_queue(storage)) as found:
            chosen = _chosen(found, None, reason, older_than, limit)
            if as_json:
                print(json.dumps([entry.shown() for entry in chosen], indent=1))
            else:
                for entry in chosen:
                    shown = entry.shown()
                    print(f"{shown['time']}  {shown['batch_id']}  {shown['reason']}")
                say(f"{len(chosen)} of {len(found)} entries")
        return Exit.DONE

    _run(work)


@app.command()
def show(
    batch: Annotated[str, typer.Argument(help="The failed batch.")],
    body: Annotated[
        bool, typer.Option("--body", help="Show the message too: it may hold patients' data.")
    ] = False,
) -> None:
    """Show one failed batch; the message itself only if asked for."""

    async def work(storage: Storage) -> int:
        async with entries(_queue(storage)) as found:
            chosen = _chosen(found, [batch])
            if not chosen:
                say(f"no entry of batch {batch} in the poison queue")
                return Exit.FAILED
            for entry in chosen:
                shown = entry.shown()
                if body:
                    shown["body"] = await _body(storage, entry)
                print(json.dumps(shown, indent=1))
        return Exit.DONE

    _run(work)


@app.command()
def replay(
    batches: Ids = None,
    reason: Reason = None,
    older_than: Older = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send failed batches again, each as a new batch that names the old one."""

    async def work(storage: Storage) -> int:
        async with entries(_queue(storage)) as found:
            chosen = _chosen(found, batches, reason, older_than, limit)
            return await _act(chosen, "replay", lambda e: _replay(storage, e), dry_run, yes)

    _run(work)


@app.command()
def drop(
    batches: Ids = None,
    reason: Reason = None,
    older_than: Older = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove entries for good. The batches' failed summaries stay."""

    async def work(storage: Storage) -> int:
        queue = _queue(storage)

        async def drop_one(entry: Entry) -> str:
            await queue.delete(entry.message)
            return f"{entry.batch_id}: dropped"

        async with entries(queue) as found:
            chosen = _chosen(found, batches, reason, older_than, limit)
            return await _act(chosen, "drop", drop_one, dry_run, yes)

    _run(work)


async def _act(
    chosen: list[Entry], verb: str, act: Callable[[Entry], Any], dry_run: bool, yes: bool
) -> int:
    if not chosen:
        say("no such entries in the poison queue")
        return Exit.FAILED
    if dry_run:
        for entry in chosen:
            print(f"{entry.batch_id}: would {verb}")
        return Exit.DONE
    if not yes and not _agreed(f"{verb} {len(chosen)} entries?"):
        return Exit.USAGE
    code = Exit.DONE
    for entry in chosen:
        try:
            print(await act(entry), flush=True)
        except NotReplayable as error:
            say(f"{entry.batch_id}: {error}")
            code = Exit.FAILED
    return code


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        say(f"{question} Say --yes: nobody can answer here")
        return False
    return typer.confirm(question, err=True)


class NotReplayable(Exception):
    """An entry whose message no worker could read."""


async def _replay(storage: Storage, entry: Entry) -> str:
    from shared.message import Envelope, EnvelopeOptions
    from shared.settings import StorageSettings, load_settings

    batch = await _read_batch(storage, entry)
    new_id = await _next_id(storage, entry.batch_id)
    envelope = Envelope(
        batch_id=new_id,
        options=EnvelopeOptions(include_input=batch.include_input),
        replay_of=entry.batch_id,
        traceparent=batch.traceparent,
        **_same_input(batch.input),
    )
    await storage.queue(load_settings(StorageSettings).queue).send(envelope.text())
    # Only now: a crash before this line leaves the entry, whose replay is the same batch again.
    await _queue(storage).delete(entry.message)
    return f"{entry.batch_id}: sent again as {new_id}"


def _same_input(source: BlobInput | InlineInput) -> dict[str, Any]:
    """The envelope's part that names the input."""
    from shared.message import BlobInput, EnvelopeInput

    if isinstance(source, BlobInput):
        # No etag: what stands there now is meant, it may have been mended.
        return {
            "input": EnvelopeInput(
                container=source.container, blob=source.blob, format=source.format
            )
        }
    if source.items is None:
        return {"csv": source.content.decode()}
    return {"records": list(source.items)}


async def _read_batch(storage: Storage, entry: Entry) -> Batch:
    from shared.message import Batch, UnreadableMessage, parse_message

    body = await _body(storage, entry)
    try:
        batch = parse_message(body, entry.message.id, {"incoming", "uploads"})
    except UnreadableMessage as error:
        raise NotReplayable(f"cannot be replayed: {error.reason}") from error
    if not isinstance(batch, Batch):
        raise NotReplayable("cannot be replayed: an event that is none of ours")
    return batch


async def _body(storage: Storage, entry: Entry) -> str:
    if "body_blob" in entry.facts:
        return (await storage.blobs().read("scores", str(entry.facts["body_blob"]))).decode()
    return str(entry.facts.get("body", ""))


async def _next_id(storage: Storage, batch_id: str) -> str:
    """`{id}.r2`, or the first after it that has no outcome yet."""
    from shared.errors import NotFound

    base = batch_id.split("~")[0][:54].rstrip("._-")
    number = 2
    while True:
        name = f"{base}.r{number}"
        try:
            await storage.blobs().facts("scores", f"{name}/summary.json")
        except NotFound:
            return name
        number += 1


def _queue(storage: Storage) -> StorageQueue:
    from shared.settings import StorageSettings, load_settings

    return storage.queue(load_settings(StorageSettings).poison_queue)


def _run(work: Callable[[Storage], Any]) -> None:
    from cli.storage import run_with_storage

    raise typer.Exit(run_with_storage(work))
