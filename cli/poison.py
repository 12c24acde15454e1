"""`heart-scorer poison`: looks after the batches that failed.

How entries are read is in `poison_queue`, how one is sent again in `replay`. Nothing is held while
somebody is asked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import Exit, say
from cli.poison_queue import Entry, Selection, message_of, poison_queue, read_all, walk
from cli.replay import NotReplayable, replay_one

if TYPE_CHECKING:
    from shared.batches.ports import Account

app = typer.Typer(help="Batches that failed: list, show, replay, drop.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="Only entries whose reason holds this text.")]
Older = Annotated[float | None, typer.Option(help="Only entries older than this many hours.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many, the oldest first.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Batches; all, if none is named.")]


@app.command("list")
def list_entries(
    reason: Reason = None,
    older_than: Older = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """List them: time, batch id, reason."""
    found = _read()
    chosen = Selection((), reason, older_than, limit).of(found)
    if as_json:
        print(json.dumps([entry.shown() for entry in chosen], indent=1))
        return
    width = max((len(entry.batch_id) for entry in chosen), default=0)
    for entry in chosen:
        print(f"{entry.facts.get('time')}  {entry.batch_id:<{width}}  {entry.reason}")
    say(f"{len(chosen)} of {_counted(len(found))}")


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
        chosen = Selection((batch,)).of(await read_all(poison_queue(storage)))
        return [
            entry.shown() | ({"body": await message_of(storage, entry)} if body else {})
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
    selection = Selection(batches or (), reason, older_than, limit)
    _act("replay", selection, replay_one, dry_run=dry_run, yes=yes)


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
    selection = Selection(batches or (), reason, older_than, limit)
    _act("drop", selection, drop_one, dry_run=dry_run, yes=yes)


async def drop_one(storage: Account, entry: Entry) -> str:
    """Remove an entry; say so."""
    await poison_queue(storage).delete(entry.message)
    return "dropped"


def _act(
    verb: str,
    selection: Selection,
    act: Callable[[Account, Entry], Awaitable[str]],
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Look, ask, and only then take each entry in hand."""
    from cli.storage import run_with_storage

    chosen = selection.of(_read())
    missing = set(selection.ids) - {entry.batch_id for entry in chosen}
    for batch_id in sorted(missing):
        say(f"no entry of batch {batch_id} in the poison queue")
    code = Exit.FAILED if missing else Exit.DONE
    if not chosen:
        say(f"nothing to {verb}")
    elif dry_run:
        print("\n".join(f"{entry.batch_id}: would {verb}" for entry in chosen))
    elif not yes and not _agreed(f"{verb} {_counted(len(chosen))}?"):
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
    from shared.records.errors import OwnershipLost

    code = Exit.DONE
    async with aclosing(walk(poison_queue(storage))) as entries:
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
        say(f"{_counted(len(wanted))} in the hands of another command; try again in a minute")
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


def _counted(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _read() -> list[Entry]:
    from cli.storage import run_with_storage

    return run_with_storage(lambda storage: read_all(poison_queue(storage)))
