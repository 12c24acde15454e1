"""`heart-scorer submit`: sends a file as a batch, and waits for its scores if asked to."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import Exit, on_terminal, say

if TYPE_CHECKING:
    from shared.ports import Blobs
    from shared.storage import Storage

UPLOADS, SCORES = "uploads", "scores"
BLOCK = 4 << 20
"""Bytes of one upload request."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch that the queue has."""

    batch_id: str
    size: int
    """Bytes of the file."""
    scores_blob: str


def submit(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, JSON or JSONL.")],
    batch_id: Annotated[str | None, typer.Option(help="Name of the batch; made up if absent.")] = (
        None
    ),
    include_input: Annotated[
        bool, typer.Option("--include-input", help="Repeat the input's columns in the result.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the outcome.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="With --wait: exit 3 when a row was rejected.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="With --wait: write the scores to this file.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")] = 3600,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Send a file of patient records to the worker, through blob and queue."""
    from cli.storage import run_with_storage
    from shared.message import BATCH_ID, format_of

    if format_of(file.name)[0] is None:
        say(f"{file.name}: the name must end in .csv, .json, .jsonl or .ndjson, or one with .gz")
        raise typer.Exit(Exit.REFUSED)
    if batch_id is not None and not re.fullmatch(BATCH_ID, batch_id):
        say("--batch-id: 1 to 60 letters, digits, dots, dashes and underscores, no dot at the ends")
        raise typer.Exit(Exit.USAGE)

    async def work(storage: Storage) -> int:
        sent = await send(storage, file, batch_id or made_up_id(file), include_input=include_input)
        say(f"batch {sent.batch_id}: sent")
        if not (wait or output):
            sys.stdout.write(sent.batch_id + "\n")
            return Exit.DONE
        summary = await wait_for_summary(storage.blobs(), sent, timeout)
        if summary is None:
            say(f"no outcome within {timeout:g} s; ask again: heart-scorer status {sent.batch_id}")
            return Exit.TIMED_OUT
        if output is not None and summary["status"] == "succeeded":
            await download(storage, sent.scores_blob, output)
        return report(summary, as_json=as_json, strict=strict)

    raise typer.Exit(run_with_storage(work))


def made_up_id(file: Path) -> str:
    """The file's stem, the time, and four random characters."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", file.name.split(".")[0])[:30].strip("._-") or "batch"
    return f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


async def send(storage: Storage, file: Path, batch_id: str, *, include_input: bool) -> Sent:
    """Upload the file, then send the message: a batch exists once the queue has it."""
    from shared.message import Envelope, EnvelopeInput, EnvelopeOptions, format_of
    from shared.settings import StorageSettings, load_settings

    blobs = storage.blobs()
    kind, _ = format_of(file.name)
    name = batch_id + "".join(file.suffixes[-2:] if file.suffix == ".gz" else file.suffixes[-1:])
    blocks: list[str] = []
    size = 0
    with file.open("rb") as content:
        while chunk := content.read(BLOCK):
            blocks.append(f"{len(blocks):064d}")
            size += len(chunk)
            await blobs.stage(UPLOADS, name, blocks[-1], chunk)
    facts = await blobs.commit(UPLOADS, name, blocks, "application/octet-stream", {})
    envelope = Envelope(
        batch_id=batch_id,
        input=EnvelopeInput(container=UPLOADS, blob=name, etag=facts.etag, format=kind),
        options=EnvelopeOptions(include_input=include_input),
    )
    await storage.queue(load_settings(StorageSettings).queue).send(envelope.text())
    return Sent(batch_id, size, f"{batch_id}/scores.{'csv' if kind == 'csv' else 'jsonl'}")


async def wait_for_summary(blobs: Blobs, sent: Sent, seconds: float) -> dict[str, Any] | None:
    """Poll for the summary, showing progress on a terminal. None: not within `seconds`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from shared.errors import NotFound

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]} rows"),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("scoring", total=max(sent.size, 1), rows=0)
    ends, pause, looked = time.monotonic() + seconds, 0.1, time.monotonic()
    with bar if on_terminal() else nullcontext():
        while time.monotonic() < ends:
            try:
                summary: dict[str, Any] = json.loads(
                    await blobs.read(SCORES, f"{sent.batch_id}/summary.json")
                )
            except NotFound:
                pass
            else:
                bar.update(task, completed=sent.size, rows=summary["rows"]["total"])
                return summary
            if time.monotonic() - looked > 5:  # listing blocks is a slow call
                offset, rows = await _progress(blobs, sent.scores_blob)
                bar.update(task, completed=offset, rows=rows)
                looked = time.monotonic()
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 2.0)
    return None


async def _progress(blobs: Blobs, scores_blob: str) -> tuple[int, int]:
    """How far the worker has come: input bytes and rows."""
    from shared.checkpoint import DataBlock

    staged = await blobs.staged(SCORES, scores_blob)
    done = [block for entry in staged if (block := DataBlock.parse(entry)) is not None]
    return (
        max((block.next_offset for block in done), default=0),
        sum(block.counts.rows for block in done),
    )


async def download(storage: Storage, scores_blob: str, output: Path) -> None:
    """Stream a result to a file; it appears whole or not at all."""
    blobs = storage.blobs()
    facts = await blobs.facts(SCORES, scores_blob)
    part = output.with_name(output.name + ".part")
    with part.open("wb") as target:
        async for chunk in blobs.chunks(SCORES, scores_blob, facts.etag):
            target.write(chunk)
    part.replace(output)
    say(f"scores   {output}")


def report(summary: dict[str, Any], *, as_json: bool, strict: bool) -> Exit:
    """Print a summary and say how to exit."""
    if as_json:
        sys.stdout.write(json.dumps(summary, indent=1) + "\n")
    else:
        sys.stdout.write(summary_text(summary) + "\n")
    if summary["status"] != "succeeded":
        return Exit.FAILED
    return Exit.REFUSED if strict and summary["rows"]["rejected"] else Exit.DONE


def summary_text(summary: dict[str, Any]) -> str:
    """A summary in a few lines for people."""
    rows = summary["rows"]
    lines = [f"batch    {summary['batch_id']}", f"status   {summary['status']}"]
    if summary["status"] != "succeeded":
        return "\n".join([*lines, f"reason   {summary['reason']}"])
    lines.append(
        f"rows     {rows['total']} total, {rows['scored']} scored, {rows['rejected']} rejected"
    )
    lines += [f"         {number} {code}" for code, number in summary["rejections"].items()]
    if summary["ignored_columns"]:
        lines.append("ignored  columns " + ", ".join(summary["ignored_columns"]))
    if summary["absent_fields"]:
        lines.append("absent   fields " + ", ".join(summary["absent_fields"]))
    if summary["other_coding_suspected"]:
        lines.append("warning  some values belong to another coding of the data")
    output = summary["output"]
    lines.append(f"scores   {output['container']}/{output['blob']}")
    return "\n".join(lines)
