"""The formats of files: their names and media types, their readers and writers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.files.base import output_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.files.base import Limits, Table
    from shared.files.options import Options, OutputFormat
    from shared.files.output import Output
    from shared.records.scoring import Scorer


Format = Literal["csv", "json", "jsonl", "parquet", "xlsx"]


@dataclass(frozen=True, slots=True)
class FormatFacts:
    """How files of a format are named and recognised."""

    suffixes: tuple[str, ...]
    media_types: tuple[str, ...]
    """Of uploads; results have the first."""
    first_bytes: bytes = b""
    """Of every file of a packed format: it compresses its content itself, so gzip is refused."""
    library: str = ""
    """The package that reads and writes it, if no other format needs that package."""

    @property
    def packed(self) -> bool:
        return bool(self.first_bytes)

    @property
    def content_type(self) -> str:
        """The media type of a result, with its encoding."""
        media_type = self.media_types[0]
        return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


FORMATS: dict[Format, FormatFacts] = {
    "csv": FormatFacts((".csv",), ("text/csv",)),
    "json": FormatFacts((".json",), ("application/json",)),
    "jsonl": FormatFacts((".jsonl", ".ndjson"), ("application/x-ndjson", "application/jsonl")),
    "parquet": FormatFacts(
        (".parquet",), ("application/vnd.apache.parquet",), b"PAR1", library="pyarrow"
    ),
    "xlsx": FormatFacts(
        (".xlsx",),
        ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",),
        b"PK",
        library="openpyxl",
    ),
}
SUFFIXES = {suffix: kind for kind, facts in FORMATS.items() for suffix in facts.suffixes}
MEDIA_TYPES = {name: kind for kind, facts in FORMATS.items() for name in facts.media_types}
_PLAIN, _PACKED = (
    [suffix for suffix, kind in SUFFIXES.items() if FORMATS[kind].packed == packed]
    for packed in (False, True)
)
NAMES = f"one of {', '.join(_PLAIN)} (each also with .gz), {' and '.join(_PACKED)}"
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
    # Polars and Arrow take long to import. Not every message needs them, and small files must not
    # pay for large ones.
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
        import numpy.ma  # noqa: F401  # NumPy and Polars would import it with the first block

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
