"""`heart-scorer submit`: sends files as batches, and waits for their scores if asked to."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.files import format_or_exit
from cli.outcome import Sent, as_text, download, exit_code, wait_for_summary
from cli.output import Exit, say
from shared.batches.results import scores_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.batches.ports import Account, Blobs


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
        bool, typer.Option("--strict", help="Wait, and exit 3 when a row was rejected.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Wait, and write the scores to this file (one batch).")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")] = 3600,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Send files of patient records to the worker.

    \b
    Examples:
      heart-scorer submit patients.csv --wait --output scores.csv
      heart-scorer submit ward --strict
    """
    from cli.storage import run_with_storage

    chosen = expand(files)
    check_options(chosen, batch_id, output)
    several = len(files) > 1 or files[0].is_dir()

    async def work(storage: Account) -> int:
        sent: list[Sent] = []
        for file in chosen:
            name = batch_id or made_up_id(file)
            sent.append(await send(storage, file, name, include_input=include_input))
            say(f"batch {name}: sent")
        code = Exit.DONE
        found: list[Any] = [batch.batch_id for batch in sent]
        if wait or strict or output:
            code, found = await outcomes(
                storage.blobs(), sent, timeout, output, strict=strict, silent=as_json
            )
        elif not as_json:
            print("\n".join(found))
        if as_json:
            print(json.dumps(found if several else found[0], indent=1))
        return code

    raise typer.Exit(run_with_storage(work))


def expand(files: list[Path]) -> list[Path]:
    """Files as named, and of folders those whose name tells a format, in order."""
    from shared.files.formats import format_of

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


def check_options(chosen: list[Path], batch_id: str | None, output: Path | None) -> None:
    """Refuse what could only fail later, before anything is sent."""
    from shared.batches.message import BATCH_ID

    for file in chosen:
        format_or_exit(file.name)
        if file.stat().st_size == 0:
            say(f"{file}: the file is empty")
            raise typer.Exit(Exit.REFUSED)
    fault = ""
    if len(chosen) != 1 and (batch_id is not None or output is not None):
        fault = "--batch-id and --output are for one file"
    elif batch_id is not None and not re.fullmatch(BATCH_ID, batch_id):
        fault = (
            "--batch-id: 1 to 60 letters, digits, dots, dashes and underscores, "
            "a letter or digit at both ends"
        )
    elif output is not None and (output.is_dir() or not os.access(output.parent, os.W_OK)):
        fault = f"--output: {output} cannot be written"
    if fault:
        say(fault)
        raise typer.Exit(Exit.USAGE)


def made_up_id(file: Path) -> str:
    """The file's stem, the time, and four random characters."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", file.name.split(".")[0])[:30].strip("._-") or "batch"
    return f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


async def send(storage: Account, file: Path, batch_id: str, *, include_input: bool) -> Sent:
    """Submit one file: a batch exists once the queue has its message."""
    from shared.batches.submission import BLOCK, Submission, submit
    from shared.files.formats import output_format
    from shared.settings import StorageSettings, load_settings

    async def blocks() -> AsyncIterator[bytes]:
        with file.open("rb") as content:
            while block := content.read(BLOCK):
                yield block

    file_format, gzip = format_or_exit(file.name)
    submission = Submission(file_format, gzip, include_input)
    queue = storage.queue(load_settings(StorageSettings).queue)
    size = await submit(storage.blobs(), queue, batch_id, submission, blocks())
    scores = scores_name(batch_id, output_format(file_format))
    return Sent(batch_id, scores, None if gzip else size)


async def outcomes(
    blobs: Blobs,
    sent: list[Sent],
    seconds: float,
    output: Path | None,
    *,
    strict: bool,
    silent: bool,
) -> tuple[Exit, list[dict[str, Any]]]:
    """Wait for each batch, print and download as asked; how to exit, and the summaries.

    A batch that is not done when the time is over counts as running.
    """
    import asyncio

    ends = time.monotonic() + seconds
    code = Exit.DONE
    found: list[dict[str, Any]] = []
    for place, batch in enumerate(sent):
        try:
            summary = await wait_for_summary(blobs, batch, ends)
        except asyncio.CancelledError:
            for other in sent[place:]:
                say(f"batch {other.batch_id} goes on; see: heart-scorer status {other.batch_id}")
            raise
        if summary is None:
            say(f"no outcome within {seconds:g} s; see: heart-scorer status {batch.batch_id}")
            found.append({"batch_id": batch.batch_id, "status": "running"})
            code = max(code, Exit.TIMED_OUT)
            continue
        found.append(summary)
        code = max(code, exit_code(summary, strict=strict))
        if output is not None and summary["status"] == "succeeded":
            await download(blobs, batch.scores_blob, output)
        if not silent:
            print(as_text(summary), flush=True)
    return code, found
