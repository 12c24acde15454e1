"""`heart-scorer check`: the worker's own validation of a file, without storage and scoring."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from cli.batch_view import column_lines, is_incomplete
from cli.files import exit_if_refused, file_blocks, format_or_exit, output_rows
from cli.home import MODEL_DIR, pinned
from cli.options import CodingChecked, Rename, Sheet, options_or_exit
from cli.output import Exit

if TYPE_CHECKING:
    from shared.files.base import Table
    from shared.files.formats import Format
    from shared.files.options import Options
    from shared.records.counts import Counts
    from shared.records.kinds import Kind, Outputs
    from shared.records.scoring import Matrix


class NoModel:
    """Placeholder for a model: the check looks at records, not at scores."""

    version = "none"

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def outputs(self, rows: Matrix) -> Outputs:
        import numpy as np

        shape = self._kind.shape  # equal shares are an answer of every kind
        return np.full((len(rows), *shape), 1 / math.prod(shape), np.float32)


def check(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="CSV, JSON, JSONL, Parquet or XLSX.")
    ],
    first: Annotated[int, typer.Option(min=1, help="Rows to show per kind of fault.")] = 3,
    model_dir: Annotated[
        Path, typer.Option(envvar="SCORER_MODEL_DIR", help="Directory of the artifact.")
    ] = MODEL_DIR,
    rename: Rename = None,
    coding_checked: CodingChecked = False,
    sheet: Sheet = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show which rows of a file the worker would reject, and why.

    \b
    Examples:
      heart-scorer check records.csv
      heart-scorer check records.csv.gz --first 10 --json
    """
    from shared.records.artifact import read_manifest
    from shared.records.errors import BadFile

    file_format, packed = format_or_exit(file.name)
    options = options_or_exit(rename, coding_checked=coding_checked, sheet=sheet)
    with exit_if_refused(file.name):
        manifest, _ = read_manifest(model_dir, pinned())
        try:
            found = examine(
                file, file_format, packed=packed, manifest=manifest, options=options, first=first
            )
        except BadFile as error:
            if not as_json:
                raise
            print(json.dumps({"status": "refused", "reason": error.reason}))
            raise typer.Exit(Exit.REFUSED) from error
    print(json.dumps(found, indent=1) if as_json else as_text(found))
    rows = found["rows"]
    raise typer.Exit(Exit.REFUSED if is_incomplete(rows) else Exit.DONE)


def examine(
    file: Path, file_format: Format, *, packed: bool, manifest: Any, options: Options, first: int
) -> dict[str, Any]:
    """Counts, and the first rows of each code with their reasons. Raises `BadFile`."""
    from shared.files.advice import batch_warnings, sharing_advice
    from shared.files.base import Limits
    from shared.files.formats import open_table
    from shared.records.coding import Categories, check_coding
    from shared.records.counts import Counts
    from shared.records.scoring import Scorer

    kind = manifest.answer_kind
    scorer = Scorer(NoModel(kind), manifest.fields, kind)
    table = open_table(file_format, scorer, replace(options, output="jsonl"), Limits())
    counts = Counts()
    categories: Categories = {}
    examples: dict[str, list[dict[str, object]]] = {}
    for block in file_blocks(file, table, packed=packed):
        scored = table.score(table.read(block), counts.rows + 1)
        counts.add(scored.counts)
        if block.first:
            categories = scored.categories
        if scored.counts.rejected and any(
            len(examples.get(code, [])) < first for code in scored.counts.codes
        ):
            collect(scored.content, examples=examples, first=first)
    if not options.coding_checked:
        check_coding(counts, manifest.fields)
    warnings = batch_warnings(
        table.notes,
        counts,
        categories,
        manifest.fields,
        coding_checked=options.coding_checked,
    )
    warnings += sharing_advice(file.stat().st_size, file_format, packed=packed)
    return as_found(counts, table, examples, warnings)


def check_head(
    head: bytes,
    file: BinaryIO,
    file_format: Format,
    *,
    packed: bool,
    manifest: Any,
    options: Options,
) -> None:
    """Read the start of a file as the worker would, or where its names are. Raises `BadFile`."""
    from shared.files.base import Limits, SeekingTable
    from shared.files.formats import FORMATS, open_table
    from shared.files.gunzip import Gunzip
    from shared.records.scoring import Scorer

    kind = manifest.answer_kind
    scorer = Scorer(NoModel(kind), manifest.fields, kind)
    table = open_table(file_format, scorer, options, Limits())
    if isinstance(table, SeekingTable):
        if file.seekable():
            table.read(next(table.blocks(file, 0)))
        return
    if FORMATS[file_format].packed:
        if file.seekable():
            file.seek(0)
            blocks = chain(table.feed(file.read()), table.finish())
            table.read(next(blocks))
        return
    for piece in Gunzip().feed(head) if packed else (head,):
        for block in table.feed(piece):
            table.read(block)
            return


def as_found(
    counts: Counts,
    table: Table,
    examples: dict[str, list[dict[str, object]]],
    warnings: list[str],
) -> dict[str, Any]:
    """The result as a JSON document."""
    return {
        "status": "checked",
        "rows": {
            "total": counts.rows,
            "accepted": counts.rows - counts.rejected,
            "rejected": counts.rejected,
            "with_warnings": counts.warned,
        },
        "rejections": counts.codes,
        "examples": examples,
        "warnings": warnings,
        "other_coding_rows": counts.other_coding,
        "ignored_columns": list(table.ignored_columns),
        "absent_fields": list(table.absent_fields),
    }


def collect(
    content: bytes,
    *,
    examples: dict[str, list[dict[str, object]]],
    first: int,
) -> None:
    """Keep the first rejected rows of each code: their number and reasons."""
    for row in output_rows(content, "jsonl"):
        for fault in (row["error"] or "").split("; "):
            code, _, reason = fault.partition(": ")
            if reason and len(kept := examples.setdefault(code, [])) < first:
                kept.append({"row": int(row["row"]), "reason": reason})


def as_text(found: dict[str, Any]) -> str:
    """The result for people."""
    rows = found["rows"]
    lines = [
        f"rows     {rows['total']} total, {rows['accepted']} accepted, {rows['rejected']} rejected"
        + (f", {rows['with_warnings']} with warnings" if rows["with_warnings"] else "")
    ]
    for code, number in found["rejections"].items():
        lines.append(f"{number:8d} {code}")
        lines += [
            f"         row {example['row']}: {example['reason']}"
            for example in found["examples"].get(code, [])
        ]
    return "\n".join(lines + column_lines(found))
