"""`heart-scorer submit`: send files as batches and, if asked to, wait for their scores."""

from __future__ import annotations

import json
import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal

import typer

from cli.batch_view import Sent, wait_for_all
from cli.files import exit_if_refused, format_or_exit
from cli.home import MODEL_DIR, pinned
from cli.options import (
    CodingChecked,
    Excel,
    ExcelPoint,
    Rename,
    Sheet,
    check_output_or_exit,
    excel_format_or_exit,
    options_or_exit,
)
from cli.output import Exit, on_terminal, say
from cli.storage import queue_of, run_with_storage
from shared.files.options import OutputFormat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.batches.ports import Account
    from shared.files.formats import Format
    from shared.files.options import Options

STDIN = Path("-")
HEAD = 1 << 20
"""Bytes that are read to check a file's header."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to send, or stdin."""

    path: Path
    format: Format
    gzip: bool
    head: bytes
    """The first bytes of stdin, which can be read only once; of a file they are read again."""

    @property
    def name(self) -> str:
        return "stdin" if self.path == STDIN else str(self.path)

    @property
    def size(self) -> int | None:
        return None if self.path == STDIN else self.path.stat().st_size


def submit(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="CSV, JSON, JSONL, Parquet or XLSX files, folders of them, or - for stdin."
        ),
    ],
    batch_id: Annotated[str | None, typer.Option(help="Batch ID (default: generated).")] = None,
    include_input: Annotated[
        bool, typer.Option("--include-input", help="Repeat the input's columns in the result.")
    ] = False,
    rename: Rename = None,
    coding_checked: CodingChecked = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Make a profile even if the file is small.")
    ] = False,
    sheet: Sheet = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait for the outcome.")] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Wait, and exit 3 if a row was rejected or there was none."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Wait, and write the scores to this file (one batch)."),
    ] = None,
    excel: Excel = False,
    excel_point: ExcelPoint = False,
    timeout: Annotated[float, typer.Option(min=1, help="Wait this many seconds at most.")] = 3600,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Check the header before sending.")
    ] = True,
    output_format: Annotated[
        OutputFormat | None,
        typer.Option(help="Format of the result (default: the file's)."),
    ] = None,
    stdin_format: Annotated[
        Literal["csv", "json", "jsonl", "parquet"],
        typer.Option("--format", help="Format of stdin."),
    ] = "csv",
    model_dir: Annotated[
        Path,
        typer.Option(envvar="SCORER_MODEL_DIR", help="Artifact that the header check uses."),
    ] = MODEL_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Send files of records to the worker.

    \b
    Examples:
      heart-scorer submit records.csv -o scores.csv
      heart-scorer submit records.csv --excel -o scores.csv
      heart-scorer submit ward --wait --strict
      zcat records.csv.gz | heart-scorer submit - --wait
    """
    sources = expand(files, stdin_format)
    check_options(sources, batch_id, output)
    excel_format = excel_format_or_exit(comma=excel, point=excel_point)
    if excel_format:
        if output is None or output_format not in (None, "csv"):
            say("--excel is for a CSV file that --output names")
            raise typer.Exit(Exit.USAGE)
        output_format = "csv"
    options = replace(
        options_or_exit(
            rename, coding_checked=coding_checked, include_input=include_input, sheet=sheet
        ),
        output=output_format,
        profile=profile,
    )
    if check:
        check_headers(sources, model_dir, options)
    several = len(files) > 1 or files[0].is_dir()

    async def work(storage: Account) -> int:
        sent: list[Sent] = []
        for source in sources:
            name = batch_id or generated_id(source.path)
            sent.append(await send(storage, source, name, options))
            say(f"batch {name}: sent")
        code = Exit.DONE
        results: list[Any] = [batch.batch_id for batch in sent]
        if wait or strict or output:
            code, results = await wait_for_all(
                storage.blobs(),
                sent,
                timeout,
                strict=strict,
                silent=as_json,
                output=output,
                excel=excel_format,
            )
        elif not as_json:
            print("\n".join(results))
        if as_json:
            print(json.dumps(results if several else results[0], indent=1))
        return code

    raise typer.Exit(run_with_storage(work))


def expand(files: list[Path], stdin_format: Format) -> list[Source]:
    """The files, and those in the folders whose names have a known extension, in order."""
    from shared.files.formats import NAMES, format_of

    sources: list[Source] = []
    for file in files:
        if file == STDIN:
            head = sys.stdin.buffer.read(HEAD)
            sources.append(Source(file, stdin_format, head.startswith(b"\x1f\x8b"), head))
            continue
        inside = [file]
        if file.is_dir():
            inside = sorted(f for f in file.iterdir() if f.is_file() and format_of(f.name)[0])
            if not inside:
                say(f"{file}: no file in this folder ends in {NAMES}")
                raise typer.Exit(Exit.REFUSED)
        elif not file.exists():
            say(f"{file} does not exist")
            raise typer.Exit(Exit.USAGE)
        sources += [Source(path, *format_or_exit(path.name), b"") for path in inside]
    return sources


def check_options(sources: list[Source], batch_id: str | None, output: Path | None) -> None:
    """Refuse what can only fail later, before anything is sent."""
    from shared.batches.message import BATCH_ID

    for source in sources:
        if not (source.head or source.size):
            say(f"{source.name}: the file is empty")
            raise typer.Exit(Exit.REFUSED)
    fault = ""
    if len(sources) != 1 and (batch_id is not None or output is not None):
        fault = "--batch-id and --output are for one file"
    elif batch_id is not None and not re.fullmatch(BATCH_ID, batch_id):
        fault = (
            "--batch-id: 1 to 60 letters, digits, dots, dashes and underscores, "
            "a letter or digit at both ends"
        )
    if fault:
        say(fault)
        raise typer.Exit(Exit.USAGE)
    check_output_or_exit(output)


def check_headers(sources: list[Source], model_dir: Path, options: Options) -> None:
    """Read the start of each file as the worker would; exit 3 for one that it would refuse."""
    from cli.check import check_head
    from shared.records.artifact import read_manifest
    from shared.records.errors import StartupError

    try:
        manifest, _ = read_manifest(model_dir, pinned())
    except StartupError:
        say(f"headers are not checked: there is no model in {model_dir}")
        return
    for source in sources:
        with exit_if_refused(source.name), _opened(source) as content:
            check_head(
                source.head or content.read(HEAD),
                content,
                source.format,
                packed=source.gzip,
                manifest=manifest,
                options=options,
            )


def generated_id(file: Path) -> str:
    """The file's stem, the time, and four random characters."""
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", file.name.split(".")[0])[:30].strip("._-") or "batch"
    return f"{stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


async def send(storage: Account, source: Source, batch_id: str, options: Options) -> Sent:
    """Submit one file: a batch exists once the queue has its message."""
    from shared.batches.submission import BLOCK, Submission, submit

    async def blocks(advance: Callable[[int], None]) -> AsyncIterator[bytes]:
        with _opened(source) as content:
            if source.head:
                yield source.head
            while block := content.read(BLOCK):
                yield block
                advance(len(block))

    submission = Submission(source.format, source.gzip, options)
    with _upload_bar(batch_id, source.size) if on_terminal() else nullcontext(_ignore) as advance:
        submitted = await submit(
            storage.blobs(), queue_of(storage), batch_id, submission, blocks(advance)
        )
    size = None if source.gzip else submitted.size
    return Sent(batch_id, size, submitted.identity)


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if source.path == STDIN:
        yield sys.stdin.buffer
        return
    with source.path.open("rb") as content:
        yield content


@contextmanager
def _upload_bar(name: str, size: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar that counts uploaded bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"uploading {name}", total=size)
        yield lambda done: bar.advance(task, done)


def _ignore(_: int) -> None:
    """Nobody watches the upload."""
