"""`heart-scorer poison`: list, show, replay and drop the batches that failed.

`poison_queue` reads the entries, `replay` sends one again. No entry is hidden from others while a
person answers a question.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.message_view import input_facts, view_message
from cli.output import Exit, say
from cli.poison_queue import Entry, Selection, message_of, read_all, walk
from cli.replay import NotReplayable, replay_one
from cli.storage import poison_queue_of, run_with_storage
from shared.batches.results import read_summary

if TYPE_CHECKING:
    from shared.batches.ports import Account

HELP = """List, show, replay and drop failed batches.

\b
Examples:
  heart-scorer poison list
  heart-scorer poison replay ward-7
"""
app = typer.Typer(help=HELP, no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="Only entries whose reason contains this text.")]
Older = Annotated[float | None, typer.Option(help="Only entries older than this many hours.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many, oldest first.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
All = Annotated[bool, typer.Option("--all", help="All entries that match the other options.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the entries and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Failed batches; or --all.")]


@app.command("list")
def list_entries(
    reason: Reason = None,
    older_than: Older = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """List failed batches: time, batch id, reason.

    \b
    Examples:
      heart-scorer poison list
      heart-scorer poison list --reason column --older-than 24
    """
    entries = _read()
    chosen = Selection((), reason, older_than, limit).of(entries)
    if as_json:
        print(json.dumps([entry.shown() for entry in chosen], indent=1))
        return
    for line in as_lines(chosen):
        print(line)
    say(f"{len(chosen)} of {_counted(len(entries))}")


def as_lines(entries: list[Entry]) -> list[str]:
    """One line per entry."""
    width = max((len(entry.batch_id) for entry in entries), default=0)
    return [
        f"{entry.facts.get('time')}  {entry.batch_id:<{width}}  {entry.reason}" for entry in entries
    ]


@app.command()
def show(
    batch: Annotated[str, typer.Argument(help="The failed batch.")],
    body: Annotated[
        bool, typer.Option("--body", help="Print the message too: it may hold people's data.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show why a batch failed, its input and its model.

    \b
    Examples:
      heart-scorer poison show ward-7
      heart-scorer poison show ward-7 --body
    """

    async def work(storage: Account) -> list[dict[str, Any]]:
        chosen = Selection((batch,)).of(await read_all(poison_queue_of(storage)))
        return [await describe(storage, entry, body=body) for entry in chosen]

    described = run_with_storage(work)
    if not described:
        say(f"no entry of batch {batch} in the poison queue")
        raise typer.Exit(Exit.FAILED)
    if as_json:
        print(json.dumps(described, indent=1))
        return
    for one in described:
        print("\n".join(f"{name:<10}  {_as_text(value)}" for name, value in one.items()))


async def describe(storage: Account, entry: Entry, *, body: bool) -> dict[str, Any]:
    """The facts of an entry, of its input and of its model; the message only if asked for."""
    blobs = storage.blobs()
    message = await message_of(storage, entry)
    facts = entry.shown()
    facts["input"] = await input_facts(blobs, view_message(message, entry.message.id))
    summary = await read_summary(blobs, entry.batch_id)
    facts["model"] = (summary or {}).get("model")
    return facts | ({"body": message} if body else {})


def _as_text(value: Any) -> str:
    match value:
        case {"container": container, "blob": blob, "bytes": size}:
            return f"{container}/{blob} ({'not there' if size is None else f'{size:,} bytes'})"
        case {"inline": True, "bytes": size}:
            return "inside the message" + ("" if size is None else f" ({size:,} bytes)")
        case {"name": name, "version": version}:
            return f"{name} {version}"
        case None:
            return "not recorded"
        case _:
            return str(value)


@app.command()
def replay(
    batches: Ids = None,
    every: All = False,
    reason: Reason = None,
    older_than: Older = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send failed batches again, each as a new batch that refers to the old one.

    \b
    Examples:
      heart-scorer poison replay ward-7
      heart-scorer poison replay --all --reason column --dry-run
    """
    selection = Selection(batches or (), reason, older_than, limit)
    _act("replay", selection, replay_one, every=every, dry_run=dry_run, yes=yes)


@app.command()
def drop(
    batches: Ids = None,
    every: All = False,
    reason: Reason = None,
    older_than: Older = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Delete entries for good; the summaries of their batches stay.

    \b
    Examples:
      heart-scorer poison drop ward-7
      heart-scorer poison drop --all --older-than 720
    """
    selection = Selection(batches or (), reason, older_than, limit)
    _act("drop", selection, drop_one, every=every, dry_run=dry_run, yes=yes)


async def drop_one(storage: Account, entry: Entry) -> str:
    """Delete an entry and report it."""
    await poison_queue_of(storage).delete(entry.message)
    return "dropped"


def _act(
    name: str,
    selection: Selection,
    act: Callable[[Account, Entry], Awaitable[str]],
    *,
    every: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Read the entries, list them, ask, and only then receive and process each."""
    if every == bool(selection.ids):
        say(f"name the batches to {name}, or use --all")
        raise typer.Exit(Exit.USAGE)
    chosen = selection.of(_read())
    missing = set(selection.ids) - {entry.batch_id for entry in chosen}
    for batch_id in sorted(missing):
        say(f"no entry of batch {batch_id} in the poison queue")
    code = Exit.FAILED if missing else Exit.DONE
    if not chosen:
        say(f"nothing to {name}")
        raise typer.Exit(code)
    if dry_run:
        print("\n".join(as_lines(chosen)))
        say(f"would {name} {_counted(len(chosen))}")
        raise typer.Exit(code)
    say("\n".join(as_lines(chosen)))
    if not yes and not _agreed(f"{name} {_counted(len(chosen))}?"):
        say("nothing was done")
        code = Exit.FAILED if sys.stdin.isatty() else Exit.USAGE
    else:
        wanted = {entry.message.id for entry in chosen}
        code = max(code, run_with_storage(lambda storage: _process(storage, wanted, act)))
    raise typer.Exit(code)


async def _process(
    storage: Account, wanted: set[str], act: Callable[[Account, Entry], Awaitable[str]]
) -> Exit:
    """Process each entry as soon as it is received, long before it is visible again."""
    from shared.records.errors import OwnershipLost

    code = Exit.DONE
    async with aclosing(walk(poison_queue_of(storage))) as entries:
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
        say(f"{_counted(len(wanted))} being read by another command; try again in a minute")
        code = Exit.FAILED
    return code


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        say(f"{question} There is no terminal to answer: use --yes")
        return False
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise typer.Exit(Exit.INTERRUPTED) from None


def _counted(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _read() -> list[Entry]:
    return run_with_storage(lambda storage: read_all(poison_queue_of(storage)))
