"""Read and write files on this machine as the worker does, for the commands that need it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.output import Exit, say

if TYPE_CHECKING:
    from shared.files.base import Block, Table
    from shared.files.formats import Format
    from shared.files.options import Options, OutputFormat
    from shared.records.scoring import Scorer

Answer = tuple[int, tuple[float, ...] | None]
"""A row's number and the numbers of its answer; None where it is rejected."""

PIECE = 2 << 20
"""Bytes read at once."""


def format_or_exit(name: str) -> tuple[Format, bool]:
    """Format by a file's name, and whether it is gzip; exit 3 for an unknown format."""
    from shared.files.formats import FORMATS, NAMES, format_of

    kind, packed = format_of(name)
    if kind is None or (packed and FORMATS[kind].packed):
        say(f"{name}: the name must end in {NAMES}")
        raise typer.Exit(Exit.REFUSED)
    return kind, packed


@contextmanager
def exit_if_refused(name: str) -> Iterator[None]:
    """Say in a line why an artifact (exit 2) or the file of this name (exit 3) is refused."""
    from shared.records.errors import BadFile, StartupError

    try:
        yield
    except StartupError as error:
        say(str(error))
        raise typer.Exit(Exit.USAGE) from error
    except BadFile as error:
        say(f"{name}: refused: {error.reason}")
        raise typer.Exit(Exit.REFUSED) from error


def file_blocks(file: Path, table: Table, *, packed: bool) -> Iterator[Block]:
    """Blocks of a file, unpacked where it is gzip. Raises `BadFile`."""
    from shared.files.base import SeekingTable
    from shared.files.gunzip import Gunzip

    gunzip = Gunzip() if packed else None
    with file.open("rb") as content:
        if isinstance(table, SeekingTable):
            yield from table.blocks(content, 0)
            return
        while piece := content.read(PIECE):
            for part in gunzip.feed(piece) if gunzip else (piece,):
                yield from table.feed(part)
    if gunzip:
        gunzip.finish()
    yield from table.finish()


def output_rows(content: bytes, file_format: OutputFormat) -> Iterator[dict[str, Any]]:
    """Rows of a result. CSV begins with its header line; Parquet must be whole."""
    if file_format == "parquet":
        from shared.files.parquet_output import read_result

        yield from read_result(content)
    elif file_format == "xlsx":
        from shared.files.xlsx_output import read_result as read_workbook

        yield from read_workbook(content)
    elif file_format == "csv":
        from shared.files.result import read_rows

        yield from map(dict, read_rows(content))
    else:
        for line in content.splitlines():
            yield json.loads(line)


def scored_rows(
    file: Path, kind: Format, scorer: Scorer, *, packed: bool, options: Options | None = None
) -> Iterator[Answer]:
    """Each row's number and the numbers of its answer. Raises `BadFile`."""
    from shared.files.base import Limits
    from shared.files.formats import open_table
    from shared.files.options import Options as NoOptions

    options = replace(options or NoOptions(), output="jsonl")
    table = open_table(kind, scorer, options, Limits())
    row = 1
    for block in file_blocks(file, table, packed=packed):
        scored = table.score(table.read(block), row)
        row += scored.counts.rows
        for line in output_rows(scored.content, "jsonl"):
            yield int(line["row"]), scorer.kind.numbers(line)
