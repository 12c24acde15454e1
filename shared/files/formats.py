"""The reader and the writer of each format."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from shared.files.base import output_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.files.base import Limits, Table
    from shared.files.options import Options, OutputFormat
    from shared.files.output import Output
    from shared.records.scoring import Scorer


Format = Literal["csv", "json", "jsonl", "parquet", "xlsx"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
PACKED: frozenset[Format] = frozenset({"parquet", "xlsx"})
"""Formats that pack their content themselves: gzip on top of them is not read."""
FIRST_BYTES: dict[Format, bytes] = {"parquet": b"PAR1", "xlsx": b"PK"}
"""The first bytes of every file of such a format."""
NAMES = "one of .csv, .json, .jsonl, .ndjson (each also with .gz), .parquet and .xlsx"
"""The extensions of files, for people."""


def open_table(
    kind: Format,
    scorer: Scorer,
    options: Options,
    limits: Limits,
    items: tuple[object, ...] | None = None,
) -> Table:
    """A table for a file of this format; `items` are records that were parsed already."""
    output = open_output(output_format(kind, options), output_columns(scorer.kind, scorer.table))
    # Polars takes as long to import as half of the rest, and so does Arrow: not every message
    # needs them, and small files must pay nothing for large ones.
    match kind:
        case "csv":
            from shared.files.csv_table import CsvTable

            return CsvTable(scorer, options, limits, output)
        case "parquet":
            from shared.files.parquet_table import ParquetTable

            return ParquetTable(scorer, options, limits, output)
        case "xlsx":
            from shared.files.xlsx_table import XlsxTable

            return XlsxTable(scorer, options, limits, output)
        case "json":
            from shared.files.json_table import JsonArrayTable

            return JsonArrayTable(scorer, options, limits, output, items)
        case "jsonl":
            from shared.files.json_table import JsonLinesTable

            return JsonLinesTable(scorer, options, limits, output)


def open_output(kind: OutputFormat, columns: Sequence[str]) -> Output:
    """The writer of a result in this format; its library is imported late for the same reason."""
    match kind:
        case "csv":
            from shared.files.csv_output import CsvOutput

            return CsvOutput(columns)
        case "jsonl":
            from shared.files.json_output import JsonLinesOutput

            return JsonLinesOutput(columns)
        case "parquet":
            from shared.files.parquet_output import ParquetOutput

            return ParquetOutput(columns)
        case "xlsx":
            from shared.files.xlsx_output import XlsxOutput

            return XlsxOutput(columns)


def preload() -> None:
    """Import what `open_table` would import for the first file of the usual formats."""
    # A missing package is reported by the file that needs it.
    with suppress(ImportError):
        import shared.files.csv_table
        import shared.files.json_output
        import shared.files.json_table  # noqa: F401  # for later


def output_format(kind: Format, options: Options) -> OutputFormat:
    """The requested format; else that of the input if results have it."""
    if options.output:
        return options.output
    match kind:
        case "json":
            return "jsonl"
        case "xlsx":
            return "csv"
        case _:
            return kind


def format_of(name: str) -> tuple[Format | None, bool]:
    """Format by a file's name, and whether it is gzip."""
    lower = name.lower()
    plain = lower.removesuffix(".gz")
    suffix = "." + plain.rsplit(".", 1)[-1] if "." in plain else ""
    return SUFFIXES.get(suffix), plain != lower
