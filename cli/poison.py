"""`heart-scorer poison`: looks after the batches that failed.

Entries are read by receiving them (a peek shows 32 at most): they are hidden from others for a
minute and given back at once, so that whatever interrupts a command, each is still in the queue.
Nothing is held while somebody is asked. A replay is a new batch that names the old one; its entry
goes only after the queue has the new message.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.outcome import SCORES, UPLOADS, read_summary
from cli.output import Exit, say

if TYPE_CHECKING:
    from shared.message import Batch, EnvelopeInput
    from shared.ports import Account, Message, Queue

HIDDEN = 60
"""Seconds that entries are hidden from others while a command looks at them."""
PAGE = 32
LONGEST_ID = 55
"""Characters of a batch id that leave room for `.r2`; a longer one is cut and hashed."""

app = typer.Typer(help="Batches that failed: list, show, replay, drop.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="Only entries whose reason holds this text.")]
Older = Annotated[float | None, typer.Option(help="Only entries older than this many hours.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many, the oldest first.")]
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
        return str(self.facts["batch_id"])

    @property
    def reason(self) -> str:
        return str(self.facts["reason"])

    @property
    def age_hours(self) -> float:
        return (datetime.now(UTC) - self.message.inserted).total_seconds() / 3600

    def shown(self) -> dict[str, Any]:
        """What may be printed: never the body."""
        return {key: self.facts.get(key) for key in ("batch_id", "reason", "time", "deliveries")}


def _entry(message: Message) -> Entry:
    """What the worker wrote; anything else stands for itself, as somebody put it there."""
    try:
        facts = json.loads(message.body)
    except ValueError:
        facts = None
    if isinstance(facts, dict) and {"batch_id", "reason"} <= facts.keys():
        return Entry(message, facts)
    return Entry(
        message,
        {
            "batch_id": message.id,
            "reason": "not an entry of the worker",
            "time": message.inserted.isoformat(),
            "body": message.body,
        },
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which entries a command is about."""

    ids: Collection[str] = ()
    reason: str | None = None
    older_than: float | None = None
    limit: int | None = None

    def of(self, found: Iterable[Entry]) -> list[Entry]:
        """The oldest first."""
        return [
            entry
            for entry in sorted(found, key=lambda entry: entry.message.inserted)
            if (not self.ids or entry.batch_id in self.ids)
            and (self.reason is None or self.reason in entry.reason)
            and (self.older_than is None or entry.age_hours > self.older_than)
        ][: self.limit]


async def walk(queue: Queue) -> AsyncGenerator[Entry, None]:
    """Each entry once. Those that the caller did not delete are given back at the end."""
    import asyncio

    from shared.errors import OwnershipLost

    taken: dict[str, Message] = {}

    async def give_back(message: Message) -> None:
        with suppress(OwnershipLost):  # deleted, or another command has it by now
            await queue.renew(message, 0)

    try:
        while page := await queue.receive(PAGE, HIDDEN):
            new = [message for message in page if message.id not in taken]
            taken |= {message.id: message for message in page}
            for message in new:
                yield _entry(message)
            if not new:  # the first ones are to be seen again: the walk took a minute
                break
    finally:
        messages = list(taken.values())
        for start in range(0, len(messages), PAGE):
            await asyncio.gather(*map(give_back, messages[start : start + PAGE]))


async def read_all(queue: Queue) -> list[Entry]:
    """All entries that no other command is looking at."""
    async with aclosing(walk(queue)) as entries:
        found = [entry async for entry in entries]
    if (hidden := await queue.length() - len(found)) > 0:
        say(f"{hidden} more are in the hands of another command; they are back within a minute")
    return found


