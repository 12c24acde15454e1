"""Options that say how a file is to be read, for the commands that read or send files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import Exit, say

if TYPE_CHECKING:
    from shared.files.dialect import ExcelFormat
    from shared.files.options import Options

Rename = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="NAME=FIELD",
        help="Read the column or key NAME as FIELD; may be repeated.",
    ),
]
CodingChecked = Annotated[
    bool,
    typer.Option(
        "--coding-checked", help="The codes are right: turn off the guards against another coding."
    ),
]
Sheet = Annotated[
    str | None, typer.Option("--sheet", help="Sheet of a workbook (default: the first).")
]

Excel = Annotated[
    bool,
    typer.Option("--excel", help="CSV for Excel in countries with a decimal comma (semicolons)."),
]
ExcelPoint = Annotated[
    bool, typer.Option("--excel-point", help="CSV for Excel in countries with a decimal point.")
]


def check_output_or_exit(output: Path | None) -> None:
    """Exit 2 if no file can be written to `--output`."""
    if output is not None and (output.is_dir() or not os.access(output.parent, os.W_OK)):
        say(f"--output: {output} cannot be written")
        raise typer.Exit(Exit.USAGE)


def excel_format_or_exit(*, comma: bool, point: bool) -> ExcelFormat | None:
    """The format for Excel that was asked for, if any; exit 2 if both were."""
    if comma and point:
        say("--excel and --excel-point: give one of them")
        raise typer.Exit(Exit.USAGE)
    return "excel" if comma else "excel-point" if point else None


def options_or_exit(
    rename: list[str] | None,
    *,
    coding_checked: bool,
    include_input: bool = False,
    sheet: str | None = None,
) -> Options:
    """The options of a file; exit 2 if the renames cannot be used."""
    from shared.files.options import Options, parse_rename

    try:
        mapping = parse_rename(rename or ())
    except ValueError as error:
        say(f"--rename: {error}")
        raise typer.Exit(Exit.USAGE) from error
    return Options(include_input, mapping, coding_checked, sheet=sheet)
