"""Read and write files on this machine as the worker does, for the commands that need it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cli.output import Exit, say

if TYPE_CHECKING:
    from shared.files.base import Block, Table
    from shared.files.formats import Format
    from shared.files.options import Options
    from shared.records.scoring import Scorer

PIECE = 2 << 20
"""Bytes read at once."""


def format_or_exit(name: str) -> tuple[Format, bool]:
    """Format by a file's name, and whether it is gzip; exit 3 for an unknown format."""
    from shared.files.formats import format_of

    kind, packed = format_of(name)
    if kind is None:
        say(f"{name}: the name must end in .csv, .json, .jsonl or .ndjson, or one with .gz")
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
    from shared.files.gunzip import Gunzip

    gunzip = Gunzip() if packed else None
    with file.open("rb") as content:
        while piece := content.read(PIECE):
            for part in gunzip.feed(piece) if gunzip else (piece,):
                yield from table.feed(part)
    if gunzip:
        gunzip.finish()
    yield from table.finish()


def output_rows(content: bytes, kind: Format, *, header: bool) -> Iterator[dict[str, Any]]:
    """Rows of a piece of output; `header`: it begins with the header line (CSV)."""
    from shared.files.base import OUTPUT_COLUMNS

    if kind == "csv":
        lines = io.StringIO(content.decode(), newline="")
        yield from csv.DictReader(lines, None if header else OUTPUT_COLUMNS)
    else:
        for line in content.splitlines():
            yield json.loads(line)


def scored_rows(
    file: Path, kind: Format, scorer: Scorer, *, packed: bool, options: Options | None = None
) -> Iterator[tuple[int, float | None]]:
    """Row number and probability of each row; None where it is rejected. Raises `BadFile`."""
    from shared.files.base import Limits
    from shared.files.formats import open_table
    from shared.files.options import Options as NoOptions

    table = open_table(kind, scorer, options or NoOptions(), Limits())
    row = 1
    for block in file_blocks(file, table, packed=packed):
        scored = table.score(table.read(block), row)
        row += scored.counts.rows
        for line in output_rows(scored.content, kind, header=block.first):
            yield int(line["row"]), probability_of(line)


def probability_of(line: dict[str, Any]) -> float | None:
    """The probability of an output row; None where it was rejected."""
    value = line["probability"]
    return None if value in (None, "") else float(value)
