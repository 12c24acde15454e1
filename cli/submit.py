"""`heart-scorer submit`: sends a file as a batch, and waits for its scores if asked to."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.files import format_or_exit
from cli.output import Exit, on_terminal, say

if TYPE_CHECKING:
    from shared.ports import Blobs
    from shared.storage import Storage

UPLOADS, SCORES = "uploads", "scores"
BLOCK = 4 << 20
"""Bytes of one upload request."""
LOOK_SECONDS = 5
"""Between two looks at the staged blocks: listing them is a slow call."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A batch that the queue has."""

    batch_id: str
    size: int
    """Bytes of the file."""
    scores_blob: str


def submit(
    files: Annotated[
        list[Path],
        typer.Argument(exists=True, help="CSV, JSON or JSONL files, or folders of them."),
    ],
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
        Path | None, typer.Option(help="Wait, and write the scores to this file (one batch).")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")] = 3600,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Send files of patient records to the worker, through blob and queue."""
    from cli.storage import run_with_storage
    from shared.message import BATCH_ID

    chosen = expand(files)
    for file in chosen:
        format_or_exit(file.name)
    if len(chosen) != 1 and (batch_id is not None or output is not None):
        say("--batch-id and --output are for one file")
        raise typer.Exit(Exit.USAGE)
    if batch_id is not None and not re.fullmatch(BATCH_ID, batch_id):
        say("--batch-id: 1 to 60 letters, digits, dots, dashes and underscores, no dot at the ends")
        raise typer.Exit(Exit.USAGE)

    async def work(storage: Storage) -> int:
        sent: list[Sent] = []
        for file in chosen:
            name = batch_id or made_up_id(file)
            sent.append(await send(storage, file, name, include_input=include_input))
            say(f"batch {name}: sent")
        if not (wait or output):
            ids = [batch.batch_id for batch in sent]
            print(json.dumps(ids) if as_json else "\n".join(ids))
            return Exit.DONE
        return await outcomes(storage, sent, timeout, as_json=as_json, strict=strict, output=output)

    raise typer.Exit(run_with_storage(work))


def expand(files: list[Path]) -> list[Path]:
    """Files as named, and of folders those whose name tells a format, in order."""
    from shared.message import format_of

    found: list[Path] = []
    for file in files:
        if file.is_dir():
            inside = sorted(f for f in file.iterdir() if f.is_file() and format_of(f.name)[0])
            if not inside:
                say(f"{file}: no .csv, .json, .jsonl or .ndjson in this folder")
                raise typer.Exit(Exit.REFUSED)
            found += inside
        else:
            found.append(file)
    return found


async def outcomes(
    storage: Storage,
    sent: list[Sent],
    seconds: float,
    *,
    as_json: bool,
    strict: bool,
    output: Path | None,
) -> int:
    """Wait for each batch and report it; the worst exit code of all."""
    code = Exit.DONE
    summaries: list[dict[str, Any]] = []
    ends = time.monotonic() + seconds
    for batch in sent:
        try:
            summary = await wait_for_summary(storage.blobs(), batch, ends)
        except asyncio.CancelledError:
            say(f"batch {batch.batch_id} goes on; see: heart-scorer status {batch.batch_id}")
            raise
        if summary is None:
            say(f"no outcome within {seconds:g} s; see: heart-scorer status {batch.batch_id}")
            return Exit.TIMED_OUT
        if output is not None and summary["status"] == "succeeded":
            await download(storage, batch.scores_blob, output)
        summaries.append(summary)
        if not as_json:
            print(summary_text(summary), flush=True)
        code = max(code, exit_code(summary, strict=strict))
    if as_json:
        print(json.dumps(summaries[0] if len(sent) == 1 else summaries, indent=1))
    return code


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


async def wait_for_summary(blobs: Blobs, sent: Sent, ends: float) -> dict[str, Any] | None:
    """Poll for the summary, showing progress on a terminal. None: not until `ends`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from shared.errors import NotFound

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]} rows, {task.fields[speed]} rows/s"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(sent.batch_id, total=max(sent.size, 1), rows=0, speed="–")
    begun = looked = time.monotonic()
    pause = 0.1
    with bar if on_terminal() else nullcontext():
        while time.monotonic() < ends:
            try:
                summary: dict[str, Any] = json.loads(
                    await blobs.read(SCORES, f"{sent.batch_id}/summary.json")
                )
            except NotFound:
                pass
            else:
                return summary
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                offset, rows = await progress(blobs, sent.scores_blob)
                speed = f"{rows / (looked - begun):,.0f}"
                bar.update(task, completed=offset, rows=f"{rows:,}", speed=speed)
                if not on_terminal() and rows:
                    say(f"batch {sent.batch_id}: {rows:,} rows, {speed} rows/s")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 2.0)
    return None


async def progress(blobs: Blobs, scores_blob: str) -> tuple[int, int]:
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


def exit_code(summary: dict[str, Any], *, strict: bool) -> Exit:
    """How to exit after a batch with this summary."""
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