@app.command("list")
def list_entries(
    reason: Reason = None,
    older_than: Older = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """List them: time, batch id, reason."""
    found = _read()
    chosen = Chosen((), reason, older_than, limit).of(found)
    if as_json:
        print(json.dumps([entry.shown() for entry in chosen], indent=1))
        return
    width = max((len(entry.batch_id) for entry in chosen), default=0)
    for entry in chosen:
        print(f"{entry.facts.get('time')}  {entry.batch_id:<{width}}  {entry.reason}")
    say(f"{len(chosen)} of {_number(len(found))}")


@app.command()
def show(
    batch: Annotated[str, typer.Argument(help="The failed batch.")],
    body: Annotated[
        bool, typer.Option("--body", help="Show the message too: it may hold patients' data.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one; the message itself only if asked for."""
    from cli.storage import run_with_storage

    async def work(storage: Account) -> list[dict[str, Any]]:
        chosen = Chosen((batch,)).of(await read_all(_queue(storage)))
        return [
            entry.shown() | ({"body": await _body(storage, entry)} if body else {})
            for entry in chosen
        ]

    found = run_with_storage(work)
    if not found:
        say(f"no entry of batch {batch} in the poison queue")
        raise typer.Exit(Exit.FAILED)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for shown in found:
        print("\n".join(f"{key:<10}  {value}" for key, value in shown.items()))


@app.command()
def replay(
    batches: Ids = None,
    reason: Reason = None,
    older_than: Older = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send them again, each as a new batch that names the old one."""
    chosen = Chosen(batches or (), reason, older_than, limit)
    _act("replay", chosen, replay_one, dry_run=dry_run, yes=yes)


@app.command()
def drop(
    batches: Ids = None,
    reason: Reason = None,
    older_than: Older = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove them for good. The batches' summaries stay."""
    chosen = Chosen(batches or (), reason, older_than, limit)
    _act("drop", chosen, drop_one, dry_run=dry_run, yes=yes)


class NotReplayable(Exception):
    """An entry whose message no worker could read."""


async def drop_one(storage: Account, entry: Entry) -> str:
    """Remove an entry; say so."""
    await _queue(storage).delete(entry.message)
    return "dropped"


async def replay_one(storage: Account, entry: Entry) -> str:
    """Send an entry's message as a new batch, remove the entry; say so. Raises `NotReplayable`."""
    from shared.message import Envelope, EnvelopeOptions
    from shared.settings import StorageSettings, load_settings

    batch = await _read_batch(storage, entry)
    new_id, sent_before = await next_id(storage, entry.batch_id)
    if not sent_before:
        envelope = Envelope(
            batch_id=new_id,
            input=await _input(storage, batch, new_id),
            options=EnvelopeOptions(include_input=batch.include_input),
            replay_of=entry.batch_id,
            traceparent=batch.traceparent,
        )
        await storage.queue(load_settings(StorageSettings).queue).send(envelope.text())
    # Only now: a crash before this line leaves the entry, whose replay is the same batch again.
    await _queue(storage).delete(entry.message)
    return f"sent again {'before ' if sent_before else ''}as {new_id}"


async def next_id(storage: Account, batch_id: str) -> tuple[str, bool]:
    """`{id}.r2`, of which the next is `.r3`, and whether it is a replay of this batch already.

    A worker may send an entry twice, and a command may die between sending and removing: the
    second replay of one batch is the first one.
    """
    base, number = _base(batch_id)
    while True:
        number += 1
        name = f"{base}.r{number}"
        summary = await read_summary(storage.blobs(), name)
        if summary is None or summary["replay_of"] == batch_id:
            return name, summary is not None


def _base(batch_id: str) -> tuple[str, int]:
    """An id without its `.r2`, and that number; one of its own where none can be behind it."""
    named = re.fullmatch(r"(.+)\.r([1-9][0-9]{0,3})", batch_id)
    base, number = (named[1], int(named[2])) if named else (batch_id, 1)
    if "~" in base or len(base) > LONGEST_ID:
        stem = base.partition("~")[0][:44].rstrip("._-")
        base = f"{stem}-{hashlib.sha256(base.encode()).hexdigest()[:8]}"
    return base, number


async def _input(storage: Account, batch: Batch, new_id: str) -> EnvelopeInput:
    """The blob that the new batch reads; records that came inside the message are put into one."""
    from shared.errors import AlreadyExists
    from shared.message import BlobInput, EnvelopeInput
    from shared.strict_json import DuplicateKeys

    source = batch.input
    if isinstance(source, BlobInput):
        # No etag: what stands there now is meant, it may have been mended.
        return EnvelopeInput(container=source.container, blob=source.blob, format=source.format)
    if any(isinstance(item, DuplicateKeys) for item in source.items or ()):
        raise NotReplayable("cannot be replayed: a key stands twice in a record")
    content = b"[%s]" % source.content if source.content.startswith(b"{") else source.content
    name = f"{new_id}/input.{source.format}"
    with suppress(AlreadyExists):  # an earlier replay of this entry was interrupted
        await storage.blobs().create(UPLOADS, name, content, "application/octet-stream")
    return EnvelopeInput(container=UPLOADS, blob=name, format=source.format)


async def _read_batch(storage: Account, entry: Entry) -> Batch:
    from shared.message import Batch, UnreadableMessage, parse_message

    body = await _body(storage, entry)
    try:
        batch = parse_message(body, entry.message.id, {"incoming", "uploads"})
    except UnreadableMessage as error:
        raise NotReplayable(f"cannot be replayed: {error.reason}") from error
    if not isinstance(batch, Batch):
        raise NotReplayable("cannot be replayed: an event that is none of ours")
    return batch


async def _body(storage: Account, entry: Entry) -> str:
    if "body_blob" in entry.facts:
        return (await storage.blobs().read(SCORES, str(entry.facts["body_blob"]))).decode()
    return str(entry.facts.get("body", ""))


def _act(
    verb: str,
    choice: Chosen,
    act: Callable[[Account, Entry], Awaitable[str]],
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Look, ask, and only then take each entry in hand."""
    from cli.storage import run_with_storage

    chosen = choice.of(_read())
    missing = set(choice.ids) - {entry.batch_id for entry in chosen}
    for batch_id in sorted(missing):
        say(f"no entry of batch {batch_id} in the poison queue")
    code = Exit.FAILED if missing else Exit.DONE
    if not chosen:
        say(f"nothing to {verb}")
    elif dry_run:
        print("\n".join(f"{entry.batch_id}: would {verb}" for entry in chosen))
    elif not yes and not _agreed(f"{verb} {_number(len(chosen))}?"):
        say("nothing was done")
        code = Exit.FAILED if sys.stdin.isatty() else Exit.USAGE
    else:
        wanted = {entry.message.id for entry in chosen}
        code = max(code, run_with_storage(lambda storage: _take(storage, wanted, act)))
    raise typer.Exit(code)


async def _take(
    storage: Account, wanted: set[str], act: Callable[[Account, Entry], Awaitable[str]]
) -> Exit:
    """Deal with each entry as soon as it is ours, long before its minute is over."""
    from shared.errors import OwnershipLost

    code = Exit.DONE
    async with aclosing(walk(_queue(storage))) as entries:
        async for entry in entries:
            if entry.message.id not in wanted:
                continue
            wanted.discard(entry.message.id)
            try:
                print(f"{entry.batch_id}: {await act(storage, entry)}", flush=True)
            except (NotReplayable, OwnershipLost) as error:
                say(f"{entry.batch_id}: {error}")
                code = Exit.FAILED
    if wanted:
        say(f"{_number(len(wanted))} in the hands of another command; try again in a minute")
        code = Exit.FAILED
    return code


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        say(f"{question} Say --yes: nobody can answer here")
        return False
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise typer.Exit(Exit.INTERRUPTED) from None


def _number(entries: int) -> str:
    return "1 entry" if entries == 1 else f"{entries} entries"


def _read() -> list[Entry]:
    from cli.storage import run_with_storage

    return run_with_storage(lambda storage: read_all(_queue(storage)))


def _queue(storage: Account) -> Queue:
    from shared.settings import StorageSettings, load_settings

    return storage.queue(load_settings(StorageSettings).poison_queue)
