"""Which table reads which format, and what it writes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from shared.files.base import Limits, Table
    from shared.files.options import Options
    from shared.records.scoring import Scorer


Format = Literal["csv", "json", "jsonl"]
SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}


def open_table(
    kind: Format,
    scorer: Scorer,
    options: Options,
    limits: Limits,
    items: tuple[object, ...] | None = None,
) -> Table:
    """A table for a file of this format; `items` are records that were parsed already."""
    # Polars takes as long to import as half of the rest: not every message needs it.
    if kind == "csv":
        from shared.files.csv_table import CsvTable

        return CsvTable(scorer, options, limits)
    from shared.files.json_table import JsonArrayTable, JsonLinesTable

    if kind == "json":
        return JsonArrayTable(scorer, options, limits, items)
    return JsonLinesTable(scorer, options, limits)


def preload() -> None:
    """Import what `open_table` would import for the first file."""
    # What is missing is told by the file that needs it.
    with suppress(ImportError):
        import shared.files.csv_table
        import shared.files.json_table  # noqa: F401  # for later


def output_format(kind: Format) -> Literal["csv", "jsonl"]:
    """CSV for CSV, JSON lines for both forms of JSON."""
    return "csv" if kind == "csv" else "jsonl"


def format_of(name: str) -> tuple[Format | None, bool]:
    """Format by a file's name, and whether it is gzip."""
    lower = name.lower()
    plain = lower.removesuffix(".gz")
    suffix = "." + plain.rsplit(".", 1)[-1] if "." in plain else ""
    return SUFFIXES.get(suffix), plain != lower
